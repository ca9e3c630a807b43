//! What may take the place of what: after `feature_rbf.py` and `mempool_cluster.py`.

use super::*;

/// Name, what happens, and how the last word begins.
type Case = (&'static str, fn(&mut World) -> String, &'static str);

/// Spends to one output of the value less `fee`.
fn one(world: &mut World, from: &[OutPoint], value: u64, fee: u64) -> (Transaction, String) {
    let transaction = spend(from, 1, value - fee);
    let said = said(world.accept(&transaction));
    (transaction, said)
}

/// A chain of transactions on a coin, each paying `fee`.
fn chain(world: &mut World, coin: OutPoint, count: usize, fee: u64) -> (OutPoint, String) {
    let (mut from, mut value, mut last) = (coin, COIN, String::new());
    for _ in 0..count {
        let (transaction, said) = one(world, &[from], value, fee);
        (from, value, last) = (output(&transaction, 0), value - fee, said);
    }
    (from, last)
}

fn again(first_fee: u64, second_fee: u64) -> impl Fn(&mut World) -> String {
    move |world| {
        let coin = world.coin(0);
        one(world, &[coin], COIN, first_fee);
        one(world, &[coin], COIN, second_fee).1
    }
}

const CASES: &[Case] = &[
    (
        "the same once more",
        |world| {
            let coin = world.coin(0);
            one(world, &[coin], COIN, 1_000);
            one(world, &[coin], COIN, 1_000).1
        },
        "txn-already-in-mempool",
    ),
    (
        "the same with another witness",
        |world| {
            let coin = world.coin(0);
            let (mut transaction, _) = one(world, &[coin], COIN, 1_000);
            transaction.input[0].witness.push([1]);
            said(world.accept(&transaction))
        },
        "txn-same-nonwitness-data-in-mempool",
    ),
    ("less", |world| again(1_000, 999)(world), "insufficient fee, rejecting replacement"),
    ("a little more", |world| again(1_000, 1_009)(world), "insufficient fee, rejecting replacement"),
    ("enough more", |world| again(1_000, 1_010)(world), "ok"),
    (
        "no signal is needed",
        |world| {
            let coin = world.coin(0);
            let mut first = spend(&[coin], 1, COIN - 1_000);
            first.input[0].sequence = Sequence::MAX;
            world.accept(&first).unwrap();
            one(world, &[coin], COIN, 3_000).1
        },
        "ok",
    ),
    (
        "less than a whole family",
        |world| {
            let coin = world.coin(0);
            chain(world, coin, 3, 1_000);
            one(world, &[coin], COIN, 2_999).1
        },
        "insufficient fee, rejecting replacement",
    ),
    (
        "as much as a whole family and itself",
        |world| {
            let coin = world.coin(0);
            chain(world, coin, 3, 1_000);
            let said = one(world, &[coin], COIN, 3_010).1;
            assert_eq!(world.mempool.len(), 1);
            said
        },
        "ok",
    ),
    (
        "more, but a worse feerate",
        |world| {
            let coin = world.coin(0);
            one(world, &[coin], COIN, 2_000);
            said(world.accept(&spend(&[coin], 30, (COIN - 2_500) / 30)))
        },
        "replacement-failed, insufficient feerate: does not improve feerate diagram",
    ),
    (
        "a better feerate on a poor parent",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            let poor = spend(&[a], 25, (COIN - 120) / 25);
            world.accept(&poor).unwrap();
            one(world, &[b], COIN, 2_000);
            let value = poor.output[0].value.to_sat();
            said(world.accept(&spend(&[b, output(&poor, 0)], 1, COIN + value - 3_000)))
        },
        "replacement-failed",
    ),
    (
        "what it spends",
        |world| {
            let coin = world.coin(0);
            let (first, _) = one(world, &[coin], COIN, 1_000);
            one(world, &[coin, output(&first, 0)], 2 * COIN - 1_000, 50_000).1
        },
        "bad-txns-spends-conflicting-tx",
    ),
    (
        "what its parent spends",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            let (first, _) = one(world, &[a], COIN, 1_000);
            let (second, _) = one(world, &[output(&first, 0), b], 2 * COIN - 1_000, 1_000);
            one(world, &[a, output(&second, 0)], 3 * COIN - 2_000, 50_000).1
        },
        "bad-txns-spends-conflicting-tx",
    ),
    (
        "a hundred clusters",
        |world| {
            let coins: Vec<OutPoint> = (0..100).map(|number| world.coin(number)).collect();
            for coin in &coins {
                one(world, &[*coin], COIN, 100);
            }
            one(world, &coins, 100 * COIN, 100_000).1
        },
        "ok",
    ),
    (
        "a hundred and one clusters",
        |world| {
            let coins: Vec<OutPoint> = (0..101).map(|number| world.coin(number)).collect();
            for coin in &coins {
                one(world, &[*coin], COIN, 100);
            }
            one(world, &coins, 101 * COIN, 100_000).1
        },
        "too many potential replacements, rejecting replacement",
    ),
    (
        "more than a hundred transactions of few clusters",
        |world| {
            let coins: Vec<OutPoint> = (0..3).map(|number| world.coin(number)).collect();
            for coin in &coins {
                chain(world, *coin, 50, 100);
            }
            let said = one(world, &coins, 3 * COIN, 100_000).1;
            assert_eq!(world.mempool.len(), 1);
            said
        },
        "ok",
    ),
    (
        "64 in a line",
        |world| {
            let coin = world.coin(0);
            chain(world, coin, 64, 100).1
        },
        "ok",
    ),
    (
        "65 in a line",
        |world| {
            let coin = world.coin(0);
            chain(world, coin, 65, 100).1
        },
        "too-large-cluster",
    ),
    (
        "64 children and their parent",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 64, 10_000);
            world.accept(&parent).unwrap();
            let mut last = String::new();
            for vout in 0..64 {
                last = one(world, &[output(&parent, vout)], 10_000, 100).1;
            }
            last
        },
        "too-large-cluster",
    ),
    (
        "the 64th in place of the 64th",
        |world| {
            let coin = world.coin(0);
            let (end, _) = chain(world, coin, 63, 100);
            one(world, &[end], COIN - 6_300, 100);
            one(world, &[end], COIN - 6_300, 5_000).1
        },
        "ok",
    ),
    (
        "two lines of 32 made one",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            let ((a, _), (b, _)) = (chain(world, a, 32, 100), chain(world, b, 32, 100));
            one(world, &[a, b], 2 * (COIN - 3_200), 1_000).1
        },
        "too-large-cluster",
    ),
    (
        "101 kvB in one cluster",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 1_170, 800);
            assert_eq!(said(world.accept(&parent)), "ok", "{}", parent.vsize());
            let mut last = "ok".to_owned();
            for vout in 0..30 {
                let child = spend(&[output(&parent, 2 * vout), output(&parent, 2 * vout + 1)], 1, 400);
                last = last.min(said(world.accept(&child)));
            }
            let rest: Vec<OutPoint> = (100..1_100).map(|vout| output(&parent, vout)).collect();
            assert_eq!(last, "ok");
            said(world.accept(&spend(&rest, 300, 2_000)))
        },
        "too-large-cluster",
    ),
    (
        "what was made dearer by its owner",
        |world| {
            let coin = world.coin(0);
            let (first, _) = one(world, &[coin], COIN, 1_000);
            let txid = first.compute_txid();
            world.with(|mempool, _| mempool.prioritise(txid, 5_000)).unwrap();
            one(world, &[coin], COIN, 5_900).1
        },
        "insufficient fee, rejecting replacement",
    ),
    (
        "what its owner made dearer",
        |world| {
            let coin = world.coin(0);
            one(world, &[coin], COIN, 1_000);
            let second = spend(&[coin], 1, COIN - 999);
            let txid = second.compute_txid();
            world.with(|mempool, _| mempool.prioritise(txid, 5_000)).unwrap();
            said(world.accept(&second))
        },
        "ok",
    ),
    (
        "free, but dear to its owner",
        |world| {
            let coin = world.coin(0);
            let free = spend(&[coin], 1, COIN);
            let txid = free.compute_txid();
            world.with(|mempool, _| mempool.prioritise(txid, 10)).unwrap();
            said(world.accept(&free))
        },
        "ok",
    ),
    (
        "paid, but not dear to its owner",
        |world| {
            let coin = world.coin(0);
            let paid = spend(&[coin], 1, COIN - 1_000);
            let txid = paid.compute_txid();
            world.with(|mempool, _| mempool.prioritise(txid, -1_001)).unwrap();
            said(world.accept(&paid))
        },
        "min relay fee not met, -1 < 10",
    ),
    (
        "a confirmed one",
        |world| {
            let coin = world.coin(0);
            let transaction = spend(&[coin], 1, COIN - 1_000);
            world.connect(&[&transaction]);
            said(world.accept(&transaction))
        },
        "txn-already-known",
    ),
    (
        "a child of nothing",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 1, COIN - 1_000);
            said(world.accept(&spend(&[output(&parent, 0)], 1, COIN - 2_000)))
        },
        "bad-txns-inputs-missingorspent",
    ),
    (
        "an output that a parent does not have",
        |world| {
            let coin = world.coin(0);
            let (parent, _) = one(world, &[coin], COIN, 1_000);
            said(world.accept(&spend(&[output(&parent, 1)], 1, COIN - 2_000)))
        },
        "bad-txns-inputs-missingorspent",
    ),
];

#[test]
fn replacements_get_cores_words() {
    for (name, happens, expected) in CASES {
        let mut world = World::new(Policy::default());
        expect(name, &happens(&mut world), expected);
    }
}

#[test]
fn details_are_cores() {
    let mut world = World::new(Policy::default());
    let coin = world.coin(0);
    one(&mut world, &[coin], COIN, 1_000);
    let poor = spend(&[coin], 1, COIN - 999);
    let details = format!(
        "insufficient fee, rejecting replacement {}, less fees than conflicting txs; 0.00000999 < 0.00001",
        poor.compute_txid()
    );
    assert_eq!(said(world.accept(&poor)), details);
    let close = spend(&[coin], 1, COIN - 1_001);
    let details = format!(
        "insufficient fee, rejecting replacement {}, not enough additional fees to relay; 0.00000001 < 0.0000001",
        close.compute_txid()
    );
    assert_eq!(said(world.accept(&close)), details);
}
