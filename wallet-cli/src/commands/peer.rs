//! `wallet-cli peer`.

use clap::Subcommand;
use proto::v1::{ConnectPeerRequest, DisconnectPeerRequest, ListPeersRequest, Peer};

use crate::args::Global;
use crate::client::request_id;
use crate::commands::{ListArgs, promised};
use crate::failure::Failure;
use crate::output::table;

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Connect to a node, and keep the connection up.
    #[command(
        after_help = "Examples:\n  wallet-cli peer connect 02ab…@127.0.0.1:9735\n  wallet-cli peer connect 02ab…@grpc://127.0.0.1:9735"
    )]
    Connect {
        /// Who and where: ID@HOST:PORT (TCP) or ID@grpc://HOST:PORT.
        address: String,
    },
    /// End the connection.
    Disconnect {
        /// The node's id.
        node_id: String,
        /// Also where it has channels with this node.
        #[arg(long)]
        force: bool,
    },
    /// The peers.
    List(ListArgs),
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: PeerCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        PeerCommand::Connect { address } => {
            let request = ConnectPeerRequest { request_id: request_id()?, validate_only: false, address };
            let answer = client.peer().connect_peer(request).await?.into_inner();
            output.message(&promised(answer.peer, "peer")?, |peer| format!("connected to {}", peer.node_id))
        }
        PeerCommand::Disconnect { node_id, force } => {
            let text = format!("disconnected from {node_id}");
            let request = DisconnectPeerRequest { request_id: request_id()?, validate_only: false, node_id, force };
            let answer = client.peer().disconnect_peer(request).await?.into_inner();
            output.message(&answer, |_| text)
        }
        PeerCommand::List(args) => {
            let peers = args.gather(|page_size, page_token| {
                let mut service = client.peer();
                let request = ListPeersRequest { page_size, page_token, order: args.order() };
                async move {
                    let page = service.list_peers(request).await?.into_inner();
                    Ok((page.peers, page.next_page_token))
                }
            });
            output.list(&peers.await?, peer_table)
        }
    }
}

fn peer_table(peers: &[Peer]) -> String {
    let rows = peers.iter().map(|peer| {
        let state = if peer.connected { "connected" } else { "away" };
        let way = if peer.inbound { "from them" } else { "from us" };
        let channels = peer.channel_count.to_string();
        vec![peer.node_id.clone(), state.into(), way.into(), peer.address.clone(), channels]
    });
    table(&["node", "state", "way", "address", ">channels"], rows)
}
