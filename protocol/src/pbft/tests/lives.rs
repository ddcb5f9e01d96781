//! What is believed of the lives of a replica that came back (protocol.md, Rejoin).

use super::cluster::{Cluster, key, parameters, request};
use super::rejoin::{header, is_back, record, rejoin, run_until_back, sign};
use crate::engine::{Departure, Engine, Input};
use crate::message::{Message, PrePrepare};
use crate::pbft::view_change_message::{NewView, ViewChange, ViewChangeBody};
use crate::proposal::{Payload, Proposal};
use crate::rejoin::{Rejoined, execute, rejoin_statement};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Signed, StatementBody, View};

/// What a VIEW-CHANGE of `id` says that holds nothing but the certificate of its stable checkpoint, or not even that.
fn empty_view_change(cluster: &Cluster, id: u16, incarnation: u32, view: u64, with_stable: bool) -> ViewChange {
    let stable = cluster.replicas[&ReplicaId(id)].foundation.checkpoints.stable().cloned().filter(|_| with_stable);
    let body = ViewChangeBody { view: View(view), stable, slots: vec![] };
    ViewChange::sign(body, header(cluster, id, incarnation), cluster.committee.cluster(), &key(id))
}

/// The schedule of protocol.md: R (3) alone leaves view 0 in its life `old`, and only the liar Z (1), who leads view 1, gets
/// its VIEW-CHANGE. R is wiped, comes back, and with B (0) and Z commits a number that A (2) never hears of. Z then opens
/// view 1 on R's old VIEW-CHANGE, a lie of its own and A's honest one, none of which mentions that number, and assigns it
/// anew. `lives` is how often R is wiped before.
fn old_view_change_after_a_rejoin(lives: u32) -> Cluster {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    for _ in 1..lives {
        cluster.wipe(3, &parameters());
        run_until_back(&mut cluster, 3, 30);
        cluster.run(12_000);
    }
    // R alone leaves view 0; what it says reaches Z alone, and Z keeps it.
    let old = empty_view_change(&cluster, 3, lives - 1, 1, true);
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 30);
    assert_eq!(cluster.replicas[&ReplicaId(3)].status().incarnation, Incarnation(lives));
    cluster.run(2_000);
    let stable = cluster.replicas[&ReplicaId(3)].status().stable;
    assert_eq!(cluster.replicas.values().map(|replica| replica.status().view).max(), Some(View(0)));

    // B, Z and R commit; A hears nothing of it, and B no COMMIT of Z, so that only R knows of the decision.
    cluster.filter = Box::new(|from, to, message| {
        let from_z_to_b = from == ReplicaId(1) && to == ReplicaId(0) && matches!(message, Message::Commit(_));
        to != ReplicaId(2) && from != ReplicaId(2) && !from_z_to_b
    });
    let lost = request(1, 500);
    for id in [0, 1, 3] {
        cluster.submit_to(id, &lost);
    }
    cluster.settle();
    assert!(cluster.has_decided(3, &lost) && !cluster.has_decided(0, &lost) && !cluster.has_decided(2, &lost));
    let number = cluster.decided[&ReplicaId(3)].iter().find(|(_, one)| !one.requests.is_empty() && one.seq > stable);
    let number = number.map(|(seq, _)| *seq).expect("decided");

    // From here on Z is what the test says.
    cluster.stop(1);
    cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Status(_)));
    let now = cluster.now;
    let left_out = cluster.replicas.get_mut(&ReplicaId(2)).expect("runs");
    assert!(left_out.slots.range(stable.next()..).next().is_none(), "A knows nothing");
    left_out.start_view_change(now, View(1), Departure::TimerExpired);
    let honest = left_out.own_view_change.clone().expect("A left view 0");
    cluster.input(ReplicaId(2), Input::Timer);
    let lie = ViewChangeBody { view: View(1), stable: None, slots: vec![] };
    let lie = ViewChange::sign(lie, header(&cluster, 1, 0), cluster.committee.cluster(), &key(1));
    let named = vec![(ReplicaId(1), lie.digest()), (ReplicaId(2), honest.digest()), (ReplicaId(3), old.digest())];
    let choice = crate::pbft::safety::choose([&lie, &honest, &old]);
    let new_view =
        NewView::sign(View(1), named, &choice.slots, header(&cluster, 1, 0), cluster.committee.cluster(), &key(1));
    let other = Proposal { time: cluster.now.wall, payload: Payload::Batch(vec![]) };
    let ballot = Ballot { view: View(1), seq: number, digest: other.digest() };
    let assigned = sign(&cluster, 1, 0, StatementBody::PrePrepare(ballot));
    let commit = sign(&cluster, 1, 0, StatementBody::Commit(ballot));
    for to in [0, 2, 3] {
        cluster.deliver(ReplicaId(1), ReplicaId(to), Message::NewView(new_view.clone()));
        for message in [&lie, &honest, &old] {
            cluster.deliver(ReplicaId(1), ReplicaId(to), Message::ViewChange(message.clone()));
        }
        let message = crate::message::PrePrepare { signed: assigned, proposal: other.clone() };
        cluster.deliver(ReplicaId(1), ReplicaId(to), Message::PrePrepare(message));
        cluster.deliver(ReplicaId(1), ReplicaId(to), Message::Commit(commit));
    }
    cluster.settle();
    cluster
}

