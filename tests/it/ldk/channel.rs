//! A channel with a real LDK over its own sockets: opened by either side, paid both ways, feerate changed, cut and
//! reestablished, closed together and by force. Every signature of one is checked by the other.

mod node;
mod onion;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness,
};
use channeld::channel::{
    AcceptRequest, Channel, Command, Context, Effect, Error, Input, OpenRequest, OutgoingFailure, Phase, Policy,
    SessionFeatures,
};
use channeld::commitment::{ExposurePolicy, HtlcOffer, View};
use channeld::keys::{ChannelKeyId, Signer, Words};
use channeld::onion::{Hop, HopPayload, PaymentData, build};
use channeld::peer::{EventSink, PeerConfig, PeerEvent, Peers, SessionHandle};
use channeld::transactions::CommitmentFormat;
use channeld::units::{
    BlockHeight, ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, NodeId, PaymentHash, Preimage, ShortChannelId,
};
use channeld::wire::{Features, Message};
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::chain::{BestBlock, Confirm, Filter};
use lightning::events::{Event, EventsProvider};
use lightning::ln::channelmanager::{ChainParameters, ChannelManager, PaymentId, RecipientOnionFields};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::router::{InFlightHtlcs, Path, Route, RouteHop, RouteParameters, Router};
use lightning::sign::{InMemorySigner, KeysManager, NodeSigner, Recipient};
use lightning::types::features::{ChannelFeatures, NodeFeatures};
use lightning::types::payment::{PaymentHash as LdkHash, PaymentPreimage};
use lightning::util::config::{MaxDustHTLCExposure, UserConfig};
use lightning_net_tokio::SocketDescriptor;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use node::Ldk;

const FUNDING: Amount = Amount::from_sat(1_000_000);
const HEIGHT: u32 = 200;
const SHORT_CHANNEL_ID: u64 = (HEIGHT as u64) << 40 | 1 << 16;

struct Mailbox(mpsc::UnboundedSender<PeerEvent>);

impl EventSink for Mailbox {
    fn push(&self, event: PeerEvent) {
        let _ = self.0.send(event);
    }
}

/// Our side: sessions and one channel, without a node between.
struct Ours {
    signer: Arc<Signer>,
    policy: Policy,
    peers: Peers,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    session: Option<(SessionHandle, SessionFeatures)>,
    channel: Option<Channel>,
    effects: Vec<Effect>,
}

impl Ours {
    fn new() -> Ours {
        let signer = Arc::new(Signer::new(&Words::from_entropy(&[1; 32]).seed()));
        let (sender, events) = mpsc::unbounded_channel();
        let config = PeerConfig { features: Features::init(), chain_hash: ChainHash::REGTEST };
        let peers = Peers::new(config, signer.clone(), Arc::new(Mailbox(sender)));
        let policy = Policy {
            exposure: ExposurePolicy { max_dust: Msat::new(50_000_000) },
            minimum_depth: 1,
            ..Policy::default()
        };
        Ours { signer, policy, peers, events, session: None, channel: None, effects: Vec::new() }
    }

