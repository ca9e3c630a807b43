//! `corepc-client` with the types of Bitcoin Core 31, which refuse every field that they do not know.

use bitcoin::OutPoint;
use corepc_client::{Auth, Client};
use corepc_types::v31 as types;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::chain::nobody;

use super::{World, spend};

struct Asked {
    client: Client,
    wrong: Vec<String>,
}

impl Asked {
    /// Calls a method, and takes note where its answer has another form than Core's.
    async fn reads<T: DeserializeOwned>(&mut self, method: &str, params: Value) {
        let params = params.as_array().unwrap().clone();
        if let Err(error) = self.client.call::<T>(method, &params).await {
            let answer = self.client.call::<Value>(method, &params).await;
            self.wrong.push(format!("{method} {params:?}: {error:?}\n  {answer:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_core_31s_form() {
    let world = World::start().await;
    let (user, password) = world.cookie();
    let client = Client::new_with_auth(world.chain.url(), Auth::UserPass(user, password)).unwrap();
    let hashes = world.chain.mine(102, &nobody()).await;
    let block = client.get_block(&hashes[0].parse().unwrap()).await.unwrap();
    let coin = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    let parent = spend(coin, 4_999_990_000);
    let child = spend(OutPoint { txid: parent.compute_txid(), vout: 0 }, 4_999_980_000);
    let hex = [&parent, &child].map(bitcoin::consensus::encode::serialize_hex::<bitcoin::Transaction>);
    let mut asked = Asked { client, wrong: Vec::new() };
    asked.reads::<types::TestMempoolAccept>("testmempoolaccept", json!([hex])).await;
    asked.reads::<types::SubmitPackage>("submitpackage", json!([hex])).await;
    mempool(&mut asked, &child.compute_txid().to_string(), &coin).await;
    chain(&mut asked, &hashes).await;
    others(&mut asked, &hashes).await;
    assert!(asked.wrong.is_empty(), "{}", asked.wrong.join("\n"));
    assert_eq!(asked.client.server_version().await.unwrap() / 10_000, 31);
    assert_eq!(asked.client.get_block_count().await.unwrap(), 102);
    assert_eq!(asked.client.get_raw_mempool().await.unwrap().len(), 2);
}

async fn mempool(asked: &mut Asked, txid: &str, spent: &OutPoint) {
    asked.reads::<types::GetMempoolInfo>("getmempoolinfo", json!([])).await;
    asked.reads::<types::GetRawMempool>("getrawmempool", json!([])).await;
    asked.reads::<types::GetRawMempoolVerbose>("getrawmempool", json!([true])).await;
    asked.reads::<types::GetRawMempoolSequence>("getrawmempool", json!([false, true])).await;
    asked.reads::<types::GetMempoolEntry>("getmempoolentry", json!([txid])).await;
    asked.reads::<types::GetMempoolAncestors>("getmempoolancestors", json!([txid])).await;
    asked.reads::<types::GetMempoolAncestorsVerbose>("getmempoolancestors", json!([txid, true])).await;
    asked.reads::<types::GetMempoolDescendants>("getmempooldescendants", json!([txid])).await;
    asked.reads::<types::GetMempoolDescendantsVerbose>("getmempooldescendants", json!([txid, true])).await;
    asked.reads::<types::GetMempoolCluster>("getmempoolcluster", json!([txid])).await;
    asked.reads::<types::GetMempoolFeerateDiagram>("getmempoolfeeratediagram", json!([])).await;
    let outputs = json!([[{"txid": spent.txid.to_string(), "vout": spent.vout}]]);
    asked.reads::<types::GetTxSpendingPrevout>("gettxspendingprevout", outputs).await;
    asked.reads::<types::GetRawTransaction>("getrawtransaction", json!([txid])).await;
    asked.reads::<types::GetRawTransactionVerbose>("getrawtransaction", json!([txid, 1])).await;
    asked.reads::<bool>("prioritisetransaction", json!([txid, 0, 100])).await;
    asked.reads::<types::GetPrioritisedTransactions>("getprioritisedtransactions", json!([])).await;
    asked.reads::<types::GetBlockTemplate>("getblocktemplate", json!([{"rules": ["segwit"]}])).await;
    asked.reads::<types::EstimateSmartFee>("estimatesmartfee", json!([6])).await;
}

async fn chain(asked: &mut Asked, hashes: &[String]) {
    let tip = &hashes[101];
    asked.reads::<types::GetBlockchainInfo>("getblockchaininfo", json!([])).await;
    asked.reads::<types::GetBlockVerboseOne>("getblock", json!([tip, 1])).await;
    // Verbosity 2 and 3 cannot be read here: serde's `flatten` and exact numbers, which others in this binary want, do not go
    // together.
    asked.reads::<types::GetBlockHeaderVerbose>("getblockheader", json!([tip])).await;
    asked.reads::<types::GetBlockStats>("getblockstats", json!([tip])).await;
    asked.reads::<types::GetBlockFilter>("getblockfilter", json!([tip])).await;
    asked.reads::<types::GetChainStates>("getchainstates", json!([])).await;
    asked.reads::<types::GetChainTips>("getchaintips", json!([])).await;
    asked.reads::<types::GetChainTxStats>("getchaintxstats", json!([])).await;
    asked.reads::<types::GetDeploymentInfo>("getdeploymentinfo", json!([])).await;
    asked.reads::<types::GetDifficulty>("getdifficulty", json!([])).await;
    asked.reads::<types::GetTxOutSetInfo>("gettxoutsetinfo", json!([])).await;
    asked.reads::<types::GetTxOutSetInfo>("gettxoutsetinfo", json!(["muhash"])).await;
    asked.reads::<types::GetMiningInfo>("getmininginfo", json!([])).await;
    let address = nobody();
    let objects = json!(["start", [format!("addr({address})")]]);
    asked.reads::<types::ScanTxOutSetStart>("scantxoutset", objects).await;
    asked.reads::<types::ValidateAddress>("validateaddress", json!([address])).await;
    let coinbase = asked.client.call::<Value>("getblock", &[json!(hashes[50]), json!(1)]).await.unwrap();
    asked.reads::<types::GetTxOut>("gettxout", json!([coinbase["tx"][0], 0])).await;
    asked.reads::<types::WaitForBlockHeight>("waitforblockheight", json!([1])).await;
}

async fn others(asked: &mut Asked, hashes: &[String]) {
    asked.reads::<types::GetNetworkInfo>("getnetworkinfo", json!([])).await;
    asked.reads::<types::GetPeerInfo>("getpeerinfo", json!([])).await;
    asked.reads::<types::GetNetTotals>("getnettotals", json!([])).await;
    asked.reads::<types::GetConnectionCount>("getconnectioncount", json!([])).await;
    asked.reads::<types::GetIndexInfo>("getindexinfo", json!([])).await;
    asked.reads::<types::GetRpcInfo>("getrpcinfo", json!([])).await;
    asked.reads::<types::GetMemoryInfoStats>("getmemoryinfo", json!([])).await;
    asked.reads::<types::Logging>("logging", json!([])).await;
    asked.reads::<u64>("uptime", json!([])).await;
    let descriptor = "wpkh(0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798)";
    asked.reads::<types::GetDescriptorInfo>("getdescriptorinfo", json!([descriptor])).await;
    let key = "210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798ac";
    asked.reads::<types::DecodeScript>("decodescript", json!([key])).await;
    let raw = asked.client.call::<Value>("getblock", &[json!(hashes[0]), json!(2)]).await.unwrap();
    asked.reads::<types::DecodeRawTransaction>("decoderawtransaction", json!([raw["tx"][0]["hex"]])).await;
    asked.reads::<types::GenerateBlock>("generateblock", json!([nobody(), [], false])).await;
}
