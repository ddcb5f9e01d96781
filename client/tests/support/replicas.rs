//! Four replicas behind real sockets that share one order instead of agreeing on one: real execution, real store, real
//! replies. Each can be told to misbehave towards clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Committee, Digest, Ed25519, ReplicaId, Seq, Verified, Verifier, View};
use quorate_keys::ClientKey;
use quorate_kv::{Operation as KeyValueOperation, Store};
use quorate_protocol::client::message::{CLIENT_FRAME_MAX, ClientMessage, ReplicaMessage, ReplicaStatus, WatchUpdate};
use quorate_protocol::execution::{Access, Execution, InitialConfiguration, RestoreError, Service};
use quorate_protocol::parameters::Parameters;
use quorate_protocol::proposal::{Payload, Proposal};
use quorate_protocol::reply::{Outcome, Reply};
use quorate_protocol::request::Request;
use quorate_protocol::state::TableId;
use quorate_transport::{
    ClientEndpoint, ClientEndpointConfig, ClientEvent, ClientHandle, ClientLimits, ConnectionId, TransportKey,
};

use super::genesis::Testbed;

/// How a replica treats clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Honest,
    /// Answers nothing.
    Silent,
    /// Changes every result and every event.
    Lying,
    /// Says Busy to every request.
    Busy,
    /// Refuses the client's key.
    Closed,
}

/// The key-value store as the service of the execution layer.
#[derive(Clone)]
struct KeyValue(Store);

impl Service for KeyValue {
    fn classify(&self, operation: &[u8]) -> Option<Access> {
        let operation = KeyValueOperation::from_bytes(operation).ok()?;
        quorate_kv::check(&operation).ok()?;
        Some(if quorate_kv::is_read_only(&operation) { Access::Reads } else { Access::Writes })
    }

    fn execute(&mut self, operation: &[u8], agreed_time: u64, steps: &mut u64) -> Vec<u8> {
        self.0.apply_encoded(operation, agreed_time, steps).to_bytes()
    }

    fn revision(&self) -> u64 {
        self.0.current_revision()
    }

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn tables(&self) -> Vec<(TableId, MerkleMap)> {
        self.0.tables().into_iter().map(|(id, map)| (TableId(16 + id.0), map.clone())).collect()
    }

    fn restore(_: &BTreeMap<TableId, MerkleMap>) -> Result<Self, RestoreError> {
        Err(RestoreError::UnknownTable(TableId(16)))
    }
}

struct Subscriber {
    replica: usize,
    connection: ConnectionId,
    id: u64,
    range: quorate_kv::KeyRange,
    next: u64,
}

/// The order, and what came of it.
struct Order {
    execution: Execution<KeyValue>,
    subscribers: Vec<Subscriber>,
    /// Replies given, for those that ask later.
    replies: BTreeMap<Digest, Reply>,
    /// So many of the next requests are answered as if their results had been dropped.
    forget: usize,
}

/// The four replicas.
#[derive(Clone)]
pub struct Replicas {
    order: Arc<Mutex<Order>>,
    manners: Arc<Mutex<[Manner; 4]>>,
    committee: Committee,
    handles: Arc<Mutex<Vec<ClientHandle>>>,
}

impl Replicas {
    /// Starts all four, honest.
    pub fn start(bed: &Testbed) -> Replicas {
        let initial = InitialConfiguration {
            clients: vec![bed.client.public().key],
            admins: vec![bed.admin.public().key],
            parameters: (&Parameters::default()).into(),
        };
        let execution = Execution::new(KeyValue(Store::new(quorate_kv::Parameters::default())), &initial);
        let replicas = Replicas {
            order: Arc::new(Mutex::new(Order {
                execution,
                subscribers: Vec::new(),
                replies: BTreeMap::new(),
                forget: 0,
            })),
            manners: Arc::new(Mutex::new([Manner::Honest; 4])),
            committee: bed.genesis.committee().clone(),
            handles: Arc::default(),
        };
        for id in 0..4 {
            replicas.open(bed, id);
        }
        replicas
    }

    /// Changes how a replica behaves.
    pub fn behave(&self, replica: usize, manner: Manner) {
        self.manners.lock().expect("not poisoned")[replica] = manner;
        self.handles.lock().expect("not poisoned")[replica].recheck();
    }

    /// Drops the results of the next `count` requests.
    pub fn forget(&self, count: usize) {
        self.order.lock().expect("not poisoned").forget = count;
    }

    fn manner(&self, replica: usize) -> Manner {
        self.manners.lock().expect("not poisoned")[replica]
    }

