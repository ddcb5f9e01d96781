use super::super::{BATCH_RESULTS_PER_CLIENT, STEPS_MAX};
use super::*;
use crate::reply::{Outcome, RESULTS_BYTES_MAX, Refusal};

#[test]
fn every_answer_opens_against_the_results_root() {
    let mut execution = genesis(PARAMETERS);
    for count in [1u64, 2, 3, 7, 64] {
        let requests: Vec<Request> = (0..count)
            .map(|index| {
                let number = u64::from(execution.seq() == Seq(0)) + execution.seq().0 * 100 + index % 60;
                ask(if index % 3 == 0 { 99 } else { ALICE }, 1, number).request()
            })
            .collect();
        let outcome = apply(&mut execution, 1000, &requests);
        assert!(outcome.executed > 0 || count == 1);
        for (index, (_, reply)) in outcome.replies.iter().enumerate() {
            let path = outcome.path(index as u32).expect("a path");
            assert_eq!(path.index as usize, index);
            assert_eq!(path.verify(outcome.results_root, &reply.leaf()), Ok(()));
            let mut lie = reply.clone();
            lie.revision += 1;
            assert!(path.verify(outcome.results_root, &lie.leaf()).is_err());
        }
        assert_eq!(outcome.path(count as u32), None);
    }
}

#[test]
fn the_leaf_covers_every_field() {
    let reply = Reply {
        request: Digest([1; 32]),
        seq: Seq(2),
        index: 3,
        time: 4,
        revision: 5,
        outcome: Outcome::Results(vec![vec![6]]),
    };
    let changes: [fn(&mut Reply); 7] = [
        |reply| reply.request = Digest([2; 32]),
        |reply| reply.seq = Seq(3),
        |reply| reply.index += 1,
        |reply| reply.time += 1,
        |reply| reply.revision += 1,
        |reply| reply.outcome = Outcome::Results(vec![vec![7]]),
        |reply| reply.outcome = Outcome::ExecutedEarlier,
    ];
    for change in changes {
        let mut changed = reply.clone();
        change(&mut changed);
        assert_ne!(changed.leaf(), reply.leaf());
    }
}

#[test]
fn a_bundle_runs_in_order_with_one_result_each() {
    let mut execution = genesis(PARAMETERS);
    let bundle = Ask { operations: vec![write(0), read(1), write(2), read(3)], ..ask(ALICE, 1, 1) };
    let reply = run(&mut execution, 1000, &bundle);
    let expected = [(1, 0), (1, 1), (2, 2), (2, 3)].map(|(writes, filling)| Register::result(writes, 1000, filling));
    assert_eq!(reply.outcome, Outcome::Results(expected.to_vec()));
    assert_eq!(reply.revision, 3);
    assert_eq!(run(&mut execution, 1001, &bundle), reply, "retried only as a whole");
}

#[test]
fn reads_and_results_beyond_the_cap_are_not_cached() {
    let mut execution = genesis(PARAMETERS);
    let earlier = |first: &Reply| Reply { outcome: Outcome::ExecutedEarlier, ..first.clone() };
    let reads = Ask { operations: vec![read(5)], ..ask(ALICE, 1, 1) };
    let first = run(&mut execution, 1000, &reads);
    assert!(matches!(first.outcome, Outcome::Results(_)));
    assert_eq!(run(&mut execution, 1001, &reads), earlier(&first));

    // 4,096 bytes a session: two results of 1,800 fit, a third does not, and fits once the first are acknowledged.
    let large = |number| Ask { operations: vec![write(1800)], ..ask(ALICE, 1, number) };
    let firsts: Vec<Reply> = (2..=4).map(|number| run(&mut execution, 1000, &large(number))).collect();
    assert_eq!(run(&mut execution, 1002, &large(2)), firsts[0]);
    assert_eq!(run(&mut execution, 1002, &large(3)), firsts[1]);
    assert_eq!(run(&mut execution, 1002, &large(4)), earlier(&firsts[2]));
    let acknowledging = Ask { acknowledged_below: 4, ..large(5) };
    let fifth = run(&mut execution, 1002, &acknowledging);
    assert_eq!(run(&mut execution, 1003, &acknowledging), fifth);
    assert_eq!(run(&mut execution, 1003, &large(4)), earlier(&firsts[2]));
    assert_eq!(execution.service().writes(), 4);
}

