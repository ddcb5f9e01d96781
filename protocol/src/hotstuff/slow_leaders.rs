//! Leaders that are merely slow: each holds its views up until just before the timers, and a cluster in which everybody leads
//! in turn is as slow as the slowest (Clement and others, "Making Byzantine Fault Tolerant Systems Tolerate Byzantine Faults",
//! NSDI 2009, say what that does to PBFT).
//!
//! ```text
//!   vote in v, or TC(v) ──────── wait ───────► QC(v), a block of v + 1        by the leader of v + 1
//!   its last waits all long beside those of the others ─► its views get little time, f + 1 agree ─► TC, blame, passed over
//! ```
//!
//! Only what each replica saw itself counts, so that liars can slander nobody: a TIMEOUT that fewer than f + 1 replicas give
//! ends no view. Safety is not touched. At most f leaders are in a hurry at a time, and only while others are fast: when
//! everything is slow, nobody is slow.

use std::collections::{BTreeMap, VecDeque};

use quorate_crypto::{Committee, ReplicaId};

use crate::parameters::Micros;

/// So many of a leader's last waits must all be long.
const RECENT: usize = 3;
/// Long is this many times what others take.
const TIMES: u64 = 8;
/// And no less than this part of the view timeout.
const PART: u64 = 8;

/// How long this replica waited for each leader.
#[derive(Debug, Default)]
pub struct SlowLeaders {
    waits: BTreeMap<ReplicaId, VecDeque<Micros>>,
    awaited: Option<(ReplicaId, Micros)>,
}

impl SlowLeaders {
    /// From `now` on it is this leader's turn to bring something.
    pub const fn await_leader(&mut self, leader: ReplicaId, now: Micros) {
        self.awaited = Some((leader, now));
    }

    /// It did, or its time is over. `outstanding_since` says since when anything was owed: before that nobody is slow, and
    /// without it the wait says nothing. A sleep of this replica makes one wait long, and all of the last ones have to be.
    pub fn came(&mut self, now: Micros, outstanding_since: Option<Micros>) {
        let Some((leader, since)) = self.awaited.take() else { return };
        let Some(outstanding_since) = outstanding_since else { return };
        let waits = self.waits.entry(leader).or_default();
        waits.push_back(now.saturating_sub(since.max(outstanding_since)));
        if waits.len() > RECENT {
            waits.pop_front();
        }
    }

    /// When the patience with the leader whose turn it is ends, if it is slow.
    pub fn deadline(&self, committee: &Committee, view_timeout: Micros) -> Option<Micros> {
        let (leader, since) = self.awaited?;
        Some(since.saturating_add(self.limit(leader, committee, view_timeout)?))
    }

    /// What a leader of long waits is given; none for others. Its best of late is compared with what is usual at the others:
    /// where waits scatter, as under overload, the shortest of a few says little about the rest, and a replica that gives a
    /// leader up for nothing has no vote in that view.
    fn limit(&self, leader: ReplicaId, committee: &Committee, view_timeout: Micros) -> Option<Micros> {
        let sorted = |id: &ReplicaId| {
            let mut waits: Vec<Micros> = self.waits.get(id)?.iter().copied().collect();
            waits.sort_unstable();
            (waits.len() == RECENT).then_some(waits)
        };
        let own = *sorted(&leader)?.first()?;
        let others: Vec<_> = committee.ids().filter(|id| *id != leader).filter_map(|id| sorted(&id)).collect();
        // What is usual is known once all but f have led.
        if others.len() + 1 + committee.faults() < committee.size() {
            return None;
        }
        let slower = others.iter().filter(|waits| waits.first() > Some(&own)).count();
        let mut usual: Vec<Micros> = others.iter().filter_map(|waits| waits.get(RECENT / 2).copied()).collect();
        usual.sort_unstable();
        let limit = (TIMES * usual.get(usual.len() / 2)?).max(view_timeout / PART);
        (own > limit && slower < committee.faults()).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hotstuff::testing::committee;

    const D: Micros = 240_000;

    fn waited(monitor: &mut SlowLeaders, leader: u16, wait: Micros) {
        monitor.await_leader(ReplicaId(leader), 1_000);
        monitor.came(1_000 + wait, Some(0));
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
        waited(&mut monitor, 1, 900);
        assert_eq!(limit(&monitor, 1, 4), None, "one fast turn");
    }

    #[test]
    fn where_everything_is_slow_nobody_is() {
        let mut monitor = SlowLeaders::default();
        turns(&mut monitor, &[100_000, 200_000, 120_000, 100_000]);
        assert_eq!(limit(&monitor, 1, 4), None);
    }

    #[test]
    fn where_waits_scatter_one_short_wait_of_each_makes_nobody_slow() {
        let mut monitor = SlowLeaders::default();
        for wait in [1_000, 40_000, 60_000] {
            [0, 2, 3].into_iter().for_each(|leader| waited(&mut monitor, leader, wait));
            waited(&mut monitor, 1, 40_000);
        }
        assert_eq!(limit(&monitor, 1, 4), None);
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
            monitor.await_leader(ReplicaId(1), 0);
            monitor.came(900_000, Some(899_000));
            monitor.await_leader(ReplicaId(2), 0);
            monitor.came(900_000, None);
        }
        assert_eq!([1, 2].map(|leader| limit(&monitor, leader, 4)), [None, None]);
    }

    #[test]
    fn before_the_others_have_led_nobody_is_slow() {
        let mut monitor = SlowLeaders::default();
        for _ in 0..RECENT {
            waited(&mut monitor, 1, 200_000);
            waited(&mut monitor, 0, 1_000);
        }
        assert_eq!(limit(&monitor, 1, 4), None);
        for _ in 0..RECENT {
            waited(&mut monitor, 3, 1_000);
        }
        assert!(limit(&monitor, 1, 4).is_some());
    }
}
