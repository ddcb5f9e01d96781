use proptest::prelude::*;
use quorate_crypto::Seq;

use super::super::{ConfigurationOperation, Judgement, NUMBERS_PER_CLIENT, Permission, SESSION_WINDOW};
use super::*;
use crate::reply::{Outcome, Refusal};

fn executed(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::Results(_))
}

fn refusal(reply: &Reply) -> Option<Refusal> {
    match reply.outcome {
        Outcome::Refused(refusal) => Some(refusal),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every request of a set of valid ones executes once, however often and in whatever order it is decided.
    #[test]
    fn each_executes_once_under_any_permutation_and_duplication(
        order in prop::collection::vec(0usize..24, 1..120),
        cuts in prop::collection::vec(1usize..7, 120),
    ) {
        let asks: Vec<Ask> = (0..24u8)
            .map(|index| ask(if index % 2 == 0 { ALICE } else { BOB }, index / 8, u64::from(index % 8) * 100 + 1))
            .collect();
        let mut execution = genesis(PARAMETERS);
        let mut first: BTreeMap<usize, Reply> = BTreeMap::new();
        let mut rest = order.as_slice();
        let mut cuts = cuts.into_iter();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = later;
            let requests: Vec<Request> = now.iter().map(|index| asks[*index].request()).collect();
            let outcome = apply(&mut execution, 1000, &requests);
            let new: std::collections::BTreeSet<&usize> = now.iter().filter(|index| !first.contains_key(index)).collect();
            prop_assert_eq!(outcome.executed, new.len());
            for (index, (_, reply)) in now.iter().zip(outcome.replies) {
                let known = first.entry(*index).or_insert_with(|| reply.clone());
                prop_assert_eq!(&reply, &*known, "the answer of a retry is the first one, to the byte");
            }
        }
        prop_assert_eq!(execution.service().writes(), first.len() as u64);
    }
}

#[test]
fn of_two_requests_with_one_number_one_executes() {
    let mut execution = genesis(PARAMETERS);
    let one = ask(ALICE, 1, 5);
    let other_operations = Ask { operations: vec![write(3)], ..one.clone() };
    let other_signature = Ask { signature: 9, ..one.clone() };
    let asks = [one, other_operations, other_signature];
    let outcome = apply(&mut execution, 1000, &asks.clone().map(|ask| ask.request()));
    assert_eq!(outcome.executed, 1);
    for ask in &asks[1..] {
        assert_eq!(refusal(&run(&mut execution, 1000, ask)), Some(Refusal::NumberTaken));
    }
    let again = run(&mut execution, 1000, &asks[0]);
    assert_eq!(again, outcome.replies[0].1);
    assert_eq!(execution.service().writes(), 1);
}

#[test]
fn numbers_execute_in_any_order_inside_the_window_and_not_outside() {
    let mut execution = genesis(PARAMETERS);
    for number in [SESSION_WINDOW, 1, 7, 3] {
        assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 1, number))));
    }
    let too_far = ask(ALICE, 1, SESSION_WINDOW + 1);
    assert_eq!(refusal(&run(&mut execution, 1000, &too_far)), Some(Refusal::NumberTooFar));
    // The refusal consumed nothing: the window moves and the number executes. What it does not acknowledge, stays.
    let moves = Ask { acknowledged_below: 4, ..ask(ALICE, 1, 4) };
    assert!(executed(&run(&mut execution, 1000, &moves)));
    assert!(executed(&run(&mut execution, 1000, &too_far)));
    assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 1, 7))), "still cached");
    for number in [1, 2, 3] {
        assert_eq!(refusal(&run(&mut execution, 1000, &ask(ALICE, 1, number))), Some(Refusal::StaleNumber));
    }
    assert_eq!(execution.service().writes(), 6);
}

#[test]
fn what_a_refused_request_acknowledges_does_not_count() {
    let mut execution = genesis(PARAMETERS);
    let first = run(&mut execution, 1000, &ask(ALICE, 1, 1));
    let refused = Ask { acknowledged_below: 2, valid_until: 999, ..ask(ALICE, 1, 2) };
    assert_eq!(refusal(&run(&mut execution, 1000, &refused)), Some(Refusal::Expired));
    assert_eq!(run(&mut execution, 1000, &ask(ALICE, 1, 1)), first);
}

