use quorate_crypto::{ClusterId, FaultModel, Incarnation, Member, Statement};
use quorate_protocol::pbft::view_change_message::ViewChangeBody;

use super::*;
use crate::sim::signing::Keyring;

const CLUSTER: ClusterId = ClusterId(Digest([3; 32]));

struct Four {
    ring: Keyring,
    oracle: Certificates,
}

impl Four {
    fn new() -> Four {
        let ring = Keyring::new(1, 4, false);
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
        let committee =
            Committee::new(CLUSTER, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members");
        let oracle = Certificates::new(committee, ring.scheme(), Protocol::Pbft, 16, &[ReplicaId(3)]);
        Four { ring, oracle }
    }

    fn sign(&self, signer: u16, body: StatementBody) -> Signed {
        Four::header(signer, body).sign(CLUSTER, self.ring.key(signer.into()).as_ref())
    }

    fn header(signer: u16, body: StatementBody) -> Statement {
        Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(0), body }
    }

    fn endorse(&self, signer: u16, body: StatementBody) -> Endorsement {
        let signature = self.sign(signer, body).signature;
        Endorsement { signer: ReplicaId(signer), incarnation: Incarnation(0), signature }
    }

    fn prepared(&self, view: u64, seq: u64, digest: Digest) -> SlotProof {
        let ballot = Ballot { view: View(view), seq: Seq(seq), digest };
        let leader = (view % 4) as u16;
        let backups = (0..4).filter(|id| *id != leader).take(2);
        SlotProof::Prepared {
            ballot,
            primary: self.endorse(leader, StatementBody::PrePrepare(ballot)),
            prepares: backups.map(|id| self.endorse(id, StatementBody::Prepare(ballot))).collect(),
        }
    }

    fn view_change(&self, author: u16, view: u64, slots: Vec<SlotProof>) -> ViewChange {
        let body = ViewChangeBody { view: View(view), stable: None, slots };
        let header = Four::header(author, StatementBody::Rejoin { nonce: [0; 16] });
        ViewChange::sign(body, header, CLUSTER, self.ring.key(author.into()).as_ref())
    }

    fn new_view(&self, view: u64, view_changes: &[ViewChange], chosen: &[(Seq, Digest)]) -> Message {
        let author = (view % 4) as u16;
        let header = Four::header(author, StatementBody::Rejoin { nonce: [0; 16] });
        let named = view_changes.iter().map(|message| (message.author(), message.digest())).collect();
        let key = self.ring.key(author.into());
        Message::NewView(NewView::sign(View(view), named, chosen, header, CLUSTER, key.as_ref()))
    }

    fn judge(&mut self, message: &Message) -> Result<(), Violation> {
        self.oracle.left(ReplicaId(1), message)
    }
}

#[test]
fn a_commit_certificate_needs_a_quorum_of_distinct_members() {
    let mut four = Four::new();
    let proposal = Proposal::NULL;
    let ballot = Ballot { view: View(0), seq: Seq(1), digest: proposal.digest() };
    let body = StatementBody::Commit(ballot);
    let with = |four: &Four, signers: &[u16]| {
        let endorsements = signers.iter().map(|id| four.endorse(*id, body)).collect();
        let certificate = Certificate { epoch: Epoch(0), body, endorsements };
        Message::CommitCertificate(Committed { certificate, proposal: proposal.clone() })
    };
    let good = with(&four, &[0, 1, 2]);
    assert_eq!(four.judge(&good), Ok(()));
    for signers in [&[0, 1][..], &[0, 1, 1], &[]] {
        let bad = with(&four, signers);
        assert!(four.judge(&bad).is_err(), "{signers:?}");
    }
    let mut forged = with(&four, &[0, 1, 2]);
    if let Message::CommitCertificate(committed) = &mut forged {
        committed.certificate.endorsements[1].signature.0[3] ^= 1;
    }
    assert!(four.judge(&forged).is_err(), "a bent signature");
}

