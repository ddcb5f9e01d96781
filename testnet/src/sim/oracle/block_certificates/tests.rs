use quorate_crypto::{Certificate, ClusterId, Committee, Epoch, FaultModel, Incarnation, Member, Protocol, Statement};
use quorate_protocol::hotstuff::block::BlockContent;
use quorate_protocol::hotstuff::certificate::Vote;
use quorate_protocol::hotstuff::leaders::{Counted, Standing};
use quorate_protocol::proposal::{Payload, Proposal};

use super::*;
use crate::sim::oracle::certificates::Certificates;
use crate::sim::oracle::contradiction::NoContradiction;
use crate::sim::report::Violation;
use crate::sim::signing::Keyring;

const CLUSTER: ClusterId = ClusterId(Digest([3; 32]));
const R: ReplicaId = ReplicaId(1);

struct Four {
    ring: Keyring,
    oracle: Certificates,
}

impl Four {
    fn new() -> Four {
        let ring = Keyring::new(1, 4, false);
        let oracle = Certificates::new(committee(&ring), ring.scheme(), Protocol::HotStuff, 16, &[ReplicaId(3)]);
        Four { ring, oracle }
    }

    fn sign_in(&self, life: u32, signer: u16, body: StatementBody) -> Signed {
        let header = Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(life), body };
        header.sign(CLUSTER, self.ring.key(signer.into()).as_ref())
    }

    fn sign(&self, signer: u16, body: StatementBody) -> Signed {
        self.sign_in(0, signer, body)
    }

    fn vote(&self, signer: u16, block: &Block) -> Signed {
        self.sign(signer, vote_for(block).body())
    }

    fn certify_by(&self, signers: &[u16], vote: Vote) -> QuorumCertificate {
        let votes: Vec<Signed> = signers.iter().map(|id| self.sign(*id, vote.body())).collect();
        let endorsements = votes.iter().flat_map(|vote| Certificate::collect([vote]).expect("one").endorsements);
        QuorumCertificate::Votes(VoteCertificate { epoch: Epoch(0), vote, endorsements: endorsements.collect() })
    }

    fn certify(&self, block: &Block) -> QuorumCertificate {
        self.certify_by(&[0, 1, 2], vote_for(block))
    }

    fn time_out(&self, signer: u16, view: u64, high_qc: &QuorumCertificate) -> Timeout {
        let body = StatementBody::Timeout { view: View(view), high_view: high_qc.view() };
        Timeout { signed: self.sign(signer, body), high_qc: high_qc.clone() }
    }

    /// Of everybody but replica 1.
    fn tc(&self, view: u64, named: [&QuorumCertificate; 3]) -> TimeoutCertificate {
        let of = [0, 2, 3].into_iter().zip(named);
        let timeouts: Vec<Timeout> = of.map(|(id, named)| self.time_out(id, view, named)).collect();
        TimeoutCertificate::collect(timeouts.iter().map(|one| (&one.signed, &one.high_qc))).expect("one view")
    }

    fn propose(&self, author: u16, block: &Block) -> Message {
        let signed = self.sign(author, StatementBody::Proposal { view: block.view, block: block.digest() });
        Message::BlockProposal(BlockProposal { signed, block: block.clone() })
    }

    /// Somebody sends the block, so that it may be voted for.
    fn show(&mut self, block: &Block) {
        let message = self.propose(block.author.0, block);
        assert_eq!(self.oracle.seen(&message), Ok(()));
    }

    fn judge(&mut self, message: &Message) -> Result<(), Violation> {
        self.oracle.left(R, message)
    }
}

fn vote_for(block: &Block) -> Vote {
    Vote { view: block.view, block: block.digest(), parent_view: block.justify.view() }
}

fn committee(ring: &Keyring) -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
    Committee::new(CLUSTER, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members")
}

