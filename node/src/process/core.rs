//! The core's thread: one turn after the other, each with everything that waits.
//!
//! ```text
//!   inbox ─► take all ─► Driver::turn ─► frames to peers
//!     ▲                      │         ├► replies, refusals ─► client service
//!     │                      │         └► snapshots, evidence ─► keeper ─┐
//!     └──────────────────────┴───────────────────────────────────────────┘
//! ```
//!
//! Nothing here waits for anything but the inbox and the log's sync. A storage error ends the thread, and with it the
//! node: nothing is published after it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_crypto::{Digest, PublicKey, ReplicaId, Seq, Verified};
use quorate_protocol::engine::{Engine, EngineStatus, Input, Now};
use quorate_protocol::message::Message;
use quorate_protocol::request::Request;
use quorate_protocol::state::Snapshot;
use quorate_transport::{ClientHandle, ConnectionId, FramePermit};
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::keeper::Keep;
use super::sending::Sending;
use super::view::{CoreView, Standing};
use crate::clients::{Look, ServiceInput, TurnReport};
use crate::disk::FileDisk;
use crate::driver::{Driver, DriverError, Published};
use crate::failure::NodeError;
use crate::metrics::{Metrics, TimedDisk};
use crate::process::crowd::CrowdSign;

/// The log is prepared ahead at once when less than this is ready, bytes; else when nothing waits.
const READY_BYTES_LOW: u64 = 4 << 20;
/// A turn at least so often, so that the view of the core stays fresh, whatever the engine's timers say.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// The driver of a node.
pub(crate) type NodeDriver = Driver<TimedDisk<FileDisk>, Box<dyn Engine>>;

/// What the core takes. Permits are held until then, so that what waits here counts against its sender.
pub(crate) enum CoreInput {
    LinkUp(ReplicaId),
    Message {
        from: ReplicaId,
        message: Verified<Message>,
        _permit: FramePermit,
    },
    Relayed {
        from: ReplicaId,
        requests: Vec<Verified<Request>>,
        /// Of a frame that may hold more.
        _permit: Arc<FramePermit>,
    },
    Invalid(Box<Request>),
    Submit {
        request: Verified<Request>,
        bytes: usize,
        _permit: FramePermit,
    },
    Stored(Snapshot),
    Receipt {
        connection: ConnectionId,
        key: PublicKey,
        id: u64,
        seq: Seq,
        index: u32,
    },
    /// The client service wants to look at the executed state.
    Look,
    /// Somebody wants the whole state as it is.
    State(oneshot::Sender<Snapshot>),
    /// The keeper's storage failed.
    Failed(NodeError),
    /// Flush the log and end.
    Stop,
    /// End at once, as a kill would.
    Abandon,
}

/// Who may connect as a client. Read by the port at every handshake, written when the configuration changes.
pub(crate) type Admitted = Arc<RwLock<BTreeSet<PublicKey>>>;

/// The thread.
pub(crate) struct Core {
    pub(crate) id: ReplicaId,
    pub(crate) driver: NodeDriver,
    pub(crate) inbox: Arc<Inbox<CoreInput>>,
    pub(crate) service: Arc<Inbox<ServiceInput>>,
    pub(crate) keeper: Arc<Inbox<Keep>>,
    pub(crate) sending: Sending,
    pub(crate) clients: ClientHandle,
    pub(crate) admitted: Admitted,
    pub(crate) looking: Arc<AtomicBool>,
    pub(crate) client_bytes: Arc<AtomicUsize>,
    /// For the thread that verifies.
    pub(crate) crowd: Arc<CrowdSign>,
    pub(crate) view: Arc<CoreView>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) data: PathBuf,
    /// Where monotonic time begins.
    pub(crate) started: Instant,
}

/// What the thread remembers from turn to turn.
struct Memory {
    configuration: Digest,
    told: EngineStatus,
    look_wanted: bool,
}

enum Flow {
    Go,
    Stop,
    Abandon,
}

/// The clocks, the monotonic one counted from `started`.
pub(crate) fn now(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { monotonic: started.elapsed().as_micros() as u64, wall }
}

