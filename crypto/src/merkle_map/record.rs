//! A node's bytes on the wire and the digest over it.
//!
//! ```text
//! record  = prefix length u16 | prefix, two nibbles a byte | value kind u8 | value | present u16 | following u16 | stubs
//! value   = nothing (kind 0) | digest, 32 bytes (kind 1) | length u32, bytes (kind 2)
//! stubs   = the digest, 32 bytes, of each child whose bit is in `present` and not in `following`, ascending
//! subtree = record, then the subtree of each child in `following`, ascending
//! ```
//!
//! All numbers are big-endian. Bitmaps make unsorted or repeated children impossible; an odd prefix ends with a zero
//! half-byte. Chunks and proofs are both such subtrees, so that a proof over a range needs no other encoding.

use thiserror::Error;

use super::children::{nibbles_of, rank};
use super::node::{MAX_NIBBLES, value_digest};
use super::{MAX_VALUE, Value};
use crate::digest::{Digest, Domain, Hasher};

/// Bytes of a record besides prefix, value and stubs.
pub(super) const LARGEST_HEADER: usize = 2 + 1 + 4 + 2 + 2;

/// Why bytes are no canonical subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedRecord {
    /// The bytes end inside a record.
    #[error("the bytes end inside a node")]
    Truncated,
    /// A subtree is followed by more bytes.
    #[error("{0} bytes after the last node")]
    TrailingBytes(usize),
    /// Keys below would exceed [`super::MAX_KEY`].
    #[error("a node lies deeper than the longest key")]
    TooDeep,
    /// A value exceeds [`super::MAX_VALUE`].
    #[error("a value of {0} bytes")]
    ValueTooLong(usize),
    /// An unknown kind of value, a child in `following` that is not present, or a half-byte that is not zero.
    #[error("a field outside its range")]
    BadField,
    /// A node without a value and with fewer than two children.
    #[error("a node that should not exist")]
    NotCanonical,
    /// A value where no whole number of bytes ends.
    #[error("a value under half a byte")]
    ValueAtHalfByte,
}

/// The digest of a node: the packed prefix, the value's digest if any, the children's nibbles and digests, each
/// preceded by its length.
pub(super) fn node_digest(prefix: &[u8], value: Option<Digest>, present: u16, children: &[Digest]) -> Digest {
    let mut hasher = Hasher::new(Domain::MapNode);
    if prefix.len() <= 64 {
        let mut packed = [0; 34];
        packed[..2].copy_from_slice(&(prefix.len() as u16).to_be_bytes());
        for (place, pair) in packed[2..].iter_mut().zip(prefix.chunks(2)) {
            *place = pack(pair);
        }
        hasher.part(&packed[..2 + prefix.len().div_ceil(2)]);
    } else {
        let mut packed = Vec::with_capacity(2 + prefix.len().div_ceil(2));
        write_prefix(&mut packed, prefix);
        hasher.part(&packed);
    }
    match value {
        Some(digest) => hasher.part(digest.as_bytes()),
        None => hasher.part(&[]),
    }
    let mut list = [0; 2 + 16 * 32];
    list[..2].copy_from_slice(&present.to_be_bytes());
    for (place, digest) in list[2..].chunks_exact_mut(32).zip(children) {
        place.copy_from_slice(digest.as_bytes());
    }
    hasher.part(&list[..2 + 32 * children.len()]);
    hasher.finish()
}

fn pack(pair: &[u8]) -> u8 {
    pair[0] << 4 | pair.get(1).copied().unwrap_or(0)
}

fn write_prefix(out: &mut Vec<u8>, prefix: &[u8]) {
    out.extend_from_slice(&(prefix.len() as u16).to_be_bytes());
    out.extend(prefix.chunks(2).map(pack));
}

/// A node's value as a record carries it.
#[derive(Clone, Copy)]
pub(super) enum RecordValue<'a> {
    None,
    Digest(Digest),
    Bytes(&'a [u8]),
}

