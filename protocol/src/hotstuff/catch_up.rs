//! STATUS, re-sending, state transfer: nothing relies on a message having arrived once.

use quorate_crypto::ReplicaId;

use crate::engine::{Now, Recipients};
use crate::hotstuff::Replica;
use crate::hotstuff::certificate::Vote;
use crate::hotstuff::message::{BlockProposal, HotStuffStatus};
use crate::message::Message;
use crate::rejoin::Rejoined;
use crate::state::Snapshot;

impl Replica {
    pub(super) fn tend_status(&mut self, now: Now) {
        let given_up = self.promise.last_timed_out >= self.view() && !self.foundation.is_rejoining();
        let busy = given_up || self.is_work_outstanding(now) || self.block_fetch.is_some();
        if !self.foundation.status_is_due(now, busy) {
            return;
        }
        let status = self.own_status();
        self.told_view = status.view;
        self.foundation.send(Recipients::Others, Message::HotStuffStatus(status), None);
        if given_up && let Some(timeout) = self.promise.timeout.clone() {
            self.foundation.send(Recipients::Others, Message::Timeout(timeout), self.promise_record);
        }
    }

    /// Where this replica stands, in the form peers get it.
    pub fn own_status(&self) -> HotStuffStatus {
        let view = self.view();
        let bits = |authors: &mut dyn Iterator<Item = ReplicaId>| {
            authors.fold(0, |bits, author| bits | self.foundation.bit(author))
        };
        let voters = self.foundation.committee().ids().filter(|id| self.collector.holds(view, *id));
        HotStuffStatus {
            view,
            high_qc_view: self.promise.high_qc.view(),
            high_qc_block: self.promise.high_qc.block(),
            high_tc_view: self.promise.high_tc_view(),
            stable: self.foundation.stable(),
            committed: self.tree.committed().seq,
            executed: self.foundation.executed,
            proposed: self.candidate.is_some(),
            votes: bits(&mut voters.into_iter()),
            timeouts: bits(&mut self.pacemaker.given_up_by()),
            missing_requests: self.bodies_lacking_next(),
        }
    }

    pub(super) fn handle_status(&mut self, now: Now, from: ReplicaId, status: HotStuffStatus) {
        let Some(need) = self.foundation.heed_status(now, from, status.stable, status.executed) else { return };
        let waits = self.peer_views.insert(from, status.view) == Some(status.view);
        // Views pass faster than a STATUS travels. Who is where this replica was when it said so itself last has what it needs
        // on its way; who is behind that, or says the same twice, lacks something.
        if waits || status.view <= self.told_view {
            self.answer_view(from, &status, waits);
        }
        self.foundation.answer_checkpoints(from, status.stable, need);
        if !status.missing_requests.is_empty() {
            self.foundation.answer_fetch_requests(now, from, &status.missing_requests);
        }
    }

    /// Helps a peer to this replica's view, and with what it lacks there: certificates, the proposal, the own TIMEOUT and
    /// vote. All of it as it was signed. Proposals and certificates are large, and all replicas speak at about the same time:
    /// others than the author of one, and the leader that had the votes of the other, send it only to a peer that was in the
    /// same view before, or n replicas would answer n.
    fn answer_view(&mut self, from: ReplicaId, status: &HotStuffStatus, waits: bool) {
        let own = self.foundation.bit(self.id());
        let mut answers = Vec::new();
        let (high_qc, own_id) = (&self.promise.high_qc, self.id());
        if status.high_qc_view < high_qc.view()
            && (waits || self.leader_after(&high_qc.block(), high_qc.view().next()) == Some(own_id))
        {
            answers.push(Message::QuorumCertificate(high_qc.clone()));
        }
        if let Some(timeout) = &self.promise.high_tc
            && status.view <= timeout.view
        {
            answers.push(Message::TimeoutCertificate(timeout.clone()));
        }
        if status.view <= self.view()
            && !(status.view == self.view() && status.proposed)
            && let Some(proposal) = self.proposal_of_view()
            && (waits || proposal.block.author == self.id())
        {
            answers.push(Message::BlockProposal(proposal));
        }
        if let Some(timeout) = &self.promise.timeout
            && (timeout.view() > status.view || (timeout.view() == status.view && status.timeouts & own == 0))
        {
            answers.push(Message::Timeout(timeout.clone()));
        }
        if let Some((vote, signed)) = self.promise.vote.and_then(|signed| Some((Vote::of(signed.body())?, signed)))
            && vote.view >= status.view
            && vote.view > status.high_qc_view
            && status.votes & own == 0
            && self.leader_after(&vote.block, vote.view.next()) == Some(from)
        {
            answers.push(Message::BlockVote(signed));
        }
        for message in answers {
            // Some of it is this replica's own word, and all of that is in the newest promise.
            self.foundation.send(Recipients::One(from), message, self.promise_record);
        }
    }

    /// The proposal of the present view, whoever made it.
    fn proposal_of_view(&self) -> Option<BlockProposal> {
        let digest = self.candidate?.digest;
        let (block, signed) = (self.tree.get(&digest)?, self.signed.get(&digest)?);
        Some(BlockProposal { signed: *signed, block: (**block).clone() })
    }

    pub(super) fn handle_transfer(&mut self, now: Now, from: ReplicaId, answer: Message) {
        if let Some(snapshot) = self.foundation.take_part(from, answer) {
            self.install(now, snapshot);
        }
        self.foundation.tend_transfer(now);
    }

    /// Takes a certified or vouched state as executed.
    fn install(&mut self, now: Now, snapshot: Snapshot) {
        if !self.foundation.stand_at(&snapshot) {
            return;
        }
        self.installed = snapshot.seq;
        self.executing.clear();
        // At once: a vote of a life that is over must not count because its Rejoin is only in the state.
        self.learn_lives(now, Rejoined::of_snapshot(&snapshot), false);
        self.heed_own_life(now);
        self.foundation.install(now, snapshot);
        self.try_new_root(now);
        self.revisit_waiting(now);
        self.deliver();
        self.collect_garbage();
    }
}
