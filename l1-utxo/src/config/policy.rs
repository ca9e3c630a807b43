//! What the options say of the mempool's rules.

use super::{ConfigError, Options, within};
use crate::mempool::{ClusterLimits, MAX_CLUSTER_COUNT, Policy};

const MIN_MEMPOOL: u64 = 5;
const MAX_MEMPOOL: u64 = 1 << 20;
const MAX_HOURS: u64 = 24 * 365 * 100;
const MAX_FEERATE: u64 = 100_000_000;
/// More than a block holds, of anything.
const MAX_SIZE: u64 = 4_000_000;

impl Options {
    pub(super) fn policy(&self) -> Result<Policy, ConfigError> {
        let default = Policy::default();
        let max_bytes = within("max-mempool", self.max_mempool, MIN_MEMPOOL..=MAX_MEMPOOL)?;
        let expiry = within("mempool-expiry", self.mempool_expiry, 1..=MAX_HOURS)?;
        let feerate = within("min-relay-feerate", self.min_relay_feerate, 0..=MAX_FEERATE)?;
        let incremental = within("incremental-feerate", self.incremental_feerate, 0..=MAX_FEERATE)?;
        let incremental_feerate = incremental.unwrap_or(default.incremental_feerate);
        let dust = within("dust-relay-feerate", self.dust_relay_feerate, 0..=MAX_FEERATE)?;
        let data = within("datacarrier-size", self.datacarrier_size, 0..=MAX_SIZE)?.map(|bytes| bytes as usize);
        let carries_data = self.datacarrier.unwrap_or(true);
        let sigop = within("bytes-per-sigop", self.bytes_per_sigop, 1..=MAX_SIZE)?;
        Ok(Policy {
            max_bytes: max_bytes.map_or(default.max_bytes, |megabytes| megabytes as usize * 1_000_000),
            expiry: expiry.map_or(default.expiry, |hours| hours.cast_signed() * 3_600),
            // Who sets only what a replacement adds means both.
            min_relay_feerate: feerate.unwrap_or(default.min_relay_feerate.max(incremental_feerate)),
            incremental_feerate,
            dust_feerate: dust.unwrap_or(default.dust_feerate),
            data_carrier_bytes: if carries_data { data.unwrap_or(default.data_carrier_bytes) } else { 0 },
            permits_bare_multisig: self.permit_bare_multisig.unwrap_or(default.permits_bare_multisig),
            bytes_per_sigop: sigop.unwrap_or(default.bytes_per_sigop),
            cluster_limits: self.cluster_limits()?,
            requires_standard: !self.accept_non_standard,
            checks_itself: self.check_mempool,
        })
    }

    fn cluster_limits(&self) -> Result<ClusterLimits, ConfigError> {
        let default = ClusterLimits::default();
        let count = within("limit-cluster-count", self.limit_cluster_count, 1..=MAX_CLUSTER_COUNT as u64)?;
        let size = within("limit-cluster-size", self.limit_cluster_size, 1..=MAX_SIZE)?;
        Ok(ClusterLimits {
            count: count.map_or(default.count, |count| count as usize),
            weight: size.map_or(default.weight, |kilobytes| kilobytes * 4_000),
        })
    }
}
