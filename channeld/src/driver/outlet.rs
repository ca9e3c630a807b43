//! Where effects go: sessions, clients, the chain. Nothing here waits for anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::Transaction;
use tokio::runtime;
use tokio::sync::watch;

use super::client::Clients;
use super::delay::Delays;
use super::pathfinder::Asker;
use crate::chain::{Backend, Broadcast};
use crate::gossip::{Gossip, Rim};
use crate::node::input::{Effect, SessionNumber};
use crate::peer::{Peers, SessionHandle};
use crate::wire::Message;

/// The sessions that there are, by number: filled when one begins, before the node hears of it.
#[derive(Default)]
pub struct Sessions(Mutex<BTreeMap<SessionNumber, SessionHandle>>);

impl Sessions {
    /// A session began.
    pub fn insert(&self, number: SessionNumber, handle: SessionHandle) {
        self.lock().insert(number, handle);
    }

    /// A session is over.
    pub fn remove(&self, number: SessionNumber) {
        self.lock().remove(&number);
    }

    fn get(&self, number: SessionNumber) -> Option<SessionHandle> {
        self.lock().get(&number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionNumber, SessionHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the file's map.
pub struct Outlet {
    /// Who waits for answers.
    pub clients: Arc<Clients>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Whose messages wait, on purpose.
    pub delays: Arc<Delays>,
    /// Who calls.
    pub peers: Peers,
    /// The chain.
    pub backend: Backend,
    /// Where the chain is waited for.
    pub runtime: runtime::Handle,
    /// Who searches routes.
    pub pathfinder: Asker,
    /// The owner of the graph.
    pub gossip: Gossip,
    /// The newest graph, and how complete it is.
    pub rim: Rim,
    /// The newest durable event.
    pub newest_event: watch::Sender<u64>,
}

impl Outlet {
    /// Does what durable turns decided, in order.
    pub fn carry_out(&self, effects: Vec<Effect>) {
        let mut waiting: Option<(SessionNumber, Vec<Message>)> = None;
        for effect in effects {
            match effect {
                Effect::Send { session, message, .. } => match &mut waiting {
                    // Messages in a row to one peer leave in one write.
                    Some((number, messages)) if *number == session => messages.push(message),
                    _ => self.send(waiting.replace((session, vec![message]))),
                },
                other => {
                    self.send(waiting.take());
                    self.carry_out_one(other);
                }
            }
        }
        self.send(waiting);
    }

    fn send(&self, waiting: Option<(SessionNumber, Vec<Message>)>) {
        // What belongs to a session that is gone is dropped.
        if let Some((number, messages)) = waiting
            && let Some(session) = self.sessions.get(number)
        {
            session.send(&messages);
        }
    }

    fn carry_out_one(&self, effect: Effect) {
        match effect {
            Effect::Send { .. } => {}
            Effect::Disconnect { session, .. } => {
                if let Some(session) = self.sessions.get(session) {
                    session.disconnect();
                }
            }
            Effect::Connect { peer, address } => self.peers.connect(peer, &address, true),
            Effect::Protect { peer } => self.peers.protect(peer),
            Effect::Delay { peer, millis } => {
                self.delays.set(peer, std::time::Duration::from_millis(u64::from(millis)));
            }
            Effect::Forget { peer } => self.peers.forget(peer),
            Effect::Reply { request, answer, last } => self.clients.answer(request, answer, last),
            Effect::Stream { request, status, .. } => self.clients.stream(request, *status),
            Effect::Broadcast(package) => self.broadcast(package),
            Effect::Gossip(message) => self.gossip.own(message),
            Effect::FollowUpdates(names) => self.gossip.follow(names),
            Effect::Events(newest) => drop(self.newest_event.send_replace(newest)),
            // `pathfinder` takes these as soon as it is there; nobody asks before.
            Effect::FindRoute { payment_hash, attempt, query } => self.pathfinder.find(payment_hash, attempt, query),
            Effect::Learned(lessons) => self.pathfinder.learn(lessons),
        }
    }

    /// Hands a package to the chain. Where that fails, the next block brings it again: the node derives it anew.
    fn broadcast(&self, package: Vec<Transaction>) {
        let backend = self.backend.clone();
        self.runtime.spawn(async move {
            let txids: Vec<String> = package.iter().map(|transaction| transaction.compute_txid().to_string()).collect();
            match backend.broadcast(&package).await {
                Ok(Broadcast::Accepted) => tracing::info!(?txids, "broadcast"),
                Ok(Broadcast::Rejected { txid, reason }) => {
                    tracing::warn!(%txid, reason, ?txids, "the mempool does not want a transaction");
                }
                Err(error) => tracing::warn!(%error, ?txids, "the chain backend did not take a transaction"),
            }
        });
    }
}
