//! Who a log belongs to, its key, and where its first frame is: one file with two copies, each in its own block.
//!
//! ```text
//! offset  bytes  field, integers big-endian
//!      0      8  "QRMSUPER"
//!      8      4  format version, 1
//!     12      4  length of the body
//!     16     32  H(frame, "superblock", bytes 0..16, body)
//!     48         body: `Body` in the project's encoding
//! ```
//!
//! A change writes the first copy, syncs, writes the second, syncs: at any moment one of them is whole, and once the
//! change is complete either may rot. The newest whole copy counts. The first 48 bytes keep their meaning in every
//! version, so that an unknown version is told from damage.

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{ClusterId, Digest, Domain, ReplicaId};

use super::frame::{FrameNumber, LogKey};
use super::recovery::Tail;
use super::segments::{BLOCK_BYTES, Position, Segments, index_in, preparing_name};
use super::{LogIdentity, LogSettings, OpenError, Trust};
use crate::disk::{Disk, DiskError};

/// Length of the superblock's file in bytes.
pub(crate) const FILE_BYTES: u64 = 2 * BLOCK_BYTES;

/// Segments made ready before a new log counts as made.
const FIRST_SEGMENTS: u64 = 2;

const MAGIC: [u8; 8] = *b"QRMSUPER";
const VERSION: u32 = 1;
const PREFIX_BYTES: usize = 16;
const BODY: usize = PREFIX_BYTES + 32;

/// What the frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Promises and bodies.
    Log,
    /// Checkpoints of the state.
    Snapshot,
}

/// The superblock in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub kind: Kind,
    pub cluster: ClusterId,
    pub replica: ReplicaId,
    pub trusted: bool,
    pub new_cluster: bool,
    pub generation: u64,
    pub segment_bytes: u64,
    pub key: LogKey,
    /// The first frame that is kept.
    pub start: Tail,
}

/// The bytes of the body.
#[derive(Encode, Decode)]
struct Body {
    kind: u8,
    cluster: ClusterId,
    replica: ReplicaId,
    trusted: bool,
    new_cluster: bool,
    generation: u64,
    segment_bytes: u64,
    key: [u8; 32],
    start_position: u64,
    start_number: u64,
    start_previous: Digest,
}

/// What a copy on disk turned out to be.
enum Copy {
    Whole(Superblock),
    UnknownVersion(u32),
    Bad,
}

impl Superblock {
    pub fn new(kind: Kind, settings: &LogSettings) -> Superblock {
        let new_cluster = settings.trust == Trust::NewCluster;
        Superblock {
            kind,
            cluster: settings.identity.cluster,
            replica: settings.identity.replica,
            trusted: new_cluster,
            new_cluster,
            generation: 1,
            segment_bytes: settings.segment_bytes,
            key: settings.key,
            start: Tail { position: Position(0), number: FrameNumber(1), previous: Digest::ZERO },
        }
    }

    pub fn identity(&self) -> LogIdentity {
        LogIdentity { cluster: self.cluster, replica: self.replica }
    }

    /// Moves the first frame; takes effect with [`store`].
    pub fn advance(&mut self, start: Tail) {
        assert!(start.number >= self.start.number, "the first frame only moves on");
        self.start = start;
        self.generation += 1;
    }

    /// Changes the trust; takes effect with [`store`].
    pub fn set_trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
        self.generation += 1;
    }

    /// The segments from the first frame on.
    pub fn open_segments(
        &self,
        disk: &mut impl Disk,
        prefix: &'static str,
        prewrite: bool,
    ) -> Result<Segments, OpenError> {
        let mut segments = Segments::empty(prefix, self.key, self.segment_bytes, prewrite, 0);
        let first = segments.index_of(self.start.position);
        segments = Segments::empty(prefix, self.key, self.segment_bytes, prewrite, first);
        segments.open(disk, self.start.number)
    }

    fn to_block(self) -> Vec<u8> {
        let body = encode(&Body {
            kind: match self.kind {
                Kind::Log => 1,
                Kind::Snapshot => 2,
            },
            cluster: self.cluster,
            replica: self.replica,
            trusted: self.trusted,
            new_cluster: self.new_cluster,
            generation: self.generation,
            segment_bytes: self.segment_bytes,
            key: self.key.0,
            start_position: self.start.position.0,
            start_number: self.start.number.0,
            start_previous: self.start.previous,
        });
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&VERSION.to_be_bytes());
        block.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let digest = digest_of(&block, &body);
        block.extend_from_slice(digest.as_bytes());
        block.extend_from_slice(&body);
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    fn from_block(block: &[u8]) -> Copy {
        let Some((prefix, rest)) = block.split_first_chunk::<PREFIX_BYTES>() else { return Copy::Bad };
        let Some((digest, rest)) = rest.split_first_chunk::<{ BODY - PREFIX_BYTES }>() else { return Copy::Bad };
        let version = u32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let length = u32::from_be_bytes([prefix[12], prefix[13], prefix[14], prefix[15]]) as usize;
        let Some(body) = rest.get(..length) else { return Copy::Bad };
        if prefix[..8] != MAGIC || digest_of(prefix, body) != Digest(*digest) {
            return Copy::Bad;
        }
        if version != VERSION {
            return Copy::UnknownVersion(version);
        }
        let Ok(body) = decode::<Body>(body, BLOCK_BYTES as usize) else { return Copy::Bad };
        let kind = match body.kind {
            1 => Kind::Log,
            2 => Kind::Snapshot,
            _ => return Copy::Bad,
        };
        let sound = body.segment_bytes >= 2 * BLOCK_BYTES
            && body.segment_bytes.is_multiple_of(BLOCK_BYTES)
            && body.start_position.is_multiple_of(BLOCK_BYTES);
        if !sound {
            return Copy::Bad;
        }
        Copy::Whole(Superblock {
            kind,
            cluster: body.cluster,
            replica: body.replica,
            trusted: body.trusted,
            new_cluster: body.new_cluster,
            generation: body.generation,
            segment_bytes: body.segment_bytes,
            key: LogKey(body.key),
            start: Tail {
                position: Position(body.start_position),
                number: FrameNumber(body.start_number),
                previous: body.start_previous,
            },
        })
    }
}

