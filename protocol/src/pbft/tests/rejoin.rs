//! Replicas that lose their logs and come back (protocol.md, Rejoin): their own way.

use super::cluster::{Cluster, key, parameters, request};
use crate::engine::{Engine, Input};
use crate::message::Message;
use crate::proposal::Payload;
use crate::record::Record;
use crate::rejoin::{RejoinRecord, rejoin_request};
use quorate_crypto::{Incarnation, ReplicaId, Signed, Signer as _, Statement, StatementBody};

pub fn header(cluster: &Cluster, id: u16, incarnation: u32) -> Statement {
    Statement {
        epoch: cluster.committee.epoch(),
        signer: ReplicaId(id),
        incarnation: Incarnation(incarnation),
        body: StatementBody::Rejoin { nonce: [9; 16] },
    }
}

pub fn sign(cluster: &Cluster, id: u16, incarnation: u32, body: StatementBody) -> Signed {
    Statement { body, ..header(cluster, id, incarnation) }.sign(cluster.committee.cluster(), &key(id))
}

pub fn rejoin(cluster: &Cluster, id: u16, incarnation: u32, nonce: u8) -> crate::request::Request {
    let statement = sign(cluster, id, incarnation, StatementBody::Rejoin { nonce: [nonce; 16] });
    rejoin_request(&statement, key(id).public_key())
}

pub fn is_back(cluster: &Cluster, id: u16) -> bool {
    !cluster.replicas[&ReplicaId(id)].status().rejoining
}

pub fn record(cluster: &Cluster, at: u16, of: u16) -> Option<RejoinRecord> {
    crate::rejoin::entry(cluster.tables.get(&ReplicaId(at))?, ReplicaId(of))
}

/// Everything `id` said, from a moment on.
fn said_since(cluster: &Cluster, id: u16, from: usize) -> Vec<Signed> {
    cluster.said.get(&ReplicaId(id)).map(|said| said[from..].to_vec()).unwrap_or_default()
}

fn said(cluster: &Cluster, id: u16) -> usize {
    cluster.said.get(&ReplicaId(id)).map_or(0, Vec::len)
}

/// Runs until `id` is back; at most `seconds`.
pub fn run_until_back(cluster: &mut Cluster, id: u16, seconds: u64) {
    for _ in 0..seconds * 100 {
        if is_back(cluster, id) {
            return;
        }
        cluster.run(10);
    }
    panic!("replica {id} is not back: {:?}", cluster.replicas[&ReplicaId(id)].status());
}

#[test]
fn a_wiped_replica_comes_back_in_an_idle_cluster() {
    for n in [4u16, 5, 7] {
        for wiped in 0..n {
            let mut cluster = Cluster::new(n);
            cluster.submit(&request(1, 1));
            cluster.settle();
            let before = said(&cluster, wiped);
            cluster.wipe(wiped, &parameters());
            run_until_back(&mut cluster, wiped, 10);
            let record = record(&cluster, (wiped + 1) % n, wiped).expect("it rejoined");
            assert_eq!(record.incarnation, Incarnation(1));
            let floor = record.seq.plus(parameters().window);
            let status = cluster.replicas[&ReplicaId(wiped)].status();
            assert!(status.stable >= floor && status.incarnation == Incarnation(1), "{status:?}");
            cluster.run(1_000);
            for number in 2..12 {
                cluster.submit(&request(1, number));
                cluster.settle();
            }
            cluster.run(1_000);
            let signed = said_since(&cluster, wiped, before);
            assert!(!signed.is_empty(), "n = {n}: replica {wiped} votes again");
            for signed in signed {
                assert_eq!(signed.statement.incarnation, Incarnation(1));
                if let Some(ballot) = crate::pbft::slot::ballot_of(signed.body()) {
                    assert!(ballot.seq > floor, "{ballot:?} is not above {floor:?}");
                }
            }
            for id in 0..n {
                assert!(cluster.has_decided(id, &request(1, 11)), "n = {n}, wiped {wiped}, replica {id}");
            }
            cluster.assert_agreement();
            cluster.assert_no_contradiction();
        }
    }
}

#[test]
fn without_its_vote_back_the_cluster_would_stand_still() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    cluster.stop(1);
    cluster.submit(&request(1, 2));
    cluster.run(1_000);
    assert!(cluster.has_decided(0, &request(1, 2)) && cluster.has_decided(3, &request(1, 2)));
}

