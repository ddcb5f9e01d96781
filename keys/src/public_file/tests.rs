use super::*;
use crate::identity_file::{ClientKey, Identity};

fn replica() -> PublicFile {
    PublicFile::Replica(Identity::from_seeds(&[1; 32], &[2; 32]).public())
}

fn client() -> PublicFile {
    PublicFile::Client(ClientKey::from_seed(&[3; 32]).public())
}

#[test]
fn public_files_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    for (name, public) in [("node0.pub", replica()), ("app.pub", client())] {
        let path = directory.path().join(name);
        public.create(&path).unwrap();
        assert_eq!(PublicFile::load(&path).unwrap(), public);
        assert!(matches!(public.create(&path).unwrap_err().problem, KeyFileProblem::Exists));
    }
    assert_ne!(replica().fingerprint(), client().fingerprint());
}

#[test]
fn the_binding_is_pinned() {
    let PublicFile::Replica(identity) = replica() else { unreachable!() };
    let bytes = binding_bytes(&identity.consensus, &identity.transport);
    assert_eq!(bytes[..2], [0x60, 1]);
    assert_eq!(bytes[2..34], identity.consensus.0);
    assert_eq!(bytes[34..], identity.transport.0);
    assert_eq!(
        hex::encode(identity.binding.0),
        "b54ecf6253645cb4dd54a65c3319c68683692d2249d46a4bf08caf495d685e98aa81b5e612ea3a386a544cb38b2fb8dbe3d334b57a8dc84fd838a8de6f01dc0a"
    );
}

#[test]
fn a_transport_key_that_was_not_signed_for_is_refused() {
    let PublicFile::Replica(honest) = replica() else { unreachable!() };
    let PublicFile::Client(other) = client() else { unreachable!() };
    let stolen = PublicIdentity { transport: other.key, ..honest };
    assert!(matches!(stolen.check(), Err(KeyFileProblem::BadBinding)));
    let text = replica().to_toml().replace(&honest.transport.to_hex(), &other.key.to_hex());
    assert!(matches!(PublicFile::parse(&text), Err(KeyFileProblem::BadBinding)));
    // Signing with the transport key instead is no binding either.
    let reversed = Identity::from_seeds(&[2; 32], &[1; 32]).public();
    let forged = PublicIdentity { binding: reversed.binding, ..honest };
    assert!(matches!(forged.check(), Err(KeyFileProblem::BadBinding)));
}

#[test]
fn keys_nobody_may_use_are_refused() {
    let identity_point = format!("01{}", "00".repeat(31));
    let text = client().to_toml().replace(&client_key().to_hex(), &identity_point);
    assert!(matches!(PublicFile::parse(&text), Err(KeyFileProblem::UnacceptableKey)));
    let consensus = SecretKey::from_seed(&[1; 32]);
    let twice = PublicIdentity::bind(&consensus, consensus.public_key());
    assert!(matches!(twice.check(), Err(KeyFileProblem::OneKeyTwice)));
}

fn client_key() -> PublicKey {
    ClientKey::from_seed(&[3; 32]).public().key
}

#[test]
fn other_forms_are_refused() {
    let text = client().to_toml();
    assert!(matches!(PublicFile::parse("not toml at all"), Err(KeyFileProblem::NotAKeyFile)));
    assert!(matches!(PublicFile::parse(""), Err(KeyFileProblem::NotAKeyFile)));
    let newer = text.replace("format_version = 1", "format_version = 7\nsomething_new = true");
    assert!(matches!(PublicFile::parse(&newer), Err(KeyFileProblem::UnknownFormat(version)) if version == "7"));
    for (from, to) in [
        ("kind = \"client\"", "kind = \"admin\""),
        ("kind = \"client\"", "kind = \"replica\""),
        ("kind = \"client\"", "kind = \"client\"\nunknown = 1"),
        ("kind = \"client\"", "kind = \"client\"\nbinding = \"00\""),
        ("key = \"", "key = \"00"),
        ("key = \"", "key = \"zz"),
        ("key = ", "# key = "),
    ] {
        let changed = text.replace(from, to);
        assert!(matches!(PublicFile::parse(&changed), Err(KeyFileProblem::Malformed(_))), "{changed}");
    }
    let long = format!("{text}{}", "#\n".repeat(4096));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.pub");
    std::fs::write(&path, long).unwrap();
    assert!(matches!(PublicFile::load(&path).unwrap_err().problem, KeyFileProblem::TooLong(_)));
}
