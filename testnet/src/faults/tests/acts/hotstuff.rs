//! The same of HotStuff's messages.

use std::collections::BTreeSet;

use quorate_protocol::engine::{Input, Step};
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate, Vote, VoteCertificate};
use quorate_protocol::hotstuff::leaders::Standing;
use quorate_protocol::hotstuff::message::{BlockProposal, HotStuffStatus, Timeout};

use super::super::super::hotstuff::certificates::{QUORUM_FLAWS, TimeoutFlaw, made_up, spoil_quorum, spoil_timeouts};
use super::*;

fn sign_as(hands: &Hands, id: u16, body: StatementBody) -> Signed {
    Statement { signer: ReplicaId(id), ..hands.statement(body) }.sign(hands.committee.cluster(), &key(id))
}

fn vote_for(block: &Block) -> Vote {
    Vote { view: block.view, block: block.digest(), parent_view: block.justify.view() }
}

/// Replicas 0, 1 and 2 vote for it.
fn certify(hands: &Hands, block: &Block) -> QuorumCertificate {
    let vote = vote_for(block);
    let votes: Vec<Signed> = (0..3).map(|id| sign_as(hands, id, vote.body())).collect();
    let Certificate { epoch, endorsements, .. } = Certificate::collect(&votes).expect("a certificate");
    QuorumCertificate::Votes(VoteCertificate { epoch, vote, endorsements })
}

fn timeout(hands: &Hands, id: u16, view: u64, high_qc: &QuorumCertificate) -> Timeout {
    let body = StatementBody::Timeout { view: View(view), high_view: high_qc.view() };
    Timeout { signed: sign_as(hands, id, body), high_qc: high_qc.clone() }
}

/// TIMEOUTs of 1, 2 and 3.
fn gave_up(hands: &Hands, view: u64, high_qc: &QuorumCertificate) -> TimeoutCertificate {
    let timeouts: Vec<Timeout> = (1..4).map(|id| timeout(hands, id, view, high_qc)).collect();
    TimeoutCertificate::collect(timeouts.iter().map(|one| (&one.signed, &one.high_qc))).expect("a certificate")
}

fn propose(hands: &Hands, block: &Block) -> BlockProposal {
    let body = StatementBody::Proposal { view: block.view, block: block.digest() };
    BlockProposal { signed: sign_as(hands, block.author.0, body), block: block.clone() }
}

/// Blocks of views 0 to 4, each on the one before; replica 0 leads view 4.
fn chain(hands: &Hands) -> Vec<Block> {
    let mut chain = vec![Block::genesis()];
    for view in 1..=VIEW.0 {
        let parent = &chain[view as usize - 1];
        let justify = if view == 1 { QuorumCertificate::Genesis } else { certify(hands, parent) };
        chain.push(Block::new(BlockContent {
            view: View(view),
            parent: parent.digest(),
            seq: Seq(view),
            proposal: Proposal { time: view, payload: Payload::Batch(vec![Digest([1; 32]), Digest([2; 32])]) },
            justify,
            timeout: None,
            author: ReplicaId((view % 4) as u16),
            standing: Standing::default(),
        }));
    }
    chain
}

/// The honest block of view 4, and the own vote for it.
fn leads(hands: &Hands) -> Vec<Message> {
    let block = chain(hands).pop().expect("a block");
    vec![Message::BlockProposal(propose(hands, &block)), Message::BlockVote(hands.sign(vote_for(&block).body()))]
}

fn gives_up(hands: &Hands) -> Vec<Message> {
    vec![Message::Timeout(timeout(hands, 0, VIEW.0, &chain(hands)[4].justify))]
}

/// An opportunity of one that has seen the chain, heard it from others up to view 3, and says `messages` itself.
fn opportunity(messages: fn(&Hands) -> Vec<Message>) -> Opportunity {
    let mut opportunity = Opportunity::new(messages);
    for block in &chain(&opportunity.hands)[1..4] {
        let proposal = Message::BlockProposal(propose(&opportunity.hands, block));
        hear(&mut opportunity, block.author.0, proposal);
    }
    let step = Step { sends: opportunity.sends.clone(), ..Step::default() };
    opportunity.seen.say(&step, 3);
    opportunity
}

fn hear(opportunity: &mut Opportunity, from: u16, message: Message) {
    let limits = MessageLimits { window: opportunity.hands.parameters.window };
    let verified = Verifier::new(Arc::new(Ed25519)).verify(message, &opportunity.hands.committee, &limits);
    let input = Input::Message { from: ReplicaId(from), message: verified.expect("holds") };
    opportunity.heard = opportunity.seen.hear(&input, 3);
}

