//! From records back to a replica: it resumes, re-sends the same bytes, and never contradicts what it signed (rule P10).

use std::collections::BTreeMap;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Digest, Seq, Verified};

use crate::engine::{Now, RecordIndex};
use crate::message::{Committed, PrePrepare, Prepare};
use crate::pbft::safety;
use crate::pbft::slot::{PreparedCertificate, Slot, ballot_of};
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::pbft::{KeptNewView, Replica, Setup};
use crate::proposal::Proposal;
use crate::record::Record;
use crate::rejoin::attempt::Attempt;
use crate::rejoin::{Rejoined, Rejoining};
use crate::request::Request;
use crate::state::Snapshot;
use quorate_crypto::Signed;

/// Bodies read back from the log, with the record each stood in.
type RecoveredBodies = BTreeMap<Digest, (Verified<Request>, RecordIndex)>;

impl Replica {
    /// Rebuilds a replica from the records of its log, in order, and the newest durable snapshot. Bodies are verified
    /// again (in batches): `Verified` has no other constructor. `trusted` is what the log's own mark says; without it, or
    /// with a Rejoin that is not settled, the replica rejoins, and of its own statements none counts.
    pub fn recover(
        setup: Setup,
        now: Now,
        records: Vec<(RecordIndex, Record)>,
        snapshot: Option<Snapshot>,
        trusted: bool,
    ) -> Replica {
        let mut replica = Replica::new(setup);
        replica.recover_life(&records, trusted);
        let mut bodies = RecoveredBodies::new();
        let mut last = RecordIndex(0);
        for (index, record) in records {
            last = index;
            replica.apply_record(index, record, &mut bodies);
        }
        replica.next_record = last.0 + 1;
        let decided = replica.slots.iter().rev().find(|(_, slot)| slot.committed.is_some()).map(|(seq, _)| *seq);
        replica.lives.replayed = decided.unwrap_or(Seq(0));
        if let Some(snapshot) = snapshot {
            replica.delivered = snapshot.seq;
            replica.executed = snapshot.seq;
            replica.learn_lives(now, Rejoined::of_snapshot(&snapshot), false);
            let stable = replica.stable();
            replica.transfer.hold(now, snapshot, stable);
        }
        if replica.is_rejoining() {
            replica.follow_newest_view();
        }
        for (digest, (request, record)) in bodies {
            if replica.bodies.is_wanted(&digest) {
                replica.bodies.insert(digest, request, false);
                replica.bodies.set_recorded(&digest, record);
            }
        }
        replica.rest_on_bodies();
        replica.bodies_came = true;
        replica.collect_garbage();
        let reproposed = replica
            .new_views
            .get(&replica.view)
            .and_then(|kept| kept.new_view.body().reproposals.last().map(|reproposal| reproposal.seq));
        replica.next_seq = replica
            .next_seq
            .max(replica.stable().next())
            .max(replica.delivered.next())
            .max(reproposed.unwrap_or(Seq(0)).next())
            .max(replica.last_assigned().unwrap_or(Seq(0)).next());
        replica.entered_at = replica.executed;
        let seqs: Vec<Seq> = replica.slots.range(replica.delivered.next()..).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            replica.want_missing(now, seq, 0);
        }
        replica
    }

    /// Which life the log tells of: the last that is complete, or one that is to begin.
    fn recover_life(&mut self, records: &[(RecordIndex, Record)], trusted: bool) {
        let mut asked: Option<Attempt> = None;
        let incarnation = |statement: &Signed| statement.statement.incarnation;
        for (index, record) in records {
            match record {
                Record::Rejoin(statement) => asked = Some(Attempt { statement: *statement, record: *index }),
                Record::Rejoined { statement, above } => self.lives.began = Some((*statement, *above)),
                _ => {}
            }
        }
        let lived = self.lives.began.as_ref().map_or(self.setup.incarnation, |(statement, _)| incarnation(statement));
        self.setup.incarnation = lived;
        let open = asked.filter(|attempt| incarnation(&attempt.statement) > lived);
        if !trusted || open.is_some() {
            self.lives.rejoining = Some(Rejoining::new(lived, open));
        }
    }

    /// Whether something in the log was signed in the life that goes on.
    fn is_of_this_life(&self, signed: &Signed) -> bool {
        signed.signer() != self.id() || (signed.statement.incarnation == self.setup.incarnation && !self.is_rejoining())
    }

    /// A slot rests on the records of its bodies, too: the next cut must leave them.
    fn rest_on_bodies(&mut self) {
        for slot in self.slots.values_mut() {
            let bodies = slot.proposals.values().flat_map(Proposal::requests);
            let lowest = bodies.filter_map(|digest| self.bodies.recorded(digest)).min();
            if let Some(record) = lowest {
                slot.rests_on(record);
            }
        }
    }

    /// The highest number that has an assignment in the present view. Records that lie between (a base, whose NEW-VIEW
    /// says where its view began) take `next_seq` back, and a number must never be assigned twice.
    fn last_assigned(&self) -> Option<Seq> {
        let assigned = |slot: &Slot| slot.rounds.get(&self.view).is_some_and(|round| round.pre_prepare.is_some());
        self.slots.iter().rev().find(|(_, slot)| assigned(slot)).map(|(seq, _)| *seq)
    }

    fn apply_record(&mut self, index: RecordIndex, record: Record, bodies: &mut RecoveredBodies) {
        match record {
            Record::Requests(requests) => {
                let verifier = self.setup.verifier.clone();
                for request in verifier.verify_all(requests, self.committee(), &()).into_iter().flatten() {
                    bodies.insert(request.digest(), (request, index));
                }
            }
            Record::PrePrepare(message) if self.forgets_assignment(&message) => {}
            Record::Prepare(_) if alive(Mutant::ForgetsVotes) => {}
            Record::Prepared { .. } if alive(Mutant::ForgetsPrepared) => {}
            Record::LeftView(_) if alive(Mutant::ForgetsViewChange) => {}
            Record::PrePrepare(message) if self.is_of_this_life(&message.signed) => {
                self.apply_pre_prepare(index, message);
            }
            Record::Prepare(prepare) if self.is_of_this_life(&prepare.signed) => self.apply_prepare(index, prepare),
            Record::Prepared { pre_prepare, prepares, proposal, commit } if self.is_of_this_life(&commit) => {
                self.apply_prepared(index, pre_prepare, prepares, proposal, commit);
            }
            Record::Committed(committed) => self.apply_committed(index, committed),
            Record::LeftView(message) if self.is_of_this_life(&message.signed) => {
                self.view = message.view();
                self.entered = false;
                self.own_view_change_record = Some(index);
                self.view_changes.insert(message.author(), message.clone());
                self.own_view_change = Some(message);
            }
            Record::NewView { new_view, view_changes } if self.is_of_this_life(&new_view.signed) => {
                self.apply_new_view(index, new_view, view_changes);
            }
            Record::Checkpoint(signed) if self.is_of_this_life(&signed) => {
                if let Some((seq, _)) = crate::checkpoint::parts(signed.body()) {
                    self.checkpoints.add_own(seq, signed);
                }
            }
            Record::Stable(certificate) => self.checkpoints.restore(certificate),
            Record::Executed(signed) => self.apply_executed(signed),
            Record::Base { view, entered, stable, view_change, new_views, checkpoints, executed } => {
                if let Some(certificate) = stable {
                    self.checkpoints.restore(certificate);
                }
                for signed in checkpoints.into_iter().filter(|signed| self.is_of_this_life(signed)).collect::<Vec<_>>()
                {
                    if let Some((seq, _)) = crate::checkpoint::parts(signed.body()) {
                        self.checkpoints.add_own(seq, signed);
                    }
                }
                for signed in executed {
                    self.apply_executed(signed);
                }
                for (new_view, view_changes) in new_views {
                    if !self.is_of_this_life(&new_view.signed) {
                        continue;
                    }
                    self.apply_new_view(index, new_view, view_changes);
                }
                if let Some(message) = view_change.filter(|message| self.is_of_this_life(&message.signed)) {
                    self.own_view_change_record = Some(index);
                    if !entered {
                        self.view_changes.insert(message.author(), message.clone());
                    }
                    self.own_view_change = Some(message);
                }
                self.view = view;
                self.entered = entered;
            }
            // Of a life that is over; or read before, for what they say of lives; Reserve is not written by this version.
            Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Prepared { .. }
            | Record::LeftView(_)
            | Record::NewView { .. }
            | Record::Checkpoint(_)
            | Record::Rejoin(_)
            | Record::Rejoined { .. }
            | Record::Reserve { .. } => {}
        }
    }

    fn forgets_assignment(&self, message: &PrePrepare) -> bool {
        let own = message.signed.signer() == self.id();
        own && alive(Mutant::ForgetsAssignments) || !own && alive(Mutant::ForgetsVotes)
    }

    fn apply_pre_prepare(&mut self, index: RecordIndex, message: PrePrepare) {
        let Some(ballot) = ballot_of(message.signed.body()).copied() else { return };
        let own = message.signed.signer() == self.id();
        if own {
            self.next_seq = self.next_seq.max(ballot.seq.next());
            self.last_time = self.last_time.max(message.proposal.time);
        }
        let slot = self.slot(ballot.seq);
        slot.rests_on(index);
        let round = slot.rounds.entry(ballot.view).or_default();
        round.pre_prepare = Some(message.signed);
        round.time_accepted = true;
        if own {
            round.vote_record = Some(index);
        }
        self.learn_proposal(ballot.seq, message.proposal);
    }

    fn apply_prepare(&mut self, index: RecordIndex, prepare: Prepare) {
        let Some(ballot) = ballot_of(prepare.signed.body()).copied() else { return };
        let slot = self.slot(ballot.seq);
        slot.rests_on(index);
        let round = slot.rounds.entry(ballot.view).or_default();
        round.prepares.insert(prepare.signed.signer(), prepare);
        round.vote_record = Some(index);
    }

    fn apply_prepared(
        &mut self,
        index: RecordIndex,
        pre_prepare: Signed,
        prepares: Certificate,
        proposal: Proposal,
        commit: Signed,
    ) {
        let Some(ballot) = ballot_of(commit.body()).copied() else { return };
        let slot = self.slot(ballot.seq);
        slot.rests_on(index);
        slot.keep_prepared(PreparedCertificate { ballot, pre_prepare, prepares });
        slot.own_commit = Some(commit);
        slot.own_commit_record = Some(index);
        let round = slot.rounds.entry(ballot.view).or_default();
        round.pre_prepare.get_or_insert(pre_prepare);
        round.time_accepted = true;
        round.commits.insert(commit.signer(), commit);
        self.learn_proposal(ballot.seq, proposal);
    }

    fn apply_committed(&mut self, index: RecordIndex, committed: Committed) {
        let Some(ballot) = ballot_of(&committed.certificate.body).copied() else { return };
        let slot = self.slot(ballot.seq);
        slot.rests_on(index);
        slot.committed = Some(committed.certificate);
        self.learn_proposal(ballot.seq, committed.proposal);
    }

    fn apply_executed(&mut self, signed: Signed) {
        if !self.is_of_this_life(&signed) {
            return;
        }
        if let quorate_crypto::StatementBody::Executed { seq, .. } = signed.body() {
            self.own_executed.insert(*seq, signed);
        }
    }

    fn apply_new_view(&mut self, index: RecordIndex, new_view: NewView, view_changes: Vec<ViewChange>) {
        let choice = safety::choose(&view_changes);
        if let Some(certificate) = choice.stable.clone() {
            self.checkpoints.restore(certificate);
        }
        let view = new_view.view();
        if view >= self.view {
            self.install_view(&new_view, &choice);
        }
        for reproposal in &new_view.body().reproposals {
            if let Some(slot) = self.slots.get_mut(&reproposal.seq) {
                slot.rests_on(index);
            }
        }
        let stable = self.checkpoints.stable_seq();
        self.new_views.insert(view, KeptNewView { new_view, view_changes, stable, record: Some(index) });
    }
}
