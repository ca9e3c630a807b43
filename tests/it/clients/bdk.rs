//! `bdk_bitcoind_rpc`: a wallet's blocks and mempool, over a reorganisation, and by filters.

use std::sync::Arc;

use bdk_bitcoind_rpc::bip158::FilterIter;
use bdk_bitcoind_rpc::bitcoincore_rpc::{Auth, Client, RpcApi};
use bdk_bitcoind_rpc::{Emitter, NO_EXPECTED_MEMPOOL_TXS};
use bdk_wallet::chain::{BlockId, CheckPoint};
use bitcoin::{Address, Network, OutPoint};

use super::{World, script, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bdk_follows_blocks_and_the_mempool() {
    let world = World::start().await;
    let client = Client::new(world.chain.url(), Auth::CookieFile(world.cookie_file().to_owned())).unwrap();
    tokio::task::spawn_blocking(move || follow(&client)).await.unwrap();
}

fn follow(client: &Client) {
    let address = Address::from_script(&script(), Network::Regtest).unwrap();
    let genesis = CheckPoint::new(BlockId { height: 0, hash: client.get_block_hash(0).unwrap() });
    let hashes = client.generate_to_address(105, &address).unwrap();
    let mut emitter = Emitter::new(client, genesis.clone(), 0, NO_EXPECTED_MEMPOOL_TXS);
    let mut first = None;
    let mut last = 0;
    while let Some(event) = emitter.next_block().unwrap() {
        assert_eq!(event.block_height(), last + 1);
        last = event.block_height();
        first.get_or_insert(event.block.txdata[0].compute_txid());
    }
    assert_eq!(last, 105);

    let coin = OutPoint { txid: first.unwrap(), vout: 0 };
    let transaction = spend(coin, 4_999_990_000);
    let txid = client.send_raw_transaction(&transaction).unwrap();
    let seen = emitter.mempool().unwrap();
    assert_eq!(seen.update.iter().map(|(transaction, _)| transaction.compute_txid()).collect::<Vec<_>>(), [txid]);
    let better = spend(coin, 4_999_900_000);
    client.send_raw_transaction(&better).unwrap();
    let seen = emitter.mempool().unwrap();
    assert!(seen.evicted.iter().any(|(evicted, _)| *evicted == txid));
    assert_eq!(Arc::clone(&seen.update[0].0).compute_txid(), better.compute_txid());

    // Two blocks go, three others come.
    client.invalidate_block(&hashes[103]).unwrap();
    let other = Address::from_script(&bitcoin::ScriptBuf::from_bytes(vec![0x52]).to_p2wsh(), Network::Regtest).unwrap();
    client.generate_to_address(3, &other).unwrap();
    let again = emitter.next_block().unwrap().unwrap();
    assert_eq!((again.block_height(), again.connected_to().height), (104, 103));
    assert!(again.block.txdata.iter().any(|transaction| transaction.compute_txid() == better.compute_txid()));
    while emitter.next_block().unwrap().is_some() {}

    // By filters only the blocks that concern the wallet are fetched.
    let events = FilterIter::new(client, genesis, [other.script_pubkey()]);
    let matches: Vec<u32> =
        events.map(Result::unwrap).filter(|event| event.is_match()).map(|event| event.height()).collect();
    assert!([104, 105, 106].iter().all(|height| matches.contains(height)), "{matches:?}");
    assert!(matches.len() < 20, "{matches:?}");
}
