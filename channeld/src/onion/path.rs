//! A blinded path whole, as the payee makes it and the payer uses it (BOLT 4, "Route Blinding").

use secp256k1::{PublicKey, SECP256K1, SecretKey, ecdh};
use serde::{Deserialize, Serialize};

use super::blinding::{EncryptedData, PaymentConstraints, PaymentRelay, node_factor, unblind};
use super::cipher::{SharedSecret, seal};
use super::error::{BlindingError, PathError};
use super::open::NextHop;
use super::packet::{Hop, MAX_HOPS};
use super::payload::{BlindedLast, BlindedPayload, HopPayload};
use crate::units::{CltvDelta, CltvExpiry, Msat, NodeId, ShortChannelId};
use crate::wire::Features;

const MILLION: u128 = 1_000_000;

/// A way to a payee that hides who it is and through whom it is reached, but for the first node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedPath {
    /// The introduction point, which the payer must reach by itself.
    pub first_node_id: NodeId,
    /// For the introduction point.
    pub first_path_key: PublicKey,
    /// The introduction point first, the payee last; never empty.
    pub hops: Vec<BlindedHop>,
}

/// One node of a blinded path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedHop {
    /// Its id, blinded.
    pub blinded_node_id: PublicKey,
    /// What the payee tells it.
    pub encrypted_recipient_data: Vec<u8>,
}

/// What a payer must know of a blinded path as a whole (BOLT 12 calls it `blinded_payinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTerms {
    /// For each HTLC, in millisatoshi.
    pub fee_base_msat: u32,
    /// Of what arrives.
    pub fee_proportional_millionths: u32,
    /// Of all hops, and what the payee wants to be left.
    pub cltv_expiry_delta: CltvDelta,
    /// The least HTLC.
    pub htlc_minimum_msat: Msat,
    /// The greatest HTLC.
    pub htlc_maximum_msat: Msat,
}

/// A node that sends on along a blinded path, the introduction point among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRelay {
    /// Who.
    pub node_id: NodeId,
    /// Its channel to the next one.
    pub short_channel_id: ShortChannelId,
    /// What it takes.
    pub relay: PaymentRelay,
    /// The least HTLC it takes.
    pub htlc_minimum_msat: Msat,
    /// The greatest HTLC it takes.
    pub htlc_maximum_msat: Msat,
}

/// What is left of a blinded path behind its introduction point, as that one reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Where it goes on.
    pub next: NextHop,
    /// For that node; it goes with the HTLC.
    pub path_key: PublicKey,
    /// What the introduction point may keep.
    pub relay: PaymentRelay,
    /// That node first. Never empty.
    pub hops: Vec<BlindedHop>,
}

/// Where a blinded path ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEnd {
    /// The payee.
    pub node_id: NodeId,
    /// What it knows the path by; with an invoice its payment secret. Nobody else may know it.
    pub path_id: Vec<u8>,
    /// What it wants to be left when the HTLC comes in.
    pub min_final_cltv_expiry_delta: CltvDelta,
    /// The height after which the path is not to be used.
    pub last_height: u32,
    /// The least HTLC it takes.
    pub htlc_minimum_msat: Msat,
}

