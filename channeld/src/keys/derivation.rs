//! BOLT 3 "Key Derivation": one type for each role a public key has, so that no two can be swapped.

use std::fmt;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use serde::{Deserialize, Serialize};

use super::PrivateKey;
use super::secrets::PerCommitmentSecret;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(PublicKey);

        impl $name {
            /// The key in its role.
            pub const fn new(key: PublicKey) -> $name {
                $name(key)
            }

            /// The bare point.
            pub const fn key(&self) -> &PublicKey {
                &self.0
            }

            /// The compressed form, 33 bytes, as it stands in messages and scripts.
            pub fn serialize(&self) -> [u8; 33] {
                self.0.serialize()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

public_key!(
    /// Signs the funding output and one's own anchor; the same for all commitments.
    FundingPubkey
);
public_key!(
    /// What the peer's revocation keys are made from, together with the peer's per-commitment points.
    RevocationBasepoint
);
public_key!(
    /// The key of `to_remote` (with `option_static_remotekey`), and part of the obscured commitment number.
    PaymentBasepoint
);
public_key!(
    /// What the keys of one's own delayed outputs are made from.
    DelayedPaymentBasepoint
);
public_key!(
    /// What one's HTLC keys are made from.
    HtlcBasepoint
);
public_key!(
    /// The point of one commitment; its secret is revealed when the commitment is revoked.
    PerCommitmentPoint
);
public_key!(
    /// Takes every output of its broadcaster once that commitment is revoked.
    RevocationPubkey
);
public_key!(
    /// Takes the broadcaster's own outputs after `to_self_delay`.
    DelayedPaymentPubkey
);
public_key!(
    /// One side's key in the HTLC outputs of one commitment.
    HtlcPubkey
);
public_key!(
    /// The key of `to_remote`: with `option_static_remotekey` the payment basepoint itself.
    PaymentPubkey
);

/// The five public keys of one side of a channel, as in `open_channel` and `accept_channel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basepoints {
    /// `funding_pubkey`
    pub funding_pubkey: FundingPubkey,
    /// `revocation_basepoint`
    pub revocation_basepoint: RevocationBasepoint,
    /// `payment_basepoint`
    pub payment_basepoint: PaymentBasepoint,
    /// `delayed_payment_basepoint`
    pub delayed_payment_basepoint: DelayedPaymentBasepoint,
    /// `htlc_basepoint`
    pub htlc_basepoint: HtlcBasepoint,
}

impl PaymentBasepoint {
    /// The key of the `to_remote` output (BOLT 3, "`remotepubkey` Derivation").
    pub const fn payment_pubkey(&self) -> PaymentPubkey {
        PaymentPubkey(self.0)
    }
}

impl DelayedPaymentPubkey {
    /// `delayed_payment_basepoint` at one commitment of its owner.
    pub fn derive(basepoint: &DelayedPaymentBasepoint, point: &PerCommitmentPoint) -> DelayedPaymentPubkey {
        DelayedPaymentPubkey(derive_public(&basepoint.0, point))
    }
}

impl HtlcPubkey {
    /// `htlc_basepoint` at one commitment of either side.
    pub fn derive(basepoint: &HtlcBasepoint, point: &PerCommitmentPoint) -> HtlcPubkey {
        HtlcPubkey(derive_public(&basepoint.0, point))
    }
}

impl RevocationPubkey {
    /// The countersignatory's `revocation_basepoint` at one commitment of the broadcaster.
    pub fn derive(basepoint: &RevocationBasepoint, point: &PerCommitmentPoint) -> RevocationPubkey {
        let (basepoint_tweak, point_tweak) = revocation_tweaks(&basepoint.0, point);
        let revocation = basepoint.0.mul_tweak(SECP256K1, &basepoint_tweak).expect(HASH_HOLDS);
        let commitment = point.0.mul_tweak(SECP256K1, &point_tweak).expect(HASH_HOLDS);
        RevocationPubkey(revocation.combine(&commitment).expect(HASH_HOLDS))
    }
}

/// Who could choose keys for which a tweak is zero, too big, or the sum is the point at infinity, could invert SHA-256.
const HASH_HOLDS: &str = "needs a preimage of SHA-256";

/// `SHA256(per_commitment_point || basepoint)`
fn basepoint_tweak(basepoint: &PublicKey, point: &PerCommitmentPoint) -> Scalar {
    tweak(&point.0, basepoint)
}

/// `(SHA256(revocation_basepoint || per_commitment_point), SHA256(per_commitment_point || revocation_basepoint))`
fn revocation_tweaks(basepoint: &PublicKey, point: &PerCommitmentPoint) -> (Scalar, Scalar) {
    (tweak(basepoint, &point.0), tweak(&point.0, basepoint))
}

fn tweak(first: &PublicKey, second: &PublicKey) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&first.serialize());
    engine.input(&second.serialize());
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array()).expect(HASH_HOLDS)
}

