//! Transactions and comparisons.

use crate::client::{apply, compare, delete, error, get, holds, put, store, txn, txn_delete, txn_get, txn_put};
use quorate_kv::{
    Compare, CompareTarget, EventKind, KeyRange, LimitError, Operation, OperationError, RangeRequest, Relation,
    TxnOperation, TxnOutcome, TxnRequest,
};

#[test]
fn a_txn_is_one_revision_with_events_in_order() {
    let mut store = store();
    put(&mut store, "c", "0");
    let list = vec![txn_put("b", "1"), txn_delete(KeyRange::single("c")), txn_put("a", "1")];
    assert!(txn(&mut store, vec![], list, vec![]).succeeded);
    assert_eq!(store.current_revision(), 3);
    let page = store.events_since(3, &KeyRange::all(), 0, false).expect("not compacted");
    let events: Vec<_> = page.lists[0].events.iter().map(|event| (event.kind, event.kv.key[0])).collect();
    assert_eq!(events, [(EventKind::Put, b'b'), (EventKind::Delete, b'c'), (EventKind::Put, b'a')]);
    assert_eq!(get(&store, "a").map(|pair| pair.mod_revision), get(&store, "b").map(|pair| pair.mod_revision));
}

#[test]
fn a_failed_compare_without_writes_does_not_bump_the_revision() {
    let mut store = store();
    put(&mut store, "a", "1");
    let root = store.root();
    let wrong = compare("a", Relation::Equal, CompareTarget::Value(b"2".to_vec()));
    let response = txn(&mut store, vec![wrong], vec![txn_put("a", "3")], vec![txn_get("a")]);
    assert!(!response.succeeded);
    assert!(matches!(&response.responses[..], [TxnOutcome::Range(read)] if read.kvs[0].value == b"1"));
    assert_eq!((store.current_revision(), store.root()), (2, root));
}

#[test]
fn a_read_in_a_txn_sees_the_writes_before_it() {
    let mut store = store();
    put(&mut store, "a", "old");
    let list = vec![
        txn_get("a"),
        txn_put("a", "new"),
        txn_get("a"),
        TxnOperation::Range(RangeRequest { revision: 2, ..RangeRequest::new(KeyRange::single("a")) }),
        TxnOperation::Range(RangeRequest { revision: 3, ..RangeRequest::new(KeyRange::single("a")) }),
    ];
    let response = txn(&mut store, vec![], list, vec![]);
    let values: Vec<&[u8]> = response
        .responses
        .iter()
        .filter_map(|outcome| match outcome {
            TxnOutcome::Range(read) => Some(&read.kvs[0].value[..]),
            _ => None,
        })
        .collect();
    assert_eq!(values, [&b"old"[..], b"new", b"old", b"new"]);
}

#[test]
fn a_txn_whose_part_is_refused_changes_nothing() {
    let mut store = store();
    put(&mut store, "a", "1");
    let root = store.root();
    let future = TxnOperation::Range(RangeRequest { revision: 9, ..RangeRequest::new(KeyRange::single("a")) });
    let list = vec![txn_put("a", "2"), txn_delete(KeyRange::from_key("b")), future];
    let result = apply(&mut store, Operation::Txn(TxnRequest { success: list, ..TxnRequest::default() }));
    assert_eq!(error(&result), OperationError::FutureRevision { current_revision: 3 });
    assert_eq!((result.revision, store.current_revision(), store.root()), (2, 2, root));
}

#[test]
fn compares_of_version_create_mod_value_and_lease_with_all_relations() {
    let mut store = store();
    put(&mut store, "z", "0");
    put(&mut store, "a", "m");
    put(&mut store, "a", "m");
    let text = |value: &str| CompareTarget::Value(value.as_bytes().to_vec());
    for (below, same, above) in [
        (CompareTarget::Version(1), CompareTarget::Version(2), CompareTarget::Version(3)),
        (CompareTarget::CreateRevision(2), CompareTarget::CreateRevision(3), CompareTarget::CreateRevision(4)),
        (CompareTarget::ModRevision(3), CompareTarget::ModRevision(4), CompareTarget::ModRevision(5)),
        (text("l"), text("m"), text("n")),
    ] {
        for (target, equal, less, greater) in
            [(below, false, false, true), (same, true, false, false), (above, false, true, false)]
        {
            assert_eq!(holds(&mut store, compare("a", Relation::Equal, target.clone())), equal, "{target:?}");
            assert_eq!(holds(&mut store, compare("a", Relation::NotEqual, target.clone())), !equal, "{target:?}");
            assert_eq!(holds(&mut store, compare("a", Relation::Less, target.clone())), less, "{target:?}");
            assert_eq!(holds(&mut store, compare("a", Relation::Greater, target.clone())), greater, "{target:?}");
        }
    }
    assert!(holds(&mut store, compare("a", Relation::Equal, CompareTarget::Lease(0))));
    assert!(!holds(&mut store, compare("a", Relation::Equal, CompareTarget::Lease(1))));
}

#[test]
fn a_missing_key_compares_as_zero_and_its_value_never_holds() {
    let mut store = store();
    put(&mut store, "b", "1");
    delete(&mut store, KeyRange::single("b"));
    for key in ["a", "b"] {
        assert!(holds(&mut store, compare(key, Relation::Equal, CompareTarget::Version(0))));
        assert!(holds(&mut store, compare(key, Relation::Equal, CompareTarget::CreateRevision(0))));
        assert!(holds(&mut store, compare(key, Relation::Less, CompareTarget::ModRevision(1))));
        assert!(!holds(&mut store, compare(key, Relation::Equal, CompareTarget::Value(Vec::new()))));
        assert!(!holds(&mut store, compare(key, Relation::NotEqual, CompareTarget::Value(b"x".to_vec()))));
    }
}

#[test]
fn a_compare_over_a_range_must_hold_for_every_key() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "b", "1");
    let over = |target| Compare { range: KeyRange::all(), relation: Relation::Less, target };
    assert!(holds(&mut store, over(CompareTarget::Version(3))));
    assert!(!holds(&mut store, over(CompareTarget::Version(2))));
}

#[test]
fn a_txn_cannot_put_a_key_twice() {
    let mut store = store();
    let list = vec![txn_put("a", "1"), txn_put("a", "2")];
    let result = apply(&mut store, Operation::Txn(TxnRequest { success: list, ..TxnRequest::default() }));
    assert_eq!(error(&result), OperationError::Limit(LimitError::DuplicateKey));
}

#[test]
fn a_nested_txn_does_not_decode() {
    let inner = TxnRequest::default();
    let outer = TxnRequest { success: vec![txn_get("a")], ..TxnRequest::default() };
    let mut bytes = Operation::Txn(outer).to_bytes();
    // The tag of the only inner operation follows the tag of the txn and the two list lengths before it.
    let tag = 4 + 8 + 8;
    assert_eq!(bytes[tag..tag + 4], [0, 0, 0, 1]);
    bytes.truncate(tag);
    bytes.extend_from_slice(&Operation::Txn(inner).to_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let mut store = store();
    assert_eq!(error(&store.apply_encoded(&bytes, 0, &mut u64::MAX.clone())), OperationError::Malformed);
}
