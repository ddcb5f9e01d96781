//! Systems side by side on this machine, in one run.
//!
//! What comes in: [`Settings`]. What goes out: a [`Comparison`]. Every system is started afresh with its data in one
//! temporary directory, so that all sync to the same disk, and is measured by the same code: the load, the clock and the
//! meters of [`mod@crate::bench`]. They take turns, row by row and round by round, and whoever is not measured is paused:
//!
//! ```text
//!   round 1:  row 1: Quorate, etcd   row 2: Quorate, etcd   ..
//!   round 2:  row 1: Quorate, etcd   ..                         one ratio a row and round: neighbours in time
//! ```
//!
//! When it ends, however it ends, all processes are killed and the directory is removed: dropping [`run`]'s future is
//! enough.
//!
//! | module | what it is |
//! |---|---|
//! | [`contestant`] | what all systems have in common: going on, pausing, being measured |
//! | [`quorate`] | a fresh testnet |
//! | [`leaders`] | what it costs when leaders fail, under either protocol: kills on processes, lies in virtual time |
//! | [`growth`] | how fast the order grows on processes while leaders lie |
//! | [`etcd`] | a fresh etcd cluster: its processes |
//! | [`etcd_client`] | a client of it: the few messages it takes |
//! | [`figures`] | what a round gave, medians, ranges, ratios |

use std::path::PathBuf;
use std::time::Duration;

use quorate_client::ClientError;
use quorate_keys::Protocol;
use rustix::fs::statfs;
use tempfile::TempDir;

use crate::bench::{self, BenchError, CLIENTS_PER_CONNECTION, DEFAULT_KEYS, Plan, Stage};
use crate::launcher::LaunchError;

pub mod contestant;
pub mod etcd;
pub mod etcd_client;
pub mod figures;
pub mod growth;
pub mod leaders;
pub mod quorate;

use contestant::Contestant;
use figures::Figures;
use growth::Growth;
use leaders::Failing;

/// Clients of the row with bundles.
const BUNDLING_CLIENTS: usize = 16;
/// Operations of one of its requests; etcd takes 128 in a transaction unless told otherwise.
const BUNDLE: usize = 64;
/// What `statfs` says of a file system in memory (`TMPFS_MAGIC` of linux/magic.h).
const TMPFS: i64 = 0x0102_1994;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The etcd program; none leaves etcd out.
    pub etcd: Option<PathBuf>,
    /// Clients of the rows with many clients.
    pub clients: usize,
    /// Bytes of a value.
    pub value_size: usize,
    /// How long each row is measured in each round.
    pub duration: Duration,
    /// How often everything is measured.
    pub rounds: u16,
    /// How many leaders of each protocol are killed; none leaves out what failing leaders cost.
    pub kills: u32,
    /// How long the order is watched before leaders lie, while they do and after it; zero leaves that out.
    pub growth: Duration,
}

/// The load of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Clients, each with one request under way.
    pub clients: usize,
    /// Puts in one request.
    pub bundle: usize,
}

impl Workload {
    /// Connections that the clients share, the same for every system.
    pub const fn connections(self) -> usize {
        self.clients.div_ceil(CLIENTS_PER_CONNECTION)
    }

    /// The load as `bench` takes it.
    pub fn plan(self, settings: &Settings) -> Plan {
        Plan {
            clients: self.clients,
            connections: self.connections(),
            value_size: settings.value_size,
            bundle: self.bundle,
            duration: settings.duration,
            rate: None,
            keys: DEFAULT_KEYS,
            preload: 0,
        }
    }
}

/// One system under one load, in all rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place in [`Comparison::systems`].
    pub system: usize,
    /// The load.
    pub workload: Workload,
    /// What each round gave.
    pub rounds: Vec<Figures>,
}

