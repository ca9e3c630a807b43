//! One key, its address, and signed spends of its coins.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Address, Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction,
};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde_json::{Value, json};

use super::node::Node;

pub struct Wallet {
    secret: SecretKey,
    key: CompressedPublicKey,
}

/// A coin of the wallet.
#[derive(Clone, Copy, Debug)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: u64,
}

impl Wallet {
    pub fn new(seed: u8) -> Self {
        let secret = SecretKey::from_slice(&[seed; 32]).unwrap();
        Self { secret, key: CompressedPublicKey(secret.public_key(SECP256K1)) }
    }

    pub fn address(&self) -> String {
        Address::p2wpkh(&self.key, bitcoin::Network::Regtest).to_string()
    }

    pub fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.key.wpubkey_hash())
    }

    /// Mines `count` blocks to this wallet and returns their coinbase outputs.
    pub fn mine(&self, node: &mut Node, count: u32) -> Vec<Coin> {
        let hashes = node.call("generatetoaddress", json!([count, self.address()]));
        let hashes = hashes.as_array().unwrap().clone();
        assert_eq!(hashes.len(), count as usize);
        hashes.into_iter().map(|hash| Self::coinbase(node, hash)).collect()
    }

    fn coinbase(node: &mut Node, hash: Value) -> Coin {
        let block = node.call("getblock", json!([hash, 0]));
        let block: bitcoin::Block = bitcoin::consensus::encode::deserialize_hex(block.as_str().unwrap()).unwrap();
        let coinbase = &block.txdata[0];
        Coin { outpoint: OutPoint { txid: coinbase.compute_txid(), vout: 0 }, value: coinbase.output[0].value.to_sat() }
    }

    /// Spends coins to this wallet itself, in `outputs` equal parts, for `fee`.
    pub fn spend(&self, coins: &[Coin], outputs: u64, fee: u64) -> Transaction {
        let total: u64 = coins.iter().map(|coin| coin.value).sum();
        let output = TxOut { value: Amount::from_sat((total - fee) / outputs), script_pubkey: self.script() };
        let input = coins.iter().map(|coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        });
        let transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: input.collect(),
            output: vec![output; outputs as usize],
        };
        self.sign(transaction, coins)
    }

    pub fn sign(&self, transaction: Transaction, coins: &[Coin]) -> Transaction {
        let mut cache = SighashCache::new(transaction);
        for (index, coin) in coins.iter().enumerate() {
            let value = Amount::from_sat(coin.value);
            let sighash = cache.p2wpkh_signature_hash(index, &self.script(), value, EcdsaSighashType::All).unwrap();
            let message = Message::from_digest(sighash.to_byte_array());
            let signature = SECP256K1.sign_ecdsa(&message, &self.secret);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            *cache.witness_mut(index).unwrap() = Witness::p2wpkh(&signature, &self.key.0);
        }
        cache.into_transaction()
    }
}

pub fn hex(transaction: &Transaction) -> String {
    serialize_hex(transaction)
}

/// Output `vout` of a transaction as a coin.
pub fn output(transaction: &Transaction, vout: u32) -> Coin {
    Coin {
        outpoint: OutPoint { txid: transaction.compute_txid(), vout },
        value: transaction.output[vout as usize].value.to_sat(),
    }
}
