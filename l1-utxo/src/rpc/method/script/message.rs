//! Messages signed by the key of an address (Core: `rpc/signmessage.cpp`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::Hash;
use bitcoin::{PublicKey, ScriptBuf, sign_message};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use serde_json::Value;

use crate::rpc::argument::{Kind, Params, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::{Method, decode_address};
use crate::rpc::sign::key_of_wif;

/// What the first byte of a signature is counted from, and what a compressed key adds.
const HEADER: u8 = 27;
const COMPRESSED: u8 = 4;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "signmessagewithprivkey",
        category: "util",
        arguments: &[
            required("privkey", Kind::Text, "The private key to sign the message with"),
            required("message", Kind::Text, "The message to create a signature of"),
        ],
        about: "Sign a message with the private key of an address",
        run: |_, params| Box::pin(async move { signmessagewithprivkey(&params) }),
    },
    Method {
        name: "verifymessage",
        category: "util",
        arguments: &[
            required("address", Kind::Text, "The bitcoin address to use for the signature"),
            required("signature", Kind::Text, "The signature provided by the signer in base 64 encoding"),
            required("message", Kind::Text, "The message that was signed"),
        ],
        about: "Verify a signed message.",
        run: |_, params| Box::pin(async move { verifymessage(&params) }),
    },
];

fn digest(message: &str) -> Message {
    Message::from_digest(sign_message::signed_msg_hash(message).to_byte_array())
}

fn signmessagewithprivkey(params: &Params) -> Result<Value, RpcError> {
    let invalid = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Invalid private key");
    let (secret, compressed) = key_of_wif(params.text(0)?).ok_or_else(invalid)?;
    let signature = SECP256K1.sign_ecdsa_recoverable(&digest(params.text(1)?), &secret);
    let (id, compact) = signature.serialize_compact();
    let id = u8::try_from(id.to_i32()).unwrap_or(0);
    let header = HEADER + id + if compressed { COMPRESSED } else { 0 };
    Ok(STANDARD.encode([&[header][..], &compact].concat()).into())
}

fn verifymessage(params: &Params) -> Result<Value, RpcError> {
    let script =
        decode_address(params.text(0)?).map_err(|_| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Invalid address"))?;
    if !script.is_p2pkh() {
        return Err(RpcError::new(code::TYPE, "Address does not refer to key"));
    }
    let bytes = STANDARD.decode(params.text(1)?);
    let bytes = bytes.map_err(|_| RpcError::new(code::TYPE, "Malformed base64 encoding"))?;
    let key = recover(&bytes, params.text(2)?);
    Ok(key.is_some_and(|key| ScriptBuf::new_p2pkh(&key.pubkey_hash()) == script).into())
}

fn recover(signature: &[u8], message: &str) -> Option<PublicKey> {
    let (header, compact) = signature.split_first().filter(|(_, compact)| compact.len() == 64)?;
    let header = header.wrapping_sub(HEADER);
    let id = RecoveryId::from_i32(i32::from(header & 3)).ok()?;
    let signature = RecoverableSignature::from_compact(compact, id).ok()?;
    let inner = SECP256K1.recover_ecdsa(&digest(message), &signature).ok()?;
    Some(PublicKey { compressed: header & COMPRESSED != 0, inner })
}
