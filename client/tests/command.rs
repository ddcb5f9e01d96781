//! The command without a cluster: arguments, exit codes, what it says.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use quorate_crypto::Digest;
use quorate_crypto::{Epoch, Incarnation, ReplicaId, Seq, Statement, StatementBody};
use quorate_protocol::evidence::Evidence;

mod support;

use support::genesis::{Testbed, testbed};

fn quorate(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("quorate").expect("the command is built");
    command.current_dir(directory).env_clear().args(arguments);
    command
}

fn output(directory: &Path, arguments: &[&str]) -> Output {
    quorate(directory, arguments).output().expect("it runs")
}

/// It fails with this exit code, prints no data, and says this much.
fn fails(mut command: Command, code: i32, says: &str) {
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{told}");
    assert!(told.contains(says), "{says:?} is not in {told:?}");
}

/// It succeeds and prints this much.
fn prints(mut command: Command, says: &str) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains(says), "{says:?} is not in {printed:?}");
}

#[test]
fn usage_errors_are_exit_code_2_and_say_what_would_be_right() {
    let empty = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["frobnicate"][..],
        &["put"],
        &["get"],
        &["get", "a", "--limit", "many"],
        &["cas", "a", "b"],
        &["watch"],
        &["client-key", "add"],
        &["verify"],
        &["completions", "no-such-shell"],
        &["get", "a", "--timeout", "soon"],
    ] {
        fails(quorate(empty.path(), arguments), 2, "--help");
    }
    fails(quorate(empty.path(), &[]), 2, "quorate --help");
    fails(quorate(empty.path(), &["get", "a", "--request", "x"]), 2, "takes no command");
}

#[test]
fn without_a_cluster_it_says_how_to_start_one() {
    let empty = tempfile::tempdir().expect("a directory");
    let get = ["get", "a"];
    fails(quorate(empty.path(), &get), 2, "cargo testnet up");
    fails(quorate(empty.path(), &["get", "a", "--cluster", "elsewhere"]), 2, "at elsewhere");
    let mut by_variable = quorate(empty.path(), &get);
    by_variable.env("QUORATE_CLUSTER", "variable");
    fails(by_variable, 2, "at variable");
    let mut by_both = quorate(empty.path(), &["get", "a", "--cluster", "flag"]);
    by_both.env("QUORATE_CLUSTER", "variable");
    fails(by_both, 2, "at flag");
    std::fs::create_dir(empty.path().join("testnet")).expect("made");
    fails(quorate(empty.path(), &get), 2, "genesis.toml");
}

#[test]
fn a_missing_or_open_key_is_refused() {
    let Testbed { directory, .. } = testbed();
    let key = directory.path().join("testnet/client.key");
    fails(quorate(directory.path(), &["get", "a", "--key", "none.key"]), 2, "none.key");
    let mut permissions = std::fs::metadata(&key).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&key, permissions).expect("changed");
    fails(quorate(directory.path(), &["get", "a"]), 2, "chmod 600");
}

#[test]
fn endpoints_must_name_replicas() {
    let Testbed { directory, .. } = testbed();
    for endpoint in ["0", "9=127.0.0.1:1", "0=nowhere", "x=127.0.0.1:1"] {
        fails(quorate(directory.path(), &["get", "a", "--endpoint", endpoint]), 2, "ID=HOST:PORT");
    }
    let mut by_variable = quorate(directory.path(), &["get", "a"]);
    by_variable.env("QUORATE_REPLICA_1_CLIENT", "nowhere");
    fails(by_variable, 2, "QUORATE_REPLICA_1_CLIENT=nowhere");
}

#[test]
fn a_transaction_with_a_mistake_is_refused_before_anything_is_connected() {
    let Testbed { directory, .. } = testbed();
    let mut txn = quorate(directory.path(), &["txn"]);
    txn.write_stdin("value(\"a\") ~ 1\n");
    fails(txn, 2, "line 1 of the transaction");
    fails(quorate(directory.path(), &["txn", "no-such-file"]), 2, "no-such-file");
}

#[test]
fn operations_nobody_would_execute_are_exit_code_2() {
    let Testbed { directory, .. } = testbed();
    fails(quorate(directory.path(), &["put", "", "x"]), 2, "key is not provided");
}

