//! A transaction as an object.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, TxIn, TxOut};
use serde_json::{Map, Value, json};

use super::{amount, asm, script_pubkey};
use crate::chain::Coin;

/// How much is told of the outputs that a transaction spends.
#[derive(Debug, Clone, Copy)]
pub enum Detail<'a> {
    /// Nothing.
    Plain,
    /// The fee.
    Fee(&'a [Coin]),
    /// The fee and the outputs themselves.
    Prevouts(&'a [Coin]),
}

/// Core's `TxToUniv` with `hex` at the end.
pub fn transaction(transaction: &Transaction, detail: Detail<'_>) -> Map<String, Value> {
    let mut object = decoded(transaction, detail);
    object.insert("hex".into(), serialize_hex(transaction).into());
    object
}

/// Core's `TxToUniv` without `hex`.
pub fn decoded(transaction: &Transaction, detail: Detail<'_>) -> Map<String, Value> {
    let weight = transaction.weight().to_wu();
    let mut object = Map::new();
    object.insert("txid".into(), transaction.compute_txid().to_string().into());
    object.insert("hash".into(), transaction.compute_wtxid().to_string().into());
    object.insert("version".into(), transaction.version.0.cast_unsigned().into());
    object.insert("size".into(), transaction.total_size().into());
    object.insert("vsize".into(), weight.div_ceil(4).into());
    object.insert("weight".into(), weight.into());
    object.insert("locktime".into(), transaction.lock_time.to_consensus_u32().into());
    let is_coinbase = transaction.is_coinbase();
    let coins = match detail {
        Detail::Plain => None,
        Detail::Fee(coins) | Detail::Prevouts(coins) => Some(coins).filter(|_| !is_coinbase),
    };
    let inputs = transaction.input.iter().enumerate();
    let inputs: Vec<Value> = inputs
        .map(|(index, txin)| {
            let shown = matches!(detail, Detail::Prevouts(_));
            input(txin, is_coinbase, coins.and_then(|coins| coins.get(index)).filter(|_| shown))
        })
        .collect();
    object.insert("vin".into(), inputs.into());
    let outputs: Vec<Value> = transaction.output.iter().enumerate().map(|(n, txout)| output(n, txout)).collect();
    object.insert("vout".into(), outputs.into());
    if let Some(coins) = coins {
        let value_in: u64 = coins.iter().map(|coin| coin.output.value.to_sat()).sum();
        let value_out: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        object.insert("fee".into(), amount(value_in.saturating_sub(value_out)));
    }
    object
}

fn input(input: &TxIn, is_coinbase: bool, prevout: Option<&Coin>) -> Value {
    let mut object = Map::new();
    if is_coinbase {
        object.insert("coinbase".into(), input.script_sig.to_hex_string().into());
    } else {
        object.insert("txid".into(), input.previous_output.txid.to_string().into());
        object.insert("vout".into(), input.previous_output.vout.into());
        let script_sig = json!({"asm": asm(&input.script_sig, true), "hex": input.script_sig.to_hex_string()});
        object.insert("scriptSig".into(), script_sig);
    }
    if !input.witness.is_empty() {
        let items: Vec<String> = input.witness.iter().map(hex::encode).collect();
        object.insert("txinwitness".into(), items.into());
    }
    if let Some(coin) = prevout {
        let prevout = json!({
            "generated": coin.is_coinbase,
            "height": coin.height,
            "value": amount(coin.output.value.to_sat()),
            "scriptPubKey": script_pubkey(&coin.output.script_pubkey),
        });
        object.insert("prevout".into(), prevout);
    }
    object.insert("sequence".into(), input.sequence.0.into());
    Value::Object(object)
}

fn output(n: usize, output: &TxOut) -> Value {
    json!({
        "value": amount(output.value.to_sat()),
        "n": n,
        "scriptPubKey": script_pubkey(&output.script_pubkey),
    })
}
