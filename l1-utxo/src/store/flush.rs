//! Flushes: coins, index rows and the name of the best block go into the database at once or not at all, once the log is
//! synced. Few of them are a batch of its journal. Many are sorted and written as a table of their own, which the database
//! then takes in: they never lie in its journal or its memory, and cost half the processor time. Core: `BatchWrite`.

use bitcoin::OutPoint;
use bitcoin::hashes::Hash;
use fjall::PersistMode;
use rayon::prelude::*;

use super::{KEPT_FLUSHES, Store, StoreError, codec};
use crate::chain::{CoinsCache, Dirty};

/// Key and value; `None`: the row goes.
type Row = (Vec<u8>, Option<Vec<u8>>);

impl Store {
    /// Makes durable what the chain has not flushed: first blocks and undo data, then all else in one atomic batch.
    pub fn commit(&mut self, dirty: &Dirty<'_>) -> Result<(), StoreError> {
        self.log.sync()?;
        let rows = self.rows_beside_coins(dirty);
        let coins = dirty.coins.dirty_count();
        if coins >= self.table_from {
            self.ingest(dirty.coins, rows)?;
        } else {
            self.insert(dirty.coins, rows)?;
        }
        self.flushes += 1;
        tracing::debug!(coins, blocks = dirty.rows.len(), best = %dirty.best_block, "flushed");
        Ok(())
    }

    /// What a flush writes beside the coins, in the order of the keys, which all come after those of coins.
    fn rows_beside_coins(&self, dirty: &Dirty<'_>) -> Vec<Row> {
        let (segment, offset) = self.log.end();
        let mut rows: Vec<Row> =
            dirty.rows.iter().map(|row| (codec::row_key(row).to_vec(), Some(codec::encode_row(row)))).collect();
        rows.push((codec::BEST_BLOCK.to_vec(), Some(dirty.best_block.as_byte_array().to_vec())));
        rows.push((codec::LOG_END.to_vec(), Some(codec::encode_log_end(segment, offset))));
        rows.push((codec::flush_key(self.flushes + 1).to_vec(), Some(Vec::new())));
        if let Some(old) = self.flushes.checked_sub(KEPT_FLUSHES) {
            rows.push((codec::flush_key(old).to_vec(), None));
        }
        rows.sort_unstable();
        rows
    }

    fn insert(&self, coins: &CoinsCache, rows: Vec<Row>) -> Result<(), StoreError> {
        let capacity = coins.dirty_count() + rows.len();
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), capacity)
            .durability(Some(PersistMode::SyncData));
        for (outpoint, coin) in coins.dirty() {
            match coin {
                Some(coin) => batch.insert(&self.rows, codec::coin_key(outpoint), codec::encode_coin(coin)),
                None => batch.remove(&self.rows, codec::coin_key(outpoint)),
            }
        }
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn ingest(&self, coins: &CoinsCache, rows: Vec<Row>) -> Result<(), StoreError> {
        let mut changed: Vec<&OutPoint> = coins.dirty().map(|(outpoint, _)| outpoint).collect();
        // The order of the keys: the transaction's id as bytes, then the index.
        changed.par_sort_unstable_by(|one, other| {
            one.txid.as_byte_array().cmp(other.txid.as_byte_array()).then(one.vout.cmp(&other.vout))
        });
        let mut table = self.rows.start_ingestion()?;
        for outpoint in changed {
            match coins.get(outpoint).flatten() {
                Some(coin) => table.write(codec::coin_key(outpoint), codec::encode_coin(coin))?,
                None => table.write_tombstone(codec::coin_key(outpoint))?,
            }
        }
        for (key, value) in rows {
            match value {
                Some(value) => table.write(key, value)?,
                None => table.write_tombstone(key)?,
            }
        }
        Ok(table.finish()?)
    }
}
