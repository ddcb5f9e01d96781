use super::*;
use crate::hotstuff::certificate::VoteCertificate;
use crate::hotstuff::testing::{
    batch, certify, chain, child, child_after_timeout, committee, proposal_of, sign, timeout, verifier, vote, vote_for,
};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Epoch, ReplicaId};

fn proposed(proposal: BlockProposal) -> Result<(), MessageError> {
    verifier().verify(proposal, &committee(4), &()).map(|_| ())
}

fn timed_out(timeout: Timeout) -> Result<(), MessageError> {
    verifier().verify(timeout, &committee(4), &()).map(|_| ())
}

#[test]
fn a_proposal_is_its_authors_and_everything_in_it_holds() {
    let chain = chain(3);
    assert_eq!(proposed(proposal_of(chain[3].clone())), Ok(()));
    assert_eq!(proposed(proposal_of(child_after_timeout(&chain[2], 7, batch(9)))), Ok(()));
    let mut other = proposal_of(chain[3].clone());
    other.block = child(&chain[2], batch(8));
    assert_eq!(proposed(other), Err(MessageError::WrongStatement), "another block than was signed");
    let body = StatementBody::Proposal { view: View(3), block: chain[3].digest() };
    let foreign = BlockProposal { signed: sign(1, body), block: chain[3].clone() };
    let not_the_author = MessageError::NotThePrimary { signer: ReplicaId(1), view: View(3) };
    assert_eq!(proposed(foreign), Err(not_the_author));
    let not_a_proposal = BlockProposal { signed: vote(3, &chain[3]), block: chain[3].clone() };
    assert_eq!(proposed(not_a_proposal), Err(MessageError::WrongStatement));
}

#[test]
fn any_flipped_byte_of_a_proposal_is_refused() {
    let chain = chain(2);
    let honest = proposal_of(child_after_timeout(&chain[2], 4, batch(9)));
    let bytes = encode(&honest);
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 0x04;
        let Ok(changed) = decode::<BlockProposal>(&changed, bytes.len()) else { continue };
        assert!(proposed(changed).is_err(), "byte {index}");
    }
}

#[test]
fn a_timeout_is_refused_without_the_certificate_it_names() {
    let chain = chain(3);
    let qc = certify(&chain[2]);
    assert_eq!(timed_out(timeout(1, 3, &qc)), Ok(()));
    assert_eq!(timed_out(timeout(1, 3, &QuorumCertificate::Genesis)), Ok(()));
    let names_more = Timeout { high_qc: certify(&chain[1]), ..timeout(1, 3, &qc) };
    assert_eq!(timed_out(names_more), Err(MessageError::WrongStatement));
    let names_less = Timeout { high_qc: qc.clone(), ..timeout(1, 3, &QuorumCertificate::Genesis) };
    assert_eq!(timed_out(names_less), Err(MessageError::WrongStatement));
    assert_eq!(timed_out(timeout(1, 2, &qc)), Err(MessageError::WrongStatement), "that view has a certificate");
    let mut forged = timeout(1, 3, &qc);
    if let QuorumCertificate::Votes(votes) = &mut forged.high_qc {
        votes.endorsements[1].signature.0[2] ^= 1;
    }
    assert!(timed_out(forged).is_err());
    let few =
        QuorumCertificate::Votes(VoteCertificate { epoch: Epoch(0), vote: vote_for(&chain[2]), endorsements: vec![] });
    assert!(timed_out(timeout(1, 3, &few)).is_err());
    assert!(timed_out(Timeout { signed: vote(1, &chain[2]), high_qc: qc }).is_err());
}

#[test]
fn a_vote_rests_on_an_earlier_view() {
    let committee = committee(4);
    let chain = chain(2);
    let check = |signed: &Signed| vote_claims(signed, &committee, &mut Vec::new());
    assert_eq!(check(&vote(1, &chain[2])), Ok(()));
    let vote_in = |view: u64, parent: u64| {
        sign(1, StatementBody::BlockVote { view: View(view), block: Digest([1; 32]), parent_view: View(parent) })
    };
    assert_eq!(check(&vote_in(2, 2)), Err(MessageError::WrongStatement));
    assert_eq!(check(&vote_in(0, 0)), Err(MessageError::WrongStatement));
    assert_eq!(check(&timeout(1, 3, &QuorumCertificate::Genesis).signed), Err(MessageError::WrongStatement));
    assert!(
        check(&Signed {
            statement: quorate_crypto::Statement { epoch: Epoch(1), ..vote(1, &chain[2]).statement },
            ..vote(1, &chain[2])
        })
        .is_err()
    );
}

/// Rules X2 and X3: lists have caps, and what was fetched is a chain.
#[test]
fn lists_are_capped_and_fetched_blocks_are_a_chain() {
    let committee = committee(4);
    let mut chain: Vec<Block> = chain(4).split_off(1);
    chain.reverse();
    assert_eq!(check_blocks(&chain, &committee), Ok(()));
    assert_eq!(check_blocks(&[], &committee), Ok(()));
    assert!(check_blocks(&[chain[0].clone(), chain[2].clone()], &committee).is_err(), "a gap");
    assert!(check_blocks(&[Block::genesis()], &committee).is_err(), "nobody needs to be sent that");
    let many = vec![chain[0].clone(); BLOCKS_MAX + 1];
    assert_eq!(check_blocks(&many, &committee), Err(MessageError::TooMany { found: 33, limit: 32 }));
    let fetch = |count: u32| FetchBlocks { block: Digest::ZERO, down_to: Seq(0), count }.check();
    assert_eq!(fetch(BLOCKS_MAX as u32), Ok(()));
    assert!(fetch(u32::MAX).is_err());
    let mut status = HotStuffStatus {
        view: View(1),
        high_qc_view: View(0),
        high_qc_block: Digest::ZERO,
        high_tc_view: View(0),
        stable: Seq(0),
        committed: Seq(0),
        executed: Seq(0),
        proposed: false,
        votes: 0,
        timeouts: 0,
        missing_requests: vec![Digest::ZERO; FETCH_MAX],
    };
    assert_eq!(status.check(), Ok(()));
    status.missing_requests.push(Digest::ZERO);
    assert!(status.check().is_err());
}
