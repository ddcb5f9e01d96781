use super::*;
use crate::hotstuff::testing::{
    certificate_by, chain, committee, holds, sign, sign_in_life, timeout, timeout_certificate, verifier, vote, vote_for,
};

fn verifies(certificate: &QuorumCertificate, n: u16) -> bool {
    verifier().verify(certificate.clone(), &committee(n), &()).is_ok()
}

fn tc_verifies(certificate: &TimeoutCertificate) -> bool {
    verifier().verify(certificate.clone(), &committee(4), &()).is_ok()
}

#[test]
fn a_quorum_certificate_needs_q_distinct_members() {
    let block = &chain(1)[1];
    assert!(verifies(&certificate_by(&[0, 1, 3], vote_for(block)), 4));
    assert!(!verifies(&certificate_by(&[0, 1], vote_for(block)), 4));
    for n in [5, 6] {
        assert!(!verifies(&certificate_by(&[0, 1, 2], vote_for(block)), n), "n = {n}: 2f + 1 is no quorum");
        assert!(verifies(&certificate_by(&[0, 1, 2, 3], vote_for(block)), n));
    }
    let mut twice = certificate_by(&[0, 1, 2], vote_for(block));
    if let QuorumCertificate::Votes(votes) = &mut twice {
        votes.endorsements[2] = votes.endorsements[1];
    }
    assert!(!verifies(&twice, 4), "rule P1");
    assert!(!verifies(&certificate_by(&[0, 1, 9], vote_for(block)), 4), "a stranger");
}

/// Rule H2 (relab #289): whoever changes what a certificate says breaks its signatures.
#[test]
fn rule_h2_what_a_certificate_says_is_signed() {
    let block = &chain(2)[2];
    let honest = certificate_by(&[0, 1, 2], vote_for(block));
    assert!(verifies(&honest, 4));
    let changed = |edit: &dyn Fn(&mut VoteCertificate)| {
        let QuorumCertificate::Votes(mut votes) = honest.clone() else { panic!("votes") };
        edit(&mut votes);
        QuorumCertificate::Votes(votes)
    };
    assert!(!verifies(&changed(&|votes| votes.vote.view = View(9)), 4), "the view");
    assert!(!verifies(&changed(&|votes| votes.vote.block = Digest([1; 32])), 4), "the digest");
    assert!(!verifies(&changed(&|votes| votes.vote.parent_view = View(0)), 4), "the parent's view");
    assert!(!verifies(&changed(&|votes| votes.epoch = Epoch(1)), 4), "the epoch");
    assert!(!verifies(&changed(&|votes| votes.endorsements[0].incarnation = Incarnation(1)), 4), "a life");
}

#[test]
fn no_certificate_rests_on_its_own_view_or_a_later_one() {
    let vote = |view: u64, parent: u64| Vote { view: View(view), block: Digest([1; 32]), parent_view: View(parent) };
    assert!(!verifies(&certificate_by(&[0, 1, 2], vote(0, 0)), 4), "view 0 has the genesis block only");
    assert!(!verifies(&certificate_by(&[0, 1, 2], vote(3, 3)), 4));
    assert!(!verifies(&certificate_by(&[0, 1, 2], vote(3, 4)), 4));
    assert!(verifies(&QuorumCertificate::Genesis, 4));
    assert_eq!((QuorumCertificate::Genesis.view(), QuorumCertificate::Genesis.block()), (View(0), genesis_digest()));
}

#[test]
fn any_flipped_byte_of_a_timeout_certificate_is_refused() {
    let chain = chain(2);
    let qc = certificate_by(&[0, 1, 2], vote_for(&chain[1]));
    let older = QuorumCertificate::Genesis;
    let honest = timeout_certificate(5, &[(0, &qc), (1, &older), (3, &qc)]);
    assert!(tc_verifies(&honest));
    assert_eq!((honest.highest_named(), honest.high_qc.view()), (View(1), View(1)));
    let bytes = quorate_crypto::encoding::encode(&honest);
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 0x10;
        let Ok(changed) = quorate_crypto::encoding::decode::<TimeoutCertificate>(&changed, bytes.len()) else {
            continue;
        };
        assert!(!tc_verifies(&changed), "byte {index}");
    }
}

/// A TC that does not carry the QC its TIMEOUTs name could make a view in which nobody can build on that QC.
#[test]
fn a_timeout_certificate_carries_the_highest_qc_it_names() {
    let chain = chain(3);
    let high = certificate_by(&[0, 1, 2], vote_for(&chain[3]));
    let low = certificate_by(&[0, 1, 2], vote_for(&chain[1]));
    let honest = timeout_certificate(5, &[(0, &low), (1, &high), (2, &QuorumCertificate::Genesis)]);
    assert!(tc_verifies(&honest));
    assert!(!tc_verifies(&TimeoutCertificate { high_qc: low.clone(), ..honest.clone() }), "a lower one");
    assert!(!tc_verifies(&TimeoutCertificate { high_qc: QuorumCertificate::Genesis, ..honest.clone() }));
    let only_low = timeout_certificate(5, &[(0, &low), (1, &low), (2, &low)]);
    assert!(!tc_verifies(&TimeoutCertificate { high_qc: high.clone(), ..only_low }), "a higher one than they name");
    let of_its_view = timeout_certificate(3, &[(0, &low), (1, &high), (2, &low)]);
    assert!(!tc_verifies(&of_its_view), "a QC of the view given up");
    let few = TimeoutCertificate { timeouts: honest.timeouts[..2].to_vec(), ..honest.clone() };
    assert!(!tc_verifies(&few));
    let mut twice = honest.clone();
    twice.timeouts[2] = twice.timeouts[1];
    assert!(!tc_verifies(&twice), "rule P1");
    let mut shuffled = honest;
    shuffled.timeouts.swap(0, 1);
    assert!(!tc_verifies(&shuffled), "one order, one digest");
}

