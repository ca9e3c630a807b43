//! Payments along a route that a test makes by hand: the payer's part of what the node does by itself.

use secp256k1::SecretKey;

use super::world::World;
use crate::channel::{self, Command};
use crate::graph::{Route, RouteHop};
use crate::node::state::change::Change;
use crate::onion::{self, FinalPayload, ForwardPayload, Hop, HopPayload, PaymentData};
use crate::payment::forward::ForwardingPolicy;
use crate::payment::parcel;
use crate::payment::receive::Invoice;
use crate::payment::send::{Attempt, AttemptStatus, Payment, PaymentKind, PaymentStatus, Terms};
use crate::units::{ChannelId, CltvExpiry, Msat, PaymentHash, Preimage, ShortChannelId, UnixTime};

/// What goes over one channel.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    pub channel: ChannelId,
    /// The node at its end.
    pub to: usize,
    pub amount: u64,
    pub expiry: u32,
}

/// A route of the first node of a line to the last, as its hops ask for it.
pub fn line_route(world: &World, channels: &[ChannelId], amount: u64) -> Vec<Leg> {
    let policy = ForwardingPolicy::default();
    let height = world.members[0].node.state().height().height();
    let (mut amount, mut expiry) = (amount, height + 21);
    let mut legs = Vec::new();
    for (at, channel) in channels.iter().enumerate().rev() {
        legs.push(Leg { channel: *channel, to: at + 1, amount, expiry });
        amount += policy.fee(Msat::new(amount)).expect("a fee").msat();
        expiry += u32::from(policy.cltv_expiry_delta.blocks());
    }
    legs.reverse();
    legs
}

/// What the payee is shown.
#[derive(Clone)]
pub enum Proof {
    Keysend(Preimage),
    Invoice { hash: PaymentHash, secret: [u8; 32], total: u64 },
}

impl Proof {
    pub fn of(invoice: &Invoice) -> Proof {
        let total = invoice.amount.expect("an amount").msat();
        Proof::Invoice { hash: invoice.payment_hash, secret: invoice.payment_secret, total }
    }

    pub fn hash(&self) -> PaymentHash {
        match self {
            Proof::Keysend(preimage) => preimage.payment_hash(),
            Proof::Invoice { hash, .. } => *hash,
        }
    }
}

pub fn preimage(seed: u8) -> Preimage {
    Preimage([seed; 32])
}

/// Sends along these legs from the first node; each call of a hash after the first is one more part.
pub fn send(world: &mut World, legs: &[Leg], proof: &Proof, key: u8) {
    send_from(world, 0, legs, proof, key);
}

pub fn send_from(world: &mut World, payer: usize, legs: &[Leg], proof: &Proof, key: u8) {
    let hash = proof.hash();
    let (onion, secrets) = onion::build(&hops(world, payer, legs, proof), &session_key(key), &hash).expect("an onion");
    let first = legs[0];
    let last = legs[legs.len() - 1];
    let now = world.now();
    let node = &mut world.members[payer].node;
    let commitments = node.state().channels[&first.channel].channel.commitments().expect("funded");
    let htlc_id = commitments.next_outgoing;
    let command = Command::AddHtlc {
        amount: Msat::new(first.amount),
        payment_hash: hash,
        cltv_expiry: CltvExpiry::new(first.expiry),
        onion,
        path_key: None,
    };
    node.drive(first.channel, channel::Input::Command(command)).expect("the payer can pay");
    let attempt = Attempt {
        channel: first.channel,
        htlc_id,
        started: now,
        deadline_height: first.expiry + 6,
        secrets,
        route: route(world, legs),
        status: AttemptStatus::Pending,
        hold_times: Vec::new(),
    };
    let node = &mut world.members[payer].node;
    if node.state().payments.contains_key(&hash) {
        node.change(Change::PaymentAttempted { payment_hash: hash, attempt });
    } else {
        let payment = Payment {
            index: node.state().head.payments + 1,
            payment_hash: hash,
            destination: crate::units::NodeId(hops(world, payer, legs, proof).last().expect("a hop").node_id),
            amount: Msat::new(last.amount),
            kind: PaymentKind::Keysend,
            created: now,
            status: PaymentStatus::InFlight,
            given_up: None,
            terms: terms(now),
            attempts: vec![attempt],
        };
        world.members[payer].node.change(Change::PaymentAdded(Box::new(payment)));
    }
    world.settle(payer);
}

fn route(world: &World, legs: &[Leg]) -> Route {
    let hop = |leg: &Leg| RouteHop {
        node_id: world.id(leg.to),
        short_channel_id: ShortChannelId::from_u64(1),
        amount: Msat::new(leg.amount),
        cltv_delta: 0,
    };
    Route { hops: legs.iter().map(hop).collect(), blinded_tail: None }
}

/// No time is left: what fails is not tried again.
fn terms(now: UnixTime) -> Terms {
    Terms {
        proof: parcel::Proof::keysend(Preimage([0; 32])),
        final_cltv_delta: 21,
        shadow: 0,
        hints: Vec::new(),
        max_fee: Msat::ZERO,
        max_cltv_delta: 2_016,
        max_parts: 64,
        until: now,
        channel: None,
    }
}

fn session_key(key: u8) -> SecretKey {
    SecretKey::from_slice(&[key; 32]).expect("a key")
}

fn hops(world: &World, payer: usize, legs: &[Leg], proof: &Proof) -> Vec<Hop> {
    let _ = payer;
    let mut hops = Vec::new();
    for (at, leg) in legs.iter().enumerate() {
        let payload: HopPayload = match legs.get(at + 1) {
            Some(next) => {
                let channel = world.members[leg.to].node.state().channels.get(&next.channel);
                let name = channel.and_then(|entry| entry.names().last());
                HopPayload::from(ForwardPayload {
                    amt_to_forward: Msat::new(next.amount),
                    outgoing_cltv_value: CltvExpiry::new(next.expiry),
                    short_channel_id: name.unwrap_or(crate::units::ShortChannelId::from_u64(1)),
                })
            }
            None => final_payload(leg, proof).into(),
        };
        hops.push(Hop { node_id: world.id(leg.to).0, payload: payload.encode() });
    }
    hops
}

fn final_payload(leg: &Leg, proof: &Proof) -> FinalPayload {
    let (payment_data, keysend_preimage) = match proof {
        Proof::Keysend(preimage) => (None, Some(*preimage)),
        Proof::Invoice { secret, total, .. } => {
            (Some(PaymentData { payment_secret: *secret, total_msat: Msat::new(*total) }), None)
        }
    };
    FinalPayload {
        amt_to_forward: Msat::new(leg.amount),
        outgoing_cltv_value: CltvExpiry::new(leg.expiry),
        payment_data,
        payment_metadata: None,
        keysend_preimage,
        custom_records: Vec::new(),
    }
}
