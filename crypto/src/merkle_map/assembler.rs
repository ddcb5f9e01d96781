//! Rebuilding a map of known digest from chunks, of which none is believed further than its digest.

use std::sync::Arc;

use thiserror::Error;

use super::children::{Children, nibbles_of, rank};
use super::node::{Entry, Node, Position, Prefix};
use super::record::{self, MalformedRecord, Record, RecordValue};
use super::{Chunk, EMPTY_MAP, MAX_CHUNK, MerkleMap, Path};
use crate::digest::Digest;
use crate::mutant::{Mutant, alive};

/// Why a chunk was refused. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// Nothing is missing at this path: it never was part of the map, or it is here already. The latter happens to
    /// honest senders when two chunks cross.
    #[error("nothing is missing at this path")]
    NotWanted,
    /// Longer than [`MAX_CHUNK`].
    #[error("a chunk of {0} bytes")]
    TooLong(usize),
    /// Not an encoding of nodes in canonical shape.
    #[error(transparent)]
    Malformed(#[from] MalformedRecord),
    /// A value is given by its digest only.
    #[error("a value is left out")]
    ValueMissing,
    /// The contents are not those of the map at this path.
    #[error("the contents do not have the digest of this path")]
    WrongDigest,
}

/// What is known at the place of a subtree.
enum Slot {
    Missing(Digest),
    /// The index of an open node.
    Open(usize),
    Complete(Arc<Node>),
}

/// A verified node below which something is missing.
struct OpenNode {
    prefix: Vec<u8>,
    entry: Option<Entry>,
    digest: Digest,
    present: u16,
    children: Vec<Slot>,
    /// How many children are not complete.
    incomplete: usize,
    /// The open node above and this one's rank there; none for the root.
    parent: Option<(usize, usize)>,
}

/// Rebuilds the map of a known digest. It asks only for what it lacks: subtrees that an older map (the fetcher's own
/// state, or [`Assembler::partial`] of an abandoned assembly) has at the same path with the same digest are taken from
/// there.
pub struct Assembler {
    /// None is the empty map.
    root: Option<Slot>,
    /// Open nodes by index; those completed leave a hole.
    open: Vec<Option<OpenNode>>,
    base: MerkleMap,
    missing: usize,
}

impl Assembler {
    /// An assembly of the map of digest `root`, which may use whatever `base` has of it.
    pub fn new(root: Digest, base: &MerkleMap) -> Assembler {
        let base = base.clone();
        base.digest();
        let slot = (root != EMPTY_MAP).then(|| {
            let place = base.root.as_ref().map(|node| Position { node, consumed: 0 });
            reuse(place, root).map_or(Slot::Missing(root), Slot::Complete)
        });
        let missing = usize::from(matches!(slot, Some(Slot::Missing(_))));
        Assembler { root: slot, open: Vec::new(), base, missing }
    }

    /// The number of subtrees known to be missing; those below them are not known yet.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The map, if it is complete.
    pub fn finish(self) -> Option<MerkleMap> {
        match self.root {
            None => Some(MerkleMap::new()),
            Some(Slot::Complete(root)) => Some(MerkleMap::from_root(Some(root))),
            Some(_) => None,
        }
    }

    /// Up to `limit` paths of missing subtrees, in key order.
    pub fn wanted(&self, limit: usize) -> Vec<Path> {
        let mut found = Vec::new();
        if limit == 0 {
            return found;
        }
        let mut path = Vec::new();
        let mut stack: Vec<(&OpenNode, usize, usize)> = Vec::new();
        let mut next = self.root.as_ref();
        loop {
            match next.take() {
                Some(Slot::Missing(_)) => {
                    found.push(path.clone());
                    if found.len() == limit {
                        return found;
                    }
                }
                Some(Slot::Open(index)) => {
                    let node = self.open_node(*index);
                    stack.push((node, 0, path.len()));
                    path.extend_from_slice(&node.prefix);
                }
                Some(Slot::Complete(_)) | None => {}
            }
            let Some((node, rank, above)) = stack.last_mut() else { return found };
            path.truncate(*above + node.prefix.len());
            match nibbles_of(node.present).zip(&node.children).nth(*rank) {
                Some((nibble, slot)) => {
                    *rank += 1;
                    path.push(nibble);
                    next = Some(slot);
                }
                None => {
                    path.truncate(*above);
                    stack.pop();
                }
            }
        }
    }

