//! What hops told of channels in this payment: it stands in for what the graph says until the graph has taken it up.

use std::collections::BTreeMap;

use super::query::ToldPolicy;
use crate::graph::{ChannelIndex, DirectedChannel, Direction, Edge, Snapshot};

/// The edges of the graph as they were told since.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<DirectedChannel, Edge>);

impl Told {
    /// Of what was told, that which is newer than the snapshot. An edge that the snapshot does not have stays unknown.
    pub fn new(snapshot: &Snapshot, told: &[ToldPolicy]) -> Told {
        Told(told.iter().filter_map(|told| Some((told.channel, edge(snapshot, told)?))).collect())
    }

    /// The places of these edges.
    pub fn places<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (ChannelIndex, Direction)> + 'a {
        let place =
            |channel: &'a DirectedChannel| Some((snapshot.channel_index(channel.short_channel_id)?, channel.direction));
        self.0.keys().filter_map(place)
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edge as it was told.
    pub fn edge(&self, channel: &DirectedChannel) -> Option<&Edge> {
        self.0.get(channel)
    }
}

fn edge(snapshot: &Snapshot, told: &ToldPolicy) -> Option<Edge> {
    let (channel, policy) = (told.channel, &told.policy);
    let index = snapshot.channel_index(channel.short_channel_id)?;
    let known = snapshot.policy(index, channel.direction)?;
    if known.timestamp >= policy.timestamp {
        return None;
    }
    let mut edge = *snapshot.edge(index, channel.direction)?;
    edge.htlc_minimum = policy.htlc_minimum;
    edge.htlc_maximum = policy.htlc_maximum;
    edge.fee_base_msat = policy.fee_base_msat;
    edge.fee_proportional_millionths = policy.fee_proportional_millionths;
    edge.cltv_expiry_delta = policy.cltv_expiry_delta;
    edge.channel_flags = edge.channel_flags & 1 | u8::from(policy.disabled) << 1;
    Some(edge)
}
