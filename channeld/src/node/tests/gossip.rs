//! What two nodes tell each other and everybody of their channels.

use super::ledger::NETWORK;
use super::member::Crash;
use super::world::World;
use crate::node::command::{CloseChannel, Command, CreateInvoice, UpdateChannelPolicy};
use crate::node::input::Input;
use crate::node::reply::Reply;
use crate::payment::forward::PolicyUpdate;
use crate::payment::invoice::{HintHop, parse_invoice};
use crate::units::{ChannelId, Msat};
use crate::wire::{AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, Message, NodeAnnouncement};

fn begun(announce: bool) -> (World, ChannelId) {
    let mut world = World::new();
    world.fund(0, 10_000_000);
    world.fund(1, 10_000_000);
    world.connect();
    let id = world.begin_open(0, 1_000_000, 300_000_000, announce);
    (world, id)
}

fn public() -> (World, ChannelId) {
    let (mut world, id) = begun(true);
    world.mine(6);
    (world, id)
}

fn announcements(world: &World, who: usize) -> Vec<ChannelAnnouncement> {
    let of = |it: &Message| if let Message::ChannelAnnouncement(it) = it { Some((**it).clone()) } else { None };
    world.members[who].gossip.iter().filter_map(of).collect()
}

fn updates(world: &World, who: usize) -> Vec<ChannelUpdate> {
    let of = |it: &Message| if let Message::ChannelUpdate(it) = it { Some((**it).clone()) } else { None };
    world.members[who].gossip.iter().filter_map(of).collect()
}

fn identities(world: &World, who: usize) -> Vec<NodeAnnouncement> {
    let of = |it: &Message| if let Message::NodeAnnouncement(it) = it { Some((**it).clone()) } else { None };
    world.members[who].gossip.iter().filter_map(of).collect()
}

fn remote_update(world: &World, who: usize, id: ChannelId) -> ChannelUpdate {
    world.members[who].node.state().gossip[&id].remote_update.clone().expect("the peer's update")
}

