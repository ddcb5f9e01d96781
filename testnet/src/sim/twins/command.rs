//! `simulate --twins`: all scenarios, a range of them, a sample, or one.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;

use anyhow::Context as _;
use clap::Args;
use quorate_crypto::Protocol;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::{Scenario, Scenarios};
use crate::sim::campaign::{Extent, Summary, run_jobs};
use crate::sim::command::{EXIT_VIOLATION, FAILURES_MAX, Replicas, Simulate, print_counters, progress};
use crate::sim::plan::Options;
use crate::sim::report::SimulationReport;

/// The seed of all scenarios without another word: it decides delays and what clients ask for.
const DEFAULT_SEED: u64 = 1;

/// What `--twins` takes.
#[derive(Debug, Args)]
pub struct Twins {
    /// Let one of four replicas run twice with one key, in every pattern of partitions over three rounds.
    #[arg(id = "twins", long = "twins", conflicts_with_all = [
        "seeds", "minutes", "start", "faults", "client_faults", "power_cuts", "power_cut_at", "crash_points",
        "crash_point", "beyond_f", "calm", "without", "hashes",
    ])]
    pub wanted: bool,
    /// Play only so many scenarios, drawn by the seed.
    #[arg(long, requires = "twins", conflicts_with_all = ["range", "scenario"])]
    pub sample: Option<u64>,
    /// Play only the scenarios of these numbers, the last excluded: `1000..2000`. Ranges can be played one after the
    /// other or on several machines.
    #[arg(long, requires = "twins", value_parser = range, value_name = "FROM..TO", conflicts_with = "scenario")]
    pub range: Option<Range<u64>>,
    /// Play the scenario of this number.
    #[arg(long, requires = "twins")]
    pub scenario: Option<u64>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "write FROM..TO, as in 1000..2000".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok(from..to) } else { Err(wrong()) }
}

/// Plays scenarios of these numbers, on `threads` threads, until `stop_after` of them failed.
pub(in crate::sim) fn play(
    scenarios: &Scenarios,
    numbers: &[u64],
    seed: u64,
    options: &Options,
    threads: usize,
    stop_after: usize,
    tell: impl FnMut(&Summary),
) -> Summary {
    let job = |index: u64| {
        let scenario = scenarios.get(numbers[index as usize]);
        let options = Options { twins: scenario, ..options.clone() };
        (crate::sim::run(seed, &options), options)
    };
    run_jobs(threads, Extent::Seeds(numbers.len() as u64), stop_after, job, tell)
}

/// So many numbers below `count`, drawn without repetition.
pub(in crate::sim) fn sample(seed: u64, count: u64, wanted: u64) -> Vec<u64> {
    let random = &mut ChaCha12Rng::seed_from_u64(seed);
    let mut drawn = BTreeSet::new();
    while (drawn.len() as u64) < wanted.min(count) {
        drawn.insert(random.random_range(0..count));
    }
    drawn.into_iter().collect()
}

/// Runs the command; returns the exit code.
pub(in crate::sim) fn run(command: &Simulate, options: &Options) -> anyhow::Result<u8> {
    if !matches!(command.replicas, Replicas::All | Replicas::Exactly(super::scenarios::REPLICAS)) {
        anyhow::bail!("twins are played with 4 replicas; leave -n out");
    }
    let scenarios = Scenarios::new();
    let count = scenarios.count();
    let seed = command.seed.unwrap_or(DEFAULT_SEED);
    let twins = &command.twins;
    let numbers: Vec<u64> = match (twins.sample, &twins.range, twins.scenario) {
        (_, _, Some(number)) => vec![number],
        (Some(wanted), _, _) => sample(seed, count, wanted),
        (_, Some(range), _) => range.clone().take_while(|number| *number < count).collect(),
        _ => (0..count).collect(),
    };
    if let Some(unknown) = numbers.iter().find(|number| **number >= count).or(numbers.is_empty().then_some(&count)) {
        anyhow::bail!("there is no scenario {unknown}: they are numbered from 0 to {}", count - 1);
    }
    // A panic inside a run is a verdict, told with its scenario.
    std::panic::set_hook(Box::new(|_| {}));
    let code = match numbers.as_slice() {
        [number] => play_one(command, &scenarios, *number, seed, options),
        numbers => play_many(command, &scenarios, numbers, seed, options),
    };
    let _ = std::panic::take_hook();
    code
}

