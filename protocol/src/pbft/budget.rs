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
