//! What was received and not yet consumed: a lane for every sender, served in turns, so that a sender who floods waits
//! behind itself and not others behind it.
//!
//! The queue has no cap of its own. What enters it holds a permit of its sender's byte budget (frames), or replaces
//! what it makes obsolete (announcements of links that came and went), so each lane is bounded by construction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::mutex::lock;

/// Classes a lane keeps apart; the lower is served first.
pub(crate) const CLASSES: usize = 3;

#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct State<T> {
    lanes: BTreeMap<u64, Lane<T>>,
    /// Lanes with something in them, each once, in the order of their turns.
    turns: VecDeque<u64>,
    closed: bool,
}

#[derive(Debug)]
struct Lane<T> {
    announcements: VecDeque<T>,
    classes: [VecDeque<T>; CLASSES],
    /// Whether the lane stands in `turns`.
    waits: bool,
    /// Whether it goes away once empty.
    retired: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            announcements: VecDeque::new(),
            classes: std::array::from_fn(|_| VecDeque::new()),
            waits: false,
            retired: false,
        }
    }
}

impl<T> Lane<T> {
    fn pop(&mut self) -> Option<T> {
        self.announcements.pop_front().or_else(|| self.classes.iter_mut().find_map(VecDeque::pop_front))
    }

    fn is_empty(&self) -> bool {
        self.announcements.is_empty() && self.classes.iter().all(VecDeque::is_empty)
    }
}

impl<T> State<T> {
    fn pop(&mut self) -> Option<T> {
        let id = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&id)?;
        let item = lane.pop();
        if lane.is_empty() {
            lane.waits = false;
            if lane.retired {
                self.lanes.remove(&id);
            }
        } else {
            self.turns.push_back(id);
        }
        item
    }

    /// Changes a lane and gives it a turn if it has something. Returns whether the queue was empty before.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Lane<T>)) -> bool {
        if self.closed {
            return false;
        }
        let lane = self.lanes.entry(id).or_default();
        change(lane);
        let was_empty = self.turns.is_empty();
        if lane.is_empty() {
            // An announcement may have taken the last one with it; its turn, if any, then yields nothing.
            if lane.retired && !lane.waits {
                self.lanes.remove(&id);
            }
        } else if !lane.waits {
            lane.waits = true;
            self.turns.push_back(id);
        }
        was_empty && !self.turns.is_empty()
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn new() -> FairQueue<T> {
        FairQueue {
            state: Mutex::new(State { lanes: BTreeMap::new(), turns: VecDeque::new(), closed: false }),
            arrived: Notify::new(),
        }
    }

    fn change(&self, lane: u64, change: impl FnOnce(&mut Lane<T>)) {
        if lock(&self.state).change(lane, change) {
            self.arrived.notify_one();
        }
    }

    /// Adds items of one class to a lane, in order.
    pub(crate) fn push(&self, lane: u64, class: usize, items: impl IntoIterator<Item = T>) {
        self.change(lane, |lane| lane.classes[class].extend(items));
    }

    /// Adds an announcement, which is delivered before any waiting item of its lane. Undelivered announcements at the
    /// end for which `obsolete` holds are taken back first.
    pub(crate) fn announce(&self, lane: u64, announcement: T, obsolete: impl Fn(&T) -> bool) {
        self.change(lane, |lane| {
            while lane.announcements.back().is_some_and(&obsolete) {
                lane.announcements.pop_back();
            }
            lane.announcements.push_back(announcement);
        });
    }

    /// Adds the last item of a lane, which goes away with it. If `untold` holds for an undelivered announcement and
    /// nothing else waits, the lane goes at once: the consumer never heard of it.
    pub(crate) fn retire(&self, lane: u64, class: usize, last: T, untold: impl Fn(&T) -> bool) {
        self.change(lane, |lane| {
            lane.retired = true;
            let only_untold = lane.announcements.iter().any(untold) && lane.classes.iter().all(VecDeque::is_empty);
            if only_untold {
                lane.announcements.clear();
            } else {
                lane.classes[class].push_back(last);
            }
        });
    }

    /// Ends the queue: what waits is dropped and the receiver told.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.lanes.clear();
        state.turns.clear();
        drop(state);
        self.arrived.notify_one();
    }

    /// The next item, if one waits.
    pub(crate) fn try_pop(&self) -> Option<T> {
        let mut state = lock(&self.state);
        while !state.turns.is_empty() {
            if let Some(item) = state.pop() {
                return Some(item);
            }
        }
        None
    }

    /// Waits for the next item; `None` once closed. For one consumer; cancelling loses nothing.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            if let Some(item) = self.try_pop() {
                return Some(item);
            }
            if lock(&self.state).closed {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    /// Waits for at least one item and moves up to `limit` to `items`; 0 once closed.
    pub(crate) async fn pop_many(&self, items: &mut Vec<T>, limit: usize) -> usize {
        let Some(first) = self.pop().await else { return 0 };
        items.push(first);
        let mut taken = 1;
        let mut state = lock(&self.state);
        while taken < limit && !state.turns.is_empty() {
            if let Some(item) = state.pop() {
                items.push(item);
                taken += 1;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
