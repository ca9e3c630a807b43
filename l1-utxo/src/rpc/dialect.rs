//! Requests and replies as Bitcoin Core words them: the legacy dialect, JSON-RPC 2.0 and batches of both.

use std::future::Future;

use serde_json::{Value, json};

use super::double;

/// Error codes of Bitcoin Core's `rpc/protocol.h`.
pub mod code {
    /// General error during handling of a command; also a wrong number of arguments.
    pub const MISC: i32 = -1;
    /// A value of an unexpected JSON type.
    pub const TYPE: i32 = -3;
    /// Unknown block, transaction or address.
    pub const INVALID_ADDRESS_OR_KEY: i32 = -5;
    /// A parameter out of range, missing or doubled.
    pub const INVALID_PARAMETER: i32 = -8;
    /// Deserialization of a transaction or block failed.
    pub const DESERIALIZATION: i32 = -22;
    /// A block or transaction could not be processed: missing inputs, fee above the caller's maximum.
    pub const VERIFY: i32 = -25;
    /// The mempool refused the transaction.
    pub const VERIFY_REJECTED: i32 = -26;
    /// The transaction is in the chain already.
    pub const VERIFY_ALREADY_IN_UTXO_SET: i32 = -27;
    /// The node is still loading.
    pub const IN_WARMUP: i32 = -28;
    /// The database failed or a chain operation could not be done.
    pub const DATABASE: i32 = -20;
    /// The node has not caught up with the network yet.
    pub const CLIENT_IN_INITIAL_DOWNLOAD: i32 = -10;
    /// The node is shutting down.
    pub const CLIENT_NOT_CONNECTED: i32 = -9;
    /// The node, or the ban, is there already.
    pub const NODE_ALREADY_ADDED: i32 = -23;
    /// The node was not added.
    pub const NODE_NOT_ADDED: i32 = -24;
    /// There is no connection to the node.
    pub const NODE_NOT_CONNECTED: i32 = -29;
    /// No address and no network of addresses.
    pub const INVALID_IP_OR_SUBNET: i32 = -30;
    /// No place for another connection.
    pub const NODE_CAPACITY_REACHED: i32 = -34;
    /// Parameters that do not go together.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The request is no JSON-RPC request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// An error of ours.
    pub const INTERNAL: i32 = -32603;
    /// The body is no JSON.
    pub const PARSE: i32 = -32700;
}

/// What a method answers when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// One of [`code`].
    pub code: i32,
    /// Core's wording where Core has one.
    pub message: String,
}

impl RpcError {
    /// An error with this code and text.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn to_value(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

/// Calls in one batch at most. Core has no limit; clients of it send 10,000 (LND).
const MAX_BATCH: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Legacy,
    Two,
}

/// One call: its name and its parameters, an array or an object.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method's name.
    pub method: String,
    /// `Value::Array` or `Value::Object`.
    pub params: Value,
}

/// What identifies the answer of one request.
#[derive(Debug, Clone)]
struct Envelope {
    id: Option<Value>,
    version: Version,
}

impl Envelope {
    /// Core answers with a null id when it could not read one.
    fn unknown() -> Self {
        Self { id: Some(Value::Null), version: Version::Legacy }
    }

    /// A 2.0 request without id is executed but not answered.
    fn is_notification(&self) -> bool {
        self.id.is_none() && self.version == Version::Two
    }

    /// Writes the reply: Core's fields in Core's order.
    fn reply(self, outcome: Result<Reply, RpcError>, out: &mut Vec<u8>) {
        let legacy = self.version == Version::Legacy;
        out.extend_from_slice(if legacy { b"{" } else { b"{\"jsonrpc\":\"2.0\"," });
        match outcome {
            Ok(result) => {
                out.extend_from_slice(b"\"result\":");
                result.write(out);
                out.extend_from_slice(if legacy { b",\"error\":null" } else { b"" });
            }
            Err(error) => {
                out.extend_from_slice(if legacy { b"\"result\":null,\"error\":" } else { b"\"error\":" });
                write_value(&error.to_value(), out);
            }
        }
        if let Some(id) = &self.id {
            out.extend_from_slice(b",\"id\":");
            write_value(id, out);
        }
        out.push(b'}');
    }
}

/// What a method answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// As a value.
    Value(Value),
    /// As JSON text, where there is so much of it that it is written but once.
    Text(String),
}

