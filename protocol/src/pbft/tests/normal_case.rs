use super::cluster::{Cluster, parameters, request};
use crate::engine::{Engine, Input};
use crate::message::{Message, PrePrepare};
use crate::pbft::tests::cluster::key;
use crate::proposal::{Payload, Proposal};
use crate::record::Record;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Statement, StatementBody, View};

#[test]
fn every_replica_decides_in_one_order_for_every_size() {
    for n in [4, 5, 6, 7, 10] {
        let mut cluster = Cluster::new(n);
        for number in 1..=20 {
            cluster.submit(&request(number as u8 % 3, number));
            cluster.settle();
        }
        for id in 0..n {
            assert!(cluster.executed(id) > 0);
            assert_eq!(cluster.executed(id), cluster.executed(0), "n = {n}");
            assert_eq!(cluster.view(id), 0);
        }
        cluster.assert_agreement();
    }
}

/// A driver syncs one frame a turn, and the COMMIT that goes out in the same turn waits for it anyway: no crash shows a
/// decision that does not say what it waits for, until somebody writes a driver that executes while it syncs.
#[test]
fn a_decision_waits_for_the_record_of_the_own_vote() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    for id in (0..4).map(ReplicaId) {
        let awaited = cluster.decided[&id][&Seq(1)].after.expect("its own COMMIT counts");
        let record = cluster.records[&id].iter().find(|(index, _)| *index == awaited);
        assert!(matches!(record, Some((_, Record::Prepared { .. }))), "replica {id}: {record:?}");
    }
}

#[test]
fn a_quorum_suffices_and_less_does_not() {
    for (n, running, decides) in [
        (4, 3, true),
        (4, 2, false),
        (5, 4, true),
        (5, 3, false),
        (6, 5, true),
        (6, 4, true),
        (6, 3, false),
        (7, 5, true),
        (7, 4, false),
    ] {
        let mut cluster = Cluster::new(n);
        for id in running..n {
            cluster.stop(id);
        }
        let request = request(1, 1);
        cluster.submit(&request);
        cluster.settle();
        assert_eq!(cluster.has_decided(0, &request), decides, "n = {n}, {running} running");
    }
}

#[test]
fn checkpoints_become_stable_and_cut_the_log() {
    let mut cluster = Cluster::new(4);
    for number in 1..=40 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    for replica in cluster.replicas.values() {
        assert!(replica.status().stable >= Seq(36));
        assert!(replica.slots.len() <= 16, "slots are forgotten");
        assert!(replica.foundation.bodies.len() <= 16, "bodies are forgotten");
    }
    for records in cluster.records.values() {
        assert!(records.len() < 120, "{} records left", records.len());
    }
}

#[test]
fn a_backup_without_the_body_fetches_it() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    for id in [0, 1, 2] {
        cluster.submit_to(id, &request);
    }
    // Nobody answers before the first question is asked: without the body no vote.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Requests(_)));
    cluster.settle();
    let slot = &cluster.replicas[&ReplicaId(3)].slots[&Seq(1)];
    assert!(slot.committed.is_some() && slot.own_commit.is_none(), "decided by the others, not voted for here");
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(60);
    assert!(cluster.has_decided(3, &request));
}

#[test]
fn a_request_sent_to_one_backup_only_is_relayed() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    cluster.submit_to(2, &request);
    cluster.run(100);
    assert!(cluster.has_decided(0, &request));
    assert_eq!(cluster.view(0), 0, "no view change was needed");
}

#[test]
fn lost_votes_are_sent_again() {
    let mut cluster = Cluster::new(4);
    let mut lost = 0;
    cluster.filter = Box::new(move |_, _, message| {
        let vote = matches!(message, Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_));
        lost += usize::from(vote);
        !vote || lost > 12
    });
    let request = request(1, 1);
    cluster.submit(&request);
    cluster.run(1_500);
    for id in 0..4 {
        assert!(cluster.has_decided(id, &request), "replica {id}");
    }
    cluster.assert_agreement();
}

/// Rule P8 (fabric #1119): a primary whose checkpoint is stable earlier than the others' proposes above their window; they
/// keep it and no view changes.
#[test]
fn rule_p8_a_primary_ahead_of_the_watermark_causes_no_view_change() {
    let mut cluster = Cluster::new(4);
    // Backups never see each other's or anyone's checkpoint votes; the primary does.
    cluster.filter = Box::new(|_, to, message| {
        to == ReplicaId(0) || !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_))
    });
    for number in 1..=18 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert_eq!(cluster.replicas[&ReplicaId(1)].status().stable, Seq(0));
    assert_eq!(cluster.executed(1), 16, "the window of the backups ends at 16");
    assert!(cluster.replicas[&ReplicaId(1)].slots.contains_key(&Seq(17)), "what lies just above is kept");
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(150);
    assert_eq!(cluster.executed(1), 18);
    assert_eq!(cluster.view(1), 0);
}

/// Rule P9 (besu GHSA-23rh-rrqg-wq82): numbers and views far ahead cost no memory.
#[test]
fn rule_p9_numbers_far_ahead_cost_no_memory() {
    let mut cluster = Cluster::new(4);
    let proposal = Proposal { time: cluster.now.wall, payload: Payload::Batch(vec![]) };
    for round in 0..2_000u64 {
        let (view, seq) = if round % 2 == 0 { (View(0), Seq(1_000 + round)) } else { (View(4 + 4 * round), Seq(1)) };
        let ballot = Ballot { view, seq, digest: proposal.digest() };
        let header = Statement {
            epoch: cluster.committee.epoch(),
            signer: ReplicaId(0),
            incarnation: Incarnation(0),
            body: StatementBody::PrePrepare(ballot),
        };
        let signed = header.sign(cluster.committee.cluster(), &key(0));
        cluster.deliver(
            ReplicaId(0),
            ReplicaId(1),
            Message::PrePrepare(PrePrepare { signed, proposal: proposal.clone() }),
        );
        let commit =
            Statement { body: StatementBody::Commit(ballot), ..header }.sign(cluster.committee.cluster(), &key(0));
        cluster.deliver(ReplicaId(0), ReplicaId(1), Message::Commit(commit));
    }
    let replica = &cluster.replicas[&ReplicaId(1)];
    assert!(replica.slots.is_empty(), "{} slots", replica.slots.len());
    assert!(cluster.records.get(&ReplicaId(1)).is_none_or(Vec::is_empty));
}

