//! Puts and deletions.

use crate::client::{apply, delete, error, get, keys, pair, put, range, store};
use quorate_kv::{
    DeleteRequest, DeleteResponse, KeyRange, Operation, OperationError, Outcome, PutRequest, PutResponse, RangeRequest,
};

#[test]
fn the_store_starts_at_revision_1_and_the_first_put_makes_2() {
    let mut store = store();
    assert_eq!(store.current_revision(), 1);
    assert_eq!(put(&mut store, "a", "1"), 2);
    assert_eq!(put(&mut store, "b", "1"), 3);
}

#[test]
fn a_put_bumps_the_version_and_keeps_the_create_revision() {
    let mut store = store();
    put(&mut store, "a", "1");
    assert_eq!(get(&store, "a"), Some(pair("a", "1", 2, 2, 1)));
    put(&mut store, "a", "2");
    put(&mut store, "a", "2");
    assert_eq!(get(&store, "a"), Some(pair("a", "2", 2, 4, 3)));
}

#[test]
fn a_put_after_a_delete_starts_over() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    assert_eq!(delete(&mut store, KeyRange::single("a")), (4, 1));
    assert_eq!(get(&store, "a"), None);
    put(&mut store, "a", "3");
    assert_eq!(get(&store, "a"), Some(pair("a", "3", 5, 5, 1)));
}

#[test]
fn a_delete_of_nothing_does_not_bump_the_revision() {
    let mut store = store();
    put(&mut store, "a", "1");
    let root = store.root();
    assert_eq!(delete(&mut store, KeyRange::single("b")), (2, 0));
    assert_eq!(delete(&mut store, KeyRange::interval("b", "z")), (2, 0));
    assert_eq!(store.root(), root);
}

#[test]
fn a_put_can_answer_with_the_previous_pair() {
    let mut store = store();
    let request = |value: &str| Operation::Put(PutRequest { prev_kv: true, ..PutRequest::new("a", value) });
    assert_eq!(apply(&mut store, request("1")).outcome, Outcome::Put(PutResponse { prev_kv: None }));
    let prev_kv = Some(pair("a", "1", 2, 2, 1));
    assert_eq!(apply(&mut store, request("2")).outcome, Outcome::Put(PutResponse { prev_kv }));
    delete(&mut store, KeyRange::single("a"));
    assert_eq!(apply(&mut store, request("3")).outcome, Outcome::Put(PutResponse { prev_kv: None }));
}

#[test]
fn a_delete_can_answer_with_the_previous_pairs() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "2");
    let request = DeleteRequest { range: KeyRange::all(), prev_kv: true };
    let prev_kvs = vec![pair("a", "1", 2, 2, 1), pair("b", "2", 3, 3, 1)];
    let outcome = apply(&mut store, Operation::Delete(request)).outcome;
    assert_eq!(outcome, Outcome::Delete(DeleteResponse { deleted: 2, prev_kvs }));
}

#[test]
fn ignore_value_keeps_the_value_and_needs_the_key() {
    let mut store = store();
    let request = Operation::Put(PutRequest { ignore_value: true, ..PutRequest::new("a", "") });
    assert_eq!(error(&apply(&mut store, request.clone())), OperationError::KeyNotFound);
    put(&mut store, "a", "1");
    assert_eq!(apply(&mut store, request.clone()).revision, 3);
    assert_eq!(get(&store, "a"), Some(pair("a", "1", 2, 3, 2)));
    delete(&mut store, KeyRange::single("a"));
    assert_eq!(error(&apply(&mut store, request)), OperationError::KeyNotFound);
}

#[test]
fn ignore_lease_needs_the_key() {
    let mut store = store();
    let request = Operation::Put(PutRequest { ignore_lease: true, ..PutRequest::new("a", "2") });
    assert_eq!(error(&apply(&mut store, request.clone())), OperationError::KeyNotFound);
    put(&mut store, "a", "1");
    apply(&mut store, request);
    assert_eq!(get(&store, "a"), Some(pair("a", "2", 2, 3, 2)));
}

#[test]
fn a_delete_range_is_one_revision() {
    let mut store = store();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "v");
    }
    assert_eq!(delete(&mut store, KeyRange::interval("a", "c")), (5, 2));
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::all()))), ["c"]);
}
