//! What goes into a channel and what comes out of it.

use std::ops::RangeInclusive;

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::error::{Failure, Violation};
use crate::commitment::{CreditWindow, ExposurePolicy, HtlcOffer, SessionMark, Side, Transfer};
use crate::keys::{ChannelKeyId, Signer};
use crate::transactions::CommitmentFormat;
use crate::units::{
    BlockHeight, ChannelId, CltvDelta, CltvExpiry, FeeratePerKw, HtlcId, Msat, NodeId, PaymentHash, Preimage,
    SessionId, ShortChannelId,
};
use crate::wire::{
    AnnouncementSignatures, AttributionData, Feature, Features, Message, OnionRoutingPacket, Payments,
    TransferCloseReason, TransferReceipt,
};

/// What surrounds a decision: nothing in it is kept.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Signs and knows our points and secrets.
    pub signer: &'a Signer,
    /// The chain that channels are opened on.
    pub chain_hash: ChainHash,
    /// The height of the tip.
    pub height: BlockHeight,
    /// What a mutual close should pay: an estimate for six blocks.
    pub close_feerate: FeeratePerKw,
    /// What we offer and accept.
    pub policy: &'a Policy,
}

/// What we offer and accept; PEERS.md A2, column "use", where a default is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Funding amounts that we open and accept.
    pub funding: RangeInclusive<Amount>,
    /// Our `dust_limit_satoshis`.
    pub dust_limit: Amount,
    /// The peer's `dust_limit_satoshis`.
    pub accepted_dust_limit: RangeInclusive<Amount>,
    /// What we ask the peer to keep, in thousandths of the funding.
    pub reserve_permille: u64,
    /// And at least.
    pub min_reserve: Amount,
    /// The most we keep for the peer, in thousandths of the funding.
    pub max_reserve_permille: u64,
    /// What we ask the peer to wait for its own outputs.
    pub to_self_delay: CltvDelta,
    /// The most we wait for ours.
    pub max_to_self_delay: CltvDelta,
    /// Our `max_accepted_htlcs`.
    pub max_accepted_htlcs: u16,
    /// The least `max_accepted_htlcs` of the peer's that is of use.
    pub min_accepted_htlcs: u16,
    /// Our `max_htlc_value_in_flight_msat`, in thousandths of the funding.
    pub in_flight_permille: u64,
    /// The least `max_htlc_value_in_flight_msat` of the peer's that is of use.
    pub min_in_flight: Msat,
    /// Our `htlc_minimum_msat`.
    pub htlc_minimum: Msat,
    /// The largest `htlc_minimum_msat` of the peer's that is of use.
    pub max_htlc_minimum: Msat,
    /// Confirmations that we ask for as accepter.
    pub minimum_depth: u32,
    /// The most confirmations that we wait for as opener.
    pub max_minimum_depth: u32,
    /// Feerates that we propose for commitments.
    pub proposed_feerates: RangeInclusive<FeeratePerKw>,
    /// Feerates that we accept for commitments.
    pub accepted_feerates: RangeInclusive<FeeratePerKw>,
    /// The most in HTLCs without output.
    pub exposure: ExposurePolicy,
    /// What a payer of transfers may have uncommitted with us.
    pub transfer_window: CreditWindow,
    /// No window is granted where one of the dust limits is above this.
    pub max_transfer_dust_limit: Amount,
    /// Blocks before its expiry at which an incoming HTLC whose preimage we know is claimed on the chain.
    pub fulfil_margin: u32,
    /// Blocks after its expiry at which an outgoing HTLC is taken back on the chain.
    pub expiry_grace: u32,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            funding: Amount::from_sat(100_000)..=Amount::from_sat(16_777_215),
            dust_limit: Amount::from_sat(354),
            accepted_dust_limit: Amount::from_sat(354)..=Amount::from_sat(5_000),
            reserve_permille: 10,
            min_reserve: Amount::from_sat(1_000),
            max_reserve_permille: 200,
            to_self_delay: CltvDelta::new(144),
            max_to_self_delay: CltvDelta::new(2_016),
            max_accepted_htlcs: 483,
            min_accepted_htlcs: 1,
            in_flight_permille: 1_000,
            min_in_flight: Msat::new(1_000_000),
            htlc_minimum: Msat::new(1),
            max_htlc_minimum: Msat::new(10_000_000),
            minimum_depth: 3,
            max_minimum_depth: 144,
            proposed_feerates: FeeratePerKw::FLOOR..=FeeratePerKw::new(2_500),
            accepted_feerates: FeeratePerKw::FLOOR..=FeeratePerKw::new(25_000),
            exposure: ExposurePolicy { max_dust: Msat::new(50_000_000) },
            transfer_window: CreditWindow { amount: Msat::new(10_000_000_000), count: 1_000_000 },
            max_transfer_dust_limit: Amount::from_sat(546),
            // 2R + G + S of BOLT 2 with R = 2, G = 2, S = 6. The least final delta that we take is 18: it must leave a peer
            // some blocks to answer before its channel is closed.
            fulfil_margin: 12,
            expiry_grace: 3,
        }
    }
}

