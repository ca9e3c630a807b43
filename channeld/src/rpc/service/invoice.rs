//! `InvoiceService`.

use std::time::Duration;

use proto::v1::invoice_service_server::InvoiceService;
use proto::v1::{
    CancelInvoiceRequest, CancelInvoiceResponse, CreateInvoiceRequest, CreateInvoiceResponse, GetInvoiceRequest,
    GetInvoiceResponse, ListInvoicesRequest, ListInvoicesResponse, SettleInvoiceRequest, SettleInvoiceResponse,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::node::command::{Command, CreateInvoice, Query};
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::payment::receive::InvoiceStatus;
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};
use crate::units::{PaymentHash, Preimage};

/// The longest description: what fits into a field of BOLT 11.
const LONGEST_DESCRIPTION: usize = 639;
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(31_536_000);

/// See `proto/channeld/v1/invoice.proto`.
pub struct Invoices {
    handle: Handle,
}

impl Invoices {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Invoices {
        Invoices { handle }
    }

    async fn check_open(&self, payment_hash: PaymentHash) -> Result<(), Refusal> {
        match self.handle.query(Query::Invoice(payment_hash)).await? {
            Reply::Invoice(invoice)
                if matches!(invoice.status, InvoiceStatus::Open | InvoiceStatus::Accepted { .. }) =>
            {
                Ok(())
            }
            _ => Err(Refusal::InvoiceNotOpen),
        }
    }

    async fn check_accepted(&self, payment_hash: PaymentHash) -> Result<(), Refusal> {
        match self.handle.query(Query::Invoice(payment_hash)).await? {
            Reply::Invoice(invoice) => match invoice.status {
                InvoiceStatus::Accepted { .. } => Ok(()),
                InvoiceStatus::Open => Err(Refusal::InvoiceNotAccepted),
                _ => Err(Refusal::InvoiceNotOpen),
            },
            _ => Err(Refusal::InvoiceNotFound),
        }
    }
}

fn read_create(message: &CreateInvoiceRequest) -> Result<CreateInvoice, Status> {
    let amount = match message.amount_msat {
        Some(0) => return Err(invalid("amount_msat", "must be at least 1; leave it out for any amount")),
        Some(msat) => Some(request::msat("amount_msat", msat)?),
        None => None,
    };
    if message.description.len() > LONGEST_DESCRIPTION {
        return Err(invalid("description", format!("longer than {LONGEST_DESCRIPTION} bytes")));
    }
    let expiry = request::duration("expiry", message.expiry)?.unwrap_or(HOUR);
    if !(Duration::from_secs(1)..=YEAR).contains(&expiry) {
        return Err(invalid("expiry", "must be 1 second to 1 year"));
    }
    let delta = message.min_final_cltv_expiry_delta.map(u16::try_from).transpose();
    Ok(CreateInvoice {
        amount,
        description: message.description.clone(),
        expiry_seconds: expiry.as_secs() as u32,
        preimage: match message.preimage.as_str() {
            "" => None,
            text => Some(Preimage(request::id32::<PaymentHash>("preimage", text)?.0)),
        },
        payment_hash: match message.payment_hash.as_str() {
            "" => None,
            text => Some(request::id32("payment_hash", text)?),
        },
        min_final_cltv_expiry_delta: delta.map_err(|_| invalid("min_final_cltv_expiry_delta", "above 65,535"))?,
        blinded: message.blinded,
    })
}