/// A block of `view` on the block that `justify` certifies, by the leader: nobody is ever passed over here.
fn block(view: u64, seq: u64, justify: &QuorumCertificate, timeout: Option<TimeoutCertificate>) -> Block {
    let payload = Payload::Batch(vec![Digest([view as u8; 32])]);
    let (view, author) = (View(view), ReplicaId((view % 4) as u16));
    let committee = committee(&Keyring::new(1, 4, false));
    let standing = Standing::default().after(&Counted::default(), justify.view(), view, author, &committee);
    Block::new(BlockContent {
        view,
        parent: justify.block(),
        seq: Seq(seq),
        proposal: Proposal { time: view.0, payload },
        justify: justify.clone(),
        timeout,
        author,
        standing,
    })
}

/// Four, and a chain of two blocks in views 1 and 2 that somebody sent.
fn with_chain() -> (Four, [Block; 2]) {
    let mut four = Four::new();
    let first = block(1, 1, &QuorumCertificate::Genesis, None);
    let second = block(2, 2, &four.certify(&first), None);
    four.show(&first);
    four.show(&second);
    (four, [first, second])
}

#[test]
fn a_quorum_certificate_needs_distinct_votes_for_its_own_fields() {
    let (mut four, [first, _]) = with_chain();
    let told = Message::QuorumCertificate;
    assert_eq!(four.judge(&told(four.certify(&first))), Ok(()));
    for signers in [&[0, 1][..], &[0, 1, 1], &[]] {
        let bad = told(four.certify_by(signers, vote_for(&first)));
        assert!(four.judge(&bad).is_err(), "{signers:?}");
        assert!(four.oracle.accepted(R, &bad).is_err(), "taken from somebody: {signers:?}");
    }
    let QuorumCertificate::Votes(votes) = four.certify(&first) else { panic!("votes") };
    let mut other_view = votes.clone();
    other_view.vote.view = View(4);
    let mut bent = votes;
    bent.endorsements[2].signature.0[3] ^= 1;
    for (what, bad) in [("another view", other_view), ("a bent signature", bent)] {
        assert!(four.judge(&told(QuorumCertificate::Votes(bad))).is_err(), "{what}");
    }
    let unknown = block(3, 3, &four.certify(&first), None);
    let unseen = told(four.certify(&unknown));
    assert!(four.judge(&unseen).is_err(), "nobody proposed it");
    let false_parent = Vote { parent_view: View(7), view: View(8), ..vote_for(&first) };
    let bad = told(four.certify_by(&[0, 1, 2], false_parent));
    assert!(four.judge(&bad).is_err(), "the block is of another view");
}

#[test]
fn a_timeout_certificate_carries_the_highest_certificate_that_is_named() {
    let (mut four, [first, second]) = with_chain();
    let (low, high) = (four.certify(&first), four.certify(&second));
    let told = Message::TimeoutCertificate;
    let good = four.tc(5, [&low, &high, &low]);
    assert_eq!(four.judge(&told(good.clone())), Ok(()));
    let lower = TimeoutCertificate { high_qc: low.clone(), ..good.clone() };
    assert!(four.judge(&told(lower)).is_err(), "a lower certificate than one names");
    let mut few = good.clone();
    few.timeouts.pop();
    assert!(four.judge(&told(few)).is_err(), "two TIMEOUTs");
    let mut twice = good.clone();
    twice.timeouts[2] = twice.timeouts[0];
    assert!(four.judge(&told(twice)).is_err(), "one author twice");
    let other = TimeoutCertificate { view: View(6), ..good };
    assert!(four.judge(&told(other)).is_err(), "TIMEOUTs of another view");
    let early = four.tc(2, [&low, &high, &low]);
    assert!(four.judge(&told(early)).is_err(), "a certificate of the view given up");
    // A TIMEOUT is judged like it.
    let good = four.time_out(1, 5, &high);
    let lacking = Message::Timeout(Timeout { high_qc: low, ..good.clone() });
    assert_eq!(four.judge(&Message::Timeout(good)), Ok(()));
    assert!(four.judge(&lacking).is_err(), "it carries another certificate than it names");
}

