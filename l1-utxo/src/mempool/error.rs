//! Why the mempool refuses a transaction: one variant for each rule, with Bitcoin Core's reject strings.

use std::borrow::Cow;

use bitcoin::{OutPoint, Txid, Wtxid};

use crate::consensus::TransactionError;
use crate::consensus::script::ScriptError;

/// Why a transaction is not taken. `Display` gives Core's `state.ToString()`: the reason, then the details if any.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the reject string of each variant is its documentation
pub enum Rejection {
    Consensus(TransactionError),
    Coinbase,
    Version,
    TooHeavy,
    ScriptSigSize,
    ScriptSigNotPushOnly,
    ScriptPubKey,
    BareMultisig,
    DataCarrier,
    Dust,
    DustWithFee,
    TooSmall,
    NonFinal,
    AlreadyInMempool,
    SameNonWitnessData,
    ReplacementDisallowed,
    AlreadyKnown,
    NonBip68Final,
    LegacySigops,
    InputScriptUnknown { input: usize },
    InputWitnessUndefined { input: usize },
    P2shScriptSigMalformed { input: usize, error: ScriptError },
    P2shRedeemScriptMissing { input: usize },
    P2shSigops { input: usize, sigops: u32, limit: u32 },
    WitnessNonStandard,
    TooManySigops { cost: u64 },
    MempoolMinFee { fee: i64, required: u64 },
    MinRelayFee { fee: i64, required: u64 },
    Truc(Box<TrucError>),
    TooManyReplacements { txid: Txid, clusters: usize, limit: usize, sibling: bool },
    LessFees { txid: Txid, fee: i64, replaced: i64, sibling: bool },
    NotEnoughAdditionalFees { txid: Txid, additional: i64, required: u64, sibling: bool },
    DiagramNotImproved,
    TooLargeCluster,
    SpendsConflicting { txid: Txid, conflicting: Txid },
    MissingEphemeralSpends { txid: Txid, wtxid: Wtxid },
    Script(Box<ScriptFailure>),
    MempoolFull,
    FeeAboveMaximum { fee: u64, maximum: u64 },
}

/// Which script fails, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFailure {
    /// What the interpreter says.
    pub error: ScriptError,
    /// The first input that fails.
    pub input: usize,
    /// The transaction.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What the input spends.
    pub spending: OutPoint,
}

/// Which rule of BIP 431 (version 3, topologically restricted) is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrucError {
    #[error("version=3 tx {txid} (wtxid={wtxid}) is too big: {vsize} > {limit} virtual bytes")]
    TooBig { txid: Txid, wtxid: Wtxid, vsize: u64, limit: u64 },
    #[error("version=3 child tx {txid} (wtxid={wtxid}) is too big: {vsize} > {limit} virtual bytes")]
    ChildTooBig { txid: Txid, wtxid: Wtxid, vsize: u64, limit: u64 },
    #[error("tx {txid} (wtxid={wtxid}) would have too many ancestors")]
    TooManyAncestors { txid: Txid, wtxid: Wtxid },
    #[error("tx {txid} (wtxid={wtxid}) would exceed descendant count limit")]
    TooManyDescendants { txid: Txid, wtxid: Wtxid },
    #[error("{own} tx {txid} (wtxid={wtxid}) cannot spend from {other} tx {parent} (wtxid={parent_wtxid})")]
    Inheritance { own: &'static str, txid: Txid, wtxid: Wtxid, other: &'static str, parent: Txid, parent_wtxid: Wtxid },
}

