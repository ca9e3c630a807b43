//! Public keys read lately, on each thread for itself: reading a compressed one takes a square root, a tenth of what a
//! signature costs, and the same key often signs input after input.

use std::cell::RefCell;

use secp256k1::PublicKey;

/// Keys that are remembered, each at the one place that its bytes name: who aims at places only makes them useless.
const PLACES: usize = 1_024;
/// Bytes of a compressed key.
const COMPRESSED: usize = 33;

type Place = Option<([u8; COMPRESSED], PublicKey)>;

thread_local! {
    static RECENT: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// The key that these bytes are, if they are one.
pub(super) fn read(bytes: &[u8]) -> Option<PublicKey> {
    let Ok(compressed) = <&[u8; COMPRESSED]>::try_from(bytes) else { return PublicKey::from_slice(bytes).ok() };
    RECENT.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize(PLACES, None);
        }
        // The end of the x coordinate; the parity before it would tell nothing more.
        let place = usize::from(u16::from_le_bytes([bytes[31], bytes[32]])) % PLACES;
        match &places[place] {
            Some((known, key)) if known == compressed => Some(*key),
            _ => {
                let key = PublicKey::from_slice(bytes).ok()?;
                places[place] = Some((*compressed, key));
                Some(key)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use secp256k1::{SECP256K1, SecretKey};

    use super::*;

    #[test]
    fn what_is_remembered_is_what_the_bytes_say() {
        let secret = SecretKey::from_slice(&[5; 32]).unwrap();
        let key = secret.public_key(SECP256K1);
        let bytes = key.serialize();
        // The same x with the other parity has the same place.
        let mut other = bytes;
        other[0] ^= 1;
        for _ in 0..2 {
            assert_eq!(read(&bytes), Some(key));
            assert_eq!(read(&other), Some(key.negate(SECP256K1)));
            assert_eq!(read(&key.serialize_uncompressed()), Some(key));
            // No point of the curve, no length of a key.
            assert_eq!((read(&[2; 33]).is_some(), read(&bytes[..32])), (PublicKey::from_slice(&[2; 33]).is_ok(), None));
        }
        let mut unreadable = bytes;
        unreadable[0] = 5;
        assert_eq!(read(&unreadable), None);
    }
}
