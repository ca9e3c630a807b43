//! Opcodes, and how a script's bytes are read as instructions (Bitcoin Core: `script.h`, `script.cpp`).

use super::ScriptError;

// Limits (`script.h`).
pub(super) const MAX_SCRIPT_SIZE: usize = 10_000;
pub(super) const MAX_SCRIPT_ELEMENT_SIZE: usize = 520;
pub(super) const MAX_OPS_PER_SCRIPT: u32 = 201;
pub(super) const MAX_PUBKEYS_PER_MULTISIG: u32 = 20;
pub(super) const MAX_STACK_SIZE: usize = 1_000;

/// Names the opcodes, as in Core, without `OP_`.
#[allow(missing_docs)]
pub mod op {
    pub const PUSHBYTES_0: u8 = 0x00;
    pub const PUSHDATA1: u8 = 0x4c;
    pub const PUSHDATA2: u8 = 0x4d;
    pub const PUSHDATA4: u8 = 0x4e;
    pub const NEGATE_1: u8 = 0x4f;
    pub const RESERVED: u8 = 0x50;
    pub const NUMBER_1: u8 = 0x51;
    pub const NUMBER_16: u8 = 0x60;

    pub const NOP: u8 = 0x61;
    pub const IF: u8 = 0x63;
    pub const NOTIF: u8 = 0x64;
    pub const ELSE: u8 = 0x67;
    pub const ENDIF: u8 = 0x68;
    pub const VERIFY: u8 = 0x69;
    pub const RETURN: u8 = 0x6a;

    pub const TOALTSTACK: u8 = 0x6b;
    pub const FROMALTSTACK: u8 = 0x6c;
    pub const DROP_2: u8 = 0x6d;
    pub const DUP_2: u8 = 0x6e;
    pub const DUP_3: u8 = 0x6f;
    pub const OVER_2: u8 = 0x70;
    pub const ROT_2: u8 = 0x71;
    pub const SWAP_2: u8 = 0x72;
    pub const IFDUP: u8 = 0x73;
    pub const DEPTH: u8 = 0x74;
    pub const DROP: u8 = 0x75;
    pub const DUP: u8 = 0x76;
    pub const NIP: u8 = 0x77;
    pub const OVER: u8 = 0x78;
    pub const PICK: u8 = 0x79;
    pub const ROLL: u8 = 0x7a;
    pub const ROT: u8 = 0x7b;
    pub const SWAP: u8 = 0x7c;
    pub const TUCK: u8 = 0x7d;

    pub const CAT: u8 = 0x7e;
    pub const SUBSTR: u8 = 0x7f;
    pub const LEFT: u8 = 0x80;
    pub const RIGHT: u8 = 0x81;
    pub const SIZE: u8 = 0x82;
    pub const INVERT: u8 = 0x83;
    pub const AND: u8 = 0x84;
    pub const OR: u8 = 0x85;
    pub const XOR: u8 = 0x86;
    pub const EQUAL: u8 = 0x87;
    pub const EQUALVERIFY: u8 = 0x88;

    pub const ADD_1: u8 = 0x8b;
    pub const SUB_1: u8 = 0x8c;
    pub const MUL_2: u8 = 0x8d;
    pub const DIV_2: u8 = 0x8e;
    pub const NEGATE: u8 = 0x8f;
    pub const ABS: u8 = 0x90;
    pub const NOT: u8 = 0x91;
    pub const NOTEQUAL_0: u8 = 0x92;
    pub const ADD: u8 = 0x93;
    pub const SUB: u8 = 0x94;
    pub const MUL: u8 = 0x95;
    pub const DIV: u8 = 0x96;
    pub const MOD: u8 = 0x97;
    pub const LSHIFT: u8 = 0x98;
    pub const RSHIFT: u8 = 0x99;
    pub const BOOLAND: u8 = 0x9a;
    pub const BOOLOR: u8 = 0x9b;
    pub const NUMEQUAL: u8 = 0x9c;
    pub const NUMEQUALVERIFY: u8 = 0x9d;
    pub const NUMNOTEQUAL: u8 = 0x9e;
    pub const LESSTHAN: u8 = 0x9f;
    pub const GREATERTHAN: u8 = 0xa0;
    pub const LESSTHANOREQUAL: u8 = 0xa1;
    pub const GREATERTHANOREQUAL: u8 = 0xa2;
    pub const MIN: u8 = 0xa3;
    pub const MAX: u8 = 0xa4;
    pub const WITHIN: u8 = 0xa5;

