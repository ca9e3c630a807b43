//! What `gettxoutsetinfo` tells about a set of coins: counted from the coins themselves, or added up block by block where an
//! index keeps that (Core: `kernel/coinstats.cpp`). Never reads a store: coins, blocks and undo data are handed in.

mod muhash;
mod totals;

use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::{OutPoint, Script, Txid};
use rayon::prelude::*;

use super::coin::Coin;

pub use muhash::MuHash;
pub use totals::CoinTotals;

/// Coins that are hashed together on one core.
const CHUNK: usize = 256;
/// Bytes of Core's measure of a coin apart from its script: outpoint, height, value, length.
const BOGOSIZE_FIXED: u64 = 32 + 4 + 4 + 8 + 2;

/// Which hash of the set is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoinsHash {
    /// SHA256d over all coins in order: `hash_serialized_3`.
    Serialized,
    /// The hash that does not depend on order: `muhash`.
    MuHash,
    /// None.
    None,
}

/// The figures. The hash is in the byte order of its computation: RPC shows it reversed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoinsStats {
    /// Transactions with at least one coin.
    pub transactions: u64,
    /// Coins.
    pub txouts: u64,
    /// Core's measure of size that no database influences, in bytes.
    pub bogosize: u64,
    /// All coins together, in satoshi.
    pub total_amount: u64,
    /// The hash, if one was wanted.
    pub hash: Option<[u8; 32]>,
}

/// Counts and hashes coins, which come ordered by transaction id (as bytes), then by output index. An error of the
/// iterator ends it.
pub fn coins_stats<E>(
    kind: CoinsHash,
    coins: impl Iterator<Item = Result<(OutPoint, Coin), E>>,
) -> Result<CoinsStats, E> {
    let mut stats = CoinsStats::default();
    let mut last: Option<Txid> = None;
    let mut hasher = SetHasher::new(kind);
    for item in coins {
        let (outpoint, coin) = item?;
        stats.transactions += u64::from(last.replace(outpoint.txid) != Some(outpoint.txid));
        stats.txouts += 1;
        stats.bogosize += bogosize(&coin.output.script_pubkey);
        stats.total_amount += coin.output.value.to_sat();
        hasher.add(&outpoint, &coin);
    }
    stats.hash = hasher.finish();
    Ok(stats)
}

enum SetHasher {
    Serialized(sha256::HashEngine, Vec<u8>),
    MuHash(Box<MuHash>, Vec<Vec<u8>>),
    None,
}

impl SetHasher {
    fn new(kind: CoinsHash) -> Self {
        match kind {
            CoinsHash::Serialized => Self::Serialized(sha256d::Hash::engine(), Vec::new()),
            CoinsHash::MuHash => Self::MuHash(Box::default(), Vec::new()),
            CoinsHash::None => Self::None,
        }
    }

    fn add(&mut self, outpoint: &OutPoint, coin: &Coin) {
        match self {
            Self::Serialized(engine, buffer) => {
                buffer.clear();
                serialize(buffer, outpoint, coin);
                engine.input(buffer);
            }
            Self::MuHash(hash, pending) => {
                pending.push(coin_element(outpoint, coin));
                if pending.len() >= CHUNK * rayon::current_num_threads() {
                    Self::multiply(hash, pending);
                }
            }
            Self::None => {}
        }
    }

    fn multiply(hash: &mut MuHash, pending: &mut Vec<Vec<u8>>) {
        *hash = std::mem::take(hash).union(&product(pending));
        pending.clear();
    }

    fn finish(self) -> Option<[u8; 32]> {
        match self {
            Self::Serialized(engine, _) => Some(sha256d::Hash::from_engine(engine).to_byte_array()),
            Self::MuHash(mut hash, mut pending) => {
                Self::multiply(&mut hash, &mut pending);
                Some(hash.finalize())
            }
            Self::None => None,
        }
    }
}

/// Core's measure of a coin with this script, in bytes (`GetBogoSize`).
fn bogosize(script: &Script) -> u64 {
    BOGOSIZE_FIXED + script.len() as u64
}

/// The hash of these elements, computed on all cores.
fn product(elements: &[Vec<u8>]) -> MuHash {
    let of_chunk = |chunk: &[Vec<u8>]| {
        let mut hash = MuHash::new();
        chunk.iter().for_each(|element| hash.insert(element));
        hash
    };
    elements.par_chunks(CHUNK).map(of_chunk).reduce(MuHash::new, |a, b| a.union(&b))
}

/// What a coin is in the hash of a set (Core: `TxOutSer`).
pub fn coin_element(outpoint: &OutPoint, coin: &Coin) -> Vec<u8> {
    let mut element = Vec::with_capacity(60);
    serialize(&mut element, outpoint, coin);
    element
}

/// Core: `TxOutSer`.
fn serialize(buffer: &mut Vec<u8>, outpoint: &OutPoint, coin: &Coin) {
    let code = coin.height << 1 | u32::from(coin.is_coinbase);
    let written = outpoint
        .consensus_encode(buffer)
        .and_then(|_| code.consensus_encode(buffer))
        .and_then(|_| coin.output.consensus_encode(buffer));
    written.expect("writing to memory does not fail");
}
