//! Where inputs come from: sessions and the chain's watcher, turned into the node's words.

use std::sync::Arc;

use bitcoin::BlockHash;
use tokio::sync::{Semaphore, mpsc};

use super::delay::Delays;
use super::mailbox::{Credit, Mailbox};
use super::outlet::Sessions;
use crate::chain::ChainEvent;
use crate::gossip::Gossip;
use crate::node::input::{ChainState, Input, SessionNumber};
use crate::peer::{Direction, EventSink, PeerEvent};
use crate::units::BlockHeight;

/// Blocks that may wait for the node.
const BLOCKS_AHEAD: usize = 16;

/// Takes what happens with peers.
pub struct PeerInlet {
    /// Where it goes.
    pub mailbox: Arc<Mailbox>,
    /// The sessions, for the way out.
    pub sessions: Arc<Sessions>,
    /// Whose messages wait, on purpose.
    pub delays: Arc<Delays>,
    /// Where what everybody is told goes, around the node.
    pub gossip: Gossip,
}

impl EventSink for PeerInlet {
    fn push(&self, event: PeerEvent) {
        match event {
            PeerEvent::Connected { session, node_id, features, direction, address } => {
                let number = SessionNumber(session.number().0);
                self.sessions.insert(number, session.clone());
                self.gossip.connected(session, features.clone());
                let inbound = direction == Direction::Inbound;
                let address = Some(address).filter(|_| !inbound);
                let input = Input::Connected { peer: node_id, session: number, features, inbound, address };
                self.mailbox.push(input, Credit::None);
            }
            PeerEvent::Messages { session, node_id, messages, credit } => {
                let number = SessionNumber(session.0);
                let (messages, credit) = self.gossip.divide(number, messages, credit);
                if !messages.is_empty() {
                    let input = Input::Messages { peer: node_id, session: number, messages };
                    self.delays.push(&self.mailbox, node_id, number, input, Credit::Peer(credit));
                }
            }
            PeerEvent::Disconnected { session, node_id, reason } => {
                tracing::info!(peer = %node_id, %reason, "disconnected");
                let number = SessionNumber(session.0);
                self.sessions.remove(number);
                self.delays.forget(number);
                self.gossip.disconnected(number);
                self.mailbox.push(Input::Disconnected { peer: node_id, session: number }, Credit::None);
            }
            PeerEvent::ConnectFailed { node_id, reason } => {
                let input = Input::ConnectFailed { peer: node_id, description: reason };
                self.mailbox.push(input, Credit::None);
            }
        }
    }
}

/// Takes what the chain's watcher says, until it ends. The node and the owner of
/// the graph are never more than a few blocks behind what is told.
pub async fn chain(mut events: mpsc::Receiver<ChainEvent>, mailbox: Arc<Mailbox>, gossip: Gossip) {
    let room = Arc::new(Semaphore::new(BLOCKS_AHEAD));
    let mut state =
        ChainState { target: BlockHeight::new(0), problem: Some("not asked yet".to_owned()), feerates: None };
    while let Some(event) = events.recv().await {
        let Ok(credit) = Arc::clone(&room).acquire_owned().await else { return };
        let credit = Arc::new(credit);
        let input = match event {
            ChainEvent::BlockConnected { height, block } => {
                gossip.block_connected(height, Arc::clone(&block), Some(Arc::clone(&credit)));
                Input::BlockConnected { height, block, history: Vec::new() }
            }
            ChainEvent::BlockDisconnected { height, hash, .. } => {
                gossip.block_disconnected(height);
                Input::BlockDisconnected { height, hash }
            }
            other => {
                learn(&mut state, other);
                Input::ChainState(state.clone())
            }
        };
        mailbox.push_chain(input, Credit::Chain(credit));
    }
}

fn learn(state: &mut ChainState, event: ChainEvent) {
    match event {
        ChainEvent::Progress { best, is_current } => {
            state.target = best;
            state.problem = (!is_current).then(|| "the chain backend is not synced itself".to_owned());
        }
        ChainEvent::Fees(fees) => state.feerates = Some([fees.urgent, fees.normal, fees.relaxed]),
        ChainEvent::Unavailable(problem) => state.problem = Some(problem),
        ChainEvent::TipUnknown { tip, best } => {
            state.target = best;
            state.problem = Some(unknown_tip(tip.height, tip.hash));
        }
        ChainEvent::BlockConnected { .. } | ChainEvent::BlockDisconnected { .. } => {}
    }
}

fn unknown_tip(height: BlockHeight, hash: BlockHash) -> String {
    format!("the chain backend does not know our block {hash} at height {height}: it was reset or is on another chain")
}
