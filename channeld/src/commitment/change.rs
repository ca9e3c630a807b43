//! The changes of the shared log, and the one function that makes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::htlc::{Htlc, HtlcOffer, PendingRemoval, Removal};
use super::stage::{Side, Stage, View};
use super::tally::{Exposure, Tally};
use super::transfer::{CreditWindow, PendingTransfer, Transfer, TransferLog};
use super::{Commitments, LastSent};
use crate::keys::{PerCommitmentPoint, PerCommitmentSecret};
use crate::transactions::CommitmentSignatures;
use crate::units::{FeeratePerKw, HtlcId, SessionId};
use crate::wire::RevealedSecret;

/// A feerate on its way; the opener proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFee {
    /// The new feerate.
    pub feerate: FeeratePerKw,
    /// How far it has travelled.
    pub stage: Stage,
}

/// What can happen to the shared log. Small: what follows from it is not repeated in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `update_add_htlc`
    HtlcAdded {
        /// Who offers.
        adder: Side,
        /// What.
        offer: HtlcOffer,
        /// See [`Htlc::over_exposed`].
        over_exposed: bool,
    },
    /// `update_fulfill_htlc`, `update_fail_htlc` or `update_fail_malformed_htlc`
    HtlcRemoved {
        /// Who offered it; the other side removes.
        adder: Side,
        /// Which.
        id: HtlcId,
        /// How.
        removal: Removal,
    },
    /// `update_fee`
    FeeProposed {
        /// The new feerate.
        feerate: FeeratePerKw,
    },
    /// `update_transfer`
    Transferred {
        /// Who pays.
        payer: Side,
        /// What.
        transfer: Transfer,
        /// Whether its session allowed it.
        solicited: bool,
    },
    /// `transfer_open`
    SessionOpened {
        /// Who pays.
        payer: Side,
        /// Which.
        session: SessionId,
    },
    /// `transfer_window`
    WindowGranted {
        /// Who pays.
        payer: Side,
        /// Which.
        session: SessionId,
        /// How much may be uncommitted.
        window: CreditWindow,
    },
    /// `transfer_close`
    SessionClosed {
        /// Who pays.
        payer: Side,
        /// Which.
        session: SessionId,
    },
    /// The peer signed our first commitment: `funding_signed`.
    FirstSigned {
        /// What came with it.
        signatures: CommitmentSignatures,
    },
    /// `channel_ready`: the point of the peer's second commitment.
    NextPointKnown {
        /// The point.
        point: PerCommitmentPoint,
    },
    /// `commitment_signed` received and good; `revoke_and_ack` for the former commitment goes out.
    LocalCommitted {
        /// For the funding outputs in use, in their order.
        signatures: Vec<CommitmentSignatures>,
    },
    /// `commitment_signed` sent.
    RemoteSigned,
    /// `revoke_and_ack` received and good.
    RemoteRevoked {
        /// The secret of the revoked commitment.
        secret: RevealedSecret,
        /// The point of the commitment after the one that is current now.
        next_point: PerCommitmentPoint,
    },
    /// The connection is gone: what no `commitment_signed` covered is forgotten, but for our removals.
    RolledBack,
}

