//! What clients say and hear: commands and queries, replies and refusals, events. No gRPC type; `rpc` converts.

pub mod command;
pub mod event;
pub mod refusal;
pub mod reply;
