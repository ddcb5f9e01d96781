//! `kill`, `restart`, `wipe`, `pause`, `resume`, `down`: what is done to processes from outside.

use std::time::Instant;

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use quorate_crypto::ReplicaId;
use rustix::process::Signal;
use serde_json::json;

use super::arguments::{Down, Restart};
use super::{launch_failure, screen};
use crate::launcher::process::{self, Condition, condition};
use crate::launcher::{Description, Directory, LaunchError, creation, start};

/// `kill`.
pub(super) fn kill(directory: &Directory, id: u16, report: Report) -> Result<(), Failure> {
    let (replica, condition) = find(directory, id)?;
    if condition == Condition::Down {
        return Err(not_running(replica));
    }
    process::stop(directory, &[replica], true, || true).map_err(launch_failure)?;
    report.both(&format!("replica {id} killed"), &json!({"v": 1, "id": id, "up": false}))
}

/// `pause`.
pub(super) fn pause(directory: &Directory, id: u16, report: Report) -> Result<(), Failure> {
    let (replica, condition) = find(directory, id)?;
    let text = match condition {
        Condition::Down => return Err(not_running(replica)),
        Condition::Paused(_) => format!("replica {id} is paused already"),
        Condition::Running(pid) => {
            process::signal(replica, pid, Signal::STOP).map_err(launch_failure)?;
            format!("replica {id} paused")
        }
    };
    report.both(&text, &json!({"v": 1, "id": id, "paused": true}))
}

/// `resume`.
pub(super) fn resume(directory: &Directory, id: u16, report: Report) -> Result<(), Failure> {
    let (replica, condition) = find(directory, id)?;
    let text = match condition {
        Condition::Down => return Err(not_running(replica)),
        Condition::Running(_) => format!("replica {id} is not paused"),
        Condition::Paused(pid) => {
            process::signal(replica, pid, Signal::CONT).map_err(launch_failure)?;
            format!("replica {id} goes on")
        }
    };
    report.both(&text, &json!({"v": 1, "id": id, "paused": false}))
}

/// `restart`.
pub(super) async fn restart(directory: &Directory, asked: &Restart, report: Report) -> Result<(), Failure> {
    let description = Description::load(directory).map_err(launch_failure)?;
    let (id, _) = description.replica(asked.id).map_err(launch_failure)?;
    let began = Instant::now();
    let _lock = directory.lock().map_err(launch_failure)?;
    process::stop(directory, &[id], asked.kill, || false).map_err(launch_failure)?;
    let mut spawned = Vec::new();
    start::spawn_missing(directory, &description, &[id], |_| Vec::new(), &mut spawned).map_err(launch_failure)?;
    start::wait_until_connected(directory, &description, &[id], &mut spawned).await.map_err(launch_failure)?;
    let pid = condition(directory, id).pid();
    let took = began.elapsed();
    report.both(
        &format!("replica {id} runs and is connected, after {}", screen::time(took)),
        &json!({"v": 1, "id": id.0, "pid": pid, "up": true, "ms": took.as_secs_f64() * 1000.0}),
    )
}

/// `wipe`.
pub(super) async fn wipe(directory: &Directory, id: u16, report: Report) -> Result<(), Failure> {
    let description = Description::load(directory).map_err(launch_failure)?;
    let (id, _) = description.replica(id).map_err(launch_failure)?;
    let _lock = directory.lock().map_err(launch_failure)?;
    process::stop(directory, &[id], true, || true).map_err(launch_failure)?;
    creation::wipe(directory, id).map_err(launch_failure)?;
    let mut spawned = Vec::new();
    start::spawn_missing(directory, &description, &[id], |_| Vec::new(), &mut spawned).map_err(launch_failure)?;
    start::wait_until_connected(directory, &description, &[id], &mut spawned).await.map_err(launch_failure)?;
    let pid = condition(directory, id).pid();
    report.both(
        &format!(
            "replica {id} lost its data and runs with an empty log; it rejoins, as `quorate-testnet status` shows"
        ),
        &json!({"v": 1, "id": id.0, "pid": pid, "up": true, "wiped": true}),
    )
}

/// `down`.
pub(super) fn down(directory: &Directory, asked: &Down, report: Report) -> Result<(), Failure> {
    let description = Description::load(directory).map_err(launch_failure)?;
    let _lock = directory.lock().map_err(launch_failure)?;
    let ids: Vec<ReplicaId> = description.ids().collect();
    let stopped = process::stop(directory, &ids, asked.kill, || false).map_err(launch_failure)?;
    let names: Vec<String> = stopped.iter().map(ToString::to_string).collect();
    let text = if names.is_empty() {
        format!("nothing ran in {}", directory.shown())
    } else {
        format!("stopped replicas {}; state is kept in {}", names.join(" "), directory.shown())
    };
    let stopped: Vec<u16> = stopped.iter().map(|id| id.0).collect();
    report.both(&text, &json!({"v": 1, "stopped": stopped}))
}

fn find(directory: &Directory, id: u16) -> Result<(ReplicaId, Condition), Failure> {
    let description = Description::load(directory).map_err(launch_failure)?;
    let (id, _) = description.replica(id).map_err(launch_failure)?;
    Ok((id, condition(directory, id)))
}

fn not_running(id: ReplicaId) -> Failure {
    launch_failure(LaunchError::Replica {
        replica: id,
        problem: format!("does not run: start it with `quorate-testnet restart {id}`"),
    })
}
