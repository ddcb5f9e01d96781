use super::*;

#[test]
fn f_plus_one_equal_replies_end_a_request_and_f_never_do() {
    for n in [4, 5, 6, 7] {
        let mut role = role(n);
        let needed = role.committee().one_honest();
        let (_, request) = submit(&mut role, at(0));
        for from in 0..needed {
            let outputs = hear(&mut role, at(1), from as u16, ReplicaMessage::Reply(reply(&request, "ok")));
            if from + 1 < needed {
                assert!(outputs.is_empty(), "{n} replicas, {} replies", from + 1);
            } else {
                let expected = RequestEnding::Executed { reply: reply(&request, "ok"), matching: needed };
                assert_eq!(ending(&outputs), Some(&expected));
            }
        }
    }
}

#[test]
fn one_replica_that_repeats_itself_is_counted_once() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    for _ in 0..10 {
        assert!(hear(&mut role, at(1), 3, ReplicaMessage::Reply(reply(&request, "lie"))).is_empty());
    }
    assert_eq!(role.in_flight(), 1);
}

#[test]
fn every_field_of_a_reply_must_agree() {
    let change: [fn(&mut Reply); 5] = [
        |reply| reply.seq = Seq(8),
        |reply| reply.index = 1,
        |reply| reply.time += 1,
        |reply| reply.revision += 1,
        |reply| reply.outcome = Outcome::Results(vec![b"other".to_vec()]),
    ];
    for change in change {
        let mut role = role(4);
        let (_, request) = submit(&mut role, at(0));
        let mut lie = reply(&request, "ok");
        change(&mut lie);
        assert!(hear(&mut role, at(1), 3, ReplicaMessage::Reply(lie)).is_empty());
        assert!(hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok"))).is_empty());
        let outputs = hear(&mut role, at(1), 1, ReplicaMessage::Reply(reply(&request, "ok")));
        let Some(RequestEnding::Executed { reply: accepted, matching: 2 }) = ending(&outputs) else {
            panic!("{outputs:?}")
        };
        assert_eq!(*accepted, reply(&request, "ok"));
        assert_eq!(accused(&outputs).iter().map(|accusation| accusation.replica).collect::<Vec<_>>(), [ReplicaId(3)]);
    }
}

#[test]
fn a_reply_to_another_request_counts_for_nothing() {
    let mut role = role(4);
    let (_, first) = submit(&mut role, at(0));
    let (_, second) = submit(&mut role, at(0));
    hear(&mut role, at(1), 3, ReplicaMessage::Reply(reply(&second, "ok")));
    assert!(hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&first, "ok"))).is_empty());
    let mut foreign = reply(&first, "ok");
    foreign.request = Digest([1; 32]);
    assert!(hear(&mut role, at(1), 1, ReplicaMessage::Reply(foreign)).is_empty());
    assert_eq!(role.in_flight(), 2);
}

#[test]
fn a_stranger_or_a_replica_without_a_link_is_not_heard() {
    let mut role = role(4);
    role.link_down(ReplicaId(2));
    let (_, request) = submit(&mut role, at(0));
    hear(&mut role, at(1), 3, ReplicaMessage::Reply(reply(&request, "ok")));
    for from in [2, 9] {
        assert!(hear(&mut role, at(1), from, ReplicaMessage::Reply(reply(&request, "ok"))).is_empty());
    }
    role.link_up(at(2), ReplicaId(9));
    assert_eq!(role.connected(), 3);
}

#[test]
fn a_late_lie_is_accused_and_a_late_truth_is_not() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    hear(&mut role, at(1), 1, ReplicaMessage::Reply(reply(&request, "ok")));
    assert!(hear(&mut role, at(2), 2, ReplicaMessage::Reply(reply(&request, "ok"))).is_empty());
    let earlier = Reply { outcome: Outcome::ExecutedEarlier, ..reply(&request, "") };
    assert!(hear(&mut role, at(2), 2, ReplicaMessage::Reply(earlier)).is_empty());
    let outputs = hear(&mut role, at(2), 3, ReplicaMessage::Reply(reply(&request, "lie")));
    let contradiction = Contradiction::Reply { request: request.digest(), seq: Seq(7) };
    assert_eq!(accused(&outputs), [Accusation { replica: ReplicaId(3), contradiction }]);
}

