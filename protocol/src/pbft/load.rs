//! What is proposed and undecided, and what of it waits again to be proposed.

use std::collections::BTreeSet;

use quorate_crypto::{Digest, Seq};

use crate::pbft::Replica;

impl Replica {
    /// Requests that this primary assigned numbers to and that are not decided.
    pub(super) fn undecided_requests(&self) -> usize {
        let undecided = self.slots.range(self.foundation.delivered.next()..self.next_seq);
        undecided.flat_map(|(_, slot)| slot.proposals.values()).map(|proposal| proposal.requests().len()).sum()
    }

    pub(super) fn undecided_bytes(&self) -> usize {
        self.slots.range(self.foundation.delivered.next()..self.next_seq).map(|(_, slot)| slot.own_bytes).sum()
    }

    /// The number was executed: what other proposals of it named waits again, unless an undecided one names it as well.
    pub(super) fn release_losers(&mut self, seq: Seq) {
        let Some(slot) = self.slots.get(&seq) else { return };
        let decided = slot.decided().map(|ballot| ballot.digest);
        let lost = slot.proposals.iter().filter(|(digest, _)| Some(**digest) != decided);
        let waiting = lost
            .flat_map(|(_, proposal)| proposal.requests())
            .filter(|digest| self.foundation.pending.contains(digest));
        let mut waiting: BTreeSet<Digest> = waiting.copied().collect();
        if waiting.is_empty() {
            return;
        }
        for slot in self.slots.range(seq.next()..).map(|(_, slot)| slot) {
            let decided = slot.decided().map(|ballot| ballot.digest);
            let may_win = slot.proposals.iter().filter(|(digest, _)| decided.is_none_or(|decided| **digest == decided));
            for request in may_win.flat_map(|(_, proposal)| proposal.requests()) {
                waiting.remove(request);
            }
        }
        for request in waiting {
            self.foundation.pending.not_proposed(&request);
        }
    }
}
