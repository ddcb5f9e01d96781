//! `drill`: progress, the table, the verdict.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report as Output;
use tokio::signal::unix::{SignalKind, signal};

use super::screen::{self, Cell, Tone};
use crate::bench::BenchError;
use crate::drill::report::{Figure, Kind, verdict};
use crate::drill::{Drill, DrillError, Place, Report};

/// Exit code when a bar is missed.
pub(super) const EXIT_MISSED: u8 = 5;

/// Runs a drill; `named` is where its testnet is to be kept.
pub(super) async fn run(drill: &Drill, named: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let place = Place::new(named, drill.common().protocol);
    let progress = spinner();
    let mut tell = |what: String| progress.set_message(what);
    let work = async { drill.run(&place, &mut tell).await.map_err(failure) };
    let report = until_signalled(work).await;
    progress.finish_and_clear();
    let report = report?;
    let common = drill.common();
    if output.json {
        output.value(&report.to_json(drill.name(), common.replicas))?;
    } else {
        say(drill.name(), &report);
    }
    let missed = report.missed(common.strict);
    if missed.is_empty() {
        return Ok(());
    }
    let sentence = format!("drill {} missed {}", drill.name(), missed.join("; "));
    Err(Failure { code: EXIT_MISSED, sentence })
}

/// Does `work` until a signal comes. Whichever ends first, a testnet goes with the future that holds it.
pub(super) async fn until_signalled<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let unusable = |error| Failure::configuration(format!("cannot take signals: {error}"));
    // Taken before anything is started: from then on no signal leaves replicas behind.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(unusable)?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(Failure::interrupted()),
        _ = terminate.recv() => Err(Failure::interrupted()),
        _ = hangup.recv() => Err(Failure::interrupted()),
    }
}

/// What is under way, on stderr, for people only.
pub(super) fn spinner() -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The exit code of what kept a drill from giving a report.
pub(super) fn failure(error: DrillError) -> Failure {
    match error {
        DrillError::Client(error) | DrillError::Bench(BenchError::Client(error)) => Failure::from(error),
        DrillError::Bench(BenchError::Nothing(_)) | DrillError::Stalled(_) => Failure::unknown(error.to_string()),
        DrillError::Launch(_) | DrillError::Bench(_) | DrillError::Usage(_) => {
            Failure::configuration(error.to_string())
        }
    }
}

fn say(name: &str, report: &Report) {
    say!("{name}: {}", report.setting);
    let mut rows: Vec<Vec<Cell>> = report.figures.iter().map(row).collect();
    for section in &report.sections {
        rows.push(vec![Cell::plain(&section.name)]);
        rows.extend(section.figures.iter().map(row));
    }
    screen::lines(&screen::table(&["FIGURE", "VALUE", "BAR", "VERDICT"], &rows));
    for note in &report.notes {
        screen::warn(note);
    }
}

fn row(figure: &Figure) -> Vec<Cell> {
    let mut cells = vec![Cell::plain(format!("  {}", figure.label)), Cell::plain(&figure.shown)];
    if let Some(bar) = &figure.bar {
        let tone = match (bar.met, bar.kind) {
            (true, _) => Tone::Good,
            (false, Kind::Measure) => Tone::Warning,
            (false, Kind::Count) => Tone::Bad,
        };
        cells.extend([Cell::plain(&bar.limit), Cell::toned(verdict(bar), tone)]);
    }
    cells
}
