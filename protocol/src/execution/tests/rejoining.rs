use quorate_crypto::{Incarnation, Signed, Statement, StatementBody};

use super::super::ConfigurationResult;
use super::*;
use crate::execution::Judgement;
use crate::rejoin::{RejoinRecord, Rejoined, rejoin_request};
use crate::reply::{Outcome, Refusal};

fn rejoin(replica: u16, incarnation: u32, nonce: u8) -> Request {
    let body = StatementBody::Rejoin { nonce: [nonce; 16] };
    let statement =
        Statement { epoch: Epoch(0), signer: ReplicaId(replica), incarnation: Incarnation(incarnation), body };
    rejoin_request(&Signed { statement, signature: Signature([nonce; 64]) }, client(replica as u8))
}

fn won(outcome: &BatchOutcome) -> bool {
    let expected = Outcome::Results(vec![quorate_crypto::encoding::encode(&ConfigurationResult::Rejoined)]);
    outcome.rejoined && outcome.replies[0].1.outcome == expected
}

#[test]
fn a_rejoin_is_in_the_state_root_and_in_snapshots() {
    let mut execution = genesis(PARAMETERS);
    let mut without = execution.clone();
    let asked = rejoin(2, 1, 7);
    assert_eq!(execution.judge(&asked, 0), Judgement::Fresh);
    assert!(won(&apply(&mut execution, 1000, std::slice::from_ref(&asked))));
    apply(&mut without, 1000, &[]);
    assert_ne!(execution.header().digest(), without.header().digest());

    let record = RejoinRecord { incarnation: Incarnation(1), nonce: [7; 16], seq: Seq(1) };
    let snapshot = execution.snapshot();
    assert_eq!(Rejoined::of_snapshot(&snapshot).get(ReplicaId(2)), Some(&record));
    let restored = Execution::<Register>::from_snapshot(&snapshot).expect("restores");
    assert_eq!(restored.rejoined().get(ReplicaId(2)), Some(&record));
    assert_eq!(restored.clients().count(), execution.clients().count());
    assert_eq!(restored.judge(&asked, 0), Judgement::Refused(Refusal::StaleNumber));
}

#[test]
fn the_first_rejoin_of_an_incarnation_executes_and_no_other() {
    let mut execution = genesis(PARAMETERS);
    let both = apply(&mut execution, 1000, &[rejoin(2, 1, 7), rejoin(2, 1, 8)]);
    assert!(won(&both));
    assert_eq!(both.replies[1].1.outcome, Outcome::Refused(Refusal::StaleNumber));
    assert_eq!(both.executed, 1);
    for (request, refusal) in [(rejoin(2, 1, 7), Refusal::StaleNumber), (rejoin(2, 3, 7), Refusal::NumberTooFar)] {
        assert_eq!(execution.judge(&request, 0), Judgement::Refused(refusal));
        let outcome = apply(&mut execution, 1000, &[request]);
        assert_eq!((outcome.rejoined, &outcome.replies[0].1.outcome), (false, &Outcome::Refused(refusal)));
    }
    assert!(won(&apply(&mut execution, 1000, &[rejoin(2, 2, 7)])));
    assert!(won(&apply(&mut execution, 1000, &[rejoin(3, 1, 7)])), "each replica for itself");
    assert_eq!(execution.rejoined().len(), 2);
}

/// A state whose entry of a replica does not decode is no state.
#[test]
fn a_malformed_entry_is_refused() {
    let mut execution = genesis(PARAMETERS);
    apply(&mut execution, 1000, &[rejoin(2, 1, 7)]);
    let mut snapshot = execution.snapshot();
    let table = snapshot.tables.get_mut(&crate::execution::CONFIGURATION_TABLE).expect("there");
    table.insert(&[crate::rejoin::REJOIN_TAG, 0, 2], vec![1]);
    assert!(Execution::<Register>::from_snapshot(&snapshot).is_err());
}
