use clap::Parser as _;

use super::command::{play, replay_line, sample};
use super::*;
use crate::command::arguments::{Arguments, Command};
use crate::sim::campaign::Summary;
use crate::sim::plan::{Choice, Options, Sabotage};

fn sampled(seed: u64, wanted: u64, options: &Options, stop_after: usize) -> Summary {
    let scenarios = Scenarios::new();
    play(&scenarios, &sample(seed, scenarios.count(), wanted), seed, options, 2, stop_after, |_| {})
}

#[test]
fn sampled_scenarios_hold() {
    let summary = sampled(7, 500, &Options::default(), 1);
    let failed =
        summary.failed.first().map(|(report, options)| (&report.violation, options.twins.map(|one| one.number)));
    assert_eq!(failed, None);
    let count = |name: &str| summary.counters.faults.get(name).copied().unwrap_or(0);
    // The scenarios do what they are for: rounds are views, the twins part ways, and that is seen.
    assert!(count("twins: rounds ended in view 2") + count("twins: rounds ended in view 3") > 250, "{summary:?}");
    assert!(count("twins: the two stood apart") > 100, "{:?}", summary.counters.faults);
    assert!(count("twins: decided something before it healed") > 250, "{:?}", summary.counters.faults);
    assert!(summary.counters.evidence > 100, "{:?}", summary.counters);
}

/// The same scenarios with HotStuff, where leaders follow from the chain and the rounds are views 1 to 3.
#[test]
fn sampled_scenarios_hold_under_hotstuff() {
    let options = Options { protocol: Choice::HotStuff, ..Options::default() };
    let summary = sampled(7, 300, &options, 1);
    let failed =
        summary.failed.first().map(|(report, options)| (&report.violation, options.twins.map(|one| one.number)));
    assert_eq!(failed, None);
    let count = |name: &str| summary.counters.faults.get(name).copied().unwrap_or(0);
    assert!(count("twins: rounds ended in view 3") > 150, "{:?}", summary.counters.faults);
    assert!(count("twins: the two stood apart") > 10, "{:?}", summary.counters.faults);
    assert!(count("twins: decided something before it healed") > 20, "{:?}", summary.counters.faults);
    assert!(summary.counters.evidence > 50, "{:?}", summary.counters);
}

/// With a quorum one smaller two groups decide at once, and agreement breaks.
#[test]
fn a_lower_quorum_is_found() {
    let options = Options { sabotage: Some(Sabotage::LowQuorum), ..Options::default() };
    let summary = sampled(7, 200, &options, usize::MAX);
    let broke = summary
        .failed
        .iter()
        .filter(|(report, _)| report.violation.as_ref().is_some_and(|violation| violation.oracle == "agreement"));
    assert!(broke.count() > 0, "two hundred scenarios see nothing wrong with a quorum of two");
}

/// What the sabotage does is seen by nobody while nobody runs twice: that Twins find it is Twins' doing.
#[test]
fn a_lower_quorum_alone_breaks_nothing() {
    let options = Options { replicas: Some(4), calm: true, sabotage: Some(Sabotage::LowQuorum), ..Options::default() };
    for seed in 1..=10 {
        assert_eq!(crate::sim::run(seed, &options).violation, None, "seed {seed}");
    }
}

/// The line that a failure prints plays the same scenario to the same end.
#[test]
fn a_failure_replays_from_its_line() {
    let options = Options { sabotage: Some(Sabotage::LowQuorum), ..Options::default() };
    let summary = sampled(7, 200, &options, 1);
    let (report, options) = summary.failed.first().expect("one of two hundred fails");
    let scenario = options.twins.expect("a scenario");
    let line = replay_line(report.seed, scenario, options);
    let parsed = match Arguments::try_parse_from(line.split(' ')).expect("accepted").command {
        Command::Simulate(simulate) => simulate,
        other => panic!("{other:?}"),
    };
    let again = parsed.options().expect("options");
    let again = Options { twins: Scenarios::new().get(parsed.twins.scenario.expect("number")), ..again };
    let replayed = crate::sim::run(parsed.seed.expect("seed"), &again);
    assert_eq!((&replayed.violation, replayed.trace_hash), (&report.violation, report.trace_hash));
    assert!(report.violation.is_some());
}
