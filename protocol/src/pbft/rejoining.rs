//! Lives of replicas: the own way back without a trusted log, and what is believed of others that came back
//! ([`crate::rejoin`]).

use std::collections::BTreeMap;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Signed, Statement, StatementBody, View};

use crate::checkpoint::Checkpoints;
use crate::engine::{Halt, Now, Recipients, RecordIndex};
use crate::message::Message;
use crate::parameters::Micros;
use crate::pbft::Replica;
use crate::pbft::slot::ballot_of;
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::record::Record;
use crate::rejoin::attempt::{self, Attempt, outlook};
use crate::rejoin::rules::{self, Entrance, VoteJudgement};
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
pub(super) struct Lives {
    /// Set while this replica has no trusted log: it signs nothing but Rejoin.
    pub(super) rejoining: Option<Rejoining>,
    /// The Rejoin that began this life and the checkpoint it goes on above; none in the first life.
    pub(super) began: Option<(Signed, Seq)>,
    /// What the executed state says.
    pub(super) rejoined: Rejoined,
    /// When each Rejoin became known here.
    learned: BTreeMap<ReplicaId, Learned>,
    /// The last number that the log held when this process began: what executes up to here has executed before.
    pub(super) replayed: Seq,
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
    /// Nothing is signed about numbers up to here.
    fn floor(&self) -> Seq {
        self.began.map_or(Seq(0), |(_, above)| above)
    }
}

impl Replica {
    pub(super) fn is_rejoining(&self) -> bool {
        self.lives.rejoining.is_some()
    }

    /// Whether this life may sign something about a number.
    pub(super) fn may_sign_about(&self, seq: Seq) -> bool {
        !self.is_rejoining() && seq > self.lives.floor()
    }

    /// Whether this replica may assign numbers in the view it leads: a life that rejoined does so only in views that its own
    /// NEW-VIEW opened, and view 0 was opened by none.
    pub(super) fn may_assign(&self) -> bool {
        let opened = || {
            let kept = self.new_views.get(&self.view);
            kept.is_some_and(|kept| kept.new_view.signed.statement.incarnation == self.setup.incarnation)
        };
        !self.is_rejoining() && (self.lives.began.is_none() || opened())
    }

    /// Whether a vote about `seq` is of the life that speaks about it.
    pub(super) fn vote_counts(&self, statement: &Statement, seq: Seq) -> bool {
        alive(Mutant::OldVotesCount)
            || rules::vote(&self.lives.rejoined, statement, seq, self.parameters().window) == VoteJudgement::Counts
    }

    /// Whether a VIEW-CHANGE is of a life that is known to be over.
    pub(super) fn is_superseded(&self, message: &ViewChange) -> bool {
        rules::is_superseded(&self.lives.rejoined, &message.signed.statement) && !alive(Mutant::OldLivesOpenViews)
    }

    /// The null requests the primary owes, up to this number.
    pub(super) fn fill_target(&self) -> Option<Seq> {
        let parameters = self.parameters();
        rules::fill_target(&self.lives.rejoined, self.stable(), parameters.window, parameters.checkpoint_interval)
    }

    /// Whether a view may be entered by a NEW-VIEW that rests on these VIEW-CHANGEs.
    pub(super) fn entrance(&self, new_view: &NewView, view_changes: &[ViewChange]) -> Entrance {
        if alive(Mutant::OldLivesOpenViews) {
            return Entrance::Open;
        }
        let window = self.parameters().window;
        let of_another_life = |signed: &Signed| {
            ballot_of(signed.body()).is_some_and(|ballot| {
                rules::vote(&self.lives.rejoined, &signed.statement, ballot.seq, window) == VoteJudgement::Refused
            })
        };
        if new_view.pre_prepares().any(|signed| of_another_life(&signed)) {
            return Entrance::Closed;
        }
        let rested_on: Vec<(ReplicaId, Incarnation)> =
            view_changes.iter().map(|message| (message.author(), message.signed.statement.incarnation)).collect();
        // What lies at or below the stable checkpoint is decided, and nobody who knows votes there again.
        let own_commits = self.slots.range(self.stable().next()..).filter_map(|(_, slot)| slot.own_commit.as_ref());
        let own_commits =
            own_commits.filter_map(|signed| ballot_of(signed.body())).map(|ballot| (ballot.view, ballot.seq));
        rules::entrance(
            (self.id(), self.setup.incarnation),
            new_view.view(),
            own_commits,
            self.executed,
            window,
            &rested_on,
            &self.lives.rejoined,
        )
    }

