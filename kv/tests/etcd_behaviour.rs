//! etcd's documented behaviours (api guarantees, the v3 API reference, the server's error list), each a test named after
//! it.

use quorate_kv::limit::{MAX_REPLY_BYTES, MAX_REVISION_BYTES, MAX_VISITED_KEYS};
use quorate_kv::{
    CompactionRequest, Compare, CompareTarget, DeleteRequest, DeleteResponse, EventKind, KeyRange, KeyValue,
    LimitError, Operation, OperationError, OperationResult, Outcome, Parameters, PreviousValues, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Relation, SortOrder, SortTarget, Store, TxnOperation, TxnOutcome,
    TxnRequest, TxnResponse,
};

/// No automatic compaction, ample space.
fn store() -> Store {
    Store::new(Parameters { quota_bytes: 1 << 30, auto_compaction_retention: 0 })
}

fn apply(store: &mut Store, operation: Operation) -> OperationResult {
    let result = store.apply(&operation, 0);
    store.check_integrity().expect("tables agree");
    result
}

fn put(store: &mut Store, key: &str, value: &str) -> u64 {
    let result = apply(store, Operation::Put(PutRequest::new(key, value)));
    assert_eq!(result.outcome, Outcome::Put(PutResponse { prev_kv: None }));
    result.revision
}

fn delete(store: &mut Store, range: KeyRange) -> (u64, u64) {
    let result = apply(store, Operation::Delete(DeleteRequest::new(range)));
    match result.outcome {
        Outcome::Delete(response) => (result.revision, response.deleted),
        other => panic!("{other:?}"),
    }
}

fn range(store: &Store, request: RangeRequest) -> RangeResponse {
    match store.read(&Operation::Range(request), 0).outcome {
        Outcome::Range(response) => response,
        other => panic!("{other:?}"),
    }
}

fn keys(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|pair| String::from_utf8(pair.key.clone()).expect("text")).collect()
}

fn get_at(store: &Store, key: &str, revision: u64) -> Result<Option<KeyValue>, OperationError> {
    let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::single(key)) };
    match store.read(&Operation::Range(request), 0).outcome {
        Outcome::Range(mut response) => Ok(response.kvs.pop()),
        Outcome::Refused(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn get(store: &Store, key: &str) -> Option<KeyValue> {
    get_at(store, key, 0).expect("the present can be read")
}

fn compact(store: &mut Store, revision: u64) -> OperationResult {
    apply(store, Operation::Compact(CompactionRequest { revision }))
}

fn error(result: &OperationResult) -> OperationError {
    result.error().cloned().unwrap_or_else(|| panic!("{result:?}"))
}

fn pair(key: &str, value: &str, create_revision: u64, mod_revision: u64, version: u64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version, lease: 0 }
}

fn txn_put(key: &str, value: &str) -> TxnOperation {
    TxnOperation::Put(PutRequest::new(key, value))
}

fn txn_get(key: &str) -> TxnOperation {
    TxnOperation::Range(RangeRequest::new(KeyRange::single(key)))
}

fn txn_delete(range: KeyRange) -> TxnOperation {
    TxnOperation::Delete(DeleteRequest::new(range))
}

fn txn(
    store: &mut Store,
    compare: Vec<Compare>,
    success: Vec<TxnOperation>,
    failure: Vec<TxnOperation>,
) -> TxnResponse {
    match apply(store, Operation::Txn(TxnRequest { compare, success, failure })).outcome {
        Outcome::Txn(response) => response,
        other => panic!("{other:?}"),
    }
}

fn compare(key: &str, relation: Relation, target: CompareTarget) -> Compare {
    Compare { range: KeyRange::single(key), relation, target }
}

/// Whether a comparison holds; changes nothing.
fn holds(store: &mut Store, compare: Compare) -> bool {
    txn(store, vec![compare], vec![], vec![]).succeeded
}

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
fn an_empty_range_end_reads_one_key_and_a_zero_byte_reads_from_the_key_on() {
    let mut store = store();
    for key in ["a", "b", "b\0", "ba", "c"] {
        put(&mut store, key, "v");
    }
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::single("b")))), ["b"]);
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::from_key("b")))), ["b", "b\0", "ba", "c"]);
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::all()))), ["a", "b", "b\0", "ba", "c"]);
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::interval("b", "c")))), ["b", "b\0", "ba"]);
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::prefix("b")))), ["b", "b\0", "ba"]);
    assert!(keys(&range(&store, RangeRequest::new(KeyRange::interval("c", "b")))).is_empty());
}

