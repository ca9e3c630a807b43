//! The public network as its nodes announce it: which channels exist, what forwarding over them costs, who the nodes are.
//!
//! Knows the announcements of BOLT 7, checks and keeps them, answers what others ask of them, forgets what is stale, and gives
//! immutable [`Snapshot`]s to whoever searches routes; it also says what a route is. It never looks at the chain (who calls says
//! what output stands at a short channel id), never sends, never decides which way is good, and knows nothing of own channels
//! that are not announced. One owner has the graph; snapshots are shared and cost a few thousand pointers.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod apply;
mod encode;
mod error;
mod message;
mod node;
mod prune;
mod query;
pub mod route;
mod snapshot;
mod store;
mod verify;

pub use crate::onion::BlindedHop;
pub use apply::{FundingOutput, Graph, LEAST_CONFIRMATIONS};
pub use encode::CacheError;
pub use error::{Reaction, Refusal};
pub use message::{Announcement, Kind};
pub use node::{Address, NodeDetails};
pub use prune::{Pruned, SPENT_BLOCKS};
pub use route::{BlindedTail, DirectedChannel, Direction, Route, RouteHop};
pub use snapshot::{Channel, DirectedPolicy, Snapshot};
pub use store::edge::{ChannelIndex, Edge, NodeIndex};
pub use verify::{MOST_AHEAD_SECONDS, STALE_SECONDS, Verified, VerifiedChannel, VerifiedNode, VerifiedUpdate};

#[cfg(test)]
mod tests;