fn blocks(opportunity: &Opportunity) -> Vec<Block> {
    let block = |send: &Send| match &send.message {
        Message::BlockProposal(proposal) => Some(proposal.block.clone()),
        _ => None,
    };
    opportunity.sends.iter().filter_map(block).collect()
}

fn votes_said(opportunity: &Opportunity) -> Vec<Vote> {
    let vote = |send: &Send| match &send.message {
        Message::BlockVote(signed) => Vote::of(signed.body()),
        _ => None,
    };
    opportunity.sends.iter().filter_map(vote).collect()
}

fn timeouts_said(opportunity: &Opportunity) -> Vec<Timeout> {
    let timeout = |send: &Send| match &send.message {
        Message::Timeout(timeout) => Some(timeout.clone()),
        _ => None,
    };
    opportunity.sends.iter().filter_map(timeout).collect()
}

#[test]
fn the_honest_messages_are_accepted() {
    for messages in [leads as fn(&Hands) -> Vec<Message>, gives_up] {
        assert_eq!(opportunity(messages).refused(), 0);
    }
}

#[test]
fn two_blocks_of_one_view_go_to_two_audiences() {
    for (behaviour, other) in [(Behaviour::Equivocate, 2), (Behaviour::EquivocateOne, 1)] {
        for seed in 0..10 {
            let mut lying = opportunity(leads);
            let honest = blocks(&lying)[0].digest();
            assert_eq!(lying.take(behaviour, seed), 1);
            assert_eq!(lying.refused(), 0, "both are properly signed");
            let told = blocks(&lying);
            assert_eq!((told.len(), told.iter().filter(|block| block.digest() != honest).count()), (3, other));
            assert!(told.iter().all(|block| block.view == VIEW));
            assert_eq!(votes_said(&lying).len(), 1);
        }
    }
}

#[test]
fn false_blocks_are_what_they_are_called_and_voted_for() {
    let limit = hands().parameters.batch_requests_max;
    for (behaviour, requests) in [(Behaviour::DuplicateRequest, 3), (Behaviour::OversizedBatch, limit + 1)] {
        let mut lying = opportunity(leads);
        assert_eq!((lying.take(behaviour, 1), lying.refused()), (1, 0), "{behaviour}");
        let told = blocks(&lying);
        assert_eq!(told[0].proposal.requests().len(), requests);
        assert!(!told[0].proposal.is_well_formed(limit));
        assert_eq!(votes_said(&lying), [vote_for(&told[0])]);
    }
    for seed in 0..20 {
        let mut number = opportunity(leads);
        assert_eq!(number.take(Behaviour::WrongNumber, seed), 1);
        assert!(blocks(&number)[0].seq != Seq(4) && blocks(&number)[0].view == VIEW);
        let mut view = opportunity(leads);
        assert_eq!((view.take(Behaviour::WrongView, seed), view.refused()), (1, 1));
        assert_ne!(blocks(&view)[0].view, VIEW);
    }
}

#[test]
fn blocks_and_timeouts_are_held_back_for_less_than_the_timer() {
    let patience = hands().parameters.view_timeout;
    for (behaviour, messages, left) in
        [(Behaviour::Slow, leads as fn(&Hands) -> Vec<Message>, 1), (Behaviour::TimerGames, gives_up, 0)]
    {
        let mut late = opportunity(messages);
        assert_eq!((late.take(behaviour, 1), late.sends.len()), (1, left), "{behaviour}");
        assert!(late.held.wake().is_some_and(|wake| wake > NOW + patience / 2 && wake < NOW + patience));
    }
}

#[test]
fn votes_for_blocks_are_doubled_multiplied_spoilt_and_misattributed() {
    let mut double = opportunity(leads);
    assert_eq!((double.take(Behaviour::DoubleVote, 1), double.refused()), (1, 0));
    let votes = votes_said(&double);
    assert!(votes.len() == 2 && votes[0].view == votes[1].view && votes[0].block != votes[1].block);

    let mut many = opportunity(leads);
    assert_eq!((many.take(Behaviour::VoteMany, 1), many.refused()), (4, 0));
    assert_eq!(votes_said(&many).into_iter().collect::<BTreeSet<_>>().len(), 1);

    for messages in [leads as fn(&Hands) -> Vec<Message>, gives_up] {
        let mut spoilt = opportunity(messages);
        assert_eq!((spoilt.take(Behaviour::BadSignature, 1), spoilt.refused()), (1, 1));
        let mut misattributed = opportunity(messages);
        assert_eq!((misattributed.take(Behaviour::Impersonate, 1), misattributed.refused()), (1, 1));
    }

    let mut withheld = opportunity(leads);
    assert_eq!((withheld.take(Behaviour::WithholdVotes, 1), votes_said(&withheld).len()), (1, 0));
    assert_eq!(blocks(&withheld).len(), 1);
}

