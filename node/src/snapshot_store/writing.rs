//! One checkpoint on its way to the disk.

use quorate_crypto::Seq;
use quorate_crypto::merkle_map::MerkleMap;

use super::{Checkpoint, Commit, MAX_HEADER_BYTES, MAX_TABLES, PREFIX, SnapshotError, SnapshotStore, entry};
use crate::disk::{Disk, DiskError};
use crate::log::frame::{self, FrameHeader, HEADER_BYTES};
use crate::log::recovery::{self, Leftover, SLICES_PER_SYNC, Tail};
use crate::log::segments::{BLOCK_BYTES, Position, SLICE_BYTES};
use crate::log::superblock;

/// Ready segments kept when old ones become free.
const SPARE_SEGMENTS: u64 = 1;

/// What a checkpoint cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The checkpoint that is durable now.
    pub seq: Seq,
    /// Bytes of changed entries.
    pub delta_bytes: u64,
    /// Bytes of live entries carried over from the old end.
    pub carried_bytes: u64,
    /// Whether all entries were written anew because an old frame was found damaged.
    pub rewritten: bool,
}

/// Why a group was given up; what it wrote is taken back unless the disk failed.
pub(super) enum GivenUp {
    /// A frame at the old end is not what was written. The tables in memory are whole, so everything is written anew.
    OldFrameDamaged,
    Disk(DiskError),
}

impl From<DiskError> for GivenUp {
    fn from(error: DiskError) -> GivenUp {
        GivenUp::Disk(error)
    }
}

/// Collects entries into frames.
pub(super) struct Group {
    /// Where its first frame is.
    pub from: Tail,
    payload: Vec<u8>,
    frames: Vec<Position>,
    block: Vec<u8>,
    unsynced: u64,
    delta_bytes: u64,
    pub carried_bytes: u64,
}

impl Group {
    fn new(from: Tail) -> Group {
        let (payload, frames, block) = (Vec::new(), Vec::new(), Vec::new());
        Group { from, payload, frames, block, unsynced: 0, delta_bytes: 0, carried_bytes: 0 }
    }

    /// Entry bytes that are not in a frame yet.
    pub fn pending_bytes(&self) -> u64 {
        self.payload.len() as u64
    }
}

