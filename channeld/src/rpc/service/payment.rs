//! `PaymentService`; its `StreamPayments` is in `stream`.

use proto::v1::payment_service_server::PaymentService;
use proto::v1::{
    DecodePaymentRequestRequest, DecodePaymentRequestResponse, GetPaymentRequest, GetPaymentResponse,
    ListPaymentsRequest, ListPaymentsResponse, QueryRoutesRequest, QueryRoutesResponse, SendPaymentRequest,
    SendPaymentResponse, StreamPaymentsRequest, StreamPaymentsResponse, send_payment_request,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::driver::handle::{Handle, PaymentUpdates};
use crate::node::client::request_refusal;
use crate::node::command::{PaymentTarget, Query, SendPayment};
use crate::node::reply::Reply;
use crate::payment::invoice::parse_invoice;
use crate::rpc::service::{Answers, QUEUE, route, stream};
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};

/// See `proto/channeld/v1/payment.proto`.
pub struct Payments {
    handle: Handle,
}

impl Payments {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Payments {
        Payments { handle }
    }

    async fn read_send(&self, message: &SendPaymentRequest) -> Result<SendPayment, Status> {
        let target = match &message.payee {
            Some(send_payment_request::Payee::PaymentRequest(text)) => PaymentTarget::Invoice(text.clone()),
            Some(send_payment_request::Payee::NodeId(text)) => PaymentTarget::Node(request::node_id("node_id", text)?),
            None => return Err(invalid("payee", "give payment_request or node_id")),
        };
        let amount = message.amount_msat.map(|msat| request::msat("amount_msat", msat)).transpose()?;
        let channel = match message.channel_id.as_str() {
            "" => None,
            text => Some(request::channel_id(&self.handle, "channel_id", text).await?),
        };
        let timeout = request::duration("timeout", message.timeout)?;
        if timeout.is_some_and(|timeout| timeout.subsec_nanos() != 0) {
            return Err(invalid("timeout", "whole seconds"));
        }
        let records = message.custom_records.iter();
        Ok(SendPayment {
            channel,
            max_fee: message.max_fee_msat.map(|msat| request::msat("max_fee_msat", msat)).transpose()?,
            max_parts: message.max_parts,
            max_cltv_delta: message.max_cltv_delta,
            timeout_seconds: timeout.map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
            custom_records: records.map(|record| (record.r#type, record.value.clone())).collect(),
            validate_only: message.validate_only,
            ..SendPayment::new(target, amount)
        })
    }
}

/// Hands on what becomes of a payment until it is final or the client goes.
async fn follow(mut updates: PaymentUpdates, answers: mpsc::Sender<Result<SendPaymentResponse, Status>>) {
    loop {
        let payment = tokio::select! {
            payment = updates.next() => payment,
            () = answers.closed() => return,
        };
        let Some(payment) = payment else { return };
        let answer = SendPaymentResponse { payment: Some(convert::payment(payment)) };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl PaymentService for Payments {
    type SendPaymentStream = Answers<SendPaymentResponse>;
    type StreamPaymentsStream = Answers<StreamPaymentsResponse>;

    async fn decode_payment_request(
        &self,
        request: Request<DecodePaymentRequestRequest>,
    ) -> Result<Response<DecodePaymentRequestResponse>, Status> {
        let text = request.into_inner().payment_request;
        let decoded = parse_invoice(&text, self.handle.network()).map_err(request_refusal).map_err(refused)?;
        Ok(Response::new(convert::payment_request(decoded)))
    }

    async fn send_payment(
        &self,
        request: Request<SendPaymentRequest>,
    ) -> Result<Response<Self::SendPaymentStream>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("SendPayment", &id, &message)?.filter(|_| !message.validate_only);
        let payment = self.read_send(&message).await?;
        let updates = self.handle.send_payment(payment, key).await.map_err(refused)?;
        let (answers, stream) = mpsc::channel(QUEUE);
        tokio::spawn(follow(updates, answers));
        Ok(Response::new(Answers::new(stream)))
    }

    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Result<Response<GetPaymentResponse>, Status> {
        let hash = request::id32("payment_hash", &request.into_inner().payment_hash)?;
        match self.handle.query(Query::Payment(hash)).await.map_err(refused)? {
            Reply::Payment(payment) => {
                Ok(Response::new(GetPaymentResponse { payment: Some(convert::payment(*payment)) }))
            }
            _ => Err(internal("a payment expected")),
        }
    }

    async fn list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("payments", message.page_size, &message.page_token, message.order)?;
        let reply = self.handle.query(Query::ListPayments(page)).await.map_err(refused)?;
        let Reply::Payments(paged) = reply else { return Err(internal("payments expected")) };
        Ok(Response::new(ListPaymentsResponse {
            payments: paged.items.into_iter().map(convert::payment_summary).collect(),
            next_page_token: request::page_token("payments", page.newest_first, paged.next),
        }))
    }

    async fn query_routes(
        &self,
        request: Request<QueryRoutesRequest>,
    ) -> Result<Response<QueryRoutesResponse>, Status> {
        route::query(&self.handle, request.into_inner()).await.map(Response::new)
    }

    async fn stream_payments(
        &self,
        request: Request<Streaming<StreamPaymentsRequest>>,
    ) -> Result<Response<Self::StreamPaymentsStream>, Status> {
        let answers = stream::start(self.handle.clone(), request.into_inner()).await?;
        Ok(Response::new(answers))
    }
}
