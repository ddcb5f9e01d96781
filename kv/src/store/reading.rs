//! Reading: ranges and comparisons as of a revision, and whole operations on a snapshot.

use std::ops::ControlFlow;

use crate::event::{KeyValue, StoredPair};
use crate::limit::{MAX_REPLY_BYTES, MAX_VISITED_KEYS, pair_length_of};
use crate::operation::{
    Compare, CompareTarget, Operation, RangeRequest, SortOrder, SortTarget, TxnOperation, TxnRequest, is_read_only,
};
use crate::outcome::{OperationError, OperationResult, Outcome, RangeResponse, TxnOutcome, TxnResponse};
use crate::store::Store;
use crate::store::walk::{Budget, Walk};

pub(super) const TOO_MANY_KEYS: OperationError = OperationError::TooManyKeys { limit: MAX_VISITED_KEYS };
pub(super) const REPLY_TOO_LARGE: OperationError = OperationError::ReplyTooLarge { limit: MAX_REPLY_BYTES as u64 };

impl Store {
    /// Executes a read on this snapshot as of `revision`, 0 being its newest; a range that names a revision itself is
    /// read at that one. Changes nothing, so a replica may answer it without the order of the cluster. The result's
    /// revision is `revision`, so that answers of replicas that are not equally far can be compared.
    pub fn read(&self, operation: &Operation, revision: u64) -> OperationResult {
        self.read_within(operation, revision, &mut MAX_VISITED_KEYS.clone())
    }

    /// [`Store::read`] that looks at no more keys than `visits`, and takes from them those it looked at.
    pub fn read_within(&self, operation: &Operation, revision: u64, visits: &mut u64) -> OperationResult {
        let at = if revision == 0 { self.status.current_revision } else { revision };
        let mut budget = Budget::of(*visits);
        let before = budget.visits();
        let outcome = self.read_outcome(operation, at, &mut budget).unwrap_or_else(Outcome::Refused);
        *visits -= before - budget.visits();
        OperationResult { revision: at, outcome }
    }

    fn read_outcome(&self, operation: &Operation, at: u64, budget: &mut Budget) -> Result<Outcome, OperationError> {
        crate::check(operation)?;
        self.readable(at)?;
        if !is_read_only(operation) {
            return Err(OperationError::NotReadOnly);
        }
        match operation {
            Operation::Range(request) => Ok(Outcome::Range(self.range(request, at, budget)?)),
            Operation::Txn(txn) => Ok(Outcome::Txn(self.read_txn(txn, at, budget)?)),
            Operation::Put(_) | Operation::Delete(_) | Operation::Compact(_) => Err(OperationError::NotReadOnly),
        }
    }

