//! Why a transaction or a block is refused: one variant for each rule, with Bitcoin Core's reject string.

use std::borrow::Cow;

use bitcoin::{OutPoint, Txid, Wtxid};

use super::script::ScriptError;

/// A transaction breaks a rule that needs no script. The reject strings are Bitcoin Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// It has no input.
    #[error("no inputs")]
    NoInputs,
    /// It has no output.
    #[error("no outputs")]
    NoOutputs,
    /// Four times its size without witness is above the weight of a block.
    #[error("larger than a block may be")]
    Oversize,
    /// An output's value, read as signed, is below zero.
    #[error("an output has a negative value")]
    OutputNegative,
    /// An output's value is above 21 million bitcoin.
    #[error("an output is above 21 million bitcoin")]
    OutputTooLarge,
    /// The outputs together are above 21 million bitcoin.
    #[error("the outputs together are above 21 million bitcoin")]
    OutputTotalTooLarge,
    /// Two inputs spend the same output (CVE-2018-17144).
    #[error("two inputs spend the same output")]
    DuplicateInputs,
    /// A coinbase's scriptSig is not of 2 to 100 bytes.
    #[error("the coinbase script is not of 2 to 100 bytes")]
    CoinbaseScriptLength,
    /// An input of what is no coinbase spends the null outpoint.
    #[error("an input spends the null outpoint")]
    PrevoutNull,
    /// A spent output is unknown or already spent.
    #[error("inputs missing or spent")]
    InputsMissingOrSpent,
    /// A coinbase output is spent before 100 blocks.
    #[error("tried to spend coinbase at depth {depth}")]
    PrematureSpendOfCoinbase {
        /// Blocks between the coinbase and the block that spends it.
        depth: u32,
    },
    /// A spent value, or their sum, is above 21 million bitcoin.
    #[error("the value of the inputs is out of range")]
    InputValuesOutOfRange,
    /// The outputs are worth more than the inputs.
    #[error("value in ({value_in} sat) < value out ({value_out} sat)")]
    InBelowOut {
        /// Sum of the spent outputs in satoshi.
        value_in: u64,
        /// Sum of the outputs in satoshi.
        value_out: u64,
    },
}

impl TransactionError {
    /// Bitcoin Core's reject string (`consensus/tx_check.cpp`, `consensus/tx_verify.cpp`).
    pub const fn reject_reason(&self) -> &'static str {
        match self {
            Self::NoInputs => "bad-txns-vin-empty",
            Self::NoOutputs => "bad-txns-vout-empty",
            Self::Oversize => "bad-txns-oversize",
            Self::OutputNegative => "bad-txns-vout-negative",
            Self::OutputTooLarge => "bad-txns-vout-toolarge",
            Self::OutputTotalTooLarge => "bad-txns-txouttotal-toolarge",
            Self::DuplicateInputs => "bad-txns-inputs-duplicate",
            Self::CoinbaseScriptLength => "bad-cb-length",
            Self::PrevoutNull => "bad-txns-prevout-null",
            Self::InputsMissingOrSpent => "bad-txns-inputs-missingorspent",
            Self::PrematureSpendOfCoinbase { .. } => "bad-txns-premature-spend-of-coinbase",
            Self::InputValuesOutOfRange => "bad-txns-inputvalues-outofrange",
            Self::InBelowOut { .. } => "bad-txns-in-belowout",
        }
    }
}

impl TransactionError {
    /// Core's debug message of the rules on inputs; `None` for those that need no coins.
    fn input_detail(&self) -> Option<String> {
        let money = |sat: u64| {
            let digits = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
            // Two decimals stay.
            let kept = digits.trim_end_matches('0').len().max(digits.len() - 6);
            digits[..kept].to_owned()
        };
        Some(match self {
            Self::InputsMissingOrSpent => "CheckTxInputs: inputs missing/spent".to_owned(),
            Self::PrematureSpendOfCoinbase { .. } => self.to_string(),
            Self::InputValuesOutOfRange => String::new(),
            Self::InBelowOut { value_in, value_out } => {
                format!("value in ({}) < value out ({})", money(*value_in), money(*value_out))
            }
            _ => return None,
        })
    }
}

