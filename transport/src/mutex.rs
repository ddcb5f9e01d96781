//! Locks whose holders never panic half-way: what a poisoned lock guards is still whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, poisoned or not. Every critical section of this crate leaves its value valid at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