impl Rejection {
    /// Bitcoin Core's reject string.
    pub fn reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Consensus(error) => error.reject_reason(),
            Self::Coinbase => "coinbase",
            Self::Version => "version",
            Self::TooHeavy => "tx-size",
            Self::ScriptSigSize => "scriptsig-size",
            Self::ScriptSigNotPushOnly => "scriptsig-not-pushonly",
            Self::ScriptPubKey => "scriptpubkey",
            Self::BareMultisig => "bare-multisig",
            Self::DataCarrier => "datacarrier",
            Self::Dust | Self::DustWithFee => "dust",
            Self::TooSmall => "tx-size-small",
            Self::NonFinal => "non-final",
            Self::AlreadyInMempool => "txn-already-in-mempool",
            Self::SameNonWitnessData => "txn-same-nonwitness-data-in-mempool",
            Self::ReplacementDisallowed => "bip125-replacement-disallowed",
            Self::AlreadyKnown => "txn-already-known",
            Self::NonBip68Final => "non-BIP68-final",
            Self::LegacySigops
            | Self::InputScriptUnknown { .. }
            | Self::InputWitnessUndefined { .. }
            | Self::P2shScriptSigMalformed { .. }
            | Self::P2shRedeemScriptMissing { .. }
            | Self::P2shSigops { .. } => "bad-txns-nonstandard-inputs",
            Self::WitnessNonStandard => "bad-witness-nonstandard",
            Self::TooManySigops { .. } => "bad-txns-too-many-sigops",
            Self::MempoolMinFee { .. } => "mempool min fee not met",
            Self::MinRelayFee { .. } => "min relay fee not met",
            Self::Truc(_) => "TRUC-violation",
            Self::TooManyReplacements { sibling: false, .. } => "too many potential replacements",
            Self::TooManyReplacements { sibling: true, .. } => {
                "too many potential replacements (including sibling eviction)"
            }
            Self::LessFees { sibling: false, .. } | Self::NotEnoughAdditionalFees { sibling: false, .. } => {
                "insufficient fee"
            }
            Self::LessFees { .. } | Self::NotEnoughAdditionalFees { .. } => {
                "insufficient fee (including sibling eviction)"
            }
            Self::DiagramNotImproved => "replacement-failed",
            Self::TooLargeCluster => "too-large-cluster",
            Self::SpendsConflicting { .. } => "bad-txns-spends-conflicting-tx",
            Self::MissingEphemeralSpends { .. } => "missing-ephemeral-spends",
            Self::Script(failure) => {
                return Cow::Owned(format!("mempool-script-verify-flag-failed ({})", failure.error));
            }
            Self::MempoolFull => "mempool full",
            Self::FeeAboveMaximum { .. } => "max feerate exceeded",
        })
    }

    /// What Core says beyond the reason; empty if nothing.
    pub fn details(&self) -> String {
        match self {
            Self::Consensus(
                error @ (TransactionError::PrematureSpendOfCoinbase { .. } | TransactionError::InBelowOut { .. }),
            ) => consensus_details(error),
            Self::DustWithFee => "tx with dust output must be 0-fee".into(),
            Self::LegacySigops => "non-witness sigops exceed bip54 limit".into(),
            Self::InputScriptUnknown { input } => format!("input {input} script unknown"),
            Self::InputWitnessUndefined { input } => format!("input {input} witness program is undefined"),
            Self::P2shScriptSigMalformed { input, error } => {
                format!("p2sh scriptsig malformed (input {input}: {error})")
            }
            Self::P2shRedeemScriptMissing { input } => format!("input {input} P2SH redeemscript missing"),
            Self::P2shSigops { input, sigops, limit } => {
                format!("p2sh redeemscript sigops exceed limit (input {input}: {sigops} > {limit})")
            }
            Self::TooManySigops { cost } => cost.to_string(),
            Self::MempoolMinFee { fee, required } | Self::MinRelayFee { fee, required } => {
                format!("{fee} < {required}")
            }
            Self::Truc(error) => error.to_string(),
            Self::TooManyReplacements { txid, clusters, limit, .. } => {
                format!("rejecting replacement {txid}; too many conflicting clusters ({clusters} > {limit})")
            }
            Self::LessFees { txid, fee, replaced, .. } => less_fees(txid, *fee, *replaced),
            Self::NotEnoughAdditionalFees { txid, additional, required, .. } => {
                not_enough_fees(txid, *additional, *required)
            }
            Self::DiagramNotImproved => "insufficient feerate: does not improve feerate diagram".into(),
            Self::SpendsConflicting { txid, conflicting } => {
                format!("{txid} spends conflicting transaction {conflicting}")
            }
            Self::MissingEphemeralSpends { txid, wtxid } => {
                format!("tx {txid} (wtxid={wtxid}) did not spend parent's ephemeral dust")
            }
            Self::Script(failure) => {
                let ScriptFailure { input, txid, wtxid, spending, .. } = failure.as_ref();
                format!("input {input} of {txid} (wtxid {wtxid}), spending {spending}")
            }
            _ => String::new(),
        }
    }

    /// Whether it may be taken in another light: alone if it failed among others, or with a child that pays for it (Core:
    /// `TX_RECONSIDERABLE`).
    pub const fn is_reconsiderable(&self) -> bool {
        matches!(
            self,
            Self::MempoolMinFee { .. }
                | Self::MinRelayFee { .. }
                | Self::LessFees { .. }
                | Self::NotEnoughAdditionalFees { .. }
                | Self::DiagramNotImproved
                | Self::MempoolFull
        )
    }

    /// Whether an input is unknown or spent, which later transactions may mend.
    pub const fn is_missing_inputs(&self) -> bool {
        matches!(self, Self::Consensus(TransactionError::InputsMissingOrSpent))
    }

    /// Whether a witness that was stripped on the way would explain it (Core: `TX_WITNESS_STRIPPED`).
    pub const fn may_lack_witness(&self) -> bool {
        matches!(self, Self::Script(_) | Self::WitnessNonStandard)
    }

    /// Whether it lies in what is spent, which no other witness would change (Core: `TX_INPUTS_NOT_STANDARD`).
    pub const fn is_about_spent_scripts(&self) -> bool {
        matches!(
            self,
            Self::LegacySigops
                | Self::InputScriptUnknown { .. }
                | Self::InputWitnessUndefined { .. }
                | Self::P2shScriptSigMalformed { .. }
                | Self::P2shRedeemScriptMissing { .. }
                | Self::P2shSigops { .. }
        )
    }
}