/// A header breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is known and marked invalid.
    #[error("block was previously marked invalid")]
    DuplicateInvalid,
    /// The target is out of range, or the hash is above it.
    #[error("proof of work failed")]
    HighHash,
    /// The parent is unknown.
    #[error("previous block not found")]
    PrevBlockNotFound,
    /// The parent, or a block before it, is invalid.
    #[error("previous block invalid")]
    BadPrevBlock,
    /// `nBits` is not what the chain asks for.
    #[error("incorrect proof of work")]
    BadDiffBits,
    /// The time is not above the median of the last 11 blocks.
    #[error("block's timestamp is too early")]
    TimeTooOld,
    /// BIP 94: the first block of a period is too far before its parent.
    #[error("block's timestamp is too early on diff adjustment block")]
    TimewarpAttack,
    /// The time is too far ahead of our clock.
    #[error("block timestamp too far in the future")]
    TimeTooNew,
    /// The version is below 4.
    #[error("rejected nVersion=0x{0:08x} block")]
    BadVersion(i32),
    /// Nobody asked for it and its chain has too little work.
    #[error("not enough work for a header that nobody asked for")]
    TooLittleChainwork,
}

/// A block's body breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The merkle root of the transactions is not the header's.
    #[error("hashMerkleRoot mismatch")]
    MerkleRootMismatch,
    /// Two equal neighbours in the merkle tree (CVE-2012-2459).
    #[error("duplicate transaction")]
    DuplicateTransaction,
    /// No transaction at all, or too many, or too large without witnesses.
    #[error("size limits failed")]
    Length,
    /// The first transaction is not a coinbase.
    #[error("first tx is not coinbase")]
    CoinbaseMissing,
    /// A transaction after the first is a coinbase.
    #[error("more than one coinbase")]
    CoinbaseMultiple,
    /// Four times the legacy signature operations are above 80,000 (counted without the spent outputs).
    #[error("out-of-bounds SigOpCount")]
    LegacySigops,
    /// A transaction is not final by its lock time.
    #[error("non-final transaction")]
    NonFinal,
    /// BIP 34: the coinbase does not begin with the height.
    #[error("block height mismatch in coinbase")]
    CoinbaseHeight,
    /// The coinbase's witness is not one item of 32 bytes although the block commits to witnesses.
    #[error("invalid witness reserved value size")]
    WitnessNonceSize,
    /// The witness commitment is wrong.
    #[error("witness merkle commitment mismatch")]
    WitnessMerkleMismatch,
    /// A witness in a block that commits to none.
    #[error("unexpected witness data found")]
    UnexpectedWitness,
    /// The weight is above 4,000,000.
    #[error("weight limit failed")]
    Weight,
    /// BIP 30: an output to be created is unspent already.
    #[error("tried to overwrite transaction")]
    Bip30,
    /// BIP 68: a relative lock time has not passed.
    #[error("contains a non-BIP68-final transaction {0}")]
    SequenceNonFinal(Txid),
    /// The cost of all signature operations is above 80,000.
    #[error("too many sigops")]
    SigopCost,
    /// The fees together are above 21 million bitcoin.
    #[error("accumulated fee in the block out of range")]
    AccumulatedFeeOutOfRange,
    /// The coinbase takes more than subsidy and fees.
    #[error("coinbase pays too much (actual={actual} vs limit={limit})")]
    CoinbaseAmount {
        /// Sum of the coinbase's outputs in satoshi.
        actual: u64,
        /// Subsidy and fees in satoshi.
        limit: u64,
    },
}

