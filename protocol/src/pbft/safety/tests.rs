use std::sync::Arc;

use super::*;
use crate::message::{Message, MessageError, MessageLimits};
use crate::pbft::slot::PreparedCertificate;
use crate::pbft::view_change_message::Reproposal;
use quorate_crypto::{
    ClusterId, Ed25519, Endorsement, FaultModel, Incarnation, Member, SecretKey, Signature, Signer, Statement, Verifier,
};

const WINDOW: u64 = 16;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee(n: u16) -> Committee {
    let members = (0..n).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn header(id: u16) -> Statement {
    Statement {
        epoch: Epoch(0),
        signer: ReplicaId(id),
        incarnation: Incarnation(0),
        body: StatementBody::Rejoin { nonce: [0; 16] },
    }
}

fn sign(id: u16, body: StatementBody) -> Signed {
    Statement { body, ..header(id) }.sign(ClusterId(Digest([7; 32])), &key(id))
}

fn endorse(id: u16, body: StatementBody) -> Endorsement {
    Endorsement { signer: ReplicaId(id), incarnation: Incarnation(0), signature: sign(id, body).signature }
}

fn ballot(view: u64, seq: u64, fill: u8) -> Ballot {
    Ballot { view: View(view), seq: Seq(seq), digest: Digest([fill; 32]) }
}

fn prepared_proof(view: u64, seq: u64, fill: u8, backups: &[u16], n: u16) -> SlotProof {
    let ballot = ballot(view, seq, fill);
    let leader = committee(n).primary(View(view)).0;
    SlotProof::Prepared {
        ballot,
        primary: endorse(leader, StatementBody::PrePrepare(ballot)),
        prepares: backups.iter().map(|id| endorse(*id, StatementBody::Prepare(ballot))).collect(),
    }
}

fn stable(seq: u64) -> Option<Certificate> {
    (seq > 0).then(|| {
        let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([9; 32]) };
        Certificate { epoch: Epoch(0), body, endorsements: (0..3).map(|id| endorse(id, body)).collect() }
    })
}

fn view_change(id: u16, view: u64, stable_seq: u64, slots: Vec<SlotProof>) -> ViewChange {
    let body = ViewChangeBody { view: View(view), stable: stable(stable_seq), slots };
    ViewChange::sign(body, header(id), ClusterId(Digest([7; 32])), &key(id))
}

fn verify(message: Message, n: u16) -> Result<(), MessageError> {
    Verifier::new(Arc::new(Ed25519)).verify(message, &committee(n), &MessageLimits { window: WINDOW }).map(|_| ())
}

fn new_view_of(author: u16, view: u64, view_changes: &[ViewChange]) -> NewView {
    let named = view_changes.iter().map(|message| (message.author(), message.digest())).collect();
    let choice = choose(view_changes);
    NewView::sign(View(view), named, &choice.slots, header(author), ClusterId(Digest([7; 32])), &key(author))
}

#[test]
fn watermarks_are_half_open() {
    assert!(!in_watermarks(Seq(8), Seq(8), 4));
    assert!(in_watermarks(Seq(9), Seq(8), 4));
    assert!(in_watermarks(Seq(12), Seq(8), 4));
    assert!(!in_watermarks(Seq(13), Seq(8), 4));
    assert!(in_watermarks(Seq(u64::MAX), Seq(u64::MAX - 1), 4), "no overflow");
}

#[test]
fn a_vote_needs_its_view_its_window_and_no_other_digest() {
    let one = ballot(3, 5, 1);
    let digest = one.digest;
    let other = Digest([2; 32]);
    let may = |entered, accepted: Option<&Digest>, decided: Option<&Digest>| {
        may_accept(&one, entered, Seq(4), 4, accepted, decided)
    };
    assert!(may(Some(View(3)), None, None));
    assert!(may(Some(View(3)), Some(&digest), Some(&digest)));
    assert!(!may(None, None, None), "after VIEW-CHANGE nothing is signed");
    assert!(!may(Some(View(4)), None, None), "nothing is signed in an earlier view");
    assert!(!may(Some(View(2)), None, None));
    assert!(!may(Some(View(3)), Some(&other), None));
    assert!(!may(Some(View(3)), None, Some(&other)), "nothing against a decision");
    assert!(!may_accept(&one, Some(View(3)), Seq(5), 4, None, None));
    assert!(!may_accept(&one, Some(View(3)), Seq(0), 4, None, None));
}

