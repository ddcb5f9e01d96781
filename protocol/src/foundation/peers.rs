//! How far the others are, by their own word; STATUS; the part of handing statements back that every engine shares.

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, ReplicaId, Seq, Signed, Statement, StatementBody};

use crate::checkpoint::parts;
use crate::engine::{Now, Recipients};
use crate::foundation::Foundation;
use crate::foundation::budget::{BulkBudget, ChunkBudget};
use crate::message::Message;
use crate::parameters::Micros;

/// STATUS is sent so often by a replica that catches up.
const STATUS_INTERVAL_BEHIND: Micros = 20_000;
/// A peer's STATUS is answered at most this often.
const ANSWER_INTERVAL: Micros = 10_000;
/// A laggard this far behind is helped at once; a nearer one only when it made no progress between two STATUS.
const CLEARLY_BEHIND: u64 = 16;

/// What is known of a peer, by its own word: it only decides what to send it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) executed: Seq,
    pub(super) stable: Seq,
    next_answer: Micros,
    /// For answers to fetches.
    pub(super) bulk: BulkBudget,
    /// For parts of states.
    pub(super) chunks: ChunkBudget,
}

/// What a peer whose STATUS is to be answered needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Need {
    /// It has executed nothing since its STATUS before.
    pub(crate) is_stuck: bool,
    /// It is to be helped with the numbers it has not executed: it is stuck, or far behind.
    pub(crate) lags: bool,
}

impl Foundation {
    /// Whether `id` is another member.
    pub(crate) fn is_peer(&self, id: ReplicaId) -> bool {
        self.peers.contains_key(&id)
    }

    /// A member's bit in STATUS.
    pub(crate) fn bit(&self, id: ReplicaId) -> u128 {
        self.committee().members().iter().position(|member| member.id == id).map_or(0, |index| 1u128 << index)
    }

    /// Whether f + 1 others say they executed more, of whom at least one is honest, or a quorum has certified more: a
    /// replica that wakes up has one link at first.
    pub(crate) fn is_behind(&self) -> bool {
        let ahead = self.peers.values().filter(|peer| peer.executed > self.executed).count();
        ahead >= self.committee().one_honest() || self.stable() > self.executed
    }

    /// Whether STATUS is to be sent now. `busy` says that something is pending or undecided.
    pub(crate) fn status_is_due(&mut self, now: Now, busy: bool) -> bool {
        let interval = if self.is_behind() {
            STATUS_INTERVAL_BEHIND
        } else if busy || self.transfer.is_active() || !self.pending.is_empty() {
            self.parameters().status_interval
        } else {
            self.parameters().status_interval_idle
        };
        // What was said to be due while idle is too late for what is pending now: a vote lost in that second would cost a
        // view change.
        self.next_status = self.next_status.min(now.monotonic + interval);
        if now.monotonic < self.next_status || alive(Mutant::NoStatus) {
            return false;
        }
        self.next_status = now.monotonic + interval;
        true
    }

    /// Takes note of how far a peer says it is. Returns what it needs, unless it was answered a moment ago.
    pub(crate) fn heed_status(&mut self, now: Now, from: ReplicaId, stable: Seq, executed: Seq) -> Option<Need> {
        let own = self.executed;
        let peer = self.peers.get_mut(&from)?;
        let is_stuck = peer.executed == executed;
        peer.executed = executed;
        peer.stable = stable;
        if now.monotonic < peer.next_answer {
            return None;
        }
        peer.next_answer = now.monotonic + ANSWER_INTERVAL;
        Some(Need { is_stuck, lags: is_stuck || executed.plus(CLEARLY_BEHIND) < own })
    }

    /// Helps a peer to the stable checkpoint, or to the next one.
    pub(crate) fn answer_checkpoints(&mut self, to: ReplicaId, stable: Seq, need: Need) {
        if stable < self.stable()
            && let Some(certificate) = self.checkpoints.stable().cloned()
        {
            self.send(Recipients::One(to), Message::StableCheckpoint(certificate), None);
        }
        if !need.is_stuck {
            return;
        }
        let is_new = |signed: &&Signed| parts(signed.body()).is_some_and(|(seq, _)| seq > stable);
        let own: Vec<Signed> = self.checkpoints.all_own().filter(is_new).copied().collect();
        for signed in own {
            self.send(Recipients::One(to), Message::Checkpoint(signed), None);
        }
    }

    /// The newest CHECKPOINTs held that `peer` signed: they are handed back on every new link.
    pub(crate) fn checkpoints_of(&self, peer: ReplicaId) -> impl Iterator<Item = Signed> {
        let newest = self.checkpoints.newest_vote(peer).copied();
        let stable = self.checkpoints.stable().and_then(|certificate| said_by(peer, certificate));
        newest.into_iter().chain(stable)
    }

    /// Whether the log lacks a statement of this replica's own, as far as that follows from the life it was signed in or from
    /// the checkpoints; `None` if it is the engine's to say.
    pub(crate) fn lacks_own(&self, statement: &Statement) -> Option<bool> {
        if statement.signer != self.id() || statement.incarnation < self.setup.incarnation {
            return Some(false);
        }
        if statement.incarnation > self.setup.incarnation {
            // Of a life after this one.
            return Some(true);
        }
        match &statement.body {
            StatementBody::Checkpoint { seq, .. } => Some(*seq > self.stable() && self.checkpoints.own(*seq).is_none()),
            _ => None,
        }
    }
}

/// What a replica said as one of those who made a certificate.
pub(crate) fn said_by(replica: ReplicaId, certificate: &Certificate) -> Option<Signed> {
    certificate.statements().find(|signed| signed.signer() == replica)
}
