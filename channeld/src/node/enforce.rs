//! Channels on the chain: resolvers are told of blocks, and what they want is done with the wallet's help.

use std::collections::BTreeSet;

use bitcoin::{Address, Block, OutPoint, Transaction, TxOut, Txid};

use super::Node;
use super::api::event::{CloseKind, EventKind};
use super::api::reply::Claimable;
use super::input::Effect;
use super::state::change::Change;
use super::state::row::{RowKey, encode};
use crate::channel::{self, Command, Phase};
use crate::commitment::{Htlc, PenaltyRow, Side, Stage};
use crate::onchain::{self, ClosedChannel, FundRequest, HtlcOutcome, HtlcSide};
use crate::onchain::{Resolver, relevant_transactions};
use crate::payment::forward::{Cause, ForwardStatus, HtlcPlace};
use crate::transactions::{self, HtlcDirection, HtlcHistory};
use crate::units::{BlockHeight, ChannelId, HtlcId};
use crate::wallet::Coin;

impl Node {
    pub(super) fn chain_context(&self) -> onchain::Context<'_> {
        let feerates =
            onchain::Feerates { urgent: self.feerate(1), normal: self.feerate(6), relaxed: self.feerate(144) };
        let settings = onchain::Settings { burial_depth: self.settings.burial, ..onchain::Settings::default() };
        onchain::Context { signer: &self.signer, feerates, settings }
    }

    /// What lies on the chain, is ours, and is not in the wallet yet.
    pub(super) fn claimable(&self) -> Vec<Claimable> {
        let cx = self.chain_context();
        let of_one = |(channel, resolver): (&ChannelId, &Resolver)| {
            let channel = *channel;
            let outputs = resolver.claimable(&cx).into_iter();
            let all: Vec<_> = outputs
                .map(|(outpoint, amount, height)| Claimable { channel, outpoint, amount, height: Some(height) })
                .collect();
            all
        };
        self.state.resolvers.iter().flat_map(of_one).collect()
    }

    /// The channel failed: our commitment goes to the chain, with a child that pays for it. Before its funding transaction is
    /// there this waits: it may never come, and what the child spends would be bound for nothing.
    pub(super) fn enforce(&mut self, id: ChannelId) {
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        if funded.is_none_or(|funded| funded.short_channel_id.is_none()) {
            return;
        }
        if self.add_resolver(id, self.state.height()) {
            self.resolve(id, onchain::Input::ForceClose);
        }
    }

    /// The channel failed before its funding transaction was there, or what spent it is undone; now it is there.
    pub(super) fn enforce_late(&mut self, id: ChannelId) {
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        let is_failed = funded.is_some_and(|funded| matches!(funded.phase, Phase::Failed { .. }));
        let resolver = self.state.resolvers.get(&id);
        let is_under_way = resolver.is_some_and(|resolver| resolver.is_closing() || resolver.confirmed().is_some());
        if is_failed && !is_under_way {
            self.enforce(id);
        }
    }

    /// A resolver for the channel as it stands; `false` where there can be none.
    fn add_resolver(&mut self, channel: ChannelId, tip: BlockHeight) -> bool {
        if self.state.resolvers.contains_key(&channel) {
            return true;
        }
        let Some(closed) = self.closed_channel(channel) else { return false };
        let preimages: Vec<_> = self.settled_preimages(channel);
        let resolver = Box::new(Resolver::new(closed, &preimages, tip));
        self.change(Change::ResolverAdded { channel, resolver });
        true
    }

    fn closed_channel(&mut self, id: ChannelId) -> Option<ClosedChannel> {
        let facts = self.state.channels.get(&id)?.channel.closing_facts()?;
        let scripts = facts.local_shutdown_script.into_iter().chain(facts.remote_shutdown_script).collect();
        let sweep_script = self.wallet.next_change_script();
        ClosedChannel::new(facts.keys_id, &facts.commitments, &self.signer, scripts, sweep_script)
    }

    /// Preimages that this node has given for the channel's incoming HTLCs.
    pub(super) fn settled_preimages(&self, id: ChannelId) -> Vec<crate::units::Preimage> {
        let commitments = self.state.channels.get(&id).and_then(|entry| entry.channel.commitments());
        let removals =
            commitments.into_iter().flat_map(|it| it.incoming.values()).filter_map(|htlc| htlc.removal.as_ref());
        let given = removals.filter_map(|pending| match &pending.removal {
            crate::commitment::Removal::Fulfilled { preimage, .. } => Some(*preimage),
            _ => None,
        });
        let forwarded = self.state.forwards_from(id).filter_map(|forward| match forward.status {
            ForwardStatus::Fulfilled(preimage) => Some(preimage),
            _ => None,
        });
        given.chain(forwarded).collect()
    }

    /// The funding output is spent in the best chain: whatever it is, it is followed from here on.
    pub(super) fn funding_spent(&mut self, id: ChannelId, height: BlockHeight, transaction: &Transaction) {
        let below = BlockHeight::new(height.height().saturating_sub(1));
        if !self.add_resolver(id, below) {
            tracing::error!(channel = %id, "the funding output of a channel that nobody signed for is spent");
        }
        self.end_streams_of(id);
        self.drive_quietly(id, channel::Input::FundingSpent { txid: transaction.compute_txid() });
    }

    /// Tells every resolver of a block.
    pub(super) fn resolvers_block(&mut self, height: BlockHeight, block: &Block) {
        let ids: Vec<ChannelId> = self.state.resolvers.keys().copied().collect();
        for id in ids {
            let Some(resolver) = self.state.resolvers.get(&id).filter(|resolver| resolver.tip() < height) else {
                continue;
            };
            let watched = resolver.watched(&self.chain_context());
            let transactions = relevant_transactions(&watched, &block.txdata);
            let history = self.history_for(id, resolver, &transactions);
            self.resolve(id, onchain::Input::BlockConnected { height, transactions, history });
        }
    }

    /// The channels whose penalty rows a block makes necessary: the driver brings them with it.
    pub fn wants_history(&self, block: &Block) -> Vec<ChannelId> {
        let spent: BTreeSet<OutPoint> =
            block.txdata.iter().flat_map(|it| &it.input).map(|input| input.previous_output).collect();
        let fundings = self.funding_outpoints().filter(|(_, outpoint)| spent.contains(outpoint));
        fundings.map(|(id, _)| id).collect()
    }

    /// What an HTLC of a revoked commitment was: the rows of those that are over, and those still in flight.
    fn history_for(&self, id: ChannelId, resolver: &Resolver, transactions: &[Transaction]) -> Vec<HtlcHistory> {
        let revoked = transactions.iter().find_map(|it| resolver.revoked_number(&self.signer, it));
        let Some(number) = revoked else { return Vec::new() };
        let Some(commitments) = self.state.channels.get(&id).and_then(|entry| entry.channel.commitments()) else {
            return Vec::new();
        };
        let all = self.live.block_history.iter().chain(&self.live.history);
        let rows = all.filter(|(channel, _)| *channel == id).map(|(_, row)| row);
        let mut known = BTreeSet::new();
        let mut history = Vec::new();
        for row in rows {
            if known.insert((row.adder, row.id)) {
                history.push(history_of_row(row));
            }
        }
        for adder in [Side::Local, Side::Remote] {
            let in_flight = commitments.htlcs(adder).values().filter(|htlc| !known.contains(&(adder, htlc.offer.id)));
            history.extend(in_flight.filter_map(|htlc| history_in_flight(adder, htlc)));
        }
        history.retain(|htlc| htlc.was_on(number));
        history
    }

    /// The preimage of an HTLC on a channel that is over.
    pub(super) fn preimage_learned(&mut self, id: ChannelId, preimage: crate::units::Preimage) {
        self.resolve(id, onchain::Input::PreimageLearned(preimage));
    }

    /// Tells a resolver something, and does what it wants.
    pub(super) fn resolve(&mut self, channel: ChannelId, input: onchain::Input) {
        let Some(resolver) = self.state.resolvers.get(&channel) else { return };
        let (delta, effects) = resolver.decide(input, &self.chain_context());
        self.change(Change::Resolver { channel, delta });
        effects.into_iter().for_each(|effect| self.carry_out_chain(channel, effect));
    }

    fn carry_out_chain(&mut self, id: ChannelId, effect: onchain::Effect) {
        use onchain::Effect as E;
        match effect {
            E::Broadcast(package) => self.broadcast_claim(id, package),
            E::Fund(request) => self.fund(id, &request),
            E::Abandoned(txid) => self.abandon_claim(txid),
            // What is watched is asked of the resolver at every block.
            E::Watch(_) => {}
            E::Closed { kind, txid, .. } => {
                self.event(EventKind::ChannelClosing { channel: id, how: close_kind(kind), txid });
                if let Some(loss) = possible_loss(kind) {
                    self.warn(Some(id), loss.to_owned());
                }
            }
            E::Undone => self.close_undone(id),
            E::Buried { kind } => self.close_buried(id, kind),
            E::HtlcResolved { key, outcome, .. } if key.side == HtlcSide::Outgoing => {
                self.htlc_resolved(id, key.id, outcome);
            }
            E::HtlcResolved { .. } => {}
            E::OutputSwept { outpoint, amount, txid, height } => {
                let penalty = self.penalty_outputs(id).contains(&outpoint);
                self.event(EventKind::ClaimConfirmed { channel: id, txid, penalty, amount, height });
            }
            E::Resolved { .. } => self.resolved(id),
        }
    }

    /// A claim cannot confirm any more, nor can the versions that it replaced, which take the same first output.
    fn abandon_claim(&mut self, txid: Txid) {
        let Some(claim) = self.wallet.transaction(&txid) else { return };
        let Some(taken) = claim.input.first().map(|input| input.previous_output) else { return };
        let at = self.moment.now.seconds();
        let mut dead = Some(txid);
        let mut known = BTreeSet::new();
        while let Some(txid) = dead.filter(|txid| known.insert(*txid)) {
            self.wallet.evict([txid], at);
            // With the newest gone, the wallet takes the one before it for good again.
            let takes = |it: &Transaction| it.input.iter().any(|input| input.previous_output == taken);
            let older = self.wallet.unconfirmed().into_iter().find(|(_, it)| takes(it));
            dead = older.map(|(txid, _)| txid);
        }
    }

    /// Claims are the wallet's transactions as well: its coins are in them, or their outputs are its own.
    fn broadcast_claim(&mut self, id: ChannelId, package: Vec<Transaction>) {
        let now = self.moment.now.seconds();
        for transaction in &package {
            let txid = transaction.compute_txid();
            let is_new = self.wallet.transaction(&txid).is_none();
            self.wallet.apply_unconfirmed([std::sync::Arc::new(transaction.clone())], now);
            let is_claim = self.wallet.transaction(&txid).is_some();
            if is_new && is_claim && self.state.resolvers.get(&id).is_some_and(|it| it.confirmed().is_some()) {
                let ours = transaction.output.iter().filter(|output| self.wallet.is_mine(&output.script_pubkey));
                let amount = ours.map(|output| output.value).sum();
                let punished = self.penalty_outputs(id);
                let penalty = transaction.input.iter().any(|input| punished.contains(&input.previous_output));
                self.event(EventKind::ClaimBroadcast { channel: id, txid, penalty, amount });
            }
        }
        self.turns.push(Effect::Broadcast(package));
    }

    fn fund(&mut self, id: ChannelId, request: &FundRequest) {
        let (claim, reuse) = self.claim_of(request);
        match self.wallet.fund_claim(&claim, &reuse) {
            Ok(mut funded) => {
                let own = request.transaction.input.len();
                self.wallet.sign_inputs(&mut funded.transaction, &funded.spent);
                let spent = funded.spent.split_off(own.min(funded.spent.len()));
                let (key, fee, transaction) = (request.key, funded.fee, funded.transaction);
                self.resolve(id, onchain::Input::Funded { key, transaction, spent, fee });
            }
            // It is asked for again with the next block.
            Err(error) => tracing::warn!(channel = %id, %error, "the wallet cannot pay for a claim now"),
        }
    }

    pub(super) fn coin(&self, outpoint: OutPoint, output: &TxOut) -> Option<Coin> {
        Some(Coin {
            outpoint,
            output: output.clone(),
            address: Address::from_script(&output.script_pubkey, self.address_network()).ok()?,
            confirmed_at: Some(self.state.height()),
            is_change: false,
            is_immature: false,
            is_locked: false,
        })
    }

    fn htlc_resolved(&mut self, channel: ChannelId, htlc: HtlcId, outcome: HtlcOutcome) {
        match outcome {
            HtlcOutcome::Fulfilled(preimage) => self.outgoing_fulfilled(channel, htlc, preimage, None),
            HtlcOutcome::Failed => {
                if let Some(Cause::Forward(incoming)) = self.state.cause_of(channel, htlc) {
                    return self.forward_timed_out(incoming);
                }
                if let Some(payment) = self.state.payment_of(channel, htlc).cloned() {
                    self.part_timed_out(&payment, HtlcPlace { channel, id: htlc });
                }
            }
            HtlcOutcome::Claimed | HtlcOutcome::Lost => {}
        }
    }

    fn penalty_outputs(&self, id: ChannelId) -> BTreeSet<OutPoint> {
        let resolver = self.state.resolvers.get(&id);
        resolver.map(|resolver| resolver.penalty_outputs(&self.chain_context())).unwrap_or_default()
    }

    /// All is buried: the channel moves to the archive.
    fn resolved(&mut self, id: ChannelId) {
        let how = self
            .state
            .resolvers
            .get(&id)
            .and_then(Resolver::confirmed)
            .map_or(CloseKind::Mutual, |(kind, _)| close_kind(kind));
        if let Ok(mut info) = self.channel_info(id) {
            info.state = super::api::reply::ChannelState::Closed;
            self.draft.rows.push((RowKey::EndedChannel(info.index).bytes(), Some(encode(&info))));
            self.draft.rows.push((RowKey::EndedChannelIndex(id).bytes(), Some(encode(&info.index))));
            let name = info.short_channel_id.map(RowKey::EndedChannelName);
            self.draft.rows.extend(name.map(|name| (name.bytes(), Some(encode(&id)))));
        }
        self.draft.rows.push((RowKey::PenaltiesOver(id).bytes(), Some(Vec::new())));
        self.forwards_forgotten(id);
        self.change(Change::ResolverRemoved { channel: id });
        self.forget_channel(id);
        self.live.kept.remove(&id);
        self.live.silent_closes.remove(&id);
        self.live.disagreed.remove(&id);
        self.event(EventKind::ChannelClosed { channel: id, how });
    }

    /// Rows for penalties of a channel that is over and buried leave the archive; `last`: there are no more.
    pub(super) fn forget_penalties(&mut self, channel: ChannelId, keys: Vec<Vec<u8>>, last: bool) {
        if self.state.channels.contains_key(&channel) {
            return;
        }
        self.draft.rows.extend(keys.into_iter().map(|key| (key, None)));
        if last {
            self.draft.rows.push((RowKey::PenaltiesOver(channel).bytes(), None));
        }
    }

    /// A block is taken back: what it said is unsaid.
    pub(super) fn resolvers_unwind(&mut self, height: BlockHeight) {
        let ids: Vec<ChannelId> = self.state.resolvers.keys().copied().collect();
        for id in ids {
            self.resolve(id, onchain::Input::BlockDisconnected { height });
        }
    }

    /// A reorganisation took the spend of the funding output back. One that was buried is booked: the channel is over.
    fn close_undone(&mut self, id: ChannelId) {
        self.drive_quietly(id, channel::Input::FundingUnspent);
        if self.state.resolvers.get(&id).is_some_and(Resolver::was_buried) {
            self.drive_quietly(id, channel::Input::Fail(channel::Failure::CloseUndone));
        }
        self.fulfil_again(id);
        self.forget_unneeded_resolver(id);
        self.judge_again(id);
    }

    /// What was taken on the chain is booked, and everybody has seen its preimage: on a channel that goes on it is taken
    /// there. Its invoice is over and would not vouch for it any more. Forwards remember for themselves.
    fn fulfil_again(&mut self, id: ChannelId) {
        let (Some(resolver), Some(entry)) = (self.state.resolvers.get(&id), self.state.channels.get(&id)) else {
            return;
        };
        let incoming = entry.channel.commitments().into_iter().flat_map(|it| it.incoming.values());
        let open = incoming.filter(|htlc| htlc.stage == Stage::Irrevocable && htlc.removal.is_none());
        let is_forward = |htlc: &&Htlc| {
            let place = HtlcPlace { channel: id, id: htlc.offer.id };
            self.state.forwards.contains_key(&place)
        };
        let known = open.filter(|htlc| !is_forward(htlc)).filter_map(|htlc| {
            let preimage = resolver.preimage(&htlc.offer.payment_hash)?;
            Some(Command::FulfillHtlc { id: htlc.offer.id, preimage, attribution_data: None })
        });
        let commands: Vec<Command> = known.collect();
        commands.into_iter().for_each(|command| self.drive_quietly(id, channel::Input::Command(command)));
    }

    /// A channel that goes on is followed anew, from what it is then, when its output is spent again.
    fn forget_unneeded_resolver(&mut self, id: ChannelId) {
        let phase = self.state.channels.get(&id).and_then(|entry| entry.channel.funded()).map(|funded| &funded.phase);
        if matches!(phase, Some(Phase::Open | Phase::MutuallyClosed { .. })) {
            self.change(Change::ResolverRemoved { channel: id });
        }
    }
}

