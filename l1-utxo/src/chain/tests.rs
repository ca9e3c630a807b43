//! Whole chains over an archive in memory.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::script::{Builder, PushBytes};
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
    transaction,
};

use super::*;
use crate::consensus::merkle::merkle_root;
use crate::consensus::pow::check_proof_of_work;
use crate::consensus::subsidy::block_subsidy;
use crate::consensus::{BodyError, HeaderError, TransactionError};
use crate::params::Network;

/// Blocks, undo data and coins in memory.
#[derive(Clone, Default)]
pub(crate) struct MemoryArchive {
    blocks: Vec<Block>,
    undo: Vec<BlockUndo>,
    pub(crate) coins: BTreeMap<OutPoint, Coin>,
}

fn at(length: usize) -> Position {
    Position { segment: 0, offset: length as u32, length: 0 }
}

impl CoinView for MemoryArchive {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.coins.get(outpoint).cloned()
    }
}

impl Archive for MemoryArchive {
    fn append_block(&mut self, block: &Block) -> Result<Position, ArchiveError> {
        self.blocks.push(block.clone());
        Ok(at(self.blocks.len() - 1))
    }

    fn append_undo(&mut self, _: &BlockHash, undo: &BlockUndo) -> Result<Position, ArchiveError> {
        self.undo.push(undo.clone());
        Ok(at(self.undo.len() - 1))
    }

    fn block(&self, position: Position) -> Result<Block, ArchiveError> {
        Ok(self.blocks[position.offset as usize].clone())
    }

    fn undo(&self, position: Position) -> Result<BlockUndo, ArchiveError> {
        Ok(self.undo[position.offset as usize].clone())
    }
}

/// A chain on regtest with its archive, and a miner.
pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) archive: MemoryArchive,
}

/// Far after every block's time.
pub(crate) const NOW: u64 = 2_000_000_000;

pub(crate) fn spend(outpoints: &[OutPoint], outputs: &[u64]) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: outpoints.iter().map(input).collect(),
        output: outputs.iter().map(|sat| anyone(*sat)).collect(),
    }
}

/// An output that anyone can spend with an empty scriptSig.
fn anyone(sat: u64) -> TxOut {
    let script_pubkey = Builder::new().push_opcode(OP_TRUE).into_script();
    TxOut { value: Amount::from_sat(sat), script_pubkey }
}

pub(crate) fn coinbase(height: u32, salt: u32, sat: u64) -> Transaction {
    let script_sig = Builder::new().push_int(height.into()).push_int(i64::from(salt) + 1_000).into_script();
    let mut transaction = spend(&[OutPoint::null()], &[sat]);
    transaction.input[0].script_sig = script_sig;
    transaction
}

/// Puts transactions under a header on `parent` that proves its work.
pub(crate) fn seal(parent: &Entry, transactions: Vec<Transaction>) -> Block {
    let leaves = transactions.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    let header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: parent.hash,
        merkle_root: TxMerkleNode::from_byte_array(merkle_root(leaves).root),
        time: parent.median_time_past + 1,
        bits: parent.header.bits,
        nonce: 0,
    };
    let mut block = Block { header, txdata: transactions };
    prove(&mut block);
    block
}

