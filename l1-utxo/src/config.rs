//! What the owner sets: command line over config file over defaults. Every bad value is an error that names its key.

mod access;
mod chain;
mod peer;
mod policy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bitcoin::ScriptBuf;
use bitcoin::address::{Address, NetworkUnchecked};
use clap::{Parser, ValueEnum};
use serde::Deserialize;

pub use self::access::{Salted, Secret, Whitelist};
use crate::check::{DEFAULT_LEVEL, Request};
use crate::driver::LedgerOptions;
use crate::mempool::Policy;
use crate::net::Settings;
use crate::params::{ADDRESS_NETWORK, Network, activate_regtest_at};

/// What a node is told, on the command line or in a file.
#[derive(Debug, Default, Parser, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Read options from this TOML file
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Which chain: regtest (Bitcoin Core's, blocks cost nothing) or devnet (real proof of work) [default: regtest]
    #[arg(long, value_name = "regtest|devnet")]
    pub network: Option<String>,
    /// Where the chain is kept, in a folder of its own for each network [default: ~/.l1-utxo]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where JSON-RPC listens; loopback only; port 0 picks a free one, which is written to DIR/NETWORK/rpc.addr; may be
    /// given several times [default: 127.0.0.1:18443, devnet 127.0.0.1:19443]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(deserialize_with = "one_or_several")]
    pub rpc: Vec<String>,
    /// A user besides the cookie at DIR/NETWORK/.cookie
    #[arg(long, value_name = "NAME")]
    pub rpc_user: Option<String>,
    /// That user's password; better in the config file or the environment, for others can see command lines
    #[arg(long, value_name = "PASSWORD", env = "L1_UTXO_RPC_PASSWORD", hide_env_values = true)]
    pub rpc_password: Option<Secret>,
    /// A user besides these, whose password is told by its salted hash; may be given several times
    #[arg(long, value_name = "USER:SALT$HASH")]
    pub rpc_auth: Vec<String>,
    /// Let a user call only these methods; may be given several times
    #[arg(long, value_name = "USER:METHOD,METHOD...")]
    pub rpc_whitelist: Vec<String>,
    /// Let users without a list call nothing [default: true where there is a list]
    #[arg(long, value_name = "true|false")]
    pub rpc_whitelist_default: Option<bool>,
    /// Seconds that a client of JSON-RPC may take for a request, and be silent before the next one [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub rpc_server_timeout: Option<u64>,
    /// Let peers connect here; port 0 picks a free one, which is written to DIR/NETWORK/p2p.addr; =onion: who comes in here
    /// comes through a Tor service; may be given several times [default: nowhere; the port: 18444, devnet 19444]
    #[arg(long, value_name = "HOST:PORT[=onion]")]
    #[serde(deserialize_with = "one_or_several")]
    pub listen: Vec<String>,
    /// Connect to this peer and to no other that was not named; may be given several times; none: to nobody by itself
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Vec<String>,
    /// Keep a connection to this peer, besides others; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub add_node: Vec<String>,
    /// Connections to peers at most, in both directions [default: 125]
    #[arg(long, value_name = "COUNT")]
    pub max_connections: Option<u64>,
    /// Dial peers with the encrypted transport (BIP 324) first; false: take no encrypted connections, either [default: take
    /// them, dial in the clear]
    #[arg(long, value_name = "true|false")]
    pub v2_transport: Option<bool>,
    /// Put this in place of our name behind the version that peers see; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub ua_comment: Vec<String>,
    /// Grant peers of an address or network more than others: noban, relay, forcerelay, mempool, download, addr, all;
    /// with in or out for who dials; may be given several times
    #[arg(long, value_name = "[PERMISSIONS@]ADDRESS")]
    pub whitelist: Vec<String>,
    /// Relay transactions of whitelisted peers for which no permissions were named, even with blocks-only [default: true]
    #[arg(long, value_name = "true|false")]
    pub whitelist_relay: Option<bool>,
    /// Relay them even if they were known [default: false]
    #[arg(long)]
    pub whitelist_force_relay: bool,
    /// Take no transactions from peers, and announce only our own users'
    #[arg(long)]
    pub blocks_only: bool,
    /// Tell peers that this is where we can be called: an IP address, a name ending in .onion or .b32.i2p; may be given
    /// several times
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub external_ip: Vec<String>,
    /// Bytes that may be sent to peers in a day, with a unit (k, K, m, M, g, G; MiB without one): when they are nearly used
    /// up, no old blocks are served [default: 0, no limit]
    #[arg(long, value_name = "AMOUNT")]
    pub max_upload_target: Option<String>,
    /// Seconds for which a ban holds if nothing else is said [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub ban_time: Option<u64>,
    /// Seconds that a peer may take for the handshake [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub peer_timeout: Option<u64>,
    /// Fetch no chain with less work than this number in hexadecimal [default: 0]
    #[arg(long, value_name = "HEX")]
    pub minimum_chain_work: Option<String>,
    /// Seconds by which the tip may be old before the node counts as far behind [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub max_tip_age: Option<u64>,
    /// Start with the clock standing at this time, in seconds since 1970, until setmocktime lets it run; regtest only
    #[arg(long, value_name = "SECONDS")]
    pub mock_time: Option<u64>,
    /// Height from which a soft fork holds, for tests of what was before; regtest only; names: segwit, bip34, dersig, cltv,
    /// csv; may be given several times
    #[arg(long, value_name = "NAME@HEIGHT", hide = true)]
    pub test_activation_height: Vec<String>,
    /// Mine in the background, a block every so often (500ms, 1s, 2m); on devnet 0s mines as fast as the work goes
    #[arg(long, value_name = "DURATION")]
    pub mine_every: Option<String>,
    /// Whom the background miner pays [default: a script that anyone can spend]
    #[arg(long, value_name = "ADDRESS")]
    pub mine_to: Option<String>,
    /// Memory for unconfirmed transactions in megabytes [default: 300]
    #[arg(long, value_name = "MB")]
    pub max_mempool: Option<u64>,
    /// Hours after which an unconfirmed transaction is dropped [default: 336]
    #[arg(long, value_name = "HOURS")]
    pub mempool_expiry: Option<u64>,
    /// Keep unconfirmed transactions over a restart [default: true]
    #[arg(long, value_name = "true|false")]
    pub persist_mempool: Option<bool>,
    /// Feerate that every transaction must pay, in sat/kvB [default: 100]
    #[arg(long, value_name = "SAT_PER_KVB")]
    pub min_relay_feerate: Option<u64>,
    /// Estimate fees from what an earlier run saw, however old it is
    #[arg(long)]
    pub accept_stale_fee_estimates: bool,
    /// Keep BIP 158 block filters, for light clients and getblockfilter
    #[arg(long)]
    pub block_filter_index: bool,
    /// Serve the block filters that are kept to light clients [default: true]
    #[arg(long, value_name = "true|false")]
    pub peer_block_filters: Option<bool>,
    /// Remember where every transaction is, for getrawtransaction
    #[arg(long)]
    pub txindex: bool,
    /// Keep statistics of the coins at every block, for gettxoutsetinfo; about 1 kB a block
    #[arg(long)]
    pub coinstats_index: bool,
    /// Remember who spent every output, for gettxspendingprevout
    #[arg(long)]
    pub txospender_index: bool,
    /// Serve Bitcoin Core's REST below /rest/ on the port of JSON-RPC, without a password
    #[arg(long)]
    pub rest: bool,
    /// Publish the hash of each new block on this ZeroMQ address, like tcp://127.0.0.1:28332; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub zmq_pub_hash_block: Vec<String>,
    /// Publish the hash of each transaction that comes or is in a block
    #[arg(long, value_name = "ADDRESS")]
    pub zmq_pub_hash_tx: Vec<String>,
    /// Publish each new block
    #[arg(long, value_name = "ADDRESS")]
    pub zmq_pub_raw_block: Vec<String>,
    /// Publish each transaction that comes or is in a block
    #[arg(long, value_name = "ADDRESS")]
    pub zmq_pub_raw_tx: Vec<String>,
    /// Publish which blocks and transactions come and go, numbered
    #[arg(long, value_name = "ADDRESS")]
    pub zmq_pub_sequence: Vec<String>,
    /// Weight of the blocks that are mined here at most [default: 4000000]
    #[arg(long, value_name = "WEIGHT")]
    pub block_max_weight: Option<u64>,
    /// Part of it that is kept for header and coinbase [default: 8000]
    #[arg(long, value_name = "WEIGHT")]
    pub block_reserved_weight: Option<u64>,
    /// Feerate below which no transaction is mined here, in sat/kvB [default: 1]
    #[arg(long, value_name = "SAT_PER_KVB")]
    pub block_min_feerate: Option<u64>,
    /// Version of the blocks that are mined here, for tests; regtest only
    #[arg(long, value_name = "NUMBER", hide = true)]
    pub block_version: Option<i32>,
    /// Take transactions that are valid but not standard, too
    #[arg(long)]
    pub accept_non_standard: bool,
    /// Feerate that a replacement must pay on top, in sat/kvB [default: 100]
    #[arg(long, value_name = "SAT_PER_KVB")]
    pub incremental_feerate: Option<u64>,
    /// Feerate below which spending an output is not worth it, so that it is dust, in sat/kvB [default: 3000]
    #[arg(long, value_name = "SAT_PER_KVB")]
    pub dust_relay_feerate: Option<u64>,
    /// Bytes of a transaction's OP_RETURN outputs at most; 0: none is relayed [default: 100000]
    #[arg(long, value_name = "BYTES")]
    pub datacarrier_size: Option<u64>,
    /// Relay transactions with OP_RETURN outputs [default: true]
    #[arg(long, value_name = "true|false")]
    pub datacarrier: Option<bool>,
    /// Relay transactions with outputs to several keys that are not hashed [default: true]
    #[arg(long, value_name = "true|false")]
    pub permit_bare_multisig: Option<bool>,
    /// Virtual bytes that a signature operation counts for at least [default: 20]
    #[arg(long, value_name = "BYTES")]
    pub bytes_per_sigop: Option<u64>,
    /// Unconfirmed transactions that may hang together at most, up to 64 [default: 64]
    #[arg(long, value_name = "COUNT")]
    pub limit_cluster_count: Option<u64>,
    /// Virtual size of unconfirmed transactions that hang together, in kvB [default: 101]
    #[arg(long, value_name = "KVB")]
    pub limit_cluster_size: Option<u64>,
    /// Let the mempool check itself after every change; slow, for tests
    #[arg(long)]
    pub check_mempool: bool,
    /// What is logged to stderr, as tracing filters are written: info, l1_utxo=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "L1_UTXO_LOG")]
    pub log: Option<String>,
    /// How it is logged [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<LogFormat>,
}

