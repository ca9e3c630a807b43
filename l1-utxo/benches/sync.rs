//! How fast a node takes in a chain from a peer: two processes on this machine, every script verified. Beside it stand the
//! bare checks of the same inputs, and Bitcoin Core where `BITCOIND` names its program: the same chain from the same peer, in
//! turns. Prints one line a figure; run it on an idle machine.
//!
//!     cargo bench -p l1-utxo --bench sync
//!     BITCOIND=/path/to/bitcoind cargo bench -p l1-utxo --bench sync
//!     SYNC_KEYS=1000 cargo bench -p l1-utxo --bench sync
//!     taskset -c 0 cargo bench -p l1-utxo --bench sync

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, ecdsa};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{OutPoint, TxOut};
use l1_utxo::consensus::decode::{Form, decode_transaction};
use rayon::prelude::*;

use self::miner::{Miner, open, transaction};
use self::process::{Node, Peers, Program, median, print_load};

mod miner;
mod process;

const BLOCKS: u32 = 300;
const SPENDS: usize = 1_000;
const RUNS: usize = 3;
/// Inputs whose bare checks are timed.
const BARE: usize = 60_000;

fn main() {
    // `cargo test --benches` runs this too: nothing to measure there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    print_load();
    let source = tempfile::tempdir().expect("a temporary directory");
    let (height, samples) = make_chain(&source.path().join("regtest"));
    let programs = Program::all();
    let mut rates = vec![Vec::new(); programs.len()];
    let mut bare = Vec::new();
    for run in 1..=RUNS {
        for (program, rates) in programs.iter().zip(&mut rates) {
            rates.push(follow(run, program, source.path(), height));
        }
        bare.push(bare_checks(&samples));
        println!("run {run}: bare checks on all cores at once: {:.0} inputs/s", bare[run - 1]);
    }
    let (ours, bare) = (median(rates[0].clone()), median(bare));
    println!("median: {ours:.0} inputs/s, {:.2} of bare checks on the same cores", ours / bare);
    if let Some(theirs) = rates.get(1) {
        let theirs = median(theirs.clone());
        println!("median of Bitcoin Core: {theirs:.0} inputs/s; ours is {:.2} of it", ours / theirs);
    }
}

/// Lets an empty node follow the chain of `source` to its end; inputs a second, from its first answer on.
fn follow(run: usize, program: &Program, source: &Path, height: u64) -> f64 {
    let mut server = Node::start(&Program::Ours, source, Peers::Listen);
    let empty = tempfile::tempdir().expect("a temporary directory");
    let mut client = Node::start(program, empty.path(), Peers::Connect(&server.peer_address()));
    let started = Instant::now();
    while client.height() < height {
        std::thread::sleep(Duration::from_millis(25));
    }
    let inputs = f64::from(BLOCKS) * SPENDS as f64;
    let rate = inputs / started.elapsed().as_secs_f64();
    let (cpu, peer) = (client.cpu_seconds() * 1e6 / inputs, server.cpu_since() * 1e6 / inputs);
    let peak = client.mebibytes("VmHWM");
    println!(
        "run {run}, {}: {rate:.0} inputs/s; CPU µs an input: {cpu:.1}, its peer {peer:.1}; peak memory {peak:.0} MiB",
        program.name()
    );
    rate
}

/// A spend as bytes, and what it spends.
type Sample = (Vec<u8>, TxOut);

/// What no node can leave out, and nothing else: bytes to transaction, its hash, the signature. Inputs a second.
fn bare_checks(samples: &[Sample]) -> f64 {
    let started = Instant::now();
    samples.par_iter().for_each(|(bytes, spent)| {
        let transaction = decode_transaction(bytes, Form::Witness).expect("our own bytes");
        let hash = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(0, &spent.script_pubkey, spent.value, EcdsaSighashType::All)
            .expect("the output is P2WPKH");
        let witness = &transaction.input[0].witness;
        let (_, der) = witness[0].split_last().expect("a hash type");
        let mut signature = ecdsa::Signature::from_der_lax(der).expect("our own signature");
        signature.normalize_s();
        let key = PublicKey::from_slice(&witness[1]).expect("our own key");
        let message = Message::from_digest(hash.to_byte_array());
        assert!(black_box(SECP256K1.verify_ecdsa(&message, &signature, &key)).is_ok());
    });
    samples.len() as f64 / started.elapsed().as_secs_f64()
}

/// Makes the chain; its height, and some of its spends. One key signs all, or as many as `SYNC_KEYS` says.
fn make_chain(dir: &Path) -> (u64, Vec<Sample>) {
    let keys = std::env::var("SYNC_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(1u32).max(1);
    let owners: Vec<Miner> = (0..keys).map(Miner::numbered).collect();
    let owner = |coin: usize| &owners[coin % owners.len()];
    let bench = Miner::new();
    let mut ledger = open(dir);
    let first = bench.mine(&mut ledger, vec![]);
    (0..100).for_each(|_| drop(bench.mine(&mut ledger, vec![])));
    let root = OutPoint { txid: first.txids()[0], vout: 0 };
    let mut value = 5_000_000_000 / SPENDS as u64;
    let mut fan = transaction(&[root], (0..SPENDS).map(|coin| owner(coin).pay(value)).collect());
    bench.sign(&mut fan, &[5_000_000_000]);
    let txid = fan.compute_txid();
    bench.mine(&mut ledger, vec![fan]);
    let mut coins: Vec<OutPoint> = (0..SPENDS as u32).map(|vout| OutPoint { txid, vout }).collect();
    let mut samples = Vec::new();
    for _ in 0..BLOCKS {
        let mut spends = Vec::with_capacity(SPENDS);
        for (place, coin) in coins.iter_mut().enumerate() {
            let owner = owner(place);
            let mut spend = transaction(&[*coin], vec![owner.pay(value - 800), owner.pay(600)]);
            owner.sign(&mut spend, &[value]);
            if samples.len() < BARE {
                samples.push((serialize(&spend), owner.pay(value)));
            }
            *coin = OutPoint { txid: spend.compute_txid(), vout: 0 };
            spends.push(spend);
        }
        value -= 800;
        bench.mine(&mut ledger, spends);
    }
    ledger.flush().expect("a disk");
    (ledger.tip().height.into(), samples)
}
