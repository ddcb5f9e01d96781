use super::*;
use crate::pbft::view_change_message::{SlotProof, ViewChangeBody};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    ClusterId, Ed25519, Endorsement, Epoch, FaultModel, Incarnation, Member, SecretKey, Signer, Statement,
};
use std::sync::Arc;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee() -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn header(id: u16, incarnation: u32) -> Statement {
    Statement {
        epoch: Epoch(0),
        signer: ReplicaId(id),
        incarnation: Incarnation(incarnation),
        body: StatementBody::Rejoin { nonce: [0; 16] },
    }
}

fn sign(id: u16, incarnation: u32, body: StatementBody) -> Signed {
    Statement { body, ..header(id, incarnation) }.sign(ClusterId(Digest([7; 32])), &key(id))
}

fn ballot(view: u64, seq: u64, fill: u8) -> Ballot {
    Ballot { view: View(view), seq: Seq(seq), digest: Digest([fill; 32]) }
}

fn convicts(evidence: &Evidence) -> Result<Conviction, EvidenceError> {
    evidence.verify(&committee(), 16, &Verifier::new(Arc::new(Ed25519)))
}

#[test]
fn one_place_two_contents_in_any_incarnations() {
    let pairs: Vec<(StatementBody, StatementBody, &str)> = vec![
        (StatementBody::PrePrepare(ballot(0, 1, 1)), StatementBody::PrePrepare(ballot(0, 1, 2)), "two-pre-prepares"),
        (StatementBody::Prepare(ballot(0, 1, 1)), StatementBody::Prepare(ballot(0, 1, 2)), "two-prepares"),
        (StatementBody::Commit(ballot(0, 1, 1)), StatementBody::Commit(ballot(0, 1, 2)), "two-commits"),
        (
            StatementBody::Checkpoint { seq: Seq(4), digest: Digest([1; 32]) },
            StatementBody::Checkpoint { seq: Seq(4), digest: Digest([2; 32]) },
            "two-checkpoints",
        ),
        (
            StatementBody::Executed { seq: Seq(4), results: Digest([1; 32]) },
            StatementBody::Executed { seq: Seq(4), results: Digest([2; 32]) },
            "two-results",
        ),
        (
            StatementBody::Proposal { view: View(4), block: Digest([1; 32]) },
            StatementBody::Proposal { view: View(4), block: Digest([2; 32]) },
            "two-proposals",
        ),
        (
            StatementBody::BlockVote { view: View(4), block: Digest([1; 32]), parent_view: View(3) },
            StatementBody::BlockVote { view: View(4), block: Digest([2; 32]), parent_view: View(3) },
            "two-block-votes",
        ),
        (
            StatementBody::BlockVote { view: View(4), block: Digest([1; 32]), parent_view: View(3) },
            StatementBody::BlockVote { view: View(4), block: Digest([1; 32]), parent_view: View(2) },
            "two-block-votes",
        ),
        (
            StatementBody::Timeout { view: View(4), high_view: View(3) },
            StatementBody::Timeout { view: View(4), high_view: View(2) },
            "two-timeouts",
        ),
    ];
    for (first, second, kind) in pairs {
        for incarnation in [0, 1] {
            let evidence = Evidence::Contradiction(sign(2, 0, first), sign(2, incarnation, second));
            let conviction = convicts(&evidence).expect("convicts");
            assert_eq!((conviction.accused, conviction.kind), (ReplicaId(2), kind));
        }
        let repeated = Evidence::Contradiction(sign(2, 0, first), sign(2, 0, first));
        assert_eq!(convicts(&repeated), Err(EvidenceError::NoContradiction));
        let two_authors = Evidence::Contradiction(sign(2, 0, first), sign(1, 0, second));
        assert_eq!(convicts(&two_authors), Err(EvidenceError::DifferentAuthors));
        // Nobody can be framed: the second half is signed by another key.
        let mut framed = sign(1, 0, second);
        framed.statement.signer = ReplicaId(2);
        assert!(convicts(&Evidence::Contradiction(sign(2, 0, first), framed)).is_err());
    }
}

