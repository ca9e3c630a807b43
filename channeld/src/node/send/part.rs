//! One part of a payment: which channel of ours carries it, what is asked of the router, and the HTLC that goes out.

use std::collections::BTreeSet;

use secp256k1::SecretKey;

use super::blinded::{path_of, path_query};
use crate::channel::{self, Command};
use crate::graph::{BlindedTail, Route, RouteHop};
use crate::node::Node;
use crate::node::api::refusal::Refusal;
use crate::node::client::channel_refusal;
use crate::node::state::ChannelEntry;
use crate::node::state::change::Change;
use crate::payment::blinded::BlindedPaymentPath;
use crate::payment::invoice::HintHop;
use crate::payment::parcel::Parcel;
use crate::payment::send::{Attempt, AttemptStatus, Payment};
use crate::router::{Exclusion, FirstHop, InFlight, RouteHint, RouteHintHop, RouteQuery};
use crate::units::{ChannelId, Msat, NodeId, PaymentHash, ShortChannelId};

/// HTLCs under way that a search is told of; they take liquidity on channels that are not ours.
const MAX_TOLD_IN_FLIGHT: usize = 1_000;
/// The most HTLCs in a row: what others allow as well.
const MAX_HOPS: u32 = 20;

/// What the router must not do. A breach is a fault of ours, and no money leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RouteFault {
    #[error("no route, or one without hops")]
    Empty,
    #[error("a route ends in a blinded path that is not the payee's, or with less than it takes")]
    OtherPath,
    #[error("a route ends at another node")]
    OtherPayee,
    #[error("a route begins with a channel that is not ours, or not the one asked for")]
    OtherChannel,
    #[error("a part of nothing")]
    Nothing,
    #[error("a hop would send on more than it gets, or longer")]
    Rising,
    #[error("less time is left at the payee than it wants")]
    TooSoon,
    #[error("an HTLC would last longer than allowed")]
    TooLong,
    #[error("more parts than allowed")]
    TooManyParts,
    #[error("the parts come to more than is left to send")]
    TooMuch,
    #[error("the parts cost more than allowed")]
    TooDear,
}