/// Makes the files of a new log: the first segments, then the superblock, whose rename makes the log exist.
pub(crate) fn create(
    disk: &mut impl Disk,
    prefix: &'static str,
    superblock: &Superblock,
    prewrite: bool,
) -> Result<Segments, OpenError> {
    if disk.length(&name(prefix))?.is_some() {
        return Err(OpenError::AlreadyExists);
    }
    discard(disk, prefix)?;
    let mut segments = Segments::empty(prefix, superblock.key, superblock.segment_bytes, prewrite, 0);
    while segments.end_index() < FIRST_SEGMENTS {
        segments.prepare_slice(disk)?;
    }
    let unfinished = unfinished_name(prefix);
    disk.create(&unfinished)?;
    disk.allocate(&unfinished, FILE_BYTES)?;
    let block = superblock.to_block();
    disk.write_at(&unfinished, 0, &block)?;
    disk.write_at(&unfinished, BLOCK_BYTES, &block)?;
    disk.sync_data(&unfinished)?;
    disk.rename(&unfinished, &name(prefix))?;
    disk.sync_directory()?;
    Ok(segments)
}

/// Reads the newest whole copy and checks whose log it is. Modifies nothing.
pub(crate) fn load(
    disk: &mut impl Disk,
    prefix: &str,
    kind: Kind,
    expected: LogIdentity,
) -> Result<Superblock, OpenError> {
    let damaged = |why| OpenError::Damaged { frame: FrameNumber(0), why };
    let Some(length) = disk.length(&name(prefix))? else { return Err(OpenError::Missing) };
    if length < FILE_BYTES {
        return Err(damaged("the superblock is cut short"));
    }
    let mut newest: Option<Superblock> = None;
    for copy in 0..2 {
        let mut block = vec![0; BLOCK_BYTES as usize];
        disk.read_at(&name(prefix), copy * BLOCK_BYTES, &mut block)?;
        match Superblock::from_block(&block) {
            Copy::UnknownVersion(version) => return Err(OpenError::UnknownVersion(version)),
            Copy::Whole(found) if newest.is_none_or(|other| found.generation > other.generation) => {
                newest = Some(found);
            }
            Copy::Whole(_) | Copy::Bad => {}
        }
    }
    let superblock = newest.ok_or(damaged("both copies of the superblock are bad"))?;
    if superblock.kind != kind {
        return Err(damaged("the superblock is of another kind of store"));
    }
    if superblock.cluster != expected.cluster {
        return Err(OpenError::ForeignCluster(superblock.cluster));
    }
    if superblock.replica != expected.replica {
        return Err(OpenError::ForeignReplica(superblock.replica));
    }
    Ok(superblock)
}

/// Writes both copies, one after the other, each synced.
pub(crate) fn store(disk: &mut impl Disk, prefix: &str, superblock: &Superblock) -> Result<(), DiskError> {
    let block = superblock.to_block();
    for copy in 0..2 {
        disk.write_at(&name(prefix), copy * BLOCK_BYTES, &block)?;
        disk.sync_data(&name(prefix))?;
    }
    Ok(())
}

/// Removes every file of a log, the superblock first and durably.
pub(crate) fn discard(disk: &mut impl Disk, prefix: &str) -> Result<(), DiskError> {
    if disk.length(&name(prefix))?.is_some() {
        disk.remove(&name(prefix))?;
        disk.sync_directory()?;
    }
    let mut removed = false;
    for file in disk.list()? {
        if index_in(prefix, &file).is_some() || file == preparing_name(prefix) || file == unfinished_name(prefix) {
            disk.remove(&file)?;
            removed = true;
        }
    }
    if removed { disk.sync_directory() } else { Ok(()) }
}

fn digest_of(prefix: &[u8], body: &[u8]) -> Digest {
    Digest::of(Domain::Frame, &[b"superblock", prefix, body])
}

fn name(prefix: &str) -> String {
    format!("{prefix}-superblock")
}

fn unfinished_name(prefix: &str) -> String {
    format!("{prefix}-superblock-new")
}