/// What both sides' `init` allows on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFeatures {
    /// `option_upfront_shutdown_script`
    pub upfront_shutdown_script: bool,
    /// `option_shutdown_anysegwit`
    pub any_segwit: bool,
    /// `option_anchors`
    pub anchors: bool,
    /// `option_support_large_channel`
    pub large_channels: bool,
    /// `option_dual_fund`: then no `open_channel` may come.
    pub dual_fund: bool,
    /// Netted transfers.
    pub transfers: bool,
    /// `option_scid_alias`
    pub scid_alias: bool,
}

impl SessionFeatures {
    /// What `ours` and `theirs` have in common.
    pub fn negotiate(ours: &Features, theirs: &Features) -> SessionFeatures {
        let both = |feature| ours.negotiated(theirs, feature);
        SessionFeatures {
            upfront_shutdown_script: both(Feature::UpfrontShutdownScript),
            any_segwit: both(Feature::ShutdownAnySegwit),
            anchors: both(Feature::Anchors),
            large_channels: both(Feature::LargeChannel),
            dual_fund: both(Feature::DualFund),
            transfers: both(Feature::NettedTransfers),
            scid_alias: both(Feature::ScidAlias),
        }
    }
}

/// A channel that we open: see [`super::Channel::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// With whom.
    pub peer: NodeId,
    /// Random: our keys come from it.
    pub keys_id: ChannelKeyId,
    /// Random: the channel's name until it is funded.
    pub temporary_channel_id: ChannelId,
    /// Random, unique on this node: what the peer may call the channel in invoices.
    pub alias: ShortChannelId,
    /// What we put in.
    pub funding: Amount,
    /// What the peer gets of it.
    pub push: Msat,
    /// Whether it is to be announced.
    pub announce: bool,
    /// What commitments look like; anchors only where both sides know them.
    pub format: CommitmentFormat,
    /// The first feerate, already an estimate; brought into the policy's range.
    pub feerate: FeeratePerKw,
    /// Where our part goes on a mutual close, if nobody says otherwise.
    pub close_script: ScriptBuf,
    /// Say so beforehand: then it cannot be changed any more (`option_upfront_shutdown_script`).
    pub upfront_shutdown_script: bool,
    /// What both sides know.
    pub features: SessionFeatures,
}

/// A channel that the peer opens: see [`super::Channel::accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptRequest {
    /// Who opens.
    pub peer: NodeId,
    /// Random: our keys come from it.
    pub keys_id: ChannelKeyId,
    /// Random, unique on this node: what the peer may call the channel in invoices.
    pub alias: ShortChannelId,
    /// Where our part goes on a mutual close, if nobody says otherwise.
    pub close_script: ScriptBuf,
    /// Say so beforehand: then it cannot be changed any more (`option_upfront_shutdown_script`).
    pub upfront_shutdown_script: bool,
    /// What both sides know.
    pub features: SessionFeatures,
}

/// What a channel is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A message of this channel (its `channel_id`, or the all-zero one of `error`) from the peer's present session.
    Message(Message),
    /// The peer is connected, `init` exchanged.
    Connected(SessionFeatures),
    /// The session is gone. Also to be said to every channel at start, for no session survives that.
    Disconnected,
    /// Sign one `commitment_signed` for all that is due, where there is something and nothing is unanswered.
    Seal,
    /// Our user or our node wants something.
    Command(Command),
    /// The peer broke a rule in the message before: the answer that [`Violation::response`] says.
    Violated(Violation),
    /// Fail the channel for a reason that lies outside it.
    Fail(Failure),
    /// The funding transaction is in the best chain, so deep.
    FundingDepth {
        /// Confirmations, at least 1.
        depth: u32,
        /// Where.
        short_channel_id: ShortChannelId,
    },
    /// The funding transaction is in the best chain, and its output is not the one that was agreed on.
    FundingInvalid,
    /// A reorganisation took the funding transaction out of the best chain.
    FundingReorged,
    /// A transaction that spends the funding output is in the best chain.
    FundingSpent {
        /// Which.
        txid: Txid,
    },
    /// A reorganisation took that transaction out of the best chain again.
    FundingUnspent,
    /// The tip's height is now that of the context.
    Block,
}

