//! What a seed makes happen: payments, transfers, closes, faults, crashes, cuts, blocks and reorganisations.

use channeld::node::command::{
    AmountOrAll, CloseChannel, Command, CreateInvoice, Fault, OpenChannel, OpenStream, PaymentTarget, SendPayment,
    StreamPay, StreamTarget,
};
use channeld::node::input::{Input, RequestNumber};
use channeld::units::{ChannelId, Msat};
use rand::prelude::*;

use super::client::Bill;
use super::world::World;

/// Blocks that may pass while HTLCs are in flight: with more, one end would rightly go to the chain.
const BLOCK_BUDGET: u32 = 4;
/// Channels that a world may have at once.
const MAX_CHANNELS: usize = 3;

/// What a seed likes.
pub struct Mood {
    /// How many things happen.
    pub events: u32,
    /// Daemons may die.
    crashes: bool,
    /// Connections may be cut.
    cuts: bool,
    /// Blocks may be taken back.
    reorgs: bool,
    /// Channels may be closed by force.
    forces: bool,
    /// A revoked commitment may be broadcast.
    cheats: bool,
    /// Incoming HTLCs may go without an answer for a while.
    holds: bool,
    /// A daemon comes back from an old copy of its disk in the end.
    pub restores: bool,
    blocks: u32,
    /// Whose commitment was kept for a cheat, and of which channel.
    kept: Option<(usize, ChannelId)>,
}

impl Mood {
    /// Drawn from the world's chance.
    pub fn draw(world: &mut World) -> Mood {
        Mood {
            events: if world.one_in(4) { world.rng.random_range(10..30) } else { world.rng.random_range(40..160) },
            crashes: !world.one_in(3),
            cuts: !world.one_in(3),
            reorgs: world.one_in(2),
            forces: world.one_in(2),
            cheats: world.one_in(3),
            holds: world.one_in(2),
            restores: world.one_in(4),
            blocks: 0,
            kept: None,
        }
    }
}

impl World {
    /// A channel is opened and becomes ready; then what the seed wants happens.
    pub fn play(&mut self, mood: &mut Mood) {
        self.rough = !self.one_in(3);
        self.connect();
        let who = self.anybody();
        self.run_a_while();
        self.open(who);
        for _ in 0..5 {
            self.run_a_while();
            self.mine(false);
        }
        if !self.one_in(6) {
            self.heal();
            self.rough = !self.one_in(3);
        }
        for event in 0..mood.events {
            if mood.restores && event == mood.events / 2 {
                self.take_copy();
            }
            self.wait_for_flushes();
            self.happen(mood);
            self.run_a_while();
        }
    }

    /// A few steps of whatever comes next.
    pub fn run_a_while(&mut self) {
        let most = if self.one_in(3) { 40 } else { self.rng.random_range(0..12) };
        for _ in 0..most {
            if !self.progress() {
                break;
            }
        }
    }

    /// Some of the flushes that are under way end.
    pub fn wait_for_flushes(&mut self) {
        for who in self.everybody() {
            if self.parties[who].is_up() && self.one_in(3) {
                self.flush(who);
            }
        }
    }

    /// One thing happens: a message, a flush, a block, a command, a fault.
    pub fn happen(&mut self, mood: &mut Mood) {
        let who = self.anybody();
        if !self.parties[who].is_up() {
            return self.start(who);
        }
        if self.one_in(2) {
            self.connect();
        }
        if self.one_in(8) && self.ready_channels().is_empty() {
            return self.open_and_wait(who, mood);
        }
        match self.rng.random_range(0..100) {
            0..3 => self.open(who),
            3..15 => self.invoice(who),
            15..42 => self.pay(who),
            42..56 => self.keysend(who),
            56..59 => self.open_stream(who),
            59..73 => self.stream(who),
            73..74 => self.close(who, false),
            74..75 if mood.forces => self.close(who, true),
            75..78 if mood.cheats => self.keep(who, mood),
            78..80 if mood.cheats => self.cheat(mood),
            80..84 if mood.crashes => self.crash(who),
            84..88 if mood.cuts => self.cut(),
            88..93 => self.block(mood),
            93..94 if mood.reorgs => self.reorg(mood),
            94..96 => self.change_fees(),
            // A cheater's old HTLC transactions would take what it holds, behind its own books.
            96..98 if mood.holds && !mood.cheats => self.hold(who),
            _ => {
                let micros = self.rng.random_range(1_000..3_000_000);
                self.wait(micros);
                self.input(who, Input::Tick);
            }
        }
    }

    fn anybody(&mut self) -> usize {
        self.rng.random_range(self.everybody())
    }

    /// Somebody with a wire to `who`.
    fn neighbour(&mut self, who: usize) -> usize {
        let all = self.neighbours(who);
        if all.len() == 1 { all[0] } else { all[self.rng.random_range(0..all.len())] }
    }

