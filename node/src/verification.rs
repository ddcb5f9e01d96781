//! Verification: the one way from a link to the core. Everything is checked here, off the core's thread.
//!
//! ```text
//!   peers' frames   ─┐  decode, structure   ┌───────────────┐  Verified<Message>, Verified<Request>
//!                    ├─────────────────────►│ one batch of  │────────────────────────────────────► core
//!   clients' frames ─┘  (limits first)      │ signatures    │
//!        │                                  └───────────────┘
//!        └── reads, watches, questions ─────────────────────────────────────────────────────────► client service
//! ```
//!
//! One thread takes whatever waits, so batches grow with the load: votes of several peers share a batch, then requests of
//! several clients do. The order of each peer and each client is kept, since the whole pass is. Where the machine has
//! cores to spare, a large batch is split over several threads. A signature that held before is not computed again
//! ([`Verifier`] remembers), so a request that comes from its client and again from a relay costs two digests.
//!
//! What peers relay, up to thousands of requests a frame, waits in a queue of its own for each peer and is verified a few
//! at a time, in turn: a frame that a lying peer fills with requests must not hold up the votes of the others.
//!
//! A peer that sends what does not decode or verify gets [`STRIKES_MAX`] strikes; then its link is closed and what comes
//! over the next one is dropped unread for [`MUTED_FOR`]. A client is disconnected at once, with the reason.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_crypto::encoding::decode;
use quorate_crypto::verified::BadSignature;
use quorate_crypto::{Claim, Committee, PublicKey, ReplicaId, Verified, Verifier, Verify};
use quorate_protocol::client::message::{CLIENT_FRAME_MAX, ClientMessage};
use quorate_protocol::message::{Message, MessageError, MessageLimits};
use quorate_protocol::request::{Request, RequestError};
use quorate_transport::{
    ClientEvent, ClientEvents, ClientHandle, ConnectionId, Frame, FramePermit, PeerEvent, PeerEvents, PeerHandle,
};
use thiserror::Error;

use crate::clients::{Asked, Registration, ServiceInput, Sessions};
use crate::metrics::Metrics;
use crate::process::core::CoreInput;
use crate::process::crowd::CrowdSign;
use crate::process::inbox::Inbox;

mod relays;

use relays::{Part, Relays};

/// Peers' events taken in one pass.
const PEER_EVENTS_PER_PASS: usize = 1024;
/// Clients' events taken in one pass: they must not hold up votes for longer than a few milliseconds.
const CLIENT_EVENTS_PER_PASS: usize = 128;
/// A batch is split over several threads from so many items on; below, starting threads costs more than it gains.
const SPLIT_FROM: usize = 64;
/// Most threads that share a batch.
const THREADS_MAX: usize = 4;
/// Bytes of clients' requests that may wait for the core; beyond it clients are told to come back.
const CLIENT_BYTES_WAITING_MAX: usize = 32 << 20;
/// What a client is told to wait when the core is behind, milliseconds.
const RETRY_AFTER: u64 = 100;
/// How long a connection that floods is not read for each request that is refused, and how long at most: what it sends then
/// waits on its own side.
const REST: Duration = Duration::from_millis(40);
const REST_MAX: Duration = Duration::from_secs(2);
/// How long the next connection of a key is not read after one that broke the rules.
const AFTER_VIOLATION: Duration = Duration::from_millis(500);
/// In a crowd a request of more bytes, and of more than [`HEAVY_TIMES`] as many as the others have, lets its connection rest
/// for each [`HEAVY_PIECE`] of it: one key with a megabyte a request must not take the disks from many with a hundred bytes.
const HEAVY: usize = 16 * 1024;
const HEAVY_TIMES: usize = 8;
const HEAVY_PIECE: usize = 16 * 1024;
/// So many frames or requests of a peer that do not decode or verify close its link.
pub const STRIKES_MAX: u32 = 8;
/// How long frames of such a peer are dropped unread.
pub const MUTED_FOR: Duration = Duration::from_secs(10);

