//! The seam between ordering and what is ordered for: a deterministic service whose whole state is a set of tables.

use std::collections::BTreeMap;

use quorate_crypto::merkle_map::MerkleMap;
use thiserror::Error;

use crate::state::TableId;

/// The lowest table a service may use; 0 to 15 are the execution layer's own.
pub const SERVICE_TABLES_FROM: TableId = TableId(16);

/// The number of the key-value service in [`crate::request::Operation::service`].
pub const KEY_VALUE_SERVICE: u16 = 1;

/// What an operation does to the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It leaves the state as it is.
    Reads,
    /// It may change the state.
    Writes,
}

/// A replicated service. Everything it does is a function of its tables, the operation and the agreed time: no clock,
/// no randomness, no iteration over a hash map, or replicas diverge.
pub trait Service: Sized {
    /// What `operation` does, if it decodes and keeps the service's limits. Depends on the bytes alone, so every replica
    /// and every later moment judges alike.
    fn classify(&self, operation: &[u8]) -> Option<Access>;

    /// Executes `operation`, which [`Service::classify`] accepted, at `agreed_time` (ms) and returns its encoded result,
    /// refusals by the service included. What it costs beyond its bytes (entries it looks at) it takes from `steps`, and it
    /// does no more than those allow: a short operation must not keep a replica busy. What remains depends on the
    /// tables and the operation alone, like the result.
    fn execute(&mut self, operation: &[u8], agreed_time: u64, steps: &mut u64) -> Vec<u8>;

    /// Agreed time (ms) has come to `agreed_time`. Called once at the start of every batch that is not null, the empty
    /// ones included: here deadlines that [`Service::next_deadline`] reported take effect.
    fn advance(&mut self, agreed_time: u64) {
        let _ = agreed_time;
    }

    /// The number of the newest version of the state; grows with every write.
    fn revision(&self) -> u64;

    /// The earliest agreed time (ms) at which something is due although no request comes.
    fn next_deadline(&self) -> Option<u64>;

    /// The whole state. The ids are at least [`SERVICE_TABLES_FROM`], always the same ones, and distinct.
    fn tables(&self) -> Vec<(TableId, MerkleMap)>;

    /// The service whose [`Service::tables`] are `tables`, to the byte and in all that it does later.
    fn restore(tables: &BTreeMap<TableId, MerkleMap>) -> Result<Self, RestoreError>;
}

/// Why tables are not a state. Certified tables never fail; damaged ones on disk may.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// A table is not there.
    #[error("table {} is missing", .0.0)]
    MissingTable(TableId),
    /// A table nobody owns is there.
    #[error("table {} is not known", .0.0)]
    UnknownTable(TableId),
    /// An entry does not decode, or contradicts another.
    #[error("table {}: {reason}", .table.0)]
    Malformed {
        /// The table.
        table: TableId,
        /// What is wrong with it.
        reason: String,
    },
}
