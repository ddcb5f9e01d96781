//! The way back of a replica without a trusted log.
//!
//! It signs one thing, Rejoin, and follows what the others decide like anyone who lags. When a certified checkpoint whose
//! snapshot it holds durably says how its attempt went, it either goes on above that checkpoint or tries again one
//! incarnation higher: another life of it, which it does not remember, may have used the one it asked for.

use quorate_crypto::{Digest, Domain, Incarnation, ReplicaId, Seq, Signed, StatementBody};

use super::Rejoined;
use crate::engine::RecordIndex;
use crate::parameters::Micros;

/// A Rejoin that was signed and recorded.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The statement.
    pub statement: Signed,
    /// It leaves only when this record is durable.
    pub record: RecordIndex,
}

/// What a certified checkpoint says of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// Nothing yet.
    Wait,
    /// It won, and the checkpoint is at or above n_r + L: the new life begins above it.
    Done,
    /// Another attempt at this incarnation or a later one won: again, with this incarnation.
    Again(Incarnation),
}

/// What a certified checkpoint at `seq` whose state shows `rejoined` says of the attempt `statement`.
pub fn outlook(statement: &Signed, rejoined: &Rejoined, seq: Seq, window: u64) -> Outlook {
    let StatementBody::Rejoin { nonce: own } = *statement.body() else { return Outlook::Wait };
    let incarnation = statement.statement.incarnation;
    let Some(record) = rejoined.get(statement.signer()) else { return Outlook::Wait };
    if record.incarnation < incarnation || seq < record.seq.plus(window) {
        return Outlook::Wait;
    }
    if record.incarnation == incarnation && record.nonce == own {
        return Outlook::Done;
    }
    Outlook::Again(Incarnation(record.incarnation.0.saturating_add(1)))
}

/// A replica on its way back.
#[derive(Clone, Debug)]
pub struct Rejoining {
    /// The highest incarnation known to have been used or asked for.
    highest: Incarnation,
    attempt: Option<Attempt>,
    next_send: Micros,
    /// Where the new life begins, once the record that says so is written; it begins when that is durable and the log is
    /// marked as trusted.
    done: Option<Seq>,
}

impl Rejoining {
    /// `highest` is the highest incarnation the log knows of, `attempt` the Rejoin it holds that is not settled.
    pub fn new(highest: Incarnation, attempt: Option<Attempt>) -> Rejoining {
        Rejoining { highest, attempt, next_send: 0, done: None }
    }

    /// The attempt under way.
    pub const fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// The incarnation to ask for, if no attempt is under way: one above every one that is known.
    pub fn wanted(&self, known: Incarnation) -> Option<Incarnation> {
        if self.attempt.is_some() {
            return None;
        }
        Some(Incarnation(self.highest.max(known).0.saturating_add(1)))
    }

    /// The attempt was signed and recorded; it is sent at once.
    pub fn began(&mut self, attempt: Attempt) {
        self.highest = self.highest.max(attempt.statement.statement.incarnation);
        self.attempt = Some(attempt);
        self.next_send = 0;
    }

    /// The attempt's record was written anew, so that the old one may go.
    pub fn recorded_again(&mut self, record: RecordIndex) {
        if let Some(attempt) = &mut self.attempt {
            attempt.record = record;
        }
    }

    /// The attempt lost.
    pub fn lost(&mut self, next: Incarnation) {
        self.highest = self.highest.max(Incarnation(next.0.saturating_sub(1)));
        self.attempt = None;
    }

    /// It won; everything from now on is about numbers above `above`.
    pub fn won(&mut self, above: Seq) {
        self.done = Some(above);
    }

    /// Where the new life begins, if the attempt won.
    pub const fn done(&self) -> Option<Seq> {
        self.done
    }

    /// The Rejoin to send now, if it is time and the executed state does not show it yet.
    pub fn to_send(&mut self, now: Micros, interval: Micros, executed: &Rejoined) -> Option<Attempt> {
        let attempt = self.attempt.filter(|attempt| self.done.is_none() && !is_settled(attempt, executed))?;
        if now < self.next_send {
            return None;
        }
        self.next_send = now.saturating_add(interval);
        Some(attempt)
    }

    /// When [`Rejoining::to_send`] has something to do again.
    pub fn wake(&self, executed: &Rejoined) -> Option<Micros> {
        let attempt = self.attempt.as_ref()?;
        (self.done.is_none() && !is_settled(attempt, executed)).then_some(self.next_send)
    }
}

/// Whether an attempt at this incarnation has executed, this one or another.
fn is_settled(attempt: &Attempt, executed: &Rejoined) -> bool {
    executed.incarnation(attempt.statement.signer()) >= attempt.statement.statement.incarnation
}

/// 128 bits that tell this attempt from all others: `seed` is fresh random bytes of this process.
pub fn nonce(seed: &[u8; 32], replica: ReplicaId, incarnation: Incarnation) -> [u8; 16] {
    let label: &[u8] = b"rejoin nonce";
    let digest =
        Digest::of(Domain::Fingerprint, &[label, seed, &replica.0.to_be_bytes(), &incarnation.0.to_be_bytes()]);
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&digest.0[..16]);
    nonce
}