/// What is verified in one batch.
enum Item {
    Message(Message),
    Request(Request),
}

#[derive(Debug, Error)]
enum ItemError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl Verify for Item {
    type Context = MessageLimits;
    type Error = ItemError;

    fn claims(&self, committee: &Committee, limits: &MessageLimits, claims: &mut Vec<Claim>) -> Result<(), ItemError> {
        match self {
            Item::Message(message) => Ok(message.claims(committee, limits, claims)?),
            Item::Request(request) => Ok(request.claims(committee, &(), claims)?),
        }
    }
}

/// What is to be done with the items of a pass, in order.
enum Work {
    LinkUp(ReplicaId),
    Message {
        from: ReplicaId,
        item: usize,
        permit: FramePermit,
    },
    /// The frame is kept, so that an invalid request can be handed on as evidence: it is decoded again then.
    Requests {
        from: ReplicaId,
        items: Range<usize>,
        /// The place of the first of them in the frame.
        first: usize,
        frame: Bytes,
        permit: Arc<FramePermit>,
    },
    Submit {
        connection: ConnectionId,
        key: PublicKey,
        item: usize,
        bytes: usize,
        permit: FramePermit,
    },
}

#[derive(Default)]
struct Conduct {
    strikes: u32,
    muted_until: Option<Instant>,
}

/// What the thread is given.
pub(crate) struct Verification {
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) peers: PeerHandle,
    pub(crate) peer_events: PeerEvents,
    pub(crate) clients: ClientHandle,
    pub(crate) client_events: ClientEvents,
    pub(crate) verifier: Verifier,
    pub(crate) committee: Arc<Committee>,
    pub(crate) limits: MessageLimits,
    /// Most bytes of a frame between replicas.
    pub(crate) frame_bytes_max: usize,
    /// Most bytes of one client request.
    pub(crate) request_bytes_max: usize,
    pub(crate) core: Arc<Inbox<CoreInput>>,
    pub(crate) service: Arc<Inbox<ServiceInput>>,
    pub(crate) sessions: Arc<Sessions>,
    /// Bytes of clients' requests that wait for the core.
    pub(crate) client_bytes: Arc<AtomicUsize>,
    pub(crate) crowd: Arc<CrowdSign>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What one pass has collected.
struct Pass<'a> {
    given: &'a Verification,
    items: Vec<Item>,
    work: Vec<Work>,
    service: Vec<ServiceInput>,
}

