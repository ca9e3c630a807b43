//! Netted transfers, our extension of BOLT 2 (docs/protocol.md, "Netted transfers"): `update_transfer` and the session
//! messages around it. All types are odd and in the custom range, so that other nodes ignore them; none is sent unless both
//! sides set [`Feature::NettedTransfers`](crate::wire::Feature::NettedTransfers).

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use crate::units::{ChannelId, Msat, SessionId};
use crate::wire::DecodeError;
use crate::wire::codec::{Field, Reader, TlvValue, bigsize_length, write_bigsize};

message! {
    /// Moves the sum of a batch of payments from the sender's balance to the receiver's, as an update of the commitment.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 32 | `channel_id` |
    /// | 8 | `id` |
    /// | 32 | `session_id` |
    /// | 8 | `first_sequence` |
    /// | 8 | `last_sequence` |
    /// | 8 | `amount_msat` |
    /// | | TLV stream: 1 `payments` |
    pub struct UpdateTransfer = 47301 {
        /// The channel.
        channel_id: ChannelId,
        /// The next transfer id of the sender: each direction counts its own from 0, as HTLC ids, apart from them.
        id: u64,
        /// The session of the payments.
        session_id: SessionId,
        /// The sequence number of the first payment in it.
        first_sequence: u64,
        /// The sequence number of the last payment in it; all between are in it, too.
        last_sequence: u64,
        /// The sum of the payments; any `u64`.
        amount_msat: Msat,
    } tlvs {
        /// The payments one by one from `first_sequence` on, as many as the sender cares to tell.
        1 => payments: Payments,
    }
}

impl UpdateTransfer {
    /// How many payments the transfer holds, or `None` where the sequence runs backwards or wraps.
    pub const fn payment_count(&self) -> Option<u64> {
        match self.last_sequence.checked_sub(self.first_sequence) {
            Some(span) => span.checked_add(1),
            None => None,
        }
    }

    /// Whether what `payments` tells agrees with the sums: not more payments and money than the transfer, and exactly
    /// the sum where all are told. A rule of the session, not of the commitment.
    pub fn payments_agree(&self) -> bool {
        let Some(payments) = &self.payments else { return true };
        let (Some(count), Some(told), Some(sum)) = (self.payment_count(), payments.count(), payments.sum()) else {
            return false;
        };
        if told == count { sum == self.amount_msat } else { told < count && sum <= self.amount_msat }
    }
}

/// The payments of a transfer: runs of equal ones. The value of the TLV `payments` is one run after the other, each
/// `bigsize` 2 × count + (1 if there is a tag), `bigsize` amount in msat, then the 32 bytes of the tag if there is one.
///
/// Kept as they are encoded: a peer's message takes no more memory than it has bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payments {
    encoded: Vec<u8>,
    /// Where the last run begins.
    last: u32,
}

/// Payments in a row with the same amount and the same tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRun {
    /// How many; at least 1.
    pub count: u64,
    /// The amount of each; any `u64`.
    pub amount_msat: Msat,
    /// What the payer calls each of them.
    pub tag: Option<[u8; 32]>,
}

impl PaymentRun {
    /// The most payments of one run: its count shares a `u64` with the mark of the tag.
    pub const MAX_COUNT: u64 = u64::MAX >> 1;

    fn header(&self) -> u64 {
        self.count << 1 | u64::from(self.tag.is_some())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_bigsize(self.header(), out);
        write_bigsize(self.amount_msat.msat(), out);
        out.extend(self.tag.iter().flatten());
    }

    fn read(reader: &mut Reader<'_>) -> Result<PaymentRun, DecodeError> {
        let header = reader.bigsize()?;
        let count = header >> 1;
        if count == 0 {
            return Err(DecodeError::InvalidPaymentRun);
        }
        let amount_msat = Msat::new(reader.bigsize()?);
        let tag = if header & 1 == 1 { Some(reader.array()?) } else { None };
        Ok(PaymentRun { count, amount_msat, tag })
    }

    fn encoded_length(&self) -> usize {
        let tag = if self.tag.is_some() { 32 } else { 0 };
        bigsize_length(self.header()) + bigsize_length(self.amount_msat.msat()) + tag
    }
}

impl Payments {
    /// The most bytes that [`Payments::push`] fills: the transfer around them is then a message still.
    pub const MAX_ENCODED_LENGTH: usize = 65_000;

