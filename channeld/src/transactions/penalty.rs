//! What a revoked commitment gives: its outputs found again from stored history, first and second stage.
//!
//! The broadcaster is the cheater, the countersignatory we; HTLC directions are the cheater's.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, TxOut};
use serde::{Deserialize, Serialize};

use super::claim::{Claim, ClaimPath};
use super::htlc::{Htlc, second_stage_script};
use super::parameter::{CommitmentParameters, TransactionKeys};
use super::script;
use crate::keys::PerCommitmentSecret;
use crate::units::CommitmentNumber;

/// One row of what is kept for penalties: an HTLC, and on which commitments of the peer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcHistory {
    /// The HTLC; its direction is the broadcaster's, so `Received` is one that we offered.
    pub htlc: Htlc,
    /// The first commitment of the peer that held it.
    pub first: CommitmentNumber,
    /// The last one; `None` while the newest still holds it.
    pub last: Option<CommitmentNumber>,
}

impl HtlcHistory {
    /// Whether commitment `number` held it.
    pub fn was_on(&self, number: CommitmentNumber) -> bool {
        self.first <= number && self.last.is_none_or(|last| number <= last)
    }
}

/// What an output of a revoked commitment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevokedOutput {
    /// The cheater's `to_local`.
    ToBroadcaster,
    /// Our `to_remote`.
    ToCountersignatory,
    /// An HTLC.
    Htlc(Htlc),
}

/// Knows the scripts of one revoked commitment.
pub struct Penalty {
    secret: PerCommitmentSecret,
    keys: TransactionKeys,
    second_stage: ScriptBuf,
    known: BTreeMap<ScriptBuf, (RevokedOutput, ScriptBuf)>,
    to_countersignatory: Claim,
}

impl Penalty {
    /// Prepares the scripts of commitment `number` of the peer. `None` where `secret` is no private key.
    pub fn new(
        parameters: &CommitmentParameters,
        number: CommitmentNumber,
        secret: PerCommitmentSecret,
        history: &[HtlcHistory],
    ) -> Option<Penalty> {
        let keys = TransactionKeys::derive(parameters, &secret.point()?);
        let second_stage = second_stage_script(parameters, &keys);
        let mut known = BTreeMap::new();
        known.insert(second_stage.to_p2wsh(), (RevokedOutput::ToBroadcaster, second_stage.clone()));
        for row in history.iter().filter(|row| row.was_on(number)) {
            let script = script::htlc(parameters.format(), &keys, &row.htlc);
            known.insert(script.to_p2wsh(), (RevokedOutput::Htlc(row.htlc), script));
        }
        let to_countersignatory = to_remote_claim(parameters);
        Some(Penalty { secret, keys, second_stage, known, to_countersignatory })
    }

    /// What output `vout` of the revoked commitment is, and how we take it. `None` for anchors and what we do not know.
    pub fn claim(&self, outpoint: OutPoint, output: &TxOut) -> Option<(RevokedOutput, Claim)> {
        if output.script_pubkey == self.to_countersignatory.output.script_pubkey {
            let claim = Claim { outpoint, output: output.clone(), ..self.to_countersignatory.clone() };
            return Some((RevokedOutput::ToCountersignatory, claim));
        }
        let (what, witness_script) = self.known.get(&output.script_pubkey)?;
        let secret = self.secret.clone();
        let path = match what {
            RevokedOutput::Htlc(_) => ClaimPath::RevokedHtlc { secret, revocation: *self.keys.revocation() },
            RevokedOutput::ToBroadcaster | RevokedOutput::ToCountersignatory => ClaimPath::Revoked { secret },
        };
        let claim = Claim { outpoint, output: output.clone(), witness_script: witness_script.clone(), path };
        Some((*what, claim))
    }

    /// The output that an HTLC transaction of the cheater made, or `None` where `output` is none: the input that took the
    /// HTLC was no HTLC transaction of this commitment then.
    ///
    /// With anchors the cheater may join several HTLC transactions and add inputs and outputs of its own; the signatures
    /// (SINGLE | ANYONECANPAY) bind each input to the output at the same index: that is the output to ask about.
    pub fn second_stage_claim(&self, outpoint: OutPoint, output: &TxOut) -> Option<Claim> {
        (output.script_pubkey == self.second_stage.to_p2wsh()).then(|| Claim {
            outpoint,
            output: output.clone(),
            witness_script: self.second_stage.clone(),
            path: ClaimPath::Revoked { secret: self.secret.clone() },
        })
    }
}

/// Our claim on `to_remote` of any commitment of the broadcaster, with an empty place for outpoint and amount.
pub fn to_remote_claim(parameters: &CommitmentParameters) -> Claim {
    let (format, payment) =
        (parameters.format(), parameters.terms().countersignatory.payment_basepoint.payment_pubkey());
    Claim {
        outpoint: OutPoint::null(),
        output: TxOut { value: bitcoin::Amount::ZERO, script_pubkey: parameters.to_countersignatory_script().clone() },
        witness_script: if format.has_anchors() { script::to_remote(&payment) } else { ScriptBuf::new() },
        path: ClaimPath::ToRemote { format, payment },
    }
}
