//! What the owner may have looked up besides: block filters (BIP 158), where transactions are, who spent an output, and
//! statistics of the coins at every block. Kept beside the coins, a few blocks behind at worst, and made again from blocks
//! where it is missing. Core: `index/`.

mod totals;

use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, TxIn, Txid};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};

use super::{Malformed, Store, StoreError};
use crate::chain::{BlockUndo, CoinTotals};

/// The row that names the last block in the index.
const BEST: &[u8] = b"best";
/// Before a block's hash: its filter.
const FILTER: u8 = b'f';
/// Before a block's hash: the header and the hash of its filter.
const FILTER_HEADER: u8 = b'h';
/// Before a txid: the hash of its block and its place there.
const TRANSACTION: u8 = b't';
/// Before an outpoint: the hash of the block that spends it, and the spending transaction's place there.
const SPENDER: u8 = b'o';
/// Before a block's hash: what was added up to it of the coins.
const TOTALS: u8 = b's';

/// Which indexes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// Basic block filters.
    pub filters: bool,
    /// Where every transaction is.
    pub transactions: bool,
    /// Statistics of the coins at every block.
    pub coin_stats: bool,
    /// Who spent which output.
    pub spenders: bool,
}

impl Indexes {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Each combination is a keyspace of its own: one that was off for a while has holes.
    fn name(self) -> String {
        let names = [
            (self.filters, "block_filters"),
            (self.transactions, "transactions"),
            (self.coin_stats, "coin_stats"),
            (self.spenders, "spenders"),
        ];
        let kept: Vec<&str> = names.into_iter().filter_map(|(kept, name)| kept.then_some(name)).collect();
        kept.join("_and_")
    }
}

/// The rows of the indexes that are kept.
pub struct IndexStore {
    kinds: Indexes,
    database: Database,
    rows: Keyspace,
}

/// A block that goes into the indexes.
pub struct IndexedBlock<'a> {
    /// The block.
    pub block: &'a Block,
    /// Its hash.
    pub hash: BlockHash,
    /// The hashes of its transactions.
    pub txids: &'a [Txid],
    /// What it spent; `None` for block 0.
    pub undo: Option<&'a BlockUndo>,
    /// Its height.
    pub height: u32,
    /// What it may create, in satoshi.
    pub subsidy: u64,
}

impl Store {
    /// Opens the indexes; nothing if none is wanted.
    pub fn open_indexes(&self, kinds: Indexes) -> Result<Option<IndexStore>, StoreError> {
        if !kinds.any() {
            return Ok(None);
        }
        let rows =
            self.database.keyspace(&kinds.name(), || KeyspaceCreateOptions::default().max_memtable_size(4 << 20))?;
        Ok(Some(IndexStore { kinds, database: self.database.clone(), rows }))
    }
}

impl IndexStore {
    /// Which these are.
    pub const fn kinds(&self) -> Indexes {
        self.kinds
    }

    /// The last block that went in.
    pub fn best(&self) -> Result<Option<BlockHash>, StoreError> {
        let Some(row) = self.rows.get(BEST)? else { return Ok(None) };
        Ok(Some(hash_of(&row)?))
    }

