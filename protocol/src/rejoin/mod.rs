//! Rejoining: how a replica that lost its log comes back without ever contradicting its old self (protocol.md, Rejoin).
//!
//! ```text
//!   no trusted log ─► Rejoin{incarnation + 1, nonce} ─► ordered at n_r ─► null requests up to n_r + L
//!                        ▲  recorded, then sent                                    │
//!                        │                                   certified checkpoint >= n_r + L, held durably
//!                        └──────────── it shows another nonce ◄────────────────────┤
//!                                                            it shows this nonce ──► a new life above it
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | this one | what the replicated state keeps of every replica that rejoined |
//! | [`request`] | a Rejoin as a request that is ordered like any other |
//! | [`rules`] | which life of a replica is believed about what, as pure functions |
//! | [`attempt`] | the replica's own way back |
//!
//! Why a checkpoint alone is not enough: with n = 4, R alone leaves view 5 and only the liar Z gets its VIEW-CHANGE(6). R is
//! wiped, comes back, and with B and Z commits (5, n, d). Z then builds NEW-VIEW(6) from R's old VIEW-CHANGE, a lie of its own
//! and A's honest one, none of which mentions n. So lives are told apart by incarnation, and the old one is not believed
//! where the new one speaks. Nothing here knows which engine runs.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Incarnation, ReplicaId, Seq, Signed, StatementBody};

use crate::state::Snapshot;

pub mod attempt;
pub mod request;
pub mod rules;

pub use attempt::{Outlook, Rejoining};
pub use request::{rejoin_request, rejoin_statement};

/// First byte of the keys of these entries in the configuration table.
pub const REJOIN_TAG: u8 = 2;
/// Most bytes of a [`RejoinRecord`].
const RECORD_BYTES_MAX: usize = 64;

/// What the state keeps of a replica that rejoined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RejoinRecord {
    /// The incarnation it asked for.
    pub incarnation: Incarnation,
    /// Which of the attempts at this incarnation won.
    pub nonce: [u8; 16],
    /// n_r: the batch that executed it.
    pub seq: Seq,
}

/// Every replica that ever rejoined, by the state at one number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rejoined(BTreeMap<ReplicaId, RejoinRecord>);

fn table_key(replica: ReplicaId) -> [u8; 3] {
    let [high, low] = replica.0.to_be_bytes();
    [REJOIN_TAG, high, low]
}

/// Executes a verified Rejoin at `seq`. The first of the next incarnation wins; any other leaves no trace. Returns whether
/// it won.
pub fn execute(table: &mut MerkleMap, statement: &Signed, seq: Seq) -> bool {
    let StatementBody::Rejoin { nonce } = *statement.body() else { return false };
    let replica = statement.signer();
    let incarnation = statement.statement.incarnation;
    let known = entry(table, replica).map_or(Incarnation(0), |record| record.incarnation);
    if known.0.checked_add(1) != Some(incarnation.0) {
        return false;
    }
    table.insert(&table_key(replica), encode(&RejoinRecord { incarnation, nonce, seq }));
    true
}

/// What the table says of one replica.
pub fn entry(table: &MerkleMap, replica: ReplicaId) -> Option<RejoinRecord> {
    table.get(&table_key(replica)).and_then(|bytes| decode(bytes, RECORD_BYTES_MAX).ok())
}

impl Rejoined {
    /// The entries of a configuration table; `None` if one of them is malformed.
    pub fn read(table: &MerkleMap) -> Option<Rejoined> {
        let mut records = BTreeMap::new();
        for (key, value) in table.range(&[REJOIN_TAG], Some(&[REJOIN_TAG + 1])) {
            let &[_, high, low] = key.as_slice() else { return None };
            let record: RejoinRecord = decode(value, RECORD_BYTES_MAX).ok()?;
            records.insert(ReplicaId(u16::from_be_bytes([high, low])), record);
        }
        Some(Rejoined(records))
    }

    /// What a snapshot shows. One without a configuration table, or with a malformed one, shows nothing.
    pub fn of_snapshot(snapshot: &Snapshot) -> Rejoined {
        let table = snapshot.tables.get(&crate::execution::CONFIGURATION_TABLE);
        table.and_then(Rejoined::read).unwrap_or_default()
    }

    /// What is known of one replica; `None` if it never rejoined.
    pub fn get(&self, replica: ReplicaId) -> Option<&RejoinRecord> {
        self.0.get(&replica)
    }

    /// The incarnation a replica is in as far as is known.
    pub fn incarnation(&self, replica: ReplicaId) -> Incarnation {
        self.get(replica).map_or(Incarnation(0), |record| record.incarnation)
    }

    /// All of them, ascending by replica.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, &RejoinRecord)> {
        self.0.iter().map(|(replica, record)| (*replica, record))
    }

    /// How many replicas ever rejoined.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none ever did.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
