//! How fast blocks are mined on, connected, found again after a restart, and counted. Prints one line a figure.
//!
//!     cargo bench -p l1-utxo --bench connect

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::OutPoint;
use l1_utxo::chain::{CoinsHash, coins_stats};
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::subsidy::block_subsidy;
use l1_utxo::driver::Ledger;

use self::miner::{Miner, open, submit, transaction};

mod miner;

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
    let bench = Bench { miner: Miner::new() };
    bench.empty_blocks();
    bench.spends();
    bench.many_coins();
}

struct Bench {
    miner: Miner,
}

impl Bench {
    fn empty_blocks(&self) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(dir.path());
        let started = Instant::now();
        for _ in 0..EMPTY_BLOCKS {
            self.miner.mine(&mut ledger, vec![]);
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
        blocks.extend((0..101).map(|_| self.miner.mine(ledger, vec![])));
        OutPoint { txid: blocks[0].txids()[0], vout: 0 }
    }

    fn spends(&self) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = open(dir.path());
        let mut blocks = Vec::new();
        let mut root = self.mature(&mut ledger, &mut blocks);
        let mut value = 5_000_000_000 / SPENDS as u64;
        let mut fan = transaction(&[root], vec![self.miner.pay(value); SPENDS]);
        self.miner.sign(&mut fan, &[5_000_000_000]);
        root.txid = fan.compute_txid();
        blocks.push(self.miner.mine(&mut ledger, vec![fan]));
        let mut coins: Vec<OutPoint> = (0..SPENDS as u32).map(|vout| OutPoint { vout, ..root }).collect();
        for _ in 0..SPEND_BLOCKS {
            let spend = |coin: &mut OutPoint| {
                let mut spend = transaction(&[*coin], vec![self.miner.pay(value - 200)]);
                self.miner.sign(&mut spend, &[value]);
                *coin = OutPoint { txid: spend.compute_txid(), vout: 0 };
                spend
            };
            let spends = coins.iter_mut().map(spend).collect();
            value -= 200;
            blocks.push(self.miner.mine(&mut ledger, spends));
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
            let mut fan =
                transaction(&[OutPoint { txid, vout: 0 }], vec![self.miner.pay(1_000); COINS_PER_TRANSACTION]);
            self.miner.sign(&mut fan, &[block_subsidy(n as u32 + 1, 150).to_sat()]);
            self.miner.mine(&mut ledger, vec![fan]);
        }
        while ledger.tip().height < 1_000 {
            self.miner.mine(&mut ledger, vec![]);
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
