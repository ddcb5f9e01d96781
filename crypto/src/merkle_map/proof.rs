//! Proof that a key has a value, or none, in a map of known digest.

use bincode::{Decode, Encode};
use thiserror::Error;

use super::node::{Entry, Node, nibble_at};
use super::record::{self, MalformedRecord, RecordValue};
use super::{EMPTY_MAP, MAX_KEY, MAX_VALUE};
use crate::digest::Digest;

/// Longest proof in bytes: every node on the way of the longest key with fifteen stubs, and one value.
pub const MAX_PROOF: usize = MAX_KEY * 2 * (16 * 32 + 16) + MAX_VALUE;

/// The nodes from the root to a key, or to where it would be. All other children are digests, and so are all values but
/// the key's own.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MapProof {
    /// A subtree of which at most one child follows at every node; empty for the empty map.
    nodes: Vec<u8>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MapProofError {
    /// Longer than [`MAX_PROOF`].
    #[error("a proof of {0} bytes")]
    TooLong(usize),
    /// The key exceeds [`MAX_KEY`].
    #[error("a key of {0} bytes")]
    KeyTooLong(usize),
    /// Not an encoding of nodes.
    #[error(transparent)]
    Malformed(#[from] MalformedRecord),
    /// The nodes are not those of the map of this digest.
    #[error("the proof is of another map")]
    WrongRoot,
    /// The nodes are those of the map, but say nothing about this key.
    #[error("the proof is of another key")]
    WrongKey,
}

impl MapProof {
    pub(super) fn new(root: Option<&Node>, key: &[u8]) -> MapProof {
        let mut nodes = Vec::new();
        let mut next = root;
        let mut depth = 0;
        while let Some(node) = next.take() {
            node.summary();
            let agreement = node.prefix.agreement(key, depth);
            depth += agreement;
            let reached = agreement == node.prefix.nibbles().len();
            let here = reached && depth == 2 * key.len();
            let way = (reached && !here).then(|| nibble_at(key, depth));
            let following = way.filter(|nibble| node.children.get(*nibble).is_some());
            let value = match &node.entry {
                None => RecordValue::None,
                Some(entry) if here => RecordValue::Bytes(&entry.value),
                Some(entry) => RecordValue::Digest(Entry::digest(entry)),
            };
            let stubs = node
                .children
                .iter()
                .filter(|(nibble, _)| Some(*nibble) != following)
                .map(|(_, child)| child.summary().digest);
            let bits = following.map_or(0, |nibble| 1 << nibble);
            record::write_record(&mut nodes, node.prefix.nibbles(), value, node.children.present(), bits, stubs);
            next = following.and_then(|nibble| node.children.get(nibble)).map(|child| &**child);
            depth += 1;
        }
        MapProof { nodes }
    }

    /// The value of `key` in the map of digest `root`, or `None` if it has none there.
    pub fn verify(&self, root: Digest, key: &[u8]) -> Result<Option<Vec<u8>>, MapProofError> {
        if self.nodes.len() > MAX_PROOF {
            return Err(MapProofError::TooLong(self.nodes.len()));
        }
        if key.len() > MAX_KEY {
            return Err(MapProofError::KeyTooLong(key.len()));
        }
        if self.nodes.is_empty() {
            return if root == EMPTY_MAP { Ok(None) } else { Err(MapProofError::WrongRoot) };
        }
        let mut records = record::read_subtree(&self.nodes, 0)?;
        if record::digests(&mut records)[0] != root {
            return Err(MapProofError::WrongRoot);
        }
        let mut rest: Vec<u8> = (0..2 * key.len()).map(|index| nibble_at(key, index)).collect();
        rest.reverse();
        // Every record must lie on the key's way, in order, and the last must decide.
        for (index, record) in records.iter().enumerate() {
            let last = index + 1 == records.len();
            if record.parent.is_some_and(|(parent, nibble)| parent + 1 != index || rest.pop() != Some(nibble)) {
                return Err(MapProofError::WrongKey);
            }
            let parted = record.prefix.iter().any(|nibble| rest.pop_if(|next| next == nibble).is_none());
            if parted {
                return if last { Ok(None) } else { Err(MapProofError::WrongKey) };
            }
            match rest.last() {
                None if !last => return Err(MapProofError::WrongKey),
                None => {
                    return match record.value {
                        RecordValue::None => Ok(None),
                        RecordValue::Bytes(bytes) => Ok(Some(bytes.to_vec())),
                        RecordValue::Digest(_) => Err(MapProofError::WrongKey),
                    };
                }
                Some(nibble) if record.present >> nibble & 1 == 0 => {
                    return if last { Ok(None) } else { Err(MapProofError::WrongKey) };
                }
                Some(_) => {}
            }
        }
        Err(MapProofError::WrongKey)
    }
}

#[cfg(test)]
mod tests;
