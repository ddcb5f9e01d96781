//! What the tests of every chapter build with: keys, committees, real signatures, certificates, chains of blocks.

use std::sync::Arc;

use quorate_crypto::{
    Claim, ClusterId, Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, ReplicaId, SecretKey, Seq,
    Signed, Signer, Statement, StatementBody, Verifier, View,
};

use crate::hotstuff::block::{Block, BlockContent};
use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate, Vote, VoteCertificate};
use crate::hotstuff::leaders::Counted;
use crate::hotstuff::message::{BlockProposal, Timeout};
use crate::proposal::{Payload, Proposal};

pub fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

pub fn committee(n: u16) -> Committee {
    let members = (0..n).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

pub fn verifier() -> Verifier {
    Verifier::new(Arc::new(Ed25519))
}

pub fn holds(claims: &[Claim]) -> bool {
    verifier().check(claims)
}

pub fn sign_in_life(id: u16, incarnation: u32, body: StatementBody) -> Signed {
    Statement { epoch: Epoch(0), signer: ReplicaId(id), incarnation: Incarnation(incarnation), body }
        .sign(ClusterId(Digest([7; 32])), &key(id))
}

pub fn sign(id: u16, body: StatementBody) -> Signed {
    sign_in_life(id, 0, body)
}

pub fn vote(id: u16, block: &Block) -> Signed {
    sign(id, vote_for(block).body())
}

pub fn vote_for(block: &Block) -> Vote {
    Vote { view: block.view, block: block.digest(), parent_view: block.justify.view() }
}

pub fn certificate_by(signers: &[u16], vote: Vote) -> QuorumCertificate {
    let votes: Vec<Signed> = signers.iter().map(|id| sign(*id, vote.body())).collect();
    let certificate = quorate_crypto::Certificate::collect(&votes).expect("one body");
    QuorumCertificate::Votes(VoteCertificate { epoch: Epoch(0), vote, endorsements: certificate.endorsements })
}

/// A QC of replicas 0, 1 and 2: a quorum of four.
pub fn certify(block: &Block) -> QuorumCertificate {
    certificate_by(&[0, 1, 2], vote_for(block))
}

pub fn timeout(id: u16, view: u64, high_qc: &QuorumCertificate) -> Timeout {
    let body = StatementBody::Timeout { view: View(view), high_view: high_qc.view() };
    Timeout { signed: sign(id, body), high_qc: high_qc.clone() }
}

pub fn timeout_certificate(view: u64, high_qcs: &[(u16, &QuorumCertificate)]) -> TimeoutCertificate {
    let timeouts: Vec<Timeout> = high_qcs.iter().map(|(id, high_qc)| timeout(*id, view, high_qc)).collect();
    TimeoutCertificate::collect(timeouts.iter().map(|timeout| (&timeout.signed, &timeout.high_qc))).expect("one view")
}

pub fn batch(fill: u8) -> Proposal {
    Proposal { time: 1_000, payload: Payload::Batch(vec![Digest([fill; 32])]) }
}

/// A block of `view` on `parent`, which `justify` certifies; by the leader and with the standing that follow from `counted`.
pub fn block_on(
    parent: &Block,
    counted: &Counted,
    view: u64,
    proposal: Proposal,
    justify: QuorumCertificate,
    timeout: Option<TimeoutCertificate>,
) -> Block {
    let committee = committee(4);
    let view = View(view);
    let author = counted.leader(view, &committee);
    let seq = if proposal.payload == Payload::Null { parent.seq } else { parent.seq.next() };
    let standing = parent.standing.after(counted, parent.view, view, author, &committee);
    Block::new(BlockContent { view, parent: parent.digest(), seq, proposal, justify, timeout, author, standing })
}

/// A block right after `parent`, while no leader has failed.
pub fn child(parent: &Block, proposal: Proposal) -> Block {
    let justify = if parent.view == View(0) { QuorumCertificate::Genesis } else { certify(parent) };
    block_on(parent, &Counted::default(), parent.view.0 + 1, proposal, justify, None)
}

/// A block on `parent` in a later view, after the view before it timed out with `justify` as everybody's highest QC.
pub fn child_after_timeout(parent: &Block, view: u64, proposal: Proposal) -> Block {
    let justify = if parent.view == View(0) { QuorumCertificate::Genesis } else { certify(parent) };
    let timeout = timeout_certificate(view - 1, &[(0, &justify), (1, &justify), (2, &justify)]);
    block_on(parent, &Counted::default(), view, proposal, justify, Some(timeout))
}

pub fn proposal_of(block: Block) -> BlockProposal {
    let body = StatementBody::Proposal { view: block.view, block: block.digest() };
    BlockProposal { signed: sign(block.author.0, body), block }
}

/// Genesis and `length` blocks in consecutive views, each with a request of its own.
pub fn chain(length: u8) -> Vec<Block> {
    let mut chain = vec![Block::genesis()];
    for fill in 1..=length {
        let next = child(chain.last().expect("genesis"), batch(fill));
        chain.push(next);
    }
    assert_eq!(chain.last().expect("genesis").seq, Seq(u64::from(length)));
    chain
}
