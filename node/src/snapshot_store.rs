//! Durable checkpoints of the replicated state: what a replica executes on from after a restart, and what it vouches
//! for with CHECKPOINT.
//!
//! What comes in: the tables of the state as [`MerkleMap`]s, with a root and an opaque header, once per checkpoint.
//! What goes out: after [`SnapshotStore::checkpoint`] returned, the guarantee that [`SnapshotStore::open`] gives the
//! same tables back, or those of a later checkpoint.
//!
//! The store is a log of changes, made of the same segments and frames as [`crate::log`] under the prefix `snapshot`.
//! A checkpoint appends what changed since the one before and ends with a commit entry. All its frames are one group
//! (see [`crate::log::frame`]); a group without its commit entry is as if it had never been, so the checkpoint before
//! it is the latest. To bound the space, a checkpoint also cleans at the old end: entries there that the tables still
//! hold are appended again and the first frame moves on (Rosenblum and Ousterhout, SOSP 1991).
//!
//! Invariants:
//! - Replaying the entries from the first frame on gives the tables of the last commit, which its table digests prove.
//! - The first frame moves only after a checkpoint without the frames before it is durable.
//! - The space between the first frame and the end is at most about three times the live entries, plus a few segments.
//!
//! The store is owned by one thread; snapshots are cheap clones of the tables.

use bincode::{Decode, Encode};
use quorate_crypto::merkle_map::{MAX_KEY, MAX_VALUE, MerkleMap};
use quorate_crypto::{Digest, Seq};
use thiserror::Error;

use crate::disk::{Disk, DiskError};
use crate::log::frame::FrameHeader;
use crate::log::recovery::{self, Leftover, Tail};
use crate::log::segments::Segments;
use crate::log::superblock::{self, Kind, Superblock};
use crate::log::{LogIdentity, LogKey, LogSettings, OpenError, Trust};

mod cleaning;
mod entry;
mod writing;

pub use writing::Written;

use entry::Entry;

/// The largest number of tables.
pub const MAX_TABLES: usize = 256;

/// The longest header in bytes: 8 MiB.
pub const MAX_HEADER_BYTES: usize = 8 << 20;

const PREFIX: &str = "snapshot";

/// How to create a store.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotSettings {
    /// Whose it is.
    pub identity: LogIdentity,
    /// Size of a segment in bytes, a multiple of 4096, at least [`crate::log::MIN_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Fresh random bytes, not those of the log; see [`LogKey::random`].
    pub key: LogKey,
}

/// What to make durable.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint<'a> {
    /// The sequence number it stands at.
    pub seq: Seq,
    /// The state root; kept, not recomputed here.
    pub root: Digest,
    /// Anything small that belongs to it, at most [`MAX_HEADER_BYTES`].
    pub header: &'a [u8],
    /// The tables by index, at most [`MAX_TABLES`].
    pub tables: &'a [MerkleMap],
}

/// The latest durable checkpoint.
#[derive(Debug, Clone)]
pub struct LoadedCheckpoint {
    /// As given.
    pub seq: Seq,
    /// As given.
    pub root: Digest,
    /// As given.
    pub header: Vec<u8>,
    /// The tables, each checked against the digest it had when it was written.
    pub tables: Vec<MerkleMap>,
}

/// Why a checkpoint was not made durable.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// More than [`MAX_TABLES`]. Nothing was written.
    #[error("{0} tables exceed the limit")]
    TooManyTables(usize),
    /// Longer than [`MAX_HEADER_BYTES`]. Nothing was written.
    #[error("a header of {0} bytes exceeds the limit")]
    HeaderTooLong(usize),
    /// The medium failed. After [`DiskError::DiskFull`] the previous checkpoint is the latest and the call can be made
    /// again; after anything else the process must end.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The entry that ends a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Commit {
    seq: Seq,
    root: Digest,
    header: Vec<u8>,
    table_digests: Vec<Digest>,
}

