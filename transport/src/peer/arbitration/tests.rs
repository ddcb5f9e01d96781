use super::*;

const LOW: ReplicaId = ReplicaId(1);
const HIGH: ReplicaId = ReplicaId(2);

fn origin(instance: u64, dialler: ReplicaId) -> Origin {
    Origin { instance, dialler }
}

#[test]
fn simultaneous_dials_settle_on_one_link_whatever_the_order() {
    let (low, high) = (origin(7, LOW), origin(7, HIGH));
    assert_eq!(arbitrate(high, low), Choice::ReplaceLive);
    assert_eq!(arbitrate(low, high), Choice::Spare);
}

#[test]
fn a_restarted_process_replaces_whatever_was() {
    for old in [LOW, HIGH] {
        for new in [LOW, HIGH] {
            assert_eq!(arbitrate(origin(7, old), origin(8, new)), Choice::ReplaceDead);
        }
    }
}

#[test]
fn the_newer_of_one_diallers_links_is_used() {
    for dialler in [LOW, HIGH] {
        assert_eq!(arbitrate(origin(7, dialler), origin(7, dialler)), Choice::ReplaceLive);
    }
}
