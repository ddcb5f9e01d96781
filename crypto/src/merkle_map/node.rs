//! The trie's nodes: put, removal, digests.
//!
//! A node does not know where it stands: its parent knows the nibble that leads to it. Its prefix is what all keys below
//! it share from there on.

use std::sync::{Arc, OnceLock};

use super::children::Children;
use super::record::{self, LARGEST_HEADER};
use super::{MAX_KEY, Value};
use crate::digest::{Digest, Domain};

/// Most nibbles a key has.
pub(super) const MAX_NIBBLES: usize = 2 * MAX_KEY;

/// The nibble of `key` at `index`, high half first.
pub(super) fn nibble_at(key: &[u8], index: usize) -> u8 {
    let byte = key[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
}

/// The key whose nibbles are `path`; an even number of them.
pub(super) fn key_of(path: &[u8]) -> Vec<u8> {
    path.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Nibbles of a short key, for which one allocation is enough.
const MAX_SHORT_PATH: usize = 64;

/// Nibbles kept in the node itself up to this many.
const SHORT: usize = 22;

/// The nibbles all keys below a node share, one a byte.
#[derive(Clone)]
pub(super) enum Prefix {
    Short { length: u8, nibbles: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl Prefix {
    pub(super) fn new(nibbles: &[u8]) -> Prefix {
        if nibbles.len() > SHORT {
            return Prefix::Long(nibbles.into());
        }
        let mut short = [0; SHORT];
        short[..nibbles.len()].copy_from_slice(nibbles);
        Prefix::Short { length: nibbles.len() as u8, nibbles: short }
    }

    /// The nibbles of `key` from `depth` on.
    fn of_key(key: &[u8], depth: usize) -> Prefix {
        let length = 2 * key.len() - depth;
        if length > SHORT {
            return Prefix::Long((depth..2 * key.len()).map(|index| nibble_at(key, index)).collect());
        }
        let mut nibbles = [0; SHORT];
        for (place, index) in nibbles.iter_mut().zip(depth..2 * key.len()) {
            *place = nibble_at(key, index);
        }
        Prefix::Short { length: length as u8, nibbles }
    }

    pub(super) fn nibbles(&self) -> &[u8] {
        match self {
            Prefix::Short { length, nibbles } => &nibbles[..*length as usize],
            Prefix::Long(nibbles) => nibbles,
        }
    }

    /// How many nibbles agree with those of `key` from `depth` on.
    pub(super) fn agreement(&self, key: &[u8], depth: usize) -> usize {
        let rest = 2 * key.len() - depth;
        let nibbles = &self.nibbles()[..self.nibbles().len().min(rest)];
        let differs =
            |from: usize, to: usize| (from..to).find(|place| nibbles[*place] != nibble_at(key, depth + place));
        // The second half of a byte whose first half led here.
        let first = (depth % 2).min(nibbles.len());
        if let Some(place) = differs(0, first) {
            return place;
        }
        // Keys share long prefixes (a client's key and session), so they are compared eight nibbles at a time.
        let (mut agreed, mut key_bytes) = (first, &key[depth.div_ceil(2)..]);
        while let (Some(expected), Some((bytes, behind))) =
            (nibbles[agreed..].first_chunk::<8>(), key_bytes.split_first_chunk::<4>())
        {
            let difference = u64::from_le_bytes(*expected) ^ spread(*bytes);
            if difference != 0 {
                return agreed + difference.trailing_zeros() as usize / 8;
            }
            agreed += 8;
            key_bytes = behind;
        }
        differs(agreed, nibbles.len()).unwrap_or(nibbles.len())
    }
}

/// The eight nibbles of four bytes, one a byte, the first in the lowest.
fn spread(bytes: [u8; 4]) -> u64 {
    const LOW_NIBBLES: u64 = 0x000f_000f_000f_000f;
    let packed = u64::from(u32::from_le_bytes(bytes));
    let packed = (packed | packed << 16) & 0x0000_ffff_0000_ffff;
    let packed = (packed | packed << 8) & 0x00ff_00ff_00ff_00ff;
    packed >> 4 & LOW_NIBBLES | (packed & LOW_NIBBLES) << 8
}

/// A value and, if it is long and its digest was taken, the digest, so that a change below a node does not hash the
/// node's own value again. The digest of a short value costs less than the room it would take in every leaf.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    digest: OnceLock<Box<Digest>>,
}

/// Longest value in bytes whose digest is not remembered.
const SHORT_VALUE: usize = 256;

impl Entry {
    pub(super) fn new(value: Value) -> Entry {
        Entry { value, digest: OnceLock::new() }
    }

    pub(super) fn digest(&self) -> Digest {
        if self.value.len() <= SHORT_VALUE {
            return value_digest(&self.value);
        }
        **self.digest.get_or_init(|| Box::new(value_digest(&self.value)))
    }
}

/// The digest of a value.
pub(super) fn value_digest(value: &[u8]) -> Digest {
    Digest::of(Domain::MapValue, &[value])
}

/// What is known of a whole subtree once its digest is taken.
#[derive(Clone, Copy)]
pub(super) struct Summary {
    pub(super) digest: Digest,
    /// Number of entries.
    pub(super) entries: u64,
    /// Size of all records with their values, in bytes.
    pub(super) bytes: u64,
}

/// A node. Invariant (canonical shape): it has a value or at least two children.
///
/// The order of the fields is that of use: hashing and copying a parent touch a child's reference count and summary
/// alone, the way down needs prefix and children. It is worth a cache line for every child of a copied node.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Node {
    /// Of the subtree as it is; emptied by every write on or below this node.
    summary: OnceLock<Summary>,
    pub(super) prefix: Prefix,
    pub(super) children: Children,
    pub(super) entry: Option<Entry>,
}

impl Node {
    /// The node of `key` alone, reached by the key's first `depth` nibbles.
    pub(super) fn leaf(key: &[u8], depth: usize, value: Value) -> Node {
        Node::new(Prefix::of_key(key, depth), Some(Entry::new(value)), Children::default())
    }

    pub(super) fn new(prefix: Prefix, entry: Option<Entry>, children: Children) -> Node {
        Node { prefix, entry, children, summary: OnceLock::new() }
    }

    /// The canonical subtree of these parts, if there is anything in it.
    pub(super) fn canonical(prefix: Prefix, entry: Option<Entry>, children: Children) -> Option<Arc<Node>> {
        if entry.is_none() && children.is_empty() {
            return None;
        }
        let mut node = Node::new(prefix, entry, children);
        node.join_only_child();
        Some(Arc::new(node))
    }

    /// The same subtree with the first `consumed` nibbles of its prefix left out.
    pub(super) fn without(&self, consumed: usize) -> Node {
        Node::new(Prefix::new(&self.prefix.nibbles()[consumed..]), self.entry.clone(), self.children.clone())
    }

    /// Cuts the prefix after `common` nibbles: this node becomes the upper part, its contents the only child.
    fn split(&mut self, common: usize) {
        let nibbles = self.prefix.nibbles();
        let upper = Prefix::new(&nibbles[..common]);
        let nibble = nibbles[common];
        let lower = Prefix::new(&nibbles[common + 1..]);
        let children = std::mem::take(&mut self.children);
        let child = Node::new(lower, self.entry.take(), children);
        self.prefix = upper;
        self.children.add(nibble, Arc::new(child));
    }

    /// Keeps the canonical shape: a node without a value and with one child becomes one with it.
    fn join_only_child(&mut self) {
        if self.entry.is_some() || self.children.len() != 1 {
            return;
        }
        let Some((nibble, _)) = self.children.at(0) else { return };
        let Some(child) = self.children.remove(nibble) else { return };
        let mut child = Arc::unwrap_or_clone(child);
        let joined = [self.prefix.nibbles(), &[nibble], child.prefix.nibbles()].concat();
        self.prefix = Prefix::new(&joined);
        self.entry = child.entry.take();
        self.children = std::mem::take(&mut child.children);
    }

    /// The summary if it was taken already.
    pub(super) fn known_digest(&self) -> Option<Digest> {
        self.summary.get().map(|summary| summary.digest)
    }

    /// The subtree's summary; takes those that are missing below, children first.
    pub(super) fn summary(&self) -> Summary {
        if let Some(summary) = self.summary.get() {
            return *summary;
        }
        let mut stack: Vec<(&Node, usize)> = vec![(self, 0)];
        while let Some((node, next)) = stack.last_mut() {
            let node: &Node = node;
            match node.children.nth(*next) {
                Some(child) => {
                    *next += 1;
                    if child.summary.get().is_none() {
                        if child.children.is_empty() {
                            child.summarise();
                        } else {
                            stack.push((child, 0));
                        }
                    }
                }
                None => {
                    node.summarise();
                    stack.pop();
                }
            }
        }
        self.summarise()
    }

    /// The summary of a node whose children have theirs.
    fn summarise(&self) -> Summary {
        *self.summary.get_or_init(|| {
            let mut digests = [Digest::ZERO; 16];
            let mut entries = u64::from(self.entry.is_some());
            let mut bytes = self.record_size() as u64;
            for (place, child) in digests.iter_mut().zip(self.children.nodes()) {
                let Some(summary) = child.summary.get() else { unreachable!("children are summarised first") };
                *place = summary.digest;
                entries += summary.entries;
                bytes += summary.bytes;
            }
            let digest = record::node_digest(
                self.prefix.nibbles(),
                self.entry.as_ref().map(Entry::digest),
                self.children.present(),
                &digests[..self.children.len()],
            );
            Summary { digest, entries, bytes }
        })
    }

    /// The size in bytes of this node's own record, its value included, without stubs.
    pub(super) fn record_size(&self) -> usize {
        LARGEST_HEADER
            + self.prefix.nibbles().len().div_ceil(2)
            + self.entry.as_ref().map_or(0, |entry| entry.value.len())
    }
}

impl Drop for Node {
    /// Drops the subtree by iteration: a chain of nodes may be deeper than the thread's stack.
    fn drop(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let mut doomed = Vec::with_capacity(16);
        self.children.drain_into(&mut doomed);
        while let Some(node) = doomed.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                node.children.drain_into(&mut doomed);
            }
        }
    }
}

