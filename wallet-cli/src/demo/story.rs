//! The steps of the demo, in the order in which they are told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use proto::v1::event::Detail;
use proto::v1::inject_fault_request::Fault;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    CloseChannelRequest, CreateInvoiceRequest, EventKind, HoldHtlcs, KeepState, PaymentState, ReplayOldState,
    SendCoinsRequest, SubscribeEventsRequest, send_coins_request,
};

use crate::bench::latency::Latencies;
use crate::bench::stream::{Destination, StreamPlan, pay_stream};
use crate::client::request_id;
use crate::commands::dev::inject;
use crate::commands::invoice::qr_code;
use crate::commands::payment::pay_to_end;
use crate::commands::promised;
use crate::demo::balance::{self, Ledger};
use crate::demo::network::{Member, Network, NetworkPlan};
use crate::demo::punishment::Punishment;
use crate::demo::report::{Layer, Report, Step};
use crate::demo::scene;
use crate::demo::stage::Stage;
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{bar, spinner};

const FIRST_CHANNEL_SAT: u64 = 10_000_000;
const SECOND_CHANNEL_SAT: u64 = 5_000_000;
/// Micropayments each way.
const MICROPAYMENTS: u64 = 1_000;
const MICROPAYMENT_MSAT: u64 = 1_000;
const COFFEE_SAT: u64 = 2_500;
/// Payments on the chain, for the comparison.
const CHAIN_PAYMENTS: u64 = 5;
const CHAIN_PAYMENT_SAT: u64 = 100_000;
/// Depth at which all count a payment as final.
const FINAL_DEPTH: u32 = 6;
/// HTLCs of the second channel, each way: large enough for outputs of their own.
const HTLCS: usize = 4;
const HTLC_SAT: u64 = 20_000;
/// Blocks until the cheater is punished and all is buried, at most.
const PUNISHMENT_BLOCKS: u32 = 60;

/// The story, and how far it has been told.
pub struct Story {
    stage: Stage,
    report: Report,
    channel_id: String,
    /// The height before the fraud.
    fraud_height: u32,
}

impl Story {
    /// A story to be told in words, or only in its report.
    pub fn new(json: bool) -> Story {
        let (report, channel_id) = (Report::default(), String::new());
        Story { stage: Stage::new(json), report, channel_id, fraud_height: 0 }
    }

