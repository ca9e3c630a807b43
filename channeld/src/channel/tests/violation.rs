//! One test for each rule that the peer may break.

use super::close::legacy;
use super::transfer::SESSION;
use super::*;
use crate::commitment::LimitViolation;
use crate::units::CltvDelta;
use crate::wire::{
    self, AcceptChannel, CommitmentSigned, Feature, Features, OpenChannel, RevealedSecret, RevokeAndAck, UpdateAddHtlc,
    UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc, UpdateTransfer,
};

const LARGE: u64 = 30_000_000;

fn violated(violation: Violation) -> Result<(), Error> {
    Err(Error::Violated(violation))
}

fn limit(violation: LimitViolation) -> Result<(), Error> {
    violated(Violation::Limit(violation))
}

/// What `node` says to a message; nothing changes.
fn answer(node: &Node, message: impl Into<Message>) -> Result<(), Error> {
    node.channel.decide(Input::Message(message.into()), &node.context()).map(|_| ())
}

fn accept(change: impl Fn(&mut OpenChannel)) -> Result<(), Error> {
    accept_with(change, |_| {})
}

fn accept_with(change: impl Fn(&mut OpenChannel), features: impl Fn(&mut SessionFeatures)) -> Result<(), Error> {
    let policy = Policy::default();
    let (_, effects) = Channel::open(request(CommitmentFormat::Anchors, 0), &bare_context(0, &policy)).expect("opens");
    let [Effect::Send(Message::OpenChannel(message))] = effects.as_slice() else { panic!("open_channel") };
    let mut message = message.as_ref().clone();
    change(&mut message);
    let mut request = accept_request();
    features(&mut request.features);
    Channel::accept(&message, request, &bare_context(1, &policy)).map(|_| ())
}

#[test]
fn open_channel() {
    let sat = Amount::from_sat;
    assert_eq!(accept(|_| {}), Ok(()));
    assert_eq!(accept(|it| it.chain_hash = ChainHash::BITCOIN), violated(Violation::ChainHash));
    assert_eq!(accept_with(|_| {}, |it| it.dual_fund = true), violated(Violation::DualFund));
    let (min, max) = (sat(100_000), sat(16_777_215));
    for funding in [sat(99_999), sat(16_777_216)] {
        let broken = Violation::FundingOutOfRange { funding, min, max };
        assert_eq!(accept(|it| it.funding_satoshis = funding), violated(broken));
    }
    let push = Msat::new(1_000_000_001);
    assert_eq!(accept(|it| it.push_msat = push), violated(Violation::PushTooLarge { push, funding: FUNDING }));
    let delay = CltvDelta::new(2_017);
    let broken = Violation::ToSelfDelay { delay, max: CltvDelta::new(2_016) };
    assert_eq!(accept(|it| it.to_self_delay = delay), violated(broken));
    for count in [0, 484] {
        assert_eq!(accept(|it| it.max_accepted_htlcs = count), violated(Violation::MaxAcceptedHtlcs { count }));
    }
    let (min, max) = (FeeratePerKw::FLOOR, FeeratePerKw::new(25_000));
    for feerate in [FeeratePerKw::new(252), FeeratePerKw::new(25_001)] {
        assert_eq!(accept(|it| it.feerate_per_kw = feerate), violated(Violation::Feerate { feerate, min, max }));
    }
    for dust_limit in [sat(353), sat(5_001)] {
        assert_eq!(accept(|it| it.dust_limit_satoshis = dust_limit), violated(Violation::DustLimit { dust_limit }));
    }
    let minimum = Msat::new(10_000_001);
    assert_eq!(accept(|it| it.htlc_minimum_msat = minimum), violated(Violation::HtlcMinimum { minimum }));
    let value = Msat::new(999_999);
    assert_eq!(accept(|it| it.max_htlc_value_in_flight_msat = value), violated(Violation::MaxInFlight { value }));
    let reserve = sat(200_001);
    assert_eq!(accept(|it| it.channel_reserve_satoshis = reserve), violated(Violation::Reserve { reserve }));
    let low = |it: &mut OpenChannel| it.channel_reserve_satoshis = sat(353);
    let broken = Violation::DustAboveReserve { dust_limit: sat(354), reserve: sat(353) };
    assert_eq!(accept(low), violated(broken));
}