/// What `l1-utxo check` is told.
#[derive(Debug, Parser)]
pub struct CheckOptions {
    /// Which chain: regtest or devnet [default: regtest]
    #[arg(long, value_name = "regtest|devnet")]
    pub network: Option<String>,
    /// The data directory, as the node is given it [default: ~/.l1-utxo]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How much is looked at: 1 files and headers, 2 every record and block, 3 the coins, 4 every rule and script again
    #[arg(long, value_name = "1-4", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub level: u8,
}

impl CheckOptions {
    /// Completes them with the defaults.
    pub fn resolve(self) -> Result<Request, ConfigError> {
        let network = network(self.network.as_deref())?;
        Ok(Request { dir: data_dir(self.data_dir)?.join(network.name()), network, level: self.level })
    }
}

/// The database tells more than anyone wants to know.
const DEFAULT_LOG: &str = "info,fjall=warn,lsm_tree=warn";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The background miner's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// From the start of one block to the start of the next; zero for as fast as the work goes.
    pub every: Duration,
    /// Whom the coinbase pays.
    pub script: ScriptBuf,
}

/// What is published by ZeroMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Hashes of blocks.
    HashBlock,
    /// Hashes of transactions.
    HashTransaction,
    /// Blocks.
    RawBlock,
    /// Transactions.
    RawTransaction,
    /// What comes and goes.
    Sequence,
}

