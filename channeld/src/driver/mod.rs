//! Executes what `node` decides: takes inputs in, has turns stored, lets effects out.
//!
//! Owns the node's thread and the store's thread, the mailbox with its lanes and credits, the clock and the source of
//! randomness. Decides nothing about money: it never looks into a channel. It never waits for a session or a client.

mod archive;
mod client;
mod committer;
mod delay;
pub mod handle;
pub mod inlet;
mod mailbox;
pub mod outlet;
pub mod pathfinder;
pub mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::node::input::{Input, Moment};
use crate::node::state::State;
use crate::node::state::change::Change;
use crate::node::state::row::{RowKey, UnreadableRow};
use crate::node::{Node, Record, Settings, state::row};
use crate::payment::jamming::Bucket;
use crate::store::{HistoryItem, Reader, Recovered, Store, Stream, TurnRecord};
use crate::units::UnixTime;

pub use client::Clients;
use committer::Committer;
pub use delay::Delays;
use handle::Handle;
pub use mailbox::Mailbox;
use outlet::Outlet;

/// Between two ticks when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// Why what was stored cannot be the node's.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A row.
    #[error(transparent)]
    Row(#[from] UnreadableRow),
    /// A record.
    #[error("record {lsn} of the journal is not understood by this version: use the version that wrote it")]
    Record {
        /// Its number.
        lsn: u64,
    },
}

/// The state that a store held: the rows of its checkpoint, and all turns after it.
///
/// # Errors
/// What is not understood.
pub fn recover(recovered: &Recovered) -> Result<State, RecoverError> {
    let mut state = State::from_rows(&recovered.rows)?;
    for (lsn, record) in &recovered.tail {
        let changes: Vec<Change> =
            postcard::from_bytes(&record.delta).map_err(|_| RecoverError::Record { lsn: lsn.0 })?;
        changes.iter().for_each(|change| state.apply(change));
    }
    Ok(state)
}

/// The clock and 32 fresh random bytes.
///
/// # Panics
/// Where the operating system has no randomness: without it no key is safe.
pub fn moment() -> Moment {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).expect("the operating system gives randomness");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { now: UnixTime::new(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)), entropy }
}

/// The running node.
pub struct Driver {
    handle: Handle,
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

impl Driver {
    /// Starts the node's and the store's threads. `clients`, `mailbox` and `outlet` belong together.
    ///
    /// # Errors
    /// The operating system has no thread for us.
    pub fn start(
        node: Node,
        store: Store,
        mailbox: Arc<Mailbox>,
        outlet: Outlet,
        settings: &Settings,
    ) -> std::io::Result<Driver> {
        let handle = Handle {
            mailbox: Arc::clone(&mailbox),
            clients: Arc::clone(&outlet.clients),
            reader: store.reader(),
            pathfinder: outlet.pathfinder.clone(),
            newest_event: newest_event(&outlet.newest_event, node.state()),
            network: settings.address_network,
            backend: outlet.backend.clone(),
            rim: outlet.rim.clone(),
        };
        let reader = store.reader();
        let committer = Committer::start(store, Arc::clone(&mailbox))?;
        let inbox = Arc::clone(&mailbox);
        let thread = std::thread::Builder::new()
            .name("node".to_owned())
            .spawn(move || run(node, &inbox, committer, &reader, &outlet))?;
        Ok(Driver { handle, mailbox, thread })
    }