/// The vote came first, since nobody votes in a view that it gave up.
#[test]
fn a_timeout_that_hides_what_a_vote_rested_on_convicts() {
    // View of the vote and of the certificate it rests on, its life; the same of the TIMEOUT.
    for (vote, timeout, guilty) in [
        ((6, 5, 0), (6, 4, 0), true),
        ((6, 5, 0), (9, 4, 0), true),
        ((6, 5, 0), (9, 5, 0), false),
        ((6, 5, 0), (9, 7, 0), false),
        ((6, 5, 0), (5, 4, 0), false),
        ((6, 5, 0), (9, 4, 1), true),
        ((6, 5, 1), (9, 4, 0), false),
    ] {
        let (voted, rests_on, life) = vote;
        let body = StatementBody::BlockVote { view: View(voted), block: Digest([1; 32]), parent_view: View(rests_on) };
        let voted = sign(2, life, body);
        let (gave_up, names, life) = timeout;
        let timed_out = sign(2, life, StatementBody::Timeout { view: View(gave_up), high_view: View(names) });
        for evidence in [Evidence::Contradiction(voted, timed_out), Evidence::Contradiction(timed_out, voted)] {
            let conviction = convicts(&evidence);
            assert_eq!(conviction.is_ok(), guilty, "{vote:?} {timeout:?}");
            if let Ok(conviction) = conviction {
                assert_eq!((conviction.accused, conviction.kind), (ReplicaId(2), "hidden-certificate"));
            }
        }
        let mut framed = sign(1, 0, *timed_out.body());
        framed.statement.signer = ReplicaId(2);
        assert!(convicts(&Evidence::Contradiction(voted, framed)).is_err());
    }
}

#[test]
fn different_places_are_no_contradiction() {
    let one = StatementBody::Commit(ballot(0, 1, 1));
    for other in [
        StatementBody::Commit(ballot(1, 1, 2)),
        StatementBody::Commit(ballot(0, 2, 2)),
        StatementBody::Prepare(ballot(0, 1, 2)),
    ] {
        assert_eq!(
            convicts(&Evidence::Contradiction(sign(2, 0, one), sign(2, 0, other))),
            Err(EvidenceError::NoContradiction)
        );
    }
}

#[test]
fn two_view_changes_convict_in_one_incarnation_only() {
    let body = |fill| StatementBody::ViewChange { view: View(3), body: Digest([fill; 32]) };
    assert!(convicts(&Evidence::Contradiction(sign(2, 0, body(1)), sign(2, 0, body(2)))).is_ok());
    assert!(convicts(&Evidence::Contradiction(sign(2, 0, body(1)), sign(2, 1, body(2)))).is_err());
}

fn view_change(id: u16, incarnation: u32, view: u64, slots: Vec<SlotProof>) -> ViewChange {
    let body = ViewChangeBody { view: View(view), stable: None, slots };
    ViewChange::sign(body, header(id, incarnation), ClusterId(Digest([7; 32])), &key(id))
}

#[test]
fn a_view_change_that_hides_a_commit_convicts_its_author() {
    let commit = sign(2, 0, StatementBody::Commit(ballot(0, 1, 1)));
    let hiding = view_change(2, 0, 1, vec![]);
    let conviction = convicts(&Evidence::HiddenCommit(commit, hiding.clone())).expect("convicts");
    assert_eq!((conviction.accused, conviction.kind), (ReplicaId(2), "hidden-commit"));
    let endorsement = |id: u16, body| Endorsement {
        signer: ReplicaId(id),
        incarnation: Incarnation(0),
        signature: sign(id, 0, body).signature,
    };
    let proof = |view: u64| SlotProof::Committed {
        ballot: ballot(view, 1, 1),
        commits: (0..3).map(|id| endorsement(id, StatementBody::Commit(ballot(view, 1, 1)))).collect(),
    };
    assert!(convicts(&Evidence::HiddenCommit(commit, view_change(2, 0, 1, vec![proof(0)]))).is_err(), "it shows it");
    assert!(convicts(&Evidence::HiddenCommit(commit, view_change(1, 0, 1, vec![]))).is_err(), "another author");
    // A later incarnation has a low watermark above whatever an earlier one committed to; an earlier one knew nothing of it.
    assert!(convicts(&Evidence::HiddenCommit(commit, view_change(2, 1, 1, vec![]))).is_ok(), "a later incarnation");
    let second_life = sign(2, 1, StatementBody::Commit(ballot(0, 1, 1)));
    assert!(convicts(&Evidence::HiddenCommit(second_life, hiding.clone())).is_err(), "an earlier incarnation");
    let later = sign(2, 0, StatementBody::Commit(ballot(1, 1, 1)));
    assert!(convicts(&Evidence::HiddenCommit(later, hiding)).is_err(), "not a later view");
}

