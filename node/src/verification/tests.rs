use std::sync::Arc;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    ClusterId, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, SecretKey, Seq, Signature, Signer as _,
    Statement, StatementBody, View,
};
use quorate_protocol::request::{Operation, RequestContent, SessionId};

use super::*;

const LIMITS: MessageLimits = MessageLimits { window: 16 };

fn replica_key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn committee() -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: replica_key(id).public_key() }).collect();
    Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).unwrap()
}

fn commit(signer: u16, key: u16, seq: u64) -> Item {
    let statement = Statement {
        epoch: Epoch(0),
        signer: ReplicaId(signer),
        incarnation: Incarnation(0),
        body: StatementBody::Commit(Ballot { view: View(0), seq: Seq(seq), digest: Digest([3; 32]) }),
    };
    Item::Message(Message::Commit(statement.sign(committee().cluster(), &replica_key(key))))
}

pub(super) fn request_of(number: u64, forged: bool) -> Item {
    let key = SecretKey::from_seed(&[99; 32]);
    let content = RequestContent {
        client: key.public_key(),
        session: SessionId([1; 16]),
        number,
        acknowledged_below: 1,
        valid_until: 1,
        operations: vec![Operation { service: 1, bytes: vec![1] }],
    };
    let request = content.sign(committee().cluster(), &key);
    Item::Request(if forged { Request::from_parts(request.content().clone(), Signature([1; 64])) } else { request })
}

/// Bad ones in several places never spoil, hide or move their neighbours, on one thread or several.
#[test]
fn a_pass_keeps_its_order_and_judges_each_item_by_itself() {
    let count = 3 * SPLIT_FROM as u64 + 5;
    let is_bad = |place: u64| place % 97 == 3;
    for threads in [1, 2, 4] {
        let items = (0..count)
            .map(|place| match place % 2 {
                0 => commit(2, if is_bad(place) { 1 } else { 2 }, place),
                _ => request_of(place, is_bad(place)),
            })
            .collect();
        let verifier = Verifier::new(Arc::new(Ed25519));
        let results = verify_all(&verifier, &committee(), &LIMITS, items, threads);
        assert_eq!(results.len() as u64, count);
        for (place, result) in (0..count).zip(results) {
            assert_eq!(result.is_err(), is_bad(place), "item {place} on {threads} threads");
            match result.map(Verified::into_inner) {
                Ok(Item::Message(Message::Commit(signed))) => {
                    let StatementBody::Commit(ballot) = signed.body() else { panic!("{signed:?}") };
                    assert_eq!(ballot.seq, Seq(place));
                }
                Ok(Item::Request(request)) => assert_eq!(request.content().number, place),
                Ok(Item::Message(other)) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
    }
}

/// A statement in the name of another replica is refused whatever link it came by (rule P12).
#[test]
fn the_author_of_a_statement_is_its_signer() {
    let verifier = Verifier::new(Arc::new(Ed25519));
    let results =
        verify_all(&verifier, &committee(), &LIMITS, vec![commit(1, 2, 5), commit(9, 2, 5), commit(2, 2, 5)], 1);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
}
