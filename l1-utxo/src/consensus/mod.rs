//! The rules of the chain. Pure: `check_*` without a view, `verify_*` with one; one error variant for each rule.
//!
//! It never reads a clock, a socket or a file, and never decides which chain is best (`chain` does).
//! Bitcoin Core: `src/consensus/`, `src/script/interpreter.cpp`, the checks of `src/validation.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod block;
pub mod decode;
pub mod error;
pub mod header;
pub mod locktime;
pub mod merkle;
pub mod pow;
pub mod script;
pub mod sigop;
pub mod subsidy;
pub mod transaction;

pub use block::HashedBlock;
pub use error::{BlockError, BodyError, HeaderError, TransactionError, Verdict};
