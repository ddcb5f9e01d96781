//! Laggards: by blocks while the others keep them, by state beyond that.

use quorate_crypto::{ReplicaId, Seq};

use super::cluster::{Cluster, parameters, request};

fn cut_off(cluster: &mut Cluster, id: u16) {
    cluster.filter = Box::new(move |from, to, _| from != ReplicaId(id) && to != ReplicaId(id));
}

fn work(cluster: &mut Cluster, client: u8, count: u64) {
    for number in 1..=count {
        cluster.submit(&request(client, number));
        cluster.settle();
        cluster.run(10);
    }
    cluster.run(2_000);
}

#[test]
fn a_laggard_catches_up_by_blocks() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.run(700);
    }
    let there = cluster.executed(0);
    assert!(there >= 4 && cluster.executed(2) == 0);
    cluster.filter = Box::new(|_, _, _| true);
    cluster.sent.clear();
    cluster.run(1_500);
    assert_eq!(cluster.executed(2), there);
    assert!(cluster.sent.contains_key("blocks") && !cluster.sent.contains_key("chunk"), "{:?}", cluster.sent);
    cluster.assert_agreement();
}

#[test]
fn a_laggard_beyond_what_others_keep_fetches_the_state_and_goes_on() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    for client in 1..=8 {
        work(&mut cluster, client, 9);
    }
    let there = cluster.executed(0);
    assert!(there > 40, "{there}");
    cluster.filter = Box::new(|_, _, _| true);
    cluster.sent.clear();
    cluster.run(3_000);
    assert_eq!(cluster.executed(2), there, "{:?}", cluster.sent);
    assert!(cluster.sent.contains_key("chunk"), "{:?}", cluster.sent);
    // It takes part again: without another it is needed for a quorum.
    cluster.stop(0);
    cluster.submit(&request(20, 1));
    cluster.run(20_000);
    assert!((1..4).all(|id| cluster.has_decided(id, &request(20, 1))), "{:?}", cluster.sent);
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// A state that was fetched, and a restart right after it: the tree finds its root again.
#[test]
fn a_restart_after_a_fetched_state_goes_on_from_it() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    for client in 1..=8 {
        work(&mut cluster, client, 9);
    }
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(1_000);
    cluster.restart(ReplicaId(2), &parameters());
    cluster.run(2_000);
    assert_eq!(cluster.executed(2), cluster.executed(0));
    cluster.submit(&request(20, 1));
    cluster.run(1_000);
    assert!(cluster.has_decided(2, &request(20, 1)));
    let status = cluster.replicas[&ReplicaId(2)].own_status();
    assert!(status.committed >= Seq(40));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// Rule P11: who was paused or cut off comes back without a storm.
#[test]
fn catching_up_takes_few_messages() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    work(&mut cluster, 1, 8);
    cluster.filter = Box::new(|_, _, _| true);
    cluster.sent.clear();
    cluster.run(1_500);
    let total: u64 = cluster.sent.values().sum();
    assert!(total < 150, "{:?}", cluster.sent);
}

/// A laggard while the others go on under load.
#[test]
fn a_laggard_catches_up_while_others_go_on() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 1);
    work(&mut cluster, 1, 9);
    cluster.filter = Box::new(|_, _, _| true);
    for client in 2..=20 {
        for number in 1..=4 {
            cluster.submit(&request(client, number));
            cluster.settle();
        }
        cluster.run(20);
    }
    cluster.run(1_500);
    assert_eq!(cluster.executed(1), cluster.executed(0));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}
