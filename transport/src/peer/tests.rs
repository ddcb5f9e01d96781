mod hostile;
mod restart;

use super::*;
use crate::limits::SPARE_LINGER;
use crate::test_links::{CLUSTER, PATIENCE, free_addresses, key, until, within};

pub(super) fn member(id: u16, address: SocketAddr) -> PeerAddress {
    PeerAddress { id: ReplicaId(id), key: key(id as u8).public_key(), address }
}

pub(super) fn config(me: PeerAddress, peers: &[PeerAddress]) -> PeerConfig {
    PeerConfig {
        my_id: me.id,
        key: key(me.id.0 as u8),
        listen: me.address,
        peers: peers.to_vec(),
        cluster: CLUSTER,
        limits: PeerLimits::default(),
    }
}

/// Two members with links between them.
pub(super) async fn pair() -> ([PeerHandle; 2], [PeerEvents; 2], [PeerAddress; 2]) {
    let [first, second] = free_addresses();
    let members = [member(1, first), member(2, second)];
    let (one, mut one_events) = PeerEndpoint::start(config(members[0], &members)).expect("starts");
    let (two, mut two_events) = PeerEndpoint::start(config(members[1], &members)).expect("starts");
    up(&mut one_events, 2).await;
    up(&mut two_events, 1).await;
    ([one, two], [one_events, two_events], members)
}

pub(super) async fn up(events: &mut PeerEvents, id: u16) {
    within("a link comes up", async {
        loop {
            match events.recv().await.expect("open") {
                PeerEvent::Up(peer) if peer == ReplicaId(id) => return,
                _ => {}
            }
        }
    })
    .await;
}

pub(super) async fn down(events: &mut PeerEvents, id: u16) {
    within("a link goes down", async {
        loop {
            match events.recv().await.expect("open") {
                PeerEvent::Down(peer) if peer == ReplicaId(id) => return,
                _ => {}
            }
        }
    })
    .await;
}

