//! One test for each refusal.

use super::transfer::SESSION;
use super::*;
use crate::commitment::{CreditWindow, ExposurePolicy, LimitRefusal};
use crate::wire::TransferCloseReason;

fn limit<T>(refusal: LimitRefusal) -> Result<T, Error> {
    Err(Error::Refused(Refusal::Limit(refusal)))
}

fn refused<T>(refusal: Refusal) -> Result<T, Error> {
    Err(Error::Refused(refusal))
}

fn open(change: impl Fn(&mut OpenRequest)) -> Result<(), Error> {
    let mut request = request(CommitmentFormat::Anchors, 0);
    change(&mut request);
    Channel::open(request, &bare_context(0, &Policy::default())).map(|_| ())
}

#[test]
fn opening() {
    let (min, max) = (Amount::from_sat(100_000), Amount::from_sat(16_777_215));
    for sat in [99_999, 16_777_216, 0, u64::MAX] {
        let funding = Amount::from_sat(sat);
        assert_eq!(open(|it| it.funding = funding), refused(Refusal::FundingOutOfRange { funding, min, max }));
    }
    for msat in [FUNDING.to_sat() * 1_000, FUNDING.to_sat() * 990, u64::MAX] {
        let push = Msat::new(msat);
        assert_eq!(open(|it| it.push = push), refused(Refusal::PushTooLarge { push }));
    }
    assert_eq!(open(|it| it.features.anchors = false), refused(Refusal::AnchorsUnsupported));
    assert_eq!(open(|it| it.close_script = bad_script()), refused(Refusal::ShutdownScript));
    let taproot = ScriptBuf::from_bytes([&[0x51, 32][..], &[1; 32]].concat());
    assert_eq!(open(|it| it.close_script = taproot.clone()), Ok(()));
    let without = |it: &mut OpenRequest| {
        it.close_script = taproot.clone();
        it.features.any_segwit = false;
    };
    assert_eq!(open(without), refused(Refusal::ShutdownScript));
}

#[test]
fn states() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    let close = Command::Shutdown { script: None, feerate: None };
    assert_eq!(pair.a.command(close.clone()), refused(Refusal::NotReady));
    assert_eq!(pair.a.command(Command::ForceClose), refused(Refusal::NotReady));
    assert_eq!(pair.a.command(Command::FundingBuilt { outpoint: outpoint() }), refused(Refusal::NotOpening));
    pair.fund();
    assert_eq!(pair.a.command(Command::Abandon(AbandonReason::ByUser)), refused(Refusal::NotOpening));
    assert_eq!(pair.a.add(1_000_000, 1), refused(Refusal::NotReady));
    let fee = Command::UpdateFee { feerate: FeeratePerKw::new(2_000) };
    assert_eq!(pair.a.command(fee), refused(Refusal::NotReady));
    pair.confirm();
    pair.run();
    pair.disconnect();
    assert_eq!(pair.a.add(1_000_000, 1), refused(Refusal::NotConnected));
    pair.reconnect();
    assert_eq!(pair.a.add(1_000_000, 1), refused(Refusal::NotConnected), "not reestablished");
    pair.run();
    let script = Command::Shutdown { script: Some(bad_script()), feerate: None };
    assert_eq!(pair.a.command(script), refused(Refusal::ShutdownScript));
    pair.a.command(close.clone()).expect("goes");
    assert_eq!(pair.a.command(close.clone()), refused(Refusal::AlreadyClosing));
    assert_eq!(pair.a.add(1_000_000, 1), refused(Refusal::Closing));
    pair.run();
    assert_eq!(pair.a.add(1_000_000, 1), refused(Refusal::Closed));
    assert_eq!(pair.a.command(close), refused(Refusal::Closed));
    assert_eq!(pair.a.command(Command::ForceClose), refused(Refusal::Closed));
}

