//! What a root, a difference and a purge cost grows with what changed, not with what is stored. Counted, never timed.

use quorate_kv::{
    CompactionRequest, DeleteRequest, KeyRange, Operation, Parameters, PutRequest, Store, TableId,
    store::{PURGE_STEPS_PER_COMPACTION, PURGE_STEPS_PER_EVENT},
};

fn put(number: u64) -> Operation {
    Operation::Put(PutRequest::new(format!("key-{number:08}"), number.to_be_bytes()))
}

fn filled(keys: u64, retention: u64) -> Store {
    let mut store = Store::new(Parameters { quota_bytes: 1 << 30, auto_compaction_retention: retention });
    for number in 0..keys {
        store.apply(&put(number), 0);
    }
    store
}

fn table(store: &Store, wanted: TableId) -> usize {
    store.tables().into_iter().find(|(table, _)| *table == wanted).map_or(0, |(_, map)| map.len())
}

/// Entries that differ after ten overwrites and a deletion.
fn changed_entries(store: &mut Store) -> Vec<(TableId, bool)> {
    let snapshot = store.clone();
    for number in 100..110 {
        store.apply(&put(number), 0);
    }
    store.apply(&Operation::Delete(DeleteRequest::new(KeyRange::single("key-00000200"))), 0);
    store.changes_since(&snapshot).map(|change| (change.table, change.value.is_some())).collect()
}

#[test]
fn changes_are_two_entries_a_write_whatever_is_stored() {
    let mut expected = vec![(TableId::PAIRS, true); 10];
    expected.push((TableId::PAIRS, false));
    expected.extend([(TableId::EVENTS, true); 11]);
    expected.push((TableId::META, true));
    for keys in [300, 3000, 30_000] {
        assert_eq!(changed_entries(&mut filled(keys, 0)), expected, "{keys} keys");
    }
}

#[test]
fn changes_of_a_full_window_are_three_entries_a_write() {
    let mut store = filled(3000, 50);
    let changes = changed_entries(&mut store);
    let count = |table, present| changes.iter().filter(|change| **change == (table, present)).count();
    assert_eq!((count(TableId::EVENTS, true), count(TableId::EVENTS, false)), (11, 11));
    assert_eq!((count(TableId::PAIRS, true), count(TableId::PAIRS, false)), (10, 1));
    assert_eq!(changes.len(), 34);
}

#[test]
fn a_snapshot_of_the_present_differs_in_nothing() {
    let store = filled(1000, 10);
    assert_eq!(store.changes_since(&store.clone()).count(), 0);
}

#[test]
fn purging_keeps_up_with_any_writes() {
    let mut store = filled(0, 16);
    for number in 0..2000 {
        store.apply(&put(number % 97), 0);
        assert!(store.status().purge_revision >= store.compact_revision());
        assert!(table(&store, TableId::EVENTS) <= 17);
    }
}

#[test]
fn a_large_compaction_is_spread_over_the_writes_that_follow() {
    let backlog = 3 * PURGE_STEPS_PER_COMPACTION;
    let mut store = filled(0, 0);
    for number in 0..backlog {
        store.apply(&put(number % 10), 0);
    }
    let current = store.current_revision();
    let mut left = table(&store, TableId::EVENTS) as u64;
    store.apply(&Operation::Compact(CompactionRequest { revision: current }), 0);
    left -= PURGE_STEPS_PER_COMPACTION;
    assert_eq!(table(&store, TableId::EVENTS) as u64, left);
    assert_eq!(store.compact_revision(), current, "readers see the compaction at once");
    while left > PURGE_STEPS_PER_EVENT {
        store.apply(&put(7), 0);
        left = left + 1 - PURGE_STEPS_PER_EVENT;
        if store.status().purge_revision < current {
            assert_eq!(table(&store, TableId::EVENTS) as u64, left);
        }
    }
    assert_eq!(store.check_integrity(), Ok(()));
    assert_eq!(store.status().purge_revision, current);
}

#[test]
fn a_put_that_finds_no_space_purges_what_a_compaction_left() {
    let mut store = Store::new(Parameters { quota_bytes: 2_000_000, auto_compaction_retention: 0 });
    let mut number = 0;
    while store.apply(&put(number % 10), 0).error().is_none() {
        number += 1;
    }
    assert!(number > 3 * PURGE_STEPS_PER_COMPACTION, "{number}");
    let compaction = Operation::Compact(CompactionRequest { revision: store.current_revision() });
    assert!(store.apply(&compaction, 0).error().is_none());
    let large = Operation::Put(PutRequest::new("large", vec![0; 600_000]));
    let refusals = (0..20).take_while(|_| store.apply(&large, 0).error().is_some()).count();
    assert!((1..10).contains(&refusals), "{refusals} refusals before there was room");
}
