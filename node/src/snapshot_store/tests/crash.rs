//! The process dies at every storage operation of a run of checkpoints with cleaning.

use super::*;
use crate::disk::Fault;

/// States whose checkpoint was tried, and how many calls returned.
#[derive(Default)]
struct Progress {
    created: bool,
    tried: Vec<State>,
    done: usize,
}

fn run(disk: &MemoryDisk, seed: u64, progress: &mut Progress) -> Result<(), SnapshotError> {
    let mut store = match SnapshotStore::create(disk.clone(), &settings()) {
        Ok(store) => store,
        Err(OpenError::Disk(error)) => return Err(error.into()),
        Err(error) => panic!("{error}"),
    };
    progress.created = true;
    let mut random = random(seed);
    let mut state = State::with_tables(2);
    for _ in 0..16 {
        state.change(&mut random, 40, 30, 600);
        progress.tried.push(state.clone());
        state.store(&mut store)?;
        progress.done += 1;
    }
    assert!(store.start.number.0 > 1 && store.segments.first() > 2, "the run cleans and frees segments");
    Ok(())
}

/// Opens and checks that it is the last checkpoint that returned or the one that was being written. Goes on from there.
fn check(disk: &MemoryDisk, progress: &Progress) -> Option<Seq> {
    let loaded = match SnapshotStore::open(disk.clone(), identity()) {
        Ok((_, loaded)) => loaded,
        Err(OpenError::Missing) if !progress.created => return None,
        Err(error) => panic!("after {} checkpoints: {error}", progress.done),
    };
    let Some(loaded) = loaded else {
        assert_eq!(progress.done, 0, "a durable checkpoint is gone");
        return None;
    };
    let index = loaded.seq.0 as usize - 1;
    assert!(index + 1 >= progress.done, "{} checkpoints were durable, {:?} was loaded", progress.done, loaded.seq);
    progress.tried[index].assert_is(&loaded);
    Some(loaded.seq)
}

fn goes_on(disk: &MemoryDisk, seed: u64) {
    let (mut store, loaded) = opened(disk);
    let mut state = State::with_tables(2);
    if let Some(loaded) = loaded {
        state.seq = loaded.seq.0;
        for (table, entries) in loaded.tables.iter().enumerate() {
            for (key, value) in entries {
                state.put(table, &key, value.to_vec());
            }
        }
    }
    let mut random = random(seed);
    for _ in 0..3 {
        state.change(&mut random, 40, 30, 600);
        state.store(&mut store).unwrap();
    }
    state.assert_is(&opened(disk).1.unwrap());
}

fn operations_of_a_run(seed: u64) -> u64 {
    let disk = MemoryDisk::new();
    run(&disk, seed, &mut Progress::default()).unwrap();
    disk.operations()
}

#[test]
fn a_checkpoint_is_durable_or_as_if_never_begun() {
    let total = operations_of_a_run(1);
    for operation in 1..=total {
        for variant in 0..2 {
            let disk = MemoryDisk::new();
            let mut progress = Progress::default();
            disk.crash_at(operation);
            assert!(run(&disk, 1, &mut progress).is_err());
            disk.power_cut(operation * 2 + variant);
            if variant == 1 {
                disk.crash_at(disk.operations() + 1 + (operation * 7) % 50);
                let _interrupted = SnapshotStore::open(disk.clone(), identity());
                disk.power_cut(operation);
            }
            check(&disk, &progress);
            if progress.created {
                goes_on(&disk, operation);
            }
        }
    }
}

#[test]
fn what_opening_gives_back_is_durable_even_if_only_the_process_died_or_a_sync_failed() {
    let total = operations_of_a_run(2);
    for operation in 1..=total {
        for fails in [false, true] {
            let disk = MemoryDisk::new();
            let mut progress = Progress::default();
            if fails {
                disk.fail_at(operation, Fault::Io);
            } else {
                disk.crash_at(operation);
            }
            // An error while an old frame is read is repaired, so that the run may succeed.
            let _died = run(&disk, 2, &mut progress);
            disk.restart();
            let first = check(&disk, &progress);
            disk.power_cut(operation);
            assert_eq!(check(&disk, &progress), first, "opening showed what was not durable");
        }
    }
}

