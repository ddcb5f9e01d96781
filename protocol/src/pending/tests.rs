use super::*;
use crate::request::SessionId;

fn number(client: u8, number: u64) -> RequestNumber {
    RequestNumber { client: PublicKey([client; 32]), session: SessionId([0; 16]), number }
}

fn digest(client: u8, number: u64) -> Digest {
    let mut bytes = [client; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Digest(bytes)
}

fn admit(pending: &mut Pending, client: u8, which: u64) -> Admission {
    let admission = pending.admission(&digest(client, which), &PublicKey([client; 32]));
    if admission == Admission::Admit {
        pending.admit(digest(client, which), number(client, which), 100, which);
    }
    admission
}

#[test]
fn a_flood_of_one_key_leaves_room_for_every_other() {
    let mut pending = Pending::new(10);
    let admitted = (0..100).filter(|which| admit(&mut pending, 1, *which) == Admission::Admit).count();
    assert_eq!(admitted, 10);
    for client in 2..50 {
        assert_eq!(admit(&mut pending, client, 0), Admission::Admit, "a key with nothing pending is always admitted");
        assert_eq!(admit(&mut pending, client, 1), Admission::Busy);
    }
}

#[test]
fn requests_leave_by_digest_and_by_number() {
    let mut pending = Pending::new(10);
    admit(&mut pending, 1, 1);
    let rival = Digest([0xee; 32]);
    pending.admit(rival, number(1, 1), 100, 0);
    admit(&mut pending, 1, 2);
    let mut gone = pending.ordered(&digest(1, 1), &number(1, 1));
    gone.sort_unstable();
    let mut expected = vec![digest(1, 1), rival];
    expected.sort_unstable();
    assert_eq!(gone, expected);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending.take_batch(10, 1000), [digest(1, 2)]);
}

#[test]
fn batches_keep_the_order_and_the_limits() {
    let mut pending = Pending::new(100);
    for which in 0..10 {
        admit(&mut pending, 1, which);
    }
    assert_eq!(pending.take_batch(3, 10_000).len(), 3);
    assert_eq!(pending.take_batch(100, 250), [digest(1, 3), digest(1, 4)]);
    assert_eq!(pending.take_batch(100, 1), [digest(1, 5)], "the first always fits");
    assert_eq!(pending.len(), 10, "proposed requests stay pending until they execute");
    pending.reset_proposed(|named| *named == digest(1, 0));
    assert_eq!(pending.unproposed(), 9);
}

#[test]
fn each_is_relayed_once_a_stage() {
    let mut pending = Pending::new(100);
    for which in 0..4 {
        admit(&mut pending, 1, which);
    }
    assert_eq!(pending.to_relay(1, Relayed::ToPrimary, 10_000).len(), 2);
    assert!(pending.to_relay(1, Relayed::ToPrimary, 10_000).is_empty());
    assert_eq!(pending.to_relay(3, Relayed::ToAll, 10_000).len(), 4);
    assert!(pending.to_relay(3, Relayed::ToPrimary, 10_000).is_empty());
}

#[test]
fn clearing_forgets_everything() {
    let mut pending = Pending::new(100);
    for which in 0..4 {
        admit(&mut pending, 1, which);
    }
    assert_eq!(pending.clear().len(), 4);
    assert!(pending.is_empty() && pending.unproposed() == 0);
    assert_eq!(admit(&mut pending, 1, 0), Admission::Admit);
}
