//! Practical Byzantine Fault Tolerance with signatures (Castro and Liskov, OSDI 1999 and TOCS 2002).
//!
//! ```text
//!   requests ─► pending ─► PRE-PREPARE ─► PREPARE ─► COMMIT ─► decided ─► execution ─► CHECKPOINT ─► stable
//!                 │ timer                                                                  ▲
//!                 └────────► VIEW-CHANGE ─► NEW-VIEW ─► the same, next primary        state transfer
//! ```
//!
//! | file | chapter |
//! |---|---|
//! | [`safety`] | every rule that safety rests on, as pure functions |
//! | [`slot`] | one sequence number |
//! | [`view_change_message`] | VIEW-CHANGE and NEW-VIEW as signed bytes |
//! | `normal_case` | admission, batches, PRE-PREPARE, PREPARE, COMMIT, delivery |
//! | `load` | how much is taken on, what waits again |
//! | `view_timer` | timers, relays, watching the primary |
//! | `view_change` | VIEW-CHANGE, NEW-VIEW |
//! | `checkpointing` | CHECKPOINT, stable certificates, cutting the log |
//! | `catch_up` | STATUS, re-sending, fetching |
//! | `handing_back` | handing statements back to who signed them |
//! | `rejoining` | lives: coming back without a log, and who is believed after that |
//! | `scarce` | sending along what others lack |
//! | `budget` | what serving parts of a state to one peer may cost |
//! | [`monitor`] | whether the primary is merely slow |
//! | `accusation` | finding signed contradictions |
//! | `convictions` | who was convicted here, and does not lead |
//! | `recovery` | from records back to a replica |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Committee, Digest, Incarnation, ReplicaId, Seq, Signed, Signer, Statement, StatementBody, Verified, Verifier, View,
};

use crate::bodies::Bodies;
use crate::checkpoint::Checkpoints;
use crate::engine::{Departure, Engine, EngineStatus, Halt, Input, Now, Recipients, RecordIndex, Send, Step};
use crate::message::Message;
use crate::parameters::{Micros, Parameters};
use crate::pbft::convictions::Convictions;
use crate::pending::Pending;
use crate::record::Record;
use crate::rejoin::Rejoining;
use crate::request::Request;
use crate::throughput::Throughput;
use crate::transfer::Transfer;

mod accusation;
mod budget;
mod catch_up;
mod checkpointing;
mod convictions;
mod handing_back;
mod load;
pub mod monitor;
mod normal_case;
mod recovery;
mod rejoining;
pub mod safety;
mod scarce;
pub mod slot;
mod view_change;
pub mod view_change_message;
mod view_timer;

#[cfg(test)]
mod tests;

use catch_up::{Peer, Stall};
use monitor::Monitor;
use rejoining::Lives;
use scarce::Scarce;
use slot::Slot;
use view_change_message::{NewView, ViewChange};

/// Everything a replica is given once.
#[derive(Clone)]
pub struct Setup {
    /// Who this replica is.
    pub id: ReplicaId,
    /// The incarnation it begins in: 0. Its log says in which one it goes on.
    pub incarnation: Incarnation,
    /// Fresh random bytes of this process: what the nonces of its Rejoins are made of.
    pub rejoin_seed: [u8; 32],
    /// The members.
    pub committee: Arc<Committee>,
    /// The shared parameters.
    pub parameters: Parameters,
    /// Signs for this replica.
    pub signer: Arc<dyn Signer>,
    /// Checks the few signatures that are looked at only when needed.
    pub verifier: Verifier,
}

/// A NEW-VIEW that waits for VIEW-CHANGEs it names.
struct AwaitedNewView {
    new_view: NewView,
    collected: BTreeMap<ReplicaId, ViewChange>,
    next_fetch: Micros,
    attempts: u32,
}

/// The view timer.
#[derive(Clone, Copy, Debug)]
struct ViewTimer {
    deadline: Micros,
    started: Micros,
    /// The oldest request when the timer started; the timer restarts when it is gone.
    target: Option<Digest>,
    /// Whether it was put off once because the process slept; twice would let a slow machine never notice a dead primary.
    put_off: bool,
    /// While this replica is behind the timer stands still; until when that was taken into account.
    paused: Option<Micros>,
}

/// A PBFT replica.
pub struct Replica {
    setup: Setup,

    // The view.
    view: View,
    entered: bool,
    /// Consecutive views that failed since the last progress; the timers' back-off.
    failed_views: u32,
    /// What was executed when the view was entered: progress is anything beyond.
    entered_at: Seq,
    timer: Option<ViewTimer>,
    monitor: Monitor,
    /// As primary: whose requests the others lack.
    scarce: Scarce,
    /// The newest VIEW-CHANGE of each member (rule P9: one each, however far ahead).
    view_changes: BTreeMap<ReplicaId, ViewChange>,
    own_view_change: Option<ViewChange>,
    own_view_change_record: Option<RecordIndex>,
    /// When it relays again what is pending, while it moves.
    next_moving_relay: Micros,
    /// One per author at most.
    awaited: BTreeMap<ReplicaId, AwaitedNewView>,
    /// NEW-VIEWs kept, with what they rest on, and the stable checkpoint when they were accepted.
    new_views: BTreeMap<View, KeptNewView>,

