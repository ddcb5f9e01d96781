//! What a client asks for: the operations of service 1. Their bytes are signed by clients and kept in logs, so they are
//! pinned by golden tests; a new variant goes to the end.

use quorate_crypto::encoding::{Decode, DecodeError, Encode, decode, encode};

use crate::key_range::KeyRange;
use crate::limit::MAX_REQUEST_BYTES;

/// One operation of the key-value service.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Operation {
    /// Writes one key.
    Put(PutRequest),
    /// Reads keys.
    Range(RangeRequest),
    /// Deletes keys.
    Delete(DeleteRequest),
    /// Compares, then executes one of two lists, all in one revision.
    Txn(TxnRequest),
    /// Forgets what is superseded at a revision.
    Compact(CompactionRequest),
}

/// Writes one key (etcd `PutRequest`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct PutRequest {
    /// The key, 1 byte to [`crate::limit::MAX_KEY_BYTES`].
    pub key: Vec<u8>,
    /// The value; empty if `ignore_value`.
    pub value: Vec<u8>,
    /// The lease to attach. Only 0, no lease, is accepted until leases exist.
    pub lease: u64,
    /// Answer with the pair that is replaced.
    pub prev_kv: bool,
    /// Keep the present value. Refused if the key does not exist.
    pub ignore_value: bool,
    /// Keep the present lease. Refused if the key does not exist.
    pub ignore_lease: bool,
}

/// Reads keys (etcd `RangeRequest`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Return at most so many pairs; 0 is no limit but those of the reply.
    pub limit: u64,
    /// Read at this revision; 0 is the present.
    pub revision: u64,
    /// Order of the pairs.
    pub sort_order: SortOrder,
    /// What they are ordered by.
    pub sort_target: SortTarget,
    /// Leave out the values.
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Return only pairs last changed at or after this revision; 0 is no bound.
    pub min_mod_revision: u64,
    /// Return only pairs last changed at or before this revision; 0 is no bound.
    pub max_mod_revision: u64,
    /// Return only pairs created at or after this revision; 0 is no bound.
    pub min_create_revision: u64,
    /// Return only pairs created at or before this revision; 0 is no bound.
    pub max_create_revision: u64,
}

/// The order of the pairs of a range reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum SortOrder {
    /// Ascending, as etcd does.
    #[default]
    Unsorted,
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// What a range reply is ordered by. Equal pairs follow in ascending key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum SortTarget {
    /// The key's bytes.
    #[default]
    Key,
    /// The number of puts since creation.
    Version,
    /// The revision of creation.
    CreateRevision,
    /// The revision of the last put.
    ModRevision,
    /// The value's bytes.
    Value,
}

/// Deletes keys (etcd `DeleteRangeRequest`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with the pairs that are deleted.
    pub prev_kv: bool,
}

/// If all of `compare` hold, executes `success`, else `failure` (etcd `TxnRequest`). All writes are one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct TxnRequest {
    /// All must hold; none given holds.
    pub compare: Vec<Compare>,
    /// Executed in order if they do.
    pub success: Vec<TxnOperation>,
    /// Executed in order if they do not.
    pub failure: Vec<TxnOperation>,
}

/// One predicate on the present state (etcd `Compare`).
///
/// A key that does not exist has version, create and mod revision 0; a comparison of its value never holds. Over a
/// range, every existing key must satisfy it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// The relation of what is stored (left) to what is given (right).
    pub relation: Relation,
    /// What is compared, with what.
    pub target: CompareTarget,
}

/// A relation between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Relation {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

impl Relation {
    /// Whether `left` stands in this relation to `right`.
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::Greater => left > right,
        }
    }
}

/// What a [`Compare`] looks at, with the value it compares to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CompareTarget {
    /// The number of puts since creation.
    Version(u64),
    /// The revision of creation.
    CreateRevision(u64),
    /// The revision of the last put.
    ModRevision(u64),
    /// The value's bytes.
    Value(Vec<u8>),
    /// The attached lease.
    Lease(u64),
}

/// An operation inside a transaction. There is no nested transaction: the type cannot say it and the decoder refuses
/// its tag, so that no input makes the decoder recurse.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum TxnOperation {
    /// Writes one key.
    Put(PutRequest),
    /// Reads keys; sees what the transaction wrote before.
    Range(RangeRequest),
    /// Deletes keys.
    Delete(DeleteRequest),
}

/// Forgets every version that is superseded at `revision` (etcd `CompactionRequest`). Reads below it are refused then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CompactionRequest {
    /// Above the last compaction, up to the present revision.
    pub revision: u64,
}

impl PutRequest {
    /// A plain put of `value` under `key`.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutRequest {
        PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
    }
}

impl RangeRequest {
    /// A plain read of `range` at the present.
    pub fn new(range: KeyRange) -> RangeRequest {
        RangeRequest {
            range,
            limit: 0,
            revision: 0,
            sort_order: SortOrder::Unsorted,
            sort_target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }
}

impl DeleteRequest {
    /// A plain deletion of `range`.
    pub fn new(range: KeyRange) -> DeleteRequest {
        DeleteRequest { range, prev_kv: false }
    }
}

impl Operation {
    /// The bytes that a request carries.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the bytes of a request; at most [`MAX_REQUEST_BYTES`].
    ///
    /// # Errors
    /// Longer, malformed or followed by other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Operation, DecodeError> {
        decode(bytes, MAX_REQUEST_BYTES)
    }
}

/// Whether `operation` can change nothing, whatever the state (etcd `isTxnReadonly`).
pub fn is_read_only(operation: &Operation) -> bool {
    match operation {
        Operation::Range(_) => true,
        Operation::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).all(|inner| matches!(inner, TxnOperation::Range(_)))
        }
        Operation::Put(_) | Operation::Delete(_) | Operation::Compact(_) => false,
    }
}
