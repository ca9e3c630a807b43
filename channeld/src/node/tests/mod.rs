//! Whole nodes in one thread: an in-memory disk that crashes when it is told, a chain that checks little, a lossless wire.

mod close;
mod crash;
mod cut;
mod forward;
mod gossip;
mod ledger;
mod member;
mod pay;
mod peer;
mod receive;
mod route;
mod send;
mod silence;
mod stream;
mod world;