fn is_in_view_one(cluster: &Cluster, id: u16) -> bool {
    let status = cluster.replicas[&ReplicaId(id)].status();
    status.view == View(1) && status.entered
}

#[test]
fn a_view_opened_on_an_old_lifes_view_change_decides_nothing() {
    let cluster = old_view_change_after_a_rejoin(1);
    assert!(!is_in_view_one(&cluster, 0), "who committed with the new life does not enter");
    assert!(!is_in_view_one(&cluster, 3), "nor does the new life itself");
    assert!(is_in_view_one(&cluster, 2), "who was left out may, and decides nothing there alone");
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

/// A second wipe: what the replica left behind in its second life must not be taken for its third life's.
#[test]
fn a_second_wipe_answered_with_a_stale_incarnation_ends_in_another_life() {
    let cluster = old_view_change_after_a_rejoin(2);
    assert!(!is_in_view_one(&cluster, 0) && !is_in_view_one(&cluster, 3));
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}

#[test]
fn votes_of_the_wrong_life_are_refused() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    cluster.run(2_000);
    let line = record(&cluster, 0, 3).expect("it rejoined").seq.plus(parameters().window);
    let stable = cluster.replicas[&ReplicaId(0)].status().stable;
    let above = stable.next();
    assert!(above > line);
    let ballot = |seq| Ballot { view: View(0), seq, digest: Proposal::NULL.digest() };
    let held = |cluster: &Cluster, seq| {
        let slot = cluster.replicas[&ReplicaId(0)].slots.get(&seq);
        slot.and_then(|slot| slot.rounds.get(&View(0))).is_some_and(|round| round.commits.contains_key(&ReplicaId(3)))
    };
    for (incarnation, counts) in [(0, false), (2, false), (1, true)] {
        let commit = sign(&cluster, 3, incarnation, StatementBody::Commit(ballot(above)));
        cluster.deliver(ReplicaId(3), ReplicaId(0), Message::Commit(commit));
        assert_eq!(held(&cluster, above), counts, "incarnation {incarnation}");
    }
    let prepares = |cluster: &Cluster| {
        let slot = cluster.replicas[&ReplicaId(0)].slots.get(&above);
        slot.and_then(|slot| slot.rounds.get(&View(0))).map_or(0, |round| round.prepares.len())
    };
    for (incarnation, expected) in [(0, 0), (1, 1)] {
        let prepare = crate::message::Prepare {
            signed: sign(&cluster, 3, incarnation, StatementBody::Prepare(ballot(above))),
            primary_incarnation: Incarnation(0),
            primary_signature: quorate_crypto::Signature([0; 64]),
        };
        cluster.deliver(ReplicaId(3), ReplicaId(0), Message::Prepare(prepare));
        assert_eq!(prepares(&cluster), expected, "incarnation {incarnation}");
    }
    let next = stable.plus(parameters().checkpoint_interval);
    let vote =
        |cluster: &Cluster| cluster.replicas[&ReplicaId(0)].foundation.checkpoints.vote(next, ReplicaId(3)).is_some();
    for (incarnation, counts) in [(0, false), (1, true)] {
        let body = StatementBody::Checkpoint { seq: next, digest: quorate_crypto::Digest([5; 32]) };
        let signed = sign(&cluster, 3, incarnation, body);
        cluster.deliver(ReplicaId(3), ReplicaId(0), Message::Checkpoint(signed));
        assert_eq!(vote(&cluster), counts, "incarnation {incarnation}");
    }
    let known = |cluster: &Cluster| cluster.replicas[&ReplicaId(0)].view_changes.get(&ReplicaId(3)).cloned();
    for (incarnation, taken) in [(0, false), (1, true), (2, true)] {
        let message = empty_view_change(&cluster, 3, incarnation, 1, true);
        cluster.deliver(ReplicaId(3), ReplicaId(0), Message::ViewChange(message.clone()));
        assert_eq!(known(&cluster) == Some(message), taken, "incarnation {incarnation}");
    }
}

