//! Which connection attempts are worth a handshake. Established links are never touched by what happens here.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quinn::{Connecting, Incoming};

use crate::limits::{
    ADDRESS_SLOTS, HALF_OPEN_CAP, HALF_OPEN_CAP_PER_ADDRESS, HALF_OPEN_CAP_PER_REPLICA, HANDSHAKE_BURST_PER_ADDRESS,
    HANDSHAKES_PER_SECOND_PER_ADDRESS, LOGGED_FAILURES_PER_SECOND, REPLICA_RETRIES_PER_SECOND, RETRIES_PER_SECOND,
    RETRY_ABOVE_HALF_OPEN, UNPROVEN_HANDSHAKES_PER_SECOND,
};
use crate::metrics::TransportMetrics;
use crate::mutex::lock;
use crate::quic::ServerConfigs;

/// Tokens that refill at a steady rate up to a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// Thousandths of a token, so that slow rates refill without fractions.
    milli: u64,
    refilled: Instant,
    per_second: u32,
    burst: u32,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> TokenBucket {
        TokenBucket { milli: u64::from(burst) * 1_000, refilled: now, per_second, burst }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed_ms = now.saturating_duration_since(self.refilled).as_millis() as u64;
        if elapsed_ms > 0 {
            self.refilled = now;
            let refill = elapsed_ms.saturating_mul(u64::from(self.per_second));
            self.milli = self.milli.saturating_add(refill).min(u64::from(self.burst) * 1_000);
        }
        if self.milli < 1_000 {
            return false;
        }
        self.milli -= 1_000;
        true
    }
}

/// What to do with a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Begin the handshake.
    Accept,
    /// Ask for proof of the source address first; this keeps no state.
    Retry,
    /// Drop it unanswered.
    Ignore,
}

/// Who attempts to connect, and so whose share of rates and places the handshake takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// The configured address of a replica, port included, which it dials from: proven, so only whoever has it can
    /// take its places.
    Replica(SocketAddr),
    /// Any other address, proven. The port is zero except on loopback, and an IPv6 address is cut to its /64, all of
    /// which a single host may have.
    Outsider(SocketAddr),
    /// An address that anybody may have written on the packet.
    Unproven {
        /// Whether it is the address of a replica.
        expected: bool,
    },
}

impl Caller {
    /// Whoever sends from `remote`, a [`canonical`] address that is `proven` or not, and `expected` if it is the
    /// configured address of a replica.
    ///
    /// In a local testnet all replicas and clients share 127.0.0.1. Expected addresses are told apart by their port, so
    /// no client there passes for a replica. Other loopback addresses count with their port too: dozens of clients that
    /// connect at once do not stand in each other's way. Whoever may open ports on this machine could then take all
    /// places of outsiders, but not those of replicas, and has simpler ways to do harm.
    pub(crate) fn new(remote: SocketAddr, proven: bool, expected: bool) -> Caller {
        if !proven {
            return Caller::Unproven { expected };
        }
        if expected {
            return Caller::Replica(remote);
        }
        if remote.ip().is_loopback() {
            return Caller::Outsider(remote);
        }
        let network = match remote.ip() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        };
        Caller::Outsider(SocketAddr::new(network, 0))
    }
}

/// `address` as it is written in a configuration: a socket for IPv6 and IPv4 shows the latter mapped into the former.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The handshakes under way. An outsider who begins many and finishes none fills his own share only, and outsiders
/// together only theirs: at most [`HALF_OPEN_CAP`], and [`HALF_OPEN_CAP_PER_REPLICA`] for each expected address.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Never zero.
    taken: BTreeMap<Caller, usize>,
    /// The sum over all that are not proven to be a replica's.
    outsiders: usize,
}

impl Places {
    fn of(&self, caller: Caller) -> usize {
        self.taken.get(&caller).copied().unwrap_or(0)
    }

    fn take(&mut self, caller: Caller) {
        *self.taken.entry(caller).or_default() += 1;
        self.outsiders += usize::from(!matches!(caller, Caller::Replica(_)));
    }

    fn give_back(&mut self, caller: Caller) {
        let Some(taken) = self.taken.get_mut(&caller) else { return };
        *taken -= 1;
        if *taken == 0 {
            self.taken.remove(&caller);
        }
        self.outsiders -= usize::from(!matches!(caller, Caller::Replica(_)));
    }
}

/// The rates behind [`Verdict`]. Spoofed packets draw on other buckets than packets from proven addresses, so nobody
/// can use up the share of an address that is not his.
#[derive(Debug)]
pub(crate) struct Rates {
    by_address: Vec<TokenBucket>,
    unproven: TokenBucket,
    retries: TokenBucket,
    /// Retries to the addresses of replicas, which others must not use up.
    replica_retries: TokenBucket,
    hash: RandomState,
}

