use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn file(contents: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passphrase");
    std::fs::write(&path, contents).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

fn read(contents: &[u8]) -> Result<Vec<u8>, PassphraseError> {
    let (_directory, path) = file(contents, 0o600);
    Passphrase::read(&path).map(|passphrase| passphrase.as_bytes().to_vec())
}

#[test]
fn the_first_line_counts() {
    assert_eq!(read(b"correct horse").unwrap(), b"correct horse");
    assert_eq!(read(b"correct horse\n").unwrap(), b"correct horse");
    assert_eq!(read(b"correct horse\r\nbattery\n").unwrap(), b"correct horse");
    assert_eq!(read(&[b'a'; PASSPHRASE_BYTES_MAX]).unwrap().len(), PASSPHRASE_BYTES_MAX);
}

#[test]
fn empty_long_and_readable_ones_are_refused() {
    assert!(matches!(read(b""), Err(PassphraseError::Empty)));
    assert!(matches!(read(b"\nsecond line"), Err(PassphraseError::Empty)));
    assert!(matches!(read(&[b'a'; PASSPHRASE_BYTES_MAX + 1]), Err(PassphraseError::TooLong)));
    assert!(matches!(read(&vec![b'a'; 1 << 20]), Err(PassphraseError::TooLong)));
    let (_directory, path) = file(b"secret", 0o644);
    assert!(matches!(Passphrase::read(&path), Err(PassphraseError::WideMode { mode: 0o644, .. })));
    assert!(matches!(Passphrase::read(Path::new("/nonexistent")), Err(PassphraseError::Unreadable { .. })));
}

#[test]
fn nothing_prints_a_passphrase() {
    let passphrase = Passphrase::new(Zeroizing::new(b"hunter2".to_vec())).unwrap();
    assert_eq!(format!("{passphrase:?}"), "Passphrase");
    assert_eq!(format!("{:?}", PassphraseSource::Given(passphrase)), "Given(Passphrase)");
}

#[test]
fn without_a_source_there_is_none() {
    let error = PassphraseSource::None.for_opening(Path::new("node0.key")).unwrap_err();
    assert!(matches!(error, PassphraseError::NoSource));
}
