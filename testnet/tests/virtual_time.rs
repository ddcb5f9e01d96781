//! The commands that run in virtual time, as a user starts them: what they print, and their exit codes.

use assert_cmd::Command;

fn testnet(words: &[&str]) -> std::process::Output {
    Command::cargo_bin("quorate-testnet").expect("built").args(words).output().expect("runs")
}

#[test]
fn twins_that_hold_exit_with_0() {
    let output = testnet(&["simulate", "--twins", "--range", "1000..1020", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&told["v"], &told["scenarios"], &told["runs"]), (&1.into(), &214_396.into(), &20.into()));
    assert_eq!(told["verdict"], "ok");
}

/// A violation exits with 5 and prints the line that plays it again, which exits with 5 as well.
#[test]
fn a_violation_of_twins_exits_with_5_and_replays() {
    let output = testnet(&["simulate", "--twins", "--sample", "100", "--sabotage", "low-quorum"]);
    assert_eq!(output.status.code(), Some(5));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = told.lines().find_map(|line| line.strip_prefix("replay: quorate-testnet ")).expect("a line to replay");
    let words: Vec<&str> = line.split(' ').collect();
    let again = testnet(&words);
    assert_eq!(again.status.code(), Some(5), "{line}");
    let first = told.lines().next().expect("a line").to_owned();
    assert!(String::from_utf8_lossy(&again.stderr).contains(&first), "{line} does not say again: {first}");
}

#[test]
fn what_makes_no_sense_exits_with_2() {
    for words in [
        &["simulate", "--twins", "--scenario", "214396"][..],
        &["simulate", "--twins", "--range", "9..3"],
        &["simulate", "--twins", "-n", "7"],
        &["simulate", "--twins", "--seeds", "5"],
        &["simulate", "--sample", "5"],
    ] {
        assert_eq!(testnet(words).status.code(), Some(2), "{words:?}");
    }
}
