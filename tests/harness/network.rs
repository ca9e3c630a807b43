//! Ten daemons as processes on one chain, in a ring with chords: random payments between any two while links are cut and
//! daemons killed; at the end every node's balance is explained to the millisatoshi by its own books.
//!
//! Each link leads through a [`Proxy`], which breaks it. Pace and faults follow the payments that end, not the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::v1::event::Detail;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    ChannelState, EventKind, ListEdgesRequest, OpenChannelRequest, Payment, PaymentState, SendPaymentRequest,
    open_channel_request,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::Code;
use wallet_cli::client::Client;

use crate::chain::nobody;
use crate::cluster::{BRIEF, Cluster};
use crate::daemon::Daemon;
use crate::proxy::Proxy;
use crate::wait::until;

const NAMES: [&str; 10] = ["ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "joe"];
const CAPACITY_SAT: u64 = 10_000_000;
/// Daemons from this one on are killed; of those before it the memory is compared, for they live from beginning to end.
const FIRST_VICTIM: usize = 5;
/// Payments that end between two faults.
const PACE: u64 = 10;
/// Of so many faults one is a kill, and after so many there is a block.
const KILL_EVERY: u64 = 3;
const BLOCK_EVERY: u64 = 8;
/// A payment with all its retries, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);

/// A client asks so often at most what became of its wish.
const MOST_ASKED: u32 = 100;

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Chooses who pays whom, how much, and what breaks.
    pub seed: u64,
    /// At least so many payments.
    pub payments: u64,
    /// And at least for so long.
    pub time: Duration,
    /// Payments under way at a time.
    pub at_once: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Payments that succeeded, that failed for certain, and that were refused at once.
    pub outcomes: [u64; 3],
    /// What was paid, and the fees for it, in millisatoshi.
    pub paid_msat: [u64; 2],
    /// HTLCs that were forwarded.
    pub forwarded: u64,
    /// kill -9.
    pub kills: u64,
    /// Links cut.
    pub cuts: u64,
    /// How long the payments took together.
    pub time: Duration,
    /// Resident memory of daemons that were never killed, after the warm-up and at the end, in KiB.
    pub memory_kib: Vec<(&'static str, u64, u64)>,
}

/// What became of a wish.
enum Outcome {
    Ended(Box<Payment>),
    /// Nothing was begun.
    Refused(String),
    /// The daemon is gone: who asks again learns more.
    Unknown,
}

#[derive(Clone)]
struct Wish {
    payer: usize,
    request: SendPaymentRequest,
    /// How often it was asked.
    asked: u32,
}

struct Link {
    ends: [usize; 2],
    channel: String,
    proxy: Proxy,
}

/// See the file's map.
pub struct Network {
    cluster: Cluster,
    links: Vec<Link>,
    random: StdRng,
    /// What each node had in its channels at first.
    start: Vec<u64>,
    asking: JoinSet<(Wish, Outcome)>,
    wishes: u64,
    /// Final payments by payer and hash.
    ended: BTreeMap<(usize, String), Payment>,
    report: Report,
}

impl Network {
    /// Starts it all: every daemon knows every channel.
    pub async fn start(seed: u64) -> Network {
        let cluster = Cluster::start(&NAMES, BRIEF).await;
        cluster.fund().await;
        let links = open_all(&cluster).await;
        let start = balances(&cluster, &links).await;
        let random = StdRng::seed_from_u64(seed);
        let (asking, ended, report) = (JoinSet::new(), BTreeMap::new(), Report::default());
        Network { cluster, links, random, start, asking, wishes: 0, ended, report }
    }

    /// Plays the plan, heals everything, and checks the books.
    ///
    /// # Panics
    /// Where a payment has no end or two, a channel failed, or a millisatoshi is missing.
    pub async fn play(mut self, plan: &Plan) -> Report {
        let began = Instant::now();
        let mut warm = None;
        let mut faults = 0;
        while self.count() < plan.payments || began.elapsed() < plan.time {
            while self.asking.len() < plan.at_once {
                self.wish().await;
            }
            self.await_one().await;
            if warm.is_none() && self.count() >= plan.payments / 4 && began.elapsed() >= plan.time / 10 {
                warm = Some(self.memory());
            }
            if self.count() / PACE > faults {
                faults += 1;
                self.fault(faults).await;
            }
        }
        while !self.asking.is_empty() {
            self.await_one().await;
        }
        self.report.time = began.elapsed();
        self.check(warm.unwrap_or_default()).await;
        self.report
    }

    /// Payments that came to an end.
    fn count(&self) -> u64 {
        self.report.outcomes.iter().sum()
    }

    /// Somebody wants to pay somebody: by key, or an invoice, which may be paid in parts.
    async fn wish(&mut self) {
        let payer = self.random.random_range(0..NAMES.len());
        let payee = (payer + self.random.random_range(1..NAMES.len())) % NAMES.len();
        // A third is dust.
        let most = *[300_000, 3_000_000, 300_000_000].get(self.random.random_range(0..3)).expect("three");
        let amount = self.random.random_range(1..most);
        let (payee, amount_msat) = if self.random.random_ratio(1, 3) {
            let invoice = self.cluster.nodes[payee].invoice(Some(amount)).await;
            (Payee::PaymentRequest(invoice.payment_request), None)
        } else {
            (Payee::NodeId(self.cluster.nodes[payee].id()), Some(amount))
        };
        self.wishes += 1;
        let request_id = format!("wish-{}", self.wishes);
        let request = SendPaymentRequest { request_id, payee: Some(payee), amount_msat, ..Default::default() };
        self.ask(Wish { payer, request, asked: 0 });
    }

    fn ask(&mut self, mut wish: Wish) {
        wish.asked += 1;
        assert!(wish.asked < MOST_ASKED, "nobody says what became of {:?}", wish.request);
        let client = self.cluster.nodes[wish.payer].client().clone();
        self.asking.spawn(async move {
            let outcome = ask(&client, wish.request.clone()).await;
            (wish, outcome)
        });
    }

    /// Waits for one wish; where its daemon died, it is asked again, with the same `request_id`.
    async fn await_one(&mut self) {
        let next = tokio::time::timeout(PATIENCE, self.asking.join_next()).await;
        let (wish, outcome) = next.expect("a payment comes to an end").expect("somebody asks").expect("no panic");
        match outcome {
            Outcome::Unknown => self.ask(wish),
            Outcome::Refused(why) => {
                self.report.outcomes[2] += 1;
                assert!(
                    matches!(why.as_str(), "INSUFFICIENT_BALANCE" | "CHANNEL_NOT_USABLE" | "PEER_OFFLINE" | "NO_ROUTE"),
                    "{why}"
                );
            }
            Outcome::Ended(payment) => {
                self.report.outcomes[usize::from(payment.state() != PaymentState::Succeeded)] += 1;
                let key = (wish.payer, payment.payment_hash.clone());
                assert!(self.ended.insert(key, *payment).is_none(), "two wishes are one payment");
            }
        }
    }

    /// A link breaks within its next bytes, or a daemon is killed and started again.
    async fn fault(&mut self, number: u64) {
        if number.is_multiple_of(BLOCK_EVERY) {
            self.cluster.chain.mine(1, &nobody()).await;
        }
        if number.is_multiple_of(KILL_EVERY) {
            let victim = self.random.random_range(FIRST_VICTIM..NAMES.len());
            self.cluster.nodes[victim].kill();
            self.report.kills += 1;
            self.cluster.nodes[victim].restart().await;
        } else {
            let link = self.random.random_range(0..self.links.len());
            self.links[link].proxy.break_after(self.random.random_range(0..3_000));
        }
    }

    fn memory(&self) -> Vec<u64> {
        self.cluster.nodes[..FIRST_VICTIM].iter().map(resident_kib).collect()
    }

    async fn check(&mut self, warm: Vec<u64>) {
        for link in &self.links {
            settled(&self.cluster, link).await;
            self.report.cuts += link.proxy.breaks();
        }
        let names = NAMES.into_iter().zip(warm);
        self.report.memory_kib = names.zip(self.memory()).map(|((name, warm), end)| (name, warm, end)).collect();
        let end = balances(&self.cluster, &self.links).await;
        assert_eq!(self.start.iter().sum::<u64>(), end.iter().sum::<u64>(), "money is made or lost");
        let mut received = BTreeMap::new();
        for (who, node) in self.cluster.nodes.iter().enumerate() {
            self.check_outcomes(who, node).await;
            let books = Books::of(node, &mut received).await;
            self.report.forwarded += books.forwarded;
            let gained = books.received + books.earned;
            let (paid, fees) = self.paid_by(who);
            self.report.paid_msat[0] += paid;
            self.report.paid_msat[1] += fees;
            assert_eq!(self.start[who] + gained, end[who] + paid + fees, "{}: the books do not explain it", node.name);
        }
        let succeeded = self.ended.iter().filter(|(_, payment)| payment.state() == PaymentState::Succeeded);
        let paid: BTreeMap<String, u64> =
            succeeded.map(|((_, hash), payment)| (hash.clone(), payment.amount_msat)).collect();
        assert_eq!(paid, received, "what was paid is what was received");
    }

    /// Each payment that a node lists is one that was wished, and ended as its client was told.
    async fn check_outcomes(&self, who: usize, node: &Daemon) {
        let listed = node.payments().await;
        assert_eq!(listed.len(), self.ended.keys().filter(|(payer, _)| *payer == who).count(), "{}", node.name);
        let mut hashes = BTreeSet::new();
        for payment in listed {
            assert!(hashes.insert(payment.payment_hash.clone()), "{}: two outcomes", node.name);
            let known = self.ended.get(&(who, payment.payment_hash.clone()));
            assert_eq!(known.map(outcome), Some(outcome(&payment)), "{}", node.name);
        }
    }

    /// What a node paid, and the fees for it.
    fn paid_by(&self, who: usize) -> (u64, u64) {
        let own = self.ended.iter().filter(|((payer, _), _)| *payer == who).map(|(_, payment)| payment);
        let paid = own.filter(|payment| payment.state() == PaymentState::Succeeded);
        paid.fold((0, 0), |(paid, fees), payment| (paid + payment.amount_msat, fees + payment.fee_msat))
    }
}

/// What never changes once it is told: a payment is decided by its first part, and its other parts end after that.
fn outcome(payment: &Payment) -> (i32, i32, u64, u64, &str) {
    (payment.state, payment.failure_reason, payment.amount_msat, payment.fee_msat, &payment.preimage)
}

/// What a node's log says that it gained.
struct Books {
    received: u64,
    earned: u64,
    forwarded: u64,
}

impl Books {
    /// Reads the log; what was received is written down by hash.
    async fn of(node: &Daemon, all: &mut BTreeMap<String, u64>) -> Books {
        let failures = node.events(&[EventKind::ChannelFailed, EventKind::ChannelClosing]).await;
        assert!(failures.is_empty(), "{}: {failures:?}", node.name);
        let mut books = Books { received: 0, earned: 0, forwarded: 0 };
        let kinds = [EventKind::KeysendReceived, EventKind::InvoiceSettled, EventKind::Forwarded];
        for event in node.events(&kinds).await {
            match event.detail {
                Some(Detail::Invoice(invoice)) => {
                    books.received += invoice.received_msat;
                    let before = all.insert(invoice.payment_hash, invoice.received_msat);
                    assert_eq!(before, None, "{}: received twice", node.name);
                }
                Some(Detail::Forward(forward)) => {
                    books.earned += forward.incoming_msat - forward.outgoing_msat;
                    books.forwarded += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        books
    }
}

/// Follows a payment to its end.
async fn ask(client: &Client, request: SendPaymentRequest) -> Outcome {
    let mut updates = match client.payment().send_payment(request).await {
        Ok(updates) => updates.into_inner(),
        Err(status)
            if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal) =>
        {
            return Outcome::Unknown;
        }
        Err(status) => return Outcome::Refused(crate::refusal::reason(&status)),
    };
    let mut last = None;
    while let Ok(Some(update)) = updates.message().await {
        last = update.payment.or(last);
    }
    match last.filter(|payment| payment.state() != PaymentState::InFlight) {
        Some(payment) => Outcome::Ended(Box::new(payment)),
        None => Outcome::Unknown,
    }
}

/// A ring with a chord from each of the first five to the node opposite.
fn edges() -> Vec<[usize; 2]> {
    let ring = (0..NAMES.len()).map(|who| [who, (who + 1) % NAMES.len()]);
    let half = NAMES.len() / 2;
    ring.chain((0..half).map(|who| [who, who + half])).collect()
}

async fn open_all(cluster: &Cluster) -> Vec<Link> {
    let mut links = Vec::new();
    for ends in edges() {
        let [opener, accepter] = ends.map(|who| &cluster.nodes[who]);
        let proxy = Proxy::start(accepter.presence().listen.expect("it listens")).await;
        let address = format!("{}@{}", accepter.id(), proxy.address());
        opener.call(address).await;
        let wanted = OpenChannelRequest {
            amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
            push_msat: CAPACITY_SAT * 500,
            announce: true,
            ..Default::default()
        };
        let channel = opener.open(accepter.id(), wanted).await.unwrap();
        cluster.chain.await_mempool(&channel.funding_outpoint.expect("a funding output").txid).await;
        links.push(Link { ends, channel: channel.channel_id, proxy });
    }
    cluster.mine(6).await;
    for node in &cluster.nodes {
        until(&format!("{}'s graph", node.name), async || {
            let request = ListEdgesRequest { page_size: 1_000, ..Default::default() };
            let edges = node.client().graph().list_edges(request).await.unwrap().into_inner().edges;
            let told = edges.iter().filter(|edge| edge.node_1_policy.is_some() && edge.node_2_policy.is_some());
            (told.count() == links.len()).then_some(())
        })
        .await;
    }
    for link in &links {
        settled(cluster, link).await;
    }
    links
}

/// Waits until both ends can use a channel, nothing is under way on it, and both agree.
async fn settled(cluster: &Cluster, link: &Link) {
    let [one, other] = link.ends.map(|who| &cluster.nodes[who]);
    until(&format!("{} and {} to agree", one.name, other.name), async || {
        let (one, other) = (one.channel(&link.channel).await, other.channel(&link.channel).await);
        assert!([&one, &other].iter().all(|end| end.state() <= ChannelState::Open), "{one:?} {other:?}");
        let quiet = one.htlcs.is_empty() && other.htlcs.is_empty() && one.usable && other.usable;
        let agree = (one.local_msat, one.remote_msat) == (other.remote_msat, other.local_msat);
        (quiet && agree && one.local_msat + one.remote_msat == CAPACITY_SAT * 1_000).then_some(())
    })
    .await;
}

/// What each node has in its channels.
async fn balances(cluster: &Cluster, links: &[Link]) -> Vec<u64> {
    let mut balances = Vec::new();
    for node in &cluster.nodes {
        let channels = node.channels().await;
        assert_eq!(
            channels.len(),
            links.iter().filter(|link| link.ends.map(|who| &cluster.nodes[who].name).contains(&&node.name)).count()
        );
        balances.push(channels.iter().map(|channel| channel.local_msat).sum());
    }
    balances
}

/// The resident memory of a daemon, as Linux says.
fn resident_kib(node: &Daemon) -> u64 {
    let pid = node.process.as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
