use std::path::{Path, PathBuf};

use super::*;
use crate::faults::Misbehaviour;
use crate::sim::SimulationReport;
use crate::sim::script::Happening;

const HEAD: &str = "title = \"t\"\nreplicas = 4\nduration = \"2s\"\n";

fn parse(rest: &str) -> Result<Scenario, Mistake> {
    parse_under(rest, None)
}

fn parse_under(rest: &str, protocol: Option<Protocol>) -> Result<Scenario, Mistake> {
    Scenario::parse(Path::new("t.toml"), &format!("{HEAD}{rest}"), protocol)
}

fn play(rest: &str) -> Observed {
    simulated::play(&parse(rest).expect("a scenario"), 1, false).0
}

fn shipped() -> Vec<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(place).expect("there").map(|file| file.expect("readable").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

/// What the liars of a scenario do.
fn lies(scenario: &Scenario) -> Vec<&Misbehaviour> {
    let mut lies = Vec::new();
    for span in &scenario.script.spans {
        if let Happening::Lies { on, .. } = &span.what {
            lies.extend(on);
        }
    }
    lies
}

/// The lies of a scenario that were never told.
fn untold(scenario: &Scenario, report: &SimulationReport) -> Vec<&'static str> {
    let times = |name: &str| report.counters.behaviours.get(name).copied().unwrap_or(0);
    lies(scenario).into_iter().map(|lie| lie.behaviour.name()).filter(|name| times(name) == 0).collect()
}

/// Every shipped scenario is as it says under both protocols, its liars do lie, and the same seed gives the same trace.
#[test]
fn shipped_scenarios_are_as_they_say() {
    let files = shipped();
    assert!(files.len() >= 12, "{} scenarios", files.len());
    for (file, protocol) in files.into_iter().flat_map(|file| Protocol::ALL.map(|protocol| (file.clone(), protocol))) {
        let scenario = Scenario::read(&file, Some(protocol)).unwrap_or_else(|mistake| panic!("{mistake}"));
        let name = format!("{} under {protocol}", file.display());
        let (observed, report) = simulated::play(&scenario, scenario.seed, false);
        assert_eq!(scenario.judge(&observed).missed(), [""; 0], "{name}");
        assert_eq!(untold(&scenario, &report), [""; 0], "{name}");
        let (_, again) = simulated::play(&scenario, scenario.seed, false);
        assert_eq!(report.trace_hash, again.trace_hash, "{name}");
        let (other, _) = simulated::play(&scenario, scenario.seed + 1, false);
        assert_eq!(other.violation, None, "{name} with another seed");
    }
}

/// Under HotStuff everybody leads in turn. Whatever one of four does as a leader costs three tenths at most, over six seconds in
/// which the others learn to pass it over.
#[test]
fn what_a_leader_does_wrong_costs_hotstuff_three_tenths_at_most() {
    let load = "protocol = \"hotstuff\"\n[load]\nclients = 4\npause = \"1ms\"\n";
    let play = |rest: &str| {
        let text = format!("{}{rest}", HEAD.replace("2s", "6s"));
        let scenario = Scenario::parse(Path::new("t.toml"), &text, None).expect("a scenario");
        simulated::play(&scenario, 1, false).0.succeeded
    };
    let honest = play(load);
    for lie in
        ["slow", "silent", "equivocate", "fork", "stale-qc", "withhold-qc", "forge-qc", "early-timeout", "hide-qc"]
    {
        let event = format!("[[event]]\nat = \"0s\"\ndo = \"fault\"\nreplica = 1\nbehaviours = [\"{lie}\"]\n");
        let served = play(&format!("{load}{event}"));
        assert!(served * 10 >= honest * 7, "{lie}: {served} of {honest} requests");
    }
}

