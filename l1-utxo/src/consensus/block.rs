//! The rules of a block's body that need no coins (Core: `CheckBlock`, `ContextualCheckBlock`, `IsBlockMutated`).

use std::sync::OnceLock;

use bitcoin::consensus::encode::VarInt;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{Block, BlockHash, Transaction, Txid, Wtxid};
use rayon::prelude::*;

use super::error::{BlockError, BodyError};
use super::header::check_header;
use super::locktime::is_final;
use super::merkle::{MerkleRoot, hash_pair, merkle_root};
use super::sigop::legacy_sigop_count;
use super::transaction::check_transaction;
use crate::params::Params;

/// The weight of a block is at most this, in weight units.
pub const MAX_BLOCK_WEIGHT: usize = 4_000_000;
/// The cost of a block's signature operations is at most this.
pub const MAX_BLOCK_SIGOPS_COST: u64 = 80_000;
/// Scale between a size without witness and weight.
pub const WITNESS_SCALE_FACTOR: usize = bitcoin::constants::WITNESS_SCALE_FACTOR;

/// Above this many transactions their hashes are computed in parallel: of fewer they take a millisecond, and while blocks
/// come in one after the other the other cores have scripts to run.
const PARALLEL_FROM: usize = 2_048;
const HEADER_SIZE: usize = 80;
/// OP_RETURN, a push of 36 bytes, and BIP 141's four magic bytes.
const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// The shortest script that commits to witnesses.
const MINIMUM_WITNESS_COMMITMENT: usize = 38;

/// A block with its hash and those of its transactions, computed once.
#[derive(Clone, Debug)]
pub struct HashedBlock {
    block: Block,
    hash: BlockHash,
    txids: Vec<Txid>,
    wtxids: OnceLock<Vec<Wtxid>>,
    sizes: Sizes,
    /// What was found out about the body when it was first asked.
    merkle: OnceLock<Result<(), BodyError>>,
    witness: OnceLock<Result<(), BodyError>>,
    rules: OnceLock<Result<(), BlockError>>,
}

/// Bytes of a block.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    stripped: usize,
    total: usize,
}