#[test]
fn votes_follow_the_voting_rule() {
    let (mut four, [first, second]) = with_chain();
    let (low, high) = (four.certify(&first), four.certify(&second));
    let vote = |four: &Four, block: &Block| Message::BlockVote(four.vote(1, block));
    let judged = |four: &mut Four, block: &Block| {
        four.show(block);
        let vote = vote(four, block);
        four.judge(&vote)
    };
    let by_tc = block(4, 2, &low, Some(four.tc(3, [&low, &low, &low])));
    for good in [&first, &second, &by_tc] {
        assert_eq!(judged(&mut four, good), Ok(()));
    }
    for (what, bad) in [
        ("a gap of views", block(6, 3, &high, None)),
        ("a TC of an earlier view", block(7, 3, &high, Some(four.tc(5, [&low, &high, &low])))),
        ("a TC that names a higher certificate", block(8, 2, &low, Some(four.tc(7, [&low, &high, &low])))),
        ("a number left out", block(3, 4, &high, None)),
        ("a certificate of two", block(3, 3, &four.certify_by(&[0, 1], vote_for(&second)), None)),
    ] {
        assert!(judged(&mut four, &bad).is_err(), "{what}");
    }
    // What nobody has sent yet is judged when it is sent, and only its own author can have it.
    let tc = four.tc(4, [&low, &high, &low]);
    for (what, view, right) in [("a good one", 5, true), ("a gap of views", 9, false)] {
        let late = block(view, 3, &high, Some(tc.clone()));
        let unseen = vote(&four, &late);
        assert_eq!((four.judge(&unseen), four.oracle.unjudged_votes()), (Ok(()), 1), "{what}");
        let another = Message::BlockVote(four.vote(0, &late));
        assert!(four.oracle.left(ReplicaId(0), &another).is_err(), "two voted for what nobody sent");
        assert_eq!(four.judge(&unseen), Ok(()), "it is sent again");
        let proposal = four.propose(1, &late);
        assert_eq!(four.oracle.seen(&proposal).is_ok(), right, "{what}");
    }
    let lie = StatementBody::BlockVote { view: View(2), block: second.digest(), parent_view: View(0) };
    let lie = Message::BlockVote(four.sign(1, lie));
    assert!(four.judge(&lie).is_err(), "it names another certificate than the block rests on");
}

#[test]
fn a_timeout_never_names_less_than_was_shown_before() {
    let names = |first: (u64, bool), second: (u64, bool)| {
        let (mut four, [low, high]) = with_chain();
        let (low, high) = (four.certify(&low), four.certify(&high));
        let certificate = |is_high: bool| if is_high { &high } else { &low };
        let one = Message::Timeout(four.time_out(1, first.0, certificate(first.1)));
        let other = Message::Timeout(four.time_out(1, second.0, certificate(second.1)));
        assert_eq!(four.judge(&one), Ok(()));
        four.judge(&other).is_ok()
    };
    assert!(names((5, false), (6, false)) && names((5, false), (6, true)) && names((6, true), (5, false)));
    assert!(!names((5, true), (6, false)), "later and lower");
    assert!(!names((6, false), (5, true)), "in whatever order they leave");

    // The same for votes: whoever voted for a block on a certificate names that one at least.
    for vote_first in [true, false] {
        let (mut four, [first, second]) = with_chain();
        let third = block(3, 3, &four.certify(&second), None);
        four.show(&third);
        let vote = Message::BlockVote(four.vote(1, &third));
        let hiding = Message::Timeout(four.time_out(1, 3, &four.certify(&first)));
        let (one, other) = if vote_first { (vote, hiding) } else { (hiding, vote) };
        assert_eq!(four.judge(&one), Ok(()));
        assert!(four.judge(&other).is_err(), "vote first: {vote_first}");
    }
}

