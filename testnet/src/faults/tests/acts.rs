//! Each behaviour does to a step what its line in the catalogue says.

use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Endorsement, Signature};
use quorate_protocol::engine::{EngineStatus, Recipients, Send};
use quorate_protocol::message::{PrePrepare, Prepare, Status};
use quorate_protocol::pbft::view_change_message::{NewView, ViewChange};
use quorate_protocol::state::TableId;

use super::super::act::Act;
use super::super::checkpoint::Checkpoint;
use super::super::held::{Held, Pace};
use super::super::hotstuff::HotStuff;
use super::super::leader::Leader;
use super::super::seen::{Heard, Seen};
use super::super::view_change::ViewChanges;
use super::super::voter::Voter;
use super::*;

mod hotstuff;

/// The clock of the one step looked at.
const NOW: u64 = 5_000_000;
const VIEW: View = View(4);

/// What a step of replica 0, which leads view 4, wants said.
struct Opportunity {
    hands: Hands,
    seen: Seen,
    heard: Heard,
    held: Held,
    sends: Vec<Send>,
}

fn standing() -> EngineStatus {
    EngineStatus {
        view: VIEW,
        entered: true,
        primary: ReplicaId(0),
        stable: Seq(64),
        stable_digest: Digest([2; 32]),
        decided: Seq(70),
        executed: Seq(70),
        pending: 0,
        unproposed: 0,
        view_changes: 0,
        leaders_take_turns: false,
        crowd: None,
        departure: None,
        transferring: false,
        incarnation: Incarnation(0),
        rejoining: false,
        without_log: Vec::new(),
        too_many_without_log: false,
    }
}

fn proposal() -> Proposal {
    Proposal { time: 9, payload: Payload::Batch(vec![Digest([1; 32]), Digest([2; 32])]) }
}

fn ballot() -> Ballot {
    Ballot { view: VIEW, seq: Seq(71), digest: proposal().digest() }
}

/// A prepared certificate of the number before, in view 3, whose primary is replica 3.
fn proof(hands: &Hands) -> SlotProof {
    let ballot = Ballot { view: View(3), seq: Seq(70), digest: Digest([3; 32]) };
    let endorse = |id: u16, body| {
        let statement = Statement { signer: ReplicaId(id), ..hands.statement(body) };
        let signature: Signature = statement.sign(hands.committee.cluster(), &key(id)).signature;
        Endorsement { signer: ReplicaId(id), incarnation: Incarnation(0), signature }
    };
    let prepares = (0..2).map(|id| endorse(id, StatementBody::Prepare(ballot))).collect();
    SlotProof::Prepared { ballot, primary: endorse(3, StatementBody::PrePrepare(ballot)), prepares }
}

fn view_change(hands: &Hands, id: u16, view: View) -> ViewChange {
    let body = ViewChangeBody { view, stable: None, slots: vec![proof(hands)] };
    let header = Statement { signer: ReplicaId(id), ..hands.statement(StatementBody::Rejoin { nonce: [0; 16] }) };
    ViewChange::sign(body, header, hands.committee.cluster(), &key(id))
}

impl Opportunity {
    fn new(messages: impl FnOnce(&Hands) -> Vec<Message>) -> Opportunity {
        let hands = hands();
        let all = |message| Send { to: Recipients::Others, message, after: None };
        let sends = messages(&hands).into_iter().map(all).collect();
        Opportunity { hands, seen: Seen::default(), heard: Heard::Nothing, held: Held::default(), sends }
    }

