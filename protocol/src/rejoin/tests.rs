use quorate_crypto::{
    ClusterId, Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, ReplicaId, SecretKey, Seq, Signed,
    Signer as _, Statement, StatementBody, Verifier, View,
};
use std::sync::Arc;

use super::attempt::{Outlook, nonce, outlook};
use super::rules::{Entrance, VoteJudgement, entrance, fill_target, is_superseded, vote};
use super::*;
use crate::execution::ConfigurationOperation;
use crate::request::{Operation, Request, RequestContent, RequestError};

const WINDOW: u64 = 16;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn statement(id: u16, incarnation: u32, body: StatementBody) -> Statement {
    Statement { epoch: Epoch(0), signer: ReplicaId(id), incarnation: Incarnation(incarnation), body }
}

fn rejoin(id: u16, incarnation: u32, nonce: u8) -> Signed {
    statement(id, incarnation, StatementBody::Rejoin { nonce: [nonce; 16] }).sign(ClusterId(Digest([7; 32])), &key(id))
}

/// Replica 3 in incarnation 2 since number 100.
fn known() -> Rejoined {
    let mut table = MerkleMap::new();
    assert!(execute(&mut table, &rejoin(3, 1, 1), Seq(10)));
    assert!(execute(&mut table, &rejoin(3, 2, 5), Seq(100)));
    Rejoined::read(&table).expect("well formed")
}

#[test]
fn the_first_rejoin_of_the_next_incarnation_wins() {
    let mut table = MerkleMap::new();
    assert!(!execute(&mut table, &rejoin(3, 0, 1), Seq(5)), "nobody asks for incarnation 0");
    assert!(!execute(&mut table, &rejoin(3, 2, 1), Seq(5)), "none is left out");
    assert!(execute(&mut table, &rejoin(3, 1, 1), Seq(6)));
    assert!(!execute(&mut table, &rejoin(3, 1, 2), Seq(7)), "the first one won");
    assert!(!execute(&mut table, &rejoin(3, 1, 1), Seq(8)), "once");
    let other = statement(3, 2, StatementBody::Executed { seq: Seq(1), results: Digest::ZERO });
    assert!(!execute(&mut table, &other.sign(ClusterId(Digest([7; 32])), &key(3)), Seq(9)), "no Rejoin");
    let record = RejoinRecord { incarnation: Incarnation(1), nonce: [1; 16], seq: Seq(6) };
    assert_eq!(entry(&table, ReplicaId(3)), Some(record));
    assert!(execute(&mut table, &rejoin(2, 1, 4), Seq(10)), "each replica for itself");
    let read = Rejoined::read(&table).expect("well formed");
    assert_eq!(
        (read.len(), read.get(ReplicaId(3)), read.incarnation(ReplicaId(0))),
        (2, Some(&record), Incarnation(0))
    );
}

#[test]
fn a_malformed_entry_is_no_table() {
    for (key, value) in
        [(vec![REJOIN_TAG, 0], vec![]), (vec![REJOIN_TAG, 0, 1], vec![1]), (vec![REJOIN_TAG; 4], vec![])]
    {
        assert_eq!(Rejoined::read(&MerkleMap::from_entries([(key, value)])), None);
    }
    assert_eq!(Rejoined::read(&MerkleMap::from_entries([([1u8, 2], vec![])])), Some(Rejoined::default()), "not ours");
}

#[test]
fn each_life_speaks_about_its_own_numbers() {
    let known = known();
    let executed = |incarnation| statement(3, incarnation, StatementBody::Rejoin { nonce: [0; 16] });
    let judged = |incarnation, seq| vote(&known, &executed(incarnation), Seq(seq), WINDOW);
    assert_eq!(judged(1, 116), VoteJudgement::Counts);
    assert_eq!(judged(1, 117), VoteJudgement::Refused, "the older one above n_r + L");
    assert_eq!(judged(0, 117), VoteJudgement::Refused, "the one before that as well");
    assert_eq!(judged(2, 116), VoteJudgement::Refused, "the newer one at n_r + L");
    assert_eq!(judged(2, 117), VoteJudgement::Counts);
    assert_eq!(judged(3, 117), VoteJudgement::Unknown);
    let first = |incarnation| statement(1, incarnation, StatementBody::Rejoin { nonce: [0; 16] });
    assert_eq!(vote(&known, &first(0), Seq(1), WINDOW), VoteJudgement::Counts, "it never rejoined");
    assert_eq!(vote(&known, &first(1), Seq(1), WINDOW), VoteJudgement::Unknown);
}

#[test]
fn a_view_change_of_a_life_that_is_over_is_superseded() {
    let known = known();
    let of =
        |id, incarnation| statement(id, incarnation, StatementBody::ViewChange { view: View(6), body: Digest::ZERO });
    assert!(is_superseded(&known, &of(3, 0)) && is_superseded(&known, &of(3, 1)));
    assert!(!is_superseded(&known, &of(3, 2)), "the life that goes on");
    assert!(!is_superseded(&known, &of(3, 3)), "one a laggard does not know yet");
    assert!(!is_superseded(&known, &of(1, 0)), "another replica");
}