#[test]
fn a_proof_needs_a_quorum_of_distinct_authors_and_the_right_primary() {
    assert_eq!(verify(Message::ViewChange(view_change(3, 1, 0, vec![prepared_proof(0, 1, 1, &[1, 2], 4)])), 4), Ok(()));
    // Rule P1 inside a VIEW-CHANGE (besu #1671).
    let duplicate = prepared_proof(0, 1, 1, &[1, 1], 4);
    let few = prepared_proof(0, 1, 1, &[1], 4);
    let with_primary = prepared_proof(0, 1, 1, &[0, 1], 4);
    for proof in [duplicate, few, with_primary] {
        assert!(verify(Message::ViewChange(view_change(3, 1, 0, vec![proof])), 4).is_err());
    }
    // For n = 5 and 6 a proof of 2f + 1 authors is not enough.
    for n in [5, 6] {
        let short = prepared_proof(0, 1, 1, &[1, 2], n);
        let full = prepared_proof(0, 1, 1, &[1, 2, 3], n);
        assert!(verify(Message::ViewChange(view_change(3, 1, 0, vec![short])), n).is_err(), "n = {n}");
        assert_eq!(verify(Message::ViewChange(view_change(3, 1, 0, vec![full])), n), Ok(()), "n = {n}");
    }
}

#[test]
fn proofs_stand_in_order_inside_the_window_and_in_earlier_views() {
    let proof = |view, seq| prepared_proof(view, seq, 1, &[2, 3], 4);
    let refused = |message: ViewChange| verify(Message::ViewChange(message), 4).is_err();
    assert!(refused(view_change(3, 1, 0, vec![proof(0, 2), proof(0, 1)])), "order");
    assert!(refused(view_change(3, 1, 0, vec![proof(0, 1), proof(0, 1)])), "twice");
    assert!(refused(view_change(3, 1, 0, vec![proof(0, WINDOW + 1)])), "above the window");
    assert!(refused(view_change(3, 1, 4, vec![proof(0, 4)])), "at the stable checkpoint");
    assert!(refused(view_change(3, 4, 0, vec![proof(4, 1)])), "of the view asked for");
    assert!(refused(view_change(3, 0, 0, vec![])), "view 0");
}

#[test]
fn any_flipped_byte_of_a_proof_is_refused() {
    let honest = view_change(3, 1, 4, vec![prepared_proof(0, 5, 1, &[1, 2], 4)]);
    let bytes = quorate_crypto::encoding::encode(&honest);
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 0x10;
        let Ok(message) = quorate_crypto::encoding::decode::<ViewChange>(&changed, bytes.len()) else { continue };
        assert!(verify(Message::ViewChange(message), 4).is_err(), "byte {index}");
    }
}

/// Rule P3 (go-ibft audit PR #52): of several prepared certificates for one number the highest view wins, in whatever
/// order the VIEW-CHANGEs come.
#[test]
fn rule_p3_the_highest_view_wins() {
    let older = view_change(0, 4, 0, vec![prepared_proof(1, 1, 0xaa, &[0, 2], 4)]);
    let newer = view_change(2, 4, 0, vec![prepared_proof(3, 1, 0xbb, &[0, 1], 4)]);
    let empty = view_change(1, 4, 0, vec![]);
    for order in [[&older, &newer, &empty], [&newer, &older, &empty], [&empty, &newer, &older]] {
        let choice = choose(order);
        assert_eq!(choice.slots, [(Seq(1), Digest([0xbb; 32]))]);
    }
}

/// Rule P6 (fabric #1111): the new view can be computed from any valid quorum.
#[test]
fn rule_p6_any_quorum_of_view_changes_computes_a_new_view() {
    let messages = [
        view_change(0, 1, 0, vec![prepared_proof(0, 12, 1, &[1, 2], 4)]),
        view_change(1, 1, 10, vec![prepared_proof(0, 12, 1, &[1, 2], 4)]),
        view_change(2, 1, 14, vec![prepared_proof(0, 16, 2, &[1, 2], 4)]),
        view_change(3, 1, 14, vec![]),
    ];
    for left_out in 0..messages.len() {
        let quorum: Vec<ViewChange> = messages
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != left_out)
            .map(|(_, message)| message.clone())
            .collect();
        let choice = choose(&quorum);
        assert_eq!(choice.stable_seq(), Seq(14));
        let new_view = new_view_of(1, 1, &quorum);
        assert!(new_view_holds(&new_view, &quorum, &committee(4), WINDOW).is_ok());
        let expected: Vec<Seq> = if left_out == 2 { vec![] } else { vec![Seq(15), Seq(16)] };
        assert_eq!(choice.slots.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected);
        if left_out != 2 {
            assert_eq!(choice.slots[0].1, Proposal::NULL.digest(), "a gap becomes the null request");
        }
    }
}

