//! Blinded paths: such as LDK makes to itself, and payments of LDK along those of others. LDK carries them in BOLT 12 only, so
//! they are handed over as they are.

use lightning::blinded_path::payment::{
    BlindedPayInfo, BlindedPaymentPath, Bolt12RefundContext, ForwardTlvs, PaymentConstraints, PaymentContext,
    PaymentForwardNode, PaymentRelay, UnauthenticatedReceiveTlvs,
};
use lightning::blinded_path::{BlindedHop, IntroductionNode};
use lightning::ln::channelmanager::{PaymentId, RecipientOnionFields, Retry};
use lightning::offers::nonce::Nonce;
use lightning::routing::router::{PaymentParameters, RouteParameters};
use lightning::sign::NodeSigner;
use lightning::types::features::BlindedHopFeatures;
use lightning::types::payment::PaymentHash;
use secp256k1::{PublicKey, SECP256K1};

use super::{LdkNode, random_id};

/// What such a path wants to be left at its end, in blocks: LDK takes no less.
const FINAL_DELTA: u16 = 50;
const MOST_MSAT: u64 = 900_000_000;

impl LdkNode {
    /// A payment that it waits for, and a blinded path to it: over the peer, or from the node itself on.
    pub fn blinded_path(&self, amount_msat: u64, over: Option<PublicKey>) -> (PaymentHash, BlindedPaymentPath) {
        let inner = &self.inner;
        let (hash, payment_secret) =
            inner.channels.create_inbound_payment(Some(amount_msat), 3_600, None).expect("a payment to wait for");
        let max_cltv_expiry = inner.channels.current_best_block().height + 1_000;
        let told = UnauthenticatedReceiveTlvs {
            payment_secret,
            payment_constraints: PaymentConstraints { max_cltv_expiry, htlc_minimum_msat: 1 },
            payment_context: PaymentContext::Bolt12Refund(Bolt12RefundContext {}),
        };
        let nonce = Nonce::from_entropy_source(&*inner.keys);
        let told = told.authenticate(nonce, &inner.keys.get_expanded_key());
        let before: Vec<PaymentForwardNode> = over.into_iter().map(|peer| self.forwarder(peer)).collect();
        let path =
            BlindedPaymentPath::new(&before, self.node_id(), told, MOST_MSAT, FINAL_DELTA, &*inner.keys, SECP256K1);
        (hash, path.expect("a path"))
    }

    /// The peer as a hop of such a path, on the terms that it told.
    fn forwarder(&self, peer: PublicKey) -> PaymentForwardNode {
        let channels = self.channels();
        let channel = channels.iter().find(|channel| channel.counterparty.node_id == peer).expect("a channel with it");
        let terms = channel.counterparty.forwarding_info.clone().expect("it told its terms");
        let max_cltv_expiry = self.inner.channels.current_best_block().height + 1_200;
        let tlvs = ForwardTlvs {
            short_channel_id: channel.get_inbound_payment_scid().expect("it is usable"),
            payment_relay: PaymentRelay {
                cltv_expiry_delta: terms.cltv_expiry_delta,
                fee_proportional_millionths: terms.fee_proportional_millionths,
                fee_base_msat: terms.fee_base_msat,
            },
            payment_constraints: PaymentConstraints { max_cltv_expiry, htlc_minimum_msat: 1 },
            features: BlindedHopFeatures::empty(),
            next_blinding_override: None,
        };
        PaymentForwardNode { tlvs, node_id: peer, htlc_maximum_msat: MOST_MSAT }
    }

    /// Begins to pay along blinded paths; the payment's name.
    ///
    /// # Errors
    /// Where it knows at once that it cannot.
    pub fn pay_blinded(
        &self,
        hash: PaymentHash,
        paths: Vec<BlindedPaymentPath>,
        amount_msat: u64,
    ) -> Result<PaymentId, String> {
        let id = random_id();
        let route = RouteParameters::from_payment_params_and_value(PaymentParameters::blinded(paths), amount_msat);
        let onion = RecipientOnionFields::spontaneous_empty();
        let paid = self.inner.channels.send_payment(hash, onion, id, route, Retry::Attempts(5));
        paid.map(|()| id).map_err(|error| format!("{error:?}"))
    }
}

/// A path in our words.
pub fn from_ldk(path: &BlindedPaymentPath) -> channeld::payment::blinded::BlindedPaymentPath {
    use channeld::onion::{BlindedHop, BlindedPath, PathTerms};
    use channeld::units::{CltvDelta, Msat, NodeId};
    let IntroductionNode::NodeId(first) = path.introduction_node() else { panic!("named by its key") };
    let hops = path.blinded_hops().iter().map(|hop| BlindedHop {
        blinded_node_id: hop.blinded_node_id,
        encrypted_recipient_data: hop.encrypted_payload.clone(),
    });
    let terms = PathTerms {
        fee_base_msat: path.payinfo.fee_base_msat,
        fee_proportional_millionths: path.payinfo.fee_proportional_millionths,
        cltv_expiry_delta: CltvDelta::new(path.payinfo.cltv_expiry_delta),
        htlc_minimum_msat: Msat::new(path.payinfo.htlc_minimum_msat),
        htlc_maximum_msat: Msat::new(path.payinfo.htlc_maximum_msat),
    };
    let path =
        BlindedPath { first_node_id: NodeId(*first), first_path_key: path.blinding_point(), hops: hops.collect() };
    channeld::payment::blinded::BlindedPaymentPath::new(path, terms)
}

/// A path of ours in LDK's words.
pub fn to_ldk(path: &channeld::payment::blinded::BlindedPaymentPath) -> BlindedPaymentPath {
    let hops = path.path.hops.iter().map(|hop| BlindedHop {
        blinded_node_id: hop.blinded_node_id,
        encrypted_payload: hop.encrypted_recipient_data.clone(),
    });
    let payinfo = BlindedPayInfo {
        fee_base_msat: path.terms.fee_base_msat,
        fee_proportional_millionths: path.terms.fee_proportional_millionths,
        cltv_expiry_delta: path.terms.cltv_expiry_delta.blocks(),
        htlc_minimum_msat: path.terms.htlc_minimum_msat.msat(),
        htlc_maximum_msat: path.terms.htlc_maximum_msat.msat(),
        features: BlindedHopFeatures::empty(),
    };
    BlindedPaymentPath::from_blinded_path_and_payinfo(
        path.path.first_node_id.0,
        path.path.first_path_key,
        hops.collect(),
        payinfo,
    )
}
