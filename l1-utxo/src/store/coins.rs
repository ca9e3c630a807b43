//! Flushed coins: look-ups, and a snapshot to walk through.

use bitcoin::OutPoint;
use fjall::{Keyspace, Readable, Snapshot};

use super::{Store, StoreError, codec};
use crate::chain::{Coin, CoinView};

impl Store {
    fn read_coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        let Some(value) = self.rows.get(codec::coin_key(outpoint))? else { return Ok(None) };
        Ok(Some(codec::decode_coin(&value)?))
    }

    /// The coins as they were flushed last, to be read from any thread while the chain goes on.
    pub fn coins_snapshot(&self) -> CoinsSnapshot {
        CoinsSnapshot { snapshot: self.database.snapshot(), rows: self.rows.clone() }
    }
}

// A coin that cannot be read is neither there nor not there: the process stops rather than make up a chain.
impl CoinView for Store {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.read_coin(outpoint).unwrap_or_else(|error| panic!("coin {outpoint} cannot be read: {error}"))
    }

    fn has_coin(&self, outpoint: &OutPoint) -> bool {
        let found = self.rows.contains_key(codec::coin_key(outpoint));
        found.unwrap_or_else(|error| panic!("coin {outpoint} cannot be read: {error}"))
    }
}

/// All flushed coins at one moment.
pub struct CoinsSnapshot {
    snapshot: Snapshot,
    rows: Keyspace,
}

impl CoinsSnapshot {
    /// The coins, ordered by transaction id as bytes, then by output index.
    pub fn iter(&self) -> impl Iterator<Item = Result<(OutPoint, Coin), StoreError>> + '_ {
        self.snapshot.prefix(&self.rows, [codec::COINS]).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((codec::decode_coin_key(&key)?, codec::decode_coin(&value)?))
        })
    }

    /// Bytes that the database takes on disk, nearly.
    pub fn disk_size(&self) -> u64 {
        self.rows.disk_space()
    }
}
