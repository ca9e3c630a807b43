//! Bitcoin Core's JSON-RPC: names, fields, errors and HTTP rules, for clients that know a Core.
//!
//! Conversion, no logic: what changes or asks the chain goes to the validation thread through `driver::Handle`.
//! It listens on loopback only, and serves nobody without cookie or password.
//! Bitcoin Core: `httprpc.cpp`, `rpc/`.

mod argument;
pub mod auth;
mod dialect;
mod method;
mod render;
mod server;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

use self::argument::Params;
use self::dialect::{Call, RpcError, code};
use crate::driver::{Handle, Ledger};
use crate::net::Network as Peers;
use crate::params::{Network, Params as NetworkParams};

pub use self::server::serve;

/// What methods work with once the node is loaded.
pub struct Context {
    /// The validation thread.
    pub node: Handle,
    /// The network.
    pub network: Network,
    /// The peers.
    pub peers: Peers,
    /// When the process started.
    pub started: Instant,
    stop: Arc<watch::Sender<bool>>,
}

impl Context {
    /// Runs `work` on the validation thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> Result<T, RpcError> {
        self.node.run(work).await.map_err(|_| shutting_down())
    }

    fn params(&self) -> &'static NetworkParams {
        self.network.params()
    }

    /// Turns true when the node stops.
    fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

fn shutting_down() -> RpcError {
    RpcError::new(code::CLIENT_NOT_CONNECTED, "Shutting down")
}

/// The methods, from before the node is loaded until it stops.
pub struct Service {
    context: OnceLock<Context>,
    started: Instant,
    stop: Arc<watch::Sender<bool>>,
}

impl Service {
    /// A service that answers every call with "loading" for now. `stop` turns true when the process is to end.
    pub fn new(stop: watch::Sender<bool>) -> Self {
        Self { context: OnceLock::new(), started: Instant::now(), stop: Arc::new(stop) }
    }

    /// The node is loaded: calls are served from now on. Only the first call counts.
    pub fn ready(&self, node: Handle, network: Network, peers: Peers) {
        let context = Context { node, network, peers, started: self.started, stop: Arc::clone(&self.stop) };
        if self.context.set(context).is_err() {
            tracing::error!("the rpc service was made ready twice");
        }
    }

    /// Turns true when the process is to end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    async fn execute(&self, call: Call) -> Result<Value, RpcError> {
        let Some(context) = self.context.get() else {
            return Err(RpcError::new(code::IN_WARMUP, "Loading block index…"));
        };
        let method =
            method::find(&call.method).ok_or_else(|| RpcError::new(code::METHOD_NOT_FOUND, "Method not found"))?;
        let params = Params::positional(call.params, method.arguments)?;
        if !params.count_fits(method.arguments) {
            return Err(RpcError::new(code::MISC, method.help()));
        }
        params.check_types(method.arguments)?;
        (method.run)(context, params).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_hears_that_the_node_is_loading() {
        let service = Service::new(watch::Sender::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for name in ["getblockcount", "stop", "nosuchmethod"] {
            let call = Call { method: name.into(), params: Value::Null };
            let error = runtime.block_on(service.execute(call)).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (-28, "Loading block index…"));
        }
    }
}
