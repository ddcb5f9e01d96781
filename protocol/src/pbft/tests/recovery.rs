use super::cluster::{Cluster, parameters, request, signed_by};
use crate::engine::{Engine, Halt, Input};
use crate::message::Message;
use crate::pbft::Replica;
use crate::record::Record;
use quorate_crypto::{ReplicaId, Seq, Signed, Verified};

/// Rule P10 (concord #639, #805, #2281): a replica killed after any record of a view change boots, never contradicts what
/// it sent, and the cluster converges.
#[test]
fn rule_p10_killed_at_any_step_of_a_view_change() {
    for victim in [1u16, 2] {
        for kept in 0..40usize {
            let mut cluster = Cluster::new(4);
            cluster.submit(&request(1, 1));
            cluster.settle();
            cluster.stop(0);
            let second = request(1, 2);
            cluster.submit(&second);
            let mut sent: Vec<Signed> = Vec::new();
            let mut killed = false;
            for _ in 0..400 {
                cluster.now.monotonic += 5_000;
                for id in 1..4u16 {
                    cluster.input(ReplicaId(id), Input::Timer);
                }
                while let Some((from, to, message)) = cluster.queue.pop_front() {
                    for signed in signed_by(from, &message) {
                        for before in &sent {
                            assert_eq!(crate::evidence::contradict(before, &signed), None, "kept {kept}");
                        }
                        sent.push(signed);
                    }
                    cluster.deliver(from, to, message);
                    let written = cluster.records.get(&ReplicaId(victim)).map_or(0, Vec::len);
                    if !killed && written >= kept {
                        killed = true;
                        cluster.restart(ReplicaId(victim), &parameters());
                    }
                }
            }
            for id in 1..4 {
                assert!(cluster.has_decided(id, &second), "replica {id}, killed after {kept} records");
            }
            cluster.assert_agreement();
        }
    }
}

#[test]
fn a_restarted_replica_sends_the_same_view_change() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.stop(0);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit(&request(1, 2));
    cluster.run(400);
    let before = cluster.replicas[&ReplicaId(1)].own_view_change.clone().expect("it left view 0");
    cluster.restart(ReplicaId(1), &parameters());
    let after = cluster.replicas[&ReplicaId(1)].own_view_change.clone().expect("it remembers");
    assert_eq!(before, after, "to the byte");
    assert!(!cluster.replicas[&ReplicaId(1)].status().entered);
}

#[test]
fn the_whole_cluster_restarts_and_loses_nothing() {
    for requests in [1u64, 5, 23] {
        let mut cluster = Cluster::new(4);
        for number in 1..=requests {
            cluster.submit(&request(1, number));
            cluster.settle();
        }
        let before = cluster.decided[&ReplicaId(0)].clone();
        cluster.decided.clear();
        for id in 0..4 {
            cluster.restart(ReplicaId(id), &parameters());
        }
        let more = request(1, requests + 1);
        cluster.submit(&more);
        cluster.run(400);
        for id in 0..4 {
            assert!(cluster.has_decided(id, &more), "replica {id}");
            for (seq, decided) in &cluster.decided[&ReplicaId(id)] {
                if let Some(earlier) = before.get(seq) {
                    assert_eq!(earlier.proposal, decided.proposal);
                }
            }
        }
        assert!(cluster.halts.is_empty());
    }
}

#[test]
fn a_state_that_contradicts_a_certified_one_stops_the_replica() {
    let mut cluster = Cluster::new(4);
    // Replica 3's state is damaged before the first checkpoint.
    if let Some(state) = cluster.states.get_mut(&ReplicaId(3)) {
        state.insert(b"rot", vec![1]);
    }
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert!(matches!(cluster.halts.get(&ReplicaId(3)), Some(Halt::Diverged { .. })));
    assert_eq!(cluster.halts.len(), 1);
}

#[test]
fn equal_inputs_give_equal_steps() {
    let run = || {
        let mut cluster = Cluster::new(4);
        for number in 1..=10 {
            cluster.submit(&request(1, number));
            cluster.run(10);
        }
        format!("{:?}", cluster.records)
    };
    assert_eq!(run(), run());
}

#[test]
fn nothing_verified_is_needed_to_read_records_back() {
    // Bodies in a log are verified again: a rotten one is left out, not trusted.
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let mut records = cluster.records[&ReplicaId(1)].clone();
    for (_, record) in &mut records {
        if let crate::record::Record::Requests(requests) = record {
            let mut signature = *requests[0].signature();
            signature.0[0] ^= 1;
            requests[0] = crate::request::Request::from_parts(requests[0].content().clone(), signature);
        }
    }
    let setup = cluster.setup(ReplicaId(1), &parameters());
    let replica = Replica::recover(setup, cluster.now, records, None, true);
    assert!(replica.foundation.bodies.is_empty());
    let _: fn(&Replica) -> Option<&Verified<crate::request::Request>> = |_| None;
}

/// Soak, seed 3042054: killed between a snapshot and its CHECKPOINT, two of four never vouched for that state again.
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
