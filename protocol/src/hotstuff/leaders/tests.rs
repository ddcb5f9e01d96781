use std::collections::BTreeSet;

use super::*;
use crate::hotstuff::testing::committee;

fn leaders(standing: &Standing, views: std::ops::Range<u64>, n: u16) -> Vec<u16> {
    views.map(|view| standing.leader(View(view), &committee(n)).0).collect()
}

#[test]
fn members_take_turns_while_none_has_failed() {
    assert_eq!(leaders(&Standing::default(), 0..9, 4), [0, 1, 2, 3, 0, 1, 2, 3, 0]);
    assert_eq!(leaders(&Standing::default(), 5..12, 7), [5, 6, 0, 1, 2, 3, 4]);
}

#[test]
fn the_leader_of_a_failed_view_is_passed_over_for_a_while() {
    let committee = committee(4);
    let (before, start) = (Standing::default(), Counted::default());
    // A block of view 4 on one of view 1: the leader of view 3 brought nothing.
    let standing = before.after(&start, View(1), View(4), ReplicaId(0), &committee);
    assert_eq!(standing.failures(), [Failure { replica: ReplicaId(3), count: 1, out_until: View(3 + 4 * TURNS) }]);
    assert!(!leaders(&standing, 4..3 + 4 * TURNS, 4).contains(&3));
    assert!(leaders(&standing, 3 + 4 * TURNS..7 + 4 * TURNS, 4).contains(&3), "it comes back");
}

