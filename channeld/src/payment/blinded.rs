//! Blinded paths to a payee as its invoice brings them: the tagged field `b` of BOLT 11 (bLIP 39), as LND writes it.

use bitcoin::bech32::Fe32;
use bitcoin::bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use lightning_invoice::RawTaggedField;
use serde::{Deserialize, Serialize};

use crate::onion::{BlindedHop, BlindedLast, BlindedPath, Entered, PathTerms};
use crate::units::{CltvExpiry, Msat, NodeId};
use crate::wire::codec::{Field, Reader, bigsize_length, write_bigsize};
use crate::wire::{DecodeError, Features};

/// The type of the field `b`.
const BLINDED_PATH: u8 = 20;
/// The type of the field `9`.
const FEATURES: u8 = 5;
/// The longest field, in groups of five bits.
const MAX_GROUPS: usize = 1_023;
/// Paths of one invoice: more make a payer slow, and nobody writes so many.
const MAX_PATHS: usize = 16;

/// A blinded path to a payee, and what the payer must know of it as a whole (bLIP 39 `blinded_payinfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedPaymentPath {
    /// The path.
    pub path: BlindedPath,
    /// What it costs.
    pub terms: PathTerms,
    /// What payments along it need.
    pub features: Features,
    /// This node introduced it: `path` begins at our peer, which gets its path key with the HTLC.
    pub is_entered: bool,
}

/// Why a field `b` cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFieldError {
    /// It ends too soon, or holds what is no key.
    #[error("a blinded path cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A path without hops.
    #[error("a blinded path has no hop")]
    NoHop,
    /// More than 16 paths.
    #[error("more than {MAX_PATHS} blinded paths")]
    TooManyPaths,
    /// More than 639 bytes.
    #[error("a blinded path does not fit into a field")]
    TooLong,
}

impl BlindedPaymentPath {
    /// A path as its payee gives it.
    pub fn new(path: BlindedPath, terms: PathTerms) -> BlindedPaymentPath {
        BlindedPaymentPath { path, terms, features: Features::empty(), is_entered: false }
    }

    /// The path from behind this node on, where this node introduces it. `next` is the peer that [`Entered::next`] names.
    /// `None` where the path's terms are less than what this hop may keep.
    pub fn behind(&self, entered: Entered, next: NodeId) -> Option<BlindedPaymentPath> {
        let terms = self.terms.after(&entered.relay)?;
        let path = BlindedPath { first_node_id: next, first_path_key: entered.path_key, hops: entered.hops };
        Some(BlindedPaymentPath { path, terms, features: self.features.clone(), is_entered: true })
    }

    /// Whether a payment along it needs what is not known here.
    pub fn requires_unknown(&self) -> bool {
        self.features.bits().any(|bit| bit % 2 == 0)
    }