impl Rates {
    pub(crate) fn new(now: Instant) -> Rates {
        let steady = |per_second| TokenBucket::new(per_second, per_second, now);
        let address = TokenBucket::new(HANDSHAKES_PER_SECOND_PER_ADDRESS, HANDSHAKE_BURST_PER_ADDRESS, now);
        Rates {
            by_address: vec![address; ADDRESS_SLOTS],
            unproven: steady(UNPROVEN_HANDSHAKES_PER_SECOND),
            retries: steady(RETRIES_PER_SECOND),
            replica_retries: steady(REPLICA_RETRIES_PER_SECOND),
            hash: RandomState::new(),
        }
    }

    /// Judges an attempt of `caller` while the handshakes in `places` are under way. Replicas pass the rates once their
    /// address is proven; their places are few.
    pub(crate) fn judge(&mut self, caller: Caller, places: &Places, now: Instant) -> Verdict {
        match caller {
            Caller::Replica(_) if places.of(caller) < HALF_OPEN_CAP_PER_REPLICA => Verdict::Accept,
            Caller::Replica(_) => Verdict::Ignore,
            Caller::Outsider(address) => {
                let has_place = places.outsiders < HALF_OPEN_CAP && places.of(caller) < HALF_OPEN_CAP_PER_ADDRESS;
                let slot = (self.hash.hash_one(address.ip()) % ADDRESS_SLOTS as u64) as usize;
                // Who waits for a place uses up nothing of his rate.
                if has_place && self.by_address[slot].take(now) { Verdict::Accept } else { Verdict::Ignore }
            }
            Caller::Unproven { expected } => {
                if places.outsiders < RETRY_ABOVE_HALF_OPEN && self.unproven.take(now) {
                    return Verdict::Accept;
                }
                let retries = if expected { &mut self.replica_retries } else { &mut self.retries };
                if retries.take(now) { Verdict::Retry } else { Verdict::Ignore }
            }
        }
    }
}

/// The door of a port.
#[derive(Debug)]
pub(crate) struct Gate {
    rates: Mutex<Rates>,
    /// How many failures are written to the log.
    logged: Mutex<TokenBucket>,
    half_open: Arc<Mutex<Places>>,
    metrics: Arc<TransportMetrics>,
}

/// Counts a handshake as under way until dropped.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    places: Arc<Mutex<Places>>,
    caller: Caller,
}

impl HalfOpen {
    fn take(places: &Arc<Mutex<Places>>, caller: Caller) -> HalfOpen {
        lock(places).take(caller);
        HalfOpen { places: Arc::clone(places), caller }
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        lock(&self.places).give_back(self.caller);
    }
}

impl Gate {
    pub(crate) fn new(metrics: Arc<TransportMetrics>) -> Gate {
        let now = Instant::now();
        Gate {
            rates: Mutex::new(Rates::new(now)),
            logged: Mutex::new(TokenBucket::new(LOGGED_FAILURES_PER_SECOND, 10, now)),
            half_open: Arc::default(),
            metrics,
        }
    }

    /// Counts a handshake that came to nothing; tells why in the log, unless there were many lately.
    pub(crate) fn failed(&self, remote: SocketAddr, reason: &dyn fmt::Display) {
        self.metrics.handshakes_failed.increment();
        self.log(remote, reason);
    }

    /// Counts a proven key that was not let in; likewise.
    pub(crate) fn refused(&self, remote: SocketAddr, reason: &dyn fmt::Display) {
        self.metrics.connections_refused.increment();
        self.log(remote, reason);
    }

    fn log(&self, remote: SocketAddr, reason: &dyn fmt::Display) {
        if lock(&self.logged).take(Instant::now()) {
            tracing::info!(%remote, %reason, "a connection was not let in");
        }
    }

    /// Begins the handshake of an attempt that may have one, and deals with all others. `expected` knows the configured
    /// addresses of replicas, which are [`canonical`]. For the one task that accepts: between two of them a place more
    /// than the cap could be taken.
    pub(crate) fn admit(
        &self,
        incoming: Incoming,
        configs: &ServerConfigs,
        expected: impl Fn(SocketAddr) -> bool,
    ) -> Option<(Connecting, HalfOpen)> {
        let remote = canonical(incoming.remote_address());
        let caller = Caller::new(remote, incoming.remote_address_validated(), expected(remote));
        let verdict = lock(&self.rates).judge(caller, &lock(&self.half_open), Instant::now());
        match verdict {
            Verdict::Accept => {
                let guard = HalfOpen::take(&self.half_open, caller);
                match incoming.accept_with(configs.facing(remote)) {
                    Ok(connecting) => Some((connecting, guard)),
                    Err(error) => {
                        self.failed(remote, &error);
                        None
                    }
                }
            }
            Verdict::Retry => {
                self.metrics.handshakes_retried.increment();
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
                None
            }
            Verdict::Ignore => {
                self.metrics.handshakes_ignored.increment();
                incoming.ignore();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
