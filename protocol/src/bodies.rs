//! Request bodies held in memory, each once, for as long as it is pending or named by a slot.
//!
//! They are looked up by digest some twenty times a request and never walked through, so they are hashed and the order of
//! the maps shows nowhere. Digests can be ground until they share bits, so the hash has a key that nobody outside knows.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_crypto::{Digest, Verified};

use crate::engine::RecordIndex;
use crate::request::Request;

#[derive(Debug)]
struct Body {
    request: Arc<Verified<Request>>,
    /// The record that made it durable here; it counts if it is not below [`Bodies::records_from`].
    recorded: Option<RecordIndex>,
    /// Slots that name it.
    slots: u32,
    /// Whether it is admitted and not executed yet.
    pending: bool,
}

/// The bodies. Bounded by the pending cap and by the bodies the slots of the look-ahead name.
#[derive(Debug, Default)]
pub struct Bodies {
    held: HashMap<Digest, Body>,
    /// Named by a slot, not held: how many slots name it.
    wanted: HashMap<Digest, u32>,
    /// The frames of records below are gone.
    records_from: RecordIndex,
}

impl Bodies {
    /// The body of `digest`.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<Verified<Request>>> {
        self.held.get(digest).map(|body| &body.request)
    }

    /// Whether it is held.
    pub fn holds(&self, digest: &Digest) -> bool {
        self.held.contains_key(digest)
    }

    /// Whether a slot names it and it is not held.
    pub fn is_wanted(&self, digest: &Digest) -> bool {
        self.wanted.contains_key(digest)
    }

    /// Whether it is pending.
    pub fn is_pending(&self, digest: &Digest) -> bool {
        self.held.get(digest).is_some_and(|body| body.pending)
    }

    /// Whether a slot names it, held or not.
    pub fn is_named(&self, digest: &Digest) -> bool {
        self.wanted.contains_key(digest) || self.held.get(digest).is_some_and(|body| body.slots > 0)
    }

    /// Adds a body that is wanted or was admitted.
    pub fn insert(&mut self, digest: Digest, request: Verified<Request>, pending: bool) {
        let slots = self.wanted.remove(&digest).unwrap_or(0);
        let body = self.held.entry(digest).or_insert_with(|| Body {
            request: Arc::new(request),
            recorded: None,
            slots,
            pending,
        });
        body.pending |= pending;
    }

    /// A slot names `digest`.
    pub fn name(&mut self, digest: &Digest) {
        match self.held.get_mut(digest) {
            Some(body) => body.slots += 1,
            None => *self.wanted.entry(*digest).or_insert(0) += 1,
        }
    }

    /// A slot no longer names `digest`.
    pub fn unname(&mut self, digest: &Digest) {
        if let Some(body) = self.held.get_mut(digest) {
            body.slots = body.slots.saturating_sub(1);
            if body.slots == 0 && !body.pending {
                self.held.remove(digest);
            }
        } else if let Some(count) = self.wanted.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(digest);
            }
        }
    }

    /// The request left the pending pool.
    pub fn not_pending(&mut self, digest: &Digest) {
        if let Some(body) = self.held.get_mut(digest) {
            body.pending = false;
            if body.slots == 0 {
                self.held.remove(digest);
            }
        }
    }

    /// The record that holds the body, if one does.
    pub fn recorded(&self, digest: &Digest) -> Option<RecordIndex> {
        self.held.get(digest).and_then(|body| body.recorded).filter(|record| *record >= self.records_from)
    }

    /// Notes that `record` holds the body.
    pub fn set_recorded(&mut self, digest: &Digest, record: RecordIndex) {
        let records_from = self.records_from;
        if let Some(body) = self.held.get_mut(digest)
            && body.recorded.is_none_or(|earlier| earlier < records_from)
        {
            body.recorded = Some(record);
        }
    }

    /// Forgets records below `cut`: their frames are gone.
    pub fn forget_records_below(&mut self, cut: RecordIndex) {
        self.records_from = self.records_from.max(cut);
    }

    /// How many bodies are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
