mod behaviours;

use super::plan::Choice;
use super::*;

under_both!(
    the_same_seed_gives_the_same_trace_to_the_byte,
    threads_change_nothing,
    a_lost_sync_is_found,
    a_message_before_its_record_is_found,
    beyond_f_nobody_turns_without_end,
    beyond_f_nobody_honest_is_convicted,
    replicas_that_lose_their_disks_come_back,
    killed_at_every_storage_operation_of_a_rejoin,
    real_signatures_hold_as_well,
    crash_points_lose_nothing,
    canaries_sing,
    a_lost_sync_shrinks_to_a_few_faults,
    power_cuts_at_chosen_operations_lose_nothing,
);

/// Everything left to the seed but what the cluster runs.
fn of(protocol: Choice) -> Options {
    Options { protocol, ..Options::default() }
}

fn sabotaged(protocol: Choice, sabotage: Sabotage) -> Options {
    Options { sabotage: Some(sabotage), ..of(protocol) }
}

fn the_same_seed_gives_the_same_trace_to_the_byte(protocol: Choice) {
    let options = of(protocol);
    for seed in [3, 8, 21] {
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first.violation, None, "seed {seed}");
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
    }
    assert_ne!(run(3, &options).trace_hash, run(4, &options).trace_hash);
}

/// What a cluster runs is part of what a seed means.
#[test]
fn the_same_seed_gives_each_protocol_another_trace() {
    assert_ne!(run(3, &of(Choice::Pbft)).trace_hash, run(3, &of(Choice::HotStuff)).trace_hash);
}

/// Each found a bug once (docs/bugs.md).
#[test]
fn seeds_that_once_failed() {
    let all = Options { first_behaviours: true, ..Options::default() };
    let four = Options { replicas: Some(4), ..all.clone() };
    for seed in [15, 482, 620, 2199, 2675, 2765] {
        assert_eq!(run(seed, &all).violation, None, "seed {seed}");
    }
    for seed in [1014, 1041, 5811] {
        assert_eq!(run(seed, &four).violation, None, "seed {seed} of four replicas");
    }
    let every = Options { disks_stay: true, ..Options::default() };
    for seed in [10, 221, 540, 609, 740, 784, 1477, 1622, 1758, 1836, 2262, 2997] {
        assert_eq!(run(seed, &every).violation, None, "seed {seed} with every behaviour");
    }
    for seed in [3183, 6463] {
        assert_eq!(run(seed, &Options::default()).violation, None, "seed {seed} with lost disks");
    }
}

/// Those of HotStuff (docs/bugs.md).
#[test]
fn hotstuff_seeds_that_once_failed() {
    let options = of(Choice::HotStuff);
    for seed in [1079, 3_010_737, 3_015_305, 3_038_403, 6_003_605, 90_000_704] {
        assert_eq!(run(seed, &options).violation, None, "seed {seed}");
    }
}

/// A campaign's results do not depend on how many threads share its seeds.
fn threads_change_nothing(protocol: Choice) {
    let options = of(protocol);
    let hashes = |threads: usize| {
        let mut operations = 0;
        let summary = campaign::seeds(300, campaign::Extent::Seeds(6), &options, threads, 1, |summary| {
            operations = summary.operations;
        });
        (summary.runs, operations, summary.counters)
    };
    assert_eq!(hashes(1), hashes(3));
}

/// The oracles look hard enough to see a disk that ignores fdatasync.
fn a_lost_sync_is_found(protocol: Choice) {
    let options = sabotaged(protocol, Sabotage::LostSync);
    let found = (1..=100).find(|seed| run(*seed, &options).violation.is_some());
    assert!(found.is_some(), "a hundred seeds see nothing wrong with disks that lose what was synced");
}

/// And messages that leave before their record is durable.
fn a_message_before_its_record_is_found(protocol: Choice) {
    let options = sabotaged(protocol, Sabotage::SendBeforeRecord);
    let found = (1..=300).find(|seed| run(*seed, &options).violation.is_some());
    assert!(found.is_some(), "three hundred seeds see nothing wrong with promises that are not kept");
}

