//! Load against a running testnet, and what it cost.
//!
//! What comes in: a [`Plan`]. What goes out: an [`Outcome`]. Every client has a key of its own, registered by the admin
//! key through ordered operations and removed again afterwards. Clients share links as they would behind a gateway, or have
//! links of their own (`connections` = `clients`). All of them live on one runtime of this process.
//!
//! ```text
//!   register keys ─► connect ─► preload ─► one put each ─► read the meters ─► load ─► read the meters ─► remove keys
//! ```
//!
//! *Closed loop*: each client has one request under way, and sends the next when it is answered. *Open loop*: requests are
//! due at fixed times whatever became of earlier ones, and latency counts from when a request was due, so that a stall is
//! not left out of the figures (coordinated omission).
//!
//! | module | what it is |
//! |---|---|
//! | [`attack`] | a client that misbehaves |
//! | [`fleet`] | the clients: keys, registration, links |
//! | [`load`] | what they send, and when |
//! | [`meter`] | what it cost: processor time, bytes, syncs |

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use quorate_client::{Client, ClientError, Cluster};

use crate::launcher::{Description, Directory, LaunchError};

pub mod attack;
pub mod fleet;
pub mod load;
pub mod meter;

use fleet::Fleet;
use load::Tally;
use meter::Reading;

/// Keys written to unless told otherwise.
pub const DEFAULT_KEYS: u64 = 10_000;
/// Clients that share a set of links unless told otherwise, as behind a gateway.
pub const CLIENTS_PER_CONNECTION: usize = 16;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Clients, each with its own key.
    pub clients: usize,
    /// Sets of links to all replicas that the clients share, at most as many as there are clients.
    pub connections: usize,
    /// Bytes of a value.
    pub value_size: usize,
    /// Puts in one request, under one signature.
    pub bundle: usize,
    /// How long to measure.
    pub duration: Duration,
    /// Operations a second that are due, all clients together; none for a closed loop.
    pub rate: Option<f64>,
    /// Distinct keys to write to, at random.
    pub keys: u64,
    /// Keys to write before, each once.
    pub preload: u64,
}

/// What is under way, for people who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Keys are registered, so many of so many.
    Registering(u64, u64),
    /// Clients have connected, so many of so many.
    Connecting(u64, u64),
    /// Keys are written, so many of so many.
    Preloading(u64, u64),
    /// Load has run, so many milliseconds of so many.
    Loading(u64, u64),
    /// Keys are removed.
    Removing,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Registering(done, total) => write!(f, "registering clients, {done} of {total}"),
            Stage::Connecting(done, total) => write!(f, "connecting clients, {done} of {total}"),
            Stage::Preloading(done, total) => write!(f, "writing keys, {done} of {total}"),
            Stage::Loading(done, total) => write!(f, "load, {} of {} s", done / 1000, total.div_ceil(1000)),
            Stage::Removing => f.write_str("removing the clients' keys"),
        }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The testnet cannot be used.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A client that prepares the run failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The plan makes no sense, or the cluster cannot hold it.
    #[error("{0}")]
    Plan(String),
    /// Nothing succeeded.
    #[error("no request succeeded: {0}")]
    Nothing(String),
}

/// The figures.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations that succeeded while it was measured.
    pub operations: u64,
    /// Requests that carried them.
    pub requests: u64,
    /// How long it was measured.
    pub elapsed: Duration,
    /// Latency of requests, microseconds.
    pub latency: Histogram<u64>,
    /// Requests that failed, by what they said.
    pub errors: BTreeMap<String, u64>,
    /// The longest time in which not one of all clients got an answer.
    pub longest_silence: Duration,
    /// What replicas spent, all together; none if one of them did not say.
    pub replicas: Option<Reading>,
    /// Processor time of this process.
    pub client_cpu: Duration,
    /// View changes that replicas began meanwhile, at most at any one.
    pub view_changes: u64,
}

impl Outcome {
    /// Operations a second.
    pub fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of requests did not exceed, milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The longest latency, milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.latency.max() as f64 / 1000.0
    }

    /// Failed requests.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// `amount` per operation.
    pub fn per_operation(&self, amount: f64) -> f64 {
        amount / self.operations.max(1) as f64
    }
}

/// Puts load on the testnet in `directory`.
///
/// # Errors
/// No testnet, no quorum, a plan the cluster refuses, or not one success.
pub async fn run(directory: &Directory, plan: &Plan, mut tell: impl FnMut(Stage)) -> Result<Outcome, BenchError> {
    check(plan)?;
    let description = Description::load(directory)?;
    let cluster = crate::launcher::start::cluster(directory)?;
    let fleet = Fleet::register(directory, &cluster, plan.clients, &mut tell).await?;
    // Keys are removed whatever happens in between.
    let measured = measure(&description, &cluster, &fleet, plan, &mut tell).await;
    tell(Stage::Removing);
    let removed = fleet.remove().await;
    let outcome = measured?;
    if let Err(error) = removed {
        tracing::warn!(%error, "the keys of this run stay registered");
    }
    Ok(outcome)
}

