use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn ours() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn file_with_mode(directory: &Path, mode: u32) -> PathBuf {
    let path = directory.join(format!("{mode:o}.key"));
    create(&path, SECRET_MODE, "secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn narrow_modes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o400] {
        assert_eq!(*read_secret(&file_with_mode(directory.path(), mode)).unwrap(), "secret");
    }
}

#[test]
fn wide_modes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660, 0o602, 0o620, 0o700, 0o601, 0o4600] {
        let path = file_with_mode(directory.path(), mode);
        assert!(
            matches!(read_secret(&path), Err(KeyFileProblem::WideMode(found)) if found == mode),
            "mode {mode:o} was not refused"
        );
    }
}

#[test]
fn the_owner_must_be_this_user() {
    assert!(check_protection(1000, 0o600, 1000).is_ok());
    assert!(matches!(check_protection(0, 0o600, 1000), Err(KeyFileProblem::WrongOwner { owner: 0, ours: 1000 })));
    // A superuser is no exception: what another user owns, that user can exchange.
    assert!(matches!(check_protection(1000, 0o600, 0), Err(KeyFileProblem::WrongOwner { owner: 1000, ours: 0 })));
    if ours() == 0 {
        let directory = tempfile::tempdir().unwrap();
        let path = file_with_mode(directory.path(), 0o600);
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(read_secret(&path), Err(KeyFileProblem::WrongOwner { owner: 12345, ours: 0 })));
    }
}

#[test]
fn links_directories_and_pipes_are_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_with_mode(directory.path(), 0o600);
    let link = directory.path().join("link.key");
    symlink(&file, &link).unwrap();
    assert!(matches!(read_secret(&link), Err(KeyFileProblem::Symlink)));
    assert!(matches!(read_secret(directory.path()), Err(KeyFileProblem::NotAFile)));
    let pipe = directory.path().join("pipe.key");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(matches!(read_secret(&pipe), Err(KeyFileProblem::NotAFile)));
    assert!(matches!(read_public(&pipe, 100), Err(KeyFileProblem::NotAFile)));
    assert!(matches!(read_secret(&directory.path().join("none")), Err(KeyFileProblem::Io(..))));
    // Of a public file a link is followed.
    assert_eq!(read_public(&link, 100).unwrap(), "secret");
}

#[test]
fn long_files_and_binary_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.key");
    create(&path, SECRET_MODE, &"x".repeat(KEY_FILE_BYTES_MAX)).unwrap();
    assert_eq!(read_secret(&path).unwrap().len(), KEY_FILE_BYTES_MAX);
    let path = directory.path().join("longer.key");
    create(&path, SECRET_MODE, &"x".repeat(KEY_FILE_BYTES_MAX + 1)).unwrap();
    assert!(matches!(read_secret(&path), Err(KeyFileProblem::TooLong(KEY_FILE_BYTES_MAX))));
    let path = file_with_mode(directory.path(), 0o600);
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(read_secret(&path), Err(KeyFileProblem::Malformed(_))));
}

#[test]
fn creating_never_overwrites_and_sets_the_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.key");
    create(&path, SECRET_MODE, "one").unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(matches!(create(&path, SECRET_MODE, "two"), Err(KeyFileProblem::Exists)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    // Not even through a link that points nowhere.
    let link = directory.path().join("link.key");
    symlink(directory.path().join("target"), &link).unwrap();
    assert!(matches!(create(&link, SECRET_MODE, "three"), Err(KeyFileProblem::Exists)));
    assert!(!directory.path().join("target").exists());
    assert!(matches!(create(&directory.path().join("no/such/dir"), 0o600, ""), Err(KeyFileProblem::Io(..))));
}

#[test]
fn problems_are_one_sentence() {
    let error = KeyFileError::new(Path::new("node0.key"), KeyFileProblem::WideMode(0o644));
    assert_eq!(
        error.to_string(),
        "node0.key has mode 0644, which is wider than 0600; run chmod 600 on it, and make a new key if others may have read it"
    );
    assert!(error.is_refusal());
    assert!(!KeyFileError::new(Path::new("x"), KeyFileProblem::Exists).is_refusal());
}
