//! The `simulate` subcommand.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_crypto::ReplicaId;
use serde_json::json;

use super::campaign::{Extent, Summary, power_cuts, seeds};
use super::plan::{Options, Sabotage};
use super::report::SimulationReport;
use crate::faults::Behaviour;

/// Exit code when a rule did not hold.
pub const EXIT_VIOLATION: u8 = 5;
/// Seeds without any other word.
const DEFAULT_SEEDS: u64 = 500;
/// A campaign stops after so many failing seeds.
const FAILURES_MAX: usize = 10;

/// Runs the same replicas in virtual time: one seed decides faults, network, disks and clients.
///
/// Example: `quorate-testnet simulate --seed 42 -n 7 --fault 2=equivocate`
#[derive(Debug, Args)]
pub struct Simulate {
    /// Run this one seed.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    pub seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, conflicts_with = "minutes")]
    pub seeds: Option<u64>,
    /// Run seeds for so many minutes.
    #[arg(long)]
    pub minutes: Option<f64>,
    /// The first seed of a campaign.
    #[arg(long, default_value_t = 1)]
    pub start: u64,
    /// Replicas: 4 to 7, or `all` to let each seed decide.
    #[arg(short = 'n', long = "replicas", value_parser = replicas, default_value = "all")]
    pub replicas: Replicas,
    /// Make a replica lie: `2=equivocate`. May be given for up to f replicas.
    #[arg(long = "fault", value_parser = fault, value_name = "REPLICA=BEHAVIOUR")]
    pub faults: Vec<(u16, Behaviour)>,
    /// Use ed25519 in every run instead of one in fifty.
    #[arg(long)]
    pub ed25519: bool,
    /// Cut the power of the whole cluster at so many storage operations, one a run.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes"])]
    pub power_cuts: Option<u64>,
    /// Cut the power at this storage operation.
    #[arg(long)]
    pub power_cut_at: Option<u64>,
    /// One replica loses its disk and is killed at this storage operation of its way back.
    #[arg(long)]
    pub rejoin_dies_at: Option<u64>,
    /// Write a line for every event of the seed to this file.
    #[arg(long, requires = "seed")]
    pub trace: Option<PathBuf>,
    /// Build in a defect, to see the oracles find it: `lost-sync` or `send-before-record`.
    #[arg(long, value_parser = sabotage)]
    pub sabotage: Option<Sabotage>,
    /// Threads of a campaign; all processors if not given.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print JSON: one object for a seed or a campaign.
    #[arg(long)]
    pub json: bool,
}

/// How many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// The seed decides.
    All,
    /// So many.
    Exactly(usize),
}

fn replicas(text: &str) -> Result<Replicas, String> {
    match text {
        "all" => Ok(Replicas::All),
        _ => match text.parse() {
            Ok(count @ 4..=7) => Ok(Replicas::Exactly(count)),
            _ => Err("4, 5, 6, 7 or all".to_owned()),
        },
    }
}

fn fault(text: &str) -> Result<(u16, Behaviour), String> {
    let (replica, behaviour) = text.split_once('=').ok_or("write REPLICA=BEHAVIOUR, as in 2=equivocate")?;
    let replica = replica.parse().map_err(|_| format!("{replica:?} is no replica number"))?;
    Ok((replica, behaviour.parse().map_err(|error: crate::faults::UnknownBehaviour| error.to_string())?))
}

fn sabotage(text: &str) -> Result<Sabotage, String> {
    Sabotage::by_name(text).ok_or_else(|| "lost-sync or send-before-record".to_owned())
}

impl Simulate {
    fn options(&self) -> anyhow::Result<Options> {
        let size = match self.replicas {
            Replicas::Exactly(count) => Some(count),
            Replicas::All => None,
        };
        // A replica named in --fault exists, and no more than f of them lie, whatever the seed chooses.
        let smallest = size.unwrap_or(4);
        let mut liars: Vec<u16> = self.faults.iter().map(|(replica, _)| *replica).collect();
        liars.sort_unstable();
        liars.dedup();
        if let Some(unknown) = liars.iter().find(|replica| usize::from(**replica) >= smallest) {
            anyhow::bail!("replica {unknown} does not exist in every cluster of {smallest}; give -n");
        }
        let faults = (smallest - 1) / 3;
        if liars.len() > faults {
            anyhow::bail!("{} replicas lie, a cluster of {smallest} tolerates {faults}", liars.len());
        }
        Ok(Options {
            replicas: size,
            faults: self.faults.iter().map(|(replica, behaviour)| (ReplicaId(*replica), *behaviour)).collect(),
            ed25519: self.ed25519,
            power_cut_at: self.power_cut_at,
            rejoin_dies_at: self.rejoin_dies_at,
            sabotage: self.sabotage,
            trace: self.trace.is_some(),
        })
    }

    /// Runs the command; returns the exit code.
    ///
    /// # Errors
    /// A trace file that cannot be written, options that contradict each other.
    pub fn run(&self) -> anyhow::Result<u8> {
        let options = self.options()?;
        match self.seed {
            Some(seed) => self.run_one(seed, &options),
            None => self.run_many(&options),
        }
    }

