//! A testnet for one test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quorate_client::{Client, Cluster};
use quorate_crypto::Protocol;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// It ended with 0.
    pub fn well(self) -> Ran {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    /// Its output as JSON.
    pub fn json(self) -> Value {
        let ran = self.well();
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
    }

    /// It ended with that code and one sentence that says so much.
    pub fn fails(self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(self.err.contains(says), "{says:?} is not in {:?}", self.err);
        let errors = self.err.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one sentence: {:?}", self.err);
    }
}

/// A program that was built beside this test; built now if it was not.
pub fn program(name: &str) -> PathBuf {
    let testnet = PathBuf::from(env!("CARGO_BIN_EXE_quorate-testnet"));
    let path = testnet.with_file_name(name);
    if !path.exists() {
        let profile = testnet.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("debug");
        let package = if name == "quorate" { "quorate-client" } else { name };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", package, "--bin", name]);
        build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        let built = build.status().expect("cargo runs");
        assert!(built.success() && path.exists(), "{name} is not built; run `cargo test --workspace`");
    }
    path
}

/// Held by a test while it runs, also against the tests of other processes.
fn take_turn() -> File {
    let turn = Path::new(env!("CARGO_TARGET_TMPDIR")).join("processes.lock");
    let file = File::create(turn).expect("a lock");
    file.lock().expect("locked");
    file
}

pub struct Testnet {
    place: TempDir,
    protocol: Protocol,
    _turn: File,
}

impl Testnet {
    /// A place for a testnet that runs PBFT; nothing runs.
    pub fn new() -> Testnet {
        Testnet::of(Protocol::Pbft)
    }

    /// The same for one that runs `protocol`.
    pub fn of(protocol: Protocol) -> Testnet {
        let turn = take_turn();
        Testnet { place: tempfile::tempdir().expect("a directory"), protocol, _turn: turn }
    }

    /// A running one of four replicas.
    pub fn started() -> Testnet {
        Testnet::started_with(Protocol::Pbft)
    }

    /// A running one of four replicas that run `protocol`.
    pub fn started_with(protocol: Protocol) -> Testnet {
        let testnet = Testnet::of(protocol);
        testnet.up(&[]).well();
        testnet
    }

    /// Whether its primary stays until it is given up.
    pub fn primary_stays(&self) -> bool {
        !self.protocol.leaders_take_turns()
    }

    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn place(&self) -> &Path {
        self.place.path()
    }

