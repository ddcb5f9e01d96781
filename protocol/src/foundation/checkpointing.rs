//! CHECKPOINT and stable certificates (Castro and Liskov 1999, section 4.3). Cutting the log is the engine's: it knows what
//! of it is needed.

use std::sync::Arc;

use quorate_crypto::{Certificate, Digest, Seq, Signed, StatementBody};

use crate::checkpoint::parts;
use crate::engine::{Halt, Now, Recipients, RecordIndex};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::record::Record;
use crate::state::Snapshot;

/// What became of a snapshot that is durable now.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It was vouched for before, or this replica halts.
    Settled,
    /// This replica vouches for it now: [`Foundation::vouch`] says what that makes.
    Vouched(Option<Certificate>),
    /// This replica has no vote about it.
    NoVote,
}

impl Foundation {
    /// The stable checkpoint: the low watermark h.
    pub(crate) fn stable(&self) -> Seq {
        self.checkpoints.stable_seq()
    }

    /// Takes a peer's CHECKPOINT. Returns the certificate if that completes one.
    pub(crate) fn take_checkpoint(&mut self, signed: Signed) -> Option<Certificate> {
        let (seq, _) = parts(signed.body())?;
        // Rule P9: only numbers in the look-ahead ever cost memory.
        let in_look_ahead = seq > self.stable() && seq <= self.stable().plus(self.parameters().look_ahead());
        if signed.signer() == self.id() || seq.0 % self.parameters().checkpoint_interval != 0 || !in_look_ahead {
            return None;
        }
        let held = self.checkpoints.vote(seq, signed.signer()).copied();
        self.accuse_pair(held, &signed);
        if !self.checkpoint_counts(&signed.statement, seq) {
            return None;
        }
        let committee = Arc::clone(&self.setup.committee);
        self.checkpoints.add(signed, &committee)
    }

    /// A snapshot is durable: it is offered to others, and vouched for (protocol.md, Durable before sent).
    pub(crate) fn checkpoint_stored(&mut self, now: Now, snapshot: Snapshot, root: Digest) -> Stored {
        let seq = snapshot.seq;
        let stable = self.stable();
        self.transfer.hold(now, snapshot, stable);
        if seq == stable && root != self.checkpoints.stable_digest() {
            let certified = self.checkpoints.stable_digest();
            self.halt(Halt::Diverged { seq, own: root, certified });
            return Stored::Settled;
        }
        if let Some(own) = self.checkpoints.own(seq) {
            if let Some((_, before)) = parts(own.body()).filter(|(_, before)| *before != root) {
                self.halt(Halt::Diverged { seq, own: root, certified: before });
            }
            return Stored::Settled;
        }
        // About what is certified already a new life has nothing to say that an earlier one may have said.
        let votes = self.may_sign_about(seq) || (self.may_vouch_for(seq) && seq > stable);
        if votes { Stored::Vouched(self.vouch(seq, root)) } else { Stored::NoVote }
    }

    /// Signs a CHECKPOINT for a snapshot that is durable. Returns the certificate if that completes one.
    pub(crate) fn vouch(&mut self, seq: Seq, root: Digest) -> Option<Certificate> {
        let signed = self.sign(StatementBody::Checkpoint { seq, digest: root });
        let record = self.record(Record::Checkpoint(signed));
        self.send(Recipients::Others, Message::Checkpoint(signed), Some(record));
        self.checkpoints.add_own(seq, signed);
        self.checkpoints.certificate_at(seq, self.committee())
    }

    /// Whether a durable snapshot above the stable checkpoint still lacks this replica's CHECKPOINT, since it had no vote when
    /// it became durable: without it the checkpoint might never become stable.
    pub(crate) fn owes_checkpoint(&self, seq: Seq) -> bool {
        !self.halted && seq > self.stable() && self.checkpoints.own(seq).is_none() && self.may_vouch_for(seq)
    }

    /// Whether a state was found on disk at the start, asked once. It may have become durable just before the process ended, and
    /// its CHECKPOINT not: nothing executes up to it again, so nothing else would ever vouch for it. Where several checkpoints
    /// of one window lack one vote each, none becomes stable, and the window stays shut.
    pub(crate) fn take_found_state(&mut self) -> bool {
        std::mem::take(&mut self.found_state)
    }

    /// Makes a verified certificate the low watermark, if it is newer; this replica halts if its own CHECKPOINT says
    /// otherwise. Returns whether it did: then the engine forgets what is no longer needed, and cuts its log if
    /// [`Foundation::may_cut`].
    pub(crate) fn stabilise(&mut self, certificate: Certificate) -> bool {
        let Some((seq, digest)) = parts(&certificate.body) else { return false };
        if seq <= self.stable() {
            return false;
        }
        if let Some((_, own)) = self.checkpoints.own(seq).and_then(|signed| parts(signed.body()))
            && own != digest
        {
            self.halt(Halt::Diverged { seq, own, certified: digest });
            return false;
        }
        self.record(Record::Stable(certificate.clone()));
        self.checkpoints.stabilise(certificate)
    }

    /// Whether the log may be cut at a stable checkpoint: the own snapshot of it is durable.
    pub(crate) fn may_cut(&self, stable: Seq) -> bool {
        let held = self.is_rejoining() && self.transfer.at(stable).is_some();
        self.checkpoints.own(stable).is_some() || held
    }

    /// Forgets own EXECUTEDs that nobody needs any more. Returns the highest number of which nothing is needed: what lies at
    /// or below the stable checkpoint before the newest, since certificates are kept until the second stable checkpoint
    /// after them. A replica that is behind keeps what it still needs, within L; what is handed to execution is kept until it
    /// has executed, since it says which pending requests end with it.
    pub(crate) fn forget_old(&mut self) -> Seq {
        let previous = self.checkpoints.previous_seq();
        let floor =
            if self.executed < self.delivered { 0 } else { self.stable().0.saturating_sub(self.parameters().window) };
        let keep_above = previous.min(self.executed).max(Seq(floor));
        self.own_executed = self.own_executed.split_off(&keep_above.next());
        keep_above
    }

    /// Records below `cut` are no longer needed.
    pub(crate) fn cut(&mut self, cut: RecordIndex) {
        self.bodies.forget_records_below(cut);
        self.out.cut = Some(cut);
    }
}
