//! Laggards: by blocks while the others keep them, by state beyond that.

use quorate_crypto::{ReplicaId, Seq};

use super::cluster::{Cluster, Filter, parameters, request};
use crate::message::Message;
use crate::parameters::Parameters;

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

/// Checkpoints so far apart that blocks alone help.
fn far_checkpoints() -> Parameters {
    Parameters { window: 1_024, checkpoint_interval: 512, ..Parameters::default() }
}

/// Lets `hops` pass with a request in each, so that blocks follow each other without end.
fn load(cluster: &mut Cluster, number: &mut u64, hops: u64) {
    for _ in 0..hops {
        *number += 1;
        cluster.submit(&request((*number % 100) as u8, *number));
        cluster.hop();
    }
}

/// Puts replica 2 some hundred blocks behind and lets it come back under a load that never pauses. Returns how far behind it
/// is after `hops` more of it, in which `filter` says what arrives.
fn gap_after(cluster: &mut Cluster, hops: u64, filter: Filter) -> u64 {
    let mut number = 0;
    cut_off(cluster, 2);
    // So long that it has failed often enough to be passed over until the end: each of its turns would be a pause.
    while cluster.executed(0) < 280 {
        load(cluster, &mut number, 10);
    }
    assert_eq!(cluster.executed(2), 0);
    cluster.filter = filter;
    cluster.sent.clear();
    let before = cluster.executed(0);
    load(cluster, &mut number, hops);
    let went_on = cluster.executed(0) - before;
    assert!(went_on + 8 > hops / 2, "a block every two hops, and never a pause: {went_on}");
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
    cluster.executed(0) - cluster.executed(2)
}

/// Every round trip of the fetcher brings a certificate of a later block, and it closes the gap all the same.
#[test]
fn a_laggard_of_hundreds_of_blocks_catches_up_under_steady_load() {
    let mut cluster = Cluster::with_parameters(4, far_checkpoints());
    let gap = gap_after(&mut cluster, 300, Box::new(|_, _, _| true));
    assert!(gap <= 4, "{gap} behind: {:?}", cluster.sent);
    assert!(cluster.sent.contains_key("blocks") && !cluster.sent.contains_key("chunk"), "{:?}", cluster.sent);
}

/// Every fifth proposal does not come, so that what is asked for changes while the answer is on its way.
#[test]
fn a_laggard_that_misses_proposals_catches_up_under_steady_load() {
    let mut cluster = Cluster::with_parameters(4, far_checkpoints());
    let mut came = 0;
    let misses = move |_, to, message: &Message| {
        came += u64::from(to == ReplicaId(2) && matches!(message, Message::BlockProposal(_)));
        to != ReplicaId(2) || !matches!(message, Message::BlockProposal(_)) || came % 5 != 0
    };
    let gap = gap_after(&mut cluster, 300, Box::new(misses));
    assert!(gap <= 8, "{gap} behind: {:?}", cluster.sent);
}

/// The same where the others have cut what it lacks.
#[test]
fn a_laggard_beyond_what_others_keep_catches_up_under_steady_load() {
    let mut cluster = Cluster::new(4);
    let gap = gap_after(&mut cluster, 300, Box::new(|_, _, _| true));
    assert!(gap <= 8, "{gap} behind: {:?}", cluster.sent);
    assert!(cluster.sent.contains_key("chunk"), "{:?}", cluster.sent);
}

/// A liar that answers with one true block at a time would make each block of the gap cost a round trip.
#[test]
fn a_server_of_one_block_at_a_time_does_not_stay_the_server() {
    for liar in [0, 1, 3] {
        let mut cluster = Cluster::with_parameters(4, far_checkpoints());
        cluster.tamper = Box::new(move |from, message| {
            if let (true, Message::Blocks(blocks)) = (from == ReplicaId(liar), message) {
                blocks.truncate(1);
            }
        });
        let mut number = 0;
        cut_off(&mut cluster, 2);
        while cluster.executed(0) < 150 {
            load(&mut cluster, &mut number, 10);
        }
        cluster.filter = Box::new(|_, _, _| true);
        cluster.sent.clear();
        cluster.run(600);
        assert_eq!(cluster.executed(2), cluster.executed(0), "liar {liar}");
        assert!(cluster.sent["fetch-blocks"] <= 20, "liar {liar}: {:?}", cluster.sent);
    }
}

