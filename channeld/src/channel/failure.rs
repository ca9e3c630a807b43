//! Failing a channel.

use bitcoin::{ScriptBuf, Transaction, Txid};

use super::{Channel, Context, Decision, Failure, Violation};
use crate::commitment::{Commitments, Side};
use crate::keys::ChannelKeyId;
use crate::units::ShortChannelId;

/// What `onchain` needs to classify and claim whatever spends the funding output: a copy of what the channel knew last.
/// HTLCs of revoked commitments are in here as far as they are in flight; the older ones are the penalty rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosingFacts {
    /// Where our keys come from.
    pub keys_id: ChannelKeyId,
    /// Who opened.
    pub opener: Side,
    /// Balances, HTLCs with preimages, signatures, secrets, numbers and points; `main()` has the funding output and both
    /// sides' `CommitmentParameters`, `spec(view)` and `build(view, point)` the commitments.
    pub commitments: Commitments,
    /// Our script for a mutual close, where one was sent.
    pub local_shutdown_script: Option<ScriptBuf>,
    /// The peer's.
    pub remote_shutdown_script: Option<ScriptBuf>,
    /// The peer proved that we lost data: its commitments may be newer than any we know.
    pub stale: bool,
}

impl Channel {
    /// See [`ClosingFacts`]; `None` where there is no funding output.
    pub fn closing_facts(&self) -> Option<ClosingFacts> {
        todo!()
    }
    /// Our current commitment, signed by both: what goes to the chain when the channel fails.
    pub fn signed_local_commitment(&self, _cx: &Context<'_>) -> Option<Transaction> {
        todo!()
    }
    pub(super) fn violated(&self, _v: Violation, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn fail(&self, _f: Failure, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn funding_spent(&self, _txid: Txid, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn funding_unspent(&self, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn block(&self, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn funding_depth(&self, _depth: u32, _scid: ShortChannelId, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn funding_reorged(&self, _d: &mut Decision) {
        todo!()
    }
}
