//! Bitcoin Core's REST: blocks, headers, coins and the mempool by plain GET, without a password, for those who only read.
//!
//! On the port of JSON-RPC, on loopback like it, and only where the owner wants it (`--rest`). Conversion, no logic.
//! Bitcoin Core: `rest.cpp`, `doc/REST-interface.md`.

mod chain;
mod coins;

use std::str::FromStr;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::argument::Params;
use super::dialect::RpcError;
use super::{Context, method};

/// Headers in one answer at most.
const MAX_HEADERS: usize = 2_000;
const FORMATS: &str = "output format not found (available: .bin, .hex, .json)";
const ONLY_JSON: &str = "output format not found (available: json)";

/// What an answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Hex,
    Json,
    Unknown,
}

/// Core's answer to what it cannot serve: a status and a line of text.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn missing(message: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, message.into())
    }
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.message)
    }
}

/// A number in digits alone: no sign, no space.
fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Bytes that may be asked for in either form, or a value.
enum Answer {
    Bytes(Vec<u8>),
    Json(Value),
    Text(String),
}

/// A request's path below `/rest/`, without its format, and its query.
struct Request<'a> {
    path: &'a str,
    format: Format,
    query: &'a str,
    body: &'a [u8],
}

impl Request<'_> {
    /// The value of a query parameter.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }

    fn parts(&self) -> Vec<&str> {
        self.path.split('/').collect()
    }
}

/// Answers a request whose path begins with `/rest/`.
pub async fn respond(context: Option<&Context>, uri: &Uri, body: &Bytes) -> Response {
    let Some(cx) = context else {
        let message = "Service temporarily unavailable: Loading block index…\r\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "text/plain")], message).into_response();
    };
    let path = uri.path().strip_prefix("/rest/").unwrap_or_default();
    let (path, format) = split_format(path);
    let request = Request { path, format, query: uri.query().unwrap_or_default(), body };
    match dispatch(cx, &request).await.and_then(|answer| write(answer, format)) {
        Ok(response) => response,
        Err(Refusal(status, message)) => {
            (status, [(header::CONTENT_TYPE, "text/plain")], format!("{message}\r\n")).into_response()
        }
    }
}

fn split_format(path: &str) -> (&str, Format) {
    let Some((before, suffix)) = path.rsplit_once('.') else { return (path, Format::Unknown) };
    match suffix {
        "bin" => (before, Format::Binary),
        "hex" => (before, Format::Hex),
        "json" => (before, Format::Json),
        _ => (path, Format::Unknown),
    }
}

async fn dispatch(cx: &Context, request: &Request<'_>) -> Result<Answer, Refusal> {
    let below = |prefix: &str| request.path.strip_prefix(prefix);
    if let Some(txid) = below("tx/") {
        return coins::transaction(cx, request, txid).await;
    }
    if let Some(hash) = below("block/notxdetails/") {
        return chain::block(cx, request, hash, 1).await;
    }
    if let Some(hash) = below("block/") {
        return chain::block(cx, request, hash, 3).await;
    }
    if let Some(hash) = below("blockpart/") {
        return chain::block_part(cx, request, hash).await;
    }
    if let Some(rest) = below("blockfilter/") {
        return chain::filter(cx, request, rest).await;
    }
    if let Some(rest) = below("blockfilterheaders/") {
        return chain::filter_headers(cx, request, rest).await;
    }
    if let Some(rest) = below("headers/") {
        return chain::headers(cx, request, rest).await;
    }
    if let Some(height) = below("blockhashbyheight/") {
        return chain::hash_by_height(cx, request, height).await;
    }
    if let Some(hash) = below("spenttxouts/") {
        return chain::spent_outputs(cx, request, hash).await;
    }
    if let Some(rest) = below("getutxos") {
        return coins::unspent(cx, request, rest).await;
    }
    if let Some(what) = below("mempool/") {
        return coins::mempool(cx, request, what).await;
    }
    match request.parts().as_slice() {
        ["chaininfo"] => json_of(cx, request, "getblockchaininfo", Vec::new()).await,
        ["deploymentinfo"] => json_of(cx, request, "getdeploymentinfo", Vec::new()).await,
        ["deploymentinfo", hash] => {
            chain::parse_hash(hash)?;
            let answer = json_of(cx, request, "getdeploymentinfo", vec![(*hash).into()]).await;
            answer.map_err(|Refusal(_, message)| Refusal::bad(message))
        }
        _ => Err(Refusal::missing("")),
    }
}

/// What a method of JSON-RPC answers, where JSON is the only form.
async fn json_of(cx: &Context, request: &Request<'_>, name: &str, params: Vec<Value>) -> Result<Answer, Refusal> {
    if request.format != Format::Json {
        return Err(Refusal::missing(ONLY_JSON));
    }
    let method = method::find(name).ok_or_else(|| Refusal::missing(""))?;
    let params = Params::positional(Value::Array(params), method.arguments)?;
    let value = (method.run)(cx, params).await.map_err(|error| match error.code {
        super::dialect::code::INVALID_ADDRESS_OR_KEY => Refusal::bad(error.message),
        _ => error.into(),
    })?;
    Ok(Answer::Json(value))
}

fn write(answer: Answer, format: Format) -> Result<Response, Refusal> {
    let (kind, body) = match (answer, format) {
        (Answer::Bytes(bytes), Format::Binary) => ("application/octet-stream", bytes),
        (Answer::Bytes(bytes), Format::Hex) => ("text/plain", (hex::encode(bytes) + "\n").into_bytes()),
        (Answer::Text(text), Format::Hex) => ("text/plain", (text + "\n").into_bytes()),
        (Answer::Json(value), Format::Json) => ("application/json", (value.to_string() + "\n").into_bytes()),
        _ => return Err(Refusal::missing(FORMATS)),
    };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_stands_behind_the_last_point() {
        assert_eq!(split_format("block/00.bin"), ("block/00", Format::Binary));
        assert_eq!(split_format("chaininfo.json"), ("chaininfo", Format::Json));
        assert_eq!(split_format("chaininfo"), ("chaininfo", Format::Unknown));
        assert_eq!(split_format("tx/00.txt"), ("tx/00.txt", Format::Unknown));
        let request = Request { path: "", format: Format::Json, query: "a=1&count=7", body: &[] };
        assert_eq!((request.parameter("count"), request.parameter("b")), (Some("7"), None));
    }
}
