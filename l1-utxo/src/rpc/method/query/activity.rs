//! Which blocks concern a descriptor, and what happened to it there (Core: `scanblocks`, `getdescriptoractivity`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::bip158::BlockFilter;
use bitcoin::{BlockHash, OutPoint, ScriptBuf, Transaction, TxOut};
use serde_json::{Map, Value, json};

use super::Method;
use super::scan::BUSY;
use crate::chain::{BlockId, BlockUndo};
use crate::consensus::HashedBlock;
use crate::driver::Ledger;
use crate::rpc::argument::{self, Argument, Kind, Params, optional, required};
use crate::rpc::descriptor;
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::block::{body, known, undo};
use crate::rpc::{Context, render};

/// Blocks that are looked at before others have a turn on the validation thread.
const STRIDE: u32 = 200;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getdescriptoractivity",
        category: "blockchain",
        arguments: &[
            required("blockhashes", Kind::List, "The blocks to examine, of the active chain")
                .shown("[\"blockhash\",...]"),
            required("scanobjects", Kind::List, "Descriptors, or objects with desc and range")
                .shown("[scanobjects,...]"),
            optional("include_mempool", Kind::Bool, "Whether to include unconfirmed activity; true by default"),
        ],
        about: "Get spend and receive activity associated with a set of descriptors for a set of blocks.",
        run: |cx, params| Box::pin(getdescriptoractivity(cx, params)),
    },
    Method {
        name: "scanblocks",
        category: "blockchain",
        arguments: &[
            required("action", Kind::Text, "start, abort or status"),
            optional("scanobjects", Kind::List, "Descriptors, or objects with desc and range")
                .shown("[scanobjects,...]"),
            optional("start_height", Kind::Number, "Height to start to scan from; 0 by default"),
            optional("stop_height", Kind::Number, "Height to stop to scan; the tip by default"),
            optional("filtertype", Kind::Text, "The type name of the filter; basic is the only one"),
            Argument {
                options: &["filter_false_positives"],
                ..optional("options", Kind::Object, "filter_false_positives: look into the blocks, too")
                    .shown("options")
            },
        ],
        about: "Return relevant blockhashes for given descriptors (requires --block-filter-index).",
        run: |cx, params| Box::pin(scanblocks(cx, params)),
    },
];

fn scripts(objects: &[Value]) -> Result<BTreeSet<ScriptBuf>, RpcError> {
    let mut scripts = BTreeSet::new();
    for object in objects {
        scripts.extend(descriptor::scripts_of(object)?.into_iter().map(|(script, _)| script));
    }
    Ok(scripts)
}

async fn scanblocks(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let scan = &cx.block_scan;
    match params.text(0)? {
        "status" if scan.runs.load(Ordering::SeqCst) => Ok(json!({
            "progress": scan.percent.load(Ordering::SeqCst),
            "current_height": scan.height.load(Ordering::SeqCst),
        })),
        "status" => Ok(Value::Null),
        "abort" => {
            let runs = scan.runs.load(Ordering::SeqCst);
            scan.aborts.store(runs, Ordering::SeqCst);
            Ok(runs.into())
        }
        "start" => start(cx, &params).await,
        other => Err(RpcError::new(code::INVALID_PARAMETER, format!("Invalid action '{other}'"))),
    }
}