fn prove(block: &mut Block) {
    let params = Network::Regtest.params();
    while !check_proof_of_work(block.block_hash(), block.header.bits, params) {
        block.header.nonce += 1;
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut archive = MemoryArchive::default();
        let mut chain = Chain::open(Network::Regtest.params(), [], None, 7).unwrap();
        chain.store_genesis(&mut archive).unwrap();
        Self { chain, archive }
    }

    /// A block on `parent` with these transactions after the coinbase.
    pub(crate) fn block_on(&self, parent: BlockId, salt: u32, transactions: &[Transaction]) -> Block {
        let entry = self.chain.entry(parent);
        let mut all = vec![coinbase(entry.height + 1, salt, block_subsidy(entry.height + 1, 150).to_sat())];
        all.extend_from_slice(transactions);
        seal(entry, all)
    }

    pub(crate) fn accept(&mut self, block: Block) -> Result<Acceptance, BlockError> {
        match self.chain.accept_block(&mut self.archive, &HashedBlock::new(block), NOW, Source::Requested) {
            Ok(acceptance) => Ok(acceptance),
            Err(AcceptError::Refused(error)) => Err(error),
            Err(AcceptError::Failed(error)) => panic!("{error}"),
        }
    }

    pub(crate) fn settle(&mut self) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.chain.step(&mut self.archive, None).unwrap() {
            events.push(event);
        }
        assert!(self.chain.is_settled());
        events
    }

    /// What submitting a block comes to: its id, or why not.
    pub(crate) fn submit(&mut self, block: Block) -> Result<BlockId, BlockError> {
        let (Acceptance::New(id) | Acceptance::Known(id) | Acceptance::Ignored(id)) = self.accept(block)?;
        for event in self.settle() {
            if let ChainEvent::Refused { id: refused, error } = event
                && refused == id
            {
                return Err(error);
            }
        }
        Ok(id)
    }

    /// Mines empty blocks on `parent`.
    pub(crate) fn extend(&mut self, parent: BlockId, count: u32, salt: u32) -> Vec<BlockId> {
        let mut parent = parent;
        let mut mine = || {
            parent = self.submit(self.block_on(parent, salt, &[])).unwrap();
            parent
        };
        (0..count).map(|_| mine()).collect()
    }

    pub(crate) fn coinbase_of(&self, id: BlockId) -> OutPoint {
        let block = self.chain.read_block(&self.archive, id).unwrap();
        OutPoint { txid: block.txids()[0], vout: 0 }
    }

    /// Flushes all into the archive's coins.
    pub(crate) fn flush(&mut self, keep: usize) {
        let dirty = self.chain.dirty();
        for (outpoint, coin) in dirty.coins.dirty() {
            match coin {
                Some(coin) => self.archive.coins.insert(*outpoint, coin.to_coin()),
                None => self.archive.coins.remove(outpoint),
            };
        }
        self.chain.flushed(keep);
    }

    /// The hash over all coins, cached ones included.
    pub(crate) fn coins_hash(&self) -> CoinsStats {
        let mut coins = self.archive.coins.clone();
        for (outpoint, coin) in self.chain.dirty().coins.dirty() {
            match coin {
                Some(coin) => coins.insert(*outpoint, coin.to_coin()),
                None => coins.remove(outpoint),
            };
        }
        coins_stats(CoinsHash::Serialized, coins.into_iter().map(Ok::<_, ()>)).unwrap()
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, BlockError>) -> String {
    result.unwrap_err().reject_reason().into_owned()
}

/// 101 blocks, so that the first coinbase can be spent, and that coin.
fn mature() -> (World, BlockId, OutPoint) {
    let mut world = World::new();
    let chain = world.extend(world.chain.tip(), 101, 0);
    let coin = world.coinbase_of(chain[0]);
    (world, chain[100], coin)
}

const COIN: u64 = 100_000_000;

#[test]
fn a_chain_grows_and_pays() {
    let (mut world, tip, coin) = mature();
    let first = spend(&[coin], &[49 * COIN]);
    let second = spend(&[OutPoint { txid: first.compute_txid(), vout: 0 }], &[48 * COIN]);
    let block = world.block_on(tip, 0, &[first.clone(), second.clone()]);
    world.submit(block).unwrap();
    assert_eq!(world.chain.height(), 102);
    assert_eq!(world.chain.coin(&world.archive, &coin), None);
    let made = OutPoint { txid: second.compute_txid(), vout: 0 };
    assert_eq!(world.chain.coin(&world.archive, &made).unwrap().height, 102);
    assert_eq!(world.coins_hash().total_amount, 102 * 50 * COIN - 2 * COIN);
}

#[test]
fn each_rule_on_coins_refuses() {
    let (mut world, tip, coin) = mature();
    let young = world.coinbase_of(world.chain.at_height(3).unwrap());
    let unknown = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
    let mut locked = spend(&[coin], &[COIN]);
    locked.input[0].sequence = Sequence::from_height(102);
    let mut nonfinal = spend(&[coin], &[COIN]);
    (nonfinal.lock_time, nonfinal.input[0].sequence) = (LockTime::from_consensus(102), Sequence::ZERO);
    let parent = spend(&[coin], &[COIN]);
    let child = spend(&[OutPoint { txid: parent.compute_txid(), vout: 0 }], &[COIN]);
    let cases = [
        (vec![spend(&[unknown], &[1])], "bad-txns-inputs-missingorspent"),
        (vec![spend(&[coin], &[1]), spend(&[coin], &[2])], "bad-txns-inputs-missingorspent"),
        (vec![child, parent], "bad-txns-inputs-missingorspent"),
        (vec![spend(&[young], &[1])], "bad-txns-premature-spend-of-coinbase"),
        (vec![spend(&[coin], &[51 * COIN])], "bad-txns-in-belowout"),
        (vec![locked], "bad-txns-nonfinal"),
        (vec![nonfinal], "bad-txns-nonfinal"),
    ];
    for (salt, (transactions, expected)) in cases.into_iter().enumerate() {
        let block = world.block_on(tip, salt as u32, &transactions);
        assert_eq!(reason(world.submit(block.clone())), expected);
        assert_eq!(world.chain.tip(), tip);
        assert_eq!(reason(world.submit(block.clone())), "duplicate-invalid");
        let child = seal(world.chain.entry(world.chain.find(&block.block_hash()).unwrap()), vec![coinbase(103, 0, 0)]);
        assert_eq!(reason(world.submit(child)), "bad-prevblk");
    }
    let mut greedy = world.block_on(tip, 0, &[]);
    greedy.txdata[0] = coinbase(102, 0, 50 * COIN + 1);
    let greedy = seal(world.chain.entry(tip), greedy.txdata);
    assert_eq!(reason(world.submit(greedy)), "bad-cb-amount");
}

