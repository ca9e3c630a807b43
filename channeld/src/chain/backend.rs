//! The JSON-RPC client: pooled connections, typed calls.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::consensus::encode;
use bitcoin::{Block, BlockHash, OutPoint, Txid};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::error::BackendError;
use super::reply::{BlockTxids, BlockchainInfo, HeaderInfo, TxOutInfo, UnspentOutput};

/// The longest answer: a block of four million weight units in hex, and room.
const MAX_ANSWER: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// How we prove who we are.
#[derive(Clone)]
pub enum Credentials {
    /// The file that the chain writes at start; read again when the chain was restarted.
    CookieFile(PathBuf),
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::CookieFile(path) => write!(f, "CookieFile({})", path.display()),
            Credentials::Basic { user, .. } => write!(f, "Basic({user})"),
        }
    }
}

/// A chain that speaks Bitcoin Core's JSON-RPC. Clones share connections.
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    uri: Uri,
    credentials: Credentials,
    authorization: RwLock<Option<HeaderValue>>,
    client: Client<HttpConnector, Full<Bytes>>,
    next_id: AtomicU64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i32,
    message: String,
}

impl Backend {
    /// A client of the chain at `address` (`http://HOST:PORT`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`BackendError::BadAddress`].
    pub fn new(address: &str, credentials: Credentials) -> Result<Backend, BackendError> {
        let uri: Uri = address.parse().map_err(|_| BackendError::BadAddress(address.to_owned()))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.port_u16().is_none() {
            return Err(BackendError::BadAddress(address.to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(connector);
        let authorization = RwLock::new(None);
        let inner = Inner { uri, credentials, authorization, client, next_id: AtomicU64::new(0) };
        Ok(Backend { inner: Arc::new(inner) })
    }

    /// Checks that the chain is the one that begins with `genesis`.
    ///
    /// # Errors
    /// [`BackendError::WrongChain`], or no answer.
    pub async fn check_genesis(&self, genesis: BlockHash) -> Result<(), BackendError> {
        let found = self.block_hash(0).await?;
        if found == genesis { Ok(()) } else { Err(BackendError::WrongChain { expected: genesis, found }) }
    }

    /// An output that is on the chain or in the mempool and unspent; `None` where there is none.
    ///
    /// # Errors
    /// No answer.
    pub async fn unspent_output(&self, outpoint: OutPoint) -> Result<Option<UnspentOutput>, BackendError> {
        let found: Option<TxOutInfo> = self.call("gettxout", json!([outpoint.txid, outpoint.vout, true])).await?;
        match found.map(TxOutInfo::into_output) {
            None => Ok(None),
            Some(Some(output)) => Ok(Some(output)),
            Some(None) => Err(malformed("gettxout", "its value is no amount")),
        }
    }

    /// The ids of the transactions in the block at a height of the best chain, in order; `None` above its tip.
    ///
    /// # Errors
    /// No answer.
    pub async fn block_txids(&self, height: u32) -> Result<Option<Vec<Txid>>, BackendError> {
        let Some(hash) = self.block_hash_at(height).await? else { return Ok(None) };
        self.call::<BlockTxids>("getblock", json!([hash, 1])).await.map(|block| Some(block.txids))
    }

    /// The block at a height of the best chain; `None` above its tip.
    ///
    /// # Errors
    /// No answer.
    pub async fn block_at(&self, height: u32) -> Result<Option<Block>, BackendError> {
        let Some(hash) = self.block_hash_at(height).await? else { return Ok(None) };
        self.block(hash).await.map(Some)
    }

    async fn block_hash_at(&self, height: u32) -> Result<Option<BlockHash>, BackendError> {
        match self.block_hash(height).await {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.has_code(BackendError::INVALID_PARAMETER) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn blockchain_info(&self) -> Result<BlockchainInfo, BackendError> {
        self.call("getblockchaininfo", json!([])).await
    }

    pub(super) async fn block_hash(&self, height: u32) -> Result<BlockHash, BackendError> {
        self.call("getblockhash", json!([height])).await
    }

    pub(super) async fn header(&self, hash: BlockHash) -> Result<HeaderInfo, BackendError> {
        self.call("getblockheader", json!([hash, true])).await
    }

    pub(super) async fn block(&self, hash: BlockHash) -> Result<Block, BackendError> {
        let text: String = self.call("getblock", json!([hash, 0])).await?;
        let block: Block = encode::deserialize_hex(&text).map_err(|error| malformed("getblock", &error.to_string()))?;
        if block.block_hash() != hash {
            return Err(malformed("getblock", "it is another block"));
        }
        if !block.check_merkle_root() {
            return Err(malformed("getblock", "its transactions are not those of its header"));
        }
        Ok(block)
    }

    /// Comes back when the tip is another than `tip`, or after `patience`.
    pub(super) async fn wait_for_new_tip(&self, tip: BlockHash, patience: Duration) -> Result<(), BackendError> {
        let params = json!([patience.as_millis() as u64, tip]);
        self.call_within::<Value>("waitfornewblock", params, patience + PATIENCE).await.map(drop)
    }

    /// One call with positional parameters.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, BackendError> {
        self.call_within(method, params, PATIENCE).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        patience: Duration,
    ) -> Result<T, BackendError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let body = Bytes::from(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        let exchange = self.exchange(body);
        let answer = tokio::time::timeout(patience, exchange).await.map_err(|_| BackendError::TimedOut)??;
        parse(method, &answer)
    }

    async fn exchange(&self, body: Bytes) -> Result<Bytes, BackendError> {
        let (status, answer) = self.post(body.clone(), self.authorization(false)?).await?;
        if status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        // The chain was restarted and has a new cookie.
        let (status, answer) = self.post(body, self.authorization(true)?).await?;
        if status == StatusCode::UNAUTHORIZED { Err(BackendError::Unauthorized) } else { Ok(answer) }
    }

    async fn post(&self, body: Bytes, authorization: HeaderValue) -> Result<(StatusCode, Bytes), BackendError> {
        let unreachable = |error: &dyn std::error::Error| BackendError::Unreachable(innermost(error));
        let request = Request::post(self.inner.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, authorization)
            .body(Full::new(body))
            .expect("the address was checked and the headers are ours");
        let response = self.inner.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| unreachable(error.as_ref()))?.to_bytes()))
    }

    fn authorization(&self, is_stale: bool) -> Result<HeaderValue, BackendError> {
        let known = self.inner.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|_| !is_stale) {
            return Ok(known);
        }
        let pair = match &self.inner.credentials {
            Credentials::Basic { user, password } => format!("{user}:{password}"),
            Credentials::CookieFile(path) => std::fs::read_to_string(path).map_err(|error| BackendError::NoCookie {
                path: path.display().to_string(),
                reason: error.to_string(),
            })?,
        };
        let mut header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair.trim())))
            .expect("base64 is a header's text");
        header.set_sensitive(true);
        *self.inner.authorization.write().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
        Ok(header)
    }
}

fn parse<T: DeserializeOwned>(method: &'static str, answer: &[u8]) -> Result<T, BackendError> {
    let answer: Answer<'_> = serde_json::from_slice(answer).map_err(|error| malformed(method, &error.to_string()))?;
    if let Some(Refusal { code, message }) = answer.error {
        return Err(BackendError::Rpc { code, message });
    }
    let result = answer.result.map_or("null", RawValue::get);
    serde_json::from_str(result).map_err(|error| malformed(method, &error.to_string()))
}

pub(super) fn malformed(method: &'static str, reason: &str) -> BackendError {
    BackendError::Malformed { method, reason: reason.to_owned() }
}

/// The cause that says most: hyper wraps the operating system's word.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
