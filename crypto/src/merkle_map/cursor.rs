//! Walking a map in key order. A key comes before every key it is a prefix of, so ascending is a node's own value and
//! then its children, descending the reverse.

use std::cmp::Ordering;

use super::node::{Node, key_of, nibble_at};

struct Frame<'a> {
    node: &'a Node,
    /// Ascending: 0 is the node's value, i + 1 the child of rank i.
    /// Descending: 0 is the end, 1 the node's value, i + 2 the child of rank i.
    step: usize,
    /// Length of the path above this node.
    above: usize,
}

/// How a subtree lies to a bound.
enum Placement {
    /// All of its keys are below the bound.
    Below,
    /// All of its keys are at or above the bound.
    AtOrAbove,
    /// The node's own key is below; the bound goes on under this nibble.
    Across(u8),
}

fn placement(node: &Node, bound: &[u8], depth: usize) -> Placement {
    let nibbles = node.prefix.nibbles();
    let agreement = node.prefix.agreement(bound, depth);
    let rest = 2 * bound.len() - depth;
    if agreement == rest {
        return Placement::AtOrAbove;
    }
    let next = nibble_at(bound, depth + agreement);
    match nibbles.get(agreement).map(|nibble| nibble.cmp(&next)) {
        None => Placement::Across(next),
        Some(Ordering::Less) => Placement::Below,
        Some(_) => Placement::AtOrAbove,
    }
}

/// Entries in ascending order; see [`super::MerkleMap::range`].
pub struct Ascending<'a> {
    stack: Vec<Frame<'a>>,
    path: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl<'a> Ascending<'a> {
    pub(super) fn new(root: Option<&'a Node>, from: &[u8], to: Option<&[u8]>) -> Ascending<'a> {
        let mut walk = Ascending { stack: Vec::new(), path: Vec::new(), to: to.map(<[u8]>::to_vec) };
        let mut next = root;
        let mut above = 0;
        while let Some(node) = next.take() {
            let step = match placement(node, from, walk.path.len()) {
                Placement::Below => {
                    walk.path.truncate(above);
                    break;
                }
                Placement::AtOrAbove => 0,
                Placement::Across(nibble) => {
                    let rank = node.children.rank(nibble);
                    next = node.children.get(nibble).map(|child| &**child);
                    if next.is_some() { rank + 2 } else { rank + 1 }
                }
            };
            walk.path.extend_from_slice(node.prefix.nibbles());
            walk.stack.push(Frame { node, step, above });
            if next.is_some() {
                above = walk.path.len();
                walk.path.push(nibble_at(from, above));
            }
        }
        walk
    }
}

impl<'a> Iterator for Ascending<'a> {
    type Item = (Vec<u8>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(frame) = self.stack.last_mut() {
            let node = frame.node;
            let step = frame.step;
            frame.step += 1;
            if step == 0 {
                let Some(entry) = &node.entry else { continue };
                let key = key_of(&self.path);
                if self.to.as_ref().is_some_and(|to| key >= *to) {
                    self.stack.clear();
                    return None;
                }
                return Some((key, &entry.value));
            }
            if let Some((nibble, child)) = node.children.at(step - 1) {
                let above = self.path.len();
                self.path.push(nibble);
                self.path.extend_from_slice(child.prefix.nibbles());
                self.stack.push(Frame { node: child, step: 0, above });
            } else {
                self.path.truncate(frame.above);
                self.stack.pop();
            }
        }
        None
    }
}

/// Entries in descending order; see [`super::MerkleMap::range_descending`].
pub struct Descending<'a> {
    stack: Vec<Frame<'a>>,
    path: Vec<u8>,
    from: Vec<u8>,
}

impl<'a> Descending<'a> {
    pub(super) fn new(root: Option<&'a Node>, from: &[u8], to: Option<&[u8]>) -> Descending<'a> {
        let mut walk = Descending { stack: Vec::new(), path: Vec::new(), from: from.to_vec() };
        let mut next = root;
        let mut above = 0;
        while let Some(node) = next.take() {
            let step = match to.map(|to| placement(node, to, walk.path.len())) {
                Some(Placement::AtOrAbove) => {
                    walk.path.truncate(above);
                    break;
                }
                None | Some(Placement::Below) => node.children.len() + 1,
                Some(Placement::Across(nibble)) => {
                    next = node.children.get(nibble).map(|child| &**child);
                    node.children.rank(nibble) + 1
                }
            };
            walk.path.extend_from_slice(node.prefix.nibbles());
            walk.stack.push(Frame { node, step, above });
            if let (Some(_), Some(to)) = (next, to) {
                above = walk.path.len();
                walk.path.push(nibble_at(to, above));
            }
        }
        walk
    }
}

impl<'a> Iterator for Descending<'a> {
    type Item = (Vec<u8>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(frame) = self.stack.last_mut() {
            let node = frame.node;
            let step = frame.step;
            frame.step = step.saturating_sub(1);
            match step {
                0 => {
                    self.path.truncate(frame.above);
                    self.stack.pop();
                }
                1 => {
                    let Some(entry) = &node.entry else { continue };
                    let key = key_of(&self.path);
                    if key < self.from {
                        self.stack.clear();
                        return None;
                    }
                    return Some((key, &entry.value));
                }
                _ => {
                    let Some((nibble, child)) = node.children.at(step - 2) else { continue };
                    let above = self.path.len();
                    self.path.push(nibble);
                    self.path.extend_from_slice(child.prefix.nibbles());
                    self.stack.push(Frame { node: child, step: child.children.len() + 1, above });
                }
            }
        }
        None
    }
}