#[test]
fn a_failing_script_is_named_and_bip30_is_checked() {
    let (mut world, tip, coin) = mature();
    let first = Transaction {
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(vec![0x00]) }],
        ..spend(&[coin], &[])
    };
    let second = spend(&[OutPoint { txid: first.compute_txid(), vout: 0 }], &[1]);
    let block = world.block_on(tip, 0, &[first, second]);
    let expected = "block-script-verify-flag-failed (Script evaluated without error but finished with a false/empty \
                    top stack element)";
    assert_eq!(reason(world.submit(block)), expected);

    let block = world.block_on(tip, 1, &[]);
    let outpoint = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    world.archive.coins.insert(outpoint, Coin { output: anyone(1), height: 1, is_coinbase: true });
    assert_eq!(reason(world.submit(block)), "bad-txns-BIP30");
}

#[test]
fn values_and_sigops_are_bounded() {
    let (mut world, tip, _) = mature();
    let redeem = ScriptBuf::from_bytes(vec![0xae; 520]);
    let outpoint = |n: u8| OutPoint { txid: Txid::from_byte_array([n; 32]), vout: 0 };
    let rich = Coin { output: anyone(21_000_000 * COIN), height: 1, is_coinbase: false };
    let multisig = TxOut { value: Amount::from_sat(1), script_pubkey: redeem.to_p2sh() };
    world.archive.coins.insert(outpoint(1), rich.clone());
    world.archive.coins.insert(outpoint(2), rich);
    for n in [3, 4] {
        let coin = Coin { output: multisig.clone(), height: 1, is_coinbase: false };
        world.archive.coins.insert(outpoint(n), coin);
    }
    let mut costly = spend(&[outpoint(3), outpoint(4)], &[1]);
    for input in &mut costly.input {
        let push = <&PushBytes>::try_from(redeem.as_bytes()).unwrap();
        input.script_sig = Builder::new().push_slice(push).into_script();
    }
    let cases = [
        (vec![spend(&[outpoint(1), outpoint(2)], &[1])], "bad-txns-inputvalues-outofrange"),
        (vec![spend(&[outpoint(1)], &[1]), spend(&[outpoint(2)], &[1])], "bad-txns-accumulated-fee-outofrange"),
        (vec![costly], "bad-blk-sigops"),
    ];
    for (transactions, expected) in cases {
        let block = world.block_on(tip, 0, &transactions);
        assert_eq!(reason(world.submit(block)), expected);
    }
}

#[test]
fn each_rule_on_bodies_refuses() {
    let mut world = World::new();
    let genesis = world.chain.tip();
    let entry = world.chain.entry(genesis).clone();
    let good = world.block_on(genesis, 0, &[]);
    let edit = |edit: &dyn Fn(&mut Block)| {
        let mut block = good.clone();
        edit(&mut block);
        prove(&mut block);
        block
    };
    let reseal = |transactions: Vec<Transaction>| seal(&entry, transactions);
    let commitment = || TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::from_bytes([&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[1; 32]].concat()),
    };
    let mut committed = coinbase(1, 0, 0);
    committed.output.push(commitment());
    let mut nonce = reseal(vec![committed.clone()]);
    nonce.txdata[0].input[0].witness.push([0; 32]);
    let mut unexpected = good.clone();
    unexpected.txdata[0].input[0].witness.push([0; 32]);
    let mut many_sigops = coinbase(1, 0, 0);
    many_sigops.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0xac; 20_001]);
    let cases = [
        (edit(&|block| block.header.merkle_root = TxMerkleNode::all_zeros()), "bad-txnmrklroot"),
        (reseal(vec![coinbase(1, 0, 0), coinbase(1, 0, 0)]), "bad-txns-duplicate"),
        (reseal(vec![]), "bad-blk-length"),
        (reseal(vec![spend(&[OutPoint { vout: 0, ..OutPoint::null() }], &[1])]), "bad-cb-missing"),
        (reseal(vec![coinbase(1, 0, 0), coinbase(1, 1, 0)]), "bad-cb-multiple"),
        (reseal(vec![coinbase(1, 0, u64::MAX)]), "bad-txns-vout-negative"),
        (reseal(vec![many_sigops]), "bad-blk-sigops"),
        (reseal(vec![coinbase(2, 0, 0)]), "bad-cb-height"),
        (reseal(vec![committed]), "bad-witness-nonce-size"),
        (nonce, "bad-witness-merkle-match"),
        (unexpected, "unexpected-witness"),
    ];
    for (block, expected) in cases {
        assert_eq!(reason(world.submit(block)), expected);
    }
    // What a body did to it, the header of the good block is not to blame for.
    world.submit(good).unwrap();
}

