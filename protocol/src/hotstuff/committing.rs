//! The commit rule, delivery, execution, checkpoints, cutting the log.

use std::sync::Arc;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Digest, Seq, Signed};

use crate::engine::{Halt, Now, RecordIndex};
use crate::foundation::Stored;
use crate::hotstuff::block::Block;
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::tree::CommitError;
use crate::hotstuff::{Replica, safety};
use crate::record::Record;
use crate::state::Snapshot;

impl Replica {
    /// Commits what a verified QC commits, if the blocks are here.
    pub(super) fn commit_by(&mut self, now: Now, certificate: &QuorumCertificate) {
        let Some(block) = self.tree.get(&certificate.block()) else { return };
        let Some(parent) = self.tree.parent(block) else { return };
        if !safety::commits(certificate, block, parent) {
            return;
        }
        let digest = parent.digest();
        match self.tree.commit(&digest) {
            Ok(commit) if commit.committed.is_empty() => {}
            Ok(commit) => {
                for block in &commit.committed {
                    self.record_block(block);
                }
                self.undelivered.extend(commit.committed);
                let record = Record::BlockCommitted { block: digest, certificate: certificate.clone() };
                self.foundation.record(record);
                self.forget_blocks(&commit.abandoned);
                self.pacemaker.progressed();
                self.deliver();
            }
            Err(CommitError::Lacks(_)) => self.want_blocks(now, None),
            Err(CommitError::Conflict(_)) => {
                let committed = self.tree.committed().digest();
                self.foundation.halt(Halt::Forked { committed, certified: digest });
            }
        }
    }

    /// Blocks left the tree: their bodies are not needed for them, and what an abandoned one named waits again.
    pub(super) fn forget_blocks(&mut self, gone: &[Arc<Block>]) {
        if gone.is_empty() {
            return;
        }
        for block in gone {
            self.signed.remove(&block.digest());
            self.records.remove(&block.digest());
        }
        let abandoned = gone.iter().filter(|block| block.seq > self.foundation.executed);
        let requests: Vec<Digest> = abandoned.flat_map(|block| block.proposal.requests()).copied().collect();
        if !requests.is_empty() {
            let standing = self.standing_requests();
            for request in requests.iter().filter(|request| !standing.contains(request)) {
                self.foundation.pending.not_proposed(request);
            }
        }
        for block in gone {
            self.foundation.unname_requests(&block.proposal);
        }
    }

    /// Hands committed batches on, in order, as far as their bodies are here. A decision may count this replica's own vote,
    /// which must survive a power cut before anyone is told of what it decided.
    ///
    /// What lies too far above the stable checkpoint waits for its certificate, as votes do under PBFT (rule P9); the chain of
    /// blocks goes on. A quorum has voted within its window, so f + 1 honest replicas have a checkpoint that is high enough,
    /// and a STATUS is answered with it.
    pub(super) fn deliver(&mut self) {
        while let Some(block) = self.undelivered.front().cloned() {
            if block.is_null() || block.seq <= self.foundation.delivered {
                self.undelivered.pop_front();
                continue;
            }
            let look_ahead = self.foundation.stable().plus(self.foundation.parameters().look_ahead());
            if block.seq > look_ahead {
                return;
            }
            if block.seq != self.foundation.delivered.next() || !self.foundation.bodies_held(&block.proposal) {
                return;
            }
            self.undelivered.pop_front();
            self.record_block(&block);
            let after = self.promise_record.filter(|_| !alive(Mutant::DecisionBeforeRecord));
            self.foundation.decide(block.proposal.clone(), after);
            self.executing.insert(block.seq, block);
        }
    }

    /// Looks once a turn at what the bodies that came make possible.
    pub(super) fn use_new_bodies(&mut self, now: Now) {
        if self.foundation.take_bodies_came() {
            self.deliver();
            self.try_vote(now);
        }
    }

    pub(super) fn handle_executed(&mut self, now: Now, seq: Seq, results: Digest, next_deadline: Option<u64>) {
        if !self.foundation.note_executed(seq, next_deadline) {
            return;
        }
        let executed = self.executing.remove(&seq);
        let requests = executed.as_ref().map(|block| block.proposal.requests().to_vec()).unwrap_or_default();
        let bytes = self.foundation.leave_pending(&requests);
        if let Some(record) = self.foundation.state_executed(seq, results)
            && let Some(block) = executed
        {
            self.records.entry(block.digest()).or_insert(record);
        }
        self.foundation.measure(now, requests.len(), bytes);
        self.check_attempt();
    }

    pub(super) fn handle_checkpoint(&mut self, now: Now, signed: Signed) {
        if let Some(certificate) = self.foundation.take_checkpoint(signed) {
            self.adopt_stable(now, certificate);
        }
    }