    fn read_txn(&self, txn: &TxnRequest, at: u64, budget: &mut Budget) -> Result<TxnResponse, OperationError> {
        let succeeded = self.compares_hold(&txn.compare, at, budget)?;
        let mut responses = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            let TxnOperation::Range(request) = operation else { return Err(OperationError::NotReadOnly) };
            responses.push(TxnOutcome::Range(self.range(request, at, budget)?));
        }
        Ok(TxnResponse { succeeded, responses })
    }

    /// Refuses revisions that are compacted or do not exist yet. The compacted revision itself can be read.
    pub(super) fn readable(&self, revision: u64) -> Result<(), OperationError> {
        if revision > self.status.current_revision {
            return Err(OperationError::FutureRevision { current_revision: self.status.current_revision });
        }
        if revision < self.status.compact_revision {
            return Err(OperationError::Compacted { compact_revision: self.status.compact_revision });
        }
        Ok(())
    }

    /// Executes a range as of `at`, which the caller found readable.
    pub(super) fn range(
        &self,
        request: &RangeRequest,
        at: u64,
        budget: &mut Budget,
    ) -> Result<RangeResponse, OperationError> {
        let revision = if request.revision == 0 || request.revision == at {
            at
        } else if request.revision > at {
            return Err(OperationError::FutureRevision { current_revision: at });
        } else {
            self.readable(request.revision)?;
            request.revision
        };
        if request.sort_target != SortTarget::Key && !request.count_only {
            return self.range_by_other(request, revision, budget);
        }
        self.range_by_key(request, revision, budget)
    }

    /// A range in key order: one walk, which goes on counting when the reply is full.
    fn range_by_key(
        &self,
        request: &RangeRequest,
        revision: u64,
        budget: &mut Budget,
    ) -> Result<RangeResponse, OperationError> {
        let limit = if request.limit == 0 { u64::MAX } else { request.limit };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let mut count = 0;
        let mut cut: Option<Vec<u8>> = None;
        let walk = Walk { range: &request.range, revision, descending: request.sort_order == SortOrder::Descending };
        let stopped = self.walk(walk, budget, |key, pair, budget| {
            count += 1;
            if !request.count_only && cut.is_none() && passes(request, pair) {
                if (kvs.len() as u64) < limit && budget.reply(reply_length(request, &key, pair)) {
                    kvs.push(reply_pair(request, &key, pair));
                } else {
                    cut = Some(key);
                }
            }
            ControlFlow::Continue(())
        });
        if cut.is_some() && kvs.is_empty() {
            return Err(REPLY_TOO_LARGE);
        }
        let counted_to_end = stopped.is_none();
        let resume_key = cut.or(stopped);
        let more = resume_key.is_some();
        Ok(RangeResponse { kvs, more, count, counted_to_end, resume_key: resume_key.unwrap_or_default() })
    }

    /// A range in another order: all of it is looked at before anything is returned.
    fn range_by_other(
        &self,
        request: &RangeRequest,
        revision: u64,
        budget: &mut Budget,
    ) -> Result<RangeResponse, OperationError> {
        let mut found: Vec<(Vec<u8>, StoredPair<'_>)> = Vec::new();
        let mut count = 0;
        let walk = Walk { range: &request.range, revision, descending: false };
        let by_value = request.sort_target == SortTarget::Value;
        let stopped = self.walk(walk, budget, |key, pair, budget| {
            count += 1;
            if passes(request, pair) {
                budget.look_at(if by_value { pair.value.len() } else { 0 });
                found.push((key, pair));
            }
            ControlFlow::Continue(())
        });
        if stopped.is_some() {
            return Err(TOO_MANY_KEYS);
        }
        found.sort_by(|(left_key, left), (right_key, right)| {
            let order = match request.sort_target {
                SortTarget::Key => left_key.cmp(right_key),
                SortTarget::Version => left.version.cmp(&right.version),
                SortTarget::CreateRevision => left.create_revision.cmp(&right.create_revision),
                SortTarget::ModRevision => left.mod_revision.cmp(&right.mod_revision),
                SortTarget::Value => left.value.cmp(right.value),
            };
            if request.sort_order == SortOrder::Descending { order.reverse() } else { order }
        });
        let limit = if request.limit == 0 { u64::MAX } else { request.limit };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let mut more = false;
        for (key, pair) in found {
            if (kvs.len() as u64) == limit || !budget.reply(reply_length(request, &key, pair)) {
                more = true;
                break;
            }
            kvs.push(reply_pair(request, &key, pair));
        }
        if more && kvs.is_empty() {
            return Err(REPLY_TOO_LARGE);
        }
        Ok(RangeResponse { kvs, more, count, counted_to_end: true, resume_key: Vec::new() })
    }

    /// Whether all of `compares` hold as of `at`.
    pub(super) fn compares_hold(
        &self,
        compares: &[Compare],
        at: u64,
        budget: &mut Budget,
    ) -> Result<bool, OperationError> {
        for compare in compares {
            if !self.compare_holds(compare, at, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// etcd's `applyCompare`: every existing key of the range must satisfy it; if there is none, a key of version,
    /// revisions and lease 0 must, and no comparison of its value holds.
    fn compare_holds(&self, compare: &Compare, at: u64, budget: &mut Budget) -> Result<bool, OperationError> {
        let mut any = false;
        let mut all = true;
        let walk = Walk { range: &compare.range, revision: at, descending: false };
        let stopped = self.walk(walk, budget, |_, pair, budget| {
            any = true;
            if let CompareTarget::Value(value) = &compare.target {
                budget.look_at(value.len().min(pair.value.len()));
            }
            all = satisfies(compare, pair);
            if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if stopped.is_some() {
            return Err(TOO_MANY_KEYS);
        }
        if any {
            return Ok(all);
        }
        Ok(match &compare.target {
            CompareTarget::Value(_) => false,
            CompareTarget::Version(number)
            | CompareTarget::CreateRevision(number)
            | CompareTarget::ModRevision(number)
            | CompareTarget::Lease(number) => compare.relation.holds(&0, number),
        })
    }
}

fn satisfies(compare: &Compare, pair: StoredPair<'_>) -> bool {
    match &compare.target {
        CompareTarget::Version(number) => compare.relation.holds(&pair.version, number),
        CompareTarget::CreateRevision(number) => compare.relation.holds(&pair.create_revision, number),
        CompareTarget::ModRevision(number) => compare.relation.holds(&pair.mod_revision, number),
        CompareTarget::Value(value) => compare.relation.holds(pair.value, value.as_slice()),
        CompareTarget::Lease(lease) => compare.relation.holds(&pair.lease, lease),
    }
}

/// The filters of a range.
fn passes(request: &RangeRequest, pair: StoredPair<'_>) -> bool {
    let within = |revision: u64, min: u64, max: u64| revision >= min && (max == 0 || revision <= max);
    within(pair.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(pair.create_revision, request.min_create_revision, request.max_create_revision)
}

fn reply_length(request: &RangeRequest, key: &[u8], pair: StoredPair<'_>) -> usize {
    pair_length_of(key.len(), if request.keys_only { 0 } else { pair.value.len() })
}

fn reply_pair(request: &RangeRequest, key: &[u8], pair: StoredPair<'_>) -> KeyValue {
    let value = if request.keys_only { &[] } else { pair.value };
    StoredPair { value, ..pair }.under(key)
}
