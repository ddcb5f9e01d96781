//! Space stays bounded, and damage found while cleaning is repaired from memory.

use super::*;
use crate::disk::Disk;

fn assert_bounded(store: &SnapshotStore<MemoryDisk>, segment_bytes: u64) {
    let bound = 3 * store.live_bytes() + 8 * segment_bytes;
    assert!(store.used_bytes() <= bound, "{} live, {} used", store.live_bytes(), store.used_bytes());
    assert!(store.size_on_disk() <= bound + 4 * segment_bytes, "{} on disk", store.size_on_disk());
}

#[test]
fn space_stays_bounded_when_everything_changes() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut state = State::with_tables(2);
    let mut random = random(3);
    for _ in 0..300 {
        state.change(&mut random, 60, 300, 400);
        state.store(&mut store).unwrap();
        assert_bounded(&store, 16 * 1024);
    }
    state.assert_is(&opened(&disk).1.unwrap());
    let on_disk: u64 = disk.clone().list().unwrap().iter().map(|name| disk.contents(name).unwrap().len() as u64).sum();
    assert_eq!(on_disk, store.size_on_disk());
}

#[test]
fn space_stays_bounded_when_a_few_keys_change_beside_many_that_do_not() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut state = State::with_tables(1);
    for key in 0..3000u32 {
        state.put(0, format!("cold/{key}").as_bytes(), vec![1; 400]);
    }
    state.seq = 1;
    state.store(&mut store).unwrap();
    let mut random = random(4);
    let mut carried = 0;
    let mut added = 0;
    for _ in 0..400 {
        state.change(&mut random, 60, 40, 400);
        let written = state.store(&mut store).unwrap();
        carried += written.carried_bytes;
        added += written.delta_bytes;
        assert_bounded(&store, 16 * 1024);
    }
    assert!(carried > 0, "cold entries were carried over");
    assert!(carried < 2 * added + 3 * store.live_bytes(), "{carried} carried for {added} added");
    state.assert_is(&opened(&disk).1.unwrap());
}

#[test]
fn an_emptied_state_gives_its_space_back() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut state = State::with_tables(1);
    state.change(&mut random(5), 3000, 3000, 400);
    state.store(&mut store).unwrap();
    let full = store.size_on_disk();
    let mut state = State::with_tables(1);
    for seq in 2..20 {
        state.seq = seq;
        state.store(&mut store).unwrap();
    }
    assert_eq!(store.live_bytes(), 0);
    assert!(full > 25 * 16 * 1024 && store.size_on_disk() <= 8 * 16 * 1024, "{} of {full}", store.size_on_disk());
    state.assert_is(&opened(&disk).1.unwrap());
}

#[test]
fn a_frame_found_damaged_while_cleaning_makes_the_store_write_everything_anew() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut state = State::with_tables(2);
    let mut random = random(6);
    state.change(&mut random, 100, 200, 200);
    state.store(&mut store).unwrap();
    disk.corrupt("snapshot-0000000000000000", 4096 + 300, &[0xff; 4]);
    let mut rewritten = 0;
    for _ in 0..60 {
        state.change(&mut random, 60, 200, 200);
        rewritten += u64::from(state.store(&mut store).unwrap().rewritten);
    }
    assert_eq!(rewritten, 1);
    let (reopened, loaded) = opened(&disk);
    state.assert_is(&loaded.unwrap());
    assert_eq!(reopened.live_bytes(), store.live_bytes());
}

#[test]
fn damage_to_an_old_frame_is_found_by_opening() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut state = State::with_tables(1);
    let mut random = random(7);
    for _ in 0..6 {
        state.change(&mut random, 10, 50, 50);
        state.store(&mut store).unwrap();
    }
    let pristine = disk.contents("snapshot-0000000000000000").unwrap();
    for offset in (4096..4096 + 600).chain(8192..8192 + 200) {
        if pristine[offset] == 0 && pristine[offset + 1] == 0 {
            continue;
        }
        disk.corrupt("snapshot-0000000000000000", offset as u64, &[pristine[offset] ^ 1]);
        match SnapshotStore::open(disk.clone(), identity()) {
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
            // Padding may rot unnoticed.
            Ok((_, loaded)) => state.assert_is(&loaded.unwrap()),
        }
        disk.corrupt("snapshot-0000000000000000", 0, &pristine);
    }
}

/// Makes the last block written, the commit entry of the last checkpoint in it, noise.
fn rot_the_last_block(disk: &MemoryDisk, store: &SnapshotStore<MemoryDisk>) {
    let last_block = store.tail.position.0 - 4096;
    let data = 16 * 1024 - 4096;
    let file = format!("snapshot-{:016x}", last_block / data);
    disk.corrupt(&file, 4096 + last_block % data, &[0xff; 4096]);
}

#[test]
fn when_the_last_checkpoint_rots_the_one_before_is_given_or_damage_reported_but_never_wrong_data() {
    let (mut before, mut reported, mut carried) = (0, 0, 0);
    for turns in 2..80 {
        let disk = MemoryDisk::new();
        let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
        let mut random = random(8);
        let mut state = State::with_tables(1);
        for key in 0..100u32 {
            state.put(0, format!("cold/{key}").as_bytes(), vec![1; 100]);
        }
        state.store(&mut store).unwrap();
        let mut previous = state.clone();
        let mut moved = 0;
        for _ in 0..turns {
            previous = state.clone();
            let start = store.superblock.start;
            state.change(&mut random, 40, 60, 300);
            let written = state.store(&mut store).unwrap();
            moved = if store.superblock.start == start { 0 } else { written.carried_bytes };
        }
        carried += u64::from(moved > 0);
        rot_the_last_block(&disk, &store);
        match SnapshotStore::open(disk.clone(), identity()) {
            Ok((_, loaded)) => {
                previous.assert_is(&loaded.unwrap());
                before += 1;
            }
            Err(OpenError::Damaged { .. }) => reported += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(before > 5 && reported > 0 && carried > 0, "{before} before, {reported} reported, {carried} carried");
}

#[test]
fn the_loss_of_the_only_checkpoint_is_not_an_empty_store() {
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    let mut random = random(6);
    let mut state = State::with_tables(2);
    state.change(&mut random, 100, 200, 200);
    state.store(&mut store).unwrap();
    disk.corrupt("snapshot-0000000000000000", 4096 + 300, &[0xff; 4]);
    loop {
        state.change(&mut random, 60, 200, 200);
        if state.store(&mut store).unwrap().rewritten {
            break;
        }
    }
    state.assert_is(&opened(&disk).1.unwrap());
    rot_the_last_block(&disk, &store);
    assert!(matches!(SnapshotStore::open(disk, identity()), Err(OpenError::Damaged { .. })));
}
