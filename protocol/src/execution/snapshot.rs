//! Snapshots of the whole state, and the way back.
//!
//! Table 0 has one entry: key `00` -> [`Meta`]. It is made when a snapshot is taken, so that a batch costs nothing here.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Epoch, PublicKey, Seq};

use super::Execution;
use super::configuration::{CONFIGURATION_TABLE, Configuration};
use super::service::{RestoreError, SERVICE_TABLES_FROM, Service};
use super::session::{SESSION_TABLE, SessionTable};
use crate::state::{Snapshot, TABLES_MAX, TableId};

/// Version of the layout of the tables 0 to 15. A state of another one is refused.
const FORMAT: u16 = 1;
const META_TABLE: TableId = TableId(0);
const META_KEY: &[u8] = &[0];
const META_BYTES_MAX: usize = 128;

/// What table 0 says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Meta {
    format: u16,
    seq: Seq,
    epoch: Epoch,
    /// t(n), milliseconds.
    time: u64,
    swept: PublicKey,
}

/// The service's tables are distinct and its own.
pub(super) fn assert_tables<S: Service>(service: &S) {
    let tables = service.tables();
    assert!(
        tables.len() + 3 <= TABLES_MAX && tables.iter().all(|(table, _)| *table >= SERVICE_TABLES_FROM),
        "the service claims tables that are not its own"
    );
    let distinct: BTreeSet<TableId> = tables.iter().map(|(table, _)| *table).collect();
    assert_eq!(distinct.len(), tables.len(), "the service claims a table twice");
}

impl<S: Service> Execution<S> {
    /// The whole state as it is, at the cost of a few pointers.
    pub fn snapshot(&self) -> Snapshot {
        let meta = Meta { format: FORMAT, seq: self.seq, epoch: self.epoch, time: self.time, swept: self.swept };
        let own = [
            (META_TABLE, MerkleMap::from_entries([(META_KEY, encode(&meta))])),
            (SESSION_TABLE, self.sessions.table().clone()),
            (CONFIGURATION_TABLE, self.configuration.table().clone()),
        ];
        Snapshot { seq: self.seq, tables: own.into_iter().chain(self.service.tables()).collect() }
    }

    /// The state a snapshot holds. It goes on exactly as the one it was taken of: equal batches give equal outcomes and
    /// equal roots. Reads every session once.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Execution<S>, RestoreError> {
        let table = |id: TableId| snapshot.tables.get(&id).ok_or(RestoreError::MissingTable(id));
        let malformed = |reason: &str| RestoreError::Malformed { table: META_TABLE, reason: reason.to_owned() };
        let meta = table(META_TABLE)?;
        let decoded: Option<Meta> = meta.get(META_KEY).and_then(|bytes| decode(bytes, META_BYTES_MAX).ok());
        let Some(Meta { format, seq, epoch, time, swept }) = decoded else {
            return Err(malformed("no header"));
        };
        if format != FORMAT {
            return Err(malformed("another format version"));
        }
        if seq != snapshot.seq || meta.len() != 1 {
            return Err(malformed("not the header of this snapshot"));
        }
        let sessions = SessionTable::restore(table(SESSION_TABLE)?)?;
        let configuration = Configuration::restore(table(CONFIGURATION_TABLE)?)?;
        let own = [META_TABLE, SESSION_TABLE, CONFIGURATION_TABLE];
        let of_service: BTreeMap<TableId, MerkleMap> =
            snapshot.tables.iter().filter(|(id, _)| !own.contains(id)).map(|(id, map)| (*id, map.clone())).collect();
        if let Some(id) = of_service.keys().find(|id| **id < SERVICE_TABLES_FROM) {
            return Err(RestoreError::UnknownTable(*id));
        }
        let service = S::restore(&of_service)?;
        let claimed: Vec<TableId> = service.tables().into_iter().map(|(id, _)| id).collect();
        if let Some(id) = of_service.keys().find(|id| !claimed.contains(id)) {
            return Err(RestoreError::UnknownTable(*id));
        }
        assert_tables(&service);
        Ok(Execution { service, configuration, sessions, seq, epoch, time, swept })
    }
}