impl Reply {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(value) => write_value(value, out),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a Value has string keys only, so it serializes");
}

/// Who carries out calls.
pub trait Execute {
    /// Carries out one.
    fn one(&self, call: Call) -> impl Future<Output = Result<Reply, RpcError>> + Send;
    /// Carries out several in order; as many outcomes come back.
    fn many(&self, calls: Vec<Call>) -> impl Future<Output = Vec<Result<Reply, RpcError>>> + Send;
}

/// An answer on HTTP's level; no body means an empty one.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// JSON text with a line feed at its end.
    pub body: Option<Vec<u8>>,
}

impl Response {
    fn new(status: u16, envelope: Envelope, outcome: Result<Reply, RpcError>) -> Self {
        let mut body = Vec::with_capacity(match &outcome {
            Ok(Reply::Text(text)) => text.len() + 128,
            _ => 256,
        });
        envelope.reply(outcome, &mut body);
        body.push(b'\n');
        Self { status, body: Some(body) }
    }

    fn failure(envelope: Envelope, error: RpcError) -> Self {
        let status = match error.code {
            code::INVALID_REQUEST => 400,
            code::METHOD_NOT_FOUND => 404,
            _ => 500,
        };
        Self::new(status, envelope, Err(error))
    }
}

/// Answers a request body, letting every call in it be carried out, in order (Core's `ExecuteHTTPRPC`).
pub async fn respond(body: &[u8], executor: &impl Execute) -> Response {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(requests)) => respond_batch(requests, executor).await,
        Ok(request @ Value::Object(_)) => respond_single(request, body, executor).await,
        Ok(_) => Response::failure(Envelope::unknown(), RpcError::new(code::PARSE, "Top-level object parse error")),
        Err(_) => Response::failure(Envelope::unknown(), RpcError::new(code::PARSE, "Parse error")),
    }
}

async fn respond_single(request: Value, body: &[u8], executor: &impl Execute) -> Response {
    let (envelope, call) = parse(request, Envelope::unknown());
    let mut call = match call {
        Ok(call) => call,
        // Core answers a request it cannot read with an HTTP error in either dialect.
        Err(error) => return Response::failure(envelope, error),
    };
    double::keep(body, &call.method, &mut call.params);
    let outcome = executor.one(call).await;
    if envelope.is_notification() {
        return Response { status: 204, body: None };
    }
    match outcome {
        Err(error) if envelope.version == Version::Legacy => Response::failure(envelope, error),
        outcome => Response::new(200, envelope, outcome),
    }
}

async fn respond_batch(requests: Vec<Value>, executor: &impl Execute) -> Response {
    let asked = requests.len();
    if asked > MAX_BATCH {
        let message = format!("A batch must not hold more than {MAX_BATCH} calls");
        return Response::failure(Envelope::unknown(), RpcError::new(code::INVALID_REQUEST, message));
    }
    // What cannot be read is answered in its place; the rest is carried out together.
    let mut calls = Vec::new();
    let mut waiting = Vec::with_capacity(asked);
    let mut last = Envelope::unknown();
    for request in requests {
        // What is no object is answered under the id of the request before, as Core does.
        let (envelope, call) = parse(request, last);
        last = envelope.clone();
        waiting.push((envelope, call.map(|call| calls.push(call))));
    }
    let mut outcomes = executor.many(calls).await.into_iter();
    let mut body = vec![b'['];
    for (envelope, call) in waiting {
        let missing = || Err(RpcError::new(code::INTERNAL, "the call was not carried out"));
        let outcome = call.and_then(|()| outcomes.next().unwrap_or_else(missing));
        if envelope.is_notification() {
            continue;
        }
        if body.len() > 1 {
            body.push(b',');
        }
        envelope.reply(outcome, &mut body);
    }
    // An empty batch is answered by an empty list, one of notifications only by nothing.
    if body.len() == 1 && asked > 0 {
        return Response { status: 204, body: None };
    }
    body.extend_from_slice(b"]\n");
    Response { status: 200, body: Some(body) }
}