pub(super) async fn next_frame(events: &mut PeerEvents) -> (ReplicaId, Class, Bytes) {
    within("a frame arrives", async {
        loop {
            if let PeerEvent::Frame { from, class, frame } = events.recv().await.expect("open") {
                return (from, class, frame.into_parts().0);
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_every_class_and_size_arrive_whole_and_in_order() {
    let ([one, two], [mut one_events, mut two_events], _) = pair().await;
    for class in Class::ALL {
        let cap = PeerLimits::default().frame_cap_bytes[class.index()];
        for length in [1, 200, 5_000, cap] {
            let frame: Bytes = (0..length).map(|place| (place % 251) as u8).collect();
            one.send(ReplicaId(2), class, frame.clone()).expect("room");
            two.send(ReplicaId(1), class, frame.clone()).expect("room");
            assert_eq!(next_frame(&mut two_events).await, (ReplicaId(1), class, frame.clone()));
            assert_eq!(next_frame(&mut one_events).await, (ReplicaId(2), class, frame));
        }
        let too_long = Bytes::from(vec![0; cap + 1]);
        assert_eq!(one.send(ReplicaId(2), class, too_long), Err(SendError::Length { length: cap + 1, cap }));
    }
    for number in 0..5_000_u32 {
        one.send(ReplicaId(2), Class::Proposal, Bytes::copy_from_slice(&number.to_be_bytes())).expect("room");
    }
    for number in 0..5_000_u32 {
        let (_, _, frame) = next_frame(&mut two_events).await;
        assert_eq!(frame.as_ref(), number.to_be_bytes());
    }
    assert_eq!(
        one.send(ReplicaId(9), Class::Vote, Bytes::from_static(b"x")),
        Err(SendError::UnknownPeer(ReplicaId(9)))
    );
    assert_eq!(one.metrics().frames_sent[1].get(), 5_004);
    assert_eq!(two.metrics().frames_received[1].get(), 5_004);
    let statistics = one.link_statistics(ReplicaId(2)).expect("a peer");
    assert!(statistics.up && statistics.wire_bytes_sent > 8 << 20, "{statistics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_overtake_a_backlog_of_bulk_data_even_if_nobody_takes_that() {
    let ([one, _two], [_one_events, mut two_events], _) = pair().await;
    let bulk = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..16 {
        one.send(ReplicaId(2), Class::Bulk, bulk.clone()).expect("room");
    }
    one.send(ReplicaId(2), Class::Vote, Bytes::from_static(b"vote")).expect("room");
    let mut held = Vec::new();
    within("the vote", async {
        loop {
            match two_events.recv().await.expect("open") {
                PeerEvent::Frame { class: Class::Vote, .. } => return,
                PeerEvent::Frame { frame, .. } => held.push(frame),
                _ => {}
            }
        }
    })
    .await;
    assert!(held.len() < 8, "{} MiB came first", held.len());
    // The budget for bulk data holds seven of these; now they are let go and the rest must follow.
    let mut arrived = held.len();
    drop(held);
    while arrived < 16 {
        assert_eq!(next_frame(&mut two_events).await.1, Class::Bulk);
        arrived += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_floods_stalls_itself_only() {
    let [first, second, third] = free_addresses();
    let members = [member(1, first), member(2, second), member(3, third)];
    let (victim, mut events) = PeerEndpoint::start(config(members[0], &members)).expect("starts");
    let (flooder, _flooder_events) = PeerEndpoint::start(config(members[1], &members)).expect("starts");
    let (honest, _honest_events) = PeerEndpoint::start(config(members[2], &members)).expect("starts");
    up(&mut events, 2).await;
    until("all linked", || victim.linked().len() == 2 && honest.is_up(ReplicaId(1)) && flooder.is_up(ReplicaId(1)))
        .await;

    let vote = Bytes::from(vec![1; 200]);
    until("the flooder is stalled", || {
        for _ in 0..2_000 {
            let _ = flooder.send(ReplicaId(1), Class::Vote, vote.clone());
        }
        victim.metrics().budget_waits.get() > 0 && flooder.metrics().frames_displaced[0].get() > 0
    })
    .await;
    let limits = PeerLimits::default();
    let waiting = flooder.link_statistics(ReplicaId(1)).expect("a peer").waiting_bytes[0];
    assert!(waiting <= limits.outbound_cap_bytes[0], "the sender holds {waiting} bytes");
    let held = victim.metrics().bytes_received[0].get() as usize;
    assert!(held <= limits.inbound_budget_bytes[0], "the receiver holds {held} bytes");

    honest.send(ReplicaId(1), Class::Vote, Bytes::from_static(b"honest")).expect("room");
    until("it came in", || victim.metrics().frames_received[0].get() as usize > held / 204).await;
    let mut before = 0;
    loop {
        let (from, _, _) = next_frame(&mut events).await;
        if from == ReplicaId(3) {
            break;
        }
        before += 1;
    }
    assert!(before <= 2, "the honest vote waited behind {before} of the flood");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_settle_on_one_link() {
    let ([one, two], [mut one_events, mut two_events], _) = pair().await;
    until("one connection is left", || {
        one.owner.shared.endpoint.open_connections() == 1 && two.owner.shared.endpoint.open_connections() == 1
    })
    .await;
    tokio::time::sleep(SPARE_LINGER).await;
    for handle in [&one, &two] {
        let metrics = handle.metrics();
        assert_eq!((metrics.links_up.get(), metrics.links_down.get()), (1, 0), "no flapping");
        assert_eq!(handle.owner.shared.endpoint.open_connections(), 1);
    }
    one.send(ReplicaId(2), Class::Vote, Bytes::from_static(b"x")).expect("room");
    two.send(ReplicaId(1), Class::Vote, Bytes::from_static(b"y")).expect("room");
    assert_eq!(next_frame(&mut two_events).await.2, "x");
    assert_eq!(next_frame(&mut one_events).await.2, "y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_told_at_once_and_bounded() {
    let ([one, two], [mut one_events, mut two_events], _) = pair().await;
    let start = std::time::Instant::now();
    two.shut_down(PATIENCE).await;
    assert!(start.elapsed() < PATIENCE);
    within("the end", async { while two_events.recv().await.is_some() {} }).await;
    down(&mut one_events, 2).await;
    assert!(!one.is_up(ReplicaId(2)));
    let refused = one.send(ReplicaId(2), Class::Bulk, Bytes::from_static(b"state"));
    assert_eq!(refused, Err(SendError::Full(ReplicaId(2))), "bulk data does not wait for a link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_cut_off_and_stays_out() {
    let ([one, two], [mut one_events, mut two_events], _) = pair().await;
    one.remove(ReplicaId(2)).await;
    down(&mut two_events, 1).await;
    down(&mut one_events, 2).await;
    until("it tries again and is refused", || one.metrics().handshakes_failed.get() >= 2).await;
    assert!(!one.is_up(ReplicaId(2)) && !two.is_up(ReplicaId(1)));
}

#[tokio::test]
async fn contradictory_configurations_do_not_start() {
    let [first, second] = free_addresses();
    let (me, other) = (member(1, first), member(2, second));
    let fails = |config: PeerConfig| matches!(PeerEndpoint::start(config), Err(StartError::Configuration(_)));
    assert!(fails(config(me, &[other, other])));
    assert!(fails(config(me, &[PeerAddress { key: me.key, ..other }])), "the own key under another number");
    let mut stalling = config(me, &[other]);
    stalling.limits.inbound_budget_bytes[2] = stalling.limits.frame_cap_bytes[2];
    assert!(fails(stalling));
    let mut huge = config(me, &[other]);
    huge.limits.frame_cap_bytes[0] = crate::limits::FRAME_CAP_BYTES + 1;
    assert!(fails(huge));
    let _holder = PeerEndpoint::start(config(me, &[other])).expect("starts");
    assert!(matches!(PeerEndpoint::start(config(me, &[other])), Err(StartError::Bind { .. })));
}
