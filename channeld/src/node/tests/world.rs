//! The world of the node's tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, OutPoint, TxOut, Txid};

use super::ledger::Ledger;
use super::member::{Crash, Member, moment};
use crate::node::command::{Command, Query, RequestKey};
use crate::node::event::EventKind;
use crate::node::input::{ChainState, Effect, Input, RequestNumber, SessionNumber};
use crate::node::refusal::Refusal;
use crate::node::reply::{ChannelInfo, Reply};
use crate::router::RouteQuery;
use crate::units::{BlockHeight, ChannelId, NodeId, PaymentHash};
use crate::wire::{Features, Message};

/// An HTLC that a test sent by hand.
pub struct Trip {
    pub payer: usize,
    pub channel: ChannelId,
    pub id: crate::units::HtlcId,
    pub secrets: Vec<crate::onion::SharedSecret>,
}

/// Nodes, the wires between them and a chain.
pub struct World {
    pub members: Vec<Member>,
    /// The connections that stand, by the two ends.
    links: BTreeMap<(usize, usize), SessionNumber>,
    sessions: u64,
    /// From whom, to whom, on which connection.
    wire: VecDeque<(usize, usize, SessionNumber, Message)>,
    pub ledger: Ledger,
    requests: u64,
    clock: u64,
    pub trips: Vec<Trip>,
    /// What was said of HTLCs' ends, and to whom.
    pub answers: Vec<(usize, Message)>,
    held_chain: Option<usize>,
    /// Searches that nobody answered: of whom, for what, which question.
    pub searches: Vec<(usize, PaymentHash, u32, RouteQuery)>,
    /// Messages of these types are lost on the wire.
    pub lost: Vec<u16>,
    /// What the wire does to messages.
    pub altered: fn(&mut Message),
    /// What was sent to peers that are no members.
    pub outside: Vec<Message>,
}

impl World {
    /// Two nodes at the genesis block, not connected.
    pub fn new() -> World {
        World::with_nodes(2)
    }

    /// So many nodes at the genesis block, not connected.
    pub fn with_nodes(count: u8) -> World {
        let mut clock = 0;
        let members = (1..=count).map(|seed| Member::new(seed, moment(&mut clock))).collect();
        let mut world = World {
            members,
            links: BTreeMap::new(),
            sessions: 0,
            wire: VecDeque::new(),
            ledger: Ledger::new(),
            requests: 0,
            clock,
            held_chain: None,
            searches: Vec::new(),
            lost: Vec::new(),
            altered: |_| {},
            outside: Vec::new(),
            trips: Vec::new(),
            answers: Vec::new(),
        };
        (0..world.members.len()).for_each(|who| world.settle(who));
        world
    }

    /// Connected nodes with coins, and a channel of the first with the second.
    pub fn with_channel(capacity: u64, push_msat: u64) -> (World, ChannelId) {
        let mut world = World::new();
        world.fund(0, 10_000_000);
        world.fund(1, 10_000_000);
        world.connect();
        let id = world.open(0, capacity, push_msat);
        (world, id)
    }

    /// A line of nodes, each connected with the next and with a channel that both sides can send over.
    pub fn line(count: u8, capacity: u64) -> (World, Vec<ChannelId>) {
        let mut world = World::with_nodes(count);
        (0..usize::from(count)).for_each(|who| world.fund(who, 10_000_000));
        world.connect();
        let pairs = 0..usize::from(count) - 1;
        let channels = pairs.map(|who| world.open_with(who, who + 1, capacity, capacity * 500)).collect();
        (world, channels)
    }

    pub fn id(&self, who: usize) -> NodeId {
        NodeId(self.members[who].signer.node_id())
    }

    pub fn fund(&mut self, who: usize, sat: u64) {
        let address = match self.ask(who, Command::CreateAddress) {
            Ok(Reply::Address(address)) => address,
            other => panic!("{other:?}"),
        };
        let address: bitcoin::Address<_> = address.parse().expect("an address");
        let script_pubkey = address.assume_checked().script_pubkey();
        // Money out of nothing: it has no input that anybody looks up.
        let clock = self.clock;
        let faucet = OutPoint::new(Txid::from_byte_array(sha256::Hash::hash(&clock.to_be_bytes()).to_byte_array()), 0);
        self.ledger.give(faucet, TxOut { value: Amount::from_sat(sat), script_pubkey });
        self.mine(1);
    }

