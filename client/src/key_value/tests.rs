use super::*;

#[test]
fn a_range_goes_on_where_it_stopped() {
    let range = KeyRange::prefix("/a/");
    assert_eq!(rest_of(&range, b"/a/m".to_vec(), false), KeyRange::interval("/a/m", "/a0"));
    let descending = rest_of(&range, b"/a/m".to_vec(), true);
    assert!(descending.contains(b"/a/m"), "the key that was not returned is included");
    assert!(!descending.contains(b"/a/n"));
}

#[test]
fn a_swap_compares_writes_and_else_tells() {
    let txn = compare_and_swap(b"k".to_vec(), b"old".to_vec(), b"new".to_vec());
    assert_eq!(txn.compare[0].target, CompareTarget::Value(b"old".to_vec()));
    assert!(matches!(&txn.success[..], [TxnOperation::Put(put)] if put.value == b"new"));
    assert!(matches!(&txn.failure[..], [TxnOperation::Range(_)]));
    assert_eq!(swapped_key(&txn), Some(&b"k"[..]));
    let other = TxnRequest { failure: Vec::new(), ..txn.clone() };
    assert_eq!(swapped_key(&other), None, "it would not tell what is there");
    assert!(wrap(&KeyValueOperation::Txn(txn)).is_ok());
}

#[test]
fn mistakes_are_refused_before_they_are_sent() {
    assert!(matches!(
        wrap(&KeyValueOperation::Put(PutRequest::new("", "x"))),
        Err(ClientError::Limit(quorate_kv::LimitError::EmptyKey))
    ));
}

#[test]
fn the_revision_of_a_range_is_the_one_it_was_read_at() {
    let result = OperationResult { revision: 9, outcome: Outcome::Range(RangeResponse::default()) };
    assert_eq!(read_range(result.clone(), 0).expect("a range").0, 9);
    assert_eq!(read_range(result, 4).expect("a range").0, 4);
    let refused = OperationResult { revision: 9, outcome: Outcome::Refused(OperationError::KeyNotFound) };
    assert!(matches!(read_range(refused, 0), Err(ClientError::Operation(OperationError::KeyNotFound))));
}
