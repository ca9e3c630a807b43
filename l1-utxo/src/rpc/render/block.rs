//! Headers and blocks as objects.

use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget, Target, Transaction, Work};
use serde_json::{Map, Value, json};

use super::{Detail, double, transaction};
use crate::chain::BlockUndo;
use crate::consensus::HashedBlock;

/// What is told of a header besides itself.
#[derive(Debug, Clone)]
pub struct BlockView {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// Blocks before it.
    pub height: u32,
    /// 1 for the tip, −1 outside the active chain.
    pub confirmations: i64,
    /// Median time of it and the ten blocks before.
    pub median_time: u32,
    /// Work of the chain up to it.
    pub chain_work: Work,
    /// Transactions in it, 0 if its body is not here.
    pub transaction_count: u32,
    /// The next block of the active chain.
    pub next: Option<BlockHash>,
}

/// Core's `blockheaderToJSON`.
pub fn header(view: &BlockView) -> Map<String, Value> {
    let mut object = Map::new();
    let version = view.header.version.to_consensus();
    object.insert("hash".into(), view.hash.to_string().into());
    object.insert("confirmations".into(), view.confirmations.into());
    object.insert("height".into(), view.height.into());
    object.insert("version".into(), version.into());
    object.insert("versionHex".into(), format!("{version:08x}").into());
    object.insert("merkleroot".into(), view.header.merkle_root.to_string().into());
    object.insert("time".into(), view.header.time.into());
    object.insert("mediantime".into(), view.median_time.into());
    object.insert("nonce".into(), view.header.nonce.into());
    object.insert("bits".into(), format!("{:08x}", view.header.bits.to_consensus()).into());
    object.insert("target".into(), target_hex(view.header.bits).into());
    object.insert("difficulty".into(), difficulty(view.header.bits));
    object.insert("chainwork".into(), hex::encode(view.chain_work.to_be_bytes()).into());
    object.insert("nTx".into(), view.transaction_count.into());
    if view.height > 0 {
        object.insert("previousblockhash".into(), view.header.prev_blockhash.to_string().into());
    }
    if let Some(next) = view.next {
        object.insert("nextblockhash".into(), next.to_string().into());
    }
    object
}

/// Core's `blockToJSON` at a verbosity of 1, 2 or 3; `undo` is needed for the last two.
pub fn block(view: &BlockView, block: &HashedBlock, undo: Option<&BlockUndo>, verbosity: i32) -> Value {
    let mut object = header(view);
    let (stripped, total) = (block.stripped_size(), block.total_size());
    object.insert("strippedsize".into(), stripped.into());
    object.insert("size".into(), total.into());
    object.insert("weight".into(), (stripped * 3 + total).into());
    if let Some(first) = block.transactions().first() {
        object.insert("coinbase_tx".into(), coinbase(first));
    }
    let listed: Vec<Value> = if verbosity == 1 {
        block.txids().iter().map(|txid| txid.to_string().into()).collect()
    } else {
        block.transactions().iter().enumerate().map(|(index, tx)| detailed(index, tx, undo, verbosity)).collect()
    };
    object.insert("tx".into(), listed.into());
    Value::Object(object)
}

fn detailed(index: usize, tx: &Transaction, undo: Option<&BlockUndo>, verbosity: i32) -> Value {
    let coins = index.checked_sub(1).and_then(|spent| undo?.spent.get(spent));
    let detail = match coins {
        None => Detail::Plain,
        Some(coins) if verbosity == 2 => Detail::Fee(coins),
        Some(coins) => Detail::Prevouts(coins),
    };
    Value::Object(transaction(tx, detail))
}

/// Core's `coinbaseTxToJSON`.
fn coinbase(tx: &Transaction) -> Value {
    let mut object = Map::new();
    object.insert("version".into(), tx.version.0.cast_unsigned().into());
    object.insert("locktime".into(), tx.lock_time.to_consensus_u32().into());
    if let Some(input) = tx.input.first() {
        object.insert("sequence".into(), input.sequence.0.into());
        object.insert("coinbase".into(), input.script_sig.to_hex_string().into());
        if let Some(item) = input.witness.nth(0) {
            object.insert("witness".into(), hex::encode(item).into());
        }
    }
    Value::Object(object)
}

/// How much harder than the easiest target of Bitcoin's main chain (Core: `GetDifficulty`).
pub fn difficulty(bits: CompactTarget) -> Value {
    let bits = bits.to_consensus();
    let shift = i32::try_from(bits >> 24).unwrap_or(0);
    let mantissa = bits & 0x00ff_ffff;
    if mantissa == 0 {
        return json!(0);
    }
    double(f64::from(0xffff_u32) / f64::from(mantissa) * 256f64.powi(29 - shift))
}

/// The full target, most significant digit first.
pub fn target_hex(bits: CompactTarget) -> String {
    hex::encode(Target::from_compact(bits).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulty_and_target_are_cores() {
        let regtest = CompactTarget::from_consensus(0x207f_ffff);
        assert_eq!(difficulty(regtest).to_string(), "4.656542373906925e-10");
        assert_eq!(difficulty(CompactTarget::from_consensus(0x1d00_ffff)).to_string(), "1");
        assert_eq!(difficulty(CompactTarget::from_consensus(0x1b04_04cb)).to_string(), "16307.42093852398");
        assert_eq!(target_hex(regtest), format!("7fffff{}", "00".repeat(29)));
    }
}
