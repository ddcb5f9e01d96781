//! STATUS, re-sending, fetching, state transfer: nothing relies on a message having arrived once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Seq, Signed, View};

use crate::checkpoint::parts;
use crate::engine::{Now, Recipients};
use crate::message::{Committed, FETCH_MAX, Message, PrePrepare, STATUS_SLOTS_MAX, SlotStatus, Status};
use crate::parameters::Micros;
use crate::pbft::Replica;
use crate::pbft::budget::ChunkBudget;
use crate::proposal::Proposal;
use crate::rejoin::Rejoined;
use crate::transfer::Progress;

/// STATUS is sent so often by a replica that catches up.
const STATUS_INTERVAL_BEHIND: Micros = 20_000;
/// A peer's STATUS is answered at most this often.
const ANSWER_INTERVAL: Micros = 10_000;
/// A missing body or proposal is asked for again after this long, longer with every attempt.
const FETCH_INTERVAL: Micros = 20_000;
/// Decided numbers handed to a laggard at once.
const CERTIFICATES_PER_ANSWER: usize = 32;
/// A laggard this far behind is helped at once; a nearer one only when it made no progress between two STATUS.
const CLEARLY_BEHIND: u64 = 16;
/// Requests that the proposals in one answer name.
const NAMES_PER_ANSWER: usize = 32 * 1024;
/// Bytes of answers to fetches per peer and refill; the last answer may go beyond.
const BULK_BUDGET: usize = 1024 * 1024;
/// What an answer costs at least: the question was looked at.
const BULK_LEAST: usize = 32 * 1024;
/// The budget is refilled this often.
const BULK_REFILL: Micros = 10_000;
/// Without progress for so long below a stable checkpoint, the state itself is fetched.
const TRANSFER_PATIENCE: Micros = 300_000;

/// What is known of a peer, by its own word: it only decides what to send it.
#[derive(Debug, Default)]
pub struct Peer {
    executed: Seq,
    stable: Seq,
    /// The view whose primary it suspects.
    pub(super) suspects: Option<View>,
    next_answer: Micros,
    bulk_left: usize,
    bulk_refilled: Micros,
    /// For parts of states.
    pub(super) chunks: ChunkBudget,
}

/// Where a replica that lags stood, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    delivered: Seq,
    since: Micros,
}

impl Replica {
    pub(super) fn handle_timer(&mut self, now: Now) {
        self.check_timer(now);
        self.try_new_view(now);
        self.try_awaited(now);
        self.end_turn(now);
    }

    pub(super) fn end_turn(&mut self, now: Now) {
        self.use_new_bodies(now);
        self.tend_rejoin(now);
        self.propose(now);
        self.tend_timer(now);
        self.tend_relays(now);
        self.tend_monitor(now);
        self.tend_fetches(now);
        self.tend_transfer(now);
        self.tend_status(now);
    }

