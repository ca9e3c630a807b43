//! `wallet-cli demo --nodes N`: a network of channels, payments through it over several hops, and the balance sheet after
//! all channels are closed again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::v1::send_payment_request::Payee;
use proto::v1::{
    CloseChannelRequest, ConnectPeerRequest, CreateInvoiceRequest, GetNodeRequest, OpenChannelRequest, Payment,
    PaymentState, open_channel_request,
};

use crate::bench::latency::Latencies;
use crate::client::request_id;
use crate::commands::payment::pay_to_end;
use crate::commands::promised;
use crate::demo::balance;
use crate::demo::network::{Member, Network, NetworkPlan};
use crate::demo::report::{Step, WebReport};
use crate::demo::scene;
use crate::demo::sketch::{Line, Sketch};
use crate::demo::stage::Stage;
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{bar, spinner};

const CAPACITY_SAT: u64 = 2_000_000;
/// Confirmations until a channel may be announced (BOLT 7).
const ANNOUNCEMENT_DEPTH: u32 = 6;
/// Payments for each node.
const PAYMENTS_EACH: usize = 4;
const PAYMENT_SAT: u64 = 1_000;
/// How long the last announcement may take to the last node.
const GOSSIP_PATIENCE: Duration = Duration::from_secs(60);
const CLOSING_BLOCKS: u32 = 20;

/// The story of a network, and how far it has been told.
pub struct Web {
    stage: Stage,
    nodes: usize,
    svg: Option<PathBuf>,
    report: WebReport,
    /// Between which nodes, by their places, and the channel's id.
    channels: Vec<(usize, usize, String)>,
}

/// Which nodes have a channel: a line of up to three, a ring of more, and from eight on a chord from every fourth.
pub fn plan(nodes: usize) -> Vec<(usize, usize)> {
    let mut plan: Vec<(usize, usize)> = (1..nodes).map(|at| (at - 1, at)).collect();
    if nodes > 3 {
        plan.push((nodes - 1, 0));
    }
    if nodes >= 8 {
        plan.extend((0..nodes / 2).step_by(4).map(|at| (at, at + nodes / 2)));
    }
    plan
}

impl Web {
    /// A story to be told in words, or only in its report.
    pub fn new(json: bool, nodes: usize, svg: Option<PathBuf>) -> Web {
        let report = WebReport { nodes, ..WebReport::default() };
        Web { stage: Stage::new(json), nodes, svg, report, channels: Vec::new() }
    }

