use std::collections::BTreeMap;

use quorate_crypto::{ClusterId, ReplicaId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::disk::MemoryDisk;

mod cleaning;
mod crash;
mod golden;

pub(super) const KEY: LogKey = LogKey([3; 32]);

pub(super) fn identity() -> LogIdentity {
    LogIdentity { cluster: ClusterId(Digest([9; 32])), replica: ReplicaId(2) }
}

pub(super) fn settings() -> SnapshotSettings {
    SnapshotSettings { identity: identity(), segment_bytes: 16 * 1024, key: KEY }
}

pub(super) fn opened(disk: &MemoryDisk) -> (SnapshotStore<MemoryDisk>, Option<LoadedCheckpoint>) {
    SnapshotStore::open(disk.clone(), identity()).unwrap()
}

/// The tables of a small state machine, twice: as the store sees them and as a model.
#[derive(Clone, Default)]
pub(super) struct State {
    pub seq: u64,
    pub tables: Vec<MerkleMap>,
    pub model: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl State {
    pub fn with_tables(count: usize) -> State {
        State { seq: 0, tables: vec![MerkleMap::new(); count], model: vec![BTreeMap::new(); count] }
    }

    pub fn put(&mut self, table: usize, key: &[u8], value: Vec<u8>) {
        self.tables[table].insert(key, value.clone());
        self.model[table].insert(key.to_vec(), value);
    }

    pub fn remove(&mut self, table: usize, key: &[u8]) {
        self.tables[table].remove(key);
        self.model[table].remove(key);
    }

    /// `count` random changes among `keys` keys, a quarter of them removals.
    pub fn change(&mut self, random: &mut ChaCha8Rng, count: usize, keys: u64, value_bytes: u64) {
        self.seq += 1;
        for _ in 0..count {
            let table = (random.next_u64() % self.tables.len() as u64) as usize;
            let key = format!("key/{}", random.next_u64() % keys);
            if random.next_u64().is_multiple_of(4) {
                self.remove(table, key.as_bytes());
            } else {
                let length = random.next_u64() % value_bytes;
                let value = (0..length).map(|_| random.next_u64() as u8).collect();
                self.put(table, key.as_bytes(), value);
            }
        }
    }

    pub fn root(&self) -> Digest {
        Digest([self.seq as u8; 32])
    }

    pub fn store(&self, store: &mut SnapshotStore<MemoryDisk>) -> Result<Written, SnapshotError> {
        let header = self.seq.to_be_bytes();
        store.checkpoint(Checkpoint { seq: Seq(self.seq), root: self.root(), header: &header, tables: &self.tables })
    }

    /// Asserts that `loaded` is this state, entry by entry.
    pub fn assert_is(&self, loaded: &LoadedCheckpoint) {
        assert_eq!(loaded.seq, Seq(self.seq));
        assert_eq!(loaded.root, self.root());
        assert_eq!(loaded.header, self.seq.to_be_bytes());
        assert_eq!(loaded.tables.len(), self.model.len());
        for (table, model) in loaded.tables.iter().zip(&self.model) {
            let found: BTreeMap<Vec<u8>, Vec<u8>> = table.iter().map(|(key, value)| (key, value.to_vec())).collect();
            assert!(found == *model, "checkpoint {}", self.seq);
        }
    }
}

pub(super) fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[test]
fn a_store_can_be_owned_by_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<SnapshotStore<MemoryDisk>>();
    is_send::<SnapshotStore<crate::disk::FileDisk>>();
}

#[test]
fn checkpoints_come_back_as_written() {
    for seed in 0..5 {
        let disk = MemoryDisk::new();
        let mut random = random(seed);
        let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
        assert!(opened(&disk).1.is_none());
        let mut state = State::with_tables(3);
        for turn in 0..40 {
            state.change(&mut random, 20, 100, 200);
            state.store(&mut store).unwrap();
            assert_eq!(store.durable_seq(), Some(Seq(state.seq)));
            if turn % 3 == 0 {
                disk.power_cut(turn);
                let (reopened, loaded) = opened(&disk);
                state.assert_is(&loaded.unwrap());
                assert_eq!(reopened.live_bytes(), store.live_bytes(), "the account of live entries is kept exactly");
                store = reopened;
            }
        }
    }
}

#[test]
fn a_checkpoint_costs_what_changed() {
    let disk = MemoryDisk::new();
    let settings = SnapshotSettings { segment_bytes: 1 << 20, ..settings() };
    let mut store = SnapshotStore::create(disk.clone(), &settings).unwrap();
    let mut state = State::with_tables(1);
    for key in 0..20_000u64 {
        state.put(0, &key.to_be_bytes(), vec![1; 100]);
    }
    state.seq = 1;
    let full = state.store(&mut store).unwrap();
    assert_eq!(full.delta_bytes, store.live_bytes());
    state.put(0, &7u64.to_be_bytes(), vec![2; 100]);
    state.remove(0, &8u64.to_be_bytes());
    state.seq = 2;
    let small = state.store(&mut store).unwrap();
    assert_eq!(
        small,
        Written { seq: Seq(2), delta_bytes: (10 + 8 + 100) + (6 + 8), carried_bytes: 0, rewritten: false }
    );
    state.assert_is(&opened(&disk).1.unwrap());
}

#[test]
fn an_install_and_fewer_or_more_tables_are_ordinary_checkpoints() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut random = random(1);
    for count in [2, 5, 1, 0, 3] {
        let mut state = State::with_tables(count);
        if count > 0 {
            state.change(&mut random, 100, 50, 300);
        }
        state.seq = 10 + count as u64;
        state.store(&mut store).unwrap();
        state.assert_is(&opened(&disk).1.unwrap());
    }
    assert_eq!(store.durable_seq(), Some(Seq(13)));
}

