//! `wallet-cli wallet`.

use clap::Subcommand;
use proto::v1::{
    BumpKind, BumpTransactionRequest, BumpTransactionResponse, CreateAddressRequest, GetBalancesRequest,
    ListTransactionsRequest, ListUnspentOutputsRequest, SendCoinsRequest, SendCoinsResponse, UnspentOutput,
    WalletTransaction, send_coins_request,
};

use crate::args::Global;
use crate::client::{Client, request_id};
use crate::commands::ListArgs;
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{pairs, table};

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum WalletCommand {
    /// A fresh address.
    Address,
    /// What can be spent, and what is kept or waits.
    Balance,
    /// The coins.
    Coins(ListArgs),
    /// The transactions.
    Transactions(ListArgs),
    /// Send coins.
    #[command(
        after_help = "Examples:\n  wallet-cli wallet send bcrt1q… 50000\n  wallet-cli wallet send bcrt1q… --all --dry-run"
    )]
    Send {
        /// Where to.
        address: String,
        /// How much, in satoshi unless it says otherwise; the fee comes on top.
        #[arg(value_parser = money::parse_sat, required_unless_present = "all", conflicts_with = "all")]
        amount: Option<u64>,
        /// All that can be spent; the fee goes off it.
        #[arg(long)]
        all: bool,
        /// The feerate in satoshi per 1,000 weight units [default: the node's estimate].
        #[arg(long, value_name = "SAT")]
        feerate_per_kw: Option<u32>,
        /// Only say what it would cost.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make an unconfirmed transaction confirm sooner.
    ///
    /// A transaction that this wallet made alone is replaced by one that pays more. One that cannot be replaced (a channel's
    /// funding, a cooperative close, a payment to this wallet) gets a child that pays for both. The claims and the
    /// commitment of a channel that was closed by force can be bumped as well: the node does that by itself as deadlines
    /// come near, this makes it do it now.
    #[command(
        after_help = "Examples:\n  wallet-cli wallet transactions                         shows what is unconfirmed\n  wallet-cli wallet bump TXID                            to the estimate for the next block\n  wallet-cli wallet bump TXID --feerate-per-kw 5000 --max-fee 2000\n  wallet-cli wallet bump TXID --dry-run                  what it would cost"
    )]
    Bump {
        /// The transaction.
        txid: String,
        /// The feerate it is to have, in satoshi per 1,000 weight units [default: the node's estimate for the next block].
        #[arg(long, value_name = "SAT")]
        feerate_per_kw: Option<u32>,
        /// The most that the new transaction may pay, in satoshi unless it says otherwise [default: what it is worth].
        #[arg(long, value_parser = money::parse_sat, value_name = "AMOUNT")]
        max_fee: Option<u64>,
        /// Take what is added from what the payee gets: for a payment of all coins, which leaves nothing else to pay with.
        #[arg(long)]
        from_payment: bool,
        /// Only say what it would cost.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: WalletCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        WalletCommand::Address => {
            let request = CreateAddressRequest { request_id: request_id()?, validate_only: false };
            let answer = client.wallet().create_address(request).await?.into_inner();
            output.message(&answer, |answer| answer.address.clone())
        }
        WalletCommand::Balance => {
            let balances = client.node().get_balances(GetBalancesRequest {}).await?.into_inner();
            output.message(&balances, |balances| {
                pairs(&[
                    ("spendable", money::sat(balances.spendable_sat)),
                    ("confirmed", money::sat(balances.confirmed_sat)),
                    ("unconfirmed", money::sat(balances.unconfirmed_sat)),
                    ("immature", money::sat(balances.immature_sat)),
                    ("kept for closing", money::sat(balances.reserved_sat)),
                ])
            })
        }
        WalletCommand::Coins(args) => output.list(&coins(&client, &args).await?, coin_table),
        WalletCommand::Transactions(args) => {
            let transactions = args.gather(|page_size, page_token| {
                let mut wallet = client.wallet();
                let request = ListTransactionsRequest { page_size, page_token, order: args.order() };
                async move {
                    let page = wallet.list_transactions(request).await?.into_inner();
                    Ok((page.transactions, page.next_page_token))
                }
            });
            output.list(&transactions.await?, transaction_table)
        }
        WalletCommand::Send { address, amount, all, feerate_per_kw, dry_run } => {
            let amount = match amount {
                Some(sat) if !all => send_coins_request::Amount::AmountSat(sat),
                _ => send_coins_request::Amount::All(true),
            };
            let request = SendCoinsRequest {
                request_id: request_id()?,
                validate_only: dry_run,
                address,
                amount: Some(amount),
                feerate_per_kw,
            };
            output.message(&client.wallet().send_coins(request).await?.into_inner(), sent)
        }
        WalletCommand::Bump { txid, feerate_per_kw, max_fee, from_payment, dry_run } => {
            let request = BumpTransactionRequest {
                request_id: request_id()?,
                validate_only: dry_run,
                txid,
                feerate_per_kw,
                max_fee_sat: max_fee,
                from_payment,
            };
            let answer = client.wallet().bump_transaction(request).await.map_err(|status| {
                let mut failure = Failure::from(status);
                if failure.exit == Exit::Insufficient && !from_payment {
                    failure.next.push_str("; if the payee may get less, take it from the payment with --from-payment");
                }
                failure
            })?;
            output.message(&answer.into_inner(), bumped)
        }
    }
}