    /// The report, and the network if it runs.
    pub fn end(self) -> (WebReport, Option<Network>) {
        (self.report, self.stage.end())
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// What the first step that fails fails with.
    pub async fn tell(&mut self) -> Result<(), Failure> {
        step!(self, "start", self.start());
        step!(self, "fund", self.fund());
        step!(self, "open", self.open());
        step!(self, "gossip", self.gossip());
        step!(self, "payments", self.payments());
        step!(self, "picture", self.picture());
        step!(self, "close", self.close());
        step!(self, "balance", self.balance());
        self.report.ok = true;
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        self.stage.say(format!("1. A chain and {} nodes, each a process of its own.", self.nodes));
        let plan = NetworkPlan { name: "web", nodes: self.nodes, channeld_config: String::new() };
        let network = self.stage.start(plan).await?;
        let names: Vec<&str> = network.members().into_iter().map(|member| member.name.as_str()).collect();
        let text = format!("   {}", names.join(", "));
        self.stage.say(text);
        Ok(())
    }

    async fn fund(&mut self) -> Result<(), Failure> {
        self.stage.say("2. Two blocks' coins for each.");
        let progress = spinner("mining");
        let funded = scene::fund(self.stage.network()?).await;
        progress.finish_and_clear();
        funded
    }

    async fn open(&mut self) -> Result<(), Failure> {
        let plan = plan(self.nodes);
        self.stage.say(format!(
            "3. {} channels of {}, half of each at either end.",
            plan.len(),
            money::sat(CAPACITY_SAT)
        ));
        let network = self.stage.network()?;
        let members = network.members();
        let progress = bar(plan.len() as u64, "opening");
        let mut channels = Vec::with_capacity(plan.len());
        for (from, to) in plan {
            channels.push((from, to, open(network, members[from], members[to]).await?));
            progress.inc(1);
        }
        progress.finish_and_clear();
        let miner = network.alice.address().await?;
        for _ in 0..ANNOUNCEMENT_DEPTH {
            scene::mine(network, 1, &miner).await?;
        }
        for (from, to, id) in &channels {
            for member in [members[*from], members[*to]] {
                let what = format!("{} to use {id}", member.name);
                let usable = async || Ok(scene::channel(&member.client, id).await?.usable.then_some(()));
                scene::until(scene::PATIENCE, &what, usable).await?;
            }
        }
        self.report.channels = channels.len();
        self.channels = channels;
        Ok(())
    }

    async fn gossip(&mut self) -> Result<(), Failure> {
        self.stage.say("4. The nodes tell each other of their channels.");
        let network = self.stage.network()?;
        let progress = spinner("gossip");
        for member in network.members() {
            let what = format!("{} to know all channels", member.name);
            let known = async || Ok((known_channels(member).await? >= self.channels.len()).then_some(()));
            scene::until(GOSSIP_PATIENCE, &what, known).await?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    async fn payments(&mut self) -> Result<(), Failure> {
        let count = PAYMENTS_EACH * self.nodes;
        self.stage.say(format!("5. {count} payments of {} across the network.", money::sat(PAYMENT_SAT)));
        let network = self.stage.network()?;
        let members = network.members();
        let progress = bar(count as u64, "paying");
        let (mut latencies, mut succeeded, mut hops_max, mut fees_msat) = (Latencies::default(), 0, 0, 0);
        for number in 0..count {
            let from = number % self.nodes;
            // Over and over to another node, those far away first.
            let away = (self.nodes / 2 + number / self.nodes).max(1) % self.nodes;
            let to = (from + away.max(1)) % self.nodes;
            let request = CreateInvoiceRequest {
                request_id: request_id()?,
                amount_msat: Some(PAYMENT_SAT * 1_000),
                description: format!("payment {number}"),
                ..Default::default()
            };
            let answer = members[to].client.invoice().create_invoice(request).await?.into_inner();
            let invoice = promised(answer.invoice, "invoice")?;
            let started = Instant::now();
            let paid = pay_to_end(&members[from].client, Payee::PaymentRequest(invoice.payment_request), None).await?;
            latencies.record(started.elapsed());
            progress.inc(1);
            if paid.state() == PaymentState::Succeeded {
                succeeded += 1;
                fees_msat += paid.fee_msat;
                hops_max = hops_max.max(hops(&paid));
            }
        }
        progress.finish_and_clear();
        let multihop = &mut self.report.multihop;
        (multihop.count, multihop.succeeded, multihop.hops_max) = (count, succeeded, hops_max);
        multihop.p50_ms = latencies.quantile_ms(0.5);
        let text = format!(
            "   {succeeded} of {count} succeeded, over up to {hops_max} hops, {:.1} ms (p50), fees {} in all",
            multihop.p50_ms,
            money::msat(fees_msat)
        );
        self.stage.say(text);
        if succeeded < count {
            let message = format!("{} of {count} payments failed", count - succeeded);
            return Err(Failure::new(Exit::ShowFailed, message, "see the logs above"));
        }
        Ok(())
    }

    async fn picture(&mut self) -> Result<(), Failure> {
        let network = self.stage.network()?;
        let members = network.members();
        let mut sketch = Sketch { nodes: members.iter().map(|member| member.name.clone()).collect(), channels: vec![] };
        for (from, to, id) in &self.channels {
            let channel = scene::channel(&members[*from].client, id).await?;
            let (capacity_sat, from_sat) = (channel.capacity_sat, channel.local_msat / 1_000);
            sketch.channels.push(Line { from: *from, to: *to, capacity_sat, from_sat });
        }
        self.stage.say(format!("6. The network:\n\n{}\n", sketch.to_terminal()));
        if let Some(path) = &self.svg {
            std::fs::write(path, sketch.to_svg()).map_err(|error| {
                let message = format!("cannot write {}: {error}", path.display());
                Failure::new(Exit::ShowFailed, message, "give a path that can be written to with --svg")
            })?;
            self.stage.say(format!("   also in {}", path.display()));
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Failure> {
        self.stage.say("7. All channels are closed by both their ends.");
        let network = self.stage.network()?;
        let members = network.members();
        let progress = spinner("closing");
        for (from, _, id) in &self.channels {
            let request =
                CloseChannelRequest { request_id: request_id()?, channel_id: id.clone(), ..Default::default() };
            let client = &members[*from].client;
            client.channel().close_channel(request).await?;
            let txid = scene::until(scene::PATIENCE, "the closing transaction", async || {
                let channel = scene::channel(client, id).await?;
                Ok((!channel.closing_txid.is_empty()).then_some(channel.closing_txid))
            });
            scene::in_mempool(network, &txid.await?).await?;
        }
        for (from, to, id) in &self.channels {
            scene::bury_of(network, [members[*from], members[*to]], id, CLOSING_BLOCKS).await?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    async fn balance(&mut self) -> Result<(), Failure> {
        self.stage.say("8. The balance sheet.");
        self.report.balance = balance::check(self.stage.network()?).await?;
        Ok(())
    }
}

/// Opens a public channel; its id.
async fn open(network: &Network, from: &Member, to: &Member) -> Result<String, Failure> {
    let request = ConnectPeerRequest { request_id: request_id()?, validate_only: false, address: to.peer_address() };
    from.client.peer().connect_peer(request).await?;
    let request = OpenChannelRequest {
        request_id: request_id()?,
        peer_node_id: to.presence.node_id.clone(),
        amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
        push_msat: CAPACITY_SAT * 500,
        announce: true,
        ..Default::default()
    };
    let opened = promised(from.client.channel().open_channel(request).await?.into_inner().channel, "channel")?;
    let funding = promised(opened.funding_outpoint, "funding output")?;
    scene::in_mempool(network, &funding.txid).await?;
    Ok(opened.channel_id)
}

/// How many channels a node knows of.
async fn known_channels(member: &Member) -> Result<usize, Failure> {
    let node = member.client.node().get_node(GetNodeRequest {}).await?.into_inner();
    Ok(node.graph.map_or(0, |graph| graph.channel_count as usize))
}

/// Over how many channels the longest part of a payment went.
fn hops(payment: &Payment) -> usize {
    payment.attempts.iter().map(|attempt| attempt.hops.len()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_joins_all_nodes_and_no_two_twice() {
        for nodes in 2..=26 {
            let plan = plan(nodes);
            let mut joined = vec![0];
            while let Some(next) = plan.iter().find_map(|&(a, b)| match (joined.contains(&a), joined.contains(&b)) {
                (true, false) => Some(b),
                (false, true) => Some(a),
                _ => None,
            }) {
                joined.push(next);
            }
            assert_eq!(joined.len(), nodes);
            let mut pairs: Vec<_> = plan.iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            pairs.sort_unstable();
            pairs.dedup();
            assert_eq!(pairs.len(), plan.len());
        }
    }
}