#[test]
fn a_limit_sets_more_and_the_count_ignores_it() {
    let mut store = store();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "v");
    }
    let limited = |limit| range(&store, RangeRequest { limit, ..RangeRequest::new(KeyRange::all()) });
    let two = limited(2);
    assert_eq!((keys(&two), two.more, two.count), (vec!["a".into(), "b".into()], true, 3));
    assert_eq!(two.resume_key, b"c");
    let three = limited(3);
    assert_eq!((three.kvs.len(), three.more, three.count), (3, false, 3));
    assert!(three.resume_key.is_empty() && three.counted_to_end);
    assert!(!limited(4).more);
}

#[test]
fn keys_only_leaves_the_values_out_and_count_only_the_pairs() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "2");
    let only_keys = range(&store, RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::all()) });
    assert_eq!(only_keys.kvs, [pair("a", "", 2, 2, 1), pair("b", "", 3, 3, 1)]);
    let only_count = range(&store, RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::all()) });
    assert_eq!((only_count.kvs.len(), only_count.count, only_count.more), (0, 2, false));
}

#[test]
fn a_range_can_be_sorted_by_every_target_in_both_orders() {
    let mut store = store();
    for (key, value) in [("b", "x"), ("a", "z"), ("c", "y"), ("a", "z"), ("a", "z"), ("b", "x")] {
        put(&mut store, key, value);
    }
    let sorted = |sort_target, sort_order| {
        keys(&range(&store, RangeRequest { sort_order, sort_target, ..RangeRequest::new(KeyRange::all()) })).concat()
    };
    for (target, ascending, descending) in [
        (SortTarget::Key, "abc", "cba"),
        (SortTarget::Version, "cba", "abc"),
        (SortTarget::CreateRevision, "bac", "cab"),
        (SortTarget::ModRevision, "cab", "bac"),
        (SortTarget::Value, "bca", "acb"),
    ] {
        assert_eq!(sorted(target, SortOrder::Ascending), ascending, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Unsorted), ascending, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Descending), descending, "{target:?}");
    }
}

#[test]
fn the_limit_applies_after_sorting_and_filters_leave_the_count_alone() {
    let mut store = store();
    for key in ["a", "b", "c", "a"] {
        put(&mut store, key, "v");
    }
    let newest = RangeRequest {
        limit: 1,
        sort_order: SortOrder::Descending,
        sort_target: SortTarget::ModRevision,
        ..RangeRequest::new(KeyRange::all())
    };
    let newest = range(&store, newest);
    assert_eq!((keys(&newest).concat(), newest.more, newest.count), ("a".into(), true, 3));
    let last_key = RangeRequest { limit: 1, sort_order: SortOrder::Descending, ..RangeRequest::new(KeyRange::all()) };
    let last_key = range(&store, last_key);
    assert_eq!((keys(&last_key).concat(), last_key.resume_key), ("c".into(), b"b".to_vec()));
    let all = RangeRequest::new(KeyRange::all());
    let filtered = |request| {
        let response = range(&store, request);
        assert_eq!((response.count, response.more), (3, false));
        keys(&response).concat()
    };
    assert_eq!(filtered(RangeRequest { min_mod_revision: 4, ..all.clone() }), "ac");
    assert_eq!(filtered(RangeRequest { max_mod_revision: 4, ..all.clone() }), "bc");
    assert_eq!(filtered(RangeRequest { min_create_revision: 3, ..all.clone() }), "bc");
    assert_eq!(filtered(RangeRequest { max_create_revision: 3, ..all }), "ab");
}

#[test]
fn a_read_at_an_old_revision_sees_the_old_state() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "a", "2");
    delete(&mut store, KeyRange::single("b"));
    put(&mut store, "c", "1");
    let at = |revision| {
        let response = range(&store, RangeRequest { revision, ..RangeRequest::new(KeyRange::all()) });
        let text = |pair: &KeyValue| String::from_utf8([&pair.key[..], &pair.value[..]].concat()).expect("text");
        response.kvs.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!([at(1), at(2), at(3), at(4), at(5), at(6)], ["", "a1", "a1 b1", "a2 b1", "a2", "a2 c1"]);
    let descending =
        RangeRequest { revision: 4, sort_order: SortOrder::Descending, ..RangeRequest::new(KeyRange::all()) };
    assert_eq!(keys(&range(&store, descending)), ["b", "a"]);
}

