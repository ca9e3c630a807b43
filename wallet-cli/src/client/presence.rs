//! The file in which a running daemon says where it is: `DIR/<network>/daemon.json` (channeld, `rpc/presence.rs`).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::client::connect::Target;
use crate::failure::{Exit, Failure};

/// What the file holds, as far as a client needs it. Unknown fields are ignored: the daemon may be newer.
#[derive(Clone, Debug, Deserialize)]
pub struct Presence {
    /// The daemon's process id.
    pub pid: u32,
    /// The node's key, 66 hex digits.
    pub node_id: String,
    /// Where gRPC is served over TCP.
    #[serde(default)]
    pub grpc: Option<SocketAddr>,
    /// Whether that port speaks TLS.
    #[serde(default)]
    pub tls: bool,
    /// SHA-256 of its certificate.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
    /// The file that holds the token for everything.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The unix socket, which needs neither.
    #[serde(default)]
    pub unix_socket: Option<PathBuf>,
    /// Where peers are served.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Where the metrics are served.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// The chain backend's URL.
    #[serde(default)]
    pub chain: Option<String>,
    /// The chain backend's cookie file.
    #[serde(default)]
    pub chain_cookie: Option<PathBuf>,
}

/// Where a daemon keeps everything unless it is told otherwise.
pub fn default_data_dir() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".channeld")
}

impl Presence {
    /// Reads the file of the daemon with this data directory.
    ///
    /// # Errors
    /// Where there is none, which means that no daemon runs there, or it cannot be read.
    pub fn read(data_dir: &Path, network: &str) -> Result<Presence, Failure> {
        let path = data_dir.join(network).join("daemon.json");
        let text = fs::read_to_string(&path).map_err(|error| {
            let message =
                format!("no channeld runs on {network} in {}: {}: {error}", data_dir.display(), path.display());
            let next = format!("start it (`channeld --network {network} --data-dir DIR`), or give its --data-dir");
            Failure::new(Exit::Unreachable, message, next)
        })?;
        serde_json::from_str(&text).map_err(|error| {
            let message = format!("{}: {error}", path.display());
            Failure::new(Exit::Defect, message, "channeld and wallet-cli may be of different versions: build both anew")
        })
    }

    /// The way to the daemon: the unix socket where there is one.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn target(&self) -> Result<Target, Failure> {
        if let Some(path) = self.unix_socket.as_ref().filter(|path| path.exists()) {
            return Ok(Target::Unix(path.clone()));
        }
        self.tcp_target()
    }

    /// The way over TCP.
    ///
    /// # Errors
    /// Where the daemon serves none, or the token cannot be read.
    pub fn tcp_target(&self) -> Result<Target, Failure> {
        let missing = |what: &str| {
            Failure::new(
                Exit::Unreachable,
                format!("the daemon's file names no {what}"),
                "start channeld with --grpc HOST:PORT",
            )
        };
        let address = self.grpc.ok_or_else(|| missing("gRPC port"))?.to_string();
        let path = self.token_file.as_ref().ok_or_else(|| missing("token file"))?;
        let token = fs::read_to_string(path).map_err(|error| {
            let message = format!("the token {}: {error}", path.display());
            Failure::new(Exit::Unauthorized, message, "run as the user that channeld runs as, or give --connect")
        })?;
        let token = token.trim().to_string();
        if !self.tls {
            return Ok(Target::Plain { address, token });
        }
        let fingerprint = self.tls_fingerprint.clone().ok_or_else(|| missing("certificate"))?;
        Ok(Target::Tls { address, fingerprint, token })
    }
}