    /// Connects each node with the next.
    pub fn connect(&mut self) {
        (1..self.members.len()).for_each(|next| self.connect_pair(next - 1, next));
    }

    pub fn connect_pair(&mut self, one: usize, other: usize) {
        if self.links.contains_key(&(one, other)) {
            return;
        }
        self.sessions += 1;
        let session = SessionNumber(self.sessions);
        self.links.insert((one, other), session);
        for (who, peer) in [(one, other), (other, one)] {
            let (peer, features) = (self.id(peer), Features::init());
            self.input(who, Input::Connected { peer, session, features, inbound: who == other, address: None });
        }
        self.run();
    }

    /// Cuts every connection.
    pub fn disconnect(&mut self) {
        (1..self.members.len()).for_each(|next| self.cut(next - 1, next));
        self.run();
    }

    /// Cuts one connection.
    pub fn cut(&mut self, one: usize, other: usize) {
        let Some(session) = self.links.remove(&(one, other)) else { return };
        self.wire.retain(|(_, _, of, _)| *of != session);
        for (who, peer) in [(one, other), (other, one)] {
            let peer = self.id(peer);
            self.input(who, Input::Disconnected { peer, session });
        }
    }

    fn stands(&self, session: SessionNumber) -> bool {
        self.links.values().any(|standing| *standing == session)
    }

    fn place_of(&self, node: NodeId) -> usize {
        self.find(node).expect("a member")
    }

    fn find(&self, node: NodeId) -> Option<usize> {
        (0..self.members.len()).find(|who| self.id(*who) == node)
    }

    pub fn open(&mut self, who: usize, capacity: u64, push_msat: u64) -> ChannelId {
        self.open_with(who, 1 - who, capacity, push_msat)
    }

    pub fn open_with(&mut self, who: usize, peer: usize, capacity: u64, push_msat: u64) -> ChannelId {
        let id = self.begin_open_with(who, peer, capacity, push_msat, false);
        self.mine(6);
        assert!(self.channel(who, id).expect("the opener has it").usable);
        assert!(self.channel(peer, id).expect("the accepter has it").usable);
        id
    }

    /// A channel whose funding transaction waits for a block.
    pub fn begin_open(&mut self, who: usize, capacity: u64, push_msat: u64, announce: bool) -> ChannelId {
        self.begin_open_with(who, 1 - who, capacity, push_msat, announce)
    }

    pub fn begin_open_with(&mut self, who: usize, peer: usize, sat: u64, push_msat: u64, announce: bool) -> ChannelId {
        let open = crate::node::command::OpenChannel { announce, ..self.opening(peer, sat, push_msat) };
        self.begin_opening(who, open)
    }

    /// An opening as most are.
    pub fn opening(&self, peer: usize, sat: u64, push_msat: u64) -> crate::node::command::OpenChannel {
        crate::node::command::OpenChannel {
            peer: self.id(peer),
            capacity: crate::node::command::AmountOrAll::Sat(sat),
            push: crate::units::Msat::new(push_msat),
            funding_feerate: None,
            announce: false,
            without_anchors: false,
            validate_only: false,
        }
    }

    pub fn begin_opening(&mut self, who: usize, open: crate::node::command::OpenChannel) -> ChannelId {
        match self.ask(who, Command::OpenChannel(open)) {
            Ok(Reply::Channel(info)) => info.channel_id,
            other => panic!("{other:?}"),
        }
    }

    pub fn channel(&mut self, who: usize, id: ChannelId) -> Option<ChannelInfo> {
        match self.query(who, Query::Channel(id)) {
            Ok(Reply::Channel(info)) => Some(*info),
            _ => None,
        }
    }

    /// Asks and runs until all is quiet: the last answer.
    pub fn ask(&mut self, who: usize, command: Command) -> Result<Reply, Refusal> {
        self.ask_with(who, None, command)
    }

    pub fn ask_with(&mut self, who: usize, key: Option<RequestKey>, command: Command) -> Result<Reply, Refusal> {
        let request = self.start(who, key, command);
        self.run();
        let replies = self.members[who].replies.get(&request.0).cloned().unwrap_or_default();
        replies.last().cloned().expect("an answer")
    }

    /// Asks without running further than this node.
    pub fn start(&mut self, who: usize, key: Option<RequestKey>, command: Command) -> RequestNumber {
        self.requests += 1;
        let request = RequestNumber(self.requests);
        self.input(who, Input::Command { request, key, command });
        request
    }

