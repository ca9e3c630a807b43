//! What an onion tells one hop (BOLT 4, "`payload` format").

use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::error::InvalidPayload;
use crate::units::{CltvExpiry, Msat, Preimage, ShortChannelId};
use crate::wire::DecodeError;
use crate::wire::codec::{Field, Reader, TlvValue, write_truncated};
use crate::wire::tlv::{read_stream, write_optional, write_record};

pub(super) const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV_VALUE: u64 = 4;
const SHORT_CHANNEL_ID: u64 = 6;
const PAYMENT_DATA: u64 = 8;
pub(super) const ENCRYPTED_RECIPIENT_DATA: u64 = 10;
pub(super) const CURRENT_PATH_KEY: u64 = 12;
const PAYMENT_METADATA: u64 = 16;
const TOTAL_AMOUNT_MSAT: u64 = 18;
/// The record in which keysend carries the preimage (bLIP 3).
const KEYSEND_PREIMAGE: u64 = 5_482_373_484;
/// From here on records are custom (BOLT 1).
const FIRST_CUSTOM: u64 = 65_536;

/// What proves to the payee that the payer has its invoice, and how much comes in all parts together.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentData {
    /// The invoice's `s`.
    pub payment_secret: [u8; 32],
    /// The sum of all parts.
    pub total_msat: Msat,
}

impl std::fmt::Debug for PaymentData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PaymentData(total {})", self.total_msat)
    }
}

/// All records that a payload may hold. What a hop must find is [`HopPayload::read`]'s business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopPayload {
    /// What this hop is to send on, or, at the final one, what the payer meant to arrive.
    pub amt_to_forward: Option<Msat>,
    /// The expiry of the outgoing HTLC, or, at the final hop, the least that the payer meant to arrive.
    pub outgoing_cltv_value: Option<CltvExpiry>,
    /// The channel to send it on over.
    pub short_channel_id: Option<ShortChannelId>,
    /// For the final hop.
    pub payment_data: Option<PaymentData>,
    /// Inside a blinded path.
    pub encrypted_recipient_data: Option<Vec<u8>>,
    /// Where a blinded path begins.
    pub current_path_key: Option<PublicKey>,
    /// The invoice's `m`.
    pub payment_metadata: Option<Vec<u8>>,
    /// Inside a blinded path: the sum of all parts.
    pub total_amount_msat: Option<Msat>,
    /// The preimage, for a payment without invoice.
    pub keysend_preimage: Option<Preimage>,
    /// Custom records: types from 65,536 on, odd, rising.
    pub custom_records: Vec<(u64, Vec<u8>)>,
}

/// A payload in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// This hop sends the payment on.
    Forward(ForwardPayload),
    /// This hop is the payee.
    Final(FinalPayload),
    /// This hop is inside a blinded path, or begins one.
    Blinded(BlindedPayload),
}

/// What a payer says to a hop of a blinded path; the rest is in what the payee encrypted for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedPayload {
    /// What the payee encrypted.
    pub encrypted_recipient_data: Vec<u8>,
    /// Where the path begins here.
    pub current_path_key: Option<PublicKey>,
    /// At the end of the path.
    pub last: Option<BlindedLast>,
}

/// What the payer says to the payee at the end of a blinded path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedLast {
    /// What the payer meant to arrive in this part.
    pub amt_to_forward: Msat,
    /// The least expiry that the payer meant to arrive.
    pub outgoing_cltv_value: CltvExpiry,
    /// The sum of all parts.
    pub total_amount_msat: Msat,
}

/// What a hop in the middle needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardPayload {
    /// What to send on.
    pub amt_to_forward: Msat,
    /// With which expiry.
    pub outgoing_cltv_value: CltvExpiry,
    /// Over which channel; any other with the same peer will do.
    pub short_channel_id: ShortChannelId,
}

/// What the payee needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalPayload {
    /// What the payer meant to arrive in this part.
    pub amt_to_forward: Msat,
    /// The least expiry that the payer meant to arrive.
    pub outgoing_cltv_value: CltvExpiry,
    /// Of an invoice; none with a keysend from LND.
    pub payment_data: Option<PaymentData>,
    /// The invoice's `m`.
    pub payment_metadata: Option<Vec<u8>>,
    /// The preimage of a payment without invoice.
    pub keysend_preimage: Option<Preimage>,
    /// Custom records: types from 65,536 on, odd, rising.
    pub custom_records: Vec<(u64, Vec<u8>)>,
}

