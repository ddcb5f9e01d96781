//! Where the core stands, as it said itself at the end of its last turn: for people, metrics and questions of clients.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quorate_crypto::ReplicaId;
use quorate_protocol::client::message::ReplicaStatus;
use quorate_protocol::engine::EngineStatus;

use super::inbox::lock;

/// A look at the core.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The engine's word.
    pub status: EngineStatus,
    /// Whether this replica leads its view.
    pub is_primary: bool,
    /// The service's revision.
    pub revision: u64,
    /// Agreed time, milliseconds.
    pub time: u64,
    /// When the last turn ended.
    pub last_turn: Instant,
    /// Syncs of the log since the process began.
    pub syncs: u64,
    /// Bytes of records written since the process began.
    pub frame_bytes: u64,
    /// Bytes of the log's files.
    pub log_bytes: u64,
}

/// Shared by the core, which writes it, and whoever asks.
pub(crate) struct CoreView {
    id: ReplicaId,
    standing: Mutex<Standing>,
    revision: AtomicU64,
    snapshot_bytes: AtomicU64,
}

impl CoreView {
    pub(crate) fn new(id: ReplicaId, standing: Standing) -> CoreView {
        let revision = AtomicU64::new(standing.revision);
        CoreView { id, standing: Mutex::new(standing), revision, snapshot_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, standing: Standing) {
        self.revision.store(standing.revision, Ordering::Relaxed);
        *lock(&self.standing) = standing;
    }

    pub(crate) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    pub(crate) fn set_snapshot_bytes(&self, bytes: u64) {
        self.snapshot_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes.load(Ordering::Relaxed)
    }

    /// The answer to a client that asks where the replica stands.
    pub(crate) fn client_status(&self) -> ReplicaStatus {
        let standing = self.standing();
        ReplicaStatus {
            replica: self.id,
            view: standing.status.view,
            primary: standing.status.primary,
            executed: standing.status.executed,
            revision: standing.revision,
            time: standing.time,
            checkpoint: standing.status.stable,
            checkpoint_digest: standing.status.stable_digest,
        }
    }
}
