//! What the node knows and must not forget. `apply` is the only thing that changes it, and recovery is a fold of it.

pub mod change;
mod forward;
pub mod gossip;
pub mod index;
mod payment;
pub mod row;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{BlockHash, Transaction};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::onchain::Resolver;
use crate::payment::batch::IncomingStream;
use crate::payment::forward::{Cause, Forward, ForwardStatus, ForwardingPolicy, HtlcPlace};
use crate::payment::receive::Invoice;
use crate::payment::send::Payment;
use crate::payment::stream::OutgoingStream;
use crate::units::{
    BlockHeight, ChannelId, CltvExpiry, HtlcId, Msat, NodeId, PaymentHash, SessionId, ShortChannelId, UnixTime,
};
use crate::wallet::WalletState;
use crate::wire::NodeAnnouncement;

use change::{Answered, Change, PeerRecord};
pub use forward::OnionTag;
use gossip::ChannelGossip;
use index::Index;
use row::RowKey;

/// Hashes of blocks kept to find the fork after a reorg: as deep as a coinbase is immature, and more.
const RECENT_BLOCKS: usize = 288;
/// Payments that ended a short while ago, remembered so that the archive need not be asked inside a turn.
const RECENT_PAYMENTS: usize = 16_384;
/// Answers to mutating calls that are in memory. More than there can be between a look into the archive and the command that
/// it was made for: the mailbox's credits and the calls that wait for their answer.
pub const RECENT_ANSWERS: usize = if cfg!(test) { 16 } else { 16_384 };

/// The durable state.
#[derive(Clone, Default)]
pub struct State {
    /// Counters and the chain.
    pub head: Head,
    /// Channels that are not over.
    pub channels: BTreeMap<ChannelId, ChannelEntry>,
    /// What follows the outputs of channels on the chain.
    pub resolvers: BTreeMap<ChannelId, Resolver>,
    /// Payments of ours in flight.
    pub payments: BTreeMap<PaymentHash, Payment>,
    /// Invoices that may still be paid.
    pub invoices: BTreeMap<PaymentHash, Invoice>,
    /// Streams in which we pay.
    pub streams: BTreeMap<SessionId, OutgoingStream>,
    /// Streams towards us that HTLCs carry.
    pub incoming_streams: BTreeMap<SessionId, IncomingStream>,
    /// HTLCs that are forwarded, by the incoming one.
    pub forwards: BTreeMap<HtlcPlace, Forward>,
    /// Onions that were forwarded, by a tag of the secret, until they expire: none is forwarded twice.
    seen_onions: BTreeMap<OnionTag, CltvExpiry>,
    /// The same by expiry: follows from it.
    seen_until: BTreeSet<(CltvExpiry, OnionTag)>,
    /// The newest answers to mutating calls; all of them are in the archive.
    pub requests: BTreeMap<String, Answered>,
    /// Peers to remember.
    pub peers: BTreeMap<NodeId, PeerRecord>,
    /// What was told and heard of our channels.
    pub gossip: BTreeMap<ChannelId, ChannelGossip>,
    /// What we told of ourselves last.
    pub identity: Option<NodeAnnouncement>,
    /// What the wallet must keep.
    pub wallet: WalletState,
    /// Why each outgoing HTLC is there: follows from `payments` and forwards.
    causes: BTreeMap<HtlcPlace, Cause>,
    /// Short channel ids by which others name our channels, real ones and our aliases: follows from `channels`.
    names: BTreeMap<ShortChannelId, ChannelId>,
    /// The channels of each peer: follows from `channels`.
    by_peer: BTreeSet<(NodeId, ChannelId)>,
    /// Places in lists, what is due first, what belongs to a channel: follows from the above.
    pub index: Index,
    /// Payments that ended, the oldest first: bounded, only to answer sooner.
    recent: VecDeque<PaymentHash>,
    /// The same, to be found: whether it succeeded.
    recent_outcomes: BTreeMap<PaymentHash, bool>,
    /// The rows that changed since they were last collected.
    dirty: BTreeSet<RowKey>,
}

