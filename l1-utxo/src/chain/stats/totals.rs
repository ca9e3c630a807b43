//! What an index of coin statistics adds up from block to block (Core: `index/coinstatsindex.cpp`).

use bitcoin::{Block, OutPoint, Txid};

use super::{MuHash, bogosize, coin_element, product};
use crate::chain::{BlockUndo, Coin, is_unspendable};

/// Everything that was counted up to a block and with it. Amounts are in satoshi.
#[derive(Clone, Debug, Default)]
pub struct CoinTotals {
    /// The running hash of all coins.
    pub hash: MuHash,
    /// Coins.
    pub txouts: u64,
    /// Core's measure of their size, in bytes.
    pub bogosize: u64,
    /// All coins together.
    pub total_amount: u64,
    /// What blocks may have created.
    pub subsidy: u64,
    /// All coins that were ever spent; this and the next two grow faster than money does.
    pub prevout_spent: u128,
    /// All coins that transactions other than coinbases ever made.
    pub new_outputs: u128,
    /// All coins that coinbases ever made.
    pub coinbase: u128,
    /// Block 0's subsidy, which is no coin.
    pub unspendable_genesis: u64,
    /// Outputs whose script nobody can ever satisfy.
    pub unspendable_scripts: u64,
    /// What miners could have taken and did not.
    pub unclaimed_rewards: u64,
}

impl CoinTotals {
    /// All that cannot be spent, in satoshi.
    pub const fn unspendable(&self) -> u64 {
        self.unspendable_genesis.saturating_add(self.unspendable_scripts).saturating_add(self.unclaimed_rewards)
    }

    /// Counts the next block, which obeys the rules: its transactions with their hashes, what it spent, and the subsidy at
    /// its height in satoshi.
    pub fn connect(&mut self, block: &Block, txids: &[Txid], undo: &BlockUndo, height: u32, subsidy: u64) {
        self.subsidy += subsidy;
        if height == 0 {
            self.unspendable_genesis += subsidy;
            return;
        }
        let (mut made, mut spent) = (Vec::new(), Vec::new());
        for (place, (transaction, txid)) in block.txdata.iter().zip(txids).enumerate() {
            for (vout, output) in (0u32..).zip(&transaction.output) {
                let coin = Coin { output: output.clone(), height, is_coinbase: place == 0 };
                if is_unspendable(&coin.output.script_pubkey) {
                    self.unspendable_scripts += coin.output.value.to_sat();
                    continue;
                }
                made.push(coin_element(&OutPoint { txid: *txid, vout }, &coin));
                self.make(&coin);
            }
            let coins = place.checked_sub(1).and_then(|place| undo.spent.get(place)).map_or(&[][..], Vec::as_slice);
            for (input, coin) in transaction.input.iter().zip(coins) {
                spent.push(coin_element(&input.previous_output, coin));
                self.spend(coin);
            }
        }
        self.hash = std::mem::take(&mut self.hash).union(&product(&made)).difference(&product(&spent));
        let came = self.prevout_spent + u128::from(self.subsidy);
        let went = self.new_outputs + self.coinbase + u128::from(self.unspendable());
        let unclaimed = came.saturating_sub(went);
        self.unclaimed_rewards += u64::try_from(unclaimed).unwrap_or(0);
    }

    fn make(&mut self, coin: &Coin) {
        let value = coin.output.value.to_sat();
        let sum = if coin.is_coinbase { &mut self.coinbase } else { &mut self.new_outputs };
        *sum += u128::from(value);
        self.txouts += 1;
        self.total_amount += value;
        self.bogosize += bogosize(&coin.output.script_pubkey);
    }

    fn spend(&mut self, coin: &Coin) {
        let value = coin.output.value.to_sat();
        self.prevout_spent += u128::from(value);
        // Undo data that is not the block's would take more than there is: no figure is worth a panic.
        self.txouts = self.txouts.saturating_sub(1);
        self.total_amount = self.total_amount.saturating_sub(value);
        self.bogosize = self.bogosize.saturating_sub(bogosize(&coin.output.script_pubkey));
    }
}
