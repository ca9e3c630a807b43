//! What our user's settings change for peers, and what a peer may say of itself before it is greeted.

use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;

use super::world::{Solo, names, options, reason, version};
use crate::sync::wire::{self, Message};
use crate::sync::{Action, KnownAddress, Options, Origin, PeerId, Permissions, UPLOAD_TIMEFRAME};

const PEER: PeerId = PeerId(1);

#[test]
fn a_node_that_wants_every_transaction_says_so_whatever_chance_says() {
    for seed in 0..20 {
        let mut solo = Solo::with_options(Options { min_relay_feerate: 0, ..options() }, seed);
        solo.mine(1);
        let filters: Vec<Message> = solo
            .join(PEER, Origin::Inbound)
            .iter()
            .filter_map(|action| match action {
                Action::Send(PEER, packet) if packet.command == "feefilter" => {
                    wire::decode("feefilter", &packet.payload).ok()
                }
                _ => None,
            })
            .collect();
        assert_eq!(filters, [Message::FeeFilter(0)], "{seed}");
    }
}

fn feature(name: &[u8], data: &[u8], behind: &[u8]) -> Message {
    use bitcoin::consensus::Encodable;
    use bitcoin::consensus::encode::VarInt;
    let mut payload = Vec::new();
    for text in [name, data] {
        VarInt::from(text.len()).consensus_encode(&mut payload).unwrap();
        payload.extend_from_slice(text);
    }
    payload.extend_from_slice(behind);
    wire::decode("feature", &payload).unwrap()
}

fn hear(solo: &mut Solo, message: Message) -> Vec<Action> {
    solo.with(|machine, node| machine.received(PEER, message, node))
}

#[test]
fn features_are_heard_before_the_end_of_the_handshake_only() {
    let cut = wire::decode("feature", &[10, b'a', b'b']).unwrap();
    let table: Vec<(Message, u32, Option<&str>)> = vec![
        (feature(b"abcd", b"", b""), 70_017, None),
        (feature(&[b'a'; 80], &[0; 512], b""), 70_017, None),
        (feature(b"\0\xff\x01\x7f", b"", b""), 70_017, None),
        (feature(b"abc", b"", b""), 70_017, Some("invalid feature payload")),
        (feature(&[b'a'; 81], b"", b""), 70_017, Some("invalid feature payload")),
        (feature(b"abcd", &[0; 513], b""), 70_017, Some("invalid feature payload")),
        (feature(b"abcd", b"", b"\0"), 70_017, Some("invalid feature payload")),
        (cut, 70_017, Some("invalid feature payload")),
        (feature(b"abcd", b"", b""), 70_016, Some("feature received with incompatible version")),
    ];
    for (message, protocol, wanted) in table {
        let mut solo = Solo::new(3);
        solo.connect(PEER, Origin::Inbound);
        // Before the version it counts for nothing.
        assert!(hear(&mut solo, message.clone()).is_empty());
        solo.give(PEER, version(protocol));
        assert_eq!(reason(&hear(&mut solo, message), PEER).as_deref(), wanted);
    }
    let mut solo = Solo::new(3);
    solo.connect(PEER, Origin::Inbound);
    solo.give(PEER, version(70_017));
    solo.give(PEER, NetworkMessage::Verack);
    assert!(reason(&hear(&mut solo, feature(b"abcd", b"", b"")), PEER).is_some());
}

