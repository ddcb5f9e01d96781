use std::collections::BTreeSet;

use quorate_crypto::ReplicaId;

use super::*;
use crate::peer::PeerAddress;
use crate::replica_link::{LinkState, ReplicaEvent, ReplicaEvents, ReplicaLinks, ReplicaLinksConfig};
use crate::test_links::{BareDialler, CLUSTER, OTHER_CLUSTER, PATIENCE, free_addresses, key, until, within};

const REPLICA: ReplicaId = ReplicaId(0);
const KNOWN: u8 = 50;
const UNKNOWN: u8 = 51;

struct TestPort {
    handle: ClientHandle,
    events: ClientEvents,
    known: Arc<Mutex<BTreeSet<PublicKey>>>,
    address: PeerAddress,
}

fn port_with(limits: ClientLimits) -> TestPort {
    let known = Arc::new(Mutex::new(BTreeSet::from([key(KNOWN).public_key()])));
    let asked = Arc::clone(&known);
    port_that_admits(Arc::new(move |key| lock(&asked).contains(key)), known, limits)
}

fn port_that_admits(admit: Admit, known: Arc<Mutex<BTreeSet<PublicKey>>>, limits: ClientLimits) -> TestPort {
    let [listen] = free_addresses();
    let config = ClientEndpointConfig { key: key(0), listen, cluster: CLUSTER, admit, limits };
    let (handle, events) = ClientEndpoint::start(config).expect("starts");
    TestPort { handle, events, known, address: PeerAddress { id: REPLICA, key: key(0).public_key(), address: listen } }
}

fn client(seed: u8, replica: PeerAddress, cluster: ClusterId) -> (ReplicaLinks, ReplicaEvents) {
    let config =
        ReplicaLinksConfig { key: key(seed), replicas: vec![replica], cluster, limits: ClientLimits::default() };
    ReplicaLinks::start(config).expect("starts")
}

async fn refusal(links: &ReplicaLinks) -> LinkError {
    let mut state = links.watch_state(REPLICA).expect("a replica");
    let state = within("a refusal", state.wait_for(|state| matches!(state, LinkState::Down(_)))).await;
    match &*state.expect("open") {
        LinkState::Down(error) => error.clone(),
        other => panic!("{other:?}"),
    }
}

async fn connected(port: &mut TestPort) -> ConnectionId {
    within("a client connects", async {
        loop {
            if let ClientEvent::Connected { connection, .. } = port.events.recv().await.expect("open") {
                return connection;
            }
        }
    })
    .await
}

async fn request(port: &mut TestPort) -> (ConnectionId, Bytes) {
    within("a request", async {
        loop {
            if let ClientEvent::Frame { connection, frame } = port.events.recv().await.expect("open") {
                return (connection, frame.into_parts().0);
            }
        }
    })
    .await
}

