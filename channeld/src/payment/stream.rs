//! Streams of netted transfers (TRANSFER.md): sessions, their two marks and their receipts.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::batch::Carrier;
use crate::units::{ChannelId, CommitmentNumber, Msat, NodeId, PaymentHash, SessionId, UnixTime};
use crate::wire::{PaymentRun, Payments};

/// The most payments that one `update_transfer` of ours holds: bounds the message and the record.
const MAX_PAYMENTS_IN_TRANSFER: u64 = 16_384;

/// A point in a session: the payments up to and with `sequence` (counted from 1; 0 is before the first) and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The last payment's sequence.
    pub sequence: u64,
    /// What they come to.
    pub total: Msat,
}

/// A session in which we pay. What is not committed yet is kept payment by payment, so that nothing is lost when the
/// channel forgets what it had not signed; how much of it the channel holds, only the channel knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingStream {
    /// The channel it runs on; [`ChannelId::ALL`] where HTLCs carry it over whatever channel has a way.
    pub channel: ChannelId,
    /// What carries it.
    pub carrier: Carrier,
    /// Who is paid.
    pub payee: NodeId,
    /// The most that the client wants to pay in it.
    pub max_total: Option<Msat>,
    /// How long to collect before a round begins, in microseconds.
    pub batch_delay_micros: u64,
    /// Journaled here.
    pub accepted: Mark,
    /// Paid.
    pub committed: Mark,
    /// Accepted and not committed, in order.
    unpaid: VecDeque<PaymentRun>,
    /// No more payments come; with the reason for closing.
    pub finishing: Option<StreamCloseReason>,
    /// When it was opened.
    pub opened: UnixTime,
}

/// A change of an outgoing stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamChange {
    /// Payments were accepted.
    Accepted {
        /// In order, behind all others.
        runs: Vec<PaymentRun>,
    },
    /// Payments are paid.
    Committed {
        /// Up to here.
        mark: Mark,
    },
    /// No more payments are accepted.
    Finishing {
        /// Why.
        reason: StreamCloseReason,
    },
    /// The client came back with other limits.
    Resumed {
        /// The most that the client wants to pay in total.
        max_total: Option<Msat>,
        /// How long to collect before a round begins, in microseconds.
        batch_delay_micros: u64,
    },
    /// A batch is on its way in HTLCs.
    BatchSent {
        /// Its payment.
        payment_hash: PaymentHash,
        /// What is paid when it is.
        mark: Mark,
    },
    /// It failed for certain.
    BatchReturned,
}

/// What the channel is asked to take next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The wire's sequence of the first payment; the wire counts from 0.
    pub first_sequence: u64,
    /// The wire's sequence of the last.
    pub last_sequence: u64,
    /// Their sum.
    pub amount: Msat,
    /// Them, one by one.
    pub payments: Payments,
}

impl OutgoingStream {
    /// A fresh session.
    pub const fn new(channel: ChannelId, payee: NodeId, opened: UnixTime) -> OutgoingStream {
        let none = Mark { sequence: 0, total: Msat::ZERO };
        OutgoingStream {
            channel,
            carrier: Carrier::Transfers,
            payee,
            max_total: None,
            batch_delay_micros: 0,
            accepted: none,
            committed: none,
            unpaid: VecDeque::new(),
            finishing: None,
            opened,
        }
    }

    /// The channel that HTLCs must leave over, if one was asked for.
    pub fn outgoing_channel(&self) -> Option<ChannelId> {
        Some(self.channel).filter(|channel| *channel != ChannelId::ALL)
    }

    /// Whether HTLCs carry it.
    pub const fn is_by_htlc(&self) -> bool {
        matches!(self.carrier, Carrier::Keysend { .. })
    }

    /// Whether a batch could go: there is something, and nothing under way.
    pub const fn is_batch_wanted(&self) -> bool {
        matches!(self.carrier, Carrier::Keysend { under_way: None }) && !self.is_settled()
    }

    /// The total up to what is handed over to HTLCs.
    pub fn handed_over(&self) -> Msat {
        match self.carrier {
            Carrier::Keysend { under_way: Some((_, mark)) } => mark.total,
            _ => self.committed.total,
        }
    }

    /// What is accepted and not committed.
    pub fn uncommitted(&self) -> Msat {
        self.accepted.total.saturating_sub(self.committed.total)
    }

    /// Whether all that was accepted is committed.
    pub const fn is_settled(&self) -> bool {
        self.accepted.sequence == self.committed.sequence
    }

    /// The payments of a `Pay` that are new, as runs; `None` where it leaves a gap. What came before counts once.
    pub fn fresh(&self, first: u64, amounts: &[Msat], tags: &[(u32, [u8; 32])]) -> Option<Vec<PaymentRun>> {
        let next = self.accepted.sequence + 1;
        if first == 0 || first > next {
            return None;
        }
        let known = usize::try_from(next - first).unwrap_or(usize::MAX).min(amounts.len());
        let mut tags = tags.iter().skip_while(|(place, _)| (*place as usize) < known).peekable();
        let mut runs: Vec<PaymentRun> = Vec::new();
        for (place, amount) in amounts.iter().enumerate().skip(known) {
            let tag = tags.next_if(|(at, _)| *at as usize == place).map(|(_, tag)| *tag);
            append(&mut runs, PaymentRun { count: 1, amount_msat: *amount, tag });
        }
        Some(runs)
    }

