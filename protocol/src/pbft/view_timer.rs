//! The view timer, relays, and the look at how the primary spends its time: what makes a backup leave a view (Castro and
//! Liskov 1999, section 4.5.2).

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Seq};

use crate::engine::{Departure, Now, Recipients};
use crate::foundation::BATCH_LEAST;
use crate::parameters::Micros;
use crate::pbft::monitor::{self, Occupation};
use crate::pbft::slot::Slot;
use crate::pbft::{Replica, ViewTimer};
use crate::pending::{Relayed, VOUCHED_MAX};
use crate::proposal::Proposal;

/// Bytes of requests relayed at once.
const RELAY_BYTES_MAX: usize = 512 * 1024;

impl ViewTimer {
    fn starting(now: Micros, patience: Micros, target: Option<Digest>) -> ViewTimer {
        ViewTimer { deadline: now + patience, started: now, target, put_off: false, paused: None }
    }

    /// Takes out the time that began with this replica behind, and notes whether it is behind now.
    fn stand_still(&mut self, now: Micros, behind: bool) {
        let stood = self.paused.map_or(0, |since| now.saturating_sub(since));
        self.started += stood;
        self.deadline += stood;
        self.paused = behind.then_some(now);
    }
}

impl Replica {
    /// D with the back-off: doubled per failed view, at most `backoff_cap` times D.
    fn patience(&self) -> Micros {
        let cap = u64::from(self.foundation.parameters().backoff_cap.max(1));
        let factor = (1u64 << self.failed_views.min(32)).min(cap);
        self.foundation.parameters().view_timeout.saturating_mul(factor)
    }

    /// A request is relayed to the primary this long after it became the oldest; then its timer runs.
    fn relay_delay(&self) -> Micros {
        self.foundation.parameters().view_timeout / 8
    }

    /// A process that slept (paused, suspended, starved) must not fire timers that measured its own sleep: it catches up
    /// first (rule P11; BFT-SMaRt #19, #27).
    pub(super) fn notice_pause(&mut self, now: Now) {
        let slept = now.monotonic.saturating_sub(self.foundation.last_step);
        if self.foundation.last_step > 0
            && slept > self.foundation.parameters().view_timeout / 2
            && let Some(timer) = &mut self.timer
            && timer.paused.is_none()
            && timer.deadline <= now.monotonic
            && !timer.put_off
        {
            // Time for links to come back, and for others to say how far they are.
            timer.put_off = true;
            timer.deadline = now.monotonic + self.foundation.setup.parameters.view_timeout;
        }
        self.foundation.last_step = now.monotonic;
    }

    /// Whether anything is owed: a pending request, an accepted or decided number not executed, a deadline.
    fn is_work_outstanding(&self, now: Now) -> bool {
        !self.foundation.pending.is_empty()
            || self.foundation.deadline_is_due(now)
            || self.fill_target().is_some_and(|target| self.foundation.executed < target)
            || self.slots.range(self.foundation.executed.next()..).any(|(_, slot)| {
                slot.committed.is_some() || slot.rounds.get(&self.view).is_some_and(|round| round.pre_prepare.is_some())
            })
    }

    pub(super) fn note_progress(&mut self, _now: Now) {
        if self.entered {
            self.failed_views = 0;
        }
        let restart = self.timer.as_ref().is_some_and(|timer| match timer.target {
            Some(target) => !self.foundation.pending.contains(&target),
            None => true,
        });
        if self.entered && restart {
            self.timer = None;
        }
    }

    /// Keeps the view timer as it must be; called at the end of every turn.
    pub(super) fn tend_timer(&mut self, now: Now) {
        // Who follows leaves no view by itself.
        if self.foundation.is_rejoining() {
            self.timer = None;
            return;
        }
        if !self.entered {
            // The timer for this view starts only with q VIEW-CHANGEs for it, so a lone replica never runs ahead.
            if self.timer.is_none() && self.supporters() >= self.foundation.committee().quorum() {
                self.timer = Some(ViewTimer::starting(now.monotonic, self.patience(), None));
            }
            return;
        }
        if self.timer.is_some_and(|timer| timer.target.is_some_and(|target| !self.foundation.pending.contains(&target)))
        {
            self.timer = None;
        }
        // While f + 1 others have executed more, the cluster makes progress and this replica's delay is its own: its timer
        // stands still. It is not forgotten: a primary that leaves one backup after the other behind for a moment would
        // see no timer run out. At most n - q honest replicas are behind at once, so f + 1 timers of the others go on.
        let behind = self.foundation.is_behind();
        if !self.is_work_outstanding(now) {
            self.timer = None;
        } else if let Some(timer) = &mut self.timer {
            timer.stand_still(now.monotonic, behind);
        } else if !behind {
            let target = self.foundation.pending.oldest().map(|admitted| admitted.digest);
            if let Some(target) = &target {
                self.foundation.pending.relay_again(target);
            }
            self.timer = Some(ViewTimer::starting(now.monotonic, self.relay_delay() + self.patience(), target));
        }
    }

