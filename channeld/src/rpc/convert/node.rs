//! The node as a whole, and its coins.

use proto::v1::{
    ClaimableOutput, GetBalancesResponse, GetNodeResponse, GraphSync, Network, SyncState, UnspentOutput,
    WalletTransaction,
};

use crate::gossip::GossipStatus;
use crate::node::reply::{self, Balances, Claimable, NodeInfo};
use crate::rpc::convert::outpoint;

/// The node.
pub fn node(info: NodeInfo, graph: GossipStatus) -> GetNodeResponse {
    let (sync_state, sync_reason, backend_height) = match info.sync {
        reply::SyncState::Synced => (SyncState::Synced, String::new(), None),
        reply::SyncState::Syncing { target } => {
            let reason = format!("{} of {target} blocks", info.block_height);
            (SyncState::Syncing, reason, Some(target.height()))
        }
        reply::SyncState::BackendUnavailable { description } => (SyncState::BackendUnavailable, description, None),
    };
    GetNodeResponse {
        node_id: info.node_id.to_string(),
        alias: info.alias,
        version: env!("CARGO_PKG_VERSION").to_string(),
        network: network(&info.network).into(),
        sync_state: sync_state.into(),
        sync_reason,
        block_height: info.block_height.height(),
        block_hash: info.block_hash.to_string(),
        backend_height,
        listen_addresses: info.listen_addresses.iter().map(|address| format!("{}@{address}", info.node_id)).collect(),
        connected_peer_count: info.connected_peers,
        usable_channel_count: info.usable_channels,
        pending_channel_count: info.pending_channels,
        closing_channel_count: info.closing_channels,
        last_event_index: info.newest_event,
        development: info.development,
        graph: Some(graph_sync(graph)),
    }
}

fn graph_sync(status: GossipStatus) -> GraphSync {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    GraphSync {
        synced: status.is_synced && status.left == 0,
        reason: status.reason(),
        channel_count: count(status.channels),
        node_count: count(status.nodes),
        channels_left: count(status.left),
    }
}

fn network(name: &str) -> Network {
    match name {
        "regtest" => Network::Regtest,
        "devnet" => Network::Devnet,
        "signet" => Network::Signet,
        _ => Network::Unspecified,
    }
}

/// What the node owns.
pub fn balances(balances: Balances) -> GetBalancesResponse {
    GetBalancesResponse {
        confirmed_sat: balances.confirmed.to_sat(),
        unconfirmed_sat: balances.unconfirmed.to_sat(),
        immature_sat: balances.immature.to_sat(),
        reserved_sat: balances.reserved.to_sat(),
        spendable_sat: balances.spendable.to_sat(),
        local_msat: balances.local.msat(),
        sendable_msat: balances.sendable.msat(),
        receivable_msat: balances.receivable.msat(),
        outgoing_in_flight_msat: balances.outgoing_in_flight.msat(),
        incoming_in_flight_msat: balances.incoming_in_flight.msat(),
        forwarded_count: balances.forwarded,
        forwarding_fees_msat: balances.forwarding_fees.msat(),
        claimable_outputs: balances.claimable.into_iter().map(claimable).collect(),
    }
}

fn claimable(claimable: Claimable) -> ClaimableOutput {
    ClaimableOutput {
        channel_id: claimable.channel.to_string(),
        outpoint: Some(outpoint(claimable.outpoint)),
        amount_sat: claimable.amount.to_sat(),
        claimable_height: claimable.height.map(|height| height.height()),
    }
}

/// A coin.
pub fn unspent_output(output: reply::UnspentOutput) -> UnspentOutput {
    UnspentOutput {
        outpoint: Some(outpoint(output.outpoint)),
        amount_sat: output.amount.to_sat(),
        address: output.address,
        block_height: output.height.map(|height| height.height()),
        locked: output.locked,
    }
}

/// A transaction of the wallet.
pub fn wallet_transaction(transaction: reply::WalletTransaction) -> WalletTransaction {
    WalletTransaction {
        txid: transaction.txid.to_string(),
        received_sat: transaction.received.to_sat(),
        sent_sat: transaction.sent.to_sat(),
        fee_sat: transaction.fee.map(|fee| fee.to_sat()),
        block_height: transaction.height.map(|height| height.height()),
    }
}
