//! Invoices, payments and streams.

use proto::v1::{
    BlindedPath, DecodePaymentRequestResponse, Invoice, InvoiceState, Payment, PaymentAttempt, PaymentAttemptFailure,
    PaymentAttemptState, PaymentFailureReason, PaymentHop, PaymentState, StreamCloseReason, StreamClosed,
    StreamProgress, StreamReceipt, StreamWindow,
};

use crate::graph::RouteHop;
use crate::payment::blinded::BlindedPaymentPath;
use crate::payment::invoice::{InvoiceDescription, PaymentRequest};
use crate::payment::receive::{self, InvoiceStatus};
use crate::payment::send::{self, AttemptFailure, AttemptStatus, FailureReason, PaymentStatus};
use crate::payment::stream::{self, StreamStatus};
use crate::rpc::convert::{duration, timestamp};

/// An invoice. Its preimage is told once it is settled, for then it is a proof and no longer money.
pub fn invoice(invoice: receive::Invoice) -> Invoice {
    let mut message = Invoice {
        index: invoice.index,
        payment_hash: invoice.payment_hash.to_string(),
        payment_request: invoice.payment_request,
        state: InvoiceState::Open.into(),
        amount_msat: invoice.amount.map(|amount| amount.msat()),
        description: invoice.description,
        created_at: Some(timestamp(invoice.created)),
        expires_at: Some(timestamp(invoice.expires)),
        min_final_cltv_expiry_delta: invoice.min_final_cltv_expiry_delta.blocks().into(),
        ..Invoice::default()
    };
    match invoice.status {
        InvoiceStatus::Open => {}
        InvoiceStatus::Accepted { received, channel, deadline_height, .. } => {
            message.state = InvoiceState::Accepted.into();
            message.received_msat = received.msat();
            message.channel_id = channel.to_string();
            message.deadline_height = Some(deadline_height.height());
        }
        InvoiceStatus::Settled { received, channel, at } => {
            message.state = InvoiceState::Settled.into();
            message.received_msat = received.msat();
            message.channel_id = channel.to_string();
            message.settled_at = Some(timestamp(at));
            message.preimage = invoice.preimage.map(|preimage| hex::encode(preimage.0)).unwrap_or_default();
        }
        InvoiceStatus::Cancelled { .. } => message.state = InvoiceState::Cancelled.into(),
        InvoiceStatus::Expired => message.state = InvoiceState::Expired.into(),
    }
    message
}

/// What an invoice says; where it holds only a hash of what it is for, that hash in hex.
pub fn payment_request(request: PaymentRequest) -> DecodePaymentRequestResponse {
    DecodePaymentRequestResponse {
        payment_hash: request.payment_hash.to_string(),
        payee_node_id: request.payee.to_string(),
        amount_msat: request.amount.map(|amount| amount.msat()),
        description: match request.description {
            InvoiceDescription::Text(text) => text,
            InvoiceDescription::Hash(hash) => hex::encode(hash),
        },
        created_at: Some(timestamp(request.created)),
        expires_at: Some(timestamp(request.expires)),
        min_final_cltv_expiry_delta: request.min_final_cltv_expiry_delta.blocks().into(),
        features: hex::encode(request.features.as_bytes()),
        blinded_paths: request.blinded_paths.iter().map(blinded_path).collect(),
    }
}

fn blinded_path(path: &BlindedPaymentPath) -> BlindedPath {
    BlindedPath {
        introduction_node_id: path.path.first_node_id.to_string(),
        hops: path.path.hops.len().try_into().unwrap_or(u32::MAX),
        fee_base_msat: path.terms.fee_base_msat.into(),
        fee_proportional_millionths: path.terms.fee_proportional_millionths,
        cltv_expiry_delta: path.terms.cltv_expiry_delta.blocks().into(),
        htlc_minimum_msat: path.terms.htlc_minimum_msat.msat(),
        htlc_maximum_msat: path.terms.htlc_maximum_msat.msat(),
    }
}

/// A payment.
pub fn payment(payment: send::Payment) -> Payment {
    let deadline_height = payment.deadline_height();
    let mut message = Payment {
        index: payment.index,
        payment_hash: payment.payment_hash.to_string(),
        state: PaymentState::InFlight.into(),
        amount_msat: payment.amount.msat(),
        fee_msat: payment.fee().msat(),
        payee_node_id: payment.destination.to_string(),
        payment_request: payment.payment_request().unwrap_or_default().to_owned(),
        created_at: Some(timestamp(payment.created)),
        attempts: payment.attempts.into_iter().map(attempt).collect(),
        ..Payment::default()
    };
    match payment.status {
        PaymentStatus::InFlight => message.deadline_height = deadline_height,
        PaymentStatus::Succeeded { preimage, at } => {
            message.state = PaymentState::Succeeded.into();
            message.preimage = hex::encode(preimage.0);
            message.resolved_at = Some(timestamp(at));
        }
        PaymentStatus::Failed { reason, at } => {
            message.state = PaymentState::Failed.into();
            message.failure_reason = failure_reason(reason).into();
            message.failure_code = match reason {
                FailureReason::Remote { code } => Some(code.into()),
                _ => None,
            };
            message.resolved_at = Some(timestamp(at));
        }
    }
    message
}

