//! Attacks on what makes a backup leave its primary: the view timer, relays, the monitor; and what must not make it.

use super::cluster::{Cluster, key, parameters, request};
use crate::engine::{Departure, Engine, Input, Now};
use crate::message::{Committed, Message};
use crate::parameters::Parameters;
use crate::pbft::safety::Choice;
use crate::pbft::slot::PreparedCertificate;
use crate::pbft::view_change_message::NewView;
use crate::proposal::{Payload, Proposal};
use crate::request::{Operation, Request};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Digest, ReplicaId, SecretKey, Seq, StatementBody, View};

/// A request of client 1 that takes about so many bytes.
fn weighing(bytes: usize, number: u64) -> Request {
    let mut content = request(1, number).content().clone();
    content.operations = vec![Operation { service: 1, bytes: vec![7; bytes] }];
    content.sign(super::cluster::committee(4).cluster(), &SecretKey::from_seed(&[101; 32]))
}

fn naming(requests: &[&Request]) -> Proposal {
    let digests = requests.iter().map(|request| request.digest()).collect();
    Proposal { time: 1_000, payload: Payload::Batch(digests) }
}

/// `from` tells `to` that it has executed up to `executed`.
fn claim(cluster: &mut Cluster, from: u16, to: u16, executed: u64) {
    let mut status = cluster.replicas[&ReplicaId(from)].own_status();
    status.executed = Seq(executed);
    cluster.deliver(ReplicaId(from), ReplicaId(to), Message::Status(status));
}

/// The primary lies that it is far ahead, so one honest peer that is a moment ahead makes a backup fall behind. One backup
/// after the other is left behind just before its timer runs out, and for so long only that STATUS says so.
#[test]
fn leaving_one_backup_after_the_other_behind_stops_no_timer_for_good() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    for backup in 1..4 {
        cluster.submit_to(backup, &request(1, 1));
    }
    let mut left = 0;
    for round in 0..12u16 {
        for backup in 1..4 {
            claim(&mut cluster, 0, backup, 1_000);
        }
        let behind = 1 + round % 3;
        let ahead = 1 + (behind % 3);
        claim(&mut cluster, ahead, behind, 1);
        cluster.run(20);
        claim(&mut cluster, ahead, behind, 0);
        cluster.run(70);
        left = (1..4).filter(|id| cluster.view(*id) > 0).count();
    }
    assert_eq!(left, 3, "each backup's timer ran most of the time");
}

/// The time a replica spends behind does not count, and its timer does not fire meanwhile.
#[test]
fn a_timer_stands_still_while_its_replica_is_behind() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit_to(1, &request(1, 1));
    cluster.run(250);
    for peer in [0, 2] {
        claim(&mut cluster, peer, 1, 5);
    }
    cluster.run(2_000);
    assert_eq!(cluster.view(1), 0, "its delay is its own");
    let wake = cluster.replicas[&ReplicaId(1)].wake().expect("STATUS is due");
    assert!(wake > cluster.now.monotonic, "a timer that stands still wakes nobody");
    claim(&mut cluster, 2, 1, 0);
    cluster.run(20);
    assert_eq!(cluster.view(1), 0, "what was left of its patience is left");
    cluster.run(30);
    assert_eq!(cluster.view(1), 1, "and no more than that");
}

/// A replica that was frozen for long has one link at first, and what comes by it proves that it is behind.
#[test]
fn a_certified_checkpoint_makes_a_timer_stand_still_before_many_have_spoken() {
    let mut cluster = Cluster::new(4);
    // Of what others say it hears certified checkpoints only, and those of one replica.
    cluster.filter = Box::new(|from, to, message| match message {
        Message::StableCheckpoint(_) => from == ReplicaId(2),
        _ => from != ReplicaId(1) && to != ReplicaId(1),
    });
    let waiting = request(1, 1);
    cluster.submit_to(1, &waiting);
    cluster.run(200);
    for number in 2..=20 {
        for id in [0, 2, 3] {
            cluster.submit_to(id, &request(2, number));
        }
        cluster.settle();
    }
    assert!(cluster.executed(2) >= 4);
    claim(&mut cluster, 1, 2, 0);
    cluster.run(2_000);
    assert_eq!((cluster.executed(1), cluster.view(1)), (0, 0), "its delay is its own");
}

