//! Peers that we dialled and that are behind.

use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;

use super::world::{Node, Solo, names, reason};
use crate::consensus::pow::block_proof;
use crate::sync::wire::{self, Message};
use crate::sync::{Action, Origin, PeerId, Permissions};

const PEER: PeerId = PeerId(1);
const TWENTY_MINUTES: Duration = Duration::from_secs(20 * 60);
const A_SECOND: Duration = Duration::from_secs(1);

fn tip_header(solo: &Solo, back: u32) -> NetworkMessage {
    let chain = &solo.node.chain;
    let id = chain.at_height(chain.height() - back).unwrap();
    NetworkMessage::Headers(vec![chain.entry(id).header])
}

/// Answers the pings among these, so that it is not silence that ends the connection.
fn answer(solo: &mut Solo, actions: &[Action]) -> Vec<Action> {
    let mut answers = Vec::new();
    for action in actions {
        if let Action::Send(id, packet) = action
            && let Ok(Message::Ping(nonce)) = wire::decode(&packet.command, &packet.payload)
        {
            answers.extend(solo.give(*id, NetworkMessage::Pong(nonce)));
        }
    }
    answers
}

fn wait(solo: &mut Solo, span: Duration) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..span.as_secs().div_ceil(60) {
        let due = solo.wait(Duration::from_secs(60));
        actions.extend(answer(solo, &due));
        actions.extend(due);
    }
    actions
}

#[test]
fn who_stays_behind_is_asked_once_more_and_then_sent_away() {
    for origin in [Origin::Automatic, Origin::BlockRelay] {
        let mut solo = Solo::new(41);
        solo.mine(5);
        let joined = solo.join(PEER, origin);
        answer(&mut solo, &joined);
        let more = solo.wait(A_SECOND);
        answer(&mut solo, &more);
        solo.give(PEER, NetworkMessage::Headers(Vec::new()));
        let asked = wait(&mut solo, TWENTY_MINUTES + A_SECOND);
        assert!(names(&asked, PEER).contains(&"getheaders".to_owned()), "{asked:?}");
        assert_eq!(reason(&asked, PEER), None);
        let gone = wait(&mut solo, Duration::from_secs(121));
        assert!(reason(&gone, PEER).unwrap().contains("old chain"));
    }
}

#[test]
fn who_keeps_up_or_was_not_chosen_by_us_stays() {
    // One that shows our tip in time, and then one that we did not choose.
    for origin in [Origin::Automatic, Origin::BlockRelay, Origin::Manual, Origin::Inbound] {
        let mut solo = Solo::new(42);
        solo.mine(5);
        let joined = solo.join(PEER, origin);
        answer(&mut solo, &joined);
        let more = solo.wait(A_SECOND);
        answer(&mut solo, &more);
        if matches!(origin, Origin::Automatic | Origin::BlockRelay) {
            solo.give(PEER, tip_header(&solo, 0));
        } else {
            solo.give(PEER, NetworkMessage::Headers(Vec::new()));
        }
        let quiet = wait(&mut solo, TWENTY_MINUTES * 3 / 2);
        assert!(!reason(&quiet, PEER).is_some_and(|reason| reason.contains("old chain")), "{origin:?}");
    }
}

/// A node for which chains of fewer than `blocks` blocks count for nothing.
fn demanding(blocks: u32) -> Solo {
    let mut solo = Solo::new(43);
    let chain = &mut solo.node.chain;
    let proof = block_proof(chain.tip_entry().header.bits);
    let work = (0..blocks).fold(chain.tip_entry().chain_work, |work, _| work + proof);
    chain.require_work(work);
    solo
}

fn headers(count: u32) -> NetworkMessage {
    let mut other = Node::new();
    (0..count).for_each(|_| {
        other.mine();
    });
    let header = |height| other.chain.entry(other.chain.at_height(height).unwrap()).header;
    NetworkMessage::Headers((1..=count).map(header).collect())
}

#[test]
fn chains_of_too_little_work_are_not_fetched() {
    for (count, permissions, height, is_fetched) in
        [(4, Permissions::NONE, 0, false), (4, Permissions::NO_BAN, 4, false), (5, Permissions::NONE, 5, true)]
    {
        let mut solo = demanding(5);
        solo.join_granted(PEER, Origin::Inbound, permissions);
        let mut actions = solo.give(PEER, headers(count));
        actions.extend(solo.wait(A_SECOND));
        let chain = &solo.node.chain;
        assert_eq!(chain.entry(chain.best_header()).height, height);
        assert_eq!(names(&actions, PEER).contains(&"getdata".to_owned()), is_fetched, "{count} {permissions:?}");
    }
    // A peer that we chose for the first download must have enough, as far as it is known what it has.
    let mut solo = demanding(5);
    solo.join(PEER, Origin::Automatic);
    assert_eq!(reason(&solo.give(PEER, headers(4)), PEER), None);
    let trusted = PeerId(2);
    solo.join_granted(trusted, Origin::Inbound, Permissions::NO_BAN);
    solo.give(trusted, headers(4));
    let left = reason(&solo.give(PEER, headers(4)), PEER);
    assert!(left.is_some_and(|reason| reason.contains("insufficient work")));
}

#[test]
fn who_has_too_little_work_tells_nobody_but_those_who_may_have_it() {
    use bitcoin::hashes::Hash;
    use bitcoin::p2p::message_blockdata::GetHeadersMessage;
    let ask = |solo: &Solo| {
        let genesis = solo.node.chain.entry(solo.node.chain.at_height(0).unwrap()).hash;
        NetworkMessage::GetHeaders(GetHeadersMessage::new(vec![genesis], bitcoin::BlockHash::all_zeros()))
    };
    for (permissions, bytes) in [(Permissions::NONE, 1), (Permissions::DOWNLOAD, 1 + 3 * 81)] {
        let mut solo = demanding(5);
        solo.mine(3);
        solo.join_granted(PEER, Origin::Inbound, permissions);
        let answer = solo.give(PEER, ask(&solo));
        let sizes: Vec<usize> = answer
            .iter()
            .filter_map(|action| match action {
                Action::Send(_, packet) if packet.command == "headers" => Some(packet.payload.len()),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [bytes]);
    }
}
