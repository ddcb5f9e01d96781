//! Crash points: one replica dies at one storage operation of a workload, for every operation and every replica.
//!
//! What comes in: a seed. A first run counts the operations that each honest replica asks for until everything heals, in
//! a workload with a view change and a restart; each further run lets one replica die at one of them, killed or without
//! power in turn, and holds it to all oracles: it boots, contradicts nothing, and nothing acknowledged is lost.

use super::campaign::{Extent, Summary, run_jobs};
use super::plan::{CrashPoint, Options};

/// Seeds are measured until there are as many points as asked for, but no more than this.
const SEEDS_MAX: u64 = 10_000;

/// The points of one seed: every operation of every replica that does not lie.
fn points_of(seed: u64, options: &Options) -> Vec<CrashPoint> {
    let mut points = Vec::new();
    let mut replica = 0;
    loop {
        // Beyond every operation: the run as it is without a crash tells how many there are.
        let measured = CrashPoint { replica, operation: u64::MAX / 2, power_cut: false };
        let report = super::run(seed, &Options { crash_point: Some(measured), ..options.clone() });
        let operations = report.operations_by_replica.get(replica).copied().unwrap_or(0);
        points.extend((1..=operations).map(|operation| CrashPoint {
            replica,
            operation,
            power_cut: operation.is_multiple_of(2),
        }));
        replica += 1;
        if replica >= report.replicas {
            return points;
        }
    }
}

/// Takes the points of the seeds from `first` on. Without a limit all points of that one seed are taken; with one as
/// many, an even sample of every seed's.
pub fn crash_points(
    first: u64,
    limit: Option<u64>,
    options: &Options,
    threads: usize,
    stop_after: usize,
    tell: impl FnMut(&Summary),
) -> Summary {
    let mut jobs: Vec<(u64, CrashPoint)> = Vec::new();
    for seed in first..first.saturating_add(SEEDS_MAX) {
        let points = points_of(seed, options);
        let Some(limit) = limit else {
            jobs.extend(points.into_iter().map(|point| (seed, point)));
            break;
        };
        // A few hundred a seed, so that a large limit sees many workloads; an odd stride meets both endings.
        let stride = (points.len() / SAMPLE_PER_SEED).max(1) | 1;
        let offset = (seed.wrapping_mul(0x9E37_79B9) as usize) % stride;
        jobs.extend(points.into_iter().skip(offset).step_by(stride).map(|point| (seed, point)));
        if jobs.len() as u64 >= limit {
            jobs.truncate(limit as usize);
            break;
        }
    }
    let job = |index: u64| {
        let (seed, point) = jobs[index as usize];
        let options = Options { crash_point: Some(point), ..options.clone() };
        (super::run(seed, &options), options)
    };
    run_jobs(threads, Extent::Seeds(jobs.len() as u64), stop_after, job, tell)
}

/// Points that a limited campaign takes of one seed.
const SAMPLE_PER_SEED: usize = 200;