/// What waits is relayed while its replica is behind as well.
#[test]
fn a_replica_that_is_behind_relays_what_waits() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|from, to, message| match message {
        Message::Requests(_) => true,
        _ => from != ReplicaId(1) && to != ReplicaId(1),
    });
    for peer in [0, 2] {
        claim(&mut cluster, peer, 1, 5);
    }
    let waiting = request(1, 1);
    cluster.submit_to(1, &waiting);
    cluster.run(300);
    assert!(cluster.has_decided(2, &waiting));
}

/// Hands `requests` to the primary through replica 1 and lets them wait there for `millis`.
fn handed(requests: &[&Request], millis: u64) -> Cluster {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    for request in requests {
        cluster.submit_to(1, request);
    }
    cluster.run(60);
    cluster.run(millis);
    assert_eq!(cluster.view(1), 0);
    cluster
}

fn too_little(cluster: &Cluster, proposal: &Proposal) -> bool {
    cluster.replicas[&ReplicaId(1)].takes_too_little(cluster.now, proposal)
}

/// A primary that pads its proposals (with what executed long ago, with bodies it does not hand out) is as slow as one
/// that proposes little.
#[test]
fn padding_does_not_hide_that_a_proposal_takes_too_little() {
    let (one, two) = (request(1, 1), request(1, 2));
    let cluster = handed(&[&one, &two], 80);
    let replay = weighing(600_000, 9);
    let mut unheld = naming(&[&one]);
    if let Payload::Batch(names) = &mut unheld.payload {
        names.extend((0..40u8).map(|name| Digest([name; 32])));
    }
    assert!(too_little(&cluster, &naming(&[&one, &replay])), "a replay excuses nothing");
    assert!(too_little(&cluster, &unheld), "names without bodies excuse nothing");
    assert!(!too_little(&cluster, &naming(&[&one, &two])), "all of what it was handed");
    let cluster = handed(&[&one, &two], 150);
    assert!(too_little(&cluster, &naming(&[&one, &two])), "however much it takes, it takes it late");
}

/// Requests of which one or two fill a batch have to wait for each other: no reason to leave an honest primary.
#[test]
fn heavy_requests_may_wait_for_each_other() {
    assert_eq!(parameters().batch_bytes_max, 2 * 1024 * 1024);
    let (heavy, other, small) = (weighing(1_200_000, 1), weighing(1_200_000, 2), request(1, 3));
    let cluster = handed(&[&heavy, &other], 150);
    assert!(!too_little(&cluster, &naming(&[&other])));
    assert!(too_little(&cluster, &naming(&[])), "it takes its share of such work");
    let cluster = handed(&[&small, &heavy, &other], 150);
    assert!(too_little(&cluster, &naming(&[&heavy])), "what is small goes into any batch");
}

/// One client without any liar: large requests, given to the primary only. Every backup asks for them, and the primary
/// must not look as if it withheld what it named.
#[test]
fn large_requests_given_to_the_primary_alone_do_not_make_it_slow() {
    let mut cluster = Cluster::new(4);
    let mut number = 0;
    for round in 0..4 {
        let large: Vec<Request> = (0..3)
            .map(|_| {
                weighing(690_000, {
                    number += 1;
                    number
                })
            })
            .collect();
        // In one turn, so that they stand in one batch.
        let verified = large.iter().map(|request| cluster.verified(request)).collect();
        cluster.input(ReplicaId(0), Input::Requests { from: None, requests: verified });
        cluster.run(40);
        for id in 0..4 {
            assert!(large.iter().all(|request| cluster.has_decided(id, request)), "round {round}, replica {id}");
        }
    }
    assert_eq!(cluster.view(1), 0);
}

