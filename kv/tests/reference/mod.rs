//! The reference model: for every key all versions it ever had. Written for plainness; it knows no caps, as the random
//! operations stay far below them.

use std::collections::BTreeMap;

use quorate_kv::{
    CompactionResponse, Compare, CompareTarget, DeleteRequest, DeleteResponse, Event, EventKind, EventList, EventPage,
    KeyRange, KeyValue, Operation, OperationError, OperationResult, Outcome, PreviousValues, PutRequest, PutResponse,
    RangeRequest, RangeResponse, SortOrder, SortTarget, TxnOperation, TxnOutcome, TxnRequest, TxnResponse, check,
    is_read_only,
};

/// A version of a key: the pair, or None for its deletion.
type Version = (u64, Option<KeyValue>);

#[derive(Clone)]
pub struct Reference {
    versions: BTreeMap<Vec<u8>, Vec<Version>>,
    /// The keys that each revision touched, in order.
    touched: BTreeMap<u64, Vec<Vec<u8>>>,
    current: u64,
    compacted: u64,
    retention: u64,
}

impl Reference {
    pub fn new(retention: u64) -> Reference {
        Reference { versions: BTreeMap::new(), touched: BTreeMap::new(), current: 1, compacted: 0, retention }
    }

    pub fn current_revision(&self) -> u64 {
        self.current
    }

    pub fn compact_revision(&self) -> u64 {
        self.compacted
    }

    fn at(&self, key: &[u8], revision: u64) -> Option<&KeyValue> {
        self.versions.get(key)?.iter().rev().find(|(changed, _)| *changed <= revision)?.1.as_ref()
    }

    fn matching(&self, range: &KeyRange, revision: u64) -> Vec<KeyValue> {
        self.versions
            .keys()
            .filter(|key| range.contains(key))
            .filter_map(|key| self.at(key, revision))
            .cloned()
            .collect()
    }

    pub fn apply(&mut self, operation: &Operation) -> OperationResult {
        let mut next = self.clone();
        let outcome = match check(operation) {
            Err(limit) => Err(OperationError::Limit(limit)),
            Ok(()) => next.execute(operation),
        };
        if outcome.is_ok() && !is_read_only(operation) {
            if next.touched.contains_key(&(self.current + 1)) {
                next.current = self.current + 1;
                if next.retention > 0 {
                    next.compacted = next.compacted.max(next.current.saturating_sub(next.retention));
                }
            }
            *self = next;
        }
        OperationResult { revision: self.current, outcome: outcome.unwrap_or_else(Outcome::Refused) }
    }

    pub fn read(&self, operation: &Operation) -> Outcome {
        self.clone().execute(operation).unwrap_or_else(Outcome::Refused)
    }

    fn execute(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let revision = self.current + 1;
        Ok(match operation {
            Operation::Put(put) => Outcome::Put(self.put(put, revision)?),
            Operation::Range(request) => Outcome::Range(self.range(request, self.current)?),
            Operation::Delete(delete) => Outcome::Delete(self.delete(delete, revision)),
            Operation::Txn(txn) => Outcome::Txn(self.txn(txn, revision)?),
            Operation::Compact(request) => {
                if request.revision <= self.compacted {
                    return Err(OperationError::Compacted { compact_revision: self.compacted });
                }
                if request.revision > self.current {
                    return Err(OperationError::FutureRevision { current_revision: self.current });
                }
                self.compacted = request.revision;
                Outcome::Compact(CompactionResponse { compact_revision: request.revision })
            }
        })
    }

    fn write(&mut self, key: &[u8], revision: u64, pair: Option<KeyValue>) {
        self.versions.entry(key.to_vec()).or_default().push((revision, pair));
        self.touched.entry(revision).or_default().push(key.to_vec());
    }

