//! Ways to us for our invoices: over private channels (BOLT 11, `r`), and such that hide who we are (bLIP 39, `b`).

use crate::node::Node;
use crate::node::api::refusal::Refusal;
use crate::node::client::receivable;
use crate::onion::{BlindedPath, PathEnd, PathRelay, PaymentRelay};
use crate::payment::blinded::BlindedPaymentPath;
use crate::payment::invoice::{HintHop, InvoiceTerms};
use crate::units::{ChannelId, Msat, NodeId};
use crate::wire::Feature;

/// More make an invoice long, and hardly more likely to be paid.
const MAX_HINTS: usize = 3;
/// A block is found in ten minutes, so many seconds, on the whole.
const BLOCK_SECONDS: u32 = 600;
/// Blocks for which a blinded path is good at the least: they come unevenly, and on a network of one's own as one likes.
const LEAST_BLOCKS: u32 = 1_008;

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

    /// Blinded paths for an invoice on these terms, each over one peer that knows route blinding: those first that can take the
    /// whole amount. Its expiry bounds for how long they are good.
    ///
    /// # Errors
    /// There is no such peer, or it has not told what it asks.
    pub(in crate::node) fn blinded_paths(&mut self, terms: &InvoiceTerms) -> Result<Vec<BlindedPaymentPath>, Refusal> {
        let mut found: Vec<(Msat, PathRelay)> = self
            .state
            .channels
            .iter()
            .filter(|(_, entry)| entry.channel.is_usable() && self.blinds(entry.peer))
            .filter_map(|(id, _)| Some((self.can_receive(*id), self.relay(*id)?)))
            .collect();
        found.sort_by(|(left, _), (right, _)| right.cmp(left));
        found.truncate(MAX_HINTS);
        let blocks = (terms.expiry_seconds / BLOCK_SECONDS).saturating_mul(2).max(LEAST_BLOCKS);
        let end = PathEnd {
            node_id: NodeId(self.signer.node_id()),
            path_id: terms.payment_secret.to_vec(),
            min_final_cltv_expiry_delta: terms.min_final_cltv_expiry_delta,
            last_height: self.state.height().plus(blocks).height(),
            htlc_minimum_msat: Msat::new(1),
        };
        let mut paths = Vec::with_capacity(found.len());
        for (_, relay) in found {
            let session_key = self.draw_key("invoice/path");
            let made = BlindedPath::to_payee(&[relay], &end, &session_key);
            paths.extend(made.ok().map(|(path, terms)| BlindedPaymentPath::new(path, terms)));
        }
        if paths.is_empty() {
            let description = "no peer with a channel that can be used now forwards along blinded paths".to_owned();
            return Err(Refusal::ChannelNotUsable { description });
        }
        Ok(paths)
    }

    /// Whether a peer that is connected forwards along blinded paths.
    fn blinds(&self, peer: NodeId) -> bool {
        self.live.sessions.get(&peer).is_some_and(|session| session.features.has(Feature::RouteBlinding))
    }

    /// The peer of a channel as the hop before us.
    fn relay(&self, id: ChannelId) -> Option<PathRelay> {
        let hop = self.hint(id)?;
        let update = self.gossip_of(id)?.remote_update.as_ref()?;
        let relay = PaymentRelay {
            cltv_expiry_delta: hop.cltv_expiry_delta,
            fee_proportional_millionths: hop.fee_proportional_millionths,
            fee_base_msat: hop.fee_base_msat,
        };
        Some(PathRelay {
            node_id: hop.node_id,
            short_channel_id: hop.short_channel_id,
            relay,
            htlc_minimum_msat: update.htlc_minimum_msat,
            htlc_maximum_msat: update.htlc_maximum_msat,
        })
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
