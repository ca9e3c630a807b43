//! What must be paid, and what the owner adds to what is paid (Core: `rpc/fees.cpp`, `rpc/mining.cpp`).

use bitcoin::Txid;
use serde_json::{Map, Value, json};

use super::Method;
use crate::estimator::{Estimator, MAX_TARGET, Range, RawEstimate, Term};
use crate::rpc::argument::{Kind, Params, integer, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};

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
        about: "Estimates the approximate fee per kilobyte needed for a transaction to begin confirmation: what each horizon \
                says by itself.",
        run: |cx, params| Box::pin(estimaterawfee(cx, params)),
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

fn confirmation_target(params: &Params) -> Result<u32, RpcError> {
    let target = params.int(0)?;
    let target = u32::try_from(target).ok().filter(|target| (1..=MAX_TARGET).contains(target));
    target.ok_or_else(|| {
        let message = format!("Invalid conf_target, must be between 1 and {MAX_TARGET}");
        RpcError::new(code::INVALID_PARAMETER, message)
    })
}

fn disabled() -> RpcError {
    RpcError::new(code::INTERNAL, "Fee estimation disabled")
}

/// Lets `ask` ask the estimator, if there is one.
async fn estimated<T: Send + 'static>(
    cx: &Context,
    ask: impl FnOnce(&Estimator) -> T + Send + 'static,
) -> Result<T, RpcError> {
    cx.run(|ledger| ledger.estimator().map(ask)).await?.ok_or_else(disabled)
}

async fn estimaterawfee(cx: &Context, params: Params) -> Result<Value, RpcError> {
    estimated(cx, |_| ()).await?;
    let target = confirmation_target(&params)?;
    let threshold = if params.has(1) { params.get(1).as_f64().unwrap_or(2.0) } else { 0.95 };
    if !(0.0..=1.0).contains(&threshold) {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Invalid threshold"));
    }
    let raw =
        estimated(cx, move |estimator| Term::ALL.map(|term| (term, estimator.raw(term, target, threshold)))).await?;
    let shown = raw.into_iter().filter_map(|(term, raw)| Some((term.name().to_owned(), horizon(&raw?))));
    Ok(Value::Object(shown.collect()))
}

fn horizon(raw: &RawEstimate) -> Value {
    let mut object = Map::new();
    let feerate = raw.median.map(|feerate| feerate.round() as u64).filter(|feerate| *feerate > 0);
    if let Some(feerate) = feerate {
        object.insert("feerate".into(), render::feerate(feerate));
    }
    object.insert("decay".into(), render::double(raw.decay));
    object.insert("scale".into(), raw.scale.into());
    if feerate.is_some() {
        object.insert("pass".into(), range(&raw.pass));
    }
    if feerate.is_none() || raw.fail.start >= 0.0 {
        object.insert("fail".into(), range(&raw.fail));
    }
    if feerate.is_none() {
        object.insert("errors".into(), json!(["Insufficient data or no feerate found which meets threshold"]));
    }
    Value::Object(object)
}

fn range(range: &Range) -> Value {
    let hundredths = |count: f64| render::double((count * 100.0).round() / 100.0);
    json!({
        "startrange": render::double(range.start.round()),
        "endrange": render::double(range.end.round()),
        "withintarget": hundredths(range.within_target),
        "totalconfirmed": hundredths(range.confirmed),
        "inmempool": hundredths(range.waiting),
        "leftmempool": hundredths(range.left),
    })
}

/// What was seen of confirmations; before enough was, what a mempool takes that is too large for the blocks to come, where
/// Core would know nothing.
async fn estimatesmartfee(cx: &Context, params: Params) -> Result<Value, RpcError> {
    estimated(cx, |_| ()).await?;
    let target = confirmation_target(&params)?;
    let mode = if params.has(1) { params.text(1)?.to_lowercase() } else { "economical".to_owned() };
    if !matches!(mode.as_str(), "unset" | "economical" | "conservative") {
        let message = "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let found = cx.run(move |ledger| {
        let estimate = ledger.estimator()?.estimate(target, mode == "conservative");
        let mempool = ledger.mempool();
        let floor = mempool.rolling_feerate().max(mempool.policy().min_relay_feerate);
        if let Some(feerate) = estimate.feerate {
            return Some((Some(feerate.max(floor)), estimate.target));
        }
        // One above it is mined before it.
        let target = target.max(2);
        let crowded = mempool.feerate_within(target - 1).map(|feerate| (feerate + 1).max(floor));
        Some((crowded, if crowded.is_some() { target } else { estimate.target }))
    });
    let (feerate, blocks) = found.await?.ok_or_else(disabled)?;
    Ok(match feerate {
        Some(feerate) => json!({"feerate": render::feerate(feerate), "blocks": blocks}),
        None => json!({"errors": ["Insufficient data or no feerate found"], "blocks": blocks}),
    })
}
