//! Machines joined by a simulated network: delays and cuts from a seed, every message through its bytes.

mod input;
mod lag;
mod options;
mod peer;
mod permission;
mod relay;
mod simulation;
mod world;