    /// Somebody else.
    pub fn other(&mut self, who: usize) -> usize {
        if !self.is_network() {
            return 1 - who;
        }
        let others: Vec<usize> = self.everybody().filter(|other| *other != who).collect();
        others[self.rng.random_range(0..others.len())]
    }

    /// Gives a node a command.
    pub fn command(&mut self, who: usize, command: Command) {
        let name = self.parties[who].name;
        self.say(format_args!("{name} is asked: {command:?}"));
        let input = self.clients.ask(who, command);
        self.input(who, input);
    }

    fn open(&mut self, who: usize) {
        if self.shared_channels().len() >= MAX_CHANNELS.max(self.links.len() + 1) {
            return;
        }
        let peer = self.neighbour(who);
        self.open_with(who, peer);
    }

    /// A channel of `who` with a neighbour.
    pub fn open_with(&mut self, who: usize, peer: usize) {
        let capacity = self.rng.random_range(100_000..2_000_000);
        let push = if self.one_in(3) { 0 } else { self.rng.random_range(0..capacity * 700) };
        let open = OpenChannel {
            peer: self.parties[peer].id,
            capacity: AmountOrAll::Sat(capacity),
            push: Msat::new(push),
            funding_feerate: None,
            announce: false,
            without_anchors: self.one_in(3),
            validate_only: false,
        };
        self.command(who, Command::OpenChannel(open));
    }

    /// Another channel, where none carries payments, with the blocks that it waits for.
    fn open_and_wait(&mut self, who: usize, mood: &mut Mood) {
        self.open(who);
        for _ in 0..4 {
            self.run_a_while();
            self.block(mood);
        }
    }

    fn amount(&mut self) -> Msat {
        let most = *[1_000, 300_000, 2_000_000, 60_000_000].choose(&mut self.rng).expect("four");
        Msat::new(self.rng.random_range(1..most))
    }

    fn invoice(&mut self, who: usize) {
        let amount = (!self.one_in(6)).then(|| self.amount());
        let create = CreateInvoice {
            amount,
            description: "tea".to_owned(),
            expiry_seconds: 36_000,
            preimage: None,
            payment_hash: None,
            min_final_cltv_expiry_delta: None,
            blinded: false,
        };
        self.command(who, Command::CreateInvoice(create));
    }

    fn pay(&mut self, who: usize) {
        let may_pay = |bill: &&Bill| bill.payee != who && bill.payer.is_none_or(|payer| payer == who);
        let payable: Vec<_> = self.clients.bills.iter().filter(may_pay).cloned().collect();
        // Now and then the same again: it must count once.
        let Some(bill) = payable.choose(&mut self.rng) else {
            let payee = self.other(who);
            return self.invoice(payee);
        };
        if self.ledger.is_paid(&bill.payment_hash) {
            // As the driver does, which looks into the archive; what is not durable yet the node knows itself.
            return;
        }
        let own = self.clients.bills.iter_mut().find(|known| known.payment_hash == bill.payment_hash);
        own.into_iter().for_each(|known| known.payer = Some(who));
        let amount = bill.amount.is_none().then(|| self.amount());
        let target = PaymentTarget::Invoice(bill.text.clone());
        self.send(who, target, amount);
    }

    fn keysend(&mut self, who: usize) {
        let amount = self.amount();
        let payee = self.other(who);
        let target = PaymentTarget::Node(self.parties[payee].id);
        self.send(who, target, Some(amount));
    }

    fn send(&mut self, who: usize, target: PaymentTarget, amount: Option<Msat>) {
        let channel = if self.one_in(2) && !self.is_network() { self.some_channel() } else { None };
        self.command(who, Command::SendPayment(SendPayment { channel, ..SendPayment::new(target, amount) }));
    }

    /// A channel; mostly one that carries payments.
    fn some_channel(&mut self) -> Option<ChannelId> {
        let ready = self.ready_channels();
        let all = if ready.is_empty() || self.one_in(8) { self.shared_channels() } else { ready };
        let open: Vec<_> = all.into_iter().collect();
        open.choose(&mut self.rng).copied()
    }

    /// A channel of `who`; mostly one that carries payments.
    fn own_channel(&mut self, who: usize) -> Option<ChannelId> {
        let is_own = |world: &World, id: &ChannelId| world.ledger.channels[id].ends.contains(&who);
        if !self.is_network() {
            return self.some_channel();
        }
        let own: Vec<_> = self.ready_channels().into_iter().filter(|id| is_own(self, id)).collect();
        own.choose(&mut self.rng).copied()
    }