#[tonic::async_trait]
impl InvoiceService for Invoices {
    async fn create_invoice(
        &self,
        request: Request<CreateInvoiceRequest>,
    ) -> Result<Response<CreateInvoiceResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("CreateInvoice", &id, &message)?;
        let command = Command::CreateInvoice(read_create(&message)?);
        if message.validate_only {
            return Ok(Response::new(CreateInvoiceResponse::default()));
        }
        match self.handle.command(command, key).await.map_err(refused)? {
            Reply::Invoice(invoice) => {
                Ok(Response::new(CreateInvoiceResponse { invoice: Some(convert::invoice(*invoice)) }))
            }
            _ => Err(internal("an invoice expected")),
        }
    }

    async fn get_invoice(&self, request: Request<GetInvoiceRequest>) -> Result<Response<GetInvoiceResponse>, Status> {
        let hash = request::id32("payment_hash", &request.into_inner().payment_hash)?;
        match self.handle.query(Query::Invoice(hash)).await.map_err(refused)? {
            Reply::Invoice(invoice) => {
                Ok(Response::new(GetInvoiceResponse { invoice: Some(convert::invoice(*invoice)) }))
            }
            _ => Err(internal("an invoice expected")),
        }
    }

    async fn list_invoices(
        &self,
        request: Request<ListInvoicesRequest>,
    ) -> Result<Response<ListInvoicesResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("invoices", message.page_size, &message.page_token, message.order)?;
        let reply = self.handle.query(Query::ListInvoices(page)).await.map_err(refused)?;
        let Reply::Invoices(paged) = reply else { return Err(internal("invoices expected")) };
        Ok(Response::new(ListInvoicesResponse {
            invoices: paged.items.into_iter().map(convert::invoice).collect(),
            next_page_token: request::page_token("invoices", page.newest_first, paged.next),
        }))
    }

    async fn settle_invoice(
        &self,
        request: Request<SettleInvoiceRequest>,
    ) -> Result<Response<SettleInvoiceResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("SettleInvoice", &id, &message)?;
        let preimage = Preimage(request::id32::<PaymentHash>("preimage", &message.preimage)?.0);
        if message.validate_only {
            self.check_accepted(preimage.payment_hash()).await.map_err(refused)?;
            return Ok(Response::new(SettleInvoiceResponse::default()));
        }
        let settled = match self.handle.command(Command::SettleInvoice { preimage }, key).await {
            // The node forgets ended invoices; the archive has them.
            Err(Refusal::InvoiceNotFound) => {
                let known = self.check_accepted(preimage.payment_hash()).await;
                known.and(Err(Refusal::InvoiceNotFound)).map_err(refused)?
            }
            answer => answer.map_err(refused)?,
        };
        match settled {
            Reply::Invoice(invoice) => {
                Ok(Response::new(SettleInvoiceResponse { invoice: Some(convert::invoice(*invoice)) }))
            }
            _ => Err(internal("an invoice expected")),
        }
    }

    async fn cancel_invoice(
        &self,
        request: Request<CancelInvoiceRequest>,
    ) -> Result<Response<CancelInvoiceResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("CancelInvoice", &id, &message)?;
        let payment_hash = request::id32("payment_hash", &message.payment_hash)?;
        if message.validate_only {
            self.check_open(payment_hash).await.map_err(refused)?;
            return Ok(Response::new(CancelInvoiceResponse::default()));
        }
        let cancelled = match self.handle.command(Command::CancelInvoice { payment_hash }, key).await {
            // The node forgets ended invoices; the archive has them.
            Err(Refusal::InvoiceNotFound) => {
                self.check_open(payment_hash).await.and(Err(Refusal::InvoiceNotFound)).map_err(refused)?
            }
            answer => answer.map_err(refused)?,
        };
        match cancelled {
            Reply::Invoice(invoice) => {
                Ok(Response::new(CancelInvoiceResponse { invoice: Some(convert::invoice(*invoice)) }))
            }
            _ => Err(internal("an invoice expected")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invoice_is_checked_before_the_node_sees_it() {
        let good =
            CreateInvoiceRequest { amount_msat: Some(1_000), description: "coffee".into(), ..Default::default() };
        assert_eq!(read_create(&good).unwrap().expiry_seconds, 3_600);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for wrong in [
            CreateInvoiceRequest { amount_msat: Some(0), ..Default::default() },
            CreateInvoiceRequest { amount_msat: Some(u64::MAX), ..Default::default() },
            CreateInvoiceRequest { description: "x".repeat(640), ..Default::default() },
            CreateInvoiceRequest { expiry: seconds(0), ..Default::default() },
            CreateInvoiceRequest { expiry: seconds(31_536_001), ..Default::default() },
            CreateInvoiceRequest { preimage: "00".into(), ..Default::default() },
            CreateInvoiceRequest { payment_hash: "00".into(), ..Default::default() },
            CreateInvoiceRequest { min_final_cltv_expiry_delta: Some(65_536), ..Default::default() },
        ] {
            assert_eq!(read_create(&wrong).unwrap_err().code(), tonic::Code::InvalidArgument, "{wrong:?}");
        }
    }
}
