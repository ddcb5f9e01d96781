//! A replica whose disk is gone comes back without ever contradicting its old self.

use quorate_crypto::{Incarnation, ReplicaId, Seq};

use super::cluster::{Cluster, parameters, request};
use crate::engine::Engine as _;
use crate::message::Message;

fn rejoined(cluster: &Cluster, id: u16, life: u32) -> bool {
    let status = cluster.replicas[&ReplicaId(id)].status();
    !status.rejoining && status.incarnation == Incarnation(life) && !cluster.untrusted.contains(&ReplicaId(id))
}

#[test]
fn a_wiped_replica_comes_back_in_a_new_life() {
    let mut cluster = Cluster::new(4);
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    cluster.wipe(2, &parameters());
    cluster.run(4_000);
    assert!(rejoined(&cluster, 2, 1), "{:?}", cluster.replicas[&ReplicaId(2)].status());
    // It takes part: without another it is needed for a quorum.
    cluster.stop(0);
    for number in 7..=9 {
        cluster.submit(&request(1, number));
        cluster.run(2_500);
    }
    assert!((1..4).all(|id| (7..=9).all(|number| cluster.has_decided(id, &request(1, number)))));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

#[test]
fn a_wiped_replica_comes_back_after_fetching_a_state() {
    let mut cluster = Cluster::new(4);
    for client in 1..=6 {
        for number in 1..=9 {
            cluster.submit(&request(client, number));
            cluster.run(10);
        }
    }
    cluster.wipe(1, &parameters());
    cluster.run(5_000);
    assert!(rejoined(&cluster, 1, 1), "{:?}", cluster.replicas[&ReplicaId(1)].status());
    cluster.restart(ReplicaId(1), &parameters());
    cluster.run(1_000);
    assert!(rejoined(&cluster, 1, 1), "the new life outlives a restart");
    cluster.stop(3);
    cluster.submit(&request(20, 1));
    cluster.run(4_000);
    assert!((0..3).all(|id| cluster.has_decided(id, &request(20, 1))));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

#[test]
fn a_second_wipe_makes_a_third_life() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    for life in 1..=2 {
        cluster.wipe(3, &parameters());
        cluster.run(20_000);
        assert!(rejoined(&cluster, 3, life), "life {life}");
    }
    cluster.submit(&request(1, 2));
    cluster.run(1_000);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 2))));
    cluster.assert_no_contradiction();
}

/// A log that is not the newest: others hand back what it lacks, and it rejoins.
#[test]
fn an_older_log_is_found_out_and_rejoins() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    let old = cluster.records[&ReplicaId(2)].clone();
    for number in 2..=3 {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    cluster.records.insert(ReplicaId(2), old);
    cluster.restart(ReplicaId(2), &parameters());
    cluster.link(ReplicaId(2));
    cluster.settle();
    assert!(cluster.untrusted.contains(&ReplicaId(2)), "it found out");
    cluster.run(4_000);
    assert!(rejoined(&cluster, 2, 1));
    cluster.assert_no_contradiction();
}

/// While it rejoins a replica signs nothing else.
#[test]
fn who_rejoins_says_nothing_in_its_own_name() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    let before = cluster.said[&ReplicaId(2)].len();
    cluster.filter = Box::new(|from, _, message| from != ReplicaId(2) || !matches!(message, Message::Requests(_)));
    cluster.wipe(2, &parameters());
    for number in 2..=6 {
        cluster.submit(&request(1, number));
        cluster.run(500);
    }
    assert_eq!(cluster.said[&ReplicaId(2)].len(), before);
    assert!([0, 1, 3].iter().all(|id| cluster.has_decided(*id, &request(1, 6))));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(3_000);
    assert!(rejoined(&cluster, 2, 1));
}

/// The trust mark must not precede the snapshot that the new life stands on (the cluster looks at every mark).
#[test]
fn a_log_is_trusted_once_the_fetched_state_is_durable() {
    let mut cluster = Cluster::new(4);
    for client in 1..=6 {
        for number in 1..=9 {
            cluster.submit(&request(client, number));
            cluster.run(10);
        }
    }
    cluster.slow_store = Some(ReplicaId(1));
    cluster.wipe(1, &parameters());
    cluster.run(5_000);
    assert!(!rejoined(&cluster, 1, 1), "the snapshot is not durable");
    assert!(cluster.replicas[&ReplicaId(1)].foundation.executed.0 > 40, "and the state has been fetched");
    // A crash takes the state, and the log is still one that tells nothing.
    cluster.restart(ReplicaId(1), &parameters());
    assert!(cluster.untrusted.contains(&ReplicaId(1)));
    for number in 1..=30 {
        cluster.submit(&request(30, number));
        cluster.run(400);
    }
    assert!(rejoined(&cluster, 1, 1) || rejoined(&cluster, 1, 2), "the next snapshot made it durable");
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// The Rejoin took the last number of the window, and the checkpoint there lacks one vote: that of the new life.
#[test]
fn a_new_life_vouches_for_the_checkpoint_that_opens_the_window_of_its_rejoin() {
    let mut cluster = Cluster::new(4);
    let is_checkpoint = |message: &Message| matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_));
    cluster.filter = Box::new(move |_, _, message| !is_checkpoint(message));
    let last = parameters().window;
    for number in 1..last {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    cluster.wipe(0, &parameters());
    cluster.run(4_000);
    assert!(rejoined(&cluster, 0, 1));
    assert_eq!((0..4).map(|id| cluster.executed(id)).collect::<Vec<_>>(), [last; 4], "the window is full");
    assert!((0..4).all(|id| cluster.replicas[&ReplicaId(id)].status().stable == Seq(0)));
    cluster.wipe(3, &parameters());
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(10_000);
    assert!(rejoined(&cluster, 3, 1), "{:?}", cluster.replicas[&ReplicaId(3)].status());
    cluster.submit(&request(2, 1));
    cluster.run(1_000);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(2, 1))));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}