    pub(super) fn tend_relays(&mut self, now: Now) {
        if !self.entered {
            return self.relay_while_moving(now);
        }
        let at = now.monotonic;
        // While the timer stands still, and before it starts, the age of what waits says when to relay; more rarely, since
        // much of it may have been executed by those ahead.
        let (since, again) = match self.timer {
            Some(timer) if timer.paused.is_none() => (timer.started, self.relay_delay()),
            _ => (self.foundation.pending.unproposed_since().unwrap_or(at), self.foundation.parameters().view_timeout),
        };
        let waited = at.saturating_sub(since);
        let before = at.saturating_sub(self.relay_delay());
        if !self.leads() {
            // With the next number not proposed the primary could have proposed: it may lack what waits here.
            let idle = self.idle_relay_due().is_some_and(|due| due <= at);
            // What is old already waits behind others there, however often the timer restarted.
            let old =
                self.foundation.pending.unproposed_since().is_some_and(|since| since + 2 * self.relay_delay() <= at);
            if idle || old || waited >= self.relay_delay() {
                let before = if idle { at.saturating_sub(self.idle_relay_delay()) } else { before };
                let relay = self.foundation.pending.to_relay(at, before, Relayed::ToPrimary, again, RELAY_BYTES_MAX);
                self.foundation.relay(Recipients::One(self.primary()), &relay);
            }
        }
        if waited >= self.relay_delay() + self.patience() / 2 {
            let relay = self.foundation.pending.to_relay(at, before, Relayed::ToAll, Micros::MAX, RELAY_BYTES_MAX);
            self.foundation.relay(Recipients::Others, &relay);
        }
    }

    /// A primary that has nothing to wait for is handed what waits after this long: as long as an honest one may take.
    fn idle_relay_delay(&self) -> Micros {
        let timeout = self.foundation.parameters().view_timeout;
        (timeout / 50).max(self.monitor.grace(timeout))
    }

    fn idle_relay_due(&self) -> Option<Micros> {
        if !self.entered || self.leads() || self.occupation_by_slots().is_some() {
            return None;
        }
        self.foundation.pending.unrelayed_since().map(|since| since + self.idle_relay_delay())
    }

    /// What the next number says of how the primary spends its time; none if it says nothing.
    fn occupation_by_slots(&self) -> Option<Occupation> {
        let next = self.foundation.delivered.next();
        let named = |slot: &Slot| slot.rounds.get(&self.view).is_some_and(|round| round.pre_prepare.is_some());
        match self.slots.get(&next).filter(|slot| slot.committed.is_some() || named(slot)) {
            // Asked twice for what it named, the primary still withholds it.
            // What is decided is asked of others.
            Some(slot) if slot.committed.is_none() && slot.fetch.is_some_and(|(_, tries)| tries >= 2) => {
                Some(Occupation::Waits)
            }
            Some(_) => Some(Occupation::Works),
            None => {
                let gap = self.slots.range(next.next()..).any(|(_, slot)| slot.committed.is_some() || named(slot));
                gap.then_some(Occupation::Waits)
            }
        }
    }

    /// Whether this replica watches the primary. Who follows leaves no view by itself, and has no opinion that others should
    /// count.
    pub(super) fn watches(&self) -> bool {
        self.entered && !self.leads() && !self.foundation.is_rejoining()
    }

    /// Whether the primary of this view was convicted before this replica's eyes.
    fn primary_is_convicted(&self) -> bool {
        self.foundation.is_barred(self.primary())
    }

    /// Whether this replica would have another primary: what its STATUS says.
    pub(super) fn suspects_primary(&self) -> bool {
        self.monitor.suspects() || self.primary_is_convicted()
    }

