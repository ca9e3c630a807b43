//! `open_channel` to `channel_ready`.

use super::*;
use crate::units::{CltvDelta, CommitmentNumber};
use crate::wire::{AcceptChannel, OpenChannel};

/// A change, and the rule that it breaks.
type Case = (fn(&mut AcceptChannel), Violation);

fn opened(request: OpenRequest, policy: &Policy) -> OpenChannel {
    let (_, effects) = Channel::open(request, &bare_context(0, policy)).expect("opens");
    let [Effect::Send(Message::OpenChannel(message))] = effects.as_slice() else { panic!("open_channel") };
    message.as_ref().clone()
}

fn accepted(message: &OpenChannel, policy: &Policy) -> Result<(Channel, AcceptChannel), Error> {
    let (channel, effects) = Channel::accept(message, accept_request(), &bare_context(1, policy))?;
    let [Effect::Send(Message::AcceptChannel(answer))] = effects.as_slice() else { panic!("accept_channel") };
    Ok((channel, answer.as_ref().clone()))
}

#[test]
fn what_open_channel_says() {
    for (format, bits) in
        [(CommitmentFormat::Anchors, &[0x40, 0x10, 0x00][..]), (CommitmentFormat::StaticRemotekey, &[0x10, 0x00][..])]
    {
        let message = opened(request(format, 500_000_000), &Policy::default());
        assert_eq!(message.chain_hash, ChainHash::REGTEST);
        assert_eq!(message.temporary_channel_id, ChannelId([13; 32]));
        assert!(message.push_msat.msat() <= message.funding_satoshis.to_sat() * 1_000);
        assert!(message.channel_reserve_satoshis >= message.dust_limit_satoshis);
        assert_eq!(message.channel_flags, 0);
        assert_eq!(message.upfront_shutdown_script, Some(ScriptBuf::new()), "there, and opted out");
        let channel_type = message.channel_type.expect("always");
        assert_eq!(channel_type.as_bytes(), bits, "the smallest bitmap, and never scid_alias");
        let keys = signer(0).basepoints(&ChannelKeyId([11; 32]));
        let said = [
            message.funding_pubkey,
            message.revocation_basepoint,
            message.payment_basepoint,
            message.delayed_payment_basepoint,
            message.htlc_basepoint,
            message.first_per_commitment_point,
        ];
        let first = signer(0).per_commitment_point(&ChannelKeyId([11; 32]), CommitmentNumber::new(0));
        let known = [
            *keys.funding_pubkey.key(),
            *keys.revocation_basepoint.key(),
            *keys.payment_basepoint.key(),
            *keys.delayed_payment_basepoint.key(),
            *keys.htlc_basepoint.key(),
            *first.key(),
        ];
        assert_eq!(said, known);
        assert!((0..6).all(|one| (0..one).all(|other| said[one] != said[other])), "each key has one use");
    }
    let public = opened(OpenRequest { announce: true, ..request(CommitmentFormat::Anchors, 0) }, &Policy::default());
    assert_eq!(public.channel_flags, 1, "undefined bits are 0");
}

#[test]
fn flags_that_nobody_defined_are_ignored() {
    let mut message = opened(request(CommitmentFormat::Anchors, 0), &Policy::default());
    for (flags, announce) in [(0xfe, false), (0xff, true), (0x80, false)] {
        message.channel_flags = flags;
        let (channel, _) = accepted(&message, &Policy::default()).expect("accepted");
        assert_eq!(channel.announce, announce);
    }
}

#[test]
fn a_large_channel_needs_the_feature_on_both_sides() {
    let (min, most) = (Amount::from_sat(100_000), Amount::from_sat(1 << 24) - Amount::from_sat(1));
    let policy = Policy { funding: min..=Amount::from_sat(100_000_000), ..Policy::default() };
    let funding = Amount::from_sat(1 << 24);
    let without = SessionFeatures { large_channels: false, ..FEATURES };
    let large = OpenRequest { funding, ..request(CommitmentFormat::Anchors, 0) };
    let message = opened(large, &policy);
    assert!(accepted(&message, &policy).is_ok());
    let small = OpenRequest { funding, features: without, ..request(CommitmentFormat::Anchors, 0) };
    let refused = Channel::open(small, &bare_context(0, &policy)).map(|_| ());
    assert_eq!(refused, Err(Refusal::FundingOutOfRange { funding, min, max: most }.into()));
    let request = AcceptRequest { features: without, ..accept_request() };
    let refused = Channel::accept(&message, request, &bare_context(1, &policy)).map(|_| ());
    assert_eq!(refused, violated(Violation::FundingOutOfRange { funding, min, max: most }));
}

