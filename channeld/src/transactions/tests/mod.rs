//! The published vectors of BOLT 3: commitments of both formats, byte for byte, signatures included.

use std::str::FromStr;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Txid};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde_json::Value;

use super::*;
use crate::keys::{
    Basepoints, DelayedPaymentBasepoint, FundingPubkey, HtlcBasepoint, PaymentBasepoint, PerCommitmentSecret,
    RevocationBasepoint,
};
use crate::units::{CltvDelta, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, Preimage};

fn read(name: &str) -> Option<Value> {
    let Ok(dir) = std::env::var("SPEC_VECTORS") else {
        eprintln!("SPEC_VECTORS is not set: skipped");
        return None;
    };
    let text = std::fs::read_to_string(format!("{dir}/{name}")).expect("the file is there");
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// Private keys in the vectors end in the 01 of "compressed".
fn key(value: &Value) -> SecretKey {
    SecretKey::from_str(&text(value)[..64]).expect("a key")
}

fn preimage(value: &Value) -> Preimage {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text(value), &mut bytes).expect("hex");
    Preimage(bytes)
}

/// The channel of the vectors: local broadcasts and opened.
struct Channel {
    parameters: CommitmentParameters,
    keys: TransactionKeys,
    number: CommitmentNumber,
    local_funding: SecretKey,
    remote_funding: SecretKey,
    local_htlc: SecretKey,
    remote_htlc: SecretKey,
    htlcs: Vec<(Htlc, Preimage)>,
}

fn channel(vectors: &Value, format: CommitmentFormat, dust_limit: u64) -> Channel {
    let keys = &vectors["keys"];
    let point = |name: &str| secp256k1::PublicKey::from_str(text(&keys[name])).expect("a point");
    let secret = |name: &str| key(&keys[name]);
    let basepoints = |funding: &SecretKey, side: &str, revocation: &str, delayed: &str| Basepoints {
        funding_pubkey: FundingPubkey::new(funding.public_key(SECP256K1)),
        revocation_basepoint: RevocationBasepoint::new(point(revocation)),
        payment_basepoint: PaymentBasepoint::new(point(&format!("{side}_payment_basepoint"))),
        delayed_payment_basepoint: DelayedPaymentBasepoint::new(point(delayed)),
        htlc_basepoint: HtlcBasepoint::new(point(&format!("{side}_htlc_basepoint"))),
    };
    let (local_funding, remote_funding) = (secret("local_funding_privkey"), secret("remote_funding_privkey"));
    let delayed = "local_delayed_payment_basepoint";
    let local = basepoints(&local_funding, "local", "remote_revocation_basepoint", delayed);
    let remote = basepoints(&remote_funding, "remote", "remote_revocation_basepoint", delayed);
    let outpoint = OutPoint {
        txid: Txid::from_str(text(&keys["funding_tx_id"])).expect("a txid"),
        vout: number(&keys["funding_output_index"]) as u32,
    };
    let amount = Amount::from_sat(number(&keys["funding_amount_satoshi"]));
    let parameters = CommitmentParameters::new(CommitmentTerms {
        format,
        funding: Funding::new(outpoint, amount, local.funding_pubkey, remote.funding_pubkey),
        broadcaster: local,
        countersignatory: remote,
        broadcaster_is_opener: true,
        to_self_delay: CltvDelta::new(number(&keys["local_delay"]) as u16),
        dust_limit: Amount::from_sat(dust_limit),
    });
    let commitment_secret = PerCommitmentSecret::new(secret("local_per_commitment_secret").secret_bytes());
    let htlcs = vectors["htlcs"].as_array().expect("a list").iter().map(htlc).collect();
    Channel {
        keys: TransactionKeys::derive(&parameters, &commitment_secret.point().expect("a key")),
        parameters,
        number: CommitmentNumber::new(number(&keys["commitment_number"])),
        local_funding,
        remote_funding,
        local_htlc: secret("local_privkey"),
        remote_htlc: secret("remote_privkey"),
        htlcs,
    }
}

