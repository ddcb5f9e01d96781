//! What the client knows of the cluster's agreed time, which alone decides whether a request is still valid.
//!
//! The client's own clock may be wrong by hours. What it trusts: of the times that replicas report, the (f + 1)-th
//! highest is at most an honest replica's, so agreed time has reached it.

use std::collections::BTreeMap;

use quorate_crypto::{Committee, ReplicaId};

use crate::parameters::Micros;

#[derive(Clone, Copy, Debug)]
struct Report {
    /// The highest agreed time the replica claimed, milliseconds.
    time: u64,
    /// When it last claimed any, monotonic.
    at: Micros,
}

/// Reports of agreed time, and how far the local wall clock is from it.
#[derive(Clone, Debug, Default)]
pub struct AgreedTime {
    /// One report a replica.
    reports: BTreeMap<ReplicaId, Report>,
    /// Agreed time minus local wall clock, milliseconds, as last confirmed.
    offset: i64,
}

impl AgreedTime {
    /// `from` says that agreed time was `time` (ms) when it answered; heard at `at`.
    pub fn report(&mut self, from: ReplicaId, time: u64, at: Micros) {
        let report = self.reports.entry(from).or_insert(Report { time, at });
        report.time = report.time.max(time);
        report.at = at;
    }

    /// An instant that agreed time has certainly reached: the (f + 1)-th highest of all reports. 0 as long as fewer
    /// replicas reported.
    pub fn reached(&self, committee: &Committee) -> u64 {
        nth_highest(self.reports.values().map(|report| report.time).collect(), committee.one_honest()).unwrap_or(0)
    }

    /// The same over the replicas that reported since `since`, once a quorum did. A quorum holds f + 1 honest replicas,
    /// so the value also is no lower than what some honest one reported: liars can bend it in neither direction.
    pub fn reported_since(&self, since: Micros, committee: &Committee) -> Option<u64> {
        let fresh: Vec<u64> =
            self.reports.values().filter(|report| report.at >= since).map(|report| report.time).collect();
        if fresh.len() < committee.quorum() {
            return None;
        }
        nth_highest(fresh, committee.one_honest())
    }

    /// The cluster's clock was at `time` (ms) when the local wall clock was at `wall` (ms).
    pub fn confirm(&mut self, time: u64, wall: u64) {
        self.offset = i64::try_from(i128::from(time) - i128::from(wall)).unwrap_or(0);
    }

    /// What agreed time probably is when the local wall clock is at `wall` (ms).
    pub fn estimate(&self, wall: u64, committee: &Committee) -> u64 {
        wall.saturating_add_signed(self.offset).max(self.reached(committee))
    }
}

/// The n-th highest value, from 1; none if there are fewer.
pub(crate) fn nth_highest(mut values: Vec<u64>, n: usize) -> Option<u64> {
    values.sort_unstable_by(|left, right| right.cmp(left));
    values.get(n.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests;