#[test]
fn one_balance_of_the_first_commitment_is_above_the_reserve() {
    let policy = Policy { max_reserve_permille: 500, ..Policy::default() };
    let mut message = opened(request(CommitmentFormat::Anchors, 0), &policy);
    message.funding_satoshis = Amount::from_sat(100_000);
    message.max_htlc_value_in_flight_msat = Msat::new(100_000_000);
    message.feerate_per_kw = FeeratePerKw::new(25_000);
    message.channel_reserve_satoshis = Amount::from_sat(40_000);
    // 28,100 sat of fee and 660 of anchors leave 71,240 to share.
    for (push, broken) in [(40_000, true), (31_240, true), (31_239, false), (40_001, false)] {
        message.push_msat = Msat::new(push * 1_000);
        let outcome = accepted(&message, &policy).map(|_| ());
        let expected = if broken { violated(Violation::BelowReserve) } else { Ok(()) };
        assert_eq!(outcome, expected, "{push}");
    }
}

#[test]
fn what_accept_channel_says() {
    let small = OpenRequest { funding: Amount::from_sat(100_000), ..request(CommitmentFormat::Anchors, 0) };
    let mut message = opened(small, &Policy::default());
    message.channel_reserve_satoshis = Amount::from_sat(5_000);
    message.dust_limit_satoshis = Amount::from_sat(5_000);
    let (channel, answer) = accepted(&message, &Policy::default()).expect("accepted");
    assert_eq!(answer.temporary_channel_id, message.temporary_channel_id);
    assert!(answer.channel_reserve_satoshis >= message.dust_limit_satoshis, "1 % would be less");
    assert!(answer.dust_limit_satoshis <= message.channel_reserve_satoshis);
    assert_eq!(answer.channel_type, message.channel_type);
    assert_eq!(answer.upfront_shutdown_script, Some(ScriptBuf::new()));
    assert!(answer.minimum_depth > 0, "without option_zeroconf");
    assert!(channel.funded().is_none());
}

#[test]
fn accept_channel_is_held_to_the_rules_of_open_channel() {
    let policy = Policy::default();
    let small = OpenRequest { funding: Amount::from_sat(100_000), ..request(CommitmentFormat::Anchors, 0) };
    let (channel, effects) = Channel::open(small, &bare_context(0, &policy)).expect("opens");
    let mut a = Node::new(0, policy.clone(), channel, effects);
    let Some(Message::OpenChannel(message)) = a.outbox.pop_front() else { panic!("open_channel") };
    let (_, good) = accepted(&message, &policy).expect("accepted");
    let sat = Amount::from_sat;
    let cases: [Case; 10] = [
        (
            |it| it.to_self_delay = CltvDelta::new(2_017),
            Violation::ToSelfDelay { delay: CltvDelta::new(2_017), max: CltvDelta::new(2_016) },
        ),
        (|it| it.max_accepted_htlcs = 484, Violation::MaxAcceptedHtlcs { count: 484 }),
        (|it| it.max_accepted_htlcs = 0, Violation::MaxAcceptedHtlcs { count: 0 }),
        (
            |it| it.max_htlc_value_in_flight_msat = Msat::new(999_999),
            Violation::MaxInFlight { value: Msat::new(999_999) },
        ),
        (|it| it.htlc_minimum_msat = Msat::new(10_000_001), Violation::HtlcMinimum { minimum: Msat::new(10_000_001) }),
        (|it| it.dust_limit_satoshis = Amount::from_sat(353), Violation::DustLimit { dust_limit: sat(353) }),
        // The reserve that `open_channel` asked for is 1,000 sat.
        (
            |it| it.dust_limit_satoshis = Amount::from_sat(1_001),
            Violation::DustAboveReserve { dust_limit: sat(1_001), reserve: sat(1_000) },
        ),
        (|it| it.channel_reserve_satoshis = Amount::from_sat(20_001), Violation::Reserve { reserve: sat(20_001) }),
        (|it| it.upfront_shutdown_script = None, Violation::UpfrontShutdownMissing),
        (|it| it.upfront_shutdown_script = Some(bad_script()), Violation::ShutdownScript),
    ];
    assert!(answer(&a, good.clone()).is_ok());
    for (change, violation) in cases {
        let mut message = good.clone();
        change(&mut message);
        assert_eq!(fault(&a, message), violation);
    }
    // "MUST fail the channel", each time: nothing of it is left, and the peer is told by the temporary id.
    a.step(Input::Violated(Violation::ChannelTypeChanged));
    let Some(Message::Error(error)) = a.outbox.pop_front() else { panic!("error") };
    assert_eq!(error.channel_id, ChannelId([13; 32]));
    assert!(matches!(a.channel.state, State::Abandoned(AbandonReason::Failed(_))));
}

