//! Onions with a real LDK at one end and every other hop played by our room `onion`: LDK builds what we open and follows our
//! blinded paths, we build what it opens and follow its paths; failures, preimages and hold times travel back over hops of
//! ours and are read by the other side.

use channeld::onion::failure;
use channeld::onion::{
    Answer, BlindedHop, BlindedLast, BlindedPath, Failure, ForwardPayload, Forwarding, HoldTime, Incoming, Opened,
    PathEnd, PathRelay, PathTerms, PaymentRelay, Receiving, ReturnPath, SharedSecret, open, read_fulfil,
};
use channeld::units::CltvDelta;
use channeld::wire::AttributionData;
use lightning::blinded_path::payment as ldk;
use lightning::offers::nonce::Nonce;
use lightning::routing::router::{BlindedTail, PaymentParameters};
use lightning::types::features::BlindedHopFeatures;
use lightning::types::payment::PaymentSecret;
use secp256k1::ecdh::SharedSecret as Ecdh;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::*;

const AMOUNT: u64 = 5_000_000;
const FEE: u64 = 1_000;
const DELTA: u16 = 40;
const FINAL_DELTA: u16 = 30;

/// The keys of the hops behind our node, and behind LDK's.
fn hop_key(hop: usize) -> SecretKey {
    SecretKey::from_slice(&[0x60 + hop as u8; 32]).expect("a key")
}

fn hop_id(hop: usize) -> PublicKey {
    hop_key(hop).public_key(SECP256K1)
}

/// How long hop `hop` says that it held everything.
fn held(hop: usize) -> HoldTime {
    HoldTime::from_units(7 + hop as u32)
}

fn units(times: &[HoldTime]) -> Vec<u32> {
    times.iter().map(|time| time.units()).collect()
}

/// What all hops made of one HTLC of LDK's.
struct Walk {
    /// Of our node and of the hops behind it, the payee last.
    return_paths: Vec<ReturnPath>,
    receiving: Receiving,
}

impl World {
    /// LDK pays over our node and `behind` more; the last `blinded` hops are on a blinded path of the payee's. `None` is no
    /// such path, 0 one that begins at the payee.
    fn ldk_pays_over(&mut self, behind: usize, blinded: Option<usize>, byte: u8) {
        let details = self.ldk.channels.list_channels();
        let scid = details[0].get_outbound_payment_scid().expect("it is ready");
        let unblinded = behind - blinded.unwrap_or(0);
        let mut hops: Vec<_> = (0..=unblinded)
            .map(|hop| RouteHop {
                pubkey: if hop == 0 { self.ours.signer.node_id() } else { hop_id(hop) },
                node_features: NodeFeatures::empty(),
                short_channel_id: if hop == 0 { scid } else { hop as u64 },
                channel_features: ChannelFeatures::empty(),
                fee_msat: FEE,
                cltv_expiry_delta: u32::from(DELTA),
                maybe_announced_channel: false,
            })
            .collect();
        let last = hops.last_mut().expect("our node at least");
        let mut route_params = None;
        let blinded_tail = blinded.map(|blinded| {
            let (path, terms) = our_path(unblinded, blinded, &self.ours);
            let mut parameters = PaymentParameters::blinded(vec![path_for_ldk(&path, &terms)]);
            // LDK lowers it to what fits and then wants the route to be for what it has lowered.
            parameters.max_path_length = 1;
            route_params = Some(RouteParameters::from_payment_params_and_value(parameters, AMOUNT));
            last.fee_msat = terms.fee(Msat::new(AMOUNT)).expect("a fee").msat();
            last.cltv_expiry_delta = u32::from(terms.cltv_expiry_delta.blocks());
            BlindedTail {
                trampoline_hops: vec![],
                hops: path.hops.iter().map(ldk_hop).collect(),
                blinding_point: path.first_path_key,
                excess_final_cltv_expiry_delta: 0,
                final_value_msat: AMOUNT,
            }
        });
        if blinded_tail.is_none() {
            (last.fee_msat, last.cltv_expiry_delta) = (AMOUNT, u32::from(FINAL_DELTA));
        }
        let fields = match blinded_tail {
            None => RecipientOnionFields::secret_only(PaymentSecret([0x55; 32])),
            Some(_) => RecipientOnionFields::spontaneous_empty(),
        };
        let route = Route { paths: vec![Path { hops, blinded_tail }], route_params };
        let hash = LdkHash(Preimage([byte; 32]).payment_hash().0);
        let sent = self.ldk.channels.send_payment_with_route(route, hash, fields, PaymentId([byte; 32]));
        sent.expect("LDK pays");
    }

