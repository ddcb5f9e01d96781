use super::*;

const D: Micros = 250_000;

/// A primary that lets requests wait for `delay` before every proposal, which then takes `work`, seen by a replica that
/// has nothing else to do.
fn after(seconds: u64, delay: Micros, work: Micros, monitor: &mut Monitor) -> bool {
    let mut now = monitor.since;
    let end = now + seconds * 1_000_000;
    while now < end {
        monitor.observe(now, Occupation::Waits, D);
        let proposed = now + delay;
        while let Some(look) = monitor.look_again(D).filter(|look| *look < proposed) {
            monitor.observe(look, Occupation::Waits, D);
        }
        now = proposed;
        monitor.observe(now, Occupation::Works, D);
        monitor.proposed(false);
        now += work;
        if monitor.suspects() {
            return true;
        }
    }
    false
}

#[test]
fn every_delay_beyond_what_an_honest_primary_takes_is_noticed() {
    for delay in (1..=99).map(|percent| D * percent / 100) {
        for work in [2_000, 5_000, 13_000, 50_000] {
            // What is forgiven once it is measured: as long as the work itself takes.
            let forgiven = work.min(D / GRACE_MAX);
            let waited = delay.saturating_sub(forgiven);
            let costs = |waited: Micros| waited * 10 > (waited + work) * 3;
            // What came after the last look is not seen.
            let unseen = (D / LOOK_AGAIN).max(delay / LOOK_AGAIN_OF_SPELL);
            let suspected = after(12, delay, work, &mut Monitor::default());
            assert!(suspected || !costs(waited.saturating_sub(unseen)), "delay {delay}, work {work}");
            assert!(!suspected || costs(waited), "delay {delay}, work {work}");
        }
    }
}

#[test]
fn an_idle_cluster_and_one_long_pause_convict_nobody() {
    let mut monitor = Monitor::default();
    monitor.observe(0, Occupation::Idle, D);
    monitor.observe(100_000_000, Occupation::Waits, D);
    monitor.observe(101_000_000, Occupation::Works, D);
    monitor.proposed(false);
    monitor.observe(102_000_000, Occupation::Works, D);
    assert!(!monitor.suspects());
}

#[test]
fn the_sleep_of_a_replica_is_not_its_primarys_delay() {
    let mut monitor = Monitor::default();
    monitor.observe(0, Occupation::Waits, D);
    monitor.observe(600 * 1_000_000, Occupation::Waits, D);
    monitor.observe(600 * 1_000_000 + 1, Occupation::Works, D);
    for _ in 0..PROPOSALS_LEAST {
        monitor.proposed(false);
    }
    monitor.observe(601 * 1_000_000, Occupation::Works, D);
    assert!(!monitor.suspects(), "one sleep");
}

#[test]
fn one_bad_window_is_not_enough_and_a_good_one_starts_anew() {
    let mut monitor = Monitor::default();
    assert!(!after(0, 30_000, 10_000, &mut monitor));
    let mut now = 0;
    for window in 0..10 {
        // One window of waiting, two of work.
        let (occupation, steps) = if window % 2 == 0 { (Occupation::Waits, 3) } else { (Occupation::Works, 4) };
        for _ in 0..2 * PROPOSALS_LEAST {
            monitor.proposed(false);
        }
        for _ in 0..steps {
            monitor.observe(now, occupation, D);
            now += D;
        }
        monitor.observe(now, Occupation::Idle, D);
        monitor.proposed(false);
        assert!(!monitor.suspects(), "window {window}");
    }
}

#[test]
fn small_proposals_with_much_left_waiting_are_noticed() {
    let mut monitor = Monitor::default();
    let mut now = 0;
    while now < 3_000_000 && !monitor.suspects() {
        monitor.observe(now, Occupation::Works, D);
        monitor.proposed(is_stingy(1, 60, 16));
        now += 10_000;
    }
    assert!(monitor.suspects());
    assert!(!is_stingy(16, 60, 16) && !is_stingy(2, 2, 16) && !is_stingy(0, 0, 16) && is_stingy(8, 60, 16));
}

#[test]
fn after_an_eviction_more_is_tolerated_for_a_while() {
    let mut monitor = Monitor::default();
    assert!(after(5, 50_000, 30_000, &mut monitor));
    let now = monitor.since;
    monitor.evict(now);
    monitor.begin_view(now);
    assert!(!after(5, 50_000, 30_000, &mut monitor), "two fifths of waiting are tolerated now");
    assert!(after(5, 90_000, 30_000, &mut monitor), "two thirds are not");
    let later = monitor.since + D * (FORGOTTEN_AFTER + 1);
    monitor.observe(later, Occupation::Idle, D);
    monitor.begin_view(later);
    assert!(after(5, 50_000, 30_000, &mut monitor));
}

#[test]
fn f_liars_evict_nobody() {
    assert!(!may_evict(false, 3, 2), "not without an opinion of one's own");
    assert!(!may_evict(true, 0, 2), "not alone");
    assert!(may_evict(true, 1, 2));
}

/// A replica whose clients are beside it and whose every primary is far away sees nothing but waiting. With f liars who
/// say the same it must not evict for ever.
#[test]
fn who_accuses_everybody_abstains() {
    for faults in [1, 2, 10] {
        let mut monitor = Monitor::among(faults);
        let mut evicted = 0;
        while after(8, 200_000, 1_000, &mut monitor) {
            let now = monitor.since;
            monitor.evict(now);
            monitor.begin_view(now);
            evicted += 1;
            assert!(evicted < 50, "it evicts without end");
        }
        assert!(evicted > faults, "f slow ones in a row are left, and one more");
        let later = monitor.since + D * (FORGOTTEN_AFTER + 1);
        monitor.observe(later, Occupation::Idle, D);
        monitor.begin_view(later);
        assert!(after(8, 200_000, 1_000, &mut monitor), "it accuses again, much more rarely");
    }
}

/// Overload: a replica executes a large batch between two looks, and finds the next proposal, which came meanwhile, behind
/// other messages that came meanwhile.
#[test]
fn what_a_busy_replica_did_not_look_at_is_not_its_primarys_delay() {
    let mut monitor = Monitor::default();
    for turn in 0..2_000 {
        let now = turn * 40_000;
        monitor.observe(now, Occupation::Waits, D);
        monitor.observe(now + 30_000, Occupation::Waits, D);
        monitor.observe(now + 30_000, Occupation::Works, D);
        monitor.proposed(false);
        assert!(!monitor.suspects(), "turn {turn}");
    }
    // A look in between that finds nothing proposed makes the difference.
    for turn in 2_000..4_000 {
        let now = turn * 40_000;
        monitor.observe(now, Occupation::Waits, D);
        monitor.observe(now + 29_000, Occupation::Waits, D);
        monitor.observe(now + 30_000, Occupation::Works, D);
        monitor.proposed(false);
    }
    assert!(monitor.suspects());
}

#[test]
fn only_who_waits_looks_again() {
    let mut monitor = Monitor::default();
    assert_eq!(monitor.look_again(D), None);
    monitor.observe(1_000, Occupation::Waits, D);
    assert_eq!(monitor.look_again(D), Some(1_000 + D / LOOK_AGAIN));
    monitor.observe(81_000, Occupation::Waits, D);
    assert_eq!(monitor.look_again(D), Some(91_000), "more rarely as time goes by");
    monitor.observe(82_000, Occupation::Works, D);
    assert_eq!(monitor.look_again(D), None);
}
