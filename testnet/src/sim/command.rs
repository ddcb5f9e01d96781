//! The `simulate` subcommand.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_crypto::mutant::Mutant;
use quorate_crypto::{Protocol, ReplicaId};
use serde_json::json;

use super::campaign::{Extent, Summary, power_cuts, seeds};
use super::crash_points::crash_points;
use super::plan::{Choice, CrashPoint, Options, Plan, Sabotage};
use super::report::SimulationReport;
use super::shrink::shrink;
use crate::faults::Misbehaviour;
use crate::faults::client::ClientBehaviour;
use crate::faults::phase::{Phase, all_names};
use crate::measure;

/// Exit code when a rule did not hold.
pub const EXIT_VIOLATION: u8 = 5;
/// Seeds without any other word.
const DEFAULT_SEEDS: u64 = 500;
/// A campaign of so many runs of all sizes fails if a possible pair of behaviour and phase never came up.
const COVERAGE_RUNS: u64 = 20_000;
/// A campaign stops after so many failing seeds.
pub(super) const FAILURES_MAX: usize = 10;

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
    /// Count messages, bytes, signatures and message delays at every size of -n, fault-free, with f replicas silent and when
    /// the leader dies.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "power_cuts", "crash_points", "mutants", "faults", "beyond_f"])]
    pub measure: bool,
    /// Where the plots of --measure go: SVG files, in a directory.
    #[arg(long, value_name = "DIRECTORY", requires = "measure")]
    pub plot: Option<PathBuf>,
    /// What the cluster runs: `pbft`, `hotstuff`, or `both`: PBFT under even seeds and HotStuff under odd ones.
    #[arg(long, default_value = "pbft")]
    pub protocol: Choice,
    /// Replicas: 4 to 7, or `all` to let each seed decide; with --measure a list, as in 4,7,16.
    #[arg(short = 'n', long = "replicas", value_parser = replicas, default_value = "all")]
    pub replicas: Replicas,
    /// Make a replica lie: `2=equivocate`, `2=vote-many:view:1-3`. May be given for up to f replicas.
    #[arg(long = "fault", value_parser = fault, value_name = "REPLICA=BEHAVIOUR")]
    pub faults: Vec<(u16, Misbehaviour)>,
    /// Make a client misbehave: `flood`. May be given several times.
    #[arg(long = "client-fault", value_parser = client_fault, value_name = "BEHAVIOUR")]
    pub client_faults: Vec<ClientBehaviour>,
    /// Use ed25519 in every run instead of one in fifty.
    #[arg(long)]
    pub ed25519: bool,
    /// Cut the power of the whole cluster at so many storage operations, one a run.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes"])]
    pub power_cuts: Option<u64>,
    /// Cut the power at this storage operation.
    #[arg(long)]
    pub power_cut_at: Option<u64>,
    /// One replica loses its disk and is killed at this storage operation of its way back. Nothing else breaks.
    #[arg(long, conflicts_with_all = ["faults", "client_faults", "power_cut_at", "crash_point", "beyond_f"])]
    pub rejoin_dies_at: Option<u64>,
    /// Let one replica die at one storage operation, a run for every operation and replica of one seed's workload.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes", "power_cuts", "power_cut_at"])]
    pub crash_points: bool,
    /// Take only so many crash points, sampled from as many seeds as it needs.
    #[arg(long, requires = "crash_points")]
    pub limit: Option<u64>,
    /// Let one replica die at this storage operation of its own: `2@317` is killed, `2@317!` loses power.
    #[arg(long, value_parser = crash_point, value_name = "REPLICA@OPERATION", requires = "seed")]
    pub crash_point: Option<CrashPoint>,
    /// Let f + 1 replicas lie and work together: agreement may break, and the evidence must name them.
    #[arg(long, conflicts_with_all = ["faults", "power_cuts", "crash_points"])]
    pub beyond_f: bool,
    /// Leave planned faults of these numbers out, as a shrunk failure names them.
    #[arg(long, value_delimiter = ',', requires = "seed")]
    pub without: Vec<usize>,
    /// Nothing breaks and nobody lies: such a run never fails.
    #[arg(long)]
    pub calm: bool,
    /// Do not look for the planned faults that a failure needs.
    #[arg(long)]
    pub no_shrink: bool,
    /// Print the trace hash of every seed, one a line.
    #[arg(long, hide = true, requires = "seeds")]
    pub hashes: bool,
    /// Write a line for every event of the seed to this file.
    #[arg(long, requires = "seed")]
    pub trace: Option<PathBuf>,
    /// Build in a defect, to see the oracles find it: `lost-sync`, `send-before-record`, `low-quorum`, or
    /// the `canary` that always fails.
    #[arg(long, value_parser = sabotage)]
    pub sabotage: Option<Sabotage>,
    /// Let the defects of our own code loose one after the other; each must die. In a binary built with
    /// `--features mutants`; `--seeds` is how many seeds each may survive.
    #[arg(long, conflicts_with_all = ["seed", "minutes", "power_cuts", "crash_points", "beyond_f"])]
    pub mutants: bool,
    /// Only this mutant; may be given several times.
    #[arg(long = "mutant", requires = "mutants", value_parser = super::mutants::named, value_name = "NAME")]
    pub only: Vec<Mutant>,
    /// One replica that runs twice.
    #[command(flatten)]
    pub twins: super::twins::command::Twins,
    /// Threads of a campaign; all processors if not given.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print JSON: one object for a seed or a campaign.
    #[arg(long)]
    pub json: bool,
}

