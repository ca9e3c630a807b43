//! Signatures: their encoding, their verification, and the cache of those that were valid.
//!
//! ECDSA is read as laxly as OpenSSL once did, unless flags ask for strict DER. It knows no scripts and no transactions.

mod cache;
mod recent;

use secp256k1::{Message, SECP256K1, XOnlyPublicKey, ecdsa, schnorr};

use super::sighash::{SIGHASH_ALL, SIGHASH_ANYONECANPAY, SIGHASH_SINGLE, Sighash};
use super::{ScriptError, ScriptFlags};
pub use cache::SignatureCache;

/// Checks the encoding of an ECDSA signature with its hash type; an empty one is a legal way to fail a check.
pub(super) fn check_signature_encoding(signature: &[u8], flags: ScriptFlags) -> Result<(), ScriptError> {
    let Some((hash_type, der)) = signature.split_last() else { return Ok(()) };
    let strict = ScriptFlags::DERSIG | ScriptFlags::LOW_S | ScriptFlags::STRICTENC;
    if flags.intersects(strict) && !is_strict_der(signature) {
        return Err(ScriptError::SigDer);
    }
    if flags.contains(ScriptFlags::LOW_S) && !is_low_s(der) {
        return Err(ScriptError::SigHighS);
    }
    if flags.contains(ScriptFlags::STRICTENC)
        && !(SIGHASH_ALL..=SIGHASH_SINGLE).contains(&(hash_type & !SIGHASH_ANYONECANPAY))
    {
        return Err(ScriptError::SigHashtype);
    }
    Ok(())
}

/// Checks the encoding of an ECDSA public key in a legacy or v0 script.
pub(super) fn check_pubkey_encoding(pubkey: &[u8], flags: ScriptFlags, witness: bool) -> Result<(), ScriptError> {
    let compressed = pubkey.len() == 33 && matches!(pubkey[0], 0x02 | 0x03);
    let uncompressed = pubkey.len() == 65 && pubkey[0] == 0x04;
    if flags.contains(ScriptFlags::STRICTENC) && !compressed && !uncompressed {
        return Err(ScriptError::PubkeyType);
    }
    if flags.contains(ScriptFlags::WITNESS_PUBKEYTYPE) && witness && !compressed {
        return Err(ScriptError::WitnessPubkeyType);
    }
    Ok(())
}

/// BIP 66: `30 <length> 02 <length> R 02 <length> S <hash type>`, R and S positive and as short as can be.
fn is_strict_der(signature: &[u8]) -> bool {
    if !(9..=73).contains(&signature.len()) || signature[0] != 0x30 || usize::from(signature[1]) != signature.len() - 3
    {
        return false;
    }
    let Some((r, rest)) = split_integer(&signature[2..signature.len() - 1]) else { return false };
    let Some((s, rest)) = split_integer(rest) else { return false };
    rest.is_empty() && is_minimal_positive(r) && is_minimal_positive(s)
}

fn split_integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    match der {
        [0x02, length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
        _ => None,
    }
}

fn is_minimal_positive(integer: &[u8]) -> bool {
    match integer {
        [] => false,
        [0, second, ..] => second & 0x80 != 0,
        [first, ..] => first & 0x80 == 0,
    }
}

fn is_low_s(der: &[u8]) -> bool {
    ecdsa::Signature::from_der_lax(der).is_ok_and(|signature| {
        let mut normalized = signature;
        normalized.normalize_s();
        normalized == signature
    })
}

/// Whether `der` (without hash type) signs `sighash` for `pubkey`. What cannot be read is no signature and no key.
pub(super) fn verify_ecdsa(cache: Option<&SignatureCache>, der: &[u8], pubkey: &[u8], sighash: &Sighash) -> bool {
    let expected_length = match pubkey.first() {
        Some(0x02 | 0x03) => 33,
        // Hybrid keys (6 and 7) are keys by consensus.
        Some(0x04 | 0x06 | 0x07) => 65,
        _ => return false,
    };
    if pubkey.len() != expected_length {
        return false;
    }
    let entry = cache.map(|cache| (cache, cache.ecdsa_entry(sighash, pubkey, der)));
    cached(entry, || {
        let (Some(key), Ok(mut signature)) = (recent::read(pubkey), ecdsa::Signature::from_der_lax(der)) else {
            return false;
        };
        signature.normalize_s();
        SECP256K1.verify_ecdsa(&Message::from_digest(*sighash), &signature, &key).is_ok()
    })
}

/// Whether the 64 bytes of `signature` sign `sighash` for the 32 bytes of `pubkey` (BIP 340).
pub(super) fn verify_schnorr(
    cache: Option<&SignatureCache>,
    signature: &[u8],
    pubkey: &[u8],
    sighash: &Sighash,
) -> bool {
    let entry = cache.map(|cache| (cache, cache.schnorr_entry(sighash, pubkey, signature)));
    cached(entry, || {
        let (Ok(key), Ok(signature)) = (XOnlyPublicKey::from_slice(pubkey), schnorr::Signature::from_slice(signature))
        else {
            return false;
        };
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(*sighash), &key).is_ok()
    })
}

fn cached(entry: Option<(&SignatureCache, cache::Entry)>, verify: impl FnOnce() -> bool) -> bool {
    if entry.as_ref().is_some_and(|(cache, entry)| cache.contains(entry)) {
        return true;
    }
    let valid = verify();
    if let (true, Some((cache, entry))) = (valid, entry) {
        cache.insert(entry);
    }
    valid
}

#[cfg(test)]
mod tests;