    /// The report, and the network if it runs.
    pub fn end(self) -> (Report, Option<Network>) {
        (self.report, self.stage.end())
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// What the first step that fails fails with.
    pub async fn tell(&mut self) -> Result<(), Failure> {
        step!(self, "start", self.start());
        step!(self, "fund", self.fund());
        step!(self, "open", self.open(FIRST_CHANNEL_SAT));
        step!(self, "micropayments", self.micropayments());
        step!(self, "invoice", self.invoice());
        step!(self, "close", self.close());
        step!(self, "on-chain", self.on_chain());
        step!(self, "reopen", self.open(SECOND_CHANNEL_SAT));
        step!(self, "fraud", self.fraud());
        step!(self, "penalty", self.penalty());
        step!(self, "balance", self.balance());
        self.report.ok = true;
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        self.stage.say("1. A chain and two nodes, Alice and Bob, each a process of its own.");
        let plan = NetworkPlan { name: "demo", nodes: 2, channeld_config: String::new() };
        let network = self.stage.start(plan).await?;
        let text = format!(
            "   l1-utxo at {}\n   alice   {}\n   bob     {}",
            network.chain.url(),
            network.alice.peer_address(),
            network.bob.peer_address()
        );
        self.stage.say(text);
        Ok(())
    }

    async fn fund(&mut self) -> Result<(), Failure> {
        self.stage.say("2. Blocks are mined; their coins are Alice's and Bob's.");
        let progress = spinner("mining 105 blocks");
        let network = self.stage.network()?;
        let funded = scene::fund(network).await;
        progress.finish_and_clear();
        funded?;
        for member in network.members() {
            let balances = member.balances().await?;
            let (spendable, immature) = (money::sat(balances.spendable_sat), money::sat(balances.immature_sat));
            self.stage.say(format!("   {:7} {spendable} to spend, {immature} immature", member.name));
        }
        Ok(())
    }

    async fn open(&mut self, capacity_sat: u64) -> Result<(), Failure> {
        let title = if self.channel_id.is_empty() { "3. Alice opens a channel" } else { "8. A second channel" };
        self.stage.say(format!("{title} of {}; half of it is Bob's.", money::sat(capacity_sat)));
        let network = self.stage.network()?;
        let progress = spinner("opening");
        let confirmed = |block| progress.set_message(format!("{block} confirmations"));
        let opened = scene::open(network, capacity_sat, capacity_sat / 2, confirmed).await;
        progress.finish_and_clear();
        let channel = opened?;
        let text = format!(
            "   {} after {} confirmations: {} Alice's, {} Bob's",
            channel.short_channel_id,
            channel.required_confirmations,
            money::msat(channel.local_msat),
            money::msat(channel.remote_msat)
        );
        self.stage.say(text);
        self.channel_id = channel.channel_id;
        Ok(())
    }

    async fn micropayments(&mut self) -> Result<(), Failure> {
        self.stage.say(format!("4. {MICROPAYMENTS} micropayments of {} each way.", money::msat(MICROPAYMENT_MSAT)));
        let network = self.stage.network()?;
        let (mut latencies, mut elapsed) = (Latencies::default(), Duration::ZERO);
        for (payer, payee) in [(&network.alice, &network.bob), (&network.bob, &network.alice)] {
            let title = format!("   {} → {}", payer.name, payee.name);
            let progress = bar(MICROPAYMENTS, title.clone());
            let plan = StreamPlan {
                destination: Destination::Channel(self.channel_id.clone()),
                amount_msat: MICROPAYMENT_MSAT,
                count: MICROPAYMENTS,
                batch: 1,
            };
            let report = pay_stream(&payer.client, plan, |done| progress.set_position(done)).await;
            progress.finish_and_clear();
            let report = report?;
            self.stage.say(format!(
                "{title}: {:.0} payments/s, committed after {:.2} ms (p50), {:.2} ms (p99)",
                report.per_second(),
                report.p50_ms(),
                report.p99_ms()
            ));
            latencies.add(&report.latencies);
            elapsed += report.elapsed;
        }
        let figures = &mut self.report.micropayments;
        figures.count = latencies.count();
        figures.per_second = figures.count as f64 / elapsed.as_secs_f64().max(1e-9);
        (figures.p50_ms, figures.p99_ms) = (latencies.quantile_ms(0.5), latencies.quantile_ms(0.99));
        self.report.layers.l2.payments_per_second = self.report.micropayments.per_second;
        Ok(())
    }

    async fn invoice(&mut self) -> Result<(), Failure> {
        self.stage.say(format!("5. A coffee for {}: Bob's invoice, which Alice pays.", money::sat(COFFEE_SAT)));
        let network = self.stage.network()?;
        let request = CreateInvoiceRequest {
            request_id: request_id()?,
            amount_msat: Some(COFFEE_SAT * 1_000),
            description: "coffee".into(),
            ..Default::default()
        };
        let answer = network.bob.client.invoice().create_invoice(request).await?.into_inner();
        let invoice = promised(answer.invoice, "invoice")?;
        self.stage.say(format!("{}{}", qr_code(&invoice.payment_request)?, invoice.payment_request));
        let started = Instant::now();
        let payment = pay_to_end(&network.alice.client, Payee::PaymentRequest(invoice.payment_request), None).await?;
        let seconds_to_final = started.elapsed().as_secs_f64();
        if payment.state() != PaymentState::Succeeded {
            let message = format!("the payment failed: {}", payment.failure_reason().as_str_name());
            return Err(Failure::new(Exit::ShowFailed, message, "see the logs above"));
        }
        let (fee, millis) = (money::msat(payment.fee_msat), seconds_to_final * 1_000.0);
        self.stage.say(format!("   paid in {millis:.1} ms, fee {fee}, preimage {}", payment.preimage));
        let l2 = &mut self.report.layers.l2;
        (l2.fee_sat, l2.seconds_to_final) = (payment.fee_msat.div_ceil(1_000), seconds_to_final);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Failure> {
        self.stage.say("6. Both close the channel together: one transaction, no delay.");
        let network = self.stage.network()?;
        let progress = spinner("closing");
        let request = CloseChannelRequest {
            request_id: request_id()?,
            channel_id: self.channel_id.clone(),
            ..Default::default()
        };
        network.alice.client.channel().close_channel(request).await?;
        let closing = scene::until(scene::PATIENCE, "the closing transaction", async || {
            let channel = scene::channel(&network.alice.client, &self.channel_id).await?;
            Ok((!channel.closing_txid.is_empty()).then_some(channel.closing_txid))
        });
        let txid = closing.await?;
        scene::in_mempool(network, &txid).await?;
        let blocks = scene::bury(network, &self.channel_id, FINAL_DEPTH * 3).await;
        progress.finish_and_clear();
        self.stage.say(format!("   {txid}, final after {} blocks", blocks?));
        Ok(())
    }

    async fn on_chain(&mut self) -> Result<(), Failure> {
        self.stage.say(format!(
            "7. For comparison, {CHAIN_PAYMENTS} payments on the chain, until {FINAL_DEPTH} blocks deep."
        ));
        let network = self.stage.network()?;
        let address = network.bob.address().await?;
        let (started, mut fees_sat) = (Instant::now(), 0);
        for _ in 0..CHAIN_PAYMENTS {
            let request = SendCoinsRequest {
                request_id: request_id()?,
                address: address.clone(),
                amount: Some(send_coins_request::Amount::AmountSat(CHAIN_PAYMENT_SAT)),
                ..Default::default()
            };
            let sent = network.alice.client.wallet().send_coins(request).await?.into_inner();
            fees_sat += sent.fee_sat;
            scene::in_mempool(network, &sent.txid).await?;
        }
        let miner = network.alice.address().await?;
        for _ in 0..FINAL_DEPTH {
            scene::mine(network, 1, &miner).await?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let l1 = Layer {
            payments_per_second: CHAIN_PAYMENTS as f64 / seconds,
            fee_sat: fees_sat / CHAIN_PAYMENTS,
            seconds_to_final: seconds,
        };
        self.stage.say(format!("   final after {:.0} ms, fee {} each", seconds * 1_000.0, money::sat(l1.fee_sat)));
        self.report.layers.l1 = l1;
        Ok(())
    }

    async fn fraud(&mut self) -> Result<(), Failure> {
        self.stage.say("9. HTLCs stand both ways; Alice secretly keeps this state, pays, and then broadcasts it.");
        let network = self.stage.network()?;
        let (alice, bob) = (&network.alice, &network.bob);
        hold(network, &self.channel_id, true).await?;
        let keep = async {
            scene::htlcs_standing(network, &self.channel_id, 2 * HTLCS).await?;
            let fault = Fault::KeepState(KeepState { channel_id: self.channel_id.clone() });
            let kept = inject(&alice.client, fault).await?;
            hold(network, &self.channel_id, false).await?;
            Ok(kept)
        };
        let (kept, (), ()) = tokio::try_join!(keep, pay_many(alice, bob), pay_many(bob, alice))?;
        // Alice pays once more: to her the state that she kept is worth more than the newest one.
        let last = pay_to_end(&alice.client, Payee::NodeId(bob.presence.node_id.clone()), Some(500_000_000)).await?;
        if last.state() != PaymentState::Succeeded {
            return Err(Failure::new(Exit::ShowFailed, "the last payment failed", "see the logs above"));
        }
        let fraud_height = network.chain.height().await?;
        let fault = Fault::ReplayOldState(ReplayOldState { channel_id: self.channel_id.clone() });
        let replayed = inject(&alice.client, fault).await?;
        scene::in_mempool(network, &replayed.txid).await?;
        let text = format!("   revoked commitment {} of Alice's is out: {}", kept.commitment_number, replayed.txid);
        self.stage.say(text);
        self.report.penalty.revoked_txid = replayed.txid;
        self.fraud_height = fraud_height;
        Ok(())
    }

    async fn penalty(&mut self) -> Result<(), Failure> {
        self.stage.say("10. Bob's node sees it and takes everything.");
        let network = self.stage.network()?;
        let progress = spinner("punishing");
        let blocks = scene::bury(network, &self.channel_id, PUNISHMENT_BLOCKS).await;
        progress.finish_and_clear();
        let blocks = blocks?;
        let revoked = self.report.penalty.revoked_txid.clone();
        let ledger = Ledger::read(&network.chain, self.fraud_height + 1).await?;
        let claims = claims(&network.bob, &self.channel_id).await?;
        let punishment = Punishment::read(&ledger, &revoked, &claims);
        if !punishment.lost.is_empty() || punishment.txids.is_empty() {
            let message = format!("outputs that Bob did not take: {}", punishment.lost.join(", "));
            return Err(Failure::new(Exit::ShowFailed, message, "see the logs above"));
        }
        for txid in &punishment.txids {
            self.stage.say(format!("   penalty {txid}"));
        }
        let (outputs, claimed) = (punishment.outputs, money::sat(punishment.claimed_sat));
        self.stage.say(format!("   {outputs} of Alice's outputs are his: {claimed}, final after {blocks} blocks"));
        self.report.penalty.penalty_txids = punishment.txids.into_iter().collect();
        self.report.penalty.claimed_sat = punishment.claimed_sat;
        Ok(())
    }

    async fn balance(&mut self) -> Result<(), Failure> {
        self.stage.say("11. The balance sheet.");
        self.report.balance = balance::check(self.stage.network()?).await?;
        Ok(())
    }
}

/// Payments by key, all at the same time, each with an HTLC of its own.
async fn pay_many(payer: &Member, payee: &Member) -> Result<(), Failure> {
    let pay = |_| pay_to_end(&payer.client, Payee::NodeId(payee.presence.node_id.clone()), Some(HTLC_SAT * 1_000));
    let payments = try_join_all((0..HTLCS).map(pay)).await?;
    if let Some(failed) = payments.iter().find(|payment| payment.state() != PaymentState::Succeeded) {
        let message = format!("a payment of {} failed: {}", payer.name, failed.failure_reason().as_str_name());
        return Err(Failure::new(Exit::ShowFailed, message, "see the logs above"));
    }
    Ok(())
}

/// Has both nodes hold the HTLCs that pay them, or let them go.
async fn hold(network: &Network, channel_id: &str, held: bool) -> Result<(), Failure> {
    for member in network.members() {
        inject(&member.client, Fault::HoldHtlcs(HoldHtlcs { channel_id: channel_id.into(), hold: held })).await?;
    }
    Ok(())
}

/// The claims of a node on a channel that are in blocks, from its event log.
async fn claims(member: &Member, channel_id: &str) -> Result<BTreeSet<String>, Failure> {
    let request = SubscribeEventsRequest {
        after_index: Some(0),
        kinds: vec![EventKind::ClaimConfirmed.into(), EventKind::ChannelClosed.into()],
        channel_id: channel_id.into(),
    };
    let mut events = member.client.node().subscribe_events(request).await?.into_inner();
    let mut claims = BTreeSet::new();
    let reading = async {
        while let Some(message) = events.message().await? {
            match message.event.and_then(|event| event.detail) {
                Some(Detail::Claim(claim)) => {
                    claims.insert(claim.txid);
                }
                // The channel is closed: nothing more comes.
                Some(Detail::Channel(_)) => break,
                _ => {}
            }
        }
        Ok::<_, Failure>(())
    };
    let read = tokio::time::timeout(scene::PATIENCE, reading).await;
    read.map_err(|_| {
        Failure::new(Exit::ShowFailed, "the event of the closed channel is missing", "see the logs above")
    })??;
    Ok(claims)
}
