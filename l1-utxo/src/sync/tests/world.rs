//! Nodes in memory, and the network between them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction,
};

use crate::chain::tests::MemoryArchive;
use crate::chain::{AcceptError, Acceptance, BlockId, Chain, ChainEvent, Source};
use crate::consensus::pow::check_proof_of_work;
use crate::consensus::script::SignatureCache;
use crate::consensus::subsidy::block_subsidy;
use crate::consensus::{BlockError, HashedBlock, HeaderError};
use crate::mempool::{Context, Mempool, Policy, Rejection};
use crate::mining::{self, Parent};
use crate::params::Network;
use crate::sync::random::Random;
use crate::sync::{
    Action, BlockReport, ChainNews, Connection, Entered, Host, Machine, Options, Origin, Packet, PeerId, Permissions,
    Reason, SERVICE_COMPACT_FILTERS, SERVICES, Time, Transport, wire,
};

/// When every simulation begins: long after the genesis block.
pub const START: Time = Time::from_secs(1_800_000_000);

/// A chain and a mempool in memory.
pub struct Node {
    pub chain: Chain,
    archive: MemoryArchive,
    pub mempool: Mempool,
    signatures: SignatureCache,
    pub now: Time,
    news: VecDeque<ChainNews>,
    was_fresh: Cell<bool>,
}

pub fn true_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// Spends outputs, each of them P2WSH of OP_TRUE, into `outputs` of the same.
pub fn spend(from: &[OutPoint], outputs: &[u64]) -> Transaction {
    let mut witness = Witness::new();
    witness.push(true_script().as_bytes());
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: witness.clone(),
    };
    let output = |sat: &u64| TxOut { value: Amount::from_sat(*sat), script_pubkey: true_script().to_p2wsh() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: from.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    }
}

pub fn output(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout }
}

impl Node {
    pub fn new() -> Self {
        let mut archive = MemoryArchive::default();
        let mut chain = Chain::open(Network::Regtest.params(), [], None, 7).unwrap();
        chain.store_genesis(&mut archive).unwrap();
        Self {
            chain,
            archive,
            mempool: Mempool::new(Policy::default()),
            signatures: SignatureCache::new(1 << 16, [7; 32]),
            now: START,
            news: VecDeque::new(),
            was_fresh: Cell::new(false),
        }
    }