#[test]
fn headers_are_judged_before_bodies() {
    let mut world = World::new();
    let genesis = world.chain.tip();
    let mut block = world.block_on(genesis, 0, &[]);
    block.header.prev_blockhash = BlockHash::all_zeros();
    prove(&mut block);
    assert_eq!(world.submit(block.clone()), Err(HeaderError::PrevBlockNotFound.into()));
    while check_proof_of_work(block.block_hash(), block.header.bits, world.chain.params()) {
        block.header.nonce += 1;
    }
    assert_eq!(world.submit(block), Err(HeaderError::HighHash.into()));
    let mut early = world.block_on(genesis, 0, &[]);
    early.header.time = u32::try_from(NOW + 7_201).unwrap();
    prove(&mut early);
    assert_eq!(world.submit(early), Err(HeaderError::TimeTooNew.into()));
}

#[test]
fn the_first_seen_of_equal_chains_stays() {
    let mut world = World::new();
    let genesis = world.chain.tip();
    let first = world.extend(genesis, 2, 1);
    let second = world.extend(genesis, 2, 2);
    assert_eq!(world.chain.tip(), first[1]);
    world.chain.make_precious(second[1]);
    world.settle();
    assert_eq!(world.chain.tip(), second[1]);
    world.extend(first[1], 1, 3);
    assert!(world.chain.is_active(first[1]));
}

#[test]
fn deep_reorgs_there_and_back_leave_the_same_coins() {
    let (mut world, fork, coin) = mature();
    let mut spending = world.block_on(fork, 1, &[spend(&[coin], &[20 * COIN, 30 * COIN])]);
    let mut parent = world.submit(spending.clone()).unwrap();
    for height in 103..260u32 {
        let matured = world.coinbase_of(world.chain.at_height(height - 100).unwrap());
        spending = world.block_on(parent, 1, &[spend(&[matured], &[COIN, COIN])]);
        parent = world.submit(spending.clone()).unwrap();
        if height == 180 {
            world.flush(0);
        }
    }
    let (old_tip, before) = (parent, world.coins_hash());
    let branch = world.extend(fork, 159, 2);
    assert_eq!(world.chain.tip(), branch[158], "one block more, 158 blocks back");
    assert_eq!(world.coins_hash().txouts, 101 + 159);
    world.flush(usize::MAX);
    assert!(world.chain.invalidate(branch[0]));
    let events = world.settle();
    assert_eq!((events.len(), world.chain.tip()), (159 + 158, old_tip));
    assert_eq!(world.coins_hash(), before);
    world.chain.reconsider(branch[0]);
    world.settle();
    assert_eq!(world.chain.tip(), branch[158]);
}

#[test]
fn a_better_branch_that_fails_on_the_way_is_left_again() {
    let (mut world, fork, coin) = mature();
    let trunk = world.extend(fork, 3, 0);
    let before = world.coins_hash();
    let good = world.block_on(fork, 5, &[]);
    let Ok(Acceptance::New(good)) = world.accept(good) else { panic!() };
    let bad = world.block_on(good, 5, &[spend(&[coin], &[51 * COIN])]);
    let Ok(Acceptance::New(bad)) = world.accept(bad) else { panic!() };
    let mut parent = bad;
    for _ in 0..3 {
        let block = world.block_on(parent, 5, &[]);
        let Ok(Acceptance::New(id)) = world.accept(block) else { panic!() };
        parent = id;
    }
    let events = world.settle();
    assert!(matches!(&events[4], ChainEvent::Refused { id, error: BlockError::Transaction { error, .. } }
        if *id == bad && *error == (TransactionError::InBelowOut { value_in: 50 * COIN, value_out: 51 * COIN })));
    assert_eq!(world.chain.tip(), trunk[2]);
    assert_eq!(world.coins_hash(), before);
    assert!(world.chain.entry(parent).is_failed && !world.chain.entry(good).is_failed);
    assert_eq!(world.chain.best_header(), trunk[2]);
}

