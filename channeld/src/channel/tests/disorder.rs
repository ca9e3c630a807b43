//! Every message of every exchange comes twice, after the one behind it, not at all, or on the next connection: the answer
//! is lawful, what is on the disk is what is in memory, no money is lost, and no revoked commitment goes to the chain.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::reestablish::{EXCHANGES, Exchange};
use super::transfer::SESSION;
use super::*;
use crate::units::SessionId;
use crate::wire::TransferCloseReason;

const LARGE: u64 = 30_000_000;

/// Sessions of transfers, and a reconnect with everything on its way.
const MORE: [Exchange; 2] = [
    Exchange {
        name: "sessions",
        before: |pair| pair.a.open_session(SESSION),
        begin: |pair| {
            let (payer, session, reason) = (Side::Local, SESSION, TransferCloseReason::Finished);
            pair.a.pay(SESSION, 3, 100).expect("goes");
            pair.a.command(Command::CloseSession { payer, session, reason }).expect("goes");
            pair.b.open_session(SessionId([43; 32]));
            pair.a.open_session(SessionId([44; 32]));
        },
    },
    Exchange {
        name: "a reconnect",
        before: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
        },
        begin: |pair| {
            pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
            pair.a.add(LARGE, 2).expect("goes");
            pair.a.step(Input::Seal);
            pair.b.step(Input::Seal);
            pair.deliver(0);
            pair.deliver(0);
            pair.disconnect();
            pair.reconnect();
        },
    },
];

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Disorder {
    /// It comes again at once.
    Twice,
    /// It comes after the sender's next one.
    Late,
    /// It never comes, and the connection stands.
    Lost,
    /// It comes on the next connection, before `channel_reestablish`.
    Stale,
    /// It comes once more on the next connection, when all is caught up.
    Replayed,
}

const ALL: [Disorder; 5] = [Disorder::Twice, Disorder::Late, Disorder::Lost, Disorder::Stale, Disorder::Replayed];

/// What the receiver made of a message that came out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It took it, or took no notice.
    Took,
    /// A warning, and the connection was closed.
    Warned,
    /// An error, and the channel failed.
    Failed,
}

/// One exchange that is being disturbed.
struct Play {
    pair: Pair,
    /// A side has closed the connection.
    hung_up: bool,
    /// What became of the message in question, and of those behind it.
    verdict: Verdict,
}

