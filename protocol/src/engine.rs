//! The seam between a consensus engine and whoever drives it: closed enums in, data out, no I/O.
//!
//! ```text
//!            Input (verified)                Step
//!  network ──────────────────►┌─────────┐──► records ──► one frame, one sync
//!  clients ──────────────────►│ Engine  │──► sends    ──► each leaves only when `after` is durable
//!  clock   ──────────────────►│  step   │──► decided  ──► executed in order, when `after` is durable
//!  execution ────────────────►└─────────┘──► wake, cut, install, evidence
//! ```
//!
//! PBFT and HotStuff implement [`Engine`]. Nothing here speaks of f, quorums or signature schemes.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use quorate_crypto::{Digest, Incarnation, PublicKey, ReplicaId, Seq, Signed, Verified, View};

use crate::evidence::Evidence;
use crate::message::Message;
use crate::parameters::Micros;
use crate::proposal::Proposal;
use crate::record::Record;
use crate::rejoin::Rejoined;
use crate::request::{Request, SessionId};
use crate::state::Snapshot;

/// The two clocks of a step. They come in as arguments; the core reads no clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Monotonic, microseconds since an arbitrary start. Drives timers.
    pub monotonic: Micros,
    /// Wall clock, milliseconds since the Unix epoch. Compared only for fresh proposals.
    pub wall: u64,
}

/// Counts the records a replica ever emitted in this process, from 1; recovered records come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RecordIndex(pub u64);

/// What can happen to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// A verified message from a peer. `from` is the link it came by, never the author of what is signed inside.
    Message {
        /// The peer at the other end of the link.
        from: ReplicaId,
        /// The message.
        message: Verified<Message>,
    },
    /// Requests whose client signatures hold. `from` is the peer that relayed them, `None` for a client's own link.
    /// Execution was asked first: none of them has a number it knows as executed.
    Requests {
        /// The relaying peer.
        from: Option<ReplicaId>,
        /// The requests.
        requests: Vec<Verified<Request>>,
    },
    /// A body arrived whose client signature does not hold. If a proposal names it, the proposer is convicted.
    InvalidRequest(Box<Request>),
    /// Execution would not execute this pending request any more (see [`Engine::oldest_pending`]): it is dropped with its
    /// timer.
    Refused(Digest),
    /// The time named by [`Engine::wake`] has come, or any other moment: stepping too often is harmless.
    Timer,
    /// All inputs of a driver's turn have been given. Batches are cut here, so that a turn's requests share one.
    TurnEnd,
    /// Execution finished a decided batch.
    Executed {
        /// The batch.
        seq: Seq,
        /// Merkle root over its results.
        results: Digest,
        /// Agreed time (ms) at which the service wants an empty batch at the latest, if any.
        next_deadline: Option<u64>,
    },
    /// A checkpoint's snapshot is durable, its state root included.
    CheckpointStored {
        /// The snapshot.
        snapshot: Snapshot,
        /// Its state root.
        root: Digest,
    },
    /// A link to a peer came up.
    LinkUp(ReplicaId),
    /// The executed state shows other rejoined replicas than before: told before [`Input::Executed`] of the batch that
    /// changed them, and once for a state that was loaded or fetched.
    Rejoined(Rejoined),
    /// What [`Step::trust_log`] asked for is done.
    LogTrusted,
}

/// Who a message goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipients {
    /// Every other member.
    Others,
    /// One member.
    One(ReplicaId),
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Send {
    /// Who gets it.
    pub to: Recipients,
    /// What.
    pub message: Message,
    /// It leaves only when this record is durable.
    pub after: Option<RecordIndex>,
}

/// A batch decided at its place in the total order.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The place.
    pub seq: Seq,
    /// The decided proposal.
    pub proposal: Proposal,
    /// The bodies, in the proposal's order.
    pub requests: Vec<Arc<Verified<Request>>>,
    /// It may be executed only when this record is durable: until then this replica's own vote, which was counted, could
    /// be lost in a power cut together with the decision.
    pub after: Option<RecordIndex>,
}

/// What the driver must tell a client at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Busy {
    /// The request not admitted.
    pub request: Digest,
    /// Its client.
    pub client: PublicKey,
    /// When to try again, milliseconds.
    pub retry_after: u64,
}

/// What one step wants done. `records` go to disk in order; a send or decision with `after` waits for its record.
#[derive(Debug, Default)]
pub struct Step {
    /// Records to append, in order; each takes the next [`RecordIndex`].
    pub records: Vec<Record>,
    /// Messages to publish.
    pub sends: Vec<Send>,
    /// Decided batches, in ascending order, without gaps from one step to the next.
    pub decided: Vec<Decided>,
    /// A state to install instead of executing up to its number.
    pub install: Option<Snapshot>,
    /// Records below this index are no longer needed.
    pub cut: Option<RecordIndex>,
    /// Convicting evidence, found now for the first time.
    pub evidence: Vec<Evidence>,
    /// Requests that were not admitted.
    pub busy: Vec<Busy>,
    /// A rejoin is complete: once this record is durable the log is to be marked as trusted, durably, and
    /// [`Input::LogTrusted`] is owed. Nothing is signed before.
    pub trust_log: Option<RecordIndex>,
    /// The log was found to lack promises: it is to be marked as untrusted, durably, before anything of this step leaves.
    pub distrust_log: bool,
    /// Set when this replica must stop: its own state contradicts a certified one.
    pub halt: Option<Halt>,
}