#[test]
fn a_future_revision_is_refused() {
    let mut store = store();
    put(&mut store, "a", "1");
    assert!(get_at(&store, "a", 2).is_ok());
    assert_eq!(get_at(&store, "a", 3), Err(OperationError::FutureRevision { current_revision: 2 }));
    assert_eq!(error(&compact(&mut store, 3)), OperationError::FutureRevision { current_revision: 2 });
}

#[test]
fn a_compacted_revision_is_refused_and_the_compact_revision_itself_is_not() {
    let mut store = store();
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    assert!(matches!(compact(&mut store, 3).outcome, Outcome::Compact(response) if response.compact_revision == 3));
    assert_eq!(get_at(&store, "a", 2), Err(OperationError::Compacted { compact_revision: 3 }));
    assert_eq!(get_at(&store, "a", 3), Ok(Some(pair("a", "2", 2, 3, 2))));
    assert_eq!(get_at(&store, "a", 4), Ok(Some(pair("a", "3", 2, 4, 3))));
    assert_eq!(error(&compact(&mut store, 3)), OperationError::Compacted { compact_revision: 3 });
    assert_eq!(error(&compact(&mut store, 2)), OperationError::Compacted { compact_revision: 3 });
}

#[test]
fn a_compaction_keeps_the_newest_version_of_each_key_and_bumps_no_revision() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "b", "2");
    delete(&mut store, KeyRange::single("b"));
    assert_eq!(compact(&mut store, 5).revision, 5);
    assert_eq!(get(&store, "a"), Some(pair("a", "1", 2, 2, 1)));
    assert_eq!(get_at(&store, "b", 5), Ok(None));
    assert_eq!(store.live_keys(), 1);
}

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
    assert_eq!(error(&store.apply_encoded(&bytes, 0)), OperationError::Malformed);
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

#[test]
fn a_put_beyond_the_quota_is_refused_while_deletes_and_compaction_make_room() {
    let mut store = Store::new(Parameters { quota_bytes: 3000, auto_compaction_retention: 0 });
    let value = "v".repeat(500);
    let mut written = 0;
    let refusal = loop {
        let result = apply(&mut store, Operation::Put(PutRequest::new("a", value.as_str())));
        match result.error() {
            None => written += 1,
            Some(error) => break error.clone(),
        }
        assert!(store.status().logical_bytes <= 3000);
    };
    assert_eq!((refusal, written), (OperationError::NoSpace { quota_bytes: 3000 }, 5));
    let in_txn = TxnRequest { success: vec![txn_get("a"), txn_put("a", &value)], ..TxnRequest::default() };
    assert_eq!(error(&apply(&mut store, Operation::Txn(in_txn))), OperationError::NoSpace { quota_bytes: 3000 });
    let without_put = txn(&mut store, vec![], vec![txn_get("a")], vec![txn_put("a", &value)]);
    assert!(without_put.succeeded);
    assert_eq!(delete(&mut store, KeyRange::single("a")), (7, 1));
    compact(&mut store, 7);
    put(&mut store, "a", &value);
}

#[test]
fn a_watch_from_a_revision_gets_every_later_event_in_order() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "a", "2");
    delete(&mut store, KeyRange::single("a"));
    let page = store.events_since(2, &KeyRange::single("a"), 0, true).expect("not compacted");
    let revisions: Vec<u64> = page.lists.iter().map(|list| list.revision).collect();
    assert_eq!((revisions, page.next_revision, page.current_revision), (vec![2, 4, 5], 6, 5));
    let first = &page.lists[0].events[0];
    assert!(first.is_create());
    assert_eq!((&first.kv, &first.prev_kv), (&pair("a", "1", 2, 2, 1), &None));
    let second = &page.lists[1].events[0];
    assert!(!second.is_create());
    assert_eq!((&second.kv, &second.prev_kv), (&pair("a", "2", 2, 4, 2), &Some(pair("a", "1", 2, 2, 1))));
    let third = &page.lists[2].events[0];
    assert_eq!((third.kind, &third.kv), (EventKind::Delete, &pair("a", "", 0, 5, 0)));
    assert_eq!(third.prev_kv, Some(pair("a", "2", 2, 4, 2)));
    let future = store.events_since(9, &KeyRange::all(), 0, false).expect("the future is empty");
    assert_eq!((future.lists.len(), future.next_revision), (0, 9));
}

