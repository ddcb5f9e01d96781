//! The monitor that evicts a primary which is merely slow (protocol.md, PBFT; Amir et al. 2008, "Byzantine replication under
//! attack"; Clement et al. 2009, "Making Byzantine fault tolerant systems tolerate Byzantine faults", section 4.2).
//!
//! A primary that delays each proposal to just under the view timer never lets it fire. What gives it away is that an
//! honest primary never rests while requests wait: with nothing undecided it proposes at once. So a backup adds up two
//! kinds of time, seen from its own clock alone:
//!
//! ```text
//!   waited   the next number is not proposed although the primary was handed a request, or although later numbers are; or
//!            it is, and the primary does not hand out the bodies it named
//!   worked   the next number is proposed and undecided: the time a quorum takes
//! ```
//!
//! Waiting counts only as far as it was looked at: up to the last look, at an earlier time, that found nothing proposed. A
//! replica that is itself busy between two looks cannot tell how long the proposal that it finds then has been there; one
//! that has nothing to do looks often ([`Monitor::look_again`]).
//!
//! Each spell of waiting is forgiven as long as the shortest work took: a request travels to the primary and its proposal
//! back, which is honest, and on a wide link or a busy machine takes as long as votes do. A primary is slow when too
//! large a share of both was waiting, window after window; or when most of its proposals took less than it was handed.
//!
//! One opinion evicts nobody: a replica acts on its own only together with f others who say the same or have left. More
//! cannot be asked: a slow primary may be prompt to q - f - 1 honest backups, and the f + 1 others are all that see it.
//! After an eviction more is tolerated for a while, so that a cluster that is slow as a whole settles. Who has accused so
//! many primaries that an honest one was among them accuses nobody for a while: it may be its own place, far from every
//! primary, that makes it see waiting everywhere, and f liars who always agree would evict with it for ever.

use crate::parameters::Micros;

/// What the time until the next observation counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Occupation {
    /// Nothing is asked of the primary.
    #[default]
    Idle,
    /// The primary could propose and does not.
    Waits,
    /// A quorum is at work.
    Works,
}

/// Proposals a window holds at least: one long pause is the view timer's business.
const PROPOSALS_LEAST: u32 = 4;
/// Bad windows in a row that make a primary slow.
const WINDOWS: u32 = 2;
/// The share of waiting that is tolerated, per cent, by recent evictions.
const TOLERATED: [u64; 4] = [30, 50, 70, 85];
/// Beyond them nobody is accused.
const ANYTHING: u64 = 100;
/// The share of stingy proposals that is always tolerated, per cent.
const STINGY: u64 = 50;
/// While it waits, a replica looks again after this share of the view timeout, or of the spell so far if that is longer.
const LOOK_AGAIN: u64 = 128;
/// See [`LOOK_AGAIN`].
const LOOK_AGAIN_OF_SPELL: u64 = 8;
/// A spell of waiting is forgiven an eighth of the view timeout at most.
const GRACE_MAX: u64 = 8;
/// A bad window is forgotten when so many view timeouts pass without another window.
const STALE_AFTER: u64 = 16;
/// An eviction is forgotten after so many view timeouts.
const FORGOTTEN_AFTER: u64 = 240;

/// What a backup has seen of the primary of its view.
#[derive(Debug, Default)]
pub struct Monitor {
    since: Micros,
    occupation: Occupation,
    /// When the present occupation began.
    spell: Micros,
    /// The shortest work of this window, and of the one before.
    shortest: Option<Micros>,
    grace: Option<Micros>,
    window_ended: Micros,
    waited: Micros,
    /// Waiting that the latest look found, until a look at a later time confirms it.
    unconfirmed: Micros,
    worked: Micros,
    proposals: u32,
    stingy: u32,
    bad_windows: u32,
    evictions: usize,
    last_eviction: Micros,
    /// So many members may be faulty, and slow one after the other.
    faults: usize,
}

impl Monitor {
    /// The monitor of a replica in a committee of which `faults` may be faulty.
    pub fn among(faults: usize) -> Monitor {
        Monitor { faults, ..Monitor::default() }
    }

    /// Another view, another primary.
    pub fn begin_view(&mut self, now: Micros) {
        let (evictions, last_eviction) = (self.evictions, self.last_eviction);
        let kept = Monitor { evictions, last_eviction, ..Monitor::among(self.faults) };
        *self = Monitor { since: now, spell: now, window_ended: now, ..kept };
    }

