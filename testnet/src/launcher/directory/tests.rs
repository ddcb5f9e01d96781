use super::*;

fn names(directory: &Directory) -> Vec<String> {
    let entries = directory.entries().expect("readable");
    entries.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path());
    fs::write(directory.genesis(), "mine").expect("written");
    let error = directory.clear().expect_err("not a testnet");
    assert!(matches!(error, LaunchError::Foreign { ref found, .. } if found == "genesis.toml"), "{error}");
    assert!(directory.genesis().exists());
}

#[test]
fn clearing_removes_a_testnet_and_nothing_else() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path());
    for file in ["genesis.toml", "testnet.toml", "client.key", "notes.txt"] {
        fs::write(place.path().join(file), "").expect("written");
    }
    for name in ["node0", "node17", "evidence", "nodes"] {
        fs::create_dir(place.path().join(name)).expect("made");
    }
    assert_eq!(names(&directory), ["client.key", "evidence", "genesis.toml", "node0", "node17", "testnet.toml"]);
    directory.clear().expect("a testnet");
    assert!(names(&directory).is_empty());
    assert!(place.path().join("notes.txt").exists() && place.path().join("nodes").exists());
}

#[test]
fn the_lock_is_exclusive_and_released_when_dropped() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path());
    let lock = directory.lock().expect("free");
    let file = File::open(place.path().join(".lock")).expect("there");
    let busy = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(busy, Err(rustix::io::Errno::WOULDBLOCK));
    drop(lock);
    drop(directory.lock().expect("free again"));
}

#[test]
fn relative_paths_are_shown_as_such() {
    assert_eq!(Directory::new("testnet").shown(), "./testnet");
    assert_eq!(Directory::new("./a").shown(), "./a");
    assert_eq!(Directory::new("/a/b").shown(), "/a/b");
}