    async fn htlc_of_ldk(&mut self) -> HtlcOffer {
        let arrived = |effect: &Effect| matches!(effect, Effect::IncomingHtlc { .. });
        self.until("LDK's HTLC", |world| world.ours.has(arrived)).await;
        self.ours.incoming().pop().expect("it arrived")
    }

    /// Every hop opens the onion and sends on what it says.
    fn walk(&self, offer: &HtlcOffer) -> Walk {
        let mut return_paths = Vec::new();
        let mut onion = offer.onion.clone().expect("it is there");
        let (mut amount, mut cltv_expiry, mut path_key) = (offer.amount, offer.cltv_expiry, offer.path_key);
        loop {
            let hop = return_paths.len();
            let incoming = Incoming {
                onion: &onion,
                payment_hash: &offer.payment_hash,
                amount,
                cltv_expiry,
                path_key: path_key.as_ref(),
            };
            let opened = match hop {
                0 => open(&incoming, |point| self.ours.signer.ecdh_node(point)),
                hop => open(&incoming, |point| Ecdh::new(point, &hop_key(hop))),
            };
            match opened {
                Opened::Forward(forwarding) => {
                    return_paths.push(forwarding.return_path);
                    (amount, cltv_expiry) = (forwarding.amt_to_forward, forwarding.outgoing_cltv_value);
                    (onion, path_key) = (forwarding.onion, forwarding.path_key);
                }
                Opened::Final(receiving) => {
                    assert!(amount >= receiving.payload.amt_to_forward && amount.msat() >= AMOUNT);
                    assert!(cltv_expiry >= receiving.payload.outgoing_cltv_value);
                    return_paths.push(receiving.return_path.clone());
                    return Walk { return_paths, receiving: *receiving };
                }
                other => panic!("hop {hop}: {other:?}"),
            }
        }
    }

    /// What LDK says of a path that ended: whether it was paid, and the hold times.
    async fn outcome(&mut self, byte: u8) -> Event {
        let ends = move |event: &&Event| match event {
            Event::PaymentPathSuccessful { payment_id, .. } => *payment_id == PaymentId([byte; 32]),
            Event::PaymentPathFailed { payment_id, .. } => *payment_id == Some(PaymentId([byte; 32])),
            _ => false,
        };
        self.until("LDK knows", move |world| world.ldk.events.iter().any(|event| ends(&event))).await;
        self.ldk.events.iter().find(ends).cloned().expect("it is there")
    }

    fn answer(&mut self, id: HtlcId, answer: Answer) {
        self.ours.command(match answer {
            Answer::Fail { reason, attribution_data } => Command::FailHtlc { id, reason, attribution_data },
            Answer::Malformed { sha256_of_onion, failure_code } => {
                Command::FailMalformedHtlc { id, sha256_of_onion, failure_code }
            }
        });
    }
}

/// A path of the payee's over the `blinded` hops before it; it begins behind `unblinded` hops.
fn our_path(unblinded: usize, blinded: usize, ours: &Ours) -> (BlindedPath, PathTerms) {
    let node_id = |hop: usize| NodeId(if hop == 0 { ours.signer.node_id() } else { hop_id(hop) });
    let relays: Vec<_> = (unblinded..unblinded + blinded)
        .map(|hop| PathRelay {
            node_id: node_id(hop),
            short_channel_id: ShortChannelId::from_u64(hop as u64),
            relay: PaymentRelay {
                cltv_expiry_delta: CltvDelta::new(DELTA),
                fee_proportional_millionths: 1_234,
                fee_base_msat: 567,
            },
            htlc_minimum_msat: Msat::new(1),
            htlc_maximum_msat: Msat::new(1_000_000_000),
        })
        .collect();
    let end = PathEnd {
        node_id: node_id(unblinded + blinded),
        path_id: vec![0x55; 32],
        min_final_cltv_expiry_delta: CltvDelta::new(FINAL_DELTA),
        last_height: HEIGHT + 100,
        htlc_minimum_msat: Msat::new(1),
    };
    BlindedPath::to_payee(&relays, &end, &SecretKey::from_slice(&[0x33; 32]).expect("a key")).expect("a path")
}