    fn context(&self) -> Context<'_> {
        Context {
            signer: &self.signer,
            chain_hash: ChainHash::REGTEST,
            height: BlockHeight::new(HEIGHT + 6),
            close_feerate: FeeratePerKw::new(500),
            policy: &self.policy,
        }
    }

    fn step(&mut self, input: Input) {
        let channel = self.channel.as_ref().expect("there is a channel");
        match channel.decide(input, &self.context()) {
            Ok((delta, effects)) => {
                self.channel.as_mut().expect("there is a channel").apply(&delta);
                self.carry_out(effects);
            }
            Err(Error::Violated(violation)) => panic!("LDK breaks a rule: {violation}"),
            Err(Error::Refused(refusal)) => panic!("refused: {refusal}"),
        }
    }

    fn command(&mut self, command: Command) {
        self.step(Input::Command(command));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    if let Some((session, _)) = &self.session {
                        session.send(&[message]);
                    }
                }
                effect => self.effects.push(effect),
            }
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::OpenChannel(open) => {
                let (_, features) = self.session.as_ref().expect("connected");
                let request = AcceptRequest {
                    peer: NodeId(self.signer.node_id()),
                    keys_id: ChannelKeyId([12; 32]),
                    alias: ShortChannelId::from_u64(18),
                    close_script: close_script(2),
                    upfront_shutdown_script: false,
                    features: *features,
                };
                let accepted = Channel::accept(&open, request, &self.context());
                let (channel, effects) = accepted.expect("we take LDK's channel");
                self.channel = Some(channel);
                self.carry_out(effects);
            }
            Message::ChannelUpdate(_) | Message::ChannelAnnouncement(_) | Message::NodeAnnouncement(_) => {}
            message if message.channel_id().is_some() && self.channel.is_some() => self.step(Input::Message(message)),
            message => panic!("{message:?}"),
        }
    }

    fn take_in(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Connected { session, features, .. } => {
                let features = SessionFeatures::negotiate(&Features::init(), &features);
                self.session = Some((session, features));
                if self.channel.is_some() {
                    self.step(Input::Connected(features));
                }
            }
            PeerEvent::Messages { messages, .. } => messages.into_iter().for_each(|message| self.receive(message)),
            PeerEvent::Disconnected { .. } => {
                self.session = None;
                if self.channel.is_some() {
                    self.step(Input::Disconnected);
                }
            }
            PeerEvent::ConnectFailed { reason, .. } => panic!("{reason}"),
        }
    }

    fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("there is a channel")
    }

    fn has(&self, of: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(of)
    }

    fn incoming(&mut self) -> Vec<HtlcOffer> {
        let mut offers = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::IncomingHtlc { offer, .. } => {
                offers.push(offer.clone());
                false
            }
            _ => true,
        });
        offers
    }
}

fn close_script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]))
}

/// Some transaction that pays this.
fn funding_transaction(script_pubkey: ScriptBuf) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([3; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; 71], vec![2; 33]]),
        }],
        output: vec![TxOut { value: FUNDING, script_pubkey }],
    }
}

struct World {
    ldk: Ldk,
    ours: Ours,
    address: SocketAddr,
    /// Of the next preimage that LDK pays for.
    byte: u8,
}

impl World {
    async fn connected(anchors: bool) -> World {
        let (ldk, ours) = (Ldk::new(anchors), Ours::new());
        let address = ldk.listen().await;
        let mut world = World { ldk, ours, address, byte: 1 };
        world.connect().await;
        world
    }

    async fn connect(&mut self) {
        self.ours.peers.connect(self.ldk.node_id, &self.address.to_string(), false);
        self.until("a session", |world| world.ours.session.is_some()).await;
        let ours = self.ours.signer.node_id();
        self.until("LDK's session", move |world| world.ldk.peers.peer_by_node_id(&ours).is_some()).await;
    }

    /// Both sides work until it is so.
    async fn until(&mut self, what: &str, so: impl Fn(&World) -> bool) {
        for _ in 0..3_000 {
            self.turn().await;
            if so(self) {
                return;
            }
        }
        panic!("never: {what}; {:?}; {:?}", self.ours.effects, self.ldk.events);
    }

    async fn turn(&mut self) {
        self.ldk.work();
        while let Ok(Some(event)) = timeout(Duration::from_millis(3), self.ours.events.recv()).await {
            self.ours.take_in(event);
            while let Ok(event) = self.ours.events.try_recv() {
                self.ours.take_in(event);
            }
            if self.ours.channel.is_some() {
                self.ours.step(Input::Seal);
            }
            self.ldk.work();
        }
        if self.ours.channel.is_some() {
            self.ours.step(Input::Seal);
        }
    }

