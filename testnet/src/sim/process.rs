//! One replica as a simulated process: the production driver, log, snapshot store and recovery, on memory for disks.

use std::sync::Arc;

use quorate_crypto::encoding::decode;
use quorate_crypto::{
    Committee, Digest, Domain, PublicKey, ReplicaId, SignatureScheme, Signed, Signer, Verified, Verifier,
};
use quorate_node::disk::MemoryDisk;
use quorate_node::driver::{Driver, DriverError, Published};
use quorate_node::key_value::KeyValue;
use quorate_node::log::{LogKey, OpenError, Trust};
use quorate_node::recovery::{OpenReplicaError, StorageSettings, create_replica_storage, open_replica, store_snapshot};
use quorate_node::snapshot_store::{SnapshotError, SnapshotStore};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage, ReplicaStatus};
use quorate_protocol::engine::{Decided, Engine, EngineStatus, Input, Now, Step};
use quorate_protocol::execution::Execution;
use quorate_protocol::message::{Message, MessageLimits};
use quorate_protocol::parameters::{Micros, Parameters};
use quorate_protocol::pbft::{Replica, Setup};
use quorate_protocol::request::Request;
use quorate_protocol::state::Snapshot;

use super::disk::{Power, SimulatedDisk};
use super::plan::{Ending, Sabotage};
use super::report::Violation;
use crate::faults::{FaultyReplica, Hands, Switch};

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
    verifier: Verifier,
    pub(super) inbox: Vec<Incoming>,
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
    pub(super) genesis: Execution<KeyValue>,
    pub(super) scheme: Arc<dyn SignatureScheme>,
    pub(super) clients: Vec<PublicKey>,
    pub(super) log_segment_bytes: u64,
    pub(super) sabotage: Option<Sabotage>,
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
    pub(super) paused_until: Micros,
    /// Set when it is about to die at a storage operation.
    pub(super) dying: Option<(Ending, Micros)>,
    /// Whether it was on its way back without a log when it last ended.
    pub(super) amnesiac: bool,
    pub(super) skew: i64,
    pub(super) medium: MemoryDisk,
    signer: Arc<dyn Signer>,
}

/// What a turn gave.
pub(super) struct Turned {
    pub(super) published: Published,
    pub(super) decided: Vec<Decided>,
    pub(super) answers: Vec<(usize, ReplicaMessage)>,
    pub(super) syncs: u64,
    /// A message of this honest peer was refused.
    pub(super) refused: Option<(usize, String)>,
}

impl Process {
    /// A replica with new, empty storage.
    pub(super) fn create(
        cluster: &Cluster,
        index: usize,
        signer: Arc<dyn Signer>,
        switch: Switch,
        liar: bool,
        skew: i64,
    ) -> Result<Process, OpenError> {
        let process = Process {
            index,
            life: 0,
            running: None,
            switch,
            liar,
            paused_until: 0,
            dying: None,
            amnesiac: false,
            skew,
            medium: MemoryDisk::new(),
            signer,
        };
        process.make_storage(cluster, Trust::NewCluster)?;
        Ok(process)
    }

    fn make_storage(&self, cluster: &Cluster, trust: Trust) -> Result<(), OpenError> {
        let key = |what: &[u8]| LogKey(cluster.random_bytes(what, self.index, self.life));
        let settings = StorageSettings {
            cluster: cluster.committee.cluster(),
            replica: self.id(),
            trust,
            log_segment_bytes: cluster.log_segment_bytes,
            snapshot_segment_bytes: cluster.log_segment_bytes,
            log_key: key(b"log"),
            snapshot_key: key(b"snapshots"),
        };
        // Another command makes it, before the power of this run matters.
        let disk = |directory| SimulatedDisk { power: Power::default(), ..self.disk(cluster, directory) };
        create_replica_storage(disk("log"), disk("snapshots"), &settings)
    }

    /// The disk is gone; a new one gets what plain `init` makes. Only between two lives.
    pub(super) fn wipe(&mut self, cluster: &Cluster) -> Result<(), OpenError> {
        self.medium = MemoryDisk::new();
        self.make_storage(cluster, Trust::MustRejoin)
    }

    /// Whether it lacks its log and has not come back yet. One that is down remembers what it was.
    pub(super) fn is_amnesiac(&self) -> bool {
        self.status().map_or(self.amnesiac, |status| status.rejoining)
    }

