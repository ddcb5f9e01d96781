//! Single puts per second of the service alone, on one core: an empty store, and one that holds a million keys, with
//! the root taken every 8,192 puts as a replica does at its checkpoints. Prints the memory of the million as well.
//!
//! `cargo run --release --package quorate-kv --example throughput`

use std::time::Instant;

use quorate_kv::{Operation, Parameters, PutRequest, Store};

const KEYS: u64 = 1_000_000;
const PUTS: u64 = 500_000;
const VALUE_BYTES: usize = 128;
const ROOT_EVERY: u64 = 8192;

/// A permutation of 64-bit numbers (the finaliser of SplitMix64), so that keys come in no order.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn put(number: u64) -> Operation {
    Operation::Put(PutRequest::new(
        format!("key-{:012}", scatter(number) % 1_000_000_000_000),
        vec![number as u8; VALUE_BYTES],
    ))
}

/// Executes the puts of `numbers`. `snapshots` keeps a clone of the store from root to root, as checkpoints do, so that
/// the price of copying what a snapshot shares is in the figure.
fn run(name: &str, store: &mut Store, numbers: impl Iterator<Item = u64>, roots: bool, snapshots: bool) {
    let operations: Vec<Operation> = numbers.map(put).collect();
    let mut snapshot = None;
    let start = Instant::now();
    let cpu_start = cpu_seconds();
    for (count, operation) in (1..).zip(&operations) {
        let result = store.apply(operation, 0);
        assert!(result.error().is_none(), "{result:?}");
        if roots && count % ROOT_EVERY == 0 {
            store.root();
            snapshot = snapshots.then(|| store.clone());
        }
    }
    store.root();
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu_start;
    drop(snapshot);
    let puts = operations.len() as f64;
    println!("{name:<56} {:>9.0} puts/s, {:>9.0} a second of CPU", puts / seconds, puts / cpu);
}

/// Seconds that this thread ran, where the system tells: on a busy machine they are what the service costs.
fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Resident memory in bytes, where the system tells.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}

fn main() {
    let parameters = Parameters { quota_bytes: u64::MAX, auto_compaction_retention: 100_000 };
    let before = resident_bytes();
    let mut store = Store::new(parameters);
    for number in 0..KEYS {
        store.apply(&put(number), 0);
    }
    store.root();
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        println!(
            "{KEYS} keys of 16 bytes, values of {VALUE_BYTES}: {} MiB resident, {} MiB logical",
            after.saturating_sub(before) >> 20,
            store.status().logical_bytes >> 20
        );
    }
    let overwritten = |round: u64| (0..PUTS).map(move |number| scatter(number + round * PUTS) % KEYS);
    run("1M keys, overwritten at random, no root", &mut store, overwritten(1), false, false);
    run("1M keys, overwritten at random, a root every 8192", &mut store, overwritten(2), true, false);
    run("1M keys, the same with a snapshot kept", &mut store, overwritten(3), true, true);
    run("1M keys, new keys, a root every 8192", &mut store, KEYS..KEYS + PUTS, true, false);
    drop(store);
    run("empty store, new keys, no root", &mut Store::new(parameters), 0..PUTS, false, false);
    run("empty store, new keys, a root every 8192", &mut Store::new(parameters), 0..PUTS, true, false);
    run(
        "empty store, one key overwritten, a root every 8192",
        &mut Store::new(parameters),
        (0..PUTS).map(|_| 7),
        true,
        false,
    );
}