#[test]
fn a_new_view_must_carry_what_the_paper_computes() {
    let mut four = Four::new();
    let (low, high) = (Digest([1; 32]), Digest([2; 32]));
    let view_changes = [
        four.view_change(0, 6, vec![four.prepared(1, 2, low)]),
        four.view_change(1, 6, vec![four.prepared(4, 2, high)]),
        four.view_change(3, 6, Vec::new()),
    ];
    // A liar sends its body first under what it signed of another one, which everybody refuses.
    let mut mixed = view_changes[1].clone();
    mixed.signed = four.view_change(1, 6, Vec::new()).signed;
    assert_eq!(four.oracle.seen(&Message::ViewChange(mixed)), Ok(()));
    for message in &view_changes {
        let message = Message::ViewChange(message.clone());
        assert_eq!(four.oracle.seen(&message), Ok(()));
        assert_eq!(four.judge(&message), Ok(()));
    }
    let null = Proposal::NULL.digest();
    let right = four.new_view(6, &view_changes, &[(Seq(1), null), (Seq(2), high)]);
    assert_eq!(four.judge(&right), Ok(()));
    for (what, chosen) in [
        ("the lower view's value", vec![(Seq(1), null), (Seq(2), low)]),
        ("a gap filled with an operation", vec![(Seq(1), low), (Seq(2), high)]),
        ("a number left out", vec![(Seq(2), high)]),
        ("nothing", vec![]),
    ] {
        let wrong = four.new_view(6, &view_changes, &chosen);
        assert!(four.judge(&wrong).is_err(), "{what}");
    }
    let too_few = four.new_view(6, &view_changes[..2], &[(Seq(1), null), (Seq(2), high)]);
    assert!(four.judge(&too_few).is_err(), "two VIEW-CHANGEs");
    // What nobody has sent yet is judged when it is sent.
    let late = four.view_change(2, 6, vec![four.prepared(5, 3, low)]);
    let named = [view_changes[0].clone(), view_changes[1].clone(), late.clone()];
    let hiding = four.new_view(6, &named, &[(Seq(1), null), (Seq(2), high)]);
    assert_eq!((four.judge(&hiding), four.oracle.unjudged()), (Ok(()), 1));
    assert!(four.oracle.seen(&Message::ViewChange(late)).is_err(), "it leaves number 3 out");
}

/// A stable checkpoint by this replica, in this life of it, and two others in their first.
fn stable(four: &Four, replica: u16, life: u32, seq: u64) -> Message {
    let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([7; 32]) };
    let others = (1..4).filter(|id| *id != replica).take(2);
    let mut endorsements: Vec<Endorsement> = others.map(|id| four.endorse(id, body)).collect();
    let header = Statement { incarnation: Incarnation(life), ..Four::header(replica, body) };
    let signature = header.sign(CLUSTER, four.ring.key(replica.into()).as_ref()).signature;
    endorsements.push(Endorsement { signer: ReplicaId(replica), incarnation: Incarnation(life), signature });
    Message::StableCheckpoint(Certificate { epoch: Epoch(0), body, endorsements })
}

#[test]
fn each_life_speaks_about_its_own_numbers() {
    let rejoin = |four: &mut Four, signer: u16, life: u32, seq: u64| {
        let body = StatementBody::Rejoin { nonce: [0; 16] };
        let statement = Statement { incarnation: Incarnation(life), ..Four::header(signer, body) };
        let signed = statement.sign(CLUSTER, four.ring.key(signer.into()).as_ref());
        four.oracle.rejoins(&signed, Seq(seq));
    };
    let mut four = Four::new();
    let unborn = stable(&four, 0, 1, 40);
    assert!(four.judge(&unborn).is_err(), "no Rejoin executed");
    // The second of the same incarnation changes nothing, and neither does one that skips a life.
    for (life, seq) in [(1, 10), (1, 12), (3, 13), (2, 50)] {
        rejoin(&mut four, 0, life, seq);
    }
    // The window is 16: the lines are at 26 and at 66.
    for (replica, life, seq, right) in [
        (0, 0, 26, true),
        (0, 0, 27, false),
        (0, 1, 26, false),
        (0, 1, 27, true),
        (0, 1, 66, true),
        (0, 1, 67, false),
        (0, 2, 66, false),
        (0, 2, 67, true),
        (0, 3, 90, false),
        // A liar says what it likes.
        (3, 5, 40, true),
    ] {
        let message = stable(&four, replica, life, seq);
        assert_eq!(four.judge(&message).is_ok(), right, "replica {replica} in life {life} about {seq}");
    }
    let unborn = stable(&four, 0, 4, 90);
    four.oracle.count_among_faulty(ReplicaId(0));
    assert!(four.judge(&unborn).is_ok(), "neither does whose log was damaged follow a rule");
}

#[test]
fn a_view_change_needs_proofs_of_earlier_views_inside_the_window() {
    let mut four = Four::new();
    let digest = Digest([1; 32]);
    let mut short = four.prepared(1, 2, digest);
    if let SlotProof::Prepared { prepares, .. } = &mut short {
        prepares.pop();
    }
    let bad = [
        four.view_change(0, 6, vec![four.prepared(6, 2, digest)]),
        four.view_change(0, 6, vec![four.prepared(1, 17, digest)]),
        four.view_change(0, 6, vec![four.prepared(1, 3, digest), four.prepared(1, 2, digest)]),
        four.view_change(0, 6, vec![short]),
    ];
    for message in bad {
        assert!(four.judge(&Message::ViewChange(message.clone())).is_err(), "{:?}", message.body());
    }
}
