//! `PaymentService.QueryRoutes`: what the pathfinder would answer now, and which edges it cannot use. Nothing of it runs on
//! the node's thread but the look at our own channels.

use proto::v1::{
    ExcludedEdge, ExclusionReason, PaymentRoute, QueryRoutesRequest, QueryRoutesResponse, query_routes_request,
};
use tonic::Status;

use crate::driver::handle::Handle;
use crate::graph::Route;
use crate::node::client::request_refusal;
use crate::node::command::{Page, Query};
use crate::node::path_query;
use crate::node::refusal::Refusal;
use crate::node::reply::{ChannelInfo, Reply};
use crate::payment::invoice::{HintHop, parse_invoice};
use crate::payment::send::{
    BLOCKS_IN_FLIGHT, DEFAULT_MAX_CLTV_DELTA, DEFAULT_PARTS, KEYSEND_FINAL_CLTV_DELTA, MAX_PARTS, default_max_fee,
};
use crate::router::{FirstHop, NoRoute, RouteHint, RouteHintHop, RouteQuery, WhyNot};
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};
use crate::units::{ChannelId, Msat, NodeId};

/// Excluded edges that are told where the caller does not say, and at most.
const EXCLUDED: u32 = 100;
const MOST_EXCLUDED: u32 = 1_000;

/// Answers one query.
pub async fn query(handle: &Handle, message: QueryRoutesRequest) -> Result<QueryRoutesResponse, Status> {
    let limit = message.max_excluded_edges.unwrap_or(EXCLUDED);
    if limit > MOST_EXCLUDED {
        return Err(invalid("max_excluded_edges", format!("more than {MOST_EXCLUDED}")));
    }
    let query = read(handle, &message).await?;
    let explained =
        handle.pathfinder().query(query, limit as usize).await.map_err(|_| refused(Refusal::TooManyRequests))?;
    let excluded_edges = explained.excluded.iter().map(excluded).collect();
    Ok(match explained.routes {
        Ok(routes) => QueryRoutesResponse {
            fee_msat: routes.iter().map(|route| route.fee().msat()).sum(),
            routes: routes.iter().map(route).collect(),
            no_route_reason: String::new(),
            excluded_edges,
        },
        Err(NoRoute::Busy) => return Err(refused(Refusal::TooManyRequests)),
        Err(reason) => {
            QueryRoutesResponse { no_route_reason: reason.to_string(), excluded_edges, ..Default::default() }
        }
    })
}

async fn read(handle: &Handle, message: &QueryRoutesRequest) -> Result<RouteQuery, Status> {
    use query_routes_request::Payee;
    let (mut hints, mut blinded) = (Vec::new(), Vec::new());
    let (payee, asked, delta) = match &message.payee {
        Some(Payee::NodeId(text)) => (request::node_id("node_id", text)?, None, KEYSEND_FINAL_CLTV_DELTA),
        Some(Payee::PaymentRequest(text)) => {
            let invoice = parse_invoice(text, handle.network()).map_err(request_refusal).map_err(refused)?;
            hints = invoice.route_hints;
            blinded = invoice.blinded_paths;
            (invoice.payee, invoice.amount, invoice.min_final_cltv_expiry_delta.blocks())
        }
        None => return Err(invalid("payee", "give node_id or payment_request")),
    };
    let given = message.amount_msat.map(|msat| request::msat("amount_msat", msat)).transpose()?;
    let amount = given.or(asked).filter(|amount| *amount > Msat::ZERO);
    let amount = amount.ok_or_else(|| invalid("amount_msat", "needed, and at least 1"))?;
    let wanted = match message.channel_id.as_str() {
        "" => None,
        text => Some(request::channel_id(handle, "channel_id", text).await?),
    };
    let mut query = RouteQuery::new(source(handle).await?, payee, amount, first_hops(handle, wanted).await?);
    query.final_cltv_delta = u32::from(delta) + BLOCKS_IN_FLIGHT;
    query.hints = hints.iter().map(|hint| RouteHint { hops: hint.iter().map(hint_hop).collect() }).collect();
    query.blinded = blinded.iter().map(path_query).collect();
    query.final_payload_length = blinded.iter().map(|path| path.payload_length()).max().unwrap_or(0);
    query.max_fee = match message.max_fee_msat {
        Some(msat) => request::msat("max_fee_msat", msat)?,
        None => default_max_fee(amount),
    };
    query.max_parts = message.max_parts.unwrap_or(DEFAULT_PARTS);
    if !(1..=MAX_PARTS).contains(&query.max_parts) {
        return Err(invalid("max_parts", "1 to 64"));
    }
    query.max_cltv_delta = message.max_cltv_delta.unwrap_or(DEFAULT_MAX_CLTV_DELTA);
    Ok(query)
}

