//! Whether the tables agree with each other: for a check of what a disk gave back, and for tests. Reads everything.

use thiserror::Error;

use crate::event::{EVENT_KEY_BYTES, EventKind, StoredEvent, StoredPair, split_event_key};
use crate::limit::MAX_KEY_BYTES;
use crate::store::{FIRST_REVISION, Store, history_of};

/// What does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IntegrityError {
    /// An entry of PAIRS is malformed or of an impossible revision.
    #[error("table PAIRS: a malformed or impossible entry")]
    Pair,
    /// An entry of EVENTS is malformed, out of its place, or does not follow from the one before.
    #[error("table EVENTS: a malformed or impossible entry at revision {revision}")]
    Event {
        /// Its revision; 0 if not even that can be read.
        revision: u64,
    },
    /// META counts other bytes than there are.
    #[error("META counts {counted} bytes, there are {actual}")]
    Bytes {
        /// What META says.
        counted: u64,
        /// What the tables hold.
        actual: u64,
    },
    /// The history is not that of the events.
    #[error("the history does not belong to the events")]
    History,
}

impl Store {
    /// Reads all tables and compares them with each other.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn check_integrity(&self) -> Result<(), IntegrityError> {
        if history_of(&self.events, &self.nothing).ok().as_ref() != Some(&self.history) {
            return Err(IntegrityError::History);
        }
        let actual = self.check_pairs()? + self.check_events()?;
        let counted = self.status.logical_bytes;
        if counted == actual { Ok(()) } else { Err(IntegrityError::Bytes { counted, actual }) }
    }

    fn check_pairs(&self) -> Result<u64, IntegrityError> {
        let mut bytes = 0;
        for (key, stored) in &self.pairs {
            let pair = StoredPair::parse(stored).ok_or(IntegrityError::Pair)?;
            let possible = !key.is_empty() && key.len() <= MAX_KEY_BYTES && is_possible(pair);
            if !possible || pair.mod_revision > self.status.current_revision {
                return Err(IntegrityError::Pair);
            }
            bytes += (key.len() + stored.len()) as u64;
        }
        Ok(bytes)
    }

    /// Events follow each other from the purged place to the present without a gap, and each leads from the pair it
    /// replaced to the pair that its key had after it.
    fn check_events(&self) -> Result<u64, IntegrityError> {
        let mut bytes = 0;
        let status = self.status;
        let mut expected = (status.purge_revision.max(FIRST_REVISION + 1), status.purge_sub);
        for (place, stored) in &self.events {
            let (revision, sub) = split_event_key(&place).ok_or(IntegrityError::Event { revision: 0 })?;
            let event = StoredEvent::parse(stored).ok_or(IntegrityError::Event { revision })?;
            let in_place = (revision, sub) == expected || (revision, sub) == (expected.0 + 1, 0);
            if !in_place || revision > status.current_revision || !self.follows(event, revision) {
                return Err(IntegrityError::Event { revision });
            }
            expected = (revision, sub + 1);
            bytes += (EVENT_KEY_BYTES + stored.len()) as u64;
        }
        if expected.0 < status.current_revision && status.current_revision > FIRST_REVISION {
            return Err(IntegrityError::Event { revision: expected.0 + 1 });
        }
        Ok(bytes)
    }

    fn follows(&self, event: StoredEvent<'_>, revision: u64) -> bool {
        let before_it = |pair: StoredPair<'_>| is_possible(pair) && pair.mod_revision < revision;
        if !event.previous.is_none_or(before_it) {
            return false;
        }
        let after = self.pair_at(event.key, revision);
        match (event.kind, event.previous, after) {
            (EventKind::Delete, Some(_), None) => true,
            (EventKind::Put, None, Some(after)) => after.version == 1 && after.create_revision == revision,
            (EventKind::Put, Some(before), Some(after)) => {
                after.mod_revision == revision
                    && after.version == before.version + 1
                    && after.create_revision == before.create_revision
            }
            _ => false,
        }
    }
}

fn is_possible(pair: StoredPair<'_>) -> bool {
    pair.create_revision > FIRST_REVISION
        && pair.create_revision <= pair.mod_revision
        && (pair.version == 1) == (pair.create_revision == pair.mod_revision)
        && pair.version >= 1
}
