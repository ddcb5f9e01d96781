//! The order-preserving key of the history: a user key, made prefix-free, then a revision and a sub, so that the
//! events that touched a key lie together in order, and keys lie in the order of their bytes.
//!
//! Keys may hold any byte, so the end of a key must sort below every byte that could continue it. Zero bytes mark it: a
//! run of zeros is written as one zero and a code for its length, which sorts by what follows the run. A code below
//! 127 says that the key ends after so many zeros; `255 - n` says that a byte other than zero follows n of
//! them; 127 itself stands for 127 zeros with another run, possibly of none, behind. Doubling every
//! zero would be simpler and make a key of 4 KiB twice as long; this adds at most half ([`MAX_HISTORY_KEY_BYTES`]).

use crate::limit::MAX_KEY_BYTES;

/// Zeros that one code stands for when the run goes on; sorts above every end and below every other continuation.
const LONG_RUN: u8 = 127;

/// Bytes of the revision and the sub at the end of a history key.
const EVENT_BYTES: usize = 8 + 4;

/// Longest history key: a key of alternating zeros and other bytes, an end, a revision, a sub.
pub const MAX_HISTORY_KEY_BYTES: usize = MAX_KEY_BYTES + MAX_KEY_BYTES / 2 + 2 + EVENT_BYTES;

/// The prefix that all places of `key`, and no others, have in the history. `a < b` as keys iff so as prefixes, and no
/// prefix starts another.
pub fn prefix(key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(key.len() + 2 + EVENT_BYTES);
    let mut rest = key;
    loop {
        let plain = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        encoded.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let mut zeros = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
        rest = &rest[zeros..];
        while zeros >= usize::from(LONG_RUN) {
            encoded.extend_from_slice(&[0, LONG_RUN]);
            zeros -= usize::from(LONG_RUN);
        }
        let zeros = zeros as u8;
        if rest.is_empty() {
            encoded.extend_from_slice(&[0, zeros]);
            return encoded;
        }
        encoded.extend_from_slice(&[0, 255 - zeros]);
    }
}

/// The place of the event `revision`.`sub` under a key's [`prefix()`].
pub fn place(prefix: &[u8], revision: u64, sub: u32) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(prefix.len() + EVENT_BYTES);
    encoded.extend_from_slice(prefix);
    encoded.extend_from_slice(&revision.to_be_bytes());
    encoded.extend_from_slice(&sub.to_be_bytes());
    encoded
}

/// Divides a history key into the key's prefix, the revision and the sub. None if it is too short.
pub fn split(history_key: &[u8]) -> Option<(&[u8], u64, u32)> {
    let (rest, sub) = history_key.split_last_chunk::<4>()?;
    let (prefix, revision) = rest.split_last_chunk::<8>()?;
    Some((prefix, u64::from_be_bytes(*revision), u32::from_be_bytes(*sub)))
}

/// The key of a [`prefix()`]. None if it is not one.
pub fn key(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(prefix.len());
    let mut rest = prefix;
    loop {
        let plain = rest.iter().position(|byte| *byte == 0)?;
        decoded.extend_from_slice(&rest[..plain]);
        let code = *rest.get(plain + 1)?;
        rest = &rest[plain + 2..];
        let zeros = if code <= LONG_RUN { code } else { 255 - code };
        decoded.resize(decoded.len() + usize::from(zeros), 0);
        if code < LONG_RUN {
            return rest.is_empty().then_some(decoded);
        }
    }
}

#[cfg(test)]
mod tests;