    /// None yet.
    pub const fn new() -> Payments {
        Payments { encoded: Vec::new(), last: 0 }
    }

    /// Adds a payment behind the others, or gives `false` where no more fit into a message.
    pub fn push(&mut self, amount_msat: Msat, tag: Option<[u8; 32]>) -> bool {
        let begin = self.last as usize;
        let last = PaymentRun::read(&mut Reader::new(&self.encoded[begin..])).ok();
        let grows = |last: &PaymentRun| {
            last.amount_msat == amount_msat && last.tag == tag && last.count < PaymentRun::MAX_COUNT
        };
        let (begin, run) = match last.filter(grows) {
            Some(last) => (begin, PaymentRun { count: last.count + 1, ..last }),
            None => (self.encoded.len(), PaymentRun { count: 1, amount_msat, tag }),
        };
        if begin + run.encoded_length() > Payments::MAX_ENCODED_LENGTH {
            return false;
        }
        self.encoded.truncate(begin);
        run.write(&mut self.encoded);
        self.last = begin as u32;
        true
    }

    /// The runs in order.
    pub fn runs(&self) -> impl Iterator<Item = PaymentRun> + '_ {
        let mut reader = Reader::new(&self.encoded);
        std::iter::from_fn(move || {
            let more = !reader.is_empty();
            more.then(|| PaymentRun::read(&mut reader).expect("what is kept was read or written once"))
        })
    }

    /// The bytes that they take, on the wire and in memory.
    pub fn encoded_length(&self) -> usize {
        self.encoded.len()
    }

    /// Whether there is no payment in it.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// How many payments, or `None` on overflow.
    pub fn count(&self) -> Option<u64> {
        self.runs().try_fold(0u64, |count, run| count.checked_add(run.count))
    }

    /// The sum of all, or `None` on overflow.
    pub fn sum(&self) -> Option<Msat> {
        self.runs().try_fold(Msat::ZERO, |sum, run| {
            let amount = run.amount_msat.msat().checked_mul(run.count)?;
            sum.checked_add(Msat::new(amount))
        })
    }
}

impl TlvValue for Payments {
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend(&self.encoded);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Payments, DecodeError> {
        let encoded = reader.take_rest().to_vec();
        let (mut runs, mut last) = (Reader::new(&encoded), 0);
        while !runs.is_empty() {
            last = u32::try_from(encoded.len() - runs.remaining()).map_err(|_| DecodeError::TooShort)?;
            PaymentRun::read(&mut runs)?;
        }
        Ok(Payments { encoded, last })
    }
}

message! {
    /// The payer opens a session, takes one up again, or asks for a receipt. Answered by `transfer_window` or
    /// `transfer_close`. Outside the commitment dance; may be repeated at any time.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 32 | `channel_id` |
    /// | 32 | `session_id` |
    /// | 8 | `next_sequence` |
    /// | 8 | `sent_msat` |
    /// | 1 | `flags`: bit 0 receipt wanted |
    pub struct TransferOpen = 47303 {
        /// The channel.
        channel_id: ChannelId,
        /// Random, chosen by the payer; unique for it.
        session_id: SessionId,
        /// The sequence number of the next payment: 0 for a new session, else behind the last that was signed.
        next_sequence: u64,
        /// The sum of all payments before it.
        sent_msat: Msat,
        /// Bit 0: see [`TransferOpen::RECEIPT_WANTED`].
        flags: u8,
    }
}

impl TransferOpen {
    /// `flags`: the payer wants a `transfer_receipt` now; sent at most once a second.
    pub const RECEIPT_WANTED: u8 = 1;

    /// Whether the payer wants a receipt.
    pub const fn receipt_wanted(&self) -> bool {
        self.flags & TransferOpen::RECEIPT_WANTED != 0
    }
}

message! {
    /// The payee's credit: what may be in `update_transfer`s of the session whose payment it cannot enforce yet. Replaces
    /// the last window. Zero: nothing may be sent until it is raised.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 32 | `channel_id` |
    /// | 32 | `session_id` |
    /// | 8 | `window_msat` |
    /// | 4 | `window_count` |
    pub struct TransferWindow = 47305 {
        /// The channel.
        channel_id: ChannelId,
        /// The session.
        session_id: SessionId,
        /// The most money uncommitted.
        window_msat: Msat,
        /// The most payments uncommitted.
        window_count: u32,
    }
}

