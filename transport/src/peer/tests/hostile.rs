//! Strangers, impostors, and members that break the rules.

use std::net::{Ipv4Addr, UdpSocket};

use quinn::Connection;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::LinkError;
use crate::stream::{Established, open};
use crate::test_links::{BareDialler, OTHER_CLUSTER, key};

/// A member that waits for links, and the address to find it.
fn target() -> (PeerHandle, PeerEvents, PeerAddress) {
    let [first, second, third] = free_addresses();
    let me = member(1, first);
    let (handle, events) = PeerEndpoint::start(config(me, &[me, member(2, second), member(3, third)])).expect("starts");
    (handle, events, me)
}

async fn dial_as(
    seed: u8,
    cluster: ClusterId,
    pinned: PublicKey,
    address: SocketAddr,
) -> Result<Established, LinkError> {
    let dialler = BareDialler::new(Port::Peer, key(seed));
    let outcome = within("an answer", dialler.dial(cluster, pinned, address)).await;
    // The connection lives on for as long as its own handle does.
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_key_is_refused() {
    let (handle, _events, me) = target();
    let error = dial_as(99, CLUSTER, me.key, me.address).await.unwrap_err();
    assert_eq!(error, LinkError::OwnKeyRefused { address: me.address });
    until("it is counted", || handle.metrics().handshakes_failed.get() >= 1).await;
    assert!(handle.linked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_members_key_does_not_pass_for_the_dialled_one() {
    let (handle, _events, me) = target();
    for wrong in [key(3).public_key(), key(99).public_key()] {
        let error = dial_as(2, CLUSTER, wrong, me.address).await.unwrap_err();
        assert_eq!(error, LinkError::WrongReplicaKey { address: me.address, id: ReplicaId(0) });
    }
    assert!(handle.linked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_with_a_wrong_key_for_each_other_never_link() {
    let [first, second] = free_addresses();
    let (one, two) = (member(1, first), member(2, second));
    // Replica 1 has the key of replica 3 in its genesis file under number 2.
    let swapped = PeerAddress { key: key(3).public_key(), ..two };
    let (one, _one_events) = PeerEndpoint::start(config(one, &[swapped])).expect("starts");
    let (two, _two_events) = PeerEndpoint::start(config(two, &[member(1, first)])).expect("starts");
    until("both were refused", || {
        one.metrics().handshakes_failed.get() >= 2 && two.metrics().handshakes_failed.get() >= 2
    })
    .await;
    assert!(one.linked().is_empty() && two.linked().is_empty());
    assert_eq!(one.metrics().links_up.get() + two.metrics().links_up.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_and_the_other_port_are_refused() {
    let (handle, _events, me) = target();
    let error = dial_as(2, OTHER_CLUSTER, me.key, me.address).await.unwrap_err();
    assert_eq!(error, LinkError::ClusterMismatch { address: me.address });
    let client = BareDialler::new(Port::Client, key(2));
    let error = within("an answer", client.dial(CLUSTER, me.key, me.address)).await.unwrap_err();
    assert_eq!(error, LinkError::ClusterMismatch { address: me.address });
    assert!(handle.linked().is_empty());
}

/// Dials with a rustls configuration of the test's own, with the right ALPN name.
async fn dial_with_tls(
    me: PeerAddress,
    change: impl FnOnce(&mut rustls::ClientConfig),
) -> Result<Established, LinkError> {
    use quinn_proto::crypto::rustls::QuicClientConfig;
    let mut tls = tls::bare_client_config(&key(2), me.key);
    tls.alpn_protocols = vec![b"quorate-peer/1/c1c1c1c1c1c1c1c1".to_vec()];
    change(&mut tls);
    let tls = Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3"));
    let dialler = BareDialler::new(Port::Peer, key(2));
    within("an answer", dialler.dial_with(client_config(tls, Role::Replica, me.address), me.address, 1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_must_prove_its_key_and_name_the_protocol() {
    let (handle, _events, me) = target();
    assert!(dial_with_tls(me, |_| {}).await.is_ok(), "the unchanged configuration links");
    let no_key = dial_with_tls(me, |tls| {
        tls.client_auth_cert_resolver = Arc::new(tls::NoKey);
    })
    .await;
    assert!(no_key.is_err());
    let borrowed = dial_with_tls(me, |tls| {
        tls.client_auth_cert_resolver = Arc::new(tls::borrowed_identity(&key(2).public_key(), &key(99)));
    })
    .await;
    assert!(borrowed.is_err(), "a member's key with a stranger's signature");
    let unnamed = dial_with_tls(me, |tls| tls.alpn_protocols.clear()).await;
    assert!(unnamed.is_err(), "no ALPN name");
    until("each was counted", || handle.metrics().handshakes_failed.get() >= 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_kind_or_none_at_all_is_refused() {
    let (handle, _events, me) = target();
    let (shown, held) = tls::other_kind_of_key();
    let p256 = Arc::new(rustls::sign::CertifiedKey::new(vec![shown], held));
    let junk = |bytes: &[u8]| {
        let held = Arc::clone(&key(2).certified_key().expect("a key").key);
        Arc::new(rustls::sign::CertifiedKey::new(vec![bytes.to_vec().into()], held))
    };
    let member = crate::key::raw_public_key(&key(2).public_key());
    let mut longer = member.clone();
    longer.push(0);
    let identities = [p256, junk(b""), junk(&[0x30]), junk(&member[..43]), junk(&longer), junk(&[0x30; 2_000])];
    for identity in identities {
        let outcome = dial_with_tls(me, |tls| {
            tls.client_auth_cert_resolver = Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(identity));
        })
        .await;
        assert!(outcome.is_err());
    }
    assert_eq!(handle.metrics().links_up.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impostor_who_shows_the_pinned_key_without_holding_it_is_refused() {
    let name = b"quorate-peer/1/c1c1c1c1c1c1c1c1";
    let pinned = key(2).public_key();
    let (p256, p256_key) = tls::other_kind_of_key();
    let shown = crate::key::raw_public_key(&pinned);
    let cases = [
        (tls::impostor_config(&pinned, &key(2), name), true),
        (tls::impostor_config(&pinned, &key(99), name), false),
        (tls::impostor_config(&key(99).public_key(), &key(99), name), false),
        (tls::impostor_with(p256, Arc::clone(&p256_key), name), false),
        (tls::impostor_with(shown.into(), p256_key, name), false),
        (tls::impostor_config(&pinned, &key(2), b"quorate-peer/2/c1c1c1c1c1c1c1c1"), false),
    ];
    for (nth, (server, honest)) in cases.into_iter().enumerate() {
        let configs = ServerConfigs::new(server, &key(2), Port::Peer, Role::Replica);
        let [address] = free_addresses();
        let endpoint = bind(address, &key(2), Port::Peer, Some(&configs)).expect("a free port");
        let server = tokio::spawn(async move {
            let connection = endpoint.accept().await?.accept().ok()?.await.ok()?;
            let link = crate::stream::establish(connection, 5, PATIENCE).await.ok()?;
            link.connection.closed().await;
            Some(())
        });
        let outcome = dial_as(1, CLUSTER, pinned, address).await;
        assert_eq!(outcome.is_ok(), honest, "case {nth}: {outcome:?}");
        drop(outcome);
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_the_door_does_not_disturb_who_is_inside() {
    let ([one, two], [_one_events, mut two_events], members) = pair().await;
    let crowd = tokio::spawn(async move {
        let diallers: Vec<BareDialler> = (0..4).map(|_| BareDialler::new(Port::Peer, key(99))).collect();
        let attempts = (0..600).map(|nth| diallers[nth % 4].dial(CLUSTER, members[1].key, members[1].address));
        // All at once, and given up after a second: the half-open ones stay behind at the door.
        let all = async {
            let mut pending: Vec<_> = attempts.map(Box::pin).collect();
            std::future::poll_fn(|context| {
                pending.retain_mut(|attempt| attempt.as_mut().poll(context).is_pending());
                if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    });
    for number in 0..1_000_u32 {
        one.send(ReplicaId(2), Class::Vote, Bytes::copy_from_slice(&number.to_be_bytes())).expect("room");
        assert_eq!(next_frame(&mut two_events).await.2.as_ref(), number.to_be_bytes());
    }
    crowd.await.expect("no panic");
    assert_eq!(one.metrics().links_down.get(), 0);
    let door = two.metrics();
    assert!(door.handshakes_failed.get() > 0, "strangers were refused");
    assert!(door.handshakes_retried.get() > 0, "and beyond the rate asked to prove their address");
    assert_eq!(door.links_down.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_never_ends_closes_the_link() {
    let [first, second] = free_addresses();
    let me = member(1, first);
    let mut impatient = config(me, &[me, member(2, second)]);
    impatient.limits.frame_deadline = Duration::from_millis(200);
    let (handle, _events) = PeerEndpoint::start(impatient).expect("starts");
    let dialler = BareDialler::new(Port::Peer, key(2));
    let mut link = within("a link", dialler.dial(CLUSTER, me.key, me.address)).await.expect("a member");
    link.outgoing.write_all(&100_u32.to_be_bytes()).await.expect("open");
    let drip = async {
        loop {
            // A byte now and then does not buy more time.
            if link.outgoing.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("it is closed", drip).await;
    let closed = within("it is told", link.connection.closed()).await;
    assert!(matches!(crate::error::explain(&closed, None), LinkError::Violation(_)), "{closed}");
    assert_eq!(handle.metrics().violations.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_a_length_closes_the_link_and_is_counted() {
    let (handle, mut events, me) = target();
    let dialler = BareDialler::new(Port::Peer, key(2));
    let cap = PeerLimits::default().frame_cap_bytes;
    for (nth, (class, length)) in
        [(0, u32::MAX), (0, cap[0] as u32 + 1), (1, cap[1] as u32 + 1), (2, u32::MAX)].into_iter().enumerate()
    {
        let mut link = within("a link", dialler.dial(CLUSTER, me.key, me.address)).await.expect("a member");
        up(&mut events, 2).await;
        if class == 0 {
            link.outgoing.write_all(&length.to_be_bytes()).await.expect("open");
        } else {
            let mut stream = open(&link.connection, class, 1).await.expect("open");
            stream.write_all(&length.to_be_bytes()).await.expect("open");
        }
        let closed = within("it is closed", link.connection.closed()).await;
        let LinkError::Violation(reason) = crate::error::explain(&closed, None) else { panic!("{closed}") };
        assert!(reason.contains(&length.to_string()), "{reason}");
        assert_eq!(handle.metrics().oversize_frames.get(), nth as u64 + 1);
        down(&mut events, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_break_the_rules_close_the_link() {
    let (handle, mut events, me) = target();
    let dialler = BareDialler::new(Port::Peer, key(2));
    let headers: [&[u8]; 4] = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 1],             // the class is there already
        &[3, 0, 0, 0, 0, 0, 0, 0, 1],             // no such class
        &[1, 0, 0, 0, 0, 0, 0, 0, 2],             // another process
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], // an empty frame
    ];
    for (nth, header) in headers.into_iter().enumerate() {
        let link = within("a link", dialler.dial(CLUSTER, me.key, me.address)).await.expect("a member");
        up(&mut events, 2).await;
        let mut stream = link.connection.open_uni().await.expect("allowed");
        stream.write_all(header).await.expect("open");
        let closed = within("it is closed", link.connection.closed()).await;
        assert!(matches!(crate::error::explain(&closed, None), LinkError::Violation(_)), "{closed}");
        assert_eq!(handle.metrics().violations.get(), nth as u64 + 1);
        down(&mut events, 2).await;
    }
    let link = within("a link", dialler.dial(CLUSTER, me.key, me.address)).await.expect("a member");
    assert!(tokio::time::timeout(Duration::from_millis(100), link.connection.open_bi()).await.is_err());
    let _second = link.connection.open_uni().await.expect("open");
    let _third = link.connection.open_uni().await.expect("open");
    let fourth = tokio::time::timeout(Duration::from_millis(100), link.connection.open_uni());
    assert!(fourth.await.is_err(), "no more streams than classes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_change_nothing() {
    let ([one, _two], [_one_events, mut two_events], members) = pair().await;
    let noise = tokio::task::spawn_blocking(move || {
        let mut random = StdRng::seed_from_u64(3);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        for _ in 0..5_000 {
            let mut datagram: Vec<u8> = (0..random.random_range(0..1_400)).map(|_| random.random()).collect();
            if datagram.len() > 6 && random.random_bool(0.5) {
                // Looks like an Initial packet of QUIC version 1.
                datagram[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
            }
            for member in members {
                let _ = socket.send_to(&datagram, member.address);
            }
        }
    });
    for number in 0..2_000_u32 {
        one.send(ReplicaId(2), Class::Vote, Bytes::copy_from_slice(&number.to_be_bytes())).expect("room");
        assert_eq!(next_frame(&mut two_events).await.2.as_ref(), number.to_be_bytes());
    }
    noise.await.expect("sent");
    assert_eq!(one.metrics().links_down.get(), 0);
    assert_eq!(one.metrics().violations.get() + one.metrics().oversize_frames.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_flaps_is_slowed_down() {
    let (handle, _events, me) = target();
    let dialler = BareDialler::new(Port::Peer, key(2));
    let mut refused = false;
    for _ in 0..40 {
        match within("an answer", dialler.dial(CLUSTER, me.key, me.address)).await {
            Ok(link) => {
                let ended = tokio::time::timeout(Duration::from_millis(20), link.connection.closed()).await;
                refused |= ended.is_ok_and(|end| crate::error::explain(&end, None) == LinkError::TooManyConnections);
            }
            Err(error) => refused |= error == LinkError::TooManyConnections,
        }
        if refused {
            break;
        }
    }
    assert!(refused || handle.metrics().links_up.get() < 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_opens_its_stream_holds_few_connections() {
    let (handle, mut events, me) = target();
    let dialler = BareDialler::new(Port::Peer, key(2));
    let mut connections = Vec::new();
    for _ in 0..20 {
        let outcome = within("an answer", dialler.shake_hands(CLUSTER, me.key, me.address)).await;
        connections.push(outcome.expect("the key is known"));
    }
    let open = || connections.iter().filter(|connection| connection.close_reason().is_none()).count();
    until("all but a few are refused", || open() <= UNESTABLISHED_PER_PEER).await;
    let refused = |end| crate::error::explain(&end, None) == LinkError::TooManyConnections;
    assert!(connections.iter().filter_map(Connection::close_reason).any(refused));
    assert!(handle.metrics().connections_refused.get() > 0);

    let other = BareDialler::new(Port::Peer, key(3));
    let _link = within("a link", other.dial(CLUSTER, me.key, me.address)).await.expect("another member is let in");
    up(&mut events, 3).await;
    drop(connections);
    until("its permits are free again", || {
        let peer = handle.owner.shared.peers.get(&ReplicaId(2)).expect("a peer");
        peer.unestablished.available_permits() == UNESTABLISHED_PER_PEER
    })
    .await;
}
