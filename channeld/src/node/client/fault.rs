//! Faults on purpose, for development.

use bitcoin::Transaction;

use super::Outcome;
use crate::commitment::View;
use crate::node::Node;
use crate::node::api::command::Fault;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{FaultDone, Reply};
use crate::node::input::Effect;
use crate::node::live::Kept;
use crate::transactions::HtlcDirection;
use crate::units::ChannelId;

impl Node {
    pub(super) fn inject(&mut self, fault: Fault) -> Outcome {
        if !self.settings.development {
            return Err(Refusal::NotDevelopmentNetwork);
        }
        match fault {
            Fault::KeepState { channel } => self.keep_state(channel),
            Fault::ReplayOldState { channel } => self.replay_old_state(channel),
            Fault::HoldHtlcs { channel, hold } => self.hold_htlcs(channel, hold),
            Fault::Delay { peer, millis } => {
                if !self.live.sessions.contains_key(&peer) {
                    return Err(Refusal::PeerOffline(peer));
                }
                self.turns.push(Effect::Delay { peer, millis });
                Ok(Reply::Fault(FaultDone::Delayed))
            }
            Fault::Cut { peer } => {
                if !self.live.sessions.contains_key(&peer) {
                    return Err(Refusal::PeerOffline(peer));
                }
                self.disconnect(peer);
                Ok(Reply::Fault(FaultDone::Cut))
            }
        }
    }

    fn keep_state(&mut self, id: ChannelId) -> Outcome {
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let unsigned = || Refusal::ChannelNotUsable { description: "the channel has no signed commitment".to_owned() };
        let commitments = entry.channel.commitments().ok_or_else(unsigned)?;
        let number = commitments.local_number;
        let transaction = entry.channel.signed_local_commitment(&self.context()).ok_or_else(unsigned)?;
        let txid = transaction.compute_txid();
        let mut transactions = vec![transaction];
        transactions.extend(self.claims_of_kept(id).unwrap_or_default());
        self.live.kept.insert(id, Kept { number, transactions });
        Ok(Reply::Fault(FaultDone::Kept { commitment: number, txid }))
    }

    /// The HTLC-success transactions of our newest commitment for which we have the preimage: a cheater broadcasts them
    /// at once. With anchors they pay no fee, and no node relays them.
    fn claims_of_kept(&self, id: ChannelId) -> Option<Vec<Transaction>> {
        let facts = self.state.channels.get(&id)?.channel.closing_facts()?;
        let main = facts.commitments.main();
        let signatures = main.signatures.as_ref()?;
        if main.local.format().has_anchors() {
            return None;
        }
        let point = self.signer.per_commitment_point(&facts.keys_id, facts.commitments.local_number);
        let commitment = facts.commitments.build(View::LocalCurrent, &point);
        let pairs = commitment.htlcs().iter().zip(&signatures.htlcs).enumerate();
        let received = pairs.filter(|(_, (committed, _))| committed.htlc.direction == HtlcDirection::Received);
        let claims = received.filter_map(|(index, (committed, countersignature))| {
            let incoming = facts.commitments.incoming.get(&committed.htlc.id)?;
            let preimage = self.preimage_for(id, &incoming.offer)?;
            let claim = commitment.htlc_transaction(&main.local, index);
            let sighash = claim.broadcaster_sighash(claim.transaction(), 0);
            let own = self.signer.sign_htlc(&facts.keys_id, &point, sighash);
            Some(claim.signed(countersignature, &own, Some(&preimage)))
        });
        Some(claims.collect())
    }

    fn hold_htlcs(&mut self, id: ChannelId, hold: bool) -> Outcome {
        if !self.state.channels.contains_key(&id) {
            return Err(Refusal::ChannelNotFound(id));
        }
        if hold {
            self.live.held.insert(id);
        } else if self.live.held.remove(&id) {
            self.judge_again(id);
        }
        Ok(Reply::Fault(FaultDone::Held))
    }

    /// What a cheater does: its victim is to take everything.
    fn replay_old_state(&mut self, id: ChannelId) -> Outcome {
        let kept = self.live.kept.get(&id).ok_or(Refusal::NoStateKept)?;
        let txid = kept.transactions.first().ok_or(Refusal::NoStateKept)?.compute_txid();
        let commitment = kept.number;
        self.turns.push(Effect::Broadcast(kept.transactions.clone()));
        Ok(Reply::Fault(FaultDone::Replayed { commitment, txid }))
    }
}