#[test]
fn open_channel_type_scripts_and_first_commitment() {
    let sat = Amount::from_sat;
    assert_eq!(accept(|it| it.channel_type = None), violated(Violation::ChannelType));
    let types: [&[Feature]; 4] = [
        &[],
        &[Feature::Anchors],
        &[Feature::ScidAlias],
        &[Feature::StaticRemotekey, Feature::Anchors, Feature::ZeroConf],
    ];
    for features in types {
        let channel_type = Features::channel_type(features);
        assert_eq!(accept(|it| it.channel_type = Some(channel_type.clone())), violated(Violation::ChannelType));
    }
    let alias = Features::channel_type(&[Feature::StaticRemotekey, Feature::Anchors, Feature::ScidAlias]);
    assert_eq!(accept(|it| it.channel_type = Some(alias.clone())), Ok(()));
    let public = |it: &mut OpenChannel| {
        it.channel_type = Some(alias.clone());
        it.channel_flags = 1;
    };
    assert_eq!(accept(public), violated(Violation::ChannelType), "what hides its place is not announced");
    let not_negotiated = accept_with(|it| it.channel_type = Some(alias.clone()), |it| it.scid_alias = false);
    assert_eq!(not_negotiated, violated(Violation::ChannelType));
    assert_eq!(accept_with(|_| {}, |it| it.anchors = false), violated(Violation::ChannelType));
    assert_eq!(accept(|it| it.upfront_shutdown_script = None), violated(Violation::UpfrontShutdownMissing));
    let without = |it: &mut SessionFeatures| it.upfront_shutdown_script = false;
    assert_eq!(accept_with(|it| it.upfront_shutdown_script = None, without), Ok(()));
    let script = |it: &mut OpenChannel| it.upfront_shutdown_script = Some(bad_script());
    assert_eq!(accept(script), violated(Violation::ShutdownScript));
    let key = *signer(1).basepoints(&ChannelKeyId([12; 32])).funding_pubkey.key();
    assert_eq!(accept(|it| it.funding_pubkey = key), violated(Violation::FundingKey));
    let poor = |it: &mut OpenChannel| it.push_msat = Msat::new(999_000_000);
    assert_eq!(accept(poor), violated(Violation::FeeUnaffordable));
    let reserve = |it: &mut OpenChannel| {
        it.funding_satoshis = sat(100_000);
        it.feerate_per_kw = FeeratePerKw::new(25_000);
        it.push_msat = Msat::new(60_000_000);
        it.channel_reserve_satoshis = sat(20_000);
        it.max_htlc_value_in_flight_msat = Msat::new(100_000_000);
    };
    assert_eq!(accept(reserve), Ok(()));
    let below = |it: &mut OpenChannel| {
        reserve(it);
        it.push_msat = Msat::new(20_000_000);
        it.feerate_per_kw = FeeratePerKw::new(25_000);
        it.funding_satoshis = sat(100_000);
    };
    assert_eq!(accept(below), Ok(()), "the opener's own balance is above");
}

#[test]
fn accept_channel() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    let Some(Message::AcceptChannel(good)) = pair.b.outbox.pop_front() else { panic!("accept_channel") };
    let try_with = |change: fn(&mut AcceptChannel)| {
        let mut message = good.as_ref().clone();
        change(&mut message);
        answer(&pair.a, message)
    };
    assert_eq!(try_with(|_| {}), Ok(()));
    assert_eq!(try_with(|it| it.channel_type = None), violated(Violation::ChannelTypeChanged));
    let other = |it: &mut AcceptChannel| it.channel_type = Some(Features::channel_type(&[Feature::StaticRemotekey]));
    assert_eq!(try_with(other), violated(Violation::ChannelTypeChanged));
    assert_eq!(try_with(|it| it.minimum_depth = 145), violated(Violation::MinimumDepth { depth: 145 }));
    let broken = Violation::DustAboveReserve { dust_limit: Amount::from_sat(354), reserve: Amount::from_sat(300) };
    let reserve = |it: &mut AcceptChannel| it.channel_reserve_satoshis = Amount::from_sat(300);
    assert_eq!(try_with(reserve), violated(broken));
    let key = |it: &mut AcceptChannel| {
        it.funding_pubkey = *signer(0).basepoints(&ChannelKeyId([11; 32])).funding_pubkey.key();
    };
    assert_eq!(try_with(key), violated(Violation::FundingKey));
    assert_eq!(answer(&pair.b, *good.clone()), violated(Violation::Unexpected { message_type: 33 }));
}

