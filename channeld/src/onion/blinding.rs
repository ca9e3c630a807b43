//! Route blinding (BOLT 4): a path to a payee whose nodes the payer does not learn, made by the payee and read hop by hop.

use secp256k1::{PublicKey, SECP256K1, Scalar};
use serde::{Deserialize, Serialize};

use super::cipher::{SharedSecret, unseal};
use super::error::BlindingError;
use super::open::NextHop;
use crate::units::{CltvDelta, CltvExpiry, Msat, NodeId, ShortChannelId};
use crate::wire::codec::{Field, Reader, TlvValue, write_truncated};
use crate::wire::tlv::{read_stream, write_optional, write_record};
use crate::wire::{DecodeError, Features};

const PADDING: u64 = 1;
const SHORT_CHANNEL_ID: u64 = 2;
const NEXT_NODE_ID: u64 = 4;
const PATH_ID: u64 = 6;
const NEXT_PATH_KEY_OVERRIDE: u64 = 8;
const PAYMENT_RELAY: u64 = 10;
const PAYMENT_CONSTRAINTS: u64 = 12;
const ALLOWED_FEATURES: u64 = 14;
const MILLION: u128 = 1_000_000;

/// What the payee tells one hop of its path: `encrypted_data_tlv`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedData {
    /// So many zeros, so that the data of all hops has one length.
    pub padding: Option<usize>,
    /// The channel to the next hop.
    pub short_channel_id: Option<ShortChannelId>,
    /// Or the next hop's id.
    pub next_node_id: Option<PublicKey>,
    /// For the payee: by it it knows the path again.
    pub path_id: Option<Vec<u8>>,
    /// The path key for the next hop, where another path is joined on.
    pub next_path_key_override: Option<PublicKey>,
    /// What a hop in the middle takes.
    pub payment_relay: Option<PaymentRelay>,
    /// When and for how much the path may be used.
    pub payment_constraints: Option<PaymentConstraints>,
    /// None are known for payments; absent is as good as empty.
    pub allowed_features: Option<Features>,
}

/// What a hop inside a blinded path takes, as the payee asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRelay {
    /// Blocks between its incoming and its outgoing expiry.
    pub cltv_expiry_delta: CltvDelta,
    /// Of what it sends on.
    pub fee_proportional_millionths: u32,
    /// For each HTLC, in millisatoshi.
    pub fee_base_msat: u32,
}

/// When and for how much a blinded path may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentConstraints {
    /// The highest expiry of the hop's incoming HTLC.
    pub max_cltv_expiry: CltvExpiry,
    /// Its least amount.
    pub htlc_minimum_msat: Msat,
}

