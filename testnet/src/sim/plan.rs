//! What a seed decides before the first event: the cluster, its weather, its liars, and what will break when.
//!
//! Swarm testing (Groce et al., ISSTA 2012): every kind of fault is switched off altogether in a share of the runs, so
//! that none of them hides what another would have shown.

use std::collections::BTreeMap;

use quorate_crypto::ReplicaId;
use quorate_protocol::parameters::{Micros, Parameters};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use crate::faults::{Behaviour, CATALOGUE, Misbehaviour, Trigger};

/// One millisecond of virtual time.
pub(super) const MILLISECOND: Micros = 1_000;

/// A deliberate defect that the oracles must catch: the proof that they look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Disks ignore fdatasync.
    LostSync,
    /// Messages leave and decisions count without waiting for their records.
    SendBeforeRecord,
}

impl Sabotage {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Sabotage::LostSync => "lost-sync",
            Sabotage::SendBeforeRecord => "send-before-record",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Sabotage> {
        [Sabotage::LostSync, Sabotage::SendBeforeRecord].into_iter().find(|one| one.name() == name)
    }
}

/// What the caller decides instead of the seed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// n; by the seed (4 to 7) if none.
    pub replicas: Option<usize>,
    /// Replicas that lie, with what; by the seed if empty.
    pub faults: Vec<(ReplicaId, Behaviour)>,
    /// Real ed25519 signatures; one seed in fifty uses them anyway.
    pub ed25519: bool,
    /// Power fails for the whole cluster at this storage operation of the run. Other crashes are off then.
    pub power_cut_at: Option<u64>,
    /// One replica loses its disk, and is killed as it asks for this storage operation of the new one. Nothing else breaks.
    pub rejoin_dies_at: Option<u64>,
    /// A defect to be found.
    pub sabotage: Option<Sabotage>,
    /// Collect a line for every event.
    pub trace: bool,
}

/// Faults of the network while it is bad.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Every message takes at least this long.
    pub(super) latency: Micros,
    /// And up to so much longer.
    pub(super) jitter: Micros,
    /// So many in a thousand are lost.
    pub(super) loss: u32,
    /// So many in a thousand arrive twice.
    pub(super) duplicates: u32,
    /// So many in a thousand are held up for `straggle`.
    pub(super) stragglers: u32,
    /// Up to so long.
    pub(super) straggle: Micros,
}

/// A network that only takes its time.
pub(super) const FAIR_WEATHER: Weather =
    Weather { latency: 150, jitter: 350, loss: 0, duplicates: 0, stragglers: 0, straggle: 1 };

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process is killed; what it wrote stays.
    Kill,
    /// The machine loses power; what was not synced may be gone.
    PowerCut,
}

/// Something that breaks.
#[derive(Debug, Clone)]
pub(super) enum Breakage {
    /// Messages between the two sides are lost (only from the first to the second, if `one_way`).
    Partition { side: Vec<bool>, one_way: bool, lasts: Micros },
    /// One replica dies, at once or as it asks for a storage operation a little later.
    Crash { replica: usize, ending: Ending, operations: Option<u64>, downtime: Micros },
    /// Every replica loses power, at once or at a storage operation a little later.
    Blackout { operations: Option<u64> },
    /// One process stands still.
    Pause { replica: usize, lasts: Micros },
    /// One replica loses its disk and comes back with an empty one, unless liars and replicas without a log would then be
    /// more than f. It is killed as it asks for storage operation `dies_at` of its new disk, if that is given.
    Wipe { replica: usize, downtime: Micros, dies_at: Option<u64> },
}

/// Everything a seed decides.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) replicas: usize,
    pub(super) parameters: Parameters,
    pub(super) compaction_retention: u64,
    pub(super) liars: BTreeMap<ReplicaId, Vec<Misbehaviour>>,
    pub(super) ed25519: bool,
    pub(super) weather: Weather,
    pub(super) breakages: Vec<(Micros, Breakage)>,
    /// Whether disks are lost.
    pub(super) wipes: bool,
    /// Processes may die again while they recover.
    pub(super) dies_in_recovery: bool,
    /// When everything but the liars heals.
    pub(super) heals_at: Micros,
    /// Longest sync of a log.
    pub(super) sync_max: Micros,
    pub(super) log_segment_bytes: u64,
    /// What each replica's wall clock is off, milliseconds.
    pub(super) skews: Vec<i64>,
    pub(super) clients: usize,
    pub(super) operations_per_client: usize,
    pub(super) keys: usize,
    pub(super) think_max: Micros,
    pub(super) in_flight: usize,
    /// Validity of requests, milliseconds.
    pub(super) lifetime: u64,
    pub(super) power_cut_at: Option<u64>,
    pub(super) sabotage: Option<Sabotage>,
}

