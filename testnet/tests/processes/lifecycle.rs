//! Starting, stopping, going on; what `status` says meanwhile.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use quorate_crypto::Protocol;

use crate::harness::{Testnet, program};

under_both!(
    a_testnet_starts_answers_loses_its_primary_and_gets_it_back,
    state_is_kept_over_down_and_lost_by_fresh,
    a_paused_replica_is_shown_and_catches_up_when_it_goes_on,
    a_wiped_replica_rejoins_and_votes_again,
    the_node_without_a_wrapper_runs_beside_the_others,
);

fn a_testnet_starts_answers_loses_its_primary_and_gets_it_back(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let up = testnet.up(&[]).well();
    for says in
        ["Creating testnet in ./testnet", "4 replicas, tolerates 1 faulty", "first operation committed", "seq 1,"]
    {
        assert!(up.out.contains(says), "{says:?} is not in\n{}", up.out);
    }
    assert!(!up.out.contains('\x1b'), "colour off a terminal");

    assert!(testnet.quorate(&["put", "greeting", "hello"]).well().out.starts_with("OK revision 2 seq 2 ("));
    assert_eq!(testnet.quorate(&["get", "greeting"]).well().out, "hello\n");
    assert_eq!(testnet.quorate(&["get", "nothing"]).well().out, "");
    assert_eq!(testnet.quorate(&["get", "nothing", "--fail"]).code, 1);

    let replicas = testnet.replicas();
    assert_eq!(replicas.len(), 4);
    for (id, replica) in replicas.iter().enumerate() {
        assert_eq!((replica["id"].as_u64(), replica["up"].as_bool()), (Some(id as u64), Some(true)));
        assert_eq!(replica["behaviour"], "honest");
        assert!(replica["pid"].is_u64() && replica["executed"].is_u64() && replica["view"].is_u64());
        assert_eq!(replica["state_digest"].as_str().map(str::len), Some(64));
        assert!(replica["checkpoint_seq"].is_u64() && replica["checkpoint_digest"].is_string());
    }
    let primary = testnet.primary();
    testnet.testnet(&["kill", &primary.to_string()]).well();
    testnet.quorate(&["put", "after", "the kill"]).well();
    assert!(!testnet.primary_stays() || testnet.primary() != primary);
    let down = &testnet.replicas()[usize::try_from(primary).expect("small")];
    assert_eq!((down["up"].as_bool(), down["pid"].is_null()), (Some(false), true));

    testnet.testnet(&["restart", &primary.to_string()]).well();
    testnet.assert_agreement(&[0, 1, 2, 3]);
}

fn state_is_kept_over_down_and_lost_by_fresh(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    testnet.quorate(&["put", "kept", "yes"]).well();
    let stopped = testnet.testnet(&["down", "--json"]).json();
    assert_eq!(stopped["stopped"].as_array().map(Vec::len), Some(4));
    testnet.quorate(&["get", "kept", "--timeout", "300ms"]).fails(3, "0 replicas connected");
    assert!(testnet.testnet(&["status"]).well().err.contains("does not run"));

    let up = testnet.up(&[]).well();
    assert!(up.out.starts_with("Resuming testnet in ./testnet"), "{}", up.out);
    assert_eq!(testnet.quorate(&["get", "kept"]).well().out, "yes\n");
    // Once more while it runs: nothing is started twice.
    let pids = |testnet: &Testnet| testnet.replicas().iter().map(|one| one["pid"].clone()).collect::<Vec<_>>();
    let before = pids(&testnet);
    assert!(testnet.up(&[]).well().out.contains("4 of them ran already"));
    assert_eq!(pids(&testnet), before);

    testnet.up(&["--fresh", "--fault", "2=silent"]).well();
    assert_eq!(testnet.quorate(&["get", "kept"]).well().out, "");
    assert_eq!(testnet.replicas()[2]["behaviour"], "silent");
}

