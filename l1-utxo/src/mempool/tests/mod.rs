//! Whole mempools over coins in memory. Scripts are P2WSH of OP_TRUE: nothing to sign, and yet standard.

mod form;
mod input;
mod model;
mod package;
mod rehearsal;
mod replace;
mod truc;

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::script::Builder;
use bitcoin::{Amount, ScriptBuf, Sequence, TxIn, TxOut, Witness, transaction};
use proptest::prelude::*;

use super::*;
use crate::chain::CoinView;
use crate::consensus::TransactionError;
use crate::consensus::script::SignatureCache;

const COIN: u64 = 1_000_000;
const HOUR: i64 = 3_600;

#[derive(Default)]
struct Coins(BTreeMap<OutPoint, Coin>);

impl CoinView for Coins {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.0.get(outpoint).cloned()
    }
}

/// A mempool, a chain of coins and a clock.
struct World {
    mempool: Mempool,
    coins: Coins,
    signatures: SignatureCache,
    height: u32,
    now: i64,
}

fn true_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// Spends outputs in equal parts.
fn spend(from: &[OutPoint], outputs: usize, value: u64) -> Transaction {
    let mut witness = Witness::new();
    witness.push(true_script().as_bytes());
    let input = from.iter().map(|outpoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: witness.clone(),
    });
    let output = TxOut { value: Amount::from_sat(value), script_pubkey: true_script().to_p2wsh() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: vec![output; outputs],
    }
}

fn output(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout }
}

/// What the mempool said, in Core's words.
fn said(outcome: Result<Accepted, Rejection>) -> String {
    outcome.map_or_else(|rejection| rejection.to_string(), |_| "ok".to_owned())
}

/// `said` begins with `expected`, and what follows is details.
fn expect(name: &str, said: &str, expected: &str) {
    let rest = said.strip_prefix(expected).unwrap_or_else(|| panic!("{name}: \"{said}\", not \"{expected}\""));
    assert!(rest.is_empty() || rest.starts_with([',', ' ', '.']), "{name}: \"{said}\", not \"{expected}\"");
}

impl World {
    fn new(policy: Policy) -> Self {
        let signatures = SignatureCache::new(1 << 16, [7; 32]);
        Self { mempool: Mempool::new(policy), coins: Coins::default(), signatures, height: 200, now: 1_000_000 }
    }

    /// A confirmed coin of [`COIN`] satoshi.
    fn coin(&mut self, number: u32) -> OutPoint {
        let txid = Txid::from_byte_array([9; 32]);
        let outpoint = OutPoint { txid, vout: number };
        let output = TxOut { value: Amount::from_sat(COIN), script_pubkey: true_script().to_p2wsh() };
        self.coins.0.insert(outpoint, Coin { output, height: 1, is_coinbase: false });
        outpoint
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Mempool, &Context<'_>) -> T) -> T {
        let context = Context {
            coins: &self.coins,
            height: self.height,
            median_time_past: 0,
            median_time_past_at: &|_| 0,
            signatures: &self.signatures,
            now: self.now,
        };
        let result = work(&mut self.mempool, &context);
        self.check();
        result
    }

    fn accept(&mut self, transaction: &Transaction) -> Result<Accepted, Rejection> {
        let transaction = Arc::new(transaction.clone());
        self.with(|mempool, cx| mempool.accept(transaction, cx))
    }

    fn check(&self) {
        self.mempool.check_itself();
    }

    fn connect(&mut self, transactions: &[&Transaction]) {
        let txids: Vec<Txid> = transactions.iter().map(|transaction| transaction.compute_txid()).collect();
        for (txid, transaction) in txids.iter().zip(transactions) {
            for input in &transaction.input {
                self.coins.0.remove(&input.previous_output);
            }
            for (vout, output) in (0u32..).zip(&transaction.output) {
                let coin = Coin { output: output.clone(), height: self.height + 1, is_coinbase: false };
                self.coins.0.insert(OutPoint { txid: *txid, vout }, coin);
            }
        }
        self.height += 1;
        self.mempool.block_connected(txids.iter().zip(transactions.iter().copied()), self.now);
        self.check();
    }

    /// Txids in the order of a template.
    fn order(&self) -> Vec<Txid> {
        self.mempool.chunks().flat_map(|chunk| chunk.entries).map(|entry| entry.txid).collect()
    }
}

