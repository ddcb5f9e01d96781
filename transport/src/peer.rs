//! Links between replicas.
//!
//! What comes in: the members with their pinned keys and addresses, and frames to send by member and class. What goes
//! out: [`PeerEvents`], where the sender of a frame is whoever proved the member's key on the link.
//!
//! One task supervises each pair (`supervisor`): it dials, takes the links that were accepted, and decides which of
//! two is used (`arbitration`). `link` runs the streams of one connection, `accept` the door.

mod accept;
mod arbitration;
mod class;
mod link;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::Endpoint;
use tokio::sync::{Semaphore, mpsc, watch};

use quorate_crypto::{ClusterId, PublicKey, ReplicaId};

use crate::admission::{Gate, canonical};
use crate::error::{CloseCode, StartError};
use crate::fair_queue::FairQueue;
use crate::key::TransportKey;
use crate::limits::{PeerLimits, UNESTABLISHED_PER_PEER};
use crate::metrics::{LinkStatistics, TransportMetrics};
use crate::mutex::lock;
use crate::outbound::{OutboundQueue, Pushed};
use crate::quic::{Role, ServerConfigs, bind, client_config, fresh_instance};
use crate::stream::Frame;
use crate::tls::{self, Accepted, Members, Port};

pub use class::Class;

/// How many notices to a supervisor may wait: links accepted, dialled and closed. Beyond it an accepted link is
/// refused; the others wait.
const MAILBOX: usize = 32;

/// A member of the cluster, as others reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number.
    pub id: ReplicaId,
    /// Its transport key, which it must prove.
    pub key: PublicKey,
    /// Where it listens for other replicas (UDP), or for clients where [`crate::ReplicaLinks`] is told.
    pub address: SocketAddr,
}

/// What a replica needs to link with the others.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The own number.
    pub my_id: ReplicaId,
    /// The own transport key.
    pub key: TransportKey,
    /// The UDP address to listen on and to dial from.
    pub listen: SocketAddr,
    /// The other members. An entry with the own id is left out.
    pub peers: Vec<PeerAddress>,
    /// The cluster: links with any other are refused by TLS.
    pub cluster: ClusterId,
    /// Caps.
    pub limits: PeerLimits,
}

/// News of a link, or a frame from one. For one peer, `Up` comes before the frames of its link; frames that came
/// before a `Down` may follow it.
#[derive(Debug)]
pub enum PeerEvent {
    /// A link to this member is up and in use. If one was before, its process or the link is another: what was sent
    /// may be lost.
    Up(ReplicaId),
    /// No link to this member is up. May come without an `Up` if that was not delivered yet.
    Down(ReplicaId),
    /// A frame.
    Frame {
        /// Who proved its key on the link.
        from: ReplicaId,
        /// The stream it came on.
        class: Class,
        /// The content, which counts against the sender's budget until dropped.
        frame: Frame,
    },
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Older frames of the class that were dropped for this one, which is rarely good news.
    pub displaced: usize,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not a member other than oneself.
    #[error("replica {0} is not a peer")]
    UnknownPeer(ReplicaId),
    /// The frame is empty or over the cap of its class.
    #[error("a frame of {length} bytes is not within 1 ..= {cap}")]
    Length {
        /// Its bytes.
        length: usize,
        /// The cap of the class.
        cap: usize,
    },
    /// The queue of that peer and class is full, or there is no link and the class does not wait for one.
    #[error("the queue to replica {0} is full")]
    Full(ReplicaId),
}

/// Starts links between replicas.
pub struct PeerEndpoint;

/// What all tasks of an endpoint share.
pub(crate) struct Shared {
    my_id: ReplicaId,
    /// Names this process among its restarts.
    instance: u64,
    limits: PeerLimits,
    endpoint: Endpoint,
    local_address: SocketAddr,
    peers: BTreeMap<ReplicaId, Arc<Peer>>,
    members: Arc<Members>,
    events: Arc<FairQueue<PeerEvent>>,
    metrics: Arc<TransportMetrics>,
    gate: Gate,
    server_configs: ServerConfigs,
    /// Configured addresses of the peers, canonical.
    expected: BTreeSet<SocketAddr>,
    shut_down: watch::Sender<bool>,
}