async fn start(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let reserved = cx.block_scan.reserve().ok_or_else(|| RpcError::new(code::INVALID_PARAMETER, BUSY))?;
    if params.has(4) && params.text(4)? != "basic" {
        return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Unknown filtertype"));
    }
    let looks_inside = match params.get(5).get("filter_false_positives") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(other) => return Err(argument::wrong_type(other, "bool")),
    };
    let (has_filters, tip) = cx.run(|ledger| (ledger.indexes().filters, ledger.chain().height())).await?;
    if !has_filters {
        return Err(RpcError::new(code::MISC, "Index is not enabled for filtertype basic"));
    }
    let height = |position: usize, default: u32| {
        if !params.has(position) {
            return Ok(Some(default));
        }
        let height = u32::try_from(params.int(position)?).ok().filter(|height| *height <= tip);
        Ok::<_, RpcError>(height)
    };
    let first = height(2, 0)?.ok_or_else(|| RpcError::new(code::MISC, "Invalid start_height"))?;
    let last = height(3, tip)?.filter(|last| *last >= first);
    let last = last.ok_or_else(|| RpcError::new(code::MISC, "Invalid stop_height"))?;
    let wanted = Arc::new(scripts(params.list(1)?)?);
    let (mut relevant, mut next, mut completed) = (Vec::new(), first, true);
    let scan = &cx.block_scan;
    while next <= last {
        if scan.aborts.load(Ordering::SeqCst) {
            completed = false;
            break;
        }
        let until = last.min(next + STRIDE - 1);
        let filters = cx.run(move |ledger| filters(ledger, next..=until)).await?;
        for (id, hash) in matching(filters, Arc::clone(&wanted)).await? {
            let wanted = Arc::clone(&wanted);
            if !looks_inside || cx.run(move |ledger| concerns(ledger, id, &wanted)).await?? {
                relevant.push(hash);
            }
        }
        let percent = u64::from(until - first) * 100 / u64::from((last - first).max(1));
        scan.percent.store(u8::try_from(percent).unwrap_or(100), Ordering::SeqCst);
        scan.height.store(until, Ordering::SeqCst);
        next = until + 1;
    }
    drop(reserved);
    Ok(json!({
        "from_height": first,
        "to_height": next.saturating_sub(1).max(first),
        "relevant_blocks": relevant.iter().map(BlockHash::to_string).collect::<Vec<_>>(),
        "completed": completed,
    }))
}

/// A block and its filter.
type Filtered = (BlockId, BlockHash, Vec<u8>);

fn filters(ledger: &mut Ledger, heights: std::ops::RangeInclusive<u32>) -> Vec<Filtered> {
    let blocks: Vec<BlockId> = heights.map_while(|height| ledger.chain().at_height(height)).collect();
    let filtered = |id| Some((id, ledger.chain().entry(id).hash, ledger.block_filter(id)?));
    blocks.into_iter().filter_map(filtered).collect()
}

/// The blocks whose filters match. There may be a million scripts: that is a thread's work of its own.
async fn matching(
    filters: Vec<Filtered>,
    wanted: Arc<BTreeSet<ScriptBuf>>,
) -> Result<Vec<(BlockId, BlockHash)>, RpcError> {
    let search = move || {
        let scripts = || wanted.iter().map(|script| script.as_bytes());
        let may = |(_, hash, filter): &Filtered| BlockFilter::new(filter).match_any(hash, scripts()).unwrap_or(false);
        filters.into_iter().filter(may).map(|(id, hash, _)| (id, hash)).collect()
    };
    tokio::task::spawn_blocking(search).await.map_err(|error| RpcError::new(code::INTERNAL, error.to_string()))
}

fn concerns(ledger: &Ledger, id: BlockId, wanted: &BTreeSet<ScriptBuf>) -> Result<bool, RpcError> {
    let block = body(ledger, id)?;
    let made = block.transactions().iter().flat_map(|transaction| &transaction.output);
    if made.into_iter().any(|output| wanted.contains(&output.script_pubkey)) {
        return Ok(true);
    }
    let undo = undo(ledger, id)?.unwrap_or_default();
    Ok(undo.spent.iter().flatten().any(|coin| wanted.contains(&coin.output.script_pubkey)))
}

/// Where something happened.
type Place = Option<(BlockHash, u32)>;

async fn getdescriptoractivity(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hashes = params.list(0)?.iter().map(|value| argument::hash(value, "blockhash").map(BlockHash::from_raw_hash));
    let hashes = hashes.collect::<Result<Vec<_>, _>>();
    // An unknown block comes before a malformed hash behind it.
    let listed = params.list(0)?.to_vec();
    let blocks = cx.run(move |ledger| blocks_of(ledger, &listed)).await??;
    hashes?;
    let wanted = Arc::new(scripts(params.list(1)?)?);
    let mut activity = Vec::new();
    for id in blocks.into_values() {
        let wanted = Arc::clone(&wanted);
        activity.extend(cx.run(move |ledger| of_block(ledger, id, &wanted)).await??);
    }
    if params.bool_or(2, true)? {
        activity.extend(cx.run(move |ledger| of_mempool(ledger, &wanted)).await?);
    }
    Ok(json!({"activity": activity}))
}

