//! How the graph lies in memory: pages that snapshots share until one is written.
//!
//! Knows sizes and order, and no rule of BOLT 7. A change copies the pages it writes, and only those that a snapshot still holds;
//! taking a snapshot copies the lists of pages. Nothing here looks at bytes from a peer.

pub mod adjacency;
pub mod edge;
pub mod paged;
pub mod record;
pub mod sorted;