async fn reply(events: &mut ReplicaEvents) -> Bytes {
    within("a reply", async {
        loop {
            if let ReplicaEvent::Frame { frame, .. } = events.recv().await.expect("open") {
                return frame.into_parts().0;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_replies_pass_both_ways() {
    let mut port = port_with(ClientLimits::default());
    let (links, mut events) = client(KNOWN, port.address, CLUSTER);
    for length in [1, 200, 100_000, ClientLimits::default().request_cap_bytes] {
        let sent = Bytes::from(vec![5; length]);
        links.send(REPLICA, sent.clone()).expect("room");
        let (connection, received) = request(&mut port).await;
        assert_eq!(received, sent);
        port.handle.send(connection, received).expect("open");
        assert_eq!(reply(&mut events).await, sent);
    }
    links.send(REPLICA, Bytes::from_static(b"all you have")).expect("room");
    let (connection, _) = request(&mut port).await;
    // Many times what is buffered for sending.
    let largest = Bytes::from(vec![6; ClientLimits::default().reply_cap_bytes]);
    port.handle.send(connection, largest.clone()).expect("open");
    assert_eq!(reply(&mut events).await, largest);
    assert_eq!(links.state(REPLICA), Some(LinkState::Up));
    assert_eq!(port.handle.connections(), 1);
    links.shut_down(PATIENCE).await;
    within("the end is told", async {
        loop {
            if let ClientEvent::Closed { reason, .. } = port.events.recv().await.expect("open") {
                assert_eq!(reason, LinkError::ShutDown);
                return;
            }
        }
    })
    .await;
    assert_eq!(port.handle.connections(), 0);
    assert_eq!(lock(&port.handle.owner.shared.clients).places, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_client_key_is_told_so_until_it_is_registered() {
    let mut port = port_with(ClientLimits::default());
    let (links, _events) = client(UNKNOWN, port.address, CLUSTER);
    let error = refusal(&links).await;
    assert_eq!(error, LinkError::UnknownClientKey);
    assert!(error.to_string().starts_with("unknown client key"));
    assert!(port.handle.metrics().connections_refused.get() > 0);
    lock(&port.known).insert(key(UNKNOWN).public_key());
    connected(&mut port).await;
    until("the client knows", || links.state(REPLICA) == Some(LinkState::Up)).await;

    lock(&port.known).remove(&key(UNKNOWN).public_key());
    port.handle.recheck();
    assert!(matches!(refusal(&links).await, LinkError::KeyRemoved | LinkError::UnknownClientKey));
    until("it is gone", || port.handle.connections() == 0).await;
}

/// The look at all connections that follows a removal may come before a connection that was admitted just now stands among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_removed_while_its_connection_is_made_does_not_stay() {
    let admitted = std::sync::atomic::AtomicBool::new(true);
    let once: Admit = Arc::new(move |_| admitted.swap(false, std::sync::atomic::Ordering::SeqCst));
    let port = port_that_admits(once, Arc::default(), ClientLimits::default());
    let (links, _events) = client(KNOWN, port.address, CLUSTER);
    until("it was let in and told to go", || port.handle.metrics().handshakes_completed.get() > 0).await;
    assert!(matches!(refusal(&links).await, LinkError::KeyRemoved | LinkError::UnknownClientKey));
    until("it is gone", || port.handle.connections() == 0).await;
    assert_eq!(lock(&port.handle.owner.shared.clients).places, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_has_its_own_sentence() {
    let port = port_with(ClientLimits::default());
    let address = port.address.address;
    let impostor = PeerAddress { key: key(9).public_key(), ..port.address };
    let (links, _events) = client(KNOWN, impostor, CLUSTER);
    assert_eq!(refusal(&links).await, LinkError::WrongReplicaKey { address, id: REPLICA });
    let (links, _events) = client(KNOWN, port.address, OTHER_CLUSTER);
    assert_eq!(refusal(&links).await, LinkError::ClusterMismatch { address });
    let [nobody] = free_addresses();
    let (links, _events) = client(KNOWN, PeerAddress { address: nobody, ..port.address }, CLUSTER);
    assert_eq!(refusal(&links).await, LinkError::NobodyListens { address: nobody });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_comes_back_after_the_replica_does() {
    let port = port_with(ClientLimits::default());
    let (links, mut events) = client(KNOWN, port.address, CLUSTER);
    until("up", || links.state(REPLICA) == Some(LinkState::Up)).await;
    let (listen, cluster) = (port.address.address, CLUSTER);
    port.handle.shut_down(PATIENCE).await;
    let told = refusal(&links).await;
    assert!(
        matches!(told, LinkError::ShutDown | LinkError::Refused { .. } | LinkError::NobodyListens { .. }),
        "{told}"
    );
    drop(port);
    until("the port is free", || std::net::UdpSocket::bind(listen).is_ok()).await;
    let config = ClientEndpointConfig {
        key: key(0),
        listen,
        cluster,
        admit: Arc::new(|_| true),
        limits: ClientLimits::default(),
    };
    let (handle, mut server_events) = ClientEndpoint::start(config).expect("starts");
    links.send(REPLICA, Bytes::from_static(b"again")).expect("waits for the link");
    within("a request over the new link", async {
        loop {
            if let ClientEvent::Frame { connection, frame } = server_events.recv().await.expect("open") {
                handle.send(connection, frame.into_parts().0).expect("open");
                return;
            }
        }
    })
    .await;
    assert_eq!(reply(&mut events).await, "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_capped_by_key_and_in_all() {
    let mut port = port_with(ClientLimits { connections: 3, connections_per_key: 2, ..ClientLimits::default() });
    lock(&port.known).insert(key(UNKNOWN).public_key());
    let first = client(KNOWN, port.address, CLUSTER);
    let _second = client(KNOWN, port.address, CLUSTER);
    connected(&mut port).await;
    connected(&mut port).await;
    let third = client(KNOWN, port.address, CLUSTER);
    assert_eq!(refusal(&third.0).await, LinkError::TooManyConnections);
    let _other = client(UNKNOWN, port.address, CLUSTER);
    connected(&mut port).await;
    assert_eq!(port.handle.connections(), 3);
    drop(first);
    // The place is free once the end of the first was delivered; the third tries on by itself.
    connected(&mut port).await;
    until("in its place", || third.0.state(REPLICA) == Some(LinkState::Up)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_disconnected_at_the_cap() {
    let mut port = port_with(ClientLimits::default());
    // A bare connection: it accepts the reply stream and never reads it.
    let dialler = BareDialler::new(Port::Client, key(KNOWN));
    let link = within("a link", dialler.dial(CLUSTER, port.address.key, port.address.address)).await.expect("known");
    let connection = connected(&mut port).await;
    let cap = ClientLimits::default().outbound_cap_bytes;
    let answer = Bytes::from(vec![1; 100_000]);
    let mut sent = 0;
    within("it is disconnected", async {
        while port.handle.send(connection, answer.clone()).is_ok() {
            sent += answer.len();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let in_flight = 2 << 20;
    assert!(sent <= cap + in_flight, "{sent} bytes were taken");
    let closed = within("it is told", link.connection.closed()).await;
    assert_eq!(crate::error::explain(&closed, None), LinkError::SlowReader);
    assert_eq!(port.handle.metrics().slow_readers.get(), 1);
    assert_eq!(port.handle.send(connection, answer), Err(SendToClientError::Gone(connection)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_held_for_a_client_that_acknowledges_nothing() {
    let mut port = port_with(ClientLimits::default());
    let replica = port.address;
    let (linked, is_linked) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    // It grants windows without end, and then its runtime stands still.
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let link = runtime.block_on(async {
            let dialler = BareDialler::new(Port::Client, key(KNOWN));
            let tls = tls::client_config(Port::Client, &key(KNOWN), &CLUSTER, replica.key).expect("a key");
            let mut transport = quinn::TransportConfig::default();
            transport.stream_receive_window(quinn::VarInt::from_u32(64 << 20));
            let mut config = quinn::ClientConfig::new(tls);
            config.transport_config(Arc::new(transport));
            within("a link", dialler.dial_with(config, replica.address, 1)).await.expect("known")
        });
        let _ = linked.send(());
        let _ = ended.recv();
        drop(link);
    });
    within("a link", is_linked).await.expect("no panic");
    let connection = connected(&mut port).await;
    let answer = Bytes::from(vec![1; 100_000]);
    for _ in 0..40 {
        port.handle.send(connection, answer.clone()).expect("room");
    }
    let put_in = 40 * (answer.len() + crate::limits::FRAME_OVERHEAD_BYTES);
    let taken = || put_in - port.handle.waiting_bytes(connection).expect("open");
    let window = crate::limits::CLIENT_SEND_WINDOW_BYTES as usize;
    until("the window is full", || taken() >= window).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let bound = window + crate::limits::WRITE_BATCH_BYTES + 2 * answer.len();
    assert!(taken() <= bound, "{} bytes were taken, the bound is {bound}", taken());
    drop(end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_is_stalled_at_its_budget() {
    let mut port = port_with(ClientLimits::default());
    let dialler = BareDialler::new(Port::Client, key(KNOWN));
    let mut link =
        within("a link", dialler.dial(CLUSTER, port.address.key, port.address.address)).await.expect("known");
    connected(&mut port).await;
    let frame = [1_000_u32.to_be_bytes().as_slice(), &[7; 1_000]].concat();
    let mut written = 0;
    while let Ok(outcome) = tokio::time::timeout(Duration::from_millis(500), link.outgoing.write_all(&frame)).await {
        outcome.expect("open");
        written += frame.len();
        assert!(written < 64 << 20, "nothing stops the flood");
    }
    let limits = ClientLimits::default();
    let bound = limits.inbound_budget_bytes + crate::limits::CLIENT_WINDOW_BYTES as usize + (256 << 10);
    assert!(written <= bound, "{written} bytes were taken, the bound is {bound}");
}

/// It is not read, nor is another connection of its key, whenever that was opened; what they sent comes after that, and a
/// connection of another key is read meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_rests_is_read_later_and_loses_nothing() {
    let mut port = port_with(ClientLimits::default());
    let (resting, _first) = client(KNOWN, port.address, CLUSTER);
    let connection = connected(&mut port).await;
    lock(&port.known).insert(key(UNKNOWN).public_key());
    let (brisk, _second) = client(UNKNOWN, port.address, CLUSTER);
    let other = connected(&mut port).await;
    port.handle.rest(key(KNOWN).public_key(), Duration::from_hours(1), Duration::from_millis(1_500));
    let began = std::time::Instant::now();
    let (anew, _third) = client(KNOWN, port.address, CLUSTER);
    let new = connected(&mut port).await;
    anew.send(REPLICA, Bytes::from_static(b"new")).expect("queued");
    // What is read already when it begins to rest may still come.
    for number in 0..20 {
        resting.send(REPLICA, Bytes::from(vec![number])).expect("queued");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    brisk.send(REPLICA, Bytes::from_static(b"other")).expect("queued");
    let mut own = Vec::new();
    let mut before = None;
    while own.len() < 20 {
        if let ClientEvent::Frame { connection: from, frame } =
            within("a frame", port.events.recv()).await.expect("open")
        {
            if from == connection {
                own.push(frame[0]);
            } else if from == new {
                assert!(began.elapsed() >= Duration::from_millis(1_400), "to connect anew is no way round");
            } else {
                assert_eq!(from, other);
                before = Some(own.len());
            }
        }
    }
    assert_eq!(own, (0..20).collect::<Vec<u8>>(), "all, in order");
    assert!(began.elapsed() >= Duration::from_millis(1_400));
    assert!(before.expect("the other one was read") <= 1, "{before:?} frames came first");
    assert_eq!(port.handle.metrics().rests.get(), 1);
}

/// Judgement of what a connection sent may come after it hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_hung_up_rests_all_the_same() {
    let mut port = port_with(ClientLimits::default());
    let first = client(KNOWN, port.address, CLUSTER);
    connected(&mut port).await;
    drop(first);
    within("the end", async {
        while !matches!(port.events.recv().await.expect("open"), ClientEvent::Closed { .. }) {}
    })
    .await;
    port.handle.rest(key(KNOWN).public_key(), Duration::from_hours(1), Duration::from_millis(1_500));
    let began = std::time::Instant::now();
    let (anew, _events) = client(KNOWN, port.address, CLUSTER);
    connected(&mut port).await;
    anew.send(REPLICA, Bytes::from_static(b"new")).expect("queued");
    within("a frame", async { while !matches!(port.events.recv().await.expect("open"), ClientEvent::Frame { .. }) {} })
        .await;
    assert!(began.elapsed() >= Duration::from_millis(1_400), "to connect anew is no way round");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_frames_and_streams_hold_for_clients_too() {
    let mut port = port_with(ClientLimits::default());
    let dialler = BareDialler::new(Port::Client, key(KNOWN));
    for case in 0..2 {
        let mut link =
            within("a link", dialler.dial(CLUSTER, port.address.key, port.address.address)).await.expect("known");
        connected(&mut port).await;
        if case == 0 {
            link.outgoing.write_all(&u32::MAX.to_be_bytes()).await.expect("open");
        } else {
            let mut second = link.connection.open_uni().await.expect("open");
            second.write_all(b"x").await.expect("open");
        }
        let closed = within("it is closed", link.connection.closed()).await;
        assert!(matches!(crate::error::explain(&closed, None), LinkError::Violation(_)), "{closed}");
    }
    let metrics = port.handle.metrics();
    assert_eq!((metrics.oversize_frames.get(), metrics.violations.get()), (1, 1));
}