impl Commitments {
    /// Makes one change. The caller has checked it: `check_*` and `verify_*`.
    ///
    /// # Panics
    /// Where the change does not fit the state, or money would be lost or made: our own invariants.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::HtlcAdded { adder, offer, over_exposed } => self.add_htlc(*adder, offer, *over_exposed),
            Change::HtlcRemoved { adder, id, removal } => self.remove_htlc(*adder, *id, removal),
            Change::FeeProposed { feerate } => self.propose_fee(*feerate),
            Change::Transferred { payer, transfer, solicited } => self.transfer(*payer, transfer, *solicited),
            Change::SessionOpened { payer, session } => self.transfers_mut(*payer).open(*session),
            Change::WindowGranted { payer, session, window } => {
                if let Some(session) = self.transfers_mut(*payer).sessions.get_mut(session) {
                    session.window = *window;
                }
            }
            Change::SessionClosed { payer, session } => self.transfers_mut(*payer).close(session),
            Change::FirstSigned { signatures } => {
                for funded in &mut self.active {
                    funded.signatures = Some(signatures.clone());
                }
            }
            Change::NextPointKnown { point } => self.remote_next_point = Some(*point),
            Change::LocalCommitted { signatures } => self.commit_local(signatures),
            Change::RemoteSigned => self.sign_remote(),
            Change::RemoteRevoked { secret, next_point } => self.revoke_remote(*secret, *next_point),
            Change::RolledBack => self.roll_back(),
        }
        self.assert_invariants();
    }

    fn add_htlc(&mut self, adder: Side, offer: &HtlcOffer, over_exposed: bool) {
        let htlc = Htlc::new(offer.clone(), over_exposed);
        let parameters = self.parameters;
        self.each_next(adder, |owner, tally| {
            let trimmed = parameters.trims(owner, adder, offer.amount, tally.feerate);
            tally.add(adder, &htlc, trimmed);
        });
        let trims =
            |owner, view: View, it: &Commitments| parameters.trims(owner, adder, offer.amount, it.tally(view).feerate);
        let (local, remote) = (trims(Side::Local, View::LocalNext, self), trims(Side::Remote, View::RemoteNext, self));
        self.exposure.add(offer.amount, local, remote);
        let (htlcs, next) = match adder {
            Side::Local => (&mut self.outgoing, &mut self.next_outgoing),
            Side::Remote => (&mut self.incoming, &mut self.next_incoming),
        };
        assert_eq!(*next, offer.id, "ids count up by one");
        *next = offer.id.next();
        htlcs.insert(offer.id, htlc);
        self.changes_due |= adder == Side::Local;
    }

    fn remove_htlc(&mut self, adder: Side, id: HtlcId, removal: &Removal) {
        let remover = adder.other();
        let parameters = self.parameters;
        let htlc = self.htlcs_mut(adder).get_mut(&id).expect("only an HTLC in flight is removed");
        assert!(htlc.stage == Stage::Irrevocable && htlc.removal.is_none(), "removed once, when it is committed");
        htlc.removal = Some(PendingRemoval { removal: removal.clone(), stage: Stage::Proposed });
        htlc.offer.onion = None;
        let htlc = htlc.clone();
        self.each_next(remover, |owner, tally| {
            let trimmed = parameters.trims(owner, adder, htlc.offer.amount, tally.feerate);
            tally.remove(adder, &htlc, removal.is_fulfilled(), trimmed);
        });
        self.changes_due |= remover == Side::Local;
    }

    fn propose_fee(&mut self, feerate: FeeratePerKw) {
        let opener = self.parameters.opener;
        match self.fees.last_mut() {
            Some(last) if last.stage == Stage::Proposed => last.feerate = feerate,
            _ => self.fees.push(PendingFee { feerate, stage: Stage::Proposed }),
        }
        self.each_next(opener, |_, tally| tally.feerate = feerate);
        self.recount();
        self.changes_due |= opener == Side::Local;
    }

    fn transfer(&mut self, payer: Side, transfer: &Transfer, solicited: bool) {
        self.each_next(payer, |_, tally| tally.transfer(payer, transfer.amount));
        let log = self.transfers_mut(payer);
        assert_eq!(log.next_id, transfer.id, "ids count up by one");
        log.next_id = transfer.id.saturating_add(1);
        log.pending.push(PendingTransfer { transfer: transfer.clone(), solicited, stage: Stage::Proposed });
        self.changes_due |= payer == Side::Local;
    }

    fn commit_local(&mut self, signatures: &[CommitmentSignatures]) {
        assert_eq!(signatures.len(), self.active.len(), "one set of signatures for each funding output");
        for (funded, signatures) in self.active.iter_mut().zip(signatures) {
            funded.tallies.local_current = funded.tallies.local_next;
            funded.signatures = Some(signatures.clone());
        }
        self.local_number = self.local_number.next();
        self.last_sent = LastSent::Revocation;
        let entered = self.enter(View::RemoteNext, Side::Remote, Stage::Proposed);
        self.changes_due |= entered;
        self.advance(Side::Remote, Stage::Proposed, Stage::Acked);
        self.advance(Side::Local, Stage::Acked, Stage::Irrevocable);
        self.settle();
    }

    fn sign_remote(&mut self) {
        assert!(!self.awaiting_revocation, "one unrevoked commitment_signed at a time");
        for funded in &mut self.active {
            funded.tallies.remote_signed = funded.tallies.remote_next;
        }
        self.advance(Side::Local, Stage::Proposed, Stage::Signed);
        self.advance(Side::Remote, Stage::Acked, Stage::Countersigned);
        self.awaiting_revocation = true;
        self.changes_due = false;
        self.last_sent = LastSent::Commitment;
        let number = self.number(View::RemoteSigned);
        let feerate = self.tally(View::RemoteSigned).feerate;
        let parameters = self.parameters;
        for adder in [Side::Local, Side::Remote] {
            let held = self.htlcs_mut(adder).values_mut().filter(|htlc| htlc.on(View::RemoteSigned, adder));
            for htlc in held {
                htlc.first_remote.get_or_insert(number);
                htlc.untrimmed_remote |= !parameters.trims(Side::Remote, adder, htlc.offer.amount, feerate);
            }
        }
    }

    fn revoke_remote(&mut self, secret: RevealedSecret, next_point: PerCommitmentPoint) {
        assert!(self.awaiting_revocation, "only what was replaced is revoked");
        let secret = PerCommitmentSecret::new(secret.0);
        self.secrets.insert(self.remote_number, secret).expect("the secret was checked on receipt");
        self.remote_number = self.remote_number.next();
        self.remote_point = self.remote_next_point.expect("nothing is signed without the point");
        self.remote_next_point = Some(next_point);
        self.awaiting_revocation = false;
        for funded in &mut self.active {
            funded.tallies.remote_current = funded.tallies.remote_signed;
        }
        self.enter(View::LocalNext, Side::Local, Stage::Signed);
        self.advance(Side::Local, Stage::Signed, Stage::Acked);
        self.advance(Side::Remote, Stage::Countersigned, Stage::Irrevocable);
        self.settle();
    }

    fn roll_back(&mut self) {
        let first_dropped = |htlcs: &BTreeMap<HtlcId, Htlc>| {
            htlcs.iter().find(|(_, htlc)| htlc.stage == Stage::Proposed).map(|(id, _)| *id)
        };
        self.next_outgoing = first_dropped(&self.outgoing).unwrap_or(self.next_outgoing);
        self.next_incoming = first_dropped(&self.incoming).unwrap_or(self.next_incoming);
        self.outgoing.retain(|_, htlc| htlc.stage != Stage::Proposed);
        self.incoming.retain(|_, htlc| htlc.stage != Stage::Proposed);
        for htlc in self.outgoing.values_mut() {
            htlc.removal.take_if(|removal| removal.stage == Stage::Proposed);
        }
        self.fees.retain(|fee| fee.stage != Stage::Proposed);
        self.outgoing_transfers.roll_back();
        self.incoming_transfers.roll_back();
        for funded in &mut self.active {
            funded.tallies.local_next = funded.tallies.local_current;
            funded.tallies.remote_next = funded.tallies.remote_signed;
        }
        self.enter(View::LocalNext, Side::Local, Stage::Acked);
        let own = self.enter(View::RemoteNext, Side::Local, Stage::Proposed);
        let acked = self.enter(View::RemoteNext, Side::Remote, Stage::Acked);
        self.changes_due = own || acked;
        self.recount();
    }

    /// Lets all updates of `proposer` that are at `stage` enter a next commitment; says whether there were any.
    /// Removals come first: they only credit, and what comes after may live on that credit.
    fn enter(&mut self, view: View, proposer: Side, stage: Stage) -> bool {
        let mut any = false;
        for index in 0..self.active.len() {
            let mut tally = *self.next_tally(index, view);
            any |= self.enter_tally(&mut tally, view.owner(), proposer, stage);
            *self.next_tally(index, view) = tally;
        }
        any
    }

    fn enter_tally(&self, tally: &mut Tally, owner: Side, proposer: Side, stage: Stage) -> bool {
        let mut any = false;
        let adder = proposer.other();
        for htlc in self.htlcs(adder).values() {
            if let Some(removal) = htlc.removal.as_ref().filter(|removal| removal.stage == stage) {
                let trimmed = self.parameters.trims(owner, adder, htlc.offer.amount, tally.feerate);
                tally.remove(adder, htlc, removal.removal.is_fulfilled(), trimmed);
                any = true;
            }
        }
        for pending in self.transfers(proposer).pending.iter().filter(|pending| pending.stage == stage) {
            tally.transfer(proposer, pending.transfer.amount);
            any = true;
        }
        for htlc in self.htlcs(proposer).values().filter(|htlc| htlc.stage == stage) {
            let trimmed = self.parameters.trims(owner, proposer, htlc.offer.amount, tally.feerate);
            tally.add(proposer, htlc, trimmed);
            any = true;
        }
        if self.parameters.opener == proposer
            && let Some(fee) = self.fees.iter().rev().find(|fee| fee.stage == stage)
        {
            tally.feerate = fee.feerate;
            any = true;
        }
        any
    }

    /// Moves all updates of `proposer` from one stage to another.
    fn advance(&mut self, proposer: Side, from: Stage, to: Stage) {
        let step = |stage: &mut Stage| {
            if *stage == from {
                *stage = to;
            }
        };
        for htlc in self.htlcs_mut(proposer).values_mut() {
            step(&mut htlc.stage);
            // What the peer has acked is never sent again.
            if proposer == Side::Local && htlc.stage >= Stage::Acked {
                htlc.offer.onion = None;
            }
        }
        for removal in self.htlcs_mut(proposer.other()).values_mut().filter_map(|htlc| htlc.removal.as_mut()) {
            step(&mut removal.stage);
        }
        if self.parameters.opener == proposer {
            self.fees.iter_mut().for_each(|fee| step(&mut fee.stage));
        }
        self.transfers_mut(proposer).pending.iter_mut().for_each(|pending| step(&mut pending.stage));
    }

    /// Forgets what is over, and counts again what depends on the feerate.
    fn settle(&mut self) {
        let over = |htlc: &Htlc| htlc.removal.as_ref().is_some_and(|removal| removal.stage == Stage::Irrevocable);
        self.outgoing.retain(|_, htlc| !over(htlc));
        self.incoming.retain(|_, htlc| !over(htlc));
        self.fees.retain(|fee| fee.stage != Stage::Irrevocable);
        self.outgoing_transfers.settle();
        self.incoming_transfers.settle();
        self.recount();
    }

    /// Counts outputs and dust again: after a step of many updates, and where a feerate changed what is trimmed.
    fn recount(&mut self) {
        for index in 0..self.active.len() {
            for view in [View::LocalNext, View::RemoteNext] {
                let feerate = self.next_tally(index, view).feerate;
                self.next_tally(index, view).untrimmed = self.count_untrimmed(view, feerate);
            }
        }
        let local = self.tally(View::LocalNext).feerate;
        let remote = self.tally(View::RemoteNext).feerate;
        let mut exposure = Exposure::default();
        for adder in [Side::Local, Side::Remote] {
            for htlc in self.htlcs(adder).values() {
                let amount = htlc.offer.amount;
                let trimmed_local = self.parameters.trims(Side::Local, adder, amount, local);
                let trimmed_remote = self.parameters.trims(Side::Remote, adder, amount, remote);
                exposure.add(amount, trimmed_local, trimmed_remote);
            }
        }
        self.exposure = exposure;
    }

    fn count_untrimmed(&self, view: View, feerate: FeeratePerKw) -> u16 {
        let count = [Side::Local, Side::Remote].into_iter().flat_map(|adder| {
            let on_view = self.htlcs(adder).values().filter(move |htlc| htlc.on(view, adder));
            on_view.filter(move |htlc| !self.parameters.trims(view.owner(), adder, htlc.offer.amount, feerate))
        });
        u16::try_from(count.count()).expect("limits on both sides keep HTLCs below a few thousand")
    }

    /// The next commitments that an update of `proposer` enters at once: those of the other side.
    fn each_next(&mut self, proposer: Side, mut change: impl FnMut(Side, &mut Tally)) {
        for funded in &mut self.active {
            match proposer {
                Side::Local => change(Side::Remote, &mut funded.tallies.remote_next),
                Side::Remote => change(Side::Local, &mut funded.tallies.local_next),
            }
        }
    }

    fn next_tally(&mut self, index: usize, view: View) -> &mut Tally {
        let tallies = &mut self.active[index].tallies;
        match view.owner() {
            Side::Local => &mut tallies.local_next,
            Side::Remote => &mut tallies.remote_next,
        }
    }

    fn htlcs_mut(&mut self, adder: Side) -> &mut BTreeMap<HtlcId, Htlc> {
        match adder {
            Side::Local => &mut self.outgoing,
            Side::Remote => &mut self.incoming,
        }
    }

    fn transfers_mut(&mut self, payer: Side) -> &mut TransferLog {
        match payer {
            Side::Local => &mut self.outgoing_transfers,
            Side::Remote => &mut self.incoming_transfers,
        }
    }

    fn assert_invariants(&self) {
        for funded in &self.active {
            for tally in funded.tallies.all() {
                assert!(tally.holds(funded.capacity()), "balances and HTLCs are the capacity");
            }
        }
        #[cfg(debug_assertions)]
        self.assert_counts();
    }

    #[cfg(debug_assertions)]
    fn assert_counts(&self) {
        use super::tally::Slots;
        use crate::units::Msat;
        for view in [View::LocalCurrent, View::LocalNext, View::RemoteCurrent, View::RemoteSigned, View::RemoteNext] {
            let tally = self.tally(view);
            for adder in [Side::Local, Side::Remote] {
                let on_view = self.htlcs(adder).values().filter(|htlc| htlc.on(view, adder));
                let slots = on_view.fold(Slots::default(), |sum, htlc| Slots {
                    count: sum.count + 1,
                    value: Msat::new(sum.value.msat() + htlc.offer.amount.msat()),
                });
                assert_eq!(slots, tally.offered(adder), "{view:?} {adder:?}");
            }
            assert_eq!(tally.untrimmed, self.count_untrimmed(view, tally.feerate), "{view:?}");
        }
    }
}