#[test]
fn a_view_that_rests_on_an_old_life_is_closed_to_whoever_committed_with_the_new_one() {
    let own = (ReplicaId(0), Incarnation(0));
    let enters = |commits: &[(u64, u64)], executed: u64, rested_on: &[(u16, u32)]| {
        let commits = commits.iter().map(|(view, seq)| (View(*view), Seq(*seq)));
        let rested_on: Vec<_> = rested_on.iter().map(|(id, life)| (ReplicaId(*id), Incarnation(*life))).collect();
        entrance(own, View(6), commits, Seq(executed), WINDOW, &rested_on, &known())
    };
    let old = [(1, 0), (2, 0), (3, 1)];
    assert_eq!(enters(&[(5, 117)], 110, &old), Entrance::Closed);
    assert_eq!(enters(&[(5, 116)], 110, &old), Entrance::Open, "at n_r + L the new life has not spoken");
    assert_eq!(enters(&[(6, 117)], 110, &old), Entrance::Open, "a COMMIT of the view itself");
    assert_eq!(enters(&[], 110, &old), Entrance::Open, "a laggard");
    assert_eq!(enters(&[(5, 117)], 110, &[(1, 0), (2, 0), (3, 2)]), Entrance::Open, "the life that goes on");
    assert_eq!(enters(&[(5, 105)], 100, &[(1, 0), (2, 0), (3, 0)]), Entrance::Closed, "two lives back: always");
    assert_eq!(enters(&[(5, 117)], 110, &[(0, 0), (2, 0), (3, 1)]), Entrance::Open, "its own proofs are in it");
    assert_eq!(enters(&[(5, 127)], 110, &[(1, 0), (2, 0)]), Entrance::NotYet, "a Rejoin at 111 would close it");
    assert_eq!(enters(&[(5, 126)], 110, &[(1, 0), (2, 0)]), Entrance::Open);
}

#[test]
fn an_idle_cluster_goes_on_to_the_first_checkpoint_at_or_above_the_line() {
    assert_eq!(fill_target(&Rejoined::default(), Seq(0), WINDOW, 4), None);
    for (interval, target) in [(4, 116), (8, 120), (100, 200)] {
        assert_eq!(fill_target(&known(), Seq(100), WINDOW, interval), Some(Seq(target)));
    }
    assert_eq!(fill_target(&known(), Seq(112), WINDOW, 4), Some(Seq(116)));
    assert_eq!(fill_target(&known(), Seq(116), WINDOW, 4), None, "it is there");
}

#[test]
fn an_attempt_is_judged_by_a_checkpoint_at_or_above_the_line() {
    let at = |attempt: &Signed, seq| outlook(attempt, &known(), Seq(seq), WINDOW);
    assert_eq!(at(&rejoin(3, 2, 5), 116), Outlook::Done);
    assert_eq!(at(&rejoin(3, 2, 5), 115), Outlook::Wait, "below n_r + L");
    assert_eq!(at(&rejoin(3, 2, 6), 116), Outlook::Again(Incarnation(3)), "another nonce");
    assert_eq!(at(&rejoin(3, 1, 1), 116), Outlook::Again(Incarnation(3)), "an incarnation that is over");
    assert_eq!(at(&rejoin(3, 3, 1), 999), Outlook::Wait, "not executed yet");
    assert_eq!(at(&rejoin(1, 1, 1), 999), Outlook::Wait);
}

#[test]
fn nonces_differ() {
    let of = |seed, id, incarnation| nonce(&[seed; 32], ReplicaId(id), Incarnation(incarnation));
    let first = of(1, 2, 3);
    assert_eq!(first, of(1, 2, 3));
    assert!(first != of(2, 2, 3) && first != of(1, 3, 3) && first != of(1, 2, 4));
}

fn committee() -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

#[test]
fn a_rejoin_has_one_form_and_only_its_replica_makes_it() {
    let verifier = Verifier::new(Arc::new(Ed25519));
    let good = rejoin_request(&rejoin(3, 1, 1), key(3).public_key());
    assert_eq!(rejoin_statement(&good), Some(rejoin(3, 1, 1)));
    assert!(verifier.verify(good.clone(), &committee(), &()).is_ok());

    let foreign = rejoin_request(&rejoin(3, 1, 1), key(2).public_key());
    assert_eq!(verifier.verify(foreign, &committee(), &()), Err(RequestError::ForeignRejoin), "another key's");
    let mut stranger = rejoin(3, 1, 1);
    stranger.statement.signer = ReplicaId(9);
    let stranger = rejoin_request(&stranger, key(3).public_key());
    assert_eq!(verifier.verify(stranger, &committee(), &()), Err(RequestError::ForeignRejoin), "no member");
    let mut forged = rejoin(3, 1, 1);
    forged.statement.incarnation = Incarnation(2);
    let forged = rejoin_request(&forged, key(3).public_key());
    assert!(matches!(verifier.verify(forged, &committee(), &()), Err(RequestError::BadSignature(_))));
    let zero = rejoin_request(&rejoin(3, 0, 1), key(3).public_key());
    assert_eq!(verifier.verify(zero, &committee(), &()), Err(RequestError::NumberZero));

    let changes: [fn(&mut RequestContent); 4] = [
        |content| content.number = 7,
        |content| content.valid_until = 5,
        |content| content.session.0[0] = 1,
        |content| content.operations.push(Operation { service: 1, bytes: vec![] }),
    ];
    for change in changes {
        let mut content = good.content().clone();
        change(&mut content);
        let other = Request::from_parts(content, *good.signature());
        assert_eq!(rejoin_statement(&other), None, "then it is a request like any other");
        assert!(verifier.verify(other, &committee(), &()).is_err(), "which its client never signed");
    }
    let wrong = statement(3, 1, StatementBody::Executed { seq: Seq(1), results: Digest::ZERO });
    let wrong = wrong.sign(committee().cluster(), &key(3));
    assert_eq!(ConfigurationOperation::from_bytes(&ConfigurationOperation::Rejoin(wrong).to_bytes()), None);
}
