//! The thread that searches routes: owns what was learned about liquidity, and keeps it in a file of its own.
//!
//! The node asks and goes on; the answer comes as mail. Losing the file loses no money, so it is written now and then and
//! never waited for. The API's questions stand in the same queue, a few at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};

use super::mailbox::{Credit, Mailbox};
use super::moment;
use crate::graph::{Route, Snapshot};
use crate::node::input::Input;
use crate::router::{ExcludedEdge, Lesson, Liquidity, NoRoute, RouteQuery, Router};
use crate::units::PaymentHash;

/// More questions and lessons than these do not wait.
const MOST_JOBS: usize = 1_024;
/// The API's questions that may wait.
const MOST_QUERIES: usize = 4;
/// How often what was learned is written.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How long to wait for a job before looking for a new snapshot: whoever asks next finds it prepared.
const IDLE: Duration = Duration::from_millis(500);
/// A longer file was not written by us.
const MOST_BYTES: u64 = 16 << 20;

/// What the pathfinder gives the node: for which payment, which of its questions, the answer.
pub type Answer = dyn Fn(PaymentHash, u32, Result<Vec<Route>, NoRoute>) + Send + Sync;

/// Answers that go into the node's mailbox.
pub fn into_mailbox(mailbox: Arc<Mailbox>) -> Arc<Answer> {
    Arc::new(move |payment_hash, attempt, result| {
        mailbox.push(Input::RouteFound { payment_hash, attempt, result }, Credit::None);
    })
}

enum Job {
    Find { payment_hash: PaymentHash, attempt: u32, query: Box<RouteQuery> },
    Learn(Vec<Lesson>),
    Query { query: Box<RouteQuery>, limit: usize, answer: oneshot::Sender<Explained> },
    Stop,
}

/// An answer for the API.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The routes, or why there are none.
    pub routes: Result<Vec<Route>, NoRoute>,
    /// Edges that the amount cannot use in one part, and why.
    pub excluded: Vec<ExcludedEdge>,
}

/// The thread.
pub struct Pathfinder {
    asker: Asker,
    thread: JoinHandle<()>,
}

/// A way to ask; never waits.
#[derive(Clone)]
pub struct Asker {
    jobs: SyncSender<Job>,
    answer: Arc<Answer>,
    queries: Arc<Semaphore>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Pathfinder {
    /// Starts the thread. `snapshots` has the newest graph, an empty one until there is one; `file` is where liquidity is
    /// kept, if anywhere.
    ///
    /// # Errors
    /// The operating system has no thread for us.
    pub fn start(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        file: Option<PathBuf>,
        answer: Arc<Answer>,
    ) -> std::io::Result<Pathfinder> {
        let (sender, jobs) = sync_channel(MOST_JOBS);
        let queries = Arc::new(Semaphore::new(MOST_QUERIES));
        let asker = Asker { jobs: sender, answer: Arc::clone(&answer), queries, snapshots: snapshots.clone() };
        let thread = std::thread::Builder::new().name("pathfinder".to_owned()).spawn(move || {
            let router = Router::new(file.as_deref().map(read).unwrap_or_default());
            Worker { router, snapshots, file, answer, is_changed: false, written: Instant::now() }.run(&jobs);
        })?;
        Ok(Pathfinder { asker, thread })
    }

    /// A way to ask.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Has what was learned written, and waits for the end of the thread.
    pub fn stop(self) {
        // Full or gone: the thread ends where its last asker does.
        let _ = self.asker.jobs.send(Job::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the pathfinder's thread panicked");
        }
    }
}

impl Asker {
    /// The newest graph that there is.
    pub fn graph(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Has routes searched; the answer comes as mail, at once where too many wait.
    pub fn find(&self, payment_hash: PaymentHash, attempt: u32, query: Box<RouteQuery>) {
        if self.jobs.try_send(Job::Find { payment_hash, attempt, query }).is_err() {
            (self.answer)(payment_hash, attempt, Err(NoRoute::Busy));
        }
    }

    /// Tells what attempts taught. Where too much waits it is forgotten.
    pub fn learn(&self, lessons: Vec<Lesson>) {
        if !lessons.is_empty() && self.jobs.try_send(Job::Learn(lessons)).is_err() {
            metrics::counter!("channeld_route_lessons_dropped_total").increment(1);
        }
    }

    /// Routes for the API, with up to `limit` edges that cannot be used and why.
    ///
    /// # Errors
    /// [`NoRoute::Busy`] where too many ask, or the daemon stops.
    pub async fn query(&self, query: RouteQuery, limit: usize) -> Result<Explained, NoRoute> {
        let _permit = self.queries.try_acquire().map_err(|_| NoRoute::Busy)?;
        let (answer, answered) = oneshot::channel();
        let job = Job::Query { query: Box::new(query), limit, answer };
        self.jobs.try_send(job).map_err(|_| NoRoute::Busy)?;
        answered.await.map_err(|_| NoRoute::Busy)
    }
}

struct Worker {
    router: Router,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    file: Option<PathBuf>,
    answer: Arc<Answer>,
    is_changed: bool,
    written: Instant,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = jobs.recv_timeout(IDLE);
            self.look_at_the_graph();
            match job {
                Ok(Job::Find { payment_hash, attempt, query }) => {
                    let result = self.find(&query);
                    (self.answer)(payment_hash, attempt, result);
                }
                Ok(Job::Learn(lessons)) => {
                    self.router.learn(&lessons, moment().now);
                    self.is_changed = true;
                }
                Ok(Job::Query { query, limit, answer }) => {
                    let routes = self.find(&query);
                    let excluded = self.router.explain(&query, moment().now, limit);
                    // Whoever asked may be gone.
                    let _ = answer.send(Explained { routes, excluded });
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_changed && self.written.elapsed() >= WRITE_EVERY {
                self.write();
            }
        }
        if self.is_changed {
            self.write();
        }
    }