    pub fn directory(&self) -> PathBuf {
        self.place().join("testnet")
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.place()).stdin(Stdio::null());
        for variable in ["QUORATE_CLUSTER", "QUORATE_KEY", "QUORATE_TIMEOUT", "QUORATE_LOG", "CARGO_MANIFEST_DIR"] {
            command.env_remove(variable);
        }
        command
    }

    /// `quorate-testnet` in this place.
    pub fn testnet(&self, arguments: &[&str]) -> Ran {
        let program = Path::new(env!("CARGO_BIN_EXE_quorate-testnet"));
        Ran::of(self.command(program, arguments).output().expect("it runs"))
    }

    /// The same with a variable that names a path.
    pub fn testnet_with(&self, (variable, path): (&str, &Path), arguments: &[&str]) -> Ran {
        let program = Path::new(env!("CARGO_BIN_EXE_quorate-testnet"));
        Ran::of(self.command(program, arguments).env(variable, path).output().expect("it runs"))
    }

    /// `quorate-testnet` in this place, left running.
    pub fn testnet_in_background(&self, arguments: &[&str]) -> Child {
        let program = Path::new(env!("CARGO_BIN_EXE_quorate-testnet"));
        let mut command = self.command(program, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    }

    /// `quorate` in this place.
    pub fn quorate(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(&program("quorate"), arguments).output().expect("it runs"))
    }

    pub fn up(&self, more: &[&str]) -> Ran {
        let mut arguments = vec!["up", "-d", "--any-port", "--protocol", self.protocol.name()];
        arguments.extend(more);
        self.testnet(&arguments)
    }

    /// `status --json`'s replicas.
    pub fn replicas(&self) -> Vec<Value> {
        let status = self.testnet(&["status", "--json"]).json();
        assert_eq!((status["v"].as_u64(), status["protocol"].as_str()), (Some(1), Some(self.protocol.name())));
        status["replicas"].as_array().expect("a list").clone()
    }

    pub fn primary(&self) -> u64 {
        let replicas = self.replicas();
        let primary = replicas.iter().find(|replica| replica["role"] == "primary");
        primary.unwrap_or_else(|| panic!("no primary: {replicas:#?}"))["id"].as_u64().expect("a number")
    }

    /// Waits until the replicas are as wanted.
    pub fn wait(&self, wanted: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let replicas = self.replicas();
            if holds(&replicas) {
                return replicas;
            }
            assert!(began.elapsed() < PATIENCE, "never {wanted}: {replicas:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `evidence --json`'s list.
    pub fn evidence(&self) -> Vec<Value> {
        let evidence = self.testnet(&["evidence", "--json"]).json();
        assert_eq!(evidence["v"], 1);
        evidence["evidence"].as_array().expect("a list").clone()
    }

    /// Waits until evidence convicts `accused`, and asserts that it convicts nobody else.
    pub fn wait_for_conviction(&self, accused: u64) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let evidence = self.evidence();
            assert!(evidence.iter().all(|offence| offence["accused"] == accused), "{evidence:#?}");
            if !evidence.is_empty() {
                return evidence;
            }
            assert!(began.elapsed() < PATIENCE, "replica {accused} was never convicted");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a client library finds here.
    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::in_directory(&self.directory()).expect("a cluster");
        cluster.set_patience(PATIENCE);
        cluster
    }

    /// `clients` clients put `each` keys `prefix/client/number` one after the other, and every put succeeds. Returns the
    /// keys and values.
    pub fn put_all(&self, prefix: &str, clients: usize, each: usize) -> Vec<(String, String)> {
        let cluster = self.cluster();
        in_runtime(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..clients {
                let client = Client::connect(cluster.clone()).await.expect("connected");
                let prefix = format!("{prefix}/{number}");
                tasks.spawn(async move {
                    let mut written = Vec::new();
                    for index in 0..each {
                        let (key, value) = (format!("{prefix}/{index}"), format!("{number}-{index}"));
                        client.put(key.as_str(), value.as_str()).await.expect("a put succeeds");
                        written.push((key, value));
                    }
                    written
                });
            }
            tasks.join_all().await.into_iter().flatten().collect()
        })
    }

    /// Every pair is there, by ordered reads of all keys with `prefix`.
    pub fn assert_all_there(&self, prefix: &str, written: &[(String, String)]) {
        let cluster = self.cluster();
        let kvs = in_runtime(async {
            let client = Client::connect(cluster).await.expect("connected");
            let range = quorate_kv::KeyRange::prefix(prefix);
            client.range(range, quorate_client::RangeOptions::default()).await.expect("a range").kvs
        });
        let there: std::collections::BTreeMap<_, _> = kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        for (key, value) in written {
            assert_eq!(there.get(key.as_bytes()).map(Vec::as_slice), Some(value.as_bytes()), "{key}");
        }
    }

    /// Honest replicas have the same certified state at the same number, and executed equally far in the end.
    pub fn assert_agreement(&self, honest: &[u64]) {
        let of = |replicas: &[Value], field: &str| -> Vec<Value> {
            let ids = honest.iter().map(|id| usize::try_from(*id).expect("small"));
            ids.map(|id| replicas[id][field].clone()).collect()
        };
        let equal = |values: &[Value]| values.windows(2).all(|pair| pair[0] == pair[1] && !pair[0].is_null());
        self.wait("equally far, in equal states", |replicas| {
            ["executed", "state_digest", "checkpoint_seq", "checkpoint_digest"].iter().all(|field| {
                let values = of(replicas, field);
                // States are compared only at equal numbers.
                equal(&values)
            })
        });
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        if self.directory().join("testnet.toml").exists() {
            let stopped = self.testnet(&["down", "--kill"]);
            if std::thread::panicking() {
                eprintln!("{stopped:?}");
                for id in 0..4 {
                    eprintln!("--- replica {id}\n{}", self.testnet(&["logs", &id.to_string(), "-n", "15"]).out);
                }
            }
        }
    }
}

pub fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}
