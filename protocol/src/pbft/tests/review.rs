//! Attacks found by reading the core against the design, each as the smallest schedule that once broke it.

use super::cluster::{Cluster, key, parameters, request};
use crate::engine::{Departure, Engine, Input, RecordIndex};
use crate::message::{Message, PrePrepare};
use crate::pbft::Replica;
use crate::pending::VOUCHED_MAX;
use crate::proposal::{Payload, Proposal};
use crate::record::Record;
use crate::request::{Operation, Request};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Incarnation, ReplicaId, SecretKey, Seq, Signed, Statement, StatementBody, View};

pub(super) fn pre_prepare(cluster: &Cluster, by: u16, view: u64, seq: u64, proposal: &Proposal) -> Message {
    let ballot = Ballot { view: View(view), seq: Seq(seq), digest: proposal.digest() };
    let signed = Statement {
        epoch: cluster.committee.epoch(),
        signer: ReplicaId(by),
        incarnation: Incarnation(0),
        body: StatementBody::PrePrepare(ballot),
    }
    .sign(cluster.committee.cluster(), &key(by));
    Message::PrePrepare(PrePrepare { signed, proposal: proposal.clone() })
}

/// The same signed by each of `authors`.
pub(super) fn votes(cluster: &Cluster, authors: &[u16], body: StatementBody) -> Vec<Signed> {
    let sign = |author: &u16| {
        let statement = Statement {
            epoch: cluster.committee.epoch(),
            signer: ReplicaId(*author),
            incarnation: Incarnation(0),
            body,
        };
        statement.sign(cluster.committee.cluster(), &key(*author))
    };
    authors.iter().map(sign).collect()
}

fn batch(cluster: &Cluster, requests: &[&Request]) -> Proposal {
    let payload = Payload::Batch(requests.iter().map(|request| request.digest()).collect());
    Proposal { time: cluster.now.wall, payload }
}

/// The next primary names requests in PRE-PREPAREs of its own view; the present one must propose them all the same, else
/// a single liar takes the lead whenever it likes.
#[test]
fn the_next_primary_cannot_take_requests_from_the_present_one() {
    for named_first in [true, false] {
        let mut cluster = Cluster::new(4);
        let request = request(1, 1);
        let stolen = pre_prepare(&cluster, 1, 1, 1, &batch(&cluster, &[&request]));
        cluster.stop(1);
        cluster.filter = Box::new(|from, _, _| from != ReplicaId(1));
        if named_first {
            cluster.deliver(ReplicaId(1), ReplicaId(0), stolen);
            cluster.submit(&request);
        } else {
            // Two are under way already, so that the third waits for the end of the turn in which its name arrives.
            let verified = cluster.verified(&request);
            let now = cluster.now;
            let primary = cluster.replicas.get_mut(&ReplicaId(0)).expect("runs");
            let step = primary.step(now, Input::Requests { from: None, requests: vec![verified] });
            assert!(step.sends.is_empty());
            cluster.deliver(ReplicaId(1), ReplicaId(0), stolen);
            cluster.submit_to(2, &request);
            cluster.submit_to(3, &request);
        }
        cluster.run(200);
        assert!(cluster.has_decided(0, &request), "named first: {named_first}");
        assert_eq!(cluster.view(0), 0);
        assert_eq!(cluster.view(2), 0);
    }
}

/// Proposals of a view to come would also name bodies to fetch, for as long as the present view lasts.
#[test]
fn proposals_of_a_primary_to_come_cost_nothing() {
    let mut cluster = Cluster::new(4);
    for seq in 1..=16 {
        let names = (0..8u8).map(|name| Digest([name; 32])).collect();
        let proposal = Proposal { time: cluster.now.wall, payload: Payload::Batch(names) };
        let message = pre_prepare(&cluster, 1, 1, seq, &proposal);
        cluster.deliver(ReplicaId(1), ReplicaId(2), message);
    }
    let replica = &cluster.replicas[&ReplicaId(2)];
    assert!(!replica.foundation.bodies.is_wanted(&Digest([3; 32])));
    assert!(replica.slots.values().all(|slot| slot.proposals.is_empty() && slot.fetch.is_none()));
}

