//! A replica whose disk is gone comes back without ever contradicting its old self.

use quorate_crypto::{Incarnation, ReplicaId, Seq, Signed};

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
fn full_window(is_store_slow: bool) -> Cluster {
    let mut cluster = Cluster::new(4);
    let is_checkpoint = |message: &Message| matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_));
    cluster.filter = Box::new(move |_, _, message| !is_checkpoint(message));
    let last = parameters().window;
    for number in 1..last {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    cluster.slow_store = is_store_slow.then_some(ReplicaId(0));
    cluster.wipe(0, &parameters());
    cluster.run(4_000);
    assert!(rejoined(&cluster, 0, 1));
    assert_eq!((0..4).map(|id| cluster.executed(id)).collect::<Vec<_>>(), [last; 4], "the window is full");
    assert!((0..4).all(|id| cluster.replicas[&ReplicaId(id)].status().stable == Seq(0)));
    cluster
}

/// CHECKPOINTs about `seq` of replica 0 in life 1.
fn vouched(cluster: &Cluster, seq: Seq) -> usize {
    let is_one = |signed: &&Signed| {
        let about = crate::checkpoint::parts(signed.body()).is_some_and(|(about, _)| about == seq);
        about && signed.statement.incarnation == Incarnation(1)
    };
    cluster.said[&ReplicaId(0)].iter().filter(is_one).count()
}

#[test]
fn a_new_life_vouches_for_the_checkpoint_that_opens_the_window_of_its_rejoin() {
    for is_store_slow in [false, true] {
        let mut cluster = full_window(is_store_slow);
        let last = Seq(parameters().window);
        assert_eq!(vouched(&cluster, last) == 0, is_store_slow);
        cluster.store_last();
        cluster.settle();
        assert!(vouched(&cluster, last) > 0, "slow store {is_store_slow}");
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
}

/// A restart finds it again: nothing new is signed, and what peers hand back is known.
#[test]
fn a_new_life_knows_after_a_restart_what_it_vouched_for_below_its_rejoin() {
    let mut cluster = full_window(false);
    let own = |cluster: &Cluster| {
        let last = Seq(parameters().window);
        cluster.replicas[&ReplicaId(0)].foundation.checkpoints.own(last).copied()
    };
    let before = own(&cluster).expect("it vouched");
    // Those that hold the others' votes have a certificate of it, and replica 0 has not.
    cluster.filter = Box::new(|_, to, _| to != ReplicaId(0));
    cluster.run(2_000);
    cluster.restart(ReplicaId(0), &parameters());
    assert_eq!(own(&cluster), Some(before));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.link(ReplicaId(0));
    cluster.run(2_000);
    assert!(rejoined(&cluster, 0, 1), "no second Rejoin");
    assert!((0..4).all(|id| cluster.replicas[&ReplicaId(id)].status().stable == Seq(parameters().window)));
    cluster.assert_no_contradiction();
}

/// What is certified already the new life does not vouch for: what it said of that before it was repaired may differ.
#[test]
fn a_new_life_says_nothing_about_what_is_certified_already() {
    let mut cluster = full_window(true);
    cluster.filter = Box::new(|_, to, message| to == ReplicaId(0) || !matches!(message, Message::Checkpoint(_)));
    let last = Seq(parameters().window);
    let votes: Vec<Signed> = [1, 2, 3]
        .iter()
        .filter_map(|id| cluster.replicas[&ReplicaId(*id)].foundation.checkpoints.own(last).copied())
        .collect();
    for vote in votes {
        cluster.deliver(vote.signer(), ReplicaId(0), Message::Checkpoint(vote));
    }
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, last);
    cluster.store_last();
    cluster.settle();
    assert_eq!(vouched(&cluster, last), 0);
    assert!(cluster.halts.is_empty());
}
