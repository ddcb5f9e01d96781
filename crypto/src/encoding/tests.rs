//! The bytes of values, and what is refused before it costs anything.

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::identity::{ReplicaId, Seq};
use crate::keys::Signature;

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Shape {
    Nothing,
    Point(u16, i64),
    Named { text: String, maybe: Option<u8>, bytes: Vec<u8> },
}

/// What is on disk and wire must be readable by the next release: these bytes never change.
#[test]
fn golden_bytes() {
    let golden = [
        (encode(&ReplicaId(258)), "0102"),
        (encode(&Seq(1)), "0000000000000001"),
        (encode(&true), "01"),
        (encode(&Shape::Nothing), "00000000"),
        (encode(&Shape::Point(3, -2)), "000000010003fffffffffffffffe"),
        (
            encode(&Shape::Named { text: "é".into(), maybe: Some(9), bytes: vec![1, 2] }),
            "000000020000000000000002c3a9010900000000000000020102",
        ),
        (encode(&vec![Some(1u32), None]), "0000000000000002010000000100"),
        (encode(&Digest([0xab; 32])), "abababababababababababababababababababababababababababababababab"),
    ];
    for (bytes, expected) in golden {
        assert_eq!(hex::encode(bytes), expected);
    }
    // Fixed-size arrays carry no length.
    assert_eq!(encode(&Signature([7; 64])).len(), 64);
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = encode(&Seq(7));
    assert_eq!(decode::<Seq>(&bytes, 100), Ok(Seq(7)));
    bytes.push(0);
    assert_eq!(decode::<Seq>(&bytes, 100), Err(DecodeError::TrailingBytes(1)));
    assert_eq!(decode::<()>(&bytes, 100), Err(DecodeError::TrailingBytes(9)));
}

#[test]
fn input_beyond_the_callers_limit_is_refused() {
    let bytes = encode(&vec![0u8; 100]);
    assert!(decode::<Vec<u8>>(&bytes, 108).is_ok());
    assert_eq!(decode::<Vec<u8>>(&bytes, 107), Err(DecodeError::TooLong { length: 108, limit: 107 }));
}

/// Rule X3. A decoder that reserved what the prefix claims would end the process here (2^60 elements) or take
/// gigabytes (2^32).
#[test]
fn lengths_that_cannot_be_are_refused_before_allocation() {
    for length in [1u64 << 32, 1 << 60, u64::MAX, DECODE_CEILING as u64 + 1] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 64]);
        assert!(matches!(decode::<Vec<u8>>(&bytes, 1024), Err(DecodeError::Malformed(_))), "{length} bytes");
        assert!(matches!(decode::<String>(&bytes, 1024), Err(DecodeError::Malformed(_))), "{length} characters");
        assert!(matches!(decode::<Vec<Digest>>(&bytes, 1024), Err(DecodeError::Malformed(_))), "{length} digests");
        assert!(matches!(decode::<Vec<Vec<u8>>>(&bytes, 1024), Err(DecodeError::Malformed(_))), "{length} lists");
    }
    // Small enough a number of elements, but too much memory in all.
    let mut bytes = (DECODE_CEILING as u64 / 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0; 64]);
    assert!(matches!(decode::<Vec<Digest>>(&bytes, 1024), Err(DecodeError::Malformed(_))));
}

#[test]
fn truncated_and_unknown_values_are_refused() {
    let bytes = encode(&Shape::Point(3, -2));
    for length in 0..bytes.len() {
        assert!(matches!(decode::<Shape>(&bytes[..length], 100), Err(DecodeError::Malformed(_))), "{length} bytes");
    }
    assert!(matches!(decode::<Shape>(&[0, 0, 0, 3], 100), Err(DecodeError::Malformed(_))));
    assert!(matches!(decode::<bool>(&[2], 100), Err(DecodeError::Malformed(_))));
    assert!(matches!(decode::<Option<u8>>(&[2, 0], 100), Err(DecodeError::Malformed(_))));
    let not_text = encode(&vec![0xffu8, 0xff]);
    assert!(matches!(decode::<String>(&not_text, 100), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_value_near_the_ceiling_passes() {
    let large = vec![7u8; DECODE_CEILING - 1024];
    let bytes = encode(&large);
    assert_eq!(decode::<Vec<u8>>(&bytes, DECODE_CEILING).map(|decoded| decoded == large), Ok(true));
}

proptest! {
    #[test]
    fn values_come_back(number in any::<u16>(), signed in any::<i64>(), text in ".{0,20}", bytes: Vec<u8>) {
        for shape in [
            Shape::Nothing,
            Shape::Point(number, signed),
            Shape::Named { text: text.clone(), maybe: None, bytes: bytes.clone() },
        ] {
            prop_assert_eq!(decode::<Shape>(&encode(&shape), 1 << 20), Ok(shape));
        }
    }

    /// One value has one encoding: whatever decodes encodes to the same bytes.
    #[test]
    fn decoding_is_the_inverse(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 0..40)) {
        if let Ok(shape) = decode::<Shape>(&bytes, 100) {
            prop_assert_eq!(encode(&shape), bytes);
        }
    }
}
