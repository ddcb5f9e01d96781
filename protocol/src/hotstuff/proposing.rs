//! What a leader proposes, and when (Jolteon, figure 3, "Propose").
//!
//! | the leader has | it sends |
//! |---|---|
//! | requests that wait, or an overdue deadline, and room in the window | a batch |
//! | a chain that orders something which neither its own certificates commit nor the one for its last block | a null block |
//! | a new QC and nothing to do | the QC alone, once: all are in its view then, and a dead leader costs one timeout |
//!
//! So one null block and its QC finish a burst, and then there is silence: the leader of the next view has nothing under way, and
//! proposes as soon as a request comes.

use std::sync::Arc;

use quorate_crypto::StatementBody;

use crate::engine::{Now, Recipients};
use crate::hotstuff::block::{Block, BlockContent};
use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use crate::hotstuff::message::BlockProposal;
use crate::hotstuff::{Candidate, Replica, Timing, safety};
use crate::message::Message;
use crate::proposal::{Payload, Proposal};

/// What a block of the present view by this replica rests on.
struct Ground {
    parent: Arc<Block>,
    justify: QuorumCertificate,
    timeout: Option<TimeoutCertificate>,
}

impl Replica {
    pub(super) fn propose(&mut self, now: Now) {
        if self.foundation.is_rejoining() || !safety::may_propose(self.view(), &self.promise) {
            return;
        }
        let Some(ground) = self.ground() else { return };
        match self.next_proposal(now, &ground.parent) {
            Some(proposal) => self.propose_block(now, ground, proposal),
            None => self.tell_certificate(),
        }
    }

    /// What to build on, if this replica leads the present view: the highest QC; or the one that the TC entering the view
    /// carries, if leaders follow otherwise from the two and only that one makes this replica the leader.
    fn ground(&self) -> Option<Ground> {
        let view = self.view();
        let high_qc = &self.promise.high_qc;
        let timeout = self.promise.high_tc.as_ref().filter(|timeout| timeout.view.next() == view);
        let timeout = timeout.filter(|_| high_qc.view().next() != view);
        if timeout.is_none() && high_qc.view().next() != view {
            return None;
        }
        let options = [Some(high_qc), timeout.map(|timeout| &timeout.high_qc)];
        options.into_iter().flatten().find_map(|justify| {
            let parent = self.tree.get(&justify.block())?;
            let leads = self.leader_after(&justify.block(), view) == Some(self.id());
            leads.then(|| Ground { parent: Arc::clone(parent), justify: justify.clone(), timeout: timeout.cloned() })
        })
    }

    fn next_proposal(&mut self, now: Now, parent: &Block) -> Option<Proposal> {
        let unfinished = self.tree.is_unfinished(&parent.digest());
        let waiting = self.foundation.pending.unproposed() > 0;
        let overdue = self.foundation.deadline_is_due(now) && !unfinished;
        if self.in_window(parent.seq.next()) && (waiting || overdue) {
            let room = self.foundation.room_in_batch();
            let batch = self.foundation.pending.take_batch(room.requests, room.bytes);
            return Some(Proposal { time: self.foundation.next_time(now), payload: Payload::Batch(batch) });
        }
        unfinished.then_some(Proposal::NULL)
    }

    fn propose_block(&mut self, now: Now, ground: Ground, proposal: Proposal) {
        let Ground { parent, justify, timeout } = ground;
        let Some(counted) = self.tree.counted(&parent.digest()) else { return };
        let (view, author) = (self.view(), self.id());
        let seq = if proposal.payload == Payload::Null { parent.seq } else { parent.seq.next() };
        let standing = parent.standing.after(&counted, parent.view, view, author, self.foundation.committee());
        let content = BlockContent { view, parent: parent.digest(), seq, proposal, justify, timeout, author, standing };
        let block = Arc::new(Block::new(content));
        let digest = block.digest();
        let signed = self.foundation.sign(StatementBody::Proposal { view, block: digest });
        let message = BlockProposal { signed, block: (*block).clone() };
        self.record_path(&block);
        self.promise.proposed(view, signed);
        let record = self.record_promise();
        self.signed.insert(digest, signed);
        self.candidate = Some(Candidate { digest, timing: Timing::Agrees });
        self.foundation.send(Recipients::Others, Message::BlockProposal(message), Some(record));
        self.insert_block(now, block, false);
        self.try_vote(now);
    }

    /// The QC alone, once. It may hold this replica's own vote, which must be durable first.
    fn tell_certificate(&mut self) {
        let high_qc = &self.promise.high_qc;
        if high_qc.view().next() != self.view() || high_qc.view() <= self.told_certificate {
            return;
        }
        self.told_certificate = high_qc.view();
        let message = Message::QuorumCertificate(high_qc.clone());
        self.foundation.send(Recipients::Others, message, self.promise_record);
    }
}
