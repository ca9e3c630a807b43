//! Announcements before they come into the graph: what can be refused without curve work, then all signatures of a batch in
//! parallel. The order of the results is that of the batch.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message as Digest, PublicKey, SECP256K1};

use super::apply::Graph;
use super::error::Refusal;
use super::message::{Announcement, ChannelView, Kind, NodeView, SignatureBytes, UpdateView};
use super::node::read_addresses;
use super::store::record::KeyBytes;
use crate::units::{ShortChannelId, UnixTime};

/// A timestamp further ahead is not believed: a day, as LDK and CLN have it.
pub const MOST_AHEAD_SECONDS: u32 = 24 * 60 * 60;
/// An update this old is as good as none (BOLT 7, "Recommendation on Pruning Stale Entries").
pub const STALE_SECONDS: u32 = 14 * 24 * 60 * 60;
/// The longest `node_announcement` that is kept.
const LONGEST_NODE_ANNOUNCEMENT: usize = 4_096;

/// An announcement whose signatures are good: made by [`Graph::verify_batch`] alone, or of what this node has signed itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// To be held against the chain, then given to [`Graph::apply_channel`].
    Channel(VerifiedChannel),
    /// For [`Graph::apply_node`].
    Node(VerifiedNode),
    /// For [`Graph::apply_update`].
    Update(VerifiedUpdate),
}

/// A `channel_announcement` with four good signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChannel {
    pub(super) announcement: Announcement,
    pub(super) keys: [PublicKey; 2],
}

/// A `node_announcement` with a good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedNode {
    pub(super) announcement: Announcement,
}

/// A `channel_update` with a good signature of the node that the channel's announcement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedUpdate {
    pub(super) announcement: Announcement,
    /// Who signed.
    pub(super) signer: KeyBytes,
}

impl VerifiedChannel {
    /// What this node knows to be signed: an announcement of its own. `None` where it is another message or its node ids are
    /// no keys.
    pub fn assume_signed(announcement: Announcement) -> Option<VerifiedChannel> {
        let view = announcement.channel()?;
        let keys = [parse(view.node_ids[0])?, parse(view.node_ids[1])?];
        Some(VerifiedChannel { announcement, keys })
    }

    /// The announcement.
    pub const fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// Where the output is that must be looked up.
    pub fn short_channel_id(&self) -> ShortChannelId {
        ShortChannelId::from_u64(self.view().short_channel_id)
    }

    pub(super) fn view(&self) -> ChannelView<'_> {
        self.announcement.channel().expect("only a channel_announcement is verified as one")
    }
}

impl VerifiedNode {
    /// What this node knows to be signed: its own announcement. `None` where it is another message.
    pub fn assume_signed(announcement: Announcement) -> Option<VerifiedNode> {
        (announcement.kind() == Kind::Node).then_some(VerifiedNode { announcement })
    }

    /// The announcement.
    pub const fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        self.announcement.node().expect("only a node_announcement is verified as one")
    }
}

impl VerifiedUpdate {
    /// What this node knows to be signed by `signer`: an update of its own. `None` where it is another message.
    pub fn assume_signed(announcement: Announcement, signer: &PublicKey) -> Option<VerifiedUpdate> {
        (announcement.kind() == Kind::Update).then(|| VerifiedUpdate { announcement, signer: signer.serialize() })
    }

    /// The announcement.
    pub const fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    pub(super) fn view(&self) -> UpdateView<'_> {
        self.announcement.update().expect("only a channel_update is verified as one")
    }
}

/// The public key that 33 bytes stand for.
pub(super) fn parse(bytes: &KeyBytes) -> Option<PublicKey> {
    PublicKey::from_slice(bytes).ok()
}

/// What a batch says beside the graph.
struct Batch<'a> {
    graph: &'a Graph,
    now: u32,
    /// The announcements of channels that are not in the graph, by short channel id.
    channels: BTreeMap<u64, (usize, ChannelView<'a>)>,
    /// Their nodes.
    nodes: BTreeSet<&'a KeyBytes>,
    /// The keys of nodes that the graph does not know, parsed once.
    keys: Vec<(KeyBytes, Option<PublicKey>)>,
}

