use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::cluster::{Cluster, request};
use crate::engine::{Departure, Engine};
use crate::message::Message;
use quorate_crypto::{ReplicaId, View};

#[test]
fn a_dead_primary_is_replaced() {
    for n in [4, 5, 6, 7] {
        let mut cluster = Cluster::new(n);
        cluster.submit(&request(1, 1));
        cluster.settle();
        cluster.stop(0);
        let request = request(1, 2);
        cluster.submit(&request);
        cluster.run(600);
        for id in 1..n {
            assert!(cluster.has_decided(id, &request), "n = {n}, replica {id}");
            assert_eq!(cluster.view(id), 1);
        }
        cluster.assert_agreement();
    }
}

#[test]
fn two_dead_primaries_in_a_row_are_replaced() {
    let mut cluster = Cluster::new(7);
    cluster.stop(0);
    cluster.stop(1);
    let request = request(1, 1);
    cluster.submit(&request);
    cluster.run(1_500);
    for id in 2..7 {
        assert!(cluster.has_decided(id, &request));
        assert_eq!(cluster.view(id), 2);
    }
}

/// Castro and Liskov 1999, section 4.4: what was prepared is carried over, even if nobody decided it.
#[test]
fn a_prepared_batch_survives_the_view_change() {
    let mut cluster = Cluster::new(4);
    let first = request(1, 1);
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Commit(_)));
    cluster.submit(&first);
    cluster.settle();
    assert!(!cluster.has_decided(1, &first));
    let digest = cluster.replicas[&ReplicaId(1)].slots.values().next().and_then(|slot| slot.prepared.clone());
    assert!(digest.is_some(), "prepared at replica 1");
    cluster.stop(0);
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(1_000);
    for id in 1..4 {
        assert!(cluster.has_decided(id, &first));
    }
    let place = cluster.decided[&ReplicaId(1)].iter().find(|(_, decided)| !decided.requests.is_empty());
    assert_eq!(place.map(|(seq, _)| seq.0), Some(1), "it kept its number");
    cluster.assert_agreement();
}

/// Rule P4 (besu #1734): a VIEW-CHANGE sent after deciding n still carries n's certificate.
#[test]
fn rule_p4_a_decided_number_stays_in_the_view_change() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    // Only replica 1 hears COMMITs: it alone decides.
    cluster.filter = Box::new(|_, to, message| to == ReplicaId(1) || !matches!(message, Message::Commit(_)));
    cluster.submit(&request);
    cluster.settle();
    assert!(cluster.has_decided(1, &request));
    let now = cluster.now;
    let replica = cluster.replicas.get_mut(&ReplicaId(1)).expect("runs");
    replica.start_view_change(now, View(1), Departure::TimerExpired);
    let message = replica.own_view_change.clone().expect("sent");
    assert_eq!(message.body().slots.len(), 1, "the decided number is proven");
    assert_eq!(message.body().slots[0].ballot().seq.0, 1);
}

/// Rule P5 (concord-bft PR #50): an invalid VIEW-CHANGE never hides valid ones.
#[test]
fn rule_p5_an_invalid_view_change_hides_nothing() {
    let mut cluster = Cluster::new(7);
    cluster.stop(0);
    let request = request(1, 1);
    // Replica 6 sends nothing but VIEW-CHANGEs with a broken signature.
    let broken = Rc::new(Cell::new(0));
    let count = Rc::clone(&broken);
    cluster.tamper = Box::new(move |from, message| {
        if from == ReplicaId(6)
            && let Message::ViewChange(message) = message
        {
            message.signed.signature.0[3] ^= 1;
            count.set(count.get() + 1);
        }
    });
    cluster.submit(&request);
    cluster.run(2_000);
    assert!(broken.get() > 0);
    for id in 1..6 {
        assert!(cluster.has_decided(id, &request));
    }
}

/// Rule P7 (fabric #1917): losing every VIEW-CHANGE and NEW-VIEW for a while never halts for good.
#[test]
fn rule_p7_losing_every_view_change_for_a_while_never_halts() {
    let mut cluster = Cluster::new(4);
    cluster.stop(0);
    let request = request(1, 1);
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::ViewChange(_) | Message::NewView(_)));
    cluster.submit(&request);
    cluster.run(3_000);
    assert!(!cluster.has_decided(1, &request));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(3_000);
    for id in 1..4 {
        assert!(cluster.has_decided(id, &request));
    }
}

