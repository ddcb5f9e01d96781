//! Drawing a plan from a seed, one kind of fault after the other.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::{Protocol, ReplicaId};
use quorate_protocol::parameters::{Micros, Parameters};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::{Breakage, ClockFault, Damage, Ending, Garbling, MILLISECOND, Shape, Weather, pick};
use crate::faults::client::ClientBehaviour;
use crate::faults::{Behaviour, CATALOGUE, Entry, Group, Misbehaviour, Trigger};

/// Behaviours there were when the simulator was young.
const FIRST_BEHAVIOURS: usize = 6;

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

/// From the first behaviours only.
pub(super) fn first_liars(random: &mut ChaCha12Rng, replicas: usize) -> BTreeMap<ReplicaId, Vec<Misbehaviour>> {
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
            let Entry { behaviour, .. } = CATALOGUE[random.random_range(0..FIRST_BEHAVIOURS)];
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

/// Who lies in what way: from the whole catalogue, with every kind of trigger.
pub(super) fn liars(
    random: &mut ChaCha12Rng,
    replicas: usize,
    protocol: Protocol,
) -> BTreeMap<ReplicaId, Vec<Misbehaviour>> {
    let faults = (replicas - 1) / 3;
    let mut liars: BTreeMap<ReplicaId, Vec<Misbehaviour>> = BTreeMap::new();
    if !random.random_bool(0.7) {
        return liars;
    }
    for _ in 0..random.random_range(1..=faults) {
        // Low ids lead the first views, where most happens.
        let replica =
            if random.random_bool(0.6) { random.random_range(0..2) } else { random.random_range(0..replicas) };
        let behaviours: Vec<Misbehaviour> =
            (0..random.random_range(1..=4)).map(|_| misbehaviour(random, protocol)).collect();
        // Who says nothing has no occasion for anything else.
        let silent = behaviours.iter().find(|one| one.behaviour == Behaviour::Silent).cloned();
        liars.insert(ReplicaId(replica as u16), silent.map_or(behaviours, |silent| vec![silent]));
    }
    liars
}

/// Small windows and a replica that stands still: it must fetch the state, from whoever serves it, and be waited for or
/// not in the meantime. Without this, lies that meet a transfer would be too rare.
pub(super) fn fall_behind(
    random: &mut ChaCha12Rng,
    replicas: usize,
    heals_at: Micros,
    parameters: &mut Parameters,
    breakages: &mut Vec<(Micros, Breakage)>,
) {
    parameters.checkpoint_interval = 4;
    parameters.window = 8;
    parameters.batch_requests_max = pick(random, &[1, 3]);
    let at = random.random_range(10 * MILLISECOND..heals_at / 2);
    let lasts = random.random_range(heals_at / 4..heals_at);
    breakages.push((at, Breakage::Pause { replica: random.random_range(0..replicas), lasts }));
    breakages.sort_by_key(|(at, _)| *at);
}

/// One replica begins to lie while another is on its way back: far behind after a pause, or, among seven, without its log.
/// Nothing else breaks but, for lies about view changes, the link of the first primary as the other comes back.
pub(super) fn meeting(
    random: &mut ChaCha12Rng,
    replicas: usize,
    protocol: Protocol,
    parameters: &mut Parameters,
) -> (BTreeMap<ReplicaId, Vec<Misbehaviour>>, Vec<(Micros, Breakage)>) {
    parameters.checkpoint_interval = 4;
    parameters.window = 8;
    parameters.batch_requests_max = pick(random, &[1, 3]);
    let Entry { behaviour, group, .. } = *entry(random, protocol);
    let in_view_change = group == Group::ViewChange;
    // The liar leads the first view, or the one that follows when the first primary is cut off.
    let liar = usize::from(in_view_change);
    let replica = random.random_range(2..replicas);
    let back_at = random.random_range(300..900) * MILLISECOND;
    let mut breakages = Vec::new();
    if replicas == 7 && random.random_bool(0.7) {
        let downtime = pick(random, &[1, 20]) * MILLISECOND;
        breakages.push((back_at - 120 * MILLISECOND, Breakage::Wipe { replica, downtime, dies_at: None }));
    } else {
        breakages.push((10 * MILLISECOND, Breakage::Pause { replica, lasts: back_at }));
    }
    if in_view_change {
        let shape = Shape::Isolated { replica: 0 };
        breakages.push((back_at - 100 * MILLISECOND, Breakage::Partition { shape, lasts: 700 * MILLISECOND }));
    }
    let lies_at = back_at - random.random_range(0..100) * MILLISECOND;
    breakages.push((lies_at, Breakage::Turn { replica: liar, on: vec![Misbehaviour::always(behaviour)] }));
    breakages.sort_by_key(|(at, _)| *at);
    // It counts among the faulty from the start, and is silent about it.
    (BTreeMap::from([(ReplicaId(liar as u16), Vec::new())]), breakages)
}

/// One of those that mean something under `protocol`. What was added for the other one changes no draw.
fn entry(random: &mut ChaCha12Rng, protocol: Protocol) -> &'static Entry {
    let possible: Vec<&Entry> = CATALOGUE.iter().filter(|entry| entry.behaviour.is_of(protocol)).collect();
    possible[random.random_range(0..possible.len())]
}

