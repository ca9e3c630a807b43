//! Every satoshi: what was mined is in the wallets, or was paid as a fee. The chain's own blocks are the witness.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::chain::Chain;
use crate::commands::ListArgs;
use crate::commands::wallet::coins;
use crate::demo::network::Network;
use crate::demo::report::Balance;
use crate::failure::{Exit, Failure};
use crate::money::coins_of;

/// The value of an anchor (BOLT 3).
pub const ANCHOR_SAT: u64 = 330;

/// What the blocks say.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All coinbase outputs.
    pub mined_sat: u64,
    /// The fees of all other transactions: their inputs less their outputs.
    pub fees_sat: u64,
    /// What each output of each transaction is worth.
    pub outputs: BTreeMap<String, Vec<u64>>,
    /// Who spent an output.
    pub spends: BTreeMap<(String, u32), Spend>,
    /// The unspent outputs of an anchor's value.
    pub anchors: BTreeSet<(String, u32)>,
}

/// The input that spent an output.
#[derive(Debug)]
pub struct Spend {
    /// Its transaction.
    pub txid: String,
    /// What the output held.
    pub value_sat: u64,
    /// How many items its witness has.
    pub witness_items: usize,
}

impl Ledger {
    /// Reads the blocks from `first` to the tip. Block 0 is not read: its coinbase was never a coin.
    ///
    /// # Errors
    /// Where the chain does not answer.
    pub async fn read(chain: &Chain, first: u32) -> Result<Ledger, Failure> {
        let mut ledger = Ledger::default();
        for height in first.max(1)..=chain.height().await? {
            let block = chain.block_at(height).await?;
            let transactions = block["tx"].as_array().ok_or_else(|| Failure::defect("a block without transactions"))?;
            for (place, transaction) in transactions.iter().enumerate() {
                ledger.add(transaction, place == 0)?;
            }
        }
        Ok(ledger)
    }

    fn add(&mut self, transaction: &Value, is_coinbase: bool) -> Result<(), Failure> {
        let txid = transaction["txid"].as_str().unwrap_or_default().to_string();
        let outputs = transaction["vout"].as_array().map(Vec::as_slice).unwrap_or_default();
        let values = outputs.iter().map(|output| coins_of(&output["value"])).collect::<Result<Vec<u64>, _>>()?;
        let paid: u64 = values.iter().sum();
        for (index, _) in values.iter().enumerate().filter(|(_, value)| **value == ANCHOR_SAT) {
            self.anchors.insert((txid.clone(), index as u32));
        }
        self.outputs.insert(txid.clone(), values);
        if is_coinbase {
            self.mined_sat += paid;
            return Ok(());
        }
        let mut spent = 0;
        for input in transaction["vin"].as_array().unwrap_or(&Vec::new()) {
            let value_sat = coins_of(&input["prevout"]["value"])?;
            spent += value_sat;
            let (from, output) =
                (input["txid"].as_str().unwrap_or_default(), input["vout"].as_u64().unwrap_or_default());
            let outpoint = (from.to_string(), output as u32);
            self.anchors.remove(&outpoint);
            let witness_items = input["txinwitness"].as_array().map_or(0, Vec::len);
            self.spends.insert(outpoint, Spend { txid: txid.clone(), value_sat, witness_items });
        }
        self.fees_sat += spent.checked_sub(paid).ok_or_else(|| Failure::defect(format!("{txid} makes money")))?;
        Ok(())
    }
}

/// Adds it all up, and compares it with the chain's own sum over its coins.
///
/// # Errors
/// Where a sum is not right, or somebody does not answer.
pub async fn check(network: &Network) -> Result<Balance, Failure> {
    let ledger = Ledger::read(&network.chain, 1).await?;
    let mut owned = BTreeMap::new();
    for member in network.members() {
        let all = ListArgs { limit: usize::MAX, oldest_first: true };
        for coin in coins(&member.client, &all).await? {
            let outpoint = coin.outpoint.unwrap_or_default();
            owned.insert((outpoint.txid, outpoint.output_index), coin.amount_sat);
        }
        for output in member.balances().await?.claimable_outputs {
            let outpoint = output.outpoint.unwrap_or_default();
            owned.insert((outpoint.txid, outpoint.output_index), output.amount_sat);
        }
    }
    // Anchors that nobody found worth a claim belong to one of the two all the same.
    for anchor in &ledger.anchors {
        owned.entry(anchor.clone()).or_insert(ANCHOR_SAT);
    }
    let wallets_sat: u64 = owned.values().sum();
    let difference_sat = ledger.mined_sat as i64 - wallets_sat as i64 - ledger.fees_sat as i64;
    let balance = Balance { mined_sat: ledger.mined_sat, wallets_sat, fees_sat: ledger.fees_sat, difference_sat };
    let info = network.chain.call("gettxoutsetinfo", json!([])).await?;
    let coins_sat = coins_of(&info["total_amount"])?;
    if difference_sat != 0 || coins_sat != wallets_sat {
        let message = format!("{difference_sat} sat are missing; the chain holds {coins_sat} sat: {balance:?}");
        return Err(Failure::new(Exit::ShowFailed, message, "see the logs above, and report it"));
    }
    Ok(balance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_adds_up() {
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let coinbase = json!({ "txid": "a", "vin": [{}], "vout": [{ "value": number("50.00000000"), "n": 0 }] });
        let spend = json!({ "txid": "b", "vin": [{ "txid": "a", "vout": 0, "prevout": { "value": number("50.00000000") } }],
            "vout": [{ "value": number("49.99999000"), "n": 0 }, { "value": number("0.00000330"), "n": 1 }] });
        let mut ledger = Ledger::default();
        ledger.add(&coinbase, true).unwrap();
        ledger.add(&spend, false).unwrap();
        assert_eq!((ledger.mined_sat, ledger.fees_sat), (5_000_000_000, 670));
        assert_eq!(ledger.spends[&("a".to_string(), 0)].txid, "b");
        assert!(ledger.anchors.contains(&("b".to_string(), 1)));
    }
}
