//! The handle: clone it, call it from many tasks; one driver task behind it owns the links and the client's role.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_crypto::{Committee, PublicKey, ReplicaId, Signer as _};
use quorate_keys::ClientKey;
use quorate_protocol::client::message::ReplicaStatus;
use quorate_protocol::client::{Accusation, AuthorId, ClientRole, ReadEnding, RequestEnding, WatchStart};
use quorate_protocol::reply::{Outcome, Reply};
use quorate_protocol::request::{Operation, Request, SessionId};
use quorate_transport::{ClientLimits, LinkState, ReplicaLinks, ReplicaLinksConfig, TransportKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};

use crate::cluster::Cluster;
use crate::error::{ClientError, LinkReport, UnknownOutcome};

pub(crate) mod driver;

use driver::{Command, Driver};

/// Accusations kept for a slow listener.
const ACCUSATIONS_KEPT: usize = 256;
/// Updates of one watch that wait for the caller; beyond it the watch is interrupted and resumed by [`crate::Watch`].
pub(crate) const WATCH_QUEUE: usize = 256;

/// A request that executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The reply.
    pub reply: Reply,
    /// How many replicas gave it when it was accepted.
    pub matching: usize,
    /// n.
    pub replicas: usize,
}

impl Executed {
    /// The results, one per operation.
    ///
    /// # Errors
    /// [`ClientError::ResultsForgotten`] if the request executed earlier and only that is still known.
    pub fn results(&self) -> Result<&[Vec<u8>], ClientError> {
        match &self.reply.outcome {
            Outcome::Results(results) => Ok(results),
            Outcome::ExecutedEarlier | Outcome::Refused(_) => Err(ClientError::ResultsForgotten(self.reply.seq)),
        }
    }
}

/// How one replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// The replica.
    pub id: ReplicaId,
    /// The link to it.
    pub link: LinkState,
    /// What it says of itself, if it answered. Nobody else vouches for it.
    pub status: Option<ReplicaStatus>,
}

/// A client of one cluster, with one session. Clones share it; it ends when the last is dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    patience: Duration,
    author: AuthorId,
    key: PublicKey,
    /// As many permits as the role takes requests of this key: callers wait here, in order.
    room: Arc<Semaphore>,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    links: ReplicaLinks,
    committee: Committee,
    in_flight_max: usize,
    accusations: broadcast::Sender<Accusation>,
}

impl Client {
    /// Starts to link with all replicas, and returns without waiting for any: what is asked meanwhile is sent as soon as
    /// a link is up. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Names that cannot be resolved; sockets that cannot be opened.
    pub async fn connect(cluster: Cluster) -> Result<Client, ClientError> {
        let replicas = cluster.addresses().await?;
        let committee = cluster.genesis.committee().clone();
        let limits = ClientLimits::default();
        let (links, events) = ReplicaLinks::start(ReplicaLinksConfig {
            key: TransportKey::from_secret(cluster.key.0.clone()),
            replicas,
            cluster: cluster.genesis.cluster_id(),
            limits,
        })?;
        let key = Arc::new(cluster.key.0.clone());
        let public_key = key.public_key();
        let session = SessionId(rand::random());
        let in_flight_max = cluster.parameters.in_flight_max;
        let room = Arc::new(Semaphore::new(in_flight_max));
        let role = ClientRole::new(committee.clone(), key, session, cluster.parameters);
        let (commands, receiver) = mpsc::channel(1024);
        let (accusations, _) = broadcast::channel(ACCUSATIONS_KEPT);
        let driver = Driver::new(role, links.clone(), limits.reply_cap_bytes, accusations.clone());
        tokio::spawn(driver.run(receiver, events));
        let shared = Arc::new(Shared { commands, links, committee, in_flight_max, accusations });
        Ok(Client { shared, patience: cluster.patience, author: AuthorId::OWN, key: public_key, room })
    }

