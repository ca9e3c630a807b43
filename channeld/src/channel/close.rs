//! Closing together: `shutdown` and `closing_signed` with `fee_range`, and the older negotiation for peers that send none
//! (BOLT 2, "Channel Close", "Legacy Closing Negotiation").

use bitcoin::opcodes::all::{OP_PUSHNUM_1, OP_PUSHNUM_16};
use bitcoin::{Amount, Script, ScriptBuf};
use secp256k1::ecdsa::Signature;

use super::port::{Context, Effect};
use super::state::{Change, Channel, Delta, Funded, Phase};
use super::{Decision, Error, Refusal, Violation};
use crate::commitment::{Side, View, msat};
use crate::transactions::{ClosingError, ClosingSpec, ClosingTransaction};
use crate::units::{FeeratePerKw, Msat};
use crate::wire::{ClosingSigned, FeeRange, Shutdown};

/// Whether BOLT 2 allows `shutdown` with this script.
pub(super) fn is_shutdown_script(script: &Script, any_segwit: bool) -> bool {
    if script.is_p2wpkh() || script.is_p2wsh() {
        return true;
    }
    // OP_1 to OP_16 and one push of 2 to 40 bytes.
    let [version, length, program @ ..] = script.as_bytes() else { return false };
    any_segwit
        && (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(version)
        && (2..=40).contains(length)
        && program.len() == usize::from(*length)
}

impl Channel {
    pub(super) fn shutdown(
        &self,
        script: Option<ScriptBuf>,
        feerate: Option<FeeratePerKw>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let funded = self.funded().ok_or(Refusal::NotReady)?;
        match funded.phase {
            Phase::Open => {}
            Phase::AwaitingFundingSigned => return Err(Refusal::NotReady.into()),
            Phase::Stale => return Err(Refusal::Stale.into()),
            _ => return Err(Refusal::Closed.into()),
        }
        if funded.shutdown.local_script.is_some() {
            return Err(Refusal::AlreadyClosing.into());
        }
        let fixed = funded.local_upfront_script.as_ref();
        let script = script.unwrap_or_else(|| fixed.unwrap_or(&self.close_script).clone());
        if fixed.is_some_and(|fixed| *fixed != script) {
            return Err(Refusal::UpfrontShutdownScript.into());
        }
        // Offline the peer's features are unknown: then only what every peer takes.
        let any_segwit = self.link.is_some_and(|link| link.features.any_segwit);
        if fixed.is_none() && !is_shutdown_script(&script, any_segwit) {
            return Err(Refusal::ShutdownScript.into());
        }
        decision.change(Change::ShutdownDecided { script, feerate });
        decision.effect(Effect::ShuttingDown { by: Side::Local });
        Ok(())
    }

    pub(super) fn receive_shutdown(
        &self,
        message: &Shutdown,
        funded: &Funded,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let script = &message.scriptpubkey;
        let any_segwit = self.link.is_some_and(|link| link.features.any_segwit);
        let fixed = funded.shutdown.remote_script.as_ref().or(funded.remote_upfront_script.as_ref());
        if fixed.is_some_and(|fixed| fixed != script) {
            return Err(Violation::ShutdownScriptChanged.into());
        }
        if fixed.is_none() && !is_shutdown_script(script, any_segwit) {
            return Err(Violation::ShutdownScript.into());
        }
        if funded.commitments.has_unsigned_remote_updates() {
            return Err(Violation::ShutdownWithPending.into());
        }
        if !funded.shutdown_by(Side::Remote) && !funded.shutdown_by(Side::Local) {
            decision.effect(Effect::ShuttingDown { by: Side::Remote });
        }
        decision.change(Change::ShutdownReceived { script: script.clone() });
        Ok(())
    }

    /// What a mutual close asks for after a step: `shutdown` once no update of ours is unsigned, our answer to the peer's,
    /// and the opener's first `closing_signed` once nothing is left. Costs nothing as long as nobody closes.
    pub(super) fn follow_up(&self, cx: &Context<'_>, decision: &mut Decision) {
        let closes = |funded: &Funded| funded.shutdown_by(Side::Local) || funded.shutdown_by(Side::Remote);
        let began = decision.delta.changes.iter().any(Change::concerns_closing);
        if decision.delta.is_empty() || !(began || self.funded().is_some_and(closes)) {
            return;
        }
        let mut after = self.clone();
        after.apply(&decision.delta);
        if !after.is_live() {
            return;
        }
        let done = decision.delta.changes.len();
        after.send_shutdown(decision);
        let new = decision.delta.changes[done..].to_vec();
        after.apply(&Delta { changes: new, penalty_rows: Vec::new() });
        after.begin_negotiation(cx, decision);
    }

    fn send_shutdown(&self, decision: &mut Decision) {
        let Some(funded) = self.funded().filter(|funded| funded.may_close_together()) else { return };
        let shutdown = &funded.shutdown;
        if shutdown.sent || funded.commitments.has_unsigned_local_updates() {
            return;
        }
        let fixed = shutdown.local_script.as_ref().or(funded.local_upfront_script.as_ref());
        let script = fixed.unwrap_or(&self.close_script).clone();
        if shutdown.local_script.is_none() {
            decision.change(Change::ShutdownDecided { script: script.clone(), feerate: None });
        }
        decision.change(Change::ShutdownSent);
        decision.send(Shutdown { channel_id: self.id, scriptpubkey: script });
    }

    /// The opener's first `closing_signed` of this connection.
    fn begin_negotiation(&self, cx: &Context<'_>, decision: &mut Decision) {
        let Some(funded) = self.funded().filter(|funded| funded.may_close_together()) else { return };
        if self.opener == Side::Remote || !funded.is_negotiable() || funded.shutdown.negotiation.sent.is_some() {
            return;
        }
        let fees = funded.closing_fees(cx);
        // Where the balances make no output at all there is nothing to agree on; our user may still force the close.
        if let Ok(transaction) = funded.closing_transaction(fees.ideal, None) {
            let offer = Offer { fee: fees.ideal, range: fees.range, says_range: true };
            self.send_closing_signed(funded, &transaction, offer, cx, decision);
        }
    }

    fn send_closing_signed(
        &self,
        funded: &Funded,
        transaction: &ClosingTransaction,
        offer: Offer,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) {
        let funding = funded.commitments.main().funding();
        let Offer { fee, range, says_range } = offer;
        decision.change(Change::ClosingOffered { fee, range });
        decision.send(ClosingSigned {
            channel_id: self.id,
            fee_satoshis: fee,
            signature: cx.signer.sign_funding(&self.keys_id, transaction.sighash(funding)),
            fee_range: says_range.then_some(range),
        });
    }

    pub(super) fn receive_closing_signed(
        &self,
        message: &ClosingSigned,
        funded: &Funded,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if !funded.is_negotiable() {
            return Err(Violation::ClosingTooEarly.into());
        }
        let fee = message.fee_satoshis;
        let transaction = funded.signed_by_peer(fee, &message.signature)?;
        decision.change(Change::ClosingReceived { fee });
        let says_range = message.fee_range.is_some();
        if let Phase::MutuallyClosed { fee: agreed, .. } = funded.phase {
            // The peer missed our last answer: it gets it again.
            if funded.shutdown.negotiation.sent.is_none()
                && let Ok(transaction) = funded.closing_transaction(agreed, None)
            {
                let range = FeeRange { min_fee_satoshis: agreed, max_fee_satoshis: agreed };
                let offer = Offer { fee: agreed, range, says_range };
                self.send_closing_signed(funded, &transaction, offer, cx, decision);
            }
            return Ok(());
        }
        let fees = funded.closing_fees(cx);
        let range = funded.shutdown.negotiation.sent_range.unwrap_or(fees.range);
        match funded.answer(message, fees)? {
            Answer::Done => self.close_together(funded, &transaction, message, cx, decision),
            Answer::Agree => {
                self.send_closing_signed(funded, &transaction, Offer { fee, range, says_range }, cx, decision);
                self.close_together(funded, &transaction, message, cx, decision);
            }
            Answer::Counter(fee) => {
                let transaction = funded.closing_transaction(fee, None).map_err(|_| Violation::ClosingFee { fee })?;
                self.send_closing_signed(funded, &transaction, Offer { fee, range, says_range }, cx, decision);
            }
        }
        Ok(())
    }

    fn close_together(
        &self,
        funded: &Funded,
        transaction: &ClosingTransaction,
        message: &ClosingSigned,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) {
        let main = funded.commitments.main();
        let own = cx.signer.sign_funding(&self.keys_id, transaction.sighash(main.funding()));
        let pubkey = &main.local.terms().broadcaster.funding_pubkey;
        let signed = transaction.with_signatures(main.funding(), pubkey, &own, &message.signature);
        let txid = signed.compute_txid();
        decision.effect(Effect::Broadcast(vec![signed.clone()]));
        decision.effect(Effect::MutuallyClosed { txid });
        decision.change(Change::Phase(Phase::MutuallyClosed { transaction: signed, fee: message.fee_satoshis }));
    }
}

/// What `closing_signed` of ours says.
struct Offer {
    fee: Amount,
    range: FeeRange,
    /// Not towards a peer that sends none.
    says_range: bool,
}

/// What we think a mutual close should pay.
#[derive(Clone, Copy)]
struct ClosingFees {
    ideal: Amount,
    range: FeeRange,
}

/// What `closing_signed` is answered with.
enum Answer {
    /// Both have signed this fee.
    Done,
    /// Ours with the same fee makes it done.
    Agree,
    /// Another fee.
    Counter(Amount),
}

impl Funded {
    const fn may_close_together(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::MutuallyClosed { .. })
    }

    /// Whether both `shutdown` were exchanged on this connection and nothing is left: the fee may be negotiated.
    pub(super) fn is_negotiable(&self) -> bool {
        self.shutdown.sent && self.shutdown.received && self.commitments.is_clean()
    }

    /// Whether a `closing_signed` went either way on this connection: no update may come any more.
    pub(super) const fn closing_has_begun(&self) -> bool {
        self.shutdown.negotiation.sent.is_some() || self.shutdown.negotiation.received.is_some()
    }

    fn script_of(&self, side: Side) -> ScriptBuf {
        let script = match side {
            Side::Local => &self.shutdown.local_script,
            Side::Remote => &self.shutdown.remote_script,
        };
        script.clone().expect("negotiation begins after both shutdown messages")
    }

    fn opener_balance(&self) -> Amount {
        self.commitments.tally(View::LocalCurrent).balance(self.commitments.parameters.opener).to_amount_floor()
    }

    fn closing_fees(&self, cx: &Context<'_>) -> ClosingFees {
        let opener = self.commitments.parameters.opener;
        if let Phase::MutuallyClosed { fee, .. } = self.phase {
            let range = FeeRange { min_fee_satoshis: fee, max_fee_satoshis: fee };
            return ClosingFees { ideal: fee, range };
        }
        let parameters = &self.commitments.parameters;
        let (own_dust, their_dust) = (parameters.local.dust_limit, parameters.remote.dust_limit);
        let balance = self.opener_balance();
        let weight = self.closing_weight(own_dust);
        let least = FeeratePerKw::FLOOR.fee_ceil(weight).min(balance);
        // As the peer reckons it: rounded down, and without what is dust for one of us. Core Lightning pays no more than that
        // where the feerate is at its floor.
        let floor = FeeratePerKw::FLOOR.fee_floor(self.closing_weight(own_dust.max(their_dust))).min(balance);
        let feerate = self.shutdown.feerate.unwrap_or(cx.close_feerate);
        let ideal = feerate.fee_ceil(weight).clamp(least, balance);
        // Who does not pay has no reason for a maximum (BOLT 2); who pays leaves the other side some room.
        let max = match opener {
            Side::Local => Amount::from_sat(ideal.to_sat().saturating_add(ideal.to_sat() / 2)).min(balance),
            Side::Remote => balance,
        };
        ClosingFees { ideal, range: FeeRange { min_fee_satoshis: floor, max_fee_satoshis: max } }
    }

    /// The weight of a closing transaction that has the outputs worth this much.
    fn closing_weight(&self, least: Amount) -> u64 {
        let tally = self.commitments.tally(View::LocalCurrent);
        let sides = [Side::Local, Side::Remote].into_iter();
        let there = sides.filter(|side| tally.balance(*side).to_amount_floor() >= least);
        ClosingTransaction::expected_weight(&there.map(|side| self.script_of(side)).collect::<Vec<_>>())
    }

    /// The closing transaction as we see it; where one side leaves its own output out, without that.
    fn closing_transaction(&self, fee: Amount, without: Option<Side>) -> Result<ClosingTransaction, ClosingError> {
        self.closing_transaction_of(fee, without, self.commitments.parameters.local.dust_limit)
    }

    /// The same as somebody with that dust limit sees it.
    fn closing_transaction_of(
        &self,
        fee: Amount,
        without: Option<Side>,
        dust_limit: Amount,
    ) -> Result<ClosingTransaction, ClosingError> {
        let parameters = &self.commitments.parameters;
        let tally = self.commitments.tally(View::LocalCurrent);
        let opener = parameters.opener;
        let balance = |side: Side| match without == Some(side) {
            // What the opener leaves out goes to the fee, all of it.
            true if side == opener => msat(fee),
            true => Msat::ZERO,
            false => tally.balance(side),
        };
        let spec = ClosingSpec {
            to_opener: balance(opener),
            to_accepter: balance(opener.other()),
            opener_script: self.script_of(opener),
            accepter_script: self.script_of(opener.other()),
            fee,
            dust_limit,
        };
        ClosingTransaction::build(self.commitments.main().funding(), &spec)
    }

    /// What both sides would sign with that fee.
    #[cfg(test)]
    pub(crate) fn closing_transaction_for_test(&self, fee: Amount) -> bitcoin::SegwitV0Sighash {
        let transaction = self.closing_transaction(fee, None).expect("there are outputs");
        transaction.sighash(self.commitments.main().funding())
    }

    /// The form of the closing transaction that the peer signed: ours, that without its own output, or that with its dust limit.
    fn signed_by_peer(&self, fee: Amount, signature: &Signature) -> Result<ClosingTransaction, Violation> {
        let main = self.commitments.main();
        let pubkey = &main.local.terms().countersignatory.funding_pubkey;
        let ours = self.closing_transaction(fee, None).map_err(|_| Violation::ClosingFee { fee })?;
        if ours.verifies(main.funding(), pubkey, signature) {
            return Ok(ours);
        }
        // BOLT 3: who signs leaves out what is below its own dust limit, and may leave out its own output.
        let theirs = self.commitments.parameters.remote.dust_limit;
        let others =
            [self.closing_transaction(fee, Some(Side::Remote)), self.closing_transaction_of(fee, None, theirs)];
        let mut others = others.into_iter().flatten();
        others
            .find(|transaction| transaction.verifies(main.funding(), pubkey, signature))
            .ok_or_else(|| Violation::closing_signature(ours.transaction()))
    }

    fn answer(&self, message: &ClosingSigned, fees: ClosingFees) -> Result<Answer, Violation> {
        let fee = message.fee_satoshis;
        let negotiation = &self.shutdown.negotiation;
        if negotiation.sent == Some(fee) {
            return Ok(Answer::Done);
        }
        let own = negotiation.sent_range.unwrap_or(fees.range);
        let not_between = Violation::ClosingFeeNotBetween { fee };
        if let Some(theirs) = message.fee_range {
            let low = own.min_fee_satoshis.max(theirs.min_fee_satoshis);
            let high = own.max_fee_satoshis.min(theirs.max_fee_satoshis);
            if low > high {
                return Err(Violation::ClosingFeeRange);
            }
            let is_opener = self.commitments.parameters.opener == Side::Local;
            return match (low..=high).contains(&fee) {
                // Who does not pay offers once; the opener then takes it or breaks the rule.
                true if is_opener || negotiation.sent.is_none() => Ok(Answer::Agree),
                false if !is_opener && negotiation.sent.is_none() => Ok(Answer::Counter(fees.ideal.clamp(low, high))),
                _ => Err(not_between),
            };
        }
        if let (Some(sent), Some(received)) = (negotiation.sent, negotiation.received)
            && !(sent.min(received) < fee && fee < sent.max(received))
        {
            return Err(not_between);
        }
        if (own.min_fee_satoshis..=own.max_fee_satoshis).contains(&fee) {
            return Ok(Answer::Agree);
        }
        let Some(sent) = negotiation.sent else {
            return Ok(Answer::Counter(fees.ideal));
        };
        let between = Amount::from_sat(sent.to_sat().midpoint(fee.to_sat()));
        match between == sent || between == fee {
            true => Err(not_between),
            false => Ok(Answer::Counter(between)),
        }
    }
}
