//! What a seed decides before the first event: the cluster, its weather, its liars, and what will break when.
//!
//! Swarm testing (Groce et al., ISSTA 2012): every kind of fault is switched off altogether in a share of the runs, so
//! that none of them hides what another would have shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::{Protocol, ReplicaId};
use quorate_protocol::parameters::{Micros, Parameters};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::{script, twins};
use crate::faults::Misbehaviour;
use crate::faults::client::ClientBehaviour;

mod draw;
mod items;
mod partition;

use draw::Budget;
pub(super) use partition::Shape;

/// One millisecond of virtual time.
pub(super) const MILLISECOND: Micros = 1_000;

/// A deliberate defect that the oracles must catch: the proof that they look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Disks ignore fdatasync.
    LostSync,
    /// Messages leave and decisions count without waiting for their records.
    SendBeforeRecord,
    /// Quorums are one smaller than they must be.
    LowQuorum,
    /// Nothing is wrong, and the run says that something is: the canary that must always be seen to fail.
    Canary,
}

impl Sabotage {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Sabotage::LostSync => "lost-sync",
            Sabotage::SendBeforeRecord => "send-before-record",
            Sabotage::LowQuorum => "low-quorum",
            Sabotage::Canary => "canary",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Sabotage> {
        let all = [Sabotage::LostSync, Sabotage::SendBeforeRecord, Sabotage::LowQuorum, Sabotage::Canary];
        all.into_iter().find(|one| one.name() == name)
    }
}

/// One replica dies as it asks for one storage operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Which replica.
    pub replica: usize,
    /// Which of its operations, counted from its first start on; the first has number 1.
    pub operation: u64,
    /// Whether the machine loses power, rather than the process being killed.
    pub power_cut: bool,
}

/// What the caller decides instead of the seed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the cluster runs.
    pub protocol: Choice,
    /// n; by the seed (4 to 7) if none.
    pub replicas: Option<usize>,
    /// Replicas that lie, with what; by the seed if empty.
    pub faults: Vec<(ReplicaId, Misbehaviour)>,
    /// Clients that misbehave, one each; by the seed if empty.
    pub client_faults: Vec<ClientBehaviour>,
    /// Liars draw from the first behaviours of the catalogue only and no client misbehaves, as when the simulator was
    /// young: the seeds that failed then keep their meaning.
    pub first_behaviours: bool,
    /// No disk is lost, as when none could be: the seeds that failed then keep their meaning.
    pub disks_stay: bool,
    /// Real ed25519 signatures; one seed in fifty uses them anyway.
    pub ed25519: bool,
    /// Power fails for the whole cluster at this storage operation of the run. Other crashes are off then.
    pub power_cut_at: Option<u64>,
    /// One replica loses its disk, and is killed as it asks for this storage operation of the new one. Nothing else breaks.
    pub rejoin_dies_at: Option<u64>,
    /// One replica dies at this storage operation. The workload then holds a view change and a restart of that replica,
    /// and no other crash but in its recovery.
    pub crash_point: Option<CrashPoint>,
    /// f + 1 replicas lie and work together: agreement may break, and then the evidence must name them.
    pub beyond_f: bool,
    /// Nothing breaks and nobody lies: the canary that must never fail.
    pub calm: bool,
    /// Numbers of planned faults that are left out, as a shrunk failure names them.
    pub without: BTreeSet<usize>,
    /// One replica runs twice, and nothing else is wrong but what this scenario says.
    pub twins: Option<twins::Scenario>,
    /// Nothing goes wrong but what this script says.
    pub script: Option<Arc<script::Script>>,
    /// What the run costs is counted in this window; the run ends with it.
    pub meter: Option<super::meter::Window>,
    /// A defect to be found.
    pub sabotage: Option<Sabotage>,
    /// Collect a line for every event.
    pub trace: bool,
}

impl Options {
    /// Of a run in which nothing goes wrong but what `script` says.
    pub fn scripted(protocol: Protocol, script: script::Script) -> Options {
        Options {
            protocol: protocol.into(),
            replicas: Some(script.replicas),
            calm: true,
            script: Some(Arc::new(script)),
            ..Options::default()
        }
    }

