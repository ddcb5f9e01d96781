//! Quota and the caps of one operation.

use crate::client::{apply, compact, delete, error, keys, put, range, store, txn, txn_get, txn_put};
use quorate_kv::limit::{MAX_REPLY_BYTES, MAX_REVISION_BYTES, MAX_VISITED_KEYS};
use quorate_kv::{
    Compare, CompareTarget, DeleteRequest, KeyRange, Operation, OperationError, Outcome, Parameters, PutRequest,
    RangeRequest, Relation, SortTarget, Store, TxnRequest,
};

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
fn operations_of_one_request_share_what_they_look_at() {
    let mut store = store();
    let name = |number: u64| format!("{number:06}");
    for number in 0..10 {
        put(&mut store, &name(number), "x");
    }
    let all = Operation::Range(RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::all()) }).to_bytes();
    let mut visits = 15;
    let counted = |store: &mut Store, visits: &mut u64| match store.apply_encoded(&all, 0, visits).outcome {
        Outcome::Range(range) => (range.count, range.counted_to_end),
        other => panic!("{other:?}"),
    };
    assert_eq!((counted(&mut store, &mut visits), visits), ((10, true), 5));
    assert_eq!((counted(&mut store, &mut visits), visits), ((5, false), 0), "what one took the next has not");
    let drop_all = Operation::Delete(DeleteRequest { range: KeyRange::all(), prev_kv: false }).to_bytes();
    let refused = store.apply_encoded(&drop_all, 0, &mut 9);
    assert_eq!(error(&refused), OperationError::TooManyKeys { limit: MAX_VISITED_KEYS });
    assert_eq!(keys(&range(&store, RangeRequest::new(KeyRange::all()))).len(), 10, "nothing was deleted");
    let mut plenty = 100_000;
    counted(&mut store, &mut plenty);
    assert_eq!(plenty, 100_000 - 10);
}

#[test]
fn long_values_cost_as_much_as_they_take_to_compare() {
    let mut store = store();
    let name = |number: u64| format!("{number:06}");
    for number in 0..100 {
        put(&mut store, &name(number), &"v".repeat(100_000));
    }
    let sorted = |target| {
        let request = RangeRequest { sort_target: target, keys_only: true, ..RangeRequest::new(KeyRange::all()) };
        Operation::Range(request).to_bytes()
    };
    let mut visits = MAX_VISITED_KEYS;
    store.apply_encoded(&sorted(SortTarget::Version), 0, &mut visits);
    assert_eq!(MAX_VISITED_KEYS - visits, 100);
    let mut visits = MAX_VISITED_KEYS;
    store.apply_encoded(&sorted(SortTarget::Value), 0, &mut visits);
    assert_eq!(MAX_VISITED_KEYS - visits, 100 * (1 + 100_000 / 1024));
}
