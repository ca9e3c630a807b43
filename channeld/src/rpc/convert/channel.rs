//! Channels and peers.

use proto::v1::{Channel, ChannelState, ChannelType, Htlc, Peer};

use crate::node::reply::{self, ChannelInfo, HtlcInfo, PeerInfo};
use crate::payment::forward::ForwardingPolicy;
use crate::rpc::convert::outpoint;

/// A channel.
pub fn channel(info: ChannelInfo) -> Channel {
    Channel {
        index: info.index,
        channel_id: info.channel_id.to_string(),
        peer_node_id: info.peer.to_string(),
        state: state(info.state).into(),
        usable: info.usable,
        is_opener: info.opener,
        announced: info.announced,
        channel_type: channel_type(&info.channel_type).into(),
        capacity_sat: info.capacity.to_sat(),
        funding_outpoint: info.funding.map(outpoint),
        short_channel_id: info.short_channel_id.map(|id| id.to_string()).unwrap_or_default(),
        confirmations: info.confirmations,
        required_confirmations: info.confirmations_required,
        local_msat: info.local.msat(),
        remote_msat: info.remote.msat(),
        sendable_msat: info.sendable.msat(),
        receivable_msat: info.receivable.msat(),
        local_reserve_sat: info.local_reserve.to_sat(),
        remote_reserve_sat: info.remote_reserve.to_sat(),
        htlcs: info.htlcs.into_iter().map(htlc).collect(),
        feerate_per_kw: info.feerate.sat_per_kw(),
        local_commitment_number: info.local_commitment.number(),
        remote_commitment_number: info.remote_commitment.number(),
        to_self_delay: info.to_self_delay.into(),
        closing_txid: info.closing_txid.map(|txid| txid.to_string()).unwrap_or_default(),
        transfers: info.transfers,
        total_sent_msat: info.total_sent.msat(),
        total_received_msat: info.total_received.msat(),
        forwarding_policy: Some(policy(&info.policy)),
    }
}

/// What a channel asks for forwarding.
pub fn policy(policy: &ForwardingPolicy) -> proto::v1::ForwardingPolicy {
    proto::v1::ForwardingPolicy {
        fee_base_msat: policy.fee_base_msat.into(),
        fee_proportional_millionths: policy.fee_proportional_millionths,
        cltv_expiry_delta: policy.cltv_expiry_delta.blocks().into(),
        htlc_minimum_msat: policy.htlc_minimum.msat(),
        htlc_maximum_msat: policy.htlc_maximum.msat(),
    }
}

fn htlc(info: HtlcInfo) -> Htlc {
    Htlc {
        incoming: info.incoming,
        htlc_id: info.id,
        amount_msat: info.amount.msat(),
        payment_hash: info.payment_hash.to_string(),
        cltv_expiry: info.cltv_expiry,
    }
}

fn channel_type(name: &str) -> ChannelType {
    match name {
        "static_remotekey" => ChannelType::StaticRemotekey,
        "anchors" => ChannelType::Anchors,
        _ => ChannelType::Unspecified,
    }
}

fn state(state: reply::ChannelState) -> ChannelState {
    match state {
        reply::ChannelState::Opening => ChannelState::Opening,
        reply::ChannelState::AwaitingConfirmation => ChannelState::AwaitingConfirmation,
        reply::ChannelState::Open => ChannelState::Open,
        reply::ChannelState::ShuttingDown => ChannelState::ShuttingDown,
        reply::ChannelState::NegotiatingClose => ChannelState::NegotiatingClose,
        reply::ChannelState::Closing => ChannelState::Closing,
        reply::ChannelState::Resolving => ChannelState::Resolving,
        reply::ChannelState::Closed => ChannelState::Closed,
        reply::ChannelState::AwaitingPeerClose => ChannelState::AwaitingPeerClose,
    }
}

/// A peer.
pub fn peer(info: PeerInfo) -> Peer {
    Peer {
        node_id: info.node_id.to_string(),
        address: info.address.unwrap_or_default(),
        connected: info.connected,
        features: hex::encode(info.features),
        channel_count: info.channels,
        inbound: info.inbound,
        persistent: info.persistent,
    }
}
