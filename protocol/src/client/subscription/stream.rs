//! One replica's side of a watch: what it claims about each revision that is not delivered yet.

use std::collections::BTreeMap;

use super::repetition::Repetition;
use super::{AHEAD_BYTES_MAX, AHEAD_REVISIONS_MAX, HELD_OVERHEAD, RESUBSCRIBE_AFTER};
use crate::parameters::Micros;

/// Why a replica's stream does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    Compacted(u64),
    Ended(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The subscription on the present link, if there is one.
    pub(super) wire: Option<u64>,
    /// When to subscribe once more under `wire`; none once anything came under it. Updates are not lost while the link is
    /// up, so that one of them says that the subscription was not.
    repetition: Option<Repetition>,
    /// The first revision asked for under `wire`.
    asked_from: u64,
    /// It was asked for more than once under `wire`.
    repeated: bool,
    /// The first revision the replica has not come to: it claims the events in `held`, and nothing else, below.
    pub(super) covered: u64,
    /// Events claimed, by revision; bounded by [`AHEAD_BYTES_MAX`] and [`AHEAD_REVISIONS_MAX`].
    held: BTreeMap<u64, Vec<u8>>,
    /// Bytes of `held`, overhead included.
    bytes: usize,
    /// Why it stopped, until it is subscribed to again.
    pub(super) notice: Option<Notice>,
    /// Not before this moment.
    resume_at: Micros,
    /// Accused already; once is enough for a watch.
    accused: bool,
}

impl Stream {
    pub(super) fn open(&mut self, wire: u64, from: u64, now: Micros) {
        if self.wire == Some(wire) {
            self.repeated = true;
            if let Some(repetition) = &mut self.repetition {
                repetition.take(now);
            }
        } else {
            self.wire = Some(wire);
            self.repetition = Some(Repetition::new(now));
            self.asked_from = from;
            self.repeated = false;
        }
        self.notice = None;
        self.covered = self.covered.max(from);
    }

    pub(super) fn close(&mut self) {
        self.wire = None;
    }

    pub(super) fn end(&mut self, notice: Notice, now: Micros) {
        self.wire = None;
        self.notice = Some(notice);
        self.resume_at = now.saturating_add(RESUBSCRIBE_AFTER);
    }

    /// Something came under `wire`.
    pub(super) fn answered(&mut self) {
        self.repetition = None;
    }

    /// Whether an honest replica may send the events of `revision` twice: that it had the first subscription was not known
    /// when it was asked for the second.
    pub(super) fn may_come_again(&self, revision: u64) -> bool {
        self.repeated && revision >= self.asked_from
    }

    /// Whether to subscribe (again).
    pub(super) fn is_due(&self, now: Micros) -> bool {
        match self.wire {
            None => now >= self.resume_at && !self.is_half_full(),
            Some(_) => self.repetition.is_some_and(|repetition| repetition.is_due(now)),
        }
    }

    pub(super) fn wake(&self) -> Option<Micros> {
        match self.wire {
            None => (!self.is_half_full()).then_some(self.resume_at),
            Some(_) => self.repetition.map(|repetition| repetition.at()),
        }
    }

    /// Takes the events of a revision at or above `covered`.
    pub(super) fn push(&mut self, revision: u64, events: Vec<u8>) {
        self.covered = revision.saturating_add(1);
        self.bytes += events.len() + HELD_OVERHEAD;
        self.held.insert(revision, events);
    }

    /// It claims that nothing more happened up to and including `revision`.
    pub(super) fn quiet_through(&mut self, revision: u64) {
        self.covered = self.covered.max(revision.saturating_add(1));
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > AHEAD_BYTES_MAX || self.held.len() > AHEAD_REVISIONS_MAX
    }

    fn is_half_full(&self) -> bool {
        self.bytes > AHEAD_BYTES_MAX / 2 || self.held.len() > AHEAD_REVISIONS_MAX / 2
    }

    /// The first revision it claims events of.
    pub(super) fn first_events(&self) -> Option<u64> {
        self.held.first_key_value().map(|(revision, _)| *revision)
    }

    /// Below this revision it claims that nothing happened.
    pub(super) fn quiet_until(&self) -> u64 {
        self.first_events().unwrap_or(self.covered)
    }

    /// The events it claims for `revision`.
    pub(super) fn events(&self, revision: u64) -> Option<&Vec<u8>> {
        self.held.get(&revision)
    }

    /// Everything below `revision` is settled.
    pub(super) fn forget_below(&mut self, revision: u64) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() >= revision {
                break;
            }
            self.bytes -= entry.remove().len() + HELD_OVERHEAD;
        }
    }

    /// Whether this is its first accusation.
    pub(super) fn accuse(&mut self) -> bool {
        !std::mem::replace(&mut self.accused, true)
    }
}