/// A payment in a list: its attempts without their hops.
pub fn payment_summary(payment: send::Payment) -> Payment {
    let mut message = self::payment(payment);
    message.attempts.iter_mut().for_each(|attempt| attempt.hops.clear());
    message
}

fn attempt(attempt: send::Attempt) -> PaymentAttempt {
    let mut message = PaymentAttempt {
        channel_id: attempt.channel.to_string(),
        htlc_id: attempt.htlc_id.id(),
        started_at: Some(timestamp(attempt.started)),
        deadline_height: attempt.deadline_height,
        state: PaymentAttemptState::Pending.into(),
        amount_msat: attempt.route.amount().msat(),
        fee_msat: attempt.route.fee().msat(),
        hops: attempt.route.hops.iter().map(hop).collect(),
        hold_times: attempt.hold_times.iter().map(|held| duration(held.millis().saturating_mul(1_000))).collect(),
        ..PaymentAttempt::default()
    };
    match attempt.status {
        AttemptStatus::Pending => {}
        AttemptStatus::Fulfilled => message.state = PaymentAttemptState::Fulfilled.into(),
        AttemptStatus::Failed { at, failure } => {
            message.state = PaymentAttemptState::Failed.into();
            message.failed_at = Some(timestamp(at));
            let source = |hop: u8| attempt.route.hops.get(usize::from(hop)).map(|hop| hop.node_id.to_string());
            let (reason, hop) = match failure {
                AttemptFailure::NeverCommitted => (PaymentAttemptFailure::NeverCommitted, None),
                AttemptFailure::Remote { hop, code } => {
                    message.failure_code = Some(code.into());
                    (PaymentAttemptFailure::Remote, Some(hop))
                }
                AttemptFailure::Unreadable { hop } => (PaymentAttemptFailure::Unreadable, hop),
                AttemptFailure::TimedOutOnChain => (PaymentAttemptFailure::TimedOutOnChain, None),
            };
            message.failure = reason.into();
            message.failure_source_node_id = hop.and_then(source).unwrap_or_default();
        }
    }
    message
}

/// One hop of a route.
pub fn hop(hop: &RouteHop) -> PaymentHop {
    PaymentHop {
        node_id: hop.node_id.to_string(),
        short_channel_id: hop.short_channel_id.to_string(),
        amount_msat: hop.amount.msat(),
        cltv_delta: hop.cltv_delta,
    }
}

/// Why a payment failed.
pub fn failure_reason(reason: FailureReason) -> PaymentFailureReason {
    match reason {
        FailureReason::UnknownPaymentDetails => PaymentFailureReason::UnknownPaymentDetails,
        FailureReason::MppTimeout => PaymentFailureReason::MppTimeout,
        FailureReason::Remote { .. } => PaymentFailureReason::Remote,
        FailureReason::UnreadableFailure => PaymentFailureReason::UnreadableFailure,
        FailureReason::ChannelUnavailable => PaymentFailureReason::ChannelUnavailable,
        FailureReason::TimedOutOnChain => PaymentFailureReason::TimedOutOnChain,
        FailureReason::NoRoute => PaymentFailureReason::NoRoute,
        FailureReason::TimedOut => PaymentFailureReason::TimedOut,
        FailureReason::AttemptsExhausted => PaymentFailureReason::AttemptsExhausted,
    }
}

/// How far a stream has come.
pub fn progress(status: &StreamStatus) -> StreamProgress {
    StreamProgress {
        accepted_sequence: status.accepted_sequence,
        accepted_msat: status.accepted.msat(),
        committed_sequence: status.committed_sequence,
        committed_msat: status.committed.msat(),
        enforceable_msat: status.enforceable.msat(),
        commitment_number: status.commitment_number.number(),
        latency: Some(duration(status.latency_micros)),
    }
}

/// How much more may be sent.
pub fn window(window: stream::StreamWindow) -> StreamWindow {
    StreamWindow { payments: window.payments, amount_msat: window.amount.msat() }
}

/// The end of a stream, if this is it.
pub fn stream_closed(status: &StreamStatus) -> Option<StreamClosed> {
    let closed = status.closed.as_ref()?;
    let reason = match closed.reason {
        stream::StreamCloseReason::Finished => StreamCloseReason::Finished,
        stream::StreamCloseReason::TotalReached => StreamCloseReason::TotalReached,
        stream::StreamCloseReason::ChannelClosed => StreamCloseReason::ChannelClosed,
        stream::StreamCloseReason::ClosedByPayee => StreamCloseReason::ClosedByPayee,
        stream::StreamCloseReason::BalanceExhausted => StreamCloseReason::BalanceExhausted,
        stream::StreamCloseReason::PaymentFailed => StreamCloseReason::PaymentFailed,
    };
    Some(StreamClosed {
        reason: reason.into(),
        committed_sequence: status.committed_sequence,
        committed_msat: status.committed.msat(),
        enforceable_msat: status.enforceable.msat(),
        receipt: closed.receipt.as_ref().map(|receipt| StreamReceipt {
            last_sequence: receipt.last_sequence,
            paid_msat: receipt.paid.msat(),
            enforceable_msat: receipt.enforceable.msat(),
            signature: receipt.signature.clone(),
        }),
    })
}