    pub(super) fn next_wake(&self) -> Option<Micros> {
        let fetch = self.slots.values().filter_map(|slot| slot.fetch).map(|(at, _)| at).min();
        let transfer = self.transfer.wake();
        // Once the state is being fetched its patience is over, and a time that has passed would wake it without end.
        let stall = self.stall.filter(|_| !self.transfer.is_active()).map(|stall| stall.since + TRANSFER_PATIENCE);
        let awaited = self.next_awaited_fetch();
        let look = self.monitor.look_again(self.parameters().view_timeout).filter(|_| self.watches());
        [Some(self.next_status), self.timer_deadline(), fetch, transfer, stall, awaited, self.next_rejoin(), look]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether f + 1 others say they executed more, of whom at least one is honest, or a quorum has certified more: a
    /// replica that wakes up has one link at first.
    pub(super) fn is_behind(&self) -> bool {
        let ahead = self.peers.values().filter(|peer| peer.executed > self.executed).count();
        ahead >= self.committee().one_honest() || self.stable() > self.executed
    }

    pub(super) fn tend_status(&mut self, now: Now) {
        let pending = !self.pending.is_empty()
            || !self.entered
            || self.slots.range(self.executed.next()..).next().is_some()
            || self.transfer.is_active();
        let interval = if self.is_behind() {
            STATUS_INTERVAL_BEHIND
        } else if pending {
            self.parameters().status_interval
        } else {
            self.parameters().status_interval_idle
        };
        // What was said to be due while idle is too late for what is pending now: a vote lost in that second would cost a
        // view change.
        self.next_status = self.next_status.min(now.monotonic + interval);
        if now.monotonic < self.next_status || alive(Mutant::NoStatus) {
            return;
        }
        self.next_status = now.monotonic + interval;
        let status = self.own_status();
        self.send(Recipients::Others, Message::Status(status), None);
    }

    /// Where this replica stands, in the form peers get it.
    pub fn own_status(&self) -> Status {
        let slots = self
            .slots
            .range(self.executed.next()..)
            .filter(|(_, slot)| slot.committed.is_none())
            .take(STATUS_SLOTS_MAX)
            .map(|(seq, slot)| {
                let round = slot.rounds.get(&self.view);
                let bits =
                    |authors: &mut dyn Iterator<Item = ReplicaId>| authors.fold(0, |bits, id| bits | self.bit(id));
                SlotStatus {
                    seq: *seq,
                    pre_prepared: round.is_some_and(|round| round.pre_prepare.is_some()),
                    prepares: round.map_or(0, |round| bits(&mut round.prepares.keys().copied())),
                    commits: round.map_or(0, |round| bits(&mut round.commits.keys().copied())),
                }
            })
            .collect();
        let mut missing_requests = Vec::new();
        for proposal in self.slots.range(self.delivered.next()..).flat_map(|(_, slot)| slot.proposals.values()) {
            missing_requests.extend(proposal.requests().iter().filter(|digest| !self.bodies.holds(digest)).copied());
            if missing_requests.len() >= FETCH_MAX {
                break;
            }
        }
        missing_requests.truncate(FETCH_MAX);
        Status {
            view: self.view,
            entered: self.entered,
            stable: self.stable(),
            executed: self.executed,
            view_changes: self
                .view_changes
                .values()
                .filter(|message| message.view() == self.view)
                .fold(0, |bits, message| bits | self.bit(message.author())),
            slots,
            missing_requests,
            missing_proposals: self.wanted_proposals.keys().take(FETCH_MAX).copied().collect(),
            suspects: self.suspects_primary() && !self.is_rejoining(),
        }
    }

    pub(super) fn handle_status(&mut self, now: Now, from: ReplicaId, status: Status) {
        let bit = self.bit(self.id());
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let stuck = peer.executed == status.executed;
        peer.executed = status.executed;
        peer.stable = status.stable;
        peer.suspects = status.suspects.then_some(status.view);
        if now.monotonic < peer.next_answer {
            return;
        }
        peer.next_answer = now.monotonic + ANSWER_INTERVAL;
        self.answer_view(from, &status, bit);
        if status.stable < self.stable()
            && let Some(certificate) = self.checkpoints.stable().cloned()
        {
            self.send(Recipients::One(from), Message::StableCheckpoint(certificate), None);
        }
        let own: Vec<Signed> = self
            .checkpoints
            .all_own()
            .filter(|signed| parts(signed.body()).is_some_and(|(seq, _)| seq > status.stable))
            .copied()
            .collect();
        if stuck {
            for signed in own {
                self.send(Recipients::One(from), Message::Checkpoint(signed), None);
            }
        }
        if stuck || status.executed.plus(CLEARLY_BEHIND) < self.executed {
            self.answer_slots(from, &status, bit);
        }
        if !status.missing_requests.is_empty() {
            self.answer_fetch_requests(now, from, &status.missing_requests);
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
            self.send(Recipients::One(from), message, record);
        } else if !self.entered
            && (status.view < self.view || status.view_changes & bit == 0)
            && let Some(message) = self.own_view_change.clone()
            && !alive(Mutant::ViewChangeOnce)
        {
            let record = self.own_view_change_record;
            self.send(Recipients::One(from), Message::ViewChange(message), record);
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
                && let Some(prepare) = round.prepares.get(&self.id())
            {
                answers.push((Message::Prepare(*prepare), round.vote_record));
            }
            if held.is_none_or(|held| held.commits & bit == 0)
                && let Some(commit) = round.commits.get(&self.id())
            {
                answers.push((Message::Commit(*commit), slot.own_commit_record));
            }
        }
        for (message, after) in answers {
            self.send(Recipients::One(from), message, after);
        }
    }

    /// A budget per peer: a liar that asks without end gets little and costs little.
    pub(super) fn may_answer_bulk(&mut self, now: Now, from: ReplicaId) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if now.monotonic >= peer.bulk_refilled + BULK_REFILL || peer.bulk_refilled == 0 {
            peer.bulk_refilled = now.monotonic.max(1);
            peer.bulk_left = BULK_BUDGET;
        }
        if peer.bulk_left == 0 {
            return false;
        }
        peer.bulk_left = peer.bulk_left.saturating_sub(BULK_LEAST);
        true
    }