#[test]
fn two_replicas_wiped_one_after_the_other_come_back() {
    let mut cluster = Cluster::new(4);
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    for wiped in [2, 0] {
        cluster.wipe(wiped, &parameters());
        run_until_back(&mut cluster, wiped, 20);
    }
    cluster.run(1_000);
    // Each of the two is needed now.
    cluster.stop(1);
    cluster.submit(&request(1, 7));
    cluster.run(2_000);
    for id in [0, 2, 3] {
        assert!(cluster.has_decided(id, &request(1, 7)), "replica {id}");
    }
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// The replica's own way: what it signs before it is back is one Rejoin and nothing else.
#[test]
fn a_replica_without_a_trusted_log_signs_nothing_but_rejoin() {
    let mut cluster = Cluster::new(4);
    for number in 1..=6 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    let before = said(&cluster, 0);
    // Nobody lets its Rejoin through.
    cluster.filter = Box::new(|from, _, message| from != ReplicaId(0) || !matches!(message, Message::Requests(_)));
    cluster.wipe(0, &parameters());
    let first = cluster.records[&ReplicaId(0)].first().map(|(_, record)| record.clone());
    assert!(matches!(first, Some(Record::Rejoin(_))), "recorded first: {first:?}");
    cluster.stop(1);
    cluster.submit(&request(1, 7));
    cluster.run(5_000);
    assert!(!is_back(&cluster, 0));
    assert_eq!(said_since(&cluster, 0, before), []);
    assert!(
        !cluster.has_decided(2, &request(1, 7)),
        "it counts among the f: without it and replica 1 nothing is decided"
    );
}

fn records_with_a_rejoin(cluster: &Cluster, id: u16) -> Option<Signed> {
    cluster.records[&ReplicaId(id)].iter().find_map(|(_, record)| match record {
        Record::Rejoin(statement) => Some(*statement),
        _ => None,
    })
}

/// A primary that stops once the Rejoin is ordered owes null requests: the backups' timers run on them.
#[test]
fn a_primary_that_owes_null_requests_is_replaced() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.filter = Box::new(|from, _, message| {
        let is_null = matches!(message, Message::PrePrepare(message) if message.proposal.payload == Payload::Null);
        from != ReplicaId(0) || !is_null
    });
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 20);
    assert!(cluster.view(1) > 0, "replica 0 was left");
    cluster.assert_no_contradiction();
}

/// One null request in almost a timeout keeps every timer from firing, but not the watch over the primary.
#[test]
fn a_primary_that_drips_null_requests_is_replaced() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let allowed = std::rc::Rc::new(std::cell::Cell::new(0));
    let limit = std::rc::Rc::clone(&allowed);
    cluster.filter = Box::new(move |from, _, message| match message {
        Message::PrePrepare(message) if from == ReplicaId(0) && message.proposal.payload == Payload::Null => {
            crate::pbft::slot::ballot_of(message.signed.body()).is_some_and(|ballot| ballot.seq.0 <= limit.get())
        }
        _ => true,
    });
    cluster.wipe(3, &parameters());
    cluster.run(100);
    let ordered = record(&cluster, 1, 3).expect("ordered").seq;
    for drips in 1..=6 {
        allowed.set(ordered.0 + drips);
        cluster.run(400);
    }
    assert!(cluster.view(1) > 0, "replica 0 was left after {} numbers", cluster.executed(1));
}

/// A snapshot becomes durable only when the next checkpoint is stable already, again and again: each counts all the same.
#[test]
fn a_slow_snapshot_store_does_not_keep_a_replica_out() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.slow_store = Some(ReplicaId(3));
    cluster.wipe(3, &parameters());
    for number in 2..80 {
        cluster.submit(&request(1, number));
        cluster.run(20);
    }
    assert!(is_back(&cluster, 3), "{:?}", cluster.replicas[&ReplicaId(3)].status());
    cluster.slow_store = None;
    cluster.run(1_000);
    cluster.restart(ReplicaId(3), &parameters());
    cluster.link(ReplicaId(3));
    cluster.stop(1);
    cluster.submit(&request(1, 80));
    cluster.run(3_000);
    assert!(is_back(&cluster, 3) && cluster.has_decided(3, &request(1, 80)));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// Snapshots that became durable while it had no vote get one when its life begins: with another replica down they could
