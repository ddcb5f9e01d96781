//! The port on which a replica serves clients: its own UDP socket, so that a flood of one kind never queues before the
//! other.
//!
//! What comes in: a rule that says which client keys are known, and frames to send by connection. What goes out:
//! [`ClientEvents`], each connection tied to the key proven on it. TLS lets any proven key in; an unknown one is then
//! told so, which a TLS alert could not say, and costs one handshake.

mod connection;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connecting, Connection, Endpoint};
use tokio::time::timeout;

use quorate_crypto::{ClusterId, PublicKey};

use crate::admission::{Gate, HalfOpen};
use crate::error::{CloseCode, LinkError, StartError};
use crate::fair_queue::FairQueue;
use crate::key::TransportKey;
use crate::limits::{ClientLimits, HANDSHAKE_TIMEOUT};
use crate::metrics::TransportMetrics;
use crate::mutex::lock;
use crate::outbound::{OutboundQueue, Pushed};
use crate::quic::{Role, ServerConfigs, bind, fresh_instance};
use crate::rest::Rest;
use crate::stream::{Frame, establish};
use crate::tls::{self, Accepted, Port, proven_key};

/// Which client keys are known. It is asked after each handshake and by [`ClientHandle::recheck`]; it may change its
/// mind at run time and must be quick.
pub type Admit = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// A connection's number, never reused within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a client port needs.
#[derive(Clone)]
pub struct ClientEndpointConfig {
    /// The replica's transport key, which clients pin.
    pub key: TransportKey,
    /// The UDP address to listen on.
    pub listen: SocketAddr,
    /// The cluster: clients of any other are refused by TLS.
    pub cluster: ClusterId,
    /// Which client keys are known.
    pub admit: Admit,
    /// Caps.
    pub limits: ClientLimits,
}

/// News of a client's connection, or a frame from it, in the order of the connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// A client with a known key has connected.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// The key it has proven.
        key: PublicKey,
        /// Where it is.
        address: SocketAddr,
    },
    /// A frame.
    Frame {
        /// The connection.
        connection: ConnectionId,
        /// The content, which counts against the connection's budget until dropped.
        frame: Frame,
    },
    /// The connection has ended; nothing more comes of it.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: LinkError,
    },
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendToClientError {
    /// The connection has ended.
    #[error("connection {0} has ended")]
    Gone(ConnectionId),
    /// The frame is empty or over the cap.
    #[error("a frame of {length} bytes is not within 1 ..= {cap}")]
    Length {
        /// Its bytes.
        length: usize,
        /// The cap.
        cap: usize,
    },
    /// The client does not read what it is sent; it was disconnected.
    #[error("connection {0} does not read its replies and was closed")]
    SlowReader(ConnectionId),
}

/// An event and, with the last of a connection, its place among the connections: the place is free again only when
/// the consumer has seen the end, so events cannot pile up by connecting over and over.
pub(crate) struct Delivery {
    event: ClientEvent,
    _place: Option<Place>,
}

/// Starts client ports.
pub struct ClientEndpoint;

pub(crate) struct Shared {
    instance: u64,
    limits: ClientLimits,
    endpoint: Endpoint,
    local_address: SocketAddr,
    admit: Admit,
    gate: Gate,
    server_configs: ServerConfigs,
    metrics: Arc<TransportMetrics>,
    events: Arc<FairQueue<Delivery>>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    open: BTreeMap<ConnectionId, Arc<Client>>,
    next: u64,
    places: usize,
    places_by_key: BTreeMap<PublicKey, usize>,
    /// What a key's connections rest together, and those that it opens next: neither many nor new ones are a way round it.
    rests: BTreeMap<PublicKey, Rest>,
}

/// Keys without a connection whose rest is remembered.
const RESTS_REMEMBERED: usize = 1024;

impl Clients {
    /// The rest that all connections of a key share.
    fn rest_of(&mut self, key: PublicKey) -> Rest {
        self.forget_rests();
        self.rests.entry(key).or_default().clone()
    }

    /// Forgets the rests that are over, of keys without a connection; and those that are not, if they are too many.
    fn forget_rests(&mut self) {
        if self.rests.len() > self.places_by_key.len() + RESTS_REMEMBERED {
            let places = &self.places_by_key;
            self.rests.retain(|key, rest| places.contains_key(key) || !rest.is_over());
            if self.rests.len() > places.len() + RESTS_REMEMBERED {
                self.rests.retain(|key, _| places.contains_key(key));
            }
        }
    }
}

