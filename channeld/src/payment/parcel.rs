//! What goes into the HTLC of one part of a payment: its worth, its expiry, and an onion for every hop (BOLT 4).

use secp256k1::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

use crate::graph::{BlindedTail, Route};
use crate::onion::{
    self, BlindedLast, BlindedPath, BuildError, FinalPayload, ForwardPayload, Hop, HopPayload, PaymentData,
    SharedSecret,
};
use crate::units::{BlockHeight, CltvExpiry, Msat, NodeId, PaymentHash, Preimage};
use crate::wire::OnionRoutingPacket;

/// What shows the payee that the payment is meant for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The secret of its invoice (BOLT 11 `s`).
    pub payment_secret: Option<[u8; 32]>,
    /// The invoice's `m`.
    pub metadata: Option<Vec<u8>>,
    /// The preimage itself, where there is no invoice.
    pub preimage: Option<Preimage>,
    /// Custom records: types from 65,536 on, odd, rising.
    pub custom_records: Vec<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proof({})", if self.preimage.is_some() { "keysend" } else { "invoice" })
    }
}

impl Proof {
    /// Of an invoice.
    pub const fn invoice(payment_secret: [u8; 32], metadata: Option<Vec<u8>>) -> Proof {
        Proof { payment_secret: Some(payment_secret), metadata, preimage: None, custom_records: Vec::new() }
    }

    /// Of a payment along blinded paths: what the payee knows it by is inside of each path (BOLT 4).
    pub const fn blinded() -> Proof {
        Proof { payment_secret: None, metadata: None, preimage: None, custom_records: Vec::new() }
    }

    /// Of a payment without one.
    pub const fn keysend(preimage: Preimage) -> Proof {
        Proof { payment_secret: None, metadata: None, preimage: Some(preimage), custom_records: Vec::new() }
    }

    /// What the payee finds in its onion.
    fn payload(&self, total: Msat, amount: Msat, cltv_expiry: CltvExpiry) -> Vec<u8> {
        let payload = FinalPayload {
            amt_to_forward: amount,
            outgoing_cltv_value: cltv_expiry,
            payment_data: self.payment_secret.map(|payment_secret| PaymentData { payment_secret, total_msat: total }),
            payment_metadata: self.metadata.clone(),
            keysend_preimage: self.preimage,
            custom_records: self.custom_records.clone(),
        };
        HopPayload::from(payload).encode()
    }

    /// What the payee's payload takes in an onion, in bytes: with its length and HMAC.
    pub fn payload_length(&self) -> u32 {
        let payload = self.payload(Msat::new(u64::MAX), Msat::new(u64::MAX), CltvExpiry::new(u32::MAX));
        let prefix = crate::wire::codec::bigsize_length(payload.len() as u64);
        u32::try_from(payload.len() + prefix + 32).unwrap_or(u32::MAX)
    }
}

/// What goes into `update_add_htlc`, and what is kept to read a failure.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What the HTLC is worth.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// For the first hop.
    pub onion: OnionRoutingPacket,
    /// Likewise, where the first hop is inside a blinded path already.
    pub path_key: Option<PublicKey>,
    /// What we share with each hop.
    pub secrets: Vec<SharedSecret>,
}

/// Why a part cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The onion cannot be built: the payee's metadata or records are too long for it, for one.
    #[error("no onion can be built: {0}")]
    Onion(#[from] BuildError),
}

impl Parcel {
    /// One part along `route`, of a payment that comes to `total`. `session_key` must be random and never used twice.
    ///
    /// # Errors
    /// A route that no onion can be built for.
    pub fn pack(
        route: &Route,
        height: BlockHeight,
        payment_hash: PaymentHash,
        total: Msat,
        proof: &Proof,
        session_key: &SecretKey,
    ) -> Result<Parcel, PackError> {
        let expiry = |cltv_delta: u32| CltvExpiry::new(height.height().saturating_add(cltv_delta));
        let first = route.hops.first().ok_or(BuildError::NoHop)?;
        let mut hops = Vec::with_capacity(route.hops.len());
        for (hop, next) in route.hops.iter().zip(route.hops.iter().skip(1)) {
            let payload = HopPayload::from(ForwardPayload {
                amt_to_forward: next.amount,
                outgoing_cltv_value: expiry(next.cltv_delta),
                short_channel_id: next.short_channel_id,
            });
            hops.push(Hop { node_id: hop.node_id.0, payload: payload.encode() });
        }
        let last = route.hops.last().ok_or(BuildError::NoHop)?;
        match &route.blinded_tail {
            None => {
                let payload = proof.payload(total, last.amount, expiry(last.cltv_delta));
                hops.push(Hop { node_id: last.node_id.0, payload });
            }
            Some(tail) => hops.extend(blinded_hops(tail, last.node_id, total, expiry(tail.cltv_delta))),
        }
        let (onion, secrets) = onion::build(&hops, session_key, &payment_hash)?;
        let path_key = route.blinded_tail.as_ref().filter(|tail| tail.is_entered).map(|tail| tail.first_path_key);
        let cltv_expiry = expiry(first.cltv_delta);
        Ok(Parcel { amount: first.amount, payment_hash, cltv_expiry, onion, path_key, secrets })
    }
}

