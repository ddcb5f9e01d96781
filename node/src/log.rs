//! The log of promises and bodies: what a replica must find again before it may say anything (protocol: durable before
//! sent).
//!
//! What comes in: one payload per turn of the driver. What goes out: its [`FrameNumber`], durable once
//! [`FrameLog::sync`] returned, and after a restart every payload in order, or the reason why the log cannot be trusted.
//!
//! ```text
//! log-superblock            two copies: identity, trust, key, where the first frame is
//! log-0000000000000003      segments of equal size, written over in place, kept ready ahead of need
//! log-0000000000000004
//! log-preparing             the next segment, being written with zeros
//!
//! segment   4096-byte header | data            frames start at multiples of 4096 bytes
//! frame     header (see [`frame`]) | payload | padding; may go on in the data of the next segments
//! ```
//!
//! Invariants:
//! - A frame is written only after the previous sync returned. So at most one frame, the last, can be torn, and a bad
//!   frame with a later one is lost memory: [`OpenError::Damaged`].
//! - Frames carry a checksum keyed by [`LogKey`], which never leaves the disk: no payload can pass for a frame.
//! - Frame numbers are never used again, so what a recycled segment still holds has numbers below every expected one.
//! - No two frames share a 4096-byte block: writing one never touches the bytes of another.
//! - Space is taken only when a segment is prepared, never in the middle of a frame.

use std::collections::VecDeque;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{ClusterId, Digest, ReplicaId};
use thiserror::Error;

use crate::disk::{Disk, DiskError};

pub mod frame;
pub(crate) mod recovery;
pub(crate) mod segments;
pub(crate) mod superblock;

use frame::FrameHeader;
pub use frame::{FrameNumber, LogKey, MAX_PAYLOAD_BYTES};
use recovery::Tail;
use segments::{BLOCK_BYTES, Position, Segments};
use superblock::{Kind, Superblock};

/// Default size of a segment: 16 MiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;

/// The smallest allowed segment: a header block and one block of data.
pub const MIN_SEGMENT_BYTES: u64 = 2 * BLOCK_BYTES;

/// Segments kept ready ahead of the one in use.
const SPARE_SEGMENTS: u64 = 2;

const PREFIX: &str = "log";

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The replica whose promises it holds.
    pub replica: ReplicaId,
}

/// What an empty log stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// `init --new-cluster`: the cluster never ran, so an empty log is the whole truth. The replica may sign.
    NewCluster,
    /// Plain `init`, after a loss or for a late first start: promises may be missing. The replica must rejoin.
    MustRejoin,
}

/// How to create a log.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Whose it is.
    pub identity: LogIdentity,
    /// Whether its emptiness can be trusted.
    pub trust: Trust,
    /// Size of a segment in bytes, a multiple of 4096, at least [`MIN_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Fresh random bytes; see [`LogKey::random`].
    pub key: LogKey,
}

/// Why a log (or snapshot store) could not be created or opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is none here, and opening never makes one: an empty log would let a replica contradict itself.
    #[error("there is no log here; `init` makes one")]
    Missing,
    /// There is one already.
    #[error("there is a log here already")]
    AlreadyExists,
    /// It belongs to another cluster.
    #[error("the log belongs to cluster {0}")]
    ForeignCluster(ClusterId),
    /// It belongs to another replica.
    #[error("the log belongs to replica {0}")]
    ForeignReplica(ReplicaId),
    /// Written by a version that this one does not read.
    #[error("the log has format version {0}, which this version does not read")]
    UnknownVersion(u32),
    /// Something that was once durable is gone or changed: possible amnesia. Nothing was modified. The replica must
    /// not sign; it needs a new, untrusted log and a rejoin.
    #[error("the log is damaged at frame {frame}: {why}")]
    Damaged {
        /// The first frame that is lost; 0 when it cannot be told.
        frame: FrameNumber,
        /// What is wrong.
        why: &'static str,
    },
    /// The medium failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why an operation on an open log failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// More than [`MAX_PAYLOAD_BYTES`]. Nothing was written.
    #[error("a payload of {0} bytes exceeds the frame limit")]
    TooLong(usize),
    /// The medium failed. Unless it is [`DiskError::DiskFull`] the process must end; after `DiskFull` nothing was
    /// written and the log stays usable.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What may be done next; keeps "a frame is written only after the previous sync returned".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything written is durable.
    Synced,
    /// One frame waits for its sync.
    Written,
    /// An operation failed half-way; what the medium holds is known only after opening again.
    Failed,
}

/// A retained frame: where it starts and the digest of the one before.
#[derive(Debug, Clone, Copy)]
struct Retained {
    position: Position,
    previous: Digest,
}

/// The segmented, chained, preallocated log. One owner, one thread at a time.
#[derive(Debug)]
pub struct FrameLog<D> {
    disk: D,
    superblock: Superblock,
    segments: Segments,
    /// Frames from `first` on, in order without gaps.
    retained: VecDeque<Retained>,
    first: FrameNumber,
    tail: Tail,
    phase: Phase,
    buffer: Vec<u8>,
}