fn derive_public(basepoint: &PublicKey, point: &PerCommitmentPoint) -> PublicKey {
    basepoint.add_exp_tweak(SECP256K1, &basepoint_tweak(basepoint, point)).expect(HASH_HOLDS)
}

/// `basepoint_secret + SHA256(per_commitment_point || basepoint)`
pub(super) fn derive_private(secret: &PrivateKey, basepoint: &PublicKey, point: &PerCommitmentPoint) -> PrivateKey {
    PrivateKey(secret.0.add_tweak(&basepoint_tweak(basepoint, point)).expect(HASH_HOLDS))
}

/// The private key of a [`RevocationPubkey`], known once the broadcaster has revealed its per-commitment secret.
///
/// `None` where `secret` is no private key, which no secret is that was checked against its point.
pub(super) fn derive_revocation_private(
    basepoint_secret: &PrivateKey,
    basepoint: &RevocationBasepoint,
    secret: &PerCommitmentSecret,
) -> Option<PrivateKey> {
    let per_commitment = PrivateKey(SecretKey::from_slice(secret.as_bytes()).ok()?);
    let point = PerCommitmentPoint(per_commitment.0.public_key(SECP256K1));
    let (basepoint_tweak, point_tweak) = revocation_tweaks(&basepoint.0, &point);
    let revocation = PrivateKey(basepoint_secret.0.mul_tweak(&basepoint_tweak).expect(HASH_HOLDS));
    let commitment = PrivateKey(per_commitment.0.mul_tweak(&point_tweak).expect(HASH_HOLDS));
    Some(PrivateKey(revocation.0.add_tweak(&Scalar::from(commitment.0)).expect(HASH_HOLDS)))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn published_vectors() {
        let Ok(dir) = std::env::var("SPEC_VECTORS") else {
            eprintln!("SPEC_VECTORS is not set: skipped");
            return;
        };
        let text = std::fs::read_to_string(format!("{dir}/bolt03-key-derivation.json")).expect("the file is there");
        let vector: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let field = |name: &str| vector[name].as_str().expect("a string").to_owned();
        let secret = |name: &str| PrivateKey(SecretKey::from_str(&field(name)).expect("a key"));
        let mut bytes = [0; 32];
        hex::decode_to_slice(field("per_commitment_secret"), &mut bytes).expect("hex");
        let per_commitment_secret = PerCommitmentSecret::new(bytes);
        let base_secret = secret("base_secret");
        let base = base_secret.0.public_key(SECP256K1);
        let point = per_commitment_secret.point().expect("a key");

        assert_eq!(base.to_string(), field("base_point"));
        assert_eq!(point.to_string(), field("per_commitment_point"));
        let derived = DelayedPaymentPubkey::derive(&DelayedPaymentBasepoint(base), &point);
        assert_eq!(derived.to_string(), field("localpubkey"));
        assert_eq!(HtlcPubkey::derive(&HtlcBasepoint(base), &point).key(), derived.key());
        assert!(derive_private(&base_secret, &base, &point).0 == secret("localprivkey").0);
        let revocation = RevocationPubkey::derive(&RevocationBasepoint(base), &point);
        assert_eq!(revocation.to_string(), field("revocationpubkey"));
        let private = derive_revocation_private(&base_secret, &RevocationBasepoint(base), &per_commitment_secret);
        assert!(private.expect("a key").0 == secret("revocationprivkey").0);
    }
}
