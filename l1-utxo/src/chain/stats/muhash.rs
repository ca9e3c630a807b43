//! MuHash3072: the hash of a set, whatever the order of its elements (Core: `crypto/muhash.cpp`).
//!
//! Each element is hashed to a number below 2^3072, and the set's hash is their product modulo the prime 2^3072 − 1103717.
//! So sets computed apart, on different cores, are multiplied together.

use bitcoin::hashes::{Hash, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

const LIMBS: usize = 48;
const BYTES: usize = LIMBS * 8;
/// The modulus is 2^3072 minus this.
const PRIME_DIFFERENCE: u64 = 1_103_717;

/// A set's running hash, as the product of what was inserted and the product of what was removed.
#[derive(Clone, Debug)]
pub struct MuHash {
    numerator: Number,
    denominator: Number,
}

impl Default for MuHash {
    fn default() -> Self {
        Self::new()
    }
}

impl MuHash {
    /// The empty set.
    pub const fn new() -> Self {
        Self { numerator: Number::ONE, denominator: Number::ONE }
    }

    /// Adds an element.
    pub fn insert(&mut self, element: &[u8]) {
        self.numerator.multiply(&Number::hash(element));
    }

    /// Takes an element away; it need not have been added yet.
    pub fn remove(&mut self, element: &[u8]) {
        self.denominator.multiply(&Number::hash(element));
    }

    /// The hash of both sets' elements together.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.numerator.multiply(&other.numerator);
        self.denominator.multiply(&other.denominator);
        self
    }

    /// The hash of what is here without the elements of another set.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        self.numerator.multiply(&other.denominator);
        self.denominator.multiply(&other.numerator);
        self
    }

    /// The running hash as bytes, to go on with later: 384 or, if something was removed, 768.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.numerator.to_le_bytes().to_vec();
        if self.denominator != Number::ONE {
            bytes.extend_from_slice(&self.denominator.to_le_bytes());
        }
        bytes
    }

    /// What such bytes are; `None` if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numerator, rest) = bytes.split_first_chunk()?;
        let numerator = Number::from_le_bytes(numerator);
        let denominator = if rest.is_empty() { Number::ONE } else { Number::from_le_bytes(rest.try_into().ok()?) };
        Some(Self { numerator, denominator })
    }

    /// The hash of the set. Takes some milliseconds where something was removed.
    pub fn finalize(&self) -> [u8; 32] {
        let mut value = self.numerator.clone();
        if self.denominator != Number::ONE {
            value.multiply(&self.denominator.inverse());
        }
        value.reduce();
        sha256::Hash::hash(&value.to_le_bytes()).to_byte_array()
    }
}

/// A number below 2^3072, least significant limb first; only `reduce` brings it below the modulus.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Number([u64; LIMBS]);

impl Number {
    const ONE: Self = {
        let mut limbs = [0; LIMBS];
        limbs[0] = 1;
        Self(limbs)
    };

    /// SHA-256 of the element is the key of the ChaCha20 stream that is the number.
    fn hash(element: &[u8]) -> Self {
        let key = sha256::Hash::hash(element).to_byte_array();
        let mut stream = [0; BYTES];
        ChaCha20::new(&key.into(), &[0; 12].into()).apply_keystream(&mut stream);
        Self::from_le_bytes(&stream)
    }

