//! What clients may read: resources made of the state.

use crate::channel::{Phase, State};
use crate::commitment::{Commitments, Side, View};
use crate::node::Node;
use crate::node::api::command::{Page, Query, RequestKey};
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{
    Balances, ChannelInfo, ChannelState, HtlcInfo, NodeInfo, Paged, Reply, SyncState, UnspentOutput, WalletTransaction,
};
use crate::node::input::RequestNumber;
use crate::node::state::ChannelEntry;
use crate::node::state::change::Answer;
use crate::node::state::index::page_of;
use crate::transactions::CommitmentFormat;
use crate::units::{ChannelId, Msat, NodeId};

impl Node {
    pub(in crate::node) fn query(&mut self, request: RequestNumber, query: Query) {
        let outcome = match query {
            Query::AwaitPayment(hash) => return self.await_payment(request, hash),
            Query::Replay(key) => return self.replay_ended(request, &key),
            Query::Node => Ok(Reply::Node(self.node_info())),
            Query::Balances => Ok(Reply::Balances(self.balances())),
            Query::ListUnspentOutputs(page) => Ok(Reply::UnspentOutputs(self.unspent_outputs(page))),
            Query::ListTransactions(page) => Ok(Reply::Transactions(self.transactions(page))),
            Query::ListPeers(page) => Ok(Reply::Peers(self.peers(page))),
            Query::Channel(id) => self.channel_info(id).map(|info| Reply::Channel(Box::new(info))),
            Query::ChannelNamed(name) => {
                let found = self.state.channel_named(name).or_else(|| self.state.channel_at(name));
                let found = found.ok_or(Refusal::ChannelNotFound(ChannelId([0; 32])));
                found.and_then(|id| self.channel_info(id)).map(|info| Reply::Channel(Box::new(info)))
            }
            Query::ListChannels { peer, page } => Ok(Reply::Channels(self.channels(peer, page))),
            Query::PlanClose(id) => self.plan_close(id),
            Query::AuditChannels { channel, page } => self.audit(channel, page),
            Query::Invoice(hash) => self
                .state
                .invoices
                .get(&hash)
                .map(|invoice| Reply::Invoice(Box::new(invoice.clone())))
                .ok_or(Refusal::InvoiceNotFound),
            Query::ListInvoices(page) => {
                let of = |hash| self.state.invoices.get(&hash).cloned();
                Ok(Reply::Invoices(page_of(&self.state.index.invoices, page, of)))
            }
            Query::Payment(hash) => self
                .state
                .payments
                .get(&hash)
                .map(|payment| Reply::Payment(Box::new(payment.clone())))
                .ok_or(Refusal::PaymentNotFound),
            Query::ListPayments(page) => {
                let of = |hash| self.state.payments.get(&hash).cloned();
                Ok(Reply::Payments(page_of(&self.state.index.payments, page, of)))
            }
        };
        self.reply(request, outcome);
    }

    fn replay_ended(&mut self, request: RequestNumber, key: &RequestKey) {
        let recalled = self.live.recalled.remove(&key.id);
        match self.state.requests.get(&key.id).cloned().or(recalled) {
            Some(answered) if answered.body != key.body => self.reply(request, Err(Refusal::IdempotencyMismatch)),
            Some(answered) => match answered.answer {
                Answer::Payment(hash) => self.watch_payment(request, hash),
                Answer::Reply(ref reply) => self.reply(request, Ok((**reply).clone())),
                Answer::Stream(_) => self.reply(request, Err(Refusal::IdempotencyMismatch)),
            },
            None => self.reply(request, Err(Refusal::AlreadyPaid)),
        }
    }

    fn node_info(&self) -> NodeInfo {
        let (block_height, block_hash) =
            self.state.tip().unwrap_or_else(|| (self.state.height(), bitcoin::hashes::Hash::from_byte_array([0; 32])));
        let count = |wanted: fn(&Node, &ChannelEntry) -> bool| {
            u32::try_from(self.state.channels.values().filter(|entry| wanted(self, entry)).count()).unwrap_or(u32::MAX)
        };
        NodeInfo {
            node_id: NodeId(self.signer.node_id()),
            alias: self.settings.alias.clone(),
            network: self.settings.network.clone(),
            block_height,
            block_hash,
            sync: self.sync_state(),
            listen_addresses: self.settings.listen_addresses.clone(),
            connected_peers: u32::try_from(self.live.sessions.len()).unwrap_or(u32::MAX),
            usable_channels: count(|_, entry| entry.channel.is_usable()),
            pending_channels: count(|node, entry| node.channel_state(entry) == ChannelState::AwaitingConfirmation),
            closing_channels: count(|_, entry| entry.channel.funded().is_some_and(|funded| funded.is_closing())),
            development: self.settings.development,
            newest_event: self.state.head.events,
        }
    }

