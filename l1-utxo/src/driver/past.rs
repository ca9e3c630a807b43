//! The coins at an earlier block: those of now, with what later blocks did undone in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoin::hashes::Hash;

use super::{Handle, LedgerError, ReportError, Tip};
use crate::chain::{BlockId, BlockUndo, Coin};
use crate::consensus::HashedBlock;
use crate::store::{CoinsSnapshot, StoreError};

/// Blocks that are read in one turn of the validation thread.
const STEP: usize = 16;

/// An outpoint in the order of the store.
type Key = ([u8; 32], u32);

fn key(outpoint: &OutPoint) -> Key {
    (outpoint.txid.to_byte_array(), outpoint.vout)
}

/// All coins at a block, to be walked through on any thread.
pub struct CoinsAt {
    /// The block.
    pub tip: Tip,
    /// Transactions in its chain.
    pub transactions: u64,
    snapshot: CoinsSnapshot,
    /// What is otherwise than in the snapshot: coins that were there, `None` for those that were not yet.
    changed: BTreeMap<Key, (OutPoint, Option<Coin>)>,
}

impl CoinsAt {
    /// The coins, ordered by transaction id as bytes, then by output index.
    pub fn iter(&self) -> impl Iterator<Item = Result<(OutPoint, Coin), StoreError>> + '_ {
        let mut stored = self.snapshot.iter().peekable();
        let mut changed = self.changed.iter().peekable();
        std::iter::from_fn(move || {
            loop {
                let of_stored =
                    stored.peek().map(|item| item.as_ref().map_or(Key::default(), |(outpoint, _)| key(outpoint)));
                let of_changed = changed.peek().map(|(key, _)| **key);
                match (of_stored, of_changed) {
                    (Some(one), Some(other)) if one < other => return stored.next(),
                    (_, None) => return stored.next(),
                    (one, other) => {
                        if one == other {
                            stored.next();
                        }
                        let (_, (outpoint, coin)) = changed.next()?;
                        if let Some(coin) = coin {
                            return Some(Ok((*outpoint, coin.clone())));
                        }
                    }
                }
            }
        })
    }

    /// Undoes the block above.
    fn undo(&mut self, block: &HashedBlock, undo: &BlockUndo) {
        let transactions = block.transactions().iter().zip(block.txids()).enumerate();
        for (place, (transaction, txid)) in transactions.rev() {
            for vout in (0u32..).take(transaction.output.len()) {
                let outpoint = OutPoint { txid: *txid, vout };
                self.changed.insert(key(&outpoint), (outpoint, None));
            }
            let coins = place.checked_sub(1).and_then(|place| undo.spent.get(place)).map_or(&[][..], Vec::as_slice);
            for (input, coin) in transaction.input.iter().zip(coins) {
                let outpoint = input.previous_output;
                self.changed.insert(key(&outpoint), (outpoint, Some(coin.clone())));
            }
        }
    }
}

impl Handle {
    /// The coins at a block of the active chain, or now; `None` if the block is on another branch. Takes memory for every
    /// coin that later blocks made or spent.
    pub async fn coins_at(&self, at: Option<BlockId>) -> Result<Option<CoinsAt>, ReportError> {
        let begin = self.run(move |ledger| {
            ledger.flush()?;
            let chain = ledger.chain();
            let tip = chain.tip();
            let base = at.unwrap_or(tip);
            let entry = chain.entry(base);
            let later = chain.index().ancestors(Some(tip)).take_while(|id| *id != base);
            let later: Vec<BlockId> = if chain.is_active(base) { later.collect() } else { return Ok(None) };
            let coins = CoinsAt {
                tip: Tip { height: entry.height, hash: entry.hash },
                transactions: entry.chain_transaction_count,
                snapshot: ledger.coins_snapshot(),
                changed: BTreeMap::new(),
            };
            Ok::<_, LedgerError>(Some((coins, later)))
        });
        let Some((mut coins, later)) = begin.await?? else { return Ok(None) };
        for some in later.chunks(STEP) {
            let ids = some.to_vec();
            let read = self.run(move |ledger| {
                let read = |id: &BlockId| Ok::<_, LedgerError>((ledger.read_block(*id)?, ledger.read_undo(*id)?));
                ids.iter().map(read).collect::<Result<Vec<(Arc<HashedBlock>, BlockUndo)>, _>>()
            });
            read.await??.iter().for_each(|(block, undo)| coins.undo(block, undo));
        }
        Ok(Some(coins))
    }
}