#[test]
fn a_proposal_rests_on_the_highest_certificate_shown_or_on_that_of_its_tc() {
    let (mut four, [first, second]) = with_chain();
    let (low, high) = (four.certify(&first), four.certify(&second));
    let shown = Message::Timeout(four.time_out(1, 3, &high));
    assert_eq!(four.judge(&shown), Ok(()));
    let good = four.propose(1, &block(5, 3, &high, Some(four.tc(4, [&low, &high, &low]))));
    let by_tc = four.propose(1, &block(9, 2, &low, Some(four.tc(8, [&low, &low, &low]))));
    assert_eq!((four.judge(&good), four.judge(&by_tc)), (Ok(()), Ok(())));
    let third = block(10, 3, &high, Some(four.tc(9, [&high, &high, &high])));
    four.show(&third);
    let shown = Message::Timeout(four.time_out(1, 11, &four.certify(&third)));
    assert_eq!(four.judge(&shown), Ok(()));
    // The voting rule alone would let this one pass.
    let lower = four.propose(1, &block(13, 3, &high, Some(four.tc(12, [&low, &low, &low]))));
    assert!(four.judge(&lower).is_err(), "lower than what it showed, and not what the TC carries");
}

/// Of two failed views the first is excused, and the leader of the second held to account.
#[test]
fn blocks_are_by_who_leads_and_say_who_failed() {
    let (mut four, [first, _]) = with_chain();
    let low = four.certify(&first);
    let right = block(4, 2, &low, Some(four.tc(3, [&low, &low, &low])));
    assert_eq!(right.standing.failures().iter().map(|one| one.replica).collect::<Vec<_>>(), [ReplicaId(3)]);
    let other_author = BlockContent { author: ReplicaId(2), ..right.content().clone() };
    let says_nothing = BlockContent { standing: Standing::default(), ..right.content().clone() };
    for (what, content, holds) in [
        ("as it should be", right.content().clone(), true),
        ("another author", other_author, false),
        ("nobody failed", says_nothing, false),
    ] {
        let block = Block::new(content);
        four.show(&block);
        let vote = Message::BlockVote(four.vote(1, &block));
        assert_eq!(four.judge(&vote).is_ok(), holds, "{what}");
    }
    // Replica 3 is passed over, once the block that says so is committed: the others take turns, until there was no
    // commit for twenty views.
    let next = block(5, 3, &four.certify(&right), None);
    four.show(&next);
    let next = block(6, 4, &four.certify(&next), None);
    four.show(&next);
    let certificate = four.certify(&next);
    let child = |view: u64, author: u16, timeout: Option<TimeoutCertificate>| {
        let counted = next.counted(&right);
        let (view, author) = (View(view), ReplicaId(author));
        let committee = committee(&Keyring::new(1, 4, false));
        let standing = next.standing.after(&counted, next.view, view, author, &committee);
        let seq = Seq(5);
        let justify = certificate.clone();
        let content = next.content().clone();
        Block::new(BlockContent { view, parent: next.digest(), seq, justify, timeout, author, standing, ..content })
    };
    let timeout = |four: &Four, view| Some(four.tc(view, [&certificate, &certificate, &certificate]));
    for (view, author) in [(7, 1), (8, 2), (9, 0), (10, 1), (24, 0), (27, 3)] {
        let timeout = if view == 7 { None } else { timeout(&four, view - 1) };
        for other in 0..4 {
            let block = child(view, other, timeout.clone());
            four.show(&block);
            let vote = Message::BlockVote(four.vote(1, &block));
            assert_eq!(four.judge(&vote).is_ok(), other == author, "{other} in {view}");
        }
    }
}

#[test]
fn a_decision_needs_a_certified_child_in_the_next_view() {
    let (mut four, [first, second]) = with_chain();
    let decided = |four: &mut Four, block: &Block| four.oracle.decided(R, block.seq, &block.proposal).is_ok();
    assert!(!decided(&mut four, &first), "its child is not certified");
    let certificate = Message::QuorumCertificate(four.certify(&second));
    assert_eq!(four.oracle.seen(&certificate), Ok(()));
    assert!(decided(&mut four, &first));
    assert!(!decided(&mut four, &second));
    assert!(four.oracle.decided(R, Seq(1), &second.proposal).is_err(), "another proposal");
    // A child in a later view commits nothing, whoever certifies it.
    let high = four.certify(&second);
    let late = block(5, 3, &high, Some(four.tc(4, [&high, &high, &high])));
    four.show(&late);
    let certificate = Message::QuorumCertificate(four.certify(&late));
    assert_eq!(four.oracle.seen(&certificate), Ok(()));
    assert!(!decided(&mut four, &second));
    // Its own child in the next view commits both.
    let next = block(6, 4, &four.certify(&late), None);
    four.show(&next);
    for voter in [0, 2] {
        assert!(!decided(&mut four, &late));
        let vote = Message::BlockVote(four.vote(voter, &next));
        assert_eq!(four.oracle.seen(&vote), Ok(()));
    }
    assert!(decided(&mut four, &late) && decided(&mut four, &second), "the third vote is the decider's own");
}

