//! The parts of an LDK node, joined, and what it answers to its events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::Network;
use lightning::chain::BestBlock;
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::events::{Event, EventsProvider};
use lightning::ln::channelmanager::{ChainParameters, ChannelManager, PaymentId};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::gossip::NetworkGraph;
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringDecayParameters};
use lightning::sign::{KeysManager, NodeSigner, OutputSpender, SpendableOutputDescriptor};
use lightning::util::config::{MaxDustHTLCExposure, UserConfig};
use lightning::util::ser::Writeable;
use rand::RngCore;
use secp256k1::{SECP256K1, SecretKey};
use tokio::sync::oneshot;

use super::LdkTerms;
use super::gossip::Gossip;
use super::part::{Broadcasts, Bumper, Channels, Fees, Graph, LdkPeers, LdkRouter, Monitor, Silent};
use super::store::Store;
use super::wallet::LdkWallet;

/// See the file's map.
pub(super) struct Inner {
    pub(super) peers: Arc<LdkPeers>,
    pub(super) channels: Arc<Channels>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) gossip: Arc<Gossip>,
    pub(super) graph: Arc<Graph>,
    pub(super) keys: Arc<KeysManager>,
    pub(super) wallet: Arc<LdkWallet>,
    pub(super) broadcasts: Arc<Broadcasts>,
    pub(super) bumper: Bumper,
    pub(super) events: Mutex<Vec<Event>>,
    pub(super) sweeps: Mutex<Vec<SpendableOutputDescriptor>>,
    /// Whether payments are claimed as they come.
    pub(super) claims: Mutex<bool>,
    pub(super) store: Arc<Store>,
    /// Who waits for the end of a payment.
    pub(super) awaited: Mutex<BTreeMap<[u8; 32], oneshot::Sender<bool>>>,
}

fn config(terms: LdkTerms) -> UserConfig {
    let mut config = UserConfig {
        manually_accept_inbound_channels: true,
        accept_forwards_to_priv_channels: true,
        ..UserConfig::default()
    };
    let handshake = &mut config.channel_handshake_config;
    handshake.announce_for_forwarding = terms.public;
    handshake.negotiate_anchors_zero_fee_htlc_tx = terms.anchors;
    handshake.minimum_depth = 1;
    handshake.our_to_self_delay = 144;
    handshake.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    handshake.our_max_accepted_htlcs = 483;
    // LDK refuses a channel whose flag is not its own, unless it is told otherwise (PEERS.md A2).
    config.channel_handshake_limits.force_announced_channel_preference = false;
    // Else LDK offers next to no dust at 253 sat/kW (PEERS.md A2).
    config.channel_config.max_dust_htlc_exposure = MaxDustHTLCExposure::FixedLimitMsat(100_000_000);
    config
}

fn router(graph: &Arc<Graph>, logger: &Arc<Silent>, keys: &Arc<KeysManager>) -> Arc<LdkRouter> {
    let decay = ProbabilisticScoringDecayParameters::default();
    let scorer = Arc::new(RwLock::new(ProbabilisticScorer::new(decay, graph.clone(), logger.clone())));
    Arc::new(DefaultRouter::new(graph.clone(), logger.clone(), keys.clone(), scorer, Default::default()))
}

