//! Running one script on a stack (Bitcoin Core: `EvalScript`).
//!
//! The loop with its limits and conditionals is here; the opcodes are in `stack_op`, `arithmetic`, `crypto` and `locktime`.

mod arithmetic;
mod crypto;
mod locktime;
mod stack_op;

use super::opcode::{
    Instruction, Instructions, MAX_OPS_PER_SCRIPT, MAX_SCRIPT_ELEMENT_SIZE, MAX_SCRIPT_SIZE, MAX_STACK_SIZE,
    is_disabled, op, small_number,
};
use super::sighash::{Midstates, TaprootSpend, TransactionCache};
use super::stack::{Item, Stack};
use super::tapscript::Tapscript;
use super::{ScriptError, ScriptFlags};

/// The input that a script may spend, if it runs for one.
#[derive(Clone, Copy)]
pub(super) struct Spend<'c> {
    pub cache: &'c TransactionCache<'c>,
    pub input_index: usize,
}

/// Whose rules a script runs under.
pub(super) enum SigVersion {
    /// Bare scripts and redeem scripts.
    Base,
    /// P2WPKH and P2WSH.
    WitnessV0,
    /// The script path of taproot, leaf version 0xc0.
    Tapscript(Tapscript),
}

/// Runs `script` on `stack`. Without a `spend` no signature is valid and no lock time is reached.
pub(super) fn evaluate<'s>(
    stack: &mut Stack<'s>,
    script: &'s [u8],
    flags: ScriptFlags,
    version: SigVersion,
    spend: Option<Spend<'_>>,
) -> Result<(), ScriptError> {
    if !matches!(version, SigVersion::Tapscript(_)) && script.len() > MAX_SCRIPT_SIZE {
        return Err(ScriptError::ScriptSize);
    }
    let interpreter = Interpreter {
        stack,
        script,
        flags,
        version,
        spend,
        altstack: Vec::new(),
        conditions: Conditions::default(),
        code_start: 0,
        op_count: 0,
        midstates: Midstates::default(),
    };
    interpreter.run()
}

struct Interpreter<'s, 'r> {
    stack: &'r mut Stack<'s>,
    script: &'s [u8],
    flags: ScriptFlags,
    version: SigVersion,
    spend: Option<Spend<'r>>,
    altstack: Vec<Item<'s>>,
    conditions: Conditions,
    /// Behind the last executed `OP_CODESEPARATOR`.
    code_start: usize,
    op_count: u32,
    midstates: Midstates<'s>,
}

