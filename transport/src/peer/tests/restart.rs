//! Processes that die without a word and come back. A "process" here is a tokio runtime of its own: dropping it stops
//! its sockets and tasks without a closing packet, as `kill -9` does.

use std::net::UdpSocket;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use super::*;

fn process() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn kill(process: Runtime, handles: (PeerHandle, PeerEvents), address: SocketAddr) {
    tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.expect("it ends");
    // Only now, when nothing runs that could still send a closing packet.
    drop(handles);
    until("its port is free", || UdpSocket::bind(address).is_ok()).await;
}

fn start(process: &Runtime, config: PeerConfig) -> (PeerHandle, PeerEvents) {
    let _within = process.enter();
    PeerEndpoint::start(config).expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_is_linked_again_by_whoever_dials_first() {
    let [first, second] = free_addresses();
    let members = [member(1, first), member(2, second)];
    let (one, mut one_events) = PeerEndpoint::start(config(members[0], &members)).expect("starts");
    for round in 0..3 {
        let before = process();
        let (two, two_events) = start(&before, config(members[1], &members));
        up(&mut one_events, 2).await;
        kill(before, (two, two_events), second).await;

        let after = process();
        let restarted = Instant::now();
        let (two, mut two_events) = start(&after, config(members[1], &members));
        up(&mut two_events, 1).await;
        eprintln!("round {round}: linked again {:?} after the restart", restarted.elapsed());
        up(&mut one_events, 2).await;
        until("the new link is in use", || {
            let _ = one.send(ReplicaId(2), Class::Vote, Bytes::from_static(b"to the new process"));
            two.metrics().frames_received[0].get() > 0
        })
        .await;
        assert_eq!(next_frame(&mut two_events).await.0, ReplicaId(1));
        kill(after, (two, two_events), second).await;
    }
}

/// The restarted process does not dial (it has the wrong address of its peer), so only its stateless reset can tell
/// the peer; without one this would take the idle timeout of two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateless_reset_tells_of_a_restart() {
    let [first, second, nowhere] = free_addresses();
    let members = [member(1, first), member(2, second)];
    let deaf = [PeerAddress { address: nowhere, ..members[0] }];
    let (one, mut one_events) = PeerEndpoint::start(config(members[0], &members)).expect("starts");
    let before = process();
    let two = start(&before, config(members[1], &deaf));
    up(&mut one_events, 2).await;
    // Only a link that was stable is dialled anew at once.
    tokio::time::sleep(crate::limits::STABLE_AFTER).await;
    kill(before, two, second).await;
    let after = process();
    let restarted = Instant::now();
    let (two, mut two_events) = start(&after, config(members[1], &deaf));
    one.send(ReplicaId(2), Class::Vote, Bytes::from(vec![0; 200])).expect("room");
    up(&mut two_events, 1).await;
    eprintln!("linked again {:?} after the restart, by stateless reset", restarted.elapsed());
    kill(after, (two, two_events), second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_link_of_another_process_replaces_the_old_one() {
    use crate::stream::open;
    use crate::test_links::{BareDialler, key};
    use crate::tls::Port;

    let [first, second] = free_addresses();
    let members = [member(1, first), member(2, second)];
    let (one, mut one_events) = PeerEndpoint::start(config(members[0], &members)).expect("starts");
    let tls = crate::tls::client_config(Port::Peer, &key(2), &CLUSTER, members[0].key).expect("a key");
    let config = crate::quic::client_config(tls, Role::Replica, first);
    let dialler = BareDialler::new(Port::Peer, key(2));
    let old = dialler.dial_with(config.clone(), first, 10).await.expect("a member");
    up(&mut one_events, 2).await;
    let new = dialler.dial_with(config, first, 11).await.expect("a member");
    down(&mut one_events, 2).await;
    up(&mut one_events, 2).await;
    let closed = within("the old link is closed", old.connection.closed()).await;
    assert_eq!(crate::error::explain(&closed, None), crate::LinkError::Replaced);
    one.send(ReplicaId(2), Class::Vote, Bytes::from_static(b"hello")).expect("room");
    let mut incoming = new.incoming;
    let mut bytes = [0; 9];
    within("a frame on the new link", incoming.read_exact(&mut bytes)).await.expect("open");
    assert_eq!(&bytes, b"\x00\x00\x00\x05hello");
    // A third of the same process takes over too, but the second stays as the spare and still delivers.
    let mut bulk = open(&new.connection, 2, 11).await.expect("open");
    bulk.write_all(b"\x00\x00\x00\x05state").await.expect("open");
    assert_eq!(next_frame(&mut one_events).await, (ReplicaId(2), Class::Bulk, Bytes::from_static(b"state")));
}
