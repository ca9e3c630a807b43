//! Which transaction took the funding output.

use bitcoin::{ScriptBuf, Transaction};
use serde::{Deserialize, Serialize};

use super::closed::{Built, ClosedChannel};
use crate::keys::Signer;
use crate::transactions::TransactionKeys;
use crate::transactions::htlc::second_stage_script;
use crate::units::CommitmentNumber;

/// What a spend of the funding output is. Both sides signed it, so it is something that we once agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseKind {
    /// A mutual close.
    Mutual,
    /// Our newest commitment.
    Local,
    /// A commitment of ours that we have revoked: an old copy of this node broadcast it. The peer may take everything.
    LocalRevoked(CommitmentNumber),
    /// The peer's commitment that it has not revoked.
    Remote,
    /// The peer's commitment that we have signed last.
    NextRemote,
    /// A commitment that the peer has revoked: we take everything.
    Revoked(CommitmentNumber),
    /// A commitment of the peer that is newer than any we know: we have lost data. Only `to_remote` can be claimed.
    RemoteFuture(CommitmentNumber),
    /// Neither a commitment nor a mutual close that we know: the funding key was used elsewhere.
    Unknown,
}

/// Tells what `transaction`, which spends the funding output, is.
pub fn classify(channel: &ClosedChannel, signer: &Signer, transaction: &Transaction) -> CloseKind {
    classify_with(channel, &Built::default(), signer, transaction)
}

/// The same, with the commitments at hand.
pub(super) fn classify_with(
    channel: &ClosedChannel,
    built: &Built,
    signer: &Signer,
    transaction: &Transaction,
) -> CloseKind {
    let Some(number) = channel.local.number_of(transaction) else {
        return mutual_or_unknown(channel, transaction);
    };
    let txid = transaction.compute_txid();
    if txid == built.local(channel).txid() {
        return CloseKind::Local;
    }
    if txid == built.remote(channel).txid() {
        return CloseKind::Remote;
    }
    if built.next_remote(channel).is_some_and(|next| txid == next.txid()) {
        return CloseKind::NextRemote;
    }
    if number < channel.local_commitment.spec.number && is_local(channel, signer, number, transaction) {
        return CloseKind::LocalRevoked(number);
    }
    if channel.secrets.secret(number).is_some() {
        return CloseKind::Revoked(number);
    }
    CloseKind::RemoteFuture(number)
}

fn mutual_or_unknown(channel: &ClosedChannel, transaction: &Transaction) -> CloseKind {
    let is_known = |script: &ScriptBuf| channel.shutdown_scripts.contains(script);
    if transaction.output.iter().all(|output| is_known(&output.script_pubkey)) {
        CloseKind::Mutual
    } else {
        CloseKind::Unknown
    }
}

/// Whether a commitment of that number is ours: each side's pays the other's payment key, and its own delayed one.
fn is_local(channel: &ClosedChannel, signer: &Signer, number: CommitmentNumber, transaction: &Transaction) -> bool {
    let point = signer.per_commitment_point(&channel.key_id, number);
    let delayed = second_stage_script(&channel.local, &TransactionKeys::derive(&channel.local, &point)).to_p2wsh();
    let pays = |script: &ScriptBuf| transaction.output.iter().any(|output| output.script_pubkey == *script);
    pays(&delayed) || pays(channel.local.to_countersignatory_script())
}