    fn with_mempool<T>(&mut self, work: impl FnOnce(&mut Mempool, &Context<'_>) -> T) -> T {
        let tip = self.chain.tip_entry();
        let context = Context {
            coins: &self.chain.view(&self.archive),
            height: tip.height,
            median_time_past: tip.median_time_past,
            median_time_past_at: &|height| self.chain.median_time_past_at(height),
            signatures: &self.signatures,
            now: self.now.secs(),
        };
        work(&mut self.mempool, &context)
    }

    fn settle(&mut self) -> Vec<(BlockId, BlockError)> {
        let (mut refused, mut returned) = (Vec::new(), VecDeque::new());
        while let Some(event) = self.chain.step(&mut self.archive, None).unwrap() {
            match event {
                ChainEvent::Connected { block, .. } => {
                    self.mempool.block_connected(block.iter(), self.now.secs());
                    self.news.push_back(ChainNews::Connected(block));
                }
                ChainEvent::Disconnected { block, .. } => {
                    self.news.push_back(ChainNews::Disconnected);
                    returned.push_front(block);
                }
                ChainEvent::Refused { id, error } => refused.push((id, error)),
            }
        }
        if !returned.is_empty() {
            let returned: Vec<_> =
                returned.iter().flat_map(|block| block.transactions()).cloned().map(Arc::new).collect();
            let txids: Vec<Txid> = returned.iter().map(|tx: &Arc<Transaction>| tx.compute_txid()).collect();
            self.with_mempool(|mempool, cx| mempool.chain_reorganised(returned, cx));
            self.news.push_back(ChainNews::Returned(txids));
        }
        refused
    }

    /// The next block with what the mempool holds, on `parent`.
    pub fn template(&self, parent: BlockId, time: u32) -> Block {
        let entry = self.chain.entry(parent);
        let (height, min_time) = (entry.height + 1, entry.median_time_past + 1);
        let parent_of = Parent {
            hash: entry.hash,
            height,
            median_time_past: entry.median_time_past,
            bits: entry.header.bits,
            min_time,
            time: time.max(min_time),
            subsidy: block_subsidy(height, 150),
            version: 0x2000_0000,
            has_witnesses: true,
        };
        let mut block = if parent == self.chain.tip() {
            mining::draft(parent_of, &self.mempool, mining::Limits::default()).into_block(true_script().to_p2wsh())
        } else {
            mining::build_with(&parent_of, true_script().to_p2wsh(), Vec::new())
        };
        prove(&mut block.header);
        block
    }

    /// Mines a block on the tip; its hash.
    pub fn mine(&mut self) -> BlockHash {
        let block = self.template(self.chain.tip(), u32::try_from(self.now.secs()).unwrap());
        let hash = block.block_hash();
        let report = self.submit_block(Arc::new(HashedBlock::new(block)), Source::Requested).unwrap();
        assert_eq!((report.is_new, report.error), (true, None));
        hash
    }

    pub fn tip(&self) -> BlockHash {
        self.chain.tip_entry().hash
    }

    /// An output of the coinbase at a height.
    pub fn coin(&self, height: u32) -> OutPoint {
        let block = self.block(self.chain.at_height(height).unwrap()).unwrap();
        OutPoint { txid: block.txids()[0], vout: 0 }
    }

    pub fn txids(&self) -> BTreeSet<Txid> {
        self.mempool.entries().map(|entry| entry.txid).collect()
    }
}

pub fn prove(header: &mut Header) {
    while !check_proof_of_work(header.block_hash(), header.bits, Network::Regtest.params()) {
        header.nonce += 1;
    }
}

impl Host for Node {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    fn is_initial_download(&self) -> bool {
        if !self.was_fresh.get() {
            self.was_fresh.set(self.now.secs() - i64::from(self.chain.tip_entry().header.time) <= 24 * 3_600);
        }
        !self.was_fresh.get()
    }

    fn accept_header(&mut self, header: &Header) -> Result<BlockId, HeaderError> {
        self.chain.accept_header(header, self.now.secs().unsigned_abs(), Source::Requested)
    }

    fn submit_block(&mut self, block: Arc<HashedBlock>, source: Source) -> Option<BlockReport> {
        let now = self.now.secs().unsigned_abs();
        let id = match self.chain.accept_block(&mut self.archive, &block, now, source) {
            Ok(Acceptance::New(id)) => id,
            Ok(_) => return Some(BlockReport::default()),
            Err(AcceptError::Refused(error)) => return Some(BlockReport { error: Some(error), ..Default::default() }),
            Err(AcceptError::Failed(error)) => panic!("{error}"),
        };
        let refused = self.settle();
        let error = refused.iter().find(|(refused, _)| *refused == id).map(|(_, error)| *error);
        Some(BlockReport { is_new: error.is_none(), error, refused })
    }

    fn submit_transaction(&mut self, transaction: Arc<Transaction>) -> Result<Entered, Rejection> {
        self.with_mempool(|mempool, cx| mempool.accept(transaction, cx)).map(Entered::from)
    }

    fn submit_package(&mut self, parent: Arc<Transaction>, child: Arc<Transaction>) -> [Result<Entered, Rejection>; 2] {
        let package = [parent, child];
        let mut report = self.with_mempool(|mempool, cx| mempool.submit_package(&package, None, cx));
        package.map(|transaction| Entered::of_package(&transaction, &mut report))
    }

    fn block(&self, id: BlockId) -> Option<Arc<HashedBlock>> {
        self.chain.read_block(&self.archive, id).ok()
    }

    /// A filter that tells which block it is of.
    fn block_filter(&mut self, id: BlockId) -> Option<Vec<u8>> {
        Some(self.chain.entry(id).hash.to_byte_array().to_vec())
    }

    fn filter_header(&mut self, id: BlockId) -> Option<(FilterHeader, FilterHash)> {
        let hash = self.chain.entry(id).hash.to_byte_array();
        Some((FilterHeader::from_byte_array(hash), FilterHash::from_byte_array(hash)))
    }

