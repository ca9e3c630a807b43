//! Rules that need the coins. The header is marked.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Txid};
use l1_utxo::consensus::transaction::MAX_MONEY;

use super::rule::{Edit, Left, Rule, reason};
use super::world::{COIN, Draft, HEIGHT, World, first_of, output, spend};

const fn rule(name: &'static str, reason: &'static str, break_it: Edit, keep_it: Edit) -> Rule {
    Rule { name, reason, left: Left::Mark, break_it, keep_it }
}

const MISSING: &str = "bad-txns-inputs-missingorspent";
const FALSE: &str = "block-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack element)";

pub const RULES: &[Rule] = &[
    rule(
        "no output is made that exists (BIP 30)",
        "bad-txns-BIP30",
        |world, draft| {
            let made = first_of(draft.coinbase());
            world.put(made, [0x51], 1);
        },
        |world, draft| {
            // One that this transaction does not make.
            let beyond = OutPoint { vout: 1, ..first_of(draft.coinbase()) };
            world.put(beyond, [0x51], 1);
        },
    ),
    rule(
        "not the last output of the last transaction",
        "bad-txns-BIP30",
        |world, draft| overwrite(world, draft, 1),
        |world, draft| overwrite(world, draft, 2),
    ),
    rule(
        "a coin exists",
        MISSING,
        |_, draft| {
            draft.spend(&[OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 }], 1);
        },
        |world, draft| {
            let unknown = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
            world.put(unknown, [0x51], 1);
            draft.spend(&[unknown], 1);
        },
    ),
    rule(
        "it is spent once in a block",
        MISSING,
        |world, draft| {
            let coin = world.give_anyone(10);
            draft.spend(&[coin], 1);
            draft.spend(&[coin], 2);
        },
        |world, draft| {
            let coin = world.give_anyone(10);
            let next = first_of(draft.spend(&[coin], 10));
            draft.spend(&[next], 2);
        },
    ),
    rule(
        "it is spent once in the chain",
        MISSING,
        |world, draft| {
            spent_before(world, draft, 0);
        },
        |world, draft| {
            spent_before(world, draft, 1);
        },
    ),
    rule(
        "it is made earlier in the block",
        MISSING,
        |world, draft| parent_and_child(world, draft, true),
        |world, draft| parent_and_child(world, draft, false),
    ),
    rule(
        "by an output that is there",
        MISSING,
        |world, draft| {
            let coin = world.give_anyone(10);
            let made = first_of(draft.spend(&[coin], 10));
            draft.spend(&[OutPoint { vout: 1, ..made }], 1);
        },
        |world, draft| {
            let coin = world.give_anyone(10);
            let parent = draft.spend(&[coin], 5);
            parent.output.push(output([0x51], 5));
            let made = OutPoint { vout: 1, ..first_of(parent) };
            draft.spend(&[made], 1);
        },
    ),
    rule(
        "an OP_RETURN makes no coin",
        MISSING,
        |world, draft| make_and_spend(world, draft, &[0x6a]),
        |world, draft| make_and_spend(world, draft, &[0x51]),
    ),
    rule(
        "nor does a script of more than 10,000 bytes",
        MISSING,
        |world, draft| make_and_spend(world, draft, &pushes(10_001)),
        |world, draft| make_and_spend(world, draft, &pushes(10_000)),
    ),
    rule(
        "a coinbase is spent 100 blocks later",
        "bad-txns-premature-spend-of-coinbase",
        |world, draft| {
            let coin = world.coinbase_at(HEIGHT + 1 - 99);
            draft.spend(&[coin], 1);
        },
        |world, draft| {
            let coin = world.coinbase_at(HEIGHT + 1 - 100);
            draft.spend(&[coin], 1);
        },
    ),
    rule(
        "not in its own block",
        "bad-txns-premature-spend-of-coinbase",
        |_, draft| {
            let coin = first_of(draft.coinbase());
            draft.spend(&[coin], 1);
        },
        |_, _| (),
    ),
    rule(
        "inputs pay for the outputs",
        "bad-txns-in-belowout",
        |world, draft| {
            let coins = [world.give_anyone(10), world.give_anyone(7)];
            draft.spend(&coins, 18);
        },
        |world, draft| {
            let coins = [world.give_anyone(10), world.give_anyone(7)];
            draft.spend(&coins, 17);
        },
    ),
    rule(
        "inputs are worth at most 21 million",
        "bad-txns-inputvalues-outofrange",
        |world, draft| {
            let coins = [world.give_anyone(MAX_MONEY), world.give_anyone(1)];
            draft.spend(&coins, MAX_MONEY);
        },
        |world, draft| {
            let coins = [world.give_anyone(MAX_MONEY - 1), world.give_anyone(1)];
            draft.spend(&coins, MAX_MONEY);
        },
    ),
    rule(
        "each of them",
        "bad-txns-inputvalues-outofrange",
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY + 1);
            draft.spend(&[coin], 1);
        },
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY);
            draft.spend(&[coin], 1);
        },
    ),
    rule(
        "fees together are at most 21 million",
        "bad-txns-accumulated-fee-outofrange",
        |world, draft| {
            let coins = [world.give_anyone(MAX_MONEY), world.give_anyone(2)];
            draft.spend(&coins[..1], 0);
            draft.spend(&coins[1..], 1);
        },
        |world, draft| {
            let coins = [world.give_anyone(MAX_MONEY), world.give_anyone(2)];
            draft.spend(&coins[..1], 1);
            draft.spend(&coins[1..], 1);
        },
    ),
    rule(
        "every script is true",
        FALSE,
        |world, draft| {
            let coins = [world.give_anyone(1), world.give([0x00], 1)];
            draft.spend(&coins, 1);
        },
        |world, draft| {
            let coins = [world.give_anyone(1), world.give([0x52], 1)];
            draft.spend(&coins, 1);
        },
    ),
    rule(
        "blocks obey BIP 147",
        "block-script-verify-flag-failed (Dummy CHECKMULTISIG argument must be zero)",
        |world, draft| run(world, draft, &[0x51], &[0x00, 0x00, 0xae]),
        |world, draft| run(world, draft, &[0x00], &[0x00, 0x00, 0xae]),
    ),
    rule(
        "blocks obey BIP 65",
        "block-script-verify-flag-failed (Locktime requirement not satisfied)",
        |world, draft| locked_until(world, draft, HEIGHT as u8 + 1, HEIGHT),
        |world, draft| locked_until(world, draft, HEIGHT as u8, HEIGHT),
    ),
    rule(
        "blocks obey BIP 112",
        "block-script-verify-flag-failed (Locktime requirement not satisfied)",
        |world, draft| {
            run(world, draft, &[], &[0x53, 0xb2]);
            draft.transactions[1].input[0].sequence = bitcoin::Sequence(2);
        },
        |world, draft| {
            run(world, draft, &[], &[0x53, 0xb2]);
            draft.transactions[1].input[0].sequence = bitcoin::Sequence(3);
        },
    ),
    rule(
        "blocks obey BIP 66",
        "block-script-verify-flag-failed (Non-canonical DER signature)",
        |world, draft| run(world, draft, &[0x01, 0x01, 0x51], &[0xac, 0x91]),
        // Policy asks for a key that can be one; blocks do not.
        |world, draft| run(world, draft, &[0x00, 0x51], &[0xac, 0x91]),
    ),
    rule(
        "blocks obey BIP 16",
        FALSE,
        |world, draft| redeem(world, draft, &[0x00]),
        |world, draft| redeem(world, draft, &[0x51]),
    ),
    rule(
        "blocks obey BIP 141",
        "block-script-verify-flag-failed (Witness program was passed an empty witness)",
        |world, draft| {
            let coin = world.give([&[0x00, 32][..], &[7; 32]].concat(), 1);
            draft.spend(&[coin], 1);
        },
        |world, draft| {
            let coin = world.give([&[0x52, 32][..], &[7; 32]].concat(), 1);
            draft.spend(&[coin], 1);
        },
    ),
    rule(
        "blocks obey BIP 341",
        "block-script-verify-flag-failed (Witness program was passed an empty witness)",
        |world, draft| {
            let coin = world.give([&[0x51, 32][..], &[7; 32]].concat(), 1);
            draft.spend(&[coin], 1);
        },
        |world, draft| {
            let coin = world.give([&[0x51, 31][..], &[7; 31]].concat(), 1);
            draft.spend(&[coin], 1);
        },
    ),
];

