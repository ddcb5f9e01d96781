//! One replica as a simulated process: the production driver, log, snapshot store and recovery, on memory for disks.

use std::sync::Arc;

use quorate_crypto::{
    Committee, Digest, Domain, Protocol, PublicKey, ReplicaId, Seq, SignatureScheme, Signed, Verified, Verifier,
};
use quorate_node::disk::MemoryDisk;
use quorate_node::driver::{Driver, DriverError, Published};
use quorate_node::key_value::KeyValue;
use quorate_node::log::{LogKey, OpenError, Trust};
use quorate_node::recovery::{
    OpenReplicaError, StorageSettings, create_replica_storage, open_replica, replace_snapshots, store_snapshot,
};
use quorate_node::snapshot_store::{SnapshotError, SnapshotStore};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::{Decided, Engine, EngineStatus, Input, Now, Step};
use quorate_protocol::execution::Execution;
use quorate_protocol::foundation::Setup;
use quorate_protocol::message::Message;
use quorate_protocol::parameters::{Micros, Parameters};
use quorate_protocol::replica::Replica;
use quorate_protocol::request::Request;
use quorate_protocol::state::Snapshot;

use super::damage;
use super::disk::{Power, SimulatedDisk};
use super::plan::{ClockFault, CrashPoint, Damage, Ending, MILLISECOND, Sabotage};
use super::serving::Serving;
use crate::faults::{FaultyReplica, Hands, ManySignatures, Switch};

/// The engine the driver drives: the one of the testnet, with an ear for what it decides.
pub(super) struct Observed {
    pub(super) engine: FaultyReplica<Replica>,
    decided: Vec<Decided>,
    sabotage: Option<Sabotage>,
}

impl Engine for Observed {
    fn step(&mut self, now: Now, input: Input) -> Step {
        let mut step = self.engine.step(now, input);
        if self.sabotage == Some(Sabotage::SendBeforeRecord) {
            step.sends.iter_mut().for_each(|send| send.after = None);
            step.decided.iter_mut().for_each(|decided| decided.after = None);
        }
        self.decided.extend(step.decided.iter().cloned());
        step
    }

    fn wake(&self) -> Option<Micros> {
        self.engine.wake()
    }

    fn status(&self) -> EngineStatus {
        self.engine.status()
    }