    /// A way to ask the node.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Has the node finish what it has taken in, and waits for the end of both threads.
    pub fn stop(self) {
        self.mailbox.stop();
        if self.thread.join().is_err() {
            tracing::error!("the node's thread panicked");
        }
    }
}

fn newest_event(sender: &watch::Sender<u64>, state: &State) -> watch::Receiver<u64> {
    sender.send_replace(state.head.events);
    sender.subscribe()
}

fn run(mut node: Node, mailbox: &Mailbox, committer: Committer, reader: &Reader, outlet: &Outlet) {
    let (mut ticked, mut sweeper) = (Instant::now(), archive::sweep::Sweeper::new());
    // What the start itself made: calls to peers, transactions to send again.
    close_turn(&mut node, &committer, outlet);
    loop {
        let mail = mailbox.take(patience(&node));
        if mail.flushed {
            outlet.carry_out(node.flushed());
        }
        let inputs = mail.envelopes.len();
        for mut envelope in mail.envelopes {
            bring_history(&node, reader, &mut envelope.input);
            node.handle(envelope.input, moment());
        }
        let now = moment().now;
        if ticked.elapsed() >= TICK || node.wake_at().is_some_and(|due| now >= due) {
            ticked = Instant::now();
            node.handle(Input::Tick, moment());
            tell_load(&node.forwarding_load());
            if let Some(input) = sweeper.look(reader, now) {
                node.handle(input, moment());
            }
        }
        metrics::counter!("channeld_inputs_total").increment(inputs as u64);
        if node.is_store_free() {
            close_turn(&mut node, &committer, outlet);
        }
        if mail.stopped && node.is_store_free() {
            break;
        }
    }
    let rows = node.take_dirty();
    committer.stop(rows);
}

/// How full the buckets of forwards are, for Prometheus.
fn tell_load(load: &crate::node::ForwardingLoad) {
    for bucket in [Bucket::General, Bucket::Congestion, Bucket::Protected] {
        let of = load.buckets.iter().filter(|(_, it, _)| *it == bucket).map(|(_, _, room)| room);
        let (slots, value) = of.fold((0, 0), |(slots, value), room| (slots + room.slots, value + room.value.msat()));
        metrics::gauge!("channeld_forward_bucket_slots", "bucket" => bucket.name()).set(slots as f64);
        metrics::gauge!("channeld_forward_bucket_msat", "bucket" => bucket.name()).set(value as f64);
    }
    metrics::gauge!("channeld_forwards_in_flight").set(load.in_flight as f64);
    metrics::counter!("channeld_forwards_without_room_total").absolute(load.refused);
    metrics::counter!("channeld_forwards_total").absolute(load.succeeded);
    metrics::counter!("channeld_forwarding_fees_msat_total").absolute(load.fees.msat());
}

/// What a block makes necessary of the archive is read before the node sees it. A spend of a funding output is rare.
///
/// # Panics
/// Where the archive cannot be read: a penalty would be incomplete.
fn bring_history(node: &Node, reader: &Reader, input: &mut Input) {
    let Input::BlockConnected { block, history, .. } = input else { return };
    for channel in node.wants_history(block) {
        let rows = reader.rows(&RowKey::penalties_of(channel)).expect("the archive is read, or the process ends");
        history.extend(rows.values().filter_map(|bytes| Some((channel, postcard::from_bytes(bytes).ok()?))));
    }
}

/// Closes the open turn: stores what it changed, lets out what rests on nothing new.
fn close_turn(node: &mut Node, committer: &Committer, outlet: &Outlet) {
    let sealed = node.seal(moment());
    if let Some(record) = sealed.record {
        metrics::counter!("channeld_turns_total").increment(1);
        let rows = committer.wants_checkpoint().then(|| node.take_dirty());
        committer.commit(encode(record), rows);
    }
    outlet.carry_out(sealed.effects);
}

/// How long to wait for mail: until the next tick, or until the node wants to be woken.
fn patience(node: &Node) -> Duration {
    match node.wake_at() {
        None => TICK,
        Some(due) => Duration::from_micros(due.micros_since(moment().now)).min(TICK),
    }
}

fn encode(record: Record) -> TurnRecord {
    let item = |stream: Stream| move |(index, bytes)| HistoryItem { stream, index, bytes };
    let events = record.events.into_iter().map(item(Stream::Events));
    let payments = record.payments.into_iter().map(item(Stream::Payments));
    TurnRecord { delta: row::encode(&record.changes), rows: record.rows, history: events.chain(payments).collect() }
}