/// The entry of `key` under `root`.
pub(super) fn find<'a>(root: &'a Node, key: &[u8]) -> Option<&'a Entry> {
    let total = 2 * key.len();
    let mut node = root;
    let mut depth = 0;
    loop {
        let length = node.prefix.nibbles().len();
        if node.prefix.agreement(key, depth) < length {
            return None;
        }
        depth += length;
        if depth == total {
            return node.entry.as_ref();
        }
        node = node.children.get(nibble_at(key, depth))?;
        depth += 1;
    }
}

/// The smallest key under `root`.
pub(super) fn first_key(root: &Node) -> Vec<u8> {
    let mut path = Vec::with_capacity(MAX_SHORT_PATH);
    let mut node = root;
    loop {
        path.extend_from_slice(node.prefix.nibbles());
        // A key comes before those it begins.
        let (None, Some((nibble, child))) = (&node.entry, node.children.at(0)) else { return key_of(&path) };
        path.push(nibble);
        node = child;
    }
}

/// Puts `value` under `key` and returns what was there.
pub(super) fn insert(root: &mut Arc<Node>, key: &[u8], value: Value) -> Option<Value> {
    let total = 2 * key.len();
    let mut slot = root;
    let mut depth = 0;
    loop {
        let node = Arc::make_mut(slot);
        node.summary = OnceLock::new();
        let common = node.prefix.agreement(key, depth);
        depth += common;
        if common < node.prefix.nibbles().len() {
            node.split(common);
        }
        if depth == total {
            return node.entry.replace(Entry::new(value)).map(|previous| previous.value);
        }
        let nibble = nibble_at(key, depth);
        depth += 1;
        if node.children.get(nibble).is_none() {
            node.children.add(nibble, Arc::new(Node::leaf(key, depth, value)));
            return None;
        }
        let Some(child) = node.children.get_mut(nibble) else { unreachable!("it was there just now") };
        slot = child;
    }
}

