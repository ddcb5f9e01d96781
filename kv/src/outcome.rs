//! What an operation gives: one result each, refusals included. Equal on every honest replica to the byte; pinned by
//! golden tests.

use quorate_crypto::encoding::{Decode, DecodeError, Encode, decode, encode};
use thiserror::Error;

use crate::event::KeyValue;
use crate::limit::{LimitError, MAX_RESULT_BYTES};

/// The result of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OperationResult {
    /// The store's revision after the operation; for a read on a snapshot, the revision it was read at.
    pub revision: u64,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// A put was executed.
    Put(PutResponse),
    /// A range was read.
    Range(RangeResponse),
    /// Keys were deleted, possibly none.
    Delete(DeleteResponse),
    /// A transaction was executed.
    Txn(TxnResponse),
    /// The store was compacted.
    Compact(CompactionResponse),
    /// Nothing was executed.
    Refused(OperationError),
}

/// Answer to a put.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct PutResponse {
    /// The pair before, if asked for and if there was one.
    pub prev_kv: Option<KeyValue>,
}

/// Answer to a range.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct RangeResponse {
    /// The pairs, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// There are more: the limit, [`crate::limit::MAX_REPLY_BYTES`] or [`crate::limit::MAX_VISITED_KEYS`] was reached.
    pub more: bool,
    /// Keys of the range that exist at the revision, whatever the limit and the filters (as etcd), as far as they were
    /// counted.
    pub count: u64,
    /// Whether `count` is that of the whole range.
    pub counted_to_end: bool,
    /// If `more`, and the order is by key: the first key that was not returned. Go on there, at the same revision: with
    /// it as `key` when ascending, with it and a zero byte as `range_end` when descending. Else empty.
    pub resume_key: Vec<u8>,
}

/// Answer to a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct DeleteResponse {
    /// How many keys were deleted.
    pub deleted: u64,
    /// The pairs before, in ascending key order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// Answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct TxnResponse {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// One answer for each operation of the list that was executed.
    pub responses: Vec<TxnOutcome>,
}

/// Answer to one operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum TxnOutcome {
    /// A put was executed.
    Put(PutResponse),
    /// A range was read.
    Range(RangeResponse),
    /// Keys were deleted, possibly none.
    Delete(DeleteResponse),
}

/// Answer to a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CompactionResponse {
    /// Reads below this revision are refused from now on.
    pub compact_revision: u64,
}

/// Why an operation was not executed. It left the visible state as it was; a transaction is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error, Encode, Decode)]
pub enum OperationError {
    /// The bytes are no operation of this service.
    #[error("malformed operation")]
    Malformed,
    /// Refused by [`crate::check`], whatever the state.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The revision has been compacted (etcd `ErrCompacted`).
    #[error("required revision has been compacted (oldest is {compact_revision})")]
    Compacted {
        /// The oldest revision that can be read.
        compact_revision: u64,
    },
    /// The revision does not exist yet (etcd `ErrFutureRev`).
    #[error("required revision is a future revision (current is {current_revision})")]
    FutureRevision {
        /// The newest revision.
        current_revision: u64,
    },
    /// The put does not fit the quota (etcd `ErrNoSpace`). Deletions and compactions still work and make room.
    #[error("store space of {quota_bytes} bytes exceeded: compact or delete")]
    NoSpace {
        /// The quota in logical bytes.
        quota_bytes: u64,
    },
    /// `ignore_value` or `ignore_lease` for a key that does not exist (etcd `ErrKeyNotFound`).
    #[error("key not found")]
    KeyNotFound,
    /// A deletion, sorted range or comparison over more keys than one operation may look at.
    #[error("more than {limit} keys for one operation: divide the range")]
    TooManyKeys {
        /// [`crate::limit::MAX_VISITED_KEYS`].
        limit: u64,
    },
    /// The events of one revision would be longer than [`crate::limit::MAX_REVISION_BYTES`].
    #[error("the changes exceed {limit} bytes for one revision: divide the operation")]
    RevisionTooLarge {
        /// The cap in bytes.
        limit: u64,
    },
    /// The pairs that a deletion or transaction has to return exceed [`crate::limit::MAX_REPLY_BYTES`].
    #[error("the answer exceeds {limit} bytes: divide the operation")]
    ReplyTooLarge {
        /// The cap in bytes.
        limit: u64,
    },
    /// A read on a snapshot was asked to write.
    #[error("not a read-only operation")]
    NotReadOnly,
}

impl OperationResult {
    /// The result's bytes, over which replicas' answers are compared.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a result; at most [`MAX_RESULT_BYTES`].
    ///
    /// # Errors
    /// Longer, malformed or followed by other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<OperationResult, DecodeError> {
        decode(bytes, MAX_RESULT_BYTES)
    }

    /// The refusal, if it was refused.
    pub fn error(&self) -> Option<&OperationError> {
        match &self.outcome {
            Outcome::Refused(error) => Some(error),
            _ => None,
        }
    }
}