message! {
    /// Ends a session: the payer has no more payments, or the payee takes no more. Money that is in
    /// an `update_transfer` counts all the same.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 32 | `channel_id` |
    /// | 32 | `session_id` |
    /// | 2 | `reason` |
    /// | 8 | `next_sequence` |
    pub struct TransferClose = 47307 {
        /// The channel.
        channel_id: ChannelId,
        /// The session.
        session_id: SessionId,
        /// Why.
        reason: TransferCloseReason,
        /// Behind the last payment that the sender of this message counts.
        next_sequence: u64,
    }
}

/// Why a session of transfers ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferCloseReason {
    /// 0: the payer is done; the payee answers with the same reason and a receipt.
    Finished,
    /// 1: no such session is open.
    UnknownSession,
    /// 2: the sequence has a gap or runs backwards, or amounts and sum disagree.
    WrongSequence,
    /// 3: more came than the window allowed.
    WindowExceeded,
    /// 4: too many sessions are open in this direction.
    TooManySessions,
    /// 5: the payee takes no transfers on this channel, for one for its dust limit.
    NotAccepted,
    /// 6: the channel is closing.
    ChannelClosing,
    /// Any other number.
    Other(u16),
}

impl TransferCloseReason {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            TransferCloseReason::Finished => 0,
            TransferCloseReason::UnknownSession => 1,
            TransferCloseReason::WrongSequence => 2,
            TransferCloseReason::WindowExceeded => 3,
            TransferCloseReason::TooManySessions => 4,
            TransferCloseReason::NotAccepted => 5,
            TransferCloseReason::ChannelClosing => 6,
            TransferCloseReason::Other(code) => code,
        }
    }
}

impl Field for TransferCloseReason {
    fn write(&self, out: &mut Vec<u8>) {
        self.code().write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<TransferCloseReason, DecodeError> {
        Ok(match u16::read(reader)? {
            0 => TransferCloseReason::Finished,
            1 => TransferCloseReason::UnknownSession,
            2 => TransferCloseReason::WrongSequence,
            3 => TransferCloseReason::WindowExceeded,
            4 => TransferCloseReason::TooManySessions,
            5 => TransferCloseReason::NotAccepted,
            6 => TransferCloseReason::ChannelClosing,
            code => TransferCloseReason::Other(code),
        })
    }
}

message! {
    /// What the payee has been **paid** in a session, signed by its node key. Cumulative: only the newest matters.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 32 | `chain_hash` |
    /// | 32 | `channel_id` |
    /// | 32 | `session_id` |
    /// | 33 | `payer_node_id` |
    /// | 8 | `next_sequence` |
    /// | 8 | `paid_msat` |
    /// | 8 | `enforceable_msat` |
    /// | 64 | `signature` |
    pub struct TransferReceipt = 47309 {
        /// The chain.
        chain_hash: ChainHash,
        /// The channel.
        channel_id: ChannelId,
        /// The session.
        session_id: SessionId,
        /// Whose payments.
        payer_node_id: PublicKey,
        /// Behind the last payment that is paid.
        next_sequence: u64,
        /// The sum of all that is paid in the session.
        paid_msat: Msat,
        /// What a close at this instant would pay the payee on chain.
        enforceable_msat: Msat,
        /// By the payee's node key over [`TransferReceipt::signed_hash`].
        signature: Signature,
    }
}

impl TransferReceipt {
    /// The tag that sets these signatures apart from all others: its SHA-256, twice, goes before the fields.
    pub const TAG: &'static str = "channeld/transfer_receipt";

    /// What the signature signs: SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ all fields before the signature).
    pub fn signed_hash(&self) -> secp256k1::Message {
        let tag = sha256::Hash::hash(TransferReceipt::TAG.as_bytes()).to_byte_array();
        let mut signed = [tag, tag].concat();
        self.write_body(&mut signed);
        signed.truncate(signed.len() - 64);
        secp256k1::Message::from_digest(sha256::Hash::hash(&signed).to_byte_array())
    }

    /// Whether `payee_node_id` signed it.
    pub fn is_signed_by(&self, payee_node_id: &PublicKey) -> bool {
        secp256k1::SECP256K1.verify_ecdsa(&self.signed_hash(), &self.signature, payee_node_id).is_ok()
    }
}
