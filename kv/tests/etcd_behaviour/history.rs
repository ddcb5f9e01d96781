//! Compaction and watching.

use crate::client::{compact, delete, error, get, get_at, pair, put, store, txn, txn_put};
use quorate_kv::{EventKind, KeyRange, OperationError, Outcome, Parameters, PreviousValues, Store};

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
