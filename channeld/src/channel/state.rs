//! What a channel is, what can happen to it, and the one function that lets it happen.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::port::{AbandonReason, SessionFeatures};
use crate::commitment::{self, Beginning, Commitments, Parameters, PenaltyRow, Side, msat};
use crate::keys::{Basepoints, ChannelKeyId, PerCommitmentPoint};
use crate::transactions::Funding;
use crate::units::{BlockHeight, ChannelId, FeeratePerKw, Msat, NodeId, ShortChannelId};
use crate::wire::FeeRange;

/// One channel, from `open_channel` to the transaction that spends its funding output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// With whom.
    pub peer: NodeId,
    /// Where our keys come from.
    pub keys_id: ChannelKeyId,
    /// Its name: temporary until the funding outpoint is known.
    pub id: ChannelId,
    /// Who opened.
    pub opener: Side,
    /// Whether it is to be announced.
    pub announce: bool,
    /// What the peer may call it in invoices.
    pub alias: ShortChannelId,
    /// Its type has `option_scid_alias`: nobody may name it by its place on the chain.
    pub is_alias_only: bool,
    /// The height at which it began.
    pub opened_at: BlockHeight,
    /// Where our part goes on a mutual close, if nobody says otherwise.
    pub close_script: ScriptBuf,
    /// The connection that it is on now, beside the state.
    pub link: Option<Link>,
    /// How far it is.
    pub state: State,
}

/// What a channel knows of the present connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What both sides know.
    pub features: SessionFeatures,
    /// `channel_reestablish` was received, or is not needed.
    pub reestablished: bool,
}

/// How far a channel is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Opener: `open_channel` sent.
    AwaitingAccept(Box<Proposal>),
    /// Opener: `accept_channel` received, the funding transaction is being built.
    AwaitingFunding(Box<Terms>),
    /// Accepter: `accept_channel` sent.
    AwaitingFundingCreated(Box<Terms>),
    /// Both know the funding output.
    Funded(Box<Funded>),
    /// Nothing came of it.
    Abandoned(AbandonReason),
}

/// What `open_channel` proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Of the other side nothing is known yet: its limits are a copy of ours.
    pub parameters: Parameters,
    /// What we put in.
    pub funding: Amount,
    /// What the peer gets of it.
    pub push: Msat,
    /// The first feerate.
    pub feerate: FeeratePerKw,
    /// Our keys.
    pub local_keys: Basepoints,
    /// Said beforehand.
    pub local_upfront_script: Option<ScriptBuf>,
}

/// What both sides agreed on before there is a funding output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What does not change.
    pub parameters: Parameters,
    /// What is put in.
    pub funding: Amount,
    /// What the accepter gets of it.
    pub push: Msat,
    /// The first feerate.
    pub feerate: FeeratePerKw,
    /// Our keys.
    pub local_keys: Basepoints,
    /// The peer's keys.
    pub remote_keys: Basepoints,
    /// The peer's `first_per_commitment_point`.
    pub remote_point: PerCommitmentPoint,
    /// Confirmations to wait for.
    pub minimum_depth: u32,
    /// Said by us beforehand.
    pub local_upfront_script: Option<ScriptBuf>,
    /// Said by the peer beforehand.
    pub remote_upfront_script: Option<ScriptBuf>,
}

impl Terms {
    /// The first commitments, once the funding output is known.
    pub fn begin(&self, outpoint: OutPoint) -> Commitments {
        let keys = (&self.local_keys.funding_pubkey, &self.remote_keys.funding_pubkey);
        let opener_balance = msat(self.funding).saturating_sub(self.push);
        let (local, remote) = match self.parameters.opener {
            Side::Local => (opener_balance, self.push),
            Side::Remote => (self.push, opener_balance),
        };
        Commitments::new(Beginning {
            parameters: self.parameters,
            funding: Funding::new(outpoint, self.funding, *keys.0, *keys.1),
            local_keys: self.local_keys,
            remote_keys: self.remote_keys,
            local,
            remote,
            feerate: self.feerate,
            remote_point: self.remote_point,
        })
    }
}

