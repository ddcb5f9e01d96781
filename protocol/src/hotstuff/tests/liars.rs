//! Liars: two blocks of one view, certificates kept back, forged ones.

use quorate_crypto::{Digest, ReplicaId, Signed, StatementBody, View};

use super::cluster::{Cluster, key, request};
use crate::evidence::Evidence;
use crate::hotstuff::block::Block;
use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use crate::hotstuff::leaders::Counted;
use crate::hotstuff::message::{BlockProposal, Timeout};
use crate::hotstuff::testing;
use crate::message::{Message, MessageError, MessageLimits};
use crate::proposal::{Payload, Proposal};

fn verify(message: Message) -> Result<(), MessageError> {
    testing::verifier().verify(message, &testing::committee(4), &MessageLimits { window: 16 }).map(|_| ())
}

/// Another block of the same view by the same leader.
pub fn twin(proposal: &BlockProposal, committee: &quorate_crypto::Committee) -> BlockProposal {
    use quorate_crypto::Signer as _;
    let mut content = proposal.block.content().clone();
    content.proposal = match content.proposal.payload {
        Payload::Null => Proposal::NULL,
        _ => Proposal { time: content.proposal.time + 1, ..content.proposal },
    };
    let block = Block::new(content);
    let mut statement = proposal.signed.statement;
    statement.body = StatementBody::Proposal { view: block.view, block: block.digest() };
    let signature = key(statement.signer.0).sign(&statement.bytes(committee.cluster()));
    BlockProposal { signed: Signed { statement, signature }, block }
}

/// One half gets one block, the other half another: nothing is decided twice, and who sees both convicts.
#[test]
fn an_equivocating_leader_is_convicted_and_decides_nothing_twice() {
    for liar in 0..4u16 {
        let mut cluster = Cluster::new(4);
        let committee = std::sync::Arc::clone(&cluster.committee);
        cluster.tamper = Box::new(move |from, message| {
            // Every other copy is of the twin.
            if let (true, Message::BlockProposal(proposal)) = (from == ReplicaId(liar), message) {
                let orders = !proposal.block.is_null();
                if orders && proposal.block.author == from && COPIES.with(|copies| copies.replace(!copies.get())) {
                    *proposal = twin(proposal, &committee);
                }
            }
        });
        for number in 1..=32 {
            cluster.submit(&request(1, number));
            // A burst takes two views: without some that overlap, the batches would be those of two leaders only.
            cluster.run(if number % 8 == 0 { 600 } else { number % 5 });
        }
        cluster.run(2_000);
        let honest: Vec<u16> = (0..4).filter(|id| *id != liar).collect();
        for id in &honest {
            assert!((1..=32).all(|number| cluster.has_decided(*id, &request(1, number))), "liar {liar}, replica {id}");
        }
        let evidence: Vec<&Evidence> = cluster.evidence.values().flatten().collect();
        assert!(!evidence.is_empty(), "liar {liar} is convicted");
        for evidence in evidence {
            let conviction = evidence.verify(&cluster.committee, 16, &cluster.verifier).expect("convicts");
            assert_eq!((conviction.accused, conviction.kind), (ReplicaId(liar), "two-proposals"));
        }
        assert!(cluster.halts.is_empty());
    }
}

