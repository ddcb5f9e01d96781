//! A cluster in one process: real QUIC on loopback, real disks in a temporary directory.

#![allow(dead_code, missing_docs)]

#[macro_use]
mod under_both;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Digest, PublicKey, ReplicaId, SecretKey, Signer};
use quorate_keys::genesis::{Address, GenesisClient, GenesisContents, GenesisReplica};
use quorate_keys::{Genesis, Identity, Parameters, Protocol};
use quorate_node::config::Listen;
use quorate_node::log::Trust;
use quorate_node::process::{Node, NodeSettings, initialise};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::reply::Reply;
use quorate_protocol::request::{Operation, Request, RequestContent, SessionId};
use quorate_transport::{
    ClientLimits, PeerAddress, ReplicaEvent, ReplicaEvents, ReplicaLinks, ReplicaLinksConfig, TransportKey,
};
use tempfile::TempDir;

/// Far beyond what anything here takes: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// Milliseconds since the Unix epoch.
pub fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn seed(kind: u8, number: u16) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    seed
}

/// UDP ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect()
}

fn free_tcp_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub struct Cluster {
    pub directory: TempDir,
    pub contents: GenesisContents,
    pub genesis: Genesis,
    pub settings: Vec<NodeSettings>,
    pub nodes: BTreeMap<u16, Node>,
}

/// The secret key of client `number`; 0 to 7 are registered.
pub fn client_key(number: u16) -> SecretKey {
    SecretKey::from_seed(&seed(3, number))
}

pub fn identity(number: u16) -> Identity {
    Identity::from_seeds(&seed(1, number), &seed(2, number))
}

/// The protocol that a cluster of `protocol` does not run.
pub fn other_than(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Pbft => Protocol::HotStuff,
        Protocol::HotStuff => Protocol::Pbft,
    }
}

impl Cluster {
    /// A cluster of `n` replicas whose storage is made, none of them running.
    pub fn new(protocol: Protocol, n: u16, parameters: Parameters) -> Cluster {
        let ports = free_ports(2 * usize::from(n));
        let address = |port: u16| -> Address { format!("127.0.0.1:{port}").parse().unwrap() };
        let replicas = (0..n)
            .map(|id| {
                let public = identity(id).public();
                GenesisReplica {
                    id: ReplicaId(id),
                    consensus_key: public.consensus,
                    transport_key: public.transport,
                    peer_address: address(ports[2 * usize::from(id)]),
                    client_address: address(ports[2 * usize::from(id) + 1]),
                    operations_address: None,
                }
            })
            .collect();
        let clients = (0..8).map(|number| GenesisClient { key: client_key(number).public_key(), name: None }).collect();
        let admins = vec![GenesisClient { key: admin_key().public_key(), name: Some("admin".to_owned()) }];
        let contents = GenesisContents { nonce: [7; 32], protocol, parameters, replicas, clients, admins };
        let genesis = Genesis::new(contents.clone()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let settings: Vec<NodeSettings> = (0..n)
            .map(|id| {
                let settings = NodeSettings {
                    replica: ReplicaId(id),
                    identity: identity(id),
                    genesis: genesis.clone(),
                    data: directory.path().join(format!("node{id}")),
                    listen: Listen {
                        peers: local(ports[2 * usize::from(id)]),
                        clients: local(ports[2 * usize::from(id) + 1]),
                        operations: Some(local(free_tcp_port())),
                    },
                    addresses: BTreeMap::new(),
                    segment_bytes: 1 << 20,
                };
                initialise(&settings, Trust::NewCluster).unwrap();
                settings
            })
            .collect();
        Cluster { directory, contents, genesis, settings, nodes: BTreeMap::new() }
    }

    /// A running cluster of `n` replicas.
    pub async fn start(protocol: Protocol, n: u16, parameters: Parameters) -> Cluster {
        let mut cluster = Cluster::new(protocol, n, parameters);
        for id in 0..n {
            cluster.start_one(id).await;
        }
        cluster
    }

    pub async fn start_one(&mut self, id: u16) {
        let settings = &mut self.settings[usize::from(id)];
        for _ in 0..10 {
            match Node::start(settings.clone()).await {
                Ok(node) => {
                    self.nodes.insert(id, node);
                    return;
                }
                // Whoever else runs here may have taken the port since it was found free.
                Err(error) if error.to_string().contains("for operations") => {
                    settings.listen.operations = Some(local(free_tcp_port()));
                }
                Err(error) => panic!("replica {id} does not start: {error}"),
            }
        }
        panic!("replica {id} finds no free port for operations");
    }

    pub async fn stop_one(&mut self, id: u16) {
        self.nodes.remove(&id).unwrap().stop().await.unwrap();
    }

    pub async fn kill_one(&mut self, id: u16) {
        self.nodes.remove(&id).unwrap().kill().await;
    }

    pub async fn stop(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop().await.unwrap();
        }
    }

