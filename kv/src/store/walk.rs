//! The keys of a range that exist at a revision. The present is PAIRS itself. The past is the present with the events
//! since undone: the first event of a key after the revision holds the pair that existed at it. Every walk pays from a
//! [`Budget`], so that no operation costs more than its caps.

use std::iter::Peekable;
use std::ops::ControlFlow;

use quorate_crypto::merkle_map::MerkleMap;

use crate::event::{StoredEvent, StoredPair, event_key};
use crate::history_key;
use crate::key_range::KeyRange;
use crate::limit::{MAX_REPLY_BYTES, MAX_VISITED_KEYS};
use crate::store::Store;

/// Bytes of a value that cost as much to compare as a key to visit.
const BYTES_A_VISIT: u64 = 1024;

/// What one operation may still look at and return, all its parts together.
#[derive(Debug)]
pub(super) struct Budget {
    visits: u64,
    reply_bytes: usize,
    reply_is_empty: bool,
}

impl Budget {
    /// A budget of so many visits, as far as one operation may have them.
    pub(super) fn of(visits: u64) -> Budget {
        Budget { visits: visits.min(MAX_VISITED_KEYS), reply_bytes: MAX_REPLY_BYTES, reply_is_empty: true }
    }

    /// What is left of the visits.
    pub(super) const fn visits(&self) -> u64 {
        self.visits
    }

    /// Pays for looking at a value of so many bytes, which costs as much as visiting keys if it is long.
    pub(super) const fn look_at(&mut self, bytes: usize) {
        self.visits = self.visits.saturating_sub(bytes as u64 / BYTES_A_VISIT);
    }

    /// Pays for one key.
    fn visit(&mut self) -> bool {
        let affordable = self.visits > 0;
        self.visits = self.visits.saturating_sub(1);
        affordable
    }

    /// Pays for one pair of so many encoded bytes. The first pair of a reply is free of the cap.
    pub(super) fn reply(&mut self, bytes: usize) -> bool {
        if !self.reply_is_empty && bytes > self.reply_bytes {
            return false;
        }
        self.reply_is_empty = false;
        self.reply_bytes = self.reply_bytes.saturating_sub(bytes);
        true
    }
}

/// What a walk looks for.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) range: &'a KeyRange,
    pub(super) revision: u64,
    pub(super) descending: bool,
}

impl Walk<'_> {
    /// Whether key `left` comes before key `right`.
    fn comes_before(&self, left: &[u8], right: &[u8]) -> bool {
        if self.descending { left > right } else { left < right }
    }
}

/// The keys that history knows, in the order of a walk, each with the sub and revision of its first event after the
/// walk's revision, if there is one.
struct Touched<'a> {
    history: &'a MerkleMap,
    revision: u64,
    descending: bool,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
}

struct TouchedKey {
    key: Vec<u8>,
    undone_by: Option<(u64, u32)>,
}

impl<'a> Touched<'a> {
    fn new(history: &'a MerkleMap, walk: Walk<'_>) -> Touched<'a> {
        Touched {
            history,
            revision: walk.revision,
            descending: walk.descending,
            lower: history_key::prefix(&walk.range.key),
            upper: walk.range.upper().map(history_key::prefix),
        }
    }
}

impl Iterator for Touched<'_> {
    type Item = TouchedKey;

    fn next(&mut self) -> Option<TouchedKey> {
        let (place, _) = if self.descending {
            self.history.range_descending(&self.lower, self.upper.as_deref()).next()?
        } else {
            self.history.range(&self.lower, self.upper.as_deref()).next()?
        };
        let Some((prefix, _, _)) = history_key::split(&place) else { unreachable!("a history key ends with an event") };
        let Some(key) = history_key::key(prefix) else { unreachable!("a history key begins with a key") };
        let undone_by = first_after(self.history, prefix, self.revision);
        if self.descending {
            self.upper = Some(prefix.to_vec());
        } else {
            // No event has the last revision there could be.
            self.lower = history_key::place(prefix, u64::MAX, 0);
        }
        Some(TouchedKey { key, undone_by })
    }
}

/// Revision and sub of the first event after `revision` of the key with this prefix.
fn first_after(history: &MerkleMap, prefix: &[u8], revision: u64) -> Option<(u64, u32)> {
    let (place, _) = history.first_at_or_after(&history_key::place(prefix, revision.checked_add(1)?, 0))?;
    let (found, revision, sub) = history_key::split(&place)?;
    (found == prefix).then_some((revision, sub))
}

