//! What waits to be sent on one class of one link: bounded in bytes, never in the way of the sender.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::FRAME_OVERHEAD_BYTES;
use crate::mutex::lock;

/// What a full queue does with a new frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Makes room by dropping the oldest: newer votes and status make older ones worthless.
    DropOldest,
    /// Does not take it: the sender asks again or the receiver does.
    Refuse,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits, and so many older ones were dropped for it.
    Queued { displaced: usize },
    /// It was not taken.
    Refused,
}

#[derive(Debug)]
pub(crate) struct OutboundQueue {
    state: Mutex<Waiting>,
    arrived: Notify,
    overflow: Overflow,
    /// In bytes, [`FRAME_OVERHEAD_BYTES`] a frame included.
    cap: usize,
    cap_without_link: usize,
}

#[derive(Debug)]
struct Waiting {
    frames: VecDeque<Bytes>,
    /// Sum of [`cost`] over `frames`.
    bytes: usize,
    linked: bool,
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + FRAME_OVERHEAD_BYTES
}

impl OutboundQueue {
    pub(crate) fn new(overflow: Overflow, cap: usize, cap_without_link: usize) -> OutboundQueue {
        OutboundQueue {
            state: Mutex::new(Waiting { frames: VecDeque::new(), bytes: 0, linked: false }),
            arrived: Notify::new(),
            overflow,
            cap,
            cap_without_link,
        }
    }

    /// Adds a frame; at no time does the queue hold more than its cap.
    pub(crate) fn push(&self, frame: Bytes) -> Pushed {
        let mut waiting = lock(&self.state);
        let cap = if waiting.linked { self.cap } else { self.cap_without_link };
        let cost = cost(&frame);
        if cost > cap || (self.overflow == Overflow::Refuse && waiting.bytes + cost > cap) {
            return Pushed::Refused;
        }
        let displaced = waiting.shrink_to(cap - cost);
        let was_empty = waiting.frames.is_empty();
        waiting.bytes += cost;
        waiting.frames.push_back(frame);
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
        Pushed::Queued { displaced }
    }

    /// Tells whether a link is up; without one the smaller cap holds. Returns how many frames were dropped.
    pub(crate) fn set_linked(&self, linked: bool) -> usize {
        let mut waiting = lock(&self.state);
        waiting.linked = linked;
        if linked { 0 } else { waiting.shrink_to(self.cap_without_link) }
    }

    /// Bytes waiting.
    pub(crate) fn waiting_bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Waits for frames and moves the oldest, about `limit` bytes of them and at least one, to `frames`. Cancelling
    /// it loses nothing.
    pub(crate) async fn take(&self, frames: &mut Vec<Bytes>, limit: usize) {
        loop {
            if self.take_now(frames, limit) {
                return;
            }
            self.arrived.notified().await;
        }
    }

    fn take_now(&self, frames: &mut Vec<Bytes>, limit: usize) -> bool {
        let mut waiting = lock(&self.state);
        let mut taken = 0;
        while taken < limit {
            let Some(frame) = waiting.pop() else { break };
            taken += frame.len();
            frames.push(frame);
        }
        if !waiting.frames.is_empty() {
            // Another writer, on a newer link, may be the one to go on.
            self.arrived.notify_one();
        }
        taken > 0
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= cost(&frame);
        Some(frame)
    }

    fn shrink_to(&mut self, bytes: usize) -> usize {
        let mut dropped = 0;
        while self.bytes > bytes && self.pop().is_some() {
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests;
