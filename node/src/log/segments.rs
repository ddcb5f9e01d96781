//! Files of equal size that together are one long row of bytes, written over in place.
//!
//! A [`Position`] counts the data bytes of all segments since the log was made; it only grows. Data of segment `i` holds
//! the positions from `i * data` on, where `data` is the segment size less its 4096-byte header:
//!
//! ```text
//! offset  bytes  field, integers big-endian
//!      0      8  "QRMSEGMT"
//!      8      4  format version, 1
//!     12     16  check: the first 16 bytes of H(frame, key, "segment", bytes 0..12)
//!     28         zeros up to 4096
//! ```
//!
//! The header does not name the segment's place, so that renaming is all it takes to use one again. It decides nothing
//! about frames, which prove themselves; it keeps unknown versions and foreign files out.

use std::collections::BTreeSet;

use quorate_crypto::{Digest, Domain};

use super::OpenError;
use super::frame::{FrameNumber, HEADER_BYTES, LogKey};
use crate::disk::{Disk, DiskError, WRITE_SLICE_BYTES};

/// Frames start at multiples of this many bytes: the page size, and at least the physical sector of today's media, so
/// that writing a frame never rewrites a block that holds a durable one.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The most that one write, or the preparation of a segment between two syncs, takes in bytes.
pub(crate) const SLICE_BYTES: usize = WRITE_SLICE_BYTES;

const MAGIC: [u8; 8] = *b"QRMSEGMT";
const VERSION: u32 = 1;
const CHECKED: usize = 12;
const HEADER: usize = CHECKED + 16;

/// A place in the row of data bytes, always a multiple of [`BLOCK_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position(pub u64);

impl Position {
    /// Where the frame after one with a payload of `length` bytes starts.
    pub fn after_frame(self, length: usize) -> Position {
        self.plus((HEADER_BYTES as u64 + length as u64).next_multiple_of(BLOCK_BYTES))
    }

    pub fn plus(self, bytes: u64) -> Position {
        Position(self.0 + bytes)
    }

    /// Bytes from `earlier` to here; 0 if it is not earlier.
    pub fn bytes_since(self, earlier: Position) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The segments of one log on a disk.
#[derive(Debug)]
pub(crate) struct Segments {
    prefix: &'static str,
    key: LogKey,
    segment_bytes: u64,
    /// Whether new segments are written with zeros, so that later syncs need not update metadata.
    prewrite: bool,
    /// Segments `first..end` exist, complete and durable under their names.
    first: u64,
    end: u64,
    /// Bytes of the segment being prepared that are written and synced.
    preparing: Option<u64>,
    /// Segments with unsynced writes.
    dirty: BTreeSet<u64>,
}

impl Segments {
    /// No segment yet. `first` is the index of the one to be made first.
    pub fn empty(prefix: &'static str, key: LogKey, segment_bytes: u64, prewrite: bool, first: u64) -> Segments {
        assert!(
            segment_bytes >= 2 * BLOCK_BYTES && segment_bytes.is_multiple_of(BLOCK_BYTES),
            "a segment is a header block and at least one block of data"
        );
        Segments { prefix, key, segment_bytes, prewrite, first, end: first, preparing: None, dirty: BTreeSet::new() }
    }

    /// Finds the segments on disk from the one with `start` in it. Modifies nothing.
    pub fn open(mut self, disk: &mut impl Disk, number: FrameNumber) -> Result<Segments, OpenError> {
        let damaged = |why| OpenError::Damaged { frame: number, why };
        for index in self.indexes(disk)?.into_iter().filter(|index| *index >= self.first) {
            if index != self.end {
                return Err(damaged("a segment is missing"));
            }
            if disk.length(&self.name(index))? != Some(self.segment_bytes) {
                return Err(damaged("a segment has the wrong length"));
            }
            if let HeaderState::UnknownVersion(version) = self.read_header(disk, index)? {
                return Err(OpenError::UnknownVersion(version));
            }
            self.end += 1;
        }
        if self.end == self.first {
            return Err(damaged("the first segment is missing"));
        }
        Ok(self)
    }

    /// After a sound recovery: removes what a crash left behind and restores segment headers.
    pub fn mend(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        for index in self.indexes(disk)?.into_iter().filter(|index| *index < self.first) {
            disk.remove(&self.name(index))?;
        }
        if disk.length(&self.preparing_name())?.is_some() {
            disk.remove(&self.preparing_name())?;
        }
        // Even if nothing was removed: the process before may have died between a rename and its sync.
        disk.sync_directory()?;
        for index in self.first..self.end {
            // Also where it reads well: the process that wrote it may have died of the failed sync.
            disk.write_at(&self.name(index), 0, &self.header())?;
            disk.sync_data(&self.name(index))?;
        }
        Ok(())
    }

    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// Index of the first segment in use.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Index after the last ready segment.
    pub fn end_index(&self) -> u64 {
        self.end
    }

    /// The position after the last ready byte.
    pub fn end(&self) -> Position {
        Position(self.end * self.data_bytes())
    }

    /// Index of the segment that holds `position`.
    pub fn index_of(&self, position: Position) -> u64 {
        position.0 / self.data_bytes()
    }

    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub fn size_on_disk(&self) -> u64 {
        (self.end - self.first + u64::from(self.preparing.is_some())) * self.segment_bytes
    }

    /// Fills `buffer` from `position`; all of it must lie in ready segments.
    pub fn read(&self, disk: &mut impl Disk, position: Position, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            let (index, offset, room) = self.locate(position.plus(done as u64));
            let count = room.min(buffer.len() - done);
            disk.read_at(&self.name(index), offset, &mut buffer[done..done + count])?;
            done += count;
        }
        Ok(())
    }

