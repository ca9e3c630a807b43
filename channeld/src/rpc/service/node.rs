//! `NodeService`.

use proto::v1::node_service_server::NodeService;
use proto::v1::{
    Event, EventKind, GetBalancesRequest, GetBalancesResponse, GetNodeRequest, GetNodeResponse, SubscribeEventsRequest,
    SubscribeEventsResponse, event::Detail,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::driver::handle::{EventLog, Handle};
use crate::node::command::Query;
use crate::node::reply::Reply;
use crate::rpc::service::{Answers, QUEUE};
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};
use crate::units::ChannelId;

/// How many events are read at once.
const PAGE: usize = 100;

/// See `proto/channeld/v1/node.proto`.
pub struct Nodes {
    handle: Handle,
}

impl Nodes {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Nodes {
        Nodes { handle }
    }
}

/// Which events a client wants.
struct Filter {
    kinds: Vec<i32>,
    channel: Option<String>,
}

impl Filter {
    fn read(request: &SubscribeEventsRequest) -> Result<Filter, Status> {
        for kind in &request.kinds {
            if !EventKind::try_from(*kind).is_ok_and(|kind| kind != EventKind::Unspecified) {
                return Err(invalid("kinds", format!("{kind} is not a kind of event")));
            }
        }
        let channel = match request.channel_id.as_str() {
            "" => None,
            text => Some(request::id32::<ChannelId>("channel_id", text)?.to_string()),
        };
        Ok(Filter { kinds: request.kinds.clone(), channel })
    }

    fn admits(&self, event: &Event) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        kind && self.channel.as_deref().is_none_or(|channel| channels_of(event).contains(&channel))
    }
}

/// The channels that an event is about.
fn channels_of(event: &Event) -> Vec<&str> {
    match event.detail.as_ref() {
        Some(Detail::Channel(detail)) => vec![&detail.channel_id],
        Some(Detail::Claim(detail)) => vec![&detail.channel_id],
        Some(Detail::Invoice(detail)) => vec![&detail.channel_id],
        Some(Detail::Stream(detail)) => vec![&detail.channel_id],
        Some(Detail::Warning(detail)) => vec![&detail.channel_id],
        Some(Detail::Forward(detail)) => vec![&detail.incoming_channel_id, &detail.outgoing_channel_id],
        Some(Detail::Peer(_) | Detail::Payment(_) | Detail::Transaction(_)) | None => Vec::new(),
    }
}

/// Follows the log from `after` on until the client goes or the daemon stops.
async fn follow(
    log: EventLog,
    mut after: u64,
    filter: Filter,
    answers: mpsc::Sender<Result<SubscribeEventsResponse, Status>>,
) {
    loop {
        let events = tokio::select! {
            events = log.after(after, PAGE) => events,
            () = answers.closed() => return,
        };
        let Some(last) = events.last() else { return };
        after = last.index;
        let (first_event_index, last_event_index) = (log.first(), log.newest().max(after));
        for event in events.into_iter().map(convert::event).filter(|event| filter.admits(event)) {
            let answer = SubscribeEventsResponse { event: Some(event), last_event_index, first_event_index };
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type SubscribeEventsStream = Answers<SubscribeEventsResponse>;

    async fn get_node(&self, _: Request<GetNodeRequest>) -> Result<Response<GetNodeResponse>, Status> {
        match self.handle.query(Query::Node).await.map_err(refused)? {
            Reply::Node(info) => Ok(Response::new(convert::node(info, self.handle.graph_status()))),
            _ => Err(internal("the node expected")),
        }
    }

    async fn get_balances(&self, _: Request<GetBalancesRequest>) -> Result<Response<GetBalancesResponse>, Status> {
        match self.handle.query(Query::Balances).await.map_err(refused)? {
            Reply::Balances(balances) => Ok(Response::new(convert::balances(balances))),
            _ => Err(internal("balances expected")),
        }
    }

    async fn subscribe_events(
        &self,
        request: Request<SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        let mut request = request.into_inner();
        if request.channel_id.contains('x') {
            let channel = request::channel_id(&self.handle, "channel_id", &request.channel_id).await?;
            request.channel_id = channel.to_string();
        }
        let filter = Filter::read(&request)?;
        let log = self.handle.events();
        let newest = log.newest();
        let after = request.after_index.unwrap_or(newest);
        if after > newest {
            // Of another log: this one was restored from an older copy, or is another node's. Waiting would not end.
            return Err(invalid("after_index", format!("the newest event is {newest}")));
        }
        let (answers, stream) = mpsc::channel(QUEUE);
        let standing =
            SubscribeEventsResponse { event: None, last_event_index: newest, first_event_index: log.first() };
        answers.try_send(Ok(standing)).map_err(|_| internal("a fresh queue is full"))?;
        tokio::spawn(follow(log, after, filter, answers));
        Ok(Response::new(Answers::new(stream)))
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{ChannelEvent, PeerEvent};

    use super::*;

    #[test]
    fn events_are_filtered_by_kind_and_channel() {
        let channel_id = "ab".repeat(32);
        let ready = Event {
            kind: EventKind::ChannelReady.into(),
            detail: Some(Detail::Channel(ChannelEvent { channel_id: channel_id.clone(), ..Default::default() })),
            ..Default::default()
        };
        let peer = Event {
            kind: EventKind::PeerConnected.into(),
            detail: Some(Detail::Peer(PeerEvent::default())),
            ..Default::default()
        };
        let filter = |kinds: Vec<i32>, channel_id: &str| {
            let request = SubscribeEventsRequest { after_index: None, kinds, channel_id: channel_id.into() };
            Filter::read(&request)
        };
        let all = filter(vec![], "").unwrap();
        assert!(all.admits(&ready) && all.admits(&peer));
        let kinds = filter(vec![EventKind::ChannelReady.into()], "").unwrap();
        assert!(kinds.admits(&ready) && !kinds.admits(&peer));
        let channel = filter(vec![], &channel_id).unwrap();
        assert!(channel.admits(&ready) && !channel.admits(&peer));
        assert!(filter(vec![99], "").is_err() && filter(vec![0], "").is_err() && filter(vec![], "xyz").is_err());
    }
}