    /// Whether a Rejoin joins the pending requests: it is its replica's only one there, and not too soon after the last one
    /// that executed. What this refuses is sent again.
    pub(super) fn admits_rejoin(&mut self, now: Now, statement: &Signed, digest: Digest) -> bool {
        let replica = statement.signer();
        self.note_absent(replica, statement.statement.incarnation);
        if self.lives.pending.get(&replica).is_some_and(|held| *held != digest && self.pending.contains(held)) {
            return false;
        }
        let spacing = self.parameters().view_timeout.saturating_mul(SPACING) / if self.leads() { 2 } else { 1 };
        // A primary that does not know when the last one executed must not be the one that holds this one back.
        let last = self.lives.learned.get(&replica).filter(|last| last.executed || !self.leads());
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
        let (stable, window) = (self.stable(), self.parameters().window);
        let is_back = |replica: ReplicaId, incarnation: Incarnation| {
            let record = self.lives.rejoined.get(replica);
            record.is_some_and(|record| record.incarnation >= incarnation && stable >= record.seq.plus(window))
        };
        let absent = self.lives.absent.iter().filter(|(id, incarnation)| !is_back(**id, **incarnation));
        let mut all: Vec<ReplicaId> = absent.map(|(id, _)| *id).collect();
        all.extend(self.is_rejoining().then_some(self.id()));
        all.sort_unstable();
        all
    }

    /// The executed state shows other lives than before.
    pub(super) fn handle_rejoined(&mut self, now: Now, rejoined: Rejoined) {
        self.learn_lives(now, rejoined, true);
        self.heed_own_life(now);
    }

    /// Takes the lives of a state that executed here just now, or that came as it is.
    pub(super) fn learn_lives(&mut self, now: Now, rejoined: Rejoined, executes: bool) {
        for (replica, record) in rejoined.iter() {
            if self.lives.rejoined.get(replica) != Some(record) {
                let executed = executes && record.seq > self.lives.replayed;
                self.lives.learned.insert(replica, Learned { at: now.monotonic, executed });
            }
        }
        self.view_changes.retain(|_, message| !rules::is_superseded(&rejoined, &message.signed.statement));
        self.lives.rejoined = rejoined;
    }

    /// Rejoins if the state shows that this life is over.
    pub(super) fn heed_own_life(&mut self, now: Now) {
        if !self.is_rejoining() && self.is_outlived() {
            self.begin_rejoin(now);
        }
    }

    /// A life after this one was there already: what it signed is not in this log, and nobody believes this one any more.
    fn is_outlived(&self) -> bool {
        self.lives.rejoined.incarnation(self.id()) > self.setup.incarnation
    }

    /// The log lacks promises. From this step on nothing is signed but Rejoin: what this replica knows of views, votes and
    /// requests is given up, what others certified is kept.
    pub(super) fn begin_rejoin(&mut self, now: Now) {
        if self.is_rejoining() {
            return;
        }
        let mut fresh = Replica::new(self.setup.clone());
        let mut checkpoints = Checkpoints::default();
        if let Some(certificate) = self.checkpoints.stable().cloned() {
            checkpoints.restore(certificate);
        }
        fresh.checkpoints = checkpoints;
        (fresh.delivered, fresh.executed) = (self.delivered, self.executed);
        fresh.next_deadline = self.next_deadline;
        fresh.last_step = self.last_step;
        fresh.next_record = self.next_record;
        fresh.view_changes_started = self.view_changes_started;
        fresh.last_departure = self.last_departure;
        std::mem::swap(&mut fresh.transfer, &mut self.transfer);
        std::mem::swap(&mut fresh.peers, &mut self.peers);
        std::mem::swap(&mut fresh.convictions, &mut self.convictions);
        std::mem::swap(&mut fresh.new_views, &mut self.new_views);
        std::mem::swap(&mut fresh.lives, &mut self.lives);
        // A view that this replica opened in a life it does not remember is not one to follow.
        let own = self.id();
        fresh.new_views.retain(|_, kept| kept.new_view.author() != own);
        fresh.lives.rejoining = Some(Rejoining::new(self.setup.incarnation, None));
        fresh.out.records = std::mem::take(&mut self.out.records);
        fresh.out.evidence = std::mem::take(&mut self.out.evidence);
        fresh.out.decided = std::mem::take(&mut self.out.decided);
        fresh.out.install = self.out.install.take();
        fresh.out.distrust_log = true;
        *self = fresh;
        self.follow_newest_view();
        self.next_status = now.monotonic;
    }