/// How many replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replicas {
    /// The seed decides.
    All,
    /// So many.
    Exactly(usize),
    /// Each of these, one after the other.
    Each(Vec<usize>),
}

fn replicas(text: &str) -> Result<Replicas, String> {
    match text {
        "all" => Ok(Replicas::All),
        _ => match text.parse() {
            Ok(count @ 4..=7) => Ok(Replicas::Exactly(count)),
            _ => each(text).map(Replicas::Each).ok_or_else(|| "4, 5, 6, 7 or all".to_owned()),
        },
    }
}

/// `4,7,16`.
fn each(text: &str) -> Option<Vec<usize>> {
    let sizes: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    sizes.ok().filter(|sizes| sizes.iter().all(|size| (4..=measure::REPLICAS_MAX).contains(size)))
}

fn client_fault(text: &str) -> Result<ClientBehaviour, String> {
    text.parse().map_err(|error: crate::faults::client::UnknownClientBehaviour| error.to_string())
}

fn fault(text: &str) -> Result<(u16, Misbehaviour), String> {
    let (replica, behaviour) = text.split_once('=').ok_or("write REPLICA=BEHAVIOUR, as in 2=equivocate")?;
    let replica = replica.parse().map_err(|_| format!("{replica:?} is no replica number"))?;
    Ok((replica, behaviour.parse().map_err(|error: crate::faults::MisbehaviourError| error.to_string())?))
}

fn sabotage(text: &str) -> Result<Sabotage, String> {
    Sabotage::by_name(text).ok_or_else(|| "lost-sync, send-before-record, low-quorum or canary".to_owned())
}

fn crash_point(text: &str) -> Result<CrashPoint, String> {
    let wrong = || "write REPLICA@OPERATION, as in 2@317, with a ! behind it for a power cut".to_owned();
    let (replica, operation) = text.split_once('@').ok_or_else(wrong)?;
    let (operation, power_cut) = operation.strip_suffix('!').map_or((operation, false), |operation| (operation, true));
    Ok(CrashPoint {
        replica: replica.parse().map_err(|_| wrong())?,
        operation: operation.parse().map_err(|_| wrong())?,
        power_cut,
    })
}

