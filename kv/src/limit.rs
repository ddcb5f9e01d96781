//! Every cap of the service by name, and the check of an operation before it is executed. All of it depends on the
//! operation alone, so every replica judges alike and a client can refuse its own mistakes.

use quorate_crypto::encoding::{Decode, Encode};
use thiserror::Error;

use crate::event::KeyValue;
use crate::key_range::KeyRange;
use crate::operation::{
    Compare, CompareTarget, DeleteRequest, Operation, PutRequest, RangeRequest, TxnOperation, TxnRequest,
};

/// Longest key or range end: 4 KiB.
pub const MAX_KEY_BYTES: usize = 4 * 1024;

/// Longest encoded operation: 1.5 MiB, etcd's default `--max-request-bytes`.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// Most comparisons, and most operations in each list, of a transaction: etcd's default `--max-txn-ops`.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// Encoded pairs that one operation returns: 1 MiB. The first pair is always returned, however long.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Index entries that one operation looks at, all its parts together. It bounds what an operation costs.
pub const MAX_VISITED_KEYS: u64 = 16_384;

/// Encoded events of one revision, without the pairs they replaced: 2 MiB.
pub const MAX_REVISION_BYTES: usize = 2 * 1024 * 1024;

/// Encoded events of one revision with their previous pairs: 3.5 MiB. Longer lists come without previous pairs. A
/// single put with its previous pair always fits.
pub const MAX_EVENT_LIST_BYTES: usize = 3584 * 1024;

/// Encoded events of a page: 1 MiB, unless its first revision alone is longer.
pub const MAX_EVENT_PAGE_BYTES: usize = 1024 * 1024;

/// Events of a page, unless its first revision alone has more.
pub const MAX_EVENT_PAGE_EVENTS: usize = 4096;

/// Stored events that one page looks at, up to the end of a revision.
pub const MAX_EVENT_PAGE_SCAN: usize = 65_536;

/// Longest encoded result or page of events: 4 MiB.
pub const MAX_RESULT_BYTES: usize = 4 * 1024 * 1024;

/// Why an operation is refused whatever the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Encode, Decode)]
pub enum LimitError {
    /// A key is empty (etcd `ErrEmptyKey`).
    #[error("key is not provided")]
    EmptyKey,
    /// A key or range end is longer than [`MAX_KEY_BYTES`].
    #[error("a key of {length} bytes exceeds the limit of 4096")]
    KeyTooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// The operation is longer than [`MAX_REQUEST_BYTES`] (etcd `ErrRequestTooLarge`).
    #[error("a request of {length} bytes exceeds the limit of 1572864")]
    RequestTooLong {
        /// Its encoded length in bytes.
        length: u64,
    },
    /// A list of a transaction is longer than [`MAX_TXN_OPERATIONS`] (etcd `ErrTooManyOps`).
    #[error("{count} operations in a transaction exceed the limit of 128")]
    TooManyOperations {
        /// The length of the longest list.
        count: u64,
    },
    /// One list of a transaction writes a key twice (etcd `ErrDuplicateKey`).
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A lease is named, and leases do not exist yet.
    #[error("leases are not supported: the lease must be 0")]
    LeasesUnsupported,
    /// `ignore_value` with a value (etcd `ErrValueProvided`).
    #[error("value is provided")]
    ValueProvided,
}

/// Everything that can be said against an operation without looking at the state.
///
/// # Errors
/// The first limit that is broken.
pub fn check(operation: &Operation) -> Result<(), LimitError> {
    let length = encoded_length(operation);
    if length > MAX_REQUEST_BYTES {
        return Err(LimitError::RequestTooLong { length: length as u64 });
    }
    match operation {
        Operation::Put(put) => check_put(put),
        Operation::Range(RangeRequest { range, .. }) | Operation::Delete(DeleteRequest { range, .. }) => {
            check_range(range)
        }
        Operation::Txn(txn) => check_txn(txn),
        Operation::Compact(_) => Ok(()),
    }
}

fn check_key(key: &[u8]) -> Result<(), LimitError> {
    if key.is_empty() {
        return Err(LimitError::EmptyKey);
    }
    check_key_length(key)
}

fn check_key_length(key: &[u8]) -> Result<(), LimitError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(LimitError::KeyTooLong { length: key.len() as u64 });
    }
    Ok(())
}

pub(crate) fn check_range(range: &KeyRange) -> Result<(), LimitError> {
    check_key(&range.key)?;
    check_key_length(&range.range_end)
}

