//! The daemon's settings: command line over config file over defaults, each checked before anything starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::Deserialize;

use crate::wire::Address;

/// The chains that this daemon runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Bitcoin's regtest.
    Regtest,
    /// The project's own chain with real difficulty.
    Devnet,
}

impl Network {
    /// The name in settings, folders and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Network::Regtest => "regtest",
            Network::Devnet => "devnet",
        }
    }

    fn parse(text: &str) -> Option<Network> {
        [Network::Regtest, Network::Devnet].into_iter().find(|network| network.name() == text)
    }
}

/// What only the owner may know. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

/// All that is set. Each field's name is its key in the file and, with dashes, its option on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which chain.
    pub network: Network,
    /// Where the daemon keeps everything; the network's name is a folder in it.
    pub data_dir: PathBuf,
    /// The chain backend's JSON-RPC: `http://host:port`.
    pub chain: String,
    /// Its cookie file.
    pub chain_cookie: Option<PathBuf>,
    /// Its user and password, where there is no cookie.
    pub chain_login: Option<(String, Secret)>,
    /// Where the owner's API listens.
    pub grpc: SocketAddr,
    /// Whether the API is served with TLS.
    pub tls: bool,
    /// Where peers are listened for.
    pub listen: SocketAddr,
    /// Where Prometheus metrics are served, on loopback; nowhere where it is `None`.
    pub metrics: Option<SocketAddr>,
    /// The node's name, at most 32 bytes.
    pub alias: String,
    /// The node's colour in maps, red first.
    pub color: [u8; 3],
    /// Where everybody may reach the node: told to all once it has a public channel.
    pub announce: Vec<Address>,
    /// News of the network are passed on once in so many milliseconds.
    pub gossip_interval_ms: u64,
    /// A file with the passphrase that opens the seed; a key file beside the seed where it is `None`.
    pub passphrase_file: Option<PathBuf>,
    /// Log filter, as `tracing` reads it.
    pub log: String,
    /// Whether dev-only methods work.
    pub development: bool,
    /// What the node takes and gives at most.
    pub limits: Limits,
    /// What new channels ask for forwarding.
    pub forwarding: Forwarding,
}

/// What new channels ask for forwarding: the table `[forwarding]`. `UpdateChannelPolicy` changes it for a channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Forwarding {
    /// The fee for any HTLC, in millisatoshi.
    pub fee_base_msat: u32,
    /// The fee for each million of what is sent on.
    pub fee_proportional_millionths: u32,
    /// Blocks that the incoming HTLC must last longer than the outgoing one: 34 to 2016.
    pub cltv_expiry_delta: u16,
    /// The smallest HTLC that is sent on, in millisatoshi: at least 1.
    pub htlc_minimum_msat: u64,
    /// The largest; what the channel can carry where it is not set.
    pub htlc_maximum_msat: Option<u64>,
    /// The part of a channel's HTLC slots and value that is for everybody's forwards, in percent; what this and the next
    /// leave is kept for peers whose forwards end quickly.
    pub general_percent: u8,
    /// The part for when that is full: one HTLC for each peer.
    pub congestion_percent: u8,
    /// Of the first part, what one peer may take: 1 to 100.
    pub peer_percent: u8,
}

impl Default for Forwarding {
    fn default() -> Forwarding {
        Forwarding {
            fee_base_msat: 1_000,
            fee_proportional_millionths: 1,
            cltv_expiry_delta: 40,
            htlc_minimum_msat: 1,
            htlc_maximum_msat: None,
            general_percent: 60,
            congestion_percent: 10,
            peer_percent: 50,
        }
    }
}

impl Forwarding {
    fn check(&self) -> Result<(), ConfigError> {
        if !(34..=2016).contains(&self.cltv_expiry_delta) {
            return Err(bad("forwarding.cltv-expiry-delta", &self.cltv_expiry_delta.to_string(), "34 to 2016"));
        }
        if u16::from(self.general_percent) + u16::from(self.congestion_percent) > 100 {
            let sum = u16::from(self.general_percent) + u16::from(self.congestion_percent);
            return Err(bad("forwarding.general-percent", &sum.to_string(), "with congestion-percent at most 100"));
        }
        if !(1..=100).contains(&self.peer_percent) {
            return Err(bad("forwarding.peer-percent", &self.peer_percent.to_string(), "1 to 100"));
        }
        if self.htlc_minimum_msat == 0 {
            return Err(bad("forwarding.htlc-minimum-msat", "0", "at least 1"));
        }
        match self.htlc_maximum_msat {
            Some(most) if most < self.htlc_minimum_msat => {
                Err(bad("forwarding.htlc-maximum-msat", &most.to_string(), "at least htlc-minimum-msat"))
            }
            _ => Ok(()),
        }
    }
}

