//! The client against a chain of hand-made blocks behind a real socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, CompactTarget, Network, Transaction};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::units::FeeratePerKw;

/// What the fake chain holds.
struct FakeChain {
    blocks: HashMap<BlockHash, (u32, Block)>,
    best: Vec<BlockHash>,
    cookie: String,
    mempool: Vec<String>,
}

type Shared = Arc<Mutex<FakeChain>>;

fn genesis() -> Block {
    bitcoin::constants::genesis_block(Network::Regtest)
}

impl FakeChain {
    fn new() -> FakeChain {
        let genesis = genesis();
        let hash = genesis.block_hash();
        FakeChain {
            blocks: HashMap::from([(hash, (0, genesis))]),
            best: vec![hash],
            cookie: "__cookie__:one".to_owned(),
            mempool: Vec::new(),
        }
    }

    /// Drops the best chain above `height` and adds `count` blocks.
    fn extend(&mut self, height: u32, count: u32, salt: u32) {
        self.best.truncate(height as usize + 1);
        for _ in 0..count {
            let transactions = genesis().txdata;
            let header = Header {
                version: Version::ONE,
                prev_blockhash: *self.best.last().expect("genesis is there"),
                merkle_root: genesis().header.merkle_root,
                time: salt,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: 0,
            };
            let block = Block { header, txdata: transactions };
            self.blocks.insert(block.block_hash(), (self.best.len() as u32, block.clone()));
            self.best.push(block.block_hash());
        }
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i32, &'static str)> {
        let hash = || params[0].as_str().and_then(|text| text.parse::<BlockHash>().ok());
        match method {
            "getblockchaininfo" => Ok(json!({
                "chain": "regtest", "blocks": self.best.len() - 1, "bestblockhash": self.best.last(),
                "initialblockdownload": true
            })),
            "getblockhash" => {
                let height = params[0].as_u64().expect("a height") as usize;
                self.best.get(height).map(|hash| json!(hash)).ok_or((-8, "Block height out of range"))
            }
            "getblockheader" => {
                let (height, block) = hash().and_then(|hash| self.blocks.get(&hash)).ok_or((-5, "Block not found"))?;
                let is_best = self.best.get(*height as usize) == Some(&block.block_hash());
                let depth = self.best.len() as i64 - i64::from(*height);
                let previous = (*height > 0).then_some(block.header.prev_blockhash);
                Ok(json!({"confirmations": if is_best { depth } else { -1 }, "previousblockhash": previous}))
            }
            "getblock" => {
                let (_, block) = hash().and_then(|hash| self.blocks.get(&hash)).ok_or((-5, "Block not found"))?;
                Ok(json!(serialize_hex(block)))
            }
            "getmempoolinfo" => Ok(json!({"mempoolminfee": 0.000_02})),
            "estimatesmartfee" if params[0] == 2 => Ok(json!({"feerate": 0.000_123_45, "blocks": 2})),
            "estimatesmartfee" => Ok(json!({"errors": ["Insufficient data or no feerate found"], "blocks": 6})),
            "sendrawtransaction" => self.take(params[0].as_str().expect("hex")),
            "gettxout" => Ok(Value::Null),
            _ => Err((-32601, "Method not found")),
        }
    }

    fn take(&mut self, text: &str) -> Result<Value, (i32, &'static str)> {
        let transaction: Transaction =
            bitcoin::consensus::encode::deserialize_hex(text).map_err(|_| (-22, "TX decode failed"))?;
        if transaction.output.is_empty() {
            return Err((-26, "bad-txns-vout-empty"));
        }
        self.mempool.push(text.to_owned());
        Ok(json!(transaction.compute_txid()))
    }
}

async fn serve(chain: Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_one(stream, Arc::clone(&chain)));
        }
    });
    address
}

async fn serve_one(stream: TcpStream, chain: Shared) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut authorization, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            match line.trim().split_once(": ") {
                None if line.trim().is_empty() => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    value.clone_into(&mut authorization)
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let answer = respond(&chain, &authorization, &body);
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn respond(chain: &Shared, authorization: &str, body: &[u8]) -> String {
    use base64::Engine;
    let mut chain = chain.lock().expect("no test panics with it");
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(&chain.cookie));
    if authorization != expected {
        return "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned();
    }
    let request: Value = serde_json::from_slice(body).expect("we send JSON");
    let answer = match chain.answer(request["method"].as_str().expect("a method"), &request["params"]) {
        Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": request["id"]}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": request["id"]})
        }
    };
    let text = answer.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

struct Fixture {
    chain: Shared,
    backend: Backend,
    cookie: tempfile::NamedTempFile,
}

impl Fixture {
    async fn new() -> Fixture {
        let chain = Arc::new(Mutex::new(FakeChain::new()));
        let cookie = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(cookie.path(), "__cookie__:one").expect("writable");
        let address = serve(Arc::clone(&chain)).await;
        let backend = Backend::new(&address, Credentials::CookieFile(cookie.path().to_owned())).expect("an address");
        Fixture { chain, backend, cookie }
    }