pub(crate) struct Client {
    connection: Connection,
    key: PublicKey,
    outbound: Arc<OutboundQueue>,
}

/// A place among the connections, by which the caps count.
pub(crate) struct Place {
    shared: Arc<Shared>,
    key: PublicKey,
}

impl Place {
    /// Takes a place if the caps leave one.
    fn take(shared: &Arc<Shared>, key: PublicKey) -> Option<Place> {
        let mut clients = lock(&shared.clients);
        let of_key = clients.places_by_key.get(&key).copied().unwrap_or(0);
        if clients.places >= shared.limits.connections || of_key >= shared.limits.connections_per_key {
            return None;
        }
        clients.places += 1;
        clients.places_by_key.insert(key, of_key + 1);
        drop(clients);
        Some(Place { shared: Arc::clone(shared), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = lock(&self.shared.clients);
        clients.places -= 1;
        if let Some(of_key) = clients.places_by_key.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                clients.places_by_key.remove(&self.key);
            }
        }
    }
}

impl ClientEndpoint {
    /// Binds the port. Must be called within a tokio runtime.
    pub fn start(config: ClientEndpointConfig) -> Result<(ClientHandle, ClientEvents), StartError> {
        config.limits.check().map_err(StartError::Configuration)?;
        let server_tls = tls::server_config(Port::Client, &config.key, &config.cluster, Accepted::AnyKey)?;
        let server_configs = ServerConfigs::new(server_tls, &config.key, Port::Client, Role::ServesClient);
        let endpoint = bind(config.listen, &config.key, Port::Client, Some(&server_configs))?;
        let local_address =
            endpoint.local_addr().map_err(|source| StartError::Bind { address: config.listen, source })?;
        let metrics = Arc::new(TransportMetrics::default());
        let shared = Arc::new(Shared {
            instance: fresh_instance()?,
            limits: config.limits,
            endpoint,
            local_address,
            admit: config.admit,
            gate: Gate::new(Arc::clone(&metrics)),
            server_configs,
            metrics,
            events: Arc::new(FairQueue::new()),
            clients: Mutex::default(),
        });
        tokio::spawn(accept(Arc::clone(&shared)));
        let events = ClientEvents { queue: Arc::clone(&shared.events) };
        Ok((ClientHandle { owner: Arc::new(Owner { shared }) }, events))
    }
}

/// Looks at connection attempts until the endpoint closes.
async fn accept(shared: Arc<Shared>) {
    let endpoint = shared.endpoint.clone();
    while let Some(incoming) = endpoint.accept().await {
        if let Some((connecting, half_open)) = shared.gate.admit(incoming, &shared.server_configs, |_| false) {
            tokio::spawn(shake_hands(Arc::clone(&shared), connecting, half_open));
        }
    }
}

async fn shake_hands(shared: Arc<Shared>, connecting: Connecting, half_open: HalfOpen) {
    let remote = connecting.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.gate.failed(remote, &error);
            return;
        }
        Err(_) => {
            shared.gate.failed(remote, &"the handshake took too long");
            return;
        }
    };
    drop(half_open);
    let Some(key) = proven_key(&connection) else {
        shared.gate.refused(remote, &"no key");
        CloseCode::Violation.close(&connection);
        return;
    };
    if !(shared.admit)(&key) {
        shared.gate.refused(remote, &format_args!("unknown client key {}", key.to_hex()));
        CloseCode::UnknownClientKey.close(&connection);
        return;
    }
    let Some(place) = Place::take(&shared, key) else {
        shared.gate.refused(remote, &"too many connections");
        CloseCode::TooManyConnections.close(&connection);
        return;
    };
    match establish(connection, shared.instance, HANDSHAKE_TIMEOUT).await {
        Ok(established) => {
            shared.metrics.handshakes_completed.increment();
            connection::run(shared, established, place).await;
        }
        Err(error) => shared.gate.failed(remote, &error),
    }
}

/// Sends frames to clients and looks after their connections. Clones share one port, which shuts down when the last
/// is dropped.
#[derive(Clone)]
pub struct ClientHandle {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_shut_down();
    }
}

impl Shared {
    fn begin_shut_down(&self) {
        let code = quinn::VarInt::from_u32(CloseCode::ShutDown.number());
        self.endpoint.close(code, b"shut down");
        self.events.close();
    }
}

