//! From disks to a running replica, and back again: how storage is created, opened, and how a snapshot becomes durable.
//!
//! What comes in: two directories (the log of promises, the snapshots), who the replica is, the genesis state. What goes
//! out: a [`Driver`] that resumes exactly where the log ends, and the [`SnapshotStore`] that checkpoints go to. The node
//! and the simulator come back from a crash through the same few lines: the simulator by [`open_replica`], the node by
//! [`open_replica_or_fetch`], which differs in what becomes of snapshots that cannot be used.
//!
//! ```text
//!   log frames ──► records ──► Replica::recover ─┐
//!   snapshots  ──► newest durable state ─────────┴─► Driver
//! ```

use std::collections::BTreeMap;

use quorate_crypto::encoding::{DECODE_CEILING, decode, encode};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{ClusterId, ReplicaId, Seq};
use quorate_protocol::engine::{Engine, Now};
use quorate_protocol::execution::{Execution, RestoreError};
use quorate_protocol::foundation::Setup;
use quorate_protocol::replica::Replica;
use quorate_protocol::state::{Snapshot, StateHeader};
use thiserror::Error;

use crate::disk::{Disk, DiskError};
use crate::driver::{Driver, RecoveredRecords, read_records};
use crate::key_value::KeyValue;
use crate::log::{FrameLog, LogIdentity, LogKey, LogSettings, OpenError, Trust};
use crate::snapshot_store::{Checkpoint, LoadedCheckpoint, SnapshotError, SnapshotSettings, SnapshotStore, Written};

/// How a replica's storage is created.
#[derive(Debug, Clone, Copy)]
pub struct StorageSettings {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The replica whose promises it holds.
    pub replica: ReplicaId,
    /// Whether the empty log is the whole truth ([`Trust::NewCluster`]) or the replica is to rejoin.
    pub trust: Trust,
    /// Bytes of a segment of the log.
    pub log_segment_bytes: u64,
    /// Bytes of a segment of the snapshot store.
    pub snapshot_segment_bytes: u64,
    /// Fresh random bytes for the log.
    pub log_key: LogKey,
    /// Fresh random bytes for the snapshot store; not those of the log.
    pub snapshot_key: LogKey,
}

impl StorageSettings {
    fn snapshots(&self) -> SnapshotSettings {
        SnapshotSettings {
            identity: LogIdentity { cluster: self.cluster, replica: self.replica },
            segment_bytes: self.snapshot_segment_bytes,
            key: self.snapshot_key,
        }
    }
}

