//! What an input costs beside what it must cost: reading it, its signature hash, one verification. Prints one line a figure.
//!
//!     cargo bench -p l1-utxo --bench script
//!
//! Ours and the floor alternate, and the middle of many rounds counts, so that a busy machine disturbs both alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey, ecdsa};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction,
};
use l1_utxo::consensus::decode::{Form, decode_transaction};
use l1_utxo::consensus::script::{ScriptFlags, TransactionCache, verify_input};

const ROUNDS: usize = 41;
/// Inputs that one round looks at, in as many transactions as that takes.
const INPUTS: usize = 5_000;

fn main() {
    // `cargo test --benches` runs this too: nothing to measure there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("P2WPKH, {ROUNDS} rounds of {INPUTS} inputs, one thread:");
    let mut per_input = Vec::new();
    for inputs in [1, 10, 100, 5_000] {
        let (ours, floor, hashing) = measure(inputs);
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / INPUTS as f64;
        println!(
            "{inputs:>5} inputs: {:6.2} µs an input, parse + sighash + verification {:6.2} µs, ratio {:.3}; without \
             verification {:5.2} µs",
            micros(ours),
            micros(floor),
            ours.as_secs_f64() / floor.as_secs_f64(),
            micros(hashing),
        );
        per_input.push(ours.as_secs_f64());
    }
    println!("5,000 inputs beside 10: {:.3} of the cost an input", per_input[3] / per_input[1]);
}

/// A transaction with so many inputs, as bytes, and what it spends.
struct Sample {
    bytes: Vec<u8>,
    prevouts: Vec<TxOut>,
}

fn sample(inputs: usize) -> Sample {
    let key = SecretKey::from_slice(&[7; 32]).expect("below the order");
    let pubkey = key.public_key(SECP256K1);
    let script_pubkey = ScriptBuf::new_p2wpkh(&CompressedPublicKey(pubkey).wpubkey_hash());
    let prevout = TxOut { value: Amount::from_sat(100_000), script_pubkey };
    let input = |n: usize| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: n as u32 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let mut transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs).map(input).collect(),
        output: vec![prevout.clone(), prevout.clone()],
    };
    let unsigned = transaction.clone();
    let mut cache = SighashCache::new(&unsigned);
    for (index, input) in transaction.input.iter_mut().enumerate() {
        let hash = cache
            .p2wpkh_signature_hash(index, &prevout.script_pubkey, prevout.value, EcdsaSighashType::All)
            .expect("the output is P2WPKH");
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
        input.witness = Witness::p2wpkh(&signature, &pubkey);
    }
    Sample { bytes: serialize(&transaction), prevouts: vec![prevout; inputs] }
}

/// Medians of ours, of the floor, and of ours without the verification itself.
fn measure(inputs: usize) -> (Duration, Duration, Duration) {
    let sample = sample(inputs);
    let times = INPUTS / inputs;
    let (mut ours, mut floor, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time(times, || run(&sample)));
        let mut verification = Duration::ZERO;
        let whole = time(times, || run_floor(&sample, &mut verification));
        floor.push(whole);
        rest.push(ours[ours.len() - 1].saturating_sub(verification));
    }
    (median(ours), median(floor), median(rest))
}

fn time(times: usize, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Bytes to verdicts, as a block or the mempool has it.
fn run(sample: &Sample) {
    let transaction = decode_transaction(&sample.bytes, Form::Witness).expect("our own bytes");
    let cache = TransactionCache::new(&transaction, sample.prevouts.iter().collect());
    for index in 0..transaction.input.len() {
        assert_eq!(black_box(verify_input(&cache, index, ScriptFlags::STANDARD)), Ok(()));
    }
}

/// The same bytes, hashes and verifications, and nothing between.
fn run_floor(sample: &Sample, verification: &mut Duration) {
    let transaction = decode_transaction(&sample.bytes, Form::Witness).expect("our own bytes");
    let mut cache = SighashCache::new(&transaction);
    for (index, (input, prevout)) in transaction.input.iter().zip(&sample.prevouts).enumerate() {
        let hash = cache
            .p2wpkh_signature_hash(index, &prevout.script_pubkey, prevout.value, EcdsaSighashType::All)
            .expect("the output is P2WPKH");
        let start = Instant::now();
        let (_, der) = input.witness[0].split_last().expect("a hash type");
        let mut signature = ecdsa::Signature::from_der_lax(der).expect("our own signature");
        signature.normalize_s();
        let key = PublicKey::from_slice(&input.witness[1]).expect("our own key");
        let message = Message::from_digest(hash.to_byte_array());
        assert!(black_box(SECP256K1.verify_ecdsa(&message, &signature, &key)).is_ok());
        *verification += start.elapsed();
    }
}