impl EncryptedData {
    /// Reads the stream that was encrypted.
    pub fn decode(bytes: &[u8]) -> Result<EncryptedData, DecodeError> {
        let mut data = EncryptedData::default();
        read_stream(Reader::new(bytes), |tlv_type, value| {
            match tlv_type {
                PADDING => data.padding = Some(value.take_rest().len()),
                SHORT_CHANNEL_ID => data.short_channel_id = Some(Field::read(value)?),
                NEXT_NODE_ID => data.next_node_id = Some(Field::read(value)?),
                PATH_ID => data.path_id = Some(TlvValue::read_value(value)?),
                NEXT_PATH_KEY_OVERRIDE => data.next_path_key_override = Some(Field::read(value)?),
                PAYMENT_RELAY => data.payment_relay = Some(PaymentRelay::read(value)?),
                PAYMENT_CONSTRAINTS => data.payment_constraints = Some(PaymentConstraints::read(value)?),
                ALLOWED_FEATURES => data.allowed_features = Some(Features::from_bytes(value.take_rest().to_vec())),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(data)
    }

    /// The stream, to be encrypted.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(padding) = self.padding {
            write_record(PADDING, &mut out, |out| out.resize(out.len() + padding, 0));
        }
        write_optional(SHORT_CHANNEL_ID, self.short_channel_id.as_ref(), &mut out);
        write_optional(NEXT_NODE_ID, self.next_node_id.as_ref(), &mut out);
        write_optional(PATH_ID, self.path_id.as_ref(), &mut out);
        write_optional(NEXT_PATH_KEY_OVERRIDE, self.next_path_key_override.as_ref(), &mut out);
        if let Some(relay) = &self.payment_relay {
            write_record(PAYMENT_RELAY, &mut out, |out| relay.write(out));
        }
        if let Some(constraints) = &self.payment_constraints {
            write_record(PAYMENT_CONSTRAINTS, &mut out, |out| constraints.write(out));
        }
        if let Some(features) = &self.allowed_features {
            write_record(ALLOWED_FEATURES, &mut out, |out| out.extend_from_slice(features.as_bytes()));
        }
        out
    }

    /// What holds for every hop: the path's features, and that it is used in time and for enough. The amount and the expiry
    /// are those of the incoming HTLC.
    pub(super) fn check(&self, amount: Msat, cltv_expiry: CltvExpiry) -> Result<(), BlindingError> {
        if let Some(constraints) = &self.payment_constraints {
            if cltv_expiry > constraints.max_cltv_expiry {
                return Err(BlindingError::ExpiryAboveMaximum);
            }
            if amount < constraints.htlc_minimum_msat {
                return Err(BlindingError::AmountBelowMinimum);
            }
        }
        if self.allowed_features.as_ref().is_some_and(|features| features.bits().next().is_some()) {
            return Err(BlindingError::UnknownFeature);
        }
        if self.short_channel_id.is_some() && self.next_node_id.is_some() {
            return Err(BlindingError::TwoNextHops);
        }
        Ok(())
    }

    pub(super) fn next_hop(&self) -> Result<NextHop, BlindingError> {
        match (self.short_channel_id, self.next_node_id) {
            (Some(short_channel_id), None) => Ok(NextHop::ShortChannelId(short_channel_id)),
            (None, Some(node_id)) => Ok(NextHop::NodeId(NodeId(node_id))),
            (Some(_), Some(_)) => Err(BlindingError::TwoNextHops),
            (None, None) => Err(BlindingError::NoNextHop),
        }
    }
}

impl PaymentRelay {
    fn read(value: &mut Reader<'_>) -> Result<PaymentRelay, DecodeError> {
        Ok(PaymentRelay {
            cltv_expiry_delta: Field::read(value)?,
            fee_proportional_millionths: Field::read(value)?,
            fee_base_msat: u32::try_from(value.truncated(4)?).expect("a tu32 has at most four bytes"),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.cltv_expiry_delta.write(out);
        self.fee_proportional_millionths.write(out);
        write_truncated(u64::from(self.fee_base_msat), out);
    }

    /// What is left to be sent on of an incoming `amount`.
    ///
    /// # Errors
    /// Where the amount does not cover the base fee.
    pub fn amt_to_forward(&self, amount: Msat) -> Result<Msat, BlindingError> {
        let rest = amount.checked_sub(Msat::new(u64::from(self.fee_base_msat)));
        let rest = u128::from(rest.ok_or(BlindingError::FeeAboveAmount)?.msat());
        let whole = MILLION + u128::from(self.fee_proportional_millionths);
        let forward = (rest * MILLION).div_ceil(whole);
        Ok(Msat::new(u64::try_from(forward).expect("what is sent on is at most what came in")))
    }

    /// The expiry that is left for the outgoing HTLC.
    ///
    /// # Errors
    /// Where `cltv_expiry` is below the delta.
    pub fn outgoing_cltv_value(&self, cltv_expiry: CltvExpiry) -> Result<CltvExpiry, BlindingError> {
        let height = cltv_expiry.height().checked_sub(u32::from(self.cltv_expiry_delta.blocks()));
        height.map(CltvExpiry::new).ok_or(BlindingError::ExpiryBelowDelta)
    }
}

impl PaymentConstraints {
    fn read(value: &mut Reader<'_>) -> Result<PaymentConstraints, DecodeError> {
        let max_cltv_expiry = Field::read(value)?;
        Ok(PaymentConstraints { max_cltv_expiry, htlc_minimum_msat: Msat::new(value.truncated(8)?) })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.max_cltv_expiry.write(out);
        write_truncated(self.htlc_minimum_msat.msat(), out);
    }
}

/// What a hop finds in its `encrypted_recipient_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unblinded {
    pub(super) data: EncryptedData,
    /// For the next hop: by the rule, or as the payee says.
    pub(super) next_path_key: PublicKey,
}

/// Opens what the payee encrypted for a hop; `secret` is the hop's ECDH with `path_key`.
pub(super) fn unblind(
    secret: &SharedSecret,
    path_key: &PublicKey,
    encrypted_recipient_data: &[u8],
) -> Result<Unblinded, BlindingError> {
    let bytes = unseal(&secret.key(b"rho"), encrypted_recipient_data).ok_or(BlindingError::Decryption)?;
    let data = EncryptedData::decode(&bytes).map_err(BlindingError::Stream)?;
    let next_path_key = match data.next_path_key_override {
        Some(key) => key,
        None => next_path_key(secret, path_key).ok_or(BlindingError::PathKey)?,
    };
    Ok(Unblinded { data, next_path_key })
}

/// `HMAC256("blinded_node_id", ss)`: times the node id it is the blinded one.
pub(super) fn node_factor(secret: &SharedSecret) -> Option<Scalar> {
    Scalar::from_be_bytes(secret.key(b"blinded_node_id")).ok()
}

fn next_path_key(secret: &SharedSecret, path_key: &PublicKey) -> Option<PublicKey> {
    let factor = secret.blinding_factor(path_key).ok()?;
    path_key.mul_tweak(SECP256K1, &factor).ok()
}
