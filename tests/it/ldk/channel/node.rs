//! The LDK node that the scenarios meet.

use tests::ldk::{Broadcasts, Fees, NoStore, Silent};

use super::*;

/// Never asked: routes are given with each payment.
pub(super) struct NoRoutes;

impl Router for NoRoutes {
    fn find_route(
        &self,
        _payer: &secp256k1::PublicKey,
        _params: &RouteParameters,
        _first_hops: Option<&[&lightning::ln::channel_state::ChannelDetails]>,
        _in_flight: InFlightHtlcs,
    ) -> Result<Route, &'static str> {
        Err("no route")
    }

    fn create_blinded_payment_paths<T: secp256k1::Signing + secp256k1::Verification>(
        &self,
        _recipient: secp256k1::PublicKey,
        _first_hops: Vec<lightning::ln::channel_state::ChannelDetails>,
        _tlvs: lightning::blinded_path::payment::ReceiveTlvs,
        _amount_msats: Option<u64>,
        _secp: &secp256k1::Secp256k1<T>,
    ) -> Result<Vec<lightning::blinded_path::payment::BlindedPaymentPath>, ()> {
        Err(())
    }
}

pub(super) type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Broadcasts>,
    Arc<Fees>,
    Arc<Silent>,
    Arc<NoStore>,
    Arc<KeysManager>,
>;
pub(super) type LdkChannels = ChannelManager<
    Arc<Monitor>,
    Arc<Broadcasts>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Fees>,
    Arc<NoRoutes>,
    Arc<NullMessageRouter>,
    Arc<Silent>,
>;
pub(super) type LdkPeers = PeerManager<
    SocketDescriptor,
    Arc<LdkChannels>,
    Arc<IgnoringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<Silent>,
    Arc<IgnoringMessageHandler>,
    Arc<KeysManager>,
    Arc<Monitor>,
>;

/// An LDK node without a chain of its own: its channels, peers and monitors.
pub(super) struct Ldk {
    pub(super) peers: Arc<LdkPeers>,
    pub(super) channels: Arc<LdkChannels>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) node_id: NodeId,
    pub(super) broadcasts: Arc<Broadcasts>,
    pub(super) events: Vec<Event>,
}

impl Ldk {
    pub(super) fn new(anchors: bool) -> Ldk {
        let keys = Arc::new(KeysManager::new(&[42; 32], 1, 2, false));
        let node_id = NodeId(keys.get_node_id(Recipient::Node).expect("it has a node id"));
        let (logger, fees, broadcasts) = (Arc::new(Silent), Arc::new(Fees), Arc::new(Broadcasts::default()));
        let storage_key = keys.get_peer_storage_key();
        let store = Arc::new(NoStore);
        let monitor = Arc::new(ChainMonitor::new(
            None,
            broadcasts.clone(),
            logger.clone(),
            fees.clone(),
            store,
            keys.clone(),
            storage_key,
        ));
        let mut config = UserConfig { manually_accept_inbound_channels: true, ..UserConfig::default() };
        config.channel_handshake_config.negotiate_anchors_zero_fee_htlc_tx = anchors;
        config.channel_handshake_config.minimum_depth = 1;
        config.channel_handshake_config.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
        // Else LDK offers next to no dust at 253 sat/kW (PEERS.md A2).
        config.channel_config.max_dust_htlc_exposure = MaxDustHTLCExposure::FixedLimitMsat(100_000_000);
        let params =
            ChainParameters { network: Network::Regtest, best_block: BestBlock::from_network(Network::Regtest) };
        let channels = Arc::new(ChannelManager::new(
            fees,
            monitor.clone(),
            broadcasts.clone(),
            Arc::new(NoRoutes),
            Arc::new(NullMessageRouter {}),
            logger.clone(),
            keys.clone(),
            keys.clone(),
            keys.clone(),
            config,
            params,
            1_700_000_000,
        ));
        let ignoring = || Arc::new(IgnoringMessageHandler {});
        let handler = MessageHandler {
            chan_handler: channels.clone(),
            route_handler: ignoring(),
            onion_message_handler: ignoring(),
            custom_message_handler: ignoring(),
            send_only_message_handler: monitor.clone(),
        };
        let peers = Arc::new(PeerManager::new(handler, 1, &[7; 32], logger, keys));
        Ldk { peers, channels, monitor, node_id, broadcasts, events: Vec::new() }
    }

    pub(super) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let peers = self.peers.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = stream.into_std().expect("a socket");
                tokio::spawn(lightning_net_tokio::setup_inbound(peers.clone(), stream));
            }
        });
        address
    }

    pub(super) fn confirm(&self, funding: &Transaction) {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        for chain in [&*self.channels as &dyn Confirm, &*self.monitor as &dyn Confirm] {
            chain.transactions_confirmed(&header, &[(1, funding)], HEIGHT);
            chain.best_block_updated(&header, HEIGHT + 6);
        }
    }

    /// What LDK does by itself from time to time.
    pub(super) fn work(&mut self) {
        self.peers.process_events();
        self.channels.process_pending_htlc_forwards();
        let found = Mutex::new(Vec::new());
        self.channels.process_pending_events(&|event: Event| {
            found.lock().expect("no panic").push(event);
            Ok(())
        });
        for event in found.into_inner().expect("no panic") {
            match &event {
                Event::OpenChannelRequest { temporary_channel_id, counterparty_node_id, .. } => {
                    let accepted =
                        self.channels.accept_inbound_channel(temporary_channel_id, counterparty_node_id, 0, None);
                    accepted.expect("LDK takes our channel");
                }
                Event::PaymentClaimable { purpose, .. } => {
                    self.channels.claim_funds(purpose.preimage().expect("an invoice of LDK's"));
                }
                _ => {}
            }
            self.events.push(event);
        }
        self.peers.process_events();
    }
}
