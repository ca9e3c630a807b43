//! An LDK node's gossip: the crate's own, and the questions of BOLT 7 that it knows how to write and to read but never asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::Network;
use bitcoin::constants::ChainHash;
use lightning::ln::msgs::{
    BaseMessageHandler, ChannelAnnouncement, ChannelUpdate, Init, LightningError, MessageSendEvent, NodeAnnouncement,
    QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd, RoutingMessageHandler,
};
use lightning::routing::gossip::{NodeId, P2PGossipSync};
use lightning::types::features::{InitFeatures, NodeFeatures};
use secp256k1::PublicKey;

use super::part::{Graph, OwnGossip, Silent};

/// What peers answered, the first one first.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// To a question for the channels of a range of blocks.
    pub ranges: Vec<ReplyChannelRange>,
    /// At the end of what was asked of single channels.
    pub ends: Vec<ReplyShortChannelIdsEnd>,
}

/// See the file's map.
pub struct Gossip {
    own: OwnGossip,
    /// What it asks next.
    questions: Mutex<Vec<MessageSendEvent>>,
    answers: Mutex<Answers>,
    /// It wants no news: it says no filter, so that what it learns it was asked for.
    deaf: AtomicBool,
}

impl Gossip {
    pub(super) fn new(graph: Arc<Graph>, logger: Arc<Silent>) -> Gossip {
        let own = P2PGossipSync::new(graph, None, logger);
        Gossip { own, questions: Mutex::default(), answers: Mutex::default(), deaf: AtomicBool::new(false) }
    }

    /// Has it say no filter from now on.
    pub fn want_no_news(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Asks a peer which channels it knows.
    pub fn ask_range(&self, peer: PublicKey) {
        let chain_hash = ChainHash::using_genesis_block(Network::Regtest);
        let msg = QueryChannelRange { chain_hash, first_blocknum: 0, number_of_blocks: u32::MAX };
        self.ask(MessageSendEvent::SendChannelRangeQuery { node_id: peer, msg });
    }

    /// Asks a peer for channels.
    pub fn ask_channels(&self, peer: PublicKey, short_channel_ids: Vec<u64>) {
        let chain_hash = ChainHash::using_genesis_block(Network::Regtest);
        let msg = QueryShortChannelIds { chain_hash, short_channel_ids };
        self.ask(MessageSendEvent::SendShortIdsQuery { node_id: peer, msg });
    }

    fn ask(&self, question: MessageSendEvent) {
        self.questions.lock().expect("no panic while it is held").push(question);
    }

    /// All answers so far.
    pub fn answers(&self) -> Answers {
        self.answers.lock().expect("no panic while it is held").clone()
    }
}

impl BaseMessageHandler for Gossip {
    fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
        let mut events = self.own.get_and_clear_pending_msg_events();
        if self.deaf.load(Ordering::SeqCst) {
            events.retain(|event| !matches!(event, MessageSendEvent::SendGossipTimestampFilter { .. }));
        }
        events.append(&mut self.questions.lock().expect("no panic while it is held"));
        events
    }

    fn peer_disconnected(&self, peer: PublicKey) {
        self.own.peer_disconnected(peer);
    }

    fn provided_node_features(&self) -> NodeFeatures {
        self.own.provided_node_features()
    }

    fn provided_init_features(&self, peer: PublicKey) -> InitFeatures {
        self.own.provided_init_features(peer)
    }

    fn peer_connected(&self, peer: PublicKey, init: &Init, inbound: bool) -> Result<(), ()> {
        self.own.peer_connected(peer, init, inbound)
    }
}

impl RoutingMessageHandler for Gossip {
    fn handle_node_announcement(
        &self,
        peer: Option<PublicKey>,
        message: &NodeAnnouncement,
    ) -> Result<bool, LightningError> {
        self.own.handle_node_announcement(peer, message)
    }

    fn handle_channel_announcement(
        &self,
        peer: Option<PublicKey>,
        message: &ChannelAnnouncement,
    ) -> Result<bool, LightningError> {
        self.own.handle_channel_announcement(peer, message)
    }

    fn handle_channel_update(&self, peer: Option<PublicKey>, message: &ChannelUpdate) -> Result<bool, LightningError> {
        self.own.handle_channel_update(peer, message)
    }

    fn get_next_channel_announcement(
        &self,
        starting_point: u64,
    ) -> Option<(ChannelAnnouncement, Option<ChannelUpdate>, Option<ChannelUpdate>)> {
        self.own.get_next_channel_announcement(starting_point)
    }

    fn get_next_node_announcement(&self, starting_point: Option<&NodeId>) -> Option<NodeAnnouncement> {
        self.own.get_next_node_announcement(starting_point)
    }

    fn handle_reply_channel_range(&self, peer: PublicKey, message: ReplyChannelRange) -> Result<(), LightningError> {
        self.answers.lock().expect("no panic while it is held").ranges.push(message.clone());
        self.own.handle_reply_channel_range(peer, message)
    }

    fn handle_reply_short_channel_ids_end(
        &self,
        peer: PublicKey,
        message: ReplyShortChannelIdsEnd,
    ) -> Result<(), LightningError> {
        self.answers.lock().expect("no panic while it is held").ends.push(message.clone());
        self.own.handle_reply_short_channel_ids_end(peer, message)
    }

    fn handle_query_channel_range(&self, peer: PublicKey, message: QueryChannelRange) -> Result<(), LightningError> {
        self.own.handle_query_channel_range(peer, message)
    }

    fn handle_query_short_channel_ids(
        &self,
        peer: PublicKey,
        message: QueryShortChannelIds,
    ) -> Result<(), LightningError> {
        self.own.handle_query_short_channel_ids(peer, message)
    }

    fn processing_queue_high(&self) -> bool {
        self.own.processing_queue_high()
    }
}
