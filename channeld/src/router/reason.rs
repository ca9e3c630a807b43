//! Why there is no route: the limits are lifted one after the other until there is one.

use super::NoRoute;
use super::path::Path;
use super::price::Tariff;
use super::search::{Ask, Scratch, find, find_quickly};
use super::split::{Limits, one_by_one};
use super::stage::Stage;
use crate::units::Msat;

/// The halvings of an amount that are tried to find out how much gets through.
const MOST_HALVINGS: u32 = 12;

/// The last try, a thorough search in one part; then the reason. `found` is what several parts could carry.
pub fn fallback(
    stage: &mut Stage<'_>,
    scratch: &mut Scratch,
    limits: &Limits,
    found: u64,
) -> Result<Vec<Path>, NoRoute> {
    let amount = stage.query.amount.msat();
    let ask = limits.ask(amount, amount, limits.max_fee);
    if let Some(path) = find(stage, scratch, &ask) {
        return Ok(vec![path]);
    }
    Err(fee(stage, scratch, limits, &ask)
        .or_else(|| lock(stage, scratch, &ask))
        .or_else(|| hops(stage, scratch, &ask))
        .unwrap_or_else(|| too_little(stage, scratch, &ask, found)))
}

fn fee(stage: &mut Stage<'_>, scratch: &mut Scratch, limits: &Limits, ask: &Ask) -> Option<NoRoute> {
    if ask.max_fee == u64::MAX {
        return None;
    }
    let limit = Msat::new(limits.max_fee);
    let free = Ask { max_fee: u64::MAX, tariff: Tariff::FEES, ..*ask };
    if let Some(path) = find(stage, scratch, &free) {
        return Some(NoRoute::FeeAboveLimit { cheapest: Msat::new(path.fee()), limit });
    }
    let parts = one_by_one(stage, scratch, ask.amount, &Limits { max_fee: u64::MAX, ..*limits }).ok()?;
    let cheapest = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.fee()));
    (cheapest > limits.max_fee).then_some(NoRoute::FeeAboveLimit { cheapest: Msat::new(cheapest), limit })
}

fn lock(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask) -> Option<NoRoute> {
    let free = Ask { max_fee: u64::MAX, max_blocks: u32::MAX, tariff: Tariff::BLOCKS, ..*ask };
    let path = find_quickly(stage, scratch, &free)?;
    (path.blocks() > ask.max_blocks)
        .then_some(NoRoute::CltvAboveLimit { shortest: path.blocks(), limit: ask.max_blocks })
}

fn hops(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask) -> Option<NoRoute> {
    let free = Ask { max_fee: u64::MAX, max_blocks: u32::MAX, max_hops: u32::MAX, tariff: Tariff::HOPS, ..*ask };
    let path = find_quickly(stage, scratch, &free)?;
    (path.legs.len() > ask.max_hops as usize).then_some(NoRoute::TooManyHops { limit: ask.max_hops })
}

fn too_little(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask, found: u64) -> NoRoute {
    let mut found = found;
    for halvings in 1..=MOST_HALVINGS {
        let amount = ask.amount >> halvings;
        if amount <= found {
            break;
        }
        if find_quickly(stage, scratch, &Ask { amount, ..*ask }).is_some() {
            found = amount;
        }
    }
    match found {
        0 => NoRoute::NoPath,
        found => NoRoute::TooLittleOnTheWay { found: Msat::new(found), wanted: Msat::new(ask.amount) },
    }
}
