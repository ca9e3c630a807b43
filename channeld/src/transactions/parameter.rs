//! What all commitments of one broadcaster share (format, funding output, keys), and the keys of one of them.

use std::sync::OnceLock;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use super::script;
use super::signature::with_sighash_all;
use crate::keys::{
    Basepoints, DelayedPaymentPubkey, FundingPubkey, HtlcBasepoint, HtlcPubkey, PaymentBasepoint, PerCommitmentPoint,
    RevocationPubkey,
};
use crate::units::{CltvDelta, CommitmentNumber};

/// How the commitment transactions of a channel are built; fixed by its `channel_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CommitmentFormat {
    /// `option_static_remotekey` alone (channel type 12): the commitment and its HTLC transactions carry their own fee.
    StaticRemotekey,
    /// `option_anchors` (channel type 12 + 22): anchors, HTLC transactions without fee.
    Anchors,
}

impl CommitmentFormat {
    /// Whether the commitment has anchors, and all that goes with them.
    pub const fn has_anchors(self) -> bool {
        matches!(self, CommitmentFormat::Anchors)
    }
}

/// A confirmed or coming funding output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funding {
    outpoint: OutPoint,
    amount: Amount,
    /// In the order of the script.
    pubkeys: [FundingPubkey; 2],
    witness_script: ScriptBuf,
}

impl Funding {
    /// The funding output of these two keys, in any order.
    pub fn new(outpoint: OutPoint, amount: Amount, one: FundingPubkey, other: FundingPubkey) -> Funding {
        let pubkeys = if one.serialize() <= other.serialize() { [one, other] } else { [other, one] };
        Funding { outpoint, amount, pubkeys, witness_script: script::funding(&one, &other) }
    }

    /// `scriptPubKey` of a funding output to these two keys, before its transaction is known.
    pub fn script_pubkey_of(one: &FundingPubkey, other: &FundingPubkey) -> ScriptBuf {
        script::funding(one, other).to_p2wsh()
    }

    /// Where it is.
    pub const fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// `funding_satoshis`
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// The two-of-two script.
    pub const fn witness_script(&self) -> &ScriptBuf {
        &self.witness_script
    }

    /// The output itself.
    pub fn output(&self) -> TxOut {
        TxOut { value: self.amount, script_pubkey: self.witness_script.to_p2wsh() }
    }

    /// The input that spends it, still without witness.
    pub(super) fn input(&self, sequence: Sequence) -> TxIn {
        TxIn { previous_output: self.outpoint, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() }
    }

    /// `0 <signature_for_pubkey1> <signature_for_pubkey2>`; `own` belongs to `pubkey`, `other` to the other side.
    pub(super) fn witness(&self, pubkey: &FundingPubkey, own: &Signature, other: &Signature) -> Witness {
        let (first, second) = if *pubkey == self.pubkeys[0] { (own, other) } else { (other, own) };
        let mut witness = Witness::new();
        witness.push([]);
        witness.push(with_sighash_all(first));
        witness.push(with_sighash_all(second));
        witness.push(&self.witness_script);
        witness
    }
}

/// The facts that all commitments of one broadcaster share. Each side of a channel has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentTerms {
    /// How transactions are built.
    pub format: CommitmentFormat,
    /// The output that is spent.
    pub funding: Funding,
    /// The public keys of whoever broadcasts.
    pub broadcaster: Basepoints,
    /// The public keys of the other side.
    pub countersignatory: Basepoints,
    /// Whether the broadcaster opened the channel: the opener pays the fee, and its payment basepoint comes first in the
    /// obscured commitment number.
    pub broadcaster_is_opener: bool,
    /// The delay of the broadcaster's own outputs: the `to_self_delay` that the countersignatory asked for.
    pub to_self_delay: CltvDelta,
    /// The broadcaster's `dust_limit_satoshis`.
    pub dust_limit: Amount,
}

/// [`CommitmentTerms`] with everything that can be made of them once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CommitmentTerms", into = "CommitmentTerms")]
pub struct CommitmentParameters {
    terms: CommitmentTerms,
    obscuring: u64,
    to_countersignatory: ScriptBuf,
    broadcaster_anchor: ScriptBuf,
    countersignatory_anchor: ScriptBuf,
}

impl From<CommitmentTerms> for CommitmentParameters {
    fn from(terms: CommitmentTerms) -> CommitmentParameters {
        CommitmentParameters::new(terms)
    }
}

impl From<CommitmentParameters> for CommitmentTerms {
    fn from(parameters: CommitmentParameters) -> CommitmentTerms {
        parameters.terms
    }
}

impl CommitmentParameters {
    /// Prepares what does not change between commitments.
    pub fn new(terms: CommitmentTerms) -> CommitmentParameters {
        let (broadcaster, other) = (&terms.broadcaster, &terms.countersignatory);
        let (opener, accepter) = if terms.broadcaster_is_opener { (broadcaster, other) } else { (other, broadcaster) };
        CommitmentParameters {
            obscuring: obscuring_factor(&opener.payment_basepoint, &accepter.payment_basepoint),
            to_countersignatory: script::to_remote_output(terms.format, &other.payment_basepoint.payment_pubkey()),
            broadcaster_anchor: script::anchor(&broadcaster.funding_pubkey).to_p2wsh(),
            countersignatory_anchor: script::anchor(&other.funding_pubkey).to_p2wsh(),
            terms,
        }
    }