impl<'s> Interpreter<'s, '_> {
    fn run(mut self) -> Result<(), ScriptError> {
        let mut instructions = Instructions::new(self.script);
        let mut opcode_position = 0;
        while let Some(instruction) = instructions.read()? {
            self.step(instruction, instructions.position(), opcode_position)?;
            opcode_position += 1;
        }
        if self.conditions.is_empty() { Ok(()) } else { Err(ScriptError::UnbalancedConditional) }
    }

    /// One instruction: the limits, the rules that hold even where it is not executed, then its effect.
    fn step(&mut self, instruction: Instruction<'s>, next: usize, opcode_position: u32) -> Result<(), ScriptError> {
        let opcode = instruction.opcode;
        if instruction.data.len() > MAX_SCRIPT_ELEMENT_SIZE {
            return Err(ScriptError::PushSize);
        }
        if opcode > op::NUMBER_16 && !matches!(self.version, SigVersion::Tapscript(_)) {
            self.count_operations(1)?;
        }
        if is_disabled(opcode) {
            return Err(ScriptError::DisabledOpcode);
        }
        if opcode == op::CODESEPARATOR
            && matches!(self.version, SigVersion::Base)
            && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE)
        {
            return Err(ScriptError::OpCodeSeparator);
        }

        let executed = self.conditions.all_true();
        if executed && opcode <= op::PUSHDATA4 {
            if self.requires_minimal() && !instruction.is_minimal_push() {
                return Err(ScriptError::MinimalData);
            }
            self.stack.push(Item::Borrowed(instruction.data));
        } else if (op::IF..=op::ENDIF).contains(&opcode) {
            self.conditional(opcode, executed)?;
        } else if executed {
            self.execute(opcode, next, opcode_position)?;
        }
        if self.stack.len() + self.altstack.len() > MAX_STACK_SIZE { Err(ScriptError::StackSize) } else { Ok(()) }
    }

    fn execute(&mut self, opcode: u8, next: usize, opcode_position: u32) -> Result<(), ScriptError> {
        match opcode {
            op::NEGATE_1 => self.stack.push(Item::Borrowed(&[0x81])),
            op::NUMBER_1..=op::NUMBER_16 => {
                let number = usize::from(small_number(opcode).unwrap_or_default());
                self.stack.push(Item::Borrowed(&SMALL_NUMBERS[number - 1..number]));
            }
            op::NOP => {}
            op::VERIFY => {
                if !self.stack.peek(1)?.is_true() {
                    return Err(ScriptError::Verify);
                }
                self.stack.pop()?;
            }
            op::RETURN => return Err(ScriptError::OpReturn),
            op::CHECKLOCKTIMEVERIFY => self.check_locktime_verify()?,
            op::CHECKSEQUENCEVERIFY => self.check_sequence_verify()?,
            op::NOP1 | op::NOP4..=op::NOP10 => {
                if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_NOPS) {
                    return Err(ScriptError::DiscourageUpgradableNops);
                }
            }
            op::TOALTSTACK..=op::TUCK => self.stack_op(opcode)?,
            op::SIZE | op::EQUAL | op::EQUALVERIFY => self.splice_op(opcode)?,
            op::ADD_1..=op::WITHIN => self.arithmetic(opcode)?,
            op::CODESEPARATOR => {
                self.code_start = next;
                if let SigVersion::Tapscript(tapscript) = &mut self.version {
                    tapscript.set_separator_position(opcode_position);
                }
            }
            op::RIPEMD160..=op::HASH256 => self.hash(opcode)?,
            op::CHECKSIG..=op::CHECKMULTISIGVERIFY | op::CHECKSIGADD => self.check_signatures(opcode)?,
            _ => return Err(ScriptError::BadOpcode),
        }
        Ok(())
    }

    /// `OP_IF` … `OP_ENDIF`; in a branch that is not taken they only keep the count, but `OP_VERIF` fails even there.
    fn conditional(&mut self, opcode: u8, executed: bool) -> Result<(), ScriptError> {
        match opcode {
            op::IF | op::NOTIF => {
                let mut taken = false;
                if executed {
                    self.check_minimal_if()?;
                    taken = self.stack.pop()?.is_true() == (opcode == op::IF);
                }
                self.conditions.push(taken);
                Ok(())
            }
            op::ELSE => self.conditions.toggle(),
            op::ENDIF => self.conditions.pop(),
            _ => Err(ScriptError::BadOpcode),
        }
    }

    fn check_minimal_if(&self) -> Result<(), ScriptError> {
        let minimal = matches!(self.stack.peek(1)?.bytes(), [] | [1]);
        match self.version {
            SigVersion::Tapscript(_) if !minimal => Err(ScriptError::TapscriptMinimalIf),
            SigVersion::WitnessV0 if !minimal && self.flags.contains(ScriptFlags::MINIMALIF) => {
                Err(ScriptError::MinimalIf)
            }
            _ => Ok(()),
        }
    }

    fn count_operations(&mut self, count: u32) -> Result<(), ScriptError> {
        self.op_count += count;
        if self.op_count > MAX_OPS_PER_SCRIPT { Err(ScriptError::OpCount) } else { Ok(()) }
    }

    fn requires_minimal(&self) -> bool {
        self.flags.contains(ScriptFlags::MINIMALDATA)
    }

    fn pop_number(&mut self) -> Result<i64, ScriptError> {
        let number = self.stack.number(1, self.requires_minimal())?;
        self.stack.pop()?;
        Ok(number)
    }
}

const SMALL_NUMBERS: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// The branches that execution is in. Only whether all of them are taken matters, so their number and the outermost one
/// that is not taken are enough.
#[derive(Default)]
struct Conditions {
    depth: usize,
    first_false: Option<usize>,
}

impl Conditions {
    fn is_empty(&self) -> bool {
        self.depth == 0
    }

    fn all_true(&self) -> bool {
        self.first_false.is_none()
    }

    fn push(&mut self, taken: bool) {
        if !taken && self.first_false.is_none() {
            self.first_false = Some(self.depth);
        }
        self.depth += 1;
    }

    fn pop(&mut self) -> Result<(), ScriptError> {
        self.depth = self.depth.checked_sub(1).ok_or(ScriptError::UnbalancedConditional)?;
        if self.first_false == Some(self.depth) {
            self.first_false = None;
        }
        Ok(())
    }

    fn toggle(&mut self) -> Result<(), ScriptError> {
        let top = self.depth.checked_sub(1).ok_or(ScriptError::UnbalancedConditional)?;
        match self.first_false {
            None => self.first_false = Some(top),
            Some(first) if first == top => self.first_false = None,
            Some(_) => {} // within a branch that is not taken
        }
        Ok(())
    }
}

impl SigVersion {
    /// What a signature check in a tapscript commits to; `None` in older scripts.
    fn taproot(&self) -> Option<&TaprootSpend> {
        match self {
            Self::Tapscript(tapscript) => Some(tapscript.spend()),
            Self::Base | Self::WitnessV0 => None,
        }
    }
}
