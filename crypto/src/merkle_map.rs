//! An ordered, persistent, authenticated map from byte strings to byte strings: what a replica's state is kept in.
//!
//! What comes in: puts and removals, and chunks from other replicas. What goes out: values in key order, one [`Digest`]
//! for the whole contents, the difference between two snapshots, proofs, chunks for state transfer.
//!
//! It is a radix trie over the key's nibbles (16-way, compressed paths), with an optional value at every node. The shape
//! is *canonical*: a node without a value has at least two children, so the shape and the digest depend on the contents
//! alone and never on the order of operations. Replicas that reach the same contents by execution, by state transfer or
//! from disk have the same digest.
//!
//! Nodes are shared behind `Arc` and copied only when written while shared, so `clone` is a snapshot at no cost. Each
//! node remembers its digest once taken; taking it again costs what changed since. Nothing here recurses: a client may
//! make a chain of keys as deep as the longest key, and a thread with a small stack must still insert into it, walk it,
//! hash it and drop it.
//!
//! ```text
//!   root  prefix 6,1 ("a")     value of "a"
//!    +- 6 prefix 2 ("ab")      value of "ab"
//!    +- 7 prefix -             no value: two children
//!        +- 0 ... "ap..."
//!        +- 8 ... "ax..."
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `node` | the trie's nodes, put and removal, digests |
//! | `children` | a node's children by nibble |
//! | `cursor` | walking in order, up and down |
//! | `changes` | what differs between two snapshots |
//! | `record` | a node's bytes on the wire, and the digest over it |
//! | `proof` | [`MapProof`]: a key is or is not in a map of known digest |
//! | `chunk` | [`Chunk`]: a verifiable piece of the map |
//! | `assembler` | [`Assembler`]: a map of known digest rebuilt from chunks (rule P14) |

mod assembler;
mod changes;
mod children;
mod chunk;
mod cursor;
mod node;
mod proof;
mod record;

use std::fmt;
use std::sync::Arc;

pub use assembler::{Assembler, ChunkError};
pub use changes::Changes;
pub use chunk::{CHUNK_BUDGET, Chunk, MAX_CHUNK};
pub use cursor::{Ascending, Descending};
pub use proof::{MAX_PROOF, MapProof, MapProofError};
pub use record::MalformedRecord;

use crate::digest::Digest;
use node::{Entry, Node, Position};

/// Longest key in bytes: 8 KiB for a client's key and 1 KiB for what a state machine puts before it. Whoever admits
/// requests refuses longer ones; [`MerkleMap::insert`] asserts it.
pub const MAX_KEY: usize = 9 * 1024;

/// Longest value in bytes: 2 MiB, so that any single node fits a chunk.
pub const MAX_VALUE: usize = 2 * 1024 * 1024;

/// The digest of the map without entries.
pub const EMPTY_MAP: Digest = Digest::ZERO;

/// A stored value: cheap to clone.
pub type Value = Arc<[u8]>;

/// The place of a subtree: the nibbles (0 to 15, one a byte) from the root to it.
pub type Path = Vec<u8>;

/// An ordered, persistent, authenticated map. See the module's documentation.
#[derive(Clone, Default)]
pub struct MerkleMap {
    root: Option<Arc<Node>>,
    /// Number of entries under `root`.
    length: usize,
}

impl MerkleMap {
    /// A map without entries.
    pub fn new() -> MerkleMap {
        MerkleMap::default()
    }

    /// The map under a complete trie.
    fn from_root(root: Option<Arc<Node>>) -> MerkleMap {
        let length = root.as_ref().map_or(0, |root| root.summary().entries as usize);
        MerkleMap { root, length }
    }