/// A primary names a request to every backup in another batch before the client's copies arrive, and falls silent. No
/// batch is ever prepared; the request must not be forgotten with them.
#[test]
fn a_request_named_before_it_arrives_survives_the_batch_that_named_it() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    for to in 1..4 {
        let mut proposal = batch(&cluster, &[&request]);
        proposal.time += u64::from(to);
        let message = pre_prepare(&cluster, 0, 0, 1, &proposal);
        cluster.deliver(ReplicaId(0), ReplicaId(to), message);
    }
    cluster.stop(0);
    cluster.submit(&request);
    for replica in cluster.replicas.values() {
        assert!(replica.foundation.pending.contains(&request.digest()), "only the batch holds it");
    }
    cluster.run(1_500);
    for id in 1..4 {
        assert!(cluster.has_decided(id, &request), "replica {id}");
    }
    cluster.assert_agreement();
}

/// Under load the stable checkpoint is always ahead of a laggard. It must be able to catch up by decisions alone.
#[test]
fn decisions_below_the_stable_checkpoint_are_taken() {
    let mut cluster = Cluster::new(4);
    let laggard = ReplicaId(3);
    cluster.filter = Box::new(move |_, to, message| to != laggard || matches!(message, Message::Checkpoint(_)));
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert_eq!(cluster.replicas[&laggard].status().stable, Seq(4), "the laggard knows the checkpoint");
    assert_eq!(cluster.executed(3), 0);
    // No state can be fetched.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::State { .. } | Message::Chunk { .. }));
    cluster.run(250);
    assert_eq!(cluster.executed(3), 6);
}

/// A machine so slow that every step comes late must still notice that the primary is dead.
#[test]
fn a_slow_machine_still_changes_the_view() {
    let mut cluster = Cluster::new(4);
    cluster.stop(0);
    cluster.submit(&request(1, 1));
    for _ in 0..20 {
        cluster.now.monotonic += 130_000;
        for id in 1..4 {
            cluster.input(ReplicaId(id), Input::Timer);
        }
        cluster.settle();
    }
    for id in 1..4 {
        assert!(cluster.view(id) >= 1, "replica {id} waits for a dead primary");
    }
}

/// What a log proves decided is executed after a restart, whoever else is there.
#[test]
fn decisions_in_the_log_are_executed_without_any_message() {
    let mut cluster = Cluster::new(4);
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.restart(ReplicaId(2), &parameters());
    assert_eq!(cluster.executed(2), 6);
}

/// A NEW-VIEW whose author withholds its own VIEW-CHANGE: any replica that entered the view holds it.
#[test]
fn a_withheld_view_change_is_fetched_from_whoever_entered_the_view() {
    let mut cluster = Cluster::new(4);
    cluster.stop(0);
    let lonely = ReplicaId(3);
    cluster.filter = Box::new(move |from, to, message| match message {
        Message::ViewChange(_) if to == lonely => from == ReplicaId(2),
        Message::FetchViewChange { .. } if from == lonely => to == ReplicaId(2),
        _ => true,
    });
    cluster.submit(&request(1, 1));
    cluster.run(450);
    let status = cluster.replicas[&lonely].status();
    assert!(status.entered, "locked out of view {:?}", status.view);
    assert_eq!(status.view, View(1));
}

