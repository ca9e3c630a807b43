//! Rules of BOLT 2, one by one, that the machine keeps itself and holds its peer to: docs/spec.md names the test of each.

mod closing;
mod normal;
mod opening;
mod reestablish;

use secp256k1::ecdsa::Signature;

use super::*;

const LARGE: u64 = 30_000_000;

fn violated<T>(violation: Violation) -> Result<T, Error> {
    Err(Error::Violated(violation))
}

/// What `node` says to a message; nothing changes.
fn answer(node: &Node, message: impl Into<Message>) -> Result<Vec<Effect>, Error> {
    node.channel.decide(Input::Message(message.into()), &node.context()).map(|(_, effects)| effects)
}

fn fault(node: &Node, message: impl Into<Message>) -> Violation {
    match answer(node, message) {
        Err(Error::Violated(violation)) => violation,
        other => panic!("{other:?}"),
    }
}

fn types(node: &Node) -> Vec<u16> {
    node.outbox.iter().map(Message::message_type).collect()
}

/// The other signature that the same equation holds for: the order of the curve less `s`.
fn high_s(signature: &Signature) -> Signature {
    let mut bytes = signature.serialize_compact();
    let mut borrow = 0;
    for (place, of_order) in bytes[32..].iter_mut().zip(secp256k1::constants::CURVE_ORDER).rev() {
        let rest = i16::from(of_order) - i16::from(*place) - borrow;
        borrow = i16::from(rest < 0);
        *place = (rest + 256 * borrow) as u8;
    }
    let high = Signature::from_compact(&bytes).expect("in range");
    let mut low = high;
    low.normalize_s();
    assert!(high != *signature && low == *signature, "the same signature with a high s");
    high
}

#[test]
fn responses_are_those_of_the_specification() {
    // What BOLT 2 wants an `error` for, and nothing less.
    let errors = [
        Violation::RevocationSecret { number: 0 },
        Violation::ReestablishZero,
        Violation::ReestablishSecret,
        Violation::ClosingFeeNotBetween { fee: Amount::ZERO },
        Violation::ChannelTypeChanged,
        Violation::DustAboveReserve { dust_limit: Amount::ZERO, reserve: Amount::ZERO },
    ];
    for violation in errors {
        assert_eq!(violation.response(), Response::FailChannel, "{violation}");
    }
    // Where it wants a `warning` and the connection closed, or leaves the choice, and a reconnect mends it.
    let warnings = [
        Violation::ShutdownScript,
        Violation::ShutdownScriptChanged,
        Violation::ClosingFeeRange,
        Violation::BeforeReestablish { message_type: 128 },
        Violation::Unexpected { message_type: 36 },
    ];
    for violation in warnings {
        assert_eq!(violation.response(), Response::Warn, "{violation}");
    }
    // While a channel opens there is nothing to come back to: every fault ends it.
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    pair.b.step(Input::Violated(Violation::Unexpected { message_type: 36 }));
    assert!(matches!(pair.b.outbox.back(), Some(Message::Error(_))));
    assert!(matches!(pair.b.channel.state, State::Abandoned(_)));
}
