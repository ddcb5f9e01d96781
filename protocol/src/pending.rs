//! Requests admitted and not yet executed: fair admission per client key, order of arrival, what to propose next.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::{Digest, PublicKey, ReplicaId};

use crate::engine::{Crowd, RequestNumber};
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
    /// When it was first relayed: from then on the primary holds it.
    pub relayed_at: Option<Micros>,
    /// When it was last relayed: a relay may be lost with its link, or find no room.
    pub relayed_last: Micros,
    /// The peer on whose word it was admitted beyond its client's share.
    pub vouched_by: Option<ReplicaId>,
    /// The peer whose timer runs on it and for whose sake it is proposed before others.
    pub urgent_for: Option<ReplicaId>,
}

/// Requests admitted beyond their clients' shares for the sake of one peer.
pub const VOUCHED_MAX: usize = 8;
/// Requests proposed before others for the sake of one peer, at a time.
pub const URGENT_MAX: usize = 8;
/// And so many bytes, beyond the first: large requests must not make the primary propose for one peer alone.
pub const URGENT_BYTES_MAX: usize = 512 * 1024;
/// The oldest unproposed requests are relayed, so many at a time: what is behind them waits for room, not for a relay.
pub const RELAYED_MAX: usize = URGENT_MAX;
/// Bytes of all pending requests together, beyond which a client with something pending is told to come back.
pub const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A key with nothing pending is admitted in any case if its request weighs so little, and beyond it as long as all
/// requests together take no more than twice [`PENDING_BYTES_MAX`]: sixteen thousand keys with a large request each would
/// take all memory.
const LIGHT: usize = 16 * 1024;

/// From so many pending requests of so many keys on, keys share what is left ([`Pending::crowd`]). So many fill the
/// batches; with fewer of either nobody is in another's way.
const CROWD: usize = 32;
/// See [`CROWD`].
const CROWD_KEYS: usize = 8;
/// What every key may have pending in a crowd: the next request is there when the last one is executed.
const CROWD_SHARE_MIN: usize = 2;

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

/// What one client key has pending, or is urgent for one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    requests: usize,
    bytes: usize,
}

/// What is executed soon enough to be taken on, by measurement.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Requests.
    pub requests: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// The pending requests.
#[derive(Debug)]
pub struct Pending {
    capacity: usize,
    per_client_max: usize,
    bytes: usize,
    next: u64,
    queue: BTreeMap<Ticket, Admitted>,
    by_digest: BTreeMap<Digest, Ticket>,
    /// Several requests may claim one number; only one will execute.
    by_number: BTreeMap<RequestNumber, BTreeSet<Ticket>>,
    per_client: BTreeMap<PublicKey, Share>,
    vouched: BTreeMap<ReplicaId, usize>,
    unproposed: BTreeSet<Ticket>,
    /// Those of them that some peer's timer runs on.
    urgent: BTreeSet<Ticket>,
    urgent_share: BTreeMap<ReplicaId, Share>,
    /// Requests admitted after the oldest was relayed, and executed before it.
    overtaken: usize,
}

impl Pending {
    /// A pool of at most `capacity` requests, at most `per_client_max` of one key, and one more for every client that
    /// has none.
    pub fn new(capacity: usize, per_client_max: usize) -> Pending {
        Pending {
            capacity,
            per_client_max,
            bytes: 0,
            next: 0,
            queue: BTreeMap::new(),
            by_digest: BTreeMap::new(),
            by_number: BTreeMap::new(),
            per_client: BTreeMap::new(),
            vouched: BTreeMap::new(),
            unproposed: BTreeSet::new(),
            urgent: BTreeSet::new(),
            urgent_share: BTreeMap::new(),
            overtaken: 0,
        }
    }

    /// How many requests one key may have pending while many keys ask at once: twice the mean of all. `None` while few do.
    /// What is executed is in proportion to what is pending (Little's law), so a key that floods gets twice what the others
    /// get, and not what it asks for. Whoever proposes keeps to it; the others take twice as many, since what it proposes
    /// must be here.
    pub fn crowd(&self, proposes: bool) -> Option<Crowd> {
        let keys = self.per_client.len();
        if self.queue.len() < CROWD || keys < CROWD_KEYS {
            return None;
        }
        let share = (2 * self.queue.len()).div_ceil(keys).max(CROWD_SHARE_MIN);
        let share = if proposes { share } else { 2 * share };
        Some(Crowd { share, mean_weight: self.bytes / self.queue.len() })
    }

