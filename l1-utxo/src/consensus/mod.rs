//! The rules of the chain. Pure: `check_*` without a view, `verify_*` with one; one error variant for each rule.
//!
//! It never reads a clock, a socket or a file, and never decides which chain is best (`chain` does).
//! Bitcoin Core: `src/consensus/`, `src/script/interpreter.cpp`, the checks of `src/validation.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod script;
pub mod sigop;
