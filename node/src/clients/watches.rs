//! Watches: every event of a range from a revision on, in complete revisions, from this replica's executed state.
//!
//! What is sent is a claim about every revision up to where the watch has come: the events at the revisions sent, nothing
//! at those passed over. It depends on the state alone, so honest replicas send equal events and a client can compare
//! them. A watch far behind is fed a page at a time, as fast as its client reads. Watches are fed in turns by key, a
//! bounded amount at a time (see [`Turns`]).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;
use quorate_crypto::encoding::encode;
use quorate_kv::{KeyRange, Operation, OperationError, TableId};
use quorate_protocol::client::message::{ReplicaMessage, WatchUpdate};
use quorate_protocol::request;
use quorate_transport::ConnectionId;

use super::turns::{Turns, UNITS_AT_A_TIME, units_of_bytes};
use super::{Look, Outgoing, PACE, release, wake_by};

/// Watches of one connection.
pub(super) const WATCHES_PER_CONNECTION: usize = 64;
/// Watches of one key, on all its connections.
pub(super) const WATCHES_PER_KEY: usize = 256;
/// Watches of all connections: sixteen keys can have all they may have, and many more a few.
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
    /// Nothing is sent before: its client is left to read what was sent.
    not_before: Instant,
    /// Whether it waits for its turn.
    waits: bool,
}

/// The watches, by connection and by the client's own id.
#[derive(Default)]
pub(super) struct Watches {
    held: BTreeMap<(ConnectionId, u64), Watch>,
    per_key: HashMap<PublicKey, usize>,
    /// Those that something is to be sent of, each once.
    due: Turns<(ConnectionId, u64)>,
    /// The look that all were compared with when they were last looked through.
    compared: u64,
    /// When they are to be looked through again, if no newer look comes.
    wake: Option<Instant>,
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
        self.held.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
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
        let replaced = self.held.get(&(connection, id));
        if replaced.is_none() {
            let own = self.held.range((connection, 0)..=(connection, u64::MAX)).count();
            if own >= WATCHES_PER_CONNECTION {
                return Err("more than 64 watches on one connection");
            }
            if self.per_key.get(&key).is_some_and(|of_key| *of_key >= WATCHES_PER_KEY) {
                return Err("more than 256 watches of one key");
            }
            if self.held.len() >= WATCHES_MAX {
                return Err("the replica has as many watches as it can serve");
            }
        }
        let now = Instant::now();
        let watch = Watch {
            key,
            range: range.range,
            next: from_revision,
            told: from_revision.saturating_sub(1),
            next_progress: now,
            not_before: now,
            waits: replaced.is_some_and(|replaced| replaced.waits),
        };
        if self.held.insert((connection, id), watch).is_none() {
            *self.per_key.entry(key).or_default() += 1;
        }
        wake_by(&mut self.wake, now);
        Ok(())
    }

    pub(super) fn end(&mut self, connection: ConnectionId, id: u64) {
        if self.remove((connection, id)) {
            self.due.retain(|place| *place != (connection, id));
        }
    }

    /// Whether it waited for its turn.
    fn remove(&mut self, place: (ConnectionId, u64)) -> bool {
        let Some(watch) = self.held.remove(&place) else { return false };
        release(&mut self.per_key, watch.key);
        watch.waits
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let ids: Vec<u64> = self.held.range((connection, 0)..=(connection, u64::MAX)).map(|((_, id), _)| *id).collect();
        let mut waited = false;
        for id in ids {
            waited |= self.remove((connection, id));
        }
        if waited {
            self.due.retain(|(other, _)| *other != connection);
        }
    }

    /// Sends a page to some of the watches that are behind `look`. Returns when to come back: at once if more are.
    pub(super) fn serve(&mut self, look: &Look, now: Instant, outgoing: &mut Outgoing) -> Option<Instant> {
        self.look_through(look, now);
        let Watches { held: watches, per_key, due, wake, .. } = self;
        due.work(|place| {
            let Some(watch) = watches.get_mut(&place) else { return 0 };
            watch.waits = false;
            let (fed, units) = watch.serve(place, look, now, outgoing);
            if matches!(fed, Fed::Over) {
                release(per_key, watch.key);
                watches.remove(&place);
            } else if let Some(at) = watch.due(look) {
                wake_by(wake, at);
            }
            units
        });
        if due.is_empty() { self.wake } else { Some(now) }
    }

    /// Gives a turn to each that is due and has none. Only a newer look, or time, makes one due.
    fn look_through(&mut self, look: &Look, now: Instant) {
        let Watches { held: watches, due, compared, wake, .. } = self;
        if *compared == look.revision && wake.is_none_or(|wake| now < wake) {
            return;
        }
        *compared = look.revision;
        *wake = None;
        for (place, watch) in watches.iter_mut().filter(|(_, watch)| !watch.waits) {
            match watch.due(look) {
                Some(at) if at <= now => {
                    watch.waits = true;
                    due.push(watch.key, *place);
                }
                Some(at) => wake_by(wake, at),
                None => {}
            }
        }
    }
}

impl Watch {
    /// When something is to be sent, if no newer look comes.
    fn due(&self, look: &Look) -> Option<Instant> {
        if self.next <= look.revision {
            Some(self.not_before)
        } else if self.owes_progress() {
            Some(self.not_before.max(self.next_progress))
        } else {
            None
        }
    }

    /// Whether there are revisions without events that the client does not know of.
    fn owes_progress(&self) -> bool {
        self.next > self.told.saturating_add(1)
    }

    /// Sends one page, or that nothing happened. Returns the units it took, too.
    fn serve(
        &mut self,
        (connection, id): (ConnectionId, u64),
        look: &Look,
        now: Instant,
        outgoing: &mut Outgoing,
    ) -> (Fed, u64) {
        // One whose connection has ended is forgotten in a moment.
        if outgoing.waiting_bytes(connection).is_none_or(|waiting| waiting > PAUSE_ABOVE_BYTES) {
            self.not_before = now + PACE;
            return (Fed::Behind, 1);
        }
        let from = self.next;
        let mut bytes = 0;
        let mut send = |key, update| {
            if let WatchUpdate::Events { events, .. } = &update {
                bytes += events.len();
            }
            outgoing.send(connection, key, ReplicaMessage::Watch { id, update });
        };
        let fed = self.feed(look, &mut send);
        match fed {
            Fed::Behind => self.not_before = now + PACE,
            Fed::Current if self.owes_progress() && now >= self.next_progress => {
                self.told = self.next - 1;
                self.next_progress = now + PROGRESS_EVERY;
                send(self.key, WatchUpdate::Progress { revision: self.told });
            }
            Fed::Current | Fed::Over => {}
        }
        (fed, 1 + scanned(look, from, self.next) + units_of_bytes(bytes))
    }

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

/// Events of the revisions from `from` to below `to`, which a page of them has looked at; not counted beyond what ends
/// the turn anyway.
fn scanned(look: &Look, from: u64, to: u64) -> u64 {
    let [_, (TableId::EVENTS, events), _] = look.state.store().tables() else { return UNITS_AT_A_TIME };
    events.range(&from.to_be_bytes(), Some(&to.to_be_bytes())).take(UNITS_AT_A_TIME as usize).count() as u64
}

#[cfg(test)]
mod tests;
