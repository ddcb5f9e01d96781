//! The normal case: batches, PRE-PREPARE, PREPARE, COMMIT, delivery (Castro and Liskov 1999, section 4.2).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Digest, Seq, Signed, StatementBody, View};

use crate::engine::{Now, Recipients};
use crate::message::{Committed, Message, PrePrepare, Prepare};
use crate::pbft::Replica;
use crate::pbft::safety;
use crate::pbft::slot::{PreparedCertificate, Round, ballot_of};
use crate::proposal::{Payload, Proposal};
use crate::record::Record;

/// A fetch waits this long at first: the client has most likely sent the body already.
pub(super) const FETCH_PATIENCE: u64 = 3_000;
/// So many requests that wait are a batch of their own beside one under way, however large that is: what a batch costs by
/// itself is little by then, and a primary that waits for a large one to end, and executes it first, looks slow.
const BATCH_AMPLE: usize = 48;

impl Replica {
    /// Looks at what the bodies that came in this turn make possible.
    pub(super) fn use_new_bodies(&mut self, now: Now) {
        if self.foundation.take_bodies_came() {
            self.advance_all(now);
            self.try_new_view(now);
        }
    }

    /// Cuts batches: at once when idle; while others are undecided, when as much has gathered as the last batch held, so
    /// that batches grow with the load and no request waits for company that does not come. All that is undecided takes
    /// a quarter of the view timeout at most, by measurement: what backups' timers run on is proposed next, and must not
    /// wait behind a pipeline longer than their patience.
    pub(super) fn propose(&mut self, now: Now) {
        let (in_flight, batch_max) = (self.foundation.room_in_flight(), self.foundation.room_in_batch());
        while self.entered && self.leads() && self.may_assign() && self.in_window(self.next_seq) {
            let undecided = self.next_seq.0 - 1 - self.foundation.delivered.0.min(self.next_seq.0 - 1);
            if undecided >= self.foundation.parameters().pipeline_depth {
                return;
            }
            let waiting = self.foundation.pending.unproposed();
            if waiting == 0 && self.fill_target().is_some_and(|target| self.next_seq <= target) {
                self.assign(now, Proposal::NULL);
                continue;
            }
            let overdue = self.foundation.deadline_is_due(now) && undecided == 0;
            if waiting == 0 && !overdue {
                return;
            }
            let enough = self.last_batch.min(batch_max.requests).div_ceil(2).min(BATCH_AMPLE);
            if undecided > 0 && waiting < enough {
                return;
            }
            if undecided > 0 && self.undecided_requests() + waiting.min(batch_max.requests) > in_flight.requests {
                return;
            }
            if undecided > 0 && self.undecided_bytes() + batch_max.bytes > in_flight.bytes {
                return;
            }
            let batch = self.foundation.pending.take_batch(batch_max.requests, batch_max.bytes);
            self.last_batch = batch.len().max(1);
            self.propose_batch(now, batch);
        }
    }

    fn propose_batch(&mut self, now: Now, batch: Vec<Digest>) {
        let time = self.foundation.next_time(now);
        self.send_scarce(now, &batch);
        self.assign(now, Proposal { time, payload: Payload::Batch(batch) });
    }

    /// Assigns the next number to `proposal`.
    fn assign(&mut self, now: Now, proposal: Proposal) {
        let seq = self.next_seq;
        let own_bytes = self.foundation.weight(&proposal);
        self.next_seq = seq.next();
        let ballot = Ballot { view: self.view, seq, digest: proposal.digest() };
        let signed = self.foundation.sign(StatementBody::PrePrepare(ballot));
        self.learn_proposal(seq, proposal.clone());
        self.record_bodies(seq, &proposal);
        let message = PrePrepare { signed, proposal };
        let record = self.foundation.record(Record::PrePrepare(message.clone()));
        let slot = self.slot(seq);
        slot.own_bytes = own_bytes;
        slot.rests_on(record);
        let round = slot.rounds.entry(ballot.view).or_default();
        round.pre_prepare = Some(signed);
        round.time_accepted = true;
        round.vote_record = Some(record);
        self.foundation.send(Recipients::Others, Message::PrePrepare(message), Some(record));
        self.advance(now, seq);
    }

