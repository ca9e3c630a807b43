//! Messages as they come in: bounded, decoded as Core decodes them, with the crate `bitcoin`'s types.
//!
//! What cannot be decoded is dropped and the connection stays, as Core does it; lists that are too long are told to the
//! machine, which closes the connection.

use std::io::Read;
use std::sync::Arc;

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds};
use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::VarInt;
use bitcoin::p2p::Address;
use bitcoin::p2p::address::AddrV2Message;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};
use bitcoin::{BlockHash, Transaction};

use super::address::NodeAddress;
use super::port::KnownAddress;
use crate::consensus::HashedBlock;
use crate::consensus::decode::decode_block;

/// Bytes of a message's content at most (Core: `MAX_PROTOCOL_MESSAGE_LENGTH`).
pub const MAX_PAYLOAD: usize = 4_000_000;
/// Items of `inv`, `getdata` and `notfound` at most.
pub const MAX_INVENTORY: usize = 50_000;
/// Headers in one message at most.
pub const MAX_HEADERS: usize = 2_000;
/// Addresses in one message at most.
pub const MAX_ADDRESSES: usize = 1_000;
/// Hashes of a locator at most.
pub const MAX_LOCATOR: usize = 101;
/// Characters of a user agent at most.
const MAX_USER_AGENT: usize = 256;

/// A message that makes no sense, or is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// What a node says of itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The protocol that it speaks.
    pub version: i32,
    /// What it offers.
    pub services: u64,
    /// Its clock, in seconds since 1970.
    pub time: i64,
    /// Where it sees us.
    pub receiver: Option<std::net::SocketAddr>,
    /// Tells a connection to oneself.
    pub nonce: u64,
    /// Its software, only characters that may be shown.
    pub user_agent: String,
    /// The height of its chain.
    pub start_height: i32,
    /// Whether it wants transactions.
    pub relay: bool,
}

