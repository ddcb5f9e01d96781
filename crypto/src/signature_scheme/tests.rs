//! The published vectors, and what only a look inside can show.

use super::{Ed25519, KEYS_REMEMBERED, RememberingEd25519, SignatureScheme, coefficients};
use crate::keys::{PublicKey, SecretKey, Signature, Signer as _};
use crate::verified::Claim;
use rand::Rng as _;

/// The twelve vectors of ed25519-speccheck (Chalkias, Garillot and Nikolaenko 2020, "Taming the many EdDSAs", table 5):
/// message, key, signature, and whether ZIP-215 accepts.
const SPECCHECK: [(&str, &str, &str, bool); 12] = [
    // S = 0, small-order A, small-order R.
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
        true,
    ),
    // 0 < S < l, small-order A, mixed-order R.
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
    ),
    // 0 < S < l, mixed-order A, small-order R.
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        true,
    ),
    // 0 < S < l, mixed-order A and R; holds without the cofactor too.
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        true,
    ),
    // 0 < S < l, mixed-order A and R; holds with the cofactor only.
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        true,
    ),
    // As before; fails where 8k is reduced modulo l before it is multiplied with A.
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        true,
    ),
    // S > l.
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        false,
    ),
    // S much greater than l.
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        false,
    ),
    // Non-canonical small-order R, made for those who hash it in its canonical encoding.
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        false,
    ),
    // Non-canonical small-order R, made for those who hash it as it was given.
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        true,
    ),
    // Non-canonical small-order A, for those who hash it in its canonical encoding. With the cofactor A counts for
    // nothing, so it holds either way.
    (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
    ),
    // Non-canonical small-order A, for those who hash it as it was given.
    (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
    ),
];

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).expect("hexadecimal").try_into().expect("length")
}

fn speccheck() -> Vec<(Claim, bool)> {
    SPECCHECK
        .iter()
        .map(|(message, key, signature, accepted)| {
            let claim = Claim {
                key: PublicKey(bytes(key)),
                message: hex::decode(message).expect("hexadecimal"),
                signature: Signature(bytes(signature)),
            };
            (claim, *accepted)
        })
        .collect()
}

fn claim(seed: u8, message: &[u8]) -> Claim {
    let key = SecretKey::from_seed(&[seed; 32]);
    Claim { key: key.public_key(), message: message.to_vec(), signature: key.sign(message) }
}

#[test]
fn speccheck_vectors_singly() {
    for (index, (claim, accepted)) in speccheck().iter().enumerate() {
        assert_eq!(Ed25519.verify(&claim.key, &claim.message, &claim.signature), *accepted, "vector {index}");
        let remembering = RememberingEd25519::default();
        for round in ["a new", "a known"] {
            let judged = remembering.verify(&claim.key, &claim.message, &claim.signature);
            assert_eq!(judged, *accepted, "vector {index} by {round} key");
        }
    }
}

#[test]
fn speccheck_vectors_in_batches() {
    let vectors = speccheck();
    let honest = claim(1, b"honest");
    let remembering = RememberingEd25519::default();
    for (index, (claim, accepted)) in vectors.iter().enumerate() {
        for batch in [vec![claim], vec![claim, claim], vec![claim, &honest], vec![&honest, claim, &honest, claim]] {
            assert_eq!(Ed25519.verify_batch(&batch), *accepted, "vector {index} in a batch of {}", batch.len());
            assert_eq!(remembering.verify_batch(&batch), *accepted, "vector {index} in a batch of {}", batch.len());
        }
    }
    let accepted: Vec<&Claim> = vectors.iter().filter(|(_, accepted)| *accepted).map(|(claim, _)| claim).collect();
    assert_eq!(accepted.len(), 9);
    assert!(Ed25519.verify_batch(&accepted));
    for (refused, _) in vectors.iter().filter(|(_, accepted)| !accepted) {
        let mut batch = accepted.clone();
        batch.insert(4, refused);
        assert!(!Ed25519.verify_batch(&batch));
    }
}

#[test]
fn no_claims_hold() {
    assert!(Ed25519.verify_batch(&[]));
}

#[test]
fn one_bad_claim_among_many_is_found_at_every_place() {
    let good: Vec<Claim> = (0..33).map(|seed| claim(seed, b"the same message")).collect();
    assert!(Ed25519.verify_batch(&good.iter().collect::<Vec<_>>()));
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place].message.push(0);
        assert!(!Ed25519.verify_batch(&bad.iter().collect::<Vec<_>>()), "at {place}");
    }
}

/// Two false signatures whose errors cancel: they pass a plain sum of the equations, which is what a batch with
/// foreseeable coefficients comes to.
#[test]
fn errors_that_cancel_are_found() {
    use curve25519_dalek::Scalar;

    let mut claims = [claim(1, b"first"), claim(1, b"second")];
    let one = [Scalar::ONE, -Scalar::ONE];
    for (claim, error) in claims.iter_mut().zip(one) {
        let s = Scalar::from_bytes_mod_order(claim.signature.0[32..].try_into().expect("32 bytes"));
        claim.signature.0[32..].copy_from_slice(&(s + error).to_bytes());
    }
    assert!(!Ed25519.verify_batch(&[&claims[0], &claims[1]]));
}

#[test]
fn every_bit_of_a_claim_changes_the_coefficients() {
    let claims = [claim(1, b"first"), claim(2, b"second")];
    let drawn = |claims: &[Claim; 2]| coefficients(&[&claims[0], &claims[1]]).next_u64();
    let before = drawn(&claims);
    assert_eq!(before, drawn(&claims.clone()));
    let changed = |change: fn(&mut [Claim; 2])| {
        let mut other = claims.clone();
        change(&mut other);
        drawn(&other)
    };
    assert_ne!(before, changed(|claims| claims[0].key.0[0] ^= 1));
    assert_ne!(before, changed(|claims| claims[1].signature.0[63] ^= 0x80));
    assert_ne!(before, changed(|claims| claims[1].message[0] ^= 1));
    assert_ne!(before, changed(|claims| claims.swap(0, 1)));
    assert_ne!(before, changed(|claims| claims[1].message.push(0)));
}

/// A key is remembered under its bytes: another key, another encoding of the same point included, is not taken for it.
#[test]
fn a_remembered_key_vouches_for_no_other() {
    let remembering = RememberingEd25519::default();
    let (first, second) = (claim(1, b"first"), claim(2, b"second"));
    let mut forged = second.clone();
    forged.key = first.key;
    assert!(remembering.verify_batch(&[&first, &second]));
    assert!(!remembering.verify_batch(&[&first, &forged]));
    assert!(!remembering.verify(&forged.key, &forged.message, &forged.signature));
}

/// False signatures by keys of their own neither take room nor push anybody out; true ones are bounded.
#[test]
fn remembered_keys_are_bounded_and_earned() {
    let remembering = RememberingEd25519::default();
    let mut bad = claim(3, b"said");
    bad.message.push(0);
    assert!(!remembering.verify(&bad.key, &bad.message, &bad.signature));
    assert!(!remembering.verify_batch(&[&bad, &claim(4, b"honest")]));
    assert!(remembering.points().young.is_empty());

    let point = curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
    let key = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey(bytes)
    };
    let mut points = remembering.points();
    for number in 0..5 * KEYS_REMEMBERED {
        points.remember(key(number), point);
        // In use all the while.
        assert!(points.find(&key(0)).is_some());
        assert!(points.young.len() <= KEYS_REMEMBERED && points.old.len() <= KEYS_REMEMBERED);
    }
    assert!(points.find(&key(1)).is_none());
}