async fn source(handle: &Handle) -> Result<NodeId, Status> {
    match handle.query(Query::Node).await.map_err(refused)? {
        Reply::Node(node) => Ok(node.node_id),
        _ => Err(internal("a node expected")),
    }
}

/// Our own channels as the router sees them.
async fn first_hops(handle: &Handle, wanted: Option<ChannelId>) -> Result<Vec<FirstHop>, Status> {
    let (mut hops, mut after) = (Vec::new(), None);
    loop {
        let page = Page { after, size: 1_000, newest_first: true };
        let reply = handle.query(Query::ListChannels { peer: None, page }).await.map_err(refused)?;
        let Reply::Channels(paged) = reply else { return Err(internal("channels expected")) };
        let ours = paged.items.iter().filter(|info| wanted.is_none_or(|wanted| wanted == info.channel_id));
        hops.extend(ours.filter(|info| info.usable).filter_map(first_hop));
        after = paged.next;
        if after.is_none() {
            return Ok(hops);
        }
    }
}

fn first_hop(info: &ChannelInfo) -> Option<FirstHop> {
    Some(FirstHop {
        short_channel_id: info.short_channel_id?,
        channel: info.channel_id,
        peer: info.peer,
        spendable: info.sendable,
        htlc_minimum: Msat::ZERO,
    })
}

fn hint_hop(hop: &HintHop) -> RouteHintHop {
    RouteHintHop {
        node_id: hop.node_id,
        short_channel_id: hop.short_channel_id,
        fee_base_msat: hop.fee_base_msat,
        fee_proportional_millionths: hop.fee_proportional_millionths,
        cltv_expiry_delta: hop.cltv_expiry_delta,
    }
}

fn route(route: &Route) -> PaymentRoute {
    PaymentRoute {
        amount_msat: route.amount().msat(),
        fee_msat: route.fee().msat(),
        cltv_delta: route.cltv_delta(),
        hops: route.hops.iter().map(convert::hop).collect(),
    }
}

fn excluded(edge: &crate::router::ExcludedEdge) -> ExcludedEdge {
    let reason = match edge.why {
        WhyNot::Disabled => ExclusionReason::Disabled,
        WhyNot::UnknownFeature => ExclusionReason::UnknownFeature,
        WhyNot::BelowMinimum { .. } => ExclusionReason::BelowMinimum,
        WhyNot::AboveMaximum { .. } => ExclusionReason::AboveMaximum,
        WhyNot::InFlight { .. } => ExclusionReason::InFlight,
        WhyNot::Excluded { .. } => ExclusionReason::Excluded,
        WhyNot::NodeExcluded => ExclusionReason::NodeExcluded,
        WhyNot::FeeAboveLimit => ExclusionReason::FeeAboveLimit,
        WhyNot::CltvAboveLimit => ExclusionReason::CltvAboveLimit,
        WhyNot::Liquidity { .. } => ExclusionReason::Liquidity,
        WhyNot::TooLittleToSend { .. } => ExclusionReason::TooLittleToSend,
    };
    ExcludedEdge {
        from_node_id: edge.from.to_string(),
        to_node_id: edge.to.to_string(),
        short_channel_id: edge.channel.short_channel_id.to_string(),
        reason: reason.into(),
        description: edge.why.to_string(),
    }
}
