use super::*;
use crate::client::role::tests::committee;

/// A watch from revision 10 on, subscribed to four replicas; replica i under the id i + 1.
struct Harness {
    committee: Committee,
    subscription: Subscription,
    accusations: Vec<(ReplicaId, Contradiction)>,
}

impl Harness {
    fn new() -> Harness {
        let operation = Operation { service: 1, bytes: vec![1] };
        let mut subscription = Subscription::new(operation, 10);
        for replica in 0..4 {
            assert_eq!(subscription.due(ReplicaId(replica), 0), Some(10));
            subscription.subscribed(ReplicaId(replica), u64::from(replica) + 1, 10, 0);
        }
        Harness { committee: committee(4), subscription, accusations: Vec::new() }
    }

    fn update(&mut self, from: u16, update: WatchUpdate) -> Vec<Delivery> {
        let mut out = Progressed::default();
        self.subscription.update(ReplicaId(from), u64::from(from) + 1, update, 0, &mut out);
        self.subscription.advance(&self.committee, &mut out);
        self.accusations.extend(out.accusations);
        out.deliveries
    }

    fn events(&mut self, from: u16, revision: u64, text: &str) -> Vec<Delivery> {
        self.update(from, WatchUpdate::Events { revision, events: text.as_bytes().to_vec() })
    }

    fn progress(&mut self, from: u16, revision: u64) -> Vec<Delivery> {
        self.update(from, WatchUpdate::Progress { revision })
    }
}

fn events(revision: u64, text: &str) -> Delivery {
    Delivery::Events { revision, events: text.as_bytes().to_vec() }
}

const LIAR: u16 = 3;

#[test]
fn one_replica_alone_delivers_nothing() {
    let mut watch = Harness::new();
    for revision in 10..20 {
        assert!(watch.events(LIAR, revision, "lie").is_empty());
    }
    assert!(watch.progress(LIAR, 1_000).is_empty());
}

#[test]
fn revisions_come_in_order_and_once() {
    let mut watch = Harness::new();
    assert!(watch.events(0, 10, "a").is_empty());
    assert!(watch.events(0, 11, "b").is_empty());
    assert_eq!(watch.events(1, 10, "a"), [events(10, "a")]);
    assert!(watch.events(2, 10, "a").is_empty(), "never twice");
    assert_eq!(watch.events(2, 11, "b"), [events(11, "b")]);
    assert!(watch.accusations.is_empty());
}

#[test]
fn a_forged_event_is_neither_delivered_nor_in_the_way() {
    let mut watch = Harness::new();
    watch.events(LIAR, 10, "forged");
    watch.events(0, 10, "a");
    assert_eq!(watch.events(1, 10, "a"), [events(10, "a")]);
    assert_eq!(watch.accusations, [(ReplicaId(LIAR), Contradiction::ForgedEvents { revision: 10 })]);
}

#[test]
fn an_event_where_nothing_happened_is_passed_over() {
    let mut watch = Harness::new();
    watch.events(LIAR, 12, "invented");
    assert_eq!(watch.events(0, 14, "a"), [Delivery::Progress { revision: 11 }], "so far even the liar agrees");
    assert_eq!(watch.events(1, 14, "a"), [events(14, "a")]);
    assert_eq!(watch.accusations, [(ReplicaId(LIAR), Contradiction::ForgedEvents { revision: 12 })]);
}

#[test]
fn a_skipped_revision_is_delivered_all_the_same() {
    let mut watch = Harness::new();
    watch.progress(LIAR, 50);
    watch.events(LIAR, 51, "c");
    assert!(watch.events(0, 10, "a").is_empty());
    assert_eq!(watch.events(1, 10, "a"), [events(10, "a")]);
    assert_eq!(watch.accusations, [(ReplicaId(LIAR), Contradiction::SkippedEvents { revision: 10 })]);
}

#[test]
fn a_liar_and_a_laggard_cannot_hide_an_event() {
    let mut watch = Harness::new();
    watch.progress(LIAR, 50);
    // Replica 2 has come to 9 only: it claims nothing about 10.
    assert!(watch.progress(2, 9).is_empty());
    watch.events(0, 10, "a");
    assert_eq!(watch.events(2, 10, "a"), [events(10, "a")]);
}

#[test]
fn a_repeated_revision_is_ignored() {
    let mut watch = Harness::new();
    watch.events(LIAR, 10, "a");
    watch.events(LIAR, 10, "a");
    watch.events(LIAR, 10, "other");
    assert_eq!(watch.accusations, [(ReplicaId(LIAR), Contradiction::RepeatedEvents { revision: 10 })]);
    assert_eq!(watch.events(0, 10, "a"), [events(10, "a")], "its first word stands");
}

#[test]
fn progress_is_delivered_as_far_as_f_plus_one_have_come() {
    let mut watch = Harness::new();
    assert!(watch.progress(0, 30).is_empty());
    assert_eq!(watch.progress(1, 20), [Delivery::Progress { revision: 20 }]);
    assert_eq!(watch.progress(2, 25), [Delivery::Progress { revision: 25 }]);
    assert!(watch.progress(2, 25).is_empty());
}

#[test]
fn a_liar_at_the_end_of_time_changes_nothing() {
    let mut watch = Harness::new();
    watch.progress(LIAR, u64::MAX);
    watch.events(LIAR, u64::MAX, "x");
    assert_eq!(watch.progress(0, 12), [Delivery::Progress { revision: 12 }]);
    watch.events(0, 13, "a");
    assert_eq!(watch.events(1, 13, "a"), [events(13, "a")]);
}

#[test]
fn compaction_needs_f_plus_one_and_tells_what_an_honest_replica_compacted() {
    let mut watch = Harness::new();
    assert!(watch.update(LIAR, WatchUpdate::Compacted { revision: 1_000_000 }).is_empty());
    assert_eq!(watch.update(0, WatchUpdate::Compacted { revision: 40 }), [Delivery::Compacted { revision: 40 }]);
}

#[test]
fn the_end_of_a_subscription_needs_f_plus_one() {
    let mut watch = Harness::new();
    assert!(watch.update(LIAR, WatchUpdate::Ended("x".repeat(10_000))).is_empty());
    let ended = watch.update(0, WatchUpdate::Ended("not permitted".to_owned()));
    let [Delivery::Ended { reason }] = &ended[..] else { panic!("{ended:?}") };
    assert!(reason.len() <= REASON_CHARACTERS_MAX);
}

#[test]
fn a_flood_of_revisions_hits_the_cap() {
    let mut watch = Harness::new();
    let mut revision = 10;
    while !watch.subscription.is_too_far_ahead(ReplicaId(LIAR)) {
        watch.events(LIAR, revision, "");
        revision += 1;
        assert!(revision < 10_000, "there is no cap");
    }
    assert_eq!(revision as usize, 10 + AHEAD_REVISIONS_MAX + 1);
    watch.subscription.pause(ReplicaId(LIAR));
    assert_eq!(watch.subscription.due(ReplicaId(LIAR), 0), None, "not before half of it is delivered or contradicted");
    assert_eq!(watch.subscription.wake(&BTreeSet::from([ReplicaId(LIAR)])), None);
}
