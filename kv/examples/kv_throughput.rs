//! Single puts per second of the service alone, on one core: from an empty store, and on one that holds a million keys,
//! with the root taken every 8,192 puts as a replica does at its checkpoints. Prints the memory of the million as well.
//! Each figure is the best of three rounds, by the clock and by the time the thread really ran: on a busy machine the
//! second is what the service costs.
//!
//! `cargo run --release --package quorate-kv --example kv_throughput`

use std::time::Instant;

use quorate_kv::{Operation, Parameters, PutRequest, Store};

const KEYS: u64 = 1_000_000;
const PUTS: u64 = 100_000;
const ROUNDS: u64 = 3;
const VALUE_BYTES: usize = 128;
const ROOT_EVERY: u64 = 8192;
const PARAMETERS: Parameters = Parameters { quota_bytes: u64::MAX, auto_compaction_retention: 100_000 };

/// A permutation of 64-bit numbers (the finaliser of SplitMix64), so that keys come in no order.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn put(number: u64) -> Operation {
    let key = format!("key-{:012}", scatter(number) % 1_000_000_000_000);
    Operation::Put(PutRequest::new(key, vec![number as u8; VALUE_BYTES]))
}

/// What a scenario does beside putting.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Roots,
    /// A clone is kept from root to root, as checkpoints do: what it shares is copied before it is written.
    RootsAndSnapshots,
}

/// Puts a second, by the clock and by the time on the processor.
fn round(store: &mut Store, operations: &[Operation], beside: Beside) -> (f64, f64) {
    let mut snapshot = (beside == Beside::RootsAndSnapshots).then(|| store.clone());
    let (start, cpu_start) = (Instant::now(), cpu_seconds());
    for (count, operation) in (1..).zip(operations) {
        let result = store.apply(operation, 0);
        assert!(result.error().is_none(), "{result:?}");
        if beside != Beside::Nothing && count % ROOT_EVERY == 0 {
            store.root();
            snapshot = snapshot.is_some().then(|| store.clone());
        }
    }
    store.root();
    let puts = operations.len() as f64;
    (puts / start.elapsed().as_secs_f64(), puts / (cpu_seconds() - cpu_start))
}

/// Three rounds, each with the keys that `numbers` gives for it: on `store`, or each on an empty one.
fn run<I: Iterator<Item = u64>>(name: &str, mut store: Option<&mut Store>, numbers: impl Fn(u64) -> I, beside: Beside) {
    let mut best = (0.0_f64, 0.0_f64);
    for number in 0..ROUNDS {
        let operations: Vec<Operation> = numbers(number).map(put).collect();
        let (clock, cpu) = match &mut store {
            Some(store) => round(store, &operations, beside),
            None => round(&mut Store::new(PARAMETERS), &operations, beside),
        };
        best = (best.0.max(clock), best.1.max(cpu));
    }
    println!("{name:<44} {:>8.0} puts/s, {:>8.0} a second of processor time", best.0, best.1);
}

/// Seconds that this thread ran, where the system tells.
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
    let before = resident_bytes();
    let mut million = Store::new(PARAMETERS);
    for number in 0..KEYS {
        million.apply(&put(number), 0);
    }
    million.root();
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        println!(
            "{KEYS} keys of 16 bytes, values of {VALUE_BYTES}: {} MiB resident, {} MiB logical",
            after.saturating_sub(before) >> 20,
            million.status().logical_bytes >> 20
        );
    }
    let overwritten = |round: u64| (0..PUTS).map(move |number| scatter(number + round * PUTS) % KEYS);
    let more = |round: u64| KEYS + round * PUTS..KEYS + (round + 1) * PUTS;
    run("1M keys: overwritten at random", Some(&mut million), overwritten, Beside::Nothing);
    run("1M keys: overwritten at random, roots", Some(&mut million), overwritten, Beside::Roots);
    run("1M keys: the same with snapshots", Some(&mut million), overwritten, Beside::RootsAndSnapshots);
    run("1M keys: new keys, roots", Some(&mut million), more, Beside::Roots);
    drop(million);
    let new_keys = |round: u64| round * PUTS..(round + 1) * PUTS;
    run("empty: new keys", None, new_keys, Beside::Nothing);
    run("empty: new keys, roots", None, new_keys, Beside::Roots);
    run("empty: 1,000 keys over and over, roots", None, |_| (0..PUTS).map(|number| number % 1000), Beside::Roots);
}
