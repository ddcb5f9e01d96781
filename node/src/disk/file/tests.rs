use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn opened() -> (TempDir, FileDisk) {
    let parent = tempfile::tempdir().unwrap();
    let disk = FileDisk::create(&parent.path().join("data"), 0).unwrap();
    (parent, disk)
}

#[test]
fn a_second_open_of_the_directory_is_refused_until_the_first_is_dropped() {
    let (parent, disk) = opened();
    let path = parent.path().join("data");
    assert!(matches!(FileDisk::open(&path, 0), Err(DiskError::Locked(_))));
    drop(disk);
    FileDisk::open(&path, 0).unwrap();
}

#[test]
fn files_are_private_and_others_may_not_enter_the_directory() {
    let (parent, mut disk) = opened();
    let path = parent.path().join("data");
    disk.create("a").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("a")), 0o600);
    assert_eq!(mode(&path.join("lock")), 0o600);
    drop(disk);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(FileDisk::open(&path, 0), Err(DiskError::Exposed { mode: 0o750, .. })));
}

#[test]
fn symbolic_links_are_refused() {
    let (parent, mut disk) = opened();
    let path = parent.path().join("data");
    std::fs::write(parent.path().join("outside"), b"secret").unwrap();
    symlink(parent.path().join("outside"), path.join("link")).unwrap();
    assert!(matches!(disk.read_at("link", 0, &mut [0; 1]), Err(DiskError::Io { .. })));
    assert!(matches!(disk.create("link"), Err(DiskError::AlreadyExists(_))));
    drop(disk);
    symlink(&path, parent.path().join("alias")).unwrap();
    assert!(matches!(FileDisk::open(&parent.path().join("alias"), 0), Err(DiskError::Io { .. })));
}

#[test]
fn a_missing_directory_is_not_made_by_opening() {
    let parent = tempfile::tempdir().unwrap();
    assert!(matches!(FileDisk::open(&parent.path().join("data"), 0), Err(DiskError::NotFound(_))));
}

#[test]
fn the_reserve_is_never_allocated() {
    let parent = tempfile::tempdir().unwrap();
    let mut disk = FileDisk::create(&parent.path().join("data"), u64::MAX).unwrap();
    disk.create("a").unwrap();
    assert!(disk.allocate("a", 4096).unwrap_err().is_disk_full());
    assert_eq!(disk.length("a").unwrap(), Some(0));
}

#[test]
fn a_failed_sync_poisons_the_disk() {
    let (_parent, mut disk) = opened();
    disk.create("good").unwrap();
    // A pipe cannot be synced: the one way to a real failing fdatasync without a broken medium.
    let (reader, _writer) = std::io::pipe().unwrap();
    disk.files.insert("bad".to_owned(), File::from(std::os::fd::OwnedFd::from(reader)));
    assert!(matches!(disk.sync_data("bad"), Err(DiskError::Io { operation: Operation::SyncData, .. })));
    assert!(matches!(disk.sync_data("good"), Err(DiskError::Poisoned)));
    assert!(matches!(disk.write_at("good", 0, b"x"), Err(DiskError::Poisoned)));
    assert!(matches!(disk.sync_directory(), Err(DiskError::Poisoned)));
    assert!(matches!(disk.list(), Err(DiskError::Poisoned)));
}