    /// Takes the chunk for the missing subtree at `path`, if it is what the map holds there.
    pub fn add(&mut self, path: &[u8], chunk: &Chunk) -> Result<(), ChunkError> {
        let (expected, parent) = self.locate(path).ok_or(ChunkError::NotWanted)?;
        if chunk.len() > MAX_CHUNK {
            return Err(ChunkError::TooLong(chunk.len()));
        }
        let mut records = record::read_subtree(chunk.nodes(), path.len())?;
        if records.iter().any(|record| matches!(record.value, RecordValue::Digest(_))) {
            return Err(ChunkError::ValueMissing);
        }
        let digests = record::digests(&mut records);
        if digests[0] != expected && !alive(Mutant::ChunkNotBound) {
            return Err(ChunkError::WrongDigest);
        }
        // From here on every record is known to be part of the map.
        self.missing -= 1;
        let slot = self.build(path, &records, &digests);
        self.place(parent, slot);
        Ok(())
    }

    /// Everything known so far, together with what the base has where something is missing, as a map of its own. Its
    /// contents were never anybody's state; it serves as the base of an assembly of another digest.
    pub fn partial(&self) -> MerkleMap {
        struct Frame<'a> {
            node: &'a OpenNode,
            place: Option<Position<'a>>,
            rank: usize,
            present: u16,
            built: Vec<Arc<Node>>,
        }
        let mut stack: Vec<Frame<'_>> = Vec::new();
        let base = self.base.root.as_ref().map(|node| Position { node, consumed: 0 });
        let mut next = self.root.as_ref().map(|slot| (slot, base));
        loop {
            // What stands at the place just visited: `None` while an open node is only entered.
            let done: Option<Option<Arc<Node>>> = match next.take() {
                Some((Slot::Complete(node), _)) => Some(Some(Arc::clone(node))),
                Some((Slot::Missing(_), place)) => Some(place.map(Position::subtree)),
                Some((Slot::Open(index), place)) => {
                    let node = self.open_node(*index);
                    let place = place.and_then(|place| place.advance(&node.prefix));
                    stack.push(Frame { node, place, rank: 0, present: 0, built: Vec::new() });
                    None
                }
                None => match stack.pop() {
                    None => return MerkleMap::new(),
                    Some(frame) => {
                        let children = Children::new(frame.present, frame.built);
                        Some(Node::canonical(Prefix::new(&frame.node.prefix), frame.node.entry.clone(), children))
                    }
                },
            };
            if let Some(subtree) = done {
                let Some(frame) = stack.last_mut() else { return MerkleMap::from_root(subtree) };
                if let (Some(subtree), Some(nibble)) = (subtree, nibbles_of(frame.node.present).nth(frame.rank - 1)) {
                    frame.present |= 1 << nibble;
                    frame.built.push(subtree);
                }
            }
            let Some(frame) = stack.last_mut() else { return MerkleMap::new() };
            if let Some((nibble, slot)) = nibbles_of(frame.node.present).zip(&frame.node.children).nth(frame.rank) {
                frame.rank += 1;
                next = Some((slot, frame.place.and_then(|place| place.advance(&[nibble]))));
            }
        }
    }

    fn open_node(&self, index: usize) -> &OpenNode {
        let Some(node) = &self.open[index] else { unreachable!("an open slot names an open node") };
        node
    }

    /// The digest missing at `path`, and the open node and rank it belongs to.
    fn locate(&self, path: &[u8]) -> Option<(Digest, Option<(usize, usize)>)> {
        let mut slot = self.root.as_ref()?;
        let mut parent = None;
        let mut rest = path;
        loop {
            match slot {
                Slot::Complete(_) => return None,
                Slot::Missing(digest) => return rest.is_empty().then_some((*digest, parent)),
                Slot::Open(index) => {
                    let node = self.open_node(*index);
                    let (nibble, below) = rest.strip_prefix(node.prefix.as_slice())?.split_first()?;
                    if *nibble > 15 || node.present >> nibble & 1 == 0 {
                        return None;
                    }
                    let rank = rank(node.present, *nibble);
                    parent = Some((*index, rank));
                    slot = &node.children[rank];
                    rest = below;
                }
            }
        }
    }

    /// Turns verified records into nodes, children first. What is left out is taken from the base or noted as missing.
    fn build(&mut self, path: &[u8], records: &[Record<'_>], digests: &[Digest]) -> Slot {
        let base = self.base.clone();
        let places = places(&base, path, records);
        let mut slots: Vec<Option<Slot>> = records.iter().map(|_| None).collect();
        // The records that follow a record, last first.
        let mut following: Vec<Vec<usize>> = vec![Vec::new(); records.len()];
        for index in (0..records.len()).rev() {
            let record = &records[index];
            let mut children = Vec::with_capacity(record.children.len());
            for (nibble, digest) in nibbles_of(record.present).zip(&record.children) {
                let child = if record.following >> nibble & 1 == 1 {
                    following[index].pop().and_then(|child| slots[child].take())
                } else {
                    let place = places[index].and_then(|place| place.advance(&[nibble]));
                    Some(reuse(place, *digest).map_or_else(
                        || {
                            self.missing += 1;
                            Slot::Missing(*digest)
                        },
                        Slot::Complete,
                    ))
                };
                let Some(child) = child else { unreachable!("children stand after their parents") };
                children.push(child);
            }
            if let Some((parent, _)) = record.parent {
                following[parent].push(index);
            }
            let incomplete = children.iter().filter(|child| !matches!(child, Slot::Complete(_))).count();
            // A chunk is sent for what changed in it; the rest is in the base, and must not take memory twice.
            let held = record.parent.filter(|_| incomplete == 0).and_then(|(parent, nibble)| {
                let place = places[parent].and_then(|place| place.advance(&[nibble]));
                reuse(place, digests[index])
            });
            if let Some(subtree) = held {
                slots[index] = Some(Slot::Complete(subtree));
                continue;
            }
            let node = OpenNode {
                prefix: record.prefix.clone(),
                entry: record.stored_value().map(Entry::new),
                digest: digests[index],
                present: record.present,
                children,
                incomplete,
                parent: None,
            };
            slots[index] = Some(if incomplete == 0 { Slot::Complete(close(node)) } else { self.keep(node) });
        }
        let Some(root) = slots.swap_remove(0) else { unreachable!("the first record is built last") };
        root
    }

    /// Keeps an open node and tells its open children where they belong.
    fn keep(&mut self, node: OpenNode) -> Slot {
        let index = self.open.len();
        for (rank, child) in node.children.iter().enumerate() {
            if let Slot::Open(child) = child
                && let Some(child) = &mut self.open[*child]
            {
                child.parent = Some((index, rank));
            }
        }
        self.open.push(Some(node));
        Slot::Open(index)
    }

    /// Puts a subtree in its place and closes every node above that becomes complete by it.
    fn place(&mut self, parent: Option<(usize, usize)>, slot: Slot) {
        let (mut parent, mut slot) = (parent, slot);
        while let Some((index, rank)) = parent {
            if let Slot::Open(child) = slot
                && let Some(child) = &mut self.open[child]
            {
                child.parent = parent;
            }
            let Some(node) = &mut self.open[index] else { unreachable!("a parent of a missing subtree is open") };
            let complete = matches!(slot, Slot::Complete(_));
            node.children[rank] = slot;
            if !complete {
                return;
            }
            node.incomplete -= 1;
            if node.incomplete > 0 {
                return;
            }
            let Some(node) = self.open[index].take() else { unreachable!("it was open just now") };
            parent = node.parent;
            slot = Slot::Complete(close(node));
        }
        self.root = Some(slot);
    }
}