    // The log.
    slots: BTreeMap<Seq, Slot>,
    /// The next number a primary assigns.
    next_seq: Seq,
    delivered: Seq,
    executed: Seq,
    checkpoints: Checkpoints,
    own_executed: BTreeMap<Seq, Signed>,
    last_batch: usize,
    last_time: u64,
    next_deadline: Option<u64>,

    // Requests.
    bodies: Bodies,
    pending: Pending,
    throughput: Throughput,
    byte_throughput: Throughput,

    // Others.
    peers: BTreeMap<ReplicaId, Peer>,
    transfer: Transfer,
    stall: Option<Stall>,
    next_status: Micros,
    last_step: Micros,
    wanted_proposals: BTreeMap<Digest, BTreeSet<Seq>>,
    /// Wanted bodies came in this turn, or a log was read back: slots may have become ready.
    bodies_came: bool,
    lives: Lives,
    convictions: Convictions,
    /// The view whose primary the others were last told is suspected.
    told_suspicion: Option<View>,
    view_changes_started: u64,
    last_departure: Option<Departure>,
    halted: bool,

    next_record: u64,
    out: Step,
}

/// A NEW-VIEW with the VIEW-CHANGEs it rests on.
struct KeptNewView {
    new_view: NewView,
    view_changes: Vec<ViewChange>,
    stable: Seq,
    record: Option<RecordIndex>,
}

impl Replica {
    /// A replica that never signed anything, at the genesis state.
    pub fn new(setup: Setup) -> Replica {
        let peers = setup.committee.ids().filter(|id| *id != setup.id).map(|id| (id, Peer::default())).collect();
        let parameters = &setup.parameters;
        let pending = Pending::new(parameters.pending_requests_max, parameters.pending_requests_per_client_max);
        let transfer = Transfer::new(setup.id);
        let monitor = Monitor::among(setup.committee.faults());
        Replica {
            setup,
            view: View(0),
            entered: true,
            failed_views: 0,
            scarce: Scarce::default(),
            entered_at: Seq(0),
            timer: None,
            monitor,
            view_changes: BTreeMap::new(),
            own_view_change: None,
            own_view_change_record: None,
            next_moving_relay: 0,
            awaited: BTreeMap::new(),
            new_views: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_seq: Seq(1),
            delivered: Seq(0),
            executed: Seq(0),
            checkpoints: Checkpoints::default(),
            own_executed: BTreeMap::new(),
            last_batch: 1,
            last_time: 0,
            next_deadline: None,
            bodies: Bodies::default(),
            pending,
            throughput: Throughput::default(),
            byte_throughput: Throughput::of_bytes(),
            peers,
            transfer,
            stall: None,
            next_status: 0,
            last_step: 0,
            wanted_proposals: BTreeMap::new(),
            bodies_came: false,
            lives: Lives::default(),
            convictions: Convictions::default(),
            told_suspicion: None,
            view_changes_started: 0,
            last_departure: None,
            halted: false,
            next_record: 1,
            out: Step::default(),
        }
    }

    fn id(&self) -> ReplicaId {
        self.setup.id
    }

    fn parameters(&self) -> &Parameters {
        &self.setup.parameters
    }

    fn committee(&self) -> &Committee {
        &self.setup.committee
    }

    fn primary(&self) -> ReplicaId {
        self.committee().primary(self.view)
    }

    fn leads(&self) -> bool {
        self.primary() == self.id()
    }

    fn stable(&self) -> Seq {
        self.checkpoints.stable_seq()
    }

    fn in_window(&self, seq: Seq) -> bool {
        safety::in_watermarks(seq, self.stable(), self.parameters().window)
    }

    /// Rule P9: only these numbers ever cost memory.
    fn in_look_ahead(&self, seq: Seq) -> bool {
        safety::in_watermarks(seq, self.stable(), self.parameters().look_ahead())
    }

    fn header(&self) -> Statement {
        assert!(!self.is_rejoining(), "a replica without a trusted log signs nothing but Rejoin");
        // The body is replaced by whoever signs.
        Statement {
            epoch: self.committee().epoch(),
            signer: self.id(),
            incarnation: self.setup.incarnation,
            body: StatementBody::Rejoin { nonce: [0; 16] },
        }
    }

    fn sign(&self, body: StatementBody) -> Signed {
        Statement { body, ..self.header() }.sign(self.committee().cluster(), self.setup.signer.as_ref())
    }

    /// The only door through which records leave.
    fn record(&mut self, record: Record) -> RecordIndex {
        let index = RecordIndex(self.next_record);
        self.next_record += 1;
        self.out.records.push(record);
        index
    }

    /// The only door through which messages leave.
    fn send(&mut self, to: Recipients, message: Message, after: Option<RecordIndex>) {
        self.out.sends.push(Send { to, message, after });
    }

    fn slot(&mut self, seq: Seq) -> &mut Slot {
        self.slots.entry(seq).or_default()
    }

