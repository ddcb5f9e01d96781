//! Mistakes: each gives one sentence and the right exit code, and costs nothing.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_crypto::Protocol;

use crate::harness::{Testnet, program};

under_both!(
    a_testnet_of_one_protocol_is_not_gone_on_with_as_one_of_the_other,
    a_node_whose_genesis_says_the_other_protocol_is_refused_by_its_data_and_by_its_peers,
);

#[test]
fn without_a_testnet_every_command_says_how_to_start_one() {
    let testnet = Testnet::new();
    for arguments in [
        &["status"][..],
        &["down"],
        &["fault", "0", "silent"],
        &["kill", "0"],
        &["restart", "0"],
        &["logs", "0"],
        &["evidence"],
        &["bench"],
    ] {
        testnet.testnet(arguments).fails(2, "quorate-testnet up");
    }
}

#[test]
fn usage_errors_are_exit_code_2() {
    let testnet = Testnet::new();
    for arguments in [
        &["frobnicate"][..],
        &["up", "--fault", "equivocate"],
        &["up", "--fault", "0=nonsense"],
        &["up", "--port-base", "7400", "--any-port"],
        &["fault", "0"],
        &["fault", "0", "silent", "--when", "never"],
        &["bench", "--duration", "soon"],
    ] {
        assert_eq!(testnet.testnet(arguments).code, 2, "{arguments:?}");
    }
    testnet.testnet(&["up", "-n", "3", "--any-port"]).fails(2, "at least 4");
    let of_pbft = "withhold-prepares is a behaviour of pbft: the testnet runs hotstuff";
    for arguments in [
        &["up", "--protocol", "hotstuff", "--fault", "0=withhold-prepares", "--any-port"][..],
        &["gauntlet", "--protocol", "hotstuff", "--only", "equivocate,withhold-prepares"],
        &["drill", "behaviours", "--protocol", "hotstuff", "--behaviour", "withhold-prepares"],
    ] {
        testnet.testnet(arguments).fails(2, of_pbft);
    }
    let of_hotstuff = "fork is a behaviour of hotstuff: the testnet runs pbft";
    testnet.testnet(&["up", "--fault", "0=fork", "--any-port"]).fails(2, of_hotstuff);
    testnet.testnet(&["up", "--fault", "4=silent", "--any-port"]).fails(2, "replicas 0 to 3");
    assert!(!testnet.directory().join("genesis.toml").exists(), "a refused testnet left something behind");
    assert!(testnet.testnet(&["completions", "bash"]).well().out.contains("quorate-testnet"));
    let faults = testnet.testnet(&["faults", "--json"]).json();
    assert!(faults["faults"].as_array().is_some_and(|faults| faults.iter().any(|one| one["name"] == "equivocate")));
}

#[test]
fn a_port_in_use_is_named() {
    let testnet = Testnet::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("bound").port();
    testnet.testnet(&["up", "-d", "--port-base", &port.to_string()]).fails(2, &format!("port {port} "));
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let testnet = Testnet::new();
    fs::create_dir(testnet.directory()).expect("made");
    let file = testnet.directory().join("client.key");
    fs::write(&file, "precious").expect("written");
    for more in [&[][..], &["--fresh"]] {
        testnet.up(more).fails(2, "not a testnet");
    }
    assert_eq!(fs::read_to_string(&file).expect("there"), "precious");
}

