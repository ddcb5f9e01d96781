use std::sync::Arc;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, ClusterId, Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, ReplicaId, SecretKey,
    Seq, Signed, Signer as _, Statement, StatementBody, Verifier, View,
};
use quorate_protocol::message::{Committed, Message, MessageLimits};
use quorate_protocol::parameters::Parameters;
use quorate_protocol::pbft::view_change_message::{SlotProof, ViewChangeBody};
use quorate_protocol::proposal::{Payload, Proposal};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

mod acts;

#[test]
fn every_behaviour_is_found_by_its_name() {
    for entry in CATALOGUE {
        assert_eq!(entry.name.parse::<Behaviour>(), Ok(entry.behaviour));
        assert_eq!(entry.behaviour.name(), entry.name);
        assert!(!entry.line.is_empty());
    }
    let names: std::collections::BTreeSet<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    assert!("honest-to-god".parse::<Behaviour>().is_err());
}

#[test]
fn a_switch_is_turned_through_any_of_its_clones() {
    let switch = Switch::honest();
    let hand = switch.clone();
    assert!(switch.is_honest());
    hand.set(vec![Misbehaviour::always(Behaviour::Silent)]);
    assert!(!switch.is_honest());
    hand.set(Vec::new());
    assert!(switch.is_honest());
}

#[test]
fn triggers_as_people_write_them() {
    for text in ["always", "primary", "25%", "view:3-9", "seq:100-200"] {
        assert_eq!(text.parse::<Trigger>().map(|trigger| trigger.to_string()), Ok(text.to_owned()));
    }
    assert_eq!("view:3".parse(), Ok(Trigger::Views(3..=3)));
    assert_eq!("vote-many:view:2-4".parse(), Ok(Misbehaviour { when: Trigger::Views(2..=4), ..many() }));
    assert_eq!("vote-many".parse(), Ok(many()));
    for bad in ["never", "0%", "101%", "view:", "view:9-3", "seq:x", "epoch:1", "view:-1"] {
        assert!(bad.parse::<Trigger>().is_err(), "{bad}");
    }
    assert_eq!(
        "withhold-prepares:primary".parse::<Misbehaviour>(),
        Err(MisbehaviourError::NeverActs(Behaviour::WithholdPrepares))
    );
}

fn many() -> Misbehaviour {
    Misbehaviour::always(Behaviour::VoteMany)
}

#[test]
fn a_trigger_hits_where_it_says() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let standing = Standing { leads: false, view: View(3), next: Seq(100) };
    for (text, hits) in [
        ("always", true),
        ("primary", false),
        ("view:3", true),
        ("view:4-9", false),
        ("seq:90-100", true),
        ("seq:101", false),
    ] {
        let trigger: Trigger = text.parse().expect("a trigger");
        assert_eq!(trigger.hits(&standing, &mut random), hits, "{text}");
    }
}

const MEMBERS: u16 = 4;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn hands() -> Hands {
    let members = (0..MEMBERS).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    let cluster = ClusterId(Digest([7; 32]));
    let committee = Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members).expect("a committee");
    Hands {
        id: ReplicaId(0),
        incarnation: Incarnation(0),
        committee: Arc::new(committee),
        signer: Arc::new(key(0)),
        parameters: Parameters::default(),
    }
}

fn verifies(hands: &Hands, message: Message) -> bool {
    let limits = MessageLimits { window: hands.parameters.window };
    Verifier::new(Arc::new(Ed25519)).verify(message, &hands.committee, &limits).is_ok()
}

/// A COMMIT of everybody for one proposal.
fn committed(hands: &Hands, authors: u16) -> Committed {
    let proposal = Proposal { time: 5, payload: Payload::Batch(Vec::new()) };
    let body = StatementBody::Commit(Ballot { view: View(2), seq: Seq(9), digest: proposal.digest() });
    let signed: Vec<Signed> = (0..authors)
        .map(|id| {
            Statement { signer: ReplicaId(id), ..hands.statement(body) }.sign(hands.committee.cluster(), &key(id))
        })
        .collect();
    Committed { certificate: Certificate::collect(&signed).expect("a certificate"), proposal }
}

#[test]
fn every_forged_certificate_is_refused_and_the_true_one_is_not() {
    let hands = hands();
    for authors in [hands.committee.quorum() as u16, MEMBERS] {
        let honest = committed(&hands, authors);
        assert!(verifies(&hands, Message::CommitCertificate(honest.clone())));
        for flaw in forgery::Flaw::ALL {
            let certificate = forgery::spoil(&hands, &honest.certificate, flaw);
            assert_ne!(certificate, honest.certificate);
            let forged = Committed { certificate, ..honest.clone() };
            assert!(!verifies(&hands, Message::CommitCertificate(forged)), "{flaw:?} of {authors}");
        }
    }
}