#[test]
fn without_replicas_the_outcome_is_unknown_and_the_request_is_saved() {
    let Testbed { directory, .. } = testbed();
    let run = output(directory.path(), &["put", "a", "1", "--timeout", "300ms"]);
    assert_eq!(run.status.code(), Some(3));
    assert!(run.stdout.is_empty());
    let told = String::from_utf8(run.stderr).expect("text");
    let saved = told.split("quorate --request ").nth(1).and_then(|rest| rest.split('`').next()).expect(&told);
    assert!(directory.path().join(saved).is_file(), "{saved}");

    let again = output(directory.path(), &["--request", saved, "--timeout", "300ms"]);
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains(saved));
    fails(quorate(directory.path(), &["--request", "testnet/genesis.toml"]), 2, "not a saved request");
}

#[test]
fn reads_without_replicas_are_exit_code_3() {
    let Testbed { directory, .. } = testbed();
    fails(quorate(directory.path(), &["get", "a", "--timeout", "200ms"]), 3, "2 equal replies");
    let run = output(directory.path(), &["status", "--json", "--timeout", "200ms"]);
    assert_eq!(run.status.code(), Some(3));
    let status: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    assert_eq!(status["replicas"].as_array().map(Vec::len), Some(4));
    assert_eq!(status["replicas"][0]["up"], false);
}

#[test]
fn completions_and_help() {
    let empty = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        prints(quorate(empty.path(), &["completions", shell]), "quorate");
    }
    prints(quorate(empty.path(), &["--help"]), "Examples:");
    for command in ["put", "get", "del", "cas", "txn", "watch", "status", "shell", "client-key", "verify"] {
        prints(quorate(empty.path(), &[command, "--help"]), "Example");
    }
}

/// Two PRE-PREPAREs of replica 0 for one place, signed with its own key.
fn equivocation(bed: &Testbed) -> Evidence {
    let ballot = |digest| quorate_crypto::statement::Ballot {
        view: quorate_crypto::View(0),
        seq: Seq(185),
        digest: Digest([digest; 32]),
    };
    let sign = |digest| {
        let body = StatementBody::PrePrepare(ballot(digest));
        let statement = Statement { epoch: Epoch(0), signer: ReplicaId(0), incarnation: Incarnation(0), body };
        statement.sign(bed.genesis.cluster_id(), &bed.identities[0].consensus)
    };
    Evidence::Contradiction(sign(1), sign(2))
}

#[test]
fn evidence_convicts_and_doctored_evidence_does_not() {
    let bed = testbed();
    let bytes = hex::encode(quorate_crypto::encoding::encode(&equivocation(&bed)));
    let file = bed.directory.path().join("e1.json");
    let write = |accused: u16, kind: &str, seq: u64, bytes: &str| {
        let value =
            serde_json::json!({"v": 1, "accused": accused, "kind": kind, "view": 0, "seq": seq, "bytes": bytes});
        std::fs::write(&file, value.to_string()).expect("written");
    };
    let verify = ["verify", "e1.json", "--genesis", "testnet/genesis.toml"];
    write(0, "two-pre-prepares", 185, &bytes);
    prints(quorate(bed.directory.path(), &verify), "two-pre-prepares by replica 0");
    prints(quorate(bed.directory.path(), &["verify", "e1.json", "--json"]), "\"accused\":0");

    let mut flipped = bytes.clone().into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped).expect("text");
    for (accused, kind, seq, bytes) in [
        (1, "two-pre-prepares", 185, bytes.as_str()),
        (0, "two-commits", 185, &bytes),
        (0, "two-pre-prepares", 186, &bytes),
        (0, "two-pre-prepares", 185, &flipped),
        (0, "two-pre-prepares", 185, &bytes[..bytes.len() - 2]),
        (0, "two-pre-prepares", 185, "zz"),
    ] {
        write(accused, kind, seq, bytes);
        fails(quorate(bed.directory.path(), &verify), 4, "convicts nobody");
    }
    std::fs::write(&file, "{}").expect("written");
    fails(quorate(bed.directory.path(), &verify), 4, "convicts nobody");
    fails(quorate(bed.directory.path(), &["verify", "none.json"]), 2, "none.json");
}
