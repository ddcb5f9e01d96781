//! The key-value store as a service of the execution layer: kv and protocol do not know each other.

use std::collections::BTreeMap;

use quorate_crypto::merkle_map::MerkleMap;
use quorate_kv::{Operation, Parameters, Store};
use quorate_protocol::execution::{Access, RestoreError, Service};
use quorate_protocol::state::TableId;

/// Where the store's tables begin among the state's.
const FIRST_TABLE: u8 = 16;

/// The replicated key-value store.
#[derive(Clone)]
pub struct KeyValue(Store);

impl KeyValue {
    /// An empty store.
    pub fn new(parameters: Parameters) -> KeyValue {
        KeyValue(Store::new(parameters))
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.0
    }
}

impl Service for KeyValue {
    fn classify(&self, operation: &[u8]) -> Option<Access> {
        let operation = Operation::from_bytes(operation).ok()?;
        quorate_kv::check(&operation).ok()?;
        Some(if quorate_kv::is_read_only(&operation) { Access::Reads } else { Access::Writes })
    }

    fn execute(&mut self, operation: &[u8], agreed_time: u64, steps: &mut u64) -> Vec<u8> {
        self.0.apply_encoded(operation, agreed_time, steps).to_bytes()
    }

    fn revision(&self) -> u64 {
        self.0.current_revision()
    }

    fn next_deadline(&self) -> Option<u64> {
        self.0.next_deadline()
    }

    fn tables(&self) -> Vec<(TableId, MerkleMap)> {
        self.0.tables().into_iter().map(|(id, map)| (TableId(FIRST_TABLE + id.0), map.clone())).collect()
    }

    fn restore(tables: &BTreeMap<TableId, MerkleMap>) -> Result<Self, RestoreError> {
        let own = tables
            .range(TableId(FIRST_TABLE)..)
            .map(|(id, map)| (quorate_kv::TableId(id.0 - FIRST_TABLE), map.clone()));
        Store::from_tables(own)
            .map(KeyValue)
            .map_err(|error| RestoreError::Malformed { table: TableId(FIRST_TABLE), reason: error.to_string() })
    }
}