/// not become stable without it, and the window would fill.
#[test]
fn what_was_stored_on_the_way_back_is_vouched_for() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let number = |message: &Message| match message {
        Message::Checkpoint(signed) => crate::checkpoint::parts(signed.body()).map(|(seq, _)| seq.0),
        Message::StableCheckpoint(certificate) => crate::checkpoint::parts(&certificate.body).map(|(seq, _)| seq.0),
        _ => None,
    };
    // Nobody hears of a checkpoint above 20, and replica 3 not of that at 20, which says that it is back.
    cluster.filter = Box::new(move |from, to, message| {
        let Some(seq) = number(message) else { return true };
        from == ReplicaId(3) || seq < 20 || (seq == 20 && to != ReplicaId(3))
    });
    cluster.wipe(3, &parameters());
    for next in 2..12 {
        cluster.submit(&request(1, next));
        cluster.run(20);
    }
    cluster.run(1_000);
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, quorate_crypto::Seq(20));
    assert!(!is_back(&cluster, 3) && cluster.executed(3) >= 28, "{:?}", cluster.replicas[&ReplicaId(3)].status());
    let before = said(&cluster, 3);
    cluster.filter =
        Box::new(move |from, _, message| from == ReplicaId(3) || number(message).is_none_or(|seq| seq <= 20));
    cluster.run(1_000);
    assert!(is_back(&cluster, 3), "{:?}", cluster.replicas[&ReplicaId(3)].status());
    let vouched = said_since(&cluster, 3, before);
    let vouched = vouched.iter().filter_map(|signed| crate::checkpoint::parts(signed.body())).map(|(seq, _)| seq.0);
    let vouched: Vec<u64> = vouched.collect();
    assert!(vouched.contains(&24) && vouched.contains(&28), "{vouched:?}");
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// A state that is not the certified one does not say how an attempt went.
#[test]
fn a_state_that_contradicts_the_certificate_ends_no_rejoin() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    // What it holds is not what the others will certify at 24, and says that it is back.
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::State { .. } | Message::Chunk { .. }));
    cluster.wipe(3, &parameters());
    cluster.run(1_000);
    assert_eq!(cluster.replicas[&ReplicaId(0)].status().stable, quorate_crypto::Seq(20));
    let mut snapshot = cluster.snapshots[&ReplicaId(0)].clone();
    snapshot.seq = quorate_crypto::Seq(24);
    snapshot.tables.get_mut(&crate::state::TableId(16)).expect("there").insert(b"rot", vec![1]);
    let root = snapshot.header().digest();
    cluster.input(ReplicaId(3), Input::CheckpointStored { snapshot, root });
    assert!(cluster.halts.is_empty() && !is_back(&cluster, 3));
    for number in 2..8 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.run(1_000);
    let status = cluster.replicas[&ReplicaId(3)].status();
    assert!(matches!(cluster.halts.get(&ReplicaId(3)), Some(crate::engine::Halt::Diverged { .. })), "{status:?}");
    assert!(!is_back(&cluster, 3) && cluster.untrusted.contains(&ReplicaId(3)));
}

/// The stale incarnation itself: wiped a second time the replica knows of no life before and asks for incarnation 1 again;
/// the checkpoint shows another nonce, and it must not go on as who it was.
#[test]
fn an_attempt_whose_incarnation_was_used_is_made_again() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    cluster.run(12_000);
    let before = said(&cluster, 3);
    cluster.wipe(3, &parameters());
    assert_eq!(records_with_a_rejoin(&cluster, 3).map(|signed| signed.statement.incarnation), Some(Incarnation(1)));
    run_until_back(&mut cluster, 3, 30);
    for number in 2..9 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.run(500);
    let signed = said_since(&cluster, 3, before);
    assert!(!signed.is_empty() && signed.iter().all(|signed| signed.statement.incarnation == Incarnation(2)));
    assert_eq!(record(&cluster, 0, 3).map(|record| record.incarnation), Some(Incarnation(2)));
    cluster.assert_no_contradiction();
}

/// Whoever caught a Rejoin may send it again and again; it executes once.
#[test]
fn a_replayed_rejoin_changes_nothing() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(3, &parameters());
    let statement = records_with_a_rejoin(&cluster, 3).expect("recorded");
    run_until_back(&mut cluster, 3, 10);
    cluster.run(12_000);
    let executed = cluster.executed(0);
    let before = record(&cluster, 0, 3);
    let replayed = rejoin_request(&statement, key(3).public_key());
    for _ in 0..5 {
        for to in [0, 1, 3] {
            cluster.deliver(ReplicaId(2), ReplicaId(to), Message::Requests(vec![replayed.clone()]));
        }
        cluster.run(500);
    }
    assert_eq!(record(&cluster, 0, 3), before);
    assert!(is_back(&cluster, 3) && cluster.executed(0) <= executed + 5, "no null requests for it");
    cluster.submit(&request(1, 2));
    cluster.run(500);
    assert!(cluster.has_decided(3, &request(1, 2)));
}