    fn extend(&self, height: u32, count: u32, salt: u32) {
        self.chain.lock().expect("no test panics with it").extend(height, count, salt);
    }

    fn watch(&self, tip: ChainTip) -> Receiver<ChainEvent> {
        let (events, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(Watcher::new(self.backend.clone(), events, tip, true).run());
        receiver
    }

    fn hash(&self, height: usize) -> BlockHash {
        self.chain.lock().expect("no test panics with it").best[height]
    }
}

fn tip() -> ChainTip {
    ChainTip { height: BlockHeight::new(0), hash: genesis().block_hash() }
}

/// The next event that is about blocks, each with its height: positive connected, negative disconnected.
async fn next_height(events: &mut Receiver<ChainEvent>) -> i64 {
    loop {
        match events.recv().await.expect("the watcher runs") {
            ChainEvent::BlockConnected { height, .. } => return i64::from(height.height()),
            ChainEvent::BlockDisconnected { height, .. } => return -i64::from(height.height()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn blocks_come_in_order_and_leave_in_order() {
    let fixture = Fixture::new().await;
    fixture.extend(0, 5, 1);
    let mut events = fixture.watch(tip());
    for height in 1..=5 {
        assert_eq!(next_height(&mut events).await, height);
    }
    let progress = events.recv().await.expect("the watcher runs");
    assert_eq!(progress, ChainEvent::Progress { best: BlockHeight::new(5), is_current: true });
    let ChainEvent::Fees(fees) = events.recv().await.expect("the watcher runs") else { panic!("fees follow") };
    assert_eq!((fees.urgent, fees.normal), (FeeratePerKw::new(3_087), FeeratePerKw::new(500)));
    fixture.extend(2, 4, 2);
    for height in [-5, -4, -3, 3, 4, 5, 6] {
        assert_eq!(next_height(&mut events).await, height);
    }
}

#[tokio::test]
async fn an_unknown_tip_is_told_and_nothing_else() {
    let fixture = Fixture::new().await;
    fixture.extend(0, 3, 1);
    let stray = ChainTip { height: BlockHeight::new(9), hash: BlockHash::from_byte_array([9; 32]) };
    let mut events = fixture.watch(stray);
    let told = events.recv().await.expect("the watcher runs");
    assert_eq!(told, ChainEvent::TipUnknown { tip: stray, best: BlockHeight::new(3) });
}

#[tokio::test]
async fn a_new_cookie_is_read_after_a_restart() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.backend.check_genesis(genesis().block_hash()).await, Ok(()));
    "__cookie__:two".clone_into(&mut fixture.chain.lock().expect("no test panics with it").cookie);
    assert_eq!(fixture.backend.block_hash(0).await, Err(BackendError::Unauthorized));
    std::fs::write(fixture.cookie.path(), "__cookie__:two").expect("writable");
    assert_eq!(fixture.backend.block_hash(0).await, Ok(fixture.hash(0)));
    let other = BlockHash::from_byte_array([1; 32]);
    let refused = fixture.backend.check_genesis(other).await;
    assert_eq!(refused, Err(BackendError::WrongChain { expected: other, found: fixture.hash(0) }));
}

#[tokio::test]
async fn a_broadcast_says_what_was_refused() {
    let fixture = Fixture::new().await;
    let good = genesis().txdata[0].clone();
    let mut bad = good.clone();
    bad.output.clear();
    assert_eq!(fixture.backend.broadcast(std::slice::from_ref(&good)).await, Ok(Broadcast::Accepted));
    let refused = fixture.backend.broadcast(&[good, bad.clone()]).await;
    let reason = "bad-txns-vout-empty".to_owned();
    assert_eq!(refused, Ok(Broadcast::Rejected { txid: bad.compute_txid(), reason }));
    assert_eq!(fixture.backend.unspent_output(bitcoin::OutPoint::null()).await, Ok(None));
}

#[tokio::test]
async fn addresses_and_absent_chains_are_told_apart() {
    for wrong in ["", "https://127.0.0.1:1", "127.0.0.1:18443", "http://127.0.0.1", "http://"] {
        let refused = Backend::new(wrong, Credentials::CookieFile("x".into())).err();
        assert_eq!(refused, Some(BackendError::BadAddress(wrong.to_owned())), "{wrong}");
    }
    let absent = Backend::new("http://127.0.0.1:1", Credentials::Basic { user: "a".into(), password: "b".into() });
    let refused = absent.expect("an address").block_hash(0).await;
    assert!(matches!(refused, Err(BackendError::Unreachable(_))), "{refused:?}");
    let cookieless = Backend::new("http://127.0.0.1:1", Credentials::CookieFile("/nowhere/.cookie".into()));
    let refused = cookieless.expect("an address").block_hash(0).await;
    assert!(matches!(refused, Err(BackendError::NoCookie { .. })), "{refused:?}");
}
