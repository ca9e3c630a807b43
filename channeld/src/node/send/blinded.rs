//! Payments along blinded paths (BOLT 4, "Route Blinding"): which of the invoice's paths are of use to us, and how the router
//! is told of them.

use super::failure;
use crate::graph::{BlindedTail, Route, RouteHop};
use crate::node::Node;
use crate::node::api::refusal::Refusal;
use crate::onion::NextHop;
use crate::payment::blinded::BlindedPaymentPath;
use crate::payment::send::Payment;
use crate::router::BlindedPath;
use crate::units::{ChannelId, Msat, NodeId};

/// A path in the router's words.
pub fn path_query(path: &BlindedPaymentPath) -> BlindedPath {
    BlindedPath {
        introduction_node: path.path.first_node_id,
        first_path_key: path.path.first_path_key,
        hops: path.path.hops.clone(),
        fee_base_msat: path.terms.fee_base_msat,
        fee_proportional_millionths: path.terms.fee_proportional_millionths,
        cltv_expiry_delta: path.terms.cltv_expiry_delta,
        htlc_minimum: path.terms.htlc_minimum_msat,
        htlc_maximum: path.terms.htlc_maximum_msat,
    }
}

/// The place of the path that a route ends in among the payment's.
pub(super) fn path_of(payment: &Payment, tail: &BlindedTail) -> Option<usize> {
    let is_it = |known: &BlindedPaymentPath| {
        known.path.first_path_key == tail.first_path_key
            && known.path.hops == tail.hops
            && known.is_entered == tail.is_entered
    };
    payment.blinded_paths().iter().position(is_it)
}

impl Node {
    /// The paths that this node can pay along: those that it introduces itself are followed for one hop.
    ///
    /// # Errors
    /// None is left.
    pub(in crate::node) fn blinded_paths_from_here(
        &self,
        paths: &[BlindedPaymentPath],
        payee: NodeId,
    ) -> Result<Vec<BlindedPaymentPath>, Refusal> {
        let ours = self.signer.node_id();
        let from_here = |path: &BlindedPaymentPath| {
            if path.path.first_node_id.0 == ours { self.enter_path(path) } else { Some(path.clone()) }
        };
        let left: Vec<_> = paths.iter().filter_map(from_here).collect();
        if left.is_empty() { Err(Refusal::NoRoute(payee)) } else { Ok(left) }
    }

    fn enter_path(&self, path: &BlindedPaymentPath) -> Option<BlindedPaymentPath> {
        let entered = path.path.enter(|point| self.signer.ecdh_node(point)).ok()?;
        let next = match entered.next {
            NextHop::NodeId(peer) => peer,
            NextHop::ShortChannelId(name) => {
                let channel = self.state.channel_named(name)?;
                self.state.channels.get(&channel)?.peer
            }
        };
        path.behind(entered, next)
    }

    /// The HTLC that a payment along a path of which we are the introduction point begins with, where a channel carries it all.
    ///
    /// # Errors
    /// There is no such path, or nothing carries the amount.
    pub(super) fn entered_route(&self, payment: &Payment, amount: Msat) -> Result<(ChannelId, Route), Refusal> {
        let source = NodeId(self.signer.node_id());
        let excluded = failure::exclusions(payment, source, self.live.started);
        let paths = payment.blinded_paths().iter().enumerate();
        let candidates = paths.filter(|(at, path)| path.is_entered && !failure::is_path_excluded(&excluded, *at));
        let mut refusal = Refusal::NoRoute(payment.destination);
        for (_, path) in candidates {
            match self.route_into(path, payment, amount) {
                Ok(found) => return Ok(found),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    fn route_into(
        &self,
        path: &BlindedPaymentPath,
        payment: &Payment,
        amount: Msat,
    ) -> Result<(ChannelId, Route), Refusal> {
        let no_route = || Refusal::NoRoute(path.path.first_node_id);
        let channel = self.channel_with(path.path.first_node_id, payment.terms.channel)?;
        let terms = &path.terms;
        if amount < terms.htlc_minimum_msat || amount > terms.htlc_maximum_msat {
            return Err(no_route());
        }
        let fee = terms.fee(amount).filter(|fee| *fee <= payment.terms.max_fee.saturating_sub(payment.fee()));
        let sent = fee.and_then(|fee| fee.msat().checked_add(amount.msat())).ok_or_else(no_route)?;
        let cltv_delta = payment.terms.final_cltv_delta;
        let tail = BlindedTail {
            first_path_key: path.path.first_path_key,
            hops: path.path.hops.clone(),
            amount,
            cltv_delta,
            is_entered: true,
        };
        let hop = RouteHop {
            node_id: path.path.first_node_id,
            short_channel_id: self.state.channels.get(&channel).map(super::part::name_of).ok_or_else(no_route)?,
            amount: Msat::new(sent),
            cltv_delta: cltv_delta.saturating_add(u32::from(terms.cltv_expiry_delta.blocks())),
        };
        Ok((channel, Route { hops: vec![hop], blinded_tail: Some(tail) }))
    }
}
