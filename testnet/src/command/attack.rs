//! `attack`: a client that misbehaves, and what came of it.

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::json;

use super::arguments::Attack;
use super::bench::{Progress, failure};
use crate::bench::attack;
use crate::launcher::Directory;

impl Attack {
    pub(super) async fn run(&self, directory: &Directory, report: Report) -> Result<(), Failure> {
        let plan = attack::Attack {
            behaviour: self.behaviour,
            time: self.time,
            rate: self.rate,
            cpu_percent: self.cpu_percent,
        };
        let mut progress = Progress::new();
        let outcome = attack::run(directory, &plan, |stage| progress.tell(stage)).await;
        progress.end();
        let aftermath = outcome.map_err(failure)?;
        if report.json {
            return report.value(&json!({
                "v": 1,
                "behaviour": plan.behaviour.name(),
                "seconds": plan.time.as_secs_f64(),
                "acted": aftermath.acted,
                "skipped": aftermath.skipped,
                "cpu_seconds": aftermath.cpu.as_secs_f64(),
                "sent": aftermath.sent,
                "not_sent": aftermath.not_sent,
                "answers": aftermath.answers,
                "disconnected": aftermath.disconnected,
            }));
        }
        let mut lines = vec![format!(
            "{} for {} s: acted {} times, {} requests sent, {} not",
            plan.behaviour,
            plan.time.as_secs_f64(),
            aftermath.acted,
            aftermath.sent,
            aftermath.not_sent
        )];
        lines.extend(aftermath.answers.iter().map(|(kind, count)| format!("  {kind:<12} {count}")));
        let ended = aftermath.disconnected.iter();
        lines.extend(ended.map(|(reason, count)| format!("  link ended   {count} times: {reason}")));
        report.bytes(lines.join("\n").as_bytes())
    }
}
