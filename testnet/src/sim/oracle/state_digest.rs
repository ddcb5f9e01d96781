//! State digests: what a replica has at a number is what executing the one order gives, whether it executed, restored or
//! fetched it.

use std::collections::BTreeMap;

use quorate_crypto::{Digest, ReplicaId, Seq};
use quorate_node::key_value::KeyValue;
use quorate_protocol::engine::Decided;
use quorate_protocol::execution::{BatchOutcome, Execution};
use quorate_protocol::state::Snapshot;

use crate::sim::report::Violation;

/// A reference that executes the one order once, without crash, restart or transfer.
pub(in crate::sim) struct StateDigest {
    reference: Execution<KeyValue>,
    checkpoint_interval: u64,
    roots: BTreeMap<Seq, Digest>,
}

impl StateDigest {
    pub(super) fn new(genesis: Execution<KeyValue>, checkpoint_interval: u64) -> StateDigest {
        StateDigest { reference: genesis, checkpoint_interval, roots: BTreeMap::new() }
    }

    pub(super) const fn reference(&self) -> &Execution<KeyValue> {
        &self.reference
    }

    /// Executes the next batch of the one order.
    pub(super) fn execute(&mut self, decided: &Decided) -> BatchOutcome {
        let outcome = self.reference.apply(decided.seq, &decided.proposal, &decided.requests);
        if decided.seq.0.is_multiple_of(self.checkpoint_interval) {
            self.roots.insert(decided.seq, self.reference.header().digest());
        }
        outcome
    }

    pub(super) fn snapshot(&self, replica: ReplicaId, snapshot: &Snapshot) -> Result<(), Violation> {
        let root = snapshot.header().digest();
        match self.roots.get(&snapshot.seq) {
            Some(expected) if *expected == root => Ok(()),
            expected => Err(Violation::new(
                "state-digest",
                format!("replica {replica} has {root:?} at checkpoint {}, the order gives {expected:?}", snapshot.seq),
            )),
        }
    }

    /// At the end everybody stands where the reference does.
    pub(super) fn finished(&self, replica: ReplicaId, execution: &Execution<KeyValue>) -> Result<(), Violation> {
        let (seq, expected) = (execution.seq(), self.reference.seq());
        if seq != expected || execution.header() != self.reference.header() {
            let what = format!("replica {replica} ends at {seq} with another state than the order gives at {expected}");
            return Err(Violation::new("state-digest", what));
        }
        let integrity = execution.service().store().check_integrity();
        integrity.map_err(|error| Violation::new("state-digest", format!("replica {replica}: {error}")))
    }
}
