//! What both sides of a channel agree on: the shared log of updates, and what each commitment holds.
//!
//! Knows every update from its proposal until it is irrevocable on both sides (BOLT 2, "Normal Operation"), the sums of the
//! five commitments that matter, the limits of both sides, and how a commitment of ours or of the peer's looks to BOLT 3
//! (the one place where local and remote become broadcaster and countersignatory). Nothing here grows with history.
//! Never: signs, sends, knows a message, a connection or a block.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod change;
mod error;
mod htlc;
mod limit;
mod parameter;
mod spec;
mod stage;
mod tally;
mod transfer;

pub use change::{Change, PendingFee};
pub use error::{LimitRefusal, LimitViolation};
pub use htlc::{Htlc, HtlcOffer, PenaltyRow, PendingRemoval, Removal};
pub use limit::{ExposurePolicy, MAX_EXPIRY};
pub use parameter::{Limits, Parameters, msat};
pub use stage::{Side, Stage, View};
pub use tally::{Exposure, Slots, Tallies, Tally};
pub use transfer::{
    CreditWindow, MAX_CLOSED_SESSIONS, MAX_OPEN_SESSIONS, MAX_PENDING_TRANSFERS, PendingTransfer, Session, SessionMark,
    Transfer, TransferLog,
};

use std::collections::BTreeMap;

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use crate::keys::{Basepoints, PerCommitmentPoint, ReceivedSecrets};
use crate::transactions::{CommitmentParameters, CommitmentSignatures, CommitmentTerms, Funding};
use crate::units::{CommitmentNumber, FeeratePerKw, HtlcId, Msat, SessionId};

/// A funding output and what the commitments that spend it hold. A splice will bring a second one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundedCommitments {
    /// What our commitments share.
    pub local: CommitmentParameters,
    /// What the peer's commitments share.
    pub remote: CommitmentParameters,
    /// Their sums.
    pub tallies: Tallies,
    /// The peer's signatures for our current commitment; none between `funding_created` and `funding_signed`.
    pub signatures: Option<CommitmentSignatures>,
}

impl FundedCommitments {
    /// The output they spend.
    pub const fn funding(&self) -> &Funding {
        self.local.funding()
    }

    /// What it is worth.
    pub const fn capacity(&self) -> Amount {
        self.funding().amount()
    }

    /// What the commitments of one side share.
    pub const fn terms(&self, owner: Side) -> &CommitmentParameters {
        match owner {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }
}

/// Which of the two was sent last: the order in which they are sent again (BOLT 2, "Message Retransmission").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastSent {
    /// `revoke_and_ack`, or neither.
    Revocation,
    /// `commitment_signed`
    Commitment,
}

/// The state that both sides agree on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitments {
    /// What does not change.
    pub parameters: Parameters,
    /// The funding outputs; exactly one now.
    pub active: Vec<FundedCommitments>,
    /// HTLCs that we offered.
    pub outgoing: BTreeMap<HtlcId, Htlc>,
    /// HTLCs that the peer offered.
    pub incoming: BTreeMap<HtlcId, Htlc>,
    /// The id of our next HTLC.
    pub next_outgoing: HtlcId,
    /// The id of the peer's next HTLC.
    pub next_incoming: HtlcId,
    /// Feerates on their way, the oldest first.
    pub fees: Vec<PendingFee>,
    /// What we pay.
    pub outgoing_transfers: TransferLog,
    /// What the peer pays.
    pub incoming_transfers: TransferLog,
    /// The number of our current commitment; all before it are revoked.
    pub local_number: CommitmentNumber,
    /// The number of the peer's oldest commitment that is not revoked.
    pub remote_number: CommitmentNumber,
    /// We signed the peer's next commitment and it has not revoked the former.
    pub awaiting_revocation: bool,
    /// What was sent last.
    pub last_sent: LastSent,
    /// There are updates that our next `commitment_signed` would cover.
    pub changes_due: bool,
    /// The point of the peer's current commitment.
    pub remote_point: PerCommitmentPoint,
    /// The point of the peer's next commitment; unknown before its `channel_ready`.
    pub remote_next_point: Option<PerCommitmentPoint>,
    /// The secrets of all of the peer's revoked commitments.
    pub secrets: ReceivedSecrets,
    /// Sums over all HTLCs.
    pub exposure: Exposure,
}