/// A channel with a funding output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Funded {
    /// What both sides agree on.
    pub commitments: Commitments,
    /// Confirmations to wait for.
    pub minimum_depth: u32,
    /// Where the funding transaction stands, once it is in the best chain.
    pub short_channel_id: Option<ShortChannelId>,
    /// `channel_ready` was sent, or is as soon as there is a connection.
    pub local_ready: bool,
    /// `channel_ready` was received.
    pub remote_ready: bool,
    /// What the peer calls the channel.
    pub remote_alias: Option<ShortChannelId>,
    /// Said by us beforehand.
    pub local_upfront_script: Option<ScriptBuf>,
    /// Said by the peer beforehand.
    pub remote_upfront_script: Option<ScriptBuf>,
    /// How far a mutual close is.
    pub shutdown: Shutdown,
    /// What the channel is about.
    pub phase: Phase,
}

/// How far a mutual close is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Our script, from the moment it is decided to close; `shutdown` waits until no update of ours is unsigned.
    pub local_script: Option<ScriptBuf>,
    /// Our `shutdown` was sent on this connection.
    pub sent: bool,
    /// The peer's script: its `shutdown` came once.
    pub remote_script: Option<ScriptBuf>,
    /// The peer's `shutdown` came on this connection.
    pub received: bool,
    /// What our user wants the closing transaction to pay.
    pub feerate: Option<FeeratePerKw>,
    /// The offers on this connection.
    pub negotiation: Negotiation,
}

/// The offers of `closing_signed` on this connection; negotiation begins anew with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiation {
    /// Our last fee.
    pub sent: Option<Amount>,
    /// Our range.
    pub sent_range: Option<FeeRange>,
    /// The peer's last fee.
    pub received: Option<Amount>,
}

/// What a funded channel is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Opener: `funding_created` sent; nothing is broadcast before the peer's signature is durable.
    AwaitingFundingSigned,
    /// Waiting for the chain, in use, or closing together.
    Open,
    /// Both signed this closing transaction.
    MutuallyClosed {
        /// The transaction.
        transaction: Transaction,
        /// Its fee.
        fee: Amount,
    },
    /// Failed: our commitment is, or was, to be broadcast.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// We have lost data: our commitment is revoked as the peer knows it, and must never be broadcast.
    Stale,
    /// The funding output is spent in the best chain.
    Spent {
        /// By this.
        txid: Txid,
        /// What it was before, if the spend is undone.
        before: Box<Phase>,
    },
}

/// What changed, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// In order.
    pub changes: Vec<Change>,
    /// HTLCs that are over, kept by key outside of the channel for penalties as long as it lives.
    pub penalty_rows: Vec<PenaltyRow>,
}

impl Delta {
    /// Whether nothing changed.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.penalty_rows.is_empty()
    }
}

/// What can happen to a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// To the shared log.
    Commitment(commitment::Change),
    /// A session began.
    Connected {
        /// What both sides know.
        features: SessionFeatures,
        /// Nothing has to be caught up.
        reestablished: bool,
    },
    /// `channel_reestablish` was received and fits.
    Reestablished,
    /// The session is gone.
    Disconnected,
    /// Opener: `accept_channel` received.
    Accepted(Box<Terms>),
    /// The funding output is known: opener made it, accepter was told.
    FundingKnown {
        /// Which.
        outpoint: OutPoint,
    },
    /// Opener: the peer's signature for our first commitment is there.
    FundingSigned,
    /// Where the funding transaction stands; `None` after a reorganisation.
    FundingConfirmed(Option<ShortChannelId>),
    /// Our `channel_ready`.
    LocalReady,
    /// The peer's `channel_ready`.
    RemoteReady {
        /// What the peer calls the channel.
        alias: Option<ShortChannelId>,
        /// The point of its second commitment, where it is news.
        point: Option<PublicKey>,
    },
    /// A mutual close is wanted, by us or in answer to the peer.
    ShutdownDecided {
        /// Our script.
        script: ScriptBuf,
        /// What our user wants the closing transaction to pay.
        feerate: Option<FeeratePerKw>,
    },
    /// Our `shutdown` was sent.
    ShutdownSent,
    /// The peer's `shutdown` came.
    ShutdownReceived {
        /// Its script.
        script: ScriptBuf,
    },
    /// We sent `closing_signed`.
    ClosingOffered {
        /// Our fee.
        fee: Amount,
        /// Our range.
        range: FeeRange,
    },
    /// The peer sent `closing_signed`.
    ClosingReceived {
        /// Its fee.
        fee: Amount,
    },
    /// Another phase.
    Phase(Phase),
    /// Nothing came of it.
    Abandoned(AbandonReason),
}