    /// Waits until `condition` holds for the node.
    pub async fn until(&self, id: u16, what: &str, condition: impl Fn(&Node) -> bool) {
        within(&format!("replica {id}: {what}"), async {
            while !condition(&self.nodes[&id]) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    pub fn client(&self, number: u16) -> Client {
        Client::connect(self, client_key(number))
    }

    pub fn data(&self, id: u16) -> PathBuf {
        self.settings[usize::from(id)].data.clone()
    }
}

pub fn admin_key() -> SecretKey {
    SecretKey::from_seed(&seed(4, 0))
}

/// A client that says what it wants and looks at every answer itself.
pub struct Client {
    pub links: ReplicaLinks,
    pub events: ReplicaEvents,
    pub key: SecretKey,
    pub genesis: Genesis,
    pub session: SessionId,
    pub number: u64,
    replicas: Vec<ReplicaId>,
}

impl Client {
    pub fn connect(cluster: &Cluster, key: SecretKey) -> Client {
        let replicas = cluster
            .settings
            .iter()
            .map(|settings| PeerAddress {
                id: settings.replica,
                key: settings.identity.public().transport,
                address: settings.listen.clients,
            })
            .collect();
        let (links, events) = ReplicaLinks::start(ReplicaLinksConfig {
            key: TransportKey::from_secret(key.clone()),
            replicas,
            cluster: cluster.genesis.cluster_id(),
            limits: ClientLimits::default(),
        })
        .unwrap();
        let replicas = links.replicas();
        let session = SessionId(rand::random());
        Client { links, events, key, genesis: cluster.genesis.clone(), session, number: 0, replicas }
    }

    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Signs the next request of the session.
    pub fn request(&mut self, operations: Vec<Operation>) -> Request {
        self.number += 1;
        RequestContent {
            client: self.key.public_key(),
            session: self.session,
            number: self.number,
            acknowledged_below: self.number.saturating_sub(64).max(1),
            valid_until: wall() + 60_000,
            operations,
        }
        .sign(self.genesis.cluster_id(), &self.key)
    }

    pub fn send(&self, to: ReplicaId, message: &ClientMessage) {
        let _ = self.links.send(to, Bytes::from(encode(message)));
    }

    pub fn send_all(&self, message: &ClientMessage) {
        for id in &self.replicas {
            self.send(*id, message);
        }
    }

    /// The next message of any replica.
    pub async fn next(&mut self) -> (ReplicaId, ReplicaMessage) {
        loop {
            let event = within("a message", self.events.recv()).await.expect("links are open");
            if let ReplicaEvent::Frame { from, frame } = event {
                return (from, decode(&frame, 4 << 20).expect("a replica's message decodes"));
            }
        }
    }

    /// Waits for `needed` equal replies to a request.
    pub async fn replies(&mut self, request: Digest, needed: usize) -> Reply {
        let mut replies: BTreeMap<ReplicaId, Reply> = BTreeMap::new();
        loop {
            let (from, message) = self.next().await;
            let ReplicaMessage::Reply(reply) = message else { continue };
            if reply.request != request {
                continue;
            }
            replies.insert(from, reply.clone());
            if replies.values().filter(|other| **other == reply).count() >= needed {
                return reply;
            }
        }
    }

    /// Submits to all and repeats until `needed` equal replies are there.
    pub async fn submit(&mut self, operations: Vec<Operation>, needed: usize) -> Reply {
        let request = self.request(operations);
        self.submit_request(&request, needed).await
    }

    pub async fn submit_request(&mut self, request: &Request, needed: usize) -> Reply {
        let digest = request.digest();
        within("replies", async {
            loop {
                self.send_all(&ClientMessage::Submit(request.clone()));
                if let Ok(reply) = tokio::time::timeout(Duration::from_secs(1), self.replies(digest, needed)).await {
                    return reply;
                }
            }
        })
        .await
    }

    pub async fn put(&mut self, key: &str, value: &str) -> Reply {
        self.submit(vec![put(key, value)], 2).await
    }
}

pub fn operation(operation: &quorate_kv::Operation) -> Operation {
    Operation { service: quorate_kv::SERVICE, bytes: operation.to_bytes() }
}

pub fn put(key: &str, value: &str) -> Operation {
    operation(&quorate_kv::Operation::Put(quorate_kv::PutRequest {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        ..quorate_kv::PutRequest::default()
    }))
}

/// A GET over plain HTTP: status code and body.
pub async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let question = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (code, body)
}
