//! Which connection attempts are worth a handshake. Established links are never touched by what happens here.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quinn::{Connecting, Incoming};

use crate::limits::{
    ADDRESS_SLOTS, HALF_OPEN_CAP, HANDSHAKE_BURST_PER_ADDRESS, HANDSHAKES_PER_SECOND_PER_ADDRESS,
    LOGGED_FAILURES_PER_SECOND, RETRIES_PER_SECOND, RETRY_ABOVE_HALF_OPEN, UNPROVEN_HANDSHAKES_PER_SECOND,
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

/// The rates behind [`Verdict`]. Spoofed packets draw on other buckets than packets from proven addresses, so nobody
/// can use up the share of an address that is not his.
#[derive(Debug)]
pub(crate) struct Rates {
    by_address: Vec<TokenBucket>,
    unproven: TokenBucket,
    retries: TokenBucket,
    hash: RandomState,
}

impl Rates {
    pub(crate) fn new(now: Instant) -> Rates {
        let address = TokenBucket::new(HANDSHAKES_PER_SECOND_PER_ADDRESS, HANDSHAKE_BURST_PER_ADDRESS, now);
        Rates {
            by_address: vec![address; ADDRESS_SLOTS],
            unproven: TokenBucket::new(UNPROVEN_HANDSHAKES_PER_SECOND, UNPROVEN_HANDSHAKES_PER_SECOND, now),
            retries: TokenBucket::new(RETRIES_PER_SECOND, RETRIES_PER_SECOND, now),
            hash: RandomState::new(),
        }
    }

    /// Judges an attempt from `source`, whose address is `proven` or not. `expected` sources, the configured addresses
    /// of replicas, pass the rates once proven.
    pub(crate) fn judge(
        &mut self,
        source: IpAddr,
        proven: bool,
        expected: bool,
        half_open: usize,
        now: Instant,
    ) -> Verdict {
        if proven {
            let slot = (self.hash.hash_one(source) % ADDRESS_SLOTS as u64) as usize;
            let within_rate = expected || self.by_address[slot].take(now);
            return if within_rate && half_open < HALF_OPEN_CAP { Verdict::Accept } else { Verdict::Ignore };
        }
        if half_open < RETRY_ABOVE_HALF_OPEN && self.unproven.take(now) {
            return Verdict::Accept;
        }
        if expected || self.retries.take(now) { Verdict::Retry } else { Verdict::Ignore }
    }
}

/// The door of a port.
#[derive(Debug)]
pub(crate) struct Gate {
    rates: Mutex<Rates>,
    /// How many failures are written to the log.
    logged: Mutex<TokenBucket>,
    half_open: Arc<AtomicUsize>,
    metrics: Arc<TransportMetrics>,
}

/// Counts a handshake as under way until dropped.
#[derive(Debug)]
pub(crate) struct HalfOpen(Arc<AtomicUsize>);

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

    /// Begins the handshake of an attempt that may have one, and deals with all others.
    pub(crate) fn admit(
        &self,
        incoming: Incoming,
        configs: &ServerConfigs,
        expected: impl Fn(SocketAddr) -> bool,
    ) -> Option<(Connecting, HalfOpen)> {
        let remote = incoming.remote_address();
        let half_open = self.half_open.load(Ordering::Relaxed);
        let proven = incoming.remote_address_validated();
        let source = remote.ip().to_canonical();
        match lock(&self.rates).judge(source, proven, expected(remote), half_open, Instant::now()) {
            Verdict::Accept => {
                self.half_open.fetch_add(1, Ordering::Relaxed);
                let guard = HalfOpen(Arc::clone(&self.half_open));
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