#[test]
fn bodies_may_come_in_any_order() {
    let mut world = World::new();
    let mut other = World::new();
    let ids = other.extend(other.chain.tip(), 20, 0);
    let blocks: Vec<Block> =
        ids.iter().map(|id| other.chain.read_block(&other.archive, *id).unwrap().block().clone()).collect();
    for block in &blocks {
        world.chain.accept_header(&block.header, NOW, Source::Unrequested).unwrap();
    }
    for block in blocks.iter().rev() {
        assert_eq!(world.chain.height(), 0);
        world.submit(block.clone()).unwrap();
    }
    assert_eq!(world.chain.height(), 20);
    assert_eq!(world.coins_hash(), other.coins_hash());
}

#[test]
fn a_chain_is_loaded_as_it_was_flushed() {
    let (mut world, fork, _) = mature();
    world.extend(fork, 3, 1);
    let branch = world.extend(fork, 2, 2);
    let rows = world.chain.dirty().rows;
    let tip = world.chain.tip_entry().hash;
    world.flush(0);
    let mut rows = rows;
    rows.sort_by_key(|row| row.height);
    let mut loaded = Chain::open(world.chain.params(), rows, Some(tip), 1).unwrap();
    assert_eq!(loaded.tip_entry().hash, tip);
    assert!(loaded.is_settled());
    assert_eq!(loaded.index().len(), world.chain.index().len());
    assert_eq!(loaded.tip_entry().chain_transaction_count, world.chain.tip_entry().chain_transaction_count);
    assert!(loaded.step(&mut world.archive, None).unwrap().is_none());
    let side = world.chain.entry(branch[1]);
    assert_eq!(loaded.entry(loaded.find(&side.hash).unwrap()).sequence, side.sequence);
}

#[test]
fn unrequested_headers_and_blocks_must_be_worth_it() {
    let mut world = World::new();
    let genesis = world.chain.tip();
    world.extend(genesis, 200, 0);
    let old = world.block_on(genesis, 9, &[]);
    let refused = world.chain.accept_header(&old.header, NOW, Source::Unrequested);
    assert_eq!(refused, Err(HeaderError::TooLittleChainwork));
    let parent = world.chain.at_height(150).unwrap();
    let recent = HashedBlock::new(world.block_on(parent, 9, &[]));
    let accepted = world.chain.accept_block(&mut world.archive, &recent, NOW, Source::Unrequested);
    assert!(matches!(accepted, Ok(Acceptance::Ignored(_))));
}

#[test]
fn a_template_is_checked_without_proof_and_without_trace() {
    let (world, tip, coin) = mature();
    let mut block = world.block_on(tip, 0, &[spend(&[coin], &[49 * COIN])]);
    block.header.merkle_root = TxMerkleNode::all_zeros();
    let connection = world.chain.check_template(&world.archive, &HashedBlock::new(block), NOW).unwrap();
    assert_eq!(connection.fees, Amount::from_sat(COIN));
    assert_eq!(world.chain.tip(), tip);
    let bad = HashedBlock::new(world.block_on(tip, 0, &[spend(&[coin], &[51 * COIN])]));
    let error = world.chain.check_template(&world.archive, &bad, NOW).unwrap_err();
    assert_eq!(error.reject_reason(), "bad-txns-in-belowout");
    assert_eq!(BodyError::Bip30.reject_reason(), "bad-txns-BIP30");
}

#[test]
fn hashes_do_not_depend_on_where_coins_are() {
    let (mut world, ..) = mature();
    let before = world.coins_hash();
    world.flush(0);
    assert_eq!(world.coins_hash(), before);
    assert_eq!((before.txouts, before.transactions, before.bogosize), (101, 101, 101 * (50 + 1)));
    let muhash = |order: Vec<(OutPoint, Coin)>| {
        coins_stats(CoinsHash::MuHash, order.into_iter().map(Ok::<_, ()>)).unwrap().hash.unwrap()
    };
    let coins: Vec<(OutPoint, Coin)> = world.archive.coins.into_iter().collect();
    let reversed = coins.iter().rev().cloned().collect();
    assert_eq!(muhash(coins), muhash(reversed));
}