/// What was read of a payload: all of it, or what came before the record that is at fault.
pub(super) struct Records {
    pub(super) payload: HopPayload,
    /// The first record that is not known, and odd.
    unknown: Option<u64>,
    error: Option<DecodeError>,
}

impl Records {
    pub(super) fn read(bytes: &[u8]) -> Records {
        let mut records = Records { payload: HopPayload::default(), unknown: None, error: None };
        let read = read_stream(Reader::new(bytes), |tlv_type, value| {
            let is_known = records.payload.read_record(tlv_type, value)?;
            if !is_known {
                records.unknown.get_or_insert(tlv_type);
            }
            Ok(is_known)
        });
        records.error = read.err();
        records
    }

    /// The payload for a hop that is the final one, or is not (BOLT 4: the requirements of the reader).
    pub(super) fn into_payload(self, is_final: bool) -> Result<Payload, InvalidPayload> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        if self.payload.encrypted_recipient_data.is_some() {
            return self.into_blinded(is_final).map(Payload::Blinded);
        }
        let payload = self.payload;
        if payload.current_path_key.is_some() {
            return Err(InvalidPayload::Unexpected(CURRENT_PATH_KEY));
        }
        let amt_to_forward = payload.amt_to_forward.ok_or(InvalidPayload::Missing(AMT_TO_FORWARD))?;
        let outgoing_cltv_value = payload.outgoing_cltv_value.ok_or(InvalidPayload::Missing(OUTGOING_CLTV_VALUE))?;
        if !is_final {
            if payload.payment_data.is_some() {
                return Err(InvalidPayload::Unexpected(PAYMENT_DATA));
            }
            let short_channel_id = payload.short_channel_id.ok_or(InvalidPayload::Missing(SHORT_CHANNEL_ID))?;
            return Ok(Payload::Forward(ForwardPayload { amt_to_forward, outgoing_cltv_value, short_channel_id }));
        }
        Ok(Payload::Final(FinalPayload {
            amt_to_forward,
            outgoing_cltv_value,
            payment_data: payload.payment_data,
            payment_metadata: payload.payment_metadata,
            keysend_preimage: payload.keysend_preimage,
            custom_records: payload.custom_records,
        }))
    }

    /// Of a blinded path's records none may come with others (BOLT 4), unknown odd ones included.
    fn into_blinded(self, is_final: bool) -> Result<BlindedPayload, InvalidPayload> {
        if let Some(other) = self.first_beside_blinded(is_final) {
            return Err(InvalidPayload::Unexpected(other));
        }
        let payload = self.payload;
        let last = if is_final { Some(BlindedLast::read(&payload)?) } else { None };
        let encrypted_recipient_data =
            payload.encrypted_recipient_data.ok_or(InvalidPayload::Missing(ENCRYPTED_RECIPIENT_DATA))?;
        Ok(BlindedPayload { encrypted_recipient_data, current_path_key: payload.current_path_key, last })
    }

    fn first_beside_blinded(&self, is_final: bool) -> Option<u64> {
        let it = &self.payload;
        let beside = [
            (AMT_TO_FORWARD, it.amt_to_forward.is_some() && !is_final),
            (OUTGOING_CLTV_VALUE, it.outgoing_cltv_value.is_some() && !is_final),
            (SHORT_CHANNEL_ID, it.short_channel_id.is_some()),
            (PAYMENT_DATA, it.payment_data.is_some()),
            (PAYMENT_METADATA, it.payment_metadata.is_some()),
            (TOTAL_AMOUNT_MSAT, it.total_amount_msat.is_some() && !is_final),
            (KEYSEND_PREIMAGE, it.keysend_preimage.is_some()),
        ];
        let known = beside.into_iter().find(|(_, is_there)| *is_there).map(|(tlv_type, _)| tlv_type);
        known.or(self.unknown).or(it.custom_records.first().map(|(tlv_type, _)| *tlv_type))
    }
}

