use super::*;
use crate::committee::{FaultModel, Member};
use crate::keys::SecretKey;
use crate::signature_scheme::Ed25519;
use crate::verified::Verifier;
use std::sync::Arc;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee(cluster: u8) -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([cluster; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn every_body() -> Vec<StatementBody> {
    let ballot = Ballot { view: View(1), seq: Seq(2), digest: Digest([3; 32]) };
    vec![
        StatementBody::PrePrepare(ballot),
        StatementBody::Prepare(ballot),
        StatementBody::Commit(ballot),
        StatementBody::ViewChange { view: View(1), body: Digest([3; 32]) },
        StatementBody::NewView { view: View(1), body: Digest([3; 32]) },
        StatementBody::Checkpoint { seq: Seq(1), digest: Digest([3; 32]) },
        StatementBody::Executed { seq: Seq(1), results: Digest([3; 32]) },
        StatementBody::Rejoin { nonce: [4; 16] },
        StatementBody::Proposal { view: View(1), block: Digest([3; 32]) },
        StatementBody::BlockVote { view: View(1), block: Digest([3; 32]), parent_view: View(0) },
        StatementBody::Timeout { view: View(1), high_view: View(0) },
    ]
}

fn statement(body: StatementBody) -> Statement {
    Statement { epoch: Epoch(0), signer: ReplicaId(2), incarnation: Incarnation(0), body }
}

#[test]
fn golden_bytes_of_a_prepare() {
    let body = StatementBody::Prepare(Ballot { view: View(1), seq: Seq(2), digest: Digest([3; 32]) });
    let statement = Statement { epoch: Epoch(5), signer: ReplicaId(6), incarnation: Incarnation(7), body };
    let expected = concat!(
        "02",
        "01",
        "0909090909090909090909090909090909090909090909090909090909090909",
        "0000000000000005",
        "0006",
        "00000007",
        "0000000000000001",
        "0000000000000002",
        "0303030303030303030303030303030303030303030303030303030303030303",
    );
    assert_eq!(hex::encode(statement.bytes(ClusterId(Digest([9; 32])))), expected);
}

#[test]
fn golden_bytes_of_hotstuff_statements() {
    let header = |kind: &str| [kind, "01", &"09".repeat(32), "0000000000000005", "0006", "00000007"].concat();
    let block = Digest([3; 32]);
    let three = "03".repeat(32);
    let (view_4, view_2) = ("0000000000000004", "0000000000000002");
    let golden = [
        (StatementBody::Proposal { view: View(4), block }, [&header("09"), view_4, &three].concat()),
        // The parent's view stands before the block.
        (
            StatementBody::BlockVote { view: View(4), block, parent_view: View(2) },
            [&header("0a"), view_4, view_2, &three].concat(),
        ),
        (StatementBody::Timeout { view: View(4), high_view: View(2) }, [&header("0b"), view_4, view_2].concat()),
    ];
    for (body, expected) in golden {
        let statement = Statement { epoch: Epoch(5), signer: ReplicaId(6), incarnation: Incarnation(7), body };
        assert_eq!(hex::encode(statement.bytes(ClusterId(Digest([9; 32])))), expected);
    }
}

#[test]
fn no_two_kinds_share_bytes() {
    let cluster = ClusterId(Digest([9; 32]));
    let all: Vec<Vec<u8>> = every_body().into_iter().map(|body| statement(body).bytes(cluster)).collect();
    for (index, bytes) in all.iter().enumerate() {
        assert_ne!(bytes[0], 0x20, "a statement must not look like a TLS transcript");
        assert_ne!(bytes[0], REQUEST_KIND);
        for other in &all[index + 1..] {
            assert_ne!(bytes, other);
        }
    }
}

#[test]
fn rule_p12_the_author_is_the_verified_signer() {
    let committee = committee(9);
    let verifier = Verifier::new(Arc::new(Ed25519));
    for body in every_body() {
        let honest = statement(body).sign(committee.cluster(), &key(2));
        assert!(verifier.verify(honest, &committee, &()).is_ok());
        // Replica 1 signs a statement that names replica 2 as its author.
        let forged = statement(body).sign(committee.cluster(), &key(1));
        assert!(verifier.verify(forged, &committee, &()).is_err());
    }
}

#[test]
fn every_header_field_is_signed() {
    let committee = committee(9);
    let verifier = Verifier::new(Arc::new(Ed25519));
    for body in every_body() {
        let signed = statement(body).sign(committee.cluster(), &key(2));
        let mut incarnation = signed;
        incarnation.statement.incarnation = Incarnation(1);
        assert!(verifier.verify(incarnation, &committee, &()).is_err());
        let mut epoch = signed;
        epoch.statement.epoch = Epoch(1);
        assert!(verifier.verify(epoch, &committee, &()).is_err());
        let elsewhere = self::committee(8);
        assert!(verifier.verify(signed, &elsewhere, &()).is_err(), "a statement of another cluster");
        for other in every_body() {
            if other != body {
                let mut exchanged = signed;
                exchanged.statement.body = other;
                assert!(verifier.verify(exchanged, &committee, &()).is_err());
            }
        }
    }
}

#[test]
fn strangers_are_not_members() {
    let committee = committee(9);
    let mut stranger = statement(every_body()[0]);
    stranger.signer = ReplicaId(9);
    let signed = stranger.sign(committee.cluster(), &key(9));
    let verifier = Verifier::new(Arc::new(Ed25519));
    assert_eq!(verifier.verify(signed, &committee, &()), Err(StatementError::NotAMember(ReplicaId(9))));
}