    pub const RIPEMD160: u8 = 0xa6;
    pub const SHA1: u8 = 0xa7;
    pub const SHA256: u8 = 0xa8;
    pub const HASH160: u8 = 0xa9;
    pub const HASH256: u8 = 0xaa;
    pub const CODESEPARATOR: u8 = 0xab;
    pub const CHECKSIG: u8 = 0xac;
    pub const CHECKSIGVERIFY: u8 = 0xad;
    pub const CHECKMULTISIG: u8 = 0xae;
    pub const CHECKMULTISIGVERIFY: u8 = 0xaf;

    pub const NOP1: u8 = 0xb0;
    pub const CHECKLOCKTIMEVERIFY: u8 = 0xb1;
    pub const CHECKSEQUENCEVERIFY: u8 = 0xb2;
    pub const NOP4: u8 = 0xb3;
    pub const NOP10: u8 = 0xb9;
    pub const CHECKSIGADD: u8 = 0xba;
}

/// Opcodes that fail legacy and v0 scripts by their mere presence (CVE-2010-5137).
pub(super) fn is_disabled(opcode: u8) -> bool {
    matches!(
        opcode,
        op::CAT..=op::RIGHT | op::INVERT..=op::XOR | op::MUL_2 | op::DIV_2 | op::MUL..=op::RSHIFT
    )
}

/// Opcodes that make a tapscript succeed at once (BIP 342).
pub(super) fn is_success(opcode: u8) -> bool {
    matches!(opcode, 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254)
}

/// One instruction: its opcode, and the data if it is a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction<'s> {
    /// The opcode; up to [`op::PUSHDATA4`] it pushes `data`.
    pub opcode: u8,
    /// What a push pushes; empty for other opcodes.
    pub data: &'s [u8],
}

impl Instruction<'_> {
    /// Whether a push uses the shortest encoding there is for its data.
    pub(super) fn is_minimal_push(&self) -> bool {
        match self.data {
            [] => self.opcode == op::PUSHBYTES_0,
            [1..=16] | [0x81] => false,
            data if data.len() <= 75 => usize::from(self.opcode) == data.len(),
            data if data.len() <= 0xff => self.opcode == op::PUSHDATA1,
            data if data.len() <= 0xffff => self.opcode == op::PUSHDATA2,
            _ => true,
        }
    }
}

/// Reads a script from left to right.
#[derive(Debug, Clone)]
pub struct Instructions<'s> {
    script: &'s [u8],
    position: usize,
}

impl<'s> Instructions<'s> {
    /// From the first byte of `script`.
    pub fn new(script: &'s [u8]) -> Self {
        Self { script, position: 0 }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'s [u8] {
        &self.script[self.position..]
    }

    /// Where the next instruction begins. After a truncated push: behind its opcode and the length bytes that were there.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Goes on at `position`, which must be within the script.
    pub(super) fn skip_to(&mut self, position: usize) {
        self.position = position;
    }

    /// The next instruction, `None` at the end, [`ScriptError::BadOpcode`] where the script ends within a push.
    pub fn read(&mut self) -> Result<Option<Instruction<'s>>, ScriptError> {
        let Some(&opcode) = self.script.get(self.position) else { return Ok(None) };
        self.position += 1;
        if opcode > op::PUSHDATA4 {
            return Ok(Some(Instruction { opcode, data: &[] }));
        }
        let length = match opcode {
            op::PUSHDATA1 => self.read_length::<1>()?,
            op::PUSHDATA2 => self.read_length::<2>()?,
            op::PUSHDATA4 => self.read_length::<4>()?,
            direct => usize::from(direct),
        };
        let data = self.script[self.position..].get(..length).ok_or(ScriptError::BadOpcode)?;
        self.position += length;
        Ok(Some(Instruction { opcode, data }))
    }

    fn read_length<const N: usize>(&mut self) -> Result<usize, ScriptError> {
        let bytes = self.script[self.position..].first_chunk::<N>().ok_or(ScriptError::BadOpcode)?;
        self.position += N;
        Ok(bytes.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }
}

/// Whether a script only pushes; `OP_RESERVED` counts as a push, as in Core.
pub fn is_push_only(script: &[u8]) -> bool {
    let mut instructions = Instructions::new(script);
    loop {
        match instructions.read() {
            Ok(None) => return true,
            Ok(Some(instruction)) if instruction.opcode <= op::NUMBER_16 => {}
            _ => return false,
        }
    }
}

