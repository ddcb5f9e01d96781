//! Leaders that are merely slow: each holds its views up until just before the timers, and a cluster in which everybody leads
//! in turn is as slow as the slowest (Clement and others, "Making Byzantine Fault Tolerant Systems Tolerate Byzantine Faults",
//! NSDI 2009, say what that does to PBFT).
//!
//! ```text
//!   vote in v, or TC(v) ──────── wait ───────► a block of v + 1               by the leader of v + 1
//!   long of late, added up, beside what is usual at others ─► its views get little time, f + 1 agree ─► TC, blame
//! ```
//!
//! The block ends a wait, and not the certificate alone, which a slow leader may give at once. Once there is a certificate and
//! nothing is owed, nobody is waited for: who rests is not slow.
//!
//! Only what each replica saw itself counts, so that liars can slander nobody: a TIMEOUT that fewer than f + 1 replicas give
//! ends no view. Safety is not touched. At most f leaders are in a hurry at a time, and only while others are fast: when
//! everything is slow, nobody is slow.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use quorate_crypto::{Committee, ReplicaId};

use crate::parameters::Micros;

/// So many of a leader's last waits count. All but the longest are added up and divided by this, so that it is no use to be
/// fast now and then, and one stall alone, however long, makes nobody slow.
const RECENT: usize = 8;
/// So many have to be there to tell what somebody usually takes.
const LEAST: usize = 3;
/// Long is more than this many times what others take. Who stays below takes at most 3 of the 6 parts of a round of four.
const TIMES: u64 = 3;
/// And no less than this part of the view timeout.
const PART: u64 = 8;

/// Whose turn it is, and whether this replica brought the block before. It votes for its own block before anybody else has it,
/// so that the next leader always takes longer then: such waits are kept apart, and nobody is given up for them.
type Turn = (ReplicaId, bool);

/// What is waited for.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    turn: Turn,
    since: Micros,
    /// Whether the certificate has come.
    certified: bool,
    /// Since when anything was owed when it came.
    owed_since: Option<Micros>,
}

/// How long this replica waited for each leader.
#[derive(Debug, Default)]
pub struct SlowLeaders {
    waits: BTreeMap<Turn, VecDeque<Micros>>,
    awaited: Option<Awaited>,
}

impl SlowLeaders {
    /// From `now` on it is this leader's turn to bring something, after a block of this replica or of another.
    pub const fn await_leader(&mut self, leader: ReplicaId, after_own: bool, now: Micros) {
        self.awaited = Some(Awaited { turn: (leader, after_own), since: now, certified: false, owed_since: None });
    }

    /// The view of `leader` began with a certificate, and its block comes with that or is still to come. What was owed was owed
    /// since `outstanding_since`. Whoever else was waited for had its block certified without this replica.
    pub fn certified(
        &mut self,
        leader: ReplicaId,
        now: Micros,
        outstanding_since: Option<Micros>,
        view_timeout: Micros,
    ) {
        match &mut self.awaited {
            Some(awaited) if awaited.turn.0 == leader => {
                awaited.certified = true;
                awaited.owed_since = awaited.owed_since.or(outstanding_since);
            }
            _ => self.came(now, outstanding_since, view_timeout),
        }
    }

    /// Nothing is owed.
    pub fn rest(&mut self) {
        self.awaited = self.awaited.filter(|awaited| !awaited.certified);
    }

    /// It did. `outstanding_since` says since when anything was owed: before that nobody is slow, and without it the wait
    /// says nothing.
    pub fn came(&mut self, now: Micros, outstanding_since: Option<Micros>, view_timeout: Micros) {
        self.ended(now, outstanding_since, 0..=view_timeout);
    }

    /// It did not while its view lasted. That counts as the longest a view takes: a wait that was cut short, since the leader
    /// is slow, does not say that it became faster.
    pub fn failed(&mut self, now: Micros, outstanding_since: Option<Micros>, view_timeout: Micros) {
        self.ended(now, outstanding_since, view_timeout..=view_timeout);
    }

