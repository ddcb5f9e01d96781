use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_crypto::merkle_map::MerkleMap;

use super::cluster::{Cluster, key, parameters, request};
use crate::checkpoint::parts;
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

/// Simulator, seed 15024: each proposal that a laggard saw go by made room for one more request on a peer's word.
#[test]
fn a_replica_that_has_to_fetch_the_state_takes_no_requests_on_a_peers_word() {
    let mut shared = parameters();
    shared.pending_requests_max = 1;
    let relay = |cluster: &mut Cluster, number: u64| {
        let requests = vec![cluster.verified(&request(1, number))];
        cluster.input(ReplicaId(3), Input::Requests { from: Some(ReplicaId(0)), requests });
        cluster.replicas[&ReplicaId(3)].status().pending
    };
    let mut cluster = Cluster::with_parameters(4, shared);
    assert_eq!((relay(&mut cluster, 100), relay(&mut cluster, 101)), (1, 2), "one beyond its client's share");
    fall_behind(&mut cluster);
    cluster.filter = Box::new(|_, to, message| {
        to != ReplicaId(3) || !matches!(message, Message::State { .. } | Message::Chunk { .. })
    });
    cluster.run(500);
    let status = cluster.replicas[&ReplicaId(3)].status();
    assert!(status.stable > status.executed, "{status:?}");
    assert_eq!(relay(&mut cluster, 102), 2);
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

/// A laggard can fetch no state but the stable one, and without it no newer checkpoint may ever become stable: whoever holds
/// the stable one keeps it, however many newer ones it takes.
#[test]
fn the_stable_state_can_be_fetched_until_a_newer_one_is_stable() {
    let mut cluster = Cluster::new(4);
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    let submit = |cluster: &mut Cluster, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            cluster.submit(&request(1, number));
            cluster.settle();
        }
    };
    submit(&mut cluster, 1..=20);
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, Seq(20));
    // Three more checkpoints, of which none becomes stable.
    cluster.filter =
        Box::new(|_, _, message| !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_)));
    submit(&mut cluster, 21..=32);
    assert_eq!((cluster.executed(0), cluster.executed(2)), (32, 32));
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, Seq(20));
    // From here on the laggard's vote is needed for every quorum.
    cluster.stop(1);
    cluster.replicas.insert(ReplicaId(3), sleeper);
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(6_000);
    assert_eq!(cluster.executed(3), 32);
    assert_eq!(cluster.states[&ReplicaId(3)].digest(), cluster.states[&ReplicaId(0)].digest());
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, Seq(32));
    assert!(cluster.halts.is_empty());
}

/// The same, but whoever held the stable state restarted, and serves its newest one only: f + 1 vouch for that.
#[test]
fn a_state_that_f_plus_one_vouch_for_can_be_fetched_when_the_stable_one_is_gone() {
    let mut cluster = Cluster::new(4);
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    for number in 1..=32 {
        if number == 21 {
            cluster.filter =
                Box::new(|_, _, message| !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_)));
        }
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    for id in [0, 2] {
        cluster.restart(ReplicaId(id), &parameters());
        let status = cluster.replicas[&ReplicaId(id)].status();
        assert_eq!((status.stable, status.executed), (Seq(20), Seq(32)));
    }
    cluster.stop(1);
    // The state it asks for first is the certified one, and of the one that a single replica vouches for it wants nothing.
    let wanted = Rc::new(Cell::new(Seq(0)));
    let asked = Rc::clone(&wanted);
    cluster.replicas.insert(ReplicaId(3), sleeper);
    cluster.filter = Box::new(move |from, to, message| {
        if let (ReplicaId(3), Message::FetchState { seq }) = (from, message) {
            asked.set(asked.get().max(*seq));
        }
        (from, to) != (ReplicaId(2), ReplicaId(3)) || !matches!(message, Message::Checkpoint(_))
    });
    cluster.run(3_000);
    assert_eq!((wanted.get(), cluster.executed(3)), (Seq(20), 0));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(3_000);
    assert_eq!(cluster.executed(3), 32);
    assert_eq!(cluster.states[&ReplicaId(3)].digest(), cluster.states[&ReplicaId(0)].digest());
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, Seq(32));
    assert!(cluster.halts.is_empty());
}

/// A replica on its way back looks at the stable checkpoint, which it holds although it has taken a newer one meanwhile.
#[test]
fn a_wiped_replica_that_is_ahead_of_the_stable_checkpoint_comes_back() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    // The Rejoin is number 2 and the window 16, so what counts is the checkpoint at 20. Replica 3 hears of that one late, and
    // nobody ever of a later one.
    let late = Rc::new(Cell::new(true));
    let still_late = Rc::clone(&late);
    cluster.filter = Box::new(move |_, to, message| {
        let body = match message {
            Message::Checkpoint(signed) => signed.body(),
            Message::StableCheckpoint(certificate) => &certificate.body,
            _ => return true,
        };
        let heard = to != ReplicaId(3) || !still_late.get();
        parts(body).is_none_or(|(seq, _)| seq < Seq(20) || (seq == Seq(20) && heard))
    });
    cluster.wipe(3, &parameters());
    cluster.run(2_000);
    assert_eq!((cluster.executed(0), cluster.replicas[&ReplicaId(0)].status().stable), (20, Seq(20)));
    for number in 2..=5 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.run(500);
    let status = cluster.replicas[&ReplicaId(3)].status();
    assert_eq!((status.executed, status.stable, status.rejoining), (Seq(24), Seq(16), true));
    late.set(false);
    cluster.run(3_000);
    let status = cluster.replicas[&ReplicaId(3)].status();
    assert_eq!((status.stable, status.rejoining), (Seq(20), false));
    assert!(cluster.halts.is_empty());
    cluster.assert_no_contradiction();
}

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
        let header = cluster.replicas[&ReplicaId(liar)].foundation.header();
        let signed = Statement { body, ..header }.sign(cluster.committee.cluster(), &key(liar));
        cluster.deliver(ReplicaId(liar), ReplicaId(1), Message::Checkpoint(signed));
    }
    let checkpoints = &cluster.replicas[&ReplicaId(1)].foundation.checkpoints;
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
