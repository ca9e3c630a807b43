//! The coins of an LDK node: one key, and every output that pays it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Block, CompressedPublicKey, Network, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Witness, ecdsa,
};
use lightning::events::bump_transaction::Utxo;
use lightning::events::bump_transaction::sync::WalletSourceSync;
use secp256k1::{Message, SECP256K1, SecretKey};

/// Paid for each transaction of its own, whatever its size.
const FEE: Amount = Amount::from_sat(2_000);

/// See the file's map.
pub struct LdkWallet {
    key: SecretKey,
    public: CompressedPublicKey,
    coins: Mutex<BTreeMap<OutPoint, Amount>>,
}

impl LdkWallet {
    /// An empty wallet of this key.
    pub fn new(key: SecretKey) -> Arc<LdkWallet> {
        let public = CompressedPublicKey(key.public_key(SECP256K1));
        Arc::new(LdkWallet { key, public, coins: Mutex::default() })
    }

    fn coins(&self) -> MutexGuard<'_, BTreeMap<OutPoint, Amount>> {
        self.coins.lock().expect("no panic while it is held")
    }

    /// Where it is paid.
    pub fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    /// The same as text.
    pub fn address(&self) -> String {
        Address::p2wpkh(&self.public, Network::Regtest).to_string()
    }

    /// What it owns in blocks; coinbases too, however young.
    pub fn balance(&self) -> Amount {
        self.coins().values().copied().sum()
    }

    /// Takes note of a block.
    pub fn connect(&self, block: &Block) {
        let (script, mut coins) = (self.script(), self.coins());
        for transaction in &block.txdata {
            for input in &transaction.input {
                coins.remove(&input.previous_output);
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                if output.script_pubkey == script {
                    coins.insert(OutPoint { txid, vout }, output.value);
                }
            }
        }
    }

    /// A signed transaction that pays `value` to `script`; its coins are spent from now on.
    pub fn pay(&self, script: ScriptBuf, value: Amount) -> Transaction {
        let (mut spent, mut sum) = (Vec::new(), Amount::ZERO);
        let mut coins = self.coins();
        for (outpoint, amount) in coins.iter() {
            if sum < value + FEE {
                spent.push((*outpoint, *amount));
                sum += *amount;
            }
        }
        let change = sum.checked_sub(value + FEE).expect("the LDK node has coins");
        coins.retain(|outpoint, _| !spent.iter().any(|(taken, _)| taken == outpoint));
        let input = |(outpoint, _): &(OutPoint, Amount)| TxIn {
            previous_output: *outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: spent.iter().map(input).collect(),
            output: vec![TxOut { value, script_pubkey: script }, TxOut { value: change, script_pubkey: self.script() }],
        };
        let values: Vec<Option<Amount>> = spent.iter().map(|(_, amount)| Some(*amount)).collect();
        self.sign(&mut transaction, &values);
        transaction
    }

    /// Signs the inputs that are its own: those whose value is given.
    fn sign(&self, transaction: &mut Transaction, values: &[Option<Amount>]) {
        let script = self.script();
        for (index, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let hash = SighashCache::new(&*transaction)
                .p2wpkh_signature_hash(index, &script, *value, EcdsaSighashType::All)
                .expect("the input is there");
            let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key);
            let signature = ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
            transaction.input[index].witness = Witness::p2wpkh(&signature, &self.public.0);
        }
    }
}

impl WalletSourceSync for LdkWallet {
    fn list_confirmed_utxos(&self) -> Result<Vec<Utxo>, ()> {
        let hash = self.public.wpubkey_hash();
        let coins = self.coins();
        Ok(coins.iter().map(|(outpoint, value)| Utxo::new_v0_p2wpkh(*outpoint, *value, &hash)).collect())
    }

    fn get_change_script(&self) -> Result<ScriptBuf, ()> {
        Ok(self.script())
    }

    fn sign_psbt(&self, psbt: Psbt) -> Result<Transaction, ()> {
        let script = self.script();
        let own = |input: &bitcoin::psbt::Input| {
            input.witness_utxo.as_ref().filter(|output| output.script_pubkey == script).map(|output| output.value)
        };
        let values: Vec<Option<Amount>> = psbt.inputs.iter().map(own).collect();
        let mut transaction = psbt.extract_tx_unchecked_fee_rate();
        self.sign(&mut transaction, &values);
        Ok(transaction)
    }
}
