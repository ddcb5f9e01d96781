use clap::Parser as _;

use super::command::{play, replay_line, sample};
use super::*;
use crate::command::arguments::{Arguments, Command};
use crate::sim::SimulationReport;
use crate::sim::campaign::Summary;
use crate::sim::plan::{Choice, Options, Sabotage};

under_both!(a_lower_quorum_is_found, a_lower_quorum_alone_breaks_nothing, a_failure_replays_from_its_line);

/// Of every run.
const SEED: u64 = 7;

fn sampled(wanted: u64, options: &Options, stop_after: usize) -> Summary {
    let scenarios = Scenarios::new();
    play(&scenarios, &sample(SEED, scenarios.count(), wanted), SEED, options, 2, stop_after, |_| {})
}

/// Whether two leaders in a row, 3 and one instance of 0, part from all others after view 2, in which everybody heard
/// everybody.
fn two_leaders_part(scenario: &Scenario) -> bool {
    let (second, third) = (ROUNDS - 2, ROUNDS - 1);
    let were_together = (1..scenarios::INSTANCES).all(|instance| scenario.together(second, 0, instance));
    let part = |leaves: usize, stays: usize| {
        let others_are_together = scenario.together(third, 1, 2) && scenario.together(third, 2, stays);
        scenario.together(third, leaves, 3) && others_are_together && !scenario.together(third, leaves, 1)
    };
    scenario.twin == 0 && were_together && (part(0, 4) || part(4, 0))
}

/// Plays all scenarios in which they do: one for each partition of the first round.
fn where_two_leaders_part(options: &Options, stop_after: usize) -> Summary {
    let scenarios = Scenarios::new();
    let part = |number: &u64| scenarios.get(*number).is_some_and(|scenario| two_leaders_part(&scenario));
    let numbers: Vec<u64> = (0..scenarios.count()).filter(part).collect();
    assert_eq!(numbers.len(), 47);
    play(&scenarios, &numbers, SEED, options, 2, stop_after, |_| {})
}

/// Scenarios with a quorum lowered by one. PBFT decides within one view, and any sample has some that fork. A commit of
/// HotStuff takes three leaders in a row, and a TC three replicas whatever a vote counts, so that few scenarios fork:
/// those are played in which it is near.
fn with_a_lower_quorum(protocol: Choice, stop_after: usize) -> Summary {
    let options = Options { protocol, sabotage: Some(Sabotage::LowQuorum), ..Options::default() };
    if protocol == Choice::Pbft {
        sampled(200, &options, stop_after)
    } else {
        where_two_leaders_part(&options, stop_after)
    }
}

#[test]
fn sampled_scenarios_hold() {
    let summary = sampled(500, &Options::default(), 1);
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
    let summary = sampled(300, &options, 1);
    let failed =
        summary.failed.first().map(|(report, options)| (&report.violation, options.twins.map(|one| one.number)));
    assert_eq!(failed, None);
    let count = |name: &str| summary.counters.faults.get(name).copied().unwrap_or(0);
    assert!(count("twins: rounds ended in view 3") > 150, "{:?}", summary.counters.faults);
    assert!(count("twins: the two stood apart") > 10, "{:?}", summary.counters.faults);
    assert!(count("twins: decided something before it healed") > 20, "{:?}", summary.counters.faults);
    assert!(summary.counters.evidence > 50, "{:?}", summary.counters);
}

/// With a quorum one smaller two groups decide at once, and agreement breaks. That replicas in whose names somebody else
/// voted seem to contradict themselves is no finding.
fn a_lower_quorum_is_found(protocol: Choice) {
    let summary = with_a_lower_quorum(protocol, usize::MAX);
    let failed_by = |oracle: &str| {
        let by = |report: &SimulationReport| report.violation.as_ref().is_some_and(|one| one.oracle == oracle);
        summary.failed.iter().filter(|(report, _)| by(report)).count()
    };
    let runs = summary.runs;
    assert!(failed_by("agreement") > 0, "{runs} scenarios see nothing wrong with a quorum of two");
    assert_eq!((failed_by("evidence"), failed_by("no-contradiction")), (0, 0));
}

/// What the sabotage does is seen by nobody while nobody runs twice: that Twins find it is Twins' doing.
fn a_lower_quorum_alone_breaks_nothing(protocol: Choice) {
    let sabotage = Some(Sabotage::LowQuorum);
    let options = Options { protocol, replicas: Some(4), calm: true, sabotage, ..Options::default() };
    for seed in 1..=10 {
        assert_eq!(crate::sim::run(seed, &options).violation, None, "seed {seed}");
    }
}

/// Nor do two leaders that part fork anything with the quorum that there is.
#[test]
fn two_leaders_that_part_fork_nothing() {
    let options = Options { protocol: Choice::HotStuff, ..Options::default() };
    let summary = where_two_leaders_part(&options, 1);
    assert!(summary.failed.is_empty(), "{:?}", summary.failed.first().map(|(report, _)| &report.violation));
}

/// The line that a failure prints plays the same scenario to the same end.
fn a_failure_replays_from_its_line(protocol: Choice) {
    let summary = with_a_lower_quorum(protocol, 1);
    let (report, options) = summary.failed.first().expect("one of them fails");
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