/// That a plan makes sense, before anything is sent.
///
/// # Errors
/// [`BenchError::Plan`]: one sentence about the first thing that does not.
pub fn check(plan: &Plan) -> Result<(), BenchError> {
    let wrong = |sentence: String| Err(BenchError::Plan(sentence));
    check_bundle(plan.bundle, plan.value_size)?;
    if plan.clients == 0 || plan.clients > fleet::CLIENTS_MAX {
        return wrong(format!("--clients {} is out of bounds: give 1 to {}", plan.clients, fleet::CLIENTS_MAX));
    }
    if plan.connections == 0 || plan.connections > plan.clients {
        return wrong(format!(
            "--connections {} is out of bounds: give 1 to {}, the clients",
            plan.connections, plan.clients
        ));
    }
    if plan.keys == 0 {
        return wrong("--keys 0 leaves nothing to write to: give at least 1".to_owned());
    }
    if plan.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return wrong("--rate must be more than 0 operations a second; leave it out for a closed loop".to_owned());
    }
    Ok(())
}

/// That a request with so many puts is one that replicas take.
///
/// # Errors
/// [`BenchError::Plan`].
pub fn check_bundle(bundle: usize, value_size: usize) -> Result<(), BenchError> {
    let largest = quorate_protocol::request::REQUEST_OPERATIONS_MAX;
    if !(1..=largest).contains(&bundle) {
        return Err(BenchError::Plan(format!(
            "--bundle {bundle} is out of bounds: a request carries 1 to {largest} operations"
        )));
    }
    let put = value_size.saturating_add(load::KEY_BYTES + load::PUT_OVERHEAD_BYTES);
    let bytes = bundle.saturating_mul(put);
    let most = quorate_protocol::request::REQUEST_BYTES_MAX;
    if bytes > most {
        return Err(BenchError::Plan(format!(
            "a bundle of {bundle} values of {value_size} bytes makes requests of about {bytes} bytes, more than the {most} allowed: lower --bundle or --value-size"
        )));
    }
    Ok(())
}

async fn measure(
    description: &Description,
    cluster: &Cluster,
    fleet: &Fleet,
    plan: &Plan,
    tell: &mut impl FnMut(Stage),
) -> Result<Outcome, BenchError> {
    let clients = fleet.connect(cluster, plan.connections, tell).await?;
    if plan.preload > 0 {
        load::preload(&clients, plan, tell).await?;
    }
    let outcome = measured(description, &clients, plan, tell).await;
    fleet::close(clients).await;
    outcome
}

/// Puts load on the testnet with clients that are connected, each closed loop on one of `clients`. One that stands there
/// several times has as many requests under way.
///
/// # Errors
/// [`BenchError::Nothing`].
pub async fn measured(
    description: &Description,
    clients: &[Client],
    plan: &Plan,
    tell: &mut impl FnMut(Stage),
) -> Result<Outcome, BenchError> {
    let before = meter::read(description).await;
    let client_cpu = meter::own_cpu();
    let Tally { operations, requests, latency, errors, elapsed, longest_silence } =
        load::run(clients, plan, tell).await;
    let client_cpu = meter::own_cpu().saturating_sub(client_cpu);
    let after = meter::read(description).await;
    if operations == 0 {
        let reason = errors.keys().next().cloned().unwrap_or_else(|| "none was answered in time".to_owned());
        return Err(BenchError::Nothing(reason));
    }
    let view_changes = meter::view_changes(&before, &after);
    let replicas = meter::spent(&before, &after);
    Ok(Outcome { operations, requests, elapsed, latency, errors, longest_silence, replicas, client_cpu, view_changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            clients: 64,
            connections: 4,
            value_size: 128,
            bundle: 1,
            duration: Duration::from_secs(10),
            rate: None,
            keys: DEFAULT_KEYS,
            preload: 0,
        }
    }

    #[test]
    fn a_plan_that_no_replica_would_take_is_refused_before_anything_is_sent() {
        check(&plan()).expect("the default");
        check(&Plan { bundle: 1024, ..plan() }).expect("the largest bundle");
        for wrong in [
            Plan { bundle: 0, ..plan() },
            Plan { bundle: 1025, ..plan() },
            Plan { bundle: 64, value_size: 64 * 1024, ..plan() },
            Plan { clients: 0, ..plan() },
            Plan { connections: 0, ..plan() },
            Plan { connections: 65, ..plan() },
            Plan { clients: fleet::CLIENTS_MAX + 1, ..plan() },
            Plan { keys: 0, ..plan() },
            Plan { rate: Some(0.0), ..plan() },
            Plan { rate: Some(f64::NAN), ..plan() },
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