#[test]
fn a_child_lifts_its_parent_in_the_order() {
    let mut world = World::new(Policy::default());
    let (a, b) = (world.coin(0), world.coin(1));
    let parent = spend(&[a], 1, COIN - 20);
    let child = spend(&[output(&parent, 0)], 1, COIN - 10_020);
    let other = spend(&[b], 1, COIN - 1_000);
    for transaction in [&parent, &other, &child] {
        world.accept(transaction).unwrap();
    }
    assert_eq!(world.order(), [&parent, &child, &other].map(Transaction::compute_txid));
    let entry = world.mempool.entry(&parent.compute_txid()).unwrap();
    assert_eq!(world.mempool.chunk(entry).fee, 10_020);
    assert_eq!(world.mempool.descendants(entry).count, 2);
}

#[test]
fn a_block_takes_its_transactions_and_what_conflicts() {
    let mut world = World::new(Policy::default());
    let (a, b) = (world.coin(0), world.coin(1));
    let kept = spend(&[a], 1, COIN - 1_000);
    let child = spend(&[output(&kept, 0)], 1, COIN - 2_000);
    let loser = spend(&[b], 1, COIN - 1_000);
    let orphan = spend(&[output(&loser, 0)], 1, COIN - 2_000);
    for transaction in [&kept, &child, &loser, &orphan] {
        world.accept(transaction).unwrap();
    }
    let winner = spend(&[b], 2, 400_000);
    world.connect(&[&kept, &winner]);
    assert_eq!(world.order(), [child.compute_txid()]);
    assert!(world.mempool.entry(&child.compute_txid()).unwrap().parents.is_empty());
}

#[test]
fn what_comes_back_from_a_block_finds_its_children() {
    let mut world = World::new(Policy::default());
    let a = world.coin(0);
    let parent = spend(&[a], 2, 400_000);
    world.connect(&[&parent]);
    let child = spend(&[output(&parent, 0)], 1, 300_000);
    let free = spend(&[output(&parent, 1)], 1, 390_000);
    world.accept(&child).unwrap();
    world.accept(&free).unwrap();
    // The block goes, and with it the coins that it made.
    world.height -= 1;
    world.coins.0.retain(|outpoint, _| outpoint.txid != parent.compute_txid());
    world.coin(0);
    let returned = vec![Arc::new(parent.clone())];
    world.with(|mempool, cx| mempool.chain_reorganised(returned, cx));
    assert_eq!(world.mempool.len(), 3);
    let entry = world.mempool.entry(&parent.compute_txid()).unwrap();
    assert_eq!(world.mempool.descendants(entry).count, 3);

    // A block in which the coin went elsewhere leaves none of them.
    let other = spend(&[a], 1, COIN - 1_000);
    world.connect(&[&other]);
    assert!(world.mempool.is_empty());
}

#[test]
fn orphans_of_a_reorg_go() {
    let mut world = World::new(Policy::default());
    let a = world.coin(0);
    let parent = spend(&[a], 1, COIN - 1_000);
    world.connect(&[&parent]);
    let child = spend(&[output(&parent, 0)], 1, COIN - 2_000);
    world.accept(&child).unwrap();
    world.height -= 1;
    world.coins.0.clear();
    // Its coin is gone, too: neither can stay.
    world.with(|mempool, cx| mempool.chain_reorganised(vec![Arc::new(parent)], cx));
    assert!(world.mempool.is_empty());
}

#[test]
fn immature_and_locked_transactions_go_after_a_reorg() {
    let mut world = World::new(Policy::default());
    let (a, b) = (world.coin(0), world.coin(1));
    world.coins.0.get_mut(&a).unwrap().is_coinbase = true;
    world.height = 100;
    let mature = spend(&[a], 1, COIN - 1_000);
    world.accept(&mature).unwrap();
    let mut locked = spend(&[b], 1, COIN - 1_000);
    locked.lock_time = LockTime::from_height(100).unwrap();
    locked.input[0].sequence = Sequence::ZERO;
    world.accept(&locked).unwrap();
    world.height = 99;
    world.with(|mempool, cx| mempool.chain_reorganised(Vec::new(), cx));
    assert!(world.mempool.is_empty());
    assert_eq!(world.accept(&locked), Err(Rejection::NonFinal));
    let depth = TransactionError::PrematureSpendOfCoinbase { depth: 99 };
    assert_eq!(world.accept(&mature), Err(depth.into()));
}

