//! Operations over HTTP: health, metrics and status, for people and programs that look after a node. Nothing here
//! changes anything, nothing is secret, and nothing is believed by a client: it is one replica's word. Who may connect is
//! the operator's business; how many at a time is `door`'s.
//!
//! | path | what |
//! |---|---|
//! | `/livez` | 200 while the core takes its turns |
//! | `/readyz` | 200 while the replica is in a view, linked to a quorum, not fetching the state and not rejoining |
//! | `/metrics` | Prometheus |
//! | `/v1/status` | JSON, see [`Operations`] |
//! | `/v1/evidence` | JSON: what is in the evidence directory |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use quorate_crypto::{Digest, ReplicaId};
use quorate_keys::Genesis;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::evidence_store;
use crate::metrics::{self, Metrics, Readings};
use crate::process::core::CoreInput;
use crate::process::inbox::Inbox;

mod door;

use door::Door;

/// The core is alive while its last turn is no older than this; it takes one a second when idle.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait for the core when asked for the state's digest.
const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// Connections at a time; further ones wait until one ends. Few look after a node, and each holds a file descriptor.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to send a request, from when it was let in or last answered.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers need.
pub(crate) struct Operations {
    id: ReplicaId,
    cluster: String,
    protocol: &'static str,
    /// Links to others that make a quorum together with this replica.
    links_needed: usize,
    readings: Readings,
    metrics: Metrics,
    registry: Registry,
    core: Arc<Inbox<CoreInput>>,
    evidence: PathBuf,
}

impl Operations {
    pub(crate) fn new(
        id: ReplicaId,
        genesis: &Genesis,
        readings: Readings,
        metrics: &Metrics,
        core: Arc<Inbox<CoreInput>>,
        evidence: PathBuf,
    ) -> Operations {
        Operations {
            id,
            cluster: genesis.cluster_id().to_string(),
            protocol: genesis.protocol().name(),
            links_needed: genesis.committee().quorum() - 1,
            registry: metrics::registry(metrics, readings.clone()),
            readings,
            metrics: metrics.clone(),
            core,
            evidence,
        }
    }

    /// Why the replica is not ready, if it is not.
    fn unready(&self) -> Option<&'static str> {
        let standing = self.readings.view.standing();
        if standing.last_turn.elapsed() > ALIVE_WITHIN {
            return Some("the core takes no turns");
        }
        if standing.status.too_many_without_log {
            return Some("more than f replicas have no trusted log: bring back data directories");
        }
        if standing.status.rejoining {
            return Some("no trusted log: rejoining");
        }
        if self.readings.peers.linked().len() < self.links_needed {
            return Some("no links to a quorum");
        }
        if standing.status.transferring {
            return Some("fetching the state");
        }
        (!standing.status.entered).then_some("moving to another view")
    }

    /// The root of the executed state and its number. Computed when asked for, off the core's thread.
    async fn state_digest(&self) -> Option<(u64, Digest)> {
        let (answer, asked) = oneshot::channel();
        self.core.push(CoreInput::State(answer));
        let snapshot = tokio::time::timeout(STATE_PATIENCE, asked).await.ok()?.ok()?;
        tokio::task::spawn_blocking(move || (snapshot.seq.0, snapshot.header().digest())).await.ok()
    }

    async fn status(&self) -> Value {
        let state = self.state_digest().await;
        let standing = self.readings.view.standing();
        let status = &standing.status;
        let links: Vec<Value> = self
            .readings
            .links()
            .into_iter()
            .map(|(id, link)| {
                json!({
                    "id": id.0,
                    "up": link.up,
                    "round_trip_us": u64::try_from(link.round_trip.as_micros()).unwrap_or(u64::MAX),
                    "wire_bytes_sent": link.wire_bytes_sent,
                    "wire_bytes_received": link.wire_bytes_received,
                    "waiting_bytes": link.waiting_bytes.iter().sum::<usize>(),
                })
            })
            .collect();
        json!({
            "v": 1,
            "id": self.id.0,
            "cluster": self.cluster,
            "protocol": self.protocol,
            "pid": std::process::id(),
            "view": status.view.0,
            "role": if status.rejoining { "rejoining" } else if standing.is_primary { "primary" } else { "backup" },
            "incarnation": status.incarnation.0,
            "rejoining": status.rejoining,
            "without_log": status.without_log.iter().map(|id| id.0).collect::<Vec<_>>(),
            "too_many_without_log": status.too_many_without_log,
            "primary": status.primary.0,
            "entered": status.entered,
            "executed": status.executed.0,
            "decided": status.decided.0,
            "checkpoint_seq": status.stable.0,
            "checkpoint_digest": status.stable_digest.to_hex(),
            "state_seq": state.map(|(seq, _)| seq),
            "state_digest": state.map(|(_, digest)| digest.to_hex()),
            "revision": standing.revision,
            "time": standing.time,
            "pending": status.pending,
            "view_changes": status.view_changes,
            "transferring": status.transferring,
            "ready": self.unready().is_none(),
            "links": links,
            "client_connections": self.readings.clients.connections(),
            "evidence": self.metrics.evidence.get(),
            "requests_executed": self.metrics.requests_executed.get(),
            "cpu_seconds": metrics::cpu_seconds(),
            "rss_bytes": metrics::resident_bytes(),
            "syncs": standing.syncs,
            "wire_bytes": self.readings.wire_bytes(),
            "log_bytes": standing.log_bytes,
            "log_written_bytes": standing.frame_bytes,
            "snapshot_bytes": self.readings.view.snapshot_bytes(),
        })
    }
}

/// Serves until the listener fails or the task is aborted.
pub(crate) async fn serve(listener: TcpListener, operations: Operations) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/v1/status", get(status))
        .route("/v1/evidence", get(evidence))
        .with_state(Arc::new(operations));
    if let Err(error) = axum::serve(Door::new(listener, CONNECTIONS_MAX, REQUEST_PATIENCE), router).await {
        tracing::error!(%error, "operations over HTTP ended");
    }
}

async fn livez(State(operations): State<Arc<Operations>>) -> Response {
    let age = operations.readings.view.standing().last_turn.elapsed();
    if age <= ALIVE_WITHIN {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no turn for {} s\n", age.as_secs())).into_response()
    }
}

async fn readyz(State(operations): State<Arc<Operations>>) -> Response {
    match operations.unready() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_text(State(operations): State<Arc<Operations>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &operations.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(operations): State<Arc<Operations>>) -> Json<Value> {
    Json(operations.status().await)
}

async fn evidence(State(operations): State<Arc<Operations>>) -> Json<Value> {
    let directory = operations.evidence.clone();
    let files = tokio::task::spawn_blocking(move || evidence_store::list(&directory)).await.unwrap_or_default();
    let list: Vec<Value> = files
        .into_iter()
        .map(|(name, file)| {
            json!({
                "file": operations.evidence.join(name).display().to_string(),
                "accused": file.accused,
                "kind": file.kind,
                "view": file.view,
                "seq": file.seq,
                "seen_by": file.seen_by,
            })
        })
        .collect();
    Json(json!({ "v": 1, "evidence": list }))
}
