//! `kyoto-cbf`, a light client by block filters (BIP 157): it reads headers, filters and single blocks from our node over
//! the peer-to-peer network, finds a payment, and follows a reorganisation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::pin::Pin;

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf, Txid};
use kyoto::builder::Builder;
use kyoto::db::traits::{HeaderStore, PeerStore};
use kyoto::db::{BlockHeaderChanges, PersistedPeer};
use kyoto::{Client, Event, ServiceFlags, TrustedPeer};
use serde_json::json;
use tests::chain::nobody;
use tests::wait::soon;
use tests::{ChainNode, until};

use super::{World, spend};

type Later<'a, T, E = Infallible> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

fn now<'a, T: Send + 'a, E: Send + 'a>(outcome: Result<T, E>) -> Later<'a, T, E> {
    Box::pin(std::future::ready(outcome))
}

/// The client's headers, in memory: its own store is SQLite, which the workspace does without.
#[derive(Debug, Default)]
struct Headers(BTreeMap<u32, Header>);

impl HeaderStore for Headers {
    type Error = Infallible;

    fn load<'a>(&'a mut self, range: impl RangeBounds<u32> + Send + Sync + 'a) -> Later<'a, BTreeMap<u32, Header>> {
        now(Ok(self.0.range(range).map(|(height, header)| (*height, *header)).collect()))
    }

    fn stage(&mut self, changes: BlockHeaderChanges) {
        match changes {
            BlockHeaderChanges::Connected(new) => {
                self.0.insert(new.height, new.header);
            }
            BlockHeaderChanges::Reorganized { accepted, reorganized } => {
                for old in reorganized {
                    self.0.remove(&old.height);
                }
                self.0.extend(accepted.iter().map(|new| (new.height, new.header)));
            }
        }
    }

    fn write(&mut self) -> Later<'_, ()> {
        now(Ok(()))
    }

    fn height_of<'a>(&'a mut self, hash: &'a BlockHash) -> Later<'a, Option<u32>> {
        now(Ok(self.0.iter().find(|(_, header)| header.block_hash() == *hash).map(|(height, _)| *height)))
    }

    fn hash_at(&mut self, height: u32) -> Later<'_, Option<BlockHash>> {
        now(Ok(self.0.get(&height).map(Header::block_hash)))
    }

    fn header_at(&mut self, height: u32) -> Later<'_, Option<Header>> {
        now(Ok(self.0.get(&height).copied()))
    }
}

/// It knows nobody but the peer that it was given.
#[derive(Debug)]
struct Nobody;

impl PeerStore for Nobody {
    type Error = String;

    fn update(&mut self, _: PersistedPeer) -> Later<'_, (), String> {
        now(Ok(()))
    }

    fn random(&mut self) -> Later<'_, PersistedPeer, String> {
        now(Err("there is nobody else".to_owned()))
    }

    fn num_unbanned(&mut self) -> Later<'_, u32, String> {
        now(Ok(1))
    }
}

/// What the client has seen on its way to a tip.
#[derive(Default)]
struct Seen {
    /// Height and hash of the blocks whose filters match the script.
    matching: Vec<(u32, BlockHash)>,
    filters: usize,
    disconnected: Vec<BlockHash>,
    accepted: Vec<BlockHash>,
}

/// Follows the client until it has all filters up to `tip`.
async fn follow(client: &mut Client, tip: BlockHash, script: &ScriptBuf) -> Seen {
    let mut seen = Seen::default();
    loop {
        match soon("the light client's next event", client.event_rx.recv()).await.expect("the client goes on") {
            Event::IndexedFilter(filter) => {
                seen.filters += 1;
                if filter.contains_any(std::iter::once(script)) {
                    seen.matching.push((filter.height(), filter.block_hash()));
                }
            }
            Event::BlocksDisconnected { accepted, disconnected } => {
                seen.disconnected.extend(disconnected.iter().map(|header| header.block_hash()));
                seen.accepted.extend(accepted.iter().map(|header| header.block_hash()));
            }
            Event::FiltersSynced(update) if update.tip().hash == tip => return seen,
            Event::FiltersSynced(_) | Event::Block(_) => {}
        }
    }
}

async fn tip(chain: &ChainNode) -> BlockHash {
    chain.tip().await.parse().unwrap()
}