impl BlindedLast {
    fn read(payload: &HopPayload) -> Result<BlindedLast, InvalidPayload> {
        Ok(BlindedLast {
            amt_to_forward: payload.amt_to_forward.ok_or(InvalidPayload::Missing(AMT_TO_FORWARD))?,
            outgoing_cltv_value: payload.outgoing_cltv_value.ok_or(InvalidPayload::Missing(OUTGOING_CLTV_VALUE))?,
            total_amount_msat: payload.total_amount_msat.ok_or(InvalidPayload::Missing(TOTAL_AMOUNT_MSAT))?,
        })
    }
}

impl HopPayload {
    /// Reads a payload for a hop that is the final one, or is not.
    ///
    /// # Errors
    /// The first rule of BOLT 4 that it breaks.
    pub fn read(bytes: &[u8], is_final: bool) -> Result<Payload, InvalidPayload> {
        Records::read(bytes).into_payload(is_final)
    }

    /// Reads all records, whatever their place.
    pub fn decode(bytes: &[u8]) -> Result<HopPayload, DecodeError> {
        let records = Records::read(bytes);
        records.error.map_or(Ok(records.payload), Err)
    }

    fn read_record(&mut self, tlv_type: u64, value: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match tlv_type {
            AMT_TO_FORWARD => self.amt_to_forward = Some(Msat::new(value.truncated(8)?)),
            OUTGOING_CLTV_VALUE => {
                let height = u32::try_from(value.truncated(4)?).expect("a tu32 has at most four bytes");
                self.outgoing_cltv_value = Some(CltvExpiry::new(height));
            }
            SHORT_CHANNEL_ID => self.short_channel_id = Some(Field::read(value)?),
            PAYMENT_DATA => {
                let payment_secret = value.array()?;
                self.payment_data = Some(PaymentData { payment_secret, total_msat: Msat::new(value.truncated(8)?) });
            }
            ENCRYPTED_RECIPIENT_DATA => self.encrypted_recipient_data = Some(TlvValue::read_value(value)?),
            CURRENT_PATH_KEY => self.current_path_key = Some(Field::read(value)?),
            PAYMENT_METADATA => self.payment_metadata = Some(TlvValue::read_value(value)?),
            TOTAL_AMOUNT_MSAT => self.total_amount_msat = Some(Msat::new(value.truncated(8)?)),
            KEYSEND_PREIMAGE => self.keysend_preimage = Some(Field::read(value)?),
            custom if custom >= FIRST_CUSTOM && custom % 2 == 1 => {
                self.custom_records.push((custom, value.take_rest().to_vec()));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The TLV stream, without length.
    ///
    /// # Panics
    /// If custom records are below 65,536, even, or do not rise: the caller's own invariant.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let write_amount = |tlv_type, amount: Option<u64>, out: &mut Vec<u8>| {
            if let Some(amount) = amount {
                write_record(tlv_type, out, |out| write_truncated(amount, out));
            }
        };
        write_amount(AMT_TO_FORWARD, self.amt_to_forward.map(Msat::msat), &mut out);
        write_amount(OUTGOING_CLTV_VALUE, self.outgoing_cltv_value.map(|it| u64::from(it.height())), &mut out);
        write_optional(SHORT_CHANNEL_ID, self.short_channel_id.as_ref(), &mut out);
        if let Some(data) = &self.payment_data {
            write_record(PAYMENT_DATA, &mut out, |out| {
                data.payment_secret.write(out);
                write_truncated(data.total_msat.msat(), out);
            });
        }
        write_optional(ENCRYPTED_RECIPIENT_DATA, self.encrypted_recipient_data.as_ref(), &mut out);
        write_optional(CURRENT_PATH_KEY, self.current_path_key.as_ref(), &mut out);
        write_optional(PAYMENT_METADATA, self.payment_metadata.as_ref(), &mut out);
        write_amount(TOTAL_AMOUNT_MSAT, self.total_amount_msat.map(Msat::msat), &mut out);
        self.write_custom(&mut out);
        out
    }

    /// Keysend's record has its place among the custom ones.
    fn write_custom(&self, out: &mut Vec<u8>) {
        let valid = |(tlv_type, _): &(u64, Vec<u8>)| *tlv_type >= FIRST_CUSTOM && tlv_type % 2 == 1;
        assert!(self.custom_records.iter().all(valid), "custom records are odd and from 65,536 on");
        assert!(self.custom_records.is_sorted_by(|one, next| one.0 < next.0), "custom records rise");
        let behind = self.custom_records.partition_point(|(tlv_type, _)| *tlv_type < KEYSEND_PREIMAGE);
        let (before, after) = self.custom_records.split_at(behind);
        let write = |(tlv_type, value): &(u64, Vec<u8>), out: &mut Vec<u8>| {
            write_record(*tlv_type, out, |out| out.extend_from_slice(value));
        };
        before.iter().for_each(|record| write(record, out));
        if let Some(preimage) = &self.keysend_preimage {
            write_record(KEYSEND_PREIMAGE, out, |out| preimage.write(out));
        }
        after.iter().for_each(|record| write(record, out));
    }
}

impl From<ForwardPayload> for HopPayload {
    fn from(payload: ForwardPayload) -> HopPayload {
        HopPayload {
            amt_to_forward: Some(payload.amt_to_forward),
            outgoing_cltv_value: Some(payload.outgoing_cltv_value),
            short_channel_id: Some(payload.short_channel_id),
            ..HopPayload::default()
        }
    }
}

impl From<FinalPayload> for HopPayload {
    fn from(payload: FinalPayload) -> HopPayload {
        HopPayload {
            amt_to_forward: Some(payload.amt_to_forward),
            outgoing_cltv_value: Some(payload.outgoing_cltv_value),
            payment_data: payload.payment_data,
            payment_metadata: payload.payment_metadata,
            keysend_preimage: payload.keysend_preimage,
            custom_records: payload.custom_records,
            ..HopPayload::default()
        }
    }
}

impl From<BlindedPayload> for HopPayload {
    fn from(payload: BlindedPayload) -> HopPayload {
        HopPayload {
            amt_to_forward: payload.last.map(|last| last.amt_to_forward),
            outgoing_cltv_value: payload.last.map(|last| last.outgoing_cltv_value),
            total_amount_msat: payload.last.map(|last| last.total_amount_msat),
            encrypted_recipient_data: Some(payload.encrypted_recipient_data),
            current_path_key: payload.current_path_key,
            ..HopPayload::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn last_of_invoice() -> FinalPayload {
        FinalPayload {
            amt_to_forward: Msat::new(10_000),
            outgoing_cltv_value: CltvExpiry::new(0),
            payment_data: Some(PaymentData { payment_secret: [7; 32], total_msat: Msat::new(u64::MAX) }),
            payment_metadata: Some(vec![1, 2, 3]),
            keysend_preimage: Some(Preimage([9; 32])),
            custom_records: vec![(65_537, vec![]), (5_482_373_483, vec![1]), (5_482_373_485, vec![2; 300])],
        }
    }

    #[test]
    fn payloads_go_there_and_back() {
        let bytes = HopPayload::from(last_of_invoice()).encode();
        assert_eq!(HopPayload::read(&bytes, true), Ok(Payload::Final(last_of_invoice())));
        let middle = ForwardPayload {
            amt_to_forward: Msat::new(15_000),
            outgoing_cltv_value: CltvExpiry::new(1_500),
            short_channel_id: ShortChannelId::from_u64(1),
        };
        let bytes = HopPayload::from(middle).encode();
        assert_eq!(hex::encode(&bytes), "02023a98040205dc06080000000000000001", "the first payload of onion-test.json");
        assert_eq!(HopPayload::read(&bytes, false), Ok(Payload::Forward(middle)));
    }

    #[test]
    fn what_is_missing_or_does_not_belong_is_named() {
        let read = |change: &dyn Fn(&mut HopPayload), is_final| {
            let mut payload = HopPayload::from(last_of_invoice());
            change(&mut payload);
            HopPayload::read(&payload.encode(), is_final)
        };
        assert_eq!(read(&|it| it.amt_to_forward = None, true), Err(InvalidPayload::Missing(2)));
        assert_eq!(read(&|it| it.outgoing_cltv_value = None, true), Err(InvalidPayload::Missing(4)));
        assert_eq!(read(&|_| (), false), Err(InvalidPayload::Unexpected(8)));
        assert_eq!(read(&|it| it.payment_data = None, false), Err(InvalidPayload::Missing(6)));
        let key = secp256k1::SecretKey::from_slice(&[3; 32]).unwrap().public_key(secp256k1::SECP256K1);
        assert_eq!(read(&|it| it.current_path_key = Some(key), true), Err(InvalidPayload::Unexpected(12)));
    }

    #[test]
    fn on_a_blinded_path_nothing_else_is_taken() {
        let key = secp256k1::SecretKey::from_slice(&[3; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let middle = BlindedPayload { encrypted_recipient_data: vec![1], current_path_key: Some(key), last: None };
        let last = BlindedLast {
            amt_to_forward: Msat::new(5),
            outgoing_cltv_value: CltvExpiry::new(6),
            total_amount_msat: Msat::new(7),
        };
        let end = BlindedPayload { last: Some(last), ..middle.clone() };
        for (payload, is_final) in [(&middle, false), (&end, true)] {
            let bytes = HopPayload::from(payload.clone()).encode();
            assert_eq!(HopPayload::read(&bytes, is_final), Ok(Payload::Blinded(payload.clone())));
        }
        let read = |payload: &BlindedPayload, is_final, change: &dyn Fn(&mut HopPayload)| {
            let mut payload = HopPayload::from(payload.clone());
            change(&mut payload);
            HopPayload::read(&payload.encode(), is_final)
        };
        assert_eq!(read(&end, false, &|_| ()), Err(InvalidPayload::Unexpected(2)));
        assert_eq!(read(&middle, true, &|_| ()), Err(InvalidPayload::Missing(2)));
        assert_eq!(read(&end, true, &|it| it.outgoing_cltv_value = None), Err(InvalidPayload::Missing(4)));
        assert_eq!(read(&end, true, &|it| it.total_amount_msat = None), Err(InvalidPayload::Missing(18)));
        type Addition<'a> = (u64, &'a dyn Fn(&mut HopPayload));
        let others: [Addition<'_>; 5] = [
            (6, &|it| it.short_channel_id = Some(ShortChannelId::from_u64(1))),
            (8, &|it| it.payment_data = last_of_invoice().payment_data),
            (16, &|it| it.payment_metadata = Some(vec![])),
            (KEYSEND_PREIMAGE, &|it| it.keysend_preimage = Some(Preimage([9; 32]))),
            (65_537, &|it| it.custom_records = vec![(65_537, vec![])]),
        ];
        for (tlv_type, change) in others {
            assert_eq!(read(&middle, false, change), Err(InvalidPayload::Unexpected(tlv_type)));
            assert_eq!(read(&end, true, change), Err(InvalidPayload::Unexpected(tlv_type)));
        }
        let mut odd = HopPayload::from(end).encode();
        odd.extend([19, 0]);
        assert_eq!(HopPayload::read(&odd, true), Err(InvalidPayload::Unexpected(19)), "odd, and still not allowed");
    }

    #[test]
    fn unknown_even_records_are_named() {
        for (bytes, tlv_type) in [(&[14, 0][..], 14), (&[0xfe, 0, 1, 0, 0, 0], 65_536)] {
            let error = HopPayload::read(bytes, true).unwrap_err();
            assert_eq!(error, InvalidPayload::Stream(DecodeError::UnknownEvenTlv { tlv_type }));
            assert_eq!(error.tlv_type(), tlv_type);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", last_of_invoice());
        assert!(!shown.contains("7, 7") && !shown.contains("9, 9") && !shown.contains("0909"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>, is_final: bool) {
            if let Ok(payload) = HopPayload::decode(&bytes) {
                // Unknown odd records below 65,536 are dropped; the rest comes back as it was.
                prop_assert_eq!(HopPayload::decode(&payload.encode()).unwrap(), payload);
            }
            let _ = HopPayload::read(&bytes, is_final);
        }
    }
}
