//! The node as a library: one replica with its links, its storage and its threads.
//!
//! ```text
//!   peers, clients ─► verification ─► core ─► peers
//!                           │          │ ├──► client service ─► clients
//!                           └──────────┼─┘
//!                                      └────► keeper (snapshots, evidence)
//! ```
//!
//! | thread | what it does | module |
//! |---|---|---|
//! | tokio's | QUIC, HTTP | quorate-transport, `operations` |
//! | verification | decodes, checks limits and signatures, in batches | `verification` |
//! | core | steps the replica, syncs the log, publishes | `process::core` |
//! | clients | routes answers, serves reads and watches | [`crate::clients`] |
//! | keeper | makes snapshots durable, writes evidence down | `process::keeper` |
//!
//! A node misbehaves in no way of its own; [`Node::start`] takes what wraps the replica and what stands between it and
//! its clients, which is where a testnet puts its liars.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use quorate_crypto::ReplicaId;
use quorate_keys::genesis::Address;
use quorate_keys::{Genesis, Identity, PassphraseSource};
use quorate_protocol::engine::Engine;
use quorate_protocol::foundation::Setup;
use quorate_protocol::message::MessageLimits;
use quorate_protocol::replica::Replica;
use quorate_transport::client_port::Admit;
use quorate_transport::limits::SHUTDOWN_BOUND;
use quorate_transport::{
    ClientEndpoint, ClientEndpointConfig, ClientHandle, ClientLimits, PeerConfig, PeerEndpoint, PeerHandle, PeerLimits,
    TransportKey,
};
use tokio::sync::watch;

use crate::clients::{ClientFace, Outgoing, Service, ServiceInput, Sessions};
use crate::config::{Config, Listen};
use crate::disk::FileDisk;
use crate::evidence_store::EvidenceStore;
use crate::failure::NodeError;
use crate::log::{DEFAULT_SEGMENT_BYTES, LogKey, Trust};
use crate::metrics::{Metrics, Readings, TimedDisk};
use crate::operations;
use crate::process::crowd::CrowdSign;
use crate::recovery::{Opened, StorageSettings};
use crate::setup;
use crate::verification::Verification;

mod addresses;
pub(crate) mod core;
pub(crate) mod crowd;
pub(crate) mod inbox;
mod keeper;
mod sending;
mod storage;
pub(crate) mod view;

use self::core::{Core, CoreInput, NodeDriver};
use inbox::Inbox;
use keeper::{Keep, Keeper};
use sending::Sending;
pub use storage::initialise;
use view::CoreView;
pub use view::Standing;

/// The directory of the log in the data directory.
pub const LOG_DIRECTORY: &str = "log";
/// The directory of the snapshots in the data directory.
pub const SNAPSHOT_DIRECTORY: &str = "snapshots";
/// The directory of evidence in the data directory.
pub const EVIDENCE_DIRECTORY: &str = "evidence";

/// Everything a node is given: the configuration with its files loaded and checked against each other.
#[derive(Clone)]
pub struct NodeSettings {
    /// Which replica it is.
    pub replica: ReplicaId,
    /// Its keys.
    pub identity: Identity,
    /// Its cluster.
    pub genesis: Genesis,
    /// Where its data are.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: Listen,
    /// Where it dials others, in place of the genesis file's addresses.
    pub addresses: BTreeMap<ReplicaId, Address>,
    /// Bytes of a segment of the log and of the snapshots, when they are made.
    pub segment_bytes: u64,
}

impl NodeSettings {
    /// Loads the files a configuration names, and checks that they belong together.
    ///
    /// # Errors
    /// [`NodeError::Refused`].
    pub fn load(config: &Config, passphrase: &PassphraseSource) -> Result<NodeSettings, NodeError> {
        let identity = Identity::load(&config.identity, passphrase)?;
        let genesis = Genesis::load(&config.genesis)?;
        setup::check(&genesis, config.replica, &identity)?;
        Ok(NodeSettings {
            replica: config.replica,
            identity,
            genesis,
            data: config.data.clone(),
            listen: config.listen,
            addresses: config.addresses.clone(),
            segment_bytes: DEFAULT_SEGMENT_BYTES,
        })
    }

