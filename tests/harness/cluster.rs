//! A chain and daemons in a directory of their own.

use std::path::Path;
use std::sync::Arc;

use proto::v1::event::Detail;
use proto::v1::{Channel, ChannelState, ChannelType, CloseKind, EventKind, OpenChannelRequest, open_channel_request};
use tempfile::TempDir;

use crate::chain::{ChainNode, nobody};
use crate::daemon::Daemon;
use crate::wait::until;

/// Blocks after which everything must be settled.
const MOST_BLOCKS: u32 = 80;

/// The config file of most clusters: short waits, so that few blocks do.
pub const BRIEF: &str = "[limits]\nconfirmations = 2\nto-self-delay = 6\nburial = 3\n";

/// A chain and daemons. Dropping it kills the processes, then removes the directory.
pub struct Cluster {
    /// The daemons, in the order in which they were named.
    pub nodes: Vec<Daemon>,
    /// The chain.
    pub chain: ChainNode,
    folder: Arc<TempDir>,
}

/// What a channel is opened with.
pub struct Terms {
    /// How large it is.
    pub capacity_sat: u64,
    /// What the accepter gets.
    pub push_msat: u64,
    /// Its format.
    pub channel_type: ChannelType,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { capacity_sat: 1_000_000, push_msat: 400_000_000, channel_type: ChannelType::Anchors }
    }
}

impl Cluster {
    /// Starts a chain and daemons of these names with this config, all of them synced.
    pub async fn start(names: &[&str], config: &str) -> Cluster {
        let folder = Arc::new(tempfile::Builder::new().prefix("e2e-").tempdir().unwrap());
        let chain = ChainNode::start(folder.path()).await;
        chain.mine(1, &nobody()).await;
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(Daemon::start(folder.path(), name, &chain, config).await);
        }
        let cluster = Cluster { nodes, chain, folder };
        cluster.synced().await;
        cluster
    }

    /// The usual: a chain, Alice and Bob, both with coins.
    pub async fn pair() -> Cluster {
        let cluster = Cluster::start(&["alice", "bob"], BRIEF).await;
        cluster.fund().await;
        cluster
    }

    /// The first daemon.
    pub fn alice(&self) -> &Daemon {
        &self.nodes[0]
    }

    /// The second daemon.
    pub fn bob(&self) -> &Daemon {
        &self.nodes[1]
    }

    /// Where everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until every daemon that runs has followed the chain to its tip.
    pub async fn synced(&self) {
        let (height, tip) = (self.chain.height().await, self.chain.tip().await);
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            until(&format!("{} at block {height}", node.name), async || {
                let at = node.node().await;
                (at.block_hash == tip).then_some(())
            })
            .await;
        }
    }

    /// Mines blocks that belong to nobody here, and waits until all have followed.
    pub async fn mine(&self, blocks: u32) {
        self.chain.mine(blocks, &nobody()).await;
        self.synced().await;
    }

    /// Gives every daemon two coins of 50 bitcoin that can be spent.
    pub async fn fund(&self) {
        for node in &self.nodes {
            self.chain.mine(2, &node.wallet_address().await).await;
        }
        self.mine(101).await;
        for node in &self.nodes {
            until(&format!("{}'s coins", node.name), async || (node.balances().await.spendable_sat > 0).then_some(()))
                .await;
        }
    }

    /// Opens a channel from Alice to Bob, waits until both can use it; its id.
    pub async fn open(&self, terms: Terms) -> String {
        let (alice, bob) = (self.alice(), self.bob());
        alice.connect(bob).await;
        let channel = self.ask_to_open(terms).await.expect("Bob takes the channel");
        let funding = channel.funding_outpoint.expect("a funding output");
        self.chain.await_mempool(&funding.txid).await;
        self.mine(channel.required_confirmations).await;
        self.usable(&channel.channel_id).await;
        channel.channel_id
    }

    /// Asks Alice's daemon to open a channel to Bob's.
    ///
    /// # Errors
    /// What it refuses with.
    pub async fn ask_to_open(&self, terms: Terms) -> Result<Channel, tonic::Status> {
        let wanted = OpenChannelRequest {
            amount: Some(open_channel_request::Amount::CapacitySat(terms.capacity_sat)),
            push_msat: terms.push_msat,
            channel_type: terms.channel_type.into(),
            ..Default::default()
        };
        self.alice().open(self.bob().id(), wanted).await
    }

    /// Waits until both ends can use a channel.
    pub async fn usable(&self, channel: &str) {
        for node in &self.nodes {
            node.channel_until("usable", channel, |channel| channel.usable).await;
        }
    }

    /// Waits until no HTLC is on a channel, and both ends agree on it; what is Alice's, and what is Bob's.
    pub async fn settled(&self, channel: &str) -> (u64, u64) {
        until("both ends to agree", async || {
            let (alice, bob) = (self.alice().channel(channel).await, self.bob().channel(channel).await);
            let settled = alice.htlcs.is_empty() && bob.htlcs.is_empty() && alice.usable && bob.usable;
            let agreed = (alice.local_msat, alice.remote_msat) == (bob.remote_msat, bob.local_msat);
            (settled && agreed).then_some((alice.local_msat, bob.local_msat))
        })
        .await
    }

    /// Waits until what closes a channel waits for a block. After a forced close that may be either side's commitment: who
    /// is told `error` closes as well, and what pays more stays. Only a block decides ([`Cluster::closed_by`]).
    pub async fn closing(&self, channel: &str) -> String {
        let funding = self.alice().channel(channel).await.funding_outpoint.expect("a funding output");
        self.chain.await_spend(&funding.txid, funding.output_index).await
    }

    /// The transaction that closed a channel, once it is in a block, and which node's commitment it is, if it is one.
    pub async fn closed_by(&self, channel: &str) -> (String, Option<usize>) {
        let txid = self.alice().channel(channel).await.closing_txid;
        for (who, node) in self.nodes.iter().enumerate() {
            for event in node.events(&[EventKind::ChannelClosed]).await {
                let Some(Detail::Channel(told)) = event.detail else { continue };
                if told.channel_id == channel && told.close_kind() == CloseKind::LocalForced {
                    return (txid, Some(who));
                }
            }
        }
        (txid, None)
    }

    /// Mines one block after the other until all daemons that run count a channel as closed for good; how many it took.
    pub async fn bury(&self, channel: &str) -> u32 {
        for block in 1..=MOST_BLOCKS {
            self.mine(1).await;
            let mut closed = true;
            for node in self.nodes.iter().filter(|node| node.process.is_some()) {
                closed &= node.channel(channel).await.state() == ChannelState::Closed;
            }
            if closed {
                return block;
            }
        }
        let mut states = Vec::new();
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            states.push(format!("{}: {:?}", node.name, node.channel(channel).await));
        }
        panic!("after {MOST_BLOCKS} blocks the channel is not closed: {}", states.join("\n"));
    }
}
