//! The thread that owns the graph: it gives the machine what comes and the time, and does what the machine decides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::file;
use super::lookup;
use super::machine::{Action, Machine, Settings};
use super::mailbox::{Gossip, Mail};
use super::status::GossipStatus;
use crate::chain::Backend;
use crate::graph::Snapshot;
use crate::node::input::SessionNumber;
use crate::peer::SessionHandle;
use crate::units::{BlockHeight, ShortChannelId, UnixTime};

/// Between two ticks when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// The same while peers are still to hear something.
const BUSY_TICK: Duration = Duration::from_millis(20);
/// Envelopes that are handled before anything is sent.
const BATCH: usize = 256;
/// So much waits for a peer at most; above, it gets nothing until it has read some. The session itself ends at 8 MiB.
const MOST_UNREAD: usize = 256 * 1024;
/// Blocks before the kept height that are looked at again: they may be others now.
const RECHECKED_BLOCKS: u32 = 6;
/// Between two writes of the cache file.
const KEEP_EVERY: Duration = Duration::from_secs(600);

/// What others see of the graph.
#[derive(Clone, Debug)]
pub struct Rim {
    /// The newest graph.
    pub graph: watch::Receiver<Arc<Snapshot>>,
    /// How complete it is.
    pub status: watch::Receiver<GossipStatus>,
}

impl Rim {
    /// An empty graph that stays so: for whoever runs without an owner.
    pub fn empty() -> Rim {
        Rim {
            graph: watch::channel(Arc::new(Snapshot::default())).1,
            status: watch::channel(GossipStatus::default()).1,
        }
    }
}

/// The running owner of the graph.
pub struct Owner {
    gossip: Gossip,
    rim: Rim,
    thread: JoinHandle<()>,
}

impl Owner {
    /// Reads the cache file and starts the thread. Must be called inside a tokio runtime. `tip` is the height from which on blocks
    /// will be told.
    ///
    /// # Errors
    /// The operating system has no thread for us.
    pub fn start(
        settings: Settings,
        backend: Backend,
        path: PathBuf,
        tip: BlockHeight,
        gossip: Gossip,
    ) -> std::io::Result<Owner> {
        let mut machine = file::load(&path, settings);
        let (ask, questions) = mpsc::unbounded_channel();
        tokio::spawn(lookup::serve(backend.clone(), questions, gossip.clone()));
        if machine.snapshot().channel_count() > 0 {
            // Blocks that were connected after the graph was kept last: they may have closed channels.
            let missed = machine.height().height().saturating_sub(RECHECKED_BLOCKS)..=tip.height();
            tokio::spawn(lookup::catch_up(backend, missed, gossip.clone()));
        }
        machine.set_height(tip);
        let (graph, graph_seen) = watch::channel(machine.snapshot());
        let (status, status_seen) = watch::channel(machine.status());
        let sessions = BTreeMap::new();
        let kept = Instant::now();
        let running = Running { machine, path, gossip: gossip.clone(), ask, graph, status, sessions, kept };
        let thread = std::thread::Builder::new().name("gossip".to_owned()).spawn(move || running.run())?;
        Ok(Owner { gossip, rim: Rim { graph: graph_seen, status: status_seen }, thread })
    }

    /// What others see.
    pub fn rim(&self) -> Rim {
        self.rim.clone()
    }

    /// Keeps the graph and ends.
    pub fn stop(self) {
        self.gossip.stop();
        if self.thread.join().is_err() {
            tracing::error!("the graph's thread panicked");
        }
    }
}

struct Running {
    machine: Machine,
    path: PathBuf,
    gossip: Gossip,
    ask: mpsc::UnboundedSender<Vec<ShortChannelId>>,
    graph: watch::Sender<Arc<Snapshot>>,
    status: watch::Sender<GossipStatus>,
    sessions: BTreeMap<SessionNumber, SessionHandle>,
    kept: Instant,
}

impl Running {
    fn run(mut self) {
        let mut ticked = Instant::now();
        loop {
            let patience = if self.machine.has_backlog() { BUSY_TICK } else { TICK.saturating_sub(ticked.elapsed()) };
            let (mail, stopped) = self.gossip.take(BATCH, patience);
            for one in mail {
                self.handle(one);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.machine.tick(now());
            }
            let sessions = &self.sessions;
            self.machine.feed(|session| {
                sessions.get(&session).map_or(0, |session| MOST_UNREAD.saturating_sub(session.unsent_bytes()))
            });
            self.act();
            self.publish();
            if stopped || self.kept.elapsed() >= KEEP_EVERY {
                self.keep();
            }
            if stopped {
                return;
            }
        }
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Connected { session, features } => {
                let number = session.number();
                self.sessions.insert(number, session);
                self.machine.connected(number, &features, now());
            }
            Mail::Disconnected { session } => {
                self.sessions.remove(&session);
                self.machine.disconnected(session, now());
            }
            Mail::Messages { session, messages, .. } => self.machine.messages(session, messages, now()),
            Mail::Own(message) => self.machine.own(&message, now()),
            Mail::Followed(names) => self.machine.expect(names),
            Mail::LookedUp(answers) => self.machine.looked_up(answers, now()),
            Mail::BlockConnected { height, block, .. } => self.machine.block_connected(height, &block, now()),
            Mail::BlockDisconnected { height } => self.machine.block_disconnected(height),
        }
    }

    fn act(&mut self) {
        for action in self.machine.take_actions() {
            match action {
                Action::Send { session, messages } => {
                    if let Some(session) = self.sessions.get(&session) {
                        session.send_encoded(&messages);
                    }
                }
                Action::Disconnect { session } => {
                    if let Some(session) = self.sessions.get(&session) {
                        session.disconnect();
                    }
                }
                // Nobody takes it only when the process stops.
                Action::LookUp(ids) => drop(self.ask.send(ids)),
            }
        }
    }

    fn publish(&mut self) {
        if let Some(snapshot) = self.machine.take_snapshot() {
            self.graph.send_replace(snapshot);
        }
        let status = self.machine.status();
        self.status.send_if_modified(|known| std::mem::replace(known, status) != status);
        metrics::gauge!("channeld_graph_channels").set(status.channels as f64);
        metrics::gauge!("channeld_graph_nodes").set(status.nodes as f64);
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        if let Err(error) = file::save(&self.path, &self.machine, now()) {
            tracing::warn!(path = %self.path.display(), %error, "the graph could not be kept");
        }
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::new(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
