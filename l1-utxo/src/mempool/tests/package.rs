//! Lists of transactions: after `rpc_packages.py`, `mempool_package_rbf.py`, `mempool_ephemeral_dust.py`,
//! `mempool_truc.py` and `mempool_limit.py`.

use super::*;

/// Name, what happens, how the word on the list begins, and how those on each transaction do.
pub(super) type Case = (&'static str, fn(&mut World) -> Spoken, &'static str, &'static [&'static str]);

/// The word on the list, and on each transaction.
pub(super) type Spoken = (String, Vec<String>);

pub(super) fn arcs(list: &[&Transaction]) -> Vec<Arc<Transaction>> {
    list.iter().map(|transaction| Arc::new(Transaction::clone(transaction))).collect()
}

pub(super) fn spoken(list: &[&Transaction], report: PackageReport) -> Spoken {
    let words = list.iter().map(|transaction| match report.results.get(&transaction.compute_wtxid()) {
        None => "-".to_owned(),
        Some(PackageResult::Accepted(accepted)) if accepted.effective_includes.len() > 1 => "together".to_owned(),
        Some(PackageResult::Accepted(_)) => "ok".to_owned(),
        Some(PackageResult::Refused(rejection)) => rejection.to_string(),
        Some(PackageResult::Known { .. }) => "known".to_owned(),
        Some(PackageResult::OtherWitness(_)) => "other witness".to_owned(),
    });
    let words = words.collect();
    (report.error.map_or_else(|| "success".to_owned(), |error| error.to_string()), words)
}

fn submit(world: &mut World, list: &[&Transaction]) -> Spoken {
    let package = arcs(list);
    let report = world.with(|mempool, cx| mempool.submit_package(&package, None, cx));
    spoken(list, report)
}

/// A parent that pays `parent_fee`, and its child that pays `child_fee`.
pub(super) fn family(coin: OutPoint, version: i32, parent_fee: u64, child_fee: u64) -> (Transaction, Transaction) {
    let mut parent = spend(&[coin], 1, COIN - parent_fee);
    parent.version.0 = version;
    let mut child = spend(&[output(&parent, 0)], 1, COIN - parent_fee - child_fee);
    child.version.0 = version;
    (parent, child)
}

/// A free parent with dust, and a child that spends both of its outputs.
fn with_dust(coin: OutPoint, dust: u64, child_fee: u64) -> (Transaction, Transaction) {
    let mut parent = version_three(spend(&[coin], 1, COIN - dust));
    let anchor = ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73]);
    parent.output.push(TxOut { value: Amount::from_sat(dust), script_pubkey: anchor });
    let mut child = version_three(spend(&[output(&parent, 0), output(&parent, 1)], 1, COIN - child_fee));
    child.input[1].witness.clear();
    (parent, child)
}

