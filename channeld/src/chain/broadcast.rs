//! Transactions on their way to the mempool.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, Txid};
use serde_json::{Value, json};

use super::backend::Backend;
use super::error::BackendError;

/// Bitcoin Core's code for a transaction whose outputs are on the chain already.
const ALREADY_IN_UTXO_SET: i32 = -27;

/// What became of a transaction that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// It is in the mempool, or was before, or is on the chain.
    Accepted,
    /// The mempool does not want it: Bitcoin Core's reason.
    Rejected {
        /// Which one.
        txid: Txid,
        /// Such as `min relay fee not met, 100 < 200`.
        reason: String,
    },
}

impl Backend {
    /// Sends `package`, parents first. One whose fee is too low alone goes with its children where the backend takes
    /// packages. Fees are the caller's to bound: no limit is asked for.
    ///
    /// # Errors
    /// No answer. Whether anything was taken is unknown then; sending again does no harm.
    pub async fn broadcast(&self, package: &[Transaction]) -> Result<Broadcast, BackendError> {
        let mut rejected = None;
        for transaction in package {
            if let Broadcast::Rejected { txid, reason } = self.send(transaction).await? {
                rejected.get_or_insert((txid, reason));
            }
        }
        match rejected {
            None => Ok(Broadcast::Accepted),
            Some((txid, reason)) if package.len() > 1 => match self.send_package(package).await? {
                true => Ok(Broadcast::Accepted),
                false => Ok(Broadcast::Rejected { txid, reason }),
            },
            Some((txid, reason)) => Ok(Broadcast::Rejected { txid, reason }),
        }
    }

    async fn send(&self, transaction: &Transaction) -> Result<Broadcast, BackendError> {
        match self.call::<Txid>("sendrawtransaction", json!([serialize_hex(transaction), 0])).await {
            Ok(_) => Ok(Broadcast::Accepted),
            Err(BackendError::Rpc { code: ALREADY_IN_UTXO_SET, .. }) => Ok(Broadcast::Accepted),
            Err(BackendError::Rpc { message, .. }) => {
                Ok(Broadcast::Rejected { txid: transaction.compute_txid(), reason: message })
            }
            Err(error) => Err(error),
        }
    }

    async fn send_package(&self, package: &[Transaction]) -> Result<bool, BackendError> {
        let texts: Vec<_> = package.iter().map(serialize_hex).collect();
        match self.call::<Value>("submitpackage", json!([texts, 0])).await {
            Ok(answer) => Ok(answer["package_msg"] == "success"),
            Err(BackendError::Rpc { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
