//! One client's connection in operation.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::{Client, ClientEvent, ConnectionId, Delivery, Place, Shared};
use crate::error::{CloseCode, LinkError, explain};
use crate::fair_queue::FairQueue;
use crate::mutex::lock;
use crate::outbound::{OutboundQueue, Overflow};
use crate::stream::{Established, Frame, FrameSink, Inlet, read_frames, write_frames};

/// Serves an admitted connection until it ends.
pub(super) async fn run(shared: Arc<Shared>, established: Established, place: Place) {
    let Established { connection, outgoing, incoming, .. } = established;
    let outbound = Arc::new(OutboundQueue::new(Overflow::Refuse, shared.limits.outbound_cap_bytes, 0));
    outbound.set_linked(true);
    let rest = lock(&shared.clients).rest_of(place.key);
    let client = Client { connection: connection.clone(), key: place.key, outbound: Arc::clone(&outbound) };
    let id = {
        let mut clients = lock(&shared.clients);
        clients.next += 1;
        let id = ConnectionId(clients.next);
        clients.open.insert(id, Arc::new(client));
        id
    };
    // Keys may have been removed since this one was admitted, and the look at all connections that follows a removal may have
    // come before this one stood among them.
    if !(shared.admit)(&place.key) {
        lock(&shared.clients).open.remove(&id);
        CloseCode::KeyRemoved.close(&connection);
        return;
    }
    let connected = ClientEvent::Connected { connection: id, key: place.key, address: connection.remote_address() };
    shared.events.announce(id.0, Delivery { event: connected, _place: None }, |_| false);

    let active = watch::Sender::new(true);
    tokio::spawn(write_frames(outgoing, 0, outbound, active.subscribe(), Arc::clone(&shared.metrics)));
    let inlet = Inlet {
        class: 0,
        cap: shared.limits.request_cap_bytes,
        budget: Arc::new(Semaphore::new(shared.limits.inbound_budget_bytes)),
        deadline: shared.limits.frame_deadline,
        rest,
        metrics: Arc::clone(&shared.metrics),
    };
    let sink = ClientSink { connection: id, events: Arc::clone(&shared.events) };
    let reader = tokio::spawn(read_frames(incoming, connection.clone(), inlet, sink));

    let reason = match connection.accept_uni().await {
        Err(error) => explain(&error, None),
        Ok(_) => {
            shared.metrics.violations.increment();
            let reason = "a second stream";
            CloseCode::Violation.close_because(&connection, reason);
            LinkError::Violation(reason.to_owned())
        }
    };
    drop(active);
    lock(&shared.clients).open.remove(&id);
    // The end of a connection is told after its last frame. A reader that waits for its budget would wait for as long
    // as the consumer does; what it holds back belongs to a client that is gone.
    reader.abort();
    let _ = reader.await;
    let closed = Delivery { event: ClientEvent::Closed { connection: id, reason }, _place: Some(place) };
    shared.events.retire(id.0, 0, closed, |delivery| matches!(delivery.event, ClientEvent::Connected { .. }));
}

struct ClientSink {
    connection: ConnectionId,
    events: Arc<FairQueue<Delivery>>,
}

impl FrameSink for ClientSink {
    fn deliver(&self, frames: &mut Vec<Frame>) {
        let connection = self.connection;
        let events = frames.drain(..).map(|frame| ClientEvent::Frame { connection, frame });
        self.events.push(connection.0, 0, events.map(|event| Delivery { event, _place: None }));
    }
}
