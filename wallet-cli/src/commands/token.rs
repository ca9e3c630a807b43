//! `wallet-cli token`.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use proto::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, RevokeTokenRequest, Token, TokenScope, TokenState,
};

use crate::args::{Global, parse_duration};
use crate::client::{ConnectString, Target, request_id};
use crate::commands::{ListArgs, promised};
use crate::failure::Failure;
use crate::output::{pairs, table};

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token for a program or a person that may do less than everything.
    ///
    /// The token is shown once and kept nowhere: the daemon knows its hash only. `--json` gives it as `secret`. Where the
    /// daemon is on this machine the connect string with the token is printed too: it is all that a program needs.
    #[command(
        after_help = "Examples:\n  wallet-cli token create till --scope receive --expires 30d\n  wallet-cli token create bot --scope pay --expires 12h\n  wallet-cli token create watcher --scope read\n  wallet-cli token create faucet --method channeld.v1.WalletService/SendCoins"
    )]
    Create {
        /// A word for it, to know it again in the list.
        name: String,
        /// What it may do; several may be given.
        #[arg(long, value_enum, required_unless_present = "method")]
        scope: Vec<ScopeName>,
        /// A single method that it may call besides, such as channeld.v1.WalletService/SendCoins.
        #[arg(long, value_name = "NAME")]
        method: Vec<String>,
        /// How long it is taken, such as 30d or 12h [default: until it is revoked].
        #[arg(long, value_parser = parse_duration, value_name = "TIME")]
        expires: Option<Duration>,
        /// Only check.
        #[arg(long)]
        dry_run: bool,
    },
    /// The tokens that were made, those that are over too.
    List(ListArgs),
    /// Take a token no more, from now on.
    #[command(after_help = "Example:\n  wallet-cli token revoke 0123456789abcdef")]
    Revoke {
        /// Its id, as in the list.
        id: String,
    },
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeName {
    /// Everything, tokens included.
    Admin,
    /// What changes nothing.
    Read,
    /// To read, and to be paid: addresses and invoices.
    Receive,
    /// To read, and to pay over channels.
    Pay,
}

impl From<ScopeName> for TokenScope {
    fn from(scope: ScopeName) -> TokenScope {
        match scope {
            ScopeName::Admin => TokenScope::Admin,
            ScopeName::Read => TokenScope::Read,
            ScopeName::Receive => TokenScope::Receive,
            ScopeName::Pay => TokenScope::Pay,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: TokenCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        TokenCommand::Create { name, scope, method, expires, dry_run } => {
            let lifetime = expires.map(|time| prost_types::Duration { seconds: time.as_secs() as i64, nanos: 0 });
            let request = CreateTokenRequest {
                request_id: request_id()?,
                validate_only: dry_run,
                name,
                scopes: scope.into_iter().map(|scope| TokenScope::from(scope).into()).collect(),
                methods: method,
                lifetime,
            };
            let answer = client.token().create_token(request).await?.into_inner();
            output.message(&answer, |answer| created(global, answer))
        }
        TokenCommand::List(args) => {
            let tokens = args.gather(|page_size, page_token| {
                let mut service = client.token();
                let request = ListTokensRequest { page_size, page_token, order: args.order() };
                async move {
                    let page = service.list_tokens(request).await?.into_inner();
                    Ok((page.tokens, page.next_page_token))
                }
            });
            output.list(&tokens.await?, token_table)
        }
        TokenCommand::Revoke { id } => {
            let request = RevokeTokenRequest { request_id: request_id()?, validate_only: false, token_id: id };
            let token = promised(client.token().revoke_token(request).await?.into_inner().token, "token")?;
            output.message(&token, |token| format!("{} ({}) is {}", token.token_id, token.name, state_text(token)))
        }
    }
}

fn created(global: &Global, answer: &CreateTokenResponse) -> String {
    let Some(token) = &answer.token else { return "it can be made".to_owned() };
    let mut rows = vec![("id", token.token_id.clone()), ("token", answer.secret.clone())];
    let here = global.presence().and_then(|presence| presence.tcp_target()).ok();
    let there = global.connect.as_ref().map(|ConnectString(target)| target.clone());
    let token = answer.secret.clone();
    let connect = match there.or(here.map(|target| target.by_host(None))) {
        Some(Target::Tls { address, fingerprint, .. }) => Some(Target::Tls { address, fingerprint, token }),
        Some(Target::Plain { address, .. }) => Some(Target::Plain { address, token }),
        _ => None,
    };
    rows.extend(connect.map(|target| ("connect string", ConnectString(target).to_string())));
    format!("{}\nIt is shown this once: keep it now.", pairs(&rows))
}

fn state_text(token: &Token) -> &'static str {
    match token.state() {
        TokenState::Active => "active",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
        TokenState::Unspecified => "",
    }
}

fn token_table(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        let scope = |scope: i32| {
            let name = TokenScope::try_from(scope).unwrap_or_default().as_str_name();
            name.trim_start_matches("TOKEN_SCOPE_").to_lowercase()
        };
        let scopes = token.scopes.iter().map(|value| scope(*value)).chain(token.methods.iter().cloned());
        let expires = token.expires_at.as_ref().map_or_else(|| "never".to_owned(), ToString::to_string);
        let scopes = scopes.collect::<Vec<_>>().join(" ");
        vec![token.token_id.clone(), token.name.clone(), state_text(token).into(), scopes, expires]
    });
    table(&["id", "name", "state", "may", "expires"], rows)
}
