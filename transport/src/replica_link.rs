//! A client's links to the replicas: each with its pinned key, dialled anew whenever it ends.
//!
//! What comes in: the replicas with keys and client addresses, and frames to send by replica. What goes out:
//! [`ReplicaEvents`], and why a link is not up, in one sentence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::Endpoint;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use quorate_crypto::{ClusterId, ReplicaId};

use crate::error::{CloseCode, Dialled, LinkError, StartError, explain};
use crate::fair_queue::FairQueue;
use crate::key::TransportKey;
use crate::limits::{ClientLimits, DIAL_TIMEOUT, FIRST_BACKOFF, FRAME_OVERHEAD_BYTES, LONGEST_BACKOFF, STABLE_AFTER};
use crate::metrics::TransportMetrics;
use crate::outbound::{OutboundQueue, Overflow, Pushed};
use crate::peer::{PeerAddress, SendError};
use crate::quic::{Role, any_address, bind, client_config, fresh_instance};
use crate::rest::Rest;
use crate::stream::{Established, Frame, FrameSink, HeaderError, Inlet, establish, read_frames, write_frames};
use crate::tls::{self, Port};

/// What a client needs to link with the replicas.
#[derive(Clone, Debug)]
pub struct ReplicaLinksConfig {
    /// The client's key.
    pub key: TransportKey,
    /// The replicas with their transport keys and the addresses of their client ports.
    pub replicas: Vec<PeerAddress>,
    /// The cluster.
    pub cluster: ClusterId,
    /// Caps: the frame caps and, for each replica, `outbound_cap_bytes` and twice the largest reply inbound.
    pub limits: ClientLimits,
}

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The first attempt is under way.
    Dialling,
    /// The replica has accepted our key.
    Up,
    /// The last attempt or link ended so; the next attempt follows by itself.
    Down(LinkError),
}

/// News of a link, or a frame from a replica.
#[derive(Debug)]
pub enum ReplicaEvent {
    /// The link is up: what was sent on an earlier one may be lost.
    Up(ReplicaId),
    /// The link ended, or an attempt failed. Repeated while attempts fail.
    Down(ReplicaId, LinkError),
    /// A frame.
    Frame {
        /// Who proved its key on the link.
        from: ReplicaId,
        /// The content, which counts against the replica's budget until dropped.
        frame: Frame,
    },
}

struct Shared {
    instance: u64,
    limits: ClientLimits,
    endpoint: Endpoint,
    replicas: BTreeMap<ReplicaId, Arc<Replica>>,
    events: Arc<FairQueue<ReplicaEvent>>,
    metrics: Arc<TransportMetrics>,
}

struct Replica {
    address: PeerAddress,
    dial_config: quinn::ClientConfig,
    outbound: Arc<OutboundQueue>,
    budget: Arc<Semaphore>,
    state: watch::Sender<LinkState>,
}

/// The links. Clones share them; they end when the last is dropped.
#[derive(Clone)]
pub struct ReplicaLinks {
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
        self.endpoint.close(code, b"client ends");
        self.events.close();
    }
}

impl ReplicaLinks {
    /// Binds a port of the system's choice and starts to dial all replicas. Must be called within a tokio runtime.
    pub fn start(config: ReplicaLinksConfig) -> Result<(ReplicaLinks, ReplicaEvents), StartError> {
        config.limits.check().map_err(StartError::Configuration)?;
        let local = any_address(config.replicas.iter().map(|replica| replica.address));
        let endpoint = bind(local, &config.key, Port::Client, None)?;
        let mut replicas = BTreeMap::new();
        for address in &config.replicas {
            let tls = tls::client_config(Port::Client, &config.key, &config.cluster, address.key)?;
            let cap = config.limits.outbound_cap_bytes;
            let replica = Arc::new(Replica {
                address: *address,
                dial_config: client_config(tls, Role::Client, address.address),
                outbound: Arc::new(OutboundQueue::new(Overflow::Refuse, cap, cap)),
                budget: Arc::new(Semaphore::new(2 * (config.limits.reply_cap_bytes + FRAME_OVERHEAD_BYTES))),
                state: watch::Sender::new(LinkState::Dialling),
            });
            if replicas.insert(address.id, replica).is_some() {
                return Err(StartError::Configuration(format!("replica {} is listed twice", address.id)));
            }
        }
        let shared = Arc::new(Shared {
            instance: fresh_instance()?,
            limits: config.limits,
            endpoint,
            replicas,
            events: Arc::new(FairQueue::new()),
            metrics: Arc::default(),
        });
        for replica in shared.replicas.values() {
            tokio::spawn(keep_linked(Arc::clone(&shared), Arc::clone(replica)));
        }
        let events = ReplicaEvents { queue: Arc::clone(&shared.events) };
        Ok((ReplicaLinks { owner: Arc::new(Owner { shared }) }, events))
    }

    /// Puts a frame into the queue to a replica; returns at once. Without a link it waits for one.
    pub fn send(&self, to: ReplicaId, frame: Bytes) -> Result<(), SendError> {
        let shared = &self.owner.shared;
        let replica = shared.replicas.get(&to).ok_or(SendError::UnknownPeer(to))?;
        let cap = shared.limits.request_cap_bytes;
        if frame.is_empty() || frame.len() > cap {
            return Err(SendError::Length { length: frame.len(), cap });
        }
        match replica.outbound.push(frame) {
            Pushed::Queued { .. } => Ok(()),
            Pushed::Refused => {
                shared.metrics.frames_refused[0].increment();
                Err(SendError::Full(to))
            }
        }
    }

