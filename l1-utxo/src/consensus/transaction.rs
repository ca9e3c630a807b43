//! The rules of a single transaction, scripts apart (Core: `consensus/tx_check.cpp`, `Consensus::CheckTxInputs`).

use std::collections::BTreeSet;

use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{Amount, Transaction, TxOut};

use super::block::MAX_BLOCK_WEIGHT;
use super::error::TransactionError;

/// 21 million bitcoin, in satoshi.
pub const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// Scale between a size without witness and weight.
const WITNESS_SCALE_FACTOR: usize = bitcoin::constants::WITNESS_SCALE_FACTOR;

/// The rules that need no context, in Core's order (`CheckTransaction`).
pub fn check_transaction(transaction: &Transaction) -> Result<(), TransactionError> {
    if transaction.input.is_empty() {
        return Err(TransactionError::NoInputs);
    }
    if transaction.output.is_empty() {
        return Err(TransactionError::NoOutputs);
    }
    if transaction.base_size() * WITNESS_SCALE_FACTOR > MAX_BLOCK_WEIGHT {
        return Err(TransactionError::Oversize);
    }
    check_outputs(transaction)?;
    if has_duplicate_inputs(transaction) {
        return Err(TransactionError::DuplicateInputs);
    }
    if transaction.is_coinbase() {
        let length = transaction.input[0].script_sig.len();
        return if (2..=100).contains(&length) { Ok(()) } else { Err(TransactionError::CoinbaseScriptLength) };
    }
    if transaction.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(TransactionError::PrevoutNull);
    }
    Ok(())
}

fn check_outputs(transaction: &Transaction) -> Result<(), TransactionError> {
    let mut total = 0;
    for output in &transaction.output {
        let value = output.value.to_sat();
        // The wire's amount is signed (CVE-2010-5139).
        if value.cast_signed() < 0 {
            return Err(TransactionError::OutputNegative);
        }
        if value > MAX_MONEY {
            return Err(TransactionError::OutputTooLarge);
        }
        // Both are at most 21e14: no overflow.
        total += value;
        if total > MAX_MONEY {
            return Err(TransactionError::OutputTotalTooLarge);
        }
    }
    Ok(())
}

fn has_duplicate_inputs(transaction: &Transaction) -> bool {
    match transaction.input.as_slice() {
        [_] => false,
        [a, b] => a.previous_output == b.previous_output,
        inputs => {
            let mut seen = BTreeSet::new();
            !inputs.iter().all(|input| seen.insert(&input.previous_output))
        }
    }
}

/// What the rules need to know of a spent output.
#[derive(Clone, Copy, Debug)]
pub struct SpentOutput<'a> {
    /// The output.
    pub output: &'a TxOut,
    /// The height of the block that made it.
    pub height: u32,
    /// Whether a coinbase made it.
    pub is_coinbase: bool,
}

/// The rules on the values of inputs that exist: maturity, range, and that they pay for the outputs.
/// `transaction` has passed `check_transaction`; `height` is that of the block it is in or would be in. Returns the fee.
pub fn verify_inputs<'a>(
    transaction: &Transaction,
    spent: impl Iterator<Item = SpentOutput<'a>>,
    height: u32,
) -> Result<Amount, TransactionError> {
    let mut value_in = 0u64;
    for coin in spent {
        let depth = height.saturating_sub(coin.height);
        if coin.is_coinbase && depth < COINBASE_MATURITY {
            return Err(TransactionError::PrematureSpendOfCoinbase { depth });
        }
        let value = coin.output.value.to_sat();
        value_in = value_in.saturating_add(value);
        if value > MAX_MONEY || value_in > MAX_MONEY {
            return Err(TransactionError::InputValuesOutOfRange);
        }
    }
    let value_out = value_out(transaction);
    let fee = value_in.checked_sub(value_out).ok_or(TransactionError::InBelowOut { value_in, value_out })?;
    Ok(Amount::from_sat(fee))
}

/// The sum of the outputs in satoshi; saturates, for what has not passed `check_transaction`.
pub fn value_out(transaction: &Transaction) -> u64 {
    transaction.output.iter().fold(0, |sum, output| sum.saturating_add(output.value.to_sat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Txid, Witness, transaction::Version};

    fn input(n: u8, vout: u32) -> TxIn {
        TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([n; 32]), vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }
    }

    fn output(sat: u64) -> TxOut {
        TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() }
    }

    fn transaction(input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
    }

    fn reason(input: Vec<TxIn>, output: Vec<TxOut>) -> &'static str {
        check_transaction(&transaction(input, output)).map_or_else(|e| e.reject_reason(), |()| "")
    }

    #[test]
    fn each_rule_without_context_refuses() {
        assert_eq!(reason(vec![input(1, 0)], vec![output(1)]), "");
        assert_eq!(reason(vec![], vec![output(1)]), "bad-txns-vin-empty");
        assert_eq!(reason(vec![input(1, 0)], vec![]), "bad-txns-vout-empty");
        let huge = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0; 1_000_000]) };
        assert_eq!(reason(vec![input(1, 0)], vec![huge]), "bad-txns-oversize");
        assert_eq!(reason(vec![input(1, 0)], vec![output(u64::MAX)]), "bad-txns-vout-negative");
        assert_eq!(reason(vec![input(1, 0)], vec![output(MAX_MONEY + 1)]), "bad-txns-vout-toolarge");
        assert_eq!(reason(vec![input(1, 0)], vec![output(MAX_MONEY), output(1)]), "bad-txns-txouttotal-toolarge");
        assert_eq!(reason(vec![input(1, 0), input(1, 0)], vec![output(1)]), "bad-txns-inputs-duplicate");
        let three = vec![input(1, 0), input(2, 0), input(1, 0)];
        assert_eq!(reason(three, vec![output(1)]), "bad-txns-inputs-duplicate");
        assert_eq!(reason(vec![input(0, u32::MAX)], vec![output(1)]), "bad-cb-length");
        assert_eq!(reason(vec![input(1, 0), input(0, u32::MAX)], vec![output(1)]), "bad-txns-prevout-null");
    }

    fn fee(coins: &[(u64, u32, bool)], height: u32, out: u64) -> Result<Amount, TransactionError> {
        let outputs: Vec<TxOut> = coins.iter().map(|(sat, ..)| output(*sat)).collect();
        let spent = outputs.iter().zip(coins).map(|(output, &(_, height, is_coinbase))| SpentOutput {
            output,
            height,
            is_coinbase,
        });
        verify_inputs(&transaction(vec![input(1, 0)], vec![output(out)]), spent, height)
    }

    #[test]
    fn each_rule_on_inputs_refuses() {
        assert_eq!(fee(&[(10, 1, false), (5, 1, false)], 2, 12), Ok(Amount::from_sat(3)));
        assert_eq!(fee(&[(10, 1, true)], 101, 10), Ok(Amount::ZERO));
        assert_eq!(fee(&[(10, 1, true)], 100, 10), Err(TransactionError::PrematureSpendOfCoinbase { depth: 99 }));
        assert_eq!(fee(&[(MAX_MONEY, 1, false), (1, 1, false)], 2, 1), Err(TransactionError::InputValuesOutOfRange));
        assert_eq!(fee(&[(10, 1, false)], 2, 11), Err(TransactionError::InBelowOut { value_in: 10, value_out: 11 }));
    }
}
