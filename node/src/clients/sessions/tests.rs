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
        (0..2 * REFUSALS_PER_SECOND + 10).map(|number| register(second, 100 + number, key(1), 2)).collect();
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
    assert!(lock(&sessions.state).links.is_empty());
}

/// Valid requests that execution refuses, one after the other, and one request again and again.
#[test]
fn refusals_of_every_kind_count() {
    for again in [false, true] {
        let sessions = Sessions::default();
        sessions.connected(ConnectionId(1), key(1));
        for number in 0..=REFUSALS_PER_SECOND + 1 {
            let number = if again { 0 } else { number };
            sessions.register(ConnectionId(1), digest(number), key(1), 2);
            if !again {
                sessions.answered(std::iter::once((digest(number), true)));
            }
        }
        let registration = sessions.register(ConnectionId(1), digest(5_000), key(1), 2);
        assert_eq!(registration, Registration::Flood, "again {again}");
    }
}
