//! What can go wrong between us and the backend.

use bitcoin::BlockHash;

/// Why the backend gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The address is none.
    #[error("{0:?} is no address of a chain: give it as http://HOST:PORT")]
    BadAddress(String),
    /// The cookie file cannot be read.
    #[error("the chain's cookie file {path}: {reason}; start the chain first, or name its .cookie with --chain-cookie")]
    NoCookie {
        /// The file.
        path: String,
        /// The operating system's word.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("the chain does not answer: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the chain does not answer in time")]
    TimedOut,
    /// It does not take our credentials.
    #[error("the chain refuses our credentials: check --chain-cookie, or the user and password in --chain")]
    Unauthorized,
    /// It refused, with Bitcoin Core's code.
    #[error("{message} (code {code})")]
    Rpc {
        /// Bitcoin Core's code.
        code: i32,
        /// Its message.
        message: String,
    },
    /// It answered something else than Bitcoin Core would.
    #[error("the chain's answer to {method} is not understood: {reason}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// It is on another network.
    #[error("the chain begins with block {found}, this network with {expected}: check --chain and --network")]
    WrongChain {
        /// Our genesis.
        expected: BlockHash,
        /// Its genesis.
        found: BlockHash,
    },
}

impl BackendError {
    /// Bitcoin Core's code for an unknown block or transaction.
    pub(super) const NOT_FOUND: i32 = -5;
    /// A parameter out of range.
    pub(super) const INVALID_PARAMETER: i32 = -8;

    /// Whether it is a refusal with this code.
    pub(super) fn has_code(&self, wanted: i32) -> bool {
        matches!(self, BackendError::Rpc { code, .. } if *code == wanted)
    }
}