    /// The facts.
    pub const fn terms(&self) -> &CommitmentTerms {
        &self.terms
    }

    /// How transactions are built.
    pub const fn format(&self) -> CommitmentFormat {
        self.terms.format
    }

    /// The output that every commitment spends.
    pub const fn funding(&self) -> &Funding {
        &self.terms.funding
    }

    /// `scriptPubKey` of the `to_remote` output, which pays the countersignatory.
    pub fn to_countersignatory_script(&self) -> &ScriptBuf {
        &self.to_countersignatory
    }

    /// `scriptPubKey` of the broadcaster's anchor.
    pub fn broadcaster_anchor_script(&self) -> &ScriptBuf {
        &self.broadcaster_anchor
    }

    /// `scriptPubKey` of the countersignatory's anchor.
    pub fn countersignatory_anchor_script(&self) -> &ScriptBuf {
        &self.countersignatory_anchor
    }

    /// The number as lock time and sequence show it: xored with what only the two sides know.
    pub const fn obscure(&self, number: CommitmentNumber) -> u64 {
        number.number() ^ self.obscuring
    }

    /// The number of a commitment transaction that spends this funding output, or `None` where it is none by its shape
    /// (a mutual close has other lock times and sequences). The number of a foreign transaction means nothing.
    pub fn number_of(&self, transaction: &Transaction) -> Option<CommitmentNumber> {
        let [input] = transaction.input.as_slice() else { return None };
        let (sequence, lock_time) = (input.sequence.0, transaction.lock_time.to_consensus_u32());
        if input.previous_output != self.terms.funding.outpoint() || sequence >> 24 != 0x80 || lock_time >> 24 != 0x20 {
            return None;
        }
        let obscured = u64::from(sequence & 0xff_ffff) << 24 | u64::from(lock_time & 0xff_ffff);
        Some(CommitmentNumber::new(obscured ^ self.obscuring))
    }
}

/// The lower 48 bits of `SHA256(payment_basepoint of the opener || payment_basepoint of the accepter)`.
fn obscuring_factor(opener: &PaymentBasepoint, accepter: &PaymentBasepoint) -> u64 {
    let mut engine = sha256::Hash::engine();
    engine.input(&opener.serialize());
    engine.input(&accepter.serialize());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    hash[26..].iter().fold(0, |factor, byte| factor << 8 | u64::from(*byte))
}

/// The keys of one commitment: derived once (revocation 43 µs, delayed and each HTLC key 17 µs), then used for all its
/// scripts. The HTLC keys are derived when the first HTLC asks.
#[derive(Clone, Debug)]
pub struct TransactionKeys {
    per_commitment_point: PerCommitmentPoint,
    revocation: RevocationPubkey,
    broadcaster_delayed_payment: DelayedPaymentPubkey,
    htlc_basepoints: [HtlcBasepoint; 2],
    htlc: OnceLock<[HtlcPubkey; 2]>,
}

impl TransactionKeys {
    /// The keys of the broadcaster's commitment that has this point.
    pub fn derive(parameters: &CommitmentParameters, point: &PerCommitmentPoint) -> TransactionKeys {
        let (broadcaster, other) = (&parameters.terms.broadcaster, &parameters.terms.countersignatory);
        TransactionKeys {
            per_commitment_point: *point,
            revocation: RevocationPubkey::derive(&other.revocation_basepoint, point),
            broadcaster_delayed_payment: DelayedPaymentPubkey::derive(&broadcaster.delayed_payment_basepoint, point),
            htlc_basepoints: [broadcaster.htlc_basepoint, other.htlc_basepoint],
            htlc: OnceLock::new(),
        }
    }

    /// The point the keys are made from.
    pub const fn per_commitment_point(&self) -> &PerCommitmentPoint {
        &self.per_commitment_point
    }

    /// `revocationpubkey`
    pub const fn revocation(&self) -> &RevocationPubkey {
        &self.revocation
    }

    /// `local_delayedpubkey`
    pub const fn broadcaster_delayed_payment(&self) -> &DelayedPaymentPubkey {
        &self.broadcaster_delayed_payment
    }

    /// `local_htlcpubkey`
    pub fn broadcaster_htlc(&self) -> &HtlcPubkey {
        &self.htlc()[0]
    }

    /// `remote_htlcpubkey`
    pub fn countersignatory_htlc(&self) -> &HtlcPubkey {
        &self.htlc()[1]
    }

    fn htlc(&self) -> &[HtlcPubkey; 2] {
        let derive = |basepoint: HtlcBasepoint| HtlcPubkey::derive(&basepoint, &self.per_commitment_point);
        self.htlc.get_or_init(|| self.htlc_basepoints.map(derive))
    }
}
