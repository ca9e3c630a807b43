//! The small parts that an LDK node is made of.

use std::sync::{Arc, Mutex};

use bitcoin::Transaction;
use lightning::chain::Filter;
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::ln::channelmanager::ChannelManager;
use lightning::ln::peer_handler::{IgnoringMessageHandler, PeerManager};
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringFeeParameters};
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::{InMemorySigner, KeysManager};
use lightning::util::logger::{Logger, Record};
use lightning_net_tokio::SocketDescriptor;

use super::gossip::Gossip;
use super::store::Store;
use super::wallet::LdkWallet;

/// Says nothing, unless `LDK_LOG` is set.
pub struct Silent;

impl Logger for Silent {
    fn log(&self, record: Record) {
        if std::env::var("LDK_LOG").is_ok() {
            eprintln!("ldk: {} {}", record.level, record.args);
        }
    }
}

/// The least there is.
pub struct Fees;

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, _target: ConfirmationTarget) -> u32 {
        253
    }
}

/// What it wants on the chain, until somebody takes it there.
#[derive(Default)]
pub struct Broadcasts(Mutex<Vec<Transaction>>);

impl Broadcasts {
    /// All of it, left where it is.
    pub fn all(&self) -> Vec<Transaction> {
        self.0.lock().expect("no panic while it is held").clone()
    }

    /// All of it, once.
    pub fn take(&self) -> Vec<Transaction> {
        std::mem::take(&mut *self.0.lock().expect("no panic while it is held"))
    }
}

impl BroadcasterInterface for Broadcasts {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let copies = transactions.iter().map(|transaction| (*transaction).clone());
        self.0.lock().expect("no panic while it is held").extend(copies);
    }
}

/// Its map of the network.
pub type Graph = NetworkGraph<Arc<Silent>>;
/// What it thinks of channels.
pub type Scorer = ProbabilisticScorer<Arc<Graph>, Arc<Silent>>;
/// Its pathfinder.
pub type LdkRouter = DefaultRouter<
    Arc<Graph>,
    Arc<Silent>,
    Arc<KeysManager>,
    Arc<std::sync::RwLock<Scorer>>,
    ProbabilisticScoringFeeParameters,
    Scorer,
>;
/// What it does with gossip. Funding outputs are taken as announced.
pub type OwnGossip = P2PGossipSync<Arc<Graph>, Arc<dyn UtxoLookup + Send + Sync>, Arc<Silent>>;
/// What watches its channels.
pub type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Broadcasts>,
    Arc<Fees>,
    Arc<Silent>,
    Arc<Store>,
    Arc<KeysManager>,
>;
/// Its channels.
pub type Channels = ChannelManager<
    Arc<Monitor>,
    Arc<Broadcasts>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Fees>,
    Arc<LdkRouter>,
    Arc<NullMessageRouter>,
    Arc<Silent>,
>;
/// Its peers.
pub type LdkPeers = PeerManager<
    SocketDescriptor,
    Arc<Channels>,
    Arc<Gossip>,
    Arc<IgnoringMessageHandler>,
    Arc<Silent>,
    Arc<IgnoringMessageHandler>,
    Arc<KeysManager>,
    Arc<Monitor>,
>;
/// What pays for its claims.
pub type Bumper = BumpTransactionEventHandlerSync<
    Arc<Broadcasts>,
    Arc<WalletSync<Arc<LdkWallet>, Arc<Silent>>>,
    Arc<KeysManager>,
    Arc<Silent>,
>;
