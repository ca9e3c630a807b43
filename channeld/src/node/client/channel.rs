//! Opening and closing channels.

use bitcoin::{Amount, ScriptBuf};

use super::Outcome;
use crate::channel::{self, Channel, OpenRequest};
use crate::keys::ChannelKeyId;
use crate::node::Node;
use crate::node::api::command::{AmountOrAll, CloseChannel, OpenChannel, UpdateChannelPolicy};
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::Reply;
use crate::node::input::RequestNumber;
use crate::node::live::Opening;
use crate::node::state::change::Change;
use crate::transactions::CommitmentFormat;
use crate::units::{ChannelId, FeeratePerKw};

/// A P2WSH output's script is as long as any funding output's: 34 bytes.
const FUNDING_SCRIPT: usize = 34;

impl Node {
    pub(super) fn open_channel(&mut self, request: RequestNumber, open: OpenChannel) {
        match self.begin_opening(&open) {
            Err(refusal) => self.answer(request, Err(refusal)),
            Ok(None) => self.answer(request, Ok(Reply::Done)),
            Ok(Some((channel, effects))) => {
                let key = (open.peer, channel.id);
                let since = self.moment.now;
                let opening = Opening { channel, funding: None, since, request: Some((request, open)) };
                self.live.openings.insert(key, opening);
                self.carry_out_opening(key, effects);
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "a channel and its first effects, or nothing where it was only a check")]
    fn begin_opening(&mut self, open: &OpenChannel) -> Result<Option<(Channel, Vec<channel::Effect>)>, Refusal> {
        if !self.is_synced() {
            let target = self.live.chain.as_ref().map_or(0, |chain| chain.target.height());
            return Err(Refusal::ChainNotSynced { height: self.state.height().height(), target });
        }
        if open.peer.0 == self.signer.node_id() {
            return Err(Refusal::SelfPayment);
        }
        let session = self.live.sessions.get(&open.peer).ok_or(Refusal::PeerOffline(open.peer))?;
        let features = session.negotiated(&self.settings.features);
        self.checked_feerate(open.funding_feerate)?;
        let funding = self.checked_capacity(open)?;
        let format = if open.without_anchors || !features.anchors {
            CommitmentFormat::StaticRemotekey
        } else {
            CommitmentFormat::Anchors
        };
        let request = OpenRequest {
            peer: open.peer,
            keys_id: ChannelKeyId(self.draw("channel/keys")),
            temporary_channel_id: ChannelId(self.draw("channel/temporary_id")),
            alias: self.draw_alias(),
            funding,
            push: open.push,
            announce: open.announce,
            format,
            feerate: self.commitment_feerate(format),
            close_script: self.wallet.next_change_script(),
            upfront_shutdown_script: false,
            features,
        };
        let opened = Channel::open(request, &self.context()).map_err(|error| match error {
            channel::Error::Refused(refusal) => channel_refusal(refusal),
            channel::Error::Violated(violation) => Refusal::PeerRefused { message: violation.to_string() },
        })?;
        Ok(if open.validate_only { None } else { Some(opened) })
    }

    /// With anchors the commitment needs only to enter mempools: the rest is paid by its child.
    pub(in crate::node) fn commitment_feerate(&self, format: CommitmentFormat) -> FeeratePerKw {
        match format {
            CommitmentFormat::Anchors => self.feerate(144),
            CommitmentFormat::StaticRemotekey => self.feerate(6),
        }
    }

    fn checked_capacity(&mut self, open: &OpenChannel) -> Result<Amount, Refusal> {
        // The reserve for this channel's own anchor is kept, too.
        let reserve = self.reserve() + self.settings.anchor_reserve;
        let feerate = open.funding_feerate.unwrap_or_else(|| self.feerate(6));
        let script = ScriptBuf::from_bytes([&[0, 32], [0u8; FUNDING_SCRIPT - 2].as_slice()].concat());
        let available = self.wallet.spendable_to(&script, feerate, reserve);
        let wanted = match open.capacity {
            AmountOrAll::Sat(sat) => Amount::from_sat(sat),
            AmountOrAll::All => available.min(*self.settings.policy.funding.end()),
        };
        if wanted > available && self.settings.policy.funding.contains(&wanted) {
            return Err(Refusal::InsufficientFunds { needed_sat: wanted.to_sat(), available_sat: available.to_sat() });
        }
        Ok(wanted)
    }

    pub(super) fn close_channel(&mut self, close: &CloseChannel) -> Outcome {
        let id = close.channel;
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let command = if close.force {
            channel::Command::ForceClose
        } else {
            if !entry.channel.is_live() {
                return Err(Refusal::PeerOffline(entry.peer));
            }
            let feerate = close.feerate.map(|feerate| self.checked_feerate(Some(feerate))).transpose()?;
            let address = close.address.as_deref();
            let script = address.map(|address| self.script_of("address", address)).transpose()?;
            channel::Command::Shutdown { script, feerate }
        };
        if close.validate_only {
            let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
            let decided = entry.channel.decide(channel::Input::Command(command), &self.context());
            if let Err(channel::Error::Refused(refusal)) = decided {
                return Err(channel_refusal(refusal));
            }
        } else {
            self.drive(id, channel::Input::Command(command)).map_err(channel_refusal)?;
        }
        self.channel_info(id).map(|info| Reply::Channel(Box::new(info)))
    }

    pub(super) fn update_policy(&mut self, request: &UpdateChannelPolicy) -> Outcome {
        let id = request.channel;
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let commitments = entry.channel.commitments().ok_or(Refusal::ChannelNotFound(id))?;
        let policy = request.update.over(entry.policy);
        let invalid = |field, description: String| Err(Refusal::InvalidArgument { field, description });
        if !CLTV_DELTAS.contains(&policy.cltv_expiry_delta.blocks()) {
            return invalid("cltv_expiry_delta", "34 to 2016 blocks".to_owned());
        }
        let possible = policy.within(&commitments.parameters, commitments.main().capacity());
        if policy.htlc_minimum != possible.htlc_minimum {
            return invalid("htlc_minimum_msat", format!("this channel carries at least {}", possible.htlc_minimum));
        }
        if policy.htlc_maximum != possible.htlc_maximum {
            return invalid("htlc_maximum_msat", format!("this channel carries at most {}", possible.htlc_maximum));
        }
        if !request.validate_only && policy != entry.policy {
            self.change(Change::ForwardingPolicySet { channel: id, policy, at: self.moment.now });
            self.refresh_update(id);
        }
        self.channel_info(id).map(|info| Reply::Channel(Box::new(info)))
    }
}

/// The least and the most of `cltv_expiry_delta`: BOLT 2 reckons 34 blocks; more than two weeks nobody takes.
const CLTV_DELTAS: std::ops::RangeInclusive<u16> = 34..=2_016;

/// A channel's no, in the API's words.
pub(in crate::node) fn channel_refusal(refusal: channel::Refusal) -> Refusal {
    use crate::commitment::LimitRefusal as Limit;
    use channel::Refusal as R;
    match refusal {
        R::Limit(Limit::InsufficientBalance { needed, available }) => {
            Refusal::InsufficientBalance { needed, available }
        }
        R::Limit(Limit::BelowHtlcMinimum { amount, minimum }) => Refusal::BelowMinimum { amount, minimum },
        R::Limit(Limit::TooManyHtlcs { .. }) => Refusal::SlotsExhausted,
        R::Limit(Limit::TooMuchInFlight { .. }) => Refusal::InFlightLimitReached,
        R::Limit(Limit::DustExposure { .. }) => Refusal::DustExposureReached,
        R::Limit(Limit::TooManySessions { .. }) => Refusal::TooManyStreams,
        R::TransfersUnsupported => Refusal::TransfersNotNegotiated,
        R::FundingOutOfRange { .. } => {
            Refusal::InvalidArgument { field: "capacity_sat", description: refusal.to_string() }
        }
        R::PushTooLarge { .. } => Refusal::InvalidArgument { field: "push_msat", description: refusal.to_string() },
        R::ShutdownScript | R::UpfrontShutdownScript => {
            Refusal::InvalidArgument { field: "address", description: refusal.to_string() }
        }
        R::Limit(Limit::AmountZero) => {
            Refusal::InvalidArgument { field: "amount_msat", description: refusal.to_string() }
        }
        other => Refusal::ChannelNotUsable { description: other.to_string() },
    }
}