#[test]
fn a_stranger_cannot_doctor_a_view_change() {
    let commit = sign(2, 0, StatementBody::Commit(ballot(0, 1, 1)));
    let honest = view_change(2, 0, 1, vec![]);
    let mut doctored = view_change(1, 0, 1, vec![]);
    doctored.signed = honest.signed;
    doctored.signed.statement.body = StatementBody::ViewChange { view: View(1), body: doctored.digest() };
    doctored.signed.signature.0[1] ^= 1;
    assert!(convicts(&Evidence::HiddenCommit(commit, doctored)).is_err());
}

#[test]
fn evidence_survives_its_encoding_and_no_flipped_byte_does() {
    let evidence = Evidence::Contradiction(
        sign(2, 0, StatementBody::Commit(ballot(0, 1, 1))),
        sign(2, 0, StatementBody::Commit(ballot(0, 1, 2))),
    );
    let bytes = quorate_crypto::encoding::encode(&evidence);
    let back: Evidence = quorate_crypto::encoding::decode(&bytes, EVIDENCE_BYTES_MAX).expect("decodes");
    assert_eq!(back, evidence);
    for index in 0..bytes.len() {
        let mut doctored = bytes.clone();
        doctored[index] ^= 1;
        if let Ok(doctored) = quorate_crypto::encoding::decode::<Evidence>(&doctored, EVIDENCE_BYTES_MAX) {
            assert!(convicts(&doctored).is_err(), "byte {index}");
        }
    }
}

/// A block convicts its author alone if it names a request that no client signed; whoever hands the request on is not meant.
#[test]
fn a_block_with_an_invalid_request_convicts_its_author() {
    use crate::hotstuff::testing::{chain, proposal_of};
    use crate::proposal::{Payload, Proposal};
    use crate::request::{Operation, RequestContent, SessionId};
    let client = SecretKey::from_seed(&[99; 32]);
    let valid = RequestContent {
        client: client.public_key(),
        session: SessionId([1; 16]),
        number: 1,
        acknowledged_below: 1,
        valid_until: 9,
        operations: vec![Operation { service: 1, bytes: vec![1] }],
    }
    .sign(ClusterId(Digest([7; 32])), &client);
    let mut signature = *valid.signature();
    signature.0[3] ^= 1;
    let forged = Request::from_parts(valid.content().clone(), signature);
    let proposing = |request: &Request| {
        let mut content = chain(1)[1].content().clone();
        content.proposal = Proposal { time: 1, payload: Payload::Batch(vec![request.digest()]) };
        Box::new(proposal_of(crate::hotstuff::block::Block::new(content)))
    };
    let conviction = convicts(&Evidence::InvalidBlockRequest(proposing(&forged), Box::new(forged.clone())));
    assert_eq!(
        conviction.map(|conviction| (conviction.accused, conviction.kind)),
        Ok((ReplicaId(1), "invalid-request"))
    );
    assert!(convicts(&Evidence::InvalidBlockRequest(proposing(&valid), Box::new(valid.clone()))).is_err());
    assert!(
        convicts(&Evidence::InvalidBlockRequest(proposing(&valid), Box::new(forged.clone()))).is_err(),
        "not named"
    );
    let mut framed = proposing(&forged);
    framed.signed.signature.0[1] ^= 1;
    assert!(convicts(&Evidence::InvalidBlockRequest(framed, Box::new(forged.clone()))).is_err());
    let mut exchanged = proposing(&valid);
    exchanged.block = proposing(&forged).block;
    assert!(
        convicts(&Evidence::InvalidBlockRequest(exchanged, Box::new(forged))).is_err(),
        "another block than was signed"
    );
}
