//! The monitor that evicts a primary which is merely slow (protocol.md, PBFT; Amir et al. 2008, "Byzantine replication under
//! attack"; Clement et al. 2009, "Making Byzantine fault tolerant systems tolerate Byzantine faults", section 4.2).
//!
//! A primary that delays each proposal to just under the view timer never lets it fire. What gives it away is that an
//! honest primary never rests while requests wait: with nothing undecided it proposes at once. So a backup adds up two
//! kinds of time, seen from its own clock alone:
//!
//! ```text
//!   waited   nothing is undecided, and a request that the primary was handed is not proposed
//!   worked   an accepted proposal is undecided: the time a quorum takes, which no primary alone decides
//! ```
//!
//! A primary is slow when too large a share of both was waiting, window after window; or when most of its proposals are
//! much smaller than what it was handed and left waiting. A wide link or a busy machine stretches both kinds alike.
//!
//! One opinion evicts nobody: a replica acts on its own only together with f + 1 others who say the same, at least one of
//! them honest. After an eviction more is tolerated for a while, so that a cluster that is slow as a whole settles.

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
/// An eviction is forgotten after so many view timeouts.
const FORGOTTEN_AFTER: u64 = 240;

/// What a backup has seen of the primary of its view.
#[derive(Debug, Default)]
pub struct Monitor {
    since: Micros,
    occupation: Occupation,
    waited: Micros,
    worked: Micros,
    proposals: u32,
    stingy: u32,
    bad_windows: u32,
    evictions: usize,
    last_eviction: Micros,
}

impl Monitor {
    /// Another view, another primary.
    pub fn begin_view(&mut self, now: Micros) {
        let (evictions, last_eviction) = (self.evictions, self.last_eviction);
        *self = Monitor { since: now, evictions, last_eviction, ..Monitor::default() };
    }

    /// From now on the time counts as `occupation`. A window ends when waiting and working have taken two view timeouts
    /// and four proposals were seen.
    pub fn observe(&mut self, now: Micros, occupation: Occupation, view_timeout: Micros) {
        // Beyond a view timeout it is the timer's business, or this replica slept.
        let passed = now.saturating_sub(self.since).min(view_timeout);
        match self.occupation {
            Occupation::Idle => {}
            Occupation::Waits => self.waited += passed,
            Occupation::Works => self.worked += passed,
        }
        self.since = now;
        self.occupation = occupation;
        if self.proposals >= PROPOSALS_LEAST && self.waited + self.worked >= 2 * view_timeout {
            let bad = is_slow(self.waited, self.worked, self.proposals, self.stingy, self.evictions);
            self.bad_windows = if bad { self.bad_windows + 1 } else { 0 };
            (self.waited, self.worked, self.proposals, self.stingy) = (0, 0, 0, 0);
        }
        if self.evictions > 0 && now > self.last_eviction.saturating_add(view_timeout.saturating_mul(FORGOTTEN_AFTER)) {
            self.evictions -= 1;
            self.last_eviction = now;
        }
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

    /// The primary is left for being slow.
    pub fn evict(&mut self, now: Micros) {
        self.evictions = (self.evictions + 1).min(TOLERATED.len());
        self.last_eviction = now;
        self.bad_windows = 0;
    }
}

/// Judges one window.
pub fn is_slow(waited: Micros, worked: Micros, proposals: u32, stingy: u32, evictions: usize) -> bool {
    let tolerated = TOLERATED[evictions.min(TOLERATED.len() - 1)];
    waited.saturating_mul(100) > (waited + worked).saturating_mul(tolerated) || stingy > proposals / 2
}

/// Whether a proposal of `taken` requests is much less than an honest primary makes of `handed` requests that it was
/// handed long ago. `floor` requests fit every batch.
pub const fn is_stingy(taken: usize, handed: usize, floor: usize) -> bool {
    let owed = if handed < floor { handed } else { floor };
    taken * 2 < owed
}

/// Whether to leave the view: this replica and at least one honest other find the primary slow.
pub const fn may_evict(suspects: bool, others_who_suspect: usize, one_honest: usize) -> bool {
    suspects && others_who_suspect >= one_honest
}

#[cfg(test)]
mod tests;