    /// A client with another registered key and a session of its own whose requests go over the links of this one: a
    /// gateway's way to serve many keys with one connection to each replica. Reads and watches of replicas' own states
    /// are asked as this client.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn guest(&self, key: &ClientKey) -> Result<Client, ClientError> {
        let signer = Arc::new(key.0.clone());
        let public_key = signer.public_key();
        let (answer, author) = oneshot::channel();
        self.send(Command::AddAuthor { key: signer, session: SessionId(rand::random()), answer }).await?;
        let author = self.answer(author).await?;
        let room = Arc::new(Semaphore::new(self.shared.in_flight_max));
        Ok(Client { shared: Arc::clone(&self.shared), patience: self.patience, author, key: public_key, room })
    }

    /// The same client with another patience for its calls. The lifetime of requests stays.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Client {
        Client { patience, ..self.clone() }
    }

    /// How long calls wait.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The replicas and the quorum arithmetic.
    pub fn committee(&self) -> &Committee {
        &self.shared.committee
    }

    /// The key this client signs with.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Replicas that contradict f + 1 others, from now on.
    pub fn accusations(&self) -> broadcast::Receiver<Accusation> {
        self.shared.accusations.subscribe()
    }

    /// Executes a bundle: one request with one signature and one place in the order, whose operations run one after the
    /// other. Waits its turn if as many are in flight as the client may have. Dropping the future does not take back
    /// what was sent.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::KeyRefused`], and [`ClientError::Unknown`] with the signed bytes if it is
    /// not known how it ended.
    pub async fn submit(&self, operations: Vec<Operation>) -> Result<Executed, ClientError> {
        let room = self.room().await?;
        let (answer, ending) = oneshot::channel();
        self.send(Command::Submit { author: self.author, operations, patience: self.patience, room, answer }).await?;
        self.finish(ending).await
    }

    /// Sends saved signed requests again, unchanged. Safe at any time.
    pub async fn replay(&self, requests: Vec<Request>) -> Result<Executed, ClientError> {
        let room = self.room().await?;
        let (answer, ending) = oneshot::channel();
        self.send(Command::Replay { requests, patience: self.patience, room, answer }).await?;
        self.finish(ending).await
    }

    /// Where the replicas stand, as each says itself. Waits for all, at most for `patience`.
    pub async fn status(&self, patience: Duration) -> Result<Vec<ReplicaState>, ClientError> {
        let (answer, replicas) = oneshot::channel();
        self.send(Command::Status { patience, answer }).await?;
        let mut statuses: BTreeMap<ReplicaId, ReplicaStatus> =
            self.answer(replicas).await??.into_iter().map(|status| (status.replica, status)).collect();
        let states = self.shared.committee.ids().map(|id| ReplicaState {
            id,
            link: self.shared.links.state(id).unwrap_or(LinkState::Dialling),
            status: statuses.remove(&id),
        });
        Ok(states.collect())
    }

    /// f + 1 equal answers of replicas' own states at one revision, without ordering.
    pub(crate) async fn read(
        &self,
        operation: Operation,
        revision: Option<u64>,
        patience: Duration,
    ) -> Result<ReadEnding, ClientError> {
        let (answer, ending) = oneshot::channel();
        self.send(Command::Read { operation, revision, patience, answer }).await?;
        self.answer(ending).await?
    }

    /// The updates of a watch, as long as the driver keeps it up.
    pub(crate) async fn subscribe(&self, range: Operation, start: WatchStart) -> driver::Updates {
        let (answer, updates) = oneshot::channel();
        self.send(Command::Watch { range, start, answer }).await?;
        self.answer(updates).await?
    }

    /// Why links are down, for messages.
    pub fn link_report(&self) -> LinkReport {
        link_report(&self.shared.links)
    }

    /// Ends every request, read and status question under way, as if its patience had ended: callers get what is known,
    /// and the signed bytes of requests whose outcome is not.
    pub async fn give_up(&self) {
        // If the driver is gone, so is everything that was under way.
        let _ = self.shared.commands.send(Command::GiveUp).await;
    }

    /// Closes the links and tells the replicas; waits until they know, at most for `bound`.
    pub async fn shut_down(&self, bound: Duration) {
        self.shared.links.shut_down(bound).await;
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, ClientError> {
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| ClientError::Closed)
    }

    async fn send(&self, command: Command) -> Result<(), ClientError> {
        self.shared.commands.send(command).await.map_err(|_| ClientError::Closed)
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, ClientError> {
        answer.await.map_err(|_| ClientError::Closed)
    }

    async fn finish(&self, ending: oneshot::Receiver<driver::RequestAnswer>) -> Result<Executed, ClientError> {
        let began = Instant::now();
        match self.answer(ending).await?? {
            RequestEnding::Executed { reply, matching } => {
                Ok(Executed { reply, matching, replicas: self.shared.committee.size() })
            }
            RequestEnding::Refused { reason, replicas, requests } => {
                Err(ClientError::Refused { reason, replicas, requests })
            }
            RequestEnding::Unknown { heard, requests } => Err(ClientError::Unknown(Box::new(UnknownOutcome {
                heard,
                requests,
                needed: self.shared.committee.one_honest(),
                links: self.link_report(),
                waited: began.elapsed().as_millis(),
            }))),
        }
    }
}

/// Why links are down. A replica that is still being dialled is left out.
fn link_report(links: &ReplicaLinks) -> LinkReport {
    let down = links.replicas().into_iter().filter_map(|id| match links.state(id) {
        Some(LinkState::Down(error)) => Some((id, error)),
        _ => None,
    });
    LinkReport(down.collect())
}