/// Removes `key`, which has a value under `root`, and returns it.
pub(super) fn remove(root: &mut Option<Arc<Node>>, key: &[u8]) -> Value {
    const PRESENT: &str = "the caller found the key";
    let total = 2 * key.len();
    if let Some(only) = root.take_if(|root| root.children.is_empty()) {
        let Some(entry) = &only.entry else { unreachable!("{PRESENT}") };
        return Arc::clone(&entry.value);
    }
    let Some(mut slot) = root.as_mut() else { unreachable!("{PRESENT}") };
    let mut depth = 0;
    loop {
        let node = Arc::make_mut(slot);
        node.summary = OnceLock::new();
        depth += node.prefix.nibbles().len();
        if depth == total {
            let Some(entry) = node.entry.take() else { unreachable!("{PRESENT}") };
            node.join_only_child();
            return entry.value;
        }
        let nibble = nibble_at(key, depth);
        depth += 1;
        let is_leaf = node.children.get(nibble).is_some_and(|child| child.children.is_empty());
        if is_leaf {
            // A leaf below which nothing hangs: it is the key's, and it goes.
            let Some(leaf) = node.children.remove(nibble) else { unreachable!("{PRESENT}") };
            node.join_only_child();
            let Some(entry) = &leaf.entry else { unreachable!("{PRESENT}") };
            return Arc::clone(&entry.value);
        }
        let Some(child) = node.children.get_mut(nibble) else { unreachable!("{PRESENT}") };
        slot = child;
    }
}