    /// How the storage is made, with fresh randomness.
    fn storage(&self, trust: Trust) -> StorageSettings {
        StorageSettings {
            cluster: self.genesis.cluster_id(),
            replica: self.replica,
            trust,
            log_segment_bytes: self.segment_bytes,
            snapshot_segment_bytes: self.segment_bytes,
            log_key: LogKey::random(),
            snapshot_key: LogKey::random(),
        }
    }
}

/// A running node. Dropping it ends it at once, as a kill would; [`Node::stop`] ends it gracefully.
pub struct Node {
    core: Arc<Inbox<CoreInput>>,
    peers: PeerHandle,
    clients: ClientHandle,
    operations: Option<SocketAddr>,
    view: Arc<CoreView>,
    metrics: Arc<Metrics>,
    ended: watch::Receiver<Option<Result<(), NodeError>>>,
    threads: Vec<JoinHandle<()>>,
    http: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Starts an honest node. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`Node::start_with`].
    pub async fn start(settings: NodeSettings) -> Result<Node, NodeError> {
        Node::start_with(settings, |replica, _| Box::new(replica), None).await
    }

    /// Opens the storage, binds the ports and starts the threads. `wrap` makes the engine that is run of the honest
    /// replica; `face` stands between it and its clients. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A port in use ([`NodeError::Configuration`]), a key that is not the replica's ([`NodeError::Refused`]), damaged,
    /// foreign or missing data, errors of the storage. Nothing runs then.
    pub async fn start_with<W>(
        settings: NodeSettings,
        wrap: W,
        face: Option<Box<dyn ClientFace>>,
    ) -> Result<Node, NodeError>
    where
        W: FnOnce(Replica, &Setup) -> Box<dyn Engine> + Send + 'static,
    {
        setup::check(&settings.genesis, settings.replica, &settings.identity)?;
        let setup = setup::replica_setup(&settings.genesis, settings.replica, &settings.identity);
        let metrics = Arc::new(Metrics::default());
        let started = Instant::now();
        let opened = storage::open(&settings, setup.clone(), wrap, &metrics, started).await?;
        let ports = Ports::bind(&settings, &opened.driver).await?;
        let view = Arc::new(CoreView::new(settings.replica, Core::standing(settings.replica, &opened.driver)));
        view.set_snapshot_bytes(opened.snapshots.size_on_disk());
        tracing::info!(
            replica = %settings.replica,
            cluster = %settings.genesis.cluster_id().0.short(),
            peers = %ports.peers.local_address(),
            clients = %ports.clients.local_address(),
            snapshot = %opened.from,
            records = opened.records,
            "started"
        );
        Node::run(settings, setup, opened, ports, face, view, metrics, started)
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        settings: NodeSettings,
        setup: Setup,
        opened: Opened<TimedDisk<FileDisk>, Box<dyn Engine>>,
        ports: Ports,
        face: Option<Box<dyn ClientFace>>,
        view: Arc<CoreView>,
        metrics: Arc<Metrics>,
        started: Instant,
    ) -> Result<Node, NodeError> {
        let Opened { driver, snapshots, .. } = opened;
        let Ports { peers, peer_events, clients, client_events, admitted, operations } = ports;
        let inbox: Arc<Inbox<CoreInput>> = Arc::new(Inbox::new());
        let service_inbox = Arc::new(Inbox::new());
        let keeper_inbox = Arc::new(Inbox::new());
        let sessions = Arc::new(Sessions::default());
        let looking = Arc::new(AtomicBool::new(false));
        let client_bytes = Arc::new(AtomicUsize::new(0));
        let crowd = Arc::new(CrowdSign::default());
        let (end, ended) = watch::channel(None);

        let evidence_directory = settings.data.join(EVIDENCE_DIRECTORY);
        let evidence = EvidenceStore::open(
            evidence_directory.clone(),
            settings.replica,
            Arc::clone(&setup.committee),
            setup.parameters.window,
            setup.verifier.clone(),
        )
        .map_err(|error| NodeError::Storage {
            place: evidence_directory.display().to_string(),
            reason: error.to_string(),
        })?;
        let readings = Readings {
            view: Arc::clone(&view),
            peers: peers.clone(),
            peer_ids: setup.committee.ids().filter(|id| *id != settings.replica).collect(),
            clients: clients.clone(),
            sessions: Arc::clone(&sessions),
        };
        let operations_address = operations.as_ref().and_then(|listener| listener.local_addr().ok());
        let http = operations.map(|listener| {
            let operations = operations::Operations::new(
                settings.replica,
                &settings.genesis,
                readings,
                &metrics,
                Arc::clone(&inbox),
                evidence_directory,
            );
            tokio::spawn(operations::serve(listener, operations))
        });

        let core = Core {
            id: settings.replica,
            driver,
            inbox: Arc::clone(&inbox),
            service: Arc::clone(&service_inbox),
            keeper: Arc::clone(&keeper_inbox),
            sending: Sending { peers: peers.clone(), metrics: Arc::clone(&metrics) },
            clients: clients.clone(),
            admitted,
            looking: Arc::clone(&looking),
            client_bytes: Arc::clone(&client_bytes),
            crowd: Arc::clone(&crowd),
            view: Arc::clone(&view),
            metrics: Arc::clone(&metrics),
            data: settings.data.clone(),
            started,
        };
        let keeper = Keeper {
            inbox: Arc::clone(&keeper_inbox),
            core: Arc::clone(&inbox),
            snapshots,
            evidence,
            view: Arc::clone(&view),
            metrics: Arc::clone(&metrics),
            data: settings.data.clone(),
        };
        let service = Service {
            inbox: Arc::clone(&service_inbox),
            core: Arc::clone(&inbox),
            sessions: Arc::clone(&sessions),
            view: Arc::clone(&view),
            looking,
            outgoing: Outgoing { clients: clients.clone(), face },
            metrics: Arc::clone(&metrics),
        };
        let verification = Verification {
            runtime: tokio::runtime::Handle::current(),
            peers: peers.clone(),
            peer_events,
            clients: clients.clone(),
            client_events,
            verifier: setup.verifier.clone(),
            committee: Arc::clone(&setup.committee),
            limits: MessageLimits { window: setup.parameters.window },
            frame_bytes_max: setup.parameters.frame_bytes_max,
            request_bytes_max: usize::try_from(settings.genesis.parameters().request_bytes_max).unwrap_or(usize::MAX),
            core: Arc::clone(&inbox),
            service: Arc::clone(&service_inbox),
            sessions,
            client_bytes,
            crowd,
            metrics: Arc::clone(&metrics),
        };

        let id = settings.replica;
        let threads = vec![
            serving(id, "keeper", &inbox, move || keeper.run())?,
            serving(id, "clients", &inbox, move || service.run())?,
            serving(id, "verify", &inbox, move || verification.run())?,
            thread(id, "core", move || {
                let ending = Ending { service: service_inbox, keeper: keeper_inbox };
                let result = core.run();
                if let Err(error) = &result {
                    tracing::error!("{error}");
                }
                drop(ending);
                end.send_replace(Some(result));
            })?,
        ];
        Ok(Node { core: inbox, peers, clients, operations: operations_address, view, metrics, ended, threads, http })
    }

    /// Where other replicas reach it.
    pub fn peer_address(&self) -> SocketAddr {
        self.peers.local_address()
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> SocketAddr {
        self.clients.local_address()
    }

    /// Where its HTTP is, if it has any.
    pub const fn operations_address(&self) -> Option<SocketAddr> {
        self.operations
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.view.standing()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Peers to whom a link is up.
    pub fn linked(&self) -> Vec<ReplicaId> {
        self.peers.linked()
    }

    /// Waits until the node has ended by itself.
    ///
    /// # Errors
    /// Why: nothing but an error makes it do so.
    pub async fn ended(&mut self) -> Result<(), NodeError> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            // The core's thread panicked: its own message is on stderr.
            Err(_) => Err(panicked("core")),
        }
    }

    /// Ends gracefully: writes what was not yet written, tells the others, waits for the threads.
    ///
    /// # Errors
    /// Why the node had ended before, or the log could not be written.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.end(CoreInput::Stop).await
    }

    /// Ends at once, as a kill would: what was not yet written is lost. Returns when the data can be opened again.
    pub async fn kill(self) {
        // A kill has no outcome.
        let _ = self.end(CoreInput::Abandon).await;
    }

    async fn end(mut self, how: CoreInput) -> Result<(), NodeError> {
        self.core.push(how);
        let result = self.ended().await;
        self.peers.shut_down(SHUTDOWN_BOUND).await;
        self.clients.shut_down(SHUTDOWN_BOUND).await;
        if let Some(http) = self.http.take() {
            http.abort();
        }
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("a thread of the node panicked, which is a bug; its message is above");
        }
        result
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.core.push(CoreInput::Abandon);
        if let Some(http) = self.http.take() {
            http.abort();
        }
    }
}

