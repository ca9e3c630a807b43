//! Peers: who they are, who is wanted, who is banned (Core: `rpc/net.cpp`).

mod addrman;
mod orphan;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::Method;
use super::block::{block_hash, known};
use crate::chain::BlockId;
use crate::net::{AddNodeError, Ban, PeerReport, Subnet};
use crate::rpc::argument::{Argument, Kind, Params, integer, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render;
use crate::rpc::{Context, shutting_down};
use crate::sync::{KnownAddress, NodeHost, Origin, PeerId, UPLOAD_TIMEFRAME};

pub(super) use addrman::NETWORKS;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "addconnection",
        category: "hidden",
        arguments: &[
            required("address", Kind::Text, "The IP address and port to attempt connecting to."),
            required("connection_type", Kind::Text, "outbound-full-relay, block-relay-only, addr-fetch or feeler"),
            required("v2transport", Kind::Bool, "Attempt to connect using BIP324 v2 transport protocol"),
        ],
        about: "Open an outbound connection to a specified node. This RPC is for testing only.",
        run: |cx, params| Box::pin(async move { addconnection(cx, &params) }),
    },
    Method {
        name: "addnode",
        category: "network",
        arguments: &[
            required(
                "node",
                Kind::Text,
                "The IP address/hostname optionally followed by :port of the peer to connect to",
            ),
            required("command", Kind::Text, "'add', 'remove' or 'onetry' to try a connection to the node once"),
            optional("v2transport", Kind::Bool, "Attempt to connect using BIP324 v2 transport protocol"),
        ],
        about: "Attempts to add or remove a node from the addnode list. Or try a connection to a node once.",
        run: |cx, params| Box::pin(async move { addnode(cx, &params) }),
    },
    Method {
        name: "addpeeraddress",
        category: "hidden",
        arguments: &[
            required("address", Kind::Text, "The IP address of the peer"),
            required("port", Kind::Number, "The port of the peer"),
            optional("tried", Kind::Bool, "Without effect"),
        ],
        about: "Add the address of a potential peer to the address book. This is for testing only.",
        run: |cx, params| Box::pin(addrman::addpeeraddress(cx, params)),
    },
    Method {
        name: "clearbanned",
        category: "network",
        arguments: &[],
        about: "Clear all banned IPs.",
        run: |cx, _| {
            Box::pin(async {
                cx.peers.clear_bans().map_err(disk)?;
                Ok(Value::Null)
            })
        },
    },
    Method {
        name: "disconnectnode",
        category: "network",
        arguments: &[
            optional("address", Kind::Text, "The IP address/port of the node"),
            optional("nodeid", Kind::Number, "The node ID (see getpeerinfo for node IDs)"),
        ],
        about: "Immediately disconnects from the specified peer node.",
        run: |cx, params| Box::pin(async move { disconnectnode(cx, &params) }),
    },
    Method {
        name: "getaddednodeinfo",
        category: "network",
        arguments: &[optional("node", Kind::Text, "If provided, return information about this specific node")],
        about: "Returns information about the given added node, or all added nodes.",
        run: |cx, params| Box::pin(async move { getaddednodeinfo(cx, &params) }),
    },
    Method {
        name: "getblockfrompeer",
        category: "blockchain",
        arguments: &[
            required("blockhash", Kind::Text, "The block hash to try to fetch"),
            required("peer_id", Kind::Number, "The peer to fetch it from (see getpeerinfo for peer IDs)"),
        ],
        about: "Attempt to fetch block from a given peer. We must have the header for this block.",
        run: |cx, params| Box::pin(getblockfrompeer(cx, params)),
    },
    Method {
        name: "getconnectioncount",
        category: "network",
        arguments: &[],
        about: "Returns the number of connections to other nodes.",
        run: |cx, _| {
            Box::pin(async {
                let (inbound, outbound) = cx.peers.counts();
                Ok((inbound + outbound).into())
            })
        },
    },
    Method {
        name: "getnettotals",
        category: "network",
        arguments: &[],
        about: "Returns information about network traffic, including bytes in, bytes out, and current system time.",
        run: |cx, _| Box::pin(getnettotals(cx)),
    },
    Method {
        name: "getaddrmaninfo",
        category: "network",
        arguments: &[],
        about: "Provides information about the node's address manager by returning the number of addresses in the `new` and \
                `tried` tables and their sum for all networks.",
        run: |cx, _| Box::pin(async { Ok(addrman::getaddrmaninfo(cx)) }),
    },
    Method {
        name: "getrawaddrman",
        category: "hidden",
        arguments: &[],
        about: "Returns information on all address manager entries for the new and tried tables.",
        run: |cx, _| Box::pin(async { Ok(addrman::getrawaddrman(cx)) }),
    },
    Method {
        name: "getnodeaddresses",
        category: "network",
        arguments: &[
            optional("count", Kind::Number, "The maximum number of addresses to return; 0 for all; 1 by default"),
            optional("network", Kind::Text, "Return only addresses of the specified network (ipv4, ipv6)"),
        ],
        about: "Return known addresses, after filtering for quality and recency.",
        run: |cx, params| Box::pin(async move { getnodeaddresses(cx, &params) }),
    },
    orphan::GETORPHANTXS,
    Method {
        name: "getpeerinfo",
        category: "network",
        arguments: &[],
        about: "Returns data about each connected network peer as a json array of objects, with the network of each \
                (ipv4, ipv6, onion, i2p, cjdns, not_publicly_routable).",
        run: |cx, _| Box::pin(getpeerinfo(cx)),
    },
    Method {
        name: "listbanned",
        category: "network",
        arguments: &[],
        about: "List all manually banned IPs/Subnets.",
        run: |cx, _| Box::pin(listbanned(cx)),
    },
    Method {
        name: "ping",
        category: "network",
        arguments: &[],
        about: "Requests that a ping be sent to all other nodes, to measure ping time.",
        run: |cx, _| {
            Box::pin(async {
                cx.peers.ping().await.map_err(|_| shutting_down())?;
                Ok(Value::Null)
            })
        },
    },
    Method {
        name: "sendmsgtopeer",
        category: "hidden",
        arguments: &[
            required("peer_id", Kind::Number, "The peer to send the message to."),
            required("msg_type", Kind::Text, "The message type (maximum length 12)"),
            required("msg", Kind::Text, "The serialized message body to send, in hex, without a message header"),
        ],
        about: "Send a p2p message to a peer specified by id. This RPC is for testing only.",
        run: |cx, params| Box::pin(async move { sendmsgtopeer(cx, &params) }),
    },
    Method {
        name: "setban",
        category: "network",
        arguments: SETBAN,
        about: "Attempts to add or remove an IP/Subnet from the banned list.",
        run: |cx, params| Box::pin(setban(cx, params)),
    },
    Method {
        name: "setnetworkactive",
        category: "network",
        arguments: &[required("state", Kind::Bool, "true to enable networking, false to disable")],
        about: "Disable/enable all p2p network activity.",
        run: |cx, params| {
            Box::pin(async move {
                cx.peers.set_active(params.bool_or(0, true)?);
                Ok(cx.peers.is_active().into())
            })
        },
    },
];