    fn run_one(&self, seed: u64, options: &Options) -> anyhow::Result<u8> {
        let report = super::run(seed, options);
        if let Some(path) = &self.trace {
            let mut text = report.trace.join("\n");
            text.push('\n');
            std::fs::write(path, text).with_context(|| format!("cannot write the trace to {}", path.display()))?;
        }
        let mut out = anstream::stdout();
        if self.json {
            writeln!(out, "{}", report.to_json())?;
        } else {
            writeln!(out, "seed {seed}  replicas {}  verdict {}", report.replicas, report.verdict())?;
            writeln!(out, "virtual time {:.2} s  operations {}", report.virtual_seconds, report.operations)?;
            print_counters(&mut out, &report.counters)?;
            writeln!(out, "trace {}", report.trace_hash.to_hex())?;
        }
        tell_failure(&report, options)
    }

    fn run_many(&self, options: &Options) -> anyhow::Result<u8> {
        let extent = match (self.minutes, self.power_cuts) {
            (Some(minutes), _) => Extent::Time(Duration::from_secs_f64(minutes.max(0.0) * 60.0)),
            (None, Some(points)) => Extent::Seeds(points),
            (None, None) => Extent::Seeds(self.seeds.unwrap_or(DEFAULT_SEEDS)),
        };
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
        let bar = progress(extent);
        // A panic inside a run is a verdict, told with its seed.
        std::panic::set_hook(Box::new(|_| {}));
        let tell = |summary: &Summary| {
            match extent {
                Extent::Seeds(_) => bar.set_position(summary.runs),
                Extent::Time(_) => bar.set_position(summary.seconds as u64),
            }
            bar.set_message(format!("{} runs, {} failed", summary.runs, summary.failed.len()));
        };
        let summary = match self.power_cuts {
            Some(points) => power_cuts(self.start, points, options, threads, FAILURES_MAX, tell),
            None => seeds(self.start, extent, options, threads, FAILURES_MAX, tell),
        };
        let _ = std::panic::take_hook();
        bar.finish_and_clear();
        self.tell_summary(&summary)?;
        let mut code = 0;
        for (report, options) in &summary.failed {
            code = code.max(tell_failure(report, options)?);
        }
        Ok(code)
    }

    fn tell_summary(&self, summary: &Summary) -> anyhow::Result<()> {
        let mut out = anstream::stdout();
        if self.json {
            let counters: serde_json::Map<String, serde_json::Value> =
                summary.counters.named().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
            let failed: Vec<_> = summary.failed.iter().map(|(report, _)| report.to_json()).collect();
            let object = json!({
                "v": 1,
                "runs": summary.runs,
                "verdict": if summary.failed.is_empty() { "ok" } else { "violation" },
                "failed": failed,
                "power_cut_points": summary.points,
                "virtual_seconds": summary.virtual_seconds,
                "operations": summary.operations,
                "seconds": summary.seconds,
                "counters": counters,
                "behaviours": summary.counters.behaviours,
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        writeln!(
            out,
            "{} runs in {:.1} s ({:.1} a second), {} failed",
            summary.runs,
            summary.seconds,
            summary.runs as f64 / summary.seconds.max(0.001),
            summary.failed.len()
        )?;
        writeln!(out, "virtual time {:.0} s  operations {}", summary.virtual_seconds, summary.operations)?;
        if self.power_cuts.is_some() {
            writeln!(out, "power-cut points {}", summary.points)?;
        }
        print_counters(&mut out, &summary.counters)
    }
}

fn tell_failure(report: &SimulationReport, options: &Options) -> anyhow::Result<u8> {
    let Some(violation) = &report.violation else { return Ok(0) };
    let mut err = anstream::stderr();
    writeln!(err, "seed {}: {violation}", report.seed)?;
    writeln!(err, "replay: {}", replay_line(report, options))?;
    Ok(EXIT_VIOLATION)
}

/// The one line that replays a run.
fn replay_line(report: &SimulationReport, options: &Options) -> String {
    let mut words = vec![format!("quorate-testnet simulate --seed {}", report.seed)];
    words.extend(options.replicas.map(|replicas| format!("-n {replicas}")));
    words.extend(options.faults.iter().map(|(replica, behaviour)| format!("--fault {replica}={behaviour}")));
    words.extend(options.ed25519.then(|| "--ed25519".to_owned()));
    words.extend(options.sabotage.map(|sabotage| format!("--sabotage {}", sabotage.name())));
    words.extend(options.power_cut_at.map(|operation| format!("--power-cut-at {operation}")));
    words.extend(options.rejoin_dies_at.map(|operation| format!("--rejoin-dies-at {operation}")));
    words.join(" ")
}

fn print_counters(out: &mut impl std::io::Write, counters: &super::report::Counters) -> anyhow::Result<()> {
    for (name, count) in counters.named() {
        writeln!(out, "  {:<20} {count:>12}", name.replace('_', " "))?;
    }
    for (behaviour, acted) in &counters.behaviours {
        writeln!(out, "  {behaviour:<20} {acted:>12}")?;
    }
    Ok(())
}

fn progress(extent: Extent) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, unit) = match extent {
        Extent::Seeds(seeds) => (seeds, "runs"),
        Extent::Time(time) => (time.as_secs(), "s"),
    };
    let bar = ProgressBar::new(length);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}  {{msg}}  {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
