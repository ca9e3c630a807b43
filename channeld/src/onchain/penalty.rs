//! A revoked commitment of the peer: all of it is ours, first and second stage.

use std::collections::BTreeMap;

use bitcoin::OutPoint;

use super::closed::{ClosedChannel, remote_key};
use super::fact::{Confirmed, Spend};
use super::sweep::{Stake, StakeHtlc, Way};
use crate::transactions::{Claim, Penalty, RevokedOutput};
use crate::units::{BlockHeight, CommitmentNumber};

/// BOLT 5, "Revoked Transaction Close Handling". Whatever the cheater's HTLC transactions are joined with, their output
/// stands at the index of the input that took the HTLC.
pub(super) fn stakes(
    channel: &ClosedChannel,
    number: CommitmentNumber,
    confirmed: &Confirmed,
    spends: &BTreeMap<OutPoint, Spend>,
) -> Vec<Stake> {
    let secret = channel.secrets.secret(number);
    let penalty = secret.and_then(|secret| Penalty::new(&channel.remote, number, secret, &confirmed.history));
    let Some(penalty) = penalty else { return Vec::new() };
    let delay = u32::from(channel.remote.terms().to_self_delay.blocks());
    let txid = confirmed.transaction.compute_txid();
    let mut stakes = Vec::new();
    for (vout, output) in (0..).zip(&confirmed.transaction.output) {
        let outpoint = OutPoint { txid, vout };
        let Some((what, claim)) = penalty.claim(outpoint, output) else { continue };
        let is_htlc = matches!(what, RevokedOutput::Htlc(_));
        stakes.push(match what {
            RevokedOutput::ToCountersignatory => {
                let csv = u32::from(channel.remote.format().has_anchors());
                stake(claim, confirmed.height.plus(csv), None, None)
            }
            RevokedOutput::ToBroadcaster => {
                stake(claim, confirmed.height.plus(1), Some(confirmed.height.plus(delay)), None)
            }
            RevokedOutput::Htlc(htlc) => {
                let expiry = BlockHeight::new(htlc.cltv_expiry.height());
                let htlc = StakeHtlc { key: remote_key(&htlc), payment_hash: htlc.payment_hash, expiry };
                stake(claim, confirmed.height.plus(1), Some(confirmed.height.plus(delay)), Some(htlc))
            }
        });
        let spend = spends.get(&outpoint).filter(|_| is_htlc);
        let made = spend.and_then(|spend| {
            let second_stage = OutPoint { txid: spend.txid, vout: spend.input };
            Some((spend.height, penalty.second_stage_claim(second_stage, spend.sibling.as_ref()?)?))
        });
        if let Some((height, claim)) = made {
            stakes.push(stake(claim, height.plus(1), Some(height.plus(delay)), None));
        }
    }
    stakes
}

fn stake(claim: Claim, mature_at: BlockHeight, deadline: Option<BlockHeight>, htlc: Option<StakeHtlc>) -> Stake {
    Stake {
        outpoint: claim.outpoint,
        output: claim.output.clone(),
        way: Way::Claim(Box::new(claim)),
        mature_at,
        deadline,
        htlc,
    }
}
