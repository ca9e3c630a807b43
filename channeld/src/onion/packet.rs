//! The Sphinx packet (BOLT 4, "Packet Construction" and "Onion Decryption").

use secp256k1::ecdh;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::cipher::{SharedSecret, derive_key, mac, mac_eq};
use super::error::{BadOnion, BuildError, InvalidPayload};
use crate::units::PaymentHash;
use crate::wire::OnionRoutingPacket;
use crate::wire::codec::{Reader, bigsize_length, write_bigsize};

/// The most hops of a route (BOLT 4: as many as fit with TLV payloads).
pub const MAX_HOPS: usize = 27;
/// The bytes for all payloads together.
const PAYLOADS_LENGTH: usize = 1_300;
const HMAC_LENGTH: usize = 32;
const PAYLOADS_AT: usize = 1 + 33;
const HMAC_AT: usize = PAYLOADS_AT + PAYLOADS_LENGTH;

/// One hop of a route, as the payer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The hop's node id.
    pub node_id: PublicKey,
    /// The TLV stream for it, without length; at least 2 bytes.
    pub payload: Vec<u8>,
}

impl Hop {
    /// What the hop takes of the 1,300 bytes.
    fn length(&self) -> usize {
        bigsize_length(self.payload.len() as u64) + self.payload.len() + HMAC_LENGTH
    }
}

/// An onion whose version and key are good, before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnionPacket {
    /// The payer's key for this hop: its ECDH with the node key gives the [`SharedSecret`].
    pub ephemeral_key: PublicKey,
    bytes: OnionRoutingPacket,
}

impl OnionPacket {
    /// Looks at version and key.
    pub fn parse(bytes: OnionRoutingPacket) -> Result<OnionPacket, BadOnion> {
        let raw = bytes.as_bytes();
        if raw[0] != 0 {
            return Err(BadOnion::Version);
        }
        let ephemeral_key = PublicKey::from_slice(&raw[1..PAYLOADS_AT]).map_err(|_| BadOnion::Key)?;
        Ok(OnionPacket { ephemeral_key, bytes })
    }
}

/// What a hop finds in an onion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeled {
    /// The TLV stream for this hop; an error is answered by `invalid_onion_payload`.
    pub payload: Result<Vec<u8>, InvalidPayload>,
    /// The onion for the next hop; `None` at the final one, and where the payload cannot be told from the rest.
    pub next: Option<OnionRoutingPacket>,
}

impl Peeled {
    /// Whether this hop is the final one.
    pub const fn is_final(&self) -> bool {
        self.next.is_none()
    }
}

/// Builds the onion for `hops`, the payer's peer first, and gives what the payer shares with each of them, for reading
/// failures. `session_key` must be random and never used twice.
pub fn build(
    hops: &[Hop],
    session_key: &SecretKey,
    payment_hash: &PaymentHash,
) -> Result<(OnionRoutingPacket, Vec<SharedSecret>), BuildError> {
    check_route(hops)?;
    let secrets = share_secrets(hops, session_key)?;
    let filler = build_filler(hops, &secrets);
    let mut payloads = [0; PAYLOADS_LENGTH];
    super::cipher::apply_stream(&derive_key(b"pad", &session_key.secret_bytes()), &mut payloads);
    let mut hmac = [0; HMAC_LENGTH];
    for (at, (hop, secret)) in hops.iter().zip(&secrets).enumerate().rev() {
        let length = hop.length();
        payloads.copy_within(..PAYLOADS_LENGTH - length, length);
        let mut front = Vec::with_capacity(length);
        write_bigsize(hop.payload.len() as u64, &mut front);
        front.extend_from_slice(&hop.payload);
        front.extend_from_slice(&hmac);
        payloads[..length].copy_from_slice(&front);
        secret.apply_stream(b"rho", &mut payloads);
        if at == hops.len() - 1 {
            payloads[PAYLOADS_LENGTH - filler.len()..].copy_from_slice(&filler);
        }
        hmac = mac(&secret.key(b"mu"), &[&payloads, &payment_hash.0]);
    }
    Ok((assemble(&session_key.public_key(SECP256K1), &payloads, &hmac), secrets))
}

