//! The state machine: what is under way, what each input means for it, what is to be sent.
//!
//! The driver calls [`ClientRole::poll`] until it is empty after every call of another method, and
//! [`ClientRole::timer`] when [`ClientRole::wake`] has come. Equal histories of calls give equal outputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_crypto::{Committee, Digest, ReplicaId, Signer};
use thiserror::Error;

use crate::client::accusation::{Accusation, Contradiction};
use crate::client::agreed_time::AgreedTime;
use crate::client::message::{ClientMessage, ReplicaStatus};
use crate::client::numbers::Numbers;
use crate::client::serializable_read::{ReadEnding, SerializableRead};
use crate::client::submission::{RequestEnding, Submission};
use crate::client::subscription::{Delivery, Subscription};
use crate::engine::Now;
use crate::execution::SESSION_WINDOW;
use crate::parameters::Micros;
use crate::reply::Reply;
use crate::request::{
    Operation, REQUEST_BYTES_MAX, REQUEST_OPERATIONS_MAX, Request, RequestContent, SessionId, weight_of,
};

mod answers;
mod clock;
mod watching;

/// Names one thing under way: a request, a read, a watch, a question for the status.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// How the client behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientParameters {
    /// A request without an answer is sent again after this time, and then after twice as long each time.
    pub resend_after: Micros,
    /// The longest time between two transmissions.
    pub resend_after_max: Micros,
    /// How long a request stays valid after it was signed, milliseconds of agreed time. At most the cluster's T_max,
    /// less what the two clocks may differ.
    pub lifetime: u64,
    /// Most requests under way at once. Replicas bound it too.
    pub in_flight_max: usize,
    /// Most reads, watches and status questions under way at once, each.
    pub questions_max: usize,
    /// The highest number in use lies less than this above the lowest one not settled. At most [`SESSION_WINDOW`].
    pub number_span: u64,
    /// The longest wait that Busy replicas may ask for, milliseconds.
    pub busy_wait_max: u64,
    /// A read without an answer asks again after this time.
    pub ask_again_after: Micros,
    /// The longest encoded request that the cluster takes, bytes: `request_bytes_max` of its genesis.
    pub request_bytes_max: usize,
}

impl Default for ClientParameters {
    fn default() -> Self {
        ClientParameters {
            resend_after: 300_000,
            resend_after_max: 2_400_000,
            lifetime: 30_000,
            in_flight_max: 64,
            questions_max: 64,
            number_span: SESSION_WINDOW,
            busy_wait_max: 5_000,
            ask_again_after: 100_000,
            request_bytes_max: usize::MAX,
        }
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchStart {
    /// With the first revision after those that exist when the watch begins.
    Now,
    /// With this revision.
    Revision(u64),
}

/// Why something could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SubmitError {
    /// As many are under way as the parameters allow.
    #[error("{0} are under way already; wait for one of them to end")]
    TooMany(usize),
    /// Too many numbers above one whose outcome is unknown.
    #[error("an earlier request's outcome is unknown and the session's numbers are used up; open a new session")]
    NumbersUsedUp,
    /// No operation, or more than [`REQUEST_OPERATIONS_MAX`].
    #[error("a request carries 1 to {REQUEST_OPERATIONS_MAX} operations, not {0}; divide it")]
    OperationCount(usize),
    /// More than [`REQUEST_BYTES_MAX`] bytes.
    #[error("the operations have {0} bytes, the limit is {REQUEST_BYTES_MAX}; divide the request")]
    TooLarge(usize),
    /// More than the cluster's genesis allows.
    #[error("the request has up to {bytes} bytes, this cluster's request_bytes_max is {limit}; divide the request")]
    AboveGenesis {
        /// What an encoded request with these operations may have.
        bytes: usize,
        /// [`ClientParameters::request_bytes_max`].
        limit: usize,
    },
    /// Saved requests that are not signatures of one client under one number.
    #[error("the saved requests do not belong together")]
    NotOneNumber,
}

/// What the driver is to do or to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send `message` to every one of `to`, all of which are connected. Losing it is harmless.
    Send {
        /// Who gets it.
        to: Vec<ReplicaId>,
        /// What.
        message: ClientMessage,
    },
    /// A request ended.
    Request {
        /// The request.
        ticket: Ticket,
        /// How.
        ending: RequestEnding,
    },
    /// A serializable read ended.
    Read {
        /// The read.
        ticket: Ticket,
        /// How.
        ending: ReadEnding,
    },
    /// Where the replicas stand, each as it says itself, in order of id.
    Status {
        /// The question.
        ticket: Ticket,
        /// Those that answered in time.
        replicas: Vec<ReplicaStatus>,
    },
    /// A watch delivers. After `Compacted` or `Ended` it is over.
    Watch {
        /// The watch.
        ticket: Ticket,
        /// What.
        delivery: Delivery,
    },
    /// A replica contradicts f + 1 others.
    Accusation(Accusation),
}

