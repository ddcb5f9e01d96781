//! A fresh etcd cluster that takes part in a comparison, with etcd's own defaults: every write is synced by a majority
//! before it is answered.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use super::CompareError;
use super::etcd_client::{Client, Standing};
use super::figures::Figures;
use crate::bench::load::{self, Target as _};
use crate::bench::{BenchError, Plan, Stage, meter};
use crate::launcher::ports;

/// How many; they tolerate one that is down.
const MEMBERS: usize = 3;
/// The program's name on PATH.
const PROGRAM: &str = "etcd";
/// How long they may take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one question may take that asks where a member stands.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a request may take, as with our client.
const REQUEST: Duration = Duration::from_secs(10);
/// How often a cluster that comes up is asked whether it has.
const POLL: Duration = Duration::from_millis(50);
/// The variable among those that configure etcd that lets it run on this kind of machine at all.
const KEPT_VARIABLE: &str = "ETCD_UNSUPPORTED_ARCH";

/// The program at `path`, as the system knows it.
///
/// # Errors
/// One sentence: it is not there, or cannot be run.
pub fn named(path: &Path) -> Result<PathBuf, String> {
    let advice = "give the path of the etcd program, or leave --etcd out to take the one on PATH";
    let refused = |what: &str| format!("--etcd {} {what}: {advice}", path.display());
    let found = path.canonicalize().map_err(|error| refused(&format!("cannot be used ({error})")))?;
    if is_program(&found) { Ok(found) } else { Err(refused("is not a program")) }
}

/// The program in the first of the directories of `path` that has it. Relative ones are passed over: what this runs must not
/// depend on where it is called.
pub fn on_path(path: &OsStr) -> Option<PathBuf> {
    let directories = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(PROGRAM)).find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[derive(Debug)]
struct Member {
    child: Child,
    clients: SocketAddr,
    log: PathBuf,
}

/// A cluster, killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    version: String,
}

