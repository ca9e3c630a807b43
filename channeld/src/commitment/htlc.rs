//! One HTLC in flight and how it ends.

use bitcoin::Amount;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::stage::{Side, Stage, View};
use crate::units::{CltvExpiry, CommitmentNumber, HtlcId, Msat, PaymentHash, Preimage};
use crate::wire::{AttributionData, OnionRoutingPacket};

/// What `update_add_htlc` says, without the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcOffer {
    /// Its number in its direction.
    pub id: HtlcId,
    /// What it is worth.
    pub amount: Msat,
    /// What its preimage hashes to.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// `onion_routing_packet`; gone once nobody needs it.
    pub onion: Option<OnionRoutingPacket>,
    /// `path_key` of a blinded route.
    pub path_key: Option<PublicKey>,
}

/// How an HTLC is removed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// `update_fulfill_htlc`
    Fulfilled {
        /// What the payment hash hides.
        preimage: Preimage,
        /// TLV 1, passed back as it came.
        attribution_data: Option<AttributionData>,
    },
    /// `update_fail_htlc`
    Failed {
        /// The encrypted failure onion.
        reason: Vec<u8>,
        /// TLV 1, passed back as it came.
        attribution_data: Option<AttributionData>,
    },
    /// `update_fail_malformed_htlc`
    Malformed {
        /// SHA-256 of the onion that could not be read.
        sha256_of_onion: [u8; 32],
        /// BOLT 4; its BADONION bit is set.
        failure_code: u16,
    },
}

impl std::fmt::Debug for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Removal::Fulfilled { preimage, .. } => write!(f, "Fulfilled({preimage:?})"),
            Removal::Failed { reason, .. } => write!(f, "Failed({} bytes)", reason.len()),
            Removal::Malformed { failure_code, .. } => write!(f, "Malformed({failure_code:#x})"),
        }
    }
}

impl Removal {
    /// Whether whoever was offered the HTLC gets the money.
    pub const fn is_fulfilled(&self) -> bool {
        matches!(self, Removal::Fulfilled { .. })
    }
}

/// A removal that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRemoval {
    /// How.
    pub removal: Removal,
    /// How far it has travelled, seen from whoever removes.
    pub stage: Stage,
}

/// An HTLC that is on, or on its way to, a commitment that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htlc {
    /// What was offered.
    pub offer: HtlcOffer,
    /// How far the offer has travelled, seen from whoever offers.
    pub stage: Stage,
    /// Its removal, once proposed.
    pub removal: Option<PendingRemoval>,
    /// The first commitment of the peer's that held it, by our signature.
    pub first_remote: Option<CommitmentNumber>,
    /// Whether it had an output on any commitment of the peer's.
    pub untrimmed_remote: bool,
    /// Taken in above the limit on dust exposure: to be failed once it is irrevocable (BOLT 2).
    pub over_exposed: bool,
}

impl Htlc {
    /// A fresh offer.
    pub const fn new(offer: HtlcOffer, over_exposed: bool) -> Htlc {
        Htlc { offer, stage: Stage::Proposed, removal: None, first_remote: None, untrimmed_remote: false, over_exposed }
    }

    /// Whether the commitment `view` holds it, where `adder` offered it.
    pub fn on(&self, view: View, adder: Side) -> bool {
        view.holds(adder, self.stage)
            && !self.removal.as_ref().is_some_and(|removal| view.holds(adder.other(), removal.stage))
    }

    /// Its output's value: whole satoshis, rounded down (BOLT 3).
    pub fn amount_sat(&self) -> Amount {
        self.offer.amount.to_amount_floor()
    }
}

/// What a penalty for a revoked commitment needs of an HTLC that is over: kept as long as the channel lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PenaltyRow {
    /// Who offered it.
    pub adder: Side,
    /// Its number in that direction; direction and number are the row's key.
    pub id: HtlcId,
    /// What its script commits to.
    pub payment_hash: PaymentHash,
    /// What its script commits to, where the peer was offered it.
    pub cltv_expiry: CltvExpiry,
    /// What it was worth.
    pub amount: Msat,
    /// The first commitment of the peer's that held it.
    pub first: CommitmentNumber,
    /// The last commitment of the peer's that held it.
    pub last: CommitmentNumber,
}
