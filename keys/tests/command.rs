//! The `quorate-keys` command as a user runs it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// The command, in `directory` and with nothing of this process' environment that it reads.
fn keys(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-keys"));
    command.current_dir(directory).env_remove("QUORATE_PASSPHRASE_FILE").args(arguments);
    command
}

fn succeed(directory: &Path, arguments: &[&str]) -> String {
    let output = keys(directory, arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let value: Value = serde_json::from_str(&succeed(directory, arguments)).unwrap();
    assert_eq!(value["v"], 1);
    value
}

/// Runs to the exit code `code` and returns the sentence on stderr.
fn fail(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = keys(directory, arguments).assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn passphrase_file(directory: &Path, name: &str, contents: &str) {
    fs::write(directory.join(name), contents).unwrap();
    set_mode(&directory.join(name), 0o600);
}

/// A directory with four identities, a client key, an admin key and their genesis.
fn cluster() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["node0", "node1", "node2", "node3"] {
        succeed(path, &["new", &format!("{name}.key")]);
    }
    succeed(path, &["new", "app.key", "--client"]);
    succeed(path, &["new", "admin.key", "--client"]);
    succeed(path, &genesis_arguments("genesis.toml"));
    directory
}

fn genesis_arguments(output: &str) -> Vec<&str> {
    let mut arguments = vec!["genesis"];
    for replica in [
        "node0.pub@127.0.0.1:7400",
        "node1.pub@127.0.0.1:7401,127.0.0.1:7611",
        "node2.pub@localhost:7402,localhost:7602,localhost:7502",
        "node3.pub@[::1]:7403",
    ] {
        arguments.extend(["--replica", replica]);
    }
    arguments.extend(["--client", "app.pub", "--admin", "admin.pub", "-o", output]);
    arguments
}

#[test]
fn new_makes_a_protected_key_and_its_public_half() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let made = json(path, &["new", "node0.key", "--json"]);
    assert_eq!(mode(&path.join("node0.key")), 0o600);
    assert_eq!((&made["kind"], &made["encrypted"]), (&Value::from("replica"), &Value::from(false)));
    let from_key = json(path, &["show", "node0.key", "--json"]);
    let from_public = json(path, &["--json", "show", "node0.pub"]);
    for field in ["kind", "fingerprint", "consensus_key", "transport_key", "binding"] {
        assert_eq!(from_key[field], from_public[field], "{field}");
        assert!(from_key[field].is_string());
    }
    assert_eq!(made["fingerprint"], from_key["fingerprint"]);
    let text = succeed(path, &["show", "node0.key"]);
    assert!(text.contains(made["fingerprint"].as_str().unwrap()) && text.contains("encrypted      false"));
    let client = json(path, &["new", "app.key", "--client", "--json"]);
    assert_eq!(client["kind"], "client");
    assert_eq!(json(path, &["show", "app.pub", "--json"])["fingerprint"], client["fingerprint"]);
}

#[test]
fn nothing_is_ever_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    succeed(path, &["new", "node0.key"]);
    let before = fs::read(path.join("node0.key")).unwrap();
    assert!(fail(path, &["new", "node0.key"], 2).contains("exists already"));
    assert_eq!(fs::read(path.join("node0.key")).unwrap(), before);
    // A public half of that name stops it too, before a secret is made.
    fs::write(path.join("node1.pub"), "mine").unwrap();
    assert!(fail(path, &["new", "node1.key"], 2).contains("node1.pub exists already"));
    assert!(!path.join("node1.key").exists());
    assert!(fail(path, &["new", "node2.pub"], 2).contains("give the secret file another extension"));
    assert!(fail(path, &["new", "none/node2.key"], 2).contains("could not create it"));
}

#[test]
fn show_never_prints_a_secret_and_refuses_unprotected_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    succeed(path, &["new", "node0.key"]);
    let secret = fs::read_to_string(path.join("node0.key")).unwrap();
    let shown = succeed(path, &["show", "node0.key"]);
    for line in secret.lines().filter(|line| line.len() > 20 && !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    set_mode(&path.join("node0.key"), 0o644);
    assert!(fail(path, &["show", "node0.key"], 4).contains("wider than 0600"));
    set_mode(&path.join("node0.key"), 0o600);
    symlink("node0.key", path.join("link.key")).unwrap();
    assert!(fail(path, &["show", "link.key"], 4).contains("symbolic link"));
    fs::write(path.join("node0.pub"), "garbage").unwrap();
    assert!(fail(path, &["show", "node0.pub"], 4).contains("is not a file made by"));
    assert!(fail(path, &["show", "none.key"], 2).contains("none.key could not open it"));
}