impl Topic {
    /// The topic of its messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::HashTransaction => "hashtx",
            Self::RawBlock => "rawblock",
            Self::RawTransaction => "rawtx",
            Self::Sequence => "sequence",
        }
    }

    /// The option that asks for it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::HashBlock => "zmq-pub-hash-block",
            Self::HashTransaction => "zmq-pub-hash-tx",
            Self::RawBlock => "zmq-pub-raw-block",
            Self::RawTransaction => "zmq-pub-raw-tx",
            Self::Sequence => "zmq-pub-sequence",
        }
    }
}

/// A topic, and where it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// What.
    pub topic: Topic,
    /// `tcp://HOST:PORT`.
    pub address: String,
}

/// A complete configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which network.
    pub network: Network,
    /// The network's own folder.
    pub dir: PathBuf,
    /// Where JSON-RPC listens: loopback; one at least.
    pub rpc: Vec<SocketAddr>,
    /// A user and a password besides the cookie.
    pub rpc_login: Option<(String, Secret)>,
    /// Users whose passwords are known by their hashes.
    pub rpc_users: Vec<Salted>,
    /// What they may call.
    pub rpc_whitelist: Whitelist,
    /// How long a client may be silent.
    pub rpc_timeout: Duration,
    /// Whom to speak with, and where to listen.
    pub peers: Settings,
    /// Whether and how to mine in the background.
    pub mine: Option<Mine>,
    /// The mempool's rules.
    pub policy: Policy,
    /// Memory, indexes, and when the node counts as far behind.
    pub ledger: LedgerOptions,
    /// Whether REST is served.
    pub rest: bool,
    /// What is published by ZeroMQ.
    pub publications: Vec<Publication>,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// What is wrong with the options: always one of them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file cannot be read.
    #[error("config file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The config file is no TOML, or has a key or value it should not have.
    #[error("config file {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{key} = \"{value}\": {problem}")]
    Value {
        /// The option's name.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// Neither `--data-dir` nor a home directory.
    #[error("data-dir is not set and there is no home directory: give --data-dir DIR")]
    NoHome,
}