/// One other member: what outlives its links.
pub(crate) struct Peer {
    address: PeerAddress,
    dial_config: quinn::ClientConfig,
    outbound: [Arc<OutboundQueue>; 3],
    budgets: [Arc<Semaphore>; 3],
    /// Its connections between handshake and hand-over hold one of [`UNESTABLISHED_PER_PEER`] permits each.
    unestablished: Semaphore,
    up: AtomicBool,
    /// Totals of links that are gone.
    past: Mutex<LinkStatistics>,
    /// The connection in use.
    current: Mutex<Option<quinn::Connection>>,
    mailbox: mpsc::Sender<supervisor::Notice>,
}

impl PeerEndpoint {
    /// Binds the port and starts to dial. Must be called within a tokio runtime.
    pub fn start(config: PeerConfig) -> Result<(PeerHandle, PeerEvents), StartError> {
        config.limits.check().map_err(StartError::Configuration)?;
        let mut members = BTreeMap::new();
        let others: Vec<PeerAddress> = config.peers.iter().copied().filter(|peer| peer.id != config.my_id).collect();
        for peer in &others {
            if peer.key == config.key.public_key() || members.insert(peer.key, peer.id).is_some() {
                return Err(StartError::Configuration(format!("the key of replica {} is used twice", peer.id)));
            }
        }
        let members = Arc::new(Members::new(members));
        let accepted = Accepted::Members(Arc::clone(&members));
        let server_tls = tls::server_config(Port::Peer, &config.key, &config.cluster, accepted)?;
        let server_configs = ServerConfigs::new(server_tls, &config.key, Port::Peer, Role::Replica);
        let endpoint = bind(config.listen, &config.key, Port::Peer, Some(&server_configs))?;
        let local_address =
            endpoint.local_addr().map_err(|source| StartError::Bind { address: config.listen, source })?;

        let mut peers = BTreeMap::new();
        let mut mailboxes = Vec::new();
        for address in &others {
            let (mailbox, notices) = mpsc::channel(MAILBOX);
            let tls = tls::client_config(Port::Peer, &config.key, &config.cluster, address.key)?;
            let peer = Arc::new(Peer::new(*address, tls, &config.limits, mailbox));
            if peers.insert(address.id, Arc::clone(&peer)).is_some() {
                return Err(StartError::Configuration(format!("replica {} is listed twice", address.id)));
            }
            mailboxes.push((peer, notices));
        }
        let metrics = Arc::new(TransportMetrics::default());
        let shared = Arc::new(Shared {
            my_id: config.my_id,
            instance: fresh_instance()?,
            limits: config.limits,
            endpoint,
            local_address,
            peers,
            members,
            events: Arc::new(FairQueue::new()),
            gate: Gate::new(Arc::clone(&metrics)),
            metrics,
            server_configs,
            expected: others.iter().map(|peer| canonical(peer.address)).collect(),
            shut_down: watch::Sender::new(false),
        });
        tokio::spawn(accept::run(Arc::clone(&shared)));
        for (peer, notices) in mailboxes {
            tokio::spawn(supervisor::Supervisor::new(Arc::clone(&shared), peer, notices).run());
        }
        let events = PeerEvents { queue: Arc::clone(&shared.events) };
        Ok((PeerHandle { owner: Arc::new(Owner { shared }) }, events))
    }
}

impl Peer {
    fn new(
        address: PeerAddress,
        tls: Arc<quinn_proto::crypto::rustls::QuicClientConfig>,
        limits: &PeerLimits,
        mailbox: mpsc::Sender<supervisor::Notice>,
    ) -> Peer {
        Peer {
            address,
            dial_config: client_config(tls, Role::Replica, address.address),
            outbound: Class::ALL.map(|class| {
                let (cap, without_link) =
                    (limits.outbound_cap_bytes[class.index()], limits.outbound_cap_without_link_bytes[class.index()]);
                Arc::new(OutboundQueue::new(class.overflow(), cap, without_link))
            }),
            budgets: limits.inbound_budget_bytes.map(|bytes| Arc::new(Semaphore::new(bytes))),
            unestablished: Semaphore::new(UNESTABLISHED_PER_PEER),
            up: AtomicBool::new(false),
            past: Mutex::new(LinkStatistics::default()),
            current: Mutex::new(None),
            mailbox,
        }
    }
}

/// Sends frames and looks at links. Clones share one endpoint, which shuts down when the last is dropped.
#[derive(Clone)]
pub struct PeerHandle {
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
        self.shut_down.send_replace(true);
        let code = quinn::VarInt::from_u32(CloseCode::ShutDown.number());
        self.endpoint.close(code, b"shut down");
        self.events.close();
    }
}

