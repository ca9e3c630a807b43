//! Daemons, wires and a chain in one thread: what can happen next, and what follows from it.

use std::collections::BTreeSet;
use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bitcoin::Block;
use channeld::node::input::{ChainState, Effect, Input, Moment};
use channeld::node::reply::{FaultDone, Reply};
use channeld::node::state::ChannelEntry;
use channeld::units::{BlockHeight, ChannelId, FeeratePerKw, NodeId, UnixTime};
use channeld::wire::Features;
use rand::prelude::*;
use rand_chacha::ChaCha12Rng;

use super::chain::{self, Step};
use super::client::Clients;
use super::disk::Loss;
use super::ledger::Ledger;
use super::link::{Arrival, Link};
use super::party::{Outcome, Party, block_input};
use super::route::Question;

/// The time at which every world begins, in seconds since 1970.
const BEGINNING: u64 = 1_700_000_000;
/// Steps in which whatever is under way must be over.
const PATIENCE: usize = 20_000;

/// See the file's map.
pub struct World {
    /// The daemons.
    pub parties: Vec<Party>,
    /// The wires between them.
    pub links: Vec<Link>,
    /// Questions for routes that are not answered.
    pub questions: Vec<Question>,
    /// The chain.
    pub chain: chain::World,
    /// What an outsider wrote down.
    pub ledger: Ledger,
    /// Whoever asks.
    pub clients: Clients,
    /// Feerates for 1, 6 and 144 blocks.
    pub feerates: [u32; 3],
    /// All chance.
    pub rng: ChaCha12Rng,
    /// Whether broadcasts are lost and records wait for their flush: off while everything heals.
    pub rough: bool,
    /// Where the coins of daemons are that are not in this world.
    pub absent: Vec<Vec<bitcoin::ScriptBuf>>,
    /// An old copy of a disk.
    pub copy: super::restore::Copied,
    /// Who lets HTLCs of which channels go unanswered.
    pub held: Vec<(usize, ChannelId)>,
    /// Who does not tell the truth.
    pub liar: Option<usize>,
    now: u64,
    loud: bool,
    digest: DefaultHasher,
    /// Steps taken.
    pub steps: u64,
}

impl World {
    /// A world of these daemons, which are off, on this chain.
    pub fn new(parties: Vec<Party>, edges: &[(usize, usize)], blocks: &[Arc<Block>], seed: u64, loud: bool) -> World {
        let ledger = Ledger::new(parties.iter().map(|party| party.id).collect());
        World {
            parties,
            links: edges.iter().map(|(one, other)| Link::between(*one, *other)).collect(),
            questions: Vec::new(),
            chain: chain::World::new(blocks, BEGINNING),
            ledger,
            clients: Clients::default(),
            feerates: [2_000, 1_000, 500],
            rng: ChaCha12Rng::seed_from_u64(seed),
            rough: true,
            absent: Vec::new(),
            copy: None,
            held: Vec::new(),
            liar: None,
            now: BEGINNING * 1_000_000,
            loud,
            digest: DefaultHasher::new(),
            steps: 0,
        }
    }

    /// All daemons.
    pub fn everybody(&self) -> std::ops::Range<usize> {
        0..self.parties.len()
    }

    /// Whether there are more than two.
    pub fn is_network(&self) -> bool {
        self.parties.len() > 2
    }

    /// Who has a wire to `who`.
    pub fn neighbours(&self, who: usize) -> Vec<usize> {
        self.links.iter().filter_map(|link| Some(link.ends[1 - link.end_of(who)?])).collect()
    }

    /// The wire of `who` to `peer`, and the end at which `who` is.
    fn wire(&self, who: usize, peer: &NodeId) -> Option<(usize, usize)> {
        self.links.iter().enumerate().find_map(|(wire, link)| {
            let end = link.end_of(who)?;
            (self.parties[link.ends[1 - end]].id == *peer).then_some((wire, end))
        })
    }

    /// Writes a line of the trace.
    pub fn say(&mut self, line: Arguments<'_>) {
        let line = line.to_string();
        self.digest.write(line.as_bytes());
        if self.loud {
            eprintln!("{:>9.3} {line}", (self.now - BEGINNING * 1_000_000) as f64 / 1e6);
        }
    }

