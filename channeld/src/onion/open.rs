//! An HTLC's onion opened at a hop: what the hop is to do with it, or how it is refused. The curve work is here and needs
//! nothing of a node but its ECDH, so that it can be done beside the node's thread.

use secp256k1::{PublicKey, SECP256K1, ecdh};

use super::answer::{Place, ReturnPath};
use super::blinding::{self, EncryptedData};
use super::cipher::SharedSecret;
use super::error::{BadOnion, BlindingError, InvalidPayload, sha256_of_onion};
use super::failure::Failure;
use super::packet::{OnionPacket, Peeled, peel};
use super::payload::{
    AMT_TO_FORWARD, BlindedLast, BlindedPayload, CURRENT_PATH_KEY, ENCRYPTED_RECIPIENT_DATA, FinalPayload, Payload,
    PaymentData, Records,
};
use crate::units::{CltvExpiry, Msat, NodeId, PaymentHash, ShortChannelId};
use crate::wire::OnionRoutingPacket;

/// An incoming HTLC, as far as its onion is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// `onion_routing_packet`.
    pub onion: &'a OnionRoutingPacket,
    /// What the onion is bound to.
    pub payment_hash: &'a PaymentHash,
    /// `amount_msat`.
    pub amount: Msat,
    /// `cltv_expiry`.
    pub cltv_expiry: CltvExpiry,
    /// TLV 0 of `update_add_htlc`: the HTLC comes along a blinded path.
    pub path_key: Option<&'a PublicKey>,
}

/// An onion that was opened, or why it was not.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// The payment goes on.
    Forward(Box<Forwarding>),
    /// The payment is for this node.
    Final(Box<Receiving>),
    /// It is failed with what [`ReturnPath::fail`] makes of the failure.
    Failed(Failure, ReturnPath),
    /// It is answered by `update_fail_malformed_htlc`.
    Malformed {
        /// SHA-256 of the onion as it came.
        sha256_of_onion: [u8; 32],
        /// BOLT 4, with the bit BADONION.
        failure_code: u16,
    },
}

/// What a hop in the middle sends on. The hop still holds it against its own fees, deltas and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Over which channel, or to whom.
    pub next: NextHop,
    /// How much: what the payer said, or what a blinded path's terms leave.
    pub amt_to_forward: Msat,
    /// With which expiry: likewise.
    pub outgoing_cltv_value: CltvExpiry,
    /// The onion for the next hop.
    pub onion: OnionRoutingPacket,
    /// `path_key` for the next hop, on a blinded path.
    pub path_key: Option<PublicKey>,
    /// For the answer.
    pub return_path: ReturnPath,
}

/// Where an HTLC goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Over this channel, or any other with the same peer.
    ShortChannelId(ShortChannelId),
    /// To this peer.
    NodeId(NodeId),
}

/// What the payee finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiving {
    /// What the payer says. From a blinded path of ours `payment_data` is made of the path's `path_id`, which then is the
    /// invoice's payment secret if it has 32 bytes, and of `total_amount_msat`.
    pub payload: FinalPayload,
    /// What we put into the blinded path that it came along; `None` where it came along none.
    pub path_id: Option<Vec<u8>>,
    /// For the answer.
    pub return_path: ReturnPath,
}

impl Opened {
    /// For the answer; `None` where it is malformed.
    pub fn return_path(&self) -> Option<&ReturnPath> {
        match self {
            Opened::Forward(forwarding) => Some(&forwarding.return_path),
            Opened::Final(receiving) => Some(&receiving.return_path),
            Opened::Failed(_, return_path) => Some(return_path),
            Opened::Malformed { .. } => None,
        }
    }
}

/// Opens the onion of an incoming HTLC. `ecdh` is that of the node key: SHA-256 of the compressed product with a point.
pub fn open(incoming: &Incoming<'_>, ecdh: impl Fn(&PublicKey) -> ecdh::SharedSecret) -> Opened {
    let shared = match Shared::with_payer(incoming, &ecdh) {
        Ok(shared) => shared,
        Err(bad) => return malformed(incoming, bad),
    };
    let Peeled { payload, next } = match peel(&shared.packet, incoming.payment_hash, &shared.secret) {
        Ok(peeled) => peeled,
        Err(bad) => return malformed(incoming, bad),
    };
    let records = payload.map(|bytes| Records::read(&bytes));
    let names_path = records.as_ref().is_ok_and(|records| records.payload.current_path_key.is_some());
    // BOLT 4: with a path key in the payload, a hop that is not the final one has one answer to all that goes wrong.
    let place = match (incoming.path_key, &next) {
        (Some(_), _) => Place::Inside,
        (None, Some(_)) if names_path => Place::Introduction,
        (None, _) => Place::Plain,
    };
    let return_path = ReturnPath::new(shared.secret.clone(), sha256_of_onion(incoming.onion), place);
    let payload = records.and_then(|records| records.into_payload(next.is_none())).map_err(BlindingError::from);
    let read = payload.and_then(|payload| read_payload(incoming, shared.path, payload, next, &return_path, &ecdh));
    read.unwrap_or_else(|error| refuse(incoming, error, return_path))
}

/// What a hop shares with the payer, and with the payee where the HTLC comes along a blinded path.
struct Shared {
    packet: OnionPacket,
    secret: SharedSecret,
    path: Option<(PublicKey, SharedSecret)>,
}