fn pick<T: Copy>(random: &mut ChaCha12Rng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

impl Plan {
    /// The plan of `seed`, but for what `options` decide.
    pub(super) fn new(seed: u64, options: &Options) -> Plan {
        let random = &mut ChaCha12Rng::seed_from_u64(seed);
        let by_seed = if random.random_bool(0.5) { 4 } else { random.random_range(4..=7) };
        let replicas = options.replicas.unwrap_or(by_seed);
        let parameters = parameters(random);
        let heals_at = random.random_range(500..3_000) * MILLISECOND;
        let crashes_on = random.random_bool(0.6) && options.power_cut_at.is_none();
        let mut breakages = breakages(random, replicas, heals_at, crashes_on);
        if options.power_cut_at.is_none() {
            breakages.extend(wipes(seed, replicas, heals_at));
            breakages.sort_by_key(|(at, _)| *at);
        }
        let alone = options.rejoin_dies_at.map(|operation| {
            let replica = (seed % replicas as u64) as usize;
            let wipe = Breakage::Wipe { replica, downtime: MILLISECOND, dies_at: Some(operation) };
            vec![(200 * MILLISECOND, wipe)]
        });
        // Time enough to come back before everything heals.
        let heals_at = if alone.is_some() { 2_500 * MILLISECOND } else { heals_at };
        let breakages = alone.unwrap_or(breakages);
        let crashes_on = crashes_on && options.rejoin_dies_at.is_none();
        let by_seed = liars(random, replicas);
        let lies = options.faults.is_empty() && options.rejoin_dies_at.is_none();
        let mut liars = if lies { by_seed } else { BTreeMap::new() };
        for (replica, behaviour) in &options.faults {
            liars.entry(*replica).or_default().push(Misbehaviour::always(*behaviour));
        }
        let skewed = random.random_bool(0.3);
        let skews = (0..replicas).map(|_| if skewed { random.random_range(-200..=200) } else { 0 }).collect();
        Plan {
            seed,
            replicas,
            parameters,
            compaction_retention: pick(random, &[0, 0, 5, 50]),
            liars,
            ed25519: options.ed25519 || seed.is_multiple_of(50),
            weather: weather(random),
            wipes: breakages.iter().any(|(_, breakage)| matches!(breakage, Breakage::Wipe { .. })),
            breakages,
            dies_in_recovery: crashes_on && random.random_bool(0.5),
            heals_at,
            sync_max: pick(random, &[200, 1_000, 2_000]),
            log_segment_bytes: pick(random, &[32, 64, 256]) * 1024,
            skews,
            clients: random.random_range(1..=4),
            operations_per_client: random.random_range(4..=40),
            keys: random.random_range(1..=5),
            think_max: pick(random, &[2, 20, 80, 200]) * MILLISECOND,
            in_flight: pick(random, &[1, 1, 4, 16]),
            lifetime: pick(random, &[60_000, 60_000, 60_000, 1_000]),
            power_cut_at: options.power_cut_at,
            sabotage: options.sabotage,
        }
    }

    /// How long after the last submission every request must have ended and every honest replica caught up: 5 view
    /// timeouts, f + 1 back-offs at their cap, the client's longest wait before it sends again, and two idle STATUS.
    /// A replica that lost its disk may have to ask twice, with forty view timeouts in between.
    pub(super) fn liveness_bound(&self, faults: usize, resend_max: Micros) -> Micros {
        let timeout = self.parameters.view_timeout;
        let backoff = timeout * u64::from(self.parameters.backoff_cap);
        let wiped = if self.wipes { 2 * 40 * timeout + (faults as u64 + 1) * backoff } else { 0 };
        5 * timeout + (faults as u64 + 1) * backoff + resend_max + 2 * self.parameters.status_interval_idle + wiped
    }
}

fn parameters(random: &mut ChaCha12Rng) -> Parameters {
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

fn weather(random: &mut ChaCha12Rng) -> Weather {
    let lossy = random.random_bool(0.5);
    let duplicating = random.random_bool(0.4);
    let straggling = random.random_bool(0.4);
    Weather {
        latency: pick(random, &[50, 200, 1_000, 10_000]),
        jitter: pick(random, &[10, 300, 2_000, 20_000]),
        loss: if lossy { pick(random, &[5, 30, 100, 250]) } else { 0 },
        duplicates: if duplicating { pick(random, &[10, 100]) } else { 0 },
        stragglers: if straggling { pick(random, &[5, 50]) } else { 0 },
        straggle: pick(random, &[20, 100, 600]) * MILLISECOND,
    }
}

fn liars(random: &mut ChaCha12Rng, replicas: usize) -> BTreeMap<ReplicaId, Vec<Misbehaviour>> {
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

/// Lost disks, in a share of the runs. Drawn from a generator of their own, so that a seed decides everything else as it did
/// before disks could be lost.
fn wipes(seed: u64, replicas: usize, heals_at: Micros) -> Vec<(Micros, Breakage)> {
    let random = &mut ChaCha12Rng::seed_from_u64(seed ^ 0x10_57d1);
    if !random.random_bool(0.4) {
        return Vec::new();
    }
    let count = random.random_range(1..=3);
    let one = |random: &mut ChaCha12Rng| {
        let downtime = pick(random, &[1, 20, 150, 1_000]) * MILLISECOND;
        let replica = random.random_range(0..replicas);
        (random.random_range(10 * MILLISECOND..heals_at), Breakage::Wipe { replica, downtime, dies_at: None })
    };
    (0..count).map(|_| one(random)).collect()
}

fn breakages(random: &mut ChaCha12Rng, replicas: usize, heals_at: Micros, crashes_on: bool) -> Vec<(Micros, Breakage)> {
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
        let side = (0..replicas).map(|_| random.random_bool(0.5)).collect();
        let lasts = pick(random, &[30, 200, 700, 3_000]) * MILLISECOND;
        out.push((at, Breakage::Partition { side, one_way: random.random_bool(0.4), lasts }));
    }
    for at in times(random, crashes_on, 5) {
        let ending = if random.random_bool(0.5) { Ending::Kill } else { Ending::PowerCut };
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
    out.sort_by_key(|(at, _)| *at);
    out
}
