//! Why a node did not start or had to end: one sentence each that says what to do, and the exit code that goes with it.

use std::path::Path;

use quorate_crypto::{ClusterId, Protocol};
use quorate_keys::genesis::GenesisFileError;
use quorate_keys::{Genesis, KeyFileError};
use quorate_protocol::engine::Halt;
use quorate_transport::StartError;
use thiserror::Error;

use crate::disk::DiskError;
use crate::driver::DriverError;
use crate::log::{LogError, OpenError};
use crate::recovery::OpenReplicaError;
use crate::snapshot_store::SnapshotError;

/// Why a node did not start or had to end.
#[derive(Debug, Clone, Error)]
pub enum NodeError {
    /// The configuration cannot be used. Exit code 2.
    #[error("{0}")]
    Configuration(String),
    /// A key or the genesis file is refused. Exit code 4.
    #[error("{0}")]
    Refused(String),
    /// No space left. Exit code 5.
    #[error(
        "the disk of {place} is full ({reason}); free space there and start the node again, nothing promised is lost"
    )]
    DiskFull {
        /// Where.
        place: String,
        /// What the storage said.
        reason: String,
    },
    /// The data are damaged, foreign or missing. Exit code 6.
    #[error("{0}")]
    Data(String),
    /// The replica had to stop itself. Exit code 6.
    #[error("{0}; keep the data for inspection, then rebuild this replica with `quorate-node init` and let it rejoin")]
    Halted(Halt),
    /// The medium failed. Exit code 7.
    #[error(
        "the storage at {place} failed: {reason}; check the medium and start the node again, nothing was published after the failure"
    )]
    Storage {
        /// Where.
        place: String,
        /// What the storage said.
        reason: String,
    },
}