impl Inner {
    /// All its parts, joined; nothing runs yet. What must not be lost is kept in the folder, if there is one.
    pub(super) fn new(terms: LdkTerms, folder: Option<&Path>) -> Arc<Inner> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let keys = Arc::new(KeysManager::new(&seed, now.as_secs(), now.subsec_nanos(), false));
        let wallet = LdkWallet::new(SecretKey::from_slice(&[seed[0] | 1; 32].map(|byte| byte & 0x7f)).expect("a key"));
        let (logger, fees, broadcasts) = (Arc::new(Silent), Arc::new(Fees), Arc::new(Broadcasts::default()));
        let store = Arc::new(match folder {
            Some(folder) => Store::files(folder, &keys, &broadcasts, &fees, &logger),
            None => Store::Nothing,
        });
        let monitor: Arc<Monitor> = Arc::new(ChainMonitor::new(
            None,
            broadcasts.clone(),
            logger.clone(),
            fees.clone(),
            store.clone(),
            keys.clone(),
            keys.get_peer_storage_key(),
        ));
        let graph = Arc::new(NetworkGraph::new(Network::Regtest, logger.clone()));
        let router = router(&graph, &logger, &keys);
        let params =
            ChainParameters { network: Network::Regtest, best_block: BestBlock::from_network(Network::Regtest) };
        let seconds = u32::try_from(now.as_secs()).expect("before 2106");
        let channels: Arc<Channels> = Arc::new(ChannelManager::new(
            fees,
            monitor.clone(),
            broadcasts.clone(),
            router,
            Arc::new(NullMessageRouter {}),
            logger.clone(),
            keys.clone(),
            keys.clone(),
            keys.clone(),
            config(terms),
            params,
            seconds,
        ));
        let gossip = Arc::new(Gossip::new(graph.clone(), logger.clone()));
        let ignoring = || Arc::new(IgnoringMessageHandler {});
        let handler = MessageHandler {
            chan_handler: channels.clone(),
            route_handler: gossip.clone(),
            onion_message_handler: ignoring(),
            custom_message_handler: ignoring(),
            send_only_message_handler: monitor.clone(),
        };
        let peers = Arc::new(PeerManager::new(handler, seconds, &seed, logger.clone(), keys.clone()));
        let source = Arc::new(WalletSync::new(wallet.clone(), logger.clone()));
        let bumper = BumpTransactionEventHandlerSync::new(broadcasts.clone(), source, keys.clone(), logger);
        Arc::new(Inner {
            peers,
            channels,
            monitor,
            gossip,
            graph,
            keys,
            wallet,
            broadcasts,
            bumper,
            events: Mutex::default(),
            sweeps: Mutex::default(),
            claims: Mutex::new(true),
            store,
            awaited: Mutex::default(),
        })
    }

    /// Keeps what changed.
    pub(super) fn keep(&self) {
        if self.channels.get_and_clear_needs_persistence() {
            self.store.keep(|| self.channels.encode());
        }
    }

    /// Does what there is to do now.
    pub(super) fn work(&self) {
        self.peers.process_events();
        self.channels.process_pending_htlc_forwards();
        let found = Mutex::new(Vec::new());
        let collect = |event: Event| {
            found.lock().expect("no panic while it is held").push(event);
            Ok(())
        };
        self.channels.process_pending_events(&collect);
        self.monitor.process_pending_events(&collect);
        for event in found.into_inner().expect("no panic while it is held") {
            self.answer(&event);
            self.events.lock().expect("no panic while it is held").push(event);
        }
        self.peers.process_events();
    }

    fn answer(&self, event: &Event) {
        match event {
            Event::OpenChannelRequest { temporary_channel_id, counterparty_node_id, .. } => {
                let accepted =
                    self.channels.accept_inbound_channel(temporary_channel_id, counterparty_node_id, 0, None);
                accepted.expect("LDK takes our channel");
            }
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                let value = bitcoin::Amount::from_sat(*channel_value_satoshis);
                let funding = self.wallet.pay(output_script.clone(), value);
                let given =
                    self.channels.funding_transaction_generated(*temporary_channel_id, *counterparty_node_id, funding);
                given.expect("LDK takes the funding transaction");
            }
            Event::PaymentClaimable { purpose, .. } => {
                let claims = *self.claims.lock().expect("no panic while it is held");
                if let Some(preimage) = purpose.preimage().filter(|_| claims) {
                    self.channels.claim_funds(preimage);
                }
            }
            Event::PaymentSent { payment_id: Some(id), .. } => self.tell(*id, true),
            Event::PaymentFailed { payment_id, .. } => self.tell(*payment_id, false),
            Event::SpendableOutputs { outputs, .. } => {
                self.sweeps.lock().expect("no panic while it is held").extend(outputs.iter().cloned());
                self.sweep();
            }
            Event::BumpTransaction(bump) => self.bumper.handle_event(bump),
            _ => {}
        }
    }

    fn tell(&self, id: PaymentId, succeeded: bool) {
        if let Some(teller) = self.awaited.lock().expect("no panic while it is held").remove(&id.0) {
            // Nobody may listen any more.
            let _ = teller.send(succeeded);
        }
    }

    /// Takes what is its own on the chain into its wallet, each output by itself; said again with each block.
    pub(super) fn sweep(&self) {
        let outputs = self.sweeps.lock().expect("no panic while it is held").clone();
        for output in outputs {
            // LDK asserts in debug builds that its guess of the weight was close; short signatures prove it wrong.
            let spend = || {
                let script = self.wallet.script();
                self.keys.spend_spendable_outputs(&[&output], Vec::new(), script, 500, None, SECP256K1)
            };
            let swept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(spend));
            if let Ok(Ok(transaction)) = swept {
                self.broadcasts.broadcast_transactions(&[&transaction]);
            }
        }
    }
}
