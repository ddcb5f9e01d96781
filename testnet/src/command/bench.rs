//! `bench`: load, progress, figures.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::json;

use super::arguments::Bench;
use super::screen;
use crate::bench::{self, BenchError, CLIENTS_PER_CONNECTION, DEFAULT_KEYS, Outcome, Plan, Stage};
use crate::launcher::Directory;

impl Bench {
    pub(super) async fn run(&self, directory: &Directory, report: Report) -> Result<(), Failure> {
        let plan = Plan {
            clients: self.clients,
            connections: self.connections.unwrap_or_else(|| self.clients.div_ceil(CLIENTS_PER_CONNECTION)),
            value_size: self.value_size,
            bundle: self.bundle,
            duration: self.duration,
            rate: self.rate,
            keys: self.keys.unwrap_or_else(|| self.preload.max(DEFAULT_KEYS)),
            preload: self.preload,
        };
        let mut progress = Progress::new();
        let outcome = bench::run(directory, &plan, |stage| progress.tell(stage)).await;
        progress.end();
        let outcome = outcome.map_err(failure)?;
        if report.json { json(&outcome, &plan, report) } else { say(&outcome, &plan, report) }
    }
}

/// The exit code of what kept a run from giving figures.
pub(super) fn failure(error: BenchError) -> Failure {
    match error {
        BenchError::Client(error) => Failure::from(error),
        BenchError::Nothing(_) => Failure::unknown(error.to_string()),
        BenchError::Launch(_) | BenchError::Plan(_) => Failure::configuration(error.to_string()),
    }
}

/// A bar on stderr, for people only.
pub(super) struct Progress {
    bar: ProgressBar,
    stage: std::mem::Discriminant<Stage>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix}{msg:<12} {bar:40} {percent:>3} %") {
            bar.set_style(style);
        }
        Progress { bar, stage: std::mem::discriminant(&Stage::Removing) }
    }

    /// What stands before the stages from now on.
    pub(super) fn name(&self, prefix: String) {
        self.bar.set_prefix(prefix);
    }

    /// Something is under way that is no stage of a load.
    pub(super) fn say(&self, what: String) {
        self.bar.set_prefix(what);
        self.bar.set_message("");
        self.bar.reset();
    }

    /// Leaves nothing on the screen.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn tell(&mut self, stage: Stage) {
        let (message, done, total) = match stage {
            Stage::Registering(done, total) => ("registering", done, total),
            Stage::Connecting(done, total) => ("connecting", done, total),
            Stage::Preloading(done, total) => ("preloading", done, total),
            Stage::Loading(done, total) => ("measuring", done, total),
            Stage::Removing => ("cleaning up", 1, 1),
        };
        let kind = std::mem::discriminant(&stage);
        if std::mem::replace(&mut self.stage, kind) != kind {
            self.bar.reset();
            self.bar.set_message(message);
        }
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
    }
}

/// To three decimals: more is noise.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn json(outcome: &Outcome, plan: &Plan, report: Report) -> Result<(), Failure> {
    let per_op = |amount: f64| rounded(outcome.per_operation(amount));
    let replicas = outcome.replicas;
    report.value(&json!({
        "v": 1,
        "ops_per_s": rounded(outcome.operations_per_second()),
        "p50_ms": outcome.quantile_ms(0.5),
        "p90_ms": outcome.quantile_ms(0.9),
        "p99_ms": outcome.quantile_ms(0.99),
        "p999_ms": outcome.quantile_ms(0.999),
        "max_ms": outcome.max_ms(),
        "longest_silence_ms": rounded(outcome.longest_silence.as_secs_f64() * 1000.0),
        "errors": outcome.failures(),
        "error_kinds": outcome.errors,
        "operations": outcome.operations,
        "requests": outcome.requests,
        "seconds": rounded(outcome.elapsed.as_secs_f64()),
        "replica_cpu_us_per_op": replicas.map(|spent| per_op(spent.cpu_seconds * 1e6)),
        "client_cpu_us_per_op": per_op(outcome.client_cpu.as_secs_f64() * 1e6),
        "wire_bytes_per_op": replicas.map(|spent| per_op(spent.wire_bytes as f64)),
        "syncs_per_op": replicas.map(|spent| per_op(spent.syncs as f64)),
        "view_changes": outcome.view_changes,
        "clients": plan.clients,
        "connections": plan.connections,
        "value_size": plan.value_size,
        "bundle": plan.bundle,
        "rate": plan.rate,
        "keys": plan.keys,
        "preload": plan.preload,
    }))
}

fn say(outcome: &Outcome, plan: &Plan, report: Report) -> Result<(), Failure> {
    let loop_kind = match plan.rate {
        None => "closed loop".to_owned(),
        Some(rate) => format!("{rate} operations/s due"),
    };
    let mut lines = vec![
        format!(
            "{} clients on {} connections, {} bytes a value, {} a request, {} s, {loop_kind}",
            plan.clients,
            plan.connections,
            plan.value_size,
            plan.bundle,
            outcome.elapsed.as_secs_f64()
        ),
        format!("  throughput   {:.0} operations/s", outcome.operations_per_second()),
        format!(
            "  latency      p50 {:.1} ms   p90 {:.1} ms   p99 {:.1} ms   p99.9 {:.1} ms   most {:.1} ms",
            outcome.quantile_ms(0.5),
            outcome.quantile_ms(0.9),
            outcome.quantile_ms(0.99),
            outcome.quantile_ms(0.999),
            outcome.max_ms()
        ),
        format!("  errors       {}", outcome.failures()),
    ];
    let client_cpu = outcome.per_operation(outcome.client_cpu.as_secs_f64() * 1e6);
    match outcome.replicas {
        Some(spent) => {
            let per_op = |amount: f64| outcome.per_operation(amount);
            lines.push(format!(
                "  per op       {:.0} us of CPU on all replicas, {client_cpu:.0} us on the clients, {:.0} bytes sent, {:.3} syncs",
                per_op(spent.cpu_seconds * 1e6),
                per_op(spent.wire_bytes as f64),
                per_op(spent.syncs as f64)
            ));
        }
        None => lines.push(format!(
            "  per op       {client_cpu:.0} us of CPU on the clients; a replica was started or lost meanwhile, so theirs is not known"
        )),
    }
    if outcome.view_changes > 0 {
        lines.push(format!("  view changes {}", outcome.view_changes));
    }
    if outcome.longest_silence > Duration::from_millis(100) {
        lines.push(format!("  no answer    for {} at the longest", screen::time(outcome.longest_silence)));
    }
    report.bytes(lines.join("\n").as_bytes())?;
    for (sentence, count) in outcome.errors.iter().take(5) {
        screen::warn(&format!("{count} times: {sentence}"));
    }
    Ok(())
}