    /// Adds a proposal to its slot; its bodies are named from now on.
    pub(super) fn learn_proposal(&mut self, seq: Seq, proposal: Proposal) {
        let digest = proposal.digest();
        if let Some(seqs) = self.wanted_proposals.get_mut(&digest) {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.wanted_proposals.remove(&digest);
            }
        }
        if self.slot(seq).proposals.contains_key(&digest) {
            return;
        }
        // A second proposal of a number that was decided or executed otherwise takes no request away from the others.
        let may_win =
            self.slot(seq).decided().is_none_or(|decided| decided.digest == digest) && seq > self.foundation.executed;
        self.foundation.name_requests(&proposal, may_win);
        self.slot(seq).proposals.insert(digest, proposal);
    }

    /// Forgets proposals of a slot that nothing names any more.
    pub(super) fn forget_proposals(&mut self, seq: Seq) {
        let Some(slot) = self.slots.get_mut(&seq) else { return };
        let needed: Vec<Digest> = slot.needed_proposals().collect();
        let dropped: Vec<Digest> = slot.proposals.keys().filter(|digest| !needed.contains(digest)).copied().collect();
        for digest in dropped {
            if let Some(proposal) = self.slots.get_mut(&seq).and_then(|slot| slot.proposals.remove(&digest)) {
                self.foundation.unname_requests(&proposal);
            }
        }
    }

    /// Drops a slot and everything it names.
    pub(super) fn drop_slot(&mut self, seq: Seq) {
        let Some(slot) = self.slots.remove(&seq) else { return };
        // Those of a view that was never entered included: nothing else would end the asking.
        self.wanted_proposals.retain(|_, seqs| {
            seqs.remove(&seq);
            !seqs.is_empty()
        });
        for proposal in slot.proposals.values() {
            self.foundation.unname_requests(proposal);
        }
    }

    /// Makes every body of `proposal` durable with the next frame, once; the slot rests on them.
    pub(super) fn record_bodies(&mut self, seq: Seq, proposal: &Proposal) {
        if let Some(record) = self.foundation.record_bodies(proposal) {
            self.slot(seq).rests_on(record);
        }
    }

    /// Votes of this view and the next are kept, nothing else (rule P9).
    pub(super) fn keeps_votes_of(&self, view: View) -> bool {
        view == self.view || view == self.view.next()
    }

    pub(super) fn handle_pre_prepare(&mut self, now: Now, message: PrePrepare) {
        let Some(ballot) = ballot_of(message.signed.body()).copied() else { return };
        self.check_pre_prepare(&message.signed);
        if !self.foundation.vote_counts(&message.signed.statement, ballot.seq) {
            return;
        }
        // Of the view this replica is in or moves to only: the proposals of a primary that does not lead yet would name
        // requests as proposed (the present primary would never propose them) and bodies to fetch, and nothing would
        // end that while the present view lasts. What comes too early is sent again when STATUS shows that it lacks.
        if !self.in_look_ahead(ballot.seq)
            || ballot.view != self.view
            || message.signed.signer() == self.foundation.id()
        {
            return;
        }
        if !message.proposal.is_well_formed(self.foundation.parameters().batch_requests_max) {
            return;
        }
        let (bound, cap) =
            (self.foundation.parameters().proposal_time_bound, self.foundation.parameters().proposal_time_bound_cap);
        let is_null = message.proposal.payload == Payload::Null;
        let on_time =
            is_null || safety::time_is_acceptable(message.proposal.time, now.wall, bound, cap, self.failed_views);
        let fresh = self.current_ballot(ballot.seq).is_none();
        if fresh {
            self.watch_proposal(now, ballot.seq, &message.proposal);
        }
        let round = self.slot(ballot.seq).rounds.entry(ballot.view).or_default();
        match round.ballot() {
            None => {
                round.pre_prepare = Some(message.signed);
                round.time_accepted = on_time;
            }
            Some(held) if held.digest != ballot.digest => return,
            Some(_) => {}
        }
        self.learn_proposal(ballot.seq, message.proposal);
        self.want_missing(now, ballot.seq, FETCH_PATIENCE);
        self.advance(now, ballot.seq);
    }

    pub(super) fn handle_prepare(&mut self, now: Now, message: Prepare) {
        let Some(ballot) = ballot_of(message.signed.body()).copied() else { return };
        if !self.in_look_ahead(ballot.seq)
            || !self.keeps_votes_of(ballot.view)
            || message.signed.signer() == self.foundation.id()
        {
            return;
        }
        self.check_prepare(&message);
        if !self.foundation.vote_counts(&message.signed.statement, ballot.seq) {
            return;
        }
        let round = self.slot(ballot.seq).rounds.entry(ballot.view).or_default();
        round.prepares.entry(message.signed.signer()).or_insert(message);
        self.advance(now, ballot.seq);
    }

    pub(super) fn handle_commit(&mut self, now: Now, signed: Signed) {
        let Some(ballot) = ballot_of(signed.body()).copied() else { return };
        if !self.in_look_ahead(ballot.seq)
            || !self.keeps_votes_of(ballot.view)
            || signed.signer() == self.foundation.id()
        {
            return;
        }
        self.check_commit(&signed);
        if !self.foundation.vote_counts(&signed.statement, ballot.seq) {
            return;
        }
        let round = self.slot(ballot.seq).rounds.entry(ballot.view).or_default();
        round.commits.entry(signed.signer()).or_insert(signed);
        self.advance(now, ballot.seq);
    }

    pub(super) fn handle_commit_certificate(&mut self, now: Now, committed: Committed) {
        let Some(ballot) = ballot_of(&committed.certificate.body).copied() else { return };
        if !self.takes_certificate(ballot.seq) {
            return;
        }
        if self.slot(ballot.seq).committed.is_none() {
            self.slot(ballot.seq).committed = Some(committed.certificate);
        }
        if self.slot(ballot.seq).decided().is_some_and(|decided| decided.digest == ballot.digest) {
            self.learn_proposal(ballot.seq, committed.proposal);
        }
        self.want_missing(now, ballot.seq, 0);
        self.advance(now, ballot.seq);
    }

    /// Decisions below the stable checkpoint help as well, as far down as slots are kept: under load the checkpoint moves
    /// on while a laggard catches up, and fetching the state each time it does would never end.
    fn takes_certificate(&self, seq: Seq) -> bool {
        let floor = self.foundation.stable().0.saturating_sub(self.foundation.parameters().window);
        seq > self.foundation.delivered
            && seq.0 > floor
            && seq <= self.foundation.stable().plus(self.foundation.parameters().look_ahead())
    }

    pub(super) fn advance_all(&mut self, now: Now) {
        let seqs: Vec<Seq> = self.slots.range(self.foundation.delivered.next()..).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            self.advance(now, seq);
        }
    }

    /// Does everything that has become possible at one number. Idempotent.
    pub(super) fn advance(&mut self, now: Now, seq: Seq) {
        self.try_prepare(seq);
        self.try_commit(seq);
        self.try_decide(now, seq);
        self.deliver();
    }

    /// The proposal of the accepted ballot, if it and all its bodies are held: without the bodies no vote, in a new view
    /// either.
    fn available(&self, ballot: &Ballot) -> Option<Proposal> {
        let proposal = self.slots.get(&ballot.seq)?.proposals.get(&ballot.digest)?;
        self.foundation.bodies_held(proposal).then(|| proposal.clone())
    }

    fn may_sign(&self, ballot: &Ballot) -> bool {
        let Some(slot) = self.slots.get(&ballot.seq).filter(|_| self.foundation.may_sign_about(ballot.seq)) else {
            return false;
        };
        let accepted = slot.rounds.get(&ballot.view).and_then(Round::ballot).map(|ballot| ballot.digest);
        let decided = slot.decided().map(|ballot| ballot.digest);
        safety::may_accept(
            ballot,
            self.entered.then_some(self.view),
            self.foundation.stable(),
            self.foundation.parameters().window,
            accepted.as_ref(),
            decided.as_ref(),
        )
    }

    fn try_prepare(&mut self, seq: Seq) {
        let Some(ballot) = self.current_ballot(seq) else { return };
        if alive(Mutant::NeverPrepares) && self.view > View(0) {
            return;
        }
        if self.leads() || !self.may_sign(&ballot) {
            return;
        }
        let own = self.foundation.id();
        let Some(round) = self.slots.get(&seq).and_then(|slot| slot.rounds.get(&ballot.view)) else { return };
        let Some(pre_prepare) = round.pre_prepare else { return };
        if !round.time_accepted || round.prepares.contains_key(&own) {
            return;
        }
        let Some(proposal) = self.available(&ballot) else { return };
        if !self.foundation.fits_a_batch(&proposal) {
            return;
        }
        self.record_bodies(seq, &proposal);
        let record = self.foundation.record(Record::PrePrepare(PrePrepare { signed: pre_prepare, proposal }));
        self.slot(seq).rests_on(record);
        let prepare = Prepare {
            signed: self.foundation.sign(StatementBody::Prepare(ballot)),
            primary_incarnation: pre_prepare.statement.incarnation,
            primary_signature: pre_prepare.signature,
        };
        let record = self.foundation.record(Record::Prepare(prepare));
        let round = self.slot(seq).rounds.entry(ballot.view).or_default();
        round.prepares.insert(own, prepare);
        round.vote_record = Some(record);
        self.foundation.send(Recipients::Others, Message::Prepare(prepare), Some(record));
    }

    fn try_commit(&mut self, seq: Seq) {
        let Some(ballot) = self.current_ballot(seq) else { return };
        let own = self.foundation.id();
        if !self.may_sign(&ballot) {
            return;
        }
        let Some(round) = self.slots.get(&seq).and_then(|slot| slot.rounds.get(&ballot.view)) else { return };
        let Some(pre_prepare) = round.pre_prepare else { return };
        if round.commits.contains_key(&own) {
            return;
        }
        let Some(prepares) = safety::prepared(&ballot, &round.prepares, self.foundation.committee()) else { return };
        let Some(prepares) = Certificate::collect(prepares.iter().map(|prepare| &prepare.signed)) else { return };
        let Some(proposal) = self.available(&ballot) else { return };
        self.record_bodies(seq, &proposal);
        let commit = self.foundation.sign(StatementBody::Commit(ballot));
        let record =
            self.foundation.record(Record::Prepared { pre_prepare, prepares: prepares.clone(), proposal, commit });
        let slot = self.slot(seq);
        slot.rests_on(record);
        slot.keep_prepared(PreparedCertificate { ballot, pre_prepare, prepares });
        slot.own_commit = Some(commit);
        slot.own_commit_record = Some(record);
        slot.rounds.entry(ballot.view).or_default().commits.insert(own, commit);
        let after = (!alive(Mutant::VoteBeforeRecord)).then_some(record);
        self.foundation.send(Recipients::Others, Message::Commit(commit), after);
    }

    fn try_decide(&mut self, now: Now, seq: Seq) {
        let Some(slot) = self.slots.get(&seq) else { return };
        if slot.committed.is_some() || seq <= self.foundation.delivered {
            return;
        }
        let ballots = slot.rounds.values().flat_map(|round| {
            round.commits.values().filter_map(|signed| ballot_of(signed.body()).copied()).collect::<Vec<_>>()
        });
        let mut ballots: Vec<Ballot> = ballots.collect();
        ballots.sort_unstable();
        ballots.dedup();
        let certificate = ballots.iter().find_map(|ballot| {
            let round = slot.rounds.get(&ballot.view)?;
            safety::committed(ballot, &round.commits, self.foundation.committee())
        });
        if certificate.is_some() {
            self.slot(seq).committed = certificate;
            self.want_missing(now, seq, 0);
        }
    }

    /// Hands decided batches on, in order. A decision that counts this replica's own COMMIT waits for its record: the
    /// vote must survive a power cut before anyone is told of what it decided.
    fn deliver(&mut self) {
        loop {
            let seq = self.foundation.delivered.next();
            let Some(slot) = self.slots.get(&seq) else { return };
            let Some(certificate) = slot.committed.clone() else { return };
            let Some(ballot) = slot.decided().copied() else { return };
            let Some(proposal) = self.available(&ballot) else { return };
            let after = slot.own_commit_record.filter(|_| !alive(Mutant::DecisionBeforeRecord));
            self.record_bodies(seq, &proposal);
            let record =
                self.foundation.record(Record::Committed(Committed { certificate, proposal: proposal.clone() }));
            self.slot(seq).rests_on(record);
            self.slot(seq).fetch = None;
            self.foundation.decide(proposal, after);
            self.hasten_fetch(seq.next());
            if self.next_seq <= seq {
                self.next_seq = seq.next();
            }
        }
    }

    pub(super) fn handle_executed(&mut self, now: Now, seq: Seq, results: Digest, next_deadline: Option<u64>) {
        if !self.foundation.note_executed(seq, next_deadline) {
            return;
        }
        let digests: Vec<Digest> = self
            .slots
            .get(&seq)
            .and_then(|slot| slot.decided_proposal())
            .map(|proposal| proposal.requests().to_vec())
            .unwrap_or_default();
        let bytes = self.foundation.leave_pending(&digests);
        self.release_losers(seq);
        if let Some(record) = self.foundation.state_executed(seq, results) {
            self.slot(seq).rests_on(record);
        }
        self.foundation.measure(now, digests.len(), bytes);
        self.note_progress(now);
    }
}