    /// We open; half of it is LDK's.
    async fn we_open(anchors: bool) -> World {
        let mut world = World::connected(anchors).await;
        let (_, features) = world.ours.session.as_ref().expect("connected");
        let request = OpenRequest {
            peer: world.ldk.node_id,
            keys_id: ChannelKeyId([11; 32]),
            temporary_channel_id: ChannelId([13; 32]),
            alias: ShortChannelId::from_u64(17),
            funding: FUNDING,
            push: Msat::new(500_000_000),
            announce: false,
            format: if anchors { CommitmentFormat::Anchors } else { CommitmentFormat::StaticRemotekey },
            feerate: FeeratePerKw::new(1_000),
            close_script: close_script(1),
            upfront_shutdown_script: false,
            features: *features,
        };
        let (channel, effects) = Channel::open(request, &world.ours.context()).expect("opens");
        world.ours.channel = Some(channel);
        world.ours.carry_out(effects);
        let needed = |effect: &Effect| matches!(effect, Effect::FundingNeeded { .. });
        world.until("accept_channel", |world| world.ours.has(needed)).await;
        let script = world.ours.effects.iter().find_map(|effect| match effect {
            Effect::FundingNeeded { script_pubkey, .. } => Some(script_pubkey.clone()),
            _ => None,
        });
        let funding = funding_transaction(script.expect("asked for"));
        let outpoint = OutPoint::new(funding.compute_txid(), 0);
        world.ours.command(Command::FundingBuilt { outpoint });
        let signed = |effect: &Effect| matches!(effect, Effect::BroadcastFunding { .. });
        world.until("funding_signed", |world| world.ours.has(signed)).await;
        world.confirm(&funding).await;
        world
    }

    /// LDK opens and gives us half of it.
    async fn ldk_opens(anchors: bool) -> World {
        let mut world = World::connected(anchors).await;
        let ours = world.ours.signer.node_id();
        let created = world.ldk.channels.create_channel(ours, FUNDING.to_sat(), 500_000_000, 0, None, None);
        created.expect("LDK opens");
        let ready = |event: &Event| matches!(event, Event::FundingGenerationReady { .. });
        world.until("accept_channel", |world| world.ldk.events.iter().any(ready)).await;
        let found = world.ldk.events.iter().find_map(|event| match event {
            Event::FundingGenerationReady { temporary_channel_id, output_script, .. } => {
                Some((*temporary_channel_id, output_script.clone()))
            }
            _ => None,
        });
        let (id, script) = found.expect("asked for");
        let funding = funding_transaction(script);
        let funded = world.ldk.channels.funding_transaction_generated(id, ours, funding.clone());
        funded.expect("LDK takes it");
        let broadcast = funding.compute_txid();
        world
            .until("funding_signed", |world| {
                let sent = world.ldk.broadcasts.all();
                sent.iter().any(|transaction| transaction.compute_txid() == broadcast)
            })
            .await;
        world.confirm(&funding).await;
        world
    }

    async fn confirm(&mut self, funding: &Transaction) {
        self.ldk.confirm(funding);
        let short_channel_id = ShortChannelId::from_u64(SHORT_CHANNEL_ID);
        self.ours.step(Input::FundingDepth { depth: 7, short_channel_id });
        self.until("a usable channel", |world| world.usable()).await;
    }

    fn usable(&self) -> bool {
        self.ours.channel().is_usable() && self.ldk.channels.list_channels().iter().all(|it| it.is_usable)
    }

    /// We pay an invoice of LDK's; says which HTLC carries it.
    fn pay_ldk(&mut self, msat: u64) -> (HtlcId, PaymentHash) {
        let (hash, secret) = self.ldk.channels.create_inbound_payment(Some(msat), 3_600, None).expect("an invoice");
        let expiry = CltvExpiry::new(HEIGHT + 6 + 80);
        let payload = HopPayload {
            amt_to_forward: Some(Msat::new(msat)),
            outgoing_cltv_value: Some(expiry),
            payment_data: Some(PaymentData { payment_secret: secret.0, total_msat: Msat::new(msat) }),
            ..HopPayload::default()
        };
        let hop = Hop { node_id: self.ldk.node_id.0, payload: payload.encode() };
        let session_key = secp256k1::SecretKey::from_slice(&hash.0).expect("a key");
        let payment_hash = PaymentHash(hash.0);
        let (onion, _) = build(&[hop], &session_key, &payment_hash).expect("one hop");
        let id = self.ours.channel().commitments().expect("funded").next_outgoing;
        self.ours.command(Command::AddHtlc {
            amount: Msat::new(msat),
            payment_hash,
            cltv_expiry: expiry,
            onion,
            path_key: None,
        });
        (id, payment_hash)
    }

