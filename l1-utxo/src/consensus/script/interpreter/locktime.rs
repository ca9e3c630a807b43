//! `OP_CHECKLOCKTIMEVERIFY` (BIP 65) and `OP_CHECKSEQUENCEVERIFY` (BIP 112): the spending transaction must be locked at
//! least as long as the script asks.

use super::super::number::{self, LOCKTIME_SIZE};
use super::super::{ScriptError, ScriptFlags};
use super::{Interpreter, Spend};

/// From here on a lock time is a time, below it a height.
const LOCKTIME_THRESHOLD: i64 = 500_000_000;
const SEQUENCE_FINAL: u32 = 0xffff_ffff;
const SEQUENCE_DISABLE_FLAG: u32 = 1 << 31;
/// Set where a relative lock counts units of 512 s, not blocks.
const SEQUENCE_TYPE_FLAG: u32 = 1 << 22;
const SEQUENCE_MASK: u32 = SEQUENCE_TYPE_FLAG | 0xffff;

impl Interpreter<'_, '_> {
    pub(super) fn check_locktime_verify(&self) -> Result<(), ScriptError> {
        if !self.flags.contains(ScriptFlags::CHECKLOCKTIMEVERIFY) {
            return Ok(()); // still OP_NOP2
        }
        let lock_time = self.locktime_operand()?;
        if self.spend.is_some_and(|spend| spend.reaches_locktime(lock_time)) {
            Ok(())
        } else {
            Err(ScriptError::UnsatisfiedLocktime)
        }
    }

    pub(super) fn check_sequence_verify(&self) -> Result<(), ScriptError> {
        if !self.flags.contains(ScriptFlags::CHECKSEQUENCEVERIFY) {
            return Ok(()); // still OP_NOP3
        }
        let sequence = self.locktime_operand()?;
        if sequence & i64::from(SEQUENCE_DISABLE_FLAG) != 0 {
            return Ok(()); // free for a meaning to come
        }
        if self.spend.is_some_and(|spend| spend.reaches_sequence(sequence)) {
            Ok(())
        } else {
            Err(ScriptError::UnsatisfiedLocktime)
        }
    }

    /// The number on top, which stays there.
    fn locktime_operand(&self) -> Result<i64, ScriptError> {
        let operand = number::decode(self.stack.peek(1)?.bytes(), self.requires_minimal(), LOCKTIME_SIZE)?;
        if operand < 0 { Err(ScriptError::NegativeLocktime) } else { Ok(operand) }
    }
}

impl Spend<'_> {
    fn reaches_locktime(&self, wanted: i64) -> bool {
        let transaction = self.cache.transaction();
        let lock_time = i64::from(transaction.lock_time.to_consensus_u32());
        (lock_time < LOCKTIME_THRESHOLD) == (wanted < LOCKTIME_THRESHOLD)
            && wanted <= lock_time
            // A final input would switch the transaction's lock time off.
            && transaction.input[self.input_index].sequence.0 != SEQUENCE_FINAL
    }

    fn reaches_sequence(&self, wanted: i64) -> bool {
        let transaction = self.cache.transaction();
        let sequence = transaction.input[self.input_index].sequence.0;
        // BIP 68 applies from version 2 on, read without a sign.
        if (transaction.version.0 as u32) < 2 || sequence & SEQUENCE_DISABLE_FLAG != 0 {
            return false;
        }
        let (sequence, wanted) = (i64::from(sequence & SEQUENCE_MASK), wanted & i64::from(SEQUENCE_MASK));
        let type_flag = i64::from(SEQUENCE_TYPE_FLAG);
        (sequence < type_flag) == (wanted < type_flag) && wanted <= sequence
    }
}