/// Rule P2: VIEW-CHANGE senders are distinct, there are q of them, the author leads the view, what it carries is
/// recomputed (Themis does none of these).
#[test]
fn rule_p2_a_new_view_is_recomputed() {
    let messages: Vec<ViewChange> = vec![
        view_change(0, 1, 0, vec![]),
        view_change(2, 1, 0, vec![prepared_proof(0, 1, 1, &[1, 2], 4)]),
        view_change(3, 1, 0, vec![]),
    ];
    let committee = committee(4);
    let honest = new_view_of(1, 1, &messages);
    assert!(new_view_holds(&honest, &messages, &committee, WINDOW).is_ok());
    assert_eq!(verify(Message::NewView(honest.clone()), 4), Ok(()));

    let wrong_author = new_view_of(2, 1, &messages);
    assert_eq!(
        new_view_holds(&wrong_author, &messages, &committee, WINDOW),
        Err(NewViewError::NotThePrimary(ReplicaId(2)))
    );
    let few = new_view_of(1, 1, &messages[..2]);
    assert_eq!(new_view_holds(&few, &messages[..2], &committee, WINDOW), Err(NewViewError::NoQuorum));
    let twice = vec![messages[0].clone(), messages[0].clone(), messages[2].clone()];
    assert_eq!(new_view_holds(&new_view_of(1, 1, &twice), &twice, &committee, WINDOW), Err(NewViewError::NoQuorum));

    let body = |reproposals| {
        let view_changes = messages.iter().map(|message| (message.author(), message.digest())).collect();
        NewViewBody { view: View(1), view_changes, reproposals }
    };
    let signed = |body: NewViewBody| NewView::sign_body(body, header(1), ClusterId(Digest([7; 32])), &key(1));
    let omitted = signed(body(vec![]));
    assert_eq!(new_view_holds(&omitted, &messages, &committee, WINDOW), Err(NewViewError::WrongChoice));
    let wrong_value = ballot(1, 1, 0xcc);
    let reproposal = Reproposal {
        seq: Seq(1),
        digest: wrong_value.digest,
        signature: sign(1, StatementBody::PrePrepare(wrong_value)).signature,
    };
    let wrong = signed(body(vec![reproposal]));
    assert_eq!(new_view_holds(&wrong, &messages, &committee, WINDOW), Err(NewViewError::WrongChoice));
    let mut others = messages.clone();
    others[2] = view_change(3, 1, 0, vec![prepared_proof(0, 2, 1, &[1, 2], 4)]);
    assert_eq!(new_view_holds(&honest, &others, &committee, WINDOW), Err(NewViewError::WrongViewChange(ReplicaId(3))));
    let older = vec![messages[0].clone(), messages[1].clone(), view_change(3, 2, 0, vec![])];
    assert!(new_view_holds(&new_view_of(1, 1, &older), &older, &committee, WINDOW).is_err(), "of another view");
}

#[test]
fn a_new_view_whose_pre_prepares_are_not_signed_is_refused() {
    let messages = vec![
        view_change(0, 1, 0, vec![]),
        view_change(2, 1, 0, vec![prepared_proof(0, 1, 1, &[1, 2], 4)]),
        view_change(3, 1, 0, vec![]),
    ];
    let mut body = new_view_of(1, 1, &messages).body().clone();
    body.reproposals[0].signature = Signature([0; 64]);
    let forged = NewView::sign_body(body, header(1), ClusterId(Digest([7; 32])), &key(1));
    assert!(verify(Message::NewView(forged), 4).is_err());
}