#[test]
fn a_second_signature_holds_and_differs() {
    let hands = hands();
    let signed = hands.sign(StatementBody::Checkpoint { seq: Seq(64), digest: Digest([1; 32]) });
    for nonce in 0..20 {
        let again = hands.sign_again(&signed, nonce);
        assert_ne!(again.signature, signed.signature);
        assert!(verifies(&hands, Message::Checkpoint(again)), "nonce {nonce}");
    }
}

#[test]
fn a_mutated_message_differs_in_something() {
    let hands = hands();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let honest = Message::CommitCertificate(committed(&hands, MEMBERS));
    let mut changed = 0;
    for _ in 0..200 {
        if let Some(mutant) = mutation::mutate(&hands, &honest, &mut random) {
            assert_ne!(mutant, honest);
            // Nobody but its author could sign it anew, and every field of a certificate is signed.
            assert!(
                !verifies(&hands, mutant.clone()) || !matches!(mutant, Message::CommitCertificate(_)),
                "{mutant:?}"
            );
            changed += 1;
        }
    }
    assert!(changed > 150, "only {changed} of 200");
}

#[test]
fn the_lower_view_is_chosen_where_there_is_one() {
    let hands = hands();
    let ballot = |view, digest| Ballot { view: View(view), seq: Seq(1), digest: Digest([digest; 32]) };
    let view_change = |ballot| {
        let proof = SlotProof::Committed { ballot, commits: Vec::new() };
        view_change::sign(&hands, ViewChangeBody { view: View(9), stable: None, slots: vec![proof] })
    };
    let (low, high) = (view_change(ballot(3, 1)), view_change(ballot(5, 2)));
    assert_eq!(new_view::lower(&[&low, &high]), [(Seq(1), Digest([1; 32]))]);
    assert_eq!(new_view::lower(&[&high]), [(Seq(1), Proposal::NULL.digest())]);
}

#[test]
fn every_pair_is_possible_or_says_why_not() {
    use phase::{Phase, all_names, possible_pairs};
    let pairs = possible_pairs(|protocol| protocol == quorate_crypto::Protocol::Pbft);
    let possible = CATALOGUE
        .iter()
        .filter(|entry| entry.behaviour.is_of(quorate_crypto::Protocol::Pbft))
        .flat_map(|entry| Phase::ALL.map(|phase| (entry.behaviour, phase)))
        .filter(|(behaviour, phase)| phase::impossible(*behaviour, *phase).is_none())
        .count();
    assert_eq!(pairs.len(), possible + client::ClientBehaviour::ALL.len() * Phase::ALL.len());
    assert_eq!(all_names().len(), CATALOGUE.len() + client::ClientBehaviour::ALL.len());
}

#[test]
fn faulty_clients_submit_what_their_name_says() {
    use client::{ClientBehaviour, FaultyClient};
    let hands = hands();
    let replicas: Vec<ReplicaId> = hands.committee.ids().collect();
    let verifier = Verifier::new(Arc::new(Ed25519));
    for behaviour in ClientBehaviour::ALL {
        assert_eq!(behaviour.name().parse(), Ok(behaviour));
        let mut client = FaultyClient::new(behaviour, Arc::new(key(9)), hands.committee.cluster(), replicas.clone(), 4);
        let submissions: Vec<_> = (0..40).flat_map(|_| client.act(1_000)).collect();
        for one in &submissions {
            let verified = verifier.verify(one.request.clone(), &hands.committee, &()).is_ok();
            assert_eq!(verified, one.valid, "{behaviour}");
        }
        let numbers: Vec<u64> = submissions.iter().map(|one| one.request.content().number).collect();
        match behaviour {
            ClientBehaviour::BadSignatures => assert!(submissions.iter().all(|one| !one.valid)),
            ClientBehaviour::Flood => assert!(submissions.len() > 100),
            ClientBehaviour::SameNumber => assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1])),
            ClientBehaviour::NumberRewind => assert!(numbers.windows(2).any(|pair| pair[1] < pair[0])),
            ClientBehaviour::NumberJump => {
                assert!(numbers.windows(2).any(|pair| pair[1] > pair[0].saturating_add(1_000)));
            }
            ClientBehaviour::OneBackup => assert!(submissions.iter().all(|one| one.to.len() == 1)),
            ClientBehaviour::HugeValues => {
                assert!(submissions.iter().any(|one| !one.valid) && submissions.iter().any(|one| one.valid));
            }
        }
    }
}