/// The leader of one failed view was dead, or the next one kept its votes back: nobody can tell.
#[test]
fn of_one_failed_view_its_leader_and_the_next_are_blamed() {
    let committee = committee(4);
    let start = Counted::default();
    let blame = |standing: &Standing, parent: u64, author: u16| {
        standing.after(&start, View(parent), View(parent + 2), ReplicaId(author), &committee)
    };
    let counts =
        |standing: &Standing| standing.failures().iter().map(|one| (one.replica.0, one.count)).collect::<Vec<_>>();
    // Replica 3 frames whoever leads before it.
    let once = blame(&Standing::default(), 1, 3);
    assert_eq!(counts(&once), [(2, 1), (3, 1)]);
    let out = once.failures().iter().map(|one| one.out_until).collect::<Vec<_>>();
    assert_eq!(out, [View(2 + 4 * TURNS), View(2 + 2 * TURNS)], "the next one for half as long");
    let twice = blame(&once, 8, 3);
    assert_eq!(counts(&twice), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(twice.passed_over(View(11), &committee), [ReplicaId(3)]);
}

#[test]
fn the_time_out_doubles_and_blocks_take_the_count_back() {
    let committee = committee(4);
    let (none, start) = (Standing::default(), Counted::default());
    let once = none.after(&start, View(1), View(4), ReplicaId(0), &committee);
    let twice = once.after(&start, View(5), View(8), ReplicaId(0), &committee);
    assert_eq!(twice.failures(), [Failure { replica: ReplicaId(3), count: 2, out_until: View(7 + 8 * TURNS) }]);
    let better = twice.after(&start, View(8), View(9), ReplicaId(3), &committee);
    assert_eq!(better.failures()[0].count, 1);
    assert_eq!(better.after(&start, View(9), View(10), ReplicaId(3), &committee), none);
    let mut often = none.clone();
    for _ in 0..40 {
        often.blame(ReplicaId(1), View(100), TURNS, &committee);
    }
    assert_eq!(often.failures()[0].out_until, View(100 + ((4 * TURNS) << DOUBLINGS_MAX)));
}

/// With more than f liars a block may hold what nobody would vote for: honest replicas stay up.
#[test]
fn a_failure_that_counts_nothing_is_forgiven_without_a_panic() {
    let nothing = Standing(vec![Failure { replica: ReplicaId(3), count: 0, out_until: View(9) }]);
    let next = nothing.after(&Counted::default(), View(2), View(3), ReplicaId(3), &committee(4));
    assert_eq!(next, Standing::default());
}

/// Were all dead members to come back at once, they would cost as many time-outs in a row.
#[test]
fn those_whose_time_is_over_come_back_one_at_a_time() {
    let failure = |id: u16, until: u64| Failure { replica: ReplicaId(id), count: 1, out_until: View(until) };
    let committee = committee(10);
    let standing = Standing(vec![failure(2, 30), failure(4, 20), failure(7, 25)]);
    assert_eq!(standing.passed_over(View(19), &committee).len(), 3);
    assert_eq!(standing.passed_over(View(40), &committee), [ReplicaId(2), ReplicaId(7)]);
    // Nothing came of it: the next one has its turns.
    let again = Standing(vec![failure(2, 30), failure(4, 900), failure(7, 25)]);
    assert_eq!(again.passed_over(View(50), &committee), [ReplicaId(4), ReplicaId(2)]);
}

/// A liar that leads next can have the honest leader before it blamed: it must never get more than f members passed over.
#[test]
fn at_most_f_are_passed_over() {
    for n in [4, 5, 6, 7, 10] {
        let committee = committee(n);
        let (none, start) = (Standing::default(), Counted::default());
        let all_failed = none.after(&start, View(0), View(2 + u64::from(n)), ReplicaId(0), &committee);
        let out = all_failed.passed_over(View(3 + u64::from(n)), &committee);
        assert_eq!(out.len(), committee.faults(), "n = {n}");
        let next = 3 + u64::from(n);
        let turns: BTreeSet<u16> = leaders(&all_failed, next..next + u64::from(n), n).into_iter().collect();
        assert_eq!(turns.len(), n as usize - committee.faults());
    }
}

#[test]
fn those_with_the_most_failures_are_out_then_the_latest_then_by_id() {
    let failure = |id: u16, count: u32, until: u64| Failure { replica: ReplicaId(id), count, out_until: View(until) };
    let committee = committee(7);
    let out = |list: Vec<Failure>| Standing(list).passed_over(View(10), &committee);
    assert_eq!(out(vec![failure(1, 1, 50), failure(2, 3, 20), failure(4, 2, 30)]), [ReplicaId(2), ReplicaId(4)]);
    assert_eq!(out(vec![failure(1, 1, 20), failure(2, 1, 50), failure(4, 1, 30)]), [ReplicaId(2), ReplicaId(4)]);
    assert_eq!(out(vec![failure(1, 1, 20), failure(2, 1, 20), failure(4, 1, 20)]), [ReplicaId(1), ReplicaId(2)]);
    assert_eq!(out(vec![failure(1, 9, 10), failure(2, 1, 11)]), [ReplicaId(2)], "until the view, not in it");
}

/// A chain may skip many views; judging a block must not cost more for it, and never overflows.
#[test]
fn a_long_row_of_failed_views_costs_no_more_than_its_end() {
    let committee = committee(4);
    let (none, start) = (Standing::default(), Counted::default());
    let far = none.after(&start, View(1), View(u64::MAX), ReplicaId(0), &committee);
    assert_eq!(far.failures().len(), 4);
    assert!(far.failures().iter().all(|failure| u64::from(failure.count) <= BLAMED_MAX));
}

/// A dead leader costs the view before its own as well; only the dead one is blamed for the two.
#[test]
fn of_several_failed_views_the_first_is_excused() {
    let committee = committee(7);
    let (none, start) = (Standing::default(), Counted::default());
    let blamed = |parent: u64, view: u64| {
        let standing = none.after(&start, View(parent), View(view), ReplicaId(6), &committee);
        standing.failures().iter().map(|failure| failure.replica.0).collect::<Vec<_>>()
    };
    assert_eq!(blamed(7, 8), [0; 0]);
    assert_eq!(blamed(7, 9), [1, 6], "alone, with the author");
    assert_eq!(blamed(7, 10), [2], "view 8 was lost with the certificate that the leader of view 9 kept");
    assert_eq!(blamed(7, 11), [2, 3]);
}

/// With the wrong member passed over and another one dead no three living leaders may follow each other. Then nothing commits
/// that could say so, and everybody has turns again.
#[test]
fn after_n_views_without_a_commit_everybody_has_turns() {
    let committee = committee(4);
    let failure = Failure { replica: ReplicaId(2), count: 4, out_until: View(900) };
    let counted = Counted { view: View(100), standing: Standing(vec![failure]) };
    let leaders = |views: std::ops::Range<u64>| -> BTreeSet<u16> {
        views.map(|view| counted.leader(View(view), &committee).0).collect()
    };
    assert_eq!(leaders(101..105), BTreeSet::from([0, 1, 3]));
    assert_eq!(leaders(105..109), BTreeSet::from([0, 1, 2, 3]));
}

/// Views without a block of so many, when these members bring nothing in their turns and everything else commits at once.
fn views_that_fail(liars: &[u16], n: u16, views: u64) -> u64 {
    let committee = committee(n);
    let mut counted = Counted::default();
    let mut failed = 0;
    for view in (1..=views).map(View) {
        let leader = counted.leader(view, &committee);
        if liars.contains(&leader.0) {
            failed += 1;
            continue;
        }
        let standing = counted.standing.after(&counted, counted.view, view, leader, &committee);
        counted = Counted { view, standing };
    }
    failed
}

/// Who follows a leader that brings nothing follows it each time, and is blamed as often.
#[test]
fn f_leaders_that_bring_nothing_are_soon_passed_over_wherever_they_stand() {
    let pairs = (0..7).flat_map(|one| (one + 1..7).map(move |other| (7, vec![one, other])));
    let triples = [vec![0, 3, 6], vec![1, 2, 9], vec![4, 5, 6], vec![0, 2, 4]].map(|liars| (10, liars));
    for (n, liars) in pairs.chain((0..4).map(|one| (4, vec![one]))).chain(triples) {
        let failed = views_that_fail(&liars, n, 1_000);
        assert!(failed <= 3 * liars.len() as u64, "{failed} views of {liars:?} among {n} fail");
    }
}