    /// Counts the bytes of an answer against the peer's budget.
    pub(super) fn charge(&mut self, to: ReplicaId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.bulk_left = peer.bulk_left.saturating_sub(bytes);
        }
    }

    pub(super) fn answer_fetch_requests(&mut self, now: Now, from: ReplicaId, digests: &[Digest]) {
        if !self.may_answer_bulk(now, from) {
            return;
        }
        // The bodies of a whole batch, which genesis fits into a frame: with fewer, a batch of large requests that only the
        // primary was given would take a question for each.
        let bytes_max = self.parameters().batch_bytes_max;
        let mut bytes = 0;
        let mut requests = Vec::new();
        for body in digests.iter().filter_map(|digest| self.bodies.get(digest)) {
            bytes += body.weight();
            if bytes > bytes_max && !requests.is_empty() {
                break;
            }
            requests.push((***body).clone());
        }
        if !requests.is_empty() {
            self.charge(from, bytes);
            self.note_scarce(now, requests.iter().map(|request| &request.content().client));
            self.send(Recipients::One(from), Message::Requests(requests), None);
        }
    }

    pub(super) fn answer_fetch_proposals(&mut self, now: Now, from: ReplicaId, digests: &[Digest]) {
        if !self.may_answer_bulk(now, from) {
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
            self.charge(from, 32 * requests_named);
            self.send(Recipients::One(from), Message::Proposals(found), None);
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
                Some(proposal) => lacks |= !self.bodies_held(proposal),
                None => match self.find_proposal(seq, &digest) {
                    Some(proposal) => {
                        lacks |= !self.bodies_held(&proposal);
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
        let due: Vec<(Seq, u32)> = self
            .slots
            .iter()
            .filter_map(|(seq, slot)| slot.fetch.filter(|(at, _)| *at <= now.monotonic).map(|(_, tries)| (*seq, tries)))
            .collect();
        let mut requests: BTreeMap<ReplicaId, Vec<Digest>> = BTreeMap::new();
        let mut proposals: BTreeMap<ReplicaId, Vec<Digest>> = BTreeMap::new();
        for (seq, tries) in due {
            let peer = self.fetch_source(seq, tries);
            let Some(slot) = self.slots.get(&seq) else { continue };
            let wanted_bodies: Vec<Digest> = slot
                .proposals
                .values()
                .flat_map(Proposal::requests)
                .filter(|digest| !self.bodies.holds(digest))
                .copied()
                .collect();
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
            let wait = FETCH_INTERVAL * u64::from(tries + 1).min(10);
            self.slot(seq).fetch = Some((now.monotonic + wait, tries.saturating_add(1)));
            requests.entry(peer).or_default().extend(wanted_bodies);
            proposals.entry(peer).or_default().extend(wanted_proposals);
        }
        for (peer, mut digests) in requests {
            digests.truncate(FETCH_MAX);
            if !digests.is_empty() {
                self.send(Recipients::One(peer), Message::FetchRequests(digests), None);
            }
        }
        for (peer, mut digests) in proposals {
            digests.truncate(FETCH_MAX);
            if !digests.is_empty() {
                self.send(Recipients::One(peer), Message::FetchProposals(digests), None);
            }
        }
    }

    /// Whom to ask: the primary every other time, since it may be the only one that was given what it named; everyone in
    /// turn in between.
    fn fetch_source(&self, seq: Seq, tries: u32) -> ReplicaId {
        let others: Vec<ReplicaId> = self.peers.keys().copied().collect();
        if tries.is_multiple_of(2) && !self.leads() {
            return self.primary();
        }
        let turn = if self.leads() { tries } else { tries / 2 };
        others[(self.id().index() + seq.0 as usize % others.len() + turn as usize) % others.len()]
    }

    /// The next number to be delivered asks for its bodies anew, its primary first: asked for together with those of the
    /// numbers before, they found no room in the answers.
    pub(super) fn hasten_fetch(&mut self, seq: Seq) {
        let at = self.last_step;
        if let Some(fetch) = self.slots.get_mut(&seq).and_then(|slot| slot.fetch.as_mut())
            && fetch.1 > 0
        {
            *fetch = (at, 0);
        }
    }

    /// Fetches the state when the numbers below the stable checkpoint cannot be had any more.
    fn tend_transfer(&mut self, now: Now) {
        if self.stable() <= self.delivered {
            self.stall = None;
            self.transfer.abandon();
            return;
        }
        let stall = self.stall.get_or_insert(Stall { delivered: self.delivered, since: now.monotonic });
        if stall.delivered != self.delivered {
            *stall = Stall { delivered: self.delivered, since: now.monotonic };
        }
        let waited = now.monotonic.saturating_sub(stall.since) >= TRANSFER_PATIENCE;
        let hopeless = self.stable().0 > self.delivered.0 + self.parameters().window;
        let peers: Vec<ReplicaId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.stable >= self.stable())
            .chain(self.peers.iter().filter(|(_, peer)| peer.stable < self.stable()))
            .map(|(id, _)| *id)
            .collect();
        // What f + 1 do not hold any more at least one honest replica has given up for a newer state.
        let given_up = self.transfer.lacking() >= self.committee().one_honest() || self.transfer.is_stuck(now, &peers);
        // Whoever restarted holds its newest state only, which may become stable with this replica's help alone: what
        // f + 1 vouch for is right as well (rule P13).
        let vouched = || self.checkpoints.vouched(self.committee().one_honest());
        let certified = (self.stable(), self.checkpoints.stable_digest());
        let (seq, root) = given_up.then(vouched).flatten().unwrap_or(certified);
        let moves_on = given_up && self.transfer.target().is_some_and(|target| target < seq);
        if (waited || hopeless) && (!self.transfer.is_active() || moves_on) {
            let base = self.transfer.newest().cloned();
            self.transfer.start(seq, root, base.as_ref());
        }
        for (peer, question) in self.transfer.questions(now, &peers) {
            self.send(Recipients::One(peer), question, None);
        }
    }

    pub(super) fn handle_transfer(&mut self, now: Now, from: ReplicaId, answer: Message) {
        if let Progress::Complete(snapshot) = self.transfer.take(from, answer) {
            self.install(now, snapshot);
        }
        self.tend_transfer(now);
    }

    /// Takes a certified or vouched state as executed. Pending requests may be in it: they are dropped with their timer, and
    /// clients that still wait send them again.
    fn install(&mut self, now: Now, snapshot: crate::state::Snapshot) {
        let seq = snapshot.seq;
        if seq <= self.delivered {
            return;
        }
        self.delivered = seq;
        self.executed = seq;
        self.next_seq = self.next_seq.max(seq.next());
        for digest in self.pending.clear() {
            self.bodies.not_pending(&digest);
        }
        self.timer = self.timer.filter(|_| !self.entered);
        self.stall = None;
        // At once: whoever counts as executed a Rejoin it does not know yet would enter a view that the Rejoin closes.
        self.learn_lives(now, Rejoined::of_snapshot(&snapshot), false);
        self.heed_own_life(now);
        self.out.install = Some(snapshot);
        self.collect_garbage();
        self.next_status = now.monotonic;
        self.advance_all(now);
    }
}