impl PartialEq for HashedBlock {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Eq for HashedBlock {}

impl HashedBlock {
    /// Hashes header and transactions.
    pub fn new(block: Block) -> Self {
        let (txids, sizes) = (hash_each(&block.txdata, Transaction::compute_txid), Sizes::of(&block));
        let (wtxids, merkle, witness, rules) = (OnceLock::new(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { hash: block.block_hash(), txids, wtxids, sizes, block, merkle, witness, rules }
    }

    /// Finds out now, on this thread, what will be asked of the body by itself: whoever asks then has the answer at once.
    pub fn examine(&self) {
        // What is wrong is told to those who ask.
        let _ = (check_merkle_root(self), check_witness_commitment(self), check_body(self));
    }

    /// The block.
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// The hash of its header.
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The ids of its transactions, in their order.
    pub fn txids(&self) -> &[Txid] {
        &self.txids
    }

    /// The hashes of its transactions with their witnesses, in their order; computed when they are asked for first.
    pub fn wtxids(&self) -> &[Wtxid] {
        self.wtxids.get_or_init(|| hash_each(&self.block.txdata, Transaction::compute_wtxid))
    }

    /// Its transactions.
    pub fn transactions(&self) -> &[Transaction] {
        &self.block.txdata
    }

    /// Its transactions with their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Txid, &Transaction)> + ExactSizeIterator {
        self.txids.iter().zip(&self.block.txdata)
    }

    /// Gives the block back.
    pub fn into_block(self) -> Block {
        self.block
    }

    fn merkle_root(&self) -> MerkleRoot {
        merkle_root(self.txids.iter().map(|txid| txid.to_byte_array()).collect())
    }

    /// Size without witnesses, in bytes.
    pub const fn stripped_size(&self) -> usize {
        self.sizes.stripped
    }

    /// Size with witnesses, in bytes.
    pub const fn total_size(&self) -> usize {
        self.sizes.total
    }
}

impl Sizes {
    fn of(block: &Block) -> Self {
        let frame = HEADER_SIZE + VarInt::from(block.txdata.len()).size();
        block.txdata.iter().fold(Self { stripped: frame, total: frame }, |sizes, transaction| Self {
            stripped: sizes.stripped + transaction.base_size(),
            total: sizes.total + transaction.total_size(),
        })
    }
}

/// The rules that need no context, in Core's order. With `check_proof` off (a template) neither proof of work nor merkle
/// root are looked at.
pub fn check_block(block: &HashedBlock, params: &Params, check_proof: bool) -> Result<(), BlockError> {
    if check_proof {
        check_header(&block.block.header, block.hash, params)?;
        check_merkle_root(block)?;
    }
    check_body(block)
}

/// The rules on the body that look neither at the header nor at the chain.
fn check_body(block: &HashedBlock) -> Result<(), BlockError> {
    *block.rules.get_or_init(|| apply_body_rules(block))
}

fn apply_body_rules(block: &HashedBlock) -> Result<(), BlockError> {
    let transactions = block.transactions();
    if transactions.is_empty()
        || transactions.len() * WITNESS_SCALE_FACTOR > MAX_BLOCK_WEIGHT
        || block.stripped_size() * WITNESS_SCALE_FACTOR > MAX_BLOCK_WEIGHT
    {
        return Err(BodyError::Length.into());
    }
    if !transactions[0].is_coinbase() {
        return Err(BodyError::CoinbaseMissing.into());
    }
    if transactions[1..].iter().any(Transaction::is_coinbase) {
        return Err(BodyError::CoinbaseMultiple.into());
    }
    for (txid, transaction) in block.iter() {
        check_transaction(transaction).map_err(|error| BlockError::Transaction { txid: *txid, error })?;
    }
    // An underestimate: witness and P2SH operations are counted while connecting.
    let sigops: u64 = transactions.iter().map(|tx| u64::from(legacy_sigop_count(tx))).sum();
    if sigops * WITNESS_SCALE_FACTOR as u64 > MAX_BLOCK_SIGOPS_COST {
        return Err(BodyError::LegacySigops.into());
    }
    Ok(())
}

/// The header's merkle root is that of the transactions, and no shorter list has it as well.
pub fn check_merkle_root(block: &HashedBlock) -> Result<(), BodyError> {
    *block.merkle.get_or_init(|| compare_merkle_root(block))
}

fn compare_merkle_root(block: &HashedBlock) -> Result<(), BodyError> {
    let computed = block.merkle_root();
    if computed.root != block.block.header.merkle_root.to_byte_array() {
        return Err(BodyError::MerkleRootMismatch);
    }
    if computed.mutated { Err(BodyError::DuplicateTransaction) } else { Ok(()) }
}

/// The rules that need the block's place in the chain: its `height`, and the median time past of its parent.
pub fn check_block_in_context(
    block: &HashedBlock,
    height: u32,
    median_time_past: u32,
    params: &Params,
) -> Result<(), BodyError> {
    let from = &params.activation;
    let cutoff = if height >= from.csv { median_time_past } else { block.block.header.time };
    if !block.transactions().iter().all(|tx| is_final(tx, height, cutoff)) {
        return Err(BodyError::NonFinal);
    }
    // BIP 34
    let expected = Builder::new().push_int(i64::from(height)).into_script();
    let coinbase = block.transactions().first().ok_or(BodyError::Length)?;
    let script_sig = coinbase.input.first().map_or(&[][..], |input| input.script_sig.as_bytes());
    if height >= from.bip34 && !script_sig.starts_with(expected.as_bytes()) {
        return Err(BodyError::CoinbaseHeight);
    }
    check_witnesses(block, height, params)?;
    // Only now: the weight of the coinbase's witness is known to be committed to.
    if block.stripped_size() * (WITNESS_SCALE_FACTOR - 1) + block.total_size() > MAX_BLOCK_WEIGHT {
        return Err(BodyError::Weight);
    }
    Ok(())
}

/// The index of the coinbase output that commits to the witnesses: the last of that form (BIP 141).
pub fn witness_commitment_index(coinbase: &Transaction) -> Option<usize> {
    coinbase.output.iter().rposition(|output| {
        let script = output.script_pubkey.as_bytes();
        script.len() >= MINIMUM_WITNESS_COMMITMENT && script.starts_with(&COMMITMENT_PREFIX)
    })
}

fn hash_each<T: Send>(transactions: &[Transaction], hash: fn(&Transaction) -> T) -> Vec<T> {
    if transactions.len() < PARALLEL_FROM {
        transactions.iter().map(hash).collect()
    } else {
        transactions.par_iter().map(hash).collect()
    }
}

/// The root over the witness ids, with zero for the coinbase (Core: `BlockWitnessMerkleRoot`).
fn witness_merkle_root(wtxids: &[Wtxid]) -> [u8; 32] {
    let mut leaves = vec![[0; 32]];
    leaves.extend(wtxids.iter().skip(1).map(|wtxid| wtxid.to_byte_array()));
    merkle_root(leaves).root
}

/// The script of the output that commits to the witnesses of `transactions` with the given reserved value.
pub fn witness_commitment_script(transactions: &[Transaction], reserved: &[u8; 32]) -> bitcoin::ScriptBuf {
    commitment_script(&witness_merkle_root(&hash_each(transactions, Transaction::compute_wtxid)), reserved)
}

/// The script of the output that commits to this root over the witness ids with the given reserved value.
pub fn commitment_script(witness_root: &[u8; 32], reserved: &[u8; 32]) -> bitcoin::ScriptBuf {
    let mut script = COMMITMENT_PREFIX.to_vec();
    script.extend_from_slice(&hash_pair(witness_root, reserved));
    script.into()
}

/// Gives the coinbase the reserved value of zeros if it commits to witnesses and has none: what `submitblock` does for
/// miners that leave it out (Core: `UpdateUncommittedBlockStructures`).
pub fn add_witness_reserved_value(block: &mut Block) {
    if let Some(coinbase) = block.txdata.first_mut().filter(|tx| witness_commitment_index(tx).is_some())
        && let Some(input) = coinbase.input.first_mut().filter(|input| input.witness.is_empty())
    {
        input.witness.push([0; 32]);
    }
}

/// BIP 141: witnesses are what the coinbase commits to, or there are none (Core: `CheckWitnessMalleation`).
fn check_witness_commitment(block: &HashedBlock) -> Result<(), BodyError> {
    *block.witness.get_or_init(|| compare_witness_commitment(block))
}

/// The same at a height where there may be no commitments yet: no witnesses, then.
fn check_witnesses(block: &HashedBlock, height: u32, params: &Params) -> Result<(), BodyError> {
    if height >= params.activation.segwit {
        return check_witness_commitment(block);
    }
    if has_witness(block) { Err(BodyError::UnexpectedWitness) } else { Ok(()) }
}

fn has_witness(block: &HashedBlock) -> bool {
    block.transactions().iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty()))
}

