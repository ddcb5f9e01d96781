//! Random schedules: loss, delay, repetition and reordering of messages, restarts, one liar that proposes two blocks a view;
//! then everything heals. Nothing is decided twice in any of them, nobody honest contradicts itself, and all is done in the
//! end. A seed decides everything.

use std::collections::VecDeque;

use quorate_crypto::ReplicaId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::cluster::{Cluster, parameters, request};
use super::liars::twin;
use crate::message::Message;

/// One step of a schedule.
fn disturb(cluster: &mut Cluster, random: &mut StdRng, liar: Option<u16>) {
    let loss = random.random_range(0..4u32);
    let mut kept: VecDeque<(ReplicaId, ReplicaId, Message)> = VecDeque::new();
    for _ in 0..random.random_range(10..200) {
        let Some((from, to, mut message)) = cluster.queue.pop_front() else { break };
        match random.random_range(0..10u32) {
            chance if chance < loss => {}
            7 => kept.push_back((from, to, message)),
            8 => {
                kept.push_back((from, to, message.clone()));
                cluster.deliver(from, to, message);
            }
            _ => {
                if let (true, Message::BlockProposal(proposal)) = (liar == Some(from.0), &message)
                    && proposal.block.author == from
                    && random.random_bool(0.5)
                {
                    message = Message::BlockProposal(twin(proposal, &cluster.committee));
                }
                cluster.deliver(from, to, message);
            }
        }
    }
    cluster.queue.extend(kept);
    cluster.queue.truncate(3_000);
    cluster.now.monotonic += random.random_range(1_000..60_000);
    cluster.now.wall += 20;
    for id in cluster.replicas.keys().copied().collect::<Vec<_>>() {
        cluster.input(id, crate::engine::Input::Timer);
    }
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let n = [4, 5, 6, 7][random.random_range(0..4usize)];
    let liar = random.random_bool(0.3).then(|| random.random_range(0..n));
    let restarts = random.random_bool(0.6);
    let mut cluster = Cluster::new(n);
    let requests = random.random_range(5..40u64);
    for number in 1..=requests {
        cluster.submit(&request(1, number));
        for _ in 0..random.random_range(1..12) {
            disturb(&mut cluster, &mut random, liar);
            if restarts && random.random_bool(0.05) {
                let id = ReplicaId(random.random_range(0..n));
                if liar != Some(id.0) {
                    cluster.restart(id, &parameters());
                }
            }
        }
    }
    cluster.queue.clear();
    // Clients send again what got no answer.
    for number in 1..=requests {
        cluster.submit(&request(1, number));
    }
    cluster.run(12_000);
    for id in (0..n).filter(|id| liar != Some(*id)) {
        let state = &cluster.states[&ReplicaId(id)];
        let done = (1..=requests).filter(|number| state.contains_key(request(1, *number).digest().as_bytes())).count();
        assert_eq!(
            done as u64,
            requests,
            "seed {seed}: replica {id} of {n}: {:?}",
            cluster.replicas[&ReplicaId(id)].own_status()
        );
    }
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
    assert!(cluster.halts.is_empty(), "seed {seed}: {:?}", cluster.halts);
    for (holder, evidence) in &cluster.evidence {
        for evidence in evidence {
            assert_eq!(
                Some(evidence.author().0),
                liar,
                "seed {seed}: {holder:?} accuses an honest replica: {evidence:?}"
            );
        }
    }
}

/// Replicas are cut off for so long that blocks or a state must be fetched, come back under load, crash while they catch up, and
/// crash again; with disks on which snapshots are slow to become durable, and some wiped.
fn run_absences(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let n = [4, 4, 7][random.random_range(0..3usize)];
    let parameters = parameters();
    let mut cluster = Cluster::new(n);
    cluster.slow_store = random.random_bool(0.5).then(|| ReplicaId(random.random_range(0..n)));
    let mut requests = 0;
    for _ in 0..random.random_range(2..5) {
        let id = ReplicaId(random.random_range(0..n));
        cluster.filter = Box::new(move |from, to, _| from != id && to != id);
        for _ in 0..random.random_range(1..60) {
            requests += 1;
            cluster.submit(&request((requests % 50) as u8, requests));
            cluster.run(random.random_range(1..40));
        }
        cluster.filter = Box::new(|_, _, _| true);
        if random.random_bool(0.3) && cluster.untrusted.is_empty() {
            cluster.wipe(id.0, &parameters);
        }
        for _ in 0..random.random_range(0..4) {
            for _ in 0..random.random_range(0..200) {
                if random.random_bool(0.2) {
                    requests += 1;
                    cluster.submit(&request((requests % 50) as u8, requests));
                }
                cluster.hop();
            }
            let crashes = if random.random_bool(0.7) { id } else { ReplicaId(random.random_range(0..n)) };
            cluster.restart(crashes, &parameters);
            cluster.link(crashes);
        }
    }
    for number in 1..=requests {
        cluster.submit(&request((number % 50) as u8, number));
    }
    cluster.run(20_000);
    for (id, state) in &cluster.states {
        let lacks = (1..=requests)
            .find(|number| !state.contains_key(request((*number % 50) as u8, *number).digest().as_bytes()));
        let status = cluster.replicas[id].own_status();
        assert_eq!(lacks, None, "seed {seed}: {id:?} of {n}, {requests} requests: {status:?}");
    }
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
    assert!(cluster.halts.is_empty(), "seed {seed}: {:?}", cluster.halts);
    assert!(cluster.evidence.values().all(Vec::is_empty), "seed {seed}: {:?}", cluster.evidence);
}

#[test]
fn who_was_away_and_crashes_on_the_way_back_catches_up() {
    let seeds = std::env::var("QUORATE_CHAOS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let first = std::env::var("QUORATE_CHAOS_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        run_absences(seed);
    }
}

#[test]
fn random_schedules_decide_nothing_twice_and_end_well() {
    let seeds = std::env::var("QUORATE_CHAOS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let first = std::env::var("QUORATE_CHAOS_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        run(seed);
    }
}
