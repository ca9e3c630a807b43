//! Transactions as bytes: read, sent and looked up here; made in `create`, signed in `sign`.
//!
//! Keys that a call brings are forgotten when it is answered. Nothing here knows a wallet.
//! Bitcoin Core: `rpc/rawtransaction.cpp`, `rpc/mempool.cpp`.

pub(super) mod create;
pub(super) mod sign;

use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Transaction, Txid};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::block::{block_hash, body, undo};
use super::{Answer, Method};
use crate::chain::{BlockId, Coin, is_unspendable};
use crate::consensus::HashedBlock;
use crate::consensus::decode::{Form, decode_transaction};
use crate::driver::Ledger;
use crate::mempool::Rejection;
use crate::mempool::policy::fee_at;
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, amount, feerate, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render::{self, Detail};

/// What a transaction may pay unless the caller says otherwise, in sat/kvB: 0.10 BTC/kvB.
const DEFAULT_MAX_FEERATE: u64 = 10_000_000;

pub(super) const MAX_FEERATE: Argument =
    optional("maxfeerate", Kind::Any, "Reject transactions that pay more, in BTC/kvB; 0.10 by default, 0 for any");

/// The methods of this folder.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    [METHODS, create::METHODS, sign::METHODS].into_iter().flatten()
}

const METHODS: &[Method] = &[
    Method {
        name: "decoderawtransaction",
        category: "rawtransactions",
        arguments: &[
            required("hexstring", Kind::Text, "The transaction hex string"),
            optional("iswitness", Kind::Bool, "Whether the hex is in witness format; tried both ways if left out"),
        ],
        about: "Return a JSON object representing the serialized, hex-encoded transaction.",
        run: |_, params| Box::pin(async move { decoderawtransaction(&params) }),
    },
    Method {
        name: "getrawtransaction",
        category: "rawtransactions",
        arguments: &[
            required("txid", Kind::Text, "The transaction id"),
            optional("verbosity|verbose", Kind::Any, "0 for hex, 1 for an object, 2 with fee and prevouts"),
            optional("blockhash", Kind::Text, "The block in which to look for the transaction"),
        ],
        about: "Returns a transaction of the mempool, or of a given block.",
        run: |cx, params| Box::pin(getrawtransaction(cx, params)),
    },
    Method {
        name: "sendrawtransaction",
        category: "rawtransactions",
        arguments: &[
            required("hexstring", Kind::Text, "The hex string of the raw transaction"),
            MAX_FEERATE,
            optional("maxburnamount", Kind::Any, "Reject unspendable outputs above this value in BTC; 0 by default"),
        ],
        about: "Submit a raw transaction (serialized, hex-encoded) to the mempool.",
        run: |cx, params| send(cx, params),
    },
];

fn send(cx: &Context, params: Params) -> Answer<'_> {
    Box::pin(sendrawtransaction(cx, params))
}

/// Which encodings are tried (Core: `DecodeTx`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encodings {
    Both,
    Witness,
    Legacy,
}

/// A transaction from hex, or none. Core: `DecodeHexTx`.
pub(super) fn decode(text: &str, encodings: Encodings) -> Option<Transaction> {
    let bytes = hex::decode(text).ok().filter(|bytes| !bytes.is_empty())?;
    let read = |form| decode_transaction(&bytes, form).ok();
    let extended = (encodings != Encodings::Legacy).then(|| read(Form::Witness)).flatten();
    if extended.as_ref().is_some_and(has_sane_scripts) {
        return extended;
    }
    let legacy = (encodings != Encodings::Witness).then(|| read(Form::Legacy)).flatten();
    match (extended, legacy) {
        (_, Some(legacy)) if has_sane_scripts(&legacy) => Some(legacy),
        (Some(extended), _) => Some(extended),
        (None, legacy) => legacy,
    }
}

/// Core's `CheckTxScriptsSanity`: every script can be read to its end.
fn has_sane_scripts(transaction: &Transaction) -> bool {
    const MAX_SCRIPT_SIZE: usize = 10_000;
    let is_sane = |script: &bitcoin::Script| script.len() <= MAX_SCRIPT_SIZE && has_valid_ops(script);
    let inputs = transaction.is_coinbase() || transaction.input.iter().all(|input| is_sane(&input.script_sig));
    inputs && transaction.output.iter().all(|output| is_sane(&output.script_pubkey))
}

