//! Feature bits (BOLT 9): which ones this node sets where, what they depend on, what two peers have in common.

use serde::{Deserialize, Serialize};

use super::codec::{Field, Reader, TlvValue, write_bytes_u16};
use super::error::DecodeError;

/// A feature, by its even bit ("required"); the odd bit above it says "optional".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum Feature {
    /// `option_data_loss_protect`. Assumed by BOLT 9, and still looked for by others.
    DataLossProtect = 0,
    /// `option_upfront_shutdown_script`.
    UpfrontShutdownScript = 4,
    /// `gossip_queries`.
    GossipQueries = 6,
    /// `var_onion_optin`. Assumed.
    VarOnion = 8,
    /// `gossip_queries_ex`.
    GossipQueriesEx = 10,
    /// `option_static_remotekey`. Assumed; also a bit of `channel_type`.
    StaticRemotekey = 12,
    /// `payment_secret`. Assumed.
    PaymentSecret = 14,
    /// `basic_mpp`.
    BasicMpp = 16,
    /// `option_support_large_channel`: funding of 2^24 sat and more.
    LargeChannel = 18,
    /// `option_anchors`: anchors and HTLC transactions without fee; also a bit of `channel_type`.
    Anchors = 22,
    /// `option_route_blinding`.
    RouteBlinding = 24,
    /// `option_shutdown_anysegwit`.
    ShutdownAnySegwit = 26,
    /// `option_dual_fund`.
    DualFund = 28,
    /// `option_quiesce`.
    Quiesce = 34,
    /// `option_attribution_data`.
    AttributionData = 36,
    /// `option_onion_messages`.
    OnionMessages = 38,
    /// `option_provide_storage`.
    ProvideStorage = 42,
    /// `option_channel_type`. Assumed.
    ChannelType = 44,
    /// `option_scid_alias`; also a bit of `channel_type`.
    ScidAlias = 46,
    /// `option_payment_metadata`.
    PaymentMetadata = 48,
    /// `option_zeroconf`; also a bit of `channel_type`.
    ZeroConf = 50,
    /// Keysend, in `node_announcement` only (bLIP 3).
    Keysend = 54,
    /// `option_simple_close`.
    SimpleClose = 60,
    /// `option_splice`.
    Splice = 62,
    /// `bolt11_blinded_path`, in invoices only (bLIP 39).
    Bolt11BlindedPath = 262,
    /// Netted transfers: our extension, docs/protocol.md. Set as the odd bit 1,021, which nobody else uses.
    NettedTransfers = 1_020,
}

/// All of them.
const KNOWN: [Feature; 24] = [
    Feature::DataLossProtect,
    Feature::UpfrontShutdownScript,
    Feature::GossipQueries,
    Feature::VarOnion,
    Feature::GossipQueriesEx,
    Feature::StaticRemotekey,
    Feature::PaymentSecret,
    Feature::BasicMpp,
    Feature::LargeChannel,
    Feature::Anchors,
    Feature::RouteBlinding,
    Feature::ShutdownAnySegwit,
    Feature::DualFund,
    Feature::Quiesce,
    Feature::AttributionData,
    Feature::OnionMessages,
    Feature::ProvideStorage,
    Feature::ChannelType,
    Feature::ScidAlias,
    Feature::PaymentMetadata,
    Feature::ZeroConf,
    Feature::Keysend,
    Feature::SimpleClose,
    Feature::Splice,
];

/// What a feature needs beside itself (BOLT 9, and what LND checks: 55 → 9).
const DEPENDENCIES: [(Feature, Feature); 5] = [
    (Feature::BasicMpp, Feature::PaymentSecret),
    (Feature::Anchors, Feature::StaticRemotekey),
    (Feature::ZeroConf, Feature::ScidAlias),
    (Feature::SimpleClose, Feature::ShutdownAnySegwit),
    (Feature::Keysend, Feature::VarOnion),
];

/// What BOLT 9 assumes of every peer, set or not.
const ASSUMED: [Feature; 5] = [
    Feature::DataLossProtect,
    Feature::VarOnion,
    Feature::StaticRemotekey,
    Feature::PaymentSecret,
    Feature::ChannelType,
];

