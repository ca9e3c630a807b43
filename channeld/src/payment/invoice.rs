//! Payment requests of BOLT 11, by the crate `lightning-invoice`: written, signed through a closure, read and checked. Which
//! invoices exist and what becomes of them is `receive`'s business.

use std::time::Duration;

use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescription, Bolt11InvoiceDescriptionRef, Currency, Description, InvoiceBuilder,
    ParseOrSemanticError, PaymentSecret, RawBolt11Invoice, RawTaggedField, RouteHint, RouteHintHop, RoutingFees,
    SignedRawBolt11Invoice, TaggedField,
};
use secp256k1::PublicKey;
use secp256k1::ecdsa::RecoverableSignature;
use serde::{Deserialize, Serialize};

use super::blinded::{self, BlindedPaymentPath};
use crate::units::{CltvDelta, Msat, NodeId, PaymentHash, ShortChannelId, UnixTime};
use crate::wire::{Feature, Features};

/// The longest description in bytes that fits into its field (1,023 times 5 bits).
pub const MAX_DESCRIPTION_LENGTH: usize = 639;

/// What an invoice is for: in words, or the hash of more words than fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceDescription {
    /// BOLT 11 `d`.
    Text(String),
    /// BOLT 11 `h`: SHA-256 of the words.
    Hash([u8; 32]),
}

/// A private channel on the way to the payee (BOLT 11 `r`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintHop {
    /// The node that forwards over the channel.
    pub node_id: NodeId,
    /// The channel, or an alias of it.
    pub short_channel_id: ShortChannelId,
    /// Its fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Its fee for each million of what is forwarded.
    pub fee_proportional_millionths: u32,
    /// How many blocks it wants.
    pub cltv_expiry_delta: CltvDelta,
}

/// What goes into a new payment request.
#[derive(Clone, Debug)]
pub struct InvoiceTerms {
    /// What it asks for; any amount where `None`.
    pub amount: Option<Msat>,
    /// What it is for.
    pub description: InvoiceDescription,
    /// What the payer locks its money to.
    pub payment_hash: PaymentHash,
    /// What proves that the payer has the invoice.
    pub payment_secret: [u8; 32],
    /// When it is made; whole seconds count.
    pub created: UnixTime,
    /// For how long it is good.
    pub expiry_seconds: u32,
    /// The least number of blocks that must be left when the HTLC comes in.
    pub min_final_cltv_expiry_delta: CltvDelta,
    /// Whether the payee waits for several parts.
    pub basic_mpp: bool,
    /// Ways to the payee over private channels, the payee's peer last in each.
    pub route_hints: Vec<Vec<HintHop>>,
    /// Ways that hide the payee. Where there are any, neither its secret nor hints nor its wish for blocks is written.
    pub blinded_paths: Vec<BlindedPaymentPath>,
}

/// A payment request that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    /// The text itself, in lower case, without `lightning:`.
    pub text: String,
    /// Whom it pays.
    pub payee: NodeId,
    /// What it asks for; any amount where `None`.
    pub amount: Option<Msat>,
    /// What to lock the money to.
    pub payment_hash: PaymentHash,
    /// What to show to the payee; `None` with blinded paths.
    pub payment_secret: Option<[u8; 32]>,
    /// What it is for.
    pub description: InvoiceDescription,
    /// What to give to the payee with the payment (BOLT 11 `m`).
    pub payment_metadata: Option<Vec<u8>>,
    /// When it was made.
    pub created: UnixTime,
    /// When it expires.
    pub expires: UnixTime,
    /// The least number of blocks that the payee wants left.
    pub min_final_cltv_expiry_delta: CltvDelta,
    /// What the payee understands or wants.
    pub features: Features,
    /// Ways to the payee over private channels.
    pub route_hints: Vec<Vec<HintHop>>,
    /// Ways that hide the payee: where there are any, there is no other.
    pub blinded_paths: Vec<BlindedPaymentPath>,
}

/// Why no payment request can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceTermsError {
    /// More than [`MAX_DESCRIPTION_LENGTH`] bytes.
    #[error("the description has more than {MAX_DESCRIPTION_LENGTH} bytes")]
    DescriptionTooLong,
    /// A way of more than 12 hops.
    #[error("a route hint has more than 12 hops")]
    RouteHintTooLong,
    /// A blinded path of more than 639 bytes.
    #[error("a blinded path is too long for an invoice")]
    BlindedPathTooLong,
    /// The time is beyond 35 bits of seconds.
    #[error("the time is out of range")]
    TimeOutOfRange,
    /// The amount is zero or beyond all money.
    #[error("the amount is out of range")]
    AmountOutOfRange,
}

