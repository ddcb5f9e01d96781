use super::*;

#[test]
fn a_replica_that_repeats_itself_counts_once() {
    let mut candidates = Candidates::default();
    for _ in 0..5 {
        candidates.put(ReplicaId(3), "lie");
    }
    assert_eq!(candidates.agreed(2), None);
    assert_eq!(candidates.answered(), 1);
    candidates.put(ReplicaId(1), "lie");
    assert_eq!(candidates.agreed(2), Some((&"lie", 2)));
}

#[test]
fn a_replica_that_changes_its_mind_is_not_counted_for_both() {
    let mut candidates = Candidates::default();
    candidates.put(ReplicaId(3), "a");
    candidates.put(ReplicaId(3), "b");
    candidates.put(ReplicaId(0), "a");
    assert_eq!(candidates.agreed(2), None);
    candidates.put(ReplicaId(1), "b");
    assert_eq!(candidates.agreed(2), Some((&"b", 2)));
}

#[test]
fn equal_answers_are_held_once() {
    let mut candidates = Candidates::default();
    for replica in 0..100 {
        candidates.put(ReplicaId(replica), vec![7_u8; 16]);
    }
    assert_eq!(candidates.iter().count(), 1);
    assert_eq!(candidates.answered(), 100);
}