    /// Whether they decide nothing about what goes wrong, but for n.
    fn leave_all_to_the_seed(&self) -> bool {
        let points = self.power_cut_at.is_some() || self.rejoin_dies_at.is_some() || self.crash_point.is_some();
        let named = !self.faults.is_empty() || !self.client_faults.is_empty() || self.script.is_some();
        let less = self.first_behaviours || self.disks_stay || self.calm;
        !points && !named && !less && !self.beyond_f && self.twins.is_none()
    }
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
    /// The same on a medium whose sectors are not atomic: what was not synced may be noise.
    TornPowerCut,
}

/// What goes wrong for good with what a disk holds. It counts its replica among the f.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// A few bits of a block flip.
    BitRot,
    /// A block was written where another belongs; its own place keeps zeros.
    Misdirected,
    /// A block was never written, although its sync returned.
    LostWrite,
}

/// What a wall clock does that is worse than the bound allows. It counts its replica among the f.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockFault {
    /// Off by so many milliseconds.
    Off(i64),
    /// Every second such period it is off by so many milliseconds.
    Jumps { period: Micros, by: i64 },
    /// It stands still from this virtual time on.
    Frozen { from: Micros },
}

/// How often frames on the links of liars arrive damaged, in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Garbling {
    /// Replaced by garbage of any length.
    pub(super) garbage: u32,
    /// Cut short.
    pub(super) truncated: u32,
    /// With one bit flipped.
    pub(super) flipped: u32,
}

/// Something that breaks.
#[derive(Debug, Clone)]
pub(super) enum Breakage {
    /// Messages across a partition are lost.
    Partition { shape: Shape, lasts: Micros },
    /// One replica dies, at once or as it asks for a storage operation a little later.
    Crash { replica: usize, ending: Ending, operations: Option<u64>, downtime: Micros },
    /// Every replica loses power, at once or at a storage operation a little later.
    Blackout { operations: Option<u64> },
    /// One process stands still.
    Pause { replica: usize, lasts: Micros },
    /// One replica loses its disk and comes back with an empty one, unless the faulty and those without a log would then be
    /// more than f. It is killed as it asks for storage operation `dies_at` of its new disk, if that is given.
    Wipe { replica: usize, downtime: Micros, dies_at: Option<u64> },
    /// EIO: a storage operation a little later fails.
    IoError { replica: usize, operations: u64 },
    /// ENOSPC: the disk has only so many more bytes, for a time.
    DiskFull { replica: usize, more: u64, lasts: Micros },
    /// Syncs take up to `most`, for a time.
    SlowSync { replica: usize, most: Micros, lasts: Micros },
    /// A replica lies in these ways from now on; in none, it is honest.
    Turn { replica: usize, on: Vec<Misbehaviour> },
    /// Links get weather of their own, all or those of one replica; or lose it.
    Links { replica: Option<usize>, weather: Option<Weather> },
    /// The machine loses power, and what its disk holds is not what was written. `choice` decides where.
    Damage { replica: usize, damage: Damage, in_log: bool, choice: u64, downtime: Micros },
}

/// Which protocol the clusters of a campaign run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// PBFT: what seeds without another word mean.
    #[default]
    Pbft,
    /// HotStuff.
    HotStuff,
    /// PBFT under even seeds, HotStuff under odd ones.
    Both,
}

impl From<Protocol> for Choice {
    fn from(protocol: Protocol) -> Choice {
        match protocol {
            Protocol::Pbft => Choice::Pbft,
            Protocol::HotStuff => Choice::HotStuff,
        }
    }
}

impl Choice {
    /// What the cluster of `seed` runs.
    pub const fn of(self, seed: u64) -> Protocol {
        match self {
            Choice::Pbft => Protocol::Pbft,
            Choice::HotStuff => Protocol::HotStuff,
            Choice::Both if seed.is_multiple_of(2) => Protocol::Pbft,
            Choice::Both => Protocol::HotStuff,
        }
    }

    /// Whether a campaign of this choice runs it at all.
    pub fn includes(self, protocol: Protocol) -> bool {
        self == Choice::Both || self.of(0) == protocol
    }
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        match text {
            "pbft" => Ok(Choice::Pbft),
            "hotstuff" => Ok(Choice::HotStuff),
            "both" => Ok(Choice::Both),
            _ => Err("pbft, hotstuff or both".to_owned()),
        }
    }
}