fn path_for_ldk(path: &BlindedPath, terms: &PathTerms) -> ldk::BlindedPaymentPath {
    let payinfo = ldk::BlindedPayInfo {
        fee_base_msat: terms.fee_base_msat,
        fee_proportional_millionths: terms.fee_proportional_millionths,
        cltv_expiry_delta: terms.cltv_expiry_delta.blocks(),
        htlc_minimum_msat: terms.htlc_minimum_msat.msat(),
        htlc_maximum_msat: terms.htlc_maximum_msat.msat(),
        features: BlindedHopFeatures::empty(),
    };
    let hops = path.hops.iter().map(ldk_hop).collect();
    ldk::BlindedPaymentPath::from_blinded_path_and_payinfo(path.first_node_id.0, path.first_path_key, hops, payinfo)
}

fn ldk_hop(hop: &BlindedHop) -> lightning::blinded_path::BlindedHop {
    lightning::blinded_path::BlindedHop {
        blinded_node_id: hop.blinded_node_id,
        encrypted_payload: hop.encrypted_recipient_data.clone(),
    }
}

fn fulfilled(return_paths: &[ReturnPath]) -> Option<AttributionData> {
    let back = return_paths.iter().enumerate().rev();
    back.fold(None, |data, (hop, return_path)| return_path.fulfil(data.as_ref(), held(hop)))
}

/// What comes to LDK when hop `from` fails.
fn failed(return_paths: &[ReturnPath], from: usize, failure: &Failure) -> Answer {
    let first = return_paths[from].fail(failure, held(from));
    (0..from).rev().fold(first, |answer, hop| match answer {
        Answer::Fail { reason, attribution_data } => {
            return_paths[hop].pass_on(&reason, attribution_data.as_ref(), held(hop))
        }
        Answer::Malformed { sha256_of_onion, failure_code } => {
            return_paths[hop].pass_on_malformed(failure_code, sha256_of_onion, held(hop))
        }
    })
}

