//! Requests admitted and not yet executed: fair admission per client key, order of arrival, what to propose next.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::{Digest, PublicKey, ReplicaId};

use crate::engine::RequestNumber;
use crate::parameters::Micros;

/// A place in the order of admission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Ticket(u64);

/// One admitted request.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its digest.
    pub digest: Digest,
    /// Who and which number.
    pub number: RequestNumber,
    /// When it was admitted.
    pub since: Micros,
    /// Bytes it takes in a batch.
    pub weight: usize,
    /// How widely this replica has relayed it.
    pub relayed: Relayed,
    /// The peer on whose word it was admitted beyond its client's share.
    pub vouched_by: Option<ReplicaId>,
}

/// Requests admitted beyond their clients' shares for the sake of one peer.
pub const VOUCHED_MAX: usize = 8;

/// How widely a request was relayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Relayed {
    /// Not yet.
    No,
    /// To the primary.
    ToPrimary,
    /// To every replica.
    ToAll,
}

/// Whether a request may join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may.
    Admit,
    /// It is there already.
    Known,
    /// Its client's share is used up.
    Busy,
}

/// The pending requests.
#[derive(Debug)]
pub struct Pending {
    capacity: usize,
    next: u64,
    queue: BTreeMap<Ticket, Admitted>,
    by_digest: BTreeMap<Digest, Ticket>,
    /// Several requests may claim one number; only one will execute.
    by_number: BTreeMap<RequestNumber, BTreeSet<Ticket>>,
    per_client: BTreeMap<PublicKey, usize>,
    vouched: BTreeMap<ReplicaId, usize>,
    unproposed: BTreeSet<Ticket>,
}

impl Pending {
    /// A pool of at most `capacity` requests and one more for every client that has none.
    pub fn new(capacity: usize) -> Pending {
        Pending {
            capacity,
            next: 0,
            queue: BTreeMap::new(),
            by_digest: BTreeMap::new(),
            by_number: BTreeMap::new(),
            per_client: BTreeMap::new(),
            vouched: BTreeMap::new(),
            unproposed: BTreeSet::new(),
        }
    }

    /// Whether a request of `client` may join. The cap is split per client key: a key with nothing pending is always
    /// admitted; beyond its share of the cap it is told to come back, which starts no timer, so overload never becomes
    /// a view change (protocol.md, PBFT).
    pub fn admission(&self, digest: &Digest, client: &PublicKey) -> Admission {
        if self.by_digest.contains_key(digest) {
            return Admission::Known;
        }
        let own = self.per_client.get(client).copied().unwrap_or(0);
        let clients = self.per_client.len().max(1);
        let share = (self.capacity / clients).max(1);
        if own == 0 || (own < share && self.queue.len() < self.capacity) { Admission::Admit } else { Admission::Busy }
    }

    /// Whether a request that `peer` relays may join although its client's share is used up. The peer's timer runs on it:
    /// a client that fills its share at the primary and asks something else of a backup must not cause a view change. A
    /// lying peer wins [`VOUCHED_MAX`] places.
    pub fn may_vouch(&self, peer: ReplicaId) -> bool {
        self.vouched.get(&peer).copied().unwrap_or(0) < VOUCHED_MAX
    }

    /// Admits a request on the word of `peer`. The caller asked [`Pending::may_vouch`].
    pub fn admit_for(&mut self, peer: ReplicaId, digest: Digest, number: RequestNumber, weight: usize, since: Micros) {
        let ticket = Ticket(self.next);
        self.admit(digest, number, weight, since);
        if let Some(admitted) = self.queue.get_mut(&ticket) {
            admitted.vouched_by = Some(peer);
        }
        *self.vouched.entry(peer).or_insert(0) += 1;
    }

    /// Admits a request. The caller asked [`Pending::admission`].
    pub fn admit(&mut self, digest: Digest, number: RequestNumber, weight: usize, since: Micros) {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.insert(ticket, Admitted { digest, number, since, weight, relayed: Relayed::No, vouched_by: None });
        self.by_digest.insert(digest, ticket);
        self.by_number.entry(number).or_default().insert(ticket);
        *self.per_client.entry(number.client).or_insert(0) += 1;
        self.unproposed.insert(ticket);
    }