/// Appends one record; `stubs` are the digests of the children that do not follow, ascending.
pub(super) fn write_record(
    out: &mut Vec<u8>,
    prefix: &[u8],
    value: RecordValue<'_>,
    present: u16,
    following: u16,
    stubs: impl Iterator<Item = Digest>,
) {
    write_prefix(out, prefix);
    match value {
        RecordValue::None => out.push(0),
        RecordValue::Digest(digest) => {
            out.push(1);
            out.extend_from_slice(digest.as_bytes());
        }
        RecordValue::Bytes(bytes) => {
            out.push(2);
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(&present.to_be_bytes());
    out.extend_from_slice(&following.to_be_bytes());
    for stub in stubs {
        out.extend_from_slice(stub.as_bytes());
    }
}

/// One record as read.
pub(super) struct Record<'a> {
    pub(super) prefix: Vec<u8>,
    pub(super) value: RecordValue<'a>,
    pub(super) present: u16,
    pub(super) following: u16,
    /// The digests of all children, ascending; zero for those that follow until they are known.
    pub(super) children: Vec<Digest>,
    /// The record this one is a child of, by its index among those read, and the nibble that leads here.
    pub(super) parent: Option<(usize, u8)>,
    /// Length of the path to the end of the prefix, in nibbles.
    depth: usize,
}

impl Record<'_> {
    pub(super) fn value_digest(&self) -> Option<Digest> {
        match self.value {
            RecordValue::None => None,
            RecordValue::Digest(digest) => Some(digest),
            RecordValue::Bytes(bytes) => Some(value_digest(bytes)),
        }
    }

    pub(super) fn stored_value(&self) -> Option<Value> {
        match self.value {
            RecordValue::Bytes(bytes) => Some(bytes.into()),
            _ => None,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedRecord> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MalformedRecord::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedRecord> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MalformedRecord::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, MalformedRecord> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn prefix(&mut self, room: usize) -> Result<Vec<u8>, MalformedRecord> {
        let length = usize::from(self.u16()?);
        if length > room {
            return Err(MalformedRecord::TooDeep);
        }
        let packed = self.take(length.div_ceil(2))?;
        let mut prefix: Vec<u8> = packed.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).collect();
        if prefix.len() > length && prefix.pop() != Some(0) {
            return Err(MalformedRecord::BadField);
        }
        Ok(prefix)
    }

    fn value(&mut self) -> Result<RecordValue<'a>, MalformedRecord> {
        match self.array::<1>()? {
            [0] => Ok(RecordValue::None),
            [1] => Ok(RecordValue::Digest(Digest(self.array()?))),
            [2] => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                if length > MAX_VALUE {
                    return Err(MalformedRecord::ValueTooLong(length));
                }
                Ok(RecordValue::Bytes(self.take(length)?))
            }
            _ => Err(MalformedRecord::BadField),
        }
    }

    /// Reads a record `above` nibbles down.
    fn record(&mut self, above: usize, parent: Option<(usize, u8)>) -> Result<Record<'a>, MalformedRecord> {
        let prefix = self.prefix(MAX_NIBBLES.checked_sub(above).ok_or(MalformedRecord::TooDeep)?)?;
        let depth = above + prefix.len();
        let value = self.value()?;
        let (present, following) = (self.u16()?, self.u16()?);
        let has_value = !matches!(value, RecordValue::None);
        if following & !present != 0 {
            return Err(MalformedRecord::BadField);
        }
        if !has_value && present.count_ones() < 2 {
            return Err(MalformedRecord::NotCanonical);
        }
        if has_value && !depth.is_multiple_of(2) {
            return Err(MalformedRecord::ValueAtHalfByte);
        }
        if present != 0 && depth >= MAX_NIBBLES {
            return Err(MalformedRecord::TooDeep);
        }
        let mut children = Vec::with_capacity(present.count_ones() as usize);
        for nibble in nibbles_of(present) {
            let follows = following >> nibble & 1 == 1;
            children.push(if follows { Digest::ZERO } else { Digest(self.array()?) });
        }
        Ok(Record { prefix, value, present, following, children, parent, depth })
    }
}

/// Reads a whole subtree that begins `above` nibbles down. Memory is bounded by the input's length: a record takes at
/// least seven bytes.
pub(super) fn read_subtree(bytes: &[u8], above: usize) -> Result<Vec<Record<'_>>, MalformedRecord> {
    let mut reader = Reader(bytes);
    let mut records = vec![reader.record(above, None)?];
    // Records of which children are still to come, and the bits of those children.
    let mut open = vec![(0, records[0].following)];
    while let Some((index, rest)) = open.last_mut() {
        if *rest == 0 {
            open.pop();
            continue;
        }
        let (index, nibble) = (*index, rest.trailing_zeros() as u8);
        *rest &= *rest - 1;
        let record = reader.record(records[index].depth + 1, Some((index, nibble)))?;
        open.push((records.len(), record.following));
        records.push(record);
    }
    if !reader.0.is_empty() {
        return Err(MalformedRecord::TrailingBytes(reader.0.len()));
    }
    Ok(records)
}

/// Takes the digests of all records, filling in those of children that follow; returns one for each record.
pub(super) fn digests(records: &mut [Record<'_>]) -> Vec<Digest> {
    let mut digests = vec![Digest::ZERO; records.len()];
    // Children stand after their parents, so that backwards every child is done before its parent.
    for index in (0..records.len()).rev() {
        let record = &records[index];
        let digest = node_digest(&record.prefix, record.value_digest(), record.present, &record.children);
        digests[index] = digest;
        if let Some((parent, nibble)) = record.parent {
            let parent = &mut records[parent];
            let place = rank(parent.present, nibble);
            parent.children[place] = digest;
        }
    }
    digests
}
