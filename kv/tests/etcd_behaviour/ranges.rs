//! Ranges and old revisions.

use crate::client::{compact, delete, error, get_at, keys, pair, put, range, store};
use quorate_kv::{KeyRange, KeyValue, Operation, OperationError, PutRequest, RangeRequest, SortOrder, SortTarget};

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