impl InvoiceTermsError {
    /// The field of the request that is wrong.
    pub fn field(self) -> &'static str {
        match self {
            InvoiceTermsError::DescriptionTooLong => "description",
            InvoiceTermsError::AmountOutOfRange => "amount_msat",
            InvoiceTermsError::TimeOutOfRange => "expiry",
            InvoiceTermsError::RouteHintTooLong => "route_hints",
            InvoiceTermsError::BlindedPathTooLong => "blinded",
        }
    }
}

/// Why a text is no payment request that this node can pay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentRequestError {
    /// Not well-formed, a field too many or missing, or the signature is wrong (BOLT 11).
    #[error("not a valid BOLT 11 invoice: {0}")]
    Malformed(String),
    /// Good, on another network.
    #[error("the invoice is for another network")]
    OtherNetwork,
    /// An amount that no channel can hold.
    #[error("the amount of the invoice is out of range")]
    AmountOutOfRange,
    /// It wants more blocks than 65,535.
    #[error("the invoice wants more blocks than any payment may have")]
    CltvDeltaOutOfRange,
    /// It requires what this node does not know.
    #[error("the invoice requires feature bit {bit}, which is not known here")]
    UnknownFeature {
        /// The even bit.
        bit: usize,
    },
}

/// What an invoice may require of us: onions with TLVs, a payment secret, parts (one part will do), metadata, blinded paths.
const PAYABLE: [Feature; 6] = [
    Feature::VarOnion,
    Feature::PaymentSecret,
    Feature::BasicMpp,
    Feature::RouteBlinding,
    Feature::PaymentMetadata,
    Feature::Bolt11BlindedPath,
];
/// How long an invoice is good that does not say it, in seconds (BOLT 11 `x`).
const DEFAULT_EXPIRY: u64 = 3_600;

/// Writes a payment request and has it signed with the node key. `sign` gets the hash to sign.
pub fn create_invoice(
    terms: &InvoiceTerms,
    network: Network,
    sign: impl FnOnce([u8; 32]) -> RecoverableSignature,
) -> Result<String, InvoiceTermsError> {
    let description = match &terms.description {
        InvoiceDescription::Text(text) => Bolt11InvoiceDescription::Direct(
            Description::new(text.clone()).map_err(|_| InvoiceTermsError::DescriptionTooLong)?,
        ),
        InvoiceDescription::Hash(hash) => {
            Bolt11InvoiceDescription::Hash(lightning_invoice::Sha256(sha256::Hash::from_byte_array(*hash)))
        }
    };
    // BOLT 11 counts in tenths of a millisatoshi at the finest, and so does the crate: in 64 bits.
    let fits = |amount: Msat| amount != Msat::ZERO && amount.msat() <= crate::units::MAX_MONEY_MSAT.min(u64::MAX / 10);
    if terms.amount.is_some_and(|amount| !fits(amount)) {
        return Err(InvoiceTermsError::AmountOutOfRange);
    }
    if terms.created.seconds() > lightning_invoice::MAX_TIMESTAMP {
        return Err(InvoiceTermsError::TimeOutOfRange);
    }
    let mut builder = InvoiceBuilder::new(currency(network))
        .invoice_description(description)
        .payment_hash(sha256::Hash::from_byte_array(terms.payment_hash.0))
        .payment_secret(PaymentSecret(terms.payment_secret))
        .duration_since_epoch(Duration::from_secs(terms.created.seconds()))
        .min_final_cltv_expiry_delta(u64::from(terms.min_final_cltv_expiry_delta.blocks()))
        .expiry_time(Duration::from_secs(u64::from(terms.expiry_seconds)));
    if terms.basic_mpp {
        builder = builder.basic_mpp();
    }
    if let Some(amount) = terms.amount {
        builder = builder.amount_milli_satoshis(amount.msat());
    }
    for hint in &terms.route_hints {
        builder = builder.private_route(RouteHint(hint.iter().map(to_hint_hop).collect()));
    }
    // Description, time and amount are in range by now, so only the hints are left to be wrong.
    if !terms.blinded_paths.is_empty() {
        let raw = builder.build_raw().map_err(|_| InvoiceTermsError::RouteHintTooLong)?;
        return blind(raw, terms, sign);
    }
    let invoice = builder.build_signed(|hash| sign(*hash.as_ref())).map_err(|_| InvoiceTermsError::RouteHintTooLong)?;
    Ok(invoice.to_string())
}

/// The invoice with its blinded paths, and without what they stand for (bLIP 39).
fn blind(
    mut raw: RawBolt11Invoice,
    terms: &InvoiceTerms,
    sign: impl FnOnce([u8; 32]) -> RecoverableSignature,
) -> Result<String, InvoiceTermsError> {
    let is_kept = |field: &RawTaggedField| {
        use TaggedField::{Features, MinFinalCltvExpiryDelta, PaymentSecret, PrivateRoute};
        let RawTaggedField::KnownSemantics(field) = field else { return true };
        !matches!(field, PaymentSecret(_) | Features(_) | MinFinalCltvExpiryDelta(_) | PrivateRoute(_))
    };
    raw.data.tagged_fields.retain(is_kept);
    raw.data.tagged_fields.extend(blinded::features_field(&Features::blinded_invoice(terms.basic_mpp)));
    for path in &terms.blinded_paths {
        raw.data.tagged_fields.push(path.to_field().map_err(|_| InvoiceTermsError::BlindedPathTooLong)?);
    }
    let signed = raw.sign(|hash| Ok::<_, std::convert::Infallible>(sign(*hash.as_ref())));
    Ok(signed.unwrap_or_else(|never| match never {}).to_string())
}