    /// How often `behaviour` acts on it.
    fn take(&mut self, behaviour: Behaviour, seed: u64) -> u64 {
        let (mut pace, standing) = (Pace::default(), standing());
        let mut act = Act {
            hands: &self.hands,
            seen: &self.seen,
            heard: &self.heard,
            standing: &standing,
            now: NOW,
            random: &mut ChaCha8Rng::seed_from_u64(seed),
            sends: &mut self.sends,
            held: &mut self.held,
            pace: &mut pace,
        };
        let acted = match behaviour.group() {
            Group::Leader => Leader::default().act(behaviour, &mut act),
            Group::Voter => Voter::default().act(behaviour, &mut act),
            Group::ViewChange => ViewChanges::default().act(behaviour, &mut act),
            Group::Checkpoint => Checkpoint::default().act(behaviour, &mut act),
            Group::Answers => 0,
        };
        acted + HotStuff::default().act(behaviour, &mut act)
    }

    fn refused(&self) -> usize {
        self.sends.iter().filter(|send| !verifies(&self.hands, send.message.clone())).count()
    }
}

fn proposes(hands: &Hands) -> Vec<Message> {
    let signed = hands.sign(StatementBody::PrePrepare(ballot()));
    vec![Message::PrePrepare(PrePrepare { signed, proposal: proposal() })]
}

fn votes(hands: &Hands) -> Vec<Message> {
    let ballot = Ballot { view: View(3), ..ballot() };
    let signed = hands.sign(StatementBody::Prepare(ballot));
    let prepare = Prepare { signed, primary_incarnation: Incarnation(0), primary_signature: Signature([0; 64]) };
    vec![Message::Prepare(prepare), Message::Commit(hands.sign(StatementBody::Commit(ballot)))]
}

fn opens_a_view(hands: &Hands) -> Vec<Message> {
    let named = (0..3).map(|id| (ReplicaId(id), view_change(hands, id, VIEW).digest())).collect();
    let header = hands.statement(StatementBody::Rejoin { nonce: [0; 16] });
    let chosen: Vec<_> = (1..=70).map(|seq| (Seq(seq), Digest([3; 32]))).collect();
    let cluster = hands.committee.cluster();
    vec![Message::NewView(NewView::sign(VIEW, named, &chosen, header, cluster, hands.signer.as_ref()))]
}

#[test]
fn the_honest_messages_are_accepted() {
    for messages in [proposes, votes, opens_a_view] {
        assert_eq!(Opportunity::new(messages).refused(), 0);
    }
    assert_eq!(Opportunity::new(|hands| vec![Message::ViewChange(view_change(hands, 0, VIEW))]).refused(), 0);
}

#[test]
fn a_slow_primary_and_players_with_timers_hold_back_for_less_than_the_timer() {
    let timeout = hands().parameters.view_timeout;
    for (behaviour, messages) in
        [(Behaviour::Slow, proposes as fn(&Hands) -> Vec<Message>), (Behaviour::TimerGames, opens_a_view)]
    {
        let mut opportunity = Opportunity::new(messages);
        assert_eq!(opportunity.take(behaviour, 1), 1);
        assert!(opportunity.sends.is_empty(), "{behaviour}");
        let wake = opportunity.held.wake().expect("something is held");
        assert!(wake > NOW + timeout / 2 && wake < NOW + timeout, "{behaviour} until {wake}");
    }
}

#[test]
fn false_proposals_are_what_they_are_called() {
    let proposed = |behaviour, seed| {
        let mut opportunity = Opportunity::new(proposes);
        assert_eq!(opportunity.take(behaviour, seed), 1, "{behaviour}");
        match &opportunity.sends[0].message {
            Message::PrePrepare(message) => message.clone(),
            other => panic!("{other:?}"),
        }
    };
    let limit = hands().parameters.batch_requests_max;
    let duplicate = proposed(Behaviour::DuplicateRequest, 1).proposal;
    assert_eq!(duplicate.requests(), [Digest([1; 32]), Digest([2; 32]), Digest([1; 32])]);
    let oversized = proposed(Behaviour::OversizedBatch, 1).proposal;
    assert_eq!(oversized.requests().len(), limit + 1);
    for proposal in [duplicate, oversized] {
        assert!(!proposal.is_well_formed(limit));
    }
    for seed in 0..20 {
        let place = |message: &PrePrepare| match *message.signed.body() {
            StatementBody::PrePrepare(ballot) => (ballot.view, ballot.seq),
            other => panic!("{other:?}"),
        };
        let (view, seq) = place(&proposed(Behaviour::WrongView, seed));
        assert!(view != VIEW && seq == Seq(71));
        let (view, seq) = place(&proposed(Behaviour::WrongNumber, seed));
        assert!(view == VIEW && seq != Seq(71));
    }
}

