//! The replicated state as the protocol sees it: named tables and a header whose digest is what checkpoints sign.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use quorate_crypto::encoding::encode;
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Digest, Domain, Seq};

/// Names a table of the state. 0 to 15 belong to execution, 16 and up to services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct TableId(pub u8);

/// Most tables a state may have.
pub const TABLES_MAX: usize = 32;

/// What a checkpoint's digest is taken over: the number, the tables' roots. Agreed time and everything else that matters
/// is inside a table.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct StateHeader {
    /// Every batch up to here is executed.
    pub seq: Seq,
    /// Root digest of each table, ascending by table.
    pub tables: Vec<(TableId, Digest)>,
}

impl StateHeader {
    /// The state root.
    pub fn digest(&self) -> Digest {
        Digest::of(Domain::State, &[&encode(self)])
    }

    /// Tables are ascending, distinct and not too many.
    pub fn is_well_formed(&self) -> bool {
        self.tables.len() <= TABLES_MAX && self.tables.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}

/// An immutable copy of the state at one number. Cloning costs O(1) per table.
#[derive(Clone)]
pub struct Snapshot {
    /// The number.
    pub seq: Seq,
    /// The tables.
    pub tables: BTreeMap<TableId, MerkleMap>,
}

impl Snapshot {
    /// The header; computing the roots costs what changed since they were last computed.
    pub fn header(&self) -> StateHeader {
        StateHeader { seq: self.seq, tables: self.tables.iter().map(|(table, map)| (*table, map.digest())).collect() }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot at {:?}", self.seq)
    }
}