impl PathTerms {
    /// What the hops of the path take together so that `amount` arrives; `None` on overflow.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let part = u128::from(amount.msat()) * u128::from(self.fee_proportional_millionths) / MILLION;
        u64::try_from(part + u128::from(self.fee_base_msat)).ok().map(Msat::new)
    }

    /// Without the hop that the path begins with, for a payer that is this hop. Rounded up: the rest may get a millisatoshi
    /// or two more. `None` where the hop is to keep more than all together.
    pub fn after(&self, relay: &PaymentRelay) -> Option<PathTerms> {
        let hop = u128::from(relay.fee_proportional_millionths);
        let rest = |part: u128| u32::try_from((part * MILLION).div_ceil(MILLION + hop)).ok();
        let base = self.fee_base_msat.checked_sub(relay.fee_base_msat)?;
        let proportional = u128::from(self.fee_proportional_millionths).checked_sub(hop)?;
        let delta = self.cltv_expiry_delta.blocks().checked_sub(relay.cltv_expiry_delta.blocks())?;
        Some(PathTerms {
            fee_base_msat: rest(u128::from(base))?.checked_add(u32::from(proportional > 0))?,
            fee_proportional_millionths: rest(proportional)?,
            cltv_expiry_delta: CltvDelta::new(delta),
            ..*self
        })
    }

    /// Of a path that begins at the payee itself.
    const fn of_end(end: &PathEnd) -> PathTerms {
        PathTerms {
            fee_base_msat: 0,
            fee_proportional_millionths: 0,
            cltv_expiry_delta: end.min_final_cltv_expiry_delta,
            htlc_minimum_msat: end.htlc_minimum_msat,
            htlc_maximum_msat: Msat::new(u64::MAX),
        }
    }

    /// With one more hop before the others (BOLT 4, the requirements of the creator of `encrypted_recipient_data`).
    fn before(self, hop: &PathRelay) -> Option<PathTerms> {
        let (base, proportional) = (u128::from(self.fee_base_msat), u128::from(self.fee_proportional_millionths));
        let (hop_base, hop_proportional) =
            (u128::from(hop.relay.fee_base_msat), u128::from(hop.relay.fee_proportional_millionths));
        let fee_base = (hop_base * MILLION + base * (MILLION + hop_proportional)).div_ceil(MILLION);
        let fee_proportional =
            ((proportional + hop_proportional) * MILLION + proportional * hop_proportional).div_ceil(MILLION);
        let delta = self.cltv_expiry_delta.blocks().checked_add(hop.relay.cltv_expiry_delta.blocks())?;
        Some(PathTerms {
            fee_base_msat: u32::try_from(fee_base).ok()?,
            fee_proportional_millionths: u32::try_from(fee_proportional).ok()?,
            cltv_expiry_delta: CltvDelta::new(delta),
            htlc_minimum_msat: self.htlc_minimum_msat.max(hop.htlc_minimum_msat),
            htlc_maximum_msat: self.htlc_maximum_msat.min(hop.htlc_maximum_msat),
        })
    }
}

