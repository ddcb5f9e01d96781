//! Serving clients: who asked what, and where each answer goes.
//!
//! ```text
//!                 ┌────────── register(digest) ──────────┐
//!   verification ─┤                                      ▼
//!                 └── reads, watches, questions ──► Service ──► links
//!   core ── replies, refusals, state to look at ─────────┘
//! ```
//!
//! One thread, so that neither the core nor verification ever waits for a client. It answers reads and watches from a
//! copy of the executed state, which costs a few pointers; the core makes one only while somebody wants it. A reply goes
//! to every connection of the request's client that submitted it and is still there. A client that does not read what it
//! is sent is disconnected by the transport, and asks anew when it is back.
//!
//! What one key asks for must not hold up another's replies. So reads are answered and watches fed in turns by key, and
//! a bounded amount of it at a time; then the inbox is looked at again, and replies come first.

mod reads;
mod sessions;
mod turns;
mod watches;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_crypto::encoding::encode;
use quorate_crypto::merkle_tree::MerklePath;
use quorate_crypto::{Digest, PublicKey, Seq, Signed};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::engine::Busy;
use quorate_protocol::reply::{Refusal, Reply};
use quorate_transport::{ClientHandle, ConnectionId, FramePermit};

use crate::key_value::KeyValue;
use crate::metrics::Metrics;
use crate::process::core::CoreInput;
use crate::process::inbox::Inbox;
use crate::process::view::CoreView;
use reads::{Read, Reads};
pub(crate) use sessions::{Registration, Sessions};
use watches::Watches;

/// Questions for receipts that wait for the core, of all clients.
const RECEIPTS_WAITING_MAX: usize = 256;

/// What a replica says to clients passes through here if a testnet put something here. The product has nothing here.
pub trait ClientFace: Send {
    /// What is sent in place of `message`, which the honest replica would send to `client`.
    fn outgoing(&mut self, client: PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage>;
}

/// The executed state as it was at the end of a turn.
pub(crate) struct Look {
    pub(crate) state: KeyValue,
    pub(crate) revision: u64,
}

/// What a turn of the core has for clients.
#[derive(Default)]
pub(crate) struct TurnReport {
    pub(crate) replies: Vec<(PublicKey, Reply)>,
    pub(crate) refused: Vec<(PublicKey, Digest, Refusal)>,
    pub(crate) busy: Vec<Busy>,
    pub(crate) look: Option<Look>,
}

impl TurnReport {
    pub(crate) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.refused.is_empty() && self.busy.is_empty() && self.look.is_none()
    }
}

/// A client's message that is no request.
pub(crate) struct Asked {
    pub(crate) connection: ConnectionId,
    pub(crate) key: PublicKey,
    pub(crate) question: ClientMessage,
    /// Its share of the sender's budget, until it is answered.
    pub(crate) _permit: FramePermit,
}

/// What the service is told.
pub(crate) enum ServiceInput {
    Asked(Asked),
    Closed(ConnectionId),
    Busy { connection: ConnectionId, key: PublicKey, request: Digest, retry_after: u64 },
    Turn(TurnReport),
    Receipt { connection: ConnectionId, key: PublicKey, id: u64, receipt: Option<(Signed, MerklePath)> },
    Stop,
}

/// Sends to clients.
pub(crate) struct Outgoing {
    pub(crate) clients: ClientHandle,
    pub(crate) face: Option<Box<dyn ClientFace>>,
}

impl Outgoing {
    /// A client that is gone or does not read is none of our concern: the transport has seen to it.
    fn send(&mut self, connection: ConnectionId, key: PublicKey, message: ReplicaMessage) {
        let Some(face) = &mut self.face else {
            let _ = self.clients.send(connection, Bytes::from(encode(&message)));
            return;
        };
        for message in face.outgoing(key, message) {
            let _ = self.clients.send(connection, Bytes::from(encode(&message)));
        }
    }

    /// Bytes waiting on a connection; `None` once it has ended.
    fn waiting_bytes(&self, connection: ConnectionId) -> Option<usize> {
        self.clients.waiting_bytes(connection)
    }
}

/// The thread that serves clients.
pub(crate) struct Service {
    pub(crate) inbox: Arc<Inbox<ServiceInput>>,
    pub(crate) core: Arc<Inbox<CoreInput>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) view: Arc<CoreView>,
    /// Set while the core is to send a [`Look`] with every turn that executed something.
    pub(crate) looking: Arc<AtomicBool>,
    pub(crate) outgoing: Outgoing,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Serving {
    look: Option<Look>,
    /// Whether a look was asked for and has not come.
    look_asked: bool,
    reads: Reads,
    watches: Watches,
    receipts: usize,
}