impl<D: Disk> SnapshotStore<D> {
    /// Makes `checkpoint` durable. Costs what changed since the last one, and a bounded multiple of that for cleaning;
    /// writes in slices of at most 1 MiB and syncs every few, so that no sync holds the medium for long.
    ///
    /// # Errors
    /// [`SnapshotError::TooManyTables`], [`SnapshotError::HeaderTooLong`] and [`DiskError::DiskFull`] leave the
    /// previous checkpoint the latest, and the store usable. After anything else the process must end.
    ///
    /// # Panics
    /// If it is used after such an error.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint<'_>) -> Result<Written, SnapshotError> {
        assert!(!self.failed, "the snapshot store has failed");
        if checkpoint.tables.len() > MAX_TABLES {
            return Err(SnapshotError::TooManyTables(checkpoint.tables.len()));
        }
        if checkpoint.header.len() > MAX_HEADER_BYTES {
            return Err(SnapshotError::HeaderTooLong(checkpoint.header.len()));
        }
        let result = match self.attempt(checkpoint, false) {
            Err(GivenUp::OldFrameDamaged) => self.attempt(checkpoint, true),
            result => result,
        };
        match result {
            Ok(written) => Ok(written),
            Err(GivenUp::Disk(error)) => Err(SnapshotError::Disk(error)),
            Err(GivenUp::OldFrameDamaged) => unreachable!("writing everything anew reads no old frame"),
        }
    }

    /// Writes one group and makes it durable. `anew` writes every entry and keeps nothing that is on the disk.
    fn attempt(&mut self, checkpoint: Checkpoint<'_>, anew: bool) -> Result<Written, GivenUp> {
        let mut group = Group::new(self.tail);
        match self.write_group(&mut group, checkpoint, anew) {
            Ok((start, live_bytes)) => {
                self.durable = Some((checkpoint.seq, checkpoint.tables.to_vec()));
                self.live_bytes = live_bytes;
                self.group += 1;
                self.start = start;
                let freed = self.free_segments();
                self.failed = freed.is_err();
                freed?;
                Ok(Written {
                    seq: checkpoint.seq,
                    delta_bytes: group.delta_bytes,
                    carried_bytes: group.carried_bytes,
                    rewritten: anew,
                })
            }
            Err(given_up) => {
                let usable = match &given_up {
                    GivenUp::OldFrameDamaged => true,
                    GivenUp::Disk(error) => error.is_disk_full(),
                };
                self.failed = true;
                if usable {
                    self.take_back(&group)?;
                    self.failed = false;
                }
                Err(given_up)
            }
        }
    }

    /// All frames of the group, synced. Returns the new first frame and the bytes of live entries.
    fn write_group(
        &mut self,
        group: &mut Group,
        checkpoint: Checkpoint<'_>,
        anew: bool,
    ) -> Result<(Tail, u64), GivenUp> {
        let nothing = MerkleMap::new();
        let older = match &self.durable {
            Some((_, tables)) if !anew => tables.clone(),
            _ => Vec::new(),
        };
        let mut live_bytes = if anew { 0 } else { self.live_bytes };
        for index in 0..checkpoint.tables.len().max(older.len()) {
            let newer = checkpoint.tables.get(index).unwrap_or(&nothing);
            let older = older.get(index).unwrap_or(&nothing);
            for (key, value) in newer.changes_since(older) {
                live_bytes -= older.get(&key).map_or(0, |old| entry::put_bytes(&key, old));
                live_bytes += value.map_or(0, |new| entry::put_bytes(&key, new));
                group.delta_bytes += self.add(group, index as u8, &key, value)?;
            }
        }
        let start =
            if anew { group.from } else { self.clean(group, checkpoint.tables, live_bytes, group.delta_bytes)? };
        let commit = Commit {
            seq: checkpoint.seq,
            root: checkpoint.root,
            header: checkpoint.header.to_vec(),
            table_digests: checkpoint.tables.iter().map(MerkleMap::digest).collect(),
        };
        entry::commit(&mut group.payload, &commit);
        self.flush(group)?;
        self.segments.sync(&mut self.disk)?;
        Ok((start, live_bytes))
    }

    /// Adds an entry for `key`: its value, or that it has none any more. Returns the entry's bytes.
    pub(super) fn add(
        &mut self,
        group: &mut Group,
        table: u8,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<u64, DiskError> {
        let bytes = value.map_or_else(|| entry::remove_bytes(key), |value| entry::put_bytes(key, value));
        if !group.payload.is_empty() && HEADER_BYTES + group.payload.len() + bytes as usize > self.slice_bytes() {
            self.flush(group)?;
        }
        match value {
            Some(value) => entry::put(&mut group.payload, table, key, value),
            None => entry::remove(&mut group.payload, table, key),
        }
        Ok(bytes)
    }

    /// Writes the collected entries as one frame.
    fn flush(&mut self, group: &mut Group) -> Result<(), DiskError> {
        let end = self.tail.position.after_frame(group.payload.len());
        self.segments.prepare_until(&mut self.disk, end)?;
        let key = *self.segments.key();
        let header = FrameHeader::seal(&key, self.tail.number, self.group, self.tail.previous, &group.payload);
        frame::fill_blocks(&mut group.block, &key, &header, &group.payload);
        group.payload.clear();
        group.frames.push(self.tail.position);
        self.segments.write(&mut self.disk, self.tail.position, &group.block)?;
        self.tail = self.tail.after(&header);
        group.unsynced += group.block.len() as u64;
        if group.unsynced >= SLICES_PER_SYNC * self.slice_bytes() as u64 {
            self.segments.sync(&mut self.disk)?;
            group.unsynced = 0;
        }
        Ok(())
    }

    /// The size that frames are filled up to, header included; a single larger entry makes a larger frame. A whole number
    /// of blocks, so that little is lost to padding: 1 MiB, less where segments are small.
    pub(super) fn slice_bytes(&self) -> usize {
        let block = BLOCK_BYTES as usize;
        (self.segments.segment_bytes() as usize / 4 / block * block).clamp(block, SLICE_BYTES)
    }

    /// Makes it as if the group had never been begun.
    fn take_back(&mut self, group: &Group) -> Result<(), DiskError> {
        let headers: Vec<Leftover> =
            group.frames.iter().map(|position| Leftover { position: *position, length: 0 }).collect();
        recovery::erase(&mut self.disk, &mut self.segments, group.from.position, &headers)?;
        self.tail = group.from;
        Ok(())
    }

    /// Gives up the segments before the first needed frame, once the superblock says so.
    fn free_segments(&mut self) -> Result<(), DiskError> {
        let first = self.segments.index_of(self.start.position);
        if first <= self.segments.first() {
            return Ok(());
        }
        self.superblock.advance(self.start);
        superblock::store(&mut self.disk, PREFIX, &self.superblock)?;
        let ready = self.segments.end_index().saturating_sub(self.segments.index_of(self.tail.position) + 1);
        self.segments.release(&mut self.disk, first, SPARE_SEGMENTS.saturating_sub(ready))
    }
}
