//! Every oracle must be able to fail.

use std::sync::Arc;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    ClusterId, Digest, Epoch, Incarnation, PublicKey, ReplicaId, SecretKey, Seq, Signature, Statement, StatementBody,
    Verified, Verifier, View,
};
use quorate_kv::{
    Operation, OperationResult, Outcome as KvOutcome, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use quorate_protocol::engine::{Decided, EngineStatus};
use quorate_protocol::execution::BatchOutcome;
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Parameters;
use quorate_protocol::pbft::view_change_message::{ViewChange, ViewChangeBody};
use quorate_protocol::proposal::{Payload, Proposal};
use quorate_protocol::reply::{Outcome, Reply};
use quorate_protocol::request::{self, Request, RequestContent, SessionId};

use super::contradiction::NoContradiction;
use super::exactly_once::ExactlyOnce;
use super::memory::BoundedMemory;
use super::validity::Validity;
use super::{linearizability, liveness};
use crate::sim::history::{Ended, History};
use crate::sim::signing::Keyring;

const CLUSTER: ClusterId = ClusterId(Digest([3; 32]));

fn key() -> SecretKey {
    SecretKey::from_seed(&[8; 32])
}

fn statement(body: StatementBody) -> Statement {
    Statement { epoch: Epoch(0), signer: ReplicaId(1), incarnation: Incarnation(0), body }
}

fn ballot(view: u64, digest: u8) -> Ballot {
    Ballot { view: View(view), seq: Seq(5), digest: Digest([digest; 32]) }
}

fn commit(view: u64, digest: u8) -> Message {
    Message::Commit(statement(StatementBody::Commit(ballot(view, digest))).sign(CLUSTER, &key()))
}

#[test]
fn two_commits_of_one_number_are_seen() {
    let mut oracle = NoContradiction::default();
    let replica = ReplicaId(1);
    assert_eq!(oracle.left(replica, &commit(2, 1)), Ok(()));
    assert_eq!(oracle.left(replica, &commit(2, 1)), Ok(()), "the same again is no contradiction");
    assert_eq!(oracle.left(replica, &commit(3, 2)), Ok(()), "nor is another view");
    assert!(oracle.left(replica, &commit(2, 2)).is_err());
}

#[test]
fn a_view_change_that_hides_a_commit_is_seen_in_either_order() {
    let body = ViewChangeBody { view: View(3), stable: None, slots: Vec::new() };
    let header = statement(StatementBody::Rejoin { nonce: [0; 16] });
    let hiding = Message::ViewChange(ViewChange::sign(body, header, CLUSTER, &key()));
    let replica = ReplicaId(1);
    let mut oracle = NoContradiction::default();
    assert_eq!(oracle.left(replica, &commit(2, 1)), Ok(()));
    assert!(oracle.left(replica, &hiding).is_err());
    let mut oracle = NoContradiction::default();
    assert_eq!(oracle.left(replica, &hiding), Ok(()));
    assert!(oracle.left(replica, &commit(2, 1)).is_err());
}

/// A signed request, verified as a replica would.
fn request(number: u64) -> Verified<Request> {
    let ring = Keyring::new(1, 5, false);
    let members = (0..4).map(|id| quorate_crypto::Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
    let committee =
        quorate_crypto::Committee::new(CLUSTER, Epoch(0), quorate_crypto::FaultModel::Byzantine, members.collect())
            .expect("four members");
    let content = RequestContent {
        client: ring.key(4).public_key(),
        session: SessionId([1; 16]),
        number,
        acknowledged_below: 0,
        valid_until: 1,
        operations: vec![request::Operation { service: 1, bytes: Vec::new() }],
    };
    let request = content.sign(CLUSTER, ring.key(4).as_ref());
    Verifier::new(ring.scheme()).verify(request, &committee, &()).expect("it is signed")
}

fn batch(seq: u64, request: &Verified<Request>) -> (Decided, BatchOutcome) {
    let reply = reply(seq, request.digest(), &[]);
    let proposal = Proposal { time: seq, payload: Payload::Batch(vec![request.digest()]) };
    let decided = Decided { seq: Seq(seq), proposal, requests: vec![Arc::new(request.clone())], after: None };
    let outcome = BatchOutcome {
        rejoined: false,
        seq: Seq(seq),
        time: seq,
        replies: vec![(PublicKey([0; 32]), reply)],
        executed: 1,
        leaves: Vec::new(),
        results_root: Digest::ZERO,
        revision: 1,
        next_deadline: None,
    };
    (decided, outcome)
}

fn reply(seq: u64, request: Digest, result: &[u8]) -> Reply {
    let outcome = Outcome::Results(vec![result.to_vec()]);
    Reply { request, seq: Seq(seq), index: 0, time: seq, revision: 1, outcome }
}

#[test]
fn a_number_that_executes_twice_is_seen() {
    let mut oracle = ExactlyOnce::default();
    let (decided, outcome) = batch(1, &request(1));
    assert_eq!(oracle.executed(&decided, &outcome), Ok(()));
    let (decided, outcome) = batch(2, &request(1));
    assert!(oracle.executed(&decided, &outcome).is_err());
}

#[test]
fn an_answer_other_than_the_orders_is_seen() {
    let mut oracle = ExactlyOnce::default();
    let request = request(1);
    let (decided, outcome) = batch(1, &request);
    assert_eq!(oracle.executed(&decided, &outcome), Ok(()));
    assert_eq!(oracle.answered(ReplicaId(0), &reply(1, request.digest(), &[])), Ok(()));
    assert!(oracle.answered(ReplicaId(0), &reply(1, request.digest(), b"other")).is_err());
    assert!(oracle.answered(ReplicaId(0), &reply(1, Digest([9; 32]), &[])).is_err());
}

#[test]
fn what_nobody_signed_is_seen() {
    let mut oracle = Validity::default();
    let signed = request(1);
    oracle.signed(&signed);
    assert_eq!(oracle.executed(&signed), Ok(()));
    assert!(oracle.executed(&request(2)).is_err());
    let forged = Request::from_parts(signed.content().clone(), Signature([1; 64]));
    assert!(oracle.executed(&forged).is_err());
}

/// A history of a put and a later read of the same key, with the read's answer; and the order they executed in.
fn put_then_read(read_seq: u64, value: Option<&[u8]>) -> (History, ExactlyOnce) {
    let (put, read) = (request(1), request(2));
    let range = quorate_kv::KeyRange::single(*b"a");
    let mut history = History::default();
    let kvs = value.map(|value| quorate_kv::KeyValue {
        key: b"a".to_vec(),
        value: value.to_vec(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    });
    let wrote = OperationResult { revision: 2, outcome: KvOutcome::Put(PutResponse::default()) }.to_bytes();
    let found = RangeResponse { kvs: kvs.into_iter().collect(), ..RangeResponse::default() };
    let found = OperationResult { revision: 2, outcome: KvOutcome::Range(found) }.to_bytes();
    let first = history.ask(0, 1, 10, Operation::Put(PutRequest::new(*b"a", *b"x")));
    history.signed(first, put.digest());
    history.end(first, 20, Ended::Executed(reply(2, put.digest(), &wrote)));
    let second = history.ask(0, 2, 30, Operation::Range(RangeRequest::new(range)));
    history.signed(second, read.digest());
    history.end(second, 40, Ended::Executed(reply(read_seq, read.digest(), &found)));
    let mut once = ExactlyOnce::default();
    for (seq, request) in [(2, &put), (read_seq, &read)] {
        let (decided, outcome) = batch(seq, request);
        once.executed(&decided, &outcome).expect("each once");
    }
    (history, once)
}

#[test]
fn a_stale_read_and_a_broken_real_time_order_are_seen() {
    let (history, once) = put_then_read(3, Some(b"x"));
    assert_eq!(linearizability::check(&history, &once), Ok(()));
    let (history, once) = put_then_read(3, Some(b"y"));
    assert!(linearizability::check(&history, &once).is_err(), "a value nobody wrote");
    let (history, once) = put_then_read(3, None);
    assert!(linearizability::check(&history, &once).is_err(), "the write is lost");
    let (history, once) = put_then_read(1, None);
    assert!(linearizability::check(&history, &once).is_err(), "asked later, ordered earlier");
}

fn status(executed: u64, pending: usize) -> EngineStatus {
    EngineStatus {
        view: View(0),
        entered: true,
        primary: ReplicaId(0),
        stable: Seq(0),
        stable_digest: Digest::ZERO,
        decided: Seq(executed),
        executed: Seq(executed),
        pending,
        unproposed: pending,
        view_changes: 0,
        leaders_take_turns: false,
        crowd: None,
        departure: None,
        transferring: false,
        incarnation: Incarnation(0),
        rejoining: false,
        without_log: vec![],
        too_many_without_log: false,
    }
}

#[test]
fn what_grows_without_bound_and_what_never_ends_is_seen() {
    let parameters = Parameters { window: 8, pending_requests_max: 4, batch_requests_max: 1, ..Parameters::default() };
    let oracle = BoundedMemory::new(&parameters);
    let replica = ReplicaId(0);
    assert_eq!(oracle.check(replica, &status(16, 4), Seq(0), 0), Ok(()));
    assert!(oracle.check(replica, &status(17, 4), Seq(0), 0).is_err());
    assert_eq!(oracle.check(replica, &status(17, 4), Seq(1), 0), Ok(()), "its snapshot was ahead of its log");
    assert!(oracle.check(replica, &status(18, 4), Seq(1), 0).is_err());
    // 76 may wait, and what the proposals of two windows name may be pending beside them.
    assert_eq!(oracle.check(replica, &status(16, 92), Seq(0), 0), Ok(()));
    assert!(oracle.check(replica, &status(16, 93), Seq(0), 0).is_err());
    assert!(oracle.check(replica, &status(16, 0), Seq(0), u64::MAX).is_err());

    let mut history = History::default();
    assert!(liveness::unfinished(&history, &[(replica, status(3, 0))], Seq(3)).is_none());
    assert!(liveness::unfinished(&history, &[(replica, status(2, 0))], Seq(3)).is_some());
    assert!(liveness::unfinished(&history, &[(replica, status(3, 1))], Seq(3)).is_some());
    let rejoining = EngineStatus { rejoining: true, ..status(3, 0) };
    assert!(liveness::unfinished(&history, &[(replica, rejoining)], Seq(3)).is_some());
    history.ask(0, 1, 1, Operation::Put(PutRequest::new(*b"a", *b"x")));
    assert!(liveness::unfinished(&history, &[(replica, status(3, 0))], Seq(3)).is_some());
}