    /// Watches the primary, and leaves it if it is slow, is convicted, or passes a request over again and again.
    pub(super) fn tend_monitor(&mut self, now: Now) {
        if !self.watches() {
            return;
        }
        // Null requests are owed at once: one a timeout would keep every timer from firing.
        let owes = || self.fill_target().is_some_and(|target| self.foundation.delivered < target);
        let handed = || self.foundation.pending.was_handed(now.monotonic) || owes();
        let occupation = if self.foundation.is_behind() {
            Occupation::Idle
        } else if !self.in_window(self.foundation.delivered.next()) {
            // A full window waits for checkpoints, which are a quorum's work as well.
            Occupation::Works
        } else {
            self.occupation_by_slots().unwrap_or(if handed() { Occupation::Waits } else { Occupation::Idle })
        };
        self.monitor.observe(now.monotonic, occupation, self.foundation.setup.parameters.view_timeout);
        let suspects = self.suspects_primary();
        if suspects && self.told_suspicion != Some(self.view) {
            // The others are told at once.
            self.told_suspicion = Some(self.view);
            self.foundation.next_status = now.monotonic;
        }
        // Who has left the view suspected its primary before; its STATUS speaks of the next one already.
        let left = |id: &ReplicaId| self.view_changes.get(id).is_some_and(|message| message.view() > self.view);
        // The primary's own word counts for nothing: a liar would part one backup from the others by suspecting itself.
        let primary = self.primary();
        let agrees = |id: &ReplicaId| self.suspicions.get(id) == Some(&self.view) || left(id);
        let others = self.foundation.others().filter(|id| *id != primary && agrees(id)).count();
        let suspected = monitor::may_evict(suspects, others, self.foundation.committee().one_honest());
        // A request overtaken by more than twice the admission cap of later ones is censorship, unless this replica
        // lags: then what it relayed may be decided already.
        let censored = !self.foundation.is_behind()
            && self.foundation.pending.overtaken() > 2 * self.foundation.parameters().pending_requests_max;
        let why = match (suspected, censored) {
            (true, _) if self.primary_is_convicted() => Departure::ConvictedPrimary,
            (true, _) => Departure::SlowPrimary,
            (false, true) => Departure::Censorship,
            (false, false) => return,
        };
        // Who leaves a liar says nothing of how patient it is with others.
        if why != Departure::ConvictedPrimary {
            self.monitor.evict(now.monotonic);
        }
        let next = self.view.next();
        self.start_view_change(now, next, why);
    }

    /// Tells the monitor of a proposal that was accepted for the first time.
    pub(super) fn watch_proposal(&mut self, now: Now, seq: Seq, proposal: &Proposal) {
        if self.in_window(seq) {
            let stingy = self.takes_too_little(now, proposal);
            self.monitor.proposed(stingy);
        }
    }

    /// Whether the proposal, not yet learnt, takes less of what the primary was handed than an honest one would: that
    /// goes into its next batch. What it names beside (what executed long ago, what this replica does not hold) excuses
    /// nothing, else a liar would pad its proposals with it. Handed requests so heavy that a few fill a batch may wait
    /// behind others like them, as long as each proposal takes its share of such work.
    pub(super) fn takes_too_little(&self, now: Now, proposal: &Proposal) -> bool {
        let timeout = self.foundation.parameters().view_timeout;
        let heavy = self.foundation.parameters().batch_bytes_max / 4;
        let before = |ago: Micros| now.monotonic.saturating_sub(ago);
        let (taken, bytes) = self.foundation.pending.unproposed_among(proposal.requests());
        let late = self.foundation.pending.handed_over(before(timeout / 2), heavy) > 0;
        let heavy_late = bytes < heavy && self.foundation.pending.was_handed(before(timeout / 2));
        let owed = self.foundation.pending.handed_over(before(timeout / 4), heavy);
        late || heavy_late || monitor::is_stingy(taken, owed, BATCH_LEAST)
    }

    /// Who has left a view takes part in no order there, and those who stayed need not follow: what it alone has pending
    /// would wait until something else makes them leave. So its oldest requests go to everybody, as many as find room
    /// in any case, again and again, since it cannot know what arrived.
    fn relay_while_moving(&mut self, now: Now) {
        if now.monotonic < self.next_moving_relay {
            return;
        }
        self.next_moving_relay = now.monotonic + self.foundation.parameters().view_timeout;
        let oldest = self.foundation.pending.oldest_few(VOUCHED_MAX, RELAY_BYTES_MAX);
        self.foundation.relay(Recipients::Others, &oldest);
    }

    pub(super) fn timer_deadline(&self) -> Option<Micros> {
        let idle_relay = self.idle_relay_due().filter(|at| *at > self.foundation.last_step);
        // One that stands still comes on with every STATUS, and who is behind sends and gets many.
        let Some(timer) = self.timer.filter(|timer| timer.paused.is_none()) else { return idle_relay };
        let relays = [timer.started + self.relay_delay(), timer.started + self.relay_delay() + self.patience() / 2];
        let next_relay = relays
            .into_iter()
            .find(|at| *at > self.foundation.last_step && self.entered && !self.foundation.pending.is_empty());
        [next_relay, idle_relay, Some(timer.deadline)].into_iter().flatten().min()
    }

    pub(super) fn check_timer(&mut self, now: Now) {
        let over = |timer: ViewTimer| timer.paused.is_none() && timer.deadline <= now.monotonic;
        if alive(Mutant::NoViewTimer) {
            return;
        }
        if self.timer.is_some_and(over) && !(self.entered && self.foundation.is_behind()) {
            let next = self.view.next();
            self.start_view_change(now, next, Departure::TimerExpired);
        }
    }
}
