use super::*;
use crate::client::role::tests::committee;

#[test]
fn f_liars_cannot_push_the_clock_forward() {
    let committee = committee(4);
    let mut agreed = AgreedTime::default();
    agreed.report(ReplicaId(3), u64::MAX, 0);
    assert_eq!(agreed.reached(&committee), 0);
    agreed.report(ReplicaId(0), 1_000, 0);
    assert_eq!(agreed.reached(&committee), 1_000);
    assert_eq!(agreed.estimate(500, &committee), 1_000);
}

#[test]
fn f_liars_cannot_hold_it_back_once_a_quorum_reported() {
    let committee = committee(4);
    let mut agreed = AgreedTime::default();
    agreed.report(ReplicaId(3), 0, 5);
    agreed.report(ReplicaId(0), 1_000, 5);
    assert_eq!(agreed.reported_since(5, &committee), None);
    agreed.report(ReplicaId(1), 1_010, 5);
    assert_eq!(agreed.reported_since(5, &committee), Some(1_000));
    assert_eq!(agreed.reported_since(6, &committee), None);
}

#[test]
fn a_wrong_wall_clock_is_corrected_both_ways() {
    let committee = committee(4);
    let mut agreed = AgreedTime::default();
    assert_eq!(agreed.estimate(10_000, &committee), 10_000);
    agreed.confirm(4_000, 10_000);
    assert_eq!(agreed.estimate(10_500, &committee), 4_500);
    agreed.confirm(40_000, 10_000);
    assert_eq!(agreed.estimate(10_500, &committee), 40_500);
    agreed.confirm(0, u64::MAX);
    assert_eq!(agreed.estimate(7, &committee), 7);
}