    /// A digest of all that happened: the same for the same seed.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The clock in seconds since 1970.
    pub const fn seconds(&self) -> u64 {
        self.now / 1_000_000
    }

    /// Lets time pass.
    pub const fn wait(&mut self, micros: u64) {
        self.now += micros;
    }

    /// What comes with an input.
    pub fn moment(&mut self) -> Moment {
        self.now += self.rng.random_range(1..2_000);
        Moment { now: UnixTime::new(self.now), entropy: self.rng.random() }
    }

    /// A chance of one in `n`.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    /// Switches a daemon on.
    pub fn start(&mut self, who: usize) {
        let moment = self.moment();
        let checkpoint = self.one_in(4);
        let name = self.parties[who].name;
        self.say(format_args!("{name} starts"));
        let outcome = self.parties[who].start(moment, checkpoint);
        self.carry_out(who, outcome);
        self.tell_chain(who);
    }

    /// Kills a daemon.
    pub fn crash(&mut self, who: usize) {
        let how = *[Loss::Nothing, Loss::Torn, Loss::Whole].choose(&mut self.rng).expect("three ways");
        let flushing = self.parties[who].is_flushing();
        let name = self.parties[who].name;
        self.say(format_args!("{name} crashes; its flush ({flushing}): {how:?}"));
        self.ledger.count("crashes");
        let cut = self.rng.random_range(0..100_000);
        let stored = self.parties[who].crash(how, cut);
        self.stored(who, stored);
        for wire in 0..self.links.len() {
            if let Some(end) = self.links[wire].end_of(who) {
                let arriving = self.rng.random_range(0..4);
                self.links[wire].crash(end, arriving);
            }
        }
        self.questions.retain(|question| question.who != who);
        self.clients.crashed(who);
    }

    fn stored(&mut self, who: usize, turns: Vec<super::disk::Turn>) {
        for turn in turns {
            self.ledger.stored(who, &turn, &self.parties[who].durable);
        }
    }

    /// Hands an input to a daemon that runs; its turn closes if the store is free.
    pub fn input(&mut self, who: usize, input: Input) {
        let moment = self.moment();
        self.parties[who].handle(input, moment);
        // The driver takes in what there is before it closes a turn.
        if !(self.rough && self.one_in(4)) {
            self.close_turn(who);
        }
    }

    fn close_turn(&mut self, who: usize) {
        let moment = self.moment();
        let checkpoint = self.one_in(12);
        let outcome = self.parties[who].close_turn(moment, checkpoint);
        self.carry_out(who, outcome);
    }

    /// The record in flight reaches the disk.
    pub fn flush(&mut self, who: usize) {
        let outcome = self.parties[who].flush();
        self.carry_out(who, outcome);
        self.close_turn(who);
    }

    fn carry_out(&mut self, who: usize, outcome: Outcome) {
        self.stored(who, outcome.stored);
        if outcome.effects.iter().any(is_replay) {
            for effect in &outcome.effects {
                if let Effect::Broadcast(package) = effect {
                    self.ledger.replayed(who, &self.parties[who].durable, package);
                }
            }
        }
        for effect in outcome.effects {
            self.ledger.released(who, &self.parties[who], &effect);
            self.carry_out_one(who, effect);
        }
    }

    fn carry_out_one(&mut self, who: usize, effect: Effect) {
        let name = self.parties[who].name;
        match effect {
            Effect::Send { peer, session, mut message } => {
                let Some((wire, end)) = self.wire(who, &peer) else { return };
                self.lie(who, &mut message);
                self.say(format_args!("{name} sends {}", brief(&message)));
                self.links[wire].send(end, session, &message);
            }
            Effect::Disconnect { peer, session } => {
                let Some((wire, end)) = self.wire(who, &peer) else { return };
                if self.links[wire].is_present(end, session) {
                    self.say(format_args!("{name} disconnects"));
                    self.links[wire].cut([usize::MAX, usize::MAX]);
                }
            }
            Effect::FindRoute { payment_hash, attempt, query } => {
                self.questions.push(Question { who, payment_hash, attempt, query });
            }
            Effect::Reply { request, answer, last } => {
                match &answer {
                    Ok(reply) => self.say(format_args!("{name} answers {}", brief(reply))),
                    Err(refusal) => self.say(format_args!("{name} refuses: {refusal}")),
                }
                self.clients.answered(who, request, &answer, last);
                if let Ok(Reply::Fault(done)) = &answer {
                    self.say(format_args!("{name}: {done:?}"));
                }
            }
            Effect::Stream { session, status, .. } if status.closed.is_some() => self.clients.closed(session),
            Effect::Broadcast(package) => self.broadcast(who, &package),
            // Who is called and who is spared is the world's business here.
            _ => {}
        }
    }

