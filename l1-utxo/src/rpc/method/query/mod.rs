//! Questions about the chain that only some clients ask: branches, figures, proofs, filters, and who owns which coins.
//!
//! Conversion and arithmetic over what the validation thread hands out; what takes long runs elsewhere. Nothing here
//! changes the chain. Bitcoin Core: `rpc/blockchain.cpp`, `rpc/mining.cpp`, `rpc/txoutproof.cpp`.

mod activity;
mod branch;
mod coinset;
mod filter;
mod proof;
mod scan;
mod snapshot;
mod statistic;
mod work;

use serde_json::Value;

use super::Method;
use super::block::known;
use crate::chain::BlockId;
use crate::driver::Ledger;
use crate::rpc::argument;
use crate::rpc::dialect::{RpcError, code};

pub use scan::Scan;

/// The methods of this folder.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    [
        activity::METHODS,
        branch::METHODS,
        coinset::METHODS,
        filter::METHODS,
        proof::METHODS,
        scan::METHODS,
        snapshot::METHODS,
        statistic::METHODS,
        work::METHODS,
    ]
    .into_iter()
    .flatten()
}

/// A parameter that names a block by hash, or one of the active chain by height (Core: `ParseHashOrHeight`).
enum Named {
    Height(i32),
    Hash(bitcoin::BlockHash),
}

impl Named {
    fn read(value: &Value) -> Result<Self, RpcError> {
        if value.is_number() {
            return argument::int(value).map(Self::Height);
        }
        argument::hash(value, "hash_or_height").map(|hash| Self::Hash(bitcoin::BlockHash::from_raw_hash(hash)))
    }

    fn find(&self, ledger: &Ledger) -> Result<BlockId, RpcError> {
        let height = match self {
            Self::Hash(hash) => return known(ledger, hash),
            Self::Height(height) => *height,
        };
        let invalid = |message: String| RpcError::new(code::INVALID_PARAMETER, message);
        let asked = u32::try_from(height).map_err(|_| invalid(format!("Target block height {height} is negative")))?;
        ledger.chain().at_height(asked).ok_or_else(|| {
            invalid(format!("Target block height {height} after current tip {}", ledger.chain().height()))
        })
    }
}
