//! Partially signed transactions: version 0 (BIP 174) and version 2 (BIP 370), with the fields of taproot (BIP 371).
//!
//! The three kinds of maps are kept as they came, so that fields nobody here understands survive; what is understood is
//! checked when it is read. It knows no coins and no keys: `sign` is handed to it. Bitcoin Core: `psbt.h`, `psbt.cpp`.

mod field;
mod input;
mod read;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, VarInt, Witness, absolute, transaction,
};

pub use field::{leaves, proprietary};
pub use input::{Outcome, Spends, finalize, is_verified, sign_input, tap_origin, update_output};
pub use read::{legacy_transaction, without_witness};

use crate::rpc::sign::key_id;

/// Keys, their type in front, and values.
pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Types of fields.
pub mod kind {
    #![allow(missing_docs)] // named as in BIP 174, 370 and 371
    pub const GLOBAL_UNSIGNED_TX: u8 = 0x00;
    pub const GLOBAL_XPUB: u8 = 0x01;
    pub const GLOBAL_TX_VERSION: u8 = 0x02;
    pub const GLOBAL_FALLBACK_LOCKTIME: u8 = 0x03;
    pub const GLOBAL_INPUT_COUNT: u8 = 0x04;
    pub const GLOBAL_OUTPUT_COUNT: u8 = 0x05;
    pub const GLOBAL_TX_MODIFIABLE: u8 = 0x06;
    pub const GLOBAL_VERSION: u8 = 0xfb;
    pub const PROPRIETARY: u8 = 0xfc;
    pub const IN_NON_WITNESS_UTXO: u8 = 0x00;
    pub const IN_WITNESS_UTXO: u8 = 0x01;
    pub const IN_PARTIAL_SIG: u8 = 0x02;
    pub const IN_SIGHASH: u8 = 0x03;
    pub const IN_REDEEM_SCRIPT: u8 = 0x04;
    pub const IN_WITNESS_SCRIPT: u8 = 0x05;
    pub const IN_BIP32_DERIVATION: u8 = 0x06;
    pub const IN_FINAL_SCRIPT_SIG: u8 = 0x07;
    pub const IN_FINAL_SCRIPT_WITNESS: u8 = 0x08;
    pub const IN_RIPEMD160: u8 = 0x0a;
    pub const IN_HASH256: u8 = 0x0d;
    pub const IN_PREVIOUS_TXID: u8 = 0x0e;
    pub const IN_OUTPUT_INDEX: u8 = 0x0f;
    pub const IN_SEQUENCE: u8 = 0x10;
    pub const IN_TIME_LOCKTIME: u8 = 0x11;
    pub const IN_HEIGHT_LOCKTIME: u8 = 0x12;
    pub const IN_TAP_KEY_SIG: u8 = 0x13;
    pub const IN_TAP_SCRIPT_SIG: u8 = 0x14;
    pub const IN_TAP_LEAF_SCRIPT: u8 = 0x15;
    pub const IN_TAP_BIP32_DERIVATION: u8 = 0x16;
    pub const IN_TAP_INTERNAL_KEY: u8 = 0x17;
    pub const IN_TAP_MERKLE_ROOT: u8 = 0x18;
    pub const IN_MUSIG2_PARTICIPANTS: u8 = 0x1a;
    pub const IN_MUSIG2_PUB_NONCE: u8 = 0x1b;
    pub const IN_MUSIG2_PARTIAL_SIG: u8 = 0x1c;
    pub const OUT_REDEEM_SCRIPT: u8 = 0x00;
    pub const OUT_WITNESS_SCRIPT: u8 = 0x01;
    pub const OUT_BIP32_DERIVATION: u8 = 0x02;
    pub const OUT_AMOUNT: u8 = 0x03;
    pub const OUT_SCRIPT: u8 = 0x04;
    pub const OUT_TAP_INTERNAL_KEY: u8 = 0x05;
    pub const OUT_TAP_TREE: u8 = 0x06;
    pub const OUT_TAP_BIP32_DERIVATION: u8 = 0x07;
    pub const OUT_MUSIG2_PARTICIPANTS: u8 = 0x08;
}

/// What the bytes begin with.
const MAGIC: &[u8; 5] = b"psbt\xff";

/// A partially signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Psbt {
    /// 0 or 2.
    pub version: u32,
    /// Fields of the whole.
    pub global: Map,
    /// Fields of each input.
    pub inputs: Vec<Map>,
    /// Fields of each output.
    pub outputs: Vec<Map>,
}

/// The value of a field that there is once at most.
pub fn single(map: &Map, kind: u8) -> Option<&Vec<u8>> {
    map.get(&[kind][..])
}

/// All fields of a type: what follows the type in their keys, and their values.
pub fn all(map: &Map, kind: u8) -> impl Iterator<Item = (&[u8], &Vec<u8>)> {
    map.range(vec![kind]..).take_while(move |(key, _)| key[0] == kind).map(|(key, value)| (&key[1..], value))
}

/// A number of four bytes.
pub fn number(map: &Map, kind: u8) -> Option<u32> {
    single(map, kind).and_then(|value| Some(u32::from_le_bytes(value.as_slice().try_into().ok()?)))
}

