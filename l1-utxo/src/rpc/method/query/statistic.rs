//! Figures of one block (Core: `getblockstats` in `rpc/blockchain.cpp`).

use std::collections::BTreeSet;

use bitcoin::TxOut;
use serde_json::{Map, Value};

use super::{Method, Named};
use crate::chain::{BlockUndo, Coin, is_unspendable};
use crate::consensus::HashedBlock;
use crate::consensus::subsidy::block_subsidy;
use crate::rpc::argument::{self, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::block::{body, undo, view};
use crate::rpc::{Context, render};

/// Bytes that Core counts for a coin besides its output: its outpoint, and height and coinbase flag in one number.
const PER_COIN: i64 = 40;

pub(super) const METHODS: &[Method] = &[Method {
    name: "getblockstats",
    category: "blockchain",
    arguments: &[
        required("hash_or_height", Kind::Any, "The block hash or height of the target block"),
        optional("stats", Kind::List, "Values to plot; all by default").shown("stats"),
    ],
    about: "Compute per block statistics for a given window. All amounts are in satoshis.",
    run: |cx, params| Box::pin(getblockstats(cx, params)),
}];

async fn getblockstats(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let named = Named::read(params.get(0))?;
    let mut wanted = BTreeSet::new();
    if params.has(1) {
        for name in params.list(1)? {
            wanted.insert(argument::text(name)?.to_owned());
        }
    }
    let (view, block, undo) = cx
        .run(move |ledger| {
            let id = named.find(ledger)?;
            Ok::<_, RpcError>((view(ledger, id), body(ledger, id)?, undo(ledger, id)?))
        })
        .await??;
    let subsidy = block_subsidy(view.height, cx.params().subsidy_halving_interval).to_sat();
    let mut figures = Figures::default();
    figures.count(&block, &undo.unwrap_or_default(), view.height == 0);
    let all = figures.into_object(&view, block.transactions().len(), subsidy);
    if wanted.is_empty() {
        return Ok(Value::Object(all));
    }
    let mut chosen = Map::new();
    for name in wanted {
        let unknown = || RpcError::new(code::INVALID_PARAMETER, format!("Invalid selected statistic '{name}'"));
        let value = all.get(&name).cloned().ok_or_else(unknown)?;
        chosen.insert(name, value);
    }
    Ok(Value::Object(chosen))
}

#[derive(Default)]
struct Figures {
    fees: Vec<i64>,
    /// With the weight that pays it.
    feerates: Vec<(i64, i64)>,
    sizes: Vec<i64>,
    inputs: i64,
    outputs: i64,
    total_out: i64,
    total_weight: i64,
    segwit: (i64, i64, i64),
    coins: i64,
    coin_size: i64,
    coin_size_actual: i64,
}

fn size_as_coin(output: &TxOut) -> i64 {
    output.size() as i64 + PER_COIN
}

impl Figures {
    fn count(&mut self, block: &HashedBlock, undo: &BlockUndo, is_genesis: bool) {
        for (index, transaction) in block.transactions().iter().enumerate() {
            self.outputs += transaction.output.len() as i64;
            for output in &transaction.output {
                self.coin_size += size_as_coin(output);
                // Block 0's coinbase is no coin.
                if !is_genesis && !is_unspendable(&output.script_pubkey) {
                    self.coins += 1;
                    self.coin_size_actual += size_as_coin(output);
                }
            }
            let Some(spent) = index.checked_sub(1) else { continue };
            let coins = undo.spent.get(spent).map(Vec::as_slice).unwrap_or_default();
            self.spend(transaction, coins);
        }
    }

    fn spend(&mut self, transaction: &bitcoin::Transaction, coins: &[Coin]) {
        let sum = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>().cast_signed();
        let out = sum(&mut transaction.output.iter().map(|output| output.value.to_sat()));
        let fee = sum(&mut coins.iter().map(|coin| coin.output.value.to_sat())) - out;
        let (size, weight) = (transaction.total_size() as i64, transaction.weight().to_wu().cast_signed());
        self.inputs += transaction.input.len() as i64;
        self.total_out += out;
        self.total_weight += weight;
        self.sizes.push(size);
        self.fees.push(fee);
        self.feerates.push((fee * 4 / weight.max(1), weight));
        if transaction.input.iter().any(|input| !input.witness.is_empty()) {
            self.segwit = (self.segwit.0 + 1, self.segwit.1 + size, self.segwit.2 + weight);
        }
        for coin in coins {
            self.coin_size -= size_as_coin(&coin.output);
            self.coin_size_actual -= size_as_coin(&coin.output);
        }
    }

    fn into_object(mut self, view: &render::BlockView, count: usize, subsidy: u64) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.into(), value);
        let total_fee: i64 = self.fees.iter().sum();
        let total_size: i64 = self.sizes.iter().sum();
        let others = (count as i64 - 1).max(0);
        let average = |total: i64| total.checked_div(others).unwrap_or(0);
        let most = |values: &[i64]| values.iter().max().copied().unwrap_or(0);
        let least = |values: &[i64]| values.iter().min().copied().unwrap_or(0);
        let feerates: Vec<i64> = self.feerates.iter().map(|(feerate, _)| *feerate).collect();
        put("avgfee", average(total_fee).into());
        put("avgfeerate", (total_fee * 4).checked_div(self.total_weight).unwrap_or(0).into());
        put("avgtxsize", average(total_size).into());
        put("blockhash", view.hash.to_string().into());
        put("feerate_percentiles", percentiles(&mut self.feerates, self.total_weight).to_vec().into());
        put("height", view.height.into());
        put("ins", self.inputs.into());
        put("maxfee", most(&self.fees).into());
        put("maxfeerate", most(&feerates).into());
        put("maxtxsize", most(&self.sizes).into());
        put("medianfee", median(&mut self.fees.clone()).into());
        put("mediantime", view.median_time.into());
        put("mediantxsize", median(&mut self.sizes.clone()).into());
        put("minfee", least(&self.fees).into());
        put("minfeerate", least(&feerates).into());
        put("mintxsize", least(&self.sizes).into());
        put("outs", self.outputs.into());
        put("subsidy", subsidy.into());
        put("swtotal_size", self.segwit.1.into());
        put("swtotal_weight", self.segwit.2.into());
        put("swtxs", self.segwit.0.into());
        put("time", view.header.time.into());
        put("total_out", self.total_out.into());
        put("total_size", total_size.into());
        put("total_weight", self.total_weight.into());
        put("totalfee", total_fee.into());
        put("txs", count.into());
        put("utxo_increase", (self.outputs - self.inputs).into());
        put("utxo_size_inc", self.coin_size.into());
        put("utxo_increase_actual", (self.coins - self.inputs).into());
        put("utxo_size_inc_actual", self.coin_size_actual.into());
        object
    }
}