/// A VIEW-CHANGE held from before goes when the Rejoin executes, and one of a life not known yet takes its place.
#[test]
fn an_old_view_change_is_forgotten() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let old = empty_view_change(&cluster, 3, 0, 1, true);
    cluster.deliver(ReplicaId(3), ReplicaId(0), Message::ViewChange(old));
    assert!(cluster.replicas[&ReplicaId(0)].view_changes.contains_key(&ReplicaId(3)));
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    assert!(!cluster.replicas[&ReplicaId(0)].view_changes.contains_key(&ReplicaId(3)));
}

#[test]
fn a_new_view_of_a_life_that_rejoined_rests_on_its_own_view_change() {
    let cluster = Cluster::new(4);
    let [zero, two, three] = [0, 2, 3].map(|id| empty_view_change(&cluster, id, 0, 1, false));
    let own = empty_view_change(&cluster, 1, 1, 1, false);
    let old = empty_view_change(&cluster, 1, 0, 1, false);
    let opened = |incarnation, view_changes: &[ViewChange]| {
        let named = view_changes.iter().map(|message| (message.author(), message.digest())).collect();
        let header = header(&cluster, 1, incarnation);
        let new_view = NewView::sign(View(1), named, &[], header, cluster.committee.cluster(), &key(1));
        crate::pbft::safety::new_view_holds(&new_view, view_changes, &cluster.committee, parameters().window).is_ok()
    };
    assert!(opened(0, &[zero.clone(), two.clone(), three.clone()]), "in the first life it need not");
    assert!(!opened(1, &[zero.clone(), two.clone(), three.clone()]));
    assert!(!opened(1, &[zero.clone(), old, two.clone()]), "of an earlier life");
    assert!(opened(1, &[zero, own, two]));
}

/// A state that is fetched tells at once who rejoined. Between its arrival and execution's word of it a NEW-VIEW on an old
/// life's VIEW-CHANGE must find whoever fetched it no less careful than before.
#[test]
fn whoever_fetches_a_state_knows_its_lives_with_it() {
    let mut cluster = Cluster::new(7);
    cluster.submit(&request(1, 1));
    cluster.settle();
    let sleeper = cluster.replicas.remove(&ReplicaId(2)).expect("runs");
    cluster.wipe(6, &parameters());
    run_until_back(&mut cluster, 6, 20);
    for number in 2..=60 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    cluster.replicas.insert(ReplicaId(2), sleeper);
    let seen = std::rc::Rc::new(std::cell::Cell::new(false));
    let said = std::rc::Rc::clone(&seen);
    cluster.installed = Box::new(move |replica| {
        said.set(replica.foundation.lives.rejoined.incarnation(ReplicaId(6)) == Incarnation(1));
    });
    cluster.run(3_000);
    assert_eq!(cluster.executed(2), cluster.executed(0));
    assert!(seen.get(), "fetched, and its lives known before anything else was");
}

