//! A crude closed loop against a cluster in this process:
//! `closed_loop [pbft|hotstuff] [links] [in flight] [seconds] [value bytes]`.
//!
//! Each link keeps a number of puts in flight, sends each to all replicas and counts it when f + 1 equal replies are
//! there. One process holds everything, so its CPU time is that of all replicas and clients together. For comparing
//! versions of the node on one machine; `quorate-testnet bench` measures a cluster of processes.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Digest, ReplicaId, SecretKey, Signer as _};
use quorate_keys::genesis::{Address, GenesisClient, GenesisContents, GenesisReplica};
use quorate_keys::{Genesis, Identity, Parameters, Protocol};
use quorate_node::config::Listen;
use quorate_node::log::Trust;
use quorate_node::process::{Node, NodeSettings, initialise};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::request::{Operation, RequestContent, SessionId};
use quorate_transport::{ClientLimits, PeerAddress, ReplicaEvent, ReplicaLinks, ReplicaLinksConfig, TransportKey};

fn seed(kind: u8, number: u16) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    seed
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn settings(protocol: Protocol, n: u16, links: u16, directory: &std::path::Path) -> anyhow::Result<Vec<NodeSettings>> {
    let sockets: Vec<UdpSocket> =
        (0..2 * n).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let ports: Vec<u16> =
        sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<std::io::Result<_>>()?;
    let address = |port: u16| -> anyhow::Result<Address> { Ok(format!("127.0.0.1:{port}").parse()?) };
    let identity = |id: u16| Identity::from_seeds(&seed(1, id), &seed(2, id));
    let replicas = (0..n)
        .map(|id| {
            let public = identity(id).public();
            Ok(GenesisReplica {
                id: ReplicaId(id),
                consensus_key: public.consensus,
                transport_key: public.transport,
                peer_address: address(ports[2 * usize::from(id)])?,
                client_address: address(ports[2 * usize::from(id) + 1])?,
                operations_address: None,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let clients = (0..links)
        .map(|number| GenesisClient { key: SecretKey::from_seed(&seed(3, number)).public_key(), name: None })
        .collect();
    let genesis = Genesis::new(GenesisContents {
        nonce: [7; 32],
        protocol,
        parameters: Parameters::default(),
        replicas,
        clients,
        admins: Vec::new(),
    })?;
    (0..n)
        .map(|id| {
            let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let settings = NodeSettings {
                replica: ReplicaId(id),
                identity: identity(id),
                genesis: genesis.clone(),
                data: directory.join(format!("node{id}")),
                listen: Listen {
                    peers: local(ports[2 * usize::from(id)]),
                    clients: local(ports[2 * usize::from(id) + 1]),
                    operations: None,
                },
                addresses: BTreeMap::new(),
                segment_bytes: 16 << 20,
            };
            initialise(&settings, Trust::NewCluster)?;
            Ok(settings)
        })
        .collect()
}

/// One link's load. Returns the latencies of what was done after `from`.
async fn load(
    settings: Vec<NodeSettings>,
    number: u16,
    in_flight: usize,
    value: usize,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let key = SecretKey::from_seed(&seed(3, number));
    let cluster = settings[0].genesis.cluster_id();
    let replicas = settings
        .iter()
        .map(|settings| PeerAddress {
            id: settings.replica,
            key: settings.identity.public().transport,
            address: settings.listen.clients,
        })
        .collect();
    let (links, mut events) = ReplicaLinks::start(ReplicaLinksConfig {
        key: TransportKey::from_secret(key.clone()),
        replicas,
        cluster,
        limits: ClientLimits::default(),
    })?;
    let session = SessionId(seed(9, number)[..16].try_into()?);
    let (mut next, mut waiting) = (0u64, HashMap::<Digest, (Instant, u64, u32, Bytes)>::new());
    let mut open = std::collections::BTreeSet::new();
    let mut latencies = Vec::new();
    let mut frames = Vec::new();
    loop {
        while waiting.len() < in_flight && Instant::now() < until {
            next += 1;
            open.insert(next);
            let put = quorate_kv::PutRequest {
                key: format!("key-{number}-{}", next % 1000).into_bytes(),
                value: vec![b'v'; value],
                ..quorate_kv::PutRequest::default()
            };
            let content = RequestContent {
                client: key.public_key(),
                session,
                number: next,
                acknowledged_below: open.first().copied().unwrap_or(next),
                valid_until: wall() + 60_000,
                operations: vec![Operation { service: 1, bytes: quorate_kv::Operation::Put(put).to_bytes() }],
            };
            let request = content.sign(cluster, &key);
            let digest = request.digest();
            let frame = Bytes::from(encode(&ClientMessage::Submit(request)));
            for settings in &settings {
                links.send(settings.replica, frame.clone())?;
            }
            waiting.insert(digest, (Instant::now(), next, 0, frame));
        }
        if waiting.is_empty() {
            return Ok(latencies);
        }
        if tokio::time::timeout(Duration::from_millis(500), events.recv_many(&mut frames, 256)).await.is_err() {
            for (_, _, _, frame) in waiting.values() {
                for settings in &settings {
                    links.send(settings.replica, frame.clone())?;
                }
            }
            continue;
        }
        for event in frames.drain(..) {
            let ReplicaEvent::Frame { frame, .. } = event else { continue };
            let ReplicaMessage::Reply(reply) = decode(&frame, 4 << 20)? else { continue };
            let Some(entry) = waiting.get_mut(&reply.request) else { continue };
            entry.2 += 1;
            if entry.2 == 2 {
                let (since, number, _, _) = waiting.remove(&reply.request).unwrap_or_else(|| unreachable!());
                open.remove(&number);
                if since >= from {
                    latencies.push(since.elapsed());
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut words = std::env::args().skip(1).peekable();
    let named = words.peek().and_then(|word| Protocol::from_name(word));
    let words = words.skip(usize::from(named.is_some()));
    let arguments: Vec<u64> = words.map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let argument = |place: usize, default: u64| arguments.get(place).copied().unwrap_or(default);
    let (links, in_flight, seconds, value) = (argument(0, 8), argument(1, 64), argument(2, 10), argument(3, 128));
    let directory = tempfile::tempdir()?;
    let settings = settings(named.unwrap_or(Protocol::Pbft), 4, links as u16, directory.path())?;
    let mut nodes = Vec::new();
    for settings in &settings {
        nodes.push(Node::start(settings.clone()).await?);
    }
    let from = Instant::now() + Duration::from_secs(2);
    let until = from + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..links)
        .map(|number| {
            tokio::spawn(load(settings.clone(), number as u16, in_flight as usize, value as usize, from, until))
        })
        .collect();
    tokio::time::sleep_until(from.into()).await;
    let counts = |node: &Node| (node.standing().syncs, node.standing().status.executed.0, node.standing().frame_bytes);
    let (before, cpu) = (counts(&nodes[0]), cpu_seconds());
    tokio::time::sleep_until(until.into()).await;
    let (after, cpu) = (counts(&nodes[0]), cpu_seconds() - cpu);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    let count = latencies.len().max(1);
    let at = |share: f64| latencies.get(((count - 1) as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{:.0} puts/s; p50 {:?} p90 {:?} p99 {:?} max {:?}; {:.1} us CPU a put (all replicas and clients); batch {:.1}; {:.2} syncs a batch; {:.0} log bytes a put; view changes {:?}",
        count as f64 / seconds as f64,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        cpu * 1e6 / count as f64,
        count as f64 / (after.1 - before.1).max(1) as f64,
        (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64,
        (after.2 - before.2) as f64 / count as f64,
        nodes.iter().map(|node| node.standing().status.view_changes).collect::<Vec<_>>(),
    );
    for (id, node) in nodes.iter().enumerate() {
        let metrics = node.metrics();
        println!(
            "replica {id}: {} B of requests a put to peers, {} fetches, {:.1} inputs a turn, {} turns",
            metrics.request_bytes_sent.get() / count as u64,
            metrics.request_fetches.get(),
            metrics.inputs.get() as f64 / metrics.turns.get().max(1) as f64,
            metrics.turns.get(),
        );
    }
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
