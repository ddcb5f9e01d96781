use std::collections::BTreeSet;

use super::*;
use crate::hotstuff::testing::committee;

/// What follows from a committed chain up to `view` that says this of its members.
fn settled(view: u64, standing: &Standing) -> Counted {
    let view = View(view);
    Counted {
        view,
        parent_view: View(view.0.saturating_sub(1)),
        standing: standing.clone(),
        committed_view: view,
        committed: standing.clone(),
    }
}

/// Who leads when every view brings a block and none changes the standing.
fn leaders(standing: &Standing, views: std::ops::Range<u64>, n: u16) -> Vec<u16> {
    views.map(|view| settled(view.saturating_sub(1), standing).leader(View(view), &committee(n)).0).collect()
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
    let often = Standing(vec![failure(1, RANKED_MAX, 50), failure(2, RANKED_MAX + 4, 20)]);
    let out = |n: u16| often.passed_over(View(10), &crate::hotstuff::testing::committee(n));
    assert_eq!(out(4), [ReplicaId(1)], "with one fault so often and more is the same");
    assert_eq!(out(7), [ReplicaId(2), ReplicaId(1)]);
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
fn after_some_views_without_a_commit_everybody_has_turns() {
    let standing = Standing(vec![Failure { replica: ReplicaId(2), count: 4, out_until: View(900) }]);
    for (n, views) in [(4, 20), (5, 20), (7, 7), (10, 10)] {
        let committee = committee(n);
        let counted = settled(100, &standing);
        let passed_over = |view: u64| counted.passed_over(View(view), &committee);
        assert_eq!(passed_over(100 + views), [ReplicaId(2)], "n = {n}");
        assert_eq!(passed_over(101 + views), [], "n = {n}");
    }
}

#[test]
fn with_one_fault_who_has_just_failed_is_passed_over_until_the_next_commit() {
    let failure = |id: u16, count: u32, until: u64| Failure { replica: ReplicaId(id), count, out_until: View(until) };
    let committed = Standing(vec![failure(0, 1, 7_000), failure(1, 5, 9_000)]);
    let out = |counted: &Counted, n: u16| -> Vec<u16> {
        counted.passed_over(View(105), &committee(n)).into_iter().map(|member| member.0).collect()
    };
    let mut counted = settled(100, &committed);
    assert_eq!(out(&counted, 4), [1]);
    // Replica 3 failed in a view after 100, and the block of view 103 says so.
    let tip = Standing(vec![failure(0, 1, 7_000), failure(1, 5, 9_000), failure(3, 1, 1_200)]);
    counted = Counted { view: View(103), standing: tip, ..counted };
    assert_eq!(out(&counted, 4), [3]);
    assert_eq!(out(&counted, 7), [1, 0], "with two places as the committed chain has it");
    counted.standing.0[2].count = 0;
    counted.standing.0[0] = failure(0, 2, 2_148);
    assert_eq!(out(&counted, 4), [0], "blamed again, though it is out for less than before");
    counted.parent_view = View(96);
    assert_eq!(out(&counted, 4), [1], "after a long row of failed views");
    (counted.parent_view, counted.committed_view) = (View(102), View(101));
    assert_eq!(out(&counted, 4), [1], "a chain without a gap goes by what it commits");
}

/// Views without a certified block of so many, when these members bring nothing in their turns, from `before` on. Who is dead
/// also takes the block before its own along: the votes for that one went to it.
fn views_that_fail(silent: &[u16], dead: &[u16], n: u16, before: &Standing, views: std::ops::Range<u64>) -> u64 {
    views_that_fail_above(settled(views.start - 1, before), silent, dead, n, views)
}

/// The same above a block, which may be of some views before.
fn views_that_fail_above(mut tip: Counted, silent: &[u16], dead: &[u16], n: u16, views: std::ops::Range<u64>) -> u64 {
    let committee = committee(n);
    let mut parent_of_tip = (tip.view, tip.standing.clone());
    let mut failed = 0;
    for view in views.map(View) {
        let leader = tip.leader(view, &committee);
        let standing = tip.standing.after(&tip, tip.view, view, leader, &committee);
        let mut child = Counted { view, parent_view: tip.view, standing, ..tip.clone() };
        // The certificate of the tip, inside the child, commits the tip's parent.
        if parent_of_tip.0.next() == tip.view {
            (child.committed_view, child.committed) = parent_of_tip.clone();
        }
        let certifies = child.leader(view.next(), &committee);
        if [leader, certifies].iter().any(|one| dead.contains(&one.0)) || silent.contains(&leader.0) {
            failed += 1;
        } else {
            parent_of_tip = (tip.view, tip.standing);
            tip = child;
        }
    }
    failed
}

/// Who follows a leader that brings nothing follows it each time, and is blamed as often.
#[test]
fn f_leaders_that_bring_nothing_are_soon_passed_over_wherever_they_stand() {
    let pairs = (0..7).flat_map(|one| (one + 1..7).map(move |other| (7, vec![one, other])));
    let triples = [vec![0, 3, 6], vec![1, 2, 9], vec![4, 5, 6], vec![0, 2, 4]].map(|liars| (10, liars));
    for (n, liars) in pairs.chain((0..4).map(|one| (4, vec![one]))).chain(triples) {
        let none = Standing::default();
        let failed = views_that_fail(&liars, &[], n, &none, 1..1_000);
        assert!(failed <= 3 * liars.len() as u64, "{failed} views of silent {liars:?} among {n} fail");
        let failed = views_that_fail(&[], &liars, n, &none, 1..1_000);
        assert!(failed <= 5 * liars.len() as u64, "{failed} views of dead {liars:?} among {n} fail");
    }
}

/// While a member that was dead some time ago is still passed over, another one that dies costs two views, as ever, and not two
/// more before the commit that would pass it over.
#[test]
fn a_leader_that_dies_while_another_is_still_passed_over_costs_two_views() {
    for (n, old, dead) in (4..7).flat_map(|n| (0..n * n).map(move |pair| (n, pair / n, pair % n))) {
        if old == dead {
            continue;
        }
        let before = Standing(vec![Failure { replica: ReplicaId(old), count: 1, out_until: View(1_400) }]);
        for start in 1_000..1_000 + u64::from(n) * u64::from(n) {
            let failed = views_that_fail(&[], &[dead], n, &before, start..start + 200);
            assert!(failed <= 2, "{failed} views fail by dead {dead} after {old} of {n}, from {start}");
        }
    }
}

/// Nothing can be committed while two of four are away, and whoever led meanwhile is blamed. Once one of them is back, the other
/// costs three views at most: two of its own, one before the block that blames somebody.
#[test]
fn when_one_of_two_that_were_away_is_back_the_other_costs_three_views() {
    for (n, dead) in (4..7).flat_map(|n| (0..n).map(move |dead| (n, dead))) {
        for (start, away) in (1_000..1_000 + u64::from(n) * 60).flat_map(|start| (1..5).map(move |away| (start, away)))
        {
            let tip = Counted { committed_view: View(start - 2), ..settled(start - 1, &Standing::default()) };
            let first = start + away;
            let failed = views_that_fail_above(tip, &[], &[dead], n, first..first + 100);
            assert!(failed <= 3, "{failed} views fail by dead {dead} of {n}, from {first}, after {away}");
        }
    }
}

/// As before, where two members have failed some time ago.
#[test]
fn after_two_were_away_no_history_keeps_the_dead_one_in_its_turns() {
    let known = |start: u64, replica: u16, ahead: i64, count: u32| Failure {
        replica: ReplicaId(replica),
        count,
        out_until: View(start.saturating_add_signed(ahead)),
    };
    for (one, other) in (0..4).flat_map(|one| (one + 1..4).map(move |other| (one, other))) {
        for (ahead, other_ahead) in [(-2, 900), (900, 412), (-2, -3), (1_500, -7), (900, -5)] {
            for (start, away) in (1_000..1_012).flat_map(|start| (0..4).map(move |away| (start, away))) {
                let before = Standing(vec![known(start, one, ahead, 1), known(start, other, other_ahead, 2)]);
                let tip = Counted { committed_view: View(start - 3), ..settled(start - 1, &before) };
                let first = start + away;
                for dead in 0..4 {
                    let failed = views_that_fail_above(tip.clone(), &[], &[dead], 4, first..first + 60);
                    assert!(
                        failed <= 8,
                        "{failed} views fail by dead {dead} after {one} and {other}, from {first}, {away}"
                    );
                }
            }
        }
    }
}

/// However long it was dead, it keeps its place from one that dies now for as long as the time out doubles, not as it failed.
#[test]
fn who_was_dead_for_long_is_soon_no_longer_passed_over_for_those_who_die_now() {
    for n in 4..7 {
        // Its last try was a little while ago.
        let out_until = View(900 + ((TURNS * u64::from(n)) << DOUBLINGS_MAX));
        let before = Standing(vec![Failure { replica: ReplicaId(0), count: 40, out_until }]);
        let failed = views_that_fail(&[], &[2], n, &before, 1_000..9_000);
        assert!(failed <= 20, "{failed} views of {n} members fail");
    }
}
