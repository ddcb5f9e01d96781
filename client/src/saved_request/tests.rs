use std::os::unix::fs::PermissionsExt as _;

use quorate_crypto::{Digest, SecretKey, Signer as _};
use quorate_protocol::request::{Operation, RequestContent, SessionId};

use super::*;

fn saved() -> SavedRequest {
    let key = SecretKey::from_seed(&[7; 32]);
    let content = RequestContent {
        client: key.public_key(),
        session: SessionId([1; 16]),
        number: 1,
        acknowledged_below: 1,
        valid_until: 5,
        operations: vec![Operation { service: 1, bytes: vec![0, 255] }],
    };
    let cluster = ClusterId(Digest([3; 32]));
    SavedRequest { cluster, requests: vec![content.sign(cluster, &key)] }
}

#[test]
fn what_is_saved_is_read_back_to_the_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = saved().save(&directory.path().join("requests")).expect("saved");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let read = SavedRequest::load(&path, saved().cluster).expect("it is whole");
    assert_eq!(read, saved());
    assert_eq!(read.requests[0].digest(), saved().requests[0].digest());
}

#[test]
fn another_clusters_request_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = saved().save(directory.path()).expect("saved");
    let other = ClusterId(Digest([4; 32]));
    assert!(matches!(SavedRequest::load(&path, other), Err(SavedRequestError::OtherCluster { .. })));
}

#[test]
fn damaged_files_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = saved().save(directory.path()).expect("saved");
    let whole = std::fs::read_to_string(&path).expect("text");
    let cut = whole.replace("\"requests\":[\"", "\"requests\":[\"00");
    for text in ["", "{}", &cut, &whole.replace("\"v\":1", "\"v\":2"), &whole.replace("[\"", "[\"zz")] {
        std::fs::write(&path, text).expect("written");
        let read = SavedRequest::load(&path, saved().cluster);
        assert!(matches!(read, Err(SavedRequestError::Malformed { .. })), "{text}");
    }
}