    /// A replica that follows is in the newest view whose NEW-VIEW it holds.
    pub(super) fn follow_newest_view(&mut self) {
        self.view = self.new_views.keys().next_back().copied().unwrap_or(View(0));
        self.entered = true;
    }

    /// Signs and records an attempt if none is under way, and sends it from time to time.
    pub(super) fn tend_rejoin(&mut self, now: Now) {
        // After a restart the checkpoint that decides may be here already, and nothing else would look at it.
        self.check_attempt();
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

    pub(super) fn next_rejoin(&self) -> Option<Micros> {
        self.lives.rejoining.as_ref()?.wake(&self.lives.rejoined)
    }

    /// Looks what a certified checkpoint says of the attempt, if its snapshot is held durably: the newest such. Under load
    /// the stable checkpoint may have moved on whenever a snapshot has become durable, so the ones before count as well.
    pub(super) fn check_attempt(&mut self) {
        let Some(rejoining) = &self.lives.rejoining else { return };
        let Some(attempt) = rejoining.attempt().filter(|_| rejoining.done().is_none()).copied() else { return };
        self.lives.certified.insert(self.stable(), self.checkpoints.stable_digest());
        while self.lives.certified.len() > CERTIFIED_KEPT {
            self.lives.certified.pop_first();
        }
        let held = |(seq, digest): (&Seq, &Digest)| Some((self.transfer.at(*seq)?, *digest));
        let Some((snapshot, certified)) = self.lives.certified.iter().rev().find_map(held) else { return };
        let (seq, root) = (snapshot.seq, snapshot.header().digest());
        if root != certified {
            return self.halt(Halt::Diverged { seq, own: root, certified });
        }
        let shown = Rejoined::of_snapshot(snapshot);
        match outlook(&attempt.statement, &shown, seq, self.parameters().window) {
            Outlook::Wait => {}
            Outlook::Again(next) => {
                if let Some(rejoining) = &mut self.lives.rejoining {
                    rejoining.lost(next);
                }
            }
            Outlook::Done => {
                self.lives.began = Some((attempt.statement, seq));
                if let Some(rejoining) = &mut self.lives.rejoining {
                    rejoining.won(seq);
                }
                // The base that the new life goes on from, and what says which life it is.
                if seq == self.stable() {
                    self.cut_log();
                } else {
                    self.record_base();
                }
                self.out.trust_log = Some(RecordIndex(self.next_record - 1));
            }
        }
    }

    /// The log is trusted again: the new life begins.
    pub(super) fn handle_log_trusted(&mut self, now: Now) {
        let won = self.lives.rejoining.as_ref().is_some_and(|rejoining| rejoining.done().is_some());
        let Some((statement, _)) = self.lives.began.filter(|_| won) else { return };
        self.lives.rejoining = None;
        self.lives.certified.clear();
        self.setup.incarnation = statement.statement.incarnation;
        self.next_status = now.monotonic;
        if self.is_outlived() {
            return self.begin_rejoin(now);
        }
        self.vouch_for_held(now);
        self.advance_all(now);
    }

    /// Writes anew what says which life this is: the log is about to be cut.
    pub(super) fn record_life(&mut self) {
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
