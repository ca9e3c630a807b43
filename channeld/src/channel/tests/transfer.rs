//! Netted transfers.

use super::*;
use crate::commitment::{CreditWindow, LimitRefusal, SessionMark};
use crate::units::SessionId;
use crate::wire::{Payments, TransferCloseReason};

pub(super) const SESSION: SessionId = SessionId([42; 32]);

impl Node {
    pub(super) fn open_session(&mut self, session: SessionId) {
        self.command(Command::OpenSession { session, receipt_wanted: true }).expect("opens");
    }

    /// `count` payments of `each` from where the session stands.
    pub(super) fn pay(&mut self, session: SessionId, count: u64, each: u64) -> Result<(), Error> {
        let first = self.commitments().outgoing_transfers.proposed_mark(&session).map_or(0, |mark| mark.next_sequence);
        let mut payments = Payments::new();
        for _ in 0..count.min(3) {
            payments.push(Msat::new(each), None);
        }
        self.command(Command::Transfer {
            session,
            first_sequence: first,
            last_sequence: first + count - 1,
            amount: Msat::new(count * each),
            payments: Some(payments),
        })
    }

    pub(super) fn paid(&self, payer: Side, session: SessionId) -> SessionMark {
        self.commitments().transfers(payer).sessions[&session].paid
    }
}

#[test]
fn transfers_both_ways_are_paid_in_one_round() {
    let mut pair = Pair::anchors();
    let other = SessionId([43; 32]);
    pair.a.open_session(SESSION);
    pair.b.open_session(other);
    pair.run();
    assert!(pair.b.effects.contains(&Effect::SessionOpened { session: SESSION, receipt_wanted: true }));
    pair.a.pay(SESSION, 1_000, 10).expect("goes");
    pair.a.pay(SESSION, 500, 20).expect("goes");
    pair.b.pay(other, 7, 1_001).expect("goes");
    pair.run();
    pair.assert_level();
    assert_eq!(pair.a.balance(), Msat::new(500_000_000 - 20_000 + 7_007));
    let mark = SessionMark { next_sequence: 1_500, total: Msat::new(20_000) };
    assert_eq!(pair.a.paid(Side::Local, SESSION), mark);
    assert_eq!(pair.b.paid(Side::Remote, SESSION), mark);
    let paid = pair.b.taken(|effect| match effect {
        Effect::TransferPaid { payer: Side::Remote, mark, solicited: true, .. } => Some(*mark),
        _ => None,
    });
    assert_eq!(paid, [SessionMark { next_sequence: 1_000, total: Msat::new(10_000) }, mark]);
    let content = pair.b.channel.receipt_content(SESSION).expect("known");
    assert_eq!((content.next_sequence, content.paid), (1_500, Msat::new(20_000)));
    assert_eq!(content.enforceable, Msat::new(500_012_000), "whole satoshis of b's balance");
    let receipt = pair.b.channel.receipt(SESSION, &pair.b.context()).expect("known");
    assert!(receipt.is_signed_by(&pair.b.signer.node_id()));
    assert!(pair.a.commitments().is_clean() && pair.b.commitments().is_clean());
}

/// TRANSFER.md, "When is it paid", row by row.
#[test]
fn the_moments_of_a_transfer() {
    let mut pair = Pair::anchors();
    pair.a.open_session(SESSION);
    pair.run();
    pair.a.effects.clear();
    pair.b.effects.clear();
    let in_flight = |effect: &Effect| matches!(effect, Effect::TransferInFlight { .. }).then_some(());
    let paid = |effect: &Effect| matches!(effect, Effect::TransferPaid { .. }).then_some(());
    pair.a.pay(SESSION, 10, 100).expect("goes");
    assert_eq!(pair.a.taken(in_flight).len(), 0);
    pair.a.step(Input::Seal);
    assert_eq!(pair.a.taken(in_flight).len(), 1, "the payee will hold a signature");
    pair.deliver(0);
    let says = |node: &Node, view| node.commitments().session_marks(view)[0].2.total;
    assert_eq!(says(&pair.a, View::RemoteCurrent), Msat::ZERO);
    assert_eq!(says(&pair.a, View::RemoteSigned), Msat::new(1_000), "if this one confirms, it was paid");
    assert_eq!(pair.b.taken(in_flight).len(), 0);
    pair.deliver(0);
    assert_eq!((pair.b.taken(in_flight).len(), pair.b.taken(paid).len()), (1, 0), "may be served");
    pair.b.step(Input::Seal);
    pair.deliver(1);
    assert_eq!(pair.a.taken(paid).len(), 0);
    pair.deliver(1);
    assert_eq!(pair.a.taken(paid).len(), 1, "the payer has revoked");
    assert_eq!(pair.b.taken(paid).len(), 0);
    pair.deliver(0);
    assert_eq!(pair.b.taken(paid).len(), 1, "the payee has the revocation");
}