fn compare_witness_commitment(block: &HashedBlock) -> Result<(), BodyError> {
    let transactions = block.transactions();
    let Some((coinbase, index)) = transactions.first().and_then(|tx| Some((tx, witness_commitment_index(tx)?))) else {
        return if has_witness(block) { Err(BodyError::UnexpectedWitness) } else { Ok(()) };
    };
    let witness = coinbase.input.first().map(|input| &input.witness).ok_or(BodyError::WitnessNonceSize)?;
    let reserved: &[u8; 32] = match (witness.len(), witness.nth(0).map(TryInto::try_into)) {
        (1, Some(Ok(reserved))) => reserved,
        _ => return Err(BodyError::WitnessNonceSize),
    };
    let commitment = hash_pair(&witness_merkle_root(block.wtxids()), reserved);
    if coinbase.output[index].script_pubkey.as_bytes()[COMMITMENT_PREFIX.len()..MINIMUM_WITNESS_COMMITMENT]
        != commitment
    {
        return Err(BodyError::WitnessMerkleMismatch);
    }
    Ok(())
}

/// Whether the body surely is not the one that the header's miner made, so that whoever sent it is to blame and the
/// block is asked for again (Core: `IsBlockMutated`). `height` is that of its header.
pub fn is_mutated(block: &HashedBlock, height: u32, params: &Params) -> bool {
    if check_merkle_root(block).is_err() {
        return true;
    }
    if !block.transactions().first().is_some_and(Transaction::is_coinbase) {
        // A transaction of 64 bytes can pass for an inner node of the merkle tree.
        return block.transactions().iter().any(|tx| tx.base_size() == 64);
    }
    check_witnesses(block, height, params).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Activation, Network};
    use bitcoin::{Amount, ScriptBuf, TxOut};

    /// The genesis coinbase for height 1, that commits to the witnesses of the block.
    fn committed(witness: Vec<u8>) -> HashedBlock {
        let mut block = Network::Regtest.params().genesis.clone();
        let mut spend = block.txdata[0].clone();
        spend.input[0].previous_output.vout = 0;
        spend.input[0].witness.push(witness);
        block.txdata.push(spend);
        block.txdata[0].input[0].script_sig = Builder::new().push_int(1).push_int(0).into_script();
        let script_pubkey = witness_commitment_script(&block.txdata, &[0; 32]);
        block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey });
        add_witness_reserved_value(&mut block);
        let leaves = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        block.header.merkle_root = bitcoin::TxMerkleNode::from_byte_array(merkle_root(leaves).root);
        HashedBlock::new(block)
    }

    #[test]
    fn weight_is_bounded_with_witnesses() {
        let small = committed(vec![0; 3_900_000]);
        assert_eq!(check_block_in_context(&small, 1, 0, Network::Regtest.params()), Ok(()));
        assert_eq!(small.total_size(), small.block().total_size());
        let large = committed(vec![0; 4_000_000]);
        assert_eq!(check_block_in_context(&large, 1, 0, Network::Regtest.params()), Err(BodyError::Weight));
    }

    #[test]
    fn the_last_commitment_counts_and_must_be_right() {
        let mut block = committed(vec![1]).into_block();
        let mut other = block.txdata[0].output[1].clone();
        other.script_pubkey = ScriptBuf::from_bytes([&COMMITMENT_PREFIX[..], &[7; 32]].concat());
        block.txdata[0].output.insert(1, other.clone());
        assert_eq!(check_block_in_context(&HashedBlock::new(block.clone()), 1, 0, Network::Regtest.params()), Ok(()));
        block.txdata[0].output.push(other);
        let verdict = check_block_in_context(&HashedBlock::new(block), 1, 0, Network::Regtest.params());
        assert_eq!(verdict, Err(BodyError::WitnessMerkleMismatch));
    }

    #[test]
    fn before_their_forks_heights_and_witnesses_are_not_asked_for() {
        let mut params = Network::Regtest.params().clone();
        params.activation = Activation { bip34: 5, csv: 5, segwit: 5, ..Activation::default() };
        let committed = committed(vec![1]);
        // The body says height 1.
        let verdict = |block: &Block, height| {
            check_block_in_context(&HashedBlock::new(block.clone()), height, 0, &params).map_err(|e| e.to_string())
        };
        let unexpected = BodyError::UnexpectedWitness.to_string();
        assert_eq!(verdict(committed.block(), 4), Err(unexpected));
        assert_eq!(verdict(committed.block(), 5), Err(BodyError::CoinbaseHeight.to_string()));
        let mut plain = committed.block().clone();
        plain.txdata.iter_mut().for_each(|transaction| transaction.input[0].witness.clear());
        assert_eq!(verdict(&plain, 4), Ok(()));
        assert!(is_mutated(&committed, 4, &params) && !is_mutated(&committed, 5, &params));
        // Lock times are compared with the block's own time until BIP 113.
        let time = plain.header.time;
        plain.txdata[1].lock_time = bitcoin::absolute::LockTime::from_consensus(time - 1);
        plain.txdata[1].input[0].sequence = bitcoin::Sequence::ZERO;
        assert_eq!(verdict(&plain, 4), Ok(()));
        assert_eq!(verdict(&plain, 5), Err(BodyError::NonFinal.to_string()));
    }

    #[test]
    fn bodies_that_are_not_the_miners_are_known() {
        let good = committed(vec![1]);
        assert!(!is_mutated(&good, 1, Network::Regtest.params()));
        let mut block = good.into_block();
        block.txdata[1].input[0].witness.push([2]);
        assert!(is_mutated(&HashedBlock::new(block.clone()), 1, Network::Regtest.params()));
        block.txdata.swap(0, 1);
        assert!(is_mutated(&HashedBlock::new(block), 1, Network::Regtest.params()));
    }
}
