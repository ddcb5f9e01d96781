//! Which of two links to one peer is used. Both sides dial, so two may come up at once, in another order on each side;
//! both must come to the same answer or they would close each other's choice and begin again.
//!
//! A link of another process of the peer replaces the one in use: the process behind that is gone. Between links of
//! one process, the one that the lower replica id dialled is used; of two with one dialler the newer, since nobody
//! dials who has a link. What is not used stays open as a spare for a while: it still delivers what was sent on it,
//! and it takes over if the link in use turns out to be dead on the other side.

use quorate_crypto::ReplicaId;

/// What the choice rests on. Both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The peer's process.
    pub(crate) instance: u64,
    /// Who dialled.
    pub(crate) dialler: ReplicaId,
}

/// What becomes of a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Use it; the old one leads to a process that is gone.
    ReplaceDead,
    /// Use it; the old one becomes the spare.
    ReplaceLive,
    /// Keep the old one; the new one becomes the spare.
    Spare,
}

/// Decides between the link in use and a new one.
pub(crate) fn arbitrate(current: Origin, new: Origin) -> Choice {
    if current.instance != new.instance {
        Choice::ReplaceDead
    } else if new.dialler <= current.dialler {
        Choice::ReplaceLive
    } else {
        Choice::Spare
    }
}

#[cfg(test)]
mod tests;
