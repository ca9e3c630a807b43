//! The life of one channel (BOLT 2; TRANSFER.md), as a pure machine: [`Channel::decide`] says what an input changes and what
//! is to be done, [`Channel::apply`] changes it. Recovery is a fold of `apply`.
//!
//! Knows the messages of a channel and their order, limits and fees, how a channel opens, catches up after a reconnect,
//! closes together or fails, and when our own commitment may go to the chain (never a revoked one, never when the peer has
//! proved that we lost data). Signatures for commitments are made in *seal* alone.
//! Never: reads a clock, a socket, a file; draws a random number; knows another channel, a payment or the wallet; claims
//! outputs on the chain (`onchain` does, from [`ClosingFacts`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod close;
mod error;
mod failure;
mod normal;
mod open;
mod port;
mod proposal;
mod reestablish;
mod state;
mod transfer;

#[cfg(test)]
mod tests;

pub use error::{Error, Failure, Refusal, Response, Violation};
pub use failure::ClosingFacts;
pub use port::{
    AbandonReason, AcceptRequest, Command, Context, Effect, Input, Notice, OpenRequest, OutgoingFailure, Policy,
    SessionFeatures,
};
pub use state::{Change, Channel, Delta, Funded, Link, Negotiation, Phase, Proposal, Shutdown, State, Terms};
pub use transfer::ReceiptContent;

use bitcoin::Amount;

use crate::commitment::{self, Commitments, Side};
use crate::units::{CommitmentNumber, FeeratePerKw, Msat};
use crate::wire::Message;

/// What a decision is made of, while it is made.
#[derive(Debug, Default)]
struct Decision {
    delta: Delta,
    effects: Vec<Effect>,
}

impl Decision {
    fn change(&mut self, change: Change) {
        self.delta.changes.push(change);
    }

    fn log(&mut self, change: commitment::Change) {
        self.change(Change::Commitment(change));
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn send(&mut self, message: impl Into<Message>) {
        self.effect(Effect::Send(message.into()));
    }
}

/// What a peer owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// `funding_signed`
    FundingSigned,
    /// `channel_reestablish`
    Reestablish,
    /// `revoke_and_ack`, for its commitment of this number.
    Revocation(CommitmentNumber),
    /// `shutdown`, after ours, with nothing left in the channel.
    Shutdown,
    /// `closing_signed`, after that of ours.
    ClosingSigned(Option<Amount>),
}

impl Awaited {
    /// Whether a mutual close waits for it.
    pub const fn is_of_a_close(self) -> bool {
        matches!(self, Awaited::Shutdown | Awaited::ClosingSigned(_))
    }
}

impl Channel {
    /// What `input` changes, and what is to be done once that is durable. Nothing has changed until [`Channel::apply`].
    ///
    /// # Errors
    /// [`Error::Refused`] where our caller, [`Error::Violated`] where the peer is at fault; then answer the latter by
    /// [`Input::Violated`].
    pub fn decide(&self, input: Input, cx: &Context<'_>) -> Result<(Delta, Vec<Effect>), Error> {
        let mut decision = Decision::default();
        match input {
            Input::Message(message) => self.receive(message, cx, &mut decision)?,
            Input::Command(command) => self.command(command, cx, &mut decision)?,
            Input::Connected(features) => self.connect(features, cx, &mut decision),
            Input::Disconnected => self.disconnect(&mut decision),
            Input::Seal => self.seal(cx, &mut decision),
            Input::Violated(violation) => self.violated(violation, cx, &mut decision),
            Input::Fail(failure) => self.fail(failure, cx, &mut decision),
            Input::FundingDepth { depth, short_channel_id } => {
                self.funding_depth(depth, short_channel_id, cx, &mut decision);
            }
            Input::FundingInvalid => self.funding_invalid(&mut decision),
            Input::FundingReorged => self.funding_reorged(&mut decision),
            Input::FundingSpent { txid } => self.funding_spent(txid, &mut decision),
            Input::FundingUnspent => self.funding_unspent(&mut decision),
            Input::Block => self.block(cx, &mut decision),
        }
        self.follow_up(cx, &mut decision);
        Ok((decision.delta, decision.effects))
    }

    /// The funded part, where there is one.
    pub fn funded(&self) -> Option<&Funded> {
        match &self.state {
            State::Funded(funded) => Some(funded),
            _ => None,
        }
    }

    /// The shared log, where the channel is funded.
    pub fn commitments(&self) -> Option<&Commitments> {
        self.funded().map(|funded| &funded.commitments)
    }

    /// Whether the peer is connected and `channel_reestablish` was received or not needed.
    pub fn is_live(&self) -> bool {
        self.link.is_some_and(|link| link.reestablished)
    }

    /// What the peer owes us now, before anything can go on.
    pub fn awaited(&self) -> Option<Awaited> {
        let (link, funded) = (self.link?, self.funded()?);
        let shutdown = &funded.shutdown;
        match funded.phase {
            Phase::AwaitingFundingSigned => Some(Awaited::FundingSigned),
            // After both have signed a close, the peer may have forgotten the channel.
            Phase::Open if !link.reestablished => {
                (!funded.misses_transfers(&link.features)).then_some(Awaited::Reestablish)
            }
            Phase::Open if funded.commitments.awaiting_revocation => {
                Some(Awaited::Revocation(funded.commitments.remote_number))
            }
            Phase::Open if !shutdown.sent || !funded.commitments.is_clean() => None,
            Phase::Open if !shutdown.received => Some(Awaited::Shutdown),
            // The opener begins; where the balances make no output it has nothing to offer.
            Phase::Open if self.opener == Side::Remote || shutdown.negotiation.sent.is_some() => {
                Some(Awaited::ClosingSigned(shutdown.negotiation.sent))
            }
            _ => None,
        }
    }

    /// Whether payments may go: both sides ready, connected, not closing.
    pub fn is_usable(&self) -> bool {
        self.is_live() && self.funded().is_some_and(|funded| funded.is_ready() && !funded.is_closing())
    }

    /// Whether [`Input::Seal`] would sign something now.
    pub fn seal_due(&self) -> bool {
        self.is_live()
            && self.funded().is_some_and(|funded| funded.phase == Phase::Open && funded.commitments.may_sign())
    }

    /// What one HTLC of ours could be worth now; zero where none may go.
    pub fn available_for_htlc(&self) -> Msat {
        self.available(Commitments::available_for_htlc)
    }

    /// What one transfer of ours could be worth now, its session apart; zero where none may go.
    pub fn available_for_transfer(&self) -> Msat {
        self.available(Commitments::available_to_send)
    }

    fn available(&self, of: impl Fn(&Commitments) -> Msat) -> Msat {
        if self.is_usable() { self.commitments().map_or(Msat::ZERO, of) } else { Msat::ZERO }
    }

    /// The feerate of the newest proposal, where the channel is funded.
    pub fn feerate(&self) -> Option<FeeratePerKw> {
        self.commitments().map(Commitments::proposed_feerate)
    }
}

impl Funded {
    /// Whether both sides said `channel_ready`.
    pub const fn is_ready(&self) -> bool {
        self.local_ready && self.remote_ready
    }

    /// Whether it is failed, closed or about to be.
    pub fn is_closing(&self) -> bool {
        self.phase != Phase::Open || self.shutdown.local_script.is_some() || self.shutdown.remote_script.is_some()
    }

    /// Who said `shutdown`, if anybody.
    pub const fn shutdown_by(&self, side: Side) -> bool {
        match side {
            Side::Local => self.shutdown.local_script.is_some(),
            Side::Remote => self.shutdown.remote_script.is_some(),
        }
    }
}