#[test]
fn timeouts_of_different_views_make_no_certificate() {
    let genesis = QuorumCertificate::Genesis;
    let mixed = [timeout(0, 3, &genesis), timeout(1, 3, &genesis), timeout(2, 4, &genesis)];
    let collect = |list: &[crate::hotstuff::message::Timeout]| {
        TimeoutCertificate::collect(list.iter().map(|timeout| (&timeout.signed, &timeout.high_qc)))
    };
    assert_eq!(collect(&mixed), None);
    assert_eq!(collect(&[]), None);
    let twice = collect(&[timeout(0, 3, &genesis), timeout(0, 3, &genesis)]).expect("one view");
    assert_eq!(twice.timeouts.len(), 1, "an author counts once");
}

#[test]
fn the_collector_takes_one_vote_of_each_author() {
    let committee = committee(4);
    let chain = chain(2);
    let block = &chain[2];
    let mut collector = VoteCollector::default();
    assert_eq!(collector.add(vote(0, block), View(2)), Collected::New);
    assert_eq!(collector.add(vote(0, block), View(2)), Collected::Nothing);
    assert_eq!(collector.add(vote(1, block), View(2)), Collected::New);
    assert_eq!(collector.certificate(View(2), &committee, holds), None);
    assert_eq!(collector.count(View(2)), 2);
    assert_eq!(collector.add(vote(3, block), View(2)), Collected::New);
    let certificate = collector.certificate(View(2), &committee, holds).expect("q votes");
    assert!(verifies(&certificate, 4));
    assert_eq!((certificate.view(), certificate.block()), (View(2), block.digest()));
}

#[test]
fn a_second_vote_of_a_view_is_evidence_and_does_not_count() {
    let chain = chain(2);
    let (one, other) = (&chain[2], Vote { block: Digest([5; 32]), ..vote_for(&chain[2]) });
    let mut collector = VoteCollector::default();
    assert_eq!(collector.add(vote(0, one), View(2)), Collected::New);
    assert_eq!(collector.add(sign(0, other.body()), View(2)), Collected::Contradicts(vote(0, one)));
    let elsewhere = Vote { parent_view: View(0), ..vote_for(one) };
    assert_eq!(collector.add(sign(0, elsewhere.body()), View(2)), Collected::Contradicts(vote(0, one)));
    // The same words in another life are no contradiction, and count once all the same.
    assert_eq!(collector.add(sign_in_life(0, 1, vote_for(one).body()), View(2)), Collected::Nothing);
}

/// Rule H3 (relab #227): neither a vote for something else nor one with a bad signature stops q good ones.
#[test]
fn rule_h3_a_bad_vote_never_stops_the_certificate_of_q_good_ones() {
    let committee = committee(4);
    let chain = chain(2);
    let block = &chain[2];
    let other = Vote { block: Digest([5; 32]), ..vote_for(block) };
    let mut collector = VoteCollector::default();
    collector.add(sign(3, other.body()), View(2));
    for id in 0..3 {
        collector.add(vote(id, block), View(2));
    }
    assert!(collector.certificate(View(2), &committee, holds).is_some_and(|certificate| verifies(&certificate, 4)));

    let mut collector = VoteCollector::default();
    let mut bad = vote(1, block);
    bad.signature.0[9] ^= 1;
    for signed in [vote(0, block), bad, vote(2, block)] {
        collector.add(signed, View(2));
    }
    assert_eq!(collector.certificate(View(2), &committee, holds), None, "two good ones are too few");
    assert_eq!(collector.count(View(2)), 2, "the bad one is thrown out");
    let mut collector = VoteCollector::default();
    for signed in [vote(0, block), bad, vote(2, block), vote(3, block)] {
        collector.add(signed, View(2));
    }
    let certificate = collector.certificate(View(2), &committee, holds).expect("q good ones");
    assert!(verifies(&certificate, 4));
}

/// Rule P9: votes far from the present view cost no memory.
#[test]
fn only_votes_near_the_present_view_are_kept() {
    let vote_in = |view: u64| {
        let vote = Vote { view: View(view), block: Digest([1; 32]), parent_view: View(1) };
        sign(1, vote.body())
    };
    let mut collector = VoteCollector::default();
    for (view, kept) in [(3, false), (4, true), (5, true), (6, true), (7, false), (u64::MAX, false)] {
        assert_eq!(collector.add(vote_in(view), View(5)) == Collected::New, kept, "view {view}");
    }
    assert_eq!(collector.add(vote_in(9), View(8)), Collected::New);
    assert_eq!(collector.count(View(5)), 0, "what is over is forgotten");
    assert_eq!(collector.newest_of(ReplicaId(1)).map(|signed| *signed.body()), Some(*vote_in(9).body()));
    assert_eq!(
        collector.add(sign(1, StatementBody::Timeout { view: View(8), high_view: View(1) }), View(8)),
        Collected::Nothing
    );
}
