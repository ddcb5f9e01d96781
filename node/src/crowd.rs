//! Keys that ask for too much while others want the machine, and whether each has something under way: it gets one
//! request at a time, as a client that waits for its answers does, and the rest is told Busy before a signature is looked
//! at.
//!
//! Verification says who is in the crowd and counts what it hands on; the core says after each turn what became of it.
//! While nobody is in it, neither takes the lock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;

use crate::process::inbox::lock;

/// A key in the crowd rests so long after a request of it was refused: what is refused is never pending, and would else be
/// verified as fast as it comes. About as long as a request takes that executes on a busy machine.
const REST: Duration = Duration::from_millis(10);

/// What a key in the crowd has under way.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Requests on the way to the core, as far as they were handed on since the key came into the crowd.
    handed: usize,
    /// Whether one was pending after the last turn.
    pending: bool,
    rests_until: Option<Instant>,
}

/// Whether the next request of the key is let through: a key with nothing pending is, always, and soon after a refusal.
fn may_pass(place: &Place, now: Instant) -> bool {
    place.handed == 0 && !place.pending && place.rests_until.is_none_or(|until| until <= now)
}

/// The crowd.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    places: Mutex<BTreeMap<PublicKey, Place>>,
    is_empty: AtomicBool,
}

impl Crowd {
    pub(crate) fn new() -> Crowd {
        Crowd { places: Mutex::default(), is_empty: AtomicBool::new(true) }
    }

    /// `key`, which asks for too much, has one more request. Whether it is handed on.
    pub(crate) fn admits(&self, key: PublicKey, now: Instant) -> bool {
        let mut places = lock(&self.places);
        self.is_empty.store(false, Ordering::Release);
        let place = places.entry(key).or_default();
        let passes = may_pass(place, now);
        place.handed += usize::from(passes);
        passes
    }

    /// Who still asks for too much.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&PublicKey) -> bool) {
        if !self.is_empty.load(Ordering::Acquire) {
            let mut places = lock(&self.places);
            places.retain(|key, _| keep(key));
            self.is_empty.store(places.is_empty(), Ordering::Release);
        }
    }

    /// A request that was handed on has come to its end before the core took it.
    pub(crate) fn returned(&self, key: &PublicKey) {
        self.arrived(key, false);
    }

    /// The core took one of `key`. It may be pending until [`Crowd::turned`] says otherwise.
    pub(crate) fn taken(&self, key: &PublicKey) {
        self.arrived(key, true);
    }

    /// Those handed on before the key came into the crowd arrive as well: they are nobody's debt.
    fn arrived(&self, key: &PublicKey, pending: bool) {
        if !self.is_empty.load(Ordering::Acquire)
            && let Some(place) = lock(&self.places).get_mut(key)
        {
            place.handed = place.handed.saturating_sub(1);
            place.pending |= pending;
        }
    }

    /// A turn has ended: `pending` says who has something pending, `refused` whose requests were refused in it.
    pub(crate) fn turned(
        &self,
        now: Instant,
        refused: impl Iterator<Item = PublicKey>,
        pending: impl Fn(&PublicKey) -> bool,
    ) {
        if self.is_empty.load(Ordering::Acquire) {
            return;
        }
        let mut places = lock(&self.places);
        for (key, place) in places.iter_mut() {
            place.pending = pending(key);
        }
        for key in refused {
            if let Some(place) = places.get_mut(&key) {
                place.rests_until = Some(now + REST);
            }
        }
    }
}

#[cfg(test)]
mod tests;