    fn sync_state(&self) -> SyncState {
        match &self.live.chain {
            None => SyncState::BackendUnavailable { description: "not asked yet".to_owned() },
            Some(chain) => match &chain.problem {
                Some(problem) => SyncState::BackendUnavailable { description: problem.clone() },
                None if self.is_synced() => SyncState::Synced,
                None => SyncState::Syncing { target: chain.target },
            },
        }
    }

    fn balances(&self) -> Balances {
        let wallet = self.wallet.balance(self.reserve());
        let mut balances = Balances {
            confirmed: wallet.spendable + wallet.reserved + wallet.locked,
            unconfirmed: wallet.unconfirmed,
            immature: wallet.immature,
            reserved: wallet.reserved,
            spendable: wallet.spendable,
            forwarded: self.state.head.forwarded,
            forwarding_fees: self.state.head.forwarding_fees,
            ..Balances::default()
        };
        balances.claimable = self.claimable();
        for entry in self.state.channels.values() {
            let Some(info) = self.info_of(entry) else { continue };
            if matches!(info.state, ChannelState::Closing | ChannelState::Resolving | ChannelState::Closed) {
                continue;
            }
            balances.local = plus(balances.local, info.local);
            balances.sendable = plus(balances.sendable, info.sendable);
            balances.receivable = plus(balances.receivable, info.receivable);
            for htlc in &info.htlcs {
                let sum =
                    if htlc.incoming { &mut balances.incoming_in_flight } else { &mut balances.outgoing_in_flight };
                *sum = plus(*sum, htlc.amount);
            }
        }
        balances
    }

    fn unspent_outputs(&self, page: Page) -> Paged<UnspentOutput> {
        let coins = self.wallet.coins();
        let items = (1u64..).zip(coins).map(|(index, coin)| {
            let output = UnspentOutput {
                index,
                outpoint: coin.outpoint,
                amount: coin.output.value,
                address: coin.address.to_string(),
                height: coin.confirmed_at,
                locked: coin.is_locked,
            };
            (index, output)
        });
        paged(items.collect(), page)
    }

    fn transactions(&self, page: Page) -> Paged<WalletTransaction> {
        // The wallet tells the newest first; indexes count up from the oldest, so that they stay as the list grows.
        let newest_first = self.wallet.transactions();
        let items = (1u64..).zip(newest_first.into_iter().rev()).map(|(index, seen)| {
            let transaction = WalletTransaction {
                index,
                txid: seen.txid,
                received: seen.received,
                sent: seen.sent,
                fee: seen.fee,
                height: seen.confirmed_at,
            };
            (index, transaction)
        });
        paged(items.collect(), page)
    }

    fn peers(&self, page: Page) -> Paged<crate::node::api::reply::PeerInfo> {
        let known = self.state.peers.keys().chain(self.live.sessions.keys());
        let with_channels = self.state.channels.values().map(|entry| &entry.peer);
        let all: std::collections::BTreeSet<NodeId> = known.chain(with_channels).copied().collect();
        paged((1u64..).zip(all.into_iter().map(|peer| self.peer_info(peer))).collect(), page)
    }

    fn channels(&self, peer: Option<NodeId>, page: Page) -> Paged<ChannelInfo> {
        page_of(&self.state.index.channels, page, |id| {
            let entry = self.state.channels.get(&id).filter(|entry| peer.is_none_or(|peer| entry.peer == peer))?;
            self.info_of(entry)
        })
    }

    /// What the API shows of a channel.
    pub(in crate::node) fn channel_info(&self, id: ChannelId) -> Result<ChannelInfo, Refusal> {
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        self.info_of(entry).ok_or(Refusal::ChannelNotFound(id))
    }

    pub(in crate::node) fn channel_state(&self, entry: &ChannelEntry) -> ChannelState {
        let State::Funded(funded) = &entry.channel.state else { return ChannelState::Opening };
        match &funded.phase {
            Phase::AwaitingFundingSigned => ChannelState::Opening,
            Phase::MutuallyClosed { .. } | Phase::Failed { .. } => ChannelState::Closing,
            Phase::Stale => ChannelState::AwaitingPeerClose,
            Phase::Spent { .. } => ChannelState::Resolving,
            Phase::Open if funded.is_closing() && funded.commitments.is_clean() => ChannelState::NegotiatingClose,
            Phase::Open if funded.is_closing() => ChannelState::ShuttingDown,
            Phase::Open if funded.is_ready() => ChannelState::Open,
            Phase::Open => ChannelState::AwaitingConfirmation,
        }
    }

