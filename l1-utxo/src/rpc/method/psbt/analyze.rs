//! Who must do what next (Core: `AnalyzePSBT`).

use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash;
use serde_json::{Map, Value};

use super::{PSBT, parse};
use crate::chain::is_unspendable;
use crate::consensus::script::ScriptFlags;
use crate::consensus::sigop::sigop_cost;
use crate::consensus::transaction::MAX_MONEY;
use crate::mempool::Policy;
use crate::rpc::argument::Params;
use crate::rpc::dialect::RpcError;
use crate::rpc::method::Method;
use crate::rpc::psbt::{
    Map as Fields, Outcome, Psbt, Spends, final_witness, is_verified, kind, legacy_transaction, number, sign_input,
    single,
};
use crate::rpc::render;
use crate::rpc::sign::{Keystore, Missing};

pub(super) const METHODS: &[Method] = &[Method {
    name: "analyzepsbt",
    category: "rawtransactions",
    arguments: &[PSBT],
    about: "Analyzes and provides information about the current status of a PSBT and its inputs",
    run: |cx, params| {
        Box::pin(async move {
            let policy = cx.run(|ledger| *ledger.mempool().policy()).await?;
            analyzepsbt(&params, &policy)
        })
    },
}];

/// Who is next, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Creator,
    Updater,
    Signer,
    Finalizer,
    Extractor,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Creator => "creator",
            Self::Updater => "updater",
            Self::Signer => "signer",
            Self::Finalizer => "finalizer",
            Self::Extractor => "extractor",
        }
    }
}

/// What is known of one input.
struct Status {
    has_utxo: bool,
    is_final: bool,
    next: Role,
    missing: Missing,
}

fn analyzepsbt(params: &Params, policy: &Policy) -> Result<Value, RpcError> {
    let psbt = parse(params.text(0)?)?;
    let mut result = Map::new();
    match analyze(&psbt, policy, &mut result) {
        Ok(next) => drop(result.insert("next".into(), next.name().into())),
        Err(error) => {
            result.clear();
            result.insert("next".into(), Role::Creator.name().into());
            result.insert("error".into(), error.into());
        }
    }
    Ok(Value::Object(result))
}

fn analyze(psbt: &Psbt, policy: &Policy, result: &mut Map<String, Value>) -> Result<Role, String> {
    let spends = Spends::of(psbt).ok_or("PSBT cannot be made into a valid transaction")?;
    let (mut spent, mut knows_all, mut next) = (0u64, true, Role::Extractor);
    let mut inputs = Vec::new();
    for (index, fields) in psbt.inputs.iter().enumerate() {
        match spends.output(index) {
            Some(prevout) => {
                let value = prevout.value.to_sat();
                spent = spent.saturating_add(value);
                if value > MAX_MONEY || spent > MAX_MONEY {
                    return Err(format!("PSBT is not valid. Input {index} has invalid value"));
                }
                if is_unspendable(&prevout.script_pubkey) {
                    return Err(format!("PSBT is not valid. Input {index} spends unspendable output"));
                }
            }
            None => {
                let whole = single(fields, kind::IN_NON_WITNESS_UTXO);
                let whole = whole.and_then(|bytes| legacy_transaction(bytes));
                let vout = spends.transaction.input[index].previous_output.vout as usize;
                if whole.is_some_and(|whole| vout >= whole.output.len()) {
                    return Err(format!("PSBT is not valid. Input {index} specifies invalid prevout"));
                }
                knows_all = false;
            }
        }
        let status = status(&spends, index, fields);
        next = next.min(status.next);
        inputs.push(show(&status));
    }
    if !inputs.is_empty() {
        result.insert("inputs".into(), inputs.into());
    }
    if knows_all {
        let mut made = 0u64;
        for output in &spends.transaction.output {
            made = made.saturating_add(output.value.to_sat());
            if output.value.to_sat() > MAX_MONEY || made > MAX_MONEY {
                return Err("PSBT is not valid. Output amount invalid".into());
            }
        }
        let fee = spent.cast_signed() - made.cast_signed();
        if let Some(vsize) = estimate(psbt, &spends, policy) {
            result.insert("estimated_vsize".into(), vsize.into());
            let rate = (i128::from(fee) * 1_000).div_euclid(i128::from(vsize.max(1)));
            let rate = i64::try_from(rate).unwrap_or(i64::MAX);
            result.insert("estimated_feerate".into(), render::signed_amount(rate));
        }
        result.insert("fee".into(), render::signed_amount(fee));
    }
    Ok(next)
}

