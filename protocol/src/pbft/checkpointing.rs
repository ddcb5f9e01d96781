//! What follows from stable certificates: garbage collection, cutting the log (Castro and Liskov 1999, section 4.3).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Digest, Seq, Signed};

use crate::checkpoint::parts;
use crate::engine::{Now, RecordIndex};
use crate::foundation::Stored;
use crate::pbft::Replica;
use crate::record::Record;
use crate::state::Snapshot;

impl Replica {
    pub(super) fn handle_checkpoint(&mut self, now: Now, signed: Signed) {
        if let Some(certificate) = self.foundation.take_checkpoint(signed) {
            self.adopt_stable(now, certificate);
        }
    }

    /// The snapshot is durable: vouch for it (protocol.md, Durable before sent).
    pub(super) fn handle_checkpoint_stored(&mut self, now: Now, snapshot: Snapshot, root: Digest) {
        let seq = snapshot.seq;
        match self.foundation.checkpoint_stored(now, snapshot, root) {
            Stored::Settled => {}
            Stored::Vouched(certificate) => self.after_vouching(now, seq, certificate),
            Stored::NoVote => {
                self.check_attempt();
                if seq == self.foundation.stable() && !self.foundation.halted {
                    self.cut_log();
                }
            }
        }
    }

    fn after_vouching(&mut self, now: Now, seq: Seq, certificate: Option<Certificate>) {
        if let Some(certificate) = certificate {
            self.adopt_stable(now, certificate);
        } else if seq == self.foundation.stable() {
            self.cut_log();
        }
    }

    /// Vouches for snapshots above the stable checkpoint that became durable while this replica had no vote.
    pub(super) fn vouch_for_held(&mut self, now: Now) {
        for (seq, root) in self.foundation.transfer.roots_above(self.foundation.stable()) {
            if self.foundation.owes_checkpoint(seq) {
                let certificate = self.foundation.vouch(seq, root);
                self.after_vouching(now, seq, certificate);
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
        let Some((seq, _)) = parts(&certificate.body) else { return false };
        if !self.foundation.stabilise(certificate) {
            return false;
        }
        self.collect_garbage();
        self.next_seq = self.next_seq.max(seq.next());
        self.check_attempt();
        if self.foundation.may_cut(seq) {
            self.cut_log();
        }
        true
    }

    /// Forgets what lies below the stable checkpoint before the newest: NEW-VIEWs and commit certificates are kept until
    /// the second stable checkpoint after them.
    pub(super) fn collect_garbage(&mut self) {
        let forgettable = self.foundation.forget_old();
        let gone: Vec<Seq> = self.slots.range(..=forgettable).map(|(seq, _)| *seq).collect();
        for seq in gone {
            self.drop_slot(seq);
        }
        let (view, previous) = (self.view, self.foundation.checkpoints.previous_seq());
        self.new_views.retain(|kept_view, kept| *kept_view == view || kept.stable >= previous);
    }

    /// Everything below can go once the certificate of q and the own snapshot are durable: the certificate's record and
    /// the base are in this step, the snapshot is durable already.
    pub(super) fn cut_log(&mut self) {
        let base = self.record_base();
        let lowest = self.slots.values().filter_map(|slot| slot.first_record).min();
        let lowest = lowest.filter(|_| !alive(Mutant::CutsTooMuch));
        let cut = lowest.map_or(base, |lowest| lowest.min(base));
        self.foundation.cut(cut);
    }

    /// Writes anew what a restart needs besides the slots.
    pub(super) fn record_base(&mut self) -> RecordIndex {
        let base = self.foundation.record(Record::Base {
            view: self.view,
            entered: self.entered,
            stable: self.foundation.checkpoints.stable().cloned(),
            view_change: self.own_view_change.clone(),
            // The newest is all a restart needs; a record of many would be too large to be read back.
            new_views: self
                .new_views
                .values()
                .next_back()
                .map(|kept| (kept.new_view.clone(), kept.view_changes.clone()))
                .into_iter()
                .collect(),
            checkpoints: self.foundation.checkpoints.all_own().copied().collect(),
            executed: self.foundation.own_executed.values().copied().collect(),
        });
        self.foundation.record_life();
        if self.own_view_change.is_some() {
            self.own_view_change_record = Some(base);
        }
        for kept in self.new_views.values_mut() {
            kept.record = Some(base);
        }
        base
    }
}
