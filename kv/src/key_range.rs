//! etcd's way to name keys: a key and a range end.

use quorate_crypto::encoding::{Decode, Encode};

/// A single key or an interval of keys, as in etcd's API (etcd v3 `RangeRequest.range_end`):
///
/// - an empty `range_end` names the one key `key`;
/// - the one byte `\0` names every key greater than or equal to `key`;
/// - anything else names the keys in `[key, range_end)`, none if `range_end <= key`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyRange {
    /// The key, or the first key of the interval. Never empty: every key is at least `\0`.
    pub key: Vec<u8>,
    /// See above.
    pub range_end: Vec<u8>,
}

/// The `range_end` that means "no upper bound".
pub const FROM_KEY: &[u8] = b"\0";

impl KeyRange {
    /// One key.
    pub fn single(key: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange { key: key.into(), range_end: Vec::new() }
    }

    /// The keys in `[key, range_end)`.
    pub fn interval(key: impl Into<Vec<u8>>, range_end: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange { key: key.into(), range_end: range_end.into() }
    }

    /// Every key from `key` on.
    pub fn from_key(key: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange { key: key.into(), range_end: FROM_KEY.to_vec() }
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::from_key(FROM_KEY)
    }

    /// Every key that starts with `prefix`; every key for an empty prefix.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> KeyRange {
        let key: Vec<u8> = prefix.into();
        if key.is_empty() {
            return KeyRange::all();
        }
        match key.iter().rposition(|byte| *byte != 0xff) {
            Some(last) => {
                let mut range_end = key[..=last].to_vec();
                range_end[last] += 1;
                KeyRange { key, range_end }
            }
            None => KeyRange::from_key(key),
        }
    }

    /// Whether this names exactly one key.
    pub fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Whether `key` is named.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= self.key.as_slice() && self.upper().is_none_or(|upper| key < upper)
    }

    /// The exclusive upper bound of an interval; None if it has none. Meaningless for a single key.
    pub(crate) fn upper(&self) -> Option<&[u8]> {
        (self.range_end != FROM_KEY).then_some(self.range_end.as_slice())
    }
}

#[cfg(test)]
mod tests;
