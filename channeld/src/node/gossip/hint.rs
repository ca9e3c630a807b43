//! Ways to us over private channels, for our invoices (BOLT 11, `r`).

use crate::node::Node;
use crate::node::client::receivable;
use crate::payment::invoice::HintHop;
use crate::units::{ChannelId, Msat};

/// More make an invoice long, and hardly more likely to be paid.
const MAX_HINTS: usize = 3;

impl Node {
    /// Hints for an invoice of that amount: private channels whose peer told us what it asks, by the name that the peer knows;
    /// those that can take the whole amount first, the largest of them first. None where a public channel can take it: payers find
    /// that one by themselves.
    pub(in crate::node) fn route_hints(&self, amount: Option<Msat>) -> Vec<Vec<HintHop>> {
        let least = amount.unwrap_or(Msat::new(1));
        let public =
            self.state.channels.iter().any(|(id, entry)| {
                self.is_announced(*id) && entry.channel.is_usable() && self.can_receive(*id) >= least
            });
        if public {
            return Vec::new();
        }
        let mut found: Vec<(Msat, HintHop)> = self
            .state
            .channels
            .iter()
            .filter(|(id, entry)| entry.channel.is_usable() && !self.is_announced(**id))
            .filter_map(|(id, _)| Some((self.can_receive(*id), self.hint(*id)?)))
            .collect();
        // Most first: then come those that can take the amount, and after them what may take a part of it.
        found.sort_by(|(left, _), (right, _)| right.cmp(left));
        found.truncate(MAX_HINTS);
        found.into_iter().map(|(_, hop)| vec![hop]).collect()
    }

    fn hint(&self, id: ChannelId) -> Option<HintHop> {
        let entry = self.state.channels.get(&id)?;
        let update = self.gossip_of(id)?.remote_update.as_ref()?;
        let real = entry.place().filter(|_| !entry.channel.is_alias_only);
        // BOLT 2: an alias that the peer gave us is what it takes in an onion, and says nothing about the chain.
        let name = entry.channel.funded()?.remote_alias.or(real)?;
        (!update.is_disabled()).then_some(HintHop {
            node_id: entry.peer,
            short_channel_id: name,
            fee_base_msat: update.fee_base_msat,
            fee_proportional_millionths: update.fee_proportional_millionths,
            cltv_expiry_delta: update.cltv_expiry_delta,
        })
    }

    /// What the peer could send us over the channel now, roughly: its balance without its reserve.
    fn can_receive(&self, id: ChannelId) -> Msat {
        let commitments = self.state.channels.get(&id).and_then(|entry| entry.channel.commitments());
        commitments.map_or(Msat::ZERO, receivable)
    }
}