/// A system that took part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `pbft`, `hotstuff`, `etcd`.
    pub name: &'static str,
    /// Whose it is or its version, and how many servers.
    pub detail: String,
    /// The others are given as ratios to it.
    pub is_baseline: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Who took part.
    pub systems: Vec<System>,
    /// What was measured: by workload, then by system.
    pub rows: Vec<Row>,
    /// What failing leaders cost, by protocol.
    pub failing: Vec<Failing>,
    /// How fast the order grew on processes under lying leaders, by protocol and lie.
    pub growth: Vec<Growth>,
    /// Who did not take part, and why.
    pub skipped: Vec<String>,
    /// What could not be measured to its end, and why.
    pub unfinished: Vec<String>,
    /// Whether the data was in memory, where a sync costs nothing.
    pub in_memory: bool,
}

impl Comparison {
    /// Operations a second of a row against those of the baseline under the same load, round by round; empty if there is
    /// no baseline or the row is its own.
    pub fn ratios(&self, row: &Row) -> Vec<f64> {
        let is_baseline = |system: usize| self.systems.get(system).is_some_and(|system| system.is_baseline);
        let same = |other: &&Row| is_baseline(other.system) && other.workload == row.workload;
        match self.rows.iter().find(same) {
            Some(baseline) if baseline.system != row.system => {
                let pairs = row.rounds.iter().zip(&baseline.rounds);
                pairs.map(|(ours, theirs)| ours.operations_per_second / theirs.operations_per_second).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What is under way, for people who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A row is measured.
    Row {
        /// Which system.
        system: &'static str,
        /// Which round, from 1.
        round: u16,
        /// Under which load.
        workload: Workload,
        /// What of it.
        stage: Stage,
    },
    /// Leaders fail.
    Leaders {
        /// Of which system.
        system: &'static str,
        /// In words.
        what: String,
    },
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Our testnet cannot be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Our testnet does not commit.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A measurement gave nothing.
    #[error("{system}: {error}")]
    Bench {
        /// Of which system.
        system: &'static str,
        /// Why.
        error: BenchError,
    },
    /// etcd cannot be started or used.
    #[error("{0}")]
    Etcd(String),
    /// There is no place for the data.
    #[error("a temporary directory cannot be made ({0}): set TMPDIR to one that can be written to")]
    Place(std::io::Error),
}

/// The loads, each once.
pub fn workloads(clients: usize) -> Vec<Workload> {
    let single = |clients| Workload { clients, bundle: 1 };
    let mut all = vec![single(1)];
    if clients != 1 {
        all.push(single(clients));
    }
    all.push(Workload { clients: BUNDLING_CLIENTS, bundle: BUNDLE });
    all
}

/// Starts the systems, measures them in turn, and removes them.
///
/// # Errors
/// A load that replicas would refuse, before anything is started; a system that does not start, or answers nothing.
pub async fn run(settings: &Settings, mut tell: impl FnMut(Step)) -> Result<Comparison, CompareError> {
    let workloads = workloads(settings.clients);
    for workload in &workloads {
        bench::check(&workload.plan(settings)).map_err(|error| CompareError::Bench { system: "compare", error })?;
    }
    // Declared before the systems, so that it goes when their processes are gone.
    let place = TempDir::with_prefix("quorate-compare-").map_err(CompareError::Place)?;
    let in_memory = statfs(place.path()).is_ok_and(|found| found.f_type == TMPFS);
    let mut contestants = Vec::new();
    for protocol in Protocol::ALL {
        contestants.push(Contestant::quorate(&place.path().join(protocol.name()), protocol).await?);
    }
    let mut skipped = Vec::new();
    match &settings.etcd {
        Some(program) => contestants.push(Contestant::etcd(program, &place.path().join("etcd")).await?),
        None => skipped.push("etcd is not on this machine: skipped".to_owned()),
    }
    let mut rows = Vec::with_capacity(workloads.len() * contestants.len());
    for workload in &workloads {
        rows.extend((0..contestants.len()).map(|system| Row { system, workload: *workload, rounds: Vec::new() }));
    }
    for contestant in &contestants {
        contestant.pause()?;
    }
    for round in 1..=settings.rounds {
        for row in &mut rows {
            let Some(contestant) = contestants.get_mut(row.system) else { continue };
            let (system, workload) = (contestant.name(), row.workload);
            contestant.go_on().await?;
            let measured = contestant
                .measure(&workload.plan(settings), &mut |stage| tell(Step::Row { system, round, workload, stage }))
                .await;
            row.rounds.push(measured.map_err(|error| CompareError::Bench { system, error })?);
            contestant.pause()?;
        }
    }
    let systems = contestants.iter().map(Contestant::system).collect();
    // Their processes end here: what follows has the machine to itself.
    drop(contestants);
    // What was measured is told whatever becomes of the rest.
    let (mut failing, mut grown, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
    for protocol in Protocol::ALL {
        let mut say = |what: String| tell(Step::Leaders { system: protocol.name(), what });
        if settings.kills > 0 {
            match leaders::failing(protocol, settings.kills, settings.value_size, &mut say).await {
                Ok(found) => failing.push(found),
                Err(error) => unfinished.push(format!("failing leaders of {protocol}: {error}")),
            }
        }
        for lie in growth::LIES.into_iter().filter(|_| !settings.growth.is_zero()) {
            match growth::growth(protocol, lie, settings.growth, settings.value_size, &mut say).await {
                Ok(found) => grown.push(found),
                Err(error) => unfinished.push(format!("growth of {protocol} under {}: {error}", lie.name())),
            }
        }
    }
    Ok(Comparison { systems, rows, failing, growth: grown, skipped, unfinished, in_memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(system: usize, workload: Workload, rates: &[f64]) -> Row {
        let figures = |rate: &f64| Figures { operations_per_second: *rate, ..Figures::default() };
        Row { system, workload, rounds: rates.iter().map(figures).collect() }
    }

    #[test]
    fn ratios_are_those_of_neighbours_in_time_under_the_same_load() {
        let system = |name, is_baseline| System { name, detail: String::new(), is_baseline };
        let [one, many, bundles] = workloads(64)[..] else { panic!("three loads") };
        let mut comparison = Comparison {
            systems: vec![system("quorate", false), system("etcd", true)],
            rows: vec![
                row(0, one, &[10.0, 30.0]),
                row(1, one, &[20.0, 10.0]),
                row(0, many, &[5.0, 5.0]),
                row(1, many, &[50.0, 1.0]),
            ],
            failing: Vec::new(),
            growth: Vec::new(),
            skipped: Vec::new(),
            unfinished: Vec::new(),
            in_memory: false,
        };
        assert_eq!(comparison.ratios(&comparison.rows[0]), [0.5, 3.0]);
        assert_eq!(comparison.ratios(&comparison.rows[2]), [0.1, 5.0]);
        assert!(comparison.ratios(&comparison.rows[1]).is_empty(), "the baseline has no ratio to itself");
        assert!(comparison.ratios(&row(0, bundles, &[1.0])).is_empty(), "nothing to compare with");
        comparison.systems.pop();
        assert!(comparison.ratios(&comparison.rows[0]).is_empty(), "there is no baseline");
    }

    #[test]
    fn each_load_is_measured_once_with_as_many_connections_as_bench_takes() {
        assert_eq!(workloads(1).len(), 2);
        let connections: Vec<_> = workloads(64).into_iter().map(Workload::connections).collect();
        assert_eq!(connections, [1, 4, 1]);
    }

    #[tokio::test]
    async fn a_load_that_replicas_would_refuse_is_refused_before_anything_is_started() {
        let settings = Settings {
            etcd: Some(PathBuf::from("/nonexistent/etcd")),
            clients: 64,
            value_size: 64 * 1024,
            duration: Duration::from_secs(1),
            rounds: 1,
            kills: 0,
            growth: Duration::ZERO,
        };
        let refused = run(&settings, |_| panic!("nothing is measured")).await.expect_err("too large");
        assert!(refused.to_string().contains("--value-size"), "{refused}");
    }
}