/// Why a peer's features end the connection (BOLT 1, `init`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// An even bit of a feature that this node does not offer.
    #[error("feature bit {bit} is required and not offered here")]
    RequiredNotOffered {
        /// The bit.
        bit: usize,
    },
    /// A feature without another one that it needs.
    #[error("feature {feature:?} is set without {needs:?}")]
    DependencyMissing {
        /// The feature that is set.
        feature: Feature,
        /// The one that is not.
        needs: Feature,
    },
}

/// A set of feature bits. Keeps the bytes as they came, so that a `channel_type` can be echoed byte for byte; leading zero
/// bytes make no difference in a comparison.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Features {
    /// Big-endian: bit 0 is the lowest bit of the last byte.
    bytes: Vec<u8>,
}

impl Features {
    /// No features.
    pub const fn empty() -> Features {
        Features { bytes: Vec::new() }
    }

    /// From the bytes of the wire.
    pub const fn from_bytes(bytes: Vec<u8>) -> Features {
        Features { bytes }
    }

    /// The bytes of the wire, without length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What this node sets in `init` (PEERS.md, A1). No even bit beyond the five that others insist on; gossip, multi-part
    /// payments and the like follow when they are built.
    pub fn init() -> Features {
        let mut features = Features::empty();
        ASSUMED.into_iter().for_each(|feature| features.set_required(feature));
        for feature in [
            Feature::UpfrontShutdownScript,
            Feature::GossipQueries,
            Feature::GossipQueriesEx,
            Feature::BasicMpp,
            Feature::LargeChannel,
            Feature::Anchors,
            Feature::RouteBlinding,
            Feature::ShutdownAnySegwit,
            Feature::AttributionData,
            Feature::ScidAlias,
            Feature::NettedTransfers,
        ] {
            features.set_optional(feature);
        }
        features
    }

    /// What this node sets in its `node_announcement`: the bits of `init`, and keysend.
    pub fn node_announcement() -> Features {
        let mut features = Features::init();
        features.set_optional(Feature::Keysend);
        features
    }

    /// What this node sets in an invoice: 8 and 14, and 17 if it waits for the parts of a payment. Payers refuse any even
    /// bit that they do not know.
    pub fn invoice(basic_mpp: bool) -> Features {
        let mut features = Features::empty();
        features.set_required(Feature::VarOnion);
        features.set_required(Feature::PaymentSecret);
        if basic_mpp {
            features.set_optional(Feature::BasicMpp);
        }
        features
    }

    /// What this node sets in an invoice with blinded paths, as LND does: no secret is in it, and who pays must read the paths.
    pub fn blinded_invoice(basic_mpp: bool) -> Features {
        let mut features = Features::empty();
        features.set_required(Feature::VarOnion);
        features.set_optional(Feature::PaymentSecret);
        features.set_optional(Feature::RouteBlinding);
        features.set_required(Feature::Bolt11BlindedPath);
        if basic_mpp {
            features.set_optional(Feature::BasicMpp);
        }
        features
    }

    /// The `channel_type` with exactly these features, all required.
    pub fn channel_type(features: &[Feature]) -> Features {
        let mut set = Features::empty();
        features.iter().for_each(|feature| set.set_required(*feature));
        set
    }

    /// Sets the even bit.
    pub fn set_required(&mut self, feature: Feature) {
        self.set_bit(feature as usize);
    }

    /// Sets the odd bit.
    pub fn set_optional(&mut self, feature: Feature) {
        self.set_bit(feature as usize + 1);
    }

    /// The same without the feature's even bit, as few bytes as the rest takes.
    #[must_use]
    pub fn without(&self, feature: Feature) -> Features {
        let mut rest = Features::empty();
        self.bits().filter(|bit| *bit != feature as usize).for_each(|bit| rest.set_bit(bit));
        rest
    }

    /// Sets the bit of that number; for tests and for bits without a name.
    pub fn set_bit(&mut self, bit: usize) {
        let missing = (bit / 8 + 1).saturating_sub(self.bytes.len());
        self.bytes.splice(0..0, std::iter::repeat_n(0, missing));
        let at = self.bytes.len() - 1 - bit / 8;
        self.bytes[at] |= 1 << (bit % 8);
    }

