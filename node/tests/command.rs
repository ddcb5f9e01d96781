//! The command: every way it refuses to run has its exit code and one sentence.

#[macro_use]
mod cluster;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use cluster::{Cluster, identity, other_than};
use quorate_keys::{Parameters, Protocol};
use quorate_node::config::{Config, LogSection};

under_both!(
    a_configuration_that_cannot_be_used,
    a_key_or_genesis_that_is_refused,
    data_that_are_missing_foreign_or_untrusted,
    a_directory_that_others_can_read,
    a_port_in_use,
    it_runs_until_a_signal_and_holds_its_data_alone,
);

/// The files of replica 0 of a cluster that nobody runs.
struct Files {
    cluster: Cluster,
    config: PathBuf,
}

fn files(protocol: Protocol) -> Files {
    let cluster = Cluster::new(protocol, 4, Parameters::default());
    let directory = cluster.directory.path().to_owned();
    identity(0).create(&directory.join("identity.key"), None).unwrap();
    cluster.genesis.create(&directory.join("genesis.toml")).unwrap();
    let config = Config {
        replica: cluster.settings[0].replica,
        identity: PathBuf::from("identity.key"),
        genesis: PathBuf::from("genesis.toml"),
        data: PathBuf::from("data"),
        listen: cluster.settings[0].listen,
        addresses: std::collections::BTreeMap::new(),
        log: LogSection::default(),
    };
    let path = directory.join("node.toml");
    fs::write(&path, config.to_toml()).unwrap();
    Files { cluster, config: path }
}

fn node(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-node"));
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    command
}

/// Runs the command and returns the one sentence it fails with.
fn fails(arguments: &[&str], config: &Path, code: i32) -> String {
    let output = node(arguments, config).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let error = stderr.lines().last().unwrap_or_default();
    assert!(error.starts_with("error: "), "{stderr}");
    error.to_owned()
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, change(text)).unwrap();
}

fn a_configuration_that_cannot_be_used(protocol: Protocol) {
    let files = files(protocol);
    let good = fs::read_to_string(&files.config).unwrap();
    for (old, new, says) in [
        ("durability = \"sync\"\n", "", "durability is missing"),
        ("durability = \"sync\"", "durability = \"async\"", "only \"sync\""),
        ("replica = 0", "replica = 0\nfsync = false", "unknown field `fsync`"),
        ("version = 1", "version = 7", "version is 7"),
        ("level = \"info\"", "level = \"loud=quiet=x\"", "log.level"),
    ] {
        fs::write(&files.config, good.replace(old, new)).unwrap();
        let error = fails(&["run"], &files.config, 2);
        assert!(error.contains(says), "{error}");
    }
    let error = fails(&["run"], Path::new("/nowhere/node.toml"), 2);
    assert!(error.contains("/nowhere/node.toml"), "{error}");
    Command::new(env!("CARGO_BIN_EXE_quorate-node")).arg("dance").assert().code(2);
}

fn a_key_or_genesis_that_is_refused(protocol: Protocol) {
    let files = files(protocol);
    node(&["check"], &files.config).assert().success();
    let key = files.cluster.directory.path().join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = fails(&["run"], &files.config, 4);
    assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    edit(&files.config, |text| text.replace("replica = 0", "replica = 1"));
    let error = fails(&["init", "--new-cluster"], &files.config, 4);
    assert!(error.contains("the key of replica 0"), "{error}");
    edit(&files.config, |text| text.replace("replica = 1", "replica = 9"));
    assert!(fails(&["check"], &files.config, 4).contains("no replica 9"));
    edit(&files.config, |text| text.replace("replica = 9", "replica = 0"));
    fs::write(files.cluster.directory.path().join("genesis.toml"), "format_version = 1\n").unwrap();
    assert!(fails(&["check"], &files.config, 4).contains("genesis.toml"));
}