    /// What the hops of the path take in an onion together, in bytes: with their lengths and HMACs.
    pub fn payload_length(&self) -> u32 {
        let most = Msat::new(u64::MAX);
        let last = BlindedLast {
            amt_to_forward: most,
            outgoing_cltv_value: CltvExpiry::new(u32::MAX),
            total_amount_msat: most,
        };
        let length = |payload: usize| bigsize_length(payload as u64) + payload + 32;
        let lengths = self.path.onion_hops(last).into_iter().map(|hop| length(hop.payload.len()));
        u32::try_from(lengths.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// The paths that a field of type `b` holds; `None` where it is another field.
    ///
    /// # Errors
    /// See [`PathFieldError`].
    pub fn read_field(field: &RawTaggedField) -> Option<Result<Vec<BlindedPaymentPath>, PathFieldError>> {
        let RawTaggedField::UnknownSemantics(groups) = field else { return None };
        let ([tag, _, _], value) = groups.split_first_chunk()?;
        if tag.to_u8() != BLINDED_PATH {
            return None;
        }
        let bytes: Vec<u8> = value.iter().copied().fes_to_bytes().collect();
        Some(read_paths(&bytes))
    }

    /// The field of type `b`.
    ///
    /// # Errors
    /// The path is too long for it.
    pub fn to_field(&self) -> Result<RawTaggedField, PathFieldError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        to_field(BLINDED_PATH, bytes.into_iter().bytes_to_fes().collect()).ok_or(PathFieldError::TooLong)
    }

    fn read(value: &mut Reader<'_>) -> Result<BlindedPaymentPath, PathFieldError> {
        let terms = PathTerms {
            fee_base_msat: Field::read(value)?,
            fee_proportional_millionths: Field::read(value)?,
            cltv_expiry_delta: Field::read(value)?,
            htlc_minimum_msat: Field::read(value)?,
            htlc_maximum_msat: Field::read(value)?,
        };
        let features = Features::from_bytes(value.bytes_u16()?.to_vec());
        let first_path_key = Field::read(value)?;
        let [count] = value.array()?;
        let mut hops = Vec::new();
        for _ in 0..count {
            let blinded_node_id = Field::read(value)?;
            let length = value.bigsize()?;
            let data = value.take(usize::try_from(length).unwrap_or(usize::MAX))?;
            hops.push(BlindedHop { blinded_node_id, encrypted_recipient_data: data.to_vec() });
        }
        // The first hop is named by its true key: it needs no blinded one.
        let first_node_id = NodeId(hops.first().ok_or(PathFieldError::NoHop)?.blinded_node_id);
        let path = BlindedPath { first_node_id, first_path_key, hops };
        Ok(BlindedPaymentPath { path, terms, features, is_entered: false })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), PathFieldError> {
        let PathTerms { fee_base_msat, fee_proportional_millionths, .. } = self.terms;
        fee_base_msat.write(out);
        fee_proportional_millionths.write(out);
        self.terms.cltv_expiry_delta.write(out);
        self.terms.htlc_minimum_msat.write(out);
        self.terms.htlc_maximum_msat.write(out);
        self.features.write(out);
        self.path.first_path_key.write(out);
        out.push(u8::try_from(self.path.hops.len()).map_err(|_| PathFieldError::TooLong)?);
        for (at, hop) in self.path.hops.iter().enumerate() {
            let id = if at == 0 { self.path.first_node_id.0 } else { hop.blinded_node_id };
            id.write(out);
            write_bigsize(hop.encrypted_recipient_data.len() as u64, out);
            out.extend_from_slice(&hop.encrypted_recipient_data);
        }
        Ok(())
    }
}

fn read_paths(bytes: &[u8]) -> Result<Vec<BlindedPaymentPath>, PathFieldError> {
    let mut reader = Reader::new(bytes);
    let mut paths = Vec::new();
    while reader.remaining() > 0 {
        if paths.len() == MAX_PATHS {
            return Err(PathFieldError::TooManyPaths);
        }
        paths.push(BlindedPaymentPath::read(&mut reader)?);
    }
    Ok(paths)
}

/// All paths of an invoice.
///
/// # Errors
/// The first that cannot be read.
pub fn read_fields(fields: &[RawTaggedField]) -> Result<Vec<BlindedPaymentPath>, PathFieldError> {
    let mut all = Vec::new();
    for paths in fields.iter().filter_map(BlindedPaymentPath::read_field) {
        all.extend(paths?);
        if all.len() > MAX_PATHS {
            return Err(PathFieldError::TooManyPaths);
        }
    }
    Ok(all)
}

/// The field of type `9`, for bits that the crate has no names for.
pub fn features_field(features: &Features) -> Option<RawTaggedField> {
    let count = features.bits().max()? / 5 + 1;
    let group = |at: usize| (0..5).fold(0, |group, bit| group | u8::from(features.bit(at * 5 + bit)) << bit);
    let groups = (0..count).rev().map(|at| Fe32::try_from(group(at)).expect("five bits")).collect();
    to_field(FEATURES, groups)
}

fn to_field(tag: u8, groups: Vec<Fe32>) -> Option<RawTaggedField> {
    if groups.len() > MAX_GROUPS {
        return None;
    }
    let five = |bits: usize| Fe32::try_from((bits & 31) as u8).expect("five bits");
    let head = [five(usize::from(tag)), five(groups.len() >> 5), five(groups.len())];
    Some(RawTaggedField::UnknownSemantics(head.into_iter().chain(groups).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secp256k1::{PublicKey, SECP256K1, SecretKey};

    use super::*;
    use crate::onion::{PathEnd, PathRelay, PaymentRelay};
    use crate::units::{CltvDelta, ShortChannelId};

    fn node(byte: u8) -> NodeId {
        NodeId(secret(byte).public_key(SECP256K1))
    }

    fn secret(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    fn relay(byte: u8, base: u32, millionths: u32, delta: u16) -> PathRelay {
        let relay = PaymentRelay {
            cltv_expiry_delta: CltvDelta::new(delta),
            fee_proportional_millionths: millionths,
            fee_base_msat: base,
        };
        PathRelay {
            node_id: node(byte),
            short_channel_id: ShortChannelId::from_u64(u64::from(byte)),
            relay,
            htlc_minimum_msat: Msat::new(7),
            htlc_maximum_msat: Msat::new(9_000_000_000),
        }
    }

    fn path(relays: &[PathRelay]) -> BlindedPaymentPath {
        let end = PathEnd {
            node_id: node(99),
            path_id: vec![5; 32],
            min_final_cltv_expiry_delta: CltvDelta::new(30),
            last_height: 1_000,
            htlc_minimum_msat: Msat::new(1),
        };
        let (path, terms) = BlindedPath::to_payee(relays, &end, &secret(77)).unwrap();
        BlindedPaymentPath::new(path, terms)
    }

    /// What is written holds the true key of the first hop only.
    fn as_read(mut path: BlindedPaymentPath) -> BlindedPaymentPath {
        path.path.hops[0].blinded_node_id = path.path.first_node_id.0;
        path
    }

    #[test]
    fn what_is_written_is_read() {
        let relays = [relay(1, 1_000, 10, 40), relay(2, 500, 1_000, 80)];
        let mut known = path(&relays);
        known.features.set_bit(11);
        for path in [known.clone(), path(&relays[..1]), path(&[])] {
            let read = BlindedPaymentPath::read_field(&path.to_field().unwrap()).unwrap().unwrap();
            assert_eq!(read, [as_read(path)]);
        }
        assert!(!known.requires_unknown());
        known.features.set_bit(10);
        assert!(known.requires_unknown());
        let long = path(&[relay(1, 1, 1, 1); 8]);
        assert_eq!(long.to_field(), Err(PathFieldError::TooLong));
    }

    #[test]
    fn several_paths_may_be_in_one_field() {
        let (one, other) = (path(&[relay(1, 1_000, 10, 40)]), path(&[]));
        let mut bytes = Vec::new();
        one.write(&mut bytes).unwrap();
        other.write(&mut bytes).unwrap();
        assert_eq!(read_paths(&bytes).unwrap(), [as_read(one), as_read(other)]);
        bytes.pop();
        assert!(matches!(read_paths(&bytes), Err(PathFieldError::Decode(_))));
    }

    #[test]
    fn the_first_hop_takes_its_share_and_the_rest_is_enough() {
        for (mine, other) in
            [((1_000, 10), (500, 1_000)), ((0, 0), (1, 1)), ((7, 999_999), (3, 500_000)), ((1, 1), (0, 0))]
        {
            let relays = [relay(1, mine.0, mine.1, 40), relay(2, other.0, other.1, 80)];
            let whole = path(&relays);
            let entered = whole.path.enter(|point| secp256k1::ecdh::SharedSecret::new(point, &secret(1))).unwrap();
            assert_eq!(entered.next, crate::onion::NextHop::ShortChannelId(ShortChannelId::from_u64(1)));
            assert_eq!(entered.hops, whole.path.hops[1..]);
            let rest = whole.behind(entered, node(2)).unwrap();
            assert_eq!(rest.terms.cltv_expiry_delta, CltvDelta::new(110));
            for amount in [1, 999, 1_000, 123_456_789, 4_000_000_000].map(Msat::new) {
                let arrives = Msat::new(amount.msat() + rest.terms.fee(amount).unwrap().msat());
                let least = relays[1].relay.amt_to_forward(arrives).unwrap();
                assert!(least >= amount, "{mine:?} {other:?}: {least} of {amount}");
            }
        }
        let end = path(&[]);
        assert!(end.path.enter(|point| secp256k1::ecdh::SharedSecret::new(point, &secret(99))).is_err());
    }

    #[test]
    fn features_are_written_as_the_crate_reads_them() {
        let mut features = Features::invoice(true);
        features.set_bit(262);
        let RawTaggedField::UnknownSemantics(groups) = features_field(&features).unwrap() else { panic!() };
        assert_eq!(groups.len(), 3 + 53);
        assert_eq!(groups[0].to_u8(), 5);
        assert_eq!(usize::from(groups[1].to_u8()) * 32 + usize::from(groups[2].to_u8()), 53);
        assert!(features_field(&Features::empty()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read_paths(&bytes);
        }

        #[test]
        fn changed_paths_never_panic(at: prop::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            path(&[relay(1, 1_000, 10, 40)]).write(&mut bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read_paths(&bytes);
        }
    }

    #[test]
    fn a_key_is_checked() {
        let mut bytes = Vec::new();
        path(&[]).write(&mut bytes).unwrap();
        let at = 4 + 4 + 2 + 8 + 8 + 2;
        assert!(PublicKey::from_slice(&bytes[at..at + 33]).is_ok());
        bytes[at] = 9;
        assert!(read_paths(&bytes).is_err());
    }
}
