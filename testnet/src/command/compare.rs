//! `compare`: the systems, a table of medians and ranges, or JSON with every round.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::Compare;
use super::bench::{Progress, failure, rounded};
use super::screen::{self, Cell};
use super::up::Interrupts;
use crate::compare::figures::{Figures, Summary};
use crate::compare::growth::{Growth, Pace};
use crate::compare::leaders::{Failing, Lying};
use crate::compare::{self, CompareError, Comparison, Row, Settings, Step, Workload, etcd};

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

impl Compare {
    pub(super) async fn run(&self, report: Report) -> Result<(), Failure> {
        let mut interrupts = Interrupts::new()?;
        // A terminal that is closed must not leave a cluster behind either.
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::configuration(format!("cannot take signals: {error}")))?;
        let settings = self.settings()?;
        let load = load_average();
        let mut progress = Progress::new();
        let outcome = tokio::select! {
            outcome = compare::run(&settings, |step| match step {
                Step::Row { system, round, workload, stage } => {
                    let Workload { clients, bundle } = workload;
                    progress.name(format!("round {round}  {system:<8} {clients:>4} x {bundle:<3} "));
                    progress.tell(stage);
                }
                Step::Leaders { system, what } => progress.say(format!("{system:<8} {what}")),
            }) => outcome.map_err(failed),
            () = interrupts.next() => Err(Failure::interrupted()),
            _ = hangup.recv() => Err(Failure::interrupted()),
        };
        progress.end();
        let comparison = outcome?;
        if report.json {
            report.value(&object(&comparison, &settings, load.as_deref()))?;
        } else {
            say(&comparison, &settings, load.as_deref());
        }
        warn(&comparison);
        if comparison.unfinished.is_empty() {
            return Ok(());
        }
        Err(Failure::unknown(comparison.unfinished.join("; ")))
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let etcd = match &self.etcd {
            Some(path) => Some(etcd::named(path).map_err(Failure::configuration)?),
            None => std::env::var_os("PATH").and_then(|path| etcd::on_path(&path)),
        };
        let Compare { clients, value_size, duration, rounds, kills, growth, .. } = *self;
        Ok(Settings { etcd, clients, value_size, duration, rounds, kills, growth })
    }
}

fn failed(error: CompareError) -> Failure {
    match error {
        CompareError::Client(error) => Failure::from(error),
        CompareError::Bench { error, .. } => failure(error),
        CompareError::Launch(_) | CompareError::Etcd(_) | CompareError::Place(_) => {
            Failure::configuration(error.to_string())
        }
    }
}

/// What else the machine did before: the load average of one minute.
fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

