//! A session with a real LDK: handshake, `init`, pings and messages over its own socket code, called and calling.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use channeld::keys::{Signer, Words};
use channeld::peer::{EventSink, PeerConfig, PeerEvent, Peers, SessionHandle};
use channeld::units::{ChannelId, CltvDelta, FeeratePerKw, Msat, NodeId};
use channeld::wire::{Feature, Features, Message, OpenChannel};
use lightning::ln::peer_handler::{ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::sign::KeysManager;
use lightning::sign::NodeSigner;
use lightning::sign::Recipient;
use lightning_net_tokio::SocketDescriptor;
use tests::ldk::Silent;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

type Manager = PeerManager<
    SocketDescriptor,
    Arc<ErroringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<Silent>,
    Arc<IgnoringMessageHandler>,
    Arc<KeysManager>,
    Arc<IgnoringMessageHandler>,
>;

struct Ldk {
    manager: Arc<Manager>,
    node_id: NodeId,
}

impl Ldk {
    fn new() -> Ldk {
        let keys = Arc::new(KeysManager::new(&[42; 32], 1, 2, false));
        let node_id = NodeId(keys.get_node_id(Recipient::Node).expect("it has a node id"));
        let ignoring = || Arc::new(IgnoringMessageHandler {});
        let handler = MessageHandler {
            chan_handler: Arc::new(ErroringMessageHandler::new()),
            route_handler: ignoring(),
            onion_message_handler: ignoring(),
            custom_message_handler: ignoring(),
            send_only_message_handler: ignoring(),
        };
        let manager = Arc::new(PeerManager::new(handler, 1, &[7; 32], Arc::new(Silent), keys));
        Ldk { manager, node_id }
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let manager = self.manager.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = stream.into_std().expect("a socket");
                tokio::spawn(lightning_net_tokio::setup_inbound(manager.clone(), stream));
            }
        });
        address
    }
}

struct Mailbox(mpsc::UnboundedSender<PeerEvent>);

impl EventSink for Mailbox {
    fn push(&self, event: PeerEvent) {
        let _ = self.0.send(event);
    }
}

struct Ours {
    peers: Peers,
    node_id: NodeId,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

impl Ours {
    fn new() -> Ours {
        let signer = Arc::new(Signer::new(&Words::from_entropy(&[1; 32]).seed()));
        let node_id = NodeId(signer.node_id());
        let (sender, events) = mpsc::unbounded_channel();
        let config = PeerConfig { features: Features::init(), chain_hash: ChainHash::REGTEST };
        Ours { peers: Peers::new(config, signer, Arc::new(Mailbox(sender))), node_id, events }
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event comes in time").expect("the node lives")
    }

    async fn connected(&mut self, ldk: &Ldk) -> SessionHandle {
        let PeerEvent::Connected { session, node_id, features, .. } = self.event().await else {
            panic!("not connected")
        };
        assert_eq!(node_id, ldk.node_id);
        assert!(Features::init().negotiated(&features, Feature::StaticRemotekey));
        assert!(!Features::init().negotiated(&features, Feature::NettedTransfers));
        session
    }

    /// LDK reads our `open_channel`, and its handler declines it.
    async fn is_understood(&mut self, session: &SessionHandle) {
        session.send(&[open_channel(self.node_id)]);
        let PeerEvent::Messages { messages, .. } = self.event().await else { panic!("no answer") };
        let [Message::Error(error)] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(error.channel_id, ChannelId([5; 32]));
        assert!(error.text().contains("do not support"), "{}", error.text());
    }
}

fn open_channel(node_id: NodeId) -> Message {
    let key = node_id.0;
    OpenChannel {
        chain_hash: ChainHash::REGTEST,
        temporary_channel_id: ChannelId([5; 32]),
        funding_satoshis: Amount::from_sat(1_000_000),
        push_msat: Msat::ZERO,
        dust_limit_satoshis: Amount::from_sat(354),
        max_htlc_value_in_flight_msat: Msat::new(u64::MAX),
        channel_reserve_satoshis: Amount::from_sat(10_000),
        htlc_minimum_msat: Msat::new(1),
        feerate_per_kw: FeeratePerKw::FLOOR,
        to_self_delay: CltvDelta::new(144),
        max_accepted_htlcs: 483,
        funding_pubkey: key,
        revocation_basepoint: key,
        payment_basepoint: key,
        delayed_payment_basepoint: key,
        htlc_basepoint: key,
        first_per_commitment_point: key,
        channel_flags: 0,
        upfront_shutdown_script: Some(bitcoin::ScriptBuf::new()),
        channel_type: Some(Features::channel_type(&[Feature::StaticRemotekey, Feature::Anchors])),
    }
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_call_ldk() {
    let (ldk, mut ours) = (Ldk::new(), Ours::new());
    let address = ldk.listen().await;
    ours.peers.connect(ldk.node_id, &address.to_string(), false);
    let session = ours.connected(&ldk).await;
    ours.is_understood(&session).await;
    assert!(ldk.manager.peer_by_node_id(&ours.node_id.0).is_some());
    // A tick and a half of LDK's timer: it pings, and is answered.
    for _ in 0..3 {
        ldk.manager.timer_tick_occurred();
        ldk.manager.process_events();
        ours.is_understood(&session).await;
    }
    ldk.manager.disconnect_by_node_id(ours.node_id.0);
    assert!(matches!(ours.event().await, PeerEvent::Disconnected { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_calls_us() {
    let (ldk, mut ours) = (Ldk::new(), Ours::new());
    let address = ours.peers.listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let calling = lightning_net_tokio::connect_outbound(ldk.manager.clone(), ours.node_id.0, address);
    tokio::spawn(calling.await.expect("it is called"));
    let session = ours.connected(&ldk).await;
    ours.is_understood(&session).await;
    session.disconnect();
    assert!(matches!(ours.event().await, PeerEvent::Disconnected { .. }));
}
