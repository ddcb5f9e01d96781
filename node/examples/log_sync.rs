//! Measures the log and the snapshot store on a real disk: commits per second and latency of 4 KiB and 64 KiB frames,
//! with and without cuts, and the time to write, change and load a state of a million entries.
//!
//! `cargo run --release -p quorate-node --example log_sync -- DIRECTORY [ENTRIES]`: a new directory inside DIRECTORY is
//! used and removed. The bare medium is measured first, to compare with.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{ClusterId, Digest, ReplicaId, Seq};
use quorate_node::disk::{Disk, FileDisk};
use quorate_node::log::{DEFAULT_SEGMENT_BYTES, FrameLog, FrameNumber, LogIdentity, LogKey, LogSettings, Trust};
use quorate_node::snapshot_store::{Checkpoint, SnapshotSettings, SnapshotStore};

/// Syncs per measurement.
const TURNS: usize = 5_000;

/// A frame is cut this many frames after it was written, as after a checkpoint.
const KEPT_FRAMES: u64 = 2_048;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let entries: u64 = arguments.next().map_or(Ok(1_000_000), |count| count.parse()).context("ENTRIES is a number")?;
    let directory = tempfile::tempdir_in(&parent).with_context(|| format!("cannot make a directory in {parent}"))?;
    prewritten_file(&directory.path().join("raw"))?;
    // A frame with its header fills whole blocks of 4096 bytes.
    for (name, payload) in [("4 KiB", 4096 - 104), ("64 KiB", 65536 - 104)] {
        frames(&directory.path().join(name.replace(' ', "-")), name, payload)?;
    }
    snapshots(&directory.path().join("snapshots"), entries)
}

fn identity() -> LogIdentity {
    LogIdentity { cluster: ClusterId(Digest::ZERO), replica: ReplicaId(0) }
}

/// The bare medium: 4 KiB written over in a file of zeros.
fn prewritten_file(path: &Path) -> Result<()> {
    let mut disk = FileDisk::create(path, 0)?;
    disk.create("file")?;
    disk.write_at("file", 0, &vec![0; DEFAULT_SEGMENT_BYTES as usize])?;
    disk.sync_data("file")?;
    disk.sync_directory()?;
    let block = vec![7; 4096];
    let mut times = Vec::with_capacity(TURNS);
    for turn in 0..TURNS {
        let begun = Instant::now();
        disk.write_at("file", (turn * 4096) as u64 % DEFAULT_SEGMENT_BYTES, &block)?;
        disk.sync_data("file")?;
        times.push(begun.elapsed());
    }
    report("bare file, 4 KiB written over", &mut times);
    Ok(())
}

fn frames(path: &Path, name: &str, payload_bytes: usize) -> Result<()> {
    let settings = LogSettings {
        identity: identity(),
        trust: Trust::NewCluster,
        segment_bytes: DEFAULT_SEGMENT_BYTES,
        key: LogKey::random(),
    };
    let mut log = FrameLog::create(FileDisk::create(path, 0)?, &settings)?;
    let payload = vec![7; payload_bytes];
    let (mut commits, mut cuts, mut preparations) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let begun = Instant::now();
        let number = log.append(&payload)?;
        log.sync()?;
        commits.push(begun.elapsed());
        let begun = Instant::now();
        let before = log.ready_bytes();
        if number.0.is_multiple_of(128) && number.0 > KEPT_FRAMES {
            log.cut(FrameNumber(number.0 - KEPT_FRAMES))?;
            cuts.push(begun.elapsed());
        } else if log.maintain()? || log.ready_bytes() != before {
            preparations.push(begun.elapsed());
        }
    }
    report(&format!("log, {name} frames"), &mut commits);
    report("  preparing segments between turns", &mut preparations);
    report("  cuts", &mut cuts);
    let size = log.size_on_disk();
    drop(log);
    let begun = Instant::now();
    let (_, kept) = FrameLog::open(FileDisk::open(path, 0)?, identity())?;
    println!("  opened {} frames, {} MiB on disk, in {:.0?}", kept.len(), size >> 20, begun.elapsed());
    Ok(())
}

fn snapshots(path: &Path, entries: u64) -> Result<()> {
    let settings =
        SnapshotSettings { identity: identity(), segment_bytes: DEFAULT_SEGMENT_BYTES, key: LogKey::random() };
    let mut store = SnapshotStore::create(FileDisk::create(path, 0)?, &settings)?;
    let mut table = MerkleMap::new();
    let key_of = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    for number in 0..entries {
        table.insert(&key_of(number), vec![number as u8; 128]);
    }
    let begun = Instant::now();
    table.digest();
    println!("{entries} entries of 128 B: digest {:.2?}", begun.elapsed());
    let begun = Instant::now();
    let mut seq = 1;
    store.checkpoint(Checkpoint { seq: Seq(seq), root: table.digest(), header: b"", tables: &[table.clone()] })?;
    println!("  full checkpoint {:.2?}, {} MiB on disk", begun.elapsed(), store.size_on_disk() >> 20);
    let mut times = Vec::new();
    let mut largest = 0;
    for round in 0..200 {
        for change in 0..5_000u64 {
            table.insert(&key_of((round * 7_919 + change * 104_729) % entries), vec![round as u8; 128]);
        }
        seq += 1;
        table.digest();
        let begun = Instant::now();
        store.checkpoint(Checkpoint { seq: Seq(seq), root: table.digest(), header: b"", tables: &[table.clone()] })?;
        times.push(begun.elapsed());
        largest = largest.max(store.size_on_disk());
    }
    report("  checkpoint of 5000 changes", &mut times);
    println!("  {} MiB live, at most {} MiB on disk", store.live_bytes() >> 20, largest >> 20);
    drop(store);
    let begun = Instant::now();
    let (_, loaded) = SnapshotStore::open(FileDisk::open(path, 0)?, identity())?;
    let loaded = loaded.context("the checkpoint is there")?;
    println!("  loaded {} entries in {:.2?}", loaded.tables[0].len(), begun.elapsed());
    anyhow::ensure!(loaded.root == table.digest() && loaded.seq == Seq(seq), "the loaded state differs");
    Ok(())
}

fn report(name: &str, times: &mut [Duration]) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{name}: {:.0}/s, p50 {:.2?}, p99 {:.2?}, max {:.2?} ({} times)",
        times.len() as f64 / total.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}
