//! What executing one decided batch gives.

use std::collections::BTreeMap;

use quorate_crypto::merkle_tree::{self, MerklePath};
use quorate_crypto::{Digest, PublicKey, Seq};

use crate::reply::Reply;

/// Bytes of results one key gets from one batch before its further requests are refused as
/// [`crate::reply::Refusal::BatchShareSpent`]: 4 MiB. The request that crosses the line is still answered, so a key costs
/// at most [`crate::reply::RESULTS_BYTES_MAX`] more.
pub const BATCH_RESULTS_PER_CLIENT: usize = 4 * 1024 * 1024;
/// Steps ([`crate::execution::Service::execute`]) of all operations of a request together, and of one key in one batch before
/// its further requests are refused: 16,384. So a key costs at most twice as many a batch.
pub const STEPS_MAX: u64 = 16_384;
/// Results of a request that are shorter are not counted against that; as many as fit a batch are no burden.
const COUNTED_RESULTS_FROM: usize = 4 * 1024;

/// The outcome of one decided batch: equal to the byte on every replica that executed the same batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchOutcome {
    /// The batch.
    pub seq: Seq,
    /// t(n), milliseconds.
    pub time: u64,
    /// One answer to each request, in the batch's order, with the client it goes to.
    pub replies: Vec<(PublicKey, Reply)>,
    /// Whether a replica's Rejoin executed: the lives that the state shows are others than before.
    pub rejoined: bool,
    /// How many requests executed now; the others were refused or executed in an earlier batch.
    pub executed: usize,
    /// [`Reply::leaf`] of every answer: what receipts are made of, 32 bytes a request.
    pub leaves: Vec<[u8; 32]>,
    /// The root over `leaves` ([`merkle_tree::root`]): what EXECUTED signs.
    pub results_root: Digest,
    /// The service's revision after the batch.
    pub revision: u64,
    /// Agreed time (ms) at which the service wants an empty batch at the latest, if any.
    pub next_deadline: Option<u64>,
}

impl BatchOutcome {
    /// Shows that the answer at `index` is under `results_root`: [`MerklePath::verify`] with the reply's leaf.
    pub fn path(&self, index: u32) -> Option<MerklePath> {
        merkle_tree::path(&self.leaves, index as usize)
    }
}

/// What each key has got from the batch so far.
#[derive(Default)]
pub(super) struct Shares(BTreeMap<PublicKey, Share>);

#[derive(Default)]
struct Share {
    bytes: usize,
    steps: u64,
}

impl Shares {
    pub(super) fn is_spent(&self, client: &PublicKey) -> bool {
        self.0.get(client).is_some_and(|share| share.bytes >= BATCH_RESULTS_PER_CLIENT || share.steps >= STEPS_MAX)
    }

    pub(super) fn add(&mut self, client: PublicKey, bytes: usize, steps: u64) {
        let bytes = if bytes >= COUNTED_RESULTS_FROM { bytes } else { 0 };
        if bytes > 0 || steps > 0 {
            let share = self.0.entry(client).or_default();
            share.bytes += bytes;
            share.steps += steps;
        }
    }
}