#[test]
fn a_fresh_proposal_with_a_foreign_clock_is_not_prepared_but_committed_once_prepared() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    // Replica 3's clock is a day ahead: it refuses to prepare, yet commits on the prepared certificate of the others.
    for id in 0..3 {
        cluster.submit_to(id, &request);
    }
    let day = 86_400_000;
    let mut prepared_by_3 = false;
    while let Some((from, to, message)) = cluster.queue.pop_front() {
        prepared_by_3 |= from == ReplicaId(3) && matches!(message, Message::Prepare(_));
        if to == ReplicaId(3) {
            cluster.now.wall += day;
        }
        cluster.deliver(from, to, message);
        if to == ReplicaId(3) {
            cluster.now.wall -= day;
        }
    }
    cluster.run(60);
    assert!(!prepared_by_3);
    assert!(cluster.has_decided(3, &request));
}

#[test]
fn overload_is_answered_busy_and_causes_no_view_change() {
    let mut parameters = parameters();
    parameters.pending_requests_max = 8;
    let mut cluster = Cluster::with_parameters(4, parameters);
    cluster.filter = Box::new(|_, _, _| false);
    let mut busy = 0;
    for number in 1..=32 {
        let verified = cluster.verified(&request(1, number));
        let now = cluster.now;
        let replica = cluster.replicas.get_mut(&ReplicaId(1)).expect("runs");
        busy += replica.step(now, Input::Requests { from: None, requests: vec![verified] }).busy.len();
    }
    assert_eq!(busy, 24);
    // Another client with nothing pending is always admitted.
    let verified = cluster.verified(&request(2, 1));
    let now = cluster.now;
    let replica = cluster.replicas.get_mut(&ReplicaId(1)).expect("runs");
    assert!(replica.step(now, Input::Requests { from: None, requests: vec![verified] }).busy.is_empty());
}

#[test]
fn an_equivocating_client_causes_no_view_change() {
    let mut cluster = Cluster::new(4);
    let one = request(1, 1);
    let mut content = one.content().clone();
    content.operations[0].bytes = vec![9];
    let two = content.sign(cluster.committee.cluster(), &quorate_crypto::SecretKey::from_seed(&[101; 32]));
    cluster.submit_to(0, &one);
    cluster.submit_to(1, &two);
    cluster.submit_to(2, &two);
    cluster.run(1_000);
    assert!(cluster.has_decided(1, &one) || cluster.has_decided(1, &two));
    for id in 0..4 {
        assert_eq!(cluster.view(id), 0);
        assert_eq!(cluster.replicas[&ReplicaId(id)].status().pending, 0);
    }
}

#[test]
fn null_requests_and_empty_batches_have_one_name_each() {
    assert_eq!(Proposal::NULL.digest(), Proposal { time: 0, payload: Payload::Null }.digest());
    assert_ne!(Proposal::NULL.digest(), Proposal { time: 0, payload: Payload::Batch(vec![]) }.digest());
}

/// A queue longer than a backup's patience, in another order there than here, must not look like censorship: what a backup
/// relays because its timer runs on it is proposed next.
#[test]
fn what_a_backup_waits_for_is_proposed_before_the_queue() {
    let mut parameters = parameters();
    parameters.pipeline_depth = 1;
    parameters.batch_requests_max = 4;
    let mut cluster = Cluster::with_parameters(4, parameters);
    cluster.filter = Box::new(|_, _, _| false);
    for number in 1..=40 {
        cluster.submit_to(0, &request(1, number));
    }
    let waited_for = request(2, 1);
    let verified = cluster.verified(&waited_for);
    cluster.submit_to(0, &waited_for);
    cluster.input(ReplicaId(0), Input::Requests { from: Some(ReplicaId(2)), requests: vec![verified] });
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(200);
    let order: Vec<Digest> =
        cluster.decided[&ReplicaId(1)].values().flat_map(|decided| decided.proposal.requests().to_vec()).collect();
    assert_eq!(order.len(), 41, "everything is ordered in the end");
    let place = order.iter().position(|held| *held == waited_for.digest()).expect("ordered");
    assert!(place <= 4, "behind the batch that was under way, not behind the queue: {place}");
}

/// A client that sends to the primary alone costs the others one question; from then on they are sent its bodies.
#[test]
fn bodies_that_others_lack_are_sent_along_for_a_while() {
    let mut cluster = Cluster::new(4);
    cluster.submit_to(0, &request(1, 1));
    cluster.run(100);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 1))), "it was fetched");
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::FetchRequests(_)));
    cluster.submit_to(0, &request(2, 1));
    cluster.submit_to(0, &request(1, 2));
    cluster.run(20);
    assert!(!cluster.has_decided(1, &request(1, 2)), "another client's body is missing before it");
    let mut cluster = Cluster::new(4);
    cluster.submit_to(0, &request(1, 1));
    cluster.run(100);
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::FetchRequests(_)));
    cluster.submit_to(0, &request(1, 2));
    cluster.run(20);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 2))), "nobody has to ask");
}