/// Core's words for a replacement that pays less than what it replaces.
pub(super) fn less_fees(txid: &Txid, fee: i64, replaced: i64) -> String {
    format!("rejecting replacement {txid}, less fees than conflicting txs; {} < {}", money(fee), money(replaced))
}

/// Core's words for a replacement that does not pay for itself.
pub(super) fn not_enough_fees(txid: &Txid, additional: i64, required: u64) -> String {
    let (additional, required) = (money(additional), money(required.cast_signed()));
    format!("rejecting replacement {txid}, not enough additional fees to relay; {additional} < {required}")
}

fn consensus_details(error: &TransactionError) -> String {
    match error {
        TransactionError::InBelowOut { value_in, value_out } => {
            format!("value in ({}) < value out ({})", money(value_in.cast_signed()), money(value_out.cast_signed()))
        }
        other => other.to_string(),
    }
}

/// Bitcoin with as many decimals as needed, at least two (Core: `FormatMoney`).
fn money(sat: i64) -> String {
    let sign = if sat < 0 { "-" } else { "" };
    let sat = sat.unsigned_abs();
    let text = format!("{sign}{}.{:08}", sat / 100_000_000, sat % 100_000_000);
    let spare = text.bytes().rev().take_while(|digit| *digit == b'0').count().min(6);
    text[..text.len() - spare].to_owned()
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let details = self.details();
        if details.is_empty() {
            return f.write_str(&self.reason());
        }
        write!(f, "{}, {details}", self.reason())
    }
}

impl std::error::Error for Rejection {}

impl From<TransactionError> for Rejection {
    fn from(error: TransactionError) -> Self {
        Self::Consensus(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_printed_as_core_prints_it() {
        for (sat, text) in
            [(0, "0.00"), (1, "0.00000001"), (100_000_000, "1.00"), (150_000, "0.0015"), (-5, "-0.00000005")]
        {
            assert_eq!(money(sat), text);
        }
    }

    #[test]
    fn reason_and_details_are_joined() {
        let rejection = Rejection::MinRelayFee { fee: 1, required: 14 };
        assert_eq!(rejection.to_string(), "min relay fee not met, 1 < 14");
        assert_eq!(Rejection::NonFinal.to_string(), "non-final");
    }
}
