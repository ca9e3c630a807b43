//! The commitment transaction (BOLT 3, "Commitment Transaction").

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, SegwitV0Sighash, Sequence, Transaction, TxOut, Txid};
use rayon::prelude::*;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use super::fee::ANCHOR;
use super::htlc::{Htlc, HtlcTransaction};
use super::parameter::{CommitmentParameters, TransactionKeys};
use super::script;
use super::signature::{CommitmentSignature, CommitmentSignatures};
use crate::keys::signer::PARALLEL_FROM;
use crate::keys::{ChannelKeyId, Signer};
use crate::units::{CommitmentNumber, FeeratePerKw, Msat};

/// What one commitment says, from the broadcaster's view: balances before fees and anchors, HTLCs apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentSpec {
    /// Which commitment of the broadcaster.
    pub number: CommitmentNumber,
    /// The broadcaster's balance.
    pub to_broadcaster: Msat,
    /// The other side's balance.
    pub to_countersignatory: Msat,
    /// The feerate of the commitment, and without anchors of its HTLC transactions.
    pub feerate: FeeratePerKw,
    /// All HTLCs, trimmed ones too.
    pub htlcs: Vec<Htlc>,
}

/// An HTLC that has an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedHtlc {
    /// The HTLC.
    pub htlc: Htlc,
    /// Its output on the commitment.
    pub output_index: u32,
}

/// What an output of a commitment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputRole {
    /// `to_local`
    ToBroadcaster,
    /// `to_remote`
    ToCountersignatory,
    /// `to_local_anchor`
    BroadcasterAnchor,
    /// `to_remote_anchor`
    CountersignatoryAnchor,
    /// An HTLC: its place in [`CommitmentTransaction::htlcs`].
    Htlc(usize),
}

/// A commitment transaction of the broadcaster, built, without signatures.
#[derive(Clone, Debug)]
pub struct CommitmentTransaction {
    transaction: Transaction,
    txid: Txid,
    keys: TransactionKeys,
    number: CommitmentNumber,
    feerate: FeeratePerKw,
    fee: Amount,
    outputs: Vec<OutputRole>,
    htlcs: Vec<CommittedHtlc>,
    trimmed: Vec<Htlc>,
}

/// An output on its way to its place; HTLCs of equal output are ordered by their expiry.
struct Draft {
    output: TxOut,
    cltv_expiry: u32,
    what: DraftRole,
}

enum DraftRole {
    Fixed(OutputRole),
    Htlc(Htlc),
}

impl CommitmentTransaction {
    /// Builds the commitment. An opener that cannot pay the fee pays what it has, as BOLT 3 says; that balances and HTLCs
    /// sum to the capacity is the caller's invariant.
    pub fn build(
        parameters: &CommitmentParameters,
        keys: TransactionKeys,
        spec: &CommitmentSpec,
    ) -> CommitmentTransaction {
        let terms = parameters.terms();
        let is_trimmed =
            |htlc: &&Htlc| terms.format.is_trimmed(htlc.direction, htlc.amount, spec.feerate, terms.dust_limit);
        let (trimmed, untrimmed): (Vec<&Htlc>, Vec<&Htlc>) = spec.htlcs.iter().partition(is_trimmed);

        let mut drafts: Vec<Draft> = untrimmed.iter().map(|htlc| htlc_draft(parameters, &keys, htlc)).collect();
        drafts.extend(balance_drafts(parameters, &keys, spec, untrimmed.len()));
        // BIP 69, then the expiry, which alone tells two equal offered HTLCs apart.
        drafts.sort_by(|a, b| {
            let order = a.output.value.cmp(&b.output.value);
            let order = order.then_with(|| a.output.script_pubkey.cmp(&b.output.script_pubkey));
            order.then_with(|| a.cltv_expiry.cmp(&b.cltv_expiry))
        });

        let mut htlcs = Vec::with_capacity(untrimmed.len());
        let mut outputs = Vec::with_capacity(drafts.len());
        let mut output = Vec::with_capacity(drafts.len());
        for (output_index, draft) in (0..).zip(drafts) {
            outputs.push(match draft.what {
                DraftRole::Fixed(role) => role,
                DraftRole::Htlc(htlc) => {
                    htlcs.push(CommittedHtlc { htlc, output_index });
                    OutputRole::Htlc(htlcs.len() - 1)
                }
            });
            output.push(draft.output);
        }
        let paid: Amount = output.iter().map(|output| output.value).sum();
        let transaction = unsigned(parameters, spec.number, output);
        CommitmentTransaction {
            txid: transaction.compute_txid(),
            transaction,
            keys,
            number: spec.number,
            feerate: spec.feerate,
            fee: terms.funding.amount().checked_sub(paid).unwrap_or(Amount::ZERO),
            outputs,
            htlcs,
            trimmed: trimmed.into_iter().copied().collect(),
        }
    }

