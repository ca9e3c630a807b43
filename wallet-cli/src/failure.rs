//! What went wrong, for a person and for a program: a message, what to do next, and an exit code.

use std::fmt;

use proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The exit codes, as `--help` lists them. They are part of the interface: a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The daemon refused for a reason that has no code of its own.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No daemon, or no chain, answers.
    Unreachable = 3,
    /// The token or the certificate is not right.
    Unauthorized = 4,
    /// The payment failed for certain: nothing was paid.
    PaymentFailed = 5,
    /// There is no such thing.
    NotFound = 6,
    /// The balance or the coins do not suffice.
    Insufficient = 7,
    /// What was waited for did not come in time.
    TimedOut = 8,
    /// A step of the demo or a workload of the benchmark failed.
    ShowFailed = 9,
    /// A defect, here or in a daemon.
    Defect = 70,
}

/// An error with its way out.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// The published reason, where a daemon gave one.
    pub reason: Option<String>,
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub next: String,
}

impl Failure {
    /// An error of this program's own.
    pub fn new(exit: Exit, message: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { exit, reason: None, message: message.into(), next: next.into() }
    }

    /// A wrong argument.
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message, next)
    }

    /// An answer that lacks what the contract promises.
    pub fn defect(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Defect, message, "the daemon and wallet-cli may be of different versions: build both anew")
    }

    /// As one JSON object, for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": {
            "exit_code": self.exit as u8, "reason": self.reason, "message": self.message, "next": self.next,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n next: {}", self.message, self.next)
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        if is_broken_off(&status) {
            return Failure::new(
                Exit::Unreachable,
                format!("the daemon went away before it answered: {}", status.message()),
                "start channeld again, then look: what was begun goes on by itself (`wallet-cli pay list`)",
            );
        }
        let reason = status.get_details_error_info().map(|info| info.reason);
        let known = reason.as_deref().and_then(|name| ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")));
        let message = match status.message() {
            "" => format!("the daemon answers {:?}", status.code()),
            message => message.to_string(),
        };
        Failure { exit: exit(status.code(), known), next: next(status.code(), known), reason, message }
    }
}

/// Whether the connection ended in the middle of an answer: such an error is made here, and has a cause; one that a daemon
/// sends has none.
fn is_broken_off(status: &Status) -> bool {
    let is_local = std::error::Error::source(status).is_some();
    is_local && matches!(status.code(), Code::Internal | Code::Unknown | Code::Cancelled)
}

fn exit(code: Code, reason: Option<ErrorReason>) -> Exit {
    match (code, reason) {
        (_, Some(ErrorReason::InsufficientBalance | ErrorReason::InsufficientFunds | ErrorReason::FeeAboveBudget)) => {
            Exit::Insufficient
        }
        (_, Some(ErrorReason::PeerUnreachable | ErrorReason::ChainUnavailable)) => Exit::Unreachable,
        (Code::InvalidArgument, _) => Exit::Usage,
        (Code::NotFound, _) => Exit::NotFound,
        (Code::Unauthenticated | Code::PermissionDenied, _) => Exit::Unauthorized,
        (Code::Unavailable, _) => Exit::Unreachable,
        (Code::DeadlineExceeded, _) => Exit::TimedOut,
        (Code::Internal | Code::Unknown | Code::DataLoss | Code::Unimplemented, _) => Exit::Defect,
        _ => Exit::Refused,
    }
}

