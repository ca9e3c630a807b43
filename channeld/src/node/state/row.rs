//! The state as rows: what a checkpoint writes and a start reads.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::index::Index;
use super::{ChannelEntry, Head, OnionTag, State};
use crate::payment::forward::{Cause, HtlcPlace};
use crate::units::{ChannelId, NodeId, PaymentHash, SessionId, ShortChannelId, UnixTime};
use crate::wallet::WalletState;

/// A row's key in bytes and its value; `None` deletes it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// Names a row. The first byte sorts rows by kind; those of the archive have its high bit set and are not read at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// Counters and the chain.
    Head,
    /// A channel.
    Channel(ChannelId),
    /// What follows a channel's outputs on the chain.
    Resolver(ChannelId),
    /// A payment in flight.
    Payment(PaymentHash),
    /// An open invoice.
    Invoice(PaymentHash),
    /// A stream in which we pay.
    Stream(SessionId),
    /// A stream towards us that HTLCs carry.
    IncomingStream(SessionId),
    /// A kept answer.
    Request(String),
    /// A peer.
    Peer(NodeId),
    /// The wallet.
    Wallet,
    /// What was told and heard of a channel.
    Gossip(ChannelId),
    /// What we told of ourselves.
    Identity,
    /// A forward, by its incoming HTLC.
    Forward(HtlcPlace),
    /// An onion that was forwarded.
    SeenOnion(OnionTag),
    /// Archive: the place of an ended payment in its history.
    EndedPayment(PaymentHash),
    /// Archive: an ended invoice, by its index.
    EndedInvoice(u64),
    /// Archive: the index of an ended invoice.
    EndedInvoiceIndex(PaymentHash),
    /// Archive: a channel that is over, by its index.
    EndedChannel(u64),
    /// Archive: the index of a channel that is over.
    EndedChannelIndex(ChannelId),
    /// Archive: what a penalty needs of an HTLC that is over.
    Penalty(ChannelId, Vec<u8>),
    /// Archive: the id of a channel that is over, by its place on the chain.
    EndedChannelName(ShortChannelId),
    /// Archive: an answer to a mutating call, by the SHA-256 of its `request_id`.
    Answer([u8; 32]),
    /// Archive: the same by its age.
    AnswerAge(UnixTime, [u8; 32]),
    /// Archive: a channel that is over and whose penalty rows are not needed any more.
    PenaltiesOver(ChannelId),
}

impl RowKey {
    /// The name of an answer in the archive.
    pub fn answer_name(request_id: &str) -> [u8; 32] {
        Sha256::digest(request_id).into()
    }

    /// What all penalty rows of a channel begin with.
    pub fn penalties_of(channel: ChannelId) -> Vec<u8> {
        RowKey::Penalty(channel, Vec::new()).bytes()
    }

    /// The key's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let join = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        match self {
            RowKey::Head => vec![b'A'],
            RowKey::Channel(id) => join(b'C', &id.0),
            RowKey::Resolver(id) => join(b'O', &id.0),
            RowKey::Payment(hash) => join(b'P', &hash.0),
            RowKey::Invoice(hash) => join(b'I', &hash.0),
            RowKey::Stream(session) => join(b'S', &session.0),
            RowKey::IncomingStream(session) => join(b'T', &session.0),
            RowKey::Request(id) => join(b'R', id.as_bytes()),
            RowKey::Peer(peer) => join(b'N', &peer.0.serialize()),
            RowKey::Wallet => vec![b'W'],
            RowKey::Gossip(id) => join(b'G', &id.0),
            RowKey::Identity => vec![b'M'],
            RowKey::Forward(place) => join(b'F', &[place.channel.0.as_slice(), &place.id.id().to_be_bytes()].concat()),
            RowKey::SeenOnion(tag) => join(b'X', &tag.0),
            RowKey::EndedPayment(hash) => join(0x80, &hash.0),
            RowKey::EndedInvoice(index) => join(0x81, &index.to_be_bytes()),
            RowKey::EndedInvoiceIndex(hash) => join(0x82, &hash.0),
            RowKey::EndedChannel(index) => join(0x83, &index.to_be_bytes()),
            RowKey::EndedChannelIndex(id) => join(0x85, &id.0),
            RowKey::EndedChannelName(name) => join(0x89, name.to_string().as_bytes()),
            RowKey::Answer(name) => join(0x86, name),
            RowKey::AnswerAge(at, name) => join(0x87, &[&at.micros().to_be_bytes(), name.as_slice()].concat()),
            RowKey::PenaltiesOver(channel) => join(0x88, &channel.0),
            RowKey::Penalty(channel, key) => join(0x84, &[&channel.0, key.as_slice()].concat()),
        }
    }
}

/// A row that is not understood: written by another version, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the data directory is not understood by this version (key {})", hex::encode(.0))]
pub struct UnreadableRow(pub Vec<u8>);

/// Bytes of a value that always encodes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("our own types encode")
}

