//! The task behind the handles: commands and frames in, frames and answers out. It decides nothing; the role does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{ReplicaId, Signer};
use quorate_protocol::client::message::{ReplicaMessage, ReplicaStatus};
use quorate_protocol::client::{
    Accusation, AuthorId, ClientRole, Delivery, Output, ReadEnding, RequestEnding, SubmitError, Ticket, WatchStart,
};
use quorate_protocol::engine::Now;
use quorate_protocol::request::{Operation, Request, SessionId};
use quorate_transport::{LinkError, ReplicaEvent, ReplicaEvents, ReplicaLinks};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

use super::WATCH_QUEUE;
use crate::error::ClientError;

/// Frames taken from the links in one turn.
const FRAMES_PER_TURN: usize = 256;

pub(crate) type RequestAnswer = Result<RequestEnding, ClientError>;

/// The updates of a watch. They end when the driver breaks it off, to be resumed.
pub(crate) type Updates = Result<mpsc::Receiver<Delivery>, ClientError>;

/// What a handle asks for.
pub(crate) enum Command {
    AddAuthor {
        key: Arc<dyn Signer>,
        session: SessionId,
        answer: oneshot::Sender<AuthorId>,
    },
    Submit {
        author: AuthorId,
        operations: Vec<Operation>,
        patience: Duration,
        room: OwnedSemaphorePermit,
        answer: oneshot::Sender<RequestAnswer>,
    },
    Replay {
        requests: Vec<Request>,
        patience: Duration,
        room: OwnedSemaphorePermit,
        answer: oneshot::Sender<RequestAnswer>,
    },
    Read {
        operation: Operation,
        revision: Option<u64>,
        patience: Duration,
        answer: oneshot::Sender<Result<ReadEnding, ClientError>>,
    },
    Status {
        patience: Duration,
        answer: oneshot::Sender<Result<Vec<ReplicaStatus>, ClientError>>,
    },
    Watch {
        range: Operation,
        start: WatchStart,
        answer: oneshot::Sender<Updates>,
    },
    GiveUp,
}

/// Who waits for what the role will say. A request's room is given back when it ends, not when its caller is gone.
enum Waiting {
    Request { answer: oneshot::Sender<RequestAnswer>, room: OwnedSemaphorePermit },
    Read(oneshot::Sender<Result<ReadEnding, ClientError>>),
    Status(oneshot::Sender<Result<Vec<ReplicaStatus>, ClientError>>),
    Watch(mpsc::Sender<Delivery>),
}

pub(crate) struct Driver {
    role: ClientRole,
    links: ReplicaLinks,
    reply_cap: usize,
    accusations: broadcast::Sender<Accusation>,
    waiting: BTreeMap<Ticket, Waiting>,
    /// Replicas that proved their key and refuse ours.
    key_refused: BTreeSet<ReplicaId>,
    started: Instant,
}

impl Driver {
    pub(crate) fn new(
        role: ClientRole,
        links: ReplicaLinks,
        reply_cap: usize,
        accusations: broadcast::Sender<Accusation>,
    ) -> Driver {
        Driver {
            role,
            links,
            reply_cap,
            accusations,
            waiting: BTreeMap::new(),
            key_refused: BTreeSet::new(),
            started: Instant::now(),
        }
    }

