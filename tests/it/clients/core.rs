//! `bitcoincore-rpc`, the client that most Rust programs have.

use bitcoin::{Address, Network, OutPoint};
use bitcoincore_rpc::json::ScanTxOutRequest;
use bitcoincore_rpc::{Auth, Client, RpcApi};

use super::{World, script, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bitcoincore_rpc_reads_every_answer() {
    let world = World::start().await;
    let client = Client::new(world.chain.url(), Auth::CookieFile(world.cookie_file().to_owned())).unwrap();
    // It blocks, and so does this.
    tokio::task::spawn_blocking(move || ask(&client)).await.unwrap();
}

fn ask(client: &Client) {
    let address = Address::from_script(&script(), Network::Regtest).unwrap();
    assert!(client.version().unwrap() >= 310_000);
    let hashes = client.generate_to_address(102, &address).unwrap();
    let info = client.get_blockchain_info().unwrap();
    assert_eq!((info.blocks, info.best_block_hash, info.chain), (102, hashes[101], Network::Regtest));
    assert_eq!(client.get_block_count().unwrap(), 102);
    assert_eq!(client.get_best_block_hash().unwrap(), hashes[101]);
    assert_eq!(client.get_block_hash(1).unwrap(), hashes[0]);
    let block = client.get_block(&hashes[0]).unwrap();
    assert_eq!(client.get_block_info(&hashes[0]).unwrap().height, 1);
    assert_eq!(client.get_block_header(&hashes[0]).unwrap(), block.header);
    assert_eq!(client.get_block_header_info(&hashes[0]).unwrap().confirmations, 102);
    assert!(client.get_block_filter(&hashes[0]).unwrap().into_filter().content.len() > 1);
    assert_eq!(client.get_chain_tips().unwrap().len(), 1);
    assert!(client.get_network_info().unwrap().subversion.starts_with("/Satoshi:"));
    assert_eq!(client.get_mining_info().unwrap().blocks, 102);
    assert!(client.get_index_info().unwrap().txindex.unwrap().synced);
    assert!(client.get_difficulty().unwrap() > 0.0);
    assert_eq!(client.get_connection_count().unwrap(), 0);
    assert!(client.uptime().is_ok());
    transactions(client, OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 });
    coins(client);
    client.invalidate_block(&client.get_best_block_hash().unwrap()).unwrap();
    assert_eq!(client.get_block_count().unwrap(), 102);
    client.stop().unwrap();
}

fn transactions(client: &Client, coin: OutPoint) {
    let transaction = spend(coin, 4_999_990_000);
    let tested = client.test_mempool_accept(&[&transaction]).unwrap();
    assert!(tested[0].allowed);
    assert_eq!(tested[0].fees.as_ref().unwrap().base.to_sat(), 10_000);
    let txid = client.send_raw_transaction(&transaction).unwrap();
    assert_eq!(client.get_raw_mempool().unwrap(), [txid]);
    assert_eq!(client.get_raw_transaction(&txid, None).unwrap(), transaction);
    assert_eq!(client.get_raw_transaction_info(&txid, None).unwrap().vout.len(), 1);
    let info = client.get_mempool_info().unwrap();
    assert_eq!((info.size, info.unbroadcast_count.is_some()), (1, true));
    assert!(client.get_tx_out(&coin.txid, 0, Some(true)).unwrap().is_none());
    assert!(client.get_tx_out(&coin.txid, 0, Some(false)).unwrap().unwrap().coinbase);
    let refused = client.send_raw_transaction(&spend(coin, 4_999_990_001)).unwrap_err().to_string();
    assert!(refused.contains("-26") && refused.contains("insufficient fee"), "{refused}");
    let address = Address::from_script(&script(), Network::Regtest).unwrap();
    let block = client.generate_to_address(1, &address).unwrap()[0];
    let found = client.get_raw_transaction_info(&txid, Some(&block)).unwrap();
    assert_eq!((found.confirmations, found.in_active_chain), (Some(1), Some(true)));
    assert_eq!(client.get_raw_transaction_info(&txid, None).unwrap().blockhash, Some(block));
    let proof = client.get_tx_out_proof(&[txid], Some(&block)).unwrap();
    assert!(!proof.is_empty());
    let stats = client.get_block_stats(103).unwrap();
    assert_eq!((stats.txs, stats.total_fee.to_sat()), (2, 10_000));
}

fn coins(client: &Client) {
    let set = client.get_tx_out_set_info(None, None, None).unwrap();
    assert_eq!((set.height, set.tx_outs), (103, 103));
    let address = Address::from_script(&script(), Network::Regtest).unwrap();
    let found = client.scan_tx_out_set_blocking(&[ScanTxOutRequest::Single(format!("addr({address})"))]).unwrap();
    assert_eq!((found.success, found.unspents.len()), (Some(true), 103));
    let descriptor = client.get_descriptor_info(&format!("addr({address})")).unwrap();
    let derived = client.derive_addresses(&descriptor.descriptor, None).unwrap();
    assert_eq!(derived[0].clone().assume_checked(), address);
    assert!(client.estimate_smart_fee(2, None).unwrap().fee_rate.is_none());
}