#[test]
fn funding_signatures() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    let early = wire::Shutdown { channel_id: pair.b.channel.id, scriptpubkey: close_script(1) };
    assert_eq!(answer(&pair.b, early), violated(Violation::ShutdownTooEarly));
    pair.run();
    pair.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
    let Some(Message::FundingCreated(mut message)) = pair.a.outbox.pop_front() else { panic!("funding_created") };
    let good = message.clone();
    message.funding_output_index = 0;
    let refused = answer(&pair.b, message);
    assert!(matches!(refused, Err(Error::Violated(Violation::CommitmentSignature { .. }))));
    pair.b.step(Input::Message(good.clone().into()));
    let Some(Message::FundingSigned(mut message)) = pair.b.outbox.pop_front() else { panic!("funding_signed") };
    message.signature = good.signature;
    let refused = answer(&pair.a, message);
    assert!(matches!(refused, Err(Error::Violated(Violation::CommitmentSignature { .. }))));
    assert_eq!(answer(&pair.b, good), violated(Violation::Unexpected { message_type: 34 }));
}

fn add_message(pair: &Pair, change: impl Fn(&mut UpdateAddHtlc)) -> UpdateAddHtlc {
    let mut message = UpdateAddHtlc {
        channel_id: pair.a.channel.id,
        id: pair.b.commitments().next_incoming,
        amount_msat: Msat::new(LARGE),
        payment_hash: hash(1),
        cltv_expiry: CltvExpiry::new(200),
        onion_routing_packet: OnionRoutingPacket::new([0; 1_366]),
        path_key: None,
    };
    change(&mut message);
    message
}

#[test]
fn update_add_htlc() {
    let tight =
        Policy { max_accepted_htlcs: 2, in_flight_permille: 600, htlc_minimum: Msat::new(1_000), ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), tight]);
    let try_with = |pair: &Pair, change: fn(&mut UpdateAddHtlc)| answer(&pair.b, add_message(pair, change));
    assert_eq!(try_with(&pair, |_| {}), Ok(()));
    let (expected, got) = (HtlcId::new(0), HtlcId::new(1));
    assert_eq!(try_with(&pair, |it| it.id = HtlcId::new(1)), limit(LimitViolation::HtlcId { expected, got }));
    assert_eq!(try_with(&pair, |it| it.amount_msat = Msat::ZERO), limit(LimitViolation::AmountZero));
    let minimum = Msat::new(1_000);
    let small = try_with(&pair, |it| it.amount_msat = Msat::new(999));
    assert_eq!(small, limit(LimitViolation::BelowHtlcMinimum { minimum }));
    let late = try_with(&pair, |it| it.cltv_expiry = CltvExpiry::new(500_000_000));
    assert_eq!(late, limit(LimitViolation::ExpiryIsATime));
    let much = try_with(&pair, |it| it.amount_msat = Msat::new(600_000_001));
    assert_eq!(much, limit(LimitViolation::TooMuchInFlight { limit: Msat::new(600_000_000) }));
    let huge = try_with(&pair, |it| it.amount_msat = Msat::new(u64::MAX));
    assert_eq!(huge, limit(LimitViolation::TooMuchInFlight { limit: Msat::new(600_000_000) }));
    let all = try_with(&pair, |it| it.amount_msat = Msat::new(495_000_000));
    assert_eq!(all, limit(LimitViolation::BelowChannelReserve { reserve: Amount::from_sat(10_000) }));
    let fee = try_with(&pair, |it| it.amount_msat = Msat::new(489_000_000));
    assert_eq!(fee, limit(LimitViolation::CannotAffordFee));
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    assert_eq!(try_with(&pair, |_| {}), limit(LimitViolation::TooManyHtlcs { limit: 2 }));
    let close = Command::Shutdown { script: None, feerate: None };
    pair.a.command(close).expect("goes");
    pair.run();
    assert_eq!(try_with(&pair, |_| {}), violated(Violation::AfterShutdown));
}