    /// Runs until every handle is dropped or the links are shut down.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut events: ReplicaEvents) {
        let mut batch = Vec::with_capacity(FRAMES_PER_TURN);
        loop {
            let wake = self.role.wake().map(|at| self.started + Duration::from_micros(at));
            let sleep = async move {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                count = events.recv_many(&mut batch, FRAMES_PER_TURN) => {
                    if count == 0 {
                        return;
                    }
                    for event in batch.drain(..) {
                        self.event(event);
                    }
                }
                () = sleep => {
                    let now = self.now();
                    self.role.timer(now);
                }
            }
            self.publish();
            self.drop_abandoned();
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Now { monotonic: micros(self.started.elapsed()), wall }
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        let command = if self.is_key_refused() { self.refuse(command) } else { Some(command) };
        let Some(command) = command else { return };
        match command {
            Command::AddAuthor { key, session, answer } => drop(answer.send(self.role.add_author(key, session))),
            Command::Submit { author, operations, patience, room, answer } => {
                match self.submit(now, author, operations, patience) {
                    Ok(ticket) => self.wait(ticket, Waiting::Request { answer, room }),
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            Command::Replay { requests, patience, room, answer } => {
                match self.role.replay(now, requests, micros(patience)) {
                    Ok(ticket) => {
                        self.wait(ticket, Waiting::Request { answer, room });
                        if self.is_key_refused() {
                            self.role.give_up(ticket);
                        }
                    }
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            Command::Read { operation, revision, patience, answer } => {
                match self.role.read(now, operation, revision, micros(patience)) {
                    Ok(ticket) => self.wait(ticket, Waiting::Read(answer)),
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            Command::Status { patience, answer } => match self.role.status(now, micros(patience)) {
                Ok(ticket) => self.wait(ticket, Waiting::Status(answer)),
                Err(error) => drop(answer.send(Err(error.into()))),
            },
            Command::Watch { range, start, answer } => match self.role.watch(now, range, start) {
                Ok(ticket) => {
                    let (updates, receiver) = mpsc::channel(WATCH_QUEUE);
                    if answer.send(Ok(receiver)).is_ok() {
                        self.wait(ticket, Waiting::Watch(updates));
                    } else {
                        self.role.unwatch(ticket);
                    }
                }
                Err(error) => drop(answer.send(Err(error.into()))),
            },
            Command::GiveUp => {
                let tickets: Vec<Ticket> = self.waiting.keys().copied().collect();
                for ticket in tickets {
                    self.role.give_up(ticket);
                }
            }
        }
    }

    /// A request whose outcome stays unknown holds up the numbers above it until it can no longer execute. The client goes
    /// on under a fresh session then: what an application has to know is that one outcome, not that numbers exist.
    fn submit(
        &mut self,
        now: Now,
        author: AuthorId,
        operations: Vec<Operation>,
        patience: Duration,
    ) -> Result<Ticket, SubmitError> {
        if self.role.numbers_are_used_up(author) {
            self.role.open_session(author, SessionId(rand::random()));
        }
        self.role.submit_as(now, author, operations, micros(patience))
    }

    fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting.insert(ticket, waiting);
    }

    fn event(&mut self, event: ReplicaEvent) {
        let now = self.now();
        match event {
            ReplicaEvent::Up(replica) => {
                self.key_refused.remove(&replica);
                self.role.link_up(now, replica);
            }
            ReplicaEvent::Down(replica, error) => {
                self.role.link_down(replica);
                if matches!(error, LinkError::UnknownClientKey | LinkError::KeyRemoved) {
                    self.key_refused.insert(replica);
                }
                if self.is_key_refused() {
                    self.fail_everything();
                }
            }
            ReplicaEvent::Frame { from, frame } => match decode::<ReplicaMessage>(&frame, self.reply_cap) {
                Ok(message) => self.role.received(now, from, message),
                Err(error) => tracing::debug!(replica = %from, %error, "an unreadable frame"),
            },
        }
    }

    /// Fewer than f + 1 replicas are left that may answer, so nothing can be agreed on. That f + 1 refuse our key means
    /// less: one may be a liar, and an honest one behind the others, so that it does not know the key yet.
    fn is_key_refused(&self) -> bool {
        let committee = self.role.committee();
        committee.size().saturating_sub(self.key_refused.len()) < committee.one_honest()
    }

    /// Answers what need not be sent to replicas that refuse our key. Gives back what is to be done all the same.
    fn refuse(&self, command: Command) -> Option<Command> {
        let error = ClientError::KeyRefused(self.key_refused.len());
        // A caller that is gone does not mind.
        match command {
            // It was sent before, so how it ended stays unknown.
            Command::Replay { .. } => return Some(command),
            Command::Submit { answer, .. } => drop(answer.send(Err(error))),
            Command::Read { answer, .. } => drop(answer.send(Err(error))),
            Command::Status { answer, .. } => drop(answer.send(Err(error))),
            Command::Watch { answer, .. } => drop(answer.send(Err(error))),
            // Without an answer its caller finds the client closed.
            Command::AddAuthor { .. } | Command::GiveUp => {}
        }
        None
    }

    fn fail_everything(&mut self) {
        let refused = self.key_refused.len();
        for (ticket, waiting) in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Request { answer, room } if !self.role.may_have_arrived(ticket) => {
                    self.role.give_up(ticket);
                    drop(room);
                    let _ = answer.send(Err(ClientError::KeyRefused(refused)));
                }
                Waiting::Read(answer) => {
                    self.role.give_up(ticket);
                    let _ = answer.send(Err(ClientError::KeyRefused(refused)));
                }
                // What was sent may execute all the same, so it ends as unknown, with its bytes. What the replicas say of
                // themselves is told as far as it came.
                Waiting::Request { .. } | Waiting::Status(_) => {
                    self.waiting.insert(ticket, waiting);
                    self.role.give_up(ticket);
                }
                Waiting::Watch(_) => self.role.unwatch(ticket),
            }
        }
    }

    /// Does what the role wants done.
    fn publish(&mut self) {
        while let Some(output) = self.role.poll() {
            match output {
                Output::Send { to, message } => {
                    let frame = Bytes::from(encode(&message));
                    for replica in to {
                        // A full queue is a lost message. The role sends again whatever it waits for without end.
                        if let Err(error) = self.links.send(replica, frame.clone()) {
                            tracing::debug!(%replica, %error, "not sent");
                        }
                    }
                }
                Output::Request { ticket, ending } => {
                    if let Some(Waiting::Request { answer, room }) = self.waiting.remove(&ticket) {
                        drop(room);
                        let _ = answer.send(Ok(ending));
                    }
                }
                Output::Read { ticket, ending } => {
                    if let Some(Waiting::Read(answer)) = self.waiting.remove(&ticket) {
                        let _ = answer.send(Ok(ending));
                    }
                }
                Output::Status { ticket, replicas } => {
                    if let Some(Waiting::Status(answer)) = self.waiting.remove(&ticket) {
                        let _ = answer.send(Ok(replicas));
                    }
                }
                Output::Watch { ticket, delivery } => self.deliver(ticket, delivery),
                Output::Accusation(accusation) => {
                    tracing::warn!("{accusation}");
                    let _ = self.accusations.send(accusation);
                }
            }
        }
    }

    /// Hands an update to its watch. One whose queue is full is broken off, and resumed by its owner when the queue is
    /// empty: a slow reader costs no memory and misses nothing.
    fn deliver(&mut self, ticket: Ticket, delivery: Delivery) {
        let Some(Waiting::Watch(updates)) = self.waiting.get(&ticket) else { return };
        match updates.try_send(delivery) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.waiting.remove(&ticket);
                self.role.unwatch(ticket);
            }
        }
    }

    /// Ends the watches whose owners are gone.
    fn drop_abandoned(&mut self) {
        let gone: Vec<Ticket> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| matches!(waiting, Waiting::Watch(updates) if updates.is_closed()))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in gone {
            self.waiting.remove(&ticket);
            self.role.unwatch(ticket);
            self.publish();
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
