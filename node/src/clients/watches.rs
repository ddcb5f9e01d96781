//! Watches: every event of a range from a revision on, in complete revisions, from this replica's executed state.
//!
//! What is sent is a claim about every revision up to where the watch has come: the events at the revisions sent, nothing
//! at those passed over. It depends on the state alone, so honest replicas send equal events and a client can compare
//! them. A watch far behind is fed a page at a time, as fast as its client reads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;
use quorate_crypto::encoding::encode;
use quorate_kv::{KeyRange, Operation, OperationError};
use quorate_protocol::client::message::{ReplicaMessage, WatchUpdate};
use quorate_protocol::request;
use quorate_transport::ConnectionId;

use super::{Look, Outgoing, PACE, wake_by};

/// Watches of one connection.
pub(super) const WATCHES_PER_CONNECTION: usize = 64;
/// Watches of all connections.
pub(super) const WATCHES_MAX: usize = 4096;
/// Nothing more is sent on a connection with so many bytes waiting, until it reads.
const PAUSE_ABOVE_BYTES: usize = 1 << 20;
/// Events in one page.
const PAGE_EVENTS: usize = 512;
/// How often a watch is told, at most, that nothing happened.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

struct Watch {
    key: PublicKey,
    range: KeyRange,
    /// The first revision that was not looked at.
    next: u64,
    /// Up to here the client knows what happened and what did not.
    told: u64,
    next_progress: Instant,
}

/// The watches, by connection and by the client's own id.
#[derive(Default)]
pub(super) struct Watches {
    watches: BTreeMap<(ConnectionId, u64), Watch>,
}

enum Fed {
    /// It has everything up to the look.
    Current,
    /// There is more, or the client must read first.
    Behind,
    Over,
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    /// Begins a watch, or begins it anew if the id is in use. The range is the one that a `Range` operation of the
    /// key-value service names; its other fields mean nothing here. An error is why the connection is closed.
    pub(super) fn begin(
        &mut self,
        connection: ConnectionId,
        key: PublicKey,
        id: u64,
        range: &request::Operation,
        from_revision: u64,
    ) -> Result<(), &'static str> {
        if range.service != quorate_kv::SERVICE {
            return Err("a watch of a service that has none");
        }
        let Ok(Operation::Range(range)) = Operation::from_bytes(&range.bytes) else {
            return Err("a watch whose range does not decode");
        };
        let own = self.watches.range((connection, 0)..=(connection, u64::MAX)).count();
        if own >= WATCHES_PER_CONNECTION && !self.watches.contains_key(&(connection, id)) {
            return Err("more than 64 watches on one connection");
        }
        if self.watches.len() >= WATCHES_MAX {
            return Err("the replica has as many watches as it can serve");
        }
        let watch = Watch {
            key,
            range: range.range,
            next: from_revision,
            told: from_revision.saturating_sub(1),
            next_progress: Instant::now(),
        };
        self.watches.insert((connection, id), watch);
        Ok(())
    }

    pub(super) fn end(&mut self, connection: ConnectionId, id: u64) {
        self.watches.remove(&(connection, id));
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let ids: Vec<u64> =
            self.watches.range((connection, 0)..=(connection, u64::MAX)).map(|((_, id), _)| *id).collect();
        for id in ids {
            self.watches.remove(&(connection, id));
        }
    }

    /// Sends a page to each watch that is behind `look`. Returns when to come back.
    pub(super) fn serve(&mut self, look: &Look, now: Instant, outgoing: &mut Outgoing) -> Option<Instant> {
        let mut wake = None;
        self.watches.retain(|(connection, id), watch| {
            let Some(waiting) = outgoing.waiting_bytes(*connection) else { return true };
            let fed = if waiting > PAUSE_ABOVE_BYTES {
                Fed::Behind
            } else {
                watch.feed(look, &mut |key, update| {
                    outgoing.send(*connection, key, ReplicaMessage::Watch { id: *id, update });
                })
            };
            match fed {
                Fed::Over => return false,
                Fed::Behind => wake_by(&mut wake, now + PACE),
                Fed::Current if watch.next > watch.told.saturating_add(1) => {
                    if now >= watch.next_progress {
                        watch.told = watch.next - 1;
                        watch.next_progress = now + PROGRESS_EVERY;
                        let update = WatchUpdate::Progress { revision: watch.told };
                        outgoing.send(*connection, watch.key, ReplicaMessage::Watch { id: *id, update });
                    } else {
                        wake_by(&mut wake, watch.next_progress);
                    }
                }
                Fed::Current => {}
            }
            true
        });
        wake
    }
}

impl Watch {
    /// Sends one page of events.
    fn feed(&mut self, look: &Look, send: &mut dyn FnMut(PublicKey, WatchUpdate)) -> Fed {
        if self.next > look.revision {
            return Fed::Current;
        }
        let page = match look.state.store().events_since(self.next, &self.range, PAGE_EVENTS, false) {
            Ok(page) => page,
            Err(OperationError::Compacted { compact_revision }) => {
                send(self.key, WatchUpdate::Compacted { revision: compact_revision });
                return Fed::Over;
            }
            Err(error) => {
                send(self.key, WatchUpdate::Ended(error.to_string()));
                return Fed::Over;
            }
        };
        for list in &page.lists {
            self.told = list.revision;
            send(self.key, WatchUpdate::Events { revision: list.revision, events: encode(list) });
        }
        self.next = page.next_revision;
        if self.next > page.current_revision { Fed::Current } else { Fed::Behind }
    }
}

#[cfg(test)]
mod tests;
