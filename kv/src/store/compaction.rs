//! Compaction: the revision below which nothing can be read moves at once; the events behind it leave the tables a bounded
//! number at a time, so that no operation costs more than its own work.
//!
//! An event holds the pair it replaced, which was visible before its revision only, so the events below the compact
//! revision serve no read any more and are purged in order. Those of the compact revision itself stay: they may still be
//! watched. Each event is purged once, and each event written pays for [`PURGE_STEPS_PER_EVENT`], so purging keeps up.

use crate::event::{EVENT_KEY_BYTES, StoredEvent, event_key, split_event_key};
use crate::history_key;
use crate::operation::CompactionRequest;
use crate::outcome::{CompactionResponse, OperationError};
use crate::store::Store;

/// Events that are purged for each event that an operation writes.
pub const PURGE_STEPS_PER_EVENT: u64 = 4;

/// Most events that are purged after one write, whatever it wrote.
pub const PURGE_STEPS_PER_WRITE: u64 = 4096;

/// Events that are purged in a compaction by request.
pub const PURGE_STEPS_PER_COMPACTION: u64 = 4096;

/// Events that are purged before a put is refused for lack of space.
pub const PURGE_STEPS_WHEN_FULL: u64 = 1024;

impl Store {
    /// Compaction by request (etcd `Compact`): above the last one, up to the present.
    pub(super) fn compact(&mut self, request: CompactionRequest) -> Result<CompactionResponse, OperationError> {
        let revision = request.revision;
        if revision <= self.status.compact_revision {
            return Err(OperationError::Compacted { compact_revision: self.status.compact_revision });
        }
        if revision > self.status.current_revision {
            return Err(OperationError::FutureRevision { current_revision: self.status.current_revision });
        }
        self.status.compact_revision = revision;
        self.purge(PURGE_STEPS_PER_COMPACTION);
        self.save_status();
        Ok(CompactionResponse { compact_revision: revision })
    }

    /// What a write of so many events owes: automatic compaction, and purging in proportion.
    pub(super) fn after_write(&mut self, events: u32) {
        let retention = self.parameters.auto_compaction_retention;
        if retention > 0 {
            let oldest = self.status.current_revision.saturating_sub(retention);
            self.status.compact_revision = self.status.compact_revision.max(oldest);
        }
        self.purge((u64::from(events) * PURGE_STEPS_PER_EVENT).min(PURGE_STEPS_PER_WRITE));
    }

    /// Removes up to `steps` events below the compact revision, oldest first.
    pub(super) fn purge(&mut self, steps: u64) {
        let status = &mut self.status;
        if status.purge_revision >= status.compact_revision {
            return;
        }
        let bound = event_key(status.compact_revision, 0);
        for _ in 0..steps {
            let Some((place, stored)) = self.events.pop_first_below(&bound) else {
                (status.purge_revision, status.purge_sub) = (status.compact_revision, 0);
                return;
            };
            let (Some((revision, sub)), Some(event)) = (split_event_key(&place), StoredEvent::parse(&stored)) else {
                unreachable!("EVENTS holds stored events")
            };
            self.history.remove(&history_key::place(&history_key::prefix(event.key), revision, sub));
            status.logical_bytes -= (EVENT_KEY_BYTES + stored.len()) as u64;
            (status.purge_revision, status.purge_sub) = (revision, sub + 1);
        }
    }
}