impl Verification {
    /// Runs until both ports are shut down.
    pub(crate) fn run(mut self) {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2).min(THREADS_MAX);
        let mut conduct: BTreeMap<ReplicaId, Conduct> = BTreeMap::new();
        let mut peer_events = Vec::new();
        let mut client_events = Vec::new();
        let mut relays = Relays::new(self.frame_bytes_max);
        while self.wait(&mut peer_events, &mut client_events, !relays.is_empty()) {
            // Votes first: what clients want can wait for a few milliseconds, an agreement under way cannot.
            let mut pass = Pass::new(&self);
            for event in peer_events.drain(..) {
                pass.peer_event(event, &mut conduct, &mut relays);
            }
            self.finish(pass, threads, &mut conduct);
            let mut pass = Pass::new(&self);
            pass.relays(&mut relays, &mut conduct);
            self.finish(pass, threads, &mut conduct);
            let mut pass = Pass::new(&self);
            for event in client_events.drain(..) {
                pass.client_event(event);
            }
            self.finish(pass, threads, &mut conduct);
        }
    }

    /// Waits for events of either port, unless there is work left, and takes those of the other that wait too. False after
    /// shutdown.
    fn wait(&mut self, peers: &mut Vec<PeerEvent>, clients: &mut Vec<ClientEvent>, work_left: bool) -> bool {
        let (peer_events, client_events) = (&mut self.peer_events, &mut self.client_events);
        let taken = if work_left {
            1
        } else {
            self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    taken = peer_events.recv_many(peers, PEER_EVENTS_PER_PASS) => taken,
                    taken = client_events.recv_many(clients, CLIENT_EVENTS_PER_PASS) => taken,
                }
            })
        };
        while peers.len() < PEER_EVENTS_PER_PASS
            && let Some(event) = peer_events.try_recv()
        {
            peers.push(event);
        }
        while clients.len() < CLIENT_EVENTS_PER_PASS
            && let Some(event) = client_events.try_recv()
        {
            clients.push(event);
        }
        taken > 0
    }

    /// Verifies the items in one batch and hands everything on, in order.
    fn finish(&self, pass: Pass<'_>, threads: usize, conduct: &mut BTreeMap<ReplicaId, Conduct>) {
        let Pass { items, work, mut service, .. } = pass;
        // The service knows of a client before an answer to it can come.
        self.service.append(&mut service);
        let count = items.len();
        let mut results: Vec<Option<Result<Verified<Item>, ItemError>>> =
            verify_all(&self.verifier, &self.committee, &self.limits, items, threads).into_iter().map(Some).collect();
        assert_eq!(results.len(), count, "every item is judged");
        self.metrics.verified_batch(count);
        let mut inputs = Vec::with_capacity(work.len());
        for work in work {
            match work {
                Work::LinkUp(id) => inputs.push(CoreInput::LinkUp(id)),
                Work::Message { from, item, permit } => match results[item].take() {
                    Some(Ok(verified)) => {
                        inputs.push(CoreInput::Message { from, message: message(verified), _permit: permit });
                    }
                    Some(Err(error)) => self.strike(conduct, from, &error.to_string()),
                    None => unreachable!("each item is used once"),
                },
                Work::Requests { from, items, first, frame, permit } => {
                    let mut valid = Vec::with_capacity(items.len());
                    let mut invalid = Vec::new();
                    for (place, result) in results[items].iter_mut().enumerate() {
                        match result.take() {
                            Some(Ok(verified)) => valid.push(request(verified)),
                            Some(Err(error)) => invalid.push((first + place, error)),
                            None => unreachable!("each item is used once"),
                        }
                    }
                    if !valid.is_empty() {
                        inputs.push(CoreInput::Relayed { from, requests: valid, _permit: permit });
                    }
                    self.invalid_requests(from, &frame, &invalid, &mut inputs, conduct);
                }
                Work::Submit { connection, key, item, bytes, permit } => match results[item].take() {
                    Some(Ok(verified)) => {
                        self.client_bytes.fetch_add(bytes, Ordering::Relaxed);
                        inputs.push(CoreInput::Submit { request: request(verified), bytes, _permit: permit });
                    }
                    Some(Err(error)) => {
                        self.metrics.invalid_from_clients.inc();
                        self.disconnect(connection, key, &format!("the request is refused: {error}"));
                    }
                    None => unreachable!("each item is used once"),
                },
            }
        }
        self.core.append(&mut inputs);
    }

    /// Hands on what a peer relayed with a bad client signature: if a proposal names it, its proposer is convicted.
    fn invalid_requests(
        &self,
        from: ReplicaId,
        frame: &Bytes,
        invalid: &[(usize, ItemError)],
        inputs: &mut Vec<CoreInput>,
        conduct: &mut BTreeMap<ReplicaId, Conduct>,
    ) {
        let Some((_, error)) = invalid.first() else { return };
        if let Ok(Message::Requests(requests)) = decode::<Message>(frame, self.frame_bytes_max) {
            for (place, request) in requests.into_iter().enumerate() {
                if invalid.iter().any(|(invalid, _)| *invalid == place) {
                    inputs.push(CoreInput::Invalid(Box::new(request)));
                }
            }
        }
        self.strike(conduct, from, &error.to_string());
    }

    /// Ends the connection of a client that breaks the rules. The key's others rest, and its next one: a handshake costs more
    /// than a request.
    fn disconnect(&self, connection: ConnectionId, key: PublicKey, reason: &str) {
        if self.sessions.end(connection) {
            self.clients.rest(key, AFTER_VIOLATION, REST_MAX);
            self.clients.disconnect(connection, reason);
        }
    }

    fn strike(&self, conduct: &mut BTreeMap<ReplicaId, Conduct>, from: ReplicaId, reason: &str) {
        self.metrics.invalid_from_peers.inc();
        let conduct = conduct.entry(from).or_default();
        conduct.strikes += 1;
        tracing::debug!(replica = %from, reason, "a frame was refused");
        if conduct.strikes >= STRIKES_MAX {
            conduct.strikes = 0;
            conduct.muted_until = Some(Instant::now() + MUTED_FOR);
            self.metrics.peers_disconnected.inc();
            tracing::warn!(replica = %from, reason, "sends what does not verify; its link is closed and it is not listened to for a while");
            self.peers.disconnect(from, reason);
        }
    }
}

