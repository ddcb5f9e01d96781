//! Roots against an independent computation, paths against every other place, list and leaf.

use proptest::prelude::*;

use super::*;
use crate::encoding;

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![index as u8]).collect()
}

/// RFC 6962, section 2.1, word for word.
fn top_by_definition(leaves: &[Vec<u8>]) -> Digest {
    if let [leaf] = leaves {
        return leaf_digest(leaf);
    }
    let mut left = 1;
    while left * 2 < leaves.len() {
        left *= 2;
    }
    parent(&top_by_definition(&leaves[..left]), &top_by_definition(&leaves[left..]))
}

#[test]
fn shape_is_that_of_the_rfc() {
    for count in 1..=70 {
        let leaves = leaves(count);
        assert_eq!(root(&leaves), with_count(&top_by_definition(&leaves), count), "{count} leaves");
    }
}

/// Computed apart from this code. Results roots are signed: these bytes never change once released.
#[test]
fn golden_roots() {
    let golden = [
        (1, "439b88787260313d81ee9bf5bd7e1550d68d1fa0ed72f05006c9f2e97cad18d6"),
        (2, "a9d535fb1f864e72c42763c8a6b3d9df2e90c691ff66e28609f64ed235649801"),
        (3, "9b32c67484ce5f66340e4adf61d0493044975c7c461f49193592ff17bc7a5bf4"),
        (5, "ec4302aa207d3453ba03a71cdc2fc44d9a541f82c657a33159cd92648657214b"),
        (8, "bbc26a2ebcadb2985cc36d4c347e9cfa1c3cb7605a7fbaeb703c7df36824565d"),
        (11, "ab2ca2c2a52d308d82a97481793faa0be6dfc1d2356c7fba9431d9bd1b5b0509"),
    ];
    for (count, expected) in golden {
        assert_eq!(root(&leaves(count)).to_hex(), expected, "{count} leaves");
    }
    assert_eq!(root(&leaves(0)), NO_LEAVES);
}

#[test]
fn every_path_holds_for_its_own_place_only() {
    for count in 1..=20 {
        let leaves = leaves(count);
        let top = root(&leaves);
        for index in 0..count {
            let path = path(&leaves, index).expect("an index of the list");
            assert_eq!(path.verify(top, &leaves[index]), Ok(()));
            for other in 0..count + 2 {
                let moved = MerklePath { index: other as u32, ..path.clone() };
                assert_eq!(moved.verify(top, &leaves[index]).is_ok(), other == index, "{index} at {other} of {count}");
            }
            for other in 0..count + 20 {
                let stretched = MerklePath { count: other as u32, ..path.clone() };
                assert_eq!(
                    stretched.verify(top, &leaves[index]).is_ok(),
                    other == count,
                    "{index} of {count}, {other}"
                );
            }
            assert_eq!(path.verify(top, b"another leaf"), Err(MerklePathError::WrongRoot));
        }
        assert_eq!(super::path(&leaves, count), None);
    }
}

#[test]
fn several_paths_at_once_are_the_same() {
    let leaves = leaves(13);
    let indexes = [0, 12, 5, 5];
    let together = paths(&leaves, &indexes).expect("indexes of the list");
    assert_eq!(together, indexes.map(|index| path(&leaves, index).expect("an index of the list")));
    assert_eq!(paths(&leaves, &[0, 13]), None);
}

/// The digests of two leaves, taken as one leaf, must not stand for their parent (RFC 6962, section 2.1).
#[test]
fn an_inner_node_is_no_leaf() {
    let leaves = leaves(2);
    let inner = [leaf_digest(&leaves[0]).0, leaf_digest(&leaves[1]).0].concat();
    assert_ne!(root(&[inner]), root(&leaves));
    assert_ne!(leaf_digest(&[]), NO_LEAVES);
}

#[test]
fn too_many_siblings_and_leaves_are_refused() {
    let leaf = b"leaf";
    let long = MerklePath { index: 0, count: 1, siblings: vec![Digest::ZERO; MAX_SIBLINGS + 1] };
    assert_eq!(long.verify(NO_LEAVES, leaf), Err(MerklePathError::BadLength(MAX_SIBLINGS + 1)));
    let wide = MerklePath { index: 0, count: u32::MAX, siblings: vec![] };
    assert_eq!(wide.verify(NO_LEAVES, leaf), Err(MerklePathError::BadIndex { index: 0, count: u32::MAX }));
    let none = MerklePath { index: 0, count: 0, siblings: vec![] };
    assert_eq!(none.verify(NO_LEAVES, leaf), Err(MerklePathError::BadIndex { index: 0, count: 0 }));
    let whole = MerklePath { index: 0, count: MAX_LEAVES as u32, siblings: vec![Digest::ZERO; MAX_SIBLINGS] };
    assert_eq!(whole.verify(NO_LEAVES, leaf), Err(MerklePathError::WrongRoot));
}

proptest! {
    #[test]
    fn a_changed_path_is_refused(
        count in 1..40usize,
        index in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let leaves = leaves(count);
        let index = index.index(count);
        let path = path(&leaves, index).expect("an index of the list");
        let mut bytes = encoding::encode(&path);
        prop_assert_eq!(encoding::decode::<MerklePath>(&bytes, 4096), Ok(path));
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(changed) = encoding::decode::<MerklePath>(&bytes, 4096) {
            prop_assert!(changed.verify(root(&leaves), &leaves[index]).is_err());
        }
    }
}