/// What has to be verified for a message that passed the checks without curve work.
struct Job<'a> {
    signer: Option<&'a KeyBytes>,
    /// The announcement in the same batch that says who signs.
    rests_on: Option<usize>,
}

impl Graph {
    /// Checks all that needs no chain. A batch may hold an announcement and what rests on it, the announcement first.
    /// Messages that are known, late or of no use are refused before any signature is looked at. What passes may still be
    /// refused when it is applied.
    pub fn verify_batch(&self, announcements: Vec<Announcement>, now: UnixTime) -> Vec<Result<Verified, Refusal>> {
        let checked = self.check_signatures(&announcements, now);
        announcements.into_iter().zip(checked).map(|(announcement, checked)| Ok(checked?.seal(announcement))).collect()
    }

    fn check_signatures(&self, announcements: &[Announcement], now: UnixTime) -> Vec<Result<Signed, Refusal>> {
        let mut batch = Batch {
            graph: self,
            now: seconds(now),
            channels: BTreeMap::new(),
            nodes: BTreeSet::new(),
            keys: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        let jobs: Vec<Result<Job<'_>, Refusal>> = announcements
            .iter()
            .enumerate()
            .map(|(at, announcement)| match seen.insert(announcement.as_bytes()) {
                true => batch.check(at, announcement),
                false => Err(Refusal::Duplicate),
            })
            .collect();
        batch.parse_keys();
        let mut checked: Vec<Result<Signed, Refusal>> = announcements
            .par_iter()
            .zip(&jobs)
            .map(|(announcement, job)| batch.verify(announcement, job.as_ref().map_err(|refusal| *refusal)?))
            .collect();
        for at in 0..checked.len() {
            let rests_on = jobs[at].as_ref().ok().and_then(|job| job.rests_on);
            if rests_on.is_some_and(|on| checked[on].is_err()) && checked[at].is_ok() {
                checked[at] = Err(Refusal::UnknownChannel);
            }
        }
        checked
    }
}

/// A message whose signatures are good, without the message.
enum Signed {
    Channel([PublicKey; 2]),
    Node,
    Update(KeyBytes),
}

impl Signed {
    fn seal(self, announcement: Announcement) -> Verified {
        match self {
            Signed::Channel(keys) => Verified::Channel(VerifiedChannel { announcement, keys }),
            Signed::Node => Verified::Node(VerifiedNode { announcement }),
            Signed::Update(signer) => Verified::Update(VerifiedUpdate { announcement, signer }),
        }
    }
}

impl<'a> Batch<'a> {
    fn check(&mut self, at: usize, announcement: &'a Announcement) -> Result<Job<'a>, Refusal> {
        if let Some(view) = announcement.channel() {
            self.graph.check_channel(&view)?;
            self.channels.entry(view.short_channel_id).or_insert((at, view));
            self.nodes.extend(view.node_ids);
            return Ok(Job { signer: None, rests_on: None });
        }
        if let Some(view) = announcement.update() {
            check_update_alone(self.graph, &view, self.now)?;
            if let Some((_, record)) = self.graph.known_channel(view.short_channel_id) {
                self.graph.check_update(&record, &view)?;
                let node = record.nodes[view.end()] as usize;
                let signer = self.graph.now.nodes.get(node).map(|node| &node.id);
                return Ok(Job { signer, rests_on: None });
            }
            let (on, channel) = self.channels.get(&view.short_channel_id).ok_or(Refusal::UnknownChannel)?;
            return Ok(Job { signer: Some(channel.node_ids[view.end()]), rests_on: Some(*on) });
        }
        let view = announcement.node().ok_or(Refusal::UnknownNode)?;
        self.check_node(&view, announcement.as_bytes())?;
        Ok(Job { signer: Some(view.node_id), rests_on: None })
    }

    fn check_node(&self, view: &NodeView<'_>, bytes: &[u8]) -> Result<(), Refusal> {
        if !self.nodes.contains(view.node_id) {
            self.graph.check_node(view)?;
        }
        if u64::from(view.timestamp) > u64::from(self.now) + u64::from(MOST_AHEAD_SECONDS) {
            return Err(Refusal::FarInTheFuture);
        }
        if bytes.len() > LONGEST_NODE_ANNOUNCEMENT {
            return Err(Refusal::TooLong);
        }
        read_addresses(view.addresses).map(|_| ())
    }

    /// A node has several channels, and a batch many of its messages: each key is decompressed once.
    fn parse_keys(&mut self) {
        let unknown: Vec<&KeyBytes> = self.nodes.iter().copied().filter(|id| self.graph.key(id).is_none()).collect();
        self.keys = unknown.into_par_iter().map(|id| (*id, parse(id))).collect();
    }

    fn key(&self, id: &KeyBytes) -> Option<PublicKey> {
        match self.keys.binary_search_by(|(known, _)| known.cmp(id)) {
            Ok(at) => self.keys[at].1,
            Err(_) => self.graph.key(id).or_else(|| parse(id)),
        }
    }

    fn verify(&self, announcement: &Announcement, job: &Job<'_>) -> Result<Signed, Refusal> {
        if let Some(view) = announcement.channel() {
            return self.verify_channel(&view).map(Signed::Channel);
        }
        let signer = job.signer.ok_or(Refusal::UnknownChannel)?;
        let key = self.key(signer).ok_or(Refusal::InvalidNodeId)?;
        if let Some(view) = announcement.update() {
            let good = is_signed(&view.digest(), view.signature, &key);
            return if good { Ok(Signed::Update(*signer)) } else { Err(Refusal::InvalidUpdateSignature) };
        }
        let view = announcement.node().ok_or(Refusal::UnknownNode)?;
        let good = is_signed(&view.digest(), view.signature, &key);
        if good { Ok(Signed::Node) } else { Err(Refusal::InvalidNodeSignature) }
    }

    fn verify_channel(&self, view: &ChannelView<'_>) -> Result<[PublicKey; 2], Refusal> {
        let node = |at: usize| self.key(view.node_ids[at]).ok_or(Refusal::InvalidNodeId);
        let funding = |at: usize| parse(view.bitcoin_keys[at]).ok_or(Refusal::InvalidFundingKey);
        let nodes = [node(0)?, node(1)?];
        let digest = view.digest();
        let signers = [nodes[0], nodes[1], funding(0)?, funding(1)?];
        let good = view.signatures.iter().zip(&signers).all(|(signature, key)| is_signed(&digest, signature, key));
        if good { Ok(nodes) } else { Err(Refusal::InvalidChannelSignature) }
    }
}

fn is_signed(digest: &Digest, signature: &SignatureBytes, key: &PublicKey) -> bool {
    Signature::from_compact(signature).is_ok_and(|signature| SECP256K1.verify_ecdsa(digest, &signature, key).is_ok())
}

/// What an update says against itself.
pub(super) fn check_update_alone(graph: &Graph, view: &UpdateView<'_>, now: u32) -> Result<(), Refusal> {
    if *view.chain_hash != graph.chain_hash().to_bytes() {
        return Err(Refusal::UnknownChain);
    }
    if view.message_flags & crate::wire::ChannelUpdate::DONT_FORWARD != 0 {
        return Err(Refusal::NotForOthers);
    }
    if u64::from(view.timestamp) > u64::from(now) + u64::from(MOST_AHEAD_SECONDS) {
        return Err(Refusal::FarInTheFuture);
    }
    if view.timestamp < now.saturating_sub(STALE_SECONDS) || view.timestamp == 0 {
        return Err(Refusal::Stale);
    }
    Ok(())
}

/// Seconds since 1970 as announcements have them.
pub(super) fn seconds(now: UnixTime) -> u32 {
    u32::try_from(now.seconds()).unwrap_or(u32::MAX)
}
