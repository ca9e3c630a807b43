//! Whole daemons in one thread, from one seed: nodes in pairs, lines and rings, their disks, wires and a chain, and chance.
//!
//! Knows how to make a world, to let a seed play in it, and to say what must hold after every step and at the end. What
//! happens follows from the seed alone, so a failure replays: `cargo run --release -p tests --bin simulate -- --seed N`.
//! It reads no clock, draws no randomness and opens no file; a broken rule is a panic that says which.

pub mod chain;
mod checker;
pub mod client;
pub mod disk;
pub mod ledger;
pub mod link;
mod network;
pub mod party;
pub mod restore;
mod route;
mod schedule;
pub mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bitcoin::{Address, Block, ScriptBuf};
use channeld::node::command::Command;
use channeld::node::input::{Effect, Input, Moment, RequestNumber};
use channeld::node::reply::Reply;
use channeld::units::UnixTime;

use party::{Party, block_input};
use schedule::Mood;
use world::World;

/// When the blocks before all worlds were made, in seconds since 1970.
const FOUNDING: u64 = 1_699_900_000;

/// Who is in the largest world.
const NAMES: [&str; 4] = ["Alice", "Bob", "Carol", "Dave"];

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The same for the same seed.
    pub digest: u64,
    /// Steps taken.
    pub steps: u64,
    /// What happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Plays one seed to its end; with `loud`, every step is a line on stderr.
///
/// # Panics
/// Where a rule is broken.
pub fn run(seed: u64, loud: bool) -> Summary {
    run_in(Shape::Pair, seed, loud)
}

/// The same in a world of some shape.
///
/// # Panics
/// Where a rule is broken.
pub fn run_in(shape: Shape, seed: u64, loud: bool) -> Summary {
    let origin = origin();
    let parties = origin.parties.iter().take(shape.parties()).map(Party::copy).collect();
    let mut world = World::new(parties, &shape.edges(), &origin.blocks, seed, loud);
    world.absent = origin.scripts.iter().skip(shape.parties()).cloned().collect();
    for who in world.everybody() {
        let head = &world.parties[who].durable.head;
        world.ledger.begin(who, head.events);
        world.start(who);
    }
    let mut mood = Mood::draw(&mut world);
    match shape {
        Shape::Pair => world.play(&mut mood),
        Shape::Line(_) | Shape::Ring(_) => world.play_network(&mut mood),
    }
    if mood.restores && shape == Shape::Pair && world.has_copy() {
        world.play_restored();
    } else {
        world.settle();
        world.check_end();
    }
    Summary { digest: world.digest(), steps: world.steps, counts: std::mem::take(&mut world.ledger.counts) }
}

/// How the daemons of a world are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two.
    Pair,
    /// So many in a row.
    Line(usize),
    /// So many in a circle.
    Ring(usize),
}

impl Shape {
    /// The network that a seed plays in, where one is asked for.
    pub const fn network(seed: u64) -> Shape {
        match seed % 16 {
            0 => Shape::Ring(4),
            8 => Shape::Line(4),
            odd if odd % 2 == 1 => Shape::Line(3),
            _ => Shape::Ring(3),
        }
    }

    const fn parties(self) -> usize {
        match self {
            Shape::Pair => 2,
            Shape::Line(count) | Shape::Ring(count) => count,
        }
    }

    fn edges(self) -> Vec<(usize, usize)> {
        let mut edges: Vec<_> = (1..self.parties()).map(|who| (who - 1, who)).collect();
        if let Shape::Ring(count) = self {
            edges.push((0, count - 1));
        }
        edges
    }
}

/// The daemons with coins in their wallets, on a chain in which these are mature: the same for all seeds.
struct Origin {
    parties: Vec<Party>,
    /// Where each one's first coins are.
    scripts: Vec<Vec<ScriptBuf>>,
    blocks: Vec<Arc<Block>>,
}

fn origin() -> &'static Origin {
    static ORIGIN: OnceLock<Origin> = OnceLock::new();
    ORIGIN.get_or_init(make_origin)
}

fn make_origin() -> Origin {
    let mut parties: Vec<Party> = (1..).zip(NAMES).map(|(seed, name)| Party::new(name, seed)).collect();
    let mut chain = chain::World::new(&[], FOUNDING);
    let mut scripts = Vec::new();
    for party in &mut parties {
        party.start(moment(0), false);
        party.flush();
        let own: Vec<ScriptBuf> = (0..3).map(|_| address(party).script_pubkey()).collect();
        own.iter().for_each(|script| chain.mine(Some(script), false, FOUNDING));
        scripts.push(own);
    }
    for _ in 0..100 {
        chain.mine(None, false, FOUNDING);
    }
    let blocks = chain.blocks();
    for party in &mut parties {
        for (height, block) in (1..).zip(&blocks) {
            party.handle(block_input(height, Arc::clone(block)), moment(u64::from(height)));
        }
        party.close_turn(moment(1_000), true);
        party.flush();
        party.close_turn(moment(1_001), true);
        party.flush();
    }
    Origin { parties, scripts, blocks }
}

fn address(party: &mut Party) -> Address {
    party.handle(Input::Command { request: RequestNumber(1), key: None, command: Command::CreateAddress }, moment(1));
    party.close_turn(moment(2), false);
    let effects = party.flush().effects;
    let text = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply { answer: Ok(Reply::Address(text)), .. } => Some(text),
        _ => None,
    });
    let address: Address<_> = text.and_then(|text| text.parse().ok()).expect("an address is answered");
    address.assume_checked()
}

fn moment(second: u64) -> Moment {
    Moment { now: UnixTime::from_seconds(FOUNDING + second), entropy: [7; 32] }
}