    pub fn query(&mut self, who: usize, query: Query) -> Result<Reply, Refusal> {
        self.requests += 1;
        let request = RequestNumber(self.requests);
        self.input(who, Input::Query { request, query });
        self.members[who].replies[&request.0].last().cloned().expect("an answer")
    }

    /// Gives one node an input; its turn stays open.
    pub fn handle(&mut self, who: usize, input: Input) {
        let moment = moment(&mut self.clock);
        self.members[who].node.handle(input, moment);
    }

    /// A number for a question.
    pub fn request(&mut self) -> RequestNumber {
        self.requests += 1;
        RequestNumber(self.requests)
    }

    /// The last blocks are taken back. What was in them waits nowhere; what nodes broadcast again does.
    pub fn unwind(&mut self, count: u32) {
        for _ in 0..count {
            let (height, hash) = self.ledger.unwind_one();
            let height = BlockHeight::new(height);
            (0..self.members.len()).for_each(|who| self.input(who, Input::BlockDisconnected { height, hash }));
        }
        self.run();
    }

    /// Gives one node an input and lets its turns go through.
    pub fn input(&mut self, who: usize, input: Input) {
        let moment = moment(&mut self.clock);
        self.members[who].node.handle(input, moment);
        self.settle(who);
    }

    /// A test has sent an HTLC that is no payment of the node's.
    pub fn sent_by_hand(
        &mut self,
        payer: usize,
        channel: ChannelId,
        id: crate::units::HtlcId,
        secrets: Vec<crate::onion::SharedSecret>,
    ) {
        self.members[payer].paid.insert((channel, id));
        self.trips.push(Trip { payer, channel, id, secrets });
    }

    /// Lets time pass for a node.
    pub fn tick(&mut self, who: usize, seconds: u64) {
        self.clock += seconds * 1_000;
        self.input(who, Input::Tick);
        self.run();
    }

    pub fn settle(&mut self, who: usize) {
        loop {
            let moment = moment(&mut self.clock);
            let member = &mut self.members[who];
            let sealed = member.node.seal(moment);
            let mut effects = sealed.effects;
            let is_quiet = sealed.record.is_none();
            if let Some(record) = sealed.record {
                member.turns += 1;
                let crash = member.crash_at.filter(|(turn, _)| *turn == member.turns).map(|(_, crash)| crash);
                if crash != Some(Crash::BeforeFlush) {
                    member.store(record);
                }
                if crash.is_some() {
                    return self.crash(who);
                }
                effects.extend(member.node.flushed());
                member.check_disk();
            }
            self.carry_out(who, effects);
            if is_quiet {
                return;
            }
        }
    }

    /// The process dies and starts again; its connections are gone.
    pub fn crash(&mut self, who: usize) {
        self.members[who].crash_at = None;
        let moment = moment(&mut self.clock);
        self.members[who].restart(moment);
        let ends: Vec<_> = self.links.iter().filter(|((one, other), _)| who == *one || who == *other).collect();
        let ends: Vec<_> = ends.into_iter().map(|(pair, session)| (*pair, *session)).collect();
        for (pair, session) in ends {
            self.links.remove(&pair);
            self.wire.retain(|(_, _, of, _)| *of != session);
            let (peer, other) = (self.id(who), if pair.0 == who { pair.1 } else { pair.0 });
            self.input(other, Input::Disconnected { peer, session });
        }
        // What was mined while it was down comes now.
        self.tell_chain(who);
        self.settle(who);
    }

