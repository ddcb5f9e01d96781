//! Drawing a plan from a seed, one kind of fault after the other.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::ReplicaId;
use quorate_protocol::parameters::{Micros, Parameters};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::{Breakage, ClockFault, Damage, Ending, Garbling, MILLISECOND, Shape, Weather, pick};
use crate::faults::{Behaviour, CATALOGUE, Misbehaviour, Trigger};

pub(super) fn parameters(random: &mut ChaCha12Rng) -> Parameters {
    let checkpoint_interval = pick(random, &[4, 8, 16, 32]);
    Parameters {
        checkpoint_interval,
        window: checkpoint_interval * pick(random, &[2, 2, 3, 4]),
        batch_requests_max: pick(random, &[1, 3, 1024, 1024]),
        pending_requests_max: pick(random, &[8, 256, 256]),
        pipeline_depth: pick(random, &[1, 2, 4, 8]),
        sessions_per_client: 8,
        session_courtesy: pick(random, &[0, 1_000, 600_000]),
        reply_cache_bytes: pick(random, &[256, 64 * 1024, 64 * 1024]),
        ..Parameters::default()
    }
}

pub(super) fn weather(random: &mut ChaCha12Rng) -> Weather {
    let lossy = random.random_bool(0.5);
    let duplicating = random.random_bool(0.4);
    let straggling = random.random_bool(0.4);
    Weather {
        latency: pick(random, &[50, 200, 1_000, 10_000]),
        jitter: pick(random, &[10, 300, 2_000, 20_000, 100_000, 500_000]),
        loss: if lossy { pick(random, &[10, 30, 100, 200, 300]) } else { 0 },
        duplicates: if duplicating { pick(random, &[10, 100]) } else { 0 },
        stragglers: if straggling { pick(random, &[5, 50]) } else { 0 },
        straggle: pick(random, &[20, 100, 600]) * MILLISECOND,
    }
}

pub(super) fn liars(random: &mut ChaCha12Rng, replicas: usize) -> BTreeMap<ReplicaId, Vec<Misbehaviour>> {
    let faults = (replicas - 1) / 3;
    let mut liars = BTreeMap::new();
    if !random.random_bool(0.6) {
        return liars;
    }
    for _ in 0..random.random_range(1..=faults) {
        // Low ids lead the first views, where most happens.
        let replica = if random.random_bool(0.5) { 0 } else { random.random_range(0..replicas) };
        let mut behaviours = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let (behaviour, ..) = CATALOGUE[random.random_range(0..CATALOGUE.len())];
            let when = match random.random_range(0..4) {
                0 => Trigger::WhilePrimary,
                1 => Trigger::Percent(random.random_range(5..95)),
                _ => Trigger::Always,
            };
            let until = random.random_bool(0.2).then(|| random.random_range(200..3_000) * MILLISECOND);
            behaviours.push(Misbehaviour { behaviour, when, until });
        }
        liars.insert(ReplicaId(replica as u16), behaviours);
    }
    liars
}

pub(super) fn breakages(
    random: &mut ChaCha12Rng,
    replicas: usize,
    heals_at: Micros,
    crashes_on: bool,
) -> Vec<(Micros, Breakage)> {
    let mut out = Vec::new();
    let partitions_on = random.random_bool(0.5);
    let pauses_on = random.random_bool(0.3);
    let blackouts_on = crashes_on && random.random_bool(0.4);
    let mid_operation = random.random_bool(0.6);
    let times = |random: &mut ChaCha12Rng, on: bool, most: usize| -> Vec<Micros> {
        let count = if on { random.random_range(1..=most) } else { 0 };
        (0..count).map(|_| random.random_range(10 * MILLISECOND..heals_at)).collect()
    };
    for at in times(random, partitions_on, 4) {
        let shape = shape(random, replicas);
        let lasts = pick(random, &[30, 200, 700, 3_000]) * MILLISECOND;
        out.push((at, Breakage::Partition { shape, lasts }));
    }
    for at in times(random, crashes_on, 5) {
        let ending = pick(random, &[Ending::Kill, Ending::Kill, Ending::PowerCut, Ending::TornPowerCut]);
        let operations = (mid_operation && random.random_bool(0.7)).then(|| random.random_range(1..=40));
        let downtime = pick(random, &[1, 20, 150, 1_000]) * MILLISECOND;
        out.push((at, Breakage::Crash { replica: random.random_range(0..replicas), ending, operations, downtime }));
    }
    for at in times(random, blackouts_on, 3) {
        let operations = (mid_operation && random.random_bool(0.7)).then(|| random.random_range(1..=60));
        out.push((at, Breakage::Blackout { operations }));
    }
    for at in times(random, pauses_on, 3) {
        let lasts = pick(random, &[50, 300, 1_500]) * MILLISECOND;
        out.push((at, Breakage::Pause { replica: random.random_range(0..replicas), lasts }));
    }
    let disks_on = crashes_on && random.random_bool(0.4);
    for at in times(random, disks_on, 3) {
        let replica = random.random_range(0..replicas);
        out.push((
            at,
            match random.random_range(0..3) {
                0 => Breakage::IoError { replica, operations: random.random_range(1..=40) },
                1 => Breakage::DiskFull {
                    replica,
                    more: pick(random, &[0, 4_096, 65_536]),
                    lasts: pick(random, &[20, 200, 1_000]) * MILLISECOND,
                },
                _ => Breakage::SlowSync {
                    replica,
                    most: pick(random, &[20, 100, 400]) * MILLISECOND,
                    lasts: pick(random, &[100, 500, 2_000]) * MILLISECOND,
                },
            },
        ));
    }
    out
}

