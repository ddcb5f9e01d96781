//! One connection to a peer in operation: its three writers, its three readers, and the notice when it ends.

use std::sync::Arc;

use quinn::{Connection, RecvStream};
use tokio::sync::watch;
use tokio::time::timeout;

use quorate_crypto::ReplicaId;

use super::arbitration::Origin;
use super::supervisor::Notice;
use super::{Class, Peer, PeerEvent, Shared};
use crate::error::{CloseCode, LinkError, explain};
use crate::fair_queue::FairQueue;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::rest::Rest;
use crate::stream::{Established, Frame, FrameSink, HeaderError, Inlet, open, read_frames, read_header, write_frames};

/// A link, seen by its supervisor.
pub(super) struct Link {
    /// Counts the links to this peer.
    pub(super) number: u64,
    pub(super) connection: Connection,
    pub(super) origin: Origin,
    /// Whether its writers take from the queues.
    active: watch::Sender<bool>,
}

impl Link {
    /// Starts the tasks of an established connection; its writers wait for [`Link::activate`].
    pub(super) fn start(
        shared: &Arc<Shared>,
        peer: &Arc<Peer>,
        established: Established,
        dialler: ReplicaId,
        number: u64,
    ) -> Link {
        let Established { connection, outgoing, incoming, instance } = established;
        let active = watch::Sender::new(false);
        let mut first = Some(outgoing);
        for class in Class::ALL {
            let (connection, instance, opened) = (connection.clone(), shared.instance, first.take());
            let queue = Arc::clone(&peer.outbound[class.index()]);
            let (active, metrics) = (active.subscribe(), Arc::clone(&shared.metrics));
            tokio::spawn(async move {
                let stream = match opened {
                    Some(stream) => Ok(stream),
                    None => open(&connection, class.index(), instance).await,
                };
                // An error means that the connection has ended, which the reader reports.
                if let Ok(stream) = stream {
                    write_frames(stream, class.index(), queue, active, metrics).await;
                }
            });
        }
        tokio::spawn(read(Arc::clone(shared), Arc::clone(peer), connection.clone(), incoming, instance, number));
        Link { number, connection, origin: Origin { instance, dialler }, active }
    }

    /// Lets the writers send.
    pub(super) fn activate(&self) {
        self.active.send_replace(true);
    }

    /// Stops the writers after what they are writing.
    pub(super) fn deactivate(&self) {
        self.active.send_replace(false);
    }
}

/// Accepts the peer's streams until the connection ends, and reports that.
async fn read(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    connection: Connection,
    first: RecvStream,
    instance: u64,
    number: u64,
) {
    let spawn_reader = |stream: RecvStream, class: Class| {
        let inlet = Inlet {
            class: class.index(),
            cap: shared.limits.frame_cap_bytes[class.index()],
            budget: Arc::clone(&peer.budgets[class.index()]),
            deadline: shared.limits.frame_deadline,
            rest: Rest::default(),
            metrics: Arc::clone(&shared.metrics),
        };
        let sink = PeerSink { from: peer.address.id, class, events: Arc::clone(&shared.events) };
        tokio::spawn(read_frames(stream, connection.clone(), inlet, sink));
    };
    spawn_reader(first, Class::Vote);
    let mut seen = [true, false, false];
    let reason = loop {
        let mut stream = match connection.accept_uni().await {
            Ok(stream) => stream,
            Err(error) => break explain(&error, None),
        };
        let header = timeout(HANDSHAKE_TIMEOUT, read_header(&mut stream)).await.unwrap_or(Err(HeaderError::TimedOut));
        let class = match header {
            Ok((index, named)) if named == instance => Class::from_index(index).filter(|class| !seen[class.index()]),
            Err(HeaderError::Connection(error)) => break explain(&error, None),
            _ => None,
        };
        let Some(class) = class else {
            shared.metrics.violations.increment();
            let reason = "a stream without a proper header";
            CloseCode::Violation.close_because(&connection, reason);
            break LinkError::Violation(reason.to_owned());
        };
        seen[class.index()] = true;
        spawn_reader(stream, class);
    };
    // Fails only when the supervisor has ended, after which nobody asks.
    let _ = peer.mailbox.send(Notice::Closed { number, reason }).await;
}

struct PeerSink {
    from: ReplicaId,
    class: Class,
    events: Arc<FairQueue<PeerEvent>>,
}

impl FrameSink for PeerSink {
    fn deliver(&self, frames: &mut Vec<Frame>) {
        let (from, class) = (self.from, self.class);
        let events = frames.drain(..).map(|frame| PeerEvent::Frame { from, class, frame });
        self.events.push(u64::from(from.0), class.index(), events);
    }
}