#[test]
fn a_jump_to_the_end_closes_its_own_session_and_nothing_else() {
    let mut execution = genesis(PARAMETERS);
    assert_eq!(refusal(&run(&mut execution, 1000, &ask(ALICE, 1, u64::MAX))), Some(Refusal::NumberTooFar));
    let ahead_of_itself = Ask { acknowledged_below: u64::MAX, ..ask(ALICE, 1, 1) };
    assert_eq!(refusal(&run(&mut execution, 1000, &ahead_of_itself)), Some(Refusal::StaleNumber));
    assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 1, 1))), "refusals left the session as it was");
    let jump = Ask { acknowledged_below: u64::MAX, ..ask(ALICE, 1, u64::MAX) };
    assert!(executed(&run(&mut execution, 1000, &jump)));
    assert!(executed(&run(&mut execution, 1000, &jump)), "its answer is cached");
    assert_eq!(refusal(&run(&mut execution, 1000, &ask(ALICE, 1, 2))), Some(Refusal::StaleNumber), "a rewind");
    // Number 0 does not pass verification; it would get no further here either.
    let zero = Judgement::Refused(Refusal::StaleNumber);
    assert_eq!(execution.judge(&ask(ALICE, 1, 0).request(), 1000), zero);
    assert_eq!(execution.judge(&Ask { acknowledged_below: 0, ..ask(ALICE, 7, 0) }.request(), 1000), zero);
    assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 2, 1))), "another session of the key");
    assert!(executed(&run(&mut execution, 1000, &ask(BOB, 1, 1))), "another client");
    assert_eq!(execution.service().writes(), 4);
}

#[test]
fn a_dropped_session_never_lets_a_request_execute_again() {
    // Every session holds requests whose last valid_until comes first, in the middle or last.
    for valid in [[1050, 1100, 1150], [1150, 1050, 1100], [1100, 1150, 1050]] {
        let mut execution = genesis(PARAMETERS);
        let olds: Vec<Ask> =
            (1..=3u64).zip(valid).map(|(number, valid_until)| Ask { valid_until, ..ask(ALICE, 1, number) }).collect();
        for old in &olds {
            assert!(executed(&run(&mut execution, 1000, old)));
        }
        for session in 2..=4 {
            assert!(executed(&run(&mut execution, 1000, &ask(ALICE, session, 1).valid_for_tests(1200))));
        }
        let fifth = ask(ALICE, 5, 1).valid_for_tests(1300);
        // At 1150 the first session's last request may still be decided once more: it is not dropped.
        assert_eq!(refusal(&run(&mut execution, 1150, &fifth)), Some(Refusal::SessionTableFull));
        assert_eq!(execution.sessions(), 4);
        assert!(executed(&run(&mut execution, 1151, &fifth)));
        assert_eq!(execution.sessions(), 4, "the oldest went");
        let writes = execution.service().writes();
        // Headers that go back do not bring the time back.
        for header in [1151, 1100, 0] {
            for old in &olds {
                assert_eq!(refusal(&run(&mut execution, header, old)), Some(Refusal::Forgotten));
            }
        }
        let never = Ask { valid_until: 1150, ..ask(ALICE, 9, 1) };
        assert_eq!(refusal(&run(&mut execution, 1151, &never)), Some(Refusal::Forgotten), "nobody can tell any more");
        let never = Ask { valid_until: 1150, ..ask(BOB, 9, 1) };
        assert_eq!(
            refusal(&run(&mut execution, 1151, &never)),
            Some(Refusal::Expired),
            "another key's are not mixed up"
        );
        assert_eq!(execution.service().writes(), writes);
    }
}

#[test]
fn the_courtesy_keeps_answers_while_there_is_room() {
    let mut execution = genesis(PARAMETERS);
    let old = ask(ALICE, 1, 1).valid_for_tests(1100);
    let reply = run(&mut execution, 1000, &old);
    assert_eq!(run(&mut execution, 2100, &old), reply, "in the courtesy");
    assert_eq!(refusal(&run(&mut execution, 2101, &old)), Some(Refusal::Forgotten), "past it");
    assert_eq!(execution.sessions(), 0);
}

#[test]
fn sessions_of_keys_that_never_come_back_are_swept() {
    let mut execution = genesis(PARAMETERS);
    for client in [ALICE, BOB, ADMIN] {
        for session in 1..=4 {
            assert!(executed(&run(&mut execution, 1000, &ask(client, session, 1))));
        }
    }
    assert_eq!(execution.sessions(), 12);
    for _ in 0..3 {
        null(&mut execution);
    }
    assert_eq!(execution.sessions(), 12, "a null request sweeps nothing");
    for _ in 0..3 {
        apply(&mut execution, 2101, &[]);
    }
    assert_eq!(execution.sessions(), 0);
    // All that stays is how far each key's sessions are forgotten.
    assert_eq!(execution.sessions.table().len(), 3);
}

