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

/// Processor time of another process, in user and in system mode, to a tick (10 ms on common systems); none if it is not
/// there. For servers that do not count it themselves.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    let ticks = ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Fields 14 and 15 of a line as proc(5) has it. The name, the second, stands in parentheses and may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// Processor time of everything on this machine since it was started, what its host took away included; none where the
/// system does not say.
pub fn machine_cpu() -> Option<Duration> {
    let ticks = busy_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The first line as proc(5) has it: user, nice, system, idle, iowait, irq, softirq, steal; all but the idle ones.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = fields.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    Some(ticks.iter().enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, ticks)| ticks).sum())
}

/// Processor time of this process.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system_mode() {
        let line = "4711 (a) b (c) S 1 4711 4711 0 -1 4194304 9 8 7 6 250 31 5 4 20 0 12 0 99 1 1";
        assert_eq!(ticks(line), Some(281));
        assert_eq!(ticks("4711 (a) S 1 2 3"), None);
        assert_eq!(ticks("nonsense"), None);
        assert_eq!(busy_ticks("cpu  10 1 5 900 70 2 3 4 0 0\ncpu0 1 1"), Some(25));
        assert_eq!(busy_ticks("cpu0 1 1 1"), None);
    }

    #[test]
    fn another_process_is_measured_as_it_measures_itself() {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        let (before, read, after) = (own_cpu(), cpu_of(std::process::id()).expect("it runs"), own_cpu());
        let tick = Duration::from_millis(25);
        assert!(read + tick >= before && read <= after + tick, "{read:?} is not from {before:?} to {after:?}");
        assert_eq!(cpu_of(u32::MAX), None);
    }
}