    /// LDK pays us for this preimage.
    fn ldk_pays(&mut self, msat: u64, byte: u8) {
        let preimage = Preimage([byte; 32]);
        let details = self.ldk.channels.list_channels();
        let scid = details[0].get_outbound_payment_scid().expect("it is ready");
        let hop = RouteHop {
            pubkey: self.ours.signer.node_id(),
            node_features: NodeFeatures::empty(),
            short_channel_id: scid,
            channel_features: ChannelFeatures::empty(),
            fee_msat: msat,
            cltv_expiry_delta: 60,
            maybe_announced_channel: false,
        };
        let route = Route { paths: vec![Path { hops: vec![hop], blinded_tail: None }], route_params: None };
        let fields = RecipientOnionFields::spontaneous_empty();
        let hash = LdkHash(preimage.payment_hash().0);
        let sent = self.ldk.channels.send_payment_with_route(route, hash, fields, PaymentId([byte; 32]));
        sent.expect("LDK pays");
    }

    /// Nothing is in flight, and both have the same figure for our balance.
    fn level(&self) -> bool {
        let commitments = self.ours.channel().commitments().expect("funded");
        commitments.is_clean() && self.ldk.channels.list_channels()[0].pending_outbound_htlcs.is_empty()
    }

    fn our_balance(&self) -> Msat {
        self.ours.channel().commitments().expect("funded").tally(View::LocalCurrent).local
    }

    async fn payments_both_ways(&mut self, each: u64) {
        let before = self.our_balance();
        let (first, hash) = self.pay_ldk(each);
        let fulfilled = move |effect: &Effect| matches!(effect, Effect::OutgoingFulfilled { id, .. } if *id == first);
        self.until("LDK claims", |world| world.ours.has(fulfilled)).await;
        let preimage = self.ours.effects.iter().find_map(|effect| match effect {
            Effect::OutgoingFulfilled { id, preimage, .. } if *id == first => Some(*preimage),
            _ => None,
        });
        assert_eq!(preimage.expect("shown").payment_hash(), hash);
        let bytes = self.byte..self.byte + 3;
        self.byte = bytes.end;
        for byte in bytes.clone() {
            self.ldk_pays(each, byte);
        }
        let waiting = |world: &World| {
            world.ours.effects.iter().filter(|effect| matches!(effect, Effect::IncomingHtlc { .. })).count() == 3
        };
        self.until("LDK's HTLCs", waiting).await;
        for offer in self.ours.incoming() {
            let byte = bytes.clone().find(|byte| Preimage([*byte; 32]).payment_hash() == offer.payment_hash);
            let preimage = Preimage([byte.expect("one of them"); 32]);
            self.ours.command(Command::FulfillHtlc { id: offer.id, preimage, attribution_data: None });
        }
        self.until("all is settled", World::level).await;
        assert_eq!(self.our_balance().msat(), before.msat() + 2 * each);
        let paid = |byte: u8| {
            let of = |event: &Event| matches!(event, Event::PaymentSent { payment_preimage: PaymentPreimage(it), .. } if it[0] == byte);
            self.ldk.events.iter().any(of)
        };
        assert!(bytes.into_iter().all(paid));
    }

