//! Every behaviour happens, and the cluster stays safe and live while it does; what it signs convicts it or nobody.

use quorate_crypto::{Protocol, ReplicaId};

use crate::faults::client::ClientBehaviour;
use crate::faults::{Behaviour, CATALOGUE, Evidence, Group, Misbehaviour, Trigger};
use crate::sim::plan::Choice;
use crate::sim::{Counters, Options, run};

/// Seeds run at least, and most until a behaviour has acted.
const SEEDS: std::ops::Range<u64> = 700..760;
const AT_LEAST: u64 = 3;

/// Who lies, and beside whom: views must change for a lie in a view change, and it is the second replica's turn then.
fn liars(behaviour: Behaviour, replicas: usize) -> Vec<(ReplicaId, Misbehaviour)> {
    let liar = u16::from(behaviour.group() == Group::ViewChange);
    let mut liars = vec![(ReplicaId(liar), Misbehaviour::always(behaviour))];
    if behaviour.group() == Group::ViewChange && replicas == 7 {
        // Not from the start: something must have been prepared before.
        let when = Trigger::Numbers(6..=u64::MAX);
        liars.push((ReplicaId(0), Misbehaviour { behaviour: Behaviour::Silent, when, until: None }));
    }
    liars
}

fn a_group_acts_and_changes_nothing_that_matters(group: Group, protocol: Protocol) {
    let choice = Choice::from(protocol);
    let of_group = CATALOGUE.iter().filter(|entry| entry.group == group);
    for entry in of_group.filter(|entry| entry.behaviour.is_of(protocol)) {
        let mut acted = 0;
        let mut convicted = 0;
        for replicas in [4, 7] {
            let faults = liars(entry.behaviour, replicas);
            let options = Options { protocol: choice, replicas: Some(replicas), faults, ..Options::default() };
            let mut counters = Counters::default();
            for seed in SEEDS {
                let report = run(seed, &options);
                assert_eq!(report.violation, None, "{}, seed {seed} of {replicas} replicas", entry.name);
                counters.add(&report.counters);
                let happened = counters.behaviours.get(entry.name).is_some_and(|acted| *acted > 0);
                let seen = counters.evidence > 0 || entry.behaviour.evidence() != Evidence::Convicts;
                if happened && seen && seed - SEEDS.start + 1 >= AT_LEAST {
                    break;
                }
            }
            acted += u64::from(counters.behaviours.get(entry.name).is_some_and(|acted| *acted > 0));
            convicted += counters.evidence;
        }
        assert_eq!(acted, 2, "{} never acted among 4, or among 7 replicas", entry.name);
        match entry.behaviour.evidence() {
            Evidence::Convicts => assert!(convicted > 0, "{} leaves no evidence", entry.name),
            Evidence::None => assert_eq!(convicted, 0, "{} contradicts itself", entry.name),
            Evidence::MayConvict => {}
        }
    }
}

#[test]
fn lying_leaders() {
    a_group_acts_and_changes_nothing_that_matters(Group::Leader, Protocol::Pbft);
}

#[test]
fn lying_voters() {
    a_group_acts_and_changes_nothing_that_matters(Group::Voter, Protocol::Pbft);
}

#[test]
fn lies_in_view_changes() {
    a_group_acts_and_changes_nothing_that_matters(Group::ViewChange, Protocol::Pbft);
}

#[test]
fn lies_about_checkpoints_and_states() {
    a_group_acts_and_changes_nothing_that_matters(Group::Checkpoint, Protocol::Pbft);
}

#[test]
fn lies_to_clients() {
    a_group_acts_and_changes_nothing_that_matters(Group::Answers, Protocol::Pbft);
}

#[test]
fn lying_leaders_of_hotstuff() {
    a_group_acts_and_changes_nothing_that_matters(Group::Leader, Protocol::HotStuff);
}

#[test]
fn lying_voters_of_hotstuff() {
    a_group_acts_and_changes_nothing_that_matters(Group::Voter, Protocol::HotStuff);
}

#[test]
fn lies_in_timeouts_of_hotstuff() {
    a_group_acts_and_changes_nothing_that_matters(Group::ViewChange, Protocol::HotStuff);
}

#[test]
fn lies_about_checkpoints_states_and_blocks_of_hotstuff() {
    a_group_acts_and_changes_nothing_that_matters(Group::Checkpoint, Protocol::HotStuff);
}

#[test]
fn lies_to_clients_of_hotstuff() {
    a_group_acts_and_changes_nothing_that_matters(Group::Answers, Protocol::HotStuff);
}

under_both!(faulty_clients, liars_and_faulty_clients_are_deterministic);

fn faulty_clients(protocol: Choice) {
    for behaviour in ClientBehaviour::ALL {
        for replicas in [4, 7] {
            let client_faults = vec![behaviour];
            let options = Options { protocol, replicas: Some(replicas), client_faults, ..Options::default() };
            for seed in SEEDS.start..SEEDS.start + AT_LEAST {
                let report = run(seed, &options);
                assert_eq!(report.violation, None, "{behaviour}, seed {seed} of {replicas} replicas");
                let acted = report.counters.behaviours.get(behaviour.name());
                assert!(acted.is_some_and(|acted| *acted > 0), "{behaviour} never acted in seed {seed}");
            }
        }
    }
}

/// A campaign of behaviours chosen by name, twice over: liars draw from no generator but their own.
fn liars_and_faulty_clients_are_deterministic(protocol: Choice) {
    let own = if protocol == Choice::Pbft { Behaviour::ForgedCertificate } else { Behaviour::ForgeQc };
    for behaviour in [Behaviour::Mutate, Behaviour::Replay, Behaviour::VoteMany, Behaviour::Slow, own] {
        let faults = vec![(ReplicaId(0), Misbehaviour::always(behaviour))];
        let client_faults = vec![ClientBehaviour::Flood, ClientBehaviour::NumberJump];
        let options = Options { protocol, replicas: Some(4), faults, client_faults, ..Options::default() };
        assert_eq!(run(77, &options).trace_hash, run(77, &options).trace_hash, "{behaviour}");
    }
}
