use super::*;
use crate::committee::{FaultModel, Member};
use crate::digest::Digest;
use crate::identity::{ClusterId, Seq, View};
use crate::keys::{SecretKey, Signer};
use crate::signature_scheme::Ed25519;
use crate::statement::Ballot;
use crate::verified::Verifier;
use std::sync::Arc;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee(n: u16) -> Committee {
    let members = (0..n).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([9; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn commit(id: u16, fill: u8) -> Signed {
    let body = StatementBody::Commit(Ballot { view: View(1), seq: Seq(2), digest: Digest([fill; 32]) });
    Statement { epoch: Epoch(0), signer: ReplicaId(id), incarnation: Incarnation(0), body }
        .sign(ClusterId(Digest([9; 32])), &key(id))
}

fn verify(certificate: Certificate, n: u16) -> Result<(), CertificateError> {
    let committee = committee(n);
    let needed = committee.quorum();
    Verifier::new(Arc::new(Ed25519)).verify(certificate, &committee, &needed).map(|_| ())
}

#[test]
fn a_quorum_of_distinct_authors_is_accepted() {
    for n in 4..=7 {
        let quorum = committee(n).quorum() as u16;
        let votes: Vec<Signed> = (0..quorum).map(|id| commit(id, 1)).collect();
        assert_eq!(verify(Certificate::collect(&votes).expect("one body"), n), Ok(()));
        let short = Certificate::collect(&votes[1..]).expect("one body");
        assert!(matches!(verify(short, n), Err(CertificateError::TooFew { .. })));
    }
}

#[test]
fn rule_p1_certificates_count_distinct_authors() {
    let mut certificate = Certificate::collect(&[commit(0, 1), commit(1, 1)]).expect("one body");
    certificate.endorsements.push(certificate.endorsements[1]);
    assert_eq!(verify(certificate, 4), Err(CertificateError::NotDistinct(ReplicaId(1))));
    // Collecting the same author's statement again does not enlarge a certificate either.
    let repeated = Certificate::collect(&[commit(0, 1), commit(1, 1), commit(1, 1)]).expect("one body");
    assert!(matches!(verify(repeated, 4), Err(CertificateError::TooFew { found: 2, needed: 3 })));
}

#[test]
fn authors_out_of_order_are_refused() {
    let mut certificate = Certificate::collect(&[commit(0, 1), commit(1, 1), commit(2, 1)]).expect("one body");
    certificate.endorsements.swap(0, 2);
    assert!(matches!(verify(certificate, 4), Err(CertificateError::NotDistinct(_))));
}

#[test]
fn a_stranger_or_a_bad_signature_spoils_it() {
    let mut stranger = Certificate::collect(&[commit(0, 1), commit(1, 1), commit(2, 1)]).expect("one body");
    stranger.endorsements[2].signer = ReplicaId(9);
    assert_eq!(verify(stranger, 4), Err(CertificateError::NotAMember(ReplicaId(9))));
    let mut bad = Certificate::collect(&[commit(0, 1), commit(1, 1), commit(2, 1)]).expect("one body");
    bad.endorsements[2].signature.0[5] ^= 1;
    assert!(matches!(verify(bad, 4), Err(CertificateError::BadSignature(_))));
}

#[test]
fn another_epoch_spoils_it() {
    let mut later = Certificate::collect(&[commit(0, 1), commit(1, 1), commit(2, 1)]).expect("one body");
    later.epoch = Epoch(1);
    // The rule itself, and then the whole check, where each statement is looked at as well.
    assert_eq!(distinct_members(&later, &committee(4)), Err(CertificateError::WrongEpoch(Epoch(1))));
    assert_eq!(verify(later, 4), Err(CertificateError::WrongEpoch(Epoch(1))));
}

#[test]
fn statements_that_differ_make_no_certificate() {
    assert_eq!(Certificate::collect(&[commit(0, 1), commit(1, 2)]), None);
}
