//! `up`: from nothing, or from what was stopped, to a committed operation; then a line a second until Ctrl-C.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_client::ClientError;
use quorate_client::cluster::short_cluster;
use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use quorate_crypto::ReplicaId;
use quorate_keys::{Genesis, Protocol};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::Up;
use super::screen::{self, Ticker};
use super::{launch_failure, status};
use crate::launcher::creation::{self, Plan};
use crate::launcher::process::{self, Spawned, condition};
use crate::launcher::start::{self, FirstOperation};
use crate::launcher::{Description, Directory, LaunchError, control, ports, standing};

mod watching;

use watching::Watching;

/// Replicas of a new testnet unless told otherwise.
const DEFAULT_REPLICAS: usize = 4;

/// A testnet whose files are in place.
struct Prepared {
    genesis: Genesis,
    description: Description,
    created: bool,
}

/// Ctrl-C, and what service managers send.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn new() -> Result<Interrupts, Failure> {
        let unusable = |error| Failure::configuration(format!("cannot take signals: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
        let terminate = signal(SignalKind::terminate()).map_err(unusable)?;
        Ok(Interrupts { interrupt, terminate })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Up {
    pub(super) async fn run(&self, directory: &Directory, report: Report) -> Result<(), Failure> {
        let mut interrupts = Interrupts::new()?;
        let began = Instant::now();
        let prepared = self.prepare(directory).map_err(launch_failure)?;
        if !report.json {
            say_prepared(directory, &prepared, began.elapsed());
        }
        let mut spawned = Vec::new();
        let started = tokio::select! {
            started = self.start(directory, &prepared, &mut spawned, report) => started,
            () = interrupts.next() => Err(Failure::interrupted()),
        };
        let first = match started {
            Ok(first) => first,
            Err(failure) => {
                process::end(directory, spawned).map_err(launch_failure)?;
                return Err(failure);
            }
        };
        say_started(directory, &prepared, &first, began.elapsed(), report).await?;
        if self.detach {
            return first.map(|_| ()).map_err(Failure::from);
        }
        let mut watching = Watching::new(directory, &prepared.description, spawned, report);
        watching.run(&mut interrupts).await
    }

    /// Makes the files, or finds them.
    fn prepare(&self, directory: &Directory) -> Result<Prepared, LaunchError> {
        let root = directory.root();
        std::fs::create_dir_all(root).map_err(|error| LaunchError::file(root, &error))?;
        let _lock = directory.lock()?;
        if self.fresh {
            process::stop(directory, &found_replicas(directory)?, true, || true)?;
        }
        // What an interrupted creation left never ran.
        if self.fresh || !directory.is_testnet() {
            directory.clear()?;
        }
        if directory.is_testnet() { self.resume(directory) } else { self.create(directory) }
    }

    fn create(&self, directory: &Directory) -> Result<Prepared, LaunchError> {
        let count = self.replicas.unwrap_or(DEFAULT_REPLICAS);
        let endpoints = self.endpoints(count)?;
        for (id, _) in &self.faults {
            check_replica(*id, count)?;
        }
        let protocol = self.protocol.unwrap_or(Protocol::Pbft);
        self.check_faults(protocol)?;
        let plan = Plan { protocol, endpoints, parameters: self.parameters.clone() };
        let (genesis, description) = creation::create(directory, &plan).inspect_err(|_| {
            // Nothing of it ran; if it cannot be removed, the next attempt says so.
            let _ = directory.clear();
        })?;
        Ok(Prepared { genesis, description, created: true })
    }

    fn check_faults(&self, protocol: Protocol) -> Result<(), LaunchError> {
        let sentence = self.faults.iter().find_map(|(_, turned)| super::turning::meaningless(turned, protocol));
        sentence.map_or(Ok(()), |sentence| Err(LaunchError::Usage(sentence)))
    }

    fn endpoints(&self, count: usize) -> Result<Vec<crate::launcher::Endpoints>, LaunchError> {
        if self.any_port {
            return ports::any_free(count);
        }
        let endpoints = ports::from_base(self.port_base.unwrap_or(ports::DEFAULT_BASE), count)?;
        for (id, endpoints) in (0u16..).map(ReplicaId).zip(&endpoints) {
            ports::check_free(id, endpoints)?;
        }
        Ok(endpoints)
    }

    fn resume(&self, directory: &Directory) -> Result<Prepared, LaunchError> {
        let mut description = Description::load(directory)?;
        let genesis = Genesis::load(&directory.genesis()).map_err(|error| LaunchError::Usage(error.to_string()))?;
        if genesis.protocol() != description.protocol {
            let says = format!(
                "says that the testnet runs {}, but {} says {}: restore the file that was changed, or begin anew with `quorate-testnet up --fresh`",
                description.protocol,
                directory.genesis().display(),
                genesis.protocol()
            );
            return Err(LaunchError::File { path: directory.description(), problem: says });
        }
        let count = description.replicas.len();
        let differs = |what: String| {
            let shown = directory.shown();
            Err(LaunchError::Usage(format!(
                "the testnet in {shown} {what}: leave that out to go on with it, start over with --fresh, or name another directory with --dir"
            )))
        };
        if self.replicas.is_some_and(|wanted| wanted != count) {
            return differs(format!("has {count} replicas"));
        }
        if let Some(wanted) = self.protocol.filter(|wanted| *wanted != description.protocol) {
            return differs(format!("runs {}, not {wanted}", description.protocol));
        }
        for (name, value) in &self.parameters {
            let rows = genesis.parameters().rows();
            if !rows.iter().any(|row| row.name == name && row.value == *value) {
                return differs("has its parameters already".to_owned());
            }
        }
        for (id, _) in &self.faults {
            check_replica(*id, count)?;
        }
        self.check_faults(description.protocol)?;
        let runs = description.ids().any(|id| condition(directory, id).pid().is_some());
        let moved = match self.port_base {
            Some(base) => Some(ports::from_base(base, count)?),
            None if self.any_port && !runs && !all_free(&description) => Some(ports::any_free(count)?),
            None => None,
        };
        if let Some(moved) = moved.filter(|moved| *moved != description.replicas) {
            if runs {
                return differs("runs on other ports, which can be changed only while it is down".to_owned());
            }
            description.replicas = moved;
            creation::relocate(directory, &description)?;
        }
        Ok(Prepared { genesis, description, created: false })
    }

    /// Starts what does not run, and commits an operation. The inner result is that of the operation: without it there
    /// is something to look at all the same.
    async fn start(
        &self,
        directory: &Directory,
        prepared: &Prepared,
        spawned: &mut Vec<Spawned>,
        report: Report,
    ) -> Result<Result<FirstOperation, ClientError>, Failure> {
        let description = &prepared.description;
        let ids: Vec<ReplicaId> = description.ids().collect();
        let began = Instant::now();
        let behaviours = |id: ReplicaId| {
            self.faults.iter().filter(|(replica, _)| *replica == id.0).map(|(_, turned)| turned.to_text()).collect()
        };
        {
            let _lock = directory.lock().map_err(launch_failure)?;
            start::spawn_missing(directory, description, &ids, behaviours, spawned).map_err(launch_failure)?;
            start::wait_until_connected(directory, description, &ids, spawned).await.map_err(launch_failure)?;
        }
        self.turn_those_that_ran(directory, spawned).await?;
        if !report.json {
            let names = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let ran = ids.len() - spawned.len();
            let detail = match ran {
                0 => screen::time(began.elapsed()),
                ran => format!("{}, {ran} of them ran already", screen::time(began.elapsed())),
            };
            screen::step(&format!("replicas {names} connected"), &detail);
        }
        Ok(start::first_operation(directory).await)
    }

    async fn turn_those_that_ran(&self, directory: &Directory, spawned: &[Spawned]) -> Result<(), Failure> {
        let mut turned: std::collections::BTreeMap<u16, Vec<control::Turned>> = std::collections::BTreeMap::new();
        for (id, behaviour) in &self.faults {
            if spawned.iter().all(|one| one.id.0 != *id) {
                turned.entry(*id).or_default().push(behaviour.clone());
            }
        }
        for (id, behaviours) in turned {
            let replica = ReplicaId(id);
            control::turn(&directory.control(replica), behaviours, None)
                .await
                .map_err(|problem| launch_failure(LaunchError::Replica { replica, problem }))?;
        }
        Ok(())
    }
}

fn check_replica(id: u16, count: usize) -> Result<(), LaunchError> {
    if usize::from(id) < count { Ok(()) } else { Err(LaunchError::NoReplica { id, replicas: count }) }
}

fn all_free(description: &Description) -> bool {
    description.ids().zip(&description.replicas).all(|(id, endpoints)| ports::check_free(id, endpoints).is_ok())
}

/// Every replica that a directory has something of, whatever its description says.
fn found_replicas(directory: &Directory) -> Result<Vec<ReplicaId>, LaunchError> {
    let number = |entry: &std::path::PathBuf| entry.file_name()?.to_str()?.strip_prefix("node")?.parse().ok();
    Ok(directory.entries()?.iter().filter_map(number).map(ReplicaId).collect())
}

fn say_prepared(directory: &Directory, prepared: &Prepared, took: Duration) {
    let Prepared { genesis, description, created } = prepared;
    let verb = if *created { "Creating" } else { "Resuming" };
    let title = format!("{verb} testnet in {}", directory.shown());
    let (count, faulty) = (description.replicas.len(), description.tolerates());
    let cluster = short_cluster(genesis);
    say!(
        "{title:<40} cluster {}..   {}, {count} replicas, tolerates {faulty} faulty",
        cluster.get(..6).unwrap_or(&cluster),
        description.protocol
    );
    let what = if *created { "keys, genesis and config" } else { "keys, genesis and config found" };
    screen::step(what, &screen::time(took));
}

async fn say_started(
    directory: &Directory,
    prepared: &Prepared,
    first: &Result<FirstOperation, ClientError>,
    took: Duration,
    report: Report,
) -> Result<(), Failure> {
    let standings = standing::all(directory, &prepared.description).await;
    let view = standing::view(&standings).unwrap_or_default();
    if report.json {
        let first = match first {
            Ok(first) => json!({"seq": first.seq.0, "ms": first.took.as_secs_f64() * 1000.0}),
            Err(error) => json!({"error": error.to_string()}),
        };
        let object = json!({
            "v": 1,
            "directory": directory.root(),
            "cluster": prepared.genesis.cluster_id().to_string(),
            "protocol": prepared.description.protocol.name(),
            "created": prepared.created,
            "first_operation": first,
            "ms": took.as_secs_f64() * 1000.0,
            "replicas": standings.iter().map(|one| status::object(one, view)).collect::<Vec<_>>(),
        });
        return report.value(&object);
    }
    match first {
        Ok(first) => {
            let primary = prepared.description.ids().nth(primary_index(view, &standings)).unwrap_or(ReplicaId(0));
            let detail = format!("seq {}, view {view}, primary {primary}, {}", first.seq, screen::time(first.took));
            screen::step("first operation committed", &detail);
        }
        Err(error) => screen::warn(&format!("no first operation: {error}")),
    }
    say!("");
    screen::lines(&status::started_table(&standings));
    say!("");
    say_what_to_try(directory);
    Ok(())
}

/// Who leads that view, by the word of those that are in it.
fn primary_index(view: u64, standings: &[standing::Standing]) -> usize {
    let status = standings.iter().filter_map(|one| one.status.as_ref()).find(|status| status.view == view);
    status.map_or(0, |status| usize::from(status.primary))
}

fn say_what_to_try(directory: &Directory) {
    let (client, testnet) = (screen::client_command(), screen::testnet_command());
    let elsewhere = directory.root() != std::path::Path::new(quorate_client::cluster::DEFAULT_DIRECTORY)
        && std::env::var_os(quorate_client::cluster::CLUSTER_VARIABLE).is_none();
    let (cluster, dir) = if elsewhere {
        let shown = directory.root().display();
        (format!(" --cluster {shown}"), format!(" --dir {shown}"))
    } else {
        (String::new(), String::new())
    };
    say!(
        "  Try      {client}{cluster} put greeting hello      {testnet}{dir} fault 0 equivocate      {testnet}{dir} status"
    );
}

/// Stops the replicas gracefully, or at once when interrupted again.
async fn stop(
    directory: &Directory,
    description: &Description,
    interrupts: &mut Interrupts,
) -> Result<Vec<ReplicaId>, Failure> {
    let hurry = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hurry);
    let (place, ids) = (directory.clone(), description.ids().collect::<Vec<_>>());
    let mut stopping =
        tokio::task::spawn_blocking(move || process::stop(&place, &ids, false, || asked.load(Ordering::Relaxed)));
    loop {
        tokio::select! {
            stopped = &mut stopping => {
                let stopped = stopped.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                return stopped.map_err(launch_failure);
            }
            () = interrupts.next() => hurry.store(true, Ordering::Relaxed),
        }
    }
}

fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

fn new_ticker(report: Report) -> Option<Ticker> {
    let ticker = Ticker::new();
    (ticker.is_on() && !report.json).then_some(ticker)
}