/// Ends the threads that serve the core when it has ended, a panic included.
struct Ending {
    service: Arc<Inbox<ServiceInput>>,
    keeper: Arc<Inbox<Keep>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.service.push(ServiceInput::Stop);
        self.keeper.push(Keep::Stop);
    }
}

/// Ends the node when a thread that serves the core panics. Without it the node would stay up and be useless: deaf without
/// verification, with a log that only grows without the keeper.
struct EndsWithThread {
    name: &'static str,
    core: Arc<Inbox<CoreInput>>,
}

impl Drop for EndsWithThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.push(CoreInput::Failed(panicked(self.name)));
        }
    }
}

fn panicked(name: &str) -> NodeError {
    NodeError::Storage {
        place: format!("the thread {name}"),
        reason: "it panicked, which is a bug; the message is above".to_owned(),
    }
}

/// A thread that serves the core.
fn serving(
    id: ReplicaId,
    name: &'static str,
    core: &Arc<Inbox<CoreInput>>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let guard = EndsWithThread { name, core: Arc::clone(core) };
    thread(id, name, move || {
        // Moved in, so that it is dropped on this thread.
        let _guard = guard;
        run();
    })
}

fn thread(id: ReplicaId, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NodeError> {
    std::thread::Builder::new().name(format!("r{id}-{name}")).spawn(run).map_err(|error| {
        NodeError::Configuration(format!("cannot start a thread ({error}); raise the limit on threads"))
    })
}

/// The ports, bound.
struct Ports {
    peers: PeerHandle,
    peer_events: quorate_transport::PeerEvents,
    clients: ClientHandle,
    client_events: quorate_transport::ClientEvents,
    admitted: self::core::Admitted,
    operations: Option<tokio::net::TcpListener>,
}

impl Ports {
    async fn bind(settings: &NodeSettings, driver: &NodeDriver) -> Result<Ports, NodeError> {
        let operations = match settings.listen.operations {
            None => None,
            Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(|error| {
                NodeError::Configuration(format!(
                    "cannot use TCP address {address} for operations: {error}; is another process listening there?"
                ))
            })?),
        };
        let cluster = settings.genesis.cluster_id();
        let key = TransportKey::from_secret(settings.identity.transport.clone());
        let (peers, peer_events) = PeerEndpoint::start(PeerConfig {
            my_id: settings.replica,
            key: key.clone(),
            listen: settings.listen.peers,
            peers: addresses::of_peers(settings).await?,
            cluster,
            limits: PeerLimits::default(),
        })?;
        let admitted: self::core::Admitted = Arc::new(RwLock::new(self::core::registered(driver)));
        let known = Arc::clone(&admitted);
        let admit: Admit =
            Arc::new(move |key| known.read().unwrap_or_else(std::sync::PoisonError::into_inner).contains(key));
        let (clients, client_events) = ClientEndpoint::start(ClientEndpointConfig {
            key,
            listen: settings.listen.clients,
            cluster,
            admit,
            limits: ClientLimits::default(),
        })?;
        Ok(Ports { peers, peer_events, clients, client_events, admitted, operations })
    }
}
