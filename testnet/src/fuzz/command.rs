//! The `fuzz` subcommand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use clap::Args;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::mutator::mutated;
use super::{TARGETS, Taken, Target};

/// Exit code when an input broke a rule.
pub const EXIT_VIOLATION: u8 = 5;
/// Inputs for each target without any other word.
const DEFAULT_RUNS: u64 = 2_000;
/// Inputs that were taken and are mutated further, a target.
const POOL_MAX: usize = 512;

/// Gives mutated bytes to every decoder and file parser, and to whole replicas.
///
/// Example: `quorate-testnet fuzz --target peer-message --for 10m`
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Only this target; may be given several times.
    #[arg(long = "target", value_parser = target, value_name = "NAME")]
    pub targets: Vec<&'static Target>,
    /// Inputs for each target.
    #[arg(long, conflicts_with = "time")]
    pub runs: Option<u64>,
    /// How long for each target.
    #[arg(long = "for", value_parser = crate::command::arguments::duration, value_name = "TIME")]
    pub time: Option<Duration>,
    /// What decides the inputs.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only this input of the seed, as a failure names it.
    #[arg(long, requires = "targets", conflicts_with_all = ["runs", "time"])]
    pub input: Option<u64>,
    /// Print JSON, an object a target.
    #[arg(long)]
    pub json: bool,
}

fn target(name: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.map(|target| target.name).join(", ");
    Target::by_name(name).ok_or_else(|| format!("no such target; there are {}", names()))
}

/// What a target went through.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) runs: u64,
    pub(super) taken: u64,
    pub(super) longest: usize,
    /// The input that broke a rule, and what it was.
    pub(super) failed: Option<(u64, String)>,
}

impl Fuzz {
    /// Runs it; returns the exit code.
    pub fn run(&self) -> u8 {
        let all: Vec<&'static Target> = TARGETS.iter().collect();
        let targets = if self.targets.is_empty() { &all } else { &self.targets };
        if !self.json {
            say!("{:<16} {:>9} {:>9} {:>9}  what", "target", "inputs", "taken", "longest");
        }
        let mut failures = 0;
        for target in targets {
            let outcome = fuzz(target, self.seed, self.extent(), self.input);
            self.tell(target, &outcome);
            failures += u32::from(outcome.failed.is_some());
        }
        if failures == 0 { 0 } else { EXIT_VIOLATION }
    }

    fn extent(&self) -> Extent {
        match (self.input, self.time, self.runs) {
            (Some(input), _, _) => Extent::Runs(input + 1),
            (None, Some(time), _) => Extent::Time(time),
            (None, None, runs) => Extent::Runs(runs.unwrap_or(DEFAULT_RUNS)),
        }
    }

    fn tell(&self, target: &Target, outcome: &Outcome) {
        let Outcome { runs, taken, longest, failed } = outcome;
        if self.json {
            let failure = failed.as_ref().map(|(input, reason)| json!({ "input": input, "reason": reason }));
            say!(
                "{}",
                json!({ "target": target.name, "runs": runs, "taken": taken, "longest": longest, "failure": failure })
            );
        } else {
            say!("{:<16} {runs:>9} {taken:>9} {longest:>9}  {}", target.name, target.what);
        }
        if let Some((input, reason)) = failed {
            eprintln!("{}: {reason}", target.name);
            eprintln!("replay: quorate-testnet fuzz --target {} --seed {} --input {input}", target.name, self.seed);
        }
    }
}

/// How long a target is fuzzed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Runs(u64),
    Time(Duration),
}

impl Extent {
    fn goes_on(self, runs: u64, begin: Instant) -> bool {
        match self {
            Extent::Runs(most) => runs < most,
            Extent::Time(most) => begin.elapsed() < most,
        }
    }
}

/// Mutates the target's examples, and what was taken of the mutations, until the extent is spent or a rule breaks. The
/// inputs are a function of the seed and of what is taken, so an input has a number by which it is found again; all before
/// `only`, if it is given, are made but not reported.
pub(super) fn fuzz(target: &Target, seed: u64, extent: Extent, only: Option<u64>) -> Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut pool = (target.examples)();
    assert!(!pool.is_empty(), "{} has no example", target.name);
    let examples = pool.len();
    let mut outcome = Outcome { runs: 0, taken: 0, longest: 0, failed: None };
    let begin = Instant::now();
    while extent.goes_on(outcome.runs, begin) {
        let number = outcome.runs;
        outcome.runs += 1;
        // The examples themselves come first.
        let input = match pool.get(number as usize).filter(|_| (number as usize) < examples) {
            Some(example) => example.clone(),
            None => {
                let (one, other) = (random.random_range(0..pool.len()), random.random_range(0..pool.len()));
                mutated(&pool[one], &pool[other], &mut random)
            }
        };
        outcome.longest = outcome.longest.max(input.len());
        match catch_unwind(AssertUnwindSafe(|| target.run(&input))) {
            Ok(Taken::Yes) => {
                outcome.taken += 1;
                if pool.len() < POOL_MAX {
                    pool.push(input);
                } else {
                    let place = random.random_range(examples.min(POOL_MAX - 1)..POOL_MAX);
                    pool[place] = input;
                }
            }
            Ok(Taken::No) => {}
            Err(panic) => {
                outcome.failed = Some((number, reason(panic.as_ref())));
                break;
            }
        }
    }
    if let Some(only) = only
        && outcome.failed.as_ref().is_none_or(|(input, _)| *input != only)
    {
        outcome.failed = None;
    }
    outcome
}

fn reason(panic: &(dyn std::any::Any + std::marker::Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