    fn look_at_the_graph(&mut self) {
        let newest = Arc::clone(&self.snapshots.borrow_and_update());
        self.router.set_snapshot(&newest);
    }

    fn find(&mut self, query: &RouteQuery) -> Result<Vec<Route>, NoRoute> {
        let began = Instant::now();
        let result = self.router.find(query, moment().now);
        metrics::histogram!("channeld_route_search_seconds").record(began.elapsed().as_secs_f64());
        result
    }

    fn write(&mut self) {
        self.is_changed = false;
        self.written = Instant::now();
        let Some(file) = &self.file else { return };
        let part = file.with_extension("part");
        let bytes = self.router.liquidity().encode();
        if let Err(error) = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, file)) {
            tracing::warn!(%error, file = %file.display(), "what was learned about liquidity is not written");
        }
    }
}

/// What was kept; nothing where that cannot be read.
fn read(file: &Path) -> Liquidity {
    match std::fs::metadata(file) {
        Ok(found) if found.len() <= MOST_BYTES => {}
        _ => return Liquidity::new(),
    }
    let bytes = std::fs::read(file).unwrap_or_default();
    Liquidity::decode(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, file = %file.display(), "what was learned about liquidity is forgotten");
        Liquidity::new()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::graph::{DirectedChannel, Direction};
    use crate::router::{FirstHop, Verdict};
    use crate::units::{ChannelId, Msat, NodeId, ShortChannelId};

    fn node(number: u8) -> NodeId {
        let secret = secp256k1::SecretKey::from_slice(&[number; 32]).unwrap();
        NodeId(secret.public_key(secp256k1::SECP256K1))
    }

    fn query() -> Box<RouteQuery> {
        let first = FirstHop {
            short_channel_id: ShortChannelId::from_u64(5),
            channel: ChannelId([1; 32]),
            peer: node(2),
            spendable: Msat::new(10_000),
            htlc_minimum: Msat::ZERO,
        };
        Box::new(RouteQuery::new(node(1), node(2), Msat::new(7_000), vec![first]))
    }

    fn started(file: Option<PathBuf>) -> (Pathfinder, mpsc::Receiver<Result<Vec<Route>, NoRoute>>) {
        let (_, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let (sender, answers) = mpsc::channel();
        let answer = Arc::new(move |_, _, result| drop(sender.send(result)));
        (Pathfinder::start(snapshots, file, answer).unwrap(), answers)
    }

    #[test]
    fn answers_come_as_mail() {
        let (pathfinder, answers) = started(None);
        pathfinder.asker().find(PaymentHash([1; 32]), 0, query());
        let routes = answers.recv().unwrap().unwrap();
        assert_eq!((routes.len(), routes[0].amount(), routes[0].fee()), (1, Msat::new(7_000), Msat::ZERO));
        pathfinder.stop();
    }

    #[tokio::test]
    async fn the_api_is_told_why() {
        let (pathfinder, _answers) = started(None);
        let mut query = query();
        query.amount = Msat::new(11_000);
        let explained = pathfinder.asker().query(*query, 10).await.unwrap();
        assert!(matches!(explained.routes, Err(NoRoute::TooLittleToSend { .. })));
        assert_eq!(explained.excluded.len(), 1);
        pathfinder.stop();
    }

    #[test]
    fn what_was_learned_is_kept_and_damage_forgets_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liquidity");
        let (pathfinder, _answers) = started(Some(file.clone()));
        let channel =
            DirectedChannel { short_channel_id: ShortChannelId::from_u64(9), direction: Direction::FromNode1 };
        let lesson = Lesson::Channel { channel, amount: Msat::new(3), verdict: Verdict::Forwarded };
        pathfinder.asker().learn(vec![lesson]);
        pathfinder.stop();
        assert_eq!(read(&file).len(), 1);
        std::fs::write(&file, [1, 255, 255]).unwrap();
        assert!(read(&file).is_empty());
    }
}