thread_local! {
    static COPIES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Two votes of one view by one replica: the leader that collects them convicts, and the certificate of the others stands.
#[test]
fn two_votes_of_one_view_convict() {
    let mut cluster = Cluster::new(4);
    let committee = std::sync::Arc::clone(&cluster.committee);
    cluster.submit(&request(1, 1));
    // Replica 0 votes as it should; a second vote of its for something else comes first.
    let lie = StatementBody::BlockVote { view: View(2), block: Digest([9; 32]), parent_view: View(1) };
    let second = testing::sign(0, lie);
    for id in 1..4 {
        cluster.queue.push_front((ReplicaId(0), ReplicaId(id), Message::BlockVote(second)));
    }
    cluster.run(1_000);
    assert!((0..4).all(|id| cluster.has_decided(id, &request(1, 1))));
    let convicted: Vec<&Evidence> = cluster.evidence.values().flatten().collect();
    for evidence in &convicted {
        let conviction = evidence.verify(&committee, 16, &cluster.verifier).expect("convicts");
        assert_eq!((conviction.accused, conviction.kind), (ReplicaId(0), "two-block-votes"));
    }
    assert!(!convicted.is_empty());
}

/// A leader that collects votes and keeps the certificate back costs a timeout; what it was to certify is proposed again.
#[test]
fn a_withheld_certificate_costs_a_timeout_and_nothing_is_lost() {
    for liar in 0..4u16 {
        let mut cluster = Cluster::new(4);
        cluster.filter = Box::new(move |from, _, message| {
            let carries = matches!(message, Message::BlockProposal(_) | Message::QuorumCertificate(_));
            from != ReplicaId(liar) || !carries
        });
        for number in 1..=6 {
            cluster.submit(&request(1, number));
            cluster.run(900);
        }
        cluster.run(2_000);
        let honest: Vec<u16> = (0..4).filter(|id| *id != liar).collect();
        for id in honest {
            assert!((1..=6).all(|number| cluster.has_decided(id, &request(1, number))), "liar {liar}, replica {id}");
        }
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

#[test]
fn forged_certificates_are_refused_by_verification() {
    let chain = testing::chain(3);
    let honest = testing::certify(&chain[2]);
    assert_eq!(verify(Message::QuorumCertificate(honest.clone())), Ok(()));
    assert_eq!(verify(Message::QuorumCertificate(QuorumCertificate::Genesis)), Ok(()), "and tells nothing");
    let mut forged = honest.clone();
    if let QuorumCertificate::Votes(votes) = &mut forged {
        votes.vote.view = View(1_000_000);
    }
    assert!(verify(Message::QuorumCertificate(forged)).is_err(), "a view nobody voted in");
    let few = testing::certificate_by(&[0, 1], testing::vote_for(&chain[2]));
    assert!(verify(Message::QuorumCertificate(few.clone())).is_err());
    let timeouts = testing::timeout_certificate(5, &[(0, &honest), (1, &honest), (2, &honest)]);
    assert_eq!(verify(Message::TimeoutCertificate(timeouts.clone())), Ok(()));
    assert!(verify(Message::TimeoutCertificate(TimeoutCertificate { view: View(9), ..timeouts.clone() })).is_err());
    assert!(verify(Message::TimeoutCertificate(TimeoutCertificate { high_qc: few.clone(), ..timeouts })).is_err());
    let rests_on_few = testing::block_on(&chain[2], &Counted::default(), 3, testing::batch(7), few.clone(), None);
    assert!(verify(Message::BlockProposal(testing::proposal_of(rests_on_few))).is_err());
    let timeout = Timeout { high_qc: few, ..testing::timeout(1, 3, &honest) };
    assert!(verify(Message::Timeout(timeout)).is_err());
}

/// Blocks nobody asked for are not taken, whatever they say: their certificates were not verified.
#[test]
fn unasked_blocks_are_ignored() {
    let mut cluster = Cluster::new(4);
    let mut forged = testing::chain(3)[3].content().clone();
    if let QuorumCertificate::Votes(votes) = &mut forged.justify {
        for endorsement in &mut votes.endorsements {
            endorsement.signature.0 = [0; 64];
        }
    }
    for id in 0..4 {
        let message = Message::Blocks(vec![Block::new(forged.clone())]);
        cluster.queue.push_back((ReplicaId((id + 1) % 4), ReplicaId(id), message));
    }
    cluster.settle();
    assert!((0..4).all(|id| cluster.view(id) == 1 && cluster.executed(id) == 0));
    assert!(cluster.halts.is_empty());
}

/// A block by somebody who does not lead, or that skips a number, gets no vote.
#[test]
fn blocks_that_do_not_fit_get_no_vote() {
    let mut cluster = Cluster::new(4);
    let honest = testing::chain(1)[1].clone();
    let mut wrong: Vec<BlockProposal> = Vec::new();
    let mut by_another = honest.content().clone();
    by_another.author = ReplicaId(2);
    wrong.push(testing::proposal_of(Block::new(by_another)));
    let mut certified = honest.content().clone();
    certified.proposal.payload = Payload::Certified(Digest([1; 32]));
    wrong.push(testing::proposal_of(Block::new(certified)));
    let mut twice = honest.content().clone();
    twice.proposal.payload = Payload::Batch(vec![Digest([1; 32]); 2]);
    wrong.push(testing::proposal_of(Block::new(twice)));
    let mut early = honest.content().clone();
    early.proposal = Proposal { time: 900_000_000, payload: Payload::Batch(vec![]) };
    wrong.push(testing::proposal_of(Block::new(early)));
    for proposal in wrong {
        for id in [0, 3] {
            let from = proposal.signed.signer();
            cluster.queue.push_back((from, ReplicaId(id), Message::BlockProposal(proposal.clone())));
        }
    }
    cluster.settle();
    assert_eq!(cluster.sent.get("vote"), None);
}

/// A TIMEOUT flood of one liar far ahead moves nobody.
#[test]
fn one_liar_far_ahead_moves_nobody() {
    let mut cluster = Cluster::new(4);
    for view in [5, 500, u64::MAX] {
        for id in 0..3 {
            let timeout = testing::timeout(3, view, &QuorumCertificate::Genesis);
            cluster.queue.push_back((ReplicaId(3), ReplicaId(id), Message::Timeout(timeout)));
        }
    }
    cluster.submit(&request(1, 1));
    cluster.run(50);
    assert!((0..3).all(|id| cluster.has_decided(id, &request(1, 1)) && cluster.view(id) < 10));
}

/// An answer without blocks to no question changes nothing.
#[test]
fn an_empty_answer_to_no_question_does_nothing() {
    let mut cluster = Cluster::new(4);
    cluster.run(20);
    let (records, sent) = (cluster.records.get(&ReplicaId(0)).map(Vec::len), cluster.sent.clone());
    // The chain of this certificate is not here, and nobody was asked for it yet.
    let certificate = testing::certify(&testing::chain(2)[2]);
    let replica = cluster.replicas.get_mut(&ReplicaId(0)).expect("runs");
    assert!(replica.block_fetch.is_none());
    replica.promise.raise(&certificate);
    let empty = Message::Blocks(vec![]);
    replica.handle_message(cluster.now, ReplicaId(3), empty);
    assert!(replica.block_fetch.is_none(), "who sent it is not asked for what lacks");
    assert_eq!((cluster.records.get(&ReplicaId(0)).map(Vec::len), cluster.sent.clone()), (records, sent));
}

/// Bodies of what is committed are asked for, whatever a leader makes up for the present view, and so are some of its own.
#[test]
fn made_up_digests_do_not_crowd_out_bodies_that_are_needed() {
    let chain = testing::chain(2);
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    let made_up = |number: u16| {
        let mut digest = [0; 32];
        digest[30..].copy_from_slice(&number.to_be_bytes());
        Digest(digest)
    };
    let names: Vec<Digest> = (0..1_024).map(made_up).collect();
    let proposal = Proposal { time: 1_000, payload: Payload::Batch(names.clone()) };
    let lie = testing::block_on(&chain[2], &Counted::default(), 3, proposal, testing::certify(&chain[2]), None);
    for block in chain[1..].iter().cloned().chain([lie]) {
        let proposal = testing::proposal_of(block);
        cluster.deliver(proposal.block.author, ReplicaId(0), Message::BlockProposal(proposal));
    }
    let replica = &cluster.replicas[&ReplicaId(0)];
    assert_eq!((replica.view(), replica.undelivered.len()), (View(3), 1));
    let lacking = replica.lacking_bodies();
    assert_eq!(lacking[0], Digest([1; 32]), "in the order of need");
    assert_eq!(lacking.len(), 1_024, "and never more than one question may hold");
    assert!(lacking[1..].iter().all(|digest| names.contains(digest)));
}

/// A leader proposes two blocks, and the one that others got is certified: what the lost one named waits again at once.
#[test]
fn what_a_lost_block_named_waits_again_when_another_is_certified() {
    let mut cluster = Cluster::new(4);
    cluster.filter = Box::new(|_, _, _| false);
    let wanted = request(1, 1);
    cluster.submit_to(0, &wanted);
    let genesis = Block::genesis();
    let of = |requests: Vec<Digest>, time| {
        let proposal = Proposal { time, payload: Payload::Batch(requests) };
        testing::block_on(&genesis, &Counted::default(), 1, proposal, QuorumCertificate::Genesis, None)
    };
    let (lost, certified) = (of(vec![wanted.digest()], 1_000), of(vec![], 1_001));
    let proposal = Message::BlockProposal(testing::proposal_of(lost));
    cluster.deliver(ReplicaId(1), ReplicaId(0), proposal);
    let unproposed = |cluster: &Cluster| cluster.replicas[&ReplicaId(0)].foundation.pending.unproposed();
    assert_eq!(unproposed(&cluster), 0, "it stands in the candidate");
    let certificate = testing::certificate_by(&[1, 2, 3], testing::vote_for(&certified));
    cluster.deliver(ReplicaId(2), ReplicaId(0), Message::QuorumCertificate(certificate));
    assert_eq!(cluster.view(0), 2);
    assert_eq!(unproposed(&cluster), 1);
}

/// A leader names a request that it alone was given, and its view fails for lack of the body. When the client then sends it to
/// everybody, nobody must take it for proposed.
#[test]
fn a_request_that_a_lost_block_named_before_it_came_is_proposed() {
    let mut cluster = Cluster::new(4);
    let wanted = request(1, 1);
    let proposal = Proposal { time: 1_000, payload: Payload::Batch(vec![wanted.digest()]) };
    let genesis = Block::genesis();
    let block = testing::block_on(&genesis, &Counted::default(), 1, proposal, QuorumCertificate::Genesis, None);
    let liar = block.author;
    cluster.stop(liar.0);
    let honest: Vec<u16> = (0..4).filter(|id| *id != liar.0).collect();
    for id in &honest {
        let message = Message::BlockProposal(testing::proposal_of(block.clone()));
        cluster.queue.push_back((liar, ReplicaId(*id), message));
    }
    cluster.run(600);
    assert!(honest.iter().all(|id| cluster.view(*id) > 1), "the view failed");
    cluster.submit(&wanted);
    cluster.run(3_000);
    assert!(honest.iter().all(|id| cluster.has_decided(*id, &wanted)), "{:?}", cluster.sent);
}

/// By a vote that a leader holds or by a certificate that has it, whichever of the two came first.
#[test]
fn a_timeout_that_hides_a_certificate_is_convicted_in_either_order() {
    let chain = testing::chain(2);
    let (liar, rests_on) = (2, testing::certify(&chain[1]));
    let vote = Message::BlockVote(testing::vote(liar, &chain[2]));
    let certificate = Message::QuorumCertificate(testing::certify(&chain[2]));
    // It voted in view 2 on a certificate of view 1.
    let hiding = Message::Timeout(testing::timeout(liar, 3, &QuorumCertificate::Genesis));
    let honest = Message::Timeout(testing::timeout(liar, 3, &rests_on));
    let genesis = QuorumCertificate::Genesis;
    let together = testing::timeout_certificate(3, &[(1, &genesis), (liar, &genesis), (3, &genesis)]);
    let together = Message::TimeoutCertificate(together);
    let cases = [
        (vec![vote.clone(), together.clone()], true),
        (vec![together, vote.clone()], true),
        (vec![vote.clone(), hiding.clone()], true),
        (vec![hiding.clone(), vote.clone()], true),
        (vec![certificate.clone(), hiding.clone()], true),
        (vec![hiding, certificate.clone()], true),
        (vec![vote, certificate, honest], false),
    ];
    for (case, (messages, guilty)) in cases.into_iter().enumerate() {
        let mut cluster = Cluster::new(4);
        cluster.filter = Box::new(|_, _, _| false);
        // It stands in view 2, so that it takes votes of that view.
        cluster.deliver(ReplicaId(1), ReplicaId(0), Message::QuorumCertificate(rests_on.clone()));
        for message in messages {
            cluster.deliver(ReplicaId(liar), ReplicaId(0), message);
        }
        let accused: Vec<ReplicaId> = cluster.evidence.values().flatten().map(Evidence::author).collect();
        assert_eq!(accused, vec![ReplicaId(liar); usize::from(guilty)], "case {case}");
    }
}