impl Options {
    /// Reads the config file, if one is named, and completes the options with it and the defaults.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        self.or(file).complete()
    }

    fn or(self, file: Self) -> Self {
        Self {
            config: None,
            network: self.network.or(file.network),
            data_dir: self.data_dir.or(file.data_dir),
            rpc: or_list(self.rpc, file.rpc),
            rpc_user: self.rpc_user.or(file.rpc_user),
            rpc_password: self.rpc_password.or(file.rpc_password),
            rpc_auth: or_list(self.rpc_auth, file.rpc_auth),
            rpc_whitelist: or_list(self.rpc_whitelist, file.rpc_whitelist),
            rpc_whitelist_default: self.rpc_whitelist_default.or(file.rpc_whitelist_default),
            rpc_server_timeout: self.rpc_server_timeout.or(file.rpc_server_timeout),
            listen: or_list(self.listen, file.listen),
            connect: if self.connect.is_empty() { file.connect } else { self.connect },
            add_node: if self.add_node.is_empty() { file.add_node } else { self.add_node },
            max_connections: self.max_connections.or(file.max_connections),
            v2_transport: self.v2_transport.or(file.v2_transport),
            ua_comment: or_list(self.ua_comment, file.ua_comment),
            whitelist: or_list(self.whitelist, file.whitelist),
            whitelist_relay: self.whitelist_relay.or(file.whitelist_relay),
            whitelist_force_relay: self.whitelist_force_relay || file.whitelist_force_relay,
            blocks_only: self.blocks_only || file.blocks_only,
            external_ip: or_list(self.external_ip, file.external_ip),
            max_upload_target: self.max_upload_target.or(file.max_upload_target),
            ban_time: self.ban_time.or(file.ban_time),
            peer_timeout: self.peer_timeout.or(file.peer_timeout),
            minimum_chain_work: self.minimum_chain_work.or(file.minimum_chain_work),
            max_tip_age: self.max_tip_age.or(file.max_tip_age),
            mock_time: self.mock_time.or(file.mock_time),
            test_activation_height: or_list(self.test_activation_height, file.test_activation_height),
            persist_mempool: self.persist_mempool.or(file.persist_mempool),
            mine_every: self.mine_every.or(file.mine_every),
            mine_to: self.mine_to.or(file.mine_to),
            max_mempool: self.max_mempool.or(file.max_mempool),
            mempool_expiry: self.mempool_expiry.or(file.mempool_expiry),
            min_relay_feerate: self.min_relay_feerate.or(file.min_relay_feerate),
            accept_stale_fee_estimates: self.accept_stale_fee_estimates || file.accept_stale_fee_estimates,
            block_filter_index: self.block_filter_index || file.block_filter_index,
            peer_block_filters: self.peer_block_filters.or(file.peer_block_filters),
            txindex: self.txindex || file.txindex,
            coinstats_index: self.coinstats_index || file.coinstats_index,
            txospender_index: self.txospender_index || file.txospender_index,
            rest: self.rest || file.rest,
            zmq_pub_hash_block: or_list(self.zmq_pub_hash_block, file.zmq_pub_hash_block),
            zmq_pub_hash_tx: or_list(self.zmq_pub_hash_tx, file.zmq_pub_hash_tx),
            zmq_pub_raw_block: or_list(self.zmq_pub_raw_block, file.zmq_pub_raw_block),
            zmq_pub_raw_tx: or_list(self.zmq_pub_raw_tx, file.zmq_pub_raw_tx),
            zmq_pub_sequence: or_list(self.zmq_pub_sequence, file.zmq_pub_sequence),
            block_max_weight: self.block_max_weight.or(file.block_max_weight),
            block_reserved_weight: self.block_reserved_weight.or(file.block_reserved_weight),
            block_min_feerate: self.block_min_feerate.or(file.block_min_feerate),
            block_version: self.block_version.or(file.block_version),
            accept_non_standard: self.accept_non_standard || file.accept_non_standard,
            incremental_feerate: self.incremental_feerate.or(file.incremental_feerate),
            dust_relay_feerate: self.dust_relay_feerate.or(file.dust_relay_feerate),
            datacarrier_size: self.datacarrier_size.or(file.datacarrier_size),
            datacarrier: self.datacarrier.or(file.datacarrier),
            permit_bare_multisig: self.permit_bare_multisig.or(file.permit_bare_multisig),
            bytes_per_sigop: self.bytes_per_sigop.or(file.bytes_per_sigop),
            limit_cluster_count: self.limit_cluster_count.or(file.limit_cluster_count),
            limit_cluster_size: self.limit_cluster_size.or(file.limit_cluster_size),
            check_mempool: self.check_mempool || file.check_mempool,
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
        }
    }

    fn complete(self) -> Result<Config, ConfigError> {
        let network = network(self.network.as_deref())?;
        if let Some(first) = self.test_activation_height.first() {
            let activation = self.activation()?;
            // It must come before anything that asks for the network's constants.
            if network != Network::Regtest || !activate_regtest_at(activation) {
                return Err(value("test-activation-height", first, "only regtest's can be set, and only at the start"));
            }
        }
        let data_dir = data_dir(self.data_dir.clone())?;
        Ok(Config {
            network,
            dir: data_dir.join(network.name()),
            rpc: rpc_addresses(&self.rpc, network)?,
            rpc_login: self.rpc_login()?,
            rpc_users: self.rpc_users()?,
            rpc_whitelist: self.rpc_lists(),
            rpc_timeout: self.rpc_timeout()?,
            peers: self.peers(network, &data_dir)?,
            mine: self.mine(network)?,
            policy: self.policy()?,
            ledger: self.ledger(network)?,
            rest: self.rest,
            publications: self.publications()?,
            log: self.log.unwrap_or_else(|| DEFAULT_LOG.into()),
            log_format: self.log_format.unwrap_or_default(),
        })
    }

    fn rpc_login(&self) -> Result<Option<(String, Secret)>, ConfigError> {
        match (&self.rpc_user, &self.rpc_password) {
            (Some(user), Some(_)) if user.contains(':') => {
                Err(value("rpc-user", user, "a user's name must not contain a colon"))
            }
            (Some(user), Some(password)) if !password.as_str().is_empty() => Ok(Some((user.clone(), password.clone()))),
            (Some(user), _) => Err(value("rpc-user", user, "set rpc-password, too")),
            (None, Some(_)) => Err(value("rpc-password", "…", "set rpc-user, too")),
            (None, None) => Ok(None),
        }
    }

    fn mine(&self, network: Network) -> Result<Option<Mine>, ConfigError> {
        let script = match &self.mine_to {
            Some(address) => address_script(address)?,
            None => anyone_can_spend(),
        };
        let Some(text) = &self.mine_every else {
            if let Some(address) = &self.mine_to {
                return Err(value("mine-to", address, "set mine-every, too: without it nothing is mined"));
            }
            return Ok(None);
        };
        let problem = "expected a time like 500ms, 1s or 2m";
        let every = duration(text).ok_or_else(|| value("mine-every", text, problem))?;
        if every.is_zero() && network == Network::Regtest {
            return Err(value(
                "mine-every",
                text,
                "on regtest blocks cost no work: give the time between two, like 1s",
            ));
        }
        Ok(Some(Mine { every, script }))
    }

    fn publications(&self) -> Result<Vec<Publication>, ConfigError> {
        let lists = [
            (Topic::HashBlock, &self.zmq_pub_hash_block),
            (Topic::HashTransaction, &self.zmq_pub_hash_tx),
            (Topic::RawBlock, &self.zmq_pub_raw_block),
            (Topic::RawTransaction, &self.zmq_pub_raw_tx),
            (Topic::Sequence, &self.zmq_pub_sequence),
        ];
        let listed = lists.into_iter().flat_map(|(topic, list)| list.iter().map(move |address| (topic, address)));
        listed.map(|(topic, address)| Ok(Publication { topic, address: zmq_address(topic, address)? })).collect()
    }
}