/// Every push is whole and every opcode known.
pub(super) fn has_valid_ops(script: &bitcoin::Script) -> bool {
    const LAST_OPCODE: u8 = 0xb9;
    script.instructions().all(|instruction| match instruction {
        Ok(bitcoin::script::Instruction::Op(op)) => op.to_u8() <= LAST_OPCODE,
        Ok(bitcoin::script::Instruction::PushBytes(bytes)) => bytes.len() <= 520,
        Err(_) => false,
    })
}

fn decoderawtransaction(params: &Params) -> Result<Value, RpcError> {
    let encodings = match params.get(1) {
        Value::Bool(true) => Encodings::Witness,
        Value::Bool(false) => Encodings::Legacy,
        _ => Encodings::Both,
    };
    let transaction =
        decode(params.text(0)?, encodings).ok_or_else(|| RpcError::new(code::DESERIALIZATION, "TX decode failed"))?;
    Ok(Value::Object(render::decoded(&transaction, Detail::Plain)))
}

async fn sendrawtransaction(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let (transaction, max_fee) = to_send(&params)?;
    let txid = cx.run(move |ledger| broadcast(ledger, transaction, max_fee)).await??;
    Ok(txid.to_string().into())
}

/// The same for many, in order: their scripts are run beforehand, on all cores.
pub async fn send_together(cx: &Context, calls: Vec<Result<Params, RpcError>>) -> Vec<Result<Value, RpcError>> {
    let count = calls.len();
    let work = move |ledger: &mut Ledger| {
        let decoded: Vec<_> = calls.into_par_iter().map(|params| params.and_then(|params| to_send(&params))).collect();
        let transactions = decoded.iter().flatten().map(|(transaction, _)| Arc::clone(transaction)).collect::<Vec<_>>();
        ledger.with_mempool(|mempool, cx| mempool.verify_ahead(&transactions, cx));
        let sent = decoded.into_iter().map(|decoded| {
            let (transaction, max_fee) = decoded?;
            broadcast(ledger, transaction, max_fee).map(|txid| Value::from(txid.to_string()))
        });
        sent.collect::<Vec<_>>()
    };
    match cx.run(work).await {
        Ok(outcomes) => outcomes,
        Err(error) => vec![Err(error); count],
    }
}

/// The transaction, and what it may pay at most in satoshi.
fn to_send(params: &Params) -> Result<(Arc<Transaction>, Option<u64>), RpcError> {
    let max_burn = if params.has(2) { amount(params.get(2))?.to_sat() } else { 0 };
    let transaction = decode(params.text(0)?, Encodings::Witness).ok_or_else(|| {
        RpcError::new(code::DESERIALIZATION, "TX decode failed. Make sure the tx has at least one input.")
    })?;
    check_burn(&transaction, max_burn)?;
    let max_fee = fee_at(max_feerate(params)?, transaction.vsize() as u64);
    Ok((Arc::new(transaction), (max_fee > 0).then_some(max_fee)))
}

/// Against burning by mistake what `max_burn` satoshi do not cover.
pub(super) fn check_burn(transaction: &Transaction, max_burn: u64) -> Result<(), RpcError> {
    let burns = transaction.output.iter().any(|output| {
        let script = &output.script_pubkey;
        (is_unspendable(script) || !has_valid_ops(script)) && output.value.to_sat() > max_burn
    });
    if burns {
        let message = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(RpcError::new(code::VERIFY, message));
    }
    Ok(())
}

/// The parameter `maxfeerate` in sat/kvB; 0 for any.
pub(super) fn max_feerate(params: &Params) -> Result<u64, RpcError> {
    if params.has(1) { feerate(params.get(1)) } else { Ok(DEFAULT_MAX_FEERATE) }
}

/// Core's `BroadcastTransaction`.
fn broadcast(ledger: &mut Ledger, transaction: Arc<Transaction>, max_fee: Option<u64>) -> Result<Txid, RpcError> {
    let txid = transaction.compute_txid();
    let mut outputs = (0u32..).take(transaction.output.len());
    if outputs.any(|vout| ledger.coin(&bitcoin::OutPoint { txid, vout }).is_some()) {
        let message = "Transaction outputs already in utxo set";
        return Err(RpcError::new(code::VERIFY_ALREADY_IN_UTXO_SET, message));
    }
    if ledger.mempool().contains(&txid) {
        // Whoever asks again wants it announced again.
        ledger.announce(&txid);
        return Ok(txid);
    }
    match ledger.with_mempool(|mempool, cx| mempool.accept_up_to(transaction, max_fee, cx)) {
        Ok(accepted) => {
            ledger.broadcast(&accepted.txid);
            Ok(accepted.txid)
        }
        Err(Rejection::FeeAboveMaximum { .. }) => {
            let message = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)";
            Err(RpcError::new(code::VERIFY, message))
        }
        Err(rejection) if rejection.is_missing_inputs() => Err(RpcError::new(code::VERIFY, rejection.to_string())),
        Err(rejection) => Err(RpcError::new(code::VERIFY_REJECTED, rejection.to_string())),
    }
}

