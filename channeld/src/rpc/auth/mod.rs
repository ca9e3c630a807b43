//! Who may call: bearer tokens, those of the files that are made at first start and those that the owner makes.
//!
//! Knows what each token may do and until when; compares in constant time. Never keeps a made token, only its hash, and
//! never asks who calls over the unix socket: whoever can open it is the owner.

mod book;
mod lease;
mod scope;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response};
use proto::v1::ErrorReason;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use zeroize::Zeroizing;

use crate::node::command::RequestKey;
use crate::rpc::status::status;

use book::Book;
pub use book::{BookError, NewToken, Token, replace};
use lease::Lease;
pub use scope::{Scope, is_method};

/// The tokens of this daemon: those of the files, 32 random bytes each, written as hex; and the book of those made since.
pub struct Tokens {
    known: Vec<(Scope, Zeroizing<String>)>,
    book: RwLock<Book>,
    /// Counts revocations: what was begun with a token ends with it.
    revocations: watch::Sender<u64>,
}

/// What a token is worth for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for this, for ever.
    Admitted,
    /// It is for this as long as it lasts; its index in the book.
    Lent(u64),
    /// Nobody knows it.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// It is for other things.
    OutOfScope,
}

impl Tokens {
    /// Reads the token files of the folder, and makes those that are missing, readable by their owner alone.
    ///
    /// # Errors
    /// As the file system or the source of randomness has it.
    pub fn open(folder: &Path) -> io::Result<Tokens> {
        let mut known = Vec::new();
        for scope in Scope::FILES {
            if let Some(file) = scope.file() {
                known.push((scope, read_or_make(&folder.join(file))?));
            }
        }
        Ok(Tokens { known, book: RwLock::new(Book::open(folder)?), revocations: watch::Sender::new(0) })
    }

    /// The path of the file with the token for everything.
    pub fn admin_file(folder: &Path) -> PathBuf {
        folder.join(Scope::Admin.file().unwrap_or_default())
    }

    /// What the bearer of this token may do at `now`, in seconds since 1970. Every token is compared, in constant time.
    pub fn judge(&self, token: &str, path: &str, now: u64) -> Verdict {
        let mut verdict = Verdict::Unknown;
        for (scope, known) in &self.known {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                verdict = if scope.covers(path) { Verdict::Admitted } else { Verdict::OutOfScope };
            }
        }
        let shown = book::hash(token);
        for made in self.book.read().unwrap_or_else(PoisonError::into_inner).tokens() {
            if made.has_hash(&shown) {
                verdict = match over(made, now) {
                    Some(over) => over,
                    None if made.covers(path) => Verdict::Lent(made.index),
                    None => Verdict::OutOfScope,
                };
            }
        }
        verdict
    }

    /// How many seconds a made token still has, where it has an end.
    ///
    /// # Errors
    /// How it ended.
    fn standing(&self, index: u64, now: u64) -> Result<Option<u64>, Verdict> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        let token = book.tokens().iter().find(|token| token.index == index).ok_or(Verdict::Unknown)?;
        match over(token, now) {
            Some(over) => Err(over),
            None => Ok(token.expires.map(|expires| expires.saturating_sub(now))),
        }
    }

    /// Makes a token; its text is given out here and nowhere else.
    ///
    /// # Errors
    /// [`BookError`]; nothing changed.
    pub fn create(&self, new: NewToken, key: Option<&RequestKey>) -> Result<(Token, Zeroizing<String>), BookError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let root = self.known.iter().find(|(scope, _)| *scope == Scope::Admin).map(|(_, token)| token.as_str());
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.create(new, key, (root.unwrap_or_default(), salt), now())
    }

    /// All tokens that were made, the oldest first.
    pub fn list(&self) -> Vec<Token> {
        self.book.read().unwrap_or_else(PoisonError::into_inner).tokens().to_vec()
    }

    /// From now on a token is not taken any more.
    ///
    /// # Errors
    /// [`BookError`]; nothing changed.
    pub fn revoke(&self, id: &str, key: Option<&RequestKey>) -> Result<Token, BookError> {
        let token = self.book.write().unwrap_or_else(PoisonError::into_inner).revoke(id, key, now())?;
        self.revocations.send_modify(|count| *count = count.wrapping_add(1));
        Ok(token)
    }
}

/// How a made token ended, where it did.
fn over(token: &Token, now: u64) -> Option<Verdict> {
    token.ended(now).map(|_| if token.revoked.is_some() { Verdict::Revoked } else { Verdict::Expired })
}

