//! Nodes over real loopback sockets, and a peer by hand that breaks rules.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::constants::ChainHash;
use secp256k1::ecdh::SharedSecret;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::noise::{ACT_TWO, Initiator, LENGTH_HEADER, TAG, Transport};
use super::*;
use crate::keys::Words;
use crate::units::{ChannelId, FeeratePerKw};
use crate::wire::{DecodeError, Error, Init, Message, Ping, Pong, UpdateFee};

/// Longer than anything that a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

struct Mailbox(mpsc::UnboundedSender<PeerEvent>);

impl EventSink for Mailbox {
    fn push(&self, event: PeerEvent) {
        // A test that is over listens no more.
        let _ = self.0.send(event);
    }
}

struct TestNode {
    peers: Peers,
    node_id: NodeId,
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

fn patient() -> Timeouts {
    Timeouts { pause: Duration::from_millis(20), longest_pause: Duration::from_millis(100), ..Timeouts::default() }
}

impl TestNode {
    async fn start(seed: u8) -> TestNode {
        TestNode::start_with(seed, Limits::default(), patient()).await
    }

    async fn start_with(seed: u8, limits: Limits, timeouts: Timeouts) -> TestNode {
        let config = PeerConfig { features: Features::init(), chain_hash: ChainHash::REGTEST };
        TestNode::start_as(config, seed, limits, timeouts).await
    }

    async fn start_as(config: PeerConfig, seed: u8, limits: Limits, timeouts: Timeouts) -> TestNode {
        let signer = Arc::new(Signer::new(&Words::from_entropy(&[seed; 32]).seed()));
        let node_id = NodeId(signer.node_id());
        let (sender, events) = mpsc::unbounded_channel();
        let peers = Peers::with_limits(config, signer, Arc::new(Mailbox(sender)), limits, timeouts);
        let address = peers.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        TestNode { peers, node_id, address, events }
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event comes in time").expect("the node lives")
    }

    async fn connected(&mut self) -> (SessionHandle, NodeId) {
        match self.event().await {
            PeerEvent::Connected { session, node_id, .. } => (session, node_id),
            event => panic!("{event:?}"),
        }
    }

    async fn disconnected(&mut self) -> (SessionNumber, DisconnectReason) {
        match self.event().await {
            PeerEvent::Disconnected { session, reason, .. } => (session, reason),
            event => panic!("{event:?}"),
        }
    }

    async fn messages(&mut self) -> Vec<Message> {
        match self.event().await {
            PeerEvent::Messages { messages, .. } => messages,
            event => panic!("{event:?}"),
        }
    }

    async fn connect_failed(&mut self) -> String {
        match self.event().await {
            PeerEvent::ConnectFailed { reason, .. } => reason,
            event => panic!("{event:?}"),
        }
    }

    fn tcp(&self) -> String {
        self.address.to_string()
    }