/// Many keys ask at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowd {
    /// Requests that one key may have pending.
    pub share: usize,
    /// What a pending request takes in a batch on average, bytes.
    pub mean_weight: usize,
}

/// Why a replica left a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// The oldest admitted request was not executed in time.
    TimerExpired,
    /// f + 1 find that the primary lets requests wait.
    SlowPrimary,
    /// A request was passed over by too many later ones.
    Censorship,
    /// f + 1 suspect the primary, and this replica holds evidence against it.
    ConvictedPrimary,
    /// f + 1 others have left it.
    Joined,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Departure::TimerExpired => "the view timer expired",
            Departure::SlowPrimary => "the primary is slow",
            Departure::Censorship => "a request was passed over",
            Departure::ConvictedPrimary => "the primary is convicted",
            Departure::Joined => "others have left",
        })
    }
}

/// Why a replica must stop.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Halt {
    /// A quorum certified another state root than this replica computed.
    Diverged {
        /// The checkpoint.
        seq: Seq,
        /// What this replica computed.
        own: Digest,
        /// What a quorum signed.
        certified: Digest,
    },
    /// HotStuff: a quorum certified a block in a later view that does not extend what was committed: more than f lied.
    Forked {
        /// The block committed here.
        committed: Digest,
        /// The block certified beside it.
        certified: Digest,
    },
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Halt::Diverged { seq, own, certified } => write!(
                f,
                "the state at checkpoint {seq} is {} here but a quorum certified {}: this replica's state is damaged",
                own.short(),
                certified.short()
            ),
            Halt::Forked { committed, certified } => write!(
                f,
                "block {} is committed here but a quorum certified {} beside it: more than f replicas lied",
                committed.short(),
                certified.short()
            ),
        }
    }
}

/// Where an engine stands, for people and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineStatus {
    /// The view it is in or moving to.
    pub view: View,
    /// Whether it has entered that view.
    pub entered: bool,
    /// Who leads that view.
    pub primary: ReplicaId,
    /// The certified low watermark and its state root.
    pub stable: Seq,
    /// State root at `stable`; zero for the genesis state.
    pub stable_digest: Digest,
    /// The highest number decided without a gap.
    pub decided: Seq,
    /// The highest number executed.
    pub executed: Seq,
    /// Requests admitted and not yet executed.
    pub pending: usize,
    /// Of them, those that stand in no proposal made or accepted here.
    pub unproposed: usize,
    /// What one client key may take here at present, while many keys ask at once.
    pub crowd: Option<Crowd>,
    /// View changes started since the process began, or views given up where leaders take turns.
    pub view_changes: u64,
    /// Whether leaders take turns: then a view that follows another is no event.
    pub leaders_take_turns: bool,
    /// Why the last of them was.
    pub departure: Option<Departure>,
    /// Whether a state transfer is under way.
    pub transferring: bool,
    /// The incarnation this replica signs in; while it rejoins, the one it asked for.
    pub incarnation: Incarnation,
    /// Whether it has no trusted log, follows the others and signs nothing but Rejoin.
    pub rejoining: bool,
    /// Replicas known to be without a trusted log, ascending, this one included.
    pub without_log: Vec<ReplicaId>,
    /// Whether those are more than f: then nothing can be ordered, and the operator must bring logs back.
    pub too_many_without_log: bool,
}

/// A consensus engine as a state machine.
pub trait Engine: std::marker::Send {
    /// Takes one input. Deterministic: equal histories of calls give equal steps, to the byte.
    fn step(&mut self, now: Now, input: Input) -> Step;
    /// When [`Input::Timer`] is next due (monotonic microseconds).
    fn wake(&self) -> Option<Micros>;
    /// Where it stands.
    fn status(&self) -> EngineStatus;
    /// Whether a request of this digest is already pending, proposed or decided here and not yet executed.
    fn knows(&self, request: &Digest) -> bool;
    /// Whether a proposal names this request and its body is not held: it must be handed in whatever execution thinks of
    /// it, since a proposal is voted on only with all its bodies.
    fn wants(&self, request: &Digest) -> bool;
    /// The request that the timers run on, if any. The driver asks execution about it every turn: what no primary may
    /// propose any more (it expired, its number was taken or acknowledged, its client's share is full) must not count
    /// against the primary, else a client could cause view changes by what it sends to one backup alone.
    fn oldest_pending(&self) -> Option<&Verified<Request>>;
    /// This replica's EXECUTED of a batch, while it is kept: what receipts are signed with.
    fn executed_statement(&self, seq: Seq) -> Option<Signed>;
}

impl Engine for Box<dyn Engine> {
    fn step(&mut self, now: Now, input: Input) -> Step {
        (**self).step(now, input)
    }

    fn wake(&self) -> Option<Micros> {
        (**self).wake()
    }

    fn status(&self) -> EngineStatus {
        (**self).status()
    }

    fn knows(&self, request: &Digest) -> bool {
        (**self).knows(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        (**self).wants(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        (**self).oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        (**self).executed_statement(seq)
    }
}

/// Identifies a request by what it may execute once under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestNumber {
    /// The client's key.
    pub client: PublicKey,
    /// The session.
    pub session: SessionId,
    /// The number in the session.
    pub number: u64,
}
