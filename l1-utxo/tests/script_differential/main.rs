//! Our interpreter against Bitcoin Core's (the crate `bitcoinconsensus`): the same random spends, the same verdicts.
//!
//! Every case is made from a seed of its own, which a failure prints; `SCRIPT_SEED=N cargo test -p l1-utxo --test
//! script_differential` replays it. Signatures are made over the hashes of the crate `bitcoin`, a third opinion.
//! The long form, every spend under every set of flags:
//!
//!     SCRIPT_CASES=100000 SCRIPT_SETS=all cargo test --release -p l1-utxo --test script_differential -- --nocapture

mod limit;
mod lock;
mod mutation;
mod signing;
mod soup;
mod spend;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bitcoin::consensus::serialize;
use bitcoinconsensus::{Utxo, verify_with_flags};
use l1_utxo::consensus::script::{ScriptFlags, SignatureCache, TransactionCache, verify_input};
use rand::Rng as _;
use rand::SeedableRng as _;
use rayon::prelude::*;
use spend::{Case, Kind};

/// What the test draws from.
pub type Rng = rand_chacha::ChaCha8Rng;

/// Spends in the short form, each under the rules of blocks and two other sets of flags.
const CASES: u64 = 20_000;

/// How many spends; `SCRIPT_CASES` says otherwise.
static WANTED: LazyLock<u64> =
    LazyLock::new(|| std::env::var("SCRIPT_CASES").ok().map_or(CASES, |count| count.parse().expect("a number")));
/// Whether every spend is tried under every set.
static ALL_SETS: LazyLock<bool> = LazyLock::new(|| std::env::var("SCRIPT_SETS").is_ok_and(|sets| sets == "all"));

/// Every set of flags that the library knows and does not abort on: it insists on P2SH under WITNESS.
static FLAG_SETS: LazyLock<Vec<ScriptFlags>> = LazyLock::new(|| {
    let all = ScriptFlags::CONSENSUS;
    let sets = (0..=all.bits()).filter(|bits| bits & !all.bits() == 0).map(ScriptFlags::from_bits_truncate);
    sets.filter(|set| set.contains(ScriptFlags::P2SH) || !set.contains(ScriptFlags::WITNESS)).collect()
});

/// Verdicts under the rules of blocks, by kind of spend: rejected, accepted.
type Verdicts = BTreeMap<Kind, [u32; 2]>;

#[test]
fn agrees_with_bitcoin_core() {
    if let Some(seed) = std::env::var("SCRIPT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:#?}", run(seed));
        return;
    }
    let add = |mut sum: Verdicts, more: Verdicts| {
        for (kind, [rejected, accepted]) in more {
            let verdicts = sum.entry(kind).or_default();
            verdicts[0] += rejected;
            verdicts[1] += accepted;
        }
        sum
    };
    let cases = *WANTED;
    let verdicts = (0..cases).into_par_iter().map(run).reduce(Verdicts::new, add);
    let sum = |index: usize| verdicts.values().map(|verdicts| verdicts[index]).sum::<u32>();
    let sets = if *ALL_SETS { FLAG_SETS.len() } else { 3 };
    println!("{cases} spends under {sets} sets each, {} invalid and {} valid: {verdicts:?}", sum(0), sum(1));
    for kind in Kind::ALL {
        let [rejected, accepted] = verdicts.get(kind).copied().unwrap_or_default();
        // Below a twentieth a kind would hardly be tested on that side.
        assert!(rejected * 20 > accepted && accepted * 20 > rejected, "{kind:?}: {rejected} no, {accepted} yes");
    }
    assert_eq!(FLAG_SETS.len(), 96);
}

/// Makes the case of this seed and compares verdicts under the rules of blocks and three other sets of flags.
fn run(seed: u64) -> Verdicts {
    let mut rng = Rng::seed_from_u64(seed);
    let kind = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
    let mut case = spend::make(kind, &mut rng);
    if rng.random_bool(0.5) {
        mutation::mutate(&mut case, &mut rng);
    }
    let mut verdicts = Verdicts::new();
    let cache = SignatureCache::new(1 << 16, [7; 32]);
    let accepted = compare(&case, ScriptFlags::CONSENSUS, &cache, seed);
    verdicts.entry(kind).or_default()[usize::from(accepted)] += 1;
    // The first cases go through all sets in turn, so that none is left out.
    let sets = [
        FLAG_SETS[(seed / Kind::ALL.len() as u64 % FLAG_SETS.len() as u64) as usize],
        FLAG_SETS[rng.random_range(0..FLAG_SETS.len())],
    ];
    for flags in if *ALL_SETS { &FLAG_SETS[..] } else { &sets } {
        compare(&case, *flags, &cache, seed);
    }
    let plain = TransactionCache::new(&case.transaction, case.prevouts.iter().collect());
    if verify_input(&plain, case.index, ScriptFlags::STANDARD).is_ok() {
        assert!(accepted, "seed {seed}: standard, but not valid: {case:?}");
    }
    verdicts
}

fn compare(case: &Case, flags: ScriptFlags, signatures: &SignatureCache, seed: u64) -> bool {
    let spent = &case.prevouts[case.index];
    let utxos: Vec<Utxo> = case
        .prevouts
        .iter()
        .map(|prevout| Utxo {
            script_pubkey: prevout.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: prevout.script_pubkey.len() as u32,
            value: prevout.value.to_sat() as i64,
        })
        .collect();
    let theirs = verify_with_flags(
        spent.script_pubkey.as_bytes(),
        spent.value.to_sat(),
        &serialize(&case.transaction),
        Some(&utxos),
        case.index,
        flags.bits(),
    );
    if let Err(error) = theirs {
        assert_eq!(error, bitcoinconsensus::Error::ERR_SCRIPT, "seed {seed}: no verdict on {case:?}");
    }
    let plain = TransactionCache::new(&case.transaction, case.prevouts.iter().collect());
    let ours = verify_input(&plain, case.index, flags);
    assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "seed {seed}, {:?}: ours {ours:?}, {case:#?}",
        flags.names().collect::<Vec<_>>()
    );
    let cached = plain.with_signature_cache(signatures);
    assert_eq!(verify_input(&cached, case.index, flags), ours, "seed {seed}: the signature cache changes the verdict");
    ours.is_ok()
}
