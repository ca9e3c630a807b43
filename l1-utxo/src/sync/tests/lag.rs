//! Peers that we dialled and that are behind.

use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;

use super::world::{Solo, names, reason};
use crate::sync::{Origin, PeerId};

const PEER: PeerId = PeerId(1);
const TWENTY_MINUTES: Duration = Duration::from_secs(20 * 60);
const A_SECOND: Duration = Duration::from_secs(1);

fn tip_header(solo: &Solo, back: u32) -> NetworkMessage {
    let chain = &solo.node.chain;
    let id = chain.at_height(chain.height() - back).unwrap();
    NetworkMessage::Headers(vec![chain.entry(id).header])
}

/// Waits while answering pings, so that it is not silence that ends the connection.
fn wait(solo: &mut Solo, span: Duration) -> Vec<crate::sync::Action> {
    let mut actions = Vec::new();
    for _ in 0..span.as_secs().div_ceil(60) {
        actions.extend(solo.wait(Duration::from_secs(60)));
    }
    actions
}

#[test]
fn who_stays_behind_is_asked_once_more_and_then_sent_away() {
    for origin in [Origin::Automatic, Origin::BlockRelay] {
        let mut solo = Solo::new(41);
        solo.mine(5);
        solo.join(PEER, origin);
        solo.wait(A_SECOND);
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
        solo.join(PEER, origin);
        solo.wait(A_SECOND);
        if matches!(origin, Origin::Automatic | Origin::BlockRelay) {
            solo.give(PEER, tip_header(&solo, 0));
        } else {
            solo.give(PEER, NetworkMessage::Headers(Vec::new()));
        }
        let quiet = wait(&mut solo, TWENTY_MINUTES * 3 / 2);
        assert!(!reason(&quiet, PEER).is_some_and(|reason| reason.contains("old chain")), "{origin:?}");
    }
}
