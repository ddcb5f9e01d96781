use super::*;

/// Starts a watch and returns, by replica, the id each was subscribed under and from where.
fn watch(role: &mut ClientRole, start: WatchStart) -> (Ticket, BTreeMap<u16, (u64, u64)>) {
    let ticket = role.watch(at(0), operation("range"), start).expect("room");
    (ticket, subscriptions(&drain(role)))
}

fn subscriptions(outputs: &[Output]) -> BTreeMap<u16, (u64, u64)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { to, message: ClientMessage::Watch { id, from_revision, .. } } => {
                Some((to[0].0, (*id, *from_revision)))
            }
            _ => None,
        })
        .collect()
}

fn events(id: u64, revision: u64, text: &str) -> ReplicaMessage {
    ReplicaMessage::Watch { id, update: WatchUpdate::Events { revision, events: text.as_bytes().to_vec() } }
}

fn deliveries(outputs: &[Output]) -> Vec<Delivery> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Watch { delivery, .. } => Some(delivery.clone()),
            _ => None,
        })
        .collect()
}

fn delivered(revision: u64, text: &str) -> Delivery {
    Delivery::Events { revision, events: text.as_bytes().to_vec() }
}

#[test]
fn from_now_begins_behind_what_a_quorum_has() {
    let mut role = role(4);
    role.watch(at(0), operation("range"), WatchStart::Now).expect("room");
    let outputs = drain(&mut role);
    let [Output::Send { message: ClientMessage::Status { id }, .. }] = outputs[..] else { panic!("{outputs:?}") };
    hear(&mut role, at(1), 3, ReplicaMessage::Status { id, status: status(3, u64::MAX, 1) });
    hear(&mut role, at(1), 3, ReplicaMessage::Status { id, status: status(3, u64::MAX, 1) });
    assert!(hear(&mut role, at(1), 0, ReplicaMessage::Status { id, status: status(0, 10, 1) }).is_empty());
    let outputs = hear(&mut role, at(1), 1, ReplicaMessage::Status { id, status: status(1, 12, 1) });
    let from: Vec<u64> = subscriptions(&outputs).values().map(|(_, from)| *from).collect();
    assert_eq!(from, [13, 13, 13, 13], "a liar that claims the highest revision does not make it skip anything");
}

#[test]
fn a_new_link_goes_on_where_the_old_one_ended() {
    let mut role = role(4);
    let (_, ids) = watch(&mut role, WatchStart::Revision(5));
    let mut got = Vec::new();
    for from in [0, 1] {
        got.extend(deliveries(&hear(&mut role, at(1), from, events(ids[&from].0, 5, "a"))));
    }
    hear(&mut role, at(1), 0, events(ids[&0].0, 8, "b"));
    role.link_down(ReplicaId(0));
    role.link_down(ReplicaId(1));
    role.link_up(at(2), ReplicaId(0));
    role.link_up(at(2), ReplicaId(1));
    let again = subscriptions(&drain(&mut role));
    assert_eq!((again[&0].1, again[&1].1), (9, 6), "what replica 0 said of 8 still counts");
    assert!(hear(&mut role, at(3), 1, events(ids[&1].0, 8, "b")).is_empty(), "the old subscription is over");
    got.extend(deliveries(&hear(&mut role, at(3), 1, events(again[&1].0, 8, "b"))));
    assert_eq!(got, [delivered(5, "a"), delivered(8, "b")]);
}

#[test]
fn another_replicas_subscription_cannot_be_answered() {
    let mut role = role(4);
    let (_, ids) = watch(&mut role, WatchStart::Revision(1));
    hear(&mut role, at(1), 3, events(ids[&3].0, 1, "lie"));
    for victim in 0..3 {
        assert!(hear(&mut role, at(1), 3, events(ids[&victim].0, 1, "lie")).is_empty());
    }
}

