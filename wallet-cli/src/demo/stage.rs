//! What every story is told on: the words to the reader, and the network under it.

use super::network::{Network, NetworkPlan};
use crate::failure::Failure;
use crate::output::spinner;

/// Where a story speaks, and what it speaks of.
pub struct Stage {
    is_silent: bool,
    network: Option<Network>,
}

impl Stage {
    /// A stage without a network yet. A silent one says nothing: its story is told in the report.
    pub fn new(is_silent: bool) -> Self {
        Self { is_silent, network: None }
    }

    /// One line to the reader.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.is_silent {
            // What cannot be written is told at the end, with the report.
            let _ = crate::output::line(text.as_ref());
        }
    }

    /// Starts the network.
    ///
    /// # Errors
    /// What the chain or a daemon fails to start with.
    pub async fn start(&mut self, plan: NetworkPlan) -> Result<&Network, Failure> {
        let progress = spinner("starting");
        let started = Network::start(plan).await;
        progress.finish_and_clear();
        Ok(self.network.insert(started?))
    }

    /// The network.
    ///
    /// # Errors
    /// It has not been started.
    pub fn network(&self) -> Result<&Network, Failure> {
        self.network.as_ref().ok_or_else(|| Failure::defect("the network is not started"))
    }

    /// The network, if it runs.
    pub fn end(self) -> Option<Network> {
        self.network
    }
}
