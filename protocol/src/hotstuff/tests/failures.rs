//! Silent leaders, lost messages, partitions: what is up decides, and what was cut off comes back.

use quorate_crypto::{ReplicaId, Seq, View};

use super::cluster::{Cluster, request};
use crate::hotstuff::block::Block;
use crate::hotstuff::testing;
use crate::message::Message;
use crate::proposal::{Payload, Proposal};

fn everybody_has(cluster: &Cluster, ids: &[u16], count: u64) -> bool {
    ids.iter().all(|id| (1..=count).all(|number| cluster.has_decided(*id, &request(1, number))))
}

/// Whoever is dead, the others decide, and pass the dead one over once its failure is on the chain.
#[test]
fn a_silent_leader_costs_a_timeout_and_is_passed_over() {
    for dead in 0..4 {
        let mut cluster = Cluster::new(4);
        cluster.submit(&request(1, 1));
        cluster.run(20);
        cluster.stop(dead);
        let others: Vec<u16> = (0..4).filter(|id| *id != dead).collect();
        for number in 2..=6 {
            cluster.submit(&request(1, number));
            cluster.run(1_000);
        }
        assert!(everybody_has(&cluster, &others, 6), "dead {dead}");
        cluster.sent.clear();
        let mut at_once = 0;
        for number in 7..=26 {
            cluster.submit(&request(1, number));
            cluster.run(20);
            at_once += u32::from(everybody_has(&cluster, &others, number));
            cluster.run(1_000);
        }
        // Its time out doubles each time that it comes back.
        assert!(everybody_has(&cluster, &others, 26) && at_once >= 17, "dead {dead}: {at_once} of 20");
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// One full timeout, since the dead leader did not deliver the certificate of the view before its own, and a quarter, since
/// it leads the next view as well.
#[test]
fn a_leader_killed_before_its_view_costs_a_timeout_and_a_quarter() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    let leader = cluster.replicas[&ReplicaId(0)].leader();
    let next = ReplicaId((leader.0 + 1) % 4);
    cluster.stop(next.0);
    let others: Vec<u16> = (0..4).filter(|id| ReplicaId(*id) != next).collect();
    cluster.submit(&request(1, 2));
    cluster.run(400);
    assert!(everybody_has(&cluster, &others, 2), "{:?}", cluster.sent);
}

#[test]
fn two_dead_of_seven_are_passed_over() {
    for (first, second) in [(0, 1), (2, 5), (3, 6), (1, 3)] {
        let mut cluster = Cluster::new(7);
        cluster.submit(&request(1, 1));
        cluster.run(20);
        cluster.stop(first);
        cluster.stop(second);
        let others: Vec<u16> = (0..7).filter(|id| ![first, second].contains(id)).collect();
        for number in 2..=20 {
            cluster.submit(&request(1, number));
            cluster.run(600);
        }
        cluster.run(4_000);
        assert!(everybody_has(&cluster, &others, 20), "dead {first} and {second}");
        // Their time out has doubled so often that most requests do not meet them.
        let mut at_once = 0;
        for number in 21..=40 {
            cluster.submit(&request(1, number));
            cluster.run(20);
            at_once += u32::from(everybody_has(&cluster, &others, number));
            cluster.run(1_500);
        }
        assert!(everybody_has(&cluster, &others, 40) && at_once >= 14, "dead {first} and {second}: {at_once} of 20");
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// No side of a partition without a quorum decides; after it heals everybody agrees.
#[test]
fn a_partition_stops_and_heals() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    let side = |id: ReplicaId| id.0 < 2;
    cluster.filter = Box::new(move |from, to, _| side(from) == side(to));
    for number in 2..=4 {
        cluster.submit(&request(1, number));
        cluster.run(1_000);
    }
    assert!((0..4).all(|id| !cluster.has_decided(id, &request(1, 2))));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(9_000);
    assert!(everybody_has(&cluster, &[0, 1, 2, 3], 4));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// A quorum goes on without who is cut off, and who was cut off catches up.
#[test]
fn a_minority_that_was_cut_off_catches_up() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|from, to, _| from != ReplicaId(3) && to != ReplicaId(3));
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.run(800);
    }
    assert!(everybody_has(&cluster, &[0, 1, 2], 6));
    assert!(!cluster.has_decided(3, &request(1, 1)));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(2_500);
    assert_eq!(cluster.executed(3), cluster.executed(0));
    cluster.submit(&request(1, 7));
    cluster.run(1_000);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 7))));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// Nothing relies on a message having arrived once: every third is lost, of each kind.
#[test]
fn lost_messages_are_made_up_for() {
    for seed in 0..6u64 {
        let mut cluster = Cluster::new(4);
        let mut state = seed + 1;
        cluster.filter = Box::new(move |_, _, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 3 != 0
        });
        for number in 1..=5 {
            cluster.submit(&request(1, number));
            cluster.run(400);
        }
        cluster.run(15_000);
        assert!(everybody_has(&cluster, &[0, 1, 2, 3], 5), "seed {seed}: {:?}", cluster.sent);
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// A first loss of each kind of message alone.
#[test]
fn the_loss_of_any_one_kind_for_a_while_is_made_up_for() {
    for kind in ["proposal", "vote", "qc", "timeout", "status", "checkpoint"] {
        let mut cluster = Cluster::new(4);
        cluster.submit(&request(1, 1));
        cluster.run(20);
        cluster.filter = Box::new(move |_, _, message: &Message| super::cluster::kind_of(message) != kind);
        cluster.submit(&request(1, 2));
        cluster.run(1_500);
        cluster.filter = Box::new(|_, _, _| true);
        cluster.submit(&request(1, 3));
        cluster.run(9_000);
        assert!(everybody_has(&cluster, &[0, 1, 2, 3], 3), "{kind}: {:?}", cluster.sent);
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// Soak, seed 3010737: a certificate on no chain committed for one what the chain of the highest QC does not say, and with
/// nothing of it left to commit that replica let the view stand, while the others went on waiting.
#[test]
fn a_chain_that_does_not_say_what_is_committed_is_owed() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    let empty = Proposal { time: 1_000, payload: Payload::Batch(vec![]) };
    let first = testing::child(&Block::genesis(), empty);
    let forsaken = testing::child(&first, Proposal::NULL);
    let later = testing::child_after_timeout(&first, 3, Proposal::NULL);
    let last = testing::child(&later, Proposal::NULL);
    for (block, owed) in [(first, true), (forsaken, false), (later, true), (last, false)] {
        let certificate = testing::certify(&block);
        let view = block.view;
        cluster.deliver(block.author, ReplicaId(0), Message::BlockProposal(testing::proposal_of(block)));
        cluster.deliver(ReplicaId(1), ReplicaId(0), Message::QuorumCertificate(certificate));
        let replica = &cluster.replicas[&ReplicaId(0)];
        assert_eq!(replica.promise.high_qc.view(), view);
        assert_eq!(replica.tree.committed().seq, Seq(u64::from(view > View(1))), "{view:?}");
        assert_eq!(replica.is_work_outstanding(cluster.now), owed, "{view:?}");
    }
}
