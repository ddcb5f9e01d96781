//! One of every variant of what is encoded.

use quorate_kv::{
    CompactionRequest, CompactionResponse, Compare, CompareTarget, DeleteRequest, DeleteResponse, Event, EventKind,
    EventList, EventPage, KeyRange, KeyValue, LimitError, Operation, OperationError, Outcome, PreviousValues,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Relation, SortOrder, SortTarget, TxnOperation, TxnOutcome,
    TxnRequest, TxnResponse,
};

fn range(sort_order: SortOrder, sort_target: SortTarget) -> Operation {
    Operation::Range(RangeRequest {
        range: KeyRange::interval("a", "c"),
        limit: 1,
        revision: 2,
        sort_order,
        sort_target,
        keys_only: true,
        count_only: false,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: 6,
    })
}

fn compare(relation: Relation, target: CompareTarget) -> Compare {
    Compare { range: KeyRange::single("a"), relation, target }
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    let put = PutRequest {
        key: b"a".to_vec(),
        value: b"v".to_vec(),
        lease: 0,
        prev_kv: true,
        ignore_value: false,
        ignore_lease: false,
    };
    let leased = PutRequest { lease: 259, prev_kv: false, ignore_value: true, ignore_lease: true, ..put.clone() };
    let delete = DeleteRequest { range: KeyRange::prefix("b"), prev_kv: true };
    let txn = TxnRequest {
        compare: vec![
            compare(Relation::Equal, CompareTarget::Version(1)),
            compare(Relation::NotEqual, CompareTarget::CreateRevision(9)),
            compare(Relation::Less, CompareTarget::ModRevision(9)),
            compare(Relation::Greater, CompareTarget::Value(b"u".to_vec())),
            compare(Relation::Equal, CompareTarget::Lease(0)),
        ],
        success: vec![
            TxnOperation::Put(PutRequest { key: b"ba".to_vec(), ..put.clone() }),
            TxnOperation::Range(RangeRequest::new(KeyRange::all())),
            TxnOperation::Delete(DeleteRequest::new(KeyRange::single("a"))),
        ],
        failure: vec![],
    };
    vec![
        ("put", Operation::Put(put)),
        ("put-flags", Operation::Put(leased)),
        ("range-unsorted-key", range(SortOrder::Unsorted, SortTarget::Key)),
        ("range-ascending-version", range(SortOrder::Ascending, SortTarget::Version)),
        ("range-descending-create", range(SortOrder::Descending, SortTarget::CreateRevision)),
        ("range-mod", range(SortOrder::Unsorted, SortTarget::ModRevision)),
        ("range-value", range(SortOrder::Unsorted, SortTarget::Value)),
        ("txn", Operation::Txn(txn)),
        ("delete", Operation::Delete(delete)),
        ("compact", Operation::Compact(CompactionRequest { revision: 2 })),
    ]
}

fn pair() -> KeyValue {
    KeyValue { key: b"a".to_vec(), value: b"v".to_vec(), create_revision: 2, mod_revision: 3, version: 4, lease: 5 }
}

pub fn outcomes() -> Vec<(&'static str, Outcome)> {
    let range =
        RangeResponse { kvs: vec![pair()], more: true, count: 7, counted_to_end: false, resume_key: b"b".to_vec() };
    let delete = DeleteResponse { deleted: 1, prev_kvs: vec![pair()] };
    let put = PutResponse { prev_kv: Some(pair()) };
    let txn = TxnResponse {
        succeeded: true,
        responses: vec![
            TxnOutcome::Put(PutResponse { prev_kv: None }),
            TxnOutcome::Range(RangeResponse::default()),
            TxnOutcome::Delete(DeleteResponse::default()),
        ],
    };
    let mut outcomes = vec![
        ("put-response", Outcome::Put(put)),
        ("range-response", Outcome::Range(range)),
        ("delete-response", Outcome::Delete(delete)),
        ("txn-response", Outcome::Txn(txn)),
        ("compact-response", Outcome::Compact(CompactionResponse { compact_revision: 2 })),
    ];
    outcomes.extend(errors().into_iter().map(|(name, error)| (name, Outcome::Refused(error))));
    outcomes
}

fn errors() -> Vec<(&'static str, OperationError)> {
    vec![
        ("malformed", OperationError::Malformed),
        ("compacted", OperationError::Compacted { compact_revision: 2 }),
        ("future-revision", OperationError::FutureRevision { current_revision: 2 }),
        ("no-space", OperationError::NoSpace { quota_bytes: 2 }),
        ("key-not-found", OperationError::KeyNotFound),
        ("too-many-keys", OperationError::TooManyKeys { limit: 2 }),
        ("revision-too-large", OperationError::RevisionTooLarge { limit: 2 }),
        ("reply-too-large", OperationError::ReplyTooLarge { limit: 2 }),
        ("not-read-only", OperationError::NotReadOnly),
        ("limit-empty-key", OperationError::Limit(LimitError::EmptyKey)),
        ("limit-key-too-long", OperationError::Limit(LimitError::KeyTooLong { length: 2 })),
        ("limit-request-too-long", OperationError::Limit(LimitError::RequestTooLong { length: 2 })),
        ("limit-too-many-operations", OperationError::Limit(LimitError::TooManyOperations { count: 2 })),
        ("limit-duplicate-key", OperationError::Limit(LimitError::DuplicateKey)),
        ("limit-leases-unsupported", OperationError::Limit(LimitError::LeasesUnsupported)),
        ("limit-value-provided", OperationError::Limit(LimitError::ValueProvided)),
    ]
}

pub fn event_page() -> EventPage {
    let put = Event { kind: EventKind::Put, kv: pair(), prev_kv: Some(pair()) };
    let delete = Event { kind: EventKind::Delete, kv: pair(), prev_kv: None };
    let list = |previous_values, events| EventList { revision: 3, previous_values, events };
    EventPage {
        lists: vec![
            list(PreviousValues::Included, vec![put, delete.clone()]),
            list(PreviousValues::NotRequested, vec![delete.clone()]),
            list(PreviousValues::Compacted, vec![delete.clone()]),
            list(PreviousValues::TooLarge, vec![delete]),
        ],
        next_revision: 4,
        current_revision: 9,
    }
}
