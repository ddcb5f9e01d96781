//! The gauntlet in its short form: that it runs what it is told, judges it, and goes on where it was.

use std::fs;

use serde_json::Value;

use crate::harness::Testnet;

fn rows(report: &Value) -> Vec<&Value> {
    report["rows"].as_array().expect("rows").iter().collect()
}

#[test]
fn a_liar_and_an_attacker_are_judged_and_the_rest_is_resumed() {
    let testnet = Testnet::new();
    let temporary = testnet.place().join("temporary");
    fs::create_dir(&temporary).expect("made");
    let run_for = |time: &str, more: &[&str]| {
        let short = ["gauntlet", "--for", time, "--clients", "4", "--again", "0", "--json", "--out", "rows.jsonl"];
        testnet.testnet_with(("TMPDIR", &temporary), &[&short[..], more].concat())
    };
    let run = |more: &[&str]| run_for("2s", more);
    let report = run(&["--only", "equivocate"]).json();
    let first = rows(&report);
    let names: Vec<_> = first.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["fault-free", "equivocate", "fault-free"]);
    let (fault_free, liar) = (first[0], first[1]);
    assert_eq!((&fault_free["liar"], &fault_free["accused"]), (&Value::Null, &serde_json::json!([])));
    assert_eq!((&liar["liar"], &liar["accused"]), (&serde_json::json!(0), &serde_json::json!([0])));
    assert!(liar["acted"].as_u64() > Some(0) && liar["view_changes"].as_u64() > Some(0), "{liar:#}");

    // What stands in the file is not run again, nor lost.
    run(&["--only", "equivocate,flood"]).fails(2, "--resume");
    let report = run(&["--only", "equivocate,flood", "--resume"]).json();
    let all = rows(&report);
    let names: Vec<_> = all.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    let free = "fault-free";
    assert_eq!(names, [free, "equivocate", free, free, "flood", free], "each once: {report:#}");
    assert_eq!(all[1]["writes"], first[1]["writes"]);
    let attacked = all[4];
    assert!(attacked["acted"].as_u64() > Some(0), "{attacked:#}");
    for row in all {
        assert_eq!((&row["verdict"]["safe"], &row["panics"]), (&"ok".into(), &0.into()), "{row:#}");
        for field in ["writes", "reads", "events"] {
            assert!(row[field].as_u64() > Some(0), "no {field}: {row:#}");
        }
        assert!(row["longest_gap_ms"].as_f64() > Some(0.0) && row["resident_mib"].as_f64() > Some(1.0), "{row:#}");
    }
    assert_eq!(fs::read_to_string(testnet.place().join("rows.jsonl")).expect("the file").lines().count(), 6);
    assert!(fs::read_dir(&temporary).expect("there").next().is_none(), "files are left");
    run(&["--resume", "--only", "nonsense"]).fails(2, "no behaviour");
    run_for("3s", &["--resume", "--only", "equivocate"]).fails(2, "another --for");
}
