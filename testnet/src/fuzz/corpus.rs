//! Honest examples to start from, and the one cluster that all targets share.

use quorate_crypto::encoding::encode;
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    ClusterId, Committee, Digest, Epoch, FaultModel, Incarnation, Member, ReplicaId, Seq, Signed, Statement,
    StatementBody, Verifier, View,
};
use quorate_kv::{
    Compare, CompareTarget, DeleteRequest, KeyRange, Operation, PutRequest, RangeRequest, Relation, TxnOperation,
    TxnRequest,
};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::evidence::Evidence;
use quorate_protocol::message::Message;
use quorate_protocol::reply::{Outcome, Reply};

use super::replicas::{PROTOCOLS, Schedule};
use crate::sim::signing::Keyring;

/// Replicas, and the clients behind them in the keyring.
pub(super) const REPLICAS: usize = 4;
pub(super) const CLIENTS: usize = 3;
/// The one that lies.
pub(super) const LIAR: ReplicaId = ReplicaId(3);
/// Numbers in flight.
pub(super) const WINDOW: u64 = 16;

/// Keys of the simulator's scheme, which is hundreds of times cheaper than a curve.
pub(super) fn keyring() -> Keyring {
    Keyring::new(7, REPLICAS + CLIENTS, false)
}

pub(super) fn verifier() -> Verifier {
    Verifier::new(keyring().scheme())
}

pub(super) fn committee() -> Committee {
    let keyring = keyring();
    let members = (0..REPLICAS)
        .map(|index| Member { id: ReplicaId(index as u16), key: keyring.key(index).public_key() })
        .collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members)
        .unwrap_or_else(|error| unreachable!("four members are a committee: {error}"))
}

/// Schedules in which requests are ordered, time passes, somebody dies, the primary falls and the liar lies.
pub(super) fn schedules() -> Vec<Vec<u8>> {
    let orderly: Vec<u8> = (1..20u8).flat_map(|number| [10, number * 4, 0, 31, 0, 31]).collect();
    let restarts =
        [10, 4, 0, 31, 14, 0, 10, 8, 0, 31, 14, 1, 0, 31, 12, 100, 0, 31, 14, 3, 0, 31, 12, 200, 0, 31].to_vec();
    let slow: Vec<u8> =
        (1..8u8).flat_map(|number| [10, number * 4 + 64, 12, 200, 0, 31, 12, 200, 0, 31, 0, 31]).collect();
    let lies: Vec<u8> =
        (1..16u8).flat_map(|number| [10, number * 4, 9, number, number, 0, 7, 9, 3, number, 0, 31]).collect();
    vec![orderly, restarts, slow, lies]
}

/// All of them, one after the other, with replicas of each protocol.
fn played() -> impl Iterator<Item = Schedule> {
    PROTOCOLS.into_iter().map(|protocol| {
        let mut schedule = Schedule::new(protocol);
        for bytes in schedules() {
            schedule.play(&bytes);
        }
        schedule
    })
}

pub(super) fn messages() -> Vec<Vec<u8>> {
    let mut kinds: Vec<(std::mem::Discriminant<Message>, usize)> = Vec::new();
    let mut kept = Vec::new();
    for message in played().flat_map(|schedule| schedule.seen) {
        let kind = std::mem::discriminant(&message);
        let seen = match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, seen)) => seen,
            None => {
                kinds.push((kind, 0));
                let Some((_, seen)) = kinds.last_mut() else { continue };
                seen
            }
        };
        *seen += 1;
        // A few of each kind.
        if *seen <= 6 {
            kept.push(encode(&message));
        }
    }
    kept
}

pub(super) fn records() -> Vec<Vec<u8>> {
    let of_all = played().flat_map(|schedule| schedule.records);
    of_all.map(|records| encode(&records.into_iter().map(|(_, record)| record).collect::<Vec<_>>())).collect()
}

fn requests() -> Vec<quorate_protocol::request::Request> {
    let of = |message| match message {
        Message::Requests(requests) => requests,
        _ => Vec::new(),
    };
    played().flat_map(|schedule| schedule.seen).flat_map(of).take(3).collect()
}

pub(super) fn client_messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<ClientMessage> = requests().into_iter().map(ClientMessage::Submit).collect();
    let operation = quorate_protocol::request::Operation { service: 1, bytes: vec![1, 2, 3] };
    messages.extend([
        ClientMessage::Status { id: 1 },
        ClientMessage::Read { id: 2, operation: operation.clone(), revision: Some(3) },
        ClientMessage::Watch { id: 4, range: operation, from_revision: 5 },
        ClientMessage::Unwatch { id: 4 },
    ]);
    messages.iter().map(encode).collect()
}