fn overwrite(world: &mut World, draft: &mut Draft, vout: u32) {
    let coin = world.give_anyone(10);
    let transaction = draft.spend(&[coin], 5);
    transaction.output.push(output([0x51], 5));
    let made = OutPoint { vout, ..first_of(transaction) };
    world.put(made, [0x51], 1);
}

/// Spends a coin, and then output `vout` of a transaction whose output 0 the block before spent.
fn spent_before(world: &mut World, draft: &mut Draft, vout: u32) {
    let coin = world.give_anyone(10);
    let mut first = spend(&[coin], 5);
    first.output.push(output([0x51], 5));
    let made = OutPoint { vout, ..first_of(&first) };
    let mut before = Draft::on_tip(world);
    let second = spend(&[first_of(&first)], 5);
    before.push(first);
    before.push(second);
    world.submit(before.seal()).unwrap();
    *draft = Draft::on_tip(world);
    draft.spend(&[made], 4);
}

fn parent_and_child(world: &mut World, draft: &mut Draft, child_first: bool) {
    let coin = world.give_anyone(10);
    let parent = spend(&[coin], 10);
    draft.spend(&[first_of(&parent)], 10);
    draft.transactions.insert(if child_first { 2 } else { 1 }, parent);
}

fn make_and_spend(world: &mut World, draft: &mut Draft, script: &[u8]) {
    let coin = world.give_anyone(10);
    let transaction = draft.spend(&[coin], 0);
    transaction.output = vec![output(script, 10)];
    let made = first_of(transaction);
    draft.spend(&[made], 10);
}

