//! Lives of replicas: the own way back without a trusted log, and what is believed of others that came back
//! ([`crate::rejoin`]).
//!
//! Under HotStuff the line between two lives is w, the view of the block that holds the Rejoin: every signature of the older
//! life is of a view up to w. So a replica goes on as soon as its own Rejoin is committed and executed: it takes the highest QC
//! it holds, which is at or above the one that committed the Rejoin, and signs only in later views. No gap of L, no null
//! requests. EXECUTED has its line at n_r itself; CHECKPOINT has one for the old life only
//! ([`crate::rejoin::rules::checkpoint`]).

use quorate_crypto::{Seq, View};

use crate::engine::Now;
use crate::hotstuff::promise::Promise;
use crate::hotstuff::{Replica, VoteCollector};
use crate::rejoin::Rejoined;

impl Replica {
    /// The executed state shows other lives than before.
    pub(super) fn handle_rejoined(&mut self, now: Now, rejoined: Rejoined) {
        self.learn_lives(now, rejoined, true);
        self.heed_own_life(now);
        self.check_attempt();
    }

    /// Takes the lives of a state that executed here just now, or that came as it is.
    pub(super) fn learn_lives(&mut self, now: Now, rejoined: Rejoined, executes: bool) {
        self.foundation.learn_lives(now, rejoined, executes);
        self.place_lines(false);
        let lines = &self.lines;
        self.pacemaker.keep_timeouts(|timeout| {
            let began = lines.get(&timeout.signed.signer()).copied();
            crate::hotstuff::safety::judge_life(&timeout.signed.statement, timeout.view(), began)
                == crate::rejoin::rules::VoteJudgement::Counts
        });
    }

    /// Notes for every Rejoin the view of the block that holds it; that of the lowest block kept, if it lies below. `again`
    /// says that the tree began anew, so that what was said of unknown blocks is looked up again.
    pub(super) fn place_lines(&mut self, again: bool) {
        let records: Vec<_> = self.foundation.lives.rejoined.iter().map(|(id, record)| (id, *record)).collect();
        for (replica, record) in records {
            let known = self.lines.get(&replica).is_some_and(|(life, _)| *life == record.incarnation);
            let held = self.view_of(record.seq);
            if !known || (again && held.is_some()) {
                let view = held.unwrap_or(self.tree.lowest().view);
                self.lines.insert(replica, (record.incarnation, view));
            }
        }
    }

    /// The view of the committed batch with this number.
    fn view_of(&self, seq: Seq) -> Option<View> {
        let mut ordering = self.tree.iter().filter(|block| block.seq == seq && !block.is_null());
        ordering.find(|block| self.tree.is_committed(&block.digest())).map(|block| block.view)
    }

    /// Rejoins if the state shows that this life is over.
    pub(super) fn heed_own_life(&mut self, now: Now) {
        if self.foundation.is_outlived() {
            self.begin_rejoin(now);
        }
    }

    /// The log lacks promises. From this step on nothing is signed but Rejoin: what this replica promised and takes on is
    /// given up, what others certified is kept.
    pub(super) fn begin_rejoin(&mut self, now: Now) {
        if self.foundation.is_rejoining() {
            return;
        }
        let epoch = self.promise.epoch;
        let (high_qc, high_tc) = (self.promise.high_qc.clone(), self.promise.high_tc.take());
        self.promise = Promise { high_qc, high_tc, ..Promise::new(epoch) };
        self.promise_record = None;
        self.candidate = None;
        self.waiting.clear();
        self.collector = VoteCollector::default();
        let own = self.id();
        self.pacemaker.keep_timeouts(|timeout| timeout.signed.signer() != own);
        self.foundation.begin_rejoin(now);
        // What is committed is still to be executed, and its bodies are fetched anew.
        let blocks: Vec<_> = self.tree.iter().cloned().collect();
        for block in blocks {
            self.foundation.name_requests(&block.proposal, false);
        }
    }

    /// Signs and records an attempt if none is under way, and sends it from time to time.
    pub(super) fn tend_rejoin(&mut self, now: Now) {
        self.check_attempt();
        self.foundation.tend_rejoin(now);
    }

    /// Looks what the executed state says of the attempt. It must be this replica's own tree that committed it: only then is
    /// the highest QC at or above the one that did. And a restart must find that state: a trusted log beside a state that is
    /// gone with the power would speak for a life that no longer knows that it began. Looked at in every turn, so also when the
    /// snapshot has become durable.
    pub(super) fn check_attempt(&mut self) {
        let executed = self.foundation.executed;
        if !self.foundation.is_rejoining() || self.tree.committed().seq < executed || !self.is_state_durable() {
            return;
        }
        let shown = self.foundation.lives.rejoined.clone();
        if self.foundation.settle_attempt(&shown, executed) {
            self.promise = Promise::of_new_life(self.promise.epoch, self.promise.high_qc.clone());
            // The base that the new life goes on from, and what says which life it is.
            self.promise_record = Some(self.record_base());
            self.foundation.trust_log();
        }
    }

    /// The log is trusted again: the new life begins.
    pub(super) fn handle_log_trusted(&mut self, now: Now) {
        if !self.foundation.begin_life(now) {
            return;
        }
        self.heed_own_life(now);
        if !self.foundation.is_rejoining() {
            self.vouch_for_held(now);
        }
    }
}