/// What our user or node wants of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Opener: the funding transaction is made and kept, with all its inputs segwit; nobody has it yet.
    FundingBuilt {
        /// The output that pays what [`Effect::FundingNeeded`] said.
        outpoint: OutPoint,
    },
    /// There will be no funding transaction.
    Abandon(AbandonReason),
    /// Offer an HTLC.
    AddHtlc {
        /// What it is worth.
        amount: Msat,
        /// What its preimage hashes to.
        payment_hash: PaymentHash,
        /// When it times out.
        cltv_expiry: CltvExpiry,
        /// For the next hop.
        onion: OnionRoutingPacket,
        /// Inside a blinded route.
        path_key: Option<PublicKey>,
    },
    /// Claim an incoming HTLC.
    FulfillHtlc {
        /// Which.
        id: HtlcId,
        /// Hashes to its payment hash.
        preimage: Preimage,
        /// TLV 1.
        attribution_data: Option<AttributionData>,
    },
    /// Refuse an incoming HTLC.
    FailHtlc {
        /// Which.
        id: HtlcId,
        /// The encrypted failure onion.
        reason: Vec<u8>,
        /// TLV 1.
        attribution_data: Option<AttributionData>,
    },
    /// Refuse an incoming HTLC whose onion cannot be read.
    FailMalformedHtlc {
        /// Which.
        id: HtlcId,
        /// SHA-256 of the onion.
        sha256_of_onion: [u8; 32],
        /// With the BADONION bit.
        failure_code: u16,
    },
    /// Opener: another feerate; brought into the policy's range.
    UpdateFee {
        /// Which.
        feerate: FeeratePerKw,
    },
    /// Payer: open a session, or open it again.
    OpenSession {
        /// Chosen at random by the payer.
        session: SessionId,
        /// Whether a receipt is wanted now and then.
        receipt_wanted: bool,
    },
    /// Payer: one batch of payments.
    Transfer {
        /// Of this session.
        session: SessionId,
        /// The sequence of the first; sequences count from 0.
        first_sequence: u64,
        /// The sequence of the last.
        last_sequence: u64,
        /// Their sum.
        amount: Msat,
        /// Their own amounts and tags, as far as told.
        payments: Option<Payments>,
    },
    /// Payee: let the payer have so much uncommitted.
    GrantWindow {
        /// In this session.
        session: SessionId,
        /// So much.
        window: CreditWindow,
    },
    /// Either side: no more payments in a session.
    CloseSession {
        /// Who pays in it.
        payer: Side,
        /// Which.
        session: SessionId,
        /// Why.
        reason: TransferCloseReason,
    },
    /// Close together with the peer.
    Shutdown {
        /// Where our part goes, if not to the channel's `close_script`; must be the script said beforehand, if one was.
        script: Option<ScriptBuf>,
        /// What the closing transaction should pay, where we opened; an estimate where it is `None`.
        feerate: Option<FeeratePerKw>,
    },
    /// Close by our commitment transaction.
    ForceClose,
}

/// Why an outgoing HTLC failed, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingFailure {
    /// The peer sent `update_fail_htlc`.
    Failed {
        /// The encrypted failure onion.
        reason: Vec<u8>,
        /// TLV 1.
        attribution_data: Option<AttributionData>,
    },
    /// The peer sent `update_fail_malformed_htlc`.
    Malformed {
        /// SHA-256 of the onion it got, or zeroes.
        sha256_of_onion: [u8; 32],
        /// BOLT 4.
        failure_code: u16,
    },
    /// It was never signed: the connection went, or the channel failed, before.
    NeverCommitted,
}