/// Rule P9: a single liar far ahead moves nobody.
#[test]
fn f_plus_one_later_views_are_joined_and_no_fewer() {
    let committee = committee(7);
    let views = |list: &[(u16, u64)]| list.iter().map(|(id, view)| (ReplicaId(*id), View(*view))).collect();
    assert_eq!(join_view(&views(&[(1, 1_000_000), (2, 900)]), View(3), &committee), None);
    assert_eq!(join_view(&views(&[(1, 1_000_000), (2, 900), (3, 5)]), View(3), &committee), Some(View(5)));
    assert_eq!(join_view(&views(&[(1, 3), (2, 2), (3, 3)]), View(3), &committee), None);
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

#[test]
fn prepared_counts_backups_that_match() {
    let committee = committee(4);
    let one = ballot(0, 1, 1);
    let vote = |id: u16, ballot: Ballot| Prepare {
        signed: sign(id, StatementBody::Prepare(ballot)),
        primary_incarnation: Incarnation(0),
        primary_signature: Signature([0; 64]),
    };
    let votes = |list: Vec<Prepare>| -> BTreeMap<ReplicaId, Prepare> {
        list.into_iter().map(|prepare| (prepare.signed.signer(), prepare)).collect()
    };
    assert!(prepared(&one, &votes(vec![vote(1, one), vote(2, one)]), &committee).is_some());
    assert!(prepared(&one, &votes(vec![vote(1, one)]), &committee).is_none());
    assert!(prepared(&one, &votes(vec![vote(0, one), vote(1, one)]), &committee).is_none(), "the primary is no backup");
    assert!(prepared(&one, &votes(vec![vote(1, one), vote(2, ballot(0, 1, 2))]), &committee).is_none());
    assert!(prepared(&one, &votes(vec![vote(1, one), vote(2, ballot(1, 1, 1))]), &committee).is_none());
    let mut impostor = votes(vec![vote(1, one)]);
    impostor.insert(ReplicaId(3), vote(1, one));
    assert!(prepared(&one, &impostor, &committee).is_none(), "one author under two names");
}

#[test]
fn committed_counts_replicas_that_match() {
    let committee = committee(4);
    let one = ballot(0, 1, 1);
    let commit = |id: u16, ballot: Ballot| (ReplicaId(id), sign(id, StatementBody::Commit(ballot)));
    let certificate = |votes: Vec<(ReplicaId, Signed)>| committed(&one, &votes.into_iter().collect(), &committee);
    assert!(certificate(vec![commit(0, one), commit(1, one), commit(3, one)]).is_some());
    assert!(certificate(vec![commit(0, one), commit(1, one)]).is_none());
    assert!(certificate(vec![commit(0, one), commit(1, one), commit(2, ballot(0, 1, 2))]).is_none());
    // Who commits to something else takes no part in it, and does not keep the others from deciding.
    let others = vec![commit(0, one), commit(1, one), commit(2, ballot(0, 1, 2)), commit(3, one)];
    let signers: Vec<ReplicaId> = certificate(others).expect("q of them match").signers().collect();
    assert_eq!(signers, [ReplicaId(0), ReplicaId(1), ReplicaId(3)]);
    let impostor = vec![commit(0, one), commit(1, one), (ReplicaId(2), commit(1, one).1)];
    assert!(certificate(impostor).is_none());
}

/// Rule P4: the certificate of the highest view stands in the VIEW-CHANGE, decided or not.
#[test]
fn a_slot_proves_its_highest_certificate() {
    let mut slot = crate::pbft::slot::Slot::default();
    let certificate = |view: u64| {
        let ballot = ballot(view, 1, 1);
        let backups: Vec<u16> = (0..4).filter(|id| u64::from(*id) != view % 4).take(2).collect();
        let votes: Vec<Signed> = backups.iter().map(|id| sign(*id, StatementBody::Prepare(ballot))).collect();
        PreparedCertificate {
            ballot,
            pre_prepare: sign((view % 4) as u16, StatementBody::PrePrepare(ballot)),
            prepares: Certificate::collect(&votes).expect("one body"),
        }
    };
    assert!(slot.proof(View(6)).is_none());
    slot.keep_prepared(certificate(5));
    slot.keep_prepared(certificate(2));
    assert_eq!(slot.proof(View(6)).map(|proof| proof.ballot().view), Some(View(5)));
    let decided = ballot(3, 1, 1);
    let commits: Vec<Signed> = (0..3).map(|id| sign(id, StatementBody::Commit(decided))).collect();
    slot.committed = Certificate::collect(&commits);
    assert_eq!(
        slot.proof(View(6)).map(|proof| proof.ballot().view),
        Some(View(5)),
        "a later prepared certificate is not hidden"
    );
    slot.prepared = None;
    assert!(matches!(slot.proof(View(6)), Some(SlotProof::Committed { .. })), "it stays after the decision");
    assert!(slot.proof(View(3)).is_none(), "a certificate of the view asked for is no proof for it");
}
