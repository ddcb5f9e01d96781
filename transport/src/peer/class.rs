//! The classes of frames between replicas. Each has a stream of its own in each direction.

use crate::outbound::Overflow;

/// What a frame is, and so how soon it goes and what a full queue does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Small messages of the protocol: votes, checkpoints, status. Sent first; a full queue drops the oldest, since
    /// newer ones make it worthless and the protocol repeats what is missed.
    Vote,
    /// Proposals and requests. A full queue drops the oldest: who missed one asks for its body.
    Proposal,
    /// State transfer, bodies, proofs of view changes. Sent when nothing else waits; a full queue refuses the new one.
    Bulk,
}

impl Class {
    /// All classes, the first served first.
    pub const ALL: [Class; 3] = [Class::Vote, Class::Proposal, Class::Bulk];

    /// The class as an index, and as the first byte of its streams.
    pub const fn index(self) -> usize {
        match self {
            Class::Vote => 0,
            Class::Proposal => 1,
            Class::Bulk => 2,
        }
    }

    pub(crate) fn from_index(index: usize) -> Option<Class> {
        Class::ALL.get(index).copied()
    }

    pub(crate) fn overflow(self) -> Overflow {
        match self {
            Class::Vote | Class::Proposal => Overflow::DropOldest,
            Class::Bulk => Overflow::Refuse,
        }
    }
}
