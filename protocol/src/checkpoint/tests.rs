use quorate_crypto::{
    ClusterId, Epoch, FaultModel, Incarnation, Member, SecretKey, Signer as _, Statement, StatementBody,
};

use super::*;

const CLUSTER: ClusterId = ClusterId(Digest([9; 32]));

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee(n: u16) -> Committee {
    let members = (0..n).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(CLUSTER, Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn vote(id: u16, seq: u64, root: u8) -> Signed {
    let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([root; 32]) };
    Statement { epoch: Epoch(0), signer: ReplicaId(id), incarnation: Incarnation(0), body }.sign(CLUSTER, &key(id))
}

fn add(checkpoints: &mut Checkpoints, votes: &[Signed]) -> Option<Certificate> {
    votes.iter().filter_map(|signed| checkpoints.add(*signed, &committee(4))).last()
}

/// Who signs another root takes no part in a certificate, and does not keep the others from one.
#[test]
fn q_equal_roots_are_stable_whatever_others_sign() {
    let mut checkpoints = Checkpoints::default();
    assert_eq!(add(&mut checkpoints, &[vote(0, 8, 2), vote(1, 8, 1), vote(2, 8, 1)]), None);
    let certificate = add(&mut checkpoints, &[vote(3, 8, 1)]).expect("q equal roots");
    assert_eq!(parts(&certificate.body), Some((Seq(8), Digest([1; 32]))));
    assert_eq!(certificate.signers().collect::<Vec<_>>(), [ReplicaId(1), ReplicaId(2), ReplicaId(3)]);
}

#[test]
fn fewer_than_q_and_one_author_twice_make_nothing_stable() {
    let mut checkpoints = Checkpoints::default();
    assert_eq!(add(&mut checkpoints, &[vote(0, 8, 1), vote(1, 8, 1), vote(1, 8, 1)]), None);
    assert_eq!(add(&mut checkpoints, &[vote(2, 16, 1), vote(3, 8, 2)]), None);
    assert!(add(&mut checkpoints, &[vote(2, 8, 1)]).is_some());
}
