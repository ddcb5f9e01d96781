//! The store against a reference model over random operations: full histories in a plain map, nothing ever purged, no
//! index. Every answer must be equal, and so must every old revision that can still be read.

mod reference;

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_kv::{
    CompactionRequest, Compare, CompareTarget, DeleteRequest, KeyRange, Operation, OperationError, Parameters,
    PutRequest, RangeRequest, Relation, SortOrder, SortTarget, Store, TxnOperation, TxnRequest,
};
use reference::Reference;

const KEYS: [&[u8]; 9] = [b"a", b"a\0", b"a\0\0", b"a\0b", b"ab", b"b", b"\0", b"\xff", b"b\xff"];

fn key() -> impl Strategy<Value = Vec<u8>> {
    (0..KEYS.len()).prop_map(|index| KEYS[index].to_vec())
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::single),
        2 => (key(), key()).prop_map(|(key, end)| KeyRange::interval(key, end)),
        2 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(KeyRange::from_key),
        1 => Just(KeyRange::all()),
    ]
}

fn put_request() -> impl Strategy<Value = PutRequest> {
    let flag = || prop::bool::weighted(0.15);
    (key(), vec(0..4_u8, 0..3), flag(), flag(), flag()).prop_map(|(key, value, prev_kv, ignore_value, ignore_lease)| {
        let value = if ignore_value { Vec::new() } else { value };
        PutRequest { key, value, lease: 0, prev_kv, ignore_value, ignore_lease }
    })
}