#[test]
fn a_replica_that_dies_on_start_is_one_clear_error_and_leaves_nothing_running() {
    let testnet = Testnet::started();
    testnet.testnet(&["down"]).well();
    testnet.up(&["-n", "5"]).fails(2, "has 4 replicas");
    // What an earlier machine or process left in a pid file names somebody else by now.
    fs::write(testnet.directory().join("node1/pid"), std::process::id().to_string()).expect("written");
    let key = testnet.directory().join("node2/identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    let up = testnet.up(&[]);
    assert!(up.err.contains("exit code 4") && up.err.contains("identity.key"), "{}", up.err);
    up.fails(2, "replica 2");
    assert!(testnet.replicas().iter().all(|replica| replica["pid"].is_null()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");

    let config = testnet.directory().join("node0/node.toml");
    let text = fs::read_to_string(&config).expect("there");
    fs::write(&config, format!("speed = 9\n{text}")).expect("written");
    testnet.up(&[]).fails(2, "unknown field");
    fs::write(&config, text).expect("written");
    testnet.up(&[]).well();
}

/// `up -d | true`: whoever was to read has gone away, and the testnet runs all the same.
#[test]
fn a_reader_that_goes_away_stops_nothing() {
    let testnet = Testnet::new();
    let mut up = testnet.testnet_in_background(&["up", "-d", "--any-port"]);
    drop(up.stdout.take());
    let ended = up.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && !errors.contains("panicked"), "{errors}");
    assert!(testnet.replicas().iter().all(|replica| replica["up"] == true));
    let mut status = testnet.testnet_in_background(&["status"]);
    drop(status.stdout.take());
    let errors = status.wait_with_output().expect("it ends").stderr;
    assert!(!String::from_utf8_lossy(&errors).contains("panicked"));
}

const fn other_than(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Pbft => Protocol::HotStuff,
        Protocol::HotStuff => Protocol::Pbft,
    }
}

/// Writes `file` anew as `to`, with one protocol's name in place of the other's.
fn rename_protocol(file: &Path, to: &Path, from: Protocol, into: Protocol) {
    let line = |protocol: Protocol| format!("protocol = \"{protocol}\"\n");
    let text = fs::read_to_string(file).expect("there");
    assert!(text.contains(&line(from)), "{text}");
    fs::write(to, text.replace(&line(from), &line(into))).expect("written");
}

fn a_testnet_of_one_protocol_is_not_gone_on_with_as_one_of_the_other(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    let other = other_than(protocol);
    let says = format!("runs {protocol}, not {other}");
    let asked = ["up", "-d", "--any-port", "--protocol", other.name()];
    testnet.quorate(&["put", "kept", "yes"]).well();
    testnet.testnet(&asked).fails(2, &says);
    assert!(testnet.replicas().iter().all(|replica| replica["up"] == true), "a refusal stopped something");
    testnet.testnet(&["down"]).well();
    testnet.testnet(&asked).fails(2, &says);
    assert!(testnet.replicas().iter().all(|replica| replica["pid"].is_null()), "a refusal started something");

    // Whoever changes the word in the files gets no further: in one of them, and in both.
    let (genesis, description) = (testnet.directory().join("genesis.toml"), testnet.directory().join("testnet.toml"));
    rename_protocol(&genesis, &genesis, protocol, other);
    testnet.up(&[]).fails(2, &format!("genesis.toml says {other}"));
    rename_protocol(&description, &description, protocol, other);
    let up = testnet.testnet(&asked);
    assert!(up.err.contains("exit code 6"), "{}", up.err);
    up.fails(2, &format!("belongs to a cluster that runs {protocol}, but the genesis file says {other}"));

    rename_protocol(&genesis, &genesis, other, protocol);
    rename_protocol(&description, &description, other, protocol);
    testnet.up(&[]).well();
    assert_eq!(testnet.quorate(&["get", "kept"]).well().out, "yes\n");
}

/// A node that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until each of these logs says so.
fn wait_for_logs(logs: &[&Path], says: &str) {
    let began = Instant::now();
    let lacks = |log: &&Path| !fs::read_to_string(log).unwrap_or_default().contains(says);
    while let Some(log) = logs.iter().copied().find(lacks) {
        assert!(began.elapsed() < Duration::from_secs(30), "{} never says {says:?}", log.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One of four nodes gets a genesis file that differs in that word alone.
fn a_node_whose_genesis_says_the_other_protocol_is_refused_by_its_data_and_by_its_peers(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    let other = other_than(protocol);
    testnet.testnet(&["kill", "3"]).well();
    let node = testnet.directory().join("node3");
    rename_protocol(&testnet.directory().join("genesis.toml"), &node.join("genesis.toml"), protocol, other);
    let config = node.join("node.toml");
    let text = fs::read_to_string(&config).expect("there");
    assert!(text.contains("\"../genesis.toml\""), "{text}");
    fs::write(&config, text.replace("\"../genesis.toml\"", "\"genesis.toml\"")).expect("written");
    let restarted = testnet.testnet(&["restart", "3"]);
    assert!(restarted.err.contains("exit code 6"), "{}", restarted.err);
    restarted.fails(2, &format!("belongs to a cluster that runs {protocol}, but the genesis file says {other}"));

    // With data of its own it runs, and neither side takes the other for one of its cluster.
    fs::remove_dir_all(node.join("data")).expect("removed");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(program("quorate-node"));
        command.args(arguments).arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    assert!(command(&["init", "--new-cluster"]).status().expect("it runs").success());
    let log = testnet.place().join("stranger.log");
    let errors = fs::File::create(&log).expect("a log");
    let _stranger = Running(command(&["run"]).stderr(errors).spawn().expect("it runs"));
    let honest = testnet.directory().join("node0/node.log");
    wait_for_logs(&[log.as_path(), honest.as_path()], "another agreement protocol");
    let written = testnet.put_all("beside a stranger", 2, 5);
    testnet.assert_all_there("beside a stranger", &written);
    assert!(!fs::read_to_string(&log).expect("there").contains("a link is up"));
}