/// Whoever was asked first, the primary is asked every other time, and everyone else in between.
#[test]
fn bodies_are_asked_of_the_primary_every_other_time() {
    // No timer runs out meanwhile.
    let patient = Parameters { view_timeout: 60_000_000, ..parameters() };
    let mut cluster = Cluster::with_parameters(7, patient);
    let held_by_nobody = naming(&[&request(1, 1)]);
    let message = super::review::pre_prepare(&cluster, 0, 0, 1, &held_by_nobody);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.deliver(ReplicaId(0), ReplicaId(1), message);
    let mut asked = Vec::new();
    for _ in 0..2_000 {
        cluster.now.monotonic += 5_000;
        cluster.input(ReplicaId(1), Input::Timer);
        let questions = cluster.queue.drain(..).filter(|(_, _, message)| matches!(message, Message::FetchRequests(_)));
        asked.extend(questions.map(|(_, to, _)| to.0));
        if asked.len() >= 12 {
            break;
        }
    }
    assert!(asked.iter().step_by(2).all(|to| *to == 0), "{asked:?}");
    let between: std::collections::BTreeSet<u16> = asked.iter().skip(1).step_by(2).copied().collect();
    assert!((2..7).all(|id| between.contains(&id)), "{asked:?}");
}

/// Large requests fill the time until a timer runs out with few of them: admission and the pipeline go by bytes as well.
#[test]
fn large_requests_are_taken_on_by_the_bytes_that_drain() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    let mut busy = 0;
    for number in 1..=8 {
        let verified = cluster.verified(&weighing(1_200_000, number));
        let now = cluster.now;
        let primary = cluster.replicas.get_mut(&ReplicaId(0)).expect("runs");
        busy += primary.step(now, Input::Requests { from: None, requests: vec![verified] }).busy.len();
    }
    assert_eq!(busy, 4, "two full batches were admitted");
    cluster.input(ReplicaId(0), Input::TurnEnd);
    let proposed = cluster.queue.iter().filter(|(_, _, message)| matches!(message, Message::PrePrepare(_))).count();
    assert_eq!(proposed, 2 * 3, "two of four batches are under way, to three backups");
}

/// A primary names a request to one backup in a batch that loses. It must not count as proposed there for the rest of the
/// view: it would be relayed no more, and its censor would look honest.
#[test]
fn what_a_losing_proposal_named_waits_again() {
    let mut cluster = Cluster::new(4);
    let (victim, other) = (request(1, 1), request(2, 1));
    let (lie, truth) = (naming(&[&victim]), naming(&[&other]));
    let deceived = ReplicaId(1);
    cluster.filter = Box::new(|_, _, _| false);
    cluster.submit_to(1, &victim);
    for id in 1..4 {
        cluster.submit_to(id, &other);
    }
    let lie = super::review::pre_prepare(&cluster, 0, 0, 1, &lie);
    cluster.deliver(ReplicaId(0), deceived, lie);
    assert_eq!(cluster.replicas[&deceived].foundation.pending.unproposed(), 1, "the other one");
    // The others decide the truth, with the votes of the liar.
    let ballot = Ballot { view: View(0), seq: Seq(1), digest: truth.digest() };
    let commits = super::review::votes(&cluster, &[0, 2, 3], StatementBody::Commit(ballot));
    let certificate = Certificate::collect(&commits).expect("a certificate");
    let committed = Message::CommitCertificate(Committed { certificate, proposal: truth });
    cluster.deliver(ReplicaId(2), deceived, committed);
    assert_eq!(cluster.executed(1), 1);
    assert_eq!(cluster.replicas[&deceived].foundation.pending.unproposed(), 1, "the victim waits again");
    assert!(cluster.replicas[&deceived].foundation.pending.contains(&victim.digest()));
}

/// After a view change only what the new view proposes counts as proposed, not what lost to it and is still held.
#[test]
fn what_lost_to_a_new_view_is_not_proposed_there() {
    let mut cluster = Cluster::new(4);
    let (victim, other) = (request(1, 1), request(2, 1));
    let (lost, chosen) = (naming(&[&victim]), naming(&[&other]));
    cluster.filter = Box::new(|_, _, _| false);
    for request in [&victim, &other] {
        cluster.submit_to(2, request);
    }
    let ballot = Ballot { view: View(0), seq: Seq(1), digest: lost.digest() };
    let prepares = super::review::votes(&cluster, &[1, 2, 3], StatementBody::Prepare(ballot));
    let pre_prepare = super::review::votes(&cluster, &[0], StatementBody::PrePrepare(ballot))[0];
    let prepares = Certificate::collect(&prepares).expect("a certificate");
    let replica = cluster.replicas.get_mut(&ReplicaId(2)).expect("runs");
    for proposal in [&lost, &chosen] {
        replica.learn_proposal(Seq(1), proposal.clone());
    }
    replica.slot(Seq(1)).keep_prepared(PreparedCertificate { ballot, pre_prepare, prepares });
    let choice = Choice { stable: None, slots: vec![(Seq(1), chosen.digest())] };
    let (header, signer) = (replica.foundation.header(), key(2));
    let new_view = NewView::sign(View(2), vec![], &choice.slots, header, cluster.committee.cluster(), &signer);
    replica.install_view(&new_view, &choice);
    assert!(replica.slots[&Seq(1)].proposals.contains_key(&lost.digest()), "its certificate is kept");
    assert_eq!(replica.foundation.pending.unproposed(), 1);
    assert_eq!(replica.foundation.pending.unproposed_among(&[victim.digest()]).0, 1);
}

