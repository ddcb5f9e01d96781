//! Playing a scenario in virtual time.

use std::time::Duration;

use super::{Observed, Scenario};
use crate::sim::{Options, SimulationReport};

/// Plays it with a seed. Equal seeds give equal reports.
pub fn play(scenario: &Scenario, seed: u64, trace: bool) -> (Observed, SimulationReport) {
    let options = Options { trace, ..Options::scripted(scenario.protocol, scenario.script.clone()) };
    let report = crate::sim::run(seed, &options);
    let observed = Observed {
        violation: report.violation.as_ref().map(ToString::to_string),
        convicted: report.story.convicted.clone(),
        view: report.story.view,
        requests: report.story.asked,
        succeeded: report.story.succeeded,
        gap: Duration::from_micros(report.story.gap),
    };
    (observed, report)
}
