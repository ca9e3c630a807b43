//! Our BOLT 3 transactions beside those of the crate `lightning`: random channels, commitments, HTLC transactions and
//! penalties; unsigned bytes and signature hashes equal, each side's signatures verified by the other (LDK grinds for a low
//! R, so signatures are not compared), and what goes on the chain run through `bitcoinconsensus`.

use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, OutPoint, ScriptBuf, SegwitV0Sighash, Transaction, TxOut, Txid};
use channeld::keys::{
    Basepoints, ChannelKeyId, DelayedPaymentBasepoint, FundingPubkey, HtlcBasepoint, PaymentBasepoint,
    PerCommitmentPoint, PerCommitmentSecret, RevocationBasepoint, Signer, Words,
};
use channeld::transactions::{
    Claim, ClaimTransaction, ClosingSpec, ClosingTransaction, CommitmentFormat, CommitmentParameters,
    CommitmentSignature, CommitmentSpec, CommitmentTerms, CommitmentTransaction, Funding, Htlc, HtlcDirection,
    HtlcHistory, OutputRole, Penalty, RevokedOutput, TransactionKeys, verify_commitment, verify_htlcs,
};
use channeld::units::{CltvDelta, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, Preimage};
use lightning::ln::chan_utils;
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::sign::{ChannelSigner, InMemorySigner, KeysManager};
use lightning::types::features::ChannelTypeFeatures;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

const CASES: u64 = 1_000;

/// One channel between us and LDK, and one commitment of it.
struct Case {
    format: CommitmentFormat,
    ours: Signer,
    id: ChannelKeyId,
    theirs: InMemorySigner,
    /// From LDK's view.
    ldk: chan_utils::ChannelTransactionParameters,
    we_broadcast: bool,
    parameters: CommitmentParameters,
    spec: CommitmentSpec,
    preimages: Vec<Preimage>,
    secret: PerCommitmentSecret,
}

#[test]
fn a_thousand_commitments_as_lightning_builds_them() {
    (0..CASES).into_par_iter().for_each(|seed| {
        let _guard = PrintSeed(seed);
        Case::random(seed).check();
    });
}

#[test]
fn a_thousand_mutual_closes_as_lightning_builds_them() {
    (0..CASES).into_par_iter().for_each(|seed| {
        let _guard = PrintSeed(seed);
        check_closing(&mut ChaCha8Rng::seed_from_u64(seed));
    });
}

/// Names the seed of the case that failed.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}

fn our_basepoints(theirs: &chan_utils::ChannelPublicKeys) -> Basepoints {
    Basepoints {
        funding_pubkey: FundingPubkey::new(theirs.funding_pubkey),
        revocation_basepoint: RevocationBasepoint::new(theirs.revocation_basepoint.0),
        payment_basepoint: PaymentBasepoint::new(theirs.payment_point),
        delayed_payment_basepoint: DelayedPaymentBasepoint::new(theirs.delayed_payment_basepoint.0),
        htlc_basepoint: HtlcBasepoint::new(theirs.htlc_basepoint.0),
    }
}

fn their_keys(ours: &Basepoints) -> chan_utils::ChannelPublicKeys {
    chan_utils::ChannelPublicKeys {
        funding_pubkey: *ours.funding_pubkey.key(),
        revocation_basepoint: (*ours.revocation_basepoint.key()).into(),
        payment_point: *ours.payment_basepoint.key(),
        delayed_payment_basepoint: (*ours.delayed_payment_basepoint.key()).into(),
        htlc_basepoint: (*ours.htlc_basepoint.key()).into(),
    }
}

