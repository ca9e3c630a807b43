//! `ChannelService`.

use crate::units::CltvDelta;
use proto::v1::channel_service_server::ChannelService;
use proto::v1::{
    AuditChannelsRequest, AuditChannelsResponse, ChannelType, CloseChannelRequest, CloseChannelResponse, CloseMode,
    GetChannelRequest, GetChannelResponse, ListChannelsRequest, ListChannelsResponse, OpenChannelRequest,
    OpenChannelResponse, Order, PlanCloseRequest, PlanCloseResponse, UpdateChannelPolicyRequest,
    UpdateChannelPolicyResponse, open_channel_request,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::node::command::{AmountOrAll, CloseChannel, Command, OpenChannel, Query, UpdateChannelPolicy};
use crate::node::reply::Reply;
use crate::payment::forward::PolicyUpdate;
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};

/// See `proto/channeld/v1/channel.proto`.
pub struct Channels {
    handle: Handle,
}

impl Channels {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Channels {
        Channels { handle }
    }
}

fn read_open(message: &OpenChannelRequest) -> Result<OpenChannel, Status> {
    let capacity = match message.amount {
        Some(open_channel_request::Amount::CapacitySat(sat)) => AmountOrAll::Sat(request::sat("capacity_sat", sat)?),
        Some(open_channel_request::Amount::Max(true)) => AmountOrAll::All,
        _ => return Err(invalid("amount", "give capacity_sat, or max as true")),
    };
    let kind = ChannelType::try_from(message.channel_type);
    Ok(OpenChannel {
        peer: request::node_id("peer_node_id", &message.peer_node_id)?,
        capacity,
        push: request::msat("push_msat", message.push_msat)?,
        funding_feerate: request::feerate(message.feerate_per_kw)?,
        announce: message.announce,
        without_anchors: match kind.map_err(|_| invalid("channel_type", "not a value of ChannelType"))? {
            ChannelType::StaticRemotekey => true,
            ChannelType::Unspecified | ChannelType::Anchors => false,
        },
        validate_only: message.validate_only,
    })
}

/// The fields of a policy, as `update_mask` names them.
const POLICY_FIELDS: [&str; 5] =
    ["fee_base_msat", "fee_proportional_millionths", "cltv_expiry_delta", "htlc_minimum_msat", "htlc_maximum_msat"];

fn read_policy(message: &UpdateChannelPolicyRequest) -> Result<PolicyUpdate, Status> {
    let paths = message.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Err(invalid("update_mask", format!("name what changes: {}, or *", POLICY_FIELDS.join(", "))));
    }
    if let Some(unknown) = paths.iter().find(|path| *path != "*" && !POLICY_FIELDS.contains(&path.as_str())) {
        return Err(invalid("update_mask", format!("{unknown:?} is none of {}, *", POLICY_FIELDS.join(", "))));
    }
    let policy = message.policy.as_ref().ok_or_else(|| invalid("policy", "is missing"))?;
    let names = |field: &str| paths.iter().any(|path| path == "*" || path == field);
    let mut update = PolicyUpdate::default();
    if names("fee_base_msat") {
        let fee = u32::try_from(policy.fee_base_msat).map_err(|_| invalid("fee_base_msat", "above 4,294,967,295"))?;
        update.fee_base_msat = Some(fee);
    }
    if names("fee_proportional_millionths") {
        update.fee_proportional_millionths = Some(policy.fee_proportional_millionths);
    }
    if names("cltv_expiry_delta") {
        let delta = u16::try_from(policy.cltv_expiry_delta).map_err(|_| invalid("cltv_expiry_delta", "above 2,016"))?;
        update.cltv_expiry_delta = Some(CltvDelta::new(delta));
    }
    if names("htlc_minimum_msat") {
        update.htlc_minimum = Some(request::msat("htlc_minimum_msat", policy.htlc_minimum_msat)?);
    }
    if names("htlc_maximum_msat") {
        update.htlc_maximum = Some(request::msat("htlc_maximum_msat", policy.htlc_maximum_msat)?);
    }
    Ok(update)
}