/// The node of an open node whose children are complete; its digest was verified.
fn close(node: OpenNode) -> Arc<Node> {
    let children = node
        .children
        .into_iter()
        .map(|child| match child {
            Slot::Complete(child) => child,
            Slot::Missing(_) | Slot::Open(_) => unreachable!("no child is incomplete"),
        })
        .collect();
    let closed = Node::new(Prefix::new(&node.prefix), node.entry, Children::new(node.present, children));
    assert!(closed.summary().digest == node.digest, "a node rebuilt from verified bytes has their digest");
    Arc::new(closed)
}

/// The place in the base at the end of each record's prefix.
fn places<'a>(base: &'a MerkleMap, path: &[u8], records: &[Record<'_>]) -> Vec<Option<Position<'a>>> {
    let mut places: Vec<Option<Position<'a>>> = Vec::with_capacity(records.len());
    for record in records {
        let above = match record.parent {
            None => base.root.as_ref().and_then(|root| Position::at(root, path)),
            Some((parent, nibble)) => places[parent].and_then(|place| place.advance(&[nibble])),
        };
        places.push(above.and_then(|place| place.advance(&record.prefix)));
    }
    places
}

/// The base's subtree at `place` if it has the digest that is looked for.
fn reuse(place: Option<Position<'_>>, digest: Digest) -> Option<Arc<Node>> {
    let subtree = place?.subtree();
    (subtree.summary().digest == digest).then_some(subtree)
}

#[cfg(test)]
mod tests;