fn sort() -> impl Strategy<Value = (SortOrder, SortTarget)> {
    let order =
        prop_oneof![3 => Just(SortOrder::Unsorted), 1 => Just(SortOrder::Ascending), 2 => Just(SortOrder::Descending)];
    let target = prop_oneof![
        5 => Just(SortTarget::Key),
        1 => Just(SortTarget::Version),
        1 => Just(SortTarget::CreateRevision),
        1 => Just(SortTarget::ModRevision),
        1 => Just(SortTarget::Value),
    ];
    (order, target)
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![4 => Just(0_u64), 1 => 0..30_u64];
    let revision = prop_oneof![2 => Just(0_u64), 2 => 0..30_u64];
    let flag = || prop::bool::weighted(0.15);
    (key_range(), 0..4_u64, revision, sort(), (flag(), flag()), (bound(), bound(), bound(), bound())).prop_map(
        |(range, limit, revision, (sort_order, sort_target), (keys_only, count_only), bounds)| RangeRequest {
            range,
            limit,
            revision,
            sort_order,
            sort_target,
            keys_only,
            count_only,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn delete_request() -> impl Strategy<Value = DeleteRequest> {
    (key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRequest { range, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation =
        prop_oneof![Just(Relation::Equal), Just(Relation::NotEqual), Just(Relation::Less), Just(Relation::Greater)];
    let target = prop_oneof![
        (0..4_u64).prop_map(CompareTarget::Version),
        (0..20_u64).prop_map(CompareTarget::CreateRevision),
        (0..20_u64).prop_map(CompareTarget::ModRevision),
        vec(0..4_u8, 0..3).prop_map(CompareTarget::Value),
        (0..2_u64).prop_map(CompareTarget::Lease),
    ];
    (key_range(), relation, target).prop_map(|(range, relation, target)| Compare { range, relation, target })
}

fn txn_request() -> impl Strategy<Value = TxnRequest> {
    let operation = || {
        prop_oneof![
            3 => put_request().prop_map(TxnOperation::Put),
            2 => range_request().prop_map(TxnOperation::Range),
            2 => delete_request().prop_map(TxnOperation::Delete),
        ]
    };
    (vec(compare(), 0..3), vec(operation(), 0..4), vec(operation(), 0..4))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => put_request().prop_map(Operation::Put),
        3 => delete_request().prop_map(Operation::Delete),
        3 => range_request().prop_map(Operation::Range),
        4 => txn_request().prop_map(Operation::Txn),
        1 => (0..30_u64).prop_map(|revision| Operation::Compact(CompactionRequest { revision })),
    ]
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let quota = prop_oneof![3 => Just(1_u64 << 30), 1 => 300..1500_u64];
    let retention = prop_oneof![Just(0_u64), 1..8_u64];
    (quota, retention)
        .prop_map(|(quota_bytes, auto_compaction_retention)| Parameters { quota_bytes, auto_compaction_retention })
}

/// A store made again from its tables, as a restart does.
fn reloaded(store: &Store) -> Store {
    let tables =
        store.tables().map(|(table, map)| (table, map.iter().map(|(key, value)| (key, value.to_vec())).collect()));
    Store::from_tables(tables).expect("a store's own tables load")
}

fn assert_history_agrees(store: &Store, reference: &Reference, range: &KeyRange) -> Result<(), TestCaseError> {
    for revision in 0..=store.current_revision() + 1 {
        let request = RangeRequest { revision, ..RangeRequest::new(range.clone()) };
        for sort_order in [SortOrder::Ascending, SortOrder::Descending] {
            let read = Operation::Range(RangeRequest { sort_order, ..request.clone() });
            prop_assert_eq!(store.read(&read, 0).outcome, reference.read(&read), "revision {}", revision);
        }
        for with_previous in [false, true] {
            let page = store.events_since(revision, range, 0, with_previous);
            prop_assert_eq!(page, reference.events_since(revision, range, with_previous), "revision {}", revision);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_that_of_the_reference(
        parameters in parameters(),
        operations in vec(operation(), 1..40),
        range in key_range(),
    ) {
        let mut store = Store::new(parameters);
        let mut reference = Reference::new(parameters.auto_compaction_retention);
        for operation in &operations {
            let before = store.clone();
            let result = store.apply_encoded(&operation.to_bytes(), 0, &mut u64::MAX.clone());
            prop_assert_eq!(store.check_integrity(), Ok(()));
            if matches!(result.error(), Some(OperationError::NoSpace { .. })) {
                prop_assert!(before.status().logical_bytes + 200 > parameters.quota_bytes);
                prop_assert_eq!(store.current_revision(), before.current_revision());
                continue;
            }
            let expected = reference.apply(operation);
            prop_assert_eq!(&result, &expected, "{:?}", operation);
            prop_assert_eq!(store.current_revision(), reference.current_revision());
            prop_assert_eq!(store.compact_revision(), reference.compact_revision());
            if result.error().is_some() || quorate_kv::is_read_only(operation) {
                prop_assert_eq!(store.root(), before.root());
            }
        }
        assert_history_agrees(&store, &reference, &range)?;
        assert_history_agrees(&reloaded(&store), &reference, &range)?;
    }

    /// Replicas take snapshots, roots and restarts at different times; their state is the same.
    #[test]
    fn snapshots_roots_and_reloads_leave_no_trace(
        parameters in parameters(),
        operations in vec((operation(), any::<bool>(), prop::bool::weighted(0.2)), 1..40),
    ) {
        let mut plain = Store::new(parameters);
        let mut busy = Store::new(parameters);
        let mut snapshots = Vec::new();
        for (operation, checkpoint, restart) in &operations {
            let (left, right) = (plain.apply(operation, 0), busy.apply(operation, 0));
            prop_assert_eq!(left, right);
            if *checkpoint {
                snapshots.push((busy.clone(), busy.root()));
            }
            if *restart {
                busy = reloaded(&busy);
            }
        }
        prop_assert_eq!(plain.root(), busy.root());
        prop_assert_eq!(&plain, &reloaded(&busy));
        for (snapshot, root) in &snapshots {
            prop_assert_eq!(reloaded(snapshot).root(), *root);
        }
    }

    /// Writing the changes since a snapshot over the snapshot's entries gives the entries of the present.
    #[test]
    fn changes_lead_from_a_snapshot_to_the_present(
        parameters in parameters(),
        before in vec(operation(), 0..20),
        after in vec(operation(), 0..20),
    ) {
        let mut store = Store::new(parameters);
        for operation in &before {
            store.apply(operation, 0);
        }
        let snapshot = store.clone();
        for operation in &after {
            store.apply(operation, 0);
        }
        let mut tables = snapshot.tables().map(|(table, map)| (table, map.clone()));
        for change in store.changes_since(&snapshot) {
            let (_, map) = tables.iter_mut().find(|(table, _)| *table == change.table).expect("a known table");
            match change.value {
                Some(value) => drop(map.insert(&change.key, value.to_vec())),
                None => drop(map.remove(&change.key)),
            }
        }
        let written = Store::from_tables(tables).expect("tables load");
        prop_assert_eq!(written.root(), store.root());
        prop_assert_eq!(written, store);
    }
}