impl Shared {
    fn with_payer(
        incoming: &Incoming<'_>,
        ecdh: &impl Fn(&PublicKey) -> ecdh::SharedSecret,
    ) -> Result<Shared, BadOnion> {
        let packet = OnionPacket::parse(incoming.onion.clone())?;
        let Some(path_key) = incoming.path_key else {
            let secret = ecdh(&packet.ephemeral_key).into();
            return Ok(Shared { packet, secret, path: None });
        };
        // The onion is for the blinded node id: the factor goes to the payer's key, so that the node key stays where it is.
        let path = SharedSecret::from(ecdh(path_key));
        let factor = blinding::node_factor(&path).ok_or(BadOnion::Blinding)?;
        let point = packet.ephemeral_key.mul_tweak(SECP256K1, &factor).map_err(|_| BadOnion::Key)?;
        Ok(Shared { packet, secret: ecdh(&point).into(), path: Some((*path_key, path)) })
    }
}

fn read_payload(
    incoming: &Incoming<'_>,
    path: Option<(PublicKey, SharedSecret)>,
    payload: Payload,
    next: Option<OnionRoutingPacket>,
    return_path: &ReturnPath,
    ecdh: &impl Fn(&PublicKey) -> ecdh::SharedSecret,
) -> Result<Opened, BlindingError> {
    let return_path = return_path.clone();
    match (payload, next) {
        (Payload::Blinded(payload), next) => {
            let path = match (path, payload.current_path_key) {
                (Some(_), Some(_)) => return Err(BlindingError::TwoPathKeys),
                (Some(path), None) => path,
                (None, Some(key)) => (key, ecdh(&key).into()),
                (None, None) => return Err(InvalidPayload::Missing(CURRENT_PATH_KEY).into()),
            };
            follow_path(incoming, &path, &payload, next, return_path)
        }
        // BOLT 4: a path key with the HTLC, and none of the payee's data in the onion.
        _ if path.is_some() => Err(InvalidPayload::Missing(ENCRYPTED_RECIPIENT_DATA).into()),
        (Payload::Forward(payload), Some(onion)) => Ok(Opened::Forward(Box::new(Forwarding {
            next: NextHop::ShortChannelId(payload.short_channel_id),
            amt_to_forward: payload.amt_to_forward,
            outgoing_cltv_value: payload.outgoing_cltv_value,
            onion,
            path_key: None,
            return_path,
        }))),
        (Payload::Final(payload), None) => {
            Ok(Opened::Final(Box::new(Receiving { payload, path_id: None, return_path })))
        }
        (Payload::Forward(_), None) | (Payload::Final(_), Some(_)) => {
            unreachable!("the place says which payload is read")
        }
    }
}

/// What the payee tells this hop (BOLT 4, "Route Blinding" and the requirements of the payload's reader).
fn follow_path(
    incoming: &Incoming<'_>,
    (path_key, secret): &(PublicKey, SharedSecret),
    payload: &BlindedPayload,
    next: Option<OnionRoutingPacket>,
    return_path: ReturnPath,
) -> Result<Opened, BlindingError> {
    let hop = blinding::unblind(secret, path_key, &payload.encrypted_recipient_data)?;
    hop.data.check(incoming.amount, incoming.cltv_expiry)?;
    let Some(onion) = next else {
        let last = payload.last.ok_or(InvalidPayload::Missing(AMT_TO_FORWARD))?;
        return Ok(Opened::Final(Box::new(Receiving::from_path(hop.data, last, return_path))));
    };
    let next = hop.data.next_hop()?;
    let relay = hop.data.payment_relay.ok_or(BlindingError::NoPaymentRelay)?;
    Ok(Opened::Forward(Box::new(Forwarding {
        next,
        amt_to_forward: relay.amt_to_forward(incoming.amount)?,
        outgoing_cltv_value: relay.outgoing_cltv_value(incoming.cltv_expiry)?,
        onion,
        path_key: Some(hop.next_path_key),
        return_path,
    })))
}

impl Receiving {
    fn from_path(data: EncryptedData, last: BlindedLast, return_path: ReturnPath) -> Receiving {
        let path_id = data.path_id.unwrap_or_default();
        let secret = <[u8; 32]>::try_from(path_id.as_slice()).ok();
        let payload = FinalPayload {
            amt_to_forward: last.amt_to_forward,
            outgoing_cltv_value: last.outgoing_cltv_value,
            payment_data: secret
                .map(|payment_secret| PaymentData { payment_secret, total_msat: last.total_amount_msat }),
            payment_metadata: None,
            keysend_preimage: None,
            custom_records: Vec::new(),
        };
        Receiving { payload, path_id: Some(path_id), return_path }
    }
}

fn malformed(incoming: &Incoming<'_>, bad: BadOnion) -> Opened {
    let bad = if incoming.path_key.is_some() { BadOnion::Blinding } else { bad };
    Opened::Malformed { sha256_of_onion: bad.sha256_of_onion(incoming.onion), failure_code: bad.failure_code() }
}

fn refuse(incoming: &Incoming<'_>, error: BlindingError, return_path: ReturnPath) -> Opened {
    if incoming.path_key.is_some() {
        return malformed(incoming, BadOnion::Blinding);
    }
    let failure = match error {
        BlindingError::Payload(invalid) => invalid.into(),
        _ => Failure::InvalidOnionBlinding { sha256_of_onion: sha256_of_onion(incoming.onion) },
    };
    Opened::Failed(failure, return_path)
}
