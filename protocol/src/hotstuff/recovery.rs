//! From records back to a replica: it resumes at max(high QC, high TC) + 1, sends the same bytes again, and never contradicts
//! what it signed (rules H5, H6).

use std::sync::Arc;

use quorate_crypto::{Digest, StatementBody};

use crate::engine::{Now, RecordIndex};
use crate::foundation::{RecoveredBodies, Setup};
use crate::hotstuff::block::Block;
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::pacemaker::Pacemaker;
use crate::hotstuff::promise::Promise;
use crate::hotstuff::tree::{BlockTree, Root};
use crate::hotstuff::{Candidate, Replica, Timing, safety, tree};
use crate::record::Record;
use crate::state::Snapshot;

/// What the records of a log add up to, beside what every engine keeps.
#[derive(Default)]
struct Log {
    bodies: RecoveredBodies,
    blocks: Vec<(RecordIndex, Block)>,
    committed: Vec<(Digest, QuorumCertificate)>,
    root: Option<Root>,
    promise: Option<(RecordIndex, Promise)>,
}

impl Replica {
    /// Rebuilds a replica from the records of its log, in order, and the newest durable snapshot. `trusted` is what the log's
    /// own mark says; without it, or with a Rejoin that is not settled, the replica rejoins, and of its own promises none
    /// counts. Records of the other engine are refused: nothing of them is taken.
    pub fn recover(
        setup: Setup,
        now: Now,
        records: Vec<(RecordIndex, Record)>,
        snapshot: Option<Snapshot>,
        trusted: bool,
    ) -> Replica {
        let mut replica = Replica::new(setup);
        replica.foundation.recover_life(&records, trusted);
        let mut log = Log::default();
        for (index, record) in records {
            if let Some(record) = replica.foundation.recover_record(index, record, &mut log.bodies) {
                replica.read(&mut log, index, record);
            }
        }
        replica.take_blocks(&mut log);
        replica.rest_on_bodies(&log.bodies);
        replica.foundation.recover_bodies(std::mem::take(&mut log.bodies));
        replica.take_promise(log);
        replica.foundation.lives.replayed = replica.tree.committed().seq;
        if let Some(snapshot) = snapshot {
            replica.foundation.recover_snapshot(now, snapshot);
            replica.place_lines(false);
        }
        let delivered = replica.foundation.delivered;
        replica.undelivered.retain(|block| block.seq > delivered);
        replica.resume(now);
        replica
    }

    fn read(&mut self, log: &mut Log, index: RecordIndex, record: Record) {
        match record {
            Record::HotStuff(promise) => log.promise = Some((index, *promise)),
            Record::Block(block) => log.blocks.push((index, *block)),
            Record::BlockCommitted { block, certificate } => log.committed.push((block, certificate)),
            Record::HotStuffBase { promise, stable, root, settled, settled_by_child, checkpoints, executed } => {
                log.promise = Some((index, *promise));
                let [settled, settled_by_child] =
                    [settled, settled_by_child].map(|block| block.map(|block| Arc::new(*block)));
                log.root = Some(Root { block: Arc::new(*root), settled, settled_by_child });
                self.foundation.recover_base(stable, checkpoints, executed);
            }
            // Taken by the foundation; or of the other engine.
            Record::Requests(_)
            | Record::Checkpoint(_)
            | Record::Stable(_)
            | Record::Executed(_)
            | Record::Rejoin(_)
            | Record::Rejoined { .. }
            | Record::Reserve { .. }
            | Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Prepared { .. }
            | Record::Committed(_)
            | Record::LeftView(_)
            | Record::NewView { .. }
            | Record::Base { .. } => {}
        }
    }

    fn take_blocks(&mut self, log: &mut Log) {
        if let Some(root) = log.root.take() {
            self.tree = BlockTree::rooted(root, tree::orphans_max(self.foundation.parameters()));
        }
        for (index, block) in std::mem::take(&mut log.blocks) {
            let block = Arc::new(block);
            self.tree.insert(Arc::clone(&block));
            self.records.entry(block.digest()).or_insert(index);
        }
        for (digest, _) in &log.committed {
            if let Ok(commit) = self.tree.commit(digest) {
                self.undelivered.extend(commit.committed);
            }
        }
        // One that waits for its parent may be the one last voted for: the next cut must leave it.
        let tree = &self.tree;
        self.records.retain(|digest, _| tree.holds(digest));
        for block in self.tree.iter() {
            self.foundation.name_requests(&block.proposal, false);
        }
    }

    /// A block rests on the records of its bodies, too: the next cut must leave them.
    fn rest_on_bodies(&mut self, bodies: &RecoveredBodies) {
        for (digest, record) in &mut self.records {
            let Some(block) = self.tree.get(digest).or_else(|| self.tree.orphan(digest)) else { continue };
            let bodies = block.proposal.requests().iter().filter_map(|digest| bodies.recorded(digest));
            *record = bodies.min().map_or(*record, |first| first.min(*record));
        }
    }

    fn take_promise(&mut self, log: Log) {
        if let Some((index, promise)) = log.promise {
            let epoch = promise.epoch;
            let promise = promise.read_back();
            self.promise_record = Some(index);
            self.promise = if self.foundation.is_rejoining() {
                Promise { high_qc: promise.high_qc, high_tc: promise.high_tc, ..Promise::new(epoch) }
            } else {
                promise
            };
        }
        // They were verified before they were written, and the last may be higher than any that a promise rested on.
        for (_, certificate) in &log.committed {
            self.promise.raise(certificate);
        }
    }

    /// Takes up the view that the certificates open, with what was said in it.
    fn resume(&mut self, now: Now) {
        let high_qc = self.promise.high_qc.view();
        let view = safety::recovery_view(high_qc, self.promise.high_tc_view());
        self.pacemaker = Pacemaker::new(view);
        if let Some(timeout) = self.promise.timeout.clone() {
            self.pacemaker.add(timeout);
        }
        if let Some(signed) = self.promise.vote {
            self.collector.add(signed, view);
        }
        if let Some(StatementBody::Proposal { view: of, block }) = self.promise.proposal.map(|signed| *signed.body())
            && let Some(signed) = self.promise.proposal
            && let Some(block) = self.tree.get(&block).cloned()
        {
            self.foundation.last_time = block.proposal.time;
            self.signed.insert(block.digest(), signed);
            if of == view {
                self.candidate = Some(Candidate { digest: block.digest(), timing: Timing::Agrees });
            }
        }
        let voted = self.last_vote().filter(|vote| vote.view == view && self.tree.contains(&vote.block));
        if let Some(vote) = voted {
            self.candidate = Some(Candidate { digest: vote.block, timing: Timing::Agrees });
        }
        // What the certificates commit was perhaps not committed before the end came.
        let chain: Vec<Arc<Block>> = self.tree.iter().cloned().collect();
        for block in chain {
            self.commit_by(now, &block.justify);
        }
        let high_qc = self.promise.high_qc.clone();
        self.commit_by(now, &high_qc);
        self.try_new_root(now);
    }
}
