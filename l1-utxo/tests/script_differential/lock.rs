//! Random scripts that can be satisfied: a list of conditions, and what satisfies them.

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};
use bitcoin::{Transaction, script};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::Rng;
use super::signing::{KEYS, public_key};
use super::soup;

/// One stack element that a script asks for.
pub enum Need {
    Bytes(Vec<u8>),
    /// A signature by this key, over the script as of this separator.
    Signature {
        key: usize,
        separator: Separator,
    },
}

/// The last `OP_CODESEPARATOR` before a signature check.
#[derive(Clone, Copy)]
pub struct Separator {
    /// The byte behind it.
    pub code_start: usize,
    /// Its position in opcodes, `u32::MAX` if there is none.
    pub position: u32,
}

/// A script under construction.
pub struct Lock {
    pub script: Vec<u8>,
    /// In the order in which the script takes them from the top.
    pub needs: Vec<Need>,
    /// Offsets of all separators.
    pub separators: Vec<usize>,
    separator: Separator,
    opcodes: u32,
    tapscript: bool,
}

impl Lock {
    /// Some conditions, then something true.
    pub fn random(tapscript: bool, transaction: &Transaction, index: usize, rng: &mut Rng) -> Self {
        let mut lock = Self::new(tapscript);
        for _ in 0..rng.random_range(0..4) {
            lock.condition(transaction, index, rng);
        }
        match rng.random_range(0..4) {
            0 => lock.op(0x51),
            1 => {
                lock.needs.push(Need::Bytes(vec![1]));
            }
            _ => lock.check_signature(rng, false),
        }
        lock
    }

    pub fn new(tapscript: bool) -> Self {
        let separator = Separator { code_start: 0, position: u32::MAX };
        Self { script: vec![], needs: vec![], separators: vec![], separator, opcodes: 0, tapscript }
    }

    pub fn op(&mut self, opcode: u8) {
        self.script.push(opcode);
        self.opcodes += 1;
    }

    pub fn push(&mut self, data: &[u8]) {
        self.script.extend(soup::push(data));
        self.opcodes += 1;
    }

    fn number(&mut self, number: i64) {
        self.script.extend(script::Builder::new().push_int(number).into_script().into_bytes());
        self.opcodes += 1;
    }

    /// The script from a separator on, without the separators themselves.
    pub fn script_code(&self, separator: Separator) -> Vec<u8> {
        let offsets = separator.code_start..self.script.len();
        offsets.filter(|offset| !self.separators.contains(offset)).map(|offset| self.script[offset]).collect()
    }

    fn condition(&mut self, transaction: &Transaction, index: usize, rng: &mut Rng) {
        match rng.random_range(0..10) {
            0 | 1 => self.check_signature(rng, true),
            2 => self.check_hash(rng),
            3 => {
                let lock_time = i64::from(transaction.lock_time.to_consensus_u32());
                self.number(near(lock_time, rng));
                self.op(0xb1);
                self.op(0x75);
            }
            4 => {
                let sequence = i64::from(transaction.input[index].sequence.0);
                self.number(near(sequence & *[0x40_ffff, 0xffff_ffff].choose(rng).expect("two"), rng));
                self.op(0xb2);
                self.op(0x75);
            }
            5 => self.branch(rng),
            6 => self.separate(),
            7 => self.arithmetic(rng),
            _ => self.script_extend(rng),
        }
    }

    /// `OP_CHECKSIG` and its relatives, for one key or several.
    pub fn check_signature(&mut self, rng: &mut Rng, verify: bool) {
        let separator = self.separator;
        let key = rng.random_range(0..KEYS.len());
        let signature = Need::Signature { key, separator };
        let check = 0xac + u8::from(verify);
        match rng.random_range(0..3) {
            0 if self.tapscript => self.check_sig_add(rng, verify),
            0 => self.check_multisig(rng, verify),
            1 => {
                let pubkey = self.pubkey(key, rng);
                [0x76, 0xa9].into_iter().for_each(|opcode| self.op(opcode));
                self.push(hash160::Hash::hash(&pubkey).as_byte_array());
                self.op(0x88);
                self.op(check);
                self.needs.extend([Need::Bytes(pubkey), signature]);
            }
            _ => {
                let pubkey = self.pubkey(key, rng);
                self.push(&pubkey);
                self.op(check);
                self.needs.push(signature);
            }
        }
    }

    fn pubkey(&self, key: usize, rng: &mut Rng) -> Vec<u8> {
        match (self.tapscript, rng.random_range(0..20)) {
            (true, 0) => vec![2; 33], // a type to come
            (true, _) => KEYS[key].x_only_public_key().0.serialize().to_vec(),
            _ => public_key(key, rng),
        }
    }

    fn check_multisig(&mut self, rng: &mut Rng, verify: bool) {
        let total = rng.random_range(0..=5usize);
        let required = rng.random_range(0..=total);
        let mut signers: Vec<usize> = rand::seq::index::sample(rng, total, required).into_vec();
        signers.sort_unstable();
        let first = rng.random_range(0..KEYS.len() - 5);
        self.number(required as i64);
        for key in first..first + total {
            let pubkey = self.pubkey(key, rng);
            self.push(&pubkey);
        }
        self.number(total as i64);
        self.op(0xae + u8::from(verify));
        let separator = self.separator;
        self.needs.extend(signers.iter().rev().map(|signer| Need::Signature { key: first + signer, separator }));
        self.needs.push(Need::Bytes(if rng.random_bool(0.1) { vec![1] } else { vec![] }));
    }

