//! Evidence: it verifies offline, and it convicts only those who lie.

use std::collections::BTreeSet;

use quorate_crypto::{Committee, ReplicaId, Verifier};
use quorate_protocol::evidence::Evidence;

use crate::sim::report::Violation;

/// Checks evidence as an outsider would.
pub(in crate::sim) struct EvidenceCheck {
    committee: Committee,
    window: u64,
    verifier: Verifier,
    liars: Vec<ReplicaId>,
    /// Who was convicted so far.
    pub(super) convicted: BTreeSet<ReplicaId>,
}

impl EvidenceCheck {
    pub(super) const fn new(
        committee: Committee,
        window: u64,
        verifier: Verifier,
        liars: Vec<ReplicaId>,
    ) -> EvidenceCheck {
        EvidenceCheck { committee, window, verifier, liars, convicted: BTreeSet::new() }
    }

    /// A replica may be convicted from now on.
    pub(super) fn count_among_faulty(&mut self, replica: ReplicaId) {
        self.liars.push(replica);
    }

    pub(super) fn check(&mut self, replica: ReplicaId, evidence: &Evidence) -> Result<(), Violation> {
        let by = format!("published by replica {replica}");
        match evidence.verify(&self.committee, self.window, &self.verifier) {
            Ok(conviction) if self.liars.contains(&conviction.accused) => {
                self.convicted.insert(conviction.accused);
                Ok(())
            }
            Ok(conviction) => Err(Violation::new(
                "evidence",
                format!("{conviction:?} convicts an honest replica; {by}: {evidence:?}"),
            )),
            Err(error) => Err(Violation::new("evidence", format!("does not verify: {error}; {by}: {evidence:?}"))),
        }
    }
}