impl<'a> Pass<'a> {
    fn new(given: &'a Verification) -> Pass<'a> {
        Pass { given, items: Vec::new(), work: Vec::new(), service: Vec::new() }
    }

    fn peer_event(
        &mut self,
        event: PeerEvent,
        conduct: &mut BTreeMap<ReplicaId, Conduct>,
        relays: &mut Relays<FramePermit>,
    ) {
        match event {
            PeerEvent::Up(id) => {
                tracing::info!(replica = %id, "linked");
                self.work.push(Work::LinkUp(id));
            }
            PeerEvent::Down(id) => tracing::info!(replica = %id, "no link"),
            PeerEvent::Frame { from, frame, .. } => {
                if is_muted(conduct, from) {
                    self.given.metrics.frames_muted.inc();
                    return;
                }
                if relays.takes(&frame) {
                    let (frame, permit) = frame.into_parts();
                    return relays.push(from, frame, permit);
                }
                match decode::<Message>(&frame, self.given.frame_bytes_max) {
                    Ok(message) => {
                        let item = self.items.len();
                        self.items.push(Item::Message(message));
                        self.work.push(Work::Message { from, item, permit: frame.into_parts().1 });
                    }
                    Err(error) => self.given.strike(conduct, from, &error.to_string()),
                }
            }
        }
    }

    /// Takes a few of what each peer has relayed.
    fn relays(&mut self, relays: &mut Relays<FramePermit>, conduct: &mut BTreeMap<ReplicaId, Conduct>) {
        relays.forget(|from| is_muted(conduct, from));
        let mut refused = Vec::new();
        for Part { from, requests, first, frame, permit } in relays.take_turns(&mut refused) {
            let start = self.items.len();
            self.items.extend(requests.into_iter().map(Item::Request));
            self.work.push(Work::Requests { from, items: start..self.items.len(), first, frame, permit });
        }
        for (from, reason) in refused {
            self.given.strike(conduct, from, &reason);
        }
    }

    fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected { connection, key, address } => {
                tracing::debug!(%connection, ?key, %address, "a client connected");
                self.given.sessions.connected(connection, key);
            }
            ClientEvent::Closed { connection, reason } => {
                tracing::debug!(%connection, %reason, "a client's connection ended");
                self.given.sessions.closed(connection);
                self.service.push(ServiceInput::Closed(connection));
            }
            ClientEvent::Frame { connection, frame } => {
                let Some(key) = self.given.sessions.key(connection) else { return };
                match decode::<ClientMessage>(&frame, CLIENT_FRAME_MAX) {
                    Ok(ClientMessage::Submit(request)) => self.submit(connection, key, request, frame),
                    Ok(question) => {
                        let permit = frame.into_parts().1;
                        self.service.push(ServiceInput::Asked(Asked { connection, key, question, _permit: permit }));
                    }
                    Err(error) => {
                        self.given.metrics.invalid_from_clients.inc();
                        self.given.disconnect(connection, key, &format!("a message that does not decode: {error}"));
                    }
                }
            }
        }
    }

    fn submit(&mut self, connection: ConnectionId, key: PublicKey, request: Request, frame: Frame) {
        let given = self.given;
        // The frame is the request behind the four bytes that name the kind of message.
        let bytes = frame.len().saturating_sub(4);
        if bytes > given.request_bytes_max {
            let reason =
                format!("a request of {bytes} bytes exceeds the cluster's limit of {} bytes", given.request_bytes_max);
            given.metrics.invalid_from_clients.inc();
            return given.disconnect(connection, key, &reason);
        }
        // It need not be signed by the link's own key: a request is its signer's, whoever carries it, and counts against
        // its signer's share. Execution judges whether the signer is registered.
        let digest = request.digest();
        let overloaded = given.client_bytes.load(Ordering::Relaxed) > CLIENT_BYTES_WAITING_MAX;
        // A key that floods is told to come back before its signatures cost anything.
        let crowd = given.crowd.get();
        let share = crowd.map_or(usize::MAX, |crowd| crowd.share);
        let client = request.content().client;
        let registration =
            if overloaded { Registration::Full } else { given.sessions.register(connection, digest, client, share) };
        if registration == Registration::Flood {
            given.clients.rest(key, REST, REST_MAX);
        }
        if matches!(registration, Registration::Full | Registration::Flood) {
            given.metrics.busy.inc();
            self.service.push(ServiceInput::Busy { connection, key, request: digest, retry_after: RETRY_AFTER });
            return;
        }
        let is_new = registration == Registration::Registered;
        if is_new && crowd.is_some_and(|crowd| bytes > HEAVY && bytes > HEAVY_TIMES.saturating_mul(crowd.mean_weight)) {
            let pieces = bytes.div_ceil(HEAVY_PIECE) as u32;
            given.clients.rest(key, REST * pieces, REST_MAX);
        }
        let item = self.items.len();
        self.items.push(Item::Request(request));
        self.work.push(Work::Submit { connection, key, item, bytes, permit: frame.into_parts().1 });
    }
}

