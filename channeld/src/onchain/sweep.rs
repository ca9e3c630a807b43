//! The outputs that concern us, and our way to each.

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};

use super::classify::CloseKind;
use super::closed::{ClosedChannel, local_key, remote_key};
use super::fact::{Confirmed, HtlcKey, Settings, Spend};
use super::penalty;
use super::resolver::Resolver;
use crate::keys::{PerCommitmentPoint, Signer};
use crate::transactions::htlc::second_stage_script;
use crate::transactions::penalty::to_remote_claim;
use crate::transactions::{
    Claim, ClaimPath, ClaimTransaction, CommitmentTransaction, HtlcDirection, HtlcTransaction, OutputRole,
    TransactionKeys, script,
};
use crate::units::{BlockHeight, CommitmentNumber, FeeratePerKw, PaymentHash, Preimage};

/// A wallet input and a change output behind a claim.
pub(super) const FUNDING_WEIGHT: u64 = 400;
/// The sweep of what an HTLC transaction makes: one delayed input, one output.
pub(super) const SWEEP_WEIGHT: u64 = 500;

/// An output of a confirmed transaction that is ours, or may become ours.
#[derive(Clone)]
pub(super) struct Stake {
    pub(super) outpoint: OutPoint,
    pub(super) output: TxOut,
    pub(super) way: Way,
    /// The first block that may hold our claim.
    pub(super) mature_at: BlockHeight,
    /// The first block that may hold somebody else's; `None` where there is nobody else.
    pub(super) deadline: Option<BlockHeight>,
    pub(super) htlc: Option<StakeHtlc>,
}

/// The HTLC in an output of the commitment.
#[derive(Clone, Copy)]
pub(super) struct StakeHtlc {
    pub(super) key: HtlcKey,
    pub(super) payment_hash: PaymentHash,
    /// From here on it is whose it was.
    pub(super) expiry: BlockHeight,
}

/// How we take an output.
#[derive(Clone)]
pub(super) enum Way {
    /// By one signature of ours.
    Claim(Box<Claim>),
    /// By our HTLC transaction, which the peer has signed.
    HtlcTransaction(Box<SecondStage>),
    /// An incoming HTLC whose preimage nobody has told us.
    NoPreimage,
}

/// An HTLC transaction of ours.
#[derive(Clone)]
pub(super) struct SecondStage {
    pub(super) transaction: HtlcTransaction,
    pub(super) point: PerCommitmentPoint,
    pub(super) countersignature: secp256k1::ecdsa::Signature,
    pub(super) preimage: Option<Preimage>,
    pub(super) has_anchors: bool,
    pub(super) weight: u64,
}

impl Stake {
    /// Whether it is taken from a peer that broadcast a revoked commitment.
    pub(super) fn is_penalty(&self) -> bool {
        let path = match &self.way {
            Way::Claim(claim) => Some(&claim.path),
            Way::HtlcTransaction(_) | Way::NoPreimage => None,
        };
        matches!(path, Some(ClaimPath::Revoked { .. } | ClaimPath::RevokedHtlc { .. }))
    }

    /// Whether it brings more than the least fee for taking it. What does not is left on the chain.
    pub(super) fn is_worthwhile(&self, sweep_script: &ScriptBuf) -> bool {
        self.is_worth(FeeratePerKw::FLOOR, sweep_script)
    }

    /// Whether it brings more than taking it costs at that feerate.
    pub(super) fn is_worth(&self, feerate: FeeratePerKw, sweep_script: &ScriptBuf) -> bool {
        let fee = |weight: u64| feerate.fee_ceil(weight);
        let dust = sweep_script.minimal_non_dust();
        let needed = match &self.way {
            Way::Claim(claim) => fee(ClaimTransaction::weight(std::slice::from_ref(claim), sweep_script)) + dust,
            // Without anchors its fee is in it.
            Way::HtlcTransaction(second) if !second.has_anchors => Amount::ZERO,
            // With them the wallet pays for it, by an input and change; what it makes must still bear its own sweep.
            Way::HtlcTransaction(second) => fee(second.weight + FUNDING_WEIGHT).max(dust) + fee(SWEEP_WEIGHT),
            Way::NoPreimage => Amount::ZERO,
        };
        self.output.value > needed
    }
}

