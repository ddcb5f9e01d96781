use super::*;
use crate::hotstuff::safety::{may_propose, may_time_out, may_vote};
use crate::hotstuff::testing::{
    batch, certify, chain, child_after_timeout, proposal_of, timeout, timeout_certificate, vote,
};
use quorate_crypto::encoding::{decode, encode};

fn promised() -> (Promise, Vec<crate::hotstuff::block::Block>) {
    let chain = chain(4);
    let mut promise = Promise::new(Epoch(0));
    promise.raise(&chain[3].justify);
    promise.voted(vote(1, &chain[3]));
    promise.proposed(View(3), proposal_of(chain[3].clone()).signed);
    promise.timed_out(timeout(1, 4, &promise.high_qc.clone()));
    (promise, chain)
}

/// Rule H6 (Malachite #864): what is read back refuses what was promised away, and says the same again.
#[test]
fn rule_h6_after_a_restart_no_view_is_used_twice_and_the_same_bytes_are_at_hand() {
    let (before, chain) = promised();
    let bytes = encode(&before);
    let after = decode::<Promise>(&bytes, bytes.len()).expect("decodes").read_back();
    assert_eq!(after, before);
    assert!(!may_vote(&chain[3], &after), "voted in that view");
    assert!(!may_vote(&chain[4], &after), "gave up on that view");
    assert!(!may_time_out(View(4), &after));
    assert!(!may_propose(View(3), &after) && !may_propose(View(4), &after));
    assert_eq!(after.vote, Some(vote(1, &chain[3])));
    assert_eq!(after.timeout.as_ref().map(Timeout::view), Some(View(4)));
    assert!(may_vote(&child_after_timeout(&chain[3], 5, batch(9)), &after), "later views are open");
    assert!(may_time_out(View(5), &after) && may_propose(View(5), &after));
}

#[test]
fn certificates_only_rise_and_a_tc_brings_its_qc() {
    let chain = chain(4);
    let mut promise = Promise::new(Epoch(0));
    assert!(promise.raise(&certify(&chain[2])));
    assert!(!promise.raise(&certify(&chain[2])) && !promise.raise(&certify(&chain[1])));
    let (high, low) = (certify(&chain[4]), certify(&chain[1]));
    assert!(promise.raise_timeout(&timeout_certificate(6, &[(0, &high), (1, &low), (2, &low)])));
    assert_eq!((promise.high_qc.view(), promise.high_tc_view()), (View(4), View(6)));
    assert!(!promise.raise_timeout(&timeout_certificate(5, &[(0, &low), (1, &low), (2, &low)])));
    assert_eq!((promise.high_qc.view(), promise.high_tc_view()), (View(4), View(6)));
}

/// protocol.md, Rejoin: a new life signs in views above the certificate that committed its Rejoin.
#[test]
fn a_new_life_signs_only_above_the_certificate_that_began_it() {
    let chain = chain(4);
    let promise = Promise::of_new_life(Epoch(0), certify(&chain[3]));
    assert!(!may_vote(&chain[3], &promise) && may_vote(&chain[4], &promise));
    assert!(!may_time_out(View(3), &promise) && may_time_out(View(4), &promise));
    assert!(!may_propose(View(3), &promise) && may_propose(View(4), &promise));
}

#[test]
#[should_panic(expected = "a view has one vote")]
fn a_second_vote_is_an_error_of_our_own() {
    let (mut promise, chain) = promised();
    promise.voted(vote(1, &chain[3]));
}
