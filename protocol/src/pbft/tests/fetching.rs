//! Bodies that a replica lacks for many numbers at once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Digest, ReplicaId, Seq, StatementBody, View};

use super::cluster::{Cluster, parameters, request};
use super::review::{pre_prepare, votes};
use crate::engine::Input;
use crate::message::{Committed, FETCH_MAX, Message};
use crate::parameters::Parameters;
use crate::proposal::{Payload, Proposal};
use crate::request::Request;

const NUMBERS: u64 = 16;
const NAMED: usize = 256;

fn made_up(seq: u64) -> Vec<Digest> {
    let digest = |place: usize| {
        let mut bytes = [seq as u8; 32];
        bytes[1..9].copy_from_slice(&(place as u64).to_be_bytes());
        Digest(bytes)
    };
    (0..NAMED).map(digest).collect()
}

/// A backup that was handed proposals for a whole window, and lacks every body they name.
fn laggard() -> Cluster {
    // No timer runs out meanwhile.
    let mut cluster = Cluster::with_parameters(4, Parameters { view_timeout: 60_000_000, ..parameters() });
    cluster.filter = Box::new(|_, _, _| false);
    for seq in 1..=NUMBERS {
        let proposal = Proposal { time: 1_000, payload: Payload::Batch(made_up(seq)) };
        let message = pre_prepare(&cluster, 0, 0, seq, &proposal);
        cluster.deliver(ReplicaId(0), ReplicaId(1), message);
    }
    cluster.queue.clear();
    cluster
}

/// How often each body was asked for within so many milliseconds, in questions and in STATUS.
fn asked(cluster: &mut Cluster, millis: u64) -> BTreeMap<Digest, usize> {
    let mut asked = BTreeMap::new();
    for _ in 0..millis / 5 {
        cluster.now.monotonic += 5_000;
        cluster.input(ReplicaId(1), Input::Timer);
        for (_, _, message) in cluster.queue.drain(..) {
            let digests = match message {
                Message::FetchRequests(digests) => digests,
                Message::Status(status) => status.missing_requests,
                _ => Vec::new(),
            };
            for digest in digests {
                *asked.entry(digest).or_default() += 1;
            }
        }
    }
    asked
}

/// Each body takes its time to be verified: whoever asks for all that a window names, again and again and everybody, is sent
/// it many times over.
#[test]
fn a_laggard_asks_for_a_part_at_a_time() {
    let mut cluster = laggard();
    let asked = asked(&mut cluster, 50);
    assert!(asked.len() >= FETCH_MAX - NAMED, "{} bodies", asked.len());
    assert!(asked.len() < FETCH_MAX + NAMED, "{} bodies", asked.len());
    let next: BTreeSet<Digest> = made_up(1).into_iter().collect();
    let in_status = |digest: &Digest| next.contains(digest);
    assert!(asked.iter().all(|(digest, times)| in_status(digest) || *times <= 3), "none is asked for at every turn");
}

/// What a lying primary names may not exist: it keeps nothing else from being asked for.
#[test]
fn bodies_that_never_come_do_not_keep_later_numbers_from_theirs() {
    let mut cluster = laggard();
    let asked = asked(&mut cluster, 3_000);
    assert_eq!(asked.len() as u64, NUMBERS * NAMED as u64);
}

/// Nor does it keep this replica from what the others have decided meanwhile.
#[test]
fn what_is_decided_does_not_wait_for_what_was_made_up() {
    let mut cluster = laggard();
    asked(&mut cluster, 5);
    let seq = NUMBERS + 4;
    let named: Vec<Digest> = made_up(seq).into_iter().take(3).collect();
    let proposal = Proposal { time: 1_000, payload: Payload::Batch(named.clone()) };
    let ballot = Ballot { view: View(0), seq: Seq(seq), digest: proposal.digest() };
    let commits = votes(&cluster, &[0, 2, 3], StatementBody::Commit(ballot));
    let certificate = Certificate::collect(&commits).expect("a certificate");
    let committed = Message::CommitCertificate(Committed { certificate, proposal });
    cluster.deliver(ReplicaId(2), ReplicaId(1), committed);
    let asked = asked(&mut cluster, 10);
    assert!(named.iter().all(|digest| asked.contains_key(digest)), "{} bodies", asked.len());
}

/// Nor does it keep a new primary from what its view opens with: the others prepared a number that only they were handed.
#[test]
fn what_a_new_view_needs_is_asked_for_beside_what_was_made_up() {
    let mut cluster = Cluster::with_parameters(4, Parameters { view_timeout: 400_000, ..parameters() });
    cluster.filter = Box::new(|_, _, _| false);
    let names = |seq: u64| (0..4).flat_map(|part| made_up(16 * seq + part)).collect::<Vec<Digest>>();
    let given: Vec<Request> = (1..=3).map(|number| request(1, number)).collect();
    let named = [names(1), names(2), names(3), names(4), given.iter().map(Request::digest).collect()];
    for (seq, named) in (1..).zip(&named) {
        let proposal = Proposal { time: 1_000, payload: Payload::Batch(named.clone()) };
        let message = pre_prepare(&cluster, 0, 0, seq, &proposal);
        for to in if seq == 5 { vec![1, 2, 3] } else { vec![1] } {
            for request in given.iter().filter(|_| to != 1) {
                cluster.submit_to(to, request);
            }
            cluster.deliver(ReplicaId(0), ReplicaId(to), message.clone());
        }
    }
    // They prepare it.
    for (from, to, message) in cluster.queue.drain(..).collect::<Vec<_>>() {
        if matches!(message, Message::Prepare(_)) && to > ReplicaId(1) {
            cluster.deliver(from, to, message);
        }
    }
    let before = asked(&mut cluster, 25);
    assert!(named[4].iter().all(|digest| !before.contains_key(digest)), "what was made up goes first");
    // And leave view 0, and replica 1 with them.
    let mut moves = Vec::new();
    for _ in 0..100 {
        cluster.now.monotonic += 5_000;
        for id in [2, 3] {
            cluster.input(ReplicaId(id), Input::Timer);
        }
        let sent = cluster.queue.drain(..);
        moves.extend(sent.filter(|(_, to, message)| *to == ReplicaId(1) && matches!(message, Message::ViewChange(_))));
    }
    for (from, to, message) in moves {
        cluster.deliver(from, to, message);
    }
    assert!(cluster.view(1) == 1 && !cluster.replicas[&ReplicaId(1)].own_status().entered);
    let after = asked(&mut cluster, 100);
    assert!(named[4].iter().all(|digest| after.contains_key(digest)), "{} bodies", after.len());
}