#[test]
fn a_watch_below_the_compact_revision_is_refused_and_at_it_still_tells_deletes() {
    let mut store = store();
    put(&mut store, "a", "1");
    delete(&mut store, KeyRange::single("a"));
    put(&mut store, "b", "1");
    compact(&mut store, 3);
    let compacted = store.events_since(2, &KeyRange::all(), 0, false);
    assert_eq!(compacted, Err(OperationError::Compacted { compact_revision: 3 }));
    let page = store.events_since(3, &KeyRange::all(), 0, true).expect("the compact revision can be watched");
    assert_eq!(page.lists[0].events[0].kind, EventKind::Delete);
    assert_eq!(page.lists[0].previous_values, PreviousValues::Compacted);
    assert_eq!(page.lists[0].events[0].prev_kv, None);
    assert_eq!(page.lists[1].previous_values, PreviousValues::Included);
}

#[test]
fn a_watch_page_never_divides_a_revision() {
    let mut store = store();
    let list = ["a", "b", "c"].map(|key| txn_put(key, "v")).to_vec();
    for _ in 0..3 {
        txn(&mut store, vec![], list.clone(), vec![]);
    }
    for (limit, lists) in [(1, 1), (3, 1), (4, 1), (6, 2), (8, 2), (9, 3), (0, 3)] {
        let mut next = 0;
        let page = store.events_since(next, &KeyRange::all(), limit, false).expect("not compacted");
        assert_eq!(page.lists.len(), lists, "limit {limit}");
        let mut seen = Vec::new();
        while next <= store.current_revision() {
            let page = store.events_since(next, &KeyRange::all(), limit, false).expect("not compacted");
            assert!(page.lists.iter().all(|list| list.events.len() == 3));
            seen.extend(page.lists.iter().map(|list| list.revision));
            assert!(page.next_revision > next);
            next = page.next_revision;
        }
        assert_eq!(seen, [2, 3, 4]);
    }
}

#[test]
fn automatic_compaction_keeps_the_last_revisions_readable() {
    let mut store = Store::new(Parameters { quota_bytes: 1 << 30, auto_compaction_retention: 3 });
    for value in 0..20 {
        put(&mut store, "a", &value.to_string());
    }
    assert_eq!((store.current_revision(), store.compact_revision()), (21, 18));
    assert!(get_at(&store, "a", 18).is_ok());
    assert_eq!(get_at(&store, "a", 17), Err(OperationError::Compacted { compact_revision: 18 }));
    assert_eq!(store.tables()[1].1.len(), 4, "events below the compact revision are gone");
}

#[test]
fn a_range_reply_is_cut_at_its_cap_and_goes_on_at_the_same_revision() {
    let mut store = store();
    let value = "v".repeat(300 * 1024);
    for key in ["a", "b", "c", "d", "e"] {
        put(&mut store, key, &value);
    }
    let mut request = RangeRequest { revision: 6, ..RangeRequest::new(KeyRange::all()) };
    let mut seen = Vec::new();
    loop {
        let response = range(&store, request.clone());
        assert!(response.kvs.iter().map(|pair| pair.value.len()).sum::<usize>() <= MAX_REPLY_BYTES);
        seen.extend(keys(&response));
        put(&mut store, "aa", "written meanwhile");
        if !response.more {
            break;
        }
        assert_eq!(response.kvs.len(), 3);
        request.range.key = response.resume_key;
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let whole = TxnRequest { success: vec![txn_get("a"); 4], ..TxnRequest::default() };
    let whole = store.read(&Operation::Txn(whole), 0);
    assert_eq!(error(&whole), OperationError::ReplyTooLarge { limit: 1 << 20 });
    let removal = DeleteRequest { range: KeyRange::all(), prev_kv: true };
    let removal = apply(&mut store, Operation::Delete(removal));
    assert_eq!(error(&removal), OperationError::ReplyTooLarge { limit: 1 << 20 });
    assert_eq!(delete(&mut store, KeyRange::all()).1, 6);
}

#[test]
fn a_value_longer_than_the_reply_cap_is_still_returned() {
    let mut store = store();
    let value = "v".repeat(MAX_REPLY_BYTES + 1);
    put(&mut store, "a", &value);
    put(&mut store, "b", "v");
    let response = range(&store, RangeRequest::new(KeyRange::all()));
    assert_eq!((response.kvs.len(), response.more, response.resume_key), (1, true, b"b".to_vec()));
}

#[test]
fn an_operation_looks_at_a_bounded_number_of_keys() {
    let mut store = store();
    let name = |number: u64| format!("{number:06}");
    for number in 0..=MAX_VISITED_KEYS {
        store.apply(&Operation::Put(PutRequest::new(name(number), "")), 0);
    }
    let all = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::all()) };
    let first = range(&store, all.clone());
    assert_eq!((first.count, first.more, first.counted_to_end), (MAX_VISITED_KEYS, true, false));
    assert_eq!(first.resume_key, name(MAX_VISITED_KEYS).into_bytes());
    let rest = range(&store, RangeRequest { range: KeyRange::from_key(first.resume_key), ..all.clone() });
    assert_eq!((rest.count, rest.more, rest.counted_to_end), (1, false, true));

    let too_many = OperationError::TooManyKeys { limit: MAX_VISITED_KEYS };
    let sorted = RangeRequest { sort_target: SortTarget::Value, ..RangeRequest::new(KeyRange::all()) };
    assert_eq!(error(&store.read(&Operation::Range(sorted), 0)), too_many);
    let removal = Operation::Delete(DeleteRequest::new(KeyRange::all()));
    assert_eq!(error(&store.apply(&removal, 0)), too_many);
    let every = Compare { range: KeyRange::all(), relation: Relation::Equal, target: CompareTarget::Version(1) };
    let txn = TxnRequest { compare: vec![every], ..TxnRequest::default() };
    assert_eq!(error(&store.apply(&Operation::Txn(txn), 0)), too_many);

    assert_eq!(delete(&mut store, KeyRange::single(name(0))).1, 1);
    assert_eq!(delete(&mut store, KeyRange::all()).1, MAX_VISITED_KEYS);
    let at_old = range(&store, RangeRequest { revision: 100, ..all });
    assert_eq!((at_old.count, at_old.counted_to_end), (99, false));
}

