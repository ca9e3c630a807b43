//! `PeerService`.

use proto::v1::peer_service_server::PeerService;
use proto::v1::{
    ConnectPeerRequest, ConnectPeerResponse, DisconnectPeerRequest, DisconnectPeerResponse, ListPeersRequest,
    ListPeersResponse,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::node::command::{Command, Query};
use crate::node::reply::Reply;
use crate::rpc::status::{internal, invalid, refused};
use crate::rpc::{convert, request};
use crate::units::NodeId;

/// See `proto/channeld/v1/peer.proto`.
pub struct Peers {
    handle: Handle,
}

impl Peers {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Peers {
        Peers { handle }
    }
}

/// `id@host:port` or `id@grpc://host:port` in its two parts.
fn read_address(text: &str) -> Result<(NodeId, String), Status> {
    let expected = "expected id@host:port or id@grpc://host:port";
    let (id, address) = text.split_once('@').ok_or_else(|| invalid("address", expected))?;
    let authority = address.strip_prefix("grpc://").unwrap_or(address);
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| invalid("address", expected))?;
    if host.is_empty() || host.contains(['/', '@']) || !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(invalid("address", expected));
    }
    Ok((request::node_id("address", id)?, address.to_string()))
}

#[tonic::async_trait]
impl PeerService for Peers {
    async fn connect_peer(
        &self,
        request: Request<ConnectPeerRequest>,
    ) -> Result<Response<ConnectPeerResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("ConnectPeer", &id, &message)?;
        let (node_id, address) = read_address(&message.address)?;
        if message.validate_only {
            return Ok(Response::new(ConnectPeerResponse::default()));
        }
        match self.handle.command(Command::ConnectPeer { node_id, address }, key).await.map_err(refused)? {
            Reply::Peer(peer) => Ok(Response::new(ConnectPeerResponse { peer: Some(convert::peer(peer)) })),
            _ => Err(internal("a peer expected")),
        }
    }

    async fn disconnect_peer(
        &self,
        request: Request<DisconnectPeerRequest>,
    ) -> Result<Response<DisconnectPeerResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("DisconnectPeer", &id, &message)?;
        let node_id = request::node_id("node_id", &message.node_id)?;
        if !message.validate_only {
            let command = Command::DisconnectPeer { node_id, force: message.force };
            self.handle.command(command, key).await.map_err(refused)?;
        }
        Ok(Response::new(DisconnectPeerResponse {}))
    }

    async fn list_peers(&self, request: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("peers", message.page_size, &message.page_token, message.order)?;
        let reply = self.handle.query(Query::ListPeers(page)).await.map_err(refused)?;
        let Reply::Peers(paged) = reply else { return Err(internal("peers expected")) };
        Ok(Response::new(ListPeersResponse {
            peers: paged.items.into_iter().map(convert::peer).collect(),
            next_page_token: request::page_token("peers", page.newest_first, paged.next),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn an_address_is_a_key_a_host_and_a_port() {
        for address in ["127.0.0.1:9735", "grpc://example.org:443", "[::1]:9735"] {
            assert_eq!(read_address(&format!("{ID}@{address}")).unwrap().1, address);
        }
        for wrong in ["127.0.0.1:9735", "00@127.0.0.1:9735", &format!("{ID}@host"), &format!("{ID}@host:0"), ID, ""] {
            assert!(read_address(wrong).is_err(), "{wrong}");
        }
    }
}