#[test]
fn it_is_sent_again_after_300_ms_and_then_after_twice_as_long() {
    let mut role = role(4);
    submit(&mut role, at(0));
    let mut moments = Vec::new();
    while let Some(wake) = role.wake() {
        role.timer(at(wake / 1_000));
        let outputs = drain(&mut role);
        if ending(&outputs).is_some() {
            break;
        }
        assert!(matches!(&outputs[..], [Output::Send { to, .. }] if to.len() == 4));
        moments.push(wake / 1_000);
    }
    assert_eq!(moments, [300, 900, 2_100, 4_500, 6_900, 9_300]);
}

#[test]
fn without_an_answer_the_outcome_is_unknown_and_the_bytes_are_kept() {
    let mut role = role(4);
    let (ticket, request) = submit(&mut role, at(0));
    hear(&mut role, at(1), 3, ReplicaMessage::Reply(reply(&request, "lie")));
    hear(&mut role, at(1), 2, refused(&request, Refusal::UnknownClient));
    hear(&mut role, at(1), 1, ReplicaMessage::Busy { request: request.digest(), retry_after: 10 });
    role.timer(at(10_000));
    let heard =
        Heard { connected: 4, answered: 1, busy: 1, refused: BTreeMap::from([(ReplicaId(2), Refusal::UnknownClient)]) };
    let expected = RequestEnding::Unknown { heard, requests: vec![Arc::new(request.clone())] };
    assert_eq!(drain(&mut role), [Output::Request { ticket, ending: expected }]);

    let ticket = role.replay(at(11_000), vec![request.clone()], SECOND).expect("the same bytes may be sent again");
    assert_eq!(sent_request(&drain(&mut role)), Some(request.clone()));
    hear(&mut role, at(11_001), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    let outputs = hear(&mut role, at(11_001), 1, ReplicaMessage::Reply(reply(&request, "ok")));
    assert!(matches!(&outputs[..], [Output::Request { ticket: of, .. }] if *of == ticket));
}

#[test]
fn an_unknown_number_is_not_acknowledged_until_it_cannot_execute() {
    let mut role = role(4);
    let (_, first) = submit(&mut role, at(0));
    role.timer(at(10_000));
    drain(&mut role);
    let (_, second) = submit(&mut role, at(10_000));
    assert_eq!((second.content().number, second.content().acknowledged_below), (2, 1));
    let past = first.content().valid_until + 1;
    for from in 0..2 {
        let reply = Reply { time: past, ..reply(&second, "ok") };
        hear(&mut role, at(10_001), from, ReplicaMessage::Reply(reply));
    }
    let (_, third) = submit(&mut role, at(10_002));
    assert_eq!((third.content().number, third.content().acknowledged_below), (3, 3));
}

/// One outcome that stays unknown must not end a client's work: it goes on under a fresh session, and what the left session
/// still has under way ends as if nothing had happened.
#[test]
fn a_session_whose_numbers_are_used_up_is_left_for_a_fresh_one() {
    let mut role = role(4);
    submit(&mut role, at(0));
    role.timer(at(10_000));
    drain(&mut role);
    let (waiting, of_the_old) = submit(&mut role, at(10_000));
    for _ in 0..SESSION_WINDOW - 2 {
        let (_, request) = submit(&mut role, at(10_000));
        for from in 0..2 {
            hear(&mut role, at(10_001), from, ReplicaMessage::Reply(reply(&request, "ok")));
        }
    }
    let refused = role.submit(at(10_002), vec![operation("put")], SECOND);
    assert_eq!(refused, Err(SubmitError::NumbersUsedUp));
    role.open_session(AuthorId::OWN, SessionId([6; 16]));
    let (_, fresh) = submit(&mut role, at(10_002));
    let content = fresh.content();
    assert_eq!((content.session, content.number, content.acknowledged_below), (SessionId([6; 16]), 1, 1));
    hear(&mut role, at(10_003), 0, ReplicaMessage::Reply(reply(&of_the_old, "ok")));
    let outputs = hear(&mut role, at(10_003), 1, ReplicaMessage::Reply(reply(&of_the_old, "ok")));
    assert!(matches!(&outputs[..], [Output::Request { ticket, .. }] if *ticket == waiting));
    let (_, second) = submit(&mut role, at(10_004));
    assert_eq!(second.content().acknowledged_below, 1, "the old session's number 2 says nothing of the new one's");
}

#[test]
fn a_new_link_gets_what_is_under_way() {
    let mut role = role(4);
    role.link_down(ReplicaId(1));
    let (_, request) = submit(&mut role, at(0));
    role.link_up(at(5), ReplicaId(1));
    assert_eq!(drain(&mut role), [Output::Send { to: vec![ReplicaId(1)], message: ClientMessage::Submit(request) }]);
}

#[test]
fn busy_counts_only_from_f_plus_one_and_a_liar_cannot_stretch_it() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    let busy = |retry_after| ReplicaMessage::Busy { request: request.digest(), retry_after };
    hear(&mut role, at(1), 3, busy(u64::MAX));
    hear(&mut role, at(1), 3, busy(u64::MAX));
    assert_eq!(role.wake(), Some(300_000), "one replica alone changes nothing");
    hear(&mut role, at(1), 0, busy(1_000));
    let wake = role.wake().expect("it is sent again");
    assert!((1_001_000..1_501_000).contains(&wake), "the shorter wait counts, and up to half as long again: {wake}");
    hear(&mut role, at(900), 3, busy(5_000));
    hear(&mut role, at(900), 0, busy(5_000));
    assert_eq!(role.wake(), Some(wake), "whoever says it over and over puts nothing off");
    role.timer(at(1_501));
    assert!(sent_request(&drain(&mut role)).is_some());
}

