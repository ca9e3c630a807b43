//! Figures of all coins, counted now or looked up where an index keeps them (Core: `gettxoutsetinfo` in
//! `rpc/blockchain.cpp`).

use bitcoin::BlockHash;
use serde_json::{Map, Value, json};

use super::{Method, Named};
use crate::chain::{CoinTotals, CoinsHash};
use crate::driver::Ledger;
use crate::rpc::argument::{Kind, Params, optional};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};

pub(super) const METHODS: &[Method] = &[Method {
    name: "gettxoutsetinfo",
    category: "blockchain",
    arguments: &[
        optional("hash_type", Kind::Text, "'hash_serialized_3' (the default), 'muhash' or 'none'"),
        optional("hash_or_height", Kind::Any, "The block hash or height of the target block (needs --coinstats-index)")
            .shown("hash_or_height"),
        optional("use_index", Kind::Bool, "Use the index of coin statistics, if there is one; true by default"),
    ],
    about: "Returns statistics about the unspent transaction output set.",
    run: |cx, params| Box::pin(gettxoutsetinfo(cx, params)),
}];

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(code::INVALID_PARAMETER, message.into())
}

fn unreadable() -> RpcError {
    RpcError::new(code::INTERNAL, "Unable to read UTXO set")
}

async fn gettxoutsetinfo(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let name = if params.has(0) { params.text(0)?.to_owned() } else { "hash_serialized_3".to_owned() };
    let kind = match name.as_str() {
        "hash_serialized_3" => CoinsHash::Serialized,
        "muhash" => CoinsHash::MuHash,
        "none" => CoinsHash::None,
        other => return Err(invalid(format!("'{other}' is not a valid hash_type"))),
    };
    let wants_index = params.bool_or(2, true)?;
    let asked = params.has(1).then(|| params.get(1).clone());
    let may_use = wants_index && kind != CoinsHash::Serialized;
    let found = cx
        .run(move |ledger| {
            let has_index = ledger.indexes().coin_stats;
            if let Some(asked) = asked {
                let refusal = match (has_index, kind, wants_index) {
                    (false, ..) => Some("Querying specific block heights requires coinstatsindex"),
                    (_, CoinsHash::Serialized, _) => {
                        Some("hash_serialized_3 hash type cannot be queried for a specific block")
                    }
                    (.., false) => Some("Cannot set use_index to false when querying for a specific block"),
                    _ => None,
                };
                return match refusal {
                    Some(refusal) => Err(invalid(refusal)),
                    None => look_up(ledger, Some(&Named::read(&asked)?)).map(Some),
                };
            }
            (has_index && may_use).then(|| look_up(ledger, None)).transpose()
        })
        .await??;
    match found {
        Some(found) => from_index(found, kind).await,
        None => count(cx, &name, kind).await,
    }
}

/// What the index has of a block and of the one before it.
struct Found {
    height: u32,
    hash: BlockHash,
    totals: CoinTotals,
    before: CoinTotals,
}

fn look_up(ledger: &mut Ledger, asked: Option<&Named>) -> Result<Found, RpcError> {
    let id = asked.map_or_else(|| Ok(ledger.chain().tip()), |named| named.find(ledger))?;
    let entry = ledger.chain().entry(id);
    let (height, hash, parent) = (entry.height, entry.hash, entry.parent);
    let Some(totals) = ledger.coin_totals(id) else {
        let status = ledger.index_status();
        if !status.is_synced && asked.is_some() && height > status.height {
            let message = format!(
                "Unable to get data because coinstatsindex is still syncing. Current height: {}",
                status.height
            );
            return Err(RpcError::new(code::INTERNAL, message));
        }
        return Err(unreadable());
    };
    let before = match parent {
        Some(parent) => ledger.coin_totals(parent).ok_or_else(unreadable)?,
        None => CoinTotals::default(),
    };
    Ok(Found { height, hash, totals, before })
}

async fn from_index(found: Found, kind: CoinsHash) -> Result<Value, RpcError> {
    let Found { height, hash, totals, before } = found;
    let running = (kind == CoinsHash::MuHash).then(|| totals.hash.clone());
    // A division by all that was ever spent: too long for a thread that others wait for.
    let finished = tokio::task::spawn_blocking(move || running.map(|hash| hash.finalize())).await;
    let finished = finished.map_err(|_| unreadable())?;
    let mut object = Map::new();
    object.insert("height".into(), height.into());
    object.insert("bestblock".into(), hash.to_string().into());
    object.insert("txouts".into(), totals.txouts.into());
    object.insert("bogosize".into(), totals.bogosize.into());
    if let Some(hash) = finished {
        put_hash(&mut object, "muhash", hash);
    }
    object.insert("total_amount".into(), render::amount(totals.total_amount));
    object.insert("total_unspendable_amount".into(), render::amount(totals.unspendable()));
    // What one block spends and makes is money that there is: it fits.
    let grown = |now: u128, then: u128| render::amount(u64::try_from(now.saturating_sub(then)).unwrap_or(u64::MAX));
    let more = |now: u64, then: u64| render::amount(now.saturating_sub(then));
    let info = json!({
        "prevout_spent": grown(totals.prevout_spent, before.prevout_spent),
        "coinbase": grown(totals.coinbase, before.coinbase),
        "new_outputs_ex_coinbase": grown(totals.new_outputs, before.new_outputs),
        "unspendable": more(totals.unspendable(), before.unspendable()),
        "unspendables": {
            "genesis_block": more(totals.unspendable_genesis, before.unspendable_genesis),
            // No block of these networks could ever make the same coinbase twice.
            "bip30": render::amount(0),
            "scripts": more(totals.unspendable_scripts, before.unspendable_scripts),
            "unclaimed_rewards": more(totals.unclaimed_rewards, before.unclaimed_rewards),
        },
    });
    object.insert("block_info".into(), info);
    Ok(Value::Object(object))
}

fn put_hash(object: &mut Map<String, Value>, name: &str, mut hash: [u8; 32]) {
    hash.reverse();
    object.insert(name.to_owned(), hex::encode(hash).into());
}

async fn count(cx: &Context, name: &str, kind: CoinsHash) -> Result<Value, RpcError> {
    let report = cx.node.coins_stats(kind).await.map_err(|error| {
        tracing::error!(%error, "the coins could not be read");
        unreadable()
    })?;
    let stats = report.stats;
    let mut object = Map::new();
    object.insert("height".into(), report.height.into());
    object.insert("bestblock".into(), report.best_block.to_string().into());
    object.insert("txouts".into(), stats.txouts.into());
    object.insert("bogosize".into(), stats.bogosize.into());
    if let Some(hash) = stats.hash {
        put_hash(&mut object, name, hash);
    }
    object.insert("total_amount".into(), render::amount(stats.total_amount));
    object.insert("transactions".into(), stats.transactions.into());
    object.insert("disk_size".into(), report.disk_size.into());
    Ok(Value::Object(object))
}
