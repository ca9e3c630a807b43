//! Forwarding: an incoming HTLC that is irrevocable becomes an outgoing one in the same turn, and its end comes back.
//!
//! Knows what BOLT 2 ("Forwarding HTLCs") and BOLT 4 ("Accepting and Forwarding a Payment") ask of the node between two
//! channels. A preimage goes up in the turn in which it arrives; a failure only when the outgoing HTLC is gone for certain,
//! or when the incoming one's own deadline leaves no choice. Never looks at the graph and never chooses a route.

mod bucket;
mod deadline;

pub(super) use bucket::Buckets;
pub use bucket::ForwardingLoad;

use crate::channel::{self, Command, OutgoingFailure};
use crate::commitment::{HtlcOffer, LimitRefusal};
use crate::node::Node;
use crate::node::api::event::EventKind;
use crate::node::state::ChannelEntry;
use crate::node::state::change::Change;
use crate::onion::{Answer, Failure, Forwarding, NextHop};
use crate::payment::forward::{Forward, ForwardStatus, HtlcPlace, Passage, PassageRefusal};
use crate::units::{ChannelId, Msat, NodeId, Preimage, ShortChannelId};
use crate::wire::{AttributionData, ChannelUpdate};

/// What the onion of an incoming HTLC wants sent on.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    /// The HTLC that came.
    pub incoming: HtlcPlace,
    /// What it says.
    pub offer: &'a HtlcOffer,
    /// What its onion says.
    pub forwarding: &'a Forwarding,
}

impl Node {
    /// An incoming HTLC is to be sent on. Told once more after a restart or a reconnect, it does no harm.
    pub(super) fn forward_htlc(&mut self, errand: &Errand<'_>) {
        if let Some(forward) = self.state.forwards.get(&errand.incoming) {
            if let ForwardStatus::Fulfilled(preimage) = forward.status {
                self.fulfil_upstream(errand.incoming, preimage, None);
            }
            return;
        }
        let return_path = &errand.forwarding.return_path;
        let sent = if self.state.is_replayed(return_path) {
            // BOLT 4: an onion that was seen before is not followed; what it was worth is told to nobody.
            Err(Failure::TemporaryNodeFailure)
        } else {
            self.send_on(errand)
        };
        if let Err(failure) = sent {
            self.event(EventKind::ForwardFailed {
                payment_hash: errand.offer.payment_hash,
                incoming: errand.incoming.channel,
                outgoing: None,
                incoming_amount: errand.offer.amount,
                code: Some(failure.code()),
            });
            self.fail_htlc(errand.incoming.channel, errand.incoming.id, &failure, return_path);
        }
    }

    fn send_on(&mut self, errand: &Errand<'_>) -> Result<(), Failure> {
        match errand.forwarding.next {
            NextHop::ShortChannelId(name) => self.send_on_over(name, errand),
            NextHop::NodeId(peer) => {
                self.send_on_to(peer, None, errand).map_err(|refusal| refusal_failure(&refusal, || None))
            }
        }
    }

    fn send_on_over(&mut self, name: ShortChannelId, errand: &Errand<'_>) -> Result<(), Failure> {
        let named = self.state.channel_named(name).ok_or(Failure::UnknownNextPeer)?;
        let entry = self.state.channels.get(&named).ok_or(Failure::UnknownNextPeer)?;
        let peer = entry.peer;
        let passage = self.passage(errand);
        if let Err(refusal) = self.check_passage(&passage, entry) {
            return Err(passage.failure(refusal, self.told_update(named, name)));
        }
        let Err(refusal) = self.send_over(named, errand) else { return Ok(()) };
        self.send_on_to(peer, Some(named), errand)
            .map_err(|_| refusal_failure(&refusal, || self.told_update(named, name)))
    }

