//! The law of the chain: for each rule a block that breaks it and nothing else, refused with Core's reason, and its lawful
//! neighbour on the other side of the boundary, accepted. `rule.rs` says what must be left behind by each refusal.
//!
//! Bitcoin Core: the checks of `src/validation.cpp`; their list is part C of the project's peers document.
#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod body;
mod coinbase;
mod connect;
mod header;
mod limit;
mod lock;
mod order;
mod reorg;
mod retarget;
mod rule;
mod script;
mod transaction;
mod witness;
mod world;

use rule::Rule;

/// Every rule that a table holds, in the order in which the rules are checked.
fn rules() -> Vec<&'static Rule> {
    [
        header::RULES,
        body::RULES,
        transaction::RULES,
        lock::RULES,
        coinbase::RULES,
        witness::RULES,
        limit::RULES,
        connect::RULES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn each_rule_is_refused_once_and_its_neighbour_accepted() {
    let rules = rules();
    // All of them, so that one run names every row that fails.
    let failed = rules.iter().filter(|rule| std::panic::catch_unwind(|| rule.judge()).is_err()).count();
    assert_eq!(failed, 0, "of {} rules", rules.len());
}

#[test]
fn every_reason_is_in_a_table() {
    let known: std::collections::BTreeSet<&str> = rules().iter().map(|rule| rule.reason).collect();
    // What no block can break alone is tried elsewhere: the test's name stands beside it.
    let elsewhere = [
        ("duplicate-invalid", "rule::Rule::judge"),
        ("time-timewarp-attack", "retarget"),
        ("too-little-chainwork", "reorg"),
        ("bad-txns-oversize", "transaction"),
        ("bad-txns-inputvalues-outofrange", "connect"),
    ];
    // Every string of the functions that name the reasons: a new one is asked for here by itself.
    let source = include_str!("../../src/consensus/error.rs");
    let named =
        source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => ")?.1.split('"').nth(1));
    let all: Vec<&str> = named.filter(|text| text.contains('-') && !text.contains([' ', '{'])).collect();
    assert!(all.len() > 30, "{all:?}");
    for reason in all {
        assert!(known.contains(reason) || elsewhere.iter().any(|(other, _)| *other == reason), "{reason}");
    }
}
