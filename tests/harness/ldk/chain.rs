//! Follows the chain of a cluster for an LDK node, and takes its transactions there.

use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Transaction};
use lightning::chain::{BestBlock, Listen};
use serde_json::json;
use wallet_cli::chain::Chain;

use super::part::{Broadcasts, Channels, Monitor};
use super::wallet::LdkWallet;

/// See the file's map.
pub struct Follower {
    pub(super) chain: Chain,
    pub(super) channels: Arc<Channels>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) wallet: Arc<LdkWallet>,
    pub(super) broadcasts: Arc<Broadcasts>,
    /// The blocks that were told, by height.
    pub(super) known: Vec<BlockHash>,
    /// What is not in a block yet, as far as is known: said again with each.
    pub(super) waiting: Vec<Transaction>,
}

impl Follower {
    /// Tells what is new on the chain; whether something was.
    pub async fn follow(&mut self) -> bool {
        let sent = self.send().await;
        let Ok(height) = self.chain.height().await else { return sent };
        let (mut at, mut blocks) = (height, Vec::new());
        // Back to the last block that both know.
        loop {
            let Some(block) = self.block(at).await else { return sent };
            let hash = block.block_hash();
            if self.known.get(at as usize) == Some(&hash) {
                break;
            }
            blocks.push(block);
            if at == 0 {
                break;
            }
            at -= 1;
        }
        if blocks.is_empty() && self.known.len() == height as usize + 1 {
            return sent;
        }
        let fork = at as usize + 1;
        if self.known.len() > fork {
            self.known.truncate(fork);
            let best = BestBlock::new(self.known[at as usize], at);
            self.channels.blocks_disconnected(best);
            self.monitor.blocks_disconnected(best);
        }
        for block in blocks.into_iter().rev() {
            self.connect(&block);
        }
        let again = std::mem::take(&mut self.waiting);
        for transaction in again {
            self.submit(transaction).await;
        }
        true
    }

    fn connect(&mut self, block: &Block) {
        let height = u32::try_from(self.known.len()).expect("few blocks");
        self.known.push(block.block_hash());
        self.wallet.connect(block);
        if height > 0 {
            self.channels.block_connected(block, height);
            self.monitor.block_connected(block, height);
        }
        let mined: Vec<_> = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.waiting.retain(|transaction| !mined.contains(&transaction.compute_txid()));
    }

    async fn block(&self, height: u32) -> Option<Block> {
        let hash = self.chain.call("getblockhash", json!([height])).await.ok()?;
        let block = self.chain.call("getblock", json!([hash, 0])).await.ok()?;
        Some(deserialize_hex(block.as_str()?).expect("a block"))
    }

    async fn send(&mut self) -> bool {
        let transactions = self.broadcasts.take();
        let any = !transactions.is_empty();
        for transaction in transactions {
            self.submit(transaction).await;
        }
        any
    }

    async fn submit(&mut self, transaction: Transaction) {
        let answer = self.chain.call("sendrawtransaction", json!([serialize_hex(&transaction)])).await;
        if let Err(failure) = answer
            && std::env::var("LDK_LOG").is_ok()
        {
            eprintln!("ldk: not taken: {failure}");
        }
        if self.waiting.len() < 64 {
            self.waiting.push(transaction);
        }
    }
}
