//! `TokenService`.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::token_service_server::TokenService;
use proto::v1::{
    CreateTokenRequest, CreateTokenResponse, ErrorReason, ListTokensRequest, ListTokensResponse, RevokeTokenRequest,
    RevokeTokenResponse, Token, TokenScope, TokenState,
};
use tonic::{Code, Request, Response, Status};

use crate::rpc::auth::{self, BookError, NewToken, Scope, is_method, now};
use crate::rpc::convert::timestamp;
use crate::rpc::request;
use crate::rpc::status::{internal, invalid, status};
use crate::units::UnixTime;

/// The longest name.
const LONGEST_NAME: usize = 64;
/// Most single methods of a token.
const MOST_METHODS: usize = 100;
/// The longest lifetime: 100 years.
const LONGEST_LIFETIME: Duration = Duration::from_secs(100 * 366 * 86_400);

/// See `proto/channeld/v1/token.proto`.
pub struct TokenKeeper {
    tokens: Arc<auth::Tokens>,
}

impl TokenKeeper {
    /// Keeps these tokens.
    pub fn new(tokens: Arc<auth::Tokens>) -> TokenKeeper {
        TokenKeeper { tokens }
    }

    /// Does what writes the file beside the calls under way.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&auth::Tokens) -> Result<T, BookError> + Send + 'static,
    ) -> Result<T, Status> {
        let tokens = Arc::clone(&self.tokens);
        let done = tokio::task::spawn_blocking(move || work(&tokens)).await;
        done.map_err(|_| internal("the token file's task ended"))?.map_err(refused)
    }
}

fn refused(error: BookError) -> Status {
    let text = error.to_string();
    match error {
        BookError::Full => status(Code::ResourceExhausted, ErrorReason::TooManyTokens, text),
        BookError::NotFound(_) => status(Code::NotFound, ErrorReason::TokenNotFound, text),
        BookError::IdempotencyMismatch => status(Code::AlreadyExists, ErrorReason::IdempotencyMismatch, text),
        BookError::Io(error) => {
            tracing::error!(%error, "the token file cannot be written");
            status(Code::Internal, ErrorReason::Internal, "the token file cannot be written: the daemon's log has more")
        }
    }
}

fn read_new(message: &CreateTokenRequest) -> Result<NewToken, Status> {
    if message.name.is_empty() || message.name.len() > LONGEST_NAME || message.name.chars().any(char::is_control) {
        return Err(invalid("name", format!("1 to {LONGEST_NAME} bytes that print")));
    }
    let mut scopes = Vec::new();
    for scope in &message.scopes {
        scopes.push(match TokenScope::try_from(*scope) {
            Ok(TokenScope::Admin) => Scope::Admin,
            Ok(TokenScope::Read) => Scope::Read,
            Ok(TokenScope::Receive) => Scope::Receive,
            Ok(TokenScope::Pay) => Scope::Pay,
            Ok(TokenScope::Unspecified) | Err(_) => return Err(invalid("scopes", "not a value of TokenScope")),
        });
    }
    scopes.sort_unstable();
    scopes.dedup();
    if message.methods.len() > MOST_METHODS {
        return Err(invalid("methods", format!("more than {MOST_METHODS}")));
    }
    if let Some(unknown) = message.methods.iter().find(|method| !is_method(method)) {
        return Err(invalid("methods", format!("no method {unknown:?}; write channeld.v1.WalletService/SendCoins")));
    }
    if scopes.is_empty() && message.methods.is_empty() {
        return Err(invalid("scopes", "give scopes or methods: a token without either may do nothing"));
    }
    let lifetime = request::duration("lifetime", message.lifetime)?;
    if lifetime.is_some_and(|it| it < Duration::from_secs(1) || it > LONGEST_LIFETIME) {
        return Err(invalid("lifetime", "1 second to 100 years; leave it out for a token that is revoked"));
    }
    let expires = lifetime.map(|lifetime| now() + lifetime.as_secs());
    Ok(NewToken { name: message.name.clone(), scopes, methods: message.methods.clone(), expires })
}

fn write(token: auth::Token) -> Token {
    let at = |seconds: u64| timestamp(UnixTime::from_seconds(seconds));
    let state = match (token.ended(now()), token.revoked) {
        (None, _) => TokenState::Active,
        (Some(_), Some(_)) => TokenState::Revoked,
        (Some(_), None) => TokenState::Expired,
    };
    let scope = |scope: &Scope| match scope {
        Scope::Admin => TokenScope::Admin.into(),
        Scope::Read => TokenScope::Read.into(),
        Scope::Receive => TokenScope::Receive.into(),
        Scope::Pay => TokenScope::Pay.into(),
    };
    Token {
        index: token.index,
        scopes: token.scopes.iter().map(scope).collect(),
        state: state.into(),
        created_at: Some(at(token.created)),
        expires_at: token.expires.map(at),
        revoked_at: token.revoked.map(at),
        token_id: token.id,
        name: token.name,
        methods: token.methods,
    }
}

#[tonic::async_trait]
impl TokenService for TokenKeeper {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("CreateToken", &id, &message)?;
        let new = read_new(&message)?;
        if message.validate_only {
            return Ok(Response::new(CreateTokenResponse::default()));
        }
        let (token, secret) = self.blocking(move |tokens| tokens.create(new, key.as_ref())).await?;
        Ok(Response::new(CreateTokenResponse { token: Some(write(token)), secret: secret.to_string() }))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("tokens", message.page_size, &message.page_token, message.order)?;
        let mut tokens = self.tokens.list();
        if page.newest_first {
            tokens.reverse();
            tokens.retain(|token| page.after.is_none_or(|after| token.index < after));
        } else {
            tokens.retain(|token| page.after.is_none_or(|after| token.index > after));
        }
        let more = tokens.len() > page.size as usize;
        tokens.truncate(page.size as usize);
        let next = tokens.last().filter(|_| more).map(|token| token.index);
        Ok(Response::new(ListTokensResponse {
            tokens: tokens.into_iter().map(write).collect(),
            next_page_token: request::page_token("tokens", page.newest_first, next),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("RevokeToken", &id, &message)?;
        let token_id = message.token_id;
        if token_id.len() != 16 || !token_id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid("token_id", "not 16 hexadecimal digits"));
        }
        if message.validate_only {
            let found = self.tokens.list().into_iter().find(|token| token.id == token_id);
            let found = found.ok_or_else(|| refused(BookError::NotFound(token_id)))?;
            return Ok(Response::new(RevokeTokenResponse { token: Some(write(found)) }));
        }
        let token = self.blocking(move |tokens| tokens.revoke(&token_id, key.as_ref())).await?;
        Ok(Response::new(RevokeTokenResponse { token: Some(write(token)) }))
    }
}
