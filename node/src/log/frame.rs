//! One frame: its header, laid out by hand, and the two keyed checksums.
//!
//! ```text
//! offset  bytes  field, integers big-endian
//!      0      2  "QF"
//!      2      2  format version, 1
//!      4      4  payload length in bytes
//!      8      8  frame number, from 1
//!     16      8  group: what one sync makes durable. In the log every frame is its own group, so this is the frame
//!                number again; in the snapshot store it is the ordinal of the checkpoint
//!     24     32  digest of the frame before; zero for frame 1
//!     56     32  digest: H(frame, key, bytes 0..56, payload)
//!     88     16  header check: the first 16 bytes of H(frame, key, "header", bytes 0..88)
//!    104         payload, then zeros up to a multiple of 4096
//! ```
//!
//! The header has a check of its own for two reasons. A valid header of a later frame proves that this frame was
//! written, even if it is torn itself, and so that the ones before were durable. And looking for later frames costs
//! one short hash per candidate, however many headers an attacker imitates inside a payload.

use std::fmt;

use quorate_crypto::{Digest, Domain};

use super::segments::BLOCK_BYTES;

/// The largest payload of one frame: 64 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// Length of a frame header in bytes.
pub const HEADER_BYTES: usize = 104;

const MAGIC: [u8; 2] = *b"QF";
const VERSION: u16 = 1;
const DIGESTED: usize = 56;
const CHECKED: usize = 88;

/// A frame's place in its log: 1 for the first, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FrameNumber(pub u64);

impl FrameNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> FrameNumber {
        FrameNumber(self.0.saturating_add(1))
    }
}

impl fmt::Debug for FrameNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl fmt::Display for FrameNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The random id of a log, key of its checksums. It stays on the disk of its replica: who knows it can make bytes
/// that pass for frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogKey(pub [u8; 32]);

impl LogKey {
    /// A fresh key from the operating system's randomness.
    pub fn random() -> LogKey {
        LogKey(rand::random())
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(..)")
    }
}

/// The header of a frame whose header check is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub length: u32,
    pub number: FrameNumber,
    pub group: u64,
    pub previous: Digest,
    pub digest: Digest,
}

/// What the first bytes of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A header that this log wrote.
    Header(FrameHeader),
    /// A header that this log wrote in a version unknown here.
    UnknownVersion(u16),
    /// Anything else.
    Nothing,
}

impl FrameHeader {
    /// The header for `payload`, which is at most [`MAX_PAYLOAD_BYTES`] long.
    pub fn seal(key: &LogKey, number: FrameNumber, group: u64, previous: Digest, payload: &[u8]) -> FrameHeader {
        assert!(payload.len() <= MAX_PAYLOAD_BYTES, "checked by the caller");
        let mut header = FrameHeader { length: payload.len() as u32, number, group, previous, digest: Digest::ZERO };
        header.digest = header.digest_of(key, payload);
        header
    }

    /// Whether `payload` is what this header was made for.
    pub fn matches(&self, key: &LogKey, payload: &[u8]) -> bool {
        payload.len() == self.length as usize && self.digest_of(key, payload) == self.digest
    }

    /// The header's bytes.
    pub fn to_bytes(self, key: &LogKey) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..DIGESTED].copy_from_slice(&self.digested());
        bytes[DIGESTED..CHECKED].copy_from_slice(self.digest.as_bytes());
        let check = header_check(key, &bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&check);
        bytes
    }

    /// Reads a header; anything without a right check is [`Parsed::Nothing`].
    pub fn parse(key: &LogKey, block: &[u8]) -> Parsed {
        let Some((header, _)) = block.split_first_chunk::<HEADER_BYTES>() else { return Parsed::Nothing };
        if header[..2] != MAGIC || header[CHECKED..] != header_check(key, &header[..CHECKED]) {
            return Parsed::Nothing;
        }
        let version = u16::from_be_bytes(field(header, 2));
        if version != VERSION {
            return Parsed::UnknownVersion(version);
        }
        let length = u32::from_be_bytes(field(header, 4));
        if length as usize > MAX_PAYLOAD_BYTES {
            return Parsed::Nothing;
        }
        Parsed::Header(FrameHeader {
            length,
            number: FrameNumber(u64::from_be_bytes(field(header, 8))),
            group: u64::from_be_bytes(field(header, 16)),
            previous: Digest(field(header, 24)),
            digest: Digest(field(header, DIGESTED)),
        })
    }

    fn digested(&self) -> [u8; DIGESTED] {
        let mut bytes = [0; DIGESTED];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2..4].copy_from_slice(&VERSION.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.number.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.group.to_be_bytes());
        bytes[24..].copy_from_slice(self.previous.as_bytes());
        bytes
    }

    fn digest_of(&self, key: &LogKey, payload: &[u8]) -> Digest {
        Digest::of(Domain::Frame, &[&key.0, &self.digested(), payload])
    }
}

/// Lays a whole frame out in `buffer`, padded with zeros to a multiple of the block size.
pub(crate) fn fill_blocks(buffer: &mut Vec<u8>, key: &LogKey, header: &FrameHeader, payload: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&header.to_bytes(key));
    buffer.extend_from_slice(payload);
    buffer.resize(buffer.len().next_multiple_of(BLOCK_BYTES as usize), 0);
}

fn header_check(key: &LogKey, checked: &[u8]) -> [u8; HEADER_BYTES - CHECKED] {
    field(Digest::of(Domain::Frame, &[&key.0, b"header", checked]).as_bytes(), 0)
}

/// `N` bytes at `offset` of a longer array whose layout is fixed here.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[offset..offset + N]);
    out
}