#[test]
fn updates_at_the_wrong_time() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), Policy::default()]);
    pair.fund();
    assert_eq!(answer(&pair.b, add_message(&pair, |_| {})), violated(Violation::NotReady));
    let signature = pair.a.signer.sign_node([1; 32]);
    let channel_id = pair.a.channel.id;
    let signed = CommitmentSigned { channel_id, signature, htlc_signatures: vec![], funding_txid: None };
    assert_eq!(answer(&pair.b, signed), violated(Violation::NotReady));
    // LND sends update_fee before channel_ready.
    let fee = UpdateFee { channel_id, feerate_per_kw: FeeratePerKw::new(2_000) };
    pair.b.step(Input::Message(fee.into()));
    pair.disconnect();
    pair.reconnect();
    let early = answer(&pair.b, add_message(&pair, |_| {}));
    assert_eq!(early, violated(Violation::BeforeReestablish { message_type: 128 }));
    pair.run();
    let again = pair.b.channel.decide(Input::Connected(FEATURES), &pair.b.context()).expect("connects");
    let [Effect::Send(reestablish)] = again.1.as_slice() else { panic!("reestablish") };
    let twice = answer(&pair.a, reestablish.clone());
    assert_eq!(twice, violated(Violation::Unexpected { message_type: 136 }));
}

#[test]
fn removals() {
    let mut pair = Pair::anchors();
    let (channel_id, id) = (pair.a.channel.id, HtlcId::new(0));
    let fulfil =
        |byte| UpdateFulfillHtlc { channel_id, id, payment_preimage: Preimage([byte; 32]), attribution_data: None };
    assert_eq!(answer(&pair.a, fulfil(1)), limit(LimitViolation::UnknownHtlc { id }));
    pair.a.add(LARGE, 1).expect("goes");
    assert_eq!(answer(&pair.a, fulfil(1)), limit(LimitViolation::HtlcNotCommitted { id }));
    pair.run();
    assert_eq!(answer(&pair.a, fulfil(2)), limit(LimitViolation::WrongPreimage { id }));
    let malformed = UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion: [0; 32], failure_code: 0x4005 };
    assert_eq!(answer(&pair.a, malformed), limit(LimitViolation::NotBadOnion { code: 0x4005 }));
    pair.a.step(Input::Message(fulfil(1).into()));
    let fail = UpdateFailHtlc { channel_id, id, reason: vec![], attribution_data: None };
    assert_eq!(answer(&pair.a, fail), limit(LimitViolation::AlreadyRemoved { id }));
}

#[test]
fn fees() {
    let pair = Pair::anchors();
    let fee = |sat| UpdateFee { channel_id: pair.a.channel.id, feerate_per_kw: FeeratePerKw::new(sat) };
    assert_eq!(answer(&pair.a, fee(2_000)), limit(LimitViolation::FeeFromAccepter));
    let feerate = FeeratePerKw::new(u32::MAX);
    assert_eq!(answer(&pair.b, fee(u32::MAX)), limit(LimitViolation::FeerateUnaffordable { feerate }));
    assert_eq!(answer(&pair.b, fee(26_000)), Ok(()), "with anchors a warning");
    let pair = Pair::open(CommitmentFormat::StaticRemotekey);
    let (min, max) = (FeeratePerKw::FLOOR, FeeratePerKw::new(25_000));
    let feerate = FeeratePerKw::new(26_000);
    assert_eq!(answer(&pair.b, fee(26_000)), violated(Violation::Feerate { feerate, min, max }));
}