#[test]
fn f_replicas_are_kept_in_the_dark() {
    let mut opportunity = Opportunity::new(|hands| [proposes(hands), votes(hands)].concat());
    assert_eq!(opportunity.take(Behaviour::InTheDark, 1), 1);
    let told: Vec<ReplicaId> = opportunity
        .sends
        .iter()
        .filter(|send| matches!(send.message, Message::PrePrepare(_)))
        .map(|send| match send.to {
            Recipients::One(id) => id,
            Recipients::Others => panic!("to everybody"),
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        opportunity.sends.iter().filter(|send| send.to == Recipients::Others).count() == 2,
        "votes go to everybody"
    );
}

#[test]
fn votes_are_multiplied_withheld_spoilt_and_misattributed() {
    let mut many = Opportunity::new(votes);
    assert_eq!(many.take(Behaviour::VoteMany, 1), 8);
    assert_eq!((many.sends.len(), many.refused()), (10, 0));
    let signatures: std::collections::BTreeSet<Signature> = many
        .sends
        .iter()
        .filter_map(|send| match &send.message {
            Message::Commit(signed) => Some(signed.signature),
            _ => None,
        })
        .collect();
    assert_eq!(signatures.len(), 3, "one statement under three signatures");

    let mut withheld = Opportunity::new(votes);
    assert_eq!(withheld.take(Behaviour::WithholdPrepares, 1), 1);
    assert!(matches!(withheld.sends[0].message, Message::Commit(_)));
    let mut withheld = Opportunity::new(votes);
    assert_eq!(withheld.take(Behaviour::WithholdCommits, 1), 1);
    assert!(matches!(withheld.sends[0].message, Message::Prepare(_)));

    let mut spoilt = Opportunity::new(votes);
    assert_eq!(spoilt.take(Behaviour::BadSignature, 1), 2);
    assert_eq!(spoilt.refused(), 2);

    let mut misattributed = Opportunity::new(votes);
    assert_eq!(misattributed.take(Behaviour::Impersonate, 1), 2);
    assert_eq!((misattributed.sends.len(), misattributed.refused()), (4, 2));
}

#[test]
fn votes_for_other_places_are_properly_signed() {
    for behaviour in [Behaviour::StaleVotes, Behaviour::FutureVotes] {
        for seed in 0..20 {
            let mut elsewhere = Opportunity::new(votes);
            let acted = elsewhere.take(behaviour, seed);
            assert!(acted > 0);
            assert_eq!((elsewhere.sends.len() as u64, elsewhere.refused()), (2 + acted, 0), "{behaviour}");
        }
    }
}

#[test]
fn false_certificates_are_refused_and_omitted_ones_are_missing() {
    for seed in 0..40 {
        let mut lying = Opportunity::new(|hands| vec![Message::ViewChange(view_change(hands, 0, VIEW))]);
        assert_eq!(lying.take(Behaviour::FalseCertificates, seed), 1);
        assert_eq!(lying.refused(), 1, "seed {seed}: {:?}", lying.sends);
    }
    let mut omitting = Opportunity::new(|hands| vec![Message::ViewChange(view_change(hands, 0, VIEW))]);
    assert_eq!(omitting.take(Behaviour::OmitCertificates, 1), 1);
    assert_eq!(omitting.refused(), 0, "it is well formed, and a lie");
    assert!(matches!(&omitting.sends[0].message, Message::ViewChange(message) if message.body().slots.is_empty()));

    let mut several = Opportunity::new(|hands| vec![Message::ViewChange(view_change(hands, 0, VIEW))]);
    assert!(several.take(Behaviour::SeveralViewChanges, 1) > 0);
    let digests: std::collections::BTreeSet<Digest> = several
        .sends
        .iter()
        .filter_map(|send| match &send.message {
            Message::ViewChange(message) => Some(message.digest()),
            _ => None,
        })
        .collect();
    assert_eq!(digests.len(), 2);
}

#[test]
fn false_new_views_are_opened() {
    let mut few = Opportunity::new(opens_a_view);
    assert_eq!(few.take(Behaviour::NewViewTooFew, 1), 1);
    assert_eq!(few.refused(), 1);
    let mut some = Opportunity::new(opens_a_view);
    assert_eq!(some.take(Behaviour::NewViewToSome, 1), 2);
    assert_eq!(some.sends.len(), 1);
    for seed in 0..10 {
        let mut wrong = Opportunity::new(opens_a_view);
        let honest = wrong.sends[0].message.clone();
        assert_eq!(wrong.take(Behaviour::NewViewWrongValues, seed), 1);
        assert_eq!(wrong.refused(), 0, "only its VIEW-CHANGEs show what is wrong with it");
        assert_ne!(wrong.sends[0].message, honest);
    }
}

#[test]
fn states_and_heights_are_lied_about() {
    let mut map = MerkleMap::new();
    for index in 0..50u8 {
        map.insert(&[index], vec![index; 20]);
    }
    let chunk = map.chunk(&[], 100_000).expect("a chunk");
    let served = |_: &Hands| {
        vec![Message::Chunk {
            seq: Seq(64),
            table: TableId(3),
            path: Vec::new(),
            chunk: map.chunk(&[], 100_000).expect("one"),
        }]
    };
    let mut corrupt = Opportunity::new(served);
    assert_eq!(corrupt.take(Behaviour::CorruptChunks, 1), 1);
    assert!(matches!(&corrupt.sends[0].message, Message::Chunk { chunk: other, .. } if *other != chunk));
    let mut elsewhere = Opportunity::new(served);
    assert_eq!(elsewhere.take(Behaviour::MisindexedChunks, 1), 1);
    assert!(matches!(&elsewhere.sends[0].message, Message::Chunk { path, .. } if !path.is_empty()));
    let mut late = Opportunity::new(served);
    assert_eq!(late.take(Behaviour::SlowDrip, 1), 1);
    assert!(late.held.wake().is_some_and(|wake| wake > NOW + 500_000 && wake < NOW + 1_000_000));

    let checkpoint = |hands: &Hands| {
        vec![Message::Checkpoint(hands.sign(StatementBody::Checkpoint { seq: Seq(128), digest: Digest([8; 32]) }))]
    };
    let mut wrong = Opportunity::new(checkpoint);
    assert_eq!(wrong.take(Behaviour::WrongCheckpoint, 1), 3);
    let mut two = Opportunity::new(checkpoint);
    assert_eq!(two.take(Behaviour::TwoCheckpoints, 1), 1);
    assert_eq!((two.sends.len(), two.refused()), (6, 0));

    let boast = |_: &Hands| {
        vec![Message::Status(Status {
            view: VIEW,
            entered: true,
            stable: Seq(64),
            executed: Seq(70),
            view_changes: 0,
            slots: Vec::new(),
            missing_requests: Vec::new(),
            missing_proposals: Vec::new(),
            suspects: false,
        })]
    };
    let mut high = Opportunity::new(boast);
    assert_eq!(high.take(Behaviour::GreatHeight, 1), 1);
    assert!(matches!(&high.sends[0].message, Message::Status(status) if status.stable > Seq(100_000)));
    let mut suspicious = Opportunity::new(boast);
    assert_eq!(suspicious.take(Behaviour::FalseSuspicion, 1), 1);
    assert!(matches!(&suspicious.sends[0].message, Message::Status(status) if status.suspects));
}