fn random_htlcs(rng: &mut ChaCha8Rng) -> (Vec<Htlc>, Vec<Preimage>) {
    // Mostly a few; sometimes enough to sign and verify in parallel. Amounts and hashes repeat, so that order is tested.
    let count = if rng.random_ratio(1, 10) { rng.random_range(0..30) } else { rng.random_range(0..6) };
    let mut preimages: Vec<Preimage> = Vec::new();
    let htlcs = (0..count)
        .map(|index| {
            let repeats = !preimages.is_empty() && rng.random_ratio(1, 4);
            let preimage =
                if repeats { preimages[rng.random_range(0..preimages.len())] } else { Preimage(rng.random()) };
            preimages.push(preimage);
            let sat = if rng.random_ratio(1, 3) { 10_000 } else { rng.random_range(100..30_000) };
            Htlc {
                direction: if rng.random() { HtlcDirection::Offered } else { HtlcDirection::Received },
                id: HtlcId::new(index),
                amount: Msat::new(sat * 1_000 + rng.random_range(0..1_000)),
                payment_hash: preimage.payment_hash(),
                cltv_expiry: CltvExpiry::new(rng.random_range(1..900_000)),
            }
        })
        .collect();
    (htlcs, preimages)
}

impl Case {
    fn random(seed: u64) -> Case {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let format = if rng.random() { CommitmentFormat::Anchors } else { CommitmentFormat::StaticRemotekey };
        let ours = Signer::new(&Words::from_entropy(&rng.random()).seed());
        let id = ChannelKeyId(rng.random());
        let mut ldk_id: [u8; 32] = rng.random();
        ldk_id[..4].fill(0);
        let theirs = KeysManager::new(&rng.random(), 1, 1, true).derive_channel_keys(&ldk_id);

        let (htlcs, preimages) = random_htlcs(&mut rng);
        let balance = |rng: &mut ChaCha8Rng| match rng.random_range(0..4) {
            0 => 0,
            1 => rng.random_range(0..2_000_000),
            _ => rng.random_range(0..20_000_000_000),
        };
        let (to_broadcaster, to_countersignatory) = (balance(&mut rng), balance(&mut rng));
        let total: u64 =
            to_broadcaster + to_countersignatory + htlcs.iter().map(|htlc| htlc.amount.msat()).sum::<u64>();
        let value = total.div_ceil(1_000);

        let number = CommitmentNumber::new(rng.random_range(0..1 << 48));
        let (ours_keys, theirs_keys) = (ours.basepoints(&id), theirs.pubkeys(SECP256K1));
        let funding_pubkeys = (ours_keys.funding_pubkey, FundingPubkey::new(theirs_keys.funding_pubkey));
        let outpoint = OutPoint { txid: Txid::from_byte_array(rng.random()), vout: rng.random_range(0..4) };
        let (we_broadcast, we_opened): (bool, bool) = (rng.random(), rng.random());
        let (our_delay, their_delay) = (rng.random_range(1..2_017), rng.random_range(1..2_017));
        let (broadcaster, countersignatory) = match we_broadcast {
            true => (ours_keys, our_basepoints(&theirs_keys)),
            false => (our_basepoints(&theirs_keys), ours_keys),
        };
        let parameters = CommitmentParameters::new(CommitmentTerms {
            format,
            funding: Funding::new(outpoint, Amount::from_sat(value), funding_pubkeys.0, funding_pubkeys.1),
            broadcaster,
            countersignatory,
            broadcaster_is_opener: we_broadcast == we_opened,
            // Our delay is what we ask of them, so it holds for their commitment.
            to_self_delay: CltvDelta::new(if we_broadcast { their_delay } else { our_delay }),
            dust_limit: Amount::from_sat(rng.random_range(354..1_000)),
        });
        let mut channel_type_features = ChannelTypeFeatures::only_static_remote_key();
        if format.has_anchors() {
            channel_type_features.set_anchors_zero_fee_htlc_tx_required();
        }
        let ldk = chan_utils::ChannelTransactionParameters {
            holder_pubkeys: theirs_keys,
            holder_selected_contest_delay: their_delay,
            is_outbound_from_holder: !we_opened,
            counterparty_parameters: Some(chan_utils::CounterpartyChannelTransactionParameters {
                pubkeys: their_keys(&ours_keys),
                selected_contest_delay: our_delay,
            }),
            funding_outpoint: Some(lightning::chain::transaction::OutPoint {
                txid: outpoint.txid,
                index: outpoint.vout as u16,
            }),
            splice_parent_funding_txid: None,
            channel_type_features,
            channel_value_satoshis: value,
        };
        let secret = if we_broadcast {
            ours.per_commitment_secret(&id, number)
        } else {
            let released = theirs.release_commitment_secret(backward(number)).expect("in memory");
            PerCommitmentSecret::new(released)
        };
        let spec = CommitmentSpec {
            number,
            to_broadcaster: Msat::new(to_broadcaster),
            to_countersignatory: Msat::new(to_countersignatory),
            feerate: FeeratePerKw::new(rng.random_range(253..5_000)),
            htlcs,
        };
        Case { format, ours, id, theirs, ldk, we_broadcast, parameters, spec, preimages, secret }
    }