impl Psbt {
    /// A transaction without signatures, of which nothing else is known.
    pub fn new(transaction: &Transaction, version: u32) -> Self {
        let mut psbt = Self { version, global: Map::new(), inputs: Vec::new(), outputs: Vec::new() };
        transaction.input.iter().for_each(|input| psbt.inputs.push(psbt.input(input)));
        transaction.output.iter().for_each(|output| psbt.outputs.push(psbt.output(output)));
        let mut put = |kind: u8, value: Vec<u8>| psbt.global.insert(vec![kind], value);
        if version == 0 {
            put(kind::GLOBAL_UNSIGNED_TX, without_witness(transaction));
        } else {
            put(kind::GLOBAL_TX_VERSION, transaction.version.0.to_le_bytes().to_vec());
            put(kind::GLOBAL_FALLBACK_LOCKTIME, transaction.lock_time.to_consensus_u32().to_le_bytes().to_vec());
            put(kind::GLOBAL_INPUT_COUNT, serialize(&VarInt::from(transaction.input.len())));
            put(kind::GLOBAL_OUTPUT_COUNT, serialize(&VarInt::from(transaction.output.len())));
            put(kind::GLOBAL_VERSION, version.to_le_bytes().to_vec());
        }
        psbt
    }

    fn input(&self, input: &TxIn) -> Map {
        let mut map = Map::new();
        if self.version >= 2 {
            map.insert(vec![kind::IN_PREVIOUS_TXID], input.previous_output.txid.to_byte_array().to_vec());
            map.insert(vec![kind::IN_OUTPUT_INDEX], input.previous_output.vout.to_le_bytes().to_vec());
            map.insert(vec![kind::IN_SEQUENCE], input.sequence.0.to_le_bytes().to_vec());
        }
        map
    }

    fn output(&self, output: &TxOut) -> Map {
        let mut map = Map::new();
        if self.version >= 2 {
            map.insert(vec![kind::OUT_AMOUNT], output.value.to_sat().to_le_bytes().to_vec());
            map.insert(vec![kind::OUT_SCRIPT], output.script_pubkey.to_bytes());
        }
        map
    }

    /// Reads base 64; the error is Core's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|_| "invalid base64".to_owned())?;
        read::psbt(&bytes)
    }

    /// Base 64, the fields in Core's order.
    pub fn to_base64(&self) -> String {
        let mut bytes = MAGIC.to_vec();
        let by_key = |_: &[u8]| (0, Vec::new());
        write(&mut bytes, &self.global, |key| self.version > 0 || key != [kind::GLOBAL_VERSION], by_key);
        for input in &self.inputs {
            let is_final = is_final(input);
            let is_kept = |key: &[u8]| !is_final || !is_work(key);
            write(&mut bytes, input, is_kept, input_rank);
        }
        self.outputs.iter().for_each(|output| write(&mut bytes, output, |_| true, by_key));
        STANDARD.encode(bytes)
    }

    /// The transaction without signatures; `None` where the lock times of its inputs exclude each other (BIP 370).
    pub fn unsigned(&self) -> Option<Transaction> {
        if self.version == 0 {
            return legacy_transaction(single(&self.global, kind::GLOBAL_UNSIGNED_TX)?);
        }
        let version = number(&self.global, kind::GLOBAL_TX_VERSION)?.cast_signed();
        Some(Transaction {
            version: transaction::Version(version),
            lock_time: absolute::LockTime::from_consensus(self.lock_time()?),
            input: self.inputs.iter().map(unsigned_input).collect::<Option<_>>()?,
            output: self.outputs.iter().map(bare_output).collect::<Option<_>>()?,
        })
    }

    /// Core's `ComputeTimeLock`: the latest lock that the inputs ask for, heights where there is a choice.
    fn lock_time(&self) -> Option<u32> {
        let (mut time, mut height) = (Some(0), Some(0));
        for input in &self.inputs {
            let wanted = (number(input, kind::IN_TIME_LOCKTIME), number(input, kind::IN_HEIGHT_LOCKTIME));
            match wanted {
                (Some(_), None) => height = None,
                (None, Some(_)) => time = None,
                _ => {}
            }
            if time.is_none() && height.is_none() {
                return None;
            }
            time = time.map(|time: u32| time.max(wanted.0.unwrap_or(0)));
            height = height.map(|height: u32| height.max(wanted.1.unwrap_or(0)));
        }
        let fallback = number(&self.global, kind::GLOBAL_FALLBACK_LOCKTIME).unwrap_or(0);
        Some(height.filter(|lock| *lock > 0).or_else(|| time.filter(|lock| *lock > 0)).unwrap_or(fallback))
    }

    /// What makes two of them the same transaction (Core: `GetUniqueID`).
    fn id(&self) -> Option<Txid> {
        let mut transaction = self.unsigned()?;
        if self.version >= 2 {
            transaction.input.iter_mut().for_each(|input| input.sequence = Sequence::ZERO);
        }
        Some(transaction.compute_txid())
    }

    /// Takes over what another one of the same transaction has; `false` if it is of another.
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = self.id().is_some() && self.id() == other.id() && self.version == other.version;
        if !same || self.inputs.len() != other.inputs.len() || self.outputs.len() != other.outputs.len() {
            return false;
        }
        let add = |map: &mut Map, other: &Map| {
            for (key, value) in other {
                map.entry(key.clone()).or_insert_with(|| value.clone());
            }
        };
        let modifiable = modifiable(&self.global, &other.global);
        add(&mut self.global, &other.global);
        if let Some(flags) = modifiable {
            self.global.insert(vec![kind::GLOBAL_TX_MODIFIABLE], vec![flags]);
        }
        self.inputs.iter_mut().zip(&other.inputs).for_each(|(map, other)| add(map, other));
        self.outputs.iter_mut().zip(&other.outputs).for_each(|(map, other)| add(map, other));
        true
    }
}