#[test]
fn old_blocks_are_served_until_the_limit_leaves_room_for_new_ones_only() {
    let eight_days = Duration::from_secs(8 * 24 * 3_600);
    for (limit, permissions, is_served) in [
        (0, Permissions::NONE, true),
        (1, Permissions::NONE, false),
        (1, Permissions::DOWNLOAD, true),
        (2 * 144 * 4_000_000, Permissions::NONE, true),
    ] {
        let mut solo = Solo::with_options(Options { upload_limit: limit, ..options() }, 4);
        solo.mine(1);
        let old = solo.node.tip();
        solo.wait(eight_days);
        solo.mine(1);
        solo.join_granted(PEER, Origin::Inbound, permissions);
        let ask = |hash| NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]);
        let new = ask(solo.node.tip());
        assert_eq!(names(&solo.give(PEER, new), PEER), ["block"]);
        let answer = solo.give(PEER, ask(old));
        assert_eq!(names(&answer, PEER) == ["block"], is_served, "{limit}");
        assert_eq!(reason(&answer, PEER).is_none(), is_served, "{limit}");
        let (upload, now) = solo.machine.upload();
        assert_eq!((upload.is_reached(), upload.time_left(now) > UPLOAD_TIMEFRAME), (limit == 1, false));
    }
}

/// The addresses that were told to a peer, message by message.
fn told(actions: &[Action], to: PeerId) -> Vec<Vec<String>> {
    let addresses = |action: &Action| match action {
        Action::Send(id, packet) if *id == to => match wire::decode(&packet.command, &packet.payload) {
            Ok(Message::Addresses { addresses, .. }) => Some(addresses),
            _ => None,
        },
        _ => None,
    };
    let name = |known: KnownAddress| known.address.to_string();
    actions.iter().filter_map(addresses).map(|known| known.into_iter().map(name).collect()).collect()
}

#[test]
fn names_of_other_networks_are_passed_on_to_those_who_know_them_and_not_kept() {
    let names = [
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:8333",
        "c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vyq.b32.i2p:0",
        "8.8.4.4:8333",
    ];
    for knows_names in [true, false] {
        let mut solo = Solo::new(5);
        solo.mine(1);
        solo.join_granted(PEER, Origin::Inbound, Permissions::ADDRESS);
        let other = PeerId(2);
        solo.connect(other, Origin::Inbound);
        solo.give(other, version(70_016));
        if knows_names {
            solo.give(other, NetworkMessage::SendAddrV2);
        }
        solo.give(other, NetworkMessage::Verack);
        solo.give(other, NetworkMessage::GetAddr);
        let time = u32::try_from(solo.now.secs()).unwrap();
        let known = |name: &&str| KnownAddress { address: name.parse().unwrap(), services: 9, time };
        let addresses: Vec<KnownAddress> = names.iter().map(known).collect();
        let message = Message::Addresses { count: addresses.len(), addresses: addresses.clone() };
        let kept = hear(&mut solo, message);
        let learnt = kept.iter().filter_map(|action| match action {
            Action::Learn(learnt) => Some(learnt.as_slice()),
            _ => None,
        });
        assert_eq!(learnt.collect::<Vec<_>>(), [&addresses[2..]]);
        // It lives, whatever it was asked.
        solo.give(other, NetworkMessage::Pong(0));
        let mut heard = told(&solo.wait(Duration::from_secs(3_600)), other).concat();
        heard.sort_unstable();
        let mut wanted: Vec<&str> = if knows_names { names.to_vec() } else { names[2..].to_vec() };
        wanted.sort_unstable();
        assert_eq!(heard, wanted);
    }
}

#[test]
fn our_own_address_comes_first_alone_and_again_some_day() {
    let own = ["pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:8333", "42.42.42.42:18444"];
    let own_addresses = own.iter().map(|text| text.parse().unwrap()).collect();
    let mut solo = Solo::with_options(Options { own_addresses, ..options() }, 6);
    solo.mine(1);
    let other = KnownAddress { address: "8.8.4.4:8333".parse().unwrap(), services: 9, time: 1_700_000_000 };
    solo.machine.set_known_addresses([other].into());
    solo.join(PEER, Origin::Inbound);
    let first = told(&solo.give(PEER, NetworkMessage::GetAddr), PEER);
    assert_eq!(first, [["42.42.42.42:18444"], ["8.8.4.4:8333"]]);
    for _ in 0..3 {
        solo.give(PEER, NetworkMessage::Pong(0));
        let later = solo.wait(Duration::from_secs(20 * 24 * 3_600));
        assert_eq!(told(&later, PEER), [["42.42.42.42:18444"]]);
    }
}
