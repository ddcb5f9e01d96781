//! Many seeds on a few threads. A run knows nothing of the others, so their number and order change no result.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::plan::Options;
use super::report::{Counters, SimulationReport};

/// When a campaign is over.
#[derive(Debug, Clone, Copy)]
pub enum Extent {
    /// After so many seeds.
    Seeds(u64),
    /// After so long, of the real clock.
    Time(Duration),
}

/// What a campaign tells.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs made.
    pub runs: u64,
    /// Runs in which a rule did not hold, by seed.
    pub failed: Vec<(SimulationReport, Options)>,
    /// Requests that ended, of all runs.
    pub operations: u64,
    /// Virtual time, of all runs.
    pub virtual_seconds: f64,
    /// Counters, of all runs.
    pub counters: Counters,
    /// Power cuts and crashes at chosen storage operations that took place.
    pub points: u64,
    /// Real time.
    pub seconds: f64,
}

impl Summary {
    fn add(&mut self, report: SimulationReport, options: &Options) {
        self.runs += 1;
        self.operations += report.operations;
        self.virtual_seconds += report.virtual_seconds;
        self.counters.add(&report.counters);
        self.points += u64::from(options.power_cut_at.is_some() && report.counters.blackouts > 0);
        self.points += report.counters.faults.get("crash point").copied().unwrap_or(0);
        if report.violation.is_some() {
            self.failed.push((report, options.clone()));
        }
    }
}

/// Runs `job` for 0, 1, 2 and so on, on `threads` threads, until the extent is reached or `stop_after` runs failed.
/// `tell` hears of every run.
pub(super) fn run_jobs(
    threads: usize,
    extent: Extent,
    stop_after: usize,
    job: impl Fn(u64) -> (SimulationReport, Options) + Sync,
    mut tell: impl FnMut(&Summary),
) -> Summary {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (results, received) = mpsc::channel();
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (results, next, stop, job) = (results.clone(), &next, &stop, &job);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let over = match extent {
                        Extent::Seeds(seeds) => index >= seeds,
                        Extent::Time(time) => begun.elapsed() >= time,
                    };
                    if over || stop.load(Ordering::Relaxed) || results.send(job(index)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        for (report, options) in received {
            summary.add(report, &options);
            summary.seconds = begun.elapsed().as_secs_f64();
            if summary.failed.len() >= stop_after {
                stop.store(true, Ordering::Relaxed);
            }
            tell(&summary);
        }
    });
    summary.failed.sort_by_key(|(report, _)| report.seed);
    summary.seconds = begun.elapsed().as_secs_f64();
    summary
}

/// Seeds `first`, `first + 1` and so on.
pub fn seeds(
    first: u64,
    extent: Extent,
    options: &Options,
    threads: usize,
    stop_after: usize,
    tell: impl FnMut(&Summary),
) -> Summary {
    let job = |index: u64| {
        let options = options.clone();
        (super::run(first.wrapping_add(index), &options), options)
    };
    run_jobs(threads, extent, stop_after, job, tell)
}

/// Cuts of one seed are spread over its storage operations, so many a seed.
const CUTS_PER_SEED: u64 = 20;

/// `points` runs, in each of which the whole cluster loses power at one storage operation: for every seed from `first` on
/// that many operations, spread over all it asks for before it heals.
pub fn power_cuts(
    first: u64,
    points: u64,
    options: &Options,
    threads: usize,
    stop_after: usize,
    tell: impl FnMut(&Summary),
) -> Summary {
    let job = |index: u64| {
        let seed = first.wrapping_add(index / CUTS_PER_SEED);
        let place = index % CUTS_PER_SEED;
        // Beyond every operation: the run as it is without a cut tells how many there are.
        let uncut = Options { power_cut_at: Some(u64::MAX / 2), ..options.clone() };
        let measured = cached_operations(seed, &uncut);
        // Every seed shifts the places a little, so that all kinds of operations are hit.
        let stride = (measured / CUTS_PER_SEED).max(1);
        let at = 1 + stride * place + seed.wrapping_mul(0x9E37_79B9) % stride;
        let cut = Options { power_cut_at: Some(at), ..options.clone() };
        (super::run(seed, &cut), cut)
    };
    run_jobs(threads, Extent::Seeds(points), stop_after, job, tell)
}

/// Storage operations of a seed until it heals, remembered for the cuts that follow on the same thread.
fn cached_operations(seed: u64, uncut: &Options) -> u64 {
    thread_local! {
        static LAST: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((u64::MAX, 0)) };
    }
    let (of, operations) = LAST.get();
    if of == seed {
        return operations;
    }
    let operations = super::run(seed, uncut).counters.storage_operations;
    LAST.set((seed, operations));
    operations
}