    /// LDK's commitment, with amounts and trimming reckoned here from the text of BOLT 3.
    fn ldk_commitment(&self, point: &PerCommitmentPoint) -> chan_utils::CommitmentTransaction {
        let (terms, spec) = (self.parameters.terms(), &self.spec);
        let (anchors, feerate) = (self.format.has_anchors(), u64::from(spec.feerate.sat_per_kw()));
        let features = &self.ldk.channel_type_features;
        let fee_of = |weight: u64| if anchors { 0 } else { feerate * weight / 1_000 };
        let untrimmed: Vec<_> = spec
            .htlcs
            .iter()
            .filter(|htlc| {
                let weight = match htlc.direction {
                    HtlcDirection::Offered => chan_utils::htlc_timeout_tx_weight(features),
                    HtlcDirection::Received => chan_utils::htlc_success_tx_weight(features),
                };
                htlc.amount.msat() / 1_000 >= terms.dust_limit.to_sat() + fee_of(weight)
            })
            .map(|htlc| chan_utils::HTLCOutputInCommitment {
                offered: htlc.direction == HtlcDirection::Offered,
                amount_msat: htlc.amount.msat(),
                cltv_expiry: htlc.cltv_expiry.height(),
                payment_hash: lightning::types::payment::PaymentHash(htlc.payment_hash.0),
                transaction_output_index: None,
            })
            .collect();
        let base = if anchors { 1_124 } else { 724 };
        let cost = feerate * (base + 172 * untrimmed.len() as u64) / 1_000 + if anchors { 660 } else { 0 };
        let (mut own, mut other) = (spec.to_broadcaster.msat() / 1_000, spec.to_countersignatory.msat() / 1_000);
        let opener = if terms.broadcaster_is_opener { &mut own } else { &mut other };
        *opener = opener.saturating_sub(cost);
        let or_nothing = |sat: u64| if sat >= terms.dust_limit.to_sat() { sat } else { 0 };
        let directed = match self.we_broadcast {
            true => self.ldk.as_counterparty_broadcastable(),
            false => self.ldk.as_holder_broadcastable(),
        };
        chan_utils::CommitmentTransaction::new(
            backward(spec.number),
            point.key(),
            or_nothing(own),
            or_nothing(other),
            spec.feerate.sat_per_kw(),
            untrimmed,
            &directed,
            SECP256K1,
        )
    }

    fn check(&self) {
        let point = self.secret.point().expect("a key");
        let keys = TransactionKeys::derive(&self.parameters, &point);
        let commitment = CommitmentTransaction::build(&self.parameters, keys, &self.spec);
        let ldk = self.ldk_commitment(&point);
        let trusted = ldk.trust();
        assert_eq!(commitment.transaction(), &trusted.built_transaction().transaction);
        assert_eq!(self.parameters.number_of(commitment.transaction()), Some(self.spec.number));
        let (one, other) =
            (&self.ldk.holder_pubkeys, &self.ldk.counterparty_parameters.as_ref().expect("populated").pubkeys);
        let funding = chan_utils::make_funding_redeemscript(&one.funding_pubkey, &other.funding_pubkey);
        let sighash = trusted.built_transaction().get_sighash_all(&funding, self.ldk.channel_value_satoshis);
        assert_eq!(Message::from(commitment.sighash(&self.parameters)), sighash);

        self.check_htlcs(&commitment, &ldk);
        if self.we_broadcast {
            self.they_sign(&commitment, &ldk)
        } else {
            self.we_sign(&commitment, sighash)
        }
        self.check_penalty(&commitment, &ldk);
    }

