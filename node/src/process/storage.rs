//! The replica's storage in its data directory: made once by `init`, opened at every start.

use std::path::Path;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use quorate_protocol::engine::Engine;
use quorate_protocol::foundation::Setup;
use quorate_protocol::replica::Replica;

use super::{LOG_DIRECTORY, NodeSettings, SNAPSHOT_DIRECTORY};
use crate::disk::{DEFAULT_RESERVE_BYTES, FileDisk};
use crate::failure::NodeError;
use crate::log::Trust;
use crate::metrics::{Metrics, TimedDisk};
use crate::recovery::{Opened, create_replica_storage, open_replica_or_fetch};
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
    let (genesis, state) = (settings.genesis.clone(), setup::genesis_state(&settings.genesis));
    let (sync_seconds, snapshot_sync_seconds) = (metrics.sync_seconds.clone(), metrics.snapshot_sync_seconds.clone());
    let storage = settings.storage(Trust::MustRejoin);
    let opening = tokio::task::spawn_blocking(move || {
        let timed = |disk: FileDisk, sync_seconds: &Histogram| TimedDisk { disk, sync_seconds: sync_seconds.clone() };
        let path = data.join(LOG_DIRECTORY);
        let log = FileDisk::open(&path, DEFAULT_RESERVE_BYTES).map_err(|error| NodeError::from_disk(&path, &error))?;
        // Unlike the log, the snapshots may be made anew by the node itself.
        let snapshots = || {
            let opened = FileDisk::create(&data.join(SNAPSHOT_DIRECTORY), DEFAULT_RESERVE_BYTES);
            opened.map(|disk| timed(disk, &snapshot_sync_seconds))
        };
        let given = setup.clone();
        let wrap = |replica| wrap(replica, &given);
        let (log, now) = (timed(log, &sync_seconds), super::core::now(started));
        open_replica_or_fetch(log, snapshots, &storage, setup, now, state, wrap)
            .map_err(|error| NodeError::from_data(&data, &genesis, &error))
    });
    opening.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