/// NEW-VIEWs without a checkpoint in between must not grow memory or the base of the log.
#[test]
fn many_view_changes_without_a_checkpoint_keep_few_new_views() {
    let mut cluster = Cluster::new(4);
    for view in 1..=20 {
        let now = cluster.now;
        for id in 0..4 {
            let replica = cluster.replicas.get_mut(&ReplicaId(id)).expect("runs");
            replica.start_view_change(now, View(view), Departure::TimerExpired);
            cluster.input(ReplicaId(id), Input::TurnEnd);
        }
        cluster.run(150);
    }
    for replica in cluster.replicas.values() {
        assert!(replica.status().entered);
        assert!(replica.new_views.len() <= 8, "{} NEW-VIEWs kept", replica.new_views.len());
    }
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    let bases = cluster.records.values().flatten().filter_map(|(_, record)| match record {
        Record::Base { new_views, .. } => Some(new_views.len()),
        _ => None,
    });
    let bases: Vec<usize> = bases.collect();
    assert!(!bases.is_empty() && bases.iter().all(|held| *held == 1), "{bases:?}");
}

/// A state that was loaded or fetched may wait for a deadline; nobody would propose anything for it otherwise.
#[test]
fn a_loaded_state_says_what_it_waits_for() {
    let mut cluster = Cluster::new(4);
    for id in 0..4 {
        let input = Input::Executed { seq: Seq(0), results: Digest::ZERO, next_deadline: Some(10) };
        cluster.input(ReplicaId(id), input);
    }
    cluster.settle();
    assert_eq!(cluster.executed(1), 1, "the primary owed an empty batch");
}

/// After a restart a slot rests on the records of its bodies: a cut must leave them.
#[test]
fn a_recovered_slot_rests_on_its_bodies() {
    let mut cluster = Cluster::new(4);
    for number in 1..=3 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.restart(ReplicaId(1), &parameters());
    let bodies = |records: &[(RecordIndex, Record)], digest: Digest| {
        let holds =
            |record: &Record| matches!(record, Record::Requests(all) if all.iter().any(|one| one.digest() == digest));
        records.iter().find(|(_, record)| holds(record)).map(|(index, _)| *index)
    };
    let replica = &cluster.replicas[&ReplicaId(1)];
    for slot in replica.slots.values() {
        for digest in slot.proposals.values().flat_map(crate::proposal::Proposal::requests) {
            let stored = bodies(&cluster.records[&ReplicaId(1)], *digest).expect("recorded");
            assert!(slot.first_record.expect("it rests on records") <= stored);
        }
    }
}

/// Numbers far ahead that a liar touches do not hide a peer's own statements from being handed back.
#[test]
fn junk_far_ahead_does_not_hide_what_a_peer_signed() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    for seq in 5..=32 {
        let proposal = Proposal { time: cluster.now.wall, payload: Payload::Batch(vec![]) };
        let message = pre_prepare(&cluster, 0, 0, seq, &proposal);
        cluster.deliver(ReplicaId(0), ReplicaId(1), message);
    }
    cluster.queue.clear();
    cluster.input(ReplicaId(1), Input::LinkUp(ReplicaId(2)));
    let handed_back = cluster.queue.iter().any(|(_, to, message)| {
        *to == ReplicaId(2)
            && matches!(message, Message::YourStatements(all) if all.iter().any(|one| {
                matches!(one.body(), StatementBody::Commit(ballot) if ballot.seq == Seq(1))
            }))
    });
    assert!(handed_back);
}

fn large_request() -> Request {
    let key = SecretKey::from_seed(&[101; 32]);
    let mut content = request(1, 1).content().clone();
    content.operations = vec![Operation { service: 1, bytes: vec![7; 300_000] }];
    content.sign(super::cluster::committee(4).cluster(), &key)
}

/// A peer that asks for bodies without end gets a budget of bytes, not of messages.
#[test]
fn answers_to_a_greedy_peer_are_bounded_in_bytes() {
    let mut cluster = Cluster::new(4);
    let request = large_request();
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit_to(1, &request);
    cluster.queue.clear();
    for _ in 0..100 {
        cluster.deliver(ReplicaId(3), ReplicaId(1), Message::FetchRequests(vec![request.digest()]));
    }
    let answers = cluster.queue.iter().filter(|(_, _, message)| matches!(message, Message::Requests(_))).count();
    assert!((1..=5).contains(&answers), "{answers} answers of 300 kB in one moment");
}