    /// The transaction, without witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id, which no signature changes.
    pub const fn txid(&self) -> Txid {
        self.txid
    }

    /// The keys of its scripts.
    pub const fn keys(&self) -> &TransactionKeys {
        &self.keys
    }

    /// Which commitment of the broadcaster it is.
    pub const fn number(&self) -> CommitmentNumber {
        self.number
    }

    /// The feerate it was built for.
    pub const fn feerate(&self) -> FeeratePerKw {
        self.feerate
    }

    /// What it really pays: the base fee, all that was trimmed, and the rounding.
    pub const fn fee(&self) -> Amount {
        self.fee
    }

    /// What each output is, in the order of the outputs.
    pub fn outputs(&self) -> &[OutputRole] {
        &self.outputs
    }

    /// The index of the output in that role.
    pub fn output_index(&self, role: OutputRole) -> Option<u32> {
        (0..).zip(&self.outputs).find_map(|(index, output)| (*output == role).then_some(index))
    }

    /// The HTLCs that have an output, in the order of the outputs: that of HTLC signatures.
    pub fn htlcs(&self) -> &[CommittedHtlc] {
        &self.htlcs
    }

    /// The HTLCs that have none.
    pub fn trimmed(&self) -> &[Htlc] {
        &self.trimmed
    }

    /// The witness script of `to_local`.
    pub fn to_broadcaster_script(&self, parameters: &CommitmentParameters) -> ScriptBuf {
        super::htlc::second_stage_script(parameters, &self.keys)
    }

    /// The HTLC transaction of one of [`CommitmentTransaction::htlcs`].
    ///
    /// # Panics
    /// If there is no such HTLC.
    pub fn htlc_transaction(&self, parameters: &CommitmentParameters, index: usize) -> HtlcTransaction {
        HtlcTransaction::build(parameters, &self.keys, self.txid, self.feerate, &self.htlcs[index])
    }

    /// What both sides sign.
    pub fn sighash(&self, parameters: &CommitmentParameters) -> SegwitV0Sighash {
        let funding = parameters.funding();
        SighashCache::new(&self.transaction)
            .p2wsh_signature_hash(0, funding.witness_script(), funding.amount(), EcdsaSighashType::All)
            .expect("a commitment has one input")
    }

    /// What the countersignatory signs of each HTLC transaction, in order.
    pub fn htlc_sighashes(&self, parameters: &CommitmentParameters) -> Vec<SegwitV0Sighash> {
        let sighash = |index: usize| self.htlc_transaction(parameters, index).countersignatory_sighash();
        if self.htlcs.len() < PARALLEL_FROM {
            return (0..self.htlcs.len()).map(sighash).collect();
        }
        self.keys.broadcaster_htlc();
        (0..self.htlcs.len()).into_par_iter().map(sighash).collect()
    }