/// What the node has to do, or may want to know, after the turn in which it was computed is durable. In this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send to the peer's present session.
    Send(Message),
    /// Close the connection, after what was sent.
    Disconnect,
    /// Opener: build and keep a transaction that pays this, then say [`Command::FundingBuilt`]; do not broadcast it.
    FundingNeeded {
        /// The output's script.
        script_pubkey: ScriptBuf,
        /// The output's value.
        amount: Amount,
    },
    /// From now on the channel is known by this id; watch its funding output.
    Identified {
        /// The id that replaces the temporary one.
        channel_id: ChannelId,
        /// The funding output.
        outpoint: OutPoint,
        /// Its script.
        script_pubkey: ScriptBuf,
    },
    /// Opener: the peer's signature is kept; broadcast the funding transaction.
    BroadcastFunding {
        /// The funding output.
        outpoint: OutPoint,
    },
    /// Nothing came of the channel: forget it, and free the inputs of its funding transaction.
    Abandoned {
        /// Why.
        reason: AbandonReason,
    },
    /// Both sides are ready: payments may go.
    Ready,
    /// An incoming HTLC is irrevocable: answer it.
    IncomingHtlc {
        /// With its onion.
        offer: HtlcOffer,
        /// It exceeds our limit on dust exposure: fail it, show no preimage (BOLT 2).
        must_fail: bool,
    },
    /// An incoming HTLC that we answered is gone from both commitments.
    IncomingSettled {
        /// Which.
        id: HtlcId,
        /// Whether we got the money.
        fulfilled: bool,
    },
    /// The peer showed the preimage of an HTLC of ours: it counts from now on, whatever comes.
    OutgoingFulfilled {
        /// Which.
        id: HtlcId,
        /// The proof.
        preimage: Preimage,
        /// TLV 1.
        attribution_data: Option<AttributionData>,
    },
    /// An HTLC of ours failed for certain.
    OutgoingFailed {
        /// Which.
        id: HtlcId,
        /// Its payment.
        payment_hash: PaymentHash,
        /// How.
        failure: OutgoingFailure,
    },
    /// A fulfilled HTLC of ours is gone from both commitments.
    OutgoingSettled {
        /// Which.
        id: HtlcId,
    },
    /// The peer opened a session towards us; a window was granted by policy.
    SessionOpened {
        /// Which.
        session: SessionId,
        /// The payer wants receipts.
        receipt_wanted: bool,
    },
    /// The payee says how much of ours may be uncommitted.
    WindowGranted {
        /// In this session.
        session: SessionId,
        /// So much.
        window: CreditWindow,
    },
    /// The peer closed a session, of either direction, or refused to open ours.
    SessionClosed {
        /// Who pays in it.
        payer: Side,
        /// Which.
        session: SessionId,
        /// Why.
        reason: TransferCloseReason,
    },
    /// Payer: the payee holds, or will hold after the flush, a signed commitment with it. Payee: we hold it.
    TransferInFlight {
        /// Who pays.
        payer: Side,
        /// What.
        transfer: Transfer,
        /// The session with it.
        mark: SessionMark,
        /// Whether the session allowed it: else it is not to be served.
        solicited: bool,
    },
    /// It is paid: irrevocable on both sides.
    TransferPaid {
        /// Who pays.
        payer: Side,
        /// What.
        transfer: Transfer,
        /// What is paid in the session with it.
        mark: SessionMark,
        /// Whether the session allowed it.
        solicited: bool,
        /// What a close at this instant would pay the payee.
        enforceable: Msat,
    },
    /// Payer: the connection went before it was signed: it counts as never sent, its sequences are free again.
    TransferReturned {
        /// What.
        transfer: Transfer,
    },
    /// A receipt came; whether its signature is the peer's is to be checked.
    ReceiptReceived(Box<TransferReceipt>),
    /// For gossip.
    AnnouncementSignatures(AnnouncementSignatures),
    /// A mutual close has begun.
    ShuttingDown {
        /// Who asked first.
        by: Side,
    },
    /// Hand these to the chain, as a package.
    Broadcast(Vec<Transaction>),
    /// Both signed this closing transaction.
    MutuallyClosed {
        /// Which.
        txid: Txid,
    },
    /// The channel failed; a broadcast of our commitment goes with it where that is allowed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The peer proved that we have lost data: our commitment must never be broadcast; the peer is asked to close.
    Stale,
    /// Something for the log and for the operator.
    Noticed(Notice),
}

/// Why nothing came of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbandonReason {
    /// The connection went before it was funded.
    Disconnected,
    /// Our user gave it up.
    ByUser,
    /// The peer broke a rule, or refused.
    Failed(Failure),
    /// Accepter: no funding transaction for 2,016 blocks.
    NotFunded,
    /// The peer did not answer in time.
    NoAnswer,
    /// Accepter: the funding output does not pay what was agreed to the script that was agreed.
    FundingInvalid,
}

/// What an operator should see; nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// The peer sent a `warning`, or an `error` that is known to mean nothing.
    PeerWarned {
        /// Its text, made printable.
        text: String,
    },
    /// The opener's feerate is outside what we accept: with anchors no reason to close; we offer nothing meanwhile.
    FeerateOutOfRange {
        /// What it set.
        feerate: FeeratePerKw,
    },
    /// The peer has lost data: we wait for it to recover, or to ask us to close.
    PeerStale,
    /// The peer came back without transfers while one is unacked: the channel waits.
    TransfersMissing,
    /// An HTLC without output is past its deadline: not worth a close.
    WrittenOff {
        /// Who offered it.
        adder: Side,
        /// Which.
        id: HtlcId,
    },
    /// Half of an HTLC's margin before a forced close has passed.
    DeadlineNear {
        /// Who offered it.
        adder: Side,
        /// Which.
        id: HtlcId,
        /// The height at which the channel will be closed for it.
        close_height: BlockHeight,
    },
}