/// A script of so many bytes that is true.
fn pushes(size: usize) -> Vec<u8> {
    let mut script = [&[0x4d, 0xf8, 0x01][..], &[1; 504], &[0x75]].concat().repeat(19);
    let rest = size - script.len() - 4;
    script.extend([&[0x4d][..], &(rest as u16 - 1).to_le_bytes(), &vec![1; rest - 1], &[0x75, 0x51]].concat());
    script.truncate(size);
    assert_eq!((script.len(), script.last()), (size, Some(&0x51)));
    script
}

fn run(world: &mut World, draft: &mut Draft, script_sig: &[u8], script_pubkey: &[u8]) {
    let coin = world.give(script_pubkey, 1);
    draft.spend(&[coin], 1).input[0].script_sig = script_sig.to_vec().into();
}

fn locked_until(world: &mut World, draft: &mut Draft, height: u8, lock_time: u32) {
    run(world, draft, &[], &[1, height, 0xb1]);
    draft.transactions[1].input[0].sequence = bitcoin::Sequence(0xffff_fffe);
    draft.transactions[1].lock_time = bitcoin::absolute::LockTime::from_consensus(lock_time);
}

fn redeem(world: &mut World, draft: &mut Draft, script: &[u8]) {
    let coin = world.give(bitcoin::Script::from_bytes(script).to_p2sh().into_bytes(), 1);
    draft.spend(&[coin], 1).input[0].script_sig = [&[script.len() as u8], script].concat().into();
}

/// BIP 30 asks for unspent coins only: what was wholly spent may be made again.
#[test]
fn a_spent_transaction_may_be_made_again() {
    let mut world = World::grown();
    let coin = world.give_anyone(10);
    let (first, second) = (spend(&[coin], 10), spend(&[first_of(&spend(&[coin], 10))], 10));
    let mut draft = Draft::on_tip(&world);
    draft.push(first.clone());
    world.submit(draft.seal()).unwrap();
    let again = |world: &World| {
        let mut draft = Draft::on_tip(world);
        draft.push(first.clone());
        draft.seal()
    };
    world.flush(0);
    world.put(coin, [0x51], 10);
    let block = again(&world);
    assert_eq!(reason(&mut world, &block), "bad-txns-BIP30");
    let mut draft = Draft::on_tip(&world);
    draft.push(second);
    world.submit(draft.seal()).unwrap();
    let block = again(&world);
    assert_eq!(reason(&mut world, &block), "");
}

/// A thousand inputs and a thousand transactions run over all cores: the first that fails is named, whichever is ready
/// first.
#[test]
fn the_first_failing_script_in_block_order_is_named() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    for n in 0..200u8 {
        let script: &[u8] = match n {
            150 => &[0x00],
            100 => &[0x6a, 0x51],
            _ => &[0x51],
        };
        let mut coins: Vec<OutPoint> = (0..20).map(|_| world.give_anyone(1)).collect();
        coins[17] = world.give([&[0x51][..], script].concat(), 1);
        draft.spend(&coins, 1);
    }
    let block = draft.seal();
    assert_eq!(reason(&mut world, &block), "block-script-verify-flag-failed (OP_RETURN was encountered)");
}

#[test]
fn what_a_block_amounts_to() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    let coins = [world.give_anyone(COIN), world.give_anyone(COIN)];
    draft.spend(&coins, COIN + 7);
    let block = l1_utxo::consensus::HashedBlock::new(draft.seal());
    let connection = world.chain.check_template(&world.archive, &block, world.now).unwrap();
    assert_eq!(connection.fees, Amount::from_sat(COIN - 7));
    assert_eq!(connection.undo.spent[0].len(), 2);
}
