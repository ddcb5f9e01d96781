//! The pacemaker: which view, how long, and what others gave up. A state machine without I/O that knows nothing of requests.
//!
//! ```text
//!   QC(v) or TC(v) ─► enter v + 1 ─► timer while anything is outstanding ─► TIMEOUT(v + 1) to all
//!                                                         ▲ f + 1 TIMEOUTs of others are joined
//!   q TIMEOUTs of one view ─► TC
//! ```
//!
//! A view lasts D at most, twice as long after every f + 1 views that failed, up to a cap; the count goes back to 0 with a
//! commit. f failed views in a row say nothing about the network: that many leaders may be dead. One exception: a replica that
//! voted in v and left it by TC(v) gives v + 1 a quarter of D only. It was the leader of v + 1 that did not deliver the
//! certificate of v, and it leads v + 1 as well. Such a short view is never followed by another and does not count as failed,
//! so that on a slow network every other view still gets the full time.

use std::collections::BTreeMap;

use quorate_crypto::{Committee, ReplicaId, View};

use crate::engine::Now;
use crate::hotstuff::certificate::{Collected, TimeoutCertificate};
use crate::hotstuff::message::Timeout;
use crate::hotstuff::safety;
use crate::parameters::{Micros, Parameters};

/// How a view was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The view before ended with a QC.
    Quorum,
    /// It ended with a TC.
    Timeout {
        /// Whether this replica had voted in it.
        voted: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Timer {
    deadline: Micros,
    started: Micros,
    /// Whether its leader is slow and gets less time than others.
    hurried: bool,
    /// Whether it was put off once because the process slept; twice would let a slow machine never notice a dead leader.
    put_off: bool,
}

/// The pacemaker.
#[derive(Debug)]
pub struct Pacemaker {
    view: View,
    entry: Entry,
    /// Views that failed since the last commit.
    failed_views: u32,
    /// Whether the present view has a quarter of the time.
    short: bool,
    timer: Option<Timer>,
    /// The newest TIMEOUT of each author, this replica included (rule P9: one each, however far ahead).
    timeouts: BTreeMap<ReplicaId, Timeout>,
}

impl Pacemaker {
    /// In `view`, which nothing failed before.
    pub const fn new(view: View) -> Pacemaker {
        Pacemaker { view, entry: Entry::Quorum, failed_views: 0, short: false, timer: None, timeouts: BTreeMap::new() }
    }

    /// The present view.
    pub const fn view(&self) -> View {
        self.view
    }

    /// How it was entered.
    pub const fn entry(&self) -> Entry {
        self.entry
    }

    /// Views that failed since the last commit: what the bound on a block's time widens with.
    pub const fn failed_views(&self) -> u32 {
        self.failed_views
    }

    /// A certificate of the view before `view` is held. Whether the view is new.
    pub fn enter(&mut self, view: View, entry: Entry) -> bool {
        if view <= self.view {
            return false;
        }
        self.view = view;
        self.entry = entry;
        self.timer = None;
        let was_short = std::mem::take(&mut self.short);
        if let Entry::Timeout { voted } = entry
            && !was_short
        {
            self.failed_views = self.failed_views.saturating_add(1);
            self.short = voted;
        }
        self.timeouts.retain(|_, timeout| timeout.view() >= view);
        true
    }

    /// Blocks were committed.
    pub const fn progressed(&mut self) {
        self.failed_views = 0;
    }

    /// How long the present view may last.
    pub fn patience(&self, parameters: &Parameters, committee: &Committee) -> Micros {
        if self.short {
            return parameters.view_timeout / 4;
        }
        let cap = u64::from(parameters.backoff_cap.max(1));
        let doublings = self.failed_views as usize / committee.one_honest();
        let factor = (1u64 << doublings.min(32)).min(cap);
        parameters.view_timeout.saturating_mul(factor)
    }

    /// Starts the timer while something is outstanding, and stops it when nothing is.
    pub fn tend(&mut self, now: Now, outstanding: bool, parameters: &Parameters, committee: &Committee) {
        if !outstanding {
            self.timer = None;
        } else if self.timer.is_none() {
            let deadline = now.monotonic.saturating_add(self.patience(parameters, committee));
            self.timer = Some(Timer { deadline, started: now.monotonic, hurried: false, put_off: false });
        }
    }

    /// The view ends at `deadline`, if it does not end before.
    pub fn hurry(&mut self, deadline: Micros) {
        if let Some(timer) = self.timer.as_mut().filter(|timer| timer.deadline > deadline && !timer.put_off) {
            timer.deadline = deadline;
            timer.hurried = true;
        }
    }

    /// The leader that was to hurry brought its block: the view gets its time, which the next leader's certificate needs as well.
    pub fn calm(&mut self, parameters: &Parameters, committee: &Committee) {
        let patience = self.patience(parameters, committee);
        if let Some(timer) = self.timer.as_mut().filter(|timer| timer.hurried && !timer.put_off) {
            timer.deadline = timer.started.saturating_add(patience);
            timer.hurried = false;
        }
    }

    /// Whether the present view has less time than others since its leader is slow.
    pub fn is_hurried(&self) -> bool {
        self.timer.is_some_and(|timer| timer.hurried)
    }

    /// A process that slept must not fire a timer that measured its own sleep: it catches up first (rule P11).
    pub fn notice_pause(&mut self, now: Now, slept: Micros, parameters: &Parameters) {
        if slept > parameters.view_timeout / 2
            && let Some(timer) = &mut self.timer
            && timer.deadline <= now.monotonic
            && !timer.put_off
        {
            timer.put_off = true;
            timer.deadline = now.monotonic.saturating_add(parameters.view_timeout);
        }
    }

    /// Whether the view has lasted too long.
    pub fn is_expired(&self, now: Now) -> bool {
        self.timer.is_some_and(|timer| timer.deadline <= now.monotonic)
    }

    /// When the timer fires.
    pub fn deadline(&self) -> Option<Micros> {
        self.timer.map(|timer| timer.deadline)
    }

    /// When the timer began to run.
    pub fn started(&self) -> Option<Micros> {
        self.timer.map(|timer| timer.started)
    }

    /// Keeps a verified TIMEOUT, if its view is not over and it is newer than what is kept of its author.
    pub fn add(&mut self, timeout: Timeout) -> Collected {
        if timeout.view() < self.view {
            return Collected::Nothing;
        }
        let author = timeout.signed.signer();
        match self.timeouts.get(&author) {
            Some(held) if held.view() == timeout.view() && held.signed.body() != timeout.signed.body() => {
                Collected::Contradicts(held.signed)
            }
            Some(held) if held.view() >= timeout.view() => Collected::Nothing,
            _ => {
                self.timeouts.insert(author, timeout);
                Collected::New
            }
        }
    }

    /// The newest TIMEOUT kept of an author.
    pub fn timeout_of(&self, author: ReplicaId) -> Option<&Timeout> {
        self.timeouts.get(&author)
    }

    /// The authors of TIMEOUTs of the present view.
    pub fn given_up_by(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.timeouts.iter().filter(|(_, timeout)| timeout.view() == self.view).map(|(author, _)| *author)
    }

    /// Forgets the TIMEOUTs that `counts` does not speak for.
    pub fn keep_timeouts(&mut self, counts: impl Fn(&Timeout) -> bool) {
        self.timeouts.retain(|_, timeout| counts(timeout));
    }

    /// The view whose TIMEOUT is to be joined, if f + 1 others gave it up or passed it and this replica, which gave up
    /// `last_timed_out` last, has not.
    pub fn joins(&self, last_timed_out: View, committee: &Committee) -> Option<View> {
        safety::joined_view(self.timeouts.values().map(Timeout::view), self.view, committee)
            .filter(|view| *view > last_timed_out)
    }

    /// A TC, once q TIMEOUTs of one view are there that is not over: of the highest such view.
    pub fn certificate(&self, committee: &Committee) -> Option<TimeoutCertificate> {
        let mut by_view: BTreeMap<View, usize> = BTreeMap::new();
        for timeout in self.timeouts.values() {
            *by_view.entry(timeout.view()).or_default() += 1;
        }
        let (view, _) = by_view.into_iter().rev().find(|(_, count)| *count >= committee.quorum())?;
        let of_view = self.timeouts.values().filter(|timeout| timeout.view() == view);
        TimeoutCertificate::collect(of_view.map(|timeout| (&timeout.signed, &timeout.high_qc)))
    }
}

#[cfg(test)]
mod tests;
