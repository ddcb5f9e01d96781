//! When to send again what has no answer: a message to a replica whose queue is full is lost, and nobody says so.

use crate::parameters::Micros;

/// A question of a watch without an answer is sent again after this time, and then after twice as long each time. A
/// subscription without events has none, so that this is no sign of a loss.
const REPEAT_AFTER: Micros = 1_000_000;
/// The longest time between two of them: it costs next to nothing.
const REPEAT_AFTER_MAX: Micros = 8_000_000;

/// When something is due again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repetition {
    at: Micros,
    interval: Micros,
}

impl Repetition {
    /// It was sent now.
    pub(super) fn new(now: Micros) -> Repetition {
        Repetition { at: now.saturating_add(REPEAT_AFTER), interval: REPEAT_AFTER }
    }

    pub(super) fn at(&self) -> Micros {
        self.at
    }

    pub(super) fn is_due(&self, now: Micros) -> bool {
        now >= self.at
    }

    /// Whether it is due; if so, it counts as sent again.
    pub(super) fn take(&mut self, now: Micros) -> bool {
        let is_due = self.is_due(now);
        if is_due {
            self.interval = self.interval.saturating_mul(2).min(REPEAT_AFTER_MAX);
            self.at = now.saturating_add(self.interval);
        }
        is_due
    }
}