    fn from_le_bytes(bytes: &[u8; BYTES]) -> Self {
        let mut limbs = [0; LIMBS];
        for (limb, bytes) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*bytes);
        }
        Self(limbs)
    }

    fn to_le_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_le_bytes();
        }
        bytes
    }

    /// The full product, folded: 2^3072 is congruent to `PRIME_DIFFERENCE`.
    fn multiply(&mut self, other: &Self) {
        let mut product = [0u64; 2 * LIMBS];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u128;
            for (slot, &b) in product[i..i + LIMBS].iter_mut().zip(&other.0) {
                // (2^64 − 1)^2 + 2 (2^64 − 1) is below 2^128.
                carry += u128::from(a) * u128::from(b) + u128::from(*slot);
                *slot = carry as u64;
                carry >>= 64;
            }
            product[i + LIMBS] = carry as u64;
        }
        let (low, high) = product.split_at(LIMBS);
        let mut carry = 0u128;
        for ((limb, &l), &h) in self.0.iter_mut().zip(low).zip(high) {
            carry += u128::from(h) * u128::from(PRIME_DIFFERENCE) + u128::from(l);
            *limb = carry as u64;
            carry >>= 64;
        }
        // What is still above 2^3072 is folded again: the first time at most 2^21, the second at most 1.
        let mut above = carry as u64;
        while above != 0 {
            above = self.add_small(above * PRIME_DIFFERENCE);
        }
    }

    /// Adds, and returns the carry above 2^3072. `value` is below 2^64.
    fn add_small(&mut self, value: u64) -> u64 {
        let mut carry = value;
        for limb in &mut self.0 {
            let (sum, overflow) = limb.overflowing_add(carry);
            *limb = sum;
            carry = u64::from(overflow);
            if carry == 0 {
                break;
            }
        }
        carry
    }

    /// Brings the number below the modulus.
    fn reduce(&mut self) {
        let is_above = self.0[0] >= PRIME_DIFFERENCE.wrapping_neg() && self.0[1..].iter().all(|limb| *limb == u64::MAX);
        if is_above {
            // Adding the difference wraps around 2^3072: the modulus is subtracted.
            self.add_small(PRIME_DIFFERENCE);
        }
    }

    /// To the power of the modulus minus 2 (Fermat).
    fn inverse(&self) -> Self {
        let mut exponent = [u64::MAX; LIMBS];
        exponent[0] = 0u64.wrapping_sub(PRIME_DIFFERENCE + 2);
        let mut result = Self::ONE;
        for limb in exponent.iter().rev() {
            for bit in (0..64).rev() {
                let square = result.clone();
                result.multiply(&square);
                if limb >> bit & 1 == 1 {
                    result.multiply(self);
                }
            }
        }
        result.reduce();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(n: u8) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0] = n;
        bytes
    }

    /// The published value of Bitcoin Core's unit test: elements 0 and 1 inserted, 2 removed.
    #[test]
    fn agrees_with_core() {
        let mut hash = MuHash::new();
        hash.insert(&element(0));
        hash.insert(&element(1));
        hash.remove(&element(2));
        let mut digest = hash.finalize();
        digest.reverse();
        assert_eq!(hex::encode(digest), "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863");
    }

    #[test]
    fn order_and_grouping_do_not_matter() {
        let mut all = MuHash::new();
        (0..9).for_each(|n| all.insert(&element(n)));
        let (mut odd, mut even) = (MuHash::new(), MuHash::new());
        for n in (0..9).rev() {
            if n % 2 == 0 { even.insert(&element(n)) } else { odd.insert(&element(n)) }
        }
        assert_eq!(odd.clone().union(&even).finalize(), all.finalize());
        odd.remove(&element(1));
        even.insert(&element(1));
        assert_eq!(odd.clone().union(&even).finalize(), all.finalize());
        assert_eq!(all.clone().difference(&even).finalize(), odd.finalize());
        for hash in [&all, &odd] {
            assert_eq!(MuHash::from_bytes(&hash.to_bytes()).unwrap().finalize(), hash.finalize());
        }
        assert_eq!((all.to_bytes().len(), odd.to_bytes().len()), (BYTES, 2 * BYTES));
        assert!(
            [0, BYTES - 1, BYTES + 1, 3 * BYTES].iter().all(|length| MuHash::from_bytes(&vec![7; *length]).is_none())
        );
    }

    #[test]
    fn reduces_what_is_above_the_modulus() {
        let mut number = Number([u64::MAX; LIMBS]);
        number.reduce();
        let mut expected = [0; LIMBS];
        expected[0] = PRIME_DIFFERENCE - 1;
        assert_eq!(number.0, expected);
        let mut largest = Number([u64::MAX; LIMBS]);
        largest.multiply(&Number([u64::MAX; LIMBS]));
        largest.reduce();
        expected[0] = (PRIME_DIFFERENCE - 1) * (PRIME_DIFFERENCE - 1);
        assert_eq!(largest.0, expected);
    }
}
