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

/// A scenario file of the test's own.
fn scenario(rest: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("made");
    let crash = "[[event]]\nat = \"500ms\"\ndo = \"crash\"\nreplica = 0\n";
    let text = format!("title = \"own\"\nreplicas = 4\nduration = \"1s\"\n{crash}{rest}");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn run(file: &tempfile::NamedTempFile, more: &[&str]) -> std::process::Output {
    testnet(&[&["run", file.path().to_str().expect("a name")], more].concat())
}

#[test]
fn a_scenario_exits_by_whether_it_is_as_expected() {
    let met = run(&scenario("[expect]\nview_at_least = 1\n"), &["--json"]);
    assert_eq!(met.status.code(), Some(0), "{}", String::from_utf8_lossy(&met.stderr));
    let told: serde_json::Value = serde_json::from_slice(&met.stdout).expect("one object");
    assert_eq!((&told["v"], &told["mode"], &told["verdict"]), (&1.into(), &"simulated".into(), &"ok".into()));
    let missed = run(&scenario("[expect]\nview_at_most = 0\n"), &[]);
    assert_eq!(missed.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&missed.stderr).contains("expected: view at most 0; observed: 1"));
}

/// What is no scenario, or cannot be played as asked for, exits with 2 and names the line.
#[test]
fn a_mistake_in_a_scenario_exits_with_2_and_its_line() {
    let unknown = run(&scenario("[expect]\nveiw_at_most = 0\n"), &[]);
    assert_eq!(unknown.status.code(), Some(2));
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(told.contains("line 9: unknown field `veiw_at_most`"), "{told}");
    let virtual_only = "[[event]]\nat = \"600ms\"\ndo = \"loss\"\npercent = 10\n";
    let real = run(&scenario(virtual_only), &["--real"]);
    assert_eq!(real.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&real.stderr).contains("line 9: links of one machine"), "{real:?}");
    assert_eq!(testnet(&["run", "there-is-none.toml"]).status.code(), Some(2));
}