fn shape(random: &mut ChaCha12Rng, replicas: usize) -> Shape {
    let sides = |random: &mut ChaCha12Rng| -> Vec<bool> { (0..replicas).map(|_| random.random_bool(0.5)).collect() };
    match random.random_range(0..6) {
        0 => Shape::Symmetric { side: sides(random) },
        1 => Shape::OneWay { side: sides(random) },
        2 => Shape::Ring,
        3 => {
            // Fewer than half, at least one: the others go on, or nobody does.
            let (first, count) = (random.random_range(0..replicas), random.random_range(1..=(replicas - 1) / 2));
            let side = (0..replicas).map(|index| (index + replicas - first) % replicas < count).collect();
            Shape::Minority { side }
        }
        4 => Shape::Flapping { side: sides(random), period: pick(random, &[5, 40, 150]) * MILLISECOND },
        _ => Shape::Isolated { replica: random.random_range(0..replicas) },
    }
}

/// The replicas that may be faulty: f at a time, liars included, whatever makes them so.
pub(super) struct Budget {
    replicas: usize,
    faults: usize,
    faulty: BTreeSet<usize>,
}

impl Budget {
    pub(super) fn new(replicas: usize, liars: impl Iterator<Item = usize>) -> Budget {
        Budget { replicas, faults: (replicas - 1) / 3, faulty: liars.collect() }
    }

    /// A replica that may fail now, and counts from now on.
    fn take(&mut self, random: &mut ChaCha12Rng) -> Option<usize> {
        if self.faulty.len() >= self.faults {
            return None;
        }
        let replica = random.random_range(0..self.replicas);
        self.faulty.insert(replica).then_some(replica)
    }
}

pub(super) fn clocks(random: &mut ChaCha12Rng, budget: &mut Budget, heals_at: Micros) -> BTreeMap<usize, ClockFault> {
    let mut clocks = BTreeMap::new();
    if !random.random_bool(0.25) {
        return clocks;
    }
    if let Some(replica) = budget.take(random) {
        let hour = pick(random, &[-3_600_000, -60_000, -2_000, 2_000, 60_000, 3_600_000]);
        let fault = match random.random_range(0..3) {
            0 => ClockFault::Off(hour),
            1 => ClockFault::Jumps { period: pick(random, &[30, 300, 1_000]) * MILLISECOND, by: hour },
            _ => ClockFault::Frozen { from: random.random_range(0..heals_at) },
        };
        clocks.insert(replica, fault);
    }
    clocks
}

pub(super) fn damages(random: &mut ChaCha12Rng, budget: &mut Budget, heals_at: Micros) -> Vec<(Micros, Breakage)> {
    let mut out = Vec::new();
    if !random.random_bool(0.4) {
        return out;
    }
    for _ in 0..random.random_range(1..=2) {
        let Some(replica) = budget.take(random) else { continue };
        let damage = pick(random, &[Damage::BitRot, Damage::Misdirected, Damage::LostWrite]);
        let (in_log, choice) = (random.random_bool(0.7), random.random());
        let downtime = pick(random, &[1, 20, 150]) * MILLISECOND;
        let at = random.random_range(50 * MILLISECOND..heals_at);
        out.push((at, Breakage::Damage { replica, damage, in_log, choice, downtime }));
    }
    out
}

/// A view change and a restart, so that every kind of storage operation is among the points.
pub(super) fn around_a_crash_point(replica: usize, heals_at: Micros) -> Vec<(Micros, Breakage)> {
    let isolated = Breakage::Partition { shape: Shape::Isolated { replica: 0 }, lasts: 600 * MILLISECOND };
    let restart = Breakage::Crash { replica, ending: Ending::Kill, operations: None, downtime: 20 * MILLISECOND };
    vec![(150 * MILLISECOND, isolated), (heals_at * 3 / 4, restart)]
}

pub(super) fn link_weather(random: &mut ChaCha12Rng, replicas: usize) -> BTreeMap<(usize, usize), Weather> {
    let mut links = BTreeMap::new();
    if random.random_bool(0.3) {
        for (from, to) in (0..replicas).flat_map(|from| (0..replicas).map(move |to| (from, to))) {
            if from != to && random.random_bool(0.3) {
                links.insert((from, to), weather(random));
            }
        }
    }
    links
}

pub(super) fn garbling(random: &mut ChaCha12Rng) -> Garbling {
    if !random.random_bool(0.3) {
        return Garbling::default();
    }
    let mut share = || pick(random, &[0, 5, 50, 200]);
    Garbling { garbage: share(), truncated: share(), flipped: share() }
}

/// f + 1 replicas that lie, the first primary among them.
pub(super) fn conspirators(random: &mut ChaCha12Rng, replicas: usize) -> BTreeMap<ReplicaId, Vec<Misbehaviour>> {
    let faults = (replicas - 1) / 3;
    (0..=faults)
        .map(|replica| {
            let one = random.random_bool(0.3);
            let behaviour = if one { Behaviour::EquivocateOne } else { Behaviour::Equivocate };
            (ReplicaId(replica as u16), vec![Misbehaviour::always(behaviour)])
        })
        .collect()
}