/// Reads and checks a payment request of this network; `lightning:` in front is skipped, upper case is read.
pub fn parse_invoice(text: &str, network: Network) -> Result<PaymentRequest, PaymentRequestError> {
    let text = text.trim();
    let bare = match text.split_at_checked("lightning:".len()) {
        Some((scheme, bare)) if scheme.eq_ignore_ascii_case("lightning:") => bare,
        _ => text,
    };
    let malformed = |error: ParseOrSemanticError| PaymentRequestError::Malformed(error.to_string());
    let signed: SignedRawBolt11Invoice =
        bare.parse().map_err(|error| malformed(ParseOrSemanticError::ParseError(error)))?;
    let paths = blinded::read_fields(&signed.raw_invoice().data.tagged_fields)
        .map_err(|error| PaymentRequestError::Malformed(error.to_string()))?;
    let (found, request) = if paths.is_empty() {
        let invoice = Bolt11Invoice::from_signed(signed)
            .map_err(|error| malformed(ParseOrSemanticError::SemanticError(error)))?;
        (invoice.currency(), read_invoice(&invoice))
    } else {
        (signed.raw_invoice().currency(), read_blinded(&signed, paths))
    };
    if found != currency(network) {
        return Err(PaymentRequestError::OtherNetwork);
    }
    request
}

/// An invoice with blinded paths: the crate knows no such, so its rules are kept here (BOLT 11, bLIP 39).
fn read_blinded(
    signed: &SignedRawBolt11Invoice,
    mut blinded_paths: Vec<BlindedPaymentPath>,
) -> Result<PaymentRequest, PaymentRequestError> {
    let malformed = |why: &str| PaymentRequestError::Malformed(why.to_owned());
    let raw = signed.raw_invoice();
    let count = |is: fn(&TaggedField) -> bool| raw.known_tagged_fields().filter(|field| is(field)).count();
    if count(|field| matches!(field, TaggedField::PaymentHash(_))) > 1 {
        return Err(malformed("more than one payment hash"));
    }
    if count(|field| matches!(field, TaggedField::Description(_) | TaggedField::DescriptionHash(_))) > 1 {
        return Err(malformed("more than one description"));
    }
    if count(|field| matches!(field, TaggedField::PaymentSecret(_) | TaggedField::PrivateRoute(_))) > 0 {
        return Err(malformed("a payment secret or a route hint beside blinded paths"));
    }
    if !signed.check_signature() {
        return Err(malformed("the signature is wrong"));
    }
    let payee = match raw.payee_pub_key() {
        Some(payee) => payee.0,
        None => signed.recover_payee_pub_key().map_err(|_| malformed("the signature is wrong"))?.0,
    };
    let hash = raw.payment_hash().ok_or_else(|| malformed("no payment hash"))?;
    let description = match (raw.description(), raw.description_hash()) {
        (Some(text), _) => InvoiceDescription::Text(text.as_inner().0.clone()),
        (None, Some(hash)) => InvoiceDescription::Hash(hash.0.to_byte_array()),
        (None, None) => return Err(malformed("no description")),
    };
    let features = read_features(raw.features().map(|features| features.le_flags()).unwrap_or_default())?;
    // A path that needs what we do not know is none for us.
    if blinded_paths.iter().all(BlindedPaymentPath::requires_unknown) {
        let bit = blinded_paths.iter().find_map(|path| path.features.bits().find(|bit| bit % 2 == 0)).unwrap_or(0);
        return Err(PaymentRequestError::UnknownFeature { bit });
    }
    blinded_paths.retain(|path| !path.requires_unknown());
    let created = raw.data.timestamp.as_unix_timestamp();
    let expiry = raw.expiry_time().map_or(DEFAULT_EXPIRY, |time| time.as_seconds());
    Ok(PaymentRequest {
        text: signed.to_string(),
        payee: NodeId(payee),
        amount: read_amount(raw)?,
        payment_hash: PaymentHash(hash.0.to_byte_array()),
        payment_secret: None,
        description,
        payment_metadata: None,
        created: UnixTime::from_seconds(created),
        expires: UnixTime::from_seconds(created.saturating_add(expiry)),
        // Each path counts it in its own delta.
        min_final_cltv_expiry_delta: CltvDelta::new(0),
        features,
        route_hints: Vec::new(),
        blinded_paths,
    })
}

