//! Executing operations in the agreed order: put, delete, txn. All that one operation writes is one revision; what is
//! refused leaves nothing behind but the progress of purging.

use std::ops::ControlFlow;
use std::sync::Arc;

use quorate_crypto::merkle_map::Value;
use quorate_crypto::mutant::{Mutant, alive};

use crate::event::{EVENT_KEY_BYTES, EventKind, KeyValue, StoredEvent, StoredPair, event_key};
use crate::history_key;
use crate::limit::{MAX_REVISION_BYTES, MAX_VISITED_KEYS, event_length_of, pair_length_of};
use crate::operation::{DeleteRequest, Operation, PutRequest, TxnOperation, TxnRequest, is_read_only};
use crate::outcome::{DeleteResponse, OperationError, OperationResult, Outcome, PutResponse, TxnOutcome, TxnResponse};
use crate::store::Store;
use crate::store::compaction::PURGE_STEPS_WHEN_FULL;
use crate::store::reading::{REPLY_TOO_LARGE, TOO_MANY_KEYS};
use crate::store::walk::{Budget, Walk};

/// The revision that an operation is writing.
#[derive(Debug)]
struct Writing<'a> {
    revision: u64,
    /// Events written so far: the next one's sub.
    events: u32,
    /// Their encoded length, without the pairs they replaced.
    bytes: usize,
    budget: &'a mut Budget,
}

impl Writing<'_> {
    /// Whether an event with a key and a value of so many bytes still fits the revision.
    fn grow(&mut self, key: usize, value: usize) -> Result<(), OperationError> {
        self.bytes += event_length_of(key, value);
        if self.bytes > MAX_REVISION_BYTES { Err(REVISION_TOO_LARGE) } else { Ok(()) }
    }
}

/// The logical bytes that a put adds at most: a pair, and an event that the replaced pair moves to.
fn growth(key: usize, value: usize) -> u64 {
    let pair = key + StoredPair::HEADER_BYTES + value;
    let event = EVENT_KEY_BYTES + StoredEvent::HEADER_BYTES + key;
    (pair + event) as u64
}

impl Store {
    /// Executes the next operation in the agreed order, in the form that requests carry. Bytes that are no operation
    /// are refused and change nothing.
    ///
    /// It looks at no more keys than `visits`, and takes from them those it looked at: several operations of one request
    /// share what one may look at.
    pub fn apply_encoded(&mut self, bytes: &[u8], agreed_time: u64, visits: &mut u64) -> OperationResult {
        match Operation::from_bytes(bytes) {
            Ok(operation) => self.apply_within(&operation, agreed_time, visits),
            Err(_) => self.result(Outcome::Refused(OperationError::Malformed)),
        }
    }

    /// Executes the next operation in the agreed order. `agreed_time` is in milliseconds and never decreases; nothing
    /// depends on it until there are leases.
    ///
    /// A read-only operation changes nothing, not even the root.
    pub fn apply(&mut self, operation: &Operation, agreed_time: u64) -> OperationResult {
        self.apply_within(operation, agreed_time, &mut MAX_VISITED_KEYS.clone())
    }

    fn apply_within(&mut self, operation: &Operation, _agreed_time: u64, visits: &mut u64) -> OperationResult {
        if is_read_only(operation) {
            return self.read_within(operation, 0, visits);
        }
        let mut budget = Budget::of(*visits);
        let before = budget.visits();
        let outcome = match crate::check(operation) {
            Ok(()) => self.write(operation, &mut budget).unwrap_or_else(Outcome::Refused),
            Err(limit) => Outcome::Refused(OperationError::Limit(limit)),
        };
        *visits -= before - budget.visits();
        self.result(outcome)
    }

    fn result(&self, outcome: Outcome) -> OperationResult {
        OperationResult { revision: self.status.current_revision, outcome }
    }

    fn write(&mut self, operation: &Operation, budget: &mut Budget) -> Result<Outcome, OperationError> {
        let mut writing = Writing { revision: self.status.current_revision + 1, events: 0, bytes: 0, budget };
        let outcome = match operation {
            Operation::Put(put) => {
                self.admit(self.put_bytes(put))?;
                Outcome::Put(self.put(put, &mut writing)?)
            }
            Operation::Delete(delete) => Outcome::Delete(self.delete(delete, &mut writing)?),
            Operation::Txn(txn) => Outcome::Txn(self.txn(txn, &mut writing)?),
            Operation::Compact(compaction) => return self.compact(*compaction).map(Outcome::Compact),
            Operation::Range(_) => unreachable!("a range is read-only"),
        };
        if writing.events > 0 {
            self.after_write(writing.events);
            self.save_status();
        }
        Ok(outcome)
    }

    /// Refuses puts of so many logical bytes that do not fit the quota. Purges before it refuses, so that a client that
    /// compacts and tries again gets room.
    fn admit(&mut self, bytes: u64) -> Result<(), OperationError> {
        let quota_bytes = self.parameters.quota_bytes;
        let fits = |store: &Store| store.status.logical_bytes.saturating_add(bytes) <= quota_bytes;
        if !fits(self) {
            self.purge(PURGE_STEPS_WHEN_FULL);
            self.save_status();
        }
        if fits(self) { Ok(()) } else { Err(OperationError::NoSpace { quota_bytes }) }
    }

    /// The logical bytes that a put adds at most.
    fn put_bytes(&self, put: &PutRequest) -> u64 {
        let value =
            if put.ignore_value { self.pair(&put.key).map_or(0, |pair| pair.value.len()) } else { put.value.len() };
        growth(put.key.len(), value)
    }

