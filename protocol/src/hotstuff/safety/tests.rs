use super::*;
use crate::hotstuff::testing::{
    batch, block_on, certify, chain, child, child_after_timeout, committee, sign, sign_in_life, timeout_certificate,
    vote,
};
use crate::proposal::Proposal;
use quorate_crypto::{Epoch, Seq, StatementBody};

fn fresh() -> Promise {
    Promise::new(Epoch(0))
}

#[test]
fn a_view_has_one_vote_and_none_after_its_timeout() {
    let chain = chain(4);
    let mut promise = fresh();
    assert!(may_vote(&chain[2], &promise));
    promise.voted(vote(1, &chain[2]));
    assert!(!may_vote(&chain[2], &promise), "twice");
    assert!(!may_vote(&chain[1], &promise), "an earlier view");
    assert!(may_vote(&chain[3], &promise));
    promise.timed_out(crate::hotstuff::testing::timeout(1, 3, &chain[3].justify));
    assert!(!may_vote(&chain[3], &promise), "after TIMEOUT");
    assert!(may_vote(&chain[4], &promise));
}

#[test]
fn a_block_rests_on_the_view_before_or_on_a_timeout_certificate_that_hides_nothing() {
    let chain = chain(4);
    assert!(is_justified(&chain[4]));
    let gap = block_on(&chain[2], &Counted::default(), 4, batch(9), certify(&chain[2]), None);
    assert!(!is_justified(&gap), "a gap without a TC");
    let after_timeout = child_after_timeout(&chain[2], 6, batch(9));
    assert!(is_justified(&after_timeout));
    let mut later = after_timeout.content().clone();
    later.view = View(7);
    assert!(!is_justified(&later), "a TC of another view");
    // Somebody among the q knows a higher certificate than the block rests on.
    let (low, high) = (certify(&chain[2]), certify(&chain[3]));
    let names_higher = timeout_certificate(5, &[(0, &low), (1, &high), (2, &low)]);
    let hiding = block_on(&chain[2], &Counted::default(), 6, batch(9), low.clone(), Some(names_higher.clone()));
    assert!(!is_justified(&hiding) && !may_vote(&hiding, &fresh()));
    let honest = block_on(&chain[3], &Counted::default(), 6, batch(9), high.clone(), Some(names_higher));
    assert!(is_justified(&honest));
    // A leader that knows more than all the TIMEOUTs of the TC may build on it.
    let names_low = timeout_certificate(5, &[(0, &low), (1, &low), (2, &low)]);
    assert!(is_justified(&block_on(&chain[3], &Counted::default(), 6, batch(9), high, Some(names_low))));
    let mut of_itself = chain[4].content().clone();
    of_itself.view = View(3);
    assert!(!is_justified(&of_itself), "a certificate of its own view");
}

/// Rule H4 (HotShot #2431): whatever a replica holds, a TC opens the way. Three of four gave up without having seen the
/// certificate that the fourth holds; without its vote they may be too few.
#[test]
fn rule_h4_a_timeout_certificate_always_unlocks() {
    let chain = chain(4);
    let mut promise = fresh();
    promise.raise(&certify(&chain[3]));
    promise.voted(vote(3, &chain[4]));
    let lower = child_after_timeout(&chain[2], 6, batch(9));
    assert!(lower.justify.view() < promise.high_qc.view());
    assert!(may_vote(&lower, &promise));
}

#[test]
fn a_timeout_is_given_once_and_speaks_of_a_view_before() {
    let chain = chain(4);
    let mut promise = fresh();
    promise.raise(&certify(&chain[2]));
    assert!(!may_time_out(View(2), &promise), "that view has a certificate");
    assert!(may_time_out(View(3), &promise));
    promise.timed_out(crate::hotstuff::testing::timeout(1, 3, &promise.high_qc.clone()));
    assert!(!may_time_out(View(3), &promise) && may_time_out(View(4), &promise));
    promise.voted(vote(1, &chain[4]));
    promise.voted(vote(1, &child_after_timeout(&chain[2], 8, batch(9))));
    assert!(!may_time_out(View(7), &promise), "a vote was given in a later view");
    assert!(may_time_out(View(8), &promise));
}

#[test]
fn a_view_has_one_proposal_and_none_after_its_timeout() {
    let mut promise = fresh();
    assert!(may_propose(View(1), &promise) && !may_propose(View(0), &promise));
    promise.proposed(View(2), sign(2, StatementBody::Rejoin { nonce: [0; 16] }));
    assert!(!may_propose(View(2), &promise) && may_propose(View(3), &promise));
    promise.timed_out(crate::hotstuff::testing::timeout(1, 3, &QuorumCertificate::Genesis));
    assert!(!may_propose(View(3), &promise) && may_propose(View(4), &promise));
}

/// Rule H1 (relab #249): over a gap of views a certified child commits nothing.
#[test]
fn rule_h1_a_commit_needs_a_direct_child_in_the_next_view() {
    let chain = chain(3);
    assert!(commits(&certify(&chain[3]), &chain[3], &chain[2]));
    assert!(!commits(&certify(&chain[3]), &chain[3], &chain[1]), "a grandparent");
    assert!(!commits(&certify(&chain[2]), &chain[3], &chain[2]), "a certificate of another block");
    let over_a_gap = child_after_timeout(&chain[2], 5, batch(9));
    assert!(!commits(&certify(&over_a_gap), &over_a_gap, &chain[2]), "view 5 on view 2");
    let next = child(&over_a_gap, batch(10));
    assert!(commits(&certify(&next), &next, &over_a_gap));
}

