//! Lives of replicas where they touch views and watermarks: which NEW-VIEWs may be entered, what the primary fills, how the
//! log is given up ([`crate::rejoin`]; the rest is the foundation's).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Incarnation, ReplicaId, Seq, Signed, View};

use crate::engine::Now;
use crate::pbft::Replica;
use crate::pbft::slot::ballot_of;
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::rejoin::Rejoined;
use crate::rejoin::rules::{self, Entrance};

impl Replica {
    /// Whether this replica may assign numbers in the view it leads: a life that rejoined does so only in views that its own
    /// NEW-VIEW opened, and view 0 was opened by none.
    pub(super) fn may_assign(&self) -> bool {
        let opened = || {
            let kept = self.new_views.get(&self.view);
            kept.is_some_and(|kept| kept.new_view.signed.statement.incarnation == self.foundation.setup.incarnation)
        };
        !self.foundation.is_rejoining() && (self.foundation.lives.began.is_none() || opened())
    }

    /// Whether a VIEW-CHANGE is of a life that is known to be over.
    pub(super) fn is_superseded(&self, message: &ViewChange) -> bool {
        rules::is_superseded(&self.foundation.lives.rejoined, &message.signed.statement)
            && !alive(Mutant::OldLivesOpenViews)
    }

    /// The null requests the primary owes, up to this number.
    pub(super) fn fill_target(&self) -> Option<Seq> {
        let parameters = self.foundation.parameters();
        rules::fill_target(
            &self.foundation.lives.rejoined,
            self.foundation.stable(),
            parameters.window,
            parameters.checkpoint_interval,
        )
    }

    /// Whether a view may be entered by a NEW-VIEW that rests on these VIEW-CHANGEs.
    pub(super) fn entrance(&self, new_view: &NewView, view_changes: &[ViewChange]) -> Entrance {
        if alive(Mutant::OldLivesOpenViews) {
            return Entrance::Open;
        }
        let window = self.foundation.parameters().window;
        let of_another_life = |signed: &Signed| {
            let ballot = ballot_of(signed.body());
            ballot.is_some_and(|ballot| self.foundation.vote_is_refused(&signed.statement, ballot.seq))
        };
        if new_view.pre_prepares().any(|signed| of_another_life(&signed)) {
            return Entrance::Closed;
        }
        let rested_on: Vec<(ReplicaId, Incarnation)> =
            view_changes.iter().map(|message| (message.author(), message.signed.statement.incarnation)).collect();
        // What lies at or below the stable checkpoint is decided, and nobody who knows votes there again.
        let own_commits =
            self.slots.range(self.foundation.stable().next()..).filter_map(|(_, slot)| slot.own_commit.as_ref());
        let own_commits =
            own_commits.filter_map(|signed| ballot_of(signed.body())).map(|ballot| (ballot.view, ballot.seq));
        rules::entrance(
            (self.foundation.id(), self.foundation.setup.incarnation),
            new_view.view(),
            own_commits,
            self.foundation.executed,
            window,
            &rested_on,
            &self.foundation.lives.rejoined,
        )
    }

    /// The executed state shows other lives than before.
    pub(super) fn handle_rejoined(&mut self, now: Now, rejoined: Rejoined) {
        self.learn_lives(now, rejoined, true);
        self.heed_own_life(now);
    }

    /// Takes the lives of a state that executed here just now, or that came as it is.
    pub(super) fn learn_lives(&mut self, now: Now, rejoined: Rejoined, executes: bool) {
        self.foundation.learn_lives(now, rejoined, executes);
        self.forget_old_lives();
    }

    /// VIEW-CHANGEs of lives that are over open no view any more.
    pub(super) fn forget_old_lives(&mut self) {
        let known = &self.foundation.lives.rejoined;
        self.view_changes.retain(|_, message| !rules::is_superseded(known, &message.signed.statement));
    }

    /// Rejoins if the state shows that this life is over.
    pub(super) fn heed_own_life(&mut self, now: Now) {
        if self.foundation.is_outlived() {
            self.begin_rejoin(now);
        }
    }

    /// The log lacks promises. From this step on nothing is signed but Rejoin: what this replica knows of views, votes and
    /// requests is given up, what others certified is kept.
    pub(super) fn begin_rejoin(&mut self, now: Now) {
        if self.foundation.is_rejoining() {
            return;
        }
        self.foundation.begin_rejoin(now);
        let mut fresh = Replica::new(self.foundation.setup.clone());
        std::mem::swap(&mut fresh.foundation, &mut self.foundation);
        fresh.view_changes_started = self.view_changes_started;
        fresh.last_departure = self.last_departure;
        std::mem::swap(&mut fresh.suspicions, &mut self.suspicions);
        std::mem::swap(&mut fresh.new_views, &mut self.new_views);
        // A view that this replica opened in a life it does not remember is not one to follow.
        let own = fresh.foundation.id();
        fresh.new_views.retain(|_, kept| kept.new_view.author() != own);
        *self = fresh;
        self.follow_newest_view();
    }

    /// A replica that follows is in the newest view whose NEW-VIEW it holds.
    pub(super) fn follow_newest_view(&mut self) {
        self.view = self.new_views.keys().next_back().copied().unwrap_or(View(0));
        self.entered = true;
    }

    /// Looks whether the attempt to come back won: then what the new life goes on from is recorded. At the end of every turn as
    /// well: after a restart the checkpoint that decides may be here already, and nothing else would look at it.
    pub(super) fn check_attempt(&mut self) {
        let Some(seq) = self.foundation.check_attempt() else { return };
        if seq == self.foundation.stable() {
            self.cut_log();
        } else {
            self.record_base();
        }
        self.foundation.trust_log();
    }

    /// The log is trusted again: the new life begins.
    pub(super) fn handle_log_trusted(&mut self, now: Now) {
        if !self.foundation.begin_life(now) {
            return;
        }
        if self.foundation.is_outlived() {
            return self.begin_rejoin(now);
        }
        self.vouch_for_held(now);
        self.advance_all(now);
    }
}
