//! What may be proposed, by us and by the peer (BOLT 2; TRANSFER.md). Reads running sums only: no check walks over HTLCs,
//! but for a new feerate on channels without anchors.

use super::Commitments;
use super::change::PendingFee;
use super::error::{LimitRefusal, LimitViolation};
use super::htlc::{Htlc, HtlcOffer, Removal};
use super::parameter::msat;
use super::stage::{Side, Stage, View};
use super::tally::Exposure;
use super::transfer::{MAX_OPEN_SESSIONS, MAX_PENDING_TRANSFERS, Transfer};
use crate::units::{CltvExpiry, FeeratePerKw, HtlcId, Msat};
use crate::wire::TransferCloseReason;

/// From here on a locktime is a time (BOLT 2).
pub const MAX_EXPIRY: CltvExpiry = CltvExpiry::new(500_000_000);

/// BOLT 4: the failure code says that the onion could not be read.
const BADONION: u16 = 0x8000;

/// The longest failure onion that fits into a message with its attribution data.
const MAX_FAILURE: usize = 60_000;

/// How much of HTLCs too small for an output we put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExposurePolicy {
    /// `max_dust_htlc_exposure_msat`
    pub max_dust: Msat,
}

impl Commitments {
    /// Whether we may offer an HTLC now.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn check_send_htlc(
        &self,
        amount: Msat,
        cltv_expiry: CltvExpiry,
        policy: ExposurePolicy,
    ) -> Result<(), LimitRefusal> {
        let limits = &self.parameters.remote;
        if amount == Msat::ZERO {
            return Err(LimitRefusal::AmountZero);
        }
        if amount < limits.htlc_minimum {
            return Err(LimitRefusal::BelowHtlcMinimum { amount, minimum: limits.htlc_minimum });
        }
        if cltv_expiry >= MAX_EXPIRY {
            return Err(LimitRefusal::ExpiryIsATime);
        }
        // First what waiting does not mend: what is in flight settles, a balance does not grow by itself.
        let available = self.available_to_send();
        if amount > available {
            return Err(LimitRefusal::InsufficientBalance { needed: amount, available });
        }
        let offered = self.tally(View::RemoteNext).outgoing;
        if offered.count >= limits.max_accepted_htlcs {
            return Err(LimitRefusal::TooManyHtlcs { limit: limits.max_accepted_htlcs });
        }
        if offered.value.checked_add(amount).is_none_or(|value| value > limits.max_htlc_value_in_flight) {
            return Err(LimitRefusal::TooMuchInFlight { limit: limits.max_htlc_value_in_flight });
        }
        if !self.opener_affords_one_more(amount) {
            return Err(LimitRefusal::OpenerCannotAffordFee);
        }
        if self.adds_too_much_dust(Side::Local, amount, policy) {
            return Err(LimitRefusal::DustExposure { limit: policy.max_dust });
        }
        Ok(())
    }

    /// The most that one HTLC or transfer of ours may be worth now, as far as our balance is concerned: above the reserve
    /// and, where we pay the fees, above anchors and the fee of two outputs more at twice the feerate (BOLT 2's buffer).
    pub fn available_to_send(&self) -> Msat {
        let parameters = &self.parameters;
        let tally = self.tally(View::RemoteNext);
        let mut kept = parameters.reserve_of(Side::Local);
        if parameters.opener == Side::Local {
            let doubled = FeeratePerKw::new(tally.feerate.sat_per_kw().saturating_mul(2));
            let outputs = self.exposure.most_untrimmed().saturating_add(2);
            let cost = parameters.opener_cost(doubled, outputs);
            kept = Msat::new(kept.msat().saturating_add(cost.msat()));
        }
        tally.local.saturating_sub(kept)
    }

    /// What a new HTLC of ours can still be worth by every limit but dust exposure and the least amount.
    pub fn available_for_htlc(&self) -> Msat {
        let limits = &self.parameters.remote;
        let offered = self.tally(View::RemoteNext).outgoing;
        if offered.count >= limits.max_accepted_htlcs {
            return Msat::ZERO;
        }
        self.available_to_send().min(limits.max_htlc_value_in_flight.saturating_sub(offered.value))
    }

    /// Whether the peer, where it opened, could pay for the output of one more HTLC of ours.
    fn opener_affords_one_more(&self, amount: Msat) -> bool {
        let parameters = &self.parameters;
        if parameters.opener == Side::Local {
            return true;
        }
        [View::LocalNext, View::RemoteNext].into_iter().all(|view| {
            let tally = self.tally(view);
            let kept = parameters.reserve_of(Side::Remote);
            let outputs = self.exposure.most_untrimmed().saturating_add(1);
            let cost = parameters.opener_cost(tally.feerate, outputs);
            parameters.trims(view.owner(), Side::Local, amount, tally.feerate)
                || covers(tally.remote, Msat::ZERO, kept, cost)
        })
    }

    fn adds_too_much_dust(&self, adder: Side, amount: Msat, policy: ExposurePolicy) -> bool {
        let exceeds = |view: View, dust: Msat| {
            self.parameters.trims(view.owner(), adder, amount, self.tally(view).feerate)
                && dust.checked_add(amount).is_none_or(|sum| sum > policy.max_dust)
        };
        exceeds(View::LocalNext, self.exposure.local_dust) || exceeds(View::RemoteNext, self.exposure.remote_dust)
    }

    /// Whether the peer may offer this HTLC now; says whether it exceeds our limit on dust exposure, which is no fault
    /// of the peer's: such an HTLC is failed once it is irrevocable.
    ///
    /// # Errors
    /// The first rule that the peer broke.
    pub fn check_receive_htlc(&self, offer: &HtlcOffer, policy: ExposurePolicy) -> Result<bool, LimitViolation> {
        let limits = &self.parameters.local;
        if offer.id != self.next_incoming {
            return Err(LimitViolation::HtlcId { expected: self.next_incoming, got: offer.id });
        }
        if offer.amount == Msat::ZERO {
            return Err(LimitViolation::AmountZero);
        }
        if offer.amount < limits.htlc_minimum {
            return Err(LimitViolation::BelowHtlcMinimum { minimum: limits.htlc_minimum });
        }
        if offer.cltv_expiry >= MAX_EXPIRY {
            return Err(LimitViolation::ExpiryIsATime);
        }
        let tally = self.tally(View::LocalNext);
        if tally.incoming.count >= limits.max_accepted_htlcs {
            return Err(LimitViolation::TooManyHtlcs { limit: limits.max_accepted_htlcs });
        }
        if tally.incoming.value.checked_add(offer.amount).is_none_or(|sum| sum > limits.max_htlc_value_in_flight) {
            return Err(LimitViolation::TooMuchInFlight { limit: limits.max_htlc_value_in_flight });
        }
        let trimmed = self.parameters.trims(Side::Local, Side::Remote, offer.amount, tally.feerate);
        self.check_remote_affords(offer.amount, u16::from(!trimmed))?;
        Ok(self.adds_too_much_dust(Side::Remote, offer.amount, policy))
    }

    /// Whether the peer keeps its reserve, and as opener the fee and anchors, on our next commitment after it gives
    /// `amount` and adds so many outputs.
    fn check_remote_affords(&self, amount: Msat, outputs: u16) -> Result<(), LimitViolation> {
        let parameters = &self.parameters;
        let tally = self.tally(View::LocalNext);
        let reserve = parameters.reserve_of(Side::Remote);
        if !covers(tally.remote, amount, reserve, Msat::ZERO) {
            return Err(LimitViolation::BelowChannelReserve { reserve: reserve.to_amount_floor() });
        }
        let cost = parameters.opener_cost(tally.feerate, tally.untrimmed.saturating_add(outputs));
        if parameters.opener == Side::Remote && !covers(tally.remote, amount, reserve, cost) {
            return Err(LimitViolation::CannotAffordFee);
        }
        Ok(())
    }

    /// Whether we may remove an HTLC of the peer's that way.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn check_send_removal(&self, id: HtlcId, removal: &Removal) -> Result<(), LimitRefusal> {
        let Some(htlc) = self.incoming.get(&id) else {
            return Err(LimitRefusal::UnknownHtlc { id });
        };
        if htlc.stage != Stage::Irrevocable {
            return Err(LimitRefusal::HtlcNotCommitted { id });
        }
        if htlc.removal.is_some() {
            return Err(LimitRefusal::AlreadyRemoved { id });
        }
        match removal {
            Removal::Fulfilled { .. } if !fulfils(htlc, removal) => Err(LimitRefusal::WrongPreimage { id }),
            Removal::Malformed { failure_code, .. } if failure_code & BADONION == 0 => {
                Err(LimitRefusal::NotBadOnion { code: *failure_code })
            }
            Removal::Failed { reason, .. } if reason.len() > MAX_FAILURE => Err(LimitRefusal::FailureTooLong),
            _ => Ok(()),
        }
    }

    /// Whether the peer may remove an HTLC of ours that way.
    ///
    /// # Errors
    /// The first rule that the peer broke.
    pub fn check_receive_removal(&self, id: HtlcId, removal: &Removal) -> Result<&Htlc, LimitViolation> {
        let Some(htlc) = self.outgoing.get(&id) else {
            return Err(LimitViolation::UnknownHtlc { id });
        };
        if htlc.stage != Stage::Irrevocable {
            return Err(LimitViolation::HtlcNotCommitted { id });
        }
        if htlc.removal.is_some() {
            return Err(LimitViolation::AlreadyRemoved { id });
        }
        match removal {
            Removal::Fulfilled { .. } if !fulfils(htlc, removal) => Err(LimitViolation::WrongPreimage { id }),
            Removal::Malformed { failure_code, .. } if failure_code & BADONION == 0 => {
                Err(LimitViolation::NotBadOnion { code: *failure_code })
            }
            _ => Ok(htlc),
        }
    }

    /// Whether we may propose a feerate: we opened, can pay it, and without anchors it trims not too much.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn check_send_fee(&self, feerate: FeeratePerKw, policy: ExposurePolicy) -> Result<(), LimitRefusal> {
        if self.parameters.opener != Side::Local {
            return Err(LimitRefusal::NotOpener);
        }
        let exposure = self.exposure_at(feerate);
        let cost = self.parameters.opener_cost(feerate, exposure.most_untrimmed());
        let reserve = self.parameters.reserve_of(Side::Local);
        if !covers(self.tally(View::RemoteNext).local, Msat::ZERO, reserve, cost) {
            return Err(LimitRefusal::FeerateUnaffordable { feerate });
        }
        let trims_more = feerate > self.tally(View::RemoteNext).feerate && !self.parameters.format.has_anchors();
        if trims_more && exposure.local_dust.max(exposure.remote_dust) > policy.max_dust {
            return Err(LimitRefusal::DustExposure { limit: policy.max_dust });
        }
        Ok(())
    }

    /// Whether the peer may propose a feerate: it opened and can pay it. Whether the rate is sensible is policy.
    ///
    /// # Errors
    /// The first rule that the peer broke.
    pub fn check_receive_fee(&self, feerate: FeeratePerKw) -> Result<(), LimitViolation> {
        let parameters = &self.parameters;
        if parameters.opener != Side::Remote {
            return Err(LimitViolation::FeeFromAccepter);
        }
        let tally = self.tally(View::LocalNext);
        let untrimmed = match parameters.format.has_anchors() {
            true => tally.untrimmed,
            false => self.exposure_at(feerate).local_untrimmed.min(tally.untrimmed),
        };
        let reserve = parameters.reserve_of(Side::Remote);
        if !covers(tally.remote, Msat::ZERO, reserve, parameters.opener_cost(feerate, untrimmed)) {
            return Err(LimitViolation::FeerateUnaffordable { feerate });
        }
        Ok(())
    }

    /// The sums over all HTLCs if the feerate were another.
    fn exposure_at(&self, feerate: FeeratePerKw) -> Exposure {
        if self.parameters.format.has_anchors() {
            return self.exposure;
        }
        let mut exposure = Exposure::default();
        for adder in [Side::Local, Side::Remote] {
            for htlc in self.htlcs(adder).values() {
                let trims = |owner| self.parameters.trims(owner, adder, htlc.offer.amount, feerate);
                exposure.add(htlc.offer.amount, trims(Side::Local), trims(Side::Remote));
            }
        }
        exposure
    }

    /// The feerate that the channel will have once all proposals are irrevocable.
    pub fn proposed_feerate(&self) -> FeeratePerKw {
        let proposed = self.fees.last().map(|fee: &PendingFee| fee.feerate);
        proposed.unwrap_or(self.tally(View::LocalCurrent).feerate)
    }

    /// Whether we may pay `transfer` now.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn check_send_transfer(&self, transfer: &Transfer) -> Result<(), LimitRefusal> {
        if transfer.amount == Msat::ZERO {
            return Err(LimitRefusal::AmountZero);
        }
        if self.outgoing_transfers.pending.len() >= MAX_PENDING_TRANSFERS {
            return Err(LimitRefusal::TooManyTransfers { limit: MAX_PENDING_TRANSFERS });
        }
        if let Some(reason) = self.outgoing_transfers.objection(transfer) {
            return Err(LimitRefusal::Session(reason));
        }
        let available = self.available_to_send();
        if transfer.amount > available {
            return Err(LimitRefusal::InsufficientBalance { needed: transfer.amount, available });
        }
        Ok(())
    }

    /// Whether the peer may pay `transfer` by the rules of the commitment; where it may, what its session says against
    /// it. Sessions never refuse money.
    ///
    /// # Errors
    /// The first rule that the peer broke.
    pub fn check_receive_transfer(&self, transfer: &Transfer) -> Result<Option<TransferCloseReason>, LimitViolation> {
        let log = &self.incoming_transfers;
        if transfer.id != log.next_id {
            return Err(LimitViolation::TransferId { expected: log.next_id, got: transfer.id });
        }
        if log.pending.len() >= MAX_PENDING_TRANSFERS {
            return Err(LimitViolation::TooManyTransfers { limit: MAX_PENDING_TRANSFERS });
        }
        if transfer.amount == Msat::ZERO || transfer.amount > msat(self.main().capacity()) {
            return Err(LimitViolation::TransferAmount { amount: transfer.amount });
        }
        self.check_remote_affords(transfer.amount, 0)?;
        Ok(log.objection(transfer))
    }

    /// Whether a session may be opened by `payer`.
    ///
    /// # Errors
    /// All sessions of the direction are taken.
    pub fn check_open_session(&self, payer: Side) -> Result<(), LimitRefusal> {
        if self.transfers(payer).open_sessions() >= MAX_OPEN_SESSIONS {
            return Err(LimitRefusal::TooManySessions { limit: MAX_OPEN_SESSIONS });
        }
        Ok(())
    }

    /// What a close at this instant would pay `side` by its balance: whole satoshis on the lesser of the two current
    /// commitments, less fee and anchors where it opened, nothing below the higher of the two dust limits.
    pub fn enforceable(&self, side: Side) -> Msat {
        self.enforceable_on(side, View::LocalCurrent, View::RemoteCurrent)
    }

    /// The same with other commitments as the current ones: what it will be after a step that is being decided.
    pub fn enforceable_on(&self, side: Side, local: View, remote: View) -> Msat {
        let parameters = &self.parameters;
        let worth = |view: View| {
            let tally = self.tally(view);
            let cost = match parameters.opener == side {
                true => parameters.opener_cost(tally.feerate, tally.untrimmed),
                false => Msat::ZERO,
            };
            let amount = tally.balance(side).saturating_sub(cost).to_amount_floor();
            let dust = parameters.local.dust_limit.max(parameters.remote.dust_limit);
            if amount < dust { Msat::ZERO } else { msat(amount) }
        };
        worth(local).min(worth(remote))
    }
}

/// Whether `balance`, less `given`, is still at least `reserve` and `cost` together.
fn covers(balance: Msat, given: Msat, reserve: Msat, cost: Msat) -> bool {
    let kept = reserve.checked_add(cost);
    balance.checked_sub(given).is_some_and(|rest| kept.is_some_and(|kept| rest >= kept))
}

fn fulfils(htlc: &Htlc, removal: &Removal) -> bool {
    matches!(removal, Removal::Fulfilled { preimage, .. } if preimage.payment_hash() == htlc.offer.payment_hash)
}
