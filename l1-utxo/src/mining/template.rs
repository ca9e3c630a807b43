//! What goes into a block: the best chunks that fit, and a coinbase that takes the fees and commits to the witnesses.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness, Wtxid, transaction,
};

use crate::consensus::block::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT, commitment_script};
use crate::consensus::locktime::is_final;
use crate::consensus::merkle::merkle_root;
use crate::mempool::{ChunkView, Entry, Mempool};

/// Kept for the coinbase's outputs.
const RESERVED_SIGOPS: u64 = 400;
/// Chunks that do not fit, one after the other, before a nearly full block is called full.
const MAX_CONSECUTIVE_FAILURES: u32 = 1_000;
const FULL_ENOUGH: u64 = 4_000;

/// What the owner sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Weight of a block at most (Core: `-blockmaxweight`).
    pub max_weight: u64,
    /// Weight kept for header, counts and coinbase (Core: `-blockreservedweight`).
    pub reserved_weight: u64,
    /// Feerate below which nothing is mined, in sat/kvB (Core: `-blockmintxfee`).
    pub min_feerate: u64,
    /// The version of our blocks, in place of the one that follows from the chain (Core: `-blockversion`).
    pub version: Option<i32>,
}

impl Limits {
    /// What a block may weigh.
    pub const MAX_WEIGHT: u64 = MAX_BLOCK_WEIGHT as u64;
    /// The least that must be kept.
    pub const MIN_RESERVED_WEIGHT: u64 = 2_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_weight: Self::MAX_WEIGHT, reserved_weight: 8_000, min_feerate: 1, version: None }
    }
}

/// The chain that the block is to follow, and what follows from it.
#[derive(Debug, Clone, Copy)]
pub struct Parent {
    /// The hash of the last block.
    pub hash: BlockHash,
    /// The height of the block to be.
    pub height: u32,
    /// The median time of the last eleven blocks.
    pub median_time_past: u32,
    /// The bits that the block to be must have.
    pub bits: CompactTarget,
    /// The earliest time the block to be may have, in seconds since 1970.
    pub min_time: u32,
    /// The time of the block to be, in seconds since 1970.
    pub time: u32,
    /// The subsidy of the block to be.
    pub subsidy: Amount,
    /// The version of the block to be.
    pub version: i32,
    /// Whether witnesses may be in the block to be.
    pub has_witnesses: bool,
}

/// A transaction that goes into the block.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// Its txid.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What it pays, in satoshi.
    pub fee: u64,
    /// Its sigop cost.
    pub sigops: u64,
}

/// What the best block holds, parents before children, without the coinbase.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What the block is to follow.
    pub parent: Parent,
    /// The transactions.
    pub chosen: Vec<Chosen>,
    /// Their weight, with what is kept for the rest.
    pub weight: u64,
}

impl Draft {
    /// Subsidy and fees.
    pub fn reward(&self) -> Amount {
        self.parent.subsidy + Amount::from_sat(self.chosen.iter().map(|chosen| chosen.fee).sum())
    }

    /// The script of the output that commits to the witnesses, for a reserved value of zeros.
    pub fn commitment(&self) -> ScriptBuf {
        let mut leaves = vec![[0; 32]];
        leaves.extend(self.chosen.iter().map(|chosen| chosen.wtxid.to_byte_array()));
        commitment_script(&merkle_root(leaves).root, &[0; 32])
    }

    /// The block without a nonce, its coinbase paying to `script`.
    pub fn into_block(self, script: ScriptBuf) -> Block {
        let commitment = self.commitment();
        let reward = self.reward();
        let transactions =
            self.chosen.into_iter().map(|chosen| (chosen.txid, Arc::unwrap_or_clone(chosen.transaction)));
        assemble(&self.parent, script, reward, transactions.collect(), commitment)
    }
}

/// What the best block that the mempool gives holds. Takes time with the size of a block, not with that of the mempool:
/// chunks are kept in the order in which they are taken.
pub fn draft(parent: Parent, mempool: &Mempool, limits: Limits) -> Draft {
    let mut selection =
        Selection { limits, weight: limits.reserved_weight, sigops: RESERVED_SIGOPS, chosen: Vec::new() };
    selection.fill(&parent, mempool);
    let chosen = selection.chosen.into_iter().map(|entry| Chosen {
        transaction: Arc::clone(&entry.transaction),
        txid: entry.txid,
        wtxid: entry.wtxid,
        fee: entry.fee.to_sat(),
        sigops: entry.sigops,
    });
    Draft { parent, chosen: chosen.collect(), weight: selection.weight }
}