#[test]
fn htlcs() {
    let tight =
        Policy { max_accepted_htlcs: 3, in_flight_permille: 100, htlc_minimum: Msat::new(1_000), ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), tight]);
    assert_eq!(pair.a.add(0, 1), limit(LimitRefusal::AmountZero));
    assert_eq!(
        pair.a.add(999, 1),
        limit(LimitRefusal::BelowHtlcMinimum { amount: Msat::new(999), minimum: Msat::new(1_000) })
    );
    let maximum = Msat::new(100_000_000);
    assert_eq!(pair.a.add(100_000_001, 1), limit(LimitRefusal::TooMuchInFlight { limit: maximum }));
    let late = Command::AddHtlc {
        amount: Msat::new(1_000_000),
        payment_hash: hash(1),
        cltv_expiry: CltvExpiry::new(500_000_000),
        onion: OnionRoutingPacket::new([0; 1_366]),
        path_key: None,
    };
    assert_eq!(pair.a.command(late), limit(LimitRefusal::ExpiryIsATime));
    for byte in 0..3 {
        pair.a.add(20_000_000, byte).expect("goes");
    }
    assert_eq!(pair.a.add(20_000_000, 9), limit(LimitRefusal::TooManyHtlcs { limit: 3 }));
    pair.run();
    assert_eq!(pair.a.add(20_000_000, 9), limit(LimitRefusal::TooManyHtlcs { limit: 3 }));
    assert_eq!(pair.a.channel.available_for_htlc(), Msat::ZERO);
}

#[test]
fn balances() {
    let mut pair = Pair::anchors();
    let available = pair.b.channel.available_for_htlc();
    assert_eq!(available, Msat::new(490_000_000), "an accepter keeps its reserve only");
    let needed = Msat::new(490_000_001);
    assert_eq!(pair.b.add(needed.msat(), 1), limit(LimitRefusal::InsufficientBalance { needed, available }));
    pair.b.add(available.msat(), 1).expect("goes");
    pair.run();
    let available = pair.a.channel.available_for_htlc();
    // Reserve, two anchors, and the fee of three outputs at twice 1,000 sat/kW: the HTLC, the new one, one to spare.
    let cost = 10_000 + 660 + 2 * (1_124 + 172 * 3);
    assert_eq!(available, Msat::new(500_000_000 - cost * 1_000));
    let needed = Msat::new(available.msat() + 1);
    assert_eq!(pair.a.add(needed.msat(), 1), limit(LimitRefusal::InsufficientBalance { needed, available }));
    pair.a.add(available.msat(), 1).expect("goes");
    pair.run();
    pair.assert_level();
}

#[test]
fn what_the_opener_could_not_pay_for_is_not_offered() {
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 987_000_000, [Policy::default(), Policy::default()]);
    pair.b.add(10_000_000, 1).expect("the first output is paid for");
    pair.run();
    pair.b.add(10_000_000, 2).expect("and the second");
    pair.run();
    let mut refused = None;
    for byte in 3..60 {
        match pair.b.add(10_000_000, byte) {
            Ok(_) => pair.run(),
            other => {
                refused = Some(other);
                break;
            }
        }
    }
    assert_eq!(refused, Some(limit(LimitRefusal::OpenerCannotAffordFee)));
    pair.b.add(100_000, 99).expect("dust has no output to pay for");
    pair.run();
    pair.assert_level();
}

#[test]
fn dust_exposure() {
    let policy = Policy { exposure: ExposurePolicy { max_dust: Msat::new(250_000) }, ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [policy, Policy::default()]);
    pair.a.add(100_000, 1).expect("goes");
    pair.a.add(100_000, 2).expect("goes");
    assert_eq!(pair.a.add(100_000, 3), limit(LimitRefusal::DustExposure { limit: Msat::new(250_000) }));
    pair.a.add(1_000_000, 3).expect("above dust it goes");
    let policy = Policy { exposure: ExposurePolicy { max_dust: Msat::new(1_600_000) }, ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::StaticRemotekey, 500_000_000, [policy, Policy::default()]);
    pair.a.add(1_500_000, 1).expect("has an output at 1,000 sat/kW");
    pair.a.add(1_500_000, 2).expect("has an output at 1,000 sat/kW");
    pair.run();
    let fee = Command::UpdateFee { feerate: FeeratePerKw::new(2_500) };
    assert_eq!(pair.a.command(fee), limit(LimitRefusal::DustExposure { limit: Msat::new(1_600_000) }));
}