impl Cluster {
    /// Starts one with its data in `root`, and waits until it has a leader.
    ///
    /// # Errors
    /// A member cannot be started, or ends; they elect nobody in time.
    pub async fn start(program: &Path, root: &Path) -> Result<Cluster, CompareError> {
        let unusable =
            |error: std::io::Error| CompareError::Etcd(format!("{} cannot be used: {error}", root.display()));
        fs::create_dir_all(root).map_err(unusable)?;
        let free = ports::any_free_tcp(2 * MEMBERS)?;
        let (clients, peers) = free.split_at(MEMBERS);
        let initial: Vec<String> =
            peers.iter().enumerate().map(|(index, peer)| format!("{}=http://{peer}", name(index))).collect();
        let mut cluster = Cluster { members: Vec::with_capacity(MEMBERS), version: String::new() };
        for (index, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let log = root.join(format!("{}.log", name(index)));
            let out = File::create(&log).map_err(unusable)?;
            let errors = out.try_clone().map_err(unusable)?;
            let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
            let mut command = Command::new(program);
            for (variable, _) in std::env::vars_os() {
                // Flags say all there is to say; a variable that says something else stops etcd, or bends the figures.
                if variable.to_string_lossy().starts_with("ETCD_") && variable != KEPT_VARIABLE {
                    command.env_remove(variable);
                }
            }
            command
                .args(["--name", &name(index)])
                .arg("--data-dir")
                .arg(root.join(name(index)))
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "new"])
                .args(["--initial-cluster-token", "quorate-compare"])
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(errors)
                // Ctrl-C reaches this process alone, which then ends them.
                .process_group(0);
            let child = command.spawn().map_err(|error| {
                CompareError::Etcd(format!("{} cannot be started: {error}; is it etcd?", program.display()))
            })?;
            cluster.members.push(Member { child, clients: *client, log });
        }
        let standing = cluster.wait_for_a_leader().await?;
        cluster.version = standing.version;
        Ok(cluster)
    }

    /// `3.4.30, 3 members`.
    pub fn detail(&self) -> String {
        format!("{}, {} members", self.version, self.members.len())
    }

    /// Waits until all members follow the same leader, and says where one stands.
    async fn wait_for_a_leader(&mut self) -> Result<Standing, CompareError> {
        let began = Instant::now();
        loop {
            self.check_all_run()?;
            let problem = match self.standings().await {
                Ok(standings) => match standings.split_first() {
                    Some((first, others))
                        if first.leader != 0
                            && others.iter().all(|other| (other.leader, other.term) == (first.leader, first.term)) =>
                    {
                        return Ok(first.clone());
                    }
                    _ => "they do not agree on a leader".to_owned(),
                },
                Err(problem) => problem,
            };
            if began.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(CompareError::Etcd(format!(
                    "etcd's members were not ready within {seconds} s ({problem}); is the machine overloaded?"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn check_all_run(&mut self) -> Result<(), CompareError> {
        for (index, member) in self.members.iter_mut().enumerate() {
            if let Ok(Some(status)) = member.child.try_wait() {
                let log = fs::read_to_string(&member.log).unwrap_or_default();
                let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote nothing");
                return Err(CompareError::Etcd(format!(
                    "etcd's member {} ended ({status}): {last}; is it etcd 3.4 or later?",
                    name(index)
                )));
            }
        }
        Ok(())
    }

    /// Where all members stand, by their order.
    async fn standings(&self) -> Result<Vec<Standing>, String> {
        let mut standings = Vec::with_capacity(self.members.len());
        for member in &self.members {
            standings.push(Client::connect(member.clients, ANSWER).await?.status().await?);
        }
        Ok(standings)
    }

    /// Freezes all members.
    ///
    /// # Errors
    /// The system refuses.
    pub fn pause(&self) -> Result<(), CompareError> {
        self.signal(Signal::STOP)
    }

    /// Lets them go on, and waits until they have a leader.
    ///
    /// # Errors
    /// They elect nobody in time.
    pub async fn go_on(&mut self) -> Result<(), CompareError> {
        self.signal(Signal::CONT)?;
        self.wait_for_a_leader().await?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), CompareError> {
        for member in &self.members {
            match kill_process(Pid::from_child(&member.child), signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(CompareError::Etcd(format!("a member of etcd takes no signals: {error}"))),
            }
        }
        Ok(())
    }

    /// Puts the load of `plan` on it: connections go to the leader first, then to the others in turn.
    ///
    /// # Errors
    /// Not one request succeeded, or clients cannot connect.
    pub async fn measure(&self, plan: &Plan, tell: &mut impl FnMut(Stage)) -> Result<Figures, BenchError> {
        let before = self.standings().await.map_err(BenchError::Nothing)?;
        let clients = self.connect(plan, &before, tell).await.map_err(BenchError::Nothing)?;
        let server_cpu = self.cpu();
        let client_cpu = meter::own_cpu();
        let tally = load::run(&clients, plan, tell).await;
        let client_cpu = meter::own_cpu().saturating_sub(client_cpu);
        let server_cpu = self.cpu().zip(server_cpu).map(|(after, before)| after.saturating_sub(before));
        let after = self.standings().await.map_err(BenchError::Nothing)?;
        if tally.operations == 0 {
            let reason = tally.errors.keys().next().cloned();
            return Err(BenchError::Nothing(reason.unwrap_or_else(|| "none was answered in time".to_owned())));
        }
        let term = |standings: &[Standing]| standings.iter().map(|standing| standing.term).max().unwrap_or(0);
        let leader_changes = term(&after).saturating_sub(term(&before));
        Ok(Figures::of_tally(tally, server_cpu, client_cpu, leader_changes))
    }

    /// Connects a client for each of the plan, by as many channels as it has connections; each has executed one put when
    /// this returns.
    async fn connect(
        &self,
        plan: &Plan,
        standings: &[Standing],
        tell: &mut impl FnMut(Stage),
    ) -> Result<Vec<Client>, String> {
        let mut members: Vec<_> = self.members.iter().zip(standings).collect();
        members.sort_by_key(|(_, standing)| standing.member != standing.leader);
        let mut channels = Vec::with_capacity(plan.connections);
        for (member, _) in members.iter().cycle().take(plan.connections) {
            channels.push(Client::connect(member.clients, REQUEST).await?);
        }
        let clients: Vec<Client> = channels.iter().cycle().take(plan.clients).cloned().collect();
        let mut first = JoinSet::new();
        for client in clients.clone() {
            first.spawn(async move { client.write(vec![quorate_kv::PutRequest::new("bench/first", "put")]).await });
        }
        let mut connected = 0;
        tell(Stage::Connecting(connected, plan.clients as u64));
        while let Some(put) = first.join_next().await {
            put.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            connected += 1;
            tell(Stage::Connecting(connected, plan.clients as u64));
        }
        Ok(clients)
    }

    /// Processor time of all members together.
    fn cpu(&self) -> Option<Duration> {
        self.members.iter().map(|member| meter::cpu_of(member.child.id())).sum()
    }
}

/// `member0`.
fn name(index: usize) -> String {
    format!("member{index}")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Both fail only for one that has ended and was waited for. A frozen process is killed like any other.
        for member in &mut self.members {
            let _ = member.child.kill();
        }
        for member in &mut self.members {
            let _ = member.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_one_that_can_be_run() {
        let place = tempfile::tempdir().expect("a directory");
        let (empty, full) = (place.path().join("empty"), place.path().join("full"));
        fs::create_dir(&empty).and_then(|()| fs::create_dir(&full)).expect("made");
        let program = full.join(PROGRAM);
        fs::write(&program, "").expect("written");
        let path = std::env::join_paths([&empty, &full]).expect("a path");
        assert_eq!(on_path(&path), None, "nobody may run it");
        assert!(named(&program).expect_err("nobody may run it").contains("not a program"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("changed");
        assert_eq!(on_path(&path), Some(program.clone()));
        assert_eq!(named(&program), program.canonicalize().map_err(|error| error.to_string()));
        assert!(named(&full).expect_err("a directory").contains("not a program"));
        assert!(named(&place.path().join("none")).expect_err("not there").contains("--etcd"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_etcd_is_said_so_and_leaves_nothing_running() {
        let place = tempfile::tempdir().expect("a directory");
        let program = place.path().join("other");
        fs::write(&program, "#!/bin/sh\necho what is this >&2\nexit 3\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("changed");
        let refused = Cluster::start(&program, &place.path().join("data")).await.expect_err("not etcd").to_string();
        assert!(refused.contains("what is this") && refused.contains("is it etcd"), "{refused}");
    }
}
