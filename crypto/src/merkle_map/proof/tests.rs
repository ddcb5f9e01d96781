//! Proofs of membership and absence, and what a liar may do to them.

use proptest::prelude::*;

use super::super::MerkleMap;
use super::super::tests::{key, map_of, model};
use super::*;
use crate::encoding;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_answer_is_proved(model in model(40), probe in key()) {
        let map = map_of(&model);
        for key in model.keys().chain([&probe]) {
            let proof = map.prove(key);
            let bytes = encoding::encode(&proof);
            let proof: MapProof = encoding::decode(&bytes, MAX_PROOF + 8).expect("its own encoding");
            prop_assert_eq!(proof.verify(map.digest(), key), Ok(model.get(key).cloned()));
        }
    }

    #[test]
    fn a_proof_is_of_one_key(model in model(40), asked in key(), other in key()) {
        let map = map_of(&model);
        // A proof may say something about another key too; then what it says is true.
        if let Ok(value) = map.prove(&asked).verify(map.digest(), &other) {
            prop_assert_eq!(value, model.get(&other).cloned());
        }
    }

    #[test]
    fn a_changed_proof_never_lies(model in model(20), key in key(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let map = map_of(&model);
        let mut proof = map.prove(&key);
        if !proof.nodes.is_empty() {
            let place = place.index(proof.nodes.len());
            proof.nodes[place] ^= 1u8 << bit;
            prop_assert!(proof.verify(map.digest(), &key).is_err());
            proof.nodes[place] ^= 1u8 << bit;
            proof.nodes.truncate(place);
            prop_assert!(proof.verify(map.digest(), &key).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_harmless(nodes in prop::collection::vec(any::<u8>(), 0..200), key in key()) {
        let proof = MapProof { nodes };
        prop_assert!(proof.verify(Digest([1; 32]), &key).is_err());
    }
}

#[test]
fn a_proof_is_of_one_map() {
    let map: MerkleMap = [(b"a", vec![1]), (b"b", vec![2])].into_iter().collect();
    let mut other = map.clone();
    other.insert(b"c", vec![3]);
    assert_eq!(map.prove(b"a").verify(other.digest(), b"a"), Err(MapProofError::WrongRoot));
    assert_eq!(MerkleMap::new().prove(b"a").verify(map.digest(), b"a"), Err(MapProofError::WrongRoot));
    assert_eq!(MerkleMap::new().prove(b"a").verify(EMPTY_MAP, b"a"), Ok(None));
}

#[test]
fn a_proof_that_stops_early_proves_nothing() {
    let map: MerkleMap = [(b"a".as_slice(), vec![1]), (b"ab", vec![2]), (b"b", vec![3])].into_iter().collect();
    // The proof for "a" holds the digest of what is below it, but says neither that "ab" is there nor that it is not.
    assert_eq!(map.prove(b"a").verify(map.digest(), b"ab"), Err(MapProofError::WrongKey));
    // The proof for "ab" holds the value of "a" by its digest alone.
    assert_eq!(map.prove(b"ab").verify(map.digest(), b"a"), Err(MapProofError::WrongKey));
}

#[test]
fn sizes_are_capped() {
    let proof = MapProof { nodes: vec![0; MAX_PROOF + 1] };
    assert_eq!(proof.verify(EMPTY_MAP, b""), Err(MapProofError::TooLong(MAX_PROOF + 1)));
    let empty = MerkleMap::new().prove(b"");
    assert_eq!(empty.verify(EMPTY_MAP, &[0; MAX_KEY + 1]), Err(MapProofError::KeyTooLong(MAX_KEY + 1)));
}
