//! Lives of replicas: the own way back without a trusted log, and what is believed of others that came back
//! ([`crate::rejoin`]), as far as that does not depend on how an engine orders.

use std::collections::BTreeMap;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Signed, Statement, StatementBody};

use crate::engine::{Halt, Now, Recipients, RecordIndex};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::parameters::Micros;
use crate::record::Record;
use crate::rejoin::attempt::{self, Attempt, outlook};
use crate::rejoin::rules::{self, VoteJudgement};
use crate::rejoin::{Outlook, Rejoined, Rejoining, rejoin_request};

/// A Rejoin is sent so often, in view timeouts, until the executed state shows it.
const SEND_EVERY: u64 = 2;
/// At least so many view timeouts are between two Rejoins of one replica, as a backup counts them. The primary is content with
/// half, so that no backup's timer runs on a Rejoin that the primary holds to be too early.
const SPACING: u64 = 40;
/// Certified checkpoints remembered while a replica rejoins: as many as may be certified while one snapshot becomes durable.
const CERTIFIED_KEPT: usize = 64;

/// What a replica knows of lives, its own included.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// Set while this replica has no trusted log: it signs nothing but Rejoin.
    pub(crate) rejoining: Option<Rejoining>,
    /// The Rejoin that began this life and the checkpoint it goes on above; none in the first life.
    pub(crate) began: Option<(Signed, Seq)>,
    /// What the executed state says.
    pub(crate) rejoined: Rejoined,
    /// When each Rejoin became known here.
    learned: BTreeMap<ReplicaId, Learned>,
    /// The last number that the log held when this process began: what executes up to here has executed before.
    pub(crate) replayed: Seq,
    /// While this replica rejoins: the newest checkpoints that were certified, one of which it will hold durably.
    certified: BTreeMap<Seq, Digest>,
    /// The Rejoin of each replica that is pending here; one each.
    pending: BTreeMap<ReplicaId, Digest>,
    /// Replicas that asked and have not been seen to be back, with the incarnation they asked for.
    absent: BTreeMap<ReplicaId, Incarnation>,
}

/// When a Rejoin became known.
#[derive(Clone, Copy, Debug)]
struct Learned {
    at: Micros,
    /// Whether it executed then. Of one that a log or a fetched state told of nobody here knows when that was.
    executed: bool,
}

impl Lives {
    /// Nothing is signed about numbers up to here, but CHECKPOINTs where there is no gap.
    fn floor(&self) -> Seq {
        self.began.map_or(Seq(0), |(_, above)| above)
    }
}

impl Foundation {
    /// Whether this replica has no trusted log: it follows the others and signs nothing but Rejoin.
    pub(crate) fn is_rejoining(&self) -> bool {
        self.lives.rejoining.is_some()
    }

    /// Whether this life may sign something about a number.
    pub(crate) fn may_sign_about(&self, seq: Seq) -> bool {
        !self.is_rejoining() && seq > self.lives.floor()
    }

    /// Whether this life may vouch for the state at a number ([`rules::checkpoint`]).
    pub(crate) fn may_vouch_for(&self, seq: Seq) -> bool {
        !self.is_rejoining() && (self.rejoin_gap == 0 || self.may_sign_about(seq))
    }

    /// Whether a CHECKPOINT about `seq` is of a life that vouches for it.
    pub(crate) fn checkpoint_counts(&self, statement: &Statement, seq: Seq) -> bool {
        alive(Mutant::OldVotesCount)
            || rules::checkpoint(&self.lives.rejoined, statement, seq, self.rejoin_gap) == VoteJudgement::Counts
    }

    /// Whether a vote about `seq` is of the life that speaks about it.
    pub(crate) fn vote_counts(&self, statement: &Statement, seq: Seq) -> bool {
        alive(Mutant::OldVotesCount)
            || rules::vote(&self.lives.rejoined, statement, seq, self.rejoin_gap) == VoteJudgement::Counts
    }

    /// Whether a vote about `seq` is of a life that is known not to speak about it.
    pub(crate) fn vote_is_refused(&self, statement: &Statement, seq: Seq) -> bool {
        rules::vote(&self.lives.rejoined, statement, seq, self.rejoin_gap) == VoteJudgement::Refused
    }

