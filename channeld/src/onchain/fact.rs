//! What goes into a resolver, what it remembers, and what comes out.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use super::classify::CloseKind;
use super::fee_bump::Feerates;
use crate::keys::Signer;
use crate::transactions::HtlcHistory;
use crate::units::{BlockHeight, FeeratePerKw, HtlcId, PaymentHash, Preimage};

/// What happens to a resolver.
#[derive(Clone, Debug)]
pub enum Input {
    /// The channel has failed: our commitment is to be broadcast until something confirms. Never given where our state may
    /// be outdated.
    ForceClose,
    /// A block: its transactions that [`super::relevant_transactions`] picked, in the order of the block.
    BlockConnected {
        /// Its height.
        height: BlockHeight,
        /// The transactions.
        transactions: Vec<Transaction>,
        /// Rows of the commitment that [`super::Resolver::revoked_number`] names, if a transaction spends the funding
        /// output; else nothing. Rows of other commitments do no harm.
        history: Vec<HtlcHistory>,
    },
    /// The block of this height is no longer part of the best chain.
    BlockDisconnected {
        /// Its height.
        height: BlockHeight,
    },
    /// A preimage has become known; it may claim an incoming HTLC.
    PreimageLearned(Preimage),
    /// The feerates of the context have changed.
    FeerateUpdated,
    /// The operator wants a claim, or the child of our commitment, to pay at least this from now on.
    Bump {
        /// The first output that it takes.
        key: OutPoint,
        /// The feerate.
        feerate: FeeratePerKw,
    },
    /// The wallet's answer to [`Effect::Fund`], in the same turn.
    Funded {
        /// [`FundRequest::key`]
        key: OutPoint,
        /// The request's transaction with wallet inputs and change behind its own; the wallet's inputs are signed.
        transaction: Transaction,
        /// What the wallet's inputs spend, in order.
        spent: Vec<TxOut>,
        /// What it pays.
        fee: Amount,
    },
}

/// What a decision may use beyond the facts.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Makes every signature.
    pub signer: &'a Signer,
    /// What a block costs now.
    pub feerates: Feerates,
    /// The operator's choices.
    pub settings: Settings,
}

/// The operator's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From so many confirmations on a fact is final.
    pub burial_depth: u32,
    /// So many blocks after its expiry an outgoing HTLC must be back, for the incoming one ends soon after.
    pub timeout_margin: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { burial_depth: 6, timeout_margin: 18 }
    }
}

/// Names an HTLC of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HtlcKey {
    /// Whose it was.
    pub side: HtlcSide,
    /// Its id on that side.
    pub id: HtlcId,
}

/// Which way an HTLC goes, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HtlcSide {
    /// The peer offered it.
    Incoming,
    /// We offered it.
    Outgoing,
}

/// How an HTLC ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HtlcOutcome {
    /// Outgoing: the preimage is known, from a spend of any kind or from ourselves. Certain at once.
    Fulfilled(Preimage),
    /// Outgoing: it came back to us, or was never on the commitment that is buried now. Fail the incoming one.
    Failed,
    /// Incoming: our claim is buried.
    Claimed,
    /// Incoming: the peer has it back, or it was never on the commitment that is buried now.
    Lost,
}

/// What the node has to do, in the turn whose record holds the delta. Broadcasts of what has not confirmed are said again
/// at every block, and so after a restart; the rest is said once, or again after a reorganisation.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Broadcast these as one package, parents first.
    Broadcast(Vec<Transaction>),
    /// Ask the wallet for a fee, in this turn, and answer by [`Input::Funded`]; if it cannot, say nothing: the request comes
    /// again with the next block.
    Fund(Box<FundRequest>),
    /// This claim cannot confirm any more, nor can versions that it replaced: the wallet's inputs of it are free again, and
    /// its outputs never come.
    Abandoned(Txid),
    /// Tell of spends of this output.
    Watch(OutPoint),
    /// The funding output was spent.
    Closed {
        /// By what.
        kind: CloseKind,
        /// Its id.
        txid: Txid,
        /// Where.
        height: BlockHeight,
    },
    /// A reorganisation took that spend out of the best chain again; what was said of outputs swept is void.
    Undone,
    /// The spend of the funding output is buried: what it says is final. Said once.
    Buried {
        /// What it is.
        kind: CloseKind,
    },
    /// An HTLC has ended.
    HtlcResolved {
        /// Which.
        key: HtlcKey,
        /// Its hash.
        payment_hash: PaymentHash,
        /// How.
        outcome: HtlcOutcome,
    },
    /// A claim of ours has its first confirmation: this output is now in the wallet, less the fee.
    OutputSwept {
        /// The output of commitment or HTLC transaction.
        outpoint: OutPoint,
        /// What it held.
        amount: Amount,
        /// The claim.
        txid: Txid,
        /// Where.
        height: BlockHeight,
    },
    /// Nothing is left to do: all is buried. The resolver can be forgotten.
    Resolved {
        /// At this tip.
        height: BlockHeight,
    },
}