impl Resolver {
    /// Everything that concerns us in what has confirmed so far, by the facts of this moment; spent outputs too.
    pub(super) fn stakes(&self, signer: &Signer, settings: &Settings) -> Vec<Stake> {
        let Some(confirmed) = &self.facts().confirmed else { return Vec::new() };
        let channel = self.channel();
        match confirmed.kind {
            CloseKind::Mutual | CloseKind::Unknown => Vec::new(),
            CloseKind::Local => self.local_stakes(confirmed, settings),
            CloseKind::LocalRevoked(number) => revoked_local_stakes(channel, signer, number, confirmed),
            CloseKind::Remote => self.remote_stakes(self.remote_commitment(), confirmed, settings),
            CloseKind::NextRemote => match self.next_remote_commitment() {
                Some(next) => self.remote_stakes(next, confirmed, settings),
                None => Vec::new(),
            },
            CloseKind::Revoked(number) => penalty::stakes(channel, number, confirmed, &self.facts().spends),
            CloseKind::RemoteFuture(_) => to_remote_stake(channel, confirmed).into_iter().collect(),
        }
    }

    /// BOLT 5, "Unilateral Close Handling: Local Commitment Transaction".
    fn local_stakes(&self, confirmed: &Confirmed, settings: &Settings) -> Vec<Stake> {
        let channel = self.channel();
        let commitment = self.local_commitment();
        let script = commitment.to_broadcaster_script(&channel.local);
        let mut stakes = Vec::new();
        for (vout, role) in (0..).zip(commitment.outputs()) {
            let outpoint = OutPoint { txid: commitment.txid(), vout };
            let output = commitment.transaction().output[vout as usize].clone();
            match role {
                OutputRole::ToBroadcaster => {
                    stakes.push(delayed_stake(channel, outpoint, output, &script, confirmed.height));
                }
                OutputRole::Htlc(index) => {
                    let stake = self.local_htlc_stake(commitment, *index, outpoint, output, confirmed, settings);
                    let spend = self.facts().spends.get(&outpoint);
                    let made = spend.and_then(|spend| second_stage_output(spend, &script));
                    stakes.push(stake);
                    if let (Some(spend), Some((outpoint, output))) = (spend, made) {
                        stakes.push(delayed_stake(channel, outpoint, output, &script, spend.height));
                    }
                }
                OutputRole::ToCountersignatory | OutputRole::BroadcasterAnchor | OutputRole::CountersignatoryAnchor => {
                }
            }
        }
        stakes
    }

    fn local_htlc_stake(
        &self,
        commitment: &CommitmentTransaction,
        index: usize,
        outpoint: OutPoint,
        output: TxOut,
        confirmed: &Confirmed,
        settings: &Settings,
    ) -> Stake {
        let channel = self.channel();
        let htlc = commitment.htlcs()[index].htlc;
        let (format, expiry) = (channel.local.format(), BlockHeight::new(htlc.cltv_expiry.height()));
        let preimage = self.facts().preimages.get(&htlc.payment_hash).copied();
        let countersignature = channel.local_commitment.signatures.htlcs.get(index).copied();
        let second_stage = |preimage, countersignature| {
            Way::HtlcTransaction(Box::new(SecondStage {
                transaction: commitment.htlc_transaction(&channel.local, index),
                point: channel.local_commitment.point,
                countersignature,
                preimage,
                has_anchors: format.has_anchors(),
                weight: format.htlc_weight(htlc.direction),
            }))
        };
        let (way, mature_at, deadline) = match (htlc.direction, countersignature, preimage) {
            (HtlcDirection::Offered, Some(signature), _) => {
                (second_stage(None, signature), expiry.plus(1), expiry.plus(settings.timeout_margin))
            }
            (HtlcDirection::Received, Some(signature), Some(preimage)) => {
                (second_stage(Some(preimage), signature), confirmed.height.plus(1), expiry)
            }
            (_, None, _) | (HtlcDirection::Received, _, None) => (Way::NoPreimage, expiry, expiry),
        };
        let htlc = StakeHtlc { key: local_key(&htlc), payment_hash: htlc.payment_hash, expiry };
        Stake { outpoint, output, way, mature_at, deadline: Some(deadline), htlc: Some(htlc) }
    }

