//! The gRPC services of the node's owner: conversion between `proto` and the core's own types, and no logic.
//!
//! Knows how a request is read, how an answer is written, who may call (tokens, TLS, the unix socket), and how a refusal
//! becomes a status. Never decides anything about money, never touches a channel, a file of the store or the chain:
//! everything goes through the driver's handle. The contract is `proto/channeld/v1`, its rules are in API.md.

pub mod auth;
pub mod convert;
pub mod health;
mod place;
pub mod presence;
pub mod request;
pub mod server;
pub mod service;
pub mod status;
pub mod tls;