    fn knows(&self, request: &Digest) -> bool {
        self.engine.knows(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.engine.wants(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.engine.oldest_pending()
    }

    fn executed_statement(&self, seq: quorate_crypto::Seq) -> Option<Signed> {
        self.engine.executed_statement(seq)
    }
}

/// What waits for the next turn.
pub(super) enum Incoming {
    Peer { from: usize, bytes: Arc<Vec<u8>> },
    Client { client: usize, bytes: Arc<Vec<u8>> },
    LinkUp(usize),
    Timer,
    Stored(Snapshot),
}

/// A process that runs.
pub(super) struct Running {
    pub(super) driver: Driver<SimulatedDisk, Observed>,
    snapshots: SnapshotStore<SimulatedDisk>,
    pub(super) serving: Serving,
    /// What its snapshot covered when it started, whatever its log knew of that.
    pub(super) started_with: Seq,
    pub(super) verifier: Verifier,
    pub(super) inbox: Vec<Incoming>,
    /// What was verified and taken in this turn, as far as it holds certificates of blocks.
    pub(super) accepted: Vec<Message>,
    /// The turn under way, its sync included, ends then.
    pub(super) busy_until: Micros,
    /// Snapshots are stored one after the other; the last one until then.
    pub(super) storing_until: Micros,
    pub(super) wake_at: Option<Micros>,
    /// Times in a row that it woke itself at once.
    pub(super) restless: u32,
    pub(super) turn_planned: bool,
}

/// What every process of a run shares.
pub(super) struct Cluster {
    pub(super) seed: u64,
    pub(super) committee: Arc<Committee>,
    pub(super) parameters: Parameters,
    pub(super) protocol: Protocol,
    pub(super) genesis: Execution<KeyValue>,
    pub(super) scheme: Arc<dyn SignatureScheme>,
    pub(super) clients: Vec<PublicKey>,
    pub(super) log_segment_bytes: u64,
    pub(super) sabotage: Option<Sabotage>,
    /// Who runs twice.
    pub(super) twin: Option<ReplicaId>,
    /// So many replicas, the first ones, have a second process, too: liars of two minds.
    pub(super) second_minds: usize,
    pub(super) power: Power,
}

impl Cluster {
    /// Bytes that the seed decides, for one purpose of one life of one replica.
    fn random_bytes(&self, what: &[u8], index: usize, life: u64) -> [u8; 32] {
        let parts: [&[u8]; 4] = [what, &self.seed.to_be_bytes(), &index.to_be_bytes(), &life.to_be_bytes()];
        Digest::of(Domain::Fingerprint, &parts).0
    }
}

/// One replica: its disk, its key, and the process, while there is one.
pub(super) struct Process {
    pub(super) index: usize,
    pub(super) life: u64,
    pub(super) running: Option<Running>,
    pub(super) switch: Switch,
    pub(super) liar: bool,
    /// It has restarted and not yet executed what the others have.
    pub(super) recovering: bool,
    pub(super) paused_until: Micros,
    /// Set when it is about to die at a storage operation.
    pub(super) dying: Option<(Ending, Micros)>,
    /// Whether it was on its way back without a log when it last ended.
    pub(super) amnesiac: bool,
    pub(super) skew: i64,
    pub(super) clock: Option<ClockFault>,
    pub(super) ailments: Ailments,
    pub(super) medium: MemoryDisk,
    /// What was asked of disks it had before.
    operations_of_lost_disks: u64,
    pub(super) signer: Arc<dyn ManySignatures>,
    settings: StorageSettings,
    /// The storage operation it is to die at, as the medium counts, and how.
    crash_point: Option<(u64, Ending)>,
}

/// What is wrong with a replica's machine, so that an error can be told from one that nobody planned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ailments {
    /// So many operations will fail with EIO.
    pub(super) io_errors: u32,
    /// The disk is full, or nearly so.
    pub(super) full: bool,
    /// Syncs are slow until then.
    pub(super) slow_until: Micros,
    /// At most this slow.
    pub(super) slow_most: Micros,
    /// What its log held was changed behind its back: it counts among the f.
    pub(super) log_damaged: bool,
    /// The same of its snapshots, of which nothing was promised.
    pub(super) snapshots_damaged: bool,
    /// It has refused to run, or stopped itself, because agreement broke beyond f, and stays down.
    pub(super) gone: bool,
    /// Snapshots given up and fetched anew.
    pub(super) gave_up_snapshots: u64,
}

impl Ailments {
    /// What a new disk does not mend: what was promised on a damaged log may have been contradicted before anybody noticed,
    /// so its replica counts among the f for good.
    const fn with_new_disk(self) -> Ailments {
        Ailments { io_errors: 0, full: false, snapshots_damaged: false, ..self }
    }
}

/// What a turn gave.
pub(super) struct Turned {
    pub(super) decided: Vec<Decided>,
    pub(super) answers: Vec<(usize, ReplicaMessage)>,
    pub(super) syncs: u64,
    /// Messages that hold certificates of blocks and were taken.
    pub(super) accepted: Vec<Message>,
    /// A message of this honest peer was refused.
    pub(super) refused: Option<(usize, String)>,
}

impl Process {
    /// A replica with new, empty storage.
    pub(super) fn create(
        cluster: &Cluster,
        index: usize,
        signer: Arc<dyn ManySignatures>,
        switch: Switch,
        liar: bool,
        skew: i64,
        clock: Option<ClockFault>,
    ) -> Result<Process, OpenError> {
        let settings = settings(cluster, index, 0, Trust::NewCluster);
        let process = Process {
            index,
            life: 0,
            running: None,
            switch,
            liar,
            recovering: false,
            paused_until: 0,
            dying: None,
            amnesiac: false,
            skew,
            clock,
            ailments: Ailments::default(),
            medium: MemoryDisk::new(),
            operations_of_lost_disks: 0,
            signer,
            settings,
            crash_point: None,
        };
        process.make_storage(cluster)?;
        Ok(process)
    }

    /// Another command makes it, before the power of this run matters.
    fn make_storage(&self, cluster: &Cluster) -> Result<(), OpenError> {
        let disk = |directory| SimulatedDisk { power: Power::default(), ..self.disk(cluster, directory) };
        create_replica_storage(disk("log"), disk("snapshots"), &self.settings)
    }

    /// The disk is gone; a new, sound one gets what plain `init` makes. Only between two lives.
    pub(super) fn wipe(&mut self, cluster: &Cluster) -> Result<(), OpenError> {
        self.operations_of_lost_disks += self.medium.operations();
        self.medium = MemoryDisk::new();
        self.settings = settings(cluster, self.index, self.life, Trust::MustRejoin);
        self.ailments = self.ailments.with_new_disk();
        self.amnesiac = true;
        self.dying = None;
        self.crash_point = None;
        self.make_storage(cluster)
    }

    /// Storage operations it asked for, on whichever disk.
    pub(super) fn operations(&self) -> u64 {
        self.operations_of_lost_disks + self.medium.operations()
    }

    /// Whether it lacks its log and has not come back yet. One that is down remembers what it was.
    pub(super) fn is_amnesiac(&self) -> bool {
        self.status().map_or(self.amnesiac, |status| status.rejoining)
    }

