//! Opcodes on numbers. Operands have at most 4 bytes, so no result overflows 64 bits.

use super::super::ScriptError;
use super::super::number;
use super::super::opcode::op;
use super::Interpreter;

impl Interpreter<'_, '_> {
    /// `OP_1ADD` … `OP_WITHIN`.
    pub(super) fn arithmetic(&mut self, opcode: u8) -> Result<(), ScriptError> {
        match opcode {
            op::ADD_1..=op::NOTEQUAL_0 => self.unary(opcode),
            op::WITHIN => self.within(),
            _ => self.binary(opcode),
        }
    }

    fn unary(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let operand = self.pop_number()?;
        let result = match opcode {
            op::ADD_1 => operand + 1,
            op::SUB_1 => operand - 1,
            op::NEGATE => -operand,
            op::ABS => operand.abs(),
            op::NOT => i64::from(operand == 0),
            op::NOTEQUAL_0 => i64::from(operand != 0),
            _ => return Err(ScriptError::BadOpcode),
        };
        self.stack.push(number::encode(result));
        Ok(())
    }

    fn binary(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let a = self.stack.number(2, self.requires_minimal())?;
        let b = self.stack.number(1, self.requires_minimal())?;
        let result = match opcode {
            op::ADD => a + b,
            op::SUB => a - b,
            op::BOOLAND => i64::from(a != 0 && b != 0),
            op::BOOLOR => i64::from(a != 0 || b != 0),
            op::NUMEQUAL | op::NUMEQUALVERIFY => i64::from(a == b),
            op::NUMNOTEQUAL => i64::from(a != b),
            op::LESSTHAN => i64::from(a < b),
            op::GREATERTHAN => i64::from(a > b),
            op::LESSTHANOREQUAL => i64::from(a <= b),
            op::GREATERTHANOREQUAL => i64::from(a >= b),
            op::MIN => a.min(b),
            op::MAX => a.max(b),
            _ => return Err(ScriptError::BadOpcode),
        };
        self.stack.drop(2)?;
        if opcode == op::NUMEQUALVERIFY {
            return if result == 1 { Ok(()) } else { Err(ScriptError::NumEqualVerify) };
        }
        self.stack.push(number::encode(result));
        Ok(())
    }

    fn within(&mut self) -> Result<(), ScriptError> {
        let value = self.stack.number(3, self.requires_minimal())?;
        let low = self.stack.number(2, self.requires_minimal())?;
        let high = self.stack.number(1, self.requires_minimal())?;
        self.stack.drop(3)?;
        self.stack.push_bool((low..high).contains(&value));
        Ok(())
    }
}