/// Core's `JSONRPCRequest::parse`: what was read before a failure still shapes the answer.
fn parse(request: Value, mut envelope: Envelope) -> (Envelope, Result<Call, RpcError>) {
    let invalid = |message: &str| Err(RpcError::new(code::INVALID_REQUEST, message));
    let Value::Object(mut request) = request else {
        return (envelope, invalid("Invalid Request object"));
    };
    envelope = Envelope { id: request.remove("id"), version: Version::Legacy };
    match request.get("jsonrpc") {
        None | Some(Value::Null) => {}
        Some(Value::String(version)) if version == "1.0" => {}
        Some(Value::String(version)) if version == "2.0" => envelope.version = Version::Two,
        Some(Value::String(_)) => return (envelope, invalid("JSON-RPC version not supported")),
        Some(_) => return (envelope, invalid("jsonrpc field must be a string")),
    }
    let method = match request.remove("method") {
        None | Some(Value::Null) => return (envelope, invalid("Missing method")),
        Some(Value::String(method)) => method,
        Some(_) => return (envelope, invalid("Method must be a string")),
    };
    let params = match request.remove("params") {
        None | Some(Value::Null) => Value::Array(Vec::new()),
        Some(params @ (Value::Array(_) | Value::Object(_))) => params,
        Some(_) => return (envelope, invalid("Params must be an array or object")),
    };
    (envelope, Ok(Call { method, params }))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Execute for Echo {
        async fn one(&self, call: Call) -> Result<Reply, RpcError> {
            match call.method.as_str() {
                "echo" => Ok(call.params.into()),
                "fail" => Err(RpcError::new(code::INVALID_PARAMETER, "bad")),
                _ => Err(RpcError::new(code::METHOD_NOT_FOUND, "Method not found")),
            }
        }

        async fn many(&self, calls: Vec<Call>) -> Vec<Result<Reply, RpcError>> {
            let mut outcomes = Vec::new();
            for call in calls {
                outcomes.push(self.one(call).await);
            }
            outcomes
        }
    }

    fn ask(body: &str) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = runtime.block_on(respond(body.as_bytes(), &Echo));
        let body = String::from_utf8(response.body.unwrap_or_default()).unwrap();
        (response.status, body.trim_end().to_string())
    }

    #[test]
    fn both_dialects_answer_as_core_does() {
        let table = [
            (r#"{"method":"echo","params":[1],"id":7}"#, 200, r#"{"result":[1],"error":null,"id":7}"#),
            (r#"{"method":"echo"}"#, 200, r#"{"result":[],"error":null}"#),
            (r#"{"jsonrpc":"1.0","method":"echo","id":"a"}"#, 200, r#"{"result":[],"error":null,"id":"a"}"#),
            (r#"{"jsonrpc":"2.0","method":"echo","id":1}"#, 200, r#"{"jsonrpc":"2.0","result":[],"id":1}"#),
            (r#"{"jsonrpc":"2.0","method":"echo"}"#, 204, ""),
            (r#"{"method":"fail","id":1}"#, 500, r#"{"result":null,"error":{"code":-8,"message":"bad"},"id":1}"#),
            (
                r#"{"method":"nope","id":1}"#,
                404,
                r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"nope","id":1}"#,
                200,
                r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#,
            ),
            (
                r#"{"jsonrpc":"3.0","method":"echo","id":1}"#,
                400,
                r#"{"result":null,"error":{"code":-32600,"message":"JSON-RPC version not supported"},"id":1}"#,
            ),
            (r#"{"id":1}"#, 400, r#"{"result":null,"error":{"code":-32600,"message":"Missing method"},"id":1}"#),
            (
                r#"{"method":"echo","params":5,"id":1}"#,
                400,
                r#"{"result":null,"error":{"code":-32600,"message":"Params must be an array or object"},"id":1}"#,
            ),
            ("{", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#),
            ("3", 500, r#"{"result":null,"error":{"code":-32700,"message":"Top-level object parse error"},"id":null}"#),
            ("[]", 200, "[]"),
            (r#"[{"jsonrpc":"2.0","method":"echo"}]"#, 204, ""),
            (
                r#"[{"method":"echo","id":1},{"jsonrpc":"2.0","method":"fail","id":2},4]"#,
                200,
                concat!(
                    r#"[{"result":[],"error":null,"id":1},"#,
                    r#"{"jsonrpc":"2.0","error":{"code":-8,"message":"bad"},"id":2},"#,
                    r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request object"},"id":2}]"#
                ),
            ),
        ];
        assert_eq!(ask(&format!("[{}1]", "1,".repeat(MAX_BATCH))).0, 400);
        for (request, status, reply) in table {
            assert_eq!(ask(request), (status, reply.to_string()), "{request}");
        }
    }
}
