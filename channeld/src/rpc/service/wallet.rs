//! `WalletService`.

use proto::v1::wallet_service_server::WalletService;
use proto::v1::{
    BumpTransactionRequest, BumpTransactionResponse, CreateAddressRequest, CreateAddressResponse,
    ListTransactionsRequest, ListTransactionsResponse, ListUnspentOutputsRequest, ListUnspentOutputsResponse,
    SendCoinsRequest, SendCoinsResponse, send_coins_request,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::node::command::{AmountOrAll, BumpTransaction, Command, Query, SendCoins};
use crate::node::reply::Reply;
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};

/// See `proto/channeld/v1/wallet.proto`.
pub struct Wallets {
    handle: Handle,
}

impl Wallets {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Wallets {
        Wallets { handle }
    }
}

fn read_send_coins(message: &SendCoinsRequest) -> Result<SendCoins, Status> {
    if message.address.is_empty() {
        return Err(invalid("address", "is missing"));
    }
    let amount = match message.amount {
        Some(send_coins_request::Amount::AmountSat(0)) => return Err(invalid("amount_sat", "must be at least 1")),
        Some(send_coins_request::Amount::AmountSat(sat)) => AmountOrAll::Sat(request::sat("amount_sat", sat)?),
        Some(send_coins_request::Amount::All(true)) => AmountOrAll::All,
        _ => return Err(invalid("amount", "give amount_sat, or all as true")),
    };
    Ok(SendCoins {
        address: message.address.clone(),
        amount,
        feerate: request::feerate(message.feerate_per_kw)?,
        validate_only: message.validate_only,
    })
}

#[tonic::async_trait]
impl WalletService for Wallets {
    async fn create_address(
        &self,
        request: Request<CreateAddressRequest>,
    ) -> Result<Response<CreateAddressResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("CreateAddress", &id, &message)?;
        if message.validate_only {
            return Ok(Response::new(CreateAddressResponse::default()));
        }
        match self.handle.command(Command::CreateAddress, key).await.map_err(refused)? {
            Reply::Address(address) => Ok(Response::new(CreateAddressResponse { address })),
            _ => Err(internal("an address expected")),
        }
    }

    async fn list_unspent_outputs(
        &self,
        request: Request<ListUnspentOutputsRequest>,
    ) -> Result<Response<ListUnspentOutputsResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("unspent_outputs", message.page_size, &message.page_token, message.order)?;
        let reply = self.handle.query(Query::ListUnspentOutputs(page)).await.map_err(refused)?;
        let Reply::UnspentOutputs(paged) = reply else { return Err(internal("coins expected")) };
        Ok(Response::new(ListUnspentOutputsResponse {
            unspent_outputs: paged.items.into_iter().map(convert::unspent_output).collect(),
            next_page_token: request::page_token("unspent_outputs", page.newest_first, paged.next),
        }))
    }

    async fn list_transactions(
        &self,
        request: Request<ListTransactionsRequest>,
    ) -> Result<Response<ListTransactionsResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("transactions", message.page_size, &message.page_token, message.order)?;
        let reply = self.handle.query(Query::ListTransactions(page)).await.map_err(refused)?;
        let Reply::Transactions(paged) = reply else { return Err(internal("transactions expected")) };
        Ok(Response::new(ListTransactionsResponse {
            transactions: paged.items.into_iter().map(convert::wallet_transaction).collect(),
            next_page_token: request::page_token("transactions", page.newest_first, paged.next),
        }))
    }

    async fn send_coins(&self, request: Request<SendCoinsRequest>) -> Result<Response<SendCoinsResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("SendCoins", &id, &message)?;
        let command = Command::SendCoins(read_send_coins(&message)?);
        let reply = self.handle.command(command, key.filter(|_| !message.validate_only)).await.map_err(refused)?;
        let Reply::Sent(sent) = reply else { return Err(internal("a transaction expected")) };
        Ok(Response::new(SendCoinsResponse {
            txid: if message.validate_only { String::new() } else { sent.txid.to_string() },
            fee_sat: sent.fee.to_sat(),
            amount_sat: sent.amount.to_sat(),
        }))
    }
    async fn bump_transaction(
        &self,
        request: Request<BumpTransactionRequest>,
    ) -> Result<Response<BumpTransactionResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("BumpTransaction", &id, &message)?;
        let validate_only = message.validate_only;
        let max_fee_sat = message.max_fee_sat.map(|sat| request::sat("max_fee_sat", sat)).transpose()?;
        let command = Command::BumpTransaction(BumpTransaction {
            txid: request::id("txid", &message.txid, "64 hexadecimal digits")?,
            feerate: request::feerate(message.feerate_per_kw)?,
            max_fee_sat,
            from_payment: message.from_payment,
            validate_only,
        });
        match self.handle.command(command, key.filter(|_| !validate_only)).await.map_err(refused)? {
            Reply::Bumped(bumped) => Ok(Response::new(convert::bumped(bumped, validate_only))),
            _ => Err(internal("a transaction expected")),
        }
    }
}
