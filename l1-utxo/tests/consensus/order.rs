//! Where a block breaks two rules the one that is checked first is reported: every pair of the list, and the rules of one
//! spend one after the other.

use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::transaction;
use bitcoin::{BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Txid, Witness};
use l1_utxo::consensus::transaction::MAX_MONEY;

use super::rule::{Edit, reason};
use super::witness::ANY_WITNESS;
use super::world::{COIN, Draft, HEIGHT, World, first_of, output};

const ORDER: &[(&str, Edit)] = &[
    ("high-hash", |_, draft| draft.proof = false),
    ("bad-txnmrklroot", |_, draft| draft.right_root = false),
    ("bad-txns-duplicate", |world, draft| {
        // An even number of leaves, the last two of which are the same.
        while draft.transactions.len().is_multiple_of(2) {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 1);
        }
        let last = draft.transactions.last().unwrap().clone();
        draft.push(last);
    }),
    ("bad-blk-length", |_, draft| draft.pad_stripped_to(1_200_000)),
    ("bad-cb-missing", |world, draft| {
        let coin = world.give_anyone(1);
        draft.coinbase().input[0].previous_output = coin;
    }),
    ("bad-cb-multiple", |_, draft| {
        let mut second = draft.coinbase().clone();
        second.lock_time = LockTime::from_consensus(1);
        draft.push(second);
    }),
    ("bad-txns-vin-empty", |_, draft| {
        draft.spend(&[], 0);
    }),
    ("bad-blk-sigops", |_, draft| draft.coinbase().output.push(output(vec![0xac; 20_001], 0))),
    ("prev-blk-not-found", |_, draft| draft.header.prev_blockhash = BlockHash::from_byte_array([1; 32])),
    ("bad-diffbits", |_, draft| draft.header.bits = CompactTarget::from_consensus(0x207f_fffe)),
    ("time-too-old", |world, draft| draft.header.time = world.chain.tip_entry().median_time_past),
    ("time-too-new", |world, draft| world.now = u64::from(draft.header.time) - 7_201),
    ("bad-version(0x00000001)", |_, draft| draft.header.version = Version::from_consensus(1)),
    ("bad-txns-nonfinal", |_, draft| {
        draft.coinbase().lock_time = LockTime::from_consensus(HEIGHT + 1);
        draft.coinbase().input[0].sequence = Sequence::ZERO;
    }),
    ("bad-cb-height", |_, draft| draft.coinbase().input[0].script_sig = ScriptBuf::from_bytes(vec![0x51, 0x51])),
    ("bad-witness-nonce-size", |_, draft| {
        draft.commit();
        draft.coinbase().input[0].witness.clear();
    }),
    ("bad-witness-merkle-match", |world, draft| {
        let coin = world.give(ANY_WITNESS, 1);
        draft.commit();
        draft.spend(&[coin], 1).input[0].witness = Witness::from_slice(&[[1]]);
    }),
    ("bad-blk-weight", |world, draft| {
        let coin = world.give(ANY_WITNESS, 1);
        draft.spend(&[coin], 1).input[0].witness = Witness::from_slice(&[vec![0; 4_000_000]]);
        draft.commit();
    }),
    ("bad-txns-BIP30", |world, draft| {
        let coin = world.give_anyone(1);
        let made = first_of(draft.spend(&[coin], 1));
        world.put(made, [0x51], 1);
    }),
    ("bad-txns-inputs-missingorspent", |_, draft| {
        draft.spend(&[OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 }], 1);
    }),
];

#[test]
fn of_two_broken_rules_the_earlier_is_reported() {
    let mut pairs = 0;
    for (later, (second, break_second)) in ORDER.iter().enumerate() {
        for (first, break_first) in &ORDER[..later] {
            let mut world = World::grown();
            let mut draft = Draft::on_tip(&world);
            break_second(&mut world, &mut draft);
            break_first(&mut world, &mut draft);
            assert_eq!(reason(&mut world, &draft.seal()), *first, "{first} before {second}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, ORDER.len() * (ORDER.len() - 1) / 2);
}

/// One spend that breaks all rules that need coins, and is mended one by one.
#[test]
fn the_rules_of_a_spend_are_checked_in_order() {
    let mut reasons = Vec::new();
    for mended in 0..=8 {
        let mut world = World::grown();
        let mut draft = Draft::on_tip(&world);
        let costly = [&[0x00, 0x63][..], &[0xae; 180], &[0x68, 0x00]].concat();
        let mut coins = vec![world.give_anyone(MAX_MONEY)];
        for _ in 0..6 {
            coins.push(world.give(bitcoin::Script::from_bytes(&costly).to_p2sh().into_bytes(), 1));
        }
        if mended < 3 {
            coins.push(world.give_anyone(1));
        } else {
            coins.remove(0);
            coins.insert(0, world.give_anyone(if mended < 5 { MAX_MONEY - 10 } else { COIN }));
        }
        if mended < 2 {
            coins.insert(0, world.coinbase_at(HEIGHT));
        }
        if mended < 1 {
            coins.push(OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 });
        }
        if mended == 4 {
            let other = world.give_anyone(100);
            draft.spend(&[other], 0);
        }
        let sat = if mended < 4 { MAX_MONEY } else { 0 };
        let transaction = draft.spend(&coins, sat);
        transaction.version = transaction::Version::TWO;
        for input in &mut transaction.input {
            let is_costly = coins[1..7].contains(&input.previous_output) && mended < 7;
            if is_costly {
                input.script_sig = [&[0x4c, costly.len() as u8][..], &costly].concat().into();
            }
            if mended < 6 {
                input.sequence = Sequence(1_000);
            }
        }
        if mended == 7 {
            transaction.input.truncate(1);
            transaction.input[0].script_sig = vec![0x6a].into();
        }
        if mended == 8 {
            transaction.input.truncate(1);
            draft.coinbase().output[0].value = bitcoin::Amount::from_sat(60 * COIN);
        }
        reasons.push(reason(&mut world, &draft.seal()));
    }
    assert_eq!(
        reasons,
        [
            "bad-txns-inputs-missingorspent",
            "bad-txns-premature-spend-of-coinbase",
            "bad-txns-inputvalues-outofrange",
            "bad-txns-in-belowout",
            "bad-txns-accumulated-fee-outofrange",
            "bad-txns-nonfinal",
            "bad-blk-sigops",
            "block-script-verify-flag-failed (OP_RETURN was encountered)",
            "bad-cb-amount",
        ]
    );
}
