//! Version 3 (BIP 431), one by one: after `mempool_truc.py`.

use super::*;

type Case = (&'static str, fn(&mut World) -> String, &'static str);

fn three(from: &[OutPoint], outputs: usize, value: u64) -> Transaction {
    version_three(spend(from, outputs, value))
}

/// A version 3 parent with two outputs, in the mempool.
fn parent(world: &mut World) -> Transaction {
    let coin = world.coin(0);
    let parent = three(&[coin], 2, 499_000);
    world.accept(&parent).unwrap();
    parent
}

fn send(world: &mut World, transaction: &Transaction) -> String {
    said(world.accept(transaction))
}

const CASES: &[Case] = &[
    (
        "alone",
        |world| {
            let coin = world.coin(0);
            send(world, &three(&[coin], 1, COIN - 1_000))
        },
        "ok",
    ),
    (
        "10,000 vB alone",
        |world| {
            let coin = world.coin(0);
            let transaction = three(&[coin], 231, 4_000);
            assert!((9_950..=10_000).contains(&transaction.vsize()), "{}", transaction.vsize());
            send(world, &transaction)
        },
        "ok",
    ),
    (
        "more than 10,000 vB alone",
        |world| {
            let coin = world.coin(0);
            send(world, &three(&[coin], 232, 4_000))
        },
        "TRUC-violation, version=3 tx",
    ),
    (
        "one child",
        |world| {
            let parent = parent(world);
            send(world, &three(&[output(&parent, 0)], 1, 490_000))
        },
        "ok",
    ),
    (
        "a child of 1,000 vB",
        |world| {
            let parent = parent(world);
            let child = three(&[output(&parent, 0)], 22, 20_000);
            assert!((960..=1_000).contains(&child.vsize()), "{}", child.vsize());
            send(world, &child)
        },
        "ok",
    ),
    (
        "a child of more than 1,000 vB",
        |world| {
            let parent = parent(world);
            send(world, &three(&[output(&parent, 0)], 23, 20_000))
        },
        "TRUC-violation, version=3 child tx",
    ),
    (
        "a child of version 2",
        |world| {
            let parent = parent(world);
            send(world, &spend(&[output(&parent, 0)], 1, 490_000))
        },
        "TRUC-violation, non-version=3 tx",
    ),
    (
        "a child of a parent of version 2",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 2, 499_000);
            world.accept(&parent).unwrap();
            send(world, &three(&[output(&parent, 0)], 1, 490_000))
        },
        "TRUC-violation, version=3 tx",
    ),
    (
        "a child of a confirmed one of version 2",
        |world| {
            let coin = world.coin(0);
            let parent = spend(&[coin], 2, 499_000);
            world.connect(&[&parent]);
            send(world, &three(&[output(&parent, 0)], 1, 490_000))
        },
        "ok",
    ),
    (
        "a grandchild",
        |world| {
            let parent = parent(world);
            let child = three(&[output(&parent, 0)], 1, 490_000);
            world.accept(&child).unwrap();
            send(world, &three(&[output(&child, 0)], 1, 480_000))
        },
        "TRUC-violation, tx",
    ),
    (
        "a grandchild once the parent is confirmed",
        |world| {
            let parent = parent(world);
            let child = three(&[output(&parent, 0)], 1, 490_000);
            world.accept(&child).unwrap();
            world.connect(&[&parent]);
            send(world, &three(&[output(&child, 0)], 1, 480_000))
        },
        "ok",
    ),
    (
        "a child of two",
        |world| {
            let first = parent(world);
            let coin = world.coin(1);
            let second = three(&[coin], 1, COIN - 1_000);
            world.accept(&second).unwrap();
            send(world, &three(&[output(&first, 0), output(&second, 0)], 1, COIN))
        },
        "TRUC-violation, tx",
    ),
    (
        "both outputs of one",
        |world| {
            let parent = parent(world);
            send(world, &three(&[output(&parent, 0), output(&parent, 1)], 1, 990_000))
        },
        "ok",
    ),
    (
        "a second child that pays more",
        |world| {
            let parent = parent(world);
            let child = three(&[output(&parent, 0)], 1, 498_000);
            world.accept(&child).unwrap();
            let said = send(world, &three(&[output(&parent, 1)], 1, 490_000));
            assert!(!world.mempool.contains(&child.compute_txid()));
            said
        },
        "ok",
    ),
    (
        "a second child that pays as much",
        |world| {
            let parent = parent(world);
            world.accept(&three(&[output(&parent, 0)], 1, 498_000)).unwrap();
            send(world, &three(&[output(&parent, 1)], 1, 498_000))
        },
        "insufficient fee (including sibling eviction), rejecting replacement",
    ),
    (
        "a second child that pays less",
        |world| {
            let parent = parent(world);
            world.accept(&three(&[output(&parent, 0)], 1, 498_000)).unwrap();
            send(world, &three(&[output(&parent, 1)], 1, 498_500))
        },
        "insufficient fee (including sibling eviction), rejecting replacement",
    ),
    (
        "a second child with a poorer feerate",
        |world| {
            let parent = parent(world);
            world.accept(&three(&[output(&parent, 0)], 1, 497_000)).unwrap();
            send(world, &three(&[output(&parent, 1)], 20, 24_800))
        },
        "replacement-failed, insufficient feerate: does not improve feerate diagram",
    ),
    (
        "a child in place of the child",
        |world| {
            let parent = parent(world);
            world.accept(&three(&[output(&parent, 0)], 1, 498_000)).unwrap();
            send(world, &three(&[output(&parent, 0)], 1, 490_000))
        },
        "ok",
    ),
    (
        "a child of version 2 in place of the child",
        |world| {
            let parent = parent(world);
            world.accept(&three(&[output(&parent, 0)], 1, 498_000)).unwrap();
            send(world, &spend(&[output(&parent, 0)], 1, 490_000))
        },
        "TRUC-violation, non-version=3 tx",
    ),
    (
        "a second child that spends the first's coin, too",
        |world| {
            let parent = parent(world);
            let coin = world.coin(1);
            world.accept(&three(&[output(&parent, 0), coin], 1, COIN)).unwrap();
            send(world, &three(&[output(&parent, 1), coin], 1, COIN - 600_000))
        },
        "ok",
    ),
    (
        "a third child after a reorganisation made two",
        |world| {
            let coin = world.coin(0);
            let parent = three(&[coin], 3, 333_000);
            world.connect(&[&parent]);
            for vout in 0..2 {
                world.accept(&three(&[output(&parent, vout)], 1, 320_000)).unwrap();
            }
            world.height -= 1;
            world.coins.0.retain(|outpoint, _| outpoint.txid != parent.compute_txid());
            world.coin(0);
            let returned = vec![Arc::new(parent.clone())];
            world.with(|mempool, cx| mempool.chain_reorganised(returned, cx));
            assert_eq!(world.mempool.len(), 3);
            send(world, &three(&[output(&parent, 2)], 1, 100_000))
        },
        "TRUC-violation, tx",
    ),
];