/// Counters and the chain: one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest event's index.
    pub events: u64,
    /// The newest payment's index.
    pub payments: u64,
    /// How many payments have ended: the archive's newest index.
    pub ended_payments: u64,
    /// The newest invoice's index.
    pub invoices: u64,
    /// The newest channel's index.
    pub channels: u64,
    /// How many HTLCs were forwarded with success.
    pub forwarded: u64,
    /// What that brought.
    pub forwarding_fees: Msat,
    /// Blocks of the best chain, the newest last.
    pub blocks: VecDeque<(BlockHeight, BlockHash)>,
    /// How many answers to mutating calls the archive holds.
    pub answers: u64,
}

/// A channel and what only the node knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelEntry {
    /// Counts up from 1.
    pub index: u64,
    /// With whom.
    pub peer: NodeId,
    /// The machine.
    pub channel: Channel,
    /// Our funding transaction, until it is deep enough to be forgotten.
    pub funding: Option<Transaction>,
    /// All that we ever sent over it: payments that succeeded and transfers that are paid.
    pub sent: Msat,
    /// All that we ever received over it.
    pub received: Msat,
    /// What it asks for forwarding.
    pub policy: ForwardingPolicy,
    /// What it asked before, and until when that was so.
    pub policy_before: Option<(ForwardingPolicy, UnixTime)>,
}

impl ChannelEntry {
    /// The names by which others may ask us to send on over it: its place on the chain, and our alias.
    pub fn names(&self) -> impl Iterator<Item = ShortChannelId> {
        [Some(self.channel.alias), self.public_place()].into_iter().flatten()
    }

    /// Its place on the chain, where others than the peer may know it.
    fn public_place(&self) -> Option<ShortChannelId> {
        self.place().filter(|_| !self.channel.is_alias_only)
    }

    /// Its place on the chain, once its funding transaction is there.
    pub fn place(&self) -> Option<ShortChannelId> {
        self.channel.funded().and_then(|funded| funded.short_channel_id)
    }
}

impl State {
    /// The last block that was seen.
    pub fn tip(&self) -> Option<(BlockHeight, BlockHash)> {
        self.head.blocks.back().copied()
    }

    /// The height of the last block that was seen.
    pub fn height(&self) -> BlockHeight {
        self.tip().map_or(BlockHeight::new(0), |(height, _)| height)
    }

    /// The payment that an outgoing HTLC belongs to.
    pub fn payment_of(&self, channel: ChannelId, htlc: HtlcId) -> Option<&Payment> {
        match self.cause_of(channel, htlc)? {
            Cause::Payment(hash) => self.payments.get(&hash),
            Cause::Forward(_) => None,
        }
    }

    /// Why an outgoing HTLC is there; `None` once its end is known.
    pub fn cause_of(&self, channel: ChannelId, id: HtlcId) -> Option<Cause> {
        self.causes.get(&HtlcPlace { channel, id }).copied()
    }

    /// Every outgoing HTLC whose end is not known, and why it is there.
    pub fn causes(&self) -> impl Iterator<Item = (HtlcPlace, Cause)> {
        self.causes.iter().map(|(place, cause)| (*place, *cause))
    }

    /// The channel that an onion or a gossip message means by a name: its place on the chain, or our alias for it.
    pub fn channel_named(&self, name: ShortChannelId) -> Option<ChannelId> {
        self.names.get(&name).copied()
    }

    /// The channel that this peer means by a name: also its own alias for it, which is nobody else's.
    pub fn channel_named_by(&self, peer: NodeId, name: ShortChannelId) -> Option<ChannelId> {
        let is_named = |entry: &ChannelEntry| {
            entry.names().chain(entry.place()).any(|known| known == name)
                || entry.channel.funded().is_some_and(|funded| funded.remote_alias == Some(name))
        };
        self.channels_with(peer).find(|(_, entry)| is_named(entry)).map(|(id, _)| *id)
    }

    /// Whether a payment of this hash that ended a short while ago succeeded; `None` where none did.
    pub fn ended_lately(&self, hash: &PaymentHash) -> Option<bool> {
        self.recent_outcomes.get(hash).copied()
    }

    /// The channel with a peer that a route of ours begins with: also by a place on the chain that is hidden from
    /// everybody else.
    pub fn own_channel_named(&self, peer: NodeId, name: ShortChannelId) -> Option<ChannelId> {
        let is_named = |entry: &ChannelEntry| entry.names().chain(entry.place()).any(|known| known == name);
        self.channels_with(peer).find(|(_, entry)| is_named(entry)).map(|(id, _)| *id)
    }

