//! The replica's storage in its data directory: made once by `init`, opened at every start.

use std::path::Path;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use quorate_protocol::engine::Engine;
use quorate_protocol::pbft::{Replica, Setup};

use super::{LOG_DIRECTORY, NodeSettings, SNAPSHOT_DIRECTORY};
use crate::disk::{DEFAULT_RESERVE_BYTES, FileDisk};
use crate::failure::NodeError;
use crate::log::{OpenError, Trust};
use crate::metrics::{Metrics, TimedDisk};
use crate::recovery::{OpenReplicaError, Opened, create_replica_storage, open_replica, replace_snapshots};
use crate::setup;

/// Makes the storage of a replica in its data directory, which is made if it is missing.
///
/// # Errors
/// [`NodeError::Data`] if there is a log already; errors of the storage.
pub fn initialise(settings: &NodeSettings, trust: Trust) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let data = &settings.data;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
        NodeError::Configuration(format!("cannot make the data directory {}: {error}", data.display()))
    })?;
    let (log, snapshots) = (data.join(LOG_DIRECTORY), data.join(SNAPSHOT_DIRECTORY));
    let disk =
        |path: &Path| FileDisk::create(path, DEFAULT_RESERVE_BYTES).map_err(|error| NodeError::from_disk(path, &error));
    let storage = settings.storage(trust);
    create_replica_storage(disk(&log)?, disk(&snapshots)?, &storage).map_err(|error| NodeError::from_open(&log, &error))
}

/// Opens the replica's storage off the runtime's threads: reading a log takes its time.
pub(super) async fn open<W>(
    settings: &NodeSettings,
    setup: Setup,
    wrap: W,
    metrics: &Metrics,
    started: Instant,
) -> Result<Opened<TimedDisk<FileDisk>, Box<dyn Engine>>, NodeError>
where
    W: FnOnce(Replica, &Setup) -> Box<dyn Engine> + Send + 'static,
{
    let data = settings.data.clone();
    let genesis = setup::genesis_state(&settings.genesis);
    let (sync_seconds, snapshot_sync_seconds) = (metrics.sync_seconds.clone(), metrics.snapshot_sync_seconds.clone());
    let storage = settings.storage(Trust::MustRejoin);
    let opening = tokio::task::spawn_blocking(move || {
        let disk = |directory: &str, sync_seconds: &Histogram| {
            let path = data.join(directory);
            let disk =
                FileDisk::open(&path, DEFAULT_RESERVE_BYTES).map_err(|error| NodeError::from_disk(&path, &error))?;
            Ok::<_, NodeError>(TimedDisk { disk, sync_seconds: sync_seconds.clone() })
        };
        let given = setup.clone();
        let mut wrap = Some(wrap);
        let mut open = |genesis| {
            let (log, snapshots) =
                (disk(LOG_DIRECTORY, &sync_seconds)?, disk(SNAPSHOT_DIRECTORY, &snapshot_sync_seconds)?);
            let wrap = |replica| match wrap.take() {
                Some(wrap) => wrap(replica, &given),
                None => unreachable!("a replica is made once"),
            };
            Ok::<_, NodeError>(open_replica(log, snapshots, setup.clone(), super::core::now(started), genesis, wrap))
        };
        let opened = match open(genesis.clone())? {
            // Nothing was promised of a snapshot that the log does not know: the state is fetched from the others.
            Err(OpenReplicaError::Snapshots(OpenError::Damaged { why, .. })) => {
                tracing::warn!(
                    why,
                    "the snapshots are damaged and given up; the state will be fetched from the others"
                );
                let path = data.join(SNAPSHOT_DIRECTORY);
                replace_snapshots(disk(SNAPSHOT_DIRECTORY, &snapshot_sync_seconds)?, &storage)
                    .map_err(|error| NodeError::from_open(&path, &error))?;
                open(genesis)?
            }
            opened => opened,
        };
        opened.map_err(|error| NodeError::from_replica(&data, &error))
    });
    opening.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