#[test]
fn who_is_told_busy_again_and_again_asks_less_and_less_often() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..6 {
        for replica in [0, 1] {
            let busy = ReplicaMessage::Busy { request: request.digest(), retry_after: 60 };
            hear(&mut role, at(now), replica, busy);
        }
        let wake = role.wake().expect("it is sent again") / 1_000 + 1;
        waits.push(wake - now);
        now = wake;
        role.timer(at(now));
        assert!(sent_request(&drain(&mut role)).is_some());
    }
    assert!(waits[0] >= 300 && waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert!((2_400..3_700).contains(&waits[5]), "it grows up to the longest interval: {waits:?}");
}

#[test]
fn f_refusals_are_nothing_and_f_plus_one_are_told() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    for _ in 0..3 {
        assert!(hear(&mut role, at(1), 3, refused(&request, Refusal::UnknownClient)).is_empty());
    }
    assert!(hear(&mut role, at(1), 2, refused(&request, Refusal::StaleNumber)).is_empty(), "reasons must agree");
    let ordered = Reply { outcome: Outcome::Refused(Refusal::UnknownClient), ..reply(&request, "") };
    let outputs = hear(&mut role, at(1), 0, ReplicaMessage::Reply(ordered));
    assert!(matches!(
        ending(&outputs),
        Some(RequestEnding::Refused { reason: Refusal::UnknownClient, replicas: 2, .. })
    ));
}

#[test]
fn a_refusal_never_takes_back_a_result() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    hear(&mut role, at(1), 0, refused(&request, Refusal::UnknownClient));
    assert!(hear(&mut role, at(1), 3, refused(&request, Refusal::UnknownClient)).is_empty());
    let outputs = hear(&mut role, at(1), 1, ReplicaMessage::Reply(reply(&request, "ok")));
    assert!(matches!(ending(&outputs), Some(RequestEnding::Executed { .. })));
}

