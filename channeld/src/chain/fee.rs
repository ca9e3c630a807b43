//! What a transaction must pay to confirm in time.

use serde_json::json;

use super::backend::Backend;
use super::error::BackendError;
use super::reply::{FeeEstimate, MempoolInfo, amount};
use crate::units::FeeratePerKw;

/// Bitcoin Core's code where it estimates nothing at all.
const INTERNAL_ERROR: i32 = -32_603;

/// Feerates by urgency, each at least the mempool's minimum and the relay floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeEstimates {
    /// To confirm within 2 blocks.
    pub urgent: FeeratePerKw,
    /// Within 6 blocks.
    pub normal: FeeratePerKw,
    /// Within 144 blocks.
    pub relaxed: FeeratePerKw,
    /// What the mempool takes at all.
    pub minimum: FeeratePerKw,
}

impl Default for FeeEstimates {
    fn default() -> FeeEstimates {
        let floor = FeeratePerKw::FLOOR;
        FeeEstimates { urgent: floor, normal: floor, relaxed: floor, minimum: floor }
    }
}

impl Backend {
    /// The backend's estimates; where it has none, what its mempool takes.
    ///
    /// # Errors
    /// No answer.
    pub async fn fee_estimates(&self) -> Result<FeeEstimates, BackendError> {
        let info: MempoolInfo = self.call("getmempoolinfo", json!([])).await?;
        let minimum = per_kw(&info.minimum).unwrap_or(FeeratePerKw::FLOOR);
        Ok(FeeEstimates {
            urgent: self.estimate(2, minimum).await?,
            normal: self.estimate(6, minimum).await?,
            relaxed: self.estimate(144, minimum).await?,
            minimum,
        })
    }

    async fn estimate(&self, blocks: u16, minimum: FeeratePerKw) -> Result<FeeratePerKw, BackendError> {
        match self.call::<FeeEstimate>("estimatesmartfee", json!([blocks])).await {
            Ok(FeeEstimate { feerate }) => {
                Ok(feerate.as_ref().and_then(per_kw).map_or(minimum, |feerate| feerate.max(minimum)))
            }
            Err(error) if error.has_code(INTERNAL_ERROR) => Ok(minimum),
            Err(error) => Err(error),
        }
    }
}

/// BTC per 1,000 vB to satoshi per 1,000 WU, rounded up and at least the relay floor.
fn per_kw(btc_per_kvb: &serde_json::Number) -> Option<FeeratePerKw> {
    let sat_per_kw = amount(btc_per_kvb)?.to_sat().div_ceil(4);
    Some(FeeratePerKw::new(u32::try_from(sat_per_kw).ok()?).max(FeeratePerKw::FLOOR))
}