/// A text, or a list of them.
fn one_or_several<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Given::deserialize(from)? {
        Given::One(text) => vec![text],
        Given::Several(texts) => texts,
    })
}

/// The command line's list, or the file's where that is empty.
fn or_list(first: Vec<String>, second: Vec<String>) -> Vec<String> {
    if first.is_empty() { second } else { first }
}

fn zmq_address(topic: Topic, text: &str) -> Result<String, ConfigError> {
    if let Some(path) =
        text.strip_prefix("ipc://").or_else(|| text.strip_prefix("unix:")).filter(|path| !path.is_empty())
    {
        return Ok(format!("ipc://{path}"));
    }
    let host_and_port = text.strip_prefix("tcp://").unwrap_or(text);
    let port = host_and_port.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err(value(topic.key(), text, "expected an address like tcp://127.0.0.1:28332 or ipc:///run/l1.sock"));
    }
    Ok(format!("tcp://{host_and_port}"))
}

fn read(path: &Path) -> Result<Options, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
}

fn value(key: &'static str, value: &str, problem: impl ToString) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), problem: problem.to_string() }
}

fn within(
    key: &'static str,
    given: Option<u64>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, ConfigError> {
    match given {
        Some(number) if !range.contains(&number) => {
            let problem = format!("expected a number from {} to {}", range.start(), range.end());
            Err(value(key, &number.to_string(), problem))
        }
        given => Ok(given),
    }
}

fn network(name: Option<&str>) -> Result<Network, ConfigError> {
    name.map_or(Ok(Network::Regtest), |name| name.parse().map_err(|error| value("network", name, error)))
}

fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let home = || std::env::home_dir().map(|home| home.join(".l1-utxo"));
    given.or_else(home).ok_or(ConfigError::NoHome)
}