    fn info_of(&self, entry: &ChannelEntry) -> Option<ChannelInfo> {
        let channel = &entry.channel;
        let funded = channel.funded()?;
        let commitments = &funded.commitments;
        let tally = commitments.tally(View::LocalCurrent);
        let height = self.state.height().height();
        let confirmations = funded.short_channel_id.map_or(0, |at| (height + 1).saturating_sub(at.block()));
        let is_anchors = commitments.parameters.format == CommitmentFormat::Anchors;
        Some(ChannelInfo {
            index: entry.index,
            channel_id: channel.id,
            peer: entry.peer,
            state: self.channel_state(entry),
            usable: channel.is_usable(),
            opener: channel.opener == Side::Local,
            announced: channel.announce,
            channel_type: if is_anchors { "anchors" } else { "static_remotekey" }.to_owned(),
            capacity: commitments.main().funding().amount(),
            funding: Some(commitments.main().funding().outpoint()),
            short_channel_id: funded.short_channel_id,
            confirmations,
            confirmations_required: funded.minimum_depth,
            local: tally.local,
            remote: tally.remote,
            sendable: channel.available_for_htlc().max(channel.available_for_transfer()),
            receivable: receivable(commitments),
            local_reserve: commitments.parameters.remote.channel_reserve,
            remote_reserve: commitments.parameters.local.channel_reserve,
            htlcs: htlcs(commitments),
            feerate: tally.feerate,
            local_commitment: commitments.local_number,
            remote_commitment: commitments.remote_number,
            to_self_delay: commitments.parameters.remote.to_self_delay.blocks(),
            closing_txid: closing_txid(&funded.phase).or_else(|| self.enforced_txid(entry)),
            transfers: channel.link.is_some_and(|link| link.features.transfers),
            total_sent: entry.sent,
            total_received: entry.received,
            policy: entry.policy,
        })
    }

    /// The commitment that is to close a channel which failed.
    fn enforced_txid(&self, entry: &ChannelEntry) -> Option<bitcoin::Txid> {
        let has_failed = matches!(entry.channel.funded()?.phase, Phase::Failed { .. });
        let commitment = has_failed.then(|| entry.channel.signed_local_commitment(&self.context()))??;
        Some(commitment.compute_txid())
    }
}

fn closing_txid(phase: &Phase) -> Option<bitcoin::Txid> {
    match phase {
        Phase::MutuallyClosed { transaction, .. } => Some(transaction.compute_txid()),
        Phase::Spent { txid, .. } => Some(*txid),
        _ => None,
    }
}

/// What the peer could send us: its balance above what it must keep.
pub(in crate::node) fn receivable(commitments: &Commitments) -> Msat {
    let tally = commitments.tally(View::LocalCurrent);
    let reserve = commitments.parameters.reserve_of(Side::Remote);
    let cost = match commitments.parameters.opener {
        Side::Remote => commitments.parameters.opener_cost(tally.feerate, tally.untrimmed),
        Side::Local => Msat::ZERO,
    };
    tally.remote.saturating_sub(reserve).saturating_sub(cost)
}

fn htlcs(commitments: &Commitments) -> Vec<HtlcInfo> {
    let info = |incoming: bool, offer: &crate::commitment::HtlcOffer| HtlcInfo {
        incoming,
        id: offer.id.id(),
        amount: offer.amount,
        payment_hash: offer.payment_hash,
        cltv_expiry: offer.cltv_expiry.height(),
    };
    let outgoing = commitments.outgoing.values().map(|htlc| info(false, &htlc.offer));
    outgoing.chain(commitments.incoming.values().map(|htlc| info(true, &htlc.offer))).collect()
}

/// The part of a list, in rising order of index, that a page asks for.
pub(super) fn paged<T>(items: Vec<(u64, T)>, page: Page) -> Paged<T> {
    let size = page.size as usize;
    let after = page.after;
    let mut chosen: Vec<(u64, T)> = if page.newest_first {
        items
            .into_iter()
            .rev()
            .filter(|(index, _)| after.is_none_or(|after| *index < after))
            .take(size.saturating_add(1))
            .collect()
    } else {
        items
            .into_iter()
            .filter(|(index, _)| after.is_none_or(|after| *index > after))
            .take(size.saturating_add(1))
            .collect()
    };
    let more = chosen.len() > size;
    chosen.truncate(size);
    let next = chosen.last().filter(|_| more).map(|(index, _)| *index);
    Paged { items: chosen.into_iter().map(|(_, item)| item).collect(), next }
}

fn plus(one: Msat, other: Msat) -> Msat {
    Msat::new(one.msat().saturating_add(other.msat()))
}
