use super::*;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn digest(number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Digest(bytes)
}

fn take(sessions: &Sessions, number: u32) -> Vec<ConnectionId> {
    sessions.answered(std::iter::once((digest(number), false))).remove(0)
}

#[test]
fn an_answer_goes_once_to_everyone_who_waits_for_it() {
    let sessions = Sessions::default();
    let (first, second) = (ConnectionId(1), ConnectionId(2));
    sessions.connected(first, key(1));
    sessions.connected(second, key(1));
    let again = [(first, Registration::Registered), (second, Registration::Registered), (first, Registration::Again)];
    for (connection, registration) in again {
        assert_eq!(sessions.register(connection, digest(7), key(1), usize::MAX), registration);
    }
    assert_eq!(take(&sessions, 8), []);
    assert_eq!(take(&sessions, 7), [first, second]);
    assert_eq!(take(&sessions, 7), []);
}

#[test]
fn a_connection_that_ends_leaves_nothing_behind() {
    let sessions = Sessions::default();
    sessions.connected(ConnectionId(1), key(1));
    sessions.connected(ConnectionId(2), key(2));
    for number in 0..10 {
        sessions.register(ConnectionId(1), digest(number), key(1), usize::MAX);
    }
    sessions.register(ConnectionId(2), digest(3), key(1), usize::MAX);
    sessions.closed(ConnectionId(1));
    assert_eq!(sessions.in_flight(), 1);
    assert_eq!(take(&sessions, 3), [ConnectionId(2)]);
    assert_eq!(sessions.key(ConnectionId(1)), None);
    assert_eq!(sessions.register(ConnectionId(1), digest(4), key(1), usize::MAX), Registration::Full);
}

#[test]
fn requests_in_flight_are_capped_for_each_connection() {
    let sessions = Sessions::default();
    sessions.connected(ConnectionId(1), key(1));
    for number in 0..IN_FLIGHT_PER_CONNECTION as u32 {
        assert_eq!(sessions.register(ConnectionId(1), digest(number), key(1), usize::MAX), Registration::Registered);
    }
    let beyond = IN_FLIGHT_PER_CONNECTION as u32;
    assert_eq!(sessions.register(ConnectionId(1), digest(beyond), key(1), usize::MAX), Registration::Full);
    assert_eq!(sessions.register(ConnectionId(1), digest(5), key(1), usize::MAX), Registration::Again, "not anew");
    take(&sessions, 5);
    assert_eq!(sessions.register(ConnectionId(1), digest(beyond), key(1), usize::MAX), Registration::Registered);
    assert_eq!(sessions.in_flight(), IN_FLIGHT_PER_CONNECTION);
}

#[test]
fn one_client_has_a_share_of_a_link_and_whoever_ignores_that_floods() {
    let sessions = Sessions::default();
    let (own, other) = (ConnectionId(1), ConnectionId(2));
    sessions.connected(own, key(1));
    sessions.connected(other, key(2));
    let register = |connection, number, client, share| sessions.register(connection, digest(number), client, share);
    assert_eq!(register(own, 0, key(1), 2), Registration::Registered);
    assert_eq!(register(own, 1, key(1), 2), Registration::Registered);
    assert_eq!(register(own, 1, key(1), 2), Registration::Again);
    assert_eq!(register(own, 2, key(1), 2), Registration::Full);
    assert_eq!(register(own, 3, key(3), 2), Registration::Registered, "of another client");
    // Who claims to be somebody else over a link of its own holds nobody back.
    for number in 10..20 {
        register(other, number, key(1), 2);
    }
    take(&sessions, 0);
    assert_eq!(register(own, 4, key(1), 2), Registration::Registered, "one was answered");
    // A second connection of the key is no way round it.
    let second = ConnectionId(3);
    sessions.connected(second, key(1));
    let refused: Vec<_> =
        (0..4 * REFUSALS_MAX as u32).map(|number| register(second, 100 + number, key(1), 2)).collect();
    assert_eq!((refused[0], refused.last()), (Registration::Full, Some(&Registration::Flood)));
    assert_eq!(register(own, 1, key(1), 2), Registration::Flood, "of no connection");
    assert_eq!(register(other, 50, key(2), 2), Registration::Registered, "another key does not flood");
    std::thread::sleep(STUCK_AFTER);
    assert_eq!(register(own, 999, key(1), 2), Registration::Registered, "what it waits for may have been dropped");
    assert_eq!(register(own, 1_000, key(1), 2), Registration::Full);
    for connection in [own, other, second] {
        sessions.closed(connection);
    }
    assert_eq!(sessions.in_flight(), 0);
    let state = lock(&sessions.state);
    assert_eq!(state.links.keys().copied().collect::<Vec<_>>(), [key(1)], "only who flooded is remembered");
    assert!(state.links.values().all(|link| link.connections == 0 && link.per_client.is_empty()));
}

