//! Counting signature operations, the way blocks and policy limit them.
//!
//! Bitcoin Core: `CScript::GetSigOpCount` (`script.cpp`), `GetTransactionSigOpCost` (`tx_verify.cpp`).

use bitcoin::{Script, Transaction, TxOut};

use super::script::ScriptFlags;

/// Signature operations in one script; with `accurate` the keys of a multisig count by the number before it, else 20.
pub fn count_sigops(script: &Script, accurate: bool) -> u32 {
    let _ = (script, accurate);
    todo!()
}

/// Signature operations in all scriptSigs and scriptPubKeys of a transaction, inaccurately (Core: `GetLegacySigOpCount`).
pub fn legacy_sigop_count(transaction: &Transaction) -> u32 {
    let _ = transaction;
    todo!()
}

/// The cost of a transaction's signature operations, in weight units (Core: `GetTransactionSigOpCost`).
/// `prevouts` are the spent outputs in the order of the inputs; ignored for a coinbase.
pub fn sigop_cost(transaction: &Transaction, prevouts: &[&TxOut], flags: ScriptFlags) -> u64 {
    let _ = (transaction, prevouts, flags);
    todo!()
}