#[test]
fn a_full_disk_leaves_the_previous_checkpoint_and_a_usable_store() {
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let mut random = random(seed);
        let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
        let mut state = State::with_tables(1);
        state.change(&mut random, 50, 400, 100);
        state.store(&mut store).unwrap();
        let durable = state.clone();
        disk.set_capacity(Some(store.size_on_disk() + seed * 4096));
        state.change(&mut random, 2000, 4000, 100);
        for _ in 0..2 {
            let error = state.store(&mut store).unwrap_err();
            assert!(matches!(error, SnapshotError::Disk(error) if error.is_disk_full()));
            assert_eq!(store.durable_seq(), Some(Seq(1)));
        }
        let copy = disk.clone();
        copy.power_cut(seed);
        let (reopened, loaded) = opened(&copy);
        durable.assert_is(&loaded.unwrap());
        if seed % 2 == 0 {
            store = reopened;
        }
        disk.set_capacity(None);
        state.store(&mut store).unwrap();
        disk.power_cut(seed);
        state.assert_is(&opened(&disk).1.unwrap());
    }
}

/// Two states of several frames each, alike in every length.
fn twins() -> [State; 2] {
    [1, 2].map(|fill| {
        let mut state = State::with_tables(1);
        state.seq = fill;
        for key in 0..40 {
            state.put(0, format!("key/{key}").as_bytes(), vec![fill as u8; 300]);
        }
        state
    })
}

/// The second twin after the first was given up at `first` operations, by a crash or a full disk, then dies at `second`.
fn given_up_twice(first: u64, second: u64, crashes: bool) -> MemoryDisk {
    let [given_up, next] = twins();
    let disk = MemoryDisk::new();
    let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
    State::with_tables(1).store(&mut store).unwrap();
    if crashes {
        disk.crash_at(disk.operations() + first);
        given_up.store(&mut store).unwrap_err();
        disk.restart();
        store = opened(&disk).0;
    } else {
        disk.fail_at(disk.operations() + first, Fault::DiskFull);
        given_up.store(&mut store).unwrap_err();
    }
    disk.crash_at(disk.operations() + second);
    next.store(&mut store).unwrap_err();
    disk.restart();
    disk
}

#[test]
fn frames_of_a_checkpoint_that_was_given_up_never_meet_those_of_the_next() {
    for crashes in [true, false] {
        for first in 2..5 {
            for second in 1..5 {
                let (_, loaded) = opened(&given_up_twice(first, second, crashes));
                assert_eq!(loaded.unwrap().seq, Seq(0), "neither was complete");
            }
        }
    }
}

#[test]
fn random_runs_with_random_crashes_agree_with_the_model() {
    for seed in 0..30 {
        let disk = MemoryDisk::new();
        let mut random = random(seed);
        let mut store = SnapshotStore::create(disk.clone(), &settings()).unwrap();
        let mut durable: Option<State> = None;
        let mut state = State::with_tables(3);
        for _ in 0..30 {
            let changes = (random.next_u64() % 80) as usize;
            state.change(&mut random, changes, 200, 300);
            if random.next_u64().is_multiple_of(3) {
                disk.crash_at(disk.operations() + 1 + random.next_u64() % 20);
            }
            let result = state.store(&mut store);
            if result.is_ok() {
                durable = Some(state.clone());
                disk.restart();
                continue;
            }
            disk.power_cut(random.next_u64());
            let (reopened, loaded) = opened(&disk);
            store = reopened;
            match (&loaded, &durable) {
                (None, None) => {}
                (Some(loaded), _) if loaded.seq.0 == state.seq => state.assert_is(loaded),
                (Some(loaded), Some(durable)) => durable.assert_is(loaded),
                _ => panic!("loaded {:?}", loaded.map(|loaded| loaded.seq)),
            }
            if let Some(loaded) = loaded
                && loaded.seq.0 == state.seq
            {
                durable = Some(state.clone());
            }
        }
    }
}
