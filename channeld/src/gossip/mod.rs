//! The owner of the graph at the rim: takes in what peers tell everybody, holds it against the chain, passes on what is news, asks
//! peers for what is missing and answers what they ask.
//!
//! A machine of its own ([`machine::Machine`]) decides; a thread around it has the clock, the sessions, the chain's client and the
//! cache file. Whoever searches routes gets immutable snapshots. What is bounded: the messages of each peer that wait, the
//! announcements that wait for the chain, what is still to be told to each peer. It never looks into a channel of ours, decides
//! nothing about money, and losing all it has costs none. BOLT 7; PEERS.md A4.

pub mod answer;
pub mod file;
pub mod funding;
mod intake;
mod limit;
mod lookup;
pub mod machine;
mod mailbox;
mod status;
pub mod sync;
mod thread;

#[cfg(test)]
mod tests;

pub use machine::Settings;
pub use mailbox::{Gossip, Held};
pub use status::GossipStatus;
pub use thread::{Owner, Rim};