#[test]
fn in_the_foreground_one_interrupt_stops_everything_gracefully() {
    let testnet = Testnet::new();
    let mut up = testnet.testnet_in_background(&["up", "--any-port"]);
    let mut out = BufReader::new(up.stdout.take().expect("a pipe")).lines();
    let shown = out.by_ref().map(|line| line.expect("UTF-8")).find(|line| line.contains("Ctrl-C stops"));
    shown.expect("it says how to stop it");
    testnet.quorate(&["put", "a", "b"]).well();
    assert!(up.try_wait().expect("a child").is_none(), "it stays in the foreground");
    // Replicas are in process groups of their own: an interrupt of the launcher's does not reach them.
    let pid = up.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
    assert_eq!(up.wait().expect("it ends").code(), Some(0));
    let rest: Vec<String> = out.map(|line| line.expect("UTF-8")).collect();
    assert!(rest.iter().any(|line| line.contains("stopped 4 replicas")), "{rest:?}");
    assert!(testnet.replicas().iter().all(|replica| replica["pid"].is_null()));
    let log = testnet.testnet(&["logs", "1"]).well().out;
    assert!(log.lines().last().is_some_and(|line| line.ends_with("stopped")), "{log}");
}

#[test]
fn two_testnets_run_side_by_side() {
    let testnet = Testnet::started();
    testnet.testnet(&["up", "-d", "--any-port", "--dir", "another", "-n", "5"]).well();
    testnet.quorate(&["put", "where", "here"]).well();
    testnet.quorate(&["--cluster", "another", "put", "where", "there"]).well();
    assert_eq!(testnet.quorate(&["get", "where"]).well().out, "here\n");
    assert_eq!(testnet.quorate(&["--cluster", "another", "get", "where"]).well().out, "there\n");
    let other = testnet.testnet(&["status", "--json", "--dir", "another"]).json();
    assert_eq!(other["replicas"].as_array().map(Vec::len), Some(5));
    testnet.testnet(&["down", "--dir", "another"]).well();
    assert!(testnet.replicas().iter().all(|replica| replica["up"] == true), "the other one's down reached this one");
}

fn a_paused_replica_is_shown_and_catches_up_when_it_goes_on(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    testnet.testnet(&["pause", "2"]).well();
    testnet.put_all("paused", 4, 10);
    let paused = &testnet.replicas()[2];
    assert_eq!((paused["paused"].as_bool(), paused["up"].as_bool()), (Some(true), Some(false)));
    testnet.testnet(&["resume", "2"]).well();
    testnet.assert_agreement(&[0, 1, 2, 3]);
}

fn a_wiped_replica_rejoins_and_votes_again(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    // A short window, so that few null requests are needed.
    testnet.up(&["--parameter", "window=32", "--parameter", "checkpoint_interval=8"]).well();
    let written = testnet.put_all("before", 2, 5);
    for (wiped, life) in [(2, 1), (0, 1)] {
        let said = testnet.testnet(&["wipe", &wiped.to_string()]).well();
        assert!(said.out.contains("it rejoins"), "{}", said.out);
        let back = testnet.wait("back", |replicas| {
            let one = &replicas[usize::try_from(wiped).expect("small")];
            one["rejoining"] == false && one["incarnation"] == life && one["ready"] == true
        });
        assert!(back.iter().all(|replica| replica["up"] == true));
    }
    let status = testnet.testnet(&["status"]).well().out;
    assert!(status.contains("(life 1)"), "{status}");
    // Without its vote nothing would be decided now.
    testnet.testnet(&["kill", "1"]).well();
    testnet.quorate(&["put", "after", "the wipes", "--timeout", "20s"]).well();
    testnet.assert_all_there("before", &written);
    testnet.assert_agreement(&[0, 2, 3]);
    assert!(testnet.evidence().is_empty(), "nobody contradicts its old self");
    testnet.testnet(&["wipe", "9"]).fails(2, "there is no replica 9");
}

fn the_node_without_a_wrapper_runs_beside_the_others(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    testnet.testnet(&["kill", "3"]).well();
    let config = testnet.directory().join("node3/node.toml");
    let mut node = Command::new(program("quorate-node"))
        .args(["run", "--config"])
        .arg(config)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    // One of the others goes: without the plain node there is no quorum.
    testnet.testnet(&["kill", "2"]).well();
    let put = testnet.quorate(&["put", "beside", "the others", "--timeout", "20s"]);
    Command::new("kill").args(["-TERM", &node.id().to_string()]).status().expect("kill runs");
    let ended = node.wait().expect("it ends").code();
    put.well();
    assert_eq!(ended, Some(0));
}
