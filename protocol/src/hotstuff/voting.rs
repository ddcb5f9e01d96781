//! Proposals, votes, certificates (Jolteon, figure 3, "Vote" and "Lock").

use std::sync::Arc;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Signed, View};

use crate::engine::{Now, Recipients};
use crate::hotstuff::block::Block;
use crate::hotstuff::certificate::{Collected, QuorumCertificate, Vote};
use crate::hotstuff::message::BlockProposal;
use crate::hotstuff::{Candidate, Replica, Timing, safety};
use crate::message::Message;
use crate::rejoin::rules::VoteJudgement;

impl Replica {
    /// Whether a statement of `view` is of the life that speaks there.
    pub(super) fn life_counts(&self, signed: &Signed, view: View) -> bool {
        let began = self.lines.get(&signed.signer()).copied();
        safety::judge_life(&signed.statement, view, began) == VoteJudgement::Counts || alive(Mutant::OldVotesCount)
    }

    pub(super) fn handle_proposal(&mut self, now: Now, from: ReplicaId, proposal: BlockProposal) {
        self.check_proposal(&proposal.signed);
        // What the block rests on is news whatever becomes of the block.
        if let Some(timeout) = proposal.block.timeout.clone() {
            self.learn_timeout_certificate(now, Some(from), &timeout);
        }
        self.learn_certificate(now, Some(from), &proposal.block.justify.clone());
        let block = &proposal.block;
        if block.view != self.view() || block.author == self.id() || !self.life_counts(&proposal.signed, block.view) {
            // A block of a view that is over is taken if it is needed, as it would be if it were fetched by its digest.
            if self.is_lacking(&block.digest()) {
                self.take_certified(now, proposal.block);
            }
            return;
        }
        if block.proposal.is_well_formed(self.foundation.parameters().batch_requests_max) {
            self.consider(now, from, proposal);
        }
    }

    /// Looks whether a block of the present view is one to vote for; the first that fits is, and stays so.
    pub(super) fn consider(&mut self, now: Now, from: ReplicaId, proposal: BlockProposal) {
        let BlockProposal { signed, block } = &proposal;
        let Some(parent) = self.tree.parent(block) else {
            self.waiting.insert(block.author, (from, proposal));
            return self.want_blocks(now, Some(from));
        };
        let Some(counted) = self.tree.counted(&block.parent) else { return };
        let fits = safety::fits(block, parent, &counted, self.foundation.committee());
        if fits.is_err() || self.candidate.is_some() {
            return;
        }
        let timing = self.timing_of(now, block);
        let (digest, signed) = (block.digest(), *signed);
        self.insert_block(now, Arc::new(proposal.block), false);
        if self.tree.contains(&digest) {
            self.candidate = Some(Candidate { digest, timing });
            self.signed.insert(digest, signed);
            let setup = &self.foundation.setup;
            self.slow_leaders.came(now.monotonic, self.pacemaker.started(), setup.parameters.view_timeout);
            self.pacemaker.calm(&setup.parameters, &setup.committee);
            self.try_vote(now);
        }
    }

    /// How the time of a fresh block agrees with this replica's clock. A null block has none.
    fn timing_of(&self, now: Now, block: &Block) -> Timing {
        let parameters = self.foundation.parameters();
        let (bound, cap) = (parameters.proposal_time_bound, parameters.proposal_time_bound_cap);
        let (time, failed) = (block.proposal.time, self.pacemaker.failed_views());
        if block.is_null() || safety::time_is_acceptable(time, now.wall, bound, cap, failed) {
            return Timing::Agrees;
        }
        match safety::early_by(time, now.wall, bound, cap, failed) {
            0 => Timing::Late,
            millis => Timing::Early { until: now.monotonic.saturating_add(millis.saturating_mul(1_000)) },
        }
    }

    /// Looks again at a candidate whose time was ahead of the clock, once the clock has come close enough. Within the view the
    /// block is as fresh as when it came, and what the rule forbids is a vote for a time further ahead than the bound *now*: a
    /// leader whose clock is a little too fast costs the difference, and not its view.
    pub(super) fn heed_clock(&mut self, now: Now) {
        let Some(Candidate { digest, timing: Timing::Early { until } }) = self.candidate else { return };
        if until > now.monotonic {
            return;
        }
        let Some(block) = self.tree.get(&digest) else { return };
        let timing = self.timing_of(now, block);
        self.candidate = Some(Candidate { digest, timing });
        self.try_vote(now);
    }

    /// Proposals whose parents have come, or that were certified meanwhile.
    pub(super) fn revisit_waiting(&mut self, now: Now) {
        if self.adopt_waiting(now) {
            self.try_new_root(now);
        }
        let view = self.view();
        // One of a view that is over may still turn out to be certified: what comes out of order names the newest first.
        let committed = self.tree.committed().view;
        self.waiting.retain(|_, (_, proposal)| proposal.block.view > committed);
        let ready = |(_, (_, proposal)): &(&ReplicaId, &(ReplicaId, BlockProposal))| {
            proposal.block.view == view && self.tree.contains(&proposal.block.parent)
        };
        let ready: Vec<ReplicaId> = self.waiting.iter().filter(ready).map(|(author, _)| *author).collect();
        for author in ready {
            if let Some((from, proposal)) = self.waiting.remove(&author) {
                self.consider(now, from, proposal);
            }
        }
    }

