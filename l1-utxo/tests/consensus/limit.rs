//! Blocks at the limits of weight and of signature operations of each kind.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{OutPoint, Script, ScriptBuf, Witness};
use l1_utxo::consensus::HashedBlock;

use super::rule::{Edit, Left, Rule};
use super::witness::ANY_WITNESS;
use super::world::{Draft, World, output};

const fn sigops(name: &'static str, left: Left, break_it: Edit, keep_it: Edit) -> Rule {
    Rule { name, reason: "bad-blk-sigops", left, break_it, keep_it }
}

const CHECKSIG: u8 = 0xac;
const CHECKMULTISIG: u8 = 0xae;

pub const RULES: &[Rule] = &[
    sigops(
        "20,000 legacy ones, in an output of the coinbase",
        Left::Nothing,
        |_, draft| draft.coinbase().output.push(output(vec![CHECKSIG; 20_001], 0)),
        |_, draft| draft.coinbase().output.push(output(vec![CHECKSIG; 20_000], 0)),
    ),
    sigops(
        "in the script of the coinbase",
        Left::Nothing,
        |_, draft| coinbase_script(draft, 20_000 - 10),
        |_, draft| coinbase_script(draft, 20_000 - 11),
    ),
    sigops(
        "in the scriptSig of a spend, run or not",
        Left::Nothing,
        |world, draft| script_sig(world, draft, 20_000),
        |world, draft| script_sig(world, draft, 19_999),
    ),
    sigops(
        "20 for a bare multisig, whatever its number of keys",
        Left::Nothing,
        |_, draft| draft.coinbase().output.push(output([0x51, CHECKMULTISIG].repeat(1_001), 0)),
        |_, draft| draft.coinbase().output.push(output([0x51, CHECKMULTISIG].repeat(1_000), 0)),
    ),
    sigops(
        "up to where a script cannot be read",
        Left::Nothing,
        |_, draft| unreadable(draft, 20_001),
        |_, draft| unreadable(draft, 20_000),
    ),
    sigops(
        "what is pushed is none",
        Left::Nothing,
        |_, draft| draft.coinbase().output.push(output([&[0x4c, 1, CHECKSIG][..], &[CHECKSIG; 20_001]].concat(), 0)),
        |_, draft| draft.coinbase().output.push(output([&[0x4c, 1, CHECKSIG][..], &[CHECKSIG; 20_000]].concat(), 0)),
    ),
    sigops(
        "20,000 in redeem scripts",
        Left::Mark,
        |world, draft| p2sh(world, draft, 20_001),
        |world, draft| p2sh(world, draft, 20_000),
    ),
    sigops(
        "keys of a redeem script's multisig are counted one by one",
        Left::Mark,
        |world, draft| {
            p2sh(world, draft, 20_000 - 3);
            p2sh_multisig(world, draft, 4);
        },
        |world, draft| {
            p2sh(world, draft, 20_000 - 3);
            p2sh_multisig(world, draft, 3);
        },
    ),
    sigops(
        "80,000 in witness scripts",
        Left::Mark,
        |world, draft| p2wsh(world, draft, 80_001, false),
        |world, draft| p2wsh(world, draft, 80_000, false),
    ),
    sigops(
        "80,000 in nested witness scripts",
        Left::Mark,
        |world, draft| p2wsh(world, draft, 80_001, true),
        |world, draft| p2wsh(world, draft, 80_000, true),
    ),
    sigops(
        "legacy, redeem scripts' and witnesses' together",
        Left::Mark,
        |world, draft| all_kinds(world, draft, 20_001),
        |world, draft| all_kinds(world, draft, 20_000),
    ),
    Rule {
        name: "a weight of 4,000,000, of witnesses",
        reason: "bad-blk-weight",
        left: Left::Mark,
        break_it: |world, draft| weigh(world, draft, 4_000_001),
        keep_it: |world, draft| weigh(world, draft, 4_000_000),
    },
    Rule {
        name: "a weight of 4,000,000, of bytes of both kinds",
        reason: "bad-blk-weight",
        left: Left::Mark,
        break_it: |world, draft| {
            draft.pad_stripped_to(700_000);
            weigh(world, draft, 4_000_001);
        },
        keep_it: |world, draft| {
            draft.pad_stripped_to(700_000);
            weigh(world, draft, 4_000_000);
        },
    },
];

/// A script of 100 bytes with ten operations, beside so many in an output.
fn coinbase_script(draft: &mut Draft, others: usize) {
    let height = draft.coinbase().input[0].script_sig.to_bytes()[..2].to_vec();
    draft.coinbase().input[0].script_sig = ScriptBuf::from_bytes([&height[..], &[CHECKSIG; 11]].concat());
    draft.coinbase().output.push(output(vec![CHECKSIG; others], 0));
}