fn all_held(hops: usize) -> Vec<u32> {
    (0..hops).map(|hop| held(hop).units()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_reads_what_hops_of_ours_send_back() {
    let mut world = World::ldk_opens(true).await;
    // How many hops behind ours, and how many of them on a blinded path: up to as many as fit into an onion.
    let routes = [(0, None), (1, None), (4, None), (18, None), (0, Some(0)), (3, Some(0)), (3, Some(2)), (3, Some(3))];
    for (case, (behind, blinded)) in routes.into_iter().enumerate() {
        let byte = 1 + 2 * case as u8;
        // Behind the introduction point nobody is told of.
        let told = 1 + behind - blinded.unwrap_or(0);
        world.ldk_pays_over(behind, blinded, byte);
        let offer = world.htlc_of_ldk().await;
        let walk = world.walk(&offer);
        assert_eq!(walk.return_paths.len(), behind + 1);
        let data = walk.receiving.payload.payment_data.expect("the payee knows its secret");
        assert_eq!((data.payment_secret, data.total_msat.msat()), ([0x55; 32], AMOUNT));
        assert_eq!(walk.receiving.path_id.is_some(), blinded.is_some());
        let attribution_data = fulfilled(&walk.return_paths);
        let preimage = Preimage([byte; 32]);
        world.ours.command(Command::FulfillHtlc { id: offer.id, preimage, attribution_data });
        match world.outcome(byte).await {
            Event::PaymentPathSuccessful { hold_times, .. } => assert_eq!(hold_times, all_held(told), "{case}"),
            other => panic!("{other:?}"),
        }

        for from in [0, behind / 2, behind] {
            let byte = 100 + 3 * case as u8 + u8::from(from > 0) + u8::from(from > behind / 2);
            if world.ldk.events.iter().any(|event| matches!(event, Event::PaymentPathFailed { payment_id: Some(PaymentId(id)), .. } if id[0] == byte)) {
                continue;
            }
            world.ldk_pays_over(behind, blinded, byte);
            let offer = world.htlc_of_ldk().await;
            let walk = world.walk(&offer);
            let failure = if from == behind {
                let height = BlockHeight::new(HEIGHT);
                Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat::new(AMOUNT), height }
            } else {
                Failure::TemporaryChannelFailure { update: None }
            };
            world.answer(offer.id, failed(&walk.return_paths, from, &failure));
            let Event::PaymentPathFailed { hold_times, short_channel_id, payment_failed_permanently, .. } =
                world.outcome(byte).await
            else {
                panic!("it failed");
            };
            // Of a path of several hops LDK does not look at what the introduction point says.
            let from_path = blinded.is_some_and(|blinded| blinded > 0) && from >= told - 1;
            let read = if from_path { told - 1 } else { told.min(from + 1) };
            assert_eq!(hold_times, all_held(read), "hop {from} of case {case}");
            if blinded.is_none() {
                assert_eq!(payment_failed_permanently, from == behind, "hop {from} of case {case}");
            }
            if from < told - 1 {
                // LDK blames the channel behind the hop that failed.
                assert_eq!(short_channel_id, Some(from as u64 + 1), "hop {from} of case {case}");
            }
        }
        world.until("all is settled", World::level).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_finds_who_garbled() {
    let mut world = World::ldk_opens(true).await;
    for liar in 0..4 {
        let byte = 1 + liar as u8;
        world.ldk_pays_over(5, None, byte);
        let offer = world.htlc_of_ldk().await;
        let walk = world.walk(&offer);
        let behind = walk.return_paths[liar + 1].fail(&Failure::TemporaryNodeFailure, held(liar + 1));
        let Answer::Fail { mut reason, attribution_data } = behind else { panic!("it fails") };
        reason[40] ^= 1;
        let passed_on = walk.return_paths[liar].pass_on(&reason, attribution_data.as_ref(), held(liar));
        let answer = (0..liar).rev().fold(passed_on, |answer, hop| match answer {
            Answer::Fail { reason, attribution_data } => {
                walk.return_paths[hop].pass_on(&reason, attribution_data.as_ref(), held(hop))
            }
            malformed => malformed,
        });
        world.answer(offer.id, answer);
        let Event::PaymentPathFailed { hold_times, short_channel_id, .. } = world.outcome(byte).await else {
            panic!("it failed");
        };
        // LDK 0.2.7 writes whom it blames into its log only; what it believes ends where the liar is.
        assert_eq!(hold_times, all_held(liar + 1));
        assert_eq!(short_channel_id, None);
    }
}

/// What LDK answers to an HTLC of ours.
enum Reply {
    Preimage(Option<AttributionData>),
    Failed(OutgoingFailure),
}

impl World {
    async fn reply(&mut self, id: HtlcId) -> Reply {
        let of = move |effect: &&Effect| match effect {
            Effect::OutgoingFulfilled { id: it, .. } | Effect::OutgoingFailed { id: it, .. } => *it == id,
            _ => false,
        };
        self.until("LDK's answer", move |world| world.ours.effects.iter().any(|effect| of(&effect))).await;
        match self.ours.effects.iter().find(of).expect("it is there") {
            Effect::OutgoingFulfilled { attribution_data, .. } => Reply::Preimage(attribution_data.clone()),
            Effect::OutgoingFailed { failure, .. } => Reply::Failed(failure.clone()),
            _ => unreachable!("nothing else was looked for"),
        }
    }

    /// The last HTLC of a route, to LDK.
    fn send_to_ldk(&mut self, payment_hash: PaymentHash, forwarding: &Forwarding) -> HtlcId {
        let id = self.ours.channel().commitments().expect("funded").next_outgoing;
        self.ours.command(Command::AddHtlc {
            amount: forwarding.amt_to_forward,
            payment_hash,
            cltv_expiry: forwarding.outgoing_cltv_value,
            onion: forwarding.onion.clone(),
            path_key: forwarding.path_key,
        });
        id
    }
}

/// Hops of ours up to LDK open an onion.
fn walk_to_ldk(
    hops: &[Hop],
    count: usize,
    hash: PaymentHash,
    first: (u64, u32),
) -> (Vec<ReturnPath>, Vec<SharedSecret>, Forwarding) {
    let session_key = SecretKey::from_slice(&hash.0).expect("a key");
    let (mut onion, secrets) = build(hops, &session_key, &hash).expect("it fits");
    let (mut amount, mut cltv_expiry, mut path_key) = (Msat::new(first.0), CltvExpiry::new(first.1), None);
    let mut return_paths = Vec::new();
    for hop in 0..count {
        let incoming =
            Incoming { onion: &onion, payment_hash: &hash, amount, cltv_expiry, path_key: path_key.as_ref() };
        let Opened::Forward(forwarding) = open(&incoming, |point| Ecdh::new(point, &hop_key(hop))) else {
            panic!("hop {hop} forwards");
        };
        return_paths.push(forwarding.return_path.clone());
        if hop + 1 == count {
            return (return_paths, secrets, *forwarding);
        }
        (amount, cltv_expiry) = (forwarding.amt_to_forward, forwarding.outgoing_cltv_value);
        (onion, path_key) = (forwarding.onion, forwarding.path_key);
    }
    panic!("at least one hop is ours")
}

/// The hops of ours before LDK, none of them on a blinded path.
fn forward_hops(count: usize, expiry: u32) -> Vec<Hop> {
    (0..count)
        .map(|hop| {
            let payload = HopPayload::from(ForwardPayload {
                amt_to_forward: Msat::new(AMOUNT),
                outgoing_cltv_value: CltvExpiry::new(expiry),
                short_channel_id: ShortChannelId::from_u64(hop as u64),
            });
            Hop { node_id: hop_id(hop), payload: payload.encode() }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_read_what_ldk_sends_back_over_hops_of_ours() {
    let mut world = World::we_open(true).await;
    let expiry = HEIGHT + 6 + 80;
    for (count, is_known) in [(1, true), (3, true), (19, true), (1, false), (3, false), (19, false)] {
        let (hash, secret) = world.ldk.channels.create_inbound_payment(Some(AMOUNT), 3_600, None).expect("an invoice");
        let secret = if is_known { secret.0 } else { [0; 32] };
        let mut hops = forward_hops(count, expiry);
        let payload = HopPayload {
            amt_to_forward: Some(Msat::new(AMOUNT)),
            outgoing_cltv_value: Some(CltvExpiry::new(expiry)),
            payment_data: Some(PaymentData { payment_secret: secret, total_msat: Msat::new(AMOUNT) }),
            ..HopPayload::default()
        };
        hops.push(Hop { node_id: world.ldk.node_id.0, payload: payload.encode() });
        let payment_hash = PaymentHash(hash.0);
        let (return_paths, secrets, last) = walk_to_ldk(&hops, count, payment_hash, (AMOUNT, expiry));
        let id = world.send_to_ldk(payment_hash, &last);
        let mut expected = all_held(count);
        match world.reply(id).await {
            Reply::Preimage(data) => {
                assert!(is_known);
                let theirs = data.expect("LDK sends attribution data");
                let back = return_paths.iter().enumerate().rev();
                let data = back.fold(theirs, |data, (hop, path)| path.fulfil(Some(&data), held(hop)).expect("told"));
                let times = units(&read_fulfil(&secrets, &data));
                expected.extend(times.get(count).filter(|time| **time < 100));
                assert_eq!(times, expected, "LDK's is below ten seconds");
                assert_eq!(times.len(), count + 1);
            }
            Reply::Failed(OutgoingFailure::Failed { reason, attribution_data }) => {
                assert!(!is_known);
                let theirs = Answer::Fail { reason, attribution_data };
                let back = return_paths.iter().enumerate().rev();
                let answer = back.fold(theirs, |answer, (hop, path)| match answer {
                    Answer::Fail { reason, attribution_data } => {
                        path.pass_on(&reason, attribution_data.as_ref(), held(hop))
                    }
                    malformed => malformed,
                });
                let Answer::Fail { reason, attribution_data } = answer else { panic!("it fails") };
                let read = failure::read(&secrets, &reason, attribution_data.as_ref()).expect("it is LDK's");
                assert_eq!(read.hop, count);
                assert!(matches!(read.failure, Failure::IncorrectOrUnknownPaymentDetails { .. }), "{:?}", read.failure);
                let times = units(&read.hold_times);
                expected.extend(times.get(count).filter(|time| **time < 100));
                assert_eq!((times.len(), times), (count + 1, expected));
            }
            Reply::Failed(other) => panic!("{other:?}"),
        }
    }
}

/// A path that LDK made to itself over `count` hops of ours.
fn ldk_path(world: &World, count: usize, secret: PaymentSecret) -> (BlindedPath, ldk::BlindedPaymentPath) {
    let keys = KeysManager::new(&[42; 32], 1, 2, false);
    let constraints = ldk::PaymentConstraints { max_cltv_expiry: HEIGHT + 1_000, htlc_minimum_msat: 1 };
    let tlvs = ldk::UnauthenticatedReceiveTlvs {
        payment_secret: secret,
        payment_constraints: constraints.clone(),
        payment_context: ldk::PaymentContext::Bolt12Refund(ldk::Bolt12RefundContext {}),
    };
    let tlvs = tlvs.authenticate(Nonce::from_entropy_source(&keys), &keys.get_expanded_key());
    let nodes: Vec<_> = (0..count)
        .map(|hop| ldk::PaymentForwardNode {
            tlvs: ldk::ForwardTlvs {
                short_channel_id: hop as u64,
                payment_relay: ldk::PaymentRelay {
                    cltv_expiry_delta: DELTA,
                    fee_proportional_millionths: 4_321,
                    fee_base_msat: 765,
                },
                payment_constraints: constraints.clone(),
                features: BlindedHopFeatures::empty(),
                next_blinding_override: None,
            },
            node_id: hop_id(hop),
            htlc_maximum_msat: u64::MAX,
        })
        .collect();
    let theirs = ldk::BlindedPaymentPath::new(&nodes, world.ldk.node_id.0, tlvs, u64::MAX, 42, &keys, SECP256K1);
    let theirs = theirs.expect("a path");
    let path = BlindedPath {
        first_node_id: NodeId(if count == 0 { world.ldk.node_id.0 } else { hop_id(0) }),
        first_path_key: theirs.blinding_point(),
        hops: theirs
            .blinded_hops()
            .iter()
            .map(|hop| BlindedHop {
                blinded_node_id: hop.blinded_node_id,
                encrypted_recipient_data: hop.encrypted_payload.clone(),
            })
            .collect(),
    };
    (path, theirs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_is_paid_along_its_own_path() {
    let mut world = World::we_open(true).await;
    for (count, is_enough) in [(1, true), (2, true), (3, true), (1, false), (2, false)] {
        let (hash, secret) = world.ldk.channels.create_inbound_payment(Some(AMOUNT), 3_600, None).expect("an invoice");
        let (path, theirs) = ldk_path(&world, count, secret);
        let amount = if is_enough { AMOUNT } else { AMOUNT - 1 };
        let expiry = HEIGHT + 6 + 42;
        let hops = path.onion_hops(BlindedLast {
            amt_to_forward: Msat::new(amount),
            outgoing_cltv_value: CltvExpiry::new(expiry),
            total_amount_msat: Msat::new(amount),
        });
        let terms = PathTerms {
            fee_base_msat: theirs.payinfo.fee_base_msat,
            fee_proportional_millionths: theirs.payinfo.fee_proportional_millionths,
            cltv_expiry_delta: CltvDelta::new(theirs.payinfo.cltv_expiry_delta),
            htlc_minimum_msat: Msat::new(theirs.payinfo.htlc_minimum_msat),
            htlc_maximum_msat: Msat::new(theirs.payinfo.htlc_maximum_msat),
        };
        let first_amount = amount + terms.fee(Msat::new(amount)).expect("a fee").msat();
        let first = (first_amount, HEIGHT + 6 + u32::from(terms.cltv_expiry_delta.blocks()));
        let payment_hash = PaymentHash(hash.0);
        let (return_paths, secrets, last) = walk_to_ldk(&hops, count, payment_hash, first);
        assert!(return_paths[0].is_introduction());
        let id = world.send_to_ldk(payment_hash, &last);
        match world.reply(id).await {
            Reply::Preimage(_) => {
                assert!(is_enough);
                let data = return_paths[0].fulfil(None, held(0)).expect("told");
                assert_eq!(units(&read_fulfil(&secrets, &data)), all_held(1));
            }
            Reply::Failed(OutgoingFailure::Malformed { sha256_of_onion, failure_code }) => {
                assert!(!is_enough);
                assert_eq!(failure_code, 0xc018);
                let theirs = Answer::Malformed { sha256_of_onion, failure_code };
                let back = return_paths.iter().enumerate().rev();
                let answer = back.fold(theirs, |answer, (hop, path)| match answer {
                    Answer::Malformed { sha256_of_onion, failure_code } => {
                        path.pass_on_malformed(failure_code, sha256_of_onion, held(hop))
                    }
                    failed => failed,
                });
                let Answer::Fail { reason, attribution_data } = answer else { panic!("the introduction point fails") };
                let read = failure::read(&secrets, &reason, attribution_data.as_ref()).expect("it is readable");
                assert_eq!((read.hop, units(&read.hold_times)), (0, all_held(1)));
                assert!(matches!(read.failure, Failure::InvalidOnionBlinding { .. }));
            }
            Reply::Failed(other) => panic!("{other:?}"),
        }
    }
}
