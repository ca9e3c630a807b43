//! The engine of the benchmark: two daemons, five workloads, figures per payment. The demo and `pay stream` use parts of
//! it; the benchmark beside other implementations calls `workload::run` on daemons of its own.

pub mod htlc;
pub mod latency;
pub mod meter;
pub mod stream;
pub mod workload;