#[test]
fn passphrases_come_from_files_and_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    passphrase_file(path, "right", "correct horse\n");
    passphrase_file(path, "wrong", "battery staple\n");
    let made = json(path, &["new", "node0.key", "--encrypt", "--passphrase-file", "right", "--json"]);
    assert_eq!(made["encrypted"], true);
    assert!(fs::read_to_string(path.join("node0.key")).unwrap().contains("BEGIN ENCRYPTED PRIVATE KEY"));
    let shown = json(path, &["show", "node0.key", "--passphrase-file", "right", "--json"]);
    assert_eq!(shown["fingerprint"], made["fingerprint"]);
    assert!(fail(path, &["show", "node0.key", "--passphrase-file", "wrong"], 4).contains("the passphrase is wrong"));
    // The flag wins over the environment, which wins over the terminal.
    keys(path, &["show", "node0.key"]).env("QUORATE_PASSPHRASE_FILE", "right").assert().success();
    keys(path, &["show", "node0.key", "--passphrase-file", "wrong"])
        .env("QUORATE_PASSPHRASE_FILE", "right")
        .assert()
        .code(4);
    keys(path, &["show", "node0.key", "--passphrase-file", "-"]).write_stdin("correct horse\n").assert().success();
    keys(path, &["show", "node0.key", "--passphrase-file", "/dev/fd/0"])
        .write_stdin("correct horse")
        .assert()
        .success();
    set_mode(&path.join("right"), 0o644);
    assert!(fail(path, &["show", "node0.key", "--passphrase-file", "right"], 2).contains("wider than 0600"));
    assert!(fail(path, &["new", "x.key", "--passphrase-file", "right"], 2).contains("--encrypt"));
    assert!(!path.join("x.key").exists());
}

#[test]
fn a_genesis_is_made_and_checked() {
    let directory = cluster();
    let path = directory.path();
    let text = fs::read_to_string(path.join("genesis.toml")).unwrap();
    for line in [
        "client_address = \"127.0.0.1:7600\"",
        "client_address = \"127.0.0.1:7611\"",
        "operations_address = \"localhost:7502\"",
        "client_address = \"[::1]:7603\"",
        "name = \"app\"",
        "name = \"admin\"",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let checked = json(path, &["check", ".", "--json"]);
    assert_eq!((&checked["ok"], checked["files"].as_array().unwrap().len()), (&Value::from(true), 13));
    let replicas: Vec<u64> = checked["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["kind"] == "replica identity")
        .filter_map(|file| file["replica"].as_u64())
        .collect();
    assert_eq!(replicas, [0, 1, 2, 3]);
    assert!(fail(path, &genesis_arguments("genesis.toml"), 2).contains("exists already"));
    assert_eq!(fs::read_to_string(path.join("genesis.toml")).unwrap(), text);
    // Two clusters of the same keys are two clusters.
    let mut arguments = genesis_arguments("second.toml");
    arguments.extend(["--json", "--protocol", "hotstuff", "--parameter", "window=512"]);
    let (first, second) = (json(path, &arguments), {
        arguments[14] = "third.toml";
        json(path, &arguments)
    });
    assert_ne!(first["cluster"], second["cluster"]);
    assert_eq!((&first["replicas"], &first["faults"], &first["quorum"]), (&4.into(), &1.into(), &3.into()));
    assert!(fs::read_to_string(path.join("second.toml")).unwrap().contains("window = 512"));
    let different = fail(path, &["check", "second.toml", "third.toml"], 4);
    assert!(different.contains("1 problem"));
}

#[test]
fn an_invalid_genesis_is_not_written() {
    let directory = cluster();
    let path = directory.path();
    let with = |extra: &[&'static str]| {
        let mut arguments = genesis_arguments("other.toml");
        arguments.extend(extra);
        arguments
    };
    let three = ["genesis", "--replica", "node0.pub@a:1", "--client", "app.pub", "-o", "other.toml"];
    assert!(fail(path, &three, 4).contains("the number of replicas is 1"));
    assert!(fail(path, &with(&["--client", "admin.pub"]), 4).contains("are the same"));
    assert!(fail(path, &with(&["--replica", "node0.pub@h:1"]), 4).contains("are the same"));
    assert!(fail(path, &with(&["--client", "node0.pub"]), 4).contains("where a client key is needed"));
    assert!(fail(path, &with(&["--replica", "app.pub@h:1"]), 4).contains("where a replica identity is needed"));
    assert!(fail(path, &with(&["--parameter", "window=1"]), 4).contains("window is 1, but it must be"));
    assert!(fail(path, &with(&["--parameter", "windows=1"]), 2).contains("there is no parameter"));
    assert!(fail(path, &with(&["--parameter", "window"]), 2).contains("NAME=VALUE"));
    assert!(fail(path, &with(&["--protocol", "raft"]), 2).contains("pbft or hotstuff"));
    assert!(fail(path, &with(&["--replica", "node0.pub"]), 2).contains("node0.pub@host:port"));
    assert!(fail(path, &with(&["--replica", "node0.pub@h:65500"]), 2).contains("give the client address too"));
    assert!(fail(path, &with(&["--replica", "node0.pub@h:1,h:2,h:3,h:4"]), 2).contains("at most three"));
    assert!(fail(path, &with(&["--replica", "none.pub@h:1"]), 2).contains("could not open it"));
    assert!(!path.join("other.toml").exists());
}

#[test]
fn check_reports_every_problem_in_one_sentence() {
    let directory = cluster();
    let path = directory.path();
    set_mode(&path.join("node0.key"), 0o640);
    fs::rename(path.join("node1.key"), path.join("real")).unwrap();
    symlink("real", path.join("node1.key")).unwrap();
    fs::copy(path.join("node3.pub"), path.join("node2.pub")).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    succeed(path, &["new", "sub/stranger.key"]);
    fs::write(path.join("sub/genesis.toml"), "format_version = 3").unwrap();
    let output = keys(path, &["check", ".", "--json"]).assert().code(4).get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["v"], &report["ok"]), (&1.into(), &false.into()));
    let problems: Vec<&str> =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["problem"].as_str().unwrap()).collect();
    for expected in [
        "node0.key has mode 0640",
        "node1.key is a symbolic link",
        "node2.pub is not the public half of ./node2.key",
        "stranger.key is the identity of no replica in ./genesis.toml",
        "stranger.pub is the identity of no replica in ./genesis.toml",
        "sub/genesis.toml is refused: format_version is 3",
    ] {
        assert_eq!(problems.iter().filter(|problem| problem.contains(expected)).count(), 1, "{expected}: {problems:?}");
    }
    assert_eq!(problems.len(), 6, "{problems:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("6 problems found"));
    let text = keys(path, &["check", "node0.key"]).assert().code(4).get_output().stdout.clone();
    assert!(String::from_utf8(text).unwrap().starts_with("problem  node0.key has mode 0640"));
}