/// Valid requests that execution refuses, one after the other, and one request again and again.
#[test]
fn refusals_of_every_kind_count() {
    for again in [false, true] {
        let sessions = Sessions::default();
        sessions.connected(ConnectionId(1), key(1));
        let floods = (0..4 * REFUSALS_MAX as u32).find(|number| {
            let number = if again { 0 } else { *number };
            let registration = sessions.register(ConnectionId(1), digest(number), key(1), 2);
            if !again {
                sessions.answered(std::iter::once((digest(number), true)));
            }
            registration == Registration::Flood
        });
        assert!(floods.is_some_and(|number| number > REFUSALS_MAX as u32), "again {again}: {floods:?}");
        let registration = sessions.register(ConnectionId(1), digest(5_000), key(1), 2);
        assert_eq!(registration, Registration::Flood, "again {again}");
    }
}

/// Who goes on for long is not let off with as many refusals every second, and who pauses is.
#[test]
fn refusals_are_forgotten_little_by_little() {
    let mut link = Link::default();
    let begin = Instant::now();
    let at = |millis: u64| begin + Duration::from_millis(millis);
    let let_off = |link: &mut Link, millis: std::ops::Range<u64>| {
        let mut count = 0;
        for now in millis.map(at) {
            if !link.floods(now) {
                link.refuse(now);
                count += 1;
            }
        }
        count
    };
    assert!((256..=330).contains(&let_off(&mut link, 0..1_000)));
    for second in 1..5 {
        assert!(let_off(&mut link, 1_000 * second..1_000 * (second + 1)) <= 66, "second {second}");
    }
    assert!((256..=330).contains(&let_off(&mut link, 10_000..11_000)), "after a pause of five seconds");
}

/// To connect anew lets nobody off; a key that was refused nothing leaves nothing behind, and however many keys come and go,
/// few are remembered.
#[test]
fn refusals_outlive_a_connection() {
    let sessions = Sessions::default();
    let refuse = |connection: u64, key: PublicKey, count: u64| {
        sessions.connected(ConnectionId(connection), key);
        let registered: Vec<_> = (0..count)
            .map(|number| sessions.register(ConnectionId(connection), digest(number as u32), key, 1))
            .collect();
        sessions.closed(ConnectionId(connection));
        registered
    };
    assert_eq!(refuse(1, key(1), 1_000).last(), Some(&Registration::Flood));
    assert_eq!(refuse(2, key(1), 1), [Registration::Flood]);
    assert_eq!(refuse(3, key(2), 1), [Registration::Registered], "another key");
    assert_eq!(lock(&sessions.state).links.keys().copied().collect::<Vec<_>>(), [key(1)]);
    for number in 0..2 * REMEMBERED_MAX as u64 {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        refuse(100 + number, PublicKey(bytes), 40);
        assert!(lock(&sessions.state).links.len() <= REMEMBERED_MAX + 1);
    }
}

/// However much was refused, and however many clients a key carried then, it is let off within a few seconds.
#[test]
fn refusals_have_a_brim() {
    let mut link = Link::default();
    let begin = Instant::now();
    for place in 0..100 {
        link.enter(begin, key(place));
    }
    for _ in 0..100_000 {
        link.refuse(begin);
    }
    assert!(link.floods(begin));
    for place in 0..99 {
        link.leave(begin, &key(place));
    }
    assert!(link.floods(begin + Duration::from_secs(1)));
    assert!(!link.floods(begin + Duration::from_secs(5)));
}

/// What a batch leaves of a crowd is not blamed for what the whole crowd was refused.
#[test]
fn the_last_of_a_crowd_does_not_flood() {
    let mut link = Link::default();
    let begin = Instant::now();
    for place in 0..16 {
        link.enter(begin, key(place));
    }
    for _ in 0..784 {
        link.refuse(begin);
    }
    for place in 0..15 {
        link.leave(begin, &key(place));
    }
    assert!(!link.floods(begin + Duration::from_millis(1)));
    for _ in 0..16 * 256 {
        link.refuse(begin);
    }
    assert!(link.floods(begin + Duration::from_millis(1)), "a crowd can flood as well");
}

/// What a connection sent before it learns that it is ended is not looked at.
#[test]
fn a_connection_that_broke_the_rules_is_nobodys() {
    let sessions = Sessions::default();
    sessions.connected(ConnectionId(1), key(1));
    assert_eq!(sessions.key(ConnectionId(1)), Some(key(1)));
    assert!(sessions.end(ConnectionId(1)) && !sessions.end(ConnectionId(1)));
    assert!(sessions.end(ConnectionId(2)), "who hung up before being judged has broken them all the same");
    assert_eq!(sessions.key(ConnectionId(1)), None);
    sessions.closed(ConnectionId(1));
}