#[test]
fn forgotten_results_do_not_push_out_those_that_were_given() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    let earlier = Reply { outcome: Outcome::ExecutedEarlier, ..reply(&request, "") };
    hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    hear(&mut role, at(2), 0, ReplicaMessage::Reply(earlier.clone()));
    assert!(hear(&mut role, at(2), 1, ReplicaMessage::Reply(earlier)).is_empty());
    let outputs = hear(&mut role, at(2), 2, ReplicaMessage::Reply(reply(&request, "ok")));
    assert_eq!(ending(&outputs), Some(&RequestEnding::Executed { reply: reply(&request, "ok"), matching: 2 }));
    assert!(accused(&outputs).is_empty());
}

/// Soak, seed 1026056: one replica kept the results, one remembers the place only, the others lost the session.
#[test]
fn results_that_too_few_still_have_end_a_request_where_it_executed() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    let earlier = Reply { outcome: Outcome::ExecutedEarlier, ..reply(&request, "") };
    hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    assert!(hear(&mut role, at(2), 1, ReplicaMessage::Reply(earlier.clone())).is_empty());
    for from in 0..3 {
        assert!(hear(&mut role, at(3), from, refused(&request, Refusal::Forgotten)).is_empty());
    }
    role.timer(at(300));
    assert_eq!(ending(&drain(&mut role)), None, "all are asked once more: somebody may have the results");
    role.timer(at(900));
    assert_eq!(ending(&drain(&mut role)), Some(&RequestEnding::Executed { reply: earlier, matching: 2 }));
}

#[test]
fn two_places_end_no_request() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    let earlier = Reply { outcome: Outcome::ExecutedEarlier, ..reply(&request, "") };
    let elsewhere = Reply { seq: earlier.seq.plus(1), ..earlier.clone() };
    hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
    hear(&mut role, at(1), 1, ReplicaMessage::Reply(elsewhere));
    for millis in [300, 900, 2_100, 4_500] {
        role.timer(at(millis));
        assert_eq!(ending(&drain(&mut role)), None);
    }
    hear(&mut role, at(4_600), 2, ReplicaMessage::Reply(reply(&request, "ok")));
    assert_eq!(role.in_flight(), 0);
}

#[test]
fn a_full_session_table_is_waited_out() {
    let mut role = role(4);
    let (_, request) = submit(&mut role, at(0));
    for from in 0..4 {
        assert!(hear(&mut role, at(1), from, refused(&request, Refusal::SessionTableFull)).is_empty());
    }
    assert_eq!(role.in_flight(), 1);
}

/// The client's clock is an hour fast; the replicas' agreed time is what counts.
#[test]
fn a_wrong_time_limit_is_signed_again_under_the_same_number() {
    let mut role = role(4);
    let (_, first) = submit(&mut role, at(3_600_000));
    let now = at(3_600_001);
    hear(&mut role, now, 3, refused(&first, Refusal::ValidTooLong));
    let outputs = hear(&mut role, now, 0, refused(&first, Refusal::ValidTooLong));
    assert!(matches!(&outputs[..], [Output::Send { message: ClientMessage::Status { id: TIME_WIRE }, .. }]));
    for (from, time) in [(3, 0), (0, 1_000_000)] {
        let answer = ReplicaMessage::Status { id: TIME_WIRE, status: status(from, 1, time) };
        assert!(hear(&mut role, now, from, answer).is_empty(), "a quorum must say what time it is");
    }
    let answer = ReplicaMessage::Status { id: TIME_WIRE, status: status(1, 1, 1_000_010) };
    let second = sent_request(&hear(&mut role, now, 1, answer)).expect("signed again");
    assert_eq!(second.content().number, first.content().number);
    assert_eq!(second.content().operations, first.content().operations);
    assert_eq!(second.content().valid_until, 1_000_000 + 30_000);

    // Either may be the one that executed.
    hear(&mut role, now, 0, ReplicaMessage::Reply(reply(&first, "ok")));
    hear(&mut role, now, 0, refused(&second, Refusal::NumberTaken));
    hear(&mut role, now, 1, refused(&second, Refusal::NumberTaken));
    let outputs = hear(&mut role, now, 2, ReplicaMessage::Reply(reply(&first, "ok")));
    assert!(matches!(ending(&outputs), Some(RequestEnding::Executed { matching: 2, .. })), "{outputs:?}");
    assert!(role.by_digest.is_empty());
}

