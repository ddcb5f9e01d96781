//! The state of the service and what executes on it.
//!
//! What comes in: operations and the agreed time. What goes out: results, events, the state's digest, and what changed
//! since a snapshot. All state is in three [`MerkleMap`]s; a clone is a snapshot at no cost.
//!
//! | module | what it does |
//! |---|---|
//! | `walk` | the keys of a range that exist at a revision, within a budget |
//! | `reading` | what is read of them: range, compare |
//! | `execution` | apply: put, delete, txn |
//! | `compaction` | the logical bound of history and the removal of what lies behind it |
//! | `history` | the events since a revision, in complete revisions |
//! | `integrity` | the check that tables agree with each other |

mod compaction;
mod execution;
mod history;
mod integrity;
mod reading;
mod walk;

use std::sync::Arc;

use quorate_crypto::digest::{Digest, Domain};
use quorate_crypto::encoding::{Decode, Encode, decode, encode};
use quorate_crypto::merkle_map::{MerkleMap, Value};
use thiserror::Error;

use crate::event::{StoredEvent, split_event_key};
use crate::history_key;
use crate::limit::MAX_KEY_BYTES;

pub use compaction::{PURGE_STEPS_PER_COMPACTION, PURGE_STEPS_PER_EVENT, PURGE_STEPS_PER_WRITE, PURGE_STEPS_WHEN_FULL};
pub use integrity::IntegrityError;

/// Version of the layout of the tables. Others are refused.
pub const FORMAT: u32 = 1;

/// The revision of a store that nothing was ever written to, as in etcd; the first write makes revision 2.
pub const FIRST_REVISION: u64 = 1;

const FORMAT_KEY: &[u8] = b"format";
const PARAMETERS_KEY: &[u8] = b"parameters";
const STATUS_KEY: &[u8] = b"status";

/// Longest entry of the table META that is read.
const MAX_META_BYTES: usize = 256;

/// The number of a table, as persistence and state transfer name it. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TableId(pub u8);

impl TableId {
    /// Key to the pair that exists now.
    pub const PAIRS: TableId = TableId(1);
    /// Revision and sub to stored event.
    pub const EVENTS: TableId = TableId(2);
    /// Format, parameters, status.
    pub const META: TableId = TableId(3);
    /// Every table, ascending.
    pub const ALL: [TableId; 3] = [TableId::PAIRS, TableId::EVENTS, TableId::META];
}

/// What is chosen at genesis. Part of the state: replicas with other parameters have another root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Parameters {
    /// Puts are refused beyond so many logical bytes: keys, values and fixed overhead of the present pairs and of the
    /// history that is kept.
    pub quota_bytes: u64,
    /// Revisions below the newest that stay readable: each write compacts to this distance. 0 leaves compaction to
    /// requests.
    pub auto_compaction_retention: u64,
}

impl Default for Parameters {
    /// 512 MiB, and the last 100,000 revisions.
    fn default() -> Parameters {
        Parameters { quota_bytes: 512 * 1024 * 1024, auto_compaction_retention: 100_000 }
    }
}

/// The numbers that the store keeps of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// The newest revision.
    pub current_revision: u64,
    /// The oldest revision that can be read; 0 before the first compaction.
    pub compact_revision: u64,
    /// Events are removed up to this place: revision.
    pub purge_revision: u64,
    /// Events are removed up to this place: sub.
    pub purge_sub: u32,
    /// Bytes of keys and values in PAIRS and EVENTS; what the quota is compared with.
    pub logical_bytes: u64,
}

/// One entry that differs from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// The table.
    pub table: TableId,
    /// The entry's key in the table.
    pub key: Vec<u8>,
    /// The value now; None if the entry is gone.
    pub value: Option<&'a [u8]>,
}

/// Why tables are not a store's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A table is given twice, or one that the service does not have.
    #[error("unexpected table {}", .0.0)]
    UnexpectedTable(TableId),
    /// An entry of EVENTS is malformed.
    #[error("table EVENTS: a malformed entry")]
    Events,
    /// An entry of META is missing or malformed.
    #[error("table META: the entry {0:?} is missing or malformed")]
    Meta(&'static str),
    /// The layout is of another version of this program.
    #[error("tables of format {0}, this program reads format 1")]
    Format(u32),
}

/// The replicated state. Cloning takes a snapshot in constant time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pairs: MerkleMap,
    events: MerkleMap,
    meta: MerkleMap,
    /// Key, revision and sub of every stored event: where each key was touched. It follows from EVENTS, from which it is
    /// made again on loading, so it is in no table and its digest is never taken. Its values are all empty.
    history: MerkleMap,
    /// The one empty value of the history: an allocation of its own for each event would be a cache miss more.
    nothing: Value,
    /// Decoded from META, where it is written back at the end of every operation that changes it.
    parameters: Parameters,
    status: Status,
}