/// What to do next, by reason.
fn next(code: Code, reason: Option<ErrorReason>) -> String {
    use ErrorReason as R;
    let text = match reason {
        Some(R::InvalidArgument | R::InvalidPageToken | R::StreamOrder) => {
            "correct the argument; `--help` shows examples"
        }
        Some(R::WrongNetwork) => "use an address or invoice of this node's network: `wallet-cli node info` names it",
        Some(R::InvalidPaymentRequest) => "ask the payee for the whole invoice, or make a new one",
        Some(R::ChannelNotFound | R::ChannelNotUsable) => "see `wallet-cli channel list`",
        Some(R::PeerNotFound | R::PeerOffline | R::ConnectionLost) => {
            "connect with `wallet-cli peer connect ID@HOST:PORT`, then try again"
        }
        Some(R::InvoiceNotFound | R::InvoiceNotOpen | R::InvoiceNotAccepted | R::InvoiceExists) => {
            "see `wallet-cli invoice list`"
        }
        Some(R::InvoiceExpired) => "ask the payee for a new invoice",
        Some(R::PaymentNotFound | R::AlreadyPaid | R::PaymentInFlight) => "see `wallet-cli pay list`",
        Some(R::StreamNotFound | R::StreamInUse) => "open a new stream, or end the other client",
        Some(R::TransactionNotFound | R::NotReplaceable) => "see `wallet-cli wallet transactions`",
        Some(R::IdempotencyMismatch) => "take a new request id for a new request",
        Some(R::ChainNotSynced) => "wait: `wallet-cli node info` shows the progress",
        Some(R::PeerHasChannels) => "close the channels first, or give --force",
        Some(R::NotDevelopmentNetwork) => "start channeld on regtest or devnet for this",
        Some(R::NoStateKept) => "keep one first: `wallet-cli dev keep-state CHANNEL`",
        Some(R::SelfPayment) => "name another node; or, if it is that one which is to act, give its --data-dir",
        Some(R::NoRoute) => "open a channel with the payee: `wallet-cli channel open`",
        Some(R::TransfersNotNegotiated) => "pay single payments to this peer: `wallet-cli pay key`",
        Some(R::PeerRefused | R::BelowMinimum) => "ask for what the peer takes",
        Some(R::FeeAboveBudget) => "allow a higher fee with --max-fee, or take a lower --feerate-per-kw",
        Some(R::TokenExpired | R::TokenRevoked) => {
            "have the owner make a new one: `wallet-cli token create`; the admin token in the data directory stays"
        }
        Some(R::TokenNotFound) => "see `wallet-cli token list`",
        Some(R::TooManyTokens) => "revoke some: `wallet-cli token list`, `wallet-cli token revoke ID`",
        Some(R::InsufficientFunds) => {
            "get coins: `wallet-cli wallet address`, and on regtest `wallet-cli chain fund ADDRESS`"
        }
        Some(R::InsufficientBalance) => {
            "pay less, or open a larger channel; `wallet-cli channel list` shows the balances"
        }
        Some(R::SlotsExhausted | R::DustExposureReached | R::InFlightLimitReached) => {
            "wait for payments under way, then try again"
        }
        Some(R::TooManyStreams | R::TooManyRequests) => "wait a moment, then try again",
        Some(R::InvalidToken) => "give the daemon's --data-dir, or a fresh `wallet-cli node connect-string`",
        Some(R::ScopeDenied) => "use the daemon's admin token",
        Some(R::PeerUnreachable) => "check the address, and that the peer runs and listens",
        Some(R::ChainUnavailable) => "start the chain (l1-utxo or Bitcoin Core), then try again",
        Some(R::Starting) => "wait a second, then try again",
        Some(R::ShuttingDown) => "start channeld again",
        Some(R::Internal) => "look into the daemon's log, and report it",
        Some(R::Unspecified) | None => next_by_code(code),
    };
    text.to_string()
}

fn next_by_code(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "check that channeld runs and that --data-dir or --connect is right",
        Code::Unimplemented => "build channeld and wallet-cli of the same version",
        Code::InvalidArgument => "correct the argument; `--help` shows examples",
        _ => "look into the daemon's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_goes_away_is_no_defect() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let failure = Failure::from(Status::from_error(Box::new(broken)));
        assert_eq!(failure.exit, Exit::Unreachable);
        assert_eq!(Failure::from(Status::unknown("of the daemon's own")).exit, Exit::Defect);
    }

    #[test]
    fn every_reason_says_what_to_do_next() {
        let reasons: Vec<ErrorReason> = (1..).map_while(|number| ErrorReason::try_from(number).ok()).collect();
        assert!(reasons.len() >= 50);
        for reason in reasons {
            assert!(next(Code::Internal, Some(reason)).len() > 10, "{reason:?}");
        }
    }

    #[test]
    fn a_missing_thing_and_a_wrong_token_have_codes_of_their_own() {
        assert_eq!(exit(Code::NotFound, None), Exit::NotFound);
        assert_eq!(exit(Code::Unauthenticated, None), Exit::Unauthorized);
        assert_eq!(exit(Code::ResourceExhausted, Some(ErrorReason::InsufficientBalance)), Exit::Insufficient);
        assert_eq!(exit(Code::ResourceExhausted, Some(ErrorReason::SlotsExhausted)), Exit::Refused);
    }
}
