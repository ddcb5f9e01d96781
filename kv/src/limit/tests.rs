use proptest::collection::vec;
use proptest::prelude::*;

use super::{LimitError, MAX_KEY_BYTES, MAX_REQUEST_BYTES, MAX_TXN_OPERATIONS, check, encoded_length, event_length_of};
use super::{pair_length, pair_length_of};
use crate::event::{Event, EventKind, KeyValue};
use crate::{
    CompactionRequest, Compare, CompareTarget, DeleteRequest, KeyRange, Operation, PutRequest, RangeRequest, Relation,
    TxnOperation, TxnRequest,
};
use quorate_crypto::encoding::encode;

fn put(key: &[u8], value: &[u8]) -> Operation {
    Operation::Put(PutRequest::new(key, value))
}

fn success(list: Vec<TxnOperation>) -> Operation {
    Operation::Txn(TxnRequest { success: list, ..TxnRequest::default() })
}

fn failure(list: Vec<TxnOperation>) -> Operation {
    Operation::Txn(TxnRequest { failure: list, ..TxnRequest::default() })
}

fn txn_put(key: impl Into<Vec<u8>>) -> TxnOperation {
    TxnOperation::Put(PutRequest::new(key, "v"))
}

fn txn_delete(range: KeyRange) -> TxnOperation {
    TxnOperation::Delete(DeleteRequest::new(range))
}

/// Every place of an operation that names keys.
fn operations_over(range: &KeyRange) -> Vec<Operation> {
    let read = RangeRequest::new(range.clone());
    let delete = DeleteRequest::new(range.clone());
    let compare = Compare { range: range.clone(), relation: Relation::Equal, target: CompareTarget::Version(0) };
    vec![
        Operation::Range(read.clone()),
        Operation::Delete(delete.clone()),
        success(vec![TxnOperation::Range(read.clone())]),
        failure(vec![TxnOperation::Range(read)]),
        success(vec![TxnOperation::Delete(delete)]),
        Operation::Txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() }),
    ]
}

#[test]
fn a_key_has_one_byte_to_4096() {
    let longest = vec![b'k'; MAX_KEY_BYTES];
    let longer = vec![b'k'; MAX_KEY_BYTES + 1];
    let too_long = Err(LimitError::KeyTooLong { length: 4097 });
    assert_eq!(check(&put(&longest, b"")), Ok(()));
    assert_eq!(check(&put(&longer, b"")), too_long);
    assert_eq!(check(&put(b"", b"")), Err(LimitError::EmptyKey));
    assert_eq!(check(&success(vec![txn_put(longer.clone())])), too_long);
    assert_eq!(check(&failure(vec![txn_put("")])), Err(LimitError::EmptyKey));
    for (range, expected) in [
        (KeyRange::single(longest.clone()), Ok(())),
        (KeyRange::single(longer.clone()), too_long),
        (KeyRange::interval("a", longest), Ok(())),
        (KeyRange::interval("a", longer), too_long),
        (KeyRange::single(""), Err(LimitError::EmptyKey)),
        (KeyRange::interval("", "b"), Err(LimitError::EmptyKey)),
    ] {
        for operation in operations_over(&range) {
            assert_eq!(check(&operation), expected, "{operation:?}");
        }
    }
}

#[test]
fn a_request_has_at_most_1572864_bytes() {
    let overhead = encoded_length(&put(b"k", b""));
    let fits = put(b"k", &vec![0; MAX_REQUEST_BYTES - overhead]);
    assert_eq!(fits.to_bytes().len(), MAX_REQUEST_BYTES);
    assert_eq!(check(&fits), Ok(()));
    assert_eq!(Operation::from_bytes(&fits.to_bytes()), Ok(fits));
    let longer = put(b"k", &vec![0; MAX_REQUEST_BYTES - overhead + 1]);
    assert_eq!(check(&longer), Err(LimitError::RequestTooLong { length: 1_572_865 }));
    assert!(Operation::from_bytes(&longer.to_bytes()).is_err());
}

#[test]
fn each_list_of_a_transaction_has_at_most_128_operations() {
    let compare =
        Compare { range: KeyRange::single("a"), relation: Relation::Equal, target: CompareTarget::Version(0) };
    for (count, expected) in [(MAX_TXN_OPERATIONS, Ok(())), (129, Err(LimitError::TooManyOperations { count: 129 }))] {
        let reads: Vec<TxnOperation> =
            (0..count).map(|_| TxnOperation::Range(RangeRequest::new(KeyRange::single("a")))).collect();
        let compare = vec![compare.clone(); count];
        assert_eq!(check(&success(reads.clone())), expected);
        assert_eq!(check(&failure(reads)), expected);
        assert_eq!(check(&Operation::Txn(TxnRequest { compare, ..TxnRequest::default() })), expected);
    }
}

