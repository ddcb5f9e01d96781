//! The payload of a snapshot frame: entries one after the other.
//!
//! ```text
//! put      1, table u8, key length u32, value length u32, key, value
//! remove   2, table u8, key length u32, key
//! commit   3, the rest of the payload: `Commit` in the project's encoding
//! ```
//!
//! Integers are big-endian.

use quorate_crypto::encoding::{decode, encode};

use super::{Commit, MAX_HEADER_BYTES, MAX_TABLES};

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const COMMIT: u8 = 3;

/// The longest encoding of a commit entry: its header, a digest for each table, and the fixed fields.
const MAX_COMMIT_BYTES: usize = MAX_HEADER_BYTES + 32 * MAX_TABLES + 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Put { table: u8, key: &'a [u8], value: &'a [u8] },
    Remove { table: u8, key: &'a [u8] },
    Commit(Commit),
}

/// The bytes that [`put`] adds.
pub(super) fn put_bytes(key: &[u8], value: &[u8]) -> u64 {
    (2 + 4 + 4 + key.len() + value.len()) as u64
}

/// The bytes that [`remove`] adds.
pub(super) fn remove_bytes(key: &[u8]) -> u64 {
    (2 + 4 + key.len()) as u64
}

pub(super) fn put(payload: &mut Vec<u8>, table: u8, key: &[u8], value: &[u8]) {
    payload.extend_from_slice(&[PUT, table]);
    payload.extend_from_slice(&(key.len() as u32).to_be_bytes());
    payload.extend_from_slice(&(value.len() as u32).to_be_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(value);
}

pub(super) fn remove(payload: &mut Vec<u8>, table: u8, key: &[u8]) {
    payload.extend_from_slice(&[REMOVE, table]);
    payload.extend_from_slice(&(key.len() as u32).to_be_bytes());
    payload.extend_from_slice(key);
}

pub(super) fn commit(payload: &mut Vec<u8>, commit: &Commit) {
    payload.push(COMMIT);
    payload.extend_from_slice(&encode(commit));
}

/// The entries of a payload, up to the first malformed one.
pub(super) fn parse(payload: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, &'static str>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = parse_one(&mut rest);
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or("an entry is malformed"))
    })
}

/// The commit entry at the end of a payload, if there is one.
pub(super) fn commit_of(payload: &[u8]) -> Result<Option<Commit>, &'static str> {
    for entry in parse(payload) {
        if let Entry::Commit(commit) = entry? {
            return Ok(Some(commit));
        }
    }
    Ok(None)
}

fn parse_one<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    match take(rest, 1)?[0] {
        PUT => {
            let table = take(rest, 1)?[0];
            let key_length = length(rest)?;
            let value_length = length(rest)?;
            Some(Entry::Put { table, key: take(rest, key_length)?, value: take(rest, value_length)? })
        }
        REMOVE => {
            let table = take(rest, 1)?[0];
            let key_length = length(rest)?;
            Some(Entry::Remove { table, key: take(rest, key_length)? })
        }
        COMMIT => {
            let commit = decode::<Commit>(rest, MAX_COMMIT_BYTES).ok()?;
            *rest = &[];
            Some(Entry::Commit(commit))
        }
        _ => None,
    }
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes) as usize)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}
