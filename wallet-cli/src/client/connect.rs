//! The ways to a daemon: its unix socket, TLS with a pinned certificate, plain HTTP/2 on loopback; and the one string
//! that names the second.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::client::pin;
use crate::failure::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What one HTTP/2 stream, and the connection, may have unread.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A way to a daemon. What is shown of it is where it leads, never the token.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// Its unix socket.
    Unix(PathBuf),
    /// TLS over TCP.
    Tls {
        /// `host:port`.
        address: String,
        /// SHA-256 of the only certificate that is accepted.
        fingerprint: String,
        /// The token.
        token: String,
    },
    /// TCP without TLS, on loopback.
    Plain {
        /// `host:port`.
        address: String,
        /// The token.
        token: String,
    },
}

impl Target {
    /// The token to show, where one is asked for.
    pub fn token(&self) -> Option<&str> {
        match self {
            Target::Unix(_) => None,
            Target::Tls { token, .. } | Target::Plain { token, .. } => Some(token),
        }
    }

    /// The same daemon, by the name or address that others know this machine by. One that listens on every address is
    /// reached from here at loopback, where no name is given.
    pub fn by_host(mut self, host: Option<&str>) -> Target {
        if let Target::Tls { address, .. } | Target::Plain { address, .. } = &mut self
            && let Some((listens_on, port)) = address.rsplit_once(':')
        {
            let host = match (host, listens_on) {
                (Some(host), _) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
                (Some(host), _) => host.to_owned(),
                (None, "0.0.0.0") => "127.0.0.1".to_owned(),
                (None, "[::]") => "[::1]".to_owned(),
                (None, other) => other.to_owned(),
            };
            *address = format!("{host}:{port}");
        }
        self
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => path.display().fmt(f),
            Target::Tls { address, .. } | Target::Plain { address, .. } => address.fmt(f),
        }
    }
}

/// `channeld://TOKEN@HOST:PORT#FINGERPRINT`: all that is needed to reach a daemon from elsewhere. It is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectString(pub Target);

impl fmt::Debug for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectString(to {})", self.0)
    }
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Tls { address, fingerprint, token } => write!(f, "channeld://{token}@{address}#{fingerprint}"),
            Target::Plain { address, token } => write!(f, "channeld://{token}@{address}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for ConnectString {
    type Err = String;

    fn from_str(text: &str) -> Result<ConnectString, String> {
        let expected = "expected channeld://TOKEN@HOST:PORT#FINGERPRINT, as `wallet-cli node connect-string` prints it";
        let rest = text.trim().strip_prefix("channeld://").ok_or(expected)?;
        let (token, rest) = rest.split_once('@').ok_or(expected)?;
        let (address, fingerprint) = match rest.split_once('#') {
            Some((address, fingerprint)) => (address, Some(fingerprint)),
            None => (rest, None),
        };
        let (host, port) = address.rsplit_once(':').ok_or(expected)?;
        if token.is_empty() || host.is_empty() || port.parse::<u16>().is_err() || address.contains(char::is_whitespace)
        {
            return Err(expected.into());
        }
        let (address, token) = (address.to_string(), token.to_string());
        match fingerprint {
            Some(pin) if pin.len() == 64 && hex::decode(pin).is_ok() => {
                Ok(ConnectString(Target::Tls { address, fingerprint: pin.to_lowercase(), token }))
            }
            Some(_) => Err("the fingerprint after # must be 64 hexadecimal digits".into()),
            None if is_loopback(&address) => Ok(ConnectString(Target::Plain { address, token })),
            None => Err("without #FINGERPRINT only loopback can be reached".into()),
        }
    }
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("localhost:") || address.parse::<std::net::SocketAddr>().is_ok_and(|at| at.ip().is_loopback())
}

/// Opens the connection.
pub async fn channel(target: &Target) -> Result<Channel, Failure> {
    // The URI only fills the header `:authority`; the connectors below know where to go.
    let endpoint = Endpoint::from_static("http://channeld")
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connected = match target.clone() {
        Target::Unix(path) => {
            let connect = move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            };
            endpoint.connect_with_connector(tower::service_fn(connect)).await
        }
        Target::Plain { address, .. } => {
            let connect = move |_: Uri| {
                let address = address.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(tcp(&address).await?)) }
            };
            endpoint.connect_with_connector(tower::service_fn(connect)).await
        }
        Target::Tls { address, fingerprint, .. } => {
            let config = Arc::new(
                pin::config(&fingerprint).map_err(|error| Failure::usage(error, "copy the connect string again"))?,
            );
            let connect = move |_: Uri| {
                let (address, config) = (address.clone(), config.clone());
                async move {
                    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                    let stream = TlsConnector::from(config).connect(name, tcp(&address).await?).await?;
                    Ok::<_, std::io::Error>(TokioIo::new(stream))
                }
            };
            endpoint.connect_with_connector(tower::service_fn(connect)).await
        }
    };
    connected.map_err(|error| explain(target, &error))
}

async fn tcp(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Which of address, certificate and daemon is wrong.
fn explain(target: &Target, error: &tonic::transport::Error) -> Failure {
    let mut chain = String::new();
    let mut inner: Option<&dyn std::error::Error> = Some(error);
    let mut last = String::new();
    while let Some(error) = inner {
        last = error.to_string();
        chain.push_str(&last);
        inner = error.source();
    }
    if chain.contains(pin::WRONG_CERTIFICATE) {
        let message = format!("the daemon at {target} shows another certificate than the one that is pinned");
        let next = "if the daemon's certificate was renewed, take a fresh `wallet-cli node connect-string`; else do not trust it";
        return Failure::new(Exit::Unauthorized, message, next);
    }
    let next = "check that channeld runs and that --data-dir, --network or --connect is right";
    Failure::new(Exit::Unreachable, format!("no channeld answers at {target}: {last}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_string_goes_there_and_back() {
        let text = format!("channeld://{}@example.org:10019#{}", "ab".repeat(32), "cd".repeat(32));
        let parsed: ConnectString = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
        assert!(!format!("{parsed:?}").contains("abab"), "the token is not shown");
    }

    #[test]
    fn others_reach_a_daemon_by_its_name() {
        let at = |address: &str| Target::Tls {
            address: address.into(),
            fingerprint: "cd".repeat(32),
            token: "secret".into(),
        };
        for (listens_on, host, reached_at) in [
            ("127.0.0.1:1", None, "127.0.0.1:1"),
            ("0.0.0.0:1", None, "127.0.0.1:1"),
            ("[::]:1", None, "[::1]:1"),
            ("0.0.0.0:1", Some("node.example"), "node.example:1"),
            ("[::]:1", Some("2001:db8::1"), "[2001:db8::1]:1"),
        ] {
            let target = at(listens_on).by_host(host);
            assert_eq!(target.to_string(), reached_at);
            assert!(!format!("{target:?}").contains("secret"));
        }
    }

    #[test]
    fn without_a_pin_only_loopback_is_reached() {
        assert!("channeld://token@127.0.0.1:1".parse::<ConnectString>().is_ok());
        for wrong in [
            "",
            "channeld://127.0.0.1:1",
            "channeld://t@host",
            "channeld://t@:1",
            "channeld://t@10.0.0.1:1",
            "channeld://t@h:1#ab",
        ] {
            assert!(wrong.parse::<ConnectString>().is_err(), "{wrong}");
        }
        assert!(format!("channeld://t@a b:1#{}", "cd".repeat(32)).parse::<ConnectString>().is_err());
    }
}
