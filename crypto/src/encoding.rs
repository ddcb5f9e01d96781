//! Every byte on wire and disk that is not a signed statement: bincode 2.0.1, fixed-width big-endian integers, behind
//! this small API so that a change of codec is a change of one file (docs/decisions.md).
//!
//! A hard cap is checked before any allocation and trailing bytes are refused (rule X3).

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
pub use bincode::{Decode, Encode};
use thiserror::Error;

use crate::mutant::{Mutant, alive};

/// No value may claim more memory than this while it is decoded, whatever limit the caller gives: 16 MiB.
pub const DECODE_CEILING: usize = 16 * 1024 * 1024;

const CONFIGURATION: Configuration<BigEndian, Fixint, Limit<DECODE_CEILING>> =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<DECODE_CEILING>();

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than the caller's cap; nothing was allocated.
    #[error("{length} bytes exceed the limit of {limit}")]
    TooLong {
        /// Length of the input in bytes.
        length: usize,
        /// The cap in bytes.
        limit: usize,
    },
    /// Not an encoding of the expected type.
    #[error("malformed encoding: {0}")]
    Malformed(String),
    /// A valid encoding followed by more bytes.
    #[error("{0} bytes after the end of the value")]
    TrailingBytes(usize),
}

/// Encodes `value`. Encoding into memory cannot fail for the types of this project: they hold no types that bincode
/// refuses (no `RefCell`, no lock, no `SystemTime`).
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let configuration = bincode::config::standard().with_big_endian().with_fixed_int_encoding();
    bincode::encode_to_vec(value, configuration).unwrap_or_else(|error| unreachable!("encoding into memory: {error}"))
}

/// Decodes all of `bytes`, of which there may be at most `limit`.
pub fn decode<T: Decode<()>>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit && !alive(Mutant::CapUnchecked) {
        return Err(DecodeError::TooLong { length: bytes.len(), limit });
    }
    let (value, used) = bincode::decode_from_slice::<T, _>(bytes, CONFIGURATION)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if used != bytes.len() && !alive(Mutant::TrailingBytes) {
        return Err(DecodeError::TrailingBytes(bytes.len() - used));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
