//! Transactions, unspent outputs (BIP 64) and the mempool.

use std::str::FromStr;

use bitcoin::consensus::encode::{VarInt, deserialize_partial, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use serde_json::{Value, json};

use super::{Answer, FORMATS, Format, Refusal, Request, json_of, number};
use crate::chain::Coin;
use crate::driver::Ledger;
use crate::rpc::Context;
use crate::rpc::dialect::code;
use crate::rpc::method::rawtransaction::fetch;
use crate::rpc::render::{self, Detail};

/// Outputs in one question at most.
const MAX_OUTPOINTS: usize = 15;

pub(super) async fn transaction(cx: &Context, request: &Request<'_>, txid: &str) -> Result<Answer, Refusal> {
    let parsed = Txid::from_str(txid).map_err(|_| Refusal::bad(format!("Invalid hash: {txid}")))?;
    let found = cx.run(move |ledger| fetch(ledger, parsed)).await?;
    let (transaction, block) = found.map_err(|error| match error.code {
        code::INVALID_ADDRESS_OR_KEY => Refusal::missing(format!("{txid} not found")),
        _ => error.into(),
    })?;
    if request.format != Format::Json {
        return Ok(Answer::Bytes(serialize(transaction.as_ref())));
    }
    let mut object = render::transaction(&transaction, Detail::Plain);
    if let Some(block) = block {
        object.insert("blockhash".into(), block.to_string().into());
    }
    Ok(Answer::Json(Value::Object(object)))
}

pub(super) async fn mempool(cx: &Context, request: &Request<'_>, what: &str) -> Result<Answer, Refusal> {
    let flag = |name: &str, default: bool| match request.parameter(name) {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Refusal::bad(format!("The \"{name}\" query parameter must be either \"true\" or \"false\"."))),
    };
    match what {
        "info" => json_of(cx, request, "getmempoolinfo", Vec::new()).await,
        "contents" => {
            let (verbose, sequence) = (flag("verbose", true)?, flag("mempool_sequence", false)?);
            if verbose && sequence {
                let message = "Verbose results cannot contain mempool sequence values. (hint: set \"verbose=false\")";
                return Err(Refusal::bad(message));
            }
            json_of(cx, request, "getrawmempool", vec![verbose.into(), sequence.into()]).await
        }
        _ => Err(Refusal::bad("Invalid URI format. Expected /rest/mempool/<info|contents>.json")),
    }
}

/// Which outputs are asked for, and whether the mempool counts.
struct Question {
    with_mempool: bool,
    outpoints: Vec<OutPoint>,
}

fn question(request: &Request<'_>, rest: &str) -> Result<Question, Refusal> {
    let empty = || Refusal::bad("Error: empty request");
    let parse = || Refusal::bad("Parse error");
    let mut parts = rest.trim_start_matches('/').split('/').filter(|part| !part.is_empty()).peekable();
    let with_mempool = parts.next_if_eq(&"checkmempool").is_some();
    let mut outpoints = Vec::new();
    for part in parts {
        let (txid, vout) = part.split_once('-').ok_or_else(parse)?;
        outpoints
            .push(OutPoint { txid: Txid::from_str(txid).map_err(|_| parse())?, vout: number(vout).ok_or_else(parse)? });
    }
    if !outpoints.is_empty() {
        if !request.body.is_empty() && request.format != Format::Json {
            return Err(Refusal::bad("Combination of URI scheme inputs and raw post data is not allowed"));
        }
        return Ok(Question { with_mempool, outpoints });
    }
    if request.format == Format::Json || request.body.is_empty() || with_mempool {
        return Err(empty());
    }
    let bytes = match request.format {
        Format::Hex => hex::decode(request.body).map_err(|_| parse())?,
        Format::Binary => request.body.to_vec(),
        _ => return Err(Refusal::missing(FORMATS)),
    };
    let (flag, list) = bytes.split_first().ok_or_else(parse)?;
    let (count, mut at) = deserialize_partial::<VarInt>(list).map_err(|_| parse())?;
    let mut outpoints = Vec::new();
    for _ in 0..count.0 {
        let (outpoint, length) = deserialize_partial::<OutPoint>(&list[at..]).map_err(|_| parse())?;
        at += length;
        outpoints.push(outpoint);
    }
    Ok(Question { with_mempool: *flag != 0, outpoints })
}

fn answer(ledger: &Ledger, question: &Question) -> (u32, bitcoin::BlockHash, Vec<Option<Coin>>) {
    let tip = ledger.chain().tip_entry();
    let mempool = ledger.mempool();
    let coin = |outpoint: &OutPoint| {
        if !question.with_mempool {
            return ledger.coin(outpoint);
        }
        if mempool.spender(outpoint).is_some() {
            return None;
        }
        // Core shows the height of what is unconfirmed as 2^31 − 1.
        let unconfirmed = mempool.coin(outpoint, tip.height).map(|coin| Coin { height: 0x7fff_ffff, ..coin });
        unconfirmed.or_else(|| ledger.coin(outpoint))
    };
    (tip.height, tip.hash, question.outpoints.iter().map(coin).collect())
}

pub(super) async fn unspent(cx: &Context, request: &Request<'_>, rest: &str) -> Result<Answer, Refusal> {
    if request.format == Format::Unknown {
        return Err(Refusal::missing(FORMATS));
    }
    let question = question(request, rest)?;
    let asked = question.outpoints.len();
    if asked > MAX_OUTPOINTS {
        let message = format!("Error: max outpoints exceeded (max: {MAX_OUTPOINTS}, tried: {asked})");
        return Err(Refusal::bad(message));
    }
    let (height, tip, coins) = cx.run(move |ledger| answer(ledger, &question)).await?;
    if request.format == Format::Json {
        let bitmap: String = coins.iter().map(|coin| if coin.is_some() { '1' } else { '0' }).collect();
        let utxos = coins.iter().flatten().map(|coin| {
            json!({
                "height": coin.height,
                "value": render::amount(coin.output.value.to_sat()),
                "scriptPubKey": render::script_pubkey(&coin.output.script_pubkey),
            })
        });
        let utxos = utxos.collect::<Vec<_>>();
        let shown = json!({"chainHeight": height, "chaintipHash": tip.to_string(), "bitmap": bitmap, "utxos": utxos});
        return Ok(Answer::Json(shown));
    }
    let mut bitmap = vec![0u8; coins.len().div_ceil(8)];
    for (index, _) in coins.iter().enumerate().filter(|(_, coin)| coin.is_some()) {
        bitmap[index / 8] |= 1 << (index % 8);
    }
    let mut bytes = height.to_le_bytes().to_vec();
    bytes.extend(tip.as_byte_array());
    bytes.extend(serialize(&bitmap));
    bytes.extend(serialize(&VarInt::from(coins.iter().flatten().count())));
    for coin in coins.iter().flatten() {
        // A version that nobody reads any more.
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(coin.height.to_le_bytes());
        bytes.extend(serialize(&coin.output));
    }
    Ok(Answer::Bytes(bytes))
}