#[test]
fn one_list_of_a_transaction_writes_a_key_once() {
    let duplicate = Err(LimitError::DuplicateKey);
    for make in [success, failure] {
        assert_eq!(check(&make(vec![txn_put("a"), txn_put("b")])), Ok(()));
        assert_eq!(check(&make(vec![txn_put("a"), txn_put("b"), txn_put("a")])), duplicate);
        assert_eq!(check(&make(vec![txn_put("a"), txn_delete(KeyRange::single("a"))])), duplicate);
        assert_eq!(check(&make(vec![txn_delete(KeyRange::interval("a", "c")), txn_put("b")])), duplicate);
        assert_eq!(check(&make(vec![txn_delete(KeyRange::from_key("a")), txn_put("b")])), duplicate);
        assert_eq!(check(&make(vec![txn_delete(KeyRange::interval("a", "b")), txn_put("b")])), Ok(()));
        assert_eq!(check(&make(vec![txn_delete(KeyRange::interval("c", "d")), txn_put("b")])), Ok(()));
        assert_eq!(check(&make(vec![txn_delete(KeyRange::interval("c", "a")), txn_put("c")])), Ok(()));
        assert_eq!(check(&make(vec![txn_delete(KeyRange::all()), txn_delete(KeyRange::all())])), Ok(()));
    }
    let both = TxnRequest { compare: Vec::new(), success: vec![txn_put("a")], failure: vec![txn_put("a")] };
    assert_eq!(check(&Operation::Txn(both)), Ok(()));
}

#[test]
fn leases_are_refused_until_they_exist() {
    let leased = PutRequest { lease: 7, ..PutRequest::new("a", "b") };
    assert_eq!(check(&Operation::Put(leased.clone())), Err(LimitError::LeasesUnsupported));
    assert_eq!(check(&success(vec![TxnOperation::Put(leased)])), Err(LimitError::LeasesUnsupported));
}

#[test]
fn a_value_to_ignore_must_not_be_given() {
    let request = PutRequest { ignore_value: true, ..PutRequest::new("a", "b") };
    assert_eq!(check(&Operation::Put(request)), Err(LimitError::ValueProvided));
    let request = PutRequest { ignore_value: true, ..PutRequest::new("a", "") };
    assert_eq!(check(&Operation::Put(request)), Ok(()));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    (bytes(), bytes()).prop_map(|(key, range_end)| KeyRange { key, range_end })
}

fn txn_operation() -> impl Strategy<Value = TxnOperation> {
    prop_oneof![
        (bytes(), bytes()).prop_map(|(key, value)| TxnOperation::Put(PutRequest::new(key, value))),
        key_range().prop_map(|range| TxnOperation::Range(RangeRequest::new(range))),
        key_range().prop_map(txn_delete),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        any::<u64>().prop_map(CompareTarget::Version),
        any::<u64>().prop_map(CompareTarget::Lease),
        bytes().prop_map(CompareTarget::Value),
    ];
    (key_range(), target).prop_map(|(range, target)| Compare { range, relation: Relation::Less, target })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (bytes(), bytes()).prop_map(|(key, value)| Operation::Put(PutRequest::new(key, value))),
        key_range().prop_map(|range| Operation::Range(RangeRequest::new(range))),
        key_range().prop_map(|range| Operation::Delete(DeleteRequest::new(range))),
        (vec(compare(), 0..4), vec(txn_operation(), 0..4), vec(txn_operation(), 0..4))
            .prop_map(|(compare, success, failure)| Operation::Txn(TxnRequest { compare, success, failure })),
        any::<u64>().prop_map(|revision| Operation::Compact(CompactionRequest { revision })),
    ]
}

proptest! {
    #[test]
    fn the_counted_length_is_the_encoded_length(operation in operation()) {
        let encoded = operation.to_bytes();
        prop_assert_eq!(encoded_length(&operation), encoded.len());
        prop_assert_eq!(Operation::from_bytes(&encoded), Ok(operation));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(operation) = Operation::from_bytes(&bytes) {
            prop_assert_eq!(operation.to_bytes(), bytes);
        }
    }
}

#[test]
fn the_counted_length_of_a_pair_and_an_event_is_the_encoded_length() {
    let pair = KeyValue { key: b"key".to_vec(), value: b"value".to_vec(), ..KeyValue::default() };
    assert_eq!(pair_length_of(3, 5), encode(&pair).len());
    assert_eq!(pair_length(&pair), encode(&pair).len());
    let event = Event { kind: EventKind::Put, kv: pair, prev_kv: None };
    assert_eq!(event_length_of(3, 5), encode(&event).len());
}