/// The hints of an invoice that the second node makes.
fn hints(world: &mut World) -> Vec<Vec<HintHop>> {
    let create = CreateInvoice {
        amount: Some(Msat::new(5_000_000)),
        description: "tea".to_owned(),
        expiry_seconds: 600,
        preimage: None,
        payment_hash: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    match world.ask(1, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => parse_invoice(&invoice.payment_request, NETWORK).unwrap().route_hints,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_public_channel_is_announced_at_six_confirmations() {
    let (mut world, id) = begun(true);
    world.mine(5);
    assert!(world.channel(0, id).unwrap().usable);
    assert!(world.members.iter().all(|member| member.gossip.is_empty()));
    world.mine(1);
    for who in 0..2 {
        let kinds: Vec<u16> = world.members[who].gossip.iter().map(Message::message_type).collect();
        assert_eq!(kinds, [256, 258, 257], "announcement, update, node");
        let announcement = &announcements(&world, who)[0];
        assert!(announcement.is_signed());
        assert_eq!(
            announcement.node_id_1.serialize().min(announcement.node_id_2.serialize()),
            announcement.node_id_1.serialize()
        );
        let update = &updates(&world, who)[0];
        assert!(update.is_signed_by(&world.id(who).0));
        assert_eq!(update.short_channel_id, announcement.short_channel_id);
        assert_eq!(update.message_flags, ChannelUpdate::MUST_BE_ONE);
        let nodes = [announcement.node_id_1, announcement.node_id_2];
        assert_eq!(nodes[usize::from(update.direction())], world.id(who).0.into());
        let maximum = Msat::new(990_000_000);
        assert!(!update.is_disabled() && update.htlc_maximum_msat == maximum, "capacity without the reserve");
        let identity = &identities(&world, who)[0];
        assert!(identity.is_signed() && identity.node_id == world.id(who).0);
    }
    assert_eq!(announcements(&world, 0), announcements(&world, 1), "both make the same");
    world.mine(3);
    assert_eq!(announcements(&world, 0).len(), 1, "said once");
}

#[test]
fn a_private_channel_is_told_to_the_peer_alone() {
    let (mut world, id) = begun(false);
    world.mine(7);
    for who in 0..2 {
        assert!(world.members[who].gossip.is_empty());
        let alias = world.members[who].node.state().channels[&id].channel.alias;
        let update = remote_update(&world, who, id);
        assert_eq!(update.short_channel_id, alias, "by the name that its receiver gave");
        assert_eq!(update.message_flags, ChannelUpdate::MUST_BE_ONE | ChannelUpdate::DONT_FORWARD);
        assert!(update.is_signed_by(&world.id(1 - who).0));
    }
}

#[test]
fn announcing_goes_on_after_a_cut_at_any_message() {
    for cut in 0..6 {
        let (mut world, _) = begun(true);
        world.mine(5);
        world.mine_silently();
        for _ in 0..cut {
            world.deliver_one();
        }
        world.disconnect();
        world.connect();
        for who in 0..2 {
            assert_eq!(announcements(&world, who).len(), 1, "cut after {cut}, node {who}");
        }
    }
}

#[test]
fn announcing_goes_on_after_a_crash_at_any_turn() {
    for who in 0..2 {
        for (turn, crash) in (1..5).flat_map(|turn| [(turn, Crash::BeforeFlush), (turn, Crash::AfterFlush)]) {
            let (mut world, _) = begun(true);
            world.mine(5);
            world.members[who].crash_at = Some((world.members[who].turns + turn, crash));
            world.mine(1);
            world.members[who].crash_at = None;
            world.disconnect();
            world.connect();
            for who in 0..2 {
                assert!(!announcements(&world, who).is_empty(), "turn {turn}, {crash:?}, node {who}");
            }
        }
    }
}

#[test]
fn the_half_of_a_peer_that_sees_the_block_first_is_kept() {
    let (mut world, id) = begun(true);
    world.mine(5);
    world.hold_chain(1);
    world.mine(1);
    assert!(announcements(&world, 1).is_empty() && announcements(&world, 0).is_empty());
    assert!(world.members[1].node.state().gossip[&id].remote_signatures.is_some());
    world.release_chain(1);
    assert_eq!((announcements(&world, 0).len(), announcements(&world, 1).len()), (1, 1));
}

#[test]
fn wrong_signatures_are_warned_of_and_forgotten() {
    let (mut world, id) = begun(true);
    world.mine(5);
    let place = world.members[0].node.state().channels[&id].place().unwrap();
    let signature = world.sign(1, [7; 32]);
    let wrong = AnnouncementSignatures {
        channel_id: id,
        short_channel_id: place,
        node_signature: signature,
        bitcoin_signature: signature,
    };
    let sent = world.say(1, wrong.into());
    assert!(sent.iter().any(|message| matches!(message, Message::Warning(_))));
    assert!(world.members[0].node.state().gossip[&id].remote_signatures.is_none());
    world.mine(1);
    assert_eq!(announcements(&world, 0).len(), 1, "the right ones are taken");
}

#[test]
fn a_peer_long_away_switches_its_channel_off() {
    let (mut world, _) = public();
    world.disconnect();
    world.tick(0, 19 * 60);
    assert_eq!(updates(&world, 0).len(), 1);
    world.tick(0, 120);
    let said = updates(&world, 0);
    assert!(said[1].is_disabled() && said[1].timestamp > said[0].timestamp);
    world.connect();
    let said = updates(&world, 0);
    assert!(!said[2].is_disabled() && said[2].timestamp > said[1].timestamp);
    assert_eq!(said.len(), 3);
}

#[test]
fn an_update_is_said_again_before_it_is_too_old() {
    let (mut world, _) = public();
    world.tick(0, 12 * 24 * 3_600);
    assert_eq!((updates(&world, 0).len(), identities(&world, 0).len()), (1, 1));
    world.tick(0, 2 * 24 * 3_600);
    assert_eq!((updates(&world, 0).len(), identities(&world, 0).len()), (2, 2));
}

#[test]
fn a_new_policy_is_told_to_all_and_times_never_repeat() {
    let (mut world, id) = public();
    for fee in 1..4 {
        let update = PolicyUpdate { fee_base_msat: Some(fee), ..PolicyUpdate::default() };
        let command = UpdateChannelPolicy { channel: id, update, validate_only: false };
        world.ask(0, Command::UpdateChannelPolicy(command)).unwrap();
        assert_eq!(remote_update(&world, 1, id).fee_base_msat, fee);
        world.crash(0);
        world.connect();
    }
    let said = updates(&world, 0);
    let times: Vec<u32> = said.iter().map(|update| update.timestamp).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let mut fees: Vec<(u32, u32)> = said.iter().map(|update| (update.timestamp, update.fee_base_msat)).collect();
    fees.dedup();
    let mut distinct: Vec<u32> = fees.iter().map(|(time, _)| *time).collect();
    distinct.dedup();
    assert_eq!(distinct.len(), fees.len(), "one time never says two things");
}

#[test]
fn a_closed_channel_is_switched_off() {
    let (mut world, id) = public();
    let close = CloseChannel { channel: id, force: true, address: None, feerate: None, validate_only: false };
    world.ask(0, Command::CloseChannel(close)).unwrap();
    assert!(updates(&world, 0).last().unwrap().is_disabled());
}

#[test]
fn an_invoice_hints_at_a_private_channel() {
    let (mut world, id) = begun(false);
    world.mine(6);
    let found = hints(&mut world);
    assert_eq!(found.len(), 1);
    let hop = &found[0][0];
    assert_eq!(hop.node_id, world.id(0));
    assert_eq!(hop.short_channel_id, world.members[0].node.state().channels[&id].channel.alias, "the peer's own name");
    let update = remote_update(&world, 1, id);
    assert_eq!((hop.fee_base_msat, hop.cltv_expiry_delta), (update.fee_base_msat, update.cltv_expiry_delta));
    world.disconnect();
    assert!(hints(&mut world).is_empty(), "nothing comes over a channel that is offline");
}

#[test]
fn an_invoice_of_a_public_node_needs_no_hint() {
    let (mut world, _) = public();
    assert!(hints(&mut world).is_empty());
}

#[test]
fn only_the_peers_own_updates_are_believed() {
    let (mut world, id) = begun(false);
    world.mine(6);
    let before = remote_update(&world, 0, id);
    let forged = |change: &dyn Fn(&mut ChannelUpdate), signer: usize, world: &World| {
        let mut update = before.clone();
        update.timestamp += 10;
        change(&mut update);
        update.signature = world.sign(signer, *update.signed_hash().as_ref());
        update
    };
    let by_us = forged(&|_| {}, 0, &world);
    let of_us = forged(&|it| it.channel_flags ^= 1, 1, &world);
    let old = forged(&|it| it.timestamp = before.timestamp, 1, &world);
    let elsewhere = forged(&|it| it.chain_hash = bitcoin::constants::ChainHash::BITCOIN, 1, &world);
    for update in [by_us, of_us, old, elsewhere] {
        world.say(1, update.into());
        assert_eq!(remote_update(&world, 0, id), before);
    }
    let right = forged(&|it| it.fee_base_msat = 77, 1, &world);
    world.say(1, right.into());
    assert_eq!(remote_update(&world, 0, id).fee_base_msat, 77);
}

#[test]
fn a_tick_changes_nothing_that_is_told() {
    let (mut world, _) = public();
    let told = world.members[0].gossip.len();
    world.tick(0, 3_600);
    world.input(0, Input::Tick);
    assert_eq!(world.members[0].gossip.len(), told);
}