fn rpc_addresses(texts: &[String], network: Network) -> Result<Vec<SocketAddr>, ConfigError> {
    if texts.is_empty() {
        return Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), network.params().rpc_port)]);
    }
    texts.iter().map(|text| rpc_address(text)).collect()
}

fn rpc_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = SocketAddr::from_str(numeric.as_deref().unwrap_or(text))
        .map_err(|_| value("rpc", text, "expected HOST:PORT with a loopback address, like 127.0.0.1:18443"))?;
    if !address.ip().is_loopback() {
        let problem = "JSON-RPC is not encrypted and listens on loopback only: use 127.0.0.1, and a tunnel from afar";
        return Err(value("rpc", text, problem));
    }
    Ok(address)
}

fn address_script(text: &str) -> Result<ScriptBuf, ConfigError> {
    let address: Address<NetworkUnchecked> = text.parse().map_err(|error| value("mine-to", text, error))?;
    let address = address.require_network(ADDRESS_NETWORK).map_err(|error| value("mine-to", text, error))?;
    Ok(address.script_pubkey())
}

/// P2WSH of OP_TRUE: the miner needs no key, and whoever wants the coins may take them.
fn anyone_can_spend() -> ScriptBuf {
    let script = bitcoin::script::Builder::new().push_opcode(bitcoin::opcodes::OP_TRUE).into_script();
    script.to_p2wsh()
}

fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Door;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["l1-utxo", "--data-dir", "d"].iter().chain(arguments);
        let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
        options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_password_is_not_shown() {
        let arguments = ["l1-utxo", "--data-dir", "d", "--rpc-user", "ann", "--rpc-password", "hush"];
        let options = Options::try_parse_from(arguments).unwrap();
        assert!(!format!("{options:?}").contains("hush"));
        let config = options.resolve().unwrap();
        assert!(!format!("{config:?}").contains("hush") && config.rpc_login.unwrap().1.as_str() == "hush");
    }

    #[test]
    fn bad_values_name_their_key() {
        let table: &[(&[&str], &str)] = &[
            (&["--network", "mainnet"], "network = \"mainnet\""),
            (&["--rpc", "0.0.0.0:1"], "rpc = \"0.0.0.0:1\""),
            (&["--rpc", "18443"], "rpc = \"18443\""),
            (&["--listen", "here"], "listen = \"here\""),
            (&["--external-ip", "home"], "external-ip = \"home\""),
            (&["--max-upload-target", "abc"], "max-upload-target = \"abc\""),
            (&["--rpc-server-timeout", "0"], "rpc-server-timeout = \"0\""),
            (&["--connect", "a b"], "connect = \"a b\""),
            (&["--add-node", "host:port"], "add-node = \"host:port\""),
            (&["--max-connections", "0"], "max-connections = \"0\""),
            (&["--test-activation-height", "csv"], "expected NAME@HEIGHT"),
            (&["--test-activation-height", "p2sh@2"], "names are segwit"),
            (&["--block-max-weight", "4000001"], "block-max-weight = \"4000001\""),
            (&["--block-max-weight", "7999"], "less than the 8000"),
            (&["--block-reserved-weight", "1999"], "block-reserved-weight = \"1999\""),
            (&["--whitelist", "oops@127.0.0.1"], "Invalid P2P permission: 'oops'"),
            (&["--whitelist", "noban@here"], "whitelist = \"noban@here\""),
            (&["--ua-comment", "a/b"], "ua-comment = \"a/b\""),
            (&["--minimum-chain-work", "many"], "minimum-chain-work = \"many\""),
            (&["--mock-time", "1", "--network", "devnet"], "mock-time = \"1\""),
            (&["--mine-every", "soon"], "mine-every = \"soon\""),
            (&["--mine-every", "0s"], "mine-every = \"0s\""),
            (&["--mine-to", "x"], "mine-to = \"x\""),
            (&["--rpc-user", "ann"], "rpc-user = \"ann\""),
            (&["--max-mempool", "1"], "max-mempool = \"1\""),
            (&["--zmq-pub-raw-tx", "28332"], "zmq-pub-raw-tx = \"28332\""),
            (&["--zmq-pub-raw-tx", "ipc://"], "zmq-pub-raw-tx = \"ipc://\""),
            (&["--peer-block-filters", "true"], "there are none to serve"),
        ];
        for (arguments, message) in table {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l1.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        write("network = \"devnet\"\nmine-every = \"0s\"\nmax-mempool = 20\n");
        let config = parse(&["--config", path, "--max-mempool", "10"]).unwrap();
        assert_eq!(config.network, Network::Devnet);
        assert_eq!(config.policy.max_bytes, 10_000_000);
        assert_eq!(config.mine.unwrap().every, Duration::ZERO);
        assert_eq!(config.rpc, ["127.0.0.1:19443".parse().unwrap()]);
        let several = parse(&["--rpc", "127.0.0.1:1", "--rpc", "[::1]:2"]).unwrap();
        assert_eq!(several.rpc.iter().map(SocketAddr::port).collect::<Vec<_>>(), [1, 2]);
        write("listen = [\"::1\", \"127.0.0.1:1=onion\"]\n");
        let listen = parse(&["--config", path]).unwrap().peers.listen;
        assert_eq!(listen.iter().map(|door| door.is_onion).collect::<Vec<_>>(), [false, true]);
        write("listen = \"::1\"\nconnect = [\"one:1\", \"10.0.0.1\"]\n");
        let peers = parse(&["--config", path]).unwrap().peers;
        assert_eq!(peers.listen, [Door { address: "[::1]:18444".parse().unwrap(), is_onion: false }]);
        assert_eq!(peers.connect, ["one:1", "10.0.0.1"]);
        write("netwrok = \"devnet\"\n");
        assert!(parse(&["--config", path]).unwrap_err().contains("netwrok"));
        write("max-mempool = \"much\"\n");
        assert!(parse(&["--config", path]).unwrap_err().contains("max-mempool"));
    }

    #[test]
    fn times_have_units() {
        let table = [("0", Some(0)), ("500ms", Some(500)), ("1s", Some(1_000)), ("2m", Some(120_000)), ("5", None)];
        for (text, milliseconds) in table {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