impl NodeError {
    /// The process's exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            NodeError::Configuration(_) => 2,
            NodeError::Refused(_) => 4,
            NodeError::DiskFull { .. } => 5,
            NodeError::Data(_) | NodeError::Halted(_) => 6,
            NodeError::Storage { .. } => 7,
        }
    }

    /// A disk's error at `place`.
    pub fn from_disk(place: &Path, error: &DiskError) -> NodeError {
        let shown = place.display().to_string();
        match error {
            DiskError::DiskFull { .. } => NodeError::DiskFull { place: shown, reason: error.to_string() },
            DiskError::Locked(_) => NodeError::Configuration(format!(
                "{shown} is in use by another process; stop that node, or give this one a data directory of its own"
            )),
            DiskError::Exposed { mode, path } => NodeError::Configuration(format!(
                "{path} has mode {mode:03o} but holds the secrets that protect the log; run chmod 700 on it"
            )),
            DiskError::NotFound(_) => missing(place),
            _ => NodeError::Storage { place: shown, reason: error.to_string() },
        }
    }

    /// An error of opening or creating the log or the snapshots at `place`.
    pub fn from_open(place: &Path, error: &OpenError) -> NodeError {
        let shown = place.display();
        match error {
            OpenError::Missing => missing(place),
            OpenError::AlreadyExists => NodeError::Data(format!(
                "{shown} holds the log of a replica already, which init never overwrites; run the node, or move the directory away"
            )),
            OpenError::ForeignCluster(cluster) => NodeError::Data(format!(
                "{shown} belongs to cluster {cluster}, not to the one the genesis file defines; give this node its own data directory or the right genesis file"
            )),
            OpenError::ForeignReplica(replica) => NodeError::Data(format!(
                "{shown} belongs to replica {replica}, not to this one; give each replica its own data directory"
            )),
            OpenError::UnknownVersion(version) => NodeError::Data(format!(
                "{shown} has format version {version}, which this program does not read; use the program that wrote it"
            )),
            OpenError::Damaged { frame, why } => NodeError::Data(format!(
                "{shown} is damaged at frame {frame} ({why}), so promises of this replica may be lost and it must not sign; move the directory away, run `quorate-node init` and let the replica rejoin"
            )),
            OpenError::Disk(error) => NodeError::from_disk(place, error),
        }
    }

    /// An error of opening a replica whose data are in `data`.
    pub fn from_replica(data: &Path, error: &OpenReplicaError) -> NodeError {
        match error {
            OpenReplicaError::Log(error) => NodeError::from_open(&data.join(crate::process::LOG_DIRECTORY), error),
            OpenReplicaError::Snapshots(error) => {
                NodeError::from_open(&data.join(crate::process::SNAPSHOT_DIRECTORY), error)
            }
            OpenReplicaError::Records(reason) => NodeError::Data(format!(
                "the log in {} cannot be read ({reason}); use the program that wrote it",
                data.display()
            )),
            OpenReplicaError::State { seq, reason } => NodeError::Data(format!(
                "the snapshot at {seq} in {} is no state ({reason}); use the program that wrote it, or restore the directory",
                data.display()
            )),
        }
    }

    /// The same, with the genesis file at hand: it can tell what the cluster runs that the data belong to.
    pub fn from_data(data: &Path, genesis: &Genesis, error: &OpenReplicaError) -> NodeError {
        match error {
            OpenReplicaError::Log(OpenError::ForeignCluster(cluster)) => {
                foreign(&data.join(crate::process::LOG_DIRECTORY), *cluster, genesis)
            }
            OpenReplicaError::Snapshots(OpenError::ForeignCluster(cluster)) => {
                foreign(&data.join(crate::process::SNAPSHOT_DIRECTORY), *cluster, genesis)
            }
            _ => NodeError::from_replica(data, error),
        }
    }

    /// An error of a turn.
    pub fn from_driver(data: &Path, error: &DriverError) -> NodeError {
        match error {
            DriverError::Log(error) => NodeError::from_log(data, error),
            DriverError::State { .. } => NodeError::Data(format!(
                "{error}; this replica or the certified state is damaged, keep the data for inspection and start the node again"
            )),
        }
    }

    /// An error of the log.
    pub fn from_log(data: &Path, error: &LogError) -> NodeError {
        let place = data.join(crate::process::LOG_DIRECTORY);
        match error {
            LogError::Disk(error) => NodeError::from_disk(&place, error),
            LogError::TooLong(_) => {
                NodeError::Storage { place: place.display().to_string(), reason: error.to_string() }
            }
        }
    }

    /// An error of storing a snapshot.
    pub fn from_snapshot(data: &Path, error: &SnapshotError) -> NodeError {
        let place = data.join(crate::process::SNAPSHOT_DIRECTORY);
        match error {
            SnapshotError::Disk(error) => NodeError::from_disk(&place, error),
            _ => NodeError::Storage { place: place.display().to_string(), reason: error.to_string() },
        }
    }
}

fn missing(place: &Path) -> NodeError {
    NodeError::Data(format!(
        "there is no log in {}; run `quorate-node init --new-cluster` if this cluster never ran, or `quorate-node init` after a loss",
        place.display()
    ))
}

/// Data hold the id of their cluster and nothing else of it. What that cluster runs is known if its id is the one that
/// this genesis file gives with another protocol; if not, something else is another, and perhaps the protocol as well.
fn foreign(place: &Path, cluster: ClusterId, genesis: &Genesis) -> NodeError {
    let (shown, own) = (place.display(), genesis.protocol());
    let theirs = Protocol::ALL.into_iter().find(|other| genesis.cluster_id_under(*other) == cluster);
    NodeError::Data(match theirs {
        Some(theirs) => format!(
            "{shown} belongs to a cluster that runs {theirs}, but the genesis file says {own}, and neither reads the other's data; correct the protocol in the genesis file, or give this node a data directory of its own"
        ),
        None => format!(
            "{shown} belongs to cluster {cluster}, but the genesis file defines {}, which runs {own}: another protocol, key or parameter, or a genesis file made anew, makes another cluster; give this node its own data directory or the right genesis file",
            genesis.cluster_id()
        ),
    })
}

impl From<KeyFileError> for NodeError {
    fn from(error: KeyFileError) -> NodeError {
        NodeError::Refused(error.to_string())
    }
}

impl From<GenesisFileError> for NodeError {
    fn from(error: GenesisFileError) -> NodeError {
        NodeError::Refused(error.to_string())
    }
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> NodeError {
        match error {
            StartError::Tls(_) => NodeError::Refused(error.to_string()),
            other => NodeError::Configuration(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