    fn put(&mut self, put: &PutRequest, revision: u64) -> Result<PutResponse, OperationError> {
        let before = self.at(&put.key, revision).cloned();
        if before.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(OperationError::KeyNotFound);
        }
        let base = before.clone().unwrap_or(KeyValue { create_revision: revision, ..KeyValue::default() });
        let pair = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value { base.value } else { put.value.clone() },
            create_revision: base.create_revision,
            mod_revision: revision,
            version: base.version + 1,
            lease: 0,
        };
        self.write(&put.key, revision, Some(pair));
        Ok(PutResponse { prev_kv: before.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRequest, revision: u64) -> DeleteResponse {
        let doomed = self.matching(&delete.range, revision);
        for pair in &doomed {
            self.write(&pair.key, revision, None);
        }
        DeleteResponse { deleted: doomed.len() as u64, prev_kvs: if delete.prev_kv { doomed } else { Vec::new() } }
    }

    fn range(&self, request: &RangeRequest, present: u64) -> Result<RangeResponse, OperationError> {
        let revision = if request.revision == 0 { present } else { request.revision };
        if revision > present {
            return Err(OperationError::FutureRevision { current_revision: present });
        }
        if revision < self.compacted {
            return Err(OperationError::Compacted { compact_revision: self.compacted });
        }
        let mut kvs = self.matching(&request.range, revision);
        let count = kvs.len() as u64;
        let answer = RangeResponse { count, counted_to_end: true, ..RangeResponse::default() };
        if request.count_only {
            return Ok(answer);
        }
        kvs.retain(|pair| pair.mod_revision >= request.min_mod_revision);
        kvs.retain(|pair| request.max_mod_revision == 0 || pair.mod_revision <= request.max_mod_revision);
        kvs.retain(|pair| pair.create_revision >= request.min_create_revision);
        kvs.retain(|pair| request.max_create_revision == 0 || pair.create_revision <= request.max_create_revision);
        // Equal pairs stay in ascending key order, in which they come.
        let descending = request.sort_order == SortOrder::Descending;
        let sort_key = |pair: &KeyValue| match request.sort_target {
            SortTarget::Key => (0, pair.key.clone()),
            SortTarget::Version => (pair.version, Vec::new()),
            SortTarget::CreateRevision => (pair.create_revision, Vec::new()),
            SortTarget::ModRevision => (pair.mod_revision, Vec::new()),
            SortTarget::Value => (0, pair.value.clone()),
        };
        kvs.sort_by(|left, right| {
            let (left, right) = if descending { (right, left) } else { (left, right) };
            sort_key(left).cmp(&sort_key(right))
        });
        let limit = if request.limit == 0 { kvs.len() } else { request.limit as usize };
        let more = kvs.len() > limit;
        let by_key = request.sort_target == SortTarget::Key;
        let resume_key = if more && by_key { kvs[limit].key.clone() } else { Vec::new() };
        kvs.truncate(limit);
        if request.keys_only {
            for pair in &mut kvs {
                pair.value.clear();
            }
        }
        Ok(RangeResponse { kvs, more, resume_key, ..answer })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let pairs = self.matching(&compare.range, self.current);
        let one = |pair: &KeyValue| match &compare.target {
            CompareTarget::Version(number) => compare.relation.holds(&pair.version, number),
            CompareTarget::CreateRevision(number) => compare.relation.holds(&pair.create_revision, number),
            CompareTarget::ModRevision(number) => compare.relation.holds(&pair.mod_revision, number),
            CompareTarget::Value(value) => compare.relation.holds(&pair.value, value),
            CompareTarget::Lease(number) => compare.relation.holds(&pair.lease, number),
        };
        if pairs.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_)) && one(&KeyValue::default());
        }
        pairs.iter().all(one)
    }

    fn txn(&mut self, txn: &TxnRequest, revision: u64) -> Result<TxnResponse, OperationError> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let mut responses = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match operation {
                TxnOperation::Put(put) => TxnOutcome::Put(self.put(put, revision)?),
                TxnOperation::Delete(delete) => TxnOutcome::Delete(self.delete(delete, revision)),
                TxnOperation::Range(request) => {
                    let present = if self.touched.contains_key(&revision) { revision } else { self.current };
                    TxnOutcome::Range(self.range(request, present)?)
                }
            });
        }
        Ok(TxnResponse { succeeded, responses })
    }

    /// One page of everything since `revision`: the random histories are shorter than a page.
    pub fn events_since(
        &self,
        revision: u64,
        range: &KeyRange,
        with_previous: bool,
    ) -> Result<EventPage, OperationError> {
        if revision < self.compacted {
            return Err(OperationError::Compacted { compact_revision: self.compacted });
        }
        let mut lists = Vec::new();
        for (&changed, keys) in self.touched.range(revision..) {
            let previous_values = match (with_previous, changed > self.compacted) {
                (false, _) => PreviousValues::NotRequested,
                (true, false) => PreviousValues::Compacted,
                (true, true) => PreviousValues::Included,
            };
            let event = |key: &Vec<u8>| {
                let pair = self.at(key, changed).cloned();
                let kind = if pair.is_some() { EventKind::Put } else { EventKind::Delete };
                let deleted = KeyValue { key: key.clone(), mod_revision: changed, ..KeyValue::default() };
                let previous = self.at(key, changed - 1).cloned();
                let prev_kv = previous.filter(|_| previous_values == PreviousValues::Included);
                Event { kind, kv: pair.unwrap_or(deleted), prev_kv }
            };
            let events: Vec<Event> = keys.iter().filter(|key| range.contains(key)).map(event).collect();
            if !events.is_empty() {
                lists.push(EventList { revision: changed, previous_values, events });
            }
        }
        let next_revision = revision.max(self.current + 1);
        Ok(EventPage { lists, next_revision, current_revision: self.current })
    }
}