/// Everything a seed decides.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) protocol: Protocol,
    pub(super) replicas: usize,
    pub(super) parameters: Parameters,
    pub(super) compaction_retention: u64,
    pub(super) liars: BTreeMap<ReplicaId, Vec<Misbehaviour>>,
    pub(super) faulty_clients: Vec<ClientBehaviour>,
    pub(super) ed25519: bool,
    pub(super) weather: Weather,
    /// Weather of its own for some links, by (from, to).
    pub(super) link_weather: BTreeMap<(usize, usize), Weather>,
    pub(super) garbling: Garbling,
    /// Wall clocks that are off by more than the bound.
    pub(super) clocks: BTreeMap<usize, ClockFault>,
    /// Liars, and who has such a clock or will have a damaged disk: faulty from beginning to end.
    pub(super) faulty: BTreeSet<usize>,
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
    /// Clients also watch, read without ordering and ask for receipts.
    pub(super) curious: bool,
    /// Validity of requests, milliseconds.
    pub(super) lifetime: u64,
    pub(super) power_cut_at: Option<u64>,
    pub(super) crash_point: Option<CrashPoint>,
    pub(super) beyond_f: bool,
    pub(super) twins: Option<twins::Scenario>,
    pub(super) sabotage: Option<Sabotage>,
}

/// Tells the generator of lies from the one of everything else.
const LIES: u64 = 0x11e5;
/// And the one of lost disks.
const WIPES: u64 = 0x10_57d1;
/// And the one of lies that meet a replica on its way back.
const MEETINGS: u64 = 0x3ee7;
/// The share of free runs in which one does: left to chance, a campaign of twenty thousand seeds would miss some pairs.
const MEETING_SHARE: f64 = 0.06;
/// And under HotStuff, where each is rarer: a campaign of both protocols plays half as many runs of either.
const MEETING_SHARE_OF_HOTSTUFF: f64 = 0.12;
/// Of those, the share with seven replicas, where a liar and a replica without a log have room beside each other.
const MEETING_OF_SEVEN: f64 = 0.5;
/// Time enough to fall behind, to come back and to be lied to.
const MEETING_HEALS_AT: Micros = 1_500 * MILLISECOND;
/// When one disk is lost and nothing else breaks, everything heals only then: time enough to come back before.
const ALONE_HEALS_AT: Micros = 2_500 * MILLISECOND;