impl Node {
    /// Our channels that can carry something now, as the router sees them.
    pub(in crate::node) fn first_hops(
        &self,
        wanted: Option<ChannelId>,
        refused: &BTreeSet<ChannelId>,
    ) -> Vec<FirstHop> {
        let candidates = self.state.channels.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id));
        let hops = candidates.filter(|(id, _)| !refused.contains(id)).filter_map(|(id, entry)| {
            // While a connection goes, its channels are told one after the other.
            let is_connected = self.live.sessions.contains_key(&entry.peer);
            let commitments = entry.channel.commitments().filter(|_| is_connected && entry.channel.is_usable())?;
            let spendable = commitments.available_for_htlc();
            (spendable > Msat::ZERO).then(|| FirstHop {
                short_channel_id: name_of(entry),
                channel: *id,
                peer: entry.peer,
                spendable,
                htlc_minimum: commitments.parameters.remote.htlc_minimum,
            })
        });
        hops.collect()
    }

    /// The question for what is left of a payment; `None` where our channels have less than that now.
    pub(super) fn route_query(
        &self,
        hash: PaymentHash,
        amount: Msat,
        refused: &BTreeSet<ChannelId>,
    ) -> Option<RouteQuery> {
        let payment = self.state.payments.get(&hash)?;
        let terms = &payment.terms;
        let source = NodeId(self.signer.node_id());
        let mut query = RouteQuery::new(source, payment.destination, amount, self.first_hops(terms.channel, refused));
        let under_way = u32::try_from(payment.pending().count()).unwrap_or(u32::MAX);
        query.max_parts = terms.max_parts.saturating_sub(under_way).max(1);
        if amount > reach(&query.first_hops, query.max_parts) {
            return None;
        }
        query.final_cltv_delta = terms.final_cltv_delta.saturating_add(terms.shadow).min(terms.max_cltv_delta);
        query.hints = terms.hints.iter().map(|hops| RouteHint { hops: hops.iter().map(hint_hop).collect() }).collect();
        query.max_fee = terms.max_fee.saturating_sub(payment.fee());
        query.max_cltv_delta = terms.max_cltv_delta;
        query.max_hops = MAX_HOPS;
        let paths = payment.blinded_paths();
        query.blinded = paths.iter().map(path_query).collect();
        let tails = paths.iter().map(BlindedPaymentPath::payload_length).max();
        query.final_payload_length = tails.unwrap_or_else(|| terms.proof.payload_length());
        query.exclusions = super::failure::exclusions(payment, source, self.live.started);
        // What we introduce ourselves is for no router: it begins inside.
        let entered = paths.iter().enumerate().filter(|(_, path)| path.is_entered);
        query.exclusions.extend(entered.map(|(at, _)| Exclusion::BlindedPath(at as u32)));
        query.in_flight = self.in_flight(source);
        Some(query)
    }

    /// HTLCs of ours behind our peers.
    fn in_flight(&self, source: NodeId) -> Vec<InFlight> {
        let pending = self.state.payments.values().flat_map(Payment::pending);
        let beyond = pending.flat_map(|part| part.route.channels(source).skip(1));
        beyond.map(|(channel, amount)| InFlight { channel, amount }).take(MAX_TOLD_IN_FLIGHT).collect()
    }

    pub(super) fn check_routes(&self, hash: PaymentHash, routes: &[Route]) -> Result<(), RouteFault> {
        let Some(payment) = self.state.payments.get(&hash) else { return Err(RouteFault::Empty) };
        if routes.is_empty() {
            return Err(RouteFault::Empty);
        }
        routes.iter().try_for_each(|route| self.check_route(payment, route))?;
        let sum = |of: fn(&Route) -> Msat| Msat::checked_sum(routes.iter().map(of)).ok_or(RouteFault::TooMuch);
        if payment.pending().count() + routes.len() > payment.terms.max_parts as usize {
            return Err(RouteFault::TooManyParts);
        }
        if sum(Route::amount)? > payment.remaining() {
            return Err(RouteFault::TooMuch);
        }
        if sum(Route::fee)? > payment.terms.max_fee.saturating_sub(payment.fee()) {
            return Err(RouteFault::TooDear);
        }
        Ok(())
    }

    fn check_route(&self, payment: &Payment, route: &Route) -> Result<(), RouteFault> {
        let (Some(first), Some(last)) = (route.hops.first(), route.hops.last()) else { return Err(RouteFault::Empty) };
        match &route.blinded_tail {
            Some(tail) => check_tail(payment, last, tail)?,
            None if last.node_id != payment.destination || !payment.blinded_paths().is_empty() => {
                return Err(RouteFault::OtherPayee);
            }
            None => {}
        }
        let channel = self.state.own_channel_named(first.node_id, first.short_channel_id);
        if channel.is_none() || payment.terms.channel.is_some_and(|wanted| channel != Some(wanted)) {
            return Err(RouteFault::OtherChannel);
        }
        if route.amount() == Msat::ZERO {
            return Err(RouteFault::Nothing);
        }
        let falls = |pair: &[RouteHop]| pair[0].amount >= pair[1].amount && pair[0].cltv_delta >= pair[1].cltv_delta;
        if !route.hops.windows(2).all(falls) {
            return Err(RouteFault::Rising);
        }
        if last.cltv_delta < payment.terms.final_cltv_delta {
            return Err(RouteFault::TooSoon);
        }
        if first.cltv_delta > payment.terms.max_cltv_delta {
            return Err(RouteFault::TooLong);
        }
        Ok(())
    }

    /// Sends `amount` of a payment over a channel with the payee, in one HTLC.
    pub(super) fn send_to_peer(&mut self, hash: PaymentHash, amount: Msat) -> Result<(), Refusal> {
        let payment = self.state.payments.get(&hash).ok_or(Refusal::PaymentNotFound)?;
        let (channel, route) = self.direct_part(payment, amount)?;
        let attempt = self.begin_part(channel, &payment.clone(), route)?;
        self.change(Change::PaymentAttempted { payment_hash: hash, attempt });
        Ok(())
    }

    /// Sends one part along a route that was checked. Where our channel refuses it, it is not taken again for now.
    pub(super) fn send_part(&mut self, payment_hash: PaymentHash, route: Route) {
        let Some(payment) = self.state.payments.get(&payment_hash).cloned() else { return };
        let Some(first) = route.hops.first() else { return };
        let Some(channel) = self.state.own_channel_named(first.node_id, first.short_channel_id) else { return };
        match self.begin_part(channel, &payment, route) {
            Ok(attempt) => self.change(Change::PaymentAttempted { payment_hash, attempt }),
            Err(refusal) => {
                tracing::debug!(payment = %payment_hash, %channel, %refusal, "a part was refused by our own channel");
                // One that was lost while the way was searched is no first hop before it is back; then it is a good one.
                let is_usable = self.state.channels.get(&channel).is_some_and(|entry| entry.channel.is_usable());
                if let Some(search) = self.live.searches.get_mut(&payment_hash).filter(|_| is_usable) {
                    search.refused.insert(channel);
                }
            }
        }
    }

    /// Adds the HTLC of a part. Who calls records the attempt in the same turn.
    pub(in crate::node) fn begin_part(
        &mut self,
        channel: ChannelId,
        payment: &Payment,
        route: Route,
    ) -> Result<Attempt, Refusal> {
        let (command, attempt) = self.prepare_part(channel, payment, route)?;
        self.drive(channel, command).map_err(channel_refusal)?;
        Ok(attempt)
    }

    /// Whether the channel would take the part.
    pub(in crate::node) fn check_part(
        &mut self,
        channel: ChannelId,
        payment: &Payment,
        route: Route,
    ) -> Result<(), Refusal> {
        let (command, _) = self.prepare_part(channel, payment, route)?;
        let entry = self.state.channels.get(&channel).ok_or(Refusal::ChannelNotFound(channel))?;
        match entry.channel.decide(command, &self.context()) {
            Err(channel::Error::Refused(refusal)) => Err(channel_refusal(refusal)),
            _ => Ok(()),
        }
    }

    fn prepare_part(
        &mut self,
        channel: ChannelId,
        payment: &Payment,
        route: Route,
    ) -> Result<(channel::Input, Attempt), Refusal> {
        let session_key = self.draw_key("payment/session_key");
        let height = self.state.height();
        let proof = &payment.terms.proof;
        let parcel = Parcel::pack(&route, height, payment.payment_hash, payment.amount, proof, &session_key)
            .map_err(|error| Refusal::InvalidPaymentRequest { description: error.to_string() })?;
        let entry = self.state.channels.get(&channel).ok_or(Refusal::ChannelNotFound(channel))?;
        let htlc_id = entry.channel.commitments().ok_or(Refusal::ChannelNotFound(channel))?.next_outgoing;
        let attempt = Attempt {
            channel,
            htlc_id,
            started: self.moment.now,
            deadline_height: parcel.cltv_expiry.height().saturating_add(self.settings.burial),
            secrets: parcel.secrets,
            route,
            status: AttemptStatus::Pending,
            hold_times: Vec::new(),
        };
        let command = Command::AddHtlc {
            amount: parcel.amount,
            payment_hash: parcel.payment_hash,
            cltv_expiry: parcel.cltv_expiry,
            onion: parcel.onion,
            path_key: parcel.path_key,
        };
        Ok((channel::Input::Command(command), attempt))
    }

    /// The part that needs no search: over a channel with the payee, or into a blinded path that we introduce.
    ///
    /// # Errors
    /// There is no such channel or path, or none that can be used now.
    pub(in crate::node) fn direct_part(&self, payment: &Payment, amount: Msat) -> Result<(ChannelId, Route), Refusal> {
        if !payment.blinded_paths().is_empty() {
            return self.entered_route(payment, amount);
        }
        let channel = self.channel_with(payment.destination, payment.terms.channel)?;
        let entry = self.state.channels.get(&channel).ok_or(Refusal::ChannelNotFound(channel))?;
        let cltv_delta = payment.terms.final_cltv_delta;
        let hop = RouteHop { node_id: entry.peer, short_channel_id: name_of(entry), amount, cltv_delta };
        Ok((channel, Route { hops: vec![hop], blinded_tail: None }))
    }

    /// The channel asked for, or of those with the peer the one that can send the most.
    pub(super) fn channel_with(&self, peer: NodeId, wanted: Option<ChannelId>) -> Result<ChannelId, Refusal> {
        if let Some(id) = wanted {
            let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
            return if entry.peer == peer { Ok(id) } else { Err(Refusal::NoRoute(peer)) };
        }
        let mut all = self.state.channels_with(peer).peekable();
        if all.peek().is_none() {
            return Err(Refusal::NoRoute(peer));
        }
        if !self.live.sessions.contains_key(&peer) {
            return Err(Refusal::PeerOffline(peer));
        }
        let usable = all.filter(|(_, entry)| entry.channel.is_usable());
        usable
            .max_by_key(|(_, entry)| entry.channel.available_for_htlc())
            .map(|(id, _)| *id)
            .ok_or_else(|| Refusal::ChannelNotUsable { description: "the channel is not open for payments".to_owned() })
    }

    pub(in crate::node) fn draw_key(&mut self, label: &str) -> SecretKey {
        loop {
            // A hash that is no private key is a 2^-127 chance.
            if let Ok(key) = SecretKey::from_slice(&self.draw(label)) {
                return key;
            }
        }
    }
}

