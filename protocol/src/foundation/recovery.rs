//! From records back to what a replica stands on: it resumes, re-sends the same bytes, and never contradicts what it signed
//! (rule P10).

use std::collections::BTreeMap;

use quorate_crypto::{Certificate, Digest, Signed, StatementBody, Verified};

use crate::checkpoint::parts;
use crate::engine::{Now, RecordIndex};
use crate::foundation::Foundation;
use crate::record::Record;
use crate::rejoin::attempt::Attempt;
use crate::rejoin::{Rejoined, Rejoining};
use crate::request::Request;
use crate::state::Snapshot;

/// Bodies read back from the log, with the record each stood in.
#[derive(Default)]
pub(crate) struct RecoveredBodies(BTreeMap<Digest, (Verified<Request>, RecordIndex)>);

impl RecoveredBodies {
    /// The record that holds the body of `digest`.
    pub(crate) fn recorded(&self, digest: &Digest) -> Option<RecordIndex> {
        self.0.get(digest).map(|(_, record)| *record)
    }
}

impl Foundation {
    /// Which life the log tells of: the last that is complete, or one that is to begin. Before all else, since of this
    /// replica's own statements only those of the life that goes on count. `trusted` is what the log's own mark says;
    /// without it, or with a Rejoin that is not settled, the replica rejoins, and none counts.
    pub(crate) fn recover_life(&mut self, records: &[(RecordIndex, Record)], trusted: bool) {
        let mut asked: Option<Attempt> = None;
        let incarnation = |statement: &Signed| statement.statement.incarnation;
        for (index, record) in records {
            match record {
                Record::Rejoin(statement) => asked = Some(Attempt { statement: *statement, record: *index }),
                Record::Rejoined { statement, above } => self.lives.began = Some((*statement, *above)),
                _ => {}
            }
        }
        let lived = self.lives.began.as_ref().map_or(self.setup.incarnation, |(statement, _)| incarnation(statement));
        self.setup.incarnation = lived;
        let open = asked.filter(|attempt| incarnation(&attempt.statement) > lived);
        if !trusted || open.is_some() {
            self.lives.rejoining = Some(Rejoining::new(lived, open));
        }
    }

    /// Whether something in the log was signed in the life that goes on.
    pub(crate) fn is_of_this_life(&self, signed: &Signed) -> bool {
        signed.signer() != self.id() || (signed.statement.incarnation == self.setup.incarnation && !self.is_rejoining())
    }

    /// Applies a record of the log, in order; gives back those that are the engine's. Bodies are verified again (in
    /// batches): `Verified` has no other constructor.
    pub(crate) fn recover_record(
        &mut self,
        index: RecordIndex,
        record: Record,
        bodies: &mut RecoveredBodies,
    ) -> Option<Record> {
        self.next_record = index.0 + 1;
        match record {
            Record::Requests(requests) => {
                let verifier = self.setup.verifier.clone();
                for request in verifier.verify_all(requests, self.committee(), &()).into_iter().flatten() {
                    bodies.0.insert(request.digest(), (request, index));
                }
            }
            Record::Checkpoint(signed) => self.recover_checkpoint(signed),
            Record::Stable(certificate) => self.checkpoints.restore(certificate),
            Record::Executed(signed) => self.recover_executed(signed),
            // Read before, for what they say of lives; Reserve is not written by this version.
            Record::Rejoin(_) | Record::Rejoined { .. } | Record::Reserve { .. } => {}
            record => return Some(record),
        }
        None
    }

    /// What an engine's base says of checkpoints and EXECUTEDs.
    pub(crate) fn recover_base(
        &mut self,
        stable: Option<Certificate>,
        checkpoints: Vec<Signed>,
        executed: Vec<Signed>,
    ) {
        if let Some(certificate) = stable {
            self.checkpoints.restore(certificate);
        }
        for signed in checkpoints {
            self.recover_checkpoint(signed);
        }
        for signed in executed {
            self.recover_executed(signed);
        }
    }

    fn recover_checkpoint(&mut self, signed: Signed) {
        if self.is_of_this_life(&signed)
            && let Some((seq, _)) = parts(signed.body())
        {
            self.checkpoints.add_own(seq, signed);
        }
    }

    fn recover_executed(&mut self, signed: Signed) {
        if self.is_of_this_life(&signed)
            && let StatementBody::Executed { seq, .. } = signed.body()
        {
            self.own_executed.insert(*seq, signed);
        }
    }

    /// The newest durable snapshot: executed up to there, and offered to others.
    pub(crate) fn recover_snapshot(&mut self, now: Now, snapshot: Snapshot) {
        self.delivered = snapshot.seq;
        self.executed = snapshot.seq;
        self.learn_lives(now, Rejoined::of_snapshot(&snapshot), false);
        let stable = self.stable();
        self.transfer.hold(now, snapshot, stable);
        self.found_state = true;
    }

    /// Takes in the bodies that something which was read back names.
    pub(crate) fn recover_bodies(&mut self, bodies: RecoveredBodies) {
        for (digest, (request, record)) in bodies.0 {
            if self.bodies.is_wanted(&digest) {
                self.bodies.insert(digest, request, false);
                self.bodies.set_recorded(&digest, record);
            }
        }
        self.bodies_came = true;
    }
}