#[test]
fn the_worst_go_when_space_ends_and_the_price_falls_with_time() {
    let mut world = World::new(Policy { max_bytes: 60_000, ..Policy::default() });
    let mut refused = None;
    for number in 0..200 {
        let coin = world.coin(number);
        let transaction = spend(&[coin], 1, COIN - 100 - u64::from(number) * 10);
        if let Err(error) = world.accept(&transaction) {
            refused = Some((number, error));
        }
    }
    assert_eq!(refused, None, "each paid more than those before it");
    assert!(world.mempool.usage() <= 60_000 && world.mempool.len() > 20);
    let price = world.mempool.rolling_feerate();
    assert!(price > 100);
    let coin = world.coin(1_000);
    let cheap = spend(&[coin], 1, COIN - 100);
    assert!(matches!(world.accept(&cheap), Err(Rejection::MempoolMinFee { .. })));
    world.now += 24 * HOUR;
    assert_eq!(world.mempool.rolling_feerate(), price, "without a block nothing changes");
    world.connect(&[]);
    world.now += 12 * HOUR;
    assert!(matches!(world.accept(&cheap), Err(Rejection::MempoolMinFee { .. })));
    assert!(world.mempool.rolling_feerate().abs_diff(price / 2) <= price / 2);
    world.now += 30 * 24 * HOUR;
    world.mempool.decay(world.now);
    assert_eq!(world.mempool.rolling_feerate(), 0);
}

#[test]
fn the_old_go_with_their_children() {
    let mut world = World::new(Policy::default());
    let (a, b) = (world.coin(0), world.coin(1));
    let old = spend(&[a], 1, COIN - 1_000);
    world.accept(&old).unwrap();
    world.now += 300 * HOUR;
    world.accept(&spend(&[output(&old, 0)], 1, COIN - 2_000)).unwrap();
    world.now += 37 * HOUR;
    let young = spend(&[b], 1, COIN - 1_000);
    world.accept(&young).unwrap();
    assert_eq!(world.order(), [young.compute_txid()]);
}

fn version_three(mut transaction: Transaction) -> Transaction {
    transaction.version = transaction::Version(3);
    transaction
}

#[test]
fn version_three_is_one_parent_and_one_small_child() {
    let mut world = World::new(Policy::default());
    let a = world.coin(0);
    let parent = version_three(spend(&[a], 2, 400_000));
    world.accept(&parent).unwrap();
    let reason = |error: Rejection| match error {
        Rejection::Truc(error) => error.to_string(),
        other => panic!("{other}"),
    };
    let plain = spend(&[output(&parent, 0)], 1, 390_000);
    assert!(reason(world.accept(&plain).unwrap_err()).starts_with("non-version=3 tx"));
    let big = version_three(spend(&[output(&parent, 0)], 30, 10_000));
    assert!(reason(world.accept(&big).unwrap_err()).contains("is too big"));
    let child = version_three(plain);
    world.accept(&child).unwrap();
    let grandchild = version_three(spend(&[output(&child, 0)], 1, 380_000));
    assert!(reason(world.accept(&grandchild).unwrap_err()).contains("too many ancestors"));
    // A sibling must pay like a replacement, and then takes the child's place.
    let poor = version_three(spend(&[output(&parent, 1)], 1, 391_000));
    assert_eq!(world.accept(&poor).unwrap_err().reason(), "insufficient fee (including sibling eviction)");
    let rich = version_three(spend(&[output(&parent, 1)], 1, 300_000));
    assert_eq!(world.accept(&rich).unwrap().replaced_txids(), [child.compute_txid()]);
}

