//! Machines joined by a simulated network: delays and cuts from a seed, every message through its bytes.

mod input;
mod peer;
mod relay;
mod simulation;
mod world;