impl ClientHandle {
    /// Puts a frame into the queue to a client; returns at once. A client whose queue is full is disconnected: it
    /// asks anew when it can read again, and waits for nobody else meanwhile.
    pub fn send(&self, to: ConnectionId, frame: Bytes) -> Result<(), SendToClientError> {
        let shared = &self.owner.shared;
        let cap = shared.limits.reply_cap_bytes;
        if frame.is_empty() || frame.len() > cap {
            return Err(SendToClientError::Length { length: frame.len(), cap });
        }
        let client = lock(&shared.clients).open.get(&to).cloned().ok_or(SendToClientError::Gone(to))?;
        match client.outbound.push(frame) {
            Pushed::Queued { .. } => Ok(()),
            Pushed::Refused => {
                if lock(&shared.clients).open.remove(&to).is_some() {
                    shared.metrics.slow_readers.increment();
                    CloseCode::SlowReader.close(&client.connection);
                }
                Err(SendToClientError::SlowReader(to))
            }
        }
    }

    /// Bytes waiting to be sent on a connection, so that whoever has much to say can wait for a client that reads;
    /// `None` once it has ended.
    pub fn waiting_bytes(&self, connection: ConnectionId) -> Option<usize> {
        let clients = lock(&self.owner.shared.clients);
        clients.open.get(&connection).map(|client| client.outbound.waiting_bytes())
    }

    /// Asks the rule about every open connection again and closes those whose key is no longer known. Call it when
    /// the set of client keys has changed.
    pub fn recheck(&self) {
        let shared = &self.owner.shared;
        let clients: Vec<Arc<Client>> = lock(&shared.clients).open.values().cloned().collect();
        for client in clients {
            if !(shared.admit)(&client.key) {
                CloseCode::KeyRemoved.close(&client.connection);
            }
        }
    }

    /// Closes a connection for a breach of the rules above this crate, such as a frame that does not decode.
    pub fn disconnect(&self, connection: ConnectionId, reason: &str) {
        if let Some(client) = lock(&self.owner.shared.clients).open.remove(&connection) {
            self.owner.shared.metrics.violations.increment();
            CloseCode::Violation.close_because(&client.connection, reason);
        }
    }

    /// Reads the connections of `key` no further for `time`, on top of what they rest already, and for at most `most` from
    /// now; nor those that it opens meanwhile, though it may have none at the moment: hanging up is no way round. What was
    /// read comes still. For a client that goes on asking for what it is refused: flow control stalls its key, and no other.
    pub fn rest(&self, key: PublicKey, time: Duration, most: Duration) {
        let shared = &self.owner.shared;
        shared.metrics.rests.increment();
        lock(&shared.clients).rest_of(key).extend(time, most);
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        lock(&self.owner.shared.clients).open.len()
    }

    /// The counters of this port; client traffic counts as the first class.
    pub fn metrics(&self) -> Arc<TransportMetrics> {
        Arc::clone(&self.owner.shared.metrics)
    }

    /// The UDP address in use.
    pub fn local_address(&self) -> SocketAddr {
        self.owner.shared.local_address
    }

    /// Closes all connections, tells the clients, and waits until they know, at most for `bound`.
    pub async fn shut_down(&self, bound: Duration) {
        self.owner.shared.begin_shut_down();
        let _ = timeout(bound, self.owner.shared.endpoint.wait_idle()).await;
    }
}

/// Receives what clients send, from all connections in turns. For one consumer.
pub struct ClientEvents {
    queue: Arc<FairQueue<Delivery>>,
}

impl ClientEvents {
    /// Waits for the next event; `None` after shutdown. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        self.queue.pop().await.map(|delivery| delivery.event)
    }

    /// The next event if one waits.
    pub fn try_recv(&mut self) -> Option<ClientEvent> {
        self.queue.try_pop().map(|delivery| delivery.event)
    }

    /// Waits for at least one event and moves up to `limit` into `events`. Returns how many; 0 after shutdown.
    pub async fn recv_many(&mut self, events: &mut Vec<ClientEvent>, limit: usize) -> usize {
        let mut deliveries = Vec::new();
        let taken = self.queue.pop_many(&mut deliveries, limit).await;
        events.extend(deliveries.into_iter().map(|delivery| delivery.event));
        taken
    }
}

#[cfg(test)]
mod tests;