impl Store {
    /// An empty store at [`FIRST_REVISION`].
    pub fn new(parameters: Parameters) -> Store {
        let status = Status {
            current_revision: FIRST_REVISION,
            compact_revision: 0,
            purge_revision: 0,
            purge_sub: 0,
            logical_bytes: 0,
        };
        let meta = MerkleMap::from_entries([
            (FORMAT_KEY, encode(&FORMAT)),
            (PARAMETERS_KEY, encode(&parameters)),
            (STATUS_KEY, encode(&status)),
        ]);
        let [pairs, events, history] = [MerkleMap::new(), MerkleMap::new(), MerkleMap::new()];
        Store { pairs, events, meta, history, nothing: nothing(), parameters, status }
    }

    /// The store of the tables that [`Store::tables`] gave; a missing table is empty. Reads META and EVENTS: compare
    /// [`Store::root`] with the root that is expected, or call [`Store::check_integrity`].
    ///
    /// # Errors
    /// The tables are not a store's, or of an unknown format.
    pub fn from_tables(tables: impl IntoIterator<Item = (TableId, MerkleMap)>) -> Result<Store, LoadError> {
        let mut given: [Option<MerkleMap>; 3] = [const { None }; 3];
        for (table, map) in tables {
            let place = TableId::ALL.iter().position(|known| *known == table);
            match place.map(|place| &mut given[place]) {
                Some(slot @ None) => *slot = Some(map),
                _ => return Err(LoadError::UnexpectedTable(table)),
            }
        }
        let [pairs, events, meta] = given.map(Option::unwrap_or_default);
        let format = meta_entry::<u32>(&meta, FORMAT_KEY, "format")?;
        if format != FORMAT {
            return Err(LoadError::Format(format));
        }
        let parameters = meta_entry(&meta, PARAMETERS_KEY, "parameters")?;
        let status: Status = meta_entry(&meta, STATUS_KEY, "status")?;
        if status.current_revision < FIRST_REVISION || status.compact_revision > status.current_revision {
            return Err(LoadError::Meta("status"));
        }
        let nothing = nothing();
        let history = history_of(&events, &nothing)?;
        Ok(Store { pairs, events, meta, history, nothing, parameters, status })
    }

    /// The tables, which are the whole state.
    pub fn tables(&self) -> [(TableId, &MerkleMap); 3] {
        [(TableId::PAIRS, &self.pairs), (TableId::EVENTS, &self.events), (TableId::META, &self.meta)]
    }

    /// The digest of the whole state: named digests of the tables. Costs what changed since it was last taken.
    pub fn root(&self) -> Digest {
        Digest::of(
            Domain::State,
            &[
                b"kv",
                b"pairs",
                self.pairs.digest().as_bytes(),
                b"events",
                self.events.digest().as_bytes(),
                b"meta",
                self.meta.digest().as_bytes(),
            ],
        )
    }

    /// Every entry that differs from `older`, table by table in ascending order of keys. Costs what changed.
    pub fn changes_since<'a>(&'a self, older: &'a Store) -> impl Iterator<Item = Change<'a>> + 'a {
        self.tables().into_iter().zip(older.tables()).flat_map(|((table, newer), (_, older))| {
            newer.changes_since(older).map(move |(key, value)| Change { table, key, value })
        })
    }

    /// The parameters chosen at genesis.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// The numbers that the store keeps of itself.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The newest revision.
    pub fn current_revision(&self) -> u64 {
        self.status.current_revision
    }

    /// The oldest revision that can be read; 0 before the first compaction.
    pub fn compact_revision(&self) -> u64 {
        self.status.compact_revision
    }

    /// The agreed time in milliseconds at which the service has something to do by itself; the cluster then owes it a
    /// batch. None: nothing here expires until there are leases.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// How many keys exist.
    pub fn live_keys(&self) -> usize {
        self.pairs.len()
    }

    /// Writes the status back to META.
    fn save_status(&mut self) {
        self.meta.insert(STATUS_KEY, encode(&self.status));
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::new(Parameters::default())
    }
}

fn meta_entry<T: Decode<()>>(meta: &MerkleMap, key: &[u8], name: &'static str) -> Result<T, LoadError> {
    let bytes = meta.get(key).ok_or(LoadError::Meta(name))?;
    decode(bytes, MAX_META_BYTES).map_err(|_| LoadError::Meta(name))
}

/// The empty value.
fn nothing() -> Value {
    Value::from([])
}

/// The history of these events, each with the value `nothing`.
fn history_of(events: &MerkleMap, nothing: &Value) -> Result<MerkleMap, LoadError> {
    let mut history = MerkleMap::new();
    for (place, stored) in events {
        let (revision, sub) = split_event_key(&place).ok_or(LoadError::Events)?;
        let key = StoredEvent::parse(stored).ok_or(LoadError::Events)?.key;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(LoadError::Events);
        }
        history.insert_shared(&history_key::place(&history_key::prefix(key), revision, sub), Arc::clone(nothing));
    }
    Ok(history)
}

#[cfg(test)]
mod tests;
