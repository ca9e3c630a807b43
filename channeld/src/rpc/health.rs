//! The health of the daemon in the standard's words: one entry per service, kept up to date from the node.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::driver::handle::Handle;
use crate::node::command::Query;
use crate::node::reply::{NodeInfo, Reply, SyncState};

/// The entries beside the services' own names: the whole, and what a load balancer or a person asks for.
pub const ENTRIES: [&str; 4] = ["", "wallet", "chain", "payments"];

/// The full names of the services.
pub const SERVICES: [&str; 9] = [
    "channeld.v1.NodeService",
    "channeld.v1.WalletService",
    "channeld.v1.PeerService",
    "channeld.v1.ChannelService",
    "channeld.v1.InvoiceService",
    "channeld.v1.PaymentService",
    "channeld.v1.GraphService",
    "channeld.v1.TokenService",
    "channeld.v1.DevService",
];

const INTERVAL: Duration = Duration::from_secs(1);

/// Reports until the task is dropped.
pub async fn report(handle: Handle, reporter: HealthReporter) {
    loop {
        let node = match handle.query(Query::Node).await {
            Ok(Reply::Node(node)) => Some(node),
            _ => None,
        };
        for (entry, serving) in statuses(node.as_ref()) {
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(entry, status).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Which entry serves: all but the dev service need a node that answers; coins and payments need a chain that is synced.
fn statuses(node: Option<&NodeInfo>) -> Vec<(&'static str, bool)> {
    let synced = node.is_some_and(|node| node.sync == SyncState::Synced);
    let up = node.is_some();
    let serving = |entry: &'static str| match entry {
        "wallet" | "chain" | "payments" => (entry, synced),
        "channeld.v1.DevService" => (entry, node.is_some_and(|node| node.development)),
        _ => (entry, up),
    };
    ENTRIES.into_iter().chain(SERVICES).map(serving).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn every_service_of_the_contract_has_an_entry() {
        let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        for file in set.file.iter().filter(|file| file.package() == "channeld.v1") {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                assert!(SERVICES.contains(&name.as_str()), "{name}");
            }
        }
    }

    #[test]
    fn without_a_node_nothing_serves() {
        assert!(statuses(None).iter().all(|(_, serving)| !serving));
    }
}
