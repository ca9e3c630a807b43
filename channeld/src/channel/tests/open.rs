//! Opening.

use super::*;

#[test]
fn both_formats_open() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemotekey] {
        let pair = Pair::open(format);
        pair.assert_level();
        assert_eq!(pair.a.balance(), Msat::new(500_000_000));
        assert_eq!(pair.a.commitments().parameters.format, format);
        assert_eq!(pair.b.funded().remote_alias, Some(ShortChannelId::from_u64(17)));
        assert_eq!(pair.a.channel.id, pair.b.channel.id);
    }
}

#[test]
fn nothing_is_broadcast_before_the_signature_is_there() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.run();
    let needed = pair.a.taken(|effect| matches!(effect, Effect::FundingNeeded { .. }).then(|| effect.clone()));
    let [Effect::FundingNeeded { script_pubkey, amount }] = needed.as_slice() else { panic!("asked for once") };
    assert_eq!(*amount, FUNDING);
    pair.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
    assert!(!pair.a.effects.iter().any(|effect| matches!(effect, Effect::BroadcastFunding { .. })));
    assert!(pair.a.channel.signed_local_commitment(&pair.a.context()).is_none());
    let named = pair.a.taken(|effect| match effect {
        Effect::Identified { script_pubkey, outpoint, .. } => Some((script_pubkey.clone(), *outpoint)),
        _ => None,
    });
    assert_eq!(named, [(script_pubkey.clone(), outpoint())]);
    pair.run();
    assert!(pair.a.effects.contains(&Effect::BroadcastFunding { outpoint: outpoint() }));
    assert!(pair.a.channel.signed_local_commitment(&pair.a.context()).is_some());
}

#[test]
fn a_lost_connection_before_funding_forgets_the_channel() {
    for delivered in 0..2 {
        let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
        pair.run_at_most(delivered);
        pair.disconnect();
        for node in [&pair.a, &pair.b] {
            assert!(matches!(node.channel.state, State::Abandoned(AbandonReason::Disconnected)));
            assert!(node.effects.contains(&Effect::Abandoned { reason: AbandonReason::Disconnected }));
        }
    }
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.run();
    pair.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
    pair.deliver(0);
    pair.disconnect();
    assert!(matches!(pair.a.channel.state, State::Abandoned(_)), "funding_signed is lost: nothing was broadcast");
    assert!(pair.b.channel.funded().is_some(), "the accepter cannot know");
}

#[test]
fn channel_ready_survives_every_cut() {
    for cut in 0..6 {
        let mut pair = Pair::opening(CommitmentFormat::Anchors, 1_000_000, [Policy::default(), Policy::default()]);
        pair.fund();
        pair.confirm();
        pair.run_at_most(cut);
        pair.disconnect();
        pair.b.restart();
        pair.reconnect();
        pair.run();
        assert!(pair.a.channel.is_usable() && pair.b.channel.is_usable(), "cut {cut}");
        pair.a.add(30_000_000, 1).expect("goes");
        pair.run();
        pair.assert_level();
    }
}

#[test]
fn channel_ready_waits_for_the_depth_and_for_the_peer() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.fund();
    let short_channel_id = ShortChannelId::new(101, 1, 1).expect("in range");
    pair.a.step(Input::FundingDepth { depth: 1, short_channel_id });
    assert!(pair.a.outbox.is_empty());
    pair.disconnect();
    pair.a.step(Input::FundingDepth { depth: 3, short_channel_id });
    pair.a.step(Input::FundingReorged);
    assert_eq!(pair.a.funded().short_channel_id, None);
    pair.a.step(Input::FundingDepth { depth: 3, short_channel_id });
    pair.b.step(Input::FundingDepth { depth: 3, short_channel_id });
    assert!(pair.a.outbox.is_empty());
    pair.reconnect();
    pair.run();
    assert!(pair.a.effects.contains(&Effect::Ready) && pair.b.effects.contains(&Effect::Ready));
}

#[test]
fn an_accepter_forgets_what_is_never_funded() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.fund();
    pair.b.height = BlockHeight::new(100 + 2_016);
    pair.b.step(Input::Block);
    assert!(pair.b.channel.funded().is_some());
    pair.b.height = BlockHeight::new(100 + 2_017);
    pair.b.step(Input::Block);
    assert!(pair.b.effects.contains(&Effect::Abandoned { reason: AbandonReason::NotFunded }));
    pair.a.height = BlockHeight::new(100 + 5_000);
    pair.a.step(Input::Block);
    assert!(pair.a.channel.funded().is_some(), "the opener's money is in it");
}

#[test]
fn upfront_scripts_are_said_and_kept() {
    let policy = Policy::default();
    let mut open = request(CommitmentFormat::Anchors, 100_000_000);
    open.upfront_shutdown_script = true;
    let (channel, effects) = Channel::open(open, &bare_context(0, &policy)).expect("opens");
    let mut a = Node::new(0, policy.clone(), channel, effects);
    let Some(Message::OpenChannel(message)) = a.outbox.pop_front() else { panic!("open_channel") };
    assert_eq!(message.upfront_shutdown_script, Some(close_script(1)));
    let (channel, effects) = Channel::accept(&message, accept_request(), &bare_context(1, &policy)).expect("accepts");
    let mut pair = Pair { a, b: Node::new(1, policy.clone(), channel, effects), delivered: 0 };
    pair.fund();
    pair.confirm();
    pair.run();
    assert_eq!(pair.b.funded().remote_upfront_script, Some(close_script(1)));
    assert_eq!(pair.a.funded().remote_upfront_script, None, "opted out with an empty script");
    let other = Command::Shutdown { script: Some(close_script(9)), feerate: None };
    assert_eq!(pair.a.command(other), Err(Refusal::UpfrontShutdownScript.into()));
    pair.a.command(Command::Shutdown { script: None, feerate: None }).expect("the one that was said");
    let Some(Message::Shutdown(mut message)) = pair.a.outbox.pop_front() else { panic!("shutdown") };
    message.scriptpubkey = close_script(9);
    let refused = pair.b.try_step(Input::Message(message.into()));
    assert_eq!(refused, Err(Violation::ShutdownScriptChanged.into()));
}

#[test]
fn an_opening_that_fails_says_so_with_the_temporary_id() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.a.step(Input::Violated(Violation::ChannelType));
    let Some(Message::Error(error)) = pair.a.outbox.pop_front() else { panic!("error") };
    assert_eq!(error.channel_id, ChannelId([13; 32]));
    pair.b.step(Input::Message(error.into()));
    assert!(matches!(pair.b.channel.state, State::Abandoned(AbandonReason::Failed(_))));
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.run();
    pair.a.command(Command::Abandon(AbandonReason::ByUser)).expect("nothing is funded");
    assert!(matches!(pair.a.channel.state, State::Abandoned(AbandonReason::ByUser)));
}