/// What an id on the wire asks about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
    Read(Ticket),
    Status(Ticket),
    /// Where to begin a watch.
    Locate(Ticket),
    Watch(Ticket, ReplicaId),
}

/// The id of questions for the agreed time: their answers are not tied to one request.
const TIME_WIRE: u64 = 0;
/// Digests of accepted replies kept to recognise late contradictions.
const SETTLED_MAX: usize = 256;

#[derive(Clone, Debug)]
struct StatusRound {
    wire: u64,
    replicas: BTreeMap<ReplicaId, ReplicaStatus>,
    give_up_at: Micros,
}

/// Who signs a request: [`AuthorId::OWN`] or what [`ClientRole::add_author`] gave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AuthorId(usize);

impl AuthorId {
    /// The key the role was made with.
    pub const OWN: AuthorId = AuthorId(0);
}

struct Author {
    key: Arc<dyn Signer>,
    session: SessionId,
    numbers: Numbers,
}

/// A number in one session of one author.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    author: AuthorId,
    session: SessionId,
    value: u64,
}

/// The client's role: one committee, one set of links, one key with one session, and the guests that were added.
pub struct ClientRole {
    committee: Committee,
    /// Who signs: the role's own key first, then the guests.
    authors: Vec<Author>,
    parameters: ClientParameters,
    agreed: AgreedTime,
    connected: BTreeSet<ReplicaId>,
    last_ticket: u64,
    last_wire: u64,
    submissions: BTreeMap<Ticket, Submission>,
    by_digest: BTreeMap<Digest, Ticket>,
    reads: BTreeMap<Ticket, SerializableRead>,
    watches: BTreeMap<Ticket, Subscription>,
    status_rounds: BTreeMap<Ticket, StatusRound>,
    wires: BTreeMap<u64, Wire>,
    /// Accepted replies, by request: the digest of the reply. Oldest first in `settled_order`.
    settled: BTreeMap<Digest, Digest>,
    settled_order: VecDeque<Digest>,
    outputs: VecDeque<Output>,
}

