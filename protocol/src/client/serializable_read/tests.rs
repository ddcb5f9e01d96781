use super::*;
use crate::client::role::tests::committee;

fn read(wanted: Option<u64>) -> SerializableRead {
    let operation = Operation { service: 1, bytes: vec![1] };
    SerializableRead::new(operation, wanted, 1, 0, 100, 1_000)
}

fn answer(read: &mut SerializableRead, from: u16, revision: u64, result: &str) -> ReadStep {
    read.answer(ReplicaId(from), revision, result.as_bytes().to_vec(), &committee(4))
}

#[test]
fn the_chosen_revision_is_one_an_honest_replica_has() {
    let mut read = read(None);
    assert_eq!(answer(&mut read, 3, u64::MAX, "lie"), ReadStep::Wait);
    assert_eq!(answer(&mut read, 0, 10, "a"), ReadStep::Wait);
    assert_eq!(answer(&mut read, 1, 11, "b"), ReadStep::AskAnew);
    assert_eq!(read.revision(), Some(11), "not the liar's");
}

#[test]
fn only_answers_at_the_chosen_revision_count() {
    let mut read = read(None);
    for (from, revision) in [(0, 10), (1, 11), (2, 12)] {
        answer(&mut read, from, revision, "x");
    }
    assert_eq!(read.revision(), Some(11));
    assert_eq!(answer(&mut read, 0, 10, "not there yet"), ReadStep::Wait);
    assert_eq!(answer(&mut read, 3, 10, "not there yet"), ReadStep::Wait);
    assert_eq!(answer(&mut read, 1, 11, "b"), ReadStep::Wait);
    assert!(matches!(
        answer(&mut read, 2, 11, "b"),
        ReadStep::Done(ReadEnding::Read { revision: 11, matching: 2, .. })
    ));
}

#[test]
fn a_liar_among_the_answers_delays_nothing() {
    let mut read = read(Some(5));
    assert_eq!(answer(&mut read, 3, 5, "lie"), ReadStep::Wait);
    assert_eq!(answer(&mut read, 0, 5, "truth"), ReadStep::Wait);
    assert!(matches!(answer(&mut read, 1, 5, "truth"), ReadStep::Done(_)));
}

#[test]
fn a_revision_nobody_can_answer_is_given_up_and_so_is_the_read() {
    let mut read = read(None);
    for (from, revision) in [(0, 10), (1, 11), (2, 12)] {
        answer(&mut read, from, revision, "x");
    }
    assert_eq!(read.timer(50), ReadStep::Wait);
    assert_eq!(read.timer(100), ReadStep::Remind);
    assert_eq!(read.timer(200), ReadStep::Remind);
    assert_eq!(read.timer(300), ReadStep::Remind);
    assert_eq!(read.timer(400), ReadStep::AskAnew);
    assert_eq!(read.revision(), None, "back to the newest");
    assert_eq!(read.timer(1_000), ReadStep::Done(ReadEnding::NoAgreement { answered: 0 }));
}
