//! What is believed of the lives of a replica that came back (protocol.md, Rejoin).

use super::cluster::{Cluster, key, parameters, request};
use super::rejoin::{header, is_back, record, rejoin, run_until_back, sign};
use crate::engine::{Engine, Input};
use crate::message::Message;
use crate::pbft::view_change_message::{NewView, ViewChange, ViewChangeBody};
use crate::proposal::{Payload, Proposal};
use crate::rejoin::{Rejoined, execute, rejoin_statement};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Incarnation, ReplicaId, Seq, StatementBody, View};

/// What a VIEW-CHANGE of `id` says that holds nothing but the certificate of its stable checkpoint, or not even that.
fn empty_view_change(cluster: &Cluster, id: u16, incarnation: u32, view: u64, with_stable: bool) -> ViewChange {
    let stable = cluster.replicas[&ReplicaId(id)].checkpoints.stable().cloned().filter(|_| with_stable);
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
    let honest = empty_view_change(&cluster, 2, 0, 1, true);
    assert!(cluster.replicas[&ReplicaId(2)].slots.range(stable.next()..).next().is_none(), "A's is honest");
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
    let vote = |cluster: &Cluster| cluster.replicas[&ReplicaId(0)].checkpoints.vote(next, ReplicaId(3)).is_some();
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
        said.set(replica.lives.rejoined.incarnation(ReplicaId(6)) == Incarnation(1));
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
    assert!(cluster.replicas[&ReplicaId(3)].lives.began.is_some(), "it waits for the mark alone");
    let mut table = MerkleMap::new();
    for life in [1, 2] {
        let statement = rejoin_statement(&rejoin(&cluster, 3, life, 77)).expect("a Rejoin");
        assert!(execute(&mut table, &statement, Seq(90 + u64::from(life))));
    }
    let seq = cluster.replicas[&ReplicaId(3)].status().executed;
    cluster.input(ReplicaId(3), Input::Rejoined(Rejoined::read(&table).expect("well formed")));
    cluster.input(ReplicaId(3), Input::LogTrusted);
    assert!(!is_back(&cluster, 3), "at {seq}: nobody would believe it");
    assert!(cluster.untrusted.contains(&ReplicaId(3)));
}