/// What the node takes and gives at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// HTLCs below the dust limits that may be at risk in one channel, in millisatoshi.
    pub max_dust_exposure_msat: u64,
    /// HTLCs that a peer may have in flight towards us: 1 to 483.
    pub max_accepted_htlcs: u16,
    /// The part of a channel's capacity that may be in flight towards us: 1 to 100.
    pub max_in_flight_percent: u8,
    /// Depth that a funding transaction needs: 1 to 144.
    pub confirmations: u32,
    /// Depth at which a claim is final: 1 to 2016.
    pub burial: u32,
    /// The least feerate of a commitment that a peer may propose, in sat/kW.
    pub min_feerate_per_kw: u32,
    /// The greatest.
    pub max_feerate_per_kw: u32,
    /// The feerate we use where the backend has no estimate, in sat/kW.
    pub fallback_feerate_per_kw: u32,
    /// The anchor reserve, in satoshi a channel.
    pub anchor_reserve_sat: u64,
    /// Blocks our outputs wait after the peer closes by force, asked of the peer: 6 to 2016.
    pub to_self_delay: u16,
    /// What a stream's payer may have uncommitted towards us, in millisatoshi.
    pub stream_window_msat: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_dust_exposure_msat: 50_000_000,
            max_accepted_htlcs: 483,
            max_in_flight_percent: 100,
            confirmations: 3,
            burial: 6,
            min_feerate_per_kw: 253,
            max_feerate_per_kw: 25_000,
            fallback_feerate_per_kw: 253,
            anchor_reserve_sat: 10_000,
            to_self_delay: 144,
            stream_window_msat: 10_000_000_000,
        }
    }
}

/// What is wrong with the settings; each names its key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// The file is no TOML, has an unknown key or a value of a wrong type: the text names key and line.
    #[error("config file {}: {source}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        source: Box<toml::de::Error>,
    },
    /// A needed key is nowhere.
    #[error("{0} is not set: give --{0} or `{0} = …` in the config file")]
    Missing(&'static str),
    /// A value is out of its range.
    #[error("{key} = {value:?}: {expected}")]
    BadValue {
        /// Which key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The API would be readable on the network.
    #[error("grpc = {0}: not a loopback address, so `tls = false` is refused")]
    GrpcInTheClear(SocketAddr),
}

/// A Lightning-compatible payment-channel daemon with a gRPC API.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "channeld", version, about, max_term_width = 100)]
pub struct Args {
    /// Read settings from this TOML file; options given here win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show the 24 words of the seed and exit: whoever has them has the money.
    #[arg(long)]
    pub show_words: bool,
    #[command(flatten)]
    options: Options,
}

/// The keys that the command line and the file share.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    /// Which chain: regtest or devnet.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Where the daemon keeps everything [default: ~/.channeld].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The chain backend's JSON-RPC (l1-utxo or Bitcoin Core).
    #[arg(long, value_name = "http://HOST:PORT")]
    chain: Option<String>,
    /// The chain backend's cookie file.
    #[arg(long, value_name = "FILE")]
    chain_cookie: Option<PathBuf>,
    /// User and password for the chain backend, instead of a cookie.
    #[arg(long, value_name = "USER:PASSWORD")]
    chain_login: Option<Secret>,
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:10019].
    #[arg(long, value_name = "HOST:PORT")]
    grpc: Option<String>,
    /// Whether the API is served with TLS [default: true].
    #[arg(long, value_name = "true|false")]
    tls: Option<bool>,
    /// Where peers are listened for; port 0 takes a free one [default: 127.0.0.1:9735].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Serve Prometheus metrics on this loopback address.
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// The node's name, at most 32 bytes.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// The node's colour in maps [default: 3399ff].
    #[arg(long, value_name = "RRGGBB")]
    color: Option<String>,
    /// Tell everybody that the node is reached here; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    announce: Option<Vec<String>>,
    /// Pass news of the network on once in so many milliseconds, 100 to 600000 [default: 1000].
    #[arg(long, value_name = "MS")]
    gossip_interval_ms: Option<u64>,
    /// A file with the passphrase for the seed; without it a key file is made beside the seed.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// What to log, such as info or channeld=debug [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Whether the methods for development work [default: true on regtest and devnet].
    #[arg(long, value_name = "true|false")]
    development: Option<bool>,
    /// Only in the file, as the table `[limits]`.
    #[arg(skip)]
    limits: Option<Limits>,
    /// Only in the file, as the table `[forwarding]`.
    #[arg(skip)]
    forwarding: Option<Forwarding>,
}