/// The coins of a wallet.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn coins(client: &Client, args: &ListArgs) -> Result<Vec<UnspentOutput>, Failure> {
    let coins = args.gather(|page_size, page_token| {
        let mut wallet = client.wallet();
        let request = ListUnspentOutputsRequest { page_size, page_token, order: args.order() };
        async move {
            let page = wallet.list_unspent_outputs(request).await?.into_inner();
            Ok((page.unspent_outputs, page.next_page_token))
        }
    });
    coins.await
}

fn block(height: Option<u32>) -> String {
    height.map_or_else(|| "unconfirmed".into(), |height| height.to_string())
}

fn coin_table(coins: &[UnspentOutput]) -> String {
    let total = coins.iter().map(|coin| coin.amount_sat).sum();
    let rows = coins.iter().map(|coin| {
        let outpoint = coin.outpoint.clone().unwrap_or_default();
        let locked = if coin.locked { "locked" } else { "" };
        vec![
            format!("{}:{}", outpoint.txid, outpoint.output_index),
            money::grouped(coin.amount_sat),
            block(coin.block_height),
            locked.to_string(),
        ]
    });
    let text = table(&["coin", ">sat", ">block", ""], rows);
    format!("{text}\n{} coins, {}", coins.len(), money::sat(total))
}

fn transaction_table(transactions: &[WalletTransaction]) -> String {
    let rows = transactions.iter().map(|transaction| {
        vec![
            transaction.txid.clone(),
            money::grouped(transaction.received_sat),
            money::grouped(transaction.sent_sat),
            transaction.fee_sat.map(money::grouped).unwrap_or_default(),
            block(transaction.block_height),
        ]
    });
    table(&["transaction", ">received", ">sent", ">fee", ">block"], rows)
}

fn sent(answer: &SendCoinsResponse) -> String {
    let costs = format!("{} arrive, {} fee", money::sat(answer.amount_sat), money::sat(answer.fee_sat));
    if answer.txid.is_empty() { format!("would be sent: {costs}") } else { format!("{}\n{costs}", answer.txid) }
}

fn bumped(answer: &BumpTransactionResponse) -> String {
    let how = match answer.kind() {
        BumpKind::Child => "a child that pays for both".to_owned(),
        BumpKind::Claim if answer.replaced_txid.is_empty() => "a child of the commitment".to_owned(),
        _ => format!("in place of {}", answer.replaced_txid),
    };
    let costs = format!("{} fee, {how}", money::sat(answer.fee_sat));
    if answer.txid.is_empty() { format!("would be made: {costs}") } else { format!("{}\n{costs}", answer.txid) }
}
