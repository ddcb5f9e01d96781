use super::cluster::{Cluster, committee, key, parameters, request};
use crate::engine::{Departure, Engine};
use crate::evidence::{Conviction, Evidence};
use crate::message::{Message, PrePrepare, Prepare};
use crate::proposal::{Payload, Proposal};
use crate::request::Request;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Incarnation, ReplicaId, Seq, Signed, Statement, StatementBody, View};

fn sign(id: u16, body: StatementBody) -> Signed {
    let committee = committee(4);
    Statement { epoch: committee.epoch(), signer: ReplicaId(id), incarnation: Incarnation(0), body }
        .sign(committee.cluster(), &key(id))
}

fn proposal(time: u64) -> Proposal {
    Proposal { time, payload: Payload::Batch(vec![]) }
}

fn ballot(proposal: &Proposal) -> Ballot {
    Ballot { view: View(0), seq: Seq(1), digest: proposal.digest() }
}

fn pre_prepare(proposal: &Proposal) -> Message {
    let signed = sign(0, StatementBody::PrePrepare(ballot(proposal)));
    Message::PrePrepare(PrePrepare { signed, proposal: proposal.clone() })
}

fn convictions(cluster: &Cluster, id: u16) -> Vec<Conviction> {
    let all = cluster.evidence.get(&ReplicaId(id)).cloned().unwrap_or_default();
    all.iter()
        .map(|evidence| {
            evidence.verify(&cluster.committee, parameters().window, &cluster.verifier).expect("evidence convicts")
        })
        .collect()
}

#[test]
fn two_pre_prepares_convict_the_primary() {
    let mut cluster = Cluster::new(4);
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(1_000)));
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(1_001)));
    let found = convictions(&cluster, 1);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].accused, found[0].kind), (ReplicaId(0), "two-pre-prepares"));
}

#[test]
fn a_prepare_carries_the_other_half_of_an_equivocation() {
    // Each backup sees one PRE-PREPARE only; the PREPAREs bring the halves together at every honest replica.
    let mut cluster = Cluster::new(4);
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(1_000)));
    cluster.deliver(ReplicaId(0), ReplicaId(2), pre_prepare(&proposal(1_001)));
    cluster.deliver(ReplicaId(0), ReplicaId(3), pre_prepare(&proposal(1_001)));
    cluster.settle();
    for id in 1..4 {
        let found = convictions(&cluster, id);
        assert_eq!(found.len(), 1, "replica {id}");
        assert_eq!((found[0].accused, found[0].kind), (ReplicaId(0), "two-pre-prepares"));
    }
}

#[test]
fn a_prepare_with_a_forged_primary_signature_convicts_nobody() {
    let mut cluster = Cluster::new(4);
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(1_000)));
    let other = proposal(1_001);
    let signed = sign(2, StatementBody::Prepare(ballot(&other)));
    let forged = sign(2, StatementBody::PrePrepare(ballot(&other))).signature;
    let prepare = Prepare { signed, primary_incarnation: Incarnation(0), primary_signature: forged };
    cluster.deliver(ReplicaId(2), ReplicaId(1), Message::Prepare(prepare));
    assert!(convictions(&cluster, 1).is_empty());
}

#[test]
fn double_votes_convict_the_voter() {
    let mut cluster = Cluster::new(4);
    for time in [1_000, 1_001] {
        let body = ballot(&proposal(time));
        cluster.deliver(ReplicaId(2), ReplicaId(1), Message::Commit(sign(2, StatementBody::Commit(body))));
        let prepare = Prepare {
            signed: sign(3, StatementBody::Prepare(body)),
            primary_incarnation: Incarnation(0),
            primary_signature: sign(3, StatementBody::PrePrepare(body)).signature,
        };
        cluster.deliver(ReplicaId(3), ReplicaId(1), Message::Prepare(prepare));
        let checkpoint = StatementBody::Checkpoint { seq: Seq(4), digest: proposal(time).digest() };
        cluster.deliver(ReplicaId(3), ReplicaId(1), Message::Checkpoint(sign(3, checkpoint)));
    }
    let mut found: Vec<_> = convictions(&cluster, 1).iter().map(|found| (found.accused.0, found.kind)).collect();
    found.sort_unstable();
    assert_eq!(found, [(2, "two-commits"), (3, "two-checkpoints"), (3, "two-prepares")]);
}

#[test]
fn the_same_offence_is_reported_once() {
    let mut cluster = Cluster::new(4);
    for time in [1_000, 1_001, 1_002, 1_003] {
        cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(time)));
    }
    assert_eq!(convictions(&cluster, 1).len(), 1);
}