#[test]
fn a_lone_replica_never_runs_ahead() {
    let mut cluster = Cluster::new(4);
    // Replica 3 hears nobody and has a request of its own.
    cluster.filter = Box::new(|from, to, _| from != ReplicaId(3) && to != ReplicaId(3));
    cluster.submit_to(3, &request(1, 1));
    cluster.run(20_000);
    assert_eq!(cluster.view(3), 1, "it asks for the next view and waits there");
    cluster.filter = Box::new(|_, _, _| true);
    let second = request(2, 1);
    cluster.submit(&second);
    cluster.run(500);
    for id in 0..4 {
        assert!(cluster.has_decided(id, &second), "replica {id}");
    }
    for id in 0..3 {
        assert_eq!(cluster.view(id), 0, "nobody follows a single replica");
    }
}

/// Rule P11 (BFT-SMaRt #19, #27): a replica that slept catches up and starts no storm.
#[test]
fn rule_p11_a_paused_replica_catches_up_without_a_storm() {
    let mut cluster = Cluster::new(4);
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    for number in 1..=40 {
        cluster.submit(&request(1, number));
        cluster.run(5);
    }
    cluster.replicas.insert(ReplicaId(3), sleeper);
    // It wakes with a request that was pending when it fell asleep.
    cluster.submit_to(3, &request(1, 1));
    cluster.run(60_000 / 50);
    assert_eq!(cluster.executed(3), cluster.executed(0));
    for id in 0..4 {
        assert_eq!(cluster.view(id), 0);
    }
    assert_eq!(cluster.replicas[&ReplicaId(3)].status().view_changes, 0, "it asked for no view change");
    cluster.assert_agreement();
}

#[test]
fn a_new_view_whose_view_changes_were_lost_is_completed_by_fetching() {
    let mut cluster = Cluster::new(4);
    cluster.stop(0);
    let request = request(1, 1);
    // Replica 3 hears no VIEW-CHANGE until it asks for them by digest.
    let mut asked = false;
    cluster.filter = Box::new(move |from, to, message| {
        asked |= from == ReplicaId(3) && matches!(message, Message::FetchViewChange { .. });
        !(to == ReplicaId(3) && matches!(message, Message::ViewChange(_)) && !asked)
    });
    cluster.submit(&request);
    cluster.run(1_500);
    assert!(cluster.has_decided(3, &request));
    assert_eq!(cluster.view(3), cluster.view(1));
}

/// A cluster whose primary's every PRE-PREPARE reaches `late_for` a tenth of a second late, under one client.
fn with_late_proposals(late_for: &[u16]) -> Cluster {
    let mut cluster = Cluster::new(4);
    let mut seen = BTreeSet::new();
    let backups = late_for.to_vec();
    // What is lost at first is sent again when STATUS shows that it lacks, a tenth of a second later.
    cluster.filter = Box::new(move |from, to, message| match message {
        Message::PrePrepare(message) if from == ReplicaId(0) && backups.contains(&to.0) => {
            !seen.insert((to, message.signed.signature.0))
        }
        _ => true,
    });
    for number in 1..=40 {
        let request = request(1, number);
        cluster.submit(&request);
        for _ in 0..40 {
            if cluster.has_decided(1, &request) && cluster.has_decided(2, &request) {
                break;
            }
            cluster.run(10);
        }
    }
    cluster.assert_agreement();
    cluster
}

/// A primary whose every proposal comes late, but never so late that a timer fires, is left for the next one; also if it
/// is prompt to as many as it can be and still be slow.
#[test]
fn a_primary_that_is_merely_slow_is_left() {
    for late_for in [&[1, 2, 3][..], &[2, 3]] {
        let cluster = with_late_proposals(late_for);
        let views: Vec<u64> = (1..4).map(|id| cluster.view(id)).collect();
        assert!(views.iter().all(|view| *view > 0), "late for {late_for:?}: {views:?}");
    }
}

#[test]
fn one_replicas_opinion_of_its_primary_moves_nobody() {
    let cluster = with_late_proposals(&[1]);
    let views: Vec<u64> = (1..4).map(|id| cluster.view(id)).collect();
    assert_eq!(views, [0, 0, 0]);
}

/// Its timer alone fired, and nobody has a reason to follow it: what only it has pending is ordered all the same.
#[test]
fn requests_that_only_a_lone_replica_in_a_view_change_holds_are_executed() {
    let mut cluster = Cluster::new(4);
    let alone = ReplicaId(3);
    cluster.filter = Box::new(move |from, to, _| from != alone && to != alone);
    cluster.submit_to(3, &request(1, 1));
    cluster.run(500);
    assert_eq!((cluster.view(0), cluster.view(3)), (0, 1));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.submit_to(3, &request(2, 1));
    cluster.run(1_500);
    for id in 0..4 {
        assert!(cluster.has_decided(id, &request(1, 1)), "replica {id} lacks what was lost before");
        assert!(cluster.has_decided(id, &request(2, 1)), "replica {id} lacks what came afterwards");
    }
    assert_eq!(cluster.replicas[&alone].status().pending, 0);
    cluster.assert_agreement();
}