#[test]
fn first_signatures_with_a_high_s_are_refused() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.run();
    pair.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
    let Some(Message::FundingCreated(created)) = pair.a.outbox.pop_front() else { panic!("funding_created") };
    let mut high = created.clone();
    high.signature = high_s(&created.signature);
    let high = Message::decode(&Message::from(high).encode()).expect("it decodes");
    let violation = fault(&pair.b, high);
    assert!(matches!(violation, Violation::CommitmentSignature { .. }));
    assert_eq!(violation.response(), Response::FailChannel);
    pair.b.step(Input::Message(created.into()));
    let Some(Message::FundingSigned(mut signed)) = pair.b.outbox.pop_front() else { panic!("funding_signed") };
    signed.signature = high_s(&signed.signature);
    assert!(matches!(fault(&pair.a, signed.clone()), Violation::CommitmentSignature { .. }));
    pair.a.step(Input::Violated(fault(&pair.a, signed)));
    assert!(!pair.a.effects.iter().any(|effect| matches!(effect, Effect::BroadcastFunding { .. })));
    assert!(matches!(pair.a.outbox.pop_front(), Some(Message::Error(_))));
}

/// BOLT 2: no `channel_ready` for an output that pays something else, and nothing to enforce either.
#[test]
fn a_funding_output_that_is_another_ends_the_channel() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), Policy::default()]);
    pair.fund();
    pair.b.step(Input::FundingInvalid);
    let Some(Message::Error(error)) = pair.b.outbox.pop_front() else { panic!("error") };
    assert_eq!(error.channel_id, pair.a.channel.id);
    assert!(pair.b.outbox.is_empty() && pair.b.broadcasts().is_empty());
    assert!(matches!(pair.b.channel.state, State::Abandoned(AbandonReason::FundingInvalid)));
    pair.a.step(Input::FundingInvalid);
    assert!(pair.a.channel.funded().is_some(), "the opener made it itself");
}

#[test]
fn channel_ready_names_the_second_point_and_an_alias() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.fund();
    pair.confirm();
    for (side, alias) in [(0, 17), (1, 18)] {
        let node = pair.side(side);
        let Some(Message::ChannelReady(ready)) = node.outbox.front() else { panic!("channel_ready") };
        let second = node.signer.per_commitment_point(&node.channel.keys_id, CommitmentNumber::new(1));
        assert_eq!(ready.second_per_commitment_point, *second.key());
        assert_eq!(ready.short_channel_id, Some(ShortChannelId::from_u64(alias)), "and not its place on the chain");
    }
}

#[test]
fn a_repeated_channel_ready_changes_nothing_but_the_alias() {
    let mut pair = Pair::anchors();
    pair.b.add(LARGE, 1).expect("goes");
    pair.run();
    let mut ready = pair.b.channel.channel_ready(&pair.b.context());
    ready.second_per_commitment_point = pair.a.signer.node_id();
    ready.short_channel_id = Some(ShortChannelId::from_u64(99));
    pair.a.step(Input::Message(ready.clone().into()));
    assert_eq!(pair.a.funded().remote_alias, ready.short_channel_id);
    assert!(!pair.a.effects.contains(&Effect::Ready), "said once");
    let steps = pair.a.channel.decide(Input::Message(ready.into()), &pair.a.context()).expect("ignored");
    assert!(steps.0.is_empty() && steps.1.is_empty());
    pair.a.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.run();
    pair.a.add(LARGE, 2).expect("goes");
    pair.run();
    pair.assert_level();
}

#[test]
fn pushed_money_is_of_no_use_before_the_depth() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), Policy::default()]);
    pair.fund();
    let short_channel_id = ShortChannelId::new(101, 1, 1).expect("in range");
    for depth in [1, 2] {
        pair.b.step(Input::FundingDepth { depth, short_channel_id });
        assert!(!pair.b.channel.is_usable() && pair.b.outbox.is_empty());
        assert_eq!(pair.b.channel.available_for_htlc(), Msat::ZERO);
        assert_eq!(pair.b.add(LARGE, 1), Err(Refusal::NotReady.into()));
    }
    pair.confirm();
    pair.run();
    assert!(pair.b.channel.available_for_htlc() > Msat::ZERO);
}

/// An `open_channel` on a new connection begins anew; the old one is gone with the old connection.
#[test]
fn a_new_connection_takes_a_new_open_channel() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    let message = opened(request(CommitmentFormat::Anchors, 0), &Policy::default());
    pair.disconnect();
    assert!(matches!(pair.b.channel.state, State::Abandoned(AbandonReason::Disconnected)));
    assert!(accepted(&message, &Policy::default()).is_ok());
}
