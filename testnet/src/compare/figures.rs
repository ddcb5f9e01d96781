//! What a round gave, and what all rounds say together.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::Outcome;
use crate::bench::load::Tally;

/// One system under one load in one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Operations that succeeded in time, a second.
    pub operations_per_second: f64,
    /// The latency that half of all requests did not exceed, milliseconds.
    pub p50_ms: f64,
    /// The latency that 99 % of all requests did not exceed, milliseconds.
    pub p99_ms: f64,
    /// Processor time of all servers for one operation, microseconds; none if one of them began anew meanwhile.
    pub server_cpu_us: Option<f64>,
    /// Bytes that all servers sent for one operation, to each other and to clients; none where nobody counts them.
    pub wire_bytes: Option<f64>,
    /// Processor time of all clients for one operation, microseconds.
    pub client_cpu_us: f64,
    /// Requests that failed, by what they said.
    pub errors: BTreeMap<String, u64>,
    /// View changes, or terms that began.
    pub leader_changes: u64,
}

fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}

impl Figures {
    /// Of a run of `bench`.
    pub fn of_outcome(outcome: Outcome) -> Figures {
        let per_op = |seconds: f64| outcome.per_operation(seconds * 1e6);
        Figures {
            operations_per_second: outcome.operations_per_second(),
            p50_ms: quantile_ms(&outcome.latency, 0.5),
            p99_ms: quantile_ms(&outcome.latency, 0.99),
            server_cpu_us: outcome.replicas.map(|spent| per_op(spent.cpu_seconds)),
            wire_bytes: outcome.replicas.map(|spent| outcome.per_operation(spent.wire_bytes as f64)),
            client_cpu_us: per_op(outcome.client_cpu.as_secs_f64()),
            leader_changes: outcome.view_changes,
            errors: outcome.errors,
        }
    }

    /// Of the same load on something else. `server_cpu` is that of all servers together.
    pub fn of_tally(tally: Tally, server_cpu: Option<Duration>, client_cpu: Duration, leader_changes: u64) -> Figures {
        let per_op = |time: Duration| time.as_secs_f64() * 1e6 / tally.operations.max(1) as f64;
        Figures {
            operations_per_second: tally.operations as f64 / tally.elapsed.as_secs_f64(),
            p50_ms: quantile_ms(&tally.latency, 0.5),
            p99_ms: quantile_ms(&tally.latency, 0.99),
            server_cpu_us: server_cpu.map(per_op),
            wire_bytes: None,
            client_cpu_us: per_op(client_cpu),
            leader_changes,
            errors: tally.errors,
        }
    }
}

/// Some numbers in three.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The one in the middle; of an even count the mean of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Of these numbers; none if there are none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = |back: usize| sorted.get((sorted.len() - back) / 2).copied();
        Some(Summary { median: f64::midpoint(middle(1)?, middle(0)?), min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        let of =
            |numbers: &[f64]| Summary::of(numbers.iter().copied()).map(|found| (found.median, found.min, found.max));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of(&[9.0, 1.0, 4.0]), Some((4.0, 1.0, 9.0)));
        assert_eq!(of(&[9.0, 1.0, 4.0, 6.0]), Some((5.0, 1.0, 9.0)));
    }
}
