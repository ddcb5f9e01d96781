//! Defects of our own code, let loose one after the other: how many seeds does each survive?
//!
//! What comes in: the registry of [`quorate_crypto::mutant`], in a binary built with the feature `mutants`. What goes out:
//! a row a mutant, with the first seed under which an oracle failed or an assertion of our own code panicked, or the test
//! that kills it. A mutant that survives fails the command. Defects of HotStuff are let loose in clusters that run HotStuff,
//! whatever `--protocol` says; all others in what it says.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use quorate_crypto::mutant::{Killer, Mutant};
use serde_json::json;

use super::plan::{Choice, Options};

/// Seeds that a mutant may survive, unless told otherwise.
pub(super) const SEEDS: u64 = 3_000;

/// What became of a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It broke a rule with this seed, the so-manieth, in words.
    Killed {
        /// The seeds it took.
        seeds: u64,
        /// What failed.
        by: String,
    },
    /// A test is to kill it.
    LeftToTest {
        /// The package.
        package: &'static str,
        /// The test.
        test: &'static str,
    },
    /// All seeds passed.
    Survived {
        /// How many.
        seeds: u64,
    },
}

/// A mutant and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Verdict {
    pub(super) mutant: Mutant,
    pub(super) fate: Fate,
    pub(super) seconds: f64,
}

/// What the clusters run that a mutant is let loose in.
const fn protocol_of(mutant: Mutant, given: Choice) -> Choice {
    match mutant {
        Mutant::CommitsAcrossViews
        | Mutant::CertificateFieldsUnsigned
        | Mutant::BadVoteSpoils
        | Mutant::TimeoutUnlocksNothing
        | Mutant::RecoversFromQuorumOnly
        | Mutant::ForgetsPromises
        | Mutant::BlockLacksCertificates
        | Mutant::CommitsNewestFirst
        | Mutant::VotesAfterTimeout
        | Mutant::TimeoutsWithoutCertificate
        | Mutant::AnybodyLeads => Choice::HotStuff,
        _ => given,
    }
}

/// Whether this binary holds any mutant.
pub(super) const fn are_built_in() -> bool {
    cfg!(feature = "mutants")
}

/// Lets `mutants` loose, on `threads` threads, each with seeds from `first` on until one fails or `seeds` have passed.
/// `tell` hears of each in the order of the registry.
pub(super) fn hunt(
    mutants: &[Mutant],
    first: u64,
    seeds: u64,
    options: &Options,
    threads: usize,
    mut tell: impl FnMut(&Verdict),
) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(mutants.len());
    for mutant in mutants {
        let begun = Instant::now();
        let fate = match mutant.killer() {
            Killer::Test(package, test) => Fate::LeftToTest { package, test },
            Killer::Simulator => {
                let options = Options { protocol: protocol_of(*mutant, options.protocol), ..options.clone() };
                chase(*mutant, first, seeds, &options, threads)
            }
        };
        let verdict = Verdict { mutant: *mutant, fate, seconds: begun.elapsed().as_secs_f64() };
        tell(&verdict);
        verdicts.push(verdict);
    }
    verdicts
}

/// The lowest seed that kills counts, however many threads look for it.
fn chase(mutant: Mutant, first: u64, seeds: u64, options: &Options, threads: usize) -> Fate {
    let threads = threads.max(1) as u64;
    let mut done = 0;
    while done < seeds {
        let round: Vec<u64> = (done..seeds.min(done + threads)).collect();
        let found: Vec<Option<String>> = std::thread::scope(|scope| {
            let running: Vec<_> = round
                .iter()
                .map(|index| scope.spawn(move || meet(mutant, first.wrapping_add(*index), options)))
                .collect();
            running.into_iter().map(|run| run.join().unwrap_or_else(|_| Some("a panic".to_owned()))).collect()
        });
        if let Some((place, by)) = found.into_iter().enumerate().find_map(|(place, by)| Some((place, by?))) {
            return Fate::Killed { seeds: done + place as u64 + 1, by };
        }
        done += round.len() as u64;
    }
    Fate::Survived { seeds }
}