impl Simulate {
    pub(super) fn options(&self) -> anyhow::Result<Options> {
        let size = match &self.replicas {
            Replicas::Exactly(count) => Some(*count),
            Replicas::All => None,
            Replicas::Each(_) => anyhow::bail!("-n takes 4, 5, 6, 7 or all; a list is for --measure"),
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
        let runs = |protocol: &Protocol| match self.seed {
            Some(seed) => self.protocol.of(seed) == *protocol,
            None => self.protocol.includes(*protocol),
        };
        for protocol in Protocol::ALL.into_iter().filter(runs) {
            if let Some(sentence) = self.faults.iter().find_map(|(_, one)| one.behaviour.refusal(protocol)) {
                anyhow::bail!("{sentence}");
            }
        }
        if let (Some(point), Some(seed)) = (self.crash_point, self.seed) {
            let replicas = replicas_of(seed, size);
            if point.replica >= replicas {
                anyhow::bail!(
                    "replica {} does not exist in the cluster of seed {seed}, which has {replicas}",
                    point.replica
                );
            }
        }
        Ok(Options {
            protocol: self.protocol,
            crash_point: self.crash_point,
            beyond_f: self.beyond_f,
            calm: self.calm,
            without: self.without.iter().copied().collect(),
            replicas: size,
            faults: self.faults.iter().map(|(replica, one)| (ReplicaId(*replica), one.clone())).collect(),
            client_faults: self.client_faults.clone(),
            first_behaviours: false,
            disks_stay: false,
            ed25519: self.ed25519,
            power_cut_at: self.power_cut_at,
            rejoin_dies_at: self.rejoin_dies_at,
            twins: None,
            script: None,
            meter: None,
            sabotage: self.sabotage,
            trace: self.trace.is_some(),
        })
    }

    /// Runs the command; returns the exit code.
    ///
    /// # Errors
    /// A trace file that cannot be written, options that contradict each other.
    pub fn run(&self) -> anyhow::Result<u8> {
        if self.measure {
            return self.measure();
        }
        let options = self.options()?;
        if self.twins.wanted {
            return super::twins::command::run(self, &options);
        }
        // A panic inside a run is a verdict, told with its seed.
        std::panic::set_hook(Box::new(|_| {}));
        let code = match self.seed {
            Some(seed) => self.run_one(seed, &options),
            None if self.mutants => self.run_mutants(&options),
            None if self.hashes => self.print_hashes(&options),
            None => self.run_many(&options),
        };
        let _ = std::panic::take_hook();
        code
    }

    /// What agreement costs at every size.
    fn measure(&self) -> anyhow::Result<u8> {
        let sizes = match &self.replicas {
            Replicas::All => vec![4, 7, 16, 31, 64],
            Replicas::Exactly(count) => vec![*count],
            Replicas::Each(sizes) => sizes.clone(),
        };
        let protocols: Vec<Protocol> =
            Protocol::ALL.into_iter().filter(|protocol| self.protocol.includes(*protocol)).collect();
        let bar = progress(Extent::Seeds((sizes.len() * protocols.len() * measure::Situation::ALL.len()) as u64));
        let seed = self.seed.unwrap_or(self.start);
        let mut rows = Vec::new();
        for protocol in &protocols {
            for size in &sizes {
                for situation in measure::Situation::ALL {
                    bar.set_message(format!("{protocol}, {size} replicas, {}", situation.name()));
                    match measure::measure(seed, *protocol, *size, situation) {
                        Ok(row) => rows.push(row),
                        Err(sentence) => {
                            bar.finish_and_clear();
                            writeln!(anstream::stderr(), "seed {seed}: {sentence}")?;
                            return Ok(EXIT_VIOLATION);
                        }
                    }
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        if self.json {
            writeln!(anstream::stdout(), "{}", measure::to_json(seed, &rows))?;
        } else {
            crate::command::measure::say(&rows);
        }
        if let Some(directory) = &self.plot {
            for path in measure::plot::write(directory, &rows)? {
                writeln!(anstream::stderr(), "wrote {}", path.display())?;
            }
        }
        Ok(0)
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
        self.tell_failure(&report, options)
    }

    /// For comparing builds: what a seed's hash is depends on nothing but the seed and the sources.
    fn print_hashes(&self, options: &Options) -> anyhow::Result<u8> {
        let mut out = anstream::stdout();
        for seed in self.start..self.start.saturating_add(self.seeds.unwrap_or(DEFAULT_SEEDS)) {
            writeln!(out, "{seed} {}", super::run(seed, options).trace_hash.to_hex())?;
        }
        Ok(0)
    }

    fn run_mutants(&self, options: &Options) -> anyhow::Result<u8> {
        let seeds = self.seeds.unwrap_or(super::mutants::SEEDS);
        let all = super::mutants::hunt_and_tell(&self.only, self.start, seeds, options, self.threads(), self.json)?;
        Ok(if all { 0 } else { EXIT_VIOLATION })
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))
    }

    fn run_many(&self, options: &Options) -> anyhow::Result<u8> {
        let extent = match (self.minutes, self.power_cuts) {
            (Some(minutes), _) => Extent::Time(Duration::from_secs_f64(minutes.max(0.0) * 60.0)),
            (None, Some(points)) => Extent::Seeds(points),
            (None, None) => Extent::Seeds(self.seeds.unwrap_or(DEFAULT_SEEDS)),
        };
        let threads = self.threads();
        let bar = progress(extent);
        let tell = |summary: &Summary| {
            match extent {
                Extent::Seeds(_) => bar.set_position(summary.runs),
                Extent::Time(_) => bar.set_position(summary.seconds as u64),
            }
            bar.set_message(format!("{} runs, {} failed", summary.runs, summary.failed.len()));
        };
        let summary = match self.power_cuts {
            Some(points) => power_cuts(self.start, points, options, threads, FAILURES_MAX, tell),
            None if self.crash_points => crash_points(self.start, self.limit, options, threads, FAILURES_MAX, tell),
            None => seeds(self.start, extent, options, threads, FAILURES_MAX, tell),
        };
        bar.finish_and_clear();
        self.tell_summary(&summary)?;
        let mut code = self.tell_coverage(&summary)?;
        for (report, options) in &summary.failed {
            code = code.max(self.tell_failure(report, options)?);
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
                "points": summary.points,
                "virtual_seconds": summary.virtual_seconds,
                "operations": summary.operations,
                "seconds": summary.seconds,
                "counters": counters,
                "faults": summary.counters.faults,
                "behaviours": summary.counters.behaviours,
                "phases": summary.counters.phases_to_json(),
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
        if self.power_cuts.is_some() || self.crash_points {
            writeln!(out, "points taken {}", summary.points)?;
        }
        print_counters(&mut out, &summary.counters)?;
        print_matrix(&mut out, &summary.counters)
    }

    /// Whether the campaign is large and free enough that every pair of behaviour and phase must have come up.
    fn must_cover(&self, summary: &Summary) -> bool {
        let free = self.replicas == Replicas::All && self.faults.is_empty() && self.client_faults.is_empty();
        let usual = self.power_cuts.is_none() && !self.crash_points && !self.beyond_f && !self.calm;
        free && usual && summary.runs >= COVERAGE_RUNS && summary.failed.is_empty()
    }

    fn tell_coverage(&self, summary: &Summary) -> anyhow::Result<u8> {
        let missing = summary.counters.never_happened(self.protocol);
        if missing.is_empty() || !self.must_cover(summary) {
            return Ok(0);
        }
        let mut err = anstream::stderr();
        for (behaviour, phase) in missing {
            writeln!(err, "{behaviour} never acted in phase {phase}, in {} runs", summary.runs)?;
        }
        Ok(EXIT_VIOLATION)
    }

    /// What failed, the one line that replays it, and the planned faults that it takes.
    fn tell_failure(&self, report: &SimulationReport, options: &Options) -> anyhow::Result<u8> {
        let Some(violation) = &report.violation else { return Ok(0) };
        let mut err = anstream::stderr();
        writeln!(err, "seed {}: {violation}", report.seed)?;
        writeln!(err, "replay: {}", replay_line(report, options))?;
        if self.no_shrink {
            return Ok(EXIT_VIOLATION);
        }
        let untraced = Options { trace: false, ..options.clone() };
        let shrunk = shrink(report.seed, &untraced, violation.oracle);
        writeln!(
            err,
            "  {} of {} planned faults are needed, found in {} runs:",
            shrunk.kept.len(),
            report.planned.len(),
            shrunk.runs
        )?;
        for (number, fault) in &shrunk.kept {
            writeln!(err, "    {number:>3}  {fault}")?;
        }
        if !shrunk.without.is_empty() {
            let numbers: Vec<String> = shrunk.without.iter().map(usize::to_string).collect();
            writeln!(err, "  the others are left out with --without {}", numbers.join(","))?;
        }
        Ok(EXIT_VIOLATION)
    }
}

/// How many replicas the cluster of a seed has.
fn replicas_of(seed: u64, given: Option<usize>) -> usize {
    Plan::new(seed, &Options { replicas: given, ..Options::default() }).replicas
}

/// The one line that replays a run.
fn replay_line(report: &SimulationReport, options: &Options) -> String {
    let mut words = vec![format!("quorate-testnet simulate --seed {}", report.seed)];
    words.extend((report.protocol != Protocol::Pbft).then(|| format!("--protocol {}", report.protocol)));
    words.extend(options.replicas.map(|replicas| format!("-n {replicas}")));
    words.extend(options.client_faults.iter().map(|behaviour| format!("--client-fault {behaviour}")));
    words.extend(options.faults.iter().map(|(replica, behaviour)| format!("--fault {replica}={behaviour}")));
    words.extend(options.ed25519.then(|| "--ed25519".to_owned()));
    words.extend(options.sabotage.map(|sabotage| format!("--sabotage {}", sabotage.name())));
    words.extend(options.crash_point.map(|point| {
        let power_cut = if point.power_cut { "!" } else { "" };
        format!("--crash-point {}@{}{power_cut}", point.replica, point.operation)
    }));
    words.extend(options.beyond_f.then(|| "--beyond-f".to_owned()));
    words.extend(options.calm.then(|| "--calm".to_owned()));
    if !options.without.is_empty() {
        let numbers: Vec<String> = options.without.iter().map(usize::to_string).collect();
        words.push(format!("--without {}", numbers.join(",")));
    }
    words.extend(options.power_cut_at.map(|operation| format!("--power-cut-at {operation}")));
    words.extend(options.rejoin_dies_at.map(|operation| format!("--rejoin-dies-at {operation}")));
    words.join(" ")
}

pub(super) fn print_counters(out: &mut impl std::io::Write, counters: &super::report::Counters) -> anyhow::Result<()> {
    for (name, count) in counters.named() {
        writeln!(out, "  {:<32} {count:>12}", name.replace('_', " "))?;
    }
    for (fault, times) in &counters.faults {
        writeln!(out, "  {fault:<32} {times:>12}")?;
    }
    for (behaviour, acted) in &counters.behaviours {
        writeln!(out, "  {behaviour:<32} {acted:>12}")?;
    }
    Ok(())
}

/// What acted in which phase, a row a behaviour; `-` where nothing did.
fn print_matrix(out: &mut impl std::io::Write, counters: &super::report::Counters) -> anyhow::Result<()> {
    write!(out, "  {:<20}", "BEHAVIOUR x PHASE")?;
    for phase in Phase::ALL {
        write!(out, " {:>12}", phase.name())?;
    }
    writeln!(out)?;
    for name in all_names() {
        write!(out, "  {name:<20}")?;
        for phase in Phase::ALL {
            match counters.phases.get(&(name, phase.name())) {
                Some(acted) => write!(out, " {acted:>12}")?,
                None => write!(out, " {:>12}", "-")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn progress(extent: Extent) -> ProgressBar {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::command::arguments::{Arguments, Command};
    use crate::faults::phase::possible_pairs;

    fn simulate(words: &[&str]) -> Simulate {
        let arguments = ["quorate-testnet", "simulate"].iter().chain(words);
        match Arguments::try_parse_from(arguments).expect("accepted").command {
            Command::Simulate(simulate) => simulate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_large_campaign_must_have_seen_every_pair() {
        let nothing = |runs| Summary { runs, ..Summary::default() };
        let mut everything = nothing(COVERAGE_RUNS);
        for (behaviour, phase) in possible_pairs(|protocol| protocol == Protocol::Pbft) {
            everything.counters.acted_in(behaviour, phase, 1);
        }
        let free = simulate(&["--seeds", "5000"]);
        assert_eq!(free.tell_coverage(&nothing(COVERAGE_RUNS)).expect("told"), EXIT_VIOLATION);
        assert_eq!(free.tell_coverage(&everything).expect("told"), 0);
        assert_eq!(free.tell_coverage(&nothing(COVERAGE_RUNS - 1)).expect("told"), 0, "a small one is only told");
        for chosen in [["-n", "4"], ["--fault", "0=silent"], ["--client-fault", "flood"]] {
            assert_eq!(simulate(&chosen).tell_coverage(&nothing(COVERAGE_RUNS)).expect("told"), 0, "{chosen:?}");
        }
    }

    #[test]
    fn a_replay_line_names_every_liar() {
        let simulate = simulate(&["-n", "4", "--fault", "1=vote-many:view:2-4", "--client-fault", "same-number"]);
        let report = crate::sim::run(5, &simulate.options().expect("options"));
        let line = replay_line(&report, &simulate.options().expect("options"));
        assert!(line.contains("-n 4 --client-fault same-number --fault 1=vote-many:view:2-4"), "{line}");
    }
}
