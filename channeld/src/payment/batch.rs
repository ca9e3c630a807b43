//! Streams where no transfers are: a batch of payments in one keysend HTLC, over any route (docs/protocol.md, "Streams over
//! HTLCs"). What its onion tells the payee, and what the payee books.

use serde::{Deserialize, Serialize};

use super::stream::{Batch, Mark};
use crate::units::{Msat, PaymentHash, SessionId, UnixTime};
use crate::wire::codec::{Reader, TlvValue, write_bigsize};
use crate::wire::{DecodeError, Payments};

/// The custom record of a batch: `session_id`, `bigsize` first and last sequence counted from 0, then the payments as the
/// TLV of `update_transfer` has them, as many as are told.
pub const BATCH_RECORD: u64 = 4_730_901;
/// The custom record by which a payer asks for a receipt, in an HTLC that nobody can take: `session_id`.
pub const RECEIPT_RECORD: u64 = 4_730_903;
/// The bytes of payments that one batch tells: with 20 hops before it the onion still holds it.
const MAX_TOLD: usize = 300;
/// Sessions towards us that are remembered at once: each has cost its payer an HTLC.
pub const MAX_INCOMING: usize = 4_096;
/// How long a session towards us is remembered after its last batch, in seconds.
pub const KEEP_SECONDS: u64 = 7 * 24 * 3_600;

/// What a keysend HTLC says of the stream that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// The session.
    pub session: SessionId,
    /// The first payment's sequence, counted from 0.
    pub first_sequence: u64,
    /// The last payment's.
    pub last_sequence: u64,
    /// The first of them one by one, as many as are told.
    pub payments: Payments,
}

impl BatchRecord {
    /// Of a batch of ours.
    pub fn of(session: SessionId, batch: &Batch) -> BatchRecord {
        let mut told = Payments::new();
        for run in batch.payments.runs() {
            for _ in 0..run.count {
                let mut more = told.clone();
                if !more.push(run.amount_msat, run.tag) || more.encoded_length() > MAX_TOLD {
                    let (first_sequence, last_sequence) = (batch.first_sequence, batch.last_sequence);
                    return BatchRecord { session, first_sequence, last_sequence, payments: told };
                }
                told = more;
            }
        }
        let (first_sequence, last_sequence) = (batch.first_sequence, batch.last_sequence);
        BatchRecord { session, first_sequence, last_sequence, payments: told }
    }

    /// The record.
    pub fn to_record(&self) -> (u64, Vec<u8>) {
        let mut value = self.session.0.to_vec();
        write_bigsize(self.first_sequence, &mut value);
        write_bigsize(self.last_sequence, &mut value);
        self.payments.write_value(&mut value);
        (BATCH_RECORD, value)
    }

    /// The one among custom records, if there is one that makes sense.
    pub fn find(records: &[(u64, Vec<u8>)]) -> Option<BatchRecord> {
        let (_, value) = records.iter().find(|(tlv_type, _)| *tlv_type == BATCH_RECORD)?;
        BatchRecord::read(value).ok().filter(|record| record.first_sequence <= record.last_sequence)
    }

    fn read(value: &[u8]) -> Result<BatchRecord, DecodeError> {
        let mut reader = Reader::new(value);
        let session = SessionId(reader.array()?);
        let (first_sequence, last_sequence) = (reader.bigsize()?, reader.bigsize()?);
        Ok(BatchRecord { session, first_sequence, last_sequence, payments: Payments::read_value(&mut reader)? })
    }

    /// The tags that were told, by sequences counted from 1: of each run its first.
    pub fn tags(&self) -> Vec<(u64, [u8; 32])> {
        let mut sequence = self.first_sequence.saturating_add(1);
        let mut tags = Vec::new();
        for run in self.payments.runs() {
            tags.extend(run.tag.map(|tag| (sequence, tag)));
            sequence = sequence.saturating_add(run.count);
        }
        tags
    }
}

/// The record that asks for a receipt.
pub fn receipt_request(session: SessionId) -> (u64, Vec<u8>) {
    (RECEIPT_RECORD, session.0.to_vec())
}

/// The session whose receipt is asked for.
pub fn receipt_wanted(records: &[(u64, Vec<u8>)]) -> Option<SessionId> {
    let (_, value) = records.iter().find(|(tlv_type, _)| *tlv_type == RECEIPT_RECORD)?;
    Some(SessionId(value.as_slice().try_into().ok()?))
}

/// A session towards us that HTLCs carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingStream {
    /// What is paid.
    pub paid: Mark,
    /// When the last batch came.
    pub at: UnixTime,
}

impl IncomingStream {
    /// What the books say after a batch; `None` where its sequences do not go on where they ended.
    pub fn with(&self, record: &BatchRecord, amount: Msat) -> Option<Mark> {
        if record.first_sequence != self.paid.sequence {
            return None;
        }
        Some(Mark {
            sequence: record.last_sequence.checked_add(1)?,
            total: Msat::new(self.paid.total.msat().checked_add(amount.msat())?),
        })
    }
}

/// What carries a stream in which we pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// Netted transfers on its channel.
    Transfers,
    /// One keysend HTLC a batch; the next leaves when the one before is decided.
    Keysend {
        /// The batch under way: its payment, and the mark when it is paid.
        under_way: Option<(PaymentHash, Mark)>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(count: u64, tag: Option<[u8; 32]>) -> BatchRecord {
        let mut payments = Payments::new();
        // As many as fit: what is told of each is not the whole of a large batch.
        for at in 0..count {
            payments.push(Msat::new(5 + at % 2), tag);
        }
        let batch = Batch { first_sequence: 7, last_sequence: 6 + count, amount: Msat::new(5 * count), payments };
        BatchRecord::of(SessionId([9; 32]), &batch)
    }

    #[test]
    fn a_record_goes_there_and_back() {
        let small = record(3, Some([1; 32]));
        assert_eq!(BatchRecord::find(&[small.to_record()]), Some(small.clone()));
        assert_eq!(small.tags().first(), Some(&(8, [1; 32])));
        let large = record(10_000, Some([1; 32]));
        assert!(large.to_record().1.len() < 400, "{}", large.to_record().1.len());
        assert_eq!(large.last_sequence, 10_006);
        assert_eq!(BatchRecord::find(&[(BATCH_RECORD, vec![1; 40])]), None);
        assert_eq!(receipt_wanted(&[receipt_request(SessionId([3; 32]))]), Some(SessionId([3; 32])));
    }

    #[test]
    fn sequences_go_on_where_they_ended() {
        let stream = IncomingStream { paid: Mark { sequence: 7, total: Msat::new(10) }, at: UnixTime::new(1) };
        let mark = stream.with(&record(3, None), Msat::new(15));
        assert_eq!(mark, Some(Mark { sequence: 10, total: Msat::new(25) }));
        let gone_on = IncomingStream { paid: Mark { sequence: 8, ..stream.paid }, ..stream };
        assert_eq!(gone_on.with(&record(3, None), Msat::new(15)), None);
    }
}