/// The name of a channel of ours in routes: its place on the chain, or our alias for it.
pub(super) fn name_of(entry: &ChannelEntry) -> ShortChannelId {
    entry.channel.funded().and_then(|funded| funded.short_channel_id).unwrap_or(entry.channel.alias)
}

/// Whether what enters a blinded path is all that the path takes and asks for.
fn check_tail(payment: &Payment, last: &RouteHop, tail: &BlindedTail) -> Result<(), RouteFault> {
    let at = path_of(payment, tail).ok_or(RouteFault::OtherPath)?;
    let path = payment.blinded_paths().get(at).ok_or(RouteFault::OtherPath)?;
    let terms = &path.terms;
    let is_within = tail.amount >= terms.htlc_minimum_msat && tail.amount <= terms.htlc_maximum_msat;
    let needed = terms.fee(tail.amount).and_then(|fee| fee.msat().checked_add(tail.amount.msat()));
    let is_paid = needed.is_some_and(|needed| last.amount.msat() >= needed);
    let blocks = tail.cltv_delta.saturating_add(u32::from(terms.cltv_expiry_delta.blocks()));
    if tail.is_entered || last.node_id != path.path.first_node_id || !is_within || !is_paid {
        return Err(RouteFault::OtherPath);
    }
    if tail.cltv_delta < payment.terms.final_cltv_delta || last.cltv_delta < blocks {
        return Err(RouteFault::TooSoon);
    }
    Ok(())
}

/// The most that can leave in so many parts.
pub(in crate::node) fn reach(hops: &[FirstHop], max_parts: u32) -> Msat {
    let each = hops.iter().map(|hop| hop.spendable);
    match max_parts {
        0 | 1 => each.max().unwrap_or(Msat::ZERO),
        _ => Msat::checked_sum(each).unwrap_or(Msat::new(u64::MAX)),
    }
}

fn hint_hop(hop: &HintHop) -> RouteHintHop {
    RouteHintHop {
        node_id: hop.node_id,
        short_channel_id: hop.short_channel_id,
        fee_base_msat: hop.fee_base_msat,
        fee_proportional_millionths: hop.fee_proportional_millionths,
        cltv_expiry_delta: hop.cltv_expiry_delta,
    }
}
