//! Blocks, reorganisations and time: what they mean for channels, the wallet and whoever waits.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, Transaction, TxOut};

use super::Node;
use super::api::event::EventKind;
use super::input::{ChainState, Effect};
use super::state::change::Change;
use crate::channel;
use crate::commitment::Side;
use crate::units::{BlockHeight, ChannelId, FeeratePerKw, NodeId, ShortChannelId, UnixTime};
use crate::wallet::Confirmed;

/// Answers to mutating calls are kept this long, in seconds.
const KEEP_ANSWERS_SECONDS: u64 = 24 * 3_600;
/// How often old answers and invoices are looked for, in microseconds.
const CLEANING_MICROS: u64 = 30_000_000;
/// A funding transaction so deep is not told of any more: channels and announcements are long done.
const DEEP: u32 = 144;

impl Node {
    /// After a start: no session survived, and what was under way is taken up again.
    pub(super) fn start(&mut self) {
        if self.state.tip().is_none() {
            let hash = BlockHash::from_byte_array(self.settings.chain_hash.to_bytes());
            self.change(Change::BlockConnected { height: BlockHeight::new(0), hash });
        }
        self.start_buckets();
        let peers = self.state.peers.iter().filter(|(_, record)| record.persistent);
        let calls: Vec<_> = peers.map(|(peer, record)| (*peer, record.address.clone())).collect();
        calls.into_iter().for_each(|(peer, address)| self.turns.push(Effect::Connect { peer, address }));
        let ids: Vec<(ChannelId, NodeId)> = self.state.channels.iter().map(|(id, entry)| (*id, entry.peer)).collect();
        for (id, peer) in ids {
            self.turns.push(Effect::Protect { peer });
            self.drive_quietly(id, channel::Input::Disconnected);
            self.judge_again(id);
        }
        self.resume_payments();
        self.rebroadcast();
        self.start_gossip();
    }

    /// What the backend says now; where its estimates moved far, commitments that we pay for follow.
    pub(super) fn chain_state(&mut self, state: ChainState) {
        let moved = self.live.chain.as_ref().is_none_or(|before| before.feerates != state.feerates);
        self.live.chain = Some(state);
        if moved {
            self.follow_feerates();
        }
    }

    fn follow_feerates(&mut self) {
        let ours = self.state.channels.iter().filter(|(_, entry)| entry.channel.opener == Side::Local);
        let usable = ours.filter(|(_, entry)| entry.channel.is_usable());
        let far: Vec<(ChannelId, FeeratePerKw)> = usable
            .filter_map(|(id, entry)| {
                let now = entry.channel.feerate()?.sat_per_kw();
                let format = entry.channel.commitments()?.parameters.format;
                let proposed = &self.settings.policy.proposed_feerates;
                let wanted = self.commitment_feerate(format).clamp(*proposed.start(), *proposed.end());
                let is_far = wanted.sat_per_kw() > now.saturating_mul(2) || wanted.sat_per_kw() < now / 2;
                is_far.then_some((*id, wanted))
            })
            .collect();
        for (id, feerate) in far {
            self.drive_quietly(id, channel::Input::Command(channel::Command::UpdateFee { feerate }));
        }
    }

    /// What must be on the chain, or on its way there, is handed to the backend again: there is no outbox.
    pub(super) fn rebroadcast(&mut self) {
        let fundings = self.state.channels.values().filter(|entry| {
            entry.channel.funded().is_some_and(|funded| {
                funded.short_channel_id.is_none() && !matches!(funded.phase, channel::Phase::AwaitingFundingSigned)
            })
        });
        let mut packages: Vec<Vec<Transaction>> =
            fundings.filter_map(|entry| entry.funding.clone()).map(|funding| vec![funding]).collect();
        packages.extend(self.state.channels.values().filter_map(|entry| match &entry.channel.funded()?.phase {
            channel::Phase::MutuallyClosed { transaction, .. } => Some(vec![transaction.clone()]),
            _ => None,
        }));
        let own = self.wallet.unconfirmed().into_iter();
        let own = own.filter(|(_, transaction)| self.wallet.sent_by(transaction) > bitcoin::Amount::ZERO);
        packages.extend(own.map(|(_, transaction)| vec![transaction.as_ref().clone()]));
        packages.into_iter().for_each(|package| self.turns.push(Effect::Broadcast(package)));
    }

    pub(super) fn block_connected(&mut self, height: BlockHeight, block: &Block) {
        if !self.follows(height, block) {
            tracing::warn!(%height, "a block that does not follow the last one was dropped");
            return;
        }
        if let Err(error) = self.wallet.apply_block(block, height) {
            tracing::error!(%error, "the wallet refused a block");
            return;
        }
        self.change(Change::BlockConnected { height, hash: block.block_hash() });
        self.wallet_events(height, block);
        self.find_fundings(height, block);
        self.find_spends(height, block);
        self.resolvers_block(height, block);
        let ids: Vec<ChannelId> = self.state.channels.keys().copied().collect();
        for id in ids {
            self.tell_depth(id, height);
            self.drive_quietly(id, channel::Input::Block);
            self.enforce_late(id);
            self.gossip_block(id);
        }
        self.forward_deadlines();
        self.part_deadlines();
        self.rebroadcast();
    }

    fn follows(&self, height: BlockHeight, block: &Block) -> bool {
        self.state.tip().is_none_or(|(tip, hash)| tip.plus(1) == height && hash == block.header.prev_blockhash)
    }