    /// HTLC transactions: bytes and signature hashes.
    fn check_htlcs(&self, commitment: &CommitmentTransaction, ldk: &chan_utils::CommitmentTransaction) {
        let trusted = ldk.trust();
        let features = &self.ldk.channel_type_features;
        let sighashes = commitment.htlc_sighashes(&self.parameters);
        assert_eq!(commitment.htlcs().len(), ldk.nondust_htlcs().len());
        for (index, htlc) in ldk.nondust_htlcs().iter().enumerate() {
            let ours = commitment.htlc_transaction(&self.parameters, index);
            let theirs = chan_utils::build_htlc_transaction(
                &trusted.txid(),
                ldk.negotiated_feerate_per_kw(),
                self.parameters.terms().to_self_delay.blocks(),
                htlc,
                features,
                &trusted.keys().broadcaster_delayed_payment_key,
                &trusted.keys().revocation_key,
            );
            assert_eq!(ours.transaction(), &theirs);
            let script = chan_utils::get_htlc_redeemscript(htlc, features, trusted.keys());
            assert_eq!(ours.witness_script(), &script);
            let sighash_type = match self.format {
                CommitmentFormat::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
                CommitmentFormat::StaticRemotekey => EcdsaSighashType::All,
            };
            let sighash = |sighash_type| {
                SighashCache::new(&theirs)
                    .p2wsh_signature_hash(0, &script, Amount::from_sat(htlc.amount_msat / 1_000), sighash_type)
                    .expect("input 0")
            };
            assert_eq!(sighashes[index], sighash(sighash_type));
            assert_eq!(ours.broadcaster_sighash(ours.transaction(), 0), sighash(EcdsaSighashType::All));
        }
    }

    /// LDK signs our commitment; we verify, sign our part, and the whole satisfies the scripts.
    fn they_sign(&self, commitment: &CommitmentTransaction, ldk: &chan_utils::CommitmentTransaction) {
        let (signature, htlcs) = self
            .theirs
            .sign_counterparty_commitment(&self.ldk, ldk, Vec::new(), Vec::new(), SECP256K1)
            .expect("LDK signs");
        let signature = CommitmentSignature::Ecdsa(signature);
        verify_commitment(&self.parameters, commitment, &signature).expect("LDK's signature");
        verify_htlcs(&self.parameters, commitment, &htlcs).expect("LDK's HTLC signatures");
        let signed = commitment.signed(&self.parameters, &self.ours, &self.id, &signature);
        run_scripts(&signed, &[self.parameters.funding().output()]);
        for (index, theirs) in htlcs.iter().enumerate() {
            let second = commitment.htlc_transaction(&self.parameters, index);
            let point = commitment.keys().per_commitment_point();
            let ours = self.ours.sign_htlc(&self.id, point, second.broadcaster_sighash(second.transaction(), 0));
            let committed = commitment.htlcs()[index];
            let preimage = self.preimages[committed.htlc.id.id() as usize];
            let preimage = (committed.htlc.direction == HtlcDirection::Received).then_some(&preimage);
            let spent = signed.output[committed.output_index as usize].clone();
            run_scripts(&second.signed(theirs, &ours, preimage), &[spent]);
        }
    }

