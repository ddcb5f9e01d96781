//! The keeper: makes snapshots durable and writes evidence down, so that the core never waits for either.
//!
//! Snapshots are stored in order. Where the keeper falls behind, the newest waiting one and the oldest are kept and those
//! between are skipped: the replica then does not vouch for them. The cluster goes on all the same, since the window ends
//! at the newest, which every replica stores.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use quorate_protocol::evidence::Evidence;
use quorate_protocol::state::Snapshot;

use super::core::CoreInput;
use super::inbox::Inbox;
use super::view::CoreView;
use crate::disk::FileDisk;
use crate::evidence_store::EvidenceStore;
use crate::failure::NodeError;
use crate::metrics::{Metrics, TimedDisk};
use crate::recovery::store_snapshot;
use crate::snapshot_store::SnapshotStore;

/// Snapshots that may wait besides the one being stored.
const WAITING_MAX: usize = 2;

/// What the keeper is given to keep.
pub(crate) enum Keep {
    Snapshot(Snapshot),
    Evidence(Evidence),
    Stop,
}

/// The keeper's thread.
pub(crate) struct Keeper {
    pub(crate) inbox: Arc<Inbox<Keep>>,
    pub(crate) core: Arc<Inbox<CoreInput>>,
    pub(crate) snapshots: SnapshotStore<TimedDisk<FileDisk>>,
    pub(crate) evidence: EvidenceStore,
    pub(crate) view: Arc<CoreView>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) data: PathBuf,
}

impl Keeper {
    /// Runs until told to stop, or until the storage fails, of which the core is told.
    pub(crate) fn run(mut self) {
        let mut inputs = Vec::new();
        let mut waiting: VecDeque<Snapshot> = VecDeque::new();
        loop {
            if waiting.is_empty() || !self.inbox.is_empty() {
                self.inbox.take(None, &mut inputs);
            }
            for input in inputs.drain(..) {
                match input {
                    Keep::Snapshot(snapshot) => queue(&mut waiting, snapshot),
                    Keep::Evidence(evidence) => self.evidence.add(&evidence),
                    Keep::Stop => return,
                }
            }
            let Some(snapshot) = waiting.pop_front() else { continue };
            if let Err(error) = self.store(snapshot) {
                self.core.push(CoreInput::Failed(error));
                return;
            }
        }
    }

    fn store(&mut self, snapshot: Snapshot) -> Result<(), NodeError> {
        // A state that was fetched may have overtaken checkpoints of our own.
        if self.snapshots.durable_seq().is_some_and(|durable| durable >= snapshot.seq) {
            return Ok(());
        }
        let began = Instant::now();
        let written = store_snapshot(&mut self.snapshots, &snapshot)
            .map_err(|error| NodeError::from_snapshot(&self.data, &error))?;
        let elapsed = began.elapsed();
        self.metrics.snapshots.inc();
        self.metrics.snapshot_seconds.observe(elapsed.as_secs_f64());
        self.view.set_snapshot_bytes(self.snapshots.size_on_disk());
        tracing::debug!(seq = %snapshot.seq, bytes = written.delta_bytes + written.carried_bytes, ?elapsed, "checkpoint stored");
        self.core.push(CoreInput::Stored(snapshot));
        Ok(())
    }
}

fn queue(waiting: &mut VecDeque<Snapshot>, snapshot: Snapshot) {
    waiting.push_back(snapshot);
    if waiting.len() > WAITING_MAX {
        waiting.remove(1);
    }
}
