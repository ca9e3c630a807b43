//! Every satoshi of a cluster: what the blocks say, and what the wallets say.

use proto::v1::{ListUnspentOutputsRequest, UnspentOutput};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::daemon::Daemon;

/// A JSON amount in bitcoin, as satoshi.
///
/// # Panics
/// Where it is none.
pub fn sat(amount: &Value) -> u64 {
    bitcoin::Amount::from_str_in(&amount.to_string(), bitcoin::Denomination::Bitcoin).unwrap().to_sat()
}

/// All coins of a wallet.
pub async fn coins(node: &Daemon) -> Vec<UnspentOutput> {
    let (mut coins, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListUnspentOutputsRequest { page_size: 1_000, page_token: token, order: 0 };
        let page = node.client().wallet().list_unspent_outputs(request).await.unwrap().into_inner();
        coins.extend(page.unspent_outputs);
        token = page.next_page_token;
        if token.is_empty() {
            return coins;
        }
    }
}

/// What a wallet holds in blocks.
pub async fn wallet_sat(node: &Daemon) -> u64 {
    coins(node).await.iter().map(|coin| coin.amount_sat).sum()
}

/// The transactions of the blocks after `height` but coinbases: with `fee` and all inputs' `prevout`.
pub async fn transactions_after(cluster: &Cluster, height: u32) -> Vec<Value> {
    let mut transactions = Vec::new();
    for height in height + 1..=cluster.chain.height().await {
        let hash = cluster.chain.call("getblockhash", json!([height])).await;
        let block = cluster.chain.call("getblock", json!([hash, 3])).await;
        transactions.extend(block["tx"].as_array().unwrap().iter().skip(1).cloned());
    }
    transactions
}

/// The sum of the fees of transactions.
pub fn fees(transactions: &[Value]) -> u64 {
    transactions.iter().map(|transaction| sat(&transaction["fee"])).sum()
}