    fn wallet_events(&mut self, height: BlockHeight, block: &Block) {
        for Confirmed { txid, sent, received } in self.wallet.confirmed_in(block) {
            self.event(EventKind::TransactionConfirmed { txid, height, received, sent });
        }
    }

    /// Tells channels whose funding transaction is in this block where it is.
    fn find_fundings(&mut self, height: BlockHeight, block: &Block) {
        let is_waiting = |funded: &&channel::Funded| funded.short_channel_id.is_none();
        let waiting: BTreeMap<OutPoint, (ChannelId, TxOut)> = self
            .state
            .channels
            .iter()
            .filter_map(|(id, entry)| Some((*id, entry.channel.funded().filter(is_waiting)?)))
            .map(|(id, funded)| (id, funded.commitments.main().funding()))
            .map(|(id, funding)| (funding.outpoint(), (id, funding.output())))
            .collect();
        if waiting.is_empty() {
            return;
        }
        for (place, transaction) in (0u32..).zip(&block.txdata) {
            let txid = transaction.compute_txid();
            // One transaction may fund several channels.
            let fundings = waiting.range(OutPoint::new(txid, 0)..=OutPoint::new(txid, u32::MAX));
            for (outpoint, (id, agreed)) in fundings {
                let output = usize::try_from(outpoint.vout).ok().and_then(|vout| transaction.output.get(vout));
                let vout = u16::try_from(outpoint.vout).ok();
                let place = vout.and_then(|vout| ShortChannelId::new(height.height(), place, vout));
                match place.filter(|_| output == Some(agreed)) {
                    Some(short_channel_id) => {
                        self.drive_quietly(*id, channel::Input::FundingDepth { depth: 1, short_channel_id });
                    }
                    None => self.drive_quietly(*id, channel::Input::FundingInvalid),
                }
            }
        }
    }

    fn tell_depth(&mut self, id: ChannelId, height: BlockHeight) {
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        let Some(short_channel_id) = funded.and_then(|funded| funded.short_channel_id) else { return };
        let depth = height.plus(1).height().saturating_sub(short_channel_id.block());
        if (2..=DEEP).contains(&depth) {
            self.drive_quietly(id, channel::Input::FundingDepth { depth, short_channel_id });
        }
        let is_kept = self.state.channels.get(&id).is_some_and(|entry| entry.funding.is_some());
        if depth >= DEEP && is_kept {
            self.change(Change::FundingKept { channel: id, transaction: None });
        }
    }

    /// Tells channels whose funding output is spent in this block.
    fn find_spends(&mut self, height: BlockHeight, block: &Block) {
        let watched: BTreeMap<OutPoint, ChannelId> = self.funding_outpoints().map(|(id, at)| (at, id)).collect();
        if watched.is_empty() {
            return;
        }
        for transaction in &block.txdata {
            for input in &transaction.input {
                if let Some(id) = watched.get(&input.previous_output) {
                    self.funding_spent(*id, height, transaction);
                }
            }
        }
    }

    pub(super) fn funding_outpoints(&self) -> impl Iterator<Item = (ChannelId, OutPoint)> + '_ {
        self.state.channels.iter().filter_map(|(id, entry)| {
            entry.channel.commitments().map(|commitments| (*id, commitments.main().funding().outpoint()))
        })
    }

    pub(super) fn block_disconnected(&mut self, height: BlockHeight, hash: BlockHash) {
        if self.state.tip() != Some((height, hash)) {
            tracing::warn!(%height, "a block that is not the last one was to be disconnected");
            return;
        }
        self.change(Change::BlockDisconnected);
        self.resolvers_unwind(height);
        let ids: Vec<ChannelId> = self.state.channels.keys().copied().collect();
        for id in ids {
            let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
            let at = funded.and_then(|funded| funded.short_channel_id);
            if at.is_some_and(|at| at.block() == height.height()) {
                self.drive_quietly(id, channel::Input::FundingReorged);
            }
        }
    }

    /// Whether our view of the chain is the backend's.
    pub(super) fn is_synced(&self) -> bool {
        self.live.chain.as_ref().is_some_and(|chain| {
            chain.problem.is_none() && self.state.tip().is_some() && self.state.height() >= chain.target
        })
    }

    pub(super) fn tick(&mut self) {
        self.fail_late_parts();
        self.advance_waiting();
        self.end_silence();
        self.close_settled_streams();
        self.begin_due_batches();
        self.wake_batches();
        if self.moment.now.micros_since(self.live.last_cleaning) > CLEANING_MICROS {
            self.live.last_cleaning = self.moment.now;
            self.clean();
        }
    }

    /// A batch that was collected long enough goes with the next signature.
    fn begin_due_batches(&mut self) {
        let now = self.moment.now;
        for (session, client) in &mut self.live.stream_clients {
            if client.batch_due.take_if(|due| *due <= now).is_some()
                && let Some(stream) = self.state.streams.get(session)
            {
                self.live.to_seal.insert(stream.channel);
            }
        }
    }

    fn clean(&mut self) {
        let now = self.moment.now;
        let before = UnixTime::from_seconds(now.seconds().saturating_sub(KEEP_ANSWERS_SECONDS));
        if self.state.has_requests_before(before) {
            self.change(Change::RequestsForgotten { before });
        }
        self.expire_invoices();
        self.forget_incoming_streams();
        self.gossip_tick();
    }
}
