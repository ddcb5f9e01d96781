//! What load costs: processor time, bytes and syncs, as replicas count them themselves.

use std::time::Duration;

use crate::launcher::Description;
use crate::launcher::operations::{self, NodeStatus};
use crate::launcher::standing::PATIENCE;

/// What all replicas together spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Processor time, seconds.
    pub cpu_seconds: f64,
    /// Bytes sent, to each other and to clients.
    pub wire_bytes: u64,
    /// Syncs of their logs.
    pub syncs: u64,
}

/// Asks every replica for its counters; none for one that does not answer.
pub async fn read(description: &Description) -> Vec<Option<NodeStatus>> {
    let mut asked = Vec::with_capacity(description.replicas.len());
    for endpoints in &description.replicas {
        let address = endpoints.operations;
        asked.push(tokio::spawn(async move { operations::status(address, PATIENCE).await.ok() }));
    }
    let mut counters = Vec::with_capacity(asked.len());
    for task in asked {
        counters.push(task.await.ok().flatten());
    }
    counters
}

/// What was spent between two readings; none if nobody said, or a replica began anew in between. Replicas that were down
/// all the time spent nothing.
pub fn spent(before: &[Option<NodeStatus>], after: &[Option<NodeStatus>]) -> Option<Reading> {
    let mut sum = Reading { cpu_seconds: 0.0, wire_bytes: 0, syncs: 0 };
    let mut counted = 0;
    for (before, after) in before.iter().zip(after) {
        let (before, after) = match (before, after) {
            (None, None) => continue,
            (Some(before), Some(after)) => (before, after),
            _ => return None,
        };
        if after.cpu_seconds < before.cpu_seconds {
            return None;
        }
        sum.cpu_seconds += after.cpu_seconds - before.cpu_seconds;
        sum.wire_bytes += after.wire_bytes.saturating_sub(before.wire_bytes);
        sum.syncs += after.syncs.saturating_sub(before.syncs);
        counted += 1;
    }
    (counted > 0).then_some(sum)
}

/// View changes begun between two readings, at the replica that began most.
pub fn view_changes(before: &[Option<NodeStatus>], after: &[Option<NodeStatus>]) -> u64 {
    let begun = |(before, after): (&Option<NodeStatus>, &Option<NodeStatus>)| {
        Some(after.as_ref()?.view_changes.saturating_sub(before.as_ref()?.view_changes))
    };
    before.iter().zip(after).filter_map(begun).max().unwrap_or(0)
}

/// Processor time of this process.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