fn status(spends: &Spends, index: usize, fields: &Fields) -> Status {
    let has_utxo = spends.output(index).is_some();
    let status = |is_final, next, missing| Status { has_utxo, is_final, next, missing };
    if is_verified(spends, index, fields) {
        return status(true, Role::Extractor, Missing::default());
    }
    match sign_input(spends, index, &mut fields.clone(), &Keystore::default(), None, true, true) {
        Outcome::Complete => status(false, Role::Finalizer, Missing::default()),
        Outcome::Incomplete(missing) => {
            let only_signatures =
                missing.keys.is_empty() && missing.redeem_script.is_none() && missing.witness_script.is_none();
            let next = if only_signatures && !missing.signatures.is_empty() { Role::Signer } else { Role::Updater };
            status(false, next, missing)
        }
        Outcome::MissingUtxo | Outcome::SighashMismatch => status(false, Role::Updater, Missing::default()),
    }
}

fn show(status: &Status) -> Value {
    let mut object = Map::new();
    object.insert("has_utxo".into(), status.has_utxo.into());
    object.insert("is_final".into(), status.is_final.into());
    object.insert("next".into(), status.next.name().into());
    let mut missing = Map::new();
    let ids = |ids: &[crate::rpc::sign::KeyId]| -> Vec<Value> {
        ids.iter().map(|id| hex::encode(id.as_byte_array()).into()).collect()
    };
    if !status.missing.keys.is_empty() {
        missing.insert("pubkeys".into(), ids(&status.missing.keys).into());
    }
    if let Some(hash) = &status.missing.redeem_script {
        missing.insert("redeemscript".into(), hex::encode(hash.as_byte_array()).into());
    }
    if let Some(hash) = &status.missing.witness_script {
        missing.insert("witnessscript".into(), hex::encode(hash).into());
    }
    if !status.missing.signatures.is_empty() {
        missing.insert("signatures".into(), ids(&status.missing.signatures).into());
    }
    if !missing.is_empty() {
        object.insert("missing".into(), Value::Object(missing));
    }
    Value::Object(object)
}

/// The virtual size once everything is signed, if it can be told.
fn estimate(psbt: &Psbt, spends: &Spends, policy: &Policy) -> Option<u64> {
    let (mut transaction, mut prevouts) = (spends.transaction.clone(), Vec::new());
    for (index, (fields, input)) in psbt.inputs.iter().zip(&mut transaction.input).enumerate() {
        let (mut fields, sighash) = (fields.clone(), number(fields, kind::IN_SIGHASH));
        let outcome = sign_input(spends, index, &mut fields, &Keystore::default(), sighash, false, true);
        if !matches!(outcome, Outcome::Complete) {
            return None;
        }
        prevouts.push(spends.output(index)?);
        let script_sig = single(&fields, kind::IN_FINAL_SCRIPT_SIG).cloned().unwrap_or_default();
        input.script_sig = ScriptBuf::from_bytes(script_sig);
        input.witness = final_witness(&fields);
    }
    let sigops = sigop_cost(&transaction, &prevouts, ScriptFlags::STANDARD);
    Some(transaction.weight().to_wu().max(sigops * policy.bytes_per_sigop).div_ceil(4))
}