/// With f + 1 liars that work together agreement breaks in some runs, and each time they are named; nobody honest is, and
/// nobody honest falls over.
#[test]
fn beyond_f_the_guilty_are_named() {
    let mut counters = Counters::default();
    for seed in 1..=40 {
        let options = Options { replicas: Some(4), beyond_f: true, ..Options::default() };
        let report = run(seed, &options);
        assert_eq!(report.violation, None, "seed {seed}");
        counters.add(&report.counters);
    }
    let count = |name| counters.faults.get(name).copied().unwrap_or(0);
    assert!(count("beyond f: agreement broke") > 0, "forty conspiracies break nothing: {:?}", counters.faults);
    assert!(count("beyond f: convicted") >= 2 * count("beyond f: agreement broke"));
}

/// The same under HotStuff, where liars are of two minds.
#[test]
fn beyond_f_the_guilty_are_named_under_hotstuff() {
    for replicas in [4, 6, 7] {
        let mut counters = Counters::default();
        for seed in 1..=12 {
            let options =
                Options { protocol: Choice::HotStuff, replicas: Some(replicas), beyond_f: true, ..Options::default() };
            let report = run(seed, &options);
            assert_eq!(report.violation, None, "seed {seed} of {replicas}");
            counters.add(&report.counters);
        }
        let count = |name| counters.faults.get(name).copied().unwrap_or(0);
        assert!(count("beyond f: agreement broke") > 2, "{replicas} replicas: {:?}", counters.faults);
        let guilty = ((replicas - 1) / 3 + 1) as u64;
        assert!(count("beyond f: convicted") >= guilty * count("beyond f: agreement broke"));
    }
}

/// Each made an oracle that knew PBFT alone cry wolf, or found something.
#[test]
fn hotstuff_seeds() {
    let options = Options { protocol: Choice::HotStuff, ..Options::default() };
    for seed in [80, 113, 121, 147, 169, 242, 248, 292] {
        let report = run(seed, &options);
        assert_eq!(report.violation, None, "seed {seed}");
        let count = |name| report.counters.faults.get(name).copied().unwrap_or(0);
        let checked = ["checked quorum certificates", "checked votes", "checked TIMEOUTs", "checked decisions"];
        assert!(checked.into_iter().all(|name| count(name) > 0), "seed {seed}: {:?}", report.counters.faults);
    }
}

/// Who finds its state contradicted by a certified one, or what it committed by a certified block, halts, and a halted
/// engine asks for no more turns.
fn beyond_f_nobody_turns_without_end(protocol: Choice) {
    let options = Options { beyond_f: true, ..of(protocol) };
    let mut counters = Counters::default();
    for seed in [71, 166, 399, 410, 484, 514, 558] {
        let report = run(seed, &options);
        assert_eq!(report.violation, None, "seed {seed}");
        counters.add(&report.counters);
    }
    assert!(counters.faults.contains_key("beyond f: honest replica stopped itself"), "{:?}", counters.faults);
}

/// Frames that are bent on their way convict nobody, what liars tell clients is no fork, and a TIMEOUT that hides a
/// certificate convicts its author alone.
fn beyond_f_nobody_honest_is_convicted(protocol: Choice) {
    let options = Options { beyond_f: true, ..of(protocol) };
    let four = Options { replicas: Some(4), ..options.clone() };
    for seed in [4219, 5009] {
        assert_eq!(run(seed, &options).violation, None, "seed {seed}");
    }
    assert_eq!(run(61, &four).violation, None, "seed 61 of four replicas");
}