    fn remove_ticket(&mut self, ticket: Ticket) -> Option<Digest> {
        let admitted = self.queue.remove(&ticket)?;
        self.by_digest.remove(&admitted.digest);
        self.unproposed.remove(&ticket);
        if let Some(tickets) = self.by_number.get_mut(&admitted.number) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_number.remove(&admitted.number);
            }
        }
        if let Some(count) = admitted.vouched_by.and_then(|peer| self.vouched.get_mut(&peer)) {
            *count -= 1;
        }
        if let Some(count) = self.per_client.get_mut(&admitted.number.client) {
            *count -= 1;
            if *count == 0 {
                self.per_client.remove(&admitted.number.client);
            }
        }
        Some(admitted.digest)
    }

    /// A request of this number was ordered: every pending request that claims the number leaves, whatever its digest,
    /// so an equivocating client causes no view change. Returns the digests that left.
    pub fn ordered(&mut self, digest: &Digest, number: &RequestNumber) -> Vec<Digest> {
        let mut tickets: Vec<Ticket> = self.by_number.get(number).into_iter().flatten().copied().collect();
        let own = self.by_digest.get(digest).copied().filter(|ticket| !tickets.contains(ticket));
        tickets.extend(own);
        tickets.into_iter().filter_map(|ticket| self.remove_ticket(ticket)).collect()
    }

    /// The request will not be ordered: it leaves.
    pub fn remove(&mut self, digest: &Digest) {
        if let Some(ticket) = self.by_digest.get(digest).copied() {
            self.remove_ticket(ticket);
        }
    }

    /// The request stands in a proposal this replica made or accepted.
    pub fn proposed(&mut self, digest: &Digest) {
        if let Some(ticket) = self.by_digest.get(digest) {
            self.unproposed.remove(ticket);
        }
    }

    /// After a view change nothing counts as proposed but what `still` says.
    pub fn reset_proposed(&mut self, still: impl Fn(&Digest) -> bool) {
        self.unproposed =
            self.queue.iter().filter(|(_, admitted)| !still(&admitted.digest)).map(|(ticket, _)| *ticket).collect();
        for admitted in self.queue.values_mut() {
            admitted.relayed = Relayed::No;
        }
    }

    /// Takes the oldest unproposed requests for a batch, within the limits. The first always fits.
    pub fn take_batch(&mut self, count_max: usize, bytes_max: usize) -> Vec<Digest> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for ticket in &self.unproposed {
            let Some(admitted) = self.queue.get(ticket) else { continue };
            if batch.len() == count_max || (!batch.is_empty() && bytes + admitted.weight > bytes_max) {
                break;
            }
            bytes += admitted.weight;
            batch.push((*ticket, admitted.digest));
        }
        for (ticket, _) in &batch {
            self.unproposed.remove(ticket);
        }
        batch.into_iter().map(|(_, digest)| digest).collect()
    }

    /// The oldest request, which the view timer runs on.
    pub fn oldest(&self) -> Option<&Admitted> {
        self.queue.values().next()
    }

    /// The oldest requests, proposed or not: `count` at most, and beyond the first only as far as `bytes_max` goes.
    pub fn oldest_few(&self, count: usize, bytes_max: usize) -> Vec<Digest> {
        let mut bytes = 0;
        let few = self.queue.values().take(count).take_while(|admitted| {
            let fits = bytes == 0 || bytes + admitted.weight <= bytes_max;
            bytes += admitted.weight;
            fits
        });
        few.map(|admitted| admitted.digest).collect()
    }

    /// A timer starts on this request: it is relayed anew, since it may have found no room when it was relayed with others.
    pub fn relay_again(&mut self, digest: &Digest) {
        if let Some(admitted) = self.by_digest.get(digest).and_then(|ticket| self.queue.get_mut(ticket)) {
            admitted.relayed = Relayed::No;
        }
    }

    /// Requests admitted before `since` that no accepted proposal names and that were relayed less widely than `to`, up
    /// to `bytes_max`; they are marked as relayed.
    pub fn to_relay(&mut self, since: Micros, to: Relayed, bytes_max: usize) -> Vec<Digest> {
        let mut relay = Vec::new();
        let mut bytes = 0;
        for ticket in &self.unproposed {
            let Some(admitted) = self.queue.get_mut(ticket) else { continue };
            if admitted.since > since || bytes > bytes_max {
                break;
            }
            if admitted.relayed < to {
                admitted.relayed = to;
                bytes += admitted.weight;
                relay.push(admitted.digest);
            }
        }
        relay
    }

    /// Drops everything; returns what was there.
    pub fn clear(&mut self) -> Vec<Digest> {
        let gone = self.by_digest.keys().copied().collect();
        *self = Pending { next: self.next, ..Pending::new(self.capacity) };
        gone
    }

    /// How many are unproposed.
    pub fn unproposed(&self) -> usize {
        self.unproposed.len()
    }

    /// How many are pending.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether this digest is pending.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.by_digest.contains_key(digest)
    }
}

#[cfg(test)]
mod tests;