/// Rule H5 (babylon-node #243).
#[test]
fn rule_h5_recovery_takes_the_higher_of_the_two_certificates() {
    assert_eq!(recovery_view(View(7), View(3)), View(8));
    assert_eq!(recovery_view(View(3), View(7)), View(8));
    assert_eq!(recovery_view(View(0), View(0)), View(1));
    assert_eq!(recovery_view(View(u64::MAX), View(0)), View(u64::MAX), "no overflow");
}

/// Rule P9: a single liar far ahead moves nobody.
#[test]
fn f_plus_one_timeouts_are_joined_and_no_fewer() {
    let committee = committee(7);
    let joined =
        |views: &[u64], present: u64| joined_view(views.iter().map(|view| View(*view)), View(present), &committee);
    assert_eq!(joined(&[1_000_000, 900], 3), None);
    assert_eq!(joined(&[1_000_000, 900, 5], 3), Some(View(5)));
    assert_eq!(joined(&[1_000_000, 900, 3], 3), Some(View(3)), "of the present view as well");
    assert_eq!(joined(&[1_000_000, 900, 2], 3), None, "what is over is over");
}

#[test]
fn a_block_fits_its_parent_by_number_leader_and_standing() {
    let committee = committee(4);
    let chain = chain(3);
    let none = Counted::default();
    let good = child(&chain[3], batch(9));
    assert_eq!(fits(&good, &chain[3], &none, &committee), Ok(()));
    let null = child(&chain[3], Proposal::NULL);
    assert_eq!((fits(&null, &chain[3], &none, &committee), null.seq), (Ok(()), Seq(3)));
    let with = |edit: &dyn Fn(&mut BlockContent)| {
        let mut content = good.content().clone();
        edit(&mut content);
        fits(&Block::new(content), &chain[3], &none, &committee)
    };
    assert_eq!(with(&|content| content.seq = Seq(5)), Err(Misfit::WrongNumber));
    assert_eq!(with(&|content| content.proposal = Proposal::NULL), Err(Misfit::WrongNumber));
    assert_eq!(with(&|content| content.author = quorate_crypto::ReplicaId(2)), Err(Misfit::NotTheLeader));
    let blaming = child_after_timeout(&chain[3], 5, batch(9));
    assert_eq!(fits(&blaming, &chain[3], &none, &committee), Ok(()));
    assert_eq!(blaming.standing.failures().len(), 2, "of one failed view its leader and the next");
    assert_eq!(with(&|content| content.standing = blaming.standing.clone()), Err(Misfit::WrongStanding));
    // Whom the chain passes over does not lead.
    let (view, standing) = (blaming.view, blaming.standing.clone());
    let counted =
        Counted { view, parent_view: view, standing: standing.clone(), committed_view: view, committed: standing };
    let passed_over = counted.passed_over(View(6), &committee)[0];
    let turn = (6..10).find(|view| none.leader(View(*view), &committee) == passed_over).expect("its turn");
    let mut content = block_on(&chain[3], &none, turn, batch(9), certify(&chain[3]), None).content().clone();
    content.standing = chain[3].standing.after(&counted, View(3), View(turn), passed_over, &committee);
    assert_eq!(fits(&Block::new(content), &chain[3], &counted, &committee), Err(Misfit::NotTheLeader));
}

#[test]
fn the_clock_bound_widens_per_failed_view_up_to_its_cap() {
    assert!(time_is_acceptable(1_500, 1_000, 500, 4_000, 0));
    assert!(!time_is_acceptable(1_501, 1_000, 500, 4_000, 0));
    assert!(!time_is_acceptable(499, 1_000, 500, 4_000, 0));
    assert!(time_is_acceptable(1_501, 1_000, 500, 4_000, 1));
    assert!(time_is_acceptable(5_000, 1_000, 500, 4_000, 40));
    assert!(!time_is_acceptable(5_001, 1_000, 500, 4_000, 40));
}

/// protocol.md, Rejoin: w is the line between two lives.
#[test]
fn an_old_life_speaks_up_to_the_view_of_its_rejoin_and_a_new_one_above() {
    let block = &chain(1)[1];
    let vote = |incarnation: u32| {
        let body = StatementBody::BlockVote { view: block.view, block: block.digest(), parent_view: View(0) };
        sign_in_life(1, incarnation, body).statement
    };
    let judge = |incarnation: u32, view: u64, began: Option<(u32, u64)>| {
        let began = began.map(|(life, view)| (Incarnation(life), View(view)));
        judge_life(&vote(incarnation), View(view), began)
    };
    assert_eq!(judge(0, 1, None), VoteJudgement::Counts);
    assert_eq!(judge(1, 1, None), VoteJudgement::Unknown, "a laggard does not lock itself out");
    assert_eq!(judge(0, 8, Some((1, 8))), VoteJudgement::Counts);
    assert_eq!(judge(0, 9, Some((1, 8))), VoteJudgement::Refused);
    assert_eq!(judge(1, 8, Some((1, 8))), VoteJudgement::Refused);
    assert_eq!(judge(1, 9, Some((1, 8))), VoteJudgement::Counts);
    assert_eq!(judge(2, 9, Some((1, 8))), VoteJudgement::Unknown);
}
