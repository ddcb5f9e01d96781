//! `run`: one scenario file, in the simulator or on real processes.

use std::path::PathBuf;

use clap::Args;
use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use quorate_keys::Protocol;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::drill;
use super::screen::{self, Cell, Tone};
use crate::drill::Place;
use crate::scenario::{Observed, Scenario, Verdict, real, simulated};

/// Exit code when an expectation is not met.
const EXIT_MISSED: u8 = 5;

/// `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The scenario file.
    pub file: PathBuf,
    /// Play it on real processes of this machine, on a testnet that is fresh and goes away again.
    #[arg(long)]
    pub real: bool,
    /// What the replicas run, whatever the file says: pbft or hotstuff.
    #[arg(long, value_parser = super::arguments::protocol)]
    pub protocol: Option<Protocol>,
    /// Another seed than the file's.
    #[arg(long, conflicts_with = "real")]
    pub seed: Option<u64>,
    /// Write a line for every event of the run to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "real")]
    pub trace: Option<PathBuf>,
}

impl Run {
    pub(super) async fn run(&self, named: Option<PathBuf>, report: Report) -> Result<(), Failure> {
        let mistaken = |mistake: crate::scenario::Mistake| Failure::configuration(mistake.to_string());
        let scenario = Scenario::read(&self.file, self.protocol).map_err(mistaken)?;
        if !self.real {
            return self.simulate(&scenario, report);
        }
        real::check(&scenario).map_err(mistaken)?;
        let observed = play(&scenario, named).await?;
        let played = format!("{} replicas, real processes", scenario.script.replicas);
        let fields = json!({"v": 1, "scenario": scenario.title, "mode": "real"});
        tell(&scenario, &played, &observed, fields, report)
    }

    fn simulate(&self, scenario: &Scenario, report: Report) -> Result<(), Failure> {
        let seed = self.seed.unwrap_or(scenario.seed);
        // A panic inside a run is a verdict.
        std::panic::set_hook(Box::new(|_| {}));
        let (observed, simulated) = simulated::play(scenario, seed, self.trace.is_some());
        let _ = std::panic::take_hook();
        if let Some(path) = &self.trace {
            let mut text = simulated.trace.join("\n");
            text.push('\n');
            std::fs::write(path, text)
                .map_err(|error| Failure::configuration(format!("{} cannot be written: {error}", path.display())))?;
        }
        let hash = simulated.trace_hash.to_hex();
        let played = format!(
            "{} replicas, seed {seed}, {:.2} s of virtual time, trace {}",
            scenario.script.replicas,
            simulated.virtual_seconds,
            &hash[..16]
        );
        let fields = json!({
            "v": 1,
            "scenario": scenario.title,
            "mode": "simulated",
            "seed": seed,
            "trace_hash": hash,
            "virtual_seconds": simulated.virtual_seconds,
        });
        tell(scenario, &played, &observed, fields, report)
    }
}

async fn play(scenario: &Scenario, named: Option<PathBuf>) -> Result<Observed, Failure> {
    let unusable = |error| Failure::configuration(format!("cannot take signals: {error}"));
    // Taken before anything is started: from then on no signal leaves replicas behind.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(unusable)?;
    let place = Place::new(named, scenario.protocol);
    let progress = drill::spinner();
    let mut tell = |what: String| progress.set_message(what);
    // Whichever ends first, the testnet goes with the future that holds it.
    let observed = tokio::select! {
        observed = real::play(scenario, &place, &mut tell) => observed.map_err(drill::failure),
        _ = interrupt.recv() => Err(Failure::interrupted()),
        _ = terminate.recv() => Err(Failure::interrupted()),
        _ = hangup.recv() => Err(Failure::interrupted()),
    };
    progress.finish_and_clear();
    observed
}

/// Prints what was expected and what came of it.
fn tell(
    scenario: &Scenario,
    played: &str,
    observed: &Observed,
    mut fields: Value,
    report: Report,
) -> Result<(), Failure> {
    let verdict: Verdict = scenario.judge(observed);
    if report.json {
        fields["verdict"] = json!(if verdict.is_met() { "ok" } else { "missed" });
        fields["expectations"] = verdict.to_json();
        fields["requests"] = json!(observed.requests);
        fields["succeeded"] = json!(observed.succeeded);
        fields["view"] = json!(observed.view);
        fields["gap_ms"] = json!(observed.gap.as_secs_f64() * 1e3);
        fields["convicted"] = json!(observed.convicted);
        report.value(&fields)?;
    } else {
        say!("{}: {played}", scenario.title);
        let row = |one: &crate::scenario::expectations::Judged| {
            let (word, tone) = if one.met { ("ok", Tone::Good) } else { ("missed", Tone::Bad) };
            vec![Cell::plain(&one.expected), Cell::toned(word, tone), Cell::plain(&one.observed)]
        };
        let rows: Vec<Vec<Cell>> = verdict.0.iter().map(row).collect();
        screen::lines(&screen::table(&["EXPECTED", "", "OBSERVED"], &rows));
    }
    if verdict.is_met() {
        return Ok(());
    }
    Err(Failure { code: EXIT_MISSED, sentence: format!("{}: {}", scenario.title, verdict.missed().join("; ")) })
}