/// Durable checkpoints on a disk. See the module's documentation.
#[derive(Debug)]
pub struct SnapshotStore<D> {
    disk: D,
    superblock: Superblock,
    segments: Segments,
    /// The first frame that is needed; the superblock's may lag behind within one segment.
    start: Tail,
    tail: Tail,
    /// The ordinal of the next checkpoint.
    group: u64,
    /// Tables and sequence number of the latest durable checkpoint.
    durable: Option<(Seq, Vec<MerkleMap>)>,
    /// Bytes that the entries of the durable tables take when written once.
    live_bytes: u64,
    failed: bool,
}

impl<D: Disk> SnapshotStore<D> {
    /// Makes an empty store.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`], [`OpenError::Disk`].
    pub fn create(mut disk: D, settings: &SnapshotSettings) -> Result<SnapshotStore<D>, OpenError> {
        let settings = LogSettings {
            identity: settings.identity,
            trust: Trust::MustRejoin,
            segment_bytes: settings.segment_bytes,
            key: settings.key,
        };
        let superblock = Superblock::new(Kind::Snapshot, &settings);
        let segments = superblock::create(&mut disk, PREFIX, &superblock, false)?;
        let start = superblock.start;
        let store = SnapshotStore {
            disk,
            superblock,
            segments,
            start,
            tail: start,
            group: 1,
            durable: None,
            live_bytes: 0,
            failed: false,
        };
        Ok(store)
    }

    /// Opens a store and rebuilds the latest durable checkpoint; `None` if there never was one.
    ///
    /// A checkpoint that rotted as a whole or in part at the very end cannot be told from one that was interrupted; the
    /// one before it is given then. The caller compares the sequence number with where its log begins.
    ///
    /// # Errors
    /// Every [`OpenError`] but `AlreadyExists`; nothing is modified unless the store is sound. After
    /// [`OpenError::Damaged`] the store can be discarded and the state fetched from other replicas.
    pub fn open(mut disk: D, identity: LogIdentity) -> Result<(SnapshotStore<D>, Option<LoadedCheckpoint>), OpenError> {
        let superblock = superblock::load(&mut disk, PREFIX, Kind::Snapshot, identity)?;
        let mut segments = superblock.open_segments(&mut disk, PREFIX, false)?;
        let start = superblock.start;
        let mut replay = Replay::new(start);
        recovery::read_frames(&mut disk, &segments, start, |at, header, payload| replay.frame(at, header, payload))?;
        let tail = replay.committed_tail;
        let leftovers: Vec<Leftover> = recovery::leftovers(&mut disk, &segments, tail, replay.committed_group + 1)?
            .into_iter()
            // Without its header block a frame is nothing; the rest need not be overwritten.
            .map(|leftover| Leftover { length: 0, ..leftover })
            .collect();
        let from = replay.committed_from;
        let group = replay.committed_group + 1;
        let loaded = replay.finish(start)?;
        superblock::store(&mut disk, PREFIX, &superblock)?;
        segments.mend(&mut disk)?;
        recovery::erase(&mut disk, &mut segments, tail.position, &leftovers)?;
        recovery::write_again(&mut disk, &mut segments, from.position, tail.position)?;
        let durable = loaded.as_ref().map(|loaded| (loaded.seq, loaded.tables.clone()));
        let live_bytes = loaded.as_ref().map_or(0, |loaded| live_bytes(&loaded.tables));
        let store =
            SnapshotStore { disk, superblock, segments, start, tail, group, durable, live_bytes, failed: false };
        Ok((store, loaded))
    }

    /// Removes a store, to start over with a state fetched from others.
    ///
    /// # Errors
    /// Any [`DiskError`].
    pub fn discard(disk: &mut D) -> Result<(), DiskError> {
        superblock::discard(disk, PREFIX)
    }

    /// The sequence number of the latest durable checkpoint.
    pub fn durable_seq(&self) -> Option<Seq> {
        self.durable.as_ref().map(|(seq, _)| *seq)
    }

