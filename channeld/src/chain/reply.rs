//! The fields that we read, and no others.

use bitcoin::{Amount, BlockHash, ScriptBuf, Txid};
use serde::Deserialize;

/// `getblockchaininfo`.
#[derive(Debug, Deserialize)]
pub(super) struct BlockchainInfo {
    pub(super) blocks: u32,
    #[serde(rename = "bestblockhash")]
    pub(super) best_block_hash: BlockHash,
    #[serde(rename = "initialblockdownload")]
    pub(super) is_initial_download: bool,
}

/// `getblock` with verbosity 1.
#[derive(Debug, Deserialize)]
pub(super) struct BlockTxids {
    #[serde(rename = "tx")]
    pub(super) txids: Vec<Txid>,
}

/// `getblockheader`, verbose.
#[derive(Debug, Deserialize)]
pub(super) struct HeaderInfo {
    /// −1 where the block is not on the best chain.
    pub(super) confirmations: i64,
    #[serde(rename = "previousblockhash")]
    pub(super) previous_block_hash: Option<BlockHash>,
}

/// `estimatesmartfee`.
#[derive(Debug, Deserialize)]
pub(super) struct FeeEstimate {
    /// BTC per kvB; absent where the backend has no estimate.
    #[serde(default, rename = "feerate")]
    pub(super) feerate: Option<serde_json::Number>,
}

/// `getmempoolinfo`.
#[derive(Debug, Deserialize)]
pub(super) struct MempoolInfo {
    /// BTC per kvB.
    #[serde(rename = "mempoolminfee")]
    pub(super) minimum: serde_json::Number,
}

/// An unspent output, as `gettxout` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnspentOutput {
    /// Its worth.
    pub value: Amount,
    /// Its script.
    pub script_pubkey: ScriptBuf,
    /// Blocks on it, its own included; 0 in the mempool.
    pub confirmations: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct TxOutInfo {
    value: serde_json::Number,
    confirmations: u32,
    #[serde(rename = "scriptPubKey")]
    script: ScriptInfo,
}

#[derive(Debug, Deserialize)]
struct ScriptInfo {
    hex: ScriptBuf,
}

impl TxOutInfo {
    pub(super) fn into_output(self) -> Option<UnspentOutput> {
        let value = amount(&self.value)?;
        Some(UnspentOutput { value, script_pubkey: self.script.hex, confirmations: self.confirmations })
    }
}

/// An amount in BTC as the digits that came, never as a float.
pub(super) fn amount(number: &serde_json::Number) -> Option<Amount> {
    Amount::from_str_in(&number.to_string(), bitcoin::Denomination::Bitcoin).ok()
}
