//! A change of one key: as it is stored and as it is watched, in complete revisions; and the pairs it is about.
//!
//! Stored bytes, integers big-endian. A pair, under its key:
//!
//! ```text
//! mod revision (8) | create revision (8) | version (8) | lease (8) | value
//! ```
//!
//! An event, under revision (8) and sub (4), where sub counts the events of a revision from 0:
//!
//! ```text
//! kind (1: 0 delete, 1 put) | key length (4) | key | the pair that it replaced, as above, or nothing
//! ```

use quorate_crypto::digest::{Digest, Domain};
use quorate_crypto::encoding::{Decode, Encode, encode};

/// Bytes of the key of a stored event.
pub(crate) const EVENT_KEY_BYTES: usize = 12;

/// A key with its value and its history (etcd `mvccpb.KeyValue`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value; empty if only keys were asked for.
    pub value: Vec<u8>,
    /// The revision in which the key was last created.
    pub create_revision: u64,
    /// The revision of the last change.
    pub mod_revision: u64,
    /// Puts since creation; 0 for a key that is deleted.
    pub version: u64,
    /// The attached lease; 0 is none.
    pub lease: u64,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted.
    Delete,
}

/// A change of one key (etcd `mvccpb.Event`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pair after a put; of a deletion only the key and the revision.
    pub kv: KeyValue,
    /// The pair before, if asked for and if there was one.
    pub prev_kv: Option<KeyValue>,
}

/// Whether the events of a list come with the pairs they replaced. A function of the revision, the compaction and the
/// events alone, never of what happens to be stored still, so that replicas answer alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PreviousValues {
    /// They were not asked for.
    NotRequested,
    /// They are given wherever there was one.
    Included,
    /// The revision before is compacted, so none is given.
    Compacted,
    /// They would exceed [`crate::limit::MAX_EVENT_LIST_BYTES`], so none is given.
    TooLarge,
}

/// All events of one revision in one range, in the order of their sub numbers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventList {
    /// The revision.
    pub revision: u64,
    /// Whether `prev_kv` is filled in.
    pub previous_values: PreviousValues,
    /// The events; at least one.
    pub events: Vec<Event>,
}

impl EventList {
    /// What replicas' answers are compared by: the digest of the revision and of everything in the list.
    pub fn digest(&self) -> Digest {
        Digest::of(Domain::Event, &[&self.revision.to_be_bytes(), &encode(self)])
    }
}

/// The events of consecutive revisions. No revision is ever given in part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventPage {
    /// Revisions with at least one event in the range, ascending.
    pub lists: Vec<EventList>,
    /// The first revision that is not covered: all below it, from the one asked for, are. Go on there.
    pub next_revision: u64,
    /// The newest revision of the store. There is nothing more yet if it is below `next_revision`.
    pub current_revision: u64,
}

/// The key of a stored event.
pub(crate) fn event_key(revision: u64, sub: u32) -> [u8; EVENT_KEY_BYTES] {
    let mut key = [0; EVENT_KEY_BYTES];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[8..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// Revision and sub of the key of a stored event. None if it is not one.
pub(crate) fn split_event_key(key: &[u8]) -> Option<(u64, u32)> {
    let (revision, sub) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*revision), u32::from_be_bytes(sub.try_into().ok()?)))
}

/// A stored pair without its key, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredPair<'a> {
    pub(crate) mod_revision: u64,
    pub(crate) create_revision: u64,
    pub(crate) version: u64,
    pub(crate) lease: u64,
    pub(crate) value: &'a [u8],
}

impl<'a> StoredPair<'a> {
    /// Stored bytes beside the value.
    pub(crate) const HEADER_BYTES: usize = 4 * 8;

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + self.value.len());
        for number in [self.mod_revision, self.create_revision, self.version, self.lease] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.value);
        bytes
    }

    /// None if the bytes are not a stored pair.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<StoredPair<'a>> {
        let (mod_revision, rest) = number(bytes)?;
        let (create_revision, rest) = number(rest)?;
        let (version, rest) = number(rest)?;
        let (lease, value) = number(rest)?;
        Some(StoredPair { mod_revision, create_revision, version, lease, value })
    }

    /// The pair with its key.
    pub(crate) fn under(self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: key.to_vec(),
            value: self.value.to_vec(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// A stored event, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredEvent<'a> {
    pub(crate) kind: EventKind,
    pub(crate) key: &'a [u8],
    /// The pair before; None if the key did not exist.
    pub(crate) previous: Option<StoredPair<'a>>,
}

impl<'a> StoredEvent<'a> {
    /// Stored bytes beside the key and the previous pair.
    pub(crate) const HEADER_BYTES: usize = 1 + 4;

    /// The stored bytes; `previous` is the stored pair before, or empty.
    pub(crate) fn bytes_of(kind: EventKind, key: &[u8], previous: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + key.len() + previous.len());
        bytes.push(u8::from(kind == EventKind::Put));
        bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(previous);
        bytes
    }

    /// None if the bytes are not a stored event.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<StoredEvent<'a>> {
        let (kind, rest) = bytes.split_first()?;
        let kind = match kind {
            0 => EventKind::Delete,
            1 => EventKind::Put,
            _ => return None,
        };
        let (key_length, rest) = rest.split_first_chunk::<4>()?;
        let (key, previous) = rest.split_at_checked(u32::from_be_bytes(*key_length) as usize)?;
        let previous = if previous.is_empty() { None } else { Some(StoredPair::parse(previous)?) };
        Some(StoredEvent { kind, key, previous })
    }
}

#[cfg(test)]
mod tests;