    async fn close(&mut self) {
        self.until("both signed", |world| {
            let phase = &world.ours.channel().funded().expect("funded").phase;
            matches!(phase, Phase::MutuallyClosed { .. })
        })
        .await;
        let Phase::MutuallyClosed { transaction, .. } = &self.ours.channel().funded().expect("funded").phase else {
            panic!("closed")
        };
        let txid = transaction.compute_txid();
        self.until("LDK broadcasts the same", move |world| {
            world.ldk.broadcasts.all().iter().any(|it| it.compute_txid() == txid)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_open_and_pay_and_close() {
    for anchors in [true, false] {
        let mut world = World::we_open(anchors).await;
        world.payments_both_ways(20_000_000).await;
        world.payments_both_ways(100_000).await;
        world.ours.command(Command::UpdateFee { feerate: FeeratePerKw::new(1_500) });
        world.until("the feerate is level", World::level).await;
        world.payments_both_ways(2_000_000).await;
        world.ours.command(Command::Shutdown { script: None, feerate: None });
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_opens_and_closes() {
    for anchors in [true, false] {
        let mut world = World::ldk_opens(anchors).await;
        world.payments_both_ways(20_000_000).await;
        world.payments_both_ways(100_000).await;
        let id = world.ldk.channels.list_channels()[0].channel_id;
        world.ldk.channels.close_channel(&id, &world.ours.signer.node_id()).expect("LDK closes");
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_under_payments() {
    let mut world = World::we_open(true).await;
    for round in 0..12u8 {
        let (id, _) = world.pay_ldk(3_000_000 + u64::from(round));
        world.ours.step(Input::Seal);
        world.ldk_pays(5_000_000, 50 + round);
        // Somewhere in the exchange, a little later each time.
        for _ in 0..round % 4 {
            world.ldk.work();
            if let Ok(Some(event)) = timeout(Duration::from_millis(2), world.ours.events.recv()).await {
                world.ours.take_in(event);
                world.ours.step(Input::Seal);
            }
        }
        world.ldk.peers.disconnect_by_node_id(world.ours.signer.node_id());
        world.until("the session is gone", |world| world.ours.session.is_none()).await;
        world.connect().await;
        world.until("reestablished", |world| world.usable()).await;
        let lost = |effect: &Effect| {
            let never = OutgoingFailure::NeverCommitted;
            matches!(effect, Effect::OutgoingFailed { id: it, failure, .. } if *it == id && *failure == never)
        };
        if !world.ours.has(lost) {
            let fulfilled =
                move |effect: &Effect| matches!(effect, Effect::OutgoingFulfilled { id: it, .. } if *it == id);
            world.until("our payment", |world| world.ours.has(fulfilled)).await;
        }
        let preimage = Preimage([50 + round; 32]);
        let paid = |world: &World| {
            let of = |event: &Event| matches!(event, Event::PaymentSent { payment_id: Some(PaymentId(it)), .. } if it[0] == 50 + round);
            world.ldk.events.iter().any(of)
        };
        let arrived = |effect: &Effect| matches!(effect, Effect::IncomingHtlc { .. });
        world.until("LDK's payment", |world| world.ours.has(arrived)).await;
        for offer in world.ours.incoming() {
            assert_eq!(preimage.payment_hash(), offer.payment_hash);
            world.ours.command(Command::FulfillHtlc { id: offer.id, preimage, attribution_data: None });
        }
        world.until("all is settled", |world| paid(world) && world.level()).await;
        world.ours.effects.clear();
    }
    let id = world.ldk.channels.list_channels()[0].channel_id;
    world.ldk.channels.close_channel(&id, &world.ours.signer.node_id()).expect("LDK closes");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_ours_closes_ldks_channel() {
    let mut world = World::we_open(true).await;
    world.ldk_pays(20_000_000, 9);
    let arrived = |effect: &Effect| matches!(effect, Effect::IncomingHtlc { .. });
    world.until("LDK's HTLC", |world| world.ours.has(arrived)).await;
    world.ours.command(Command::ForceClose);
    let broadcast = |effect: &Effect| matches!(effect, Effect::Broadcast(_));
    assert!(world.ours.has(broadcast));
    let closed = |event: &Event| matches!(event, Event::ChannelClosed { .. });
    world.until("LDK closes, too", |world| world.ldk.events.iter().any(closed)).await;
}