#[test]
fn a_key_removed_and_added_again_executes_nothing_twice() {
    let mut execution = genesis(PARAMETERS);
    let old = ask(ALICE, 1, 1).valid_for_tests(1150);
    let reply = run(&mut execution, 1000, &old);
    let change = |execution: &mut Execution<Register>, time, number, operation: ConfigurationOperation| {
        let operations = vec![Operation { service: 0, bytes: operation.to_bytes() }];
        assert!(executed(&run(execution, time, &Ask { operations, ..ask(ADMIN, 1, number) })));
    };
    change(&mut execution, 1000, 1, ConfigurationOperation::RemoveClient { key: client(ALICE) });
    assert_eq!(refusal(&run(&mut execution, 1000, &ask(ALICE, 1, 2))), Some(Refusal::UnknownClient));
    let add = ConfigurationOperation::AddClient { key: client(ALICE), permission: Permission::Write };
    change(&mut execution, 1000, 2, add);
    assert_eq!(run(&mut execution, 1000, &old), reply);
    assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 1, 2))));
    assert_eq!(execution.service().writes(), 2);
}

/// An attacker who holds one key does everything a key can do. Nobody else notices, and what it costs is capped.
#[test]
fn no_key_locks_another_out_and_memory_is_capped_for_each() {
    let parameters = ExecutionParameters { sessions_per_client: 64, reply_cache_bytes: 65_536, ..PARAMETERS };
    let mut execution = genesis(parameters);
    let mut refused = 0;
    for round in 0..200u64 {
        let requests: Vec<Request> = (0..64u64)
            .map(|index| {
                // 200 sessions of up to 64 spread numbers each, and results that ask for the whole cache.
                let filling = if index == 0 { 60_000 } else { 1000 };
                Ask { operations: vec![write(filling)], ..ask(ALICE, round as u8, index * 16 + 1) }.request()
            })
            .collect();
        let outcome = apply(&mut execution, 1000, &requests);
        refused += outcome.replies.iter().filter(|(_, reply)| !executed(reply)).count();
        let honest = Ask { acknowledged_below: round + 1, ..ask(BOB, 1, round + 1) };
        assert!(executed(&run(&mut execution, 1000, &honest)), "round {round}");
    }
    assert!(refused > 100 * 64, "the share is full");
    let (sessions, numbers, cached) = execution.sessions.share(&client(ALICE));
    assert!(sessions == 64 && numbers <= NUMBERS_PER_CLIENT && cached <= super::super::CLIENT_CACHE_BYTES_MAX);
    assert!(execution.sessions.table().encoded_size() < 8 * 1024 * 1024);
    // Its own sessions go on, and when the old ones are past, new ones are let in again.
    assert!(executed(&run(&mut execution, 1000, &ask(ALICE, 1, 2))));
    assert!(executed(&run(&mut execution, 1101, &ask(ALICE, 250, 1).valid_for_tests(1200))));
}

#[test]
fn the_numbers_of_a_key_are_capped_over_all_its_sessions() {
    let parameters = ExecutionParameters { sessions_per_client: 1000, ..PARAMETERS };
    let mut execution = genesis(parameters);
    for session in 0..9u8 {
        let valid_until = 1100 + u64::from(session);
        let requests: Vec<Request> =
            (1..=1024).map(|number| Ask { valid_until, ..ask(ALICE, session, number) }.request()).collect();
        let outcome = apply(&mut execution, 1000, &requests);
        assert_eq!(outcome.executed, if session < 8 { 1024 } else { 0 });
    }
    assert_eq!(execution.sessions.share(&client(ALICE)).1, NUMBERS_PER_CLIENT);
    assert!(executed(&run(&mut execution, 1000, &ask(BOB, 1, 1))));
    // Past the oldest session's last valid_until it makes room, for a known session as for a new one.
    assert!(executed(&run(&mut execution, 1101, &ask(ALICE, 200, 1).valid_for_tests(1200))));
    assert_eq!(execution.sessions.share(&client(ALICE)).1, 7 * 1024 + 1);
    assert_eq!(execution.seq(), Seq(11));
}

#[test]
fn a_session_in_use_is_never_dropped_for_itself() {
    let mut execution = genesis(ExecutionParameters { sessions_per_client: 1000, ..PARAMETERS });
    for session in 0..8u8 {
        let valid_until = if session == 0 { 1100 } else { 1150 };
        let requests: Vec<Request> =
            (1..=1024).map(|number| Ask { valid_until, ..ask(ALICE, session, number) }.request()).collect();
        assert_eq!(apply(&mut execution, 1000, &requests).executed, 1024);
    }
    // Its own session is the oldest and past: dropping it would forget numbers the client has not acknowledged.
    let next = Ask { acknowledged_below: 2, valid_until: 1300, ..ask(ALICE, 0, 1025) };
    assert_eq!(refusal(&run(&mut execution, 1101, &next)), Some(Refusal::SessionTableFull));
    assert!(executed(&run(&mut execution, 1151, &next)));
    let old = ask(ALICE, 0, 2).valid_for_tests(1100);
    assert!(executed(&run(&mut execution, 1151, &old)), "still answered");
    assert_eq!(execution.service().writes(), 8 * 1024 + 1);
}
