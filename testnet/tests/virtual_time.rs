//! The commands that run in virtual time, as a user starts them: what they print, and their exit codes.

use assert_cmd::Command;

fn testnet(words: &[&str]) -> std::process::Output {
    Command::cargo_bin("quorate-testnet").expect("built").args(words).output().expect("runs")
}

#[test]
fn twins_that_hold_exit_with_0() {
    for protocol in ["pbft", "hotstuff"] {
        let output = testnet(&["simulate", "--twins", "--range", "1000..1020", "--protocol", protocol, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{protocol}: {}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!((&told["v"], &told["scenarios"], &told["runs"]), (&1.into(), &214_396.into(), &20.into()));
        assert_eq!(told["verdict"], "ok", "{protocol}");
    }
}

/// A violation exits with 5 and prints the line that plays it again, which exits with 5 as well.
#[test]
fn a_violation_of_twins_exits_with_5_and_replays() {
    // HotStuff forks in few scenarios: two of these end with two leaders in a row that part from all others.
    for (protocol, which) in [("pbft", ["--sample", "100"]), ("hotstuff", ["--range", "47780..47830"])] {
        let words = ["simulate", "--twins", "--protocol", protocol, "--sabotage", "low-quorum"];
        let output = testnet(&[&words[..], &which].concat());
        assert_eq!(output.status.code(), Some(5), "{protocol}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = told.lines().find_map(|line| line.strip_prefix("replay: quorate-testnet "));
        let words: Vec<&str> = line.expect("a line to replay").split(' ').collect();
        let again = testnet(&words);
        assert_eq!(again.status.code(), Some(5), "{words:?}");
        let first = told.lines().next().expect("a line").to_owned();
        assert!(String::from_utf8_lossy(&again.stderr).contains(&first), "{words:?} does not say again: {first}");
    }
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

/// A liar whose lie only the other protocol has would be an honest replica.
#[test]
fn a_behaviour_of_the_other_protocol_exits_with_2() {
    for (protocol, seeds, fault, says) in [
        ("pbft", "--seed", "0=fork", "fork is a behaviour of hotstuff: the testnet runs pbft"),
        (
            "hotstuff",
            "--seed",
            "0=withhold-prepares",
            "withhold-prepares is a behaviour of pbft: the testnet runs hotstuff",
        ),
        ("both", "--seeds", "0=fork", "fork is a behaviour of hotstuff: the testnet runs pbft"),
        ("both", "--seeds", "0=false-suspicion", "false-suspicion is a behaviour of pbft: the testnet runs hotstuff"),
    ] {
        let output = testnet(&["simulate", "--protocol", protocol, seeds, "2", "--fault", fault]);
        assert_eq!(output.status.code(), Some(2), "{protocol} {fault}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(says), "{told}");
    }
    // Odd seeds run HotStuff.
    let output = testnet(&["simulate", "--protocol", "both", "--seed", "3", "-n", "4", "--fault", "0=fork"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
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
    let fork = scenario("[[event]]\nat = \"600ms\"\ndo = \"fault\"\nreplica = 0\nbehaviours = [\"fork\"]\n");
    let other = run(&fork, &[]);
    assert_eq!(other.status.code(), Some(2));
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(told.contains("line 9: fork is a behaviour of hotstuff: the testnet runs pbft"), "{told}");
    assert_eq!(run(&fork, &["--protocol", "hotstuff"]).status.code(), Some(0));
}