    fn open(&self, bed: &Testbed, id: usize) {
        let address = &bed.genesis.replicas()[id].client_address;
        let own = self.clone();
        let config = ClientEndpointConfig {
            key: TransportKey::from_secret(bed.identities[id].transport.clone()),
            listen: format!("{}:{}", address.host(), address.port()).parse().expect("an address"),
            cluster: bed.genesis.cluster_id(),
            admit: Arc::new(move |_| own.manner(id) != Manner::Closed),
            limits: ClientLimits::default(),
        };
        let (handle, mut events) = ClientEndpoint::start(config).expect("the port is free");
        self.handles.lock().expect("not poisoned").push(handle);
        let own = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let ClientEvent::Frame { connection, frame } = event {
                    let message = decode(&frame, CLIENT_FRAME_MAX).expect("the client's frames decode");
                    own.take(id, connection, message);
                }
            }
        });
    }

    fn send(&self, replica: usize, to: ConnectionId, message: &ReplicaMessage) {
        if self.manner(replica) != Manner::Silent {
            // The client may be gone.
            let _ = self.handles.lock().expect("not poisoned")[replica].send(to, Bytes::from(encode(message)));
        }
    }

    fn take(&self, replica: usize, from: ConnectionId, message: ClientMessage) {
        match message {
            ClientMessage::Submit(request) => self.submit(replica, from, request),
            ClientMessage::Read { id, operation, revision } => {
                let operation = KeyValueOperation::from_bytes(&operation.bytes).expect("an operation");
                let result = self
                    .order
                    .lock()
                    .expect("not poisoned")
                    .execution
                    .service()
                    .0
                    .read(&operation, revision.unwrap_or(0));
                let mut bytes = result.to_bytes();
                if self.manner(replica) == Manner::Lying {
                    bytes.reverse();
                }
                self.send(replica, from, &ReplicaMessage::Read { id, revision: result.revision, result: bytes });
            }
            ClientMessage::Status { id } => {
                let status = self.status(replica);
                self.send(replica, from, &ReplicaMessage::Status { id, status });
            }
            ClientMessage::Watch { id, range, from_revision } => {
                let Ok(KeyValueOperation::Range(range)) = KeyValueOperation::from_bytes(&range.bytes) else {
                    panic!("a watch names a range")
                };
                let subscriber = Subscriber { replica, connection: from, id, range: range.range, next: from_revision };
                let mut order = self.order.lock().expect("not poisoned");
                // An id that is in use begins anew.
                order.subscribers.retain(|other| (other.replica, other.connection, other.id) != (replica, from, id));
                order.subscribers.push(subscriber);
                drop(order);
                self.tell_subscribers();
            }
            ClientMessage::Unwatch { id } => {
                let mut order = self.order.lock().expect("not poisoned");
                order.subscribers.retain(|subscriber| (subscriber.replica, subscriber.id) != (replica, id));
            }
            ClientMessage::Receipt { .. } => {}
        }
    }

    fn submit(&self, replica: usize, from: ConnectionId, request: Request) {
        let digest = request.digest();
        if self.manner(replica) == Manner::Busy {
            self.send(replica, from, &ReplicaMessage::Busy { request: digest, retry_after: 20 });
            return;
        }
        if self.manner(replica) == Manner::Silent {
            return;
        }
        let verifier = Verifier::new(Arc::new(Ed25519));
        let request = verifier.verify(request, &self.committee, &()).expect("the client signs properly");
        let mut reply = self.execute(digest, request);
        if self.manner(replica) == Manner::Lying
            && let Outcome::Results(results) = &mut reply.outcome
        {
            for result in results {
                result.reverse();
            }
        }
        self.send(replica, from, &ReplicaMessage::Reply(reply));
        self.tell_subscribers();
    }

    /// Orders the request unless it executed before, and answers it.
    fn execute(&self, digest: Digest, request: Verified<Request>) -> Reply {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let mut order = self.order.lock().expect("not poisoned");
        if let Some(reply) = order.replies.get(&digest) {
            return reply.clone();
        }
        let proposal = Proposal { time: wall, payload: Payload::Batch(vec![digest]) };
        let seq = order.execution.seq().next();
        let outcome = order.execution.apply(seq, &proposal, &[Arc::new(request)]);
        let mut reply = outcome.replies.into_iter().next().expect("one reply a request").1;
        if matches!(reply.outcome, Outcome::Results(_)) {
            if order.forget > 0 {
                order.forget -= 1;
                reply.outcome = Outcome::ExecutedEarlier;
            }
            order.replies.insert(digest, reply.clone());
        }
        reply
    }

    fn status(&self, replica: usize) -> ReplicaStatus {
        let order = self.order.lock().expect("not poisoned");
        ReplicaStatus {
            replica: ReplicaId(replica as u16),
            view: View(0),
            primary: ReplicaId(0),
            executed: order.execution.seq(),
            revision: order.execution.service().revision(),
            time: order.execution.time(),
            checkpoint: Seq(0),
            checkpoint_digest: Digest::ZERO,
        }
    }

    /// Holds the order until all is sent: two tasks that tell at once must not pass each other.
    fn tell_subscribers(&self) {
        let mut order = self.order.lock().expect("not poisoned");
        let Order { execution, subscribers, .. } = &mut *order;
        let mut updates = Vec::new();
        for subscriber in subscribers {
            let page = execution.service().0.events_since(subscriber.next, &subscriber.range, 0, false);
            match page {
                Ok(page) => {
                    for list in page.lists {
                        let revision = list.revision;
                        let update = WatchUpdate::Events { revision, events: encode(&list) };
                        updates.push((subscriber.replica, subscriber.connection, subscriber.id, update));
                    }
                    if page.next_revision > subscriber.next {
                        let update = WatchUpdate::Progress { revision: page.next_revision - 1 };
                        updates.push((subscriber.replica, subscriber.connection, subscriber.id, update));
                    }
                    subscriber.next = page.next_revision;
                }
                Err(_) => {
                    let update = WatchUpdate::Compacted { revision: execution.service().0.compact_revision() };
                    updates.push((subscriber.replica, subscriber.connection, subscriber.id, update));
                }
            }
        }
        for (replica, connection, id, mut update) in updates {
            if self.manner(replica) == Manner::Lying
                && let WatchUpdate::Events { events, .. } = &mut update
            {
                events.reverse();
            }
            self.send(replica, connection, &ReplicaMessage::Watch { id, update });
        }
    }
}

/// The public half of a new client key.
pub fn newcomer() -> ClientKey {
    ClientKey::from_seed(&[203; 32])
}