#[test]
fn votes_in_other_views_are_properly_signed() {
    for behaviour in [Behaviour::StaleVotes, Behaviour::FutureVotes] {
        for seed in 0..20 {
            let mut elsewhere = opportunity(leads);
            assert_eq!((elsewhere.take(behaviour, seed), elsewhere.refused()), (1, 0), "{behaviour}");
            assert_ne!(votes_said(&elsewhere)[1].view, VIEW);
        }
    }
}

#[test]
fn forks_are_lawful_only_after_the_view_before_was_given_up() {
    for given_up in [false, true] {
        let mut fork = opportunity(leads);
        let chain = chain(&fork.hands);
        if given_up {
            let timeouts = gave_up(&fork.hands, 3, &chain[3].justify);
            hear(&mut fork, 1, Message::TimeoutCertificate(timeouts));
        }
        assert_eq!((fork.take(Behaviour::Fork, 1), fork.refused()), (1, usize::from(!given_up)));
        let told = &blocks(&fork)[0];
        assert_eq!((told.parent, told.seq), (chain[2].digest(), Seq(3)));
    }
    for seed in 0..10 {
        let mut stale = opportunity(leads);
        assert_eq!((stale.take(Behaviour::StaleQc, seed), stale.refused()), (1, 1));
        assert!(blocks(&stale)[0].justify.view() < View(3));
    }
}

#[test]
fn every_forged_certificate_of_hotstuff_is_refused_and_the_true_ones_are_not() {
    let hands = hands();
    let chain = chain(&hands);
    for block in &chain[1..4] {
        let (honest, view) = (certify(&hands, block), block.view);
        let QuorumCertificate::Votes(votes) = &honest else { panic!("unsigned") };
        assert!(verifies(&hands, Message::QuorumCertificate(honest.clone())));
        for flaw in QUORUM_FLAWS {
            let forged = spoil_quorum(&hands, votes, flaw);
            assert_ne!(forged, honest);
            assert!(!verifies(&hands, Message::QuorumCertificate(forged)), "{flaw:?} in view {view}");
        }
        for high_qc in [QuorumCertificate::Genesis, honest] {
            let honest = gave_up(&hands, 4, &high_qc);
            assert!(verifies(&hands, Message::TimeoutCertificate(honest.clone())));
            for flaw in TimeoutFlaw::ALL {
                let forged = spoil_timeouts(&hands, &honest, flaw);
                assert!(!verifies(&hands, Message::TimeoutCertificate(forged)), "{flaw:?} on {high_qc:?}");
            }
            assert!(!verifies(&hands, Message::TimeoutCertificate(made_up(&hands, VIEW, high_qc))));
        }
    }
}

#[test]
fn forged_certificates_are_told_and_built_on() {
    for behaviour in [Behaviour::ForgeQc, Behaviour::ForgeTc] {
        for seed in 0..20 {
            let mut forging = opportunity(leads);
            assert_eq!((forging.take(behaviour, seed), forging.refused()), (2, 2), "{behaviour}, seed {seed}");
        }
    }
}

#[test]
fn timeouts_are_doubled_early_far_ahead_and_say_less_than_is_known() {
    let mut two = opportunity(gives_up);
    assert_eq!((two.take(Behaviour::TwoTimeouts, 1), two.refused()), (1, 0));
    let bodies: BTreeSet<StatementBody> = timeouts_said(&two).iter().map(|one| *one.signed.body()).collect();
    assert_eq!((timeouts_said(&two).len(), bodies.len()), (6, 2));

    for seed in 0..10 {
        let mut hiding = opportunity(gives_up);
        assert_eq!((hiding.take(Behaviour::HideQc, seed), hiding.refused()), (1, 0));
        let said = timeouts_said(&hiding);
        assert!(said.len() == 1 && said[0].high_qc.view() < View(3));
    }

    let mut early = opportunity(leads);
    assert_eq!((early.take(Behaviour::EarlyTimeout, 1), early.refused()), (1, 0));
    assert_eq!(timeouts_said(&early)[0].view(), VIEW);
    let mut late = opportunity(gives_up);
    assert_eq!(late.take(Behaviour::EarlyTimeout, 1), 0, "it has given the view up already");

    let mut spam = opportunity(leads);
    assert_eq!((spam.take(Behaviour::TimeoutSpam, 1), spam.refused()), (3, 0));
    assert!(timeouts_said(&spam).iter().all(|one| one.view() > VIEW));
}