/// Opens an onion with what this hop shares with the payer. The HMAC covers the payment hash, and is compared in constant
/// time.
pub fn peel(packet: &OnionPacket, payment_hash: &PaymentHash, secret: &SharedSecret) -> Result<Peeled, BadOnion> {
    let raw = packet.bytes.as_bytes();
    let computed = mac(&secret.key(b"mu"), &[&raw[PAYLOADS_AT..HMAC_AT], &payment_hash.0]);
    if !mac_eq(&computed, &raw[HMAC_AT..]) {
        return Err(BadOnion::Hmac);
    }
    let mut opened = [0; 2 * PAYLOADS_LENGTH];
    opened[..PAYLOADS_LENGTH].copy_from_slice(&raw[PAYLOADS_AT..HMAC_AT]);
    secret.apply_stream(b"rho", &mut opened);
    let Some((payload, hmac, length)) = split_payload(&opened[..PAYLOADS_LENGTH]) else {
        return Ok(Peeled { payload: Err(InvalidPayload::Length), next: None });
    };
    let payload = Ok(payload.to_vec());
    if hmac == [0; HMAC_LENGTH] {
        return Ok(Peeled { payload, next: None });
    }
    let next_key = secret
        .blinding_factor(&packet.ephemeral_key)
        .ok()
        .and_then(|factor| packet.ephemeral_key.mul_tweak(SECP256K1, &factor).ok())
        .ok_or(BadOnion::Key)?;
    let payloads = opened[length..].first_chunk().expect("a payload ends within the first half");
    Ok(Peeled { payload, next: Some(assemble(&next_key, payloads, &hmac)) })
}

/// The payload at the front, the HMAC behind it, and how long both are with the length before them.
fn split_payload(opened: &[u8]) -> Option<(&[u8], [u8; HMAC_LENGTH], usize)> {
    let mut reader = Reader::new(opened);
    let length = usize::try_from(reader.bigsize().ok()?).ok()?;
    if length < 2 {
        return None;
    }
    let payload = reader.take(length).ok()?;
    let hmac = reader.array().ok()?;
    Some((payload, hmac, opened.len() - reader.remaining()))
}

fn check_route(hops: &[Hop]) -> Result<(), BuildError> {
    if hops.is_empty() {
        return Err(BuildError::NoHop);
    }
    if hops.len() > MAX_HOPS {
        return Err(BuildError::TooManyHops);
    }
    if hops.iter().any(|hop| hop.payload.len() < 2) {
        return Err(BuildError::PayloadTooShort);
    }
    if hops.iter().any(|hop| hop.payload.len() > PAYLOADS_LENGTH)
        || hops.iter().map(Hop::length).sum::<usize>() > PAYLOADS_LENGTH
    {
        return Err(BuildError::TooLong);
    }
    Ok(())
}

/// ECDH with each hop; the key is blinded from one to the next (BOLT 4, "Blinding Ephemeral Onion Keys").
fn share_secrets(hops: &[Hop], session_key: &SecretKey) -> Result<Vec<SharedSecret>, BuildError> {
    let mut ephemeral = *session_key;
    let mut secrets = Vec::with_capacity(hops.len());
    for (at, hop) in hops.iter().enumerate() {
        let secret = SharedSecret::from(ecdh::SharedSecret::new(&hop.node_id, &ephemeral));
        if at + 1 < hops.len() {
            let factor =
                secret.blinding_factor(&ephemeral.public_key(SECP256K1)).map_err(|_| BuildError::SessionKey)?;
            ephemeral = ephemeral.mul_tweak(&factor).map_err(|_| BuildError::SessionKey)?;
        }
        secrets.push(secret);
    }
    ephemeral.non_secure_erase();
    Ok(secrets)
}

