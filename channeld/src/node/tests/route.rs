//! Payments along a route that a test makes by hand: the payer's part of what the node does by itself.

use secp256k1::SecretKey;

use super::world::World;
use crate::channel::{self, Command};
use crate::onion::{self, FinalPayload, ForwardPayload, Hop, HopPayload, PaymentData};
use crate::payment::forward::ForwardingPolicy;
use crate::payment::receive::Invoice;
use crate::units::{ChannelId, CltvExpiry, HtlcId, Msat, PaymentHash, Preimage, ShortChannelId};
use crate::wire::Message;

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
    send_along(world, payer, legs[0], &hops(world, legs, proof), (proof.hash(), session_key(key)));
}

/// Sends an onion of these hops over the first leg's channel, with this hash and session key.
pub fn send_along(world: &mut World, payer: usize, first: Leg, hops: &[Hop], (hash, key): (PaymentHash, SecretKey)) {
    let (onion, secrets) = onion::build(hops, &key, &hash).expect("an onion");
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
    world.sent_by_hand(payer, first.channel, htlc_id, secrets);
    world.settle(payer);
}

/// What the payer hears of what was sent last: the preimage, or the code of a failure.
pub fn answer(world: &World) -> Option<Result<Preimage, u16>> {
    let trip = world.trips.last().expect("something was sent");
    let is_it = |channel_id: ChannelId, id: HtlcId| (channel_id, id) == (trip.channel, trip.id);
    world.answers.iter().rev().filter(|(to, _)| *to == trip.payer).find_map(|(_, message)| match message {
        Message::UpdateFulfillHtlc(message) if is_it(message.channel_id, message.id) => {
            Some(Ok(message.payment_preimage))
        }
        Message::UpdateFailMalformedHtlc(message) if is_it(message.channel_id, message.id) => {
            Some(Err(message.failure_code))
        }
        Message::UpdateFailHtlc(message) if is_it(message.channel_id, message.id) => {
            let data = message.attribution_data.as_ref();
            let failed = onion::failure::read(&trip.secrets, &message.reason, data).expect("it is read");
            Some(Err(failed.failure.code()))
        }
        _ => None,
    })
}

pub fn session_key(key: u8) -> SecretKey {
    SecretKey::from_slice(&[key; 32]).expect("a key")
}

pub fn hops(world: &World, legs: &[Leg], proof: &Proof) -> Vec<Hop> {
    let mut hops = Vec::new();
    for (at, leg) in legs.iter().enumerate() {
        let payload: HopPayload = match legs.get(at + 1) {
            Some(next) => {
                let channel = world.members[leg.to].node.state().channels.get(&next.channel);
                let name = channel.and_then(|entry| entry.names().last());
                HopPayload::from(ForwardPayload {
                    amt_to_forward: Msat::new(next.amount),
                    outgoing_cltv_value: CltvExpiry::new(next.expiry),
                    short_channel_id: name.unwrap_or(ShortChannelId::from_u64(1)),
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
