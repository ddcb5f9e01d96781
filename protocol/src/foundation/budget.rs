//! What answering one peer may cost in a short time.

use crate::parameters::Micros;

/// Bytes of state served to one peer a refill; the last answer may go beyond. More than a fetcher takes in, that checks
/// each chunk before it asks for the next.
const CHUNK_BUDGET: usize = 4 * 1024 * 1024;
/// What an answer costs at least: the question was looked at.
const CHUNK_LEAST: usize = 16 * 1024;
/// The budget is refilled this often.
const CHUNK_REFILL: Micros = 10_000;

/// The budget of one peer for parts of states. A question of sixty bytes has a quarter of a megabyte built and encoded,
/// whether or not there is room for it on the link.
#[derive(Debug, Default)]
pub struct ChunkBudget {
    left: usize,
    refilled: Option<Micros>,
}

impl ChunkBudget {
    /// Whether one more question is answered.
    pub fn allows(&mut self, now: Micros) -> bool {
        if self.refilled.is_none_or(|refilled| now >= refilled.saturating_add(CHUNK_REFILL)) {
            self.refilled = Some(now);
            self.left = CHUNK_BUDGET;
        }
        self.left > 0
    }

    /// Counts an answer of `bytes`.
    pub const fn charge(&mut self, bytes: usize) {
        let bytes = if bytes < CHUNK_LEAST { CHUNK_LEAST } else { bytes };
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Bytes of answers to fetches per peer and refill; the last answer may go beyond.
const BULK_BUDGET: usize = 1024 * 1024;
/// What an answer costs at least: the question was looked at.
const BULK_LEAST: usize = 32 * 1024;
/// The budget is refilled this often.
const BULK_REFILL: Micros = 10_000;

/// The budget of one peer for all else that it fetches.
#[derive(Debug, Default)]
pub struct BulkBudget {
    left: usize,
    refilled: Micros,
}

impl BulkBudget {
    /// Whether one more question is answered; it is charged the least that an answer costs.
    pub fn allows(&mut self, now: Micros) -> bool {
        if now >= self.refilled + BULK_REFILL || self.refilled == 0 {
            self.refilled = now.max(1);
            self.left = BULK_BUDGET;
        }
        if self.left == 0 {
            return false;
        }
        self.left = self.left.saturating_sub(BULK_LEAST);
        true
    }

    /// Counts the bytes of an answer as well.
    pub const fn charge(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}
