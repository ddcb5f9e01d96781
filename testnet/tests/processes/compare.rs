//! `compare`: systems side by side, and what is left of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::Testnet;

/// Short enough for a test; the figures are not looked at for what they are.
const BRIEF: [&str; 10] =
    ["compare", "--duration", "300ms", "--rounds", "1", "--clients", "4", "--kills", "0", "--json"];

/// Runs `compare` with temporary files in the test's own place, and with that PATH.
fn command(testnet: &Testnet, arguments: &[&str], path: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-testnet"));
    command.args(arguments).current_dir(testnet.place()).env("TMPDIR", testnet.place()).env("PATH", path);
    command
}

/// What it says with that `--growth` and that PATH.
fn object(testnet: &Testnet, growth: &str, path: &str) -> Value {
    let arguments = [&BRIEF[..], &["--growth", growth]].concat();
    let output = command(testnet, &arguments, path).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Processes that were told of the test's place in their arguments.
fn running(place: &Path) -> usize {
    let wanted = place.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let entries = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let arguments = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    arguments.filter(|arguments| String::from_utf8_lossy(arguments).contains(&wanted)).count()
}

fn assert_nothing_is_left(testnet: &Testnet) {
    assert_eq!(running(testnet.place()), 0, "processes were left behind");
    let left: Vec<_> = std::fs::read_dir(testnet.place()).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn check_rows(rows: &[Value], systems: &[&str]) {
    let loads = [(1, 1), (4, 1), (16, 64)];
    let wanted: Vec<_> = loads.iter().flat_map(|load| systems.iter().map(move |system| (*system, *load))).collect();
    assert_eq!(rows.len(), wanted.len(), "{rows:#?}");
    for (row, (system, (clients, bundle))) in rows.iter().zip(wanted) {
        let shown = (row["system"].as_str(), row["clients"].as_u64(), row["bundle"].as_u64());
        assert_eq!(shown, (Some(system), Some(clients), Some(bundle)));
        for figure in ["ops_per_s", "p50_ms", "p99_ms", "client_cpu_us_per_op"] {
            assert!(row[figure]["median"].as_f64().is_some_and(|number| number > 0.0), "{figure}: {row:#}");
        }
        assert!(row["server_cpu_us_per_op"]["median"].is_number(), "{row:#}");
        let has_ratio = systems.len() > 2 && system != "etcd";
        assert_eq!(row["ratio_to_baseline"]["median"].is_number(), has_ratio, "{row:#}");
        assert!(
            row["rounds"].as_array().is_some_and(|rounds| rounds.len() == 1 && rounds[0]["errors"] == 0),
            "{row:#}"
        );
    }
}

/// Every lie under both protocols: the liars lied, and the order grew before it, under it and after it.
fn check_growth(rows: &[Value]) {
    let shown: Vec<_> = rows.iter().map(|row| (row["system"].as_str(), row["leaders"].as_str())).collect();
    let wanted = [("pbft", "silent"), ("pbft", "forking"), ("hotstuff", "silent"), ("hotstuff", "forking")];
    assert_eq!(shown, wanted.map(|(system, leaders)| (Some(system), Some(leaders))), "{rows:#?}");
    for row in rows {
        assert!(row["acted"].as_u64() > Some(0), "{row:#}");
        for period in ["before", "meanwhile", "after"] {
            assert!(row["blocks_per_s"][period].as_f64() > Some(0.0), "{period}: {row:#}");
            assert!(row["writes_per_s"][period].as_f64() > Some(0.0), "{period}: {row:#}");
        }
        assert!(row["blocks"].as_f64() > Some(0.0) && row["writes"].as_f64() > Some(0.0), "{row:#}");
    }
}

#[test]
fn without_etcd_its_rows_are_skipped_and_ours_are_measured() {
    let testnet = Testnet::new();
    let found = object(&testnet, "2s", "");
    assert_eq!(found["skipped"][0], "etcd is not on this machine: skipped");
    check_rows(found["rows"].as_array().expect("rows"), &["pbft", "hotstuff"]);
    check_growth(found["growth"].as_array().expect("growth"));
    assert_nothing_is_left(&testnet);
}

#[test]
fn with_etcd_both_are_measured_under_the_same_loads() {
    let path = std::env::var("PATH").expect("a PATH");
    if !std::env::split_paths(&path).any(|directory| directory.join("etcd").is_file()) {
        eprintln!("etcd is not on this machine: only the run without it was tested");
        return;
    }
    let testnet = Testnet::new();
    let found = object(&testnet, "0s", &path);
    assert_eq!(found["skipped"].as_array().map(Vec::len), Some(0));
    assert_eq!(found["growth"].as_array().map(Vec::len), Some(0), "it was left out");
    check_rows(found["rows"].as_array().expect("rows"), &["pbft", "hotstuff", "etcd"]);
    assert_nothing_is_left(&testnet);
}

#[test]
fn interrupted_it_leaves_neither_processes_nor_files() {
    let testnet = Testnet::new();
    let path = std::env::var("PATH").expect("a PATH");
    let mut child = command(&testnet, &["compare"], &path).spawn().expect("it runs");
    let replica = |place: &PathBuf| place.join("hotstuff/node3/pid").exists();
    let began = Instant::now();
    while !std::fs::read_dir(testnet.place()).expect("there").filter_map(Result::ok).any(|made| replica(&made.path())) {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing was started");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Into the pauses and measurements.
    std::thread::sleep(Duration::from_secs(3));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("it runs");
    assert!(interrupted.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_nothing_is_left(&testnet);
}

#[test]
fn mistakes_are_said_before_anything_is_started() {
    let testnet = Testnet::new();
    testnet.testnet(&["compare", "--etcd", "nonexistent/etcd"]).fails(2, "--etcd nonexistent/etcd cannot be used");
    testnet.testnet(&["compare", "--clients", "0"]).fails(2, "--clients 0");
    testnet.testnet(&["compare", "--value-size", "65536"]).fails(2, "--value-size");
    assert_eq!(testnet.testnet(&["compare", "--rounds", "0"]).code, 2);
    assert_eq!(testnet.testnet(&["compare", "--growth", "soon"]).code, 2);
}