impl Service {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut serving = Serving::default();
        let mut inputs = Vec::new();
        let mut wake = None;
        loop {
            self.inbox.take(wake, &mut inputs);
            for input in inputs.drain(..) {
                if matches!(input, ServiceInput::Stop) {
                    return;
                }
                self.take(input, &mut serving);
            }
            wake = self.serve(&mut serving, Instant::now());
        }
    }

    fn take(&mut self, input: ServiceInput, serving: &mut Serving) {
        match input {
            ServiceInput::Asked(asked) => self.asked(asked, serving),
            ServiceInput::Closed(connection) => {
                serving.reads.forget(connection);
                serving.watches.forget(connection);
            }
            ServiceInput::Busy { connection, key, request, retry_after } => {
                self.outgoing.send(connection, key, ReplicaMessage::Busy { request, retry_after });
            }
            ServiceInput::Turn(report) => self.turn(report, serving),
            ServiceInput::Receipt { connection, key, id, receipt } => {
                serving.receipts = serving.receipts.saturating_sub(1);
                self.outgoing.send(connection, key, ReplicaMessage::Receipt { id, receipt });
            }
            ServiceInput::Stop => {}
        }
    }

    fn asked(&mut self, asked: Asked, serving: &mut Serving) {
        let Asked { connection, key, question, _permit: permit } = asked;
        let taken = match question {
            ClientMessage::Read { id, operation, revision } => {
                let operation = &operation;
                serving.reads.ask(Read { connection, key, id, operation, revision, permit }, Instant::now())
            }
            ClientMessage::Watch { id, range, from_revision } => {
                serving.watches.begin(connection, key, id, &range, from_revision)
            }
            ClientMessage::Unwatch { id } => {
                serving.watches.end(connection, id);
                Ok(())
            }
            ClientMessage::Status { id } => {
                let status = self.view.client_status();
                self.outgoing.send(connection, key, ReplicaMessage::Status { id, status });
                Ok(())
            }
            ClientMessage::Receipt { id, seq, index } => {
                self.ask_receipt(connection, key, id, seq, index, serving);
                Ok(())
            }
            // Verification takes requests out.
            ClientMessage::Submit(_) => Ok(()),
        };
        if let Err(reason) = taken {
            self.outgoing.clients.disconnect(connection, reason);
        }
    }

    /// Beyond the cap nothing is answered: the client asks again, or another replica.
    fn ask_receipt(
        &self,
        connection: ConnectionId,
        key: PublicKey,
        id: u64,
        seq: Seq,
        index: u32,
        serving: &mut Serving,
    ) {
        if serving.receipts < RECEIPTS_WAITING_MAX {
            serving.receipts += 1;
            self.core.push(CoreInput::Receipt { connection, key, id, seq, index });
        }
    }

    fn turn(&mut self, report: TurnReport, serving: &mut Serving) {
        let TurnReport { replies, refused, busy, look } = report;
        let digests = replies
            .iter()
            .map(|(_, reply)| (reply.request, false))
            .chain(refused.iter().map(|(_, request, _)| (*request, true)))
            .chain(busy.iter().map(|busy| (busy.request, true)));
        let mut routes = self.sessions.answered(digests).into_iter();
        self.metrics.replies.inc_by(replies.len() as u64);
        self.metrics.busy.inc_by(busy.len() as u64);
        for ((key, reply), route) in replies.into_iter().zip(&mut routes) {
            self.answer(key, route, ReplicaMessage::Reply(reply));
        }
        for ((key, request, reason), route) in refused.into_iter().zip(&mut routes) {
            self.answer(key, route, ReplicaMessage::Refused { request, reason });
        }
        for (busy, route) in busy.into_iter().zip(&mut routes) {
            let Busy { request, client, retry_after } = busy;
            self.answer(client, route, ReplicaMessage::Busy { request, retry_after });
        }
        if let Some(look) = look {
            serving.reads.refreshed(look.revision);
            serving.look = Some(look);
            serving.look_asked = false;
        }
    }

    fn answer(&mut self, key: PublicKey, route: Vec<ConnectionId>, message: ReplicaMessage) {
        let Some((last, others)) = route.split_last() else { return };
        for connection in others {
            self.outgoing.send(*connection, key, message.clone());
        }
        self.outgoing.send(*last, key, message);
    }

    /// Answers some of what can be answered. Returns when to come back: now, if there is more.
    fn serve(&mut self, serving: &mut Serving, now: Instant) -> Option<Instant> {
        let wanted = !serving.reads.is_empty() || !serving.watches.is_empty();
        self.looking.store(wanted, Ordering::Relaxed);
        self.metrics.watches.set(i64::try_from(serving.watches.len()).unwrap_or(i64::MAX));
        if !wanted {
            serving.look = None;
            return None;
        }
        let stale = serving.look.as_ref().is_none_or(|look| look.revision < self.view.revision());
        if (stale || serving.reads.want_fresh()) && !serving.look_asked {
            serving.look_asked = true;
            self.core.push(CoreInput::Look);
        }
        let look = serving.look.as_ref()?;
        let reads = serving.reads.serve(look, now, &mut self.outgoing);
        let watches = serving.watches.serve(look, now, &mut self.outgoing);
        [reads, watches].into_iter().flatten().min()
    }
}

/// One less of what is counted by `of`.
fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: K) {
    if let Some(count) = counts.get_mut(&of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

/// Makes `wake` no later than `moment`.
fn wake_by(wake: &mut Option<Instant>, moment: Instant) {
    *wake = Some(wake.map_or(moment, |wake| wake.min(moment)));
}

/// How long a client that has much to read is left to read it before more is sent.
const PACE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