#[test]
fn a_proposal_with_an_invalid_client_signature_convicts_the_proposer() {
    let mut cluster = Cluster::new(4);
    let honest = request(1, 1);
    let mut signature = *honest.signature();
    signature.0[0] ^= 1;
    let forged = Request::from_parts(honest.content().clone(), signature);
    let named = Proposal { time: 1_000, payload: Payload::Batch(vec![forged.digest()]) };
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&named));
    cluster.deliver(ReplicaId(3), ReplicaId(1), Message::Requests(vec![forged.clone()]));
    let found = convictions(&cluster, 1);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].accused, found[0].kind), (ReplicaId(0), "invalid-request"));
    // A stranger cannot turn an honest proposal into evidence.
    let innocent = Proposal { time: 1_000, payload: Payload::Batch(vec![honest.digest()]) };
    let Message::PrePrepare(message) = pre_prepare(&innocent) else { return };
    let framed = Evidence::InvalidRequest(message, Box::new(honest));
    assert!(framed.verify(&cluster.committee, parameters().window, &cluster.verifier).is_err());
}

#[test]
fn honest_clusters_produce_no_evidence_through_view_changes_and_restarts() {
    let mut cluster = Cluster::new(4);
    for number in 1..=12 {
        cluster.submit(&request(1, number));
        cluster.run(10);
        if number == 6 {
            cluster.stop(0);
        }
        cluster.restart(ReplicaId(2), &parameters());
    }
    cluster.run(2_000);
    assert!(cluster.evidence.values().all(Vec::is_empty), "{:?}", cluster.evidence);
    cluster.assert_agreement();
}

/// What a status says of why a view was left.
fn departure(cluster: &Cluster, id: u16) -> Option<Departure> {
    cluster.replicas[&ReplicaId(id)].status().departure
}

/// D is 250 ms: within this time no timer runs out.
const AT_ONCE: u64 = 60;

#[test]
fn a_convicted_primary_is_left_without_waiting_for_a_timer() {
    let mut cluster = Cluster::new(4);
    cluster.deliver(ReplicaId(0), ReplicaId(1), pre_prepare(&proposal(1_000)));
    cluster.deliver(ReplicaId(0), ReplicaId(2), pre_prepare(&proposal(1_001)));
    cluster.deliver(ReplicaId(0), ReplicaId(3), pre_prepare(&proposal(1_001)));
    cluster.run(AT_ONCE);
    for id in 1..4 {
        assert_eq!(cluster.view(id), 1, "replica {id}");
    }
    assert!((1..4).any(|id| departure(&cluster, id) == Some(Departure::ConvictedPrimary)));
    let request = request(1, 1);
    cluster.submit(&request);
    cluster.run(AT_ONCE);
    assert!((1..4).all(|id| cluster.has_decided(id, &request)));
    assert_eq!(cluster.view(1), 1);
    cluster.assert_agreement();
}

#[test]
fn a_liar_that_shows_both_faces_to_one_backup_does_not_part_it_from_the_others() {
    let mut cluster = Cluster::new(4);
    for time in [1_000, 1_001] {
        let body = StatementBody::Commit(ballot(&proposal(time)));
        cluster.deliver(ReplicaId(0), ReplicaId(1), Message::Commit(sign(0, body)));
    }
    assert_eq!(convictions(&cluster, 1).len(), 1);
    // Nor by saying that it suspects itself.
    let mut status = cluster.replicas[&ReplicaId(0)].own_status();
    status.suspects = true;
    cluster.deliver(ReplicaId(0), ReplicaId(1), Message::Status(status));
    cluster.run(AT_ONCE);
    let request = request(1, 1);
    cluster.submit(&request);
    cluster.run(AT_ONCE);
    for id in 0..4 {
        assert_eq!(cluster.view(id), 0, "replica {id}");
        assert!(cluster.has_decided(id, &request), "replica {id}");
    }
}

#[test]
fn who_was_convicted_as_a_backup_is_passed_over_when_its_turn_comes() {
    let mut cluster = Cluster::new(7);
    for time in [1_000, 1_001] {
        let body = StatementBody::Commit(ballot(&proposal(time)));
        let commit =
            Statement { epoch: cluster.committee.epoch(), signer: ReplicaId(1), incarnation: Incarnation(0), body }
                .sign(cluster.committee.cluster(), &key(1));
        for id in [0, 2, 3, 4, 5, 6] {
            cluster.deliver(ReplicaId(1), ReplicaId(id), Message::Commit(commit));
        }
    }
    cluster.run(AT_ONCE);
    assert_eq!(cluster.view(2), 0, "a convicted backup is nobody's reason to leave");
    cluster.stop(0);
    let request = request(1, 1);
    cluster.submit(&request);
    // One timer for the primary that is gone, none for the one after it.
    cluster.run(parameters().view_timeout / 1_000 * 5 / 4 + 2 * AT_ONCE);
    for id in 2..7 {
        assert_eq!(cluster.view(id), 2, "replica {id}");
        assert!(cluster.has_decided(id, &request), "replica {id}");
    }
    cluster.assert_agreement();
}