/// What the hops of a blinded path find: what the payee wrote for each, and at the end what this part is.
fn blinded_hops(tail: &BlindedTail, first: NodeId, total: Msat, outgoing_cltv_value: CltvExpiry) -> Vec<Hop> {
    let path = BlindedPath { first_node_id: first, first_path_key: tail.first_path_key, hops: tail.hops.clone() };
    let last = BlindedLast { amt_to_forward: tail.amount, outgoing_cltv_value, total_amount_msat: total };
    if tail.is_entered { path.onion_hops_inside(last) } else { path.onion_hops(last) }
}

#[cfg(test)]
mod tests {
    use secp256k1::SECP256K1;

    use super::*;
    use crate::graph::RouteHop;
    use crate::onion::{OnionPacket, Payload, peel};
    use crate::units::ShortChannelId;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).expect("a key")
    }

    fn route(hops: &[(u8, u64, u32)]) -> Route {
        let hops = hops.iter().map(|(node, msat, cltv_delta)| RouteHop {
            node_id: NodeId(key(*node).public_key(SECP256K1)),
            short_channel_id: ShortChannelId::from_u64(u64::from(*node)),
            amount: Msat::new(*msat),
            cltv_delta: *cltv_delta,
        });
        Route { hops: hops.collect(), blinded_tail: None }
    }

    #[test]
    fn each_hop_finds_what_it_is_to_send_on() {
        let route = route(&[(1, 1_020, 100), (2, 1_010, 60), (3, 1_000, 20)]);
        let hash = PaymentHash([9; 32]);
        let proof = Proof::invoice([7; 32], Some(vec![1, 2]));
        let parcel =
            Parcel::pack(&route, BlockHeight::new(500), hash, Msat::new(3_000), &proof, &key(8)).expect("it fits");
        assert_eq!((parcel.amount, parcel.cltv_expiry), (Msat::new(1_020), CltvExpiry::new(600)));
        let mut onion = parcel.onion;
        for (node, secret) in [1, 2].into_iter().zip(&parcel.secrets) {
            let packet = OnionPacket::parse(onion).expect("an onion");
            let peeled = peel(&packet, &hash, secret).expect("it opens");
            let payload = HopPayload::read(&peeled.payload.expect("a payload"), false).expect("it reads");
            let next = &route.hops[node];
            let expected = ForwardPayload {
                amt_to_forward: next.amount,
                outgoing_cltv_value: CltvExpiry::new(500 + next.cltv_delta),
                short_channel_id: next.short_channel_id,
            };
            assert_eq!(payload, Payload::Forward(expected));
            onion = peeled.next.expect("more hops");
        }
        let packet = OnionPacket::parse(onion).expect("an onion");
        let peeled = peel(&packet, &hash, &parcel.secrets[2]).expect("it opens");
        assert!(peeled.is_final());
        let Payload::Final(last) = HopPayload::read(&peeled.payload.expect("a payload"), true).expect("it reads")
        else {
            panic!("the last hop")
        };
        assert_eq!((last.amt_to_forward, last.outgoing_cltv_value), (Msat::new(1_000), CltvExpiry::new(520)));
        assert_eq!(last.payment_data.map(|data| data.total_msat), Some(Msat::new(3_000)));
    }

    #[test]
    fn what_does_not_fit_is_said_before_it_is_sent() {
        let proof = Proof { custom_records: vec![(65_537, vec![0; 1_300])], ..Proof::keysend(Preimage([1; 32])) };
        let packed = Parcel::pack(
            &route(&[(1, 1_000, 20)]),
            BlockHeight::new(1),
            PaymentHash([9; 32]),
            Msat::new(1_000),
            &proof,
            &key(8),
        );
        assert_eq!(packed.err(), Some(PackError::Onion(BuildError::TooLong)));
        assert!(proof.payload_length() > 1_300);
    }

    #[test]
    fn a_proof_is_not_printed() {
        let shown = format!("{:?}", Proof::invoice([7; 32], None));
        assert_eq!(shown, "Proof(invoice)");
    }
}
