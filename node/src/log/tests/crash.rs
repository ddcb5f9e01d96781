//! The process dies at every single storage operation, with and without the power, and in recovery again.

use super::*;
use crate::disk::Fault;

/// What a run had reached when it died.
#[derive(Default)]
struct Progress {
    created: bool,
    appended: u64,
    synced: u64,
    cut: u64,
}

/// Appends, syncs, cuts and prepares until the end or the first error.
fn run(disk: &MemoryDisk, progress: &mut Progress) -> Result<(), LogError> {
    let mut log = match FrameLog::create(disk.clone(), &settings()) {
        Ok(log) => log,
        Err(OpenError::Disk(error)) => return Err(error.into()),
        Err(error) => panic!("{error}"),
    };
    progress.created = true;
    progress.cut = 1;
    for turn in 1..=40u64 {
        progress.appended = turn;
        log.append(&payload(turn))?;
        log.sync()?;
        progress.synced = turn;
        if turn.is_multiple_of(4) {
            progress.cut = turn - 2;
            log.cut(FrameNumber(turn - 2))?;
        }
        if turn.is_multiple_of(3) {
            log.maintain()?;
        }
    }
    Ok(())
}

/// Opens after a crash and checks that everything promised is there. Returns first and last frame.
fn check(disk: &MemoryDisk, progress: &Progress) -> Option<(u64, u64)> {
    let (log, frames) = match opened(disk) {
        Ok(opened) => opened,
        Err(OpenError::Missing) if !progress.created => return None,
        Err(error) => panic!("synced {}, cut {}: {error}", progress.synced, progress.cut),
    };
    let first = log.first_number().0;
    let last = log.next_number().0 - 1;
    assert_frames(&frames, first, last);
    assert!(last >= progress.synced, "frame {} was synced, the log ends at {last}", progress.synced);
    assert!(last <= progress.appended.max(1), "frame {last} was never appended");
    assert!(first <= progress.cut.max(1), "frames from {} on were to be kept, the log starts at {first}", progress.cut);
    Some((first, last))
}

/// After a check the log must go on as if nothing had been.
fn goes_on(disk: &MemoryDisk, last: u64) {
    let (mut log, _) = opened(disk).unwrap();
    append_synced(&mut log, 3);
    log.cut(FrameNumber(last + 2)).unwrap();
    append_synced(&mut log, 3);
    let first = log.first_number().0;
    drop(log);
    assert_frames(&opened(disk).unwrap().1, first, last + 6);
}

fn operations_of_a_run() -> u64 {
    let disk = MemoryDisk::new();
    run(&disk, &mut Progress::default()).unwrap();
    disk.operations()
}

#[test]
fn nothing_synced_is_lost_when_the_power_fails_at_any_operation() {
    let total = operations_of_a_run();
    assert!(total > 300, "{total}");
    for operation in 1..=total + 1 {
        for seed in 0..4 {
            let disk = MemoryDisk::new();
            let mut progress = Progress::default();
            disk.crash_at(operation);
            assert_eq!(run(&disk, &mut progress).is_ok(), operation > total);
            disk.power_cut(operation * 16 + seed);
            if seed > 0 {
                // And once more, at some operation of the recovery.
                disk.crash_at(disk.operations() + 1 + (operation * 7 + seed * 13) % 60);
                let _interrupted = opened(&disk);
                disk.power_cut(operation * 16 + seed + 8);
            }
            if let Some((_, last)) = check(&disk, &progress) {
                goes_on(&disk, last);
            }
        }
    }
}

#[test]
fn no_write_endangers_what_is_durable_even_on_sectors_that_tear() {
    let total = operations_of_a_run();
    for operation in 1..=total {
        for seed in 0..2 {
            let disk = MemoryDisk::new();
            let mut progress = Progress::default();
            disk.crash_at(operation);
            assert!(run(&disk, &mut progress).is_err());
            disk.power_cut_with_noise(operation * 2 + seed);
            check(&disk, &progress);
        }
    }
}

#[test]
fn what_opening_gives_back_is_durable_even_if_only_the_process_died() {
    let total = operations_of_a_run();
    for operation in 1..=total {
        let disk = MemoryDisk::new();
        let mut progress = Progress::default();
        disk.crash_at(operation);
        assert!(run(&disk, &mut progress).is_err());
        disk.restart();
        let Some((first, last)) = check(&disk, &progress) else { continue };
        disk.power_cut(operation);
        assert_eq!(check(&disk, &progress), Some((first, last)));
    }
}

#[test]
fn a_failed_operation_ends_the_log_and_loses_nothing() {
    let total = operations_of_a_run();
    for operation in 1..=total {
        for power in [false, true] {
            let disk = MemoryDisk::new();
            let mut progress = Progress::default();
            disk.fail_at(operation, Fault::Io);
            assert!(run(&disk, &mut progress).is_err(), "operation {operation} failed unnoticed");
            if power {
                disk.power_cut(operation);
            } else {
                disk.restart();
            }
            let Some((first, last)) = check(&disk, &progress) else { continue };
            disk.power_cut(operation + 1);
            assert_eq!(check(&disk, &progress), Some((first, last)), "opening showed what was not durable");
        }
    }
}

#[test]
#[should_panic(expected = "previous sync")]
fn nothing_is_appended_after_a_failed_sync() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 2);
    log.append(b"x").unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Io);
    assert!(log.sync().is_err());
    let _refused = log.append(b"y");
}

#[test]
fn a_full_disk_at_any_operation_is_survived() {
    let total = operations_of_a_run();
    for operation in 1..=total {
        let disk = MemoryDisk::new();
        let mut progress = Progress::default();
        disk.fail_at(operation, Fault::DiskFull);
        let _full_or_failed = run(&disk, &mut progress);
        disk.power_cut(operation);
        check(&disk, &progress);
    }
}