impl Channel {
    /// Lets happen what [`Channel::decide`] decided. The only mutator; recovery is a fold of it.
    ///
    /// # Panics
    /// Where the delta does not fit the state: it was not decided on this state.
    pub fn apply(&mut self, delta: &Delta) {
        for change in &delta.changes {
            self.apply_change(change);
        }
    }

    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Connected { features, reestablished } => {
                self.link = Some(Link { features: *features, reestablished: *reestablished });
            }
            Change::Reestablished => {
                self.link.as_mut().expect("reestablished on a connection").reestablished = true;
            }
            Change::Disconnected => {
                self.link = None;
                if let State::Funded(funded) = &mut self.state {
                    funded.shutdown.negotiation = Negotiation::default();
                    funded.shutdown.sent = false;
                    funded.shutdown.received = false;
                }
            }
            Change::Accepted(terms) => self.state = State::AwaitingFunding(terms.clone()),
            Change::FundingKnown { outpoint } => self.fund(*outpoint),
            Change::Abandoned(reason) => self.state = State::Abandoned(reason.clone()),
            change => self.funded_mut().apply_change(change),
        }
    }

    fn fund(&mut self, outpoint: OutPoint) {
        let (State::AwaitingFunding(terms) | State::AwaitingFundingCreated(terms)) = &self.state else {
            panic!("the funding output is known once, after the terms");
        };
        let phase = match self.opener {
            Side::Local => Phase::AwaitingFundingSigned,
            Side::Remote => Phase::Open,
        };
        let funded = Funded {
            commitments: terms.begin(outpoint),
            minimum_depth: terms.minimum_depth,
            short_channel_id: None,
            local_ready: false,
            remote_ready: false,
            remote_alias: None,
            local_upfront_script: terms.local_upfront_script.clone(),
            remote_upfront_script: terms.remote_upfront_script.clone(),
            shutdown: Shutdown::default(),
            phase,
        };
        self.id = ChannelId::from_funding_outpoint(outpoint);
        self.state = State::Funded(Box::new(funded));
    }

    fn funded_mut(&mut self) -> &mut Funded {
        match &mut self.state {
            State::Funded(funded) => funded,
            _ => panic!("only a funded channel changes like this"),
        }
    }
}

impl Funded {
    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Commitment(change) => self.commitments.apply(change),
            Change::FundingSigned => self.phase = Phase::Open,
            Change::FundingConfirmed(short_channel_id) => self.short_channel_id = *short_channel_id,
            Change::LocalReady => self.local_ready = true,
            Change::RemoteReady { alias, point } => {
                self.remote_ready = true;
                self.remote_alias = alias.or(self.remote_alias);
                if let Some(point) = point {
                    let point = PerCommitmentPoint::new(*point);
                    self.commitments.apply(&commitment::Change::NextPointKnown { point });
                }
            }
            Change::ShutdownDecided { script, feerate } => {
                self.shutdown.local_script = Some(script.clone());
                self.shutdown.feerate = *feerate;
            }
            Change::ShutdownSent => self.shutdown.sent = true,
            Change::ShutdownReceived { script } => {
                self.shutdown.remote_script = Some(script.clone());
                self.shutdown.received = true;
            }
            Change::ClosingOffered { fee, range } => {
                self.shutdown.negotiation.sent = Some(*fee);
                self.shutdown.negotiation.sent_range = Some(*range);
            }
            Change::ClosingReceived { fee } => self.shutdown.negotiation.received = Some(*fee),
            Change::Phase(phase) => self.phase = phase.clone(),
            Change::Connected { .. }
            | Change::Reestablished
            | Change::Disconnected
            | Change::Accepted(_)
            | Change::FundingKnown { .. }
            | Change::Abandoned(_) => panic!("a change of the channel, not of its funding"),
        }
    }
}