    /// Whether a Rejoin joins the pending requests: it is its replica's only one there, and not too soon after the last one
    /// that executed. What this refuses is sent again.
    pub(crate) fn admits_rejoin(&mut self, now: Now, statement: &Signed, digest: Digest, leads: bool) -> bool {
        let replica = statement.signer();
        self.note_absent(replica, statement.statement.incarnation);
        if self.lives.pending.get(&replica).is_some_and(|held| *held != digest && self.pending.contains(held)) {
            return false;
        }
        let spacing = self.parameters().view_timeout.saturating_mul(SPACING) / if leads { 2 } else { 1 };
        // A primary that does not know when the last one executed must not be the one that holds this one back.
        let last = self.lives.learned.get(&replica).filter(|last| last.executed || !leads);
        if last.is_some_and(|last| now.monotonic < last.at.saturating_add(spacing)) {
            return false;
        }
        self.lives.pending.insert(replica, digest);
        true
    }

    /// A replica says that it has no log, by a Rejoin that nobody has executed yet.
    fn note_absent(&mut self, replica: ReplicaId, incarnation: Incarnation) {
        if replica != self.id() && incarnation > self.lives.rejoined.incarnation(replica) {
            self.lives.absent.insert(replica, incarnation);
        }
    }

    /// Replicas without a trusted log, as far as is known: those that asked, until the checkpoint they wait for is stable.
    pub(super) fn without_log(&self) -> Vec<ReplicaId> {
        let (stable, gap) = (self.stable(), self.rejoin_gap);
        let is_back = |replica: ReplicaId, incarnation: Incarnation| {
            let record = self.lives.rejoined.get(replica);
            record.is_some_and(|record| record.incarnation >= incarnation && stable >= record.seq.plus(gap))
        };
        let absent = self.lives.absent.iter().filter(|(id, incarnation)| !is_back(**id, **incarnation));
        let mut all: Vec<ReplicaId> = absent.map(|(id, _)| *id).collect();
        all.extend(self.is_rejoining().then_some(self.id()));
        all.sort_unstable();
        all
    }

    /// Takes the lives of a state that executed here just now, or that came as it is. What the engine holds of lives that are
    /// over is for it to drop, and whether [`Foundation::is_outlived`] for it to ask.
    pub(crate) fn learn_lives(&mut self, now: Now, rejoined: Rejoined, executes: bool) {
        for (replica, record) in rejoined.iter() {
            if self.lives.rejoined.get(replica) != Some(record) {
                let executed = executes && record.seq > self.lives.replayed;
                self.lives.learned.insert(replica, Learned { at: now.monotonic, executed });
            }
        }
        self.lives.rejoined = rejoined;
    }

    /// Whether a life after this one was there already: what it signed is not in this log, and nobody believes this one any
    /// more.
    pub(crate) fn is_outlived(&self) -> bool {
        !self.is_rejoining() && self.lives.rejoined.incarnation(self.id()) > self.setup.incarnation
    }

    /// The log lacks promises. From this step on nothing is signed but Rejoin: what this replica knows of votes and requests
    /// is given up, what others certified is kept. The engine does the same with its own.
    pub(crate) fn begin_rejoin(&mut self, now: Now) {
        let mut fresh = Foundation::new(self.setup.clone(), self.rejoin_gap);
        if let Some(certificate) = self.checkpoints.stable().cloned() {
            fresh.checkpoints.restore(certificate);
        }
        (fresh.delivered, fresh.executed) = (self.delivered, self.executed);
        fresh.next_deadline = self.next_deadline;
        fresh.last_step = self.last_step;
        fresh.next_record = self.next_record;
        fresh.next_status = now.monotonic;
        std::mem::swap(&mut fresh.transfer, &mut self.transfer);
        std::mem::swap(&mut fresh.peers, &mut self.peers);
        std::mem::swap(&mut fresh.convictions, &mut self.convictions);
        std::mem::swap(&mut fresh.lives, &mut self.lives);
        fresh.lives.rejoining = Some(Rejoining::new(self.setup.incarnation, None));
        fresh.out.records = std::mem::take(&mut self.out.records);
        fresh.out.evidence = std::mem::take(&mut self.out.evidence);
        fresh.out.decided = std::mem::take(&mut self.out.decided);
        fresh.out.install = self.out.install.take();
        fresh.out.distrust_log = true;
        *self = fresh;
    }