    /// As many of the unpaid payments as fit, from the wire's sequence `next` on, which is what the channel holds already.
    pub fn batch(&self, next: u64, amount_limit: Msat, count_limit: u64) -> Option<Batch> {
        let mut skip = next.checked_sub(self.committed.sequence)?;
        let mut batch =
            Batch { first_sequence: next, last_sequence: next, amount: Msat::ZERO, payments: Payments::new() };
        let mut room = count_limit.min(MAX_PAYMENTS_IN_TRANSFER);
        let mut count = 0;
        for run in &self.unpaid {
            let skipped = skip.min(run.count);
            skip -= skipped;
            let wanted = (run.count - skipped).min(room);
            let affordable = affordable(run.amount_msat, amount_limit.saturating_sub(batch.amount), wanted);
            let mut pushed = 0;
            while pushed < affordable && batch.payments.push(run.amount_msat, run.tag) {
                pushed += 1;
            }
            batch.amount = plus(batch.amount, run.amount_msat, pushed);
            count += pushed;
            room -= pushed;
            if pushed < run.count - skipped {
                break;
            }
        }
        batch.last_sequence = next + count.checked_sub(1)?;
        Some(batch)
    }

    /// The only way to change it.
    pub fn apply(&mut self, change: &StreamChange) {
        match change {
            StreamChange::Accepted { runs } => {
                for run in runs {
                    self.accepted.sequence += run.count;
                    self.accepted.total = plus(self.accepted.total, run.amount_msat, run.count);
                    append_deque(&mut self.unpaid, *run);
                }
            }
            StreamChange::Committed { mark } => self.commit(*mark),
            StreamChange::Finishing { reason } => self.finishing = Some(*reason),
            StreamChange::BatchSent { payment_hash, mark } => {
                self.carrier = Carrier::Keysend { under_way: Some((*payment_hash, *mark)) };
            }
            StreamChange::BatchReturned => self.carrier = Carrier::Keysend { under_way: None },
            StreamChange::Resumed { max_total, batch_delay_micros } => {
                self.max_total = *max_total;
                self.batch_delay_micros = *batch_delay_micros;
            }
        }
    }

    fn commit(&mut self, mark: Mark) {
        let mut paid = mark.sequence.saturating_sub(self.committed.sequence);
        while paid > 0 {
            let Some(run) = self.unpaid.front_mut() else { break };
            let taken = paid.min(run.count);
            run.count -= taken;
            paid -= taken;
            if run.count == 0 {
                self.unpaid.pop_front();
            }
        }
        self.committed = mark;
        if self.is_by_htlc() {
            self.carrier = Carrier::Keysend { under_way: None };
        }
    }
}

/// The first payments, as many as fit into both limits, and whether these are all.
pub fn fitting(runs: Vec<PaymentRun>, amount: Msat, count: u64) -> (Vec<PaymentRun>, bool) {
    let (mut fit, mut total, mut left) = (Vec::new(), Msat::ZERO, count);
    for run in runs {
        let affordable = affordable(run.amount_msat, amount.saturating_sub(total), run.count.min(left));
        total = plus(total, run.amount_msat, affordable);
        left -= affordable;
        if affordable > 0 {
            fit.push(PaymentRun { count: affordable, ..run });
        }
        if affordable < run.count {
            return (fit, false);
        }
    }
    (fit, true)
}

/// How many payments of `amount` each fit into `limit`, at most `wanted`.
fn affordable(amount: Msat, limit: Msat, wanted: u64) -> u64 {
    limit.msat().checked_div(amount.msat()).map_or(wanted, |count| count.min(wanted))
}

fn plus(total: Msat, amount: Msat, count: u64) -> Msat {
    Msat::new(total.msat().saturating_add(amount.msat().saturating_mul(count)))
}

fn is_same(run: &PaymentRun, other: &PaymentRun) -> bool {
    run.amount_msat == other.amount_msat && run.tag == other.tag
}

fn append(runs: &mut Vec<PaymentRun>, run: PaymentRun) {
    match runs.last_mut() {
        Some(last) if is_same(last, &run) => last.count += run.count,
        _ => runs.push(run),
    }
}

fn append_deque(runs: &mut VecDeque<PaymentRun>, run: PaymentRun) {
    match runs.back_mut() {
        Some(last) if is_same(last, &run) => last.count += run.count,
        _ => runs.push_back(run),
    }
}

/// What the payee signs: cumulative, so only the newest matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The channel the session runs on.
    pub channel: ChannelId,
    /// The session.
    pub session: SessionId,
    /// Who paid.
    pub payer: NodeId,
    /// The last sequence that is paid.
    pub last_sequence: u64,
    /// All that is paid.
    pub paid: Msat,
    /// What a close at that instant would have paid the payee.
    pub enforceable: Msat,
    /// The payee's signature over all of it, compact.
    pub signature: Vec<u8>,
}