const SUBMITTED: &[Case] = &[
    (
        "one alone",
        |world| {
            let coin = world.coin(0);
            submit(world, &[&spend(&[coin], 1, COIN - 1_000)])
        },
        "success",
        &["ok"],
    ),
    (
        "one alone, free",
        |world| {
            let coin = world.coin(0);
            submit(world, &[&spend(&[coin], 1, COIN)])
        },
        "transaction failed",
        &["min relay fee not met, 0 < 10"],
    ),
    (
        "each for itself",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 1_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["ok", "ok"],
    ),
    (
        "a child that pays for its parent",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 0, 1_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["together", "together"],
    ),
    (
        "a child that does not pay enough",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 0, 15);
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["min relay fee not met, 0 < 10", "min relay fee not met, 15 <"],
    ),
    (
        "a free child of a rich parent",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 0);
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["ok", "min relay fee not met, 0 < 10"],
    ),
    (
        "once more",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 0, 1_000);
            submit(world, &[&parent, &child]);
            submit(world, &[&parent, &child])
        },
        "success",
        &["known", "known"],
    ),
    (
        "with a parent that is here",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 1_000);
            world.accept(&parent).unwrap();
            submit(world, &[&parent, &child])
        },
        "success",
        &["known", "ok"],
    ),
    (
        "with another witness of the parent",
        |world| {
            let coin = world.coin(0);
            let (mut parent, child) = family(coin, 2, 1_000, 1_000);
            world.accept(&parent).unwrap();
            parent.input[0].witness.push([1]);
            submit(world, &[&parent, &child])
        },
        "success",
        &["other witness", "ok"],
    ),
    (
        "two parents, one of them free",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            let (free, paid) = (spend(&[a], 1, COIN), spend(&[b], 1, COIN - 1_000));
            let child = spend(&[output(&free, 0), output(&paid, 0)], 1, COIN);
            submit(world, &[&free, &paid, &child])
        },
        "success",
        &["together", "ok", "together"],
    ),
    (
        "the child first",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 1_000);
            submit(world, &[&child, &parent])
        },
        "package-not-sorted",
        &["-", "-"],
    ),
    (
        "one twice",
        |world| {
            let coin = world.coin(0);
            let (parent, _) = family(coin, 2, 1_000, 1_000);
            submit(world, &[&parent, &parent])
        },
        "package-contains-duplicates",
        &["-", "-"],
    ),
    (
        "a coin twice",
        |world| {
            let coin = world.coin(0);
            submit(world, &[&spend(&[coin], 1, COIN - 1_000), &spend(&[coin], 1, COIN - 2_000)])
        },
        "conflict-in-package",
        &["-", "-"],
    ),
    (
        "strangers",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            submit(world, &[&spend(&[a], 1, COIN - 1_000), &spend(&[b], 1, COIN - 2_000)])
        },
        "package-not-child-with-parents",
        &["-", "-"],
    ),
    (
        "too heavy",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 2_000, 400);
            let spent: Vec<OutPoint> = (0..600).map(|vout| output(&parent, vout)).collect();
            submit(world, &[&parent, &spend(&spent, 2_000, 100)])
        },
        "package-too-large",
        &["-", "-"],
    ),
    (
        "a parent that is not standard",
        |world| {
            let coin = world.coin(0);
            let (mut parent, _) = family(coin, 2, 0, 1_000);
            parent.version.0 = 4;
            let child = spend(&[output(&parent, 0)], 1, COIN - 1_000);
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["version", "bad-txns-inputs-missingorspent"],
    ),
    (
        "a child that is not standard",
        |world| {
            let coin = world.coin(0);
            let (parent, mut child) = family(coin, 2, 1_000, 1_000);
            child.version.0 = 4;
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["ok", "version"],
    ),
    (
        "a child whose script fails",
        |world| {
            let coin = world.coin(0);
            let (parent, mut child) = family(coin, 2, 0, 1_000);
            child.input[0].witness.clear();
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["min relay fee not met", "mempool-script-verify-flag-failed (Witness program was passed an empty witness)"],
    ),
    (
        "a child of a parent that is nowhere",
        |world| {
            let coin = world.coin(0);
            let (_, child) = family(coin, 2, 1_000, 1_000);
            submit(world, &[&child])
        },
        "transaction failed",
        &["bad-txns-inputs-missingorspent"],
    ),
    (
        "a pair for a pair",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 3, 0, 1_000);
            submit(world, &[&parent, &child]);
            // Another parent, and a child that pays more.
            let mut parent = spend(&[coin], 2, COIN / 2);
            parent.version.0 = 3;
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN / 2 - 5_000));
            let said = submit(world, &[&parent, &child]);
            assert_eq!(world.mempool.len(), 2);
            said
        },
        "success",
        &["together", "together"],
    ),
    (
        "a pair that pays less than what it replaces",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 3, 0, 3_000);
            submit(world, &[&parent, &child]);
            let mut parent = spend(&[coin], 2, COIN / 2);
            parent.version.0 = 3;
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN / 2 - 2_999));
            submit(world, &[&parent, &child])
        },
        "package RBF failed: insufficient anti-DoS fees, rejecting replacement",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "a pair whose parent is the better part",
        |world| {
            let coin = world.coin(0);
            let first = spend(&[coin], 1, COIN - 3_000);
            world.accept(&first).unwrap();
            let parent = spend(&[coin], 2, (COIN - 2_900) / 2);
            let child = spend(&[output(&parent, 0)], 1, (COIN - 2_900) / 2 - 200);
            submit(world, &[&parent, &child])
        },
        "package RBF failed: package feerate is less than or equal to parent feerate, package feerate",
        &["insufficient fee", "bad-txns-inputs-missingorspent"],
    ),
    (
        "a pair that is larger and no better",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            world.accept(&spend(&[a], 1, COIN - 3_000)).unwrap();
            let parent = spend(&[a], 40, COIN / 40);
            let child = spend(&[output(&parent, 0), b], 40, (COIN / 40 + COIN - 3_900) / 40);
            submit(world, &[&parent, &child])
        },
        "package RBF failed: insufficient feerate: does not improve feerate diagram",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "three in place of one",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            world.accept(&spend(&[a], 1, COIN - 1_000)).unwrap();
            let (first, second) = (spend(&[a], 1, COIN), spend(&[b], 1, COIN));
            let child = spend(&[output(&first, 0), output(&second, 0)], 1, COIN);
            submit(world, &[&first, &second, &child])
        },
        "package RBF failed: package must be 1-parent-1-child",
        &["min relay fee not met", "min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "a pair with a parent here in place of one",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            world.accept(&spend(&[a], 1, COIN - 1_000)).unwrap();
            let here = spend(&[b], 1, COIN - 1_000);
            world.accept(&here).unwrap();
            let parent = spend(&[a, output(&here, 0)], 1, 2 * COIN - 1_000);
            let child = spend(&[output(&parent, 0)], 1, COIN);
            submit(world, &[&parent, &child])
        },
        "package RBF failed: new transaction cannot have mempool ancestors",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "version 3, the parent free",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 3, 0, 1_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["together", "together"],
    ),
    (
        "version 3, a large child",
        |world| {
            let coin = world.coin(0);
            let parent = version_three(spend(&[coin], 1, COIN));
            let child = version_three(spend(&[output(&parent, 0)], 40, 20_000));
            submit(world, &[&parent, &child])
        },
        "TRUC-violation, version=3 child tx",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "version 3 under version 2",
        |world| {
            let coin = world.coin(0);
            let (parent, _) = family(coin, 3, 0, 1_000);
            let child = spend(&[output(&parent, 0)], 1, COIN - 1_000);
            submit(world, &[&parent, &child])
        },
        "TRUC-violation, non-version=3 tx",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "version 3 above version 2",
        |world| {
            let coin = world.coin(0);
            let (parent, _) = family(coin, 2, 0, 1_000);
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN - 1_000));
            submit(world, &[&parent, &child])
        },
        "TRUC-violation, version=3 tx",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "version 3, a third generation",
        |world| {
            let coin = world.coin(0);
            let grandparent = version_three(spend(&[coin], 1, COIN - 1_000));
            world.accept(&grandparent).unwrap();
            let parent = version_three(spend(&[output(&grandparent, 0)], 1, COIN - 1_000));
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN - 3_000));
            submit(world, &[&parent, &child])
        },
        "TRUC-violation, tx",
        &["min relay fee not met", "bad-txns-inputs-missingorspent"],
    ),
    (
        "dust that is spent at once",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = with_dust(coin, 0, 1_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["together", "together"],
    ),
    (
        "dust of 239 that is spent at once",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = with_dust(coin, 239, 1_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["together", "together"],
    ),
    (
        "dust that is not spent",
        |world| {
            let coin = world.coin(0);
            let (parent, mut child) = with_dust(coin, 0, 1_000);
            child.input.pop();
            submit(world, &[&parent, &child])
        },
        "unspent-dust",
        &["min relay fee not met", "missing-ephemeral-spends, tx"],
    ),
    (
        "dust with a fee",
        |world| {
            let coin = world.coin(0);
            let (mut parent, _) = with_dust(coin, 0, 1_000);
            parent.output[0].value -= Amount::from_sat(100);
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN - 2_000));
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["dust, tx with dust output must be 0-fee", "bad-txns-inputs-missingorspent"],
    ),
    (
        "dust with a fee that its owner takes back",
        |world| {
            let coin = world.coin(0);
            let (mut parent, _) = with_dust(coin, 0, 1_000);
            parent.output[0].value -= Amount::from_sat(100);
            let (child, txid) = (version_three(spend(&[output(&parent, 0)], 1, COIN - 2_000)), parent.compute_txid());
            world.with(|mempool, _| mempool.prioritise(txid, -100)).unwrap();
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["dust, tx with dust output must be 0-fee", "bad-txns-inputs-missingorspent"],
    ),
    (
        "two pieces of dust",
        |world| {
            let coin = world.coin(0);
            let (mut parent, _) = with_dust(coin, 0, 1_000);
            parent.output.push(parent.output[1].clone());
            let child = version_three(spend(&[output(&parent, 0)], 1, COIN - 2_000));
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["dust", "bad-txns-inputs-missingorspent"],
    ),
    (
        "a full mempool, a pair that pays",
        |world| {
            world.fill();
            let coin = world.coin(9_000);
            let (parent, child) = family(coin, 2, 0, 200_000);
            submit(world, &[&parent, &child])
        },
        "success",
        &["together", "together"],
    ),
    (
        "a full mempool, a pair that does not pay",
        |world| {
            world.fill();
            let coin = world.coin(9_000);
            let (parent, child) = family(coin, 2, 0, 200);
            submit(world, &[&parent, &child])
        },
        "transaction failed",
        &["mempool min fee not met, 0 <", "mempool min fee not met, 200 <"],
    ),
];

impl World {
    /// Until the worst had to go.
    fn fill(&mut self) {
        self.mempool.policy.max_bytes = 40_000;
        for number in 0..60 {
            let coin = self.coin(number);
            drop(self.accept(&spend(&[coin], 1, COIN - 1_000 - u64::from(number) * 10)));
        }
        assert!(self.mempool.rolling_feerate() > 1_000);
    }
}

pub(super) fn run(cases: &[Case], policy: Policy) {
    for (name, happens, error, each) in cases {
        let mut world = World::new(policy);
        let (said, words) = happens(&mut world);
        expect(name, &said, error);
        assert_eq!(words.len(), each.len(), "{name}: {words:?}");
        for (word, expected) in words.iter().zip(*each) {
            expect(name, word, expected);
        }
    }
}

#[test]
fn packages_get_cores_words() {
    run(SUBMITTED, Policy::default());
}

#[test]
fn the_callers_limit_counts_for_each() {
    let mut world = World::new(Policy::default());
    let coin = world.coin(0);
    let (parent, child) = family(coin, 2, 0, 50_000);
    let package = arcs(&[&parent, &child]);
    let report = world.with(|mempool, cx| mempool.submit_package(&package, Some(100_000), cx));
    let (error, words) = spoken(&[&parent, &child], report);
    assert_eq!((error.as_str(), words[1].as_str()), ("transaction failed", "max feerate exceeded"));
    assert!(world.mempool.is_empty());
}

#[test]
fn a_package_says_what_it_replaced_and_at_which_feerate() {
    let mut world = World::new(Policy::default());
    let coin = world.coin(0);
    let old = spend(&[coin], 1, COIN - 200);
    world.accept(&old).unwrap();
    let (parent, child) = family(coin, 2, 0, 3_000);
    let package = arcs(&[&parent, &child]);
    let report = world.with(|mempool, cx| mempool.submit_package(&package, None, cx));
    let Some(PackageResult::Accepted(first)) = report.results.get(&parent.compute_wtxid()) else {
        panic!("{report:?}")
    };
    assert_eq!(first.replaced_txids(), [old.compute_txid()]);
    assert_eq!(first.effective_includes, [parent.compute_wtxid(), child.compute_wtxid()]);
    let vsize = (parent.vsize() + child.vsize()) as i64;
    assert_eq!(first.effective_feerate, 3_000_000 / vsize);
}
