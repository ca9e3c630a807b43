//! Makes chains of signed P2WPKH spends, a ledger under them, for the benchmarks.

use std::path::Path;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, Block, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    transaction,
};
use l1_utxo::chain::Source;
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::block::witness_commitment_script;
use l1_utxo::consensus::merkle::merkle_root;
use l1_utxo::consensus::pow::check_proof_of_work;
use l1_utxo::consensus::subsidy::block_subsidy;
use l1_utxo::driver::{Ledger, LedgerOptions, Submission};
use l1_utxo::mempool::Policy;
use l1_utxo::params::Network;

/// One key, one script: what is spent does not matter, how does.
pub struct Miner {
    key: SecretKey,
    script: ScriptBuf,
}

/// The ledger of a folder, on regtest.
pub fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, Network::Regtest, Policy::default(), LedgerOptions::default()).expect("a fresh directory")
}

/// Submits a block that is asked for.
pub fn submit(ledger: &mut Ledger, block: &Arc<HashedBlock>) {
    let outcome = ledger.submit(Arc::clone(block), Source::Requested).expect("a disk");
    assert!(matches!(outcome, Submission::Accepted(_)), "{outcome:?}");
    ledger.flush_if_due().expect("a disk");
}

/// Spends `inputs`, unsigned.
pub fn transaction(inputs: &[OutPoint], output: Vec<TxOut>) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let input = inputs.iter().map(input).collect();
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input, output }
}

impl Miner {
    pub fn new() -> Self {
        Self::with(&[7; 32])
    }

    /// Another one for each number.
    #[allow(dead_code)] // each bench uses a part of this
    pub fn numbered(number: u32) -> Self {
        let mut secret = [7; 32];
        secret[28..].copy_from_slice(&number.to_be_bytes());
        Self::with(&secret)
    }

    fn with(secret: &[u8; 32]) -> Self {
        let key = SecretKey::from_slice(secret).expect("below the order");
        let hash = CompressedPublicKey(key.public_key(SECP256K1)).wpubkey_hash();
        Self { key, script: ScriptBuf::new_p2wpkh(&hash) }
    }

    pub fn pay(&self, sat: u64) -> TxOut {
        TxOut { value: Amount::from_sat(sat), script_pubkey: self.script.clone() }
    }

    fn block(&self, ledger: &Ledger, transactions: Vec<Transaction>) -> Block {
        let tip = ledger.chain().tip_entry();
        let height = tip.height + 1;
        let mut coinbase = transaction(&[OutPoint::null()], vec![self.pay(block_subsidy(height, 150).to_sat())]);
        let builder = bitcoin::script::Builder::new().push_int(height.into()).push_int(0);
        coinbase.input[0].script_sig = builder.into_script();
        coinbase.input[0].witness.push([0; 32]);
        let mut txdata = vec![coinbase];
        txdata.extend(transactions);
        let commitment = witness_commitment_script(&txdata, &[0; 32]);
        txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: commitment });
        let leaves = txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        let mut header = Header {
            version: Version::from_consensus(4),
            prev_blockhash: tip.hash,
            merkle_root: TxMerkleNode::from_byte_array(merkle_root(leaves).root),
            time: tip.median_time_past + 1,
            bits: tip.header.bits,
            nonce: 0,
        };
        while !check_proof_of_work(header.block_hash(), header.bits, ledger.chain().params()) {
            header.nonce += 1;
        }
        Block { header, txdata }
    }

    /// The block on the tip with these transactions, submitted.
    pub fn mine(&self, ledger: &mut Ledger, transactions: Vec<Transaction>) -> Arc<HashedBlock> {
        let block = Arc::new(HashedBlock::new(self.block(ledger, transactions)));
        submit(ledger, &block);
        block
    }

    /// Signs each input, of these values in sat.
    pub fn sign(&self, spend: &mut Transaction, values: &[u64]) {
        let mut cache = SighashCache::new(spend);
        for (index, sat) in values.iter().enumerate() {
            let value = Amount::from_sat(*sat);
            let sighash = cache.p2wpkh_signature_hash(index, &self.script, value, EcdsaSighashType::All);
            let message = Message::from_digest(sighash.expect("one input for each value").to_byte_array());
            let signature = bitcoin::ecdsa::Signature::sighash_all(SECP256K1.sign_ecdsa(&message, &self.key));
            let witness = Witness::p2wpkh(&signature, &self.key.public_key(SECP256K1));
            *cache.witness_mut(index).expect("one input for each value") = witness;
        }
    }
}
