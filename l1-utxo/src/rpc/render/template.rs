//! A block template as JSON text: thousands of transactions in hex, written once and kept until the mempool changes.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{push_hex, target_hex};
use crate::chain::TESTDUMMY_BIT;
use crate::mining::{Chosen, Draft, Parent};

/// Transactions that one thread writes in one go.
const SLICE: usize = 256;

/// The last template's transactions, and what they rest on.
#[derive(Debug, Default)]
pub struct TemplateText {
    last: Mutex<Option<Arc<Written>>>,
}

#[derive(Debug)]
struct Written {
    tip: BlockHash,
    updates: u64,
    transactions: String,
    reward: u64,
    commitment: String,
}

/// A template's transactions as they were written.
#[derive(Debug, Clone)]
pub struct Latest(Arc<Written>);

impl Latest {
    /// Whether they still are the best, with this tip and after so many changes of the mempool.
    pub fn is_at(&self, tip: BlockHash, updates: u64) -> bool {
        (self.0.tip, self.0.updates) == (tip, updates)
    }
}

impl TemplateText {
    /// The last template.
    pub fn latest(&self) -> Option<Latest> {
        self.lock().clone().map(Latest)
    }

    /// Writes a draft, and keeps it.
    pub fn write(&self, draft: &Draft, updates: u64) -> Latest {
        let written = Arc::new(write(draft, updates));
        *self.lock() = Some(Arc::clone(&written));
        Latest(written)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Written>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(draft: &Draft, updates: u64) -> Written {
    let places: HashMap<Txid, usize> =
        draft.chosen.iter().enumerate().map(|(index, chosen)| (chosen.txid, index + 1)).collect();
    let parts: Vec<String> = draft
        .chosen
        .par_chunks(SLICE)
        .map(|slice| {
            let mut text = String::new();
            for chosen in slice {
                transaction(&mut text, chosen, &places);
                text.push(',');
            }
            text
        })
        .collect();
    let mut transactions = parts.concat();
    // The last comma.
    transactions.pop();
    Written {
        tip: draft.parent.hash,
        updates,
        transactions,
        reward: draft.reward().to_sat(),
        commitment: draft.commitment().to_hex_string(),
    }
}

fn transaction(text: &mut String, chosen: &Chosen, places: &HashMap<Txid, usize>) {
    let reversed = |mut hash: [u8; 32]| {
        hash.reverse();
        hash
    };
    text.push_str("{\"data\":\"");
    push_hex(text, &serialize(chosen.transaction.as_ref()));
    text.push_str("\",\"txid\":\"");
    push_hex(text, &reversed(chosen.txid.to_byte_array()));
    text.push_str("\",\"hash\":\"");
    push_hex(text, &reversed(chosen.wtxid.to_byte_array()));
    text.push_str("\",\"depends\":[");
    let inputs = chosen.transaction.input.iter();
    let mut depends: Vec<usize> = inputs.filter_map(|input| places.get(&input.previous_output.txid)).copied().collect();
    depends.dedup();
    let depends: Vec<String> = depends.iter().map(ToString::to_string).collect();
    text.push_str(&depends.join(","));
    let weight = chosen.transaction.weight().to_wu();
    write!(text, "],\"fee\":{},\"sigops\":{},\"weight\":{weight}}}", chosen.fee, chosen.sigops)
        .expect("writing to a string does not fail");
}

/// The whole template as BIP 22 wants it.
pub fn template(Latest(written): &Latest, parent: &Parent) -> String {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.into(), value);
    put("capabilities", json!(["proposal"]));
    let is_voted_on = parent.version.cast_unsigned() == 0x2000_0000 | 1 << TESTDUMMY_BIT;
    put("version", parent.version.into());
    put("rules", json!(["csv", "!segwit", "taproot"]));
    put("vbavailable", if is_voted_on { json!({"testdummy": TESTDUMMY_BIT}) } else { json!({}) });
    put("vbrequired", 0.into());
    put("previousblockhash", parent.hash.to_string().into());
    put("transactions", json!([]));
    put("coinbaseaux", json!({}));
    put("coinbasevalue", written.reward.into());
    put("longpollid", format!("{}{}", parent.hash, written.updates).into());
    put("target", target_hex(parent.bits).into());
    put("mintime", parent.min_time.into());
    put("mutable", json!(["time", "transactions", "prevblock"]));
    put("noncerange", "00000000ffffffff".into());
    put("sigoplimit", 80_000.into());
    put("sizelimit", 4_000_000.into());
    put("weightlimit", 4_000_000.into());
    put("curtime", parent.time.into());
    put("bits", format!("{:08x}", parent.bits.to_consensus()).into());
    put("height", parent.height.into());
    put("default_witness_commitment", written.commitment.as_str().into());
    let text = Value::Object(object).to_string();
    // The transactions are text already: they go where the empty list is.
    let (before, after) = text.split_once("\"transactions\":[]").expect("it was put there");
    let mut whole = String::with_capacity(text.len() + written.transactions.len() + 32);
    whole.push_str(before);
    whole.push_str("\"transactions\":[");
    whole.push_str(&written.transactions);
    whole.push(']');
    whole.push_str(after);
    whole
}
