//! Which way a payment goes: a search over `graph`'s snapshot, what attempts taught about liquidity, splitting into parts.
//!
//! Knows fees, limits and odds; every route it gives keeps each hop's announced policy to the millisatoshi (BOLT 4, 7).
//! Pure: time comes in, memory between searches belongs to the caller's [`Router`]. Never asks for a channel's true
//! balance, never builds an onion, never decides whether a payment is tried again. No floats: costs are integers.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod exclude;
mod lesson;
mod liquidity;
mod marks;
mod path;
mod price;
mod query;
mod reason;
mod search;
mod split;
mod stage;
#[cfg(test)]
mod tests;
mod told;

use std::sync::Arc;

use crate::graph::{Route, Snapshot};
use crate::units::UnixTime;
use marks::Marks;
use path::Path;
use price::{BIT, Tariff};
use search::Scratch;
use split::{Limits, Outward};
use stage::Stage;

pub use exclude::{ExcludedEdge, WhyNot};
pub use lesson::{Lesson, Verdict};
pub use liquidity::{HALF_LIFE_SECONDS, Liquidity, UnreadableLiquidity};
pub use query::{BlindedPath, Exclusion, FirstHop, InFlight, NoRoute, RouteHint, RouteHintHop, RouteQuery, ToldPolicy};

/// The length of the payload that an invoice's payee gets, with its length and HMAC: amount, expiry, secret, total.
const FINAL_PAYLOAD: u32 = 91;
/// All payloads of an onion (BOLT 4, `hop_payloads`).
const PAYLOADS: u32 = 1_300;
/// The most hops of an onion, so that a payer is not traced by timing more than anybody else.
const MOST_HOPS: u32 = 27;
/// With these odds or better (84 in 100, in bits) one part is not weighed against several.
const ENOUGH_ODDS: u64 = BIT / 4;
/// What a part of an amount costs is asked of one so many times as small.
const SMALL_PARTS: u32 = 8;

/// Finds routes over the newest snapshot. Keeps what it learned and the memory of its searches; one owner.
pub struct Router {
    snapshot: Arc<Snapshot>,
    liquidity: Liquidity,
    marks: Marks,
    outward: Option<Outward>,
    scratch: Scratch,
}

impl Router {
    /// With what is known so far, over a graph that is empty until [`Router::set_snapshot`].
    pub fn new(liquidity: Liquidity) -> Router {
        let snapshot = Arc::new(Snapshot::default());
        let marks = Marks::new(&snapshot, &liquidity);
        Router { snapshot, liquidity, marks, outward: None, scratch: Scratch::default() }
    }

    /// Searches in this one from now on. Costs a walk over all nodes, nothing where it is the same.
    pub fn set_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        if !Arc::ptr_eq(&self.snapshot, snapshot) {
            self.snapshot = Arc::clone(snapshot);
            self.marks = Marks::new(snapshot, &self.liquidity);
            self.outward = None;
        }
    }

    /// What is known about liquidity, to be kept.
    pub fn liquidity(&self) -> &Liquidity {
        &self.liquidity
    }

    /// Learns from attempts.
    pub fn learn(&mut self, lessons: &[Lesson], now: UnixTime) {
        for lesson in lessons {
            self.liquidity.learn(lesson, now);
            if let Lesson::Channel { channel, .. } = lesson {
                self.marks.learned(&self.snapshot, channel.short_channel_id);
            }
        }
    }

    /// The routes of all parts; their amounts sum to the query's, and each keeps all limits and policies.
    ///
    /// # Errors
    /// The first reason that holds.
    pub fn find(&mut self, query: &RouteQuery, now: UnixTime) -> Result<Vec<Route>, NoRoute> {
        let marks = std::mem::take(&mut self.marks);
        let mut stage = Stage::new(&self.snapshot, &self.liquidity, marks, query, now);
        let found = stage.check().and_then(|()| {
            let limits = Limits::of(query, max_hops(query));
            find(&mut stage, &mut self.outward, &mut self.scratch, &limits)
        });
        let routes = found.and_then(|parts| {
            let routes = parts.iter().map(|part| part.route(&stage)).collect::<Option<Vec<Route>>>();
            routes.ok_or(NoRoute::NoPath)
        });
        self.marks = stage.marks;
        self.marks.end_query();
        routes
    }

    /// At most `limit` edges that the query's amount cannot use in one part, and why: own channels first, then from the
    /// payee outwards.
    pub fn explain(&mut self, query: &RouteQuery, now: UnixTime, limit: usize) -> Vec<ExcludedEdge> {
        let marks = std::mem::take(&mut self.marks);
        let stage = Stage::new(&self.snapshot, &self.liquidity, marks, query, now);
        let edges = exclude::explain(&stage, limit);
        self.marks = stage.marks;
        self.marks.end_query();
        edges
    }
}

