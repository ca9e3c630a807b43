//! What the options say of peers: whom to speak with, what they may do, and how we show ourselves.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::{ConfigError, Options, value, within};
use crate::net::{DEFAULT_BAN, Door, MAX_USER_AGENT, Settings, user_agent};
use crate::params::Network;
use crate::sync::{NodeAddress, Permissions};

/// In place of a peer's name.
const ALONE: &str = "none";

impl Options {
    pub(super) fn peers(&self, network: Network, data_dir: &Path) -> Result<Settings, ConfigError> {
        const DEFAULT_CONNECTIONS: u64 = 125;
        const DEFAULT_PEER_TIMEOUT: u64 = 60;
        if self.peer_block_filters == Some(true) && !self.block_filter_index {
            let problem = "there are none to serve: set block-filter-index, too";
            return Err(value("peer-block-filters", "true", problem));
        }
        let doors = self.listen.iter().map(|text| listen_address(text, network));
        let listen = doors.collect::<Result<Vec<_>, _>>()?;
        let is_alone = self.connect == [ALONE];
        let connect = if is_alone { Vec::new() } else { self.connect.clone() };
        for (key, names) in [("connect", &connect), ("add-node", &self.add_node)] {
            if let Some(name) = names.iter().find(|name| !is_peer_name(name)) {
                return Err(value(key, name, "expected HOST:PORT, like 127.0.0.1:18444 or node.example:18444"));
            }
        }
        let peer_timeout = within("peer-timeout", self.peer_timeout, 1..=u64::from(u32::MAX))?;
        let max_connections = within("max-connections", self.max_connections, 1..=4_096)?;
        Ok(Settings {
            connect,
            is_alone,
            add: self.add_node.clone(),
            max_connections: usize::try_from(max_connections.unwrap_or(DEFAULT_CONNECTIONS)).unwrap_or(usize::MAX),
            v2_transport: self.v2_transport,
            user_agent: self.user_agent()?,
            whitelist: self
                .whitelist
                .iter()
                .map(|line| line.parse().map_err(|error| value("whitelist", line, error)))
                .collect::<Result<_, _>>()?,
            implicit_permissions: self.implicit_permissions(),
            peer_timeout: Duration::from_secs(peer_timeout.unwrap_or(DEFAULT_PEER_TIMEOUT)),
            blocks_only: self.blocks_only,
            upload_limit: upload_limit(self.max_upload_target.as_deref())?,
            own_addresses: self.own_addresses(&listen, network)?,
            listen,
            ban_time: self.ban_time.map_or(DEFAULT_BAN, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
            serves_filters: self.block_filter_index && self.peer_block_filters.unwrap_or(true),
            dir: data_dir.join(network.name()),
        })
    }

    /// Where we can be called; without a port at the one where we listen.
    fn own_addresses(&self, listen: &[Door], network: Network) -> Result<Vec<NodeAddress>, ConfigError> {
        let port = listen.iter().map(|door| door.address.port()).find(|port| *port > 0);
        let port = port.unwrap_or(network.params().p2p_port);
        let read = |text: &String| {
            let alone = text.parse().map(|host| NodeAddress { host, port });
            alone.or_else(|_| text.parse()).map_err(|error| value("external-ip", text, error))
        };
        self.external_ip.iter().map(read).collect()
    }

    fn implicit_permissions(&self) -> Permissions {
        let relay = if self.whitelist_relay.unwrap_or(true) { Permissions::RELAY } else { Permissions::NONE };
        let force = if self.whitelist_force_relay { Permissions::FORCE_RELAY } else { Permissions::NONE };
        Permissions::IMPLICIT | relay | force
    }

    fn user_agent(&self) -> Result<String, ConfigError> {
        let is_safe = |character: char| character.is_ascii_alphanumeric() || " .,;-_?@".contains(character);
        if let Some(comment) = self.ua_comment.iter().find(|comment| !comment.chars().all(is_safe)) {
            return Err(value("ua-comment", comment, "contains unsafe characters"));
        }
        let agent = user_agent(&self.ua_comment);
        if agent.len() > MAX_USER_AGENT {
            let problem =
                format!("makes {} characters of {MAX_USER_AGENT}: use fewer or shorter comments", agent.len());
            return Err(value("ua-comment", &self.ua_comment.join("; "), problem));
        }
        Ok(agent)
    }
}

/// A number of bytes: of MiB without a unit, as with Core.
fn upload_limit(text: Option<&str>) -> Result<u64, ConfigError> {
    let Some(text) = text else { return Ok(0) };
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let scale = match unit {
        "k" => 1_000,
        "K" => 1 << 10,
        "m" => 1_000_000,
        "" | "M" => 1 << 20,
        "g" => 1_000_000_000,
        "G" => 1 << 30,
        "t" => 1_000_000_000_000,
        "T" => 1 << 40,
        _ => 0,
    };
    let bytes = number.parse::<u64>().ok().filter(|_| scale > 0).and_then(|number| number.checked_mul(scale));
    bytes.ok_or_else(|| value("max-upload-target", text, "expected a number with a unit, like 800M"))
}

/// Where peers may connect: an address of this machine, with or without a port, and whether it is a Tor service's.
fn listen_address(text: &str, network: Network) -> Result<Door, ConfigError> {
    let (address, is_onion) = text.strip_suffix("=onion").map_or((text, false), |address| (address, true));
    let numeric = address.replacen("localhost", "127.0.0.1", 1);
    let port = network.params().p2p_port;
    let with_port = numeric.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
    numeric
        .parse()
        .or(with_port)
        .map(|address| Door { address, is_onion })
        .map_err(|_| value("listen", text, "expected HOST:PORT with an address of this machine, like 127.0.0.1:18444"))
}

/// A host name or an address, with or without a port.
fn is_peer_name(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !host.is_empty() && host.bytes().all(is_host_byte) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}