#[test]
fn the_changes_of_one_revision_are_bounded_in_bytes() {
    let mut store = store();
    let long = |number: usize| format!("{number:04}{}", "k".repeat(4000));
    let count = MAX_REVISION_BYTES / 4000;
    for number in 0..count {
        store.apply(&Operation::Put(PutRequest::new(long(number), "")), 0);
    }
    let root = store.root();
    let result = apply(&mut store, Operation::Delete(DeleteRequest::new(KeyRange::all())));
    assert_eq!(error(&result), OperationError::RevisionTooLarge { limit: MAX_REVISION_BYTES as u64 });
    assert_eq!(store.root(), root);
    assert_eq!(delete(&mut store, KeyRange::from_key("0020")).1, (count - 20) as u64);
}

#[test]
fn previous_pairs_that_do_not_fit_are_left_out_for_the_whole_revision() {
    let mut store = store();
    let value = "v".repeat(600 * 1024);
    for key in ["a", "b", "c", "d", "e", "f"] {
        put(&mut store, key, &value);
    }
    delete(&mut store, KeyRange::all());
    let page = store.events_since(8, &KeyRange::all(), 0, true).expect("not compacted");
    assert_eq!((page.lists[0].events.len(), page.lists[0].previous_values), (6, PreviousValues::TooLarge));
    assert!(page.lists[0].events.iter().all(|event| event.prev_kv.is_none()));
    let page = store.events_since(8, &KeyRange::interval("a", "d"), 0, true).expect("not compacted");
    assert_eq!((page.lists[0].events.len(), page.lists[0].previous_values), (3, PreviousValues::Included));
    assert_ne!(
        page.lists[0].digest(),
        store.events_since(8, &KeyRange::all(), 0, true).expect("kept").lists[0].digest()
    );
}

#[test]
fn a_serializable_read_is_answered_at_the_revision_asked_for() {
    let mut store = store();
    put(&mut store, "a", "1");
    let old = store.clone();
    put(&mut store, "a", "2");
    let read = Operation::Range(RangeRequest::new(KeyRange::single("a")));
    assert_eq!(store.read(&read, 2), old.read(&read, 0));
    assert_eq!(store.read(&read, 2).revision, 2);
    assert_eq!(error(&old.read(&read, 3)), OperationError::FutureRevision { current_revision: 2 });
    let write = Operation::Put(PutRequest::new("a", "3"));
    assert_eq!(error(&store.read(&write, 0)), OperationError::NotReadOnly);
    compact(&mut store, 3);
    assert_eq!(error(&store.read(&read, 2)), OperationError::Compacted { compact_revision: 3 });
}