/// One more in a scriptSig, in a branch that is not taken, beside so many in an output.
fn script_sig(world: &mut World, draft: &mut Draft, others: usize) {
    let coin = world.give_anyone(1);
    draft.spend(&[coin], 1).input[0].script_sig = ScriptBuf::from_bytes(vec![0x00, 0x63, CHECKSIG, 0x68]);
    draft.coinbase().output.push(output(vec![CHECKSIG; others], 0));
}

fn unreadable(draft: &mut Draft, count: usize) {
    let script = [vec![CHECKSIG; count], vec![0x4d, 0xff], vec![CHECKSIG; 1]].concat();
    draft.coinbase().output.push(output(script, 0));
}

/// A script that is true, with so many operations in a branch that is not taken.
fn script_of(count: usize) -> Vec<u8> {
    let (multisigs, checks) = (count / 20, count % 20);
    [&[0x00, 0x63][..], &vec![CHECKMULTISIG; multisigs], &vec![CHECKSIG; checks], &[0x68, 0x51]].concat()
}

/// At most 201 operations are in a script.
const MOST_IN_A_SCRIPT: usize = 180 * 20;

/// So many operations, over scripts that hold at most `MOST_IN_A_SCRIPT`.
fn scripts_of(count: usize) -> Vec<Vec<u8>> {
    let rest = count % MOST_IN_A_SCRIPT;
    let mut scripts = vec![script_of(MOST_IN_A_SCRIPT); count / MOST_IN_A_SCRIPT];
    scripts.push(script_of(rest));
    scripts
}

fn pushed(data: &[u8]) -> ScriptBuf {
    Builder::new().push_slice(PushBytesBuf::try_from(data.to_vec()).unwrap()).into_script()
}

fn spend_p2sh(world: &mut World, draft: &mut Draft, redeem: &[u8], more: &[u8]) {
    let coin = world.give(Script::from_bytes(redeem).to_p2sh().into_bytes(), 1);
    let script = [more, pushed(redeem).as_bytes()].concat();
    draft.spend(&[coin], 1).input[0].script_sig = ScriptBuf::from_bytes(script);
}

fn p2sh(world: &mut World, draft: &mut Draft, count: usize) {
    for redeem in scripts_of(count) {
        spend_p2sh(world, draft, &redeem, &[]);
    }
}

/// A multisig that asks for no signature of so many keys.
fn p2sh_multisig(world: &mut World, draft: &mut Draft, keys: u8) {
    let redeem = [&[0x00][..], &vec![0x51; keys.into()], &[0x50 + keys, CHECKMULTISIG]].concat();
    spend_p2sh(world, draft, &redeem, &[0x00]);
}

fn p2wsh(world: &mut World, draft: &mut Draft, count: usize, nested: bool) {
    for script in scripts_of(count) {
        let program = [&[0, 32][..], sha256::Hash::hash(&script).as_byte_array()].concat();
        let mut script_sig = ScriptBuf::new();
        let coin: OutPoint = if nested {
            script_sig = pushed(&program);
            world.give(Script::from_bytes(&program).to_p2sh().into_bytes(), 1)
        } else {
            world.give(program, 1)
        };
        let input = &mut draft.spend(&[coin], 1).input[0];
        (input.script_sig, input.witness) = (script_sig, Witness::from_slice(&[script]));
    }
    draft.commit();
}

fn all_kinds(world: &mut World, draft: &mut Draft, in_witnesses: usize) {
    draft.coinbase().output.push(output(vec![CHECKSIG; 5_000], 0));
    p2sh(world, draft, 10_000);
    p2wsh(world, draft, in_witnesses, false);
}

/// Adds a spend with a witness that makes the block so heavy.
fn weigh(world: &mut World, draft: &mut Draft, weight: usize) {
    let coin = world.give(ANY_WITNESS, 1);
    draft.spend(&[coin], 1);
    draft.commit();
    let weight_with = |draft: &mut Draft, size: usize| {
        draft.transactions[1].input[0].witness = Witness::from_slice(&[vec![0; size]]);
        let block = HashedBlock::new(bitcoin::Block { header: draft.header, txdata: draft.transactions.clone() });
        3 * block.stripped_size() + block.total_size()
    };
    let size = 100_000 + weight - weight_with(draft, 100_000);
    assert_eq!(weight_with(draft, size), weight);
    draft.coinbase().output.pop();
    draft.commit();
}