    /// Puts blocks in, each the next of the one before, in one batch.
    pub fn append(&self, blocks: &[IndexedBlock<'_>]) -> Result<(), StoreError> {
        let Some(last) = blocks.last() else { return Ok(()) };
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), blocks.len() * 3 + 1);
        let mut header: Option<(BlockHash, FilterHeader)> = None;
        let mut totals = None;
        for indexed in blocks {
            if self.kinds.filters {
                let parent = indexed.block.header.prev_blockhash;
                let previous = match header {
                    Some((hash, header)) if hash == parent => header,
                    _ => self.filter_header(&parent)?.map_or_else(FilterHeader::all_zeros, |(header, _)| header),
                };
                let filter = filter_of(indexed)?;
                let own = filter.filter_header(&previous);
                header = Some((indexed.hash, own));
                let hash = FilterHash::hash(&filter.content);
                let value = [*own.as_byte_array(), *hash.as_byte_array()].concat();
                batch.insert(&self.rows, key(FILTER_HEADER, indexed.hash.as_byte_array()), value);
                batch.insert(&self.rows, key(FILTER, indexed.hash.as_byte_array()), filter.content);
            }
            if self.kinds.transactions {
                for (place, txid) in (0u32..).zip(indexed.txids) {
                    batch.insert(&self.rows, key(TRANSACTION, txid.as_byte_array()), place_in(indexed, place));
                }
            }
            if self.kinds.spenders {
                for (place, input) in spends(indexed.block) {
                    batch.insert(&self.rows, spender_key(&input.previous_output), place_in(indexed, place));
                }
            }
            if self.kinds.coin_stats {
                let sum = self.totals_with(totals, indexed)?;
                batch.insert(&self.rows, key(TOTALS, indexed.hash.as_byte_array()), totals::encode(&sum));
                totals = Some(sum);
            }
        }
        batch.insert(&self.rows, BEST, last.hash.as_byte_array());
        Ok(batch.commit()?)
    }

    /// Takes the last block out again, which is none of the active chain any more. What is found by a block's hash stays:
    /// the branch may come back, and may be asked for.
    pub fn remove(&self, block: &Block) -> Result<(), StoreError> {
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), 1);
        if self.kinds.spenders {
            for (_, input) in spends(block) {
                batch.remove(&self.rows, spender_key(&input.previous_output));
            }
        }
        batch.insert(&self.rows, BEST, block.header.prev_blockhash.as_byte_array());
        Ok(batch.commit()?)
    }

    fn totals_with(&self, last: Option<CoinTotals>, next: &IndexedBlock<'_>) -> Result<CoinTotals, StoreError> {
        let mut totals = match last {
            Some(last) => last,
            None if next.height == 0 => CoinTotals::default(),
            None => self.totals(&next.block.header.prev_blockhash)?.ok_or(Malformed("coin statistics"))?,
        };
        let nothing = BlockUndo::default();
        totals.connect(next.block, next.txids, next.undo.unwrap_or(&nothing), next.height, next.subsidy);
        Ok(totals)
    }

    /// A block's filter as BIP 158 encodes it.
    pub fn filter(&self, block: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key(FILTER, block.as_byte_array()))?.map(|row| row.to_vec()))
    }

    /// The header of the chain of filters that ends with a block's, and the hash of that filter.
    pub fn filter_header(&self, block: &BlockHash) -> Result<Option<(FilterHeader, FilterHash)>, StoreError> {
        let Some(row) = self.rows.get(key(FILTER_HEADER, block.as_byte_array()))? else { return Ok(None) };
        let (header, hash) = row.split_first_chunk::<32>().ok_or(Malformed("block filter"))?;
        let hash = hash.try_into().map_err(|_| Malformed("block filter"))?;
        Ok(Some((FilterHeader::from_byte_array(*header), FilterHash::from_byte_array(hash))))
    }

    /// The block of a transaction, and its place there.
    pub fn transaction(&self, txid: &Txid) -> Result<Option<(BlockHash, usize)>, StoreError> {
        self.place(&key(TRANSACTION, txid.as_byte_array()))
    }

    /// The block that spends an output, and the spending transaction's place there.
    pub fn spender(&self, outpoint: &OutPoint) -> Result<Option<(BlockHash, usize)>, StoreError> {
        self.place(&spender_key(outpoint))
    }

    /// What the coins at a block are, if it was ever in the active chain.
    pub fn totals(&self, block: &BlockHash) -> Result<Option<CoinTotals>, StoreError> {
        let row = self.rows.get(key(TOTALS, block.as_byte_array()))?;
        Ok(row.map(|row| totals::decode(&row)).transpose()?)
    }

    fn place(&self, key: &[u8]) -> Result<Option<(BlockHash, usize)>, StoreError> {
        let Some(row) = self.rows.get(key)? else { return Ok(None) };
        let (hash, place) = row.split_first_chunk::<32>().ok_or(Malformed("transaction index"))?;
        let place = place.try_into().map_err(|_| Malformed("transaction index"))?;
        Ok(Some((BlockHash::from_byte_array(*hash), u32::from_le_bytes(place) as usize)))
    }
}

fn place_in(indexed: &IndexedBlock<'_>, place: u32) -> Vec<u8> {
    [indexed.hash.as_byte_array().as_slice(), &place.to_le_bytes()].concat()
}

/// All inputs but the coinbase's, with the place of their transaction.
fn spends(block: &Block) -> impl Iterator<Item = (u32, &TxIn)> {
    (0u32..).zip(&block.txdata).skip(1).flat_map(|(place, spend)| spend.input.iter().map(move |input| (place, input)))
}

fn spender_key(outpoint: &OutPoint) -> [u8; 37] {
    let mut key = [SPENDER; 37];
    key[1..33].copy_from_slice(outpoint.txid.as_byte_array());
    key[33..].copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}

fn key(kind: u8, hash: &[u8; 32]) -> [u8; 33] {
    let mut key = [kind; 33];
    key[1..].copy_from_slice(hash);
    key
}

fn hash_of(row: &[u8]) -> Result<BlockHash, Malformed> {
    row.try_into().map(BlockHash::from_byte_array).map_err(|_| Malformed("index"))
}

/// Every output's script but OP_RETURN's, and every script that is spent.
fn filter_of(indexed: &IndexedBlock<'_>) -> Result<BlockFilter, StoreError> {
    let spends = indexed.block.txdata.iter().skip(1).flat_map(|transaction| &transaction.input);
    let coins = indexed.undo.iter().flat_map(|undo| undo.spent.iter().flatten());
    let scripts: std::collections::HashMap<OutPoint, &ScriptBuf> =
        spends.zip(coins).map(|(input, coin)| (input.previous_output, &coin.output.script_pubkey)).collect();
    let script = |outpoint: &OutPoint| {
        let found = scripts.get(outpoint).map(|script| (*script).clone());
        found.ok_or(bitcoin::bip158::Error::UtxoMissing(*outpoint))
    };
    BlockFilter::new_script_filter(indexed.block, script).map_err(|_| Malformed("undo data").into())
}
