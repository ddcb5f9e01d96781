use std::cell::Cell;
use std::rc::Rc;

use quorate_crypto::merkle_map::MerkleMap;

use super::cluster::{Cluster, parameters, request};
use crate::engine::Engine;
use crate::message::Message;
use quorate_crypto::ReplicaId;

fn fall_behind(cluster: &mut Cluster) {
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    for number in 1..=60 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.replicas.insert(ReplicaId(3), sleeper);
}

#[test]
fn a_replica_far_behind_fetches_the_state() {
    let mut cluster = Cluster::new(4);
    fall_behind(&mut cluster);
    cluster.run(1_500);
    assert_eq!(cluster.executed(3), cluster.executed(0));
    assert_eq!(cluster.states[&ReplicaId(3)].digest(), cluster.states[&ReplicaId(0)].digest());
    assert!(!cluster.has_decided(3, &request(1, 1)), "it did not execute what it fetched");
    // From there on it takes part again, restarts included.
    cluster.restart(ReplicaId(3), &parameters());
    let more = request(1, 61);
    cluster.submit(&more);
    cluster.run(300);
    assert!(cluster.has_decided(3, &more));
    assert!(cluster.halts.is_empty());
}

/// Rule P13 (BFT-SMaRt #62): a state is what a certificate names, never what one peer claims.
#[test]
fn rule_p13_a_forged_state_header_is_refused() {
    let mut cluster = Cluster::new(4);
    fall_behind(&mut cluster);
    let forged = Rc::new(Cell::new(0));
    let count = Rc::clone(&forged);
    cluster.tamper = Box::new(move |from, message| {
        if from == ReplicaId(0)
            && let Message::State { header } = message
        {
            header.tables[0].1.0[0] ^= 1;
            count.set(count.get() + 1);
        }
    });
    cluster.run(2_000);
    assert!(forged.get() > 0, "the liar was asked");
    assert_eq!(cluster.executed(3), cluster.executed(1));
    assert_eq!(cluster.states[&ReplicaId(3)].digest(), cluster.states[&ReplicaId(1)].digest());
}

/// Rule P14 (CometBFT ASA-2025-002): a chunk is bound to its place.
#[test]
fn rule_p14_a_chunk_of_another_place_is_refused() {
    let mut cluster = Cluster::new(4);
    fall_behind(&mut cluster);
    // Replica 0 answers every question with a well-formed chunk of another map.
    let mut other = MerkleMap::new();
    other.insert(b"forged", vec![1]);
    let wrong = other.chunk(&[], 1024).expect("a whole map");
    let served = Rc::new(Cell::new(0));
    let count = Rc::clone(&served);
    cluster.tamper = Box::new(move |from, message| {
        if from == ReplicaId(0)
            && let Message::Chunk { chunk, .. } = message
        {
            *chunk = wrong.clone();
            count.set(count.get() + 1);
        }
    });
    cluster.run(3_000);
    assert!(served.get() > 0, "the liar was asked");
    assert_eq!(cluster.executed(3), cluster.executed(1));
    assert_eq!(cluster.states[&ReplicaId(3)].digest(), cluster.states[&ReplicaId(1)].digest());
}

#[test]
fn a_peer_that_serves_nothing_is_passed_over() {
    let mut cluster = Cluster::new(4);
    fall_behind(&mut cluster);
    cluster.filter = Box::new(|from, _, message| {
        from != ReplicaId(0) || !matches!(message, Message::State { .. } | Message::Chunk { .. })
    });
    cluster.run(4_000);
    assert_eq!(cluster.executed(3), cluster.executed(1));
    assert!(!cluster.replicas[&ReplicaId(3)].status().transferring);
}