/// The new life is over before it began: another Rejoin of this replica executed while its log was being marked.
#[test]
fn a_life_that_is_over_when_it_begins_is_not_lived() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.mark_waits = true;
    cluster.wipe(3, &parameters());
    cluster.run(2_000);
    assert!(!is_back(&cluster, 3) && cluster.untrusted.contains(&ReplicaId(3)));
    assert!(cluster.replicas[&ReplicaId(3)].foundation.lives.began.is_some(), "it waits for the mark alone");
    let seq = cluster.replicas[&ReplicaId(3)].status().executed;
    let over = lives(&cluster, 3, &[91, 92]);
    cluster.input(ReplicaId(3), Input::Rejoined(over));
    cluster.input(ReplicaId(3), Input::LogTrusted);
    assert!(!is_back(&cluster, 3), "at {seq}: nobody would believe it");
    assert!(cluster.untrusted.contains(&ReplicaId(3)));
}

/// A state in which `id` rejoined at these numbers.
fn lives(cluster: &Cluster, id: u16, at: &[u64]) -> Rejoined {
    let mut table = MerkleMap::new();
    for (life, seq) in (1..).zip(at) {
        let statement = rejoin_statement(&rejoin(cluster, id, life, 77)).expect("a Rejoin");
        assert!(execute(&mut table, &statement, Seq(*seq)));
    }
    Rejoined::read(&table).expect("well formed")
}

#[test]
fn assignments_of_the_wrong_life_are_refused() {
    let mut cluster = Cluster::new(4);
    let known = lives(&cluster, 0, &[0]);
    cluster.input(ReplicaId(1), Input::Rejoined(known));
    // The line is at 16.
    for (incarnation, seq, counts) in [(1, 16, false), (0, 17, false), (2, 17, false), (0, 16, true), (1, 17, true)] {
        let ballot = Ballot { view: View(0), seq: Seq(seq), digest: Proposal::NULL.digest() };
        let signed = sign(&cluster, 0, incarnation, StatementBody::PrePrepare(ballot));
        let message = Message::PrePrepare(PrePrepare { signed, proposal: Proposal::NULL });
        cluster.deliver(ReplicaId(0), ReplicaId(1), message);
        let held = cluster.replicas[&ReplicaId(1)].current_ballot(Seq(seq)).is_some();
        assert_eq!(held, counts, "incarnation {incarnation} about {seq}");
    }
}

/// The VIEW-CHANGE that replica `id` would send now, as it is honest.
fn honest_view_change(cluster: &Cluster, id: u16, incarnation: u32, view: u64) -> ViewChange {
    let replica = &cluster.replicas[&ReplicaId(id)];
    let stable = replica.foundation.checkpoints.stable().cloned();
    let slots = replica
        .slots
        .range(replica.foundation.stable().next()..)
        .filter_map(|(_, slot)| slot.proof(View(view)))
        .collect();
    let body = ViewChangeBody { view: View(view), stable, slots };
    ViewChange::sign(body, header(cluster, id, incarnation), cluster.committee.cluster(), &key(id))
}

/// Replica 1, in a life of its, opens view 1 for `to` on these VIEW-CHANGEs.
fn open_view_one(cluster: &mut Cluster, incarnation: u32, view_changes: &[ViewChange], to: u16) {
    let named = view_changes.iter().map(|message| (message.author(), message.digest())).collect();
    let choice = crate::pbft::safety::choose(view_changes);
    let header = header(cluster, 1, incarnation);
    let new_view = NewView::sign(View(1), named, &choice.slots, header, cluster.committee.cluster(), &key(1));
    cluster.deliver(ReplicaId(1), ReplicaId(to), Message::NewView(new_view));
    for message in view_changes {
        cluster.deliver(ReplicaId(1), ReplicaId(to), Message::ViewChange(message.clone()));
    }
}

