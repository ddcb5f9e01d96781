//! The line a second while a testnet runs in the foreground.

use std::time::{Duration, Instant};

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{Interrupts, is_watched, new_ticker, stop};
use crate::command::screen::Ticker;
use crate::command::status;
use crate::launcher::process::{Condition, Spawned};
use crate::launcher::standing::{self, Standing};
use crate::launcher::{Description, Directory, evidence};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_secs(1);

/// A testnet that runs while somebody looks on.
pub(super) struct Watching<'a> {
    directory: &'a Directory,
    description: &'a Description,
    spawned: Vec<Spawned>,
    report: Report,
    ticker: Option<Ticker>,
    executed: Option<(Instant, u64)>,
}

impl<'a> Watching<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        description: &'a Description,
        spawned: Vec<Spawned>,
        report: Report,
    ) -> Watching<'a> {
        Watching { directory, description, spawned, report, ticker: new_ticker(report), executed: None }
    }

    /// Watches until interrupted, then stops the replicas; or until somebody else has stopped them.
    pub(super) async fn run(&mut self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        if !self.report.json {
            say!("  Ctrl-C stops; state is kept.");
        }
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.reap();
                    let standings = standing::all(self.directory, self.description).await;
                    if standings.iter().all(|one| one.condition == Condition::Down) {
                        self.end_line();
                        self.say("all replicas have ended; state is kept.");
                        return Ok(());
                    }
                    self.show(&standings)?;
                }
                () = interrupts.next() => {
                    self.end_line();
                    self.say("stopping; Ctrl-C again stops at once");
                    let stopped = stop(self.directory, self.description, interrupts).await?;
                    self.say(&format!("stopped {} replicas; state is kept.", stopped.len()));
                    return Ok(());
                }
            }
        }
    }

    fn say(&self, sentence: &str) {
        if !self.report.json {
            say!("{sentence}");
        }
    }

    fn end_line(&mut self) {
        if let Some(ticker) = &mut self.ticker {
            ticker.end();
        }
    }

    /// Takes note of replicas that ended.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        self.spawned.retain_mut(|one| match one.death() {
            Some(death) => {
                ended.push((one.id, death));
                false
            }
            None => true,
        });
        for (id, death) in ended {
            self.end_line();
            if let crate::launcher::LaunchError::Died { ending, last, .. } = death {
                let last = if ending.starts_with("exit code") && ending != "exit code 0" {
                    format!(": {last}")
                } else {
                    String::new()
                };
                self.say(&format!("replica {id} ended with {ending}{last}"));
            }
        }
    }

    fn show(&mut self, standings: &[Standing]) -> Result<(), Failure> {
        if !self.report.json && !is_watched() {
            return Ok(());
        }
        let rate = self.rate(standings);
        let found = evidence::count(self.directory, self.description);
        let view = standing::view(standings).unwrap_or_default();
        if self.report.json {
            return self.report.value(&json!({
                "v": 1,
                "seq": standing::executed(standings),
                "view": view,
                "ops_per_s": rate,
                "evidence": found,
                "replicas": standings.iter().map(|one| status::object(one, view)).collect::<Vec<_>>(),
            }));
        }
        if let Some(ticker) = &mut self.ticker {
            ticker.draw(&line(standings, view, rate, found));
        }
        Ok(())
    }

    /// Requests a second since the last look, by the replica that executed most.
    fn rate(&mut self, standings: &[Standing]) -> Option<f64> {
        let executed = standings.iter().filter_map(|one| one.status.as_ref()).map(|status| status.requests_executed);
        let now = (Instant::now(), executed.max()?);
        let before = self.executed.replace(now)?;
        let seconds = (now.0 - before.0).as_secs_f64();
        // A replica that began anew counts from 0 again.
        Some(now.1.saturating_sub(before.1) as f64 / seconds)
    }
}

/// `seq 184 | view 0 | primary 0 | 312 ops/s | lag 0 0 0 0 | evidence 0`.
fn line(standings: &[Standing], view: u64, rate: Option<f64>, evidence: usize) -> String {
    let seq = standing::executed(standings).unwrap_or_default();
    let leads = |one: &&Standing| one.role(view) == Some(standing::Role::Primary);
    let primary = standings.iter().find(leads).map_or_else(|| "none".to_owned(), |one| one.id.to_string());
    let lag: Vec<String> = standings
        .iter()
        .map(|one| match (&one.status, one.condition) {
            (Some(status), _) => seq.saturating_sub(status.executed).to_string(),
            (None, Condition::Paused(_)) => "paused".to_owned(),
            (None, Condition::Down) => "down".to_owned(),
            (None, Condition::Running(_)) => "?".to_owned(),
        })
        .collect();
    let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    let mut line = format!(
        "seq {seq} | view {view} | primary {primary} | {rate} ops/s | lag {} | evidence {evidence}",
        lag.join(" ")
    );
    let faulty: Vec<String> = standings
        .iter()
        .filter(|one| one.conduct.as_ref().is_some_and(|conduct| !conduct.is_honest()))
        .map(|one| format!("{} {}", one.id, one.behaviour()))
        .collect();
    if !faulty.is_empty() {
        line.push_str(" | ");
        line.push_str(&faulty.join(", "));
    }
    line
}
