//! How many requests, and how many bytes of them, this replica gets executed a second, measured while others wait. It sizes what is taken on: a request
//! is admitted, and a batch is cut, only as far as the queue before it drains within a share of the view timeout, so
//! that overload is answered Busy and never becomes a view change (protocol.md, PBFT).
//!
//! The estimate follows an increase quickly and a decrease slowly, and only where requests waited throughout: a cluster
//! that is merely idle is not slow. It decides who waits where, never what is valid, so a wrong one costs time only.

use crate::parameters::Micros;

/// Requests a second believed in before anything was measured.
const ASSUMED: u64 = 1_000;
/// Bytes a second believed in before anything was measured.
const ASSUMED_BYTES: u64 = 16 * 1024 * 1024;
/// A measurement takes at least this long.
const MEASURED_FOR: Micros = 50_000;
/// What an estimate moves up by: half of what it lacks.
const RISE: u64 = 2;
/// What it moves down by: a quarter of the excess.
const FALL: u64 = 4;
/// Beyond this nothing is measured any more: it keeps products within 64 bits.
const RATE_MAX: u64 = 10_000_000_000;

/// A running estimate.
#[derive(Debug)]
pub struct Throughput {
    rate: u64,
    /// When the present measurement began; none while nothing waits.
    since: Option<Micros>,
    executed: u64,
}

impl Default for Throughput {
    fn default() -> Throughput {
        Throughput { rate: ASSUMED, since: None, executed: 0 }
    }
}

impl Throughput {
    /// An estimate that counts bytes where the methods speak of requests.
    pub fn of_bytes() -> Throughput {
        Throughput { rate: ASSUMED_BYTES, ..Throughput::default() }
    }

    /// `requests` were executed; `waiting` says whether others wait still.
    pub fn executed(&mut self, now: Micros, requests: usize, waiting: bool) {
        if let Some(since) = self.since {
            self.executed = self.executed.saturating_add(requests as u64);
            let elapsed = now.saturating_sub(since);
            if elapsed < MEASURED_FOR && waiting {
                return;
            }
            if elapsed >= MEASURED_FOR {
                let measured = (self.executed.saturating_mul(1_000_000) / elapsed).min(RATE_MAX);
                if measured > self.rate {
                    self.rate += (measured - self.rate).div_ceil(RISE);
                } else if waiting {
                    self.rate -= (self.rate - measured) / FALL;
                }
            }
        }
        self.since = waiting.then_some(now);
        self.executed = 0;
    }

    /// Requests that are executed within `span`.
    pub const fn within(&self, span: Micros) -> usize {
        (self.rate.saturating_mul(span) / 1_000_000) as usize
    }

    /// How long `requests` take, microseconds.
    pub const fn time_for(&self, requests: usize) -> Micros {
        let rate = if self.rate == 0 { 1 } else { self.rate };
        (requests as u64).saturating_mul(1_000_000) / rate
    }
}

#[cfg(test)]
mod tests;
