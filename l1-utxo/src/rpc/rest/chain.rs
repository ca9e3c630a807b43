//! Headers, blocks and what the indexes hold.

use std::str::FromStr;

use bitcoin::consensus::Encodable;
use bitcoin::consensus::encode::{VarInt, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, hashes::sha256d};
use serde_json::{Value, json};

use super::{Answer, FORMATS, Format, MAX_HEADERS, Refusal, Request, number};
use crate::chain::{BlockId, BlockUndo};
use crate::driver::Ledger;
use crate::rpc::method::block::{body, raw, undo, view};
use crate::rpc::{Context, render};

/// A hash of 64 hex digits in lower or upper case.
pub(super) fn parse_hash(text: &str) -> Result<BlockHash, Refusal> {
    let hash = sha256d::Hash::from_str(text).map_err(|_| Refusal::bad(format!("Invalid hash: {text}")))?;
    Ok(BlockHash::from_raw_hash(hash))
}

fn find(ledger: &Ledger, hash: &BlockHash) -> Result<BlockId, Refusal> {
    ledger.chain().find(hash).ok_or_else(|| Refusal::missing(format!("{hash} not found")))
}

/// `COUNT/HASH`, or `HASH?count=COUNT`.
fn count_and_hash(request: &Request<'_>, parts: &[&str], usage: &str) -> Result<(usize, BlockHash), Refusal> {
    let (count, hash) = match parts {
        [count, hash] => (*count, *hash),
        [hash] => (request.parameter("count").unwrap_or("5"), *hash),
        _ => return Err(Refusal::bad(format!("Invalid URI format. Expected {usage}"))),
    };
    let parsed = number::<usize>(count).filter(|parsed| (1..=MAX_HEADERS).contains(parsed));
    let parsed = parsed.ok_or_else(|| {
        let message = format!("Header count is invalid or out of acceptable range (1-{MAX_HEADERS}): {count}");
        Refusal::bad(message)
    })?;
    Ok((parsed, parse_hash(hash)?))
}

/// Blocks of the active chain from `hash` on.
fn walk(ledger: &Ledger, hash: &BlockHash, count: usize) -> Vec<BlockId> {
    let chain = ledger.chain();
    let first = chain.find(hash).filter(|id| chain.is_active(*id));
    std::iter::successors(first, |id| chain.next_active(*id)).take(count).collect()
}

pub(super) async fn headers(cx: &Context, request: &Request<'_>, rest: &str) -> Result<Answer, Refusal> {
    let parts: Vec<&str> = rest.split('/').collect();
    let (count, hash) = count_and_hash(request, &parts, "/rest/headers/<hash>.<ext>?count=<count>")?;
    let views = cx
        .run(move |ledger| walk(ledger, &hash, count).into_iter().map(|id| view(ledger, id)).collect::<Vec<_>>())
        .await?;
    Ok(match request.format {
        Format::Json => {
            Answer::Json(views.iter().map(|view| Value::Object(render::header(view))).collect::<Vec<_>>().into())
        }
        _ => Answer::Bytes(views.iter().flat_map(|view| serialize(&view.header)).collect()),
    })
}

fn find_body(ledger: &Ledger, hash: &BlockHash) -> Result<BlockId, Refusal> {
    let id = find(ledger, hash)?;
    let is_here = ledger.chain().entry(id).data.is_some();
    if is_here { Ok(id) } else { Err(Refusal::missing(format!("{hash} not available (not fully downloaded)"))) }
}

pub(super) async fn block(cx: &Context, request: &Request<'_>, hash: &str, verbosity: i32) -> Result<Answer, Refusal> {
    let hash = parse_hash(hash)?;
    if request.format != Format::Json {
        let bytes = cx.run(move |ledger| Ok::<_, Refusal>(raw(ledger, find_body(ledger, &hash)?)?)).await??;
        return Ok(Answer::Bytes(bytes));
    }
    let (view, block, undo) = cx
        .run(move |ledger| {
            let id = find_body(ledger, &hash)?;
            let undo = if verbosity >= 2 { undo(ledger, id)? } else { None };
            Ok::<_, Refusal>((view(ledger, id), body(ledger, id)?, undo))
        })
        .await??;
    Ok(Answer::Json(render::block(&view, &block, undo.as_ref(), verbosity)))
}

/// A piece of a block's bytes.
pub(super) async fn block_part(cx: &Context, request: &Request<'_>, hash: &str) -> Result<Answer, Refusal> {
    let figure = |name: &str| request.parameter(name).and_then(number::<usize>);
    let offset = figure("offset").ok_or_else(|| Refusal::bad("Block part offset missing or invalid"))?;
    let size = figure("size").ok_or_else(|| Refusal::bad("Block part size missing or invalid"))?;
    if request.format == Format::Json {
        return Err(Refusal::bad("JSON output is not supported for this request type"));
    }
    let Answer::Bytes(bytes) = block(cx, request, hash, 0).await? else {
        return Err(Refusal::missing(FORMATS));
    };
    let end = offset.checked_add(size).filter(|_| size > 0);
    let part = end
        .and_then(|end| bytes.get(offset..end))
        .ok_or_else(|| Refusal::bad(format!("Bad block part offset/size {offset}/{size} for {hash}")))?;
    Ok(Answer::Bytes(part.to_vec()))
}

