//! The up to sixteen children of a node.
//!
//! Most nodes have two or three: text differs by few half-bytes at a time. Those are kept in the node itself, because on
//! the way down a large map nearly every separate allocation is a cache miss.

use std::sync::Arc;

use super::node::Node;

/// How many children are kept in the node itself.
const FEW: usize = 3;

type Slot = Option<Arc<Node>>;

/// Children in ascending order of their nibbles. In `present` bit i is set iff there is a child under nibble i; the
/// children fill the first slots, and no slot among those is empty.
#[derive(Clone)]
pub(super) enum Children {
    Few { present: u16, slots: [Slot; FEW] },
    Many { present: u16, slots: Vec<Slot> },
}

impl Default for Children {
    fn default() -> Children {
        Children::Few { present: 0, slots: [None, None, None] }
    }
}

/// How many of the set bits of `present` are below bit `nibble`.
pub(super) fn rank(present: u16, nibble: u8) -> usize {
    (present & ((1 << nibble) - 1)).count_ones() as usize
}

/// The nibbles whose bits are set, ascending.
pub(super) fn nibbles_of(present: u16) -> impl DoubleEndedIterator<Item = u8> {
    (0..16).filter(move |nibble| present >> nibble & 1 == 1)
}

impl Children {
    /// The children under the nibbles of `present`, in their order.
    pub(super) fn new(present: u16, nodes: Vec<Arc<Node>>) -> Children {
        assert!(present.count_ones() as usize == nodes.len(), "every child has its nibble");
        if nodes.len() > FEW {
            return Children::Many { present, slots: nodes.into_iter().map(Some).collect() };
        }
        let mut slots = [None, None, None];
        for (slot, node) in slots.iter_mut().zip(nodes) {
            *slot = Some(node);
        }
        Children::Few { present, slots }
    }

    pub(super) fn present(&self) -> u16 {
        match self {
            Children::Few { present, .. } | Children::Many { present, .. } => *present,
        }
    }

    fn slots(&self) -> &[Slot] {
        match self {
            Children::Few { slots, .. } => slots,
            Children::Many { slots, .. } => slots,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.present().count_ones() as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present() == 0
    }

    /// How many children have a nibble below `nibble`.
    pub(super) fn rank(&self, nibble: u8) -> usize {
        rank(self.present(), nibble)
    }

    fn has(&self, nibble: u8) -> bool {
        self.present() >> nibble & 1 == 1
    }

    pub(super) fn get(&self, nibble: u8) -> Option<&Arc<Node>> {
        if self.has(nibble) { self.nth(self.rank(nibble)) } else { None }
    }

    pub(super) fn get_mut(&mut self, nibble: u8) -> Option<&mut Arc<Node>> {
        if !self.has(nibble) {
            return None;
        }
        let index = self.rank(nibble);
        match self {
            Children::Few { slots, .. } => slots[index].as_mut(),
            Children::Many { slots, .. } => slots[index].as_mut(),
        }
    }

    /// The child of rank `index`.
    pub(super) fn nth(&self, index: usize) -> Option<&Arc<Node>> {
        self.slots().get(index)?.as_ref()
    }

    /// The child of rank `index` and its nibble.
    pub(super) fn at(&self, index: usize) -> Option<(u8, &Arc<Node>)> {
        let node = self.nth(index)?;
        let mut bits = self.present();
        for _ in 0..index {
            bits &= bits - 1;
        }
        Some((bits.trailing_zeros() as u8, node))
    }

    /// The children, ascending.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.slots().iter().flatten()
    }

    /// The children and their nibbles, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &Arc<Node>)> {
        nibbles_of(self.present()).zip(self.nodes())
    }

    /// Adds the child under `nibble`, where there is none.
    pub(super) fn add(&mut self, nibble: u8, node: Arc<Node>) {
        assert!(!self.has(nibble), "a child is added where there is one");
        let (index, count, bit) = (self.rank(nibble), self.len(), 1 << nibble);
        match self {
            Children::Few { present, slots } if count < FEW => {
                slots[count] = Some(node);
                slots[index..=count].rotate_right(1);
                *present |= bit;
            }
            Children::Few { present, slots } => {
                let mut more = Vec::with_capacity(2 * FEW);
                more.extend(slots.iter_mut().map(Option::take));
                more.insert(index, Some(node));
                *self = Children::Many { present: *present | bit, slots: more };
            }
            Children::Many { present, slots } => {
                slots.insert(index, Some(node));
                *present |= bit;
            }
        }
    }

    /// Takes the child under `nibble` out.
    pub(super) fn remove(&mut self, nibble: u8) -> Option<Arc<Node>> {
        if !self.has(nibble) {
            return None;
        }
        let (index, count, bit) = (self.rank(nibble), self.len(), 1 << nibble);
        match self {
            Children::Few { present, slots } => {
                slots[index..count].rotate_left(1);
                *present &= !bit;
                slots[count - 1].take()
            }
            Children::Many { present, slots } => {
                let removed = slots.remove(index);
                *present &= !bit;
                // Back into the node with room to spare, so that a child that comes and goes costs no allocation.
                if slots.len() < FEW {
                    *self = Children::new(*present, slots.drain(..).flatten().collect());
                }
                removed
            }
        }
    }

    /// Takes all children out and appends them to `nodes`.
    pub(super) fn drain_into(&mut self, nodes: &mut Vec<Arc<Node>>) {
        match std::mem::take(self) {
            Children::Few { slots, .. } => nodes.extend(slots.into_iter().flatten()),
            Children::Many { slots, .. } => nodes.extend(slots.into_iter().flatten()),
        }
    }
}
