//! STATUS, re-sending, fetching: nothing relies on a message having arrived once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Seq};

use crate::engine::{Now, Recipients};
use crate::message::{Committed, FETCH_MAX, Message, PrePrepare, STATUS_SLOTS_MAX, SlotStatus, Status};
use crate::parameters::Micros;
use crate::pbft::Replica;
use crate::pbft::normal_case::FETCH_PATIENCE;
use crate::pbft::slot::Slot;
use crate::proposal::Proposal;
use crate::rejoin::Rejoined;
use crate::state::Snapshot;

/// A missing body or proposal is asked for again after this long, longer with every attempt.
const FETCH_INTERVAL: Micros = 20_000;
/// Bodies asked for and not here yet, beyond which later numbers wait: whoever lags by hundreds of numbers would otherwise
/// ask for the same bodies from everybody long before the answers are verified.
const BODIES_UNDER_WAY: usize = FETCH_MAX;
/// What a number lacks that was asked about more often counts no more: it may be made up.
const TRIES_COUNTED: u32 = 5;
/// Decided numbers handed to a laggard at once.
const CERTIFICATES_PER_ANSWER: usize = 32;
/// Requests that the proposals in one answer name.
const NAMES_PER_ANSWER: usize = 32 * 1024;

impl Replica {
    pub(super) fn handle_timer(&mut self, now: Now) {
        self.check_timer(now);
        self.try_new_view(now);
        self.try_awaited(now);
        self.end_turn(now);
    }

    pub(super) fn end_turn(&mut self, now: Now) {
        if self.foundation.take_found_state() {
            self.vouch_for_held(now);
        }
        self.use_new_bodies(now);
        self.check_attempt();
        self.foundation.tend_rejoin(now);
        self.propose(now);
        self.tend_timer(now);
        self.tend_relays(now);
        self.tend_monitor(now);
        self.tend_fetches(now);
        self.foundation.tend_transfer(now);
        self.tend_status(now);
    }