/// A client that fills its share at the primary and asks something else of the backups causes no view change.
#[test]
fn a_client_whose_share_is_full_at_the_primary_causes_no_view_change() {
    let mut shared = parameters();
    shared.pending_requests_max = 4;
    let mut cluster = Cluster::with_parameters(4, shared);
    // The pipeline stands still, so that the primary's share stays full.
    cluster.filter = Box::new(|_, _, _| false);
    for number in 1..=8 {
        cluster.submit_to(0, &request(1, number));
    }
    let elsewhere = request(1, 100);
    let verified = cluster.verified(&elsewhere);
    let now = cluster.now;
    let primary = cluster.replicas.get_mut(&ReplicaId(0)).expect("runs");
    assert!(!primary.foundation.pending.contains(&elsewhere.digest()));
    primary.step(now, Input::Requests { from: Some(ReplicaId(2)), requests: vec![verified] });
    assert!(primary.foundation.pending.contains(&elsewhere.digest()), "a backup's timer runs on it");
    for number in 200..240 {
        let verified = cluster.verified(&request(1, number));
        let primary = cluster.replicas.get_mut(&ReplicaId(0)).expect("runs");
        primary.step(now, Input::Requests { from: Some(ReplicaId(3)), requests: vec![verified] });
    }
    let primary = &cluster.replicas[&ReplicaId(0)];
    assert!(
        primary.foundation.pending.len() <= 4 + 2 * VOUCHED_MAX,
        "a lying peer wins few places: {}",
        primary.foundation.pending.len()
    );
}

/// An engine behind a box is the same engine: the driver must hear of every pending request to judge it again.
#[test]
fn a_boxed_engine_names_its_oldest_request() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit_to(2, &request(1, 1));
    let replica: Replica = cluster.replicas.remove(&ReplicaId(2)).expect("runs");
    let boxed: Box<dyn Engine> = Box::new(replica);
    assert_eq!(boxed.oldest_pending().map(|held| held.digest()), Some(request(1, 1).digest()));
}

/// The step that finds out that a replica must stop says nothing else, even in the middle of entering a view.
#[test]
fn the_step_that_halts_signs_nothing() {
    let mut cluster = Cluster::new(4);
    let damaged = ReplicaId(3);
    if let Some(state) = cluster.states.get_mut(&damaged) {
        state.insert(b"rot", vec![1]);
    }
    cluster.filter = Box::new(move |_, to, message| {
        to != damaged || !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_))
    });
    for number in 1..=4 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert!(cluster.halts.is_empty(), "it does not know yet");
    cluster.stop(0);
    cluster.submit(&request(1, 5));
    cluster.run(1_000);
    assert!(cluster.halts.contains_key(&damaged), "the certificate came inside a VIEW-CHANGE");
    let entered = cluster.records[&damaged].iter().any(|(_, record)| matches!(record, Record::NewView { .. }));
    assert!(!entered, "it went on in the step in which it learnt that its state is wrong");
}

