//! What must be paid, and what the owner adds to what is paid (Core: `rpc/fees.cpp`, `rpc/mining.cpp`).

use bitcoin::Txid;
use serde_json::{Map, Value, json};

use super::Method;
use crate::rpc::argument::{Kind, Params, integer, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};

/// Blocks that fee estimates may look ahead at most (Core: 1008).
const MAX_CONFIRMATION_TARGET: i32 = 1_008;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "estimaterawfee",
        category: "hidden",
        arguments: &[
            required("conf_target", Kind::Number, "Confirmation target in blocks (1 - 1008)"),
            optional(
                "threshold",
                Kind::Number,
                "The proportion of transactions that must have been confirmed; 0.95 by default",
            ),
        ],
        about: "What each horizon of Core's estimator would know. There is no such history here: each says that it has no data.",
        run: |_, params| Box::pin(async move { estimaterawfee(&params) }),
    },
    Method {
        name: "estimatesmartfee",
        category: "util",
        arguments: &[
            required("conf_target", Kind::Number, "Confirmation target in blocks (1 - 1008)"),
            optional("estimate_mode", Kind::Text, "unset, economical or conservative"),
        ],
        about: "Estimates the approximate fee per kilobyte needed for a transaction to begin confirmation.",
        run: |cx, params| Box::pin(estimatesmartfee(cx, params)),
    },
    Method {
        name: "getprioritisedtransactions",
        category: "mining",
        arguments: &[],
        about: "Returns a map of all user-created (see prioritisetransaction) fee deltas by txid, and whether the tx is \
                present in mempool.",
        run: |cx, _| Box::pin(getprioritisedtransactions(cx)),
    },
    Method {
        name: "prioritisetransaction",
        category: "mining",
        arguments: &[
            required("txid", Kind::Text, "The transaction id."),
            optional("dummy", Kind::Number, "Must be zero or null."),
            required("fee_delta", Kind::Number, "The fee value (in satoshis) to add (or subtract, if negative)."),
        ],
        about: "Accepts the transaction into mined blocks at a higher (or lower) priority",
        run: |cx, params| Box::pin(prioritisetransaction(cx, params)),
    },
];

async fn prioritisetransaction(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let txid = Txid::from_raw_hash(params.hash(0, "txid")?);
    let delta = integer(params.get(2))?;
    if params.get(1).as_f64().is_some_and(|dummy| dummy != 0.0) {
        let message = "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    cx.run(move |ledger| ledger.with_mempool(|mempool, _| mempool.prioritise(txid, delta)))
        .await?
        .map_err(|error| RpcError::new(code::INVALID_PARAMETER, error.to_string()))?;
    Ok(true.into())
}

async fn getprioritisedtransactions(cx: &Context) -> Result<Value, RpcError> {
    cx.run(|ledger| {
        let listed = ledger.mempool().prioritised().map(|prioritised| {
            let mut object = Map::new();
            object.insert("fee_delta".into(), prioritised.delta.into());
            object.insert("in_mempool".into(), prioritised.modified_fee.is_some().into());
            if let Some(fee) = prioritised.modified_fee {
                object.insert("modified_fee".into(), fee.into());
            }
            (prioritised.txid.to_string(), Value::Object(object))
        });
        Value::Object(listed.collect())
    })
    .await
}

fn confirmation_target(params: &Params) -> Result<i32, RpcError> {
    let target = params.int(0)?;
    if !(1..=MAX_CONFIRMATION_TARGET).contains(&target) {
        let message = format!("Invalid conf_target, must be between 1 and {MAX_CONFIRMATION_TARGET}");
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    Ok(target)
}

/// Core's horizons: their names, how many blocks they look ahead, how fast they forget, and their step.
const HORIZONS: [(&str, i32, f64, u32); 3] =
    [("short", 12, 0.962, 1), ("medium", 48, 0.9952, 2), ("long", 1_008, 0.999_31, 24)];

fn estimaterawfee(params: &Params) -> Result<Value, RpcError> {
    let target = confirmation_target(params)?;
    let threshold = if params.has(1) { params.get(1).as_f64().unwrap_or(2.0) } else { 0.95 };
    if !(0.0..=1.0).contains(&threshold) {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Invalid threshold"));
    }
    let tracked = HORIZONS.into_iter().filter(|(_, most, ..)| target <= *most);
    let shown = tracked.map(|(name, _, decay, scale)| {
        let nothing = json!({
            "startrange": -1,
            "endrange": -1,
            "withintarget": 0,
            "totalconfirmed": 0,
            "inmempool": 0,
            "leftmempool": 0,
        });
        let horizon = json!({
            "decay": render::double(decay),
            "scale": scale,
            "fail": nothing,
            "errors": ["Insufficient data or no feerate found which meets threshold"],
        });
        (name.to_owned(), horizon)
    });
    Ok(Value::Object(shown.collect()))
}

/// What the mempool says: nothing while all of it fits into the blocks to come, as a young Core; else what it takes.
async fn estimatesmartfee(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let target = confirmation_target(&params)?;
    if params.has(1) {
        let mode = params.text(1)?.to_lowercase();
        if !matches!(mode.as_str(), "unset" | "economical" | "conservative") {
            let message =
                "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
            return Err(RpcError::new(code::INVALID_PARAMETER, message));
        }
    }
    // A target of one block is raised to two, as Core's estimator does: one full block may come before ours.
    let target = target.max(2);
    let feerate = cx
        .run(move |ledger| {
            let mempool = ledger.mempool();
            let floor = mempool.rolling_feerate().max(mempool.policy().min_relay_feerate);
            // One above it is mined before it.
            mempool.feerate_within(target.unsigned_abs() - 1).map(|feerate| (feerate + 1).max(floor))
        })
        .await?;
    Ok(match feerate {
        Some(feerate) => json!({"feerate": render::feerate(feerate), "blocks": target}),
        None => json!({"errors": ["Insufficient data or no feerate found"], "blocks": target}),
    })
}
