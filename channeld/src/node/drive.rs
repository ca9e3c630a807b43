//! Channels: what they are told, and what is done about what they say.

use bitcoin::{OutPoint, ScriptBuf};

use super::Node;
use super::api::event::{CloseKind, EventKind};
use super::api::refusal::Refusal;
use super::api::reply::Reply;
use super::input::Effect;
use super::live::Opening;
use super::state::change::Change;
use super::state::row::{RowKey, encode};
use crate::channel::{self, AbandonReason, Channel, Context, Delta, Notice};
use crate::commitment::{PenaltyRow, Side};
use crate::transactions::CommitmentFormat;
use crate::units::{ChannelId, FeeratePerKw, NodeId};
use crate::wallet::Spend;
use crate::wire;

/// Names an opening: its peer and the temporary id.
pub(super) type OpeningKey = (NodeId, ChannelId);

impl Node {
    /// What surrounds a channel's decision now.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            signer: &self.signer,
            chain_hash: self.settings.chain_hash,
            height: self.state.height(),
            close_feerate: self.feerate(6),
            policy: &self.settings.policy,
        }
    }

    /// The feerate for confirmation within so many blocks.
    pub(super) fn feerate(&self, blocks: u32) -> FeeratePerKw {
        let estimates = self.live.chain.as_ref().and_then(|chain| chain.feerates);
        let Some([next, six, day]) = estimates else { return self.settings.fallback_feerate };
        match blocks {
            0..=2 => next,
            3..=72 => six,
            _ => day,
        }
    }

    /// Tells a channel something that cannot be refused, or whose refusal means nothing.
    pub(super) fn drive_quietly(&mut self, id: ChannelId, input: channel::Input) {
        if let Err(refusal) = self.drive(id, input) {
            tracing::debug!(channel = %id, %refusal, "a channel refused");
        }
    }

    /// Tells a channel something: what follows is in the turn. The peer's fault is answered here.
    pub(super) fn drive(&mut self, id: ChannelId, input: channel::Input) -> Result<(), channel::Refusal> {
        let Some(entry) = self.state.channels.get(&id) else { return Err(channel::Refusal::Closed) };
        match entry.channel.decide(input, &self.context()) {
            Ok((delta, effects)) => {
                self.change_channel(id, delta);
                self.live.to_seal.insert(id);
                self.carry_out(id, effects);
                Ok(())
            }
            Err(channel::Error::Violated(violation)) => {
                tracing::warn!(channel = %id, peer = %entry.peer, %violation, "the peer broke a rule");
                if violation == channel::Violation::ClosingFeeRange && self.disagrees_for_long(id) {
                    return self.drive(id, channel::Input::Fail(channel::Failure::NoClosingAgreement));
                }
                self.drive(id, channel::Input::Violated(violation))
            }
            Err(channel::Error::Refused(refusal)) => Err(refusal),
        }
    }

    fn change_channel(&mut self, channel: ChannelId, mut delta: Delta) {
        self.keep_penalty_rows(channel, std::mem::take(&mut delta.penalty_rows));
        if !delta.is_empty() {
            self.change(Change::Channel { channel, delta });
        }
    }

    /// What a penalty needs of HTLCs that are over lies in the archive as long as the channel lives.
    fn keep_penalty_rows(&mut self, channel: ChannelId, rows: Vec<PenaltyRow>) {
        for row in rows {
            let side = if row.adder == Side::Local { 0 } else { 1 };
            let key = [&[side], row.id.id().to_be_bytes().as_slice()].concat();
            self.draft.rows.push((RowKey::Penalty(channel, key).bytes(), Some(encode(&row))));
            self.live.add_history(channel, row);
        }
    }

    fn carry_out(&mut self, id: ChannelId, effects: Vec<channel::Effect>) {
        for effect in effects {
            self.carry_out_one(id, effect);
        }
    }

    fn carry_out_one(&mut self, id: ChannelId, effect: channel::Effect) {
        use channel::Effect as E;
        let Some(peer) = self.state.channels.get(&id).map(|entry| entry.peer) else { return };
        match effect {
            E::Send(message) => self.send(peer, message),
            E::Disconnect => self.disconnect(peer),
            E::BroadcastFunding { .. } => self.broadcast_funding(id),
            E::Abandoned { reason } => self.abandoned(id, &reason),
            E::Ready => {
                self.event(EventKind::ChannelReady { channel: id, peer });
                self.gossip_live(id);
            }
            E::Broadcast(package) => self.turns.push(Effect::Broadcast(package)),
            E::ShuttingDown { .. } => {
                self.refresh_update(id);
                self.event(EventKind::ChannelShuttingDown { channel: id });
            }
            E::MutuallyClosed { txid } => {
                self.end_streams_of(id);
                self.refresh_update(id);
                self.event(EventKind::ChannelClosing { channel: id, how: CloseKind::Mutual, txid });
            }
            E::Failed { failure } => {
                let by_peer = failure.by_peer();
                self.end_streams_of(id);
                self.refresh_update(id);
                self.event(EventKind::ChannelFailed { channel: id, reason: failure.to_string(), by_peer });
                self.enforce(id);
            }
            E::Stale => self.warn(
                Some(id),
                "the peer proved that this node's data is old: only the peer can close this channel".to_owned(),
            ),
            E::Noticed(notice) => self.noticed(id, notice),
            E::AnnouncementSignatures(message) => self.receive_announcement_signatures(id, message),
            // These belong to openings.
            E::FundingNeeded { .. } | E::Identified { .. } => {}
            effect => self.settle(id, peer, effect),
        }
    }

    fn noticed(&mut self, id: ChannelId, notice: Notice) {
        let is_said = matches!(notice, Notice::PeerWarned { .. } | Notice::FeerateOutOfRange { .. });
        let message = match notice {
            Notice::PeerWarned { text } => format!("the peer warns: {text}"),
            Notice::FeerateOutOfRange { feerate } => {
                format!("the opener's feerate of {feerate} sat/kW is out of range: nothing is offered meanwhile")
            }
            Notice::PeerStale => "the peer has lost data: it has to ask for a close".to_owned(),
            Notice::TransfersMissing => {
                "the peer came back without netted transfers while one is unacked: the channel waits".to_owned()
            }
            Notice::WrittenOff { id, .. } => format!("HTLC {id} has no output and is past its deadline: written off"),
            Notice::DeadlineNear { id, close_height, .. } => {
                format!("HTLC {id} is near its deadline: the channel will be closed at height {close_height}")
            }
        };
        match self.state.channels.get(&id).map(|entry| entry.peer).filter(|_| is_said) {
            Some(peer) => self.event_by_peer(peer, EventKind::Warning { channel: Some(id), message }),
            None => self.warn(Some(id), message),
        }
    }

    /// The peer's signature is in the same record as this: the funding transaction may go.
    fn broadcast_funding(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let Some(transaction) = entry.funding.clone() else { return };
        let seen_at = self.moment.now.seconds();
        self.wallet.apply_unconfirmed([std::sync::Arc::new(transaction.clone())], seen_at);
        self.turns.push(Effect::Broadcast(vec![transaction]));
        self.pending_event(id);
        if let Some(request) = self.live.funding_waiters.remove(&id) {
            let info = self.channel_info(id);
            self.answer(request, info.map(|info| Reply::Channel(Box::new(info))));
        }
    }

    fn pending_event(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let Some(commitments) = entry.channel.commitments() else { return };
        let (funding, capacity, peer) =
            (commitments.main().funding().outpoint(), commitments.main().funding().amount(), entry.peer);
        self.event(EventKind::ChannelPending { channel: id, peer, funding, capacity });
    }

    /// Nothing came of a channel that was stored already.
    fn abandoned(&mut self, id: ChannelId, reason: &AbandonReason) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let peer = entry.peer;
        if let Some(funding) = entry.funding.clone() {
            funding.input.iter().for_each(|input| self.wallet.unlock(input.previous_output));
        }
        self.forget_channel(id);
        self.event(EventKind::ChannelClosed { channel: id, how: CloseKind::Abandoned });
        if let Some(request) = self.live.funding_waiters.remove(&id) {
            self.answer(request, Err(abandon_refusal(peer, reason)));
        }
    }

    /// The channel is over. A peer whose last it was is a stranger again, unless it is called anyway.
    pub(super) fn forget_channel(&mut self, id: ChannelId) {
        let Some(peer) = self.state.channels.get(&id).map(|entry| entry.peer) else { return };
        self.change(Change::ChannelRemoved { channel: id });
        self.gossip_forgotten(id);
        let is_called = self.state.peers.get(&peer).is_some_and(|record| record.persistent);
        if !is_called && self.state.channels_with(peer).next().is_none() {
            self.turns.push(Effect::Forget { peer });
        }
    }

    /// Tells a channel whose funding is not settled something.
    pub(super) fn drive_opening(&mut self, key: OpeningKey, input: channel::Input) {
        let Some(opening) = self.live.openings.get(&key) else { return };
        match opening.channel.decide(input, &self.context()) {
            Ok((delta, effects)) => {
                if let Some(opening) = self.live.openings.get_mut(&key) {
                    opening.channel.apply(&delta);
                }
                self.carry_out_opening(key, effects);
            }
            Err(channel::Error::Violated(violation)) => {
                tracing::warn!(peer = %key.0, %violation, "the peer broke a rule while a channel was opened");
                self.drive_opening(key, channel::Input::Violated(violation));
            }
            Err(channel::Error::Refused(refusal)) => tracing::debug!(%refusal, "an opening refused"),
        }
    }

    pub(super) fn carry_out_opening(&mut self, key: OpeningKey, effects: Vec<channel::Effect>) {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            match effect {
                channel::Effect::Send(message) => self.send(key.0, message),
                channel::Effect::Disconnect => self.disconnect(key.0),
                channel::Effect::FundingNeeded { script_pubkey, amount } => {
                    self.build_funding(key, script_pubkey, amount);
                }
                channel::Effect::Identified { channel_id, .. } if self.state.channels.contains_key(&channel_id) => {
                    // The peer names the output: no opening may take the place of a channel that is there.
                    let error = wire::Error::new(key.1, "a channel with this funding output exists");
                    self.send(key.0, error.into());
                    if let Some(opening) = self.live.openings.remove(&key) {
                        let message = "it named the funding output of another channel".to_owned();
                        self.opening_failed(opening, Refusal::PeerRefused { message });
                    }
                    return;
                }
                channel::Effect::Identified { channel_id, .. } => {
                    // From here on it is a channel like any other, and what follows is about it.
                    self.keep_channel(key, channel_id);
                    let rest: Vec<_> = effects.collect();
                    return self.carry_out(channel_id, rest);
                }
                channel::Effect::Abandoned { reason } => {
                    if let Some(opening) = self.live.openings.remove(&key) {
                        self.opening_failed(opening, abandon_refusal(key.0, &reason));
                    }
                }
                channel::Effect::Noticed(notice) => tracing::info!(peer = %key.0, ?notice, "while a channel is opened"),
                _ => {}
            }
        }
    }

    fn build_funding(&mut self, key: OpeningKey, script_pubkey: ScriptBuf, amount: bitcoin::Amount) {
        let Some(opening) = self.live.openings.get(&key) else { return };
        let wanted = opening.request.as_ref().and_then(|(_, request)| request.funding_feerate);
        let feerate = wanted.unwrap_or_else(|| self.feerate(6));
        let reserve = self.reserve();
        let entropy = self.draw("wallet/funding");
        let spend = Spend::Exact(bitcoin::TxOut { value: amount, script_pubkey });
        match self.wallet.build(&spend, feerate, reserve, &entropy) {
            Ok(draft) => {
                let outpoint = OutPoint::new(draft.transaction.compute_txid(), draft.output_index);
                if let Some(opening) = self.live.openings.get_mut(&key) {
                    opening.funding = Some(draft.transaction);
                }
                self.drive_opening(key, channel::Input::Command(channel::Command::FundingBuilt { outpoint }));
            }
            Err(error) => {
                if let Some(opening) = self.live.openings.get_mut(&key)
                    && let Some((request, _)) = opening.request.take()
                {
                    self.answer(request, Err(super::client::wallet_refusal(error)));
                }
                self.drive_opening(key, channel::Input::Command(channel::Command::Abandon(AbandonReason::ByUser)));
            }
        }
    }

    /// The channel has a funding output: it is stored, and with it the transaction and what the wallet locked for it.
    fn keep_channel(&mut self, key: OpeningKey, id: ChannelId) {
        let Some(opening) = self.live.openings.remove(&key) else { return };
        let commitments = opening.channel.commitments();
        let policy = commitments.map_or(self.settings.forwarding, |commitments| {
            self.settings.forwarding.within(&commitments.parameters, commitments.main().capacity())
        });
        self.change(Change::ChannelAdded { peer: key.0, channel: Box::new(opening.channel), policy });
        self.turns.push(Effect::Protect { peer: key.0 });
        if opening.funding.is_some() {
            self.live.opened_as.insert(key, id);
            self.change(Change::FundingKept { channel: id, transaction: opening.funding });
        } else {
            self.pending_event(id);
        }
        if let Some((request, _)) = opening.request {
            self.live.funding_waiters.insert(id, request);
        }
        self.live.to_seal.insert(id);
    }

    /// Nothing came of an opening: its client hears, and its coins are free again.
    pub(super) fn opening_failed(&mut self, opening: Opening, refusal: Refusal) {
        if let Some(funding) = &opening.funding {
            funding.input.iter().for_each(|input| self.wallet.unlock(input.previous_output));
        }
        match opening.request {
            Some((request, _)) => self.answer(request, Err(refusal)),
            None => self.live.spare_scripts.push(opening.channel.close_script),
        }
    }

    /// What is kept back for the anchors of all channels that we have and open.
    pub(super) fn reserve(&self) -> bitcoin::Amount {
        let with_anchors = self.state.channels.values().filter(|entry| needs_reserve(&entry.channel)).count();
        self.settings.anchor_reserve * (with_anchors + self.live.openings.len()) as u64
    }
}

fn needs_reserve(channel: &Channel) -> bool {
    channel.commitments().is_some_and(|commitments| commitments.parameters.format == CommitmentFormat::Anchors)
}

fn abandon_refusal(peer: NodeId, reason: &AbandonReason) -> Refusal {
    match reason {
        AbandonReason::Disconnected => Refusal::ConnectionLost(peer),
        AbandonReason::ByUser => Refusal::PeerRefused { message: "the opening was given up".to_owned() },
        AbandonReason::Failed(failure) => Refusal::PeerRefused { message: failure.to_string() },
        AbandonReason::NoAnswer => Refusal::PeerRefused { message: "the peer did not answer in time".to_owned() },
        AbandonReason::FundingInvalid => Refusal::PeerRefused { message: "funded by another output".to_owned() },
        AbandonReason::NotFunded => Refusal::PeerRefused { message: "never funded".to_owned() },
    }
}
