//! Full load for long: does anything grow?
//!
//! Every second each replica is asked for its view, and the system for what its process holds. The medians of the first
//! minute are compared with those of the last; shorter runs compare their first third with their last. The first minute
//! is no more than warm-up in a cluster that has just been made, so a figure may grow by half and by some slack.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_crypto::ReplicaId;
use quorate_node::process::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use serde_json::{Value, json};

use super::report::{Figure, Kind, Report, Section};
use super::site::{Place, Site, highest_view};
use super::statistics::median;
use super::{Common, DrillError, Tell};
use crate::bench::fleet::{self, Fleet};
use crate::bench::{self, DEFAULT_KEYS, Plan};
use crate::command::arguments::duration;

/// How often samples are taken.
const EVERY: Duration = Duration::from_secs(1);
/// What is compared with each other at most.
const WINDOW: Duration = Duration::from_mins(1);
/// Clients that share a set of links, as behind a gateway.
const CLIENTS_PER_CONNECTION: usize = 16;
/// How much a figure may grow besides its slack.
const GROWTH: f64 = 1.5;
const MIB: f64 = 1024.0 * 1024.0;

/// `drill endurance`.
#[derive(Args, Clone, Debug)]
pub struct Endurance {
    /// How long the load goes on.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub time: Duration,
    /// Clients, each with a key of its own and one request under way.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// Puts in one request, under one signature.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub bundle: usize,
    /// Distinct keys to write to, at random.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_KEYS)]
    pub keys: u64,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

/// What one replica held at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at: Duration,
    replica: u16,
    resident_bytes: f64,
    descriptors: f64,
    threads: f64,
    log_bytes: f64,
    snapshot_bytes: f64,
    view_changes: Option<u64>,
}

/// A quantity that has to be bounded.
struct Quantity {
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    scale: f64,
    slack: f64,
    of: fn(&Sample) -> f64,
}

/// The table of what is compared. The slack is in the unit shown; that of the files is about what one segment of a log
/// and one round of cleaning come to.
const QUANTITIES: [Quantity; 5] = [
    Quantity {
        key: "resident_mib",
        label: "resident memory",
        unit: "MiB",
        scale: MIB,
        slack: 64.0,
        of: |sample| sample.resident_bytes,
    },
    Quantity {
        key: "descriptors",
        label: "open descriptors",
        unit: "",
        scale: 1.0,
        slack: 16.0,
        of: |sample| sample.descriptors,
    },
    Quantity { key: "threads", label: "threads", unit: "", scale: 1.0, slack: 4.0, of: |sample| sample.threads },
    Quantity {
        key: "log_mib",
        label: "log on disk",
        unit: "MiB",
        scale: MIB,
        slack: 128.0,
        of: |sample| sample.log_bytes,
    },
    Quantity {
        key: "snapshot_mib",
        label: "snapshots on disk",
        unit: "MiB",
        scale: MIB,
        slack: 128.0,
        of: |sample| sample.snapshot_bytes,
    },
];

impl Endurance {
    /// Runs it.
    ///
    /// # Errors
    /// Numbers that make no sense; the testnet cannot be used; not one request succeeds; a replica dies.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        let connections = self.clients.div_ceil(CLIENTS_PER_CONNECTION);
        let plan = Plan {
            clients: self.clients,
            connections,
            value_size: self.common.value_size,
            bundle: self.bundle,
            duration: self.time,
            rate: None,
            keys: self.keys,
            preload: 0,
        };
        bench::check(&plan)?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let cluster = site.cluster(quorate_client::cluster::PATIENCE)?;
        let mut stage = |stage: bench::Stage| tell(stage.to_string());
        let fleet = Fleet::register(&site.directory, &cluster, self.clients, &mut stage).await?;
        let clients = fleet.connect(&cluster, connections, &mut stage).await?;
        let mut samples = Vec::new();
        let before = highest_view(&site.statuses().await);
        let outcome = tokio::select! {
            outcome = bench::measured(&site.description, &clients, &plan, &mut stage) => outcome?,
            never = sample(&site, &mut samples) => match never {},
        };
        fleet::close(clients).await;
        site.check_alive()?;
        let passed = highest_view(&site.statuses().await).saturating_sub(before);

        // The last answers may come after the time is over, when the load is over as well.
        samples.retain(|sample| sample.at <= self.time);
        let views = samples.iter().filter_map(|sample| sample.view_changes);
        let moved = views.clone().max().unwrap_or(0) - views.min().unwrap_or(0);
        let figures = vec![
            Figure::number("ops_per_s", "throughput", outcome.operations_per_second(), "operations/s"),
            Figure::number("p50_ms", "latency, p50", outcome.quantile_ms(0.5), "ms"),
            Figure::number("p99_ms", "latency, p99", outcome.quantile_ms(0.99), "ms"),
            Figure::time("longest_silence_ms", "longest time without any answer", Some(outcome.longest_silence)),
            Figure::view_changes(self.common.protocol, outcome.view_changes.max(moved), passed),
            Figure::count("errors", "requests with an error", outcome.failures()),
            Figure::count("samples", "samples", samples.len() as u64),
        ];
        let mut report = Report {
            setting: format!(
                "{} s of full load, {} replicas, {} clients, {} puts a request, {} bytes a value, {} keys",
                self.time.as_secs_f64(),
                self.common.replicas,
                self.clients,
                self.bundle,
                self.common.value_size,
                self.keys
            ),
            figures,
            notes: outcome.errors.iter().take(5).map(|(said, count)| format!("{count} times: {said}")).collect(),
            ..Report::default()
        };
        report.sections = site.description.ids().map(|id| section(id, &samples, self.time)).collect();
        report.details.insert("each".to_owned(), samples.iter().copied().map(Sample::to_json).collect());
        Ok(report)
    }
}

