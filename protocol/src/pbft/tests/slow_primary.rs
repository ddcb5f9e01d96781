//! Attacks on what makes a backup leave its primary: the view timer, relays, the monitor; and what must not make it.

use super::cluster::{Cluster, request};
use crate::engine::Engine;
use crate::message::Message;
use quorate_crypto::{ReplicaId, Seq};

/// `from` tells `to` that it has executed up to `executed`.
fn claim(cluster: &mut Cluster, from: u16, to: u16, executed: u64) {
    let mut status = cluster.replicas[&ReplicaId(from)].own_status();
    status.executed = Seq(executed);
    cluster.deliver(ReplicaId(from), ReplicaId(to), Message::Status(status));
}

/// The primary lies that it is far ahead, so one honest peer that is a moment ahead makes a backup fall behind. One backup
/// after the other is left behind just before its timer runs out, and for so long only that STATUS says so.
#[test]
fn leaving_one_backup_after_the_other_behind_stops_no_timer_for_good() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    for backup in 1..4 {
        cluster.submit_to(backup, &request(1, 1));
    }
    let mut left = 0;
    for round in 0..12u16 {
        for backup in 1..4 {
            claim(&mut cluster, 0, backup, 1_000);
        }
        let behind = 1 + round % 3;
        let ahead = 1 + (behind % 3);
        claim(&mut cluster, ahead, behind, 1);
        cluster.run(20);
        claim(&mut cluster, ahead, behind, 0);
        cluster.run(70);
        left = (1..4).filter(|id| cluster.view(*id) > 0).count();
    }
    assert_eq!(left, 3, "each backup's timer ran most of the time");
}

/// The time a replica spends behind does not count, and its timer does not fire meanwhile.
#[test]
fn a_timer_stands_still_while_its_replica_is_behind() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit_to(1, &request(1, 1));
    cluster.run(250);
    for peer in [0, 2] {
        claim(&mut cluster, peer, 1, 5);
    }
    cluster.run(2_000);
    assert_eq!(cluster.view(1), 0, "its delay is its own");
    let wake = cluster.replicas[&ReplicaId(1)].wake().expect("STATUS is due");
    assert!(wake > cluster.now.monotonic, "a timer that stands still wakes nobody");
    claim(&mut cluster, 2, 1, 0);
    cluster.run(20);
    assert_eq!(cluster.view(1), 0, "what was left of its patience is left");
    cluster.run(30);
    assert_eq!(cluster.view(1), 1, "and no more than that");
}

/// What waits is relayed while its replica is behind as well.
#[test]
fn a_replica_that_is_behind_relays_what_waits() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|from, to, message| match message {
        Message::Requests(_) => true,
        _ => from != ReplicaId(1) && to != ReplicaId(1),
    });
    for peer in [0, 2] {
        claim(&mut cluster, peer, 1, 5);
    }
    let waiting = request(1, 1);
    cluster.submit_to(1, &waiting);
    cluster.run(300);
    assert!(cluster.has_decided(2, &waiting));
}