fn check_put(put: &PutRequest) -> Result<(), LimitError> {
    check_key(&put.key)?;
    if put.lease != 0 {
        return Err(LimitError::LeasesUnsupported);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(LimitError::ValueProvided);
    }
    Ok(())
}

fn check_txn(txn: &TxnRequest) -> Result<(), LimitError> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if count > MAX_TXN_OPERATIONS {
        return Err(LimitError::TooManyOperations { count: count as u64 });
    }
    for Compare { range, .. } in &txn.compare {
        check_range(range)?;
    }
    for list in [&txn.success, &txn.failure] {
        for operation in list {
            match operation {
                TxnOperation::Put(put) => check_put(put)?,
                TxnOperation::Range(RangeRequest { range, .. }) | TxnOperation::Delete(DeleteRequest { range, .. }) => {
                    check_range(range)?;
                }
            }
        }
        check_written_once(list)?;
    }
    Ok(())
}

/// No key is put twice, or put and deleted, by one list (etcd `checkIntervals`): so a revision holds at most one event
/// of a key.
fn check_written_once(list: &[TxnOperation]) -> Result<(), LimitError> {
    let mut puts: Vec<&[u8]> = Vec::new();
    for operation in list {
        if let TxnOperation::Put(put) = operation {
            puts.push(&put.key);
        }
    }
    puts.sort_unstable();
    if puts.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(LimitError::DuplicateKey);
    }
    for operation in list {
        let TxnOperation::Delete(DeleteRequest { range, .. }) = operation else { continue };
        let first = puts.partition_point(|key| *key < range.key.as_slice());
        if puts.get(first).is_some_and(|key| range.contains(key)) {
            return Err(LimitError::DuplicateKey);
        }
    }
    Ok(())
}

const TAG: usize = 4;
const LENGTH: usize = 8;
const NUMBER: usize = 8;
const FLAG: usize = 1;

fn put_length(put: &PutRequest) -> usize {
    LENGTH + put.key.len() + LENGTH + put.value.len() + NUMBER + 3 * FLAG
}

fn key_range_length(range: &KeyRange) -> usize {
    LENGTH + range.key.len() + LENGTH + range.range_end.len()
}

fn range_length(request: &RangeRequest) -> usize {
    key_range_length(&request.range) + 2 * NUMBER + 2 * TAG + 2 * FLAG + 4 * NUMBER
}

fn delete_length(request: &DeleteRequest) -> usize {
    key_range_length(&request.range) + FLAG
}

fn compare_length(compare: &Compare) -> usize {
    let target = match &compare.target {
        CompareTarget::Value(value) => LENGTH + value.len(),
        _ => NUMBER,
    };
    key_range_length(&compare.range) + TAG + TAG + target
}

fn txn_list_length(list: &[TxnOperation]) -> usize {
    let inner = |operation: &TxnOperation| match operation {
        TxnOperation::Put(put) => put_length(put),
        TxnOperation::Range(range) => range_length(range),
        TxnOperation::Delete(delete) => delete_length(delete),
    };
    LENGTH + list.iter().map(|operation| TAG + inner(operation)).sum::<usize>()
}

/// The length of [`Operation::to_bytes`], without making them.
pub fn encoded_length(operation: &Operation) -> usize {
    let inner = match operation {
        Operation::Put(put) => put_length(put),
        Operation::Range(range) => range_length(range),
        Operation::Delete(delete) => delete_length(delete),
        Operation::Txn(txn) => {
            LENGTH
                + txn.compare.iter().map(compare_length).sum::<usize>()
                + txn_list_length(&txn.success)
                + txn_list_length(&txn.failure)
        }
        Operation::Compact(_) => NUMBER,
    };
    TAG + inner
}

/// The length of an encoded pair.
pub(crate) fn pair_length(pair: &KeyValue) -> usize {
    pair_length_of(pair.key.len(), pair.value.len())
}

/// The length of an encoded pair with a key and a value of so many bytes.
pub(crate) fn pair_length_of(key: usize, value: usize) -> usize {
    LENGTH + key + LENGTH + value + 4 * NUMBER
}

/// The length of an encoded event with a key and a value of so many bytes and no previous pair.
pub(crate) fn event_length_of(key: usize, value: usize) -> usize {
    TAG + pair_length_of(key, value) + FLAG
}

#[cfg(test)]
mod tests;
