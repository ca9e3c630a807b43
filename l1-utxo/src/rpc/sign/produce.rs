//! Scripts solved step by step, as Core's `ProduceSignature` and `SignStep` do.

use bitcoin::hashes::{Hash, hash160, ripemd160};
use bitcoin::script::PushBytesBuf;
use bitcoin::{Script, ScriptBuf};

use super::digest::Version;
use super::{Creator, Data, KeyId, Keystore, key_id};
use crate::mempool::policy::output::{OutputType, classify};

/// A signature as long as they can be, for measuring.
const DUMMY_SIGNATURE: [u8; 72] = {
    let mut bytes = [1; 72];
    // DER: a sequence of two integers of 33 and 32 bytes, and the type.
    bytes[0] = 0x30;
    bytes[1] = 69;
    bytes[2] = 0x02;
    bytes[3] = 33;
    bytes[4] = 0;
    bytes[5] = 0x81;
    bytes[37] = 0x02;
    bytes[38] = 32;
    bytes
};

/// Signs what can be signed; whether the input is complete.
pub fn produce(keys: &Keystore, creator: &Creator<'_>, script: &Script, data: &mut Data) -> bool {
    if data.complete {
        return true;
    }
    let mut producer = Producer { keys, creator, data };
    let (script_sig, solved) = producer.whole(script);
    let data = producer.data;
    if !data.witness {
        data.script_witness.clear();
    }
    data.script_sig = push_all(&script_sig);
    data.complete = solved
        && match creator {
            Creator::Dummy => true,
            Creator::Real(spend) => spend.verify(&data.script_sig, &data.script_witness).is_ok(),
        };
    data.complete
}

/// The items as pushes, numbers as opcodes (Core: `PushAll`).
fn push_all(items: &[Vec<u8>]) -> ScriptBuf {
    let mut script = ScriptBuf::new();
    for item in items {
        match item.as_slice() {
            [] => script.push_opcode(bitcoin::opcodes::OP_0),
            [number @ 1..=16] => script.push_opcode((0x50 + number).into()),
            [0x81] => script.push_opcode(bitcoin::opcodes::all::OP_PUSHNUM_NEG1),
            // Nothing that is pushed here comes near the limit of four gigabytes.
            other => script.push_slice(PushBytesBuf::try_from(other.to_vec()).unwrap_or_default()),
        }
    }
    script
}

/// A stack, and whether it solves the script.
pub(super) type Step = (Vec<Vec<u8>>, bool);

pub(super) struct Producer<'a, 'b> {
    pub keys: &'a Keystore,
    pub creator: &'a Creator<'b>,
    pub data: &'a mut Data,
}

impl Producer<'_, '_> {
    /// The pushes of the scriptSig; the witness goes into `data`.
    fn whole(&mut self, script: &Script) -> Step {
        let (mut stack, mut solved) = self.step(script, Version::Base);
        let mut inner = script.to_owned();
        let mut redeem = None;
        if solved && script.is_p2sh() {
            inner = ScriptBuf::from_bytes(stack.pop().unwrap_or_default());
            self.data.redeem_script = Some(inner.clone());
            (stack, solved) = self.step(&inner, Version::Base);
            solved &= !inner.is_p2sh();
            redeem = Some(inner.clone());
        }
        match classify(&inner) {
            OutputType::WitnessV0KeyHash if solved => {
                let hash = inner.as_bytes()[2..].to_vec();
                let code = [&[0x76, 0xa9, 0x14][..], &hash, &[0x88, 0xac]].concat();
                (stack, solved) = self.step(Script::from_bytes(&code), Version::WitnessV0);
                self.finish_witness(stack);
                stack = Vec::new();
            }
            OutputType::WitnessV0ScriptHash if solved => {
                let witness_script = ScriptBuf::from_bytes(stack.pop().unwrap_or_default());
                self.data.witness_script = Some(witness_script.clone());
                (stack, solved) = self.witness_script(&witness_script);
                stack.push(witness_script.into_bytes());
                self.finish_witness(stack);
                stack = Vec::new();
            }
            OutputType::WitnessV1Taproot(_) if redeem.is_none() => {
                self.data.witness = true;
                if solved {
                    self.data.script_witness = std::mem::take(&mut stack);
                }
                stack.clear();
            }
            _ => {}
        }
        stack.extend(redeem.map(ScriptBuf::into_bytes));
        (stack, solved)
    }

    fn finish_witness(&mut self, stack: Vec<Vec<u8>>) {
        self.data.script_witness = stack;
        self.data.witness = true;
    }

