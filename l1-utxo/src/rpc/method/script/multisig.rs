//! Addresses of several keys (Core: `createmultisig` in `rpc/output_script.cpp`).

use bitcoin::hex::FromHex;
use bitcoin::{PublicKey, ScriptBuf};
use serde_json::{Map, Value, json};

use crate::rpc::argument::{Kind, Params, optional, required, text};
use crate::rpc::descriptor::checksum;
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::Method;
use crate::rpc::render;

const MAX_KEYS: usize = 20;
/// Bytes of a script that P2SH can spend.
const MAX_REDEEM_SCRIPT: usize = 520;

pub(super) const METHODS: &[Method] = &[Method {
    name: "createmultisig",
    category: "util",
    arguments: &[
        required("nrequired", Kind::Number, "The number of required signatures out of the m keys"),
        required("keys", Kind::List, "The hex-encoded public keys").shown("[\"key\",...]"),
        optional("address_type", Kind::Text, "legacy (the default), p2sh-segwit or bech32"),
    ],
    about: "Creates a multi-signature address with n signatures of m keys required.",
    run: |_, params| Box::pin(async move { createmultisig(&params) }),
}];

fn key(value: &Value) -> Result<PublicKey, RpcError> {
    let hex = text(value)?;
    let refused = |why: &str| RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("Pubkey \"{hex}\" must {why}"));
    let bytes = Vec::from_hex(hex).ok().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| refused("be a hex string"))?;
    if !matches!(bytes.len(), 33 | 65) {
        return Err(refused("have a length of either 33 or 65 bytes"));
    }
    PublicKey::from_slice(&bytes).map_err(|_| refused("be cryptographically valid."))
}

fn createmultisig(params: &Params) -> Result<Value, RpcError> {
    let required = params.int(0)?;
    let keys = params.list(1)?.iter().map(key).collect::<Result<Vec<PublicKey>, RpcError>>()?;
    let wanted = if params.has(2) { params.text(2)? } else { "legacy" };
    let refused = |message: String| Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, message));
    match wanted {
        "legacy" | "p2sh-segwit" | "bech32" => {}
        "bech32m" => return refused("createmultisig cannot create bech32m multisig addresses".into()),
        other => return refused(format!("Unknown address type '{other}'")),
    }
    let script = redeem_script(required, &keys)?;
    // Segwit takes no uncompressed keys.
    let kind = if keys.iter().all(|key| key.compressed) { wanted } else { "legacy" };
    if kind == "legacy" && script.len() > MAX_REDEEM_SCRIPT {
        let message = format!("redeemScript exceeds size limit: {} > {MAX_REDEEM_SCRIPT}", script.len());
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let listed: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let multi = format!("multi({required},{})", listed.join(","));
    let (output, descriptor) = match kind {
        "bech32" => (script.to_p2wsh(), format!("wsh({multi})")),
        "p2sh-segwit" => (script.to_p2wsh().to_p2sh(), format!("sh(wsh({multi}))")),
        _ => (script.to_p2sh(), format!("sh({multi})")),
    };
    let mut result = Map::new();
    result.insert("address".into(), render::address(&output).into());
    result.insert("redeemScript".into(), script.to_hex_string().into());
    result.insert("descriptor".into(), format!("{descriptor}#{}", checksum(&descriptor)).into());
    if kind != wanted {
        let warning = "Unable to make chosen address type, please ensure no uncompressed public keys are present.";
        result.insert("warnings".into(), json!([warning]));
    }
    Ok(Value::Object(result))
}

fn redeem_script(required: i32, keys: &[PublicKey]) -> Result<ScriptBuf, RpcError> {
    let invalid = |message: String| Err(RpcError::new(code::INVALID_PARAMETER, message));
    let Ok(required @ 1..) = usize::try_from(required) else {
        return invalid("a multisignature address must require at least one key to redeem".into());
    };
    if keys.len() < required {
        let supplied = keys.len();
        return invalid(format!(
            "not enough keys supplied (got {supplied} keys, but need at least {required} to redeem)"
        ));
    }
    if keys.len() > MAX_KEYS {
        return invalid(format!(
            "Number of keys involved in the multisignature address creation > {MAX_KEYS}\nReduce the number"
        ));
    }
    let mut builder = bitcoin::script::Builder::new().push_int(required as i64);
    for key in keys {
        builder = builder.push_key(key);
    }
    let count = builder.push_int(keys.len() as i64);
    Ok(count.push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script())
}