#[test]
fn ephemeral_dust_is_free_and_must_be_spent() {
    let mut world = World::new(Policy { min_relay_feerate: 0, ..Policy::default() });
    let (a, b) = (world.coin(0), world.coin(1));
    let anchor = TxOut { value: Amount::from_sat(0), script_pubkey: ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73]) };
    let mut paying = version_three(spend(&[a], 1, COIN - 500));
    paying.output.push(anchor.clone());
    assert_eq!(world.accept(&paying), Err(Rejection::DustWithFee));
    let mut free = version_three(spend(&[a], 1, COIN));
    free.output.push(anchor);
    world.accept(&free).unwrap();
    let careless = version_three(spend(&[output(&free, 0)], 1, COIN - 1_000));
    assert_eq!(world.accept(&careless).unwrap_err().reason(), "missing-ephemeral-spends");
    let mut careful = version_three(spend(&[output(&free, 1), b], 1, COIN - 1_000));
    careful.input[0].witness.clear();
    world.accept(&careful).unwrap();
}

#[test]
fn a_replacement_must_not_spend_what_it_replaces() {
    let mut world = World::new(Policy::default());
    let a = world.coin(0);
    let first = spend(&[a], 1, COIN - 200);
    world.accept(&first).unwrap();
    let both = spend(&[a, output(&first, 0)], 1, COIN - 100_000);
    assert_eq!(world.accept(&both).unwrap_err().reason(), "bad-txns-spends-conflicting-tx");
}

#[test]
fn packages_are_tested_and_leave_nothing() {
    let mut world = World::new(Policy::default());
    let a = world.coin(0);
    let parent = spend(&[a], 1, COIN - 1_000);
    let child = spend(&[output(&parent, 0)], 1, COIN - 2_000);
    let package: Vec<_> = [&parent, &child].into_iter().cloned().map(Arc::new).collect();
    assert_eq!(check_package(&package), Ok(()));
    let report = world.with(|mempool, cx| mempool.test_package(&package, cx));
    assert_eq!((report.error, report.results.len()), (None, 2));
    assert!(world.mempool.is_empty());
    let reversed: Vec<_> = package.iter().rev().cloned().collect();
    assert_eq!(check_package(&reversed), Err(PackageError::NotSorted));
    let twice = vec![Arc::clone(&package[0]), Arc::clone(&package[0])];
    assert_eq!(check_package(&twice), Err(PackageError::Duplicates));
    let conflict = vec![Arc::new(spend(&[a], 1, 1_000)), Arc::clone(&package[0])];
    assert_eq!(check_package(&conflict), Err(PackageError::Conflict));
}

/// What may happen to a mempool.
#[derive(Debug, Clone)]
enum Step {
    Send { inputs: Vec<usize>, outputs: usize, fee: u64 },
    Mine { chunks: usize },
    Wait { hours: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = (prop::collection::vec(any::<usize>(), 1..4), 1usize..4, 0..50_000u64);
    let step = prop_oneof![
        20 => send.prop_map(|(inputs, outputs, fee)| Step::Send { inputs, outputs, fee }),
        1 => (0usize..10).prop_map(|chunks| Step::Mine { chunks }),
        1 => (1..100i64).prop_map(|hours| Step::Wait { hours }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever comes, in whichever order: the indexes agree with the entries (see `World::check`).
    #[test]
    fn indexes_agree_after_every_step(steps in steps()) {
        let mut world = World::new(Policy { max_bytes: 100_000, ..Policy::default() });
        let mut known: Vec<(OutPoint, u64)> = (0..10).map(|number| (world.coin(number), COIN)).collect();
        for step in steps {
            match step {
                Step::Send { inputs, outputs, fee } => {
                    let mut from: Vec<(OutPoint, u64)> = inputs.iter().map(|index| known[index % known.len()]).collect();
                    from.sort_unstable();
                    from.dedup();
                    let total: u64 = from.iter().map(|(_, value)| value).sum();
                    let value = total.saturating_sub(fee) / outputs as u64;
                    let outpoints: Vec<OutPoint> = from.iter().map(|(outpoint, _)| *outpoint).collect();
                    let transaction = spend(&outpoints, outputs, value);
                    if world.accept(&transaction).is_ok() {
                        known.extend((0u32..).take(outputs).map(|vout| (output(&transaction, vout), value)));
                    }
                }
                Step::Mine { chunks } => {
                    let chunks = world.mempool.chunks().take(chunks);
                    let mined: Vec<Transaction> =
                        chunks.flat_map(|chunk| chunk.entries).map(|entry| Transaction::clone(&entry.transaction)).collect();
                    world.connect(&mined.iter().collect::<Vec<_>>());
                }
                Step::Wait { hours } => world.now += hours * HOUR,
            }
        }
    }
}
