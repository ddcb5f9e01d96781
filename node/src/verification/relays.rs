//! What peers have relayed and waits to be verified: up to thousands of requests a frame, a few at a time, each peer in its
//! turn.
//!
//! A frame waits as it came, and is decoded when its turn is there: decoded requests take as much room again, and a replica
//! that was away for some seconds finds thousands of them. What a peer may have waiting is bounded by the permits of its
//! frames.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quorate_crypto::ReplicaId;
use quorate_crypto::encoding::{decode, encode};
use quorate_protocol::message::{Message, REQUESTS_MAX};
use quorate_protocol::request::Request;

/// Relayed requests of one peer verified in one pass: a few milliseconds for all peers together.
pub(super) const RELAYED_PER_PASS: usize = 64;

/// The bytes that name the kind of a message.
const KIND_BYTES: usize = 4;

/// A frame, as far as its requests are not verified yet.
struct Relay<P> {
    frame: Bytes,
    permit: Arc<P>,
    /// What is left of it, once its turn has come.
    requests: Option<std::vec::IntoIter<Request>>,
    /// The place of the first of them in the frame.
    first: usize,
}

/// A few requests of one frame.
pub(super) struct Part<P> {
    pub(super) from: ReplicaId,
    pub(super) requests: Vec<Request>,
    /// The place of the first of them in the frame.
    pub(super) first: usize,
    pub(super) frame: Bytes,
    pub(super) permit: Arc<P>,
}

/// What each peer has relayed.
pub(super) struct Relays<P> {
    waiting: BTreeMap<ReplicaId, VecDeque<Relay<P>>>,
    kind: Vec<u8>,
    frame_bytes_max: usize,
}

impl<P> Relays<P> {
    /// Nothing waits. Frames of more than `frame_bytes_max` bytes are refused.
    pub(super) fn new(frame_bytes_max: usize) -> Relays<P> {
        let kind = encode(&Message::Requests(Vec::new()))[..KIND_BYTES].to_vec();
        Relays { waiting: BTreeMap::new(), kind, frame_bytes_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a frame is one of requests, or begins like one.
    pub(super) fn takes(&self, frame: &[u8]) -> bool {
        frame.starts_with(&self.kind)
    }

    /// A frame waits for its turn.
    pub(super) fn push(&mut self, from: ReplicaId, frame: Bytes, permit: P) {
        let relay = Relay { frame, permit: Arc::new(permit), requests: None, first: 0 };
        self.waiting.entry(from).or_default().push_back(relay);
    }

    /// Drops what `gone` says of its peer.
    pub(super) fn forget(&mut self, gone: impl Fn(ReplicaId) -> bool) {
        self.waiting.retain(|from, _| !gone(*from));
    }

    /// Takes the next few requests of each peer, each part of one frame. A frame that is not what it should be is dropped
    /// with its peer and the reason put to `refused`.
    pub(super) fn take_turns(&mut self, refused: &mut Vec<(ReplicaId, String)>) -> Vec<Part<P>> {
        let mut taken = Vec::new();
        for (from, waiting) in &mut self.waiting {
            let mut left = RELAYED_PER_PASS;
            while left > 0
                && let Some(relay) = waiting.front_mut()
            {
                let requests = match &mut relay.requests {
                    Some(requests) => requests,
                    closed => match open(&relay.frame, self.frame_bytes_max) {
                        Ok(requests) => closed.insert(requests.into_iter()),
                        Err(reason) => {
                            // One that sends nothing else must not have all of it decoded in one pass.
                            left = left.saturating_sub(RELAYED_PER_PASS / 4);
                            refused.push((*from, reason));
                            waiting.pop_front();
                            continue;
                        }
                    },
                };
                let part: Vec<Request> = requests.by_ref().take(left).collect();
                let is_done = requests.as_slice().is_empty();
                // A frame without a request takes a place as well: there may be many.
                left -= part.len().max(1);
                let (first, count) = (relay.first, part.len());
                relay.first += count;
                if count > 0 {
                    let (frame, permit) = (relay.frame.clone(), Arc::clone(&relay.permit));
                    taken.push(Part { from: *from, requests: part, first, frame, permit });
                }
                if is_done {
                    waiting.pop_front();
                }
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        taken
    }
}

/// The requests of a frame.
fn open(frame: &[u8], bytes_max: usize) -> Result<Vec<Request>, String> {
    match decode::<Message>(frame, bytes_max) {
        Ok(Message::Requests(requests)) if requests.len() <= REQUESTS_MAX => Ok(requests),
        Ok(_) => Err("more requests in one message than allowed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