    fn raw_block(&self, id: BlockId) -> Option<Vec<u8>> {
        Some(bitcoin::consensus::serialize(self.block(id)?.block()))
    }
}

/// A node with its machine.
pub struct Member {
    pub node: Node,
    pub machine: Machine,
    /// The other end of each connection: its index and its name for it.
    links: BTreeMap<PeerId, (usize, PeerId)>,
}

pub fn options() -> Options {
    let policy = Policy::default();
    Options {
        user_agent: "/test(l1-utxo)/".into(),
        services: SERVICES | SERVICE_COMPACT_FILTERS,
        min_relay_feerate: policy.min_relay_feerate,
        incremental_feerate: policy.incremental_feerate,
        peer_timeout: Duration::from_secs(60),
        blocks_only: false,
        upload_limit: 0,
        own_addresses: Vec::new(),
    }
}

pub fn machine(seed: u8) -> Machine {
    machine_with(options(), seed)
}

fn machine_with(options: Options, seed: u8) -> Machine {
    Machine::new(Network::Regtest.params(), options, [seed; 16])
}

type Work = Box<dyn FnOnce(&mut Machine, &mut Node)>;

/// Several members, and what is on its way between them.
pub struct World {
    pub members: Vec<Member>,
    pub now: Time,
    random: Random,
    in_transit: BTreeMap<(Time, u64), (usize, PeerId, Packet)>,
    /// When the last message on a link arrives: messages do not overtake each other.
    busy: BTreeMap<(usize, PeerId), Time>,
    next: u64,
    /// What a member has just sent.
    left: Vec<(PeerId, usize)>,
    pub closed: Vec<(usize, PeerId, Reason)>,
    pub sent: BTreeMap<String, usize>,
    /// Messages of this name are swallowed.
    pub swallowed: Option<(usize, &'static str)>,
}

impl World {
    pub fn new(count: usize, seed: u8) -> Self {
        let member = |index: usize| {
            let mut machine = machine(seed.wrapping_add(index as u8));
            let mut node = Node::new();
            machine.set_time(START);
            machine.chain_changed(Vec::new(), &mut node);
            Member { node, machine, links: BTreeMap::new() }
        };
        Self {
            members: (0..count).map(member).collect(),
            now: START,
            random: Random::new([seed; 16]),
            in_transit: BTreeMap::new(),
            busy: BTreeMap::new(),
            next: 0,
            left: Vec::new(),
            closed: Vec::new(),
            sent: BTreeMap::new(),
            swallowed: None,
        }
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        &mut self.members[index].node
    }

    /// `from` dials `to`.
    pub fn connect(&mut self, from: usize, to: usize) -> PeerId {
        self.next += 2;
        let (a, b) = (PeerId(self.next), PeerId(self.next + 1));
        let address = |index: usize| std::net::SocketAddr::new([8, 8, 8, index as u8 + 1].into(), 18_444);
        self.members[from].links.insert(a, (to, b));
        self.members[to].links.insert(b, (from, a));
        for (index, id, other, origin) in [(to, b, from, Origin::Inbound), (from, a, to, Origin::Automatic)] {
            let connection = Connection {
                address: address(other),
                origin,
                transport: Transport::V1,
                permissions: Permissions::NONE,
            };
            self.with(index, |machine, node| machine.connected(id, connection, node));
        }
        a
    }

    /// Cuts every connection between two members.
    pub fn cut(&mut self, one: usize, two: usize) {
        let links: Vec<PeerId> =
            self.members[one].links.iter().filter(|(_, (other, _))| *other == two).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|id| self.close(one, id));
    }

    fn close(&mut self, index: usize, id: PeerId) {
        let Some((other, theirs)) = self.members[index].links.remove(&id) else { return };
        self.members[other].links.remove(&theirs);
        for (index, id) in [(index, id), (other, theirs)] {
            self.in_transit.retain(|_, (to, at, _)| (*to, *at) != (index, id));
            self.with(index, |machine, _| machine.disconnected(id));
        }
    }

