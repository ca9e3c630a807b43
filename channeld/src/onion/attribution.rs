//! Attribution data (BOLT 4, "Initialization of `attribution_data`" and what follows): how long each hop held an HTLC, and
//! truncated HMACs by which the payer finds the hop that changed something. With failures and with preimages.
//!
//! `hmac_x_y` is the one of the node `x` hops behind whoever holds the data, made for the case that this node has `y` hops
//! behind itself. Node 0 has them for `y` = 19 down to 0, node 1 for 18 down to 0, and so on: 210 in all.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::cipher::{MacPrefix, SharedSecret};
use crate::wire::AttributionData;

/// So many hops can be told apart (BOLT 4); a longer route is attributed up to here.
pub const MAX_ATTRIBUTED: usize = 20;
const HOLD_TIME_LENGTH: usize = 4;
const HMAC_LENGTH: usize = 4;
const HMACS_AT: usize = MAX_ATTRIBUTED * HOLD_TIME_LENGTH;

/// How long a hop held an HTLC, as it is told: in units of 100 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HoldTime(u32);

impl HoldTime {
    /// What a node reports that has measured nothing.
    pub const UNKNOWN: HoldTime = HoldTime(0);

    /// From the figure of the wire, in units of 100 ms.
    pub const fn from_units(units: u32) -> HoldTime {
        HoldTime(units)
    }

    /// Rounded down to 100 ms; what is too long to be told is told as the longest.
    pub fn from_micros(micros: u64) -> HoldTime {
        HoldTime(u32::try_from(micros / 100_000).unwrap_or(u32::MAX))
    }

    /// The figure of the wire, in units of 100 ms.
    pub const fn units(self) -> u32 {
        self.0
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 as u64 * 100
    }
}

/// The `attribution_data` of `update_fulfill_htlc`, made by the payee (`downstream` is `None`) or by a hop that passes the
/// preimage back with what came to it; `None` where nothing came.
pub fn fulfil(downstream: Option<&AttributionData>, secret: &SharedSecret, hold_time: HoldTime) -> AttributionData {
    extend(downstream, &[], secret, hold_time)
}

/// What the hops of a payment that succeeded say of how long they held it, the payer's peer first; of as many as the data
/// vouches for.
pub fn read_fulfil(secrets: &[SharedSecret], attribution_data: &AttributionData) -> Vec<HoldTime> {
    let mut trail = Trail::new(attribution_data, secrets.len());
    secrets.iter().take(MAX_ATTRIBUTED).for_each(|secret| trail.follow(secret, &[]));
    trail.into_hold_times()
}

/// Puts this hop's hold time and HMACs in front of what came from downstream. `message` is the return packet as it is before
/// this hop's stream goes over it.
pub(super) fn extend(
    downstream: Option<&AttributionData>,
    message: &[u8],
    secret: &SharedSecret,
    hold_time: HoldTime,
) -> AttributionData {
    let mut bytes = [0; AttributionData::LENGTH];
    if let Some(downstream) = downstream {
        shift_right(downstream.as_bytes(), &mut bytes);
    }
    bytes[..HOLD_TIME_LENGTH].copy_from_slice(&hold_time.0.to_be_bytes());
    let prefix = MacPrefix::new(&secret.key(b"um"), message);
    for behind in 0..MAX_ATTRIBUTED {
        let hmac = compute_hmac(&prefix, &bytes, behind);
        let at = hmac_at(0, behind);
        bytes[at..at + HMAC_LENGTH].copy_from_slice(&hmac);
    }
    secret.apply_stream(b"ammagext", &mut bytes);
    AttributionData::new(bytes)
}

/// The payer's way through attribution data, hop by hop.
pub(super) struct Trail {
    bytes: [u8; AttributionData::LENGTH],
    /// How many hops are behind the one that is followed next.
    behind: usize,
    hold_times: Vec<HoldTime>,
    is_broken: bool,
}

