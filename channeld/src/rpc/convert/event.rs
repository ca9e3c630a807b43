//! Events.

use proto::v1::event::Detail;
use proto::v1::{
    ChannelEvent, ClaimEvent, CloseKind, CustomRecord, Event, EventKind, ForwardEvent, InvoiceEvent, PaymentEvent,
    PaymentTag, PeerEvent, StreamEvent, TransactionEvent, WarningEvent,
};

use crate::node::event::{self, EventKind as Happened};
use crate::rpc::convert::{failure_reason, outpoint, timestamp};
use crate::units::ChannelId;

/// An event.
pub fn event(event: event::Event) -> Event {
    let (kind, detail) = detail(event.kind);
    Event { index: event.index, created_at: Some(timestamp(event.at)), kind: kind.into(), detail: Some(detail) }
}

fn detail(kind: Happened) -> (EventKind, Detail) {
    match kind {
        Happened::PeerConnected { .. } | Happened::PeerDisconnected { .. } | Happened::InboundOpenRefused { .. } => {
            peer(kind)
        }
        Happened::ChannelPending { .. }
        | Happened::ChannelReady { .. }
        | Happened::ChannelShuttingDown { .. }
        | Happened::ChannelClosing { .. }
        | Happened::ChannelClosed { .. }
        | Happened::ChannelFailed { .. } => channel(kind),
        Happened::ClaimBroadcast { .. } | Happened::ClaimConfirmed { .. } => claim(kind),
        Happened::InvoiceSettled { .. }
        | Happened::InvoiceAccepted { .. }
        | Happened::InvoiceCancelled { .. }
        | Happened::InvoiceExpired { .. }
        | Happened::KeysendReceived { .. } => invoice(kind),
        Happened::StreamInFlight { .. }
        | Happened::StreamPaid { .. }
        | Happened::StreamUnsolicited { .. }
        | Happened::StreamClosed { .. } => stream(kind),
        Happened::PaymentSucceeded { .. }
        | Happened::PaymentFailed { .. }
        | Happened::TransactionConfirmed { .. }
        | Happened::Warning { .. } => payment(kind),
        Happened::Forwarded { .. } | Happened::ForwardFailed { .. } => forward(kind),
    }
}

/// For what the functions below cannot meet: `detail` has sorted the kinds.
fn unsorted() -> (EventKind, Detail) {
    (EventKind::Unspecified, Detail::Warning(WarningEvent::default()))
}

fn peer(kind: Happened) -> (EventKind, Detail) {
    let detail = |peer: crate::units::NodeId, reason| Detail::Peer(PeerEvent { node_id: peer.to_string(), reason });
    match kind {
        Happened::PeerConnected { peer } => (EventKind::PeerConnected, detail(peer, String::new())),
        Happened::PeerDisconnected { peer } => (EventKind::PeerDisconnected, detail(peer, String::new())),
        Happened::InboundOpenRefused { peer, reason } => (EventKind::InboundOpenRefused, detail(peer, reason)),
        _ => unsorted(),
    }
}

fn channel(kind: Happened) -> (EventKind, Detail) {
    let of = |channel: ChannelId| ChannelEvent { channel_id: channel.to_string(), ..ChannelEvent::default() };
    let (kind, detail) = match kind {
        Happened::ChannelPending { channel, peer, funding, capacity } => {
            let mut detail = ChannelEvent { peer_node_id: peer.to_string(), ..of(channel) };
            detail.funding_outpoint = Some(outpoint(funding));
            detail.capacity_sat = capacity.to_sat();
            (EventKind::ChannelPending, detail)
        }
        Happened::ChannelReady { channel, peer } => {
            (EventKind::ChannelReady, ChannelEvent { peer_node_id: peer.to_string(), ..of(channel) })
        }
        Happened::ChannelShuttingDown { channel } => (EventKind::ChannelShuttingDown, of(channel)),
        Happened::ChannelClosing { channel, how, txid } => {
            let detail = ChannelEvent { close_kind: close_kind(how), closing_txid: txid.to_string(), ..of(channel) };
            (EventKind::ChannelClosing, detail)
        }
        Happened::ChannelClosed { channel, how } => {
            (EventKind::ChannelClosed, ChannelEvent { close_kind: close_kind(how), ..of(channel) })
        }
        Happened::ChannelFailed { channel, reason, by_peer } => {
            (EventKind::ChannelFailed, ChannelEvent { reason, by_peer, ..of(channel) })
        }
        _ => return unsorted(),
    };
    (kind, Detail::Channel(detail))
}

fn close_kind(kind: event::CloseKind) -> i32 {
    match kind {
        event::CloseKind::Mutual => CloseKind::Mutual,
        event::CloseKind::LocalForced => CloseKind::LocalForced,
        event::CloseKind::RemoteForced => CloseKind::RemoteForced,
        event::CloseKind::Revoked => CloseKind::Revoked,
        event::CloseKind::Abandoned => CloseKind::Abandoned,
    }
    .into()
}

fn claim(kind: Happened) -> (EventKind, Detail) {
    let detail = |channel: ChannelId, txid: bitcoin::Txid, penalty, amount: bitcoin::Amount, block_height| {
        let (channel_id, txid) = (channel.to_string(), txid.to_string());
        Detail::Claim(ClaimEvent { channel_id, txid, penalty, amount_sat: amount.to_sat(), block_height })
    };
    match kind {
        Happened::ClaimBroadcast { channel, txid, penalty, amount } => {
            (EventKind::ClaimBroadcast, detail(channel, txid, penalty, amount, None))
        }
        Happened::ClaimConfirmed { channel, txid, penalty, amount, height } => {
            (EventKind::ClaimConfirmed, detail(channel, txid, penalty, amount, Some(height.height())))
        }
        _ => unsorted(),
    }
}