/// Only what both allow may be modified, but SINGLE is there if either has it.
fn modifiable(ours: &Map, theirs: &Map) -> Option<u8> {
    const SINGLE: u8 = 4;
    let flags = |map| single(map, kind::GLOBAL_TX_MODIFIABLE).and_then(|value| value.first().copied());
    let (ours, theirs) = (flags(ours), flags(theirs));
    if ours.is_none() && theirs.is_none() {
        return None;
    }
    let (ours, theirs) = (ours.unwrap_or(0), theirs.unwrap_or(0));
    Some((ours & theirs & !SINGLE) | ((ours | theirs) & SINGLE))
}

fn unsigned_input(map: &Map) -> Option<TxIn> {
    let txid = Txid::from_slice(single(map, kind::IN_PREVIOUS_TXID)?).ok()?;
    let sequence = number(map, kind::IN_SEQUENCE).map_or(Sequence::MAX, Sequence);
    Some(TxIn {
        previous_output: OutPoint { txid, vout: number(map, kind::IN_OUTPUT_INDEX)? },
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    })
}

fn bare_output(map: &Map) -> Option<TxOut> {
    let value = Amount::from_sat(u64::from_le_bytes(single(map, kind::OUT_AMOUNT)?.as_slice().try_into().ok()?));
    Some(TxOut { value, script_pubkey: ScriptBuf::from_bytes(single(map, kind::OUT_SCRIPT)?.clone()) })
}

/// Whether an input has its final scripts (Core: `PSBTInputSigned`).
pub fn is_final(input: &Map) -> bool {
    let script_sig = single(input, kind::IN_FINAL_SCRIPT_SIG).is_some_and(|script| !script.is_empty());
    script_sig || !final_witness(input).is_empty()
}

/// The final witness, empty if there is none.
pub fn final_witness(input: &Map) -> Witness {
    single(input, kind::IN_FINAL_SCRIPT_WITNESS).and_then(|value| deserialize(value).ok()).unwrap_or_default()
}

/// Whether a field is a signature, or made of some.
pub fn is_signature(key: &[u8]) -> bool {
    matches!(key[0], kind::IN_PARTIAL_SIG | kind::IN_FINAL_SCRIPT_SIG | kind::IN_FINAL_SCRIPT_WITNESS)
}

/// What is needed only until an input is final.
fn is_work(key: &[u8]) -> bool {
    matches!(
        key[0],
        kind::IN_PARTIAL_SIG..=kind::IN_BIP32_DERIVATION
            | kind::IN_RIPEMD160..=kind::IN_HASH256
            | kind::IN_TAP_KEY_SIG..=kind::IN_MUSIG2_PARTIAL_SIG
    )
}

/// Core's order of an input's fields: final scripts after taproot, then what version 2 added; signatures by hash of key.
fn input_rank(key: &[u8]) -> (u8, Vec<u8>) {
    let rank = match key[0] {
        kind::IN_FINAL_SCRIPT_SIG | kind::IN_FINAL_SCRIPT_WITNESS => 2,
        kind::IN_PREVIOUS_TXID..=kind::IN_HEIGHT_LOCKTIME => 3,
        kind::PROPRIETARY => 4,
        0..=kind::IN_HASH256 | kind::IN_TAP_KEY_SIG..=kind::IN_MUSIG2_PARTIAL_SIG => 1,
        _ => 5,
    };
    let mut order = vec![key[0]];
    if key[0] == kind::IN_PARTIAL_SIG {
        order.extend(key_id(&key[1..]).to_byte_array());
    }
    (rank, order)
}

fn write(bytes: &mut Vec<u8>, map: &Map, is_kept: impl Fn(&[u8]) -> bool, rank: impl Fn(&[u8]) -> (u8, Vec<u8>)) {
    let mut fields: Vec<(&Vec<u8>, &Vec<u8>)> = map.iter().filter(|(key, _)| is_kept(key)).collect();
    fields.sort_by_cached_key(|(key, _)| rank(key));
    for (key, value) in fields {
        bytes.extend(serialize(key));
        bytes.extend(serialize(value));
    }
    bytes.push(0);
}

#[cfg(test)]
mod tests;