impl BlindedPath {
    /// Makes a path to the payee over `relays`, the introduction point first; without them the payee is the introduction
    /// point. `session_key` must be random and never used twice.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn to_payee(
        relays: &[PathRelay],
        end: &PathEnd,
        session_key: &SecretKey,
    ) -> Result<(BlindedPath, PathTerms), PathError> {
        let mut terms = PathTerms::of_end(end);
        let last = u32::from(end.min_final_cltv_expiry_delta.blocks()).saturating_add(end.last_height);
        let mut max_cltv_expiry = last;
        let mut constraints = vec![max_cltv_expiry];
        for hop in relays.iter().rev() {
            terms = terms.before(hop).ok_or(PathError::TermsTooHigh)?;
            max_cltv_expiry = max_cltv_expiry.saturating_add(u32::from(hop.relay.cltv_expiry_delta.blocks()));
            constraints.push(max_cltv_expiry);
        }
        let constrain = |max_cltv_expiry| PaymentConstraints {
            max_cltv_expiry: CltvExpiry::new(max_cltv_expiry),
            htlc_minimum_msat: terms.htlc_minimum_msat,
        };
        let mut data: Vec<EncryptedData> = relays
            .iter()
            .zip(constraints.iter().rev())
            .map(|(hop, max_cltv_expiry)| EncryptedData {
                short_channel_id: Some(hop.short_channel_id),
                payment_relay: Some(hop.relay),
                payment_constraints: Some(constrain(*max_cltv_expiry)),
                allowed_features: Some(Features::empty()),
                ..EncryptedData::default()
            })
            .collect();
        data.push(EncryptedData {
            path_id: Some(end.path_id.clone()),
            payment_constraints: Some(constrain(last)),
            allowed_features: Some(Features::empty()),
            ..EncryptedData::default()
        });
        pad(&mut data);
        let nodes = relays.iter().map(|hop| hop.node_id).chain([end.node_id]);
        let hops: Vec<_> = nodes.zip(data.iter().map(EncryptedData::encode)).collect();
        Ok((BlindedPath::blind(&hops, session_key)?, terms))
    }

    /// Makes a path of nodes, the introduction point first, and of what each is told.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn blind(nodes: &[(NodeId, Vec<u8>)], session_key: &SecretKey) -> Result<BlindedPath, PathError> {
        let first_node_id = nodes.first().ok_or(PathError::NoHop)?.0;
        if nodes.len() > MAX_HOPS {
            return Err(PathError::TooManyHops);
        }
        let mut key = *session_key;
        let mut hops = Vec::with_capacity(nodes.len());
        for (node_id, data) in nodes {
            let path_key = key.public_key(SECP256K1);
            let secret = SharedSecret::from(ecdh::SharedSecret::new(&node_id.0, &key));
            let factor = node_factor(&secret).ok_or(PathError::SessionKey)?;
            let blinded_node_id = node_id.0.mul_tweak(SECP256K1, &factor).map_err(|_| PathError::SessionKey)?;
            let encrypted_recipient_data = seal(&secret.key(b"rho"), data.clone());
            hops.push(BlindedHop { blinded_node_id, encrypted_recipient_data });
            let factor = secret.blinding_factor(&path_key).map_err(|_| PathError::SessionKey)?;
            key = key.mul_tweak(&factor).map_err(|_| PathError::SessionKey)?;
        }
        key.non_secure_erase();
        Ok(BlindedPath { first_node_id, first_path_key: session_key.public_key(SECP256K1), hops })
    }

    /// The hops of an onion from the introduction point on, for an HTLC of which `last` arrives.
    pub fn onion_hops(&self, last: BlindedLast) -> Vec<Hop> {
        let mut hops = self.hops_of(Some(self.first_path_key), last);
        // The onion for the introduction point is for its true key: the path key is inside.
        if let Some(first) = hops.first_mut() {
            first.node_id = self.first_node_id.0;
        }
        hops
    }

    /// The same where the payer is the introduction point itself and `self` begins behind it: the first hop has its path key
    /// with the HTLC, and its onion is for its blinded key.
    pub fn onion_hops_inside(&self, last: BlindedLast) -> Vec<Hop> {
        self.hops_of(None, last)
    }

    fn hops_of(&self, path_key: Option<PublicKey>, last: BlindedLast) -> Vec<Hop> {
        let count = self.hops.len();
        let hop = |(at, hop): (usize, &BlindedHop)| {
            let payload = HopPayload::from(BlindedPayload {
                encrypted_recipient_data: hop.encrypted_recipient_data.clone(),
                current_path_key: path_key.filter(|_| at == 0),
                last: (at + 1 == count).then_some(last),
            });
            Hop { node_id: hop.blinded_node_id, payload: payload.encode() }
        };
        self.hops.iter().enumerate().map(hop).collect()
    }

    /// What this node, the path's introduction point, is told in it, and what is left behind it. `ecdh` is that of the node key.
    ///
    /// # Errors
    /// What the payee wrote cannot be read, or names no next hop: among others where the path ends here.
    pub fn enter(&self, ecdh: impl Fn(&PublicKey) -> ecdh::SharedSecret) -> Result<Entered, BlindingError> {
        let (first, rest) = self.hops.split_first().ok_or(BlindingError::NoNextHop)?;
        if rest.is_empty() {
            return Err(BlindingError::NoNextHop);
        }
        let secret = SharedSecret::from(ecdh(&self.first_path_key));
        let told = unblind(&secret, &self.first_path_key, &first.encrypted_recipient_data)?;
        let relay = told.data.payment_relay.ok_or(BlindingError::NoPaymentRelay)?;
        Ok(Entered { next: told.data.next_hop()?, path_key: told.next_path_key, relay, hops: rest.to_vec() })
    }
}

/// Gives all the same length. A record of 253 bytes and more has a longer length in front, so that not every length can be
/// padded to; the next one that fits all is taken.
fn pad(data: &mut [EncryptedData]) {
    let lengths: Vec<usize> = data.iter().map(|data| data.encode().len()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let common = (longest + 2..).find(|target| lengths.iter().all(|length| padding_of(target - length).is_some()));
    for (data, length) in data.iter_mut().zip(&lengths) {
        data.padding = common.and_then(|common| padding_of(common - length));
    }
}

/// The zeros in a padding record that takes so many bytes whole.
const fn padding_of(record: usize) -> Option<usize> {
    match record {
        2..=254 => Some(record - 2),
        257..=65_539 => Some(record - 4),
        _ => None,
    }
}