/// What a peer urges goes first in the next batch; it does not make that batch small, else a liar would make all of them.
#[test]
fn an_urgent_request_waits_for_company_like_any_other() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    let first = (1..=8).map(|number| cluster.verified(&request(1, number))).collect();
    cluster.input(ReplicaId(0), Input::Requests { from: None, requests: first });
    let urgent = request(2, 1);
    let relayed = vec![cluster.verified(&urgent)];
    cluster.input(ReplicaId(0), Input::Requests { from: Some(ReplicaId(2)), requests: relayed });
    let proposed = |cluster: &Cluster| -> Vec<Vec<Digest>> {
        let slots = cluster.replicas[&ReplicaId(0)].slots.values();
        slots.flat_map(|slot| slot.proposals.values()).map(|proposal| proposal.requests().to_vec()).collect()
    };
    assert_eq!(proposed(&cluster).len(), 1, "a batch is under way");
    let more = (11..=13).map(|number| cluster.verified(&request(3, number))).collect();
    cluster.input(ReplicaId(0), Input::Requests { from: None, requests: more });
    let batches = proposed(&cluster);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4]);
    assert_eq!(batches[1][0], urgent.digest());
}

/// Whoever waits for the primary looks again by itself, and nobody else is woken for that.
#[test]
fn who_waits_wakes_itself_and_who_left_does_not() {
    let waiting = request(1, 1);
    let mut cluster = handed(&[&waiting], 0);
    let timeout = parameters().view_timeout;
    let now = cluster.now;
    let replica = cluster.replicas.get_mut(&ReplicaId(1)).expect("runs");
    replica.step(now, Input::Timer);
    replica.step(now, Input::TurnEnd);
    let wake = replica.wake().expect("it looks again");
    assert!(wake > now.monotonic && wake <= now.monotonic + timeout / 8, "{wake} at {}", now.monotonic);
    replica.start_view_change(now, View(1), Departure::TimerExpired);
    let now = Now { monotonic: now.monotonic + timeout, ..now };
    replica.step(now, Input::Timer);
    replica.step(now, Input::TurnEnd);
    assert!(replica.wake().is_none_or(|wake| wake > now.monotonic), "a look that is never taken wakes for ever");
}

/// What is enough for a batch of its own does not wait for a large one to be decided.
#[test]
fn ample_batches_are_proposed_beside_a_large_one() {
    // So patient that hundreds of requests count as soon executed.
    let mut cluster = Cluster::with_parameters(4, Parameters { view_timeout: 10_000_000, ..parameters() });
    let next = |cluster: &Cluster| cluster.replicas[&ReplicaId(0)].next_seq;
    // The pipeline is full of single requests while many come; the batch of those reaches nobody.
    for client in 0..4 {
        cluster.submit(&request(client, 1));
    }
    for client in 4..154 {
        cluster.submit(&request(client, 1));
    }
    assert_eq!(next(&cluster), Seq(5));
    cluster.filter = Box::new(|_, _, message| {
        !matches!(message, Message::PrePrepare(message)
            if matches!(message.signed.body(), StatementBody::PrePrepare(ballot) if ballot.seq > Seq(4)))
    });
    cluster.settle();
    assert_eq!((cluster.executed(0), next(&cluster)), (4, Seq(6)), "one large batch is under way");
    for client in 4..51 {
        cluster.submit(&request(client, 2));
    }
    assert_eq!(next(&cluster), Seq(6), "47 wait for company");
    cluster.submit(&request(51, 2));
    assert_eq!(next(&cluster), Seq(7), "48 are enough");
}
