//! A coin, and where coins are looked up.

use bitcoin::{Amount, OutPoint, Script, TxOut};

use crate::consensus::transaction::SpentOutput;

/// An unspent transaction output with what the rules need to know of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub output: TxOut,
    /// The height of the block that made it.
    pub height: u32,
    /// Whether a coinbase made it.
    pub is_coinbase: bool,
}

impl Coin {
    /// What the rules for inputs need to know of it.
    pub const fn as_spent(&self) -> SpentOutput<'_> {
        SpentOutput { output: &self.output, height: self.height, is_coinbase: self.is_coinbase }
    }

    /// The same, lent.
    pub fn lent(&self) -> LentCoin<'_> {
        let (value, script) = (self.output.value, &*self.output.script_pubkey);
        LentCoin { value, script, height: self.height, is_coinbase: self.is_coinbase }
    }
}

/// A coin as whoever keeps it shows it, in whatever form he keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentCoin<'a> {
    /// Its value.
    pub value: Amount,
    /// Its script.
    pub script: &'a Script,
    /// The height of the block that made it.
    pub height: u32,
    /// Whether a coinbase made it.
    pub is_coinbase: bool,
}

impl LentCoin<'_> {
    /// A copy of one's own.
    pub fn to_coin(self) -> Coin {
        let output = TxOut { value: self.value, script_pubkey: self.script.to_owned() };
        Coin { output, height: self.height, is_coinbase: self.is_coinbase }
    }
}

/// A set of coins to look up in. `Sync`, for inputs are verified in parallel.
pub trait CoinView: Sync {
    /// The coin of an outpoint, if there is one and it is unspent.
    ///
    /// A store that cannot be read stops the process: no answer is ever made up.
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin>;

    /// Whether the coin exists.
    fn has_coin(&self, outpoint: &OutPoint) -> bool {
        self.coin(outpoint).is_some()
    }
}

/// Outputs that can never be spent are never coins: OP_RETURN, and scripts above 10,000 bytes (Core: `IsUnspendable`).
pub fn is_unspendable(script: &Script) -> bool {
    const OP_RETURN: u8 = 0x6a;
    const MAX_SCRIPT_SIZE: usize = 10_000;
    script.as_bytes().first() == Some(&OP_RETURN) || script.len() > MAX_SCRIPT_SIZE
}
