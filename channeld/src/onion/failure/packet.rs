//! The packet that carries a failure back, and what tells the payer who sent or changed it.

use serde::{Deserialize, Serialize};

use super::super::attribution::{self, HoldTime, MAX_ATTRIBUTED, Trail};
use super::super::cipher::{SharedSecret, mac, mac_eq};
use super::super::packet::MAX_HOPS;
use super::Failure;
use crate::wire::AttributionData;
use crate::wire::codec::{Reader, write_bytes_u16};

const HMAC_LENGTH: usize = 32;
/// Message and padding of a failure together have this length, so that no hop learns which failure it is.
const PADDED_LENGTH: usize = 256;

/// A failure, who sent it, and how long the hops held the HTLC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attributed {
    /// The hop, 0 being the payer's peer.
    pub hop: usize,
    /// What it says.
    pub failure: Failure,
    /// What the hops say of how long they held the HTLC, the payer's peer first: of as many as their attribution data vouches
    /// for, at most up to the hop that failed; empty where there is none.
    pub hold_times: Vec<HoldTime>,
}

/// A failure that no hop's HMAC vouches for: somebody on the way changed it, or what was sent never was one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbled {
    /// The first hop whose attribution data does not fit, 0 being the payer's peer: it or the one before changed something.
    /// With data that fits up to the end it is the last hop. `None` where no attribution data came.
    pub hop: Option<usize>,
    /// Of the hops before.
    pub hold_times: Vec<HoldTime>,
}

/// The `reason` and `attribution_data` of `update_fail_htlc`, made by the hop that fails the HTLC, shares `secret` with the
/// payer and held it for `hold_time`.
pub fn build(failure: &Failure, secret: &SharedSecret, hold_time: HoldTime) -> (Vec<u8>, AttributionData) {
    pack(&failure.encode(), PADDED_LENGTH, secret, hold_time)
}

/// The same for any message and length.
pub(in super::super) fn pack(
    failuremsg: &[u8],
    padded_length: usize,
    secret: &SharedSecret,
    hold_time: HoldTime,
) -> (Vec<u8>, AttributionData) {
    let padding = padded_length.saturating_sub(failuremsg.len());
    let mut reason = vec![0; HMAC_LENGTH];
    write_bytes_u16(failuremsg, &mut reason);
    write_bytes_u16(&vec![0; padding], &mut reason);
    let hmac = mac(&secret.key(b"um"), &[&reason[HMAC_LENGTH..]]);
    reason[..HMAC_LENGTH].copy_from_slice(&hmac);
    wrap(reason, None, secret, hold_time)
}

/// What a hop that passes a failure back to the payer makes of `reason` and `attribution_data` as they came to it. `secret` is
/// what it shares with the payer; it held the HTLC for `hold_time`.
pub fn wrap(
    mut reason: Vec<u8>,
    attribution_data: Option<&AttributionData>,
    secret: &SharedSecret,
    hold_time: HoldTime,
) -> (Vec<u8>, AttributionData) {
    let attribution_data = attribution::extend(attribution_data, &reason, secret, hold_time);
    secret.apply_stream(b"ammag", &mut reason);
    (reason, attribution_data)
}

/// Finds out, for the payer, which hop sent a failure and what it says. `secrets` are those that [`build`](super::super::build)
/// gave, the payer's peer first. Always works through 27 hops, so that the time it takes tells nothing of who failed.
///
/// # Errors
/// [`Garbled`] where no hop's HMAC fits.
pub fn read(
    secrets: &[SharedSecret],
    reason: &[u8],
    attribution_data: Option<&AttributionData>,
) -> Result<Attributed, Garbled> {
    let mut unwrapped = reason.to_vec();
    let mut trail = attribution_data.map(|data| Trail::new(data, secrets.len()));
    let dummy = SharedSecret::new([0; 32]);
    let mut found = None;
    for hop in 0..MAX_HOPS {
        let secret = secrets.get(hop).unwrap_or(&dummy);
        secret.apply_stream(b"ammag", &mut unwrapped);
        if let Some(trail) = trail.as_mut().filter(|_| hop < MAX_ATTRIBUTED) {
            trail.follow(secret, &unwrapped);
        }
        let Some((hmac, rest)) = unwrapped.split_at_checked(HMAC_LENGTH) else { continue };
        let fits = mac_eq(&mac(&secret.key(b"um"), &[rest]), hmac);
        if fits && found.is_none() && hop < secrets.len() {
            found = Some((hop, rest.to_vec()));
        }
    }
    let is_attributable = trail.is_some() && !secrets.is_empty();
    let mut hold_times = trail.map(Trail::into_hold_times).unwrap_or_default();
    let Some((hop, rest)) = found else {
        let hop = is_attributable.then(|| hold_times.len().min(secrets.len() - 1));
        return Err(Garbled { hop, hold_times });
    };
    hold_times.truncate(hop + 1);
    let failure = Reader::new(&rest).bytes_u16().map_or(Failure::Other { code: 0 }, Failure::decode);
    Ok(Attributed { hop, failure, hold_times })
}
