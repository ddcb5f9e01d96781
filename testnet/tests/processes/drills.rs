//! Every drill in its short form: that it does what it says, reports it, and takes everything away again. How long things
//! take is asserted nowhere.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_crypto::Protocol;
use serde_json::Value;

use crate::harness::Testnet;

under_both!(
    a_killed_primary_is_a_gap_and_no_loss,
    two_leaders_in_a_row_are_killed_at_a_time,
    all_killed_at_once_lose_nothing,
    a_frozen_backup_comes_back_and_nobody_waits_for_it,
    endurance_compares_the_beginning_with_the_end,
    a_replica_that_missed_many_writes_comes_back,
    overload_is_compared_with_a_few_requests_in_flight,
    behaviours_are_drilled_one_after_the_other,
);

/// Runs a drill whose files go to a directory of the test's own, and reads its report.
fn drill(testnet: &Testnet, name: &str, short: &[&str]) -> Value {
    let temporary = testnet.place().join("temporary");
    fs::create_dir_all(&temporary).expect("made");
    let protocol = testnet.protocol().name();
    let ran = testnet.testnet_with(
        ("TMPDIR", &temporary),
        &[&["drill", name, "--protocol", protocol][..], short, &["--json"]].concat(),
    );
    let report = ran.json();
    assert_eq!((report["v"].as_u64(), report["drill"].as_str()), (Some(1), Some(name)), "{report:#}");
    let left: Vec<_> = fs::read_dir(&temporary).expect("there").collect();
    assert!(left.is_empty(), "files are left: {left:?}");
    assert!(processes_in(&temporary).is_empty(), "processes are left");
    for bar in report["bars"].as_array().expect("bars") {
        if bar["kind"] == "count" {
            assert_eq!(bar["verdict"], "ok", "{bar:#}");
        }
    }
    report
}

/// Replicas whose arguments name a directory below `place`.
fn processes_in(place: &Path) -> Vec<String> {
    let wanted = place.display().to_string();
    let all = fs::read_dir("/proc").expect("there").flatten();
    let arguments = all.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
    let replicas = arguments.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    replicas.filter(|text| text.contains(" replica ") && text.contains(&wanted)).collect()
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("no {field}: {report:#}"))
}

fn has_bars(report: &Value, wanted: &[&str]) {
    let bars: Vec<&str> =
        report["bars"].as_array().expect("bars").iter().filter_map(|bar| bar["figure"].as_str()).collect();
    assert!(wanted.iter().all(|bar| bars.contains(bar)), "{bars:?}");
}

fn a_killed_primary_is_a_gap_and_no_loss(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let report = drill(&testnet, "kill-primary", &["--times", "2", "--clients", "4"]);
    has_bars(&report, &["gap_p50_ms", "gap_p99_ms", "lost_writes", "wrong_writes"]);
    let each = report["each"].as_array().expect("each kill");
    assert_eq!((each.len(), report["kills"].as_u64()), (2, Some(2)));
    if testnet.primary_stays() {
        assert_ne!(each[0]["replica"], each[1]["replica"], "each time it was the primary of its view");
    }
    assert!(each.iter().all(|kill| number(kill, "gap_ms") > 0.0 && number(kill, "at_head_ms") > 0.0));
    assert!(number(&report, "view") >= 2.0, "two primaries were left: {report:#}");
    assert!(number(&report, "acknowledged_writes") > 20.0);
    assert!(number(&report, "gap_p50_ms") <= number(&report, "gap_max_ms"));
}