    fn put(&mut self, put: &PutRequest, writing: &mut Writing<'_>) -> Result<PutResponse, OperationError> {
        let present = self.pair(&put.key);
        if present.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(OperationError::KeyNotFound);
        }
        let kept = present.filter(|_| put.ignore_value);
        let pair = StoredPair {
            mod_revision: writing.revision,
            create_revision: present.map_or(writing.revision, |pair| pair.create_revision),
            version: present.map_or(1, |pair| pair.version + 1),
            lease: present.filter(|_| put.ignore_lease).map_or(put.lease, |pair| pair.lease),
            value: kept.map_or(&put.value, |pair| pair.value),
        };
        writing.grow(put.key.len(), pair.value.len())?;
        let prev_kv = match present.filter(|_| put.prev_kv) {
            Some(pair) if !writing.budget.reply(pair_length_of(put.key.len(), pair.value.len())) => {
                return Err(REPLY_TOO_LARGE);
            }
            replied => replied.map(|pair| pair.under(&put.key)),
        };
        let stored = pair.to_bytes();
        self.status.logical_bytes += (put.key.len() + stored.len()) as u64;
        let replaced = self.pairs.insert(&put.key, stored);
        self.record(EventKind::Put, &put.key, replaced, writing);
        Ok(PutResponse { prev_kv })
    }

    fn delete(&mut self, delete: &DeleteRequest, writing: &mut Writing<'_>) -> Result<DeleteResponse, OperationError> {
        let mut doomed: Vec<Vec<u8>> = Vec::new();
        let mut prev_kvs: Vec<KeyValue> = Vec::new();
        let mut refused = None;
        let Writing { bytes, budget, .. } = writing;
        let walk = Walk { range: &delete.range, revision: self.status.current_revision, descending: false };
        // Everything is judged on this walk, before anything is written.
        let stopped = self.walk(walk, budget, |key, pair, budget| {
            *bytes += event_length_of(key.len(), 0);
            if *bytes > MAX_REVISION_BYTES {
                refused = Some(REVISION_TOO_LARGE);
            } else if delete.prev_kv && !budget.reply(pair_length_of(key.len(), pair.value.len())) {
                refused = Some(REPLY_TOO_LARGE);
            }
            if refused.is_some() {
                return ControlFlow::Break(());
            }
            if delete.prev_kv {
                prev_kvs.push(pair.under(&key));
            }
            doomed.push(key);
            ControlFlow::Continue(())
        });
        if let Some(error) = refused.or(stopped.map(|_| TOO_MANY_KEYS)) {
            return Err(error);
        }
        for key in &doomed {
            let removed = self.pairs.remove(key);
            assert!(removed.is_some(), "the walk found the key");
            self.record(EventKind::Delete, key, removed, writing);
        }
        Ok(DeleteResponse { deleted: doomed.len() as u64, prev_kvs })
    }

    /// Adds one event to the revision being written, which begins with its first; `replaced` is the pair before.
    fn record(&mut self, kind: EventKind, key: &[u8], replaced: Option<Value>, writing: &mut Writing<'_>) {
        let replaced = replaced.as_deref();
        if let Some(pair) = replaced {
            self.status.logical_bytes -= (key.len() + pair.len()) as u64;
        }
        let stored = StoredEvent::bytes_of(kind, key, replaced.unwrap_or_default());
        self.status.logical_bytes += (EVENT_KEY_BYTES + stored.len()) as u64;
        self.status.current_revision = writing.revision;
        self.events.insert(&event_key(writing.revision, writing.events), stored);
        let place = history_key::place(&history_key::prefix(key), writing.revision, writing.events);
        self.history.insert_shared(&place, Arc::clone(&self.nothing));
        writing.events += 1;
    }

    /// A transaction: compared and admitted as a whole, then executed on a snapshot's price, since any of its parts may
    /// still be refused and then none counts.
    fn txn(&mut self, txn: &TxnRequest, writing: &mut Writing<'_>) -> Result<TxnResponse, OperationError> {
        let succeeded = self.compares_hold(&txn.compare, self.status.current_revision, writing.budget)?;
        let list = if succeeded { &txn.success } else { &txn.failure };
        let put_bytes: Vec<u64> = list
            .iter()
            .filter_map(|operation| match operation {
                TxnOperation::Put(put) => Some(self.put_bytes(put)),
                TxnOperation::Range(_) | TxnOperation::Delete(_) => None,
            })
            .collect();
        if !put_bytes.is_empty() {
            self.admit(put_bytes.iter().sum())?;
        }
        let before = self.clone();
        match self.txn_list(list, writing) {
            Ok(responses) => Ok(TxnResponse { succeeded, responses }),
            Err(error) => {
                if !alive(Mutant::HalfTransactions) {
                    *self = before;
                }
                Err(error)
            }
        }
    }

    fn txn_list(
        &mut self,
        list: &[TxnOperation],
        writing: &mut Writing<'_>,
    ) -> Result<Vec<TxnOutcome>, OperationError> {
        let mut responses = Vec::with_capacity(list.len());
        for operation in list {
            responses.push(match operation {
                TxnOperation::Put(put) => TxnOutcome::Put(self.put(put, writing)?),
                TxnOperation::Range(request) => {
                    TxnOutcome::Range(self.range(request, self.status.current_revision, writing.budget)?)
                }
                TxnOperation::Delete(delete) => TxnOutcome::Delete(self.delete(delete, writing)?),
            });
        }
        Ok(responses)
    }
}

const REVISION_TOO_LARGE: OperationError = OperationError::RevisionTooLarge { limit: MAX_REVISION_BYTES as u64 };