    /// Signs as the countersignatory: the peer's commitment and its HTLC transactions, for `commitment_signed`.
    pub fn sign(&self, parameters: &CommitmentParameters, signer: &Signer, id: &ChannelKeyId) -> CommitmentSignatures {
        let point = self.keys.per_commitment_point();
        CommitmentSignatures {
            commitment: CommitmentSignature::Ecdsa(signer.sign_funding(id, self.sighash(parameters))),
            htlcs: signer.sign_htlcs(id, point, &self.htlc_sighashes(parameters)),
        }
    }

    /// Signs as the broadcaster and puts both signatures in: what goes on the chain. Only when the channel closes.
    pub fn signed(
        &self,
        parameters: &CommitmentParameters,
        signer: &Signer,
        id: &ChannelKeyId,
        countersignature: &CommitmentSignature,
    ) -> Transaction {
        let own = signer.sign_funding(id, self.sighash(parameters));
        self.with_signatures(parameters, &own, countersignature.ecdsa())
    }

    /// Puts both signatures in.
    pub fn with_signatures(
        &self,
        parameters: &CommitmentParameters,
        broadcaster: &Signature,
        countersignatory: &Signature,
    ) -> Transaction {
        let terms = parameters.terms();
        let mut transaction = self.transaction.clone();
        transaction.input[0].witness =
            terms.funding.witness(&terms.broadcaster.funding_pubkey, broadcaster, countersignatory);
        transaction
    }
}

fn unsigned(parameters: &CommitmentParameters, number: CommitmentNumber, output: Vec<TxOut>) -> Transaction {
    let obscured = parameters.obscure(number);
    let (high, low) = ((obscured >> 24) as u32, (obscured & 0xff_ffff) as u32);
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(0x20 << 24 | low),
        input: vec![parameters.funding().input(Sequence(0x80 << 24 | high))],
        output,
    }
}

fn htlc_draft(parameters: &CommitmentParameters, keys: &TransactionKeys, htlc: &Htlc) -> Draft {
    let script_pubkey = script::htlc(parameters.format(), keys, htlc).to_p2wsh();
    Draft {
        output: TxOut { value: htlc.amount.to_amount_floor(), script_pubkey },
        cltv_expiry: htlc.cltv_expiry.height(),
        what: DraftRole::Htlc(*htlc),
    }
}

/// `to_local`, `to_remote` and the anchors, as far as they are there.
fn balance_drafts(
    parameters: &CommitmentParameters,
    keys: &TransactionKeys,
    spec: &CommitmentSpec,
    untrimmed_htlcs: usize,
) -> Vec<Draft> {
    let terms = parameters.terms();
    let cost = terms.format.opener_cost(spec.feerate, untrimmed_htlcs);
    let (mut own, mut other) = (spec.to_broadcaster.to_amount_floor(), spec.to_countersignatory.to_amount_floor());
    let opener = if terms.broadcaster_is_opener { &mut own } else { &mut other };
    *opener = opener.checked_sub(cost).unwrap_or(Amount::ZERO);

    let (pays_own, pays_other) = (own >= terms.dust_limit, other >= terms.dust_limit);
    let mut drafts = Vec::with_capacity(4);
    let mut push = |role, value, script_pubkey| {
        let output = TxOut { value, script_pubkey };
        drafts.push(Draft { output, cltv_expiry: 0, what: DraftRole::Fixed(role) });
    };
    if pays_own {
        let script = super::htlc::second_stage_script(parameters, keys);
        push(OutputRole::ToBroadcaster, own, script.to_p2wsh());
    }
    if pays_other {
        push(OutputRole::ToCountersignatory, other, parameters.to_countersignatory_script().clone());
    }
    if terms.format.has_anchors() && (pays_own || untrimmed_htlcs > 0) {
        push(OutputRole::BroadcasterAnchor, ANCHOR, parameters.broadcaster_anchor_script().clone());
    }
    if terms.format.has_anchors() && (pays_other || untrimmed_htlcs > 0) {
        push(OutputRole::CountersignatoryAnchor, ANCHOR, parameters.countersignatory_anchor_script().clone());
    }
    drafts
}