/// A liar that asks without end is in another incarnation now and then, and the others go on.
#[test]
fn a_flood_of_rejoins_is_let_through_at_a_bounded_rate() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let mut nonce = 0u8;
    for second in 0..21 {
        for _ in 0..20 {
            let next = record(&cluster, 0, 3).map_or(0, |record| record.incarnation.0) + 1;
            nonce = nonce.wrapping_add(1);
            let flood: Vec<_> = [next, next + 1].iter().map(|life| rejoin(&cluster, 3, *life, nonce)).collect();
            for to in [0, 1, 2] {
                cluster.deliver(ReplicaId(3), ReplicaId(to), Message::Requests(flood.clone()));
                let pending = cluster.replicas[&ReplicaId(to)].status().pending;
                assert!(pending <= 2, "one of each replica, and what the client asks: {pending}");
            }
            cluster.run(50);
        }
        let request = request(1, 2 + second);
        cluster.submit(&request);
        cluster.run(100);
        assert!(cluster.has_decided(0, &request), "second {second}");
    }
    let lives = record(&cluster, 0, 3).map_or(0, |record| record.incarnation.0);
    assert!((2..=6).contains(&lives), "{lives} lives in 23 seconds");
    assert_eq!(cluster.view(0), 0, "and no view changed for it");
}

/// Killed after any record of its way back it boots and comes back, and never contradicts itself.
#[test]
fn killed_at_any_record_of_a_rejoin() {
    for kept in 0..40usize {
        let mut cluster = Cluster::new(4);
        for number in 1..=3 {
            cluster.submit(&request(1, number));
            cluster.settle();
        }
        cluster.wipe(2, &parameters());
        let mut killed = false;
        for step in 0..6_000 {
            cluster.now.monotonic += 5_000;
            cluster.now.wall += 5;
            for id in 0..4u16 {
                cluster.input(ReplicaId(id), Input::Timer);
            }
            while let Some((from, to, message)) = cluster.queue.pop_front() {
                cluster.deliver(from, to, message);
                let written = cluster.records.get(&ReplicaId(2)).map_or(0, Vec::len);
                if !killed && written >= kept {
                    killed = true;
                    cluster.restart(ReplicaId(2), &parameters());
                    cluster.link(ReplicaId(2));
                }
            }
            if is_back(&cluster, 2) && step > 400 {
                break;
            }
        }
        assert!(is_back(&cluster, 2), "killed after {kept} records");
        cluster.stop(1);
        cluster.submit(&request(1, 9));
        cluster.run(2_000);
        assert!(cluster.has_decided(2, &request(1, 9)), "killed after {kept} records");
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// A log that was rolled back: the state shows a life of this replica that its log knows nothing of.
#[test]
fn a_life_that_the_log_does_not_know_is_noticed() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let records = cluster.records[&ReplicaId(2)].clone();
    cluster.wipe(2, &parameters());
    run_until_back(&mut cluster, 2, 10);
    cluster.run(12_000);
    // The old disk is put back: trusted, and of the first life.
    cluster.records.insert(ReplicaId(2), records);
    cluster.snapshots.remove(&ReplicaId(2));
    let before = said(&cluster, 2);
    cluster.restart(ReplicaId(2), &parameters());
    cluster.link(ReplicaId(2));
    cluster.run(15_000);
    let status = cluster.replicas[&ReplicaId(2)].status();
    assert_eq!((status.rejoining, status.incarnation), (false, Incarnation(2)));
    let signed = said_since(&cluster, 2, before);
    let line = record(&cluster, 0, 2).expect("rejoined").seq;
    assert!(signed.iter().all(|signed| signed.statement.incarnation != Incarnation(1)), "{line}: {signed:?}");
    cluster.assert_no_contradiction();
}

#[test]
fn more_than_f_without_a_log_say_so_and_wait() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(2, &parameters());
    let status = cluster.replicas[&ReplicaId(2)].status();
    assert!(status.rejoining && !status.too_many_without_log);
    cluster.wipe(3, &parameters());
    let both = vec![ReplicaId(2), ReplicaId(3)];
    // The first may have been ordered already; nothing is ordered from here on.
    cluster.stop(1);
    cluster.run(3_000);
    for id in [0, 2, 3] {
        let status = cluster.replicas[&ReplicaId(id)].status();
        assert_eq!((status.without_log.clone(), status.too_many_without_log), (both.clone(), true), "{status:?}");
    }
    assert!(!is_back(&cluster, 2) && !is_back(&cluster, 3));
}

/// At n = 7 one liar may be at work while another replica is on its way back.
#[test]
fn a_wiped_replica_comes_back_beside_a_liar() {
    let mut cluster = Cluster::new(7);
    cluster.submit(&request(1, 1));
    cluster.settle();
    // Its COMMITs do not hold.
    cluster.tamper = Box::new(|from, message| {
        if from == ReplicaId(0)
            && let Message::Commit(signed) = message
        {
            signed.signature.0[0] ^= 1;
        }
    });
    cluster.wipe(5, &parameters());
    run_until_back(&mut cluster, 5, 30);
    for number in 2..8 {
        cluster.submit(&request(1, number));
        cluster.run(200);
    }
    assert!(cluster.has_decided(5, &request(1, 7)));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}