impl Store {
    /// The pair of `key` now.
    pub(super) fn pair(&self, key: &[u8]) -> Option<StoredPair<'_>> {
        self.pairs.get(key).map(parse_pair)
    }

    /// The pair of `key` at `revision`.
    pub(super) fn pair_at(&self, key: &[u8], revision: u64) -> Option<StoredPair<'_>> {
        if revision < self.status.current_revision
            && let Some((revision, sub)) = first_after(&self.history, &history_key::prefix(key), revision)
        {
            return self.event(revision, sub).previous;
        }
        self.pair(key)
    }

    fn event(&self, revision: u64, sub: u32) -> StoredEvent<'_> {
        let stored = self.events.get(&event_key(revision, sub));
        let Some(event) = stored.and_then(StoredEvent::parse) else {
            unreachable!("the history names the event {revision}.{sub}")
        };
        event
    }

    /// Calls `visitor` for every key that the walk looks for. Returns the first key it did not look at when the budget
    /// ends, None when the range does or the visitor breaks off.
    pub(super) fn walk<'a>(
        &'a self,
        walk: Walk<'_>,
        budget: &mut Budget,
        mut visitor: impl FnMut(Vec<u8>, StoredPair<'a>, &mut Budget) -> ControlFlow<()>,
    ) -> Option<Vec<u8>> {
        let range = walk.range;
        let mut step = |key: Vec<u8>, pair: Option<StoredPair<'a>>| {
            if !budget.visit() {
                return ControlFlow::Break(Some(key));
            }
            match pair.map(|pair| visitor(key, pair, budget)) {
                Some(ControlFlow::Break(())) => ControlFlow::Break(None),
                Some(ControlFlow::Continue(())) | None => ControlFlow::Continue(()),
            }
        };
        if range.is_single() {
            return step(range.key.clone(), self.pair_at(&range.key, walk.revision)).break_value().flatten();
        }
        if range.upper().is_some_and(|upper| upper <= range.key.as_slice()) {
            return None;
        }
        if walk.descending {
            let pairs = self.pairs.range_descending(&range.key, range.upper());
            self.walk_pairs(walk, pairs, &mut step).break_value().flatten()
        } else {
            let pairs = self.pairs.range(&range.key, range.upper());
            self.walk_pairs(walk, pairs, &mut step).break_value().flatten()
        }
    }

    fn walk_pairs<'a, B>(
        &'a self,
        walk: Walk<'_>,
        pairs: impl Iterator<Item = (Vec<u8>, &'a [u8])>,
        step: &mut impl FnMut(Vec<u8>, Option<StoredPair<'a>>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if walk.revision >= self.status.current_revision {
            for (key, stored) in pairs {
                step(key, Some(parse_pair(stored)))?;
            }
            return ControlFlow::Continue(());
        }
        let mut pairs = pairs.peekable();
        let mut touched = Touched::new(&self.history, walk).peekable();
        while let Some((key, pair)) = self.next_of_past(walk, &mut pairs, &mut touched) {
            step(key, pair)?;
        }
        ControlFlow::Continue(())
    }

    /// The next key of the present or of the history, with the pair that existed at the walk's revision.
    fn next_of_past<'a>(
        &'a self,
        walk: Walk<'_>,
        pairs: &mut Peekable<impl Iterator<Item = (Vec<u8>, &'a [u8])>>,
        touched: &mut Peekable<Touched<'_>>,
    ) -> Option<(Vec<u8>, Option<StoredPair<'a>>)> {
        let from_history = match (pairs.peek(), touched.peek()) {
            (Some((present, _)), Some(past)) => !walk.comes_before(present, &past.key),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if !from_history {
            return pairs.next().map(|(key, stored)| (key, Some(parse_pair(stored))));
        }
        let TouchedKey { key, undone_by } = touched.next()?;
        let present = pairs.next_if(|(present, _)| *present == key);
        let pair = match undone_by {
            Some((revision, sub)) => self.event(revision, sub).previous,
            None => present.map(|(_, stored)| parse_pair(stored)),
        };
        Some((key, pair))
    }
}

// The tables were written by this program, or came with a root that a quorum certified: what they hold is our own
// invariant, and a replica whose tables break it must stop.

pub(super) fn parse_pair(stored: &[u8]) -> StoredPair<'_> {
    let Some(pair) = StoredPair::parse(stored) else { unreachable!("PAIRS holds stored pairs") };
    pair
}
