//! Channels that are opened by hand, rightly and not.

use bitcoin::{OutPoint, ScriptBuf, TxOut, Txid};

use super::*;
use crate::channel::{AcceptRequest, Command, OpenRequest};
use crate::keys::ChannelKeyId;
use crate::node::command::{self, AmountOrAll};
use crate::node::refusal::Refusal;
use crate::transactions::CommitmentFormat;
use crate::units::{Msat, ShortChannelId};

fn close_script() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([7; 20]))
}

pub(super) fn open_by(stranger: &Stranger, world: &World, temporary: u8, push: u64) -> (Channel, wire::OpenChannel) {
    let request = OpenRequest {
        peer: world.id(stranger.with),
        keys_id: ChannelKeyId([temporary; 32]),
        temporary_channel_id: ChannelId([temporary; 32]),
        alias: ShortChannelId::from_u64(5),
        funding: FUNDING,
        push: Msat::new(push),
        announce: false,
        format: CommitmentFormat::Anchors,
        feerate: FeeratePerKw::new(1_000),
        close_script: close_script(),
        upfront_shutdown_script: false,
        features: features(),
    };
    let (channel, effects) = Channel::open(request, &stranger.context()).expect("opens");
    let Message::OpenChannel(message) = sent(&effects) else { panic!("open_channel") };
    (channel, *message)
}

/// What the node says when the funding transaction of a channel with it is `made` and mined, and whether it keeps it.
fn funded_by(made: impl Fn(TxOut) -> Vec<TxOut>, vout: u32) -> (Vec<Message>, bool) {
    let mut world = World::new();
    world.mine(1);
    let stranger = Stranger::call(&mut world, 1, 77);
    let (mut channel, open) = open_by(&stranger, &world, 9, 400_000_000);
    let accept = only(stranger.say(&mut world, open));
    let needed = stranger.step(&mut channel, channel::Input::Message(accept));
    let [channel::Effect::FundingNeeded { script_pubkey, amount }] = needed.as_slice() else { panic!("{needed:?}") };
    let agreed = TxOut { value: *amount, script_pubkey: script_pubkey.clone() };
    let mut outputs = made(agreed);
    world.ledger.give(OutPoint::new(Txid::from_byte_array([3; 32]), 0), outputs.remove(0));
    let mut transaction = world.ledger.mempool.pop().expect("just given");
    transaction.output.extend(outputs);
    let outpoint = OutPoint::new(transaction.compute_txid(), vout);
    world.ledger.mempool.push(transaction);
    let built = stranger.step(&mut channel, channel::Input::Command(Command::FundingBuilt { outpoint }));
    let created = built.into_iter().find_map(|effect| match effect {
        channel::Effect::Send(message) => Some(message),
        _ => None,
    });
    let signed = only(stranger.say(&mut world, created.expect("funding_created")));
    assert!(matches!(signed, Message::FundingSigned(_)));
    assert_eq!(world.members[1].node.state().channels.len(), 1);
    world.mine(1);
    let said = world.outside.drain(..).collect();
    world.mine(3);
    (said, !world.members[1].node.state().channels.is_empty())
}

/// Money that was pushed or sent over a channel whose output is another would be money of nobody.
#[test]
fn the_funding_output_is_looked_at() {
    let (said, kept) = funded_by(|agreed| vec![agreed], 0);
    assert!(said.iter().any(|message| matches!(message, Message::ChannelReady(_))) && kept);
    let other = TxOut { value: Amount::from_sat(500), script_pubkey: close_script() };
    let (said, kept) = funded_by(|agreed| vec![other.clone(), agreed], 1);
    assert!(said.iter().any(|message| matches!(message, Message::ChannelReady(_))) && kept);
    type Outputs = fn(TxOut) -> Vec<TxOut>;
    let wrong: [(Outputs, u32); 5] = [
        (|agreed| vec![TxOut { value: agreed.value - Amount::ONE_SAT, ..agreed }], 0),
        (|agreed| vec![TxOut { value: agreed.value + Amount::ONE_SAT, ..agreed }], 0),
        (|agreed| vec![TxOut { script_pubkey: close_script(), ..agreed }], 0),
        (|agreed| vec![agreed], 1),
        (|agreed| vec![agreed], 65_535),
    ];
    for (made, vout) in wrong {
        let (said, kept) = funded_by(made, vout);
        assert!(matches!(said.as_slice(), [Message::Error(_)]), "{said:?}");
        assert!(!kept);
    }
}