    fn broadcast(&mut self, who: usize, package: &[bitcoin::Transaction]) {
        let name = self.parties[who].name;
        if self.rough && self.one_in(10) {
            self.say(format_args!("{name}'s broadcast is lost"));
            return;
        }
        let now = self.seconds();
        let before = self.chain.waiting();
        let refused = self.chain.broadcast(package, now);
        if self.chain.waiting() != before || !refused.is_empty() {
            let ids: Vec<_> = package.iter().map(|it| it.compute_txid()).collect();
            self.say(format_args!("{name} broadcasts {ids:?}, refused {refused:?}"));
        }
        self.ledger.refused.extend(refused.into_iter().map(|(_, reason)| reason));
    }

    /// Tells a daemon what its chain backend says of itself.
    pub fn tell_chain(&mut self, who: usize) {
        let target = BlockHeight::new(self.chain.height());
        let feerates = Some(self.feerates.map(FeeratePerKw::new));
        self.input(who, Input::ChainState(ChainState { target, problem: None, feerates }));
    }

    fn chain_step(&mut self, who: usize) -> Option<Step> {
        let (_, hash) = self.parties[who].state()?.tip()?;
        self.chain.next_step(&hash)
    }

    /// One thing that is under way goes on. `false` where nothing is.
    pub fn progress(&mut self) -> bool {
        let mut ways = Vec::new();
        for who in self.everybody() {
            if !self.parties[who].is_up() {
                continue;
            }
            for (wire, link) in self.links.iter().enumerate() {
                if let Some(end) = link.end_of(who).filter(|end| !link.is_quiet(*end)) {
                    ways.push(Way::Deliver { wire, end });
                }
            }
            if self.parties[who].is_flushing() {
                ways.push(Way::Flush(who));
            }
            if self.chain_step(who).is_some() {
                ways.push(Way::Chain(who));
            }
        }
        if !self.questions.is_empty() {
            ways.push(Way::Answer);
        }
        let Some(way) = ways.choose(&mut self.rng).copied() else { return false };
        self.steps += 1;
        match way {
            Way::Deliver { wire, end } => self.deliver(wire, end),
            Way::Flush(who) => self.flush(who),
            Way::Chain(who) => self.follow_chain(who),
            Way::Answer => {
                let question = self.questions.remove(0);
                self.answer_question(question);
            }
        }
        true
    }

    fn deliver(&mut self, wire: usize, end: usize) {
        let most = self.rng.random_range(1..6);
        let ends = self.links[wire].ends;
        let (who, peer) = (ends[end], self.parties[ends[1 - end]].id);
        let mut messages = Vec::new();
        let mut of = None;
        for arrival in self.links[wire].take(end, most) {
            let input = match arrival {
                Arrival::Connected(session) => {
                    let inbound = end == 1;
                    let (features, address) = (Features::init(), (!inbound).then(|| "wire:1".to_owned()));
                    Input::Connected { peer, session, features, inbound, address }
                }
                Arrival::Disconnected(session) => Input::Disconnected { peer, session },
                Arrival::Message(session, message) => {
                    of = Some(session);
                    messages.push(*message);
                    continue;
                }
            };
            self.input(who, input);
        }
        if let Some(session) = of {
            self.input(who, Input::Messages { peer, session, messages });
        }
    }

