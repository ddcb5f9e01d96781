use super::{EventKind, StoredEvent, StoredPair, event_key, split_event_key};

const PAIR: StoredPair<'static> =
    StoredPair { mod_revision: 259, create_revision: 258, version: 3, lease: 0, value: b"val" };

fn pair_bytes() -> Vec<u8> {
    let numbers: [[u8; 8]; 4] =
        [[0, 0, 0, 0, 0, 0, 1, 3], [0, 0, 0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 0, 0, 0, 0]];
    [&numbers.concat()[..], b"val"].concat()
}

#[test]
fn the_stored_bytes_of_a_pair_are_these() {
    assert_eq!(PAIR.to_bytes(), pair_bytes());
    assert_eq!(StoredPair::parse(&pair_bytes()), Some(PAIR));
    assert_eq!(StoredPair::parse(&[0; StoredPair::HEADER_BYTES - 1]), None);
}

#[test]
fn the_stored_bytes_of_an_event_are_these() {
    let put = StoredEvent::bytes_of(EventKind::Put, b"k", &pair_bytes());
    assert_eq!(put, [&[1, 0, 0, 0, 1, b'k'][..], &pair_bytes()].concat());
    assert_eq!(StoredEvent::parse(&put), Some(StoredEvent { kind: EventKind::Put, key: b"k", previous: Some(PAIR) }));
    let delete = StoredEvent::bytes_of(EventKind::Delete, b"k", &[]);
    assert_eq!(delete, [0, 0, 0, 0, 1, b'k']);
    assert_eq!(StoredEvent::parse(&delete), Some(StoredEvent { kind: EventKind::Delete, key: b"k", previous: None }));
}

#[test]
fn what_is_no_stored_event_is_refused() {
    let bytes = StoredEvent::bytes_of(EventKind::Put, b"key", &pair_bytes());
    let without_previous = StoredEvent::HEADER_BYTES + 3;
    for length in 0..without_previous + StoredPair::HEADER_BYTES {
        let parsed = StoredEvent::parse(&bytes[..length]);
        assert_eq!(parsed.is_some(), length == without_previous, "{length}");
    }
    let mut other = bytes.clone();
    other[0] = 2;
    assert_eq!(StoredEvent::parse(&other), None);
    assert_eq!(split_event_key(&[0; 11]), None);
    assert_eq!(split_event_key(&[0; 13]), None);
}

#[test]
fn events_lie_in_the_order_of_revision_then_sub() {
    assert_eq!(event_key(258, 7), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 7]);
    assert_eq!(split_event_key(&event_key(258, 7)), Some((258, 7)));
    assert!(event_key(1, u32::MAX) < event_key(2, 0));
    assert!(event_key(2, 0) < event_key(2, 1));
    assert!(event_key(255, 0) < event_key(256, 0));
}