/// Whether one of the blocks pays to the script, with the id of what does.
async fn payment(client: &Client, seen: &Seen, script: &ScriptBuf) -> Option<(u32, Txid)> {
    for (height, hash) in &seen.matching {
        let fetched = soon("a block for the light client", client.requester.get_block(*hash)).await.unwrap();
        assert_eq!((fetched.height, fetched.block.block_hash()), (*height, *hash));
        let pays = |tx: &&bitcoin::Transaction| tx.output.iter().any(|output| output.script_pubkey == *script);
        if let Some(transaction) = fetched.block.txdata.iter().find(pays) {
            return Some((*height, transaction.compute_txid()));
        }
    }
    None
}

fn light_client(chain: SocketAddr, services: ServiceFlags) -> Client {
    let mut peer = TrustedPeer::from_socket_addr(chain);
    peer.set_services(services);
    let mut builder = Builder::new(Network::Regtest).add_peer(peer).required_peers(1);
    let (node, client) = builder.build_with_databases(Nobody, Headers::default());
    tokio::spawn(async move { drop(node.run().await) });
    client
}

/// Where the node listens for peers.
fn p2p(world: &World) -> SocketAddr {
    let path = world.folder.path().join("chain/regtest/p2p.addr");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_client_finds_its_payment_by_filters_and_follows_a_reorg() {
    let world = World::start_with(&["--listen", "127.0.0.1:0"]).await;
    let chain = &world.chain;
    let script = ScriptBuf::from_bytes(vec![0x53]).to_p2wsh();
    let blocks = chain.mine(110, &nobody()).await;
    let coinbase = chain.call("getblock", json!([blocks[0]])).await["tx"][0].as_str().unwrap().parse().unwrap();
    let mut transaction = spend(OutPoint { txid: coinbase, vout: 0 }, 4_999_990_000);
    transaction.output[0].script_pubkey = script.clone();
    chain.call("sendrawtransaction", json!([serialize_hex(&transaction)])).await;
    chain.mine(2, &nobody()).await;

    // Over the plain and over the encrypted transport.
    for services in [ServiceFlags::NONE, ServiceFlags::P2P_V2] {
        let mut client = light_client(p2p(&world), services);
        let seen = follow(&mut client, tip(chain).await, &script).await;
        assert!(seen.filters >= 112, "{}", seen.filters);
        assert!(seen.matching.len() < 10, "{:?}", seen.matching);
        assert_eq!(payment(&client, &seen, &script).await, Some((111, transaction.compute_txid())));
        client.requester.shutdown().unwrap();
    }

    // A branch of another node replaces the last two blocks by three; the payment is in the second of them.
    let mut client = light_client(p2p(&world), ServiceFlags::P2P_V2);
    follow(&mut client, tip(chain).await, &script).await;
    let (old_tip, branch) = (tip(chain).await, branch(chain, &transaction).await);
    for block in &branch {
        chain.call("submitblock", json!([block])).await;
    }
    let new_tip = tip(chain).await;
    assert_ne!(new_tip, old_tip);
    let seen = follow(&mut client, new_tip, &script).await;
    assert_eq!((seen.disconnected.len(), seen.disconnected.last()), (2, Some(&old_tip)));
    assert_eq!((seen.accepted.len(), seen.accepted.last()), (3, Some(&new_tip)));
    assert_eq!(payment(&client, &seen, &script).await, Some((112, transaction.compute_txid())));
    client.requester.shutdown().unwrap();
}

/// Three blocks of another miner on the chain without its last two; the payment is in the second.
async fn branch(chain: &ChainNode, payment: &bitcoin::Transaction) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let other = ChainNode::start(folder.path()).await;
    for height in 1..=chain.height().await - 2 {
        let hash = chain.call("getblockhash", json!([height])).await;
        other.call("submitblock", json!([chain.call("getblock", json!([hash, 0])).await])).await;
    }
    let mut hashes = other.mine(1, &nobody()).await;
    let payment = json!([serialize_hex(payment)]);
    let with_payment = other.call("generateblock", json!([nobody(), payment])).await;
    hashes.push(with_payment["hash"].as_str().unwrap().to_owned());
    hashes.extend(other.mine(1, &nobody()).await);
    let mut blocks = Vec::new();
    for hash in hashes {
        blocks.push(other.call("getblock", json!([hash, 0])).await.as_str().unwrap().to_owned());
    }
    until("the other node to have mined", async || (other.height().await == 113).then_some(())).await;
    blocks
}
