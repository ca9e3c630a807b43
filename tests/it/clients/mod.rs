//! Published clients of Bitcoin Core, run unchanged against `l1-utxo`: the crates `bitcoincore-rpc`, `corepc-client` with
//! the types of Core 31, `bdk_bitcoind_rpc`, `lightning-block-sync` and `kyoto-cbf`, and a bare one in Python.

mod bdk;
mod core;
mod ldk;
mod light;
mod python;
mod typed;

use std::path::Path;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction};
use tests::ChainNode;

/// A chain that serves all that it can, and the folder it lives in.
pub struct World {
    pub chain: ChainNode,
    pub folder: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(further: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = [&["--rest", "--txindex", "--block-filter-index"], further].concat();
        let chain = ChainNode::start_with(folder.path(), &options).await;
        Self { chain, folder }
    }

    pub fn cookie(&self) -> (String, String) {
        let text = std::fs::read_to_string(self.chain.cookie()).unwrap();
        let (user, password) = text.trim().split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    }

    /// The port of JSON-RPC and REST.
    pub fn port(&self) -> u16 {
        self.chain.url().rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn cookie_file(&self) -> &Path {
        self.chain.cookie()
    }
}

/// OP_TRUE behind a hash: what `tests::chain::nobody` is paid by, and what anybody can spend.
pub fn script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51]).to_p2wsh()
}

/// Spends an output of anybody's to one of anybody's.
pub fn spend(outpoint: OutPoint, value: u64) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[[0x51u8]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(value), script_pubkey: script() }],
    }
}