impl Play {
    fn new(exchange: Option<&Exchange>) -> Play {
        let pair = match exchange {
            None => Pair::opening(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), Policy::default()]),
            Some(exchange) => {
                let mut pair = Pair::anchors();
                (exchange.before)(&mut pair);
                pair.run();
                (exchange.begin)(&mut pair);
                pair
            }
        };
        Play { pair, hung_up: false, verdict: Verdict::Took }
    }

    /// What both nodes do by themselves before the next message comes.
    fn prepare(&mut self) {
        let needed = self.pair.a.taken(|effect| matches!(effect, Effect::FundingNeeded { .. }).then_some(()));
        if !needed.is_empty() && matches!(self.pair.a.channel.state, State::AwaitingFunding(_)) {
            self.pair.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
        }
        let broadcast = self.pair.a.taken(|effect| matches!(effect, Effect::BroadcastFunding { .. }).then_some(()));
        if !broadcast.is_empty() {
            self.pair.confirm();
        }
        self.pair.seal();
    }

    /// The next message, of either side in turn.
    fn next(&mut self, turn: usize) -> Option<(usize, Message)> {
        [turn % 2, 1 - turn % 2].into_iter().find_map(|from| Some((from, self.pair.side(from).outbox.pop_front()?)))
    }

    /// Tells a side what came from the other, as the node would.
    fn tell(&mut self, from: usize, message: Message) -> Verdict {
        let to = self.pair.side(1 - from);
        // What is forgotten is nobody's: the node says so.
        if matches!(to.channel.state, State::Abandoned(_)) {
            if !matches!(message, Message::Error(_) | Message::Warning(_)) {
                let unknown = crate::wire::Error::new(to.channel.id, "unknown channel");
                self.pair.side(from).try_step(Input::Message(unknown.into())).expect("an error is taken");
            }
            return Verdict::Took;
        }
        match to.try_step(Input::Message(message)) {
            Ok(()) => Verdict::Took,
            Err(Error::Refused(refusal)) => panic!("a message is not a command: {refusal}"),
            Err(Error::Violated(violation)) => {
                to.step(Input::Violated(violation));
                let warned = !to.taken(|effect| matches!(effect, Effect::Disconnect).then_some(())).is_empty();
                self.hung_up |= warned;
                if warned { Verdict::Warned } else { Verdict::Failed }
            }
        }
    }

    fn judge(&mut self, from: usize, message: Message) {
        let verdict = self.tell(from, message);
        self.verdict = self.verdict.max(verdict);
    }

    fn reconnect(&mut self) {
        self.hung_up = false;
        self.pair.disconnect();
        self.pair.reconnect();
    }

    /// Until nothing moves any more.
    fn finish(&mut self) {
        for turn in 0..1_000 {
            if self.hung_up {
                self.reconnect();
            }
            self.prepare();
            let Some((from, message)) = self.next(turn) else { return };
            self.judge(from, message);
        }
        panic!("they never come to rest");
    }

    /// Delivers so many messages in order; says whether so many came.
    fn deliver(&mut self, count: usize) -> bool {
        for turn in 0..count {
            self.prepare();
            let Some((from, message)) = self.next(turn) else { return false };
            assert_eq!(self.tell(from, message), Verdict::Took);
        }
        self.prepare();
        true
    }

    /// The message at `at` is disturbed; its type, if there is one.
    fn disturb(&mut self, at: usize, disorder: Disorder) -> Option<u16> {
        let (from, message) = self.deliver(at).then(|| self.next(at)).flatten()?;
        let message_type = message.message_type();
        match disorder {
            Disorder::Twice => {
                self.judge(from, message.clone());
                self.judge(from, message);
            }
            Disorder::Late => {
                let next = self.pair.side(from).outbox.pop_front();
                next.into_iter().for_each(|next| self.judge(from, next));
                self.judge(from, message);
            }
            Disorder::Lost => {}
            Disorder::Stale => {
                self.reconnect();
                self.judge(from, message);
            }
            Disorder::Replayed => {
                self.judge(from, message.clone());
                self.reconnect();
                self.finish();
                self.judge(from, message);
            }
        }
        Some(message_type)
    }

    /// A side waits for what never comes: the node ends the connection after a while (node/silence.rs).
    fn wait(&mut self) {
        self.finish();
        if !self.is_over() {
            self.reconnect();
            self.finish();
        }
    }

    fn is_over(&self) -> bool {
        [&self.pair.a, &self.pair.b]
            .iter()
            .any(|node| node.channel.funded().is_none_or(|funded| matches!(funded.phase, Phase::Failed { .. })))
    }

    fn assert_lawful(&mut self, said: &str) {
        for side in [0, 1] {
            let broadcasts = self.pair.side(side).broadcasts();
            let (node, other) = if side == 0 { (&self.pair.a, &self.pair.b) } else { (&self.pair.b, &self.pair.a) };
            let Some(funded) = node.channel.funded() else { continue };
            let Phase::Failed { .. } = funded.phase else { continue };
            let number = funded.commitments.local_number;
            let parameters = &funded.commitments.main().local;
            let sent: Vec<_> = broadcasts.iter().map(|transaction| parameters.number_of(transaction)).collect();
            assert!(sent.contains(&Some(number)), "{said}: the newest commitment goes to the chain");
            if let Some(theirs) = other.channel.commitments() {
                assert!(theirs.secrets.secret(number).is_none(), "{said}: and nobody can punish it");
            }
            let told = other.channel.funded().is_none_or(|funded| funded.phase != Phase::Open);
            assert!(told, "{said}: the peer was told");
        }
        if !self.is_over() {
            self.pair.assert_level();
            let whole = self.pair.a.commitments().tally(View::LocalCurrent);
            let (local, remote) = (whole.local.msat(), whole.remote.msat());
            let htlcs = whole.outgoing.value.msat() + whole.incoming.value.msat();
            assert_eq!(local + remote + htlcs, FUNDING.to_sat() * 1_000, "{said}");
        }
    }
}

