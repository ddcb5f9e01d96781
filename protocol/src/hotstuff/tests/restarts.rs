//! Restarts from records: the same bytes, never a contradiction (rule H6).

use quorate_crypto::{ReplicaId, Seq};

use super::cluster::{Cluster, parameters, request};
use crate::engine::Engine as _;
use crate::hotstuff::testing;
use crate::message::Message;
use crate::record::Record;

#[test]
fn a_replica_that_restarts_at_any_time_says_nothing_new_about_what_it_said() {
    for moment in 0..40 {
        let mut cluster = Cluster::new(4);
        let mut left = moment;
        // Stops the network in the middle of something.
        cluster.filter = Box::new(move |_, _, _| {
            left -= 1;
            left > 0
        });
        for number in 1..=3 {
            cluster.submit(&request(1, number));
        }
        cluster.settle();
        for id in 0..4 {
            cluster.restart(ReplicaId(id), &parameters());
        }
        cluster.filter = Box::new(|_, _, _| true);
        // Clients send again what got no answer.
        for number in 1..=4 {
            cluster.submit(&request(1, number));
        }
        cluster.run(3_000);
        for id in 0..4 {
            assert!(
                (1..=4).all(|number| cluster.has_decided(id, &request(1, number))),
                "moment {moment}, replica {id}"
            );
        }
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// The last vote, TIMEOUT and proposal are sent again in the bytes that were signed.
#[test]
fn after_a_restart_the_same_bytes_are_sent_again() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.run(20);
    // Nothing arrives any more, so everybody proposes, votes or gives up into the void.
    cluster.filter = Box::new(|_, _, message| matches!(message, Message::BlockProposal(_)));
    cluster.submit(&request(1, 2));
    cluster.run(400);
    let before = cluster.said.clone();
    for id in 0..4 {
        cluster.restart(ReplicaId(id), &parameters());
    }
    cluster.said.clear();
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(60);
    let mut again = 0;
    for (id, said) in &cluster.said {
        again += said.iter().filter(|signed| before[id].contains(signed)).count();
    }
    assert!(again >= 4, "what was said is said again");
    for (id, said) in &mut cluster.said {
        said.extend(before[id].iter().copied());
    }
    cluster.run(3_000);
    cluster.assert_no_contradiction();
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 2))));
}

#[test]
fn a_cluster_that_restarts_as_a_whole_goes_on() {
    let mut cluster = Cluster::new(4);
    for number in 1..=10 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.run(20);
    let executed = cluster.executed(0);
    for id in 0..4 {
        cluster.restart(ReplicaId(id), &parameters());
    }
    cluster.run(100);
    for id in 0..4 {
        assert_eq!(cluster.executed(id), executed, "what was decided is decided again from the log");
    }
    cluster.submit(&request(1, 11));
    cluster.run(2_000);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 11))));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// After the log was cut, too, and several times over.
#[test]
fn restarts_after_checkpoints_need_what_the_base_holds_and_no_more() {
    let mut cluster = Cluster::new(4);
    for round in 0..5u64 {
        for number in 1..=9 {
            cluster.submit(&request(round as u8, number));
            cluster.settle();
            cluster.run(5);
        }
        cluster.run(50);
        let id = (round % 4) as u16;
        let stable = cluster.replicas[&ReplicaId(id)].own_status().stable;
        assert!(stable > Seq(4 * round), "round {round}");
        cluster.restart(ReplicaId(id), &parameters());
        cluster.run(300);
        assert_eq!(cluster.executed(id), cluster.executed((id + 1) % 4), "round {round}");
    }
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// Records of the other engine are refused.
#[test]
fn records_of_the_other_engine_are_not_taken() {
    let mut cluster = Cluster::new(4);
    let foreign = Record::Base {
        view: quorate_crypto::View(900),
        entered: true,
        stable: None,
        view_change: None,
        new_views: vec![],
        checkpoints: vec![],
        executed: vec![],
    };
    cluster.records.entry(ReplicaId(1)).or_default().push((crate::engine::RecordIndex(1), foreign));
    cluster.restart(ReplicaId(1), &parameters());
    assert_eq!(cluster.view(1), 1);
}

/// Replica 0 votes for a block whose parent it had to fetch: the parent is not committed yet, so nothing else writes it down.
#[test]
fn a_block_voted_for_keeps_its_place_in_the_log() {
    let chain = testing::chain(2);
    let mut cluster = Cluster::new(4);
    let bare = |block: &crate::hotstuff::block::Block| {
        let mut content = block.content().clone();
        content.proposal.payload = crate::proposal::Payload::Batch(vec![]);
        content
    };
    let first = crate::hotstuff::block::Block::new(bare(&chain[1]));
    let second = testing::child(&first, crate::proposal::Proposal::NULL);
    cluster.filter = Box::new(|_, _, _| false);
    let proposal = testing::proposal_of(second.clone());
    cluster.deliver(second.author, ReplicaId(0), Message::BlockProposal(proposal));
    cluster.deliver(second.author, ReplicaId(0), Message::Blocks(vec![first.clone()]));
    let vote = cluster.replicas[&ReplicaId(0)].last_vote().expect("it voted");
    assert_eq!(vote.block, second.digest());
    let mut log = cluster.records[&ReplicaId(0)].clone();
    for crash in 1..=2 {
        cluster.restart(ReplicaId(0), &parameters());
        let replica = &cluster.replicas[&ReplicaId(0)];
        assert!(replica.tree.contains(&vote.block), "crash {crash}");
        assert!(replica.records.contains_key(&vote.block), "crash {crash}: the next cut leaves it");
    }
    // A log that an earlier version wrote lacks the parent: the block waits for it, and the next cut must leave its record.
    log.retain(|(_, record)| !matches!(record, Record::Block(block) if block.digest() == first.digest()));
    cluster.records.insert(ReplicaId(0), log);
    cluster.restart(ReplicaId(0), &parameters());
    let replica = &cluster.replicas[&ReplicaId(0)];
    assert!(replica.tree.orphan(&vote.block).is_some() && replica.records.contains_key(&vote.block));
}

/// Soak, seed 3042054 of PBFT: killed between a snapshot and its CHECKPOINT, two of four never vouched for that state again.
#[test]
fn a_snapshot_that_outlived_its_checkpoint_is_vouched_for_after_a_restart() {
    let mut cluster = Cluster::new(4);
    cluster.filter =
        Box::new(|_, _, message| !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_)));
    for number in 1..=4 {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    for id in [ReplicaId(0), ReplicaId(3)] {
        assert_eq!(cluster.snapshots[&id].seq, Seq(4));
        let records = cluster.records.get_mut(&id).expect("it has a log");
        let before = records.len();
        records.retain(|(_, record)| !matches!(record, Record::Checkpoint(_)));
        assert!(records.len() < before);
        cluster.restart(id, &parameters());
    }
    assert_eq!(cluster.replicas[&ReplicaId(1)].status().stable, Seq(0));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(1_500);
    for id in 0..4 {
        assert_eq!(cluster.replicas[&ReplicaId(id)].status().stable, Seq(4), "replica {id}");
    }
    assert!(cluster.halts.is_empty());
}
