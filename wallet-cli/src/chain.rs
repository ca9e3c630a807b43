//! The chain's JSON-RPC: Bitcoin Core's dialect, with the cookie file or a user and password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

/// The most that is read of an answer: a block with all its inputs as JSON.
const LARGEST_ANSWER: usize = 256 << 20;
/// How long an answer may take: blocks of `devnet` are mined while one waits.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Who one is at the chain.
#[derive(Clone, Debug)]
pub enum Login {
    /// By the cookie file, read for every call: the chain makes a new one at each start.
    Cookie(PathBuf),
    /// By `user:password`.
    Password(String),
}

/// A client of the chain.
#[derive(Clone)]
pub struct Chain {
    url: String,
    login: Login,
    http: HttpClient<HttpConnector, Full<Bytes>>,
}

impl Chain {
    /// For the chain at `url`, such as `http://127.0.0.1:18443`.
    pub fn new(url: impl Into<String>, login: Login) -> Chain {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Chain { url: url.into(), login, http: HttpClient::builder(TokioExecutor::new()).build(connector) }
    }

    /// Where the chain is.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn authorization(&self) -> Result<String, Failure> {
        let login = match &self.login {
            Login::Password(login) => login.clone(),
            Login::Cookie(path) => read_cookie(path)?,
        };
        Ok(format!("Basic {}", STANDARD.encode(login.trim())))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// Where the chain does not answer, does not know the login, or refuses.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let body = json!({ "jsonrpc": "1.0", "id": "wallet-cli", "method": method, "params": params }).to_string();
        let request = hyper::Request::post(&self.url)
            .header("content-type", "application/json")
            .header("authorization", self.authorization()?)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::usage(format!("{}: {error}", self.url), "give --chain http://HOST:PORT"))?;
        let answer = tokio::time::timeout(TIMEOUT, self.http.request(request)).await;
        let answer = answer.map_err(|_| self.unreachable("it does not answer"))?;
        let answer = answer.map_err(|error| self.unreachable(&root(&error)))?;
        let status = answer.status();
        if status == http::StatusCode::UNAUTHORIZED {
            let message = format!("the chain at {} does not know the login", self.url);
            return Err(Failure::new(Exit::Unauthorized, message, "give the --chain-cookie of that chain"));
        }
        let limited = http_body_util::Limited::new(answer.into_body(), LARGEST_ANSWER);
        let body = limited.collect().await.map_err(|error| self.unreachable(&error.to_string()))?.to_bytes();
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| self.unreachable(&format!("it answers HTTP {status} and no JSON")))?;
        match &answer["error"] {
            Value::Null => Ok(answer["result"].clone()),
            error => Err(refused(method, error)),
        }
    }

    fn unreachable(&self, why: &str) -> Failure {
        let message = format!("the chain at {}: {why}", self.url);
        Failure::new(
            Exit::Unreachable,
            message,
            "start it (`l1-utxo`, or Bitcoin Core), or give --chain and --chain-cookie",
        )
    }

    /// The height of the tip.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub async fn height(&self) -> Result<u32, Failure> {
        let height = self.call("getblockcount", json!([])).await?;
        height.as_u64().map(|height| height as u32).ok_or_else(|| Failure::defect("getblockcount gives no number"))
    }

    /// Mines blocks to an address; the hashes.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub async fn mine(&self, blocks: u32, address: &str) -> Result<Vec<String>, Failure> {
        let hashes = self.call("generatetoaddress", json!([blocks, address])).await?;
        let hashes = hashes.as_array().ok_or_else(|| Failure::defect("generatetoaddress gives no list"))?;
        Ok(hashes.iter().filter_map(|hash| hash.as_str().map(String::from)).collect())
    }

    /// The block at a height, with each input's previous output.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub async fn block_at(&self, height: u32) -> Result<Value, Failure> {
        let hash = self.call("getblockhash", json!([height])).await?;
        self.call("getblock", json!([hash, 3])).await
    }
}

fn read_cookie(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("the chain's cookie {}: {error}", path.display());
        Failure::new(Exit::Unreachable, message, "start the chain (`l1-utxo`, or Bitcoin Core), or give --chain-cookie")
    })
}

/// The innermost of nested errors says what is wrong.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The chain's own refusal, with what its code (Bitcoin Core's) suggests.
fn refused(method: &str, error: &Value) -> Failure {
    let code = error["code"].as_i64().unwrap_or_default();
    let message = error["message"].as_str().unwrap_or("refused without a word");
    let (exit, next) = match code {
        -5 | -8 => (Exit::NotFound, "check the hash, height or address"),
        -32601 => (Exit::Usage, "see `wallet-cli chain call help`"),
        -1 | -3 | -32602 => (Exit::Usage, "check the parameters: `wallet-cli chain call help METHOD`"),
        -28 => (Exit::Unreachable, "the chain is starting: wait a moment"),
        _ => (Exit::Refused, "see the chain's log"),
    };
    Failure::new(exit, format!("{method}: {message} (code {code})"), next)
}
