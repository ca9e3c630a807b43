//! Who may call: bearer tokens with a scope, in files that only the owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use proto::v1::ErrorReason;
use subtle::ConstantTimeEq;
use tonic::{Code, Status};
use tower::{Layer, Service};
use zeroize::Zeroizing;

use crate::rpc::status::status;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Admin,
    /// What changes nothing: Get, List, Decode, Subscribe.
    Read,
}

impl Scope {
    /// All scopes, each with a token file of its own.
    pub const ALL: [Scope; 2] = [Scope::Admin, Scope::Read];

    /// The name of its token file in the network's folder.
    pub fn file(self) -> &'static str {
        match self {
            Scope::Admin => "admin.token",
            Scope::Read => "read.token",
        }
    }

    /// Whether it covers a method, given as the path of its HTTP request: `/channeld.v1.NodeService/GetNode`.
    pub fn covers(self, path: &str) -> bool {
        let method = path.rsplit('/').next().unwrap_or_default();
        self == Scope::Admin || ["Get", "List", "Decode", "Subscribe"].iter().any(|verb| method.starts_with(verb))
    }
}

/// The tokens of this daemon: made at first start, 32 random bytes each, written as hex.
pub struct Tokens {
    known: Vec<(Scope, Zeroizing<String>)>,
}

impl Tokens {
    /// Reads the token files of the folder, and makes those that are missing, readable by their owner alone.
    ///
    /// # Errors
    /// As the file system or the source of randomness has it.
    pub fn open(folder: &Path) -> io::Result<Tokens> {
        let read = |scope: Scope| Ok((scope, read_or_make(&folder.join(scope.file()))?));
        Ok(Tokens { known: Scope::ALL.into_iter().map(read).collect::<io::Result<Vec<_>>>()? })
    }

    /// The path of the file with the token for everything.
    pub fn admin_file(folder: &Path) -> PathBuf {
        folder.join(Scope::Admin.file())
    }

    /// What the bearer of this token may do. Every known token is compared, in constant time.
    pub fn scope(&self, token: &str) -> Option<Scope> {
        let mut found = None;
        for (scope, known) in &self.known {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(*scope);
            }
        }
        found
    }
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

impl<S, B> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.tokens.as_ref().map_or(Ok(()), |tokens| check(tokens, &request)) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refusal) => Either::Right(ready(Ok(refusal.into_http()))),
        }
    }
}

/// What needs no token: whether the daemon is well, and what its contract is.
fn is_public(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.")
}

fn check<B>(tokens: &Tokens, request: &Request<B>) -> Result<(), Status> {
    let path = request.uri().path();
    if is_public(path) {
        return Ok(());
    }
    let missing = |message: &str| status(Code::Unauthenticated, ErrorReason::InvalidToken, message);
    let header = request.headers().get(http::header::AUTHORIZATION);
    let header = header.ok_or_else(|| missing("no token: send `authorization: Bearer TOKEN`"))?;
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| missing("authorization is not `Bearer TOKEN`"))?;
    let scope = tokens.scope(token.trim()).ok_or_else(|| missing("this daemon does not know the token"))?;
    if scope.covers(path) {
        return Ok(());
    }
    Err(status(Code::PermissionDenied, ErrorReason::ScopeDenied, "the token's scope does not cover this method"))
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
        fs::read_to_string(folder.join(scope.file())).unwrap().trim().to_string()
    }

    #[test]
    fn tokens_are_made_once_and_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Tokens::open(folder.path()).unwrap();
        let admin = token(folder.path(), Scope::Admin);
        assert_eq!(first.scope(&admin), Some(Scope::Admin));
        assert_eq!(Tokens::open(folder.path()).unwrap().scope(&admin), Some(Scope::Admin));
        let mode = fs::metadata(Tokens::admin_file(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_call_needs_a_token_that_covers_it() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (admin, read) = (token(folder.path(), Scope::Admin), token(folder.path(), Scope::Read));
        let code = |path: &str, token: Option<&str>| check(&tokens, &request(path, token)).map_err(|s| s.code());
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
    fn a_file_that_is_no_token_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(Tokens::admin_file(folder.path()), "short").unwrap();
        let error = Tokens::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("admin.token"), "{error}");
    }
}