impl ClientRole {
    /// A client of `committee` that signs with `key` under `session`: 128 random bits, fresh for every process.
    pub fn new(
        committee: Committee,
        key: Arc<dyn Signer>,
        session: SessionId,
        parameters: ClientParameters,
    ) -> ClientRole {
        ClientRole {
            committee,
            authors: vec![Author { key, session, numbers: Numbers::default() }],
            parameters,
            agreed: AgreedTime::default(),
            connected: BTreeSet::new(),
            last_ticket: 0,
            last_wire: TIME_WIRE,
            submissions: BTreeMap::new(),
            by_digest: BTreeMap::new(),
            reads: BTreeMap::new(),
            watches: BTreeMap::new(),
            status_rounds: BTreeMap::new(),
            wires: BTreeMap::new(),
            settled: BTreeMap::new(),
            settled_order: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The replicas and the quorum arithmetic in force.
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Replicas connected now.
    pub fn connected(&self) -> usize {
        self.connected.len()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.submissions.len()
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets another key sign requests that go over the same links, with a session of its own: a request is its signer's,
    /// whoever carries it.
    pub fn add_author(&mut self, key: Arc<dyn Signer>, session: SessionId) -> AuthorId {
        self.authors.push(Author { key, session, numbers: Numbers::default() });
        AuthorId(self.authors.len() - 1)
    }

    /// Whether the numbers of `author`'s session are used up, so that nothing can be submitted under it now.
    pub fn numbers_are_used_up(&mut self, author: AuthorId) -> bool {
        let reached = self.agreed.reached(&self.committee);
        let span = self.parameters.number_span;
        self.authors.get_mut(author.0).is_some_and(|author| {
            author.numbers.expire(reached);
            author.numbers.are_used_up(span)
        })
    }

    /// `author` goes on under a fresh session: 128 random bits, used by no process before. For when the numbers of the
    /// present one are used up above a request whose outcome stays unknown. What is under way keeps its session.
    pub fn open_session(&mut self, author: AuthorId, session: SessionId) {
        if let Some(author) = self.authors.get_mut(author.0) {
            author.session = session;
            author.numbers = Numbers::default();
        }
    }

    /// Requests that may be under way at once, of all authors.
    fn room(&self) -> usize {
        self.parameters.in_flight_max.saturating_mul(self.authors.len())
    }

    /// Signs `operations` as one request and sends it to every replica. It ends by itself after `patience`.
    pub fn submit(&mut self, now: Now, operations: Vec<Operation>, patience: Micros) -> Result<Ticket, SubmitError> {
        self.submit_as(now, AuthorId::OWN, operations, patience)
    }

    /// [`ClientRole::submit`], signed by `author`, which this role gave.
    pub fn submit_as(
        &mut self,
        now: Now,
        author: AuthorId,
        operations: Vec<Operation>,
        patience: Micros,
    ) -> Result<Ticket, SubmitError> {
        self.check_operations(&operations)?;
        if self.submissions.len() >= self.room() {
            return Err(SubmitError::TooMany(self.submissions.len()));
        }
        let reached = self.agreed.reached(&self.committee);
        let span = self.parameters.number_span;
        let Author { session, numbers, .. } = &mut self.authors[author.0];
        numbers.expire(reached);
        let number = Number { author, session: *session, value: numbers.take(span).ok_or(SubmitError::NumbersUsedUp)? };
        let request = self.sign(now, number, operations);
        Ok(self.begin(now, Some(number), vec![request], patience))
    }

    /// Sends saved signed bytes again: signatures of one client under one number, unchanged. Safe at any time, since at
    /// most one request of a number executes, and only within its time limit.
    pub fn replay(&mut self, now: Now, requests: Vec<Request>, patience: Micros) -> Result<Ticket, SubmitError> {
        let one_number = requests.windows(2).all(|pair| {
            let (left, right) = (pair[0].content(), pair[1].content());
            left.client == right.client && left.session == right.session && left.number == right.number
        });
        if requests.is_empty() || requests.len() > super::submission::ATTEMPTS_MAX || !one_number {
            return Err(SubmitError::NotOneNumber);
        }
        if self.submissions.len() >= self.room() {
            return Err(SubmitError::TooMany(self.submissions.len()));
        }
        Ok(self.begin(now, None, requests.into_iter().map(Arc::new).collect(), patience))
    }

    /// Asks every replica for its own executed state: the newest, or that of `revision`.
    pub fn read(
        &mut self,
        now: Now,
        operation: Operation,
        revision: Option<u64>,
        patience: Micros,
    ) -> Result<Ticket, SubmitError> {
        self.check_operations(std::slice::from_ref(&operation))?;
        self.check_questions(self.reads.len())?;
        let ticket = self.ticket();
        let wire = self.wire(Wire::Read(ticket));
        let interval = self.parameters.ask_again_after;
        let give_up_at = now.monotonic.saturating_add(patience);
        let read = SerializableRead::new(operation, revision, wire, now.monotonic, interval, give_up_at);
        self.ask_read(&read, self.everybody());
        self.reads.insert(ticket, read);
        Ok(ticket)
    }

    /// Asks every replica where it stands. Ends when all members answered, else after `patience`.
    pub fn status(&mut self, now: Now, patience: Micros) -> Result<Ticket, SubmitError> {
        self.check_questions(self.status_rounds.len())?;
        let ticket = self.ticket();
        let wire = self.wire(Wire::Status(ticket));
        let give_up_at = now.monotonic.saturating_add(patience);
        self.status_rounds.insert(ticket, StatusRound { wire, replicas: BTreeMap::new(), give_up_at });
        self.send(self.everybody(), ClientMessage::Status { id: wire });
        Ok(ticket)
    }

    /// A link to `replica` came up, its key proven. Everything under way is sent to it.
    pub fn link_up(&mut self, now: Now, replica: ReplicaId) {
        if !self.committee.contains(replica) {
            return;
        }
        self.link_down(replica);
        self.connected.insert(replica);
        let mut requests = Vec::new();
        for submission in self.submissions.values_mut() {
            submission.sent = true;
            requests.extend(submission.requests());
        }
        for request in requests {
            self.send(vec![replica], ClientMessage::Submit((*request).clone()));
        }
        if self.submissions.values().any(|submission| submission.asking_time_since.is_some()) {
            self.send(vec![replica], ClientMessage::Status { id: TIME_WIRE });
        }
        let questions: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| matches!(wire, Wire::Status(_) | Wire::Locate(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in questions {
            self.send(vec![replica], ClientMessage::Status { id });
        }
        let reads = std::mem::take(&mut self.reads);
        for read in reads.values() {
            self.ask_read(read, vec![replica]);
        }
        self.reads = reads;
        let watches: Vec<Ticket> = self.watches.keys().copied().collect();
        for ticket in watches {
            self.subscribe_where_due(now, ticket);
        }
    }

    /// The link to `replica` went down.
    pub fn link_down(&mut self, replica: ReplicaId) {
        self.connected.remove(&replica);
        for watch in self.watches.values_mut() {
            watch.disconnected(replica);
        }
        self.wires.retain(|_, wire| !matches!(wire, Wire::Watch(_, of) if *of == replica));
    }

    fn sign(&self, now: Now, number: Number, operations: Vec<Operation>) -> Arc<Request> {
        let author = &self.authors[number.author.0];
        // In a session that was left nothing more is acknowledged.
        let acknowledged_below = if author.session == number.session { author.numbers.acknowledged_below() } else { 1 };
        let content = RequestContent {
            client: author.key.public_key(),
            session: number.session,
            number: number.value,
            acknowledged_below,
            valid_until: self.agreed.estimate(now.wall, &self.committee).saturating_add(self.parameters.lifetime),
            operations,
        };
        Arc::new(content.sign(self.committee.cluster(), author.key.as_ref()))
    }

    fn begin(&mut self, now: Now, number: Option<Number>, requests: Vec<Arc<Request>>, patience: Micros) -> Ticket {
        let ticket = self.ticket();
        for request in &requests {
            self.send(self.everybody(), ClientMessage::Submit((**request).clone()));
        }
        let give_up_at = now.monotonic.saturating_add(patience);
        let mut submission = Submission::new(number, requests, now.monotonic, self.parameters.resend_after, give_up_at);
        submission.sent = !self.connected.is_empty();
        for digest in submission.digests() {
            self.by_digest.insert(digest, ticket);
        }
        self.submissions.insert(ticket, submission);
        ticket
    }

    fn ask_read(&mut self, read: &SerializableRead, to: Vec<ReplicaId>) {
        let message =
            ClientMessage::Read { id: read.wire, operation: read.operation.clone(), revision: read.revision() };
        self.send(to, message);
    }

    fn check_questions(&self, under_way: usize) -> Result<(), SubmitError> {
        if under_way >= self.parameters.questions_max { Err(SubmitError::TooMany(under_way)) } else { Ok(()) }
    }

    fn everybody(&self) -> Vec<ReplicaId> {
        self.connected.iter().copied().collect()
    }

    fn send(&mut self, to: Vec<ReplicaId>, message: ClientMessage) {
        if !to.is_empty() {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    fn accuse(&mut self, replica: ReplicaId, contradiction: Contradiction) {
        self.outputs.push_back(Output::Accusation(Accusation { replica, contradiction }));
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn wire(&mut self, wire: Wire) -> u64 {
        self.last_wire += 1;
        self.wires.insert(self.last_wire, wire);
        self.last_wire
    }

    /// Whether a request or a question may carry `operations`: a replica would close the link over them.
    fn check_operations(&self, operations: &[Operation]) -> Result<(), SubmitError> {
        if operations.is_empty() || operations.len() > REQUEST_OPERATIONS_MAX {
            return Err(SubmitError::OperationCount(operations.len()));
        }
        let bytes: usize = operations.iter().map(|operation| operation.bytes.len()).sum();
        if bytes > REQUEST_BYTES_MAX {
            return Err(SubmitError::TooLarge(bytes));
        }
        let (bytes, limit) = (weight_of(operations), self.parameters.request_bytes_max);
        if bytes > limit { Err(SubmitError::AboveGenesis { bytes, limit }) } else { Ok(()) }
    }

    /// Remembers an accepted reply, so that a late contradiction is recognised.
    fn remember(&mut self, reply: &Reply) {
        if self.settled.insert(reply.request, reply_digest(reply)).is_none() {
            self.settled_order.push_back(reply.request);
        }
        if self.settled_order.len() > SETTLED_MAX
            && let Some(oldest) = self.settled_order.pop_front()
        {
            self.settled.remove(&oldest);
        }
    }
}

fn reply_digest(reply: &Reply) -> Digest {
    Digest(reply.leaf())
}

#[cfg(test)]
pub(crate) mod tests;