pub(super) async fn hash_by_height(cx: &Context, request: &Request<'_>, height: &str) -> Result<Answer, Refusal> {
    let parsed = number::<u32>(height).filter(|height| i32::try_from(*height).is_ok());
    let parsed = parsed.ok_or_else(|| Refusal::bad(format!("Invalid height: {height}")))?;
    let hash = cx
        .run(move |ledger| ledger.chain().at_height(parsed).map(|id| ledger.chain().entry(id).hash))
        .await?
        .ok_or_else(|| Refusal::missing("Block height out of range"))?;
    Ok(match request.format {
        Format::Binary => Answer::Bytes(hash.to_byte_array().to_vec()),
        // Here, unlike elsewhere, hex is the hash as it is shown.
        Format::Hex => Answer::Text(hash.to_string()),
        _ => Answer::Json(json!({"blockhash": hash.to_string()})),
    })
}

/// What each transaction of a block spent; nothing for the coinbase.
pub(super) async fn spent_outputs(cx: &Context, request: &Request<'_>, hash: &str) -> Result<Answer, Refusal> {
    if hash.contains('/') {
        return Err(Refusal::bad("Invalid URI format. Expected /rest/spenttxouts/<hash>.<ext>"));
    }
    let hash = parse_hash(hash)?;
    let undo = cx
        .run(move |ledger| {
            let id = find(ledger, &hash)?;
            if ledger.chain().entry(id).height == 0 {
                return Ok(BlockUndo::default());
            }
            undo(ledger, id)?.ok_or_else(|| Refusal::missing(format!("{hash} undo not available")))
        })
        .await??;
    if request.format == Format::Json {
        let shown = |coins: &Vec<crate::chain::Coin>| -> Value {
            let outputs = coins.iter().map(|coin| {
                json!({
                    "value": render::amount(coin.output.value.to_sat()),
                    "scriptPubKey": render::script_pubkey(&coin.output.script_pubkey),
                })
            });
            outputs.collect::<Vec<_>>().into()
        };
        let mut lists = vec![json!([])];
        lists.extend(undo.spent.iter().map(shown));
        return Ok(Answer::Json(lists.into()));
    }
    let mut bytes = serialize(&VarInt::from(undo.spent.len() + 1));
    bytes.push(0);
    for coins in &undo.spent {
        bytes.extend(serialize(&VarInt::from(coins.len())));
        for coin in coins {
            coin.output.consensus_encode(&mut bytes).expect("writing to memory does not fail");
        }
    }
    Ok(Answer::Bytes(bytes))
}

fn check_filter_kind(ledger: &Ledger, kind: &str) -> Result<(), Refusal> {
    if kind != "basic" {
        return Err(Refusal::bad(format!("Unknown filtertype {kind}")));
    }
    if !ledger.indexes().filters {
        return Err(Refusal::bad(format!("Index is not enabled for filtertype {kind}")));
    }
    Ok(())
}

pub(super) async fn filter(cx: &Context, request: &Request<'_>, rest: &str) -> Result<Answer, Refusal> {
    let Some((kind, hash)) = rest.split_once('/').filter(|(_, hash)| !hash.contains('/')) else {
        return Err(Refusal::bad("Invalid URI format. Expected /rest/blockfilter/<filtertype>/<blockhash>"));
    };
    let (kind, hash) = (kind.to_owned(), parse_hash(hash)?);
    let filter = cx
        .run(move |ledger| {
            check_filter_kind(ledger, &kind)?;
            let id = find(ledger, &hash)?;
            let missing = || Refusal::missing("Filter not found. Block was not connected to active chain.");
            ledger.block_filter(id).ok_or_else(missing)
        })
        .await??;
    if request.format == Format::Json {
        return Ok(Answer::Json(json!({"filter": hex::encode(filter)})));
    }
    // The filter's type, the block's hash, and the filter with its length.
    let mut bytes = vec![0];
    bytes.extend(hash.as_byte_array());
    bytes.extend(serialize(&filter));
    Ok(Answer::Bytes(bytes))
}

pub(super) async fn filter_headers(cx: &Context, request: &Request<'_>, rest: &str) -> Result<Answer, Refusal> {
    const USAGE: &str = "/rest/blockfilterheaders/<filtertype>/<blockhash>.<ext>?count=<count>";
    let parts: Vec<&str> = rest.split('/').collect();
    let Some((kind, parts)) = parts.split_first() else {
        return Err(Refusal::bad(format!("Invalid URI format. Expected {USAGE}")));
    };
    let (count, hash) = count_and_hash(request, parts, USAGE)?;
    let kind = (*kind).to_owned();
    let headers = cx
        .run(move |ledger| {
            check_filter_kind(ledger, &kind)?;
            let headers = walk(ledger, &hash, count).into_iter().map(|id| Some(ledger.filter_header(id)?.0));
            let headers = headers.collect::<Option<Vec<_>>>();
            headers.ok_or_else(|| Refusal::missing("Filter not found."))
        })
        .await??;
    Ok(match request.format {
        Format::Json => Answer::Json(headers.iter().map(ToString::to_string).collect::<Vec<_>>().into()),
        _ => Answer::Bytes(headers.iter().flat_map(|header| *header.as_byte_array()).collect()),
    })
}