fn play_one(
    command: &Simulate,
    scenarios: &Scenarios,
    number: u64,
    seed: u64,
    options: &Options,
) -> anyhow::Result<u8> {
    let Some(scenario) = scenarios.get(number) else { unreachable!("the number was checked") };
    let report = crate::sim::run(seed, &Options { twins: Some(scenario), ..options.clone() });
    if let Some(path) = &command.trace {
        let mut text = report.trace.join("\n");
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write the trace to {}", path.display()))?;
    }
    let mut out = anstream::stdout();
    if command.json {
        let mut object = report.to_json();
        object["scenario"] = json!(number);
        object["twins"] = json!(scenario.to_string());
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "scenario {number}  {scenario}")?;
        writeln!(out, "seed {seed}  verdict {}", report.verdict())?;
        print_counters(&mut out, &report.counters)?;
        writeln!(out, "trace {}", report.trace_hash.to_hex())?;
    }
    tell_failure(&report, scenario, options)
}

fn play_many(
    command: &Simulate,
    scenarios: &Scenarios,
    numbers: &[u64],
    seed: u64,
    options: &Options,
) -> anyhow::Result<u8> {
    let available = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let threads = command.threads.unwrap_or_else(available);
    let bar = progress(Extent::Seeds(numbers.len() as u64));
    let summary = play(scenarios, numbers, seed, options, threads, FAILURES_MAX, |summary| {
        bar.set_position(summary.runs);
        bar.set_message(format!("{} scenarios, {} failed", summary.runs, summary.failed.len()));
    });
    bar.finish_and_clear();
    let mut out = anstream::stdout();
    if command.json {
        writeln!(out, "{}", to_json(&summary, scenarios, numbers, seed))?;
    } else {
        writeln!(
            out,
            "{} of {} scenarios in {:.1} s ({:.1} a second), {} failed",
            summary.runs,
            scenarios.count(),
            summary.seconds,
            summary.runs as f64 / summary.seconds.max(0.001),
            summary.failed.len()
        )?;
        writeln!(out, "virtual time {:.0} s  operations {}", summary.virtual_seconds, summary.operations)?;
        print_counters(&mut out, &summary.counters)?;
    }
    let mut code = 0;
    for (report, options) in &summary.failed {
        if let Some(scenario) = options.twins {
            code = code.max(tell_failure(report, scenario, options)?);
        }
    }
    Ok(code)
}

fn to_json(summary: &Summary, scenarios: &Scenarios, numbers: &[u64], seed: u64) -> Value {
    let failed: Vec<Value> = summary
        .failed
        .iter()
        .filter_map(|(report, options)| {
            let mut object = report.to_json();
            object["scenario"] = json!(options.twins?.number);
            object["twins"] = json!(options.twins?.to_string());
            Some(object)
        })
        .collect();
    json!({
        "v": 1,
        "seed": seed,
        "scenarios": scenarios.count(),
        "from": numbers.first(),
        "to": numbers.last(),
        "runs": summary.runs,
        "verdict": if failed.is_empty() { "ok" } else { "violation" },
        "failed": failed,
        "virtual_seconds": summary.virtual_seconds,
        "operations": summary.operations,
        "seconds": summary.seconds,
        "faults": summary.counters.faults,
    })
}

/// What failed, and the one line that replays it.
fn tell_failure(report: &SimulationReport, scenario: Scenario, options: &Options) -> anyhow::Result<u8> {
    let Some(violation) = &report.violation else { return Ok(0) };
    let mut err = anstream::stderr();
    writeln!(err, "scenario {}, {scenario}: {violation}", scenario.number)?;
    writeln!(err, "replay: {}", replay_line(report.seed, scenario, options))?;
    Ok(EXIT_VIOLATION)
}

pub(in crate::sim) fn replay_line(seed: u64, scenario: Scenario, options: &Options) -> String {
    let mut line = format!("quorate-testnet simulate --twins --scenario {} --seed {seed}", scenario.number);
    if options.protocol.of(seed) != Protocol::Pbft {
        line.push_str(" --protocol ");
        line.push_str(options.protocol.of(seed).name());
    }
    if options.ed25519 {
        line.push_str(" --ed25519");
    }
    if let Some(sabotage) = options.sabotage {
        line.push_str(" --sabotage ");
        line.push_str(sabotage.name());
    }
    line
}
