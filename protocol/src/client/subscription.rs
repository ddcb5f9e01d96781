//! A watch: revision r is delivered when f + 1 replicas sent equal events for all of it.
//!
//! A replica's subscription is a claim about every revision up to where it has come: events at the revisions it sent,
//! nothing at those it went past. So silence is counted like speech, and a liar that leaves out, invents, changes or
//! repeats events changes nothing that is delivered and delays nothing that honest replicas sent.
//!
//! ```text
//!   next ──►            12         13         14         15
//!   replica 0   ......  nothing    nothing    events A   (covered 15)
//!   replica 1   ......  nothing    nothing    events A   nothing   (covered 16)
//!   replica 2   ......  (covered 12)
//!   replica 3   ......  events X   ...                             a liar
//!   delivered           events A of 14, which also says that 12 and 13 were quiet; replica 3 is accused of revision 12
//! ```

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::{Committee, ReplicaId};

use crate::client::accusation::Contradiction;
use crate::client::agreed_time::nth_highest;
use crate::client::message::WatchUpdate;
use crate::parameters::Micros;
use crate::request::Operation;

mod repetition;
mod stream;

use repetition::Repetition;
use stream::{Notice, Stream};

/// Bytes of events held per replica and watch that are not delivered yet: 8 MiB. A replica further ahead is unsubscribed
/// until the others catch up.
pub const AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Revisions with events held per replica and watch.
pub const AHEAD_REVISIONS_MAX: usize = 4096;
/// How long to wait before subscribing again where a subscription ended.
pub const RESUBSCRIBE_AFTER: Micros = 500_000;
/// What one held revision costs beside its events, for the cap.
const HELD_OVERHEAD: usize = 64;
/// Longest reason kept when a replica ends a subscription, characters.
const REASON_CHARACTERS_MAX: usize = 256;

/// What a watch delivers, in ascending order of revisions, each at most once, none left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Every event of one revision in the range.
    Events {
        /// The revision.
        revision: u64,
        /// The events, in the service's encoding.
        events: Vec<u8>,
    },
    /// Nothing else happened in the range up to and including this revision. Not told where events follow at once.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The history asked for is gone, and the watch ends: f + 1 replicas have compacted it.
    Compacted {
        /// Every revision below this one is compacted.
        revision: u64,
    },
    /// f + 1 replicas refuse the subscription, and the watch ends.
    Ended {
        /// One replica's reason.
        reason: String,
    },
}

/// What one input led to.
#[derive(Debug, Default)]
pub(super) struct Progressed {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) accusations: Vec<(ReplicaId, Contradiction)>,
    /// The last delivery ends the watch.
    pub(super) over: bool,
}

/// The question where replicas stand.
#[derive(Clone, Debug)]
struct Question {
    wire: u64,
    repetition: Repetition,
}

/// One watch: the state behind a ticket.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) range: Operation,
    /// The lowest revision not delivered; none until it is known where "now" is.
    next: Option<u64>,
    /// The question where that is; none once it is known.
    question: Option<Question>,
    /// Revisions that replicas reported while that is not known.
    located: BTreeMap<ReplicaId, u64>,
    streams: BTreeMap<ReplicaId, Stream>,
}