    /// Whether the bit of that number is set.
    pub fn bit(&self, bit: usize) -> bool {
        self.bytes.iter().rev().nth(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Whether the feature is offered: either of its bits is set.
    pub fn has(&self, feature: Feature) -> bool {
        self.bit(feature as usize) || self.bit(feature as usize + 1)
    }

    /// Whether the feature's even bit is set.
    pub fn requires(&self, feature: Feature) -> bool {
        self.bit(feature as usize)
    }

    /// Whether both this node (`self`) and its peer can use the feature: both offer it, or BOLT 9 assumes it.
    pub fn negotiated(&self, remote: &Features, feature: Feature) -> bool {
        self.has(feature) && (remote.has(feature) || ASSUMED.contains(&feature))
    }

    /// Whether this node (`self`) may talk to a peer with the features `remote`.
    ///
    /// # Errors
    /// The first rule of BOLT 1 and 9 that forbids it; the connection is to be closed.
    pub fn check_remote(&self, remote: &Features) -> Result<(), FeatureError> {
        for bit in remote.bits().filter(|bit| bit % 2 == 0) {
            if !self.bit(bit) && !self.bit(bit + 1) {
                return Err(FeatureError::RequiredNotOffered { bit });
            }
        }
        remote.check_dependencies()
    }

    /// The lowest even bit of a feature that has no name here: whoever announces it must not be routed through (BOLT 7).
    pub fn unknown_even_bit(&self) -> Option<usize> {
        self.bits().find(|bit| bit % 2 == 0 && !KNOWN.iter().any(|feature| *feature as usize == *bit))
    }

    /// Whether each feature comes with those that it needs.
    pub fn check_dependencies(&self) -> Result<(), FeatureError> {
        for (feature, needs) in DEPENDENCIES {
            if self.has(feature) && !self.has(needs) && !ASSUMED.contains(&needs) {
                return Err(FeatureError::DependencyMissing { feature, needs });
            }
        }
        Ok(())
    }

    /// The bits that are set, lowest first.
    pub fn bits(&self) -> impl Iterator<Item = usize> + '_ {
        let bytes = self.bytes.iter().rev().enumerate();
        bytes.flat_map(|(at, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit))
    }

    /// All the bits of both: `globalfeatures` and `features` of `init` are one map (BOLT 1).
    #[must_use]
    pub fn union(&self, other: &Features) -> Features {
        let (longer, shorter) = if self.bytes.len() >= other.bytes.len() { (self, other) } else { (other, self) };
        let mut union = longer.clone();
        union.bytes.iter_mut().rev().zip(shorter.bytes.iter().rev()).for_each(|(byte, more)| *byte |= more);
        union
    }

    fn significant(&self) -> &[u8] {
        let zeros = self.bytes.iter().take_while(|byte| **byte == 0).count();
        &self.bytes[zeros..]
    }
}

impl PartialEq for Features {
    fn eq(&self, other: &Features) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for Features {}

impl Field for Features {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes_u16(&self.bytes, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Features, DecodeError> {
        reader.bytes_u16().map(|bytes| Features::from_bytes(bytes.to_vec()))
    }
}

impl TlvValue for Features {
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Features, DecodeError> {
        Ok(Features::from_bytes(reader.take_rest().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bits(bits: &[usize]) -> Features {
        let mut features = Features::empty();
        bits.iter().for_each(|bit| features.set_bit(*bit));
        features
    }

    #[test]
    fn the_sets_are_those_of_the_table() {
        assert_eq!(
            Features::init().bits().collect::<Vec<_>>(),
            [0, 5, 7, 8, 11, 12, 14, 17, 19, 23, 25, 27, 37, 44, 47, 1_021]
        );
        assert_eq!(
            Features::node_announcement().bits().collect::<Vec<_>>(),
            [0, 5, 7, 8, 11, 12, 14, 17, 19, 23, 25, 27, 37, 44, 47, 55, 1_021]
        );
        assert_eq!(Features::invoice(true).bits().collect::<Vec<_>>(), [8, 14, 17]);
        assert_eq!(Features::init().check_dependencies(), Ok(()));
        assert_eq!(Features::node_announcement().check_dependencies(), Ok(()));
    }

    #[test]
    fn a_channel_type_has_the_bytes_of_the_wire() {
        let anchors = Features::channel_type(&[Feature::StaticRemotekey, Feature::Anchors]);
        assert_eq!(anchors.as_bytes(), [0x40, 0x10, 0x00]);
        assert_eq!(anchors, Features::from_bytes(vec![0, 0, 0x40, 0x10, 0x00]));
        assert_ne!(anchors, Features::channel_type(&[Feature::StaticRemotekey]));
    }

    #[test]
    fn an_even_bit_that_we_do_not_offer_ends_it() {
        let ours = Features::init();
        assert_eq!(ours.check_remote(&with_bits(&[0, 8, 12, 14, 23, 44, 2_000_001])), Ok(()));
        assert_eq!(ours.check_remote(&with_bits(&[22, 12])), Ok(()));
        assert_eq!(ours.check_remote(&with_bits(&[28])), Err(FeatureError::RequiredNotOffered { bit: 28 }));
        assert_eq!(ours.check_remote(&with_bits(&[524_286])), Err(FeatureError::RequiredNotOffered { bit: 524_286 }));
    }

    #[test]
    fn dependencies_are_checked() {
        let without = with_bits(&[61]);
        let missing =
            FeatureError::DependencyMissing { feature: Feature::SimpleClose, needs: Feature::ShutdownAnySegwit };
        assert_eq!(without.check_dependencies(), Err(missing));
        assert_eq!(with_bits(&[23]).check_dependencies(), Ok(()), "static_remotekey is assumed");
        assert_eq!(with_bits(&[17]).check_dependencies(), Ok(()), "and so is payment_secret");
        let (feature, needs) = (Feature::ZeroConf, Feature::ScidAlias);
        assert_eq!(with_bits(&[51]).check_dependencies(), Err(FeatureError::DependencyMissing { feature, needs }));
        assert_eq!(with_bits(&[51, 47]).check_dependencies(), Ok(()));
        assert_eq!(with_bits(&[61, 26]).check_dependencies(), Ok(()));
    }

    /// Dual funding, quiescence, storage, zero-conf, simple close, splices, taproot channels, zero-fee commitments: a peer that
    /// insists is left, one that only offers is not.
    #[test]
    fn what_is_not_built_is_not_offered() {
        let ours = Features::init();
        for bit in [28, 34, 38, 40, 42, 50, 60, 62, 80] {
            let with = with_bits(&[8, 14, 26, 46, bit]);
            assert_eq!(ours.check_remote(&with), Err(FeatureError::RequiredNotOffered { bit }));
            assert_eq!(ours.check_remote(&with_bits(&[8, 14, 27, 47, bit + 1])), Ok(()));
            assert!(!ours.bit(bit) && !ours.bit(bit + 1));
        }
        for bit in ours.bits().filter(|bit| bit % 2 == 0) {
            assert!([0, 8, 12, 14, 44].contains(&bit), "{bit}: no even bit beyond those that BOLT 9 assumes");
        }
    }

    #[test]
    fn negotiated_is_both_or_assumed() {
        let (ours, theirs) = (Features::init(), with_bits(&[22, 12]));
        assert!(ours.negotiated(&theirs, Feature::Anchors));
        assert!(ours.negotiated(&theirs, Feature::ChannelType));
        assert!(!ours.negotiated(&theirs, Feature::NettedTransfers));
        assert!(!ours.negotiated(&with_bits(&[35]), Feature::Quiesce));
    }

    #[test]
    fn a_union_has_all_bits() {
        let union = with_bits(&[0, 17]).union(&with_bits(&[1_021]));
        assert_eq!(union.bits().collect::<Vec<_>>(), [0, 17, 1_021]);
        assert_eq!(with_bits(&[1_021]).union(&Features::empty()), with_bits(&[1_021]));
    }
}