/// A mistake names its line.
#[test]
fn mistakes_name_their_line() {
    let event = |fields: &str| format!("[[event]]\nat = \"1s\"\n{fields}\n");
    for (rest, line, says) in [
        ("colour = \"red\"".to_owned(), 4, "unknown field `colour`"),
        ("[load]\nclients = 2\nclient = 3".to_owned(), 6, "unknown field `client`"),
        ("[expect]\nview_at_mots = 3".to_owned(), 5, "unknown field `view_at_mots`"),
        ("[parameters]\nwindows = 3".to_owned(), 5, "there is no parameter \"windows\""),
        ("[parameters]\nview_timeout_ms = 0".to_owned(), 5, "out of bounds"),
        ("protocol = \"raft\"".to_owned(), 4, "there is no protocol"),
        ("[load]\nclients = 0".to_owned(), 5, "0 clients"),
        ("[[event]]\nat = \"soon\"\ndo = \"crash\"".to_owned(), 5, "is not a time"),
        (event("do = \"explode\""), 6, "unknown variant `explode`"),
        (event("do = \"crash\"\nreplica = 4"), 5, "there is no replica 4"),
        (event("do = \"crash\""), 5, "needs `replica`"),
        (event("do = \"crash\"\nreplica = 1\ngroups = [[0]]"), 5, "`groups` means nothing to `crash`"),
        (event("do = \"partition\"\ngroups = [[0, 1], [1]]"), 5, "stands in two groups"),
        (event("do = \"fault\"\nreplica = 1\nbehaviours = [\"fly\"]"), 5, "fly"),
        (event("do = \"fault\"\nreplica = 1\nbehaviours = [\"fork\"]"), 5, "fork is a behaviour of hotstuff"),
        (event("do = \"crash\"\nreplica = 1\nhotstuff.behaviours = [\"fork\"]"), 5, "`hotstuff` means nothing"),
        (event("do = \"restart\"\nreplica = 1"), 5, "ends nothing of replica 1"),
        (event("do = \"heal\""), 5, "ends nothing"),
        (event("do = \"loss\""), 5, "needs `percent`"),
        ("[[event]]\nat = \"2s\"\ndo = \"crash\"\nreplica = 1".to_owned(), 5, "after the end"),
        (event("do = \"fault\"\nreplicas = [0, 1]\nbehaviours = [\"silent\"]"), 5, "2 replicas lie, 4 tolerate 1"),
        ("[expect]\nevidence = [7]".to_owned(), 5, "there is no replica 7"),
        (event("do = \"crash\"\nreplica = 1") + "[[event]]\nat = \"1500ms\"\ndo = \"crash\"\nreplica = 1", 9, "line 5"),
    ] {
        let mistake = parse(&rest).expect_err(&rest);
        assert_eq!(mistake.line, Some(line), "{rest}: {mistake}");
        assert!(mistake.to_string().contains(says), "{rest}: {mistake}");
        assert!(mistake.to_string().starts_with(&format!("t.toml, line {line}: ")), "{mistake}");
    }
}

/// A lie in messages that only one protocol has is refused under the other, unless the file names another one for it.
#[test]
fn a_lie_may_be_another_one_under_hotstuff() {
    let fault = |more: &str| {
        format!("[[event]]\nat = \"1s\"\ndo = \"fault\"\nreplica = 1\nbehaviours = [\"withhold-commits\"]\n{more}")
    };
    let both = fault("hotstuff.behaviours = [\"withhold-votes:25%\"]\n");
    for (protocol, lie) in [(Protocol::Pbft, "withhold-commits"), (Protocol::HotStuff, "withhold-votes:25%")] {
        let scenario = parse_under(&both, Some(protocol)).expect("a scenario");
        let told: Vec<String> = lies(&scenario).into_iter().map(ToString::to_string).collect();
        assert_eq!((scenario.protocol, told), (protocol, vec![lie.to_owned()]));
    }
    let refused = |text: &str| parse_under(text, Some(Protocol::HotStuff)).expect_err(text).to_string();
    let alone = refused(&fault(""));
    assert!(
        alone.starts_with("t.toml, line 5: withhold-commits is a behaviour of pbft: the testnet runs hot"),
        "{alone}"
    );
    let wrong = fault("hotstuff.behaviours = [\"withhold-prepares\"]\n");
    assert!(refused(&wrong).contains("withhold-prepares is a behaviour of pbft"), "{}", refused(&wrong));
    // Also where it would not be played.
    assert!(parse_under(&wrong, Some(Protocol::Pbft)).is_err());
    assert!(refused(&fault("hotstuff.behaviours = []\n")).contains("needs `behaviours`"));
    assert!(refused(&fault("hotstuff.behaviour = [\"fork\"]\n")).contains("unknown field `behaviour`"));
}

