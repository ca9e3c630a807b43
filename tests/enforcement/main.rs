//! Enforcement (BOLT 5): in which state ever a channel ends on the chain, each side gets exactly what it is promised.
//!
//! Resolvers of `channeld` on the real `chain` and `mempool` rooms of `l1-utxo`, in memory. The matrix plays every combination
//! of channel type, broadcaster, state, HTLC and reorganisation; what each side must end with is worked out in `oracle` from
//! what was agreed and read off the chain, fees included. `CELL=Anchors/Bob/Next cargo test -p tests --test enforcement` plays
//! those cells whose names hold that; `-- --nocapture` says how many are exact and how many there cannot be, and why.
#![allow(clippy::unwrap_used)]

mod cell;
mod contract;
mod ground;
mod oracle;
mod party;
mod play;
mod special;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

use cell::Cell;
use ground::Ground;

/// So many cells share a chain.
const BATCH: usize = 12;

#[test]
fn the_matrix_is_exact() {
    let mut impossible: BTreeMap<&str, usize> = BTreeMap::new();
    let mut cells = Vec::new();
    for cell in cell::all() {
        match cell {
            Ok(cell) => cells.push(cell),
            Err(reason) => *impossible.entry(reason).or_default() += 1,
        }
    }
    let whole = cells.len();
    let chosen = chosen(cells.into_iter().enumerate().collect());
    // What fails is told below, by name.
    std::panic::set_hook(Box::new(|_| {}));
    let failures: Vec<String> = chosen.par_chunks(BATCH).flat_map_iter(play_all).collect();
    drop(std::panic::take_hook());
    let (exact, none) = (chosen.len() - failures.len(), impossible.values().sum::<usize>());
    println!("{exact} of {} cells exact ({whole} in all), {none} impossible:", chosen.len());
    impossible.iter().for_each(|(reason, count)| println!("  {count}: {reason}"));
    failures.iter().take(30).for_each(|failure| eprintln!("{failure}"));
    assert!(failures.is_empty(), "{} cells are not exact", failures.len());
}

/// All cells, or those of a name.
fn chosen(cells: Vec<(usize, Cell)>) -> Vec<(usize, Cell)> {
    let name = std::env::var("CELL").unwrap_or_default();
    cells.into_iter().filter(|(_, cell)| cell.to_string().contains(&name)).collect()
}

/// Plays cells on one chain; what failed, by name.
fn play_all(cells: &[(usize, Cell)]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut ground = Ground::new();
    for (place, cell) in cells {
        let played = catch_unwind(AssertUnwindSafe(|| play::play(cell, &mut ground, *place as u32 + 1)));
        if let Err(panic) = played {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failures.push(format!("{cell}: {}", text.unwrap_or_default()));
            ground = Ground::new();
        }
    }
    failures
}