    pub(super) fn id(&self) -> ReplicaId {
        ReplicaId(self.index as u16)
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
        Now { monotonic: at + self.monotonic_offset(), wall: wall.saturating_add_signed(self.skew) }
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
            id: self.id(),
            incarnation: quorate_crypto::Incarnation(0),
            rejoin_seed: cluster.random_bytes(b"rejoin", self.index, self.life),
            committee: Arc::clone(&cluster.committee),
            parameters: cluster.parameters.clone(),
            signer: Arc::clone(&self.signer),
            verifier: verifier.clone(),
        };
        let hands = Hands {
            id: self.id(),
            incarnation: setup.incarnation,
            committee: Arc::clone(&cluster.committee),
            signer: Arc::clone(&self.signer),
        };
        let (switch, sabotage) = (self.switch.clone(), cluster.sabotage);
        let seed = cluster.seed ^ (self.index as u64) << 32 ^ self.life << 48;
        let opened = open_replica(
            self.disk(cluster, "log"),
            self.disk(cluster, "snapshots"),
            setup,
            self.now(at),
            cluster.genesis.clone(),
            |replica| Observed {
                engine: FaultyReplica::new(replica, switch, hands, seed),
                decided: Vec::new(),
                sabotage,
            },
        )?;
        self.running = Some(Running {
            driver: opened.driver,
            snapshots: opened.snapshots,
            verifier,
            inbox: Vec::new(),
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
        self.dying = None;
        self.paused_until = 0;
        match ending {
            Ending::Kill => self.medium.restart(),
            Ending::PowerCut => self.medium.power_cut(seed),
        }
    }

    /// One turn of the driver with everything that waits.
    pub(super) fn turn(&mut self, cluster: &Cluster, at: Micros) -> Result<Turned, DriverError> {
        let now = self.now(at);
        let own = self.id();
        let Some(running) = &mut self.running else { unreachable!("only a running process takes a turn") };
        let mut turned = Turned {
            published: Published::default(),
            decided: Vec::new(),
            answers: Vec::new(),
            syncs: 0,
            refused: None,
        };
        for incoming in std::mem::take(&mut running.inbox) {
            match incoming {
                Incoming::Peer { from, bytes } => {
                    if let Err(error) = running.receive(cluster, now, from, &bytes) {
                        turned.refused = Some((from, error));
                    }
                }
                Incoming::Client { client, bytes } => {
                    let answer = running.serve(cluster, own, now, &bytes, &mut turned.published);
                    turned.answers.extend(answer.map(|answer| (client, answer)));
                }
                Incoming::LinkUp(peer) => running.driver.input(Input::LinkUp(ReplicaId(peer as u16))),
                Incoming::Timer => running.driver.input(Input::Timer),
                Incoming::Stored(snapshot) => running.driver.checkpoint_stored(snapshot),
            }
        }
        let before = running.driver.log_work().0;
        running.driver.turn(now, &mut turned.published)?;
        running.driver.log_mut().maintain()?;
        turned.syncs = running.driver.log_work().0 - before;
        turned.decided = std::mem::take(&mut running.driver.engine_mut().decided);
        Ok(turned)
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

/// When simulated wall clocks begin: late 2023, in milliseconds.
const EPOCH_MILLISECONDS: u64 = 1_700_000_000_000;

impl Running {
    /// A frame from a peer: decoded and verified as the node does it.
    fn receive(&mut self, cluster: &Cluster, now: Now, from: usize, bytes: &[u8]) -> Result<(), String> {
        let committee = cluster.committee.as_ref();
        let limits = MessageLimits { window: cluster.parameters.window };
        let message: Message = decode(bytes, cluster.parameters.frame_bytes_max).map_err(|error| error.to_string())?;
        let verified = self.verifier.verify(message, committee, &limits).map_err(|error| error.to_string())?;
        let from = ReplicaId(from as u16);
        if !matches!(&*verified, Message::Requests(_)) {
            self.driver.input(Input::Message { from, message: verified });
            return Ok(());
        }
        let Message::Requests(requests) = verified.into_inner() else { return Ok(()) };
        let mut good = Vec::with_capacity(requests.len());
        for request in requests {
            match self.verifier.verify(request.clone(), committee, &()) {
                Ok(request) => good.push(request),
                Err(_) => self.driver.input(Input::InvalidRequest(Box::new(request))),
            }
        }
        self.driver.relayed(from, good, now.wall);
        Ok(())
    }

    /// A frame from a client.
    fn serve(
        &mut self,
        cluster: &Cluster,
        own: ReplicaId,
        now: Now,
        bytes: &[u8],
        published: &mut Published,
    ) -> Option<ReplicaMessage> {
        match decode(bytes, quorate_protocol::client::message::CLIENT_FRAME_MAX).ok()? {
            ClientMessage::Submit(request) => {
                let verified = self.verifier.verify(request, &cluster.committee, &()).ok()?;
                self.driver.submit(verified, now.wall, published);
                None
            }
            ClientMessage::Status { id } => {
                let status = self.driver.engine().status();
                let execution = self.driver.execution();
                let status = ReplicaStatus {
                    replica: own,
                    view: status.view,
                    primary: status.primary,
                    executed: status.executed,
                    revision: quorate_protocol::execution::Service::revision(execution.service()),
                    time: execution.time(),
                    checkpoint: status.stable,
                    checkpoint_digest: status.stable_digest,
                };
                Some(ReplicaMessage::Status { id, status })
            }
            // Simulated clients ask for none of these.
            ClientMessage::Read { .. }
            | ClientMessage::Watch { .. }
            | ClientMessage::Unwatch { .. }
            | ClientMessage::Receipt { .. } => None,
        }
    }
}

/// An error of the driver that no plan explains.
pub(super) fn unexpected(replica: usize, error: &dyn std::error::Error) -> Violation {
    Violation::new("storage", format!("replica {replica}: {error}"))
}
