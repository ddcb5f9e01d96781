use std::path::PathBuf;

use super::*;
use crate::private_key_block::ScryptCost;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn cheap(text: &str) -> Encryption {
    Encryption { passphrase: passphrase(text), cost: ScryptCost::new(4).unwrap() }
}

fn identity() -> Identity {
    Identity::from_seeds(&[1; 32], &[2; 32])
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node0.key");
    (directory, path)
}

fn text_of(encryption: Option<&Encryption>) -> String {
    let (_directory, path) = place();
    identity().create(&path, encryption).unwrap();
    std::fs::read_to_string(path).unwrap()
}

fn open(text: &str) -> Result<SecretFile, KeyFileProblem> {
    let (_directory, path) = place();
    protected_file::create(&path, SECRET_MODE, text).unwrap();
    SecretFile::load(&path, &PassphraseSource::Given(passphrase("open"))).map_err(|error| error.problem)
}

#[test]
fn an_identity_round_trips() {
    let (_directory, path) = place();
    identity().create(&path, None).unwrap();
    let loaded = Identity::load(&path, &PassphraseSource::None).unwrap();
    assert_eq!((loaded.consensus.to_seed(), loaded.transport.to_seed()), ([1; 32], [2; 32]));
    assert_eq!(SecretFile::outline(&path).unwrap(), KeyFileOutline { kind: KeyFileKind::Replica, encrypted: false });
    let again = identity().create(&path, None).unwrap_err();
    assert!(matches!(again.problem, KeyFileProblem::Exists));
}

#[test]
fn an_encrypted_identity_round_trips_and_hides_its_seeds() {
    let (_directory, path) = place();
    identity().create(&path, Some(&cheap("open"))).unwrap();
    let loaded = Identity::load(&path, &PassphraseSource::Given(passphrase("open"))).unwrap();
    assert_eq!((loaded.consensus.to_seed(), loaded.transport.to_seed()), ([1; 32], [2; 32]));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text_of(None).contains("AQEBAQEBAQEB"), "the seed in base64");
    assert!(!text.contains("AQEBAQEBAQEB"));
    assert!(SecretFile::outline(&path).unwrap().encrypted);
    let wrong = Identity::load(&path, &PassphraseSource::Given(passphrase("shut"))).unwrap_err();
    assert!(matches!(wrong.problem, KeyFileProblem::WrongPassphrase));
    let none = Identity::load(&path, &PassphraseSource::None).unwrap_err();
    assert!(matches!(none.problem, KeyFileProblem::Passphrase(_)));
    assert!(!none.is_refusal());
}

#[test]
fn a_client_key_round_trips_and_is_no_identity() {
    let (_directory, path) = place();
    let key = create_client_key(&path, None).unwrap();
    let loaded = load_client_key(&path, &PassphraseSource::None).unwrap();
    assert_eq!(loaded.public(), key.public());
    let error = Identity::load(&path, &PassphraseSource::None).unwrap_err();
    assert!(error.to_string().ends_with("holds a client key, where a replica identity is needed"));
    let (_directory, path) = place();
    identity().create(&path, None).unwrap();
    assert!(ClientKey::load(&path, &PassphraseSource::None).unwrap_err().is_refusal());
}

#[test]
fn fresh_keys_differ() {
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    assert_ne!(one.consensus.to_seed(), two.consensus.to_seed());
    assert_ne!(one.consensus.to_seed(), one.transport.to_seed());
}

#[test]
fn protection_is_checked_on_loading() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = place();
    identity().create(&path, None).unwrap();
    let link = directory.path().join("link.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = Identity::load(&link, &PassphraseSource::None).unwrap_err();
    assert!(matches!(error.problem, KeyFileProblem::Symlink));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Identity::load(&path, &PassphraseSource::None).unwrap_err();
    assert!(matches!(error.problem, KeyFileProblem::WideMode(0o644)));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for text in [text_of(None), text_of(Some(&cheap("open")))] {
        assert!(open(&text).is_ok());
        for length in 0..text.len() {
            assert!(open(&text[..length]).is_err(), "cut at {length} of {}", text.len());
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_never_gives_other_keys() {
    let text = text_of(None);
    let right = identity().public();
    for index in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        if let Ok(SecretFile::Replica(loaded)) = open(std::str::from_utf8(&changed).unwrap()) {
            // The public half inside PKCS#8 catches a changed seed.
            assert_eq!(loaded.public(), right, "byte {index}");
        }
    }
}

#[test]
fn garbage_and_other_forms_are_refused() {
    let text = text_of(None);
    for garbage in ["", "\n", "hello\n", "quorate-identity\n", "-----BEGIN PRIVATE KEY-----\n"] {
        assert!(matches!(open(garbage), Err(KeyFileProblem::NotAKeyFile)), "{garbage:?}");
    }
    let newer = text.replacen("quorate-identity 1", "quorate-identity 2", 1);
    assert!(matches!(open(&newer), Err(KeyFileProblem::UnknownFormat(version)) if version == "2"));
    assert!(matches!(open(&format!("{text}more\n")), Err(KeyFileProblem::Malformed(_))));
    assert!(open(&format!("{text}\n\n")).is_ok());
    let swapped = text.replace("consensus", "x").replace("transport", "consensus").replace("\nx\n", "\ntransport\n");
    assert!(matches!(open(&swapped), Err(KeyFileProblem::Malformed(_))));
    let client_heading = text.replacen("quorate-identity", "quorate-client-key", 1);
    assert!(matches!(open(&client_heading), Err(KeyFileProblem::Malformed(_))));
}

#[test]
fn one_key_in_both_roles_is_refused() {
    let (_directory, path) = place();
    Identity::from_seeds(&[1; 32], &[1; 32]).create(&path, None).unwrap();
    let error = Identity::load(&path, &PassphraseSource::None).unwrap_err();
    assert!(matches!(error.problem, KeyFileProblem::OneKeyTwice));
}

#[test]
fn half_an_encrypted_file_is_refused() {
    let (plain, encrypted) = (text_of(None), text_of(Some(&cheap("open"))));
    let cut = |text: &str| text.find("transport").unwrap();
    let mixed = format!("{}{}", &plain[..cut(&plain)], &encrypted[cut(&encrypted)..]);
    assert!(matches!(open(&mixed), Err(KeyFileProblem::Malformed(_))));
}

#[test]
fn nothing_prints_a_secret() {
    let printed = format!("{:?} {:?}", identity(), ClientKey::from_seed(&[1; 32]));
    assert!(!printed.contains("1, 1") && !printed.contains("0101"), "{printed}");
}