/// Why a replica could not be opened. The process must end; nothing was signed.
#[derive(Debug, Error)]
pub enum OpenReplicaError {
    /// The log of promises cannot be used.
    #[error("the log of promises: {0}")]
    Log(#[source] OpenError),
    /// The snapshots cannot be used. Where they are gone or damaged they can be given up ([`replace_snapshots`]): the
    /// state is fetched from the others, and nothing that was promised is lost.
    #[error("the snapshots: {0}")]
    Snapshots(#[source] OpenError),
    /// The log is whole, but its contents are not those of this version.
    #[error("the log of promises cannot be read: {0}")]
    Records(String),
    /// The newest snapshot is whole, but it is no state.
    #[error("the snapshot at {seq} cannot be restored: {reason}")]
    State {
        /// The checkpoint.
        seq: Seq,
        /// What is wrong with it.
        reason: String,
    },
}

/// A replica ready for its first turn.
pub struct Opened<D, E> {
    /// The replica with its log and its state.
    pub driver: Driver<D, E>,
    /// Where [`crate::driver::Published::snapshots`] go, through [`store_snapshot`].
    pub snapshots: SnapshotStore<D>,
    /// The checkpoint execution starts from; 0 is genesis.
    pub from: Seq,
    /// Records read from the log.
    pub records: u64,
}

/// Makes an empty log and an empty snapshot store (`init`). The snapshots come first: a log is what says that the
/// replica exists.
///
/// # Errors
/// [`OpenError::AlreadyExists`] if there is a log, [`OpenError::Disk`]. Snapshots of an earlier attempt that died before
/// the log existed are replaced.
pub fn create_replica_storage<D: Disk>(
    mut log_disk: D,
    mut snapshot_disk: D,
    settings: &StorageSettings,
) -> Result<(), OpenError> {
    if log_disk.list()?.iter().any(|name| name == "log-superblock") {
        return Err(OpenError::AlreadyExists);
    }
    SnapshotStore::discard(&mut snapshot_disk)?;
    SnapshotStore::create(snapshot_disk, &settings.snapshots())?;
    let log = LogSettings {
        identity: LogIdentity { cluster: settings.cluster, replica: settings.replica },
        trust: settings.trust,
        segment_bytes: settings.log_segment_bytes,
        key: settings.log_key,
    };
    FrameLog::create(log_disk, &log)?;
    Ok(())
}

/// Gives up snapshots that are gone or damaged: an empty store takes their place. Wherever it is interrupted, it can be
/// called again.
///
/// # Errors
/// Any [`OpenError::Disk`].
pub fn replace_snapshots<D: Disk>(mut snapshot_disk: D, settings: &StorageSettings) -> Result<(), OpenError> {
    SnapshotStore::discard(&mut snapshot_disk)?;
    SnapshotStore::create(snapshot_disk, &settings.snapshots())?;
    Ok(())
}

/// Opens a replica's storage and resumes: every promise in the log is known again before anything is signed. With a log that
/// is marked as untrusted the replica begins to rejoin.
/// `genesis` is the state before the first batch; it is used while no checkpoint was ever stored. `wrap` makes the engine
/// the driver drives of the honest one (the identity everywhere but in a testnet).
///
/// # Errors
/// See [`OpenReplicaError`].
pub fn open_replica<D: Disk, E: Engine>(
    log_disk: D,
    snapshot_disk: D,
    setup: Setup,
    now: Now,
    genesis: Execution<KeyValue>,
    wrap: impl FnOnce(Replica) -> E,
) -> Result<Opened<D, E>, OpenReplicaError> {
    let log = OpenedLog::open(log_disk, &setup)?;
    let snapshots = SnapshotStore::open(snapshot_disk, identity(&setup)).map_err(OpenReplicaError::Snapshots)?;
    resume(log, snapshots, setup, now, genesis, wrap)
}

/// As [`open_replica`], and snapshots that are gone or damaged are given up: the state is fetched from the others. That
/// is so whenever the log is there and sound, since nothing was promised of a snapshot that the log does not know; a
/// process that died while it gave them up comes back through the same door. A log that is gone or damaged is an error as
/// ever, and the snapshots are then left as they are.
///
/// `snapshot_disk` opens the directory of the snapshots, made anew if it is gone; it is asked once the log is open, and
/// again if the snapshots are given up. `settings` say how an empty store is made.
///
/// # Errors
/// See [`OpenReplicaError`].
pub fn open_replica_or_fetch<D: Disk, E: Engine>(
    log_disk: D,
    mut snapshot_disk: impl FnMut() -> Result<D, DiskError>,
    settings: &StorageSettings,
    setup: Setup,
    now: Now,
    genesis: Execution<KeyValue>,
    wrap: impl FnOnce(Replica) -> E,
) -> Result<Opened<D, E>, OpenReplicaError> {
    let log = OpenedLog::open(log_disk, &setup)?;
    let mut disk = || snapshot_disk().map_err(|error| OpenReplicaError::Snapshots(OpenError::Disk(error)));
    let snapshots = match SnapshotStore::open(disk()?, identity(&setup)) {
        Ok(opened) => opened,
        Err(error) => {
            let Some(why) = loss(&error) else { return Err(OpenReplicaError::Snapshots(error)) };
            tracing::warn!(why, "the snapshots are lost and given up; the state will be fetched from the others");
            replace_snapshots(disk()?, settings).map_err(OpenReplicaError::Snapshots)?;
            SnapshotStore::open(disk()?, identity(&setup)).map_err(OpenReplicaError::Snapshots)?
        }
    };
    resume(log, snapshots, setup, now, genesis, wrap)
}

/// Why the snapshots can never be had back from this medium, if that is so. A store of somebody else or of another
/// version is whole and must not be removed; a full disk and a failed sync say nothing about what is stored.
fn loss(error: &OpenError) -> Option<String> {
    match error {
        OpenError::Missing => Some("there are none".to_owned()),
        OpenError::Damaged { why, .. } => Some((*why).to_owned()),
        OpenError::Disk(error) => error.is_unreadable().then(|| error.to_string()),
        OpenError::AlreadyExists
        | OpenError::ForeignCluster(_)
        | OpenError::ForeignReplica(_)
        | OpenError::UnknownVersion(_) => None,
    }
}

fn identity(setup: &Setup) -> LogIdentity {
    LogIdentity { cluster: setup.committee.cluster(), replica: setup.id }
}

/// A sound log with what is in it.
struct OpenedLog<D> {
    log: FrameLog<D>,
    recovered: RecoveredRecords,
}

impl<D: Disk> OpenedLog<D> {
    fn open(disk: D, setup: &Setup) -> Result<OpenedLog<D>, OpenReplicaError> {
        let (log, frames) = FrameLog::open(disk, identity(setup)).map_err(OpenReplicaError::Log)?;
        let recovered = read_records(&frames).map_err(OpenReplicaError::Records)?;
        Ok(OpenedLog { log, recovered })
    }
}

/// Puts the replica together of what was on disk.
fn resume<D: Disk, E: Engine>(
    OpenedLog { log, recovered }: OpenedLog<D>,
    (snapshots, loaded): (SnapshotStore<D>, Option<LoadedCheckpoint>),
    setup: Setup,
    now: Now,
    genesis: Execution<KeyValue>,
    wrap: impl FnOnce(Replica) -> E,
) -> Result<Opened<D, E>, OpenReplicaError> {
    let snapshot = loaded.map(restore_snapshot).transpose()?;
    let execution = match &snapshot {
        Some(snapshot) => Execution::from_snapshot(snapshot)
            .map_err(|error: RestoreError| OpenReplicaError::State { seq: snapshot.seq, reason: error.to_string() })?,
        None => genesis,
    };
    let from = execution.seq();
    let interval = setup.parameters.checkpoint_interval;
    let clock_bound = setup.parameters.proposal_time_bound;
    let records = recovered.records.len() as u64;
    let engine = wrap(Replica::recover(setup, now, recovered.records, snapshot, log.is_trusted()));
    let driver = Driver::new(engine, execution, log, interval, clock_bound, recovered.frames, records);
    Ok(Opened { driver, snapshots, from, records })
}

/// Makes a snapshot durable. Afterwards [`Driver::checkpoint_stored`] is owed.
///
/// # Errors
/// See [`SnapshotStore::checkpoint`]; after anything but a full disk the process must end.
pub fn store_snapshot<D: Disk>(store: &mut SnapshotStore<D>, snapshot: &Snapshot) -> Result<Written, SnapshotError> {
    let header = snapshot.header();
    let tables: Vec<MerkleMap> = snapshot.tables.values().cloned().collect();
    let header_bytes = encode(&header);
    store.checkpoint(Checkpoint { seq: snapshot.seq, root: header.digest(), header: &header_bytes, tables: &tables })
}

/// A loaded checkpoint as the state it was made of.
fn restore_snapshot(loaded: LoadedCheckpoint) -> Result<Snapshot, OpenReplicaError> {
    let damaged = |reason: &str| OpenReplicaError::State { seq: loaded.seq, reason: reason.to_owned() };
    let header: StateHeader = decode(&loaded.header, DECODE_CEILING).map_err(|error| damaged(&error.to_string()))?;
    if header.tables.len() != loaded.tables.len() || !header.is_well_formed() || header.seq != loaded.seq {
        return Err(damaged("its header does not fit its tables"));
    }
    let tables: BTreeMap<_, _> =
        header.tables.iter().map(|(table, _)| *table).zip(loaded.tables.iter().cloned()).collect();
    let snapshot = Snapshot { seq: loaded.seq, tables };
    if snapshot.header().digest() != loaded.root {
        return Err(damaged("its state root is not the one it was stored with"));
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests;
