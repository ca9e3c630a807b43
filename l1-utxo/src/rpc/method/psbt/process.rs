//! PSBTs filled and signed with what descriptors, the mempool and the chain know (Core: `ProcessPSBT`).

use std::sync::Arc;

use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::{OutPoint, Transaction, TxOut};
use serde_json::{Map, Value};

use super::{PSBT, parse};
use crate::driver::Ledger;
use crate::rpc::Context;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::descriptor::add_keys;
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::Method;
use crate::rpc::method::rawtransaction::fetch;
use crate::rpc::method::rawtransaction::sign::{find_coins, sighash};
use crate::rpc::psbt::{
    Outcome, Psbt, Spends, finalize, is_final, kind, number, sign_input, single, update_output, without_witness,
};
use crate::rpc::sign::Keystore;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "descriptorprocesspsbt",
        category: "rawtransactions",
        arguments: &[
            required("psbt", Kind::Text, "The transaction base64 string"),
            required("descriptors", Kind::List, "Descriptors, or objects with desc and range")
                .shown("[\"\",{\"desc\":\"str\",\"range\":n or [n,n]},...]"),
            optional("sighashtype", Kind::Text, "The signature hash type; DEFAULT for Taproot, ALL otherwise"),
            optional("bip32derivs", Kind::Bool, "Include BIP 32 derivation paths for public keys if we know them"),
            optional("finalize", Kind::Bool, "Also finalize inputs if possible"),
        ],
        about: "Update all segwit inputs in a PSBT with information from output descriptors, the UTXO set or the mempool, and \
                sign those that the descriptors have the keys of.",
        run: |cx, params| Box::pin(descriptorprocesspsbt(cx, params)),
    },
    Method {
        name: "utxoupdatepsbt",
        category: "rawtransactions",
        arguments: &[
            PSBT,
            optional("descriptors", Kind::List, "Descriptors, or objects with desc and range")
                .shown("[\"\",{\"desc\":\"str\",\"range\":n or [n,n]},...]"),
        ],
        about: "Updates all segwit inputs and outputs in a PSBT with data from output descriptors, the UTXO set, txindex, or the \
                mempool.",
        run: |cx, params| Box::pin(utxoupdatepsbt(cx, params)),
    },
];

fn keys(params: &Params) -> Result<Keystore, RpcError> {
    let mut keys = Keystore::default();
    if params.has(1) {
        for object in params.list(1)? {
            add_keys(object, &mut keys)?;
        }
    }
    Ok(keys)
}

async fn utxoupdatepsbt(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let mut keys = keys(&params)?;
    // Updating is not signing.
    keys.hide_secrets();
    let psbt = process(cx, params.text(0)?, &keys, None, false).await?;
    Ok(psbt.to_base64().into())
}

async fn descriptorprocesspsbt(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let mut keys = keys(&params)?;
    let sighash = sighash(params.get(2))?;
    if !params.bool_or(3, true)? {
        keys.hide_origins();
    }
    let mut psbt = process(cx, params.text(0)?, &keys, sighash, params.bool_or(4, true)?).await?;
    let complete = psbt.inputs.iter().all(is_final);
    let mut result = Map::new();
    result.insert("psbt".into(), psbt.to_base64().into());
    result.insert("complete".into(), complete.into());
    if complete && let Some(transaction) = finalize(&mut psbt) {
        result.insert("hex".into(), serialize_hex(&transaction).into());
    }
    Ok(Value::Object(result))
}

/// What is known of an input: the whole transaction before it, or the output alone.
enum Known {
    Transaction(Arc<Transaction>),
    Output(TxOut),
}

fn look_up(ledger: &mut Ledger, outpoint: OutPoint) -> Option<Known> {
    if let Ok((transaction, _)) = fetch(ledger, outpoint.txid) {
        return Some(Known::Transaction(transaction));
    }
    find_coins(ledger, &[outpoint]).remove(&outpoint).map(Known::Output)
}

async fn process(
    cx: &Context,
    text: &str,
    keys: &Keystore,
    sighash: Option<u32>,
    ends: bool,
) -> Result<Psbt, RpcError> {
    let mut psbt = parse(text)?;
    let no_transaction = || RpcError::new(code::DESERIALIZATION, "PSBT cannot be made into a valid transaction");
    let transaction = psbt.unsigned().ok_or_else(no_transaction)?;
    let places = transaction.input.iter().zip(&psbt.inputs).enumerate();
    let places = places.filter(|(_, (_, fields))| single(fields, kind::IN_NON_WITNESS_UTXO).is_none());
    let wanted: Vec<(usize, OutPoint)> = places.map(|(index, (input, _))| (index, input.previous_output)).collect();
    let found = cx
        .run(move |ledger| {
            let look = |(index, outpoint)| Some((index, look_up(ledger, outpoint)?));
            wanted.into_iter().filter_map(look).collect::<Vec<_>>()
        })
        .await?;
    for (index, known) in found {
        let input = &mut psbt.inputs[index];
        match known {
            Known::Transaction(transaction) => {
                input.insert(vec![kind::IN_NON_WITNESS_UTXO], without_witness(&transaction));
            }
            Known::Output(output) if keys.is_segwit(&output.script_pubkey) => {
                input.insert(vec![kind::IN_WITNESS_UTXO], serialize(&output));
            }
            Known::Output(_) => {}
        }
    }
    let spends = Spends::of(&psbt).ok_or_else(no_transaction)?;
    for (index, input) in psbt.inputs.iter_mut().enumerate().filter(|(_, input)| !is_final(input)) {
        let outcome = sign_input(&spends, index, input, keys, sighash, true, ends);
        if matches!(outcome, Outcome::SighashMismatch) {
            let message = "Specified sighash value does not match value stored in PSBT";
            return Err(RpcError::new(code::DESERIALIZATION, message));
        }
    }
    for (index, output) in psbt.outputs.iter_mut().enumerate() {
        update_output(&spends.transaction, index, output, keys);
    }
    drop_needless(&mut psbt);
    Ok(psbt)
}

/// Taproot signs what it spends, so that the whole transactions before it are not needed (Core:
/// `RemoveUnnecessaryTransactions`).
fn drop_needless(psbt: &mut Psbt) {
    const ANYONE_CAN_PAY: u32 = 0x80;
    let is_taproot_or_later = |input: &crate::rpc::psbt::Map| {
        let output = single(input, kind::IN_WITNESS_UTXO);
        let output = output.and_then(|bytes| bitcoin::consensus::encode::deserialize::<TxOut>(bytes).ok());
        let script = output.map(|output| output.script_pubkey);
        let version = script.as_ref().and_then(|script| script.witness_version());
        let sighash = number(input, kind::IN_SIGHASH).unwrap_or(0);
        version.is_some_and(|version| version.to_num() > 0) && sighash & ANYONE_CAN_PAY == 0
    };
    if psbt.inputs.iter().all(is_taproot_or_later) {
        psbt.inputs.iter_mut().for_each(|input| drop(input.remove(&[kind::IN_NON_WITNESS_UTXO][..])));
    }
}
