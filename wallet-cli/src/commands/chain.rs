//! `wallet-cli chain`: the chain's JSON-RPC.

use std::time::Duration;

use clap::Subcommand;
use proto::v1::CreateAddressRequest;
use serde_json::{Value, json};

use crate::args::Global;
use crate::chain::Chain;
use crate::client::{Client, caught_up, channels_ready, request_id};
use crate::failure::Failure;
use crate::output::{bar, pairs};

/// How long the daemon may take to follow a block that was mined, and its channels to be ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// Network, height, tip, and what waits in the mempool.
    Info,
    /// Mine blocks (regtest and devnet).
    #[command(
        after_help = "Examples:\n  wallet-cli --data-dir alice chain mine 6\n  wallet-cli chain mine 1 --to bcrt1q…"
    )]
    Mine {
        /// How many.
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        blocks: u32,
        /// Whose the new coins are [default: the daemon's wallet].
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
    },
    /// Coins that can be spent at once: mines 101 blocks to the address.
    #[command(after_help = "Example:\n  wallet-cli chain fund \"$(wallet-cli --data-dir alice wallet address)\"")]
    Fund {
        /// The address.
        address: String,
    },
    /// A block.
    Block {
        /// Its height or hash [default: the tip].
        block: Option<String>,
    },
    /// A transaction.
    Transaction {
        /// Its id.
        txid: String,
    },
    /// What waits for a block.
    Mempool,
    /// Any JSON-RPC call; parameters that are JSON are taken as such.
    #[command(after_help = "Examples:\n  wallet-cli chain call help\n  wallet-cli chain call getblockhash 0")]
    Call {
        /// The method.
        method: String,
        /// Its parameters.
        #[arg(allow_negative_numbers = true)]
        params: Vec<String>,
    },
}

/// Runs it.
///
/// # Errors
/// Where the chain does not answer or refuses.
pub async fn run(global: &Global, command: ChainCommand) -> Result<(), Failure> {
    let (chain, output) = (global.answering_chain().await?, global.output());
    match command {
        ChainCommand::Info => {
            let info = chain.call("getblockchaininfo", json!([])).await?;
            let mempool = chain.call("getmempoolinfo", json!([])).await?;
            output.either(|| json!({ "chain": info, "mempool": mempool }), || info_text(&chain, &info, &mempool))
        }
        ChainCommand::Mine { blocks, to } => {
            let address = match to {
                Some(address) => address,
                None => fresh_address(global).await?,
            };
            mine(global, &chain, blocks, &address).await
        }
        ChainCommand::Fund { address } => mine(global, &chain, 101, &address).await,
        ChainCommand::Block { block } => {
            let hash = match block {
                Some(text) if text.len() < 12 && text.parse::<u32>().is_ok() => {
                    chain.call("getblockhash", json!([text.parse::<u32>().unwrap_or_default()])).await?
                }
                Some(hash) => Value::String(hash),
                None => chain.call("getbestblockhash", json!([])).await?,
            };
            output.value(&chain.call("getblock", json!([hash, 1])).await?)
        }
        ChainCommand::Transaction { txid } => output.value(&chain.call("getrawtransaction", json!([txid, 1])).await?),
        ChainCommand::Mempool => output.value(&chain.call("getrawmempool", json!([true])).await?),
        ChainCommand::Call { method, params } => {
            let params: Vec<Value> = params.into_iter().map(parameter).collect();
            match chain.call(&method, Value::Array(params)).await? {
                Value::String(text) if !global.json => output.either(|| Value::Null, || text),
                result => output.value(&result),
            }
        }
    }
}

/// JSON where it reads as JSON, else text. A bare number with a leading zero or a hash is text.
fn parameter(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

async fn fresh_address(global: &Global) -> Result<String, Failure> {
    let request = CreateAddressRequest { request_id: request_id()?, validate_only: false };
    let client = global.client().await.map_err(|mut failure| {
        failure.next = format!("say whose the coins are with --to ADDRESS, or {}", failure.next);
        failure
    })?;
    Ok(client.wallet().create_address(request).await?.into_inner().address)
}

async fn mine(global: &Global, chain: &Chain, blocks: u32, address: &str) -> Result<(), Failure> {
    let progress = bar(blocks.into(), "mining");
    let mut hashes = Vec::new();
    while (hashes.len() as u32) < blocks {
        let count = (blocks - hashes.len() as u32).min(20);
        hashes.extend(chain.mine(count, address).await?);
        progress.set_position(hashes.len() as u64);
    }
    progress.finish_and_clear();
    follow(global, chain).await;
    let height = chain.height().await?;
    let text = format!("{} block{} mined to {address}: height {height}", blocks, if blocks == 1 { "" } else { "s" });
    global.output().either(|| json!({ "height": height, "hashes": hashes }), || text)
}

/// Gives the daemon that is meant the time to see the new blocks, so that the next command finds it at the tip. Without one,
/// or with one on another chain, there is nothing to wait for; and if it does not follow, that command says why.
async fn follow(global: &Global, chain: &Chain) {
    let at_chain = global.presence().ok().filter(|presence| presence.chain.as_deref() == Some(chain.url()));
    let Some(Ok(target)) = at_chain.map(|presence| presence.target()) else { return };
    let (Ok(client), Ok(height)) = (Client::connect(&target).await, chain.height().await) else { return };
    if caught_up(&client, height, PATIENCE).await.is_ok() {
        let _ = channels_ready(&client, PATIENCE).await;
    }
}

fn info_text(chain: &Chain, info: &Value, mempool: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    pairs(&[
        ("chain", text(&info["chain"])),
        ("at", chain.url().to_string()),
        ("height", text(&info["blocks"])),
        ("tip", text(&info["bestblockhash"])),
        ("difficulty", text(&info["difficulty"])),
        ("mempool", format!("{} transactions, {} vB", text(&mempool["size"]), text(&mempool["bytes"]))),
    ])
}
