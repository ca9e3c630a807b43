//! `error`, `warning`, messages about channels that are not there, and words without end.

use super::*;
use crate::node::command::{CloseChannel, Command, Fault};
use crate::node::tests::route::{Proof, line_route, preimage, send};
use crate::units::Msat;
use crate::wire::{ClosingSigned, FeeRange, Warning};

fn failed(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ChannelFailed { .. })
}

#[test]
fn an_error_for_all_fails_all_channels_with_its_sender_and_no_other() {
    let (mut world, channels) = World::line(3, 1_000_000);
    let second = world.open_with(0, 1, 500_000, 0);
    let third_party = error(channels[1]);
    world.say(0, third_party.into());
    assert!(!world.has_event(1, failed), "that channel is not with the sender");
    assert!(world.channel(1, channels[1]).expect("there").usable);
    world.say(0, error(ChannelId::ALL).into());
    let of = |world: &World| -> Vec<ChannelId> {
        let kinds = world.members[1].events.iter().map(|event| &event.kind);
        kinds
            .filter_map(|kind| match kind {
                EventKind::ChannelFailed { channel, .. } => Some(*channel),
                _ => None,
            })
            .collect()
    };
    let mut failed = of(&world);
    failed.sort_unstable();
    let mut both = [channels[0], second];
    both.sort_unstable();
    assert_eq!(failed, both);
    assert!(world.channel(1, channels[1]).expect("there").usable);
}

#[test]
fn a_warning_fails_nothing() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    for channel_id in [id, ChannelId::ALL, ChannelId([9; 32])] {
        let answers = world.say(0, Warning { channel_id, data: b"careful".to_vec() }.into());
        assert_eq!(answers, []);
    }
    assert!(world.channel(1, id).expect("there").usable && world.is_connected());
    assert_eq!(events(&world, 1, |kind| matches!(kind, EventKind::Warning { .. })), 2, "of a channel it knows, or all");
}

#[test]
fn what_is_about_no_channel_is_answered_by_an_error_and_an_error_by_nothing() {
    let mut world = World::new();
    let stranger = Stranger::call(&mut world, 1, 77);
    let unknown = ChannelId([9; 32]);
    assert_eq!(stranger.say(&mut world, error(unknown)), []);
    assert_eq!(stranger.say(&mut world, error(ChannelId::ALL)), []);
    let fee = wire::UpdateFee { channel_id: unknown, feerate_per_kw: FeeratePerKw::new(1_000) };
    let Message::Error(answer) = only(stranger.say(&mut world, fee)) else { panic!("error") };
    assert_eq!(answer.channel_id, unknown);
}

/// Events are kept for good: no peer may fill the disk with them.
#[test]
fn words_without_end_are_not_written_down() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let said = |world: &World| events(world, 1, |kind| matches!(kind, EventKind::Warning { .. }));
    for number in 0..500 {
        let channel_id = if number % 2 == 0 { id } else { ChannelId::ALL };
        world.say(0, Warning { channel_id, data: b"again".to_vec() }.into());
    }
    let before = said(&world);
    assert!((1..=30).contains(&before), "{before}");
    world.tick(1, 60);
    world.say(0, Warning { channel_id: id, data: b"and again".to_vec() }.into());
    assert_eq!(said(&world), before + 1, "after a while it is listened to again");
    let stranger = Stranger::call(&mut world, 1, 77);
    for _ in 0..200 {
        stranger.leave(&mut world);
        stranger.connect(&mut world);
    }
    let seen = events(&world, 1, |kind| match kind {
        EventKind::PeerConnected { peer } | EventKind::PeerDisconnected { peer } => *peer == stranger.id(),
        _ => false,
    });
    assert!((2..=30).contains(&seen), "{seen}");
    // Of a peer with a channel each coming and going is told.
    let met = |world: &World| events(world, 1, |kind| matches!(kind, EventKind::PeerConnected { .. }));
    let before = met(&world);
    for _ in 0..40 {
        world.disconnect();
        world.connect();
    }
    assert_eq!(met(&world), before + 40);
}