/// What a NEW-VIEW carries over are votes of its author like any other: a life that does not speak about a number assigns it in
/// no way.
#[test]
fn a_new_view_that_assigns_numbers_of_another_life_is_not_entered() {
    for (rejoined, enters) in [(false, true), (true, false)] {
        let mut cluster = Cluster::new(4);
        cluster.submit(&request(1, 1));
        cluster.settle();
        let view_changes = [0, 1, 2].map(|id| honest_view_change(&cluster, id, u32::from(id == 1), 1));
        assert_eq!(view_changes[0].body().slots.len(), 1, "number 1 is carried over");
        if rejoined {
            let known = lives(&cluster, 1, &[0]);
            cluster.input(ReplicaId(3), Input::Rejoined(known));
        }
        open_view_one(&mut cluster, 1, &view_changes, 3);
        assert_eq!(is_in_view_one(&cluster, 3), enters, "life 1 begins above 16: {rejoined}");
    }
}

/// Replica 2 gave a COMMIT L above what it has executed: a Rejoin it does not know may lie between. It enters no view without its
/// own proofs before it has executed more.
#[test]
fn who_has_not_executed_enough_to_know_all_lives_waits() {
    let mut cluster = Cluster::new(4);
    let sleeper = cluster.replicas.remove(&ReplicaId(2)).expect("runs");
    for number in 1..=16 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    let stable = cluster.replicas[&ReplicaId(0)].foundation.checkpoints.stable().cloned().expect("there");
    cluster.replicas.insert(ReplicaId(2), sleeper);
    cluster.filter = Box::new(|_, to, message| {
        to != ReplicaId(2) || matches!(message, Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_))
    });
    cluster.deliver(ReplicaId(0), ReplicaId(2), Message::StableCheckpoint(stable));
    cluster.submit(&request(1, 17));
    cluster.settle();
    let replica = &cluster.replicas[&ReplicaId(2)];
    assert_eq!((replica.status().executed, replica.status().stable), (Seq(0), Seq(16)));
    assert!(replica.slots[&Seq(17)].own_commit.is_some());
    let view_changes = [0, 1, 3].map(|id| honest_view_change(&cluster, id, 0, 1));
    open_view_one(&mut cluster, 0, &view_changes, 2);
    cluster.input(ReplicaId(2), Input::Timer);
    assert!(!is_in_view_one(&cluster, 2));
    // With number 1 executed, no Rejoin it does not know lies L below its COMMIT.
    cluster.input(ReplicaId(2), Input::Executed { seq: Seq(1), results: Digest::ZERO, next_deadline: None });
    cluster.input(ReplicaId(2), Input::Timer);
    assert!(is_in_view_one(&cluster, 2));
}

/// The view that everybody is in rests on the VIEW-CHANGE of the life that is over: whoever comes back needs it to follow.
#[test]
fn a_replica_on_its_way_back_takes_its_own_old_view_change() {
    let mut cluster = Cluster::new(4);
    let sleeper = cluster.replicas.remove(&ReplicaId(0)).expect("runs");
    cluster.submit(&request(1, 1));
    cluster.run(1_500);
    cluster.replicas.insert(ReplicaId(0), sleeper);
    cluster.run(1_000);
    let kept = &cluster.replicas[&ReplicaId(2)].new_views[&View(1)];
    assert!(kept.view_changes.iter().any(|message| message.author() == ReplicaId(3)));
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    assert!((0..4).all(|id| is_in_view_one(&cluster, id)));
}