impl Verdict {
    /// What the client is told of a token that does not do.
    fn refusal(self) -> Status {
        let (code, reason, message) = match self {
            Verdict::Expired => (Code::Unauthenticated, ErrorReason::TokenExpired, "the token's time is over"),
            Verdict::Revoked => (Code::Unauthenticated, ErrorReason::TokenRevoked, "the token was revoked"),
            Verdict::OutOfScope => {
                let message = "the token's scope does not cover this method";
                (Code::PermissionDenied, ErrorReason::ScopeDenied, message)
            }
            Verdict::Unknown | Verdict::Admitted | Verdict::Lent(_) => {
                (Code::Unauthenticated, ErrorReason::InvalidToken, "this daemon does not know the token")
            }
        };
        status(code, reason, message)
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn read_or_make(path: &Path) -> io::Result<Zeroizing<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(Zeroizing::new(text.trim().to_string())),
        Ok(_) => {
            let message = format!("{} is no token; remove it to have a new one made", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
    let token = Zeroizing::new(hex::encode(*bytes));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", token.as_str())?;
    file.sync_all()?;
    Ok(token)
}

/// Lets through what has a token for it. Without tokens (the unix socket) it lets everything through.
#[derive(Clone)]
pub struct AuthLayer {
    tokens: Option<Arc<Tokens>>,
}

impl AuthLayer {
    /// Asks for one of these tokens.
    pub fn tokens(tokens: Arc<Tokens>) -> AuthLayer {
        AuthLayer { tokens: Some(tokens) }
    }

    /// Asks for nothing: whoever can open the socket is the owner.
    pub fn open() -> AuthLayer {
        AuthLayer { tokens: None }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { tokens: self.tokens.clone(), inner }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub struct Auth<S> {
    tokens: Option<Arc<Tokens>>,
    inner: S,
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<
        Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>,
        Ready<Result<S::Response, S::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.tokens.as_ref().map_or(Ok(None), |tokens| check(tokens, &request)) {
            Ok(None) => Either::Left(Either::Left(self.inner.call(request))),
            Ok(Some(lease)) => {
                let answer = self.inner.call(request.map(|body| lease.request(body)));
                let lent = answer.map(move |answer| answer.map(|answer| answer.map(|body| lease.answer(body))));
                Either::Left(Either::Right(lent.boxed()))
            }
            Err(refusal) => Either::Right(ready(Ok(refusal.into_http()))),
        }
    }
}

/// What needs no token: whether the daemon is well, and what its contract is.
fn is_public(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.")
}

/// Whether the call may be made, and how long: a made token lends the call its own time.
fn check<B>(tokens: &Arc<Tokens>, request: &Request<B>) -> Result<Option<Lease>, Status> {
    let path = request.uri().path();
    if is_public(path) {
        return Ok(None);
    }
    let refuse = |message: &str| Err(status(Code::Unauthenticated, ErrorReason::InvalidToken, message));
    let Some(header) = request.headers().get(http::header::AUTHORIZATION) else {
        return refuse("no token: send `authorization: Bearer TOKEN`");
    };
    let Some(token) = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")) else {
        return refuse("authorization is not `Bearer TOKEN`");
    };
    match tokens.judge(token.trim(), path, now()) {
        Verdict::Admitted => Ok(None),
        Verdict::Lent(index) => Ok(Some(Lease::new(Arc::clone(tokens), index))),
        over => Err(over.refusal()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn request(path: &str, token: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(format!("http://node{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(()).unwrap()
    }

    fn token(folder: &Path, scope: Scope) -> String {
        fs::read_to_string(folder.join(scope.file().unwrap())).unwrap().trim().to_string()
    }

    #[test]
    fn tokens_are_made_once_and_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Tokens::open(folder.path()).unwrap();
        let admin = token(folder.path(), Scope::Admin);
        let path = "/channeld.v1.WalletService/SendCoins";
        assert_eq!(first.judge(&admin, path, 0), Verdict::Admitted);
        assert_eq!(Tokens::open(folder.path()).unwrap().judge(&admin, path, 0), Verdict::Admitted);
        let mode = fs::metadata(Tokens::admin_file(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_call_needs_a_token_that_covers_it() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Arc::new(Tokens::open(folder.path()).unwrap());
        let (admin, read) = (token(folder.path(), Scope::Admin), token(folder.path(), Scope::Read));
        let code = |path: &str, token: Option<&str>| {
            check(&tokens, &request(path, token)).map(|lease| assert!(lease.is_none())).map_err(|s| s.code())
        };
        let (get, send) = ("/channeld.v1.NodeService/GetNode", "/channeld.v1.WalletService/SendCoins");
        assert_eq!(code(get, Some(&admin)), Ok(()));
        assert_eq!(code(send, Some(&admin)), Ok(()));
        assert_eq!(code(get, Some(&read)), Ok(()));
        assert_eq!(code(send, Some(&read)), Err(Code::PermissionDenied));
        assert_eq!(code(get, None), Err(Code::Unauthenticated));
        assert_eq!(code(get, Some("")), Err(Code::Unauthenticated));
        assert_eq!(code(get, Some(&admin[1..])), Err(Code::Unauthenticated));
        assert_eq!(code("/grpc.health.v1.Health/Check", None), Ok(()));
    }

    #[test]
    fn a_made_token_is_taken_for_what_it_says_and_as_long_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Arc::new(Tokens::open(folder.path()).unwrap());
        let (scopes, methods) = (vec![Scope::Read], vec!["channeld.v1.WalletService/CreateAddress".to_owned()]);
        let new = NewToken { name: "till".into(), scopes, methods, expires: Some(now() + 1_000) };
        let (token, text) = tokens.create(new, None).unwrap();
        let judged = |path: &str, at: u64| tokens.judge(&text, &format!("/channeld.v1.{path}"), at);
        assert_eq!(judged("NodeService/GetNode", now()), Verdict::Lent(1));
        assert_eq!(judged("WalletService/CreateAddress", now()), Verdict::Lent(1));
        assert_eq!(judged("WalletService/SendCoins", now()), Verdict::OutOfScope);
        assert_eq!(judged("NodeService/GetNode", now() + 2_000), Verdict::Expired);
        tokens.revoke(&token.id, None).unwrap();
        assert_eq!(judged("NodeService/GetNode", now()), Verdict::Revoked);
        let reason = |token: &str| {
            use tonic_types::StatusExt;
            let refused = check(&tokens, &request("/channeld.v1.NodeService/GetNode", Some(token))).err().unwrap();
            refused.get_details_error_info().unwrap().reason
        };
        assert_eq!((reason(&text).as_str(), reason("0").as_str()), ("TOKEN_REVOKED", "INVALID_TOKEN"));
    }

    #[test]
    fn a_file_that_is_no_token_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(Tokens::admin_file(folder.path()), "short").unwrap();
        let error = Tokens::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("admin.token"), "{error}");
    }
}