/// BOLT 2: who sends no satisfying `fee_range` in a reasonable time is failed.
#[test]
fn closing_fees_that_never_meet_end_by_force() {
    let (mut world, id) = World::with_channel(1_000_000, 400_000_000);
    world.lost = vec![ClosingSigned::TYPE];
    let close = CloseChannel { channel: id, force: false, address: None, feerate: None, validate_only: false };
    world.start(0, None, Command::CloseChannel(close));
    world.run();
    for (seconds, fails) in [(1, false), (300, false), (601, true)] {
        world.tick(0, seconds);
        if !world.is_connected() {
            world.connect();
        }
        let theirs = &world.members[1].node.state().channels[&id].channel;
        let fee = Amount::from_sat(50_000);
        let sighash = theirs.funded().expect("funded").closing_transaction_for_test(fee);
        let signature = world.members[1].signer.sign_funding(&theirs.keys_id, sighash);
        let range = FeeRange { min_fee_satoshis: fee, max_fee_satoshis: fee + Amount::ONE_SAT };
        let message = ClosingSigned { channel_id: id, fee_satoshis: fee, signature, fee_range: Some(range) };
        world.say(1, message.into());
        assert_eq!(world.has_event(0, failed), fails, "after {seconds} s");
    }
    world.lost.clear();
}

/// BOLT 2: a channel whose type has `option_scid_alias` answers to its alias alone.
#[test]
fn a_channel_that_hides_its_place_is_named_by_its_alias_alone() {
    let (world, channels) = World::line(3, 1_000_000);
    let mut entry = world.members[1].node.state().channels[&channels[1]].clone();
    let (alias, place) = (entry.channel.alias, entry.place().expect("confirmed"));
    assert_eq!(entry.names().collect::<Vec<_>>(), [alias, place]);
    assert_ne!(alias, place, "the alias says nothing of the place");
    entry.channel.is_alias_only = true;
    assert_eq!(entry.names().collect::<Vec<_>>(), [alias]);
    let aliases: std::collections::BTreeSet<_> = world
        .members
        .iter()
        .flat_map(|member| member.node.state().channels.values().map(|entry| entry.channel.alias))
        .collect();
    assert_eq!(aliases.len(), 4, "no two are alike");
    assert!(world.members[1].node.state().channel_named(alias).is_some());
}

/// BOLT 5: a payee's preimage is for the HTLCs that are paid to it, and shown for no other, not even on the chain.
#[test]
fn a_preimage_of_ours_is_not_shown_for_what_we_only_forward() {
    let (mut world, channels) = World::line(3, 1_000_000);
    let secret = preimage(42);
    let invoice = crate::node::command::CreateInvoice {
        amount: Some(Msat::new(10_000_000)),
        description: "ours".to_owned(),
        expiry_seconds: 3_600,
        preimage: Some(secret),
        payment_hash: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    world.ask(1, Command::CreateInvoice(invoice)).expect("an invoice");
    let hold = Fault::HoldHtlcs { channel: channels[1], hold: true };
    world.ask(2, Command::InjectFault(hold)).expect("held");
    let legs = line_route(&world, &channels, 10_000_000);
    send(&mut world, &legs, &Proof::Invoice { hash: secret.payment_hash(), secret: [1; 32], total: 10_000_000 }, 50);
    world.run();
    assert_eq!(world.members[1].node.state().forwards.len(), 1, "it is on its way over us");
    let close = CloseChannel { channel: channels[0], force: true, address: None, feerate: None, validate_only: false };
    world.ask(0, Command::CloseChannel(close)).expect("closes");
    world.mine(30);
    let shown = world
        .ledger
        .blocks
        .iter()
        .flat_map(|block| &block.txdata)
        .flat_map(|it| &it.input)
        .any(|input| input.witness.iter().any(|item| item == secret.0));
    assert!(!shown);
    let fulfilled = world.answers.iter().any(|(_, message)| matches!(message, Message::UpdateFulfillHtlc(_)));
    assert!(!fulfilled);
}