#[test]
fn the_largest_entries_and_long_headers_fit() {
    let disk = MemoryDisk::new();
    let settings = SnapshotSettings { segment_bytes: 1 << 20, ..settings() };
    let mut store = SnapshotStore::create(disk.clone(), &settings).unwrap();
    let mut table = MerkleMap::new();
    table.insert(&vec![7; MAX_KEY], vec![8; MAX_VALUE]);
    table.insert(b"", Vec::new());
    let header = vec![4; MAX_HEADER_BYTES];
    let checkpoint = Checkpoint { seq: Seq(1), root: Digest([1; 32]), header: &header, tables: &[table.clone()] };
    store.checkpoint(checkpoint).unwrap();
    let loaded = opened(&disk).1.unwrap();
    assert!(loaded.header == header && loaded.tables == [table.clone()]);
    let long = vec![0; MAX_HEADER_BYTES + 1];
    let refused = store.checkpoint(Checkpoint { header: &long, ..checkpoint });
    assert!(matches!(refused, Err(SnapshotError::HeaderTooLong(_))));
    let many = vec![MerkleMap::new(); MAX_TABLES + 1];
    let refused = store.checkpoint(Checkpoint { tables: &many, ..checkpoint });
    assert!(matches!(refused, Err(SnapshotError::TooManyTables(257))));
    let many = vec![table; MAX_TABLES];
    store.checkpoint(Checkpoint { tables: &many[..2], ..checkpoint }).unwrap();
}

#[test]
fn a_store_is_opened_only_as_what_it_is() {
    let disk = MemoryDisk::new();
    assert!(matches!(SnapshotStore::open(disk.clone(), identity()), Err(OpenError::Missing)));
    SnapshotStore::create(disk.clone(), &settings()).unwrap();
    assert!(matches!(SnapshotStore::create(disk.clone(), &settings()), Err(OpenError::AlreadyExists)));
    let other = LogIdentity { replica: ReplicaId(1), ..identity() };
    assert!(matches!(SnapshotStore::open(disk.clone(), other), Err(OpenError::ForeignReplica(_))));
    let other = LogIdentity { cluster: ClusterId::default(), ..identity() };
    assert!(matches!(SnapshotStore::open(disk.clone(), other), Err(OpenError::ForeignCluster(_))));
    // The superblock of a log under the name of the store's.
    let log = disk.directory("log");
    let settings = LogSettings { identity: identity(), trust: Trust::NewCluster, segment_bytes: 16 * 1024, key: KEY };
    crate::log::FrameLog::create(log.clone(), &settings).unwrap();
    disk.corrupt("snapshot-superblock", 0, &log.contents("log-superblock").unwrap());
    assert!(matches!(SnapshotStore::open(disk.clone(), identity()), Err(OpenError::Damaged { .. })));
    SnapshotStore::discard(&mut disk.clone()).unwrap();
    assert!(disk.clone().list().unwrap().is_empty());
}

#[test]
fn malformed_entries_are_refused() {
    let mut good = Vec::new();
    entry::put(&mut good, 3, b"key", b"value");
    entry::remove(&mut good, 4, b"key");
    assert_eq!(entry::parse(&good).count(), 2);
    assert!(entry::parse(&good).all(|entry| entry.is_ok()));
    for length in 1..good.len() {
        let cut = entry::parse(&good[..length]).last().unwrap();
        let at_boundary = length as u64 == entry::put_bytes(b"key", b"value");
        assert_eq!(cut.is_ok(), at_boundary, "{length}");
    }
    assert!(entry::parse(&[9]).next().unwrap().is_err());
    assert!(entry::parse(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).next().unwrap().is_err());
    let mut commit = Vec::new();
    let written = Commit { seq: Seq(1), root: Digest::ZERO, header: vec![1], table_digests: vec![Digest::ZERO] };
    entry::commit(&mut commit, &written);
    commit.push(0);
    assert!(entry::parse(&commit).next().unwrap().is_err(), "bytes after a commit");
}