    /// All waits that count.
    #[cfg(test)]
    pub fn waits(&self) -> impl Iterator<Item = Micros> + '_ {
        self.waits.values().flatten().copied()
    }

    fn ended(&mut self, now: Micros, outstanding_since: Option<Micros>, bounds: RangeInclusive<Micros>) {
        let Some(Awaited { turn, since, owed_since, .. }) = self.awaited.take() else { return };
        let Some(outstanding_since) = owed_since.or(outstanding_since) else { return };
        let waits = self.waits.entry(turn).or_default();
        let wait = now.saturating_sub(since.max(outstanding_since));
        waits.push_back(wait.clamp(*bounds.start(), *bounds.end()));
        if waits.len() > RECENT {
            waits.pop_front();
        }
    }

    /// When the patience with the leader whose turn it is ends, if it is slow and the view's timer runs, which began at
    /// `started`: after a certificate that came late half of the time is left for the block.
    pub fn deadline(&self, started: Option<Micros>, committee: &Committee, view_timeout: Micros) -> Option<Micros> {
        let (Awaited { turn: (leader, after_own), since, .. }, started) = (self.awaited?, started?);
        if after_own {
            return None;
        }
        let limit = self.limit(leader, committee, view_timeout)?;
        Some(since.saturating_add(limit).max(started.saturating_add(limit / 2)))
    }

    /// What a leader of long waits is given; none for others.
    ///
    /// What is usual is low among what the others take, each by its median: a slow leader may give its blocks to the next one
    /// late, so that this one looks slow as well, and with f slow ones as many honest replicas do. Of the n - 2 others (nobody
    /// times itself) a third is still neither. f fast liars at the lower end gain nothing below the part of a view timeout.
    fn limit(&self, leader: ReplicaId, committee: &Committee, view_timeout: Micros) -> Option<Micros> {
        let of_turn = |turn: &Turn| self.waits.get(turn).filter(|waits| waits.len() >= LEAST);
        // Longer ones, after this replica's own blocks, are better than none.
        let of = |id: &ReplicaId| of_turn(&(*id, false)).or_else(|| of_turn(&(*id, true)));
        let own = weight(of_turn(&(leader, false))?);
        let others = || committee.ids().filter(|id| *id != leader);
        let slower = others().filter_map(|id| of_turn(&(id, false))).filter(|waits| weight(waits) > own).count();
        let mut usual: Vec<Micros> = others().filter_map(|id| of(&id)).map(median).collect();
        // What is usual is known once all have led but f, this replica and the leader.
        if usual.len() + 2 + committee.faults() < committee.size() {
            return None;
        }
        usual.sort_unstable();
        let limit = (TIMES * usual.get(usual.len().checked_sub(1)? / 3)?).max(view_timeout / PART);
        (own > limit && slower < committee.faults()).then_some(limit)
    }
}

/// What the waits come to in each of [`RECENT`] turns, the longest left out.
fn weight(waits: &VecDeque<Micros>) -> Micros {
    let longest = waits.iter().max().copied().unwrap_or(0);
    (waits.iter().sum::<Micros>() - longest) / RECENT as u64
}