    /// The channel whose funding output is there.
    pub fn channel_at(&self, place: ShortChannelId) -> Option<ChannelId> {
        self.channels.iter().find(|(_, entry)| entry.place() == Some(place)).map(|(id, _)| *id)
    }

    /// Our channels with a peer.
    pub fn channels_with(&self, peer: NodeId) -> impl Iterator<Item = (&ChannelId, &ChannelEntry)> {
        let from = (peer, ChannelId([0; 32]));
        let of_peer = self.by_peer.range(from..).take_while(move |(of, _)| *of == peer);
        of_peer.filter_map(|(_, id)| self.channels.get_key_value(id))
    }

    /// Makes one change.
    ///
    /// # Panics
    /// Where the change is about something that is not there: a fault of ours, or a record of another node.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::ChannelAdded { .. }
            | Change::Channel { .. }
            | Change::ChannelRemoved { .. }
            | Change::Moved { .. }
            | Change::FundingKept { .. }
            | Change::ForwardingPolicySet { .. }
            | Change::Gossip { .. }
            | Change::ResolverAdded { .. }
            | Change::Resolver { .. }
            | Change::ResolverRemoved { .. } => self.apply_channel(change),
            Change::PaymentAdded(_)
            | Change::PaymentAttempted { .. }
            | Change::PaymentEnded { .. }
            | Change::PaymentDropped { .. }
            | Change::Payment { .. }
            | Change::InvoiceAdded(_)
            | Change::InvoiceEnded { .. }
            | Change::InvoiceProgressed { .. }
            | Change::StreamAdded { .. }
            | Change::Stream { .. }
            | Change::StreamRemoved { .. }
            | Change::BatchReceived { .. }
            | Change::IncomingStreamsForgotten { .. } => self.apply_payment(change),
            Change::ForwardAdded(_) | Change::ForwardProgressed { .. } | Change::ForwardEnded { .. } => {
                self.apply_forward(change);
            }
            _ => self.apply_rest(change),
        }
    }

    fn apply_channel(&mut self, change: &Change) {
        match change {
            Change::ChannelAdded { peer, channel, policy } => self.add_channel(*peer, channel, *policy),
            Change::ForwardingPolicySet { channel, policy, at } => {
                self.dirty.insert(RowKey::Channel(*channel));
                let entry = self.channel_mut(channel);
                entry.policy_before = Some((entry.policy, *at));
                entry.policy = *policy;
            }
            Change::Gossip { channel, change } => {
                self.dirty.insert(RowKey::Gossip(*channel));
                self.gossip.entry(*channel).or_default().apply(change);
            }
            Change::Moved { channel, sent, received } => {
                self.dirty.insert(RowKey::Channel(*channel));
                let entry = self.channel_mut(channel);
                entry.sent = Msat::new(entry.sent.msat().saturating_add(sent.msat()));
                entry.received = Msat::new(entry.received.msat().saturating_add(received.msat()));
            }
            Change::ResolverAdded { channel, resolver } => {
                self.dirty.insert(RowKey::Resolver(*channel));
                self.resolvers.insert(*channel, (**resolver).clone());
            }
            Change::Resolver { channel, delta } => {
                self.dirty.insert(RowKey::Resolver(*channel));
                self.resolvers.get_mut(channel).expect("a delta is about a resolver that is there").apply(delta);
            }
            Change::ResolverRemoved { channel } => {
                self.dirty.insert(RowKey::Resolver(*channel));
                self.resolvers.remove(channel);
            }
            Change::FundingKept { channel, transaction } => {
                self.dirty.insert(RowKey::Channel(*channel));
                self.channel_mut(channel).funding.clone_from(transaction);
            }
            Change::Channel { channel, delta } => {
                self.dirty.insert(RowKey::Channel(*channel));
                let entry = self.channel_mut(channel);
                let before = entry.public_place();
                entry.channel.apply(delta);
                let now = entry.public_place();
                if before != now {
                    before.map(|name| self.names.remove(&name));
                    now.map(|name| self.names.insert(name, *channel));
                }
            }
            Change::ChannelRemoved { channel } => self.forget_channel(channel),
            _ => unreachable!("sorted by `apply`"),
        }
    }

    fn forget_channel(&mut self, channel: &ChannelId) {
        self.dirty.insert(RowKey::Channel(*channel));
        if self.gossip.remove(channel).is_some() {
            self.dirty.insert(RowKey::Gossip(*channel));
        }
        if let Some(entry) = self.channels.remove(channel) {
            self.index.channels.remove(&entry.index);
            self.by_peer.remove(&(entry.peer, *channel));
            for name in entry.names() {
                self.names.remove(&name);
            }
            self.forget_forwards_of(*channel);
        }
    }

    /// Lets a channel be found by its peer and its names.
    fn index_channel(&mut self, id: ChannelId) {
        let Some(entry) = self.channels.get(&id) else { return };
        self.by_peer.insert((entry.peer, id));
        self.names.extend(entry.names().map(|name| (name, id)));
    }

    fn add_channel(&mut self, peer: NodeId, channel: &Channel, policy: ForwardingPolicy) {
        self.head.channels += 1;
        self.dirty.insert(RowKey::Head);
        let id = channel.id;
        self.dirty.insert(RowKey::Channel(id));
        let entry = ChannelEntry {
            index: self.head.channels,
            peer,
            channel: channel.clone(),
            funding: None,
            sent: Msat::ZERO,
            received: Msat::ZERO,
            policy,
            policy_before: None,
        };
        self.index.channels.insert(entry.index, id);
        self.channels.insert(id, entry);
        self.index_channel(id);
    }

    fn channel_mut(&mut self, id: &ChannelId) -> &mut ChannelEntry {
        self.channels.get_mut(id).expect("a delta is about a channel that is there")
    }

    fn apply_rest(&mut self, change: &Change) {
        match change {
            Change::RequestAnswered { id, answered } => {
                self.dirty.insert(RowKey::Request(id.clone()));
                self.dirty.insert(RowKey::Head);
                self.head.answers += 1;
                self.index.answers.insert((answered.at, id.clone()));
                self.requests.insert(id.clone(), answered.clone());
                while self.requests.len() > RECENT_ANSWERS {
                    self.forget_oldest_answer();
                }
            }
            Change::RequestsForgotten { before } => {
                while self.has_requests_before(*before) {
                    self.forget_oldest_answer();
                }
            }
            Change::AnswersForgotten(count) => {
                self.dirty.insert(RowKey::Head);
                self.head.answers = self.head.answers.saturating_sub(*count);
            }
            Change::PeerAdded { peer, record } => {
                self.dirty.insert(RowKey::Peer(*peer));
                self.peers.insert(*peer, record.clone());
            }
            Change::PeerRemoved { peer } => {
                self.dirty.insert(RowKey::Peer(*peer));
                self.peers.remove(peer);
            }
            Change::BlockConnected { height, hash } => {
                self.dirty.insert(RowKey::Head);
                self.head.blocks.push_back((*height, *hash));
                if self.head.blocks.len() > RECENT_BLOCKS {
                    self.head.blocks.pop_front();
                }
                self.forget_onions(*height);
            }
            Change::BlockDisconnected => {
                self.dirty.insert(RowKey::Head);
                self.head.blocks.pop_back();
            }
            Change::NodeAnnounced(announcement) => {
                self.dirty.insert(RowKey::Identity);
                self.identity = Some((**announcement).clone());
            }
            Change::Wallet(bytes) => {
                self.dirty.insert(RowKey::Wallet);
                self.wallet.merge(bytes).expect("the wallet reads what it staged");
            }
            Change::Events(count) => {
                self.dirty.insert(RowKey::Head);
                self.head.events += count;
            }
            _ => unreachable!("sorted by `apply`"),
        }
    }

    /// Whether there are answers in memory that are older than `before`.
    pub fn has_requests_before(&self, before: UnixTime) -> bool {
        self.index.answers.first().is_some_and(|(at, _)| *at < before)
    }

    /// The archive still has it.
    fn forget_oldest_answer(&mut self) {
        if let Some((_, id)) = self.index.answers.pop_first() {
            self.requests.remove(&id);
            self.dirty.insert(RowKey::Request(id));
        }
    }
}
