//! What a script is, and how it could be wrapped (Core: `decodescript`).

use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::script::Instruction;
use bitcoin::{PubkeyHash, PublicKey, Script, ScriptBuf, WPubkeyHash};
use miniscript::{Miniscript, Segwitv0};
use serde_json::Value;

use super::Method;
use crate::chain::is_unspendable;
use crate::mempool::policy::output::{OutputType, classify};
use crate::rpc::argument::{Kind, Params, required};
use crate::rpc::descriptor::checksum;
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::rawtransaction::has_valid_ops;
use crate::rpc::render;

pub(super) const METHODS: &[Method] = &[Method {
    name: "decodescript",
    category: "rawtransactions",
    arguments: &[required("hexstring", Kind::Text, "the hex-encoded script")],
    about: "Decode a hex-encoded script.",
    run: |_, params| Box::pin(async move { decodescript(&params) }),
}];

fn decodescript(params: &Params) -> Result<Value, RpcError> {
    let hex = params.text(0)?;
    let bytes = Vec::from_hex(hex).map_err(|_| {
        let message = format!("argument must be hexadecimal string (not '{hex}')");
        RpcError::new(code::INVALID_PARAMETER, message)
    })?;
    let script = ScriptBuf::from_bytes(bytes);
    let Value::Object(mut object) = render::script_pubkey(&script) else {
        return Err(RpcError::new(code::INTERNAL, "a script is shown as an object"));
    };
    object.remove("hex");
    if !can_wrap(&script) {
        return Ok(Value::Object(object));
    }
    if let Some(address) = render::address(&script.to_p2sh()) {
        object.insert("p2sh".into(), address.into());
    }
    if let Some(program) = witness_program(&script) {
        let Value::Object(mut segwit) = render::script_pubkey(&program) else {
            return Err(RpcError::new(code::INTERNAL, "a script is shown as an object"));
        };
        if let Some(descriptor) = inferred(&script).filter(|_| program.is_p2wsh()) {
            segwit.insert("desc".into(), descriptor.into());
        }
        if let Some(address) = render::address(&program.to_p2sh()) {
            segwit.insert("p2sh-segwit".into(), address.into());
        }
        object.insert("segwit".into(), Value::Object(segwit));
    }
    Ok(Value::Object(object))
}

/// The descriptor of a witness script that is miniscript, and sane.
fn inferred(script: &Script) -> Option<String> {
    let parsed = Miniscript::<PublicKey, Segwitv0>::parse(script).ok()?;
    let body = format!("wsh({parsed})");
    // Keys that are known by their hash only have no descriptor.
    (!body.contains("expr_raw")).then(|| format!("{body}#{}", checksum(&body)))
}

/// Whether it makes sense as a redeem script.
fn can_wrap(script: &Script) -> bool {
    let fits = matches!(
        classify(script),
        OutputType::MultiSig { .. }
            | OutputType::NonStandard
            | OutputType::PubKey(_)
            | OutputType::PubKeyHash
            | OutputType::WitnessV0KeyHash
            | OutputType::WitnessV0ScriptHash
    );
    fits && has_valid_ops(script) && !is_unspendable(script) && !script.instructions().any(is_of_tapscript)
}

/// CHECKSIGADD and the opcodes that make tapscripts succeed (BIP 342).
fn is_of_tapscript(instruction: Result<Instruction<'_>, bitcoin::script::Error>) -> bool {
    let Ok(Instruction::Op(op)) = instruction else { return false };
    matches!(
        op.to_u8(),
        80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 186..=254
    )
}

/// The witness program that stands for it, if there may be one.
fn witness_program(script: &Script) -> Option<ScriptBuf> {
    match classify(script) {
        OutputType::PubKey(key) => {
            // Long keys are none of segwit's.
            (key.len() == 33).then(|| ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(key)))
        }
        OutputType::PubKeyHash => {
            let hash = PubkeyHash::from_raw_hash(Hash::from_slice(&script.as_bytes()[3..23]).ok()?);
            Some(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(hash.to_raw_hash())))
        }
        OutputType::MultiSig { keys, .. } if keys.iter().any(|key| key.len() != 33) => None,
        OutputType::MultiSig { .. } | OutputType::NonStandard => Some(script.to_p2wsh()),
        _ => None,
    }
}