    /// Signs and records an attempt if none is under way, and sends it from time to time.
    pub(crate) fn tend_rejoin(&mut self, now: Now) {
        let own = self.id();
        let known = self.lives.rejoined.incarnation(own);
        let Some(rejoining) = &self.lives.rejoining else { return };
        if let Some(incarnation) = rejoining.wanted(known) {
            let nonce = attempt::nonce(&self.setup.rejoin_seed, own, incarnation);
            let statement = Statement {
                epoch: self.committee().epoch(),
                signer: own,
                incarnation,
                body: StatementBody::Rejoin { nonce },
            }
            .sign(self.committee().cluster(), self.setup.signer.as_ref());
            let record = self.record(Record::Rejoin(statement));
            if let Some(rejoining) = &mut self.lives.rejoining {
                rejoining.began(Attempt { statement, record });
            }
        }
        let interval = self.parameters().view_timeout.saturating_mul(SEND_EVERY);
        let Some(rejoining) = &mut self.lives.rejoining else { return };
        if let Some(attempt) = rejoining.to_send(now.monotonic, interval, &self.lives.rejoined)
            && let Some(key) = self.committee().key(own).copied()
        {
            let request = rejoin_request(&attempt.statement, key);
            self.send(Recipients::Others, Message::Requests(vec![request]), Some(attempt.record));
        }
    }

    /// When [`Foundation::tend_rejoin`] has something to do again.
    pub(crate) fn next_rejoin(&self) -> Option<Micros> {
        self.lives.rejoining.as_ref()?.wake(&self.lives.rejoined)
    }

    /// Looks what a certified checkpoint says of the attempt, if its snapshot is held durably: the newest such. Under load
    /// the stable checkpoint may have moved on whenever a snapshot has become durable, so the ones before count as well.
    /// Returns the checkpoint if the attempt won: the engine records what the new life goes on from and which life it is
    /// ([`Foundation::record_life`]), and then asks to [`Foundation::trust_log`].
    pub(crate) fn check_attempt(&mut self) -> Option<Seq> {
        let rejoining = self.lives.rejoining.as_ref()?;
        rejoining.attempt().filter(|_| rejoining.done().is_none())?;
        self.lives.certified.insert(self.stable(), self.checkpoints.stable_digest());
        while self.lives.certified.len() > CERTIFIED_KEPT {
            self.lives.certified.pop_first();
        }
        let held = |(seq, digest): (&Seq, &Digest)| Some((self.transfer.at(*seq)?, *digest));
        let (snapshot, certified) = self.lives.certified.iter().rev().find_map(held)?;
        let (seq, root) = (snapshot.seq, snapshot.header().digest());
        if root != certified {
            self.halt(Halt::Diverged { seq, own: root, certified });
            return None;
        }
        let shown = Rejoined::of_snapshot(snapshot);
        self.settle_attempt(&shown, seq).then_some(seq)
    }

    /// Looks what the state at `seq`, which shows these lives, says of the attempt, if one is under way. Returns whether it
    /// won: the new life goes on above `seq`. Nobody but a quorum may have said that this is the state there.
    pub(crate) fn settle_attempt(&mut self, shown: &Rejoined, seq: Seq) -> bool {
        let gap = self.rejoin_gap;
        let Some(rejoining) = self.lives.rejoining.as_mut().filter(|rejoining| rejoining.done().is_none()) else {
            return false;
        };
        let Some(attempt) = rejoining.attempt().copied() else { return false };
        match outlook(&attempt.statement, shown, seq, gap) {
            Outlook::Wait => false,
            Outlook::Again(next) => {
                rejoining.lost(next);
                false
            }
            Outlook::Done => {
                rejoining.won(seq);
                self.lives.began = Some((attempt.statement, seq));
                true
            }
        }
    }

    /// Asks for the log to be marked as trusted once everything recorded so far is durable.
    pub(crate) fn trust_log(&mut self) {
        self.out.trust_log = Some(RecordIndex(self.next_record - 1));
    }

    /// The log is trusted again: the new life begins, if one was won. Returns whether it did.
    pub(crate) fn begin_life(&mut self, now: Now) -> bool {
        let won = self.lives.rejoining.as_ref().is_some_and(|rejoining| rejoining.done().is_some());
        let Some((statement, _)) = self.lives.began.filter(|_| won) else { return false };
        self.lives.rejoining = None;
        self.lives.certified.clear();
        self.setup.incarnation = statement.statement.incarnation;
        self.next_status = now.monotonic;
        true
    }

    /// Writes anew what says which life this is: the log is about to be cut.
    pub(crate) fn record_life(&mut self) {
        if let Some((statement, above)) = self.lives.began {
            self.record(Record::Rejoined { statement, above });
        }
        let attempt = self.lives.rejoining.as_ref().and_then(Rejoining::attempt).copied();
        if let Some(attempt) = attempt {
            let record = self.record(Record::Rejoin(attempt.statement));
            if let Some(rejoining) = &mut self.lives.rejoining {
                rejoining.recorded_again(record);
            }
        }
    }
}
