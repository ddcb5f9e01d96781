use super::*;
use crate::hotstuff::leaders::Failure;
use crate::hotstuff::testing::{batch, chain, child, child_after_timeout, committee, timeout_certificate, verifier};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Epoch, Incarnation, Signature, Verify as _};

fn content() -> BlockContent {
    let chain = chain(2);
    child_after_timeout(&chain[2], 5, batch(9)).content().clone()
}

/// The genesis block is a constant of the protocol: every chain ends in it.
#[test]
fn golden_digest_of_the_genesis_block() {
    assert_eq!(genesis_digest().to_hex(), "3315731ac62e9b568c611125a84612f4c3fdcff3fc6091f05f2ac58a0f3a31bd");
    assert_eq!(Block::genesis().digest(), genesis_digest());
}

/// Computed apart from this code, from the layout that the module's documentation gives.
#[test]
fn golden_digest_of_a_block() {
    use crate::hotstuff::certificate::{TimeoutEndorsement, Vote, VoteCertificate};
    use quorate_crypto::Endorsement;
    use quorate_crypto::encoding::{decode, encode};
    let vote = Vote { view: View(2), block: Digest([3; 32]), parent_view: View(1) };
    let endorsement = |id: u16| Endorsement {
        signer: ReplicaId(id),
        incarnation: Incarnation(1),
        signature: Signature([id as u8; 64]),
    };
    let justify = QuorumCertificate::Votes(VoteCertificate {
        epoch: Epoch(5),
        vote,
        endorsements: vec![endorsement(0), endorsement(2)],
    });
    let timeout = TimeoutCertificate {
        epoch: Epoch(5),
        view: View(6),
        timeouts: vec![TimeoutEndorsement {
            signer: ReplicaId(3),
            incarnation: Incarnation(2),
            high_view: View(2),
            signature: Signature([4; 64]),
        }],
        high_qc: justify.clone(),
    };
    let failures = vec![Failure { replica: ReplicaId(3), count: 1, out_until: View(19) }];
    let standing: Standing = decode(&encode(&failures), 1_000).expect("a list of failures");
    let block = Block::new(BlockContent {
        view: View(7),
        parent: Digest([3; 32]),
        seq: Seq(8),
        proposal: batch(9),
        justify,
        timeout: Some(timeout),
        author: ReplicaId(1),
        standing,
    });
    assert_eq!(block.digest().to_hex(), "7e0ab57f821d7e539196976c685050c0ad84a967dd11412216e4c22be0d5cfe3");
}

/// Rule H7 (asonnino/hotstuff leaves the certificate out): nothing of a block can be exchanged under its digest.
#[test]
fn rule_h7_the_digest_covers_every_field() {
    let honest = content();
    let digest = Block::new(honest.clone()).digest();
    let mut changed: Vec<(&str, BlockContent)> = Vec::new();
    let mut change = |what, edit: &dyn Fn(&mut BlockContent)| {
        let mut content = honest.clone();
        edit(&mut content);
        changed.push((what, content));
    };
    change("view", &|content| content.view = View(6));
    change("parent", &|content| content.parent = Digest([1; 32]));
    change("number", &|content| content.seq = Seq(9));
    change("time", &|content| content.proposal.time += 1);
    change("payload", &|content| content.proposal = batch(8));
    change("no certificate", &|content| content.justify = QuorumCertificate::Genesis);
    change("a signature of the QC", &|content| {
        let QuorumCertificate::Votes(votes) = &mut content.justify else { return };
        votes.endorsements[1].signature.0[7] ^= 1;
    });
    change("an author of the QC", &|content| {
        let QuorumCertificate::Votes(votes) = &mut content.justify else { return };
        votes.endorsements.pop();
    });
    change("an incarnation in the QC", &|content| {
        let QuorumCertificate::Votes(votes) = &mut content.justify else { return };
        votes.endorsements[0].incarnation = Incarnation(1);
    });
    change("no TC", &|content| content.timeout = None);
    change("a signature of the TC", &|content| {
        content.timeout.as_mut().expect("a TC").timeouts[0].signature.0[7] ^= 1;
    });
    change("a view named in the TC", &|content| {
        content.timeout.as_mut().expect("a TC").timeouts[0].high_view = View(0);
    });
    change("the QC of the TC", &|content| {
        content.timeout.as_mut().expect("a TC").high_qc = QuorumCertificate::Genesis;
    });
    change("author", &|content| content.author = ReplicaId(2));
    change("standing", &|content| content.standing = Standing::default());
    for (what, content) in changed {
        assert_ne!(Block::new(content).digest(), digest, "{what}");
    }
}