fn misbehaviour(random: &mut ChaCha12Rng, protocol: Protocol) -> Misbehaviour {
    let Entry { behaviour, acts_as_primary, .. } = *entry(random, protocol);
    let when = match random.random_range(0..8) {
        0 if acts_as_primary => Trigger::WhilePrimary,
        1 => Trigger::Percent(random.random_range(5..95)),
        2 => {
            let from = random.random_range(0..3);
            Trigger::Views(from..=from + random.random_range(0..3))
        }
        3 => {
            let from = random.random_range(1..40);
            Trigger::Numbers(from..=from + random.random_range(1..40))
        }
        _ => Trigger::Always,
    };
    let until = random.random_bool(0.2).then(|| random.random_range(1_200..4_000) * MILLISECOND);
    Misbehaviour { behaviour, when, until }
}

pub(super) fn faulty_clients(random: &mut ChaCha12Rng) -> Vec<ClientBehaviour> {
    let count = if random.random_bool(0.3) { random.random_range(1..=2) } else { 0 };
    (0..count).map(|_| pick(random, &ClientBehaviour::ALL)).collect()
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

    /// The replicas that may be faulty for a time, one after the other; none if there is no room for one more.
    fn sound(&self) -> Vec<usize> {
        let room = self.faulty.len() < self.faults;
        (0..self.replicas).filter(|replica| room && !self.faulty.contains(replica)).collect()
    }

    /// Those that are faulty from beginning to end.
    pub(super) fn into_faulty(self) -> BTreeSet<usize> {
        self.faulty
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

/// Lost disks, in a share of the runs that have room for them. A replica that lost its disk is faulty until it is back, which
/// only the run can know: a loss that would make more than f does not take place.
pub(super) fn wipes(random: &mut ChaCha12Rng, budget: &Budget, heals_at: Micros) -> Vec<(Micros, Breakage)> {
    let sound = budget.sound();
    if sound.is_empty() || !random.random_bool(0.6) {
        return Vec::new();
    }
    let count = random.random_range(1..=3);
    let one = |random: &mut ChaCha12Rng| {
        let downtime = pick(random, &[1, 20, 150, 1_000]) * MILLISECOND;
        let replica = pick(random, &sound);
        (random.random_range(10 * MILLISECOND..heals_at), Breakage::Wipe { replica, downtime, dies_at: None })
    };
    (0..count).map(|_| one(random)).collect()
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn lost(seed: u64, replicas: usize, faulty: &[usize]) -> Vec<usize> {
        let budget = Budget::new(replicas, faulty.iter().copied());
        let wipes = wipes(&mut ChaCha12Rng::seed_from_u64(seed), &budget, 1_000 * MILLISECOND);
        let replica = |(_, breakage): &(Micros, Breakage)| match breakage {
            Breakage::Wipe { replica, .. } => *replica,
            other => panic!("{other:?}"),
        };
        wipes.iter().map(replica).collect()
    }

    #[test]
    fn lost_disks_take_the_room_that_others_leave() {
        let mut all = BTreeSet::new();
        for seed in 0..200 {
            assert_eq!(lost(seed, 4, &[2]), Vec::<usize>::new(), "one of four is faulty already");
            assert_eq!(lost(seed, 7, &[0, 2]), Vec::<usize>::new(), "two of seven are");
            all.extend(lost(seed, 7, &[2]));
        }
        assert_eq!(all, BTreeSet::from([0, 1, 3, 4, 5, 6]), "any replica but one that is faulty from the beginning");
    }
}