#[test]
fn commitment_signed() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.add(LARGE, 2).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    let Some(Message::CommitmentSigned(good)) = pair.a.outbox.pop_front() else { panic!("commitment_signed") };
    let try_with = |change: fn(&mut CommitmentSigned)| {
        let mut message = good.clone();
        change(&mut message);
        answer(&pair.b, message)
    };
    assert_eq!(try_with(|_| {}), Ok(()));
    let swapped = try_with(|it| it.signature = it.htlc_signatures[0]);
    assert!(matches!(swapped, Err(Error::Violated(Violation::CommitmentSignature { .. }))));
    let few = try_with(|it| it.htlc_signatures.truncate(1));
    assert_eq!(few, violated(Violation::HtlcSignatureCount { expected: 2, found: 1 }));
    let wrong = try_with(|it| it.htlc_signatures[1] = it.signature);
    assert_eq!(wrong, violated(Violation::HtlcSignature(1)));
}

#[test]
fn revoke_and_ack() {
    let mut pair = Pair::anchors();
    let revocation = pair.b.channel.revocation(pair.b.commitments().local_number, &pair.b.context());
    assert_eq!(answer(&pair.a, revocation), violated(Violation::UnexpectedRevocation));
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    let Some(Message::RevokeAndAck(good)) = pair.b.outbox.pop_front() else { panic!("revoke_and_ack") };
    let try_with = |change: fn(&mut RevokeAndAck)| {
        let mut message = good.clone();
        change(&mut message);
        answer(&pair.a, message)
    };
    assert_eq!(try_with(|_| {}), Ok(()));
    let wrong = violated(Violation::RevocationSecret { number: 0 });
    assert_eq!(try_with(|it| it.per_commitment_secret.0[0] ^= 1), wrong);
    assert_eq!(try_with(|it| it.per_commitment_secret = RevealedSecret([0; 32])), wrong, "no private key");
}

/// A peer whose secrets are points all right, but not of one seed.
#[test]
fn secrets_from_two_seeds() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    // The next secret that b owes is forged, and the point that a waits for is forged with it.
    let forged = secp256k1::SecretKey::from_slice(&[77; 32]).expect("a key");
    let point = crate::keys::PerCommitmentPoint::new(forged.public_key(secp256k1::SECP256K1));
    pair.a.force(crate::commitment::Change::NextPointKnown { point });
    pair.a.add(LARGE, 2).expect("goes");
    pair.a.step(Input::Seal);
    let number = pair.a.commitments().remote_number;
    assert_eq!(number.number(), 1);
    let real = pair.b.channel.revocation(number, &pair.b.context());
    pair.a.step(Input::Message(real.into()));
    pair.b.outbox.clear();
    pair.a.add(LARGE, 3).expect("goes");
    pair.a.step(Input::Seal);
    let revocation = RevokeAndAck {
        channel_id: pair.a.channel.id,
        per_commitment_secret: RevealedSecret([77; 32]),
        next_per_commitment_point: pair.a.signer.node_id(),
    };
    // Commitment 2's secret derives none of the earlier ones, so any is taken; commitment 3's must derive it.
    pair.a.step(Input::Message(revocation.into()));
    let next = pair.b.channel.revocation(crate::units::CommitmentNumber::new(3), &pair.b.context());
    let secret = crate::keys::PerCommitmentSecret::new(next.per_commitment_secret.0);
    let taken = pair.a.commitments().secrets.check(crate::units::CommitmentNumber::new(3), &secret);
    assert_eq!(taken.map_err(|_| Violation::RevocationSeed), Err(Violation::RevocationSeed));
}

#[test]
fn shutdown() {
    let mut pair = Pair::anchors();
    let channel_id = pair.a.channel.id;
    let message = |script| wire::Shutdown { channel_id, scriptpubkey: script };
    assert_eq!(answer(&pair.b, message(bad_script())), violated(Violation::ShutdownScript));
    let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_byte_array([1; 20]));
    assert_eq!(answer(&pair.b, message(p2pkh)), violated(Violation::ShutdownScript));
    pair.b.step(Input::Message(add_message(&pair, |_| {}).into()));
    assert_eq!(answer(&pair.b, message(close_script(1))), violated(Violation::ShutdownWithPending));
    let mut pair = Pair::anchors();
    pair.b.step(Input::Message(message(close_script(1)).into()));
    let changed = answer(&pair.b, message(close_script(2)));
    assert_eq!(changed, violated(Violation::ShutdownScriptChanged));
}