/// The keys registered now.
pub(crate) fn registered(driver: &NodeDriver) -> BTreeSet<PublicKey> {
    driver.execution().clients().map(|(key, _)| key).collect()
}

impl Core {
    /// Where the core stands.
    pub(crate) fn standing(id: ReplicaId, driver: &NodeDriver) -> Standing {
        use quorate_protocol::execution::Service as _;
        let status = driver.engine().status();
        let (syncs, frame_bytes) = driver.log_work();
        let execution = driver.execution();
        Standing {
            is_primary: status.primary == id,
            status,
            revision: execution.service().revision(),
            time: execution.time(),
            last_turn: Instant::now(),
            syncs,
            frame_bytes,
            log_bytes: driver.log_bytes(),
        }
    }

    /// Runs until told to stop, or until the replica must not go on.
    pub(crate) fn run(mut self) -> Result<(), NodeError> {
        let mut inputs = Vec::new();
        let mut memory = Memory {
            configuration: self.driver.execution().configuration_digest(),
            told: EngineStatus { rejoining: false, ..self.driver.engine().status() },
            look_wanted: false,
        };
        loop {
            self.inbox.take(Some(self.wake()), &mut inputs);
            let now = now(self.started);
            let mut published = Published::default();
            let mut flow = Flow::Go;
            self.metrics.inputs.inc_by(inputs.len() as u64);
            self.metrics.turn_inputs.observe(inputs.len() as f64);
            for input in inputs.drain(..) {
                match self.take(input, now, &mut published, &mut memory)? {
                    Flow::Go => {}
                    Flow::Abandon => return Ok(()),
                    Flow::Stop => flow = Flow::Stop,
                }
            }
            if self.driver.engine().wake().is_some_and(|wake| wake <= now.monotonic) {
                self.driver.input(Input::Timer);
            }
            let sending = &self.sending;
            let turned = self.driver.turn(now, &mut published, |sends| sending.publish(std::mem::take(sends)));
            turned.map_err(|error| self.failed(&error))?;
            self.publish(published, &mut memory)?;
            if matches!(flow, Flow::Stop) {
                return self.driver.flush().map_err(|error| self.failed(&error));
            }
            self.tend_log()?;
        }
    }

    fn failed(&self, error: &DriverError) -> NodeError {
        NodeError::from_driver(&self.data, error)
    }

    fn wake(&self) -> Instant {
        let latest = Instant::now() + TURN_EVERY;
        self.driver.engine().wake().map_or(latest, |wake| latest.min(self.started + Duration::from_micros(wake)))
    }

    fn take(
        &mut self,
        input: CoreInput,
        now: Now,
        published: &mut Published,
        memory: &mut Memory,
    ) -> Result<Flow, NodeError> {
        match input {
            CoreInput::LinkUp(id) => self.driver.input(Input::LinkUp(id)),
            CoreInput::Message { from, message, .. } => self.driver.input(Input::Message { from, message }),
            CoreInput::Relayed { from, requests, .. } => self.driver.relayed(from, requests, now.wall),
            CoreInput::Invalid(request) => self.driver.input(Input::InvalidRequest(request)),
            CoreInput::Submit { request, bytes, .. } => {
                self.client_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.driver.submit(request, now.wall, published);
            }
            CoreInput::Stored(snapshot) => self.driver.checkpoint_stored(snapshot),
            CoreInput::Receipt { connection, key, id, seq, index } => {
                let receipt = self.driver.receipt(seq, index).map_err(|error| self.failed(&error))?;
                self.service.push(ServiceInput::Receipt { connection, key, id, receipt });
            }
            CoreInput::Look => memory.look_wanted = true,
            CoreInput::State(answer) => {
                // Whoever asked may have stopped waiting.
                let _ = answer.send(self.driver.execution().snapshot());
            }
            CoreInput::Failed(error) => return Err(error),
            CoreInput::Stop => return Ok(Flow::Stop),
            CoreInput::Abandon => return Ok(Flow::Abandon),
        }
        Ok(Flow::Go)
    }

