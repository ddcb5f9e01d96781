//! Asking a store for one thing and taking the answer apart.

use quorate_kv::{
    CompactionRequest, Compare, CompareTarget, DeleteRequest, KeyRange, KeyValue, Operation, OperationError,
    OperationResult, Outcome, Parameters, PutRequest, PutResponse, RangeRequest, RangeResponse, Relation, Store,
    TxnOperation, TxnRequest, TxnResponse,
};

/// No automatic compaction, ample space.
pub fn store() -> Store {
    Store::new(Parameters { quota_bytes: 1 << 30, auto_compaction_retention: 0 })
}

pub fn apply(store: &mut Store, operation: Operation) -> OperationResult {
    let result = store.apply(&operation, 0);
    store.check_integrity().expect("tables agree");
    result
}

pub fn put(store: &mut Store, key: &str, value: &str) -> u64 {
    let result = apply(store, Operation::Put(PutRequest::new(key, value)));
    assert_eq!(result.outcome, Outcome::Put(PutResponse { prev_kv: None }));
    result.revision
}

pub fn delete(store: &mut Store, range: KeyRange) -> (u64, u64) {
    let result = apply(store, Operation::Delete(DeleteRequest::new(range)));
    match result.outcome {
        Outcome::Delete(response) => (result.revision, response.deleted),
        other => panic!("{other:?}"),
    }
}

pub fn range(store: &Store, request: RangeRequest) -> RangeResponse {
    match store.read(&Operation::Range(request), 0).outcome {
        Outcome::Range(response) => response,
        other => panic!("{other:?}"),
    }
}

pub fn keys(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|pair| String::from_utf8(pair.key.clone()).expect("text")).collect()
}

pub fn get_at(store: &Store, key: &str, revision: u64) -> Result<Option<KeyValue>, OperationError> {
    let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::single(key)) };
    match store.read(&Operation::Range(request), 0).outcome {
        Outcome::Range(mut response) => Ok(response.kvs.pop()),
        Outcome::Refused(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

pub fn get(store: &Store, key: &str) -> Option<KeyValue> {
    get_at(store, key, 0).expect("the present can be read")
}

pub fn compact(store: &mut Store, revision: u64) -> OperationResult {
    apply(store, Operation::Compact(CompactionRequest { revision }))
}

pub fn error(result: &OperationResult) -> OperationError {
    result.error().cloned().unwrap_or_else(|| panic!("{result:?}"))
}

pub fn pair(key: &str, value: &str, create_revision: u64, mod_revision: u64, version: u64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version, lease: 0 }
}

pub fn txn_put(key: &str, value: &str) -> TxnOperation {
    TxnOperation::Put(PutRequest::new(key, value))
}

pub fn txn_get(key: &str) -> TxnOperation {
    TxnOperation::Range(RangeRequest::new(KeyRange::single(key)))
}

pub fn txn_delete(range: KeyRange) -> TxnOperation {
    TxnOperation::Delete(DeleteRequest::new(range))
}

pub fn txn(
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

pub fn compare(key: &str, relation: Relation, target: CompareTarget) -> Compare {
    Compare { range: KeyRange::single(key), relation, target }
}

/// Whether a comparison holds; changes nothing.
pub fn holds(store: &mut Store, compare: Compare) -> bool {
    txn(store, vec![compare], vec![], vec![]).succeeded
}
