//! What the clients' keys wait for, taken in turns by key and in a bounded amount at a time: replies to everybody pass
//! through the thread that does this work, and nobody is to wait for what another asked.
//!
//! Work is counted in units, not in time: one is a key or a stored event that was looked at, or [`BYTES_PER_UNIT`] bytes
//! that were carried. A unit takes a fraction of a microsecond.

use std::collections::{BTreeMap, VecDeque};

use quorate_crypto::PublicKey;

/// Units of one kind of work that are done before the thread looks at its inbox again; the last item may go beyond it.
pub(super) const UNITS_AT_A_TIME: u64 = 16_384;
/// Units that a key may use before the turn is another's; the last item may go beyond it. Small enough that a turn of
/// cheap items takes no longer than one that costs much.
const UNITS_PER_TURN: u64 = 1024;
/// Bytes that cost as much as a key that is looked at: they are copied, encoded and sent.
const BYTES_PER_UNIT: usize = 64;

/// What it costs to carry so many bytes, units.
pub(super) const fn units_of_bytes(bytes: usize) -> u64 {
    (bytes / BYTES_PER_UNIT) as u64
}

/// Items that wait, by key.
pub(super) struct Turns<T> {
    /// In the order they came. None is empty.
    queues: BTreeMap<PublicKey, VecDeque<T>>,
    /// The keys of `queues`, each once. It is the first one's turn.
    order: VecDeque<PublicKey>,
    /// Units used in this turn.
    used: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { queues: BTreeMap::new(), order: VecDeque::new(), used: 0 }
    }
}

impl<T> Turns<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn push(&mut self, key: PublicKey, item: T) {
        let queue = self.queues.entry(key).or_default();
        if queue.is_empty() {
            self.order.push_back(key);
        }
        queue.push_back(item);
    }

    /// Drops what `keep` does not hold for.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let first = self.order.front().copied();
        let Turns { queues, order, used } = self;
        queues.retain(|_, queue| {
            queue.retain(&mut keep);
            !queue.is_empty()
        });
        order.retain(|key| queues.contains_key(key));
        if order.front().copied() != first {
            *used = 0;
        }
    }

    /// Gives items to `work`, which returns the units each took, until [`UNITS_AT_A_TIME`] are used or nothing waits.
    pub(super) fn work(&mut self, mut work: impl FnMut(T) -> u64) {
        let mut left = UNITS_AT_A_TIME;
        while left > 0
            && let Some(units) = self.step(&mut work)
        {
            left = left.saturating_sub(units);
        }
    }

    fn step(&mut self, work: &mut impl FnMut(T) -> u64) -> Option<u64> {
        let key = *self.order.front()?;
        let queue = self.queues.get_mut(&key)?;
        let units = work(queue.pop_front()?).max(1);
        self.used = self.used.saturating_add(units);
        let waits = !queue.is_empty();
        if !waits {
            self.queues.remove(&key);
        }
        if !waits || self.used >= UNITS_PER_TURN {
            self.used = 0;
            self.order.pop_front();
            if waits {
                self.order.push_back(key);
            }
        }
        Some(units)
    }
}

#[cfg(test)]
mod tests;