/// The middle one, or the lower of the two in the middle.
fn median(waits: &VecDeque<Micros>) -> Micros {
    let mut sorted: Vec<Micros> = waits.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hotstuff::testing::committee;

    const D: Micros = 240_000;

    fn waited(monitor: &mut SlowLeaders, leader: u16, wait: Micros) {
        monitor.await_leader(ReplicaId(leader), false, 1_000);
        monitor.came(1_000 + wait, Some(0), D);
    }

    fn turns(monitor: &mut SlowLeaders, waits: &[Micros]) {
        for _ in 0..RECENT {
            for (leader, wait) in waits.iter().enumerate() {
                waited(monitor, leader as u16, *wait);
            }
        }
    }

    fn limit(monitor: &SlowLeaders, leader: u16, n: u16) -> Option<Micros> {
        monitor.limit(ReplicaId(leader), &committee(n), D)
    }

    #[test]
    fn who_is_slow_every_time_gets_little_time_and_nobody_else() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 200_000, 1_000, 1_500]);
        assert_eq!([0, 1, 2, 3].map(|leader| limit(&monitor, leader, 4)), [None, Some(D / PART), None, None]);
        for _ in 0..RECENT {
            waited(&mut monitor, 1, 900);
        }
        assert_eq!(limit(&monitor, 1, 4), None);
    }

    #[test]
    fn one_stall_makes_nobody_slow_and_to_be_fast_now_and_then_is_no_excuse() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 1_000, 1_000, 1_000]);
        waited(&mut monitor, 1, 900_000);
        assert_eq!(limit(&monitor, 1, 4), None);
        for wait in [200_000, 1_000, 200_000, 1_000] {
            waited(&mut monitor, 1, wait);
        }
        assert!(limit(&monitor, 1, 4).is_some());
    }

    #[test]
    fn where_everything_is_slow_nobody_is() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[100_000, 200_000, 120_000, 100_000]);
        assert_eq!(limit(&monitor, 1, 4), None);
    }

    #[test]
    fn a_wait_that_was_cut_short_does_not_make_a_slow_leader_faster() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[15_000, 200_000, 15_000, 15_000]);
        for turn in 1..=RECENT {
            let limit = limit(&monitor, 1, 4).expect("a slow leader");
            monitor.await_leader(ReplicaId(1), false, 0);
            monitor.failed(limit, Some(0), D);
            // What is usual rises a little meanwhile.
            for leader in [0, 2, 3] {
                waited(&mut monitor, leader, 15_000 + 500 * turn as u64);
            }
        }
        assert!(limit(&monitor, 1, 4).is_some());
    }

    /// As replica 0 of four sees it, which never times itself: the slow leader 1 brings its block to the next one, 2, last.
    #[test]
    fn a_slow_leader_cannot_hide_behind_the_next_one() {
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            for (id, wait) in [(1, 190_000), (2, 100_000), (3, 1_000)] {
                waited(&mut monitor, id, wait);
            }
        }
        assert!(limit(&monitor, 1, 4).is_some());
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            for (id, wait) in [(1, 190_000), (2, 100_000), (3, 1_000), (4, 190_000), (5, 100_000), (6, 1_000)] {
                waited(&mut monitor, id, wait);
            }
        }
        assert_eq!([1, 4].map(|leader| limit(&monitor, leader, 7).is_some()), [true, true]);
    }

    /// As replica 0 sees it, whose blocks 1 follows.
    #[test]
    fn a_leader_is_not_slow_for_what_an_own_block_takes() {
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            monitor.await_leader(ReplicaId(1), true, 0);
            monitor.came(200_000, Some(0), D);
            for (id, wait) in [(2, 1_000), (3, 190_000)] {
                waited(&mut monitor, id, wait);
            }
        }
        monitor.await_leader(ReplicaId(1), true, 0);
        assert_eq!(monitor.deadline(Some(0), &committee(4), D), None);
        monitor.await_leader(ReplicaId(3), false, 0);
        assert_eq!(monitor.deadline(Some(0), &committee(4), D), Some(D / PART));
    }

    /// What it gives at once is the certificate of the block before.
    #[test]
    fn a_certificate_alone_ends_no_wait() {
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            monitor.await_leader(ReplicaId(1), false, 0);
            monitor.certified(ReplicaId(1), 0, Some(0), D);
            monitor.came(200_000, None, D);
            for (id, wait) in [(2, 1_000), (3, 1_000)] {
                waited(&mut monitor, id, wait);
            }
        }
        monitor.await_leader(ReplicaId(1), false, 0);
        monitor.certified(ReplicaId(1), 20_000, Some(0), D);
        assert_eq!(monitor.deadline(None, &committee(4), D), None, "no timer runs");
        assert_eq!(monitor.deadline(Some(0), &committee(4), D), Some(D / PART));
        assert_eq!(monitor.deadline(Some(20_000), &committee(4), D), Some(20_000 + D / PART / 2));
        // The certificate of its own block, which the leader after it gives.
        let longer = |monitor: &SlowLeaders| monitor.waits[&(ReplicaId(1), false)].back().copied();
        monitor.certified(ReplicaId(2), 230_000, Some(0), D);
        assert_eq!((longer(&monitor), monitor.deadline(Some(0), &committee(4), D)), (Some(230_000), None));
        monitor.await_leader(ReplicaId(1), false, 0);
        monitor.certified(ReplicaId(2), 9_000_000, Some(0), D);
        assert_eq!(longer(&monitor), Some(D), "no wait is longer than a view");
    }

    #[test]
    fn who_rests_is_not_slow() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 1_000, 1_000, 1_000]);
        for _ in 0..RECENT {
            monitor.await_leader(ReplicaId(1), false, 0);
            monitor.certified(ReplicaId(1), 1_000, Some(0), D);
            monitor.rest();
            monitor.came(10_000_000, Some(0), D);
        }
        assert_eq!(limit(&monitor, 1, 4), None);
        // Before the certificate it is waited for.
        monitor.await_leader(ReplicaId(1), false, 0);
        monitor.rest();
        monitor.came(200_000, Some(0), D);
        assert_eq!(monitor.waits[&(ReplicaId(1), false)].back(), Some(&200_000));
    }

    #[test]
    fn at_most_f_are_in_a_hurry() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 200_000, 210_000, 1_000]);
        assert_eq!([1, 2].map(|leader| limit(&monitor, leader, 4).is_some()), [false, true]);
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 200_000, 210_000, 220_000, 1_000, 1_000, 1_000, 1_000]);
        let hurried = [1, 2, 3].map(|leader| limit(&monitor, leader, 8).is_some());
        assert_eq!(hurried, [false, true, true]);
    }

    #[test]
    fn what_was_not_owed_is_no_wait() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[1_000, 1_000, 1_000, 1_000]);
        for _ in 0..RECENT {
            monitor.await_leader(ReplicaId(1), false, 0);
            monitor.came(900_000, Some(899_000), D);
            monitor.await_leader(ReplicaId(2), false, 0);
            monitor.came(900_000, None, D);
        }
        assert_eq!([1, 2].map(|leader| limit(&monitor, leader, 4)), [None, None]);
    }

    #[test]
    fn before_the_others_have_led_nobody_is_slow() {
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            waited(&mut monitor, 1, 200_000);
        }
        assert_eq!(limit(&monitor, 1, 4), None);
        for _ in 0..RECENT {
            waited(&mut monitor, 3, 1_000);
        }
        assert!(limit(&monitor, 1, 4).is_some());
    }
}