#[test]
fn each_life_speaks_about_its_own_views() {
    let (mut four, [first, second]) = with_chain();
    // The Rejoin of replica 1 is number 1, in view 1.
    let certificate = Message::QuorumCertificate(four.certify(&second));
    assert_eq!(four.oracle.seen(&certificate), Ok(()));
    let genesis = QuorumCertificate::Genesis;
    let timeout = |four: &Four, life, view: u64| {
        let body = StatementBody::Timeout { view: View(view), high_view: View(0) };
        Message::Timeout(Timeout { signed: four.sign_in(life, 1, body), high_qc: genesis.clone() })
    };
    let unborn = timeout(&four, 1, 9);
    assert!(four.judge(&unborn).is_err(), "no Rejoin executed");
    let rejoin = four.sign_in(1, 1, StatementBody::Rejoin { nonce: [0; 16] });
    four.oracle.rejoins(&rejoin, first.seq);
    for (life, view, right) in [(0, 1, true), (0, 2, false), (1, 1, false), (1, 2, true), (2, 30, false)] {
        let message = timeout(&four, life, view);
        assert_eq!(four.judge(&message).is_ok(), right, "life {life} in view {view}");
    }
    // A new life vouches for any state, the old one for those up to its Rejoin: no gap of L.
    for (life, seq, right) in [(0, 1, true), (0, 2, false), (1, 1, true), (1, 2, true), (2, 2, false)] {
        let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([7; 32]) };
        let mut endorsements: Vec<Endorsement> = Vec::new();
        for (signer, life) in [(0, 0), (1, life), (2, 0)] {
            let signature = four.sign_in(life, signer, body).signature;
            endorsements.push(Endorsement { signer: ReplicaId(signer), incarnation: Incarnation(life), signature });
        }
        let message = Message::StableCheckpoint(Certificate { epoch: Epoch(0), body, endorsements });
        assert_eq!(four.judge(&message).is_ok(), right, "life {life} about {seq}");
    }
}

/// Two proposals, votes or TIMEOUTs of one view are seen, in whatever life, and in one's own certificates, too.
#[test]
fn two_statements_of_one_view_are_seen() {
    let (four, [first, second]) = with_chain();
    let high = four.certify(&second);
    let body = StatementBody::Timeout { view: View(9), high_view: View(2) };
    let reborn = Message::Timeout(Timeout { signed: four.sign_in(1, 1, body), high_qc: high.clone() });
    let vote = |block: u8| {
        let body = StatementBody::BlockVote { view: View(2), block: Digest([block; 32]), parent_view: View(1) };
        Message::BlockVote(four.sign(1, body))
    };
    let other = block(2, 2, &four.certify_by(&[0, 1, 3], vote_for(&first)), None);
    for (what, one, two) in [
        ("votes", vote(1), vote(2)),
        ("proposals", four.propose(1, &second), four.propose(1, &other)),
        ("TIMEOUTs", Message::Timeout(four.time_out(1, 9, &four.certify(&first))), reborn),
        ("a vote and one in a certificate", vote(1), Message::QuorumCertificate(high)),
    ] {
        let mut oracle = NoContradiction::default();
        assert_eq!(oracle.left(R, &one), Ok(()), "{what}");
        assert_eq!(oracle.left(R, &one), Ok(()), "the same again: {what}");
        assert!(oracle.left(R, &two).is_err(), "{what}");
        assert_eq!(NoContradiction::default().left(ReplicaId(0), &two), Ok(()), "relaying is no word of one's own");
    }
}
