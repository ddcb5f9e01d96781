//! Agreement: one proposal per number.

use std::collections::BTreeMap;

use quorate_crypto::{Digest, ReplicaId, Seq};
use quorate_protocol::engine::Decided;

use crate::sim::report::Violation;

/// The order everybody must agree on: the first decision of each number, and who made it.
#[derive(Default)]
pub(in crate::sim) struct Agreement {
    order: BTreeMap<Seq, (Digest, ReplicaId)>,
}

impl Agreement {
    /// Checks a decision, made anew after a restart or not. True if it is the first of its number.
    pub(super) fn decided(&mut self, replica: ReplicaId, decided: &Decided) -> Result<bool, Violation> {
        let digest = decided.proposal.digest();
        if let Some((first, by)) = self.order.get(&decided.seq) {
            if *first == digest {
                return Ok(false);
            }
            return Err(Violation::new(
                "agreement",
                format!("{}: replica {by} decided {first:?}, replica {replica} decided {digest:?}", decided.seq),
            ));
        }
        let next = self.order.last_key_value().map_or(Seq(1), |(seq, _)| seq.next());
        if decided.seq != next {
            let what = format!("replica {replica} decided {} although nobody decided {next}", decided.seq);
            return Err(Violation::new("agreement", what));
        }
        self.order.insert(decided.seq, (digest, replica));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::proposal::{Payload, Proposal};

    use super::*;

    fn decided(seq: u64, time: u64) -> Decided {
        let proposal = Proposal { time, payload: Payload::Batch(Vec::new()) };
        Decided { seq: Seq(seq), proposal, requests: Vec::new(), after: None }
    }

    #[test]
    fn two_decisions_of_one_number_are_seen() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.decided(ReplicaId(0), &decided(1, 7)), Ok(true));
        assert_eq!(agreement.decided(ReplicaId(1), &decided(1, 7)), Ok(false));
        assert!(agreement.decided(ReplicaId(2), &decided(1, 8)).is_err());
        assert!(agreement.decided(ReplicaId(2), &decided(3, 8)).is_err());
    }
}