    /// Runs something on a member and carries out what its machine wants.
    pub fn with<T>(&mut self, index: usize, work: impl FnOnce(&mut Machine, &mut Node) -> T) -> T {
        let now = self.now;
        let Member { node, machine, .. } = &mut self.members[index];
        node.now = now;
        machine.set_time(now);
        let result = work(machine, node);
        while !node.news.is_empty() {
            let news = std::mem::take(&mut node.news);
            machine.chain_changed(news.into(), node);
            machine.tick(node);
        }
        let actions: Vec<Action> = machine.actions().collect();
        for action in actions {
            self.act(index, action);
        }
        // What has left frees room for more; only now, so that the order stays.
        for (id, size) in std::mem::take(&mut self.left) {
            self.report(index, id, size);
        }
        result
    }

    fn report(&mut self, index: usize, id: PeerId, size: usize) {
        let work: Work = Box::new(move |machine, node| machine.sent(id, size, node));
        self.with(index, work);
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Send(id, packet) => {
                *self.sent.entry(packet.command.to_string()).or_default() += 1;
                let size = packet.payload.len() + 24;
                if self.swallowed.is_none_or(|(who, what)| who != index || what != packet.command)
                    && let Some((to, theirs)) = self.members[index].links.get(&id).copied()
                {
                    let delay = Duration::from_millis(5 + self.random.below(60));
                    let busy = self.busy.entry((to, theirs)).or_default();
                    *busy = (self.now + delay).max(*busy);
                    self.next += 1;
                    self.in_transit.insert((*busy, self.next), (to, theirs, packet));
                }
                self.left.push((id, size));
            }
            Action::Disconnect(id, reason) => {
                self.closed.push((index, id, reason));
                self.close(index, id);
            }
            Action::Discourage(_) | Action::Learn(_) | Action::Good(_) => {}
        }
    }

    /// Lets time pass: messages arrive, machines tick.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let tick = self.now + crate::sync::TICK;
            while let Some(((time, _), _)) = self.in_transit.first_key_value().filter(|((time, _), _)| *time <= tick) {
                self.now = *time.max(&self.now);
                let Some((_, (to, id, packet))) = self.in_transit.pop_first() else { break };
                self.deliver(to, id, &packet);
            }
            self.now = tick;
            for index in 0..self.members.len() {
                self.with(index, |machine, node| machine.tick(node));
            }
        }
    }

    fn deliver(&mut self, to: usize, id: PeerId, packet: &Packet) {
        let message = wire::decode(&packet.command, &packet.payload).unwrap();
        self.with(to, |machine, node| machine.received(id, message, node));
    }

    /// Lets time pass until it is so; a minute at most.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..600 {
            if is_so(self) {
                return;
            }
            self.run(crate::sync::TICK);
        }
        for member in &self.members {
            let (height, download) = (member.node.chain.height(), member.node.is_initial_download());
            eprintln!("height {height}, initial download {download}, waiting {}", member.node.mempool.len());
            member.machine.peers().for_each(|peer| eprintln!("  {peer:?}"));
        }
        panic!("no {what} within a minute; closed: {:?}, sent: {:?}", self.closed, self.sent);
    }

    pub fn have_one_tip(&self) -> bool {
        self.members.iter().all(|member| member.node.tip() == self.members[0].node.tip())
    }

    pub fn have_one_mempool(&self) -> bool {
        self.members.iter().all(|member| member.node.txids() == self.members[0].node.txids())
    }

    pub fn mine(&mut self, index: usize, count: usize) {
        for _ in 0..count {
            self.with(index, |_, node| node.mine());
        }
    }

    /// A transaction of this member's own user.
    pub fn submit(&mut self, index: usize, transaction: Transaction) -> Txid {
        let txid = transaction.compute_txid();
        self.with(index, |machine, node| {
            let wtxid = transaction.compute_wtxid();
            node.submit_transaction(Arc::new(transaction)).unwrap();
            machine.broadcast(txid, wtxid);
        });
        txid
    }
}

/// A machine with peers that the test itself plays.
pub struct Solo {
    pub node: Node,
    pub machine: Machine,
    pub now: Time,
}