fn read_amount(raw: &RawBolt11Invoice) -> Result<Option<Msat>, PaymentRequestError> {
    if raw.hrp.raw_amount.is_none() {
        return Ok(None);
    }
    let pico = raw.amount_pico_btc().ok_or(PaymentRequestError::AmountOutOfRange)?;
    if pico % 10 != 0 {
        return Err(PaymentRequestError::Malformed("the amount is no whole number of millisatoshi".to_owned()));
    }
    let amount = Msat::new(pico / 10);
    let is_good = amount != Msat::ZERO && amount.msat() <= crate::units::MAX_MONEY_MSAT;
    is_good.then_some(Some(amount)).ok_or(PaymentRequestError::AmountOutOfRange)
}

fn read_invoice(invoice: &Bolt11Invoice) -> Result<PaymentRequest, PaymentRequestError> {
    let amount = read_amount(invoice.clone().into_signed_raw().raw_invoice())?;
    let delta =
        u16::try_from(invoice.min_final_cltv_expiry_delta()).map_err(|_| PaymentRequestError::CltvDeltaOutOfRange)?;
    let features = read_features(invoice.features().map(|features| features.le_flags()).unwrap_or_default())?;
    let created = invoice.duration_since_epoch().as_secs();
    let description = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => InvoiceDescription::Text(text.as_inner().0.clone()),
        Bolt11InvoiceDescriptionRef::Hash(hash) => InvoiceDescription::Hash(hash.0.to_byte_array()),
    };
    Ok(PaymentRequest {
        text: invoice.to_string(),
        payee: NodeId(invoice.get_payee_pub_key()),
        amount,
        payment_hash: PaymentHash(invoice.payment_hash().to_byte_array()),
        payment_secret: Some(invoice.payment_secret().0),
        description,
        payment_metadata: invoice.payment_metadata().cloned(),
        created: UnixTime::from_seconds(created),
        expires: UnixTime::from_seconds(created.saturating_add(invoice.expiry_time().as_secs())),
        min_final_cltv_expiry_delta: CltvDelta::new(delta),
        features,
        route_hints: invoice.route_hints().iter().map(|hint| hint.0.iter().map(from_hint_hop).collect()).collect(),
        blinded_paths: Vec::new(),
    })
}

fn read_features(little_endian: &[u8]) -> Result<Features, PaymentRequestError> {
    let features = Features::from_bytes(little_endian.iter().rev().copied().collect());
    let unknown = |bit: &usize| bit.is_multiple_of(2) && !PAYABLE.iter().any(|known| *known as usize == *bit);
    if let Some(bit) = features.bits().find(unknown) {
        return Err(PaymentRequestError::UnknownFeature { bit });
    }
    Ok(features)
}

const fn currency(network: Network) -> Currency {
    match network {
        Network::Bitcoin => Currency::Bitcoin,
        Network::Signet => Currency::Signet,
        Network::Testnet | Network::Testnet4 => Currency::BitcoinTestnet,
        // Our devnet has regtest's prefixes; networks to come are no networks of this daemon.
        _ => Currency::Regtest,
    }
}

fn to_hint_hop(hop: &HintHop) -> RouteHintHop {
    RouteHintHop {
        src_node_id: hop.node_id.0,
        short_channel_id: hop.short_channel_id.to_u64(),
        fees: RoutingFees { base_msat: hop.fee_base_msat, proportional_millionths: hop.fee_proportional_millionths },
        cltv_expiry_delta: hop.cltv_expiry_delta.blocks(),
        htlc_minimum_msat: None,
        htlc_maximum_msat: None,
    }
}