#[test]
fn closing_signed() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    pair.a.command(Command::Shutdown { script: None, feerate: None }).expect("goes");
    pair.run();
    let early = legacy(&pair.a, Amount::from_sat(500));
    assert_eq!(answer(&pair.b, early), violated(Violation::ClosingTooEarly));
    pair.b.fail(HtlcId::new(0)).expect("goes");
    pair.run_at_most(4);
    let mut steps = 0;
    while !matches!(pair.a.outbox.front(), Some(Message::ClosingSigned(_))) {
        pair.seal();
        assert!(pair.deliver(0) || pair.deliver(1));
        steps += 1;
        assert!(steps < 20);
    }
    let fee = Amount::from_sat(600_000);
    let greedy = wire::ClosingSigned { fee_satoshis: fee, ..legacy(&pair.a, Amount::from_sat(500)) };
    assert_eq!(answer(&pair.b, greedy), violated(Violation::ClosingFee { fee }));
    let mut wrong = legacy(&pair.a, Amount::from_sat(500));
    wrong.fee_satoshis = Amount::from_sat(501);
    assert!(matches!(answer(&pair.b, wrong), Err(Error::Violated(Violation::ClosingSignature { .. }))));
    // a has offered; a fee that is neither the same nor between the last two breaks the old rule.
    let first = legacy(&pair.b, Amount::from_sat(50_000));
    pair.a.step(Input::Message(first.into()));
    let beyond = Amount::from_sat(60_000);
    let again = answer(&pair.a, legacy(&pair.b, beyond));
    assert_eq!(again, violated(Violation::ClosingFeeNotBetween { fee: beyond }));
    let update = UpdateFee { channel_id: pair.a.channel.id, feerate_per_kw: FeeratePerKw::new(2_000) };
    assert_eq!(answer(&pair.a, update), violated(Violation::UpdateWhileClosing));
}

#[test]
fn update_transfer() {
    let mut pair = Pair::anchors();
    let channel_id = pair.a.channel.id;
    let message = |id, amount| UpdateTransfer {
        channel_id,
        id,
        session_id: SESSION,
        first_sequence: 0,
        last_sequence: 0,
        amount_msat: Msat::new(amount),
        payments: None,
    };
    assert_eq!(answer(&pair.b, message(0, 100)), Ok(()), "an unknown session is credited");
    assert_eq!(answer(&pair.b, message(1, 100)), limit(LimitViolation::TransferId { expected: 0, got: 1 }));
    for amount in [0, 1_000_000_001, u64::MAX] {
        let broken = LimitViolation::TransferAmount { amount: Msat::new(amount) };
        assert_eq!(answer(&pair.b, message(0, amount)), limit(broken));
    }
    let reserve = LimitViolation::BelowChannelReserve { reserve: Amount::from_sat(10_000) };
    assert_eq!(answer(&pair.b, message(0, 490_000_001)), limit(reserve));
    assert_eq!(answer(&pair.b, message(0, 489_000_000)), limit(LimitViolation::CannotAffordFee));
    // To the last: reserve, anchors and the present fee, without a buffer.
    let cost = 10_000 + 660 + 1_124;
    assert_eq!(answer(&pair.b, message(0, 500_000_000 - cost * 1_000)), Ok(()));
    assert_eq!(answer(&pair.a, message(0, 490_000_000)), Ok(()), "an accepter pays no fee");
    for id in 0..256 {
        pair.b.step(Input::Message(message(id, 1).into()));
    }
    let many = limit(LimitViolation::TooManyTransfers { limit: 256 });
    assert_eq!(answer(&pair.b, message(256, 1)), many);
    let mut pair = Pair::anchors();
    pair.b.step(Input::Message(wire::Shutdown { channel_id, scriptpubkey: close_script(1) }.into()));
    assert_eq!(answer(&pair.b, message(0, 100)), violated(Violation::AfterShutdown));
    let mut pair = Pair::anchors();
    pair.disconnect();
    let without = SessionFeatures { transfers: false, ..FEATURES };
    pair.a.step(Input::Connected(without));
    pair.b.step(Input::Connected(without));
    pair.run();
    assert_eq!(answer(&pair.b, message(0, 100)), violated(Violation::TransfersNotNegotiated));
    assert_eq!(Violation::TransfersNotNegotiated.response(), Response::Warn);
}
