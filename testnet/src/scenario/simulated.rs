//! Playing a scenario in virtual time.

use std::sync::Arc;
use std::time::Duration;

use quorate_keys::Protocol;

use super::{Observed, Scenario};
use crate::sim::{Choice, Options, SimulationReport};

/// Plays it with a seed. Equal seeds give equal reports.
pub fn play(scenario: &Scenario, seed: u64, trace: bool) -> (Observed, SimulationReport) {
    let protocol = match scenario.protocol {
        Protocol::Pbft => Choice::Pbft,
        Protocol::HotStuff => Choice::HotStuff,
    };
    let options = Options {
        protocol,
        replicas: Some(scenario.script.replicas),
        calm: true,
        script: Some(Arc::new(scenario.script.clone())),
        trace,
        ..Options::default()
    };
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