#[test]
fn events_end_as_they_are_written() {
    let scenario = parse(
        "[[event]]\nat = \"0s\"\ndo = \"pause\"\nreplicas = [1, 2]\n[[event]]\nat = \"1s\"\ndo = \"resume\"\nreplica = 2\n\
         [[event]]\nat = \"500ms\"\ndo = \"delay\"\nby = \"20ms\"\nfor = \"300ms\"\n",
    )
    .expect("a scenario");
    let spans: Vec<(u64, u64)> = scenario.script.spans.iter().map(|span| (span.from, span.until)).collect();
    assert_eq!(spans, [(0, 2_000_000), (0, 1_000_000), (500_000, 800_000)]);
}

/// Each kind of event does what it says: the same run without it would not pass.
#[test]
fn what_is_written_happens() {
    let quiet = play("");
    assert_eq!((quiet.view, quiet.violation), (0, None));
    assert!(quiet.succeeded > 100 && quiet.gap < std::time::Duration::from_millis(30), "{:?}", quiet.gap);
    for down in ["crash", "power-cut", "pause"] {
        let observed = play(&format!("[[event]]\nat = \"500ms\"\ndo = \"{down}\"\nreplica = 0\n"));
        assert_eq!((observed.view, observed.violation), (1, None), "{down}");
    }
    let parted = play("[[event]]\nat = \"200ms\"\ndo = \"partition\"\ngroups = [[0, 1], [2, 3]]\nfor = \"600ms\"\n");
    assert!(parted.gap >= std::time::Duration::from_millis(550), "{:?}", parted.gap);
    let slow = play("[[event]]\nat = \"0s\"\ndo = \"delay\"\nby = \"40ms\"\n");
    assert!(slow.succeeded * 3 < quiet.succeeded, "{} and {}", slow.succeeded, quiet.succeeded);
    let lossy = play("[[event]]\nat = \"0s\"\ndo = \"loss\"\npercent = 40\n");
    assert!(lossy.gap > 2 * quiet.gap && lossy.violation.is_none(), "{:?}", lossy.gap);
    let lie = "[[event]]\nat = \"0s\"\ndo = \"fault\"\nreplica = 0\nbehaviours = [\"equivocate\"]\n";
    assert_eq!(play(lie).convicted.into_iter().collect::<Vec<_>>(), [0]);
}

/// What is expected and does not happen is missed.
#[test]
fn an_expectation_can_be_missed() {
    let crash = "[[event]]\nat = \"500ms\"\ndo = \"crash\"\nreplica = 0\n";
    for expectation in [
        "view_at_most = 0",
        "view_at_least = 9",
        "evidence = [0]",
        "requests_at_least = 1000000",
        "gap_at_most = \"1ms\"",
    ] {
        let scenario = parse(&format!("{crash}[expect]\n{expectation}\n")).expect("a scenario");
        let (observed, _) = simulated::play(&scenario, 1, false);
        let verdict = scenario.judge(&observed);
        assert_eq!(verdict.missed().len(), 1, "{expectation}: {:?}", verdict.0);
    }
    let scenario = parse("[expect]\nall_requests_succeed = true\n").expect("a scenario");
    let observed =
        Observed { requests: 3, succeeded: 2, violation: Some("agreement: two".to_owned()), ..Observed::default() };
    assert_eq!(scenario.judge(&observed).missed().len(), 2);
}
