//! kill -9 at random instants, under payments and a stream: no payment is lost or doubled, both ends agree, and the channel
//! still works and closes.
//!
//! `E2E_SEED` and `E2E_KILLS` choose the world; the seed is printed.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::event::Detail;
use proto::v1::send_payment_request::Payee;
use proto::v1::stream_payments_request::Request;
use proto::v1::{
    CloseChannelRequest, EventKind, ListPaymentsRequest, Order, Payment, PaymentState, SendPaymentRequest, StreamOpen,
    stream_open,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::cluster::Terms;
use tests::refusal::reason;
use tests::wait::soon;
use tests::{Cluster, Daemon, money, until};
use tokio::task::JoinHandle;
use wallet_cli::client::Client;

use crate::stream::Stream;

const CAPACITY_SAT: u64 = 10_000_000;
const STREAM_MSAT: u64 = 1_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_and_double_nothing() {
    let (seed, kills) = (setting("E2E_SEED", 20_261_121), setting("E2E_KILLS", 100));
    println!("E2E_SEED={seed} E2E_KILLS={kills}");
    let cluster = Cluster::pair().await;
    let mut world = World::new(cluster, seed).await;
    while world.kills < kills {
        world.round().await;
    }
    println!("{} kills, {} payments, {} of the stream", world.kills, world.ended.len(), world.streamed);
    world.end().await;
}

/// A payment that a client wants: it asks again with the same `request_id` until it knows the end.
struct Wish {
    payer: usize,
    request: SendPaymentRequest,
    asking: JoinHandle<Option<Payment>>,
}

struct World {
    cluster: Cluster,
    random: StdRng,
    channel: String,
    /// The session of Alice's stream.
    session: String,
    /// What Alice and Bob had when the channel was new.
    start: (u64, u64),
    /// What both wallets held before it.
    coins: u64,
    height: u32,
    kills: u64,
    wishes: u64,
    /// Payments that are final, by payer and hash: none ever changes.
    ended: BTreeMap<(usize, String), Payment>,
    /// Payments of the stream that are paid.
    streamed: u64,
}

/// Follows a payment to its end; `None` where the daemon is gone before.
async fn ask(client: Client, request: SendPaymentRequest) -> Option<Payment> {
    let mut updates = client.payment().send_payment(request).await.ok()?.into_inner();
    let mut last = None;
    while let Ok(Some(update)) = updates.message().await {
        last = update.payment.or(last);
    }
    last.filter(|payment| payment.state() != PaymentState::InFlight)
}

impl World {
    async fn new(cluster: Cluster, seed: u64) -> World {
        let coins = money::wallet_sat(cluster.alice()).await + money::wallet_sat(cluster.bob()).await;
        let height = cluster.chain.height().await;
        let push_msat = CAPACITY_SAT / 2 * 1_000;
        let channel = cluster.open(Terms { capacity_sat: CAPACITY_SAT, push_msat, ..Terms::default() }).await;
        let start = cluster.settled(&channel).await;
        let stream = Stream::open(cluster.alice(), to(&channel)).await.unwrap();
        let session = stream.opened.session_id.clone();
        let random = StdRng::seed_from_u64(seed);
        let (ended, kills, wishes, streamed) = (BTreeMap::new(), 0, 0, 0);
        World { cluster, random, channel, session, start, coins, height, kills, wishes, ended, streamed }
    }

    /// A burst of payments, a kill in its midst, a restart; then all that was wished is once paid, and both agree.
    async fn round(&mut self) {
        let wishes: Vec<Wish> = (0..self.random.random_range(2..10)).map(|_| self.wish()).collect();
        // Its client is there until the kill.
        let stream = self.push_stream().await;
        let pause = Duration::from_micros(self.random.random_range(0..60_000));
        tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
        let both = self.random.random_ratio(1, 8);
        let first = usize::from(self.random.random_bool(0.5));
        let victims = if both { vec![first, 1 - first] } else { vec![first] };
        for victim in &victims {
            self.cluster.nodes[*victim].kill();
            self.kills += 1;
        }
        drop(stream);
        for victim in &victims {
            self.revive(*victim).await;
        }
        self.cluster.usable(&self.channel).await;
        for wish in wishes {
            self.come_true(wish).await;
        }
        self.agree().await;
    }

    fn wish(&mut self) -> Wish {
        let payer = usize::from(self.random.random_bool(0.5));
        // A third is dust.
        let most = if self.random.random_ratio(1, 3) { 300_000 } else { 3_000_000 };
        let amount_msat = Some(self.random.random_range(1..most));
        self.wishes += 1;
        let payee = Some(Payee::NodeId(self.cluster.nodes[1 - payer].id()));
        let request_id = format!("wish-{}", self.wishes);
        let request = SendPaymentRequest { request_id, payee, amount_msat, ..Default::default() };
        let asking = tokio::spawn(ask(self.cluster.nodes[payer].client().clone(), request.clone()));
        Wish { payer, request, asking }
    }

    fn resume(&self) -> StreamOpen {
        StreamOpen { session_id: self.session.clone(), ..to(&self.channel) }
    }

    /// Says some payments of the stream.
    async fn push_stream(&mut self) -> Stream {
        let count = self.random.random_range(1..40);
        let stream = Stream::open(self.cluster.alice(), self.resume()).await.unwrap();
        stream.pay(stream.opened.accepted_sequence + 1, count, STREAM_MSAT).await;
        stream
    }

    /// Starts a daemon again; sometimes it is killed while it starts.
    async fn revive(&mut self, victim: usize) {
        while self.random.random_ratio(1, 8) {
            self.cluster.nodes[victim].launch();
            let pause = Duration::from_micros(self.random.random_range(0..300_000));
            tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
            self.cluster.nodes[victim].kill();
            self.kills += 1;
        }
        self.cluster.nodes[victim].restart().await;
    }

    /// The client asks again until it knows what became of its wish.
    async fn come_true(&mut self, wish: Wish) {
        let mut known = soon("a client to know", wish.asking).await.unwrap();
        if known.is_none() {
            let again = ask(self.cluster.nodes[wish.payer].client().clone(), wish.request.clone());
            known = soon("a repetition", again).await;
        }
        let payment = known.unwrap_or_else(|| panic!("nobody knows what became of {:?}", wish.request));
        assert_eq!(Some(payment.amount_msat), wish.request.amount_msat);
        let key = (wish.payer, payment.payment_hash.clone());
        assert!(self.ended.insert(key, payment).is_none(), "two wishes are one payment");
    }

    /// Waits until nothing is under way; then the books say the same at both ends, and what the payments say.
    async fn agree(&mut self) {
        self.streamed = self.stream_settled().await;
        let balances = self.cluster.settled(&self.channel).await;
        for (payer, node) in self.cluster.nodes.iter().enumerate() {
            let request = ListPaymentsRequest { page_size: 64, order: Order::NewestFirst.into(), ..Default::default() };
            let page = node.client().payment().list_payments(request).await.unwrap().into_inner();
            for payment in page.payments {
                let known = self.ended.get(&(payer, payment.payment_hash.clone()));
                let known = known.cloned().map(Daemon::summary);
                assert_eq!(known, Some(payment), "a payment that nobody wished, or another end of it");
            }
        }
        let paid = self.paid(0) + self.streamed * STREAM_MSAT;
        let got = self.paid(1);
        assert_eq!(balances, (self.start.0 + got - paid, self.start.1 + paid - got), "after {} kills", self.kills);
    }

    fn paid(&self, payer: usize) -> u64 {
        let of_payer = self.ended.iter().filter(|((by, _), _)| *by == payer).map(|(_, payment)| payment);
        let succeeded = of_payer.filter(|payment| payment.state() == PaymentState::Succeeded);
        succeeded.map(|payment| payment.amount_msat).sum()
    }

    /// Waits until all that was accepted is committed; how many payments that is.
    async fn stream_settled(&self) -> u64 {
        until("the stream to settle", async || match Stream::open(self.cluster.alice(), self.resume()).await {
            Ok(stream) => {
                let opened = &stream.opened;
                (opened.committed_sequence == opened.accepted_sequence).then_some(opened.committed_sequence)
            }
            Err(refusal) => {
                assert_eq!(reason(&refusal), "STREAM_IN_USE");
                None
            }
        })
        .await
    }

    /// Nothing that was counted changes any more; the channel pays and closes, and every satoshi is there.
    async fn end(mut self) {
        for (payer, node) in self.cluster.nodes.iter().enumerate() {
            let listed = node.payments().await;
            assert_eq!(listed.len(), self.ended.keys().filter(|(by, _)| *by == payer).count(), "{}", node.name);
            for payment in &listed {
                let known = self.ended.get(&(payer, payment.payment_hash.clone()));
                assert_eq!(known.cloned().map(Daemon::summary).as_ref(), Some(payment));
            }
            self.received_once(node, 1 - payer).await;
        }
        for node in &mut self.cluster.nodes {
            node.stop().await;
            node.restart().await;
        }
        self.cluster.usable(&self.channel).await;
        self.agree().await;
        let mut stream = Stream::open(self.cluster.alice(), self.resume()).await.unwrap();
        stream.pay(self.streamed + 1, 10, STREAM_MSAT).await;
        stream.say(Request::Finish(proto::v1::StreamFinish {})).await;
        let closed = stream.closed().await.unwrap();
        assert_eq!(closed.committed_msat, (self.streamed + 10) * STREAM_MSAT);
        let request = CloseChannelRequest { channel_id: self.channel.clone(), ..Default::default() };
        self.cluster.alice().client().channel().close_channel(request).await.unwrap();
        let closing = self.cluster.alice();
        let closing = closing.channel_until("closing", &self.channel, |channel| !channel.closing_txid.is_empty()).await;
        self.cluster.chain.await_mempool(&closing.closing_txid).await;
        self.cluster.bury(&self.channel).await;
        let fees = money::fees(&money::transactions_after(&self.cluster, self.height).await);
        let after = money::wallet_sat(self.cluster.alice()).await + money::wallet_sat(self.cluster.bob()).await;
        assert_eq!(after, self.coins - fees, "every satoshi");
    }

    /// The payee was told of each payment once.
    async fn received_once(&self, payee: &Daemon, payer: usize) {
        let mut told = BTreeMap::new();
        for event in payee.events(&[EventKind::KeysendReceived]).await {
            let Some(Detail::Invoice(received)) = event.detail else { panic!("{event:?}") };
            assert!(told.insert(received.payment_hash, received.received_msat).is_none(), "told twice");
        }
        let mut paid = BTreeMap::new();
        for ((by, hash), payment) in &self.ended {
            if *by == payer && payment.state() == PaymentState::Succeeded {
                paid.insert(hash.clone(), payment.amount_msat);
            }
        }
        assert_eq!(told, paid, "{}", payee.name);
    }
}

fn to(channel: &str) -> StreamOpen {
    let destination = Some(stream_open::Destination::ChannelId(channel.to_owned()));
    StreamOpen { destination, ..Default::default() }
}
