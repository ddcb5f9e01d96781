use super::*;

/// What both disks must do alike.
fn keeps_the_contract(mut disk: impl Disk) {
    assert_eq!(disk.list().unwrap(), Vec::<String>::new());
    disk.create("b").unwrap();
    assert!(matches!(disk.create("b"), Err(DiskError::AlreadyExists(_))));
    disk.allocate("b", 8192).unwrap();
    disk.allocate("b", 10).unwrap();
    assert_eq!(disk.length("b").unwrap(), Some(8192));
    let mut buffer = [1; 8];
    disk.read_at("b", 8184, &mut buffer).unwrap();
    assert_eq!(buffer, [0; 8]);
    assert!(disk.read_at("b", 8185, &mut buffer).is_err(), "the file ends before the buffer is full");
    disk.write_at("b", 100, b"quorate").unwrap();
    disk.sync_data("b").unwrap();
    disk.create("a").unwrap();
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    disk.rename("b", "a").unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(disk.list().unwrap(), ["a"]);
    assert_eq!(disk.length("b").unwrap(), None);
    let mut buffer = [0; 7];
    disk.read_at("a", 100, &mut buffer).unwrap();
    assert_eq!(&buffer, b"quorate");
    disk.remove("a").unwrap();
    assert!(matches!(disk.remove("a"), Err(DiskError::NotFound(_))));
    assert!(matches!(disk.rename("a", "b"), Err(DiskError::NotFound(_))));
    assert!(matches!(disk.sync_data("a"), Err(DiskError::NotFound(_))));
    for name in ["", ".", "..", ".hidden", "a/b", "A", "ü", &"x".repeat(MAX_NAME_BYTES + 1)] {
        assert!(matches!(disk.create(name), Err(DiskError::BadName(_))), "{name:?}");
    }
}

#[test]
fn files_keep_the_contract() {
    let parent = tempfile::tempdir().unwrap();
    keeps_the_contract(FileDisk::create(&parent.path().join("data"), 0).unwrap());
}

#[test]
fn memory_keeps_the_contract() {
    keeps_the_contract(MemoryDisk::new());
}

/// A medium with one durable file of 64 sectors.
fn medium() -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    disk.create("a").unwrap();
    disk.write_at("a", 0, &vec![1; 64 * SECTOR_BYTES]).unwrap();
    disk.sync_data("a").unwrap();
    disk.sync_directory().unwrap();
    disk
}

#[test]
fn a_power_cut_keeps_some_unsynced_sectors_whole_and_loses_others() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut disk = medium();
        disk.write_at("a", 0, &vec![2; 32 * SECTOR_BYTES]).unwrap();
        disk.write_at("a", 100, &vec![3; 16 * SECTOR_BYTES]).unwrap();
        disk.power_cut(seed);
        let bytes = disk.contents("a").unwrap();
        let mut kept = 0;
        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let old = sector.iter().all(|byte| *byte == 1);
            let new = sector.iter().all(|byte| *byte == 2 || *byte == 3);
            assert!(old || new, "sector {index} is torn");
            assert!(index < 32 || old, "what was never written cannot change");
            kept += usize::from(new);
        }
        outcomes.insert(kept);
        let again = medium();
        again.clone().write_at("a", 0, &vec![2; 32 * SECTOR_BYTES]).unwrap();
        again.clone().write_at("a", 100, &vec![3; 16 * SECTOR_BYTES]).unwrap();
        again.power_cut(seed);
        assert_eq!(again.contents("a").unwrap(), bytes, "the same seed gives the same bytes");
    }
    assert!(outcomes.len() > 5, "{outcomes:?}");
}

#[test]
fn synced_bytes_survive_every_power_cut() {
    for seed in 0..50 {
        let mut disk = medium();
        disk.write_at("a", 0, &vec![2; 64 * SECTOR_BYTES]).unwrap();
        disk.sync_data("a").unwrap();
        disk.power_cut(seed);
        assert_eq!(disk.contents("a").unwrap(), vec![2; 64 * SECTOR_BYTES]);
    }
}

#[test]
fn names_that_were_not_synced_come_and_go_with_the_power() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut disk = medium();
        disk.create("b").unwrap();
        disk.rename("a", "c").unwrap();
        disk.remove("b").unwrap();
        disk.power_cut(seed);
        seen.insert(disk.list().unwrap().join(" "));
    }
    let expected = ["a", "a b", "b c", "c"].map(str::to_owned);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn bytes_whose_sync_failed_look_clean_and_are_lost_unless_written_again() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut disk = medium();
        disk.write_at("a", 0, &[2; SECTOR_BYTES]).unwrap();
        disk.fail_at(disk.operations() + 1, Fault::Io);
        assert!(matches!(disk.sync_data("a"), Err(DiskError::Io { .. })));
        assert!(matches!(disk.sync_data("a"), Err(DiskError::Poisoned)));
        disk.restart();
        let mut sector = [0; SECTOR_BYTES];
        disk.read_at("a", 0, &mut sector).unwrap();
        assert_eq!(sector, [2; SECTOR_BYTES], "the system still shows the bytes");
        disk.sync_data("a").unwrap();
        let rewritten = seed % 2 == 0;
        if rewritten {
            disk.write_at("a", 0, &sector).unwrap();
            disk.sync_data("a").unwrap();
        }
        disk.power_cut(seed);
        let kept = disk.contents("a").unwrap()[0] == 2;
        assert!(kept || !rewritten);
        lost += usize::from(!kept);
    }
    assert!(lost > 0);
}

#[test]
fn a_planned_crash_refuses_everything_until_the_restart() {
    let mut disk = medium();
    disk.crash_at(disk.operations() + 2);
    disk.write_at("a", 0, b"seen").unwrap();
    assert!(matches!(disk.write_at("a", 0, b"lost"), Err(DiskError::Io { .. })));
    assert!(matches!(disk.sync_data("a"), Err(DiskError::Poisoned)));
    disk.restart();
    assert_eq!(&disk.contents("a").unwrap()[..4], b"seen");
}

#[test]
fn capacity_and_directories_are_shared_by_a_medium() {
    let mut disk = medium();
    disk.set_capacity(Some(65 * SECTOR_BYTES as u64));
    let mut other = disk.directory("other");
    other.create("a").unwrap();
    assert!(other.allocate("a", 2 * SECTOR_BYTES as u64).unwrap_err().is_disk_full());
    other.allocate("a", SECTOR_BYTES as u64).unwrap();
    assert_eq!(disk.list().unwrap(), ["a"]);
    disk.set_capacity(None);
    other.allocate("a", 2 * SECTOR_BYTES as u64).unwrap();
    assert_eq!(disk.operations(), other.operations());
}