/// Where a node stands, and how far it wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Hashes that it has, the newest first.
    pub hashes: Vec<BlockHash>,
    /// The last one it wants, or zero.
    pub stop: BlockHash,
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the protocol's names are their documentation
pub enum Message {
    Version(Version),
    Verack,
    WtxidRelay,
    SendAddrV2,
    SendTxRcncl,
    /// An extension that the sender speaks (BIP 434); whether it is told as it must be.
    Feature {
        is_sound: bool,
    },
    SendHeaders,
    SendCmpct {
        high_bandwidth: u8,
        version: u64,
    },
    FeeFilter(i64),
    Ping(u64),
    Pong(Option<u64>),
    GetAddr,
    /// `addr` and `addrv2`: only those of networks that there still are.
    Addresses {
        count: usize,
        addresses: Vec<KnownAddress>,
    },
    Inv(Vec<Inventory>),
    GetData(Vec<Inventory>),
    NotFound(Vec<Inventory>),
    GetBlocks(Locator),
    GetHeaders(Locator),
    Headers(Vec<Header>),
    Tx(Arc<Transaction>),
    Block(Arc<HashedBlock>),
    CmpctBlock(Box<HeaderAndShortIds>),
    GetBlockTxn(BlockTransactionsRequest),
    BlockTxn(BlockTransactions),
    MemPool,
    /// `filterload`, `filteradd`, `filterclear`: bloom filters are not offered.
    BloomFilter,
    GetCFilters(GetCFilters),
    GetCFHeaders(GetCFHeaders),
    GetCFCheckpt(GetCFCheckpt),
    /// A list with more items than the protocol allows.
    Excessive(&'static str),
    /// Something else, which is ignored.
    Unknown,
}

/// Decodes the content of a message. Bytes after the end are ignored, as Core does.
pub fn decode(command: &str, payload: &[u8]) -> Result<Message, Malformed> {
    let mut rest = payload;
    let rest = &mut rest;
    Ok(match command {
        "version" => Message::Version(version(rest)?),
        "verack" => Message::Verack,
        "wtxidrelay" => Message::WtxidRelay,
        "sendaddrv2" => Message::SendAddrV2,
        "sendtxrcncl" => Message::SendTxRcncl,
        "feature" => Message::Feature { is_sound: is_feature(rest) },
        "sendheaders" => Message::SendHeaders,
        "sendcmpct" => {
            Message::SendCmpct { high_bandwidth: read(rest, "sendcmpct")?, version: read(rest, "sendcmpct")? }
        }
        "feefilter" => Message::FeeFilter(read(rest, "feefilter")?),
        "ping" => Message::Ping(read(rest, "ping")?),
        "pong" => Message::Pong(read(rest, "pong").ok()),
        "getaddr" => Message::GetAddr,
        "addr" => addresses(rest)?,
        "addrv2" => addresses_v2(rest)?,
        "inv" => inventory(rest, "inv message size", Message::Inv)?,
        "getdata" => inventory(rest, "getdata message size", Message::GetData)?,
        "notfound" => inventory(rest, "notfound message size", Message::NotFound)?,
        "getblocks" => Message::GetBlocks(locator(rest)?),
        "getheaders" => Message::GetHeaders(locator(rest)?),
        "headers" => headers(rest)?,
        "tx" => Message::Tx(Arc::new(read::<Transaction>(rest, "tx")?)),
        "block" => {
            // A block that holds a transaction without inputs is read, too: its sender hears which rule it breaks.
            let block = decode_block(rest).map_err(|_| Malformed("block"))?.0;
            let block = HashedBlock::new(block);
            // Here it holds up nobody; machine and chain ask again and have the answer.
            block.examine();
            Message::Block(Arc::new(block))
        }
        "cmpctblock" => Message::CmpctBlock(Box::new(read(rest, "cmpctblock")?)),
        "getblocktxn" => Message::GetBlockTxn(read(rest, "getblocktxn")?),
        "blocktxn" => Message::BlockTxn(read(rest, "blocktxn")?),
        "mempool" => Message::MemPool,
        "filterload" | "filteradd" | "filterclear" => Message::BloomFilter,
        "getcfilters" => Message::GetCFilters(read(rest, "getcfilters")?),
        "getcfheaders" => Message::GetCFHeaders(read(rest, "getcfheaders")?),
        "getcfcheckpt" => Message::GetCFCheckpt(read(rest, "getcfcheckpt")?),
        _ => Message::Unknown,
    })
}

fn read<T: Decodable>(rest: &mut &[u8], what: &'static str) -> Result<T, Malformed> {
    T::consensus_decode_from_finite_reader(rest).map_err(|_| Malformed(what))
}

fn count(rest: &mut &[u8], what: &'static str) -> Result<usize, Malformed> {
    let count: VarInt = read(rest, what)?;
    usize::try_from(count.0).map_err(|_| Malformed(what))
}

/// Core reads the fields that are there: old software sends fewer.
fn version(rest: &mut &[u8]) -> Result<Version, Malformed> {
    const WHAT: &str = "version";
    let (version, services, time): (i32, u64, i64) = (read(rest, WHAT)?, read(rest, WHAT)?, read(rest, WHAT)?);
    let receiver: Address = read(rest, WHAT)?;
    let mut known = Version {
        version,
        services,
        time: time.max(0),
        receiver: receiver.socket_addr().ok(),
        nonce: 1,
        user_agent: String::new(),
        start_height: -1,
        relay: true,
    };
    if !rest.is_empty() {
        let mut sender = [0; 26];
        rest.read_exact(&mut sender).map_err(|_| Malformed(WHAT))?;
        known.nonce = read(rest, WHAT)?;
    }
    if !rest.is_empty() {
        let length = count(rest, WHAT)?;
        if length > MAX_USER_AGENT {
            return Err(Malformed(WHAT));
        }
        let (text, after) = rest.split_at_checked(length).ok_or(Malformed(WHAT))?;
        *rest = after;
        known.user_agent = sanitize(text);
    }
    if !rest.is_empty() {
        known.start_height = read(rest, WHAT)?;
    }
    if !rest.is_empty() {
        known.relay = read::<u8>(rest, WHAT)? != 0;
    }
    Ok(known)
}

/// A name of 4 to 80 bytes, data of at most 512, and nothing behind (BIP 434).
fn is_feature(rest: &mut &[u8]) -> bool {
    let mut is_text = |least: usize, most: usize| {
        let Ok(length) = count(rest, "feature") else { return false };
        let Some((_, after)) = rest.split_at_checked(length) else { return false };
        *rest = after;
        (least..=most).contains(&length)
    };
    is_text(4, 80) && is_text(0, 512) && rest.is_empty()
}

/// Core: `SanitizeString`, its default set of characters.
fn sanitize(text: &[u8]) -> String {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b" .,;-_/:?@()".contains(byte);
    text.iter().filter(|byte| is_safe(byte)).map(|byte| char::from(*byte)).collect()
}

fn locator(rest: &mut &[u8]) -> Result<Locator, Malformed> {
    const WHAT: &str = "locator";
    let _: i32 = read(rest, WHAT)?;
    let length = count(rest, WHAT)?;
    // What is too long for the protocol is read up to one more, so that its sender can be told from others: the machine
    // closes the connection, whatever follows.
    let read_hash = |_| read(rest, WHAT);
    let hashes = (0..length.min(MAX_LOCATOR + 1)).map(read_hash).collect::<Result<Vec<BlockHash>, _>>()?;
    Ok(Locator { hashes, stop: read(rest, WHAT)? })
}

fn inventory(
    rest: &mut &[u8],
    excess: &'static str,
    make: fn(Vec<Inventory>) -> Message,
) -> Result<Message, Malformed> {
    let length = count(rest, excess)?;
    if length > MAX_INVENTORY {
        return Ok(Message::Excessive(excess));
    }
    Ok(make((0..length).map(|_| read(rest, excess)).collect::<Result<_, _>>()?))
}

fn headers(rest: &mut &[u8]) -> Result<Message, Malformed> {
    const WHAT: &str = "headers";
    let length = count(rest, WHAT)?;
    if length > MAX_HEADERS {
        return Ok(Message::Excessive("headers message size"));
    }
    let one = |rest: &mut &[u8]| {
        let header: Header = read(rest, WHAT)?;
        count(rest, WHAT)?;
        Ok(header)
    };
    Ok(Message::Headers((0..length).map(|_| one(rest)).collect::<Result<_, Malformed>>()?))
}

fn addresses(rest: &mut &[u8]) -> Result<Message, Malformed> {
    const WHAT: &str = "addr";
    let count = count(rest, WHAT)?;
    if count > MAX_ADDRESSES {
        return Ok(Message::Excessive("addr message size"));
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let (time, address): (u32, Address) = (read(rest, WHAT)?, read(rest, WHAT)?);
        if let Ok(socket) = address.socket_addr() {
            addresses.push(KnownAddress { address: socket.into(), services: address.services.to_u64(), time });
        }
    }
    Ok(Message::Addresses { count, addresses })
}

fn addresses_v2(rest: &mut &[u8]) -> Result<Message, Malformed> {
    const WHAT: &str = "addrv2";
    let count = count(rest, WHAT)?;
    if count > MAX_ADDRESSES {
        return Ok(Message::Excessive("addrv2 message size"));
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let message: AddrV2Message = read(rest, WHAT)?;
        if let Some(address) = NodeAddress::from_wire(&message.addr, message.port) {
            addresses.push(KnownAddress { address, services: message.services.to_u64(), time: message.time });
        }
    }
    Ok(Message::Addresses { count, addresses })
}
