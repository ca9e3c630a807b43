//! What the machine needs of the node around it, and what it tells the node to do.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::consensus::Encodable;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Transaction, Txid, Wtxid};

use super::address::NodeAddress;
use super::permission::Permissions;
use crate::chain::{BlockId, Chain, Source};
use crate::consensus::{BlockError, HashedBlock, HeaderError};
use crate::mempool::{Accepted, Mempool, PackageReport, PackageResult, Rejection};

/// A connection, from its first byte to its last; never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Microseconds since 1970 by the node's clock, or by the time that was set by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// A moment in whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero if the other moment is later: clocks may be set back.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Not known yet.
    Detecting,
    /// In the clear.
    V1,
    /// Encrypted (BIP 324).
    V2,
}

impl Transport {
    /// Core's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detecting => "detecting",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The other side dialled.
    Inbound,
    /// Our user named the address; such peers are never punished.
    Manual,
    /// We chose the address ourselves, for everything.
    Automatic,
    /// We chose it, for blocks only: who maps the network by transactions and addresses does not see this connection.
    BlockRelay,
    /// We want addresses of it, then nothing.
    AddressFetch,
    /// We want to know whether there is a node.
    Feeler,
}

impl Origin {
    /// Core's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Manual => "manual",
            Self::Automatic => "outbound-full-relay",
            Self::BlockRelay => "block-relay-only",
            Self::AddressFetch => "addr-fetch",
            Self::Feeler => "feeler",
        }
    }

    /// Whether the peer must offer what we need: we could have dialled another one (Core: `ExpectServicesFromConn`).
    pub(super) const fn expects_services(self) -> bool {
        matches!(self, Self::Automatic | Self::BlockRelay | Self::AddressFetch)
    }
}

/// A connection as the sockets' side knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The other end.
    pub address: SocketAddr,
    /// Who dialled, and why.
    pub origin: Origin,
    /// How its messages travel.
    pub transport: Transport,
    /// What our user grants to its address.
    pub permissions: Permissions,
}

/// A message to be framed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its name on the wire.
    pub command: Cow<'static, str>,
    /// Its content.
    pub payload: Vec<u8>,
}

impl Packet {
    /// What it counts for where queues are bounded, in bytes: its content and a header, for the small ones are many.
    pub const fn cost(&self) -> usize {
        self.payload.len() + 24
    }
}

impl From<NetworkMessage> for Packet {
    fn from(message: NetworkMessage) -> Self {
        let mut payload = Vec::new();
        message.consensus_encode(&mut payload).expect("writing to memory does not fail");
        Self { command: Cow::Borrowed(message.cmd()), payload }
    }
}

/// What the node is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Send(PeerId, Packet),
    /// Close the connection.
    Disconnect(PeerId, Reason),
    /// Keep the address from coming back for some time.
    Discourage(SocketAddr),
    /// Remember addresses of other nodes.
    Learn(Vec<KnownAddress>),
    /// The handshake with a peer that we dialled is complete: its address is good.
    Good(SocketAddr),
}

/// An address of a node as others told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownAddress {
    /// Where it is.
    pub address: NodeAddress,
    /// What it offers.
    pub services: u64,
    /// When it was last heard of, in seconds since 1970.
    pub time: u32,
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It broke a rule of the protocol.
    #[error("misbehaving: {0}")]
    Misbehaving(&'static str),
    /// It did what Core closes connections for without a grudge.
    #[error("{0}")]
    Unwelcome(&'static str),
    /// It did not answer in time.
    #[error("{0}")]
    Timeout(&'static str),
    /// Our user, or a better peer, wanted it.
    #[error("disconnected by us")]
    Asked,
}

/// What became of a block.
#[derive(Clone, Debug, Default)]
pub struct BlockReport {
    /// Whether it was stored now.
    pub is_new: bool,
    /// The rule that the block itself breaks, if one was found.
    pub error: Option<BlockError>,
    /// Blocks stored earlier that turned out to break a rule now.
    pub refused: Vec<(BlockId, BlockError)>,
}

/// A transaction that the mempool took in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its txid.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What it replaced.
    pub replaced: Vec<Arc<Transaction>>,
}

impl From<Accepted> for Entered {
    fn from(accepted: Accepted) -> Self {
        Self { txid: accepted.txid, wtxid: accepted.wtxid, replaced: accepted.replaced }
    }
}

impl Entered {
    /// What became of one transaction of a package.
    pub fn of_package(transaction: &Transaction, report: &mut PackageReport) -> Result<Self, Rejection> {
        let wtxid = transaction.compute_wtxid();
        match report.results.remove(&wtxid) {
            Some(PackageResult::Refused(rejection)) => Err(rejection),
            Some(PackageResult::Accepted(accepted)) => Ok(accepted.into()),
            // It was here before.
            Some(_) => Ok(Self { txid: transaction.compute_txid(), wtxid, replaced: Vec::new() }),
            // It was not looked at, for the other one failed.
            None => Err(Rejection::MempoolFull),
        }
    }
}

/// The node around the machine. Everything runs on one thread: what is asked is answered before the call returns.
pub trait Host {
    /// The chain.
    fn chain(&self) -> &Chain;
    /// The unconfirmed transactions.
    fn mempool(&self) -> &Mempool;
    /// Core's `IsInitialBlockDownload`: once false it stays false.
    fn is_initial_download(&self) -> bool;
    /// Takes in a header whose chain has been found to have enough work.
    fn accept_header(&mut self, header: &Header) -> Result<BlockId, HeaderError>;
    /// Takes in a block; `None` if the node fails and is about to stop.
    fn submit_block(&mut self, block: Arc<HashedBlock>, source: Source) -> Option<BlockReport>;
    /// Takes in a transaction.
    fn submit_transaction(&mut self, transaction: Arc<Transaction>) -> Result<Entered, Rejection>;
    /// Takes in a parent that pays too little together with a child that pays for it: for each whether it is in now.
    fn submit_package(&mut self, parent: Arc<Transaction>, child: Arc<Transaction>) -> [Result<Entered, Rejection>; 2];
    /// A block whose body is here.
    fn block(&self, id: BlockId) -> Option<Arc<HashedBlock>>;
    /// A block's filter (BIP 158), if the node keeps them and the block was ever connected.
    fn block_filter(&mut self, id: BlockId) -> Option<Vec<u8>>;
    /// The same filter's header and hash.
    fn filter_header(&mut self, id: BlockId) -> Option<(FilterHeader, FilterHash)>;
    /// A block as bytes, with witnesses.
    fn raw_block(&self, id: BlockId) -> Option<Vec<u8>>;
}

/// The two names of a transaction: with `wtxidrelay` it is announced and asked for by the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxName {
    /// Without its witness.
    Txid(Txid),
    /// With its witness.
    Wtxid(Wtxid),
}