#[test]
fn results_that_fit_no_reply_are_cut_and_writes_execute_all_the_same() {
    let mut execution = genesis(PARAMETERS);
    let half = (RESULTS_BYTES_MAX / 2 - 16 - 8) as u32;
    let bundle = Ask { operations: vec![write(half), write(half), write(0), read(0), write(0)], ..ask(ALICE, 1, 1) };
    let reply = run(&mut execution, 1000, &bundle);
    assert!(matches!(&reply.outcome, Outcome::Results(results) if results.len() == 2));
    assert!(quorate_crypto::encoding::encode(&reply).len() <= RESULTS_BYTES_MAX + 256);
    assert_eq!((execution.service().writes(), execution.service().reads), (4, 0), "a read nobody sees costs nothing");
    let alone = Ask { operations: vec![write(3 << 20)], ..ask(ALICE, 1, 2) };
    assert_eq!(run(&mut execution, 1000, &alone).outcome, Outcome::Results(vec![]));
}

#[test]
fn a_key_gets_its_share_of_a_batch_and_no_more() {
    let mut execution = genesis(PARAMETERS);
    let large = |client, number| Ask { operations: vec![read(1 << 20)], ..ask(client, 1, number) };
    let asks: Vec<Ask> =
        (1..=20).map(|number| large(ALICE, number)).chain([large(BOB, 1), ask(ALICE, 1, 50)]).collect();
    let outcome = apply(&mut execution, 1000, &asks.iter().map(Ask::request).collect::<Vec<_>>());
    let spent = Outcome::Refused(Refusal::BatchShareSpent);
    let of_alice = outcome.replies[..20].iter().filter(|(_, reply)| reply.outcome != spent).count();
    assert_eq!(of_alice, BATCH_RESULTS_PER_CLIENT >> 20);
    assert_ne!(outcome.replies[20].1.outcome, spent, "BOB has a share of his own");
    assert_eq!(outcome.replies[21].1.outcome, spent);
    assert!(matches!(run(&mut execution, 1000, &asks[19]).outcome, Outcome::Results(_)), "its number was not consumed");
}

#[test]
fn a_bundle_of_scans_spends_its_share() {
    let mut execution = genesis(PARAMETERS);
    let step = STEPS_MAX as u32;
    let bundle = Ask { operations: vec![scan(step - 1), scan(10), scan(1), write(0), read(0)], ..ask(ALICE, 1, 1) };
    let asks = [bundle, ask(ALICE, 1, 2), Ask { operations: vec![scan(1)], ..ask(BOB, 1, 1) }];
    let outcome = apply(&mut execution, 1000, &asks.iter().map(Ask::request).collect::<Vec<_>>());
    assert!(matches!(&outcome.replies[0].1.outcome, Outcome::Results(results) if results.len() == 2));
    assert_eq!((execution.service().writes(), execution.service().reads), (1, 3), "writes execute, reads are cut");
    assert_eq!(outcome.replies[1].1.outcome, Outcome::Refused(Refusal::BatchShareSpent));
    assert!(matches!(&outcome.replies[2].1.outcome, Outcome::Results(_)), "BOB has a share of his own");
    let again = run(&mut execution, 1000, &asks[1]);
    assert!(matches!(again.outcome, Outcome::Results(_)), "a batch later there is a share again");
}

#[test]
fn the_outcome_reports_revision_deadline_and_count() {
    let mut execution = genesis(PARAMETERS);
    let outcome = apply(&mut execution, 1000, &[ask(ALICE, 1, 1).request(), ask(99, 1, 1).request()]);
    assert_eq!((outcome.executed, outcome.revision, outcome.next_deadline), (1, 2, Some(1000)));
}