    pub(super) fn id(&self) -> ReplicaId {
        self.settings.replica
    }

    fn disk(&self, cluster: &Cluster, directory: &str) -> SimulatedDisk {
        SimulatedDisk {
            medium: self.medium.directory(directory),
            power: cluster.power.clone(),
            loses_syncs: cluster.sabotage == Some(Sabotage::LostSync),
        }
    }

    /// The clocks of this process: the monotonic one starts anew with every life.
    pub(super) fn now(&self, at: Micros) -> Now {
        let wall = EPOCH_MILLISECONDS + at / 1_000;
        let wall = match self.clock {
            None => wall,
            Some(ClockFault::Off(by)) => wall.saturating_add_signed(by),
            Some(ClockFault::Jumps { period, by }) if (at / period) % 2 == 1 => wall.saturating_add_signed(by),
            Some(ClockFault::Jumps { .. }) => wall,
            Some(ClockFault::Frozen { from }) => wall.min(EPOCH_MILLISECONDS + from / 1_000),
        };
        Now { monotonic: at + self.monotonic_offset(), wall: wall.saturating_add_signed(self.skew) }
    }

    /// Whether it counts among the f for what its machine does: nobody waits for it, but what it says is still judged.
    pub(super) const fn is_unwell(&self) -> bool {
        self.clock.is_some() || self.ailments.log_damaged
    }

    /// Sees to it that it dies at this storage operation, counted from now on.
    pub(super) fn die_at(&mut self, point: CrashPoint) {
        let ending = if point.power_cut { Ending::PowerCut } else { Ending::Kill };
        self.crash_point = Some((self.medium.operations().saturating_add(point.operation), ending));
        self.arm();
    }

    /// Whether it is about to die at its crash point now.
    pub(super) fn at_crash_point(&self) -> bool {
        self.crash_point.is_some_and(|(at, _)| self.medium.operations() >= at)
    }

    pub(super) const fn forget_crash_point(&mut self) {
        self.crash_point = None;
    }

    fn arm(&mut self) {
        match self.crash_point {
            Some((at, ending)) if self.medium.operations() < at => {
                self.medium.crash_at(at);
                self.dying = Some((ending, CRASH_POINT_DOWNTIME));
            }
            _ => self.crash_point = None,
        }
    }

    /// Changes what its disk holds while it is down.
    pub(super) fn damage(&mut self, damage: Damage, in_log: bool, choice: u64) -> bool {
        let directory = if in_log { "log" } else { "snapshots" };
        let changed = damage::apply(&self.medium.directory(directory), damage, choice);
        self.ailments.log_damaged |= changed && in_log;
        self.ailments.snapshots_damaged |= changed && !in_log;
        changed
    }

    /// The virtual time of a monotonic reading.
    pub(super) fn virtual_time(&self, monotonic: Micros) -> Micros {
        monotonic.saturating_sub(self.monotonic_offset())
    }

    fn monotonic_offset(&self) -> Micros {
        1_000_000 + self.life * 7_777_777 + self.index as u64 * 333
    }

    /// Starts the process through the production path of recovery.
    pub(super) fn start(&mut self, cluster: &Cluster, at: Micros) -> Result<(), OpenReplicaError> {
        let verifier = Verifier::new(Arc::clone(&cluster.scheme));
        let setup = Setup {
            protocol: cluster.protocol,
            id: self.id(),
            incarnation: quorate_crypto::Incarnation(0),
            rejoin_seed: cluster.random_bytes(b"rejoin", self.index, self.life),
            committee: Arc::clone(&cluster.committee),
            parameters: cluster.parameters.clone(),
            signer: self.signer.clone(),
            verifier: verifier.clone(),
        };
        let hands = Hands {
            id: self.id(),
            incarnation: setup.incarnation,
            committee: Arc::clone(&cluster.committee),
            signer: Arc::clone(&self.signer),
            parameters: cluster.parameters.clone(),
        };
        let (switch, sabotage) = (self.switch.clone(), cluster.sabotage);
        let seed = cluster.seed ^ (self.index as u64) << 32 ^ self.life << 48;
        let open = |process: &Process| {
            open_replica(
                process.disk(cluster, "log"),
                process.disk(cluster, "snapshots"),
                setup.clone(),
                process.now(at),
                cluster.genesis.clone(),
                |replica| Observed {
                    engine: FaultyReplica::new(replica, switch.clone(), hands.clone(), seed),
                    decided: Vec::new(),
                    sabotage,
                },
            )
        };
        let opened = match open(self) {
            // As the node does it: nothing was promised of a snapshot that the log does not know.
            Err(OpenReplicaError::Snapshots(OpenError::Damaged { .. })) if self.ailments.snapshots_damaged => {
                replace_snapshots(self.disk(cluster, "snapshots"), &self.settings)
                    .map_err(OpenReplicaError::Snapshots)?;
                self.ailments.gave_up_snapshots += 1;
                open(self)?
            }
            opened => opened?,
        };
        self.running = Some(Running {
            started_with: opened.driver.engine().status().executed,
            driver: opened.driver,
            snapshots: opened.snapshots,
            serving: Serving::default(),
            verifier,
            inbox: Vec::new(),
            accepted: Vec::new(),
            busy_until: at,
            storing_until: at,
            wake_at: None,
            restless: 0,
            turn_planned: false,
        });
        Ok(())
    }