/// What the hops before the last will have left at the end of the payloads (BOLT 4, "Filler Generation").
fn build_filler(hops: &[Hop], secrets: &[SharedSecret]) -> Vec<u8> {
    let mut filler = Vec::with_capacity(PAYLOADS_LENGTH);
    for (hop, secret) in hops.iter().zip(secrets).take(hops.len() - 1) {
        // A hop sees the payloads with zeros behind them; of its stream, what lies over the filler and these zeros counts.
        let start = PAYLOADS_LENGTH - filler.len();
        filler.resize(filler.len() + hop.length(), 0);
        let mut stream = [0; 2 * PAYLOADS_LENGTH];
        secret.apply_stream(b"rho", &mut stream);
        filler.iter_mut().zip(&stream[start..]).for_each(|(byte, key)| *byte ^= key);
    }
    filler
}

fn assemble(key: &PublicKey, payloads: &[u8; PAYLOADS_LENGTH], hmac: &[u8; HMAC_LENGTH]) -> OnionRoutingPacket {
    let mut bytes = [0; OnionRoutingPacket::LENGTH];
    bytes[1..PAYLOADS_AT].copy_from_slice(&key.serialize());
    bytes[PAYLOADS_AT..HMAC_AT].copy_from_slice(payloads);
    bytes[HMAC_AT..].copy_from_slice(hmac);
    OnionRoutingPacket::new(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    fn share(node: &SecretKey, packet: &OnionPacket) -> SharedSecret {
        ecdh::SharedSecret::new(&packet.ephemeral_key, node).into()
    }

    fn vector(name: &str) -> Option<serde_json::Value> {
        let Ok(dir) = std::env::var("SPEC_VECTORS") else {
            println!("SPEC_VECTORS is not set: {name} is not checked");
            return None;
        };
        Some(serde_json::from_str(&std::fs::read_to_string(format!("{dir}/{name}")).unwrap()).unwrap())
    }

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    /// The payload of a vector comes with its length in front.
    fn hop(value: &serde_json::Value) -> Hop {
        let framed = bytes(&value["payload"]);
        let mut reader = Reader::new(&framed);
        let length = reader.bigsize().unwrap();
        assert_eq!(length, reader.remaining() as u64);
        let node_id = PublicKey::from_slice(&bytes(&value["pubkey"])).unwrap();
        Hop { node_id, payload: reader.take_rest().to_vec() }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may read files")]
    fn onion_of_the_specification() {
        let Some(vector) = vector("bolt04-onion-test.json") else { return };
        let generate = &vector["generate"];
        let hops: Vec<Hop> = generate["hops"].as_array().unwrap().iter().map(hop).collect();
        let session_key = SecretKey::from_slice(&bytes(&generate["session_key"])).unwrap();
        let payment_hash = PaymentHash(bytes(&generate["associated_data"]).try_into().unwrap());
        let (onion, secrets) = build(&hops, &session_key, &payment_hash).unwrap();
        assert_eq!(hex::encode(onion.as_bytes()), vector["onion"].as_str().unwrap());

        let keys = vector["decode"]["hops"].as_array().or(vector["decode"].as_array()).unwrap();
        let mut onion = Some(onion);
        for ((hop, secret), node_key) in hops.iter().zip(&secrets).zip(keys) {
            let packet = OnionPacket::parse(onion.take().unwrap()).unwrap();
            let text = node_key.as_str().or(node_key["privkey"].as_str()).unwrap();
            let node_key = SecretKey::from_slice(&hex::decode(text).unwrap()).unwrap();
            let shared = share(&node_key, &packet);
            assert_eq!(&shared, secret);
            let peeled = peel(&packet, &payment_hash, &shared).unwrap();
            assert_eq!(peeled.payload.unwrap(), hop.payload);
            onion = peeled.next;
        }
        assert_eq!(onion, None);
    }

    fn route(payloads: &[Vec<u8>]) -> Vec<Hop> {
        let node = |at: usize| key(at as u8 + 1).public_key(SECP256K1);
        payloads.iter().enumerate().map(|(at, payload)| Hop { node_id: node(at), payload: payload.clone() }).collect()
    }

    #[test]
    fn routes_that_cannot_be_built() {
        let hash = PaymentHash([1; 32]);
        let build = |payloads: &[Vec<u8>]| build(&route(payloads), &key(99), &hash).map(drop);
        assert_eq!(build(&[]), Err(BuildError::NoHop));
        assert_eq!(build(&vec![vec![1; 2]; 28]), Err(BuildError::TooManyHops));
        assert_eq!(build(&[vec![1]]), Err(BuildError::PayloadTooShort));
        assert_eq!(build(&[vec![1; 1_265]]), Ok(()));
        assert_eq!(build(&[vec![1; 1_266]]), Err(BuildError::TooLong));
        assert_eq!(build(&vec![vec![1; 15]; 27]), Ok(()));
    }

    #[test]
    fn onions_that_cannot_be_opened() {
        let hash = PaymentHash([1; 32]);
        let (onion, _) = build(&route(&[vec![1, 0]]), &key(99), &hash).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut bytes = *onion.as_bytes();
            bytes[at] = byte;
            OnionPacket::parse(OnionRoutingPacket::new(bytes))
        };
        assert_eq!(changed(0, 1), Err(BadOnion::Version));
        assert_eq!(changed(1, 4), Err(BadOnion::Key));
        let packet = changed(100, 0xaa).unwrap();
        assert_eq!(peel(&packet, &hash, &share(&key(1), &packet)), Err(BadOnion::Hmac));
        let packet = OnionPacket::parse(onion).unwrap();
        assert_eq!(peel(&packet, &PaymentHash([2; 32]), &share(&key(1), &packet)), Err(BadOnion::Hmac));
        assert_eq!(peel(&packet, &hash, &share(&key(2), &packet)), Err(BadOnion::Hmac));
    }

    #[test]
    fn a_length_beyond_the_onion_is_an_invalid_payload() {
        let hash = PaymentHash([1; 32]);
        for front in [&[0xfd, 0x05, 0x14][..], &[0], &[1], &[0xfd, 0, 5], &[0xff; 9]] {
            // An onion by hand: its payer lies about the length.
            let secret = SharedSecret::from(ecdh::SharedSecret::new(&key(1).public_key(SECP256K1), &key(99)));
            let mut payloads = [0; PAYLOADS_LENGTH];
            payloads[..front.len()].copy_from_slice(front);
            secret.apply_stream(b"rho", &mut payloads);
            let hmac = mac(&secret.key(b"mu"), &[&payloads, &hash.0]);
            let packet = OnionPacket::parse(assemble(&key(99).public_key(SECP256K1), &payloads, &hmac)).unwrap();
            let peeled = peel(&packet, &hash, &secret).unwrap();
            assert_eq!(peeled, Peeled { payload: Err(InvalidPayload::Length), next: None });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn each_hop_finds_its_payload(lengths in prop::collection::vec(2usize..14, 1..=27), session in 30u8..=254) {
            let hash = PaymentHash([session; 32]);
            let hops = route(&lengths.iter().enumerate().map(|(at, length)| vec![at as u8; *length]).collect::<Vec<_>>());
            let (onion, secrets) = build(&hops, &key(session), &hash).unwrap();
            let mut onion = Some(onion);
            for (at, hop) in hops.iter().enumerate() {
                let packet = OnionPacket::parse(onion.take().unwrap()).unwrap();
                let secret = share(&key(at as u8 + 1), &packet);
                prop_assert_eq!(&secret, &secrets[at]);
                let peeled = peel(&packet, &hash, &secret).unwrap();
                prop_assert_eq!(peeled.is_final(), at + 1 == hops.len());
                prop_assert_eq!(peeled.payload.unwrap(), hop.payload.clone());
                onion = peeled.next;
            }
        }
    }
}