fn pick<T: Copy>(random: &mut ChaCha12Rng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

impl Plan {
    /// The plan of `seed`, but for what `options` decide.
    pub(super) fn new(seed: u64, options: &Options) -> Plan {
        let protocol = options.protocol.of(seed);
        let random = &mut ChaCha12Rng::seed_from_u64(seed);
        let by_seed = if random.random_bool(0.5) { 4 } else { random.random_range(4..=7) };
        let meetings = &mut ChaCha12Rng::seed_from_u64(seed ^ MEETINGS);
        let share = if protocol == Protocol::HotStuff { MEETING_SHARE_OF_HOTSTUFF } else { MEETING_SHARE };
        let meeting = options.leave_all_to_the_seed() && meetings.random_bool(share);
        let by_seed = if meeting && meetings.random_bool(MEETING_OF_SEVEN) { 7 } else { by_seed };
        let replicas = options.replicas.unwrap_or(by_seed);
        let mut parameters = draw::parameters(random);
        let mut heals_at = random.random_range(500..3_000) * MILLISECOND;
        let crashes_on = random.random_bool(0.6)
            && options.power_cut_at.is_none()
            && options.crash_point.is_none()
            && options.rejoin_dies_at.is_none();
        let mut breakages = draw::breakages(random, replicas, heals_at, crashes_on);
        // Drawn whether they are wanted or not, so that everything after them is as it was.
        let first = draw::first_liars(random, replicas);
        let lies = &mut ChaCha12Rng::seed_from_u64(seed ^ LIES);
        let by_seed = if options.first_behaviours { first } else { draw::liars(lies, replicas, protocol) };
        if !options.first_behaviours && lies.random_bool(0.4) {
            draw::fall_behind(lies, replicas, heals_at, &mut parameters, &mut breakages);
        }
        let mut liars = if options.faults.is_empty() { by_seed } else { BTreeMap::new() };
        for (replica, misbehaviour) in &options.faults {
            liars.entry(*replica).or_default().push(misbehaviour.clone());
        }
        let faulty_clients = match options {
            Options { first_behaviours: true, .. } | Options { rejoin_dies_at: Some(_), .. } => Vec::new(),
            Options { client_faults, .. } if !client_faults.is_empty() => client_faults.clone(),
            // Behaviours chosen by name are looked at alone.
            Options { faults, .. } if !faults.is_empty() => Vec::new(),
            _ => draw::faulty_clients(lies),
        };
        if options.beyond_f {
            liars = draw::conspirators(random, replicas);
        }
        if options.rejoin_dies_at.is_some() {
            liars.clear();
        }
        // Liars, damaged disks, clocks beyond the bound and replicas without a log together are at most f.
        let mut budget = Budget::new(replicas, liars.keys().map(|id| id.index()));
        let mut clocks = BTreeMap::new();
        if !options.beyond_f {
            clocks = draw::clocks(random, &mut budget, heals_at);
            if crashes_on {
                breakages.extend(draw::damages(random, &mut budget, heals_at));
            }
            if options.power_cut_at.is_none() && !options.first_behaviours && !options.disks_stay {
                // From a generator of their own, so that everything else is as it was before disks could be lost.
                let losses = &mut ChaCha12Rng::seed_from_u64(seed ^ WIPES);
                breakages.extend(draw::wipes(losses, &budget, heals_at));
            }
            breakages.sort_by_key(|(at, _)| *at);
        }
        let mut faulty = budget.into_faulty();
        if let Some(point) = options.crash_point {
            heals_at = heals_at.max(1_500 * MILLISECOND);
            breakages = draw::around_a_crash_point(point.replica, heals_at);
            liars.remove(&ReplicaId(point.replica as u16));
            clocks.remove(&point.replica);
        }
        if let Some(operation) = options.rejoin_dies_at {
            heals_at = ALONE_HEALS_AT;
            let replica = (seed % replicas as u64) as usize;
            let wipe = Breakage::Wipe { replica, downtime: MILLISECOND, dies_at: Some(operation) };
            breakages = vec![(200 * MILLISECOND, wipe)];
            clocks.clear();
            faulty.clear();
        }
        if meeting {
            heals_at = heals_at.max(MEETING_HEALS_AT);
            (liars, breakages) = draw::meeting(meetings, replicas, protocol, &mut parameters);
            clocks.clear();
            faulty = liars.keys().map(|id| id.index()).collect();
        }
        let skewed = random.random_bool(0.3);
        let skews = (0..replicas).map(|_| if skewed { random.random_range(-200..=200) } else { 0 }).collect();
        let weather = draw::weather(random);
        let link_weather = draw::link_weather(random, replicas);
        let garbling = draw::garbling(random);
        let mut plan = Plan {
            seed,
            protocol,
            replicas,
            parameters,
            compaction_retention: pick(random, &[0, 0, 5, 50]),
            liars,
            faulty_clients,
            ed25519: options.ed25519 || seed.is_multiple_of(50),
            weather,
            link_weather,
            garbling,
            clocks,
            faulty,
            wipes: breakages.iter().any(|(_, breakage)| matches!(breakage, Breakage::Wipe { .. })),
            breakages,
            dies_in_recovery: (crashes_on || options.crash_point.is_some()) && random.random_bool(0.5),
            heals_at,
            sync_max: pick(random, &[200, 1_000, 2_000]),
            // Small, so that a run goes through many: making and reading them is most of what a disk costs here.
            log_segment_bytes: pick(random, &[16, 32, 64]) * 1024,
            skews,
            clients: random.random_range(1..=4),
            operations_per_client: random.random_range(4..=40),
            keys: random.random_range(1..=5),
            think_max: pick(random, &[2, 20, 80, 200]) * MILLISECOND,
            in_flight: pick(random, &[1, 1, 4, 16]),
            curious: random.random_bool(0.5),
            lifetime: pick(random, &[60_000, 60_000, 60_000, 1_000]),
            power_cut_at: options.power_cut_at,
            crash_point: options.crash_point,
            beyond_f: options.beyond_f,
            twins: None,
            sabotage: options.sabotage,
        };
        let all = 0..plan.planned().len();
        plan.leave_out(&if options.calm { all.collect() } else { options.without.clone() });
        if let Some(scenario) = options.twins {
            scenario.adapt(&mut plan);
        }
        if let Some(script) = &options.script {
            script.adapt(&mut plan);
        }
        plan
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