/// Why a block or a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A rule for headers.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A rule for the block as a whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A rule that one of its transactions breaks.
    #[error("{error} in transaction {txid}")]
    Transaction {
        /// The transaction at fault.
        txid: Txid,
        /// The rule.
        error: TransactionError,
    },
    /// A script fails.
    #[error("input {input} of {txid}: {error}")]
    Script {
        /// The transaction at fault.
        txid: Txid,
        /// Its hash with witnesses.
        wtxid: Wtxid,
        /// The index of its first input that fails.
        input: u32,
        /// What that input spends.
        spending: OutPoint,
        /// What the interpreter says.
        error: ScriptError,
    },
}

/// What a refused block leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The header is invalid for good, and so is all that builds on it.
    Permanent,
    /// The body does not belong to the header: the body is dropped, the header stays, whoever sent it is to blame.
    Mutated,
    /// Nothing is remembered: it may be valid later, or was never looked at.
    Forgotten,
}

impl HeaderError {
    /// Bitcoin Core's reject string.
    pub fn reject_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::DuplicateInvalid => "duplicate-invalid",
            Self::HighHash => "high-hash",
            Self::PrevBlockNotFound => "prev-blk-not-found",
            Self::BadPrevBlock => "bad-prevblk",
            Self::BadDiffBits => "bad-diffbits",
            Self::TimeTooOld => "time-too-old",
            Self::TimewarpAttack => "time-timewarp-attack",
            Self::TimeTooNew => "time-too-new",
            Self::BadVersion(version) => return Cow::Owned(format!("bad-version(0x{version:08x})")),
            Self::TooLittleChainwork => "too-little-chainwork",
        })
    }
}

impl BodyError {
    /// Bitcoin Core's reject string.
    pub const fn reject_reason(&self) -> &'static str {
        match self {
            Self::MerkleRootMismatch => "bad-txnmrklroot",
            Self::DuplicateTransaction => "bad-txns-duplicate",
            Self::Length => "bad-blk-length",
            Self::CoinbaseMissing => "bad-cb-missing",
            Self::CoinbaseMultiple => "bad-cb-multiple",
            Self::LegacySigops | Self::SigopCost => "bad-blk-sigops",
            Self::NonFinal | Self::SequenceNonFinal(_) => "bad-txns-nonfinal",
            Self::CoinbaseHeight => "bad-cb-height",
            Self::WitnessNonceSize => "bad-witness-nonce-size",
            Self::WitnessMerkleMismatch => "bad-witness-merkle-match",
            Self::UnexpectedWitness => "unexpected-witness",
            Self::Weight => "bad-blk-weight",
            Self::Bip30 => "bad-txns-BIP30",
            Self::AccumulatedFeeOutOfRange => "bad-txns-accumulated-fee-outofrange",
            Self::CoinbaseAmount { .. } => "bad-cb-amount",
        }
    }
}