fn htlc(row: &Value) -> (Htlc, Preimage) {
    let preimage = preimage(&row["payment_preimage"]);
    let direction = match text(&row["direction"]) {
        "local->remote" => HtlcDirection::Offered,
        _ => HtlcDirection::Received,
    };
    let htlc = Htlc {
        direction,
        id: HtlcId::new(number(&row["id"])),
        amount: Msat::new(number(&row["amount_msat"])),
        payment_hash: preimage.payment_hash(),
        cltv_expiry: CltvExpiry::new(number(&row["expiry"]) as u32),
    };
    (htlc, preimage)
}

/// What a case expects of one HTLC transaction: the remote signature and the signed transaction.
type ExpectedHtlc<'a> = (&'a str, &'a str);

impl Channel {
    fn check(&self, name: &str, spec: &CommitmentSpec, expected: &str, remote: &str, htlcs: &[ExpectedHtlc<'_>]) {
        let sign = |key: &SecretKey, sighash| SECP256K1.sign_ecdsa(&Message::from(sighash), key);
        let commitment = CommitmentTransaction::build(&self.parameters, self.keys.clone(), spec);
        assert_eq!(self.parameters.number_of(commitment.transaction()), Some(self.number));

        let sighash = commitment.sighash(&self.parameters);
        let (ours, theirs) = (sign(&self.local_funding, sighash), sign(&self.remote_funding, sighash));
        assert_eq!(hex::encode(theirs.serialize_der()), remote, "{name}");
        verify_commitment(&self.parameters, &commitment, &CommitmentSignature::Ecdsa(theirs)).expect("verifies");
        let wrong = verify_commitment(&self.parameters, &commitment, &CommitmentSignature::Ecdsa(ours));
        assert_eq!(wrong, Err(VerificationError::CommitmentSignature));
        let signed = commitment.with_signatures(&self.parameters, &ours, &theirs);
        assert_eq!(serialize_hex(&signed), expected, "{name}");

        assert_eq!(commitment.htlcs().len(), htlcs.len(), "{name}");
        let sighashes = commitment.htlc_sighashes(&self.parameters);
        let mut signatures: Vec<_> = sighashes.iter().map(|sighash| sign(&self.remote_htlc, *sighash)).collect();
        verify_htlcs(&self.parameters, &commitment, &signatures).expect("verify");
        for (index, (signature, transaction)) in htlcs.iter().enumerate() {
            assert_eq!(hex::encode(signatures[index].serialize_der()), *signature, "{name}, HTLC {index}");
            let second = commitment.htlc_transaction(&self.parameters, index);
            let ours = sign(&self.local_htlc, second.broadcaster_sighash(second.transaction(), 0));
            let committed = commitment.htlcs()[index].htlc;
            let preimage = (committed.direction == HtlcDirection::Received).then(|| {
                let (_, preimage) = self.htlcs.iter().find(|(htlc, _)| htlc.id == committed.id).expect("it is there");
                preimage
            });
            let signed = second.signed(&signatures[index], &ours, preimage);
            assert_eq!(serialize_hex(&signed), *transaction, "{name}, HTLC {index}");
        }
        self.refuses_wrong_signatures(&commitment, &mut signatures);
    }

    fn refuses_wrong_signatures(
        &self,
        commitment: &CommitmentTransaction,
        signatures: &mut Vec<secp256k1::ecdsa::Signature>,
    ) {
        let Some(last) = signatures.pop() else { return };
        let expected = commitment.htlcs().len();
        let missing = VerificationError::HtlcSignatureCount { expected, found: expected - 1 };
        assert_eq!(verify_htlcs(&self.parameters, commitment, signatures), Err(missing));
        let foreign = SECP256K1.sign_ecdsa(&Message::from_digest([1; 32]), &self.remote_htlc);
        assert_ne!(foreign, last);
        signatures.push(foreign);
        let wrong = VerificationError::HtlcSignature(expected - 1);
        assert_eq!(verify_htlcs(&self.parameters, commitment, signatures), Err(wrong));
    }

    fn spec(&self, local_msat: u64, remote_msat: u64, feerate: u64, htlc_ids: &[u64]) -> CommitmentSpec {
        let is_used = |(htlc, _): &&(Htlc, Preimage)| htlc_ids.contains(&htlc.id.id());
        CommitmentSpec {
            number: self.number,
            to_broadcaster: Msat::new(local_msat),
            to_countersignatory: Msat::new(remote_msat),
            feerate: FeeratePerKw::new(feerate as u32),
            htlcs: self.htlcs.iter().filter(is_used).map(|(htlc, _)| *htlc).collect(),
        }
    }
}

#[test]
fn vectors_with_anchors() {
    let Some(shared) = read("bolt03-commitments-static-remotekey.json") else { return };
    let cases = read("bolt03-commitments-anchors.json").expect("beside the other");
    for case in cases.as_array().expect("a list") {
        let channel = channel(&shared, CommitmentFormat::Anchors, number(&case["DustLimitSatoshis"]));
        let name = text(&case["Name"]);
        // The last case alone has the two HTLCs of equal amount and hash, and one more (BOLT 3, Appendix F).
        let ids: &[u64] = match (case["UseTestHtlcs"].as_bool(), name.contains("same amount")) {
            (Some(true), true) => &[1, 5, 6],
            (Some(true), false) => &[0, 1, 2, 3, 4],
            _ => &[],
        };
        let spec =
            channel.spec(number(&case["LocalBalance"]), number(&case["RemoteBalance"]), number(&case["FeePerKw"]), ids);
        let htlcs: Vec<ExpectedHtlc<'_>> = case["HtlcDescs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|htlc| (text(&htlc["RemoteSigHex"]), text(&htlc["ResolutionTxHex"])))
            .collect();
        channel.check(name, &spec, text(&case["ExpectedCommitmentTxHex"]), text(&case["RemoteSigHex"]), &htlcs);
    }
}

#[test]
fn vectors_with_static_remotekey() {
    let Some(vectors) = read("bolt03-commitments-static-remotekey.json") else { return };
    let dust_limit = number(&vectors["keys"]["local_dust_limit_satoshi"]);
    for case in vectors["cases"].as_array().expect("a list") {
        let channel = channel(&vectors, CommitmentFormat::StaticRemotekey, dust_limit);
        let name = text(&case["name"]);
        let ids: &[u64] = match name {
            name if name.contains("no HTLCs") => &[],
            name if name.contains("same amount") => &[1, 5, 6],
            _ => &[0, 1, 2, 3, 4],
        };
        let feerate = number(&case["local_feerate_per_kw"]);
        let spec = channel.spec(number(&case["to_local_msat"]), number(&case["to_remote_msat"]), feerate, ids);
        let htlcs: Vec<ExpectedHtlc<'_>> = case["htlc_txs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|htlc| (text(&htlc["remote_htlc_signature"]), text(&htlc["tx"])))
            .collect();
        channel.check(name, &spec, text(&case["commitment_tx"]), text(&case["remote_signature"]), &htlcs);
        if let Some(base_fee) = case["base_fee_sat"].as_u64() {
            let fee = CommitmentFormat::StaticRemotekey.commitment_fee(spec.feerate, htlcs.len());
            assert_eq!(fee.to_sat(), base_fee, "{name}");
        }
    }
}

#[test]
fn the_keys_are_those_of_the_vectors() {
    let Some(vectors) = read("bolt03-commitments-static-remotekey.json") else { return };
    let channel = channel(&vectors, CommitmentFormat::StaticRemotekey, 546);
    let (expected, keys) = (&vectors["keys"], &channel.keys);
    assert_eq!(keys.revocation().to_string(), text(&expected["local_revocation_pubkey"]));
    assert_eq!(keys.broadcaster_delayed_payment().to_string(), text(&expected["local_delayedpubkey"]));
    assert_eq!(keys.broadcaster_htlc().to_string(), text(&expected["local_htlcpubkey"]));
    assert_eq!(keys.countersignatory_htlc().to_string(), text(&expected["remote_htlcpubkey"]));
}
