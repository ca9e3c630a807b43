//! Kinds of connections, and what our user grants to some of them.

use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;

use super::world::{Solo, names, output, reason, spend, version_offering};
use crate::sync::wire::{self, Message};
use crate::sync::{Action, Origin, PeerId, Permissions, choose_eviction};

const PEER: PeerId = PeerId(1);

fn told(actions: &[Action], to: PeerId) -> Vec<Inventory> {
    let items = |action: &Action| match action {
        Action::Send(id, packet) if *id == to => match wire::decode(&packet.command, &packet.payload) {
            Ok(Message::Inv(items)) => Some(items),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(items).flatten().collect()
}

#[test]
fn who_is_trusted_is_not_sent_away_and_hears_at_once() {
    let mut solo = Solo::new(31);
    solo.mine(110);
    solo.join_granted(PEER, Origin::Inbound, Permissions::NO_BAN);
    solo.wait(Duration::from_secs(60));
    let excess = NetworkMessage::Inv(vec![Inventory::Error; 50_001]);
    assert_eq!(reason(&solo.give(PEER, excess), PEER), None);
    assert_eq!(reason(&solo.give(PEER, NetworkMessage::MemPool), PEER), None);
    let two = PeerId(2);
    solo.join(two, Origin::Automatic);
    let transaction = spend(&[solo.node.coin(1)], &[1_000_000]);
    solo.give(two, NetworkMessage::Tx(transaction.clone()));
    let actions = solo.wait(Duration::from_millis(1));
    assert_eq!(told(&actions, PEER), [Inventory::WTx(transaction.compute_wtxid())]);
}

#[test]
fn who_may_ask_hears_what_the_mempool_holds() {
    let mut solo = Solo::new(32);
    solo.mine(110);
    let parent = spend(&[solo.node.coin(1)], &[1_000_000]);
    let child = spend(&[output(&parent, 0)], &[900_000]);
    for transaction in [&parent, &child] {
        use crate::sync::Host;
        solo.node.submit_transaction(std::sync::Arc::new(transaction.clone())).unwrap();
    }
    solo.join_granted(PEER, Origin::Inbound, Permissions::MEMPOOL);
    let mut all = told(&solo.give(PEER, NetworkMessage::MemPool), PEER);
    for _ in 0..600 {
        all.extend(told(&solo.wait(Duration::from_millis(100)), PEER));
    }
    assert_eq!(all, [parent, child].map(|transaction| Inventory::WTx(transaction.compute_wtxid())));
}

#[test]
fn connections_for_blocks_carry_nothing_else() {
    let mut solo = Solo::new(33);
    solo.mine(110);
    let actions = solo.join(PEER, Origin::BlockRelay);
    let Some(Action::Send(_, first)) = actions.first() else { panic!("{actions:?}") };
    assert!(matches!(wire::decode("version", &first.payload), Ok(Message::Version(ours)) if !ours.relay));
    let names = names(&actions, PEER);
    assert!(!names.iter().any(|name| ["getaddr", "feefilter"].contains(&name.as_str())), "{names:?}");
    let transaction = spend(&[solo.node.coin(1)], &[1_000_000]);
    let announcement = NetworkMessage::Inv(vec![Inventory::WTx(transaction.compute_wtxid())]);
    assert!(reason(&solo.give(PEER, announcement), PEER).unwrap().contains("in violation of protocol"));
    // One that only feels its way is over once it is known that there is a node.
    let two = PeerId(2);
    solo.connect(two, Origin::Feeler);
    let answer = solo.give(two, version_offering(70_016, ServiceFlags::NONE));
    assert!(answer.contains(&Action::Good(std::net::SocketAddr::new([9, 9, 9, 2].into(), 18_444))));
    assert!(reason(&answer, two).is_some());
}

#[test]
fn peers_that_we_choose_must_offer_what_we_need() {
    let limited = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
    let table = [
        (Origin::Automatic, ServiceFlags::NETWORK | ServiceFlags::WITNESS, true, true),
        (Origin::Automatic, ServiceFlags::NETWORK, true, false),
        // Recent blocks are enough for who is not far behind.
        (Origin::Automatic, limited, true, true),
        (Origin::BlockRelay, limited, false, false),
        (Origin::AddressFetch, ServiceFlags::NONE, true, false),
        (Origin::Manual, ServiceFlags::NONE, false, true),
        (Origin::Inbound, ServiceFlags::NONE, false, true),
    ];
    for (origin, services, is_near, is_welcome) in table {
        let mut solo = Solo::new(34);
        if is_near {
            solo.mine(1);
        }
        solo.connect(PEER, origin);
        let answer = solo.give(PEER, version_offering(70_016, services));
        assert_eq!(reason(&answer, PEER).is_none(), is_welcome, "{origin:?} {services}");
    }
}

#[test]
fn the_silent_make_room_first_and_the_trusted_never() {
    let mut solo = Solo::new(35);
    for id in 1..=60 {
        solo.join(PeerId(id), Origin::Inbound);
    }
    solo.connect(PeerId(70), Origin::Inbound);
    solo.wait(Duration::from_secs(1));
    solo.connect(PeerId(71), Origin::Inbound);
    assert_eq!(choose_eviction(solo.machine.peers(), 1), Some(PeerId(70)));
    let mut solo = Solo::new(36);
    for id in 1..=60 {
        solo.join_granted(PeerId(id), Origin::Inbound, Permissions::NO_BAN);
    }
    assert_eq!(choose_eviction(solo.machine.peers(), 1), None);
}
