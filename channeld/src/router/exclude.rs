//! Why an edge is not used: the same rule that keeps the search from it, said in words for `QueryRoutes`.

use super::marks::BLOCKED;
use super::stage::{Crossing, Stage};
use crate::graph::{DirectedChannel, Direction, Edge};
use crate::units::{Msat, NodeId};

/// The most nodes whose edges are looked at for one explanation.
const MOST_NODES: usize = 2_000;

/// Why an amount does not cross an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// Its node has switched it off.
    #[error("switched off by its node")]
    Disabled,
    /// Its announcement demands a feature that this node does not know.
    #[error("it demands an unknown feature")]
    UnknownFeature,
    /// The amount is below `htlc_minimum_msat`.
    #[error("below the minimum of {minimum}")]
    BelowMinimum {
        /// The least HTLC.
        minimum: Msat,
    },
    /// The amount is above `htlc_maximum_msat`, or above what the channel holds.
    #[error("above the maximum of {maximum}")]
    AboveMaximum {
        /// The greatest HTLC.
        maximum: Msat,
    },
    /// Own HTLCs take what it holds.
    #[error("own HTLCs leave {left} of it")]
    InFlight {
        /// What is left for another.
        left: Msat,
    },
    /// The query excludes it, from this amount on.
    #[error("excluded from {from} on")]
    Excluded {
        /// The least amount that is.
        from: Msat,
    },
    /// The query excludes the node that forwards, or the node demands an unknown feature, or it is this node.
    #[error("its node is excluded")]
    NodeExcluded,
    /// Its fee alone is above the limit.
    #[error("its fee is above the limit")]
    FeeAboveLimit,
    /// Its delay alone is above the limit.
    #[error("its delay is above the limit")]
    CltvAboveLimit,
    /// An attempt has shown that there is less; it is used where nothing else is left.
    #[error("an attempt has shown that it carries {at_most} at most")]
    Liquidity {
        /// What it can carry.
        at_most: Msat,
    },
    /// An own channel has less.
    #[error("this node can send {spendable} over it")]
    TooLittleToSend {
        /// What it has.
        spendable: Msat,
    },
}

/// An edge that no route uses, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExcludedEdge {
    /// Who would send over it.
    pub from: NodeId,
    /// Who would get the HTLC.
    pub to: NodeId,
    /// The channel.
    pub channel: DirectedChannel,
    /// The reason.
    pub why: WhyNot,
}

/// At most `limit` edges that the query's amount cannot use: own channels first, then from the payee outwards.
pub fn explain(stage: &Stage<'_>, limit: usize) -> Vec<ExcludedEdge> {
    let mut found = own_channels(stage, limit);
    let amount = stage.query.amount.msat();
    if stage.goal == u32::MAX {
        return found;
    }
    let mut seen = vec![false; stage.node_bound()];
    let mut waiting = std::collections::VecDeque::from([stage.goal]);
    seen[stage.goal as usize] = true;
    let mut visited = 0;
    while let Some(node) = waiting.pop_front() {
        visited += 1;
        if visited > MOST_NODES || found.len() >= limit {
            break;
        }
        for edge in stage.edges_into(node) {
            if let Some(why) = why_not(stage, edge, amount)
                && found.len() < limit
            {
                found.extend(named(stage, edge, node, why));
            }
            next(edge.source.0, &mut seen, &mut waiting);
        }
        for extra in stage.extra_edges.iter().filter(|extra| extra.target == node) {
            let why = stage.cross_extra(extra, amount).and_then(|crossing| over_limit(stage, &crossing));
            if let (Err(why), Some(channel)) = (why, extra.channel)
                && let (Some(from), Some(to)) = (stage.node_id(extra.source), stage.node_id(node))
                && found.len() < limit
            {
                found.push(ExcludedEdge { from, to, channel, why });
            }
            next(extra.source, &mut seen, &mut waiting);
        }
    }
    found
}

fn next(node: u32, seen: &mut [bool], waiting: &mut std::collections::VecDeque<u32>) {
    if !std::mem::replace(&mut seen[node as usize], true) {
        waiting.push_back(node);
    }
}

fn own_channels(stage: &Stage<'_>, limit: usize) -> Vec<ExcludedEdge> {
    let query = stage.query;
    let too_small = query.first_hops.iter().filter_map(|first| {
        let why = match query.amount {
            amount if amount < first.htlc_minimum => WhyNot::BelowMinimum { minimum: first.htlc_minimum },
            amount if amount > first.spendable => WhyNot::TooLittleToSend { spendable: first.spendable },
            _ => return None,
        };
        let direction = Direction::between(&query.source, &first.peer);
        let channel = DirectedChannel { short_channel_id: first.short_channel_id, direction };
        Some(ExcludedEdge { from: query.source, to: first.peer, channel, why })
    });
    too_small.take(limit).collect()
}

fn why_not(stage: &Stage<'_>, edge: &Edge, amount: u64) -> Option<WhyNot> {
    // Own announced channels are judged as own channels.
    let is_own = stage.marks.node(edge.source.0) & BLOCKED != 0
        && stage.node_id(edge.source.0).is_none_or(|node| node == stage.query.source);
    if is_own {
        return None;
    }
    let crossing = match stage.cross(edge, amount) {
        Ok(crossing) => crossing,
        Err(why) => return Some(why),
    };
    if let Err(why) = over_limit(stage, &crossing) {
        return Some(why);
    }
    let (bounds, used) = stage.belief(edge);
    let at_most = bounds.most.saturating_sub(used);
    (amount > at_most).then_some(WhyNot::Liquidity { at_most: Msat::new(at_most) })
}

fn over_limit(stage: &Stage<'_>, crossing: &Crossing) -> Result<(), WhyNot> {
    if crossing.fee > stage.query.max_fee.msat() {
        return Err(WhyNot::FeeAboveLimit);
    }
    if crossing.blocks.saturating_add(stage.query.final_cltv_delta) > stage.query.max_cltv_delta {
        return Err(WhyNot::CltvAboveLimit);
    }
    Ok(())
}

fn named(stage: &Stage<'_>, edge: &Edge, to: u32, why: WhyNot) -> Option<ExcludedEdge> {
    let (from, to) = (stage.node_id(edge.source.0)?, stage.node_id(to)?);
    Some(ExcludedEdge { from, to, channel: stage.channel_of(edge), why })
}
