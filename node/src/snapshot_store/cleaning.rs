//! Cleaning at the old end: what is still live there is written again, so that the space before it becomes free.

use quorate_crypto::merkle_map::MerkleMap;

use super::SnapshotStore;
use super::entry::{self, Entry};
use super::writing::{GivenUp, Group};
use crate::disk::{Disk, DiskError};
use crate::log::OpenError;
use crate::log::frame::FrameHeader;
use crate::log::recovery::{self, Tail};

/// Old bytes that one checkpoint cleans for each byte it adds. While everything at the old end is live, cleaning frees
/// nothing and each checkpoint grows the space by what it adds; at four to one that ends after a quarter of the live
/// bytes. See the bound in the module's documentation.
const CLEANED_PER_ADDED: u64 = 4;

/// Slices that every checkpoint may clean beside that: also one that adds next to nothing takes a block.
const CLEANED_SLICES: u64 = 4;

/// Segments that are not worth cleaning for: partly used ones at both ends and spares.
const SLACK_SEGMENTS: u64 = 4;

impl<D: Disk> SnapshotStore<D> {
    /// Reads on from the first frame while more than half of the space is garbage and the budget lasts, and adds to
    /// `group` the entries that `tables` still hold. Returns the new first frame.
    ///
    /// Dropping a frame drops its removals too: what they removed was put in a frame before, which is dropped with it.
    pub(super) fn clean(
        &mut self,
        group: &mut Group,
        tables: &[MerkleMap],
        live_bytes: u64,
        added_bytes: u64,
    ) -> Result<Tail, GivenUp> {
        let enough = 2 * live_bytes + SLACK_SEGMENTS * self.segments.segment_bytes();
        let budget = CLEANED_PER_ADDED * added_bytes + CLEANED_SLICES * self.slice_bytes() as u64;
        let mut start = self.start;
        let from = self.start.position;
        while start.number < group.from.number {
            let used = self.tail.position.bytes_since(start.position) + group.pending_bytes();
            if used <= enough || start.position.bytes_since(from) >= budget {
                break;
            }
            let (header, payload) = self.old_frame(start)?;
            for entry in entry::parse(&payload) {
                if let Entry::Put { table, key, value } = entry.map_err(|_| GivenUp::OldFrameDamaged)?
                    && tables.get(usize::from(table)).and_then(|table| table.get(key)) == Some(value)
                {
                    group.carried_bytes += self.add(group, table, key, Some(value))?;
                }
            }
            start = start.after(&header);
        }
        Ok(start)
    }

    /// A frame of an earlier checkpoint, which must be whole. A sector that cannot be read is damage like any other.
    fn old_frame(&mut self, at: Tail) -> Result<(FrameHeader, Vec<u8>), GivenUp> {
        match recovery::read_frame(&mut self.disk, &self.segments, at) {
            Ok(Some(frame)) => Ok(frame),
            Err(OpenError::Disk(error @ DiskError::Poisoned)) => Err(GivenUp::Disk(error)),
            Ok(None) | Err(_) => Err(GivenUp::OldFrameDamaged),
        }
    }
}