pub(super) fn replica_messages() -> Vec<Vec<u8>> {
    let reply = Reply {
        request: Digest([1; 32]),
        seq: Seq(2),
        index: 3,
        time: 4,
        revision: 5,
        outcome: Outcome::Results(vec![vec![6; 40], Vec::new()]),
    };
    let busy = ReplicaMessage::Busy { request: Digest([1; 32]), retry_after: 100 };
    vec![encode(&ReplicaMessage::Reply(reply)), encode(&busy)]
}

fn ballot(digest: u8, body: fn(Ballot) -> StatementBody, signer: ReplicaId) -> Signed {
    let ballot = Ballot { view: View(0), seq: Seq(1), digest: Digest([digest; 32]) };
    Statement { epoch: Epoch(0), signer, incarnation: Incarnation(0), body: body(ballot) }
        .sign(committee().cluster(), keyring().key(usize::from(signer.0)).as_ref())
}

pub(super) fn evidence() -> Vec<Vec<u8>> {
    let guilty =
        Evidence::Contradiction(ballot(1, StatementBody::Prepare, LIAR), ballot(2, StatementBody::Prepare, LIAR));
    let innocent = ReplicaId(1);
    let once = ballot(1, StatementBody::Commit, innocent);
    vec![encode(&guilty), encode(&Evidence::Contradiction(once, once))]
}

pub(super) fn operations() -> Vec<Vec<u8>> {
    let put = |key: &str, value: &str| PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    let range = |key: &str, end: &str| KeyRange { key: key.into(), range_end: end.into() };
    let compare = Compare { range: range("a", ""), relation: Relation::Equal, target: CompareTarget::Version(1) };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![TxnOperation::Put(put("b", "2")), TxnOperation::Put(put("c", "3"))],
        failure: vec![TxnOperation::Delete(DeleteRequest { range: range("a", "z"), prev_kv: true })],
    };
    let list = [
        Operation::Put(put("a", "1")),
        Operation::Put(put("a\0b", "zero")),
        Operation::Txn(txn),
        Operation::Range(RangeRequest::new(range("a", "z"))),
        Operation::Delete(DeleteRequest { range: range("a", "b"), prev_kv: false }),
        Operation::Compact(quorate_kv::CompactionRequest { revision: 3 }),
        Operation::Put(put("a", "4")),
    ];
    let framed = |operation: &Operation| {
        let bytes = encode(operation);
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    };
    vec![list.iter().flat_map(framed).collect(), list.iter().rev().flat_map(framed).collect()]
}

/// Keys that are in the map, begin others, or are not there.
pub(super) const MAP_KEYS: [&str; 6] = ["", "a", "ab", "abc", "b", "zz"];

pub(super) fn map() -> MerkleMap {
    let words = ["a", "ab", "abd", "ac", "b", "bcd", "c", "z"];
    words.iter().map(|word| (word.as_bytes(), [word.as_bytes(), &[b'.'; 40]].concat())).collect()
}

pub(super) fn map_proofs() -> Vec<Vec<u8>> {
    MAP_KEYS.iter().map(|key| encode(&map().prove(key.as_bytes()))).collect()
}

pub(super) fn chunks() -> Vec<Vec<u8>> {
    let root = map().chunk(&[], 64);
    let below = map().chunk(&[], 1);
    root.into_iter().chain(below).map(|chunk| encode(&chunk)).collect()
}

/// Where a disk's bytes change, and to what.
pub(super) fn edits() -> Vec<Vec<u8>> {
    vec![Vec::new(), vec![0, 0, 0, 9, 1], vec![1, 0, 16, 3, 0xff, 1, 0, 32, 0, 0]]
}

pub(super) fn genesis() -> Vec<Vec<u8>> {
    vec![super::files::genesis_text().into_bytes()]
}

pub(super) fn configuration() -> Vec<Vec<u8>> {
    vec![super::files::CONFIGURATION.as_bytes().to_vec(), Vec::new()]
}

pub(super) fn transactions() -> Vec<Vec<u8>> {
    let forms =
        ["mod(\"a\") = \"3\"\nvalue(\"b\") > \"x\"\n\nput a 1\nget b\n\ndel c d\n", "\n\nput a \"b \\\" c\"\n\n\n"];
    forms.iter().map(|form| form.as_bytes().to_vec()).collect()
}
