use super::*;

fn snapshot(seq: u64, entries: u64) -> Snapshot {
    let mut map = MerkleMap::new();
    for entry in 0..entries {
        map.insert(&entry.to_be_bytes(), vec![seq as u8; 200]);
    }
    Snapshot { seq: Seq(seq), tables: BTreeMap::from([(TableId(16), map)]) }
}

fn at(seconds: u64) -> Now {
    Now { monotonic: seconds * 1_000_000, wall: 0 }
}

#[test]
fn below_the_stable_checkpoint_only_one_snapshot_is_held_unless_it_is_being_fetched() {
    let mut server = Transfer::new(ReplicaId(0));
    for seq in [4, 8, 12] {
        server.hold(at(seq), snapshot(seq, 3), Seq(seq));
    }
    assert!(matches!(
        server.answer(at(12), ReplicaId(1), &Message::FetchState { seq: Seq(4) }),
        Some(Message::StateGone { .. })
    ));
    assert!(matches!(
        server.answer(at(12), ReplicaId(1), &Message::FetchState { seq: Seq(8) }),
        Some(Message::State { .. })
    ));
    server.hold(at(13), snapshot(16, 3), Seq(16));
    assert!(matches!(
        server.answer(at(13), ReplicaId(1), &Message::FetchState { seq: Seq(8) }),
        Some(Message::State { .. })
    ));
    // Nobody keeps a snapshot alive for ever.
    for second in 14..400 {
        server.answer(at(second), ReplicaId(1), &Message::FetchState { seq: Seq(8) });
        server.hold(at(second), snapshot(second * 4, 3), Seq(second * 4));
    }
    assert!(matches!(
        server.answer(at(400), ReplicaId(1), &Message::FetchState { seq: Seq(8) }),
        Some(Message::StateGone { .. })
    ));
}

/// Two newer ones that nobody has certified must not push it out: who is behind can ask for nothing else, and they may
/// never be certified without it.
#[test]
fn the_stable_snapshot_is_served_while_newer_ones_are_not_stable() {
    let mut server = Transfer::new(ReplicaId(0));
    for seq in [4, 8, 12, 16] {
        server.hold(at(seq), snapshot(seq, 3), Seq(8));
    }
    for seq in [8, 12, 16] {
        let answer = server.answer(at(1_000), ReplicaId(1), &Message::FetchState { seq: Seq(seq) });
        assert!(matches!(answer, Some(Message::State { .. })), "{seq}: {answer:?}");
    }
    // Once it is no longer stable, it goes.
    for seq in [20, 24] {
        server.hold(at(1_000 + seq), snapshot(seq, 3), Seq(16));
    }
    let answer = server.answer(at(2_000), ReplicaId(1), &Message::FetchState { seq: Seq(8) });
    assert!(matches!(answer, Some(Message::StateGone { .. })), "{answer:?}");
}

/// A liar that keeps asking for an old snapshot does not push out the one an honest laggard is fetching.
#[test]
fn each_fetcher_keeps_its_own_snapshot() {
    let mut server = Transfer::new(ReplicaId(0));
    let asks = |server: &mut Transfer, second: u64, peer: u16, seq: u64| {
        let answer = server.answer(at(second), ReplicaId(peer), &Message::FetchState { seq: Seq(seq) });
        matches!(answer, Some(Message::State { .. }))
    };
    for seq in [4, 8] {
        server.hold(at(1), snapshot(seq, 3), Seq(seq));
    }
    assert!(asks(&mut server, 1, 3, 4) && asks(&mut server, 1, 2, 8));
    for second in 2..20 {
        server.hold(at(second), snapshot(4 * (second + 1), 3), Seq(4 * (second + 1)));
        assert!(asks(&mut server, second, 3, 4), "second {second}");
        assert!(asks(&mut server, second, 2, 8), "the laggard's is gone after {second} seconds");
        assert!(server.held.len() <= 4, "{} held", server.held.len());
    }
    // A peer keeps one, however many it asks about.
    server.hold(at(20), snapshot(84, 3), Seq(84));
    for seq in [4, 8, 80, 84] {
        asks(&mut server, 20, 3, seq);
    }
    for second in 27..30 {
        server.hold(at(second), snapshot(4 * (second + 1), 3), Seq(4 * (second + 1)));
    }
    assert!(!asks(&mut server, 30, 3, 4) && !asks(&mut server, 30, 2, 8));
}

#[test]
fn moving_on_keeps_what_is_equal() {
    let peers = [ReplicaId(1), ReplicaId(2)];
    let run = |fetcher: &mut Transfer, server: &mut Transfer, limit: usize| {
        let mut served = 0;
        for second in 1..500u64 {
            for (peer, question) in fetcher.questions(at(second), &peers) {
                if served == limit {
                    return (served, None);
                }
                served += usize::from(matches!(question, Message::FetchChunk { .. }));
                let Some(answer) = server.answer(at(second), ReplicaId(0), &question) else { continue };
                if let Progress::Complete(snapshot) = fetcher.take(peer, answer) {
                    return (served, Some(snapshot));
                }
            }
        }
        (served, None)
    };
    let mut server = Transfer::new(ReplicaId(1));
    let old = snapshot(4, 20_000);
    server.hold(at(1), old.clone(), Seq(4));
    let mut fetcher = Transfer::new(ReplicaId(0));
    fetcher.start(Seq(4), old.header().digest(), None);
    let (all, complete) = run(&mut fetcher, &mut server, usize::MAX);
    assert_eq!(complete.map(|snapshot| snapshot.header()), Some(old.header()));
    assert!(all > 8, "{all} chunks");
    // A newer state that differs in one entry, fetched by one that had got most of the older.
    let mut newer = Snapshot { seq: Seq(8), ..old.clone() };
    newer.tables.get_mut(&TableId(16)).expect("table").insert(b"one more", vec![1]);
    server.hold(at(2), newer.clone(), Seq(8));
    let mut interrupted = Transfer::new(ReplicaId(0));
    interrupted.start(Seq(4), old.header().digest(), None);
    let (first, none) = run(&mut interrupted, &mut server, all - 2);
    assert!(none.is_none());
    interrupted.start(Seq(8), newer.header().digest(), None);
    let (second, complete) = run(&mut interrupted, &mut server, usize::MAX);
    assert_eq!(complete.map(|snapshot| snapshot.header()), Some(newer.header()));
    assert!(first + second <= all + 12, "{first} + {second} chunks where {all} are all");
    // One that holds the older state entirely asks for little.
    let mut based = Transfer::new(ReplicaId(0));
    based.start(Seq(8), newer.header().digest(), Some(&old));
    let (few, complete) = run(&mut based, &mut server, usize::MAX);
    assert!(complete.is_some() && few <= 6, "{few} chunks");
}

#[test]
fn a_chunk_nobody_asked_for_is_ignored() {
    let state = snapshot(4, 100);
    let mut fetcher = Transfer::new(ReplicaId(0));
    fetcher.start(Seq(4), state.header().digest(), None);
    let header = Message::State { header: state.header() };
    assert!(matches!(fetcher.take(ReplicaId(1), header), Progress::Going));
    let chunk = state.tables[&TableId(16)].chunk(&[], CHUNK_BYTES).expect("chunk");
    let unasked = Message::Chunk { seq: Seq(4), table: TableId(16), path: vec![], chunk };
    assert!(matches!(fetcher.take(ReplicaId(1), unasked), Progress::Going));
    assert_eq!(fetcher.chunks_received(), 0);
}
