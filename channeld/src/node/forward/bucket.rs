//! Room for forwards, kept beside the state: what is under way, and what the peers before us were like.

use std::collections::BTreeMap;

use crate::channel::Refusal;
use crate::commitment::LimitRefusal;
use crate::node::Node;
use crate::payment::forward::{Forward, ForwardStatus, HtlcPlace};
use crate::payment::jamming::{Bucket, Reputation, Room, Usage};
use crate::units::{ChannelId, Msat, NodeId};

/// What the node remembers while it runs. A restart takes what is under way for general, and forgets who was quick.
#[derive(Default)]
pub(in crate::node) struct Buckets {
    /// By the channel that forwards go out on.
    usage: BTreeMap<ChannelId, Usage>,
    /// Where each forward under way has its room, by its incoming HTLC, and for whom.
    places: BTreeMap<HtlcPlace, (Bucket, NodeId)>,
    /// By the peer that forwards come from.
    reputations: BTreeMap<NodeId, Reputation>,
    /// Forwards that found no room since the start.
    refused: u64,
}

/// How full the buckets are, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardingLoad {
    /// Each channel that forwards go out on, each bucket and what it holds.
    pub buckets: Vec<(ChannelId, Bucket, Room)>,
    /// Forwards under way.
    pub in_flight: u64,
    /// Forwards that found no room since the start.
    pub refused: u64,
    /// Forwards that succeeded, ever.
    pub succeeded: u64,
    /// What they brought, ever.
    pub fees: Msat,
}

impl Node {
    /// Room for a forward from `incoming`'s peer on `outgoing`.
    pub(super) fn room_for(
        &mut self,
        incoming: ChannelId,
        outgoing: ChannelId,
        amount: Msat,
    ) -> Result<Bucket, Refusal> {
        let limits = self.state.channels.get(&outgoing).and_then(|entry| entry.channel.commitments());
        let limits = limits.ok_or(Refusal::NotReady)?.parameters.remote;
        let capacity = Room { slots: u64::from(limits.max_accepted_htlcs), value: limits.max_htlc_value_in_flight };
        let peer = self.state.channels.get(&incoming).map(|entry| entry.peer).ok_or(Refusal::Closed)?;
        let buckets = &self.live.buckets;
        let trusted = buckets.reputations.get(&peer).is_some_and(|it| it.is_trusted());
        let empty = Usage::default();
        let usage = buckets.usage.get(&outgoing).unwrap_or(&empty);
        let found = usage.place(&self.settings.shares, capacity, peer, amount, trusted);
        if found.is_none() {
            self.live.buckets.refused += 1;
        }
        found.ok_or(Refusal::Limit(LimitRefusal::TooManyHtlcs { limit: limits.max_accepted_htlcs }))
    }

    /// A forward is under way.
    pub(super) fn room_taken(&mut self, forward: &Forward, bucket: Bucket) {
        let Some(peer) = self.state.channels.get(&forward.incoming.channel).map(|entry| entry.peer) else { return };
        let buckets = &mut self.live.buckets;
        buckets.usage.entry(forward.outgoing.channel).or_default().add(bucket, peer, forward.outgoing_amount);
        buckets.places.insert(forward.incoming, (bucket, peer));
    }

    /// A forward's outgoing HTLC is decided.
    pub(super) fn room_freed(&mut self, forward: &Forward, paid: bool) {
        let micros = self.moment.now.micros_since(forward.started);
        let buckets = &mut self.live.buckets;
        let Some((bucket, peer)) = buckets.places.remove(&forward.incoming) else { return };
        buckets.reputations.entry(peer).or_default().note(paid, micros);
        if let Some(usage) = buckets.usage.get_mut(&forward.outgoing.channel) {
            usage.remove(bucket, peer, forward.outgoing_amount);
            if usage.is_empty() {
                buckets.usage.remove(&forward.outgoing.channel);
            }
        }
    }

    /// A channel is over, and with it what came on it.
    pub(in crate::node) fn forwards_forgotten(&mut self, incoming: ChannelId) {
        let over: Vec<Forward> = self.state.forwards_from(incoming).cloned().collect();
        over.iter().for_each(|forward| self.room_freed(forward, false));
    }

    /// After a start: what is under way takes room.
    pub(in crate::node) fn start_buckets(&mut self) {
        let under_way = self.state.forwards.values().filter(|it| !matches!(it.status, ForwardStatus::Fulfilled(_)));
        let under_way: Vec<Forward> = under_way.cloned().collect();
        under_way.iter().for_each(|forward| self.room_taken(forward, Bucket::General));
    }

    /// How full the buckets are.
    pub fn forwarding_load(&self) -> ForwardingLoad {
        let of = |(channel, usage): (&ChannelId, &Usage)| {
            let (channel, usage) = (*channel, usage.clone());
            [Bucket::General, Bucket::Congestion, Bucket::Protected].map(|bucket| (channel, bucket, usage.of(bucket)))
        };
        let buckets = &self.live.buckets;
        ForwardingLoad {
            buckets: buckets.usage.iter().flat_map(of).collect(),
            in_flight: buckets.places.len() as u64,
            refused: buckets.refused,
            succeeded: self.state.head.forwarded,
            fees: self.state.head.forwarding_fees,
        }
    }
}