    fn open_stream(&mut self, who: usize) {
        let Some(channel) = self.own_channel(who) else { return };
        let resume = self.clients.streams.iter().find(|it| it.who == who && it.detached).map(|it| it.session);
        let open = OpenStream {
            target: StreamTarget::Channel(channel),
            resume,
            max_total: None,
            max_uncommitted: None,
            max_payments_per_second: None,
            batch_delay_millis: if self.one_in(4) { 500 } else { 0 },
        };
        self.command(who, Command::OpenStream(open));
    }

    fn stream(&mut self, who: usize) {
        let mine = |it: &(usize, super::client::Payer)| it.1.who == who && !it.1.detached && !it.1.finished;
        let all = self.clients.streams.iter().cloned().enumerate();
        let Some((place, stream)) = all.filter(mine).choose(&mut self.rng) else { return self.open_stream(who) };
        let session = stream.session;
        if self.one_in(8) {
            self.clients.streams[place].finished = true;
            return self.unanswered(who, Command::FinishStream { session });
        }
        let count = self.rng.random_range(1..30);
        let dear = self.one_in(3);
        let most = if dear { 2_000_000 } else { 3_000 };
        let amounts: Vec<Msat> = (0..count).map(|_| Msat::new(self.rng.random_range(1..most))).collect();
        let tags = if self.one_in(5) { vec![(0, [7; 32])] } else { Vec::new() };
        self.clients.streams[place].next += count;
        self.unanswered(who, Command::StreamPay(StreamPay { session, first_sequence: stream.next, amounts, tags }));
    }

    fn unanswered(&mut self, who: usize, command: Command) {
        let name = self.parties[who].name;
        self.say(format_args!("{name} is told: {command:?}"));
        self.input(who, Input::Command { request: RequestNumber(0), key: None, command });
    }

    fn close(&mut self, who: usize, force: bool) {
        let Some(channel) = self.own_channel(who) else { return };
        if force {
            self.ledger.force(channel);
        }
        self.ask_to_close(who, channel, force);
    }

    /// Asks a daemon to close a channel.
    pub fn ask_to_close(&mut self, who: usize, channel: ChannelId, force: bool) {
        let close = CloseChannel { channel, force, address: None, feerate: None, validate_only: false };
        self.command(who, Command::CloseChannel(close));
    }

    fn keep(&mut self, who: usize, mood: &mut Mood) {
        let Some(channel) = self.own_channel(who) else { return };
        mood.kept = Some((who, channel));
        self.command(who, Command::InjectFault(Fault::KeepState { channel }));
    }

    fn cheat(&mut self, mood: &mut Mood) {
        let Some((who, channel)) = mood.kept else { return };
        self.command(who, Command::InjectFault(Fault::ReplayOldState { channel }));
    }

    /// HTLCs that come on a channel get no answer, until everything heals.
    fn hold(&mut self, who: usize) {
        let Some(channel) = self.own_channel(who) else { return };
        self.ledger.count("holds");
        self.held.push((who, channel));
        self.command(who, Command::InjectFault(Fault::HoldHtlcs { channel, hold: true }));
    }

    /// All that is held gets its answer.
    pub fn let_go(&mut self) {
        for (who, channel) in std::mem::take(&mut self.held) {
            self.command(who, Command::InjectFault(Fault::HoldHtlcs { channel, hold: false }));
        }
    }

    fn cut(&mut self) {
        let arriving = [self.rng.random_range(0..5), self.rng.random_range(0..5)];
        self.say(format_args!("the connection is cut, {arriving:?} messages arrive"));
        self.ledger.count("cuts");
        let wire = if self.is_network() { self.rng.random_range(0..self.links.len()) } else { 0 };
        self.links[wire].cut(arriving);
    }

    fn block(&mut self, mood: &mut Mood) {
        if mood.blocks >= BLOCK_BUDGET {
            // All that is in flight settles, so that blocks are no danger.
            mood.blocks = 0;
            self.heal();
            self.check_quiet();
            self.rough = true;
        }
        mood.blocks += 1;
        let empty = self.one_in(5);
        self.mine(empty);
    }

    fn reorg(&mut self, mood: &mut Mood) {
        self.heal();
        self.rough = true;
        let depth = self.rng.random_range(1..4);
        self.say(format_args!("the last {depth} blocks are replaced"));
        self.ledger.count("reorgs");
        let now = self.seconds();
        self.chain.unwind(depth, now);
        for _ in 0..=depth {
            self.wait(1_000_000);
            let empty = self.one_in(3);
            let now = self.seconds();
            self.chain.mine(None, empty, now);
        }
        mood.blocks = 1;
    }

    fn change_fees(&mut self) {
        let low = self.rng.random_range(253..1_000);
        let middle = self.rng.random_range(low..2_500);
        let high = self.rng.random_range(middle..6_000);
        self.feerates = [high, middle, low];
        self.say(format_args!("feerates are {high}, {middle}, {low} now"));
        for who in self.everybody() {
            if self.parties[who].is_up() {
                self.tell_chain(who);
            }
        }
    }
}
