//! Rules of a transaction by itself, as a block meets them, and as `check_transaction` does.

use bitcoin::{Amount, OutPoint};
use l1_utxo::consensus::transaction::{MAX_MONEY, check_transaction};

use super::rule::Rule;
use super::world::{output, padding, spend};

pub const RULES: &[Rule] = &[
    Rule::unstored(
        "there is an input",
        "bad-txns-vin-empty",
        |_, draft| {
            draft.spend(&[], 0);
        },
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 0);
        },
    ),
    Rule::unstored(
        "there is an output",
        "bad-txns-vout-empty",
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 0).output.clear();
        },
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 0).output[0].script_pubkey = bitcoin::ScriptBuf::new();
        },
    ),
    Rule::unstored(
        "no output is negative",
        "bad-txns-vout-negative",
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], u64::MAX);
        },
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 0);
        },
    ),
    Rule::unstored(
        "the lowest negative output is one",
        "bad-txns-vout-negative",
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], 1 << 63);
        },
        |_, _| (),
    ),
    Rule::unstored(
        "no output is above 21 million",
        "bad-txns-vout-toolarge",
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY);
            draft.spend(&[coin], MAX_MONEY + 1);
        },
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY);
            draft.spend(&[coin], MAX_MONEY);
        },
    ),
    Rule::unstored(
        "the largest positive output is too large",
        "bad-txns-vout-toolarge",
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.spend(&[coin], (1 << 63) - 1);
        },
        |_, _| (),
    ),
    Rule::unstored(
        "the outputs together are at most 21 million",
        "bad-txns-txouttotal-toolarge",
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY);
            draft.spend(&[coin], MAX_MONEY - 5).output.push(output([0x51], 6));
        },
        |world, draft| {
            let coin = world.give_anyone(MAX_MONEY);
            draft.spend(&[coin], MAX_MONEY - 5).output.push(output([0x51], 5));
        },
    ),
    Rule::unstored(
        "two inputs do not spend the same output",
        "bad-txns-inputs-duplicate",
        |world, draft| {
            let coin = world.give_anyone(10);
            draft.spend(&[coin, coin], 1);
        },
        |world, draft| {
            let coins = [world.give_anyone(10), world.give_anyone(10)];
            draft.spend(&coins, 1);
        },
    ),
    Rule::unstored(
        "nor do two of many",
        "bad-txns-inputs-duplicate",
        |world, draft| {
            let coins = [world.give_anyone(10), world.give_anyone(10), world.give_anyone(10)];
            draft.spend(&[coins[0], coins[1], coins[2], coins[1]], 1);
        },
        |world, draft| {
            let coins = [world.give_anyone(10), world.give_anyone(10), world.give_anyone(10)];
            draft.spend(&coins, 1);
        },
    ),
    Rule::unstored(
        "no input beside others spends the null outpoint",
        "bad-txns-prevout-null",
        |world, draft| {
            let coins = [world.give_anyone(10), OutPoint::null()];
            draft.spend(&coins, 1);
        },
        |world, draft| {
            // Its hash alone, or its index alone, does not make an outpoint null.
            let (zero, last) = (OutPoint { vout: 7, ..OutPoint::null() }, world.give_anyone(10));
            let last = OutPoint { vout: u32::MAX, ..last };
            world.put(zero, [0x51], 10);
            world.put(last, [0x51], 10);
            draft.spend(&[zero, last], 1);
        },
    ),
];

/// No block can hold one of more than 1,000,000 bytes: the block itself is refused first.
#[test]
fn the_size_without_witness_is_bounded() {
    let of_size = |size: usize| {
        let mut transaction = spend(&[OutPoint { vout: 0, ..OutPoint::null() }], 1);
        transaction.output.push(padding(900_000));
        let length = 900_000 + size - transaction.base_size();
        transaction.output[1] = padding(length);
        transaction.input[0].witness.push([0; 100]);
        assert_eq!(transaction.base_size(), size);
        check_transaction(&transaction).map_err(|error| error.reject_reason())
    };
    assert_eq!(of_size(1_000_000), Ok(()));
    assert_eq!(of_size(1_000_001), Err("bad-txns-oversize"));
}

#[test]
fn rules_are_checked_in_order() {
    let one = OutPoint { vout: 0, ..OutPoint::null() };
    let mut transaction = spend(&[OutPoint::null()], u64::MAX);
    transaction.output.extend([output([0x51], MAX_MONEY + 1), output([0x51], MAX_MONEY), padding(1_000_000)]);
    transaction.input.clear();
    let mut reasons = Vec::new();
    let mut note = |transaction: &bitcoin::Transaction| {
        reasons.push(check_transaction(transaction).map_or_else(|error| error.reject_reason(), |()| ""));
    };
    note(&transaction);
    let outputs = std::mem::take(&mut transaction.output);
    transaction.input = spend(&[one, OutPoint::null(), one], 0).input;
    note(&transaction);
    transaction.output = outputs;
    note(&transaction);
    transaction.output.pop();
    note(&transaction);
    transaction.output[0].value = Amount::from_sat(1);
    note(&transaction);
    transaction.output[1].value = Amount::ZERO;
    note(&transaction);
    transaction.output[2].value = Amount::ZERO;
    note(&transaction);
    transaction.input.pop();
    note(&transaction);
    transaction.input.remove(0);
    note(&transaction);
    transaction.input[0].script_sig = bitcoin::ScriptBuf::from_bytes(vec![0; 2]);
    note(&transaction);
    assert_eq!(
        reasons,
        [
            "bad-txns-vin-empty",
            "bad-txns-vout-empty",
            "bad-txns-oversize",
            "bad-txns-vout-negative",
            "bad-txns-vout-toolarge",
            "bad-txns-txouttotal-toolarge",
            "bad-txns-inputs-duplicate",
            "bad-txns-prevout-null",
            "bad-cb-length",
            "",
        ]
    );
}