    /// Whether a request of `client` may join. The cap is split per client key: a key with nothing pending is always
    /// admitted; beyond its share of the cap it is told to come back, which starts no timer, so overload never becomes
    /// a view change (protocol.md, PBFT). The caps are never more than `room`. `proposes` says whether this replica proposes
    /// at present.
    pub fn admission(
        &self,
        digest: &Digest,
        client: &PublicKey,
        weight: usize,
        room: Room,
        proposes: bool,
    ) -> Admission {
        if self.by_digest.contains_key(digest) {
            return Admission::Known;
        }
        let own = self.per_client.get(client).copied().unwrap_or_default();
        let clients = self.per_client.len().max(1);
        let capacity = self.capacity.min(room.requests);
        let bytes_max = PENDING_BYTES_MAX.min(room.bytes);
        let share = (capacity / clients).clamp(1, self.per_client_max);
        let share = self.crowd(proposes).map_or(share, |crowd| share.min(crowd.share));
        let fits = own.requests < share && self.queue.len() < capacity;
        let fits_bytes = own.bytes < bytes_max / clients && self.bytes < bytes_max;
        let only_one = own.requests == 0 && (weight <= LIGHT || self.bytes + weight <= 2 * PENDING_BYTES_MAX);
        if only_one || (fits && fits_bytes) { Admission::Admit } else { Admission::Busy }
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
        let admitted = Admitted {
            digest,
            number,
            since,
            weight,
            relayed: Relayed::No,
            relayed_at: None,
            relayed_last: 0,
            vouched_by: None,
            urgent_for: None,
        };
        self.queue.insert(ticket, admitted);
        self.bytes += weight;
        self.by_digest.insert(digest, ticket);
        self.by_number.entry(number).or_default().insert(ticket);
        let share = self.per_client.entry(number.client).or_default();
        share.requests += 1;
        share.bytes += weight;
        self.unproposed.insert(ticket);
    }

    /// A peer relays a request that is pending here and not proposed: its timer runs on it, so it is proposed before
    /// others, whose order is the primary's to choose. Otherwise a queue longer than the view timeout, in another order
    /// here than there, would look like censorship. A lying peer moves [`URGENT_MAX`] requests forward at a time.
    pub fn urge(&mut self, peer: ReplicaId, digest: &Digest) {
        let Some(ticket) = self.by_digest.get(digest).copied() else { return };
        if !self.unproposed.contains(&ticket) {
            return;
        }
        let share = self.urgent_share.entry(peer).or_default();
        if let Some(admitted) = self.queue.get_mut(&ticket)
            && admitted.urgent_for.is_none()
            && share.requests < URGENT_MAX
            && (share.requests == 0 || share.bytes + admitted.weight <= URGENT_BYTES_MAX)
        {
            share.requests += 1;
            share.bytes += admitted.weight;
            admitted.urgent_for = Some(peer);
            self.urgent.insert(ticket);
        }
    }

    fn leave_unproposed(&mut self, ticket: Ticket) {
        // A place counts until its request is proposed: the peer's next one must find room while this one executes. It
        // counts again if the proposal loses: else a few more would wait with every failed view.
        if self.unproposed.remove(&ticket)
            && let Some(peer) = self.queue.get(&ticket).and_then(|admitted| admitted.vouched_by)
            && let Some(count) = self.vouched.get_mut(&peer)
        {
            *count -= 1;
        }
        if self.urgent.remove(&ticket)
            && let Some(admitted) = self.queue.get_mut(&ticket)
            && let Some(peer) = admitted.urgent_for.take()
            && let Some(share) = self.urgent_share.get_mut(&peer)
        {
            share.requests -= 1;
            share.bytes -= admitted.weight;
        }
    }

