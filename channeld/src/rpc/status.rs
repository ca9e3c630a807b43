//! How a refusal becomes a gRPC status: code, reason from the published enum, details. Never UNKNOWN.

use std::collections::HashMap;
use std::time::Duration;

use proto::v1::ErrorReason;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::node::refusal::{Refusal, RefusalKind};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "channeld";

/// How long a client does well to wait where the status says that it may try again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The most of a message that is said, in bytes. What the caller sent may be in it, and it travels in headers, three times
/// over: a client that gets too much of them closes the whole connection.
const LONGEST: usize = 1_000;

/// A message of bounded length.
fn brief(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// The status for what the node refused.
pub fn refused(refusal: Refusal) -> Status {
    let reason = format!("ERROR_REASON_{}", refusal.reason());
    // A reason that is not published is a defect of ours: the client still learns the right code.
    let reason = ErrorReason::from_str_name(&reason).unwrap_or(ErrorReason::Internal);
    let mut details = details(reason, metadata(&refusal));
    if let Refusal::InvalidArgument { field, description } = &refusal {
        details.add_bad_request_violation(*field, brief(description.clone()));
    }
    if let Refusal::WrongNetwork { field } = &refusal {
        details.add_bad_request_violation(*field, "belongs to another network");
    }
    let kind = refusal.kind();
    if kind == RefusalKind::Unavailable || refusal == Refusal::TooManyRequests {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details(code(kind), brief(refusal.to_string()), details)
}

/// The status for a field that cannot be read.
pub fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = brief(description);
    let mut details = details(ErrorReason::InvalidArgument, HashMap::new());
    details.add_bad_request_violation(field, description.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

/// The status for anything else, with its reason.
pub fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    Status::with_error_details(code, brief(message), details(reason, HashMap::new()))
}

/// What the transport says of a message that cannot be read: it is the caller's fault, and no defect of ours.
pub fn unreadable(status: Status) -> Status {
    if status.code() != Code::Internal || !status.details().is_empty() {
        return status;
    }
    self::status(Code::InvalidArgument, ErrorReason::InvalidArgument, status.message())
}

/// The same for an answer that the transport has made already.
pub fn typed(answer: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() == Code::Internal => unreadable(status).into_http(),
        _ => answer,
    }
}

/// The status for a defect of ours: an answer of another kind than the question.
pub fn internal(what: &str) -> Status {
    tracing::error!(what, "a defect: the answer does not fit the question");
    status(Code::Internal, ErrorReason::Internal, format!("a defect of the daemon: {what}"))
}

fn details(reason: ErrorReason, metadata: HashMap<String, String>) -> ErrorDetails {
    let name = reason.as_str_name();
    ErrorDetails::with_error_info(name.strip_prefix("ERROR_REASON_").unwrap_or(name), DOMAIN, metadata)
}

fn code(kind: RefusalKind) -> Code {
    match kind {
        RefusalKind::Malformed => Code::InvalidArgument,
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::AlreadyExists => Code::AlreadyExists,
        RefusalKind::Precondition => Code::FailedPrecondition,
        RefusalKind::Exhausted => Code::ResourceExhausted,
        RefusalKind::Unavailable => Code::Unavailable,
        RefusalKind::Aborted => Code::Aborted,
    }
}

/// The figures that a program may want to read.
fn metadata(refusal: &Refusal) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match refusal {
        Refusal::InsufficientFunds { needed_sat, available_sat } => {
            vec![("needed_sat", needed_sat.to_string()), ("available_sat", available_sat.to_string())]
        }
        Refusal::FeeAboveBudget { needed_sat, limit_sat } => {
            vec![("needed_sat", needed_sat.to_string()), ("limit_sat", limit_sat.to_string())]
        }
        Refusal::InsufficientBalance { needed, available } => {
            vec![("needed_msat", needed.msat().to_string()), ("available_msat", available.msat().to_string())]
        }
        Refusal::BelowMinimum { amount, minimum } => {
            vec![("amount_msat", amount.msat().to_string()), ("minimum_msat", minimum.msat().to_string())]
        }
        Refusal::ChainNotSynced { height, target } => {
            vec![("height", height.to_string()), ("target_height", target.to_string())]
        }
        Refusal::ChannelNotFound(channel) => vec![("channel_id", channel.to_string())],
        Refusal::ChannelNotUsable { description } => vec![("state", description.clone())],
        Refusal::PeerNotFound(node) | Refusal::PeerOffline(node) | Refusal::PeerHasChannels(node) => {
            vec![("node_id", node.to_string())]
        }
        Refusal::NoRoute(node) | Refusal::ConnectionLost(node) => vec![("node_id", node.to_string())],
        Refusal::PeerUnreachable { node_id, .. } => vec![("node_id", node_id.to_string())],
        Refusal::StreamNotFound(session) | Refusal::StreamInUse(session) => vec![("session_id", session.to_string())],
        _ => Vec::new(),
    };
    pairs.into_iter().map(|(key, value)| (key.to_string(), brief(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ChannelId, Msat, NodeId, SessionId};

    /// Headers of more than 16 kB end the connection at the client.
    #[test]
    fn what_a_caller_sent_is_not_all_said_back() {
        let long = "ä".repeat(50_000);
        let description = long.clone();
        let refusals = [
            Refusal::InvalidArgument { field: "address", description },
            Refusal::ChannelNotUsable { description: long.clone() },
            Refusal::InvalidPaymentRequest { description: long.clone() },
        ];
        let all = refusals.map(refused).into_iter().chain([
            invalid("update_mask", long.clone()),
            status(Code::NotFound, ErrorReason::InvoiceNotFound, long.clone()),
        ]);
        for status in all {
            assert!(status.message().len() < 1_200 && status.details().len() < 4_000, "{}", status.details().len());
            assert!(status.message().contains('ä'));
        }
        assert_eq!(brief("short"), "short");
    }

    fn node() -> NodeId {
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap()
    }

    fn every_refusal() -> Vec<Refusal> {
        let description = || "wrong".to_string();
        let (channel, session) = (ChannelId([1; 32]), SessionId([2; 32]));
        vec![
            Refusal::InvalidArgument { field: "address", description: description() },
            Refusal::WrongNetwork { field: "address" },
            Refusal::InvalidPaymentRequest { description: description() },
            Refusal::ChannelNotFound(channel),
            Refusal::PeerNotFound(node()),
            Refusal::InvoiceNotFound,
            Refusal::PaymentNotFound,
            Refusal::StreamNotFound(session),
            Refusal::TransactionNotFound,
            Refusal::IdempotencyMismatch,
            Refusal::InvoiceExists,
            Refusal::AlreadyPaid,
            Refusal::PaymentInFlight,
            Refusal::StreamInUse(session),
            Refusal::PeerOffline(node()),
            Refusal::ChainNotSynced { height: 1, target: 2 },
            Refusal::ChannelNotUsable { description: "the channel is closed".into() },
            Refusal::PeerHasChannels(node()),
            Refusal::InvoiceExpired,
            Refusal::InvoiceNotOpen,
            Refusal::InvoiceNotAccepted,
            Refusal::NotDevelopmentNetwork,
            Refusal::NoStateKept,
            Refusal::SelfPayment,
            Refusal::NoRoute(node()),
            Refusal::TransfersNotNegotiated,
            Refusal::PeerRefused { message: description() },
            Refusal::NotReplaceable,
            Refusal::InsufficientFunds { needed_sat: 2, available_sat: 1 },
            Refusal::FeeAboveBudget { needed_sat: 2, limit_sat: 1 },
            Refusal::InsufficientBalance { needed: Msat::new(2), available: Msat::new(1) },
            Refusal::SlotsExhausted,
            Refusal::DustExposureReached,
            Refusal::InFlightLimitReached,
            Refusal::BelowMinimum { amount: Msat::new(1), minimum: Msat::new(2) },
            Refusal::TooManyStreams,
            Refusal::TooManyRequests,
            Refusal::PeerUnreachable { node_id: node(), description: description() },
            Refusal::ChainUnavailable { description: description() },
            Refusal::Starting,
            Refusal::ShuttingDown,
            Refusal::ConnectionLost(node()),
        ]
    }

    #[test]
    fn every_refusal_has_a_published_reason_and_a_code_that_says_something() {
        // Every line of the function that classifies them: none is forgotten above.
        let source = include_str!("../node/api/refusal.rs").lines();
        let classified = source.filter(|line| line.trim().starts_with("Refusal::") && line.ends_with("\"),")).count();
        assert_eq!(every_refusal().len(), classified);
        for refusal in every_refusal() {
            let (name, expected) = (format!("ERROR_REASON_{}", refusal.reason()), refusal.reason());
            assert!(ErrorReason::from_str_name(&name).is_some(), "{name} is not published");
            let status = refused(refusal);
            assert!(!matches!(status.code(), Code::Unknown | Code::Internal | Code::Ok), "{name}: {:?}", status.code());
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (expected, DOMAIN));
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_callers_fault() {
        let answer = typed(Status::internal("failed to decode Protobuf message").into_http());
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_ARGUMENT");
        let answer = typed(internal("a channel expected").into_http());
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::Internal);
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = invalid("channel_id", "not 64 hexadecimal digits");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "channel_id");
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        assert!(refused(Refusal::Starting).get_details_retry_info().is_some());
        assert!(refused(Refusal::InvoiceExpired).get_details_retry_info().is_none());
    }

    #[test]
    fn figures_come_in_the_details() {
        let status = refused(Refusal::InsufficientFunds { needed_sat: 20, available_sat: 10 });
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["needed_sat"], "20");
        assert_eq!(info.metadata["available_sat"], "10");
    }
}