impl BlockError {
    /// Bitcoin Core's reject string, as `submitblock` returns it.
    pub fn reject_reason(&self) -> Cow<'static, str> {
        match self {
            Self::Header(error) => error.reject_reason(),
            Self::Body(error) => Cow::Borrowed(error.reject_reason()),
            Self::Transaction { error, .. } => Cow::Borrowed(error.reject_reason()),
            Self::Script { error, .. } => Cow::Owned(format!("block-script-verify-flag-failed ({error})")),
        }
    }

    /// Reject string and detail, as Core's log and the refusals of `generateblock` print them
    /// (Core: `ValidationState::ToString`).
    pub fn state(&self) -> String {
        let detail = self.detail();
        let reason = self.reject_reason();
        if detail.is_empty() { reason.into_owned() } else { format!("{reason}, {detail}") }
    }

    /// Core's debug message.
    fn detail(&self) -> String {
        match self {
            Self::Header(
                HeaderError::PrevBlockNotFound | HeaderError::BadPrevBlock | HeaderError::TooLittleChainwork,
            ) => String::new(),
            Self::Header(error) => error.to_string(),
            Self::Body(
                error @ (BodyError::WitnessNonceSize | BodyError::WitnessMerkleMismatch | BodyError::UnexpectedWitness),
            ) => format!("CheckWitnessMalleation : {error}"),
            Self::Body(error @ BodyError::Weight) => format!("ContextualCheckBlock : {error}"),
            Self::Body(error) => error.to_string(),
            Self::Transaction { txid, error } => match error.input_detail() {
                Some(detail) => format!("{detail} in transaction {txid}"),
                None => format!("Transaction check failed (tx hash {txid}) "),
            },
            Self::Script { txid, wtxid, input, spending, .. } => {
                format!("input {input} of {txid} (wtxid {wtxid}), spending {spending}")
            }
        }
    }

    /// What the failure leaves behind once the header is in the tree.
    /// Core: `BlockValidationResult`; failures before that are never remembered at all.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Header(_) => Verdict::Forgotten,
            Self::Body(
                BodyError::MerkleRootMismatch
                | BodyError::DuplicateTransaction
                | BodyError::WitnessNonceSize
                | BodyError::WitnessMerkleMismatch
                | BodyError::UnexpectedWitness,
            ) => Verdict::Mutated,
            Self::Body(_) | Self::Transaction { .. } | Self::Script { .. } => Verdict::Permanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_printed_as_core_prints_it() {
        assert_eq!(HeaderError::BadVersion(3).reject_reason(), "bad-version(0x00000003)");
        assert_eq!(HeaderError::BadVersion(-1).reject_reason(), "bad-version(0xffffffff)");
    }

    #[test]
    fn details_are_cores() {
        let txid = bitcoin::hashes::Hash::all_zeros();
        let of = |error| BlockError::Transaction { txid, error }.state();
        let in_transaction = format!(" in transaction {txid}");
        let below = TransactionError::InBelowOut { value_in: 1_050_000_000, value_out: 2_100_000_001 };
        assert_eq!(
            of(below),
            format!("bad-txns-in-belowout, value in (10.50) < value out (21.00000001){in_transaction}")
        );
        let missing = of(TransactionError::InputsMissingOrSpent);
        assert_eq!(
            missing,
            format!("bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent{in_transaction}")
        );
        let early = of(TransactionError::PrematureSpendOfCoinbase { depth: 7 });
        let expected = "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 7";
        assert_eq!(early, format!("{expected}{in_transaction}"));
        let range = of(TransactionError::InputValuesOutOfRange);
        assert_eq!(range, format!("bad-txns-inputvalues-outofrange, {in_transaction}"));
        let empty = of(TransactionError::NoInputs);
        assert_eq!(empty, format!("bad-txns-vin-empty, Transaction check failed (tx hash {txid}) "));
        assert_eq!(BlockError::from(HeaderError::PrevBlockNotFound).state(), "prev-blk-not-found");
        assert_eq!(BlockError::from(HeaderError::HighHash).state(), "high-hash, proof of work failed");
        assert_eq!(
            BlockError::from(BodyError::UnexpectedWitness).state(),
            "unexpected-witness, CheckWitnessMalleation : unexpected witness data found"
        );
        let weight = BlockError::from(BodyError::Weight).state();
        assert_eq!(weight, "bad-blk-weight, ContextualCheckBlock : weight limit failed");
        let spending = OutPoint { txid, vout: 3 };
        let wtxid = bitcoin::hashes::Hash::all_zeros();
        let script = BlockError::Script { txid, wtxid, input: 1, spending, error: ScriptError::OpReturn };
        assert_eq!(
            script.state(),
            format!(
                "block-script-verify-flag-failed (OP_RETURN was encountered), input 1 of {txid} (wtxid {wtxid}), \
                 spending {txid}:3"
            )
        );
    }

    #[test]
    fn what_a_witness_can_change_never_marks_the_header() {
        assert_eq!(BlockError::from(BodyError::WitnessNonceSize).verdict(), Verdict::Mutated);
        assert_eq!(BlockError::from(BodyError::Weight).verdict(), Verdict::Permanent);
        assert_eq!(BlockError::from(HeaderError::TimeTooNew).verdict(), Verdict::Forgotten);
    }
}