    fn follow_chain(&mut self, who: usize) {
        let Some(step) = self.chain_step(who) else { return };
        let Some((height, hash)) = self.parties[who].state().and_then(|state| state.tip()) else { return };
        let name = self.parties[who].name;
        self.tell_chain(who);
        match step {
            Step::Disconnect => {
                self.say(format_args!("{name} loses block {height}"));
                self.input(who, Input::BlockDisconnected { height, hash });
            }
            Step::Connect(height, block) => {
                self.say(format_args!("{name} sees block {height} with {}", block.txdata.len() - 1));
                self.input(who, block_input(height, block));
            }
        }
    }

    /// Everything that is under way goes on until nothing is; time passes for those who wait for it.
    pub fn drain(&mut self) {
        for _ in 0..3 {
            let mut left = PATIENCE;
            while self.progress() {
                left -= 1;
                assert!(left > 0, "it never ends: something is sent or stored without an end");
            }
            self.wait(6_000_000);
            for who in self.everybody() {
                if self.parties[who].is_up() {
                    self.input(who, Input::Tick);
                }
            }
        }
        while self.progress() {}
    }

    /// All is up and connected, nothing is lost any more, and what is under way ends.
    pub fn heal(&mut self) {
        self.rough = false;
        for who in self.everybody() {
            if !self.parties[who].is_up() {
                self.start(who);
            }
        }
        self.let_go();
        self.drain();
        self.connect();
        self.drain();
    }

    /// All peers meet that can.
    pub fn connect(&mut self) {
        for wire in 0..self.links.len() {
            let link = &self.links[wire];
            if !link.is_up() && link.ends.iter().all(|who| self.parties[*who].is_up()) {
                self.say(format_args!("a connection"));
                self.links[wire].connect();
            }
        }
    }

    /// A block; `empty` where the miner ignores the mempool.
    pub fn mine(&mut self, empty: bool) {
        self.wait(2_000_000);
        let now = self.seconds();
        self.chain.mine(None, empty, now);
        let (height, waiting) = (self.chain.height(), self.chain.waiting());
        self.say(format_args!("block {height}; {waiting} still wait"));
    }

    /// The channels that both ends have on disk.
    pub fn shared_channels(&self) -> BTreeSet<ChannelId> {
        let is_shared = |id: &ChannelId, ends: [usize; 2]| {
            ends.iter().all(|who| self.parties[*who].durable.channels.contains_key(id))
        };
        let shared = self.ledger.channels.iter().filter(|(id, book)| is_shared(id, book.ends));
        shared.map(|(id, _)| *id).collect()
    }

    /// What both ends have of a channel that they share.
    fn entries(&self, id: &ChannelId) -> [&ChannelEntry; 2] {
        self.ledger.channels[id].ends.map(|who| &self.parties[who].durable.channels[id])
    }

    /// The same, as far as they carry payments while the peers are connected.
    pub fn ready_channels(&self) -> BTreeSet<ChannelId> {
        let is_ready = |id: &ChannelId| {
            self.entries(id).iter().all(|entry| entry.channel.funded().is_some_and(|funded| funded.is_ready()))
        };
        self.open_channels().into_iter().filter(is_ready).collect()
    }

    /// The same, as far as nothing is closing.
    pub fn open_channels(&self) -> BTreeSet<ChannelId> {
        let is_open = |id: &ChannelId| {
            let is_followed = |who: &usize| self.parties[*who].durable.resolvers.contains_key(id);
            let is_open = |entry: &&ChannelEntry| entry.channel.funded().is_some_and(|funded| !funded.is_closing());
            self.entries(id).iter().all(is_open) && !self.ledger.channels[id].ends.iter().any(is_followed)
        };
        self.shared_channels().into_iter().filter(is_open).collect()
    }
}

/// Something that can go on.
#[derive(Clone, Copy)]
enum Way {
    Deliver { wire: usize, end: usize },
    Flush(usize),
    Chain(usize),
    Answer,
}

fn is_replay(effect: &Effect) -> bool {
    matches!(effect, Effect::Reply { answer: Ok(Reply::Fault(FaultDone::Replayed { .. })), .. })
}

/// The first words of something's debug text.
fn brief(thing: &impl std::fmt::Debug) -> String {
    let text = format!("{thing:?}");
    text.chars().take(110).collect()
}
