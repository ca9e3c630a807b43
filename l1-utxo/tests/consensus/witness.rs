//! What a coinbase commits to (BIP 141). Whoever passes a block on can change its witnesses: the header is never marked.

use bitcoin::Witness;
use l1_utxo::consensus::block::witness_commitment_script;

use super::rule::{Edit, Left, Rule, reason};
use super::world::{Draft, World, output};

/// A program of a version to come: any witness spends it.
pub const ANY_WITNESS: [u8; 4] = [0x52, 2, 7, 7];

const fn rule(name: &'static str, reason: &'static str, break_it: Edit, keep_it: Edit) -> Rule {
    Rule { name, reason, left: Left::Header, break_it, keep_it }
}

pub const RULES: &[Rule] = &[
    rule(
        "without a commitment no transaction has a witness",
        "unexpected-witness",
        |world, draft| {
            with_witness(world, draft);
        },
        |world, draft| {
            with_witness(world, draft);
            draft.transactions[1].input[0].witness.clear();
        },
    ),
    rule(
        "nor has the coinbase",
        "unexpected-witness",
        |_, draft| draft.coinbase().input[0].witness = Witness::from_slice(&[[0; 32]]),
        |_, draft| draft.commit(),
    ),
    rule(
        "a witness is committed to",
        "bad-witness-merkle-match",
        |world, draft| {
            draft.commit();
            with_witness(world, draft);
        },
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
        },
    ),
    rule(
        "with the coinbase's reserved value",
        "bad-witness-merkle-match",
        |_, draft| {
            draft.commit();
            draft.coinbase().input[0].witness = Witness::from_slice(&[[1; 32]]);
        },
        |_, draft| {
            let script = witness_commitment_script(&draft.transactions, &[1; 32]);
            draft.coinbase().output.push(output(script.into_bytes(), 0));
            draft.coinbase().input[0].witness = Witness::from_slice(&[[1; 32]]);
        },
    ),
    rule(
        "there is a reserved value",
        "bad-witness-nonce-size",
        |_, draft| {
            draft.commit();
            draft.coinbase().input[0].witness.clear();
        },
        |_, draft| draft.commit(),
    ),
    rule(
        "one reserved value",
        "bad-witness-nonce-size",
        |_, draft| {
            draft.commit();
            draft.coinbase().input[0].witness.push([0; 32]);
        },
        |_, draft| draft.commit(),
    ),
    rule("not of 31 bytes", "bad-witness-nonce-size", |_, draft| reserved(draft, 31), |_, draft| reserved(draft, 32)),
    rule("nor of 33", "bad-witness-nonce-size", |_, draft| reserved(draft, 33), |_, draft| reserved(draft, 32)),
    rule(
        "of two commitments the last counts",
        "bad-witness-merkle-match",
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            let wrong = wrong_commitment(38);
            draft.coinbase().output.push(output(wrong, 0));
        },
        |world, draft| {
            with_witness(world, draft);
            let wrong = wrong_commitment(38);
            draft.coinbase().output.push(output(wrong, 0));
            draft.commit();
        },
    ),
    rule(
        "bytes after the commitment do not matter, but bytes that are missing do",
        "bad-witness-merkle-match",
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            let wrong = wrong_commitment(60);
            draft.coinbase().output.push(output(wrong, 0));
        },
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            // One byte too short to be one.
            let short = wrong_commitment(37);
            draft.coinbase().output.push(output(short, 0));
        },
    ),
    rule(
        "a commitment may be longer",
        "unexpected-witness",
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            edit_commitment(draft, |script| script.truncate(37));
        },
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            edit_commitment(draft, |script| script.extend([0x6a; 50]));
        },
    ),
    rule(
        "it begins with OP_RETURN, a push of 36 bytes and the magic",
        "unexpected-witness",
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            edit_commitment(draft, |script| script[5] ^= 1);
        },
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
        },
    ),
    rule(
        "in the coinbase only",
        "unexpected-witness",
        |world, draft| {
            with_witness(world, draft);
            draft.commit();
            let commitment = draft.coinbase().output.pop().unwrap();
            draft.coinbase().input[0].witness.clear();
            draft.transactions[1].output.push(commitment);
        },
        |_, _| (),
    ),
];

fn with_witness(world: &mut World, draft: &mut Draft) {
    let coin = world.give(ANY_WITNESS, 1);
    draft.spend(&[coin], 1).input[0].witness = Witness::from_slice(&[[1, 2, 3]]);
}

fn reserved(draft: &mut Draft, size: usize) {
    draft.commit();
    draft.coinbase().input[0].witness = Witness::from_slice(&[vec![0; size]]);
}

fn wrong_commitment(size: usize) -> Vec<u8> {
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.resize(size, 0x33);
    script
}

fn edit_commitment(draft: &mut Draft, edit: impl FnOnce(&mut Vec<u8>)) {
    let output = draft.coinbase().output.last_mut().unwrap();
    let mut script = output.script_pubkey.to_bytes();
    edit(&mut script);
    output.script_pubkey = script.into();
}

/// The good body is still taken after each forged one.
#[test]
fn a_forged_witness_does_not_keep_its_block_out() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    with_witness(&mut world, &mut draft);
    draft.commit();
    let good = draft.seal();
    let forge = |edit: fn(&mut bitcoin::Block)| {
        let mut block = good.clone();
        edit(&mut block);
        assert_eq!(block.block_hash(), good.block_hash());
        block
    };
    let forged = [
        (forge(|block| block.txdata[1].input[0].witness.push([9])), "bad-witness-merkle-match"),
        (forge(|block| block.txdata[1].input[0].witness.clear()), "bad-witness-merkle-match"),
        (forge(|block| block.txdata[0].input[0].witness.clear()), "bad-witness-nonce-size"),
        (forge(|block| block.txdata[0].input[0].witness.push([9])), "bad-witness-nonce-size"),
        // So heavy that the witness could never have been mined.
        (forge(|block| block.txdata[1].input[0].witness.push(vec![0; 4_000_000])), "bad-witness-merkle-match"),
    ];
    for (block, expected) in forged {
        assert_eq!(reason(&mut world, &block), expected);
    }
    assert_eq!(reason(&mut world, &good), "");
}
