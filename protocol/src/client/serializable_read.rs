//! A read without ordering: f + 1 equal answers at one revision.
//!
//! Every replica is asked for its newest state. If no f + 1 answers agree, because writes are under way, the (f + 1)-th
//! highest revision among a quorum's answers is asked for: an honest replica has reached it, so the others will. The
//! read never waits for more than that, and the caller falls back to an ordered read when it ends without agreement
//! (rule P15: the shortcut never costs liveness).

use quorate_crypto::{Committee, ReplicaId};

use crate::client::agreed_time::nth_highest;
use crate::client::candidates::Candidates;
use crate::parameters::Micros;
use crate::request::Operation;

/// How often a chosen revision is asked for again before another is chosen.
const ASKS_PER_REVISION: u32 = 4;

/// How a serializable read ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadEnding {
    /// f + 1 replicas gave this answer.
    Read {
        /// The revision it was answered at.
        revision: u64,
        /// The result in the service's encoding.
        result: Vec<u8>,
        /// How many replicas gave it.
        matching: usize,
    },
    /// No f + 1 equal answers in time.
    NoAgreement {
        /// How many replicas answered in the last round.
        answered: usize,
    },
}

/// What to do after an answer or a timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ReadStep {
    /// Wait on.
    Wait,
    /// Ask everybody again, under a new id.
    AskAnew,
    /// Ask those that have not answered once more, under the same id.
    Remind,
    /// Done.
    Done(ReadEnding),
}

/// One read: the state behind a ticket.
#[derive(Clone, Debug)]
pub(super) struct SerializableRead {
    pub(super) operation: Operation,
    /// The revision the caller wants; none for the newest.
    wanted: Option<u64>,
    /// The revision chosen after a round without agreement.
    chosen: Option<u64>,
    /// Names the question of this round; answers to earlier rounds do not count.
    pub(super) wire: u64,
    /// (revision, result) of each replica in this round.
    answers: Candidates<(u64, Vec<u8>)>,
    asks: u32,
    pub(super) remind_at: Micros,
    interval: Micros,
    pub(super) give_up_at: Micros,
}

impl SerializableRead {
    pub(super) fn new(
        operation: Operation,
        wanted: Option<u64>,
        wire: u64,
        now: Micros,
        interval: Micros,
        give_up_at: Micros,
    ) -> SerializableRead {
        SerializableRead {
            operation,
            wanted,
            chosen: None,
            wire,
            answers: Candidates::default(),
            asks: 0,
            remind_at: now.saturating_add(interval),
            interval,
            give_up_at,
        }
    }

    /// The revision to ask for.
    pub(super) fn revision(&self) -> Option<u64> {
        self.wanted.or(self.chosen)
    }

    pub(super) fn answered(&self, replica: ReplicaId) -> bool {
        self.answers.contains(replica)
    }

    /// Replicas that gave another result for the newest state at the very same revision. At older revisions a compaction
    /// in between explains a difference.
    pub(super) fn contradicting(&self, revision: u64, result: &[u8]) -> Vec<ReplicaId> {
        if self.revision().is_some() {
            return Vec::new();
        }
        self.answers
            .iter()
            .filter(|((at, other), _)| *at == revision && other != result)
            .flat_map(|(_, replicas)| replicas.iter().copied())
            .collect()
    }

    pub(super) fn answer(
        &mut self,
        from: ReplicaId,
        revision: u64,
        result: Vec<u8>,
        committee: &Committee,
    ) -> ReadStep {
        if self.chosen.is_some_and(|chosen| chosen != revision) {
            // Not there yet, or compacted since: no answer to the question.
            return ReadStep::Wait;
        }
        self.answers.put(from, (revision, result));
        if let Some(((revision, result), matching)) = self.answers.agreed(committee.one_honest()) {
            return ReadStep::Done(ReadEnding::Read { revision: *revision, result: result.clone(), matching });
        }
        if self.revision().is_some() || self.answers.answered() < committee.quorum() {
            return ReadStep::Wait;
        }
        match common_revision(&self.answers, committee) {
            Some(revision) => {
                self.chosen = Some(revision);
                self.start_round();
                ReadStep::AskAnew
            }
            None => ReadStep::Wait,
        }
    }

    pub(super) fn timer(&mut self, now: Micros) -> ReadStep {
        if now >= self.give_up_at {
            return ReadStep::Done(ReadEnding::NoAgreement { answered: self.answers.answered() });
        }
        if now < self.remind_at {
            return ReadStep::Wait;
        }
        self.remind_at = now.saturating_add(self.interval);
        self.asks += 1;
        if self.asks < ASKS_PER_REVISION {
            return ReadStep::Remind;
        }
        // Whoever answered may have moved on, or lied: start over from the newest (or the wanted) revision.
        self.chosen = None;
        self.start_round();
        ReadStep::AskAnew
    }

    fn start_round(&mut self) {
        self.answers.clear();
        self.asks = 0;
    }
}

/// The highest revision that f + 1 of the answering replicas claim to have reached, so that one honest replica has.
fn common_revision(answers: &Candidates<(u64, Vec<u8>)>, committee: &Committee) -> Option<u64> {
    let revisions = answers.iter().flat_map(|((revision, _), replicas)| replicas.iter().map(|_| *revision)).collect();
    nth_highest(revisions, committee.one_honest())
}

#[cfg(test)]
mod tests;
