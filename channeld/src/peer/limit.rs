//! How much anybody may ask of this room: how many, how fast, how long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Numbers that bound what peers can make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Callers whose handshake is under way.
    pub pending: usize,
    /// Those of them from one address.
    pub pending_per_address: usize,
    /// Sessions of callers that are neither kept connected nor protected.
    pub inbound: usize,
    /// The bytes of a peer's messages that the node has not handled yet; at least 131,072.
    pub credit: u32,
    /// Pings at a time, beyond one a second.
    pub pings: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { pending: 64, pending_per_address: 32, inbound: 256, credit: 1024 * 1024, pings: 30 }
    }
}

/// How long anything may take (PEERS.md, A3 and A6).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a called address answers.
    pub connect: Duration,
    /// For the three acts.
    pub handshake: Duration,
    /// From there until `init`.
    pub init: Duration,
    /// For a message that was begun.
    pub message: Duration,
    /// For a write: so long the peer may read nothing.
    pub write: Duration,
    /// Silence after which we ping.
    pub ping: Duration,
    /// Silence after which the session ends.
    pub silence: Duration,
    /// For an answer to a ping, when somebody else claims to be the peer's new connection.
    pub probe: Duration,
    /// For what is still to be said when a session ends.
    pub farewell: Duration,
    /// How long a peer is called again that closes at once, as LDK does while it holds our last connection for alive.
    pub retry: Duration,
    /// The first pause between calls; each is twice the one before.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            init: Duration::from_secs(15),
            message: Duration::from_secs(30),
            write: Duration::from_secs(30),
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            probe: Duration::from_secs(5),
            farewell: Duration::from_secs(3),
            retry: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Counts callers that are not known yet.
#[derive(Clone)]
pub struct Gate {
    all: Arc<Semaphore>,
    addresses: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    per_address: usize,
}

/// A caller that is not known yet; counts until it is dropped.
pub struct Pending {
    _permit: OwnedSemaphorePermit,
    address: IpAddr,
    addresses: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl Gate {
    /// A gate with the limits of `limits`.
    pub fn new(limits: &Limits) -> Gate {
        Gate {
            all: Arc::new(Semaphore::new(limits.pending)),
            addresses: Arc::default(),
            per_address: limits.pending_per_address,
        }
    }

    /// Lets a caller in, or not.
    pub fn enter(&self, address: IpAddr) -> Option<Pending> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Pending { _permit: permit, address, addresses: self.addresses.clone() })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// Pings that a peer may still send: one more each second, up to a limit.
pub struct PingLimit {
    left: u32,
    most: u32,
    counted: Instant,
}

impl PingLimit {
    /// A peer that has sent none.
    pub fn new(most: u32) -> PingLimit {
        PingLimit { left: most, most, counted: Instant::now() }
    }

    /// Counts one; whether it is within the limit.
    pub fn take(&mut self) -> bool {
        let seconds = self.counted.elapsed().as_secs();
        self.counted += Duration::from_secs(seconds);
        self.left = self.left.saturating_add(u32::try_from(seconds).unwrap_or(u32::MAX)).min(self.most);
        let within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_counts_all_and_each_address() {
        let gate = Gate::new(&Limits { pending: 3, pending_per_address: 2, ..Limits::default() });
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none());
        let _third = gate.enter(other).unwrap();
        assert!(gate.enter(other).is_none(), "three in all");
        drop(first);
        assert!(gate.enter(one).is_some());
    }

    #[test]
    fn pings_are_counted() {
        let mut limit = PingLimit::new(3);
        assert_eq!([limit.take(), limit.take(), limit.take(), limit.take()], [true, true, true, false]);
        limit.counted = Instant::now() - Duration::from_secs(2);
        assert_eq!([limit.take(), limit.take(), limit.take()], [true, true, false]);
    }
}