    /// The map of `entries`; of two with the same key the later counts.
    pub fn from_entries<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Vec<u8>)>) -> MerkleMap {
        let mut map = MerkleMap::new();
        for (key, value) in entries {
            map.insert(key.as_ref(), value);
        }
        map
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entry(key).map(|entry| &*entry.value)
    }

    /// The value of `key` as a shared pointer.
    pub fn get_shared(&self, key: &[u8]) -> Option<Value> {
        self.entry(key).map(|entry| Arc::clone(&entry.value))
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.entry(key).is_some()
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        node::find(self.root.as_deref()?, key)
    }

    /// Puts `value` under `key` and returns what was there. Costs the depth of the key; nodes shared with a snapshot
    /// are copied on the way.
    ///
    /// # Panics
    /// If the key exceeds [`MAX_KEY`] or the value [`MAX_VALUE`]: the caller has checked both.
    pub fn insert(&mut self, key: &[u8], value: Vec<u8>) -> Option<Value> {
        self.insert_shared(key, Value::from(value))
    }

    /// [`MerkleMap::insert`] of a value that is shared already.
    ///
    /// # Panics
    /// As [`MerkleMap::insert`] does.
    pub fn insert_shared(&mut self, key: &[u8], value: Value) -> Option<Value> {
        assert!(key.len() <= MAX_KEY, "a key of {} bytes was admitted; the limit is {MAX_KEY}", key.len());
        assert!(value.len() <= MAX_VALUE, "a value of {} bytes was admitted; the limit is {MAX_VALUE}", value.len());
        let previous = match &mut self.root {
            Some(root) => node::insert(root, key, value),
            None => {
                self.root = Some(Arc::new(Node::leaf(key, 0, value)));
                None
            }
        };
        if previous.is_none() {
            self.length += 1;
        }
        previous
    }

    /// Removes `key` and returns its value. Nothing is copied if it is absent.
    pub fn remove(&mut self, key: &[u8]) -> Option<Value> {
        self.entry(key)?;
        let removed = node::remove(&mut self.root, key);
        self.length -= 1;
        Some(removed)
    }

    /// Removes the entry with the smallest key, if that key is below `bound`, and returns it. Nothing is copied if it is
    /// not.
    pub fn pop_first_below(&mut self, bound: &[u8]) -> Option<(Vec<u8>, Value)> {
        let key = node::first_key(self.root.as_deref()?);
        if key.as_slice() >= bound {
            return None;
        }
        let value = node::remove(&mut self.root, &key);
        self.length -= 1;
        Some((key, value))
    }

    /// All entries in ascending byte order of the keys.
    pub fn iter(&self) -> Ascending<'_> {
        self.range(&[], None)
    }

    /// The entries from `from` (inclusive) to `to` (exclusive; `None` is no bound), ascending.
    pub fn range(&self, from: &[u8], to: Option<&[u8]>) -> Ascending<'_> {
        Ascending::new(self.root.as_deref(), from, to)
    }

    /// The entries of [`MerkleMap::range`], descending.
    pub fn range_descending(&self, from: &[u8], to: Option<&[u8]>) -> Descending<'_> {
        Descending::new(self.root.as_deref(), from, to)
    }

    /// The entry with the smallest key that is at least `key`.
    pub fn first_at_or_after(&self, key: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        self.range(key, None).next()
    }

    /// The entry with the largest key below `key`.
    pub fn last_before(&self, key: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        self.range_descending(&[], Some(key)).next()
    }

    /// The digest of the contents; [`EMPTY_MAP`] if there are none. Costs what changed since it was last taken.
    pub fn digest(&self) -> Digest {
        self.root.as_ref().map_or(EMPTY_MAP, |root| root.summary().digest)
    }

    /// The size in bytes of the whole contents as chunks, without their stubs. Costs what [`MerkleMap::digest`] costs.
    pub fn encoded_size(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.summary().bytes)
    }

    /// Every key whose value differs between `older` and this map, in order: `Some` is the value here, `None` that
    /// there is none any more. Subtrees shared by both, or of equal digest, are skipped, so that the cost is
    /// proportional to what changed.
    pub fn changes_since<'a>(&'a self, older: &'a MerkleMap) -> Changes<'a> {
        Changes::new(self.root.as_deref(), older.root.as_deref())
    }

    /// Proof that `key` has its value, or none, in the map of this digest.
    pub fn prove(&self, key: &[u8]) -> MapProof {
        MapProof::new(self.root.as_deref(), key)
    }

    /// The chunk whose subtree begins at `path`, of about `budget` bytes (at least one node, at most [`MAX_CHUNK`]).
    /// `None` if no subtree begins there.
    pub fn chunk(&self, path: &[u8], budget: usize) -> Option<Chunk> {
        let position = Position::at(self.root.as_ref()?, path)?;
        if position.consumed != 0 {
            return None;
        }
        Some(Chunk::new(position.node, budget))
    }
}

impl PartialEq for MerkleMap {
    /// Equal contents.
    fn eq(&self, other: &MerkleMap) -> bool {
        self.length == other.length && self.changes_since(other).next().is_none()
    }
}

impl Eq for MerkleMap {}

impl fmt::Debug for MerkleMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MerkleMap").field("entries", &self.length).finish_non_exhaustive()
    }
}

impl<K: AsRef<[u8]>> FromIterator<(K, Vec<u8>)> for MerkleMap {
    fn from_iter<I: IntoIterator<Item = (K, Vec<u8>)>>(entries: I) -> MerkleMap {
        MerkleMap::from_entries(entries)
    }
}

impl<'a> IntoIterator for &'a MerkleMap {
    type Item = (Vec<u8>, &'a [u8]);
    type IntoIter = Ascending<'a>;

    fn into_iter(self) -> Ascending<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