/// The most HTLCs in a row: as the query wants, and as the onion's payloads leave room for.
fn max_hops(query: &RouteQuery) -> u32 {
    let last = if query.final_payload_length == 0 { FINAL_PAYLOAD } else { query.final_payload_length };
    // Length, amount (its zeros cut), expiry, channel, HMAC; fees may make the amount longer by a byte.
    let amount = (64 - query.amount.msat().leading_zeros()).div_ceil(8) + 1;
    let middle = 1 + (2 + amount.min(8)) + 6 + 10 + 32;
    query.max_hops.min(MOST_HOPS).min(PAYLOADS.saturating_sub(last) / middle + 1)
}

/// One part where its odds are good; else whatever costs less of that and of several parts.
fn find(
    stage: &mut Stage<'_>,
    outward: &mut Option<Outward>,
    scratch: &mut Scratch,
    limits: &Limits,
) -> Result<Vec<Path>, NoRoute> {
    let amount = stage.query.amount.msat();
    let single_ask = limits.ask(amount, amount, limits.max_fee);
    let single = match limits.max_parts {
        1 => search::find(stage, scratch, &single_ask),
        _ => search::find_quickly(stage, scratch, &single_ask),
    };
    if let Some(path) = &single
        && (limits.max_parts == 1 || is_good(stage, scratch, path, limits))
    {
        return Ok(single.into_iter().collect());
    }
    let mut parts = None;
    if limits.max_parts > 1 {
        let snapshot = stage.snapshot;
        let outward = outward.get_or_insert_with(|| Outward::new(snapshot));
        parts = split::by_flow(stage, outward, scratch, amount, limits);
    }

    match (single, parts) {
        (Some(single), Some(parts)) if split::cost(&parts) < single.cost => Ok(parts),
        (Some(single), _) => Ok(vec![single]),
        (None, Some(parts)) => Ok(parts),
        (None, None) => split::one_by_one(stage, scratch, amount, limits)
            .or_else(|found| reason::fallback(stage, scratch, limits, found)),
    }
}

/// Whether several parts cannot be much better: the odds are good, and so many times a small part costs hardly less.
fn is_good(stage: &Stage<'_>, scratch: &mut Scratch, path: &Path, limits: &Limits) -> bool {
    if doubt(stage, path) > ENOUGH_ODDS {
        return false;
    }
    let small = search::find_quickly(
        stage,
        scratch,
        &limits.ask((path.amount / u64::from(SMALL_PARTS)).max(1), path.amount, limits.max_fee),
    );
    let parts = u64::from(SMALL_PARTS);
    small.is_none_or(|small| path.cost <= small.cost.saturating_mul(parts).saturating_add(path.cost / 5))
}

/// How doubtful it is that the whole way carries its amount.
fn doubt(stage: &Stage<'_>, path: &Path) -> u64 {
    let only_doubt = Tariff { fee: 0, hop: 0, bit: BIT, block: 0 };
    stage.walk(&path.way(), path.amount, &only_doubt).map_or(u64::MAX, |path| path.cost)
}