impl Config {
    /// The settings of a command line and of the file that it names.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key.
    pub fn load(args: &Args) -> Result<Config, ConfigError> {
        let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        Config::check(args.options.clone().over(file))
    }

    /// The folder of this network: `data_dir/network`.
    pub fn folder(&self) -> PathBuf {
        self.data_dir.join(self.network.name())
    }

    fn check(options: Options) -> Result<Config, ConfigError> {
        let network = options.network.ok_or(ConfigError::Missing("network"))?;
        let network = Network::parse(&network).ok_or_else(|| bad("network", &network, "regtest or devnet"))?;
        let chain = options.chain.ok_or(ConfigError::Missing("chain"))?;
        if !chain.starts_with("http://") || chain.parse::<http::Uri>().is_err() {
            return Err(bad("chain", &chain, "expected http://HOST:PORT"));
        }
        let login = |text: Secret| match text.0.split_once(':') {
            Some((user, password)) => Ok((user.to_owned(), Secret(password.to_owned()))),
            None => Err(bad("chain-login", "…", "expected USER:PASSWORD")),
        };
        let alias = options.alias.unwrap_or_else(|| "channeld".to_owned());
        if alias.len() > 32 || alias.chars().any(char::is_control) {
            return Err(bad("alias", &alias, "at most 32 bytes that print"));
        }
        let color = options.color.unwrap_or_else(|| "3399ff".to_owned());
        let announce = options.announce.unwrap_or_default();
        let parse = |text: String| text.parse().map_err(|_| bad("announce", &text, "HOST:PORT, a port other than 0"));
        // BOLT 7 says 60 seconds; these networks are small and their people wait.
        let gossip_interval_ms = options.gossip_interval_ms.unwrap_or(1_000);
        if !(100..=600_000).contains(&gossip_interval_ms) {
            return Err(bad("gossip-interval-ms", &gossip_interval_ms.to_string(), "100 to 600000"));
        }
        let config = Config {
            network,
            data_dir: options.data_dir.map_or_else(default_data_dir, Ok)?,
            chain,
            chain_cookie: options.chain_cookie,
            chain_login: options.chain_login.map(login).transpose()?,
            grpc: address("grpc", options.grpc.as_deref().unwrap_or("127.0.0.1:10019"))?,
            tls: options.tls.unwrap_or(true),
            listen: address("listen", options.listen.as_deref().unwrap_or("127.0.0.1:9735"))?,
            metrics: options.metrics.as_deref().map(|text| address("metrics", text)).transpose()?,
            alias,
            color: parse_color(&color)?,
            gossip_interval_ms,
            announce: announce.into_iter().map(parse).collect::<Result<_, _>>()?,
            passphrase_file: options.passphrase_file,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            development: options.development.unwrap_or(true),
            limits: options.limits.unwrap_or_default(),
            forwarding: options.forwarding.unwrap_or_default(),
        };
        config.check_together()?;
        config.limits.check()?;
        config.forwarding.check()?;
        Ok(config)
    }

    fn check_together(&self) -> Result<(), ConfigError> {
        if self.chain_cookie.is_none() && self.chain_login.is_none() {
            return Err(ConfigError::Missing("chain-cookie"));
        }
        if !self.tls && !self.grpc.ip().is_loopback() {
            return Err(ConfigError::GrpcInTheClear(self.grpc));
        }
        match self.metrics {
            Some(metrics) if !metrics.ip().is_loopback() => {
                Err(bad("metrics", &metrics.to_string(), "only on a loopback address"))
            }
            _ => Ok(()),
        }
    }
}

