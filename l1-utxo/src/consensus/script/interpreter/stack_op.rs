//! Opcodes that move, copy, measure and compare elements.

use super::super::ScriptError;
use super::super::number;
use super::super::opcode::op;
use super::Interpreter;

impl Interpreter<'_, '_> {
    /// `OP_TOALTSTACK` … `OP_TUCK`.
    pub(super) fn stack_op(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let stack = &mut *self.stack;
        match opcode {
            op::TOALTSTACK => {
                let item = stack.pop()?;
                self.altstack.push(item);
                Ok(())
            }
            op::FROMALTSTACK => {
                let item = self.altstack.pop().ok_or(ScriptError::InvalidAltstackOperation)?;
                stack.push(item);
                Ok(())
            }
            op::DROP_2 => stack.drop(2),
            op::DUP_2 => stack.copy(2, 2),
            op::DUP_3 => stack.copy(3, 3),
            op::OVER_2 => stack.copy(4, 2),
            op::ROT_2 => stack.rotate(6, 2),
            op::SWAP_2 => stack.rotate(4, 2),
            op::IFDUP if !stack.peek(1)?.is_true() => Ok(()),
            op::IFDUP | op::DUP => stack.copy(1, 1),
            op::DEPTH => {
                let depth = stack.len();
                stack.push(number::encode(depth as i64));
                Ok(())
            }
            op::DROP => stack.drop(1),
            op::NIP => stack.remove(2).map(drop),
            op::OVER => stack.copy(2, 1),
            op::PICK | op::ROLL => self.pick(opcode == op::ROLL),
            op::ROT => stack.rotate(3, 1),
            op::SWAP => stack.rotate(2, 1),
            op::TUCK => stack.tuck(),
            _ => Err(ScriptError::BadOpcode),
        }
    }

    fn pick(&mut self, and_remove: bool) -> Result<(), ScriptError> {
        self.stack.require(2)?;
        let number = self.pop_number()?;
        let depth = usize::try_from(number).map_err(|_| ScriptError::InvalidStackOperation)? + 1;
        if and_remove {
            let item = self.stack.remove(depth)?;
            self.stack.push(item);
            Ok(())
        } else {
            self.stack.copy(depth, 1)
        }
    }

    /// `OP_SIZE`, `OP_EQUAL`, `OP_EQUALVERIFY`.
    pub(super) fn splice_op(&mut self, opcode: u8) -> Result<(), ScriptError> {
        if opcode == op::SIZE {
            let size = self.stack.peek(1)?.bytes().len();
            self.stack.push(number::encode(size as i64));
            return Ok(());
        }
        let equal = self.stack.peek(2)?.bytes() == self.stack.peek(1)?.bytes();
        self.stack.drop(2)?;
        match opcode {
            op::EQUAL => self.stack.push_bool(equal),
            _ if !equal => return Err(ScriptError::EqualVerify),
            _ => {}
        }
        Ok(())
    }
}
