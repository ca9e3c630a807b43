//! Lists of transactions that are only tried, as `testmempoolaccept` tries them: after the same tests of Core as `package`.

use super::package::{Case, Spoken, arcs, family, run, spoken};
use super::*;

fn test(world: &mut World, list: &[&Transaction]) -> Spoken {
    let package = arcs(list);
    let before = (world.mempool.len(), world.mempool.sequence(), world.mempool.updates());
    let report = world.with(|mempool, cx| mempool.test_package(&package, cx));
    assert_eq!(before, (world.mempool.len(), world.mempool.sequence(), world.mempool.updates()), "nothing changes");
    spoken(list, report)
}

const TESTED: &[Case] = &[
    (
        "strangers",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            test(world, &[&spend(&[a], 1, COIN - 1_000), &spend(&[b], 1, COIN - 2_000)])
        },
        "success",
        &["ok", "ok"],
    ),
    (
        "a family",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 1_000);
            test(world, &[&parent, &child])
        },
        "success",
        &["ok", "ok"],
    ),
    (
        "25 in a line",
        |world| {
            let coin = world.coin(0);
            let mut line: Vec<Transaction> = vec![spend(&[coin], 1, COIN - 100)];
            for number in 2..=25 {
                line.push(spend(&[output(line.last().unwrap(), 0)], 1, COIN - 100 * number));
            }
            let (error, words) = test(world, &line.iter().collect::<Vec<_>>());
            assert!(words.iter().all(|word| word == "ok"));
            (error, Vec::new())
        },
        "success",
        &[],
    ),
    (
        "26 in a line",
        |world| {
            let coin = world.coin(0);
            let mut line: Vec<Transaction> = vec![spend(&[coin], 1, COIN - 100)];
            for number in 2..=26 {
                line.push(spend(&[output(line.last().unwrap(), 0)], 1, COIN - 100 * number));
            }
            (test(world, &line.iter().collect::<Vec<_>>()).0, Vec::new())
        },
        "package-too-many-transactions",
        &[],
    ),
    (
        "a child does not pay for its parent here",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 0, 1_000);
            test(world, &[&parent, &child])
        },
        "transaction failed",
        &["min relay fee not met", "-"],
    ),
    (
        "a bad one in the middle",
        |world| {
            let coins: Vec<OutPoint> = (0..3).map(|number| world.coin(number)).collect();
            let mut list: Vec<Transaction> = coins.iter().map(|coin| spend(&[*coin], 1, COIN - 1_000)).collect();
            list[1].version.0 = 4;
            test(world, &list.iter().collect::<Vec<_>>())
        },
        "transaction failed",
        &["-", "version", "-"],
    ),
    (
        "a bad script in the middle",
        |world| {
            let coins: Vec<OutPoint> = (0..3).map(|number| world.coin(number)).collect();
            let mut list: Vec<Transaction> = coins.iter().map(|coin| spend(&[*coin], 1, COIN - 1_000)).collect();
            list[1].input[0].witness.clear();
            test(world, &list.iter().collect::<Vec<_>>())
        },
        "transaction failed",
        &["ok", "mempool-script-verify-flag-failed", "-"],
    ),
    (
        "no replacements",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            world.accept(&spend(&[a], 1, COIN - 1_000)).unwrap();
            test(world, &[&spend(&[a], 1, COIN - 90_000), &spend(&[b], 1, COIN - 1_000)])
        },
        "transaction failed",
        &["bip125-replacement-disallowed", "-"],
    ),
    (
        "one that is here",
        |world| {
            let (a, b) = (world.coin(0), world.coin(1));
            let known = spend(&[a], 1, COIN - 1_000);
            world.accept(&known).unwrap();
            test(world, &[&known, &spend(&[b], 1, COIN - 1_000)])
        },
        "transaction failed",
        &["txn-already-in-mempool", "-"],
    ),
    (
        "the child first",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 2, 1_000, 1_000);
            test(world, &[&child, &parent])
        },
        "package-not-sorted",
        &["-", "-"],
    ),
    (
        "a coin twice",
        |world| {
            let coin = world.coin(0);
            test(world, &[&spend(&[coin], 1, COIN - 1_000), &spend(&[coin], 1, COIN - 2_000)])
        },
        "conflict-in-package",
        &["-", "-"],
    ),
    (
        "version 3, two children",
        |world| {
            let coin = world.coin(0);
            let parent = version_three(spend(&[coin], 2, 490_000));
            let children = [0, 1].map(|vout| version_three(spend(&[output(&parent, vout)], 1, 480_000)));
            test(world, &[&parent, &children[0], &children[1]])
        },
        "TRUC-violation, tx",
        &["-", "-", "-"],
    ),
    (
        "version 3, a sibling is not evicted here",
        |world| {
            let (coin, other) = (world.coin(0), world.coin(1));
            let parent = version_three(spend(&[coin], 2, 490_000));
            world.accept(&parent).unwrap();
            world.accept(&version_three(spend(&[output(&parent, 0)], 1, 480_000))).unwrap();
            let sibling = version_three(spend(&[output(&parent, 1)], 1, 400_000));
            test(world, &[&sibling, &spend(&[other], 1, COIN - 1_000)])
        },
        "transaction failed",
        &["TRUC-violation, tx", "-"],
    ),
    (
        "version 3, three generations",
        |world| {
            let coin = world.coin(0);
            let (parent, child) = family(coin, 3, 1_000, 1_000);
            let grandchild = version_three(spend(&[output(&child, 0)], 1, COIN - 5_000));
            test(world, &[&parent, &child, &grandchild])
        },
        "TRUC-violation, tx",
        &["-", "-", "-"],
    ),
    (
        "a cluster of 65",
        |world| {
            let coin = world.coin(0);
            let root = spend(&[coin], 63, 10_000);
            world.accept(&root).unwrap();
            for vout in 0..62 {
                world.accept(&spend(&[output(&root, vout)], 1, 9_000)).unwrap();
            }
            let parent = spend(&[output(&root, 62)], 1, 9_000);
            let child = spend(&[output(&parent, 0)], 1, 8_000);
            test(world, &[&parent, &child])
        },
        "too-large-cluster",
        &["-", "-"],
    ),
];

#[test]
fn tests_of_several_get_cores_words() {
    run(TESTED, Policy::default());
}
