//! The owner's ports: opened, announced in `daemon.json`, and given a new certificate before the old one expires.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{DaemonError, io};
use crate::config::Config;
use crate::driver::Driver;
use crate::rpc::auth::Tokens;
use crate::rpc::presence::Presence;
use crate::rpc::server::{Access, ServeError, bind_unix, serve_tcp, serve_unix};
use crate::rpc::tls::Certificate;

/// How often the certificate's time is looked at.
const LOOK: Duration = Duration::from_secs(3_600);

/// The longest path that a unix socket may have: `sun_path` has 108 bytes on Linux and 104 elsewhere, the zero included.
const LONGEST_SOCKET: usize = 103;

/// The tasks of the ports.
pub type Servers = Vec<JoinHandle<Result<(), ServeError>>>;

/// What was opened.
pub struct Opened {
    /// What `daemon.json` says of it; the rest is the caller's.
    pub presence: Presence,
    /// The tasks.
    pub servers: Servers,
    /// The certificate, where there is one.
    pub certificate: Option<Arc<Certificate>>,
}

/// Binds the owner's ports and serves them until `stopped`.
pub async fn serve(
    config: &Config,
    folder: &Path,
    driver: &Driver,
    stopped: &watch::Receiver<bool>,
) -> Result<Opened, DaemonError> {
    // Whoever reaches the port by its address finds that address in the certificate.
    let ip = config.grpc.ip();
    let hosts = if ip.is_unspecified() { Vec::new() } else { vec![ip.to_string()] };
    let certificate =
        if config.tls { Some(Certificate::open(folder, &hosts).map_err(io("TLS certificate"))?) } else { None };
    let certificate = certificate.map(Arc::new);
    let tokens = Arc::new(Tokens::open(folder).map_err(io("token file"))?);
    let listener = TcpListener::bind(config.grpc).await.map_err(io(format!("grpc = {}", config.grpc)))?;
    let grpc = listener.local_addr().map_err(io("grpc"))?;
    // Programs that read the file run elsewhere: what it names is named from the root.
    let here = std::path::absolute(folder).map_err(io(folder.display().to_string()))?;
    let access = Access { certificate: certificate.clone(), tokens: Arc::clone(&tokens) };
    let mut servers = vec![tokio::spawn(serve_tcp(driver.handle(), listener, access, over(stopped.clone())))];
    let socket = here.join("channeld.sock");
    let socket = if socket.as_os_str().len() > LONGEST_SOCKET {
        tracing::warn!(path = %socket.display(), "too long a path for a unix socket: the API is served over TCP alone");
        None
    } else {
        let unix = bind_unix(&socket).map_err(io(socket.display().to_string()))?;
        servers.push(tokio::spawn(serve_unix(driver.handle(), unix, tokens, over(stopped.clone()))));
        Some(socket)
    };
    let presence = Presence {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: config.network.name().to_owned(),
        node_id: String::new(),
        grpc: Some(grpc),
        tls: config.tls,
        tls_fingerprint: certificate.as_ref().map(|certificate| certificate.fingerprint()),
        token_file: Some(Tokens::admin_file(&here)),
        unix_socket: socket,
        listen: None,
        metrics: None,
        chain: None,
        chain_cookie: None,
    };
    Ok(Opened { presence, servers, certificate })
}

async fn over(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Looks at the certificate every hour, and when it is told to; a new one is written into `daemon.json`.
pub async fn keep_certificate(
    certificate: Arc<Certificate>,
    mut presence: Presence,
    folder: PathBuf,
    look: Arc<Notify>,
) {
    loop {
        // Either way it is looked at.
        let _ = tokio::time::timeout(LOOK, look.notified()).await;
        let shown = Arc::clone(&certificate);
        let renewed = tokio::task::spawn_blocking(move || shown.renew()).await;
        match renewed {
            Ok(Ok(true)) => {
                let fingerprint = certificate.fingerprint();
                tracing::info!(fingerprint, "another TLS certificate is shown from now on");
                presence.tls_fingerprint = Some(fingerprint);
                if let Err(error) = presence.write(&folder) {
                    tracing::warn!(%error, "daemon.json could not be written");
                }
            }
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the TLS certificate could not be renewed; the old one is shown"),
            Err(_) => return,
        }
    }
}