    /// BOLT 4, "Non-strict Forwarding": any channel with the peer will do, where its own terms are met; the one that is left
    /// with least is taken first.
    fn send_on_to(
        &mut self,
        peer: NodeId,
        tried: Option<ChannelId>,
        errand: &Errand<'_>,
    ) -> Result<(), channel::Refusal> {
        let passage = self.passage(errand);
        let fits = |(id, other): &(&ChannelId, &ChannelEntry)| {
            Some(**id) != tried
                && other.channel.available_for_htlc() >= passage.outgoing_amount
                && self.check_passage(&passage, other).is_ok()
        };
        let mut others: Vec<_> = self.state.channels_with(peer).filter(fits).collect();
        others.sort_by_key(|(id, other)| (other.channel.available_for_htlc(), **id));
        let others: Vec<ChannelId> = others.into_iter().map(|(id, _)| *id).collect();
        let mut outcome = Err(channel::Refusal::NotConnected);
        for other in others {
            outcome = self.send_over(other, errand);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn passage(&self, errand: &Errand<'_>) -> Passage {
        Passage {
            incoming_amount: errand.offer.amount,
            incoming_expiry: errand.offer.cltv_expiry,
            outgoing_amount: errand.forwarding.amt_to_forward,
            outgoing_expiry: errand.forwarding.outgoing_cltv_value,
            height: self.state.height(),
            fulfil_margin: self.settings.policy.fulfil_margin,
        }
    }

    fn check_passage(&self, passage: &Passage, entry: &ChannelEntry) -> Result<(), PassageRefusal> {
        passage.check_with_grace(&entry.policy, entry.policy_before.as_ref(), self.moment.now)
    }

    fn send_over(&mut self, outgoing: ChannelId, errand: &Errand<'_>) -> Result<(), channel::Refusal> {
        let entry = self.state.channels.get(&outgoing).ok_or(channel::Refusal::Closed)?;
        let next = entry.peer;
        let id = entry.channel.commitments().ok_or(channel::Refusal::NotReady)?.next_outgoing;
        let forwarding = errand.forwarding;
        let bucket = self.room_for(errand.incoming.channel, outgoing, forwarding.amt_to_forward)?;
        let command = Command::AddHtlc {
            amount: forwarding.amt_to_forward,
            payment_hash: errand.offer.payment_hash,
            cltv_expiry: forwarding.outgoing_cltv_value,
            onion: forwarding.onion.clone(),
            path_key: forwarding.path_key,
        };
        self.drive(outgoing, channel::Input::Command(command))?;
        let forward = Forward {
            incoming: errand.incoming,
            outgoing: HtlcPlace { channel: outgoing, id },
            next,
            payment_hash: errand.offer.payment_hash,
            incoming_amount: errand.offer.amount,
            outgoing_amount: forwarding.amt_to_forward,
            incoming_expiry: errand.offer.cltv_expiry,
            outgoing_expiry: forwarding.outgoing_cltv_value,
            return_path: forwarding.return_path.clone(),
            started: self.moment.now,
            status: ForwardStatus::InFlight,
        };
        self.room_taken(&forward, bucket);
        self.change(Change::ForwardAdded(Box::new(forward)));
        Ok(())
    }

    /// The preimage of the outgoing HTLC is known: it goes up at once, before the outgoing one's removal is committed.
    pub(super) fn forward_fulfilled(
        &mut self,
        incoming: HtlcPlace,
        preimage: Preimage,
        attribution_data: Option<&AttributionData>,
    ) {
        let Some(forward) = self.state.forwards.get(&incoming).cloned() else { return };
        let (came, went) = (forward.incoming_amount, forward.outgoing_amount);
        self.room_freed(&forward, true);
        self.change(Change::Moved { channel: forward.outgoing.channel, sent: went, received: Msat::ZERO });
        if forward.status == ForwardStatus::FailedBack {
            self.change(Change::ForwardEnded { incoming, earned: None });
            let lost = format!("the HTLC behind a forward was claimed after ours had to go back: {went} are lost");
            return self.warn(Some(forward.outgoing.channel), lost);
        }
        self.change(Change::Moved { channel: incoming.channel, sent: Msat::ZERO, received: came });
        self.event(EventKind::Forwarded {
            payment_hash: forward.payment_hash,
            incoming: incoming.channel,
            outgoing: forward.outgoing.channel,
            incoming_amount: came,
            outgoing_amount: went,
        });
        self.fulfil_upstream(incoming, preimage, attribution_data);
    }

    /// Shows the preimage to the peer before us, or to the chain; a reorganisation may bring the channel back, so there the
    /// record stays.
    fn fulfil_upstream(&mut self, incoming: HtlcPlace, preimage: Preimage, attribution_data: Option<&AttributionData>) {
        let Some(forward) = self.state.forwards.get(&incoming) else { return };
        let was_counted = matches!(forward.status, ForwardStatus::Fulfilled(_));
        let fee = forward.fee();
        let attribution_data = forward.return_path.fulfil(attribution_data, forward.held(self.moment.now));
        let command = Command::FulfillHtlc { id: incoming.id, preimage, attribution_data };
        if self.drive(incoming.channel, channel::Input::Command(command)).is_ok() {
            let earned = (!was_counted).then_some(fee);
            return self.change(Change::ForwardEnded { incoming, earned });
        }
        if !was_counted {
            self.change(Change::ForwardProgressed { incoming, status: ForwardStatus::Fulfilled(preimage) });
        }
        self.preimage_learned(incoming.channel, preimage);
    }

    /// The outgoing HTLC failed for certain: the failure goes up, wrapped once more.
    pub(super) fn forward_failed(&mut self, incoming: HtlcPlace, failed: OutgoingFailure) {
        let Some(forward) = self.state.forwards.get(&incoming).cloned() else { return };
        let (path, held) = (&forward.return_path, forward.held(self.moment.now));
        let (answer, code) = match failed {
            OutgoingFailure::Failed { reason, attribution_data } => {
                (path.pass_on(&reason, attribution_data.as_ref(), held), None)
            }
            OutgoingFailure::Malformed { sha256_of_onion, failure_code } => {
                (path.pass_on_malformed(failure_code, sha256_of_onion, held), Some(failure_code))
            }
            OutgoingFailure::NeverCommitted => {
                let failure = Failure::TemporaryChannelFailure { update: None };
                (path.fail(&failure, held), Some(failure.code()))
            }
        };
        self.fail_upstream(&forward, answer, code);
    }

    /// The outgoing HTLC timed out on the chain, and that is buried.
    pub(super) fn forward_timed_out(&mut self, incoming: HtlcPlace) {
        let Some(forward) = self.state.forwards.get(&incoming).cloned() else { return };
        let failure = Failure::PermanentChannelFailure;
        let answer = forward.return_path.fail(&failure, forward.held(self.moment.now));
        self.fail_upstream(&forward, answer, Some(failure.code()));
    }

    /// Both HTLCs are over. Where the channel before us is on the chain there is nothing to tell its peer.
    fn fail_upstream(&mut self, forward: &Forward, answer: Answer, code: Option<u16>) {
        self.room_freed(forward, false);
        self.change(Change::ForwardEnded { incoming: forward.incoming, earned: None });
        if forward.status == ForwardStatus::FailedBack {
            return;
        }
        self.event(EventKind::ForwardFailed {
            payment_hash: forward.payment_hash,
            incoming: forward.incoming.channel,
            outgoing: Some(forward.outgoing.channel),
            incoming_amount: forward.incoming_amount,
            code,
        });
        self.answer_htlc(forward.incoming.channel, forward.incoming.id, answer);
    }

    /// What the channel asks, under the name by which the payer meant it (BOLT 4).
    fn told_update(&self, id: ChannelId, name: ShortChannelId) -> Option<Box<ChannelUpdate>> {
        self.update_for_payer(id, name).map(Box::new)
    }
}

/// What a channel's no means for the payer.
fn refusal_failure(refusal: &channel::Refusal, update: impl FnOnce() -> Option<Box<ChannelUpdate>>) -> Failure {
    use channel::Refusal as R;
    match refusal {
        R::Closed | R::Stale => Failure::PermanentChannelFailure,
        R::Closing => Failure::ChannelDisabled { update: update() },
        R::Limit(LimitRefusal::ExpiryIsATime) => Failure::ExpiryTooFar,
        // What another channel or another moment could carry.
        _ => Failure::TemporaryChannelFailure { update: update() },
    }
}