    /// BOLT 5, "Unilateral Close Handling: Remote Commitment Transaction".
    fn remote_stakes(
        &self,
        commitment: &CommitmentTransaction,
        confirmed: &Confirmed,
        settings: &Settings,
    ) -> Vec<Stake> {
        let channel = self.channel();
        let mut stakes: Vec<Stake> = to_remote_stake(channel, confirmed).into_iter().collect();
        for committed in commitment.htlcs() {
            let outpoint = OutPoint { txid: commitment.txid(), vout: committed.output_index };
            let output = commitment.transaction().output[committed.output_index as usize].clone();
            let (htlc, format, point) =
                (&committed.htlc, channel.remote.format(), *commitment.keys().per_commitment_point());
            let expiry = BlockHeight::new(htlc.cltv_expiry.height());
            let preimage = self.facts().preimages.get(&htlc.payment_hash).copied();
            let (path, mature_at, deadline) = match (htlc.direction, preimage) {
                (HtlcDirection::Offered, Some(preimage)) => {
                    (Some(ClaimPath::HtlcPreimage { format, point, preimage }), confirmed.height.plus(1), expiry)
                }
                (HtlcDirection::Offered, None) => (None, expiry, expiry),
                (HtlcDirection::Received, _) => {
                    let path = ClaimPath::HtlcTimeout { format, point, cltv_expiry: htlc.cltv_expiry };
                    (Some(path), expiry.plus(1), expiry.plus(settings.timeout_margin))
                }
            };
            let way = path.map_or(Way::NoPreimage, |path| {
                let witness_script = script::htlc(format, commitment.keys(), &committed.htlc);
                Way::Claim(Box::new(Claim { outpoint, output: output.clone(), witness_script, path }))
            });
            let htlc = StakeHtlc { key: remote_key(htlc), payment_hash: htlc.payment_hash, expiry };
            stakes.push(Stake { outpoint, output, way, mature_at, deadline: Some(deadline), htlc: Some(htlc) });
        }
        stakes
    }
}

/// A delayed output of ours, confirmed at `height`.
fn delayed_stake(
    channel: &ClosedChannel,
    outpoint: OutPoint,
    output: TxOut,
    script: &ScriptBuf,
    height: BlockHeight,
) -> Stake {
    let to_self_delay = channel.local.terms().to_self_delay;
    let path = ClaimPath::DelayedPayment { point: channel.local_commitment.point, to_self_delay };
    let claim = Claim { outpoint, output: output.clone(), witness_script: script.clone(), path };
    Stake {
        outpoint,
        output,
        way: Way::Claim(Box::new(claim)),
        mature_at: height.plus(u32::from(to_self_delay.blocks())),
        deadline: None,
        htlc: None,
    }
}

/// What an HTLC transaction of this commitment, whoever made it, left at the index of the input that took the HTLC.
pub(super) fn second_stage_output(spend: &Spend, script: &ScriptBuf) -> Option<(OutPoint, TxOut)> {
    let output = spend.sibling.as_ref().filter(|output| output.script_pubkey == script.to_p2wsh())?;
    Some((OutPoint { txid: spend.txid, vout: spend.input }, output.clone()))
}

/// Our `to_remote` on any commitment of the peer, known or not: its key never changes.
pub(super) fn to_remote_stake(channel: &ClosedChannel, confirmed: &Confirmed) -> Option<Stake> {
    let claim = to_remote_claim(&channel.remote);
    let (txid, delay) = (confirmed.transaction.compute_txid(), u32::from(channel.remote.format().has_anchors()));
    (0..).zip(&confirmed.transaction.output).find_map(|(vout, output)| {
        let outpoint = OutPoint { txid, vout };
        let claim = Claim { outpoint, output: output.clone(), ..claim.clone() };
        (output.script_pubkey == *channel.remote.to_countersignatory_script()).then(|| Stake {
            outpoint,
            output: output.clone(),
            way: Way::Claim(Box::new(claim)),
            mature_at: confirmed.height.plus(delay),
            deadline: None,
            htlc: None,
        })
    })
}

/// `to_local` of a commitment that an old copy of this node broadcast: ours, if the peer does not punish in time.
fn revoked_local_stakes(
    channel: &ClosedChannel,
    signer: &Signer,
    number: CommitmentNumber,
    confirmed: &Confirmed,
) -> Vec<Stake> {
    let point = signer.per_commitment_point(&channel.key_id, number);
    let script = second_stage_script(&channel.local, &TransactionKeys::derive(&channel.local, &point));
    let (txid, script_pubkey) = (confirmed.transaction.compute_txid(), script.to_p2wsh());
    (0..)
        .zip(&confirmed.transaction.output)
        .filter(|(_, output)| output.script_pubkey == script_pubkey)
        .map(|(vout, output)| {
            let outpoint = OutPoint { txid, vout };
            let mut stake = delayed_stake(channel, outpoint, output.clone(), &script, confirmed.height);
            if let Way::Claim(claim) = &mut stake.way {
                let to_self_delay = channel.local.terms().to_self_delay;
                claim.path = ClaimPath::DelayedPayment { point, to_self_delay };
            }
            stake
        })
        .collect()
}
