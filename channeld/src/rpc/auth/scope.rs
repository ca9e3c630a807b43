//! What a token may do: scopes for the usual cases, and single methods beside them.

use prost::Message;
use prost_types::FileDescriptorSet;
use serde::{Deserialize, Serialize};

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything, tokens included.
    Admin,
    /// What changes nothing: Get, List, Decode, Subscribe, Plan, Audit, Query.
    Read,
    /// To read, and to be paid: addresses and invoices.
    Receive,
    /// To read, and to pay over channels: payments and streams. Coins and channels stay where they are.
    Pay,
}

impl Scope {
    /// The scopes with a token file of their own, made at first start.
    pub const FILES: [Scope; 2] = [Scope::Admin, Scope::Read];

    /// The name of its token file in the network's folder, where it has one.
    pub fn file(self) -> Option<&'static str> {
        match self {
            Scope::Admin => Some("admin.token"),
            Scope::Read => Some("read.token"),
            Scope::Receive | Scope::Pay => None,
        }
    }

    /// Whether it covers a method, given as the path of its HTTP request: `/channeld.v1.NodeService/GetNode`.
    pub fn covers(self, path: &str) -> bool {
        if self == Scope::Admin {
            return true;
        }
        let Some((service, method)) = path.rsplit_once('/') else { return false };
        if service.ends_with(".TokenService") {
            return false;
        }
        let reads = ["Get", "List", "Decode", "Subscribe", "Plan", "Audit", "Query"];
        let extra: &[&str] = match self {
            Scope::Receive => &["CreateAddress", "CreateInvoice", "SettleInvoice", "CancelInvoice"],
            Scope::Pay => &["SendPayment", "StreamPayments"],
            Scope::Admin | Scope::Read => &[],
        };
        reads.iter().any(|verb| method.starts_with(verb)) || extra.contains(&method)
    }
}

/// Whether there is a method of this name: `channeld.v1.NodeService/GetNode`.
pub fn is_method(name: &str) -> bool {
    let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    set.file.iter().filter(|file| file.package() == "channeld.v1").any(|file| {
        file.service.iter().any(|service| {
            let of = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
            service.method.iter().any(|method| of(method.name()) == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 5] = [
        "/channeld.v1.ChannelService/ListChannels",
        "/channeld.v1.InvoiceService/CreateInvoice",
        "/channeld.v1.PaymentService/SendPayment",
        "/channeld.v1.WalletService/SendCoins",
        "/channeld.v1.TokenService/ListTokens",
    ];

    #[test]
    fn each_scope_covers_what_it_says() {
        let covered = |scope: Scope| PATHS.map(|path| scope.covers(path));
        assert_eq!(covered(Scope::Admin), [true; 5]);
        assert_eq!(covered(Scope::Read), [true, false, false, false, false]);
        assert_eq!(covered(Scope::Receive), [true, true, false, false, false]);
        assert_eq!(covered(Scope::Pay), [true, false, true, false, false]);
    }

    #[test]
    fn only_methods_that_there_are_can_be_named() {
        assert!(is_method("channeld.v1.PaymentService/SendPayment"));
        for wrong in ["", "SendPayment", "/channeld.v1.PaymentService/SendPayment", "grpc.health.v1.Health/Check"] {
            assert!(!is_method(wrong), "{wrong}");
        }
    }
}