    fn current_ballot(&self, seq: Seq) -> Option<Ballot> {
        self.slots.get(&seq)?.rounds.get(&self.view)?.ballot()
    }

    fn halt(&mut self, halt: Halt) {
        self.halted = true;
        self.out.halt = Some(halt);
    }

    /// A member's bit in STATUS.
    fn bit(&self, id: ReplicaId) -> u128 {
        self.committee().members().iter().position(|member| member.id == id).map_or(0, |index| 1u128 << index)
    }

    fn answer_fetch_state(&mut self, now: Now, from: ReplicaId, question: &Message) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if !peer.chunks.allows(now.monotonic) {
            return;
        }
        let Some(answer) = self.transfer.answer(now, from, question) else { return };
        peer.chunks.charge(if let Message::Chunk { chunk, .. } = &answer { chunk.len() } else { 0 });
        self.send(Recipients::One(from), answer, None);
    }

    fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message) {
        match message {
            Message::PrePrepare(message) => self.handle_pre_prepare(now, message),
            Message::Prepare(message) => self.handle_prepare(now, message),
            Message::Commit(signed) => self.handle_commit(now, signed),
            Message::ViewChange(message) => self.handle_view_change(now, message),
            Message::NewView(message) => self.handle_new_view(now, message),
            Message::Checkpoint(signed) => self.handle_checkpoint(now, signed),
            Message::Executed(_) => {}
            // The driver verifies requests one by one and hands them in as `Input::Requests`.
            Message::Requests(_) => {}
            Message::Status(status) => self.handle_status(now, from, status),
            Message::FetchRequests(digests) => self.answer_fetch_requests(now, from, &digests),
            Message::FetchProposals(digests) => self.answer_fetch_proposals(now, from, &digests),
            Message::Proposals(proposals) => self.handle_proposals(now, proposals),
            Message::FetchViewChange { view, author, body } => {
                self.answer_fetch_view_change(now, from, view, author, body);
            }
            Message::CommitCertificate(committed) => self.handle_commit_certificate(now, committed),
            Message::StableCheckpoint(certificate) => self.handle_stable(now, certificate),
            Message::YourStatements(statements) => self.handle_own_statements(now, &statements),
            Message::FetchState { .. } | Message::FetchChunk { .. } => self.answer_fetch_state(now, from, &message),
            Message::State { .. } | Message::Chunk { .. } | Message::StateGone { .. } => {
                self.handle_transfer(now, from, message);
            }
        }
    }
}

impl Engine for Replica {
    fn step(&mut self, now: Now, input: Input) -> Step {
        if self.halted {
            return Step::default();
        }
        self.notice_pause(now);
        match input {
            Input::Message { from, message } => {
                if self.peers.contains_key(&from) {
                    self.handle_message(now, from, message.into_inner());
                }
            }
            Input::Requests { from, requests } => self.handle_requests(now, from, requests),
            Input::Refused(request) => {
                self.pending.remove(&request);
                self.bodies.not_pending(&request);
            }
            Input::InvalidRequest(request) => self.handle_invalid_request(*request),
            Input::Timer => self.handle_timer(now),
            Input::TurnEnd => self.end_turn(now),
            Input::Executed { seq, results, next_deadline } => self.handle_executed(now, seq, results, next_deadline),
            Input::CheckpointStored { snapshot, root } => self.handle_checkpoint_stored(now, snapshot, root),
            Input::LinkUp(peer) => self.handle_link_up(now, peer),
            Input::Rejoined(rejoined) => self.handle_rejoined(now, rejoined),
            Input::LogTrusted => self.handle_log_trusted(now),
        }
        let step = std::mem::take(&mut self.out);
        if self.halted {
            // What the same step went on to say after it found out is not said either.
            return Step { halt: step.halt, evidence: step.evidence, ..Step::default() };
        }
        step
    }

    fn wake(&self) -> Option<Micros> {
        // Who has halted has nothing more to do; its process ends.
        self.next_wake().filter(|_| !self.halted)
    }

    fn status(&self) -> EngineStatus {
        let without_log = self.without_log();
        EngineStatus {
            view: self.view,
            entered: self.entered,
            primary: self.primary(),
            stable: self.stable(),
            stable_digest: self.checkpoints.stable_digest(),
            decided: self.delivered,
            executed: self.executed,
            pending: self.pending.len(),
            unproposed: self.pending.unproposed(),
            view_changes: self.view_changes_started,
            departure: self.last_departure,
            transferring: self.transfer.is_active(),
            incarnation: self
                .lives
                .rejoining
                .as_ref()
                .and_then(Rejoining::attempt)
                .map_or(self.setup.incarnation, |attempt| attempt.statement.statement.incarnation),
            rejoining: self.is_rejoining(),
            too_many_without_log: without_log.len() > self.committee().faults(),
            without_log,
        }
    }

    fn knows(&self, request: &Digest) -> bool {
        self.bodies.holds(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.bodies.is_wanted(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.pending.oldest().and_then(|admitted| self.bodies.get(&admitted.digest)).map(|body| &**body)
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.own_executed.get(&seq).copied()
    }
}