/// What each disorder came to, by the type of the message.
type Outcomes = BTreeMap<(Disorder, u16), BTreeSet<Verdict>>;

fn play(exchange: Option<&Exchange>, outcomes: &mut Outcomes) {
    for disorder in ALL {
        for at in 0.. {
            let mut play = Play::new(exchange);
            let Some(message_type) = play.disturb(at, disorder) else {
                assert!(at > 3, "this is no exchange");
                break;
            };
            play.wait();
            let name = exchange.map_or("an opening", |exchange| exchange.name);
            play.assert_lawful(&format!("{name}: {message_type} at {at} {disorder:?}"));
            outcomes.entry((disorder, message_type)).or_default().insert(play.verdict);
        }
    }
}

/// Where more than one verdict stands, it depends on what was on its way behind the message.
const EXPECTED: &str = "
Twice 33: Failed
Twice 34: Warned
Twice 35: Warned
Twice 36: Took
Twice 38: Took
Twice 39: Took
Twice 128: Failed
Twice 130: Failed
Twice 131: Failed
Twice 132: Failed
Twice 133: Failed
Twice 134: Took
Twice 136: Warned
Twice 47301: Failed
Twice 47303: Took
Twice 47305: Took
Twice 47307: Took
Late 33: Took
Late 34: Took
Late 35: Took
Late 36: Took
Late 38: Took
Late 39: Took
Late 128: Failed
Late 130: Failed
Late 131: Took
Late 132: Took Warned Failed
Late 133: Took Failed
Late 134: Took
Late 136: Took Warned
Late 47301: Took Failed
Late 47303: Took
Late 47305: Took
Late 47307: Took
Lost 33: Took
Lost 34: Took
Lost 35: Took
Lost 36: Took
Lost 38: Took Warned
Lost 39: Took
Lost 128: Failed
Lost 130: Failed
Lost 131: Failed
Lost 132: Took Warned Failed
Lost 133: Took Failed
Lost 134: Failed
Lost 136: Took Warned
Lost 47301: Failed
Lost 47303: Took
Lost 47305: Took
Lost 47307: Took
Stale 33: Took
Stale 34: Took
Stale 35: Took
Stale 36: Took
Stale 38: Warned
Stale 39: Warned
Stale 128: Warned
Stale 130: Warned
Stale 131: Warned
Stale 132: Warned
Stale 133: Warned
Stale 134: Warned
Stale 136: Warned
Stale 47301: Warned
Stale 47303: Warned
Stale 47305: Warned
Stale 47307: Warned
Replayed 33: Took
Replayed 34: Warned
Replayed 35: Warned
Replayed 36: Took
Replayed 38: Took
Replayed 39: Took
Replayed 128: Failed
Replayed 130: Took Failed
Replayed 131: Failed
Replayed 132: Took Failed
Replayed 133: Took Failed
Replayed 134: Took
Replayed 136: Warned
Replayed 47301: Failed
Replayed 47303: Took
Replayed 47305: Took
Replayed 47307: Took
";

#[test]
fn no_disorder_costs_money() {
    let mut outcomes = Outcomes::new();
    play(None, &mut outcomes);
    EXCHANGES.iter().chain(&MORE).for_each(|exchange| play(Some(exchange), &mut outcomes));
    let mut text = String::new();
    for ((disorder, message_type), verdicts) in &outcomes {
        let verdicts: Vec<String> = verdicts.iter().map(|verdict| format!("{verdict:?}")).collect();
        writeln!(text, "{disorder:?} {message_type}: {}", verdicts.join(" ")).expect("into memory");
    }
    assert_eq!(text.trim(), EXPECTED.trim(), "\n{text}");
}
