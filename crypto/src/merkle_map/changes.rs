//! What differs between two snapshots: both tries are walked together, and equal subtrees are left alone.

use std::sync::Arc;

use super::node::{Entry, Node, key_of};

/// The rest of a subtree: `node` with the first `consumed` nibbles of its prefix already in the path.
#[derive(Clone, Copy)]
struct Part<'a> {
    node: &'a Node,
    consumed: usize,
}

impl<'a> Part<'a> {
    fn whole(node: &'a Node) -> Part<'a> {
        Part { node, consumed: 0 }
    }

    fn rest(self) -> &'a [u8] {
        &self.node.prefix.nibbles()[self.consumed..]
    }
}

struct Task<'a> {
    /// Length of the path to go back to.
    above: usize,
    /// The nibble that then leads to the parts.
    nibble: Option<u8>,
    newer: Option<Part<'a>>,
    older: Option<Part<'a>>,
}

/// The changes between two maps in key order; see [`super::MerkleMap::changes_since`].
pub struct Changes<'a> {
    stack: Vec<Task<'a>>,
    path: Vec<u8>,
    visited: u64,
}

type Change<'a> = (Vec<u8>, Option<&'a [u8]>);

impl<'a> Changes<'a> {
    pub(super) fn new(newer: Option<&'a Node>, older: Option<&'a Node>) -> Changes<'a> {
        let first = Task { above: 0, nibble: None, newer: newer.map(Part::whole), older: older.map(Part::whole) };
        Changes { stack: vec![first], path: Vec::new(), visited: 0 }
    }

    /// How many places of the two maps were compared so far.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// Schedules what stands under each nibble of two nodes at one place. The next to be done is pushed last.
    fn descend(&mut self, newer: Branches<'a>, older: Branches<'a>) {
        let above = self.path.len();
        for nibble in (0..16).rev() {
            let (newer, older) = (newer.get(nibble), older.get(nibble));
            let same = match (newer, older) {
                (Some(newer), Some(older)) => equal(newer, older),
                (None, None) => true,
                _ => false,
            };
            if !same {
                self.stack.push(Task { above, nibble: Some(nibble), newer, older });
            }
        }
    }

    fn change(&self, newer: Option<&'a Entry>, older: Option<&'a Entry>) -> Option<Change<'a>> {
        let (newer, older) = (newer.map(|entry| &entry.value), older.map(|entry| &entry.value));
        let same = match (newer, older) {
            (Some(newer), Some(older)) => Arc::ptr_eq(newer, older) || newer == older,
            (None, None) => true,
            _ => false,
        };
        (!same).then(|| (key_of(&self.path), newer.map(|value| &**value)))
    }

    /// Compares two parts at one place.
    fn compare(&mut self, newer: Part<'a>, older: Part<'a>) -> Option<Change<'a>> {
        if equal(newer, older) {
            return None;
        }
        let (left, right) = (newer.rest(), older.rest());
        let common = left.iter().zip(right).take_while(|(left, right)| left == right).count();
        self.path.extend_from_slice(&left[..common]);
        let (newer, older) =
            (Part { consumed: newer.consumed + common, ..newer }, Part { consumed: older.consumed + common, ..older });
        match (newer.rest().first(), older.rest().first()) {
            (None, None) => {
                self.descend(Branches::Below(newer.node), Branches::Below(older.node));
                self.change(newer.node.entry.as_ref(), older.node.entry.as_ref())
            }
            (None, Some(_)) => {
                self.descend(Branches::Below(newer.node), Branches::Along(older));
                self.change(newer.node.entry.as_ref(), None)
            }
            (Some(_), None) => {
                self.descend(Branches::Along(newer), Branches::Below(older.node));
                self.change(None, older.node.entry.as_ref())
            }
            (Some(left), Some(right)) => {
                // The common part stays in the path for both.
                let above = self.path.len();
                let added = Task { above, nibble: None, newer: Some(newer), older: None };
                let removed = Task { above, nibble: None, newer: None, older: Some(older) };
                let (first, second) = if left < right { (added, removed) } else { (removed, added) };
                self.stack.push(second);
                self.stack.push(first);
                None
            }
        }
    }

    fn step(&mut self, task: Task<'a>) -> Option<Change<'a>> {
        self.visited += 1;
        self.path.truncate(task.above);
        self.path.extend(task.nibble);
        match (task.newer, task.older) {
            (Some(newer), Some(older)) => self.compare(newer, older),
            (Some(newer), None) => {
                self.path.extend_from_slice(newer.rest());
                self.descend(Branches::Below(newer.node), Branches::None);
                self.change(newer.node.entry.as_ref(), None)
            }
            (None, Some(older)) => {
                self.path.extend_from_slice(older.rest());
                self.descend(Branches::None, Branches::Below(older.node));
                self.change(None, older.node.entry.as_ref())
            }
            (None, None) => None,
        }
    }
}

/// What hangs under the nibbles at a place.
#[derive(Clone, Copy)]
enum Branches<'a> {
    None,
    /// The children of a node whose prefix is used up.
    Below(&'a Node),
    /// The one way on through a prefix.
    Along(Part<'a>),
}

impl<'a> Branches<'a> {
    fn get(self, nibble: u8) -> Option<Part<'a>> {
        match self {
            Branches::None => None,
            Branches::Below(node) => node.children.get(nibble).map(|child| Part::whole(child)),
            Branches::Along(part) => {
                (part.rest().first() == Some(&nibble)).then(|| Part { consumed: part.consumed + 1, ..part })
            }
        }
    }
}

/// Whether two parts at one place are known to hold the same.
fn equal(newer: Part<'_>, older: Part<'_>) -> bool {
    if newer.consumed != older.consumed {
        return false;
    }
    if std::ptr::eq(newer.node, older.node) {
        return true;
    }
    match (newer.node.known_digest(), older.node.known_digest()) {
        // A digest covers the whole prefix, and so the part of it that is still to come.
        (Some(newer), Some(older)) => newer == older,
        _ => false,
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        while let Some(task) = self.stack.pop() {
            if let Some(change) = self.step(task) {
                return Some(change);
            }
        }
        None
    }
}
