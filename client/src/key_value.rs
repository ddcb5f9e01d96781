//! The key-value service in Rust: typed calls on a [`Client`].

use std::time::Duration;

use quorate_crypto::Seq;
use quorate_kv::{
    Compare, CompareTarget, DeleteRequest, DeleteResponse, KeyRange, KeyValue, Operation as KeyValueOperation,
    OperationError, OperationResult, Outcome, PutRequest, PutResponse, RangeRequest, RangeResponse, Relation, SERVICE,
    SortOrder, TxnOperation, TxnRequest, TxnResponse,
};
use quorate_protocol::client::ReadEnding;
use quorate_protocol::request::Operation;

use crate::client::{Client, Executed};
use crate::error::ClientError;

/// How often a read whose results were dropped before they arrived is ordered anew.
const READ_TRIES: usize = 3;

/// Something that executed at its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The revision it made.
    pub revision: u64,
    /// The batch it executed in.
    pub seq: Seq,
    /// How many replicas gave this answer when it was accepted.
    pub matching: usize,
    /// n.
    pub replicas: usize,
    /// The service's answer.
    pub response: T,
}

/// How to read a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeOptions {
    /// Most pairs; 0 is all.
    pub limit: u64,
    /// At this revision; 0 is the newest.
    pub revision: u64,
    /// Descending key order.
    pub descending: bool,
    /// Leave out the values.
    pub keys_only: bool,
    /// Not ordered: f + 1 equal answers at one revision, which may not be the newest. Falls back to an ordered read.
    pub serializable: bool,
}

/// A range as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranged {
    /// The revision all of it was read at.
    pub revision: u64,
    /// The pairs, in key order.
    pub kvs: Vec<KeyValue>,
    /// Keys of the range at that revision, whatever the limit.
    pub count: u64,
    /// There are more than the limit.
    pub more: bool,
}

impl Client {
    /// Executes several key-value operations as one bundle; one result each, in order.
    ///
    /// # Errors
    /// [`ClientError::Limit`] before anything is sent; those of [`Client::submit`].
    pub async fn execute(
        &self,
        operations: &[KeyValueOperation],
    ) -> Result<(Executed, Vec<OperationResult>), ClientError> {
        let mut bundle = Vec::with_capacity(operations.len());
        for operation in operations {
            bundle.push(wrap(operation)?);
        }
        let executed = self.submit(bundle).await?;
        let results = read_results(executed.results()?)?;
        Ok((executed, results))
    }