/// A block of exactly these transactions; their fees are not collected (Core's `generateblock`).
pub fn build_with(parent: &Parent, script: ScriptBuf, transactions: Vec<Transaction>) -> Block {
    let mut leaves = vec![[0; 32]];
    leaves.extend(transactions.iter().map(|transaction| transaction.compute_wtxid().to_byte_array()));
    let commitment = commitment_script(&merkle_root(leaves).root, &[0; 32]);
    let transactions = transactions.into_iter().map(|transaction| (transaction.compute_txid(), transaction));
    assemble(parent, script, parent.subsidy, transactions.collect(), commitment)
}

struct Selection<'a> {
    limits: Limits,
    weight: u64,
    sigops: u64,
    chosen: Vec<&'a Entry>,
}

impl<'a> Selection<'a> {
    fn fill(&mut self, parent: &Parent, mempool: &'a Mempool) {
        let mut failures = 0;
        let mut closed: BTreeSet<u32> = BTreeSet::new();
        for chunk in mempool.chunks() {
            let least = i128::from(self.limits.min_feerate) * i128::from(chunk.size.weight.div_ceil(4));
            if i128::from(chunk.size.fee) * 1_000 < least {
                return;
            }
            if closed.contains(&chunk.cluster) {
                continue;
            }
            if self.take(&chunk, parent) {
                failures = 0;
                continue;
            }
            closed.insert(chunk.cluster);
            failures += 1;
            if failures > MAX_CONSECUTIVE_FAILURES && self.weight + FULL_ENOUGH > self.limits.max_weight {
                return;
            }
        }
    }

    fn take(&mut self, chunk: &ChunkView<'a>, parent: &Parent) -> bool {
        let sigops: u64 = chunk.entries.iter().map(|entry| entry.sigops).sum();
        let is_full = self.weight + chunk.size.weight >= self.limits.max_weight;
        if is_full || self.sigops + sigops >= MAX_BLOCK_SIGOPS_COST {
            return false;
        }
        let mut transactions = chunk.entries.iter().map(|entry| &entry.transaction);
        if !transactions.all(|transaction| is_final(transaction, parent.height, parent.median_time_past)) {
            return false;
        }
        self.weight += chunk.size.weight;
        self.sigops += sigops;
        self.chosen.extend(&chunk.entries);
        true
    }
}

fn assemble(
    parent: &Parent,
    script: ScriptBuf,
    reward: Amount,
    transactions: Vec<(Txid, Transaction)>,
    commitment: ScriptBuf,
) -> Block {
    let mut txdata = Vec::with_capacity(transactions.len() + 1);
    let mut leaves = Vec::with_capacity(transactions.len() + 1);
    txdata.push(coinbase(parent, script, reward));
    // The coinbase's own is put in once it is complete.
    leaves.push([0; 32]);
    for (txid, transaction) in transactions {
        leaves.push(txid.to_byte_array());
        txdata.push(transaction);
    }
    txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: commitment });
    leaves[0] = txdata[0].compute_txid().to_byte_array();
    let header = Header {
        version: Version::from_consensus(parent.version),
        prev_blockhash: parent.hash,
        merkle_root: TxMerkleNode::from_byte_array(merkle_root(leaves).root),
        time: parent.time,
        bits: parent.bits,
        nonce: 0,
    };
    Block { header, txdata }
}

/// BIP 34's height, padded to the two bytes that a coinbase script needs; locked to its height as Core's are.
fn coinbase(parent: &Parent, script_pubkey: ScriptBuf, value: Amount) -> Transaction {
    let mut script_sig = Builder::new().push_int(i64::from(parent.height));
    if parent.height <= 16 {
        script_sig = script_sig.push_int(0);
    }
    let mut witness = Witness::new();
    if parent.has_witnesses {
        witness.push([0u8; 32]);
    }
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_height(parent.height.saturating_sub(1)).unwrap_or(LockTime::ZERO),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into_script(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness,
        }],
        output: vec![TxOut { value, script_pubkey }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::HashedBlock;
    use crate::consensus::block::{check_block, check_block_in_context};
    use crate::mempool::Policy;
    use crate::params::Network;

    #[test]
    fn empty_blocks_keep_the_rules_at_every_height() {
        let params = Network::Regtest.params();
        for height in [1, 16, 17, 127, 128, 255, 32_768, 70_000] {
            let parent = Parent {
                hash: params.genesis_hash,
                height,
                median_time_past: 1,
                bits: params.pow_limit_bits,
                min_time: 2,
                time: 2,
                subsidy: Amount::ONE_BTC,
                version: 0x2000_0000,
                has_witnesses: true,
            };
            let draft = draft(parent, &Mempool::new(Policy::default()), Limits::default());
            let block = HashedBlock::new(draft.into_block(ScriptBuf::new()));
            assert_eq!(check_block(&block, params, false), Ok(()));
            assert_eq!(check_block_in_context(&block, height, 1, params), Ok(()), "height {height}");
        }
    }
}