impl Subscription {
    /// A watch from `from` on.
    pub(super) fn new(range: Operation, from: u64) -> Subscription {
        let next = Some(from.max(1));
        Subscription { range, next, question: None, located: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// A watch of everything after now; all replicas are being asked under `wire` where they stand.
    pub(super) fn from_now(range: Operation, wire: u64, now: Micros) -> Subscription {
        let question = Some(Question { wire, repetition: Repetition::new(now) });
        Subscription { range, next: None, question, located: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// If it is time to ask again where replicas stand: under which id.
    pub(super) fn ask_again(&mut self, now: Micros) -> Option<u64> {
        let question = self.question.as_mut()?;
        question.repetition.take(now).then_some(question.wire)
    }

    /// Whether `replica` has said where it stands.
    pub(super) fn has_located(&self, replica: ReplicaId) -> bool {
        self.located.contains_key(&replica)
    }

    /// Whether it is still to be found out where to start.
    pub(super) fn is_locating(&self) -> bool {
        self.next.is_none()
    }

    /// `from` stands at `revision`. Once a quorum said where it stands, the watch starts behind the (f + 1)-th highest:
    /// that is no further than an honest replica had come, so no write that began after the watch is missed.
    pub(super) fn locate(&mut self, from: ReplicaId, revision: u64, committee: &Committee) {
        self.located.insert(from, revision);
        if self.next.is_none() && self.located.len() >= committee.quorum() {
            self.next = nth_highest(self.located.values().copied().collect(), committee.one_honest())
                .map(|revision| revision.saturating_add(1));
            self.question = None;
        }
    }

    /// If `replica` should be subscribed to now, or once more: from which revision.
    pub(super) fn due(&self, replica: ReplicaId, now: Micros) -> Option<u64> {
        let next = self.next?;
        match self.streams.get(&replica) {
            None => Some(next),
            Some(stream) => stream.is_due(now).then(|| stream.covered.max(next)),
        }
    }

    /// When one of `connected` is to be subscribed to again, or asked again where it stands.
    pub(super) fn wake(&self, connected: &BTreeSet<ReplicaId>) -> Option<Micros> {
        let streams = self.streams.iter().filter(|(replica, _)| connected.contains(replica));
        let question = self.question.as_ref().map(|question| question.repetition.at());
        streams.filter_map(|(_, stream)| stream.wake()).chain(question).min()
    }

    /// `replica` is being asked for everything from `from` on, under `wire`.
    pub(super) fn subscribed(&mut self, replica: ReplicaId, wire: u64, from: u64, now: Micros) {
        self.streams.entry(replica).or_default().open(wire, from, now);
    }

    /// The id under which `replica` is subscribed to.
    pub(super) fn wire(&self, replica: ReplicaId) -> Option<u64> {
        self.streams.get(&replica).and_then(|stream| stream.wire)
    }

    /// The link to `replica` went down. What it claimed stays claimed.
    pub(super) fn disconnected(&mut self, replica: ReplicaId) {
        if let Some(stream) = self.streams.get_mut(&replica) {
            stream.close();
        }
    }

    /// Takes an update that came by `replica`'s link under `wire`.
    pub(super) fn update(
        &mut self,
        replica: ReplicaId,
        wire: u64,
        update: WatchUpdate,
        now: Micros,
        out: &mut Progressed,
    ) {
        let Some(next) = self.next else { return };
        let Some(stream) = self.streams.get_mut(&replica).filter(|stream| stream.wire == Some(wire)) else { return };
        stream.answered();
        match update {
            WatchUpdate::Events { revision, .. } if revision < stream.covered => {
                if !stream.may_come_again(revision) && stream.accuse() {
                    out.accusations.push((replica, Contradiction::RepeatedEvents { revision }));
                }
            }
            WatchUpdate::Events { revision, .. } if revision < next => {
                // Delivered already on the word of others, and `covered` never lies below `next` on an honest stream.
                stream.covered = revision.saturating_add(1);
            }
            WatchUpdate::Events { revision, events } => stream.push(revision, events),
            WatchUpdate::Progress { revision } => stream.quiet_through(revision),
            WatchUpdate::Compacted { revision } => stream.end(Notice::Compacted(revision), now),
            WatchUpdate::Ended(reason) => {
                stream.end(Notice::Ended(reason.chars().take(REASON_CHARACTERS_MAX).collect()), now);
            }
        }
    }

    /// Whether more is held of `replica` than the caps allow.
    pub(super) fn is_too_far_ahead(&self, replica: ReplicaId) -> bool {
        self.streams.get(&replica).is_some_and(Stream::is_full)
    }

    /// Ends the subscription of a replica that is too far ahead; it goes on when half of what is held was delivered.
    pub(super) fn pause(&mut self, replica: ReplicaId) {
        self.disconnected(replica);
    }

    /// Delivers whatever f + 1 replicas agree on.
    pub(super) fn advance(&mut self, committee: &Committee, out: &mut Progressed) {
        let Some(start) = self.next else { return };
        let needed = committee.one_honest();
        let mut next = start;
        let mut quiet_through = None;
        loop {
            if let Some(quiet_until) = self.quiet_until(needed).filter(|until| *until > next) {
                self.pass(next, quiet_until, out);
                next = quiet_until;
                quiet_through = Some(next - 1);
            }
            let Some(events) = self.agreed_events(next, needed) else { break };
            self.accuse_dissenters(next, &events, out);
            out.deliveries.push(Delivery::Events { revision: next, events });
            quiet_through = None;
            let Some(after) = next.checked_add(1) else { break };
            for stream in self.streams.values_mut() {
                stream.forget_below(after);
            }
            next = after;
        }
        if let Some(revision) = quiet_through {
            out.deliveries.push(Delivery::Progress { revision });
        }
        self.next = Some(next);
        if let Some(end) = self.agreed_end(next, needed) {
            out.deliveries.push(end);
            out.over = true;
        }
    }

    /// f + 1 replicas say that nothing happened in the range before this revision and from `next` on.
    fn quiet_until(&self, needed: usize) -> Option<u64> {
        nth_highest(self.streams.values().map(Stream::quiet_until).collect(), needed)
    }

    /// Goes past the quiet revisions `[from, until)`; whoever claims events there is contradicted by f + 1 replicas.
    fn pass(&mut self, from: u64, until: u64, out: &mut Progressed) {
        for (replica, stream) in &mut self.streams {
            let forged = stream.first_events().filter(|revision| (from..until).contains(revision));
            if let Some(revision) = forged
                && stream.accuse()
            {
                out.accusations.push((*replica, Contradiction::ForgedEvents { revision }));
            }
            stream.forget_below(until);
        }
    }

    /// The events of `revision` that at least `needed` replicas sent alike.
    fn agreed_events(&self, revision: u64, needed: usize) -> Option<Vec<u8>> {
        let claims: Vec<&Vec<u8>> = self.streams.values().filter_map(|stream| stream.events(revision)).collect();
        claims
            .iter()
            .find(|events| claims.iter().filter(|other| other == events).count() >= needed)
            .map(|events| (*events).clone())
    }

    fn accuse_dissenters(&mut self, revision: u64, accepted: &[u8], out: &mut Progressed) {
        for (replica, stream) in &mut self.streams {
            if stream.covered <= revision {
                continue;
            }
            let contradiction = match stream.events(revision) {
                Some(events) if events == accepted => continue,
                Some(_) => Contradiction::ForgedEvents { revision },
                None => Contradiction::SkippedEvents { revision },
            };
            if stream.accuse() {
                out.accusations.push((*replica, contradiction));
            }
        }
    }

    /// Whether f + 1 replicas ended the watch: by compaction above `next`, or by refusing it.
    fn agreed_end(&self, next: u64, needed: usize) -> Option<Delivery> {
        let compacted = self.streams.values().filter_map(|stream| match stream.notice {
            Some(Notice::Compacted(revision)) if revision > next => Some(revision),
            _ => None,
        });
        if let Some(revision) = nth_highest(compacted.collect(), needed) {
            return Some(Delivery::Compacted { revision });
        }
        let reasons: Vec<&String> = self
            .streams
            .values()
            .filter_map(|stream| match &stream.notice {
                Some(Notice::Ended(reason)) => Some(reason),
                _ => None,
            })
            .collect();
        (reasons.len() >= needed)
            .then(|| Delivery::Ended { reason: reasons.first().map(ToString::to_string).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests;
