//! Bitcoin Core's JSON-RPC: names, fields, errors and HTTP rules, for clients that know a Core.
//!
//! Conversion, no logic: what changes or asks the chain goes to the validation thread through `driver::Handle`.
//! It listens on loopback only, and serves nobody without cookie or password.
//! Bitcoin Core: `httprpc.cpp`, `rpc/`.

mod address;
mod argument;
pub mod auth;
mod descriptor;
mod dialect;
mod double;
mod method;
pub mod notify;
mod places;
mod psbt;
mod render;
mod rest;
mod server;
mod sign;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::watch;

use self::argument::Params;
use self::dialect::{Call, Execute, Reply, RpcError, code};
use self::method::Method;
use crate::config::Publication;
use crate::driver::{Handle, Ledger};
use crate::net::Network as Peers;
use crate::params::{Network, Params as NetworkParams};

pub use self::server::serve;

/// What is served besides JSON-RPC.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// REST, without a password.
    pub rest: bool,
    /// What is published by ZeroMQ, to be told.
    pub publications: Vec<Publication>,
}

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
    template: render::TemplateText,
    scan: Arc<method::Scan>,
    block_scan: Arc<method::Scan>,
    publications: Vec<Publication>,
    active: Active,
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

/// The calls that are under way.
#[derive(Default)]
struct Active {
    calls: Mutex<Vec<(&'static str, Instant)>>,
}

impl Active {
    /// A call begins; it ends when what is returned does.
    fn begin(&self, name: &'static str) -> UnderWay<'_> {
        let begun = (name, Instant::now());
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
        UnderWay { active: self, begun }
    }

    /// Name and beginning of each, the oldest first.
    fn list(&self) -> Vec<(&'static str, Instant)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct UnderWay<'a> {
    active: &'a Active,
    begun: (&'static str, Instant),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut calls = self.active.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are the same are as good as each other.
        if let Some(place) = calls.iter().position(|call| *call == self.begun) {
            calls.remove(place);
        }
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
    offer: Offer,
}

impl Service {
    /// A service that answers every call with "loading" for now. `stop` turns true when the process is to end.
    pub fn new(stop: watch::Sender<bool>, offer: Offer) -> Self {
        Self { context: OnceLock::new(), started: Instant::now(), stop: Arc::new(stop), offer }
    }

    /// Answers a REST request; nothing where REST is not served.
    pub async fn rest(&self, uri: &Uri, body: &Bytes) -> Option<Response> {
        if !self.offer.rest {
            return None;
        }
        Some(rest::respond(self.context.get(), uri, body).await)
    }

    /// The node is loaded: calls are served from now on. Only the first call counts.
    pub fn ready(&self, node: Handle, network: Network, peers: Peers) {
        let context = Context {
            node,
            network,
            peers,
            started: self.started,
            stop: Arc::clone(&self.stop),
            template: render::TemplateText::default(),
            scan: Arc::default(),
            block_scan: Arc::default(),
            publications: self.offer.publications.clone(),
            active: Active::default(),
        };
        if self.context.set(context).is_err() {
            tracing::error!("the rpc service was made ready twice");
        }
    }

    /// Turns true when the process is to end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// What the call needs, checked, or what is wrong with it.
    fn prepare(&self, call: Call) -> Result<(&Context, &'static Method, Params), RpcError> {
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
        Ok((context, method, params))
    }
}

impl Execute for Service {
    async fn one(&self, call: Call) -> Result<Reply, RpcError> {
        let (context, method, params) = self.prepare(call)?;
        let _under_way = context.active.begin(method.name);
        match method::text_of(method.name) {
            Some(run) => run(context, params).await.map(Reply::Text),
            None => (method.run)(context, params).await.map(Reply::Value),
        }
    }

    async fn many(&self, calls: Vec<Call>) -> Vec<Result<Reply, RpcError>> {
        let mut outcomes = Vec::with_capacity(calls.len().min(1_024));
        let mut calls = calls.into_iter().peekable();
        while let Some(call) = calls.next() {
            if call.method != method::TOGETHER {
                outcomes.push(self.one(call).await);
                continue;
            }
            // A run of transactions goes to the validation thread in one piece.
            let mut run = vec![call];
            while let Some(next) = calls.next_if(|next| next.method == method::TOGETHER && run.len() < MAX_RUN) {
                run.push(next);
            }
            outcomes.extend(self.send_together(run).await);
        }
        outcomes
    }
}

/// Calls of a batch that are carried out in one go at most: others come between.
const MAX_RUN: usize = 256;

impl Service {
    async fn send_together(&self, calls: Vec<Call>) -> Vec<Result<Reply, RpcError>> {
        let prepared: Vec<_> = calls.into_iter().map(|call| self.prepare(call)).collect();
        let Some(context) = self.context.get() else {
            return prepared.into_iter().map(|prepared| prepared.map(|_| Value::Null.into())).collect();
        };
        let params = prepared.into_iter().map(|prepared| prepared.map(|(_, _, params)| params)).collect();
        let outcomes = method::send_together(context, params).await;
        outcomes.into_iter().map(|outcome| outcome.map(Reply::Value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_hears_that_the_node_is_loading() {
        let service = Service::new(watch::Sender::new(false), Offer::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for name in ["getblockcount", "stop", "nosuchmethod"] {
            let call = Call { method: name.into(), params: Value::Null };
            let error = runtime.block_on(service.one(call)).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (-28, "Loading block index…"));
        }
    }
}
