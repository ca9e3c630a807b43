//! The border between two perspectives: local and remote, outgoing and incoming here; broadcaster and countersignatory,
//! offered and received in [`crate::transactions`]. Every commitment transaction is built through here.

use super::Commitments;
use super::parameter::direction;
use super::stage::{Side, View};
use crate::keys::PerCommitmentPoint;
use crate::transactions::{CommitmentSpec, CommitmentTransaction, Htlc, TransactionKeys};

impl Commitments {
    /// What the commitment `view` says, as its broadcaster sees it.
    pub fn spec(&self, view: View) -> CommitmentSpec {
        let owner = view.owner();
        let tally = self.tally(view);
        let mut htlcs = Vec::with_capacity(usize::from(tally.outgoing.count) + usize::from(tally.incoming.count));
        for adder in [Side::Local, Side::Remote] {
            let on_view = self.htlcs(adder).values().filter(|htlc| htlc.on(view, adder));
            htlcs.extend(on_view.map(|htlc| Htlc {
                direction: direction(owner, adder),
                id: htlc.offer.id,
                amount: htlc.offer.amount,
                payment_hash: htlc.offer.payment_hash,
                cltv_expiry: htlc.offer.cltv_expiry,
            }));
        }
        CommitmentSpec {
            number: self.number(view),
            to_broadcaster: tally.balance(owner),
            to_countersignatory: tally.balance(owner.other()),
            feerate: tally.feerate,
            htlcs,
        }
    }

    /// The commitment transaction `view` over the funding output in use; `point` is its owner's for that number.
    pub fn build(&self, view: View, point: &PerCommitmentPoint) -> CommitmentTransaction {
        let parameters = self.main().terms(view.owner());
        let keys = TransactionKeys::derive(parameters, point);
        CommitmentTransaction::build(parameters, keys, &self.spec(view))
    }

    /// The point of one of the peer's commitments; `None` for the next one before `channel_ready`, and for the one after
    /// it as long as a revocation is awaited.
    pub fn remote_commitment_point(&self, view: View) -> Option<PerCommitmentPoint> {
        match view {
            View::RemoteCurrent => Some(self.remote_point),
            View::RemoteSigned if self.awaiting_revocation => self.remote_next_point,
            View::RemoteSigned => Some(self.remote_point),
            View::RemoteNext if self.awaiting_revocation => None,
            View::RemoteNext => self.remote_next_point,
            View::LocalCurrent | View::LocalNext => None,
        }
    }
}
