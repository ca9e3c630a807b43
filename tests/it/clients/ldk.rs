//! `lightning-block-sync`: LDK's view of the chain, by JSON-RPC and by REST.

use std::sync::Mutex;

use base64::Engine;
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Network, OutPoint};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Listen};
use lightning_block_sync::gossip::UtxoSource;
use lightning_block_sync::http::HttpEndpoint;
use lightning_block_sync::init::validate_best_block_header;
use lightning_block_sync::poll::{ChainPoller, ChainTip};
use lightning_block_sync::rest::RestClient;
use lightning_block_sync::rpc::RpcClient;
use lightning_block_sync::{BlockSource, SpvClient, UnboundedCache};
use serde_json::json;
use tests::chain::nobody;

use super::{World, script, spend};

/// The heights that were connected, and those that were taken back to.
#[derive(Default)]
struct Listener {
    connected: Mutex<Vec<u32>>,
    forks: Mutex<Vec<u32>>,
}

impl Listen for Listener {
    fn filtered_block_connected(&self, _: &Header, _: &TransactionData<'_>, height: u32) {
        self.connected.lock().unwrap().push(height);
    }

    fn block_connected(&self, _: &Block, height: u32) {
        self.connected.lock().unwrap().push(height);
    }

    fn blocks_disconnected(&self, fork: BestBlock) {
        self.forks.lock().unwrap().push(fork.height);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lightning_block_sync_follows_by_rpc() {
    let world = World::start().await;
    let (user, password) = world.cookie();
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let endpoint = HttpEndpoint::for_host("127.0.0.1".into()).with_port(world.port());
    follow(&world, RpcClient::new(&credentials, endpoint)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lightning_block_sync_follows_by_rest() {
    let world = World::start().await;
    let endpoint = HttpEndpoint::for_host("127.0.0.1".into()).with_port(world.port()).with_path("/rest".into());
    follow(&world, RestClient::new(endpoint)).await;
}

async fn follow<S: BlockSource + UtxoSource>(world: &World, source: S) {
    world.chain.mine(101, &nobody()).await;
    let best = validate_best_block_header(&source).await.unwrap();
    let poller = ChainPoller::new(&source, Network::Regtest);
    let (mut cache, listener) = (UnboundedCache::new(), Listener::default());
    let mut client = SpvClient::new(best, poller, &mut cache, &listener);
    let better = |tip: &ChainTip| matches!(tip, ChainTip::Better(_));

    let hashes = world.chain.mine(3, &nobody()).await;
    let (tip, changed) = client.poll_best_tip().await.unwrap();
    assert!(better(&tip) && changed);
    assert_eq!(*listener.connected.lock().unwrap(), [102, 103, 104]);
    let (tip, changed) = client.poll_best_tip().await.unwrap();
    assert!(matches!(tip, ChainTip::Common) && !changed);

    // Two blocks go, three others come.
    world.chain.call("invalidateblock", json!([hashes[1]])).await;
    let other = bitcoin::Address::from_script(&bitcoin::ScriptBuf::from_bytes(vec![0x52]).to_p2wsh(), Network::Regtest);
    world.chain.mine(3, &other.unwrap().to_string()).await;
    let (tip, changed) = client.poll_best_tip().await.unwrap();
    assert!(better(&tip) && changed);
    assert_eq!(*listener.connected.lock().unwrap(), [102, 103, 104, 103, 104, 105]);
    assert!(!listener.forks.lock().unwrap().is_empty());
    outputs(world, &source).await;
}

/// What gossip is checked by.
async fn outputs<S: BlockSource + UtxoSource>(world: &World, source: &S) {
    let hash: BlockHash = source.get_block_hash_by_height(1).await.unwrap();
    let block = source.get_block(&hash).await.unwrap();
    let lightning_block_sync::BlockData::FullBlock(block) = block else { panic!("a whole block was asked for") };
    assert_eq!(block.txdata[0].output[0].script_pubkey, script());
    let coin = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    assert!(source.is_output_unspent(coin).await.unwrap());
    let hex = bitcoin::consensus::encode::serialize_hex(&spend(coin, 4_999_990_000));
    world.chain.call("sendrawtransaction", json!([hex])).await;
    world.chain.mine(1, &nobody()).await;
    assert!(!source.is_output_unspent(coin).await.unwrap());
}
