//! What a replica takes on, and what of it waits to be proposed: by measurement, in requests and in bytes.

use std::collections::BTreeSet;

use quorate_crypto::{Digest, Seq};

use crate::pbft::Replica;
use crate::pending::Room;

/// Pending requests there is always room for, however slow this replica has been.
const ROOM_LEAST: usize = 256;

impl Replica {
    /// What drains within half a view timeout, in requests and in bytes; two full batches at least.
    pub(super) fn room(&self) -> Room {
        let soon = self.parameters().view_timeout / 2;
        Room {
            requests: self.throughput.within(soon).max(ROOM_LEAST),
            bytes: self.byte_throughput.within(soon).max(2 * self.parameters().batch_bytes_max),
        }
    }

    /// When there will be room again, milliseconds: what waits now has executed by then.
    pub(super) fn retry_after(&self) -> u64 {
        let timeout = self.parameters().view_timeout;
        let requests = self.throughput.time_for(self.pending.len());
        let bytes = self.byte_throughput.time_for(self.pending.bytes());
        requests.max(bytes).clamp(timeout / 4, 4 * timeout) / 1000
    }

    /// Requests that this primary assigned numbers to and that are not decided.
    pub(super) fn undecided_requests(&self) -> usize {
        let undecided = self.slots.range(self.delivered.next()..self.next_seq);
        undecided.flat_map(|(_, slot)| slot.proposals.values()).map(|proposal| proposal.requests().len()).sum()
    }

    pub(super) fn undecided_bytes(&self) -> usize {
        self.slots.range(self.delivered.next()..self.next_seq).map(|(_, slot)| slot.own_bytes).sum()
    }

    /// The number was executed: what other proposals of it named waits again, unless an undecided one names it as well.
    pub(super) fn release_losers(&mut self, seq: Seq) {
        let Some(slot) = self.slots.get(&seq) else { return };
        let decided = slot.decided().map(|ballot| ballot.digest);
        let lost = slot.proposals.iter().filter(|(digest, _)| Some(**digest) != decided);
        let waiting = lost.flat_map(|(_, proposal)| proposal.requests()).filter(|digest| self.pending.contains(digest));
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
            self.pending.not_proposed(&request);
        }
    }
}
