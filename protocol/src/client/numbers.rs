//! The numbers of one session: which are taken, and below which everything is settled.
//!
//! A request signs `acknowledged_below`; replicas forget the results below it. So a number may only be acknowledged when
//! its result is held, or when its request can never execute again.

use std::collections::BTreeMap;

/// Numbers handed out in one session.
#[derive(Clone, Debug)]
pub struct Numbers {
    next: u64,
    /// Not settled. The value is none while the request is in flight; after it was given up, the agreed time (ms) after
    /// which it cannot execute any more.
    open: BTreeMap<u64, Option<u64>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { next: 1, open: BTreeMap::new() }
    }
}

impl Numbers {
    /// The next number, unless it would lie `span` or more above the lowest open one: replicas refuse numbers too far
    /// above what is acknowledged.
    pub fn take(&mut self, span: u64) -> Option<u64> {
        if self.are_used_up(span) {
            return None;
        }
        let number = self.next;
        self.next = self.next.checked_add(1)?;
        self.open.insert(number, None);
        Some(number)
    }

    /// Whether [`Numbers::take`] would give none.
    pub fn are_used_up(&self, span: u64) -> bool {
        self.next - self.acknowledged_below() >= span
    }

    /// Every number below is settled.
    pub fn acknowledged_below(&self) -> u64 {
        self.open.first_key_value().map_or(self.next, |(number, _)| *number)
    }

    /// The result of `number` is held, or it is certain that it never executes.
    pub fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// The client stops waiting for `number`, whose request may still execute until agreed time passes `valid_until`.
    pub fn give_up(&mut self, number: u64, valid_until: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            *open = Some(valid_until);
        }
    }

    /// Agreed time has reached `time`: settles what was given up and has expired.
    pub fn expire(&mut self, time: u64) {
        self.open.retain(|_, valid_until| valid_until.is_none_or(|valid_until| valid_until >= time));
    }
}

#[cfg(test)]
mod tests;
