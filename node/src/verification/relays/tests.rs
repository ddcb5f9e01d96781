use std::ops::Range;

use super::super::Item;
use super::super::tests::request_of;
use super::*;

const FRAME_BYTES_MAX: usize = 1 << 20;

fn frame_of(numbers: Range<u64>) -> Bytes {
    let request = |number| match request_of(number, false) {
        Item::Request(request) => request,
        Item::Message(_) => unreachable!(),
    };
    Bytes::from(encode(&Message::Requests(numbers.map(request).collect())))
}

fn numbers(part: &Part<()>) -> Vec<u64> {
    part.requests.iter().map(|request| request.content().number).collect()
}

fn turn(relays: &mut Relays<()>) -> Vec<Part<()>> {
    let mut refused = Vec::new();
    let taken = relays.take_turns(&mut refused);
    assert_eq!(refused, []);
    taken
}

/// A frame may hold thousands of requests, and a peer has room for many frames: the votes of others, which are verified
/// between any two passes, wait for a few of them only, and so do other peers' requests.
#[test]
fn a_flood_of_relayed_requests_does_not_hold_up_others() {
    let flood = 4 * RELAYED_PER_PASS as u64;
    let mut relays = Relays::new(FRAME_BYTES_MAX);
    relays.push(ReplicaId(3), frame_of(0..flood), ());
    relays.push(ReplicaId(3), frame_of(flood..flood + 1), ());
    relays.push(ReplicaId(1), frame_of(1_000..1_002), ());
    let taken = turn(&mut relays);
    let of = |id: u16| taken.iter().filter(|part| part.from == ReplicaId(id)).collect::<Vec<_>>();
    assert_eq!(of(3).len(), 1);
    assert_eq!(of(3)[0].requests.len(), RELAYED_PER_PASS);
    assert_eq!(numbers(of(1)[0]), [1_000, 1_001]);
    // Everything comes in its order, and each part knows where in its frame it stands.
    let mut seen = numbers(of(3)[0]);
    while !relays.is_empty() {
        for part in turn(&mut relays) {
            assert_eq!(part.requests[0].content().number % flood, part.first as u64);
            seen.extend(numbers(&part));
        }
    }
    assert_eq!(seen, (0..=flood).collect::<Vec<_>>());
}

/// What waits takes the room it has on the wire: only the frame whose turn it is is decoded.
#[test]
fn only_the_first_frame_of_a_peer_is_decoded() {
    let mut relays = Relays::new(FRAME_BYTES_MAX);
    for start in 0..10 {
        relays.push(ReplicaId(1), frame_of(100 * start..100 * (start + 1)), ());
    }
    let open =
        |relays: &Relays<()>| relays.waiting[&ReplicaId(1)].iter().filter(|relay| relay.requests.is_some()).count();
    assert_eq!(open(&relays), 0);
    for _ in 0..10 {
        turn(&mut relays);
        assert!(open(&relays) <= 1);
    }
}

/// A frame that does not decode costs its peer a strike, and the frames behind it and of others nothing.
#[test]
fn what_does_not_decode_is_told_and_holds_nobody_up() {
    let mut relays = Relays::new(FRAME_BYTES_MAX);
    let whole = frame_of(0..3);
    assert!(relays.takes(&whole));
    assert!(!relays.takes(&encode(&Message::FetchRequests(Vec::new()))) && !relays.takes(&[]));
    relays.push(ReplicaId(2), whole.slice(..whole.len() - 1), ());
    relays.push(ReplicaId(2), Bytes::from([&whole[..], &[0]].concat()), ());
    relays.push(ReplicaId(2), whole.clone(), ());
    relays.push(ReplicaId(3), whole, ());
    let mut refused = Vec::new();
    let taken = relays.take_turns(&mut refused);
    assert_eq!(refused.iter().map(|(from, _)| *from).collect::<Vec<_>>(), [ReplicaId(2), ReplicaId(2)]);
    assert_eq!(
        taken.iter().map(|part| (part.from, numbers(part))).collect::<Vec<_>>(),
        [(ReplicaId(2), vec![0, 1, 2]), (ReplicaId(3), vec![0, 1, 2])]
    );
    assert!(relays.is_empty());
    for _ in 0..10 {
        relays.push(ReplicaId(2), Bytes::from_static(&[0; 3]), ());
    }
    relays.take_turns(&mut Vec::new());
    assert_eq!(relays.waiting[&ReplicaId(2)].len(), 6, "a few a pass");
}

/// A frame that names no request, or too many, ends as soon as it is looked at.
#[test]
fn an_empty_frame_is_nothing_and_one_with_too_many_is_refused() {
    let mut relays = Relays::new(16 << 20);
    relays.push(ReplicaId(1), frame_of(0..0), ());
    assert!(turn(&mut relays).is_empty() && relays.is_empty());
    for _ in 0..3 * RELAYED_PER_PASS {
        relays.push(ReplicaId(1), frame_of(0..0), ());
    }
    turn(&mut relays);
    assert_eq!(relays.waiting[&ReplicaId(1)].len(), 2 * RELAYED_PER_PASS, "they take places");
    relays.forget(|_| true);
    relays.push(ReplicaId(1), frame_of(0..REQUESTS_MAX as u64 + 1), ());
    let mut refused = Vec::new();
    assert!(relays.take_turns(&mut refused).is_empty());
    assert_eq!(refused.len(), 1);
}