fn history_of_row(row: &PenaltyRow) -> HtlcHistory {
    let htlc = transactions::Htlc {
        direction: direction(row.adder),
        id: row.id,
        amount: row.amount,
        payment_hash: row.payment_hash,
        cltv_expiry: row.cltv_expiry,
    };
    HtlcHistory { htlc, first: row.first, last: Some(row.last) }
}

fn history_in_flight(adder: Side, htlc: &Htlc) -> Option<HtlcHistory> {
    let first = htlc.first_remote.filter(|_| htlc.untrimmed_remote)?;
    let offer = &htlc.offer;
    let htlc = transactions::Htlc {
        direction: direction(adder),
        id: offer.id,
        amount: offer.amount,
        payment_hash: offer.payment_hash,
        cltv_expiry: offer.cltv_expiry,
    };
    Some(HtlcHistory { htlc, first, last: None })
}

/// On the peer's commitment the peer is the broadcaster.
const fn direction(adder: Side) -> HtlcDirection {
    match adder {
        Side::Remote => HtlcDirection::Offered,
        Side::Local => HtlcDirection::Received,
    }
}

/// BOLT 5: what cannot be handled is told to the user.
const fn possible_loss(kind: onchain::CloseKind) -> Option<&'static str> {
    match kind {
        onchain::CloseKind::Unknown => Some(
            "the funding output was spent by no transaction that this node knows: somebody has its key, and the channel's \
             balance may be lost",
        ),
        onchain::CloseKind::RemoteFuture(_) => Some(
            "the peer's commitment is newer than all that this node knows: it takes its balance there, and what was in \
             flight may be lost",
        ),
        onchain::CloseKind::LocalRevoked(_) => {
            Some("an old copy of this node broadcast a revoked commitment: the peer may take the whole channel")
        }
        _ => None,
    }
}

const fn close_kind(kind: onchain::CloseKind) -> CloseKind {
    match kind {
        onchain::CloseKind::Mutual => CloseKind::Mutual,
        onchain::CloseKind::Local | onchain::CloseKind::LocalRevoked(_) => CloseKind::LocalForced,
        onchain::CloseKind::Revoked(_) => CloseKind::Revoked,
        onchain::CloseKind::Remote
        | onchain::CloseKind::NextRemote
        | onchain::CloseKind::RemoteFuture(_)
        | onchain::CloseKind::Unknown => CloseKind::RemoteForced,
    }
}