fn from_hint_hop(hop: &RouteHintHop) -> HintHop {
    let node_id: PublicKey = hop.src_node_id;
    HintHop {
        node_id: NodeId(node_id),
        short_channel_id: ShortChannelId::from_u64(hop.short_channel_id),
        fee_base_msat: hop.fees.base_msat,
        fee_proportional_millionths: hop.fees.proportional_millionths,
        cltv_expiry_delta: CltvDelta::new(hop.cltv_expiry_delta),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_slice(&[7; 32]).unwrap()
    }

    fn sign(hash: [u8; 32]) -> RecoverableSignature {
        SECP256K1.sign_ecdsa_recoverable(&secp256k1::Message::from_digest(hash), &key())
    }

    fn terms() -> InvoiceTerms {
        let hop = HintHop {
            node_id: NodeId(SecretKey::from_slice(&[8; 32]).unwrap().public_key(SECP256K1)),
            short_channel_id: ShortChannelId::from_u64(99),
            fee_base_msat: 1_000,
            fee_proportional_millionths: 10,
            cltv_expiry_delta: CltvDelta::new(40),
        };
        InvoiceTerms {
            amount: Some(Msat::new(1_234_567)),
            description: InvoiceDescription::Text("1 coffee ☕".to_owned()),
            payment_hash: PaymentHash([1; 32]),
            payment_secret: [2; 32],
            created: UnixTime::from_seconds(1_700_000_000),
            expiry_seconds: 600,
            min_final_cltv_expiry_delta: CltvDelta::new(42),
            basic_mpp: true,
            route_hints: vec![vec![hop.clone(), hop.clone()], vec![hop]],
            blinded_paths: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let terms = terms();
        let text = create_invoice(&terms, Network::Regtest, sign).unwrap();
        assert!(text.starts_with("lnbcrt12345670p1"), "{text}");
        let read = parse_invoice(&format!("LIGHTNING:{}", text.to_uppercase()), Network::Regtest).unwrap();
        let expected = PaymentRequest {
            text: text.clone(),
            payee: NodeId(key().public_key(SECP256K1)),
            amount: terms.amount,
            payment_hash: terms.payment_hash,
            payment_secret: Some(terms.payment_secret),
            description: terms.description.clone(),
            payment_metadata: None,
            created: terms.created,
            expires: UnixTime::from_seconds(1_700_000_600),
            min_final_cltv_expiry_delta: terms.min_final_cltv_expiry_delta,
            features: Features::invoice(true),
            route_hints: terms.route_hints.clone(),
            blinded_paths: Vec::new(),
        };
        assert_eq!(read, expected);
        assert_eq!(parse_invoice(&text, Network::Bitcoin), Err(PaymentRequestError::OtherNetwork));

        let terms = InvoiceTerms {
            amount: None,
            description: InvoiceDescription::Hash([9; 32]),
            basic_mpp: false,
            route_hints: vec![],
            ..terms
        };
        let text = create_invoice(&terms, Network::Regtest, sign).unwrap();
        let read = parse_invoice(&text, Network::Regtest).unwrap();
        assert_eq!((read.amount, read.description), (None, terms.description));
        assert_eq!(read.features, Features::invoice(false));
    }

    /// bLIP 39, "Test Vector".
    const BLIP_39: &str = "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4js5fdqqqqq2qqqqqpgqyzqqqqqqqqqqqqyqqqqqqqqqqqvsqqqqlnxy0ffrlt2y2jgtzw89kgr3zg4dlwtlfycn3yuek8x5eucnuchqps82xf0m2u6sx5wnjw7xxgnxz5kf09quqsv5zvkgj7d5kpzttp4qz7q5qsyqcyq5pzq2feycsemrh7wvendc4kw3tsmkt25a36ev6kfehrv7ecfkrp5zs9q5zqxqspqtr4avek5quzjn427asptzews5wrczfhychr2sq6ue9phmn35tjqcrspqgpsgpgxquyqjzstpsxsu59zqqqqqpqqqqqqyqq2qqqqqqqqqqqqqqqqqqqqqqqqpgqqqqk8t6endgpc99824amqzk9japgu8synwf3wx4qp4ej2r0h8rghypsqsygpf8ynzr8vwleenxdhzke69wrwed2nk8t9n2e8xudnm8pxcvxs2q5qsyqcyq5y4rdlhtf84f8rgdj34275juwls2ftxtcfh035863q3p9k6s94hpxhdmzfn5gxpsazdznxs56j4vt3fdhe00g9v2l3szher50hp4xlggqkxf77f";

    #[test]
    fn the_invoice_of_blip_39_is_read() {
        let read = parse_invoice(BLIP_39, Network::Bitcoin).unwrap();
        assert_eq!(read.amount, Some(Msat::new(2_000_000_000)));
        assert_eq!(read.payment_secret, None);
        let secret = SecretKey::from_slice(
            &hex::decode("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734").unwrap(),
        );
        assert_eq!(read.payee.0, secret.unwrap().public_key(SECP256K1));
        let [one, other] = read.blinded_paths.as_slice() else { panic!("two paths") };
        assert_eq!((one.terms.fee_base_msat, one.terms.fee_proportional_millionths), (40, 20));
        assert_eq!(one.terms.cltv_expiry_delta, CltvDelta::new(130));
        assert_eq!((one.terms.htlc_minimum_msat, one.terms.htlc_maximum_msat), (Msat::new(2), Msat::new(100)));
        let key = |text: &str| text.parse::<PublicKey>().unwrap();
        let first = key("03f3311e948feb5115242c4e396c81c448ab7ee5fd24c4e24e66c73533cc4f98b8");
        assert_eq!(one.path.first_path_key, first);
        let ids = [
            "03a8c97ed5cd40d474e4ef18c899854b25e5070106504cb225e6d2c112d61a805e",
            "0220293926219d8efe733336e2b674570dd96aa763acb3564e6e367b384d861a0a",
            "02c75eb336a038294eaaf760158b2e851c3c0937262e35401ae64a1bee71a2e40c",
        ];
        let hops: Vec<_> = one.path.hops.iter().map(|hop| hop.blinded_node_id).collect();
        assert_eq!(hops, ids.map(key));
        assert_eq!(one.path.first_node_id.0, hops[0]);
        let data = ["0102030405", "0504030201", "0102030405060708090a0b0c0d0e"].map(|it| hex::decode(it).unwrap());
        let told: Vec<_> = one.path.hops.iter().map(|hop| hop.encrypted_recipient_data.clone()).collect();
        assert_eq!(told, data);
        assert_eq!((other.terms.fee_base_msat, other.path.hops.len()), (4, 1));
        // Written again, each path is the same field.
        let signed: SignedRawBolt11Invoice = BLIP_39.parse().unwrap();
        let fields = &signed.raw_invoice().data.tagged_fields;
        let written: Vec<_> = read.blinded_paths.iter().map(|path| path.to_field().unwrap()).collect();
        let unknown: Vec<_> =
            fields.iter().filter(|field| matches!(field, RawTaggedField::UnknownSemantics(_))).cloned().collect();
        assert_eq!(written, unknown);
    }

    /// Of `lncli addinvoice 100 --blind`, with what LND says of it: docs.lightning.engineering, "Blinded Paths".
    const OF_LND: &str = "lnbc1u1pn0mykwpp5nqz5z6md5z6hss8thmpd2d57cqep7xxqraq9fzcytx7hvv5sg9wqdqqxqyz5vq5jhqqqqphgqqqpf2qf0qqqqqqqqqqzycqqqqqq63h9xqqqqqq4c0utvs26cyazs3jey8twnq9ada2grez3ad0wlmamyq2hwmx4m05psyg7h4fy3uf4rq76zqwgkhrtqmmvvl6pjsp45xttvlsnca93hf7d2ge58a5e40u03776q54z7menaez9ae54exq60ssnnvf8vympsh3cdqxf7elncw9v43944llnfac4vvm3sss8wgen4dkfcp30yfc5sj496ku8pva7d65p0h0hxudhde4sgcrj4ewd4fc23mr5m3lu7esgyke9mgp9ewwlx2kzx8qlqzgyynrmcdxasxe5yukv864dlusf2tpqcksjfnxgsuutxd9r8hxf5mw868vzu870yk9fkxj6ausedug9y6jpf6zkz4qp3vtwa2vu4enay9dguq09z7lv2s6ettz34tlefyrj6us2cffvqg80g7kyzk0r0w24d8sw823k6s3eqydlrgy5ehqy0mq7n56mjlk4z6vvzclu35tzlrmuhywqqjqvm5a4km3t2wxfeesh0kv6qcaq94dwgd5l3ngmkp2qhdu2h6f60pg75d6w9ltc5jgqqqqfwcqqqqa5q2lqqqqqqqqqqzycqqqqqqz46j5qqqqqqafqerczge4wuehqtup2mldh80yy28q2w84a30yq2m4g2rfkdnvgvps8s2hj3kvrnfhdwffudsqdej9ltjfpvd36s2kksxmsp8qrd9a5jxdgvh88j9hhc04z9ac8knp4u57qvl6sn4wvuqudld6eutfxgf92ham2as9dze6d6n83stmdpege8n5lud7gv5708qh4hjuv90f3vfdgfu53slngqnnllv8t37y2aq7r6syk7r6wh3aestn9f6ht6ywjsdv2fn36qqddaps334233a6yems4539lfum5muxdsgzy642gjfwcvzrw54ge3zsukuesxx0w2pqsn0lqs6nwqdy3es7z5xcpqs8q5xep555dd7psczpsday7mqrmjyyhlgzksnd9twm9h9ymru4tna3aw72zy33e4y4zqdlpg26n48y85h2xwn75yxpvjvalg5ttwtux9uz4jl576dc0keh9qvkduwp0yfammhddvdmch6vrq3mzpgppzr9hw240w506xg6dsjdw5d0psuy4r9ggawq5jgqqqqfwgqqqpk7q2lqqqqqqqqqqzycqqqqqq63h9xqqqqqqmkf0zees7hx5mmtqcand60ek9qw5c26wj7ludrntwwj2tadc87aypsx00wn34q4lzqllv0yltgaunq70j7rsv7t8r0nwmq07cyc82f02qfgwem8rhqgrncpc5qxn6rw5kk2pn8kzu5r93cxs9yneztc04pygr2mfvezv93gxa3wz3s52trrsahjkdac8rrtujutt9hm37d2k55695dyv4u5qcmqy3cqgqj4vt8jtjz4l7cee0njfdcqm64adaetp8x4yl3qu5h4apmp25p3xq3z3nmx7wc4jc5er496tzaer6v8frds38h842uku62qeu80j2uf4duptgu65fafpdp2f5vfn85fj5l7ejhvfde2qhgagrrtcx7yggr4m3hnrpz2hewfqqw38qns03m7g9h08gg2c8pp8k9q6kz8ruu39qyx2vx6n7lq9s95aqpq4f28xf5w4ajk44enwznqwr6rum8daznju5dpvfne6xes9qamgv3v9l060g2mt7jhe42em04zvq00mccgrqqv2h8kg0n9p4yqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpq9qgqqf98d722zvu5jg55qw8g7p6h07svytvg88rrkt2nj430fhuddc58xcmfrjal4h7jddwcn9m78k60d3tw8fywqwga7weh58ay2tc8recqqwpcuj";

    #[test]
    fn an_invoice_of_lnd_with_three_paths_is_read() {
        let read = parse_invoice(OF_LND, Network::Bitcoin).unwrap();
        let payee = "021b551120ff8a4503a8732b6e44c4baf23abf6d6c2911caa8bfb114b180da41e6";
        assert_eq!((read.payee.to_string().as_str(), read.amount), (payee, Some(Msat::new(100_000))));
        assert_eq!(read.features, Features::blinded_invoice(true), "ours are the same");
        assert_eq!(read.expires.seconds() - read.created.seconds(), 86_400);
        let paths: Vec<_> = read
            .blinded_paths
            .iter()
            .map(|path| {
                let terms = path.terms;
                let (first, point) = (path.path.first_node_id.to_string(), path.path.first_path_key.to_string());
                let fees = (terms.fee_base_msat, terms.fee_proportional_millionths, terms.cltv_expiry_delta.blocks());
                (
                    first[..8].to_owned(),
                    point[..8].to_owned(),
                    path.path.hops.len(),
                    fees,
                    terms.htlc_maximum_msat.msat(),
                )
            })
            .collect();
        let said = |first: &str, point: &str, fees, most| (first.to_owned(), point.to_owned(), 3, fees, most);
        let expected = [
            said("0223d7aa", "02b87f16", (221, 661, 303), 7_128_000_000),
            said("03c15794", "03a90647", (1_211, 474, 351), 720_000_000),
            said("033dee9c", "03764bc5", (1_209, 879, 351), 7_128_000_000),
        ];
        assert_eq!(paths, expected);
        let data = &read.blinded_paths[2].path.hops[2].encrypted_recipient_data;
        assert!(hex::encode(data).starts_with("2986d4fdf01605a74010552a39934757b2b5"));
    }

    fn blinded_terms() -> InvoiceTerms {
        let path = parse_invoice(BLIP_39, Network::Bitcoin).unwrap().blinded_paths;
        InvoiceTerms { route_hints: Vec::new(), blinded_paths: path, ..terms() }
    }

    #[test]
    fn an_invoice_with_blinded_paths_hides_the_rest() {
        let terms = blinded_terms();
        let text = create_invoice(&terms, Network::Regtest, sign).unwrap();
        let read = parse_invoice(&text, Network::Regtest).unwrap();
        assert_eq!((read.amount, read.payment_hash), (terms.amount, terms.payment_hash));
        assert_eq!((read.payment_secret, read.route_hints.len()), (None, 0));
        assert_eq!(read.blinded_paths, terms.blinded_paths);
        assert_eq!(read.features, Features::blinded_invoice(true));
        assert_eq!(read.expires, UnixTime::from_seconds(1_700_000_600));
        assert_eq!(parse_invoice(&text, Network::Bitcoin), Err(PaymentRequestError::OtherNetwork));
        assert!(text.parse::<Bolt11Invoice>().is_err(), "whoever does not know the field does not pay");
    }

    #[test]
    fn blinded_paths_stand_alone() {
        let spoil = |change: &dyn Fn(&mut RawBolt11Invoice)| {
            let text = create_invoice(&blinded_terms(), Network::Regtest, sign).unwrap();
            let signed: SignedRawBolt11Invoice = text.parse().unwrap();
            let mut raw = signed.raw_invoice().clone();
            change(&mut raw);
            let signed = raw.sign(|hash| Ok::<_, ()>(sign(*hash.as_ref()))).unwrap();
            parse_invoice(&signed.to_string(), Network::Regtest)
        };
        assert!(spoil(&|_| ()).is_ok());
        let field = |field: TaggedField| RawTaggedField::KnownSemantics(field);
        let secret = field(TaggedField::PaymentSecret(PaymentSecret([2; 32])));
        let hint = parse_hint();
        let hash = field(TaggedField::PaymentHash(lightning_invoice::Sha256(sha256::Hash::all_zeros())));
        let spoilt = RawTaggedField::UnknownSemantics([20_u8, 0, 2, 0, 0].map(|it| it.try_into().unwrap()).to_vec());
        for extra in [secret, hint, hash, spoilt] {
            let result = spoil(&|raw| raw.data.tagged_fields.push(extra.clone()));
            assert!(matches!(result, Err(PaymentRequestError::Malformed(_))), "{extra:?}");
        }
        let mut unknown = Features::blinded_invoice(true);
        unknown.set_bit(300);
        let result = spoil(&|raw| {
            raw.data.tagged_fields.retain(|it| !matches!(it, RawTaggedField::KnownSemantics(TaggedField::Features(_))));
            raw.data.tagged_fields.extend(blinded::features_field(&unknown));
        });
        assert_eq!(result, Err(PaymentRequestError::UnknownFeature { bit: 300 }));
    }

    fn parse_hint() -> RawTaggedField {
        let text = create_invoice(&terms(), Network::Regtest, sign).unwrap();
        let signed: SignedRawBolt11Invoice = text.parse().unwrap();
        let is_hint = |it: &&RawTaggedField| matches!(it, RawTaggedField::KnownSemantics(TaggedField::PrivateRoute(_)));
        signed.raw_invoice().data.tagged_fields.iter().find(is_hint).unwrap().clone()
    }

    #[test]
    fn terms_that_fit_into_no_invoice() {
        let create = |change: &dyn Fn(&mut InvoiceTerms)| {
            let mut terms = terms();
            change(&mut terms);
            create_invoice(&terms, Network::Regtest, sign).map(drop)
        };
        let text = |length| InvoiceDescription::Text("x".repeat(length));
        assert_eq!(create(&|it| it.description = text(639)), Ok(()));
        assert_eq!(create(&|it| it.description = text(640)), Err(InvoiceTermsError::DescriptionTooLong));
        assert_eq!(create(&|it| it.amount = Some(Msat::ZERO)), Err(InvoiceTermsError::AmountOutOfRange));
        assert_eq!(create(&|it| it.amount = Some(Msat::new(u64::MAX))), Err(InvoiceTermsError::AmountOutOfRange));
        assert_eq!(create(&|it| it.created = UnixTime::from_seconds(1 << 35)), Err(InvoiceTermsError::TimeOutOfRange));
        let long = vec![vec![terms().route_hints[1][0].clone(); 13]];
        assert_eq!(create(&|it| it.route_hints = long.clone()), Err(InvoiceTermsError::RouteHintTooLong));
    }

    #[test]
    fn amounts_beyond_all_money_are_refused() {
        // No multiplier: whole bitcoin, more than a u64 of pico-bitcoin. The checksum is made anew by the crate itself.
        let raw = lightning_invoice::RawBolt11Invoice {
            hrp: lightning_invoice::RawHrp {
                currency: Currency::Regtest,
                raw_amount: Some(21_000_001),
                si_prefix: None,
            },
            data: create_invoice(&terms(), Network::Regtest, sign)
                .unwrap()
                .parse::<Bolt11Invoice>()
                .unwrap()
                .into_signed_raw()
                .raw_invoice()
                .data
                .clone(),
        };
        let signed = raw.sign(|hash| Ok::<_, ()>(sign(*hash.as_ref()))).unwrap();
        let Ok(invoice) = Bolt11Invoice::from_signed(signed) else { panic!("the crate lets it pass") };
        assert_eq!(read_invoice(&invoice), Err(PaymentRequestError::AmountOutOfRange));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may read files")]
    fn invoices_of_the_specification() {
        let Ok(dir) = std::env::var("SPEC_VECTORS") else {
            println!("SPEC_VECTORS is not set: bolt11-invoices.json is not checked");
            return;
        };
        let text = std::fs::read_to_string(format!("{dir}/bolt11-invoices.json")).unwrap();
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let secret = hex::decode(vectors["private_key"].as_str().unwrap()).unwrap();
        let payee = NodeId(SecretKey::from_slice(&secret).unwrap().public_key(SECP256K1));
        let list = |name: &str| vectors[name].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
        for text in list("valid") {
            let network = if text.starts_with("lntb") { Network::Testnet } else { Network::Bitcoin };
            let read = parse_invoice(&text, network).unwrap_or_else(|error| panic!("{text}: {error}"));
            // The one with a high S was made of another by negating S alone: by BOLT 11 any S is taken, and the key that is
            // recovered is then another one.
            let (_, signature) =
                text.parse::<lightning_invoice::SignedRawBolt11Invoice>().unwrap().signature().0.serialize_compact();
            let is_low = signature[32] < 0x80;
            assert_eq!(read.payee == payee, is_low, "{text}");
            assert_eq!(read.payment_secret, Some([0x11; 32]));
        }
        for text in list("invalid") {
            assert!(parse_invoice(&text, Network::Bitcoin).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn changed_text_never_panics_and_never_passes(at: prop::sample::Index, letter in "[a-z0-9]") {
            let text = create_invoice(&terms(), Network::Regtest, sign).unwrap();
            let at = at.index(text.len());
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            prop_assert!(changed == text || parse_invoice(&changed, Network::Regtest).is_err());
        }

        #[test]
        fn any_text_never_panics(text: String) {
            prop_assert!(parse_invoice(&text, Network::Regtest).is_err());
        }
    }
}