/// Takes samples until it is dropped.
async fn sample(site: &Site, samples: &mut Vec<Sample>) -> Infallible {
    let began = Instant::now();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let statuses = site.statuses().await;
        for (id, status) in site.description.ids().zip(statuses) {
            let Some(pid) = site.pid(id) else { continue };
            let data = site.directory.node(id).join("data");
            samples.push(Sample {
                at: began.elapsed(),
                replica: id.0,
                resident_bytes: resident_bytes(pid),
                descriptors: entries(format!("/proc/{pid}/fd").as_ref()) as f64,
                threads: entries(format!("/proc/{pid}/task").as_ref()) as f64,
                log_bytes: bytes_in(&data.join(LOG_DIRECTORY)),
                snapshot_bytes: bytes_in(&data.join(SNAPSHOT_DIRECTORY)),
                view_changes: status.map(|status| status.view_changes),
            });
        }
    }
}

impl Sample {
    fn to_json(self) -> Value {
        json!({
            "s": (self.at.as_secs_f64() * 1000.0).round() / 1000.0,
            "replica": self.replica,
            "resident_bytes": self.resident_bytes as u64,
            "descriptors": self.descriptors as u64,
            "threads": self.threads as u64,
            "log_bytes": self.log_bytes as u64,
            "snapshot_bytes": self.snapshot_bytes as u64,
            "view_changes": self.view_changes,
        })
    }
}

/// The figures of one replica: for each quantity the medians of the first and the last window.
fn section(id: ReplicaId, samples: &[Sample], time: Duration) -> Section {
    let window = WINDOW.min(time / 3);
    let own = || samples.iter().filter(|sample| sample.replica == id.0);
    let figures = QUANTITIES.iter().map(|quantity| {
        let of = |from: Duration, until: Duration| {
            let inside = own().filter(|sample| sample.at >= from && sample.at <= until);
            median(&inside.map(|sample| (quantity.of)(sample) / quantity.scale).collect::<Vec<_>>())
        };
        let (first, last) = (of(Duration::ZERO, window), of(time.saturating_sub(window), time));
        let limit = first.map(|first| first * GROWTH + quantity.slack);
        let shown = |number: Option<f64>| number.map_or_else(|| "?".to_owned(), |number| format!("{number:.1}"));
        let met = last.zip(limit).is_some_and(|(last, limit)| last <= limit);
        let text = format!("{} -> {} {}", shown(first), shown(last), quantity.unit);
        Figure::text(quantity.key, quantity.label, json!({"first": first, "last": last}), text.trim_end().to_owned())
            .with_bar(format!("at most {} {}", shown(limit), quantity.unit).trim_end(), met, Kind::Measure)
    });
    Section {
        name: format!("replica {id}, first and last {} s", window.as_secs_f64().round()),
        figures: figures.collect(),
    }
}

/// Resident memory of a process; 0 if it is gone.
pub(crate) fn resident_bytes(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (pages * rustix::param::page_size() as u64) as f64
}

/// Entries of a directory; 0 if it is gone.
pub(crate) fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Bytes of the files in a directory. One that is removed meanwhile counts for nothing.
fn bytes_in(directory: &Path) -> f64 {
    let Ok(listed) = fs::read_dir(directory) else { return 0.0 };
    let lengths = listed.flatten().filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
    lengths.map(|metadata| metadata.len()).sum::<u64>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident_mib: impl Fn(u64) -> f64) -> Vec<Sample> {
        let one = |second| Sample {
            at: Duration::from_secs(second),
            replica: 1,
            resident_bytes: resident_mib(second) * MIB,
            descriptors: 30.0,
            threads: 9.0,
            log_bytes: 0.0,
            snapshot_bytes: 0.0,
            view_changes: Some(0),
        };
        (0..600).map(one).collect()
    }

    fn missed(resident_mib: impl Fn(u64) -> f64) -> Vec<&'static str> {
        let section = section(ReplicaId(1), &samples(resident_mib), Duration::from_mins(10));
        let missed = section.figures.iter().filter(|figure| figure.bar.as_ref().is_some_and(|bar| !bar.met));
        missed.map(|figure| figure.key).collect()
    }

    #[test]
    fn what_grows_for_ever_is_told_from_what_warms_up() {
        assert!(missed(|second| 100.0 + second.min(60) as f64).is_empty());
        assert_eq!(missed(|second| 100.0 + second as f64), ["resident_mib"]);
        let nothing = section(ReplicaId(2), &samples(|_| 100.0), Duration::from_mins(10));
        assert!(nothing.figures.iter().all(|figure| figure.bar.as_ref().is_some_and(|bar| !bar.met)), "no samples");
    }
}
