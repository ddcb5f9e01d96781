//! A binary Merkle tree over a list, with paths bound to their index and to the list's length.
//!
//! What comes in: the leaves of a list, in order (a batch's results, for instance). What goes out: one root, and for any
//! index a [`MerklePath`] of about log2(count) digests that shows one leaf to be at that index.
//!
//! The shape is that of RFC 6962, section 2.1: the left subtree holds the largest power of two smaller than the number of
//! leaves. Leaves and inner nodes are hashed under different domains, so that neither passes for the other. The root also
//! covers the number of leaves, so that a path cannot be read against a list of another length.

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::digest::{Digest, Domain};
use crate::mutant::{Mutant, alive};

/// The root of the list without leaves.
pub const NO_LEAVES: Digest = Digest::ZERO;

/// Most leaves of a list: 2^20.
pub const MAX_LEAVES: usize = 1 << 20;

/// Most digests of a path.
pub const MAX_SIBLINGS: usize = 20;

/// Shows that a leaf stands at an index of a list of known root and length.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MerklePath {
    /// The leaf's place in the list, from 0.
    pub index: u32,
    /// The length of the list.
    pub count: u32,
    /// The digests of the subtrees beside the way from the leaf up to the root.
    pub siblings: Vec<Digest>,
}

/// Why a path shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MerklePathError {
    /// The list has no such index, or exceeds [`MAX_LEAVES`].
    #[error("index {index} of {count} leaves")]
    BadIndex {
        /// The index claimed.
        index: u32,
        /// The length claimed.
        count: u32,
    },
    /// Too few or too many digests for that place in a list of that length.
    #[error("{0} digests do not make a path of this index")]
    BadLength(usize),
    /// The path leads to another root.
    #[error("the path leads to another root")]
    WrongRoot,
}

/// The digest of a leaf's bytes.
pub fn leaf_digest(leaf: &[u8]) -> Digest {
    Digest::of(Domain::MerkleLeaf, &[leaf])
}

fn parent(left: &Digest, right: &Digest) -> Digest {
    Digest::of(Domain::MerkleNode, &[left.as_bytes(), right.as_bytes()])
}

fn with_count(top: &Digest, count: usize) -> Digest {
    Digest::of(Domain::MerkleNode, &[b"root", &(count as u64).to_be_bytes(), top.as_bytes()])
}

/// The digests of the next level up: pairs are joined, an odd last one goes up as it is. This gives RFC 6962's shape.
fn level_above(level: &[Digest]) -> Vec<Digest> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => parent(left, right),
            rest => rest[0],
        })
        .collect()
}

fn leaf_level<L: AsRef<[u8]>>(leaves: &[L]) -> Vec<Digest> {
    leaves.iter().map(|leaf| leaf_digest(leaf.as_ref())).collect()
}

/// The root of a list of at most [`MAX_LEAVES`] leaves; [`NO_LEAVES`] if there are none.
///
/// # Panics
/// If there are more: the caller's lists are capped far below.
pub fn root<L: AsRef<[u8]>>(leaves: &[L]) -> Digest {
    assert!(leaves.len() <= MAX_LEAVES, "a list of {} leaves", leaves.len());
    if leaves.is_empty() {
        return NO_LEAVES;
    }
    let mut level = leaf_level(leaves);
    while level.len() > 1 {
        level = level_above(&level);
    }
    with_count(&level[0], leaves.len())
}

/// The path of the leaf at `index`; `None` if the list is not that long, or exceeds [`MAX_LEAVES`].
pub fn path<L: AsRef<[u8]>>(leaves: &[L], index: usize) -> Option<MerklePath> {
    paths(leaves, &[index])?.pop()
}

/// The paths of several leaves for the price of one pass over the list; `None` if any index is not in it.
pub fn paths<L: AsRef<[u8]>>(leaves: &[L], indexes: &[usize]) -> Option<Vec<MerklePath>> {
    if leaves.len() > MAX_LEAVES || indexes.iter().any(|index| *index >= leaves.len()) {
        return None;
    }
    let count = leaves.len() as u32;
    let mut found: Vec<MerklePath> =
        indexes.iter().map(|index| MerklePath { index: *index as u32, count, siblings: Vec::new() }).collect();
    let mut level = leaf_level(leaves);
    let mut height = 0;
    while level.len() > 1 {
        for path in &mut found {
            path.siblings.extend(level.get((path.index as usize >> height) ^ 1));
        }
        level = level_above(&level);
        height += 1;
    }
    Some(found)
}

impl MerklePath {
    /// Checks that `leaf` is at [`MerklePath::index`] of the list of [`MerklePath::count`] leaves with this root.
    pub fn verify(&self, root: Digest, leaf: &[u8]) -> Result<(), MerklePathError> {
        let (mut index, mut count) = (self.index as usize, self.count as usize);
        if (index >= count && !alive(Mutant::PathNotBound)) || count > MAX_LEAVES {
            return Err(MerklePathError::BadIndex { index: self.index, count: self.count });
        }
        if self.siblings.len() > MAX_SIBLINGS {
            return Err(MerklePathError::BadLength(self.siblings.len()));
        }
        let mut siblings = self.siblings.iter();
        let mut digest = leaf_digest(leaf);
        while count > 1 {
            // An odd last one has nothing beside it.
            if index ^ 1 < count {
                let sibling = siblings.next().ok_or(MerklePathError::BadLength(self.siblings.len()))?;
                digest = if index % 2 == 0 { parent(&digest, sibling) } else { parent(sibling, &digest) };
            }
            index /= 2;
            count = count.div_ceil(2);
        }
        if siblings.next().is_some() {
            return Err(MerklePathError::BadLength(self.siblings.len()));
        }
        if with_count(&digest, self.count as usize) == root { Ok(()) } else { Err(MerklePathError::WrongRoot) }
    }
}

#[cfg(test)]
mod tests;