    fn remove_ticket(&mut self, ticket: Ticket) -> Option<Digest> {
        self.leave_unproposed(ticket);
        if self.queue.first_key_value().is_some_and(|(oldest, _)| *oldest == ticket) {
            self.overtaken = 0;
        }
        let admitted = self.queue.remove(&ticket)?;
        self.bytes -= admitted.weight;
        self.by_digest.remove(&admitted.digest);
        if let Some(tickets) = self.by_number.get_mut(&admitted.number) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_number.remove(&admitted.number);
            }
        }
        if let Some(share) = self.per_client.get_mut(&admitted.number.client) {
            share.requests -= 1;
            share.bytes -= admitted.weight;
            if share.requests == 0 {
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
        for ticket in &tickets {
            self.count_overtaking(*ticket);
        }
        tickets.into_iter().filter_map(|ticket| self.remove_ticket(ticket)).collect()
    }

    fn count_overtaking(&mut self, ordered: Ticket) {
        let Some((oldest, waiting)) = self.queue.first_key_value() else { return };
        let relayed_at = waiting.relayed_at;
        if *oldest == ordered {
            self.overtaken = 0;
        } else if let Some(ordered) = self.queue.get(&ordered)
            && relayed_at.is_some_and(|at| ordered.since > at)
        {
            self.overtaken += 1;
        }
    }

    /// How many requests were executed before the oldest although they were admitted after it was handed to the primary.
    pub const fn overtaken(&self) -> usize {
        self.overtaken
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
            self.leave_unproposed(*ticket);
        }
    }

    /// The proposal that named the request lost: it waits again, and is relayed anew.
    pub fn not_proposed(&mut self, digest: &Digest) {
        if let Some(ticket) = self.by_digest.get(digest).copied()
            && let Some(admitted) = self.queue.get_mut(&ticket)
            && self.unproposed.insert(ticket)
        {
            admitted.relayed = Relayed::No;
            if let Some(peer) = admitted.vouched_by {
                *self.vouched.entry(peer).or_insert(0) += 1;
            }
        }
    }

    /// After a view change nothing counts as proposed but what `still` says.
    pub fn reset_proposed(&mut self, still: impl Fn(&Digest) -> bool) {
        self.unproposed =
            self.queue.iter().filter(|(_, admitted)| !still(&admitted.digest)).map(|(ticket, _)| *ticket).collect();
        self.vouched.clear();
        for peer in self.unproposed.iter().filter_map(|ticket| self.queue.get(ticket)?.vouched_by) {
            *self.vouched.entry(peer).or_insert(0) += 1;
        }
        self.urgent.clear();
        self.urgent_share.clear();
        for admitted in self.queue.values_mut() {
            admitted.relayed = Relayed::No;
            admitted.relayed_at = None;
            admitted.urgent_for = None;
        }
        self.overtaken = 0;
    }

    /// Takes the oldest unproposed requests for a batch, within the limits, before all others those that peers' timers
    /// run on. The first always fits.
    pub fn take_batch(&mut self, count_max: usize, bytes_max: usize) -> Vec<Digest> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let others = self.unproposed.iter().filter(|ticket| !self.urgent.contains(ticket));
        for ticket in self.urgent.iter().chain(others) {
            let Some(admitted) = self.queue.get(ticket) else { continue };
            if batch.len() == count_max || (!batch.is_empty() && bytes + admitted.weight > bytes_max) {
                break;
            }
            bytes += admitted.weight;
            batch.push((*ticket, admitted.digest));
        }
        for (ticket, _) in &batch {
            self.leave_unproposed(*ticket);
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

    /// Of the oldest [`RELAYED_MAX`] requests that no accepted proposal names, those admitted before `since` and relayed
    /// less widely than `to`, or so widely `again` ago, up to `bytes_max`; they are marked as relayed `now`.
    pub fn to_relay(
        &mut self,
        now: Micros,
        since: Micros,
        to: Relayed,
        again: Micros,
        bytes_max: usize,
    ) -> Vec<Digest> {
        let mut relay = Vec::new();
        let mut bytes = 0;
        for ticket in self.unproposed.iter().take(RELAYED_MAX) {
            let Some(admitted) = self.queue.get_mut(ticket) else { continue };
            if admitted.since > since || bytes > bytes_max {
                break;
            }
            if admitted.relayed < to || admitted.relayed_last.saturating_add(again) <= now {
                admitted.relayed = admitted.relayed.max(to);
                admitted.relayed_last = now;
                admitted.relayed_at.get_or_insert(now);
                bytes += admitted.weight;
                relay.push(admitted.digest);
            }
        }
        relay
    }

    /// Drops everything; returns what was there.
    pub fn clear(&mut self) -> Vec<Digest> {
        let gone = self.by_digest.keys().copied().collect();
        *self = Pending { next: self.next, ..Pending::new(self.capacity, self.per_client_max) };
        gone
    }

    /// When the oldest unproposed request that was not relayed yet was admitted.
    pub fn unrelayed_since(&self) -> Option<Micros> {
        let oldest = self.unproposed.iter().take(RELAYED_MAX).filter_map(|ticket| self.queue.get(ticket));
        oldest.filter(|admitted| admitted.relayed == Relayed::No).map(|admitted| admitted.since).next()
    }

    /// When the oldest unproposed request was admitted.
    pub fn unproposed_since(&self) -> Option<Micros> {
        self.unproposed.first().and_then(|ticket| self.queue.get(ticket)).map(|admitted| admitted.since)
    }

    /// Of the oldest [`RELAYED_MAX`] unproposed requests, those the primary was handed before `before`.
    fn handed(&self, before: Micros) -> impl Iterator<Item = &Admitted> {
        let oldest = self.unproposed.iter().take(RELAYED_MAX).filter_map(|ticket| self.queue.get(ticket));
        oldest.filter(move |admitted| admitted.relayed_at.is_some_and(|at| at <= before))
    }

    /// How many of them together weigh `bytes_max` at most: so many any batch has room for.
    pub fn handed_over(&self, before: Micros, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let light = self.handed(before).take_while(|admitted| {
            bytes += admitted.weight;
            bytes <= bytes_max
        });
        light.count()
    }

    /// Whether the primary was handed any of them, of whatever weight.
    pub fn was_handed(&self, before: Micros) -> bool {
        self.handed(before).next().is_some()
    }

    /// Of these requests, how many are pending and unproposed, and what they weigh: neither what executed long ago nor
    /// what was proposed before counts.
    pub fn unproposed_among(&self, digests: &[Digest]) -> (usize, usize) {
        let tickets = digests.iter().filter_map(|digest| self.by_digest.get(digest));
        let taken =
            tickets.filter(|ticket| self.unproposed.contains(ticket)).filter_map(|ticket| self.queue.get(ticket));
        taken.fold((0, 0), |(count, bytes), admitted| (count + 1, bytes + admitted.weight))
    }

    /// How many are unproposed.
    pub fn unproposed(&self) -> usize {
        self.unproposed.len()
    }

    /// How many are pending.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// What all pending requests weigh.
    pub const fn bytes(&self) -> usize {
        self.bytes
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
