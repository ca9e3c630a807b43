//! How a hop answers an incoming HTLC (BOLT 2, "Removing an HTLC"; BOLT 4, "Returning Errors"): what goes back depends on
//! whether the hop is inside a blinded path, begins one, or knows of none.

use serde::{Deserialize, Serialize};

use super::attribution::{self, HoldTime};
use super::cipher::SharedSecret;
use super::error::BadOnion;
use super::failure::{self, Failure};
use crate::wire::AttributionData;

/// The longest `reason` beside which attribution data fits into a message.
const MAX_ATTRIBUTED_REASON: usize = 64_000;

/// What a hop must keep of an incoming HTLC to answer it. Stored with a forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnPath {
    secret: SharedSecret,
    sha256_of_onion: [u8; 32],
    place: Place,
}

/// Where a hop is, as far as its answers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// On no blinded path, or the payee at once where one begins.
    Plain,
    /// Where a blinded path begins: it fails as itself, and says nothing of what is behind.
    Introduction,
    /// `path_key` came with the HTLC: whatever happens looks as if the onion could not be read.
    Inside,
}

/// What takes an incoming HTLC back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `update_fail_htlc`.
    Fail {
        /// The encrypted failure.
        reason: Vec<u8>,
        /// TLV 1; only inside a blinded path, and where it does not fit, there is none.
        attribution_data: Option<AttributionData>,
    },
    /// `update_fail_malformed_htlc`.
    Malformed {
        /// SHA-256 of the onion as it came.
        sha256_of_onion: [u8; 32],
        /// BOLT 4, with the bit BADONION.
        failure_code: u16,
    },
}

impl ReturnPath {
    pub(super) const fn new(secret: SharedSecret, sha256_of_onion: [u8; 32], place: Place) -> ReturnPath {
        ReturnPath { secret, sha256_of_onion, place }
    }

    /// By which an onion is known again: what nobody but payer and hop can know, and says nothing about the secret.
    pub fn tag(&self) -> [u8; 32] {
        self.secret.tag_bytes()
    }

    /// Whether a blinded path begins here: then BOLT 4 asks for a random delay before any failure.
    pub fn is_introduction(&self) -> bool {
        self.place == Place::Introduction
    }

    /// This hop fails the HTLC, which it held for `hold_time`. On a blinded path nobody learns which failure it was.
    pub fn fail(&self, failure: &Failure, hold_time: HoldTime) -> Answer {
        let blinding = Failure::InvalidOnionBlinding { sha256_of_onion: self.sha256_of_onion };
        let failure = match self.place {
            Place::Inside => return self.malformed(),
            Place::Introduction => &blinding,
            Place::Plain => failure,
        };
        let (reason, attribution_data) = failure::build(failure, &self.secret, hold_time);
        Answer::Fail { reason, attribution_data: Some(attribution_data) }
    }

    /// The next hop failed the HTLC by `update_fail_htlc`.
    pub fn pass_on(&self, reason: &[u8], downstream: Option<&AttributionData>, hold_time: HoldTime) -> Answer {
        if self.place != Place::Plain {
            return self.fail(&Failure::TemporaryNodeFailure, hold_time);
        }
        let (reason, attribution_data) = failure::wrap(reason.to_vec(), downstream, &self.secret, hold_time);
        let fits = reason.len() <= MAX_ATTRIBUTED_REASON;
        Answer::Fail { reason, attribution_data: fits.then_some(attribution_data) }
    }

    /// The next hop answered `update_fail_malformed_htlc`: this hop fails the HTLC with the code and the hash that came.
    pub fn pass_on_malformed(&self, failure_code: u16, sha256_of_onion: [u8; 32], hold_time: HoldTime) -> Answer {
        let failure =
            Failure::from_malformed(failure_code, sha256_of_onion).unwrap_or(Failure::Other { code: failure_code });
        self.fail(&failure, hold_time)
    }

    /// The `attribution_data` of `update_fulfill_htlc`; `downstream` is what came with the preimage, `None` at the payee.
    /// There is none inside a blinded path, and none from there goes on.
    pub fn fulfil(&self, downstream: Option<&AttributionData>, hold_time: HoldTime) -> Option<AttributionData> {
        match self.place {
            Place::Inside => None,
            Place::Introduction => Some(attribution::fulfil(None, &self.secret, hold_time)),
            Place::Plain => Some(attribution::fulfil(downstream, &self.secret, hold_time)),
        }
    }

    fn malformed(&self) -> Answer {
        Answer::Malformed { sha256_of_onion: self.sha256_of_onion, failure_code: BadOnion::Blinding.failure_code() }
    }
}
