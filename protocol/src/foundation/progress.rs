//! How far the order is decided and executed, agreed time, and this replica's EXECUTED statements.

use quorate_crypto::{Digest, Seq, StatementBody};

use crate::engine::{Decided, Halt, Now, RecordIndex};
use crate::foundation::Foundation;
use crate::proposal::Proposal;
use crate::record::Record;
use crate::state::Snapshot;

impl Foundation {
    /// Hands the next number's batch to execution, which waits for `after`: a decision that counts this replica's own vote
    /// must not be told to anyone before that vote survives a power cut.
    pub(crate) fn decide(&mut self, proposal: Proposal, after: Option<RecordIndex>) {
        let requests: Vec<_> =
            proposal.requests().iter().filter_map(|digest| self.bodies.get(digest).cloned()).collect();
        assert_eq!(requests.len(), proposal.requests().len(), "every body of a delivered batch is held");
        let seq = self.delivered.next();
        self.delivered = seq;
        self.out.decided.push(Decided { seq, proposal, requests, after });
    }

    /// Execution finished `seq`, or says what a state that was loaded or fetched waits for. Returns whether the number is
    /// new: then [`Foundation::leave_pending`], [`Foundation::state_executed`] and [`Foundation::measure`] follow.
    pub(crate) fn note_executed(&mut self, seq: Seq, next_deadline: Option<u64>) -> bool {
        if seq < self.executed {
            return false;
        }
        self.next_deadline = next_deadline;
        let is_new = seq > self.executed;
        self.executed = seq;
        is_new
    }

    /// Requests that were executed leave, and with them whatever else claims their numbers. Returns their bytes.
    pub(crate) fn leave_pending(&mut self, executed: &[Digest]) -> usize {
        let mut bytes = 0;
        for digest in executed {
            let Some(body) = self.bodies.get(digest) else { continue };
            bytes += body.weight();
            let number = super::requests::number_of(body);
            for gone in self.pending.ordered(digest, &number) {
                self.bodies.not_pending(&gone);
            }
        }
        bytes
    }

    /// Signs EXECUTED for a batch, if this life may speak about it and did not before. Returns the record that holds the
    /// statement, if it was signed now. Another root than what was signed before a restart means that this replica's state
    /// is damaged: it halts.
    pub(crate) fn state_executed(&mut self, seq: Seq, results: Digest) -> Option<RecordIndex> {
        if let Some(before) = self.own_executed.get(&seq) {
            // Signed before a restart: never anew.
            if let StatementBody::Executed { results: certified, .. } = *before.body()
                && certified != results
            {
                self.halt(Halt::Diverged { seq, own: results, certified });
            }
            return None;
        }
        if !self.may_sign_about(seq) {
            return None;
        }
        let signed = self.sign(StatementBody::Executed { seq, results });
        let record = self.record(Record::Executed(signed));
        self.own_executed.insert(seq, signed);
        Some(record)
    }

    /// Takes a certified or vouched state as executed, unless it is old. Pending requests may be in it: they are dropped with
    /// their timer, and clients that still wait send them again. Returns whether it was taken; the engine learns the lives it
    /// shows and then hands it on by [`Foundation::install`].
    pub(crate) fn stand_at(&mut self, snapshot: &Snapshot) -> bool {
        let seq = snapshot.seq;
        if seq <= self.delivered {
            return false;
        }
        self.delivered = seq;
        self.executed = seq;
        for digest in self.pending.clear() {
            self.bodies.not_pending(&digest);
        }
        self.stall = None;
        true
    }

    /// Has a state installed, and says at once that this replica has come so far.
    pub(crate) fn install(&mut self, now: Now, snapshot: Snapshot) {
        self.out.install = Some(snapshot);
        self.next_status = now.monotonic;
    }

    /// The header time of the next own proposal: never less than that of the one before.
    pub(crate) fn next_time(&mut self, now: Now) -> u64 {
        self.last_time = self.last_time.max(now.wall);
        self.last_time
    }

    /// The service wants an empty batch: its deadline passed by more than the clocks may differ.
    pub(crate) fn deadline_is_due(&self, now: Now) -> bool {
        self.next_deadline
            .is_some_and(|deadline| now.wall > deadline.saturating_add(self.parameters().proposal_time_bound))
    }
}