    /// Writes one key.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<Written<PutResponse>, ClientError> {
        self.write(KeyValueOperation::Put(PutRequest::new(key, value)), |outcome| match outcome {
            Outcome::Put(response) => Ok(response),
            other => Err(other),
        })
        .await
    }

    /// Deletes the keys of `range`.
    pub async fn delete(&self, range: KeyRange) -> Result<Written<DeleteResponse>, ClientError> {
        self.write(KeyValueOperation::Delete(DeleteRequest::new(range)), |outcome| match outcome {
            Outcome::Delete(response) => Ok(response),
            other => Err(other),
        })
        .await
    }

    /// Executes a transaction.
    pub async fn txn(&self, txn: TxnRequest) -> Result<Written<TxnResponse>, ClientError> {
        self.write(KeyValueOperation::Txn(txn), |outcome| match outcome {
            Outcome::Txn(response) => Ok(response),
            other => Err(other),
        })
        .await
    }

    /// Writes `new` under `key` if its value is `old`. Whether it was is [`TxnResponse::succeeded`]; if not, the answer
    /// holds the present pair.
    pub async fn cas(
        &self,
        key: impl Into<Vec<u8>>,
        old: impl Into<Vec<u8>>,
        new: impl Into<Vec<u8>>,
    ) -> Result<Written<TxnResponse>, ClientError> {
        self.txn(compare_and_swap(key.into(), old.into(), new.into())).await
    }

    /// Reads one key, in order with all writes.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, ClientError> {
        let ranged = self.range(KeyRange::single(key), RangeOptions::default()).await?;
        Ok(ranged.kvs.into_iter().next())
    }

    /// Reads a range, all of it as of one revision however many answers it takes.
    pub async fn range(&self, range: KeyRange, options: RangeOptions) -> Result<Ranged, ClientError> {
        let mut request = RangeRequest::new(range);
        request.limit = options.limit;
        request.revision = options.revision;
        request.keys_only = options.keys_only;
        if options.descending {
            request.sort_order = SortOrder::Descending;
        }
        let (revision, first) = self.range_page(&request, options.serializable).await?;
        let mut ranged = Ranged { revision, kvs: first.kvs, count: first.count, more: first.more };
        let mut resume = first.resume_key;
        let mut counted = first.counted_to_end;
        while ranged.more && !resume.is_empty() && (options.limit == 0 || (ranged.kvs.len() as u64) < options.limit) {
            request.revision = ranged.revision;
            request.limit = if options.limit == 0 { 0 } else { options.limit - ranged.kvs.len() as u64 };
            request.range = rest_of(&request.range, resume, options.descending);
            let before = ranged.kvs.len() as u64;
            let (_, page) = self.range_page(&request, options.serializable).await?;
            if !counted {
                // The first answer did not look at the whole range; this one counts on from where it stopped.
                ranged.count = before + page.count;
                counted = page.counted_to_end;
            }
            ranged.kvs.extend(page.kvs);
            ranged.more = page.more;
            resume = page.resume_key;
        }
        Ok(ranged)
    }

    /// One answer to a range, and the revision it was read at.
    async fn range_page(
        &self,
        request: &RangeRequest,
        serializable: bool,
    ) -> Result<(u64, RangeResponse), ClientError> {
        let operation = KeyValueOperation::Range(request.clone());
        if serializable && let Some(result) = self.serializable(&operation, request.revision).await? {
            return read_range(result, request.revision);
        }
        for _ in 0..READ_TRIES {
            match self.execute(std::slice::from_ref(&operation)).await {
                Ok((_, results)) => {
                    let result = results.into_iter().next().ok_or_else(missing_result)?;
                    return read_range(result, request.revision);
                }
                // The first replies were lost, and results of reads are not kept: order it anew.
                Err(ClientError::ResultsForgotten(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::NoQuorum { answered: 0, needed: self.committee().one_honest(), links: self.link_report() })
    }

    /// f + 1 equal answers at one revision; none if that could not be had in half the time there is (rule P15: the
    /// ordered read then gets the other half).
    async fn serializable(
        &self,
        operation: &KeyValueOperation,
        revision: u64,
    ) -> Result<Option<OperationResult>, ClientError> {
        let patience: Duration = self.patience() / 2;
        let wanted = (revision != 0).then_some(revision);
        let ReadEnding::Read { result, .. } = self.read(wrap(operation)?, wanted, patience).await? else {
            return Ok(None);
        };
        let result = read_result(&result)?;
        let outdated =
            matches!(result.error(), Some(OperationError::FutureRevision { .. } | OperationError::Compacted { .. }));
        // Replicas that are not there yet may agree on that; the order of the cluster knows better.
        Ok((!outdated).then_some(result))
    }

    async fn write<T>(
        &self,
        operation: KeyValueOperation,
        take: impl FnOnce(Outcome) -> Result<T, Outcome>,
    ) -> Result<Written<T>, ClientError> {
        let (executed, results) = self.execute(&[operation]).await?;
        let result = results.into_iter().next().ok_or_else(missing_result)?;
        let response = match take(result.outcome) {
            Ok(response) => response,
            Err(Outcome::Refused(error)) => return Err(error.into()),
            Err(_) => return Err(ClientError::Unreadable("the answer to another operation".to_owned())),
        };
        Ok(Written {
            revision: result.revision,
            seq: executed.reply.seq,
            matching: executed.matching,
            replicas: executed.replicas,
            response,
        })
    }
}

/// The transaction behind [`Client::cas`].
pub fn compare_and_swap(key: Vec<u8>, old: Vec<u8>, new: Vec<u8>) -> TxnRequest {
    let range = KeyRange::single(key.clone());
    TxnRequest {
        compare: vec![Compare { range: range.clone(), relation: Relation::Equal, target: CompareTarget::Value(old) }],
        success: vec![TxnOperation::Put(PutRequest::new(key, new))],
        failure: vec![TxnOperation::Range(RangeRequest::new(range))],
    }
}

/// The key that `txn` swaps, if it is one of [`compare_and_swap`].
pub fn swapped_key(txn: &TxnRequest) -> Option<&[u8]> {
    let ([compare], [TxnOperation::Put(put)]) = (&txn.compare[..], &txn.success[..]) else { return None };
    let CompareTarget::Value(old) = &compare.target else { return None };
    (*txn == compare_and_swap(put.key.clone(), old.clone(), put.value.clone())).then_some(put.key.as_slice())
}

/// An operation as a request carries it, if no replica would refuse it outright.
pub fn wrap(operation: &KeyValueOperation) -> Result<Operation, ClientError> {
    quorate_kv::check(operation)?;
    Ok(Operation { service: SERVICE, bytes: operation.to_bytes() })
}

/// Reads results of the key-value service.
pub fn read_results(results: &[Vec<u8>]) -> Result<Vec<OperationResult>, ClientError> {
    results.iter().map(|bytes| read_result(bytes)).collect()
}

fn read_result(bytes: &[u8]) -> Result<OperationResult, ClientError> {
    OperationResult::from_bytes(bytes).map_err(|error| ClientError::Unreadable(error.to_string()))
}

fn missing_result() -> ClientError {
    ClientError::Unreadable("no result".to_owned())
}

/// The revision is the one read at: the one asked for, else the store's.
fn read_range(result: OperationResult, asked: u64) -> Result<(u64, RangeResponse), ClientError> {
    let revision = if asked == 0 { result.revision } else { asked };
    match result.outcome {
        Outcome::Range(response) => Ok((revision, response)),
        Outcome::Refused(error) => Err(error.into()),
        _ => Err(ClientError::Unreadable("the answer to another operation".to_owned())),
    }
}

/// What is left of `range` from `resume` on, the first key not returned.
fn rest_of(range: &KeyRange, mut resume: Vec<u8>, descending: bool) -> KeyRange {
    if descending {
        resume.push(0);
        KeyRange::interval(range.key.clone(), resume)
    } else {
        KeyRange::interval(resume, range.range_end.clone())
    }
}

#[cfg(test)]
mod tests;
