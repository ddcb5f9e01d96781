use super::*;
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Ed25519, Epoch, FaultModel, Member, ReplicaId, SecretKey, Verifier};
use std::sync::Arc;

fn committee(fill: u8) -> Committee {
    let members = (0..4u16)
        .map(|id| Member { id: ReplicaId(id), key: SecretKey::from_seed(&[id as u8 + 1; 32]).public_key() })
        .collect();
    Committee::new(ClusterId(Digest([fill; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee")
}

fn content() -> RequestContent {
    RequestContent {
        client: SecretKey::from_seed(&[77; 32]).public_key(),
        session: SessionId([5; 16]),
        number: 1,
        acknowledged_below: 1,
        valid_until: 1000,
        operations: vec![Operation { service: 1, bytes: vec![1, 2, 3] }],
    }
}

fn sign(content: RequestContent) -> Request {
    content.sign(committee(9).cluster(), &SecretKey::from_seed(&[77; 32]))
}

fn verifies(request: Request, cluster: u8) -> Result<(), RequestError> {
    Verifier::new(Arc::new(Ed25519)).verify(request, &committee(cluster), &()).map(|_| ())
}

#[test]
fn survives_the_wire_and_verifies() {
    let request = sign(content());
    let bytes = encode(&request);
    let back: Request = decode(&bytes, bytes.len()).expect("decodes");
    assert_eq!(back, request);
    assert_eq!(back.digest(), request.digest());
    assert_eq!(verifies(back, 9), Ok(()));
}

#[test]
fn every_field_is_signed() {
    let changes: Vec<fn(&mut RequestContent)> = vec![
        |content| content.session.0[0] ^= 1,
        |content| content.number += 1,
        |content| content.acknowledged_below += 1,
        |content| content.valid_until += 1,
        |content| content.operations[0].bytes[0] ^= 1,
        |content| content.operations[0].service += 1,
        |content| content.operations.push(Operation { service: 1, bytes: vec![] }),
        |content| content.client = SecretKey::from_seed(&[78; 32]).public_key(),
    ];
    let honest = sign(content());
    for change in changes {
        let mut changed = content();
        change(&mut changed);
        let forged = Request::from_parts(changed, *honest.signature());
        assert_ne!(forged.digest(), honest.digest());
        assert_eq!(verifies(forged, 9), Err(RequestError::BadSignature(BadSignature)));
    }
    assert_eq!(verifies(honest, 8), Err(RequestError::BadSignature(BadSignature)), "a request of another cluster");
}

#[test]
fn the_digest_covers_the_signature() {
    let honest = sign(content());
    let mut signature = *honest.signature();
    signature.0[0] ^= 1;
    assert_ne!(Request::from_parts(content(), signature).digest(), honest.digest());
}

#[test]
fn limits_hold_to_the_byte() {
    let with = |bytes: usize| {
        let mut content = content();
        content.operations = vec![Operation { service: 1, bytes: vec![0; bytes] }];
        verifies(sign(content), 9)
    };
    assert_eq!(with(REQUEST_BYTES_MAX), Ok(()));
    assert_eq!(with(REQUEST_BYTES_MAX + 1), Err(RequestError::TooLarge(REQUEST_BYTES_MAX + 1)));
    let mut many = content();
    many.operations = vec![Operation { service: 1, bytes: vec![] }; REQUEST_OPERATIONS_MAX + 1];
    assert_eq!(verifies(sign(many), 9), Err(RequestError::OperationCount(REQUEST_OPERATIONS_MAX + 1)));
    let mut none = content();
    none.operations.clear();
    assert_eq!(verifies(sign(none), 9), Err(RequestError::OperationCount(0)));
    let mut zero = content();
    zero.number = 0;
    assert_eq!(verifies(sign(zero), 9), Err(RequestError::NumberZero));
}