impl<D: Disk> FrameLog<D> {
    /// Makes an empty log. Files of an earlier attempt that died before the superblock was in place are removed.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`], [`OpenError::Disk`].
    pub fn create(mut disk: D, settings: &LogSettings) -> Result<FrameLog<D>, OpenError> {
        let superblock = Superblock::new(Kind::Log, settings);
        let segments = superblock::create(&mut disk, PREFIX, &superblock, true)?;
        let tail = superblock.start;
        Ok(FrameLog {
            disk,
            superblock,
            segments,
            retained: VecDeque::new(),
            first: tail.number,
            tail,
            phase: Phase::Synced,
            buffer: Vec::new(),
        })
    }

    /// Opens the log of `cluster` and `replica` and returns every frame from the last cut on, in order.
    ///
    /// A torn last frame is overwritten with zeros and synced. The last good frame is written again and synced: the
    /// process that wrote it may have died of the failed sync, after which the system shows bytes that are not on the
    /// medium.
    ///
    /// # Errors
    /// Every [`OpenError`] but `AlreadyExists`. Nothing is modified unless the log is sound.
    pub fn open(mut disk: D, identity: LogIdentity) -> Result<(FrameLog<D>, Vec<(FrameNumber, Vec<u8>)>), OpenError> {
        let superblock = superblock::load(&mut disk, PREFIX, Kind::Log, identity)?;
        let mut segments = superblock.open_segments(&mut disk, PREFIX, true)?;
        let start = superblock.start;
        let mut frames = Vec::new();
        let mut retained = VecDeque::new();
        let mut last = start.position;
        let tail = recovery::read_frames(&mut disk, &segments, start, |at, header, payload| {
            last = at.position;
            retained.push_back(Retained { position: at.position, previous: at.previous });
            frames.push((header.number, payload));
            Ok(())
        })?;
        let leftovers = recovery::leftovers(&mut disk, &segments, tail, tail.number.0)?;
        superblock::store(&mut disk, PREFIX, &superblock)?;
        segments.mend(&mut disk)?;
        recovery::erase(&mut disk, &mut segments, tail.position, &leftovers)?;
        recovery::write_again(&mut disk, &mut segments, last, tail.position)?;
        let log = FrameLog {
            disk,
            superblock,
            segments,
            retained,
            first: start.number,
            tail,
            phase: Phase::Synced,
            buffer: Vec::new(),
        };
        Ok((log, frames))
    }

    /// Removes a log, for an operator or launcher who decided to start over. The superblock goes first, so that a crash
    /// half-way leaves no log rather than a damaged one.
    ///
    /// # Errors
    /// Any [`DiskError`].
    pub fn discard(disk: &mut D) -> Result<(), DiskError> {
        superblock::discard(disk, PREFIX)
    }