/// Rule P10, step by step. Replica 1 leads view 1, has assigned numbers that nobody decided, and its log was cut since the
/// view began: the base of the log says where the view began, and must not take its assignments back.
#[test]
fn rule_p10_a_restarted_primary_assigns_no_number_twice() {
    let mut cluster = Cluster::new(4);
    cluster.stop(0);
    cluster.submit(&request(1, 1));
    cluster.run(600);
    assert_eq!(cluster.view(1), 1);
    // Two checkpoints on, its own CHECKPOINT of the next one waits while numbers above are assigned.
    let held_back = ReplicaId(1);
    for number in 2..=11 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.filter = Box::new(move |_, to, message| {
        to != held_back || !matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_))
    });
    let before = cluster.executed(1);
    for number in 12..=16 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert_eq!(cluster.executed(1), before + 5);
    // A number is assigned, and nobody votes for it.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::PrePrepare(_) | Message::Prepare(_)));
    cluster.submit(&request(1, 17));
    let assigned = Seq(before + 6);
    let votes = |cluster: &Cluster| {
        let slot = cluster.replicas[&ReplicaId(1)].slots.get(&assigned)?;
        slot.rounds.get(&View(1))?.pre_prepare
    };
    let first = votes(&cluster).expect("assigned in view 1");
    cluster.settle();
    // Now the checkpoint becomes stable: a base is written after the assignment.
    cluster.filter = Box::new(|_, _, message| {
        matches!(message, Message::Checkpoint(_) | Message::StableCheckpoint(_) | Message::Status(_))
    });
    cluster.run(250);
    let records = &cluster.records[&ReplicaId(1)];
    let base = records.iter().rposition(|(_, record)| matches!(record, Record::Base { .. })).expect("cut");
    let own = records.iter().rposition(|(_, record)| matches!(record, Record::PrePrepare(_))).expect("assigned");
    assert!(own < base, "the schedule this test is about: assigned, then cut");
    cluster.restart(ReplicaId(1), &parameters());
    assert!(cluster.replicas[&ReplicaId(1)].status().entered);
    cluster.now.wall += 1;
    cluster.submit(&request(1, 18));
    cluster.submit(&request(1, 19));
    assert_eq!(votes(&cluster), Some(first), "one number, two assignments");
}

/// Rule P10: what a restarted replica signed before is not taken for a lost log when peers hand it back, whatever it was
/// doing: voting in view 0, on the way to view 1, or inside it with numbers carried over.
#[test]
fn rule_p10_nothing_it_signed_is_missing_after_a_restart() {
    for (cut_off, wait) in (0..60u64).flat_map(|cut_off| [(cut_off, 0), (cut_off, 400)]) {
        let mut cluster = Cluster::new(4);
        let mut left = cut_off;
        // The network dies after so many votes; the primary with it.
        cluster.filter = Box::new(move |_, _, message| {
            let vote = matches!(
                message,
                Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_) | Message::NewView(_)
            );
            left = left.saturating_sub(u64::from(vote));
            !vote || left > 0
        });
        for number in 1..=3 {
            cluster.submit(&request(1, number));
        }
        cluster.settle();
        cluster.run(wait);
        for id in 0..4 {
            let before = cluster.replicas[&ReplicaId(id)].status();
            cluster.restart(ReplicaId(id), &parameters());
            let after = cluster.replicas[&ReplicaId(id)].status();
            assert_eq!((before.view, before.entered), (after.view, after.entered), "cut off at {cut_off}");
            cluster.filter = Box::new(|_, _, message| matches!(message, Message::YourStatements(_)));
            for other in (0..4).filter(|other| *other != id) {
                cluster.input(ReplicaId(other), Input::LinkUp(ReplicaId(id)));
            }
            cluster.settle();
        }
        assert!(cluster.halts.is_empty(), "cut off at {cut_off}: {:?}", cluster.halts);
    }
}

/// Rule P10: what a NEW-VIEW carries over is known again after a restart inside the view, before any vote for it was
/// recorded; it must not be judged by its clock as if it were fresh.
#[test]
fn rule_p10_what_a_new_view_carries_over_survives_a_restart() {
    let mut cluster = Cluster::new(4);
    let request = request(1, 1);
    let lonely = ReplicaId(3);
    cluster.filter = Box::new(move |_, to, message| {
        !matches!(message, Message::Commit(_)) && (to != lonely || !matches!(message, Message::Requests(_)))
    });
    for id in 0..3 {
        cluster.submit_to(id, &request);
    }
    cluster.settle();
    cluster.stop(0);
    cluster.run(450);
    let carried = |cluster: &Cluster| {
        let round = cluster.replicas[&lonely].slots.get(&Seq(1))?.rounds.get(&View(1))?;
        Some((round.pre_prepare?, round.time_accepted, round.prepares.contains_key(&lonely)))
    };
    let before = carried(&cluster).expect("carried over into view 1");
    assert!(before.1 && !before.2, "accepted, and without its body not voted for");
    cluster.restart(lonely, &parameters());
    assert_eq!(carried(&cluster), Some(before));
}

