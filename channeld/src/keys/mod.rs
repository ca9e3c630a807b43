//! Every key of the node, from one seed of 24 words.
//!
//! Knows how words become the seed (BIP 39), the seed the wallet's account key (BIP 84), the node key and each channel's
//! keys (HKDF-SHA256, one label each), how BOLT 3 derives a commitment's keys, and how per-commitment secrets are made and
//! kept ("Key Derivation", "Efficient Per-commitment Secret Storage"). All signing and ECDH is done by [`Signer`].
//! Never: builds a transaction, decides what is signed, touches a file, prints a secret, draws a random number.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod derivation;
pub mod secrets;
pub mod seedfile;
pub mod signer;

mod channel;

pub use derivation::{
    Basepoints, DelayedPaymentBasepoint, DelayedPaymentPubkey, FundingPubkey, HtlcBasepoint, HtlcPubkey,
    PaymentBasepoint, PaymentPubkey, PerCommitmentPoint, RevocationBasepoint, RevocationPubkey,
};
pub use secrets::{PerCommitmentSecret, ReceivedSecrets, SecretsError};
pub use signer::Signer;

use std::fmt;

use bip39::{Language, Mnemonic};
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::{Network, NetworkKind};
use hkdf::Hkdf;
use secp256k1::{SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The words that a person writes down: 24 English words of BIP 39, 256 bits of entropy and a checksum.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Words(Mnemonic);

/// Why a text is no backup of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not 24 words.
    #[error("expected 24 words, found {0}")]
    WordCount(usize),
    /// A word, counted from 1, that is not in the English list of BIP 39.
    #[error("word {0} is not in the BIP 39 list")]
    UnknownWord(usize),
    /// The words are all known, but some of them are wrong or in a wrong order.
    #[error("the checksum does not fit: a word is wrong or out of order")]
    Checksum,
}

impl Words {
    /// The words for 32 bytes of entropy.
    pub fn from_entropy(entropy: &[u8; 32]) -> Words {
        Words(Mnemonic::from_entropy_in(Language::English, entropy).expect("32 bytes make 24 words"))
    }

    /// Reads 24 words, separated by any white space; upper case is accepted.
    ///
    /// # Errors
    /// [`WordsError`], which names the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Words, WordsError> {
        let text = Zeroizing::new(text.to_lowercase());
        let count = text.split_whitespace().count();
        if count != 24 {
            return Err(WordsError::WordCount(count));
        }
        Mnemonic::parse_in_normalized(Language::English, &text).map(Words).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => WordsError::UnknownWord(index + 1),
            _ => WordsError::Checksum,
        })
    }

    /// The words, one space between them, for the person who writes them down.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(24 * 9));
        for word in self.0.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The entropy in them, as it goes into the seed file.
    fn entropy(&self) -> Zeroizing<[u8; 32]> {
        let (mut bytes, _) = self.0.to_entropy_array();
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&bytes[..32]);
        bytes.zeroize();
        entropy
    }

    /// The seed of BIP 39, without a passphrase: the words alone restore everything.
    pub fn seed(&self) -> Seed {
        Seed(self.0.to_seed_normalized(""))
    }
}

/// What all keys come from: 64 bytes made of the words (BIP 39).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 64]);

impl Seed {
    /// The BIP 84 account `m/84'/coin'/0'` of the on-chain wallet; coin 0 on mainnet, 1 on all others.
    pub fn account_xprv(&self, network: Network) -> Xpriv {
        let coin = match NetworkKind::from(network) {
            NetworkKind::Main => 0,
            NetworkKind::Test => 1,
        };
        let path = [84, coin, 0].map(|index| ChildNumber::Hardened { index });
        Xpriv::new_master(network, &self.0)
            .and_then(|master| master.derive_priv(SECP256K1, &path))
            .expect("a seed without a valid BIP 32 key is a 2^-127 chance")
    }

    /// 32 bytes that belong to `label` and `id` alone (HKDF-SHA256, BIP 39 seed as key material).
    fn expand(&self, label: &str, id: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"channeld keys v1"), &self.0)
            .expand_multi_info(&[label.as_bytes(), b"/", id], bytes.as_mut())
            .expect("32 bytes are less than HKDF's 8,160");
        bytes
    }

    /// The private key that belongs to `label` and `id` alone.
    fn private_key(&self, label: &str, id: &[u8]) -> PrivateKey {
        let bytes = self.expand(label, id);
        PrivateKey(SecretKey::from_slice(bytes.as_ref()).expect("32 bytes that are no key are a 2^-127 chance"))
    }
}

/// Names a channel's keys: 32 random bytes, drawn when the channel begins and stored with it. Useless without the seed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelKeyId(pub [u8; 32]);

impl ChannelKeyId {
    /// Which of the [`PAYMENT_KEYS`] payment keys the channel uses.
    pub fn payment_key_index(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) % PAYMENT_KEYS
    }
}

impl fmt::Debug for ChannelKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKeyId({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// How many payment keys there are. The words alone enumerate them, so that a `to_remote` output is found again when all
/// channel data is lost; so many that two channels of one peer seldom share one.
pub const PAYMENT_KEYS: u16 = 1_000;

/// A private key that is wiped when dropped and never printed.
struct PrivateKey(SecretKey);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

    #[test]
    fn words_go_there_and_back() {
        let words = Words::from_entropy(&[0; 32]);
        assert_eq!(words.text().as_str(), TEXT);
        let again = Words::parse(&TEXT.to_uppercase()).expect("the same words");
        assert_eq!(*again.entropy(), [0; 32]);
        // The published seed of BIP 39 for these words without a passphrase.
        assert!(hex::encode(words.seed().0).starts_with("408b285c123836004f4b8842c89324c1"));
    }

    #[test]
    fn wrong_words_are_named() {
        assert_eq!(Words::parse("abandon art").err(), Some(WordsError::WordCount(2)));
        assert_eq!(Words::parse(&TEXT.replace("art", "abandon")).err(), Some(WordsError::Checksum));
        let unknown = TEXT.replacen("abandon", "lightning", 1);
        assert_eq!(Words::parse(&unknown).err(), Some(WordsError::UnknownWord(1)));
    }

    #[test]
    fn the_account_is_bip_84() {
        // BIP 84's own words have twelve; this is the same derivation, checked against its published account key.
        let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        let seed = Seed(Mnemonic::parse(words).expect("valid").to_seed_normalized(""));
        let account = seed.account_xprv(Network::Bitcoin);
        let address = account.derive_priv(SECP256K1, &[ChildNumber::from(0), ChildNumber::from(0)]).expect("valid");
        let public = address.private_key.public_key(SECP256K1);
        assert_eq!(public.to_string(), "0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c");
    }

    #[test]
    fn labels_and_ids_do_not_meet() {
        let seed = Words::from_entropy(&[7; 32]).seed();
        assert_ne!(*seed.expand("a", b"b"), *seed.expand("a", b"c"));
        assert_ne!(*seed.expand("a", b"b"), *seed.expand("c", b"b"));
    }
}
