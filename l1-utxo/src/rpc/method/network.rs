//! The network, and addresses (Core: `rpc/net.cpp`, `rpc/output_script.cpp`).

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, ScriptBuf};
use serde_json::{Map, Value, json};

use super::Method;
use crate::mempool::policy::output::is_pay_to_anchor;
use crate::params::ADDRESS_NETWORK;
use crate::rpc::Context;
use crate::rpc::address::explain;
use crate::rpc::argument::{Kind, Params, required};
use crate::rpc::dialect::RpcError;
use crate::rpc::notify::HIGH_WATER_MARK;
use crate::rpc::render;
use crate::sync::{NodeAddress, PROTOCOL_VERSION};

/// The version of Bitcoin Core whose RPC this is: clients choose methods by it.
const VERSION: u32 = 310_000;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getnetworkinfo",
        category: "network",
        arguments: &[],
        about: "Returns an object containing various state info regarding P2P networking, and of each network \
                (ipv4, ipv6, onion, i2p, cjdns) whether it is reachable.",
        run: |cx, _| Box::pin(getnetworkinfo(cx)),
    },
    Method {
        name: "getzmqnotifications",
        category: "zmq",
        arguments: &[],
        about: "Returns information about the active ZeroMQ notifications.",
        run: |cx, _| {
            Box::pin(async {
                let shown = cx.publications.iter().map(|publication| {
                    json!({
                        "type": format!("pub{}", publication.topic.name()),
                        "address": publication.address,
                        "hwm": HIGH_WATER_MARK,
                    })
                });
                Ok(shown.collect::<Vec<_>>().into())
            })
        },
    },
    Method {
        name: "validateaddress",
        category: "util",
        arguments: &[required("address", Kind::Text, "The address to validate")],
        about: "Return information about the given bitcoin address.",
        run: |_, params| Box::pin(async move { validateaddress(&params) }),
    },
];

async fn getnetworkinfo(cx: &Context) -> Result<Value, RpcError> {
    let (policy, warnings) = cx.run(|ledger| (*ledger.mempool().policy(), ledger.warnings())).await?;
    let (inbound, outbound) = cx.peers.counts();
    let network = |name: &str| {
        json!({
            "name": name,
            "limited": !name.starts_with("ipv"),
            "reachable": name.starts_with("ipv"),
            "proxy": "",
            "proxy_randomize_credentials": false,
        })
    };
    // As Core rates what its user says.
    const SCORE: u32 = 4;
    let render = |own: &NodeAddress| json!({"address": own.host.to_string(), "port": own.port, "score": SCORE});
    let own: Vec<Value> = cx.peers.own_addresses().iter().map(render).collect();
    let services = cx.peers.services();
    let networks = super::peer::NETWORKS.map(network);
    Ok(json!({
        "version": VERSION,
        "subversion": cx.peers.user_agent(),
        "protocolversion": PROTOCOL_VERSION,
        "localservices": format!("{services:016x}"),
        "localservicesnames": super::peer::service_names(services),
        "localrelay": cx.peers.relays_transactions(),
        "timeoffset": 0,
        "networkactive": cx.peers.is_active(),
        "connections": inbound + outbound,
        "connections_in": inbound,
        "connections_out": outbound,
        "networks": networks,
        "relayfee": render::feerate(policy.min_relay_feerate),
        "incrementalfee": render::feerate(policy.incremental_feerate),
        "localaddresses": own,
        "warnings": warnings,
    }))
}

/// The output script of an address of this network, or why it is none.
pub fn decode_address(text: &str) -> Result<ScriptBuf, String> {
    let address =
        text.parse::<Address<NetworkUnchecked>>().and_then(|address| address.require_network(ADDRESS_NETWORK));
    address.map(|address| address.script_pubkey()).map_err(|_| explain(text).0)
}

fn validateaddress(params: &Params) -> Result<Value, RpcError> {
    let text = params.text(0)?;
    let script = match decode_address(text) {
        Ok(script) => script,
        Err(error) => {
            return Ok(json!({"isvalid": false, "error_locations": explain(text).1, "error": error}));
        }
    };
    let is_anchor = is_pay_to_anchor(&script);
    let is_witness = script.is_witness_program();
    let mut object = Map::new();
    object.insert("isvalid".into(), true.into());
    object.insert("address".into(), render::address(&script).unwrap_or_else(|| text.to_owned()).into());
    object.insert("scriptPubKey".into(), script.to_hex_string().into());
    let is_script = script.is_p2sh() || script.is_p2wsh() || script.is_p2tr() || is_anchor;
    // Core does not say of programs without a meaning whether they are scripts.
    if !is_witness || is_script || script.is_p2wpkh() {
        object.insert("isscript".into(), is_script.into());
    }
    object.insert("iswitness".into(), is_witness.into());
    if is_witness && !is_anchor {
        let version = script.witness_version().map_or(0, bitcoin::WitnessVersion::to_num);
        object.insert("witness_version".into(), version.into());
        object.insert("witness_program".into(), hex::encode(&script.as_bytes()[2..]).into());
    }
    Ok(Value::Object(object))
}