impl Trail {
    /// At the payer, of a route of so many hops.
    pub(super) fn new(attribution_data: &AttributionData, hops: usize) -> Trail {
        let attributable = hops.min(MAX_ATTRIBUTED);
        let bytes = *attribution_data.as_bytes();
        Trail { bytes, behind: attributable.saturating_sub(1), hold_times: Vec::new(), is_broken: attributable == 0 }
    }

    /// One hop on: its stream is taken off, its HMAC looked at. `message` is the return packet without its stream.
    pub(super) fn follow(&mut self, secret: &SharedSecret, message: &[u8]) {
        secret.apply_stream(b"ammagext", &mut self.bytes);
        let computed = compute_hmac(&MacPrefix::new(&secret.key(b"um"), message), &self.bytes, self.behind);
        let at = hmac_at(0, self.behind);
        let fits: bool = computed[..].ct_eq(&self.bytes[at..at + HMAC_LENGTH]).into();
        self.is_broken |= !fits;
        if !self.is_broken {
            let hold_time = self.bytes.first_chunk().expect("the data begins with a hold time");
            self.hold_times.push(HoldTime(u32::from_be_bytes(*hold_time)));
        }
        // Behind the last hop of the route nothing is believed.
        self.is_broken |= self.behind == 0;
        self.behind = self.behind.saturating_sub(1);
        self.bytes = shift_left(&self.bytes);
    }

    /// Of the hops before the first whose HMAC does not fit.
    pub(super) fn into_hold_times(self) -> Vec<HoldTime> {
        self.hold_times
    }
}

/// Where `hmac_node_behind` is.
const fn hmac_at(node: usize, behind: usize) -> usize {
    let before = node * MAX_ATTRIBUTED - node * node.saturating_sub(1) / 2;
    HMACS_AT + (before + MAX_ATTRIBUTED - 1 - node - behind) * HMAC_LENGTH
}

/// The HMAC of node 0 with `behind` hops behind it: over the message, the hold times and the HMACs of these hops.
fn compute_hmac(message: &MacPrefix, bytes: &[u8], behind: usize) -> [u8; HMAC_LENGTH] {
    let hold_times = &bytes[..(behind + 1) * HOLD_TIME_LENGTH];
    let downstream = (1..=behind).map(|node| &bytes[hmac_at(node, behind - node)..][..HMAC_LENGTH]);
    *message.mac(std::iter::once(hold_times).chain(downstream)).first_chunk().expect("a MAC is longer than 4 bytes")
}

/// All nodes are one hop farther away; the HMACs for the case that the route was longer than possible go.
fn shift_right(from: &[u8; AttributionData::LENGTH], to: &mut [u8; AttributionData::LENGTH]) {
    to[HOLD_TIME_LENGTH..HMACS_AT].copy_from_slice(&from[..HMACS_AT - HOLD_TIME_LENGTH]);
    for node in 0..MAX_ATTRIBUTED - 1 {
        let most = MAX_ATTRIBUTED - 2 - node;
        let length = (most + 1) * HMAC_LENGTH;
        let (source, target) = (hmac_at(node, most), hmac_at(node + 1, most));
        to[target..target + length].copy_from_slice(&from[source..source + length]);
    }
}

/// What [`shift_right`] was given, but for what it dropped.
fn shift_left(from: &[u8; AttributionData::LENGTH]) -> [u8; AttributionData::LENGTH] {
    let mut to = [0; AttributionData::LENGTH];
    to[..HMACS_AT - HOLD_TIME_LENGTH].copy_from_slice(&from[HOLD_TIME_LENGTH..HMACS_AT]);
    for node in 0..MAX_ATTRIBUTED - 1 {
        let most = MAX_ATTRIBUTED - 2 - node;
        let length = (most + 1) * HMAC_LENGTH;
        let (target, source) = (hmac_at(node, most), hmac_at(node + 1, most));
        to[target..target + length].copy_from_slice(&from[source..source + length]);
    }
    to
}