/// Runs one seed with the mutant loose in this thread; what failed.
fn meet(mutant: Mutant, seed: u64, options: &Options) -> Option<String> {
    release(Some(mutant));
    let outcome = catch_unwind(AssertUnwindSafe(|| super::run(seed, options)));
    release(None);
    match outcome {
        Ok(report) => report.violation.map(|violation| violation.oracle.to_string()),
        Err(_) => Some("an assertion".to_owned()),
    }
}

#[cfg(feature = "mutants")]
fn release(mutant: Option<Mutant>) {
    quorate_crypto::mutant::release(mutant);
}

/// There is none to release.
#[cfg(not(feature = "mutants"))]
fn release(_: Option<Mutant>) {}

/// Reads a mutant's name.
pub(super) fn named(name: &str) -> Result<Mutant, String> {
    Mutant::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("no such mutant; there are {}", names.join(", "))
    })
}

/// The command: hunts `only`, or all if none is named, and prints the table. Whether none survived.
///
/// # Errors
/// No mutant is built in; stdout fails.
pub(super) fn hunt_and_tell(
    only: &[Mutant],
    first: u64,
    seeds: u64,
    options: &Options,
    threads: usize,
    as_json: bool,
) -> anyhow::Result<bool> {
    if !are_built_in() {
        anyhow::bail!("no mutants are built in; build with --features mutants");
    }
    let mutants = if only.is_empty() { Mutant::ALL } else { only };
    let mut out = anstream::stdout();
    if !as_json {
        writeln!(out, "{:<26} {:<13} {:>7}  killed by", "mutant", "rule", "seeds")?;
    }
    let mut failed = Ok(());
    let verdicts = hunt(mutants, first, seeds, options, threads, |verdict| {
        let told = if as_json { writeln!(out, "{}", row_as_json(verdict)) } else { writeln!(out, "{}", row(verdict)) };
        failed = std::mem::replace(&mut failed, Ok(())).and(told);
    });
    failed?;
    let mut counts: Vec<u64> = verdicts
        .iter()
        .filter_map(|verdict| match verdict.fate {
            Fate::Killed { seeds, .. } => Some(seeds),
            _ => None,
        })
        .collect();
    counts.sort_unstable();
    let survivors = verdicts.iter().filter(|verdict| matches!(verdict.fate, Fate::Survived { .. })).count();
    if !as_json {
        let median = counts.get(counts.len() / 2).map_or_else(|| "none".to_owned(), u64::to_string);
        let tests = verdicts.len() - survivors - counts.len();
        writeln!(
            out,
            "{} killed by the simulator (median {median} seeds), {tests} left to tests, {survivors} survived",
            counts.len()
        )?;
    }
    Ok(survivors == 0)
}

fn row(verdict: &Verdict) -> String {
    let (name, rule) = (verdict.mutant.name(), verdict.mutant.rule());
    match &verdict.fate {
        Fate::Killed { seeds, by } => format!("{name:<26} {rule:<13} {seeds:>7}  {by}"),
        Fate::LeftToTest { package, test } => format!("{name:<26} {rule:<13} {:>7}  test {package} {test}", "-"),
        Fate::Survived { seeds } => format!("{name:<26} {rule:<13} {seeds:>7}  SURVIVED"),
    }
}

fn row_as_json(verdict: &Verdict) -> serde_json::Value {
    let Verdict { mutant, fate, seconds } = verdict;
    let (fate, seeds, by) = match fate {
        Fate::Killed { seeds, by } => ("killed", Some(*seeds), Some(by.clone())),
        Fate::LeftToTest { package, test } => ("left-to-test", None, Some(format!("{package} {test}"))),
        Fate::Survived { seeds } => ("survived", Some(*seeds), None),
    };
    json!({
        "mutant": mutant.name(), "rule": mutant.rule(), "what": mutant.what(),
        "fate": fate, "seeds": seeds, "by": by, "seconds": seconds,
    })
}
