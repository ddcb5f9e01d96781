//! From nothing to a first committed operation.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate_client::{Client, ClientError, Cluster};
use quorate_crypto::{ReplicaId, Seq};
use quorate_keys::PassphraseSource;
use quorate_kv::{KeyRange, Operation, RangeRequest};
use tokio::task::JoinSet;

use super::description::Description;
use super::directory::Directory;
use super::failure::LaunchError;
use super::operations;
use super::process::{Spawned, condition, spawn};

/// How often a replica that comes up is asked whether it has.
const POLL: Duration = Duration::from_millis(10);
/// How long one such question may take.
const ANSWER: Duration = Duration::from_millis(500);
/// How long replicas may take to come up: one with a large state has to read it.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How long the first operation may take: a silent primary has to be left first.
const FIRST_OPERATION: Duration = Duration::from_secs(20);
/// How long to wait for all links of the client before that; one of a silent replica never says that it is up.
const LINKING: Duration = Duration::from_millis(150);

/// Starts those of `ids` that do not run, all at once. Every one is told its behaviours, given as texts for
/// [`super::control::Turned::parse`].
///
/// # Errors
/// A port in use; the system refuses. What was started then is in `spawned` all the same.
pub fn spawn_missing(
    directory: &Directory,
    description: &Description,
    ids: &[ReplicaId],
    behaviours: impl Fn(ReplicaId) -> Vec<String>,
    spawned: &mut Vec<Spawned>,
) -> Result<(), LaunchError> {
    let missing: Vec<ReplicaId> = ids.iter().copied().filter(|id| condition(directory, *id).pid().is_none()).collect();
    for id in &missing {
        let (_, endpoints) = description.replica(id.0)?;
        super::ports::check_free(*id, &endpoints)?;
    }
    for id in missing {
        spawned.push(spawn(directory, id, &behaviours(id))?);
    }
    Ok(())
}

/// Waits until `ids` are live, and linked to all replicas of `ids` and those that run.
///
/// # Errors
/// One of `spawned` died; they take too long.
pub async fn wait_until_connected(
    directory: &Directory,
    description: &Description,
    ids: &[ReplicaId],
    spawned: &mut [Spawned],
) -> Result<(), LaunchError> {
    let running: BTreeSet<u16> =
        description.ids().filter(|id| condition(directory, *id).pid().is_some()).map(|id| id.0).collect();
    let mut waiting = JoinSet::new();
    for id in ids {
        let (id, endpoints) = description.replica(id.0)?;
        let running = running.clone();
        waiting.spawn(async move {
            loop {
                if let Ok(status) = operations::status(endpoints.operations, ANSWER).await
                    && status.links.iter().all(|link| link.up || !running.contains(&link.id))
                {
                    return id;
                }
                tokio::time::sleep(POLL).await;
            }
        });
    }
    let began = Instant::now();
    let mut missing: BTreeSet<ReplicaId> = ids.iter().copied().collect();
    while !missing.is_empty() {
        if let Some(death) = spawned.iter_mut().find_map(Spawned::death) {
            return Err(death);
        }
        if began.elapsed() > PATIENCE {
            return Err(late(&missing));
        }
        tokio::select! {
            Some(Ok(id)) = waiting.join_next() => {
                missing.remove(&id);
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

fn late(missing: &BTreeSet<ReplicaId>) -> LaunchError {
    let names = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let first = missing.first().map_or_else(String::new, ToString::to_string);
    LaunchError::Late(format!(
        "replicas {names} were not connected to the others within {} s; `quorate-testnet logs {first}` says what they do",
        PATIENCE.as_secs()
    ))
}

/// The cluster of a testnet, as its first client.
///
/// # Errors
/// Files that are refused.
pub fn cluster(directory: &Directory) -> Result<Cluster, ClientError> {
    Ok(Cluster::load(directory.root(), &directory.client_key(), &PassphraseSource::Terminal)?)
}

/// The first operation of a testnet that was started.
#[derive(Clone, Copy, Debug)]
pub struct FirstOperation {
    /// Where it was executed.
    pub seq: Seq,
    /// From its signature to f + 1 equal answers.
    pub took: Duration,
}

/// Commits an ordered read, which changes nothing, with the real client.
///
/// # Errors
/// Those of a client.
pub async fn first_operation(directory: &Directory) -> Result<FirstOperation, ClientError> {
    let client = Client::connect(cluster(directory)?).await?.with_patience(FIRST_OPERATION);
    // Its outcome does not matter: only that links had the time to come up.
    let _ = client.status(LINKING).await;
    let read = Operation::Range(RangeRequest::new(KeyRange::single("quorate")));
    let began = Instant::now();
    let (executed, _) = client.execute(std::slice::from_ref(&read)).await?;
    let took = began.elapsed();
    client.shut_down(Duration::from_millis(5)).await;
    Ok(FirstOperation { seq: executed.reply.seq, took })
}