/// The blocks in order of their heights.
fn blocks_of(ledger: &Ledger, listed: &[Value]) -> Result<BTreeMap<u32, BlockId>, RpcError> {
    let mut blocks = BTreeMap::new();
    for value in listed {
        let id = known(ledger, &BlockHash::from_raw_hash(argument::hash(value, "blockhash")?))?;
        if !ledger.chain().is_active(id) {
            return Err(RpcError::new(code::INVALID_PARAMETER, "Block is not in main chain"));
        }
        blocks.insert(ledger.chain().entry(id).height, id);
    }
    Ok(blocks)
}

fn of_block(ledger: &Ledger, id: BlockId, wanted: &BTreeSet<ScriptBuf>) -> Result<Vec<Value>, RpcError> {
    let block: Arc<HashedBlock> = body(ledger, id)?;
    let undo: BlockUndo = undo(ledger, id)?.unwrap_or_default();
    let entry = ledger.chain().entry(id);
    let place = Some((entry.hash, entry.height));
    let mut events = Vec::new();
    for (index, transaction) in block.transactions().iter().enumerate() {
        let coins = index.checked_sub(1).and_then(|index| undo.spent.get(index));
        let spent = coins.into_iter().flatten().map(|coin| Some(&coin.output));
        add_events(&mut events, transaction, &spent.collect::<Vec<_>>(), place, wanted);
    }
    Ok(events)
}

fn of_mempool(ledger: &Ledger, wanted: &BTreeSet<ScriptBuf>) -> Vec<Value> {
    let mut events = Vec::new();
    let mempool = ledger.mempool();
    let output = |outpoint: &OutPoint| {
        let parent = mempool.entry(&outpoint.txid);
        let unconfirmed = parent.and_then(|parent| parent.transaction.output.get(outpoint.vout as usize)).cloned();
        ledger.coin(outpoint).map(|coin| coin.output).or(unconfirmed)
    };
    for entry in mempool.entries() {
        let outputs: Vec<Option<TxOut>> =
            entry.transaction.input.iter().map(|input| output(&input.previous_output)).collect();
        let spent: Vec<Option<&TxOut>> = outputs.iter().map(Option::as_ref).collect();
        add_events(&mut events, &entry.transaction, &spent, None, wanted);
    }
    events
}

fn add_events(
    events: &mut Vec<Value>,
    transaction: &Transaction,
    spent: &[Option<&TxOut>],
    place: Place,
    wanted: &BTreeSet<ScriptBuf>,
) {
    let event = |kind: &str, output: &TxOut| {
        let mut event = Map::new();
        event.insert("type".into(), kind.into());
        event.insert("amount".into(), render::amount(output.value.to_sat()));
        if let Some((hash, height)) = place {
            event.insert("blockhash".into(), hash.to_string().into());
            event.insert("height".into(), height.into());
        }
        event
    };
    let txid = transaction.compute_txid().to_string();
    for (index, (input, output)) in transaction.input.iter().zip(spent).enumerate() {
        let Some(output) = output.filter(|output| wanted.contains(&output.script_pubkey)) else { continue };
        let mut event = event("spend", output);
        event.insert("spend_txid".into(), txid.clone().into());
        event.insert("spend_vin".into(), index.into());
        event.insert("prevout_txid".into(), input.previous_output.txid.to_string().into());
        event.insert("prevout_vout".into(), input.previous_output.vout.into());
        event.insert("prevout_spk".into(), render::script_pubkey(&output.script_pubkey));
        events.push(event.into());
    }
    for (vout, output) in transaction.output.iter().enumerate() {
        if wanted.contains(&output.script_pubkey) {
            let mut event = event("receive", output);
            event.insert("txid".into(), txid.clone().into());
            event.insert("vout".into(), vout.into());
            event.insert("output_spk".into(), render::script_pubkey(&output.script_pubkey));
            events.push(event.into());
        }
    }
}
