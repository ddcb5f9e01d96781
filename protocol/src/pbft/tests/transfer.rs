use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_crypto::merkle_map::MerkleMap;

use super::cluster::{Cluster, key, parameters, request};
use crate::engine::{Engine, Input};
use crate::message::Message;
use crate::state::{Snapshot, TableId};
use quorate_crypto::{Digest, ReplicaId, Seq, Statement, StatementBody};

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

/// The power fails while the newest snapshots are not certified and one replica lags: the others come back with those
/// alone, nobody serves the stable state, and without the laggard nothing newer becomes stable.
#[test]
fn a_laggard_follows_what_f_plus_one_vouch_for_when_the_stable_state_is_gone() {
    let mut cluster = Cluster::new(4);
    let laggard = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    for number in 1..=8 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.filter = Box::new(|from, _, message| {
        from != ReplicaId(2)
            || !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_) | Message::Status(_))
    });
    for number in 9..=12 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.stop(2);
    for id in [0, 1] {
        cluster.restart(ReplicaId(id), &parameters());
        let status = cluster.replicas[&ReplicaId(id)].status();
        assert_eq!((status.stable, status.executed), (Seq(8), Seq(12)), "the schedule this test is about");
    }
    cluster.filter = Box::new(|_, _, _| true);
    cluster.replicas.insert(ReplicaId(3), laggard);
    cluster.run(3_000);
    assert_eq!(cluster.executed(3), 12);
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, Seq(12), "with the vote of the laggard");
    let more = request(1, 13);
    cluster.submit(&more);
    cluster.run(300);
    assert!(cluster.has_decided(3, &more));
    assert!(cluster.halts.is_empty());
}

/// f liars that vouch for a state and say that the certified one is gone lead nobody astray.
#[test]
fn rule_p13_what_f_vouch_for_is_not_followed() {
    let mut cluster = Cluster::new(7);
    for (liar, seq) in [(5, 8), (6, 8), (6, 12)] {
        let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([9; 32]) };
        let header = cluster.replicas[&ReplicaId(liar)].header();
        let signed = Statement { body, ..header }.sign(cluster.committee.cluster(), &key(liar));
        cluster.deliver(ReplicaId(liar), ReplicaId(1), Message::Checkpoint(signed));
    }
    let checkpoints = &cluster.replicas[&ReplicaId(1)].checkpoints;
    assert_eq!(checkpoints.vouched(3), None);
    assert_eq!(checkpoints.vouched(2), Some((Seq(8), Digest([9; 32]))), "the votes were heard");
}

/// A question of sixty bytes has the answer of a quarter of a megabyte built: there is a budget for each peer.
#[test]
fn chunks_for_a_greedy_peer_are_bounded_in_bytes() {
    let mut cluster = Cluster::new(4);
    let mut map = MerkleMap::new();
    for entry in 0..400u64 {
        map.insert(&entry.to_be_bytes(), vec![1; 1_000]);
    }
    let snapshot = Snapshot { seq: Seq(4), tables: BTreeMap::from([(TableId(16), map)]) };
    let root = snapshot.header().digest();
    cluster.input(ReplicaId(1), Input::CheckpointStored { snapshot, root });
    let ask = |cluster: &mut Cluster, from: u16| {
        cluster.queue.clear();
        for _ in 0..100 {
            let question = Message::FetchChunk { seq: Seq(4), table: TableId(16), path: vec![] };
            cluster.deliver(ReplicaId(from), ReplicaId(1), question);
        }
        let mine = |to: &ReplicaId| *to == ReplicaId(from);
        cluster.queue.iter().filter(|(_, to, message)| mine(to) && matches!(message, Message::Chunk { .. })).count()
    };
    let answers = ask(&mut cluster, 3);
    assert!((12..=20).contains(&answers), "{answers} chunks in one moment");
    assert_eq!(ask(&mut cluster, 2), answers, "each peer has its own");
    cluster.now.monotonic += 10_000;
    assert_eq!(ask(&mut cluster, 3), answers, "and soon a new one");
}
