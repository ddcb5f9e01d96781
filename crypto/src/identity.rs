//! Identities and counters, each its own type so that a view is never taken for a sequence number.

use std::fmt;

use bincode::{Decode, Encode};

use crate::digest::Digest;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty), $label:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($label, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl $name {
            /// The next number; saturates at the largest, which no honest run reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

number!(
    /// A replica's number in the cluster. Never reused for another key.
    ReplicaId(u16), "r"
);
number!(
    /// A view (PBFT) or round (HotStuff): who leads.
    View(u64), "v"
);
number!(
    /// A sequence number: the place of a batch in the total order. 0 is the genesis state; the first batch has 1.
    Seq(u64), "s"
);
number!(
    /// A configuration epoch: which committee counts.
    Epoch(u64), "e"
);
number!(
    /// How often a replica has rejoined with an empty log.
    Incarnation(u32), "i"
);

impl ReplicaId {
    /// The id as an index into a list ordered by id.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Seq {
    /// The number `count` further on; saturates.
    #[must_use]
    pub const fn plus(self, count: u64) -> Seq {
        Seq(self.0.saturating_add(count))
    }
}

impl View {
    /// The view before; view 0 has none.
    pub fn previous(self) -> Option<View> {
        self.0.checked_sub(1).map(View)
    }
}

/// The digest that names a cluster (see the genesis file). It is part of every signed byte string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct ClusterId(pub Digest);

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.short())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
