//! The keys of one channel, out of the seed and the channel's key id.

use secp256k1::SECP256K1;
use zeroize::Zeroizing;

use super::derivation::{
    Basepoints, DelayedPaymentBasepoint, FundingPubkey, HtlcBasepoint, PaymentBasepoint, RevocationBasepoint,
};
use super::{ChannelKeyId, PrivateKey, Seed};

/// The private keys of one channel and the public ones that belong to them.
pub(super) struct ChannelKeys {
    pub(super) funding: PrivateKey,
    pub(super) revocation: PrivateKey,
    pub(super) payment: PrivateKey,
    pub(super) delayed_payment: PrivateKey,
    pub(super) htlc: PrivateKey,
    pub(super) commitment_seed: Zeroizing<[u8; 32]>,
    pub(super) basepoints: Basepoints,
}

impl ChannelKeys {
    pub(super) fn derive(seed: &Seed, id: &ChannelKeyId) -> ChannelKeys {
        let funding = seed.private_key("channel/funding", &id.0);
        let revocation = seed.private_key("channel/revocation", &id.0);
        let payment = payment_key(seed, id.payment_key_index());
        let delayed_payment = seed.private_key("channel/delayed_payment", &id.0);
        let htlc = seed.private_key("channel/htlc", &id.0);
        let commitment_seed = seed.expand("channel/per_commitment", &id.0);
        let public = |key: &PrivateKey| key.0.public_key(SECP256K1);
        let basepoints = Basepoints {
            funding_pubkey: FundingPubkey::new(public(&funding)),
            revocation_basepoint: RevocationBasepoint::new(public(&revocation)),
            payment_basepoint: PaymentBasepoint::new(public(&payment)),
            delayed_payment_basepoint: DelayedPaymentBasepoint::new(public(&delayed_payment)),
            htlc_basepoint: HtlcBasepoint::new(public(&htlc)),
        };
        ChannelKeys { funding, revocation, payment, delayed_payment, htlc, commitment_seed, basepoints }
    }
}

/// The payment key of one index; the channel's id plays no part beyond choosing the index.
pub(super) fn payment_key(seed: &Seed, index: u16) -> PrivateKey {
    seed.private_key("payment", &index.to_be_bytes())
}
