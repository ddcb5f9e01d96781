//! A piece of the map that verifies against the digest of the node at its path.

use bincode::{Decode, Encode};

use super::node::Node;
use super::record::{self, RecordValue};
use super::{MAX_KEY, MAX_VALUE};
use crate::digest::Digest;

/// What a chunk is aimed at, in bytes: 256 KiB.
pub const CHUNK_BUDGET: usize = 256 * 1024;

/// Longest chunk in bytes, and the largest budget: one node of the longest prefix and value with sixteen stubs fits.
pub const MAX_CHUNK: usize = MAX_VALUE + MAX_KEY + 1024;

/// A subtree from one path down, with digests in place of what did not fit.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Chunk {
    nodes: Vec<u8>,
}

impl Chunk {
    /// The size of its contents in bytes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it holds nothing; such a chunk is refused.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whatever bytes somebody sent.
    #[cfg(test)]
    pub(super) fn of_bytes(nodes: Vec<u8>) -> Chunk {
        Chunk { nodes }
    }

    pub(super) fn nodes(&self) -> &[u8] {
        &self.nodes
    }

    /// The subtree of `root` within about `budget` bytes, at least its first node.
    ///
    /// A child that fits whole is taken whole. One larger than a whole budget is opened, so that later chunks start
    /// far enough down to fit. Any other is left for a chunk of its own: thus no chunk asked for later is tiny only
    /// because this one ran full.
    pub(super) fn new(root: &Node, budget: usize) -> Chunk {
        let budget = budget.min(MAX_CHUNK) as u64;
        root.summary();
        let mut room = budget.saturating_sub(opening_cost(root));
        let mut nodes = Vec::new();
        let mut stack = vec![(root, false)];
        // Bits of the children each node on the stack goes on with; decided when its record is written.
        while let Some((node, whole)) = stack.pop() {
            let mut following = 0u16;
            let mut chosen = Vec::new();
            for (nibble, child) in node.children.iter() {
                let size = child.summary().bytes;
                // The stub was paid for when the node was opened; a child that follows gives it back.
                let available = room + STUB;
                let taken = if whole || size <= available {
                    Some((size, true))
                } else if size > budget && opening_cost(child) <= available {
                    Some((opening_cost(child), false))
                } else {
                    None
                };
                if let Some((cost, whole_child)) = taken {
                    following |= 1 << nibble;
                    chosen.push((&**child, whole_child));
                    if !whole {
                        room = available - cost;
                    }
                }
            }
            write(&mut nodes, node, following);
            // The first child must be written next.
            stack.extend(chosen.into_iter().rev());
        }
        Chunk { nodes }
    }
}

const STUB: u64 = size_of::<Digest>() as u64;

/// The size of a node's record with a stub for each child.
fn opening_cost(node: &Node) -> u64 {
    node.record_size() as u64 + STUB * node.children.len() as u64
}

fn write(out: &mut Vec<u8>, node: &Node, following: u16) {
    let value = node.entry.as_ref().map_or(RecordValue::None, |entry| RecordValue::Bytes(&entry.value));
    let stubs = node
        .children
        .iter()
        .filter(|(nibble, _)| following >> nibble & 1 == 0)
        .map(|(_, child)| child.summary().digest);
    record::write_record(out, node.prefix.nibbles(), value, node.children.present(), following, stubs);
}