    /// Writes `bytes` at `position` in slices; all of it must lie in ready segments. Durable after [`Segments::sync`].
    pub fn write(&mut self, disk: &mut impl Disk, position: Position, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(position.plus(bytes.len() as u64) <= self.end(), "space is prepared before a frame is written");
        let mut done = 0;
        while done < bytes.len() {
            let (index, offset, room) = self.locate(position.plus(done as u64));
            let count = room.min(bytes.len() - done).min(SLICE_BYTES);
            self.dirty.insert(index);
            disk.write_at(&self.name(index), offset, &bytes[done..done + count])?;
            done += count;
        }
        Ok(())
    }

    /// Makes every write durable.
    pub fn sync(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        while let Some(index) = self.dirty.first().copied() {
            disk.sync_data(&self.name(index))?;
            self.dirty.remove(&index);
        }
        Ok(())
    }

    /// Prepares segments until `end` lies in ready ones.
    pub fn prepare_until(&mut self, disk: &mut impl Disk, end: Position) -> Result<(), DiskError> {
        while self.end() < end {
            self.prepare_slice(disk)?;
        }
        Ok(())
    }

    /// One bounded step towards one more ready segment: at most [`SLICE_BYTES`] written and synced.
    pub fn prepare_slice(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        let result = self.prepare_slice_or_fail(disk);
        if let Err(error) = &result
            && error.is_disk_full()
        {
            // A partly reserved file must not keep others from finishing; there may be nothing to remove.
            self.preparing = None;
            match disk.remove(&self.preparing_name()) {
                Ok(()) | Err(DiskError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        result
    }

    fn prepare_slice_or_fail(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        let name = self.preparing_name();
        let mut written = match self.preparing {
            Some(written) => written,
            None => {
                disk.create(&name)?;
                disk.allocate(&name, self.segment_bytes)?;
                disk.write_at(&name, 0, &self.header())?;
                self.preparing = Some(BLOCK_BYTES);
                BLOCK_BYTES
            }
        };
        if self.prewrite && written < self.segment_bytes {
            let count = (self.segment_bytes - written).min(SLICE_BYTES as u64);
            disk.write_at(&name, written, &vec![0; count as usize])?;
            written += count;
        }
        disk.sync_data(&name)?;
        self.preparing = Some(written);
        if self.prewrite && written < self.segment_bytes {
            return Ok(());
        }
        disk.rename(&name, &self.name(self.end))?;
        disk.sync_directory()?;
        self.preparing = None;
        self.end += 1;
        Ok(())
    }

    /// Gives up the segments before `first`, which the durable superblock no longer needs: up to `spares` of them
    /// become ready segments at the end, the others are removed.
    pub fn release(&mut self, disk: &mut impl Disk, first: u64, spares: u64) -> Result<(), DiskError> {
        assert!(first < self.end, "the segment of the next frame stays");
        let mut recycled = 0;
        for index in self.first..first {
            if recycled < spares {
                disk.rename(&self.name(index), &self.name(self.end + recycled))?;
                recycled += 1;
            } else {
                disk.remove(&self.name(index))?;
            }
        }
        // Nothing may be written to a renamed segment while a power cut could still give it its old name back.
        disk.sync_directory()?;
        self.first = first;
        self.end += recycled;
        Ok(())
    }

    fn data_bytes(&self) -> u64 {
        self.segment_bytes - BLOCK_BYTES
    }

    /// Segment, offset in its file, and bytes up to its end.
    fn locate(&self, position: Position) -> (u64, u64, usize) {
        let within = position.0 % self.data_bytes();
        (self.index_of(position), BLOCK_BYTES + within, (self.data_bytes() - within) as usize)
    }

    fn name(&self, index: u64) -> String {
        format!("{}-{index:016x}", self.prefix)
    }

    fn preparing_name(&self) -> String {
        preparing_name(self.prefix)
    }

    /// Indexes of the segments on disk, ascending.
    fn indexes(&self, disk: &mut impl Disk) -> Result<Vec<u64>, DiskError> {
        Ok(disk.list()?.iter().filter_map(|name| index_in(self.prefix, name)).collect())
    }

    fn header(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        block[..8].copy_from_slice(&MAGIC);
        block[8..CHECKED].copy_from_slice(&VERSION.to_be_bytes());
        let check = self.header_check(&block[..CHECKED]);
        block[CHECKED..HEADER].copy_from_slice(&check.as_bytes()[..16]);
        block
    }

    fn header_check(&self, checked: &[u8]) -> Digest {
        Digest::of(Domain::Frame, &[&self.key.0, b"segment", checked])
    }

    fn read_header(&self, disk: &mut impl Disk, index: u64) -> Result<HeaderState, DiskError> {
        let mut header = [0; HEADER];
        disk.read_at(&self.name(index), 0, &mut header)?;
        let check = self.header_check(&header[..CHECKED]);
        if header[..8] != MAGIC || header[CHECKED..] != check.as_bytes()[..16] {
            // Frames prove themselves; a rotten header is written anew.
            return Ok(HeaderState::Bad);
        }
        let version = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        Ok(if version == VERSION { HeaderState::Good } else { HeaderState::UnknownVersion(version) })
    }
}

/// What the header block of a segment says.
enum HeaderState {
    Good,
    Bad,
    UnknownVersion(u32),
}

/// The name of a segment that is not ready yet.
pub(crate) fn preparing_name(prefix: &str) -> String {
    format!("{prefix}-preparing")
}

/// The index in a segment's file name, `None` for other files.
pub(crate) fn index_in(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('-')?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
