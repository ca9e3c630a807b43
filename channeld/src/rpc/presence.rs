//! What a running daemon tells the programs of its owner: `DIR/<network>/daemon.json`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file's name in the network's folder.
pub const FILE: &str = "daemon.json";

/// What the file holds. It is written when every port is bound, and removed when the daemon stops; after a kill it
/// stays, and its process id is no longer alive. `wallet-cli` reads it: fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// The network: `regtest`, `devnet` or `signet`.
    pub network: String,
    /// The node's key, 66 hex digits.
    pub node_id: String,
    /// Where gRPC is served over TCP, as bound; `None` where it is not.
    pub grpc: Option<SocketAddr>,
    /// Whether that port speaks TLS and asks for a token.
    pub tls: bool,
    /// SHA-256 of the TLS certificate, 64 hex digits: what a connect string pins.
    pub tls_fingerprint: Option<String>,
    /// The file that holds the token for everything.
    pub token_file: Option<PathBuf>,
    /// The unix socket that serves gRPC without TLS and token.
    pub unix_socket: Option<PathBuf>,
    /// Where peers are served, as bound.
    pub listen: Option<SocketAddr>,
    /// Where the metrics are served, as bound: `http://ADDR/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The chain backend's URL.
    pub chain: Option<String>,
    /// The chain backend's cookie file.
    pub chain_cookie: Option<PathBuf>,
}

impl Presence {
    /// Writes the file into the network's folder: whole or not at all.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        let unfinished = folder.join(format!("{FILE}.unfinished"));
        fs::write(&unfinished, text + "\n")?;
        fs::rename(unfinished, folder.join(FILE))
    }

    /// Removes the file; that there is none is no error.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn remove(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