#[test]
fn a_block_survives_its_encoding_with_its_digest() {
    let block = Block::new(content());
    let bytes = encode(&block);
    let back: Block = decode(&bytes, bytes.len()).expect("decodes");
    assert_eq!((back.digest(), &back), (block.digest(), &block));
}

#[test]
fn a_block_follows_from_a_certificate_of_the_view_before() {
    let committee = committee(4);
    let chain = chain(3);
    for block in &chain[1..] {
        assert_eq!(block.check_form(&committee), Ok(()));
    }
    assert_eq!(Block::new(content()).check_form(&committee), Ok(()));
    let check = |edit: &dyn Fn(&mut BlockContent)| {
        let mut content = chain[3].content().clone();
        edit(&mut content);
        Block::new(content).check_form(&committee)
    };
    assert_eq!(check(&|content| content.view = View(0)), Err(BlockError::ViewZero));
    assert_eq!(check(&|content| content.view = View(2)), Err(BlockError::NotJustified(View(2))));
    assert_eq!(check(&|content| content.view = View(4)), Err(BlockError::NotJustified(View(4))));
    assert_eq!(check(&|content| content.parent = chain[1].digest()), Err(BlockError::WrongParent));
    assert_eq!(check(&|content| content.seq = Seq(0)), Err(BlockError::WrongNumber(Seq(0))));
    // A second form of one block would be a second digest for it.
    let needless = timeout_certificate(2, &[(0, &chain[2].justify), (1, &chain[2].justify), (2, &chain[2].justify)]);
    assert_eq!(check(&|content| content.timeout = Some(needless.clone())), Err(BlockError::NeedlessTimeout));
    let first = &chain[1];
    let mut jumping = first.content().clone();
    jumping.seq = Seq(2);
    assert_eq!(Block::new(jumping).check_form(&committee), Err(BlockError::WrongNumber(Seq(2))));
}

#[test]
fn lists_are_capped_before_any_signature() {
    let committee = committee(4);
    let chain = chain(2);
    let mut content = chain[2].content().clone();
    content.proposal.payload = Payload::Batch(vec![Digest::ZERO; REQUESTS_MAX]);
    assert_eq!(Block::new(content.clone()).check_form(&committee), Ok(()), "the largest that a genesis file may allow");
    content.proposal.payload = Payload::Batch(vec![Digest::ZERO; REQUESTS_MAX + 1]);
    assert_eq!(Block::new(content).check_form(&committee), Err(BlockError::TooLarge));
    let mut content = chain[2].content().clone();
    if let QuorumCertificate::Votes(votes) = &mut content.justify {
        votes.endorsements = vec![votes.endorsements[0]; 5];
    }
    assert_eq!(Block::new(content).check_form(&committee), Err(BlockError::TooLarge));
}

#[test]
fn every_certificate_inside_is_checked() {
    let committee = committee(4);
    let honest = Block::new(content());
    let verify = |content: BlockContent| {
        let mut claims = Vec::new();
        Block::new(content).claims_of(&committee, &mut claims).is_ok() && verifier().check(&claims)
    };
    assert!(verify(honest.content().clone()));
    let mut bad = honest.content().clone();
    if let QuorumCertificate::Votes(votes) = &mut bad.justify {
        votes.endorsements[2].signature.0[3] ^= 1;
    }
    assert!(!verify(bad));
    let mut bad = honest.content().clone();
    bad.timeout.as_mut().expect("a TC").timeouts[2].signature.0[3] ^= 1;
    assert!(!verify(bad));
    let mut few = honest.content().clone();
    few.timeout.as_mut().expect("a TC").timeouts.pop();
    assert!(!verify(few));
    assert!(verifier().verify(honest.justify.clone(), &committee, &()).is_ok());
    let null = child(&chain(1)[1], Proposal::NULL);
    assert_eq!((null.seq, null.is_null()), (Seq(1), true), "a null block takes no number");
    let mut claims = Vec::new();
    assert_eq!(honest.justify.claims(&committee, &(), &mut claims), Ok(()));
    assert_eq!(claims.len(), 3);
}
