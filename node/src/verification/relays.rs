//! What peers have relayed and waits to be verified, each peer's in a queue of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quorate_crypto::ReplicaId;
use quorate_protocol::request::Request;

/// Relayed requests of one peer verified in one pass: a few milliseconds for all peers together.
pub(super) const RELAYED_PER_PASS: usize = 64;

/// A frame of relayed requests, as far as they are not verified yet. What a peer may have waiting is bounded by the permits
/// of its frames.
pub(super) struct Relay<P> {
    pub(super) requests: VecDeque<Request>,
    /// The place of the first of them in the frame.
    pub(super) first: usize,
    pub(super) frame: Bytes,
    pub(super) permit: Arc<P>,
}

/// What each peer has relayed and waits to be verified.
pub(super) type Relays<P> = BTreeMap<ReplicaId, VecDeque<Relay<P>>>;

/// Takes the next few requests of each peer, each part of one frame.
pub(super) fn take_turns<P>(relays: &mut Relays<P>) -> Vec<(ReplicaId, Relay<P>)> {
    let mut taken = Vec::new();
    for (from, waiting) in relays.iter_mut() {
        let mut left = RELAYED_PER_PASS;
        while left > 0
            && let Some(relay) = waiting.front_mut()
        {
            let count = left.min(relay.requests.len());
            let part = Relay {
                requests: relay.requests.drain(..count).collect(),
                first: relay.first,
                frame: relay.frame.clone(),
                permit: Arc::clone(&relay.permit),
            };
            taken.push((*from, part));
            relay.first += count;
            left -= count;
            if relay.requests.is_empty() {
                waiting.pop_front();
            }
        }
    }
    relays.retain(|_, waiting| !waiting.is_empty());
    taken
}
