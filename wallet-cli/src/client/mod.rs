//! The daemon's gRPC: where it is found, how it is trusted, its services.

mod connect;
mod pin;
mod presence;
mod wait;

pub use connect::{ConnectString, Target};
pub use pin::{ServedCertificate, served_certificate};
pub use presence::{Presence, default_data_dir};
pub use wait::{caught_up, channel_until, channels_ready, synced};

use proto::v1::channel_service_client::ChannelServiceClient;
use proto::v1::dev_service_client::DevServiceClient;
use proto::v1::graph_service_client::GraphServiceClient;
use proto::v1::invoice_service_client::InvoiceServiceClient;
use proto::v1::node_service_client::NodeServiceClient;
use proto::v1::payment_service_client::PaymentServiceClient;
use proto::v1::peer_service_client::PeerServiceClient;
use proto::v1::token_service_client::TokenServiceClient;
use proto::v1::wallet_service_client::WalletServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::failure::Failure;

/// A connection with its token.
pub type Link = InterceptedService<Channel, Bearer>;

/// Puts the token on every call, where there is one.
#[derive(Clone)]
pub struct Bearer {
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A daemon that one is connected to. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where no daemon answers, or it is not the one that was meant.
    pub async fn connect(target: &Target) -> Result<Client, Failure> {
        let channel = connect::channel(target).await?;
        let token = target.token().map(|token| format!("Bearer {token}").parse()).transpose();
        let token = token.map_err(|_| Failure::usage("the token holds what no header may", "copy it again"))?;
        Ok(Client { channel, bearer: Bearer { token } })
    }

    /// The connection itself, for services beside those below.
    pub fn link(&self) -> Link {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// `NodeService`.
    pub fn node(&self) -> NodeServiceClient<Link> {
        NodeServiceClient::new(self.link())
    }

    /// `WalletService`.
    pub fn wallet(&self) -> WalletServiceClient<Link> {
        WalletServiceClient::new(self.link())
    }

    /// `PeerService`.
    pub fn peer(&self) -> PeerServiceClient<Link> {
        PeerServiceClient::new(self.link())
    }

    /// `GraphService`.
    pub fn graph(&self) -> GraphServiceClient<Link> {
        GraphServiceClient::new(self.link())
    }

    /// `ChannelService`.
    pub fn channel(&self) -> ChannelServiceClient<Link> {
        ChannelServiceClient::new(self.link())
    }

    /// `InvoiceService`.
    pub fn invoice(&self) -> InvoiceServiceClient<Link> {
        InvoiceServiceClient::new(self.link())
    }

    /// `PaymentService`.
    pub fn payment(&self) -> PaymentServiceClient<Link> {
        PaymentServiceClient::new(self.link())
    }

    /// `TokenService`.
    pub fn token(&self) -> TokenServiceClient<Link> {
        TokenServiceClient::new(self.link())
    }

    /// `DevService`.
    pub fn dev(&self) -> DevServiceClient<Link> {
        DevServiceClient::new(self.link())
    }
}

/// A fresh `request_id`: with it a call that is repeated by the transport is done once.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn request_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::defect(format!("no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}