/// The number that `OP_1` … `OP_16` push.
pub(super) fn small_number(opcode: u8) -> Option<u8> {
    matches!(opcode, op::NUMBER_1..=op::NUMBER_16).then(|| opcode - (op::NUMBER_1 - 1))
}

/// How `CScript() << data` pushes data of at most 65,535 bytes: a head and the data behind it.
pub(super) struct Push<'d> {
    head: [u8; 3],
    head_length: usize,
    data: &'d [u8],
}

impl<'d> Push<'d> {
    /// Panics above 65,535 bytes; stack elements have at most 520.
    pub(super) fn new(data: &'d [u8]) -> Self {
        let length = u16::try_from(data.len()).expect("stack elements are at most 520 bytes long");
        let [low, high] = length.to_le_bytes();
        let (head, head_length) = match length {
            0..=0x4b => ([low, 0, 0], 1),
            0x4c..=0xff => ([op::PUSHDATA1, low, 0], 2),
            _ => ([op::PUSHDATA2, low, high], 3),
        };
        Self { head, head_length, data }
    }

    /// Bytes of the whole push.
    pub(super) fn len(&self) -> usize {
        self.head_length + self.data.len()
    }

    pub(super) fn is_prefix_of(&self, script: &[u8]) -> bool {
        script.strip_prefix(&self.head[..self.head_length]).is_some_and(|rest| rest.starts_with(self.data))
    }

    pub(super) fn is_exactly(&self, script: &[u8]) -> bool {
        script.len() == self.len() && self.is_prefix_of(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_push_is_a_bad_opcode() {
        for script in [
            &[0x02, 0x01][..],
            &[0x4c],
            &[0x4c, 0x02, 0x00],
            &[0x4d, 0x01],
            &[0x4e, 0, 0, 0],
            &[0x4e, 255, 255, 255, 255],
        ] {
            assert_eq!(Instructions::new(script).read(), Err(ScriptError::BadOpcode), "{script:02x?}");
            assert!(!is_push_only(script));
        }
    }

    #[test]
    fn lengths_are_little_endian() {
        let mut script = vec![0x4d, 0x01, 0x01];
        script.extend([7; 257]);
        script.push(op::DUP);
        let mut instructions = Instructions::new(&script);
        assert_eq!(instructions.read(), Ok(Some(Instruction { opcode: op::PUSHDATA2, data: &[7; 257] })));
        assert_eq!(instructions.read(), Ok(Some(Instruction { opcode: op::DUP, data: &[] })));
        assert_eq!(instructions.read(), Ok(None));
    }

    #[test]
    fn minimal_pushes() {
        let minimal = |script: &[u8]| Instructions::new(script).read().unwrap().unwrap().is_minimal_push();
        assert!(minimal(&[0x00]) && minimal(&[0x01, 0x00]) && minimal(&[0x01, 0x11]) && minimal(&[0x02, 0x01, 0x00]));
        assert!(!minimal(&[0x01, 0x01]) && !minimal(&[0x01, 0x10]) && !minimal(&[0x01, 0x81]));
        assert!(!minimal(&[0x4c, 0x00]) && !minimal(&[0x4c, 0x01, 0x20]) && !minimal(&[0x4d, 0x01, 0x00, 0x20]));
        let long = |head: &[u8], length: usize| minimal(&[head, &vec![9; length]].concat());
        assert!(long(&[75], 75) && !long(&[0x4c, 75], 75) && long(&[0x4c, 76], 76));
        assert!(long(&[0x4c, 255], 255) && !long(&[0x4d, 255, 0], 255) && long(&[0x4d, 0, 1], 256));
        assert!(!long(&[0x4e, 0, 1, 0, 0], 256) && long(&[0x4e, 0, 0, 1, 0], 65536));
    }

    #[test]
    fn pushes_as_core_writes_them() {
        for length in [0, 1, 75, 76, 255, 256, 520] {
            let data = vec![1; length];
            let script = bitcoin::script::Builder::new()
                .push_slice(bitcoin::script::PushBytesBuf::try_from(data.clone()).unwrap())
                .into_script();
            assert!(Push::new(&data).is_exactly(script.as_bytes()), "{length}");
        }
    }
}
