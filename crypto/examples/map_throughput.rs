//! What the authenticated map costs with many keys: single puts and reads, a batch of random updates with its digest
//! while a snapshot is held, changes between snapshots, a walk, and a whole transfer.
//! Argument: the number of keys (default 1,000,000).

use std::time::Instant;

use quorate_crypto::merkle_map::{Assembler, CHUNK_BUDGET, MerkleMap};

const UPDATES: u64 = 8_192;

/// A number spread over all keys (splitmix64).
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{:016x}", spread(number)).into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    [number.to_be_bytes(), [7; 8]].concat().repeat(6)
}

fn report(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<46} {:>10.2} ms {:>9.3} us each", seconds * 1e3, seconds * 1e6 / count as f64);
}

fn main() {
    let keys = std::env::args().nth(1).map_or(1_000_000, |text| text.parse::<u64>().expect("a number"));
    let mut map = MerkleMap::new();
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (0..keys).map(|number| (key(number), value(number))).collect();
    let start = Instant::now();
    for (key, value) in entries {
        map.insert(&key, value);
    }
    report("put new keys", keys, start);
    let start = Instant::now();
    map.digest();
    report("first digest", keys, start);

    let order: Vec<Vec<u8>> = (0..100_000).map(|number| key(spread(number) % keys)).collect();
    let start = Instant::now();
    assert!(order.iter().all(|key| map.get(key).is_some()));
    report("get, random", 100_000, start);
    let start = Instant::now();
    for (number, key) in order.iter().enumerate() {
        map.insert(key, value(number as u64));
    }
    report("put, random, nothing shared", 100_000, start);
    map.digest();

    for round in 0..5 {
        let snapshot = map.clone();
        let updates: Vec<_> =
            (0..UPDATES).map(|number| (key(spread(number + round * UPDATES) % keys), value(number))).collect();
        let start = Instant::now();
        for (key, value) in updates {
            map.insert(&key, value);
        }
        report("put 8,192 random, snapshot held", UPDATES, start);
        let taken = Instant::now();
        map.digest();
        report("  digest after them", UPDATES, taken);
        report("  both", UPDATES, start);
        let start = Instant::now();
        let changed = map.changes_since(&snapshot).count();
        report("  changes since the snapshot", changed as u64, start);
        let start = Instant::now();
        drop(snapshot);
        report("  drop the snapshot", UPDATES, start);
    }

    let start = Instant::now();
    let count = map.iter().count() as u64;
    report("walk all", count, start);
    let root = map.digest();
    let start = Instant::now();
    for key in &order[..1_000] {
        assert!(map.prove(key).verify(root, key).expect("a proof").is_some());
    }
    report("prove and verify, random", 1_000, start);

    let start = Instant::now();
    let mut assembler = Assembler::new(map.digest(), &MerkleMap::new());
    let (mut chunks, mut bytes, mut largest) = (0u64, 0, 0);
    while !assembler.is_complete() {
        for path in assembler.wanted(16) {
            let chunk = map.chunk(&path, CHUNK_BUDGET).expect("the source has it");
            chunks += 1;
            bytes += chunk.len();
            largest = largest.max(chunk.len());
            assembler.add(&path, &chunk).expect("an honest chunk");
        }
    }
    report("transfer all by chunks", chunks, start);
    println!("{chunks} chunks, {bytes} bytes, largest {largest}, contents {} bytes", map.encoded_size());
    let copy = assembler.finish().expect("complete");
    assert_eq!(copy.digest(), map.digest());
    let start = Instant::now();
    drop(copy);
    drop(map);
    report("drop both", 2 * keys, start);
}
