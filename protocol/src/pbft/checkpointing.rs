//! CHECKPOINT, stable certificates, cutting the log (Castro and Liskov 1999, section 4.3).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Digest, Seq, Signed, StatementBody};

use crate::checkpoint::parts;
use crate::engine::{Halt, Now, Recipients, RecordIndex};
use crate::message::Message;
use crate::pbft::Replica;
use crate::record::Record;
use crate::state::Snapshot;

impl Replica {
    pub(super) fn handle_checkpoint(&mut self, now: Now, signed: Signed) {
        let Some((seq, _)) = parts(signed.body()) else { return };
        if signed.signer() == self.id()
            || seq.0 % self.parameters().checkpoint_interval != 0
            || !self.in_look_ahead(seq)
        {
            return;
        }
        self.check_checkpoint(&signed);
        if !self.vote_counts(&signed.statement, seq) {
            return;
        }
        let committee = std::sync::Arc::clone(&self.setup.committee);
        if let Some(certificate) = self.checkpoints.add(signed, &committee) {
            self.adopt_stable(now, certificate);
        }
    }

    pub(super) fn handle_stable(&mut self, now: Now, certificate: Certificate) {
        self.adopt_stable(now, certificate);
    }

    /// The snapshot is durable: vouch for it (protocol.md, Durable before sent).
    pub(super) fn handle_checkpoint_stored(&mut self, now: Now, snapshot: Snapshot, root: Digest) {
        let seq = snapshot.seq;
        let stable = self.stable();
        self.transfer.hold(now, snapshot, stable);
        if seq == self.stable() && root != self.checkpoints.stable_digest() {
            let certified = self.checkpoints.stable_digest();
            return self.halt(Halt::Diverged { seq, own: root, certified });
        }
        if let Some(own) = self.checkpoints.own(seq) {
            if let Some((_, before)) = parts(own.body()).filter(|(_, before)| *before != root) {
                self.halt(Halt::Diverged { seq, own: root, certified: before });
            }
            return;
        }
        if !self.may_sign_about(seq) {
            self.check_attempt();
            if seq == self.stable() && !self.halted {
                self.cut_log();
            }
            return;
        }
        self.vouch(now, seq, root);
    }

    /// Signs a CHECKPOINT for a snapshot that is durable.
    fn vouch(&mut self, now: Now, seq: Seq, root: Digest) {
        let signed = self.sign(StatementBody::Checkpoint { seq, digest: root });
        let record = self.record(Record::Checkpoint(signed));
        self.send(Recipients::Others, Message::Checkpoint(signed), Some(record));
        self.checkpoints.add_own(seq, signed);
        if let Some(certificate) = self.checkpoints.certificate_at(seq, self.committee()) {
            self.adopt_stable(now, certificate);
        } else if seq == self.stable() {
            self.cut_log();
        }
    }

    /// Vouches for snapshots above the stable checkpoint that became durable while this replica had no vote: without it
    /// they might never become stable.
    pub(super) fn vouch_for_held(&mut self, now: Now) {
        for (seq, root) in self.transfer.roots_above(self.stable()) {
            if !self.halted && seq > self.stable() && self.checkpoints.own(seq).is_none() && self.may_sign_about(seq) {
                self.vouch(now, seq, root);
            }
        }
    }

    /// Makes a verified certificate the low watermark, if it is newer, and does what has become possible.
    pub(super) fn adopt_stable(&mut self, now: Now, certificate: Certificate) {
        if self.take_stable(certificate) {
            self.advance_all(now);
        }
    }

    /// Makes a verified certificate the low watermark, if it is newer, and acts on it no further: who is about to enter a
    /// view signs nothing more in the one it leaves, since what it signed before is what it was judged by.
    pub(super) fn take_stable(&mut self, certificate: Certificate) -> bool {
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
        self.checkpoints.stabilise(certificate);
        self.collect_garbage();
        self.next_seq = self.next_seq.max(seq.next());
        self.check_attempt();
        let held = self.is_rejoining() && self.transfer.at(seq).is_some();
        if self.checkpoints.own(seq).is_some() || held {
            self.cut_log();
        }
        true
    }

    /// Forgets what lies below the stable checkpoint before the newest: NEW-VIEWs and commit certificates are kept until
    /// the second stable checkpoint after them. A replica that is behind keeps what it still needs, within L; what is
    /// handed to execution is kept until it has executed, since its slot says which pending requests end with it.
    pub(super) fn collect_garbage(&mut self) {
        let previous = self.checkpoints.previous_seq();
        let floor =
            if self.executed < self.delivered { 0 } else { self.stable().0.saturating_sub(self.parameters().window) };
        let keep_above = previous.min(self.executed).max(Seq(floor));
        let gone: Vec<Seq> = self.slots.range(..=keep_above).map(|(seq, _)| *seq).collect();
        for seq in gone {
            self.drop_slot(seq);
        }
        self.own_executed = self.own_executed.split_off(&keep_above.next());
        let view = self.view;
        self.new_views.retain(|kept_view, kept| *kept_view == view || kept.stable >= previous);
    }

    /// Everything below can go once the certificate of q and the own snapshot are durable: the certificate's record and
    /// the base are in this step, the snapshot is durable already.
    pub(super) fn cut_log(&mut self) {
        let base = self.record_base();
        let lowest = self.slots.values().filter_map(|slot| slot.first_record).min();
        let lowest = lowest.filter(|_| !alive(Mutant::CutsTooMuch));
        let cut = lowest.map_or(base, |lowest| lowest.min(base));
        self.bodies.forget_records_below(cut);
        self.out.cut = Some(cut);
    }

    /// Writes anew what a restart needs besides the slots.
    pub(super) fn record_base(&mut self) -> RecordIndex {
        let base = self.record(Record::Base {
            view: self.view,
            entered: self.entered,
            stable: self.checkpoints.stable().cloned(),
            view_change: self.own_view_change.clone(),
            // The newest is all a restart needs; a record of many would be too large to be read back.
            new_views: self
                .new_views
                .values()
                .next_back()
                .map(|kept| (kept.new_view.clone(), kept.view_changes.clone()))
                .into_iter()
                .collect(),
            checkpoints: self.checkpoints.all_own().copied().collect(),
            executed: self.own_executed.values().copied().collect(),
        });
        self.record_life();
        if self.own_view_change.is_some() {
            self.own_view_change_record = Some(base);
        }
        for kept in self.new_views.values_mut() {
            kept.record = Some(base);
        }
        base
    }
}