/// Disks are lost, and their replicas come back, under everything else that breaks.
fn replicas_that_lose_their_disks_come_back(protocol: Choice) {
    // Of the second protocol fewer runs, as long as disks are lost in them.
    let enough = if protocol == Choice::Pbft { u64::MAX } else { 4 };
    for replicas in [4, 5, 6, 7] {
        let options = Options { replicas: Some(replicas), ..of(protocol) };
        let mut counters = Counters::default();
        for seed in 900..930 {
            let report = run(seed, &options);
            assert_eq!(report.violation, None, "seed {seed} of {replicas}");
            counters.add(&report.counters);
            if counters.rejoined >= enough {
                break;
            }
        }
        assert!(counters.wipes > 0 && counters.rejoined > 0, "{counters:?}");
    }
}

/// A replica on its way back is killed at every storage operation of it, in turn; at every third under HotStuff.
fn killed_at_every_storage_operation_of_a_rejoin(protocol: Choice) {
    let (step, least) = if protocol == Choice::Pbft { (1, 50) } else { (3, 10) };
    let mut points = 0;
    for operation in (1..2_000).step_by(step) {
        let options = Options { replicas: Some(4), rejoin_dies_at: Some(operation), ..of(protocol) };
        let report = run(2, &options);
        assert_eq!(report.violation, None, "killed at operation {operation}");
        assert_eq!(report.counters.wipes, 1);
        if report.counters.crashes < 2 {
            break;
        }
        assert!(report.counters.rejoined > 0, "killed at operation {operation}");
        points += 1;
    }
    assert!(points > least, "only {points} operations");
}

/// The same run, signed with ed25519.
fn real_signatures_hold_as_well(protocol: Choice) {
    let options = Options { ed25519: true, ..of(protocol) };
    assert_eq!(run(7, &options).violation, None);
}

/// One replica dies at sampled storage operations, in a view change, in its recovery, and in between.
fn crash_points_lose_nothing(protocol: Choice) {
    let wanted = if protocol == Choice::Pbft { 60 } else { 30 };
    let summary = crash_points::crash_points(1, Some(wanted), &of(protocol), 2, 1, |_| {});
    let failed = summary.failed.first().map(|(report, options)| (&report.violation, options));
    assert!(summary.failed.is_empty(), "{failed:?}");
    assert!(summary.points >= wanted - wanted / 12, "only {} of {wanted} crashes took place", summary.points);
}

/// The canaries: one run always fails, one never does.
fn canaries_sing(protocol: Choice) {
    let dead = sabotaged(protocol, Sabotage::Canary);
    let calm = Options { calm: true, ..of(protocol) };
    for seed in [1, 2, 50] {
        assert_eq!(run(seed, &dead).violation.map(|violation| violation.oracle), Some("canary"), "seed {seed}");
        let report = run(seed, &calm);
        assert_eq!((report.violation, report.counters.lost, report.counters.crashes), (None, 0, 0), "seed {seed}");
    }
}

/// A failure shrinks to what it takes: disks that lose what was synced need somebody who loses power.
fn a_lost_sync_shrinks_to_a_few_faults(protocol: Choice) {
    let options = sabotaged(protocol, Sabotage::LostSync);
    let (seed, violation) = (1..=100)
        .find_map(|seed| Some((seed, run(seed, &options).violation?)))
        .expect("one of a hundred seeds loses something");
    let shrunk = shrink(seed, &options, violation.oracle);
    assert!(!shrunk.kept.is_empty() && shrunk.kept.len() <= 4, "{:?}", shrunk.kept);
    let smaller = Options { without: shrunk.without, ..options };
    assert_eq!(run(seed, &smaller).violation.map(|violation| violation.oracle), Some(violation.oracle));
}

/// Power cuts of the whole cluster at many storage operations.
fn power_cuts_at_chosen_operations_lose_nothing(protocol: Choice) {
    let wanted = if protocol == Choice::Pbft { 60 } else { 40 };
    let summary = campaign::power_cuts(1, wanted, &of(protocol), 2, 1, |_| {});
    assert!(summary.failed.is_empty(), "{:?}", summary.failed.first().map(|(report, _)| &report.violation));
    assert!(summary.points >= wanted - wanted / 6, "only {} of {wanted} cuts took place", summary.points);
}