/// A transaction that was looked up, and where it was found.
struct Found {
    transaction: Arc<Transaction>,
    block: Option<Place>,
    coins: Option<Vec<Coin>>,
}

struct Place {
    hash: BlockHash,
    time: u32,
    confirmations: u32,
    is_active: bool,
}

async fn getrawtransaction(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let txid = Txid::from_raw_hash(params.hash(0, "parameter 1")?);
    if cx.params().genesis.txdata.first().is_some_and(|coinbase| coinbase.compute_txid() == txid) {
        let message = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved";
        return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, message));
    }
    let verbosity = params.verbosity(1, 0)?;
    let within = if params.has(2) { Some(block_hash(&params, 2, "parameter 3")?) } else { None };
    let found = cx.run(move |ledger| look_up(ledger, txid, within, verbosity >= 2)).await??;
    if verbosity <= 0 {
        return Ok(serialize_hex(found.transaction.as_ref()).into());
    }
    let mut object = Map::new();
    if let Some(place) = found.block.as_ref().filter(|_| params.has(2)) {
        object.insert("in_active_chain".into(), place.is_active.into());
    }
    let detail = found.coins.as_deref().map_or(Detail::Plain, Detail::Prevouts);
    object.extend(render::transaction(&found.transaction, detail));
    if let Some(place) = &found.block {
        object.insert("blockhash".into(), place.hash.to_string().into());
        object.insert("confirmations".into(), place.confirmations.into());
        if place.is_active {
            object.insert("time".into(), place.time.into());
            object.insert("blocktime".into(), place.time.into());
        }
    }
    Ok(Value::Object(object))
}

/// A transaction of the mempool or, with an index, of the chain; and the hash of its block.
pub fn fetch(ledger: &mut Ledger, txid: Txid) -> Result<(Arc<Transaction>, Option<BlockHash>), RpcError> {
    let found = look_up(ledger, txid, None, false)?;
    Ok((found.transaction, found.block.map(|place| place.hash)))
}

fn look_up(ledger: &mut Ledger, txid: Txid, within: Option<BlockHash>, with_coins: bool) -> Result<Found, RpcError> {
    let missing = |what: &str| {
        let message = format!("{what}. Use gettransaction for wallet transactions.");
        RpcError::new(code::INVALID_ADDRESS_OR_KEY, message)
    };
    let Some(hash) = within else {
        if let Some(entry) = ledger.mempool().entry(&txid) {
            return Ok(Found { transaction: Arc::clone(&entry.transaction), block: None, coins: None });
        }
        if let Some((id, index)) = ledger.indexed_transaction(&txid) {
            let block = body(ledger, id)?;
            return in_block(ledger, id, &block, index, with_coins);
        }
        return Err(missing(if ledger.indexes().transactions {
            "No such mempool or blockchain transaction"
        } else {
            "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries"
        }));
    };
    let id = ledger
        .chain()
        .find(&hash)
        .ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block hash not found"))?;
    if ledger.chain().entry(id).data.is_none() {
        return Err(RpcError::new(code::MISC, "Block not available"));
    }
    let block = body(ledger, id)?;
    let index = block.txids().iter().position(|other| *other == txid);
    let index = index.ok_or_else(|| missing("No such transaction found in the provided block"))?;
    in_block(ledger, id, &block, index, with_coins)
}

fn in_block(
    ledger: &Ledger,
    id: BlockId,
    block: &HashedBlock,
    index: usize,
    with_coins: bool,
) -> Result<Found, RpcError> {
    let spent = if with_coins { undo(ledger, id)? } else { None };
    let coins = spent.and_then(|undo| undo.spent.into_iter().nth(index.checked_sub(1)?));
    let transaction = block.transactions().get(index).cloned();
    let transaction = transaction.ok_or_else(|| RpcError::new(code::INTERNAL, "the transaction index is damaged"))?;
    let transaction = Arc::new(transaction);
    Ok(Found { transaction, block: Some(place(ledger, id)), coins })
}

fn place(ledger: &Ledger, id: BlockId) -> Place {
    let chain = ledger.chain();
    let entry = chain.entry(id);
    let is_active = chain.is_active(id);
    Place {
        hash: entry.hash,
        time: entry.header.time,
        confirmations: if is_active { chain.height() - entry.height + 1 } else { 0 },
        is_active,
    }
}