/// A place in a trie: `consumed` nibbles into the prefix of `node`. 0 is where the node's subtree begins.
#[derive(Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) consumed: usize,
}

impl<'a> Position<'a> {
    /// The place at the end of `path`, if any key goes through it.
    pub(super) fn at(root: &'a Arc<Node>, path: &[u8]) -> Option<Position<'a>> {
        Position { node: root, consumed: 0 }.advance(path)
    }

    /// The place `path` further down.
    pub(super) fn advance(self, path: &[u8]) -> Option<Position<'a>> {
        let mut place = self;
        for nibble in path {
            match place.node.prefix.nibbles().get(place.consumed) {
                Some(next) if next == nibble => place.consumed += 1,
                Some(_) => return None,
                // A path from outside may hold bytes that are no nibbles.
                None if *nibble > 15 => return None,
                None => place = Position { node: place.node.children.get(*nibble)?, consumed: 0 },
            }
        }
        Some(place)
    }

    /// The subtree that begins here.
    pub(super) fn subtree(self) -> Arc<Node> {
        if self.consumed == 0 { Arc::clone(self.node) } else { Arc::new(self.node.without(self.consumed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the eight nibbles compared at once, from even and odd depths, with a difference at every place
    /// and with none.
    #[test]
    fn prefixes_agree_as_far_as_their_nibbles_do() {
        let key: Vec<u8> = (0..40u32).map(|byte| (byte * 37 + 11) as u8).collect();
        let nibbles: Vec<u8> = (0..2 * key.len()).map(|index| nibble_at(&key, index)).collect();
        for depth in 0..5 {
            for length in 0..60 {
                let shared = &nibbles[depth..depth + length];
                assert_eq!(Prefix::new(shared).agreement(&key, depth), length);
                for different in 0..length {
                    let mut changed = shared.to_vec();
                    changed[different] ^= 1 << (different % 4);
                    assert_eq!(Prefix::new(&changed).agreement(&key, depth), different, "{depth} {length}");
                }
                // A key that ends within the prefix.
                for bytes in depth.div_ceil(2)..(depth + length).div_ceil(2) {
                    let rest = 2 * bytes - depth;
                    assert_eq!(Prefix::new(shared).agreement(&key[..bytes], depth), rest.min(length));
                }
            }
        }
    }
}