/// What a channel begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// What both sides agreed on.
    pub parameters: Parameters,
    /// The output that all commitments spend.
    pub funding: Funding,
    /// Our public keys.
    pub local_keys: Basepoints,
    /// The peer's public keys.
    pub remote_keys: Basepoints,
    /// Our balance; the rest is the peer's.
    pub local: Msat,
    /// The peer's balance.
    pub remote: Msat,
    /// The first feerate.
    pub feerate: FeeratePerKw,
    /// The peer's `first_per_commitment_point`.
    pub remote_point: PerCommitmentPoint,
}

impl Beginning {
    /// What the commitments of `owner` share: one half of the border between local and remote on this side, broadcaster
    /// and countersignatory on the other; `spec.rs` is the other half.
    fn terms(&self, owner: Side) -> CommitmentParameters {
        let (broadcaster, countersignatory) = match owner {
            Side::Local => (self.local_keys, self.remote_keys),
            Side::Remote => (self.remote_keys, self.local_keys),
        };
        CommitmentParameters::new(CommitmentTerms {
            format: self.parameters.format,
            funding: self.funding.clone(),
            broadcaster,
            countersignatory,
            broadcaster_is_opener: self.parameters.opener == owner,
            to_self_delay: self.parameters.limits(owner.other()).to_self_delay,
            dust_limit: self.parameters.limits(owner).dust_limit,
        })
    }
}

impl std::fmt::Debug for Commitments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commitments")
            .field("local_number", &self.local_number)
            .field("remote_number", &self.remote_number)
            .field("awaiting_revocation", &self.awaiting_revocation)
            .field("changes_due", &self.changes_due)
            .field("tallies", &self.main().tallies)
            .field("outgoing", &self.outgoing)
            .field("incoming", &self.incoming)
            .field("fees", &self.fees)
            .finish_non_exhaustive()
    }
}

impl Commitments {
    /// The channel's first commitments.
    pub fn new(beginning: Beginning) -> Commitments {
        let tally = Tally::new(beginning.local, beginning.remote, beginning.feerate);
        let funded = FundedCommitments {
            local: beginning.terms(Side::Local),
            remote: beginning.terms(Side::Remote),
            tallies: Tallies::new(tally),
            signatures: None,
        };
        assert!(tally.holds(funded.capacity()), "the balances are the capacity");
        Commitments {
            parameters: beginning.parameters,
            active: vec![funded],
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            next_outgoing: HtlcId::new(0),
            next_incoming: HtlcId::new(0),
            fees: Vec::new(),
            outgoing_transfers: TransferLog::default(),
            incoming_transfers: TransferLog::default(),
            local_number: CommitmentNumber::new(0),
            remote_number: CommitmentNumber::new(0),
            awaiting_revocation: false,
            last_sent: LastSent::Revocation,
            changes_due: false,
            remote_point: beginning.remote_point,
            remote_next_point: None,
            secrets: ReceivedSecrets::new(),
            exposure: Exposure::default(),
        }
    }

    /// The funding output in use.
    pub fn main(&self) -> &FundedCommitments {
        self.active.first().expect("a channel has a funding output")
    }

    /// The sums of one commitment over the funding output in use.
    pub fn tally(&self, view: View) -> &Tally {
        let tallies = &self.main().tallies;
        match view {
            View::LocalCurrent => &tallies.local_current,
            View::LocalNext => &tallies.local_next,
            View::RemoteCurrent => &tallies.remote_current,
            View::RemoteSigned => &tallies.remote_signed,
            View::RemoteNext => &tallies.remote_next,
        }
    }

    /// The HTLCs that `adder` offered.
    pub const fn htlcs(&self, adder: Side) -> &BTreeMap<HtlcId, Htlc> {
        match adder {
            Side::Local => &self.outgoing,
            Side::Remote => &self.incoming,
        }
    }

    /// What `payer` pays.
    pub const fn transfers(&self, payer: Side) -> &TransferLog {
        match payer {
            Side::Local => &self.outgoing_transfers,
            Side::Remote => &self.incoming_transfers,
        }
    }

