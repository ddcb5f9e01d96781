//! Statements handed back to who signed them, and logs that lack them.

use super::cluster::{Cluster, key, parameters, request};
use crate::engine::{Engine, Input};
use crate::message::{Message, MessageLimits};
use crate::record::Record;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Epoch, Incarnation, ReplicaId, Seq, Signed, Statement, StatementBody, View};

#[test]
fn a_lost_log_is_noticed_when_peers_hand_statements_back() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    // Replica 2 comes back with an older log.
    let records = cluster.records.get_mut(&ReplicaId(2)).expect("it wrote");
    records.truncate(1);
    cluster.restart(ReplicaId(2), &parameters());
    cluster.input(ReplicaId(1), Input::LinkUp(ReplicaId(2)));
    cluster.settle();
    assert!(cluster.halts.is_empty());
    // By now it is back, in another life.
    cluster.run(1_000);
    let status = cluster.replicas[&ReplicaId(2)].status();
    assert_eq!((status.rejoining, status.incarnation), (false, Incarnation(1)));
    cluster.assert_no_contradiction();
}

#[test]
fn the_step_that_finds_the_log_lost_says_nothing_but_rejoin() {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.records.get_mut(&ReplicaId(2)).expect("it wrote").truncate(1);
    cluster.restart(ReplicaId(2), &parameters());
    let statements = signed_statements(&cluster, 2);
    let message =
        cluster.verifier.verify(Message::YourStatements(statements), &cluster.committee, &MessageLimits { window: 16 });
    let now = cluster.now;
    let replica = cluster.replicas.get_mut(&ReplicaId(2)).expect("it runs");
    let step = replica.step(now, Input::Message { from: ReplicaId(1), message: message.expect("its own") });
    assert!(step.distrust_log && step.sends.is_empty() && step.halt.is_none());
    assert!(replica.foundation.is_rejoining());
    let step = replica.step(now, Input::TurnEnd);
    assert!(matches!(step.records.as_slice(), [Record::Rejoin(_)]), "{:?}", step.records);
    let waits = |send: &crate::engine::Send| matches!(send.message, Message::Status(_)) || send.after.is_some();
    assert!(step.sends.iter().all(waits), "the Rejoin waits for its record");
}

fn signed_statements(cluster: &Cluster, of: u16) -> Vec<Signed> {
    cluster.said.get(&ReplicaId(of)).cloned().unwrap_or_default()
}

#[test]
fn a_complete_log_is_not_taken_for_a_lost_one() {
    let mut cluster = Cluster::new(4);
    for number in 1..=9 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    for id in 0..4u16 {
        cluster.restart(ReplicaId(id), &parameters());
        for other in (0..4u16).filter(|other| *other != id) {
            cluster.input(ReplicaId(other), Input::LinkUp(ReplicaId(id)));
        }
        cluster.settle();
    }
    assert!(cluster.halts.is_empty(), "{:?}", cluster.halts);
    assert!(cluster.replicas.values().all(|replica| !replica.foundation.is_rejoining()));
}

/// Replicas 1 to 3 in view 1, which replica 1 opened, with something decided in it.
fn in_view_one() -> Cluster {
    let mut cluster = Cluster::new(4);
    cluster.submit(&request(1, 1));
    cluster.settle();
    cluster.stop(0);
    cluster.submit(&request(1, 2));
    cluster.run(1_500);
    assert_eq!((cluster.view(1), cluster.view(2), cluster.view(3)), (1, 1, 1));
    assert!(cluster.has_decided(2, &request(1, 2)));
    cluster
}

/// What `from` hands back to `to` on a new link.
fn handed_back(cluster: &mut Cluster, from: u16, to: u16) -> Vec<Signed> {
    cluster.settle();
    cluster.input(ReplicaId(from), Input::LinkUp(ReplicaId(to)));
    let found = cluster.queue.drain(..).find_map(|(_, _, message)| match message {
        Message::YourStatements(statements) => Some(statements),
        _ => None,
    });
    found.unwrap_or_default()
}

#[test]
fn what_opened_and_what_left_a_view_is_handed_back() {
    let mut cluster = in_view_one();
    let to_primary = handed_back(&mut cluster, 2, 1);
    let says = |of: &[Signed], what: fn(&StatementBody) -> bool| of.iter().any(|signed| what(signed.body()));
    assert!(says(&to_primary, |body| matches!(body, StatementBody::NewView { view: View(1), .. })), "{to_primary:?}");
    assert!(
        says(&to_primary, |body| matches!(body, StatementBody::ViewChange { view: View(1), .. })),
        "{to_primary:?}"
    );
    assert!(to_primary.iter().all(|signed| signed.signer() == ReplicaId(1)));
    // Of view 0 nobody keeps votes, but what was decided there is not stable yet: at least one of the two decided it.
    let to_backup = handed_back(&mut cluster, 2, 3);
    let left = |body: &StatementBody| matches!(body, StatementBody::Commit(ballot) if ballot.view == View(0));
    assert!(says(&to_primary, left) || says(&to_backup, left), "{to_primary:?}, {to_backup:?}");
}

