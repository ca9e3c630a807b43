//! Scripts, descriptors, addresses of several keys and signed messages, without the chain.
//! Core: `rpc/output_script.cpp`, `rpc/signmessage.cpp`, `decodescript` in `rpc/rawtransaction.cpp`.
//!
//! Nothing here asks the validation thread. What a descriptor means is known to `rpc::descriptor`.

mod decode;
mod message;
mod multisig;

use serde_json::{Value, json};

use super::Method;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::descriptor::{self, Descriptor};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render;

/// The methods of this folder.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    [METHODS, decode::METHODS, message::METHODS, multisig::METHODS].into_iter().flatten()
}

const METHODS: &[Method] = &[
    Method {
        name: "deriveaddresses",
        category: "util",
        arguments: &[
            required("descriptor", Kind::Text, "The descriptor, with its checksum"),
            optional("range", Kind::Any, "For a ranged descriptor, the end or [begin,end]"),
        ],
        about: "Derives one or more addresses corresponding to an output descriptor.",
        run: |_, params| Box::pin(async move { deriveaddresses(&params) }),
    },
    Method {
        name: "getdescriptorinfo",
        category: "util",
        arguments: &[required("descriptor", Kind::Text, "The descriptor")],
        about: "Analyses a descriptor.",
        run: |_, params| Box::pin(async move { getdescriptorinfo(&params) }),
    },
];

fn getdescriptorinfo(params: &Params) -> Result<Value, RpcError> {
    let text = params.text(0)?;
    let descriptors = Descriptor::parse(text, false)?;
    let first = descriptors.first().ok_or_else(|| RpcError::new(code::INTERNAL, "no descriptor was read"))?;
    let mut info = serde_json::Map::new();
    info.insert("descriptor".into(), first.text.as_str().into());
    if descriptors.len() > 1 {
        let all: Vec<&str> = descriptors.iter().map(|descriptor| descriptor.text.as_str()).collect();
        info.insert("multipath_expansion".into(), all.into());
    }
    info.insert("checksum".into(), descriptor::checksum(text).into());
    info.insert("isrange".into(), first.is_range().into());
    info.insert("issolvable".into(), first.is_solvable().into());
    info.insert("hasprivatekeys".into(), first.has_private_keys.into());
    Ok(Value::Object(info))
}

fn deriveaddresses(params: &Params) -> Result<Value, RpcError> {
    let range = if params.has(1) { Some(descriptor::range(params.get(1))?) } else { None };
    let descriptors = Descriptor::parse(params.text(0)?, true)?;
    let is_range = descriptors.first().is_some_and(Descriptor::is_range);
    let invalid = |message: &str| Err(RpcError::new(code::INVALID_PARAMETER, message));
    match range {
        Some(_) if !is_range => return invalid("Range should not be specified for an un-ranged descriptor"),
        None if is_range => return invalid("Range must be specified for a ranged descriptor"),
        _ => {}
    }
    let lists = descriptors.iter().map(|descriptor| addresses(descriptor, range.unwrap_or((0, 0))));
    let mut lists = lists.collect::<Result<Vec<Value>, RpcError>>()?;
    Ok(if lists.len() == 1 { lists.remove(0) } else { json!(lists) })
}

fn addresses(descriptor: &Descriptor, (first, last): (u32, u32)) -> Result<Value, RpcError> {
    let mut addresses = Vec::new();
    for index in first..=last {
        let scripts = descriptor.expand(index)?;
        let several = scripts.len() > 1;
        for (script, _) in scripts {
            match render::address(&script) {
                Some(address) => addresses.push(address),
                // A bare key has no address; where there are others it is left out.
                None if several => {}
                None => {
                    let message = "Descriptor does not have a corresponding address";
                    return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, message));
                }
            }
        }
    }
    Ok(addresses.into())
}