#[test]
fn check_sees_an_exchanged_transport_key_and_an_open_directory() {
    let directory = cluster();
    let path = directory.path();
    let transport = |name: &str| json(path, &["show", name, "--json"])["transport_key"].as_str().unwrap().to_owned();
    succeed(path, &["new", "other.key"]);
    let text = fs::read_to_string(path.join("genesis.toml")).unwrap();
    let exchanged = text.replace(&transport("node2.pub"), &transport("other.pub"));
    fs::write(path.join("exchanged.toml"), exchanged).unwrap();
    let output = keys(path, &["check", "exchanged.toml", "node2.key"]).assert().code(4).get_output().stdout.clone();
    assert!(String::from_utf8(output).unwrap().contains("has another transport key than the replica"));
    set_mode(path, 0o777);
    let output = keys(path, &["check", "node2.key"]).assert().code(4).get_output().stdout.clone();
    assert!(String::from_utf8(output).unwrap().contains("others could replace the keys in it"));
    set_mode(path, 0o700);
    succeed(path, &["check", "node2.key"]);
}

#[test]
fn check_looks_at_encrypted_keys_with_and_without_their_passphrase() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    passphrase_file(path, "right", "correct horse");
    passphrase_file(path, "wrong", "battery staple");
    succeed(path, &["new", "admin.key", "--client", "--encrypt", "--passphrase-file", "right"]);
    assert!(succeed(path, &["check", "."]).contains("client key, encrypted, not opened"));
    assert!(succeed(path, &["check", ".", "--passphrase-file", "right"]).contains("admin.key (client key)"));
    fail(path, &["check", ".", "--passphrase-file", "wrong"], 4);
    fail(path, &["check", ".", "--passphrase-file", "none"], 2);
}

#[test]
fn usage_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for command in ["new", "show", "genesis", "check", "completions"] {
        let help = succeed(path, &[command, "--help"]);
        assert!(help.contains("Example") && help.contains("quorate-keys"), "{command}");
        if command != "completions" {
            fail(path, &[command], 2);
        }
    }
    assert!(succeed(path, &["--help"]).contains("Exit codes"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(succeed(path, &["completions", shell]).contains("quorate-keys"));
    }
    assert!(json(path, &["completions", "bash", "--json"])["script"].as_str().unwrap().contains("quorate-keys"));
    fail(path, &["check", "."], 2);
    fail(path, &["check", "none"], 2);
    fail(path, &["frobnicate"], 2);
}