fn tell(cluster: &mut Cluster, to: u16, body: StatementBody) -> bool {
    let statement = Statement { epoch: Epoch(0), signer: ReplicaId(to), incarnation: Incarnation(0), body };
    let signed = statement.sign(cluster.committee.cluster(), &key(to));
    cluster.deliver(ReplicaId(2), ReplicaId(to), Message::YourStatements(vec![signed]));
    cluster.replicas[&ReplicaId(to)].foundation.is_rejoining()
}

/// Each kind of statement that a log may lack, told to a replica alone: it rejoins on exactly those that its log lacks.
#[test]
fn every_kind_of_promise_that_a_log_lacks_is_noticed() {
    let ballot = |view, seq| Ballot { view: View(view), seq: Seq(seq), digest: Digest([9; 32]) };
    let other = Digest([9; 32]);
    for (body, lacks) in [
        (StatementBody::Prepare(ballot(1, 9)), true),
        (StatementBody::Commit(ballot(1, 9)), true),
        (StatementBody::PrePrepare(ballot(2, 9)), true),
        // Of a view that was left, above the stable checkpoint.
        (StatementBody::Commit(ballot(0, 9)), true),
        (StatementBody::Prepare(ballot(0, 9)), false),
        (StatementBody::ViewChange { view: View(2), body: other }, true),
        // It entered that view, and its log does not know how it left the one before.
        (StatementBody::ViewChange { view: View(1), body: other }, true),
        (StatementBody::NewView { view: View(5), body: other }, true),
        (StatementBody::Checkpoint { seq: Seq(8), digest: other }, true),
        (StatementBody::Executed { seq: Seq(99), results: other }, false),
    ] {
        let mut cluster = in_view_one();
        assert_eq!(tell(&mut cluster, 3, body), lacks, "{body:?}");
    }
    // Below the stable checkpoint a log is cut.
    let mut cluster = in_view_one();
    for number in 3..=9 {
        cluster.submit(&request(1, number));
        cluster.settle();
    }
    assert!(cluster.replicas[&ReplicaId(3)].status().stable >= Seq(4));
    for view in [0, 1] {
        assert!(!tell(&mut cluster, 3, StatementBody::Commit(ballot(view, 4))), "view {view}");
    }
    assert!(!tell(&mut cluster, 3, StatementBody::Checkpoint { seq: Seq(4), digest: other }));
}

/// The primary's log ends with its VIEW-CHANGE: the NEW-VIEW it sent was lost with the last frame. It must not open the view
/// a second time.
#[test]
fn a_new_view_that_the_log_lacks_is_noticed() {
    let mut cluster = in_view_one();
    let records = cluster.records.get_mut(&ReplicaId(1)).expect("it wrote");
    let left = records.iter().position(|(_, record)| matches!(record, Record::LeftView(_))).expect("it left view 0");
    records.truncate(left + 1);
    cluster.restart(ReplicaId(1), &parameters());
    let status = cluster.replicas[&ReplicaId(1)].status();
    assert_eq!((status.view, status.entered), (View(1), false));
    let statements = handed_back(&mut cluster, 2, 1);
    let opened = statements.into_iter().find(|signed| matches!(signed.body(), StatementBody::NewView { .. }));
    let told = Message::YourStatements(vec![opened.expect("handed back")]);
    cluster.deliver(ReplicaId(2), ReplicaId(1), told);
    assert!(cluster.replicas[&ReplicaId(1)].foundation.is_rejoining());
}

/// The same after views changed: whoever restarts with its whole log goes on in the same life, whatever is handed back.
#[test]
fn a_complete_log_of_several_views_is_not_taken_for_a_lost_one() {
    let mut cluster = Cluster::new(4);
    for leader in [0u16, 1, 2, 3, 0] {
        let number = 10 + cluster.view(3) * 10;
        for number in number..number + 3 {
            cluster.submit(&request(1, number));
            cluster.settle();
        }
        let sleeper = cluster.replicas.remove(&ReplicaId(leader)).expect("runs");
        cluster.submit(&request(1, number + 3));
        cluster.run(2_000);
        cluster.replicas.insert(ReplicaId(leader), sleeper);
        cluster.run(500);
        for id in 0..4u16 {
            cluster.restart(ReplicaId(id), &parameters());
            cluster.link(ReplicaId(id));
            cluster.settle();
        }
        assert!(
            cluster.replicas.values().all(|replica| !replica.foundation.is_rejoining()),
            "after replica {leader} led"
        );
    }
    assert!(cluster.view(3) >= 4);
    cluster.assert_agreement();
    cluster.assert_no_contradiction();
}