fn data_that_are_missing_foreign_or_untrusted(protocol: Protocol) {
    let files = files(protocol);
    assert!(fails(&["run"], &files.config, 6).contains("init --new-cluster"));

    // A plain init makes a log that is not trusted.
    node(&["init"], &files.config).assert().success();
    let error = fails(&["init", "--new-cluster"], &files.config, 6);
    assert!(error.contains("never overwrites"), "{error}");

    // The data of another replica.
    let other = files.cluster.data(1);
    edit(&files.config, |text| text.replace("data = \"data\"", &format!("data = {:?}", other.display().to_string())));
    let error = fails(&["run"], &files.config, 6);
    assert!(error.contains("belongs to replica 1"), "{error}");

    // Its own, with a genesis file that says another protocol and is the same otherwise.
    let own = files.cluster.data(0);
    edit(&files.config, |text| text.replace(&other.display().to_string(), &own.display().to_string()));
    let genesis = files.cluster.directory.path().join("genesis.toml");
    let line = |protocol: Protocol| format!("protocol = \"{protocol}\"\n");
    let strange = other_than(protocol);
    edit(&genesis, |text| text.replace(&line(protocol), &line(strange)));
    let error = fails(&["run"], &files.config, 6);
    let says = format!("belongs to a cluster that runs {protocol}, but the genesis file says {strange}");
    assert!(error.contains(&says), "{error}");
    edit(&genesis, |text| text.replace(&line(strange), &line(protocol)));

    // A damaged log: bytes in the middle of its first segment, with nothing valid after the superblock changed.
    let superblock = own.join("log/log-superblock");
    let mut bytes = fs::read(&superblock).unwrap();
    for byte in &mut bytes {
        *byte ^= 0x55;
    }
    fs::write(&superblock, bytes).unwrap();
    let error = fails(&["run"], &files.config, 6);
    assert!(error.contains("damaged"), "{error}");
}

fn a_directory_that_others_can_read(protocol: Protocol) {
    let files = files(protocol);
    let own = files.cluster.data(0);
    edit(&files.config, |text| text.replace("data = \"data\"", &format!("data = {:?}", own.display().to_string())));
    fs::set_permissions(own.join("log"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = fails(&["run"], &files.config, 2);
    assert!(error.contains("chmod 700"), "{error}");
}

fn a_port_in_use(protocol: Protocol) {
    let files = files(protocol);
    let own = files.cluster.data(0);
    edit(&files.config, |text| text.replace("data = \"data\"", &format!("data = {:?}", own.display().to_string())));
    let address = files.cluster.settings[0].listen.peers;
    let taken = UdpSocket::bind(address).unwrap();
    let error = fails(&["run"], &files.config, 2);
    assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    drop(taken);
    let address = files.cluster.settings[0].listen.operations.unwrap();
    let taken = std::net::TcpListener::bind(address).unwrap();
    let error = fails(&["run"], &files.config, 2);
    assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    drop(taken);
}

fn wait(child: &mut Child, within: Duration) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    None
}

fn it_runs_until_a_signal_and_holds_its_data_alone(protocol: Protocol) {
    let files = files(protocol);
    node(&["init", "--new-cluster", "--json"], &files.config)
        .assert()
        .success()
        .stdout("{\"replica\":0,\"trusted\":true,\"v\":1}\n");
    let mut child = node(&["run", "--json"], &files.config).stderr(Stdio::piped()).spawn().unwrap();
    let operations = files.cluster.settings[0].listen.operations.unwrap();
    let began = Instant::now();
    while std::net::TcpStream::connect(operations).is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never listened");
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = fails(&["run"], &files.config, 2);
    assert!(error.contains("in use by another process"), "{error}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&mut child, Duration::from_secs(20)), Some(0));
    let mut log = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut log).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "started"), "{log}");
    assert_eq!(lines.last().unwrap()["message"], "stopped", "{log}");
}

#[test]
fn completions_name_the_commands() {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-node")).args(["completions", "bash"]).output().unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.contains("--new-cluster") && script.contains("quorate-node"));
}
