//! The normal case, and what each replica says in it.

use super::cluster::{Cluster, request};
use quorate_crypto::{ReplicaId, Seq};

#[test]
fn requests_commit_in_order_everywhere() {
    for n in [4, 5, 6, 7] {
        let mut cluster = Cluster::new(n);
        for number in 1..=20 {
            cluster.submit(&request(1, number));
            cluster.settle();
        }
        cluster.run(50);
        for id in 0..n {
            assert!((1..=20).all(|number| cluster.has_decided(id, &request(1, number))), "n = {n}, replica {id}");
            assert_eq!(cluster.executed(id), cluster.executed(0));
        }
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
        assert!(!cluster.sent.contains_key("timeout"), "nobody gave up on a view: {:?}", cluster.sent);
    }
}

/// Quiet when idle: two null blocks finish a burst, one certificate tells all of it, and then only STATUS is said.
#[test]
fn an_idle_cluster_says_nothing_but_status() {
    let mut cluster = Cluster::new(4);
    cluster.run(20);
    assert_eq!(cluster.sent.keys().copied().collect::<Vec<_>>(), ["status"], "nothing is proposed without need");
    cluster.submit(&request(1, 1));
    cluster.run(20);
    assert_eq!((0..4).map(|id| cluster.executed(id)).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(cluster.sent.get("proposal"), Some(&2), "the batch and a null block: {:?}", cluster.sent);
    assert_eq!(cluster.sent.get("qc"), Some(&1));
    let views: Vec<u64> = (0..4).map(|id| cluster.view(id)).collect();
    assert!(views.iter().all(|view| *view == views[0]), "all are in the next leader's view");
    cluster.sent.clear();
    cluster.run(3_000);
    assert_eq!(cluster.sent.keys().copied().collect::<Vec<_>>(), ["status"]);
    assert!(cluster.sent["status"] <= 4 * 4, "once a second each: {:?}", cluster.sent);
}

/// A lone request takes two views, so that with four members the same two wait for the next one each time.
#[test]
fn leaders_that_have_nothing_to_propose_are_not_slow() {
    let mut cluster = Cluster::new(4);
    for number in 1..=24 {
        cluster.submit(&request(1, number));
        cluster.run(1_000);
    }
    for id in 0..4 {
        assert_eq!(cluster.executed(id), 24);
        let waits = cluster.replicas[&ReplicaId(id)].slow_leaders.waits().collect::<Vec<_>>();
        assert!(!waits.is_empty() && waits.iter().all(|wait| *wait < 30_000), "replica {id} waited {waits:?}");
    }
}

#[test]
fn requests_that_come_together_share_a_block() {
    let mut cluster = Cluster::new(4);
    for client in 0..10 {
        for number in 1..=10 {
            cluster.submit(&request(client, number));
        }
    }
    cluster.run(50);
    assert!(cluster.executed(0) <= 60, "{} batches for a hundred requests", cluster.executed(0));
    for client in 0..10 {
        assert!((1..=10).all(|number| cluster.has_decided(2, &request(client, number))));
    }
    // Each once.
    let mut all: Vec<_> = cluster.decided[&quorate_crypto::ReplicaId(1)]
        .values()
        .flat_map(|decided| decided.proposal.requests().to_vec())
        .collect();
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!((all.len(), count), (100, 100));
    cluster.assert_agreement();
}

/// The window, checkpoints, and a log that is cut.
#[test]
fn checkpoints_become_stable_and_the_log_is_cut() {
    let mut cluster = Cluster::new(4);
    for number in 1..=100 {
        cluster.submit(&request(1, number));
        cluster.settle();
        cluster.run(5);
    }
    cluster.run(100);
    for id in 0..4 {
        let stable = cluster.replicas[&quorate_crypto::ReplicaId(id)].own_status().stable;
        assert!(stable >= Seq(96), "stable at {stable}");
        let records = cluster.records[&quorate_crypto::ReplicaId(id)].len();
        assert!(records < 400, "{records} records are left");
    }
    cluster.assert_agreement();
}

/// A client may know one replica only: that one relays.
#[test]
fn a_request_given_to_one_replica_is_executed() {
    for id in 0..4 {
        let mut cluster = Cluster::new(4);
        cluster.submit_to(id, &request(1, 1));
        cluster.run(1_000);
        assert!((0..4).all(|other| cluster.has_decided(other, &request(1, 1))), "given to replica {id}");
    }
}

/// A block whose time is ahead of the clock by more than the bound: no vote, until the clock has come close enough. One that
/// lies too far back is refused for good.
#[test]
fn a_block_ahead_of_the_clock_gets_its_vote_when_the_clock_has_come_close() {
    use crate::engine::{Engine as _, Input};
    use crate::hotstuff::block::Block;
    use crate::hotstuff::certificate::QuorumCertificate;
    use crate::hotstuff::{leaders::Counted, testing};
    use crate::message::Message;
    use crate::proposal::{Payload, Proposal};
    use quorate_crypto::ReplicaId;

    let follower = ReplicaId(0);
    // The clock says 1000 ms, and the bound is 500 ms.
    for (time, wall, votes_after) in [(1_500, 1_000, Some(0)), (1_600, 1_000, Some(100)), (100, 1_000, None)] {
        let mut cluster = Cluster::new(4);
        cluster.filter = Box::new(|_, _, _| false);
        cluster.now.wall = wall;
        let proposal = Proposal { time, payload: Payload::Batch(vec![]) };
        let block =
            testing::block_on(&Block::genesis(), &Counted::default(), 1, proposal, QuorumCertificate::Genesis, None);
        let message = Message::BlockProposal(testing::proposal_of(block.clone()));
        cluster.deliver(block.author, follower, message);
        let voted = |cluster: &Cluster| cluster.replicas[&follower].last_vote().is_some();
        assert_eq!(voted(&cluster), votes_after == Some(0), "time {time}");
        for millis in (10..=200).step_by(10) {
            if votes_after == Some(millis) {
                let at = cluster.replicas[&follower].wake().expect("it waits for its clock");
                assert!(at <= cluster.now.monotonic + 10_000, "woken in time");
            }
            cluster.now.monotonic += 10_000;
            cluster.now.wall += 10;
            cluster.input(follower, Input::Timer);
            assert_eq!(
                voted(&cluster),
                votes_after.is_some_and(|after| after <= millis),
                "time {time}, {millis} ms on"
            );
        }
        assert_eq!(cluster.view(0), 1, "all of it in one view");
    }
}

/// Who has halted asks for nothing more: its process ends, and must not be woken for ever.
#[test]
fn who_has_halted_asks_for_no_wake() {
    use crate::engine::Engine as _;

    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    let replica = cluster.replicas.get_mut(&quorate_crypto::ReplicaId(0)).expect("runs");
    assert!(replica.wake().is_some());
    replica.foundation.halted = true;
    assert_eq!(replica.wake(), None);
}