fn invoice(kind: Happened) -> (EventKind, Detail) {
    let (mut deadline_height, mut records) = (None, Vec::new());
    let (kind, payment_hash, received_msat, channel_id) = match kind {
        Happened::InvoiceSettled { payment_hash, amount, channel } => {
            (EventKind::InvoiceSettled, payment_hash, amount.msat(), channel.to_string())
        }
        Happened::InvoiceAccepted { payment_hash, amount, channel, deadline_height: height } => {
            deadline_height = Some(height.height());
            (EventKind::InvoiceAccepted, payment_hash, amount.msat(), channel.to_string())
        }
        Happened::KeysendReceived { payment_hash, amount, channel, custom_records } => {
            records = custom_records;
            (EventKind::KeysendReceived, payment_hash, amount.msat(), channel.to_string())
        }
        Happened::InvoiceCancelled { payment_hash } => (EventKind::InvoiceCancelled, payment_hash, 0, String::new()),
        Happened::InvoiceExpired { payment_hash } => (EventKind::InvoiceExpired, payment_hash, 0, String::new()),
        _ => return unsorted(),
    };
    let payment_hash = payment_hash.to_string();
    let record = |(r#type, value)| CustomRecord { r#type, value };
    let custom_records = records.into_iter().map(record).collect();
    (kind, Detail::Invoice(InvoiceEvent { payment_hash, received_msat, channel_id, deadline_height, custom_records }))
}

fn forward(kind: Happened) -> (EventKind, Detail) {
    match kind {
        Happened::Forwarded { payment_hash, incoming, outgoing, incoming_amount, outgoing_amount } => {
            let detail = ForwardEvent {
                payment_hash: payment_hash.to_string(),
                incoming_channel_id: incoming.to_string(),
                outgoing_channel_id: outgoing.to_string(),
                incoming_msat: incoming_amount.msat(),
                outgoing_msat: outgoing_amount.msat(),
                fee_msat: incoming_amount.saturating_sub(outgoing_amount).msat(),
                failure_code: None,
            };
            (EventKind::Forwarded, Detail::Forward(detail))
        }
        Happened::ForwardFailed { payment_hash, incoming, outgoing, incoming_amount, code } => {
            let detail = ForwardEvent {
                payment_hash: payment_hash.to_string(),
                incoming_channel_id: incoming.to_string(),
                outgoing_channel_id: outgoing.map(|channel| channel.to_string()).unwrap_or_default(),
                incoming_msat: incoming_amount.msat(),
                failure_code: code.map(u32::from),
                ..Default::default()
            };
            (EventKind::ForwardFailed, Detail::Forward(detail))
        }
        _ => unsorted(),
    }
}

fn stream(kind: Happened) -> (EventKind, Detail) {
    let of = |channel: ChannelId| StreamEvent { channel_id: channel.to_string(), incoming: true, ..Default::default() };
    let (kind, detail) = match kind {
        Happened::StreamInFlight { channel, session, last_sequence, total } => {
            let session_id = session.to_string();
            let detail = StreamEvent { session_id, last_sequence, total_msat: total.msat(), ..of(channel) };
            (EventKind::StreamInFlight, detail)
        }
        Happened::StreamPaid { channel, session, last_sequence, total, enforceable, tags } => {
            let tag = |(sequence, tag): (u64, [u8; 32])| PaymentTag { sequence, tag: tag.to_vec() };
            let mut detail = StreamEvent { session_id: session.to_string(), last_sequence, ..of(channel) };
            detail.total_msat = total.msat();
            detail.enforceable_msat = enforceable.msat();
            detail.tags = tags.into_iter().map(tag).collect();
            (EventKind::StreamPaid, detail)
        }
        Happened::StreamUnsolicited { channel, amount } => {
            (EventKind::StreamUnsolicited, StreamEvent { total_msat: amount.msat(), ..of(channel) })
        }
        Happened::StreamClosed { channel, session, incoming, last_sequence, total } => {
            let mut detail = StreamEvent { session_id: session.to_string(), incoming, last_sequence, ..of(channel) };
            detail.total_msat = total.msat();
            (EventKind::StreamClosed, detail)
        }
        _ => return unsorted(),
    };
    (kind, Detail::Stream(detail))
}

fn payment(kind: Happened) -> (EventKind, Detail) {
    match kind {
        Happened::PaymentSucceeded { payment_hash, index, amount, fee } => {
            let mut detail = PaymentEvent { index, payment_hash: payment_hash.to_string(), ..Default::default() };
            detail.amount_msat = amount.msat();
            detail.fee_msat = fee.msat();
            (EventKind::PaymentSucceeded, Detail::Payment(detail))
        }
        Happened::PaymentFailed { payment_hash, index, reason } => {
            let mut detail = PaymentEvent { index, payment_hash: payment_hash.to_string(), ..Default::default() };
            detail.failure_reason = failure_reason(reason).into();
            (EventKind::PaymentFailed, Detail::Payment(detail))
        }
        Happened::TransactionConfirmed { txid, height, received, sent } => {
            let detail = TransactionEvent {
                txid: txid.to_string(),
                block_height: height.height(),
                received_sat: received.to_sat(),
                sent_sat: sent.to_sat(),
            };
            (EventKind::TransactionConfirmed, Detail::Transaction(detail))
        }
        Happened::Warning { channel, message } => {
            let channel_id = channel.map(|channel| channel.to_string()).unwrap_or_default();
            (EventKind::Warning, Detail::Warning(WarningEvent { message, channel_id }))
        }
        _ => unsorted(),
    }
}