#[test]
fn signing_again_has_an_end() {
    let mut role = role(4);
    let (_, mut request) = submit(&mut role, at(0));
    for round in 1..=super::super::super::submission::ATTEMPTS_MAX {
        let now = at(round as u64);
        hear(&mut role, now, 0, refused(&request, Refusal::Expired));
        let mut outputs = hear(&mut role, now, 1, refused(&request, Refusal::Expired));
        for from in 0..3 {
            let answer = ReplicaMessage::Status { id: TIME_WIRE, status: status(from, 1, 5_000_000) };
            outputs.extend(hear(&mut role, now, from, answer));
        }
        match sent_request(&outputs) {
            Some(next) => request = next,
            None => {
                assert_eq!(round, super::super::super::submission::ATTEMPTS_MAX);
                assert!(matches!(ending(&outputs), Some(RequestEnding::Refused { reason: Refusal::Expired, .. })));
                return;
            }
        }
    }
    panic!("signed again and again");
}

#[test]
fn replayed_bytes_are_never_signed_anew() {
    let mut role = role(4);
    let foreign = SecretKey::from_seed(&[1; 32]);
    let content = RequestContent {
        client: foreign.public_key(),
        session: SessionId([1; 16]),
        number: 4,
        acknowledged_below: 1,
        valid_until: 5,
        operations: vec![operation("put")],
    };
    let request = content.clone().sign(role.committee().cluster(), &foreign);
    role.replay(at(0), vec![request.clone()], SECOND).expect("room");
    drain(&mut role);
    hear(&mut role, at(1), 0, refused(&request, Refusal::Expired));
    let outputs = hear(&mut role, at(1), 1, refused(&request, Refusal::Expired));
    assert!(matches!(ending(&outputs), Some(RequestEnding::Refused { reason: Refusal::Expired, .. })));
    let other = RequestContent { number: 5, ..content }.sign(role.committee().cluster(), &foreign);
    assert_eq!(role.replay(at(2), vec![request, other], SECOND), Err(SubmitError::NotOneNumber));
    assert_eq!(role.replay(at(2), Vec::new(), SECOND), Err(SubmitError::NotOneNumber));
}

/// Saved under a clock that was fast at first: the second signature is valid for less long than the first.
#[test]
fn an_expired_signature_says_nothing_of_one_that_is_valid_longer() {
    let mut role = role(4);
    let key = SecretKey::from_seed(&[1; 32]);
    let sign = |valid_until| {
        let content = RequestContent {
            client: key.public_key(),
            session: SessionId([1; 16]),
            number: 4,
            acknowledged_below: 1,
            valid_until,
            operations: vec![operation("put")],
        };
        content.sign(committee(4).cluster(), &key)
    };
    let (long, short) = (sign(9_000_000), sign(1_000_000));
    for order in [[long.clone(), short.clone()], [short.clone(), long.clone()]] {
        role.replay(at(0), order.to_vec(), SECOND).expect("room");
        drain(&mut role);
        for from in 0..3 {
            assert!(hear(&mut role, at(1), from, refused(&short, Refusal::Expired)).is_empty());
        }
        assert!(hear(&mut role, at(2), 3, refused(&long, Refusal::Expired)).is_empty());
        let outputs = hear(&mut role, at(2), 0, refused(&long, Refusal::Expired));
        let Some(RequestEnding::Refused { reason: Refusal::Expired, replicas: 2, requests }) = ending(&outputs) else {
            panic!("{outputs:?}")
        };
        assert_eq!(requests.len(), 2);
    }
}