    /// The process is gone, and with it what the disk had not synced if the power went too.
    pub(super) fn end(&mut self, ending: Ending, seed: u64) {
        self.amnesiac = self.is_amnesiac();
        self.running = None;
        self.life += 1;
        self.recovering = true;
        self.dying = None;
        self.paused_until = 0;
        match ending {
            Ending::Kill => self.medium.restart(),
            Ending::PowerCut => self.medium.power_cut(seed),
            Ending::TornPowerCut => self.medium.power_cut_with_noise(seed),
        }
        self.arm();
    }

    /// One turn of the driver with everything that waits.
    /// What it publishes goes into `published`: where a turn fails, what had left before stays there.
    pub(super) fn turn(
        &mut self,
        cluster: &Cluster,
        at: Micros,
        published: &mut Published,
    ) -> Result<Turned, DriverError> {
        let now = self.now(at);
        let own = self.id();
        let Some(running) = &mut self.running else { unreachable!("only a running process takes a turn") };
        let mut turned =
            Turned { decided: Vec::new(), answers: Vec::new(), syncs: 0, accepted: Vec::new(), refused: None };
        for incoming in std::mem::take(&mut running.inbox) {
            match incoming {
                Incoming::Peer { from, bytes } => {
                    if let Err(error) = running.receive(cluster, now, from, &bytes) {
                        turned.refused = Some((from, error));
                    }
                }
                Incoming::Client { client, bytes } => {
                    let answer = running.serve(cluster, own, now, client, &bytes, published)?;
                    turned.answers.extend(answer.map(|answer| (client, answer)));
                }
                Incoming::LinkUp(peer) => running.driver.input(Input::LinkUp(cluster.identity(peer))),
                Incoming::Timer => running.driver.input(Input::Timer),
                Incoming::Stored(snapshot) => running.driver.checkpoint_stored(snapshot),
            }
        }
        turned.accepted = std::mem::take(&mut running.accepted);
        let before = running.driver.log_work().0;
        running.driver.turn(now, published, |_| ())?;
        running.driver.log_mut().maintain()?;
        turned.syncs = running.driver.log_work().0 - before;
        let Running { serving, driver, .. } = running;
        serving.serve(driver.execution().service(), now.monotonic, &mut turned.answers);
        turned.decided = std::mem::take(&mut running.driver.engine_mut().decided);
        Ok(turned)
    }

    /// What it decided and nobody has looked at yet: a turn that fails has decided, too.
    pub(super) fn take_decided(&mut self) -> Vec<Decided> {
        let running = self.running.as_mut();
        running.map(|running| std::mem::take(&mut running.driver.engine_mut().decided)).unwrap_or_default()
    }

    /// What a client is told: the truth, but by a liar.
    pub(super) fn answer(&mut self, at: Micros, client: &PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage> {
        let now = self.now(at);
        let liar = self.liar;
        match &mut self.running {
            Some(running) if liar => running.driver.engine_mut().engine.answer(now, client, message),
            _ => vec![message],
        }
    }

    /// Makes a snapshot durable.
    pub(super) fn store(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        store_snapshot(&mut running.snapshots, snapshot)?;
        Ok(())
    }

    pub(super) fn status(&self) -> Option<EngineStatus> {
        self.running.as_ref().map(|running| running.driver.engine().status())
    }
}

/// How the storage of a replica is made, with keys of its own for every life that finds a new disk.
fn settings(cluster: &Cluster, index: usize, life: u64, trust: Trust) -> StorageSettings {
    let key = |what: &[u8]| LogKey(cluster.random_bytes(what, index, life));
    StorageSettings {
        cluster: cluster.committee.cluster(),
        replica: cluster.identity(index),
        trust,
        log_segment_bytes: cluster.log_segment_bytes,
        snapshot_segment_bytes: cluster.log_segment_bytes,
        log_key: key(b"log"),
        snapshot_key: key(b"snapshots"),
    }
}

/// How long a process that died at its crash point stays down.
const CRASH_POINT_DOWNTIME: Micros = 20 * MILLISECOND;

/// When simulated wall clocks begin: late 2023, in milliseconds.
const EPOCH_MILLISECONDS: u64 = 1_700_000_000_000;
