//! How fast blocks are mined on, connected, found again after a restart, and counted. Prints one line a figure.
//!
//!     cargo bench -p l1-utxo --bench connect

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, Block, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    transaction,
};
use l1_utxo::chain::{CoinsHash, Source, coins_stats};
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::block::witness_commitment_script;
use l1_utxo::consensus::merkle::merkle_root;
use l1_utxo::consensus::pow::check_proof_of_work;
use l1_utxo::consensus::subsidy::block_subsidy;
use l1_utxo::driver::{Ledger, LedgerOptions, Submission};
use l1_utxo::mempool::Policy;
use l1_utxo::params::Network;

const EMPTY_BLOCKS: u32 = 20_000;
const SPEND_BLOCKS: u32 = 10;
const SPENDS: usize = 2_000;
const COINS: usize = 1_000_000;
const COINS_PER_TRANSACTION: usize = 20_000;

fn main() {
    // `cargo test --benches` runs this too: nothing to measure there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let key = SecretKey::from_slice(&[7; 32]).expect("below the order");
    let bench = Bench { script: pay_to(&key), key };
    bench.empty_blocks();
    bench.spends();
    bench.many_coins();
}

struct Bench {
    key: SecretKey,
    script: ScriptBuf,
}

fn pay_to(key: &SecretKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key(SECP256K1)).wpubkey_hash())
}

fn open(dir: &std::path::Path) -> Ledger {
    Ledger::open(dir, Network::Regtest, Policy::default(), LedgerOptions::default()).expect("a fresh directory")
}

fn transaction(inputs: &[OutPoint], output: Vec<TxOut>) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let input = inputs.iter().map(input).collect();
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input, output }
}

impl Bench {
    fn pay(&self, sat: u64) -> TxOut {
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

    fn mine(&self, ledger: &mut Ledger, transactions: Vec<Transaction>) -> Arc<HashedBlock> {
        let block = Arc::new(HashedBlock::new(self.block(ledger, transactions)));
        submit(ledger, &block);
        block
    }

    fn sign(&self, spend: &mut Transaction, values: &[u64]) {
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

    fn empty_blocks(&self) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(dir.path());
        let started = Instant::now();
        for _ in 0..EMPTY_BLOCKS {
            self.mine(&mut ledger, vec![]);
        }
        figure("empty blocks mined on, per second", f64::from(EMPTY_BLOCKS) / started.elapsed().as_secs_f64());
        drop(ledger);
        let started = Instant::now();
        let ledger = open(dir.path());
        figure("start after a kill, ms", started.elapsed().as_secs_f64() * 1e3);
        assert_eq!(ledger.tip().height, EMPTY_BLOCKS);
    }

    /// Mines the first blocks and returns a mature coinbase.
    fn mature(&self, ledger: &mut Ledger, blocks: &mut Vec<Arc<HashedBlock>>) -> OutPoint {
        blocks.extend((0..101).map(|_| self.mine(ledger, vec![])));
        OutPoint { txid: blocks[0].txids()[0], vout: 0 }
    }

    fn spends(&self) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(dir.path());
        let mut blocks = Vec::new();
        let mut root = self.mature(&mut ledger, &mut blocks);
        let mut value = 5_000_000_000 / SPENDS as u64;
        let mut fan = transaction(&[root], vec![self.pay(value); SPENDS]);
        self.sign(&mut fan, &[5_000_000_000]);
        root.txid = fan.compute_txid();
        blocks.push(self.mine(&mut ledger, vec![fan]));
        let mut coins: Vec<OutPoint> = (0..SPENDS as u32).map(|vout| OutPoint { vout, ..root }).collect();
        for _ in 0..SPEND_BLOCKS {
            let spend = |coin: &mut OutPoint| {
                let mut spend = transaction(&[*coin], vec![self.pay(value - 200)]);
                self.sign(&mut spend, &[value]);
                *coin = OutPoint { txid: spend.compute_txid(), vout: 0 };
                spend
            };
            let spends = coins.iter_mut().map(spend).collect();
            value -= 200;
            blocks.push(self.mine(&mut ledger, spends));
        }
        let other = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(other.path());
        let (first, rest) = blocks.split_at(102);
        first.iter().for_each(|block| submit(&mut ledger, block));
        let (started, cpu) = (Instant::now(), cpu_seconds());
        rest.iter().for_each(|block| submit(&mut ledger, block));
        let inputs = f64::from(SPEND_BLOCKS) * SPENDS as f64;
        figure("P2WPKH inputs connected, µs each", started.elapsed().as_secs_f64() * 1e6 / inputs);
        figure("P2WPKH inputs connected, CPU µs each", (cpu_seconds() - cpu) * 1e6 / inputs);
    }

    fn many_coins(&self) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(dir.path());
        self.mature(&mut ledger, &mut Vec::new());
        for n in 0..COINS / COINS_PER_TRANSACTION {
            let txid =
                ledger.read_block(ledger.chain().at_height(n as u32 + 1).expect("mined")).expect("kept").txids()[0];
            let mut fan = transaction(&[OutPoint { txid, vout: 0 }], vec![self.pay(1_000); COINS_PER_TRANSACTION]);
            self.sign(&mut fan, &[block_subsidy(n as u32 + 1, 150).to_sat()]);
            self.mine(&mut ledger, vec![fan]);
        }
        while ledger.tip().height < 1_000 {
            self.mine(&mut ledger, vec![]);
        }
        figure("memory with a million coins, MB", resident_megabytes());
        ledger.flush().expect("a disk");
        for (name, kind) in [("hash_serialized_3", CoinsHash::Serialized), ("muhash", CoinsHash::MuHash)] {
            let started = Instant::now();
            let snapshot = ledger.coins_snapshot();
            black_box(coins_stats(kind, snapshot.iter()).expect("readable"));
            figure(&format!("{name} of a million coins, ms"), started.elapsed().as_secs_f64() * 1e3);
        }
        drop(ledger);
        let started = Instant::now();
        let ledger = open(dir.path());
        figure("start with 1,000 blocks and a million coins, ms", started.elapsed().as_secs_f64() * 1e3);
        assert_eq!(ledger.tip().height, 1_000);
    }
}

fn submit(ledger: &mut Ledger, block: &Arc<HashedBlock>) {
    let outcome = ledger.submit(Arc::clone(block), Source::Requested).expect("a disk");
    assert!(matches!(outcome, Submission::Accepted(_)), "{outcome:?}");
    ledger.flush_if_due().expect("a disk");
}

fn resident_megabytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.map_or(f64::NAN, |pages| pages * 4_096.0 / 1e6)
}

/// User and system time of all threads, in steps of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn figure(name: &str, value: f64) {
    println!("{name}: {value:.1}");
}
