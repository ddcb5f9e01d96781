//! Practical Byzantine Fault Tolerance with signatures (Castro and Liskov, OSDI 1999 and TOCS 2002).
//!
//! ```text
//!   requests ─► pending ─► PRE-PREPARE ─► PREPARE ─► COMMIT ─► decided ─► execution ─► CHECKPOINT ─► stable
//!                 │ timer                                                                  ▲
//!                 └────────► VIEW-CHANGE ─► NEW-VIEW ─► the same, next primary        state transfer
//! ```
//!
//! What does not depend on how requests are ordered is the [`Foundation`]'s.
//!
//! | file | chapter |
//! |---|---|
//! | [`safety`] | every rule that safety rests on, as pure functions |
//! | [`slot`] | one sequence number |
//! | [`view_change_message`] | VIEW-CHANGE and NEW-VIEW as signed bytes |
//! | `normal_case` | batches, PRE-PREPARE, PREPARE, COMMIT, delivery |
//! | `load` | how much is undecided, what waits again |
//! | `view_timer` | timers, relays, watching the primary |
//! | `view_change` | VIEW-CHANGE, NEW-VIEW |
//! | `checkpointing` | what follows from stable certificates; cutting the log |
//! | `catch_up` | STATUS, re-sending, fetching |
//! | `handing_back` | handing statements back to who signed them |
//! | `rejoining` | lives, where they touch views and watermarks |
//! | `scarce` | sending along what others lack |
//! | [`monitor`] | whether the primary is merely slow |
//! | `accusation` | finding signed contradictions |
//! | `recovery` | from records back to a replica |

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, ReplicaId, Seq, Signed, Verified, View};

use crate::engine::{Departure, Engine, EngineStatus, Input, Now, RecordIndex, Step};
use crate::foundation::Foundation;
pub use crate::foundation::Setup;
use crate::message::Message;
use crate::parameters::Micros;
use crate::request::Request;

mod accusation;
mod catch_up;
mod checkpointing;
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

use monitor::Monitor;
use scarce::Scarce;
use slot::Slot;
use view_change_message::{NewView, ViewChange};

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
    foundation: Foundation,

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
    /// How large the last batch was.
    last_batch: usize,

    // Others.
    /// The view whose primary each peer says it suspects.
    suspicions: BTreeMap<ReplicaId, View>,
    wanted_proposals: BTreeMap<Digest, BTreeSet<Seq>>,
    /// The view whose primary the others were last told is suspected.
    told_suspicion: Option<View>,
    view_changes_started: u64,
    last_departure: Option<Departure>,
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
        let monitor = Monitor::among(setup.committee.faults());
        // Numbers are signed up to L above a stable checkpoint.
        let rejoin_gap = setup.parameters.window;
        Replica {
            foundation: Foundation::new(setup, rejoin_gap),
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
            last_batch: 1,
            suspicions: BTreeMap::new(),
            wanted_proposals: BTreeMap::new(),
            told_suspicion: None,
            view_changes_started: 0,
            last_departure: None,
        }
    }

    fn primary(&self) -> ReplicaId {
        self.foundation.committee().primary(self.view)
    }

    fn leads(&self) -> bool {
        self.primary() == self.foundation.id()
    }

    fn in_window(&self, seq: Seq) -> bool {
        safety::in_watermarks(seq, self.foundation.stable(), self.foundation.parameters().window)
    }

    /// Rule P9: only these numbers ever cost memory.
    fn in_look_ahead(&self, seq: Seq) -> bool {
        safety::in_watermarks(seq, self.foundation.stable(), self.foundation.parameters().look_ahead())
    }

    fn slot(&mut self, seq: Seq) -> &mut Slot {
        self.slots.entry(seq).or_default()
    }

    fn current_ballot(&self, seq: Seq) -> Option<Ballot> {
        self.slots.get(&seq)?.rounds.get(&self.view)?.ballot()
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
            Message::FetchRequests(digests) => {
                let clients = self.foundation.answer_fetch_requests(now, from, &digests);
                self.note_scarce(now, &clients);
            }
            Message::FetchProposals(digests) => self.answer_fetch_proposals(now, from, &digests),
            Message::Proposals(proposals) => self.handle_proposals(now, proposals),
            Message::FetchViewChange { view, author, body } => {
                self.answer_fetch_view_change(now, from, view, author, body);
            }
            Message::CommitCertificate(committed) => self.handle_commit_certificate(now, committed),
            Message::StableCheckpoint(certificate) => self.adopt_stable(now, certificate),
            Message::YourStatements(statements) => self.handle_own_statements(now, &statements),
            Message::FetchState { .. } | Message::FetchChunk { .. } => {
                self.foundation.answer_fetch_state(now, from, &message);
            }
            Message::State { .. } | Message::Chunk { .. } | Message::StateGone { .. } => {
                self.handle_transfer(now, from, message);
            }
            // Of the other engine.
            Message::BlockProposal(_)
            | Message::BlockVote(_)
            | Message::Timeout(_)
            | Message::QuorumCertificate(_)
            | Message::TimeoutCertificate(_)
            | Message::FetchBlocks(_)
            | Message::Blocks(_)
            | Message::HotStuffStatus(_) => {}
        }
    }
}

impl Engine for Replica {
    fn step(&mut self, now: Now, input: Input) -> Step {
        if self.foundation.halted {
            return Step::default();
        }
        self.notice_pause(now);
        match input {
            Input::Message { from, message } => {
                if self.foundation.is_peer(from) {
                    self.handle_message(now, from, message.into_inner());
                }
            }
            Input::Requests { from, requests } => {
                let leads = self.leads();
                self.foundation.handle_requests(now, from, requests, leads);
            }
            Input::Refused(request) => self.foundation.refuse(&request),
            Input::InvalidRequest(request) => self.handle_invalid_request(*request),
            Input::Timer => self.handle_timer(now),
            Input::TurnEnd => self.end_turn(now),
            Input::Executed { seq, results, next_deadline } => self.handle_executed(now, seq, results, next_deadline),
            Input::CheckpointStored { snapshot, root } => self.handle_checkpoint_stored(now, snapshot, root),
            Input::LinkUp(peer) => self.handle_link_up(now, peer),
            Input::Rejoined(rejoined) => self.handle_rejoined(now, rejoined),
            Input::LogTrusted => self.handle_log_trusted(now),
        }
        self.foundation.take_step()
    }

    fn wake(&self) -> Option<Micros> {
        // Who has halted has nothing more to do; its process ends.
        self.next_wake().filter(|_| !self.foundation.halted)
    }

    fn status(&self) -> EngineStatus {
        EngineStatus {
            view_changes: self.view_changes_started,
            departure: self.last_departure,
            ..self.foundation.status(self.view, self.entered, self.primary())
        }
    }

    fn knows(&self, request: &Digest) -> bool {
        self.foundation.bodies.holds(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.foundation.bodies.is_wanted(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.foundation.oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.foundation.own_executed.get(&seq).copied()
    }
}