    /// We sign LDK's commitment; the signatures hold for LDK's hashes and keys.
    fn we_sign(&self, commitment: &CommitmentTransaction, sighash: Message) {
        let signatures = commitment.sign(&self.parameters, &self.ours, &self.id);
        let keys = self.ldk.counterparty_pubkeys().expect("populated");
        let verifies =
            |message: &Message, signature: &Signature, key| SECP256K1.verify_ecdsa(message, signature, key).is_ok();
        assert!(verifies(&sighash, signatures.commitment.ecdsa(), &keys.funding_pubkey));
        let key = lightning::ln::channel_keys::HtlcKey::from_basepoint(
            SECP256K1,
            &keys.htlc_basepoint,
            commitment.keys().per_commitment_point().key(),
        );
        let key = key.to_public_key();
        assert_eq!(signatures.htlcs.len(), commitment.htlcs().len());
        for (signature, sighash) in signatures.htlcs.iter().zip(commitment.htlc_sighashes(&self.parameters)) {
            assert!(verifies(&Message::from(sighash), signature, &key));
        }
    }

    /// Takes every output of the commitment as if it were revoked, and the output of every HTLC transaction.
    fn check_penalty(&self, commitment: &CommitmentTransaction, ldk: &chan_utils::CommitmentTransaction) {
        let history: Vec<HtlcHistory> = self
            .spec
            .htlcs
            .iter()
            .map(|htlc| HtlcHistory { htlc: *htlc, first: self.spec.number, last: Some(self.spec.number) })
            .collect();
        let penalty =
            Penalty::new(&self.parameters, self.spec.number, self.secret.clone(), &history).expect("a valid secret");
        let mut claims = Vec::new();
        for (vout, (output, role)) in (0..).zip(commitment.transaction().output.iter().zip(commitment.outputs())) {
            let claim = penalty.claim(OutPoint { txid: commitment.txid(), vout }, output);
            match (role, claim) {
                (OutputRole::BroadcasterAnchor | OutputRole::CountersignatoryAnchor, None) => {}
                (OutputRole::ToBroadcaster, Some((RevokedOutput::ToBroadcaster, claim))) => {
                    self.check_justice(&claim, ldk);
                    claims.push((claim, None));
                }
                (OutputRole::ToCountersignatory, Some((RevokedOutput::ToCountersignatory, claim))) => {
                    claims.push((claim, None));
                }
                (OutputRole::Htlc(index), Some((RevokedOutput::Htlc(_), claim))) => {
                    let second = commitment.htlc_transaction(&self.parameters, *index);
                    claims.push((claim, Some(&ldk.nondust_htlcs()[*index])));
                    let made = OutPoint { txid: second.transaction().compute_txid(), vout: 0 };
                    let claim = penalty.second_stage_claim(made, &second.transaction().output[0]);
                    let claim = claim.expect("the output of an HTLC transaction");
                    claims.push((claim, None));
                }
                _ => panic!("output {vout} was not recognised"),
            }
        }
        self.check_claims(&claims, ldk);
    }