    /// Adds a block to the tree. `vouched` says that a verified certificate names it, directly or through its descendants.
    pub(super) fn insert_block(&mut self, now: Now, block: Arc<Block>, vouched: bool) {
        use crate::hotstuff::tree::Inserted;
        let committed = Arc::clone(self.tree.committed());
        match self.tree.insert(Arc::clone(&block)) {
            Inserted::InTree(added) => self.joined(now, &added),
            // Every block certified in a later view extends what is committed, or more than f have lied.
            Inserted::Abandoned if vouched && block.view > committed.view => {
                self.foundation
                    .halt(crate::engine::Halt::Forked { committed: committed.digest(), certified: block.digest() });
            }
            // So far behind that only a state helps: the fetching begins anew at the top.
            Inserted::Full => self.tree.drop_orphans(),
            Inserted::Abandoned | Inserted::Known | Inserted::Lacks(_) => {}
        }
    }

    fn joined(&mut self, now: Now, added: &[Arc<Block>]) {
        for block in added {
            let may_win = block.seq > self.foundation.executed;
            self.foundation.name_requests(&block.proposal, may_win);
        }
        for block in added {
            self.commit_by(now, &block.justify);
        }
        let high_qc = self.promise.high_qc.clone();
        self.commit_by(now, &high_qc);
        let (candidate, high, voted) = (self.candidate, high_qc.block(), self.promise.vote);
        let voted = voted.and_then(|signed| Vote::of(signed.body())).map(|vote| vote.block);
        let needed = |block: &Block| {
            let digest = block.digest();
            digest == high || Some(digest) == voted || candidate.is_some_and(|candidate| candidate.digest == digest)
        };
        let shed = self.tree.shed(needed);
        self.forget_blocks(&shed);
    }

    /// Votes for the candidate, if nothing is in the way. Idempotent: whatever may have taken an obstacle away calls it.
    pub(super) fn try_vote(&mut self, now: Now) {
        let Some(candidate) = self.candidate.filter(|candidate| candidate.timing == Timing::Agrees) else { return };
        let Some(block) = self.tree.get(&candidate.digest).cloned() else { return };
        if self.foundation.is_rejoining() || block.view != self.view() || !safety::may_vote(&block, &self.promise) {
            return;
        }
        // Without the bodies no vote: they are asked for.
        if !self.in_window(block.seq) || !self.foundation.bodies_held(&block.proposal) {
            return;
        }
        if !self.foundation.fits_a_batch(&block.proposal) {
            return;
        }
        let Some(leader) = self.leader_after(&candidate.digest, block.view.next()) else { return };
        self.record_path(&block);
        let vote = Vote { view: block.view, block: block.digest(), parent_view: block.justify.view() };
        let signed = self.foundation.sign(vote.body());
        self.promise.raise(&block.justify);
        self.promise.voted(signed);
        let record = self.record_promise();
        if leader == self.id() {
            self.collect(now, signed);
        } else {
            let after = (!alive(Mutant::VoteBeforeRecord)).then_some(record);
            self.foundation.send(Recipients::One(leader), Message::BlockVote(signed), after);
            self.slow_leaders.await_leader(leader, block.author == self.id(), now.monotonic);
        }
    }

    pub(super) fn handle_vote(&mut self, now: Now, signed: Signed) {
        let Some(vote) = Vote::of(signed.body()) else { return };
        if signed.signer() != self.id() && self.life_counts(&signed, vote.view) {
            self.collect(now, signed);
        }
    }

    fn collect(&mut self, now: Now, signed: Signed) {
        let Some(vote) = Vote::of(signed.body()) else { return };
        self.check_vote(&signed);
        match self.collector.add(signed, self.view()) {
            Collected::New => {
                self.show_other_block(&signed, vote);
                self.try_certify(now, vote.view);
            }
            Collected::Contradicts(held) => self.foundation.accuse_pair(Some(held), &signed),
            Collected::Nothing => {}
        }
    }

    /// Somebody voted for another block than this replica holds of that view: it is shown the leader's signature under this
    /// one, so that both halves of an equivocation are in one honest replica's hands. Once a voter and view.
    fn show_other_block(&mut self, signed: &Signed, vote: Vote) {
        let other = self.tree.of_view(vote.view).find(|block| block.digest() != vote.block);
        let held = other.and_then(|block| Some((block, self.signed.get(&block.digest())?)));
        let Some((block, proposed)) = held.filter(|_| signed.signer() != self.id()) else { return };
        let message = Message::BlockProposal(BlockProposal { signed: *proposed, block: (**block).clone() });
        self.foundation.send(Recipients::One(signed.signer()), message, self.promise_record);
    }

    /// Makes a certificate of the votes of `view`, once there are q.
    pub(super) fn try_certify(&mut self, now: Now, view: View) {
        if view <= self.promise.high_qc.view() {
            return;
        }
        let verifier = self.foundation.setup.verifier.clone();
        let committee = Arc::clone(&self.foundation.setup.committee);
        if let Some(certificate) = self.collector.certificate(view, &committee, |claims| verifier.check(claims)) {
            self.learn_certificate(now, None, &certificate);
        }
    }

    /// A verified QC: a higher view may begin, blocks may be committed, the certified block may be lacking.
    pub(super) fn learn_certificate(&mut self, now: Now, from: Option<ReplicaId>, certificate: &QuorumCertificate) {
        let news = self.promise.raise(certificate);
        if news {
            self.check_certificate(certificate);
        }
        self.enter_view(now);
        self.commit_by(now, certificate);
        if news && !self.tree.contains(&certificate.block()) {
            self.want_blocks(now, from);
        }
    }

    /// The requests that stand in a block that may still be committed: on the way to the highest certificate, in the
    /// candidate, or handed on and not executed.
    pub(super) fn standing_requests(&self) -> std::collections::BTreeSet<Digest> {
        let path = self.tree.path(&self.promise.high_qc.block()).unwrap_or_default();
        let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest).cloned());
        let blocks = path.iter().chain(&candidate).chain(&self.undelivered).chain(self.executing.values());
        blocks.flat_map(|block| block.proposal.requests()).copied().collect()
    }
}