#[test]
fn a_certificate_that_nobody_else_has_shown_is_kept_back() {
    // The others have shown the certificate of view 2; that of view 3 is in the liar's block alone.
    let mut hiding = opportunity(leads);
    assert_eq!(hiding.take(Behaviour::WithholdQc, 1), 2);
    assert!(blocks(&hiding).is_empty() && votes_said(&hiding).is_empty());
    let said = timeouts_said(&hiding);
    assert_eq!((said.len(), said[0].view(), said[0].high_qc.view()), (1, View(3), View(2)));
    assert_eq!(hiding.refused(), 0);

    let mut known = opportunity(leads);
    let shown = chain(&known.hands)[4].justify.clone();
    hear(&mut known, 2, Message::QuorumCertificate(shown));
    assert_eq!(known.take(Behaviour::WithholdQc, 1), 0, "it is no secret");
}

#[test]
fn blocks_asked_for_do_not_come() {
    let answer = |hands: &Hands| {
        let mut blocks = chain(hands).split_off(1);
        blocks.reverse();
        blocks
    };
    let mut lengths = BTreeSet::new();
    for seed in 0..20 {
        let mut serving = opportunity(|_| Vec::new());
        let honest = answer(&serving.hands);
        serving.sends.push(Send {
            to: Recipients::One(ReplicaId(2)),
            message: Message::Blocks(honest.clone()),
            after: None,
        });
        assert_eq!(serving.take(Behaviour::WithholdBlocks, seed), 1);
        match serving.sends.first().map(|send| &send.message) {
            Some(Message::Blocks(blocks)) => lengths.insert((blocks.len(), blocks[0] == honest[0])),
            other => lengths.insert((usize::from(other.is_some()), false)),
        };
    }
    assert_eq!(lengths, BTreeSet::from([(0, false), (1, false), (1, true)]));
}

#[test]
fn an_amnesiac_votes_in_views_that_are_over() {
    let mut forgetting = opportunity(|_| Vec::new());
    let old = chain(&forgetting.hands)[2].clone();
    let proposal = Message::BlockProposal(propose(&forgetting.hands, &old));
    hear(&mut forgetting, 2, proposal);
    assert_eq!((forgetting.take(Behaviour::Amnesia, 1), forgetting.refused()), (1, 0));
    assert_eq!(votes_said(&forgetting), [vote_for(&old)]);
}

#[test]
fn what_is_changed_and_signed_anew_holds() {
    let mut held = 0;
    for seed in 0..200 {
        let mut changed = opportunity(leads);
        let said = |one: &Opportunity| one.sends.iter().map(|send| send.message.clone()).collect::<Vec<_>>();
        let honest = said(&changed);
        changed.take(Behaviour::Mutate, seed);
        // Of a changed signature nothing is left when it is signed anew.
        held += usize::from(said(&changed) != honest && changed.refused() == 0);
    }
    assert!(held > 10, "only {held} would be looked at at all");
}

#[test]
fn heights_and_views_are_lied_about() {
    let mut high = opportunity(|_| {
        vec![Message::HotStuffStatus(HotStuffStatus {
            view: VIEW,
            high_qc_view: View(3),
            high_qc_block: Digest([3; 32]),
            high_tc_view: View(0),
            stable: Seq(64),
            committed: Seq(70),
            executed: Seq(70),
            proposed: false,
            votes: 0,
            timeouts: 0,
            missing_requests: Vec::new(),
        })]
    });
    assert_eq!(high.take(Behaviour::GreatHeight, 1), 1);
    assert!(matches!(
        &high.sends[0].message,
        Message::HotStuffStatus(status) if status.stable > Seq(100_000) && status.view > View(100_000)
    ));
}

/// Without a word of HotStuff's nothing of it is said either, and nothing is drawn: PBFT's seeds keep their meaning.
#[test]
fn liars_of_pbft_say_nothing_of_hotstuff() {
    for entry in CATALOGUE.iter().filter(|entry| !entry.behaviour.is_of(quorate_crypto::Protocol::Pbft)) {
        let mut lying = Opportunity::new(|hands| [proposes(hands), votes(hands)].concat());
        assert_eq!(lying.take(entry.behaviour, 1), 0, "{}", entry.name);
    }
}