/// Everything in the memory of a replica that it signed itself.
fn own_statements(cluster: &Cluster, id: u16) -> Vec<Signed> {
    let replica = &cluster.replicas[&ReplicaId(id)];
    let mut all: Vec<Signed> = Vec::new();
    for slot in replica.slots.values() {
        all.extend(slot.own_commit);
        for round in slot.rounds.values() {
            all.extend(round.pre_prepare);
            all.extend(round.prepares.values().map(|prepare| prepare.signed));
            all.extend(round.commits.values());
        }
    }
    all.extend(replica.foundation.checkpoints.all_own());
    all.extend(replica.foundation.own_executed.values());
    all.extend(replica.own_view_change.iter().map(|message| message.signed));
    all.extend(replica.new_views.values().map(|kept| kept.new_view.signed));
    all.retain(|signed| signed.signer() == ReplicaId(id));
    all
}

/// The log that a replica gave up still holds what its old life signed. No restart makes the new one say it again.
#[test]
fn a_restart_brings_back_nothing_that_another_life_signed() {
    for victim in [1u16, 2] {
        let mut cluster = Cluster::new(4);
        let sleeper = cluster.replicas.remove(&ReplicaId(0)).expect("runs");
        for number in 1..=6 {
            cluster.submit(&request(1, number));
            cluster.run(if number == 1 { 1_500 } else { 50 });
        }
        cluster.replicas.insert(ReplicaId(0), sleeper);
        cluster.run(1_000);
        assert!(own_statements(&cluster, victim).len() > 4);
        // It leaves view 1 alone, and is told that it had left view 7 as well.
        let now = cluster.now;
        cluster.replicas.get_mut(&ReplicaId(victim)).expect("runs").start_view_change(
            now,
            View(2),
            Departure::TimerExpired,
        );
        cluster.input(ReplicaId(victim), Input::Timer);
        let left =
            sign(&cluster, victim, 0, StatementBody::ViewChange { view: View(7), body: Proposal::NULL.digest() });
        cluster.deliver(ReplicaId(3), ReplicaId(victim), Message::YourStatements(vec![left]));
        assert!(!is_back(&cluster, victim));
        cluster.restart(ReplicaId(victim), &parameters());
        assert!(!is_back(&cluster, victim));
        assert_eq!(own_statements(&cluster, victim), []);
        cluster.link(ReplicaId(victim));
        run_until_back(&mut cluster, victim, 20);
        for _ in 0..2 {
            cluster.restart(ReplicaId(victim), &parameters());
            let signed = own_statements(&cluster, victim);
            assert!(signed.iter().all(|signed| signed.statement.incarnation == Incarnation(1)), "{signed:?}");
            cluster.link(ReplicaId(victim));
            cluster.submit(&request(1, 7));
            cluster.run(1_000);
        }
        cluster.assert_agreement();
        cluster.assert_no_contradiction();
    }
}

/// How long the next Rejoin of a replica waits: a backup waits twice as long as the primary, whatever either knows.
#[test]
fn no_backup_is_ready_for_a_rejoin_that_the_primary_holds_back() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.wipe(3, &parameters());
    run_until_back(&mut cluster, 3, 10);
    let statement = rejoin_statement(&rejoin(&cluster, 3, 2, 5)).expect("a Rejoin");
    let digest = rejoin(&cluster, 3, 2, 5).digest();
    let admits = |cluster: &mut Cluster, id: u16, timeouts: u64| {
        let mut later = cluster.now;
        later.monotonic += timeouts * parameters().view_timeout;
        let replica = cluster.replicas.get_mut(&ReplicaId(id)).expect("runs");
        let leads = replica.leads();
        replica.foundation.admits_rejoin(later, &statement, digest, leads)
    };
    assert!(!admits(&mut cluster, 0, 15) && admits(&mut cluster, 0, 21), "the primary");
    assert!(!admits(&mut cluster, 1, 35) && admits(&mut cluster, 1, 41), "a backup");
    cluster.run(10_000);
    for id in [0, 1] {
        cluster.restart(ReplicaId(id), &parameters());
    }
    assert!(admits(&mut cluster, 0, 0), "a primary that cannot know when the last one executed");
    assert!(!admits(&mut cluster, 1, 35) && admits(&mut cluster, 1, 41), "a backup that cannot waits from its start");
}