#[test]
fn version_three_gets_cores_words() {
    for (name, happens, expected) in CASES {
        let mut world = World::new(Policy::default());
        expect(name, &happens(&mut world), expected);
    }
}

#[test]
fn the_rule_is_said_in_cores_words() {
    let mut world = World::new(Policy::default());
    let parent = parent(&mut world);
    let child = three(&[output(&parent, 0)], 1, 490_000);
    world.accept(&child).unwrap();
    let grandchild = three(&[output(&child, 0)], 1, 480_000);
    let ids = |tx: &Transaction| format!("tx {} (wtxid={})", tx.compute_txid(), tx.compute_wtxid());
    assert_eq!(
        send(&mut world, &grandchild),
        format!("TRUC-violation, {} would have too many ancestors", ids(&grandchild))
    );
    let plain = spend(&[output(&parent, 1)], 1, 490_000);
    assert_eq!(
        send(&mut world, &plain),
        format!("TRUC-violation, non-version=3 {} cannot spend from version=3 {}", ids(&plain), ids(&parent))
    );
    let large = three(&[output(&parent, 1)], 30, 16_000);
    let expected =
        format!("TRUC-violation, version=3 child {} is too big: {} > 1000 virtual bytes", ids(&large), large.vsize());
    assert_eq!(send(&mut world, &large), expected);
}