    pub(super) fn next_wake(&self) -> Option<Micros> {
        let fetch = self.slots.values().filter_map(|slot| slot.fetch).map(|(at, _)| at).min();
        let transfer = self.foundation.next_transfer();
        let awaited = self.next_awaited_fetch();
        let look = self.monitor.look_again(self.foundation.parameters().view_timeout).filter(|_| self.watches());
        [
            Some(self.foundation.next_status),
            self.timer_deadline(),
            fetch,
            transfer,
            awaited,
            self.foundation.next_rejoin(),
            look,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn tend_status(&mut self, now: Now) {
        let busy = !self.entered || self.slots.range(self.foundation.executed.next()..).next().is_some();
        if !self.foundation.status_is_due(now, busy) {
            return;
        }
        let status = self.own_status();
        self.foundation.send(Recipients::Others, Message::Status(status), None);
    }

    /// Where this replica stands, in the form peers get it.
    pub fn own_status(&self) -> Status {
        let slots = self
            .slots
            .range(self.foundation.executed.next()..)
            .filter(|(_, slot)| slot.committed.is_none())
            .take(STATUS_SLOTS_MAX)
            .map(|(seq, slot)| {
                let round = slot.rounds.get(&self.view);
                let bits = |authors: &mut dyn Iterator<Item = ReplicaId>| {
                    authors.fold(0, |bits, id| bits | self.foundation.bit(id))
                };
                SlotStatus {
                    seq: *seq,
                    pre_prepared: round.is_some_and(|round| round.pre_prepare.is_some()),
                    prepares: round.map_or(0, |round| bits(&mut round.prepares.keys().copied())),
                    commits: round.map_or(0, |round| bits(&mut round.commits.keys().copied())),
                }
            })
            .collect();
        let mut missing_requests = Vec::new();
        // Everybody answers this, so it is for what the next number lacks; more is asked for one by one.
        if let Some(lacking) = self
            .slots
            .range(self.foundation.delivered.next()..)
            .filter(|(seq, _)| !self.is_given_up(**seq))
            .map(|(_, slot)| self.bodies_lacking(slot))
            .find(|lacking| !lacking.is_empty())
        {
            missing_requests = lacking;
        }
        missing_requests.truncate(FETCH_MAX);
        Status {
            view: self.view,
            entered: self.entered,
            stable: self.foundation.stable(),
            executed: self.foundation.executed,
            view_changes: self
                .view_changes
                .values()
                .filter(|message| message.view() == self.view)
                .fold(0, |bits, message| bits | self.foundation.bit(message.author())),
            slots,
            missing_requests,
            missing_proposals: self.wanted_proposals.keys().take(FETCH_MAX).copied().collect(),
            suspects: self.suspects_primary() && !self.foundation.is_rejoining(),
        }
    }

    pub(super) fn handle_status(&mut self, now: Now, from: ReplicaId, status: Status) {
        let bit = self.foundation.bit(self.foundation.id());
        if status.suspects {
            self.suspicions.insert(from, status.view);
        } else {
            self.suspicions.remove(&from);
        }
        let Some(need) = self.foundation.heed_status(now, from, status.stable, status.executed) else { return };
        self.answer_view(from, &status, bit);
        self.foundation.answer_checkpoints(from, status.stable, need);
        if need.lags {
            self.answer_slots(from, &status, bit);
        }
        if !status.missing_requests.is_empty() {
            let clients = self.foundation.answer_fetch_requests(now, from, &status.missing_requests);
            self.note_scarce(now, &clients);
        }
        if !status.missing_proposals.is_empty() {
            self.answer_fetch_proposals(now, from, &status.missing_proposals);
        }
    }

    /// Helps a peer to this replica's view: the NEW-VIEW, or the own VIEW-CHANGE.
    fn answer_view(&mut self, from: ReplicaId, status: &Status, bit: u128) {
        let needs_view = status.view < self.view || (status.view == self.view && !status.entered);
        if !needs_view {
            return;
        }
        if let Some((new_view, record)) = self.current_new_view() {
            let (message, record) = (Message::NewView(new_view.clone()), record);
            self.foundation.send(Recipients::One(from), message, record);
        } else if !self.entered
            && (status.view < self.view || status.view_changes & bit == 0)
            && let Some(message) = self.own_view_change.clone()
            && !alive(Mutant::ViewChangeOnce)
        {
            let record = self.own_view_change_record;
            self.foundation.send(Recipients::One(from), Message::ViewChange(message), record);
        }
    }

    /// Re-sends what the peer lacks at numbers it has not executed: certificates, or the own recorded votes.
    fn answer_slots(&mut self, from: ReplicaId, status: &Status, bit: u128) {
        let known: BTreeMap<Seq, &SlotStatus> = status.slots.iter().map(|slot| (slot.seq, slot)).collect();
        let same_view = status.view == self.view && status.entered && self.entered;
        let mut certificates = 0;
        let mut answers = Vec::new();
        for (seq, slot) in self.slots.range(status.executed.next()..).take(STATUS_SLOTS_MAX) {
            if let (Some(certificate), Some(proposal)) = (&slot.committed, slot.decided_proposal()) {
                if certificates < CERTIFICATES_PER_ANSWER {
                    certificates += 1;
                    let committed = Committed { certificate: certificate.clone(), proposal: proposal.clone() };
                    answers.push((Message::CommitCertificate(committed), None));
                }
                continue;
            }
            let Some(round) = slot.rounds.get(&self.view).filter(|_| same_view) else { continue };
            let held = known.get(seq);
            if self.leads()
                && !held.is_some_and(|held| held.pre_prepared)
                && let Some(signed) = round.pre_prepare
                && let Some(proposal) = round.ballot().and_then(|ballot| slot.proposals.get(&ballot.digest)).cloned()
            {
                answers.push((Message::PrePrepare(PrePrepare { signed, proposal }), round.vote_record));
            }
            if held.is_none_or(|held| held.prepares & bit == 0)
                && let Some(prepare) = round.prepares.get(&self.foundation.id())
            {
                answers.push((Message::Prepare(*prepare), round.vote_record));
            }
            if held.is_none_or(|held| held.commits & bit == 0)
                && let Some(commit) = round.commits.get(&self.foundation.id())
            {
                answers.push((Message::Commit(*commit), slot.own_commit_record));
            }
        }
        for (message, after) in answers {
            self.foundation.send(Recipients::One(from), message, after);
        }
    }

    pub(super) fn answer_fetch_proposals(&mut self, now: Now, from: ReplicaId, digests: &[Digest]) {
        if !self.foundation.may_answer_bulk(now, from) {
            return;
        }
        // One pass over the slots: a thousand unknown digests must not cost a thousand searches.
        let mut asked: BTreeSet<&Digest> = digests.iter().collect();
        let mut requests_named = 0;
        let mut found = Vec::new();
        let held = self.slots.values().flat_map(|slot| &slot.proposals);
        for (digest, proposal) in held {
            if !asked.remove(digest) {
                continue;
            }
            requests_named += proposal.requests().len();
            if requests_named > NAMES_PER_ANSWER && !found.is_empty() {
                break;
            }
            found.push(proposal.clone());
        }
        if !found.is_empty() {
            self.foundation.charge(from, 32 * requests_named);
            self.foundation.send(Recipients::One(from), Message::Proposals(found), None);
        }
    }

    /// Proposals asked for by digest; one that nobody asked for is ignored.
    pub(super) fn handle_proposals(&mut self, now: Now, proposals: Vec<Proposal>) {
        for proposal in proposals {
            let Some(seqs) = self.wanted_proposals.get(&proposal.digest()).cloned() else { continue };
            for seq in seqs {
                self.learn_proposal(seq, proposal.clone());
                self.want_missing(now, seq, 0);
            }
        }
        self.advance_all(now);
        self.try_new_view(now);
    }

    /// Notes what a slot lacks, to be asked for after `patience`.
    pub(super) fn want_missing(&mut self, now: Now, seq: Seq, patience: Micros) {
        let Some(slot) = self.slots.get(&seq) else { return };
        let needed: Vec<Digest> = slot.needed_proposals().collect();
        let mut lacks = false;
        for digest in needed {
            match self.slots.get(&seq).and_then(|slot| slot.proposals.get(&digest)) {
                Some(proposal) => lacks |= !self.foundation.bodies_held(proposal),
                None => match self.find_proposal(seq, &digest) {
                    Some(proposal) => {
                        lacks |= !self.foundation.bodies_held(&proposal);
                        self.learn_proposal(seq, proposal);
                    }
                    None => {
                        lacks = true;
                        self.wanted_proposals.entry(digest).or_default().insert(seq);
                    }
                },
            }
        }
        if lacks {
            self.slot(seq).fetch.get_or_insert((now.monotonic + patience, 0));
        }
    }

    fn tend_fetches(&mut self, now: Now) {
        if alive(Mutant::BodiesNotFetched) {
            return;
        }
        let mut due: Vec<(Seq, u32)> = self
            .slots
            .iter()
            .filter_map(|(seq, slot)| slot.fetch.filter(|(at, _)| *at <= now.monotonic).map(|(_, tries)| (*seq, tries)))
            .collect();
        if !self.entered {
            // What a view opens with is needed as a whole: whoever lacks little comes first, and none is asked for twice
            // before each was once.
            let few = |seq: &Seq| self.slots.get(seq).map_or(0, |slot| self.bodies_lacking(slot).len());
            due.sort_by_cached_key(|(seq, tries)| (*tries, few(seq), *seq));
        }
        // What is decided and what is not are counted apart: a primary may name what does not exist, and that must not keep
        // this replica from what others have decided.
        let mut under_way: BTreeMap<bool, usize> = BTreeMap::new();
        let next = self.foundation.delivered.next();
        let mut requests: BTreeMap<ReplicaId, Vec<Digest>> = BTreeMap::new();
        let mut proposals: BTreeMap<ReplicaId, Vec<Digest>> = BTreeMap::new();
        for (seq, tries) in due {
            if seq <= self.foundation.delivered && seq <= self.foundation.stable() {
                // A state that was fetched covers it.
                self.slot(seq).fetch = None;
                continue;
            }
            let decided = self.slots.get(&seq).is_some_and(|slot| slot.committed.is_some());
            // A view that is not entered yet may need everything that it opens with.
            let waits = tries == 0 && seq != next && (self.entered || decided) && {
                let count = under_way.entry(decided).or_insert_with(|| self.bodies_under_way(now, decided));
                *count >= BODIES_UNDER_WAY
            };
            if waits || self.is_given_up(seq) {
                self.slot(seq).fetch = Some((now.monotonic + FETCH_INTERVAL, tries));
                continue;
            }
            let peer = self.fetch_source(seq, tries);
            let Some(slot) = self.slots.get(&seq) else { continue };
            let wanted_bodies = self.bodies_lacking(slot);
            let wanted_proposals: Vec<Digest> = self
                .wanted_proposals
                .iter()
                .filter(|(_, seqs)| seqs.contains(&seq))
                .map(|(digest, _)| *digest)
                .collect();
            if wanted_bodies.is_empty() && wanted_proposals.is_empty() {
                self.slot(seq).fetch = None;
                continue;
            }
            let asked = requests.entry(peer).or_default();
            if !asked.is_empty() && asked.len() + wanted_bodies.len() > FETCH_MAX {
                // No room in this question, so that it was not asked for.
                self.slot(seq).fetch = Some((now.monotonic + FETCH_INTERVAL, tries));
                continue;
            }
            let wait = FETCH_INTERVAL * u64::from(tries + 1).min(10);
            self.slot(seq).fetch = Some((now.monotonic + wait, tries.saturating_add(1)));
            if tries < TRIES_COUNTED
                && let Some(count) = under_way.get_mut(&decided)
            {
                *count += wanted_bodies.len();
            }
            asked.extend(wanted_bodies);
            proposals.entry(peer).or_default().extend(wanted_proposals);
        }
        for (peer, mut digests) in requests {
            digests.truncate(FETCH_MAX);
            if !digests.is_empty() {
                self.foundation.send(Recipients::One(peer), Message::FetchRequests(digests), None);
            }
        }
        for (peer, mut digests) in proposals {
            digests.truncate(FETCH_MAX);
            if !digests.is_empty() {
                self.foundation.send(Recipients::One(peer), Message::FetchProposals(digests), None);
            }
        }
    }

    /// The bodies that the proposals of a number name and that are not here; once it is decided, those of what was decided.
    fn bodies_lacking(&self, slot: &Slot) -> Vec<Digest> {
        match slot.committed.as_ref().and_then(|_| slot.decided_proposal()) {
            Some(decided) => self.foundation.lacking(decided).collect(),
            None => slot.proposals.values().flat_map(|proposal| self.foundation.lacking(proposal)).collect(),
        }
    }

    /// How many bodies of numbers that are decided, or of those that are not, were asked for lately and have not come.
    fn bodies_under_way(&self, now: Now, decided: bool) -> usize {
        let asked = |slot: &&Slot| {
            slot.committed.is_some() == decided
                && slot.fetch.is_some_and(|(at, tries)| at > now.monotonic && (1..=TRIES_COUNTED).contains(&tries))
        };
        self.slots.values().filter(asked).map(|slot| self.bodies_lacking(slot).len()).sum()
    }

    /// Whether this replica passes the number with the state it has to fetch: others have cut what lies below their stable
    /// checkpoint, and some number before it is gone.
    fn is_given_up(&self, seq: Seq) -> bool {
        let stable = self.foundation.stable();
        seq <= stable && stable.0 > self.foundation.delivered.0 + self.foundation.parameters().window
    }

    /// Whom to ask: the primary every other time, since it may be the only one that was given what it named; everyone in
    /// turn in between. What is decided f + 1 honest replicas hold, and the primary has enough to do.
    fn fetch_source(&self, seq: Seq, tries: u32) -> ReplicaId {
        let others: Vec<ReplicaId> = self.foundation.others().collect();
        let decided = self.slots.get(&seq).is_some_and(|slot| slot.committed.is_some());
        if tries.is_multiple_of(2) && !self.leads() && !decided {
            return self.primary();
        }
        let turn = if self.leads() || decided { tries } else { tries / 2 };
        others[(self.foundation.id().index() + seq.0 as usize % others.len() + turn as usize) % others.len()]
    }

    /// The next number to be delivered asks for its bodies anew, its primary first: asked for together with those of the
    /// numbers before, they found no room in the answers. One that waited for others to come is asked for as if it had just
    /// been proposed.
    pub(super) fn hasten_fetch(&mut self, seq: Seq) {
        let now = self.foundation.last_step;
        if let Some((at, tries)) = self.slots.get_mut(&seq).and_then(|slot| slot.fetch.as_mut()) {
            *at = if *tries > 0 { now } else { (*at).min(now + FETCH_PATIENCE) };
            *tries = 0;
        }
    }

    pub(super) fn handle_transfer(&mut self, now: Now, from: ReplicaId, part: Message) {
        if let Some(snapshot) = self.foundation.take_part(from, part) {
            self.install(now, snapshot);
        }
        self.foundation.tend_transfer(now);
    }

    fn install(&mut self, now: Now, snapshot: Snapshot) {
        if !self.foundation.stand_at(&snapshot) {
            return;
        }
        self.next_seq = self.next_seq.max(snapshot.seq.next());
        self.timer = self.timer.filter(|_| !self.entered);
        // At once: whoever counts as executed a Rejoin it does not know yet would enter a view that the Rejoin closes.
        self.learn_lives(now, Rejoined::of_snapshot(&snapshot), false);
        self.heed_own_life(now);
        self.foundation.install(now, snapshot);
        self.collect_garbage();
        self.advance_all(now);
    }
}