    /// What the commitment `view` says of every session: if it is the one that confirms, this was paid.
    pub fn session_marks(&self, view: View) -> Vec<(Side, SessionId, SessionMark)> {
        let mut marks = Vec::new();
        for payer in [Side::Local, Side::Remote] {
            let log = self.transfers(payer);
            let of = |id: &SessionId| Some((payer, *id, log.mark_on(id, view, payer)?));
            marks.extend(log.sessions.keys().filter_map(of));
        }
        marks
    }

    /// The number of the commitment `view`.
    pub fn number(&self, view: View) -> CommitmentNumber {
        match view {
            View::LocalCurrent => self.local_number,
            View::LocalNext => self.local_number.next(),
            View::RemoteCurrent => self.remote_number,
            View::RemoteSigned if self.awaiting_revocation => self.remote_number.next(),
            View::RemoteSigned => self.remote_number,
            View::RemoteNext if self.awaiting_revocation => self.remote_number.next().next(),
            View::RemoteNext => self.remote_number.next(),
        }
    }

    /// Whether `commitment_signed` may be sent now: there is something to sign, and nothing unanswered.
    pub const fn may_sign(&self) -> bool {
        self.changes_due && !self.awaiting_revocation && self.remote_next_point.is_some()
    }

    /// Whether any update of ours is on no signed commitment of the peer's yet.
    pub fn has_unsigned_local_updates(&self) -> bool {
        let opener = self.parameters.opener;
        self.outgoing.values().any(|htlc| htlc.stage == Stage::Proposed)
            || self.incoming.values().filter_map(|htlc| htlc.removal.as_ref()).any(|it| it.stage == Stage::Proposed)
            || (opener == Side::Local && self.fees.iter().any(|fee| fee.stage == Stage::Proposed))
            || self.outgoing_transfers.pending.iter().any(|it| it.stage == Stage::Proposed)
    }

    /// Whether any update of the peer's is on no signed commitment of ours yet.
    pub fn has_unsigned_remote_updates(&self) -> bool {
        let opener = self.parameters.opener;
        self.incoming.values().any(|htlc| htlc.stage == Stage::Proposed)
            || self.outgoing.values().filter_map(|htlc| htlc.removal.as_ref()).any(|it| it.stage == Stage::Proposed)
            || (opener == Side::Remote && self.fees.iter().any(|fee| fee.stage == Stage::Proposed))
            || self.incoming_transfers.pending.iter().any(|it| it.stage == Stage::Proposed)
    }

    /// Whether [`Change::RolledBack`] would forget anything.
    pub fn has_uncommitted(&self) -> bool {
        self.has_unsigned_remote_updates()
            || self.outgoing.values().any(|htlc| htlc.stage == Stage::Proposed)
            || self.fees.iter().any(|fee| fee.stage == Stage::Proposed)
            || self.outgoing_transfers.pending.iter().any(|it| it.stage == Stage::Proposed)
    }

    /// Whether no HTLC is left and every update is irrevocable on both sides: closing may be negotiated.
    pub fn is_clean(&self) -> bool {
        self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.fees.is_empty()
            && self.outgoing_transfers.pending.is_empty()
            && self.incoming_transfers.pending.is_empty()
            && !self.awaiting_revocation
            && !self.changes_due
    }

    /// The rows of all HTLCs that `commitment_signed`, sent now, takes off the peer's commitment for the first time.
    pub fn penalty_rows(&self) -> Vec<PenaltyRow> {
        let last = self.number(View::RemoteSigned);
        let mut rows = Vec::new();
        for adder in [Side::Local, Side::Remote] {
            let leaving = self.htlcs(adder).values().filter(|htlc| {
                htlc.untrimmed_remote && htlc.on(View::RemoteSigned, adder) && !htlc.on(View::RemoteNext, adder)
            });
            rows.extend(leaving.filter_map(|htlc| {
                Some(PenaltyRow {
                    adder,
                    id: htlc.offer.id,
                    payment_hash: htlc.offer.payment_hash,
                    cltv_expiry: htlc.offer.cltv_expiry,
                    amount: htlc.offer.amount,
                    first: htlc.first_remote?,
                    last,
                })
            }));
        }
        rows
    }
}