    /// From now on the time counts as `occupation`. A window ends when waiting and working have taken two view timeouts
    /// and four proposals were seen.
    pub fn observe(&mut self, now: Micros, occupation: Occupation, view_timeout: Micros) {
        // Beyond a view timeout it is the timer's business, or this replica slept.
        let passed = now.saturating_sub(self.since).min(view_timeout);
        if passed > 0 {
            self.waited += std::mem::take(&mut self.unconfirmed);
        }
        match (self.occupation, occupation) {
            (Occupation::Idle, _) => {}
            (Occupation::Waits, Occupation::Waits) => {
                let forgiven = self.spell.saturating_add(self.grace(view_timeout));
                self.unconfirmed += now.saturating_sub(self.since.max(forgiven)).min(passed);
            }
            // Several inputs may come at one time, the proposal behind others.
            (Occupation::Waits, _) => self.unconfirmed = 0,
            (Occupation::Works, _) => self.worked += passed,
        }
        if occupation != self.occupation {
            if self.occupation == Occupation::Works {
                let work = now.saturating_sub(self.spell);
                self.shortest = Some(self.shortest.map_or(work, |shortest| shortest.min(work)));
            }
            self.spell = now;
        }
        self.since = now;
        self.occupation = occupation;
        if self.proposals >= PROPOSALS_LEAST && self.waited + self.worked >= 2 * view_timeout {
            let bad = is_slow(self.waited, self.worked, self.proposals, self.stingy, self.tolerated());
            self.bad_windows = if bad { self.bad_windows + 1 } else { 0 };
            (self.waited, self.worked, self.proposals, self.stingy) = (0, 0, 0, 0);
            self.grace = self.shortest.take().or(self.grace);
            self.window_ended = now;
        }
        if now > self.window_ended.saturating_add(view_timeout.saturating_mul(STALE_AFTER)) {
            self.bad_windows = 0;
        }
        if self.evictions > 0 && now > self.last_eviction.saturating_add(view_timeout.saturating_mul(FORGOTTEN_AFTER)) {
            self.evictions -= 1;
            self.last_eviction = now;
        }
    }

    /// When to observe again whatever else happens, if the primary is waited for.
    pub fn look_again(&self, view_timeout: Micros) -> Option<Micros> {
        let spell = self.since.saturating_sub(self.spell);
        let interval = (view_timeout / LOOK_AGAIN).max(spell / LOOK_AGAIN_OF_SPELL).max(1);
        (self.occupation == Occupation::Waits).then(|| self.since.saturating_add(interval))
    }

    /// What a spell of waiting is forgiven; before anything was measured, as much as it ever is.
    pub fn grace(&self, view_timeout: Micros) -> Micros {
        let most = view_timeout / GRACE_MAX;
        self.grace.map_or(most, |grace| grace.min(most))
    }

    /// The primary proposed; `stingy` says whether the proposal took much less than what it was handed.
    pub fn proposed(&mut self, stingy: bool) {
        self.proposals = self.proposals.saturating_add(1);
        self.stingy = self.stingy.saturating_add(u32::from(stingy));
    }

    /// Whether this replica finds its primary slow.
    pub const fn suspects(&self) -> bool {
        self.bad_windows >= WINDOWS
    }

    /// Evictions after which this replica abstains: every faulty member may have been worth one.
    fn abstains_after(&self) -> usize {
        TOLERATED.len().max(self.faults + 1)
    }

    fn tolerated(&self) -> u64 {
        if self.evictions >= self.abstains_after() {
            return ANYTHING;
        }
        TOLERATED[self.evictions.min(TOLERATED.len() - 1)]
    }

    /// The primary is left for being slow.
    pub fn evict(&mut self, now: Micros) {
        self.evictions = (self.evictions + 1).min(self.abstains_after());
        self.last_eviction = now;
        self.bad_windows = 0;
    }
}

/// Judges one window, of which so many per cent of waiting are tolerated.
pub fn is_slow(waited: Micros, worked: Micros, proposals: u32, stingy: u32, tolerated: u64) -> bool {
    let stingy_tolerated = u64::from(proposals).saturating_mul(tolerated.max(STINGY));
    waited.saturating_mul(100) > (waited + worked).saturating_mul(tolerated)
        || u64::from(stingy).saturating_mul(100) > stingy_tolerated
}

/// Whether a proposal of `taken` requests is less than an honest primary makes of `handed` requests that it was handed
/// long ago: `floor` requests fit every batch.
pub const fn is_stingy(taken: usize, handed: usize, floor: usize) -> bool {
    let owed = if handed < floor { handed } else { floor };
    taken < owed
}

/// Whether to leave the view: this replica finds its primary slow, and with the others who do there are `one_honest` of
/// them. f liars alone never are.
pub const fn may_evict(suspects: bool, others_who_suspect: usize, one_honest: usize) -> bool {
    suspects && others_who_suspect + 1 >= one_honest
}

#[cfg(test)]
mod tests;