/// What a client of a stream sees; each status replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The last sequence that is journaled here.
    pub accepted_sequence: u64,
    /// The last sequence that is paid: the payee holds a signed new state and we revoked the old one.
    pub committed_sequence: u64,
    /// All that was accepted.
    pub accepted: Msat,
    /// All that is paid.
    pub committed: Msat,
    /// What a close at this instant would pay the payee.
    pub enforceable: Msat,
    /// The payee's newest commitment.
    pub commitment_number: CommitmentNumber,
    /// Microseconds from the arrival of the newest committed payment to its commitment.
    pub latency_micros: u64,
    /// How much more may be sent now.
    pub window: StreamWindow,
    /// Set when the session is over: nothing follows.
    pub closed: Option<StreamClosed>,
}

/// How much more a client may send at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamWindow {
    /// So many payments.
    pub payments: u64,
    /// Of so much together.
    pub amount: Msat,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamClosed {
    /// Why.
    pub reason: StreamCloseReason,
    /// The payee's signature over what it was paid, where it came in time.
    pub receipt: Option<Receipt>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamCloseReason {
    /// The client finished and all is committed.
    Finished,
    /// The limit that the client gave in total is reached.
    TotalReached,
    /// The channel closes, or is closed.
    ChannelClosed,
    /// The payee closed the session.
    ClosedByPayee,
    /// The balance does not carry the next payment.
    BalanceExhausted,
    /// A batch failed for certain: no way to the payee, or it did not want it.
    PaymentFailed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> OutgoingStream {
        let payee = NodeId(secp256k1::PublicKey::from_slice(&[2; 33]).expect("a point"));
        OutgoingStream::new(ChannelId([1; 32]), payee, UnixTime::new(0))
    }

    fn accept(stream: &mut OutgoingStream, first: u64, amounts: &[u64]) {
        let amounts: Vec<_> = amounts.iter().copied().map(Msat::new).collect();
        let runs = stream.fresh(first, &amounts, &[]).expect("no gap");
        stream.apply(&StreamChange::Accepted { runs });
    }

    #[test]
    fn a_payment_seen_twice_counts_once_and_a_gap_is_refused() {
        let mut stream = stream();
        accept(&mut stream, 1, &[5, 5, 7]);
        accept(&mut stream, 2, &[5, 7, 9]);
        assert_eq!(stream.accepted, Mark { sequence: 4, total: Msat::new(26) });
        assert_eq!(stream.fresh(6, &[Msat::new(1)], &[]), None);
        assert_eq!(stream.fresh(0, &[Msat::new(1)], &[]), None);
    }

    #[test]
    fn a_batch_goes_on_where_the_channel_stands_and_keeps_within_limits() {
        let mut stream = stream();
        accept(&mut stream, 1, &[5, 5, 7, 9]);
        let all = stream.batch(0, Msat::new(1_000), 1_000).expect("payments");
        assert_eq!((all.first_sequence, all.last_sequence, all.amount), (0, 3, Msat::new(26)));
        let rest = stream.batch(1, Msat::new(13), 1_000).expect("payments");
        assert_eq!((rest.first_sequence, rest.last_sequence, rest.amount), (1, 2, Msat::new(12)));
        assert_eq!(stream.batch(4, Msat::new(1_000), 1_000), None);
        assert_eq!(stream.batch(0, Msat::new(4), 1_000), None);
        stream.apply(&StreamChange::Committed { mark: Mark { sequence: 3, total: Msat::new(17) } });
        let last = stream.batch(3, Msat::new(1_000), 1_000).expect("a payment");
        assert_eq!((last.first_sequence, last.last_sequence, last.amount), (3, 3, Msat::new(9)));
        assert_eq!(stream.uncommitted(), Msat::new(9));
    }

    #[test]
    fn as_many_as_fit_are_taken() {
        let run = |count, amount| PaymentRun { count, amount_msat: Msat::new(amount), tag: None };
        let runs = vec![run(3, 10), run(2, 100)];
        assert_eq!(fitting(runs.clone(), Msat::new(230), 5), (runs.clone(), true));
        assert_eq!(fitting(runs.clone(), Msat::new(229), 5), (vec![run(3, 10), run(1, 100)], false));
        assert_eq!(fitting(runs.clone(), Msat::new(29), 5), (vec![run(2, 10)], false));
        assert_eq!(fitting(runs.clone(), Msat::new(1_000), 4), (vec![run(3, 10), run(1, 100)], false));
        assert_eq!(fitting(runs, Msat::ZERO, 5), (vec![], false));
        assert_eq!(fitting(vec![], Msat::ZERO, 0), (vec![], true));
    }

    #[test]
    fn tags_stay_with_their_payments() {
        let stream = stream();
        let runs = stream.fresh(1, &[Msat::new(1); 4], &[(0, [1; 32]), (2, [2; 32])]).expect("no gap");
        let tags: Vec<_> = runs.iter().map(|run| (run.count, run.tag)).collect();
        assert_eq!(tags, [(1, Some([1; 32])), (1, None), (1, Some([2; 32])), (1, None)]);
    }
}
