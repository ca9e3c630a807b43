//! When a transaction may be in a block: absolute lock times (BIP 113) and relative ones (BIP 68).

use bitcoin::Transaction;
use bitcoin::transaction::Version;

/// Lock times from here on are seconds since 1970, those below are heights.
const LOCKTIME_THRESHOLD: u32 = 500_000_000;
const SEQUENCE_LOCKTIME_DISABLE_FLAG: u32 = 1 << 31;
const SEQUENCE_LOCKTIME_TYPE_FLAG: u32 = 1 << 22;
const SEQUENCE_LOCKTIME_MASK: u32 = 0xffff;
/// Time-based relative locks count in units of 512 seconds.
const SEQUENCE_LOCKTIME_GRANULARITY: u32 = 9;

/// Whether the transaction's lock time has passed at `height` and `median_time_past` of the parent (Core: `IsFinalTx`).
pub fn is_final(transaction: &Transaction, height: u32, median_time_past: u32) -> bool {
    let lock_time = transaction.lock_time.to_consensus_u32();
    if lock_time == 0 {
        return true;
    }
    let limit = if lock_time < LOCKTIME_THRESHOLD { height } else { median_time_past };
    lock_time < limit || transaction.input.iter().all(|input| input.sequence.is_final())
}

/// The last height and the last median time at which a transaction is still locked; −1 for no lock (Core: `LockPoints`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceLock {
    /// The transaction may only be in blocks above this height.
    pub min_height: i64,
    /// The parent's median time past must be above this.
    pub min_time: i64,
}

impl SequenceLock {
    /// No lock at all.
    pub const NONE: Self = Self { min_height: -1, min_time: -1 };

    /// The lock that BIP 68 gives the transaction, whose inputs spend coins made at `coin_heights` (in their order).
    /// `median_time_past` gives the median time of the block at a height of the chain that the transaction is to be in.
    pub fn of(transaction: &Transaction, coin_heights: &[u32], median_time_past: impl Fn(u32) -> u32) -> Self {
        let mut lock = Self::NONE;
        // The version is unsigned here: 0xffffffff is above 2 (Core: `CTransaction::version` is u32).
        if transaction.version.0.cast_unsigned() < Version::TWO.0.cast_unsigned() {
            return lock;
        }
        for (input, &coin_height) in transaction.input.iter().zip(coin_heights) {
            let sequence = input.sequence.to_consensus_u32();
            if sequence & SEQUENCE_LOCKTIME_DISABLE_FLAG != 0 {
                continue;
            }
            let value = i64::from(sequence & SEQUENCE_LOCKTIME_MASK);
            // One is subtracted, for a lock time names the last block or time that is too early.
            if sequence & SEQUENCE_LOCKTIME_TYPE_FLAG != 0 {
                let coin_time = i64::from(median_time_past(coin_height.saturating_sub(1)));
                lock.min_time = lock.min_time.max(coin_time + (value << SEQUENCE_LOCKTIME_GRANULARITY) - 1);
            } else {
                lock.min_height = lock.min_height.max(i64::from(coin_height) + value - 1);
            }
        }
        lock
    }

    /// Whether a block at `height`, whose parent has `median_time_past`, may hold the transaction.
    pub fn is_passed(&self, height: u32, median_time_past: u32) -> bool {
        self.min_height < i64::from(height) && self.min_time < i64::from(median_time_past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::absolute::LockTime;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Witness};

    fn transaction(version: i32, lock_time: u32, sequence: u32) -> Transaction {
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::new(),
        };
        let lock_time = LockTime::from_consensus(lock_time);
        Transaction { version: Version(version), lock_time, input: vec![input], output: vec![] }
    }

    #[test]
    fn absolute_locks_compare_with_height_or_median_time() {
        assert!(is_final(&transaction(1, 0, 0), 0, 0));
        assert!(!is_final(&transaction(1, 10, 0), 10, 0));
        assert!(is_final(&transaction(1, 10, 0), 11, 0));
        assert!(is_final(&transaction(1, 10, u32::MAX), 1, 0));
        assert!(!is_final(&transaction(1, LOCKTIME_THRESHOLD, 0), u32::MAX, LOCKTIME_THRESHOLD));
        assert!(is_final(&transaction(1, LOCKTIME_THRESHOLD, 0), 0, LOCKTIME_THRESHOLD + 1));
    }

    #[test]
    fn relative_locks_count_from_the_coin() {
        let lock = SequenceLock::of(&transaction(2, 0, 5), &[100], |_| 0);
        assert!(!lock.is_passed(104, 0));
        assert!(lock.is_passed(105, 0));
        let lock = SequenceLock::of(&transaction(2, 0, SEQUENCE_LOCKTIME_TYPE_FLAG | 2), &[100], |h| h * 10);
        assert!(!lock.is_passed(1_000, 990 + 1_023));
        assert!(lock.is_passed(1_000, 990 + 1_024));
    }

    #[test]
    fn version_one_and_the_disable_flag_switch_relative_locks_off() {
        assert_eq!(SequenceLock::of(&transaction(1, 0, 5), &[100], |_| 0), SequenceLock::NONE);
        assert_eq!(SequenceLock::of(&transaction(2, 0, 1 << 31 | 5), &[100], |_| 0), SequenceLock::NONE);
        assert_ne!(SequenceLock::of(&transaction(-1, 0, 5), &[100], |_| 0), SequenceLock::NONE);
    }
}