impl PeerHandle {
    /// Puts a frame into the queue to a member; returns at once. A full queue of votes or proposals drops its oldest
    /// frame, a full queue of bulk data refuses the new one.
    pub fn send(&self, to: ReplicaId, class: Class, frame: Bytes) -> Result<Sent, SendError> {
        let shared = &self.owner.shared;
        let peer = shared.peers.get(&to).ok_or(SendError::UnknownPeer(to))?;
        let cap = shared.limits.frame_cap_bytes[class.index()];
        if frame.is_empty() || frame.len() > cap {
            return Err(SendError::Length { length: frame.len(), cap });
        }
        match peer.outbound[class.index()].push(frame) {
            Pushed::Queued { displaced } => {
                if displaced > 0 {
                    shared.metrics.frames_displaced[class.index()].add(displaced as u64);
                }
                Ok(Sent { displaced })
            }
            Pushed::Refused => {
                shared.metrics.frames_refused[class.index()].increment();
                Err(SendError::Full(to))
            }
        }
    }

    /// Puts a frame into the queues to all other members. Returns how many took it.
    pub fn broadcast(&self, class: Class, frame: &Bytes) -> usize {
        let ids = self.owner.shared.peers.keys();
        ids.filter(|id| self.send(**id, class, frame.clone()).is_ok()).count()
    }

    /// Whether a link to this member is up.
    pub fn is_up(&self, id: ReplicaId) -> bool {
        self.owner.shared.peers.get(&id).is_some_and(|peer| peer.up.load(Ordering::Relaxed))
    }

    /// The members to whom a link is up.
    pub fn linked(&self) -> Vec<ReplicaId> {
        self.owner.shared.peers.keys().copied().filter(|id| self.is_up(*id)).collect()
    }

    /// What QUIC counted on the links to a member.
    pub fn link_statistics(&self, id: ReplicaId) -> Option<LinkStatistics> {
        let peer = self.owner.shared.peers.get(&id)?;
        let mut statistics = *lock(&peer.past);
        if let Some(connection) = &*lock(&peer.current) {
            statistics.absorb(connection);
        }
        statistics.up = peer.up.load(Ordering::Relaxed);
        statistics.waiting_bytes = std::array::from_fn(|class| peer.outbound[class].waiting_bytes());
        Some(statistics)
    }

    /// The counters of this endpoint.
    pub fn metrics(&self) -> Arc<TransportMetrics> {
        Arc::clone(&self.owner.shared.metrics)
    }

    /// The UDP address in use.
    pub fn local_address(&self) -> SocketAddr {
        self.owner.shared.local_address
    }

    /// Closes the link to a member for a breach of the rules above this crate, such as frames that do not decode. It may
    /// be dialled again at once; what comes over the next link is the consumer's to judge.
    pub fn disconnect(&self, id: ReplicaId, reason: &str) {
        let shared = &self.owner.shared;
        if let Some(peer) = shared.peers.get(&id)
            && let Some(connection) = &*lock(&peer.current)
        {
            shared.metrics.violations.increment();
            CloseCode::Violation.close_because(connection, reason);
        }
    }

    /// Takes a member's key out: its links are closed at once and refused from now on. For members that a new
    /// configuration leaves out.
    pub async fn remove(&self, id: ReplicaId) {
        let shared = &self.owner.shared;
        shared.members.remove(id);
        if let Some(peer) = shared.peers.get(&id) {
            // Fails only after the supervisor has ended, when there is nothing left to close.
            let _ = peer.mailbox.send(supervisor::Notice::Removed).await;
        }
    }

    /// Closes all links, tells the others, and waits until they know, at most for `bound`. Frames still waiting are
    /// dropped. [`crate::limits::SHUTDOWN_BOUND`] is a good bound.
    pub async fn shut_down(&self, bound: Duration) {
        self.owner.shared.begin_shut_down();
        let _ = tokio::time::timeout(bound, self.owner.shared.endpoint.wait_idle()).await;
    }
}

/// Receives what the links bring, from all members in turns. For one consumer.
pub struct PeerEvents {
    queue: Arc<FairQueue<PeerEvent>>,
}

impl PeerEvents {
    /// Waits for the next event; `None` after shutdown. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<PeerEvent> {
        self.queue.pop().await
    }

    /// Waits for at least one event and moves up to `limit` into `events`. Returns how many; 0 after shutdown.
    pub async fn recv_many(&mut self, events: &mut Vec<PeerEvent>, limit: usize) -> usize {
        self.queue.pop_many(events, limit).await
    }

    /// The next event if one waits.
    pub fn try_recv(&mut self) -> Option<PeerEvent> {
        self.queue.try_pop()
    }
}

#[cfg(test)]
mod tests;