#[test]
fn a_subscription_that_ends_is_opened_again_and_a_watch_that_ends_is_forgotten() {
    let mut role = role(4);
    let (ticket, ids) = watch(&mut role, WatchStart::Revision(1));
    let ended = ReplicaMessage::Watch { id: ids[&3].0, update: WatchUpdate::Ended("no".to_owned()) };
    assert!(hear(&mut role, at(1), 3, ended).is_empty());
    assert_eq!(role.wake(), Some(1_000 + 500_000));
    role.timer(at(501));
    assert_eq!(subscriptions(&drain(&mut role)).keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(role.wake(), Some(SECOND), "the others have not answered either");
    role.unwatch(ticket);
    assert_eq!(drain(&mut role).len(), 4);
    assert!(role.wires.is_empty() && role.watches.is_empty());
    assert_eq!(role.wake(), None);
}

/// What a full queue loses nobody reports, and a range in which nothing happens is as silent as a subscription that was
/// lost.
#[test]
fn a_subscription_that_was_lost_is_repeated() {
    let mut role = role(4);
    let (_, ids) = watch(&mut role, WatchStart::Revision(5));
    let progress = ReplicaMessage::Watch { id: ids[&2].0, update: WatchUpdate::Progress { revision: 4 } };
    hear(&mut role, at(1), 2, progress);
    let mut repeated = Vec::new();
    for _ in 0..5 {
        let wake = role.wake().expect("three have not answered") / 1_000;
        role.timer(at(wake));
        let again = subscriptions(&drain(&mut role));
        assert!([0, 1, 3].iter().all(|replica| again[replica] == ids[replica]) && again.len() == 3, "{again:?}");
        repeated.push(wake);
    }
    assert_eq!(repeated, [1_000, 3_000, 7_000, 15_000, 23_000]);

    // Replica 0 had the first one already: what it sends twice is no offence, and counts once.
    let now = at(23_001);
    for _ in 0..2 {
        assert!(hear(&mut role, now, 0, events(ids[&0].0, 5, "a")).is_empty());
    }
    assert_eq!(deliveries(&hear(&mut role, now, 1, events(ids[&1].0, 5, "a"))), [delivered(5, "a")]);
    let late = hear(&mut role, now, 0, events(ids[&0].0, 3, "a"));
    let contradiction = Contradiction::RepeatedEvents { revision: 3 };
    assert_eq!(accused(&late), [Accusation { replica: ReplicaId(0), contradiction }], "it was never asked for");
    assert_eq!(role.wake(), Some(31_000_000), "only replica 3 is left");
    assert!(hear(&mut role, now, 3, events(ids[&3].0, 5, "a")).is_empty());
    assert_eq!(role.wake(), None, "whoever sends something has the subscription");
}

#[test]
fn the_question_where_a_watch_begins_is_repeated() {
    let mut role = role(4);
    role.watch(at(0), operation("range"), WatchStart::Now).expect("room");
    let outputs = drain(&mut role);
    let [Output::Send { message: ClientMessage::Status { id }, .. }] = outputs[..] else { panic!("{outputs:?}") };
    hear(&mut role, at(1), 1, ReplicaMessage::Status { id, status: status(1, 10, 1) });
    for wake in [1_000, 3_000, 7_000] {
        assert_eq!(role.wake(), Some(wake * 1_000));
        role.timer(at(wake));
        let to = vec![ReplicaId(0), ReplicaId(2), ReplicaId(3)];
        assert_eq!(drain(&mut role), [Output::Send { to, message: ClientMessage::Status { id } }]);
    }
    hear(&mut role, at(7_001), 0, ReplicaMessage::Status { id, status: status(0, 10, 1) });
    let outputs = hear(&mut role, at(7_001), 2, ReplicaMessage::Status { id, status: status(2, 10, 1) });
    assert_eq!(subscriptions(&outputs).len(), 4);
    assert_eq!(role.wake(), Some(8_001_000), "of the subscriptions");
}

#[test]
fn a_replica_too_far_ahead_is_paused_and_goes_on_later() {
    let mut role = role(4);
    let (_, ids) = watch(&mut role, WatchStart::Revision(1));
    let large = "x".repeat(1024 * 1024);
    let mut paused_at = None;
    for revision in 1..20 {
        let outputs = hear(&mut role, at(1), 0, events(ids[&0].0, revision, &large));
        if outputs.iter().any(|output| matches!(output, Output::Send { message: ClientMessage::Unwatch { .. }, .. })) {
            paused_at = Some(revision);
            break;
        }
    }
    assert_eq!(paused_at, Some(8), "eight revisions of 1 MiB and their overhead exceed 8 MiB");
    assert!(hear(&mut role, at(1), 0, events(ids[&0].0, 9, &large)).is_empty(), "nothing more is held");
    let mut again = BTreeMap::new();
    for revision in 1..=8 {
        let outputs = hear(&mut role, at(1), 1, events(ids[&1].0, revision, &large));
        assert_eq!(deliveries(&outputs), [delivered(revision, &large)]);
        again.extend(subscriptions(&outputs));
    }
    assert_eq!(again[&0].1, 9);
}

#[test]
fn a_read_ends_with_f_plus_one_equal_answers_at_one_revision() {
    let mut role = role(4);
    let ticket = role.read(at(0), operation("range"), None, SECOND).expect("room");
    let outputs = drain(&mut role);
    let [Output::Send { message: ClientMessage::Read { id, revision: None, .. }, .. }] = outputs[..] else { panic!() };
    let answer = |revision, text: &str| ReplicaMessage::Read { id, revision, result: text.as_bytes().to_vec() };
    hear(&mut role, at(1), 3, answer(7, "lie"));
    hear(&mut role, at(1), 3, answer(7, "lie"));
    hear(&mut role, at(1), 0, answer(7, "truth"));
    let outputs = hear(&mut role, at(1), 1, answer(7, "truth"));
    assert_eq!(
        accused(&outputs),
        [Accusation { replica: ReplicaId(3), contradiction: Contradiction::Read { revision: 7 } }]
    );
    let ending = ReadEnding::Read { revision: 7, result: b"truth".to_vec(), matching: 2 };
    assert!(outputs.contains(&Output::Read { ticket, ending }));
    assert!(role.wires.is_empty());
}

#[test]
fn answers_to_an_earlier_round_of_a_read_do_not_count() {
    let mut role = role(4);
    role.read(at(0), operation("range"), None, SECOND).expect("room");
    let first = match &drain(&mut role)[..] {
        [Output::Send { message: ClientMessage::Read { id, .. }, .. }] => *id,
        other => panic!("{other:?}"),
    };
    let answer = |id, revision, text: &str| ReplicaMessage::Read { id, revision, result: text.as_bytes().to_vec() };
    hear(&mut role, at(1), 0, answer(first, 7, "a"));
    hear(&mut role, at(1), 1, answer(first, 8, "b"));
    let outputs = hear(&mut role, at(1), 2, answer(first, 9, "c"));
    let second = match &outputs[..] {
        [Output::Send { message: ClientMessage::Read { id, revision: Some(8), .. }, .. }] => *id,
        other => panic!("{other:?}"),
    };
    hear(&mut role, at(2), 3, answer(second, 8, "b"));
    assert!(hear(&mut role, at(2), 1, answer(first, 8, "b")).is_empty());
    assert!(!hear(&mut role, at(2), 1, answer(second, 8, "b")).is_empty());
}