fn summary(row: &Row, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Summary> {
    // A figure that one round lacks is not known of all.
    Summary::of(row.rounds.iter().map(figure).collect::<Option<Vec<f64>>>()?)
}

fn say(comparison: &Comparison, settings: &Settings, load: Option<&str>) {
    let systems: Vec<String> =
        comparison.systems.iter().map(|system| format!("{} ({})", system.name, system.detail)).collect();
    say!(
        "{}; {} bytes a value, {} s a row, {} rounds in turn, closed loop, {} cores, load average before {}",
        systems.join(" beside "),
        settings.value_size,
        settings.duration.as_secs_f64(),
        settings.rounds,
        cores(),
        load.unwrap_or("unknown")
    );
    let headings = [
        "SYSTEM",
        "CLIENTS",
        "OPS/S MEDIAN [MIN-MAX]",
        "P50",
        "P99",
        "CPU/OP SERVERS",
        "CPU/OP CLIENTS",
        "BYTES/OP",
        "RATIO MEDIAN [MIN-MAX]",
    ];
    let rows: Vec<Vec<Cell>> = comparison.rows.iter().map(|row| cells(comparison, row)).collect();
    screen::lines(&screen::table(&headings, &rows));
    if !comparison.failing.is_empty() {
        say_failing(&comparison.failing);
    }
    if !comparison.growth.is_empty() {
        say_growth(&comparison.growth, settings.growth);
    }
    for skipped in &comparison.skipped {
        say!("{skipped}");
    }
}

fn say_failing(failing: &[Failing]) {
    let time = |millis: Option<f64>| millis.map_or_else(|| UNKNOWN.to_owned(), |millis| format!("{millis:.0} ms"));
    let cells = |one: &Failing| {
        vec![Cell::plain(one.protocol), Cell::plain(time(one.gap_p50_ms)), Cell::plain(time(one.gap_max_ms))]
    };
    say!("\na leader is killed, on processes: the longest time that a client goes without an answer");
    screen::lines(&screen::table(&["SYSTEM", "GAP P50", "GAP MOST"], &failing.iter().map(cells).collect::<Vec<_>>()));

    let cells = |one: &Failing| {
        let protocol = one.protocol;
        let row = |Lying { replicas, lie, requests, growth, growth_learnt }: &Lying| {
            let shares = [requests, growth, growth_learnt].map(|share| Cell::plain(format!("{share:.2}")));
            let mut row = vec![Cell::plain(protocol), Cell::plain(replicas), Cell::plain(lie.name())];
            row.extend(shares);
            row
        };
        one.lying.iter().map(row).collect::<Vec<_>>()
    };
    say!("\nf leaders lie, in virtual time: shares of what there is without");
    let headings = ["SYSTEM", "N", "F LEADERS", "REQUESTS", "BLOCKS", "BLOCKS, 2ND HALF"];
    screen::lines(&screen::table(&headings, &failing.iter().flat_map(cells).collect::<Vec<_>>()));
}

fn say_growth(growth: &[Growth], time: Duration) {
    let cells = |one: &Growth| {
        let rate = |pace: &Pace| Cell::plain(format!("{:.0}", pace.blocks));
        let share = |share: f64| Cell::plain(format!("{share:.2}"));
        vec![
            Cell::plain(one.protocol),
            Cell::plain(one.lie.name()),
            rate(&one.before),
            rate(&one.meanwhile),
            rate(&one.after),
            share(one.blocks()),
            share(one.writes()),
            Cell::plain(one.acted),
        ]
    };
    let seconds = time.as_secs_f64();
    say!("\nf leaders lie, on processes, {seconds} s each: blocks a second, and shares of what there is without");
    let headings = ["SYSTEM", "F LEADERS", "BEFORE", "MEANWHILE", "AFTER", "BLOCKS", "WRITES", "ACTED"];
    screen::lines(&screen::table(&headings, &growth.iter().map(cells).collect::<Vec<_>>()));
}

fn cells(comparison: &Comparison, row: &Row) -> Vec<Cell> {
    let name = comparison.systems.get(row.system).map_or(UNKNOWN, |system| system.name);
    let clients = match row.workload.bundle {
        1 => row.workload.clients.to_string(),
        bundle => format!("{} x {bundle}", row.workload.clients),
    };
    let median = |figure: fn(&Figures) -> Option<f64>, unit: &str, digits: usize| {
        let text = |found: Summary| format!("{:.digits$} {unit}", found.median);
        summary(row, figure).map_or_else(|| UNKNOWN.to_owned(), text)
    };
    let range = |found: Option<Summary>, digits: usize| {
        let text = |Summary { median, min, max }| format!("{median:.digits$} [{min:.digits$}-{max:.digits$}]");
        found.map_or_else(|| UNKNOWN.to_owned(), text)
    };
    vec![
        Cell::plain(name),
        Cell::plain(clients),
        Cell::plain(range(summary(row, |round| Some(round.operations_per_second)), 0)),
        Cell::plain(median(|round| Some(round.p50_ms), "ms", 1)),
        Cell::plain(median(|round| Some(round.p99_ms), "ms", 1)),
        Cell::plain(median(|round| round.server_cpu_us, "us", 0)),
        Cell::plain(median(|round| Some(round.client_cpu_us), "us", 0)),
        Cell::plain(median(|round| round.wire_bytes, "B", 0)),
        Cell::plain(range(Summary::of(comparison.ratios(row)), 2)),
    ]
}

fn object(comparison: &Comparison, settings: &Settings, load: Option<&str>) -> Value {
    let systems: Vec<Value> = comparison
        .systems
        .iter()
        .map(|system| json!({"name": system.name, "detail": system.detail, "baseline": system.is_baseline}))
        .collect();
    json!({
        "v": 1,
        "systems": systems,
        "skipped": comparison.skipped,
        "unfinished": comparison.unfinished,
        "failing_leaders": comparison.failing.iter().map(failing_object).collect::<Vec<_>>(),
        "growth": comparison.growth.iter().map(growth_object).collect::<Vec<_>>(),
        "growth_seconds": settings.growth.as_secs_f64(),
        "value_size": settings.value_size,
        "seconds": settings.duration.as_secs_f64(),
        "rounds": settings.rounds,
        "cores": cores(),
        "load_average_before": load.and_then(|load| load.parse::<f64>().ok()),
        "data_in_memory": comparison.in_memory,
        "rows": comparison.rows.iter().map(|row| row_object(comparison, row)).collect::<Vec<_>>(),
    })
}

fn failing_object(one: &Failing) -> Value {
    let lying = one.lying.iter().map(|Lying { replicas, lie, requests, growth, growth_learnt }| {
        json!({
            "n": replicas,
            "leaders": lie.name(),
            "behaviour": lie.behaviour(one.protocol).name(),
            "requests": rounded(*requests),
            "blocks": rounded(*growth),
            "blocks_second_half": rounded(*growth_learnt),
        })
    });
    let lying: Vec<Value> = lying.collect();
    json!({
        "system": one.protocol.name(),
        "gap_p50_ms": one.gap_p50_ms,
        "gap_max_ms": one.gap_max_ms,
        "virtual_time": lying,
    })
}

fn growth_object(one: &Growth) -> Value {
    let periods = |of: fn(&Pace) -> f64| {
        json!({
            "before": rounded(of(&one.before)),
            "meanwhile": rounded(of(&one.meanwhile)),
            "after": rounded(of(&one.after)),
        })
    };
    json!({
        "system": one.protocol.name(),
        "leaders": one.lie.name(),
        "behaviour": one.lie.behaviour(one.protocol).name(),
        "acted": one.acted,
        "blocks_per_s": periods(|pace| pace.blocks),
        "writes_per_s": periods(|pace| pace.writes),
        "blocks": rounded(one.blocks()),
        "writes": rounded(one.writes()),
    })
}

fn row_object(comparison: &Comparison, row: &Row) -> Value {
    let three = |found: Option<Summary>| {
        found.map(
            |Summary { median, min, max }| json!({"median": rounded(median), "min": rounded(min), "max": rounded(max)}),
        )
    };
    let rounds: Vec<Value> = row
        .rounds
        .iter()
        .map(|round| {
            json!({
                "ops_per_s": rounded(round.operations_per_second),
                "p50_ms": round.p50_ms,
                "p99_ms": round.p99_ms,
                "server_cpu_us_per_op": round.server_cpu_us.map(rounded),
                "client_cpu_us_per_op": rounded(round.client_cpu_us),
                "wire_bytes_per_op": round.wire_bytes.map(rounded),
                "errors": round.errors.values().sum::<u64>(),
                "error_kinds": round.errors,
                "leader_changes": round.leader_changes,
            })
        })
        .collect();
    json!({
        "system": comparison.systems.get(row.system).map(|system| system.name),
        "clients": row.workload.clients,
        "connections": row.workload.connections(),
        "bundle": row.workload.bundle,
        "ops_per_s": three(summary(row, |round| Some(round.operations_per_second))),
        "p50_ms": three(summary(row, |round| Some(round.p50_ms))),
        "p99_ms": three(summary(row, |round| Some(round.p99_ms))),
        "server_cpu_us_per_op": three(summary(row, |round| round.server_cpu_us)),
        "client_cpu_us_per_op": three(summary(row, |round| Some(round.client_cpu_us))),
        "wire_bytes_per_op": three(summary(row, |round| round.wire_bytes)),
        "ratio_to_baseline": three(Summary::of(comparison.ratios(row))),
        "rounds": rounds,
    })
}

/// What a person should know before they believe the figures.
fn warn(comparison: &Comparison) {
    if comparison.in_memory {
        screen::warn("the temporary directory is in memory, where syncs cost nothing: set TMPDIR to one on a disk");
    }
    for row in &comparison.rows {
        let name = comparison.systems.get(row.system).map_or(UNKNOWN, |system| system.name);
        let load = format!("{name}, {} clients x {}", row.workload.clients, row.workload.bundle);
        let changes: u64 = row.rounds.iter().map(|round| round.leader_changes).sum();
        if changes > 0 {
            screen::warn(&format!("{load}: the leader changed {changes} times while it was measured"));
        }
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        for (sentence, count) in row.rounds.iter().flat_map(|round| &round.errors) {
            *errors.entry(sentence).or_default() += count;
        }
        for (sentence, count) in errors.iter().take(3) {
            screen::warn(&format!("{load}: {count} times: {sentence}"));
        }
    }
}