    /// The replicas, by number.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.owner.shared.replicas.keys().copied().collect()
    }

    /// How the link to a replica stands.
    pub fn state(&self, id: ReplicaId) -> Option<LinkState> {
        self.owner.shared.replicas.get(&id).map(|replica| replica.state.borrow().clone())
    }

    /// Follows how the link to a replica stands.
    pub fn watch_state(&self, id: ReplicaId) -> Option<watch::Receiver<LinkState>> {
        self.owner.shared.replicas.get(&id).map(|replica| replica.state.subscribe())
    }

    /// The counters of these links; they count as the first class.
    pub fn metrics(&self) -> Arc<TransportMetrics> {
        Arc::clone(&self.owner.shared.metrics)
    }

    /// Closes all links, tells the replicas, and waits until they know, at most for `bound`. Frames still waiting are
    /// dropped.
    pub async fn shut_down(&self, bound: Duration) {
        self.owner.shared.begin_shut_down();
        let _ = timeout(bound, self.owner.shared.endpoint.wait_idle()).await;
    }
}

/// Receives what the replicas send, from all in turns. For one consumer.
pub struct ReplicaEvents {
    queue: Arc<FairQueue<ReplicaEvent>>,
}

impl ReplicaEvents {
    /// Waits for the next event; `None` after shutdown. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<ReplicaEvent> {
        self.queue.pop().await
    }

    /// The next event if one waits.
    pub fn try_recv(&mut self) -> Option<ReplicaEvent> {
        self.queue.try_pop()
    }

    /// Waits for at least one event and moves up to `limit` into `events`. Returns how many; 0 after shutdown.
    pub async fn recv_many(&mut self, events: &mut Vec<ReplicaEvent>, limit: usize) -> usize {
        self.queue.pop_many(events, limit).await
    }
}

/// Dials a replica over and over until the endpoint closes.
async fn keep_linked(shared: Arc<Shared>, replica: Arc<Replica>) {
    let id = replica.address.id;
    let lane = u64::from(id.0);
    let mut backoff = FIRST_BACKOFF;
    loop {
        let reason = match timeout(DIAL_TIMEOUT, dial(&shared, &replica)).await {
            Ok(Ok(established)) => {
                shared.metrics.links_up.increment();
                replica.state.send_replace(LinkState::Up);
                shared.events.announce(lane, ReplicaEvent::Up(id), |_| false);
                let since = Instant::now();
                let reason = serve(&shared, &replica, established).await;
                shared.metrics.links_down.increment();
                if since.elapsed() >= STABLE_AFTER {
                    backoff = FIRST_BACKOFF;
                }
                reason
            }
            Ok(Err(Outcome::EndpointClosed)) => return,
            Ok(Err(Outcome::Failed(reason))) => reason,
            Err(_) => LinkError::NobodyListens { address: replica.address.address },
        };
        tracing::debug!(replica = %id, %reason, "no link");
        replica.state.send_replace(LinkState::Down(reason.clone()));
        shared.events.announce(lane, ReplicaEvent::Down(id, reason), |_| true);
        sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

enum Outcome {
    EndpointClosed,
    Failed(LinkError),
}

async fn dial(shared: &Shared, replica: &Replica) -> Result<Established, Outcome> {
    let PeerAddress { id, address, .. } = replica.address;
    shared.metrics.dials.increment();
    let connecting =
        shared.endpoint.connect_with(replica.dial_config.clone(), address, "replica").map_err(|error| match error {
            quinn::ConnectError::EndpointStopping => Outcome::EndpointClosed,
            other => Outcome::Failed(LinkError::Failed(other.to_string())),
        })?;
    let dialled = Dialled { address, id, handshake: true };
    let connection = connecting.await.map_err(|error| Outcome::Failed(explain(&error, Some(dialled))))?;
    establish(connection, shared.instance, DIAL_TIMEOUT).await.map_err(|error| {
        Outcome::Failed(match error {
            HeaderError::Connection(error) => explain(&error, Some(Dialled { handshake: false, ..dialled })),
            other => LinkError::Violation(other.to_string()),
        })
    })
}

/// Runs the streams of a link until it ends.
async fn serve(shared: &Shared, replica: &Replica, established: Established) -> LinkError {
    let Established { connection, outgoing, incoming, .. } = established;
    replica.outbound.set_linked(true);
    let active = watch::Sender::new(true);
    let queue = Arc::clone(&replica.outbound);
    tokio::spawn(write_frames(outgoing, 0, queue, active.subscribe(), Arc::clone(&shared.metrics)));
    let inlet = Inlet {
        class: 0,
        cap: shared.limits.reply_cap_bytes,
        budget: Arc::clone(&replica.budget),
        deadline: shared.limits.frame_deadline,
        rest: Rest::default(),
        metrics: Arc::clone(&shared.metrics),
    };
    let sink = ReplicaSink { from: replica.address.id, events: Arc::clone(&shared.events) };
    tokio::spawn(read_frames(incoming, connection.clone(), inlet, sink));
    let error = connection.closed().await;
    replica.outbound.set_linked(false);
    explain(&error, None)
}

struct ReplicaSink {
    from: ReplicaId,
    events: Arc<FairQueue<ReplicaEvent>>,
}

impl FrameSink for ReplicaSink {
    fn deliver(&self, frames: &mut Vec<Frame>) {
        let from = self.from;
        let events = frames.drain(..).map(|frame| ReplicaEvent::Frame { from, frame });
        self.events.push(u64::from(from.0), 0, events);
    }
}