/// Rule P5 (concord-bft PR #50): among VIEW-CHANGEs verified together a bad one spoils only itself.
#[test]
fn rule_p5_a_bad_view_change_in_a_batch_spoils_only_itself() {
    let mut cluster = Cluster::new(4);
    let mut batch = Vec::new();
    for id in 0..4 {
        let now = cluster.now;
        let replica = cluster.replicas.get_mut(&ReplicaId(id)).expect("runs");
        replica.start_view_change(now, View(1), Departure::TimerExpired);
        let mut message = replica.own_view_change.clone().expect("made");
        if id == 2 {
            message.signed.signature.0[3] ^= 1;
        }
        batch.push(Message::ViewChange(message));
    }
    let limits = crate::message::MessageLimits { window: parameters().window };
    let outcomes = cluster.verifier.verify_all(batch, &cluster.committee, &limits);
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
}

/// Rule P11: a replica that slept with its timer running does not fire it for its own sleep.
#[test]
fn rule_p11_a_timer_does_not_measure_the_sleep_of_its_own_process() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, to, _| to != ReplicaId(3));
    cluster.submit(&request(1, 1));
    cluster.run(10);
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    assert!(sleeper.timer.is_some(), "it waits for a request the others have executed");
    cluster.run(2_000);
    cluster.replicas.insert(ReplicaId(3), sleeper);
    // Its copy of the request is of no interest: the driver asks execution before it lets such copies in.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Requests(_)));
    // The first thing it sees is its clock.
    cluster.input(ReplicaId(3), Input::Timer);
    cluster.run(300);
    assert_eq!(cluster.replicas[&ReplicaId(3)].status().view_changes, 0);
    assert_eq!(cluster.executed(3), cluster.executed(0));
}

/// Rule P11: nor for the time until its links are back. Who has a link up again hears at once how far the other is.
#[test]
fn rule_p11_a_replica_that_slept_waits_for_its_links() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, to, _| to != ReplicaId(3));
    cluster.submit(&request(1, 1));
    cluster.run(10);
    let sleeper = cluster.replicas.remove(&ReplicaId(3)).expect("runs");
    cluster.run(2_000);
    cluster.replicas.insert(ReplicaId(3), sleeper);
    cluster.input(ReplicaId(3), Input::Timer);
    cluster.run(200);
    cluster.filter = Box::new(|_, _, message| matches!(message, Message::Status(_)));
    for peer in 0..3 {
        cluster.input(ReplicaId(peer), Input::LinkUp(ReplicaId(3)));
    }
    cluster.settle();
    assert!(cluster.replicas[&ReplicaId(3)].foundation.is_behind(), "it was told without having asked");
    cluster.run(1_000);
    assert_eq!(cluster.replicas[&ReplicaId(3)].status().view_changes, 0);
}

/// Rule P11: while f + 1 others have executed more, its delay is its own and no reason to change the view.
#[test]
fn rule_p11_a_replica_that_knows_it_is_behind_blames_nobody() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, to, message| to != ReplicaId(3) || matches!(message, Message::Status(_)));
    cluster.submit(&request(1, 1));
    cluster.run(3_000);
    assert_eq!(cluster.executed(0), 1);
    assert_eq!(cluster.executed(3), 0);
    assert_eq!(cluster.replicas[&ReplicaId(3)].status().view_changes, 0);
}

/// A vote lost right after an idle second is asked for at once, not when the idle STATUS is due: no view change for it.
#[test]
fn a_loss_after_an_idle_time_costs_no_view_change() {
    let mut cluster = Cluster::new(4);
    cluster.run(1_500);
    let request = request(1, 1);
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::PrePrepare(_)));
    cluster.submit(&request);
    cluster.settle();
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run(250);
    for id in 0..4 {
        assert!(cluster.has_decided(id, &request), "replica {id}");
        assert_eq!(cluster.view(id), 0);
    }
}
