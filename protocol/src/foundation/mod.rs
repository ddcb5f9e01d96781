//! What a replica stands on whichever protocol orders: everything that PBFT and HotStuff need alike, written once.
//!
//! ```text
//!   requests, CHECKPOINTs, EXECUTED results,      ┌────────────┐   records, messages, decided batches, evidence
//!   questions of peers, parts of states, Rejoins ►│ Foundation │►  (all through one door each, into the step)
//!                                                 └────────────┘
//!                        an engine calls it, and acts on what the calls return
//! ```
//!
//! An engine owns a [`Foundation`] by value. It never calls back: where something follows that only the engine can do (cut
//! its log, try what has become possible, leave a view), the method returns what happened and the engine goes on.
//!
//! What comes in: what an engine was handed and does not judge by its own rules. What goes out: the step under
//! construction, and answers to "what now?". It knows no views, votes, blocks or leaders.
//!
//! | file | what it holds |
//! |---|---|
//! | [`setup`] | who this replica is; signing |
//! | this one | the doors for records and messages, halting |
//! | `requests` | admission, bodies, relays |
//! | `load` | how much is taken on and proposed at once |
//! | `progress` | decided, executed, agreed time, own EXECUTED statements |
//! | `checkpointing` | CHECKPOINT, stable certificates |
//! | `peers` | how far others are, STATUS, handing statements back |
//! | `serving` | answers to peers' questions, within budgets |
//! | `budget` | what serving parts of a state to one peer may cost |
//! | `fetching` | state transfer |
//! | `lives` | coming back without a log, and who is believed after that |
//! | `accusation` | from a contradiction to evidence |
//! | `convictions` | who was convicted here, and does not lead |
//! | `recovery` | from records back to all this |

use std::collections::BTreeMap;

use quorate_crypto::{ReplicaId, Seq, Signed, View};

use crate::bodies::Bodies;
use crate::checkpoint::Checkpoints;
use crate::engine::{EngineStatus, Halt, Recipients, RecordIndex, Send, Step};
use crate::message::Message;
use crate::parameters::Micros;
use crate::pending::Pending;
use crate::record::Record;
use crate::rejoin::Rejoining;
use crate::throughput::Throughput;
use crate::transfer::Transfer;

mod accusation;
mod budget;
mod checkpointing;
mod convictions;
mod fetching;
mod lives;
mod load;
mod peers;
mod progress;
mod recovery;
mod requests;
mod serving;
pub mod setup;

#[cfg(test)]
mod tests;

pub(crate) use checkpointing::Stored;
use convictions::Convictions;
use fetching::Stall;
use lives::Lives;
pub(crate) use load::BATCH_LEAST;
use peers::Peer;
pub(crate) use peers::said_by;
pub(crate) use recovery::RecoveredBodies;
pub use setup::Setup;

/// What a replica stands on.
pub struct Foundation {
    pub(crate) setup: Setup,
    /// How far above the number of a Rejoin the life before it may have signed something: L where numbers are signed up to L
    /// above a stable checkpoint, 0 where whoever had signed above it would have executed the Rejoin itself.
    rejoin_gap: u64,

    // Requests.
    pub(crate) bodies: Bodies,
    pub(crate) pending: Pending,
    throughput: Throughput,
    byte_throughput: Throughput,
    /// Wanted bodies came in this turn, or a log was read back: what names them may have become ready.
    bodies_came: bool,

    // The order.
    /// The highest number decided without a gap.
    pub(crate) delivered: Seq,
    /// The highest number executed.
    pub(crate) executed: Seq,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) own_executed: BTreeMap<Seq, Signed>,
    /// The header time of the newest own proposal, milliseconds.
    pub(crate) last_time: u64,
    /// The agreed time at which the service wants an empty batch at the latest.
    next_deadline: Option<u64>,

    // Others.
    peers: BTreeMap<ReplicaId, Peer>,
    pub(crate) transfer: Transfer,
    stall: Option<Stall>,
    pub(crate) next_status: Micros,
    pub(crate) lives: Lives,
    convictions: Convictions,

    // The step under construction.
    /// When the present step began.
    pub(crate) last_step: Micros,
    pub(crate) halted: bool,
    /// A state was found on disk at the start, and the first turn is still to come.
    found_state: bool,
    next_record: u64,
    pub(crate) out: Step,
}

impl Foundation {
    /// That of a replica that never signed anything, at the genesis state. `rejoin_gap` says how far above the number of a
    /// Rejoin the life before it may have signed something.
    pub(crate) fn new(setup: Setup, rejoin_gap: u64) -> Foundation {
        let peers = setup.committee.ids().filter(|id| *id != setup.id).map(|id| (id, Peer::default())).collect();
        let parameters = &setup.parameters;
        let pending = Pending::new(parameters.pending_requests_max, parameters.pending_requests_per_client_max);
        let transfer = Transfer::new(setup.id);
        Foundation {
            setup,
            rejoin_gap,
            bodies: Bodies::default(),
            pending,
            throughput: Throughput::default(),
            byte_throughput: Throughput::of_bytes(),
            bodies_came: false,
            delivered: Seq(0),
            executed: Seq(0),
            checkpoints: Checkpoints::default(),
            own_executed: BTreeMap::new(),
            last_time: 0,
            next_deadline: None,
            peers,
            transfer,
            stall: None,
            next_status: 0,
            lives: Lives::default(),
            convictions: Convictions::default(),
            last_step: 0,
            halted: false,
            found_state: false,
            next_record: 1,
            out: Step::default(),
        }
    }

    /// The only door through which records leave.
    pub(crate) fn record(&mut self, record: Record) -> RecordIndex {
        let index = RecordIndex(self.next_record);
        self.next_record += 1;
        self.out.records.push(record);
        index
    }

    /// The only door through which messages leave.
    pub(crate) fn send(&mut self, to: Recipients, message: Message, after: Option<RecordIndex>) {
        self.out.sends.push(Send { to, message, after });
    }

    /// This replica's state contradicts a certified one: it says nothing any more.
    pub(crate) fn halt(&mut self, halt: Halt) {
        self.halted = true;
        self.out.halt = Some(halt);
    }

    /// What the step that ends here wants done.
    pub(crate) fn take_step(&mut self) -> Step {
        let step = std::mem::take(&mut self.out);
        if self.halted {
            // What the same step went on to say after it found out is not said either.
            return Step { halt: step.halt, evidence: step.evidence, ..Step::default() };
        }
        step
    }

    /// Where it stands in the order and among the others; the engine says where it is in its views, and what it counts of
    /// them.
    pub(crate) fn status(&self, view: View, entered: bool, primary: ReplicaId) -> EngineStatus {
        let without_log = self.without_log();
        let attempt = self.lives.rejoining.as_ref().and_then(Rejoining::attempt);
        EngineStatus {
            view,
            entered,
            primary,
            stable: self.stable(),
            stable_digest: self.checkpoints.stable_digest(),
            decided: self.delivered,
            executed: self.executed,
            pending: self.pending.len(),
            unproposed: self.pending.unproposed(),
            crowd: self.pending.crowd(entered && primary == self.id()),
            view_changes: 0,
            leaders_take_turns: false,
            departure: None,
            transferring: self.transfer.is_active(),
            incarnation: attempt.map_or(self.setup.incarnation, |attempt| attempt.statement.statement.incarnation),
            rejoining: self.is_rejoining(),
            too_many_without_log: without_log.len() > self.committee().faults(),
            without_log,
        }
    }
}