impl State {
    /// The rows that changed since the last call, as they stand.
    pub fn take_dirty(&mut self) -> Vec<Row> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| (key.bytes(), self.value(&key))).collect()
    }

    /// How many rows changed since they were last taken.
    pub fn dirty_rows(&self) -> usize {
        self.dirty.len()
    }

    /// All rows, as they stand: what memory and disk are compared by.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut keys = vec![RowKey::Head];
        keys.extend(self.channels.keys().copied().map(RowKey::Channel));
        keys.extend(self.resolvers.keys().copied().map(RowKey::Resolver));
        keys.extend(self.payments.keys().copied().map(RowKey::Payment));
        keys.extend(self.invoices.keys().copied().map(RowKey::Invoice));
        keys.extend(self.streams.keys().copied().map(RowKey::Stream));
        keys.extend(self.incoming_streams.keys().copied().map(RowKey::IncomingStream));
        keys.extend(self.requests.keys().cloned().map(RowKey::Request));
        keys.extend(self.peers.keys().copied().map(RowKey::Peer));
        keys.extend(self.gossip.keys().copied().map(RowKey::Gossip));
        if self.identity.is_some() {
            keys.push(RowKey::Identity);
        }
        keys.extend(self.forwards.keys().copied().map(RowKey::Forward));
        keys.extend(self.seen_onions.keys().copied().map(RowKey::SeenOnion));
        if !self.wallet.is_empty() {
            keys.push(RowKey::Wallet);
        }
        keys.into_iter().filter_map(|key| Some((key.bytes(), self.value(&key)?))).collect()
    }

    fn value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Head => Some(encode(&self.head)),
            RowKey::Channel(id) => self.channels.get(id).map(encode),
            RowKey::Resolver(id) => self.resolvers.get(id).map(encode),
            RowKey::Payment(hash) => self.payments.get(hash).map(encode),
            RowKey::Invoice(hash) => self.invoices.get(hash).map(encode),
            RowKey::Stream(session) => self.streams.get(session).map(encode),
            RowKey::IncomingStream(session) => self.incoming_streams.get(session).map(encode),
            RowKey::Request(id) => self.requests.get(id).map(encode),
            RowKey::Peer(peer) => self.peers.get(peer).map(encode),
            RowKey::Wallet => Some(self.wallet.to_bytes()),
            RowKey::Gossip(id) => self.gossip.get(id).map(encode),
            RowKey::Identity => self.identity.as_ref().map(encode),
            RowKey::Forward(place) => self.forwards.get(place).map(encode),
            RowKey::SeenOnion(tag) => self.seen_onions.get(tag).map(encode),
            _ => unreachable!("the archive is written with its turn"),
        }
    }

    /// The state that rows describe.
    ///
    /// # Errors
    /// A row that is not understood.
    pub fn from_rows(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<State, UnreadableRow> {
        let mut state = State::default();
        for (key, value) in rows {
            state.load(key, value).ok_or_else(|| UnreadableRow(key.clone()))?;
        }
        for (hash, payment) in &state.payments {
            state.causes.extend(payment.pending().map(|attempt| (attempt.place(), Cause::Payment(*hash))));
        }
        let forwards: Vec<_> = state.forwards.values().cloned().collect();
        forwards.iter().for_each(|forward| state.index_forward(forward));
        let channels: Vec<ChannelId> = state.channels.keys().copied().collect();
        channels.into_iter().for_each(|id| state.index_channel(id));
        state.index = state.make_index();
        Ok(state)
    }

    fn make_index(&self) -> Index {
        Index {
            channels: self.channels.iter().map(|(id, entry)| (entry.index, *id)).collect(),
            payments: self
                .payments
                .values()
                .filter(|payment| payment.is_listed())
                .map(|payment| (payment.index, payment.payment_hash))
                .collect(),
            invoices: self.invoices.values().map(|invoice| (invoice.index, invoice.payment_hash)).collect(),
            expiries: self.invoices.values().map(|invoice| (invoice.expires, invoice.payment_hash)).collect(),
            streams: self.streams.iter().map(|(session, stream)| (stream.channel, *session)).collect(),
            answers: self.requests.iter().map(|(id, answered)| (answered.at, id.clone())).collect(),
        }
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (tag, rest) = key.split_first()?;
        let id = || rest.try_into().ok();
        match tag {
            b'A' => self.head = decode::<Head>(value)?,
            b'C' => drop(self.channels.insert(ChannelId(id()?), decode::<ChannelEntry>(value)?)),
            b'O' => drop(self.resolvers.insert(ChannelId(id()?), decode(value)?)),
            b'P' => drop(self.payments.insert(PaymentHash(id()?), decode(value)?)),
            b'I' => drop(self.invoices.insert(PaymentHash(id()?), decode(value)?)),
            b'S' => drop(self.streams.insert(SessionId(id()?), decode(value)?)),
            b'T' => drop(self.incoming_streams.insert(SessionId(id()?), decode(value)?)),
            b'R' => drop(self.requests.insert(String::from_utf8(rest.to_vec()).ok()?, decode(value)?)),
            b'N' => drop(self.peers.insert(NodeId(secp256k1::PublicKey::from_slice(rest).ok()?), decode(value)?)),
            b'G' => drop(self.gossip.insert(ChannelId(id()?), decode(value)?)),
            b'M' => self.identity = Some(decode(value)?),
            b'F' => {
                let forward: crate::payment::forward::Forward = decode(value)?;
                drop(self.forwards.insert(forward.incoming, forward));
            }
            b'X' => self.load_onion(OnionTag(rest.try_into().ok()?), decode(value)?),
            b'W' => self.wallet = WalletState::from_bytes(value).ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}