const SETBAN: &[Argument] = &[
    required("subnet", Kind::Text, "The IP/Subnet with an optional netmask (default is /32 = single IP)"),
    required("command", Kind::Text, "'add' to add an IP/Subnet to the list, 'remove' to remove it"),
    optional("bantime", Kind::Number, "Time in seconds how long (or until when if [absolute] is set) the IP is banned"),
    optional("absolute", Kind::Bool, "If set, the bantime must be an absolute timestamp"),
];

fn disk(error: std::io::Error) -> RpcError {
    RpcError::new(code::MISC, error.to_string())
}

fn usage(name: &str) -> RpcError {
    RpcError::new(code::MISC, super::find(name).map(Method::help).unwrap_or_default())
}

fn addnode(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let (node, command) = (params.text(0)?, params.text(1)?);
    let refused = |error: AddNodeError| {
        let code = match error {
            AddNodeError::AlreadyAdded => code::NODE_ALREADY_ADDED,
            AddNodeError::NotAdded => code::NODE_NOT_ADDED,
            AddNodeError::TooMany => code::NODE_CAPACITY_REACHED,
        };
        RpcError::new(code, error.to_string())
    };
    let is_v2 = params.bool_or(2, cx.peers.dials_encrypted())?;
    if is_v2 && !cx.peers.dials_encrypted() {
        let message = "Error: v2transport requested but not enabled (see -v2transport)";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    match command {
        "onetry" => cx.peers.try_once(node, is_v2),
        "add" => cx.peers.add(node).map_err(refused)?,
        "remove" => cx.peers.remove(node).map_err(refused)?,
        _ => return Err(usage("addnode")),
    }
    Ok(Value::Null)
}

fn addconnection(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    if !cx.params().is_mockable {
        let message = "addconnection is for regression testing (-regtest mode) only.";
        return Err(RpcError::new(code::MISC, message));
    }
    let (text, kind, is_v2) = (params.text(0)?, params.text(1)?.trim(), params.bool_or(2, false)?);
    let kinds = [Origin::Automatic, Origin::BlockRelay, Origin::AddressFetch, Origin::Feeler];
    let Some(origin) = kinds.into_iter().find(|origin| origin.name() == kind) else {
        return Err(RpcError::new(code::INVALID_PARAMETER, usage("addconnection").message));
    };
    if is_v2 && !cx.peers.dials_encrypted() {
        let message = "Error: Adding v2transport connections requires -v2transport init flag to be set.";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let address = text.parse().ok();
    if address.is_none_or(|address| !cx.peers.open(address, origin, is_v2)) {
        let message = "Error: Already at capacity for specified connection type.";
        return Err(RpcError::new(code::NODE_CAPACITY_REACHED, message));
    }
    Ok(json!({"address": text, "connection_type": kind}))
}

fn sendmsgtopeer(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    const MAX_NAME: usize = 12;
    let (id, name) = (integer(params.get(0))?, params.text(1)?);
    if name.len() > MAX_NAME {
        let message = format!("Error: msg_type too long, max length is {MAX_NAME}");
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let payload = hex::decode(params.text(2)?)
        .map_err(|_| RpcError::new(code::INVALID_PARAMETER, "Error parsing input for msg"))?;
    let is_sent = u64::try_from(id).is_ok_and(|id| cx.peers.send(PeerId(id), name, payload));
    if is_sent { Ok(json!({})) } else { Err(RpcError::new(code::MISC, "Error: Could not send message to peer")) }
}

fn disconnectnode(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let address = if params.has(0) { params.text(0)? } else { "" };
    let was_there = match (params.has(0), params.has(1)) {
        (true, false) => address.parse().is_ok_and(|address| cx.peers.disconnect_address(address)),
        (_, true) if address.is_empty() => {
            u64::try_from(integer(params.get(1))?).is_ok_and(|id| cx.peers.disconnect(PeerId(id)))
        }
        _ => {
            let message = "Only one of address and nodeid should be provided.";
            return Err(RpcError::new(code::INVALID_PARAMS, message));
        }
    };
    if was_there {
        return Ok(Value::Null);
    }
    Err(RpcError::new(code::NODE_NOT_CONNECTED, "Node not found in connected nodes"))
}

fn getaddednodeinfo(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let mut nodes = cx.peers.added();
    if params.has(0) {
        let name = params.text(0)?;
        nodes.retain(|(node, _)| node.name == name);
        if nodes.is_empty() {
            return Err(RpcError::new(code::NODE_NOT_ADDED, "Error: Node has not been added."));
        }
    }
    let render = |(node, dialled): (crate::net::Added, Option<bool>)| {
        let mut addresses = Vec::new();
        if let (Some(address), Some(dialled)) = (node.address, dialled) {
            let direction = if dialled { "outbound" } else { "inbound" };
            addresses.push(json!({"address": address.to_string(), "connected": direction}));
        }
        json!({"addednode": node.name, "connected": dialled.is_some(), "addresses": addresses})
    };
    Ok(nodes.into_iter().map(render).collect())
}

async fn getblockfrompeer(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hash = block_hash(&params, 0, "blockhash")?;
    let peer = u64::try_from(integer(params.get(1))?).unwrap_or(u64::MAX);
    let id: Result<BlockId, RpcError> = cx
        .run(move |ledger| {
            let Ok(id) = known(ledger, &hash) else {
                return Err(RpcError::new(code::MISC, "Block header missing"));
            };
            if ledger.chain().entry(id).data.is_some() {
                return Err(RpcError::new(code::MISC, "Block already downloaded"));
            }
            Ok(id)
        })
        .await?;
    let outcome = cx.peers.fetch_block(PeerId(peer), id?).await.map_err(|_| shutting_down())?;
    outcome.map(|()| json!({})).map_err(|error| RpcError::new(code::MISC, error))
}

async fn getnettotals(cx: &Context) -> Result<Value, RpcError> {
    let (upload, now) = cx.peers.upload().await.map_err(|_| shutting_down())?;
    let (sent, received) = cx.peers.totals();
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(json!({
        "totalbytesrecv": received,
        "totalbytessent": sent,
        "timemillis": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "uploadtarget": {
            "timeframe": UPLOAD_TIMEFRAME.as_secs(),
            "target": upload.limit(),
            "target_reached": upload.is_reached(),
            "serve_historical_blocks": !upload.is_reached_for_history(now),
            "bytes_left_in_cycle": upload.bytes_left(),
            "time_left_in_cycle": upload.time_left(now).as_secs(),
        },
    }))
}

fn getnodeaddresses(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let count = params.int_or(0, 1)?;
    let Ok(count) = usize::try_from(count) else {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Address count out of range"));
    };
    let network = if params.has(1) { Some(params.text(1)?) } else { None };
    if let Some(name) = network.filter(|name| !["ipv4", "ipv6", "onion", "i2p", "cjdns"].contains(name)) {
        return Err(RpcError::new(code::INVALID_PARAMETER, format!("Network not recognized: {name}")));
    }
    let wanted = |known: &KnownAddress| network.is_none_or(|name| name == known.address.host.network());
    let all = cx.peers.known_addresses(usize::MAX).into_iter().filter(wanted);
    let render = |known: KnownAddress| {
        json!({
            "time": known.time,
            "services": known.services,
            "address": known.address.host.to_string(),
            "port": known.address.port,
            "network": known.address.host.network(),
        })
    };
    Ok(all.take(if count == 0 { usize::MAX } else { count }).map(render).collect())
}

async fn getpeerinfo(cx: &Context) -> Result<Value, RpcError> {
    let peers = cx.peers.peers().await.map_err(|_| shutting_down())?;
    let ids = |report: &PeerReport| -> Vec<BlockId> {
        let info = &report.info;
        info.synced_headers.into_iter().chain(info.synced_blocks).chain(info.in_flight.iter().copied()).collect()
    };
    let ids: Vec<BlockId> = peers.iter().flat_map(ids).collect();
    let heights: Vec<(BlockId, u32)> =
        cx.run(move |ledger| ids.into_iter().map(|id| (id, ledger.chain().entry(id).height)).collect()).await?;
    let heights: std::collections::BTreeMap<BlockId, u32> = heights.into_iter().collect();
    let height = |id: Option<BlockId>| id.and_then(|id| heights.get(&id)).map_or(-1, |height| i64::from(*height));
    Ok(peers.iter().map(|report| peer(report, &height)).collect())
}

fn seconds(span: Duration) -> Value {
    render::double(span.as_secs_f64())
}

/// The fields in Core's order.
fn peer(report: &PeerReport, height: &dyn Fn(Option<BlockId>) -> i64) -> Value {
    let (info, traffic) = (&report.info, &report.traffic);
    let version = info.version.as_ref();
    let services = version.map_or(0, |version| version.services);
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.into(), value));
    put("id", info.id.0.into());
    put("addr", info.connection.address.to_string().into());
    if let Some(local) = traffic.local {
        put("addrbind", local.to_string().into());
    }
    if let Some(receiver) =
        version.and_then(|version| version.receiver).filter(|address| !address.ip().is_unspecified())
    {
        put("addrlocal", receiver.to_string().into());
    }
    let host = NodeHost::from(info.connection.address.ip());
    let network = if traffic.is_onion { "onion" } else { host.network() };
    put("network", network.into());
    put("services", format!("{services:016x}").into());
    put("servicesnames", service_names(services));
    put("relaytxes", info.relays_transactions.into());
    put("last_inv_sequence", info.last_inv_sequence.into());
    put("inv_to_send", info.to_announce.into());
    put("lastsend", traffic.last_send.into());
    put("lastrecv", traffic.last_receive.into());
    put("last_transaction", info.last_transaction.secs().into());
    put("last_block", info.last_block.secs().into());
    put("bytessent", traffic.sent.into());
    put("bytesrecv", traffic.received.into());
    put("conntime", info.connected_at.secs().into());
    put("timeoffset", version.map_or(0, |version| version.time - info.connected_at.secs()).into());
    for (name, span) in [("pingtime", info.ping), ("minping", info.best_ping), ("pingwait", info.ping_wait)] {
        if let Some(span) = span.filter(|span| !span.is_zero()) {
            put(name, seconds(span));
        }
    }
    put("version", version.map_or(0, |version| version.version).into());
    put("subver", version.map_or("", |version| version.user_agent.as_str()).into());
    put("inbound", (info.connection.origin == Origin::Inbound).into());
    put("bip152_hb_to", info.high_bandwidth_to.into());
    put("bip152_hb_from", info.high_bandwidth_from.into());
    put("presynced_headers", info.presynced_headers.map_or(-1, i64::from).into());
    put("synced_headers", height(info.synced_headers).into());
    put("synced_blocks", height(info.synced_blocks).into());
    put("inflight", info.in_flight.iter().map(|id| height(Some(*id))).collect());
    put("addr_relay_enabled", info.address_relay.into());
    put("addr_processed", info.addresses_processed.into());
    put("addr_rate_limited", info.addresses_rate_limited.into());
    put("permissions", info.connection.permissions.names().collect());
    put("minfeefilter", render::amount(info.fee_filter));
    put("bytessent_per_msg", json!(traffic.sent_by_message));
    put("bytesrecv_per_msg", json!(traffic.received_by_message));
    put("connection_type", info.connection.origin.name().into());
    put("transport_protocol_type", info.connection.transport.name().into());
    put("session_id", traffic.session.map(hex::encode).unwrap_or_default().into());
    Value::Object(object)
}

/// Core: `serviceFlagsToStr`.
pub(super) fn service_names(services: u64) -> Value {
    const NAMES: [(u32, &str); 6] =
        [(0, "NETWORK"), (2, "BLOOM"), (3, "WITNESS"), (6, "COMPACT_FILTERS"), (10, "NETWORK_LIMITED"), (11, "P2P_V2")];
    let name = |bit: u32| {
        let known = NAMES.iter().find(|(known, _)| *known == bit);
        known.map_or_else(|| format!("UNKNOWN[2^{bit}]"), |(_, name)| (*name).to_owned())
    };
    (0..64).filter(|bit| services >> bit & 1 == 1).map(name).collect()
}

async fn setban(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let command = params.text(1)?;
    if command != "add" && command != "remove" {
        return Err(usage("setban"));
    }
    let invalid = |message: &str| RpcError::new(code::INVALID_IP_OR_SUBNET, message);
    let subnet: Subnet = params.text(0)?.parse().map_err(|_| invalid("Error: Invalid IP/Subnet"))?;
    if command == "remove" {
        return match cx.peers.unban(&subnet).map_err(disk)? {
            true => Ok(Value::Null),
            false => Err(invalid("Error: Unban failed. Requested address/subnet was not previously manually banned.")),
        };
    }
    let now = cx.run(|ledger| ledger.now()).await?;
    let time = if params.has(2) { integer(params.get(2))? } else { 0 };
    let is_absolute = params.bool_or(3, false)?;
    if is_absolute && time < now {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Error: Absolute timestamp is in the past"));
    }
    let until = match (time, is_absolute) {
        (..=0, _) => now.saturating_add(cx.peers.ban_time()),
        (time, true) => time,
        (time, false) => now.saturating_add(time),
    };
    if !cx.peers.ban(subnet, Ban { created: now, until }, now).map_err(disk)? {
        return Err(RpcError::new(code::NODE_ALREADY_ADDED, "Error: IP/Subnet already banned"));
    }
    Ok(Value::Null)
}

async fn listbanned(cx: &Context) -> Result<Value, RpcError> {
    let now = cx.run(|ledger| ledger.now()).await?;
    let render = |(subnet, ban): (Subnet, Ban)| {
        json!({
            "address": subnet.to_string(),
            "ban_created": ban.created,
            "banned_until": ban.until,
            "ban_duration": ban.until - ban.created,
            "time_remaining": ban.until - now,
        })
    };
    Ok(cx.peers.bans(now).into_iter().map(render).collect())
}