#[test]
fn a_session_never_refuses_money() {
    let narrow = Policy { transfer_window: CreditWindow { amount: Msat::new(1_000), count: 5 }, ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), narrow]);
    pair.a.open_session(SESSION);
    pair.run();
    let refused = LimitRefusal::Session(TransferCloseReason::WindowExceeded);
    assert_eq!(pair.a.pay(SESSION, 6, 10), Err(Refusal::Limit(refused).into()));
    // A payer that does not care: the window is forced open on its side.
    let forced = crate::commitment::Change::WindowGranted {
        payer: Side::Local,
        session: SESSION,
        window: CreditWindow { amount: Msat::new(1_000_000), count: 1_000 },
    };
    pair.a.force(forced);
    pair.a.pay(SESSION, 6, 10).expect("goes");
    pair.run();
    pair.assert_level();
    assert_eq!(pair.b.balance(), Msat::new(500_000_060));
    assert_eq!(pair.b.commitments().incoming_transfers.unsolicited, Msat::new(60));
    assert_eq!(pair.b.paid(Side::Remote, SESSION), SessionMark::default());
    let closed =
        Effect::SessionClosed { payer: Side::Local, session: SESSION, reason: TransferCloseReason::WindowExceeded };
    assert!(pair.a.effects.contains(&closed));
}

#[test]
fn sessions_are_limited_and_can_be_resumed() {
    let mut pair = Pair::anchors();
    for byte in 0..16 {
        pair.a.open_session(SessionId([byte; 32]));
    }
    pair.run();
    let refused = pair.a.command(Command::OpenSession { session: SESSION, receipt_wanted: false });
    assert_eq!(refused, Err(Refusal::Limit(LimitRefusal::TooManySessions { limit: 16 }).into()));
    let first = SessionId([0; 32]);
    pair.a.pay(first, 3, 100).expect("goes");
    pair.run();
    let finished = TransferCloseReason::Finished;
    pair.a.command(Command::CloseSession { payer: Side::Local, session: first, reason: finished }).expect("closes");
    pair.a.open_session(SESSION);
    pair.run();
    assert!(pair.b.commitments().incoming_transfers.sessions[&SESSION].open);
    assert!(!pair.b.commitments().incoming_transfers.sessions[&first].open);
    let unknown = Err(Refusal::Limit(LimitRefusal::Session(TransferCloseReason::UnknownSession)).into());
    assert_eq!(pair.a.pay(first, 1, 100), unknown);
    pair.a.command(Command::CloseSession { payer: Side::Local, session: SESSION, reason: finished }).expect("closes");
    pair.a.open_session(first);
    pair.run();
    pair.a.pay(first, 2, 100).expect("goes on after the last sequence");
    pair.run();
    assert_eq!(pair.b.paid(Side::Remote, first), SessionMark { next_sequence: 5, total: Msat::new(500) });
    let room = SessionId([1; 32]);
    pair.a.command(Command::CloseSession { payer: Side::Local, session: room, reason: finished }).expect("closes");
    // The closed ones are forgotten in the end.
    for byte in 100..150 {
        let session = SessionId([byte; 32]);
        pair.a.open_session(session);
        pair.a.command(Command::CloseSession { payer: Side::Local, session, reason: finished }).expect("closes");
        pair.run();
    }
    assert!(pair.b.commitments().incoming_transfers.sessions.len() <= 32);
    assert!(pair.a.commitments().outgoing_transfers.sessions.len() <= 32);
}

#[test]
fn what_was_not_signed_comes_back() {
    let mut pair = Pair::anchors();
    pair.a.open_session(SESSION);
    pair.run();
    pair.a.pay(SESSION, 10, 100).expect("goes");
    pair.run();
    pair.a.pay(SESSION, 10, 100).expect("goes");
    pair.deliver(0);
    pair.disconnect();
    let returned = pair.a.taken(|effect| match effect {
        Effect::TransferReturned { transfer } => Some((transfer.first_sequence, transfer.last_sequence)),
        _ => None,
    });
    assert_eq!(returned, [(10, 19)]);
    pair.reconnect();
    pair.run();
    pair.a.pay(SESSION, 4, 100).expect("the sequence is free again");
    pair.run();
    pair.assert_level();
    assert_eq!(pair.b.paid(Side::Remote, SESSION), SessionMark { next_sequence: 14, total: Msat::new(1_400) });
}

#[test]
fn a_peer_without_transfers_has_to_wait() {
    let mut pair = Pair::anchors();
    pair.a.open_session(SESSION);
    pair.run();
    pair.a.pay(SESSION, 10, 100).expect("goes");
    pair.a.step(Input::Seal);
    pair.disconnect();
    let without = SessionFeatures { transfers: false, ..FEATURES };
    pair.a.step(Input::Connected(without));
    pair.b.step(Input::Connected(without));
    assert!(pair.a.effects.contains(&Effect::Noticed(Notice::TransfersMissing)));
    pair.run();
    assert!(!pair.a.channel.is_live() && pair.a.funded().phase == Phase::Open);
    pair.disconnect();
    pair.reconnect();
    pair.run();
    pair.assert_level();
    assert_eq!(pair.b.paid(Side::Remote, SESSION).total, Msat::new(1_000));
}

#[test]
fn no_window_where_a_balance_could_be_dust() {
    let dusty = Policy { dust_limit: Amount::from_sat(600), ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [dusty, Policy::default()]);
    pair.a.open_session(SESSION);
    pair.run();
    let closed =
        Effect::SessionClosed { payer: Side::Local, session: SESSION, reason: TransferCloseReason::NotAccepted };
    assert!(pair.a.effects.contains(&closed));
}

impl Node {
    /// Changes the log behind the machine's back, on both copies: what a faulty peer would do.
    pub(super) fn force(&mut self, change: crate::commitment::Change) {
        let delta = Delta { changes: vec![Change::Commitment(change)], penalty_rows: Vec::new() };
        self.channel.apply(&delta);
        self.disk.apply(&delta);
    }
}