/// Whether what `from` sends is dropped unread.
fn is_muted(conduct: &BTreeMap<ReplicaId, Conduct>, from: ReplicaId) -> bool {
    let until = conduct.get(&from).and_then(|conduct| conduct.muted_until);
    until.is_some_and(|until| Instant::now() < until)
}

/// All items in one batch, split over `threads` where that pays.
fn verify_all(
    verifier: &Verifier,
    committee: &Committee,
    limits: &MessageLimits,
    items: Vec<Item>,
    threads: usize,
) -> Vec<Result<Verified<Item>, ItemError>> {
    if threads <= 1 || items.len() < SPLIT_FROM {
        return verifier.verify_all(items, committee, limits);
    }
    let share = items.len().div_ceil(threads);
    let mut shares: Vec<Vec<Item>> = Vec::with_capacity(threads);
    let mut rest = items.into_iter();
    loop {
        let part: Vec<Item> = rest.by_ref().take(share).collect();
        if part.is_empty() {
            break;
        }
        shares.push(part);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> =
            shares.into_iter().map(|part| scope.spawn(|| verifier.verify_all(part, committee, limits))).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn message(verified: Verified<Item>) -> Verified<Message> {
    verified.map(|item| match item {
        Item::Message(message) => message,
        Item::Request(_) => unreachable!("a message was put in at this place"),
    })
}

fn request(verified: Verified<Item>) -> Verified<Request> {
    verified.map(|item| match item {
        Item::Request(request) => request,
        Item::Message(_) => unreachable!("a request was put in at this place"),
    })
}

#[cfg(test)]
mod tests;
