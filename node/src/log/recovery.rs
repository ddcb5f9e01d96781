//! Reading frames back, and telling a torn end from lost memory.
//!
//! Frames are made durable group by group (see [`super::frame`]), and a group is begun only when the one before is
//! durable. So, reading on from the first frame to the first place where the expected frame is not: a header of a
//! later *group* anywhere behind it proves that what is missing was once durable (Alagappan et al., FAST 2018, tell
//! the two apart likewise). Headers of the same group are the remains of a write that a crash interrupted.

use quorate_crypto::Digest;
use quorate_crypto::mutant::{Mutant, alive};

use super::OpenError;
use super::frame::{FrameHeader, FrameNumber, HEADER_BYTES, Parsed};
use super::segments::{BLOCK_BYTES, Position, SLICE_BYTES, Segments};
use crate::disk::{Disk, DiskError};

/// Slices written between two syncs where much is written at once: 4 MiB, about 20 ms.
pub(crate) const SLICES_PER_SYNC: u64 = 4;

/// Where a frame is or will be, and what it must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub position: Position,
    pub number: FrameNumber,
    /// Digest of the frame before.
    pub previous: Digest,
}

impl Tail {
    /// The place after the frame with `header`, which is here.
    pub fn after(self, header: &FrameHeader) -> Tail {
        Tail {
            position: self.position.after_frame(header.length as usize),
            number: self.number.next(),
            previous: header.digest,
        }
    }
}

/// A header at or behind the end, of a write that was never made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub position: Position,
    pub length: u32,
}

/// Reads the frame at `tail`. `None` if there is no whole one with the expected number.
pub(crate) fn read_frame(
    disk: &mut impl Disk,
    segments: &Segments,
    tail: Tail,
) -> Result<Option<(FrameHeader, Vec<u8>)>, OpenError> {
    let damaged = |why| OpenError::Damaged { frame: tail.number, why };
    let first_block_end = tail.position.plus(BLOCK_BYTES);
    if first_block_end > segments.end() {
        return Ok(None);
    }
    let mut block = [0; BLOCK_BYTES as usize];
    segments.read(disk, tail.position, &mut block)?;
    let header = match FrameHeader::parse(segments.key(), &block) {
        Parsed::Nothing => return Ok(None),
        Parsed::UnknownVersion(version) => return Err(OpenError::UnknownVersion(u32::from(version))),
        // Lower: a recycled segment. Higher: for the search of later headers to judge.
        Parsed::Header(header) if header.number != tail.number => return Ok(None),
        Parsed::Header(header) => header,
    };
    if header.previous != tail.previous {
        return Err(damaged("the chain is broken"));
    }
    let length = header.length as usize;
    if tail.position.after_frame(length) > segments.end() {
        return Err(damaged("a frame goes on in a segment that is missing"));
    }
    let mut payload = vec![0; length];
    let near = length.min(block.len() - HEADER_BYTES);
    payload[..near].copy_from_slice(&block[HEADER_BYTES..HEADER_BYTES + near]);
    segments.read(disk, first_block_end, &mut payload[near..])?;
    let whole = header.matches(segments.key(), &payload) || alive(Mutant::ChecksumIgnored);
    Ok(whole.then_some((header, payload)))
}

/// Reads frames from `start` until the expected one is not there; gives each to `visit`. Returns where it stopped.
pub(crate) fn read_frames(
    disk: &mut impl Disk,
    segments: &Segments,
    start: Tail,
    mut visit: impl FnMut(Tail, &FrameHeader, Vec<u8>) -> Result<(), OpenError>,
) -> Result<Tail, OpenError> {
    let mut tail = start;
    while let Some((header, payload)) = read_frame(disk, segments, tail)? {
        visit(tail, &header, payload)?;
        tail = tail.after(&header);
    }
    Ok(tail)
}

/// Searches everything from `tail` on for headers that do not belong to the past. Those of groups up to `open_group`,
/// which may never have been durable, are returned; a later one means [`OpenError::Damaged`] at the expected frame.
pub(crate) fn leftovers(
    disk: &mut impl Disk,
    segments: &Segments,
    tail: Tail,
    open_group: u64,
) -> Result<Vec<Leftover>, OpenError> {
    let mut found = Vec::new();
    let mut position = tail.position;
    let mut slice = Vec::new();
    while position < segments.end() {
        let count = segments.end().bytes_since(position).min(SLICE_BYTES as u64);
        slice.resize(count as usize, 0);
        segments.read(disk, position, &mut slice)?;
        for (index, block) in slice.chunks(BLOCK_BYTES as usize).enumerate() {
            match FrameHeader::parse(segments.key(), block) {
                Parsed::Nothing => {}
                Parsed::UnknownVersion(version) => return Err(OpenError::UnknownVersion(u32::from(version))),
                Parsed::Header(header) if header.number < tail.number => {}
                Parsed::Header(header) if header.group > open_group && !alive(Mutant::GapIgnored) => {
                    let why = "it is bad or missing, but a later one was written";
                    return Err(OpenError::Damaged { frame: tail.number, why });
                }
                Parsed::Header(header) => {
                    found.push(Leftover { position: position.plus(index as u64 * BLOCK_BYTES), length: header.length });
                }
            }
        }
        position = position.plus(count);
    }
    Ok(found)
}

/// Overwrites the block at the end and every leftover with zeros and syncs, so that nothing of an interrupted write
/// can ever meet what is appended next.
pub(crate) fn erase(
    disk: &mut impl Disk,
    segments: &mut Segments,
    end: Position,
    leftovers: &[Leftover],
) -> Result<(), DiskError> {
    let at_end = (end < segments.end()).then_some((end, end.plus(BLOCK_BYTES)));
    let extents =
        leftovers.iter().map(|leftover| (leftover.position, leftover.position.after_frame(leftover.length as usize)));
    for (from, to) in at_end.into_iter().chain(extents) {
        let mut position = from;
        let to = to.min(segments.end());
        while position < to {
            let count = to.bytes_since(position).min(SLICE_BYTES as u64);
            segments.write(disk, position, &vec![0; count as usize])?;
            position = position.plus(count);
        }
    }
    segments.sync(disk)
}

/// Writes the bytes of `from..to` once more and syncs them. The process that wrote them may have died of a failed sync;
/// the system then shows bytes that are not on the medium and would answer a further sync with success.
pub(crate) fn write_again(
    disk: &mut impl Disk,
    segments: &mut Segments,
    from: Position,
    to: Position,
) -> Result<(), DiskError> {
    let mut position = from;
    let mut unsynced = 0;
    while position < to {
        let count = to.bytes_since(position).min(SLICE_BYTES as u64);
        let mut bytes = vec![0; count as usize];
        segments.read(disk, position, &mut bytes)?;
        segments.write(disk, position, &bytes)?;
        position = position.plus(count);
        unsynced += count;
        if unsynced >= SLICES_PER_SYNC * SLICE_BYTES as u64 {
            segments.sync(disk)?;
            unsynced = 0;
        }
    }
    segments.sync(disk)
}