    /// The snapshot is durable: vouch for it (protocol.md, Durable before sent).
    pub(super) fn handle_checkpoint_stored(&mut self, now: Now, snapshot: Snapshot, root: Digest) {
        let seq = snapshot.seq;
        match self.foundation.checkpoint_stored(now, snapshot, root) {
            Stored::Settled => {}
            Stored::Vouched(Some(certificate)) => self.adopt_stable(now, certificate),
            Stored::Vouched(None) | Stored::NoVote if seq == self.foundation.stable() => self.cut_log(),
            Stored::Vouched(None) | Stored::NoVote => {}
        }
    }

    /// Vouches for snapshots above the stable checkpoint that became durable while this replica had no vote.
    pub(super) fn vouch_for_held(&mut self, now: Now) {
        for (seq, root) in self.foundation.transfer.roots_above(self.foundation.stable()) {
            if self.foundation.owes_checkpoint(seq)
                && let Some(certificate) = self.foundation.vouch(seq, root)
            {
                self.adopt_stable(now, certificate);
            }
        }
    }

    /// Makes a verified certificate the low watermark, if it is newer, and does what has become possible.
    pub(super) fn adopt_stable(&mut self, now: Now, certificate: Certificate) {
        if !self.foundation.stabilise(certificate) {
            return;
        }
        self.collect_garbage();
        if self.foundation.may_cut(self.foundation.stable()) {
            self.cut_log();
        }
        self.deliver();
        self.try_vote(now);
    }

    /// Forgets what lies below the stable checkpoint before the newest: blocks are served to laggards until then. A replica
    /// that is behind keeps what it still needs.
    pub(super) fn collect_garbage(&mut self) {
        let keep_from = self.foundation.forget_old().min(self.foundation.executed);
        let root =
            self.tree.iter().rev().find(|block| block.seq <= keep_from && self.tree.is_committed(&block.digest()));
        let root = root.map(|block| block.digest());
        // Down to what its chain settles, too: who begins a tree anew at this checkpoint must see whom leaders follow from.
        let settled = root.and_then(|root| self.tree.settled(&root)).map(|settled| settled.digest());
        if let Some(root) = settled.filter(|settled| self.tree.contains(settled)).or(root) {
            let gone = self.tree.prune(&root);
            self.forget_blocks(&gone);
        }
    }

    /// Everything below can go once the certificate of q and the own snapshot are durable: the certificate's record and the
    /// base are in this step, the snapshot is durable already.
    fn cut_log(&mut self) {
        if !self.is_state_durable() {
            // The log still tells how to come as far as this replica has come.
            return;
        }
        let base = self.record_base();
        // Orphans go without anyone being told of it: what rested on their records does not hold the log back.
        let tree = &self.tree;
        self.records.retain(|digest, _| tree.holds(digest));
        let lowest = self.tree.lowest().digest();
        let needed = self.records.iter().filter(|(digest, _)| **digest != lowest).map(|(_, record)| *record).min();
        let cut = needed.filter(|_| !alive(Mutant::CutsTooMuch)).map_or(base, |needed| needed.min(base));
        self.foundation.cut(cut);
    }

    /// Whether a restart finds the state that this replica stands on: what it executed follows from its log, but a state that
    /// was fetched is nowhere else than in its snapshot, or in that of a later checkpoint. Until then the log must neither say
    /// that the tree begins there nor count as one that tells everything.
    pub(super) fn is_state_durable(&self) -> bool {
        self.installed == Seq(0) || self.foundation.transfer.newest().is_some_and(|held| held.seq >= self.installed)
    }

    /// Tells the log where the tree begins since a state was fetched: blocks above would find no place after a restart.
    pub(super) fn tend_base(&mut self) {
        if self.base_is_due && self.is_state_durable() {
            self.record_base();
        }
    }

    /// Writes anew what a restart needs besides the blocks.
    pub(super) fn record_base(&mut self) -> RecordIndex {
        let root = self.tree.root();
        let boxed = |block: &Option<Arc<Block>>| block.as_ref().map(|block| Box::new((**block).clone()));
        let base = Record::HotStuffBase {
            promise: Box::new(self.promise.clone()),
            stable: self.foundation.checkpoints.stable().cloned(),
            settled: boxed(&root.settled),
            settled_by_child: boxed(&root.settled_by_child),
            root: Box::new((*root.block).clone()),
            checkpoints: self.foundation.checkpoints.all_own().copied().collect(),
            executed: self.foundation.own_executed.values().copied().collect(),
        };
        let base = self.foundation.record(base);
        self.base_is_due = false;
        self.foundation.record_life();
        base
    }
}