/// A block that is certified while it waits for its parent is not fetched again, and neither is one that comes after its view.
#[test]
fn proposals_that_came_are_not_fetched() {
    let chain = crate::hotstuff::testing::chain(6);
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    // The first does not come, the fourth comes late.
    for index in [2, 3, 5, 6, 4] {
        let proposal = crate::hotstuff::testing::proposal_of(chain[index].clone());
        cluster.deliver(ReplicaId(1), ReplicaId(0), Message::BlockProposal(proposal));
    }
    let tree = &cluster.replicas[&ReplicaId(0)].tree;
    assert_eq!((1..=6).filter(|index| tree.holds(&chain[*index].digest())).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(tree.lacks(&chain[5].digest()), Some(chain[1].digest()));
    let first = chain[1].clone();
    cluster.deliver(ReplicaId(3), ReplicaId(0), Message::Blocks(vec![first]));
    let replica = &cluster.replicas[&ReplicaId(0)];
    assert_eq!(replica.tree.lacks(&chain[6].digest()), None, "the last, too, since its parent has come");
    assert_eq!(replica.tree.committed(), &std::sync::Arc::new(chain[4].clone()));
}

/// Who began its tree at a fetched state, or read it back from its log, judges leaders as the others do.
#[test]
fn who_began_its_tree_anew_names_the_same_leaders() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    for client in 1..=8 {
        work(&mut cluster, client, 9);
    }
    cluster.filter = Box::new(|_, _, _| true);
    for round in 0..6 {
        cluster.run(1_000);
        if round % 2 == 1 {
            cluster.restart(ReplicaId(round % 4), &parameters());
        }
        cluster.submit(&request(30, u64::from(round) + 1));
        cluster.run(1_000);
        let of = |id: u16| &cluster.replicas[&ReplicaId(id)].tree;
        let mut compared = 0;
        for block in of(2).iter() {
            let digest = block.digest();
            for id in [0, 1, 3].into_iter().filter(|id| of(*id).contains(&digest)) {
                compared += 1;
                assert_eq!(of(id).counted(&digest), of(2).counted(&digest), "round {round}, replica {id}, {block:?}");
            }
        }
        assert!(compared > 0);
    }
    assert_eq!(cluster.executed(2), cluster.executed(0));
}

/// What others keep reaches down to what leaders follow from, even where views failed just below the checkpoint.
#[test]
fn blocks_are_kept_down_to_what_a_new_root_must_settle() {
    let mut cluster = Cluster::new(4);
    for number in 1..=40 {
        if number == 3 {
            cluster.stop(1);
        }
        cluster.submit(&request(number as u8 % 40, number));
        cluster.run(600);
        for replica in cluster.replicas.values() {
            let tree = &replica.tree;
            let keep_from = replica.foundation.checkpoints.previous_seq();
            let root = tree.iter().rev().find(|block| block.seq <= keep_from && tree.is_committed(&block.digest()));
            let root = root.expect("kept").digest();
            assert!(tree.settled(&root).is_some_and(|settled| tree.contains(&settled.digest())), "request {number}");
        }
    }
    assert!(cluster.executed(0) >= 36);
}

/// A restart right after a state was fetched, while nothing arrives: the log says where the tree begins.
#[test]
fn the_log_knows_where_a_tree_that_began_anew_begins() {
    let mut cluster = Cluster::new(4);
    cut_off(&mut cluster, 2);
    for client in 1..=8 {
        work(&mut cluster, client, 9);
    }
    // Blocks come after the state has become durable: nothing of them is in the base that was written then.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Blocks(_)));
    cluster.run(1_000);
    assert!(cluster.executed(2) > 40);
    cluster.filter = Box::new(|_, _, _| true);
    while cluster.replicas[&ReplicaId(2)].own_status().committed < Seq(40) {
        cluster.run(5);
    }
    let began = cluster.replicas[&ReplicaId(2)].tree.lowest().digest();
    cluster.filter = Box::new(|_, _, _| false);
    cluster.restart(ReplicaId(2), &parameters());
    let tree = &cluster.replicas[&ReplicaId(2)].tree;
    assert!(tree.contains(&began) && tree.committed().seq >= Seq(40));
}

/// Rule P9: a replica that misses every CHECKPOINT decides no further than its look-ahead above the last stable one it knows,
/// and goes on as soon as it hears of a later one (seed 6003605).
#[test]
fn nothing_is_decided_far_above_the_stable_checkpoint() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, to, message| {
        to != ReplicaId(3) || !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_))
    });
    let look_ahead = parameters().look_ahead();
    for number in 1..=2 * look_ahead {
        cluster.submit(&request(1, number));
        cluster.run(200);
    }
    assert!(cluster.executed(0) > look_ahead + 8, "{}", cluster.executed(0));
    let stable = cluster.replicas[&ReplicaId(3)].own_status().stable;
    assert_eq!((stable, cluster.executed(3)), (Seq(0), look_ahead));
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(2_000);
    assert_eq!(cluster.executed(3), cluster.executed(0));
}