#[test]
fn openings_of_one_peer_are_few() {
    let mut world = World::new();
    world.mine(1);
    let stranger = Stranger::call(&mut world, 1, 77);
    let mut accepted = 0;
    for temporary in 0..100 {
        let (_, open) = open_by(&stranger, &world, temporary, 0);
        match only(stranger.say(&mut world, open)) {
            Message::AcceptChannel(_) => accepted += 1,
            Message::Error(error) => assert_eq!(error.channel_id, ChannelId([temporary; 32])),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted, 4);
    assert_eq!(world.members[1].node.live.openings.len(), 4);
    let refused = events(&world, 1, |kind| matches!(kind, EventKind::InboundOpenRefused { .. }));
    assert!((1..=20).contains(&refused), "{refused} events of 96 refusals");
    // On the next connection it begins anew, also with the same id.
    stranger.leave(&mut world);
    assert!(world.members[1].node.live.openings.is_empty());
    stranger.connect(&mut world);
    let (_, open) = open_by(&stranger, &world, 0, 0);
    assert!(matches!(only(stranger.say(&mut world, open)), Message::AcceptChannel(_)));
}

fn open_to(world: &mut World, stranger: &Stranger) -> (u64, wire::OpenChannel) {
    let open = command::OpenChannel {
        peer: stranger.id(),
        capacity: AmountOrAll::Sat(1_000_000),
        push: Msat::ZERO,
        funding_feerate: None,
        announce: false,
        without_anchors: false,
        validate_only: false,
    };
    let request = world.start(0, None, command::Command::OpenChannel(open));
    let Message::OpenChannel(message) = only(world.outside.drain(..).collect()) else { panic!("open_channel") };
    (request.0, *message)
}

fn accept_of(stranger: &Stranger, world: &World, open: &wire::OpenChannel) -> Message {
    let request = AcceptRequest {
        peer: world.id(stranger.with),
        keys_id: ChannelKeyId([12; 32]),
        alias: ShortChannelId::from_u64(18),
        close_script: close_script(),
        upfront_shutdown_script: false,
        features: features(),
    };
    let (_, effects) = Channel::accept(open, request, &stranger.context()).expect("accepts");
    sent(&effects)
}

/// BOLT 1: an accepter says `error` with the temporary id until it has sent `funding_signed`.
#[test]
fn an_error_by_the_temporary_id_ends_what_waits_for_funding_signed() {
    let mut world = World::new();
    world.fund(0, 10_000_000);
    let stranger = Stranger::call(&mut world, 0, 77);
    let (request, open) = open_to(&mut world, &stranger);
    let accept = accept_of(&stranger, &world, &open);
    let created = only(stranger.say(&mut world, accept));
    assert!(matches!(created, Message::FundingCreated(_)));
    assert_eq!(world.members[0].node.state().channels.len(), 1);
    // Another's word for it counts for nothing.
    let other = Stranger::call(&mut world, 0, 78);
    assert_eq!(other.say(&mut world, error(open.temporary_channel_id)), []);
    assert_eq!(world.members[0].node.state().channels.len(), 1);
    assert_eq!(stranger.say(&mut world, error(open.temporary_channel_id)), [], "no answer to an error");
    assert!(world.members[0].node.state().channels.is_empty());
    let answers = &world.members[0].replies[&request];
    assert!(matches!(answers.last(), Some(Err(Refusal::PeerRefused { .. }))), "{answers:?}");
    // The coins are free again: all of them go into the next one.
    let (_, again) = open_to(&mut world, &stranger);
    assert_ne!(again.temporary_channel_id, open.temporary_channel_id, "each opening has an id of its own");
    let accept = accept_of(&stranger, &world, &again);
    assert!(matches!(only(stranger.say(&mut world, accept)), Message::FundingCreated(_)));
}

#[test]
fn before_it_is_synced_a_node_takes_no_channel() {
    let mut world = World::new();
    let stranger = Stranger::call(&mut world, 1, 77);
    let (_, open) = open_by(&stranger, &world, 1, 0);
    world.hold_chain(1);
    let target = BlockHeight::new(7);
    let behind = crate::node::input::ChainState { target, problem: None, feerates: None };
    world.input(1, Input::ChainState(behind));
    let Message::Error(refused) = only(stranger.say(&mut world, open)) else { panic!("error") };
    assert_eq!(refused.channel_id, ChannelId([1; 32]));
}