#[test]
fn removals() {
    let mut pair = Pair::anchors();
    let id = HtlcId::new(0);
    assert_eq!(pair.b.fulfil(id, 1), limit(LimitRefusal::UnknownHtlc { id }));
    pair.a.add(30_000_000, 1).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    assert_eq!(pair.b.fulfil(id, 1), limit(LimitRefusal::HtlcNotCommitted { id }));
    pair.run();
    assert_eq!(pair.b.fulfil(id, 2), limit(LimitRefusal::WrongPreimage { id }));
    let malformed = Command::FailMalformedHtlc { id, sha256_of_onion: [0; 32], failure_code: 5 };
    assert_eq!(pair.b.command(malformed), limit(LimitRefusal::NotBadOnion { code: 5 }));
    let long = Command::FailHtlc { id, reason: vec![0; 65_000], attribution_data: None };
    assert_eq!(pair.b.command(long), limit(LimitRefusal::FailureTooLong));
    pair.b.fulfil(id, 1).expect("goes");
    assert_eq!(pair.b.fail(id), limit(LimitRefusal::AlreadyRemoved { id }));
}

#[test]
fn fees() {
    let mut pair = Pair::anchors();
    let fee = |sat| Command::UpdateFee { feerate: FeeratePerKw::new(sat) };
    assert_eq!(pair.b.command(fee(2_000)), limit(LimitRefusal::NotOpener));
    let wide = Policy { proposed_feerates: FeeratePerKw::FLOOR..=FeeratePerKw::new(500_000), ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [wide, Policy::default()]);
    let feerate = FeeratePerKw::new(500_000);
    assert_eq!(pair.a.command(fee(500_000)), limit(LimitRefusal::FeerateUnaffordable { feerate }));
}

#[test]
fn transfers() {
    let mut pair = Pair::anchors();
    let unknown = limit(LimitRefusal::Session(TransferCloseReason::UnknownSession));
    assert_eq!(pair.a.pay(SESSION, 1, 100), unknown);
    let window = CreditWindow { amount: Msat::new(1), count: 1 };
    let grant = Command::GrantWindow { session: SESSION, window };
    assert_eq!(pair.b.command(grant), refused(Refusal::UnknownSession));
    let reason = TransferCloseReason::Finished;
    let close = Command::CloseSession { payer: Side::Local, session: SESSION, reason };
    assert_eq!(pair.a.command(close), refused(Refusal::UnknownSession));
    pair.a.open_session(SESSION);
    assert_eq!(pair.a.pay(SESSION, 1, 100), limit(LimitRefusal::Session(TransferCloseReason::WindowExceeded)));
    pair.run();
    assert_eq!(pair.a.pay(SESSION, 1, 0), limit(LimitRefusal::AmountZero));
    let wrong = Command::Transfer {
        session: SESSION,
        first_sequence: 1,
        last_sequence: 1,
        amount: Msat::new(1),
        payments: None,
    };
    assert_eq!(pair.a.command(wrong), limit(LimitRefusal::Session(TransferCloseReason::WrongSequence)));
    let needed = Msat::new(499_000_000);
    let available = pair.a.channel.available_for_transfer();
    assert_eq!(pair.a.pay(SESSION, 1, needed.msat()), limit(LimitRefusal::InsufficientBalance { needed, available }));
    for _ in 0..256 {
        pair.a.pay(SESSION, 1, 1).expect("goes");
    }
    assert_eq!(pair.a.pay(SESSION, 1, 1), limit(LimitRefusal::TooManyTransfers { limit: 256 }));
    pair.run();
    pair.a.pay(SESSION, 1, 1).expect("there is room again");
    pair.run();
    pair.disconnect();
    let without = SessionFeatures { transfers: false, ..FEATURES };
    pair.a.step(Input::Connected(without));
    pair.b.step(Input::Connected(without));
    pair.run();
    assert_eq!(pair.a.pay(SESSION, 1, 100), refused(Refusal::TransfersUnsupported));
    let open = Command::OpenSession { session: SESSION, receipt_wanted: false };
    assert_eq!(pair.a.command(open), refused(Refusal::TransfersUnsupported));
}
