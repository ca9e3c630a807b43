//! What the owner may have looked up besides: block filters (BIP 158) and where transactions are. Kept beside the coins, a
//! few blocks behind at worst, and made again from blocks where it is missing. Core: `index/`.

use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Txid};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};

use super::{Malformed, Store, StoreError};
use crate::chain::BlockUndo;

/// The row that names the last block in the index.
const BEST: &[u8] = b"best";
/// Before a block's hash: its filter.
const FILTER: u8 = b'f';
/// Before a block's hash: the header and the hash of its filter.
const FILTER_HEADER: u8 = b'h';
/// Before a txid: the hash of its block and its place there.
const TRANSACTION: u8 = b't';

/// Which indexes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// Basic block filters.
    pub filters: bool,
    /// Where every transaction is.
    pub transactions: bool,
}

impl Indexes {
    /// Whether there is any.
    pub const fn any(self) -> bool {
        self.filters || self.transactions
    }

    /// Each combination is a keyspace of its own: one that was off for a while has holes.
    const fn name(self) -> &'static str {
        match (self.filters, self.transactions) {
            (true, true) => "block_filters_and_transactions",
            (true, false) => "block_filters",
            _ => "transactions",
        }
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
}

impl Store {
    /// Opens the indexes; nothing if none is wanted.
    pub fn open_indexes(&self, kinds: Indexes) -> Result<Option<IndexStore>, StoreError> {
        if !kinds.any() {
            return Ok(None);
        }
        let rows =
            self.database.keyspace(kinds.name(), || KeyspaceCreateOptions::default().max_memtable_size(4 << 20))?;
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
                    let value = [indexed.hash.as_byte_array().as_slice(), &place.to_le_bytes()].concat();
                    batch.insert(&self.rows, key(TRANSACTION, txid.as_byte_array()), value);
                }
            }
        }
        batch.insert(&self.rows, BEST, last.hash.as_byte_array());
        Ok(batch.commit()?)
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
        let Some(row) = self.rows.get(key(TRANSACTION, txid.as_byte_array()))? else { return Ok(None) };
        let (hash, place) = row.split_first_chunk::<32>().ok_or(Malformed("transaction index"))?;
        let place = place.try_into().map_err(|_| Malformed("transaction index"))?;
        Ok(Some((BlockHash::from_byte_array(*hash), u32::from_le_bytes(place) as usize)))
    }
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
