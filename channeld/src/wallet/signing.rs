//! Descriptors and signatures of the account key: P2WPKH, external chain 0, change chain 1 (BIP 84).

use bdk_wallet::KeychainKind;
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::ecdsa::Signature;
use bitcoin::sighash::SighashCache;
use bitcoin::{EcdsaSighashType, Transaction, TxOut, Witness};
use secp256k1::{Message, SECP256K1};

use super::Wallet;

/// The public descriptors of both chains, as texts that bdk takes.
pub(super) fn descriptors(account: &Xpriv) -> (String, String) {
    let account = Xpub::from_priv(SECP256K1, account);
    (format!("wpkh({account}/0/*)"), format!("wpkh({account}/1/*)"))
}

impl Wallet {
    /// Signs every input of `transaction` that spends a coin of ours, SIGHASH_ALL; returns how many. `spent` are the outputs
    /// that the inputs spend, in their order. Inputs of others are left as they are.
    ///
    /// # Panics
    /// Where `spent` has not one output for each input.
    pub fn sign_inputs(&self, transaction: &mut Transaction, spent: &[TxOut]) -> usize {
        assert_eq!(transaction.input.len(), spent.len(), "each input spends one output");
        let mut witnesses = Vec::new();
        let mut sighashes = SighashCache::new(&*transaction);
        for (index, output) in spent.iter().enumerate() {
            let Some((keychain, child)) = self.inner.derivation_of_spk(output.script_pubkey.clone()) else {
                continue;
            };
            let sighash = sighashes
                .p2wpkh_signature_hash(index, &output.script_pubkey, output.value, EcdsaSighashType::All)
                .expect("the index is in range and the script is P2WPKH");
            let key = self.derive(keychain, child);
            let signature = SECP256K1.sign_ecdsa(&Message::from(sighash), &key.private_key);
            let signature = Signature { signature, sighash_type: EcdsaSighashType::All };
            witnesses.push((index, Witness::p2wpkh(&signature, &key.private_key.public_key(SECP256K1))));
        }
        let count = witnesses.len();
        for (index, witness) in witnesses {
            transaction.input[index].witness = witness;
        }
        count
    }

    fn derive(&self, keychain: KeychainKind, child: u32) -> Xpriv {
        let chain = match keychain {
            KeychainKind::External => 0,
            KeychainKind::Internal => 1,
        };
        let path = [ChildNumber::Normal { index: chain }, ChildNumber::Normal { index: child }];
        self.account.derive_priv(SECP256K1, &path).expect("a child without a key is a 2^-127 chance")
    }
}
