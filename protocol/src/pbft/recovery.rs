//! From records back to a replica: it resumes, re-sends the same bytes, and never contradicts what it signed (rule P10).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Seq, Signed};

use crate::engine::{Now, RecordIndex};
use crate::foundation::RecoveredBodies;
use crate::message::{Committed, PrePrepare, Prepare};
use crate::pbft::safety;
use crate::pbft::slot::{PreparedCertificate, Slot, ballot_of};
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::pbft::{KeptNewView, Replica, Setup};
use crate::proposal::Proposal;
use crate::record::Record;
use crate::state::Snapshot;

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
        replica.foundation.recover_life(&records, trusted);
        let mut bodies = RecoveredBodies::default();
        for (index, record) in records {
            if let Some(record) = replica.foundation.recover_record(index, record, &mut bodies) {
                replica.apply_record(index, record);
            }
        }
        let decided = replica.slots.iter().rev().find(|(_, slot)| slot.committed.is_some()).map(|(seq, _)| *seq);
        replica.foundation.lives.replayed = decided.unwrap_or(Seq(0));
        if let Some(snapshot) = snapshot {
            replica.foundation.recover_snapshot(now, snapshot);
            replica.forget_old_lives();
        }
        if replica.foundation.is_rejoining() {
            replica.follow_newest_view();
        }
        replica.foundation.recover_bodies(bodies);
        replica.rest_on_bodies();
        replica.collect_garbage();
        let reproposed = replica
            .new_views
            .get(&replica.view)
            .and_then(|kept| kept.new_view.body().reproposals.last().map(|reproposal| reproposal.seq));
        replica.next_seq = replica
            .next_seq
            .max(replica.foundation.stable().next())
            .max(replica.foundation.delivered.next())
            .max(reproposed.unwrap_or(Seq(0)).next())
            .max(replica.last_assigned().unwrap_or(Seq(0)).next());
        replica.entered_at = replica.foundation.executed;
        let seqs: Vec<Seq> = replica.slots.range(replica.foundation.delivered.next()..).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            replica.want_missing(now, seq, 0);
        }
        replica
    }

    /// A slot rests on the records of its bodies, too: the next cut must leave them.
    fn rest_on_bodies(&mut self) {
        for slot in self.slots.values_mut() {
            let bodies = slot.proposals.values().flat_map(Proposal::requests);
            let lowest = bodies.filter_map(|digest| self.foundation.bodies.recorded(digest)).min();
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

    fn apply_record(&mut self, index: RecordIndex, record: Record) {
        match record {
            Record::PrePrepare(message) if self.forgets_assignment(&message) => {}
            Record::Prepare(_) if alive(Mutant::ForgetsVotes) => {}
            Record::Prepared { .. } if alive(Mutant::ForgetsPrepared) => {}
            Record::LeftView(_) if alive(Mutant::ForgetsViewChange) => {}
            Record::PrePrepare(message) if self.foundation.is_of_this_life(&message.signed) => {
                self.apply_pre_prepare(index, message);
            }
            Record::Prepare(prepare) if self.foundation.is_of_this_life(&prepare.signed) => {
                self.apply_prepare(index, prepare);
            }
            Record::Prepared { pre_prepare, prepares, proposal, commit }
                if self.foundation.is_of_this_life(&commit) =>
            {
                self.apply_prepared(index, pre_prepare, prepares, proposal, commit);
            }
            Record::Committed(committed) => self.apply_committed(index, committed),
            Record::LeftView(message) if self.foundation.is_of_this_life(&message.signed) => {
                self.view = message.view();
                self.entered = false;
                self.own_view_change_record = Some(index);
                self.view_changes.insert(message.author(), message.clone());
                self.own_view_change = Some(message);
            }
            Record::NewView { new_view, view_changes } if self.foundation.is_of_this_life(&new_view.signed) => {
                self.apply_new_view(index, new_view, view_changes);
            }
            Record::Base { view, entered, stable, view_change, new_views, checkpoints, executed } => {
                self.foundation.recover_base(stable, checkpoints, executed);
                for (new_view, view_changes) in new_views {
                    if !self.foundation.is_of_this_life(&new_view.signed) {
                        continue;
                    }
                    self.apply_new_view(index, new_view, view_changes);
                }
                if let Some(message) = view_change.filter(|message| self.foundation.is_of_this_life(&message.signed)) {
                    self.own_view_change_record = Some(index);
                    if !entered {
                        self.view_changes.insert(message.author(), message.clone());
                    }
                    self.own_view_change = Some(message);
                }
                self.view = view;
                self.entered = entered;
            }
            // Of a life that is over; or what the foundation took.
            Record::Requests(_)
            | Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Prepared { .. }
            | Record::LeftView(_)
            | Record::NewView { .. }
            | Record::Checkpoint(_)
            | Record::Stable(_)
            | Record::Executed(_)
            | Record::Rejoin(_)
            | Record::Rejoined { .. }
            | Record::Reserve { .. } => {}
            // Of the other engine: its promises are none of this one's.
            Record::HotStuff(_) | Record::Block(_) | Record::BlockCommitted { .. } | Record::HotStuffBase { .. } => {}
        }
    }

    fn forgets_assignment(&self, message: &PrePrepare) -> bool {
        let own = message.signed.signer() == self.foundation.id();
        own && alive(Mutant::ForgetsAssignments) || !own && alive(Mutant::ForgetsVotes)
    }

    fn apply_pre_prepare(&mut self, index: RecordIndex, message: PrePrepare) {
        let Some(ballot) = ballot_of(message.signed.body()).copied() else { return };
        let own = message.signed.signer() == self.foundation.id();
        if own {
            self.next_seq = self.next_seq.max(ballot.seq.next());
            self.foundation.last_time = self.foundation.last_time.max(message.proposal.time);
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

    fn apply_new_view(&mut self, index: RecordIndex, new_view: NewView, view_changes: Vec<ViewChange>) {
        let choice = safety::choose(&view_changes);
        if let Some(certificate) = choice.stable.clone() {
            self.foundation.checkpoints.restore(certificate);
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
        let stable = self.foundation.checkpoints.stable_seq();
        self.new_views.insert(view, KeptNewView { new_view, view_changes, stable, record: Some(index) });
    }
}