/// A transaction that cannot pay its own fee: the child of our commitment, or HTLC transactions of an anchor channel.
///
/// The wallet adds inputs and one change output *behind* what is there and changes nothing else. The fee of the whole is
/// `feerate` over its weight plus `parent_weight`, less `parent_fee`; at least `floor`, at most `limit`. In the node:
/// `wallet.fund_claim(&Claim { transaction, spent, witness_weight, fee }, &reuse)`, then `wallet.sign_inputs`, then
/// [`Input::Funded`] in the same turn, so that the locked coins, the record and the broadcast are one (DESIGN, law 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundRequest {
    /// Names the request: the first output that it takes.
    pub key: OutPoint,
    /// The channel's inputs, without witness, and its outputs.
    pub transaction: Transaction,
    /// What those inputs spend.
    pub spent: Vec<TxOut>,
    /// What their witnesses will weigh, at most.
    pub witness_weight: u64,
    /// What it is to pay for its weight and that of its parent.
    pub feerate: FeeratePerKw,
    /// The weight of an unconfirmed parent, or 0.
    pub parent_weight: u64,
    /// What that parent pays itself.
    pub parent_fee: Amount,
    /// At least this: what BIP 125 asks of a replacement.
    pub floor: Amount,
    /// At most this: the value at stake.
    pub limit: Amount,
    /// The version that it replaces, and the wallet's coins in it, to be used again.
    pub replaces: Option<(Txid, Vec<(OutPoint, TxOut)>)>,
}

/// The spend of the funding output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// What it is.
    pub kind: CloseKind,
    /// Where.
    pub height: BlockHeight,
    /// The transaction.
    pub transaction: Transaction,
    /// Its HTLCs, if it is revoked.
    pub history: Vec<HtlcHistory>,
}

/// The spend of an output of the commitment or of an HTLC transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// By what.
    pub txid: Txid,
    /// Where.
    pub height: BlockHeight,
    /// Which input.
    pub input: u32,
    /// The output at the same index: an HTLC transaction's result, whatever it was joined with.
    pub sibling: Option<TxOut>,
    /// Whether it pays to our wallet.
    pub is_ours: bool,
}

/// A claim that is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The transaction, signed.
    pub transaction: Transaction,
    /// The outputs that it takes.
    pub outpoints: Vec<OutPoint>,
    /// What it pays.
    pub fee: Amount,
    /// The feerate it was made for.
    pub feerate: FeeratePerKw,
    /// The wallet's coins in it, which pay its fee.
    pub coins: Vec<(OutPoint, TxOut)>,
}

/// One step of what a resolver remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The chain's tip.
    Tip(BlockHeight),
    /// Our commitment is to be broadcast.
    Closing,
    /// The funding output was spent.
    Confirmed(Box<Confirmed>),
    /// One of our outputs was spent.
    Spent(OutPoint, Box<Spend>),
    /// What stood above this height is undone.
    Unwound(BlockHeight),
    /// A preimage is known.
    Preimage(Preimage),
    /// A claim is out; it replaces the one that took the same first output.
    Claimed(OutPoint, Box<Claimed>),
    /// That claim has confirmed or cannot confirm any more.
    Dropped(OutPoint),
    /// The node was told of this HTLC's end.
    Reported(HtlcKey),
    /// All is buried.
    Resolved,
    /// The spend of the funding output is buried, and the node was told.
    Buried,
    /// The operator asked for a feerate for the claim of this name.
    Asked(OutPoint, FeeratePerKw),
}

/// What one decision changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// In order.
    pub changes: Vec<Change>,
}