impl Options {
    /// These, and where they are silent `other`'s.
    fn over(self, other: Options) -> Options {
        Options {
            network: self.network.or(other.network),
            data_dir: self.data_dir.or(other.data_dir),
            chain: self.chain.or(other.chain),
            chain_cookie: self.chain_cookie.or(other.chain_cookie),
            chain_login: self.chain_login.or(other.chain_login),
            grpc: self.grpc.or(other.grpc),
            tls: self.tls.or(other.tls),
            listen: self.listen.or(other.listen),
            metrics: self.metrics.or(other.metrics),
            alias: self.alias.or(other.alias),
            color: self.color.or(other.color),
            gossip_interval_ms: self.gossip_interval_ms.or(other.gossip_interval_ms),
            announce: self.announce.or(other.announce),
            passphrase_file: self.passphrase_file.or(other.passphrase_file),
            log: self.log.or(other.log),
            development: self.development.or(other.development),
            limits: self.limits.or(other.limits),
            forwarding: self.forwarding.or(other.forwarding),
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let rules: [(bool, &'static str, u64, &'static str); 8] = [
            (
                (1..=483).contains(&self.max_accepted_htlcs),
                "limits.max-accepted-htlcs",
                self.max_accepted_htlcs.into(),
                "1 to 483",
            ),
            (
                (1..=100).contains(&self.max_in_flight_percent),
                "limits.max-in-flight-percent",
                self.max_in_flight_percent.into(),
                "1 to 100",
            ),
            ((1..=144).contains(&self.confirmations), "limits.confirmations", self.confirmations.into(), "1 to 144"),
            ((1..=2016).contains(&self.burial), "limits.burial", self.burial.into(), "1 to 2016"),
            (
                self.min_feerate_per_kw >= 253,
                "limits.min-feerate-per-kw",
                self.min_feerate_per_kw.into(),
                "at least 253",
            ),
            (
                self.max_feerate_per_kw >= self.min_feerate_per_kw,
                "limits.max-feerate-per-kw",
                self.max_feerate_per_kw.into(),
                "at least min-feerate-per-kw",
            ),
            (
                (253..=100_000).contains(&self.fallback_feerate_per_kw),
                "limits.fallback-feerate-per-kw",
                self.fallback_feerate_per_kw.into(),
                "253 to 100000",
            ),
            ((6..=2016).contains(&self.to_self_delay), "limits.to-self-delay", self.to_self_delay.into(), "6 to 2016"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, value, expected)) => Err(bad(key, &value.to_string(), expected)),
            None => Ok(()),
        }
    }
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::BadValue { key, value: value.to_owned(), expected }
}

fn parse_color(text: &str) -> Result<[u8; 3], ConfigError> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| bad("color", text, "six hexadecimal digits"))
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| bad(key, &text, "expected HOST:PORT with a numeric host, such as 127.0.0.1:9735"))
}

fn default_data_dir() -> Result<PathBuf, ConfigError> {
    std::env::var_os("HOME").map(|home| Path::new(&home).join(".channeld")).ok_or(ConfigError::Missing("data-dir"))
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let options: Options = toml::from_str(text).map_err(|error| error.to_string())?;
        Config::check(options).map_err(|error| error.to_string())
    }

    const LEAST: &str = "network = 'regtest'\ndata-dir = '/x'\nchain = 'http://127.0.0.1:18443'\nchain-cookie = '/c'\n";

    #[test]
    fn the_least_is_enough() {
        let config = parse(LEAST).expect("valid");
        assert_eq!(config.folder(), Path::new("/x/regtest"));
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn every_error_names_its_key() {
        for (more, key) in [
            ("grpc = 'nowhere'", "grpc = \"nowhere\""),
            ("colour = 'red'", "colour"),
            ("metrics = '1.2.3.4:1'", "metrics"),
            ("tls = false\ngrpc = '0.0.0.0:1'", "grpc = 0.0.0.0:1"),
            ("[limits]\nmax-accepted-htlcs = 484", "max-accepted-htlcs = \"484\""),
            ("[limits]\nmax-accepted = 4", "max-accepted"),
            ("[forwarding]\ncltv-expiry-delta = 33", "forwarding.cltv-expiry-delta"),
            ("alias = 5", "alias"),
            ("color = 'blue'", "color = \"blue\""),
            ("gossip-interval-ms = 99", "gossip-interval-ms = \"99\""),
            ("announce = ['a:0']", "announce = \"a:0\""),
        ] {
            let error = parse(&format!("{LEAST}{more}")).expect_err(more);
            assert!(error.contains(key), "{more}: {error}");
        }
        assert!(parse("network = 'main'").expect_err("unknown network").contains("network = \"main\""));
        assert!(parse("").expect_err("nothing").contains("network is not set"));
    }

    #[test]
    fn the_command_line_wins() {
        let args = Args::parse_from(["channeld", "--alias", "ann", "--grpc", "127.0.0.1:1"]);
        let file: Options = toml::from_str(&format!("{LEAST}alias = 'bob'\nlisten = '127.0.0.1:2'")).expect("valid");
        let config = Config::check(args.options.over(file)).expect("valid");
        assert_eq!((config.alias.as_str(), config.listen.port()), ("ann", 2));
    }
}