    /// Bytes that the live entries take when written once.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes between the first needed frame and the end.
    pub fn used_bytes(&self) -> u64 {
        self.tail.position.bytes_since(self.start.position)
    }

    /// Bytes of all files.
    pub fn size_on_disk(&self) -> u64 {
        self.segments.size_on_disk() + superblock::FILE_BYTES
    }
}

/// Rebuilds the tables from the frames.
struct Replay {
    /// As of the last commit.
    tables: Vec<MerkleMap>,
    committed: Option<Commit>,
    committed_group: u64,
    committed_from: Tail,
    committed_tail: Tail,
    /// The checkpoint being read: its ordinal, its first frame, and its payloads, to be applied when it is complete.
    group: u64,
    group_from: Tail,
    waiting: Vec<Vec<u8>>,
}

impl Replay {
    fn new(start: Tail) -> Replay {
        Replay {
            tables: Vec::new(),
            committed: None,
            committed_group: 0,
            committed_from: start,
            committed_tail: start,
            group: 0,
            group_from: start,
            waiting: Vec::new(),
        }
    }

    fn frame(&mut self, at: Tail, header: &FrameHeader, payload: Vec<u8>) -> Result<(), OpenError> {
        let damaged = |why| OpenError::Damaged { frame: header.number, why };
        if header.group != self.group {
            if self.group != self.committed_group {
                return Err(damaged("the checkpoint before it has no end"));
            }
            if header.group < self.group || (self.group != 0 && header.group != self.group + 1) {
                return Err(damaged("checkpoints are out of order"));
            }
            self.group = header.group;
            self.group_from = at;
            if self.committed.is_none() {
                // The frames before the first kept one belong to checkpoints that were complete.
                self.committed_group = header.group - 1;
            }
        } else if self.group == self.committed_group {
            return Err(damaged("it follows the end of its checkpoint"));
        }
        let commit = entry::commit_of(&payload).map_err(damaged)?;
        self.waiting.push(payload);
        if let Some(commit) = commit {
            for payload in std::mem::take(&mut self.waiting) {
                self.apply(&payload).map_err(damaged)?;
            }
            self.tables.resize_with(commit.table_digests.len(), MerkleMap::new);
            self.committed = Some(commit);
            self.committed_group = self.group;
            self.committed_from = self.group_from;
            self.committed_tail = at.after(header);
        }
        Ok(())
    }

    fn apply(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        for entry in entry::parse(payload) {
            match entry? {
                Entry::Put { key, value, .. } if key.len() > MAX_KEY || value.len() > MAX_VALUE => {
                    return Err("an entry exceeds the limits of a table");
                }
                Entry::Put { table, key, value } => {
                    self.table(table).insert(key, value.to_vec());
                }
                Entry::Remove { table, key } => {
                    self.table(table).remove(key);
                }
                Entry::Commit(_) => {}
            }
        }
        Ok(())
    }

    fn table(&mut self, index: u8) -> &mut MerkleMap {
        let index = usize::from(index);
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, MerkleMap::new);
        }
        &mut self.tables[index]
    }

    fn finish(self, start: Tail) -> Result<Option<LoadedCheckpoint>, OpenError> {
        let damaged = |why| OpenError::Damaged { frame: start.number, why };
        let (Some(commit), tables) = (self.committed, self.tables) else {
            // The first frame moves only when a checkpoint is durable.
            let never_moved = start.number.0 == 1;
            return if never_moved { Ok(None) } else { Err(damaged("the latest checkpoint is gone")) };
        };
        if tables.iter().zip(&commit.table_digests).any(|(table, digest)| table.digest() != *digest) {
            return Err(damaged("the tables do not have the digests they were written with"));
        }
        Ok(Some(LoadedCheckpoint { seq: commit.seq, root: commit.root, header: commit.header, tables }))
    }
}

fn live_bytes(tables: &[MerkleMap]) -> u64 {
    tables.iter().flat_map(MerkleMap::iter).map(|(key, value)| entry::put_bytes(&key, value)).sum()
}

#[cfg(test)]
mod tests;