    fn grpc(&self) -> String {
        format!("grpc://{}", self.address)
    }
}

fn fee(number: u32) -> Message {
    UpdateFee { channel_id: ChannelId([1; 32]), feerate_per_kw: FeeratePerKw::new(number) }.into()
}

fn long(byte: u8) -> Message {
    Error { channel_id: ChannelId([1; 32]), data: vec![byte; 65_499] }.into()
}

async fn talk(carrier: fn(&TestNode) -> String) {
    let (mut alice, mut bob) = (TestNode::start(1).await, TestNode::start(2).await);
    alice.peers.connect(bob.node_id, &carrier(&bob), false);
    let (to_bob, who) = alice.connected().await;
    assert_eq!(who, bob.node_id);
    let (to_alice, who) = bob.connected().await;
    assert_eq!(who, alice.node_id);
    let sent: Vec<Message> = (0..3_000).map(|at| if at % 100 == 7 { long(at as u8) } else { fee(at) }).collect();
    // Driver's way: from a thread that is not the runtime's.
    let (there, back) = (sent.clone(), sent.clone());
    let driver = std::thread::spawn(move || {
        there.chunks(7).for_each(|some| to_bob.send(some));
        back.chunks(11).for_each(|some| to_alice.send(some));
        (to_bob, to_alice)
    });
    for node in [&mut alice, &mut bob] {
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend(node.messages().await);
        }
        assert!(received == sent, "all messages in order");
    }
    let (to_bob, to_alice) = driver.join().unwrap();
    to_bob.send(&[fee(1)]);
    to_bob.disconnect();
    to_bob.send(&[fee(2)]);
    assert_eq!(alice.disconnected().await, (to_bob.number(), DisconnectReason::Local));
    assert_eq!(bob.messages().await, [fee(1)], "what was sent before arrives");
    let (number, reason) = bob.disconnected().await;
    assert_eq!(number, to_alice.number());
    assert!(matches!(reason, DisconnectReason::Closed | DisconnectReason::Io(_)), "{reason}");
    to_alice.send(&[fee(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_talk_over_tcp() {
    talk(TestNode::tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_talk_inside_grpc() {
    talk(TestNode::grpc).await;
}

#[tokio::test]
async fn calls_that_fail_say_why() {
    let (mut alice, mut bob) = (TestNode::start(1).await, TestNode::start(2).await);
    let stranger = TestNode::start(3).await.node_id;
    alice.peers.connect(alice.node_id, &alice.tcp(), true);
    assert!(alice.connect_failed().await.contains("itself"));
    alice.peers.connect(bob.node_id, "nonsense", false);
    assert_eq!(alice.connect_failed().await, ParsePeerAddressError.to_string());
    for address in [bob.tcp(), bob.grpc()] {
        alice.peers.connect(stranger, &address, false);
        alice.connect_failed().await;
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    alice.peers.connect(bob.node_id, &closed.to_string(), false);
    alice.connect_failed().await;
    alice.peers.connect(bob.node_id, &format!("grpc://{closed}"), false);
    alice.connect_failed().await;
    assert!(bob.events.try_recv().is_err(), "the called one hears nothing of it");
}

#[tokio::test]
async fn a_kept_peer_is_called_again() {
    let (mut alice, mut bob) = (TestNode::start(1).await, TestNode::start(2).await);
    alice.peers.connect(bob.node_id, &bob.tcp(), true);
    for _ in 0..3 {
        let (session, _) = alice.connected().await;
        bob.connected().await.0.disconnect();
        assert_eq!(alice.disconnected().await.0, session.number());
        bob.disconnected().await;
    }
    alice.connected().await;
    alice.peers.forget(bob.node_id);
    bob.connected().await.0.disconnect();
    alice.disconnected().await;
    bob.disconnected().await;
    // Not kept any more: the next event is that of the next call.
    alice.peers.connect(bob.node_id, &bob.grpc(), false);
    alice.connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_cross_leave_one_session() {
    for round in 0..5 {
        let (mut alice, mut bob) = (TestNode::start(10 + round).await, TestNode::start(20 + round).await);
        alice.peers.connect(bob.node_id, &bob.tcp(), true);
        bob.peers.connect(alice.node_id, &alice.tcp(), true);
        // Whatever comes and goes: in the end both hold the two ends of one connection.
        let until_both_hear = async {
            let (mut ours, mut theirs) = (None, None);
            for number in 0.. {
                let number = fee(number);
                for session in [&ours, &theirs].into_iter().flatten() {
                    SessionHandle::send(session, std::slice::from_ref(&number));
                }
                let both = async {
                    tokio::join!(hears(&mut alice, &mut ours, &number), hears(&mut bob, &mut theirs, &number))
                };
                if timeout(Duration::from_millis(200), both).await.is_ok() {
                    break;
                }
            }
        };
        timeout(DEADLINE, until_both_hear).await.expect("the two come to terms");
    }
}

/// Waits for a message, and keeps the session that the node was told last.
async fn hears(node: &mut TestNode, session: &mut Option<SessionHandle>, wanted: &Message) {
    loop {
        match node.event().await {
            PeerEvent::Messages { messages, .. } if messages.contains(wanted) => return,
            PeerEvent::Connected { session: new, .. } => *session = Some(new),
            PeerEvent::Disconnected { session: old, .. } if session.as_ref().is_some_and(|it| it.number() == old) => {
                *session = None;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_node_that_shuts_down_says_goodbye() {
    let (mut alice, mut bob) = (TestNode::start(1).await, TestNode::start(2).await);
    alice.peers.connect(bob.node_id, &bob.tcp(), true);
    let (session, _) = alice.connected().await;
    bob.connected().await;
    session.send(&[fee(9)]);
    alice.peers.shut_down().await;
    assert_eq!(alice.disconnected().await.1, DisconnectReason::Local);
    assert_eq!(bob.messages().await, [fee(9)]);
    bob.disconnected().await;
    bob.peers.connect(alice.node_id, &alice.tcp(), false);
    bob.connect_failed().await;
}

#[tokio::test]
async fn credit_that_is_not_given_back_stops_the_peer() {
    let limits = Limits { credit: 131_072, ..Limits::default() };
    let (mut alice, mut bob) = (TestNode::start(1).await, TestNode::start_with(2, limits, patient()).await);
    alice.peers.connect(bob.node_id, &bob.tcp(), false);
    let (session, _) = alice.connected().await;
    bob.connected().await;
    session.send(&vec![long(7); 20]);
    let mut held = Vec::new();
    let mut bytes = 0;
    while let Ok(event) = timeout(Duration::from_millis(300), bob.events.recv()).await {
        let Some(PeerEvent::Messages { messages, credit, .. }) = event else { panic!("{event:?}") };
        bytes += messages.len() * 65_535;
        held.push(credit);
    }
    assert!(bytes <= 131_072, "{bytes} bytes are more than the credit");
    drop(held);
    while bytes < 20 * 65_535 {
        bytes += bob.messages().await.len() * 65_535;
    }
}

/// A peer by hand.
struct RawPeer {
    stream: TcpStream,
    transport: Transport,
}

impl RawPeer {
    async fn call(node: &TestNode, key: u8) -> RawPeer {
        let key = SecretKey::from_slice(&[key; 32]).unwrap();
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        let local = key.public_key(SECP256K1);
        let (initiator, one) = Initiator::start(local, &node.node_id.0, [0x77; 32]).unwrap();
        stream.write_all(&one).await.unwrap();
        let mut two = [0; ACT_TWO];
        stream.read_exact(&mut two).await.unwrap();
        let ecdh = |point: &PublicKey| SharedSecret::new(point, &key);
        let (three, transport) = initiator.finish(&two, ecdh).unwrap();
        stream.write_all(&three).await.unwrap();
        RawPeer { stream, transport }
    }

    async fn connect(node: &mut TestNode, key: u8) -> (RawPeer, SessionHandle) {
        let mut peer = RawPeer::call(node, key).await;
        peer.send(&Init::new(Features::init(), ChainHash::REGTEST).into()).await;
        let session = node.connected().await.0;
        assert!(matches!(peer.receive().await, Some(Message::Init(_))));
        (peer, session)
    }

    async fn send_bytes(&mut self, message: &[u8]) {
        let mut frame = Vec::new();
        self.transport.encryptor.seal(message, &mut frame);
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn send(&mut self, message: &Message) {
        self.send_bytes(&message.encode()).await;
    }

    /// The next message; `None` at the end.
    async fn receive(&mut self) -> Option<Message> {
        let receiving = async {
            let mut header = [0; LENGTH_HEADER];
            self.stream.read_exact(&mut header).await.ok()?;
            let length = self.transport.decryptor.open_length(&mut header).unwrap();
            let mut sealed = vec![0; usize::from(length) + TAG];
            self.stream.read_exact(&mut sealed).await.ok()?;
            Some(Message::decode(self.transport.decryptor.open(&mut sealed).unwrap()).unwrap())
        };
        timeout(DEADLINE, receiving).await.expect("the node answers or hangs up")
    }

    /// The warning with which the node hangs up.
    async fn warning(&mut self) -> String {
        let Some(Message::Warning(warning)) = self.receive().await else { panic!("no warning") };
        assert!(self.receive().await.is_none(), "and then the end");
        warning.text()
    }
}

#[tokio::test]
async fn init_comes_first_and_once() {
    let mut node = TestNode::start(1).await;
    let init = |features| Message::from(Init::new(features, ChainHash::REGTEST));

    let mut peer = RawPeer::call(&node, 9).await;
    peer.send(&fee(1)).await;
    assert!(matches!(peer.receive().await, Some(Message::Init(_))));
    assert_eq!(peer.warning().await, DisconnectReason::UnexpectedInit.to_string());

    let mut peer = RawPeer::call(&node, 10).await;
    peer.send_bytes(&[0x7f, 0xff, 1, 2, 3]).await;
    peer.send(&init(Features::init())).await;
    let (session, _) = node.connected().await;
    peer.send(&init(Features::init())).await;
    peer.receive().await;
    assert_eq!(peer.warning().await, DisconnectReason::UnexpectedInit.to_string());
    assert_eq!(node.disconnected().await, (session.number(), DisconnectReason::UnexpectedInit));

    let mut unknown = Features::init();
    unknown.set_bit(998);
    let mut peer = RawPeer::call(&node, 11).await;
    peer.send(&init(unknown)).await;
    peer.receive().await;
    assert!(peer.warning().await.contains("998"));

    let mut peer = RawPeer::call(&node, 12).await;
    peer.send(&Init::new(Features::init(), ChainHash::BITCOIN).into()).await;
    peer.receive().await;
    assert_eq!(peer.warning().await, DisconnectReason::NoCommonChain.to_string());
    assert!(node.events.try_recv().is_err(), "none of them was told as connected");
}

#[tokio::test]
async fn what_is_no_message_ends_the_session() {
    let mut node = TestNode::start(1).await;
    let mut frames: Vec<(Vec<u8>, DecodeError)> = vec![
        (vec![], DecodeError::TooShort),
        (vec![1], DecodeError::TooShort),
        (vec![0x7f, 0xfe], DecodeError::UnknownEvenType { message_type: 0x7ffe }),
        (fee(1).encode()[..20].to_vec(), DecodeError::TooShort),
    ];
    let mut with_record = fee(1).encode();
    with_record.extend([2, 0]);
    frames.push((with_record, DecodeError::UnknownEvenTlv { tlv_type: 2 }));
    for (key, (bytes, error)) in (40..).zip(frames) {
        let (mut peer, _) = RawPeer::connect(&mut node, key).await;
        peer.send_bytes(&[0x7f, 0xff]).await;
        peer.send(&fee(5)).await;
        peer.send_bytes(&bytes).await;
        assert_eq!(node.messages().await, [fee(5)], "what came before is good");
        assert_eq!(node.disconnected().await.1, DisconnectReason::Decode(error));
        assert!(peer.warning().await.contains(&error.to_string()));
    }
}

#[tokio::test]
async fn a_tampered_frame_ends_the_session_without_a_word() {
    let mut node = TestNode::start(1).await;
    let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
    peer.stream.write_all(&[7; 40]).await.unwrap();
    assert_eq!(node.disconnected().await.1, DisconnectReason::Noise);
    assert!(peer.receive().await.is_none());
}

#[tokio::test]
async fn pings_are_answered_to_the_byte_and_not_for_ever() {
    let limits = Limits { pings: 5, ..Limits::default() };
    let mut node = TestNode::start_with(1, limits, patient()).await;
    let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
    let ping = |num_pong_bytes| Message::from(Ping { num_pong_bytes, ignored: vec![0; 3] });
    for length in [0u16, 1, 4_096, 65_531] {
        peer.send(&ping(65_535)).await;
        peer.send(&ping(length)).await;
        assert_eq!(peer.receive().await, Some(Pong { ignored: vec![0; usize::from(length)] }.into()));
    }
    for _ in 0..10 {
        peer.send(&ping(0)).await;
    }
    assert_eq!(node.disconnected().await.1, DisconnectReason::PingFlood);
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_left() {
    let timeouts =
        Timeouts { ping: Duration::from_millis(100), silence: Duration::from_secs(6), ..Timeouts::default() };
    let mut node = TestNode::start_with(1, Limits::default(), timeouts).await;
    let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
    for _ in 0..3 {
        let Some(Message::Ping(ping)) = peer.receive().await else { panic!("no ping") };
        assert!(ping.ignored.iter().all(|byte| *byte == 0), "nothing of ours travels in it");
        peer.send(&ping.pong().unwrap().into()).await;
    }
    assert!(matches!(peer.receive().await, Some(Message::Ping(_))));
    assert_eq!(node.disconnected().await.1, DisconnectReason::Timeout);
}

#[tokio::test]
async fn a_message_that_drips_is_not_waited_for() {
    let timeouts = Timeouts { message: Duration::from_millis(200), ..Timeouts::default() };
    let mut node = TestNode::start_with(1, Limits::default(), timeouts).await;
    for length in [1, LENGTH_HEADER, LENGTH_HEADER + 5] {
        let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
        let mut frame = Vec::new();
        peer.transport.encryptor.seal(&fee(1).encode(), &mut frame);
        peer.stream.write_all(&frame[..length]).await.unwrap();
        assert_eq!(node.disconnected().await.1, DisconnectReason::Timeout);
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_left() {
    let mut node = TestNode::start(1).await;
    let (_peer, session) = RawPeer::connect(&mut node, 9).await;
    for _ in 0..400 {
        session.send(&[long(1)]);
    }
    assert_eq!(node.disconnected().await.1, DisconnectReason::OutboundQueueFull);
}

#[tokio::test]
async fn a_caller_that_comes_back_replaces_its_old_connection() {
    let mut node = TestNode::start(1).await;
    let (mut old, first) = RawPeer::connect(&mut node, 9).await;
    let mut new = RawPeer::call(&node, 9).await;
    new.send(&Init::new(Features::init(), ChainHash::REGTEST).into()).await;
    assert_eq!(node.disconnected().await, (first.number(), DisconnectReason::Replaced));
    let (second, _) = node.connected().await;
    assert!(second.number() > first.number());
    first.send(&[fee(1)]);
    second.send(&[fee(2)]);
    assert!(old.receive().await.is_none());
    assert!(matches!(new.receive().await, Some(Message::Init(_))));
    assert_eq!(new.receive().await, Some(fee(2)));
}

/// Everything that comes back from a caller that says `bytes` and then nothing, until the node hangs up.
async fn said_to(node: &TestNode, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the node hangs up");
    answer
}

#[tokio::test]
async fn garbage_is_turned_away() {
    let timeouts = Timeouts { handshake: Duration::from_millis(300), ..Timeouts::default() };
    let mut node = TestNode::start_with(1, Limits::default(), timeouts).await;
    assert_eq!(said_to(&node, b"GET / HTTP/1.1\r\n\r\n").await, b"");
    assert_eq!(said_to(&node, &[0; 50]).await, b"", "no key");
    assert_eq!(said_to(&node, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await, [0x15, 3, 3, 0, 2, 2, 40]);
    said_to(&node, b"POST / HTTP/1.1\r\n\r\n").await;
    said_to(&node, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage that is no frame").await;
    // Those that begin and stop are left in time.
    assert_eq!(said_to(&node, b"").await, b"");
    assert_eq!(said_to(&node, &[0, 2, 3]).await, b"");
    said_to(&node, b"P").await;
    said_to(&node, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(node.events.try_recv().is_err());
    RawPeer::connect(&mut node, 9).await;
}

#[tokio::test]
async fn callers_nobody_knows_are_few() {
    let limits = Limits { pending: 3, inbound: 2, ..Limits::default() };
    let mut node = TestNode::start_with(1, limits, patient()).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(TcpStream::connect(node.address).await.unwrap());
    }
    assert_eq!(said_to(&node, b"").await, b"", "a fourth is turned away at once");
    drop(waiting);
    let mut sessions = Vec::new();
    for key in [50, 51] {
        // Those that left may still be counted for a moment.
        sessions.push(loop {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            stream.write_all(&[0]).await.unwrap();
            if timeout(Duration::from_millis(100), stream.read_u8()).await.is_err() {
                drop(stream);
                break RawPeer::connect(&mut node, key).await;
            }
        });
    }
    let mut third = RawPeer::call(&node, 52).await;
    assert!(third.receive().await.is_none(), "two strangers are the limit");
    let friend = SecretKey::from_slice(&[53; 32]).unwrap().public_key(SECP256K1);
    node.peers.protect(NodeId(friend));
    RawPeer::connect(&mut node, 53).await;
}

#[tokio::test]
async fn init_is_held_to_its_features_whichever_field_they_stand_in() {
    let node = TestNode::start(1).await;
    let with = |bits: &[usize]| {
        let mut features = Features::init();
        bits.iter().for_each(|bit| features.set_bit(*bit));
        features
    };
    // Even bits that are unknown or not offered, and dependencies that are missing: each closes the connection.
    let broken = [
        (Features::empty(), with(&[28]), "28"),
        (with(&[62]), Features::init(), "62"),
        (Features::empty(), with(&[1_000]), "1000"),
        (with(&[50_000]), Features::empty(), "50000"),
        (
            Features::empty(),
            {
                let mut without = Features::empty();
                without.set_bit(51);
                without
            },
            "ZeroConf",
        ),
    ];
    for (key, (globalfeatures, features, named)) in (30..).zip(broken) {
        let mut peer = RawPeer::call(&node, key).await;
        let init = Init { globalfeatures, ..Init::new(features, ChainHash::REGTEST) };
        peer.send(&init.into()).await;
        assert!(matches!(peer.receive().await, Some(Message::Init(_))));
        let warning = peer.warning().await;
        assert!(warning.contains(named), "{warning}");
    }
    // Odd ones are ignored, wherever they stand.
    let mut node = node;
    let mut peer = RawPeer::call(&node, 60).await;
    let init = Init { globalfeatures: with(&[1_001]), ..Init::new(with(&[29, 35, 61, 63, 99]), ChainHash::REGTEST) };
    peer.send(&init.into()).await;
    node.connected().await;
    peer.receive().await;
    peer.send(&fee(1)).await;
    assert_eq!(node.messages().await, [fee(1)]);
}

#[tokio::test]
async fn messages_that_were_not_negotiated_are_skipped_or_end_the_session() {
    let mut node = TestNode::start(1).await;
    let framed = |message_type: u16| [&message_type.to_be_bytes()[..], &[0; 40]].concat();
    let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
    for message_type in [7, 9, 41, 65, 67, 69, 71, 73, 77, 81, 127, 513, 32_769] {
        peer.send_bytes(&framed(message_type)).await;
    }
    peer.send(&fee(1)).await;
    assert_eq!(node.messages().await, [fee(1)], "and nothing else");
    for (key, message_type) in (100..).zip([2, 40, 64, 66, 68, 70, 72, 74, 80, 32_768]) {
        let (mut peer, _) = RawPeer::connect(&mut node, key).await;
        peer.send_bytes(&framed(message_type)).await;
        let error = DecodeError::UnknownEvenType { message_type };
        assert_eq!(node.disconnected().await.1, DisconnectReason::Decode(error));
        assert!(peer.warning().await.contains(&error.to_string()));
    }
}

/// BOLT 1: a pong that was not asked for, or of another length, is no reason for anything.
#[tokio::test]
async fn any_pong_is_fine() {
    let mut node = TestNode::start(1).await;
    let (mut peer, _) = RawPeer::connect(&mut node, 9).await;
    for length in [0, 1, 65_531] {
        peer.send(&Pong { ignored: vec![7; length] }.into()).await;
    }
    peer.send(&fee(1)).await;
    assert_eq!(node.messages().await, [fee(1)]);
}
