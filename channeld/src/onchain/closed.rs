//! What a channel hands over when it fails or its funding output is spent. None of it changes any more.

use std::sync::OnceLock;

use bitcoin::{OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};

use super::fact::{HtlcKey, HtlcSide};
use crate::commitment::{Commitments, View};
use crate::keys::{ChannelKeyId, PerCommitmentPoint, ReceivedSecrets, Signer};
use crate::transactions::{
    CommitmentParameters, CommitmentSignatures, CommitmentSpec, CommitmentTransaction, Htlc, HtlcDirection,
    TransactionKeys,
};

/// Our newest commitment, with what we need to broadcast it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCommitment {
    /// What it says; we are the broadcaster.
    pub spec: CommitmentSpec,
    /// Our point at its number.
    pub point: PerCommitmentPoint,
    /// The peer's signatures.
    pub signatures: CommitmentSignatures,
}

/// A commitment of the peer that is not revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCommitment {
    /// What it says; the peer is the broadcaster, so `Offered` is incoming for us.
    pub spec: CommitmentSpec,
    /// The peer's point at its number.
    pub point: PerCommitmentPoint,
}

/// A channel on its way to the chain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedChannel {
    /// Our keys.
    pub key_id: ChannelKeyId,
    /// The terms of our commitments: we broadcast.
    pub local: CommitmentParameters,
    /// The terms of the peer's commitments: the peer broadcasts.
    pub remote: CommitmentParameters,
    /// Our newest commitment.
    pub local_commitment: LocalCommitment,
    /// The peer's newest commitment that it has not revoked.
    pub remote_commitment: RemoteCommitment,
    /// The one that we have signed and that will replace it.
    pub next_remote_commitment: Option<RemoteCommitment>,
    /// The secrets of all commitments that the peer has revoked.
    pub secrets: ReceivedSecrets,
    /// The scripts of both sides' `shutdown`, as far as sent: a spend that pays to nothing else is a mutual close.
    pub shutdown_scripts: Vec<ScriptBuf>,
    /// A script of our wallet: where all claims go.
    pub sweep_script: ScriptBuf,
}

impl ClosedChannel {
    /// What the channel knew last, as this room needs it; `None` before the peer has signed our first commitment, for then
    /// nothing of ours can be on the chain.
    pub fn new(
        key_id: ChannelKeyId,
        commitments: &Commitments,
        signer: &Signer,
        shutdown_scripts: Vec<ScriptBuf>,
        sweep_script: ScriptBuf,
    ) -> Option<ClosedChannel> {
        let funded = commitments.main();
        let remote = |view| {
            let point = commitments.remote_commitment_point(view)?;
            Some(RemoteCommitment { spec: commitments.spec(view), point })
        };
        let spec = commitments.spec(View::LocalCurrent);
        let point = signer.per_commitment_point(&key_id, spec.number);
        Some(ClosedChannel {
            key_id,
            local: funded.local.clone(),
            remote: funded.remote.clone(),
            local_commitment: LocalCommitment { spec, point, signatures: funded.signatures.clone()? },
            remote_commitment: remote(View::RemoteCurrent)?,
            next_remote_commitment: remote(View::RemoteSigned).filter(|_| commitments.awaiting_revocation),
            secrets: commitments.secrets.clone(),
            shutdown_scripts,
            sweep_script,
        })
    }

    /// The output whose spend this is about.
    pub fn funding_outpoint(&self) -> OutPoint {
        self.local.funding().outpoint()
    }

    /// Our newest commitment, built.
    fn build_local(&self) -> CommitmentTransaction {
        let keys = TransactionKeys::derive(&self.local, &self.local_commitment.point);
        CommitmentTransaction::build(&self.local, keys, &self.local_commitment.spec)
    }

    /// A commitment of the peer, built.
    fn build_remote(&self, commitment: &RemoteCommitment) -> CommitmentTransaction {
        let keys = TransactionKeys::derive(&self.remote, &commitment.point);
        CommitmentTransaction::build(&self.remote, keys, &commitment.spec)
    }

    /// Every HTLC of any commitment that could confirm, once, as this node names it.
    pub(super) fn htlcs(&self) -> Vec<(HtlcKey, Htlc)> {
        let local = self.local_commitment.spec.htlcs.iter().map(|htlc| (local_key(htlc), *htlc));
        let remote = [Some(&self.remote_commitment), self.next_remote_commitment.as_ref()].into_iter().flatten();
        let remote = remote.flat_map(|commitment| &commitment.spec.htlcs).map(|htlc| (remote_key(htlc), *htlc));
        let mut all: Vec<_> = local.chain(remote).collect();
        all.sort_by_key(|(key, _)| *key);
        all.dedup_by_key(|(key, _)| *key);
        all
    }
}

/// The commitments of a channel, built when first asked for: a pure memory beside it.
#[derive(Default)]
pub(super) struct Built {
    local: OnceLock<CommitmentTransaction>,
    remote: OnceLock<CommitmentTransaction>,
    next_remote: OnceLock<Option<CommitmentTransaction>>,
}

impl Built {
    pub(super) fn local(&self, channel: &ClosedChannel) -> &CommitmentTransaction {
        self.local.get_or_init(|| channel.build_local())
    }

    pub(super) fn remote(&self, channel: &ClosedChannel) -> &CommitmentTransaction {
        self.remote.get_or_init(|| channel.build_remote(&channel.remote_commitment))
    }

    pub(super) fn next_remote(&self, channel: &ClosedChannel) -> Option<&CommitmentTransaction> {
        let build = || channel.next_remote_commitment.as_ref().map(|next| channel.build_remote(next));
        self.next_remote.get_or_init(build).as_ref()
    }
}

/// The name of an HTLC on a commitment of ours.
pub(super) const fn local_key(htlc: &Htlc) -> HtlcKey {
    let side = match htlc.direction {
        HtlcDirection::Offered => HtlcSide::Outgoing,
        HtlcDirection::Received => HtlcSide::Incoming,
    };
    HtlcKey { side, id: htlc.id }
}

/// The name of an HTLC on a commitment of the peer.
pub(super) const fn remote_key(htlc: &Htlc) -> HtlcKey {
    let side = match htlc.direction {
        HtlcDirection::Offered => HtlcSide::Incoming,
        HtlcDirection::Received => HtlcSide::Outgoing,
    };
    HtlcKey { side, id: htlc.id }
}
