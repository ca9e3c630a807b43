//! What a daemon used: processor time, journal bytes and flushes.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::client::Presence;

/// The daemon's counters, by their metric names.
const BYTES: &str = "channeld_journal_bytes_total";
const FLUSHES: &str = "channeld_journal_flushes_total";

/// What a daemon has used since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Bytes written: to the journal where the daemon says so, else to disk.
    pub bytes: Option<u64>,
    /// Flushes of the journal.
    pub flushes: Option<u64>,
}

impl Usage {
    /// What was used since an earlier reading.
    pub fn since(self, earlier: Usage) -> Usage {
        let less = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            bytes: less(self.bytes, earlier.bytes),
            flushes: less(self.flushes, earlier.flushes),
        }
    }

    /// Of both daemons together.
    pub fn plus(self, other: Usage) -> Usage {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        Usage {
            cpu: self.cpu + other.cpu,
            bytes: sum(self.bytes, other.bytes),
            flushes: sum(self.flushes, other.flushes),
        }
    }
}

/// Reads what a daemon has used. What cannot be read is not there: a figure is never made up.
pub async fn read(presence: &Presence) -> Usage {
    let metrics = match presence.metrics {
        Some(address) => fetch(address).await.unwrap_or_default(),
        None => String::new(),
    };
    Usage {
        cpu: cpu_time(presence.pid).unwrap_or_default(),
        bytes: counter(&metrics, BYTES).or_else(|| bytes_written(presence.pid)),
        flushes: counter(&metrics, FLUSHES),
    }
}

async fn fetch(address: SocketAddr) -> Option<String> {
    let http: HttpClient<_, Empty<Bytes>> = HttpClient::builder(TokioExecutor::new()).build_http();
    let answer = http.get(format!("http://{address}/metrics").parse().ok()?).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    String::from_utf8(body.to_vec()).ok()
}

/// A counter of the Prometheus text format, summed over its labels.
fn counter(metrics: &str, name: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    values.map(|value| value as u64).reduce(|sum, value| sum + value)
}

/// Fields 14 and 15 of `/proc/PID/stat`: user and system time in ticks, all threads together (proc(5)).
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces: what follows the last parenthesis begins with field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn bytes_written(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_with_and_without_labels() {
        let text = "# TYPE a counter\na 12\na_more 99\nb{x=\"1\"} 3\nb{x=\"2\"} 4\n";
        assert_eq!(counter(text, "a"), Some(12));
        assert_eq!(counter(text, "b"), Some(7));
        assert_eq!(counter(text, "c"), None);
    }

    #[test]
    fn our_own_time_is_read() {
        assert!(cpu_time(std::process::id()).is_some());
    }
}