impl Solo {
    pub fn new(seed: u8) -> Self {
        Self::with_options(options(), seed)
    }

    pub fn with_options(options: Options, seed: u8) -> Self {
        let mut solo = Self { node: Node::new(), machine: machine_with(options, seed), now: START };
        solo.with(|machine, node| machine.chain_changed(Vec::new(), node));
        solo
    }

    pub fn with(&mut self, work: impl FnOnce(&mut Machine, &mut Node)) -> Vec<Action> {
        self.node.now = self.now;
        self.machine.set_time(self.now);
        work(&mut self.machine, &mut self.node);
        while !self.node.news.is_empty() {
            let news = std::mem::take(&mut self.node.news);
            self.machine.chain_changed(news.into(), &mut self.node);
            self.machine.tick(&mut self.node);
        }
        let actions: Vec<Action> = self.machine.actions().collect();
        for action in &actions {
            if let Action::Send(id, packet) = action {
                self.machine.sent(*id, packet.payload.len() + 24, &mut self.node);
            }
        }
        actions
    }

    pub fn give(&mut self, id: PeerId, message: NetworkMessage) -> Vec<Action> {
        let packet = Packet::from(message);
        let message = wire::decode(&packet.command, &packet.payload).unwrap();
        self.with(|machine, node| machine.received(id, message, node))
    }

    pub fn wait(&mut self, span: Duration) -> Vec<Action> {
        self.now = self.now + span;
        self.with(|machine, node| machine.tick(node))
    }

    pub fn mine(&mut self, count: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..count {
            actions.extend(self.with(|_, node| {
                node.mine();
            }));
        }
        actions
    }

    pub fn connect(&mut self, id: PeerId, origin: Origin) -> Vec<Action> {
        self.connect_granted(id, origin, Permissions::NONE)
    }

    pub fn connect_granted(&mut self, id: PeerId, origin: Origin, permissions: Permissions) -> Vec<Action> {
        let address = std::net::SocketAddr::new([9, 9, 9, id.0 as u8].into(), 18_444);
        let connection = Connection { address, origin, transport: Transport::V1, permissions };
        self.with(|machine, node| machine.connected(id, connection, node))
    }

    /// A peer that has shaken hands as Core does.
    pub fn join(&mut self, id: PeerId, origin: Origin) -> Vec<Action> {
        self.join_granted(id, origin, Permissions::NONE)
    }

    /// One to whom our user grants more than to others.
    pub fn join_granted(&mut self, id: PeerId, origin: Origin, permissions: Permissions) -> Vec<Action> {
        let mut actions = self.connect_granted(id, origin, permissions);
        for message in [version(70_016), NetworkMessage::WtxidRelay, NetworkMessage::SendAddrV2, NetworkMessage::Verack]
        {
            actions.extend(self.give(id, message));
        }
        actions
    }
}

pub fn version(protocol: u32) -> NetworkMessage {
    use bitcoin::p2p::ServiceFlags;
    version_offering(protocol, ServiceFlags::NETWORK | ServiceFlags::WITNESS)
}

pub fn version_offering(protocol: u32, services: bitcoin::p2p::ServiceFlags) -> NetworkMessage {
    use bitcoin::p2p::{Address, ServiceFlags, message_network::VersionMessage};
    let nobody = std::net::SocketAddr::new([0, 0, 0, 0].into(), 0);
    NetworkMessage::Version(VersionMessage {
        version: protocol,
        services,
        timestamp: START.secs(),
        receiver: Address::new(&nobody, ServiceFlags::NONE),
        sender: Address::new(&nobody, services),
        nonce: 99,
        user_agent: "/peer/".into(),
        start_height: 0,
        relay: true,
    })
}

/// The names of the messages sent to a peer.
pub fn names(actions: &[Action], to: PeerId) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Send(id, packet) if *id == to => Some(packet.command.to_string()),
        _ => None,
    };
    actions.iter().filter_map(name).collect()
}

/// Why a peer was sent away.
pub fn reason(actions: &[Action], of: PeerId) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Disconnect(id, reason) if *id == of => Some(reason.to_string()),
        _ => None,
    })
}