    /// Hands on what the turn gave.
    fn publish(&mut self, published: Published, memory: &mut Memory) -> Result<(), NodeError> {
        // Messages to peers have left already.
        let Published { sends: _, replies, refused, busy, evidence, snapshots, executed, installed, halt } = published;
        self.metrics.turns.inc();
        for batch in &executed {
            self.metrics.batch_requests.observe(batch.requests as f64);
            self.metrics.requests_executed.inc_by(batch.requests as u64);
        }
        let standing = Core::standing(self.id, &self.driver);
        Core::tell(&standing.status, memory);
        self.crowd.set(standing.status.crowd);
        let changed = !executed.is_empty() || installed.is_some();
        if let Some(seq) = installed {
            tracing::info!(%seq, revision = standing.revision, "a fetched state replaced the executed one");
        }
        let mut report = TurnReport { replies, refused, busy, look: None };
        if std::mem::take(&mut memory.look_wanted) || (changed && self.looking.load(Ordering::Relaxed)) {
            report.look = Some(Look { state: self.driver.execution().service().clone(), revision: standing.revision });
        }
        self.view.set(standing);
        if !report.is_empty() {
            self.service.push(ServiceInput::Turn(report));
        }
        if changed {
            self.refresh_admission(memory);
        }
        for evidence in evidence {
            self.metrics.evidence.inc();
            self.keeper.push(Keep::Evidence(evidence));
        }
        for snapshot in snapshots {
            self.keeper.push(Keep::Snapshot(snapshot));
        }
        halt.map_or(Ok(()), |halt| Err(NodeError::Halted(halt)))
    }

    /// One line a view change, checkpoint, state transfer, and whatever happens to logs.
    fn tell(status: &EngineStatus, memory: &mut Memory) {
        let told = &memory.told;
        let why = || status.departure.map_or_else(String::new, |why| why.to_string());
        if status.leaders_take_turns {
            if status.view_changes != told.view_changes {
                tracing::info!(now_in = %status.view, leader = %status.primary, executed = %status.executed, why = why(), "gave up a view");
            }
        } else if (status.view, status.entered) != (told.view, told.entered) {
            if status.entered {
                tracing::info!(view = %status.view, primary = %status.primary, executed = %status.executed, "entered a view");
            } else {
                tracing::info!(view = %status.view, primary = %status.primary, executed = %status.executed, why = why(), "moving to a view");
            }
        }
        if status.stable != told.stable {
            tracing::debug!(seq = %status.stable, root = %status.stable_digest.short(), "checkpoint stable");
        }
        if status.transferring != told.transferring {
            tracing::info!(transferring = status.transferring, executed = %status.executed, "state transfer");
        }
        if (status.rejoining, status.incarnation) != (told.rejoining, told.incarnation) {
            if status.rejoining {
                tracing::warn!(incarnation = %status.incarnation, "the log lacks promises of this replica: it signs nothing and rejoins");
            } else {
                tracing::info!(incarnation = %status.incarnation, above = %status.stable, "rejoined");
            }
        }
        if status.without_log != told.without_log {
            tracing::info!(replicas = ?status.without_log, "replicas without a trusted log");
        }
        if status.too_many_without_log && !told.too_many_without_log {
            tracing::error!(
                replicas = ?status.without_log,
                "more than f replicas have no trusted log, so nothing can be ordered and none of them can rejoin; bring back the data directories of as many as you can and start them again"
            );
        }
        memory.told = status.clone();
    }

    /// Who may connect follows from the state.
    fn refresh_admission(&self, memory: &mut Memory) {
        let configuration = self.driver.execution().configuration_digest();
        if configuration == memory.configuration {
            return;
        }
        memory.configuration = configuration;
        *self.admitted.write().unwrap_or_else(std::sync::PoisonError::into_inner) = registered(&self.driver);
        self.clients.recheck();
        tracing::info!("the registered client keys have changed");
    }

    /// Prepares the log ahead of need: a little when nothing else waits, more urgently when little is ready.
    fn tend_log(&mut self) -> Result<(), NodeError> {
        let log = self.driver.log_mut();
        if log.ready_bytes() < READY_BYTES_LOW || self.inbox.is_empty() {
            log.maintain().map_err(|error| NodeError::from_log(&self.data, &error))?;
        }
        Ok(())
    }
}