/// Core's `CalculateTruncatedMedian`.
fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0,
        length if length % 2 == 0 => i64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The feerates at 10, 25, 50, 75 and 90 % of the weight (Core: `CalculatePercentilesByWeight`).
fn percentiles(feerates: &mut [(i64, i64)], total_weight: i64) -> [i64; 5] {
    const HUNDREDTHS: [i64; 5] = [10, 25, 50, 75, 90];
    feerates.sort_unstable();
    let mut found = [feerates.last().map_or(0, |(feerate, _)| *feerate); 5];
    let (mut sum, mut next) = (0, 0);
    for (feerate, weight) in feerates.iter() {
        sum += weight;
        while next < HUNDREDTHS.len() && sum * 100 >= total_weight * HUNDREDTHS[next] {
            found[next] = *feerate;
            next += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_cores() {
        assert_eq!([median(&mut []), median(&mut [3]), median(&mut [4, 1]), median(&mut [9, 1, 5])], [0, 3, 2, 5]);
        assert_eq!(percentiles(&mut [], 0), [0; 5]);
        let mut feerates: Vec<(i64, i64)> = (1..=100).map(|feerate| (feerate, 1)).collect();
        assert_eq!(percentiles(&mut feerates, 100), [10, 25, 50, 75, 90]);
    }
}
