use quorate_crypto::{Incarnation, Signed, Statement, StatementBody};

use super::super::{ConfigurationOperation, ConfigurationResult, Judgement, Permission};
use super::*;
use crate::reply::{Outcome, Refusal};

fn refused(execution: &mut Execution<Register>, time: u64, ask: &Ask) -> Refusal {
    let judged = execution.judge(&ask.request(), time);
    let before = execution.sessions.table().digest();
    let reply = run(execution, time, ask);
    assert_eq!(execution.sessions.table().digest(), before, "a refusal leaves no trace");
    let Outcome::Refused(refusal) = reply.outcome else { panic!("{:?} executed", reply.outcome) };
    assert_eq!(judged, Judgement::Refused(refusal));
    assert_eq!((reply.seq, reply.index, reply.time), (execution.seq(), 0, execution.time()));
    refusal
}

fn configure(operation: &ConfigurationOperation) -> Vec<Operation> {
    vec![Operation { service: 0, bytes: operation.to_bytes() }]
}

#[test]
fn every_refusal_has_its_reason() {
    let mut execution = genesis(PARAMETERS);
    apply(&mut execution, 1000, &[]);
    let good = ask(ALICE, 1, 1);
    let operations = |operations: Vec<Operation>| Ask { operations, ..good.clone() };
    let unknown_key = ConfigurationOperation::RemoveClient { key: client(BOB) };
    let cases = [
        (ask(99, 1, 1), Refusal::UnknownClient),
        (good.clone().valid_for_tests(999), Refusal::Expired),
        (good.clone().valid_for_tests(1201), Refusal::ValidTooLong),
        (good.clone().valid_for_tests(u64::MAX), Refusal::ValidTooLong),
        (Ask { acknowledged_below: 2, ..good.clone() }, Refusal::StaleNumber),
        (ask(ALICE, 1, 1025), Refusal::NumberTooFar),
        (operations(vec![Operation { service: 2, bytes: vec![0; 5] }]), Refusal::UnknownOperation),
        (operations(vec![write(0), Operation { service: 1, bytes: vec![9] }]), Refusal::UnknownOperation),
        (operations(vec![Operation { service: 0, bytes: vec![9] }]), Refusal::UnknownOperation),
        (operations(configure(&unknown_key)), Refusal::NotPermitted),
    ];
    for (ask, expected) in cases {
        assert_eq!(refused(&mut execution, 1000, &ask), expected);
    }
    assert_eq!(execution.service().writes(), 0, "a bundle with an unknown operation executes none of its operations");
    // The bounds themselves execute, and none of the refusals consumed number 1.
    let first = Ask { number: 1, ..good.clone() }.valid_for_tests(1200);
    assert!(matches!(run(&mut execution, 1000, &first).outcome, Outcome::Results(_)));
    let last = Ask { number: 2, ..good }.valid_for_tests(1000);
    assert!(matches!(run(&mut execution, 1000, &last).outcome, Outcome::Results(_)));
}

#[test]
fn judging_asks_what_is_true_at_every_time_from_now_to_the_wall_clock() {
    let mut execution = genesis(PARAMETERS);
    apply(&mut execution, 1000, &[]);
    let late = ask(ALICE, 1, 1).valid_for_tests(5000);
    assert_eq!(execution.judge(&late.request(), 1000), Judgement::Refused(Refusal::ValidTooLong));
    assert_eq!(execution.judge(&late.request(), 4900), Judgement::Fresh, "agreed time stood still while it was idle");
    let passing = ask(ALICE, 1, 1).valid_for_tests(1100);
    assert_eq!(execution.judge(&passing.request(), 4900), Judgement::Fresh, "an earlier batch may still execute it");
    let past = ask(ALICE, 1, 1).valid_for_tests(999);
    assert_eq!(execution.judge(&past.request(), 0), Judgement::Refused(Refusal::Expired));

    let reply = run(&mut execution, 1000, &passing);
    assert_eq!(execution.judge(&passing.request(), 9999), Judgement::Executed(reply));
    for session in 2..=4 {
        run(&mut execution, 1000, &ask(ALICE, session, 1));
    }
    let fifth = ask(ALICE, 5, 1).valid_for_tests(1200).request();
    assert_eq!(execution.judge(&fifth, 1100), Judgement::Refused(Refusal::SessionTableFull));
    assert_eq!(execution.judge(&fifth, 1101), Judgement::Fresh);
}

#[test]
fn a_reading_key_reads() {
    let mut execution = genesis(PARAMETERS);
    let reader = ConfigurationOperation::AddClient { key: client(50), permission: Permission::Read };
    let reply = run(&mut execution, 1000, &Ask { operations: configure(&reader), ..ask(ADMIN, 1, 1) });
    let expected = quorate_crypto::encoding::encode(&ConfigurationResult::Registered(Permission::Read));
    assert_eq!(reply.outcome, Outcome::Results(vec![expected]));
    assert_eq!(execution.permission(&client(50)), Some(Permission::Read));
    assert_eq!(refused(&mut execution, 1000, &ask(50, 1, 1)), Refusal::NotPermitted);
    let mixed = Ask { operations: vec![read(0), write(0)], ..ask(50, 1, 1) };
    assert_eq!(refused(&mut execution, 1000, &mixed), Refusal::NotPermitted);
    let reads = Ask { operations: vec![read(0), read(0)], ..ask(50, 1, 1) };
    assert!(matches!(run(&mut execution, 1000, &reads).outcome, Outcome::Results(results) if results.len() == 2));
}

#[test]
fn a_clients_signature_around_a_rejoin_is_refused() {
    let mut execution = genesis(PARAMETERS);
    apply(&mut execution, 1000, &[]);
    let signed = |body| Signed {
        statement: Statement { epoch: Epoch(0), signer: ReplicaId(2), incarnation: Incarnation(1), body },
        signature: Signature([3; 64]),
    };
    let rejoin = ConfigurationOperation::Rejoin(signed(StatementBody::Rejoin { nonce: [8; 16] }));
    let other = ConfigurationOperation::Rejoin(signed(StatementBody::Executed { seq: Seq(1), results: Digest::ZERO }));
    for id in [ALICE, ADMIN] {
        let ask_for = |operation| Ask { operations: configure(operation), ..ask(id, 1, 1) };
        assert_eq!(refused(&mut execution, 1000, &ask_for(&rejoin)), Refusal::NotPermitted);
        assert_eq!(refused(&mut execution, 1000, &ask_for(&other)), Refusal::UnknownOperation);
    }
}
