//! The scripts of BOLT 3, opcode by opcode.

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash, hash160, ripemd160};
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_DROP, OP_DUP, OP_ELSE, OP_ENDIF, OP_EQUAL,
    OP_EQUALVERIFY, OP_HASH160, OP_IF, OP_IFDUP, OP_NOTIF, OP_SIZE, OP_SWAP,
};
use bitcoin::script::Builder;

use super::htlc::{Htlc, HtlcDirection};
use super::parameter::{CommitmentFormat, TransactionKeys};
use crate::keys::{DelayedPaymentPubkey, FundingPubkey, PaymentPubkey, RevocationPubkey};
use crate::units::{CltvDelta, CltvExpiry, PaymentHash};

/// Two of two, the lexicographically lesser key first.
pub fn funding(one: &FundingPubkey, other: &FundingPubkey) -> ScriptBuf {
    let (one, other) = (one.serialize(), other.serialize());
    let (lesser, greater) = if one <= other { (one, other) } else { (other, one) };
    Builder::new()
        .push_int(2)
        .push_slice(lesser)
        .push_slice(greater)
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}

/// `to_local`, and the output of every HTLC transaction: the broadcaster's after a delay, the other side's once revoked.
pub fn revocable(
    revocation: &RevocationPubkey,
    to_self_delay: CltvDelta,
    delayed_payment: &DelayedPaymentPubkey,
) -> ScriptBuf {
    Builder::new()
        .push_opcode(OP_IF)
        .push_slice(revocation.serialize())
        .push_opcode(OP_ELSE)
        .push_int(i64::from(to_self_delay.blocks()))
        .push_opcode(OP_CSV)
        .push_opcode(OP_DROP)
        .push_slice(delayed_payment.serialize())
        .push_opcode(OP_ENDIF)
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

/// The witness script of `to_remote` with anchors: spendable one block later.
pub fn to_remote(payment: &PaymentPubkey) -> ScriptBuf {
    Builder::new()
        .push_slice(payment.serialize())
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_int(1)
        .push_opcode(OP_CSV)
        .into_script()
}

/// `scriptPubKey` of `to_remote`: P2WSH of [`to_remote`] with anchors, else P2WPKH.
pub fn to_remote_output(format: CommitmentFormat, payment: &PaymentPubkey) -> ScriptBuf {
    match format {
        CommitmentFormat::Anchors => to_remote(payment).to_p2wsh(),
        CommitmentFormat::StaticRemotekey => {
            ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(*payment.key()).wpubkey_hash())
        }
    }
}

/// An anchor: its owner's at once, anybody's after 16 blocks.
pub fn anchor(funding: &FundingPubkey) -> ScriptBuf {
    Builder::new()
        .push_slice(funding.serialize())
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_IFDUP)
        .push_opcode(OP_NOTIF)
        .push_int(16)
        .push_opcode(OP_CSV)
        .push_opcode(OP_ENDIF)
        .into_script()
}

/// The HTLC output of a commitment.
pub fn htlc(format: CommitmentFormat, keys: &TransactionKeys, htlc: &Htlc) -> ScriptBuf {
    match htlc.direction {
        HtlcDirection::Offered => offered_htlc(format, keys, &htlc.payment_hash),
        HtlcDirection::Received => received_htlc(format, keys, &htlc.payment_hash, htlc.cltv_expiry),
    }
}

/// An HTLC that the broadcaster offered: back to it by HTLC-timeout, to the other side by preimage.
fn offered_htlc(format: CommitmentFormat, keys: &TransactionKeys, payment_hash: &PaymentHash) -> ScriptBuf {
    let script = htlc_head(keys)
        .push_opcode(OP_NOTIF)
        .push_opcode(OP_DROP)
        .push_int(2)
        .push_opcode(OP_SWAP)
        .push_slice(keys.broadcaster_htlc().serialize())
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .push_opcode(OP_ELSE)
        .push_opcode(OP_HASH160)
        .push_slice(ripemd160::Hash::hash(&payment_hash.0).to_byte_array())
        .push_opcode(OP_EQUALVERIFY)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ENDIF);
    htlc_tail(format, script)
}

/// An HTLC that the broadcaster received: to it by HTLC-success, back to the other side after `cltv_expiry`.
fn received_htlc(
    format: CommitmentFormat,
    keys: &TransactionKeys,
    payment_hash: &PaymentHash,
    cltv_expiry: CltvExpiry,
) -> ScriptBuf {
    let script = htlc_head(keys)
        .push_opcode(OP_IF)
        .push_opcode(OP_HASH160)
        .push_slice(ripemd160::Hash::hash(&payment_hash.0).to_byte_array())
        .push_opcode(OP_EQUALVERIFY)
        .push_int(2)
        .push_opcode(OP_SWAP)
        .push_slice(keys.broadcaster_htlc().serialize())
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .push_opcode(OP_ELSE)
        .push_opcode(OP_DROP)
        .push_int(i64::from(cltv_expiry.height()))
        .push_opcode(OP_CLTV)
        .push_opcode(OP_DROP)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ENDIF);
    htlc_tail(format, script)
}

/// What both HTLC scripts begin with: the way of the revocation key, then the size of what may be a preimage.
fn htlc_head(keys: &TransactionKeys) -> Builder {
    Builder::new()
        .push_opcode(OP_DUP)
        .push_opcode(OP_HASH160)
        .push_slice(hash160::Hash::hash(&keys.revocation().serialize()).to_byte_array())
        .push_opcode(OP_EQUAL)
        .push_opcode(OP_IF)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ELSE)
        .push_slice(keys.countersignatory_htlc().serialize())
        .push_opcode(OP_SWAP)
        .push_opcode(OP_SIZE)
        .push_int(32)
        .push_opcode(OP_EQUAL)
}

/// With anchors every way but revocation waits for one confirmation, so that only anchors can carry a child.
fn htlc_tail(format: CommitmentFormat, script: Builder) -> ScriptBuf {
    let script = match format {
        CommitmentFormat::Anchors => script.push_int(1).push_opcode(OP_CSV).push_opcode(OP_DROP),
        CommitmentFormat::StaticRemotekey => script,
    };
    script.push_opcode(OP_ENDIF).into_script()
}