    fn witness_script(&mut self, script: &Script) -> Step {
        let nests = script.is_p2sh() || script.is_p2wsh() || script.is_p2wpkh();
        let (stack, solved) = self.step(script, Version::WitnessV0);
        if solved && !nests {
            return (stack, true);
        }
        // What CHECKMULTISIG has of its signatures is kept: a combiner finds them there.
        if !stack.is_empty() {
            return (stack, false);
        }
        self.satisfy_wsh(script).map_or((Vec::new(), false), |stack| (stack, true))
    }

    fn step(&mut self, script: &Script, version: Version) -> Step {
        let none = (Vec::new(), false);
        match classify(script) {
            OutputType::NonStandard | OutputType::NullData | OutputType::WitnessUnknown => none,
            OutputType::Anchor => (Vec::new(), true),
            OutputType::PubKey(key) => match self.sign(key, script, version) {
                Some(signature) => (vec![signature], true),
                None => none,
            },
            OutputType::PubKeyHash => {
                let Ok(id) = hash160::Hash::from_slice(&script.as_bytes()[3..23]) else { return none };
                let Some(key) = self.key(&id) else {
                    self.data.missing.keys.push(id);
                    return none;
                };
                match self.sign(&key, script, version) {
                    Some(signature) => (vec![signature, key], true),
                    None => none,
                }
            }
            OutputType::ScriptHash => {
                let Ok(hash) = hash160::Hash::from_slice(&script.as_bytes()[2..22]) else { return none };
                match self.script(&hash) {
                    Some(found) => (vec![found.into_bytes()], true),
                    None => {
                        self.data.missing.redeem_script = Some(hash);
                        none
                    }
                }
            }
            OutputType::MultiSig { required, keys } => self.multisig(usize::from(required), &keys, script, version),
            OutputType::WitnessV0KeyHash => (vec![script.as_bytes()[2..].to_vec()], true),
            OutputType::WitnessV0ScriptHash => {
                let hash = &script.as_bytes()[2..34];
                match self.script(&hash160::Hash::from_byte_array(ripemd160::Hash::hash(hash).to_byte_array())) {
                    Some(found) => (vec![found.into_bytes()], true),
                    None => {
                        self.data.missing.witness_script = hash.try_into().ok();
                        none
                    }
                }
            }
            OutputType::WitnessV1Taproot(key) => match key.try_into() {
                Ok(key) => self.taproot(key),
                Err(_) => none,
            },
        }
    }

    fn multisig(&mut self, required: usize, keys: &[&[u8]], script: &Script, version: Version) -> Step {
        // The item that CHECKMULTISIG takes too many.
        let mut stack = vec![Vec::new()];
        for key in keys {
            // Every key is asked, so that all signatures are known that can be had.
            if let Some(signature) = self.sign(key, script, version)
                && stack.len() <= required
            {
                stack.push(signature);
            }
        }
        let solved = stack.len() == required + 1;
        stack.resize(required + 1, Vec::new());
        (stack, solved)
    }

    /// A signature of this key, found or made (Core: `CreateSig`).
    pub(super) fn sign(&mut self, key: &[u8], script: &Script, version: Version) -> Option<Vec<u8>> {
        let id = key_id(key);
        if let Some((_, signature)) = self.data.signatures.get(&id) {
            return Some(signature.clone());
        }
        if let Some(origin) = self.keys.origin(&id) {
            self.data.origins.entry(id).or_insert_with(|| (key.to_vec(), origin.clone()));
        }
        let made = match self.creator {
            Creator::Dummy => Some(DUMMY_SIGNATURE.to_vec()),
            Creator::Real(spend) => {
                let secret = self.keys.secret(&id);
                secret.and_then(|secret| spend.sign(secret, key.len() == 33, script, version))
            }
        };
        match &made {
            Some(signature) => drop(self.data.signatures.insert(id, (key.to_vec(), signature.clone()))),
            None => self.data.missing.signatures.push(id),
        }
        made
    }

    /// The key with this hash, wherever it is known from.
    pub(super) fn key(&self, id: &KeyId) -> Option<Vec<u8>> {
        let signed = self.data.signatures.get(id).map(|(key, _)| key.clone());
        let listed = || self.data.origins.get(id).map(|(key, _)| key.clone());
        let x_only = || {
            let mut keys = self.data.tap_origins.keys();
            keys.find(|key| key_id(&key[..]) == *id).map(|key| [&[2][..], key].concat())
        };
        signed.or_else(listed).or_else(x_only).or_else(|| self.keys.public(id).map(|key| key.to_bytes()))
    }

    fn script(&self, hash: &hash160::Hash) -> Option<ScriptBuf> {
        let is_it = |script: &&ScriptBuf| hash160::Hash::hash(script.as_bytes()) == *hash;
        let known = [&self.data.redeem_script, &self.data.witness_script];
        let found = self.keys.script(hash).cloned();
        found.or_else(|| known.into_iter().flatten().find(is_it).cloned())
    }
}
