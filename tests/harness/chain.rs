//! `l1-utxo` as a process, and its JSON-RPC.

use std::path::{Path, PathBuf};

use bitcoin::{Address, Network, ScriptBuf};
use serde_json::{Value, json};
use wallet_cli::chain::{Chain, Login};

use crate::process::{Process, free_port};
use crate::wait::until;

/// The chain of a cluster.
pub struct ChainNode {
    /// The process, while it runs.
    pub process: Option<Process>,
    rpc: Chain,
    arguments: Vec<String>,
    log: PathBuf,
    cookie: PathBuf,
}

impl ChainNode {
    /// Starts it in `folder`, on regtest.
    pub async fn start(folder: &Path) -> ChainNode {
        Self::start_with(folder, &[]).await
    }

    /// The same with further options.
    pub async fn start_with(folder: &Path, options: &[&str]) -> ChainNode {
        let (data_dir, port) = (folder.join("chain"), free_port());
        let arguments = ["--network", "regtest", "--data-dir", &data_dir.display().to_string(), "--rpc"];
        let mut arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        arguments.push(format!("127.0.0.1:{port}"));
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let cookie = data_dir.join("regtest").join(".cookie");
        let rpc = Chain::new(format!("http://127.0.0.1:{port}"), Login::Cookie(cookie.clone()));
        let log = folder.join("chain.log");
        let mut node = ChainNode { process: None, rpc, arguments, log, cookie };
        node.restart().await;
        node
    }

    /// Starts it again on the same directory and port.
    pub async fn restart(&mut self) {
        self.process = None;
        let process = self.process.insert(Process::start("l1-utxo", &self.arguments, &self.log));
        let rpc = &self.rpc;
        until("l1-utxo to answer", async || {
            assert!(process.ended().is_none(), "l1-utxo ended");
            rpc.height().await.ok()
        })
        .await;
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// Its cookie file.
    pub fn cookie(&self) -> &Path {
        &self.cookie
    }

    /// Its client.
    pub fn client(&self) -> &Chain {
        &self.rpc
    }

    /// Calls a method that must succeed.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The height of the tip.
    pub async fn height(&self) -> u32 {
        self.rpc.height().await.unwrap()
    }

    /// The hash of the tip.
    pub async fn tip(&self) -> String {
        self.call("getbestblockhash", json!([])).await.as_str().unwrap().to_owned()
    }

    /// Mines blocks to an address; their hashes.
    pub async fn mine(&self, blocks: u32, address: &str) -> Vec<String> {
        self.rpc.mine(blocks, address).await.unwrap()
    }

    /// The ids of the transactions that wait.
    pub async fn mempool(&self) -> Vec<String> {
        let ids = self.call("getrawmempool", json!([])).await;
        ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a transaction is in the mempool.
    pub async fn await_mempool(&self, txid: &str) {
        until(&format!("{txid} in the mempool"), async || {
            self.mempool().await.iter().any(|id| id == txid).then_some(())
        })
        .await;
    }

    /// Waits until the mempool holds a spend of an output; its id.
    pub async fn await_spend(&self, txid: &str, output: u32) -> String {
        until(&format!("a spend of {txid}:{output}"), async || {
            let spends = self.call("gettxspendingprevout", json!([[{ "txid": txid, "vout": output }]])).await;
            spends[0]["spendingtxid"].as_str().map(str::to_owned)
        })
        .await
    }
}

/// An address that belongs to nobody of a cluster: blocks mined to it change no balance.
pub fn nobody() -> String {
    let script = ScriptBuf::from_bytes(vec![0x51]);
    Address::p2wsh(&script, Network::Regtest).to_string()
}
