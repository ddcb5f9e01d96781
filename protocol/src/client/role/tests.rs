use quorate_crypto::{ClusterId, Epoch, FaultModel, Member, SecretKey, Seq, View};

use super::*;
use crate::client::message::{ReplicaMessage, WatchUpdate};
use crate::client::submission::Heard;
use crate::reply::{Outcome, Refusal};

mod requests;
mod watches;

/// A committee of n with keys of their own.
pub(crate) fn committee(n: u16) -> Committee {
    let members = (0..n)
        .map(|id| Member { id: ReplicaId(id), key: SecretKey::from_seed(&[id as u8 + 1; 32]).public_key() })
        .collect();
    let cluster = ClusterId(Digest([9; 32]));
    Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members).expect("a valid committee")
}

const SECOND: Micros = 1_000_000;

/// At `millis` of both clocks; the wall clock started at a million.
fn at(millis: u64) -> Now {
    Now { monotonic: millis * 1_000, wall: 1_000_000 + millis }
}

fn operation(text: &str) -> Operation {
    Operation { service: 1, bytes: text.as_bytes().to_vec() }
}

/// A role with links to all of n replicas.
fn role(n: u16) -> ClientRole {
    let key = Arc::new(SecretKey::from_seed(&[77; 32]));
    let mut role = ClientRole::new(committee(n), key, SessionId([5; 16]), ClientParameters::default());
    for id in 0..n {
        role.link_up(at(0), ReplicaId(id));
    }
    assert_eq!(role.poll(), None);
    role
}

fn drain(role: &mut ClientRole) -> Vec<Output> {
    std::iter::from_fn(|| role.poll()).collect()
}

/// Submits one operation and returns its ticket and what was sent.
fn submit(role: &mut ClientRole, now: Now) -> (Ticket, Request) {
    let ticket = role.submit(now, vec![operation("put")], 10 * SECOND).expect("room");
    (ticket, sent_request(&drain(role)).expect("it is sent at once"))
}

/// The request that was sent last, to everybody.
fn sent_request(outputs: &[Output]) -> Option<Request> {
    outputs.iter().rev().find_map(|output| match output {
        Output::Send { message: ClientMessage::Submit(request), .. } => Some(request.clone()),
        _ => None,
    })
}

fn reply(request: &Request, result: &str) -> Reply {
    Reply {
        request: request.digest(),
        seq: Seq(7),
        index: 0,
        time: 1_000_100,
        revision: 3,
        outcome: Outcome::Results(vec![result.as_bytes().to_vec()]),
    }
}

fn refused(request: &Request, reason: Refusal) -> ReplicaMessage {
    ReplicaMessage::Refused { request: request.digest(), reason }
}

fn status(replica: u16, revision: u64, time: u64) -> ReplicaStatus {
    ReplicaStatus {
        replica: ReplicaId(replica),
        view: View(0),
        primary: ReplicaId(0),
        executed: Seq(revision),
        revision,
        time,
        checkpoint: Seq(0),
        checkpoint_digest: Digest::ZERO,
    }
}

fn hear(role: &mut ClientRole, now: Now, from: u16, message: ReplicaMessage) -> Vec<Output> {
    role.received(now, ReplicaId(from), message);
    drain(role)
}

fn ending(outputs: &[Output]) -> Option<&RequestEnding> {
    outputs.iter().find_map(|output| match output {
        Output::Request { ending, .. } => Some(ending),
        _ => None,
    })
}

fn accused(outputs: &[Output]) -> Vec<Accusation> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Accusation(accusation) => Some(*accusation),
            _ => None,
        })
        .collect()
}