    /// Carries messages until nothing moves.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if self.wire.is_empty() {
                return;
            }
            self.deliver_one();
        }
        panic!("the nodes never come to rest");
    }

    /// Has the wire say its next message twice.
    pub fn repeat_next(&mut self) {
        let next = self.wire.front().cloned();
        self.wire.extend(next);
    }

    /// Whether nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.wire.is_empty()
    }

    pub fn is_connected(&self) -> bool {
        !self.links.is_empty()
    }

    /// Carries one message.
    pub fn deliver_one(&mut self) {
        let Some((from, to, session, message)) = self.wire.pop_front() else { return };
        if self.stands(session) {
            let peer = self.id(from);
            self.input(to, Input::Messages { peer, session, messages: vec![message] });
        }
    }

    /// Asks, and carries no message meanwhile.
    pub fn ask_alone(&mut self, who: usize, command: Command) -> Result<Reply, Refusal> {
        let request = self.start(who, None, command);
        self.members[who].replies[&request.0].last().cloned().expect("an answer")
    }

    fn carry_out(&mut self, who: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { message, .. } if self.lost.contains(&message.message_type()) => {}
                Effect::Send { peer, session, message } => {
                    let mut message = Message::decode(&message.encode()).expect("what we send can be read");
                    (self.altered)(&mut message);
                    let Some(to) = self.find(peer) else {
                        self.outside.push(message);
                        continue;
                    };
                    if matches!(
                        message,
                        Message::UpdateFulfillHtlc(_)
                            | Message::UpdateFailHtlc(_)
                            | Message::UpdateFailMalformedHtlc(_)
                    ) {
                        self.answers.push((to, message.clone()));
                    }
                    self.wire.push_back((who, to, session, message));
                }
                Effect::Disconnect { peer, session } if self.stands(session) => {
                    let other = self.place_of(peer);
                    self.cut(who.min(other), who.max(other));
                }
                Effect::Reply { request, answer, .. } => {
                    self.members[who].replies.entry(request.0).or_default().push(answer);
                }
                Effect::Stream { request, status, .. } => {
                    self.members[who].statuses.insert(request.0, *status);
                }
                Effect::Gossip(message) => self.members[who].gossip.push(message),
                Effect::Protect { peer } => drop(self.members[who].protected.insert(peer)),
                Effect::Forget { peer } => drop(self.members[who].protected.remove(&peer)),
                Effect::FindRoute { payment_hash, attempt, query } => {
                    self.searches.push((who, payment_hash, attempt, *query));
                }
                Effect::Broadcast(package) => {
                    package.into_iter().for_each(|transaction| self.ledger.accept(transaction))
                }
                _ => {}
            }
        }
    }

    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            self.ledger.mine_one();
            (0..self.members.len()).for_each(|who| self.tell_chain(who));
            self.run();
        }
    }

    /// A block of which both hear, and nothing is carried yet.
    pub fn mine_silently(&mut self) {
        self.ledger.mine_one();
        (0..2).for_each(|who| self.tell_chain(who));
    }

    /// The chain of a node stands still for it until it is released.
    pub fn hold_chain(&mut self, who: usize) {
        self.held_chain = Some(who);
    }

    /// What was held is told.
    pub fn release_chain(&mut self, who: usize) {
        self.held_chain = None;
        self.tell_chain(who);
        self.run();
    }

    /// Signs with a node's key.
    pub fn sign(&self, who: usize, digest: [u8; 32]) -> secp256k1::ecdsa::Signature {
        self.members[who].signer.sign_node(digest)
    }

    /// One node says something that it would not by itself: what the other answers at once.
    pub fn say(&mut self, who: usize, message: Message) -> Vec<Message> {
        let (peer, session) = (self.id(who), self.links.values().next().copied().expect("a connection"));
        self.input(1 - who, Input::Messages { peer, session, messages: vec![message] });
        let answers = self.wire.iter().filter(|(_, to, ..)| *to == who).map(|(.., message)| message.clone()).collect();
        self.run();
        answers
    }

    fn tell_chain(&mut self, who: usize) {
        if self.held_chain == Some(who) {
            return;
        }
        loop {
            let height = self.members[who].node.state().height().height() as usize + 1;
            let Some(block) = self.ledger.blocks.get(height).cloned() else { break };
            let history = self.members[who].history(&block);
            let height = BlockHeight::new(height as u32);
            self.input(who, Input::BlockConnected { height, block: Arc::new(block), history });
        }
        let target = BlockHeight::new(self.ledger.blocks.len() as u32 - 1);
        self.input(who, Input::ChainState(ChainState { target, problem: None, feerates: None }));
    }

    /// All coins of a node's wallet.
    pub fn wallet(&mut self, who: usize) -> Amount {
        match self.query(who, Query::Balances) {
            Ok(Reply::Balances(balances)) => balances.confirmed + balances.unconfirmed + balances.immature,
            other => panic!("{other:?}"),
        }
    }

    /// What a node has on the chain and not in its wallet, in satoshi.
    pub fn claimable(&mut self, who: usize) -> u64 {
        match self.query(who, Query::Balances) {
            Ok(Reply::Balances(balances)) => balances.claimable.iter().map(|output| output.amount.to_sat()).sum(),
            other => panic!("{other:?}"),
        }
    }

    pub fn has_event(&self, who: usize, is: impl Fn(&EventKind) -> bool) -> bool {
        self.members[who].events.iter().any(|event| is(&event.kind))
    }
}
