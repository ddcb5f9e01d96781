//! An answer that f + 1 other replicas contradict. Replies carry no signature of their own, so this tells the operator
//! where to look and convicts nobody: signed contradictions are [`crate::evidence`].

use std::fmt;

use quorate_crypto::{Digest, ReplicaId, Seq};

/// What was contradicted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contradiction {
    /// A reply to a request.
    Reply {
        /// Digest of the request.
        request: Digest,
        /// The batch it executed in.
        seq: Seq,
    },
    /// A read of the newest state at one revision.
    Read {
        /// The revision.
        revision: u64,
    },
    /// The events of one revision: invented or changed.
    ForgedEvents {
        /// The revision.
        revision: u64,
    },
    /// The events of one revision: left out.
    SkippedEvents {
        /// The revision.
        revision: u64,
    },
    /// The events of one revision: sent again in one subscription.
    RepeatedEvents {
        /// The revision.
        revision: u64,
    },
    /// A status in another replica's name.
    ForeignStatus {
        /// The name it used.
        named: ReplicaId,
    },
}

/// A replica that contradicts f + 1 others, or itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Accusation {
    /// The replica at the other end of the link.
    pub replica: ReplicaId,
    /// What it contradicted.
    pub contradiction: Contradiction,
}

impl fmt::Display for Accusation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} ", self.replica)?;
        match self.contradiction {
            Contradiction::Reply { request, seq } => {
                write!(f, "gave another result than f + 1 others for request {} at seq {seq}", request.short())
            }
            Contradiction::Read { revision } => {
                write!(f, "gave another answer than f + 1 others for a read at revision {revision}")
            }
            Contradiction::ForgedEvents { revision } => {
                write!(f, "sent other events than f + 1 others for revision {revision}")
            }
            Contradiction::SkippedEvents { revision } => {
                write!(f, "left out the events of revision {revision}, which f + 1 others sent")
            }
            Contradiction::RepeatedEvents { revision } => {
                write!(f, "sent revision {revision} again after going past it")
            }
            Contradiction::ForeignStatus { named } => write!(f, "answered in the name of replica {named}"),
        }
    }
}
