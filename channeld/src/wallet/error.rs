//! Why the wallet refuses.

use bitcoin::{Amount, Txid};

use crate::units::BlockHeight;

/// Why the wallet did not do what it was asked. Nothing changed, but perhaps an address that was revealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// Too few coins that are confirmed or our own change, free and above the reserve.
    #[error("{needed} are needed and {available} are spendable")]
    InsufficientFunds {
        /// The amount and its fee.
        needed: Amount,
        /// What can be spent, the reserve left alone.
        available: Amount,
    },
    /// An output that no node relays.
    #[error("an output of {0} is dust")]
    Dust(Amount),
    /// The fee would be above the caller's limit.
    #[error("the fee of {needed} is above the limit of {limit}")]
    FeeAboveLimit {
        /// What it would cost.
        needed: Amount,
        /// What it may cost.
        limit: Amount,
    },
    /// No such transaction is known, or it is confirmed.
    #[error("{0} is not an unconfirmed transaction of the wallet")]
    NotUnconfirmed(Txid),
    /// The new feerate is not above the old one by what nodes ask for.
    #[error("a replacement must pay a higher feerate")]
    FeerateTooLow,
    /// The block before it is unknown.
    #[error("the block at height {0} does not follow any block that the wallet knows")]
    UnconnectedBlock(BlockHeight),
    /// The stored wallet is not that of these words and this chain.
    #[error("the stored wallet belongs to other words or another chain: {0}")]
    ForeignState(String),
    /// The stored bytes are no wallet.
    #[error("the stored wallet cannot be read")]
    UnreadableState,
}
