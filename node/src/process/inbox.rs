//! A queue into a thread: everything that waits is taken at once, so that a thread that falls behind works in larger
//! batches instead of falling further behind.
//!
//! It has no cap of its own. What waits in it is bounded by whoever puts things in: frames hold their sender's budget
//! (see [`quorate_transport::FramePermit`]) until they are taken.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Locks; a poisoned lock is used all the same, since every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Many producers, one consumer.
pub(crate) struct Inbox<T> {
    waiting: Mutex<Vec<T>>,
    arrived: Condvar,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox { waiting: Mutex::new(Vec::new()), arrived: Condvar::new() }
    }

    /// Adds one.
    pub(crate) fn push(&self, item: T) {
        let mut waiting = lock(&self.waiting);
        let was_empty = waiting.is_empty();
        waiting.push(item);
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Adds many, in order; leaves `items` empty.
    pub(crate) fn append(&self, items: &mut Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        let was_empty = waiting.is_empty();
        waiting.append(items);
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.waiting).is_empty()
    }

    /// Waits until something is there or `deadline` has come, and moves everything to `into`, which must be empty.
    pub(crate) fn take(&self, deadline: Option<Instant>, into: &mut Vec<T>) {
        let mut waiting = lock(&self.waiting);
        while waiting.is_empty() {
            let Some(deadline) = deadline else {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut *waiting, into);
    }
}
