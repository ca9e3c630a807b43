//! The room as a whole: routes from payer to payee and back, against the published figures and with everything that can be
//! changed changed.

use secp256k1::{PublicKey, SecretKey, ecdh};
use serde_json::Value;

use super::*;

mod attribution;
mod blinding;
mod bytes;
mod refusal;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

/// The ECDH of a node.
fn node(key: SecretKey) -> impl Fn(&PublicKey) -> ecdh::SharedSecret {
    move |point| ecdh::SharedSecret::new(point, &key)
}

#[allow(clippy::disallowed_methods, reason = "a test may read files")]
fn vector(name: &str) -> Option<Value> {
    let Ok(dir) = std::env::var("SPEC_VECTORS") else {
        println!("SPEC_VECTORS is not set: {name} is not checked");
        return None;
    };
    Some(serde_json::from_str(&std::fs::read_to_string(format!("{dir}/{name}")).unwrap()).unwrap())
}

fn bytes_of(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn point_of(value: &Value) -> PublicKey {
    PublicKey::from_slice(&bytes_of(value)).unwrap()
}

fn key_of(value: &Value) -> SecretKey {
    SecretKey::from_slice(&bytes_of(value)).unwrap()
}