    /// The unsigned transaction that takes `to_local`, byte for byte.
    fn check_justice(&self, claim: &Claim, ldk: &chan_utils::CommitmentTransaction) {
        let script = ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat());
        let Ok(theirs) = ldk.trust().build_to_local_justice_tx(253, script.clone()) else { return };
        let fee = claim.output.value - theirs.output[0].value;
        let Some(ours) = ClaimTransaction::build(vec![claim.clone()], script, fee) else { return };
        assert_eq!(ours.transaction(), &theirs);
    }

    /// One transaction takes all: LDK's signatures verify over our hashes, or ours satisfy the scripts.
    fn check_claims(
        &self,
        claims: &[(Claim, Option<&chan_utils::HTLCOutputInCommitment>)],
        ldk: &chan_utils::CommitmentTransaction,
    ) {
        let script = ScriptBuf::from_bytes([&[0, 32][..], &[9; 32]].concat());
        let list: Vec<Claim> = claims.iter().map(|(claim, _)| claim.clone()).collect();
        let weight = ClaimTransaction::weight(&list, &script);
        let Some(transaction) = ClaimTransaction::build(list, script, Amount::from_sat(300)) else { return };
        if !self.we_broadcast {
            let signed = transaction.sign(&self.ours, &self.id);
            let spent: Vec<TxOut> = claims.iter().map(|(claim, _)| claim.output.clone()).collect();
            run_scripts(&signed, &spent);
            let actual = signed.weight().to_wu();
            assert!(actual <= weight && weight - actual <= 8 * claims.len() as u64, "{actual} of {weight}");
            return;
        }
        let secret = SecretKey::from_slice(self.secret.as_bytes()).expect("a key");
        let revocation = ldk.trust().keys().revocation_key.to_public_key();
        let unsigned = transaction.transaction();
        let mut cache = SighashCache::new(unsigned);
        for (input, (claim, htlc)) in claims.iter().enumerate() {
            let (theirs, amount) = (&self.theirs, claim.output.value.to_sat());
            let signature = match htlc {
                _ if claim.output.script_pubkey == *self.parameters.to_countersignatory_script() => continue,
                None => theirs.sign_justice_revoked_output(&self.ldk, unsigned, input, amount, &secret, SECP256K1),
                Some(htlc) => {
                    theirs.sign_justice_revoked_htlc(&self.ldk, unsigned, input, amount, &secret, htlc, SECP256K1)
                }
            };
            let sighash = claim.sighash(&mut cache, input);
            assert_signature(sighash, &signature.expect("LDK signs"), &revocation);
        }
    }
}

fn assert_signature(sighash: SegwitV0Sighash, signature: &Signature, key: &PublicKey) {
    SECP256K1.verify_ecdsa(&Message::from(sighash), signature, key).expect("LDK's signature over our hash");
}

/// LDK counts commitments down.
fn backward(number: CommitmentNumber) -> u64 {
    CommitmentNumber::LAST.number() - number.number()
}

/// Every input satisfies the script of the output it spends.
fn run_scripts(transaction: &Transaction, spent: &[TxOut]) {
    let bytes = bitcoin::consensus::serialize(transaction);
    for (index, output) in spent.iter().enumerate() {
        let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT;
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        bitcoinconsensus::verify_with_flags(script, value, &bytes, None, index, flags)
            .unwrap_or_else(|error| panic!("input {index}: {error:?}"));
    }
}

fn check_closing(rng: &mut ChaCha8Rng) {
    let key = |rng: &mut ChaCha8Rng| {
        let secret = SecretKey::from_slice(&rng.random::<[u8; 32]>()).expect("a key");
        FundingPubkey::new(secret.public_key(SECP256K1))
    };
    let outpoint = OutPoint { txid: Txid::from_byte_array(rng.random()), vout: rng.random_range(0..4) };
    let funding = Funding::new(outpoint, Amount::from_sat(1 << 40), key(rng), key(rng));
    let script = |rng: &mut ChaCha8Rng| {
        let length: u8 = if rng.random() { 20 } else { 32 };
        ScriptBuf::from_bytes([&[0, length][..], &rng.random::<[u8; 32]>()[..length.into()]].concat())
    };
    let amount =
        |rng: &mut ChaCha8Rng| if rng.random_ratio(1, 4) { 10_000_000 } else { rng.random_range(0..3_000_000) };
    let dust_limit = Amount::from_sat(354);
    let spec = ClosingSpec {
        to_opener: Msat::new(amount(rng)),
        to_accepter: Msat::new(amount(rng)),
        opener_script: script(rng),
        accepter_script: script(rng),
        fee: Amount::from_sat(rng.random_range(0..2_000)),
        dust_limit,
    };
    let Ok(ours) = ClosingTransaction::build(&funding, &spec) else { return };
    let or_nothing = |value: Amount| if value >= dust_limit { value } else { Amount::ZERO };
    let theirs = chan_utils::build_closing_transaction(
        or_nothing(spec.to_opener.to_amount_floor() - spec.fee),
        or_nothing(spec.to_accepter.to_amount_floor()),
        spec.opener_script.clone(),
        spec.accepter_script.clone(),
        outpoint,
    );
    assert_eq!(ours.transaction(), &theirs);
}