    fn check_sig_add(&mut self, rng: &mut Rng, verify: bool) {
        let total = rng.random_range(1..=4usize);
        let separator = self.separator;
        let mut signed = 0;
        for key in 0..total {
            self.push(&KEYS[key].x_only_public_key().0.serialize());
            self.op(if key == 0 { 0xac } else { 0xba });
            if rng.random_bool(0.7) {
                signed += 1;
                self.needs.push(Need::Signature { key, separator });
            } else {
                self.needs.push(Need::Bytes(vec![]));
            }
        }
        self.number(signed);
        self.op(0x9c + u8::from(verify));
    }

    fn check_hash(&mut self, rng: &mut Rng) {
        let mut preimage = vec![0; *[0, 1, 20, 32, 33, 64, 100].choose(rng).expect("not empty")];
        rng.fill(preimage.as_mut_slice());
        let opcode = rng.random_range(0xa6..=0xaa);
        let hash = match opcode {
            0xa6 => ripemd160::Hash::hash(&preimage).to_byte_array().to_vec(),
            0xa7 => sha1::Hash::hash(&preimage).to_byte_array().to_vec(),
            0xa8 => sha256::Hash::hash(&preimage).to_byte_array().to_vec(),
            0xa9 => hash160::Hash::hash(&preimage).to_byte_array().to_vec(),
            _ => sha256d::Hash::hash(&preimage).to_byte_array().to_vec(),
        };
        self.op(opcode);
        self.push(&hash);
        self.op(0x88);
        self.needs.push(Need::Bytes(preimage));
    }

    /// One branch is taken and checks something, the other holds anything that can be read.
    fn branch(&mut self, rng: &mut Rng) {
        let taken_first = rng.random_bool(0.5);
        let not = rng.random_bool(0.5);
        self.op(if not { 0x64 } else { 0x63 });
        let truth = if rng.random_bool(0.9) { vec![1] } else { vec![2, 0] };
        self.needs.push(Need::Bytes(if taken_first != not { truth } else { vec![] }));
        for taken in [taken_first, !taken_first] {
            if taken {
                self.check_hash(rng);
            } else {
                for _ in 0..rng.random_range(0..4) {
                    let opcode =
                        *[0x6a, 0xac, 0x61, 0x51, 0xab, 0xae, 0x00, 0xb0, 0x50, 0x62].choose(rng).expect("not empty");
                    if opcode == 0xab {
                        self.separators.push(self.script.len());
                    }
                    // In tapscript the last two end the script as a success.
                    self.op(if self.tapscript && matches!(opcode, 0x50 | 0x62) { 0x61 } else { opcode });
                }
            }
            self.op(if taken == taken_first { 0x67 } else { 0x68 });
        }
    }

    fn separate(&mut self) {
        self.separators.push(self.script.len());
        let position = self.opcodes;
        self.op(0xab);
        self.separator = Separator { code_start: self.script.len(), position };
    }

    fn arithmetic(&mut self, rng: &mut Rng) {
        let range = *[3i64, 300, 0x7fff_ffff].choose(rng).expect("not empty");
        let (a, b) = (rng.random_range(-range..=range), rng.random_range(-range..=range));
        let (opcode, result) = match rng.random_range(0..6) {
            0 => (0x93, a + b),
            1 => (0x94, a - b),
            2 => (0xa3, a.min(b)),
            3 => (0xa4, a.max(b)),
            4 => (0x9f, i64::from(a < b)),
            _ => (0x9a, i64::from(a != 0 && b != 0)),
        };
        self.needs.push(Need::Bytes(number_bytes(a)));
        self.number(b);
        self.op(opcode);
        // Numbers of five bytes can be compared as bytes only.
        self.push(&number_bytes(result));
        self.op(0x88);
    }

    /// Opcodes that leave the stack as it was.
    fn script_extend(&mut self, rng: &mut Rng) {
        const NEUTRAL: &[&[u8]] = &[
            &[0x61],
            &[0x51, 0x69],
            &[0x74, 0x75],
            &[0x51, 0x6b, 0x6c, 0x75],
            &[0x51, 0x52, 0x7c, 0x6d],
            &[0x51, 0x52, 0x53, 0x7b, 0x6d, 0x75],
            &[0x51, 0x52, 0x6e, 0x6d, 0x6d],
            &[0x51, 0x52, 0x7d, 0x6d, 0x75],
            &[0x51, 0x52, 0x78, 0x6d, 0x75],
            &[0x51, 0x52, 0x53, 0x54, 0x70, 0x6d, 0x72, 0x6d, 0x6d],
            &[0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x71, 0x6d, 0x6d, 0x6d],
            &[0x51, 0x52, 0x53, 0x6f, 0x52, 0x79, 0x75, 0x51, 0x7a, 0x6d, 0x6d, 0x6d],
            &[0x55, 0x52, 0x56, 0xa5, 0x69],
            &[0x51, 0x73, 0x6d],
            &[0x82, 0x75],
            &[0x00, 0x92, 0x91, 0x69],
            &[0x4f, 0x90, 0x8b, 0x8c, 0x8f, 0x75],
            &[0xb0, 0xb9],
        ];
        for opcode in *NEUTRAL.choose(rng).expect("not empty") {
            self.op(*opcode);
        }
    }
}

/// Mostly this value or a little less, which is satisfied; sometimes not.
fn near(value: i64, rng: &mut Rng) -> i64 {
    match rng.random_range(0..10) {
        0 => value + 1,
        1 => -value,
        2 => rng.random_range(0..=0xffff_ffff),
        3..=5 => (value - 1).max(0),
        _ => value,
    }
}

/// The shortest encoding of a number.
fn number_bytes(number: i64) -> Vec<u8> {
    let mut buffer = [0; 8];
    let length = script::write_scriptint(&mut buffer, number);
    buffer[..length].to_vec()
}