fn two_leaders_in_a_row_are_killed_at_a_time(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    testnet.testnet(&["drill", "kill-primary", "--together", "2"]).fails(2, "-n 7");
    let short = ["--together", "2", "-n", "7", "--times", "2", "--clients", "4"];
    let report = drill(&testnet, "kill-primary", &short);
    has_bars(&report, &["gap_max_ms", "lost_writes", "wrong_writes"]);
    let each = report["each"].as_array().expect("each kill");
    assert_eq!((each.len(), report["together"].as_u64()), (2, Some(2)));
    let replicas = |kill: &Value| -> Vec<u64> {
        kill["replicas"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect()
    };
    for kill in each {
        let [first, second] = replicas(kill)[..] else { panic!("two die: {kill:#}") };
        assert_eq!(second, (first + 1) % 7, "they follow each other");
        assert!(number(kill, "gap_ms") > 0.0 && number(kill, "at_head_ms") > 0.0);
    }
    assert_ne!(replicas(&each[0]), replicas(&each[1]), "others lead by then");
    assert!(number(&report, "acknowledged_writes") > 20.0);
}

fn all_killed_at_once_lose_nothing(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let report = drill(&testnet, "kill-all", &["--times", "1", "--clients", "4"]);
    has_bars(&report, &["serving_max_ms", "lost_writes", "wrong_writes"]);
    assert!(number(&report, "serving_max_ms") >= number(&report, "any_max_ms"));
    assert!(number(&report, "acknowledged_writes") > 20.0);
}

fn a_frozen_backup_comes_back_and_nobody_waits_for_it(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let report = drill(&testnet, "pause", &["--for", "1s", "--clients", "2"]);
    has_bars(&report, &["at_head_ms", "view_changes", "lost_writes"]);
    assert!(number(&report, "missed_writes") > 0.0 && number(&report, "at_head_ms") > 0.0);
}

fn endurance_compares_the_beginning_with_the_end(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let report = drill(&testnet, "endurance", &["--for", "4s", "--clients", "4"]);
    has_bars(&report, &["view_changes", "resident_mib", "descriptors", "threads", "log_mib"]);
    let parts = report["parts"].as_array().expect("replicas");
    assert_eq!(parts.len(), 4);
    for part in parts {
        for field in ["resident_mib", "descriptors", "threads", "log_mib"] {
            assert!(number(&part[field], "first") > 0.0 && number(&part[field], "last") > 0.0, "{field}: {part:#}");
        }
    }
    assert!(number(&report, "samples") >= 8.0 && number(&report, "ops_per_s") > 0.0);
}

fn a_replica_that_missed_many_writes_comes_back(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let report = drill(&testnet, "lag", &["--writes", "500", "--clients", "4", "--bundle", "4"]);
    has_bars(&report, &["at_head_ms", "lost_writes"]);
    assert!(number(&report, "missed_writes") >= 500.0);
}

#[test]
fn a_preloaded_store_is_measured_beside_an_empty_one() {
    let testnet = Testnet::new();
    let short = ["--keys", "2000", "--rounds", "2", "--for", "400ms", "--clients", "4"];
    let report = drill(&testnet, "preload", &short);
    has_bars(&report, &["ratio"]);
    assert_eq!(report["each"].as_array().map(Vec::len), Some(2));
    assert!(
        number(&report, "ratio_min") <= number(&report, "ratio")
            && number(&report, "ratio") <= number(&report, "ratio_max")
    );
}

fn overload_is_compared_with_a_few_requests_in_flight(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let short = ["--in-flight", "32", "--baseline", "4", "--clients", "4", "--for", "1s"];
    let report = drill(&testnet, "overload", &short);
    has_bars(&report, &["view_changes"]);
    let parts = report["parts"].as_array().expect("two");
    let in_flight: Vec<_> = parts.iter().map(|part| part["in_flight"].as_u64()).collect();
    assert_eq!(in_flight, [Some(4), Some(32)]);
    assert!(parts.iter().all(|part| number(part, "ops_per_s") > 0.0 && part["busy"].is_u64()));
    testnet.testnet(&["drill", "overload", "--in-flight", "65", "--clients", "1"]).fails(2, "--in-flight 65");
}

fn behaviours_are_drilled_one_after_the_other(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    // The whole catalogue takes minutes; `quorate-testnet drill behaviours` runs it.
    let names = ["equivocate", "silent", "double-vote", "lie-to-clients", "forge-watch", "slow"];
    let mut short = vec!["--clients", "3", "--puts", "15"];
    short.extend(names.iter().flat_map(|name| ["--behaviour", *name]));
    let report = drill(&testnet, "behaviours", &short);
    let bars = ["puts", "acted", "checkpoint", "accused", "reads", "wrong_reads", "wrong_events", "missing_events"];
    has_bars(&report, &bars);
    let parts = report["parts"].as_array().expect("behaviours");
    assert_eq!(parts.len(), names.len());
    for name in names {
        let part = parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((part["puts"].as_u64(), part["events"].as_u64()), (Some(45), Some(45)), "{part:#}");
        let convicts = ["equivocate", "double-vote"].contains(&name);
        assert_eq!(part["accused"], if convicts { serde_json::json!([0]) } else { serde_json::json!([]) }, "{name}");
    }
}

#[test]
fn an_interrupted_drill_leaves_nothing_running() {
    let testnet = Testnet::new();
    let temporary = testnet.place().join("temporary");
    fs::create_dir(&temporary).expect("made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-testnet"));
    command.args(["drill", "endurance"]).env("TMPDIR", &temporary).stdin(Stdio::null());
    let mut drill = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let began = Instant::now();
    while processes_in(&temporary).len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(30), "the replicas never ran");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = drill.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("it runs").success());
    assert_eq!(drill.wait().expect("it ends").code(), Some(130));
    assert!(processes_in(&temporary).is_empty());
    assert!(fs::read_dir(&temporary).expect("there").next().is_none());
}

#[test]
fn a_drill_keeps_its_testnet_where_it_is_told_and_touches_no_other() {
    let testnet = Testnet::started();
    let before = testnet.replicas();
    testnet.testnet(&["drill", "kill-all", "--dir", "testnet"]).fails(2, "fresh testnet");
    assert_eq!(testnet.replicas()[0]["pid"], before[0]["pid"]);
    testnet.testnet(&["down"]).well();
    testnet.testnet(&["drill", "lag", "--dir", "kept", "--writes", "10", "--clients", "2"]).well();
    assert!(testnet.place().join("kept/testnet.toml").is_file());
    let status = testnet.testnet(&["status", "--dir", "kept", "--json"]).json();
    assert!(status["replicas"].as_array().is_some_and(|all| all.iter().all(|replica| replica["pid"].is_null())));
    for wrong in
        [&["drill", "lag", "--bundle", "0"][..], &["drill", "kill-all", "-n", "3"], &["drill", "lag", "--clients", "0"]]
    {
        assert_eq!(testnet.testnet(wrong).code, 2, "{wrong:?}");
    }
}