    /// Writes one frame; it is durable when [`FrameLog::sync`] has returned.
    ///
    /// # Errors
    /// [`LogError::TooLong`] and [`DiskError::DiskFull`] leave the log as it was.
    ///
    /// # Panics
    /// If the frame before is not synced, or the log has failed: both break the rule on which recovery rests.
    pub fn append(&mut self, payload: &[u8]) -> Result<FrameNumber, LogError> {
        assert_eq!(self.phase, Phase::Synced, "a frame is written only after the previous sync returned");
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(LogError::TooLong(payload.len()));
        }
        let end = self.tail.position.after_frame(payload.len());
        self.guarded(|log| log.segments.prepare_until(&mut log.disk, end))?;
        let key = *self.segments.key();
        let number = self.tail.number;
        let header = FrameHeader::seal(&key, number, number.0, self.tail.previous, payload);
        frame::fill_blocks(&mut self.buffer, &key, &header, payload);
        self.phase = Phase::Failed;
        self.segments.write(&mut self.disk, self.tail.position, &self.buffer)?;
        self.phase = Phase::Written;
        self.retained.push_back(Retained { position: self.tail.position, previous: self.tail.previous });
        self.tail = Tail { position: end, number: number.next(), previous: header.digest };
        if self.buffer.capacity() > 4 * segments::SLICE_BYTES {
            // One huge frame must not pin its size in memory.
            self.buffer = Vec::new();
        }
        Ok(number)
    }

    /// Makes the appended frame durable. Returns at once if there is none.
    ///
    /// # Errors
    /// After any error the process must end (rule X4).
    pub fn sync(&mut self) -> Result<(), LogError> {
        assert_ne!(self.phase, Phase::Failed, "the log has failed");
        if self.phase == Phase::Written {
            self.phase = Phase::Failed;
            if !alive(Mutant::SyncSkipped) {
                let synced = self.segments.sync(&mut self.disk);
                if !alive(Mutant::SyncErrorIgnored) {
                    synced?;
                }
            }
            self.phase = Phase::Synced;
        }
        Ok(())
    }

    /// Does one bounded piece of work (at most 1 MiB written and synced, about 5 ms) towards having spare segments
    /// ready; true if there is more to do. To be called between turns, after what the turn promised was published.
    ///
    /// # Errors
    /// [`DiskError::DiskFull`] early warning: the log still takes frames, [`FrameLog::ready_bytes`] of them, but the
    /// node should stop promising before they are used up. After other errors the process must end.
    pub fn maintain(&mut self) -> Result<bool, LogError> {
        assert_ne!(self.phase, Phase::Failed, "the log has failed");
        if self.spares() >= SPARE_SEGMENTS {
            return Ok(false);
        }
        self.guarded(|log| log.segments.prepare_slice(&mut log.disk))?;
        Ok(self.spares() < SPARE_SEGMENTS)
    }

    /// Bytes that can be appended before another segment must be prepared.
    pub fn ready_bytes(&self) -> u64 {
        self.segments.end().bytes_since(self.tail.position)
    }

    /// Drops the frames before `up_to`, in so far as whole segments become free; these are kept as spares or removed.
    /// Frames from `up_to` on are all kept. Crash-safe at every step: the superblock names the new first frame before
    /// any segment goes. Writes nothing when no segment becomes free.
    ///
    /// # Errors
    /// After any error the process must end.
    ///
    /// # Panics
    /// If a frame is waiting for its sync, or `up_to` is beyond the next frame.
    pub fn cut(&mut self, up_to: FrameNumber) -> Result<(), LogError> {
        assert_eq!(self.phase, Phase::Synced, "the log is cut only when everything in it is durable");
        assert!(up_to <= self.tail.number, "cannot cut frames that were never written");
        let Some(start) = self.place_of(up_to) else { return Ok(()) };
        let freed = self.segments.index_of(start.position);
        if freed <= self.segments.first() {
            return Ok(());
        }
        self.guarded(|log| {
            log.superblock.advance(start);
            superblock::store(&mut log.disk, PREFIX, &log.superblock)?;
            let spares = SPARE_SEGMENTS.saturating_sub(log.spares());
            log.segments.release(&mut log.disk, freed, spares)
        })?;
        self.retained.drain(..(start.number.0 - self.first.0) as usize);
        self.first = start.number;
        Ok(())
    }

    /// Whether the log holds all promises of its replica: it was made for a new cluster, or a rejoin is complete.
    pub fn is_trusted(&self) -> bool {
        self.superblock.trusted
    }

    /// Whether it was made by `init --new-cluster`; unlike trust this never changes.
    pub fn was_made_for_new_cluster(&self) -> bool {
        self.superblock.new_cluster
    }

    /// Records durably that the log is to be trusted (a rejoin is complete) or no longer is (a peer handed back a
    /// statement that it lacks).
    ///
    /// # Errors
    /// After any error the process must end.
    pub fn set_trusted(&mut self, trusted: bool) -> Result<(), LogError> {
        assert_eq!(self.phase, Phase::Synced, "trust changes only when everything before is durable");
        if self.superblock.trusted == trusted {
            return Ok(());
        }
        self.guarded(|log| {
            log.superblock.set_trusted(trusted);
            superblock::store(&mut log.disk, PREFIX, &log.superblock)
        })
    }

    /// Whose log it is.
    pub fn identity(&self) -> LogIdentity {
        self.superblock.identity()
    }

    /// The oldest frame kept; equal to [`FrameLog::next_number`] when there is none.
    pub fn first_number(&self) -> FrameNumber {
        self.first
    }

    /// The number that the next appended frame will have.
    pub fn next_number(&self) -> FrameNumber {
        self.tail.number
    }

    /// Bytes of all files, spare segments included.
    pub fn size_on_disk(&self) -> u64 {
        self.segments.size_on_disk() + superblock::FILE_BYTES
    }

    /// Ready segments beyond the one in which the next frame starts.
    fn spares(&self) -> u64 {
        (self.segments.end_index()).saturating_sub(self.segments.index_of(self.tail.position) + 1)
    }

    /// Where the first frame to keep starts. `None` if that is not after the present first. When the next frame would
    /// start in a segment that does not exist yet, the last frame is kept: the superblock must always point into a
    /// segment that exists, else the loss of every segment would look like an empty log.
    fn place_of(&self, up_to: FrameNumber) -> Option<Tail> {
        let mut number = up_to;
        if number == self.tail.number {
            if self.tail.position < self.segments.end() {
                return (number > self.first).then_some(self.tail);
            }
            number = FrameNumber(number.0 - 1);
        }
        let skipped = number.0.checked_sub(self.first.0)?;
        let retained = self.retained.get(skipped as usize)?;
        Some(Tail { position: retained.position, number, previous: retained.previous })
    }

    /// Runs `operation`; any error but a full disk leaves the log failed.
    fn guarded<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, DiskError>) -> Result<T, LogError> {
        let before = self.phase;
        let result = operation(self);
        self.phase = match &result {
            Ok(_) => before,
            Err(error) if error.is_disk_full() => before,
            Err(_) => Phase::Failed,
        };
        Ok(result?)
    }
}

#[cfg(test)]
mod tests;