#[test]
fn what_no_link_could_carry_has_not_arrived() {
    let mut role = role(4);
    let (with_links, request) = submit(&mut role, at(0));
    for id in 0..4 {
        role.link_down(ReplicaId(id));
    }
    let without = role.submit(at(0), vec![operation("put")], SECOND).expect("room");
    let replayed = role.replay(at(0), vec![request], SECOND).expect("room");
    assert_eq!([with_links, without, replayed].map(|ticket| role.may_have_arrived(ticket)), [true, false, true]);
    role.link_up(at(1), ReplicaId(3));
    assert!(role.may_have_arrived(without));
}

#[test]
fn lies_cost_one_answer_a_replica() {
    let mut role = role(4);
    let (ticket, request) = submit(&mut role, at(0));
    for lie in 0..1_000 {
        hear(&mut role, at(1), 3, ReplicaMessage::Reply(reply(&request, &lie.to_string())));
        hear(&mut role, at(1), 3, ReplicaMessage::Busy { request: request.digest(), retry_after: lie });
        let unknown = Reply { request: Digest([lie as u8; 32]), ..reply(&request, "x") };
        hear(&mut role, at(1), 3, ReplicaMessage::Reply(unknown));
    }
    assert_eq!(role.submissions[&ticket].heard(4).answered, 1);
    assert_eq!((role.by_digest.len(), role.settled.len(), role.wires.len()), (1, 0, 0));
}

#[test]
fn what_is_remembered_of_settled_requests_is_bounded() {
    let mut role = role(4);
    for _ in 0..SETTLED_MAX + 50 {
        let (_, request) = submit(&mut role, at(0));
        hear(&mut role, at(1), 0, ReplicaMessage::Reply(reply(&request, "ok")));
        hear(&mut role, at(1), 1, ReplicaMessage::Reply(reply(&request, "ok")));
    }
    assert_eq!((role.settled.len(), role.settled_order.len()), (SETTLED_MAX, SETTLED_MAX));
    assert_eq!((role.in_flight(), role.by_digest.len()), (0, 0));
}

#[test]
fn too_much_at_once_is_refused_before_it_is_signed() {
    let mut role = role(4);
    for _ in 0..role.parameters.in_flight_max {
        submit(&mut role, at(0));
    }
    assert_eq!(role.submit(at(0), vec![operation("x")], SECOND), Err(SubmitError::TooMany(64)));
    assert_eq!(role.submit(at(0), Vec::new(), SECOND), Err(SubmitError::OperationCount(0)));
    let large = Operation { service: 1, bytes: vec![0; REQUEST_BYTES_MAX + 1] };
    assert!(matches!(role.submit(at(0), vec![large], SECOND), Err(SubmitError::TooLarge(_))));
    role.parameters.request_bytes_max = 10_000;
    let above = Operation { service: 1, bytes: vec![0; 10_000] };
    assert!(matches!(
        role.submit(at(0), vec![above], SECOND),
        Err(SubmitError::AboveGenesis { bytes: 10_266, limit: 10_000 })
    ));
}

#[test]
fn status_is_each_replicas_own_word() {
    let mut role = role(4);
    let ticket = role.status(at(0), SECOND).expect("room");
    let outputs = drain(&mut role);
    let [Output::Send { message: ClientMessage::Status { id }, .. }] = outputs[..] else { panic!("{outputs:?}") };
    for from in [0, 2] {
        hear(&mut role, at(1), from, ReplicaMessage::Status { id, status: status(from, 1, 5) });
    }
    let outputs = hear(&mut role, at(1), 3, ReplicaMessage::Status { id, status: status(1, 9, 5) });
    let contradiction = Contradiction::ForeignStatus { named: ReplicaId(1) };
    assert_eq!(accused(&outputs), [Accusation { replica: ReplicaId(3), contradiction }]);
    role.timer(at(1_000));
    let replicas = vec![status(0, 1, 5), status(2, 1, 5)];
    assert_eq!(drain(&mut role), [Output::Status { ticket, replicas }]);
    assert!(role.wires.is_empty());
}