#[tonic::async_trait]
impl ChannelService for Channels {
    async fn open_channel(
        &self,
        request: Request<OpenChannelRequest>,
    ) -> Result<Response<OpenChannelResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("OpenChannel", &id, &message)?.filter(|_| !message.validate_only);
        let command = Command::OpenChannel(read_open(&message)?);
        match self.handle.command(command, key).await.map_err(refused)? {
            Reply::Channel(channel) => {
                Ok(Response::new(OpenChannelResponse { channel: Some(convert::channel(*channel)) }))
            }
            Reply::Done if message.validate_only => Ok(Response::new(OpenChannelResponse::default())),
            _ => Err(internal("a channel expected")),
        }
    }

    async fn get_channel(&self, request: Request<GetChannelRequest>) -> Result<Response<GetChannelResponse>, Status> {
        let message = request.into_inner();
        let channel = request::channel_id(&self.handle, "channel_id", &message.channel_id).await?;
        match self.handle.query(Query::Channel(channel)).await.map_err(refused)? {
            Reply::Channel(channel) => {
                Ok(Response::new(GetChannelResponse { channel: Some(convert::channel(*channel)) }))
            }
            _ => Err(internal("a channel expected")),
        }
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("channels", message.page_size, &message.page_token, message.order)?;
        let peer = match message.peer_node_id.as_str() {
            "" => None,
            text => Some(request::node_id("peer_node_id", text)?),
        };
        let reply = self.handle.query(Query::ListChannels { peer, page }).await.map_err(refused)?;
        let Reply::Channels(paged) = reply else { return Err(internal("channels expected")) };
        Ok(Response::new(ListChannelsResponse {
            channels: paged.items.into_iter().map(convert::channel).collect(),
            next_page_token: request::page_token("channels", page.newest_first, paged.next),
        }))
    }

    async fn close_channel(
        &self,
        request: Request<CloseChannelRequest>,
    ) -> Result<Response<CloseChannelResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("CloseChannel", &id, &message)?.filter(|_| !message.validate_only);
        let mode = CloseMode::try_from(message.mode).map_err(|_| invalid("mode", "not a value of CloseMode"))?;
        let command = Command::CloseChannel(CloseChannel {
            channel: request::channel_id(&self.handle, "channel_id", &message.channel_id).await?,
            force: mode == CloseMode::Force,
            address: Some(message.address).filter(|address| !address.is_empty()),
            feerate: request::feerate(message.feerate_per_kw)?,
            validate_only: message.validate_only,
        });
        match self.handle.command(command, key).await.map_err(refused)? {
            Reply::Channel(_) | Reply::Done if message.validate_only => {
                Ok(Response::new(CloseChannelResponse::default()))
            }
            Reply::Channel(channel) => {
                Ok(Response::new(CloseChannelResponse { channel: Some(convert::channel(*channel)) }))
            }
            _ => Err(internal("a channel expected")),
        }
    }
    async fn update_channel_policy(
        &self,
        request: Request<UpdateChannelPolicyRequest>,
    ) -> Result<Response<UpdateChannelPolicyResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("UpdateChannelPolicy", &id, &message)?.filter(|_| !message.validate_only);
        let update = read_policy(&message)?;
        let channel = request::channel_id(&self.handle, "channel_id", &message.channel_id).await?;
        let before = match self.handle.query(Query::Channel(channel)).await.map_err(refused)? {
            Reply::Channel(info) => info.policy,
            _ => return Err(internal("a channel expected")),
        };
        let validate_only = message.validate_only;
        let command = Command::UpdateChannelPolicy(UpdateChannelPolicy { channel, update, validate_only });
        match self.handle.command(command, key).await.map_err(refused)? {
            Reply::Channel(_) if validate_only => Ok(update.over(before)),
            Reply::Channel(info) => Ok(info.policy),
            _ => Err(internal("a channel expected")),
        }
        .map(|policy| Response::new(UpdateChannelPolicyResponse { policy: Some(convert::policy(&policy)) }))
    }

    async fn plan_close(&self, request: Request<PlanCloseRequest>) -> Result<Response<PlanCloseResponse>, Status> {
        let message = request.into_inner();
        let channel = request::channel_id(&self.handle, "channel_id", &message.channel_id).await?;
        match self.handle.query(Query::PlanClose(channel)).await.map_err(refused)? {
            Reply::ClosePlan(plan) => Ok(Response::new(convert::close_plan(plan))),
            _ => Err(internal("a plan expected")),
        }
    }

    async fn audit_channels(
        &self,
        request: Request<AuditChannelsRequest>,
    ) -> Result<Response<AuditChannelsResponse>, Status> {
        let message = request.into_inner();
        let order = Order::OldestFirst.into();
        let page = request::page("audits", message.page_size, &message.page_token, order)?;
        let channel = match message.channel_id.as_str() {
            "" => None,
            text => Some(request::channel_id(&self.handle, "channel_id", text).await?),
        };
        let reply = self.handle.query(Query::AuditChannels { channel, page }).await.map_err(refused)?;
        let Reply::Audits(paged) = reply else { return Err(internal("audits expected")) };
        Ok(Response::new(AuditChannelsResponse {
            audits: paged.items.into_iter().map(convert::audit).collect(),
            next_page_token: request::page_token("audits", false, paged.next),
        }))
    }
}
